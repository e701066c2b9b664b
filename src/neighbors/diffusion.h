/** diffusion.h - M^t Z in self mode: step by step, or through eigenvectors.
 *
 *  iterative: Z <- M Z, t times; only the rows of Z that a block of M touches are exchanged.
 *  spectral:  for symmetric K with row sums D: T = D^-1/2 K D^-1/2 = W L W^T, U = D^-1/2 W, and
 *             M^t Z = U L^t (U^T (D Z))  (the degree factor is missing in CellMapper's form),
 *             with the n_eigenvectors largest |L| by block Krylov-Rayleigh-Ritz iteration, or all of them by ScaLAPACK
 *             when they are at least a third of the rows (dense, over all ranks). */
#ifndef FERRY_DIFFUSION_H
#define FERRY_DIFFUSION_H
#include "transfer.h"
FERRY_BEGIN
typedef enum ferry_diffusion { FERRY_ITERATIVE = 0, FERRY_SPECTRAL } ferry_diffusion;
typedef struct ferry_diffusion_options {
    ferry_diffusion method;
    int steps;            /* t >= 1 */
    int64_t eigenvectors; /* 50; 0: all */
    uint64_t seed;
    int64_t memory;
} ferry_diffusion_options;
/** Collective. values [rows here][width] of all cells, dealt by contiguous rows first; in place Z <- M^t Z.
 *  residual (may be NULL): spectral: largest residual norm of the eigenpairs used; FERRY_E_ARG when K is not symmetric
 *  (the weights say). */
FERRY_API ferry_status ferry_diffuse(double *values, double *residual, ferry_weights *weights, const ferry_world *world,
                                     const int64_t *first, int64_t width, const ferry_diffusion_options *options);
/** Local. Bytes per rank: rows of all ranks, without the values themselves. */
FERRY_API int64_t ferry_diffusion_bytes(int64_t rows, int64_t width, int ranks, const ferry_diffusion_options *options);

/** The eigenvectors, for more than one set of values. */
typedef struct ferry_spectrum {
    int64_t count;   /* eigenpairs */
    double *value;   /* [count] by |value|, the largest first */
    double next;     /* |value| of the largest that was left out (0: none was). For Z of cells x 1 with the norm
                        |Z|_D^2 = sum_i d_i Z_i^2, what is left out of M^t Z is at most next^t |Z|_D in that norm. */
    double residual; /* largest |T w - value w| of the pairs, measured */
    bool complete;   /* dense, by ScaLAPACK: beyond FERRY_DENSE_ALONE cells the last bits depend on the ranks; else they
                        do not */
    struct ferry_spectrum_store *store;
} ferry_spectrum;
/** Collective. options: eigenvectors, seed, memory. FERRY_E_ARG when K is not symmetric. The weights are not needed
 *  after it. Close with ferry_spectrum_close. */
FERRY_API ferry_status ferry_spectrum_open(ferry_spectrum *out, ferry_weights *weights, const ferry_world *world,
                                           const ferry_diffusion_options *options);
FERRY_API void ferry_spectrum_close(ferry_spectrum *spectrum);
/** Collective. values as for ferry_diffuse; FERRY_E_ARG with NaN or infinity, which would be everywhere. */
FERRY_API ferry_status ferry_spectrum_apply(double *values, const ferry_spectrum *spectrum, const ferry_world *world,
                                            const int64_t *first, int64_t width, int steps);
FERRY_END
#endif

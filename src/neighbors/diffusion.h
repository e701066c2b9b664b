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
FERRY_API int64_t ferry_diffusion_bytes(int64_t rows, int64_t width, int ranks, const ferry_diffusion_options *options);
FERRY_END
#endif

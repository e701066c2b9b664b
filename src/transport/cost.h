/** cost.h - the cost between source and target cells. Evaluated in tiles, never stored as n x m. */
#ifndef FERRY_COST_H
#define FERRY_COST_H
#include "mpi/grid.h"
#include "mpi/reduce.h"
#include "kernels/kernels.h"
FERRY_BEGIN
/** C_ij of rows x_i, y_j, as OTT-JAX 0.6.0 defines them. */
typedef enum ferry_cost_kind {
    FERRY_COST_SQ_EUCLIDEAN = 0, /* |x|^2 + |y|^2 - 2 <x, y> */
    FERRY_COST_EUCLIDEAN,        /* |x - y|_2 */
    FERRY_COST_COSINE,           /* 1 - <x, y> / (|x| |y| + 1e-8) */
    FERRY_COST_PNORM,            /* sum |x - y|^p / p */
    FERRY_COST_SQ_PNORM,         /* |x - y|_p^2 / 2 */
    FERRY_COST_EUCLIDEAN_P,      /* |x - y|_2^p */
    FERRY_COST_DOT,              /* -<x, y> */
    FERRY_COST_ARCCOS,           /* -log((|x||y|)^n J_n(t) / pi + 1e-8), n = 0, 1, 2 */
    FERRY_COST_SPEARMAN,         /* 1 - rho of average ranks; rho = 0 for a constant row */
    FERRY_COST_CORRELATION       /* 1 - Pearson's r; r = 0 for a constant row */
} ferry_cost_kind;
typedef enum ferry_scale {
    FERRY_SCALE_NUMBER = 0, /* C / number */
    FERRY_SCALE_MEAN,       /* C / mean(C): closed form for squared Euclidean and dot, else one pass */
    FERRY_SCALE_MEDIAN,     /* C / median(C), exact (mean of the two middle values), by distributed selection */
    FERRY_SCALE_MAX_COST,   /* C / max |C|: one pass */
    FERRY_SCALE_MAX_NORM,   /* C / max squared norm: squared Euclidean and dot only */
    FERRY_SCALE_MAX_BOUND   /* an upper bound of max C: squared Euclidean and dot only */
} ferry_scale;
typedef enum ferry_epsilon_of {
    FERRY_EPSILON_ABSOLUTE = 0,
    FERRY_EPSILON_OF_MEAN,
    FERRY_EPSILON_OF_STD
} ferry_epsilon_of;

typedef struct ferry_cost_options {
    ferry_cost_kind kind;
    double p; /* of pnorm, sq_pnorm, euclidean_p; order of arccos */
    ferry_scale scale;
    double scale_number;          /* divisor of FERRY_SCALE_NUMBER; must be positive */
    ferry_precision precision;    /* of the pairs; sums and potentials are always float64 */
    const ferry_kernels *kernels; /* NULL: the best */
    ferry_reduction reduction;
    int threads; /* OpenMP threads of this rank; 0: 1 */
    int panels;  /* panels of source rows that a thread evaluates together, for speed alone; 0: as many as pay */
} ferry_cost_options;
#define FERRY_COST_DEFAULTS                                                                                            \
    {                                                                                                                  \
        FERRY_COST_SQ_EUCLIDEAN, 2, FERRY_SCALE_MEAN, 1, FERRY_FLOAT, NULL, FERRY_REDUCE_TREE, 0, 0                    \
    }

/** Local. "sq_euclidean", "pnorm:1.5", ... -> kind and p; FERRY_E_ARG names the nearest right one. */
FERRY_API ferry_status ferry_cost_parse(ferry_cost_options *out, const char *text);
/** Local. "mean", "max_cost", "2.5", ... */
FERRY_API ferry_status ferry_scale_parse(ferry_cost_options *out, const char *text);
/** Local. The text that ferry_cost_parse takes. Returns text. */
FERRY_API const char *ferry_cost_text(char text[32], const ferry_cost_options *options);

/** The target side packed once per node, what the source side needs to be packed, and the scale. Opaque. */
typedef struct ferry_cost ferry_cost;

/** Collective over grid->world. x: this rank's source rows (grid->source_rows); y: the target rows this rank brings
 *  (grid->bring_rows); both are only read during the call. Non-finite values, widths that differ, and a mean cost of
 * zero (all cells alike) that has to divide are errors (FERRY_E_FILE, FERRY_E_ARG). grid and kernels are borrowed until
 * close. */
FERRY_API ferry_status ferry_cost_open(ferry_cost **out, const ferry_grid *grid, const ferry_matrix *x,
                                       const ferry_matrix *y, const ferry_cost_options *options);
/** Collective. For a later stage that streams its source rows (sparsify): no source side, and the scale as a solve
 * found it; statistics are not computed. The centre is that of the target side again, so tiles have the same bits. */
FERRY_API ferry_status ferry_cost_open_target(ferry_cost **out, const ferry_grid *grid, const ferry_matrix *y,
                                              const ferry_cost_options *options, double inv_scale);
/** Collective (frees the shared window). */
FERRY_API void ferry_cost_close(ferry_cost **cost);

/** Local. C as used = inv_scale * C. */
FERRY_API double ferry_cost_inv_scale(const ferry_cost *cost);
/** Collective. Mean and standard deviation of the scaled cost, unweighted; one pass over the pairs where no closed form
 *  is known (remembered). */
FERRY_API ferry_status ferry_cost_statistics(double *mean, double *std, ferry_cost *cost);
/** Collective. Epsilon in units of the scaled cost: value, value * mean, value * std. */
FERRY_API ferry_status ferry_cost_epsilon(double *epsilon, ferry_cost *cost, ferry_epsilon_of of, double value);
/** Local. Bytes per rank of ferry_cost_open with these sizes: source side, its share of the target side (with `sharing`
 *  ranks on the node in this grid column). */
FERRY_API int64_t ferry_cost_bytes(const ferry_cost_options *options, int dim, int64_t source_rows, int64_t target_rows,
                                   int sharing);
FERRY_END
#endif

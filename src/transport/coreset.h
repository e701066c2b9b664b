/** coreset.h - transport between more cells than all pairs can be gone through for: a few cells of each side, with the
 *  mass that each stands for, are solved; their potentials are extended to all cells.
 *
 *  Cells are drawn at random, at least some of every group of near cells (k-means), and weigh as much as their group
 *  does. With S cells a side the solve takes S^2 pairs a pass, the extension S (n + m) pairs, once. */
#ifndef FERRY_CORESET_H
#define FERRY_CORESET_H
#include "sinkhorn.h"
FERRY_BEGIN
/** FULL: one pass over all pairs, which also moves f to exact row marginals; the errors, cost and bounds are those of
 * any solve. SAMPLE: `sample` rows and columns of the plan against all cells of the other side; figures are estimates,
 * no pair of bounds, and `converged` is false because nothing is certain. */
typedef enum ferry_certify { FERRY_CERTIFY_FULL = 0, FERRY_CERTIFY_SAMPLE = 1 } ferry_certify;
typedef struct ferry_coreset_options {
    int64_t cells; /* of each side; 0: ferry_coreset_cells. More than a side has: all of it */
    ferry_certify certify;
    int64_t sample; /* rows and columns for estimates */
    uint64_t seed;
} ferry_coreset_options;
#define FERRY_CORESET_DEFAULTS                                                                                         \
    {                                                                                                                  \
        0, FERRY_CERTIFY_FULL, 2000, 0                                                                                 \
    }
/** Local. Cells drawn of a side that has so many, by default: a twentieth, at least 20,000 and at most 50,000. */
FERRY_API int64_t ferry_coreset_cells(int64_t rows);
/** Collective. As ferry_transport, by a coreset: out->iterations are those of its solve, out->passes those over all
 *  pairs (1, or 0 for SAMPLE), out->errors the one error of the answer. Momentum and initial potentials are
 *  FERRY_E_ARG: the first because nothing is iterated on all cells, the others because the coreset gives them. An error
 *  that is too large comes down with ferry_transport from these f and g. The same for any number of ranks. */
FERRY_API ferry_status ferry_transport_coarse(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                                              const ferry_transport_options *options,
                                              const ferry_coreset_options *coreset);
/** Local. Bytes per rank of ferry_transport_coarse beside the cost, without the pass over all pairs. */
FERRY_API int64_t ferry_coreset_bytes(const ferry_cost_options *cost, int dim, const ferry_coreset_options *coreset,
                                      int64_t sources, int64_t targets, int64_t source_rows, int64_t target_rows,
                                      int grid_rows, int grid_cols);
FERRY_END
#endif

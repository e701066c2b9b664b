/** passes_impl.h - going once over the plan by source rows, without holding the source side: sparsify, push, pull and
 *  transition are bodies of this loop.
 *
 *  Pass p covers the source cells [p * batch * Pr, (p + 1) * batch * Pr); grid row r has the r-th `batch` of them. So
 * the rows of a pass are consecutive in rank order, and passes follow one another, as ferry_sink wants. */
#ifndef FERRY_PASSES_IMPL_H
#define FERRY_PASSES_IMPL_H
#include "cost_impl.h"
#include "plan.h"
FERRY_BEGIN
/** The target side of an opened plan, ready for passes that stream the source side: grid, cost, prepared potentials. */
typedef struct ferry_passes {
    ferry_plan *plan;
    ferry_grid grid;
    ferry_cost *cost;
    ferry_target target;
    int64_t batch;  /* source rows per rank and pass, a multiple of 24 */
    int64_t passes; /* the same on all ranks */
    uint64_t seen;  /* fingerprint of the source rows seen so far on this rank */
} ferry_passes;
/** One pass's rows of this rank: kept source cells first ... first + rows - 1. With more than one grid column the ranks
 * of a grid row have the same rows and different columns. */
typedef struct ferry_pass {
    int64_t first, rows;
    ferry_source source; /* packed */
    double *f;           /* [panels * 24], -inf past the end */
} ferry_pass;
/** Collective. Reads the target side into the shared copy and checks its fingerprint. plan, world and kernels are
 * borrowed. batch 0: chosen so that source rows and panels stay within `memory` bytes (0: 256 MiB); rounded up to 24
 * rows. */
FERRY_API ferry_status ferry_passes_open(ferry_passes *out, ferry_plan *plan, const ferry_world *world, int grid_rows,
                                         int grid_cols, int64_t batch, int64_t memory);
FERRY_API void ferry_passes_close(ferry_passes *passes);
/** Collective. Rows of pass `number` (0 ... passes - 1), read from the file; ranks past the end get 0 rows. */
FERRY_API ferry_status ferry_pass_open(ferry_pass *out, ferry_passes *passes, int64_t number);
FERRY_API void ferry_pass_close(ferry_pass *pass);
/** Collective, after the last pass: the source side is what the plan was solved from, or FERRY_E_FILE. */
FERRY_API ferry_status ferry_passes_check(ferry_passes *passes);
FERRY_END
#endif

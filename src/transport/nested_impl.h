/** nested_impl.h - where many cells begin: at the potentials of a few (not installed). */
#ifndef FERRY_NESTED_IMPL_H
#define FERRY_NESTED_IMPL_H
#include "sinkhorn_impl.h"
FERRY_BEGIN
/** Local. How many of each side; 0 where there are not cells enough on both sides for it to be cheap. */
FERRY_API int64_t ferry_nested_cells(int64_t sources, int64_t targets);
/** Collective. s->f, s->g at s->epsilon, s->tau_a, s->tau_b from the solve of a coreset of about `cells` a side. */
FERRY_API ferry_status ferry_nested_start(ferry_sinkhorn *s, int64_t cells);
/** Local. Bytes per rank of it beside the cost, in a solve of such sizes; 0 where it does not pay. */
int64_t ferry_nested_bytes(const ferry_cost_options *cost, int dim, int64_t sources, int64_t targets,
                           int64_t source_rows, int64_t target_rows, int grid_rows, int grid_cols);
FERRY_END
#endif

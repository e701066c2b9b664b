/** apply.h - push and pull: the plan times vectors, without the plan.
 *  push: out = P^T v, source to target; pull: out = P v, target to source. Signed values are fine. */
#ifndef FERRY_APPLY_H
#define FERRY_APPLY_H
#include "plan.h"
FERRY_BEGIN
typedef struct ferry_apply_options {
    bool pull;
    bool normalize;          /* divide each column of v by its sum first */
    bool scale_by_marginals; /* divide v by the plan's own marginal of the side pushed from, + 1e-12, first */
    int64_t batch, memory;   /* as in sparsify; memory also bounds the columns done in one pass */
    int grid_rows, grid_cols;
} ferry_apply_options;
#define FERRY_APPLY_DEFAULTS                                                                                           \
    {                                                                                                                  \
        false, false, false, 0, 0, 0, 1                                                                                \
    }
/** Where columns of v come from: values of kept cells first ... first + count - 1 of the side pushed from, columns
 *  column ... column + columns - 1, into out [count, columns]. Collective; any range per rank. */
typedef struct ferry_values {
    int64_t columns;
    ferry_status (*read)(void *self, float *out, int64_t first, int64_t count, int64_t column, int64_t columns);
    void *self;
} ferry_values;
/** Collective. For each run of columns that fits in memory one pass over the plan (a pull with scale_by_marginals: one
 *  more before); give(self, first, count, column, columns, out [count, columns]) is Collective and gets this rank's
 * rows of the other side: after each batch (pull; on a grid with several columns all rows of a grid row from its first
 * rank), or after the pass (push). A column whose sum is 0 stays 0 under normalize. normalize comes before
 *  scale_by_marginals. */
FERRY_API ferry_status ferry_apply(ferry_plan *plan, const ferry_world *world, const ferry_apply_options *options,
                                   const ferry_values *values,
                                   ferry_status (*give)(void *self, int64_t first, int64_t count, int64_t column,
                                                        int64_t columns, const double *out),
                                   void *give_self);
FERRY_END
#endif

/** sinkhorn_pass_impl.h - what passes over one grid column and over several have in common (not installed). */
#ifndef FERRY_SINKHORN_PASS_IMPL_H
#define FERRY_SINKHORN_PASS_IMPL_H
#include "groups_impl.h"
#include "sinkhorn_impl.h"
FERRY_BEGIN
/** Local. Not a sum that a logarithm can be taken of: 0, infinity or NaN. */
bool ferry_bad_sum(double sum);
/** Local. References of rows without a usable sum go down to where their largest exponent is 0; all [24]. */
void ferry_lower(double *reference, const double *sums, const double *max, double epsilon);
/** Local. What an evaluated panel adds: its columns, times q, to c (NULL: nowhere), and to s its entropy and its mass
 *  between groups, if the pass wants them. */
void ferry_take_columns(double *c, ferry_sinkhorn *s, ferry_panel *panel, int64_t index, const double *q, int thread);
/** Local. Panels of a canonical source block, counted from this rank's first. */
void ferry_block_panels(int64_t *first, int64_t *end, const ferry_grid *grid, int block);
/** Local. Row sums of the plan become f, r and q: `finish` of an iteration. */
ferry_again ferry_finish_plan(double *q, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel *panel,
                              int64_t index, double *reference, const double *sums, int round);
/** Local. A finished vector becomes the leaf of a block; by one thread at a time. */
ferry_status ferry_plant(ferry_forest *forest, const double *values, int64_t width, int block);
/** Local. Panels of a batch: from the whole problem alone, so that all ranks of a grid row agree. */
int ferry_batch_panels(const ferry_cost_options *options, int dim, int64_t targets, int grid_cols, int64_t panels);
/** Local. Batches alive at once: one computed while the sums of the other travel. */
int ferry_batch_slots(int batch, int64_t panels);
/** Collective over the grid row: all its ranks have the same rows, so the same batches. Column sums into the forest. */
ferry_status ferry_pass_batches(ferry_sinkhorn *s, const ferry_row_work *work);
FERRY_END
#endif

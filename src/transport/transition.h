/** transition.h - how much mass goes from each source group to each target group (moscot's cell_transition). */
#ifndef FERRY_TRANSITION_H
#define FERRY_TRANSITION_H
#include "plan.h"
FERRY_BEGIN
typedef struct ferry_transition_options {
    bool backward; /* per target group (columns sum to 1) instead of per source group (rows sum to 1) */
    bool cells;    /* one row per source cell (forward) or one column per target cell (backward) instead of groups */
    bool normalize;
    int64_t batch, memory;
    int grid_rows, grid_cols;
} ferry_transition_options;
#define FERRY_TRANSITION_DEFAULTS                                                                                      \
    {                                                                                                                  \
        false, false, true, 0, 0, 0, 1                                                                                 \
    }
/** Collective. Groups x groups: table [source groups, target groups] on every rank, in category order; cells without a
 *  label are left out, and so are categories that no cell has which takes part. table is freed with free(). Raw:
 * forward sum of P over the pair of groups / cells of the source group, backward / cells of the target group;
 * normalize: then each row (forward) or column (backward) divided by its sum (0 stays 0). */
FERRY_API ferry_status ferry_transition(double **table, ferry_names *source_groups, ferry_names *target_groups,
                                        ferry_plan *plan, const ferry_world *world, const char *source_key,
                                        const char *target_key, const ferry_transition_options *options);
/** Collective. Cells x groups of the other side (its obs column key): give, Collective, gets this rank's cells (source
 *  cells forward, in ascending order; target cells backward). normalize: each cell's row divided by its sum. Memory
 *  grows with the groups: all columns are done at once. */
FERRY_API ferry_status ferry_transition_cells(ferry_names *groups, ferry_plan *plan, const ferry_world *world,
                                              const char *key, const ferry_transition_options *options,
                                              ferry_status (*give)(void *self, int64_t first, int64_t count,
                                                                   int64_t groups, const double *rows),
                                              void *give_self);
FERRY_END
#endif

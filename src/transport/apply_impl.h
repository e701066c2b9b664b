/** apply_impl.h - push and pull for transition (not installed). */
#ifndef FERRY_APPLY_IMPL_H
#define FERRY_APPLY_IMPL_H
#include "apply.h"
FERRY_BEGIN
/** Collective. ferry_apply; whole: all columns in one run whatever memory says, so that give sees whole rows. Rows of a
 *  pull come in ascending order, those of a grid row all from its first rank (the others give none). */
FERRY_API ferry_status ferry_apply_runs(ferry_plan *plan, const ferry_world *world, const ferry_apply_options *options,
                                        const ferry_values *values, bool whole,
                                        ferry_status (*give)(void *self, int64_t first, int64_t count, int64_t column,
                                                             int64_t columns, const double *out),
                                        void *give_self);
FERRY_END
#endif

/** cost_scale_impl.h - between cost_open.c and cost_scale.c. */
#ifndef FERRY_COST_SCALE_IMPL_H
#define FERRY_COST_SCALE_IMPL_H
#include "cost_impl.h"
FERRY_BEGIN
/** Collective. inv_scale as options.scale says. */
ferry_status ferry_cost_set_scale(ferry_cost *cost);
/** Local. Bytes of the counters of an exact median. */
int64_t ferry_median_bytes(const ferry_cost_options *options);
FERRY_END
#endif

/** regroup_impl.h - a transport problem with its cells in the order of their groups (not installed). */
#ifndef FERRY_REGROUP_IMPL_H
#define FERRY_REGROUP_IMPL_H
#include "groups_impl.h"
#include "sinkhorn.h"
FERRY_BEGIN
typedef struct ferry_regrouped {
    ferry_groups groups;             /* with the cost in that order */
    ferry_transport_options options; /* with f and g in that order */
    double *a, *b, *f, *g;           /* in that order; f, g: given ones */
    double *work;
} ferry_regrouped;
/** Collective. cost and o are borrowed until close, which is due also after a failure. */
ferry_status ferry_regrouped_open(ferry_regrouped *r, const ferry_cost *cost, const double *a, const double *b,
                                  const ferry_transport_options *o);
/** Collective. A zeroed one is fine. */
void ferry_regrouped_close(ferry_regrouped *r);
/** Collective. The potentials of an answer back in the caller's order. */
ferry_status ferry_regrouped_restore(ferry_potentials *out, ferry_regrouped *r);
/** Local. Bytes per rank beside those of the groups. */
int64_t ferry_regrouped_bytes(int64_t source_rows, int64_t target_rows);
FERRY_END
#endif

/** regroup_impl.h - a transport problem with its cells in the order of their groups (not installed). */
#ifndef FERRY_REGROUP_IMPL_H
#define FERRY_REGROUP_IMPL_H
#include "groups_impl.h"
#include "sinkhorn.h"
FERRY_BEGIN
typedef struct ferry_regrouped {
    ferry_groups groups;             /* with the cost in that order */
    ferry_transport_options options; /* with g in that order */
    double *b, *g, *work;
} ferry_regrouped;
/** Collective. cost, b and o are borrowed until close; close also after a failure. */
ferry_status ferry_regrouped_open(ferry_regrouped *r, ferry_cost *cost, const double *b,
                                  const ferry_transport_options *o);
/** Collective. A zeroed one is fine. */
void ferry_regrouped_close(ferry_regrouped *r);
/** Collective. The potentials of an answer back in the caller's order. */
ferry_status ferry_regrouped_restore(ferry_potentials *out, ferry_regrouped *r);
FERRY_END
#endif

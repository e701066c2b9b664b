/** coarse_impl.h - the transport problem between groups: start potentials, and the balance of aggregated mass (not
 *  installed). */
#ifndef FERRY_COARSE_IMPL_H
#define FERRY_COARSE_IMPL_H
#include "groups_impl.h"
#include "sinkhorn_impl.h"
FERRY_BEGIN
/** A K x K problem: mass q [count][count] at present, moving targets a and b [count] at present, exponents of the
 *  penalties. */
typedef struct ferry_balance {
    int count;
    double *q, *a, *b;
    double tau_a, tau_b;
    double *factor; /* [count][count] of the last Newton step, for problems that change little; or NULL */
    bool factored;
} ferry_balance;
/** Local. v [count] (nats): what to add to the column potentials of each group so that, rows following, the groups'
 *  masses are balanced; steps until the gradient's L1 norm is below tolerance * sum b. Overwrites q, a, b. */
ferry_status ferry_balance_solve(double *v, ferry_balance *problem, double tolerance);

/** Collective. Start potentials s->f, s->g of a solve whose cost is groups->cost: the problem between the groups'
 * means, extended to all cells. */
FERRY_API ferry_status ferry_coarse_start(ferry_sinkhorn *s, const ferry_groups *groups);
FERRY_END
#endif

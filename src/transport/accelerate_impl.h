/** accelerate_impl.h - the accelerated loop (not installed). */
#ifndef FERRY_ACCELERATE_IMPL_H
#define FERRY_ACCELERATE_IMPL_H
#include "groups_impl.h"
#include "sinkhorn_impl.h"
FERRY_BEGIN
#define FERRY_ACCELERATE_FROM 400 /* cells on either side: below, plain passes cost less than the set-up */

/** Local. The accelerated loop serves this problem: large enough, and no momentum asked for. */
bool ferry_accelerable(const ferry_cost *cost, const ferry_transport_options *options);
/** Local. How many groups: more for a smaller epsilon. */
int ferry_accelerate_groups(const ferry_cost *cost, double epsilon);
/** Local. The same for a side of `least` cells and a mean cost. */
int ferry_accelerate_groups_of(int64_t least, double epsilon, double mean);
/** Local. The most for any epsilon; least: cells of the smaller side. */
int ferry_accelerate_most_groups(int64_t least);
/** Collective. Iterations until the error is below the threshold; s: a solve whose cost is groups->cost. Leaves f, g,
 * c, r, the errors and what follows from them. */
ferry_status ferry_sinkhorn_accelerate(ferry_potentials *out, ferry_sinkhorn *s, const ferry_groups *groups);
/** Local. Bytes of it, without what is kept of a plan. */
int64_t ferry_accelerate_bytes(int groups, int threads, int64_t source_rows, int64_t target_rows);
/** Local. The mean of the scaled cost where it is known without a pass; infinite otherwise. */
double ferry_mean_cost(const ferry_cost *cost);
FERRY_END
#endif

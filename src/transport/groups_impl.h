/** groups_impl.h - cells of both sides in groups of near cells, and both sides in the order of their groups (not
 *  installed).
 *
 *  The new order is one of the whole problem: by group, then as before; groups are numbered so that neighbours in
 * number are near each other. So the plan's mass is gathered in few tiles. Canonical blocks and shards are cut from the
 * new order as from any other: what was block b of the caller's cells is now block b of the ordered ones.
 *
 *  Q [source group][target group] = the plan's mass, wanted after every pass: a row's sums over runs of target units
 *  (cost_impl.h) are known from its evaluation, and are counted under its group. Most runs lie in one group; a unit
 * that holds several is a run of its own and is summed part by part. Masses are added as integers (ferry_exact), so
 * that no order of additions needs to be kept. */
#ifndef FERRY_GROUPS_IMPL_H
#define FERRY_GROUPS_IMPL_H
#include "cost_impl.h"
#include "math/cluster.h"
#include <math.h>
#include <string.h>
FERRY_BEGIN
/** One side of the problem in a new order. */
typedef struct ferry_order {
    const ferry_grid *grid;
    const ferry_world *world; /* the ranks along which the side is cut, */
    const int64_t *first;     /* [ranks + 1] where the cells of each begin, */
    int64_t here;             /* and how many this one has */
    int64_t *old;             /* [here] number (in the problem) of the cell at each new place */
    int64_t *place;           /* [here, order of the caller] new place (in the problem) of each cell */
} ferry_order;
/** Collective over the grid. out [here]: values, given in the caller's order, in the new one; and back. */
FERRY_API ferry_status ferry_order_take(double *out, const ferry_order *order, const double *values);
FERRY_API ferry_status ferry_order_restore(double *out, const ferry_order *order, const double *values);

typedef struct ferry_groups {
    ferry_cost cost;     /* the cost given, with both sides in the new order: borrows all but y..., source, run */
    ferry_window window; /* what its y... point to */
    ferry_clusters clusters;
    int count;      /* groups, of both sides */
    double largest; /* coordinate of any cell, by absolute value; 1 when all are 0 */
    ferry_order source, target;
    int32_t *group;        /* [sources here, new order] */
    int32_t *target_group; /* [targets here, new order] */
    int32_t *run_part;     /* [runs + 1] first part of each run of cost */
    int32_t *part_group;   /* [parts] */
    float *part_mask;      /* [parts][32] 1 in the lanes of the part; meant for runs of several parts */
} ferry_groups;

/** Collective. At most `most` groups by k-means of a sample drawn by `seed`. cost is borrowed until close. The same for
 *  every layout. */
FERRY_API ferry_status ferry_groups_open(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed);
/** Collective. The centres alone (clusters, count) into a zeroed out. */
FERRY_API ferry_status ferry_groups_centres(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed);
/** Local. label [count] = groups of source rows, or target rows, first ... of this rank. */
FERRY_API ferry_status ferry_groups_label(int32_t *label, ferry_groups *groups, const ferry_cost *cost, bool target,
                                          int64_t first, int64_t count);
/** Collective (frees the shared window). A zeroed one is fine. */
FERRY_API void ferry_groups_close(ferry_groups *groups);
/** Local. Bytes per rank of `count` groups; a rank alone on its node. */
int64_t ferry_groups_bytes(const ferry_cost_options *options, int dim, int count, int64_t sources, int64_t targets,
                           int64_t source_rows, int64_t target_rows);

/** Collective. Between groups.c and groups_order.c: both sides of out->cost in the order of labels of all cells, source
 *  [n] and target [m] in the caller's order, with groups, orders and runs. */
ferry_status ferry_groups_put(ferry_groups *out, const ferry_cost *cost, const int32_t *source, const int32_t *target);
/** Local. Bytes of it. */
int64_t ferry_groups_put_bytes(const ferry_cost_options *options, int dim, int count, int64_t source_rows,
                               int64_t target_rows);

/** Local. A prepared source row or target row (in the new order where cost is a groups' cost), [dim]. */
FERRY_API void ferry_source_row(double *out, const ferry_cost *cost, int64_t i);
FERRY_API void ferry_target_row(double *out, const ferry_cost *cost, int64_t j);

/** Local. value >= 0 or any value in units, rounded to a whole number: sums of such numbers do not depend on the order
 * of additions. */
static inline int64_t ferry_exact(double value, double per_unit)
{
    const double scaled = value * per_unit;
    return scaled < 0x1p61 ? scaled > -0x1p61 ? (int64_t)(scaled + (scaled < 0 ? -0.5 : 0.5)) : -((int64_t)1 << 61)
                           : (int64_t)1 << 61;
}
/** Local. The same for at least -2^51 and at most 2^51 units (more are cut to that), without branches: what is added
 * to 1.5 2^52 stands in the low bits of the sum. */
static inline int64_t ferry_exact_part(double value, double per_unit)
{
    const double base = 0x1.8p52, scaled = value * per_unit, sum = (scaled < 0x1p51 ? scaled : 0x1p51) + base;
    int64_t bits, base_bits;
    memcpy(&bits, &sum, sizeof bits);
    memcpy(&base_bits, &base, sizeof base_bits);
    return bits - base_bits;
}
/** Local. Units for numbers that add up to about `total`: 2^50 of them, so that sums may be 2^12 times larger. */
static inline double ferry_exact_units(double total)
{
    int exponent;
    frexp(total, &exponent);
    return total > 0 && isfinite(total) ? ldexp(1, 50 - exponent) : 1;
}
FERRY_END
#endif

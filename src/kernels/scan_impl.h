/* scan_impl.h - the search tables that a build may hold, and the arithmetic they share, in float64 (not installed).
 *
 * Margins. With u = 2^-24 and n = dim a float32 score sigma, whose sum starts at beta and takes n fused steps, is wrong
 * by at most (n + 1) u (|q||x| + |x|^2 / 2) to first order, so s = |q|^2 - 2 sigma by
 *     (n + 1) u (2 |q||x| + |x|^2) + u |q|^2 + u s,     |x| <= |q| + D, D = |q - x|,
 * and rounding rows when they were centred moves D^2 by 2 u D (|q| + |x|), once for the row and once for what is said
 * about it. In all this is below (n + 6) u (3 |q| + D)^2. E takes n + 8 and D = sqrt(s_k): what is left, and the factor
 * 1 + 4 (n + 8) u, cover the difference between D and sqrt(s_k) and terms of second order; the last term of E stands
 * for products too small for float32. Row x with s(x) > s_k + 2 E is further than the k rows with s <= s_k: D^2 - E(D)
 * grows with D. */
#ifndef FERRY_SCAN_IMPL_H
#define FERRY_SCAN_IMPL_H
#include "kernels_impl.h"
#include "scan.h"
#include <math.h>
#define ROOM        FERRY_CANDIDATE_ROOM
#define LEAST       (-0x1.fffffep127f) /* compared with instead of -inf, so that columns past the end never pass */
#define EARLY       12                 /* rows beyond k that give the first threshold */
#define GAP_MARGIN  (1 + 2e-6f)        /* of ferry_visits */
#define BALL_MARGIN (1 + 6e-6f)

extern const ferry_scans ferry_scans_generic, ferry_scans_avx2, ferry_scans_avx512;

/* (dim + 8) u and the smallest thing that float32 loses in as many products */
static inline double scan_unit(int dim)
{
    const double unit = (dim + 8) * 0x1p-24;
    return unit * (1 + 4 * unit);
}
static inline double scan_tiny(int dim)
{
    return (dim + 8) * 0x1p-147;
}
/* The error of a squared distance near d2 of a query with |q|^2 = norm2. */
static inline double scan_error(int dim, double norm2, double d2)
{
    const double size = 3 * sqrt(norm2) + sqrt(d2);
    return scan_unit(dim) * size * size + scan_tiny(dim);
}
/* float32 not below d, d >= 0, and not above it */
static inline float round_up(double d)
{
    const float f = (float)d;
    return f + f * 0x1p-23f + 0x1p-149f;
}
static inline float round_down(double d)
{
    const float f = (float)d;
    return f - (f < 0 ? -f : f) * 0x1p-23f - 0x1p-149f;
}

/* threshold and radius of a query whose k-th smallest s is kth; returns the largest s that stays, rounded up. What was
   proved before stays true, so neither ever gets worse. */
static inline float set_bounds(ferry_candidates *c, int query, float kth)
{
    const double norm2 = (double)c->norm2[query], error = scan_error(c->dim, norm2, (double)kth);
    const double limit = (double)kth + 2 * error;
    const float radius = round_up(sqrt((double)kth + error)), threshold = round_down((norm2 - limit) / 2);
    if (radius < c->radius[query]) c->radius[query] = radius;
    if (threshold > c->threshold[query]) c->threshold[query] = threshold;
    return round_up(limit);
}
/* after a unit: the room may not hold another, or there are enough for a first threshold */
static inline bool wants_settling(const ferry_candidates *c, int query)
{
    const int count = c->count[query];
    return count > ROOM - COLUMNS || (count >= c->k + EARLY && !(c->threshold[query] >= LEAST));
}
/* count rows have stayed */
static inline void resolve_ties(ferry_candidates *c, int query, int count)
{
    c->count[query] = count;
    if (count <= FERRY_CANDIDATE_MOST) return;
    c->resolved++;
    c->resolve(c->self, c, query);
}

/* What `visit` compares for one query, the same for every list. */
typedef struct visit_bounds {
    float norm2, norm, own, reach;
    float unit; /* (dim + 8) u, rounded up */
    float tiny;
    float error; /* E_i */
} visit_bounds;
static inline visit_bounds visit_bounds_of(int dim, float norm2, float own, float reach)
{
    visit_bounds b = {.norm2 = norm2, .own = own, .unit = round_up(scan_unit(dim)), .tiny = (float)scan_tiny(dim)};
    const double d2 = (double)norm2 - 2 * (double)own;
    b.norm = round_up(sqrt((double)norm2));
    b.error = round_up(scan_error(dim, (double)norm2, d2 > 0 ? d2 : 0));
    b.reach = reach < -LEAST ? reach : -LEAST; /* infinity times a gap of 0 is no number */
    return b;
}
#endif

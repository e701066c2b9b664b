/** result_impl.h - between sinkhorn_result.c, sinkhorn_bounds.c and sinkhorn_independence.c (not installed). */
#ifndef FERRY_RESULT_IMPL_H
#define FERRY_RESULT_IMPL_H
#include "sinkhorn_impl.h"
FERRY_BEGIN
/** Some numbers of source row or target column i, which has weight; self as given. */
typedef void (*ferry_terms)(double *out, const ferry_sinkhorn *s, const void *self, int64_t i);
#define FERRY_MOST_TERMS 32
/** Collective. totals [count] = their sums over the side, in one reduction; the same for every layout. */
ferry_status ferry_add_rows(double *totals, int count, ferry_sinkhorn *s, const void *self, ferry_terms of);
ferry_status ferry_add_columns(double *totals, int count, ferry_sinkhorn *s, const void *self, ferry_terms of);
/** Local. One weight's part of the dual: weight h where tau is 1, otherwise -rho weight (exp(-h / rho) - 1). */
double ferry_dual_part(double weight, double h, double tau, double rho);
/** Collective. lower_bound, upper_bound, dual_gap of out, from f, g, c and r of a pass whose rows are exact where tau_a
 *  is 1; transport_cost and mass of out are known. Counts a pass where costs are not bilinear. */
ferry_status ferry_sinkhorn_bounds(ferry_potentials *out, ferry_sinkhorn *s);
/** Collective. out->independence, from s->c and s->r. */
ferry_status ferry_sinkhorn_independence(ferry_potentials *out, ferry_sinkhorn *s);
FERRY_END
#endif

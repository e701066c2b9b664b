/** result_impl.h - between sinkhorn_result.c, sinkhorn_bounds.c and sinkhorn_independence.c (not installed). */
#ifndef FERRY_RESULT_IMPL_H
#define FERRY_RESULT_IMPL_H
#include "sinkhorn_impl.h"
FERRY_BEGIN
/** term(i) of source rows with weight, or target columns; self as given. */
typedef double (*ferry_term)(const ferry_sinkhorn *s, const void *self, int64_t i);
/** Collective. *total += sum of them. */
ferry_status ferry_add_rows(double *total, ferry_sinkhorn *s, const void *self, ferry_term of);
ferry_status ferry_add_columns(double *total, ferry_sinkhorn *s, const void *self, ferry_term of);
/** Local. One weight's part of the dual: weight h where tau is 1, otherwise -rho weight (exp(-h / rho) - 1). */
double ferry_dual_part(double weight, double h, double tau, double rho);
/** Collective. lower_bound, upper_bound, dual_gap of out, from f, g, c and r of a pass whose rows are exact where tau_a
 *  is 1; transport_cost and mass of out are known. Counts a pass where costs are not bilinear. */
ferry_status ferry_sinkhorn_bounds(ferry_potentials *out, ferry_sinkhorn *s);
/** Collective. out->independence, from s->c and s->r. */
ferry_status ferry_sinkhorn_independence(ferry_potentials *out, ferry_sinkhorn *s);
FERRY_END
#endif

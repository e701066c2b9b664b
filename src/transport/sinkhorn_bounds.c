/* The optimum between two bounds, without another pass over the pairs.
 *
 * Problem: min <P,C> + eps sum P (log P - 1) + rho_a KL(P1|a) + rho_b KL(P'1|b), a marginal being met exactly where its
 * tau is 1; KL(p|q) = sum p log(p/q) - p + q. The last pass left P = exp((f + g - C) / eps), its row sums r (equal to a
 * where tau_a = 1) and column sums c. For any plan of that form <P,C> + eps sum P log P = <r, f> + <c, g>.
 *
 * Below: the dual D(f, g') = D_a(f) + D_b(g') - eps sum c', g' the plain update of g by c, c' = c exp((g' - g) / eps)
 * its column sums; D_a = <a, f> if tau_a = 1, otherwise -rho_a sum a (exp(-f / rho_a) - 1). Both taus below 1: at the
 * best constant. Above, tau_b < 1: P itself is allowed; both taus below 1: t P, with the best t. Above, tau_b = 1:
 * columns are cut to min(b, c), which takes u = max(c - b, 0) away, and e = max(b - c, 0) is put elsewhere. From row i
 * the cut takes d_i = sum_j (u_j / c_j) P_ij, which would need another pass; but 0 <= d_i <= v r_i, v = max u_j / c_j,
 * and sum d = sum u, and what depends on d is at most linear in it: sum d_i w_i. So sum d w <= tau sum u + v sum r
 * max(w - tau, 0)     for every tau (the best one is looked for). tau_a = 1: put back as d e' / s, s = sum e: linear
 * cost sum_i d_i phi_i, phi_i = sum_j C_ij e_j / s, so w_i = phi_i - f_i. Entropy of the sum by Jensen's inequality:
 * that of both parts + s log(M / s), M = sum a; sum d log d <= s log(v max r). tau_a < 1: put back as r e' / sum r.
 * Rows have (1 + k) r - d, k = s / sum r; their penalty is convex in d, so at most the chord between d = 0 and d = v r:
 * w_i = rho_a slope_i - f_i, which vanishes at the solution. */
#include "result_impl.h"
#include <math.h>

#define ROUNDS      3     /* in search of tau, each among */
#define AMONG       16    /* values at once */
#define ALLOW       1e-6  /* of cost, value and entropy, for rounding of float pairs */
#define ALLOW_SMALL 1e-12 /* of double pairs */

typedef struct bounds {
    double *w;                                 /* [rows] what a unit of mass taken from the row costs */
    double *g;                                 /* [columns] the updated g */
    double *e;                                 /* [columns] what columns lack */
    double most;                               /* v */
    double taken;                              /* sum u */
    double lack;                               /* sum e */
    double row_mass, column_mass, largest_row; /* sum r, sum b, max r */
    double row_entropy, lack_entropy;          /* sum r log r, sum e log e */
    double more;                               /* k */
    double shift, low, step;
} bounds;

static ferry_status open_bounds(bounds *k, const ferry_sinkhorn *s)
{
    FERRY_TRY(ferry_alloc(&k->w, s->rows));
    FERRY_TRY(ferry_alloc(&k->g, s->columns));
    return ferry_alloc(&k->e, s->columns);
}
static void close_bounds(bounds *k)
{
    free(k->w);
    free(k->g);
    free(k->e);
}

static double p_log_p(double p)
{
    return p > 0 ? p * log(p) : 0;
}
/* p log(p / q) - p + q, q > 0 */
static double divergence(double p, double q)
{
    return (p > 0 ? p * log(p / q) : 0) - p + q;
}

/* --- below --- */

/* a column that float has lost keeps its g */
static double updated_g(const ferry_sinkhorn *s, int64_t j)
{
    if (!(s->b[j] > 0)) return -INFINITY;
    const bool usable = s->c[j] >= s->b[j] * 0x1p-90 && s->c[j] < INFINITY;
    return usable ? s->tau_b * (s->epsilon * log(s->b[j] / s->c[j]) + s->g[j]) : s->g[j];
}
static void dual_rows(double *out, const ferry_sinkhorn *s, const void *self, int64_t i)
{
    const bounds *k = self;
    *out = ferry_dual_part(s->a[i], s->f[i] + k->shift, s->tau_a, s->rho_a);
}
static void dual_columns(double *out, const ferry_sinkhorn *s, const void *self, int64_t j)
{
    const bounds *k = self;
    *out = ferry_dual_part(s->b[j], k->g[j] - k->shift, s->tau_b, s->rho_b) -
           (s->c[j] > 0 ? s->epsilon * s->c[j] * exp((k->g[j] - s->g[j]) / s->epsilon) : 0);
}
/* Collective. */
static ferry_status find_lower(double *lower, bounds *k, ferry_sinkhorn *s)
{
    double least_f, least_g, rows, columns;
    for (int64_t j = 0; j < s->targets; j++) k->g[j] = updated_g(s, j);
    if (s->tau_a < 1 && s->tau_b < 1) {
        FERRY_TRY(ferry_sinkhorn_soft_min(&least_f, s, s->f, false));
        FERRY_TRY(ferry_sinkhorn_soft_min(&least_g, s, k->g, true));
        k->shift = s->rho_a * s->rho_b / (s->rho_a + s->rho_b) * (least_g / s->rho_b - least_f / s->rho_a);
    }
    FERRY_TRY(ferry_add_rows(&rows, 1, s, k, dual_rows));
    FERRY_TRY(ferry_add_columns(&columns, 1, s, k, dual_columns));
    *lower = rows + columns;
    return FERRY_OK;
}

/* --- above, columns penalised --- */

enum { PRODUCT, MASS, LOG, ENTROPY, SUMS };
static void row_sums(double *out, const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    out[PRODUCT] = s->r[i] > 0 ? s->r[i] * s->f[i] : 0;
    out[MASS] = s->r[i];
    out[LOG] = s->r[i] > 0 ? s->r[i] * log(s->r[i] / s->a[i]) : 0;
    out[ENTROPY] = p_log_p(s->r[i]);
}
static void column_sums(double *out, const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    out[PRODUCT] = s->c[j] > 0 ? s->c[j] * s->g[j] : 0;
    out[MASS] = s->c[j];
    out[LOG] = s->c[j] > 0 ? s->c[j] * log(s->c[j] / s->b[j]) : 0;
    out[ENTROPY] = p_log_p(s->c[j]);
}

/* Collective. The objective of t P: t A + eps M t (log t - 1) + rho_a (t L_a + R t log t - t R + sum a) + likewise b.
 */
static ferry_status penalised(double *upper, ferry_sinkhorn *s)
{
    const double rho_a = s->tau_a < 1 ? s->rho_a : 0, rho_b = s->rho_b;
    double row[SUMS], column[SUMS], log_t = 0;
    FERRY_TRY(ferry_add_rows(row, SUMS, s, NULL, row_sums));
    FERRY_TRY(ferry_add_columns(column, SUMS, s, NULL, column_sums));
    const double product = row[PRODUCT] + column[PRODUCT], rows = row[MASS], mass = column[MASS];
    const double log_a = row[LOG], log_b = column[LOG];
    if (s->tau_a < 1)
        log_t = -(product + rho_a * log_a + rho_b * log_b) / (s->epsilon * mass + rho_a * rows + rho_b * mass);
    const double t = exp(log_t);
    *upper = t * product + s->epsilon * mass * t * (log_t - 1) + rho_b * (t * (log_b + mass * (log_t - 1)) + s->mass_b);
    if (s->tau_a < 1) *upper += rho_a * (t * (log_a + rows * (log_t - 1)) + s->mass_a);
    return FERRY_OK;
}

/* --- above, columns exact --- */

enum { CUT, TAKEN, LACK, LACK_ENTROPY, WEIGHT, CUTS };
static void cut_columns(double *out, const ferry_sinkhorn *s, const void *self, int64_t j)
{
    const bounds *k = self;
    const double kept = fmin(s->b[j], s->c[j]);
    out[CUT] = kept > 0 ? kept * (s->g[j] + s->epsilon * (log(kept / s->c[j]) - 1)) : 0;
    out[TAKEN] = fmax(s->c[j] - s->b[j], 0);
    out[LACK] = k->e[j];
    out[LACK_ENTROPY] = p_log_p(k->e[j]);
    out[WEIGHT] = s->b[j];
}
/* at AMONG values of tau: the mass of rows above it, and sum r (w - tau) of them */
static void above_tau(double *out, const ferry_sinkhorn *s, const void *self, int64_t i)
{
    const bounds *k = self;
    for (int e = 0; e < AMONG; e++) {
        const double over = k->w[i] - (k->low + e * k->step);
        out[e] = over > 0 ? s->r[i] : 0;
        out[AMONG + e] = over > 0 ? s->r[i] * over : 0;
    }
}

/* Collective. The most that sum d w can be: the least of tau sum u + v sum r max(w - tau, 0), which is convex in tau.
 */
static ferry_status most_taken(double *most, bounds *k, ferry_sinkhorn *s)
{
    double range[2] = {-INFINITY, -INFINITY}, sums[2 * AMONG]; /* largest w, minus the smallest */
    for (int64_t i = 0; i < s->sources; i++) {
        if (!(s->a[i] > 0)) continue;
        range[0] = fmax(range[0], k->w[i]);
        range[1] = fmax(range[1], -k->w[i]);
    }
    ferry_max_doubles(s->grid->world, range, 2);
    k->low = -range[1];
    k->step = (range[0] - k->low) / (AMONG - 1);
    *most = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        int best = 0;
        FERRY_TRY(ferry_add_rows(sums, 2 * AMONG, s, k, above_tau));
        for (int e = 0; e < AMONG; e++) {
            const double value = (k->low + e * k->step) * k->taken + k->most * sums[AMONG + e];
            if (k->most * sums[e] > k->taken) best = e; /* still falling there */
            *most = fmin(*most, value);
        }
        k->low += best * k->step;
        k->step /= AMONG - 1;
    }
    return FERRY_OK;
}

/* Collective. What is put back, both marginals exact: w from phi. */
static ferry_status put_back_exactly(double *upper, bounds *k, ferry_sinkhorn *s)
{
    double entropy = k->lack_entropy, most;
    for (int64_t i = 0; i < s->sources; i++) k->w[i] -= s->f[i];
    entropy += k->lack * (log(k->most * k->largest_row) - log(k->lack) + log(s->mass_a / k->lack));
    FERRY_TRY(most_taken(&most, k, s));
    *upper += most + s->epsilon * entropy;
    return FERRY_OK;
}
/* row i's penalty where d = share * v r_i */
static double penalty(const ferry_sinkhorn *s, const bounds *k, int64_t i, double share)
{
    return s->rho_a * divergence(fmax(1 + k->more - share * k->most, 0) * s->r[i], s->a[i]);
}
static void free_rows(double *out, const ferry_sinkhorn *s, const void *self, int64_t i)
{
    const bounds *k = self;
    out[0] = penalty(s, k, i, 0);
    out[1] = s->r[i] * k->w[i];
}
/* Collective. The same, rows penalised. */
static ferry_status put_back_freely(double *upper, bounds *k, ferry_sinkhorn *s)
{
    double sums[2], most = 0;
    k->more = k->lack / k->row_mass;
    FERRY_TRY(ferry_add_rows(sums, 2, s, k, free_rows));
    *upper += sums[0];
    if (k->lack > 0)
        *upper +=
            sums[1] * k->more + s->epsilon * (k->row_entropy * k->more + k->lack_entropy - k->lack * log(k->row_mass) +
                                              k->lack * log(k->column_mass / k->lack));
    for (int64_t i = 0; i < s->sources; i++) {
        const double taken = k->most * s->r[i];
        k->w[i] = -s->f[i] + (taken > 0 ? (penalty(s, k, i, 1) - penalty(s, k, i, 0)) / taken : 0);
        if (!(s->a[i] > 0)) k->w[i] = 0;
    }
    if (k->taken > 0) FERRY_TRY(most_taken(&most, k, s));
    *upper += most;
    return FERRY_OK;
}

/* Collective. */
static ferry_status exact_columns(double *upper, bounds *k, ferry_sinkhorn *s)
{
    bool passed;
    double most[2] = {0, 0}, rows[SUMS], columns[CUTS];
    for (int64_t j = 0; j < s->targets; j++) {
        k->e[j] = s->b[j] > 0 ? fmax(s->b[j] - s->c[j], 0) : 0;
        if (s->b[j] > 0 && s->c[j] > s->b[j]) most[0] = fmax(most[0], 1 - s->b[j] / s->c[j]);
    }
    for (int64_t i = 0; i < s->sources; i++) most[1] = fmax(most[1], s->r[i]);
    ferry_max_doubles(s->grid->world, most, 2);
    k->most = most[0];
    k->largest_row = most[1];
    FERRY_TRY(ferry_add_rows(rows, SUMS, s, NULL, row_sums));
    FERRY_TRY(ferry_add_columns(columns, CUTS, s, k, cut_columns));
    *upper = rows[PRODUCT] + columns[CUT];
    k->row_mass = rows[MASS];
    k->row_entropy = rows[ENTROPY];
    k->taken = columns[TAKEN];
    k->lack = columns[LACK];
    k->lack_entropy = columns[LACK_ENTROPY];
    k->column_mass = columns[WEIGHT];
    if (s->tau_a == 1) { /* the sums of a and b may differ by rounding */
        const double times = k->lack > 0 ? k->taken / k->lack : 1;
        for (int64_t j = 0; j < s->targets; j++) k->e[j] *= times;
        if (times > 0) k->lack_entropy = times * (k->lack_entropy + k->lack * log(times));
        k->lack = k->taken;
    }
    if (k->lack > 0) {
        FERRY_TRY(ferry_cost_row_sums(k->w, &passed, s->cost, k->e));
        s->passes += passed;
        for (int64_t i = 0; i < s->sources; i++) k->w[i] /= k->lack;
    }
    if (s->tau_a < 1) return put_back_freely(upper, k, s);
    return k->lack > 0 ? put_back_exactly(upper, k, s) : FERRY_OK;
}

/* Collective. */
static ferry_status find_bounds(ferry_potentials *out, bounds *k, ferry_sinkhorn *s)
{
    double lower, upper;
    FERRY_TRY(find_lower(&lower, k, s));
    FERRY_TRY(s->tau_b < 1 ? penalised(&upper, s) : exact_columns(&upper, k, s));
    const double part = s->cost->options.precision == FERRY_DOUBLE ? ALLOW_SMALL : ALLOW;
    const double allowed = part * (fabs(lower) + fabs(out->transport_cost) + s->epsilon * out->mass);
    out->lower_bound = isfinite(lower) ? lower - allowed : -INFINITY;
    out->upper_bound = isfinite(upper) ? upper + allowed : INFINITY;
    out->dual_gap = isfinite(upper - lower) ? upper - lower : NAN;
    return FERRY_OK;
}

ferry_status ferry_sinkhorn_bounds(ferry_potentials *out, ferry_sinkhorn *s)
{
    bounds k = {0};
    ferry_status status = ferry_agree(s->grid->world, open_bounds(&k, s));
    if (status == FERRY_OK) status = find_bounds(out, &k, s);
    close_bounds(&k);
    return status;
}

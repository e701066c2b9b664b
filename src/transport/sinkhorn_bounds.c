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

#define STEPS       24    /* halvings in search of tau */
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
    double more;                               /* k */
    double shift, tau;
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
static double dual_rows(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    const bounds *k = self;
    return ferry_dual_part(s->a[i], s->f[i] + k->shift, s->tau_a, s->rho_a);
}
static double dual_columns(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    const bounds *k = self;
    return ferry_dual_part(s->b[j], k->g[j] - k->shift, s->tau_b, s->rho_b) -
           (s->c[j] > 0 ? s->epsilon * s->c[j] * exp((k->g[j] - s->g[j]) / s->epsilon) : 0);
}
/* Collective. */
static ferry_status find_lower(double *lower, bounds *k, ferry_sinkhorn *s)
{
    double least_f, least_g;
    *lower = 0;
    for (int64_t j = 0; j < s->targets; j++) k->g[j] = updated_g(s, j);
    if (s->tau_a < 1 && s->tau_b < 1) {
        FERRY_TRY(ferry_sinkhorn_soft_min(&least_f, s, s->f, false));
        FERRY_TRY(ferry_sinkhorn_soft_min(&least_g, s, k->g, true));
        k->shift = s->rho_a * s->rho_b / (s->rho_a + s->rho_b) * (least_g / s->rho_b - least_f / s->rho_a);
    }
    FERRY_TRY(ferry_add_rows(lower, s, k, dual_rows));
    return ferry_add_columns(lower, s, k, dual_columns);
}

/* --- above, columns penalised --- */

static double row_product(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    return s->r[i] > 0 ? s->r[i] * s->f[i] : 0;
}
static double column_product(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return s->c[j] > 0 ? s->c[j] * s->g[j] : 0;
}
static double row_mass(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    return s->r[i];
}
static double column_mass(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return s->c[j];
}
static double row_log(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    return s->r[i] > 0 ? s->r[i] * log(s->r[i] / s->a[i]) : 0;
}
static double column_log(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return s->c[j] > 0 ? s->c[j] * log(s->c[j] / s->b[j]) : 0;
}

/* Collective. The objective of t P: t A + eps M t (log t - 1) + rho_a (t L_a + R t log t - t R + sum a) + likewise b.
 */
static ferry_status penalised(double *upper, ferry_sinkhorn *s)
{
    const double rho_a = s->tau_a < 1 ? s->rho_a : 0, rho_b = s->rho_b;
    double product = 0, mass = 0, rows = 0, log_a = 0, log_b = 0, log_t = 0;
    FERRY_TRY(ferry_add_rows(&product, s, NULL, row_product));
    FERRY_TRY(ferry_add_columns(&product, s, NULL, column_product));
    FERRY_TRY(ferry_add_rows(&rows, s, NULL, row_mass));
    FERRY_TRY(ferry_add_columns(&mass, s, NULL, column_mass));
    FERRY_TRY(ferry_add_rows(&log_a, s, NULL, row_log));
    FERRY_TRY(ferry_add_columns(&log_b, s, NULL, column_log));
    if (s->tau_a < 1)
        log_t = -(product + rho_a * log_a + rho_b * log_b) / (s->epsilon * mass + rho_a * rows + rho_b * mass);
    const double t = exp(log_t);
    *upper = t * product + s->epsilon * mass * t * (log_t - 1) + rho_b * (t * (log_b + mass * (log_t - 1)) + s->mass_b);
    if (s->tau_a < 1) *upper += rho_a * (t * (log_a + rows * (log_t - 1)) + s->mass_a);
    return FERRY_OK;
}

/* --- above, columns exact --- */

static double cut_columns(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    const double kept = fmin(s->b[j], s->c[j]);
    return kept > 0 ? kept * (s->g[j] + s->epsilon * (log(kept / s->c[j]) - 1)) : 0;
}
static double taken_from(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return fmax(s->c[j] - s->b[j], 0);
}
static double lack_of(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    const bounds *k = self;
    (void)s;
    return k->e[j];
}
static double lack_entropy(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    const bounds *k = self;
    (void)s;
    return p_log_p(k->e[j]);
}
static double weight_of(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return s->b[j];
}
static double row_entropy(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    return p_log_p(s->r[i]);
}
static double spread_cost(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    const bounds *k = self;
    return s->r[i] * k->w[i];
}
static double above_tau(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    const bounds *k = self;
    return k->w[i] > k->tau ? s->r[i] : 0;
}
static double excess(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    const bounds *k = self;
    return k->w[i] > k->tau ? s->r[i] * (k->w[i] - k->tau) : 0;
}

/* Collective. The most that sum d w can be. */
static ferry_status most_taken(double *most, bounds *k, ferry_sinkhorn *s)
{
    double range[2] = {-INFINITY, -INFINITY}, over = 0; /* largest w, minus the smallest */
    for (int64_t i = 0; i < s->sources; i++) {
        if (!(s->a[i] > 0)) continue;
        range[0] = fmax(range[0], k->w[i]);
        range[1] = fmax(range[1], -k->w[i]);
    }
    ferry_max_doubles(s->grid->world, range, 2);
    double low = -range[1], high = range[0];
    for (int step = 0; step < STEPS && high > low; step++) {
        double mass = 0;
        k->tau = 0.5 * (low + high);
        FERRY_TRY(ferry_add_rows(&mass, s, k, above_tau));
        *(k->most * mass > k->taken ? &low : &high) = k->tau;
    }
    k->tau = high;
    FERRY_TRY(ferry_add_rows(&over, s, k, excess));
    *most = k->tau * k->taken + k->most * over;
    return FERRY_OK;
}

/* Collective. What is put back, both marginals exact: w from phi. */
static ferry_status put_back_exactly(double *upper, bounds *k, ferry_sinkhorn *s)
{
    double entropy = 0, most;
    for (int64_t i = 0; i < s->sources; i++) k->w[i] -= s->f[i];
    FERRY_TRY(ferry_add_columns(&entropy, s, k, lack_entropy));
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
static double whole_penalty(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    return penalty(s, self, i, 0);
}
/* Collective. The same, rows penalised. */
static ferry_status put_back_freely(double *upper, bounds *k, ferry_sinkhorn *s)
{
    double cost = 0, entropy = 0, lack = 0, most = 0;
    k->more = k->lack / k->row_mass;
    FERRY_TRY(ferry_add_rows(&cost, s, k, spread_cost));
    FERRY_TRY(ferry_add_rows(&entropy, s, k, row_entropy));
    FERRY_TRY(ferry_add_columns(&lack, s, k, lack_entropy));
    FERRY_TRY(ferry_add_rows(upper, s, k, whole_penalty));
    if (k->lack > 0)
        *upper += cost * k->more + s->epsilon * (entropy * k->more + lack - k->lack * log(k->row_mass) +
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
    double most[2] = {0, 0};
    *upper = 0;
    FERRY_TRY(ferry_add_rows(upper, s, NULL, row_product));
    FERRY_TRY(ferry_add_columns(upper, s, NULL, cut_columns));
    for (int64_t j = 0; j < s->targets; j++) {
        k->e[j] = s->b[j] > 0 ? fmax(s->b[j] - s->c[j], 0) : 0;
        if (s->b[j] > 0 && s->c[j] > s->b[j]) most[0] = fmax(most[0], 1 - s->b[j] / s->c[j]);
    }
    for (int64_t i = 0; i < s->sources; i++) most[1] = fmax(most[1], s->r[i]);
    ferry_max_doubles(s->grid->world, most, 2);
    k->most = most[0];
    k->largest_row = most[1];
    FERRY_TRY(ferry_add_columns(&k->taken, s, k, taken_from));
    FERRY_TRY(ferry_add_columns(&k->lack, s, k, lack_of));
    FERRY_TRY(ferry_add_columns(&k->column_mass, s, k, weight_of));
    FERRY_TRY(ferry_add_rows(&k->row_mass, s, k, row_mass));
    if (s->tau_a == 1) { /* the sums of a and b may differ by rounding */
        for (int64_t j = 0; j < s->targets && k->lack > 0; j++) k->e[j] *= k->taken / k->lack;
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

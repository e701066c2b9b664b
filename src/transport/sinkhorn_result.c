/* What the potentials are worth, from what the last pass left: f, g, the sums r and c of rows and columns, the entropy.
 *
 * reg_ot_cost = div_a + div_b + eps (sum a sum b - sum P), div_a = sum a (f - eps log a) if tau_a = 1, otherwise
 *   -rho_a sum a (exp(-(f - eps log a) / rho_a) - 1): as OTT reports it.
 * <P, C> = sum r_i f_i + sum c_j g_j - eps sum P log P, because C_ij = f_i + g_j - eps log P_ij.
 *
 * One more pass is made only where the last one was not of that kind. */
#include "result_impl.h"
#include <math.h>
#include <string.h>

#define EXACT 1e-9 /* relative error of row sums that counts as none */

/* --- sums over the sides --- */

ferry_status ferry_add_rows(double *total, ferry_sinkhorn *s, const void *self, ferry_term of)
{
    double sum;
    for (int64_t i = 0; i < s->sources; i++) s->work[i] = s->a[i] > 0 ? of(s, self, i) : 0;
    FERRY_TRY(ferry_sinkhorn_source_sum(&sum, s, s->work));
    *total += sum;
    return FERRY_OK;
}
ferry_status ferry_add_columns(double *total, ferry_sinkhorn *s, const void *self, ferry_term of)
{
    double sum;
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? of(s, self, j) : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&sum, s, s->work));
    *total += sum;
    return FERRY_OK;
}

double ferry_dual_part(double weight, double h, double tau, double rho)
{
    return tau == 1 ? weight * h : -weight * rho * expm1(-h / rho);
}

static double mass_term(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return s->c[j];
}
static double row_objective(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    return ferry_dual_part(s->a[i], s->f[i] - s->epsilon * log(s->a[i]), s->tau_a, s->rho_a);
}
static double column_objective(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return ferry_dual_part(s->b[j], s->g[j] - s->epsilon * log(s->b[j]), s->tau_b, s->rho_b);
}
static double row_cost(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    return s->r[i] > 0 ? s->r[i] * s->f[i] : 0;
}
static double column_cost(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return s->c[j] > 0 ? s->c[j] * s->g[j] : 0;
}

/* --- errors of the marginals --- */

/* against what is asked of them: the weights, or what the penalty allows at this potential */
static double row_goal(const ferry_sinkhorn *s, int64_t i)
{
    return s->tau_a == 1 ? s->a[i] : s->a[i] * exp(-s->f[i] / s->rho_a);
}
static double column_goal(const ferry_sinkhorn *s, int64_t j)
{
    return s->tau_b == 1 ? s->b[j] : s->b[j] * exp(-s->g[j] / s->rho_b);
}
static double row_gap(const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    return fabs(s->r[i] - row_goal(s, i));
}
static double column_gap(const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    return fabs(s->c[j] - column_goal(s, j));
}

/* Collective. */
static ferry_status find_errors(ferry_potentials *out, ferry_sinkhorn *s)
{
    double most[2] = {0, 0};
    FERRY_TRY(ferry_add_rows(&out->row_error, s, NULL, row_gap));
    FERRY_TRY(ferry_add_columns(&out->column_error, s, NULL, column_gap));
    for (int64_t i = 0; i < s->sources; i++)
        if (s->a[i] > 0) most[0] = fmax(most[0], row_gap(s, NULL, i));
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0) most[1] = fmax(most[1], column_gap(s, NULL, j));
    ferry_max_doubles(s->grid->world, most, 2);
    out->row_error_max = most[0];
    out->column_error_max = most[1];
    return FERRY_OK;
}

/* --- passes that are missing --- */

/* Collective. c, r and the entropy at f, g as they are. */
static ferry_status pass_here(ferry_sinkhorn *s, double weight)
{
    const double before = s->weight;
    const bool scoring = s->scoring;
    s->weight = weight;
    s->scoring = true;
    ferry_status status = ferry_sinkhorn_iterate(s);
    s->weight = before;
    s->scoring = scoring;
    return status;
}

/* Collective. The entropy of the plan as it is, of its pass before a constant was added to f. */
static ferry_status find_entropy(double *entropy, ferry_sinkhorn *s, double mass)
{
    int64_t sums[2] = {0, 0};
    for (int t = 0; t < s->threads; t++)
        for (int e = 0; e < 2; e++) sums[e] += s->entropy.sums[(ptrdiff_t)t * FERRY_ENTROPY_WIDTH + e];
    ferry_total_counts(s->grid->world, sums, 2);
    const double then = (double)sums[1] / s->entropy.units, times = mass / then;
    *entropy = times * ((double)sums[0] / s->entropy.units - log2(times) * then);
    return FERRY_OK;
}

/* Collective. *exact: no row sum is off. */
static ferry_status exact_rows(bool *exact, ferry_sinkhorn *s)
{
    int64_t off = 0;
    for (int64_t i = 0; i < s->sources; i++) off |= s->a[i] > 0 && !(fabs(s->r[i] - s->a[i]) <= EXACT * s->a[i]);
    *exact = ferry_max(s->grid->world, off) == 0;
    return FERRY_OK;
}

/* Collective. The bounds from the point one plain half step on, where momentum leaves rows that are not exact. */
static ferry_status bounds_after(ferry_potentials *out, ferry_sinkhorn *s)
{
    FERRY_AUTO double *kept = NULL;
    FERRY_TRY(ferry_agree(s->grid->world, ferry_alloc(&kept, 2 * s->rows + s->columns)));
    memcpy(kept, s->f, (size_t)s->rows * sizeof *kept);
    memcpy(kept + s->rows, s->r, (size_t)s->rows * sizeof *kept);
    memcpy(kept + 2 * s->rows, s->c, (size_t)s->columns * sizeof *kept);
    ferry_status status = pass_here(s, 1);
    if (status == FERRY_OK) status = ferry_sinkhorn_bounds(out, s);
    memcpy(s->f, kept, (size_t)s->rows * sizeof *kept);
    memcpy(s->r, kept + s->rows, (size_t)s->rows * sizeof *kept);
    memcpy(s->c, kept + 2 * s->rows, (size_t)s->columns * sizeof *kept);
    return status;
}

ferry_status ferry_sinkhorn_result(ferry_potentials *out, ferry_sinkhorn *s)
{
    double entropy;
    bool exact = true;
    if (!s->entropy.known) FERRY_TRY(pass_here(s, 0));
    FERRY_TRY(find_errors(out, s));
    FERRY_TRY(ferry_add_columns(&out->mass, s, NULL, mass_term));
    FERRY_TRY(ferry_add_rows(&out->reg_ot_cost, s, NULL, row_objective));
    FERRY_TRY(ferry_add_columns(&out->reg_ot_cost, s, NULL, column_objective));
    out->reg_ot_cost += s->epsilon * (s->mass_a * s->mass_b - out->mass);
    FERRY_TRY(find_entropy(&entropy, s, out->mass));
    FERRY_TRY(ferry_add_rows(&out->transport_cost, s, NULL, row_cost));
    FERRY_TRY(ferry_add_columns(&out->transport_cost, s, NULL, column_cost));
    out->transport_cost += s->epsilon / FERRY_LOG2_E * entropy;
    FERRY_TRY(ferry_sinkhorn_independence(out, s));
    if (s->tau_a == 1) FERRY_TRY(exact_rows(&exact, s));
    return exact ? ferry_sinkhorn_bounds(out, s) : bounds_after(out, s);
}

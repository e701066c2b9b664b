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

/* Local. */
static ferry_status plant(ferry_forest **out, int count, const ferry_sinkhorn *s, const void *self, ferry_terms of,
                          bool target)
{
    const ferry_shards *shards = target ? &s->grid->target : &s->grid->source;
    const double *weight = target ? s->b : s->a;
    const int part = target ? s->grid->col : s->grid->row;
    double terms[FERRY_MOST_TERMS] = {0};
    FERRY_TRY(ferry_forest_open(out, count, shards->blocks.count, FERRY_JOIN_SUM));
    for (int b = shards->block[part]; b < shards->block[part + 1]; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, *out));
        const int64_t end = ferry_block_first(&shards->blocks, b + 1) - shards->first[part];
        for (int64_t i = ferry_block_first(&shards->blocks, b) - shards->first[part]; i < end; i++) {
            if (!(weight[i] > 0)) continue;
            of(terms, s, self, i);
            for (int e = 0; e < count; e++) leaf[e] += terms[e];
        }
        ferry_forest_add(*out, b);
    }
    return FERRY_OK;
}
/* Collective. */
static ferry_status add_side(double *totals, int count, ferry_sinkhorn *s, const void *self, ferry_terms of,
                             bool target)
{
    const ferry_world *world = s->grid->world;
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(world, plant(&forest, count, s, self, of, target));
    if (status == FERRY_OK)
        status = ferry_agree(world, ferry_forest_reduce(totals, forest, target ? &s->grid->across : &s->grid->down,
                                                        s->cost->options.reduction));
    ferry_forest_close(&forest);
    return status;
}
ferry_status ferry_add_rows(double *totals, int count, ferry_sinkhorn *s, const void *self, ferry_terms of)
{
    return add_side(totals, count, s, self, of, false);
}
ferry_status ferry_add_columns(double *totals, int count, ferry_sinkhorn *s, const void *self, ferry_terms of)
{
    return add_side(totals, count, s, self, of, true);
}

double ferry_dual_part(double weight, double h, double tau, double rho)
{
    return tau == 1 ? weight * h : -weight * rho * expm1(-h / rho);
}

/* What is asked of a marginal: the weight, or what the penalty allows at this potential. */
static double goal(double weight, double h, double tau, double rho)
{
    return tau == 1 ? weight : weight * exp(-h / rho);
}
static double row_gap(const ferry_sinkhorn *s, int64_t i)
{
    return fabs(s->r[i] - goal(s->a[i], s->f[i], s->tau_a, s->rho_a));
}
static double column_gap(const ferry_sinkhorn *s, int64_t j)
{
    return fabs(s->c[j] - goal(s->b[j], s->g[j], s->tau_b, s->rho_b));
}

enum { OBJECTIVE, PRODUCT, GAP, MASS, TERMS };
static void row_terms(double *out, const ferry_sinkhorn *s, const void *self, int64_t i)
{
    (void)self;
    out[OBJECTIVE] = ferry_dual_part(s->a[i], s->f[i] - s->epsilon * log(s->a[i]), s->tau_a, s->rho_a);
    out[PRODUCT] = s->r[i] > 0 ? s->r[i] * s->f[i] : 0;
    out[GAP] = row_gap(s, i);
    out[MASS] = s->r[i];
}
static void column_terms(double *out, const ferry_sinkhorn *s, const void *self, int64_t j)
{
    (void)self;
    out[OBJECTIVE] = ferry_dual_part(s->b[j], s->g[j] - s->epsilon * log(s->b[j]), s->tau_b, s->rho_b);
    out[PRODUCT] = s->c[j] > 0 ? s->c[j] * s->g[j] : 0;
    out[GAP] = column_gap(s, j);
    out[MASS] = s->c[j];
}

/* Collective. The largest error of any cell. */
static void find_largest(ferry_potentials *out, const ferry_sinkhorn *s)
{
    double most[2] = {0, 0};
    for (int64_t i = 0; i < s->sources; i++)
        if (s->a[i] > 0) most[0] = fmax(most[0], row_gap(s, i));
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0) most[1] = fmax(most[1], column_gap(s, j));
    ferry_max_doubles(s->grid->world, most, 2);
    out->row_error_max = most[0];
    out->column_error_max = most[1];
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
    double entropy, rows[TERMS], columns[TERMS];
    bool exact = true;
    if (!s->entropy.known) FERRY_TRY(pass_here(s, 0));
    FERRY_TRY(ferry_add_rows(rows, TERMS, s, NULL, row_terms));
    FERRY_TRY(ferry_add_columns(columns, TERMS, s, NULL, column_terms));
    find_largest(out, s);
    out->row_error = rows[GAP];
    out->column_error = columns[GAP];
    out->mass = columns[MASS];
    out->reg_ot_cost = rows[OBJECTIVE] + columns[OBJECTIVE] + s->epsilon * (s->mass_a * s->mass_b - out->mass);
    FERRY_TRY(find_entropy(&entropy, s, out->mass));
    out->transport_cost = rows[PRODUCT] + columns[PRODUCT] + s->epsilon / FERRY_LOG2_E * entropy;
    FERRY_TRY(ferry_sinkhorn_independence(out, s));
    if (s->tau_a == 1) FERRY_TRY(exact_rows(&exact, s));
    return exact ? ferry_sinkhorn_bounds(out, s) : bounds_after(out, s);
}

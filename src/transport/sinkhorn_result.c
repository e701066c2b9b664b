/* What the potentials are worth, from one last pass over P = exp((f_i + g_j - C_ij) / eps).
 *
 * reg_ot_cost = div_a + div_b + eps (sum a sum b - sum P), div_a = sum a (f - eps log a) if tau_a = 1, otherwise
 *   -rho_a sum a (exp(-(f - eps log a) / rho_a) - 1): as OTT reports it.
 * <P, C> = sum r_i f_i + sum c_j g_j - eps ln 2 sum P_ij s_ij, because C_ij = f_i + g_j - eps ln 2 s_ij.
 *
 * The gap is primal minus dual of  min <P,C> + eps sum P (log P - 1) + rho_a KL(P1|a) + rho_b KL(P'1|b),
 * dual D(f, g) = D_a + D_b - eps sum P, D_a = <a, f> if tau_a = 1, otherwise -rho_a sum a (exp(-f / rho_a) - 1).
 * Where <P,C> + eps sum P log P = <r, f> + <c, g> for any plan of this form, no cost has to be summed:
 *   tau_b < 1             rows updated once more (f', r'), c their columns: P is allowed as it is
 *   tau_b = 1, tau_a < 1  columns scaled to b (g', r): allowed, gap = <r, f> + rho_a KL(r|a) - D_a
 *   both 1                columns scaled to b (g', r), q = a / r, c- columns of min(1, q) P: the rounded plan
 *                         min(1, q) P + d e' / s, d = max(a - r, 0), e = b - c-, s = sum e, has the right marginals;
 * the entropy of the sum is bounded by Jensen's inequality (s log(M / s), M = sum a). */
#include "sinkhorn_impl.h"
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    ((int64_t)ROWS * COLUMNS)
#define CHUNK   16    /* units at a time: the exponents of a chunk stay in cache while it becomes plan */
#define LEAST   -1e4F /* log2 of less than any float: stands for -inf, whose product with 0 is not 0 */
#define SAMPLE  256   /* rows whose distance from the product of the marginals is measured */

enum { SUM = 0, SCALED = 1, SCORE = 2, APART = 3 }; /* the four sums of a row */

/* Of the last pass. */
typedef struct last {
    double *row[4]; /* [rows] the sums of every row */
    double *q;      /* [rows] what rows were multiplied with for the column sums */
    double *c;      /* [columns] those column sums */
    double *scale;  /* [columns] b_j / c_j, what scales columns to b */
    float *scale_f; /* [columns] as the tiles of the float plan want it: with what rounding took from beta_j */
    double mass;
} last;

static ferry_status open_last(last *l, const ferry_sinkhorn *s)
{
    for (int w = 0; w < 4; w++) FERRY_TRY(ferry_alloc(&l->row[w], s->rows));
    FERRY_TRY(ferry_alloc(&l->q, s->rows));
    FERRY_TRY(ferry_alloc(&l->c, s->columns));
    FERRY_TRY(ferry_alloc(&l->scale, s->columns));
    return ferry_alloc(&l->scale_f, s->columns);
}
static void close_last(last *l)
{
    for (int w = 0; w < 4; w++) free(l->row[w]);
    free(l->q);
    free(l->c);
    free(l->scale);
    free(l->scale_f);
}

/* --- the pass --- */

/* Row i of the whole problem belongs to the fixed sample; where cells are in the order of their groups
 * (groups_impl.h), i is a place in that order, so that every group has its share of the sample. */
static bool sampled(const ferry_sinkhorn *s, int64_t i)
{
    const int64_t n = s->grid->source.blocks.rows, every = n / SAMPLE + 1;
    return i < n && i % every == every / 2 % n;
}

/* sum_j |P_ij - r_i c_j / mass| over units first ... of row i of the panel */
static double apart(const ferry_sinkhorn *s, const last *l, const ferry_panel *panel, int64_t index, int i,
                    int64_t first, int64_t units)
{
    const double share = s->r[index * ROWS + i] / l->mass;
    double sum = 0;
    for (int64_t u = first; u < first + units; u++)
        for (int j = 0; j < COLUMNS && u * COLUMNS + j < s->targets; j++) {
            const int64_t at = u * TILE + i * COLUMNS + j;
            sum += fabs((panel->f ? (double)panel->f[at] : panel->d[at]) - share * s->c[u * COLUMNS + j]);
        }
    return sum;
}

/* score_i += sum_j P_ij s_ij: float32 in 32 lanes over a chunk, then float64 */
static void add_scores(double *score, const float *plan, const float *exponents, int64_t units)
{
    for (int i = 0; i < ROWS; i++) {
        float lane[COLUMNS] = {0};
        for (int64_t u = 0; u < units; u++) {
            const float *p = plan + u * TILE + i * COLUMNS, *e = exponents + u * TILE + i * COLUMNS;
            for (int j = 0; j < COLUMNS; j++) lane[j] += p[j] * (e[j] > LEAST ? e[j] : LEAST);
        }
        for (int j = 0; j < COLUMNS; j++) score[i] += (double)lane[j];
    }
}

/* A chunk of exponents becomes plan; its part of the sums. */
static void chunk_float(double (*sums)[ROWS], const last *l, ferry_panel *panel, int64_t first, int64_t units)
{
    const ferry_kernels *kernels = panel->cost->options.kernels;
    float exponents[CHUNK * TILE], *plan = panel->f + first * TILE;
    double rows[ROWS];
    memcpy(exponents, plan, (size_t)(units * TILE) * sizeof *plan);
    kernels->exponentials(plan, rows, units);
    for (int i = 0; i < ROWS; i++) sums[SUM][i] += rows[i];
    kernels->times(sums[SCALED], plan, l->scale_f + first * COLUMNS, 1, units);
    add_scores(sums[SCORE], plan, exponents, units);
}
static void chunk_double(double (*sums)[ROWS], const last *l, ferry_panel *panel, int64_t first, int64_t units)
{
    for (int64_t u = first; u < first + units; u++)
        for (int i = 0; i < ROWS; i++) {
            double *p = panel->d + u * TILE + i * COLUMNS;
            for (int j = 0; j < COLUMNS; j++) {
                const double score = p[j] > (double)LEAST ? p[j] : (double)LEAST;
                p[j] = exp2(p[j]);
                sums[SUM][i] += p[j];
                sums[SCALED][i] += p[j] * l->scale[u * COLUMNS + j];
                sums[SCORE][i] += p[j] * score;
            }
        }
}

/* A panel of exponents. */
static void panel_last(double *sums, const last *l, ferry_sinkhorn *s, ferry_panel *panel, int64_t index)
{
    memset(sums, 0, (size_t)panel->blocks * 4 * ROWS * sizeof *sums);
    for (int b = 0; b < panel->blocks; b++) {
        double(*block)[ROWS] = (double(*)[ROWS])(void *)(sums + (int64_t)b * 4 * ROWS);
        for (int64_t u = panel->unit[b]; u < panel->unit[b + 1]; u += CHUNK) {
            const int64_t units = panel->unit[b + 1] - u < CHUNK ? panel->unit[b + 1] - u : CHUNK;
            if (panel->f)
                chunk_float(block, l, panel, u, units);
            else
                chunk_double(block, l, panel, u, units);
            for (int i = 0; i < ROWS; i++)
                if (sampled(s, s->grid->source_first + index * ROWS + i))
                    block[APART][i] += apart(s, l, panel, index, i, u, units);
        }
    }
}
static void evaluate_last(double *const *sums, const ferry_row_work *work, ferry_sinkhorn *s,
                          const ferry_panel_rows *rows, int count)
{
    ferry_panels_scores(rows, count, s->source, &s->target);
    for (int g = 0; g < count; g++) panel_last(sums[g], work->self, s, rows[g].panel, rows[g].index);
}

/* q: the plain row update when columns are penalised, min(1, a / r) with columns scaled to b otherwise. */
static ferry_again finish_last(double *q, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel *panel,
                               int64_t index, double *reference, const double *sums, int round)
{
    const last *l = work->self;
    (void)round;
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = index * ROWS + i;
        const double lost = exp2(panel->residual[i]);
        double *r[4] = {&l->row[0][row], &l->row[1][row], &l->row[2][row], &l->row[3][row]};
        for (int w = 0; w < 4; w++) *r[w] = sums[w * ROWS + i] * lost;
        *r[SCORE] += panel->residual[i] * *r[SUM];
        l->q[row] = 0;
        if (reference[i] != -INFINITY && s->tau_b < 1)
            l->q[row] = exp((s->tau_a * (s->epsilon * log(s->a[row] / *r[SUM]) + s->f[row]) - s->f[row]) / s->epsilon);
        else if (reference[i] != -INFINITY)
            l->q[row] = s->a[row] / *r[SCALED];
        q[i] = (s->tau_b < 1 || l->q[row] < 1 ? l->q[row] : reference[i] != -INFINITY) * lost;
    }
    return FERRY_ROWS_DONE;
}

/* Collective. */
static ferry_status last_pass(last *l, ferry_sinkhorn *s)
{
    const ferry_row_work work = {
        .width = 4, .columns = true, .evaluate = evaluate_last, .finish = finish_last, .self = l};
    ferry_target_set(&s->target, s->cost, s->g, s->epsilon);
    for (int64_t j = 0; j < s->targets; j++) {
        const double lost = exp2(ferry_target_residual(&s->target, s->cost, s->g, j));
        const double scale = s->b[j] > 0 && s->c[j] > 0 ? s->b[j] / s->c[j] : 0;
        l->scale_f[j] = (float)(scale * lost);
        l->scale[j] = s->cost->options.precision == FERRY_DOUBLE ? scale : (double)l->scale_f[j] / lost;
    }
    FERRY_TRY(ferry_sinkhorn_pass(l->c, s, &work));
    for (int64_t j = 0; j < s->targets; j++) l->c[j] *= exp2(ferry_target_residual(&s->target, s->cost, s->g, j));
    return FERRY_OK;
}

/* --- sums over the sides --- */

/* Collective. Sum of term(i) over source rows with weight, or target columns. */
typedef double (*term)(const ferry_sinkhorn *s, const last *l, int64_t i);
static ferry_status add_rows(double *total, ferry_sinkhorn *s, const last *l, term of)
{
    double sum;
    for (int64_t i = 0; i < s->sources; i++) s->work[i] = s->a[i] > 0 ? of(s, l, i) : 0;
    FERRY_TRY(ferry_sinkhorn_source_sum(&sum, s, s->work));
    *total += sum;
    return FERRY_OK;
}
static ferry_status add_columns(double *total, ferry_sinkhorn *s, const last *l, term of)
{
    double sum;
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? of(s, l, j) : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&sum, s, s->work));
    *total += sum;
    return FERRY_OK;
}

/* p log(p / q) - p + q, q > 0 */
static double divergence(double p, double q)
{
    return (p > 0 ? p * log(p / q) : 0) - p + q;
}
static double p_log_p(double p)
{
    return p > 0 ? p * log(p) : 0;
}
/* one weight's part of D_a; of div_a when f has lost epsilon log a */
static double dual_part(double weight, double f, double tau, double rho)
{
    return tau == 1 ? weight * f : -weight * rho * expm1(-f / rho);
}
/* the new potential of row i when columns are penalised; of column j when they are scaled */
static double new_f(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    return s->f[i] + s->epsilon * log(l->q[i]);
}
static double new_g(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    return s->g[j] + s->epsilon * log(l->scale[j]);
}

static double mass_term(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    (void)l;
    return s->c[j];
}
static double row_objective(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    (void)l;
    return dual_part(s->a[i], s->f[i] - s->epsilon * log(s->a[i]), s->tau_a, s->rho_a);
}
static double column_objective(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    (void)l;
    return dual_part(s->b[j], s->g[j] - s->epsilon * log(s->b[j]), s->tau_b, s->rho_b);
}
static double row_cost(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    return l->row[SUM][i] * s->f[i] - s->epsilon / FERRY_LOG2_E * l->row[SCORE][i];
}
static double column_cost(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    (void)l;
    const double lost = ferry_target_residual(&s->target, s->cost, s->g, j);
    return s->c[j] * (s->g[j] - s->epsilon / FERRY_LOG2_E * lost);
}
static double apart_term(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    (void)s;
    return l->row[APART][i];
}
static double sampled_mass(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    return sampled(s, s->grid->source_first + i) ? l->row[SUM][i] : 0;
}

/* --- the gap --- */

static double penalised_rows(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    const double f = new_f(s, l, i), r = l->q[i] * l->row[SUM][i];
    return r * f + (s->tau_a < 1 ? s->rho_a * divergence(r, s->a[i]) : 0) - dual_part(s->a[i], f, s->tau_a, s->rho_a);
}
static double penalised_columns(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    return l->c[j] * s->g[j] + s->rho_b * divergence(l->c[j], s->b[j]) -
           dual_part(s->b[j], s->g[j], s->tau_b, s->rho_b);
}
static double scaled_rows(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    const double r = l->row[SCALED][i];
    return r * s->f[i] + s->rho_a * divergence(r, s->a[i]) - dual_part(s->a[i], s->f[i], s->tau_a, s->rho_a);
}

/* Rounded plan: min(1, q_i) and what rows and columns still lack. */
static double kept(const last *l, int64_t i)
{
    return l->q[i] < 1 ? l->q[i] : 1;
}
static double row_lack(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    return s->a[i] > 0 ? fmax(s->a[i] - l->row[SCALED][i], 0) : 0;
}
static double column_lack(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    return s->b[j] > 0 ? fmax(s->b[j] - l->scale[j] * l->c[j], 0) : 0;
}
static double rounded_rows(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    const double m = kept(l, i);
    return m * l->row[SCALED][i] * (s->f[i] + s->epsilon * log(m)) - s->a[i] * new_f(s, l, i) + s->epsilon * s->a[i];
}
static double rounded_columns(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    const double c = l->scale[j] * l->c[j];
    return (c - s->b[j]) * new_g(s, l, j) - s->epsilon * c;
}
static double row_lack_entropy(const ferry_sinkhorn *s, const last *l, int64_t i)
{
    return p_log_p(row_lack(s, l, i));
}
static double column_lack_entropy(const ferry_sinkhorn *s, const last *l, int64_t j)
{
    return p_log_p(column_lack(s, l, j));
}

/* Collective. <C, d e'> / s and the entropy of d e' / s joined to the rest. */
static ferry_status lacking(double *gap, ferry_sinkhorn *s, const last *l)
{
    double lack_a = 0, lack_b = 0, entropy = 0, cost = 0;
    bool passed;
    FERRY_TRY(add_rows(&lack_a, s, l, row_lack));
    FERRY_TRY(add_columns(&lack_b, s, l, column_lack));
    if (!(lack_a > 0) || !(lack_b > 0)) return FERRY_OK;
    FERRY_TRY(add_rows(&entropy, s, l, row_lack_entropy));
    FERRY_TRY(add_columns(&entropy, s, l, column_lack_entropy));
    for (int64_t i = 0; i < s->rows; i++) l->q[i] = i < s->sources ? row_lack(s, l, i) : 0;
    for (int64_t j = 0; j < s->columns; j++) l->scale[j] = j < s->targets ? column_lack(s, l, j) : 0;
    FERRY_TRY(ferry_cost_between(&cost, &passed, s->cost, l->q, l->scale));
    s->passes += passed;
    const double lack = lack_b; /* equal to lack_a up to rounding */
    *gap += cost / lack + s->epsilon * (entropy - lack * log(lack) + lack * log(s->mass_a / lack));
    return FERRY_OK;
}

/* Collective. The gap, NaN where potentials are too far off for one. */
static ferry_status find_gap(double *gap, ferry_sinkhorn *s, const last *l)
{
    *gap = 0;
    if (s->tau_b < 1) {
        FERRY_TRY(add_rows(gap, s, l, penalised_rows));
        FERRY_TRY(add_columns(gap, s, l, penalised_columns));
    } else if (s->tau_a < 1) {
        FERRY_TRY(add_rows(gap, s, l, scaled_rows));
    } else {
        FERRY_TRY(add_rows(gap, s, l, rounded_rows));
        FERRY_TRY(add_columns(gap, s, l, rounded_columns));
        FERRY_TRY(lacking(gap, s, l));
    }
    if (!isfinite(*gap)) *gap = NAN;
    return FERRY_OK;
}

/* Collective. */
static ferry_status find_result(ferry_potentials *out, ferry_sinkhorn *s, last *l)
{
    double far = 0, mass = 0;
    FERRY_TRY(add_columns(&out->mass, s, l, mass_term));
    FERRY_TRY(add_rows(&out->reg_ot_cost, s, l, row_objective));
    FERRY_TRY(add_columns(&out->reg_ot_cost, s, l, column_objective));
    out->reg_ot_cost += s->epsilon * (s->mass_a * s->mass_b - out->mass);
    l->mass = out->mass;
    FERRY_TRY(last_pass(l, s));
    FERRY_TRY(add_rows(&out->transport_cost, s, l, row_cost));
    FERRY_TRY(add_columns(&out->transport_cost, s, l, column_cost));
    FERRY_TRY(add_rows(&far, s, l, apart_term));
    FERRY_TRY(add_rows(&mass, s, l, sampled_mass));
    out->independence = mass > 0 ? far / mass : 0;
    return find_gap(&out->dual_gap, s, l);
}

ferry_status ferry_sinkhorn_result(ferry_potentials *out, ferry_sinkhorn *s)
{
    last l = {0};
    ferry_status status = ferry_agree(s->grid->world, open_last(&l, s));
    if (status == FERRY_OK) status = find_result(out, s, &l);
    close_last(&l);
    return status;
}

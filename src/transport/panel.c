/* Tiles of the plan, in float through the device table, in double by a plain reference.
 *
 * P_ij = 2^s_ij with s_ij = k (f_i + g_j - C_ij), k = log2(e) / epsilon. For linear tiles
 *   s_ij = <x'_i, y_j> + alpha_i + beta_j,  x' = k inv_scale factor x,  alpha_i = k (f_i - inv_scale norm_i), with x
 * scaled panel by panel (24 dim products against 24 dim columns: nothing), so that one packed copy serves every
 * epsilon. alpha and beta are formed in double and rounded once; what rounding took is kept for the solver.
 *
 * One panel needs 4 dim / 24 bytes of y for every pair, which take about as long to come from memory as dim
 * multiply-adds do. Panels that are evaluated together share them; but their own entries, 12 bytes a pair from the
 * evaluation to the column sums, stay in no cache then. So many do it for wide cells, two for narrow ones, and one
 * where y stays in a cache. */
#include "groups_impl.h"
#include <math.h>
#include <string.h>

#define ROWS     FERRY_SOURCE_UNIT
#define COLUMNS  FERRY_TARGET_UNIT
#define TILE     ((int64_t)ROWS * COLUMNS)
#define STREAMED (12 << 20)     /* bytes of y from which it comes from memory, panel by panel */
#define CACHE    (768 * 1024LL) /* of a core's second cache, which rows evaluated together and y may fill */

static bool is_linear(const ferry_cost *cost)
{
    return cost->tile == FERRY_TILE_LINEAR;
}

ferry_status ferry_target_open(ferry_target *out, const ferry_cost *cost)
{
    *out = (ferry_target){.epsilon = 1, .columns = cost->columns};
    if (cost->options.precision == FERRY_DOUBLE) return ferry_alloc(&out->beta_d, cost->columns);
    return ferry_alloc(&out->beta_f, cost->columns);
}
void ferry_target_close(ferry_target *target)
{
    free(target->beta_f);
    free(target->beta_d);
    memset(target, 0, sizeof *target);
}

static double beta_of(const ferry_cost *cost, const double *g, int64_t j, double k)
{
    double part = is_linear(cost) && cost->options.precision == FERRY_FLOAT ? cost->inv_scale * cost->y_norm[j] : 0;
    return k * ((g ? g[j] : 0) - part);
}
void ferry_target_set(ferry_target *target, const ferry_cost *cost, const double *g, double epsilon)
{
    const int64_t present = cost->grid->target_rows;
    const double k = FERRY_LOG2_E / epsilon;
    target->epsilon = epsilon;
    for (int64_t j = 0; j < target->columns; j++) {
        double beta = j < present ? beta_of(cost, g, j, k) : -INFINITY;
        if (target->beta_f) target->beta_f[j] = (float)beta;
        if (target->beta_d) target->beta_d[j] = beta;
    }
}
double ferry_target_residual(const ferry_target *target, const ferry_cost *cost, const double *g, int64_t j)
{
    if (!target->beta_f || !isfinite(target->beta_f[j])) return 0;
    return beta_of(cost, g, j, FERRY_LOG2_E / target->epsilon) - (double)target->beta_f[j];
}

ferry_status ferry_panel_open(ferry_panel *panel, const ferry_cost *cost)
{
    *panel = (ferry_panel){.cost = cost, .units = cost->units, .blocks = cost->blocks, .unit = cost->unit};
    FERRY_AUTO float *f = NULL;
    FERRY_AUTO double *d = NULL;
    FERRY_AUTO double *block_sums = NULL;
    FERRY_AUTO double *block_scores = NULL;
    if (cost->options.precision == FERRY_DOUBLE)
        FERRY_TRY(ferry_alloc(&d, cost->units * TILE));
    else
        FERRY_TRY(ferry_alloc(&f, cost->units * TILE));
    FERRY_TRY(ferry_alloc(&block_sums, (int64_t)cost->blocks * ROWS));
    FERRY_TRY(ferry_alloc(&block_scores, (int64_t)cost->blocks * ROWS));
    FERRY_TRY(ferry_alloc(&panel->x, (int64_t)ROWS * cost->dim));
    panel->f = f;
    panel->d = d;
    panel->block_sums = block_sums;
    panel->block_scores = block_scores;
    f = NULL;
    d = NULL;
    block_sums = block_scores = NULL;
    return FERRY_OK;
}
void ferry_panel_close(ferry_panel *panel)
{
    free(panel->f);
    free(panel->d);
    free(panel->block_sums);
    free(panel->block_scores);
    free(panel->x);
    memset(panel, 0, sizeof *panel);
}
int64_t ferry_panel_bytes(const ferry_cost_options *options, int dim, int64_t target_rows)
{
    const int64_t units = target_rows / COLUMNS + 1;
    const int64_t entry = options->precision == FERRY_DOUBLE ? sizeof(double) : sizeof(float);
    int blocks = ferry_blocks_of(target_rows, COLUMNS).count;
    return units * TILE * entry + 2 * (int64_t)blocks * ROWS * (int64_t)sizeof(double) +
           (int64_t)ROWS * dim * (int64_t)sizeof(float);
}

/* --- float: the device table --- */

/* Rows of a panel as a tile wants them; f NULL: zeros. */
static ferry_tile rows_of(float *x, float *alpha, float *x2, double *residual, const ferry_cost *cost,
                          const ferry_source *source, int64_t index, const double *f, double k)
{
    const double *norm = source->norm + index * ROWS;
    const float *packed = source->f + index * ROWS * cost->dim;
    for (int i = 0; i < ROWS; i++) {
        double part = is_linear(cost) ? cost->inv_scale * norm[i] : 0;
        double exact = k * ((f ? f[i] : 0) - part);
        if (f && index * ROWS + i >= source->rows) exact = -INFINITY;
        alpha[i] = (float)exact;
        residual[i] = isfinite(alpha[i]) ? exact - (double)alpha[i] : 0;
        x2[i] = (float)norm[i];
    }
    ferry_tile tile = {.kind = cost->tile,
                       .dim = cost->dim,
                       .x = packed,
                       .alpha = alpha,
                       .p = cost->options.p,
                       .scale = cost->inv_scale * k,
                       .x2 = x2};
    if (is_linear(cost)) {
        const double scale = cost->inv_scale * cost->factor * k;
        for (int64_t e = 0; e < (int64_t)ROWS * cost->dim; e++) x[e] = (float)(scale * (double)packed[e]);
        tile.x = x;
    }
    return tile;
}

static ferry_tile panel_rows(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                             double epsilon)
{
    return rows_of(panel->x, panel->alpha, panel->x2, panel->residual, panel->cost, source, index, f,
                   FERRY_LOG2_E / epsilon);
}
static void tile_columns(ferry_tile *tile, const ferry_cost *cost, const float *beta, int64_t first, int64_t units)
{
    tile->units = units;
    tile->y = cost->y + first * COLUMNS * cost->dim;
    tile->beta = beta;
    tile->y2 = cost->y2 ? cost->y2 + first * COLUMNS : NULL;
}

/* --- double: the plain reference --- */

/* cost (unscaled) of row x against the 32 columns of unit u */
static void costs_of_unit(double *restrict cost_, const ferry_cost *cost, const double *x, double x2, int64_t u)
{
    const double *y = cost->y_d + u * COLUMNS * cost->dim, *y2 = cost->y_norm + u * COLUMNS;
    const ferry_cost_kind kind = cost->options.kind;
    const double p = cost->options.p;
    double sum[COLUMNS] = {0};
    for (int k = 0; k < cost->dim; k++, y += COLUMNS) switch (kind) {
        case FERRY_COST_SQ_EUCLIDEAN:
        case FERRY_COST_EUCLIDEAN:
        case FERRY_COST_EUCLIDEAN_P:
            for (int j = 0; j < COLUMNS; j++) sum[j] += (x[k] - y[j]) * (x[k] - y[j]);
            break;
        case FERRY_COST_PNORM:
        case FERRY_COST_SQ_PNORM:
            for (int j = 0; j < COLUMNS; j++) sum[j] += p == 1 ? fabs(x[k] - y[j]) : pow(fabs(x[k] - y[j]), p);
            break;
        default:
            for (int j = 0; j < COLUMNS; j++) sum[j] += x[k] * y[j];
        }
    for (int j = 0; j < COLUMNS; j++) {
        const double norms = sqrt(x2) * sqrt(y2[j]);
        switch (kind) {
        case FERRY_COST_SQ_EUCLIDEAN:
            cost_[j] = sum[j];
            break;
        case FERRY_COST_EUCLIDEAN:
            cost_[j] = sqrt(sum[j]);
            break;
        case FERRY_COST_EUCLIDEAN_P:
            cost_[j] = pow(sum[j], p / 2);
            break;
        case FERRY_COST_PNORM:
            cost_[j] = sum[j] / p;
            break;
        case FERRY_COST_SQ_PNORM:
            cost_[j] = pow(sum[j], 2 / p) / 2;
            break;
        case FERRY_COST_DOT:
            cost_[j] = -sum[j];
            break;
        case FERRY_COST_COSINE:
            cost_[j] = 1 - sum[j] / (norms + 1e-8);
            break;
        case FERRY_COST_SPEARMAN:
        case FERRY_COST_CORRELATION:
            cost_[j] = 1 - sum[j];
            break;
        case FERRY_COST_ARCCOS: {
            double c = fmin(fmax(sum[j] / (norms + 1e-8), -1), 1), rest = acos(-c), sine = sqrt(1 - c * c);
            double angular = p == 0 ? rest : p == 1 ? sine + rest * c : 3 * sine * c + rest * (1 + 2 * c * c);
            cost_[j] = -log(pow(norms, p) * angular / M_PI + 1e-8);
            break;
        }
        }
    }
}

/* exponents of row i of the panel against unit u */
static void exponents_of_unit(double *s, const ferry_cost *cost, const ferry_source *source, int64_t index, int i,
                              double alpha, const double *beta, double k, int64_t u)
{
    const int64_t row = index * ROWS + i;
    costs_of_unit(s, cost, source->d + row * cost->dim, source->norm[row], u);
    for (int j = 0; j < COLUMNS; j++) s[j] = alpha + beta[u * COLUMNS + j] - k * cost->inv_scale * s[j];
}
static void rows_double(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f, double k)
{
    for (int i = 0; i < ROWS; i++) {
        panel->alpha_d[i] = index * ROWS + i < source->rows ? k * f[i] : -INFINITY;
        panel->residual[i] = 0;
    }
}
static void scores_double(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                          const ferry_target *target)
{
    const double k = FERRY_LOG2_E / target->epsilon;
    rows_double(panel, source, index, f, k);
    for (int64_t u = 0; u < panel->units; u++)
        for (int i = 0; i < ROWS; i++) {
            double *s = panel->d + u * TILE + i * COLUMNS;
            if (panel->alpha_d[i] == -INFINITY)
                for (int j = 0; j < COLUMNS; j++) s[j] = -INFINITY;
            else
                exponents_of_unit(s, panel->cost, source, index, i, panel->alpha_d[i], target->beta_d, k, u);
        }
}
/* sums [24] over units first ... end - 1; scores [24] += the same of p log2 p, or NULL */
static void plan_double(double *sums, double *scores, ferry_panel *panel, int64_t first, int64_t end)
{
    for (int i = 0; i < ROWS; i++) {
        double sum = 0, score = 0;
        for (int64_t u = first; u < end; u++) {
            double *p = panel->d + u * TILE + i * COLUMNS;
            for (int j = 0; j < COLUMNS; j++) {
                const double exponent = p[j];
                p[j] = exp2(exponent);
                sum += p[j];
                if (p[j] > 0) score += p[j] * exponent;
            }
        }
        sums[i] = sum;
        if (scores) scores[i] += score;
    }
}

/* --- both --- */

/* As many as measured to pay. */
static int64_t panels_that_pay(int dim, int64_t columns)
{
    const int64_t row = (int64_t)dim * (int64_t)sizeof(float), fit = (CACHE / row - 2 * COLUMNS) / ROWS;
    const int64_t wide = dim / 32 > 2 ? dim / 32 : 2;
    if (columns * row < STREAMED) return 1;
    return wide < fit ? wide : fit;
}
int ferry_panels_at_once(const ferry_cost_options *options, int dim, int64_t panels, int64_t columns)
{
    const int64_t threads = options->threads < 1 ? 1 : options->threads, most = (panels + threads - 1) / threads;
    int64_t count = options->panels > 0 ? options->panels : panels_that_pay(dim, columns);
    if (count > FERRY_PANELS_AT_ONCE) count = FERRY_PANELS_AT_ONCE;
    if (count > most) count = most;
    return count < 1 || options->precision == FERRY_DOUBLE ? 1 : (int)count;
}

/* The rows of every panel; where double, exponents already. */
static void begin_panels(ferry_tile *tile, const ferry_panel_rows *rows, int count, const ferry_source *source,
                         const ferry_target *target)
{
    for (int g = 0; g < count; g++) {
        rows[g].panel->pieces = NULL;
        rows[g].panel->masses = NULL;
        if (rows[g].panel->scored)
            memset(rows[g].panel->block_scores, 0, (size_t)rows[g].panel->blocks * ROWS * sizeof(double));
        if (rows[g].panel->d)
            scores_double(rows[g].panel, source, rows[g].index, rows[g].f, target);
        else
            tile[g] = panel_rows(rows[g].panel, source, rows[g].index, rows[g].f, target->epsilon);
    }
}

void ferry_panels_scores(const ferry_panel_rows *rows, int count, const ferry_source *source,
                         const ferry_target *target)
{
    const ferry_cost *cost = rows[0].panel->cost;
    ferry_tile tile[FERRY_PANELS_AT_ONCE];
    begin_panels(tile, rows, count, source, target);
    if (!rows[0].panel->f) return;
    const int64_t step = count > 1 ? 2 : cost->units; /* a tile does not depend on its place in a call */
    for (int64_t u = 0; u < cost->units; u += step)
        for (int g = 0; g < count; g++) {
            tile_columns(&tile[g], cost, target->beta_f + u * COLUMNS, u,
                         cost->units - u < step ? cost->units - u : step);
            cost->options.kernels->scores(rows[g].panel->f + u * TILE, &tile[g]);
        }
}
void ferry_panel_scores(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                        const ferry_target *target)
{
    ferry_panels_scores(&(ferry_panel_rows){panel, index, f}, 1, source, target);
}

/* From exponents. */
static void plan_blocks_double(ferry_panel *panel)
{
    for (int b = 0; b < panel->blocks; b++)
        plan_double(panel->block_sums + (int64_t)b * ROWS,
                    panel->scored ? panel->block_scores + (int64_t)b * ROWS : NULL, panel, panel->unit[b],
                    panel->unit[b + 1]);
}

void ferry_panels_plan(const ferry_panel_rows *rows, int count, const ferry_source *source, const ferry_target *target)
{
    const ferry_cost *cost = rows[0].panel->cost;
    ferry_tile tile[FERRY_PANELS_AT_ONCE];
    double *sums[FERRY_PANELS_AT_ONCE];
    float *plan[FERRY_PANELS_AT_ONCE];
    begin_panels(tile, rows, count, source, target);
    for (int g = 0; g < count; g++) {
        ferry_panel *panel = rows[g].panel;
        if (panel->d) {
            plan_blocks_double(panel);
            continue;
        }
        tile_columns(&tile[g], cost, target->beta_f, 0, panel->units);
        tile[g].scores = panel->scored ? panel->block_scores : NULL;
        sums[g] = panel->block_sums;
        plan[g] = panel->f;
    }
    if (rows[0].panel->f)
        cost->options.kernels->plans(plan, sums, tile, count, rows[0].panel->unit + 1, rows[0].panel->blocks);
}
void ferry_panel_plan(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                      const ferry_target *target)
{
    ferry_panels_plan(&(ferry_panel_rows){panel, index, f}, 1, source, target);
}

void ferry_panel_plan_pieces(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                             const ferry_target *target, const ferry_pieces *pieces, const double *scale)
{
    const ferry_cost *cost = panel->cost;
    ferry_tile tile = panel_rows(panel, source, index, f, target->epsilon);
    double *block = panel->block_sums;
    panel->pieces = pieces;
    panel->masses = NULL;
    memset(panel->block_sums, 0, (size_t)panel->blocks * ROWS * sizeof *panel->block_sums);
    for (int64_t e = 0, b = 0; e < pieces->count; e++) {
        const int64_t first = pieces->unit[2 * e], units = pieces->unit[2 * e + 1];
        double sums[ROWS];
        tile_columns(&tile, cost, target->beta_f + first * COLUMNS, first, units);
        cost->options.kernels->plan(panel->f + first * TILE, sums, &tile);
        for (; first >= panel->unit[b + 1]; b++) block += ROWS;
        for (int i = 0; i < ROWS; i++) block[i] += sums[i] * scale[i];
    }
}

/* The adjacent-pair tree over blocks first ... first + count - 1, count a power of two. */
static void tree(double *sums, const double *block_sums, int count)
{
    if (count <= 1) {
        memcpy(sums, block_sums, ROWS * sizeof *sums);
        return;
    }
    double right[ROWS];
    tree(sums, block_sums, count / 2);
    tree(right, block_sums + (int64_t)(count / 2) * ROWS, count / 2);
    for (int i = 0; i < ROWS; i++) sums[i] += right[i];
}
void ferry_panel_row_sums(double *sums, const ferry_panel *panel)
{
    tree(sums, panel->block_sums, panel->blocks);
}

void ferry_panel_row_max(double *max, ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                         const ferry_target *target)
{
    ferry_panel_scores(panel, source, index, f, target);
    if (panel->f) {
        float top[ROWS];
        panel->cost->options.kernels->row_max(top, panel->f, panel->units);
        for (int i = 0; i < ROWS; i++) max[i] = (double)top[i];
        return;
    }
    for (int i = 0; i < ROWS; i++) {
        max[i] = -INFINITY;
        for (int64_t u = 0; u < panel->units; u++)
            for (int j = 0; j < COLUMNS; j++) max[i] = fmax(max[i], panel->d[u * TILE + i * COLUMNS + j]);
    }
}

/* Units first ... first + units - 1, all of them evaluated. */
static void columns_float(double *c, const ferry_panel *panel, const float *weight, int64_t first, int64_t units)
{
    const ferry_kernels *kernels = panel->cost->options.kernels;
    const float *plan = panel->f + first * TILE;
    if (c) c += first * COLUMNS;
    if (panel->masses)
        kernels->column_masses(c, plan, weight, first, units, panel->masses);
    else
        kernels->column_sums(c, plan, weight, units);
}
/* The same of the pieces among them. */
static void columns_of_pieces(double *c, const ferry_panel *panel, const float *weight, int64_t first, int64_t end)
{
    const ferry_pieces *pieces = panel->pieces;
    for (int64_t e = 0; e < pieces->count && pieces->unit[2 * e] < end; e++) {
        const int64_t start = pieces->unit[2 * e], stop = start + pieces->unit[2 * e + 1];
        const int64_t from = start > first ? start : first, to = stop < end ? stop : end;
        if (from < to) columns_float(c, panel, weight, from, to - from);
    }
}
/* sum [32] of rows from ... to - 1 */
static void sum_double(double sum[COLUMNS], const double *p, const double *q, int from, int to)
{
    memset(sum, 0, COLUMNS * sizeof *sum);
    for (int i = from; i < to; i++)
        for (int j = 0; j < COLUMNS; j++) sum[j] += q[i] * p[i * COLUMNS + j];
}
static void masses_double(const ferry_masses *into, const double *p, const double *q, int64_t unit)
{
    int run = 0;
    while (into->run[run + 1] <= unit) run++;
    for (int s = 0; s < into->segments; s++) {
        double sum[COLUMNS];
        sum_double(sum, p, q, s ? into->end[s - 1] : 0, into->end[s]);
        for (int32_t e = into->part[run]; e < into->part[run + 1]; e++) {
            const bool alone = into->part[run + 1] - into->part[run] == 1;
            double mass = 0;
            for (int j = 0; j < COLUMNS; j++)
                if (alone || into->mask[(int64_t)e * COLUMNS + j] > 0) mass += sum[j];
            into->row[s][into->group[e]] += ferry_exact(mass, into->per_mass);
        }
    }
}
static void columns_double(double *c, const ferry_panel *panel, const double *q, int64_t first, int64_t units)
{
    for (int64_t u = first; u < first + units; u++) {
        double sum[COLUMNS];
        const double *p = panel->d + u * TILE;
        if (panel->masses) masses_double(panel->masses, p, q, u);
        if (!c) continue;
        sum_double(sum, p, q, 0, ROWS);
        for (int j = 0; j < COLUMNS; j++) c[u * COLUMNS + j] += sum[j];
    }
}
void ferry_panel_columns_part(double *c, const ferry_panel *panel, const double *q, int64_t first, int64_t units)
{
    float weight[ROWS];
    for (int i = 0; i < ROWS; i++) weight[i] = (float)q[i];
    if (panel->d)
        columns_double(c, panel, q, first, units);
    else if (panel->pieces)
        columns_of_pieces(c, panel, weight, first, first + units);
    else
        columns_float(c, panel, weight, first, units);
}
void ferry_panel_columns(double *c, const ferry_panel *panel, const double *q)
{
    ferry_panel_columns_part(c, panel, q, 0, panel->units);
}

/* (m, t) of a column takes the 24 exponents in: M = max(m, ceil(max_i s_i)), t = t 2^(m - M) + sum_i 2^(s_i - M) */
static void column_lse_double(double *m, double *t, const double *s, int64_t units)
{
    for (int64_t u = 0; u < units; u++, s += TILE, m += COLUMNS, t += COLUMNS)
        for (int j = 0; j < COLUMNS; j++) {
            double top = m[j], sum = 0;
            for (int i = 0; i < ROWS; i++) top = fmax(top, ceil(s[i * COLUMNS + j]));
            if (top == -INFINITY) continue;
            for (int i = 0; i < ROWS; i++) sum += exp2(s[i * COLUMNS + j] - top);
            t[j] = t[j] * exp2(m[j] - top) + sum;
            m[j] = top;
        }
}
void ferry_panel_join_lse(double *m, double *t, const ferry_panel *panel)
{
    if (panel->f)
        panel->cost->options.kernels->column_lse(m, t, panel->f, panel->units);
    else
        column_lse_double(m, t, panel->d, panel->units);
}
void ferry_panel_column_lse(double *m, double *t, ferry_panel *panel, const ferry_source *source, int64_t index,
                            const double *f, const ferry_target *target)
{
    ferry_panel_scores(panel, source, index, f, target);
    ferry_panel_join_lse(m, t, panel);
}

/* With f = 0, beta = -inv_scale norm_j and k = 1 the exponents are the negative costs. */
void ferry_cost_slice(double *values, float *x, const ferry_cost *cost, const ferry_source *source, int64_t index,
                      int64_t first, int64_t units)
{
    const int64_t width = units * COLUMNS;
    if (cost->options.precision == FERRY_DOUBLE) {
        for (int i = 0; i < ROWS; i++)
            for (int64_t u = 0; u < units; u++) {
                const int64_t row = index * ROWS + i;
                double *v = values + i * width + u * COLUMNS;
                costs_of_unit(v, cost, source->d + row * cost->dim, source->norm[row], first + u);
                for (int j = 0; j < COLUMNS; j++) v[j] *= cost->inv_scale;
            }
        return;
    }
    float s[FERRY_SLICE_UNITS * TILE], beta[FERRY_SLICE_UNITS * COLUMNS], alpha[ROWS], x2[ROWS];
    double residual[ROWS];
    ferry_tile tile = rows_of(x, alpha, x2, residual, cost, source, index, NULL, 1);
    for (int64_t j = 0; j < width; j++) beta[j] = (float)beta_of(cost, NULL, first * COLUMNS + j, 1);
    tile_columns(&tile, cost, beta, first, units);
    cost->options.kernels->scores(s, &tile);
    for (int64_t u = 0; u < units; u++)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                values[i * width + u * COLUMNS + j] = -(double)s[u * TILE + i * COLUMNS + j];
}

void ferry_panel_costs(double *values, ferry_panel *panel, const ferry_source *source, int64_t index)
{
    double slice[ROWS * FERRY_SLICE_UNITS * COLUMNS];
    const int64_t width = panel->units * COLUMNS;
    for (int64_t first = 0; first < panel->units; first += FERRY_SLICE_UNITS) {
        int64_t units = panel->units - first < FERRY_SLICE_UNITS ? panel->units - first : FERRY_SLICE_UNITS;
        ferry_cost_slice(slice, panel->x, panel->cost, source, index, first, units);
        for (int i = 0; i < ROWS; i++)
            memcpy(values + i * width + first * COLUMNS, slice + i * units * COLUMNS,
                   (size_t)(units * COLUMNS) * sizeof *values);
    }
}

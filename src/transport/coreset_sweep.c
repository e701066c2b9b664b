/* All cells of a side against a few of the other, which every rank holds: a cost of their own, one rank's, in which the
 * few are the target side and panels of the many pass by as rows. Costs are symmetric, so that either side may pass. */
#include "coreset_impl.h"
#include "mpi/exchange.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT

typedef struct sweep {
    const ferry_side *side;
    ferry_world alone;
    ferry_grid grid;
    ferry_cost *cost; /* the few as targets */
    ferry_target target;
    ferry_panel *panel;   /* [threads] */
    ferry_matrix *matrix; /* [threads] rows of a panel */
    double *row;          /* [threads][dim] */
    int threads, step;    /* rows that a panel takes */
    int64_t panels;
} sweep;

/* Collective (a world of one rank is split off). */
static ferry_status open_sweep(sweep *s, const ferry_side *side, const ferry_few *few, const double *g, double epsilon,
                               int step)
{
    const ferry_cost *whole = side->cost;
    ferry_cost_options options = whole->options;
    s->side = side;
    s->threads = options.threads < 1 ? 1 : options.threads;
    s->step = step;
    s->panels = (side->count + step - 1) / step;
    options.scale = FERRY_SCALE_NUMBER;
    options.scale_number = 1 / whole->inv_scale;
    FERRY_TRY(ferry_world_split(&s->alone, whole->grid->world, whole->grid->world->rank, 0));
    ferry_status status = ferry_grid_open(&s->grid, &s->alone, 1, 1, ROWS, few->count);
    if (status == FERRY_OK) status = ferry_cost_open_target(&s->cost, &s->grid, &few->rows, &options, whole->inv_scale);
    if (status == FERRY_OK) status = ferry_target_open(&s->target, s->cost);
    if (status == FERRY_OK) ferry_target_set(&s->target, s->cost, g, epsilon);
    if (status == FERRY_OK) status = ferry_alloc(&s->panel, s->threads);
    if (status == FERRY_OK) status = ferry_alloc(&s->matrix, s->threads);
    if (status == FERRY_OK) status = ferry_alloc(&s->row, (int64_t)s->threads * whole->dim);
    for (int t = 0; t < s->threads && status == FERRY_OK; t++) {
        status = ferry_panel_open(&s->panel[t], s->cost);
        if (status == FERRY_OK) status = ferry_matrix_open(&s->matrix[t], ROWS, whole->dim, options.precision);
    }
    return ferry_agree(whole->grid->world, status);
}
static void close_sweep(sweep *s)
{
    for (int t = 0; t < s->threads && s->panel; t++) ferry_panel_close(&s->panel[t]);
    for (int t = 0; t < s->threads && s->matrix; t++) ferry_matrix_close(&s->matrix[t]);
    free(s->panel);
    free(s->matrix);
    free(s->row);
    ferry_target_close(&s->target);
    ferry_cost_close(&s->cost);
    ferry_grid_close(&s->grid);
    ferry_world_close(&s->alone);
}

/* Local. Rows of panel p, ready for this sweep's cost; returns how many. */
static ferry_status panel_rows(ferry_source *out, int *present, const sweep *s, int64_t p, int thread)
{
    const ferry_cost *whole = s->side->cost;
    const int64_t first = p * s->step, left = s->side->count - first;
    const int dim = whole->dim;
    double *row = s->row + (int64_t)thread * dim;
    ferry_matrix *matrix = &s->matrix[thread];
    *present = (int)(left < s->step ? left : s->step);
    for (int i = 0; i < *present; i++) {
        (s->side->target ? ferry_target_row : ferry_source_row)(row, whole, s->side->from + first + i);
        for (int k = 0; k < dim; k++) {
            const double value = row[k] + whole->centre[k];
            if (matrix->d)
                matrix->d[i * dim + k] = value;
            else
                matrix->f[i * dim + k] = (float)value;
        }
    }
    matrix->rows = *present;
    ferry_status status = ferry_source_open(out, s->cost, matrix);
    matrix->rows = ROWS;
    return status;
}

/* --- extension --- */

/* Local. h of the panel's rows into out. */
static ferry_status extend_panel(double *out, const sweep *s, double epsilon, int64_t p, int thread)
{
    const ferry_side *side = s->side;
    const double *weight = side->weight + side->from + p * s->step;
    ferry_source source = {0};
    double f[ROWS], max[ROWS], sums[ROWS];
    int present;
    FERRY_TRY(panel_rows(&source, &present, s, p, thread));
    for (int i = 0; i < ROWS; i++) f[i] = i < present && weight[i] > 0 ? 0 : -INFINITY;
    ferry_panel_row_max(max, &s->panel[thread], &source, 0, f, &s->target);
    for (int i = 0; i < present; i++)
        if (f[i] == 0) f[i] = -epsilon / FERRY_LOG2_E * max[i];
    ferry_panel_plan(&s->panel[thread], &source, 0, f, &s->target);
    ferry_panel_row_sums(sums, &s->panel[thread]);
    for (int i = 0; i < present; i++)
        out[i] = f[i] == -INFINITY ? f[i] : side->tau * (epsilon * log(weight[i] / sums[i]) + f[i]);
    ferry_source_close(&source);
    return FERRY_OK;
}

/* Local. mine [side->count] */
static ferry_status extend_share(double *mine, const sweep *s, double epsilon)
{
    ferry_status status = FERRY_OK;
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int64_t p = 0; p < s->panels; p++) {
        const ferry_status done = extend_panel(mine + p * s->step, s, epsilon, p, omp_get_thread_num());
        if (done == FERRY_OK) continue;
#pragma omp critical(ferry_coreset)
        status = done;
    }
    return status;
}

/* Collective. */
static ferry_status extend(double *h, const ferry_side *side, const sweep *s, double epsilon)
{
    const ferry_world *world = side->cost->grid->world;
    FERRY_AUTO double *mine = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    FERRY_AUTO int64_t *ones = NULL;
    ferry_status status = ferry_alloc(&mine, side->count);
    if (status == FERRY_OK) status = ferry_alloc(&counts, side->same->size);
    if (status == FERRY_OK) status = ferry_alloc(&ones, side->same->size);
    if (status == FERRY_OK) status = extend_share(mine, s, epsilon);
    FERRY_TRY(ferry_agree(world, status));
    for (int r = 0; r < side->same->size; r++) ones[r] = 1;
    ferry_gather_all(side->same, &side->count, ones, counts, sizeof side->count);
    ferry_gather_all(side->same, mine, counts, h, sizeof *h);
    return FERRY_OK;
}
ferry_status ferry_extend(double *h, const ferry_side *side, const ferry_few *few, const double *g, double epsilon)
{
    sweep s = {0};
    ferry_status status = open_sweep(&s, side, few, g, epsilon, ROWS);
    if (status == FERRY_OK) status = extend(h, side, &s, epsilon);
    close_sweep(&s);
    return status;
}

/* --- marginals --- */

/* What one thread adds up, as whole numbers. */
typedef struct tally {
    int64_t *sums; /* [columns] */
    double *c;     /* [columns] of one panel */
    int64_t cost;
} tally;

/* <P, C> = sum P (h + g) - epsilon sum P log P; the part of g is the caller's. */
static ferry_status add_panel(tally *t, const sweep *s, const double *h, double epsilon, double units, int64_t p,
                              int thread)
{
    ferry_panel *panel = &s->panel[thread];
    ferry_source source = {0};
    double f[ROWS], q[ROWS], bits = 0;
    int present;
    FERRY_TRY(panel_rows(&source, &present, s, p, thread));
    for (int i = 0; i < ROWS; i++) f[i] = i < present ? h[s->side->from + p * s->step + i] : -INFINITY;
    panel->scored = true;
    ferry_panel_plan(panel, &source, 0, f, &s->target);
    memset(t->c, 0, (size_t)s->cost->columns * sizeof *t->c);
    for (int i = 0; i < ROWS; i++) q[i] = f[i] == -INFINITY ? 0 : exp2(panel->residual[i]);
    ferry_panel_columns(t->c, panel, q);
    for (int64_t j = 0; j < s->grid.target_rows; j++) t->sums[j] += ferry_exact(t->c[j], units);
    for (int i = 0; i < present; i++) {
        double sum = 0, score = 0;
        if (f[i] == -INFINITY) continue;
        for (int b = 0; b < panel->blocks; b++) {
            sum += panel->block_sums[b * ROWS + i];
            score += panel->block_scores[b * ROWS + i];
        }
        bits += q[i] * (sum * (f[i] * FERRY_LOG2_E / epsilon - panel->residual[i]) - score);
    }
    t->cost += ferry_exact(bits, units);
    ferry_source_close(&source);
    return FERRY_OK;
}

/* Local. */
static ferry_status add_share(tally *tallies, const sweep *s, const double *h, double epsilon, double units)
{
    ferry_status status = FERRY_OK;
    for (int t = 0; t < s->threads; t++) {
        FERRY_TRY(ferry_alloc(&tallies[t].sums, s->cost->columns));
        FERRY_TRY(ferry_alloc(&tallies[t].c, s->cost->columns));
    }
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int64_t p = 0; p < s->panels; p++) {
        const int t = omp_get_thread_num();
        const ferry_status done = add_panel(&tallies[t], s, h, epsilon, units, p, t);
        if (done == FERRY_OK) continue;
#pragma omp critical(ferry_coreset)
        status = done;
    }
    for (int t = 1; t < s->threads; t++) {
        tallies[0].cost += tallies[t].cost;
        for (int64_t j = 0; j < s->cost->columns; j++) tallies[0].sums[j] += tallies[t].sums[j];
    }
    return status;
}

/* Collective. */
static ferry_status add_up(ferry_marginal *out, tally *tallies, const sweep *s, const double *h, const double *g,
                           double epsilon, double total)
{
    const ferry_world *world = s->side->cost->grid->world;
    const int64_t count = s->grid.target_rows;
    const double units = ferry_exact_units(64 * total);
    ferry_status status = ferry_alloc(&out->sums, count);
    if (status == FERRY_OK) status = add_share(tallies, s, h, epsilon, units);
    FERRY_TRY(ferry_agree(world, status));
    ferry_total_counts(world, tallies[0].sums, count);
    ferry_total_counts(world, &tallies[0].cost, 1);
    out->cost = (double)tallies[0].cost / units * epsilon / FERRY_LOG2_E;
    for (int64_t j = 0; j < count; j++) {
        out->sums[j] = (double)tallies[0].sums[j] / units * exp2(ferry_target_residual(&s->target, s->cost, g, j));
        if (isfinite(g[j])) out->cost += out->sums[j] * g[j];
    }
    return FERRY_OK;
}
ferry_status ferry_few_marginal(ferry_marginal *out, const ferry_side *side, const double *h, const ferry_few *few,
                                const double *g, double epsilon, double total)
{
    sweep s = {0};
    tally *tallies = NULL;
    *out = (ferry_marginal){0};
    /* rows of a panel: such that panels begin at the same cells for every layout */
    ferry_status status = open_sweep(&s, side, few, g, epsilon, side->target ? COLUMNS / 2 : ROWS);
    if (status == FERRY_OK) status = ferry_agree(side->cost->grid->world, ferry_alloc(&tallies, s.threads));
    if (status == FERRY_OK) status = add_up(out, tallies, &s, h, g, epsilon, total);
    for (int t = 0; t < s.threads && tallies; t++) {
        free(tallies[t].sums);
        free(tallies[t].c);
    }
    free(tallies);
    close_sweep(&s);
    if (status != FERRY_OK) {
        free(out->sums);
        out->sums = NULL;
    }
    return status;
}

int64_t ferry_sweep_bytes(const ferry_cost_options *options, int dim, int64_t few)
{
    const int64_t threads = options->threads < 1 ? 1 : options->threads, columns = few + COLUMNS;
    return ferry_cost_bytes(options, dim, 0, few, 1) +
           threads * (ferry_panel_bytes(options, dim, few) + 16 * columns + (int64_t)16 * ROWS * dim) + 8 * columns;
}

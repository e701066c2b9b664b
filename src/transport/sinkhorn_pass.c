/* Once over all pairs.
 *
 * A panel of 24 rows is evaluated at reference potentials, its row sums give the new potentials and weights
 * q_i = 2^(log2(e) (f_i - reference_i) / epsilon), and while the panel is still in cache c_j += sum_i q_i P_ij.
 *
 * One grid column: every thread takes whole canonical source blocks; nothing else is shared.
 * Several grid columns: row sums lack the other columns' part, so batches of panels are kept: their sums by canonical
 * target blocks go through the tree of the grid row, then the second sweep adds the columns. All ranks of a grid row
 * have equally many batches and come to the same decisions, because reduced sums are the same bits on all of them.
 *
 * Safety (no running maximum): a sum of 0, infinity or NaN lowers that row's reference by its largest exponent; a
 * potential that moves far has its panel evaluated again at the new place, so that nothing underflows in float. */
#include "groups_impl.h"
#include "sinkhorn_impl.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define ROWS        FERRY_SOURCE_UNIT
#define COLUMNS     FERRY_TARGET_UNIT
#define BATCH_BYTES ((int64_t)64 << 20) /* panels kept between the two sweeps where the grid has several columns */
#define MOST_ROUNDS 4

/* Panels of a batch: from the whole problem alone, so that all ranks of a grid row agree. */
static int batch_panels(const ferry_cost_options *options, int dim, int64_t targets, int grid_cols, int64_t panels)
{
    const int64_t columns = targets / grid_cols + targets / grid_cols / 8 + COLUMNS;
    const int64_t least = 2 * (options->threads < 1 ? 1 : options->threads);
    int64_t batch = BATCH_BYTES / ferry_panel_bytes(options, dim, columns);
    if (batch < least) batch = least;
    if (batch > panels) batch = panels;
    return (int)(batch < 1 ? 1 : batch);
}

ferry_status ferry_sinkhorn_open_passes(ferry_sinkhorn *s)
{
    const ferry_grid *grid = s->grid;
    const ferry_cost_options *o = ferry_cost_options_of(s->cost);
    s->batch = batch_panels(o, s->cost->dim, grid->target.blocks.rows, grid->cols, s->source->panels);
    const int count = grid->cols == 1 ? s->threads : s->batch;
    FERRY_TRY(ferry_alloc(&s->panel, count));
    for (s->panels = 0; s->panels < count; s->panels++) FERRY_TRY(ferry_panel_open(&s->panel[s->panels], s->cost));
    FERRY_TRY(ferry_alloc(&s->leaf, 2 * s->columns * s->threads));
    FERRY_TRY(ferry_alloc(&s->reference, (int64_t)s->batch * ROWS));
    FERRY_TRY(ferry_alloc(&s->q, (int64_t)s->batch * ROWS));
    FERRY_TRY(ferry_target_open(&s->target, s->cost));
    return ferry_forest_open(&s->forest, s->columns, grid->source.blocks.count, FERRY_JOIN_SUM);
}

void ferry_sinkhorn_close_passes(ferry_sinkhorn *s)
{
    for (int p = 0; p < s->panels; p++) ferry_panel_close(&s->panel[p]);
    free(s->panel);
    free(s->leaf);
    free(s->reference);
    free(s->q);
    ferry_target_close(&s->target);
    ferry_forest_close(&s->forest);
}

int64_t ferry_sinkhorn_pass_bytes(const ferry_cost_options *options, int dim, int64_t sources, int64_t targets,
                                  int64_t source_rows, int64_t target_rows, int grid_cols)
{
    const int threads = options->threads < 1 ? 1 : options->threads;
    const int64_t columns = target_rows + COLUMNS, panels = (source_rows + ROWS - 1) / ROWS;
    const int64_t target_blocks = ferry_blocks_of(targets, COLUMNS).count;
    const ferry_blocks blocks = ferry_blocks_of(sources, ROWS);
    const int64_t mine = sources > 0 ? (blocks.count * source_rows + sources - 1) / sources + 1 : 1;
    const int on_rank = mine > blocks.count ? blocks.count : (int)mine;
    const int batch = grid_cols == 1 ? 0 : batch_panels(options, dim, targets, grid_cols, panels);
    int64_t bytes = (grid_cols == 1 ? threads : batch) * ferry_panel_bytes(options, dim, target_rows);
    bytes += 2 * columns * threads * (int64_t)sizeof(double) + columns * (int64_t)sizeof(double);
    /* the column sums' forest, or the one of the first pass: exponents and sums, out and in */
    bytes += ferry_forest_bytes(2 * columns, blocks.count, on_rank) + 2 * columns * (int64_t)sizeof(double);
    /* row sums of a batch through the tree of the grid row */
    bytes += (int64_t)FERRY_ROW_SUMS * batch * ROWS * (int64_t)sizeof(double) * (2 * target_blocks / (grid_cols) + 40);
    return bytes;
}

static bool bad(double sum)
{
    return !(sum > 0 && sum < INFINITY);
}

/* Rows without a usable sum go down to where their largest exponent is 0. */
static void lower(double *reference, const double *sums, const double *max, double epsilon)
{
    for (int i = 0; i < ROWS; i++)
        if (reference[i] != -INFINITY && bad(sums[i]) && isfinite(max[i]))
            reference[i] -= epsilon / FERRY_LOG2_E * max[i];
}

/* units [24] times sums [24] of the rows over a part of the targets, under the rows' groups: rows [24] are where those
 * begin in Q. */
static void count_part(int64_t *const *row, int rows, const double *units, const double *sums, int32_t group)
{
    int64_t whole[ROWS];
    for (int i = 0; i < ROWS; i++) whole[i] = ferry_exact_part(sums[i], units[i]);
    for (int i = 0; i < rows; i++) row[i][group] += whole[i];
}

/* The mass of a panel between groups. The last part of a unit that holds several is what the others leave. */
static void add_aggregate(ferry_sinkhorn *s, const ferry_panel *panel, int64_t index, const double *q, int thread)
{
    const ferry_aggregate *a = s->aggregate;
    if (!a) return;
    const ferry_groups *groups = a->groups;
    const int rows = (int)(s->sources - index * ROWS < ROWS ? s->sources - index * ROWS : ROWS);
    int64_t *row[ROWS] = {0};
    double units[ROWS];
    for (int i = 0; i < ROWS; i++) units[i] = q[i] * a->units;
    for (int i = 0; i < rows; i++)
        row[i] = a->sums + thread * a->size + (int64_t)groups->group[index * ROWS + i] * groups->count;
    for (int r = 0; r < s->cost->runs; r++) {
        double left[ROWS], part[ROWS];
        const int last = groups->run_part[r + 1] - 1;
        memcpy(left, panel->run_sums + (int64_t)r * ROWS, sizeof left);
        for (int p = groups->run_part[r]; p < last; p++) {
            ferry_panel_part_sums(part, panel, s->cost->run[r], groups->part_mask + (int64_t)p * COLUMNS);
            for (int i = 0; i < ROWS; i++) left[i] = left[i] > part[i] ? left[i] - part[i] : 0;
            count_part(row, rows, units, part, groups->part_group[p]);
        }
        count_part(row, rows, units, left, groups->part_group[last]);
    }
}

/* --- one grid column --- */

/* One panel from evaluation to column sums c [columns]; sums: room for [blocks][width][24]. */
static void whole_panel(double *c, ferry_sinkhorn *s, const ferry_row_work *work, ferry_panel *panel, int64_t index,
                        double *sums)
{
    double reference[ROWS], q[ROWS], max[ROWS];
    memcpy(reference, s->f + index * ROWS, sizeof reference);
    for (int round = 0;; round++) {
        work->evaluate(sums, work, s, panel, index, reference);
        ferry_canonical_tree(sums, panel->blocks, (int64_t)work->width * ROWS);
        ferry_again again = work->finish(q, work, s, panel, index, reference, sums, round);
        if (again == FERRY_ROWS_DONE) break;
        if (again == FERRY_ROWS_AT_MAX) {
            ferry_panel_row_max(max, panel, s->source, index, reference, &s->target);
            lower(reference, sums, max, s->epsilon);
        }
    }
    if (work->columns) ferry_panel_columns(c, panel, q);
    add_aggregate(s, panel, index, q, omp_get_thread_num());
}

/* Panels of a canonical source block, counted from this rank's first. */
static void block_panels(int64_t *first, int64_t *end, const ferry_grid *grid, int block)
{
    *first = (ferry_block_first(&grid->source.blocks, block) - grid->source_first) / ROWS;
    *end = (ferry_block_first(&grid->source.blocks, block + 1) - grid->source_first + ROWS - 1) / ROWS;
}

/* A finished vector becomes a leaf; called by one thread at a time. */
static ferry_status plant(ferry_forest *forest, const double *values, int64_t width, int block)
{
    double *leaf;
    FERRY_TRY(ferry_forest_leaf(&leaf, forest));
    memcpy(leaf, values, (size_t)width * sizeof *leaf);
    ferry_forest_add(forest, block);
    return FERRY_OK;
}

/* Local. All source blocks of this rank. */
static ferry_status pass_blocks(ferry_sinkhorn *s, const ferry_row_work *work)
{
    const ferry_grid *grid = s->grid;
    const int first = grid->source.block[grid->row], last = grid->source.block[grid->row + 1];
    const int64_t room = (int64_t)s->cost->blocks * work->width * ROWS;
    FERRY_AUTO double *sums = NULL;
    FERRY_TRY(ferry_alloc(&sums, room * s->threads));
    ferry_status status = FERRY_OK;
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int b = first; b < last; b++) {
        const int t = omp_get_thread_num();
        double *c = s->leaf + 2 * s->columns * t;
        int64_t panel, end;
        memset(c, 0, (size_t)s->columns * sizeof *c);
        block_panels(&panel, &end, grid, b);
        for (; panel < end; panel++) whole_panel(c, s, work, &s->panel[t], panel, sums + room * t);
        if (!work->columns) continue;
#pragma omp critical(ferry_sinkhorn)
        {
            ferry_status planted = plant(s->forest, c, s->columns, b);
            if (planted != FERRY_OK) status = planted;
        }
    }
    return status;
}

/* --- several grid columns --- */

/* What a batch needs beside the panels. */
typedef struct batch {
    int64_t first, count, room; /* panels; numbers per panel in block_sums */
    double *block_sums;         /* [batch][blocks][width][24] */
    double *sums;               /* [batch][width][24] over all columns */
    double *max;                /* [batch][24] */
    ferry_again *again;         /* [batch] */
    ferry_forest *forest;       /* over target blocks */
} batch;

static void free_batch(batch *k)
{
    free(k->block_sums);
    free(k->sums);
    free(k->max);
    free(k->again);
    ferry_forest_close(&k->forest);
}
static ferry_status open_batch(batch *k, const ferry_sinkhorn *s, const ferry_row_work *work)
{
    const int64_t width = (int64_t)work->width * ROWS;
    k->room = s->cost->blocks * width;
    FERRY_TRY(ferry_alloc(&k->block_sums, k->room * s->batch));
    FERRY_TRY(ferry_alloc(&k->sums, width * s->batch));
    FERRY_TRY(ferry_alloc(&k->max, (int64_t)s->batch * ROWS));
    FERRY_TRY(ferry_alloc(&k->again, s->batch));
    return ferry_forest_open(&k->forest, width * s->batch, s->grid->target.blocks.count, FERRY_JOIN_SUM);
}

/* Panels that are not done yet, at their references. */
static void evaluate_batch(batch *k, ferry_sinkhorn *s, const ferry_row_work *work)
{
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t p = 0; p < k->count; p++)
        if (k->again[p] != FERRY_ROWS_DONE)
            work->evaluate(k->block_sums + p * k->room, work, s, &s->panel[p], k->first + p, s->reference + p * ROWS);
}

/* Local. Block sums of the batch into the forest. */
static ferry_status plant_batch(batch *k, const ferry_sinkhorn *s, const ferry_row_work *work)
{
    const int64_t width = (int64_t)work->width * ROWS;
    for (int b = 0; b < s->cost->blocks; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, k->forest));
        for (int64_t p = 0; p < k->count; p++)
            memcpy(leaf + p * width, k->block_sums + p * k->room + b * width, (size_t)width * sizeof *leaf);
        ferry_forest_add(k->forest, s->grid->target.block[s->grid->col] + b);
    }
    return FERRY_OK;
}

/* Collective over the grid row. References of rows without a usable sum go down by their largest exponents. */
static void lower_batch(batch *k, ferry_sinkhorn *s, const ferry_row_work *work)
{
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t p = 0; p < k->count; p++)
        if (k->again[p] == FERRY_ROWS_AT_MAX)
            ferry_panel_row_max(k->max + p * ROWS, &s->panel[p], s->source, k->first + p, s->reference + p * ROWS,
                                &s->target);
        else
            for (int i = 0; i < ROWS; i++) k->max[p * ROWS + i] = -INFINITY;
    ferry_max_doubles(&s->grid->across, k->max, k->count * ROWS);
    for (int64_t p = 0; p < k->count; p++)
        if (k->again[p] == FERRY_ROWS_AT_MAX)
            lower(s->reference + p * ROWS, k->sums + p * work->width * ROWS, k->max + p * ROWS, s->epsilon);
}

/* Collective over the grid row. Rows of the batch from evaluation to q. */
static ferry_status batch_rows(batch *k, ferry_sinkhorn *s, const ferry_row_work *work)
{
    memcpy(s->reference, s->f + k->first * ROWS, (size_t)(k->count * ROWS) * sizeof *s->reference);
    for (int64_t p = 0; p < k->count; p++) k->again[p] = FERRY_ROWS_AGAIN;
    for (int round = 0;; round++) {
        int most = FERRY_ROWS_DONE;
        evaluate_batch(k, s, work);
        FERRY_TRY(ferry_agree(&s->grid->across, plant_batch(k, s, work)));
        FERRY_TRY(ferry_forest_reduce(k->sums, k->forest, &s->grid->across, s->cost->options.reduction));
        for (int64_t p = 0; p < k->count; p++) {
            if (k->again[p] == FERRY_ROWS_DONE) continue;
            k->again[p] = work->finish(s->q + p * ROWS, work, s, &s->panel[p], k->first + p, s->reference + p * ROWS,
                                       k->sums + p * work->width * ROWS, round);
            if ((int)k->again[p] > most) most = (int)k->again[p];
        }
        if (most == FERRY_ROWS_DONE) return FERRY_OK;
        if (most == FERRY_ROWS_AT_MAX) lower_batch(k, s, work);
    }
}

/* Local. Panels first ... end - 1, of one canonical block, add their columns to c; threads share the columns. */
static void batch_columns(double *c, ferry_sinkhorn *s, const batch *k, int64_t first, int64_t end)
{
    const int64_t *unit = s->cost->unit;
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int b = 0; b < s->cost->blocks; b++)
        for (int64_t p = first; p < end; p++)
            ferry_panel_columns_part(c, &s->panel[p - k->first], s->q + (p - k->first) * ROWS, unit[b],
                                     unit[b + 1] - unit[b]);
}

/* Local. The second sweep; *block is the canonical block that is being added up in s->leaf. */
static ferry_status sweep_columns(ferry_sinkhorn *s, const batch *k, int *block)
{
    for (int64_t p = k->first; p < k->first + k->count;) {
        int64_t first, end;
        block_panels(&first, &end, s->grid, *block);
        const int64_t stop = end < k->first + k->count ? end : k->first + k->count;
        if (p == first) memset(s->leaf, 0, (size_t)s->columns * sizeof *s->leaf);
        batch_columns(s->leaf, s, k, p, stop);
        for (int64_t i = p; i < stop; i++)
            add_aggregate(s, &s->panel[i - k->first], i, s->q + (i - k->first) * ROWS, 0);
        if (stop == end) FERRY_TRY(plant(s->forest, s->leaf, s->columns, (*block)++));
        p = stop;
    }
    return FERRY_OK;
}

/* Collective over the grid row: all its ranks have the same rows, so the same batches. */
static ferry_status pass_batches(ferry_sinkhorn *s, const ferry_row_work *work)
{
    batch k = {0};
    int block = s->grid->source.block[s->grid->row];
    ferry_status status = ferry_agree(&s->grid->across, open_batch(&k, s, work)), kept = FERRY_OK;
    for (k.first = 0; k.first < s->source->panels && status == FERRY_OK; k.first += s->batch) {
        const int64_t left = s->source->panels - k.first;
        k.count = left < s->batch ? left : s->batch;
        status = batch_rows(&k, s, work);
        if (status == FERRY_OK && work->columns && kept == FERRY_OK) kept = sweep_columns(s, &k, &block);
    }
    free_batch(&k);
    return status != FERRY_OK ? status : kept;
}

ferry_status ferry_sinkhorn_pass(double *c, ferry_sinkhorn *s, const ferry_row_work *work)
{
    s->passes++;
    FERRY_TRY(ferry_agree(s->grid->world, s->grid->cols == 1 ? pass_blocks(s, work) : pass_batches(s, work)));
    if (!work->columns) return FERRY_OK;
    ferry_status status = ferry_forest_reduce(c, s->forest, &s->grid->down, s->cost->options.reduction);
    return s->grid->cols == 1 ? status : ferry_agree(s->grid->world, status); /* one column: down is the world */
}

/* --- one iteration --- */

static void evaluate_plan(double *sums, const ferry_row_work *work, ferry_sinkhorn *s, ferry_panel *panel,
                          int64_t index, const double *reference)
{
    (void)work;
    ferry_panel_plan(panel, s->source, index, reference, &s->target);
    memcpy(sums, panel->block_sums, (size_t)panel->blocks * ROWS * sizeof *sums);
}

/* L_i = epsilon log r_i - reference_i;  f' = tau_a (epsilon log a_i - L_i);  f = (1 - w) f + w f' */
static ferry_again finish_plan(double *q, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel *panel,
                               int64_t index, double *reference, const double *sums, int round)
{
    (void)work;
    const double k = FERRY_LOG2_E / s->epsilon, far = panel->f ? 32 : 512;
    const int64_t first = index * ROWS;
    double raw[ROWS], f[ROWS], r[ROWS];
    ferry_again again = FERRY_ROWS_DONE;
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = first + i;
        f[i] = raw[i] = -INFINITY;
        r[i] = 0;
        if (reference[i] == -INFINITY) continue;
        if (bad(sums[i]) && round < 2) again = FERRY_ROWS_AT_MAX;
        r[i] = sums[i] * exp2(panel->residual[i]);
        raw[i] = s->tau_a * (s->epsilon * (log(s->a[row]) - log(r[i])) + reference[i]); /* a / r may overflow */
        f[i] = s->weight == 1 ? raw[i] : s->f[row] + s->weight * (raw[i] - s->f[row]);
    }
    if (again != FERRY_ROWS_DONE) return again;
    for (int i = 0; i < ROWS && round < MOST_ROUNDS - 1; i++)
        if (reference[i] != -INFINITY && fabs(k * (f[i] - reference[i])) > far) {
            reference[i] = f[i];
            again = FERRY_ROWS_AGAIN;
        }
    if (again != FERRY_ROWS_DONE) return again;
    for (int i = 0; i < ROWS; i++) {
        const double move = reference[i] == -INFINITY ? 0 : exp2(k * (f[i] - reference[i]));
        q[i] = move * exp2(panel->residual[i]);
        if (reference[i] == -INFINITY) q[i] = 0;
        s->f[first + i] = f[i];
        s->r[first + i] = move * r[i];
        if (s->raw) s->raw[first + i] = raw[i];
    }
    return FERRY_ROWS_DONE;
}

/* c_j gains what rounding took from beta_j. */
static void correct_columns(ferry_sinkhorn *s, double *c)
{
    for (int64_t j = 0; j < s->targets; j++) c[j] *= exp2(ferry_target_residual(&s->target, s->cost, s->g, j));
}

ferry_status ferry_sinkhorn_iterate(ferry_sinkhorn *s)
{
    const ferry_row_work work = {.width = 1, .columns = true, .evaluate = evaluate_plan, .finish = finish_plan};
    ferry_target_set(&s->target, s->cost, s->g, s->epsilon);
    FERRY_TRY(ferry_sinkhorn_pass(s->c, s, &work));
    correct_columns(s, s->c);
    return FERRY_OK;
}

/* --- column log-sum-exp --- */

/* Local. */
static ferry_status lse_blocks(ferry_forest *forest, ferry_sinkhorn *s)
{
    const ferry_grid *grid = s->grid;
    const int first = grid->source.block[grid->row], last = grid->source.block[grid->row + 1];
    const int threads = s->threads < s->panels ? s->threads : s->panels;
    ferry_status status = FERRY_OK;
    (void)threads; /* where OpenMP is off */
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int b = first; b < last; b++) {
        const int thread = omp_get_thread_num();
        double *m = s->leaf + 2 * s->columns * thread, *t = m + s->columns;
        int64_t panel, end;
        for (int64_t j = 0; j < s->columns; j++) m[j] = -INFINITY;
        memset(t, 0, (size_t)s->columns * sizeof *t);
        block_panels(&panel, &end, grid, b);
        for (; panel < end; panel++)
            ferry_panel_column_lse(m, t, &s->panel[thread], s->source, panel, s->f + panel * ROWS, &s->target);
#pragma omp critical(ferry_sinkhorn)
        {
            ferry_status planted = plant(forest, m, 2 * s->columns, b);
            if (planted != FERRY_OK) status = planted;
        }
    }
    return status;
}

ferry_status ferry_sinkhorn_column_lse(double *lse, ferry_sinkhorn *s)
{
    ferry_forest *forest = NULL;
    FERRY_AUTO double *pairs = NULL;
    s->passes++;
    ferry_target_set(&s->target, s->cost, NULL, s->epsilon);
    ferry_status status = ferry_alloc(&pairs, 2 * s->columns);
    if (status == FERRY_OK)
        status = ferry_forest_open(&forest, 2 * s->columns, s->grid->source.blocks.count, FERRY_JOIN_LSE);
    if (status == FERRY_OK) status = lse_blocks(forest, s);
    status = ferry_agree(s->grid->world, status);
    if (status == FERRY_OK)
        status =
            ferry_agree(s->grid->world, ferry_forest_reduce(pairs, forest, &s->grid->down, s->cost->options.reduction));
    ferry_forest_close(&forest);
    for (int64_t j = 0; j < s->targets && status == FERRY_OK; j++)
        lse[j] = s->epsilon / FERRY_LOG2_E *
                 (pairs[j] + log2(pairs[s->columns + j]) + ferry_target_residual(&s->target, s->cost, NULL, j));
    return status;
}

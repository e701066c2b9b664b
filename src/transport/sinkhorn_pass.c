/* Once over all pairs.
 *
 * A panel of 24 rows is evaluated at reference potentials, its row sums give the new potentials and weights
 * q_i = 2^(log2(e) (f_i - reference_i) / epsilon), and while the panel is still in cache c_j += sum_i q_i P_ij.
 *
 * One grid column: every thread takes whole canonical source blocks; nothing else is shared. Several panels are
 * evaluated together where that pays (panel.c), if need be from several blocks; what is added to a block, and in which
 * order, stays the same. Several grid columns: sinkhorn_batch.c.
 *
 * Safety (no running maximum): a sum of 0, infinity or NaN lowers that row's reference by its largest exponent; a
 * potential that moves far has its panel evaluated again at the new place, so that nothing underflows in float. */
#include "sinkhorn_pass_impl.h"
#include "store_impl.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define ROWS        FERRY_SOURCE_UNIT
#define COLUMNS     FERRY_TARGET_UNIT
#define MOST_ROUNDS 4
#define NOTHING     1e-25 /* of a row's weight */
#define MOST        FERRY_PANELS_AT_ONCE

ferry_status ferry_sinkhorn_open_passes(ferry_sinkhorn *s)
{
    const ferry_grid *grid = s->grid;
    const ferry_cost_options *o = ferry_cost_options_of(s->cost);
    s->batch = ferry_batch_panels(o, s->cost->dim, grid->target.blocks.rows, grid->cols, s->source->panels);
    s->together = ferry_panels_at_once(o, s->cost->dim, s->source->panels, s->columns);
    const int count =
        grid->cols == 1 ? s->threads * s->together : s->batch * ferry_batch_slots(s->batch, s->source->panels);
    FERRY_TRY(ferry_alloc(&s->panel, count));
    for (s->panels = 0; s->panels < count; s->panels++) FERRY_TRY(ferry_panel_open(&s->panel[s->panels], s->cost));
    FERRY_TRY(ferry_alloc(&s->leaf, 2 * s->columns * s->threads));
    FERRY_TRY(ferry_target_open(&s->target, s->cost));
    FERRY_TRY(ferry_alloc(&s->entropy.sums, (int64_t)s->threads * FERRY_ENTROPY_WIDTH));
    s->scoring = true;
    FERRY_TRY(ferry_forest_open(&s->forest, s->columns, grid->source.blocks.count, FERRY_JOIN_SUM));
    return ferry_forest_expect(s->forest, &grid->source, &grid->down);
}

void ferry_sinkhorn_close_passes(ferry_sinkhorn *s)
{
    for (int p = 0; p < s->panels; p++) ferry_panel_close(&s->panel[p]);
    free(s->panel);
    free(s->leaf);
    free(s->entropy.sums);
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
    int batch = grid_cols == 1 ? 0 : ferry_batch_panels(options, dim, targets, grid_cols, panels);
    if (batch > 0) batch *= ferry_batch_slots(batch, panels);
    const int held = grid_cols == 1 ? threads * ferry_panels_at_once(options, dim, panels, columns) : batch;
    int64_t bytes = held * ferry_panel_bytes(options, dim, target_rows);
    bytes += 2 * columns * threads * (int64_t)sizeof(double) + columns * (int64_t)sizeof(double);
    /* the column sums' forest, or the one of the first pass: exponents and sums, out and in */
    bytes += ferry_forest_bytes(2 * columns, blocks.count, on_rank) + 2 * columns * (int64_t)sizeof(double);
    /* row sums by target blocks; those of a batch also through the tree of the grid row */
    bytes += (int64_t)FERRY_ROW_SUMS * (held - batch) * ROWS * (int64_t)sizeof(double) * target_blocks;
    bytes += (int64_t)FERRY_ROW_SUMS * batch * ROWS * (int64_t)sizeof(double) * (2 * target_blocks / (grid_cols) + 40);
    return bytes;
}

bool ferry_bad_sum(double sum)
{
    return !(sum > 0 && sum < INFINITY);
}

/* Rows without a usable sum go down to where their largest exponent is 0. */
void ferry_lower(double *reference, const double *sums, const double *max, double epsilon)
{
    for (int i = 0; i < ROWS; i++)
        if (reference[i] != -INFINITY && ferry_bad_sum(sums[i]) && isfinite(max[i]))
            reference[i] -= epsilon / FERRY_LOG2_E * max[i];
}

/* -sum P log2 P of an evaluated panel whose rows are multiplied by q, and its mass: canonical blocks one by one, so
 * that the whole numbers are the same for every layout. */
static void add_entropy(ferry_sinkhorn *s, const ferry_panel *panel, const double *q, int thread)
{
    int64_t *sums = s->entropy.sums + (ptrdiff_t)thread * FERRY_ENTROPY_WIDTH;
    double power[ROWS];
    if (!s->entropy.adding) return;
    for (int i = 0; i < ROWS; i++) power[i] = q[i] > 0 ? log2(q[i]) : 0;
    for (int b = 0; b < panel->blocks; b++) {
        const double *sum = panel->block_sums + (int64_t)b * ROWS, *score = panel->block_scores + (int64_t)b * ROWS;
        double lost[4] = {0}, all[4] = {0};
        for (int i = 0; i < ROWS; i += 4)
            for (int l = 0; l < 4; l++) {
                const double mass = q[i + l] * sum[i + l], bits = q[i + l] * score[i + l] + power[i + l] * mass;
                all[l] += mass > 0 ? mass : 0;
                lost[l] -= mass > 0 ? bits : 0;
            }
        sums[0] += ferry_exact((lost[0] + lost[2]) + (lost[1] + lost[3]), s->entropy.units);
        sums[1] += ferry_exact((all[0] + all[2]) + (all[1] + all[3]), s->entropy.units);
    }
}

/* Where the mass of a panel goes: rows side by side that are of one group are a segment. */
static void find_masses(ferry_masses *out, const ferry_sinkhorn *s, int64_t index, int thread)
{
    const ferry_groups *groups = s->aggregate->groups;
    const int rows = (int)(s->sources - index * ROWS < ROWS ? s->sources - index * ROWS : ROWS);
    const int32_t *group = groups->group + index * ROWS;
    int64_t *sums = s->aggregate->sums + thread * s->aggregate->size;
    *out = (ferry_masses){.per_mass = s->aggregate->units,
                          .run = s->cost->run,
                          .runs = s->cost->runs,
                          .part = groups->run_part,
                          .mask = groups->part_mask,
                          .group = groups->part_group};
    for (int i = 0; i < rows; i++) {
        if (i > 0 && group[i] != group[i - 1]) out->end[out->segments++] = i;
        out->row[out->segments] = sums + (int64_t)group[i] * groups->count;
    }
    out->end[out->segments++] = ROWS; /* rows past the end have no mass */
}
void ferry_take_columns(double *c, ferry_sinkhorn *s, ferry_panel *panel, int64_t index, const double *q, int thread)
{
    ferry_masses masses;
    add_entropy(s, panel, q, thread);
    if (s->aggregate) {
        find_masses(&masses, s, index, thread);
        panel->masses = &masses;
    }
    if (c && s->store)
        ferry_store_keep(c, s, panel, index, q);
    else if (c || s->aggregate)
        ferry_panel_columns(c, panel, q);
    panel->masses = NULL;
}

/* --- one grid column --- */

/* Panels that a thread takes from evaluation to q together. */
typedef struct group {
    ferry_panel *panel; /* [count] */
    int64_t first;      /* their numbers: first ... */
    int count;
    double *sums; /* [count][room] */
    int64_t room; /* [blocks][width][24] */
    double reference[MOST][ROWS], q[MOST][ROWS];
    ferry_again again[MOST];
} group;

/* Panels that are not done yet, at their references. */
static void evaluate_group(group *k, ferry_sinkhorn *s, const ferry_row_work *work)
{
    ferry_panel_rows rows[MOST];
    double *sums[MOST];
    int count = 0;
    for (int g = 0; g < k->count; g++) {
        if (k->again[g] == FERRY_ROWS_DONE) continue;
        rows[count] = (ferry_panel_rows){&k->panel[g], k->first + g, k->reference[g]};
        sums[count++] = k->sums + g * k->room;
    }
    work->evaluate(sums, work, s, rows, count);
}

static ferry_again finish_panel(group *k, int g, ferry_sinkhorn *s, const ferry_row_work *work, int round)
{
    double max[ROWS], *sums = k->sums + g * k->room;
    ferry_panel *panel = &k->panel[g];
    ferry_canonical_tree(sums, panel->blocks, (int64_t)work->width * ROWS);
    ferry_again again = work->finish(k->q[g], work, s, panel, k->first + g, k->reference[g], sums, round);
    if (again == FERRY_ROWS_AT_MAX) {
        ferry_panel_row_max(max, panel, s->source, k->first + g, k->reference[g], &s->target);
        ferry_lower(k->reference[g], sums, max, s->epsilon);
    }
    return again;
}

static void group_rows(group *k, ferry_sinkhorn *s, const ferry_row_work *work)
{
    int left = k->count;
    memcpy(k->reference, s->f + k->first * ROWS, (size_t)k->count * sizeof k->reference[0]);
    for (int g = 0; g < k->count; g++) k->again[g] = FERRY_ROWS_AGAIN;
    for (int round = 0; left > 0; round++) {
        evaluate_group(k, s, work);
        for (int g = 0; g < k->count; g++) {
            if (k->again[g] == FERRY_ROWS_DONE) continue;
            k->again[g] = finish_panel(k, g, s, work, round);
            left -= k->again[g] == FERRY_ROWS_DONE;
        }
    }
}

/* Panels of a canonical source block, counted from this rank's first. */
void ferry_block_panels(int64_t *first, int64_t *end, const ferry_grid *grid, int block)
{
    *first = (ferry_block_first(&grid->source.blocks, block) - grid->source_first) / ROWS;
    *end = (ferry_block_first(&grid->source.blocks, block + 1) - grid->source_first + ROWS - 1) / ROWS;
}

/* A finished vector becomes a leaf; called by one thread at a time. */
ferry_status ferry_plant(ferry_forest *forest, const double *values, int64_t width, int block)
{
    double *leaf;
    FERRY_TRY(ferry_forest_leaf(&leaf, forest));
    memcpy(leaf, values, (size_t)width * sizeof *leaf);
    ferry_forest_add(forest, block);
    return FERRY_OK;
}

/* Source blocks that a thread takes at once: enough for its panels together, while all threads have work. */
static int blocks_at_once(const ferry_sinkhorn *s, int blocks, int threads)
{
    const int64_t panels = s->source->panels / (blocks > 0 ? blocks : 1) + 1;
    int64_t at_once = (s->together + panels - 1) / panels;
    if (at_once > blocks / (2 * threads)) at_once = blocks / (2 * threads);
    return at_once < 1 ? 1 : (int)at_once;
}

/* How many of `left` panels come next, so that in the end no group is much smaller than the others. */
static int next_group(int64_t left, int64_t most)
{
    const int64_t groups = (left + most - 1) / most;
    return (int)((left + groups - 1) / groups);
}

/* Local. Blocks first ... end - 1 of this rank by one thread; the group has its panels and room. */
static ferry_status some_blocks(group *k, double *c, ferry_sinkhorn *s, const ferry_row_work *work, int first, int end)
{
    int64_t from, to, stop, ignored;
    ferry_status status = FERRY_OK;
    ferry_block_panels(&from, &stop, s->grid, first);
    ferry_block_panels(&ignored, &to, s->grid, end - 1);
    memset(c, 0, (size_t)s->columns * sizeof *c);
    for (k->first = from; k->first < to; k->first += k->count) {
        k->count = next_group(to - k->first, s->together);
        group_rows(k, s, work);
        for (int g = 0; g < k->count; g++) {
            ferry_take_columns(work->columns ? c : NULL, s, &k->panel[g], k->first + g, k->q[g], omp_get_thread_num());
            if (k->first + g + 1 < stop) continue;
            if (work->columns) {
#pragma omp critical(ferry_sinkhorn)
                {
                    ferry_status planted = ferry_plant(s->forest, c, s->columns, first);
                    if (planted != FERRY_OK) status = planted;
                }
                memset(c, 0, (size_t)s->columns * sizeof *c);
            }
            if (++first < end) ferry_block_panels(&ignored, &stop, s->grid, first);
        }
    }
    return status;
}

/* Local. All source blocks of this rank. */
static ferry_status pass_blocks(ferry_sinkhorn *s, const ferry_row_work *work)
{
    const ferry_grid *grid = s->grid;
    const int first = grid->source.block[grid->row], last = grid->source.block[grid->row + 1];
    const int step = blocks_at_once(s, last - first, s->threads);
    const int64_t room = (int64_t)s->cost->blocks * work->width * ROWS;
    FERRY_AUTO double *sums = NULL;
    FERRY_TRY(ferry_alloc(&sums, room * s->threads * s->together));
    ferry_status status = FERRY_OK;
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int b = first; b < last; b += step) {
        const int t = omp_get_thread_num(), end = b + step < last ? b + step : last;
        group k = {.panel = s->panel + (int64_t)t * s->together, .sums = sums + room * t * s->together, .room = room};
        const ferry_status done = some_blocks(&k, s->leaf + 2 * s->columns * t, s, work, b, end);
        if (done == FERRY_OK) continue;
#pragma omp critical(ferry_sinkhorn)
        status = done;
    }
    return status;
}

ferry_status ferry_sinkhorn_pass(double *c, ferry_sinkhorn *s, const ferry_row_work *work)
{
    s->passes++;
    FERRY_TRY(ferry_agree(s->grid->world, s->grid->cols == 1 ? pass_blocks(s, work) : ferry_pass_batches(s, work)));
    if (!work->columns) return FERRY_OK;
    ferry_status status = ferry_forest_reduce(c, s->forest, &s->grid->down, s->cost->options.reduction);
    return s->grid->cols == 1 ? status : ferry_agree(s->grid->world, status); /* one column: down is the world */
}

/* --- one iteration --- */

static void evaluate_plan(double *const *sums, const ferry_row_work *work, ferry_sinkhorn *s,
                          const ferry_panel_rows *rows, int count)
{
    (void)work;
    for (int g = 0; g < count; g++) rows[g].panel->scored = s->entropy.adding;
    ferry_panels_plan(rows, count, s->source, &s->target);
    for (int g = 0; g < count; g++)
        memcpy(sums[g], rows[g].panel->block_sums, (size_t)rows[g].panel->blocks * ROWS * sizeof **sums);
}

/* The potential has moved too far for the entries to be right in float; not so where the row, unbalanced, has given up
 * nearly all of its mass: at the new place it has none that float can see. */
static bool too_far(const ferry_sinkhorn *s, double move, double r, double a, double far)
{
    if (s->tau_a < 1 && move < 0 && exp2(move) * r < NOTHING * a) return false;
    return fabs(move) > far;
}

/* L_i = epsilon log r_i - reference_i;  f' = tau_a (epsilon log a_i - L_i);  f = (1 - w) f + w f' */
ferry_again ferry_finish_plan(double *q, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel *panel,
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
        if (ferry_bad_sum(sums[i]) && round < 2) again = FERRY_ROWS_AT_MAX;
        r[i] = sums[i] * exp2(panel->residual[i]);
        raw[i] = s->tau_a * (s->epsilon * (log(s->a[row]) - log(r[i])) + reference[i]); /* a / r may overflow */
        f[i] = s->weight == 1 ? raw[i] : s->f[row] + s->weight * (raw[i] - s->f[row]);
    }
    if (again != FERRY_ROWS_DONE) return again;
    for (int i = 0; i < ROWS && round < MOST_ROUNDS - 1; i++)
        if (reference[i] != -INFINITY && too_far(s, k * (f[i] - reference[i]), r[i], s->a[first + i], far)) {
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

/* c_j gains what rounding took from beta_j; so do the logarithms in the entropy, once for each column. */
static void correct_columns(ferry_sinkhorn *s, double *c)
{
    const bool adding = s->entropy.adding && s->grid->row == 0;
    for (int64_t j = 0; j < s->targets; j++) {
        const double lost = ferry_target_residual(&s->target, s->cost, s->g, j);
        c[j] *= exp2(lost);
        if (adding && c[j] > 0) s->entropy.sums[0] -= ferry_exact(c[j] * lost, s->entropy.units);
    }
}

ferry_status ferry_sinkhorn_iterate(ferry_sinkhorn *s)
{
    const ferry_row_work work = {.width = 1, .columns = true, .evaluate = evaluate_plan, .finish = ferry_finish_plan};
    ferry_target_set(&s->target, s->cost, s->g, s->epsilon);
    memset(s->entropy.sums, 0, (size_t)s->threads * FERRY_ENTROPY_WIDTH * sizeof *s->entropy.sums);
    s->entropy.adding = s->scoring;
    s->entropy.units = ferry_exact_units(64 * fmax(s->mass_a, s->mass_b));
    ferry_status status = ferry_sinkhorn_pass(s->c, s, &work);
    correct_columns(s, s->c);
    s->entropy.known = s->entropy.adding && status == FERRY_OK;
    s->entropy.adding = false;
    return status;
}

/* --- column log-sum-exp --- */

static void clear_lse(double *m, double *t, int64_t columns)
{
    for (int64_t j = 0; j < columns; j++) m[j] = -INFINITY;
    memset(t, 0, (size_t)columns * sizeof *t);
}
/* Local. Blocks first ... end - 1 by one thread: m, t [columns], panel [together]. */
static ferry_status lse_some_blocks(ferry_forest *forest, ferry_sinkhorn *s, double *m, ferry_panel *panel,
                                    int together, int first, int end)
{
    double *t = m + s->columns;
    int64_t from, to, stop, ignored;
    ferry_status status = FERRY_OK;
    ferry_block_panels(&from, &stop, s->grid, first);
    ferry_block_panels(&ignored, &to, s->grid, end - 1);
    clear_lse(m, t, s->columns);
    for (int64_t p = from, next; p < to; p = next) {
        ferry_panel_rows rows[MOST];
        next = p + next_group(to - p, together);
        for (int64_t i = p; i < next; i++) rows[i - p] = (ferry_panel_rows){&panel[i - p], i, s->f + i * ROWS};
        ferry_panels_scores(rows, (int)(next - p), s->source, &s->target);
        for (int64_t i = p; i < next; i++) {
            ferry_panel_join_lse(m, t, &panel[i - p]);
            if (i + 1 < stop) continue;
#pragma omp critical(ferry_sinkhorn)
            {
                ferry_status planted = ferry_plant(forest, m, 2 * s->columns, first);
                if (planted != FERRY_OK) status = planted;
            }
            clear_lse(m, t, s->columns);
            if (++first < end) ferry_block_panels(&ignored, &stop, s->grid, first);
        }
    }
    return status;
}

/* Local. */
static ferry_status lse_blocks(ferry_forest *forest, ferry_sinkhorn *s)
{
    const ferry_grid *grid = s->grid;
    const int first = grid->source.block[grid->row], last = grid->source.block[grid->row + 1];
    const int threads = s->threads < s->panels ? s->threads : s->panels,
              step = blocks_at_once(s, last - first, threads);
    const int together = s->together < s->panels / threads ? s->together : s->panels / threads;
    ferry_status status = FERRY_OK;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int b = first; b < last; b += step) {
        const int t = omp_get_thread_num(), end = b + step < last ? b + step : last;
        const ferry_status done = lse_some_blocks(forest, s, s->leaf + 2 * s->columns * t,
                                                  s->panel + (int64_t)t * together, together, b, end);
        if (done == FERRY_OK) continue;
#pragma omp critical(ferry_sinkhorn)
        status = done;
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
    if (status == FERRY_OK) status = ferry_forest_expect(forest, &s->grid->source, &s->grid->down);
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

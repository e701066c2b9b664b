/* A sparse coupling from the potentials, block by block of source rows (moscot 0.5.2's `sparsify`).
 *
 * Rows are independent given f and g, so a pass evaluates whole rows in panels of 24, selects (sparsify_rows.c) and
 * hands the block to the sink. With several grid columns a rank has its columns of all rows of its grid row's batch;
 * panels are then exchanged within the grid row, so that each rank gets whole rows of its part of the batch. */
#include "sparsify.h"
#include "mpi/exchange.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "plan_impl.h"
#include "sparsify_impl.h"
#include <math.h>
#include <string.h>

#define ROWS        FERRY_SOURCE_UNIT
#define COLUMNS     FERRY_TARGET_UNIT
#define TILE        ((int64_t)ROWS * COLUMNS)
#define BATCH_BYTES ((int64_t)96 << 20) /* that the entries of a batch may take, if nothing is dropped */

ferry_status ferry_sparsify_check(const ferry_sparsify_options *options)
{
    const double value = options->value;
    const int percentile = options->mode == FERRY_SPARSIFY_PERCENTILE;
    if ((percentile || options->mode == FERRY_SPARSIFY_THRESHOLD) && isnan(value))
        return ferry_fail(FERRY_E_ARG, "mode %s needs a value: give --value", percentile ? "percentile" : "threshold");
    if (percentile && !(value >= 0 && value <= 100))
        return ferry_fail(FERRY_E_ARG, "value %g of mode percentile must be between 0 and 100", value);
    if (options->mode == FERRY_SPARSIFY_MASS && !(value > 0 && value <= 1))
        return ferry_fail(FERRY_E_ARG, "value %g of mode mass must be in (0, 1]: the part of each row's mass to keep",
                          value);
    if (options->max_k < 0)
        return ferry_fail(FERRY_E_ARG, "max-k must be a positive integer, found %lld", (long long)options->max_k);
    if (options->max_k > 0 && options->mode != FERRY_SPARSIFY_MASS)
        return ferry_fail(FERRY_E_ARG, "max-k is only supported with mode mass");
    if (options->mode < FERRY_SPARSIFY_MASS || options->mode > FERRY_SPARSIFY_MIN_ROW)
        return ferry_fail(FERRY_E_ARG, "mode %d is not one of mass, threshold, percentile, min_row",
                          (int)options->mode);
    if (percentile && options->n_samples < 1)
        return ferry_fail(FERRY_E_ARG, "mode percentile needs at least one sampled row, found %lld",
                          (long long)options->n_samples);
    return FERRY_OK;
}

/* What one thread works on: whole rows of one panel. */
struct work {
    ferry_kept kept;
    double sums[ROWS], row[ROWS]; /* row sums, and factors of the rows (ferry_passes_row_factor) */
    int rows;                     /* 0: no panel in this step */
    int64_t first;                /* kept source cell of its first row */
    float *rounded;               /* entries as float, in double precision */
    float *send, *whole;          /* [grid columns][my units][24][32], [all units][24][32]; with grid columns only */
    double *send_sums, *all_sums; /* [grid columns][my blocks][24], [all blocks][24] */
    ferry_status status;
};

/* What the rows of one batch on this rank leave. */
struct batch {
    int64_t first, rows, room;
    int64_t rows_room, most; /* rows that it may get, entries of each */
    int64_t *indptr, *indices;
    float *values;
    double *mass, *kept; /* [rows] */
};

struct run {
    ferry_passes passes;
    ferry_rule rule;
    struct work *work; /* [threads] */
    struct batch batch;
    float *column;        /* [all units * 32] factors of the columns */
    int64_t *send, *recv; /* [grid columns] of an exchange */
    ferry_forest *masses; /* mass and kept mass, one leaf a panel: a panel is on one rank, however rows are dealt */
    int64_t nonzeros, massless;
};

static int64_t all_units(const struct run *run)
{
    return ferry_passes_all_units(&run->passes);
}

static int64_t my_units(const struct run *run)
{
    return ferry_passes_units(&run->passes, run->passes.grid.col);
}

static int my_blocks(const struct run *run, int col)
{
    return run->passes.grid.target.block[col + 1] - run->passes.grid.target.block[col];
}

/* ---- what is needed ---- */

static ferry_status open_work(struct work *work, const struct run *run)
{
    const ferry_passes *passes = &run->passes;
    const ferry_kernels *kernels = ferry_cost_options_of(passes->cost)->kernels;
    const int cols = passes->grid.cols;
    FERRY_TRY(ferry_kept_open(&work->kept, kernels, &run->rule, passes->plan->target.cells));
    if (passes->plan->cost.precision == FERRY_DOUBLE) FERRY_TRY(ferry_alloc(&work->rounded, my_units(run) * TILE));
    if (cols == 1) return FERRY_OK;
    FERRY_TRY(ferry_alloc(&work->send, cols * my_units(run) * TILE));
    FERRY_TRY(ferry_alloc(&work->whole, all_units(run) * TILE));
    FERRY_TRY(ferry_alloc(&work->send_sums, (int64_t)cols * my_blocks(run, passes->grid.col) * ROWS));
    return ferry_alloc(&work->all_sums, (int64_t)passes->grid.target.blocks.count * ROWS);
}

/* Entries that a row can keep. */
static int64_t most_kept(const ferry_rule *rule, int64_t columns)
{
    return rule->mass && rule->max_k > 0 && rule->max_k < columns ? rule->max_k : columns;
}

static ferry_status open_batch(struct batch *batch, int64_t rows, int64_t most)
{
    batch->rows_room = rows;
    batch->most = most;
    batch->room = (most < 64 ? most : 64) * rows;
    FERRY_TRY(ferry_alloc(&batch->indptr, rows + 1));
    FERRY_TRY(ferry_alloc(&batch->mass, rows));
    FERRY_TRY(ferry_alloc(&batch->kept, rows));
    FERRY_TRY(ferry_alloc(&batch->indices, batch->room));
    return ferry_alloc(&batch->values, batch->room);
}

static int leaves_of(int64_t rows)
{
    int leaves = 1;
    while ((int64_t)leaves * ROWS < rows) leaves *= 2;
    return leaves;
}

static ferry_status open_run(struct run *run)
{
    const ferry_passes *passes = &run->passes;
    const int cols = passes->grid.cols;
    FERRY_TRY(ferry_alloc(&run->work, passes->threads));
    for (int t = 0; t < passes->threads; t++) FERRY_TRY(open_work(&run->work[t], run));
    FERRY_TRY(open_batch(&run->batch, passes->batch, most_kept(&run->rule, passes->plan->target.cells)));
    FERRY_TRY(ferry_alloc(&run->send, cols));
    FERRY_TRY(ferry_alloc(&run->recv, cols));
    FERRY_TRY(ferry_alloc(&run->column, all_units(run) * COLUMNS));
    return ferry_forest_open(&run->masses, 2, leaves_of(passes->plan->source.cells), FERRY_JOIN_SUM);
}

static void close_run(struct run *run)
{
    for (int t = 0; run->work && t < run->passes.threads; t++) {
        struct work *work = &run->work[t];
        ferry_kept_close(&work->kept);
        free(work->rounded);
        free(work->send);
        free(work->whole);
        free(work->send_sums);
        free(work->all_sums);
    }
    free(run->work);
    free(run->batch.indptr);
    free(run->batch.indices);
    free(run->batch.values);
    free(run->batch.mass);
    free(run->batch.kept);
    free(run->column);
    free(run->send);
    free(run->recv);
    ferry_forest_close(&run->masses);
    ferry_passes_close(&run->passes);
}

/* Rows whose entries are handed over together: not so many that their memory is always new, and some panels for every
 * thread. */
static int64_t most_rows(const ferry_plan *plan, int64_t most)
{
    const int64_t pair = sizeof(float) + sizeof(int64_t), threads = plan->cost.threads > 0 ? plan->cost.threads : 1;
    const int64_t fit = BATCH_BYTES / (most > 0 ? most : 1) / pair, least = 4 * threads * FERRY_PANELS_AT_ONCE * ROWS;
    return fit > least ? fit : least;
}

static ferry_passes_options passes_options(const struct run *run, const ferry_plan *plan,
                                           const ferry_sparsify_options *options)
{
    const ferry_rule *rule = &run->rule;
    const int64_t columns = plan->target.cells, number = sizeof(float), pair = sizeof(float) + sizeof(int64_t);
    const int64_t most = most_kept(rule, columns);
    const int grids = options->grid_cols > 1, rounds = plan->cost.precision == FERRY_DOUBLE;
    return (ferry_passes_options){
        .deal = FERRY_DEAL_CYCLIC,
        .grid_rows = options->grid_rows,
        .grid_cols = options->grid_cols,
        .batch = options->batch,
        .memory = options->memory,
        .fixed_bytes = columns * number,
        .row_bytes = 2 * most * pair, /* twice: while a batch grows it is there twice */
        .most_rows = most_rows(plan, most),
        .thread_bytes = ferry_kept_bytes(rule, columns) + (2 * grids + rounds) * ROWS * columns * number,
    };
}

/* ---- one step: up to one panel a thread ---- */

static ferry_status check_finite(const struct run *run, const struct work *work)
{
    for (int i = 0; i < work->rows; i++)
        if (!isfinite(work->sums[i]))
            return ferry_fail(FERRY_E_NUMERIC, "%s: row of source cell %lld has mass %g; solve again",
                              run->passes.plan->path, (long long)(work->first + i), work->sums[i]);
    return FERRY_OK;
}

static void select_rows(const struct run *run, struct work *work, const float *plan)
{
    if (work->status == FERRY_OK) work->status = check_finite(run, work);
    if (work->status == FERRY_OK)
        work->status = ferry_kept_select(&work->kept, plan, work->rows, work->sums, work->row, run->column);
}

static void describe_panel(struct work *work, const ferry_pass *pass, int64_t panel)
{
    work->first = pass->first + panel * ROWS;
    work->rows = (int)(pass->rows - panel * ROWS < ROWS ? pass->rows - panel * ROWS : ROWS);
}

static void factors_of(struct work *work, const ferry_panel *panel)
{
    for (int i = 0; i < ROWS; i++) work->row[i] = ferry_passes_row_factor(panel, i);
}

/* Panels first ... first + count - 1, whole rows at once: each is selected from while it is in the core's cache. */
static void step_alone(struct run *run, const ferry_pass *pass, int64_t first, int count)
{
    ferry_passes *passes = &run->passes;
#pragma omp parallel for num_threads(passes->threads) schedule(static, 1)
    for (int t = 0; t < passes->threads; t++) {
        struct work *work = &run->work[t];
        work->rows = 0;
        if (t >= count) continue;
        describe_panel(work, pass, first + t);
        ferry_panel *panel = ferry_passes_panel(passes, pass, first + t, passes->threads, t);
        ferry_panel_row_sums(work->sums, panel);
        factors_of(work, panel);
        select_rows(run, work, ferry_panel_entries(panel, work->rounded));
    }
}

/* Which panel of a part thread t of a step has; -1: none. */
static int64_t panel_of(const ferry_passes *passes, const ferry_pass *pass, int part, int64_t step, int t)
{
    const int64_t first = ferry_plan_part(pass->panels, part, passes->grid.cols);
    const int64_t end = ferry_plan_part(pass->panels, part + 1, passes->grid.cols);
    const int64_t panel = first + step * passes->threads + t;
    return panel < end ? panel : -1;
}

/* Panels that thread t needs from here on, as many as are evaluated together: part by part, step by step. */
static int upcoming(int64_t *next, const ferry_passes *passes, const ferry_pass *pass, int part, int64_t step, int t)
{
    int count = 0;
    while (count < passes->together && step * passes->threads < pass->panels) {
        const int64_t p = panel_of(passes, pass, part, step, t);
        if (p >= 0) next[count++] = p;
        if (++part < passes->grid.cols) continue;
        part = 0;
        step++;
    }
    return count;
}

/* My columns of the panels that go to every rank of the grid row, into send buffers. */
static void evaluate_parts(struct run *run, const ferry_pass *pass, int64_t step)
{
    ferry_passes *passes = &run->passes;
    const int cols = passes->grid.cols, me = passes->grid.col;
    const int64_t entries = my_units(run) * TILE, sums = (int64_t)my_blocks(run, me) * ROWS;
#pragma omp parallel for num_threads(passes->threads) schedule(static, 1)
    for (int t = 0; t < passes->threads; t++) {
        struct work *work = &run->work[t];
        work->rows = 0;
        for (int part = 0, place = 0; part < cols; part++) {
            const int64_t p = panel_of(passes, pass, part, step, t);
            if (p < 0) continue;
            int64_t next[FERRY_PANELS_AT_ONCE];
            const int count = upcoming(next, passes, pass, part, step, t);
            ferry_panel *panel = ferry_passes_panel_of(passes, pass, next, count, t);
            memcpy(work->send + place * entries, ferry_panel_entries(panel, work->rounded),
                   (size_t)entries * sizeof *work->send);
            memcpy(work->send_sums + place * sums, panel->block_sums, (size_t)sums * sizeof *work->send_sums);
            place++;
            if (part != me) continue;
            describe_panel(work, pass, p);
            factors_of(work, panel);
        }
    }
}

/* Collective over the grid row. Units of all columns one after another are a whole panel. */
static void exchange_panel(struct run *run, const ferry_pass *pass, int64_t step, int t)
{
    const ferry_passes *passes = &run->passes;
    const ferry_world *across = &passes->grid.across;
    struct work *work = &run->work[t];
    const int cols = passes->grid.cols, me = passes->grid.col;
    for (int c = 0; c < cols; c++) {
        run->send[c] = panel_of(passes, pass, c, step, t) < 0 ? 0 : my_units(run) * TILE;
        run->recv[c] = work->rows ? ferry_passes_units(passes, c) * TILE : 0;
    }
    ferry_exchange(across, work->send, run->send, work->whole, run->recv, sizeof *work->whole);
    for (int c = 0; c < cols; c++) {
        run->send[c] = panel_of(passes, pass, c, step, t) < 0 ? 0 : (int64_t)my_blocks(run, me) * ROWS;
        run->recv[c] = work->rows ? (int64_t)my_blocks(run, c) * ROWS : 0;
    }
    ferry_exchange(across, work->send_sums, run->send, work->all_sums, run->recv, sizeof *work->all_sums);
}

/* Collective over the grid row. */
static void step_together(struct run *run, const ferry_pass *pass, int64_t step)
{
    ferry_passes *passes = &run->passes;
    evaluate_parts(run, pass, step);
    for (int t = 0; t < passes->threads; t++) exchange_panel(run, pass, step, t);
#pragma omp parallel for num_threads(passes->threads) schedule(static, 1)
    for (int t = 0; t < passes->threads; t++) {
        struct work *work = &run->work[t];
        if (!work->rows) continue;
        ferry_canonical_tree(work->all_sums, passes->grid.target.blocks.count, ROWS);
        memcpy(work->sums, work->all_sums, ROWS * sizeof *work->sums);
        select_rows(run, work, work->whole);
    }
}

/* ---- one batch ---- */

/* Room for `need` entries, and for those of the rows to come if they are like the `rows` that are here: growing costs a
 * copy, and memory never touched before. */
static ferry_status make_room(struct batch *batch, int64_t kept, int64_t need, int64_t rows)
{
    if (need <= batch->room) return FERRY_OK;
    const double each = rows > 0 ? (double)need / (double)rows : 0;
    int64_t room = (int64_t)(1.1 * each * (double)batch->rows_room);
    if (room > batch->most * batch->rows_room) room = batch->most * batch->rows_room;
    if (room < need) room = need;
    FERRY_TRY(ferry_grow(&batch->indices, kept, room));
    FERRY_TRY(ferry_grow(&batch->values, kept, room));
    batch->room = room;
    return FERRY_OK;
}

static void copy_kept(struct batch *batch, const ferry_kept *kept, int64_t at)
{
    memcpy(batch->values + at, kept->values, (size_t)kept->total * sizeof *batch->values);
    for (int64_t i = 0; i < kept->total; i++) batch->indices[at + i] = kept->indices[i];
}

/* Masses of a panel's rows, and its leaf of their sum. */
static ferry_status add_masses(struct run *run, const struct work *work)
{
    struct batch *batch = &run->batch;
    double *leaf;
    FERRY_TRY(ferry_forest_leaf(&leaf, run->masses));
    for (int i = 0; i < work->rows; i++) {
        const int64_t row = batch->rows + i;
        batch->mass[row] = work->sums[i] > 0 ? work->sums[i] * work->row[i] : 0;
        batch->kept[row] = work->kept.sum[i];
        batch->indptr[row + 1] = batch->indptr[row] + work->kept.count[i];
        leaf[0] += batch->mass[row];
        leaf[1] += batch->kept[row];
        run->massless += !(work->sums[i] > 0);
    }
    ferry_forest_add(run->masses, (int)(work->first / ROWS));
    batch->rows += work->rows;
    return FERRY_OK;
}

/* Local. What the threads kept joins the batch, in the order of the rows. */
static ferry_status join_step(struct run *run)
{
    struct batch *batch = &run->batch;
    const int threads = run->passes.threads;
    const int64_t had = batch->indptr[batch->rows];
    int64_t first_row = batch->rows, more = 0, rows = batch->rows;
    for (int t = 0; t < threads; t++) {
        FERRY_TRY(run->work[t].status);
        more += run->work[t].rows ? run->work[t].kept.total : 0;
        rows += run->work[t].rows;
    }
    FERRY_TRY(make_room(batch, had, had + more, rows));
    for (int t = 0; t < threads; t++)
        if (run->work[t].rows) FERRY_TRY(add_masses(run, &run->work[t]));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        int64_t row = first_row;
        for (int before = 0; before < t; before++) row += run->work[before].rows;
        if (run->work[t].rows) copy_kept(batch, &run->work[t].kept, batch->indptr[row]);
    }
    run->nonzeros += more;
    return FERRY_OK;
}

/* Collective over the grid row; the status is this rank's: agree on it. */
static ferry_status select_pass(struct run *run, const ferry_pass *pass)
{
    ferry_passes *passes = &run->passes;
    const ferry_grid *grid = &passes->grid;
    const int threads = passes->threads;
    const int64_t from = ferry_plan_part(pass->panels, grid->col, grid->cols) * ROWS;
    run->batch.first = pass->first + (from < pass->rows ? from : pass->rows);
    run->batch.rows = 0;
    run->batch.indptr[0] = 0;
    for (int t = 0; t < threads; t++) run->work[t].status = FERRY_OK;
    ferry_status status = FERRY_OK;
    const int64_t most = (pass->panels + grid->cols - 1) / grid->cols; /* panels of the longest part */
    for (int64_t step = 0; step * threads < most; step++) {
        const int64_t first = step * threads;
        if (grid->cols > 1)
            step_together(run, pass, step);
        else
            step_alone(run, pass, first, (int)(most - first < threads ? most - first : threads));
        if (status == FERRY_OK) status = join_step(run); /* after a failure only the exchanges go on */
    }
    return status;
}

/* Collective. */
static ferry_status hand_over(struct run *run, const ferry_sink *sink,
                              ferry_status (*masses)(void *self, int64_t first, int64_t count, const double *mass,
                                                     const double *kept),
                              void *masses_self)
{
    const struct batch *batch = &run->batch;
    const ferry_rows rows = {batch->rows, batch->indptr, batch->indices, batch->values};
    FERRY_TRY(sink->take(sink->self, &rows));
    return masses ? masses(masses_self, batch->first, batch->rows, batch->mass, batch->kept) : FERRY_OK;
}

/* ---- the whole ---- */

/* Collective. */
static ferry_status find_threshold(double *threshold, struct run *run, const ferry_sparsify_options *options)
{
    *threshold = NAN;
    if (options->mode == FERRY_SPARSIFY_MASS) return FERRY_OK;
    *threshold = options->value;
    if (options->mode == FERRY_SPARSIFY_PERCENTILE)
        FERRY_TRY(ferry_threshold_percentile(threshold, &run->passes, options));
    if (options->mode == FERRY_SPARSIFY_MIN_ROW) FERRY_TRY(ferry_threshold_min_row(threshold, &run->passes));
    run->rule.cut = ferry_cut(*threshold);
    return FERRY_OK;
}

/* Collective. */
static ferry_status gather_columns(struct run *run)
{
    const ferry_passes *passes = &run->passes;
    for (int c = 0; c < passes->grid.cols; c++) run->recv[c] = ferry_passes_units(passes, c) * COLUMNS;
    ferry_gather_all(&passes->grid.across, passes->column, run->recv, run->column, sizeof *run->column);
    return FERRY_OK;
}

/* Collective. */
static ferry_status sum_up(ferry_sparsify_result *out, struct run *run)
{
    const ferry_world *world = run->passes.world;
    double total[2] = {0, 0};
    FERRY_TRY(ferry_forest_reduce(total, run->masses, world, FERRY_REDUCE_TREE));
    out->mass = total[0];
    out->kept_mass = total[1];
    out->nonzeros = ferry_total(world, run->nonzeros);
    out->massless = ferry_total(world, run->massless);
    if (out->massless && world->rank == 0)
        ferry_log(world, FERRY_WARN, "%lld of %lld rows have no mass and stay empty", (long long)out->massless,
                  (long long)run->passes.plan->source.cells);
    return FERRY_OK;
}

/* Collective. */
static ferry_status
go_through(ferry_sparsify_result *out, struct run *run, const ferry_sparsify_options *options, const ferry_sink *sink,
           ferry_status (*masses)(void *self, int64_t first, int64_t count, const double *mass, const double *kept),
           void *masses_self)
{
    ferry_passes *passes = &run->passes;
    FERRY_TRY(find_threshold(&out->threshold, run, options));
    FERRY_TRY(ferry_agree(passes->world, open_run(run)));
    FERRY_TRY(gather_columns(run));
    for (int64_t p = 0; p < passes->passes; p++) {
        ferry_pass pass;
        ferry_status status = ferry_pass_open(&pass, passes, p);
        if (status == FERRY_OK) status = ferry_agree(passes->world, select_pass(run, &pass));
        ferry_pass_close(&pass);
        if (status == FERRY_OK) status = hand_over(run, sink, masses, masses_self);
        FERRY_TRY(status);
        ferry_progress(passes->world, "sparsify", ferry_passes_done(passes, p), passes->plan->source.cells, "rows",
                       NULL);
    }
    FERRY_TRY(ferry_passes_check(passes));
    return sum_up(out, run);
}

static ferry_status same_options(const ferry_world *world, const ferry_sparsify_options *options)
{
    const struct {
        double value;
        int64_t mode, max_k, samples, seed;
    } shape = {isnan(options->value) ? -1 : options->value, (int64_t)options->mode, options->max_k, options->n_samples,
               (int64_t)options->seed};
    FERRY_TRY(ferry_same(world, "what sparsify keeps", &shape, sizeof shape));
    return options->sample ? ferry_same(world, "the sampled rows", options->sample,
                                        (size_t)options->n_samples * sizeof *options->sample)
                           : FERRY_OK;
}

ferry_status ferry_sparsify(ferry_sparsify_result *out, ferry_plan *plan, const ferry_world *world,
                            const ferry_sparsify_options *options, const ferry_sink *sink,
                            ferry_status (*masses)(void *self, int64_t first, int64_t count, const double *mass,
                                                   const double *kept),
                            void *masses_self)
{
    memset(out, 0, sizeof *out);
    FERRY_TRY(ferry_agree(world, ferry_sparsify_check(options)));
    FERRY_TRY(same_options(world, options));
    struct run run = {.rule = {options->mode == FERRY_SPARSIFY_MASS, options->value, options->max_k, 0}};
    const ferry_passes_options pass = passes_options(&run, plan, options);
    ferry_status status = ferry_passes_open(&run.passes, plan, world, &pass);
    if (status == FERRY_OK) status = go_through(out, &run, options, sink, masses, masses_self);
    close_run(&run);
    return status;
}

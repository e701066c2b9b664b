/* Once over the plan by source rows: each pass reads a batch of source cells, packs it and takes their potentials f_i
 * from PLAN.h5; the target side stays. P_ij = exp((f_i + g_j - C_ij) / epsilon) comes panel by panel. */
#include "passes_impl.h"
#include "mpi/memory.h"
#include "mpi/stage.h"
#include <math.h>
#include <string.h>

#define UNIT FERRY_SOURCE_UNIT

static int64_t units_of(int64_t columns)
{
    return (columns + FERRY_TARGET_UNIT - 1) / FERRY_TARGET_UNIT;
}

int64_t ferry_passes_units(const ferry_passes *passes, int col)
{
    const int64_t *first = passes->grid.target.first;
    return units_of(first[col + 1] - first[col]);
}

double ferry_passes_row_factor(const ferry_panel *panel, int i)
{
    return exp2(panel->residual[i]);
}

int64_t ferry_passes_all_units(const ferry_passes *passes)
{
    return units_of(passes->plan->target.cells);
}

/* Collective. Points of this rank's share of the target; the fingerprint is of one copy, whatever the nodes hold. */
static ferry_status read_target(ferry_matrix *y, ferry_passes *passes)
{
    const ferry_grid *grid = &passes->grid;
    FERRY_TRY(ferry_population_points(y, passes->world, &passes->plan->target, grid->bring_first, grid->bring_rows,
                                      passes->plan->cost.precision, NULL));
    return ferry_plan_same(passes->world, passes->plan, true, ferry_plan_target_fingerprint(grid, y));
}

static ferry_status set_target(ferry_passes *passes)
{
    FERRY_AUTO double *g = NULL;
    const ferry_grid *grid = &passes->grid;
    FERRY_TRY(ferry_alloc(&g, grid->target_rows));
    FERRY_TRY(ferry_plan_target_potentials(g, passes->plan, grid->target_first, grid->target_rows));
    FERRY_TRY(ferry_target_open(&passes->target, passes->cost));
    ferry_target_set(&passes->target, passes->cost, g, passes->plan->epsilon);
    FERRY_TRY(ferry_alloc(&passes->column, passes->target.columns));
    for (int64_t j = 0; j < grid->target_rows; j++)
        passes->column[j] = (float)exp2(ferry_target_residual(&passes->target, passes->cost, g, j));
    return FERRY_OK;
}

static ferry_status open_panels(ferry_passes *passes)
{
    FERRY_TRY(set_target(passes));
    const int count = passes->threads * passes->together;
    FERRY_TRY(ferry_alloc_bytes(&passes->panel, passes->threads, sizeof(ferry_panel *)));
    FERRY_TRY(ferry_alloc(&passes->number, count));
    FERRY_TRY(ferry_alloc(&passes->pool, count));
    for (int p = 0; p < count; p++) FERRY_TRY(ferry_panel_open(&passes->pool[p], passes->cost));
    for (int t = 0; t < passes->threads; t++) passes->panel[t] = &passes->pool[t * passes->together];
    return FERRY_OK;
}

static int64_t memory_of(const ferry_passes_options *options)
{
    return options->memory > 0 ? options->memory : FERRY_PASSES_MEMORY;
}

/* Local. Panels that only save time may take half of the memory. */
static int choose_together(const ferry_passes *passes, const ferry_passes_options *options)
{
    const ferry_cost_options *cost = &passes->plan->cost;
    const int64_t cells = passes->plan->source.cells, each = cells / passes->grid.rows / UNIT + 1;
    const int64_t bytes = passes->threads * ferry_panel_bytes(cost, passes->plan->source.dim, passes->grid.target_rows);
    int together = ferry_panels_at_once(cost, passes->plan->source.dim, each, passes->grid.target_rows);
    while (together > 1 && together * bytes > memory_of(options) / 2) together--;
    return together;
}

/* Local. Rows that fit beside the panels; at least one panel of them. A row is there as read, as packed and, while it
 * is read, once more in slabs that io bounds. */
static int64_t rows_that_fit(const ferry_passes *passes, const ferry_passes_options *options)
{
    const ferry_cost_options *cost = &passes->plan->cost;
    const int dim = passes->plan->source.dim;
    const int64_t number = cost->precision == FERRY_DOUBLE ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
    const int64_t panel = ferry_panel_bytes(cost, dim, passes->grid.target_rows);
    int64_t left = memory_of(options) - options->fixed_bytes -
                   passes->threads * (passes->together * panel + options->thread_bytes);
    int64_t row = 2 * dim * number + 4 * (int64_t)sizeof(double) + options->row_bytes;
    return left < row * UNIT ? UNIT : left / row / UNIT * UNIT;
}

/* Collective. The same batch everywhere. */
static void choose_batch(ferry_passes *passes, const ferry_passes_options *options)
{
    const ferry_grid *grid = &passes->grid;
    const int64_t cells = passes->plan->source.cells;
    int64_t most = (cells + grid->rows - 1) / grid->rows, batch = options->batch;
    for (int r = 0; passes->deal == FERRY_DEAL_SHARDS && r < grid->rows; r++) {
        int64_t rows = grid->source.first[r + 1] - grid->source.first[r];
        if (rows > most) most = rows;
    }
    if (batch <= 0) batch = ferry_min(passes->world, rows_that_fit(passes, options));
    if (options->batch <= 0 && options->most_rows > 0 && batch > options->most_rows) batch = options->most_rows;
    if (batch > most) batch = most;
    batch = (batch + UNIT - 1) / UNIT * UNIT;
    passes->batch = batch > 0 ? batch : UNIT;
    int64_t covered = passes->deal == FERRY_DEAL_CYCLIC ? passes->batch * grid->rows : passes->batch;
    int64_t length = passes->deal == FERRY_DEAL_CYCLIC ? cells : most;
    passes->passes = (length + covered - 1) / covered;
}

ferry_status ferry_passes_open(ferry_passes *out, ferry_plan *plan, const ferry_world *world,
                               const ferry_passes_options *options)
{
    memset(out, 0, sizeof *out);
    const int64_t shape[5] = {(int64_t)options->deal, options->grid_rows, options->grid_cols, options->batch,
                              options->memory};
    FERRY_TRY(ferry_same(world, "grid, batch and memory of the passes", shape, sizeof shape));
    out->plan = plan;
    out->world = world;
    out->deal = options->deal;
    out->threads = plan->cost.threads > 0 ? plan->cost.threads : 1;
    const int cols = options->grid_cols > 0 ? options->grid_cols : 1;
    const int rows = options->grid_rows > 0 ? options->grid_rows : world->size / cols;
    FERRY_TRY(ferry_grid_open(&out->grid, world, rows, cols, plan->source.cells, plan->target.cells));
    ferry_matrix y = {0};
    ferry_status status = read_target(&y, out);
    if (status == FERRY_OK) status = ferry_cost_open_target(&out->cost, &out->grid, &y, &plan->cost, plan->inv_scale);
    ferry_matrix_close(&y);
    FERRY_TRY(status);
    out->together = choose_together(out, options);
    FERRY_TRY(ferry_agree(world, open_panels(out)));
    choose_batch(out, options);
    return FERRY_OK;
}

void ferry_passes_close(ferry_passes *passes)
{
    for (int p = 0; passes->pool && p < passes->threads * passes->together; p++) ferry_panel_close(&passes->pool[p]);
    free(passes->pool);
    free(passes->number);
    free(passes->panel);
    free(passes->column);
    ferry_target_close(&passes->target);
    ferry_cost_close(&passes->cost);
    ferry_grid_close(&passes->grid);
    memset(passes, 0, sizeof *passes);
}

static void find_rows(ferry_pass *pass, const ferry_passes *passes, int64_t number)
{
    const ferry_grid *grid = &passes->grid;
    int64_t end;
    if (passes->deal == FERRY_DEAL_CYCLIC) {
        pass->first = (number * grid->rows + grid->row) * passes->batch;
        end = passes->plan->source.cells;
    } else {
        pass->first = grid->source_first + number * passes->batch;
        end = grid->source_first + grid->source_rows;
    }
    if (pass->first > end) pass->first = end;
    pass->rows = end - pass->first < passes->batch ? end - pass->first : passes->batch;
    pass->panels = (pass->rows + UNIT - 1) / UNIT;
}

static ferry_status prepare(ferry_pass *pass, const ferry_passes *passes, const ferry_matrix *x)
{
    FERRY_TRY(ferry_source_open(&pass->source, passes->cost, x));
    FERRY_TRY(ferry_alloc(&pass->f, pass->panels * UNIT));
    FERRY_TRY(ferry_plan_source_potentials(pass->f, passes->plan, pass->first, pass->rows));
    for (int64_t i = pass->rows; i < pass->panels * UNIT; i++) pass->f[i] = -INFINITY;
    return FERRY_OK;
}

ferry_status ferry_pass_open(ferry_pass *out, ferry_passes *passes, int64_t number)
{
    memset(out, 0, sizeof *out);
    find_rows(out, passes, number);
    for (int p = 0; p < passes->threads * passes->together; p++) passes->number[p] = -1;
    ferry_stage_sample();
    ferry_matrix x = {0};
    ferry_status status = ferry_population_points(&x, passes->world, &passes->plan->source, out->first, out->rows,
                                                  passes->plan->cost.precision, NULL);
    if (status == FERRY_OK) {
        if (passes->grid.col == 0) passes->seen += ferry_fingerprint(&x, out->first);
        status = ferry_agree(passes->world, prepare(out, passes, &x));
    }
    ferry_matrix_close(&x);
    return status;
}

void ferry_pass_close(ferry_pass *pass)
{
    ferry_source_close(&pass->source);
    free(pass->f);
    memset(pass, 0, sizeof *pass);
}

ferry_status ferry_passes_check(ferry_passes *passes)
{
    const uint64_t seen = passes->seen;
    passes->seen = 0;
    return ferry_plan_same(passes->world, passes->plan, false, seen);
}

ferry_panel *ferry_passes_panel_of(ferry_passes *passes, const ferry_pass *pass, const int64_t *next, int count,
                                   int thread)
{
    const int together = passes->together;
    ferry_panel *pool = passes->pool + (int64_t)thread * together;
    int64_t *held = passes->number + (int64_t)thread * together;
    ferry_panel_rows rows[FERRY_PANELS_AT_ONCE];
    for (int g = 0; g < together; g++)
        if (held[g] == next[0]) return passes->panel[thread] = &pool[g];
    if (count > together) count = together;
    for (int g = 0; g < together; g++) held[g] = g < count ? next[g] : -1;
    for (int g = 0; g < count; g++) rows[g] = (ferry_panel_rows){&pool[g], next[g], pass->f + next[g] * UNIT};
    ferry_panels_plan(rows, count, &pass->source, &passes->target);
    return passes->panel[thread] = pool;
}

ferry_panel *ferry_passes_panel(ferry_passes *passes, const ferry_pass *pass, int64_t number, int64_t step, int thread)
{
    int64_t next[FERRY_PANELS_AT_ONCE] = {number};
    int count = 1;
    for (int64_t p = number + step; step > 0 && count < passes->together && p < pass->panels; p += step)
        next[count++] = p;
    return ferry_passes_panel_of(passes, pass, next, count, thread);
}

void ferry_passes_plan(ferry_passes *passes, const ferry_pass *pass, int64_t first, int count)
{
#pragma omp parallel for num_threads(passes->threads) schedule(static, 1)
    for (int t = 0; t < count; t++) (void)ferry_passes_panel(passes, pass, first + t, passes->threads, t);
}

int64_t ferry_passes_done(const ferry_passes *passes, int64_t number)
{
    const int64_t done = (number + 1) * passes->batch * passes->grid.rows, cells = passes->plan->source.cells;
    return number + 1 == passes->passes || done > cells ? cells : done;
}

/* The plan times vectors, panel by panel.
 *
 *   pull: out_i = sum_j P_ij v_j        push: out_j = sum_i P_ij v_i
 *
 * pull: within a canonical target block float32 by units, then float64 (kernels.h: times); blocks are added by the
 * adjacent-pair tree, over the grid row where it has several columns. push: one float64 vector of all target columns
 * per canonical source block, panels in ascending order; blocks are added by the tree, down the grid column. So both
 * come out with the same bits for any batch, number of ranks and threads. Threads evaluate a panel each; adding to the
 * open block's vector is then shared out by columns, since the order of panels is fixed.
 *
 * A few columns in all are pulled otherwise (kernels.h: few_times), with v stored column by column: the way must not
 * depend on how many columns memory allows at a time.
 *
 * Columns of v go in runs that fit in memory, and inside a run in chunks of 64, which is what a kernel call takes; a
 * matrix of a run is stored chunk by chunk: [chunk][rows][<= 64]. */
#include "apply_impl.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "passes_impl.h"
#include "plan_impl.h"
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    ((int64_t)ROWS * COLUMNS)
#define CHUNK   64
#define FEW     16    /* columns */
#define SLAB    4096  /* rows read at a time for the sums of columns */
#define TINY    1e-12 /* moscot's: marginals are divided by after adding it */

typedef ferry_status (*giver)(void *self, int64_t first, int64_t count, int64_t column, int64_t columns,
                              const double *out);

/* A matrix of a run in the precision of the plan. */
struct numbers {
    float *f;
    double *d;
};

struct apply {
    const ferry_apply_options *options;
    const ferry_values *values; /* NULL: one column of ones */
    ferry_passes passes;
    const ferry_kernels *kernels;
    bool precise;
    bool few;              /* pull: not many columns in all */
    int64_t width;         /* most columns of a run */
    int64_t column, run;   /* first column and columns of the present run */
    int64_t padded;        /* target columns of this grid column, whole units */
    double *sum;           /* [width] of each column of v, for normalize; otherwise NULL */
    double *marginal;      /* [padded] P^T 1, for pull with scale_by_marginals; otherwise NULL */
    ferry_forest **across; /* [threads] sums over target blocks */
    ferry_forest *down;    /* sums over source blocks, for push */
    double *leaf;          /* its open block's vector, */
    int block;             /* and which block that is; -1: none */
    ferry_window window;   /* v of the target side, for pull */
    struct numbers v;      /* pull: [padded][run] in the window; push: [threads][24][run] */
    struct numbers one;    /* [padded] ones times the factors of the columns, for push with scale_by_marginals */
    float *read;           /* [rows][run] as values->read gives them */
    double *out;           /* pull: [batch][run]; push: [padded][run] */
    double *panel_out;     /* [threads][24][run] */
    ferry_status *status;  /* [threads] */
};

/* ---- layout ---- */

static int chunk_width(int64_t run, int64_t from)
{
    return (int)(run - from < CHUNK ? run - from : CHUNK);
}

/* Where element (row, w) of [chunk][rows][<= 64] is. */
static int64_t place(int64_t rows, int64_t run, int64_t row, int64_t w)
{
    const int64_t from = w / CHUNK * CHUNK;
    return rows * from + row * chunk_width(run, from) + (w - from);
}

static void put(const struct numbers *into, int64_t at, double value)
{
    if (into->d)
        into->d[at] = value;
    else
        into->f[at] = (float)value;
}

/* ---- plain loops, in double precision ---- */

static void times_double(double *out, const double *plan, const double *v, int width, int64_t units)
{
    for (int64_t u = 0; u < units; u++)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                for (int w = 0; w < width; w++)
                    out[i * width + w] += plan[u * TILE + i * COLUMNS + j] * v[(u * COLUMNS + j) * width + w];
}

static void transposed_double(double *out, const double *plan, const double *v, int width, int64_t units)
{
    for (int64_t u = 0; u < units; u++)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                for (int w = 0; w < width; w++)
                    out[(u * COLUMNS + j) * width + w] += plan[u * TILE + i * COLUMNS + j] * v[i * width + w];
}

/* Where element (row, w) of v [padded][run] is, of the target side. */
static int64_t target_place(const struct apply *a, int64_t run, int64_t row, int64_t w)
{
    return a->few ? w * a->padded + row : place(a->padded, run, row, w);
}

/* out [24][run] += units first ... first + units - 1 of the panel times v [padded][run] */
static void times(const struct apply *a, double *out, const ferry_panel *panel, const struct numbers *v, int64_t run,
                  int64_t first, int64_t units)
{
    if (a->few) {
        a->kernels->few_times(out, panel->f + first * TILE, v->f + first * COLUMNS, a->padded, (int)run, units);
        return;
    }
    for (int64_t w = 0; w < run; w += CHUNK) {
        const int width = chunk_width(run, w);
        const int64_t at = a->padded * w + first * COLUMNS * width;
        if (a->precise)
            times_double(out + ROWS * w, panel->d + first * TILE, v->d + at, width, units);
        else
            a->kernels->times(out + ROWS * w, panel->f + first * TILE, v->f + at, width, units);
    }
}

/* out [padded][run] += the same units of panel t, transposed, times its v [24][run] */
static void transposed_times(const struct apply *a, double *out, int t, int64_t first, int64_t units)
{
    const ferry_panel *panel = a->passes.panel[t];
    for (int64_t w = 0; w < a->run; w += CHUNK) {
        const int width = chunk_width(a->run, w);
        const int64_t at = t * ROWS * a->width + ROWS * w;
        double *into = out + a->padded * w + first * COLUMNS * width;
        if (a->precise)
            transposed_double(into, panel->d + first * TILE, a->v.d + at, width, units);
        else
            a->kernels->transposed_times(into, panel->f + first * TILE, a->v.f + at, width, units);
    }
}

/* ---- sums over the target blocks of a panel ---- */

/* Local. Thread t: its panel times v [padded][run], block by block; with one grid column the sum goes to out. */
static ferry_status add_target_blocks(struct apply *a, int t, const struct numbers *v, int64_t run, double *out)
{
    const ferry_grid *grid = &a->passes.grid;
    const ferry_panel *panel = a->passes.panel[t];
    for (int b = 0; b < panel->blocks; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, a->across[t]));
        times(a, leaf, panel, v, run, panel->unit[b], panel->unit[b + 1] - panel->unit[b]);
        ferry_forest_add(a->across[t], grid->target.block[grid->col] + b);
    }
    if (grid->cols == 1) ferry_forest_root(out, a->across[t]);
    return FERRY_OK;
}

static ferry_status worst(const struct apply *a)
{
    for (int t = 0; t < a->passes.threads; t++) FERRY_TRY(a->status[t]);
    return FERRY_OK;
}

/* Collective over the grid row. panel_out [threads][24 * width] = evaluated panels times v [padded][run]. The status is
 * the same on all ranks of the grid row. */
static ferry_status finish_panels(struct apply *a, const struct numbers *v, int64_t run, int count)
{
    const ferry_grid *grid = &a->passes.grid;
#pragma omp parallel for num_threads(a->passes.threads) schedule(static, 1)
    for (int t = 0; t < count; t++) a->status[t] = add_target_blocks(a, t, v, run, a->panel_out + t * ROWS * a->width);
    if (grid->cols == 1) return worst(a);
    FERRY_TRY(ferry_agree(&grid->across, worst(a)));
    for (int t = 0; t < count; t++)
        FERRY_TRY(ferry_forest_reduce(a->panel_out + t * ROWS * a->width, a->across[t], &grid->across,
                                      a->passes.plan->cost.reduction));
    return FERRY_OK;
}

static ferry_status open_across(struct apply *a, int64_t width)
{
    const int blocks = a->passes.grid.target.blocks.count;
    FERRY_TRY(ferry_alloc_bytes(&a->across, a->passes.threads, sizeof(ferry_forest *)));
    for (int t = 0; t < a->passes.threads; t++)
        FERRY_TRY(ferry_forest_open(&a->across[t], width, blocks, FERRY_JOIN_SUM));
    return ferry_alloc(&a->panel_out, a->passes.threads * ROWS * a->width);
}

/* ---- v ---- */

static double scaled(const struct apply *a, double v, int64_t w)
{
    return a->sum ? (a->sum[w] != 0 ? v / a->sum[w] : 0) : v;
}

static int64_t from_cells(const struct apply *a)
{
    return a->options->pull ? a->passes.plan->target.cells : a->passes.plan->source.cells;
}

/* Local. One slab's rows join the leaves of their blocks. */
static ferry_status add_slab(struct apply *a, ferry_forest *forest, double **leaf, const ferry_blocks *blocks, int *b,
                             int64_t first, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        if (!*leaf) FERRY_TRY(ferry_forest_leaf(leaf, forest));
        for (int64_t w = 0; w < a->run; w++) (*leaf)[w] += (double)a->read[i * a->run + w];
        if (first + i + 1 < ferry_block_first(blocks, *b + 1)) continue;
        ferry_forest_add(forest, (*b)++);
        *leaf = NULL;
    }
    return FERRY_OK;
}

/* Collective. sum [run] of the columns, canonically over the blocks of the side pushed from, shared out over all ranks.
 */
static ferry_status sum_shards(struct apply *a, ferry_forest *forest, const ferry_shards *shards)
{
    const ferry_world *world = a->passes.world;
    const int64_t end = shards->first[world->rank + 1];
    int64_t first = shards->first[world->rank];
    int b = shards->block[world->rank];
    double *leaf = NULL;
    const int64_t slabs = ferry_max(world, (end - first + SLAB - 1) / SLAB);
    for (int64_t s = 0; s < slabs; s++) {
        const int64_t rows = end - first < SLAB ? end - first : SLAB;
        FERRY_TRY(a->values->read(a->values->self, a->read, first, rows, a->column, a->run));
        FERRY_TRY(ferry_agree(world, add_slab(a, forest, &leaf, &shards->blocks, &b, first, rows)));
        first += rows;
    }
    return ferry_forest_reduce(a->sum, forest, world, FERRY_REDUCE_TREE);
}

static ferry_status open_shards(ferry_shards *shards, ferry_forest **forest, const struct apply *a)
{
    const int unit = a->options->pull ? FERRY_TARGET_UNIT : FERRY_SOURCE_UNIT;
    FERRY_TRY(ferry_shards_open(shards, from_cells(a), unit, a->passes.world->size));
    return ferry_forest_open(forest, a->run, shards->blocks.count, FERRY_JOIN_SUM);
}

/* Collective. */
static ferry_status find_sums(struct apply *a)
{
    if (!a->options->normalize) return FERRY_OK;
    ferry_shards shards = {0};
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(a->passes.world, open_shards(&shards, &forest, a));
    if (status == FERRY_OK) status = sum_shards(a, forest, &shards);
    ferry_forest_close(&forest);
    ferry_shards_close(&shards);
    return status;
}

/* ---- push ---- */

/* Local. The open block's vector for source row `row`; blocks before it are complete. */
static ferry_status open_block(struct apply *a, int64_t row)
{
    const ferry_grid *grid = &a->passes.grid;
    const ferry_blocks *blocks = &grid->source.blocks;
    if (a->block >= 0 && row < ferry_block_first(blocks, a->block + 1)) return FERRY_OK;
    const int next = a->block < 0 ? grid->source.block[grid->row] : a->block + 1;
    if (a->block >= 0) ferry_forest_add(a->down, a->block);
    a->block = -1;
    FERRY_TRY(ferry_forest_leaf(&a->leaf, a->down));
    a->block = next;
    return FERRY_OK;
}

static bool by_marginals(const struct apply *a) /* of the source side; not while ones are pushed */
{
    return a->options->scale_by_marginals && a->values;
}

/* v [24][run] of evaluated panel t: rows first + t of the pass, divided by what is asked for. */
static void fill_panel(struct apply *a, const ferry_pass *pass, int64_t first, int t)
{
    const ferry_panel *panel = a->passes.panel[t];
    const double *marginal = a->panel_out + t * ROWS * a->width;
    const int64_t base = t * ROWS * a->width;
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = (first + t) * ROWS + i;
        const double factor = ferry_passes_row_factor(panel, i);
        const double divide = by_marginals(a) ? marginal[i] * factor + TINY : 1;
        for (int64_t w = 0; w < a->run; w++) {
            double v = 0;
            if (row < pass->rows) v = a->values ? scaled(a, (double)a->read[row * a->run + w], w) : 1;
            put(&a->v, base + place(ROWS, a->run, i, w), v / divide * factor);
        }
    }
}

/* Panels t ... end - 1 of one block join its vector: every thread takes some of the columns. */
static void add_columns(struct apply *a, int from, int end)
{
    const int64_t units = a->padded / COLUMNS;
    const int threads = a->passes.threads;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        const int64_t first = units * k / threads, count = units * (k + 1) / threads - first;
        for (int t = from; t < end; t++) transposed_times(a, a->leaf, t, first, count);
    }
}

/* Local. Evaluated panels first ... first + count - 1 join the vectors of their blocks. */
static ferry_status add_panels(struct apply *a, const ferry_pass *pass, int64_t first, int count)
{
    for (int t = 0; t < count; t++) fill_panel(a, pass, first, t);
    for (int t = 0, end; t < count; t = end) {
        FERRY_TRY(open_block(a, pass->first + (first + t) * ROWS));
        const int64_t next = ferry_block_first(&a->passes.grid.source.blocks, a->block + 1);
        for (end = t + 1; end < count && pass->first + (first + end) * ROWS < next; end++) continue;
        add_columns(a, t, end);
    }
    return FERRY_OK;
}

/* Collective over the grid row; so is the status. */
static ferry_status push_panels(struct apply *a, const ferry_pass *pass, int64_t first, int count)
{
    ferry_passes_plan(&a->passes, pass, first, count);
    if (by_marginals(a)) FERRY_TRY(finish_panels(a, &a->one, 1, count));
    ferry_status status = add_panels(a, pass, first, count);
    return by_marginals(a) && a->passes.grid.cols > 1 ? ferry_agree(&a->passes.grid.across, status) : status;
}

static ferry_status push_pass(struct apply *a, const ferry_pass *pass)
{
    const int threads = a->passes.threads;
    ferry_status status = FERRY_OK;
    for (int64_t p = 0; p < pass->panels && status == FERRY_OK; p += threads)
        status = push_panels(a, pass, p, (int)(pass->panels - p < threads ? pass->panels - p : threads));
    return status;
}

static ferry_status open_ones(struct apply *a)
{
    FERRY_TRY(a->precise ? ferry_alloc(&a->one.d, a->padded) : ferry_alloc(&a->one.f, a->padded));
    for (int64_t j = 0; j < a->passes.grid.target_rows; j++) put(&a->one, j, (double)a->passes.column[j]);
    return FERRY_OK;
}

static ferry_status open_push(struct apply *a)
{
    const ferry_grid *grid = &a->passes.grid;
    a->block = -1;
    FERRY_TRY(open_across(a, ROWS));
    if (by_marginals(a)) FERRY_TRY(open_ones(a));
    FERRY_TRY(ferry_forest_open(&a->down, a->padded * a->run, grid->source.blocks.count, FERRY_JOIN_SUM));
    FERRY_TRY(ferry_alloc(&a->out, a->padded * a->run));
    const int64_t v = a->passes.threads * ROWS * a->width;
    return a->precise ? ferry_alloc(&a->v.d, v) : ferry_alloc(&a->v.f, v);
}

static void close_push(struct apply *a)
{
    free(a->v.f);
    free(a->v.d);
    free(a->one.f);
    free(a->one.d);
    a->v = a->one = (struct numbers){NULL, NULL};
    ferry_forest_close(&a->down);
}

/* Collective. What a pass needs of v; ones need nothing. */
static ferry_status read_pass(struct apply *a, const ferry_pass *pass)
{
    if (!a->values) return FERRY_OK;
    return a->values->read(a->values->self, a->read, pass->first, pass->rows, a->column, a->run);
}

/* Collective. One pass over all source rows: `one` is what is done with each batch. */
static ferry_status go_through(struct apply *a, ferry_status (*prepare)(struct apply *, const ferry_pass *),
                               ferry_status (*one)(struct apply *, const ferry_pass *),
                               ferry_status (*after)(struct apply *, const ferry_pass *, void *), void *after_self)
{
    ferry_passes *passes = &a->passes;
    for (int64_t p = 0; p < passes->passes; p++) {
        ferry_pass pass;
        ferry_status status = ferry_pass_open(&pass, passes, p);
        if (status == FERRY_OK && prepare) status = prepare(a, &pass);
        if (status == FERRY_OK) status = ferry_agree(passes->world, one(a, &pass));
        if (status == FERRY_OK && after) status = after(a, &pass, after_self);
        ferry_pass_close(&pass);
        FERRY_TRY(status);
        ferry_progress(passes->world, a->options->pull && a->values ? "pull" : "push", ferry_passes_done(passes, p),
                       passes->plan->source.cells, "rows", NULL);
    }
    return ferry_passes_check(passes);
}

/* Collective. out [padded][run] of this grid column, on all its ranks. */
static ferry_status reduce_push(struct apply *a)
{
    if (a->block >= 0) ferry_forest_add(a->down, a->block);
    a->block = -1;
    FERRY_TRY(ferry_forest_reduce(a->out, a->down, &a->passes.grid.down, a->passes.plan->cost.reduction));
    for (int64_t j = 0; j < a->padded; j++)
        for (int64_t w = 0; w < a->run; w++) a->out[place(a->padded, a->run, j, w)] *= (double)a->passes.column[j];
    return FERRY_OK;
}

static ferry_status push(struct apply *a)
{
    ferry_status status = ferry_agree(a->passes.world, open_push(a));
    if (status == FERRY_OK) status = go_through(a, read_pass, push_pass, NULL, NULL);
    if (status == FERRY_OK) status = ferry_agree(a->passes.world, reduce_push(a));
    close_push(a);
    return status;
}

struct receiver {
    giver give;
    void *self;
};

/* Collective. The ranks of a grid column share out its rows. */
static ferry_status give_targets(struct apply *a, const struct receiver *to)
{
    const ferry_grid *grid = &a->passes.grid;
    const int64_t first = ferry_plan_part(grid->target_rows, grid->row, grid->rows);
    const int64_t count = ferry_plan_part(grid->target_rows, grid->row + 1, grid->rows) - first;
    FERRY_AUTO double *rows = NULL;
    FERRY_TRY(ferry_agree(grid->world, ferry_alloc(&rows, count * a->run)));
    for (int64_t j = 0; j < count; j++)
        for (int64_t w = 0; w < a->run; w++) rows[j * a->run + w] = a->out[place(a->padded, a->run, first + j, w)];
    return to->give(to->self, grid->target_first + first, count, a->column, a->run, rows);
}

/* ---- pull ---- */

/* Local. What this rank brings of v, into the node's copy. */
static void fill_window(struct apply *a)
{
    const ferry_grid *grid = &a->passes.grid;
    const int64_t skip = grid->bring_first - grid->target_first;
    for (int64_t i = 0; i < grid->bring_rows; i++) {
        const int64_t j = skip + i;
        const double divide = a->marginal ? a->marginal[j] + TINY : 1;
        for (int64_t w = 0; w < a->run; w++)
            put(&a->v, target_place(a, a->run, j, w),
                scaled(a, (double)a->read[i * a->run + w], w) / divide * (double)a->passes.column[j]);
    }
}

static ferry_status open_pull(struct apply *a)
{
    FERRY_TRY(open_across(a, ROWS * a->run));
    return ferry_alloc(&a->out, a->passes.batch * a->run);
}

/* Collective. The node's copy of v: padding stays 0. */
static ferry_status share_values(struct apply *a)
{
    const ferry_grid *grid = &a->passes.grid;
    const size_t number = a->precise ? sizeof(double) : sizeof(float);
    const size_t bytes = (size_t)(a->padded * a->run + 1) * number; /* + 1: a grid column may be empty */
    FERRY_TRY(ferry_agree(grid->world, ferry_window_open(&a->window, &grid->sharing, bytes)));
    a->v = (struct numbers){a->precise ? NULL : a->window.base, a->precise ? a->window.base : NULL};
    if (grid->sharing.rank == 0) memset(a->window.base, 0, bytes);
    ferry_window_sync(&a->window, &grid->sharing);
    FERRY_TRY(a->values->read(a->values->self, a->read, grid->bring_first, grid->bring_rows, a->column, a->run));
    fill_window(a);
    ferry_window_sync(&a->window, &grid->sharing);
    return FERRY_OK;
}

/* Collective over the grid row. */
static ferry_status pull_pass(struct apply *a, const ferry_pass *pass)
{
    const int threads = a->passes.threads;
    for (int64_t p = 0; p < pass->panels; p += threads) {
        const int count = (int)(pass->panels - p < threads ? pass->panels - p : threads);
        ferry_passes_plan(&a->passes, pass, p, count);
        FERRY_TRY(finish_panels(a, &a->v, a->run, count));
        for (int64_t r = 0; r < count * ROWS && p * ROWS + r < pass->rows; r++) {
            const int t = (int)(r / ROWS), i = (int)(r % ROWS);
            const double factor = ferry_passes_row_factor(a->passes.panel[t], i);
            for (int64_t w = 0; w < a->run; w++)
                a->out[(p * ROWS + r) * a->run + w] =
                    a->panel_out[t * ROWS * a->width + place(ROWS, a->run, i, w)] * factor;
        }
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status give_sources(struct apply *a, const ferry_pass *pass, void *receiver)
{
    const struct receiver *to = receiver;
    const int64_t count = a->passes.grid.col == 0 ? pass->rows : 0;
    return to->give(to->self, pass->first, count, a->column, a->run, a->out);
}

static ferry_status pull(struct apply *a, struct receiver *to)
{
    ferry_status status = ferry_agree(a->passes.world, open_pull(a));
    if (status == FERRY_OK) status = share_values(a);
    if (status == FERRY_OK) status = go_through(a, NULL, pull_pass, give_sources, to);
    a->v = (struct numbers){NULL, NULL};
    ferry_window_close(&a->window);
    return status;
}

/* ---- runs ---- */

static void close_run(struct apply *a)
{
    for (int t = 0; a->across && t < a->passes.threads; t++) ferry_forest_close(&a->across[t]);
    free(a->across);
    free(a->panel_out);
    free(a->out);
    a->across = NULL;
    a->panel_out = a->out = NULL;
}

/* Collective. marginal [padded] = P^T 1: a push of ones. */
static ferry_status find_marginal(struct apply *a)
{
    const ferry_values *values = a->values;
    if (!a->options->pull || !a->options->scale_by_marginals) return FERRY_OK;
    a->values = NULL;
    a->run = 1;
    ferry_status status = push(a);
    a->values = values;
    a->marginal = a->out;
    a->out = NULL;
    close_run(a);
    return status;
}

/* Local. */
static ferry_status open_apply(struct apply *a)
{
    const ferry_grid *grid = &a->passes.grid;
    int64_t rows = a->options->pull ? grid->bring_rows : a->passes.batch;
    if (a->options->normalize && rows < SLAB) rows = SLAB;
    a->kernels = ferry_cost_options_of(a->passes.cost)->kernels;
    a->padded = ferry_passes_units(&a->passes, grid->col) * COLUMNS;
    FERRY_TRY(ferry_alloc(&a->status, a->passes.threads));
    if (a->options->normalize) FERRY_TRY(ferry_alloc(&a->sum, a->width));
    return ferry_alloc(&a->read, rows * a->width);
}

static ferry_status one_run(struct apply *a, struct receiver *to)
{
    FERRY_TRY(find_sums(a));
    ferry_status status = a->options->pull ? pull(a, to) : push(a);
    if (status == FERRY_OK && !a->options->pull) status = give_targets(a, to);
    close_run(a);
    return status;
}

static ferry_status all_runs(struct apply *a, struct receiver *to)
{
    FERRY_TRY(ferry_agree(a->passes.world, open_apply(a)));
    FERRY_TRY(find_marginal(a));
    for (a->column = 0; a->column < a->values->columns; a->column += a->width) {
        const int64_t left = a->values->columns - a->column;
        a->run = left < a->width ? left : a->width;
        FERRY_TRY(one_run(a, to));
    }
    return FERRY_OK;
}

/* Local, the same on all ranks. Bytes that one column of v takes on a rank, beside batches. */
static int64_t column_bytes(const struct apply *a, const ferry_plan *plan, int rows, int cols)
{
    const int64_t padded = (plan->target.cells / cols / COLUMNS + 2) * COLUMNS;
    const int64_t number = a->precise ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
    if (a->options->pull) return padded * (number + (int64_t)sizeof(float));
    const ferry_blocks blocks = ferry_blocks_of(plan->source.cells, FERRY_SOURCE_UNIT);
    const int mine = blocks.count / rows + 1 < blocks.count ? blocks.count / rows + 1 : blocks.count;
    return ferry_forest_bytes(padded, blocks.count, mine) + 2 * padded * (int64_t)sizeof(double);
}

/* Half of the memory is for what grows with the columns of a run. */
static ferry_passes_options plan_runs(struct apply *a, const ferry_plan *plan, const ferry_world *world, bool whole)
{
    const ferry_apply_options *options = a->options;
    const int cols = options->grid_cols > 0 ? options->grid_cols : 1;
    const int rows = options->grid_rows > 0 ? options->grid_rows : (world->size / cols > 0 ? world->size / cols : 1);
    const int64_t memory = options->memory > 0 ? options->memory : FERRY_PASSES_MEMORY;
    const int64_t each = column_bytes(a, plan, rows, cols);
    int64_t width = memory / 2 / each;
    if (width > CHUNK) width = width / CHUNK * CHUNK;
    if (width < 1) width = 1;
    a->width = whole || width > a->values->columns ? a->values->columns : width;
    return (ferry_passes_options){
        .deal = FERRY_DEAL_SHARDS,
        .grid_rows = options->grid_rows,
        .grid_cols = options->grid_cols,
        .batch = options->batch,
        .memory = options->memory,
        .fixed_bytes = each * a->width,
        .row_bytes = a->width * (int64_t)(options->pull ? sizeof(double) : sizeof(float)),
        .thread_bytes = ROWS * a->width * (int64_t)sizeof(double) * 12, /* a few roots of each thread's forest */
    };
}

ferry_status ferry_apply_runs(ferry_plan *plan, const ferry_world *world, const ferry_apply_options *options,
                              const ferry_values *values, bool whole, giver give, void *give_self)
{
    const int64_t shape[4] = {values->columns, options->pull, options->normalize, options->scale_by_marginals};
    FERRY_TRY(ferry_same(world, "what is pushed or pulled", shape, sizeof shape));
    if (values->columns < 1) return ferry_fail(FERRY_E_ARG, "there is no column to push or pull");
    struct apply a = {.options = options, .values = values, .precise = plan->cost.precision == FERRY_DOUBLE};
    a.few = !a.precise && (!options->pull || values->columns <= FEW); /* pushed with: only marginals, one column */
    struct receiver to = {give, give_self};
    const ferry_passes_options pass = plan_runs(&a, plan, world, whole);
    ferry_status status = ferry_passes_open(&a.passes, plan, world, &pass);
    if (status == FERRY_OK) status = all_runs(&a, &to);
    close_run(&a);
    free(a.status);
    free(a.sum);
    free(a.marginal);
    free(a.read);
    ferry_passes_close(&a.passes);
    return status;
}

ferry_status ferry_apply(ferry_plan *plan, const ferry_world *world, const ferry_apply_options *options,
                         const ferry_values *values, giver give, void *give_self)
{
    return ferry_apply_runs(plan, world, options, values, false, give, give_self);
}

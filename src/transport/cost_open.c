/* Opening a cost: the target mean, both sides prepared and packed, sums by canonical blocks.
 *
 * The target side lies once per node in a shared window: each rank prepares the rows it brings. Block sums of all
 * canonical blocks of the grid column lie there too, so every rank can add up the whole column in the canonical order
 * and the grid row completes the sum. The centre and everything derived from it is thus the same for every layout. */
#include "cost_impl.h"
#include "cost_scale_impl.h"
#include <math.h>
#include <string.h>

#define COLUMNS FERRY_TARGET_UNIT
#define ROWS    FERRY_SOURCE_UNIT

static bool wants_y2(ferry_cost_kind kind)
{
    return kind == FERRY_COST_EUCLIDEAN || kind == FERRY_COST_EUCLIDEAN_P || kind == FERRY_COST_ARCCOS;
}

/* Local. What a kind means for the tiles. */
static ferry_status describe(ferry_cost *cost)
{
    ferry_cost_options *o = &cost->options;
    const bool exact_cosine = o->kind == FERRY_COST_COSINE && o->precision == FERRY_DOUBLE;
    cost->tile = FERRY_TILE_LINEAR;
    cost->bilinear = !exact_cosine;
    cost->factor = 1;
    switch (o->kind) {
    case FERRY_COST_SQ_EUCLIDEAN:
        cost->factor = 2;
        break;
    case FERRY_COST_DOT:
    case FERRY_COST_COSINE:
    case FERRY_COST_SPEARMAN:
    case FERRY_COST_CORRELATION:
        break;
    case FERRY_COST_EUCLIDEAN:
        o->p = 1;
        cost->tile = FERRY_TILE_EUCLIDEAN_P;
        break;
    case FERRY_COST_EUCLIDEAN_P:
        cost->tile = FERRY_TILE_EUCLIDEAN_P;
        break;
    case FERRY_COST_ARCCOS:
        cost->tile = FERRY_TILE_ARCCOS;
        break;
    case FERRY_COST_PNORM:
        cost->tile = FERRY_TILE_PNORM;
        break;
    case FERRY_COST_SQ_PNORM:
        cost->tile = FERRY_TILE_SQ_PNORM;
        break;
    default:
        return ferry_fail(FERRY_E_ARG, "unknown cost number %d", (int)o->kind);
    }
    if (cost->tile == FERRY_TILE_LINEAR) {
        cost->centred = o->kind == FERRY_COST_SQ_EUCLIDEAN || o->precision == FERRY_FLOAT;
    } else {
        cost->bilinear = false;
        cost->centred = cost->tile != FERRY_TILE_ARCCOS;
        if (!(o->p > 0) && cost->tile != FERRY_TILE_ARCCOS)
            return ferry_fail(FERRY_E_ARG, "the exponent of the cost is %g: it must be positive", o->p);
    }
    return FERRY_OK;
}

/* Local. First and last + 1 unit of the canonical blocks of this grid column. */
static ferry_status cut_units(ferry_cost *cost)
{
    const ferry_grid *grid = cost->grid;
    const int first = grid->target.block[grid->col], last = grid->target.block[grid->col + 1];
    cost->blocks = last - first;
    FERRY_TRY(ferry_alloc(&cost->unit, (int64_t)cost->blocks + 1));
    for (int b = 0; b <= cost->blocks; b++) {
        int64_t row = ferry_block_first(&grid->target.blocks, first + b) - grid->target_first;
        cost->unit[b] = (row + COLUMNS - 1) / COLUMNS;
    }
    cost->units = cost->unit[cost->blocks];
    cost->columns = cost->units * COLUMNS;
    return FERRY_OK;
}

/* Local. All rows of a side must be numbers. */
static ferry_status check_finite(const ferry_matrix *x, const char *side, int64_t first)
{
    for (int64_t i = 0; i < x->rows; i++)
        for (int k = 0; k < x->dim; k++) {
            double value = x->d ? x->d[i * x->dim + k] : (double)x->f[i * x->dim + k];
            if (!isfinite(value))
                return ferry_fail(FERRY_E_FILE,
                                  "%s cell %lld (of those kept) has %g in dimension %d: leave such cells out with a "
                                  "filter, or mend the representation",
                                  side, (long long)(first + i), value, k);
        }
    return FERRY_OK;
}

static ferry_status check_matrix(const ferry_matrix *x, const ferry_cost *cost, const char *side, int64_t first,
                                 int64_t rows)
{
    const bool right = cost->options.precision == FERRY_DOUBLE ? x->d != NULL : x->f != NULL;
    if (x->rows != rows)
        return ferry_fail(FERRY_E_ARG, "%s side: %lld rows were brought where the grid has %lld", side,
                          (long long)x->rows, (long long)rows);
    if (x->dim < 1) return ferry_fail(FERRY_E_ARG, "%s side: the representation has no dimensions", side);
    if (x->dim != cost->dim)
        return ferry_fail(FERRY_E_ARG,
                          "source and target have %d and %d dimensions: choose representations of the same width",
                          cost->dim, x->dim);
    if (!right && rows > 0) return ferry_fail(FERRY_E_ARG, "%s side: rows are not in the precision of the cost", side);
    return check_finite(x, side, first);
}

/* Local. Everything before the first message. */
static ferry_status begin(ferry_cost *cost, const ferry_grid *grid, const ferry_matrix *x, const ferry_matrix *y,
                          const ferry_cost_options *options)
{
    cost->grid = grid;
    cost->options = *options;
    if (cost->options.threads < 1) cost->options.threads = 1;
    cost->dim = x ? x->dim : y->dim;
    cost->inv_scale = 1;
    FERRY_TRY(describe(cost));
    if (grid->source.blocks.rows < 1) return ferry_fail(FERRY_E_FILE, "the source side has no cells");
    if (grid->target.blocks.rows < 1) return ferry_fail(FERRY_E_FILE, "the target side has no cells");
    if (x) FERRY_TRY(check_matrix(x, cost, "source", grid->source_first, grid->source_rows));
    FERRY_TRY(check_matrix(y, cost, "target", grid->bring_first, grid->bring_rows));
    FERRY_TRY(cut_units(cost));
    FERRY_TRY(ferry_alloc(&cost->centre, cost->dim));
    FERRY_TRY(ferry_alloc(&cost->sum_x, (int64_t)cost->dim + 1));
    return ferry_alloc(&cost->sum_y, (int64_t)cost->dim + 1);
}

/* Bytes of one array in the window, on its own cache lines. */
static size_t room(int64_t count, size_t size)
{
    return ((size_t)count * size + 63) / 64 * 64;
}
/* Where things lie in the window, in bytes from its base: packed rows at 0, then these. */
typedef struct layout {
    size_t norms, small, block_sums, end; /* small: norms as float */
} layout;
static layout lay_out(const ferry_cost *cost)
{
    const bool in_double = cost->options.precision == FERRY_DOUBLE;
    layout at;
    at.norms = room(cost->columns * cost->dim, in_double ? sizeof(double) : sizeof(float));
    at.small = at.norms + room(cost->columns, sizeof(double));
    at.block_sums = at.small + (wants_y2(cost->options.kind) ? room(cost->columns, sizeof(float)) : 0);
    at.end = at.block_sums + room((int64_t)cost->blocks * (cost->dim + 1), sizeof(double));
    return at;
}
static void place(ferry_cost *cost, layout at)
{
    char *base = cost->window.base;
    if (cost->options.precision == FERRY_DOUBLE)
        cost->y_d = (double *)(void *)base;
    else
        cost->y = (float *)(void *)base;
    cost->y_norm = (double *)(void *)(base + at.norms);
    if (wants_y2(cost->options.kind)) cost->y2 = (float *)(void *)(base + at.small);
}

/* --- the target side --- */

static double raw_norm(const ferry_matrix *x, int64_t row)
{
    double sum = 0;
    for (int64_t e = row * x->dim; e < (row + 1) * x->dim; e++) {
        const double value = x->d ? x->d[e] : (double)x->f[e];
        sum += value * value;
    }
    return sum;
}

/* Local. Sums of the rows that this rank brings before they are centred, per canonical block. */
static ferry_status sum_targets(ferry_cost *cost, const ferry_matrix *y, double *block_sums)
{
    const ferry_grid *grid = cost->grid;
    const int mine = grid->target.block[grid->col], dim = cost->dim;
    FERRY_AUTO double *row = NULL;
    FERRY_AUTO char *scratch = NULL;
    FERRY_TRY(ferry_alloc(&row, dim));
    FERRY_TRY(ferry_alloc(&scratch, ferry_prepare_bytes(cost)));
    for (int b = grid->bring_block; b < grid->bring_block + grid->bring_blocks; b++) {
        double *sum = block_sums + (int64_t)(b - mine) * (dim + 1), norm;
        int64_t i = ferry_block_first(&grid->target.blocks, b) - grid->bring_first;
        const int64_t end = ferry_block_first(&grid->target.blocks, b + 1) - grid->bring_first;
        memset(sum, 0, (size_t)(dim + 1) * sizeof *sum);
        for (; i < end; i++) {
            ferry_prepare_rows(row, &norm, cost, y, i, 1, scratch);
            for (int k = 0; k < dim; k++) sum[k] += row[k];
            cost->raw_max_y = fmax(cost->raw_max_y, raw_norm(y, i));
        }
    }
    return FERRY_OK;
}

/* Collective over the grid row. The sum of all target blocks from those in the window. */
static ferry_status add_blocks(double *sum, ferry_cost *cost, const double *block_sums)
{
    const ferry_grid *grid = cost->grid;
    const int mine = grid->target.block[grid->col], width = cost->dim + 1;
    ferry_forest *forest = NULL;
    ferry_status status = ferry_forest_open(&forest, width, grid->target.blocks.count, FERRY_JOIN_SUM);
    for (int b = 0; b < cost->blocks && status == FERRY_OK; b++) {
        double *leaf;
        status = ferry_forest_leaf(&leaf, forest);
        if (status != FERRY_OK) break;
        memcpy(leaf, block_sums + (int64_t)b * width, (size_t)width * sizeof *leaf);
        ferry_forest_add(forest, mine + b);
    }
    status = ferry_agree(grid->world, status);
    if (status == FERRY_OK)
        status = ferry_agree(grid->world, ferry_forest_reduce(sum, forest, &grid->across, cost->options.reduction));
    ferry_forest_close(&forest);
    return status;
}

/* One unit of prepared rows [present, dim] into the window. */
static void pack_unit(ferry_cost *cost, int64_t unit, const double *rows, float *rows_f, int64_t present)
{
    const int dim = cost->dim;
    if (cost->y_d) {
        double *y = cost->y_d + unit * COLUMNS * dim;
        for (int k = 0; k < dim; k++)
            for (int j = 0; j < COLUMNS; j++) y[k * COLUMNS + j] = j < present ? rows[j * dim + k] : 0;
        return;
    }
    for (int64_t e = 0; e < present * dim; e++) rows_f[e] = (float)rows[e];
    cost->options.kernels->pack_columns(cost->y + unit * COLUMNS * dim, rows_f, present, dim);
}

/* Prepares and packs the rows this rank brings; block sums of prepared rows and norms replace the raw ones. */
static ferry_status pack_targets(ferry_cost *cost, const ferry_matrix *y, double *block_sums)
{
    const ferry_grid *grid = cost->grid;
    const int mine = grid->target.block[grid->col], dim = cost->dim;
    FERRY_AUTO double *rows = NULL;
    FERRY_AUTO float *rows_f = NULL;
    FERRY_AUTO char *scratch = NULL;
    FERRY_TRY(ferry_alloc(&rows, (int64_t)COLUMNS * dim));
    FERRY_TRY(ferry_alloc(&rows_f, (int64_t)COLUMNS * dim));
    FERRY_TRY(ferry_alloc(&scratch, ferry_prepare_bytes(cost)));
    for (int b = grid->bring_block; b < grid->bring_block + grid->bring_blocks; b++) {
        double *sum = block_sums + (int64_t)(b - mine) * (dim + 1);
        int64_t row = ferry_block_first(&grid->target.blocks, b);
        const int64_t end = ferry_block_first(&grid->target.blocks, b + 1);
        memset(sum, 0, (size_t)(dim + 1) * sizeof *sum);
        for (; row < end; row += COLUMNS) {
            const int64_t present = end - row < COLUMNS ? end - row : COLUMNS, at = row - grid->target_first;
            double *norm = cost->y_norm + at;
            ferry_prepare_rows(rows, norm, cost, y, row - grid->bring_first, present, scratch);
            pack_unit(cost, at / COLUMNS, rows, rows_f, present);
            for (int64_t j = 0; j < COLUMNS; j++) {
                if (j >= present) norm[j] = 0;
                if (cost->y2) cost->y2[at + j] = (float)norm[j];
            }
            for (int64_t j = 0; j < present; j++) {
                for (int k = 0; k < dim; k++) sum[k] += rows[j * dim + k];
                sum[dim] += norm[j];
            }
        }
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status open_target(ferry_cost *cost, const ferry_matrix *y)
{
    const ferry_grid *grid = cost->grid;
    const layout at = lay_out(cost);
    FERRY_TRY(ferry_agree(grid->world, ferry_window_open(&cost->window, &grid->sharing, at.end)));
    place(cost, at);
    double *block_sums = (double *)(void *)((char *)cost->window.base + at.block_sums);
    FERRY_TRY(ferry_agree(grid->world, sum_targets(cost, y, block_sums)));
    ferry_window_sync(&cost->window, &grid->sharing);
    FERRY_TRY(add_blocks(cost->sum_y, cost, block_sums));
    cost->raw_max_y = ferry_max_double(grid->world, cost->raw_max_y);
    for (int k = 0; k < cost->dim && cost->centred; k++)
        cost->centre[k] = cost->sum_y[k] / (double)grid->target.blocks.rows;
    ferry_window_sync(&cost->window, &grid->sharing); /* all have read the sums */
    FERRY_TRY(ferry_agree(grid->world, pack_targets(cost, y, block_sums)));
    ferry_window_sync(&cost->window, &grid->sharing);
    FERRY_TRY(add_blocks(cost->sum_y, cost, block_sums));
    ferry_window_sync(&cost->window, &grid->sharing); /* nobody may write before all have read */
    return FERRY_OK;
}

/* --- the source side --- */

static ferry_status pack_sources(ferry_source *out, const ferry_cost *cost, const ferry_matrix *x)
{
    const int dim = cost->dim;
    FERRY_AUTO double *rows = NULL;
    FERRY_AUTO float *rows_f = NULL;
    FERRY_AUTO char *scratch = NULL;
    FERRY_TRY(ferry_alloc(&rows, (int64_t)ROWS * dim));
    FERRY_TRY(ferry_alloc(&rows_f, (int64_t)ROWS * dim));
    FERRY_TRY(ferry_alloc(&scratch, ferry_prepare_bytes(cost)));
    FERRY_TRY(ferry_alloc(&out->norm, out->panels * ROWS));
    if (cost->options.precision == FERRY_DOUBLE)
        FERRY_TRY(ferry_alloc_bytes(&out->d, out->panels * ROWS, (size_t)dim * sizeof(double)));
    else
        FERRY_TRY(ferry_alloc_bytes(&out->f, out->panels * ROWS, (size_t)dim * sizeof(float)));
    for (int64_t p = 0; p < out->panels; p++) {
        const int64_t present = x->rows - p * ROWS < ROWS ? x->rows - p * ROWS : ROWS;
        ferry_prepare_rows(rows, out->norm + p * ROWS, cost, x, p * ROWS, present, scratch);
        if (out->d) {
            memcpy(out->d + p * ROWS * dim, rows, (size_t)(present * dim) * sizeof *rows);
        } else {
            for (int64_t e = 0; e < present * dim; e++) rows_f[e] = (float)rows[e];
            cost->options.kernels->pack_rows(out->f + p * ROWS * dim, rows_f, present, dim);
        }
    }
    return FERRY_OK;
}

ferry_status ferry_source_open(ferry_source *out, const ferry_cost *cost, const ferry_matrix *x)
{
    *out = (ferry_source){.rows = x->rows, .panels = (x->rows + ROWS - 1) / ROWS};
    ferry_status status = pack_sources(out, cost, x);
    if (status != FERRY_OK) ferry_source_close(out);
    return status;
}
void ferry_source_close(ferry_source *source)
{
    free(source->f);
    free(source->d);
    free(source->norm);
    memset(source, 0, sizeof *source);
}

/* Local. Sums of prepared source rows by canonical blocks. */
static ferry_status sum_sources(ferry_forest *forest, ferry_cost *cost, const ferry_matrix *x)
{
    const ferry_grid *grid = cost->grid;
    const int dim = cost->dim;
    FERRY_AUTO double *row = NULL;
    FERRY_AUTO char *scratch = NULL;
    FERRY_TRY(ferry_alloc(&row, dim));
    FERRY_TRY(ferry_alloc(&scratch, ferry_prepare_bytes(cost)));
    for (int b = grid->source.block[grid->row]; b < grid->source.block[grid->row + 1]; b++) {
        double *sum, norm;
        FERRY_TRY(ferry_forest_leaf(&sum, forest));
        int64_t i = ferry_block_first(&grid->source.blocks, b) - grid->source_first;
        const int64_t end = ferry_block_first(&grid->source.blocks, b + 1) - grid->source_first;
        for (; i < end; i++) {
            ferry_prepare_rows(row, &norm, cost, x, i, 1, scratch);
            for (int k = 0; k < dim; k++) sum[k] += row[k];
            sum[dim] += norm;
            cost->raw_max_x = fmax(cost->raw_max_x, raw_norm(x, i));
        }
        ferry_forest_add(forest, b);
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status open_source(ferry_cost *cost, const ferry_matrix *x)
{
    const ferry_grid *grid = cost->grid;
    ferry_forest *forest = NULL;
    ferry_status status = ferry_source_open(&cost->source, cost, x);
    cost->has_source = status == FERRY_OK;
    if (status == FERRY_OK)
        status = ferry_forest_open(&forest, cost->dim + 1, grid->source.blocks.count, FERRY_JOIN_SUM);
    if (status == FERRY_OK) status = sum_sources(forest, cost, x);
    status = ferry_agree(grid->world, status);
    if (status == FERRY_OK)
        status =
            ferry_agree(grid->world, ferry_forest_reduce(cost->sum_x, forest, &grid->down, cost->options.reduction));
    ferry_forest_close(&forest);
    if (status == FERRY_OK) cost->raw_max_x = ferry_max_double(grid->world, cost->raw_max_x);
    return status;
}

/* --- open and close --- */

/* Collective. */
static ferry_status open_cost(ferry_cost *cost, const ferry_grid *grid, const ferry_matrix *x, const ferry_matrix *y,
                              const ferry_cost_options *options)
{
    FERRY_TRY(ferry_agree(grid->world, begin(cost, grid, x, y, options)));
    const int shape[] = {cost->dim, (int)options->kind, (int)options->scale, (int)options->precision,
                         (int)options->reduction};
    FERRY_TRY(ferry_same(grid->world, "the width of the representation and the cost", shape, sizeof shape));
    if (!cost->options.kernels) FERRY_TRY(ferry_kernels_choose(&cost->options.kernels, grid->world, NULL));
    FERRY_TRY(open_target(cost, y));
    if (!x) return FERRY_OK;
    FERRY_TRY(open_source(cost, x));
    return ferry_cost_set_scale(cost);
}

ferry_status ferry_cost_open(ferry_cost **out, const ferry_grid *grid, const ferry_matrix *x, const ferry_matrix *y,
                             const ferry_cost_options *options)
{
    *out = NULL;
    ferry_cost *cost = NULL;
    ferry_status status = ferry_agree(grid->world, ferry_alloc(&cost, 1));
    if (status == FERRY_OK) status = open_cost(cost, grid, x, y, options);
    if (status == FERRY_OK)
        *out = cost;
    else
        ferry_cost_close(&cost);
    return status;
}

ferry_status ferry_cost_open_target(ferry_cost **out, const ferry_grid *grid, const ferry_matrix *y,
                                    const ferry_cost_options *options, double inv_scale)
{
    FERRY_TRY(ferry_cost_open(out, grid, NULL, y, options));
    (*out)->inv_scale = inv_scale;
    return FERRY_OK;
}

void ferry_cost_close(ferry_cost **cost)
{
    ferry_cost *c = *cost;
    if (!c) return;
    ferry_source_close(&c->source);
    if (c->window.base) ferry_window_close(&c->window);
    free(c->unit);
    free(c->centre);
    free(c->sum_x);
    free(c->sum_y);
    free(c);
    *cost = NULL;
}

int64_t ferry_source_bytes(const ferry_cost_options *options, int dim, int64_t rows)
{
    const int64_t entry = options->precision == FERRY_DOUBLE ? sizeof(double) : sizeof(float);
    return (rows + ROWS) * (dim * entry + (int64_t)sizeof(double));
}

int64_t ferry_cost_bytes(const ferry_cost_options *options, int dim, int64_t source_rows, int64_t target_rows,
                         int sharing)
{
    const int64_t entry = options->precision == FERRY_DOUBLE ? sizeof(double) : sizeof(float);
    const int64_t blocks = ferry_blocks_of(target_rows, COLUMNS).count;
    int64_t window = (target_rows + COLUMNS) * (dim * entry + (int64_t)sizeof(double) + (int64_t)sizeof(float)) +
                     blocks * (dim + 1) * (int64_t)sizeof(double);
    int64_t median = options->scale == FERRY_SCALE_MEDIAN ? ferry_median_bytes(options) : 0;
    return ferry_source_bytes(options, dim, source_rows) + window / (sharing < 1 ? 1 : sharing) + median +
           (int64_t)(dim + 1) * 64 * (int64_t)sizeof(double);
}

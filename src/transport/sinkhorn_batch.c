/* Once over all pairs where the grid has several columns: row sums lack the other columns' part, so batches of panels
 * are kept. Their sums by canonical target blocks go through the tree of the grid row, then the second sweep adds the
 * columns. All ranks of a grid row have equally many batches and come to the same decisions, because reduced sums are
 * the same bits on all of them. */
#include "sinkhorn_pass_impl.h"
#include "store_impl.h"
#include <omp.h>
#include <string.h>

#define ROWS        FERRY_SOURCE_UNIT
#define COLUMNS     FERRY_TARGET_UNIT
#define BATCH_BYTES ((int64_t)64 << 20) /* panels kept between the two sweeps */

/* Panels of a batch: from the whole problem alone, so that all ranks of a grid row agree. */
int ferry_batch_panels(const ferry_cost_options *options, int dim, int64_t targets, int grid_cols, int64_t panels)
{
    const int64_t columns = targets / grid_cols + targets / grid_cols / 8 + COLUMNS;
    const int64_t least = 2 * (options->threads < 1 ? 1 : options->threads);
    int64_t batch = BATCH_BYTES / ferry_panel_bytes(options, dim, columns);
    if (batch < least) batch = least;
    if (batch > panels) batch = panels;
    return (int)(batch < 1 ? 1 : batch);
}

/* What a batch needs beside the panels. */
typedef struct batch {
    int64_t first, count, room; /* panels; numbers per panel in block_sums */
    double *block_sums;         /* [batch][blocks][width][24] */
    double *sums;               /* [batch][width][24] over all columns */
    double *max;                /* [batch][24] */
    ferry_again *again;         /* [batch] */
    ferry_panel_rows *rows;     /* [batch] those to evaluate, */
    double **row_sums;          /* [batch] and where their block sums go */
    ferry_forest *forest;       /* over target blocks */
} batch;

static void free_batch(batch *k)
{
    free(k->block_sums);
    free(k->sums);
    free(k->max);
    free(k->again);
    free(k->rows);
    free(k->row_sums);
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
    FERRY_TRY(ferry_alloc(&k->rows, s->batch));
    FERRY_TRY(ferry_alloc_bytes(&k->row_sums, s->batch, sizeof(double *)));
    return ferry_forest_open(&k->forest, width * s->batch, s->grid->target.blocks.count, FERRY_JOIN_SUM);
}

/* Panels that are not done yet, at their references: as many together as leave work for every thread. */
static void evaluate_batch(batch *k, ferry_sinkhorn *s, const ferry_row_work *work)
{
    int64_t count = 0, parts;
    for (int64_t p = 0; p < k->count; p++) {
        if (k->again[p] == FERRY_ROWS_DONE) continue;
        k->rows[count] = (ferry_panel_rows){&s->panel[p], k->first + p, s->reference + p * ROWS};
        k->row_sums[count++] = k->block_sums + p * k->room;
    }
    parts = (count + s->together - 1) / s->together;
    if (parts < s->threads) parts = s->threads < count ? s->threads : count;
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = part * count / parts, end = (part + 1) * count / parts;
        work->evaluate(k->row_sums + first, work, s, k->rows + first, (int)(end - first));
    }
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
            ferry_lower(s->reference + p * ROWS, k->sums + p * work->width * ROWS, k->max + p * ROWS, s->epsilon);
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
        ferry_block_panels(&first, &end, s->grid, *block);
        const int64_t stop = end < k->first + k->count ? end : k->first + k->count;
        if (p == first) memset(s->leaf, 0, (size_t)s->columns * sizeof *s->leaf);
        batch_columns(s->leaf, s, k, p, stop);
        for (int64_t i = p; i < stop; i++)
            ferry_add_aggregate(s, &s->panel[i - k->first], i, s->q + (i - k->first) * ROWS, 0);
        if (s->store) ferry_store_keep(s, &s->panel[p - k->first], p, stop - p, s->q + (p - k->first) * ROWS);
        if (stop == end) FERRY_TRY(ferry_plant(s->forest, s->leaf, s->columns, (*block)++));
        p = stop;
    }
    return FERRY_OK;
}

/* Collective over the grid row: all its ranks have the same rows, so the same batches. */
ferry_status ferry_pass_batches(ferry_sinkhorn *s, const ferry_row_work *work)
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

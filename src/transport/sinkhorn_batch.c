/* Once over all pairs where the grid has several columns: row sums lack the other columns' part, so batches of panels
 * are kept. Their sums by canonical target blocks go through the tree of the grid row, then the second sweep adds the
 * columns. All ranks of a grid row have equally many batches and come to the same decisions, because reduced sums are
 * the same bits on all of them.
 *
 *   evaluate 0 | evaluate 1 | columns 0 | evaluate 2 | columns 1 | ...
 *      sums of 0 .........^ sums of 1 .............^ sums of 2 ...
 *
 * Two sets of panels: while the sums of a batch travel, the columns of the one before are added and the tiles of the
 * one after are computed; the first thread looks after the messages between panels. What is added to what, and in which
 * order, is as without: blocks and panels in ascending order. Rows that have to be evaluated again are rare: they wait
 * for their sums. */
#include "sinkhorn_pass_impl.h"
#include "store_impl.h"
#include <omp.h>
#include <string.h>

#define ROWS        FERRY_SOURCE_UNIT
#define COLUMNS     FERRY_TARGET_UNIT
#define BATCH_BYTES ((int64_t)64 << 20) /* panels kept between the two sweeps, of both batches */
/* Pairs of a batch, per thread: the least hide what messages take (about 30 microseconds), with the most (a
 * millisecond) the columns still find their panels in cache; between them, so many batches. */
#define LEAST_PAIRS ((int64_t)1 << 16)
#define MOST_PAIRS  ((int64_t)1 << 21)
#define BATCHES     16
#define PARTS       4 /* groups of panels per thread, so that none waits long for the others */

/* Panels of a batch: from the whole problem alone, so that all ranks of a grid row agree. */
int ferry_batch_panels(const ferry_cost_options *options, int dim, int64_t targets, int grid_cols, int64_t panels)
{
    const int64_t columns = targets / grid_cols + targets / grid_cols / 8 + COLUMNS;
    const int64_t threads = options->threads < 1 ? 1 : options->threads;
    const int64_t least = threads * ferry_panels_at_once(options, dim, panels, columns);
    const int64_t most = BATCH_BYTES / 2 / ferry_panel_bytes(options, dim, columns);
    int64_t batch = (panels + BATCHES - 1) / BATCHES;
    if (batch > MOST_PAIRS * threads / (ROWS * columns) + 1) batch = MOST_PAIRS * threads / (ROWS * columns) + 1;
    if (batch < LEAST_PAIRS * threads / (ROWS * columns) + 1) batch = LEAST_PAIRS * threads / (ROWS * columns) + 1;
    if (batch < PARTS * least && threads > 1) batch = PARTS * least;
    if (batch > most) batch = most;
    if (batch < least) batch = least;
    if (batch > panels) batch = panels;
    if (batch < 1) return 1;
    const int64_t batches = (panels + batch - 1) / batch;
    return (int)((panels + batches - 1) / batches); /* none much smaller than the others */
}

/* A batch of panels, from evaluation to its columns. */
typedef struct slot {
    int64_t first, count;  /* panels; count 0: none */
    ferry_panel *panel;    /* [batch] borrowed */
    double *reference, *q; /* [batch][24] */
    double *block_sums;    /* [batch][blocks][width][24] */
    ferry_again *again;    /* [batch] */
} slot;

/* What batches need beside the panels. */
typedef struct batches {
    int64_t room;           /* numbers per panel in block_sums */
    slot slot[2];           /* one where all panels make a single batch */
    double *sums;           /* [batch][width][24] over all columns */
    double *max;            /* [batch][24] */
    ferry_panel_rows *rows; /* [batch] those to evaluate, */
    double **row_sums;      /* [batch] and where their block sums go */
    ferry_forest *forest;   /* over target blocks */
} batches;

int ferry_batch_slots(int batch, int64_t panels)
{
    return panels > batch ? 2 : 1;
}

static void free_batches(batches *k)
{
    for (int i = 0; i < 2; i++) {
        free(k->slot[i].reference);
        free(k->slot[i].q);
        free(k->slot[i].block_sums);
        free(k->slot[i].again);
    }
    free(k->sums);
    free(k->max);
    free(k->rows);
    free(k->row_sums);
    ferry_forest_close(&k->forest);
}
static ferry_status open_slot(slot *now, const batches *k, const ferry_sinkhorn *s, int number)
{
    const int64_t rows = (int64_t)s->batch * ROWS;
    now->panel = s->panel + (int64_t)number * s->batch;
    FERRY_TRY(ferry_alloc(&now->reference, rows));
    FERRY_TRY(ferry_alloc(&now->q, rows));
    FERRY_TRY(ferry_alloc(&now->block_sums, k->room * s->batch));
    return ferry_alloc(&now->again, s->batch);
}
static ferry_status open_batches(batches *k, const ferry_sinkhorn *s, const ferry_row_work *work)
{
    const int64_t width = (int64_t)work->width * ROWS;
    const ferry_shards *target = &s->grid->target;
    k->room = s->cost->blocks * width;
    for (int i = 0; i < ferry_batch_slots(s->batch, s->source->panels); i++) FERRY_TRY(open_slot(&k->slot[i], k, s, i));
    FERRY_TRY(ferry_alloc(&k->sums, width * s->batch));
    FERRY_TRY(ferry_alloc(&k->max, (int64_t)s->batch * ROWS));
    FERRY_TRY(ferry_alloc(&k->rows, s->batch));
    FERRY_TRY(ferry_alloc_bytes(&k->row_sums, s->batch, sizeof(double *)));
    FERRY_TRY(ferry_forest_open(&k->forest, width * s->batch, target->blocks.count, FERRY_JOIN_SUM));
    return ferry_forest_expect(k->forest, target, &s->grid->across);
}

/* Messages of the sums that travel, by the thread that may talk to MPI. */
static void look_after(batches *k)
{
    if (omp_get_thread_num() == 0) (void)ferry_forest_progress(k->forest);
}

/* Panels that are not done yet, at their references: as many together as leave work for every thread. */
static void evaluate_batch(batches *k, slot *now, ferry_sinkhorn *s, const ferry_row_work *work)
{
    int64_t count = 0, parts;
    for (int64_t p = 0; p < now->count; p++) {
        if (now->again[p] == FERRY_ROWS_DONE) continue;
        k->rows[count] = (ferry_panel_rows){&now->panel[p], now->first + p, now->reference + p * ROWS};
        k->row_sums[count++] = now->block_sums + p * k->room;
    }
    parts = (count + s->together - 1) / s->together;
    if (parts < s->threads) parts = s->threads < count ? s->threads : count;
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = part * count / parts, end = (part + 1) * count / parts;
        work->evaluate(k->row_sums + first, work, s, k->rows + first, (int)(end - first));
        look_after(k);
    }
}

/* Collective over the grid row. The block sums of the batch begin their way; always with all rows of a batch. */
static void send_batch(batches *k, const slot *now, const ferry_sinkhorn *s, const ferry_row_work *work)
{
    const int64_t width = (int64_t)work->width * ROWS;
    for (int b = 0; b < s->cost->blocks; b++) {
        double *leaf;
        (void)ferry_forest_leaf(&leaf, k->forest); /* its memory was taken before */
        for (int64_t p = 0; p < now->count; p++)
            memcpy(leaf + p * width, now->block_sums + p * k->room + b * width, (size_t)width * sizeof *leaf);
        ferry_forest_add(k->forest, s->grid->target.block[s->grid->col] + b);
    }
    ferry_forest_start(k->sums, k->forest, s->cost->options.reduction);
}

/* Collective over the grid row. References of rows without a usable sum go down by their largest exponents. */
static void lower_batch(batches *k, slot *now, ferry_sinkhorn *s, const ferry_row_work *work)
{
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t p = 0; p < now->count; p++)
        if (now->again[p] == FERRY_ROWS_AT_MAX)
            ferry_panel_row_max(k->max + p * ROWS, &now->panel[p], s->source, now->first + p, now->reference + p * ROWS,
                                &s->target);
        else
            for (int i = 0; i < ROWS; i++) k->max[p * ROWS + i] = -INFINITY;
    ferry_max_doubles(&s->grid->across, k->max, now->count * ROWS);
    for (int64_t p = 0; p < now->count; p++)
        if (now->again[p] == FERRY_ROWS_AT_MAX)
            ferry_lower(now->reference + p * ROWS, k->sums + p * work->width * ROWS, k->max + p * ROWS, s->epsilon);
}

/* Collective over the grid row. The sums of the batch have arrived: its rows get their q, if need be after further
 * rounds. */
static void finish_batch(batches *k, slot *now, ferry_sinkhorn *s, const ferry_row_work *work)
{
    for (int round = 0;; round++) {
        int most = FERRY_ROWS_DONE;
        ferry_forest_finish(k->forest);
        for (int64_t p = 0; p < now->count; p++) {
            if (now->again[p] == FERRY_ROWS_DONE) continue;
            now->again[p] = work->finish(now->q + p * ROWS, work, s, &now->panel[p], now->first + p,
                                         now->reference + p * ROWS, k->sums + p * work->width * ROWS, round);
            if ((int)now->again[p] > most) most = (int)now->again[p];
        }
        if (most == FERRY_ROWS_DONE) return;
        if (most == FERRY_ROWS_AT_MAX) lower_batch(k, now, s, work);
        evaluate_batch(k, now, s, work);
        send_batch(k, now, s, work);
    }
}

/* Local. Panels first ... end - 1, of one canonical block, add their columns to c; threads share the columns. */
static void batch_columns(double *c, batches *k, const slot *now, ferry_sinkhorn *s, int64_t first, int64_t end)
{
    const int64_t *unit = s->cost->unit;
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int b = 0; b < s->cost->blocks; b++) {
        for (int64_t p = first; p < end; p++)
            ferry_panel_columns_part(c, &now->panel[p - now->first], now->q + (p - now->first) * ROWS, unit[b],
                                     unit[b + 1] - unit[b]);
        look_after(k);
    }
}

/* Local. Their entropy and their mass between groups, which may be added in any order. */
static void batch_aggregate(const slot *now, ferry_sinkhorn *s, int64_t first, int64_t end)
{
    if (!s->aggregate && !s->entropy.adding) return;
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int64_t p = first; p < end; p++)
        ferry_take_columns(NULL, s, &now->panel[p - now->first], p, now->q + (p - now->first) * ROWS,
                           omp_get_thread_num());
}

/* Local. The second sweep; *block is the canonical block that is being added up in s->leaf. */
static ferry_status sweep_columns(int *block, batches *k, const slot *now, ferry_sinkhorn *s)
{
    for (int64_t p = now->first; p < now->first + now->count;) {
        int64_t first, end;
        ferry_block_panels(&first, &end, s->grid, *block);
        const int64_t stop = end < now->first + now->count ? end : now->first + now->count;
        if (p == first) memset(s->leaf, 0, (size_t)s->columns * sizeof *s->leaf);
        batch_columns(s->leaf, k, now, s, p, stop);
        batch_aggregate(now, s, p, stop);
        if (s->store)
            ferry_store_keep_batch(s, &now->panel[p - now->first], p, stop - p, now->q + (p - now->first) * ROWS);
        if (stop == end) FERRY_TRY(ferry_plant(s->forest, s->leaf, s->columns, (*block)++));
        p = stop;
    }
    return FERRY_OK;
}

/* The next batch, at the potentials as they are. */
static void begin_batch(slot *now, const ferry_sinkhorn *s, int64_t first)
{
    const int64_t left = s->source->panels - first;
    now->first = first;
    now->count = left < s->batch ? left : s->batch;
    memcpy(now->reference, s->f + first * ROWS, (size_t)(now->count * ROWS) * sizeof *now->reference);
    for (int64_t p = 0; p < now->count; p++) now->again[p] = FERRY_ROWS_AGAIN;
}

/* Collective over the grid row: all its ranks have the same rows, so the same batches. */
ferry_status ferry_pass_batches(ferry_sinkhorn *s, const ferry_row_work *work)
{
    batches k = {0};
    slot *before = NULL;
    int block = s->grid->source.block[s->grid->row];
    ferry_status kept = FERRY_OK, status = ferry_agree(&s->grid->across, open_batches(&k, s, work));
    const int64_t panels = status == FERRY_OK ? s->source->panels : 0;
    for (int64_t first = 0; first < panels || before; first += s->batch) {
        slot *now = first < panels ? &k.slot[first / s->batch % 2] : NULL, *done = before;
        if (now) {
            begin_batch(now, s, first);
            evaluate_batch(&k, now, s, work);
        }
        if (done) finish_batch(&k, done, s, work);
        if (now) send_batch(&k, now, s, work);
        if (done && work->columns && kept == FERRY_OK) kept = sweep_columns(&block, &k, done, s);
        before = now;
    }
    free_batches(&k);
    return status != FERRY_OK ? status : kept;
}

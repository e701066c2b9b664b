/* A layer of the reference, carried to the queries: rows of M X, both sparse.
 *
 *  A block of M is some thousand rows, and what it touches of X and what it gives can be a hundred times larger than M
 *  itself. So the rows of M of one round, which lie on the ranks block after block, are dealt again: in step s rank r
 *  gets rows (s size + r) c ... + c of the round, and c follows from the memory. Then the rows of X are fetched, and
 *  the results handed on, a step at a time: consecutive rows in rank order, as the sink wants. A row is added up in the
 *  order of its cells in float64, column by column, so no step, rank or thread changes a bit. */
#include "transfer_impl.h"
#include "mpi/exchange.h"
#include "mpi/fetch.h"
#include "mpi/log.h"
#include <string.h>

#define MEMORY ((int64_t)64 << 20)
#define ENTRY  ((int64_t)(sizeof(int64_t) + sizeof(float))) /* of a result */

/* Rows of M of this rank, those of step s after those of step s - 1. */
typedef struct deal {
    int64_t step_rows; /* c */
    int64_t steps;
    int64_t first, end; /* of the round */
    int64_t rows;       /* here, of all steps */
    int64_t *start;     /* [rows + 1] */
    uint32_t *cell;     /* [start[rows]] */
    float *m;
    double *libsize;                      /* [rows]; NULL: not scaled */
    int64_t *send, *receive, *out, *came; /* [size] rows that move; entries that move */
} deal;

static void deal_close(deal *d)
{
    free(d->start);
    free(d->cell);
    free(d->m);
    free(d->libsize);
    free(d->send);
    free(d->receive);
    free(d->out);
    free(d->came);
    *d = (deal){0};
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The rank that works on a row of the round. */
static int worker(const deal *d, int64_t row, int size)
{
    return (int)((row - d->first) / d->step_rows % size);
}

/* Rows of a step that rank r works on: first .. end. */
static void share(int64_t *first, int64_t *end, const deal *d, int64_t step, int rank, int size)
{
    const int64_t at = d->first + (step * size + rank) * d->step_rows;
    *first = smaller(at, d->end);
    *end = smaller(at + d->step_rows, d->end);
}

/* Rows that lie in [a, b) and that rank r works on. */
static int64_t rows_between(const deal *d, int64_t a, int64_t b, int rank, int size)
{
    int64_t rows = 0;
    for (int64_t s = 0; s < d->steps; s++) {
        int64_t first, end;
        share(&first, &end, d, s, rank, size);
        if (first < a) first = a;
        if (end > b) end = b;
        rows += end > first ? end - first : 0;
    }
    return rows;
}

/* ---- moving rows of M ---- */

/* What is sent: rows grouped by the rank they go to. */
typedef struct parcel {
    int64_t *length; /* [rows] weights of each */
    double *libsize;
    uint32_t *cell;
    float *m;
    int64_t *row_at, *entry_at; /* [size] */
} parcel;

static void parcel_close(parcel *p)
{
    free(p->length);
    free(p->libsize);
    free(p->cell);
    free(p->m);
    free(p->row_at);
    free(p->entry_at);
}

/* Local. Counts, and room for what goes. libsize: of the block's rows, or NULL. */
static ferry_status pack_open(parcel *p, deal *d, const ferry_world *world, const ferry_weights_block *block,
                              bool scaled)
{
    const int size = world->size;
    const int64_t entries = block->rows ? block->indptr[block->rows] : 0;
    FERRY_TRY(ferry_alloc(&d->send, size));
    FERRY_TRY(ferry_alloc(&d->receive, size));
    FERRY_TRY(ferry_alloc(&d->out, size));
    FERRY_TRY(ferry_alloc(&d->came, size));
    FERRY_TRY(ferry_alloc(&p->row_at, size));
    FERRY_TRY(ferry_alloc(&p->entry_at, size));
    FERRY_TRY(ferry_alloc(&p->length, block->rows));
    if (scaled) FERRY_TRY(ferry_alloc(&p->libsize, block->rows));
    FERRY_TRY(ferry_alloc(&p->cell, entries));
    return ferry_alloc(&p->m, entries);
}

/* Local. */
static void pack(parcel *p, deal *d, const ferry_world *world, const ferry_weights_block *block, const float *m,
                 const double *libsize)
{
    for (int64_t i = 0; i < block->rows; i++) {
        const int to = worker(d, block->first + i, world->size);
        d->send[to]++;
        d->out[to] += block->indptr[i + 1] - block->indptr[i];
    }
    for (int r = 1; r < world->size; r++) {
        p->row_at[r] = p->row_at[r - 1] + d->send[r - 1];
        p->entry_at[r] = p->entry_at[r - 1] + d->out[r - 1];
    }
    for (int64_t i = 0; i < block->rows; i++) {
        const int to = worker(d, block->first + i, world->size);
        const int64_t at = block->indptr[i], length = block->indptr[i + 1] - at;
        if (libsize) p->libsize[p->row_at[to]] = libsize[i];
        p->length[p->row_at[to]++] = length;
        memcpy(p->cell + p->entry_at[to], block->cell + at, (size_t)length * sizeof *p->cell);
        memcpy(p->m + p->entry_at[to], m + at, (size_t)length * sizeof *m);
        p->entry_at[to] += length;
    }
}

/* Local. Room for the rows that come, from the blocks of the round. */
static ferry_status expect_rows(deal *d, const ferry_world *world, const ferry_blocks *blocks, int64_t round,
                                bool scaled)
{
    for (int r = 0; r < world->size; r++) {
        const int64_t b = smaller(round * world->size + r, blocks->count), next = smaller(b + 1, blocks->count);
        d->receive[r] = rows_between(d, ferry_block_first(blocks, (int)b), ferry_block_first(blocks, (int)next),
                                     world->rank, world->size);
        d->rows += d->receive[r];
    }
    if (scaled) FERRY_TRY(ferry_alloc(&d->libsize, d->rows));
    return ferry_alloc(&d->start, d->rows + 1);
}

/* Local. The lengths that came -> starts, and room for the weights. */
static ferry_status expect_entries(deal *d, const ferry_world *world)
{
    int64_t row = 0, sum = 0;
    for (int r = 0; r < world->size; r++)
        for (int64_t i = 0; i < d->receive[r]; i++, row++) {
            const int64_t length = d->start[row];
            d->came[r] += length;
            d->start[row] = sum;
            sum += length;
        }
    d->start[row] = sum;
    FERRY_TRY(ferry_alloc(&d->cell, sum));
    return ferry_alloc(&d->m, sum);
}

static ferry_status open_deal(parcel *p, deal *d, float **m, const ferry_world *world, const ferry_weights *weights,
                              const ferry_weights_block *block, int64_t round, bool scaled)
{
    FERRY_TRY(ferry_alloc(m, block->rows ? block->indptr[block->rows] : 0));
    FERRY_TRY(pack_open(p, d, world, block, scaled));
    return expect_rows(d, world, &weights->blocks, round, scaled);
}

/* Collective. libsize: of the rows of the block. */
static ferry_status move_rows(parcel *p, deal *d, const ferry_world *world, const ferry_weights *weights,
                              const ferry_weights_block *block, int64_t round, const double *libsize, bool scaled)
{
    FERRY_AUTO float *m = NULL;
    const ferry_status opened = open_deal(p, d, &m, world, weights, block, round, scaled);
    FERRY_TRY(ferry_agree(world, opened));
    FERRY_TRY(opened); /* agreed; told to the analyser too */
    ferry_normalised(m, block);
    pack(p, d, world, block, m, libsize);
    ferry_exchange(world, p->length, d->send, d->start, d->receive, sizeof *p->length);
    if (scaled) ferry_exchange(world, p->libsize, d->send, d->libsize, d->receive, sizeof *p->libsize);
    FERRY_TRY(ferry_agree(world, expect_entries(d, world)));
    ferry_exchange(world, p->cell, d->out, d->cell, d->came, sizeof *p->cell);
    ferry_exchange(world, p->m, d->out, d->m, d->came, sizeof *p->m);
    return FERRY_OK;
}

/* ---- one step ---- */

/* Results of the rows of a step. */
typedef struct product {
    const ferry_transfer_sparse *sparse;
    const ferry_touched *t;
    bool held;            /* begin counts the cells, else the distinct cells of t */
    const int64_t *begin; /* rows of X begin here */
    const ferry_transfer_entry *fetched;
    const double *libsize; /* [rows] or NULL */
    int64_t *room;         /* [rows + 1] where each row may begin: it is not longer than what it touches */
    int64_t *indptr;       /* [rows + 1] */
    int64_t *indices;      /* [room[rows]] */
    float *values;
} product;

/* Of one thread: a dense row, and which of its columns are used. */
typedef struct bench {
    double *sum;    /* [columns] */
    uint64_t *used; /* [columns / 64 + 1] bits */
    int64_t words;
} bench;

static ferry_status bench_open(bench *b, int64_t columns)
{
    b->words = columns / 64 + 1;
    FERRY_TRY(ferry_alloc(&b->sum, columns));
    return ferry_alloc(&b->used, b->words);
}

static void bench_close(bench *b)
{
    free(b->sum);
    free(b->used);
}

/* The row of X that entry e is a weight of. */
static int64_t row_of(const product *p, int64_t e)
{
    return p->held ? p->t->cell[p->t->place[e]] : p->t->place[e];
}

/* Row i as a dense row. */
static void spread(bench *b, const product *p, int64_t i)
{
    const ferry_touched *t = p->t;
    for (int64_t e = t->start[i] - t->start[0]; e < t->start[i + 1] - t->start[0]; e++) {
        const double m = (double)t->m[e];
        const int64_t row = row_of(p, e);
        for (int64_t x = p->begin[row]; x < p->begin[row + 1]; x++) {
            const uint32_t column = p->fetched[x].column;
            b->sum[column] += m * (double)p->fetched[x].value;
            b->used[column / 64] |= (uint64_t)1 << column % 64;
        }
    }
}

/* What a row of that sum is multiplied by. */
static double scale_of(const bench *b, const product *p, int64_t i)
{
    double sum = 0;
    if (!p->libsize) return 1;
    for (int64_t w = 0; w < b->words; w++)
        for (uint64_t bits = b->used[w]; bits; bits &= bits - 1) sum += b->sum[w * 64 + __builtin_ctzll(bits)];
    return sum == 0 ? 1 : p->libsize[i] / sum;
}

/* The dense row into its place, and cleared. indptr gets its length. */
static void collect(bench *b, const product *p, int64_t i)
{
    const double scale = scale_of(b, p, i);
    int64_t to = p->room[i];
    for (int64_t w = 0; w < b->words; w++) {
        for (uint64_t bits = b->used[w]; bits; bits &= bits - 1) {
            const int64_t column = w * 64 + __builtin_ctzll(bits);
            const float value = (float)(scale * b->sum[column]);
            b->sum[column] = 0;
            if (value == 0) continue;
            p->indices[to] = column;
            p->values[to++] = value;
        }
        b->used[w] = 0;
    }
    p->indptr[i + 1] = to - p->room[i];
}

/* Local. Rows of the step by all threads. */
static ferry_status multiply(const product *p)
{
    const int threads = p->sparse->threads > 0 ? p->sparse->threads : 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        bench b = {0};
        failed = bench_open(&b, p->sparse->columns) != FERRY_OK;
#pragma omp for schedule(dynamic, 8)
        for (int64_t i = 0; i < p->t->rows; i++) {
            if (failed) continue;
            spread(&b, p, i);
            collect(&b, p, i);
        }
        bench_close(&b);
    }
    return failed ? ferry_fail(FERRY_E_MEM, "no memory for a row of %lld genes on each of %d threads: lower --threads",
                               (long long)p->sparse->columns, threads)
                  : FERRY_OK;
}

/* Rows next to each other. */
static void compact(product *p)
{
    for (int64_t i = 0; i < p->t->rows; i++) {
        const int64_t length = p->indptr[i + 1], to = p->indptr[i];
        memmove(p->indices + to, p->indices + p->room[i], (size_t)length * sizeof *p->indices);
        memmove(p->values + to, p->values + p->room[i], (size_t)length * sizeof *p->values);
        p->indptr[i + 1] = to + length;
    }
}

/* Local. Room for the results. */
static ferry_status product_open(product *p)
{
    const ferry_touched *t = p->t;
    FERRY_TRY(ferry_alloc(&p->room, t->rows + 1));
    FERRY_TRY(ferry_alloc(&p->indptr, t->rows + 1));
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t most = 0;
        for (int64_t e = t->start[i] - t->start[0]; e < t->start[i + 1] - t->start[0]; e++)
            most += p->begin[row_of(p, e) + 1] - p->begin[row_of(p, e)];
        p->room[i + 1] = p->room[i] + smaller(most, p->sparse->columns);
    }
    FERRY_TRY(ferry_alloc(&p->indices, p->room[t->rows]));
    return ferry_alloc(&p->values, p->room[t->rows]);
}

static void product_close(product *p)
{
    free(p->room);
    free(p->indptr);
    free(p->indices);
    free(p->values);
}

/* Local. */
static ferry_status work(product *p)
{
    FERRY_TRY(product_open(p));
    FERRY_TRY(multiply(p));
    compact(p);
    return FERRY_OK;
}

/* Local. Rows row ... of the deal. */
static ferry_status open_step(ferry_touched *t, const deal *d, int64_t row, int64_t rows)
{
    FERRY_TRY(ferry_touched_open(t, d->start + row, rows, d->cell));
    if (rows) memcpy(t->m, d->m + t->start[0], (size_t)t->entries * sizeof *t->m);
    return FERRY_OK;
}

/* Collective. Rows of X that the step touches: held here, or fetched into starts and out. */
static ferry_status fetch(product *p, int64_t **starts, void **out, const ferry_world *world)
{
    const ferry_transfer_sparse *x = p->sparse;
    p->held = world->size == 1;
    p->begin = x->start;
    p->fetched = x->entry;
    if (p->held) return FERRY_OK;
    FERRY_TRY(ferry_fetch_rows(starts, out, world, x->first, x->start, x->entry, sizeof *x->entry, p->t->cell,
                               p->t->distinct));
    p->begin = *starts;
    p->fetched = *out;
    return FERRY_OK;
}

/* Collective. */
static ferry_status run_step(ferry_touched *t, product *p, const ferry_world *world, const deal *d, int64_t row,
                             int64_t rows, const ferry_sink *sink)
{
    FERRY_AUTO int64_t *starts = NULL;
    FERRY_AUTO void *out = NULL;
    p->t = t;
    p->libsize = d->libsize ? d->libsize + row : NULL;
    FERRY_TRY(ferry_agree(world, open_step(t, d, row, rows)));
    FERRY_TRY(fetch(p, &starts, &out, world));
    FERRY_TRY(ferry_agree(world, work(p)));
    const ferry_rows result = {rows, p->indptr, p->indices, p->values};
    return sink->take(sink->self, &result);
}

/* Collective. */
static ferry_status run_steps(const deal *d, const ferry_world *world, const ferry_transfer_sparse *sparse,
                              const ferry_sink *sink)
{
    int64_t row = 0;
    for (int64_t s = 0; s < d->steps; s++) {
        int64_t first, end;
        product p = {.sparse = sparse};
        ferry_touched t = {0};
        share(&first, &end, d, s, world->rank, world->size);
        const ferry_status status = run_step(&t, &p, world, d, row, end - first, sink);
        product_close(&p);
        ferry_touched_close(&t);
        FERRY_TRY(status);
        row += end - first;
    }
    return FERRY_OK;
}

/* ---- rounds ---- */

/* Collective. Rows of a round, and how many a rank works on in one step. */
static void settle(deal *d, const ferry_world *world, const ferry_weights *weights, const ferry_weights_block *block,
                   int64_t round, const ferry_transfer_sparse *x)
{
    const ferry_blocks *blocks = &weights->blocks;
    const int64_t next = smaller((round + 1) * world->size, blocks->count);
    d->first = ferry_block_first(blocks, (int)(round * world->size));
    d->end = ferry_block_first(blocks, (int)next);
    const int64_t here = x->first[world->rank + 1] - x->first[world->rank];
    const double entries = (double)ferry_total(world, block->rows ? block->indptr[block->rows] : 0);
    const double held = (double)ferry_total(world, x->start[here]);
    const double rows = (double)(d->end - d->first), cells = (double)x->first[world->size];
    const double touched = entries / (rows > 0 ? rows : 1) * held / (cells > 0 ? cells : 1); /* of X by a row */
    const double result = touched < (double)x->columns ? touched : (double)x->columns;
    const double bytes = 1 + touched * (world->size > 1 ? sizeof *x->entry : 0) + result * (double)ENTRY;
    const double most = (double)(x->memory > 0 ? x->memory : MEMORY) / bytes;
    const double even = (rows + world->size - 1) / world->size;
    d->step_rows = most < 16 ? 16 : (int64_t)(most < even ? most : even);
    if (d->step_rows < 1) d->step_rows = 1;
    d->steps = (d->end - d->first + d->step_rows * world->size - 1) / (d->step_rows * world->size);
}

/* Collective. libsize_at: rows of this rank in earlier rounds. */
static ferry_status layer_round(deal *d, int64_t *libsize_at, ferry_weights *weights, const ferry_world *world,
                                const ferry_transfer_sparse *sparse, int64_t round, const ferry_sink *sink)
{
    parcel p = {0};
    ferry_weights_block block;
    FERRY_TRY(ferry_weights_take(&block, weights, world, round));
    settle(d, world, weights, &block, round, sparse);
    const bool scaled = ferry_max(world, sparse->libsize != NULL) > 0; /* a rank without rows may have none */
    const ferry_status status =
        move_rows(&p, d, world, weights, &block, round, sparse->libsize ? sparse->libsize + *libsize_at : NULL, scaled);
    parcel_close(&p);
    FERRY_TRY(status);
    *libsize_at += block.rows;
    return run_steps(d, world, sparse, sink);
}

ferry_status ferry_transfer_layer(ferry_weights *weights, const ferry_world *world, const ferry_transfer_sparse *sparse,
                                  const ferry_sink *sink)
{
    int64_t libsize_at = 0;
    for (int64_t round = 0; round < weights->rounds; round++) {
        deal d = {0};
        const ferry_status status = layer_round(&d, &libsize_at, weights, world, sparse, round, sink);
        deal_close(&d);
        FERRY_TRY(status);
        ferry_progress(world, "layer", (round + 1) * weights->rows / weights->rounds, weights->rows, "cells", NULL);
    }
    return FERRY_OK;
}

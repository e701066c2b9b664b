/* Records (row, k cells, k distances) travel in slices of bounded size: in a slice a rank sends at most an equal share
 * to every other, so nobody receives more than a slice either, whatever the rows are.
 *
 * On disk, a bucket is a run of this rank's blocks. With L bytes of rows, buckets of sqrt(L p) bytes need as much
 * memory for a loaded bucket as for `p` bytes of append buffer for each, which is the least. Rows have their
 * place in a bucket, so a bucket is in order as soon as it is read; nothing is sorted and written again. The buffer is
 * given back before the first bucket is loaded. */
#include "graph_impl.h"
#include "mpi/exchange.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <math.h>
#include <string.h>

#define SLICE       ((int64_t)1 << 20)  /* bytes of records that a rank sends, or receives, at a time */
#define APPEND      ((int64_t)16 << 10) /* bytes of append buffer of a bucket, at least */
#define MOST_BUFFER ((int64_t)64 << 20)

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- sizes --- */

int64_t ferry_graph_block_most(const ferry_blocks *blocks)
{
    const int64_t units = (blocks->rows + blocks->unit - 1) / blocks->unit;
    return smaller(blocks->rows, ((units + blocks->count - 1) / blocks->count) * blocks->unit);
}

static int64_t record_bytes(int k)
{
    return 4 * (1 + 2 * (int64_t)k);
}

/* rows of the rank with most, from above */
static int64_t rows_most(const ferry_blocks *blocks, int ranks)
{
    return smaller(blocks->rows, (blocks->count + ranks - 1) / ranks * ferry_graph_block_most(blocks));
}

/* bits of the rows that came, starts of blocks, and the buffers of a delivery */
static int64_t overhead(const ferry_blocks *blocks, int k, int ranks)
{
    const int64_t rows = rows_most(blocks, ranks);
    return rows / 8 + blocks->count / ranks * 8 + 2 * smaller(SLICE + ranks * record_bytes(k), rows * record_bytes(k));
}

/* bytes of rows of a bucket */
static int64_t bucket_bytes(const ferry_blocks *blocks, int k, int ranks)
{
    const double all = (double)rows_most(blocks, ranks) * (double)record_bytes(k);
    return larger((int64_t)sqrt(all * (double)APPEND), larger(1, ferry_graph_block_most(blocks)) * record_bytes(k));
}

/* bytes of append buffers, at least; a scratch file stages its writes besides */
static int64_t append_least(const ferry_blocks *blocks, int k, int ranks)
{
    const int64_t all = rows_most(blocks, ranks) * record_bytes(k);
    return (all / bucket_bytes(blocks, k, ranks) + 1) * APPEND + ((int64_t)512 << 10);
}

int64_t ferry_graph_bytes(int64_t rows, int k, int ranks)
{
    const ferry_blocks blocks = ferry_blocks_of(rows, FERRY_TARGET_UNIT);
    return rows_most(&blocks, ranks) * 8 * k + overhead(&blocks, k, ranks);
}

int64_t ferry_graph_least(int64_t rows, int k, int ranks)
{
    const ferry_blocks blocks = ferry_blocks_of(rows, FERRY_TARGET_UNIT);
    const int64_t bucket = bucket_bytes(&blocks, k, ranks);
    const int64_t disk = larger(append_least(&blocks, k, ranks), bucket + smaller(SLICE, bucket));
    return smaller(ferry_graph_bytes(rows, k, ranks), disk + overhead(&blocks, k, ranks));
}

/* --- open, close --- */

/* Local. */
static ferry_status open_scratch(ferry_graph *graph, int64_t memory, const char *folder)
{
    struct ferry_graph_store *store = graph->store;
    const int64_t block = larger(1, ferry_graph_block_most(&graph->blocks)), record = record_bytes(graph->k);
    store->per_bucket = larger(1, bucket_bytes(&graph->blocks, graph->k, graph->size) / (block * record));
    store->buckets = (store->blocks + store->per_bucket - 1) / store->per_bucket;
    FERRY_AUTO int64_t *lengths = NULL;
    FERRY_TRY(ferry_alloc(&lengths, store->buckets));
    for (int64_t b = 0; b < store->buckets; b++)
        lengths[b] =
            store->start[smaller(store->blocks, (b + 1) * store->per_bucket)] - store->start[b * store->per_bucket];
    const int64_t left = memory - overhead(&graph->blocks, graph->k, graph->size);
    const int64_t buffer = larger(smaller(left, MOST_BUFFER), append_least(&graph->blocks, graph->k, graph->size));
    return ferry_scratch_open(&store->scratch, folder, lengths, store->buckets, (size_t)record, buffer);
}

/* Local. */
static ferry_status open_store(ferry_graph *graph, int64_t memory, const char *folder)
{
    const ferry_blocks *blocks = &graph->blocks;
    FERRY_TRY(ferry_alloc(&graph->store, 1));
    struct ferry_graph_store *store = graph->store;
    store->loaded = -1;
    store->blocks = blocks->count > graph->rank ? (blocks->count - 1 - graph->rank) / graph->size + 1 : 0;
    FERRY_TRY(ferry_alloc(&store->start, store->blocks + 1));
    for (int64_t t = 0; t < store->blocks; t++) {
        const int b = (int)(t * graph->size + graph->rank);
        store->start[t + 1] = store->start[t] + ferry_block_first(blocks, b + 1) - ferry_block_first(blocks, b);
    }
    const int64_t here = store->start[store->blocks];
    FERRY_TRY(ferry_alloc(&store->seen, here / 64 + 1));
    if (ferry_graph_bytes(graph->rows, graph->k, graph->size) > memory) return open_scratch(graph, memory, folder);
    FERRY_TRY(ferry_alloc(&store->cell, here * graph->k));
    return ferry_alloc(&store->distance, here * graph->k);
}

static ferry_status check_open(int64_t rows, int64_t columns, int k, bool self, int ranks, int64_t memory)
{
    char needs[32], has[32];
    if (k < 1) return ferry_fail(FERRY_E_ARG, "a graph of %d neighbours: at least 1", k);
    if (rows < 0 || columns < 0 || columns >= UINT32_MAX || rows >= UINT32_MAX || (self && rows != columns))
        return ferry_fail(FERRY_E_ARG, "a graph of %lld x %lld cells", (long long)rows, (long long)columns);
    const int64_t least = ferry_graph_least(rows, k, ranks);
    if (least <= memory) return FERRY_OK;
    return ferry_fail(FERRY_E_PLAN, "the neighbours need %s per rank at least, of %s: raise --memory",
                      ferry_size_text(needs, (double)least), ferry_size_text(has, (double)memory));
}

ferry_status ferry_graph_open(ferry_graph *out, const ferry_world *world, int64_t rows, int64_t columns, int k,
                              bool self, int64_t memory, const char *folder)
{
    *out =
        (ferry_graph){.rows = rows, .columns = columns, .k = k, .self = self, .rank = world->rank, .size = world->size};
    out->blocks = ferry_blocks_of(rows, FERRY_TARGET_UNIT);
    out->rounds = (out->blocks.count + world->size - 1) / world->size;
    ferry_status status = check_open(rows, columns, k, self, world->size, memory);
    if (status == FERRY_OK) status = open_store(out, memory, folder);
    status = ferry_agree(world, status);
    if (status != FERRY_OK) ferry_graph_close(out);
    return status;
}

void ferry_graph_close(ferry_graph *graph)
{
    struct ferry_graph_store *store = graph->store;
    if (store) {
        ferry_scratch_close(&store->scratch);
        free(store->start);
        free(store->seen);
        free(store->cell);
        free(store->distance);
        free(store);
    }
    memset(graph, 0, sizeof *graph);
}

/* --- rows come in --- */

/* the block that holds a row: the largest b with floor(b units / count) <= the row's unit */
static int block_of(const ferry_blocks *blocks, int64_t row)
{
    const int64_t units = (blocks->rows + blocks->unit - 1) / blocks->unit;
    return (int)(((row / blocks->unit + 1) * blocks->count - 1) / units);
}

/* Rows of a delivery grouped by the rank that owns them. */
typedef struct delivery {
    int64_t *start;  /* [ranks + 1] */
    int64_t *order;  /* [rows] */
    int64_t *counts; /* [4][ranks] of a slice: sent, received, and where each begins */
    char *send, *recv;
    int64_t share; /* records to one rank in a slice, at most */
    int64_t slices;
} delivery;

static void free_delivery(delivery *d)
{
    free(d->start);
    free(d->order);
    free(d->counts);
    free(d->send);
    free(d->recv);
}

/* Local. */
static ferry_status check_rows(const ferry_graph *graph, const ferry_graph_rows *rows)
{
    const int64_t entries = rows->count * graph->k;
    if (graph->store->finished) return ferry_fail(FERRY_E_ARG, "rows come to a graph that is finished");
    for (int64_t i = 0; i < rows->count; i++)
        if (rows->row[i] >= graph->rows)
            return ferry_fail(FERRY_E_ARG, "row %lld of a graph of %lld rows", (long long)rows->row[i],
                              (long long)graph->rows);
    for (int64_t i = 0; i < entries; i++)
        if (rows->cell[i] >= graph->columns && rows->cell[i] != UINT32_MAX)
            return ferry_fail(FERRY_E_ARG, "cell %lld of a graph of %lld columns", (long long)rows->cell[i],
                              (long long)graph->columns);
    return FERRY_OK;
}

/* Local. */
static ferry_status group_rows(delivery *d, const ferry_graph *graph, const ferry_graph_rows *rows)
{
    const int ranks = graph->size;
    FERRY_AUTO int64_t *at = NULL;
    FERRY_TRY(check_rows(graph, rows));
    FERRY_TRY(ferry_alloc(&d->start, ranks + 1));
    FERRY_TRY(ferry_alloc(&d->order, rows->count));
    FERRY_TRY(ferry_alloc(&d->counts, 2 * (int64_t)ranks));
    FERRY_TRY(ferry_alloc(&at, ranks));
    for (int64_t i = 0; i < rows->count; i++) d->start[block_of(&graph->blocks, rows->row[i]) % ranks + 1]++;
    for (int r = 0; r < ranks; r++) {
        d->start[r + 1] += d->start[r];
        at[r] = d->start[r];
    }
    for (int64_t i = 0; i < rows->count; i++) d->order[at[block_of(&graph->blocks, rows->row[i]) % ranks]++] = i;
    d->share = larger(1, SLICE / ranks / record_bytes(graph->k));
    for (int r = 0; r < ranks; r++)
        d->slices = larger(d->slices, (d->start[r + 1] - d->start[r] + d->share - 1) / d->share);
    return FERRY_OK;
}

/* Records of slice `s` for every rank; fills the sent counts. */
static void pack_slice(delivery *d, const ferry_graph *graph, const ferry_graph_rows *rows, int64_t s)
{
    const int64_t k = graph->k;
    uint32_t *to = (uint32_t *)(void *)d->send;
    for (int r = 0; r < graph->size; r++) {
        const int64_t first = smaller(d->start[r] + s * d->share, d->start[r + 1]);
        const int64_t end = smaller(first + d->share, d->start[r + 1]);
        d->counts[r] = end - first;
        for (int64_t i = first; i < end; i++, to += 1 + 2 * k) {
            const int64_t from = d->order[i];
            to[0] = rows->row[from];
            memcpy(to + 1, rows->cell + from * k, (size_t)k * sizeof *to);
            memcpy(to + 1 + k, rows->distance + from * k, (size_t)k * sizeof *to);
        }
    }
}

/* Local. A record of a row of this rank. */
static ferry_status keep(ferry_graph *graph, const uint32_t *record)
{
    struct ferry_graph_store *store = graph->store;
    const int64_t k = graph->k, row = record[0];
    const int b = block_of(&graph->blocks, row);
    const int64_t t = b / graph->size, at = store->start[t] + row - ferry_block_first(&graph->blocks, b);
    if (store->seen[at / 64] >> (at % 64) & 1)
        return ferry_fail(FERRY_E_ARG, "row %lld of the graph comes twice", (long long)row);
    store->seen[at / 64] |= (uint64_t)1 << (at % 64);
    store->came++;
    if (store->scratch) return ferry_scratch_append(store->scratch, t / store->per_bucket, record, 1);
    memcpy(store->cell + at * k, record + 1, (size_t)k * sizeof *record);
    memcpy(store->distance + at * k, record + 1 + k, (size_t)k * sizeof *record);
    return FERRY_OK;
}

/* Local. */
static ferry_status keep_all(ferry_graph *graph, const char *records, int64_t count)
{
    const uint32_t *from = (const uint32_t *)(const void *)records;
    for (int64_t i = 0; i < count; i++) FERRY_TRY(keep(graph, from + i * (1 + 2 * (int64_t)graph->k)));
    return FERRY_OK;
}

static int64_t sum_of(const int64_t *count, int ranks)
{
    int64_t sum = 0;
    for (int r = 0; r < ranks; r++) sum += count[r];
    return sum;
}

/* Collective. Nobody gets more than `share` records of anyone. */
static ferry_status send_slice(delivery *d, ferry_graph *graph, const ferry_world *world)
{
    const size_t bytes = (size_t)record_bytes(graph->k);
    int64_t *sent = d->counts, *received = d->counts + world->size;
    if (world->size == 1) return ferry_agree(world, keep_all(graph, d->send, sent[0]));
    ferry_exchange_counts(world, sent, received);
    ferry_exchange(world, d->send, sent, d->recv, received, bytes);
    return ferry_agree(world, keep_all(graph, d->recv, sum_of(received, world->size)));
}

/* Local. */
static ferry_status slice_buffers(delivery *d, const ferry_graph *graph, int64_t slices, int64_t count)
{
    const int64_t most = d->share * graph->size;
    FERRY_TRY(ferry_alloc_bytes(&d->send, smaller(most, count), (size_t)record_bytes(graph->k)));
    if (graph->size == 1 || slices == 0) return FERRY_OK;
    return ferry_alloc_bytes(&d->recv, most, (size_t)record_bytes(graph->k));
}

/* Collective. */
static ferry_status deliver(delivery *d, ferry_graph *graph, const ferry_world *world, const ferry_graph_rows *rows)
{
    FERRY_TRY(ferry_agree(world, group_rows(d, graph, rows)));
    const int64_t slices = ferry_max(world, d->slices);
    FERRY_TRY(ferry_agree(world, slice_buffers(d, graph, slices, rows->count)));
    for (int64_t s = 0; s < slices; s++) {
        pack_slice(d, graph, rows, s);
        FERRY_TRY(send_slice(d, graph, world));
    }
    ferry_stage_sample();
    return FERRY_OK;
}

ferry_status ferry_graph_put(ferry_graph *graph, const ferry_world *world, const ferry_graph_rows *rows)
{
    delivery d = {0};
    ferry_status status = deliver(&d, graph, world, rows);
    free_delivery(&d);
    return status;
}

/* Local. */
static ferry_status finish(ferry_graph *graph)
{
    const struct ferry_graph_store *store = graph->store;
    const int64_t here = store->start[store->blocks];
    if (store->came < here)
        return ferry_fail(FERRY_E_ARG, "%lld of %lld rows of the graph did not come", (long long)(here - store->came),
                          (long long)here);
    return store->scratch ? ferry_scratch_flush(store->scratch) : FERRY_OK;
}

ferry_status ferry_graph_finish(ferry_graph *graph, const ferry_world *world)
{
    FERRY_TRY(ferry_agree(world, finish(graph)));
    graph->store->finished = true;
    return FERRY_OK;
}

/* --- walks --- */

/* rows of the largest bucket */
static int64_t bucket_rows(const ferry_graph *graph)
{
    const struct ferry_graph_store *store = graph->store;
    return smaller(store->start[store->blocks], store->per_bucket * ferry_graph_block_most(&graph->blocks));
}

/* Rows of a bucket go to their places. */
static void place_records(ferry_graph *graph, const uint32_t *record, int64_t count, int64_t before)
{
    struct ferry_graph_store *store = graph->store;
    const int64_t k = graph->k;
    for (int64_t i = 0; i < count; i++, record += 1 + 2 * k) {
        const int b = block_of(&graph->blocks, record[0]);
        const int64_t at = store->start[b / graph->size] + record[0] - ferry_block_first(&graph->blocks, b) - before;
        memcpy(store->cell + at * k, record + 1, (size_t)k * sizeof *record);
        memcpy(store->distance + at * k, record + 1 + k, (size_t)k * sizeof *record);
    }
}

/* Local. */
static ferry_status load(ferry_graph *graph, int64_t bucket)
{
    struct ferry_graph_store *store = graph->store;
    const int64_t first = store->start[bucket * store->per_bucket];
    const int64_t count = store->start[smaller(store->blocks, (bucket + 1) * store->per_bucket)] - first;
    const int64_t most = smaller(count, larger(1, SLICE / record_bytes(graph->k)));
    FERRY_AUTO char *records = NULL;
    FERRY_TRY(ferry_alloc_bytes(&records, most, (size_t)record_bytes(graph->k)));
    if (!store->cell) FERRY_TRY(ferry_alloc(&store->cell, bucket_rows(graph) * graph->k));
    if (!store->distance) FERRY_TRY(ferry_alloc(&store->distance, bucket_rows(graph) * graph->k));
    store->loaded = -1;
    for (int64_t at = 0; at < count; at += most) {
        const int64_t rows = smaller(most, count - at);
        FERRY_TRY(ferry_scratch_read(store->scratch, bucket, at, rows, records));
        place_records(graph, (const uint32_t *)(const void *)records, rows, first);
    }
    store->loaded = bucket;
    return FERRY_OK;
}

ferry_status ferry_graph_take(ferry_graph_block *out, ferry_graph *graph, int64_t round)
{
    struct ferry_graph_store *store = graph->store;
    *out = (ferry_graph_block){.first = graph->rows};
    if (!store || !store->finished) return ferry_fail(FERRY_E_ARG, "a walk over a graph that is not finished");
    if (round < 0 || round >= graph->rounds)
        return ferry_fail(FERRY_E_ARG, "round %lld of %lld", (long long)round, (long long)graph->rounds);
    if (round >= store->blocks) return FERRY_OK;
    int64_t before = 0;
    if (store->scratch) {
        const int64_t bucket = round / store->per_bucket;
        if (store->loaded != bucket) FERRY_TRY(load(graph, bucket));
        before = store->start[bucket * store->per_bucket];
    }
    out->first = ferry_block_first(&graph->blocks, (int)(round * graph->size + graph->rank));
    out->rows = store->start[round + 1] - store->start[round];
    out->cell = store->cell + (store->start[round] - before) * graph->k;
    out->distance = store->distance + (store->start[round] - before) * graph->k;
    return FERRY_OK;
}

/* --- writing --- */

/* Local. The block of a round with 64-bit cells, -1 for none. */
static ferry_status take_wide(ferry_graph_block *block, int64_t *wide, ferry_graph *graph, int64_t round)
{
    FERRY_TRY(ferry_graph_take(block, graph, round));
    for (int64_t i = 0; i < block->rows * graph->k; i++)
        wide[i] = block->cell[i] == UINT32_MAX ? -1 : (int64_t)block->cell[i];
    return FERRY_OK;
}

ferry_status ferry_graph_write(ferry_graph *graph, const ferry_world *world, ferry_output *output)
{
    FERRY_AUTO int64_t *wide = NULL;
    const int64_t most = ferry_graph_block_most(&graph->blocks) * graph->k;
    FERRY_TRY(ferry_agree(world, ferry_alloc(&wide, most)));
    FERRY_TRY(ferry_output_create(output, "obsm/neighbors", FERRY_INT64, graph->rows, graph->k));
    FERRY_TRY(ferry_output_create(output, "obsm/distances", FERRY_F32, graph->rows, graph->k));
    FERRY_TRY(ferry_output_attribute_number(output, "obsm/neighbors", "columns", (double)graph->columns));
    FERRY_TRY(ferry_output_attribute_number(output, "obsm/neighbors", "self", graph->self));
    for (int64_t t = 0; t < graph->rounds; t++) {
        ferry_graph_block block;
        FERRY_TRY(ferry_agree(world, take_wide(&block, wide, graph, t)));
        FERRY_TRY(ferry_output_rows(output, "obsm/neighbors", block.first, block.rows, wide));
        FERRY_TRY(ferry_output_rows(output, "obsm/distances", block.first, block.rows, block.distance));
        ferry_progress(world, "writing neighbours", graph->rows * (t + 1) / graph->rounds, graph->rows, "cells", NULL);
        ferry_stage_sample();
    }
    return FERRY_OK;
}

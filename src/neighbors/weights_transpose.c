/* Edges at their ends. A first walk counts how many edges end in every block; then each edge (i, j) is delivered to the
 * rank of j, into the bucket of j's block: in memory, or in a scratch file whose buckets are as long as counted. At
 * last every bucket is sorted by (row, from) in its place, so what is read does not depend on the order of arrival. */
#include "mpi/fetch.h"
#include "weights_impl.h"
#include <string.h>

#define FEW     32                  /* edges of a row that are sorted by insertion */
#define APPENDS ((int64_t)64 << 20) /* bytes that wait for a scratch file, at most */

/* ---- rows dealt by blocks ---- */

static int64_t units_of(const ferry_blocks *blocks)
{
    return (blocks->rows + blocks->unit - 1) / blocks->unit;
}

int64_t ferry_deal_longest(const ferry_blocks *blocks)
{
    int64_t most = (units_of(blocks) / blocks->count + 1) * blocks->unit;
    return most < blocks->rows ? most : blocks->rows;
}

ferry_status ferry_deal_open(ferry_deal *out, int64_t rows, const ferry_world *world)
{
    *out = (ferry_deal){.blocks = ferry_blocks_of(rows, FERRY_TARGET_UNIT), .rank = world->rank, .size = world->size};
    const int count = out->blocks.count, size = world->size;
    out->longest = ferry_deal_longest(&out->blocks);
    out->mine = world->rank < count ? (count - 1 - world->rank) / size + 1 : 0;
    FERRY_TRY(ferry_alloc(&out->row, out->mine + 1));
    FERRY_TRY(ferry_alloc(&out->key, count));
    FERRY_TRY(ferry_alloc(&out->first, size + 1));
    for (int r = 0; r < size; r++) {
        int64_t key = out->first[r];
        for (int b = r; b < count; b += size) {
            out->key[b] = key;
            key += ferry_block_first(&out->blocks, b + 1) - ferry_block_first(&out->blocks, b);
        }
        out->first[r + 1] = key;
    }
    const int64_t base = out->first[out->rank];
    for (int64_t b = 0; b < out->mine; b++) out->row[b] = out->key[out->rank + b * size] - base;
    out->row[out->mine] = out->first[out->rank + 1] - base;
    return FERRY_OK;
}

void ferry_deal_close(ferry_deal *deal)
{
    free(deal->row);
    free(deal->key);
    free(deal->first);
    *deal = (ferry_deal){0};
}

/* The last block that begins at or before the row's unit u: floor(b T / count) <= u. */
int ferry_deal_block(const ferry_deal *deal, int64_t row)
{
    const int64_t u = row / deal->blocks.unit, units = units_of(&deal->blocks);
    return (int)(((u + 1) * deal->blocks.count - 1) / units);
}

/* This rank's block that holds its row. */
static int64_t block_here(const ferry_deal *deal, int64_t row)
{
    int64_t low = 0, high = deal->mine;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (deal->row[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- count ---- */

/* Local. count [blocks] += edges that end in each block. */
static ferry_status count_edges(int64_t *count, const ferry_deal *deal, const ferry_edges *edges)
{
    const int k = edges->graph->k;
    for (int64_t round = 0; round < edges->graph->rounds; round++) {
        ferry_graph_block block;
        FERRY_TRY(ferry_graph_take(&block, edges->graph, round));
        for (int64_t i = 0; i < block.rows; i++)
            for (int64_t e = i * k; e < i * k + edges->most; e++)
                if (ferry_entry(&block, e)) count[ferry_deal_block(deal, block.cell[e])]++;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status count_here(ferry_transpose *out, int64_t **count, const ferry_world *world,
                               const ferry_edges *edges)
{
    FERRY_TRY(ferry_deal_open(&out->deal, edges->graph->columns, world));
    FERRY_TRY(ferry_alloc(count, out->deal.blocks.count));
    return count_edges(*count, &out->deal, edges);
}

/* Local. */
static ferry_status make_room(ferry_transpose *out, const int64_t *count, int64_t memory, const char *folder)
{
    const ferry_deal *deal = &out->deal;
    FERRY_AUTO int64_t *length = NULL;
    FERRY_TRY(ferry_alloc(&length, deal->mine));
    FERRY_TRY(ferry_alloc(&out->bucket, deal->mine + 1));
    FERRY_TRY(ferry_alloc(&out->filled, deal->mine));
    FERRY_TRY(ferry_alloc(&out->start, deal->row[deal->mine] + 1));
    for (int64_t b = 0; b < deal->mine; b++) {
        length[b] = count ? count[deal->rank + b * deal->size] : 0;
        out->bucket[b + 1] = out->bucket[b] + length[b];
    }
    const int64_t all = out->bucket[deal->mine];
    if (all <= memory / (int64_t)sizeof *out->held) return ferry_alloc(&out->held, all);
    const int64_t buffer = memory / 2 < APPENDS ? memory / 2 : APPENDS;
    return ferry_scratch_open(&out->scratch, folder, length, deal->mine, sizeof *out->held, buffer);
}

/* ---- deliver ---- */

typedef struct parcel {
    uint32_t from;
    float value;
} parcel;

/* Edges of a few rounds on their way. */
typedef struct cargo {
    int64_t count;
    int64_t *key;   /* [room] */
    parcel *parcel; /* [room] */
    float *value;   /* [longest block][k], where edges have values of their own */
} cargo;

static void free_cargo(cargo *it)
{
    free(it->key);
    free(it->parcel);
    free(it->value);
}

/* Local. */
static ferry_status open_cargo(cargo *out, const ferry_edges *edges, int64_t longest, int64_t rounds)
{
    const int64_t room = longest * rounds * edges->most;
    FERRY_TRY(ferry_alloc(&out->key, room));
    FERRY_TRY(ferry_alloc(&out->parcel, room));
    return edges->values ? ferry_alloc(&out->value, longest * edges->graph->k) : FERRY_OK;
}

static void load_block(cargo *out, const ferry_deal *deal, const ferry_edges *edges, const ferry_graph_block *block,
                       const float *value)
{
    const int k = edges->graph->k;
    for (int64_t i = 0; i < block->rows; i++)
        for (int64_t e = i * k; e < i * k + edges->most; e++) {
            if (!ferry_entry(block, e)) continue;
            const int b = ferry_deal_block(deal, block->cell[e]);
            out->key[out->count] = deal->key[b] + block->cell[e] - ferry_block_first(&deal->blocks, b);
            out->parcel[out->count++] = (parcel){(uint32_t)(block->first + i), value[e]};
        }
}

/* Local. The edges of rounds `round` ... last - 1. */
static ferry_status load(cargo *out, const ferry_deal *deal, const ferry_edges *edges, int64_t round, int64_t last)
{
    out->count = 0;
    for (; round < last && round < edges->graph->rounds; round++) {
        ferry_graph_block block;
        FERRY_TRY(ferry_graph_take(&block, edges->graph, round));
        if (edges->values) FERRY_TRY(edges->values(edges->self, out->value, &block, round));
        load_block(out, deal, edges, &block, edges->values ? out->value : block.distance);
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status store(ferry_transpose *out, const int64_t *key, const parcel *parcels, int64_t count)
{
    const ferry_deal *deal = &out->deal;
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = key[i] - deal->first[deal->rank], b = block_here(deal, row);
        const ferry_edge edge = {(uint32_t)(row - deal->row[b]), parcels[i].from, parcels[i].value};
        if (out->bucket[b] + out->filled[b] >= out->bucket[b + 1])
            return ferry_fail(FERRY_E_RUN, "the graph changed while its edges were turned round");
        if (out->held)
            out->held[out->bucket[b] + out->filled[b]] = edge;
        else
            FERRY_TRY(ferry_scratch_append(out->scratch, b, &edge, 1));
        out->filled[b]++;
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status deliver(ferry_transpose *out, const ferry_world *world, cargo *load_)
{
    FERRY_AUTO int64_t *keys = NULL;
    FERRY_AUTO void *parcels = NULL;
    int64_t received = 0;
    FERRY_TRY(ferry_deliver(&keys, &parcels, &received, world, out->deal.first, load_->key, load_->parcel,
                            sizeof *load_->parcel, load_->count));
    return ferry_agree(world, store(out, keys, parcels, received));
}

/* Collective. */
static ferry_status deliver_all(ferry_transpose *out, const ferry_world *world, const ferry_edges *edges, cargo *load_)
{
    const int64_t longest = ferry_deal_longest(&edges->graph->blocks), edges_of = longest * edges->most;
    const int64_t together = edges_of > 0 && FERRY_DELIVERY / edges_of > 1 ? FERRY_DELIVERY / edges_of : 1;
    FERRY_TRY(ferry_agree(world, open_cargo(load_, edges, longest, together)));
    for (int64_t round = 0; round < edges->graph->rounds; round += together) {
        FERRY_TRY(ferry_agree(world, load(load_, &out->deal, edges, round, round + together)));
        FERRY_TRY(deliver(out, world, load_));
    }
    return FERRY_OK;
}

/* ---- sort ---- */

static int by_from(const void *a, const void *b)
{
    const ferry_edge *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static void sort_row(ferry_edge *edge, int64_t count)
{
    if (count > FEW) {
        int64_t i = 1;
        while (i < count && edge[i - 1].from < edge[i].from) i++;
        if (i < count) qsort(edge, (size_t)count, sizeof *edge, by_from);
        return;
    }
    for (int64_t i = 1; i < count; i++) {
        const ferry_edge it = edge[i];
        int64_t j = i;
        for (; j > 0 && edge[j - 1].from > it.from; j--) edge[j] = edge[j - 1];
        edge[j] = it;
    }
}

/* out = edges of block b by (row, from); start of its rows. next [longest]. */
static void sort_block(ferry_edge *out, ferry_transpose *t, int64_t b, const ferry_edge *edges, int64_t *next)
{
    const int64_t first = t->deal.row[b], rows = t->deal.row[b + 1] - first, count = t->bucket[b + 1] - t->bucket[b];
    memset(next, 0, (size_t)rows * sizeof *next);
    for (int64_t i = 0; i < count; i++) next[edges[i].row]++;
    int64_t at = 0;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t length = next[r];
        t->start[first + r] = t->bucket[b] + at;
        next[r] = at;
        at += length;
    }
    for (int64_t i = 0; i < count; i++) out[next[edges[i].row]++] = edges[i];
    for (int64_t r = 0; r < rows; r++) {
        const int64_t from = t->start[first + r] - t->bucket[b];
        sort_row(out + from, next[r] - from);
    }
}

/* Local. */
static ferry_status sort_all(ferry_transpose *t)
{
    FERRY_AUTO ferry_edge *sorted = NULL;
    FERRY_AUTO int64_t *next = NULL;
    for (int64_t b = 0; b < t->deal.mine; b++) {
        const int64_t count = t->bucket[b + 1] - t->bucket[b];
        if (count > t->room) t->room = count;
        if (t->filled[b] != count)
            return ferry_fail(FERRY_E_RUN, "the graph changed while its edges were turned round");
    }
    FERRY_TRY(ferry_alloc(&sorted, t->room));
    FERRY_TRY(ferry_alloc(&next, t->deal.longest));
    if (t->scratch) FERRY_TRY(ferry_alloc(&t->read, t->room));
    if (t->scratch) FERRY_TRY(ferry_scratch_flush(t->scratch));
    for (int64_t b = 0; b < t->deal.mine; b++) {
        const int64_t count = t->bucket[b + 1] - t->bucket[b];
        ferry_edge *edges = t->held ? t->held + t->bucket[b] : t->read;
        if (t->scratch && count) FERRY_TRY(ferry_scratch_read(t->scratch, b, 0, count, edges));
        sort_block(sorted, t, b, edges, next);
        if (t->held)
            memcpy(edges, sorted, (size_t)count * sizeof *edges);
        else if (count)
            FERRY_TRY(ferry_scratch_write(t->scratch, b, 0, count, sorted));
    }
    t->start[t->deal.row[t->deal.mine]] = t->bucket[t->deal.mine];
    return FERRY_OK;
}

ferry_status ferry_transpose_open(ferry_transpose *out, const ferry_world *world, const ferry_edges *edges,
                                  int64_t memory, const char *folder)
{
    *out = (ferry_transpose){0};
    FERRY_AUTO int64_t *count = NULL;
    FERRY_TRY(ferry_agree(world, count_here(out, &count, world, edges)));
    ferry_total_counts(world, count, out->deal.blocks.count);
    FERRY_TRY(ferry_agree(world, make_room(out, count, memory, folder)));
    cargo load_ = {0};
    ferry_status status = deliver_all(out, world, edges, &load_);
    free_cargo(&load_);
    if (status == FERRY_OK) status = ferry_agree(world, sort_all(out));
    return status;
}

void ferry_transpose_close(ferry_transpose *transpose)
{
    ferry_deal_close(&transpose->deal);
    if (transpose->scratch) ferry_scratch_close(&transpose->scratch);
    free(transpose->bucket);
    free(transpose->filled);
    free(transpose->start);
    free(transpose->held);
    free(transpose->read);
    *transpose = (ferry_transpose){0};
}

ferry_status ferry_transpose_block(const ferry_edge **edges, const int64_t **start, ferry_transpose *t, int64_t round)
{
    *edges = t->held;
    *start = t->start;
    if (round >= t->deal.mine) return FERRY_OK;
    *start = t->start + t->deal.row[round];
    const int64_t count = t->bucket[round + 1] - t->bucket[round];
    if (t->held) *edges = t->held + t->bucket[round];
    if (t->held || count == 0) return FERRY_OK;
    *edges = t->read;
    return ferry_scratch_read(t->scratch, round, 0, count, t->read);
}

ferry_status ferry_transpose_row(const ferry_edge **edges, ferry_transpose *t, int64_t row)
{
    const int64_t count = t->start[row + 1] - t->start[row];
    *edges = t->held ? t->held + t->start[row] : t->read;
    if (t->held || count == 0) return FERRY_OK;
    const int64_t b = block_here(&t->deal, row);
    return ferry_scratch_read(t->scratch, b, t->start[row] - t->bucket[b], count, t->read);
}

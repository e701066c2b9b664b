/* Building lists. Pass 1 assigns this rank's rows and keeps 8 bytes of each; then sizes, radii and owners are known.
 * Pass 2 sends every row to the rank that owns its list, in rounds of bounded size; owners put them where they belong
 * and order them. Ranks own runs of lists with about as many rows. */
#include "lists_build_impl.h"
#include "mpi/exchange.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BATCH_MOST  ((int64_t)1 << 16)
#define BATCH_LEAST 256

/* ---- sizes ---- */

static int64_t at_least(int64_t value, int64_t least)
{
    return value > least ? value : least;
}

static int64_t share(int64_t rows, int part, int parts)
{
    return (int64_t)((__int128)rows * part / parts);
}

static size_t record_bytes(int dim)
{
    return sizeof(ferry_lists_record) + (size_t)dim * sizeof(float);
}

/* Bytes of a row on its way: as read, and prepared or sent and received. */
static int64_t row_bytes(int dim)
{
    return 4 * (int64_t)dim + 3 * (int64_t)record_bytes(dim) + 8;
}

static void plan(ferry_lists_build_state *b)
{
    const int size = b->world->size, rank = b->world->rank;
    const ferry_lists_options *o = b->options;
    b->begin = share(b->points->cells, rank, size);
    b->count = share(b->points->cells, rank + 1, size) - b->begin;
    const int64_t most = (b->points->cells + size - 1) / size;
    b->batch = o->batch > 0 ? o->batch : o->memory / 8 / row_bytes(b->dim);
    if (o->batch <= 0 && b->batch > BATCH_MOST) b->batch = BATCH_MOST;
    if (o->batch <= 0) b->batch = at_least(b->batch, BATCH_LEAST);
    if (b->batch > most) b->batch = at_least(most, 1);
    b->rounds = (most + b->batch - 1) / b->batch;
    /* kept from pass to pass when they take less than half of the memory, with all else */
    b->keep = most * 4 * b->dim < o->memory / 2 - most * 8 - b->batch * row_bytes(b->dim) - b->lists * 16;
}

static ferry_status open_state(ferry_lists_build_state *b)
{
    if (b->points->cells >= (int64_t)UINT32_MAX)
        return ferry_fail(FERRY_E_ARG, "%s: %lld cells: a search takes fewer than 4294967295; split the set",
                          b->points->name, (long long)b->points->cells);
    if (b->points->dim != b->dim)
        return ferry_fail(FERRY_E_ARG, "%s has %d columns, the lists have %d: give the same representation",
                          b->points->name, b->points->dim, b->dim);
    FERRY_TRY(ferry_alloc(&b->list, b->count));
    FERRY_TRY(ferry_alloc(&b->distance, b->count));
    FERRY_TRY(ferry_alloc(&b->cut, b->world->size + 1));
    if (b->keep) FERRY_TRY(ferry_alloc(&b->kept, b->count * b->dim));
    FERRY_TRY(ferry_alloc(&b->sizes, b->lists));
    return ferry_alloc(&b->widest, b->lists);
}

static void close_state(ferry_lists_build_state *b)
{
    free(b->list);
    free(b->distance);
    free(b->cut);
    free(b->kept);
    free(b->sizes);
    free(b->widest);
    free(b->filled);
    free(b->send);
    free(b->recv);
    free(b->order);
    free(b->start);
    free(b->send_counts);
    free(b->recv_counts);
    ferry_scratch_close(&b->scratch);
    free(b->bucket);
}

void ferry_lists_progress(const ferry_lists_build_state *b, const char *doing, int64_t done, int64_t total)
{
    char what[64];
    snprintf(what, sizeof what, "%s %s", doing, b->options->what ? b->options->what : "cells");
    ferry_progress(b->world, what, done, total, "cells", NULL);
}

/* Rows of this rank in a round. */
static int64_t rows_of(const ferry_lists_build_state *b, int64_t round, int64_t *at)
{
    *at = round * b->batch < b->count ? round * b->batch : b->count;
    return b->count - *at < b->batch ? b->count - *at : b->batch;
}

/* ---- pass 1 ---- */

typedef struct room {
    float *prepared, *norm2;
} room;

static ferry_status assign(ferry_lists_build_state *b, const room *r, const float *rows, int64_t at, int64_t n)
{
    const ferry_lists_options *o = b->options;
    FERRY_TRY(ferry_quantizer_prepare(r->prepared, r->norm2, b->quantizer, rows, n, b->begin + at));
    FERRY_TRY(ferry_quantizer_assign(b->list + at, b->distance + at, b->quantizer, r->prepared, r->norm2, n, o->exact,
                                     o->threads));
    if (b->keep) memcpy(b->kept + at * b->dim, rows, (size_t)(n * b->dim) * sizeof *rows);
    for (int64_t i = at; i < at + n; i++) {
        b->sizes[b->list[i]]++;
        if (b->distance[i] > b->widest[b->list[i]]) b->widest[b->list[i]] = b->distance[i];
    }
    return FERRY_OK;
}

static ferry_status open_room(room *r, const ferry_lists_build_state *b)
{
    FERRY_TRY(ferry_alloc(&r->prepared, b->batch * b->dim));
    return ferry_alloc(&r->norm2, b->batch);
}

/* Collective. */
static ferry_status assign_round(ferry_lists_build_state *b, const room *r, int64_t round)
{
    int64_t at;
    const int64_t n = rows_of(b, round, &at);
    ferry_matrix rows = {0};
    FERRY_TRY(b->points->read(b->points->self, &rows, b->world, b->begin + at, n));
    const ferry_status status = n ? assign(b, r, rows.f, at, n) : FERRY_OK;
    ferry_matrix_close(&rows);
    ferry_lists_progress(b, "assigning", b->points->cells * (round + 1) / b->rounds, b->points->cells);
    return ferry_agree(b->world, status);
}

/* Collective. */
static ferry_status assign_all(ferry_lists_build_state *b)
{
    room r = {0};
    ferry_status status = ferry_agree(b->world, open_room(&r, b));
    for (int64_t round = 0; status == FERRY_OK && round < b->rounds; round++) status = assign_round(b, &r, round);
    free(r.prepared);
    free(r.norm2);
    return status;
}

/* Rounded up by more than the distances and what is computed from them may be off. */
static float radius_of(double widest)
{
    return widest > 0 ? nextafterf((float)(widest * (1 + 1e-6)), INFINITY) : 0;
}

/* Collective. */
static ferry_status head(ferry_lists_build_state *b)
{
    FERRY_AUTO float *radius = NULL;
    FERRY_TRY(ferry_agree(b->world, ferry_alloc(&radius, b->lists)));
    ferry_total_counts(b->world, b->sizes, b->lists);
    ferry_max_doubles(b->world, b->widest, b->lists);
    for (int64_t i = 0; i < b->lists; i++) radius[i] = radius_of(b->widest[i]);
    free(b->widest);
    b->widest = NULL;
    return ferry_lists_head(b->out, b->world, b->quantizer, b->sizes, radius, b->options->exact);
}

/* ---- pass 2 ---- */

/* Rank r owns lists cut[r] ... cut[r + 1] - 1. */
static void cut_lists(ferry_lists_build_state *b)
{
    const int size = b->world->size;
    int64_t list = 0;
    for (int r = 0; r < size; r++) {
        const int64_t wanted = share(b->out->rows, r, size);
        while (list < b->lists && b->out->first[list] < wanted) list++;
        b->cut[r] = list;
    }
    b->cut[size] = b->lists;
}

static int owner_of(const ferry_lists_build_state *b, int64_t list)
{
    int low = 0, high = b->world->size; /* cut[low] <= list < cut[high] */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (b->cut[middle] <= list)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static ferry_status open_sending(ferry_lists_build_state *b)
{
    const int size = b->world->size;
    /* what one rank sends to another at a time: half more than its share, so that one step mostly does */
    b->most = b->batch / size + b->batch / size / 2 + 16;
    if (b->most > b->batch) b->most = b->batch;
    const int64_t records = b->most * size;
    FERRY_TRY(ferry_alloc_bytes(&b->send, records < b->batch ? records : b->batch, b->record));
    FERRY_TRY(ferry_alloc_bytes(&b->recv, records, b->record));
    FERRY_TRY(ferry_alloc(&b->order, b->batch));
    FERRY_TRY(ferry_alloc(&b->start, size + 1));
    FERRY_TRY(ferry_alloc(&b->send_counts, size));
    return ferry_alloc(&b->recv_counts, size);
}

/* order [n]: the rows of a batch by owner; start [ranks + 1]. */
static void group(ferry_lists_build_state *b, int64_t at, int64_t n)
{
    const int size = b->world->size;
    memset(b->start, 0, (size_t)(size + 1) * sizeof *b->start);
    for (int64_t i = 0; i < n; i++) b->start[owner_of(b, b->list[at + i]) + 1]++;
    for (int r = 0; r < size; r++) b->start[r + 1] += b->start[r];
    for (int64_t i = 0; i < n; i++) b->order[b->start[owner_of(b, b->list[at + i])]++] = (int32_t)i;
    for (int r = size; r > 0; r--) b->start[r] = b->start[r - 1];
    b->start[0] = 0;
}

/* Records of step `step` of a batch, by owner. */
static void fill(ferry_lists_build_state *b, const float *rows, int64_t at, int64_t step)
{
    char *to = b->send;
    for (int r = 0; r < b->world->size; r++) {
        const int64_t all = b->start[r + 1] - b->start[r], from = step * b->most < all ? step * b->most : all;
        b->send_counts[r] = all - from < b->most ? all - from : b->most;
        for (int64_t k = 0; k < b->send_counts[r]; k++, to += b->record) {
            const int64_t i = b->order[b->start[r] + from + k];
            const ferry_lists_record record = {b->list[at + i], (uint32_t)(b->begin + at + i), b->distance[at + i]};
            memcpy(to, &record, sizeof record);
            memcpy(to + sizeof record, rows + i * b->dim, (size_t)b->dim * sizeof *rows);
        }
    }
}

/* Collective. */
static ferry_status send(ferry_lists_build_state *b, const float *rows, int64_t at, int64_t n)
{
    int64_t largest = 0, steps;
    group(b, at, n);
    for (int r = 0; r < b->world->size; r++)
        if (b->start[r + 1] - b->start[r] > largest) largest = b->start[r + 1] - b->start[r];
    steps = ferry_max(b->world, (largest + b->most - 1) / b->most);
    for (int64_t step = 0; step < steps; step++) {
        int64_t come = 0;
        fill(b, rows, at, step);
        ferry_exchange_counts(b->world, b->send_counts, b->recv_counts);
        for (int r = 0; r < b->world->size; r++) come += b->recv_counts[r];
        ferry_exchange(b->world, b->send, b->send_counts, b->recv, b->recv_counts, b->record);
        FERRY_TRY(ferry_agree(b->world, b->place(b, b->recv, come)));
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status send_round(ferry_lists_build_state *b, int64_t round)
{
    int64_t at;
    const int64_t n = rows_of(b, round, &at);
    ferry_matrix rows = {0};
    if (!b->keep) FERRY_TRY(b->points->read(b->points->self, &rows, b->world, b->begin + at, n));
    const ferry_status status = send(b, b->keep ? b->kept + at * b->dim : rows.f, at, n);
    ferry_matrix_close(&rows);
    ferry_lists_progress(b, "placing", b->points->cells * (round + 1) / b->rounds, b->points->cells);
    return status;
}

/* Collective. After it nothing is needed but what place has put away. */
ferry_status ferry_lists_send(ferry_lists_build_state *b)
{
    FERRY_TRY(ferry_agree(b->world, open_sending(b)));
    for (int64_t round = 0; round < b->rounds; round++) FERRY_TRY(send_round(b, round));
    void **done[] = {(void **)&b->list, (void **)&b->distance, (void **)&b->kept,
                     (void **)&b->send, (void **)&b->recv,     (void **)&b->order};
    for (size_t i = 0; i < sizeof done / sizeof *done; i++) {
        free(*done[i]);
        *done[i] = NULL;
    }
    return FERRY_OK;
}

/* ---- in memory ---- */

/* Rows go to the next free place of their list. */
static ferry_status place_held(ferry_lists_build_state *b, const char *records, int64_t count)
{
    struct ferry_lists_store *store = b->out->store;
    const int64_t mine = b->cut[b->world->rank], base = b->out->first[mine];
    float *rows = store->rows ? store->rows + base * b->dim : b->kept_rows;
    for (int64_t i = 0; i < count; i++, records += b->record) {
        ferry_lists_record record;
        memcpy(&record, records, sizeof record);
        const int64_t at = b->out->first[record.list] + b->filled[record.list - mine]++;
        store->cell[at] = record.cell;
        store->distance[at] = record.distance;
        memcpy(rows + (at - base) * b->dim, records + sizeof record, (size_t)b->dim * sizeof *rows);
    }
    return FERRY_OK;
}

/* What one thread needs to order lists. */
typedef struct orderer {
    ferry_lists_place *place;
    float *row, *prepared;
} orderer;

static ferry_status open_orderer(orderer *o, int64_t longest, int dim)
{
    FERRY_TRY(ferry_alloc(&o->place, longest));
    FERRY_TRY(ferry_alloc(&o->row, dim));
    return ferry_alloc(&o->prepared, (int64_t)FERRY_PACK_ROWS * dim);
}

static void close_orderer(orderer *o)
{
    free(o->place);
    free(o->row);
    free(o->prepared);
}

/* Rows follow place: row i becomes what was row place[i].from, cycle by cycle. from is used up. */
static void permute(float *rows, ferry_lists_place *place, int64_t count, int dim, float *row)
{
    const size_t bytes = (size_t)dim * sizeof *rows;
    for (int64_t i = 0; i < count; i++) {
        if (place[i].from == i) continue;
        memcpy(row, rows + i * dim, bytes);
        int64_t to = i;
        for (int64_t from; (from = place[to].from) != i; to = from) {
            memcpy(rows + to * dim, rows + from * dim, bytes);
            place[to].from = to;
        }
        memcpy(rows + to * dim, row, bytes);
        place[to].from = to;
    }
}

static ferry_status order_list(const ferry_lists_build_state *b, const orderer *o, int64_t list)
{
    const struct ferry_lists_store *store = b->out->store;
    const int64_t first = b->out->first[list], count = b->out->first[list + 1] - first;
    const int64_t base = store->rows ? 0 : b->out->first[b->cut[b->world->rank]];
    float *rows = (store->rows ? store->rows : b->kept_rows) + (first - base) * b->dim;
    for (int64_t i = 0; i < count; i++)
        o->place[i] = (ferry_lists_place){ferry_lists_key(store->distance[first + i], store->cell[first + i]), i};
    ferry_lists_sort(o->place, count);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)(o->place[i].key >> 32);
        memcpy(store->distance + first + i, &bits, sizeof bits);
        store->cell[first + i] = (uint32_t)o->place[i].key;
    }
    permute(rows, o->place, count, b->dim, o->row);
    const int64_t unit = store->unit[list] * FERRY_TARGET_UNIT;
    return ferry_lists_pack(store->packed + unit * b->dim, store->beta + unit, b->quantizer, rows, count, o->prepared);
}

static ferry_status order_held(const ferry_lists_build_state *b)
{
    const int64_t begin = b->cut[b->world->rank], end = b->cut[b->world->rank + 1];
    int64_t longest = 0;
    ferry_status worst = FERRY_OK;
    for (int64_t i = begin; i < end; i++)
        if (b->sizes[i] > longest) longest = b->sizes[i];
#pragma omp parallel num_threads(b->options->threads > 0 ? b->options->threads : 1)
    {
        orderer o = {0};
        ferry_status mine = open_orderer(&o, longest, b->dim);
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = begin; i < end; i++)
            if (mine == FERRY_OK && b->sizes[i]) mine = order_list(b, &o, i);
        close_orderer(&o);
#pragma omp critical(ferry_lists_order)
        if (mine < worst) worst = mine;
    }
    return worst;
}

/* Collective over one rank of each node: what owner `from` has written, at the same place of every node's body. */
static void send_piece(const ferry_lists_build_state *b, const ferry_world *leaders, int owner, int from)
{
    const struct ferry_lists_store *store = b->out->store;
    const int64_t begin = b->cut[owner], end = b->cut[owner + 1];
    const int64_t row = b->out->first[begin], rows = b->out->first[end] - row;
    const int64_t unit = store->unit[begin] * FERRY_TARGET_UNIT, places = store->unit[end] * FERRY_TARGET_UNIT - unit;
    const size_t width = (size_t)b->dim * sizeof(float);
    ferry_broadcast(leaders, store->cell + row, (size_t)rows * sizeof *store->cell, from);
    ferry_broadcast(leaders, store->distance + row, (size_t)rows * sizeof *store->distance, from);
    if (store->rows) ferry_broadcast(leaders, store->rows + row * b->dim, (size_t)rows * width, from);
    ferry_broadcast(leaders, store->packed + unit * b->dim, (size_t)places * width, from);
    ferry_broadcast(leaders, store->beta + unit, (size_t)places * sizeof *store->beta, from);
}

/* Collective. Every node gets what the others' ranks own. */
static ferry_status spread(const ferry_lists_build_state *b)
{
    const ferry_world *world = b->world;
    FERRY_AUTO int64_t *node = NULL;
    FERRY_AUTO int64_t *ones = NULL;
    ferry_world leaders = {0};
    ferry_window_sync(&b->out->store->body, &b->out->store->node);
    if (world->nodes == 1) return FERRY_OK;
    ferry_status status = ferry_alloc(&node, world->size);
    if (status == FERRY_OK) status = ferry_alloc(&ones, world->size);
    FERRY_TRY(ferry_agree(world, status));
    FERRY_TRY(status); /* agreed; told to the analyser too */
    FERRY_TRY(ferry_agree(world, ferry_world_split(&leaders, world, world->node_rank ? 1 : 0, world->rank)));
    int64_t mine = leaders.rank; /* the number of this rank's node, known to its first rank */
    ferry_broadcast(&b->out->store->node, &mine, sizeof mine, 0);
    for (int r = 0; r < world->size; r++) ones[r] = 1;
    ferry_gather_all(world, &mine, ones, node, sizeof mine);
    if (world->node_rank == 0)
        for (int r = 0; r < world->size; r++) send_piece(b, &leaders, r, (int)node[r]);
    ferry_world_close(&leaders);
    ferry_window_sync(&b->out->store->body, &b->out->store->node);
    return FERRY_OK;
}

static ferry_status open_held(ferry_lists_build_state *b)
{
    const int64_t begin = b->cut[b->world->rank], end = b->cut[b->world->rank + 1];
    FERRY_TRY(ferry_alloc(&b->filled, end - begin));
    if (b->options->keep_rows) return FERRY_OK;
    return ferry_alloc(&b->kept_rows, (b->out->first[end] - b->out->first[begin]) * b->dim);
}

/* Collective. */
static ferry_status place_all_held(ferry_lists_build_state *b)
{
    b->place = place_held;
    FERRY_TRY(ferry_lists_body(b->out, b->world, b->options->keep_rows));
    FERRY_TRY(ferry_agree(b->world, open_held(b)));
    FERRY_TRY(ferry_lists_send(b));
    FERRY_TRY(ferry_agree(b->world, order_held(b)));
    return spread(b);
}

/* ---- all of it ---- */

/* Collective. */
static ferry_status build(ferry_lists_build_state *b)
{
    FERRY_TRY(ferry_agree(b->world, open_state(b)));
    FERRY_TRY(assign_all(b));
    FERRY_TRY(head(b));
    cut_lists(b);
    ferry_stage_begin("place"); /* the second pass over the points: a stage of its own */
    return b->options->held ? place_all_held(b) : ferry_lists_spill(b);
}

ferry_status ferry_lists_build(ferry_lists *out, const ferry_world *world, const ferry_quantizer *quantizer,
                               const ferry_points *points, const ferry_lists_options *options)
{
    *out = (ferry_lists){0};
    ferry_lists_build_state b = {.out = out,
                                 .world = world,
                                 .quantizer = quantizer,
                                 .points = points,
                                 .options = options,
                                 .dim = quantizer->dim,
                                 .lists = quantizer->list.count,
                                 .record = record_bytes(quantizer->dim)};
    plan(&b);
    const ferry_status status = build(&b);
    free(b.kept_rows);
    close_state(&b);
    if (status != FERRY_OK) ferry_lists_close(out, world);
    return status;
}

/* Batches of queries: scan codes, read the candidates' vectors in ascending order, decide. A rank searches a run of the
 * queries; reading is collective, so all make as many batches and readings as the one with most. */
#include "search_codes_impl.h"
#include "search_impl.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define BATCH_LEAST 96                  /* queries of a batch */
#define GAP_BYTES   ((int64_t)64 << 10) /* rows nearer than that are read in one piece, */
#define PIECE_BYTES ((int64_t)4 << 20)  /* which is no longer than this */

typedef struct run {
    ferry_codes_job job;
    const ferry_world *world;
    const ferry_points *queries, *reference;
    ferry_codes_scanner *scanner; /* [threads] */
    int dim, k;
    int64_t most;
    int64_t first, count, batch; /* queries of this rank */
    /* a batch */
    int64_t at, rows;
    float *prepared, *norm2; /* [batch][dim], [batch] */
    uint32_t *candidate;     /* [batch][most] cells */
    double *distance;        /* [batch][most] */
    int64_t *counts;         /* [batch] */
    uint64_t *pair, *spare;  /* [batch * most] cell, place in candidate */
    uint32_t *row, *cell;    /* of the graph */
    float *near;
} run;

int64_t ferry_codes_query_bytes(int dim, int k, int64_t rerank)
{
    const int64_t most = k * (rerank ? rerank : FERRY_RERANK);
    return 8 * (int64_t)dim + 28 * most + 8 * k + 16;
}

int64_t ferry_codes_least(int dim, int k, int64_t rerank, int64_t lists, int threads)
{
    const int64_t most = k * (rerank ? rerank : FERRY_RERANK);
    const int64_t one = 108 * (lists + UNIT) + 1024 * (int64_t)dim + 96 * (int64_t)dim + 16 * most;
    return threads * one + BATCH_LEAST * ferry_codes_query_bytes(dim, k, rerank) + PIECE_BYTES;
}

/* --- open, close --- */

static void close_run(run *r)
{
    for (int t = 0; r->scanner && t < r->job.options.threads; t++) ferry_codes_scanner_close(&r->scanner[t]);
    void *arrays[] = {r->scanner, r->prepared, r->norm2, r->candidate, r->distance, r->counts,
                      r->pair,    r->spare,    r->row,   r->cell,      r->near};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

/* Queries of a batch: what the memory holds, at most what places in the candidates can be numbered. */
static int64_t batch_of(const run *r)
{
    const ferry_codes_options *o = &r->job.options;
    const int64_t each = ferry_codes_query_bytes(r->dim, r->k, o->rerank);
    const int64_t left = o->memory - ferry_codes_least(r->dim, r->k, o->rerank, r->job.q->list.count, o->threads);
    int64_t batch = BATCH_LEAST + (left > 0 ? left / each : 0);
    if (batch > ((int64_t)1 << 31) / r->most) batch = ((int64_t)1 << 31) / r->most;
    return batch < r->count ? batch : r->count > 0 ? r->count : 1;
}

/* Local. */
static ferry_status check(const run *r, const ferry_graph *graph)
{
    if (graph->rows == r->queries->cells && graph->columns == r->job.codes->rows && graph->k == r->k &&
        r->reference->cells == r->job.codes->rows && r->queries->dim == r->dim && r->reference->dim == r->dim)
        return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "%s: %lld cells of %d columns, but %lld of %d in %s", r->job.index->path,
                      (long long)r->job.codes->rows, r->dim, (long long)r->reference->cells, r->reference->dim,
                      r->reference->name);
}

/* Local. */
static ferry_status open_run(run *r, const ferry_graph *graph, const ferry_index *index,
                             const ferry_codes_options *options)
{
    FERRY_TRY(ferry_codes_job_of(&r->job, index, options));
    r->dim = r->job.q->dim;
    r->k = r->job.options.k;
    r->most = r->job.most;
    FERRY_TRY(check(r, graph));
    r->first = r->queries->cells * r->world->rank / r->world->size;
    r->count = r->queries->cells * (r->world->rank + 1) / r->world->size - r->first;
    r->batch = batch_of(r);
    FERRY_TRY(ferry_alloc(&r->scanner, r->job.options.threads));
    for (int t = 0; t < r->job.options.threads; t++) FERRY_TRY(ferry_codes_scanner_open(&r->scanner[t], &r->job));
    FERRY_TRY(ferry_alloc(&r->prepared, r->batch * r->dim));
    FERRY_TRY(ferry_alloc(&r->norm2, r->batch));
    FERRY_TRY(ferry_alloc(&r->candidate, r->batch * r->most));
    FERRY_TRY(ferry_alloc(&r->distance, r->batch * r->most));
    FERRY_TRY(ferry_alloc(&r->counts, r->batch));
    FERRY_TRY(ferry_alloc(&r->pair, r->batch * r->most));
    FERRY_TRY(ferry_alloc(&r->spare, r->batch * r->most));
    FERRY_TRY(ferry_alloc(&r->row, r->batch));
    FERRY_TRY(ferry_alloc(&r->cell, r->batch * r->k));
    return ferry_alloc(&r->near, r->batch * r->k);
}

/* --- candidates --- */

static void scan_query(run *r, ferry_codes_scanner *s, int i, int64_t q)
{
    const ferry_lists *lists = &r->job.index->lists;
    const bool self = r->job.options.self;
    const uint32_t own = self ? (uint32_t)(r->first + r->at + q) : UINT32_MAX;
    int64_t seen = 0;
    ferry_codes_begin(s, i, r->prepared + q * r->dim, r->norm2[q]);
    for (int64_t n = 0; n < lists->lists && (n < r->job.options.probes || seen < r->k + self); n++) {
        const int64_t list = ferry_codes_list(s, n);
        ferry_codes_scan(s, list, own);
        seen += lists->first[list + 1] - lists->first[list];
    }
    ferry_codes_settle(s);
    r->counts[q] = s->count;
    for (int64_t j = 0; j < s->count; j++) r->candidate[q * r->most + j] = (uint32_t)s->found[j];
}

/* Local. The queries of the batch as they are in `rows`. */
static ferry_status scan_batch(run *r, const ferry_matrix *rows)
{
    FERRY_TRY(ferry_quantizer_prepare(r->prepared, r->norm2, r->job.q, rows->f, r->rows, r->first + r->at));
#pragma omp parallel for num_threads(r->job.options.threads) schedule(dynamic, 1)
    for (int64_t p = 0; p < r->rows; p += PANEL) {
        ferry_codes_scanner *s = &r->scanner[omp_get_thread_num()];
        const int64_t count = r->rows - p < PANEL ? r->rows - p : PANEL;
        ferry_codes_panel(s, r->prepared + p * r->dim, count);
        for (int64_t i = 0; i < count; i++) scan_query(r, s, (int)i, p + i);
    }
    return FERRY_OK;
}

/* --- their vectors --- */

/* The run of pairs from `from` whose rows are read in one piece: ends before *to; rows first ... first + count. */
static void piece_of(const run *r, const uint64_t *pair, int64_t pairs, int64_t from, int64_t *to, int64_t *first,
                     int64_t *count)
{
    const int64_t width = 4 * (int64_t)r->dim, gap = GAP_BYTES / width + 1, longest = PIECE_BYTES / width + 1;
    int64_t last = *first = (int64_t)(pair[from] >> 32), at = from + 1;
    for (; at < pairs; at++) {
        const int64_t row = (int64_t)(pair[at] >> 32);
        if (row - last > gap || row - *first >= longest) break;
        last = row;
    }
    *to = at;
    *count = last - *first + 1;
}

static void measure_piece(run *r, const float *queries, const uint64_t *pair, int64_t from, int64_t to, int64_t first,
                          const float *rows)
{
#pragma omp parallel for num_threads(r->job.options.threads) schedule(static) if (to - from > 256)
    for (int64_t i = from; i < to; i++) {
        const int64_t place = (int64_t)(uint32_t)pair[i], row = (int64_t)(pair[i] >> 32) - first;
        r->distance[place] = ferry_codes_distance(&r->job, queries + place / r->most * r->dim, rows + row * r->dim);
    }
}

/* Collective. distance = that of every candidate. */
static ferry_status measure_batch(run *r, const ferry_matrix *queries)
{
    int64_t pairs = 0, pieces = 0;
    for (int64_t q = 0; q < r->rows; q++)
        for (int64_t j = 0; j < r->counts[q]; j++)
            r->pair[pairs++] = (uint64_t)r->candidate[q * r->most + j] << 32 | (uint64_t)(q * r->most + j);
    const uint64_t *pair = ferry_sort_places(r->pair, r->spare, pairs);
    for (int64_t at = 0, first, count; at < pairs; pieces++) piece_of(r, pair, pairs, at, &at, &first, &count);
    const int64_t readings = ferry_max(r->world, pieces);
    int64_t at = 0;
    for (int64_t n = 0; n < readings; n++) {
        int64_t to = at, first = 0, count = 0;
        ferry_matrix rows = {0};
        if (at < pairs) piece_of(r, pair, pairs, at, &to, &first, &count);
        FERRY_TRY(r->reference->read(r->reference->self, &rows, r->world, first, count));
        measure_piece(r, queries->f, pair, at, to, first, rows.f);
        ferry_matrix_close(&rows);
        at = to;
    }
    return FERRY_OK;
}

/* --- the answer --- */

static bool before(double distance, uint32_t cell, double other, uint32_t other_cell)
{
    return distance < other || (distance == other && cell < other_cell);
}

/* The k nearest of a query come first, in order. */
static void choose_nearest(run *r, int64_t q)
{
    double *distance = r->distance + q * r->most;
    uint32_t *cell = r->candidate + q * r->most;
    int64_t kept = 0;
    for (int64_t j = 0; j < r->counts[q]; j++) {
        const double d = distance[j];
        const uint32_t c = cell[j];
        int64_t i = kept < r->k ? kept++ : kept;
        if (i == r->k && !before(d, c, distance[i - 1], cell[i - 1])) continue;
        if (i == r->k) i--;
        for (; i > 0 && before(d, c, distance[i - 1], cell[i - 1]); i--) {
            distance[i] = distance[i - 1];
            cell[i] = cell[i - 1];
        }
        distance[i] = d;
        cell[i] = c;
    }
    r->counts[q] = kept;
}

static void answer_batch(run *r)
{
    const bool root = r->job.q->metric == FERRY_EUCLIDEAN;
#pragma omp parallel for num_threads(r->job.options.threads) schedule(static)
    for (int64_t q = 0; q < r->rows; q++) {
        choose_nearest(r, q);
        r->row[q] = (uint32_t)(r->first + r->at + q);
        for (int64_t i = 0; i < r->k; i++) {
            const double d = r->distance[q * r->most + i];
            const bool there = i < r->counts[q];
            r->cell[q * r->k + i] = there ? r->candidate[q * r->most + i] : UINT32_MAX;
            r->near[q * r->k + i] = there ? (float)(root ? sqrt(d) : d) : INFINITY;
        }
    }
}

/* Collective. */
static ferry_status search_batch(run *r)
{
    ferry_matrix queries = {0};
    FERRY_TRY(r->queries->read(r->queries->self, &queries, r->world, r->first + r->at, r->rows));
    ferry_status status = ferry_agree(r->world, scan_batch(r, &queries));
    if (status == FERRY_OK) status = measure_batch(r, &queries);
    ferry_matrix_close(&queries);
    FERRY_TRY(status);
    answer_batch(r);
    return FERRY_OK;
}

/* Collective. */
static ferry_status search_all(run *r, ferry_graph *graph)
{
    const int64_t rounds = ferry_max(r->world, (r->count + r->batch - 1) / r->batch);
    for (int64_t n = 0; n < rounds; n++) {
        r->at = n * r->batch < r->count ? n * r->batch : r->count;
        r->rows = r->count - r->at < r->batch ? r->count - r->at : r->batch;
        FERRY_TRY(search_batch(r));
        const ferry_graph_rows rows = {.count = r->rows, .row = r->row, .cell = r->cell, .distance = r->near};
        FERRY_TRY(ferry_graph_put(graph, r->world, &rows));
        ferry_progress(r->world, "search", r->queries->cells * (n + 1) / rounds, r->queries->cells, "cells", NULL);
        ferry_stage_sample();
    }
    return ferry_graph_finish(graph, r->world);
}

/* Collective. */
static void add_counts(ferry_search_counts *counts, const run *r)
{
    int64_t sums[2] = {0};
    for (int t = 0; t < r->job.options.threads; t++) {
        sums[0] += r->scanner[t].lists;
        sums[1] += r->scanner[t].pairs;
    }
    ferry_total_counts(r->world, sums, 2);
    *counts = (ferry_search_counts){.queries = r->queries->cells,
                                    .lists = sums[0],
                                    .pairs = sums[1],
                                    .kept = r->queries->cells * r->most,
                                    .slots = sums[1]};
}

ferry_status ferry_codes_search(ferry_graph *graph, ferry_search_counts *counts, const ferry_world *world,
                                const ferry_points *queries, const ferry_points *reference, const ferry_index *index,
                                const ferry_codes_options *options)
{
    run r = {.world = world, .queries = queries, .reference = reference};
    ferry_status status = ferry_agree(world, open_run(&r, graph, index, options));
    if (status == FERRY_OK) status = search_all(&r, graph);
    if (status == FERRY_OK) add_counts(counts, &r);
    close_run(&r);
    return status;
}

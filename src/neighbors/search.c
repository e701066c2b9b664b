/* Which rank searches what, in rounds, and the way of the results to the graph.
 *
 * Queries are cut in chunks in list order. Chunks of lists that are in memory on every node are dealt in turn, which
 * needs no estimate of their cost; from a disk a rank has a run of them, so that it reads its part of the lists and
 * their neighbours. The cost of a list is estimated by its queries times the rows of the lists around its number. A
 * reference on disk is read again for every chunk that looks into it: there the run is cut anew, into equal chunks as
 * large as memory and the number of threads allow. A round ends when the results fill their room. */
#include "search_impl.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define AROUND      8    /* lists before and after one that are likely to be visited */
#define ALWAYS      5000 /* rows whose distances cost as much as the rest of a query */
#define VISITS_EACH 24   /* of a query of a compact chunk that there is room for, at most */

typedef struct run {
    ferry_search_job job;
    const ferry_world *world;
    ferry_searcher *searcher; /* [threads] */
    int threads;
    bool dealt;
    int64_t total;            /* chunks of all ranks, before those of this rank are cut anew */
    int64_t chunks;           /* of this rank: */
    int64_t first, step, end; /* row of the first, rows from one to the next, end of the last */
    /* a round */
    int64_t room, done, rows; /* chunks; of this rank so far; queries in it */
    uint32_t *row, *cell;
    float *distance;
    ferry_status status;
} run;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t record_bytes(int k)
{
    return 4 + 8 * (int64_t)k;
}

static int64_t chunk_bytes(const ferry_search_job *job, int64_t lists, int k, int threads)
{
    return threads * (ferry_searcher_bytes(job, lists) + job->chunk * record_bytes(k));
}

int64_t ferry_search_least(int dim, int k, int64_t lists, int threads)
{
    const ferry_search_job job = {
        .dim = dim, .chunk = CHUNK, .visits = VISITS, .looked = smaller(lists, LOOKED), .nearby = NEARBY};
    return chunk_bytes(&job, lists, k, threads);
}

/* A compact chunk of so many queries. There is room for all its places at once, and for the visits of an ordinary
 * setting; when there are more, they are made for a part of the chunk at a time. probes 0: not known. */
static void set_compact(ferry_search_job *job, int64_t chunk, int k, int64_t probes)
{
    const int64_t each = probes > 0 ? smaller(probes, VISITS_EACH) : VISITS_EACH;
    job->compact = true;
    job->chunk = (int)chunk;
    job->visits = larger(VISITS, larger(each, k / 2 + 1) * chunk);
}

static int64_t even_chunk(int64_t rows, int64_t most, int threads)
{
    const int64_t parts = larger(1, (rows + most * threads - 1) / (most * threads)) * threads;
    return larger(1, (rows + parts - 1) / parts);
}

int64_t ferry_search_most(int dim, int k, int64_t lists, int64_t rows, int threads)
{
    ferry_search_job job = {.dim = dim, .looked = smaller(lists, LOOKED), .nearby = NEARBY};
    set_compact(&job, even_chunk(rows, CHUNK_DISK, threads), k, 0);
    return larger(ferry_search_least(dim, k, lists, threads), chunk_bytes(&job, lists, k, threads));
}

static int64_t probes_of(const ferry_search_options *options)
{
    return options->rule == FERRY_VISIT_PROBES ? options->probes : 0;
}

/* The largest chunk of up to `most` queries that fits, but at least one as in memory. */
static int64_t fitting_chunk(const ferry_search_job *like, const ferry_search_options *options, int64_t most,
                             int threads)
{
    ferry_search_job job = *like;
    int64_t low = smaller(CHUNK, most), high = most;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        set_compact(&job, middle, options->k, probes_of(options));
        if (chunk_bytes(&job, like->reference->lists, options->k, threads) <= options->memory)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* --- who searches what --- */

/* Rows of the reference around a list times its queries, summed: [lists + 1] */
static void costs_before(double *before, const ferry_lists *queries, const ferry_lists *reference)
{
    before[0] = 0;
    for (int64_t c = 0; c < queries->lists; c++) {
        const int64_t from = larger(0, c - AROUND), to = smaller(reference->lists, c + AROUND + 1);
        const int64_t rows = reference->first[to] - reference->first[from];
        before[c + 1] = before[c] + (double)(queries->first[c + 1] - queries->first[c]) * (double)(rows + ALWAYS);
    }
}

/* Chunk with which the share of a rank begins. */
static int64_t share_begins(const double *before, const run *r, int rank)
{
    const ferry_lists *queries = r->job.queries;
    if (rank == r->world->size) return r->total;
    const double wanted = before[queries->lists] * rank / r->world->size;
    int64_t c = 0;
    while (c + 1 < queries->lists && before[c + 1] <= wanted) c++;
    const double inside = before[c + 1] > before[c] ? (wanted - before[c]) / (before[c + 1] - before[c]) : 0;
    const double rows = (double)queries->first[c] + inside * (double)(queries->first[c + 1] - queries->first[c]);
    return smaller(r->total, (int64_t)(rows / r->job.chunk));
}

/* Local. */
static ferry_status share_chunks(run *r)
{
    const ferry_lists *queries = r->job.queries;
    const int size = r->world->size, rank = r->world->rank;
    r->total = (queries->rows + r->job.chunk - 1) / r->job.chunk;
    r->dealt = queries->held && r->job.reference->held;
    if (r->dealt) {
        r->chunks = (r->total - rank + size - 1) / size;
        r->first = (int64_t)rank * r->job.chunk;
        r->step = (int64_t)size * r->job.chunk;
        r->end = queries->rows;
        return FERRY_OK;
    }
    FERRY_AUTO double *before = NULL;
    FERRY_TRY(ferry_alloc(&before, queries->lists + 1));
    costs_before(before, queries, r->job.reference);
    r->first = share_begins(before, r, rank) * r->job.chunk;
    r->end = smaller(queries->rows, share_begins(before, r, rank + 1) * r->job.chunk);
    if (!r->job.reference->held) {
        const int64_t rows = larger(1, r->end - r->first);
        const int64_t most = fitting_chunk(&r->job, r->job.options, smaller(CHUNK_DISK, rows), r->threads);
        set_compact(&r->job, even_chunk(rows, most, r->threads), r->job.options->k, probes_of(r->job.options));
    }
    r->step = r->job.chunk;
    r->chunks = larger(0, r->end - r->first + r->job.chunk - 1) / r->job.chunk;
    return FERRY_OK;
}

/* First row of the i-th chunk of this rank. */
static int64_t chunk_first(const run *r, int64_t i)
{
    return r->first + i * r->step;
}

static int chunk_rows(const run *r, int64_t i)
{
    return (int)smaller(r->job.chunk, r->end - chunk_first(r, i));
}

/* --- open, close --- */

/* Local. */
static ferry_status open_run(run *r, const ferry_search_options *options)
{
    r->threads = (int)larger(1, options->threads);
    FERRY_TRY(share_chunks(r));
    const int64_t chunk = r->job.chunk, fixed = r->threads * ferry_searcher_bytes(&r->job, r->job.reference->lists);
    const int64_t bytes = chunk * record_bytes(options->k);
    r->room = smaller(larger(r->threads, (options->memory - fixed) / bytes), larger(1, r->chunks));
    FERRY_TRY(ferry_alloc(&r->searcher, r->threads));
    for (int t = 0; t < r->threads; t++) FERRY_TRY(ferry_searcher_open(&r->searcher[t], &r->job));
    FERRY_TRY(ferry_alloc(&r->row, r->room * chunk));
    FERRY_TRY(ferry_alloc(&r->cell, r->room * chunk * options->k));
    return ferry_alloc(&r->distance, r->room * chunk * options->k);
}

static void close_run(run *r)
{
    for (int t = 0; r->searcher && t < r->threads; t++) ferry_searcher_close(&r->searcher[t]);
    free(r->searcher);
    free(r->row);
    free(r->cell);
    free(r->distance);
    ferry_search_job_close(&r->job);
}

/* --- a round --- */

static void copy_answers(run *r, ferry_searcher *s, int64_t at)
{
    ferry_answer room[FERRY_CANDIDATE_ROOM];
    const int64_t k = r->job.options->k;
    const bool root = r->job.quantizer->metric == FERRY_EUCLIDEAN;
    for (int q = 0; q < s->count; q++, at++) {
        const ferry_answer *answer = ferry_searcher_answers(s, q, room);
        r->row[at] = s->cell[q];
        for (int64_t i = 0; i < k; i++) {
            const bool there = i < s->answers[q];
            r->cell[at * k + i] = there ? answer[i].cell : UINT32_MAX;
            r->distance[at * k + i] = !there ? INFINITY : (float)(root ? sqrt(answer[i].distance) : answer[i].distance);
        }
    }
}

static ferry_status search_chunk(run *r, ferry_searcher *s, int64_t i, int64_t at)
{
    FERRY_TRY(ferry_searcher_load(s, NULL, chunk_first(r, i), chunk_rows(r, i)));
    FERRY_TRY(ferry_searcher_run(s, r->job.options->rule));
    copy_answers(r, s, at);
    return FERRY_OK;
}

static ferry_status status_now(run *r)
{
    ferry_status status;
#pragma omp atomic read
    status = r->status;
    return status;
}

/* Local. Chunks done ... done + count - 1 of this rank; only the last chunk of all may be short, and it is the last of
 * its rank, so the results lie together. */
static ferry_status search_round(run *r, int64_t count)
{
    int64_t finished = 0;
#pragma omp parallel for num_threads(r->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < count; i++) {
        if (status_now(r) != FERRY_OK) continue;
        const ferry_status status = search_chunk(r, &r->searcher[omp_get_thread_num()], r->done + i, i * r->job.chunk);
        if (status != FERRY_OK) {
#pragma omp atomic write
            r->status = status;
        }
        int64_t now;
#pragma omp atomic capture
        now = ++finished;
        if (omp_get_thread_num() == 0)
            ferry_progress(r->world, "search",
                           smaller(r->job.queries->rows, (r->done + now) * r->job.chunk * r->world->size),
                           r->job.queries->rows, "cells", NULL);
    }
    r->rows = 0;
    for (int64_t i = 0; i < count; i++) r->rows += chunk_rows(r, r->done + i);
    r->done += count;
    return r->status;
}

/* Collective. */
static ferry_status search_all(run *r, ferry_graph *graph)
{
    const int64_t rounds = ferry_max(r->world, (r->chunks + r->room - 1) / r->room);
    for (int64_t i = 0; i < rounds; i++) {
        FERRY_TRY(ferry_agree(r->world, search_round(r, smaller(r->room, r->chunks - r->done))));
        const ferry_graph_rows rows = {.count = r->rows, .row = r->row, .cell = r->cell, .distance = r->distance};
        FERRY_TRY(ferry_graph_put(graph, r->world, &rows));
        ferry_stage_sample();
    }
    return ferry_graph_finish(graph, r->world);
}

/* Collective. */
static void add_counts(ferry_search_counts *counts, const run *r, const ferry_graph *graph)
{
    int64_t sums[6] = {0};
    for (int t = 0; t < r->threads; t++) {
        const ferry_searcher *s = &r->searcher[t];
        sums[0] += s->lists;
        sums[1] += s->pairs;
        sums[2] += s->found.kept;
        sums[3] += s->found.resolved;
        sums[4] += s->places_used;
    }
    ferry_total_counts(r->world, sums, 5);
    *counts = (ferry_search_counts){.queries = graph->rows,
                                    .lists = sums[0],
                                    .pairs = sums[1],
                                    .kept = sums[2],
                                    .resolved = sums[3],
                                    .slots = sums[4]};
}

/* Local. */
static ferry_status check_graph(const ferry_graph *graph, const ferry_lists *queries, const ferry_lists *reference,
                                const ferry_search_options *options)
{
    if (graph->rows == queries->rows && graph->columns == reference->rows && graph->k == options->k) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "a graph of %lld x %lld cells and k %d for a search of %lld x %lld and k %d",
                      (long long)graph->rows, (long long)graph->columns, graph->k, (long long)queries->rows,
                      (long long)reference->rows, options->k);
}

/* Local. */
static ferry_status begin(run *r, const ferry_graph *graph, const ferry_lists *queries, const ferry_lists *reference,
                          const ferry_search_options *options)
{
    FERRY_TRY(check_graph(graph, queries, reference, options));
    FERRY_TRY(ferry_search_job_open(&r->job, queries, reference, options, queries->rows));
    return open_run(r, options);
}

ferry_status ferry_search(ferry_graph *graph, ferry_search_counts *counts, const ferry_world *world,
                          const ferry_lists *queries, const ferry_lists *reference, const ferry_search_options *options)
{
    run r = {.world = world};
    ferry_status status = ferry_agree(world, begin(&r, graph, queries, reference, options));
    if (status == FERRY_OK) status = search_all(&r, graph);
    if (status == FERRY_OK) add_counts(counts, &r, graph);
    close_run(&r);
    return status;
}

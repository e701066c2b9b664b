/* Every rank goes through its share of the reference block by block. Products in float32 leave out what is beyond the
 * k-th distance by more than their error (scan.h: E = (dim + 8) u (3 |q| + tau)^2, taken twice); float64 decides about
 * the rest. The nearest of all shares are joined by (distance, cell). */
#include "truth_codes.h"
#include "io/read.h"
#include "math/random.h"
#include "mpi/exchange.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define BLOCK_BYTES ((int64_t)4 << 20) /* of reference rows at a time */
#define TILE        16                 /* units whose scores are looked at together */

/* --- the sample --- */

static int64_t row_of(int64_t i, int64_t sample, int64_t rows, uint64_t seed)
{
    const int64_t low = (int64_t)((__int128)i * rows / sample), end = (int64_t)((__int128)(i + 1) * rows / sample);
    return low + (int64_t)(ferry_random(seed, (uint64_t)i) * (double)(end - low));
}

/* Local. */
static ferry_status open_sample(ferry_sample *s, int64_t **counts, const ferry_world *world, const ferry_codes_job *job,
                                const ferry_points *queries, int64_t wanted)
{
    const int64_t dim = job->q->dim, k = job->options.k;
    s->count = wanted < queries->cells ? wanted : queries->cells;
    s->available = job->codes->rows - job->options.self;
    if (s->available > k) s->available = k;
    if (s->count < 1) return ferry_fail(FERRY_E_ARG, "no queries to measure the recall on");
    FERRY_TRY(ferry_alloc(&s->row, s->count));
    FERRY_TRY(ferry_alloc(&s->raw, s->count * dim));
    FERRY_TRY(ferry_alloc(&s->prepared, s->count * dim));
    FERRY_TRY(ferry_alloc(&s->norm2, s->count));
    FERRY_TRY(ferry_alloc(&s->truth, s->count * k));
    for (int64_t i = 0; i < s->count; i++) s->row[i] = row_of(i, s->count, queries->cells, job->options.seed);
    FERRY_TRY(ferry_alloc(counts, world->size));
    for (int r = 0; r < world->size; r++) (*counts)[r] = s->count * (r + 1) / world->size - s->count * r / world->size;
    return FERRY_OK;
}

/* Collective. This rank's share of the sample, row by row. */
static ferry_status read_share(float *mine, const ferry_sample *s, const ferry_world *world, int64_t count,
                               const ferry_points *queries)
{
    const int64_t begin = s->count * world->rank / world->size, most = ferry_max(world, count);
    for (int64_t i = 0; i < most; i++) {
        ferry_matrix row = {0};
        const bool there = i < count;
        FERRY_TRY(queries->read(queries->self, &row, world, there ? s->row[begin + i] : 0, there));
        if (there && mine && row.f) memcpy(mine + i * queries->dim, row.f, (size_t)queries->dim * sizeof *mine);
        ferry_matrix_close(&row);
    }
    return FERRY_OK;
}

ferry_status ferry_sample_open(ferry_sample *out, const ferry_world *world, const ferry_codes_job *job,
                               const ferry_points *queries, int64_t wanted)
{
    FERRY_AUTO int64_t *counts = NULL;
    FERRY_AUTO float *mine = NULL;
    *out = (ferry_sample){0};
    ferry_status status = open_sample(out, &counts, world, job, queries, wanted);
    if (status == FERRY_OK) status = ferry_alloc(&mine, counts[world->rank] * job->q->dim);
    FERRY_TRY(ferry_agree(world, status));
    if (!counts) return FERRY_E_MEM; /* cannot be: agreed */
    FERRY_TRY(read_share(mine, out, world, counts[world->rank], queries));
    ferry_gather_all(world, mine, counts, out->raw, (size_t)job->q->dim * sizeof(float));
    return ferry_agree(world, ferry_quantizer_prepare(out->prepared, out->norm2, job->q, out->raw, out->count, 0));
}

void ferry_sample_close(ferry_sample *sample)
{
    free(sample->row);
    free(sample->raw);
    free(sample->prepared);
    free(sample->norm2);
    free(sample->truth);
    *sample = (ferry_sample){0};
}

/* --- the pass --- */

typedef struct near {
    double distance;
    int64_t cell;
} near;

typedef struct pass {
    const ferry_codes_job *job;
    const ferry_sample *sample;
    int64_t panels, block;                   /* rows of a block */
    float *panel;                            /* [panels][24 * dim] */
    near *best;                              /* [count][k] ascending */
    int64_t *kept;                           /* [count] */
    float *prepared, *norm2, *packed, *beta; /* of a block */
    float *scores;                           /* [threads][TILE][24][32] */
    uint64_t fingerprint;
    near *all; /* [size][count][k] */
    int64_t *counts;
} pass;

static void close_pass(pass *p)
{
    void *arrays[] = {p->panel,  p->best, p->kept,   p->prepared, p->norm2,
                      p->packed, p->beta, p->scores, p->all,      p->counts};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

/* Local. */
static ferry_status open_pass(pass *p, const ferry_world *world)
{
    const int64_t dim = p->job->q->dim, count = p->sample->count, k = p->job->options.k;
    p->panels = (count + PANEL - 1) / PANEL;
    p->block = (BLOCK_BYTES / (4 * dim) / UNIT + 1) * UNIT;
    FERRY_TRY(ferry_alloc(&p->panel, p->panels * PANEL * dim));
    FERRY_TRY(ferry_alloc(&p->best, count * k));
    FERRY_TRY(ferry_alloc(&p->kept, count));
    FERRY_TRY(ferry_alloc(&p->prepared, p->block * dim));
    FERRY_TRY(ferry_alloc(&p->norm2, p->block));
    FERRY_TRY(ferry_alloc(&p->packed, p->block * dim));
    FERRY_TRY(ferry_alloc(&p->beta, p->block));
    FERRY_TRY(ferry_alloc(&p->scores, (int64_t)p->job->options.threads * TILE * PANEL * UNIT));
    FERRY_TRY(ferry_alloc(&p->all, world->size * count * k));
    FERRY_TRY(ferry_alloc(&p->counts, world->size));
    for (int r = 0; r < world->size; r++) p->counts[r] = count * k;
    for (int64_t i = 0; i < p->panels; i++)
        p->job->q->kernels->pack_rows(p->panel + i * PANEL * dim, p->sample->prepared + i * PANEL * dim,
                                      count - i * PANEL < PANEL ? count - i * PANEL : PANEL, (int)dim);
    for (int64_t i = 0; i < count * k; i++) p->best[i] = (near){INFINITY, INT64_MAX};
    return FERRY_OK;
}

static bool before(const near *a, const near *b)
{
    return a->distance < b->distance || (a->distance == b->distance && a->cell < b->cell);
}

static void insert(near *best, int64_t k, near one)
{
    int64_t i = k - 1;
    if (!before(&one, &best[i])) return;
    for (; i > 0 && before(&one, &best[i - 1]); i--) best[i] = best[i - 1];
    best[i] = one;
}

/* Least score of a row that may be among the k nearest of query q. */
static float least_score(const pass *p, int64_t q)
{
    const ferry_quantizer *quantizer = p->job->q;
    const double last = p->best[(q + 1) * p->job->options.k - 1].distance;
    if (last == INFINITY) return -INFINITY;
    const double norm2 = (double)p->sample->norm2[q], tau2 = quantizer->metric == FERRY_COSINE ? 2 * last : last;
    const double size = 3 * sqrt(norm2) + sqrt(tau2), error = (quantizer->dim + 8) * 0x1p-24 * size * size;
    const double score = (norm2 - tau2) / 2 - error;
    return (float)(score - 1e-6 * fabs(score));
}

/* One panel of queries with the rows of a block, cells first ... */
static void scan_panel(pass *p, int64_t panel, const float *rows, int64_t count, int64_t first)
{
    static const float zero[PANEL];
    const ferry_quantizer *quantizer = p->job->q;
    const int64_t dim = quantizer->dim, k = p->job->options.k, units = (count + UNIT - 1) / UNIT;
    const int64_t left = p->sample->count - panel * PANEL, queries = left < PANEL ? left : PANEL;
    float *scores = p->scores + (int64_t)omp_get_thread_num() * TILE * PANEL * UNIT;
    for (int64_t u = 0; u < units; u += TILE) {
        const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                                 .dim = (int)dim,
                                 .units = units - u < TILE ? units - u : TILE,
                                 .x = p->panel + panel * PANEL * dim,
                                 .y = p->packed + u * UNIT * dim,
                                 .alpha = zero,
                                 .beta = p->beta + u * UNIT};
        quantizer->kernels->scores(scores, &tile);
        for (int64_t i = 0; i < queries; i++) {
            const int64_t q = panel * PANEL + i, own = p->job->options.self ? p->sample->row[q] : -1;
            float least = least_score(p, q);
            for (int64_t j = 0; j < tile.units * UNIT; j++) {
                if (!(scores[j / UNIT * PANEL * UNIT + i * UNIT + j % UNIT] >= least)) continue;
                const int64_t row = u * UNIT + j;
                if (row >= count || first + row == own) continue;
                insert(p->best + q * k, k,
                       (near){ferry_codes_distance(p->job, p->sample->raw + q * dim, rows + row * dim), first + row});
                least = least_score(p, q);
            }
        }
    }
}

/* Local. */
static ferry_status scan_block(pass *p, const ferry_matrix *block, int64_t first)
{
    const ferry_quantizer *q = p->job->q;
    const int64_t dim = q->dim, units = (block->rows + UNIT - 1) / UNIT;
    FERRY_TRY(ferry_quantizer_prepare(p->prepared, p->norm2, q, block->f, block->rows, first));
    p->fingerprint += ferry_fingerprint(block, first);
    for (int64_t u = 0; u < units; u++) {
        const int64_t n = block->rows - u * UNIT < UNIT ? block->rows - u * UNIT : UNIT;
        q->kernels->pack_columns(p->packed + u * UNIT * dim, p->prepared + u * UNIT * dim, n, (int)dim);
    }
    for (int64_t i = 0; i < units * UNIT; i++) p->beta[i] = i < block->rows ? -0.5F * p->norm2[i] : -INFINITY;
#pragma omp parallel for num_threads(p->job->options.threads) schedule(dynamic, 1)
    for (int64_t panel = 0; panel < p->panels; panel++) scan_panel(p, panel, block->f, block->rows, first);
    return FERRY_OK;
}

/* Collective. */
static ferry_status scan_share(pass *p, const ferry_world *world, const ferry_points *reference)
{
    const int64_t begin = reference->cells * world->rank / world->size;
    const int64_t count = reference->cells * (world->rank + 1) / world->size - begin;
    const int64_t rounds = ferry_max(world, (count + p->block - 1) / p->block);
    for (int64_t n = 0; n < rounds; n++) {
        const int64_t at = n * p->block < count ? n * p->block : count;
        ferry_matrix block = {0};
        FERRY_TRY(
            reference->read(reference->self, &block, world, begin + at, count - at < p->block ? count - at : p->block));
        const ferry_status status = scan_block(p, &block, begin + at);
        ferry_matrix_close(&block);
        FERRY_TRY(ferry_agree(world, status));
        ferry_progress(world, "recall", reference->cells * (n + 1) / rounds, reference->cells, "cells", NULL);
        ferry_stage_sample();
    }
    return FERRY_OK;
}

static int by_cell(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The nearest of all shares. */
static void join_shares(ferry_sample *sample, pass *p, int size)
{
    const int64_t k = p->job->options.k;
    for (int64_t q = 0; q < sample->count; q++) {
        near *best = p->all + q * k; /* of rank 0 */
        for (int64_t i = 0; i < (size - 1) * k; i++)
            insert(best, k, p->all[((i / k + 1) * sample->count + q) * k + i % k]);
        for (int64_t i = 0; i < sample->available; i++) sample->truth[q * k + i] = (uint32_t)best[i].cell;
        qsort(sample->truth + q * k, (size_t)sample->available, sizeof *sample->truth, by_cell);
    }
}

/* Collective. */
static ferry_status find_truth(ferry_sample *sample, pass *p, const ferry_world *world, const ferry_points *reference)
{
    const ferry_index *index = p->job->index;
    FERRY_TRY(ferry_agree(world, open_pass(p, world)));
    FERRY_TRY(scan_share(p, world, reference));
    const uint64_t print = (uint64_t)ferry_total(world, (int64_t)p->fingerprint);
    if (index->fingerprint && print != index->fingerprint)
        return ferry_agree(world, ferry_fail(FERRY_E_FILE,
                                             "%s is not what %s was made of (its numbers are others): make the index "
                                             "again with 'cellferry index', or bring the file back",
                                             reference->name, index->path));
    ferry_gather_all(world, p->best, p->counts, p->all, sizeof *p->all);
    join_shares(sample, p, world->size);
    return FERRY_OK;
}

ferry_status ferry_sample_truth(ferry_sample *sample, const ferry_world *world, const ferry_codes_job *job,
                                const ferry_points *reference)
{
    pass p = {.job = job, .sample = sample};
    const ferry_status status = find_truth(sample, &p, world, reference);
    close_pass(&p);
    return status;
}

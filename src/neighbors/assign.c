/* The list of every row: the largest of sigma = <x, c> - |c|^2 / 2, by products in float32.
 *
 * Exact: a score of a list no further away than the nearest is off by at most E / 2, E = (dim + 8) u (3 |x| + tau)^2
 * with tau the distance of the nearest (scan.h), so a runner-up that is more than E behind is no rival. Rows with
 * rivals are scored again in panels of their own, and all lists within the margin are measured in float64.
 *
 * Not exact: every row looks at the lists of its best few super-cells; rows of a chunk are regrouped by super-cell, so
 * that each looks at its lists as a small product. Lists are packed in units of 32, so that units at the ends hold
 * lists of the next super-cells too: a row looks at these as well, always the same. */
#include "quantizer_impl.h"
#include <math.h>
#include <string.h>

#define TILE        ((int64_t)ROWS * COLUMNS)
#define CHUNK       32                   /* panels that go over one block of centroids together */
#define BLOCK_BYTES ((int64_t)512 << 10) /* of packed centroids: what stays in the second cache */
#define SCORE_UNITS 64                   /* units that rivals are looked for in at once */
#define FLAT_MOST   2048                 /* lists that are all looked at */
#define BEST        4                    /* super-cells that are looked at when there are more */
#define GROUP_ROWS  96                   /* rows of a chunk that look at a super-cell, on average */

static const float zeros[ROWS];

void ferry_nearest_start(ferry_nearest *nearest)
{
    for (int i = 0; i < ROWS; i++) {
        nearest->best[i] = nearest->second[i] = -INFINITY;
        nearest->index[i] = 0;
    }
}

void ferry_nearest_join(ferry_nearest *nearest, const ferry_scans *scans, const ferry_centres *centres, int dim,
                        const float *panel, int64_t first, int64_t units)
{
    float best[ROWS], second[ROWS];
    int32_t index[ROWS];
    const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                             .dim = dim,
                             .units = units,
                             .x = panel,
                             .y = centres->packed + first * COLUMNS * dim,
                             .alpha = zeros,
                             .beta = centres->half + first * COLUMNS};
    scans->nearest(best, index, second, &tile);
    for (int i = 0; i < ROWS; i++) {
        const bool better = best[i] > nearest->best[i];
        const float loser = better ? nearest->best[i] : best[i], behind = better ? second[i] : nearest->second[i];
        nearest->second[i] = loser > behind ? loser : behind;
        nearest->best[i] = better ? best[i] : nearest->best[i];
        nearest->index[i] = better ? index[i] + (int32_t)(first * COLUMNS) : nearest->index[i];
    }
}

/* --- what is asked for, and the room of one thread --- */

typedef struct job {
    const ferry_quantizer *q;
    const float *rows, *norm2; /* [count][dim] prepared */
    int64_t count, chunk;      /* rows in all, of one task */
    bool exact, flat;
    int32_t *list;   /* [count] or NULL */
    float *distance; /* [count] or NULL */
} job;

typedef struct room {
    float *panel;           /* [CHUNK][24 * dim] flat, else [24 * dim] */
    float *gathered;        /* [24][dim] */
    ferry_nearest *nearest; /* [CHUNK] flat */
    float *scores;          /* [units][24][32] */
    float *values;          /* [columns + 16] */
    int32_t *columns;
    int64_t *picked; /* [chunk] rows with rivals */
    int32_t *winner; /* [chunk] */
    float *best;     /* [chunk] score of the winner */
    int32_t *super;  /* [chunk][BEST] super-cells to look at, -1: none */
    int64_t *start;  /* [supers + 2] of them in `member` */
    int64_t *member; /* [chunk * BEST] rows by super-cell */
} room;

static void close_room(room *r)
{
    free(r->panel);
    free(r->gathered);
    free(r->nearest);
    free(r->scores);
    free(r->values);
    free(r->columns);
    free(r->picked);
    free(r->winner);
    free(r->best);
    free(r->super);
    free(r->start);
    free(r->member);
}
static ferry_status open_room(room *r, const job *j)
{
    const int dim = j->q->dim;
    const int64_t supers = j->q->super.units, units = j->flat || supers < SCORE_UNITS ? SCORE_UNITS : supers;
    FERRY_TRY(ferry_alloc(&r->panel, (j->flat ? CHUNK : 1) * (int64_t)ROWS * dim));
    FERRY_TRY(ferry_alloc(&r->gathered, (int64_t)ROWS * dim));
    FERRY_TRY(ferry_alloc(&r->scores, units * TILE));
    FERRY_TRY(ferry_alloc(&r->values, units * COLUMNS + 16));
    FERRY_TRY(ferry_alloc(&r->columns, units * COLUMNS + 16));
    FERRY_TRY(ferry_alloc(&r->winner, j->chunk));
    FERRY_TRY(ferry_alloc(&r->best, j->chunk));
    if (j->flat) {
        FERRY_TRY(ferry_alloc(&r->nearest, CHUNK));
        return ferry_alloc(&r->picked, j->chunk);
    }
    FERRY_TRY(ferry_alloc(&r->super, j->chunk * BEST));
    FERRY_TRY(ferry_alloc(&r->start, j->q->super.count + 2));
    return ferry_alloc(&r->member, j->chunk * BEST);
}

/* Rows `member` of the job as one panel. */
static void gather(room *r, const job *j, const int64_t *member, int64_t count)
{
    const int dim = j->q->dim;
    for (int64_t i = 0; i < count; i++)
        memcpy(r->gathered + i * dim, j->rows + member[i] * dim, (size_t)dim * sizeof *r->gathered);
    j->q->kernels->pack_rows(r->panel, r->gathered, count, dim);
}

/* --- all lists --- */

/* E of a row, rounded up. */
static float margin_of(const job *j, int64_t row, float best)
{
    const double norm2 = (double)j->norm2[row], d2 = norm2 - 2 * (double)best;
    const double reach = 3 * sqrt(norm2) * (1 + 1e-6), unit = (j->q->dim + 8) * 0x1p-24;
    double tau = sqrt(d2 > 0 ? d2 : 0);
    tau = sqrt((d2 > 0 ? d2 : 0) + unit * (reach + tau) * (reach + tau)); /* the float32 distance may be too small */
    return (float)(unit * (reach + tau) * (reach + tau) * (1 + 1e-6));
}

/* The nearest of all lists that score at least `cut`, in float64; looked for among units first ... */
static void measure_rivals(room *r, const job *j, int i, int64_t row, int64_t first, int64_t units, float cut,
                           double *least, int32_t *winner)
{
    const ferry_quantizer *q = j->q;
    const int64_t found = q->kernels->row_above(r->values, r->columns, r->scores, i, units, cut);
    for (int64_t f = 0; f < found; f++) {
        const int64_t list = first * COLUMNS + r->columns[f];
        if (list >= q->list.count) break;
        const double d2 = q->scans->distance2(j->rows + row * q->dim, q->list.centre + list * q->dim, q->dim);
        if (d2 < *least) {
            *least = d2;
            *winner = (int32_t)list;
        }
    }
}

/* Up to 24 rows with rivals. from: first row of the chunk */
static void settle_rivals(room *r, const job *j, const int64_t *picked, int count, int64_t from)
{
    const ferry_quantizer *q = j->q;
    double least[ROWS];
    float cut[ROWS];
    gather(r, j, picked, count);
    for (int i = 0; i < count; i++) {
        const float best = r->best[picked[i] - from];
        least[i] = INFINITY;
        cut[i] = nextafterf(best - margin_of(j, picked[i], best), -INFINITY);
    }
    for (int64_t first = 0; first < q->list.units; first += SCORE_UNITS) {
        const int64_t left = q->list.units - first, units = left < SCORE_UNITS ? left : SCORE_UNITS;
        const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                                 .dim = q->dim,
                                 .units = units,
                                 .x = r->panel,
                                 .y = q->list.packed + first * COLUMNS * q->dim,
                                 .alpha = zeros,
                                 .beta = q->list.half + first * COLUMNS};
        q->kernels->scores(r->scores, &tile);
        for (int i = 0; i < count; i++)
            measure_rivals(r, j, i, picked[i], first, units, cut[i], &least[i], &r->winner[picked[i] - from]);
    }
}

/* Rows from ... to - 1 against all lists. */
static void assign_flat(room *r, const job *j, int64_t from, int64_t to)
{
    const ferry_quantizer *q = j->q;
    const int dim = q->dim;
    const int64_t panels = (to - from + ROWS - 1) / ROWS;
    int64_t block = BLOCK_BYTES / ((int64_t)COLUMNS * dim * (int64_t)sizeof(float)), rivals = 0;
    block = block < 1 ? 1 : block;
    for (int64_t p = 0; p < panels; p++) {
        const int64_t row = from + p * ROWS, left = to - row;
        q->kernels->pack_rows(r->panel + p * ROWS * dim, j->rows + row * dim, left < ROWS ? left : ROWS, dim);
        ferry_nearest_start(&r->nearest[p]);
    }
    for (int64_t u = 0; u < q->list.units; u += block) {
        const int64_t left = q->list.units - u, units = left < block ? left : block;
        for (int64_t p = 0; p < panels; p++)
            ferry_nearest_join(&r->nearest[p], q->scans, &q->list, dim, r->panel + p * ROWS * dim, u, units);
    }
    for (int64_t row = from; row < to; row++) {
        const ferry_nearest *n = &r->nearest[(row - from) / ROWS];
        const int i = (int)((row - from) % ROWS);
        r->winner[row - from] = n->index[i];
        r->best[row - from] = n->best[i];
        if (j->exact && !(n->best[i] - n->second[i] > margin_of(j, row, n->best[i]))) r->picked[rivals++] = row;
    }
    for (int64_t p = 0; p < rivals; p += ROWS)
        settle_rivals(r, j, r->picked + p, rivals - p < ROWS ? (int)(rivals - p) : ROWS, from);
}

/* --- the lists of the best super-cells --- */

/* The best super-cells of up to 24 rows. */
static void choose_supers(room *r, const job *j, int64_t row, int64_t count, int32_t *super)
{
    const ferry_quantizer *q = j->q;
    const int64_t wanted = q->super.count < BEST ? q->super.count : BEST;
    const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                             .dim = q->dim,
                             .units = q->super.units,
                             .x = r->panel,
                             .y = q->super.packed,
                             .alpha = zeros,
                             .beta = q->super.half};
    q->kernels->pack_rows(r->panel, j->rows + row * q->dim, count, q->dim);
    q->kernels->scores(r->scores, &tile);
    for (int i = 0; i < count; i++) {
        const float cut = q->scans->row_kth(r->scores, i, q->super.units, wanted);
        const int64_t found = q->kernels->row_above(r->values, r->columns, r->scores, i, q->super.units, cut);
        for (int64_t f = 0; f < BEST; f++) super[i * BEST + f] = f < found ? r->columns[f] : -1;
    }
}

/* Rows of the chunk by super-cell. */
static void group_rows(room *r, const job *j, int64_t from, int64_t to)
{
    const int64_t supers = j->q->super.count;
    memset(r->start, 0, (size_t)(supers + 2) * sizeof *r->start);
    for (int64_t e = 0; e < (to - from) * BEST; e++)
        if (r->super[e] >= 0) r->start[r->super[e] + 2]++;
    for (int64_t s = 2; s < supers + 2; s++) r->start[s] += r->start[s - 1];
    for (int64_t e = 0; e < (to - from) * BEST; e++)
        if (r->super[e] >= 0) r->member[r->start[r->super[e] + 1]++] = from + e / BEST;
}

/* Rows `member` against the lists of super-cell s. */
static void look_at(room *r, const job *j, int64_t s, const int64_t *member, int64_t count, int64_t from)
{
    const ferry_quantizer *q = j->q;
    const int64_t first = q->child[s] / COLUMNS, end = (q->child[s + 1] + COLUMNS - 1) / COLUMNS;
    ferry_nearest nearest;
    if (q->child[s] == q->child[s + 1]) return;
    gather(r, j, member, count);
    ferry_nearest_start(&nearest);
    ferry_nearest_join(&nearest, q->scans, &q->list, q->dim, r->panel, first, end - first);
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = member[i] - from;
        const bool better =
            nearest.best[i] > r->best[at] || (nearest.best[i] == r->best[at] && nearest.index[i] < r->winner[at]);
        if (!better) continue;
        r->best[at] = nearest.best[i];
        r->winner[at] = nearest.index[i];
    }
}

static void assign_grouped(room *r, const job *j, int64_t from, int64_t to)
{
    for (int64_t row = from; row < to; row += ROWS)
        choose_supers(r, j, row, to - row < ROWS ? to - row : ROWS, r->super + (row - from) * BEST);
    group_rows(r, j, from, to);
    for (int64_t i = 0; i < to - from; i++) {
        r->best[i] = -INFINITY;
        r->winner[i] = 0;
    }
    for (int64_t s = 0; s < j->q->super.count; s++) /* after the grouping start[s] is where s begins */
        for (int64_t m = r->start[s]; m < r->start[s + 1]; m += ROWS)
            look_at(r, j, s, r->member + m, r->start[s + 1] - m < ROWS ? r->start[s + 1] - m : ROWS, from);
}

/* --- all rows --- */

static void assign_chunk(room *r, const job *j, int64_t chunk)
{
    const ferry_quantizer *q = j->q;
    const int64_t from = chunk * j->chunk, to = from + j->chunk < j->count ? from + j->chunk : j->count;
    if (j->flat)
        assign_flat(r, j, from, to);
    else
        assign_grouped(r, j, from, to);
    if (j->list) memcpy(j->list + from, r->winner, (size_t)(to - from) * sizeof *r->winner);
    for (int64_t row = from; j->distance && row < to; row++)
        j->distance[row] = (float)sqrt(q->scans->distance2(
            j->rows + row * q->dim, q->list.centre + (int64_t)r->winner[row - from] * q->dim, q->dim));
}

/* Rows of one task: as many as make full panels, but every thread has one. */
static int64_t chunk_of(const job *j, int threads)
{
    const int64_t wanted = j->flat ? CHUNK * ROWS : GROUP_ROWS / BEST * j->q->super.count;
    const int64_t share = (j->count + threads - 1) / threads, chunk = wanted < share ? wanted : share;
    return chunk < ROWS ? ROWS : (chunk + ROWS - 1) / ROWS * ROWS;
}

ferry_status ferry_quantizer_assign(int32_t *list, float *distance, const ferry_quantizer *quantizer,
                                    const float *prepared, const float *norm2, int64_t count, bool exact, int threads)
{
    job j = {.q = quantizer,
             .rows = prepared,
             .norm2 = norm2,
             .count = count,
             .exact = exact,
             .flat = exact || quantizer->list.count <= FLAT_MOST,
             .list = list,
             .distance = distance};
    threads = threads < 1 ? 1 : threads;
    j.chunk = chunk_of(&j, threads);
    const int64_t chunks = (count + j.chunk - 1) / j.chunk;
    if (threads > chunks) threads = chunks < 1 ? 1 : (int)chunks;
    (void)threads; /* where OpenMP is off */
    ferry_status status = FERRY_OK;
#pragma omp parallel num_threads(threads)
    {
        room r = {0};
        const ferry_status mine = open_room(&r, &j);
        if (mine != FERRY_OK) {
#pragma omp critical(ferry_assign)
            status = mine;
        }
#pragma omp barrier
        if (status == FERRY_OK) {
#pragma omp for schedule(dynamic)
            for (int64_t c = 0; c < chunks; c++) assign_chunk(&r, &j, c);
        }
        close_room(&r);
    }
    return status;
}

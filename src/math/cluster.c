/* k-means by the kernels' products: |x - c|^2 = |x|^2 - 2 (<x, c> - |c|^2 / 2).
 *
 * Seeding (Arthur, Vassilvitskii 2007, greedy): the next centre is drawn with probability proportional to D^2, the
 * squared distance to the nearest centre so far, and of several drawn the one that lowers sum D^2 most is taken. Drawn
 * by the panel (24 at once: two choices of 12, the second with the distances that the first has left), so that
 * distances are one product of matrices. It does not miss an isolated group, which matters here more than fine centres.
 */
#include "math/cluster.h"
#include "math/random.h"
#include "mpi/memory.h"
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    ((int64_t)ROWS * COLUMNS)
#define SEEDS   2000 /* rows that seeding looks at */
#define CHOICE  12   /* candidates for one centre */

static float squared_norm(const float *row, int dim)
{
    float sum = 0;
    for (int k = 0; k < dim; k++) sum += row[k] * row[k];
    return sum;
}

ferry_status ferry_clusters_of(ferry_clusters *out, const float *centres, int count, int dim,
                               const ferry_kernels *kernels)
{
    *out = (ferry_clusters){.count = count, .dim = dim, .units = (count + COLUMNS - 1) / COLUMNS, .kernels = kernels};
    FERRY_TRY(ferry_alloc(&out->centres, (int64_t)count * dim));
    FERRY_TRY(ferry_alloc(&out->packed, out->units * COLUMNS * dim));
    FERRY_TRY(ferry_alloc(&out->half, out->units * COLUMNS));
    FERRY_TRY(ferry_alloc(&out->norm, count));
    memcpy(out->centres, centres, (size_t)count * (size_t)dim * sizeof *centres);
    for (int64_t u = 0; u < out->units; u++) {
        const int64_t left = count - u * COLUMNS, present = left < COLUMNS ? left : COLUMNS;
        kernels->pack_columns(out->packed + u * COLUMNS * dim, centres + u * COLUMNS * dim, present, dim);
    }
    for (int64_t c = 0; c < out->units * COLUMNS; c++) {
        if (c < count) out->norm[c] = squared_norm(centres + c * dim, dim);
        out->half[c] = c < count ? -out->norm[c] / 2 : -INFINITY;
    }
    return FERRY_OK;
}

void ferry_clusters_close(ferry_clusters *clusters)
{
    free(clusters->centres);
    free(clusters->packed);
    free(clusters->half);
    free(clusters->norm);
    memset(clusters, 0, sizeof *clusters);
}

void ferry_clusters_nearest(int32_t *label, const ferry_clusters *clusters, const float *panel, float *room)
{
    const float alpha[ROWS] = {0};
    float top[ROWS];
    const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                             .dim = clusters->dim,
                             .units = clusters->units,
                             .x = panel,
                             .y = clusters->packed,
                             .alpha = alpha,
                             .beta = clusters->half};
    clusters->kernels->scores(room, &tile);
    clusters->kernels->row_max(top, room, clusters->units);
    for (int i = 0; i < ROWS; i++) {
        int c = 0;
        while (c + 1 < clusters->count && room[c / COLUMNS * TILE + i * COLUMNS + c % COLUMNS] < top[i]) c++;
        label[i] = c;
    }
}

ferry_status ferry_clusters_assign(int32_t *label, const ferry_clusters *clusters, const float *rows, int64_t count)
{
    const int dim = clusters->dim;
    int32_t nearest[ROWS];
    FERRY_AUTO float *panel = NULL;
    FERRY_AUTO float *room = NULL;
    FERRY_TRY(ferry_alloc(&panel, (int64_t)ROWS * dim));
    FERRY_TRY(ferry_alloc(&room, clusters->units * TILE));
    for (int64_t first = 0; first < count; first += ROWS) {
        const int64_t present = count - first < ROWS ? count - first : ROWS;
        clusters->kernels->pack_rows(panel, rows + first * dim, present, dim);
        ferry_clusters_nearest(nearest, clusters, panel, room);
        memcpy(label + first, nearest, (size_t)present * sizeof *label);
    }
    return FERRY_OK;
}

/* --- seeding --- */

ferry_status ferry_seeding_open(ferry_seeding *out, int64_t most, int dim, const ferry_kernels *kernels)
{
    const int64_t units = (most + COLUMNS - 1) / COLUMNS;
    *out = (ferry_seeding){.most = most, .dim = dim, .kernels = kernels};
    FERRY_TRY(ferry_alloc(&out->packed, units * COLUMNS * dim));
    FERRY_TRY(ferry_alloc(&out->half, units * COLUMNS));
    FERRY_TRY(ferry_alloc(&out->near, units * COLUMNS));
    FERRY_TRY(ferry_alloc(&out->scores, units * TILE));
    FERRY_TRY(ferry_alloc(&out->panel, (int64_t)ROWS * 2 * dim));
    return ferry_alloc(&out->sums, most);
}

void ferry_seeding_close(ferry_seeding *seeding)
{
    free(seeding->packed);
    free(seeding->half);
    free(seeding->near);
    free(seeding->scores);
    free(seeding->panel);
    free(seeding->sums);
    memset(seeding, 0, sizeof *seeding);
}

int64_t ferry_seeding_bytes(int64_t most, int dim)
{
    const int64_t columns = (most + COLUMNS - 1) / COLUMNS * COLUMNS;
    return columns * (dim + 2 + ROWS + 2) * (int64_t)sizeof(float) + (int64_t)ROWS * 2 * dim * (int64_t)sizeof(float);
}

/* The rows as columns; none is a centre yet. */
static void start(ferry_seeding *s, const float *rows, int64_t count)
{
    const int dim = s->dim;
    s->rows = rows;
    s->count = count;
    s->units = (count + COLUMNS - 1) / COLUMNS;
    for (int64_t u = 0; u < s->units; u++) {
        const int64_t left = count - u * COLUMNS, present = left < COLUMNS ? left : COLUMNS;
        s->kernels->pack_columns(s->packed + u * COLUMNS * dim, rows + u * COLUMNS * dim, present, dim);
    }
    for (int64_t i = 0; i < s->units * COLUMNS; i++) {
        s->half[i] = i < count ? -squared_norm(rows + i * dim, dim) / 2 : -INFINITY;
        s->near[i] = i < count ? INFINITY : 0;
    }
}

/* Squared distances of rows `pick` [24] to all rows into s->scores. Twins differ by rounding alone: that is 0. */
static void measure(ferry_seeding *s, const int64_t *pick)
{
    float alpha[ROWS], *rows = s->panel + (int64_t)ROWS * s->dim;
    for (int i = 0; i < ROWS; i++) {
        memcpy(rows + (int64_t)i * s->dim, s->rows + pick[i] * s->dim, (size_t)s->dim * sizeof *rows);
        alpha[i] = s->half[pick[i]];
    }
    s->kernels->pack_rows(s->panel, rows, ROWS, s->dim);
    const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                             .dim = s->dim,
                             .units = s->units,
                             .x = s->panel,
                             .y = s->packed,
                             .alpha = alpha,
                             .beta = s->half};
    s->kernels->scores(s->scores, &tile);
    for (int64_t u = 0; u < s->units; u++)
        for (int i = 0; i < ROWS; i++) {
            float *score = s->scores + u * TILE + i * COLUMNS;
            const float *half = s->half + u * COLUMNS;
            for (int j = 0; j < COLUMNS; j++)
                score[j] = -2 * score[j] > -4e-6f * half[j] && half[j] > -INFINITY ? -2 * score[j] : 0;
        }
}

/* sum D^2 if candidate i became a centre: 32 lanes, then those */
static double sum_with(const ferry_seeding *s, int i)
{
    float lane[COLUMNS] = {0};
    double total = 0;
    for (int64_t u = 0; u < s->units; u++) {
        const float *distance = s->scores + u * TILE + i * COLUMNS, *near = s->near + u * COLUMNS;
        for (int j = 0; j < COLUMNS; j++) lane[j] += distance[j] < near[j] ? distance[j] : near[j];
    }
    for (int j = 0; j < COLUMNS; j++) total += (double)lane[j];
    return total;
}
static void accept(ferry_seeding *s, int i)
{
    for (int64_t u = 0; u < s->units; u++) {
        const float *distance = s->scores + u * TILE + i * COLUMNS;
        float *near = s->near + u * COLUMNS;
        for (int j = 0; j < COLUMNS; j++) near[j] = distance[j] < near[j] ? distance[j] : near[j];
    }
}

/* 24 rows with probability proportional to D^2; false when every row is a centre. */
static bool draw(int64_t *pick, ferry_seeding *s, uint64_t seed, uint64_t *counter)
{
    double total = 0;
    for (int64_t i = 0; i < s->count; i++) s->sums[i] = total += (double)s->near[i];
    if (!(total > 0)) return false;
    for (int c = 0; c < ROWS; c++) {
        const double at = ferry_random(seed, (*counter)++) * total;
        int64_t low = 0, high = s->count - 1;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (s->sums[middle] > at)
                high = middle;
            else
                low = middle + 1;
        }
        pick[c] = low;
    }
    return true;
}

int ferry_seeding_find(float *centres, ferry_seeding *s, const float *rows, int64_t count, int most, uint64_t seed)
{
    uint64_t counter = 0;
    int64_t pick[ROWS];
    int found = 0;
    start(s, rows, count);
    for (int i = 0; i < ROWS; i++) pick[i] = (int64_t)(ferry_random(seed, counter) * (double)s->count);
    counter++;
    measure(s, pick);
    accept(s, 0);
    memcpy(centres, s->rows + pick[0] * s->dim, (size_t)s->dim * sizeof *centres);
    for (found = 1; found < most && draw(pick, s, seed, &counter);) {
        measure(s, pick);
        for (int from = 0; from < ROWS && found < most; from += CHOICE) {
            int best = from;
            double least = INFINITY;
            for (int i = from; i < from + CHOICE; i++) {
                const double sum = sum_with(s, i);
                if (sum < least) {
                    least = sum;
                    best = i;
                }
            }
            if (!(s->near[pick[best]] > 0)) continue; /* a centre already */
            accept(s, best);
            s->near[pick[best]] = 0; /* exactly, whatever rounding made of it */
            memcpy(centres + (int64_t)found++ * s->dim, s->rows + pick[best] * s->dim,
                   (size_t)s->dim * sizeof *centres);
        }
    }
    return found;
}

/* --- k-means --- */

/* Centres become the means of their rows; those without rows stay. sums [count][dim], counts [count]: scratch */
static void move_centres(float *centres, const float *rows, const int32_t *label, int64_t count, int dim, int clusters,
                         double *sums, int64_t *counts)
{
    memset(sums, 0, (size_t)clusters * (size_t)dim * sizeof *sums);
    memset(counts, 0, (size_t)clusters * sizeof *counts);
    for (int64_t i = 0; i < count; i++) {
        double *sum = sums + (int64_t)label[i] * dim;
        for (int k = 0; k < dim; k++) sum[k] += (double)rows[i * dim + k];
        counts[label[i]]++;
    }
    for (int c = 0; c < clusters; c++)
        for (int k = 0; k < dim && counts[c]; k++)
            centres[(int64_t)c * dim + k] = (float)(sums[(int64_t)c * dim + k] / (double)counts[c]);
}

static float distance(const float *a, const float *b, int dim)
{
    float sum = 0;
    for (int k = 0; k < dim; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
    return sum;
}
/* Each centre is followed by the nearest of those left. */
static void chain(float *centres, int count, int dim)
{
    for (int at = 1; at < count; at++) {
        float *here = centres + (int64_t)at * dim, *best = here, least = INFINITY;
        for (int c = at; c < count; c++) {
            const float d = distance(here - dim, centres + (int64_t)c * dim, dim);
            if (d < least) {
                least = d;
                best = centres + (int64_t)c * dim;
            }
        }
        for (int k = 0; k < dim; k++) {
            const float swap = here[k];
            here[k] = best[k];
            best[k] = swap;
        }
    }
}

static ferry_status lloyd(float *centres, const float *rows, int64_t count, int dim, int clusters, int steps,
                          const ferry_kernels *kernels)
{
    FERRY_AUTO int32_t *label = NULL;
    FERRY_AUTO double *sums = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    FERRY_TRY(ferry_alloc(&label, count));
    FERRY_TRY(ferry_alloc(&sums, (int64_t)clusters * dim));
    FERRY_TRY(ferry_alloc(&counts, clusters));
    for (int step = 0; step < steps; step++) {
        ferry_clusters now = {0};
        ferry_status status = ferry_clusters_of(&now, centres, clusters, dim, kernels);
        if (status == FERRY_OK) status = ferry_clusters_assign(label, &now, rows, count);
        ferry_clusters_close(&now);
        FERRY_TRY(status);
        move_centres(centres, rows, label, count, dim, clusters, sums, counts);
    }
    return FERRY_OK;
}

ferry_status ferry_clusters_find(ferry_clusters *out, const float *rows, int64_t count, int dim, int most, int steps,
                                 uint64_t seed, const ferry_kernels *kernels)
{
    memset(out, 0, sizeof *out);
    if (count < 1 || most < 1) return ferry_fail(FERRY_E_ARG, "no %d clusters of %lld rows", most, (long long)count);
    FERRY_AUTO float *centres = NULL;
    FERRY_TRY(ferry_alloc(&centres, (int64_t)most * dim));
    const int64_t seeds = count < SEEDS ? count : SEEDS; /* spread over the sample, whatever its order */
    FERRY_AUTO float *few = NULL;
    FERRY_TRY(ferry_alloc(&few, seeds * dim));
    for (int64_t i = 0; i < seeds; i++)
        memcpy(few + i * dim, rows + i * count / seeds * dim, (size_t)dim * sizeof *few);
    ferry_seeding s;
    ferry_status status = ferry_seeding_open(&s, seeds, dim, kernels);
    const int found = status == FERRY_OK ? ferry_seeding_find(centres, &s, few, seeds, most, seed) : 0;
    ferry_seeding_close(&s);
    FERRY_TRY(status);
    FERRY_TRY(lloyd(centres, rows, count, dim, found, steps, kernels));
    chain(centres, found, dim);
    return ferry_clusters_of(out, centres, found, dim, kernels);
}

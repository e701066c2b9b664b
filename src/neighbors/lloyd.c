/* k-means by Lloyd's steps on rows that are packed once: labels by the kernels' nearest, means in float64 in the order
 * of the rows. Ends early when no label changes. */
#include "quantizer_impl.h"
#include <math.h>
#include <string.h>

#define SEEDS_LEAST 256 /* rows that seeding looks at: so many, or */
#define SEEDS_EACH  8   /* for each centre */

static int64_t seeds_of(int64_t rows, int most)
{
    const int64_t wanted = (int64_t)most * SEEDS_EACH > SEEDS_LEAST ? (int64_t)most * SEEDS_EACH : SEEDS_LEAST;
    return rows < wanted ? rows : wanted;
}
static int64_t columns_of(int64_t count)
{
    return (count + COLUMNS - 1) / COLUMNS * COLUMNS;
}

static ferry_status open_centres(ferry_lloyd *l)
{
    float *packed = NULL, *half = NULL, *norm = NULL;
    const int64_t columns = columns_of(l->most);
    FERRY_TRY(ferry_alloc(&l->centre, (int64_t)l->most * l->dim));
    l->now.centre = l->centre;
    FERRY_TRY(ferry_alloc(&packed, columns * l->dim));
    l->now.packed = packed;
    FERRY_TRY(ferry_alloc(&half, columns));
    l->now.half = half;
    FERRY_TRY(ferry_alloc(&norm, columns));
    l->now.norm = norm;
    return FERRY_OK;
}

ferry_status ferry_lloyd_open(ferry_lloyd *out, int64_t rows, int most, int dim, const ferry_kernels *kernels,
                              int threads)
{
    *out = (ferry_lloyd){.dim = dim,
                         .threads = threads,
                         .rows = rows,
                         .panels = (rows + ROWS - 1) / ROWS,
                         .most = most,
                         .kernels = kernels,
                         .scans = ferry_scans_of(kernels)};
    const int64_t seeds = seeds_of(rows, most);
    FERRY_TRY(ferry_alloc(&out->row, rows * dim));
    FERRY_TRY(ferry_alloc(&out->panel, out->panels * ROWS * dim));
    FERRY_TRY(ferry_alloc(&out->label, out->panels * ROWS));
    FERRY_TRY(ferry_alloc(&out->few, seeds * dim));
    FERRY_TRY(ferry_seeding_open(&out->seeding, seeds, dim, kernels));
    FERRY_TRY(open_centres(out));
    FERRY_TRY(ferry_alloc(&out->sums, (int64_t)most * dim));
    FERRY_TRY(ferry_alloc(&out->counts, most));
    FERRY_TRY(ferry_alloc(&out->order, most));
    return ferry_alloc(&out->keys, 2 * (int64_t)most + 3 * (int64_t)dim);
}

void ferry_lloyd_close(ferry_lloyd *lloyd)
{
    free(lloyd->row);
    free(lloyd->panel);
    free(lloyd->label);
    free(lloyd->few);
    ferry_seeding_close(&lloyd->seeding);
    free(lloyd->centre);
    free((void *)(uintptr_t)lloyd->now.packed);
    free((void *)(uintptr_t)lloyd->now.half);
    free((void *)(uintptr_t)lloyd->now.norm);
    free(lloyd->sums);
    free(lloyd->counts);
    free(lloyd->order);
    free(lloyd->keys);
    memset(lloyd, 0, sizeof *lloyd);
}

int64_t ferry_lloyd_bytes(int64_t rows, int most, int dim)
{
    const int64_t seeds = seeds_of(rows, most), columns = columns_of(most), word = (int64_t)sizeof(float);
    return (rows + ROWS) * (2 * dim + 1) * word + seeds * dim * word + ferry_seeding_bytes(seeds, dim) +
           columns * (2 * dim + 2) * word + columns * dim * 8 + columns * 28 + 24 * (int64_t)dim;
}

/* The rows side by side, in panels, and the few that seeding looks at, spread over all. */
static void pack(ferry_lloyd *l, const float *rows, const int64_t *index, int64_t count, int64_t seeds)
{
    const int dim = l->dim;
    const size_t bytes = (size_t)dim * sizeof *rows;
    for (int64_t i = 0; i < count; i++) {
        memcpy(l->row + i * dim, rows + (index ? index[i] : i) * dim, bytes);
        l->label[i] = -1;
    }
    for (int64_t p = 0; p < count; p += ROWS)
        l->kernels->pack_rows(l->panel + p * dim, l->row + p * dim, count - p < ROWS ? count - p : ROWS, dim);
    for (int64_t i = 0; i < seeds; i++) memcpy(l->few + i * dim, l->row + i * count / seeds * dim, bytes);
}

/* Labels of all rows; returns how many changed. */
static int64_t label_rows(ferry_lloyd *l, int64_t count, int centres)
{
    int64_t changed = 0;
    l->now.count = centres;
    l->now.units = (centres + COLUMNS - 1) / COLUMNS;
    ferry_centres_pack(&l->now, l->dim, l->kernels);
#pragma omp parallel for num_threads(l->threads) if (l->threads > 1) reduction(+ : changed) schedule(static)
    for (int64_t p = 0; p < (count + ROWS - 1) / ROWS; p++) {
        ferry_nearest nearest;
        ferry_nearest_start(&nearest);
        ferry_nearest_join(&nearest, l->scans, &l->now, l->dim, l->panel + p * ROWS * l->dim, 0, l->now.units);
        for (int64_t i = 0; i < ROWS && p * ROWS + i < count; i++) {
            changed += l->label[p * ROWS + i] != nearest.index[i];
            l->label[p * ROWS + i] = nearest.index[i];
        }
    }
    return changed;
}

static void count_rows(ferry_lloyd *l, int64_t count, int centres)
{
    memset(l->counts, 0, (size_t)centres * sizeof *l->counts);
    for (int64_t i = 0; i < count; i++) l->counts[l->label[i]]++;
}

/* Centres become the means of their rows; those without rows stay. */
static void move_centres(ferry_lloyd *l, int64_t count, int centres)
{
    const int dim = l->dim;
    memset(l->sums, 0, (size_t)centres * (size_t)dim * sizeof *l->sums);
    for (int64_t i = 0; i < count; i++) {
        double *sum = l->sums + (int64_t)l->label[i] * dim;
        const float *row = l->row + i * dim;
        for (int k = 0; k < dim; k++) sum[k] += (double)row[k];
    }
    count_rows(l, count, centres);
    for (int64_t c = 0; c < centres; c++)
        for (int k = 0; k < dim && l->counts[c]; k++)
            l->centre[c * dim + k] = (float)(l->sums[c * dim + k] / (double)l->counts[c]);
}

/* Centres with rows move to the front; returns how many. */
static int drop_empty(ferry_lloyd *l, int centres)
{
    int kept = 0;
    for (int c = 0; c < centres; c++) {
        if (!l->counts[c]) continue;
        memmove(l->centre + (int64_t)kept * l->dim, l->centre + (int64_t)c * l->dim,
                (size_t)l->dim * sizeof *l->centre);
        l->counts[kept++] = l->counts[c];
    }
    return kept;
}

int ferry_lloyd_find(float *found, double *distortion, ferry_lloyd *l, const float *rows, const int64_t *index,
                     int64_t count, int most, int steps, uint64_t seed)
{
    const int64_t seeds = seeds_of(count, most);
    const size_t bytes = (size_t)l->dim * sizeof *found;
    pack(l, rows, index, count, seeds);
    int centres = ferry_seeding_find(l->centre, &l->seeding, l->few, seeds, most, seed);
    for (int step = 0; label_rows(l, count, centres) && step < steps; step++) move_centres(l, count, centres);
    count_rows(l, count, centres);
    *distortion = 0;
    for (int64_t i = 0; i < count; i++)
        *distortion += l->scans->distance2(l->row + i * l->dim, l->centre + (int64_t)l->label[i] * l->dim, l->dim);
    centres = drop_empty(l, centres);
    ferry_bisect(l->order, l->centre, l->counts, centres, l->dim, l->keys);
    for (int c = 0; c < centres; c++)
        memcpy(found + (int64_t)c * l->dim, l->centre + (int64_t)l->order[c] * l->dim, bytes);
    return centres;
}

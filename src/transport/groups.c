/* Groups of near cells by k-means on a sample of both sides, and a label for every cell.
 *
 * The sample is stratified: one cell at a random place of each of equally long stretches, so it depends on the numbers
 * of cells and the seed alone. Rank 0 finds the centres; all assign their cells; labels of all cells are known to all
 * ranks, hence so is the new order (groups_order.c). */
#include "groups_impl.h"
#include "math/random.h"
#include "mpi/exchange.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    ((int64_t)ROWS * COLUMNS)
#define SAMPLE  20 /* cells of the sample per group */
#define STEPS   1  /* of Lloyd */

void ferry_source_row(double *out, const ferry_cost *cost, int64_t i)
{
    const ferry_source *source = &cost->source;
    const int dim = cost->dim, width = cost->options.kernels->x_width;
    if (source->d) {
        memcpy(out, source->d + i * dim, (size_t)dim * sizeof *out);
        return;
    }
    const float *panel = source->f + i / ROWS * ROWS * dim + i % ROWS / width * width * dim + i % ROWS % width;
    for (int k = 0; k < dim; k++) out[k] = (double)panel[(int64_t)k * width];
}
void ferry_target_row(double *out, const ferry_cost *cost, int64_t j)
{
    const int64_t at = j / COLUMNS * COLUMNS * cost->dim + j % COLUMNS;
    for (int k = 0; k < cost->dim; k++)
        out[k] = cost->y_d ? cost->y_d[at + (int64_t)k * COLUMNS] : (double)cost->y[at + (int64_t)k * COLUMNS];
}

/* --- the sample and the centres --- */

/* The cell of stretch i of `count` of a side of n cells. */
static int64_t drawn(int64_t i, int64_t count, int64_t n, uint64_t seed)
{
    if (count >= n) return i;
    const int64_t first = i * n / count, end = (i + 1) * n / count;
    return first + (int64_t)(ferry_random(seed, (uint64_t)i) * (double)(end - first));
}

typedef void (*row_of)(double *out, const ferry_cost *cost, int64_t i);

/* Local. out [found][dim]: the drawn cells of a side among rows first ... first + rows - 1. */
static ferry_status pick(float *out, int64_t *found, const ferry_cost *cost, int64_t count, int64_t n, uint64_t seed,
                         int64_t first, int64_t rows, row_of row)
{
    const int dim = cost->dim;
    FERRY_AUTO double *numbers = NULL;
    FERRY_TRY(ferry_alloc(&numbers, dim));
    for (int64_t i = 0; i < count; i++) {
        const int64_t cell = drawn(i, count, n, seed);
        if (cell < first || cell >= first + rows) continue;
        row(numbers, cost, cell - first);
        for (int k = 0; k < dim; k++) out[*found * dim + k] = (float)numbers[k];
        ++*found;
    }
    return FERRY_OK;
}

/* Collective. out [count][dim]: the drawn cells of a side, on all ranks. rows: of this rank, from the first; 0 where
 * another rank speaks for them. */
static ferry_status gather_side(float *out, const ferry_cost *cost, int64_t count, int64_t n, uint64_t seed,
                                int64_t first, int64_t rows, row_of row)
{
    const ferry_world *world = cost->grid->world;
    int64_t found = 0;
    FERRY_AUTO float *here = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    FERRY_AUTO int64_t *ones = NULL;
    ferry_status status = ferry_alloc(&here, (rows < count ? rows : count) * cost->dim);
    if (status == FERRY_OK) status = ferry_alloc(&counts, world->size);
    if (status == FERRY_OK) status = ferry_alloc(&ones, world->size);
    if (status == FERRY_OK) status = pick(here, &found, cost, count, n, seed, first, rows, row);
    for (int r = 0; r < world->size && status == FERRY_OK; r++) ones[r] = 1;
    FERRY_TRY(ferry_agree(world, status));
    ferry_gather_all(world, &found, ones, counts, sizeof found);
    ferry_gather_all(world, here, counts, out, (size_t)cost->dim * sizeof *out);
    return FERRY_OK;
}

/* Local, on rank 0. centres [most][dim] */
static ferry_status find_centres(float *centres, int64_t *found, const ferry_cost *cost, const float *sample,
                                 int64_t count, int most, uint64_t seed)
{
    ferry_clusters clusters = {0};
    ferry_status status =
        ferry_clusters_find(&clusters, sample, count, cost->dim, most, STEPS, seed, cost->options.kernels);
    *found = status == FERRY_OK ? clusters.count : 0;
    for (int64_t e = 0; e < *found * cost->dim && centres; e++) centres[e] = clusters.centres[e];
    ferry_clusters_close(&clusters);
    return status;
}

/* Collective. */
ferry_status ferry_groups_centres(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed)
{
    const ferry_grid *grid = cost->grid;
    const int64_t n = grid->source.blocks.rows, m = grid->target.blocks.rows, half = (int64_t)SAMPLE * most / 2;
    const int64_t sources = n < half ? n : half, targets = m < half ? m : half;
    int64_t found = 0;
    FERRY_AUTO float *sample = NULL;
    FERRY_AUTO float *centres = NULL;
    ferry_status status = ferry_alloc(&sample, (sources + targets) * cost->dim);
    if (status == FERRY_OK) status = ferry_alloc(&centres, (int64_t)most * cost->dim);
    FERRY_TRY(ferry_agree(grid->world, status));
    FERRY_TRY(gather_side(sample, cost, sources, n, seed, grid->source_first, grid->col == 0 ? grid->source_rows : 0,
                          ferry_source_row));
    FERRY_TRY(gather_side(sample + sources * cost->dim, cost, targets, m, seed + 1, grid->target_first,
                          grid->row == 0 ? grid->target_rows : 0, ferry_target_row));
    if (grid->world->rank == 0) status = find_centres(centres, &found, cost, sample, sources + targets, most, seed + 2);
    FERRY_TRY(ferry_agree(grid->world, status));
    ferry_broadcast(grid->world, &found, sizeof found, 0);
    ferry_broadcast(grid->world, centres, (size_t)(found * cost->dim) * sizeof *centres, 0);
    out->count = (int)found;
    return ferry_agree(grid->world,
                       ferry_clusters_of(&out->clusters, centres, out->count, cost->dim, cost->options.kernels));
}

/* --- labels --- */

/* Local. label [count] of rows first ... of a side; groups->largest grows. */
static ferry_status assign(int32_t *label, ferry_groups *groups, const ferry_cost *cost, int64_t first, int64_t count,
                           row_of row)
{
    const int dim = cost->dim, threads = cost->options.threads;
    const int64_t panels = (count + ROWS - 1) / ROWS, room = groups->clusters.units * TILE + (int64_t)2 * ROWS * dim;
    FERRY_AUTO float *scratch = NULL;
    FERRY_AUTO double *numbers = NULL;
    FERRY_TRY(ferry_alloc(&scratch, room * threads));
    FERRY_TRY(ferry_alloc(&numbers, (int64_t)dim * threads));
    double largest = groups->largest;
#pragma omp parallel num_threads(threads) reduction(max : largest)
    {
        const int t = omp_get_thread_num();
        float *scores = scratch + room * t, *rows = scores + groups->clusters.units * TILE, *panel = rows + ROWS * dim;
        double *one = numbers + (int64_t)dim * t;
        int32_t nearest[ROWS];
#pragma omp for schedule(static)
        for (int64_t p = 0; p < panels; p++) {
            const int64_t left = count - p * ROWS, present = left < ROWS ? left : ROWS;
            for (int64_t i = 0; i < present; i++) {
                row(one, cost, first + p * ROWS + i);
                for (int k = 0; k < dim; k++) {
                    rows[i * dim + k] = (float)one[k];
                    largest = fabs(one[k]) > largest ? fabs(one[k]) : largest;
                }
            }
            cost->options.kernels->pack_rows(panel, rows, present, dim);
            ferry_clusters_nearest(nearest, &groups->clusters, panel, scores);
            memcpy(label + p * ROWS, nearest, (size_t)present * sizeof *label);
        }
    }
    groups->largest = largest;
    return FERRY_OK;
}

ferry_status ferry_groups_label(int32_t *label, ferry_groups *groups, const ferry_cost *cost, bool target,
                                int64_t first, int64_t count)
{
    return assign(label, groups, cost, first, count, target ? ferry_target_row : ferry_source_row);
}

/* One side: who holds which of its cells. */
typedef struct side {
    row_of row;
    int64_t here; /* cells of this rank, which those of `same` hold too */
    const ferry_world *same, *cut;
    const int64_t *first; /* [ranks of cut + 1] */
} side;

/* Collective. all [cells of the problem] = labels of a whole side, in the caller's order; ranks with the same cells
 * share the work. */
static ferry_status label_side(int32_t *all, ferry_groups *groups, const ferry_cost *cost, const side *k)
{
    const int parts = k->same->size, part = k->same->rank;
    const int64_t first = k->here * part / parts, end = k->here * (part + 1) / parts;
    FERRY_AUTO int32_t *mine = NULL;
    FERRY_AUTO int32_t *here = NULL;
    FERRY_AUTO int64_t *shares = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    ferry_status status = ferry_alloc(&mine, end - first);
    if (status == FERRY_OK) status = ferry_alloc(&here, k->here);
    if (status == FERRY_OK) status = ferry_alloc(&shares, parts);
    if (status == FERRY_OK) status = ferry_alloc(&counts, k->cut->size);
    for (int r = 0; r < parts && status == FERRY_OK; r++) shares[r] = k->here * (r + 1) / parts - k->here * r / parts;
    for (int r = 0; r < k->cut->size && status == FERRY_OK; r++) counts[r] = k->first[r + 1] - k->first[r];
    if (status == FERRY_OK) status = assign(mine, groups, cost, first, end - first, k->row);
    FERRY_TRY(ferry_agree(cost->grid->world, status));
    ferry_gather_all(k->same, mine, shares, here, sizeof *here);
    ferry_gather_all(k->cut, here, counts, all, sizeof *all);
    return FERRY_OK;
}

/* --- open and close --- */

/* Collective. */
static ferry_status open_groups(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed)
{
    const ferry_grid *grid = cost->grid;
    const side source = {ferry_source_row, grid->source_rows, &grid->across, &grid->down, grid->source.first};
    const side target = {ferry_target_row, grid->target_rows, &grid->down, &grid->across, grid->target.first};
    FERRY_AUTO int32_t *of_source = NULL;
    FERRY_AUTO int32_t *of_target = NULL;
    FERRY_TRY(ferry_groups_centres(out, cost, most, seed));
    ferry_status status = ferry_alloc(&of_source, grid->source.blocks.rows);
    if (status == FERRY_OK) status = ferry_alloc(&of_target, grid->target.blocks.rows);
    FERRY_TRY(ferry_agree(grid->world, status));
    FERRY_TRY(label_side(of_source, out, cost, &source));
    FERRY_TRY(label_side(of_target, out, cost, &target));
    out->largest = ferry_max_double(grid->world, out->largest);
    if (!(out->largest > 0)) out->largest = 1;
    return ferry_groups_put(out, cost, of_source, of_target);
}

ferry_status ferry_groups_open(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed)
{
    memset(out, 0, sizeof *out);
    out->cost = *cost;
    out->cost.run = NULL;
    out->cost.source = (ferry_source){0};
    return open_groups(out, cost, most, seed);
}

void ferry_groups_close(ferry_groups *groups)
{
    if (groups->window.base) ferry_window_close(&groups->window);
    ferry_clusters_close(&groups->clusters);
    ferry_source_close(&groups->cost.source);
    free(groups->cost.run);
    free(groups->group);
    free(groups->target_group);
    free(groups->run_part);
    free(groups->part_group);
    free(groups->part_mask);
    free(groups->source.old);
    free(groups->source.place);
    free(groups->target.old);
    free(groups->target.place);
    memset(groups, 0, sizeof *groups);
}

int64_t ferry_groups_bytes(const ferry_cost_options *options, int dim, int count, int64_t sources, int64_t targets,
                           int64_t source_rows, int64_t target_rows)
{
    /* labels of all cells; the sample; both sides once more */
    return (sources + targets) * (int64_t)sizeof(int32_t) + (int64_t)SAMPLE * count * dim * (int64_t)sizeof(float) +
           ferry_groups_put_bytes(options, dim, count, source_rows, target_rows);
}

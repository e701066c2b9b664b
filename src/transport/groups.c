/* Groups of near cells by k-means on a sample of both sides, and the target side put in their order.
 *
 * The sample is stratified: one cell at a random place of each of equally long stretches, so it depends on the numbers
 * of cells and the seed alone. Rank 0 finds the centres; all assign their cells; labels of all targets are known to all
 * ranks, hence so is the new order (by group, then as before). */
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
static ferry_status open_clusters(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed)
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

/* Collective. all [m] = labels of every target, in the caller's order. */
static ferry_status label_targets(int32_t *all, ferry_groups *groups, const ferry_cost *cost)
{
    const ferry_grid *grid = cost->grid;
    const int parts = grid->down.size, part = grid->down.rank;
    const int64_t first = grid->target_rows * part / parts, end = grid->target_rows * (part + 1) / parts;
    FERRY_AUTO int32_t *mine = NULL;
    FERRY_AUTO int32_t *column = NULL;
    FERRY_AUTO int64_t *shares = NULL;
    FERRY_AUTO int64_t *columns = NULL;
    ferry_status status = ferry_alloc(&mine, end - first);
    if (status == FERRY_OK) status = ferry_alloc(&column, grid->target_rows);
    if (status == FERRY_OK) status = ferry_alloc(&shares, parts);
    if (status == FERRY_OK) status = ferry_alloc(&columns, grid->cols);
    for (int r = 0; r < parts && status == FERRY_OK; r++)
        shares[r] = grid->target_rows * (r + 1) / parts - grid->target_rows * r / parts;
    for (int c = 0; c < grid->cols && status == FERRY_OK; c++)
        columns[c] = grid->target.first[c + 1] - grid->target.first[c];
    if (status == FERRY_OK) status = assign(mine, groups, cost, first, end - first, ferry_target_row);
    FERRY_TRY(ferry_agree(grid->world, status));
    ferry_gather_all(&grid->down, mine, shares, column, sizeof *column);
    ferry_gather_all(&grid->across, column, columns, all, sizeof *all);
    return FERRY_OK;
}

/* --- the new order --- */

/* first [count + 1]: scratch. old, place, target_group of this rank's targets. */
static void put_in_order(ferry_groups *out, int64_t *first, const int32_t *label, const ferry_grid *grid)
{
    const int64_t m = grid->target.blocks.rows, here = grid->target_first;
    for (int g = 0; g <= out->count; g++) first[g] = 0;
    for (int64_t j = 0; j < m; j++) first[label[j] + 1]++;
    for (int g = 0; g < out->count; g++) first[g + 1] += first[g];
    for (int64_t j = 0; j < m; j++) {
        const int64_t place = first[label[j]]++;
        if (j >= here && j < here + grid->target_rows) out->place[j - here] = place;
        if (place < here || place >= here + grid->target_rows) continue;
        out->old[place - here] = j;
        out->target_group[place - here] = label[j];
    }
}

/* The parts of the unit whose first target is `first`. */
static int add_parts(ferry_groups *out, int parts, int64_t first, int64_t present)
{
    for (int64_t lane = 0; lane < present; lane++) {
        const int32_t group = out->target_group[first + lane];
        if (lane == 0 || group != out->target_group[first + lane - 1]) out->part_group[parts++] = group;
        out->part_mask[(int64_t)(parts - 1) * COLUMNS + lane] = 1;
    }
    return parts;
}

/* Local. Runs: units side by side that lie in one group, none across canonical blocks; units of several groups alone.
 */
static ferry_status find_runs(ferry_groups *out)
{
    ferry_cost *cost = &out->cost;
    const int64_t targets = cost->grid->target_rows, most = cost->units + 2 * (int64_t)out->count;
    int block = 0, parts = 0, last = -1; /* last: the group of the run so far, -1 where a new one must begin */
    FERRY_TRY(ferry_alloc(&cost->run, cost->units + 1));
    FERRY_TRY(ferry_alloc(&out->run_part, cost->units + 1));
    FERRY_TRY(ferry_alloc(&out->part_group, most));
    FERRY_TRY(ferry_alloc(&out->part_mask, most * COLUMNS));
    cost->runs = 0;
    for (int64_t u = 0; u < cost->units; u++) {
        const int64_t first = u * COLUMNS, left = targets - first, present = left < COLUMNS ? left : COLUMNS;
        const int32_t group = out->target_group[first];
        const bool mixed = group != out->target_group[first + present - 1];
        if (u == cost->unit[block]) {
            block++;
            last = -1;
        }
        if (mixed || group != last) {
            cost->run[cost->runs] = u;
            out->run_part[cost->runs++] = parts;
            parts = add_parts(out, parts, first, present);
        }
        last = mixed ? -1 : group;
    }
    cost->run[cost->runs] = cost->units;
    out->run_part[cost->runs] = parts;
    return FERRY_OK;
}

/* --- moving --- */

/* What is moved: `size` bytes of each target, read by get(to, self, target here). */
typedef struct moved {
    size_t size;
    void (*get)(void *to, const void *self, int64_t j);
    const void *self;
} moved;

/* Buffers of one move. */
typedef struct parcel {
    int64_t *ask, *asked, *send, *recv, *slot;
    char *out, *in;
} parcel;
static void free_parcel(parcel *p)
{
    free(p->ask);
    free(p->asked);
    free(p->send);
    free(p->recv);
    free(p->slot);
    free(p->out);
    free(p->in);
}
/* Local. Which targets are wanted from whom, by owner. */
static ferry_status address(parcel *p, const ferry_grid *grid, const int64_t *wanted, int64_t count)
{
    FERRY_TRY(ferry_alloc(&p->ask, count));
    FERRY_TRY(ferry_alloc(&p->slot, count));
    FERRY_TRY(ferry_alloc(&p->send, grid->cols + 1));
    FERRY_TRY(ferry_alloc(&p->recv, grid->cols + 1));
    int64_t at = 0;
    for (int c = 0; c < grid->cols; c++) {
        const int64_t from = grid->target.first[c], end = grid->target.first[c + 1];
        for (int64_t i = 0; i < count; i++)
            if (wanted[i] >= from && wanted[i] < end) {
                p->slot[at] = i;
                p->ask[at++] = wanted[i] - from;
                p->send[c]++;
            }
    }
    return FERRY_OK;
}
/* Local. */
static ferry_status answer(parcel *p, const moved *what, int64_t asked, int64_t count)
{
    FERRY_TRY(ferry_alloc_bytes(&p->out, asked, what->size));
    FERRY_TRY(ferry_alloc_bytes(&p->in, count, what->size));
    for (int64_t i = 0; i < asked; i++) what->get(p->out + (size_t)i * what->size, what->self, p->asked[i]);
    return FERRY_OK;
}
/* Collective over the grid row. */
static ferry_status carry(char *out, parcel *p, const moved *what, const ferry_grid *grid, const int64_t *wanted,
                          int64_t count)
{
    int64_t asked = 0;
    FERRY_TRY(ferry_agree(grid->world, address(p, grid, wanted, count)));
    ferry_exchange_counts(&grid->across, p->send, p->recv);
    for (int c = 0; c < grid->cols; c++) asked += p->recv[c];
    FERRY_TRY(ferry_agree(grid->world, ferry_alloc(&p->asked, asked)));
    ferry_exchange(&grid->across, p->ask, p->send, p->asked, p->recv, sizeof *p->ask);
    FERRY_TRY(ferry_agree(grid->world, answer(p, what, asked, count)));
    ferry_exchange(&grid->across, p->out, p->recv, p->in, p->send, what->size);
    for (int64_t i = 0; i < count; i++)
        memcpy(out + (size_t)p->slot[i] * what->size, p->in + (size_t)i * what->size, what->size);
    return FERRY_OK;
}
/* Collective. out [count] = what belongs to the targets `wanted` (numbers in the problem), whoever holds them. */
static ferry_status fetch(void *out, const moved *what, const ferry_grid *grid, const int64_t *wanted, int64_t count)
{
    if (grid->cols == 1) {
        for (int64_t i = 0; i < count; i++) what->get((char *)out + (size_t)i * what->size, what->self, wanted[i]);
        return FERRY_OK;
    }
    parcel p = {0};
    ferry_status status = carry(out, &p, what, grid, wanted, count);
    free_parcel(&p);
    return status;
}

static void get_number(void *to, const void *self, int64_t j)
{
    memcpy(to, (const double *)self + j, sizeof(double));
}
ferry_status ferry_groups_order(double *out, const ferry_groups *groups, const double *values)
{
    const moved what = {sizeof *values, get_number, values};
    return fetch(out, &what, groups->cost.grid, groups->old, groups->cost.grid->target_rows);
}
ferry_status ferry_groups_restore(double *out, const ferry_groups *groups, const double *values)
{
    const moved what = {sizeof *values, get_number, values};
    return fetch(out, &what, groups->cost.grid, groups->place, groups->cost.grid->target_rows);
}

/* A target's row in the cost's own precision, and its norm. */
static void get_row(void *to, const void *self, int64_t j)
{
    const ferry_cost *cost = self;
    const int64_t at = j / COLUMNS * COLUMNS * cost->dim + j % COLUMNS;
    const int dim = cost->dim;
    char *norm = to;
    for (int k = 0; k < dim && cost->y; k++, norm += sizeof(float))
        memcpy(norm, cost->y + at + (int64_t)k * COLUMNS, sizeof(float));
    for (int k = 0; k < dim && cost->y_d; k++, norm += sizeof(double))
        memcpy(norm, cost->y_d + at + (int64_t)k * COLUMNS, sizeof(double));
    memcpy(norm, cost->y_norm + j, sizeof(double));
}

/* The window of the new order: as the cost's own, without its block sums. */
static size_t room(int64_t count, size_t size)
{
    return ((size_t)count * size + 63) / 64 * 64;
}
static size_t lay_out(ferry_cost *out, const ferry_cost *cost, char *base)
{
    const size_t rows = room(cost->columns * cost->dim, cost->y_d ? sizeof(double) : sizeof(float));
    const size_t norms = room(cost->columns, sizeof(double)), small = cost->y2 ? room(cost->columns, sizeof(float)) : 0;
    if (base) {
        out->y_d = cost->y_d ? (double *)(void *)base : NULL;
        out->y = cost->y_d ? NULL : (float *)(void *)base;
        out->y_norm = (double *)(void *)(base + rows);
        out->y2 = small ? (float *)(void *)(base + rows + norms) : NULL;
    }
    return rows + norms + small;
}

/* Rows that came become targets first ... of the new order. */
static void place_rows(ferry_cost *cost, const char *rows, size_t size, int64_t first, int64_t count)
{
    const int dim = cost->dim;
    for (int64_t j = first; j < first + count; j++, rows += size) {
        const int64_t at = j / COLUMNS * COLUMNS * dim + j % COLUMNS;
        const char *norm = rows;
        for (int k = 0; k < dim && cost->y; k++, norm += sizeof(float))
            memcpy(cost->y + at + (int64_t)k * COLUMNS, norm, sizeof(float));
        for (int k = 0; k < dim && cost->y_d; k++, norm += sizeof(double))
            memcpy(cost->y_d + at + (int64_t)k * COLUMNS, norm, sizeof(double));
        memcpy(cost->y_norm + j, norm, sizeof(double));
        if (cost->y2) cost->y2[j] = (float)cost->y_norm[j];
    }
}

/* Collective. The rows that this rank brings to its node's copy. */
static ferry_status move_rows(ferry_groups *out, const ferry_cost *cost)
{
    const ferry_grid *grid = cost->grid;
    const size_t number = cost->y_d ? sizeof(double) : sizeof(float);
    const moved what = {(size_t)cost->dim * number + sizeof(double), get_row, cost};
    const int64_t first = grid->bring_first - grid->target_first;
    FERRY_AUTO char *rows = NULL;
    FERRY_TRY(ferry_agree(grid->world, ferry_window_open(&out->window, &grid->sharing, lay_out(NULL, cost, NULL))));
    lay_out(&out->cost, cost, out->window.base);
    FERRY_TRY(ferry_agree(grid->world, ferry_alloc_bytes(&rows, grid->bring_rows, what.size)));
    FERRY_TRY(fetch(rows, &what, grid, out->old + first, grid->bring_rows));
    place_rows(&out->cost, rows, what.size, first, grid->bring_rows);
    ferry_window_sync(&out->window, &grid->sharing);
    return FERRY_OK;
}

/* --- open and close --- */

/* Local. */
static ferry_status begin(ferry_groups *out, const ferry_cost *cost)
{
    const ferry_grid *grid = cost->grid;
    FERRY_TRY(ferry_alloc(&out->group, grid->source_rows));
    FERRY_TRY(ferry_alloc(&out->target_group, grid->target_rows));
    FERRY_TRY(ferry_alloc(&out->old, grid->target_rows));
    return ferry_alloc(&out->place, grid->target_rows);
}
/* Local. */
static ferry_status order(ferry_groups *out, const int32_t *label, const ferry_grid *grid)
{
    FERRY_AUTO int64_t *first = NULL;
    FERRY_TRY(ferry_alloc(&first, (int64_t)out->count + 1));
    put_in_order(out, first, label, grid);
    return find_runs(out);
}

/* Collective. */
static ferry_status open_groups(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed)
{
    const ferry_grid *grid = cost->grid;
    FERRY_AUTO int32_t *label = NULL;
    FERRY_TRY(open_clusters(out, cost, most, seed));
    ferry_status status = ferry_alloc(&label, grid->target.blocks.rows);
    if (status == FERRY_OK) status = begin(out, cost);
    if (status == FERRY_OK) status = assign(out->group, out, cost, 0, grid->source_rows, ferry_source_row);
    FERRY_TRY(ferry_agree(grid->world, status));
    FERRY_TRY(label_targets(label, out, cost));
    out->largest = ferry_max_double(grid->world, out->largest);
    if (!(out->largest > 0)) out->largest = 1;
    FERRY_TRY(ferry_agree(grid->world, order(out, label, grid)));
    return move_rows(out, cost);
}

ferry_status ferry_groups_open(ferry_groups *out, const ferry_cost *cost, int most, uint64_t seed)
{
    memset(out, 0, sizeof *out);
    out->cost = *cost;
    out->cost.run = NULL;
    return open_groups(out, cost, most, seed);
}

void ferry_groups_close(ferry_groups *groups)
{
    if (groups->window.base) ferry_window_close(&groups->window);
    ferry_clusters_close(&groups->clusters);
    free(groups->cost.run);
    free(groups->group);
    free(groups->target_group);
    free(groups->run_part);
    free(groups->part_group);
    free(groups->part_mask);
    free(groups->old);
    free(groups->place);
    memset(groups, 0, sizeof *groups);
}

int64_t ferry_groups_bytes(const ferry_cost_options *options, int dim, int count, int64_t targets, int64_t source_rows,
                           int64_t target_rows)
{
    const int64_t number = options->precision == FERRY_DOUBLE ? sizeof(double) : sizeof(float);
    const int64_t row = dim * number + (int64_t)sizeof(double), units = target_rows / COLUMNS + 1;
    const int64_t blocks = ferry_blocks_of(targets, COLUMNS).count;
    const int64_t runs = units < 2 * (int64_t)count + blocks ? units : 2 * (int64_t)count + blocks;
    const int64_t threads = options->threads < 1 ? 1 : options->threads;
    /* the copy and the rows on their way to it; labels of all targets; a label per row, three numbers per target; masks
     * of parts; sums of runs; the sample */
    return 2 * target_rows * row + targets * (int64_t)sizeof(int32_t) + source_rows * (int64_t)sizeof(int32_t) +
           target_rows * (int64_t)(2 * sizeof(int64_t) + sizeof(int32_t)) +
           3 * (int64_t)count * COLUMNS * (int64_t)sizeof(float) + threads * runs * ROWS * (int64_t)sizeof(double) +
           (int64_t)SAMPLE * count * dim * (int64_t)sizeof(float);
}

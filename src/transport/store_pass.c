/* Once over what is kept.
 *
 * With f0, g0, r0, c0 of the dense pass, t and D of store_impl.h, w_j = exp((g_j - g0_j) / eps):
 *
 *   R_i = sum_j D_ij w_j,   row sum at (f0, g) = rho_i r0_i / t R_i,   rho_i = t / R_i at w = 1
 *   f_i = tau_a (eps log a_i - eps log(row sum) + f0_i),   q_i = exp((f_i - f0_i) / eps)
 *   c_j = gamma_j w_j / (t 2^k) sum_i q_i r0_i 2^k D_ij,   gamma_j: what makes c_j = c0_j at w = q = 1
 *
 * A column whose sum is so small that most of it was not kept (b_j many times c_j) has gamma_j = 1 instead, and what it
 * lost is added, times w_j.
 *
 * With mass between groups, what was not kept is not lost: store_rest.c adds it to both sums.
 *
 * Threads take whole canonical source blocks, and 12 rows of a panel at once: their tiles come from memory for the row
 * sums and are in the second cache for the column sums, during which half of the next 12 rows' come. Several grid
 * columns: all row sums first, one reduction, then the column sums; the same bits.
 *
 * Mass between groups: rows in the order of their groups give column sums of a run of rows of one group, which are
 * added up under the groups of the columns when the run (or the block) ends. Where a panel has many runs its rows are
 * summed over the columns of each group instead. Either is a sum over a piece that the layout does not change. */
#include "store_parts_impl.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define ROWS      FERRY_SOURCE_UNIT
#define COLUMNS   FERRY_TARGET_UNIT
#define PART      FERRY_HALF_ROWS
#define TILE      FERRY_HALF_TILE
#define FAR       80 /* nats that w_j may be away from 1: rows' sums stay in float */
#define MOST_RUNS 4  /* of a panel, by column sums */

typedef struct ferry_store_pass pass;

/* What a thread works with. */
typedef struct worker {
    double *c;              /* [columns] of the block */
    double *run;            /* [columns] of the run of rows of one group, where mass between groups is wanted */
    unsigned char *touched; /* [units] of run */
    int32_t group;          /* of the run, or -1 */
    int64_t low, high;      /* units low ... high - 1 hold all that is touched */
    int64_t *masses;        /* of the aggregate */
} worker;

/* --- rows --- */

/* The 12 rows of a panel that begin at its row `first`. */
static const uint16_t *part_of(const ferry_stored *kept, int first)
{
    return kept->halves[first / PART];
}

static void block_rows(double *sums, const ferry_store *store, const ferry_stored *kept, int b, int first)
{
    const int64_t from = kept->first[b], count = kept->first[b + 1] - from;
    const uint16_t *tiles = part_of(kept, first);
    /* see halves.h: the column sums before have asked for the first half of the part */
    store->kernels->rows(sums, tiles + from * TILE, store->w, kept->unit + from, count,
                         tiles + (kept->count + from) * (TILE / 2));
}

/* R of 12 rows over blocks b ... b + count - 1, in a grid of one column: the adjacent-pair tree, in which blocks
 * without a tile need not be looked at. */
static void tree_rows(double *sums, const ferry_store *store, const ferry_stored *kept, int b, int count, int first)
{
    const int half = count / 2;
    double right[PART];
    if (kept->first[b] == kept->first[b + count]) {
        memset(sums, 0, PART * sizeof *sums);
        return;
    }
    if (count == 1) {
        block_rows(sums, store, kept, b, first);
        return;
    }
    tree_rows(sums, store, kept, b, half, first);
    if (kept->first[b + half] == kept->first[b + count]) return;
    tree_rows(right, store, kept, b + half, half, first);
    for (int i = 0; i < PART; i++) sums[i] += right[i];
}

/* R of 12 rows -> f, r, and v = q r0 2^k */
static void finish_rows(float *v, pass *p, int64_t first, const double *sums)
{
    ferry_store *store = p->store;
    ferry_sinkhorn *s = p->s;
    for (int i = 0; i < PART; i++) {
        const int64_t row = first + i;
        const bool present = row < s->sources && store->f[row] != -INFINITY;
        v[i] = 0;
        if (p->calibrating) {
            store->rho[row] = present ? store->targets / sums[i] : 0;
            v[i] = present ? (float)(store->r[row] * store->times) : 0;
            if (present && !(sums[i] >= (s->aggregate ? 0 : store->targets / 2) && sums[i] < INFINITY)) {
#pragma omp atomic write
                p->lost = 1;
            }
            continue;
        }
        s->f[row] = -INFINITY;
        s->r[row] = 0;
        if (present) {
            const double sum = store->rho[row] *
                               (store->r[row] / store->targets * sums[i] + ferry_rest_of_row(&store->groups_rest, row));
            const double f = s->tau_a * (s->epsilon * (log(s->a[row]) - log(sum)) + store->f[row]);
            const double q = exp((f - store->f[row]) / s->epsilon);
            s->f[row] = f;
            s->r[row] = ferry_bad_sum(sum) ? sum : q * sum;
            ferry_rest_give(&store->groups_rest, row, q, omp_get_thread_num());
            v[i] = ferry_bad_sum(sum) ? NAN : (float)(q * store->r[row] * store->times);
        }
        if (s->raw) s->raw[row] = s->f[row];
    }
}

/* --- mass between groups --- */

/* Columns of one unit: values [32] times factor [32] under the groups of the columns. */
static void unit_masses(int64_t *masses, const ferry_sinkhorn *s, int32_t whole, int64_t u, const double *values,
                        const double *factor)
{
    const double units = s->aggregate->units;
    const int32_t *group = s->aggregate->groups->target_group + u * COLUMNS;
    const int64_t left = s->targets - u * COLUMNS, count = left < COLUMNS ? left : COLUMNS;
    if (whole >= 0) {
        double sum[8] = {0};
        for (int j = 0; j < COLUMNS; j += 8)
            for (int l = 0; l < 8; l++) sum[l] += values[j + l] * factor[j + l];
        masses[whole] +=
            ferry_exact_part(((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7])), units);
        return;
    }
    for (int64_t j = 0, end; j < count; j = end) {
        double sum = 0;
        for (end = j; end < count && group[end] == group[j]; end++) sum += values[end] * factor[end];
        masses[group[j]] += ferry_exact_part(sum, units);
    }
}

/* The run of rows ends: its column sums are counted and join those of the block. */
static void end_run(worker *k, const pass *p)
{
    const ferry_store *store = p->store;
    int64_t *masses = k->group < 0 ? NULL : k->masses + (int64_t)k->group * p->s->aggregate->groups->count;
    for (int64_t u = k->low; u < k->high; u++) {
        double *values = k->run + u * COLUMNS, *c = k->c + u * COLUMNS;
        if (!k->touched[u]) continue;
        unit_masses(masses, p->s, store->unit_group[u], u, values, store->factor + u * COLUMNS);
        for (int j = 0; j < COLUMNS; j++) {
            c[j] += values[j];
            values[j] = 0;
        }
        k->touched[u] = 0;
    }
    k->group = -1;
    k->low = store->units;
    k->high = 0;
}

/* Row i (of the rank) is of this group; rows past the end are of the last row's. */
static int32_t group_of(const pass *p, int64_t i)
{
    return p->s->aggregate->groups->group[i < p->s->sources ? i : p->s->sources - 1];
}
static int runs_of(const pass *p, int64_t index)
{
    int runs = 1;
    for (int64_t i = index * ROWS + 1; i < (index + 1) * ROWS; i++) runs += group_of(p, i) != group_of(p, i - 1);
    return runs;
}

/* Column sums of 12 rows, run by run. */
static void part_runs(worker *k, const pass *p, const ferry_stored *kept, int64_t index, int first, const float *v,
                      const uint16_t *ahead)
{
    for (int i = first, end; i < first + PART; i = end) {
        const int32_t group = group_of(p, index * ROWS + i);
        for (end = i + 1; end < first + PART && group_of(p, index * ROWS + end) == group;) end++;
        if (group != k->group) {
            end_run(k, p);
            k->group = group;
        }
        p->store->kernels->columns(k->run, part_of(kept, first), v + first, kept->unit, kept->count, i - first,
                                   end - first, ahead);
        for (int64_t u = 0; u < kept->count; u++) k->touched[kept->unit[u]] = 1;
        if (kept->count > 0 && kept->unit[0] < k->low) k->low = kept->unit[0];
        if (kept->count > 0 && kept->unit[kept->count - 1] >= k->high) k->high = kept->unit[kept->count - 1] + 1;
    }
}

/* Sums [12] of rows over columns of one group. */
static void count_rows(worker *k, const pass *p, int64_t first, const float *v, const double *sums, int32_t group)
{
    const double units = p->s->aggregate->units / (p->store->targets * p->store->times);
    const int64_t count = p->s->aggregate->groups->count;
    for (int i = 0; i < PART && first + i < p->s->sources; i++)
        k->masses[group_of(p, first + i) * count + group] += ferry_exact_part((double)v[i] * sums[i], units);
}

/* A unit of several groups: group by group, the others' columns at 0. */
static void mixed_unit(worker *k, const pass *p, const ferry_stored *kept, int64_t tile, int64_t row, const float *v)
{
    const int32_t u = kept->unit[tile], here = 0, *group = p->s->aggregate->groups->target_group + (int64_t)u * COLUMNS;
    const int64_t left = p->s->targets - (int64_t)u * COLUMNS, count = left < COLUMNS ? left : COLUMNS;
    const float *all = p->store->group_w + (int64_t)u * COLUMNS;
    const uint16_t *tiles = part_of(kept, (int)(row % ROWS)) + tile * TILE;
    double sums[PART];
    for (int64_t j = 0, end; j < count; j = end) {
        float w[COLUMNS] = {0};
        for (end = j; end < count && group[end] == group[j]; end++) w[end] = all[end];
        p->store->kernels->rows(sums, tiles, w, &here, 1, tiles);
        count_rows(k, p, row, v, sums, group[j]);
    }
}

/* Masses of 12 rows of many groups, by the kept tiles of each group of columns in each target block. */
static void part_masses(worker *k, const pass *p, const ferry_stored *kept, int64_t index, int first, const float *v)
{
    const ferry_store *store = p->store;
    const int64_t row = index * ROWS + first;
    const uint16_t *tiles = part_of(kept, first);
    double sums[PART];
    for (int b = 0; b < store->blocks; b++)
        for (int64_t from = kept->first[b], to; from < kept->first[b + 1]; from = to) {
            const int32_t group = store->unit_group[kept->unit[from]];
            to = from + 1;
            if (group < 0) {
                mixed_unit(k, p, kept, from, row, v);
                continue;
            }
            while (to < kept->first[b + 1] && store->unit_group[kept->unit[to]] == group) to++;
            store->kernels->rows(sums, tiles + from * TILE, store->group_w, kept->unit + from, to - from,
                                 tiles + from * TILE);
            count_rows(k, p, row, v, sums, group);
        }
}

/* --- the pass --- */

static void one_panel(worker *k, pass *p, int64_t index)
{
    const ferry_store *store = p->store;
    const ferry_stored *kept = &store->panel[index];
    const uint16_t *next = store->panel[index + 1 < store->panels ? index + 1 : index].halves[0];
    const bool counting = k->masses != NULL, runs = counting && runs_of(p, index) <= MOST_RUNS;
    float v[ROWS];
    for (int first = 0; first < ROWS; first += PART) {
        double all[PART];
        const double *sums = store->sums + index * ROWS + first;
        if (!store->forest) {
            tree_rows(all, store, kept, 0, store->blocks, first);
            sums = all;
        }
        finish_rows(v + first, p, index * ROWS + first, sums);
        const uint16_t *ahead = first + PART < ROWS ? part_of(kept, first + PART) : next;
        if (runs) {
            part_runs(k, p, kept, index, first, v, ahead);
            continue;
        }
        store->kernels->columns(k->c, part_of(kept, first), v + first, kept->unit, kept->count, 0, PART, ahead);
        if (counting) part_masses(k, p, kept, index, first, v + first);
    }
}

/* Local. A canonical source block by one thread. */
static ferry_status one_block(pass *p, int block, int thread)
{
    ferry_store *store = p->store;
    ferry_sinkhorn *s = p->s;
    ferry_aggregate *a = s->aggregate;
    worker k = {.c = s->leaf + 2 * s->columns * thread,
                .run = s->leaf + (2 * thread + 1) * s->columns,
                .touched = store->touched + thread * store->units,
                .group = -1,
                .low = store->units,
                .masses = a ? a->sums + thread * a->size : NULL};
    int64_t from, to;
    ferry_status status = FERRY_OK;
    ferry_block_panels(&from, &to, s->grid, block);
    if (s->threads == 1)
        FERRY_TRY(ferry_forest_leaf(&k.c, s->forest)); /* a thread alone adds where the sums stay */
    else
        memset(k.c, 0, (size_t)s->columns * sizeof *k.c);
    if (a) memset(k.run, 0, (size_t)s->columns * sizeof *k.run);
    for (int64_t i = from; i < to; i++) one_panel(&k, p, i);
    if (a) end_run(&k, p);
    if (s->threads == 1) {
        ferry_forest_add(s->forest, block);
        return FERRY_OK;
    }
#pragma omp critical(ferry_sinkhorn)
    status = ferry_plant(s->forest, k.c, s->columns, block);
    return status;
}

/* Local. All source blocks of this rank. */
static ferry_status all_blocks(pass *p)
{
    const ferry_grid *grid = p->s->grid;
    const int first = grid->source.block[grid->row], last = grid->source.block[grid->row + 1];
    ferry_status status = FERRY_OK;
#pragma omp parallel for num_threads(p->s->threads) schedule(dynamic)
    for (int b = first; b < last; b++) {
        const ferry_status done = one_block(p, b, omp_get_thread_num());
        if (done == FERRY_OK) continue;
#pragma omp critical(ferry_sinkhorn)
        status = done;
    }
    return status;
}

/* Local. Row sums over each canonical target block into the forest. */
static ferry_status plant_rows(const pass *p)
{
    const ferry_store *store = p->store;
    const ferry_grid *grid = p->s->grid;
    for (int b = 0; b < store->blocks; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, store->forest));
#pragma omp parallel for num_threads(p->s->threads) schedule(static)
        for (int64_t i = 0; i < store->panels; i++)
            for (int first = 0; first < ROWS; first += PART)
                block_rows(leaf + i * ROWS + first, store, &store->panel[i], b, first);
        ferry_forest_add(store->forest, grid->target.block[grid->col] + b);
    }
    return FERRY_OK;
}
/* Collective over the grid row, where there are several grid columns. */
static ferry_status rows_across(const pass *p)
{
    const ferry_world *across = &p->s->grid->across;
    FERRY_TRY(plant_rows(p)); /* blocks in order, of a forest that expects them: cannot fail */
    return ferry_forest_reduce(p->store->sums, p->store->forest, across, p->s->cost->options.reduction);
}

/* Collective. Sums of v_i D_ij over all rows into out [columns]. */
static ferry_status run_pass(double *out, pass *p)
{
    const ferry_grid *grid = p->s->grid;
    ferry_status status = p->store->forest ? rows_across(p) : FERRY_OK;
    if (status == FERRY_OK) status = all_blocks(p);
    /* by one thread blocks come in order: then nothing can fail here */
    if (grid->cols > 1 || p->store->several) status = ferry_agree(grid->world, status);
    FERRY_TRY(status);
    status = ferry_forest_reduce(out, p->s->forest, &grid->down, p->s->cost->options.reduction);
    return grid->cols == 1 ? status : ferry_agree(grid->world, status); /* one column: down is the world */
}

/* w, factors, and what the mass between groups needs, at s->g */
static void begin_pass(ferry_store *store, const ferry_sinkhorn *s)
{
    const double scale = 1 / (store->targets * store->times);
    for (int64_t j = 0; j < s->columns; j++) {
        const bool empty = j >= s->targets || (s->g[j] == -INFINITY && store->g[j] == -INFINITY);
        const double move = empty ? 0 : (s->g[j] - store->g[j]) / s->epsilon;
        const double near = move > FAR ? FAR : move < -FAR ? -FAR : move;
        const double w = exp(near);
        store->w[j] = empty ? 0 : (float)w;
        store->group_w[j] = (float)(store->gamma[j] * (double)store->w[j]);
        const double whole = near == move ? w : exp(move);
        store->moves[j] = empty ? 0 : whole;
        store->factor[j] = store->gamma[j] * store->moves[j] * scale;
        store->rest_now[j] = store->rest[j] > 0 ? store->rest[j] * whole : 0;
    }
    if (!s->aggregate) return;
    for (int64_t u = 0; u < store->units; u++) {
        const int32_t *group = s->aggregate->groups->target_group + u * COLUMNS;
        const int64_t left = s->targets - u * COLUMNS, count = left < COLUMNS ? left : COLUMNS;
        store->unit_group[u] = count > 0 ? group[0] : -1;
        for (int64_t j = 1; j < count; j++)
            if (group[j] != group[0]) store->unit_group[u] = -1;
    }
}

/* Collective. The pass at w = q = 1: rho from the row sums, store->kept; mass between groups is counted apart. */
static ferry_status calibrating_pass(pass *p)
{
    ferry_store *store = p->store;
    ferry_sinkhorn *s = p->s;
    ferry_aggregate *whole = s->aggregate, kept;
    for (int64_t j = 0; j < s->columns; j++) {
        store->gamma[j] = 1;
        store->rest[j] = 0;
    }
    begin_pass(store, s);
    if (whole) {
        kept = *whole;
        kept.sums = store->groups_rest.kept;
        memset(kept.sums, 0, (size_t)(kept.size * store->threads) * sizeof *kept.sums);
        s->aggregate = &kept;
    }
    ferry_status status = run_pass(store->kept, p);
    s->aggregate = whole;
    return status;
}

ferry_status ferry_store_calibrate(ferry_store *store, ferry_sinkhorn *s, bool *lost)
{
    pass p = {.store = store, .s = s, .calibrating = true};
    double lost_mass;
    if (s->aggregate)
        FERRY_TRY(ferry_agree(s->grid->world, ferry_rest_open(&store->groups_rest, store, s->aggregate->groups)));
    FERRY_TRY(calibrating_pass(&p));
    for (int64_t j = 0; j < s->columns; j++) {
        const double kept = store->kept[j] /= store->targets * store->times, whole = store->c[j];
        const bool counts = j < s->targets && whole > 0 && whole < INFINITY;
        const bool here = counts && kept >= whole / 2 && kept < INFINITY;
        store->gamma[j] = here ? whole / kept : 1;
        store->rest[j] = counts && !here && !s->aggregate ? whole - kept : 0;
        if (j < s->targets) s->work[j] = counts && !here ? s->b[j] : 0;
    }
    FERRY_TRY(ferry_sinkhorn_target_sum(&lost_mass, s, s->work));
    *lost = ferry_max(s->grid->world, p.lost) != 0 || (!s->aggregate && !(lost_mass <= FERRY_STORE_LOST * s->mass_b));
    return s->aggregate && !*lost ? ferry_rest_take(&store->groups_rest, store, s) : FERRY_OK;
}

ferry_status ferry_store_iterate(ferry_store *store, ferry_sinkhorn *s)
{
    pass p = {.store = store, .s = s};
    if (!store->usable)
        return ferry_fail(FERRY_E_ARG, "nothing is kept of the plan: the store must be filled, and usable, first");
    s->entropy.known = false;
    if (store->again) return ferry_store_iterate_again(store, s);
    begin_pass(store, s);
    if (store->groups_rest.matrix) ferry_rest_begin(&store->groups_rest, store, s);
    FERRY_TRY(run_pass(s->c, &p));
    for (int64_t j = 0; j < s->columns; j++) s->c[j] = store->factor[j] * s->c[j] + store->rest_now[j];
    if (store->groups_rest.matrix) ferry_rest_end(&store->groups_rest, store, s);
    return FERRY_OK;
}

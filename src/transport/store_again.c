/* Passes over what weighs where it does not fit in memory: its tiles are evaluated again.
 *
 * A dense pass leaves the list of tiles that weigh, as pieces of units side by side. A pass evaluates those at the f
 * and g of now, by the machinery of dense passes: batches, threads and grids are theirs. Without rounding only what is
 * left out differs from a dense pass: some 1e-6 of the mass, where the cut leaves room for 1e-4.
 *
 * Where that may matter, for a small threshold or where a column is so thin that it may have lost much of its sum, one
 * pass at the f0, g0 of the dense pass finds what is missing: with S_i the row sums of the listed tiles and r_i the
 * dense ones, rows are multiplied by rho_i = r_i / S_i ever after, column sums by gamma_j likewise (a column that lost
 * most of its sum gains that instead, following g_j), so that the fixed point is that of the dense iteration. */
#include "store_parts_impl.h"
#include <math.h>
#include <string.h>

#define ROWS   FERRY_SOURCE_UNIT
#define COARSE 1e-5 /* thresholds from which on what is left out does not matter */
#define THIN   16   /* times of what a column may lose, that it must have at least */

/* The end of the piece that begins with list[at]; units of one piece are of one block. */
static int64_t piece_end(const int32_t *list, int64_t at, int64_t count, int64_t stop)
{
    int64_t end = at + 1;
    while (end < count && list[end] == list[end - 1] + 1 && list[end] < stop) end++;
    return end;
}

bool ferry_store_list(ferry_store *store, const ferry_cost *cost, int64_t index, const int32_t *list, int64_t count,
                      int thread)
{
    ferry_arena *arena = &store->lists[thread];
    int32_t *unit = (int32_t *)(void *)ferry_arena_room(arena, (size_t)(2 * count) * sizeof *unit);
    ferry_pieces *pieces = &store->pieces[index];
    int64_t listed;
    int b = 0;
    if (!unit) return false;
    *pieces = (ferry_pieces){0, unit};
    for (int64_t at = 0, end; at < count; at = end) {
        while (list[at] >= cost->unit[b + 1]) b++;
        end = piece_end(list, at, count, cost->unit[b + 1]);
        unit[2 * pieces->count] = list[at];
        unit[2 * pieces->count++ + 1] = (int32_t)(end - at);
    }
    const size_t bytes = (size_t)(2 * pieces->count) * sizeof *unit;
    arena->used += bytes;
#pragma omp atomic capture
    listed = store->listed += (int64_t)bytes;
    return listed <= store->bytes;
}

static void evaluate(double *const *sums, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel_rows *rows,
                     int count)
{
    const ferry_store *store = work->self;
    for (int g = 0; g < count; g++) {
        ferry_panel *panel = rows[g].panel;
        const int64_t index = rows[g].index;
        ferry_panel_plan_pieces(panel, s->source, index, rows[g].f, &s->target, &store->pieces[index],
                                store->rho + index * ROWS);
        memcpy(sums[g], panel->block_sums, (size_t)panel->blocks * ROWS * sizeof **sums);
    }
}

/* rho from the sums of the listed tiles at f0, g0; f stays. */
static ferry_again find_rho(double *q, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel *panel,
                            int64_t index, double *reference, const double *sums, int round)
{
    ferry_store *store = work->self;
    (void)s;
    (void)round;
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = index * ROWS + i;
        const double listed = sums[i] * exp2(panel->residual[i]);
        const bool present = reference[i] != -INFINITY;
        q[i] = present ? exp2(panel->residual[i]) : 0;
        store->rho[row] = present ? store->r[row] / listed : 0;
        if (present && !(listed >= store->r[row] / 2 && listed < INFINITY)) {
#pragma omp atomic write
            store->bad = 1;
        }
    }
    return FERRY_ROWS_DONE;
}

/* Collective. c [columns] of the listed tiles at s->f, s->g. */
static ferry_status listed_columns(double *c, ferry_store *store, ferry_sinkhorn *s, bool calibrating)
{
    const ferry_row_work work = {.width = 1,
                                 .columns = true,
                                 .evaluate = evaluate,
                                 .finish = calibrating ? find_rho : ferry_finish_plan,
                                 .self = store};
    ferry_target_set(&s->target, s->cost, s->g, s->epsilon);
    FERRY_TRY(ferry_sinkhorn_pass(c, s, &work));
    s->passes--; /* the dense ones are counted */
    for (int64_t j = 0; j < s->targets; j++) c[j] *= exp2(ferry_target_residual(&s->target, s->cost, s->g, j));
    return FERRY_OK;
}

/* Collective. What is left out may matter: per row of sum r at most the cut's share r / targets of every column is. */
static ferry_status matters(bool *out, const ferry_store *store, ferry_sinkhorn *s)
{
    const double targets = (double)s->grid->target.blocks.rows;
    double mass;
    bool thin = s->options->threshold < COARSE;
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = store->c[j];
    FERRY_TRY(ferry_sinkhorn_target_sum(&mass, s, s->work));
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0 && !(store->c[j] >= THIN * (double)FERRY_STORE_CUT * mass / targets)) thin = true;
    *out = ferry_max(s->grid->world, thin) != 0;
    return FERRY_OK;
}

/* Collective. gamma and rest of columns from what was listed of them; *lost: the mass of those that lost most. */
static ferry_status correct_columns(double *lost, ferry_store *store, ferry_sinkhorn *s)
{
    for (int64_t j = 0; j < s->targets; j++) {
        const double listed = store->kept[j], whole = store->c[j];
        const bool counts = whole > 0 && whole < INFINITY, here = listed >= whole / 2 && listed < INFINITY;
        if (counts && here) store->gamma[j] = whole / listed;
        if (counts && !here) store->rest[j] = whole - listed;
        s->work[j] = counts && !here ? s->b[j] : 0;
    }
    return ferry_sinkhorn_target_sum(lost, s, s->work);
}

ferry_status ferry_store_calibrate_again(ferry_store *store, ferry_sinkhorn *s, bool *lost)
{
    ferry_aggregate *aggregate = s->aggregate;
    bool wanted;
    double lost_mass;
    for (int64_t i = 0; i < s->rows; i++) store->rho[i] = 1;
    for (int64_t j = 0; j < s->columns; j++) {
        store->gamma[j] = 1;
        store->rest[j] = 0;
    }
    FERRY_TRY(matters(&wanted, store, s));
    *lost = false;
    if (!wanted) return FERRY_OK;
    s->aggregate = NULL;
    ferry_status status = listed_columns(store->kept, store, s, true);
    s->aggregate = aggregate;
    FERRY_TRY(status);
    FERRY_TRY(correct_columns(&lost_mass, store, s));
    *lost = ferry_max(s->grid->world, store->bad) != 0 || !(lost_mass <= FERRY_STORE_LOST * s->mass_b);
    return FERRY_OK;
}

ferry_status ferry_store_iterate_again(ferry_store *store, ferry_sinkhorn *s)
{
    FERRY_TRY(listed_columns(s->c, store, s, false));
    for (int64_t j = 0; j < s->targets; j++) {
        s->c[j] *= store->gamma[j];
        if (store->rest[j] > 0) s->c[j] += store->rest[j] * exp((s->g[j] - store->g[j]) / s->epsilon);
    }
    return FERRY_OK;
}

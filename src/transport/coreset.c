/* Transport by a coreset: draw a few cells of each side with the mass they stand for, solve between them, extend.
 *
 * The extension is one soft c-transform a side: f of all sources from g of the few targets, g of all targets from f of
 * the few sources. Where tau is below 1 the entropy's reference counts cells, so that n cells of weight w stand for
 * n w^tau, not (n w)^tau: coreset_draw.c makes the weights such that both problems have the same potentials.
 *
 * Then one dense iteration at g: exact rows, the error of the columns, cost and bounds; or estimates
 * (coreset_guess.c). */
#include "coreset_impl.h"
#include "mpi/exchange.h"
#include "mpi/log.h"
#include "sinkhorn_impl.h"
#include <math.h>
#include <string.h>

#define LEAST_CELLS 20000
#define MOST_CELLS  50000
#define MOST_GROUPS 300
#define PER_GROUP   16 /* drawn cells per group, at least */

int64_t ferry_coreset_cells(int64_t rows)
{
    const int64_t part = rows / 20, cells = part < LEAST_CELLS ? LEAST_CELLS : part > MOST_CELLS ? MOST_CELLS : part;
    return rows < cells ? rows : cells;
}
static int64_t cells_of(const ferry_coreset_options *o, int64_t rows)
{
    const int64_t cells = o->cells > 0 ? o->cells : ferry_coreset_cells(rows);
    return cells < rows ? cells : rows;
}
static int groups_of(int64_t cells)
{
    const int64_t groups = cells / PER_GROUP;
    return groups < 1 ? 1 : groups < MOST_GROUPS ? (int)groups : MOST_GROUPS;
}

void ferry_coreset_open(ferry_coreset *out, ferry_cost *cost, const double *a, const double *b,
                        const ferry_transport_options *options, const ferry_coreset_options *how)
{
    *out = (ferry_coreset){.world = cost->grid->world, .cost = cost, .options = options, .how = how};
    out->side[0] = ferry_side_of(cost, false, a, options->tau_a);
    out->side[1] = ferry_side_of(cost, true, b, options->tau_b);
}
void ferry_coreset_close(ferry_coreset *k)
{
    for (int i = 0; i < 2; i++) {
        ferry_few_close(&k->few[i]);
        free(k->of_few[i]);
        free(k->h[i]);
    }
}

static ferry_status check(const ferry_transport_options *o, const ferry_coreset_options *how)
{
    if (how->cells < 0 || how->sample < 1)
        return ferry_fail(FERRY_E_ARG, "a coreset of %lld cells and a sample of %lld: both must be positive",
                          (long long)how->cells, (long long)how->sample);
    if (o->f || o->g)
        return ferry_fail(FERRY_E_ARG, "a coreset gives the potentials to start from: leave the initial ones out, or "
                                       "solve without a coreset");
    if (o->momentum != 1 || o->momentum_adaptive_from)
        return ferry_fail(FERRY_E_ARG, "a coreset is solved without momentum: leave it out");
    return FERRY_OK;
}

/* Collective. */
static ferry_status draw(ferry_coreset *k)
{
    const ferry_grid *grid = k->cost->grid;
    const int64_t rows[2] = {grid->source.blocks.rows, grid->target.blocks.rows};
    ferry_groups groups = {0};
    int64_t least = INT64_MAX, cells[2];
    for (int i = 0; i < 2; i++) {
        cells[i] = cells_of(k->how, rows[i]);
        if (cells[i] < least) least = cells[i];
    }
    ferry_status status = ferry_groups_centres(&groups, k->cost, groups_of(least), k->how->seed + 11);
    for (int i = 0; i < 2 && status == FERRY_OK; i++)
        status = ferry_few_draw(&k->few[i], &k->side[i], &groups, cells[i], k->how->seed + 21 + (uint64_t)i);
    ferry_groups_close(&groups);
    for (int i = 0; i < 2 && status == FERRY_OK; i++)
        if (k->few[i].count == 0)
            status = ferry_fail(FERRY_E_ARG, "the %s weights sum to 0: some must be positive", i ? "target" : "source");
    return status;
}

/* Local. Rows first ... of the few, borrowed. */
static ferry_matrix part_of(const ferry_few *few, int64_t first, int64_t rows)
{
    ferry_matrix part = few->rows;
    part.rows = rows;
    if (part.f) part.f += first * part.dim;
    if (part.d) part.d += first * part.dim;
    return part;
}
/* Collective. values of this rank's part, to all. */
static ferry_status whole(double **out, const ferry_few *few, const double *values, const ferry_world *cut,
                          const ferry_shards *shards, const ferry_world *world)
{
    FERRY_AUTO int64_t *counts = NULL;
    ferry_status status = ferry_alloc(out, few->count);
    if (status == FERRY_OK) status = ferry_alloc(&counts, cut->size);
    FERRY_TRY(ferry_agree(world, status));
    for (int r = 0; r < cut->size; r++) counts[r] = shards->first[r + 1] - shards->first[r];
    ferry_gather_all(cut, values, counts, *out, sizeof **out);
    return FERRY_OK;
}

/* Collective. Potentials of the few into k->of_few. */
static ferry_status solve(ferry_potentials *out, ferry_coreset *k)
{
    ferry_grid grid;
    ferry_cost *cost = NULL;
    ferry_transport_options options = *k->options;
    ferry_cost_options o = k->cost->options;
    o.scale = FERRY_SCALE_NUMBER;
    o.scale_number = 1 / k->cost->inv_scale;
    options.solver = FERRY_SOLVER_AUTO;
    FERRY_TRY(
        ferry_grid_open(&grid, k->world, k->cost->grid->rows, k->cost->grid->cols, k->few[0].count, k->few[1].count));
    const ferry_matrix x = part_of(&k->few[0], grid.source_first, grid.source_rows);
    const ferry_matrix y = part_of(&k->few[1], grid.bring_first, grid.bring_rows);
    ferry_status status = ferry_cost_open(&cost, &grid, &x, &y, &o);
    if (status == FERRY_OK)
        status = ferry_transport(out, cost, k->few[0].weight + grid.source_first, k->few[1].weight + grid.target_first,
                                 &options);
    if (status == FERRY_OK) status = whole(&k->of_few[0], &k->few[0], out->f, &grid.down, &grid.source, k->world);
    if (status == FERRY_OK) status = whole(&k->of_few[1], &k->few[1], out->g, &grid.across, &grid.target, k->world);
    ferry_cost_close(&cost);
    ferry_grid_close(&grid);
    return status;
}

/* Collective. */
static ferry_status extend(ferry_coreset *k)
{
    for (int i = 0; i < 2; i++) {
        FERRY_TRY(ferry_agree(k->world, ferry_alloc(&k->h[i], k->side[i].here)));
        FERRY_TRY(ferry_extend(k->h[i], &k->side[i], &k->few[1 - i], k->of_few[1 - i], k->options->epsilon));
    }
    return FERRY_OK;
}

ferry_status ferry_coreset_potentials(int *iterations, ferry_coreset *k)
{
    ferry_potentials of_few = {0};
    FERRY_TRY(draw(k));
    ferry_log(k->world, FERRY_INFO, "coreset of %lld source and %lld target cells", (long long)k->few[0].count,
              (long long)k->few[1].count);
    ferry_status status = solve(&of_few, k);
    *iterations = of_few.iterations;
    ferry_potentials_close(&of_few);
    FERRY_TRY(status);
    return extend(k);
}

/* Collective. f and figures of one pass over all pairs. */
static ferry_status certify(ferry_potentials *out, ferry_coreset *k)
{
    ferry_transport_options options = *k->options;
    options.f = k->h[0];
    options.g = k->h[1];
    return ferry_transport_once(out, k->cost, k->side[0].weight, k->side[1].weight, &options);
}

/* Collective. */
static ferry_status work(ferry_potentials *out, ferry_coreset *k)
{
    int iterations;
    FERRY_TRY(ferry_agree(k->world, check(k->options, k->how)));
    FERRY_TRY(ferry_coreset_potentials(&iterations, k));
    FERRY_TRY(k->how->certify == FERRY_CERTIFY_FULL ? certify(out, k) : ferry_coreset_guess(out, k));
    out->iterations = iterations;
    out->coarse[0] = k->few[0].count;
    out->coarse[1] = k->few[1].count;
    return FERRY_OK;
}

ferry_status ferry_transport_coarse(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                                    const ferry_transport_options *options, const ferry_coreset_options *how)
{
    ferry_coreset k;
    const double same[] = {(double)how->cells, (double)how->certify, (double)how->sample, (double)how->seed};
    memset(out, 0, sizeof *out);
    FERRY_TRY(ferry_same(cost->grid->world, "the coreset options", same, sizeof same));
    ferry_coreset_open(&k, cost, a, b, options, how);
    ferry_status status = work(out, &k);
    ferry_coreset_close(&k);
    if (status != FERRY_OK) ferry_potentials_close(out);
    return status;
}

int64_t ferry_coreset_bytes(const ferry_cost_options *cost, int dim, const ferry_coreset_options *how, int64_t sources,
                            int64_t targets, int64_t source_rows, int64_t target_rows, int grid_rows, int grid_cols)
{
    /* a fifth more may be drawn, and of small groups; a row travels as float64 and is held as read, both sides */
    const int64_t n = cells_of(how, sources) * 6 / 5 + 8 * MOST_GROUPS,
                  m = cells_of(how, targets) * 6 / 5 + 8 * MOST_GROUPS;
    const int64_t few = n + m, most = n > m ? n : m, kept = how->sample > most ? how->sample : most;
    const int64_t rows = n / grid_rows + FERRY_SOURCE_UNIT, columns = m / grid_cols + FERRY_TARGET_UNIT;
    const int64_t row = 2 * (int64_t)dim * (int64_t)sizeof(double) + 64;
    const int64_t solving = ferry_cost_bytes(cost, dim, rows, columns, 1) +
                            ferry_transport_bytes(cost, dim, n, m, rows, columns, grid_rows, grid_cols);
    const int64_t sweeping = ferry_sweep_bytes(cost, dim, kept), drawing = 16 * (source_rows + target_rows);
    const int64_t large = solving > sweeping ? solving : sweeping;
    return few * row + 8 * (source_rows + target_rows) + (large > drawing ? large : drawing);
}

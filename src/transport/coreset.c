/* Transport by a coreset: draw a few cells of each side with the mass they stand for, solve between them, extend.
 *
 * The extension is one soft c-transform a side: f of all sources from g of the few targets, g of all targets from f of
 * the few sources. Where tau is below 1 the entropy's reference counts cells, so that n cells of weight w stand for
 * n w^tau, not (n w)^tau: coreset_draw.c makes the weights such that both problems have the same potentials.
 *
 * Then one dense iteration at g: exact rows, the error of the columns, cost and bounds. Or, where n m pairs are too
 * many, sampled rows and columns against all cells of the other side: L1 errors are estimated as cells / sampled times
 * what the sampled ones are off, mass and cost likewise. */
#include "coreset_impl.h"
#include "math/random.h"
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

/* What is alive during the work. */
typedef struct coreset {
    const ferry_world *world;
    ferry_cost *cost;
    const ferry_transport_options *options;
    const ferry_coreset_options *how;
    ferry_side side[2];
    ferry_few few[2];
    double *of_few[2]; /* [few] potentials */
    double *h[2];      /* [here] */
} coreset;

static void close_coreset(coreset *k)
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
static ferry_status draw(coreset *k)
{
    ferry_groups groups = {0};
    int64_t least = INT64_MAX, cells[2];
    for (int i = 0; i < 2; i++) {
        cells[i] = cells_of(k->how, k->side[i].shards->blocks.rows);
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
static ferry_status solve(ferry_potentials *out, coreset *k)
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
static ferry_status extend(coreset *k)
{
    for (int i = 0; i < 2; i++) {
        FERRY_TRY(ferry_agree(k->world, ferry_alloc(&k->h[i], k->side[i].here)));
        FERRY_TRY(ferry_extend(k->h[i], &k->side[i], &k->few[1 - i], k->of_few[1 - i], k->options->epsilon));
    }
    return FERRY_OK;
}

/* --- certificates --- */

/* Collective. f and figures of one pass over all pairs. */
static ferry_status certify(ferry_potentials *out, coreset *k)
{
    ferry_transport_options options = *k->options;
    options.f = k->h[0];
    options.g = k->h[1];
    return ferry_transport_once(out, k->cost, k->side[0].weight, k->side[1].weight, &options);
}

/* Collective. The sampled cells of a side, weights theirs; potentials [few] of them. */
static ferry_status sample_side(ferry_few *out, double **potential, const coreset *k, int i)
{
    const ferry_side *side = &k->side[i];
    const int64_t n = side->shards->blocks.rows, count = k->how->sample < n ? k->how->sample : n;
    FERRY_AUTO bool *chosen = NULL;
    FERRY_AUTO double *values = NULL;
    ferry_few other = {0};
    ferry_status status = ferry_alloc(&chosen, side->count);
    if (status == FERRY_OK) status = ferry_alloc(&values, 2 * side->count);
    FERRY_TRY(ferry_agree(k->world, status));
    const int64_t begin = side->first + side->from;
    for (int64_t e = 0; e < count; e++) { /* one at a random place of each of equally long stretches */
        const int64_t from = e * n / count, end = (e + 1) * n / count;
        const int64_t cell =
            from + (int64_t)(ferry_random(k->how->seed + 31 + (uint64_t)i, (uint64_t)e) * (double)(end - from));
        if (cell >= begin && cell < begin + side->count) chosen[cell - begin] = true;
    }
    memcpy(values, side->weight + side->from, (size_t)side->count * sizeof *values);
    memcpy(values + side->count, k->h[i] + side->from, (size_t)side->count * sizeof *values);
    FERRY_TRY(ferry_few_gather(out, side, chosen, values));
    status = ferry_few_gather(&other, side, chosen, values + side->count);
    *potential = other.weight;
    other.weight = NULL;
    ferry_few_close(&other);
    return status;
}

/* What the sampled cells of a side tell. */
typedef struct estimate {
    double error, error_max, error_sd, mass, cost;
} estimate;
static estimate judge(const coreset *k, int i, const ferry_few *few, const double *potential, const ferry_marginal *m)
{
    const double tau = k->side[i].tau, rho = tau < 1 ? k->options->epsilon * tau / (1 - tau) : INFINITY;
    const double times = (double)k->side[i].shards->blocks.rows / (double)few->count, count = (double)few->count;
    estimate e = {0};
    double squares = 0;
    for (int64_t l = 0; l < few->count; l++) {
        const double goal = tau == 1             ? few->weight[l]
                            : few->weight[l] > 0 ? few->weight[l] * exp(-potential[l] / rho)
                                                 : 0;
        const double off = fabs(m->sums[l] - goal);
        e.error += times * off;
        e.error_max = fmax(e.error_max, off);
        e.mass += times * m->sums[l];
        squares += off * off;
    }
    const double mean = e.error / times / count, spread = fmax(squares / count - mean * mean, 0);
    e.error_sd = times * sqrt(count * spread * fmax(1 - 1 / times, 0));
    e.cost = times * m->cost;
    return e;
}

/* Collective. Sampled cells of side i against all of the other one. */
static ferry_status estimate_side(estimate *out, const coreset *k, int i, double total)
{
    ferry_few few = {0};
    ferry_marginal marginal = {0};
    FERRY_AUTO double *potential = NULL;
    ferry_status status = sample_side(&few, &potential, k, i);
    if (status == FERRY_OK)
        status =
            ferry_few_marginal(&marginal, &k->side[1 - i], k->h[1 - i], &few, potential, k->options->epsilon, total);
    if (status == FERRY_OK) *out = judge(k, i, &few, potential, &marginal);
    free(marginal.sums);
    ferry_few_close(&few);
    return status;
}

/* Collective. sum of weights, of weight h, of div_a and of weight of a side, by canonical blocks. */
static ferry_status side_sum(double *out, const coreset *k, int i, bool objective)
{
    const ferry_side *side = &k->side[i];
    const double tau = side->tau, epsilon = k->options->epsilon, rho = tau < 1 ? epsilon * tau / (1 - tau) : INFINITY;
    FERRY_AUTO double *values = NULL;
    FERRY_TRY(ferry_agree(k->world, ferry_alloc(&values, side->here)));
    for (int64_t e = 0; e < side->here; e++) {
        const double w = side->weight[e], h = w > 0 ? k->h[i][e] - epsilon * log(w) : 0;
        values[e] = !objective ? w : !(w > 0) ? 0 : tau == 1 ? w * h : -w * rho * expm1(-h / rho);
    }
    return ferry_agree(k->world, ferry_canonical_sum(out, values, side->shards, side->cut, FERRY_REDUCE_TREE));
}

/* Local. The answer takes the potentials over. */
static ferry_status hand_over(ferry_potentials *out, coreset *k)
{
    const ferry_transport_options *o = k->options;
    *out = (ferry_potentials){.sources = k->side[0].here, .targets = k->side[1].here};
    FERRY_TRY(ferry_alloc(&out->errors, 1));
    out->f = k->h[0];
    out->g = k->h[1];
    k->h[0] = k->h[1] = NULL;
    out->epsilon = o->epsilon;
    out->tau_a = o->tau_a;
    out->tau_b = o->tau_b;
    out->checks = 1;
    out->estimated = true;
    out->lower_bound = -INFINITY;
    out->upper_bound = INFINITY;
    out->dual_gap = out->independence = NAN;
    return FERRY_OK;
}

/* Collective. Figures from samples. */
static ferry_status guess(ferry_potentials *out, coreset *k)
{
    estimate e[2];
    double mass[2], objective[2];
    for (int i = 0; i < 2; i++) {
        FERRY_TRY(side_sum(&mass[i], k, i, false));
        FERRY_TRY(side_sum(&objective[i], k, i, true));
    }
    for (int i = 0; i < 2; i++) FERRY_TRY(estimate_side(&e[i], k, i, fmax(mass[0], mass[1])));
    FERRY_TRY(ferry_agree(k->world, hand_over(out, k)));
    out->row_error = e[0].error;
    out->row_error_max = e[0].error_max;
    out->column_error = e[1].error;
    out->column_error_max = e[1].error_max;
    out->marginal_error = out->errors[0] = e[0].error + e[1].error;
    out->error_sd = hypot(e[0].error_sd, e[1].error_sd);
    out->mass = 0.5 * (e[0].mass + e[1].mass);
    out->transport_cost = 0.5 * (e[0].cost + e[1].cost);
    out->reg_ot_cost = objective[0] + objective[1] + k->options->epsilon * (mass[0] * mass[1] - out->mass);
    return FERRY_OK;
}

/* Collective. */
static ferry_status work(ferry_potentials *out, coreset *k)
{
    ferry_potentials of_few = {0};
    FERRY_TRY(ferry_agree(k->world, check(k->options, k->how)));
    FERRY_TRY(draw(k));
    ferry_log(k->world, FERRY_INFO, "coreset of %lld source and %lld target cells", (long long)k->few[0].count,
              (long long)k->few[1].count);
    ferry_status status = solve(&of_few, k);
    const int iterations = of_few.iterations;
    ferry_potentials_close(&of_few);
    FERRY_TRY(status);
    FERRY_TRY(extend(k));
    FERRY_TRY(k->how->certify == FERRY_CERTIFY_FULL ? certify(out, k) : guess(out, k));
    out->iterations = iterations;
    out->coarse[0] = k->few[0].count;
    out->coarse[1] = k->few[1].count;
    return FERRY_OK;
}

ferry_status ferry_transport_coarse(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                                    const ferry_transport_options *options, const ferry_coreset_options *how)
{
    coreset k = {.world = cost->grid->world, .cost = cost, .options = options, .how = how};
    const double same[] = {(double)how->cells, (double)how->certify, (double)how->sample, (double)how->seed};
    memset(out, 0, sizeof *out);
    FERRY_TRY(ferry_same(k.world, "the coreset options", same, sizeof same));
    k.side[0] = ferry_side_of(cost, false, a, options->tau_a);
    k.side[1] = ferry_side_of(cost, true, b, options->tau_b);
    ferry_status status = work(out, &k);
    close_coreset(&k);
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

/* The divisor of the cost and its statistics, over all pairs, unweighted.
 *
 * Sums of a function of C over all pairs: per canonical source block one vector of sums per canonical target block,
 * added by the tree over source blocks (down the grid), then over target blocks (across it): the same for every layout.
 *
 * The median is found by digits: costs become integers that sort alike (order_of), and each pass over the pairs counts
 * one digit of 16 bits among the costs that share the digits found so far, for both middle places at once. */
#include "cost_scale_impl.h"
#include "cost_impl.h"
#include "groups_impl.h" /* ferry_exact */
#include <math.h>
#include <omp.h>
#include <string.h>

#define COLUMNS FERRY_TARGET_UNIT
#define ROWS    FERRY_SOURCE_UNIT
#define DIGIT   16
#define DIGITS  ((int64_t)1 << DIGIT)

/* What a pass over costs does with a run of costs of one row: columns column ... column + count - 1, all of one
 * canonical target block, whose totals [2] come along (NULL without a forest). */
typedef struct run {
    int thread;
    int64_t row, column, count;
    const double *costs;
    double *totals;
} run;
typedef struct sweep {
    void *self;
    void (*take)(const struct sweep *sweep, const run *run);
} sweep;

/* What one thread works with. */
typedef struct worker {
    int thread;
    double *values; /* costs of a slice */
    float *x;       /* rows of a panel, scaled */
    double *totals; /* [blocks][2], or NULL */
} worker;

/* One panel against one canonical target block, slice by slice. */
static void sweep_panel(const sweep *s, const worker *w, const ferry_cost *cost, int64_t panel, int block)
{
    const ferry_source *source = &cost->source;
    for (int64_t u = cost->unit[block]; u < cost->unit[block + 1]; u += FERRY_SLICE_UNITS) {
        const int64_t left = cost->unit[block + 1] - u, units = left < FERRY_SLICE_UNITS ? left : FERRY_SLICE_UNITS;
        const int64_t width = units * COLUMNS, present = cost->grid->target_rows - u * COLUMNS;
        run r = {.thread = w->thread, .column = u * COLUMNS, .count = present < width ? present : width};
        r.totals = w->totals ? w->totals + (ptrdiff_t)2 * block : NULL;
        ferry_cost_slice(w->values, w->x, cost, source, panel, u, units);
        for (int i = 0; i < ROWS && panel * ROWS + i < source->rows; i++) {
            r.row = panel * ROWS + i;
            r.costs = w->values + i * width;
            s->take(s, &r);
        }
    }
}

/* One canonical source block against all target blocks of this grid column. */
static void sweep_block(const sweep *s, const worker *w, const ferry_cost *cost, int block)
{
    const ferry_grid *grid = cost->grid;
    const int64_t from = (ferry_block_first(&grid->source.blocks, block) - grid->source_first) / ROWS;
    const int64_t end = ferry_block_first(&grid->source.blocks, block + 1) - grid->source_first;
    for (int64_t panel = from; panel * ROWS < end; panel++)
        for (int b = 0; b < cost->blocks; b++) sweep_panel(s, w, cost, panel, b);
}

/* Local. Every pair of this rank once; with a forest, totals go into it. */
static ferry_status sweep_all(const sweep *s, const ferry_cost *cost, ferry_forest *forest)
{
    const ferry_grid *grid = cost->grid;
    const int first = grid->source.block[grid->row], last = grid->source.block[grid->row + 1];
    const int threads = cost->options.threads;
    const int64_t slice = (int64_t)ROWS * FERRY_SLICE_UNITS * COLUMNS;
    FERRY_AUTO double *values = NULL;
    FERRY_AUTO float *x = NULL;
    FERRY_AUTO double *totals = NULL;
    FERRY_TRY(ferry_alloc(&values, threads * slice));
    FERRY_TRY(ferry_alloc(&x, (int64_t)threads * ROWS * cost->dim));
    FERRY_TRY(ferry_alloc(&totals, (int64_t)threads * 2 * cost->blocks));
    ferry_status status = FERRY_OK;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int b = first; b < last; b++) {
        const int t = omp_get_thread_num();
        double *mine = totals + (int64_t)t * 2 * cost->blocks;
        memset(mine, 0, (size_t)cost->blocks * 2 * sizeof *mine);
        const worker w = {t, values + t * slice, x + (int64_t)t * ROWS * cost->dim, forest ? mine : NULL};
        sweep_block(s, &w, cost, b);
        if (!forest) continue;
#pragma omp critical(ferry_forest)
        {
            double *leaf;
            ferry_status got = ferry_forest_leaf(&leaf, forest);
            if (got == FERRY_OK) {
                memcpy(leaf, mine, (size_t)cost->blocks * 2 * sizeof *leaf);
                ferry_forest_add(forest, b);
            } else {
                status = got;
            }
        }
    }
    return status;
}

/* --- mean and mean square --- */

static void take_moments(const sweep *s, const run *r)
{
    (void)s;
    for (int64_t j = 0; j < r->count; j++) {
        r->totals[0] += r->costs[j];
        r->totals[1] += r->costs[j] * r->costs[j];
    }
}

/* Local. sums [blocks][2] of this grid column into a forest over target blocks. */
static ferry_status plant_targets(ferry_forest **out, const ferry_cost *cost, const double *sums)
{
    const ferry_grid *grid = cost->grid;
    FERRY_TRY(ferry_forest_open(out, 2, grid->target.blocks.count, FERRY_JOIN_SUM));
    for (int b = 0; b < cost->blocks; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, *out));
        leaf[0] = sums[2 * b];
        leaf[1] = sums[2 * b + 1];
        ferry_forest_add(*out, grid->target.block[grid->col] + b);
    }
    return FERRY_OK;
}

/* Collective. totals [2] = what a sweep adds up over all pairs; scratch [blocks][2]. */
static ferry_status add_up(double *totals, const sweep *s, const ferry_cost *cost, double *scratch, ferry_forest **down,
                           ferry_forest **across)
{
    const ferry_grid *grid = cost->grid;
    FERRY_TRY(ferry_agree(grid->world, sweep_all(s, cost, *down)));
    FERRY_TRY(ferry_agree(grid->world, ferry_forest_reduce(scratch, *down, &grid->down, cost->options.reduction)));
    FERRY_TRY(ferry_agree(grid->world, plant_targets(across, cost, scratch)));
    return ferry_agree(grid->world, ferry_forest_reduce(totals, *across, &grid->across, cost->options.reduction));
}
static ferry_status sweep_totals(double *totals, const sweep *s, const ferry_cost *cost)
{
    const int64_t width = 2 * (int64_t)cost->blocks;
    ferry_forest *down = NULL, *across = NULL;
    FERRY_AUTO double *scratch = NULL;
    ferry_status status = ferry_alloc(&scratch, width + 2);
    if (status == FERRY_OK) status = ferry_forest_open(&down, width, cost->grid->source.blocks.count, FERRY_JOIN_SUM);
    status = ferry_agree(cost->grid->world, status);
    if (status == FERRY_OK) status = add_up(totals, s, cost, scratch, &down, &across);
    ferry_forest_close(&down);
    ferry_forest_close(&across);
    return status;
}

/* Collective. mean and square of the cost as scaled now, by one pass. */
static ferry_status find_moments(ferry_cost *cost)
{
    const double pairs = (double)cost->grid->source.blocks.rows * (double)cost->grid->target.blocks.rows;
    const sweep s = {.take = take_moments};
    double totals[2];
    FERRY_TRY(sweep_totals(totals, &s, cost));
    if (!cost->mean_known) cost->mean = totals[0] / pairs;
    cost->square = totals[1] / pairs;
    cost->mean_known = cost->square_known = true;
    return FERRY_OK;
}

/* --- sum_j e_j C_ij --- */

/* Sums of rows as whole numbers, slice by slice: the same for every layout. */
typedef struct row_sums {
    const double *e;
    double units;
    int64_t *sums; /* [source rows] */
} row_sums;
static void take_rows(const sweep *s, const run *r)
{
    const row_sums *w = s->self;
    double sum = 0;
    for (int64_t j = 0; j < r->count; j++) sum += w->e[r->column + j] * r->costs[j];
    w->sums[r->row] += ferry_exact_part(sum, w->units);
}
/* Local. weight: sum of e */
static ferry_status sweep_rows(row_sums *w, const ferry_cost *cost, double weight)
{
    const sweep s = {.self = w, .take = take_rows};
    w->units = ferry_exact_units(weight * 65536); /* costs up to 2^28 */
    FERRY_TRY(ferry_alloc(&w->sums, cost->grid->source_rows));
    return sweep_all(&s, cost, NULL);
}

/* Coordinate k of a prepared source row, of a prepared target row: kernels.h says how they are packed. */
static double source_value(const ferry_cost *cost, int64_t row, int k)
{
    const int dim = cost->dim, width = cost->options.kernels->x_width;
    if (cost->source.d) return cost->source.d[row * dim + k];
    return (double)cost->source.f[row / width * width * dim + (int64_t)k * width + row % width];
}
static double target_value(const ferry_cost *cost, int64_t row, int k)
{
    const int64_t at = row / COLUMNS * COLUMNS * cost->dim + (int64_t)k * COLUMNS + row % COLUMNS;
    return cost->y_d ? cost->y_d[at] : (double)cost->y[at];
}

/* Local. Per canonical target block [dim + 2]: sums of weighted rows, of weights, of weighted norms. */
static ferry_status plant_weighted(ferry_forest **out, const ferry_cost *cost, const double *weights)
{
    const ferry_shards *shards = &cost->grid->target;
    const int part = cost->grid->col, dim = cost->dim;
    FERRY_TRY(ferry_forest_open(out, (int64_t)dim + 2, shards->blocks.count, FERRY_JOIN_SUM));
    for (int b = shards->block[part]; b < shards->block[part + 1]; b++) {
        double *sum;
        FERRY_TRY(ferry_forest_leaf(&sum, *out));
        const int64_t end = ferry_block_first(&shards->blocks, b + 1) - shards->first[part];
        for (int64_t j = ferry_block_first(&shards->blocks, b) - shards->first[part]; j < end; j++) {
            if (weights[j] == 0) continue;
            for (int k = 0; k < dim; k++) sum[k] += weights[j] * target_value(cost, j, k);
            sum[dim] += weights[j];
            sum[dim + 1] += weights[j] * cost->y_norm[j];
        }
        ferry_forest_add(*out, b);
    }
    return FERRY_OK;
}
/* Collective. sums [dim + 2] */
static ferry_status weighted_sums(double *sums, const ferry_cost *cost, const double *weights)
{
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(cost->grid->world, plant_weighted(&forest, cost, weights));
    if (status == FERRY_OK)
        status = ferry_agree(cost->grid->world,
                             ferry_forest_reduce(sums, forest, &cost->grid->across, cost->options.reduction));
    ferry_forest_close(&forest);
    return status;
}

ferry_status ferry_cost_row_sums(double *out, bool *passed, const ferry_cost *cost, const double *e)
{
    const ferry_grid *grid = cost->grid;
    const int dim = cost->dim;
    FERRY_AUTO double *y = NULL;
    FERRY_AUTO int64_t *sums = NULL;
    *passed = !cost->bilinear;
    FERRY_TRY(ferry_agree(grid->world, ferry_alloc(&y, (int64_t)dim + 2)));
    FERRY_TRY(weighted_sums(y, cost, e));
    if (cost->bilinear) { /* inv_scale (norm_i sum e + sum e norm - factor <x_i, sum e y>) */
        for (int64_t i = 0; i < grid->source_rows; i++) {
            double dot = 0;
            for (int k = 0; k < dim; k++) dot += source_value(cost, i, k) * y[k];
            out[i] = cost->inv_scale * (cost->source.norm[i] * y[dim] + y[dim + 1] - cost->factor * dot);
        }
        return FERRY_OK;
    }
    row_sums rows = {.e = e};
    ferry_status status = sweep_rows(&rows, cost, y[dim]);
    sums = rows.sums;
    FERRY_TRY(ferry_agree(grid->world, status));
    ferry_total_counts(&grid->across, sums, grid->source_rows);
    for (int64_t i = 0; i < grid->source_rows; i++) out[i] = (double)sums[i] / rows.units;
    return FERRY_OK;
}

/* mean C = inv_scale (mean norm_i + mean norm_j - factor <mean x, mean y>) */
static void closed_mean(ferry_cost *cost)
{
    const int dim = cost->dim;
    const double n = (double)cost->grid->source.blocks.rows, m = (double)cost->grid->target.blocks.rows;
    double dot = 0;
    for (int k = 0; k < dim; k++) dot += cost->sum_x[k] / n * (cost->sum_y[k] / m);
    cost->mean = cost->inv_scale * (cost->sum_x[dim] / n + cost->sum_y[dim] / m - cost->factor * dot);
    cost->mean_known = true;
}

/* --- largest cost --- */

static void take_max(const sweep *s, const run *r)
{
    double *max = (double *)s->self + (ptrdiff_t)8 * r->thread; /* one cache line each */
    for (int64_t j = 0; j < r->count; j++)
        if (fabs(r->costs[j]) > *max) *max = fabs(r->costs[j]);
}

/* Collective. */
static ferry_status find_max(double *out, const ferry_cost *cost)
{
    FERRY_AUTO double *max = NULL;
    sweep s = {.take = take_max};
    ferry_status status = ferry_alloc(&max, (int64_t)cost->options.threads * 8);
    s.self = max;
    if (status == FERRY_OK) status = sweep_all(&s, cost, NULL);
    FERRY_TRY(ferry_agree(cost->grid->world, status));
    for (int t = 1; t < cost->options.threads; t++)
        if (max[(ptrdiff_t)8 * t] > max[0]) max[0] = max[(ptrdiff_t)8 * t];
    *out = ferry_max_double(cost->grid->world, max[0]);
    return FERRY_OK;
}

/* --- median --- */

/* One middle place: the cost that has `before` smaller ones. */
typedef struct place {
    int64_t before;  /* among the costs that share the prefix */
    uint64_t prefix; /* digits found so far */
} place;
typedef struct median {
    place place[2];
    int found; /* digits found */
    int digits;
    bool in_double;
    int64_t *counts; /* [threads][2][DIGITS] */
} median;

/* Integers that sort as the costs do: the sign bit flipped, negative numbers wholly. */
static uint64_t order_of(double cost, bool in_double)
{
    cost += 0.0; /* -0 is 0 */
    if (in_double) {
        uint64_t bits;
        memcpy(&bits, &cost, sizeof bits);
        return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
    }
    float narrow = (float)cost;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return bits >> 31 ? (uint32_t)~bits : bits | (uint32_t)1 << 31;
}
static double cost_of(uint64_t order, bool in_double)
{
    if (in_double) {
        uint64_t bits = order >> 63 ? order & ~((uint64_t)1 << 63) : ~order;
        double cost;
        memcpy(&cost, &bits, sizeof cost);
        return cost;
    }
    uint32_t bits = order >> 31 ? (uint32_t)order & ~((uint32_t)1 << 31) : ~(uint32_t)order;
    float cost;
    memcpy(&cost, &bits, sizeof cost);
    return (double)cost;
}

static void take_digits(const sweep *s, const run *r)
{
    const median *m = s->self;
    int64_t *counts = m->counts + (int64_t)r->thread * 2 * DIGITS;
    const int shift = (m->digits - m->found - 1) * DIGIT;
    const bool same = m->place[0].prefix == m->place[1].prefix;
    for (int64_t j = 0; j < r->count; j++) {
        const uint64_t order = order_of(r->costs[j], m->in_double);
        const uint64_t prefix = m->found ? order >> shift >> DIGIT : 0; /* two shifts: a shift by 64 is undefined */
        const uint64_t digit = order >> shift & (DIGITS - 1);
        if (prefix == m->place[0].prefix) counts[digit]++;
        if (!same && prefix == m->place[1].prefix) counts[DIGITS + (int64_t)digit]++;
    }
}

static void next_digit(place *p, const int64_t *counts)
{
    int64_t digit = 0;
    while (digit < DIGITS - 1 && p->before >= counts[digit]) p->before -= counts[digit++];
    p->prefix = p->prefix << DIGIT | (uint64_t)digit;
}

/* Collective. One more digit of both places. */
static ferry_status count_digits(median *m, const ferry_cost *cost)
{
    sweep s = {.self = m, .take = take_digits};
    memset(m->counts, 0, (size_t)(cost->options.threads * 2 * DIGITS) * sizeof *m->counts);
    FERRY_TRY(ferry_agree(cost->grid->world, sweep_all(&s, cost, NULL)));
    for (int t = 1; t < cost->options.threads; t++)
        for (int64_t d = 0; d < 2 * DIGITS; d++) m->counts[d] += m->counts[t * 2 * DIGITS + d];
    ferry_total_counts(cost->grid->world, m->counts, 2 * DIGITS);
    const bool same = m->place[0].prefix == m->place[1].prefix;
    next_digit(&m->place[0], m->counts);
    next_digit(&m->place[1], same ? m->counts : m->counts + DIGITS);
    m->found++;
    return FERRY_OK;
}

/* Collective. */
static ferry_status find_median(double *out, const ferry_cost *cost)
{
    const bool in_double = cost->options.precision == FERRY_DOUBLE;
    const int64_t n = cost->grid->source.blocks.rows, m = cost->grid->target.blocks.rows;
    if (n > INT64_MAX / m) return ferry_fail(FERRY_E_ARG, "scale_cost median: more than 2^63 pairs; use mean");
    median state = {.place = {{.before = (n * m - 1) / 2}, {.before = n * m / 2}},
                    .digits = in_double ? 4 : 2,
                    .in_double = in_double};
    FERRY_AUTO int64_t *counts = NULL;
    FERRY_TRY(ferry_agree(cost->grid->world, ferry_alloc(&counts, cost->options.threads * 2 * DIGITS)));
    state.counts = counts;
    for (int d = 0; d < state.digits; d++) FERRY_TRY(count_digits(&state, cost));
    *out = (cost_of(state.place[0].prefix, in_double) + cost_of(state.place[1].prefix, in_double)) / 2;
    return FERRY_OK;
}
int64_t ferry_median_bytes(const ferry_cost_options *options)
{
    return (options->threads < 1 ? 1 : options->threads) * 2 * DIGITS * (int64_t)sizeof(int64_t);
}

/* --- scale and epsilon --- */

/* Local. Scales from the largest norms: |C| <= X + Y + 2 sqrt(XY), X and Y the largest squared norms. */
static ferry_status norm_scale(double *divisor, const ferry_cost *cost)
{
    const double x = cost->raw_max_x, y = cost->raw_max_y;
    const bool squared = cost->options.kind == FERRY_COST_SQ_EUCLIDEAN,
               bound = cost->options.scale == FERRY_SCALE_MAX_BOUND;
    if (!squared && cost->options.kind != FERRY_COST_DOT)
        return ferry_fail(FERRY_E_ARG, "scale_cost %s is defined for sq_euclidean and dot only: use max_cost or mean",
                          bound ? "max_bound" : "max_norm");
    *divisor = !bound ? fmax(x, y) : squared ? x + y + 2 * sqrt(x * y) : sqrt(x * y);
    return FERRY_OK;
}

/* Collective. */
static ferry_status find_divisor(double *divisor, ferry_cost *cost)
{
    switch (cost->options.scale) {
    case FERRY_SCALE_NUMBER:
        *divisor = cost->options.scale_number;
        return FERRY_OK;
    case FERRY_SCALE_MEAN:
        if (cost->bilinear)
            closed_mean(cost);
        else
            FERRY_TRY(find_moments(cost));
        *divisor = cost->mean;
        return FERRY_OK;
    case FERRY_SCALE_MEDIAN:
        return find_median(divisor, cost);
    case FERRY_SCALE_MAX_COST:
        return find_max(divisor, cost);
    default:
        return norm_scale(divisor, cost);
    }
}

/* Below this a cost is rounding: what centring or normalising leaves of cells that are all alike. */
static double noise(const ferry_cost *cost)
{
    const double length = 1e-12 * sqrt(cost->raw_max_x + cost->raw_max_y), p = cost->options.p;
    switch (cost->options.kind) {
    case FERRY_COST_SQ_EUCLIDEAN:
        return length * length;
    case FERRY_COST_EUCLIDEAN:
        return length;
    case FERRY_COST_EUCLIDEAN_P:
    case FERRY_COST_PNORM:
        return pow(length, p);
    case FERRY_COST_SQ_PNORM:
        return length * length;
    case FERRY_COST_DOT:
    case FERRY_COST_ARCCOS:
        return 0;
    default:
        return cost->options.precision == FERRY_FLOAT ? 1e-6 : 1e-12;
    }
}

/* Local. */
static ferry_status check_divisor(double divisor, const ferry_cost *cost)
{
    if (!isfinite(divisor))
        return ferry_fail(FERRY_E_FILE,
                          "the cost to scale by is %g: the representation has numbers too large for this cost",
                          divisor);
    if (cost->options.scale == FERRY_SCALE_NUMBER) {
        if (divisor > 0) return FERRY_OK;
        return ferry_fail(FERRY_E_ARG, "scale_cost %g: the cost is divided by it, so it must be positive", divisor);
    }
    if (fabs(divisor) <= noise(cost))
        return ferry_fail(FERRY_E_FILE, "all costs are zero (are all cells alike?), so there is nothing to scale by: "
                                        "check the representation, or give a number as scale_cost");
    if (divisor < 0)
        return ferry_fail(FERRY_E_ARG,
                          "the cost to scale by is %g: dividing by it would turn the cost round; use max_cost or a "
                          "number as scale_cost",
                          divisor);
    return FERRY_OK;
}

ferry_status ferry_cost_set_scale(ferry_cost *cost)
{
    double divisor = 1;
    FERRY_TRY(find_divisor(&divisor, cost));
    FERRY_TRY(check_divisor(divisor, cost)); /* the same on all ranks */
    cost->inv_scale = 1 / divisor;
    cost->mean *= cost->inv_scale;
    cost->square *= cost->inv_scale * cost->inv_scale;
    return FERRY_OK;
}

ferry_status ferry_cost_statistics(double *mean, double *std, ferry_cost *cost)
{
    if (!cost->has_source) return ferry_fail(FERRY_E_ARG, "this cost has no source side: no statistics");
    if (!cost->mean_known && cost->bilinear) closed_mean(cost);
    if (!cost->square_known) FERRY_TRY(find_moments(cost));
    *mean = cost->mean;
    *std = sqrt(fmax(cost->square - cost->mean * cost->mean, 0));
    return FERRY_OK;
}

ferry_status ferry_cost_epsilon(double *epsilon, ferry_cost *cost, ferry_epsilon_of of, double value)
{
    double mean = 1, std = 1;
    if (!(value > 0) || !isfinite(value)) return ferry_fail(FERRY_E_ARG, "epsilon is %g: it must be positive", value);
    if (of == FERRY_EPSILON_OF_MEAN && !cost->mean_known && cost->bilinear) closed_mean(cost);
    if (of == FERRY_EPSILON_OF_STD || (of == FERRY_EPSILON_OF_MEAN && !cost->mean_known))
        FERRY_TRY(ferry_cost_statistics(&mean, &std, cost));
    *epsilon = of == FERRY_EPSILON_ABSOLUTE ? value : value * (of == FERRY_EPSILON_OF_MEAN ? cost->mean : std);
    if (!(*epsilon > 0) || !isfinite(*epsilon))
        return ferry_fail(FERRY_E_ARG, "epsilon comes out as %g of a cost whose %s is %g: give --epsilon-of absolute",
                          *epsilon, of == FERRY_EPSILON_OF_STD ? "deviation" : "mean", *epsilon / value);
    return FERRY_OK;
}

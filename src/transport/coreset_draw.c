/* A few cells of a side that stand for all of it.
 *
 * Cell i of group k is drawn when its random number is below p_k = max(cells / N, 8 / n_k), N and n_k counting cells
 * with weight; so is the one with the smallest number of each group. Drawn cells of a group share its mass in
 * proportion to their own weights. Masses are those of the entropic problem: sum w^tau, which for tau = 1 is the weight
 * (coarse.c has the reason), so a cell gets (sum w^tau)^(1 / tau). Numbers depend on cell and seed alone, counts and
 * masses are whole numbers: the same cells and weights for every layout. */
#include "coreset_impl.h"
#include "math/random.h"
#include "mpi/exchange.h"
#include <string.h>

#define ROWS     FERRY_SOURCE_UNIT
#define ALIGNED  96 /* cells that both units divide */
#define OF_GROUP 8  /* cells drawn of each group, about, however small */

ferry_side ferry_side_of(const ferry_cost *cost, bool target, const double *weight, double tau)
{
    const ferry_grid *grid = cost->grid;
    ferry_side side = {.target = target, .cost = cost, .weight = weight, .tau = tau};
    side.same = target ? &grid->down : &grid->across;
    side.cut = target ? &grid->across : &grid->down;
    side.shards = target ? &grid->target : &grid->source;
    side.first = target ? grid->target_first : grid->source_first;
    side.here = target ? grid->target_rows : grid->source_rows;
    const int64_t pieces = (side.here + ALIGNED - 1) / ALIGNED, part = side.same->rank, parts = side.same->size;
    const int64_t from = pieces * part / parts * ALIGNED, end = pieces * (part + 1) / parts * ALIGNED;
    side.from = from < side.here ? from : side.here;
    side.count = (end < side.here ? end : side.here) - side.from;
    return side;
}

/* --- to all ranks --- */

void ferry_few_close(ferry_few *few)
{
    free(few->cell);
    free(few->weight);
    ferry_matrix_close(&few->rows);
    memset(few, 0, sizeof *few);
}

/* A cell on its way: number, weight, then the row. */
static size_t record_size(const ferry_cost *cost)
{
    return sizeof(int64_t) + (1 + (size_t)cost->dim) * sizeof(double);
}
/* Local. The chosen ones of this rank. */
static ferry_status pack(char **out, int64_t *count, const ferry_side *side, const bool *chosen, const double *weight)
{
    const ferry_cost *cost = side->cost;
    const size_t size = record_size(cost);
    FERRY_AUTO double *row = NULL;
    *count = 0;
    for (int64_t i = 0; i < side->count; i++) *count += chosen[i];
    FERRY_TRY(ferry_alloc_bytes(out, *count, size));
    FERRY_TRY(ferry_alloc(&row, cost->dim));
    char *at = *out;
    for (int64_t i = 0; i < side->count; i++) {
        if (!chosen[i]) continue;
        const int64_t cell = side->first + side->from + i;
        (side->target ? ferry_target_row : ferry_source_row)(row, cost, side->from + i);
        for (int k = 0; k < cost->dim; k++) row[k] += cost->centre[k];
        memcpy(at, &cell, sizeof cell);
        memcpy(at + sizeof cell, &weight[i], sizeof *weight);
        memcpy(at + sizeof cell + sizeof *weight, row, (size_t)cost->dim * sizeof *row);
        at += size;
    }
    return FERRY_OK;
}
/* Collective over `ranks`; the status is agreed on by the grid. Their records one after the other, in place of mine. */
static ferry_status join(char **records, int64_t *count, size_t size, const ferry_world *ranks, const ferry_world *all)
{
    FERRY_AUTO int64_t *counts = NULL;
    FERRY_AUTO int64_t *ones = NULL;
    FERRY_AUTO char *joined = NULL;
    int64_t total = 0;
    ferry_status status = ferry_alloc(&counts, ranks->size);
    if (status == FERRY_OK) status = ferry_alloc(&ones, ranks->size);
    FERRY_TRY(ferry_agree(all, status));
    for (int r = 0; r < ranks->size; r++) ones[r] = 1;
    ferry_gather_all(ranks, count, ones, counts, sizeof *count);
    for (int r = 0; r < ranks->size; r++) total += counts[r];
    FERRY_TRY(ferry_agree(all, ferry_alloc_bytes(&joined, total, size)));
    ferry_gather_all(ranks, *records, counts, joined, size);
    free(*records);
    *records = joined;
    *count = total;
    joined = NULL;
    return FERRY_OK;
}
/* Local. */
static ferry_status unpack(ferry_few *out, const ferry_cost *cost, const char *records, int64_t count)
{
    const int dim = cost->dim;
    const size_t size = record_size(cost);
    FERRY_AUTO double *row = NULL;
    out->count = count;
    FERRY_TRY(ferry_alloc(&out->cell, count));
    FERRY_TRY(ferry_alloc(&out->weight, count));
    FERRY_TRY(ferry_alloc(&row, dim));
    FERRY_TRY(ferry_matrix_open(&out->rows, count, dim, cost->options.precision));
    for (int64_t i = 0; i < count; i++, records += size) {
        memcpy(&out->cell[i], records, sizeof *out->cell);
        memcpy(&out->weight[i], records + sizeof(int64_t), sizeof *out->weight);
        memcpy(row, records + sizeof(int64_t) + sizeof(double), (size_t)dim * sizeof *row);
        for (int k = 0; k < dim; k++)
            if (out->rows.d)
                out->rows.d[i * dim + k] = row[k];
            else
                out->rows.f[i * dim + k] = (float)row[k];
    }
    return FERRY_OK;
}

ferry_status ferry_few_gather(ferry_few *out, const ferry_side *side, const bool *chosen, const double *weight)
{
    const ferry_world *world = side->cost->grid->world;
    const size_t size = record_size(side->cost);
    FERRY_AUTO char *records = NULL;
    int64_t count;
    FERRY_TRY(ferry_agree(world, pack(&records, &count, side, chosen, weight)));
    FERRY_TRY(join(&records, &count, size, side->same, world));
    FERRY_TRY(join(&records, &count, size, side->cut, world));
    return ferry_agree(world, unpack(out, side->cost, records, count));
}

/* --- which --- */

typedef struct draw {
    int32_t *group;  /* [count] */
    bool *chosen;    /* [count] */
    double *weight;  /* [count] */
    double *least;   /* [groups] minus the smallest random number */
    int64_t *number; /* [groups] cells with weight, */
    int64_t *mass;   /* [groups] their mass, */
    int64_t *drawn;  /* [groups] and that of those drawn */
    double units, all;
} draw;
static ferry_status open_draw(draw *d, const ferry_side *side, int groups)
{
    FERRY_TRY(ferry_alloc(&d->group, side->count));
    FERRY_TRY(ferry_alloc(&d->chosen, side->count));
    FERRY_TRY(ferry_alloc(&d->weight, side->count));
    FERRY_TRY(ferry_alloc(&d->least, groups));
    FERRY_TRY(ferry_alloc(&d->number, groups));
    FERRY_TRY(ferry_alloc(&d->mass, groups));
    return ferry_alloc(&d->drawn, groups);
}
static void close_draw(draw *d)
{
    free(d->group);
    free(d->chosen);
    free(d->weight);
    free(d->least);
    free(d->number);
    free(d->mass);
    free(d->drawn);
}

static double mass_of(const ferry_side *side, int64_t i)
{
    const double w = side->weight[side->from + i];
    return w > 0 ? pow(w, side->tau) : 0;
}
static double number_of(const ferry_side *side, int64_t i, uint64_t seed)
{
    return ferry_random(seed, (uint64_t)(side->first + side->from + i));
}

/* Collective. The largest mass of one cell times the number of cells: what units are chosen for. */
static double bound_mass(const ferry_side *side)
{
    double most = 0;
    for (int64_t i = 0; i < side->count; i++) most = fmax(most, mass_of(side, i));
    return ferry_max_double(side->cost->grid->world, most) * (double)side->shards->blocks.rows;
}

/* Local. Numbers, masses and smallest random numbers of this rank's cells. */
static void count_groups(draw *d, const ferry_side *side, int groups, uint64_t seed)
{
    for (int k = 0; k < groups; k++) d->least[k] = -2;
    for (int64_t i = 0; i < side->count; i++) {
        const double mass = mass_of(side, i);
        if (!(mass > 0)) continue;
        d->number[d->group[i]]++;
        d->mass[d->group[i]] += ferry_exact(mass, d->units);
        d->least[d->group[i]] = fmax(d->least[d->group[i]], -number_of(side, i, seed));
    }
}
/* Local. */
static void choose(draw *d, const ferry_side *side, int64_t cells, uint64_t seed)
{
    for (int64_t i = 0; i < side->count; i++) {
        const double mass = mass_of(side, i), number = number_of(side, i, seed);
        const int32_t k = d->group[i];
        if (!(mass > 0)) continue;
        const double share = fmax((double)cells / d->all, (double)OF_GROUP / (double)d->number[k]);
        d->chosen[i] = number < share || -number >= d->least[k];
        if (d->chosen[i]) d->drawn[k] += ferry_exact(mass, d->units);
    }
}
/* Local. */
static void weigh(draw *d, const ferry_side *side)
{
    for (int64_t i = 0; i < side->count; i++) {
        const int32_t k = d->group[i];
        if (d->chosen[i])
            d->weight[i] = side->weight[side->from + i] * pow((double)d->mass[k] / (double)d->drawn[k], 1 / side->tau);
    }
}

/* Collective. */
static ferry_status draw_side(ferry_few *out, draw *d, const ferry_side *side, ferry_groups *groups, int64_t cells,
                              uint64_t seed)
{
    const ferry_world *world = side->cost->grid->world;
    ferry_status status = open_draw(d, side, groups->count);
    if (status == FERRY_OK)
        status = ferry_groups_label(d->group, groups, side->cost, side->target, side->from, side->count);
    FERRY_TRY(ferry_agree(world, status));
    d->units = ferry_exact_units(bound_mass(side));
    count_groups(d, side, groups->count, seed);
    ferry_total_counts(world, d->number, groups->count);
    ferry_total_counts(world, d->mass, groups->count);
    ferry_max_doubles(world, d->least, groups->count);
    for (int k = 0; k < groups->count; k++) d->all += (double)d->number[k];
    choose(d, side, cells, seed);
    ferry_total_counts(world, d->drawn, groups->count);
    weigh(d, side);
    return ferry_few_gather(out, side, d->chosen, d->weight);
}
ferry_status ferry_few_draw(ferry_few *out, const ferry_side *side, ferry_groups *groups, int64_t cells, uint64_t seed)
{
    draw d = {0};
    ferry_status status = draw_side(out, &d, side, groups, cells, seed);
    close_draw(&d);
    return status;
}

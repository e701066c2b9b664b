/* Both sides of a problem put in the order of their groups.
 *
 * Every rank knows the labels of all cells, so it knows the whole order; it asks the ranks that hold them for the cells
 * that come to stand in its places, slab by slab, so that rows on their way need little room. All ranks of a grid row
 * come to hold the same source rows; a target row is brought by one rank of its node. */
#include "groups_impl.h"
#include "mpi/fetch.h"
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define SLAB    ((int64_t)16 << 20) /* bytes that a rank asks for at a time */
#define REQUEST 32                  /* bytes of a request */

/* --- moving --- */

/* What is moved: `size` bytes of each cell, read by get(record, from, cell here), stored by put(to, place here,
 * record).
 */
typedef struct moved {
    size_t size;
    ferry_record_of get;
    const void *from;
    void (*put)(void *to, int64_t place, const void *record);
    void *to;
} moved;

static int64_t slab_of(size_t size)
{
    return SLAB / (int64_t)(size + REQUEST) + 1;
}

/* Collective. Places first ... first + count - 1 here get the cells `wanted` (numbers in the problem) + first ... */
static ferry_status move(const moved *what, const ferry_order *order, const int64_t *wanted, int64_t first,
                         int64_t count)
{
    const ferry_world *world = order->grid->world;
    const int64_t slab = slab_of(what->size), rounds = ferry_max(world, (count + slab - 1) / slab);
    const int64_t end = first + count;
    FERRY_AUTO char *records = NULL;
    FERRY_TRY(ferry_agree(world, ferry_alloc_bytes(&records, count < slab ? count : slab, what->size)));
    for (int64_t round = 0; round < rounds; round++) {
        const int64_t left = end - first, rows = left < slab ? left : slab;
        FERRY_TRY(ferry_agree(world, ferry_fetch_from(records, order->world, order->first, what->get, what->from,
                                                      what->size, wanted + first, rows)));
        for (int64_t i = 0; i < rows; i++) what->put(what->to, first + i, records + (size_t)i * what->size);
        first += rows;
    }
    return FERRY_OK;
}

static void get_number(void *to, const void *from, int64_t i)
{
    memcpy(to, (const double *)from + i, sizeof(double));
}
static void put_number(void *to, int64_t place, const void *record)
{
    memcpy((double *)to + place, record, sizeof(double));
}
ferry_status ferry_order_take(double *out, const ferry_order *order, const double *values)
{
    const moved what = {sizeof *values, get_number, values, put_number, out};
    return move(&what, order, order->old, 0, order->here);
}
ferry_status ferry_order_restore(double *out, const ferry_order *order, const double *values)
{
    const moved what = {sizeof *values, get_number, values, put_number, out};
    return move(&what, order, order->place, 0, order->here);
}

/* --- a row as a record: its numbers in the cost's own precision, and its norm --- */

static size_t record_of(const ferry_cost *cost)
{
    const size_t number = cost->options.precision == FERRY_DOUBLE ? sizeof(double) : sizeof(float);
    return (size_t)cost->dim * number + sizeof(double);
}

/* Numbers `step` apart, and back. */
static char *get_floats(char *to, const float *from, int count, int64_t step)
{
    for (int k = 0; k < count; k++, to += sizeof *from) memcpy(to, from + k * step, sizeof *from);
    return to;
}
static char *get_doubles(char *to, const double *from, int count, int64_t step)
{
    for (int k = 0; k < count; k++, to += sizeof *from) memcpy(to, from + k * step, sizeof *from);
    return to;
}
static const char *put_floats(float *to, const char *from, int count, int64_t step)
{
    for (int k = 0; k < count; k++, from += sizeof *to) memcpy(to + k * step, from, sizeof *to);
    return from;
}
static const char *put_doubles(double *to, const char *from, int count, int64_t step)
{
    for (int k = 0; k < count; k++, from += sizeof *to) memcpy(to + k * step, from, sizeof *to);
    return from;
}

/* Where row i begins in the packed source side, where column j in the packed target side. */
static int64_t source_at(const ferry_cost *cost, int64_t i)
{
    const int dim = cost->dim, width = cost->options.kernels->x_width;
    return i / ROWS * ROWS * dim + i % ROWS / width * width * dim + i % ROWS % width;
}
static int64_t target_at(const ferry_cost *cost, int64_t j)
{
    return j / COLUMNS * COLUMNS * cost->dim + j % COLUMNS;
}

static void get_source(void *to, const void *from, int64_t i)
{
    const ferry_cost *cost = from;
    const ferry_source *x = &cost->source;
    char *norm = x->d ? get_doubles(to, x->d + i * cost->dim, cost->dim, 1)
                      : get_floats(to, x->f + source_at(cost, i), cost->dim, cost->options.kernels->x_width);
    memcpy(norm, x->norm + i, sizeof *x->norm);
}
static void put_source(void *to, int64_t place, const void *record)
{
    ferry_cost *cost = to;
    ferry_source *x = &cost->source;
    const char *norm =
        x->d ? put_doubles(x->d + place * cost->dim, record, cost->dim, 1)
             : put_floats(x->f + source_at(cost, place), record, cost->dim, cost->options.kernels->x_width);
    memcpy(x->norm + place, norm, sizeof *x->norm);
}
static void get_target(void *to, const void *from, int64_t j)
{
    const ferry_cost *cost = from;
    const int64_t at = target_at(cost, j);
    char *norm = cost->y_d ? get_doubles(to, cost->y_d + at, cost->dim, COLUMNS)
                           : get_floats(to, cost->y + at, cost->dim, COLUMNS);
    memcpy(norm, cost->y_norm + j, sizeof *cost->y_norm);
}
static void put_target(void *to, int64_t place, const void *record)
{
    ferry_cost *cost = to;
    const int64_t at = target_at(cost, place);
    const char *norm = cost->y_d ? put_doubles(cost->y_d + at, record, cost->dim, COLUMNS)
                                 : put_floats(cost->y + at, record, cost->dim, COLUMNS);
    memcpy(cost->y_norm + place, norm, sizeof *cost->y_norm);
    if (cost->y2) cost->y2[place] = (float)cost->y_norm[place];
}

/* --- both sides --- */

/* Local. Room for the source rows, zeroed past the end as in the cost given. */
static ferry_status open_source(ferry_source *out, const ferry_cost *cost)
{
    const ferry_source *x = &cost->source;
    out->rows = x->rows;
    out->panels = x->panels;
    FERRY_TRY(ferry_alloc(&out->norm, x->panels * ROWS));
    if (x->d) return ferry_alloc(&out->d, x->panels * ROWS * cost->dim);
    return ferry_alloc(&out->f, x->panels * ROWS * cost->dim);
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

/* Collective. */
static ferry_status move_rows(ferry_groups *out, const ferry_cost *cost)
{
    const ferry_grid *grid = cost->grid;
    const moved source = {record_of(cost), get_source, cost, put_source, &out->cost};
    const moved target = {record_of(cost), get_target, cost, put_target, &out->cost};
    FERRY_TRY(ferry_agree(grid->world, open_source(&out->cost.source, cost)));
    FERRY_TRY(move(&source, &out->source, out->source.old, 0, grid->source_rows));
    FERRY_TRY(ferry_agree(grid->world, ferry_window_open(&out->window, &grid->sharing, lay_out(NULL, cost, NULL))));
    lay_out(&out->cost, cost, out->window.base);
    FERRY_TRY(move(&target, &out->target, out->target.old, grid->bring_first - grid->target_first, grid->bring_rows));
    ferry_window_sync(&out->window, &grid->sharing);
    return FERRY_OK;
}

/* --- the new order --- */

/* Local. By group, then as before. *group [here, new order]; cells: of the whole side, from number `here_first` here */
static ferry_status put_in_order(ferry_order *out, int32_t **group, const int32_t *label, int groups, int64_t cells,
                                 int64_t here_first)
{
    const int64_t here_end = here_first + out->here;
    FERRY_AUTO int64_t *next = NULL; /* [groups + 1] */
    FERRY_TRY(ferry_alloc(&next, (int64_t)groups + 1));
    FERRY_TRY(ferry_alloc(group, out->here));
    FERRY_TRY(ferry_alloc(&out->old, out->here));
    FERRY_TRY(ferry_alloc(&out->place, out->here));
    for (int64_t i = 0; i < cells; i++) next[label[i] + 1]++;
    for (int g = 0; g < groups; g++) next[g + 1] += next[g];
    for (int64_t i = 0; i < cells; i++) {
        const int64_t place = next[label[i]]++;
        if (i >= here_first && i < here_end) out->place[i - here_first] = place;
        if (place < here_first || place >= here_end) continue;
        out->old[place - here_first] = i;
        (*group)[place - here_first] = label[i];
    }
    return FERRY_OK;
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

ferry_status ferry_groups_put(ferry_groups *out, const ferry_cost *cost, const int32_t *source, const int32_t *target)
{
    const ferry_grid *grid = cost->grid;
    out->source = (ferry_order){grid, &grid->down, grid->source.first, grid->source_rows, NULL, NULL};
    out->target = (ferry_order){grid, &grid->across, grid->target.first, grid->target_rows, NULL, NULL};
    ferry_status status =
        put_in_order(&out->source, &out->group, source, out->count, grid->source.blocks.rows, grid->source_first);
    if (status == FERRY_OK)
        status = put_in_order(&out->target, &out->target_group, target, out->count, grid->target.blocks.rows,
                              grid->target_first);
    if (status == FERRY_OK) status = find_runs(out);
    FERRY_TRY(ferry_agree(grid->world, status));
    return move_rows(out, cost);
}

int64_t ferry_groups_put_bytes(const ferry_cost_options *options, int dim, int count, int64_t source_rows,
                               int64_t target_rows)
{
    const int64_t number = options->precision == FERRY_DOUBLE ? sizeof(double) : sizeof(float);
    const int64_t row = dim * number + (int64_t)sizeof(double), units = target_rows / COLUMNS + 1;
    const int64_t parts = units + 2 * (int64_t)count;
    const int64_t more = source_rows > target_rows ? source_rows : target_rows, slab = slab_of((size_t)row);
    /* both copies; records asked of this rank, at most all that it has, and two slabs of those it asks for; group and
     * two numbers per cell; where runs begin, and their first parts; groups and masks of parts */
    return ferry_source_bytes(options, dim, source_rows) + target_rows * row + more * (row + REQUEST) +
           (more < slab ? more : slab) * (2 * row + REQUEST) +
           (source_rows + target_rows) * (int64_t)(2 * sizeof(int64_t) + sizeof(int32_t)) +
           (units + 1) * (int64_t)(sizeof(int64_t) + sizeof(int32_t)) +
           parts * (int64_t)(sizeof(int32_t) + COLUMNS * sizeof(float));
}

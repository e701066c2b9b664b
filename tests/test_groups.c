/* Both sides in the order of their groups: an order of the whole problem, the same for every layout, with the same rows
 * in it, and back. */
#include "test.h"
#include "math/random.h"
#include "transport/groups_impl.h"
#include <stdlib.h>
#include <string.h>

#define DIM    5
#define GROUPS 12
#define SEED   7

static ferry_world world, alone;

/* Cells around a few centres, some of them twins. */
static double cell(int64_t i, int k, uint64_t seed)
{
    const int64_t of = i % 50 == 7 ? 7 : i;
    const int centre = (int)(9 * ferry_random(seed, (uint64_t)of));
    return 4 * ferry_random(99, (uint64_t)(centre * DIM + k)) + ferry_random(seed + 1, (uint64_t)(of * DIM + k));
}
static ferry_matrix rows_of(uint64_t seed, int64_t first, int64_t rows, ferry_precision precision)
{
    ferry_matrix x;
    CHECK(ferry_matrix_open(&x, rows, DIM, precision) == FERRY_OK);
    for (int64_t e = 0; e < rows * DIM; e++) {
        const double value = cell(first + e / DIM, (int)(e % DIM), seed);
        if (x.f)
            x.f[e] = (float)value;
        else
            x.d[e] = value;
    }
    return x;
}

/* One layout: what it has and what came of it, whole on every rank. */
typedef struct layout {
    ferry_grid grid;
    ferry_cost *cost;
    ferry_groups groups;
} layout;
typedef struct side {
    int64_t cells;
    double *before, *after; /* [cells][DIM + 1] rows and their norms */
    double *old, *place, *group, *back;
} side;

static void open_layout(layout *l, const ferry_world *w, int rows, int cols, int64_t n, int64_t m,
                        const ferry_cost_options *options)
{
    CHECK(ferry_grid_open(&l->grid, w, rows, cols, n, m) == FERRY_OK);
    ferry_matrix x = rows_of(1, l->grid.source_first, l->grid.source_rows, options->precision);
    ferry_matrix y = rows_of(3, l->grid.bring_first, l->grid.bring_rows, options->precision);
    CHECK(ferry_cost_open(&l->cost, &l->grid, &x, &y, options) == FERRY_OK);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
}
static void close_layout(layout *l)
{
    ferry_groups_close(&l->groups);
    ferry_cost_close(&l->cost);
    ferry_grid_close(&l->grid);
}

/* [cells][width] from the ranks that speak for their part, [count][width] from the first. */
static double *whole(const ferry_world *w, const double *part, int64_t first, int64_t count, int64_t cells, int width,
                     int speak)
{
    double *all = calloc((size_t)(cells * width) + 1, sizeof *all);
    if (speak && count) memcpy(all + first * width, part, (size_t)(count * width) * sizeof *all);
    MPI_Allreduce(MPI_IN_PLACE, all, (int)(cells * width), MPI_DOUBLE, MPI_SUM, w->comm);
    return all;
}
static double *whole_rows(const layout *l, const ferry_cost *cost, bool target)
{
    const ferry_grid *grid = &l->grid;
    const int64_t here = target ? grid->target_rows : grid->source_rows;
    double *rows = malloc((size_t)(here * (DIM + 1) + 1) * sizeof *rows);
    for (int64_t i = 0; i < here; i++) {
        (target ? ferry_target_row : ferry_source_row)(rows + i * (DIM + 1), cost, i);
        rows[i * (DIM + 1) + DIM] = target ? cost->y_norm[i] : cost->source.norm[i];
        if (target && cost->y2) CHECK(cost->y2[i] == (float)cost->y_norm[i]);
    }
    double *all =
        target ? whole(grid->world, rows, grid->target_first, here, grid->target.blocks.rows, DIM + 1, grid->row == 0)
               : whole(grid->world, rows, grid->source_first, here, grid->source.blocks.rows, DIM + 1, grid->col == 0);
    free(rows);
    return all;
}

/* Numbers of a side to the new order and back: each arrives where `old` and `place` say. */
static double *there_and_back(const ferry_order *order, int64_t first)
{
    double *values = malloc((size_t)(order->here + 1) * sizeof *values),
           *taken = malloc((size_t)(order->here + 1) * sizeof *taken),
           *back = malloc((size_t)(order->here + 1) * sizeof *back);
    for (int64_t i = 0; i < order->here; i++) values[i] = 0.25 * (double)(first + i) + 1;
    CHECK(ferry_order_take(taken, order, values) == FERRY_OK);
    for (int64_t i = 0; i < order->here; i++) CHECK(taken[i] == 0.25 * (double)order->old[i] + 1);
    CHECK(ferry_order_restore(back, order, taken) == FERRY_OK);
    for (int64_t i = 0; i < order->here; i++) CHECK(back[i] == values[i]);
    free(values);
    free(taken);
    return back;
}

static side whole_side(const layout *l, bool target)
{
    const ferry_grid *grid = &l->grid;
    const ferry_order *order = target ? &l->groups.target : &l->groups.source;
    const int32_t *group = target ? l->groups.target_group : l->groups.group;
    const int64_t first = target ? grid->target_first : grid->source_first, here = order->here;
    const int speak = target ? grid->row == 0 : grid->col == 0;
    side s = {.cells = target ? grid->target.blocks.rows : grid->source.blocks.rows};
    double *numbers = malloc((size_t)(3 * here + 1) * sizeof *numbers);
    for (int64_t i = 0; i < here; i++) {
        numbers[i] = (double)order->old[i];
        numbers[here + i] = (double)order->place[i];
        numbers[2 * here + i] = (double)group[i];
    }
    s.before = whole_rows(l, l->cost, target);
    s.after = whole_rows(l, &l->groups.cost, target);
    s.old = whole(grid->world, numbers, first, here, s.cells, 1, speak);
    s.place = whole(grid->world, numbers + here, first, here, s.cells, 1, speak);
    s.group = whole(grid->world, numbers + 2 * here, first, here, s.cells, 1, speak);
    s.back = there_and_back(order, first);
    free(numbers);
    return s;
}
static void close_side(side *s)
{
    free(s->before);
    free(s->after);
    free(s->old);
    free(s->place);
    free(s->group);
    free(s->back);
}

/* An order by group, then by number; old and place are each other's inverse; rows and norms are the same bits. */
static void check_side(const side *s)
{
    for (int64_t i = 0; i < s->cells; i++) {
        const int64_t old = (int64_t)s->old[i];
        CHECK(old >= 0 && old < s->cells);
        CHECK((int64_t)s->place[old] == i);
        CHECK(memcmp(s->after + i * (DIM + 1), s->before + old * (DIM + 1), (DIM + 1) * sizeof *s->after) == 0);
        if (i == 0) continue;
        CHECK(s->group[i] >= s->group[i - 1]);
        CHECK(s->group[i] > s->group[i - 1] || s->old[i] > s->old[i - 1]);
    }
}
static void check_same(const side *s, const side *one)
{
    CHECK(memcmp(s->old, one->old, (size_t)s->cells * sizeof *s->old) == 0);
    CHECK(memcmp(s->group, one->group, (size_t)s->cells * sizeof *s->group) == 0);
}

/* Every lane that holds a target is in exactly one part of its unit's run, under its group; no run crosses a block. */
static void check_runs(const layout *l)
{
    const ferry_groups *g = &l->groups;
    const ferry_cost *cost = &g->cost;
    CHECK(cost->run[0] == 0 && cost->run[cost->runs] == cost->units);
    for (int r = 0; r < cost->runs; r++) {
        const int parts = g->run_part[r + 1] - g->run_part[r];
        CHECK(parts >= 1 && (parts == 1 || cost->run[r + 1] == cost->run[r] + 1));
        for (int b = 0; b <= cost->blocks; b++)
            CHECK(cost->unit[b] <= cost->run[r] || cost->unit[b] >= cost->run[r + 1]);
        for (int64_t j = 32 * cost->run[r]; j < 32 * cost->run[r + 1] && j < l->grid.target_rows; j++) {
            int found = 0;
            for (int p = g->run_part[r]; p < g->run_part[r + 1]; p++)
                if (parts == 1 || g->part_mask[(int64_t)p * 32 + j % 32] > 0) {
                    found++;
                    CHECK(g->part_group[p] == g->target_group[j]);
                }
            CHECK(found == 1);
        }
    }
}

/* Rows past the end are zeros, as in the cost given. */
static void check_padding(const ferry_cost *cost)
{
    const ferry_source *x = &cost->source;
    double row[DIM];
    for (int64_t i = x->rows; i < 24 * x->panels; i++) {
        ferry_source_row(row, cost, i);
        for (int k = 0; k < DIM; k++) CHECK(row[k] == 0);
        CHECK(x->norm[i] == 0);
    }
}

static void check_problem(int64_t n, int64_t m, ferry_cost_kind kind, ferry_precision precision)
{
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.kind = kind;
    options.precision = precision;
    layout one = {0};
    open_layout(&one, &alone, 1, 1, n, m, &options);
    CHECK(ferry_groups_open(&one.groups, one.cost, GROUPS, SEED) == FERRY_OK);
    side source = whole_side(&one, false), target = whole_side(&one, true);
    for (int rows = 1; rows <= world.size; rows++) {
        if (world.size % rows) continue;
        layout l = {0};
        options.threads = 1 + rows % 2;
        open_layout(&l, &world, rows, world.size / rows, n, m, &options);
        CHECK(ferry_groups_open(&l.groups, l.cost, GROUPS, SEED) == FERRY_OK);
        CHECK(l.groups.cost.source.norm != l.cost->source.norm);
        side x = whole_side(&l, false), y = whole_side(&l, true);
        check_side(&x);
        check_side(&y);
        check_same(&x, &source);
        check_same(&y, &target);
        /* the cost given is as it was */
        CHECK(memcmp(x.before, source.before, (size_t)(n * (DIM + 1)) * sizeof *x.before) == 0);
        check_runs(&l);
        check_padding(&l.groups.cost);
        close_side(&x);
        close_side(&y);
        close_layout(&l);
    }
    close_side(&source);
    close_side(&target);
    close_layout(&one);
}

/* More cells than a slab holds. */
static void check_slabs(void)
{
    const int64_t n = 1000003;
    ferry_grid grid;
    CHECK(ferry_grid_open(&grid, &world, world.size, 1, n, 1) == FERRY_OK);
    ferry_order order = {&grid, &grid.down, grid.source.first, grid.source_rows, NULL, NULL};
    CHECK(ferry_alloc(&order.old, order.here) == FERRY_OK && ferry_alloc(&order.place, order.here) == FERRY_OK);
    for (int64_t i = 0; i < order.here; i++) { /* the whole side backwards */
        order.old[i] = n - 1 - (grid.source_first + i);
        order.place[i] = n - 1 - (grid.source_first + i);
    }
    free(there_and_back(&order, grid.source_first));
    free(order.old);
    free(order.place);
    ferry_grid_close(&grid);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    CHECK(ferry_world_open(&alone, MPI_COMM_SELF) == FERRY_OK);
    check_problem(1001, 870, FERRY_COST_SQ_EUCLIDEAN, FERRY_FLOAT);
    check_problem(500, 1203, FERRY_COST_EUCLIDEAN, FERRY_FLOAT);
    check_problem(777, 640, FERRY_COST_COSINE, FERRY_DOUBLE);
    check_problem(3, 50, FERRY_COST_SQ_EUCLIDEAN, FERRY_FLOAT); /* ranks without cells */
    check_slabs();
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

/* test_planner.c - grids and blocks for made-up machines: what is chosen fits, and what does not fit says what would.
 */
#include "test.h"
#include "transport/planner.h"
#include <string.h>

#define MIB ((int64_t)1 << 20)

static ferry_cost_options cost = FERRY_COST_DEFAULTS;

static ferry_work work_of(int64_t sources, int64_t targets, int dim)
{
    return (ferry_work){
        .cost = &cost, .dim = dim, .sources = sources, .targets = targets, .iterations = 2000, .base = 20 * MIB};
}

static void test_fits(void)
{
    const int ranks[] = {1, 2, 4, 12, 64};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        ferry_layout layout;
        const ferry_work work = work_of(1000000, 200000, 50);
        const ferry_machine machine = {ranks[i], ranks[i] > 4 ? ranks[i] / 4 : 1, 4096 * MIB};
        CHECK(ferry_layout_choose(&layout, &work, &machine, 0, 0, 0) == FERRY_OK);
        CHECK(layout.grid_rows == ranks[i] && layout.grid_cols == 1); /* one column while the target fits */
        CHECK(layout.bytes <= machine.memory && layout.batch > 0 && layout.phases >= 4);
        for (int p = 0; p < layout.phases; p++)
            CHECK(layout.phase[p].bytes > work.base && layout.phase[p].bytes <= layout.bytes);
    }
}

/* However many passes a scale takes, they are one phase. */
static void test_statistics(void)
{
    ferry_layout layout, plain;
    ferry_work work = work_of(100000, 100000, 50);
    const ferry_machine machine = {2, 1, 4096 * MIB};
    CHECK(ferry_layout_choose(&plain, &work, &machine, 0, 0, 0) == FERRY_OK);
    work.passes = 40;
    CHECK(ferry_layout_choose(&layout, &work, &machine, 0, 0, 0) == FERRY_OK);
    CHECK(layout.phases == plain.phases + 1 && layout.phases <= FERRY_PHASES);
    CHECK(layout.phase[2].flops > 39 * layout.phase[3].flops);
}

/* The target side is too large for one column: the grid gets more of them. */
static void test_columns(void)
{
    ferry_layout layout, wide;
    const ferry_work work = work_of(200000, 4000000, 50);
    ferry_machine machine = {16, 16, 600 * MIB};
    CHECK(ferry_layout_choose(&layout, &work, &machine, 0, 0, 0) == FERRY_OK);
    CHECK(layout.grid_cols > 1 && layout.grid_rows * layout.grid_cols == 16 && layout.bytes <= machine.memory);
    machine.memory = 16384 * MIB;
    CHECK(ferry_layout_choose(&wide, &work, &machine, 0, 0, 0) == FERRY_OK && wide.bytes <= machine.memory);
    CHECK(ferry_layout_choose(&wide, &work, &machine, 2, 8, 0) == FERRY_OK && wide.grid_cols == 8);
    CHECK(ferry_layout_choose(&wide, &work, &machine, 3, 5, 0) == FERRY_E_ARG && strstr(ferry_error(), "3x5"));
}

/* Panels of wide cells that only save time give way before the run is refused. */
static void test_panels(void)
{
    ferry_layout layout;
    const ferry_work work = work_of(3000, 100000, 350), narrow = work_of(3000, 20000, 50);
    ferry_machine machine = {1, 1, 4096 * MIB};
    CHECK(ferry_layout_choose(&layout, &narrow, &machine, 1, 1, 0) == FERRY_OK && layout.panels == 1);
    CHECK(ferry_layout_choose(&layout, &work, &machine, 1, 1, 0) == FERRY_OK);
    const int most = layout.panels;
    int64_t least = layout.bytes;
    CHECK(most > 2);
    for (machine.memory = least; machine.memory > 0; machine.memory = least - 1) {
        const int before = layout.panels;
        if (ferry_layout_choose(&layout, &work, &machine, 1, 1, 0) != FERRY_OK) break;
        CHECK(layout.panels <= before && layout.bytes <= machine.memory);
        least = layout.bytes;
    }
    CHECK(layout.panels == 1);
}

static void test_refusals(void)
{
    ferry_layout layout;
    const ferry_work work = work_of(1000000, 1000000, 50);
    const ferry_machine small = {2, 1, 300 * MIB}, tiny = {2, 1, 10 * MIB};
    CHECK(ferry_layout_choose(&layout, &work, &small, 0, 0, 0) == FERRY_E_PLAN);
    CHECK(strstr(ferry_error(), "raise --memory to") && strstr(ferry_error(), "or use") &&
          strstr(ferry_error(), "ranks"));
    CHECK(ferry_layout_choose(&layout, &work, &tiny, 0, 0, 0) == FERRY_E_PLAN);
    CHECK(strstr(ferry_error(), "the program alone takes 20.0 MiB"));
}

/* Blocks shrink with the limit, never below one unit, and are what was asked for when that fits. */
static void test_batch(void)
{
    ferry_work work = work_of(1000000, 100000, 50);
    ferry_layout large, small, asked;
    ferry_machine machine = {1, 1, 16384 * MIB};
    work.stream = true;
    work.passes = 1;
    work.row_bytes = 24 * work.targets;
    CHECK(ferry_layout_choose(&large, &work, &machine, 0, 0, 0) == FERRY_OK && large.bytes <= machine.memory);
    machine.memory = 512 * MIB;
    CHECK(ferry_layout_choose(&small, &work, &machine, 0, 0, 0) == FERRY_OK && small.bytes <= machine.memory);
    CHECK(small.batch < large.batch && small.batch >= FERRY_SOURCE_UNIT && small.batch % FERRY_SOURCE_UNIT == 0);
    CHECK(small.room > 0 && small.room < machine.memory);
    CHECK(ferry_layout_choose(&asked, &work, &machine, 0, 0, 48) == FERRY_OK && asked.batch == 48);
    CHECK(ferry_layout_choose(&asked, &work, &machine, 0, 0, 100000) == FERRY_E_PLAN);
    CHECK(strstr(ferry_error(), "lower --batch-size to"));
}

static void test_threads(void)
{
    ferry_layout layout;
    const ferry_work work = work_of(100000, 1000000, 10);
    const ferry_machine machine = {1, 1, 840 * MIB};
    cost.threads = 16; /* sixteen panels of a million columns are too much, one is not */
    CHECK(ferry_layout_choose(&layout, &work, &machine, 0, 0, 0) == FERRY_E_PLAN);
    CHECK(strstr(ferry_error(), "lower --threads to 1"));
    cost.threads = 1;
    CHECK(ferry_layout_choose(&layout, &work, &machine, 0, 0, 0) == FERRY_OK);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    test_fits();
    test_statistics();
    test_columns();
    test_panels();
    test_refusals();
    test_batch();
    test_threads();
    return test_end();
}

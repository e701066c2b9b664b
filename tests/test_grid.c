/* Every grid of the ranks, with nodes of two ranks: who holds and who brings which rows. */
#define _GNU_SOURCE /* setenv */
#include "mpi/grid.h"
#include "test.h"
#include <stdlib.h>
#include <string.h>

static void grid(const ferry_world *world, int rows, int cols, int64_t sources, int64_t targets)
{
    ferry_grid g;
    CHECK(ferry_grid_open(&g, world, rows, cols, sources, targets) == FERRY_OK);
    CHECK(g.row == world->rank / cols && g.col == world->rank % cols);
    CHECK(g.across.size == cols && g.across.rank == g.col && g.down.size == rows && g.down.rank == g.row);
    CHECK(g.source.parts == rows && g.source.blocks.unit == FERRY_SOURCE_UNIT);
    CHECK(g.target.parts == cols && g.target.blocks.unit == FERRY_TARGET_UNIT);
    CHECK(g.source_first == g.source.first[g.row] && g.target_first == g.target.first[g.col]);
    CHECK(ferry_total(&g.down, g.source_rows) == sources); /* a grid column holds all source rows */
    CHECK(ferry_total(&g.across, g.target_rows) == targets);
    CHECK(ferry_max(&g.across, g.source_first) == ferry_min(&g.across, g.source_first));

    /* the sharers are the ranks of my node in my grid column, and together they bring its target rows, whole blocks */
    CHECK(g.sharing.size == g.down.node_size && g.sharing.nodes == 1);
    CHECK(ferry_max(&g.sharing, g.col) == g.col && ferry_min(&g.sharing, g.col) == g.col);
    CHECK(ferry_max(&g.sharing, world->rank / 2) == world->rank / 2);
    CHECK(ferry_min(&g.sharing, world->rank / 2) == world->rank / 2);
    CHECK(ferry_total(&g.sharing, g.bring_rows) == g.target_rows);
    CHECK(g.bring_first == g.target_first + ferry_before(&g.sharing, g.bring_rows));
    CHECK(ferry_block_first(&g.target.blocks, g.bring_block) == g.bring_first);
    CHECK(ferry_block_first(&g.target.blocks, g.bring_block + g.bring_blocks) == g.bring_first + g.bring_rows);
    CHECK(ferry_max(&g.sharing, g.bring_blocks) - ferry_min(&g.sharing, g.bring_blocks) <= 1);
    ferry_grid_close(&g);
    CHECK(g.source.block == NULL && g.across.size == 0);
    ferry_grid_close(&g);
}

/* Every allocation and meeting of ferry_grid_open fails once on one rank. */
static void failures(const ferry_world *world, const char *variable)
{
    int failed = 0, clean = 0;
    for (int n = 1; n < 20 && !clean; n++) {
        char plan[32];
        ferry_grid g;
        snprintf(plan, sizeof plan, "%d:%d", n, world->size - 1);
        setenv(variable, plan, 1);
        ferry_status status = ferry_grid_open(&g, world, 1, world->size, 1000, 1000);
        unsetenv(variable);
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        clean = status == FERRY_OK;
        failed += !clean;
        if (!clean) CHECK(g.source.block == NULL && g.across.size == 0);
        ferry_grid_close(&g);
    }
    CHECK(clean && failed > 0);
}

int main(int argc, char **argv)
{
    setenv("FERRY_RANKS_PER_NODE", "2", 1);
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    CHECK(world.nodes == (world.size + 1) / 2 && world.node_rank == world.rank % 2);
    const int64_t sizes[][2] = {{0, 0}, {1, 1}, {100, 70}, {27627, 28029}, {3, 9999}};
    for (int rows = 1; rows <= world.size; rows++)
        for (int i = 0; i < 5 && world.size % rows == 0; i++)
            grid(&world, rows, world.size / rows, sizes[i][0], sizes[i][1]);
    ferry_grid g;
    CHECK(ferry_grid_open(&g, &world, 2, world.size, 10, 10) == FERRY_E_ARG && strstr(ferry_error(), "--grid"));
    CHECK(ferry_grid_open(&g, &world, 0, 1, 10, 10) == FERRY_E_ARG);
    CHECK(ferry_grid_open(&g, &world, world.size, 1, -1, 10) == FERRY_E_ARG);
    failures(&world, "FERRY_FAIL_ALLOC");
    failures(&world, "FERRY_FAIL");
    ferry_world_close(&world);
    return test_end();
}

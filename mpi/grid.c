#include "mpi/grid.h"
#include <string.h>

/* Local. */
static ferry_status cut(ferry_grid *out, int64_t sources, int64_t targets)
{
    FERRY_TRY(ferry_shards_open(&out->source, sources, FERRY_SOURCE_UNIT, out->rows));
    FERRY_TRY(ferry_shards_open(&out->target, targets, FERRY_TARGET_UNIT, out->cols));
    const ferry_shards *source = &out->source, *target = &out->target;
    out->source_first = source->first[out->row];
    out->source_rows = source->first[out->row + 1] - out->source_first;
    out->target_first = target->first[out->col];
    out->target_rows = target->first[out->col + 1] - out->target_first;
    return FERRY_OK;
}

/* The blocks of this grid column, shared out evenly among the ranks that hold one copy. */
static void share(ferry_grid *out)
{
    const ferry_shards *target = &out->target;
    const int64_t first = target->block[out->col], count = target->block[out->col + 1] - first;
    const int rank = out->sharing.rank, ranks = out->sharing.size;
    int from = (int)(first + count * rank / ranks), to = (int)(first + count * (rank + 1) / ranks);
    out->bring_block = from;
    out->bring_blocks = to - from;
    out->bring_first = ferry_block_first(&target->blocks, from);
    out->bring_rows = ferry_block_first(&target->blocks, to) - out->bring_first;
}

ferry_status ferry_grid_open(ferry_grid *out, const ferry_world *world, int rows, int cols, int64_t sources,
                             int64_t targets)
{
    memset(out, 0, sizeof *out);
    const int64_t shape[4] = {rows, cols, sources, targets};
    FERRY_TRY(ferry_same(world, "the grid", shape, sizeof shape));
    if (rows < 1 || cols < 1 || (int64_t)rows * cols != world->size)
        return ferry_fail(FERRY_E_ARG,
                          "a grid of %d x %d needs %lld ranks, there are %d: choose --grid so that rows x "
                          "columns is the number of ranks",
                          rows, cols, (long long)rows * cols, world->size);
    out->world = world;
    out->rows = rows;
    out->cols = cols;
    out->row = world->rank / cols;
    out->col = world->rank % cols;
    ferry_status status = ferry_agree(world, cut(out, sources, targets));
    if (status != FERRY_OK) {
        ferry_grid_close(out);
        return status;
    }
    ferry_world_split(&out->across, world, out->row, out->col);
    ferry_world_split(&out->down, world, out->col, out->row);
    ferry_world_open(&out->sharing, out->down.node);
    share(out);
    return FERRY_OK;
}

void ferry_grid_close(ferry_grid *grid)
{
    ferry_world_close(&grid->sharing);
    ferry_world_close(&grid->down);
    ferry_world_close(&grid->across);
    ferry_shards_close(&grid->target);
    ferry_shards_close(&grid->source);
    memset(grid, 0, sizeof *grid);
}

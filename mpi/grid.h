/** grid.h - the Pr x Pc process grid: rank (r, c) holds source rows of grid row r and target rows of grid column c. */
#ifndef FERRY_GRID_H
#define FERRY_GRID_H
#include "mpi/shard.h"
FERRY_BEGIN
typedef struct ferry_grid {
    const ferry_world *world; /* borrowed */
    int rows, cols;           /* Pr, Pc; rows * cols = world->size */
    int row, col;             /* of this rank; rank = row * cols + col */
    ferry_world across;       /* the Pc ranks of this grid row, in column order */
    ferry_world down;         /* the Pr ranks of this grid column, in row order */
    ferry_world sharing;      /* the ranks of this node in this grid column: they hold one copy of the target side */
    ferry_shards source;      /* source rows over grid rows, unit FERRY_SOURCE_UNIT */
    ferry_shards target;      /* target rows over grid columns, unit FERRY_TARGET_UNIT */
    int64_t source_first, source_rows; /* of this rank */
    int64_t target_first, target_rows; /* of this rank's grid column */
    int64_t bring_first, bring_rows;   /* the target rows (whole blocks) that this rank reads into the shared copy */
    int bring_block, bring_blocks;     /* the same in canonical target blocks */
} ferry_grid;
/** Collective. FERRY_E_ARG unless rows * cols is the number of ranks. Close with ferry_grid_close. */
FERRY_API ferry_status ferry_grid_open(ferry_grid *out, const ferry_world *world, int rows, int cols, int64_t sources,
                                       int64_t targets);
/** Collective. */
FERRY_API void ferry_grid_close(ferry_grid *grid);
FERRY_END
#endif

/** shard.h - which rank holds which rows. Rows are cut into canonical blocks that depend on the number of rows alone;
 *  shards are whole blocks; so sums over blocks come out with the same bits for every number of ranks (reduce.h). */
#ifndef FERRY_SHARD_H
#define FERRY_SHARD_H
#include "mpi/world.h"
FERRY_BEGIN
#define FERRY_SOURCE_UNIT 24 /* source rows of a tile: blocks of source rows begin at multiples of it */
#define FERRY_TARGET_UNIT 32 /* target columns of a tile */

/** The canonical cut of `rows` rows: `count` (a power of two) blocks of nearly equal length, each beginning at a
 *  multiple of `unit`. With T = ceil(rows / unit) units: count = the largest power of two <= min(T, max(64, T / 32)),
 * at least 1; block b begins at unit floor(b T / count). */
typedef struct ferry_blocks {
    int64_t rows;
    int unit, count;
} ferry_blocks;
/** Local. */
FERRY_API ferry_blocks ferry_blocks_of(int64_t rows, int unit);
/** Local. First row of block b; rows for b = count. */
FERRY_API int64_t ferry_block_first(const ferry_blocks *blocks, int b);

/** Which part holds which blocks. Cuts are as even as blocks allow, moved by at most 1/16 of a share to a block number
 *  with many factors of two, so that a part is few subtrees of the adjacent-pair tree. */
typedef struct ferry_shards {
    ferry_blocks blocks;
    int parts;
    int *block;     /* [parts + 1] first block of each part */
    int64_t *first; /* [parts + 1] first row of each part */
} ferry_shards;
/** Local. The same on every rank. Close with ferry_shards_close. */
FERRY_API ferry_status ferry_shards_open(ferry_shards *out, int64_t rows, int unit, int parts);
FERRY_API void ferry_shards_close(ferry_shards *shards);
/** Local. The part that holds row. */
FERRY_API int ferry_shards_owner(const ferry_shards *shards, int64_t row);

typedef enum ferry_precision { FERRY_FLOAT = 0, FERRY_DOUBLE = 1 } ferry_precision;
/** Rows held by this rank, dense and row-major. One of f and d is set. */
typedef struct ferry_matrix {
    int64_t rows;
    int dim;
    float *f;  /* [rows, dim] */
    double *d; /* [rows, dim], for --precision double */
} ferry_matrix;
/** Local. Zeroed rows; close with ferry_matrix_close. */
FERRY_API ferry_status ferry_matrix_open(ferry_matrix *out, int64_t rows, int dim, ferry_precision precision);
FERRY_API void ferry_matrix_close(ferry_matrix *matrix);
FERRY_END
#endif

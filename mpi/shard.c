/* Blocks depend on the number of rows alone, parts are whole blocks. */
#include "mpi/shard.h"
#include "mpi/memory.h"
#include <string.h>

#define MOST_BLOCKS (1 << 30) /* block numbers are int; reached above 2^40 rows */

static int64_t units_of(int64_t rows, int unit)
{
    return rows / unit + (rows % unit != 0);
}

ferry_blocks ferry_blocks_of(int64_t rows, int unit)
{
    int64_t units = units_of(rows, unit), most = units / 32 > 64 ? units / 32 : 64;
    if (most > units) most = units;
    int count = 1;
    while (count < MOST_BLOCKS && (int64_t)count * 2 <= most) count *= 2;
    return (ferry_blocks){rows, unit, count};
}

int64_t ferry_block_first(const ferry_blocks *blocks, int b)
{
    int64_t units = units_of(blocks->rows, blocks->unit), count = blocks->count;
    int64_t unit = units / count * b + units % count * b / count; /* floor(b units / count) without overflow */
    return b < blocks->count && unit * blocks->unit < blocks->rows ? unit * blocks->unit : blocks->rows;
}

static int factors_of_two(int n)
{
    return n ? __builtin_ctz((unsigned)n) : 31;
}

/* The even cut before part p, moved to the number with the most factors of two within a 16th of a share. There is
 * only one: between two multiples of 2^k lies a multiple of 2^(k+1) or they are neighbours of one. */
static int cut(int count, int parts, int p)
{
    int even = (int)((int64_t)count * p / parts), slack = count / parts / 16, best = even;
    for (int b = even - slack; b <= even + slack; b++) {
        int more = factors_of_two(b) - factors_of_two(best);
        if (more > 0 || (more == 0 && abs(b - even) < abs(best - even))) best = b;
    }
    return best;
}

ferry_status ferry_shards_open(ferry_shards *out, int64_t rows, int unit, int parts)
{
    memset(out, 0, sizeof *out);
    if (rows < 0 || unit < 1 || parts < 1)
        return ferry_fail(FERRY_E_ARG, "cannot cut %lld rows in units of %d into %d parts", (long long)rows, unit,
                          parts);
    FERRY_AUTO int *block = NULL;
    FERRY_AUTO int64_t *first = NULL;
    FERRY_TRY(ferry_alloc(&block, parts + 1));
    FERRY_TRY(ferry_alloc(&first, parts + 1));
    out->blocks = ferry_blocks_of(rows, unit);
    out->parts = parts;
    for (int p = 0; p <= parts; p++) {
        block[p] = p == 0 ? 0 : p == parts ? out->blocks.count : cut(out->blocks.count, parts, p);
        first[p] = ferry_block_first(&out->blocks, block[p]);
    }
    out->block = block;
    out->first = first;
    block = NULL;
    first = NULL;
    return FERRY_OK;
}

void ferry_shards_close(ferry_shards *shards)
{
    free(shards->block);
    free(shards->first);
    memset(shards, 0, sizeof *shards);
}

int ferry_shards_owner(const ferry_shards *shards, int64_t row)
{
    int low = 0, high = shards->parts - 1; /* the last part that begins at or before row: empty parts begin there too */
    while (low < high) {
        int middle = low + (high - low + 1) / 2;
        if (shards->first[middle] <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

ferry_status ferry_matrix_open(ferry_matrix *out, int64_t rows, int dim, ferry_precision precision)
{
    *out = (ferry_matrix){.rows = rows, .dim = dim};
    if (rows < 0 || dim < 0) return ferry_fail(FERRY_E_ARG, "a matrix of %lld x %d", (long long)rows, dim);
    if (precision == FERRY_DOUBLE) return ferry_alloc_bytes(&out->d, rows, (size_t)dim * sizeof(double));
    return ferry_alloc_bytes(&out->f, rows, (size_t)dim * sizeof(float));
}

void ferry_matrix_close(ferry_matrix *matrix)
{
    free(matrix->f);
    free(matrix->d);
    memset(matrix, 0, sizeof *matrix);
}

/** tall.h - tall blocks of vectors whose rows are dealt over the ranks by shards: products, and orthonormal columns.
 *
 *  Sums over rows go by canonical blocks, and nothing is left to the compiler or a library, so results have the same
 *  bits for any number of ranks and on any CPU. */
#ifndef FERRY_TALL_H
#define FERRY_TALL_H
#include "mpi/reduce.h"
FERRY_BEGIN
/** How rows are dealt: rank r holds rows shards->first[r] ... of all. Borrowed. */
typedef struct ferry_tall {
    const ferry_world *world;
    const ferry_shards *shards; /* parts = world->size */
} ferry_tall;
/** Columns of a row-major array: row i is x[i * stride] ... x[i * stride + columns - 1]. */
typedef struct ferry_panel {
    double *x;
    int64_t stride;
    int columns;
} ferry_panel;

/** Local. Rows of this rank. */
static inline int64_t ferry_tall_rows(const ferry_tall *tall)
{
    return tall->shards->first[tall->world->rank + 1] - tall->shards->first[tall->world->rank];
}
/** Collective. out [a.columns][b.columns] = A^T B over all rows, on every rank. */
FERRY_API ferry_status ferry_tall_gram(double *out, const ferry_tall *tall, ferry_panel a, ferry_panel b);
/** Local. A -= V C, c [v.columns][a.columns]. */
FERRY_API void ferry_tall_subtract(ferry_panel a, ferry_panel v, const double *c, int64_t rows);
/** Local. A = V C, c [v.columns][a.columns]; A may be the first columns of V. FERRY_E_MEM. */
FERRY_API ferry_status ferry_tall_rotate(ferry_panel a, ferry_panel v, const double *c, int64_t rows);
/** Local. Random columns of length about 1, by seed, stream, row and column. */
FERRY_API void ferry_tall_random(ferry_panel a, const ferry_tall *tall, uint64_t seed, uint64_t stream);
/** Collective. Columns of A become orthonormal, and orthogonal to those of V (orthonormal; 0 columns is fine), spanning
 *  what they spanned beside V. Columns that add nothing (shorter than `tiny`, or NaN) become random ones by seed and
 *  stream. v.columns + a.columns is at most the number of rows. */
FERRY_API ferry_status ferry_tall_orthonormal(ferry_panel a, const ferry_tall *tall, ferry_panel v, double tiny,
                                              uint64_t seed, uint64_t stream);
FERRY_END
#endif

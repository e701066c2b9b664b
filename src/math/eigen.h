/** eigen.h - eigenvalues of dense symmetric matrices: small ones whole on one rank (LAPACK), large ones dealt over a
 *  grid of ranks in square blocks, cyclically (ScaLAPACK). The libraries work with one thread a rank. */
#ifndef FERRY_EIGEN_H
#define FERRY_EIGEN_H
#include "mpi/shard.h"
#include <stdbool.h>
FERRY_BEGIN
#define FERRY_DENSE_ALONE 1024 /* rows up to which one rank works for all: the same bits for any number of ranks */

/** Local. a [n][n] symmetric -> row i is the eigenvector of value[i], ascending. Bits depend on the CPU.
 * FERRY_E_NUMERIC with NaN or infinity. */
FERRY_API ferry_status ferry_eigen(double *value, double *a, int n);
/** Collective. The same of rank 0's a, on every rank, with the same bits. */
FERRY_API ferry_status ferry_eigen_shared(double *value, double *a, const ferry_world *world, int n);

/** A symmetric matrix over a grid of ranks. */
typedef struct ferry_cyclic {
    int64_t n;
    int block;       /* rows and columns of a block */
    int grid[2];     /* ranks of the grid: rows, columns; ranks beyond take no part */
    int at[2];       /* of this rank; -1 beyond */
    int64_t here[2]; /* rows and columns of this rank */
    double *a;       /* [columns here][rows here] */
    const ferry_world *world;
} ferry_cyclic;
/** Collective. Zeros. alone: up to so many rows on one rank (FERRY_DENSE_ALONE). Close with ferry_cyclic_close. */
FERRY_API ferry_status ferry_cyclic_open(ferry_cyclic *out, const ferry_world *world, int64_t n, int64_t alone);
FERRY_API void ferry_cyclic_close(ferry_cyclic *cyclic);
/** Local. Bytes of the rank with most, while its eigenvectors are found and taken. */
FERRY_API int64_t ferry_cyclic_bytes(int64_t n, int ranks);
typedef struct ferry_cyclic_entry {
    int32_t row, column;
    double value;
} ferry_cyclic_entry;
/** Collective. Entries from anywhere are added at their places; both triangles must come. */
FERRY_API ferry_status ferry_cyclic_add(ferry_cyclic *cyclic, const ferry_cyclic_entry *entry, int64_t count);
/** Collective. value [n] ascending, on every rank; the matrix becomes the eigenvectors, column i that of value[i].
 *  Beyond one rank the last bits depend on the grid. */
FERRY_API ferry_status ferry_cyclic_eigen(double *value, ferry_cyclic *cyclic);
/** Collective. out [rows here][count] = columns `column` (the same on all ranks) of the rows first[rank] ... */
FERRY_API ferry_status ferry_cyclic_take(double *out, const ferry_cyclic *cyclic, const int64_t *first,
                                         const int64_t *column, int64_t count);
FERRY_END
#endif

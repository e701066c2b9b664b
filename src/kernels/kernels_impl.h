/** kernels_impl.h - the tables that a build may hold, and what their bodies agree on (not installed). */
#ifndef FERRY_KERNELS_IMPL_H
#define FERRY_KERNELS_IMPL_H
#include "kernels/kernels.h"
#include "mpi/shard.h"
#define ROWS        FERRY_SOURCE_UNIT
#define COLUMNS     FERRY_TARGET_UNIT
#define TILE        (ROWS * COLUMNS) /* entries of one unit of a panel buffer */
#define LEAST_SCORE -1e4F            /* stands for exponents below it in sums of p s */
#define FLUSH_UNITS 16               /* a lane adds 16 units of a call in float32, then joins its float64 sum */

extern const ferry_kernels ferry_kernels_generic, ferry_kernels_avx2, ferry_kernels_avx512;
#endif

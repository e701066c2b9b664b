/** world_impl.h - what the files of mpi/ share about the first world, not for users. */
#ifndef FERRY_WORLD_IMPL_H
#define FERRY_WORLD_IMPL_H
#include "mpi/world.h"
/** Bytes of one MPI call at most: counts of MPI 3 are int, and pieces this large lose nothing. */
#define FERRY_PIECE ((int64_t)1 << 30)
/** Local. Rank in the first world that was opened, -1 before: "rank" of FERRY_FAIL and FERRY_FAIL_ALLOC. */
int ferry_base_rank(void);
/** Collective. Elementwise sum of count doubles in place, in MPI's order: other bits for other numbers of ranks. */
void ferry_total_doubles(const ferry_world *world, double *values, int64_t count);
#endif

/** world_impl.h - what the files of mpi/ share about the first world, not for users. */
#ifndef FERRY_WORLD_IMPL_H
#define FERRY_WORLD_IMPL_H
#include "mpi/world.h"
/** Bytes of one MPI call at most: counts of MPI 3 are int, and pieces this large lose nothing. */
#define FERRY_PIECE ((int64_t)1 << 30)
/** A failure planned for a test: the n-th call on one rank, "<n>:<rank>" in the environment. A new text counts anew. */
struct ferry_planned {
    char text[32];
    long calls;
};
/** Local. Count a call; n if this is the one that must fail, else 0. */
long ferry_planned_now(struct ferry_planned *planned, const char *variable);
/** Collective. Elementwise sum of count doubles in place, in MPI's order: other bits for other numbers of ranks. */
void ferry_total_doubles(const ferry_world *world, double *values, int64_t count);
#endif

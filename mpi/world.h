/** world.h - the ranks that work together on one problem, and their meetings. */
#ifndef FERRY_WORLD_H
#define FERRY_WORLD_H
#include "mpi/error.h"
#include <mpi.h>
#include <stddef.h>
#include <stdint.h>
FERRY_BEGIN

typedef struct ferry_world {
    MPI_Comm comm; /* our own duplicate */
    int rank, size;
    MPI_Comm node; /* the ranks that share memory with this one */
    int node_rank, node_size;
    int nodes; /* number of nodes */
} ferry_world;

/** Collective. Duplicates comm; close with ferry_world_close. FERRY_RANKS_PER_NODE=<n> in the environment makes n ranks
 *  a node, for tests. */
FERRY_API ferry_status ferry_world_open(ferry_world *out, MPI_Comm comm);
/** Collective. Split as MPI_Comm_split does: ranks of one color, ordered by key. Close like any world. */
FERRY_API ferry_status ferry_world_split(ferry_world *out, const ferry_world *world, int color, int key);
/** Collective. A closed or zeroed world is fine. */
FERRY_API void ferry_world_close(ferry_world *world);

/** Collective. Every rank passes its own status and gets the worst one; on failure every rank also gets the message of
 *  the first rank with that status. One small allreduce when all is well (MINLOC), call it before each collective.
 *  FERRY_FAIL=<n>:<rank> in the environment makes the n-th meeting (from 1) fail on one rank, for tests. */
FERRY_API ferry_status ferry_agree(const ferry_world *world, ferry_status mine);
#ifdef __clang_analyzer__ /* which does not see that the worst status covers one's own */
static inline ferry_status ferry_agree_seen(const ferry_world *world, ferry_status mine)
{
    const ferry_status all = ferry_agree(world, mine);
    return mine != FERRY_OK ? mine : all;
}
#define ferry_agree(world, mine) ferry_agree_seen((world), (mine))
#endif
/** Local, does not return. For a rank that cannot reach the next meeting: message, then MPI_Abort with the exit code.
 */
FERRY_API void ferry_abort(const ferry_world *world, ferry_status why) __attribute__((noreturn));

/** Local. "Open MPI v4.1.4": the library that is loaded. */
FERRY_API const char *ferry_mpi_version(void);

/** Collective. Bytes of root to all; any size_t length. */
FERRY_API void ferry_broadcast(const ferry_world *world, void *data, size_t bytes, int root);
/** Collective. The largest, smallest, sum of one number per rank. */
FERRY_API int64_t ferry_max(const ferry_world *world, int64_t mine);
FERRY_API int64_t ferry_min(const ferry_world *world, int64_t mine);
FERRY_API int64_t ferry_total(const ferry_world *world, int64_t mine);
FERRY_API double ferry_max_double(const ferry_world *world, double mine);
/** Collective. Sum of the numbers of the ranks before this one (0 on rank 0). */
FERRY_API int64_t ferry_before(const ferry_world *world, int64_t mine);
/** Collective. Elementwise largest of count doubles, in place (exact, so the same for any number of ranks). */
FERRY_API void ferry_max_doubles(const ferry_world *world, double *values, int64_t count);
/** Collective. Elementwise sum of count integers, in place. */
FERRY_API void ferry_total_counts(const ferry_world *world, int64_t *values, int64_t count);
FERRY_API void ferry_barrier(const ferry_world *world);
/** Collective. A barrier for long waits: ranks that are early sleep, a millisecond at a time, and leave their core to
 * the others. */
FERRY_API void ferry_barrier_asleep(const ferry_world *world);
/** Collective in safe mode (FERRY_SAFE=1 in the environment), otherwise nothing. FERRY_E_ARG on all ranks, naming
 * `what`, when the bytes differ between ranks: collective arguments must be equal. */
FERRY_API ferry_status ferry_same(const ferry_world *world, const char *what, const void *data, size_t bytes);
FERRY_END
#endif

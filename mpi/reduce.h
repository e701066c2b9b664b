/** reduce.h - sums over all rows with the same bits for any number of ranks and threads.
 *
 *  Every canonical block of rows (shard.h) gives one vector of float64 partial sums. They are added by the
 * adjacent-pair tree: blocks 2k and 2k+1, then their sums, and so on. A rank (or a thread) owns a run of blocks, so it
 * can form the subtrees that lie inside the run; the few roots left are exchanged (each rank adds one slice of the
 * vector for all ranks, then the slices are gathered). Only data moves in MPI; the order of additions is fixed.
 *
 * A reduction can go on while its rank computes: ferry_forest_start, ferry_forest_progress now and then,
 * ferry_forest_finish. Over one world one reduction at a time. */
#ifndef FERRY_REDUCE_H
#define FERRY_REDUCE_H
#include "mpi/shard.h"
#include <stdbool.h>
FERRY_BEGIN
/** How two nodes are joined. FERRY_JOIN_LSE: the vector holds pairs of halves, width/2 exponents M (log2) then width/2
 *  sums S, meaning S * 2^M; joined at the larger M. Empty is M = -inf, S = 0. */
typedef enum ferry_join { FERRY_JOIN_SUM = 0, FERRY_JOIN_LSE = 1, FERRY_JOIN_MAX = 2 } ferry_join;
typedef enum ferry_reduction { FERRY_REDUCE_TREE = 0, FERRY_REDUCE_MPI = 1 } ferry_reduction;

/** Subtree roots of a run of blocks; at most 2 log2(blocks) vectors are alive. Not thread-safe: one per thread. */
typedef struct ferry_forest ferry_forest;
/** Local. Vectors of `width` doubles over a tree of `blocks` leaves (a power of two). Close with ferry_forest_close. */
FERRY_API ferry_status ferry_forest_open(ferry_forest **out, int64_t width, int blocks, ferry_join join);
FERRY_API void ferry_forest_close(ferry_forest **forest);
/** Local. *leaf = an empty vector (zeros; -inf for a maximum; M = -inf, S = 0) for the next block, owned by the forest;
 * fill it, then ferry_forest_add. Blocks come in any order, each at most once. */
FERRY_API ferry_status ferry_forest_leaf(double **leaf, ferry_forest *forest);
/** Local. The leaf is complete: it becomes block `block` of the tree and joins its sibling when that is there. */
FERRY_API void ferry_forest_add(ferry_forest *forest, int block);
/** Local. All nodes of `from` move into `into`; from is empty after. */
FERRY_API void ferry_forest_merge(ferry_forest *into, ferry_forest *from);
/** Local. Complete tree on one rank: out [width] = the root (missing blocks count as empty). The forest is empty after.
 */
FERRY_API void ferry_forest_root(double *out, ferry_forest *forest);
/** Local. Says what will come: the ranks of `world` (borrowed) hold the blocks of `shards`, part = rank, and each adds
 *  all of its own before a reduction. Then ranks need not tell one another what they have, and the memory is taken
 * here: ferry_forest_leaf cannot fail while blocks come in order, ferry_forest_reduce cannot fail. FERRY_E_MEM: agree
 * on it. */
FERRY_API ferry_status ferry_forest_expect(ferry_forest *forest, const ferry_shards *shards, const ferry_world *world);
/** Collective. out [width] = the root over all ranks' blocks, the same bits on every rank; the forest is empty after.
 *  FERRY_REDUCE_MPI uses MPI_Allreduce for sums and maxima instead (other bits for other numbers of ranks).
 *  Bytes given to MPI: 16 (P-1)/P width per rank where P is a power of two and blocks are shared evenly, else up to
 * that times the roots of this rank (reduce_ranks.c). Allocation failures are agreed. */
FERRY_API ferry_status ferry_forest_reduce(double *out, ferry_forest *forest, const ferry_world *world,
                                           ferry_reduction how);
/** Collective, of a forest that knows what to expect, over that world: begins a reduction into out [width], which, like
 *  the forest, is left alone until ferry_forest_finish. */
FERRY_API void ferry_forest_start(double *out, ferry_forest *forest, ferry_reduction how);
/** Local, by the thread that started MPI. Lets it go on; true when out is complete. */
FERRY_API bool ferry_forest_progress(ferry_forest *forest);
/** Collective. out is complete, the forest empty. */
FERRY_API void ferry_forest_finish(ferry_forest *forest);
/** Local. Complete subtrees of the blocks of a part: vectors that it sends. */
FERRY_API int64_t ferry_forest_roots(const ferry_shards *shards, int part);
#define FERRY_FOREST_WHOLE 256 /* numbers up to which ranks swap whole vectors: a message costs more */
/** Local. Bytes of a forest at its largest when it sees a run of `mine` of `blocks` blocks in order, with what
 *  ferry_forest_reduce adds. */
FERRY_API int64_t ferry_forest_bytes(int64_t width, int blocks, int mine);
FERRY_END
#endif

/** exchange.h - moving data between ranks with 64-bit counts. Data movement only: no arithmetic, so no rounding. */
#ifndef FERRY_EXCHANGE_H
#define FERRY_EXCHANGE_H
#include "mpi/world.h"
FERRY_BEGIN
/** Collective. Rank r gets send_counts[r] elements of `size` bytes from each rank's `send` (parts in rank order,
 * packed); recv holds what came, in rank order. Counts of the receiving side must be known: ferry_exchange_counts. Any
 * length. */
FERRY_API void ferry_exchange(const ferry_world *world, const void *send, const int64_t *send_counts, void *recv,
                              const int64_t *recv_counts, size_t size);
/** Collective. recv_counts[r] = what rank r will send here. */
FERRY_API void ferry_exchange_counts(const ferry_world *world, const int64_t *send_counts, int64_t *recv_counts);
/** Collective. counts[r] elements of every rank r, concatenated in rank order, on all ranks (counts equal everywhere).
 */
FERRY_API void ferry_gather_all(const ferry_world *world, const void *mine, const int64_t *counts, void *all,
                                size_t size);
/** Collective. counts[r] elements of every rank r, concatenated in rank order, on root only (all may be NULL
 * elsewhere). */
FERRY_API void ferry_gather(const ferry_world *world, const void *mine, const int64_t *counts, void *all, size_t size,
                            int root);
FERRY_END
#endif

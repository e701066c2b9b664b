/** fetch.h - records of an array that is dealt over the ranks, asked for by number. */
#ifndef FERRY_FETCH_H
#define FERRY_FETCH_H
#include "mpi/shard.h"
FERRY_BEGIN
/** Collective. out [count] = records `wanted` (any order, repeats are fine) of `size` bytes; rank r holds records
 *  first[r] ... first[r + 1] - 1 (first [ranks + 1]) of the whole array in `mine`. Failures to allocate are agreed. */
FERRY_API ferry_status ferry_fetch(void *out, const ferry_world *world, const int64_t *first, const void *mine,
                                   size_t size, const int64_t *wanted, int64_t count);
/** Reads record i, counted from this rank's first, into `to`. */
typedef void (*ferry_record_of)(void *to, const void *self, int64_t i);
/** Collective. The same where records are not stored one after the other: get(to, self, i) makes one. */
FERRY_API ferry_status ferry_fetch_from(void *out, const ferry_world *world, const int64_t *first, ferry_record_of get,
                                        const void *self, size_t size, const int64_t *wanted, int64_t count);
/** Collective. The same for records of different lengths: record i of this rank is mine[start[i]] ... mine[start[i + 1]
 *  - 1], elements of `size` bytes. *starts [count + 1] and *out are the caller's, free with free(). */
FERRY_API ferry_status ferry_fetch_rows(int64_t **starts, void **out, const ferry_world *world, const int64_t *first,
                                        const int64_t *start, const void *mine, size_t size, const int64_t *wanted,
                                        int64_t count);
/** Collective. Records (key, payload of `size` bytes) go to the rank that holds `key`: *keys and *payloads [*received],
 *  in the order of the sending ranks, and of each rank in its order; free both with free(). */
FERRY_API ferry_status ferry_deliver(int64_t **keys, void **payloads, int64_t *received, const ferry_world *world,
                                     const int64_t *first, const int64_t *key, const void *payload, size_t size,
                                     int64_t count);
FERRY_END
#endif

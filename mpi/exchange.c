/* Rounds of send and receive: in round k rank r sends to r + k and hears from r - k. Nothing is allocated and each pair
 * meets in the same round, so there is no way to fail or to wait in a circle. Pieces keep every MPI count an int. */
#include "mpi/exchange.h"
#include "mpi/stage.h"
#include "mpi/world_impl.h"
#include <string.h>

#define TAG         17
#define SMALL_WORLD 1024 /* ranks whose counts fit on the stack, for MPI's own gather */

static size_t bytes_before(const int64_t *counts, int rank, size_t size)
{
    int64_t sum = 0;
    for (int r = 0; r < rank; r++) sum += counts[r];
    return (size_t)sum * size;
}

static int piece_at(size_t at, size_t bytes)
{
    if (at >= bytes) return 0;
    return bytes - at < (size_t)FERRY_PIECE ? (int)(bytes - at) : (int)FERRY_PIECE;
}

/* One round. Both sides know the length, so an empty piece needs no message. */
static void swap(const ferry_world *world, const char *send, size_t send_bytes, int to, char *recv, size_t recv_bytes,
                 int from)
{
    size_t longest = send_bytes > recv_bytes ? send_bytes : recv_bytes;
    for (size_t at = 0; at < longest; at += (size_t)FERRY_PIECE) {
        int out = piece_at(at, send_bytes), in = piece_at(at, recv_bytes);
        if (out) ferry_stage_sent(out);
        MPI_Sendrecv(out ? send + at : NULL, out, MPI_BYTE, out ? to : MPI_PROC_NULL, TAG, in ? recv + at : NULL, in,
                     MPI_BYTE, in ? from : MPI_PROC_NULL, TAG, world->comm, MPI_STATUS_IGNORE);
    }
}

void ferry_exchange(const ferry_world *world, const void *send, const int64_t *send_counts, void *recv,
                    const int64_t *recv_counts, size_t size)
{
    const int me = world->rank, ranks = world->size;
    if (send_counts[me])
        memcpy((char *)recv + bytes_before(recv_counts, me, size),
               (const char *)send + bytes_before(send_counts, me, size), (size_t)send_counts[me] * size);
    for (int k = 1; k < ranks; k++) {
        int to = (me + k) % ranks, from = (me - k + ranks) % ranks;
        size_t out = (size_t)send_counts[to] * size, in = (size_t)recv_counts[from] * size;
        swap(world, out ? (const char *)send + bytes_before(send_counts, to, size) : NULL, out, to,
             in ? (char *)recv + bytes_before(recv_counts, from, size) : NULL, in, from);
    }
}

void ferry_exchange_counts(const ferry_world *world, const int64_t *send_counts, int64_t *recv_counts)
{
    if (world->size > 1) ferry_stage_sent((int64_t)sizeof *send_counts * world->size);
    MPI_Alltoall(send_counts, 1, MPI_INT64_T, recv_counts, 1, MPI_INT64_T, world->comm);
}

static void gather_small(const ferry_world *world, const void *mine, const int64_t *counts, void *all, size_t size)
{
    int bytes[SMALL_WORLD], at[SMALL_WORLD], sum = 0;
    for (int r = 0; r < world->size; r++) {
        bytes[r] = (int)((size_t)counts[r] * size);
        at[r] = sum;
        sum += bytes[r];
    }
    const int here = (int)((size_t)counts[world->rank] * size);
    if (world->size > 1 && here) ferry_stage_sent(here);
    MPI_Allgatherv(mine, here, MPI_BYTE, all, bytes, at, MPI_BYTE, world->comm);
}

/* A ring: every part goes once around, each link carries it once. */
static void gather_ring(const ferry_world *world, const int64_t *counts, char *all, size_t size)
{
    const int me = world->rank, ranks = world->size, next = (me + 1) % ranks, previous = (me - 1 + ranks) % ranks;
    for (int k = 0; k + 1 < ranks; k++) {
        int out = (me - k + ranks) % ranks, in = (previous - k + ranks) % ranks;
        swap(world, all + bytes_before(counts, out, size), (size_t)counts[out] * size, next,
             all + bytes_before(counts, in, size), (size_t)counts[in] * size, previous);
    }
}

void ferry_gather_all(const ferry_world *world, const void *mine, const int64_t *counts, void *all, size_t size)
{
    size_t total = bytes_before(counts, world->size, size);
    if (total == 0) return;
    if (world->size <= SMALL_WORLD && total <= (size_t)FERRY_PIECE) {
        gather_small(world, mine, counts, all, size);
        return;
    }
    if (counts[world->rank])
        memcpy((char *)all + bytes_before(counts, world->rank, size), mine, (size_t)counts[world->rank] * size);
    gather_ring(world, counts, all, size);
}

void ferry_gather(const ferry_world *world, const void *mine, const int64_t *counts, void *all, size_t size, int root)
{
    const size_t bytes = (size_t)counts[world->rank] * size;
    if (world->rank != root) {
        swap(world, mine, bytes, root, NULL, 0, MPI_PROC_NULL);
        return;
    }
    for (int r = 0; r < world->size; r++) {
        if (!counts[r]) continue;
        char *place = (char *)all + bytes_before(counts, r, size);
        if (r == root)
            memcpy(place, mine, bytes);
        else
            swap(world, NULL, 0, MPI_PROC_NULL, place, (size_t)counts[r] * size, r);
    }
}

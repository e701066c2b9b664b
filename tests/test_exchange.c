/* Every number carries its origin, its destination and its place, so that a misplaced one is seen. */
#include "mpi/exchange.h"
#include "mpi/memory.h"
#include "test.h"
#include <stdlib.h>

/* How many elements rank a gives to rank b, in several patterns: even, some pairs empty, one large, none at all. */
static int64_t given(int pattern, int a, int b)
{
    switch (pattern) {
    case 0:
        return 5;
    case 1:
        return (a + 2 * b) % 3 * 7;
    case 2:
        return a == 0 && b > 0 ? 100000 + b : 0;
    default:
        return 0;
    }
}

static int64_t *numbers(int64_t count)
{
    int64_t *data;
    if (ferry_alloc(&data, count) == FERRY_OK) return data;
    fprintf(stderr, "%s\n", ferry_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

static int64_t mark(int a, int b, int64_t i)
{
    return ((int64_t)a * 16 + b) * 1000000 + i;
}

static void exchange(const ferry_world *world, int pattern)
{
    const int n = world->size, me = world->rank;
    int64_t send_counts[16], recv_counts[16], sends = 0, recvs = 0, at = 0;
    for (int r = 0; r < n; r++) sends += send_counts[r] = given(pattern, me, r);
    ferry_exchange_counts(world, send_counts, recv_counts);
    for (int r = 0; r < n; r++) {
        CHECK(recv_counts[r] == given(pattern, r, me));
        recvs += recv_counts[r];
    }
    FERRY_AUTO int64_t *send = numbers(sends);
    FERRY_AUTO int64_t *recv = numbers(recvs + 1);
    recv[recvs] = -7;
    for (int r = 0; r < n; r++)
        for (int64_t i = 0; i < send_counts[r]; i++) send[at++] = mark(me, r, i);
    ferry_exchange(world, send, send_counts, recv, recv_counts, sizeof *send);
    at = 0;
    for (int r = 0; r < n; r++)
        for (int64_t i = 0; i < recv_counts[r]; i++) CHECK(recv[at++] == mark(r, me, i));
    CHECK(recv[recvs] == -7);
    if (sends == 0 && recvs == 0) ferry_exchange(world, NULL, send_counts, NULL, recv_counts, sizeof *send);
}

static void gather(const ferry_world *world, int pattern)
{
    const int n = world->size, me = world->rank;
    int64_t counts[16], total = 0, at = 0;
    for (int r = 0; r < n; r++) total += counts[r] = given(pattern, r, 1);
    FERRY_AUTO int64_t *mine = numbers(counts[me]);
    FERRY_AUTO int64_t *all = numbers(total + 1);
    for (int64_t i = 0; i < counts[me]; i++) mine[i] = mark(me, 1, i);
    ferry_gather_all(world, mine, counts, all, sizeof *all);
    for (int r = 0; r < n; r++)
        for (int64_t i = 0; i < counts[r]; i++) CHECK(all[at++] == mark(r, 1, i));
    CHECK(all[total] == 0);
    for (int root = 0; root < n; root++) {
        for (int64_t i = 0; i < total; i++) all[i] = -1;
        ferry_gather(world, mine, counts, me == root ? all : NULL, sizeof *all, root);
        at = 0;
        for (int r = 0; me == root && r < n; r++)
            for (int64_t i = 0; i < counts[r]; i++) CHECK(all[at++] == mark(r, 1, i));
    }
}

/* More than one piece: FERRY_TEST_LARGE=1 sends 2.2 GiB from rank 0 to the last, and gathers as much. */
static void large(const ferry_world *world)
{
    const int n = world->size, me = world->rank, last = n - 1;
    const int64_t count = ((int64_t)11 << 28) / 10 + 3; /* of 8 bytes */
    int64_t send_counts[16] = {0}, recv_counts[16] = {0};
    if (me == 0) send_counts[last] = count;
    if (me == last) recv_counts[0] = count;
    FERRY_AUTO int64_t *data = numbers(me == 0 ? count : 0);
    FERRY_AUTO int64_t *got = numbers(count);
    for (int64_t i = 0; me == 0 && i < count; i++) data[i] = 3 * i;
    ferry_exchange(world, data, send_counts, got, recv_counts, sizeof *data);
    for (int64_t i = 0; me == last && i < count; i++) CHECK(got[i] == 3 * i);
    int64_t counts[16] = {count};
    ferry_gather_all(world, data, counts, got, sizeof *data);
    for (int64_t i = 0; i < count; i++) CHECK(got[i] == 3 * i);
    got[count - 1] = me;
    ferry_broadcast(world, got, (size_t)count * sizeof *got, last);
    CHECK(got[count - 1] == last);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    for (int pattern = 0; pattern < 4; pattern++) {
        exchange(&world, pattern);
        gather(&world, pattern);
    }
    if (getenv("FERRY_TEST_LARGE")) large(&world);
    ferry_world_close(&world);
    return test_end();
}

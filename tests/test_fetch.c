/* Every record tells its number, so that a wrong one is seen. Ranks hold unequal shares, some of them none. */
#include "mpi/fetch.h"
#include "mpi/memory.h"
#include "test.h"
#include <stdlib.h>

#define RECORDS 1000

static void cut(int64_t *first, int ranks, int pattern)
{
    for (int r = 0; r <= ranks; r++)
        first[r] = pattern == 0   ? (int64_t)RECORDS * r / ranks
                   : r == 0       ? 0
                   : r == ranks   ? RECORDS
                   : pattern == 1 ? 7 * r
                                  : 0;
}
static int64_t wanted_at(int me, int64_t i)
{
    return (i * 37 + me * 11) % RECORDS;
}
static int64_t length_of(int64_t record)
{
    return record % 5 == 3 ? 0 : record % 7 + (record == 500 ? 3000 : 0);
}

typedef struct record {
    int64_t number;
    float half;
    char tail;
} record;

static void fixed(const ferry_world *world, const int64_t *first, int64_t count)
{
    const int me = world->rank;
    const int64_t held = first[me + 1] - first[me];
    record *mine = calloc((size_t)held + 1, sizeof *mine), *out = calloc((size_t)count + 1, sizeof *out);
    int64_t *wanted = calloc((size_t)count + 1, sizeof *wanted);
    for (int64_t i = 0; i < held; i++) mine[i] = (record){first[me] + i, (float)i / 2, 'x'};
    for (int64_t i = 0; i < count; i++) wanted[i] = wanted_at(me, i);
    CHECK(ferry_fetch(out, world, first, mine, sizeof *mine, wanted, count) == FERRY_OK);
    for (int64_t i = 0; i < count; i++) CHECK(out[i].number == wanted[i] && out[i].tail == 'x');
    free(mine);
    free(out);
    free(wanted);
}

static void ragged(const ferry_world *world, const int64_t *first, int64_t count)
{
    const int me = world->rank;
    const int64_t held = first[me + 1] - first[me];
    int64_t *start = calloc((size_t)held + 1, sizeof *start), *wanted = calloc((size_t)count + 1, sizeof *wanted);
    for (int64_t i = 0; i < held; i++) start[i + 1] = start[i] + length_of(first[me] + i);
    int64_t *mine = calloc((size_t)start[held] + 1, sizeof *mine);
    for (int64_t i = 0; i < held; i++)
        for (int64_t j = start[i]; j < start[i + 1]; j++) mine[j] = (first[me] + i) * 10000 + j - start[i];
    for (int64_t i = 0; i < count; i++) wanted[i] = wanted_at(me, i);
    FERRY_AUTO int64_t *starts = NULL;
    void *out = NULL;
    CHECK(ferry_fetch_rows(&starts, &out, world, first, start, mine, sizeof *mine, wanted, count) == FERRY_OK);
    for (int64_t i = 0; starts && i < count; i++) {
        CHECK(starts[i + 1] - starts[i] == length_of(wanted[i]));
        for (int64_t j = starts[i]; j < starts[i + 1]; j++)
            CHECK(((int64_t *)out)[j] == wanted[i] * 10000 + j - starts[i]);
    }
    free(out);
    free(start);
    free(mine);
    free(wanted);
}

/* Every record comes to its owner; from each rank in its order, ranks ascending. */
static void delivery(const ferry_world *world, const int64_t *first, int64_t count)
{
    const int me = world->rank;
    int64_t *key = calloc((size_t)count + 1, sizeof *key), *payload = calloc((size_t)count + 1, sizeof *payload);
    for (int64_t i = 0; i < count; i++) {
        key[i] = wanted_at(me, i);
        payload[i] = me * 1000000 + i;
    }
    FERRY_AUTO int64_t *keys = NULL;
    void *payloads = NULL;
    int64_t received, last = -1;
    CHECK(ferry_deliver(&keys, &payloads, &received, world, first, key, payload, sizeof *payload, count) == FERRY_OK);
    CHECK(ferry_total(world, received) == ferry_total(world, count));
    for (int64_t i = 0; i < received; i++) {
        const int64_t came = ((int64_t *)payloads)[i];
        CHECK(keys[i] >= first[me] && keys[i] < first[me + 1]);
        CHECK(came > last && keys[i] == wanted_at((int)(came / 1000000), came % 1000000));
        last = came;
    }
    free(payloads);
    free(key);
    free(payload);
}

/* A number that nobody holds is an error on all ranks, also when one rank asks for it. */
static void missing(const ferry_world *world, const int64_t *first)
{
    int64_t wanted = world->rank == world->size - 1 ? RECORDS : 0, out, *mine = calloc(RECORDS, sizeof *mine);
    CHECK(ferry_fetch(&out, world, first, mine, sizeof out, &wanted, 1) == FERRY_E_ARG);
    free(mine);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    int64_t first[17];
    for (int pattern = 0; pattern < 3; pattern++) {
        cut(first, world.size, pattern);
        for (int which = 0; which < 3; which++) {
            const int64_t count = which == 0 ? 0 : which == 1 ? 2500 : world.rank * 100;
            fixed(&world, first, count);
            ragged(&world, first, count);
            delivery(&world, first, count);
        }
        missing(&world, first);
    }
    ferry_world_close(&world);
    return test_end();
}

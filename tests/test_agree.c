/* Every subset of ranks may fail, with different codes: all ranks must return the same code, message and place. */
#include "mpi/world.h"
#include "test.h"
#include <stdlib.h>
#include <string.h>

static ferry_status fail_here(int rank, int mask)
{
    return ferry_fail(rank % 2 ? FERRY_E_MEM : FERRY_E_ARG, "rank %d of mask %d", rank, mask);
}

/* The worst status wins, the first rank that has it tells its message. */
static void every_subset(const ferry_world *world)
{
    for (int mask = 0; mask < 1 << world->size; mask++) {
        ferry_status worst = FERRY_OK;
        int teller = -1;
        for (int r = 0; r < world->size; r++) {
            ferry_status his = mask >> r & 1 ? (r % 2 ? FERRY_E_MEM : FERRY_E_ARG) : FERRY_OK;
            if (his < worst) {
                worst = his;
                teller = r;
            }
        }
        ferry_error_set("", "");
        ferry_status all = ferry_agree(world, mask >> world->rank & 1 ? fail_here(world->rank, mask) : FERRY_OK);
        CHECK(all == worst);
        if (!mask) continue;
        char text[64], place[64];
        snprintf(text, sizeof text, "rank %d of mask %d", teller, mask);
        snprintf(place, sizeof place, "rank %d, tests/test_agree.c:", teller);
        CHECK(!strcmp(ferry_error(), text));
        CHECK(!strncmp(ferry_error_place(), place, strlen(place)));
    }
}

static void messages_nest(void)
{
    CHECK(ferry_fail(FERRY_E_FILE, "inner %d", 7) == FERRY_E_FILE);
    CHECK(ferry_fail(FERRY_E_ARG, "outer: %s", ferry_error()) == FERRY_E_ARG);
    CHECK(!strcmp(ferry_error(), "outer: inner 7"));
    ferry_error_set(ferry_error(), ferry_error_place());
    CHECK(!strcmp(ferry_error(), "outer: inner 7"));
    char *large = malloc(10000);
    memset(large, 'x', 9999);
    large[9999] = 0;
    ferry_fail(FERRY_E_ARG, "%s", large);
    CHECK(strlen(ferry_error()) == FERRY_ERROR_TEXT - 1);
    free(large);
    const int codes[] = {0, 2, 1, 3, 1, 3, 1, 5, 75, 1};
    for (int i = 0; i < 10; i++) CHECK(ferry_exit_code((ferry_status)-i) == codes[i]);
}

static void numbers(const ferry_world *world)
{
    const int64_t me = world->rank, n = world->size, big = (int64_t)1 << 40;
    CHECK(ferry_max(world, big + me) == big + n - 1);
    CHECK(ferry_min(world, big + me) == big);
    CHECK(ferry_total(world, big + me) == n * big + n * (n - 1) / 2);
    CHECK(ferry_before(world, me + 1) == me * (me + 1) / 2);
    CHECK(ferry_max_double(world, -1.0 - (double)me) == -1.0);
    double d[3] = {(double)me, -(double)me, 7};
    ferry_max_doubles(world, d, 3);
    CHECK(d[0] == (double)(n - 1) && d[1] == 0 && d[2] == 7);
    int64_t counts[2] = {me, big};
    ferry_total_counts(world, counts, 2);
    CHECK(counts[0] == n * (n - 1) / 2 && counts[1] == n * big);
    ferry_total_counts(world, counts, 0);
    for (int root = 0; root < world->size; root++) {
        char text[16] = "";
        if (world->rank == root) snprintf(text, sizeof text, "from %d", root);
        ferry_broadcast(world, text, sizeof text, root);
        ferry_broadcast(world, NULL, 0, root);
        CHECK(text[5] == '0' + root);
    }
    ferry_barrier(world);
}

/* FERRY_SAFE=1 comes from the test's environment. */
static void equal_arguments(const ferry_world *world)
{
    int64_t value = 5;
    CHECK(ferry_same(world, "five", &value, sizeof value) == FERRY_OK);
    value = world->rank;
    ferry_status status = ferry_same(world, "the number of cells", &value, sizeof value);
    CHECK(status == (world->size > 1 ? FERRY_E_ARG : FERRY_OK));
    if (world->size > 1) CHECK(strstr(ferry_error(), "the number of cells differs"));
    status = ferry_same(world, "a length", "aaaaaaaa", world->rank ? 4 : 5);
    CHECK(status == (world->size > 1 ? FERRY_E_ARG : FERRY_OK));
}

static void parts_of_a_world(const ferry_world *world)
{
    ferry_world half, one, none = {0};
    ferry_world_close(&none);
    CHECK(ferry_world_split(&half, world, world->rank % 2, -world->rank) == FERRY_OK);
    const int size = (world->size + 1 - world->rank % 2) / 2;
    CHECK(half.size == size && half.rank == size - 1 - world->rank / 2); /* the key turns the order around */
    CHECK(half.node_size >= 1 && half.node_rank < half.node_size && half.nodes >= 1 && half.nodes <= half.size);
    CHECK(ferry_agree(&half, world->rank < 2 ? fail_here(world->rank, 0) : FERRY_OK) ==
          (world->rank % 2 ? FERRY_E_MEM : FERRY_E_ARG));
    CHECK(ferry_world_split(&one, &half, half.rank, 0) == FERRY_OK);
    CHECK(one.size == 1 && one.node_size == 1 && one.nodes == 1);
    ferry_world_close(&one);
    ferry_world_close(&half);
    CHECK(half.size == 0);
}

static void nodes(const ferry_world *world)
{
    const char *text = getenv("FERRY_RANKS_PER_NODE");
    const int per = text ? atoi(text) : world->size;
    CHECK(world->nodes == (world->size + per - 1) / per);
    CHECK(world->node_rank == world->rank % per);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    MPI_Errhandler handler;
    MPI_Comm_get_errhandler(world.comm, &handler);
    CHECK(handler == MPI_ERRORS_ARE_FATAL);
    MPI_Errhandler_free(&handler);
    messages_nest();
    every_subset(&world);
    numbers(&world);
    equal_arguments(&world);
    parts_of_a_world(&world);
    nodes(&world);
    ferry_world_close(&world);
    return test_end();
}

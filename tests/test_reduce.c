/* Sums over blocks must have the bits of the adjacent-pair tree, however the blocks are spread and ordered. */
#define _GNU_SOURCE /* setenv */
#include "mpi/memory.h"
#include "mpi/reduce.h"
#include "mpi/stage.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers in [-1, 1) whose sums round differently in every order; the same on every rank. */
static double noise(int64_t seed)
{
    uint64_t x = (uint64_t)seed * 0x9E3779B97F4A7C15u + 0x7F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return (double)(int64_t)(x ^ x >> 31) / 9223372036854775808.0;
}

static void fill(double *leaf, int64_t width, int block, ferry_join join)
{
    for (int64_t i = 0; i < width; i++) {
        double value = noise(i * 100003 + block);
        if (join == FERRY_JOIN_LSE && i < width / 2) /* exponents, some blocks empty */
            value = (block + i) % 5 ? floor(value * 300) : -INFINITY;
        else if (join == FERRY_JOIN_LSE)
            value = (block + i - width / 2) % 5 ? 1 + fabs(value) : 0;
        leaf[i] = value;
    }
}

/* The serial reference: level by level over all blocks; `present` blocks only, others are passed over. */
static void reference(double *out, int64_t width, int blocks, ferry_join join, const char *present)
{
    double *table = calloc((size_t)(blocks * width + 1), sizeof *table);
    char *there = malloc((size_t)blocks);
    memcpy(there, present, (size_t)blocks);
    for (int b = 0; b < blocks; b++) fill(table + b * width, width, b, join);
    for (int n = blocks; n > 1; n /= 2) {
        for (int b = 0; b < n / 2; b++) {
            double *a = table + (int64_t)2 * b * width, *c = a + width, *to = table + b * width;
            for (int64_t i = 0; i < width; i++) {
                double x = a[i], y = c[i];
                if (join == FERRY_JOIN_LSE && i >= width / 2) continue;
                if (!there[2 * b] || !there[2 * b + 1]) {
                    to[i] = there[2 * b] ? x : y;
                    if (join == FERRY_JOIN_LSE) to[i + width / 2] = there[2 * b] ? a[i + width / 2] : c[i + width / 2];
                } else if (join == FERRY_JOIN_SUM) {
                    to[i] = x + y;
                } else if (join == FERRY_JOIN_MAX) {
                    to[i] = fmax(x, y);
                } else {
                    double s = a[i + width / 2], t = c[i + width / 2], most = fmax(x, y);
                    to[i + width / 2] = isinf(most) ? 0 : s * exp2(x - most) + t * exp2(y - most);
                    to[i] = most;
                }
            }
            there[b] = there[2 * b] || there[2 * b + 1];
        }
    }
    if (there[0]) memcpy(out, table, (size_t)width * sizeof *out);
    for (int64_t i = 0; !there[0] && i < width; i++)
        out[i] = join == FERRY_JOIN_SUM || (join == FERRY_JOIN_LSE && i >= width / 2) ? 0 : -INFINITY;
    free(there);
    free(table);
}

static int same_bits(const double *a, const double *b, int64_t width)
{
    return width == 0 || memcmp(a, b, (size_t)width * sizeof *a) == 0;
}

/* The i-th of n numbers in one of several orders. */
static int in_order(int order, int i, int n)
{
    if (order == 0) return i;
    if (order == 1) return n - 1 - i;
    return (int)(((int64_t)i * 7919 + 13) % n); /* n is a power of two or less: 7919 is prime and odd */
}

static void add_block(ferry_forest *forest, int64_t width, int block, ferry_join join)
{
    double *leaf;
    CHECK(ferry_forest_leaf(&leaf, forest) == FERRY_OK);
    for (int64_t i = 0; i < width; i++) {
        double empty = join == FERRY_JOIN_SUM || (join == FERRY_JOIN_LSE && i >= width / 2) ? 0 : -INFINITY;
        CHECK(leaf[i] == empty);
    }
    fill(leaf, width, block, join);
    ferry_forest_add(forest, block);
}

enum spread { RUNS, DEALT, ONE_RANK };

static int holder(enum spread spread, int block, int blocks, int ranks)
{
    switch (spread) {
    case RUNS:
        return (int)((int64_t)block * ranks / blocks);
    case DEALT:
        return block % ranks;
    case ONE_RANK:
        break;
    }
    return ranks - 1;
}

static void tree(const ferry_world *world, int64_t width, int blocks, ferry_join join, int order, enum spread spread,
                 int missing)
{
    char present[256];
    double want[64], got[64];
    for (int b = 0; b < blocks; b++) present[b] = !missing || (b * 31 + 7) % missing != 0;
    reference(want, width, blocks, join, present);
    ferry_forest *forest, *helper; /* two threads' worth, one of them takes every third block */
    CHECK(ferry_forest_open(&forest, width, blocks, join) == FERRY_OK);
    CHECK(ferry_forest_open(&helper, width, blocks, join) == FERRY_OK);
    for (int round = 0; round < 2; round++) { /* again with what is recycled */
        for (int i = 0; i < blocks; i++) {
            int b = in_order(order, i, blocks);
            if (!present[b] || holder(spread, b, blocks, world->size) != world->rank) continue;
            add_block(b % 3 ? forest : helper, width, b, join);
        }
        ferry_forest_merge(forest, helper);
        CHECK(ferry_forest_reduce(got, forest, world, FERRY_REDUCE_TREE) == FERRY_OK);
        CHECK(same_bits(got, want, width));
    }
    for (int b = 0; b < blocks; b++)
        if (present[b]) add_block(forest, width, b, join);
    ferry_forest_root(got, forest); /* all on one rank */
    CHECK(same_bits(got, want, width));
    ferry_forest_root(got, forest);
    memset(present, 0, sizeof present);
    reference(want, width, blocks, join, present);
    CHECK(same_bits(got, want, width)); /* it was empty */
    ferry_forest_close(&helper);
    ferry_forest_close(&forest);
    CHECK(forest == NULL);
    ferry_forest_close(&forest);
}

static void trees(const ferry_world *world)
{
    const int64_t widths[] = {0, 1, 2, 7, 64};
    const int blocks[] = {1, 2, 8, 64};
    const ferry_join joins[] = {FERRY_JOIN_SUM, FERRY_JOIN_LSE, FERRY_JOIN_MAX};
    int turn = 0;
    for (int j = 0; j < 3; j++)
        for (int w = 0; w < 5; w++)
            for (int b = 0; b < 4; b++)
                for (int spread = 0; spread < 3; spread++, turn++) {
                    if (joins[j] == FERRY_JOIN_LSE && widths[w] % 2) continue;
                    tree(world, widths[w], blocks[b], joins[j], turn % 3, (enum spread)spread, turn % 4 * 2);
                }
}

/* Bytes and messages that the description in reduce_ranks.c promises to this rank. */
static void promised_traffic(const ferry_world *world, const ferry_shards *shards, int64_t width, int64_t messages,
                             int64_t bytes)
{
    const int ranks = world->size;
    const int64_t roots = ferry_forest_roots(shards, world->rank);
    bool even = (ranks & (ranks - 1)) == 0;
    int steps = 0;
    while (1 << steps < ranks) steps++;
    for (int r = 0; r < ranks; r++)
        even &= ferry_forest_roots(shards, r) == 1 &&
                shards->block[r + 1] - shards->block[r] == shards->blocks.count / ranks;
    if (even && width <= FERRY_FOREST_WHOLE) {
        CHECK(messages == steps && bytes == 8 * steps * width);
    } else if (even && width == 2048) {
        CHECK(messages == (ranks > 1 ? 2 * steps - 1 : 0) && bytes == 16 * width * (ranks - 1) / ranks);
    } else if (!even && width % ranks == 0) {
        CHECK(messages == ((roots > 0) + 1) * (ranks - 1) && bytes == 8 * (roots + 1) * (ranks - 1) * width / ranks);
    }
}

/* What each rank holds is known before: in steps, again and again, while the forest is the same. */
static void expected(const ferry_world *world, int64_t rows, int64_t width, ferry_join join)
{
    ferry_shards shards;
    ferry_forest *forest;
    char present[256];
    CHECK(ferry_shards_open(&shards, rows, 24, world->size) == FERRY_OK);
    const int blocks = shards.blocks.count;
    double *want = malloc((size_t)width * sizeof *want), *got = malloc((size_t)width * sizeof *got);
    memset(present, 1, sizeof present);
    reference(want, width, blocks, join, present);
    CHECK(ferry_forest_open(&forest, width, blocks, join) == FERRY_OK);
    CHECK(ferry_forest_expect(forest, &shards, world) == FERRY_OK);
    for (int round = 0; round < 4; round++) {
        const ferry_stages before = *ferry_stages_here();
        for (int b = shards.block[world->rank]; b < shards.block[world->rank + 1]; b++)
            add_block(forest, width, b, join);
        if (round == 3) {
            CHECK(ferry_forest_reduce(got, forest, world, FERRY_REDUCE_TREE) == FERRY_OK);
        } else {
            ferry_forest_start(got, forest, FERRY_REDUCE_TREE);
            while (round && !ferry_forest_progress(forest)) continue;
            ferry_forest_finish(forest);
        }
        CHECK(same_bits(got, want, width));
        if (join == FERRY_JOIN_SUM && width > 0)
            promised_traffic(world, &shards, width, ferry_stages_here()->messages - before.messages,
                             ferry_stages_here()->sent_bytes - before.sent_bytes);
    }
    if (join == FERRY_JOIN_MAX) {
        for (int b = shards.block[world->rank]; b < shards.block[world->rank + 1]; b++)
            add_block(forest, width, b, join);
        ferry_forest_start(got, forest, FERRY_REDUCE_MPI);
        ferry_forest_finish(forest);
        CHECK(same_bits(got, want, width));
    }
    ferry_forest_close(&forest);
    ferry_shards_close(&shards);
    free(want);
    free(got);
}

static void all_expected(const ferry_world *world)
{
    const int64_t rows[] = {10, 24, 100, 24 * 37, 24 * 64, 24 * 97, 24 * 128 * 32, 100000};
    const int64_t widths[] = {0, 1, 2, 12, 64, 2048, 3000};
    for (int r = 0; r < 8; r++)
        for (int w = 0; w < 7; w++)
            for (int join = 0; join < 3; join++)
                if (join != FERRY_JOIN_LSE || widths[w] % 2 == 0) expected(world, rows[r], widths[w], (ferry_join)join);
}

/* MPI's own order is near, and for the maximum it is the same. */
static void mpi_order(const ferry_world *world)
{
    const int64_t width = 33;
    const int blocks = 64;
    char present[64];
    double want[64], got[64];
    memset(present, 1, sizeof present);
    for (int join = 0; join < 3; join++) {
        const int64_t w = join == FERRY_JOIN_LSE ? 32 : width;
        ferry_forest *forest;
        reference(want, w, blocks, (ferry_join)join, present);
        CHECK(ferry_forest_open(&forest, w, blocks, (ferry_join)join) == FERRY_OK);
        for (int b = 0; b < blocks; b++)
            if (holder(RUNS, b, blocks, world->size) == world->rank) add_block(forest, w, b, (ferry_join)join);
        CHECK(ferry_forest_reduce(got, forest, world, FERRY_REDUCE_MPI) == FERRY_OK);
        for (int64_t i = 0; i < w; i++) CHECK(fabs(got[i] - want[i]) <= (join == FERRY_JOIN_SUM ? 1e-13 : 0));
        ferry_forest_close(&forest);
    }
}

static void bad_shapes(void)
{
    ferry_forest *forest;
    CHECK(ferry_forest_open(&forest, 3, 4, FERRY_JOIN_LSE) == FERRY_E_ARG && forest == NULL);
    CHECK(ferry_forest_open(&forest, 3, 6, FERRY_JOIN_SUM) == FERRY_E_ARG);
    CHECK(ferry_forest_open(&forest, -1, 4, FERRY_JOIN_SUM) == FERRY_E_ARG);
}

/* NaN and infinity must reach the answer, not vanish in a comparison. */
static void not_numbers(void)
{
    ferry_forest *forest;
    double *leaf, out[2];
    CHECK(ferry_forest_open(&forest, 2, 2, FERRY_JOIN_MAX) == FERRY_OK);
    for (int b = 0; b < 2; b++) {
        CHECK(ferry_forest_leaf(&leaf, forest) == FERRY_OK);
        leaf[b] = NAN;
        leaf[1 - b] = 1;
        ferry_forest_add(forest, b);
    }
    ferry_forest_root(out, forest);
    CHECK(isnan(out[0]) && isnan(out[1]));
    ferry_forest_close(&forest);
    CHECK(ferry_forest_open(&forest, 2, 2, FERRY_JOIN_LSE) == FERRY_OK);
    for (int b = 0; b < 2; b++) { /* 2^1000 and 2^-1000: the smaller is below the last bit */
        CHECK(ferry_forest_leaf(&leaf, forest) == FERRY_OK);
        leaf[0] = b ? -1000 : 1000;
        leaf[1] = 1.5;
        ferry_forest_add(forest, b);
    }
    ferry_forest_root(out, forest);
    CHECK(out[0] == 1000 && out[1] == 1.5);
    ferry_forest_close(&forest);
}

/* Complete subtrees of the run [from, from + n). */
static int subtrees(int from, int n)
{
    int count = 0;
    while (n > 0) {
        int size = 1;
        while (size * 2 <= n && from % (size * 2) == 0) size *= 2;
        from += size;
        n -= size;
        count++;
    }
    return count;
}

/* ferry_forest_bytes is never less than any run needs, and not twice as much. */
static void promised_bytes(void)
{
    CHECK(ferry_forest_bytes(1 << 20, 1024, 0) < 1024);
    CHECK(ferry_forest_bytes(1 << 20, 1024, 1024) / (8 << 20) == 11); /* alone: a root per level and a leaf */
    for (int n = 1; n <= 128; n++) {
        int most = 0;
        for (int from = 0; from <= 256; from++)
            for (int seen = 1; seen <= n; seen++) {
                int alive = subtrees(from, seen - 1) + 1;
                if (subtrees(from, seen) > alive) alive = subtrees(from, seen);
                if (alive > most) most = alive;
            }
        const int64_t width = 1 << 20;
        double vectors = (double)ferry_forest_bytes(width, 1024, n) / (8.0 * (double)width);
        CHECK(vectors >= most);
        CHECK(vectors <= 2.1 * most + 1.1);
    }
}

/* Make every allocation, then every meeting, of a reduction fail once on one rank: all ranks leave alike, and the same
 * forest gives the right sum afterwards. */
static void failures(const ferry_world *world, const char *variable, ferry_status code)
{
    const char present[4] = {1, 1, 1, 1};
    double want[8], out[8];
    int failed = 0, clean = 0;
    reference(want, 8, 4, FERRY_JOIN_LSE, present);
    ferry_forest *forest;
    CHECK(ferry_forest_open(&forest, 8, 4, FERRY_JOIN_LSE) == FERRY_OK);
    for (int n = 1; n < 20 && !clean; n++) {
        char plan[32];
        for (int b = 0; b < 4; b++)
            if (b % world->size == world->rank) add_block(forest, 8, b, FERRY_JOIN_LSE);
        snprintf(plan, sizeof plan, "%d:%d", n, world->size - 1);
        setenv(variable, plan, 1);
        ferry_status status = ferry_forest_reduce(out, forest, world, FERRY_REDUCE_TREE);
        unsetenv(variable);
        CHECK(status == FERRY_OK || status == code);
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        failed += status != FERRY_OK;
        clean = status == FERRY_OK;
        if (clean) CHECK(same_bits(out, want, 8));
    }
    CHECK(clean && (failed > 0) == (world->size > 1)); /* one rank alone has nothing to agree on */
    ferry_forest_close(&forest);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    trees(&world);
    all_expected(&world);
    mpi_order(&world);
    bad_shapes();
    not_numbers();
    promised_bytes();
    failures(&world, "FERRY_FAIL_ALLOC", FERRY_E_MEM);
    failures(&world, "FERRY_FAIL", FERRY_E_NUMERIC);
    ferry_world_close(&world);
    return test_end();
}

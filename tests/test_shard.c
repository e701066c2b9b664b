/* Canonical blocks and shards: every promise of shard.h for many numbers of rows and parts. */
#include "mpi/shard.h"
#include "test.h"
#include <stdlib.h>

static const int64_t some_rows[] = {0,    1,    23,    24,     25,     47,     48,      100,        1535,      1536,
                                    1537, 9999, 27627, 169407, 272139, 999999, 5000011, 2147483648, 8589934592};
#define SIZES ((int)(sizeof some_rows / sizeof *some_rows))

/* The rule, word for word. */
static int count_by_the_rule(int64_t rows, int unit)
{
    int64_t units = (rows + unit - 1) / unit, most = units / 32 > 64 ? units / 32 : 64;
    if (units < most) most = units;
    int64_t count = 1;
    while (count * 2 <= most) count *= 2;
    return (int)count;
}

static void blocks(int64_t rows, int unit)
{
    ferry_blocks b = ferry_blocks_of(rows, unit);
    CHECK(b.rows == rows && b.unit == unit && b.count == count_by_the_rule(rows, unit));
    const int64_t units = (rows + unit - 1) / unit, step = b.count > 4096 ? b.count / 4093 : 1;
    int64_t shortest = INT64_MAX, longest = 0;
    CHECK(ferry_block_first(&b, 0) == 0 && ferry_block_first(&b, b.count) == rows);
    for (int64_t i = 0; i < b.count; i += step) {
        int64_t from = ferry_block_first(&b, (int)i), to = ferry_block_first(&b, (int)i + 1);
        CHECK(from == i * units / b.count * unit);
        CHECK(from < to || rows == 0);
        if (to == rows) continue; /* the last one may end early */
        if (to - from < shortest) shortest = to - from;
        if (to - from > longest) longest = to - from;
    }
    CHECK(longest == 0 || longest - shortest <= unit);
}

static int factors(int64_t n)
{
    return n ? __builtin_ctzll((uint64_t)n) : 64;
}

/* A cut lies within a 16th of a share of the even one, and no number there has more factors of two. */
static void cut_is_round(const ferry_shards *s, int p)
{
    const int64_t count = s->blocks.count, even = count * p / s->parts, slack = count / s->parts / 16;
    const int64_t is = s->block[p];
    CHECK(llabs(is - even) <= slack);
    for (int64_t b = even - slack; b <= even + slack; b++)
        CHECK(factors(b) < factors(is) || (factors(b) == factors(is) && llabs(b - even) >= llabs(is - even)));
}

static void shards(int64_t rows, int unit, int parts)
{
    ferry_shards s;
    CHECK(ferry_shards_open(&s, rows, unit, parts) == FERRY_OK);
    CHECK(s.parts == parts && s.block[0] == 0 && s.block[parts] == s.blocks.count);
    CHECK(s.first[0] == 0 && s.first[parts] == rows);
    for (int p = 0; p < parts; p++) {
        CHECK(s.block[p] <= s.block[p + 1] && s.first[p] <= s.first[p + 1]);
        CHECK(s.first[p] == ferry_block_first(&s.blocks, s.block[p]));
        if (p) cut_is_round(&s, p);
        const int64_t share = s.blocks.count / parts;
        CHECK(s.block[p + 1] - s.block[p] <= share + share / 8 + 1);
        if (s.first[p] == s.first[p + 1]) continue;
        const int64_t probe[] = {s.first[p], (s.first[p] + s.first[p + 1]) / 2, s.first[p + 1] - 1};
        for (int i = 0; i < 3; i++) CHECK(ferry_shards_owner(&s, probe[i]) == p);
    }
    ferry_shards_close(&s);
    CHECK(s.block == NULL && s.first == NULL);
    ferry_shards_close(&s);
}

static void matrices(void)
{
    ferry_matrix m;
    CHECK(ferry_matrix_open(&m, 3, 2, FERRY_FLOAT) == FERRY_OK && m.f && !m.d && m.f[5] == 0);
    CHECK(m.rows == 3 && m.dim == 2);
    ferry_matrix_close(&m);
    CHECK(ferry_matrix_open(&m, 0, 2, FERRY_DOUBLE) == FERRY_OK && !m.f && m.d);
    ferry_matrix_close(&m);
    CHECK(ferry_matrix_open(&m, -1, 2, FERRY_DOUBLE) == FERRY_E_ARG);
    CHECK(ferry_matrix_open(&m, INT64_MAX / 2, 50, FERRY_DOUBLE) == FERRY_E_MEM);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    const int parts[] = {1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 100, 300};
    const int units[] = {FERRY_SOURCE_UNIT, FERRY_TARGET_UNIT, 1};
    for (int u = 0; u < 3; u++) {
        for (int64_t rows = 0; rows < 300; rows++) blocks(rows, units[u]);
        for (int i = 0; i < SIZES; i++) {
            if (units[u] == 1 && some_rows[i] > 1000000) continue;
            blocks(some_rows[i], units[u]);
            for (int p = 0; p < 12; p++) shards(some_rows[i], units[u], parts[p]);
        }
    }
    for (int p = 1; p <= 300; p++) shards(1000003, FERRY_SOURCE_UNIT, p);
    ferry_shards none;
    CHECK(ferry_shards_open(&none, -1, 24, 2) == FERRY_E_ARG && none.block == NULL);
    CHECK(ferry_shards_open(&none, 10, 24, 0) == FERRY_E_ARG);
    matrices();
    return test_end();
}

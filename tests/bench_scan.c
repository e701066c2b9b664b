/* A developer's benchmark, no test: bench_scan [rows [table]] prints, for each table of this CPU, pairs per core-second
 * of a scan of so many rows, which lie in the cache, by the queries in a panel: where almost nothing passes a
 * threshold, and as a search does it, from no threshold on (with k = 30). Its share of `dim` multiply-adds per pair
 * at the rate that the registers reach in the same run. Then settle, nearest, visit, row_kth. CPU time. */
#include "kernels/peak.h"
#include "kernels/scan.h"
#include "mpi/memory.h"
#include "mpi/shard.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define ROOM    FERRY_CANDIDATE_ROOM
enum { NEIGHBORS = 30 };

static uint64_t seed = 1;
static float normal(void) /* nearly: a sum of four uniform numbers */
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(int64_t)seed * 0x1p-63;
    }
    return (float)sum;
}
static void *room_of(int64_t bytes)
{
    char *out = NULL;
    if (ferry_alloc(&out, bytes) != FERRY_OK) exit(1);
    return out;
}
static float *floats(int64_t count)
{
    return room_of(count * (int64_t)sizeof(float));
}

typedef struct bench {
    const ferry_kernels *k;
    const ferry_scans *scans;
    int64_t units;
    int dim;
    bool fresh; /* as in a search: from no threshold on */
    float *x, *y, *beta, *scores, *gap, *radius, *norm, *distance, *bound, norm2[ROWS], alpha[ROWS];
    int32_t query[ROWS], *list;
    ferry_candidates c;
    ferry_scan scan;
    double sink;
} bench;

static void bench_open(bench *b, const ferry_kernels *k, int dim, int64_t units)
{
    const int64_t columns = units * COLUMNS;
    *b = (bench){.k = k, .scans = ferry_scans_of(k), .units = units, .dim = dim};
    float *rows = floats(columns * dim), queries[ROWS * 512];
    b->x = floats(ROWS * (int64_t)dim), b->y = floats(columns * dim), b->beta = floats(columns);
    b->scores = floats(columns * ROWS), b->gap = floats(columns), b->radius = floats(columns);
    b->norm = floats(columns), b->distance = floats(columns + 16), b->bound = floats(columns + 16);
    b->list = room_of((columns + 16) * (int64_t)sizeof(int32_t));
    for (int64_t i = 0; i < columns * dim; i++) rows[i] = normal();
    for (int i = 0; i < ROWS * dim; i++) queries[i] = normal();
    for (int64_t j = 0; j < columns; j++) {
        for (int d = 0; d < dim; d++) b->beta[j] -= rows[j * dim + d] * rows[j * dim + d] / 2;
        b->norm[j] = sqrtf(-2 * b->beta[j]), b->gap[j] = b->norm[j], b->radius[j] = 0.5f * b->norm[j];
    }
    for (int64_t u = 0; u < units; u++)
        k->pack_columns(b->y + u * COLUMNS * dim, rows + u * COLUMNS * dim, COLUMNS, dim);
    k->pack_rows(b->x, queries, ROWS, dim);
    for (int i = 0; i < ROWS; i++) {
        b->query[i] = i;
        for (int d = 0; d < dim; d++) b->norm2[i] += queries[i * dim + d] * queries[i * dim + d];
    }
    b->c = (ferry_candidates){.k = NEIGHBORS, .dim = dim, .queries = ROWS, .norm2 = b->norm2};
    b->c.distance2 = floats(ROWS * ROOM), b->c.position = room_of(ROWS * ROOM * (int64_t)sizeof(uint32_t));
    b->c.count = room_of(ROWS * (int64_t)sizeof(int32_t)), b->c.threshold = floats(ROWS), b->c.radius = floats(ROWS);
    b->scan = (ferry_scan){.x = b->x, .query = b->query, .units = units, .y = b->y, .beta = b->beta};
    const ferry_tile tile = {.dim = dim, .units = units, .x = b->x, .y = b->y, .alpha = b->alpha, .beta = b->beta};
    k->scores(b->scores, &tile);
    free(rows);
}
static void bench_close(bench *b)
{
    free(b->x), free(b->y), free(b->beta), free(b->scores), free(b->gap), free(b->radius), free(b->norm);
    free(b->distance), free(b->bound), free(b->list);
    free(b->c.distance2), free(b->c.position), free(b->c.count), free(b->c.threshold), free(b->c.radius);
}
static void forget(bench *b, float threshold)
{
    for (int i = 0; i < ROWS; i++) b->c.count[i] = 0, b->c.threshold[i] = threshold, b->c.radius[i] = INFINITY;
}

static void run_scan(bench *b)
{
    if (b->fresh) forget(b, -INFINITY);
    b->scans->scan(&b->c, &b->scan);
}
static void run_settle(bench *b) /* rooms of 128, each once per row of a panel */
{
    for (int i = 0; i < ROWS; i++) {
        memcpy(b->c.distance2 + i * ROOM, b->norm + i * 16 % (b->units * COLUMNS - 128), 128 * sizeof(float));
        b->c.count[i] = 128;
        b->scans->settle(&b->c, i);
    }
}
static void run_nearest(bench *b)
{
    float best[ROWS], second[ROWS];
    int32_t index[ROWS];
    const ferry_tile tile = {
        .dim = b->dim, .units = b->units, .x = b->x, .y = b->y, .alpha = b->alpha, .beta = b->beta};
    b->scans->nearest(best, index, second, &tile);
    b->sink += (double)best[0];
}
static void run_visit(bench *b)
{
    const ferry_visits v = {.dim = b->dim,
                            .units = b->units,
                            .scores = b->scores,
                            .gap = b->gap,
                            .radius = b->radius,
                            .norm = b->norm,
                            .bisector = true};
    for (int i = 0; i < ROWS; i++)
        b->sink += (double)b->scans->visit(b->list, b->distance, b->bound, &v, i, b->norm2[i], 0.3f * b->norm2[i],
                                           0.25f * b->norm[i]);
}
static void run_kth(bench *b)
{
    for (int i = 0; i < ROWS; i++) b->sink += (double)b->scans->row_kth(b->scores, i, b->units, 64);
}

/* Calls per core-second: the best of short pieces in about 60 ms. */
static double rate(bench *b, void (*run)(bench *))
{
    double best = 0, end = ferry_core_seconds() + 0.06;
    while (ferry_core_seconds() < end) {
        const double start = ferry_core_seconds();
        for (int n = 0; n < 4; n++) run(b);
        best = fmax(best, 4 / (ferry_core_seconds() - start));
    }
    return best;
}

static void bench_table(const ferry_kernels *k, int64_t units)
{
    static const int dims[] = {30, 50}, rows[] = {4, 8, 12, 16, 24};
    bench b;
    printf("%s\n", k->name);
    for (int d = 0; d < 2; d++) {
        bench_open(&b, k, dims[d], units);
        for (int fresh = 0; fresh < 2; fresh++)
            for (int r = 0; r < 5; r++) {
                double lanes = ferry_peak_multiply_adds(k), pairs = (double)rows[r] * (double)units * COLUMNS;
                b.scan.rows = rows[r], b.fresh = fresh;
                forget(&b, 1e30f);
                pairs *= rate(&b, run_scan);
                lanes = fmax(lanes, ferry_peak_multiply_adds(k));
                run_scan(&b);
                printf("  dim %3d  %2d queries, %-22s %6.3f G pairs  %3.0f %% of %.0f G multiply-adds\n", dims[d],
                       rows[r], fresh ? "from no threshold on" : "nothing passes", 1e-9 * pairs,
                       100 * pairs * dims[d] / lanes, 1e-9 * lanes);
            }
        b.c.kept = 0, run_scan(&b);
        printf("  dim %3d  kept per query %.0f of %lld\n", dims[d], (double)b.c.kept / ROWS,
               (long long)units * COLUMNS);
        const double panels = (double)ROWS * (double)units * COLUMNS;
        printf("  dim %3d  nearest %.3f G pairs, visit %.3f, row_kth %.3f, settle %.0f ns\n", dims[d],
               1e-9 * panels * rate(&b, run_nearest), 1e-9 * panels * rate(&b, run_visit),
               1e-9 * panels * rate(&b, run_kth), 1e9 / ROWS / rate(&b, run_settle));
        bench_close(&b);
    }
}

int main(int argc, char **argv)
{
    const int64_t rows = argc > 1 && atoll(argv[1]) > 256 ? atoll(argv[1]) : 1024;
    const char *only = argc > 2 ? argv[2] : "";
    char names[64];
    snprintf(names, sizeof names, "%s", ferry_kernels_names());
    for (char *rest = names, *name; (name = strtok_r(rest, " ", &rest));)
        if (strstr(name, only)) bench_table(ferry_kernels_find(name), (rows + COLUMNS - 1) / COLUMNS);
    return 0;
}

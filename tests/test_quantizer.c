/* Points by ranges; centroids the same for any number of ranks and threads, near ones with near numbers; assignment
 * against brute force; tiny and degenerate inputs; every meeting and every allocation fails once. */
#define _GNU_SOURCE /* setenv */
#include "test.h"
#include "math/cluster.h"
#include "math/random.h"
#include "mpi/log.h"
#include "neighbors/quantizer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIM   13
#define MOST  24000
#define TYPES 40

static float data[MOST * DIM];
static const ferry_kernels *kernels;
static const ferry_scans *scans;

static double normal(uint64_t seed, uint64_t i)
{
    return sqrt(-2 * log(1 - ferry_random(seed, 2 * i))) * cos(6.283185307179586 * ferry_random(seed, 2 * i + 1));
}
/* Types of unequal size, each long in a few directions. */
static void mixture(int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const double u = ferry_random(1, (uint64_t)i);
        const int type = (int)(u * u * TYPES);
        const double along = normal(2, (uint64_t)i);
        for (int k = 0; k < DIM; k++) {
            const uint64_t at = (uint64_t)type * DIM + (uint64_t)k;
            data[i * DIM + k] = (float)(5 + 3 * normal(3, at) + along * normal(4, at) +
                                        0.6 * normal(5, (uint64_t)i * DIM + (uint64_t)k));
        }
    }
}

/* The data as points of a world, dealt unevenly. */
typedef struct dealt {
    int64_t firsts[9];
    ferry_points_shard shard;
    ferry_points points;
} dealt;
static void deal(dealt *d, const ferry_world *world, int64_t count)
{
    for (int r = 0; r <= world->size; r++) d->firsts[r] = count * r * r / ((int64_t)world->size * world->size);
    d->shard = (ferry_points_shard){.values = data + d->firsts[world->rank] * DIM, .firsts = d->firsts};
    ferry_points_held(&d->points, &d->shard, count, DIM, "made");
}
static ferry_status train(ferry_quantizer *q, const ferry_world *world, int64_t count, int64_t lists, int threads,
                          ferry_search_metric metric)
{
    dealt d;
    ferry_train_options options = FERRY_TRAIN_DEFAULTS;
    options.lists = lists;
    options.seed = 7;
    options.threads = threads;
    deal(&d, world, count);
    return ferry_quantizer_train(q, world, &d.points, metric, kernels, &options);
}

static void ranges(const ferry_world *world)
{
    dealt d;
    ferry_matrix m;
    const int64_t count = 1000, mine[4][2] = {{0, 1000}, {990, 10}, {17, 0}, {1, 500}};
    mixture(count);
    deal(&d, world, count);
    const int64_t *range = mine[world->rank % 4];
    CHECK(d.points.read(d.points.self, &m, world, range[0], range[1]) == FERRY_OK);
    CHECK(m.rows == range[1] && m.dim == DIM);
    CHECK(!memcmp(m.f, data + range[0] * DIM, (size_t)(range[1] * DIM) * sizeof *data));
    ferry_matrix_close(&m);
    CHECK(d.points.read(d.points.self, &m, world, 0, world->rank == 0 ? 1001 : 5) == FERRY_E_ARG);
    data[700 * DIM + 3] = NAN;
    CHECK(d.points.read(d.points.self, &m, world, 600, 200) == FERRY_E_FILE);
    CHECK(strstr(ferry_error(), "made: cell 700"));
    CHECK(d.points.read(d.points.self, &m, world, 100, 200) == FERRY_OK);
    ferry_matrix_close(&m);
}

/* Points of a file: the kept cells' representation. */
static void points_of_file(const ferry_world *world)
{
    char path[1024];
    const char *folder = getenv("FERRY_TEST_DATA");
    snprintf(path, sizeof path, "%s/oracle/neighbors_self.h5ad", folder ? folder : "tests");
    const ferry_population_options options = {.path = path, .rep = "X_emb"};
    ferry_population population;
    ferry_points points;
    ferry_matrix all = {0}, part = {0};
    CHECK(ferry_population_open(&population, world, &options) == FERRY_OK);
    ferry_points_of(&points, &population);
    CHECK(points.cells == 250 && points.dim == 12 && strstr(points.name, "neighbors_self.h5ad: obsm/X_emb"));
    CHECK(points.read(points.self, &all, world, 0, 250) == FERRY_OK);
    CHECK(points.read(points.self, &part, world, 10 * world->rank, 30) == FERRY_OK);
    CHECK(!memcmp(part.f, all.f + 120 * world->rank, 30 * 12 * sizeof(float)));
    ferry_quantizer q;
    const ferry_train_options small = {.lists = 9};
    CHECK(ferry_quantizer_train(&q, world, &points, FERRY_COSINE, kernels, &small) == FERRY_OK);
    CHECK(q.list.count == 9 && q.trained == 250);
    ferry_quantizer_close(&q, world);
    ferry_matrix_close(&all);
    ferry_matrix_close(&part);
    ferry_population_close(&population);
}

static void same_quantizer(const ferry_quantizer *a, const ferry_quantizer *b)
{
    const size_t row = DIM * sizeof(float);
    CHECK(a->list.count == b->list.count && a->super.count == b->super.count && a->trained == b->trained);
    CHECK(a->distortion == b->distortion);
    if (a->list.count != b->list.count || a->super.count != b->super.count) return;
    CHECK(!memcmp(a->mean, b->mean, row));
    CHECK(!memcmp(a->list.centre, b->list.centre, (size_t)a->list.count * row));
    CHECK(!memcmp(a->list.packed, b->list.packed, (size_t)a->list.units * 32 * row));
    CHECK(!memcmp(a->list.half, b->list.half, (size_t)a->list.units * 32 * sizeof(float)));
    CHECK(!memcmp(a->list.norm, b->list.norm, (size_t)a->list.units * 32 * sizeof(float)));
    CHECK(!memcmp(a->super.centre, b->super.centre, (size_t)a->super.count * row));
    CHECK(!memcmp(a->child, b->child, (size_t)(a->super.count + 1) * sizeof *a->child));
    CHECK(!memcmp(a->spread, b->spread, (size_t)a->super.count * sizeof *a->spread));
}

/* Ranks and threads do not matter; what is stored makes the same quantizer. */
static void same_for_all(const ferry_world *world, const ferry_world *alone)
{
    ferry_quantizer q, one, again;
    mixture(9000);
    CHECK(train(&q, world, 9000, 100, 1, FERRY_EUCLIDEAN) == FERRY_OK);
    CHECK(q.list.count == 100 && q.trained == 6400 && q.super.count == 10);
    CHECK(train(&one, alone, 9000, 100, world->size > 1 ? 1 : 3, FERRY_EUCLIDEAN) == FERRY_OK);
    same_quantizer(&q, &one);
    const int first = world->rank == 0;
    CHECK(ferry_quantizer_of(&again, world, DIM, q.list.count, q.super.count, first ? q.mean : NULL,
                             first ? q.list.centre : NULL, first ? q.super.centre : NULL, first ? q.child : NULL,
                             FERRY_EUCLIDEAN, kernels) == FERRY_OK);
    again.trained = q.trained;
    again.distortion = q.distortion;
    same_quantizer(&q, &again);
    ferry_quantizer_close(&again, world);
    CHECK(ferry_quantizer_of(&again, world, DIM, q.list.count - 1, q.super.count, q.mean, q.list.centre, q.super.centre,
                             q.child, FERRY_EUCLIDEAN, kernels) == FERRY_E_FILE);
    ferry_quantizer_close(&one, alone);
    ferry_quantizer_close(&q, world);
}

/* Not much worse than one level of k-means, seeded with care; runs of numbers are regions; super-cells reach their
 * lists. */
static void good_lists(const ferry_world *alone)
{
    ferry_quantizer q;
    ferry_clusters flat;
    mixture(9000);
    CHECK(train(&q, alone, 9000, 140, 1, FERRY_EUCLIDEAN) == FERRY_OK);
    CHECK(q.trained == 8960);
    CHECK(ferry_clusters_find(&flat, data, 9000, DIM, 140, 10, 3, kernels) == FERRY_OK);
    double sum = 0;
    for (int64_t i = 0; i < 9000; i++) {
        double least = INFINITY;
        for (int c = 0; c < flat.count; c++)
            least = fmin(least, scans->distance2(data + i * DIM, flat.centres + (int64_t)c * DIM, DIM));
        sum += least;
    }
    CHECK(q.distortion < 1.25 * sum / 9000);
    double near = 0, any = 0;
    for (int64_t c = 1; c < q.list.count; c++) {
        near += sqrt(scans->distance2(q.list.centre + c * DIM, q.list.centre + (c - 1) * DIM, DIM));
        any += sqrt(scans->distance2(q.list.centre + c * DIM, q.list.centre + c * 61 % q.list.count * DIM, DIM));
    }
    CHECK(near < 0.6 * any);
    CHECK(q.child[0] == 0 && q.child[q.super.count] == q.list.count);
    for (int64_t s = 0; s < q.super.count; s++)
        for (int64_t c = q.child[s]; c < q.child[s + 1]; c++)
            CHECK(scans->distance2(q.super.centre + s * DIM, q.list.centre + c * DIM, DIM) <=
                  (double)q.spread[s] * (double)q.spread[s]);
    ferry_clusters_close(&flat);
    ferry_quantizer_close(&q, alone);
}

/* --- assignment --- */

static float prepared[MOST * DIM], norm2[MOST], distance[MOST];
static int32_t list[MOST];

/* The share of rows 0, stride, ... that have the nearest list by (distance, number). */
static double share_nearest(const ferry_quantizer *q, int64_t count, int64_t stride)
{
    int64_t right = 0, seen = 0;
    for (int64_t i = 0; i < count; i += stride, seen++) {
        double least = INFINITY;
        int64_t best = -1;
        for (int64_t c = 0; c < q->list.count; c++) {
            const double d2 = scans->distance2(prepared + i * DIM, q->list.centre + c * DIM, DIM);
            if (!(d2 < least)) continue;
            least = d2;
            best = c;
        }
        right += best == list[i];
        if (best == list[i]) CHECK(distance[i] == (float)sqrt(least));
    }
    return (double)right / (double)seen;
}

static void assign(const ferry_quantizer *q, int64_t count, bool exact, int threads)
{
    CHECK(ferry_quantizer_prepare(prepared, norm2, q, data, count, 0) == FERRY_OK);
    CHECK(ferry_quantizer_assign(list, distance, q, prepared, norm2, count, exact, threads) == FERRY_OK);
}

static void exact_lists(const ferry_world *alone, int shift)
{
    const int64_t count = 5000;
    ferry_quantizer q;
    mixture(count);
    for (int64_t i = 0; i < count; i++) {
        if (shift && i % 2) data[i * DIM] += 3000;
        if (i % 3 == 0 && i > 10) memcpy(data + i * DIM, data + (i - 7) * DIM, DIM * sizeof *data);
    }
    CHECK(train(&q, alone, count, 300, 2, FERRY_EUCLIDEAN) == FERRY_OK);
    assign(&q, count, true, 3);
    CHECK(share_nearest(&q, count, 1) == 1);
    /* any part of the rows, by any number of threads, into any of the two answers */
    int32_t again[100];
    CHECK(ferry_quantizer_assign(again, NULL, &q, prepared + 31 * DIM, norm2 + 31, 100, true, 1) == FERRY_OK);
    CHECK(!memcmp(again, list + 31, sizeof again));
    CHECK(ferry_quantizer_assign(NULL, distance, &q, prepared, norm2, count, true, 2) == FERRY_OK);
    CHECK(share_nearest(&q, count, 1) == 1);
    CHECK(ferry_quantizer_assign(again, NULL, &q, prepared, norm2, 0, true, 2) == FERRY_OK);
    ferry_quantizer_close(&q, alone);
}

/* Centroids on a lattice: rows half way between them, and twins among the centroids. */
static void ties(const ferry_world *alone)
{
    static float centre[200 * DIM], super[DIM], mean[DIM];
    const int64_t child[2] = {0, 200};
    ferry_quantizer q;
    memset(centre, 0, sizeof centre);
    for (int c = 0; c < 200; c++) {
        centre[c * DIM] = (float)(c % 50); /* every one four times */
        centre[c * DIM + 1] = 1000;
    }
    for (int i = 0; i < 500; i++) {
        memset(data + i * DIM, 0, DIM * sizeof *data);
        data[i * DIM] = (float)(i % 99) / 2;
        data[i * DIM + 1] = 1000;
    }
    CHECK(ferry_quantizer_of(&q, alone, DIM, 200, 1, mean, centre, super, child, FERRY_EUCLIDEAN, kernels) == FERRY_OK);
    assign(&q, 500, true, 2);
    for (int i = 0; i < 500; i++) CHECK(list[i] == i % 99 / 2);
    ferry_quantizer_close(&q, alone);
}

static void approximate_lists(const ferry_world *alone)
{
    const int64_t count = 20000;
    ferry_quantizer q;
    dealt d;
    ferry_train_options options = {.lists = 2600, .sample = 6, .steps = 3, .threads = 2};
    mixture(count);
    deal(&d, alone, count);
    CHECK(ferry_quantizer_train(&q, alone, &d.points, FERRY_EUCLIDEAN, kernels, &options) == FERRY_OK);
    CHECK(q.list.count > 2500);
    assign(&q, count, false, 2);
    CHECK(share_nearest(&q, count, 7) > 0.999);
    static int32_t part[MOST];
    CHECK(ferry_quantizer_assign(part, NULL, &q, prepared + 500 * DIM, norm2 + 500, 77, false, 3) == FERRY_OK);
    CHECK(!memcmp(part, list + 500, 77 * sizeof *part));
    assign(&q, 2000, true, 1); /* more lists than one look at rivals holds */
    CHECK(share_nearest(&q, 2000, 1) == 1);
    ferry_quantizer_close(&q, alone);
}

/* --- odd inputs --- */

static void tiny(const ferry_world *world)
{
    ferry_quantizer q;
    mixture(50);
    CHECK(train(&q, world, 1, 5, 1, FERRY_EUCLIDEAN) == FERRY_OK); /* one row */
    CHECK(q.list.count == 1 && q.distortion == 0);
    assign(&q, 1, true, 1);
    CHECK(list[0] == 0 && distance[0] == 0);
    ferry_quantizer_close(&q, world);
    CHECK(train(&q, world, 20, 50, 1, FERRY_EUCLIDEAN) == FERRY_OK); /* fewer rows than lists: one each */
    CHECK(q.list.count == 20 && q.distortion < 1e-10);
    ferry_quantizer_close(&q, world);
    for (int64_t i = 0; i < 400; i++) memcpy(data + i * DIM, data, DIM * sizeof *data);
    CHECK(train(&q, world, 400, 30, 1, FERRY_EUCLIDEAN) == FERRY_OK); /* all the same */
    CHECK(q.list.count == 1);
    ferry_quantizer_close(&q, world);
    for (int64_t i = 0; i < 400; i += 2) data[i * DIM] = -3; /* two different ones */
    CHECK(train(&q, world, 400, 30, 1, FERRY_EUCLIDEAN) == FERRY_OK);
    CHECK(q.list.count == 2);
    assign(&q, 400, true, 1);
    for (int64_t i = 0; i < 400; i++) CHECK(list[i] == list[i % 2] && distance[i] < 1e-5f);
    CHECK(list[0] != list[1]);
    ferry_quantizer_close(&q, world);
    CHECK(train(&q, world, 0, 3, 1, FERRY_EUCLIDEAN) == FERRY_E_ARG);
    CHECK(ferry_lists_wanted(0) == 1 && ferry_lists_wanted(90000) == 300 && ferry_lists_wanted(16000000) == 16000);
}

static void angles(const ferry_world *world)
{
    ferry_quantizer q;
    mixture(2000);
    for (int64_t i = 0; i < 2000; i++) /* lengths do not matter */
        for (int k = 0; k < DIM; k++) data[i * DIM + k] = (data[i * DIM + k] - 5) * (float)(1 + i % 5);
    CHECK(train(&q, world, 2000, 40, 1, FERRY_COSINE) == FERRY_OK);
    assign(&q, 2000, true, 1);
    CHECK(share_nearest(&q, 2000, 1) == 1);
    for (int64_t i = 0; i < 2000; i += 9) {
        double length = 0;
        for (int k = 0; k < DIM; k++) length += pow((double)prepared[i * DIM + k] + (double)q.mean[k], 2);
        CHECK(fabs(length - 1) < 1e-5);
    }
    memset(data + 1234 * DIM, 0, DIM * sizeof *data);
    CHECK(ferry_quantizer_prepare(prepared, norm2, &q, data + 1200 * DIM, 100, 1200) == FERRY_E_ARG);
    CHECK(strstr(ferry_error(), "cell 1234"));
    ferry_quantizer_close(&q, world);
    CHECK(train(&q, world, 2000, 40, 1, FERRY_COSINE) == FERRY_E_ARG);
    CHECK(strstr(ferry_error(), "made: cell 1234"));
}

/* Memory cuts the sample, and says so; or refuses. */
static void capped(const ferry_world *world)
{
    ferry_quantizer q;
    dealt d;
    const int64_t lists = 120, least = ferry_train_bytes(lists, DIM, 4 * lists, world->size);
    ferry_train_options options = {.lists = lists, .sample = 64, .memory = ferry_train_bytes(lists, DIM, 7680, 1)};
    mixture(8000);
    deal(&d, world, 8000);
    CHECK(ferry_quantizer_train(&q, world, &d.points, FERRY_EUCLIDEAN, kernels, &options) == FERRY_OK);
    CHECK(q.trained == 7680);
    ferry_quantizer_close(&q, world);
    options.memory = ferry_train_bytes(lists, DIM, 7680, 1) - 7680 / world->size * 60;
    CHECK(ferry_quantizer_train(&q, world, &d.points, FERRY_EUCLIDEAN, kernels, &options) == FERRY_OK);
    CHECK(q.trained <= 7680 && q.trained >= 4 * lists && q.list.count == lists);
    CHECK(world->size > 1 || q.trained < 7680);
    ferry_quantizer_close(&q, world);
    options.memory = least / 2;
    CHECK(ferry_quantizer_train(&q, world, &d.points, FERRY_EUCLIDEAN, kernels, &options) == FERRY_E_PLAN);
    CHECK(strstr(ferry_error(), "--lists"));
}

/* Every meeting, then every allocation of the last rank, fails once: the same answer on all ranks, then a clean run. */
static void failures(const ferry_world *world, const char *what, ferry_status code)
{
    int n = 1;
    mixture(600);
    for (; n < 400; n++) {
        char plan[32];
        ferry_quantizer q;
        snprintf(plan, sizeof plan, "%d:%d", n, world->size - 1);
        setenv(what, plan, 1);
        const ferry_status status = train(&q, world, 600, 12, world->size > 1 ? 1 : 2, FERRY_EUCLIDEAN);
        unsetenv(what);
        CHECK(status == FERRY_OK || status == code);
        CHECK(ferry_min(world, status) == (int64_t)status && ferry_max(world, status) == (int64_t)status);
        if (status == FERRY_OK) ferry_quantizer_close(&q, world);
        if (status == FERRY_OK) break;
    }
    CHECK(n > 8 && n < 400);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world, alone;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    CHECK(ferry_world_split(&alone, &world, world.rank, 0) == FERRY_OK);
    CHECK(ferry_kernels_choose(&kernels, &world, "auto") == FERRY_OK);
    scans = ferry_scans_of(kernels);
    ferry_log_level(FERRY_QUIET);
    ranges(&world);
    points_of_file(&world);
    same_for_all(&world, &alone);
    tiny(&world);
    angles(&world);
    capped(&world);
    failures(&world, "FERRY_FAIL", FERRY_E_NUMERIC);
    failures(&world, "FERRY_FAIL_ALLOC", FERRY_E_MEM);
    if (world.size == 1) { /* of one rank's own */
        good_lists(&alone);
        exact_lists(&alone, 0);
        exact_lists(&alone, 1);
        ties(&alone);
        approximate_lists(&alone);
        kernels = ferry_kernels_find("generic");
        scans = ferry_scans_of(kernels);
        exact_lists(&alone, 1);
        ties(&alone);
    }
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

#define _GNU_SOURCE /* setenv */
/* Lists in memory and on disk against lists made by hand: every part bit for bit, for any number of ranks, batch,
 * memory and node size; duplicates, empty lists, lists of several parts, fewer rows than ranks or lists; parts taken by
 * threads through a small cache; each meeting made to fail. */
#include "neighbors/lists.h"
#include "test.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define DIM 5

typedef struct problem {
    int64_t cells, lists, copies; /* every row `copies` times */
    ferry_search_metric metric;
} problem;

static float number(uint64_t seed, uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u + seed * 0xd1342543de82ef95u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (float)((double)(x >> 40) / (1 << 24)) * 4 - 1;
}

static void make_row(float *row, const problem *p, int64_t i)
{
    for (int k = 0; k < DIM; k++) row[k] = number(1, (uint64_t)(i / p->copies * DIM + k));
}

static ferry_status read_points(void *self, ferry_matrix *out, const ferry_world *world, int64_t first, int64_t count)
{
    ferry_status status = ferry_matrix_open(out, count, DIM, FERRY_FLOAT);
    for (int64_t i = 0; status == FERRY_OK && i < count; i++) make_row(out->f + i * DIM, self, first + i);
    status = ferry_agree(world, status);
    if (status != FERRY_OK) ferry_matrix_close(out);
    return status;
}

/* Centroids in the middle of the points; every fifth lies so far out that its list is empty. */
static ferry_status make_quantizer(ferry_quantizer *out, const ferry_world *world, const problem *p)
{
    float mean[DIM], *centre = malloc(sizeof(float) * (size_t)(p->lists * DIM)), super[DIM] = {0};
    const ferry_kernels *kernels;
    const int64_t child[2] = {0, p->lists};
    ferry_kernels_choose(&kernels, world, "auto");
    for (int k = 0; k < DIM; k++) mean[k] = p->metric == FERRY_COSINE ? 0.25F : 0.9F;
    for (int64_t i = 0; i < p->lists; i++)
        for (int k = 0; k < DIM; k++)
            centre[i * DIM + k] = number(2, (uint64_t)(i * DIM + k)) - mean[k] + (i % 5 == 3 ? 1000.0F : 0.0F);
    ferry_status status =
        ferry_quantizer_of(out, world, DIM, p->lists, 1, mean, centre, super, child, p->metric, kernels);
    free(centre);
    return status;
}

/* ---- what it must be ---- */

typedef struct want {
    int64_t *first; /* [lists + 1] */
    float *radius;
    uint32_t *cell;
    float *distance, *rows;
} want;

typedef struct key {
    int32_t list;
    float distance;
    uint32_t cell;
} key;

static int by_list(const void *a, const void *b)
{
    const key *x = a, *y = b;
    if (x->list != y->list) return x->list < y->list ? -1 : 1;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

static want make_want(const problem *p, const ferry_quantizer *q)
{
    const size_t n = (size_t)p->cells;
    want w = {calloc((size_t)p->lists + 1, sizeof *w.first), calloc((size_t)p->lists, sizeof *w.radius),
              calloc(n, sizeof *w.cell), calloc(n, sizeof *w.distance), calloc(n * DIM, sizeof *w.rows)};
    float *prepared = malloc(n * DIM * sizeof *prepared), *norm2 = malloc(n * sizeof *norm2);
    int32_t *list = malloc(n * sizeof *list);
    key *keys = malloc(n * sizeof *keys);
    for (int64_t i = 0; i < p->cells; i++) make_row(w.rows + i * DIM, p, i);
    CHECK(ferry_quantizer_prepare(prepared, norm2, q, w.rows, p->cells, 0) == FERRY_OK);
    CHECK(ferry_quantizer_assign(list, w.distance, q, prepared, norm2, p->cells, true, 1) == FERRY_OK);
    for (int64_t i = 0; i < p->lists; i++) w.radius[i] = -INFINITY;
    for (size_t i = 0; i < n; i++) keys[i] = (key){list[i], w.distance[i], (uint32_t)i};
    qsort(keys, n, sizeof *keys, by_list);
    for (size_t i = 0; i < n; i++) {
        w.cell[i] = keys[i].cell;
        w.distance[i] = keys[i].distance;
        make_row(w.rows + i * DIM, p, keys[i].cell);
        w.first[keys[i].list + 1]++;
        if (keys[i].distance > w.radius[keys[i].list]) w.radius[keys[i].list] = keys[i].distance;
    }
    for (int64_t i = 0; i < p->lists; i++) w.first[i + 1] += w.first[i];
    free(prepared);
    free(norm2);
    free(list);
    free(keys);
    return w;
}

static void free_want(want *w)
{
    free(w->first);
    free(w->radius);
    free(w->cell);
    free(w->distance);
    free(w->rows);
}

static bool same_packed(const ferry_list_part *part, const ferry_quantizer *q, const float *rows)
{
    float prepared[32 * DIM], norm2[32], packed[32 * DIM];
    bool good = part->units == (part->count + 31) / 32;
    for (int64_t u = 0; u < part->units; u++) {
        const int64_t n = part->count - u * 32 < 32 ? part->count - u * 32 : 32;
        ferry_quantizer_prepare(prepared, norm2, q, rows + u * 32 * DIM, n, 0);
        q->kernels->pack_columns(packed, prepared, n, DIM);
        good = good && !memcmp(packed, part->packed + u * 32 * DIM, sizeof packed);
        for (int64_t i = 0; i < 32; i++)
            good = good && part->beta[u * 32 + i] == (i < n ? norm2[i] * -0.5F : -INFINITY);
    }
    return good;
}

static bool same_part(const ferry_lists *lists, const want *w, int64_t list, int64_t number, bool rows)
{
    ferry_list_part part;
    if (ferry_lists_take(&part, lists, list, number) != FERRY_OK) return false;
    const int64_t first = w->first[list] + number * FERRY_LIST_PART, left = w->first[list + 1] - first;
    const int64_t count = left < FERRY_LIST_PART ? left : FERRY_LIST_PART;
    bool good = part.first == first && part.count == count;
    good = good && !memcmp(part.cell, w->cell + first, (size_t)count * sizeof *part.cell);
    good = good && !memcmp(part.distance, w->distance + first, (size_t)count * sizeof *part.distance);
    if (rows) good = good && part.rows && !memcmp(part.rows, w->rows + first * DIM, (size_t)(count * DIM) * 4);
    good = good && (uintptr_t)part.packed % 64 == 0 && (uintptr_t)part.beta % 64 == 0;
    good = good && same_packed(&part, lists->quantizer, w->rows + first * DIM);
    ferry_lists_drop(lists, &part);
    return good && !part.packed;
}

static void compare(const ferry_lists *lists, const want *w, const problem *p, bool rows)
{
    bool good = lists->lists == p->lists && lists->rows == p->cells;
    CHECK(good);
    if (!good) return;
    CHECK(!memcmp(lists->first, w->first, (size_t)(p->lists + 1) * sizeof *w->first));
    for (int64_t i = 0; i < p->lists; i++) {
        const float radius = lists->radius[i];
        good = good && (isinf(w->radius[i]) ? radius == w->radius[i]
                                            : radius >= w->radius[i] && radius <= w->radius[i] * 1.000002F);
        good = good && ferry_list_parts(lists, i) == (w->first[i + 1] - w->first[i] + 8191) / 8192;
        for (int64_t k = 0; good && k < ferry_list_parts(lists, i); k++) good = same_part(lists, w, i, k, rows);
    }
    CHECK(good);
    for (int64_t row = 0; row < p->cells; row += 1 + p->cells / 50) {
        const int64_t list = ferry_lists_of_row(lists, row);
        good = good && lists->first[list] <= row && row < lists->first[list + 1];
    }
    CHECK(good);
}

/* ---- cases ---- */

static ferry_points points_of(const problem *p)
{
    ferry_points points = {.cells = p->cells, .dim = DIM, .name = "made", .read = read_points, .self = (void *)p};
    return points;
}

static ferry_status build(ferry_lists *out, const ferry_world *world, const ferry_quantizer *q, const problem *p,
                          ferry_lists_options options)
{
    const ferry_points points = points_of(p);
    options.exact = true;
    options.what = "test";
    return ferry_lists_build(out, world, q, &points, &options);
}

/* Threads take parts at random, two at a time. */
static void check_threads(const ferry_lists *lists, const want *w, const problem *p)
{
    int bad = 0;
#pragma omp parallel for num_threads(3) schedule(dynamic) reduction(+ : bad)
    for (int64_t i = 0; i < 60; i++) {
        const int64_t list = (int64_t)(number(7, (uint64_t)i) * 1e6F + 1e6F) % p->lists;
        const int64_t other = (list + i % 3) % p->lists;
        ferry_list_part part = {0};
        if (ferry_list_parts(lists, other)) bad += ferry_lists_take(&part, lists, other, 0) != FERRY_OK;
        for (int64_t k = 0; k < ferry_list_parts(lists, list); k++) bad += !same_part(lists, w, list, k, true);
        if (part.packed) ferry_lists_drop(lists, &part);
    }
    CHECK(bad == 0);
}

static void check_built(const ferry_world *world, const ferry_quantizer *q, const want *w, const problem *p,
                        const ferry_lists_options *options)
{
    ferry_lists lists;
    CHECK(build(&lists, world, q, p, *options) == FERRY_OK);
    if (!lists.store) return;
    int64_t read = 0, found = 0, parts = 0;
    CHECK(lists.held == options->held && lists.exact);
    compare(&lists, w, p, options->keep_rows || !options->held);
    for (int64_t i = 0; i < p->lists; i++) parts += ferry_list_parts(&lists, i);
    ferry_lists_traffic(&lists, &read, &found);
    CHECK(options->held ? read == 0 : read == parts);
    compare(&lists, w, p, options->keep_rows || !options->held);
    ferry_lists_traffic(&lists, &read, &found);
    if (!options->held && options->memory > 1 << 24) CHECK(read == parts && found == parts);
    if (!options->held && options->memory == 0 && parts > 1) CHECK(read == 2 * parts);
    if (options->keep_rows && !options->held) check_threads(&lists, w, p);
    ferry_barrier(world);
    ferry_lists_close(&lists, world);
}

static void check_problem(const ferry_world *world, const problem *p)
{
    ferry_quantizer q;
    CHECK(make_quantizer(&q, world, p) == FERRY_OK);
    want w = make_want(p, &q);
    const ferry_lists_options all[] = {
        {.held = true, .keep_rows = true, .memory = 1 << 28, .threads = 2},
        {.held = true, .keep_rows = true, .memory = 0, .batch = 70, .threads = 1},
        {.held = true, .keep_rows = false, .memory = 1 << 16, .threads = 1},
        {.held = false, .keep_rows = true, .memory = 1 << 28, .threads = 1},
        {.held = false, .keep_rows = true, .memory = 0, .threads = 1},
        {.held = false, .keep_rows = true, .memory = 1 << 19, .batch = 999, .threads = 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) check_built(world, &q, &w, p, &all[i]);
    free_want(&w);
    ferry_quantizer_close(&q, world);
}

/* Every meeting (or allocation) fails once, on the first and the last rank; the same status everywhere, and nothing is
 * left. */
static void check_failures(const ferry_world *world, bool held, const char *variable)
{
    const problem p = {200, 9, 1, FERRY_EUCLIDEAN};
    ferry_quantizer q;
    CHECK(make_quantizer(&q, world, &p) == FERRY_OK);
    for (int rank = 0; rank<world->size; rank += world->size> 1 ? world->size - 1 : 1) {
        ferry_status status = FERRY_E_MPI;
        for (int n = 1; status != FERRY_OK && n < 400; n++) {
            char plan[32];
            ferry_lists lists;
            snprintf(plan, sizeof plan, "%d:%d", n, rank);
            setenv(variable, plan, 1);
            status = build(&lists, world, &q, &p, (ferry_lists_options){.held = held, .keep_rows = n % 2});
            CHECK(ferry_max(world, (int64_t)status) == ferry_min(world, (int64_t)status));
            CHECK(status == FERRY_OK || !lists.store);
            unsetenv(variable);
            ferry_lists_close(&lists, world);
        }
        CHECK(status == FERRY_OK);
    }
    ferry_quantizer_close(&q, world);
}

static void check_messages(const ferry_world *world)
{
    problem p = {200, 9, 1, FERRY_EUCLIDEAN};
    ferry_quantizer q;
    ferry_lists lists;
    CHECK(make_quantizer(&q, world, &p) == FERRY_OK);
    ferry_lists_options options = {.folder = "/nowhere/at/all"};
    CHECK(build(&lists, world, &q, &p, options) == FERRY_E_FILE);
    CHECK(strstr(ferry_error(), "/nowhere/at/all") && strstr(ferry_error(), "--spill"));
    ferry_points points = points_of(&p);
    points.dim = 7;
    CHECK(ferry_lists_build(&lists, world, &q, &points, &options) == FERRY_E_ARG);
    CHECK(strstr(ferry_error(), "7 columns"));
    points = points_of(&p);
    points.cells = (int64_t)1 << 32;
    CHECK(ferry_lists_build(&lists, world, &q, &points, &options) == FERRY_E_ARG);
    ferry_quantizer_close(&q, world);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    ferry_world_open(&world, MPI_COMM_WORLD);
    static const problem problems[] = {
        {3000, 40, 1, FERRY_EUCLIDEAN}, {3000, 33, 200, FERRY_COSINE}, {12000, 2, 1, FERRY_EUCLIDEAN},
        {9000, 1, 9000, FERRY_COSINE},  {1, 4, 1, FERRY_EUCLIDEAN},    {2, 70, 1, FERRY_COSINE},
        {64, 7, 1, FERRY_EUCLIDEAN},
    };
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) check_problem(&world, &problems[i]);
    for (int held = 0; held < 2; held++) {
        check_failures(&world, held, "FERRY_FAIL");
        check_failures(&world, held, "FERRY_FAIL_ALLOC");
    }
    check_messages(&world);
    CHECK(ferry_lists_held_bytes(1000000, 1000, 50, 2) > 200000000);
    CHECK(ferry_lists_cache_least(50, 2) > 2 * ferry_lists_cache_least(50, 1) - 10);
    ferry_world_close(&world);
    return test_end();
}

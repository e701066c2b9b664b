/* The search against float64 brute force: the same cells and the same distances, to the bit, where it is exact; the
 * same answer for any number of ranks and threads, in memory and from disk, in one round or many, where it is not. */
#define _GNU_SOURCE /* setenv */
#include "test.h"
#include "io/population.h"
#include "math/random.h"
#include "mpi/log.h"
#include "neighbors/search.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const ferry_kernels *kernels;

static double normal(uint64_t seed, uint64_t i)
{
    return sqrt(-2 * log(1 - ferry_random(seed, 2 * i))) * cos(6.283185307179586 * ferry_random(seed, 2 * i + 1));
}

/* --- sets of points --- */

typedef struct set {
    int64_t rows;
    int dim;
    float *values;
    int64_t firsts[9];
    ferry_points_shard shard;
    ferry_points points;
} set;

static set set_of(const ferry_world *world, int64_t rows, int dim)
{
    set s = {.rows = rows, .dim = dim, .values = calloc((size_t)(rows * dim + 1), sizeof(float))};
    for (int r = 0; r <= world->size; r++) s.firsts[r] = rows * r / world->size;
    return s;
}
static ferry_points *points_of(set *s, const ferry_world *world)
{
    for (int r = 0; r <= world->size; r++) s->firsts[r] = s->rows * r / world->size;
    s->shard = (ferry_points_shard){.values = s->values + s->firsts[world->rank] * s->dim, .firsts = s->firsts};
    ferry_points_held(&s->points, &s->shard, s->rows, s->dim, "made");
    return &s->points;
}
/* Types of unequal size, each long in a few directions; `spread` of the noise. */
static set mixture(const ferry_world *world, int64_t rows, int dim, int types, double spread, uint64_t seed)
{
    set s = set_of(world, rows, dim);
    for (int64_t i = 0; i < rows; i++) {
        const double u = ferry_random(seed, (uint64_t)i), along = normal(seed + 1, (uint64_t)i);
        const int type = (int)(u * u * types);
        for (int k = 0; k < dim; k++) {
            const uint64_t at = (uint64_t)type * 1000 + (uint64_t)k;
            s.values[i * dim + k] = (float)(5 + (types ? 3 * normal(3, at) + along * normal(4, at) : 0) +
                                            spread * normal(seed + 2, (uint64_t)(i * dim + k)));
        }
    }
    return s;
}
/* Rows i / times of it. */
static void repeat_rows(set *s, int times)
{
    for (int64_t i = s->rows - 1; i >= 0; i--)
        memmove(s->values + i * s->dim, s->values + i / times * s->dim, (size_t)s->dim * sizeof *s->values);
}

/* --- searches --- */

typedef struct how {
    int k, threads;
    bool self, loose_lists, disk;
    int64_t lists, memory, cache;
    ferry_search_metric metric;
    ferry_visit_rule rule;
    double reach;
    int64_t probes;
} how;
/* What is not given: k 15, one thread, room for all. */
static how settled(how h)
{
    if (h.k == 0) h.k = 15;
    if (h.threads == 0) h.threads = 1;
    if (h.memory == 0) h.memory = (int64_t)1 << 28;
    return h;
}
#define HOW(...) settled((how){__VA_ARGS__})

typedef struct search {
    ferry_quantizer quantizer;
    ferry_lists queries, reference;
    ferry_search_options options;
} search;

static ferry_status open_lists(ferry_lists *out, const ferry_world *world, const search *s, set *points, how h)
{
    const ferry_lists_options options = {.exact = !h.loose_lists,
                                         .held = !h.disk,
                                         .memory = h.disk ? h.cache : (int64_t)1 << 28,
                                         .threads = 1,
                                         .keep_rows = true,
                                         .what = "cells"};
    return ferry_lists_build(out, world, &s->quantizer, points_of(points, world), &options);
}
static ferry_status open_search(search *s, const ferry_world *world, set *queries, set *reference, how h)
{
    *s = (search){.options = {.k = h.k,
                              .self = h.self,
                              .rule = h.rule,
                              .reach = h.reach,
                              .probes = h.probes,
                              .memory = h.memory,
                              .threads = h.threads}};
    ferry_train_options train = FERRY_TRAIN_DEFAULTS;
    train.lists = h.lists;
    train.seed = 3;
    train.threads = 1;
    train.memory = (int64_t)1 << 28;
    FERRY_TRY(ferry_quantizer_train(&s->quantizer, world, points_of(reference, world), h.metric, kernels, &train));
    ferry_status status = open_lists(&s->reference, world, s, reference, h);
    if (status == FERRY_OK && !h.self) status = open_lists(&s->queries, world, s, queries, h);
    return status;
}
static void close_search(search *s, const ferry_world *world)
{
    ferry_lists_close(&s->queries, world);
    ferry_lists_close(&s->reference, world);
    ferry_quantizer_close(&s->quantizer, world);
}
static ferry_status graph_of(ferry_graph *graph, ferry_search_counts *counts, const ferry_world *world, search *s)
{
    const ferry_lists *queries = s->options.self ? &s->reference : &s->queries;
    ferry_status status = ferry_graph_open(graph, world, queries->rows, s->reference.rows, s->options.k,
                                           s->options.self, (int64_t)1 << 28, NULL);
    if (status == FERRY_OK) status = ferry_search(graph, counts, world, queries, &s->reference, &s->options);
    return status;
}

/* --- brute force --- */

typedef struct near {
    double distance;
    uint32_t cell;
} near;
static int by_distance(const void *a, const void *b)
{
    const near *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->cell > y->cell) - (x->cell < y->cell);
}
/* all [reference rows] sorted; returns how many count */
static int64_t brute(near *all, const set *queries, const set *reference, how h, int64_t q)
{
    const ferry_scans *scans = ferry_scans_of(kernels);
    int64_t count = 0;
    for (int64_t j = 0; j < reference->rows; j++) {
        if (h.self && j == q) continue;
        const float *a = queries->values + q * queries->dim, *b = reference->values + j * reference->dim;
        const double d =
            h.metric == FERRY_COSINE ? scans->cosine(a, b, reference->dim) : scans->distance2(a, b, reference->dim);
        all[count++] = (near){d, (uint32_t)j};
    }
    qsort(all, (size_t)count, sizeof *all, by_distance);
    return count;
}

/* Rows of the graph that differ from brute force; every `step`-th row is looked at. */
static int64_t wrong_rows(ferry_graph *graph, const set *queries, const set *reference, how h, int64_t step)
{
    near *all = malloc((size_t)(reference->rows + 1) * sizeof *all);
    int64_t wrong = 0;
    for (int64_t t = 0; t < graph->rounds; t++) {
        ferry_graph_block block;
        CHECK(ferry_graph_take(&block, graph, t) == FERRY_OK);
        for (int64_t i = 0; i < block.rows; i++) {
            const int64_t q = block.first + i;
            if (q % step) continue;
            const int64_t count = brute(all, queries, reference, h, q);
            bool same = true;
            for (int64_t n = 0; n < h.k; n++) {
                const float d =
                    n >= count ? INFINITY : (float)(h.metric == FERRY_COSINE ? all[n].distance : sqrt(all[n].distance));
                same = same && block.cell[i * h.k + n] == (n < count ? all[n].cell : UINT32_MAX) &&
                       !memcmp(&block.distance[i * h.k + n], &d, sizeof d);
            }
            wrong += !same;
        }
    }
    free(all);
    return wrong;
}

static void exact_as_brute(const ferry_world *world, const char *what, set *queries, set *reference, how h,
                           int64_t step)
{
    search s;
    ferry_graph graph = {0};
    ferry_search_counts counts;
    CHECK(open_search(&s, world, queries, reference, h) == FERRY_OK);
    const ferry_status status = graph_of(&graph, &counts, world, &s);
    CHECK(status == FERRY_OK);
    if (status != FERRY_OK) fprintf(stderr, "%s: %s\n", what, ferry_error());
    const int64_t wrong = status == FERRY_OK ? wrong_rows(&graph, queries, reference, h, step) : 0;
    if (wrong) fprintf(stderr, "%s: %lld rows are wrong\n", what, (long long)wrong);
    CHECK(wrong == 0);
    if (getenv("SEARCH_TALK") && world->rank == 0)
        printf("%-24s lists %lld, visits %.1f, pairs %.3f, kept %.1f, resolved %lld, tiles filled %.2f\n", what,
               (long long)s.reference.lists, (double)counts.lists / (double)counts.queries,
               (double)counts.pairs / (double)counts.queries / (double)reference->rows,
               (double)counts.kept / (double)counts.queries, (long long)counts.resolved,
               (double)counts.pairs / (double)counts.slots);
    ferry_graph_close(&graph);
    close_search(&s, world);
}

/* --- what is exact --- */

static void hard_sets(const ferry_world *world)
{
    set a = mixture(world, 3000, 50, 20, 1, 10), b = mixture(world, 500, 50, 20, 1, 20);
    exact_as_brute(world, "mixture, self", &a, &a, HOW(.self = true, .lists = 60), 3);
    exact_as_brute(world, "mixture, cross", &b, &a, HOW(.k = 30, .lists = 60, .threads = 2), 2);
    exact_as_brute(world, "mixture, loose lists", &b, &a, HOW(.k = 30, .lists = 60, .loose_lists = true), 2);
    exact_as_brute(world, "mixture, cosine", &b, &a, HOW(.k = 30, .lists = 60, .metric = FERRY_COSINE), 2);
    exact_as_brute(world, "k 89, self", &a, &a, HOW(.k = 89, .self = true, .lists = 200), 10);
    exact_as_brute(world, "k 90", &b, &a, HOW(.k = 90, .lists = 1), 5);
    exact_as_brute(world, "queries are cells", &a, &a, HOW(.k = 1, .lists = 30), 3);
    for (int64_t i = 0; i < a.rows; i += 2) a.values[i * a.dim + 1] += 3000;
    for (int64_t i = 0; i < b.rows; i += 2) b.values[i * b.dim + 1] += 3000;
    exact_as_brute(world, "half far away", &b, &a, HOW(.lists = 60), 2);
    free(a.values);
    free(b.values);
    a = mixture(world, 3000, 2, 0, 1, 30);
    b = mixture(world, 700, 2, 0, 4, 40);
    exact_as_brute(world, "plane", &b, &a, HOW(.lists = 100), 2);
    exact_as_brute(world, "plane, self", &a, &a, HOW(.self = true, .lists = 300), 7);
    free(a.values);
    free(b.values);
    a = mixture(world, 2000, 100, 12, 2, 50);
    exact_as_brute(world, "100 dimensions", &a, &a, HOW(.self = true, .lists = 40), 4);
    free(a.values);
}

static void duplicates(const ferry_world *world)
{
    set a = mixture(world, 4000, 20, 5, 1, 60);
    repeat_rows(&a, 200);
    exact_as_brute(world, "every cell 200 times", &a, &a, HOW(.self = true, .lists = 15), 9);
    free(a.values);
    a = mixture(world, 3000, 10, 5, 1, 70);
    repeat_rows(&a, 3);
    set b = mixture(world, 1000, 10, 5, 1, 70);
    exact_as_brute(world, "every cell 3 times", &b, &a, HOW(.k = 31, .lists = 60), 2);
    exact_as_brute(world, "3 times, cosine, self", &a, &a,
                   HOW(.k = 31, .self = true, .lists = 60, .metric = FERRY_COSINE), 3);
    free(a.values);
    a = set_of(world, 700, 7);
    exact_as_brute(world, "all the same", &a, &a, HOW(.self = true, .lists = 9), 3);
    free(a.values);
    /* on a grid: many equal distances between different cells */
    a = set_of(world, 1728, 3);
    for (int64_t i = 0; i < a.rows; i++)
        for (int k = 0, p = 1; k < 3; k++, p *= 12) a.values[i * 3 + k] = (float)(i / p % 12);
    exact_as_brute(world, "grid", &a, &a, HOW(.k = 20, .self = true, .lists = 40), 1);
    free(a.values);
    free(b.values);
}

static void small_sets(const ferry_world *world)
{
    set a = mixture(world, 5, 6, 2, 1, 80), b = mixture(world, 40, 6, 2, 1, 90), one = mixture(world, 1, 6, 2, 1, 95);
    exact_as_brute(world, "fewer cells than k", &b, &a, HOW(.lists = 3), 1);
    exact_as_brute(world, "fewer, self", &a, &a, HOW(.self = true, .lists = 3), 1);
    exact_as_brute(world, "one cell, self", &one, &one, HOW(.self = true, .lists = 1), 1);
    exact_as_brute(world, "one query", &one, &b, HOW(.lists = 6), 1);
    free(a.values);
    free(b.values);
    free(one.values);
}

/* From a disk, all queries of a thread at once: places in several passes, candidates up to the last, ties. */
static void large_chunks(const ferry_world *world)
{
    const how h = HOW(.k = 89, .self = true, .lists = 60, .disk = true, .cache = ferry_lists_cache_least(50, 2));
    set a = mixture(world, 3000, 50, 20, 1, 10);
    exact_as_brute(world, "disk, k 89", &a, &a, h, 10);
    free(a.values);
    a = mixture(world, 4000, 20, 5, 1, 60);
    repeat_rows(&a, 200);
    exact_as_brute(world, "disk, 200 times", &a, &a,
                   HOW(.self = true, .lists = 15, .disk = true, .cache = 1, .threads = 2), 40);
    free(a.values);
    a = set_of(world, 1728, 3);
    for (int64_t i = 0; i < a.rows; i++)
        for (int k = 0, p = 1; k < 3; k++, p *= 12) a.values[i * 3 + k] = (float)(i / p % 12);
    for (int k = 75; k < 90; k += 7)
        exact_as_brute(world, "disk, grid", &a, &a, HOW(.k = k, .self = true, .lists = 40, .disk = true, .cache = 1),
                       3);
    free(a.values);
}

/* Angles so small that the rows differ in their last bits only. */
static void narrow_cone(const ferry_world *world)
{
    set a = set_of(world, 1500, 30);
    for (int64_t i = 0; i < a.rows * a.dim; i++) a.values[i] = (float)(100 + 0.02 * normal(7, (uint64_t)i));
    exact_as_brute(world, "narrow cone", &a, &a, HOW(.self = true, .lists = 30, .metric = FERRY_COSINE), 3);
    free(a.values);
}

static void real_cells(const ferry_world *world)
{
    char path[512];
    const char *folder = getenv("FERRY_DATA");
    snprintf(path, sizeof path, "%s/pbmc68k_reduced.h5ad", folder ? folder : "data");
    const ferry_population_options options = {.path = path, .rep = "obsm/X_pca"};
    ferry_population population;
    CHECK(ferry_population_open(&population, world, &options) == FERRY_OK);
    ferry_matrix rows;
    CHECK(ferry_population_points(&rows, world, &population, 0, population.cells, FERRY_FLOAT, NULL) == FERRY_OK);
    set a = {.rows = rows.rows, .dim = rows.dim, .values = rows.f};
    CHECK(a.rows == 700 && a.dim == 50);
    exact_as_brute(world, "pbmc68k", &a, &a, HOW(.self = true, .lists = 26), 1);
    exact_as_brute(world, "pbmc68k, cosine", &a, &a, HOW(.self = true, .lists = 26, .metric = FERRY_COSINE), 1);
    ferry_matrix_close(&rows);
    ferry_population_close(&population);
}

/* --- what is approximate --- */

/* Of all rows of all ranks, in any order. */
static int64_t fingerprint(ferry_graph *graph, const ferry_world *world)
{
    uint64_t sum = 0;
    for (int64_t t = 0; t < graph->rounds; t++) {
        ferry_graph_block block;
        CHECK(ferry_graph_take(&block, graph, t) == FERRY_OK);
        for (int64_t i = 0; i < block.rows * graph->k; i++) {
            uint32_t bits;
            memcpy(&bits, &block.distance[i], sizeof bits);
            sum +=
                ferry_random_bits((uint64_t)(block.first * graph->k + i), (uint64_t)block.cell[i] << 32 | bits) >> 24;
        }
    }
    return ferry_total(world, (int64_t)sum);
}

typedef struct outcome {
    int64_t sum;
    ferry_search_counts counts;
} outcome;
static outcome outcome_of(const ferry_world *world, set *queries, set *reference, how h)
{
    search s;
    ferry_graph graph = {0};
    outcome o = {0};
    CHECK(open_search(&s, world, queries, reference, h) == FERRY_OK);
    CHECK(graph_of(&graph, &o.counts, world, &s) == FERRY_OK);
    o.sum = fingerprint(&graph, world);
    ferry_graph_close(&graph);
    close_search(&s, world);
    return o;
}
static void same_outcome(const outcome *a, const outcome *b)
{
    CHECK(a->sum == b->sum);
    CHECK(!memcmp(&a->counts, &b->counts, sizeof a->counts));
}

/* One rank, in memory, one round against many ranks; threads; from disk with a small cache; many rounds. */
static void same_for_all(const ferry_world *world, const ferry_world *alone)
{
    set a = mixture(world, 6000, 20, 15, 1, 110), b = mixture(world, 900, 20, 15, 1, 120);
    const ferry_visit_rule rules[3] = {FERRY_VISIT_REACH, FERRY_VISIT_PROBES, FERRY_VISIT_EXACT};
    int64_t sums[3];
    for (int r = 0; r < 3; r++) {
        how h = settled((how){.lists = 120, .self = r == 2, .rule = rules[r], .reach = 0.4, .probes = 4});
        const outcome one = outcome_of(alone, &b, &a, h);
        const outcome all = outcome_of(world, &b, &a, h);
        same_outcome(&one, &all);
        sums[r] = all.sum;
        h.threads = 2;
        h.memory = 1;
        const outcome small = outcome_of(world, &b, &a, h);
        same_outcome(&one, &small);
        h.disk = true; /* chunks depend on memory and threads, so what was looked at does; the answer does not */
        h.cache = ferry_lists_cache_least(20, 2);
        for (int i = 0; i < 4; i++) {
            h.threads = 1 + i % 2;
            h.memory = i < 2 ? 1 : (int64_t)1 << 28;
            const outcome disk = outcome_of(world, &b, &a, h);
            CHECK(disk.sum == one.sum && disk.counts.queries == one.counts.queries);
            CHECK(disk.counts.pairs > 0 && disk.counts.lists > 0);
        }
    }
    CHECK(sums[0] != sums[1]);
    free(a.values);
    free(b.values);
}

/* Neighbours of `exact` that `found` has, of all ranks. */
static int64_t common(ferry_graph *found, ferry_graph *exact, const ferry_world *world)
{
    int64_t sum = 0;
    for (int64_t t = 0; t < exact->rounds; t++) {
        ferry_graph_block x, y;
        CHECK(ferry_graph_take(&x, exact, t) == FERRY_OK && ferry_graph_take(&y, found, t) == FERRY_OK);
        for (int64_t i = 0; i < x.rows; i++)
            for (int64_t n = 0; n < exact->k; n++)
                for (int64_t m = 0; m < exact->k; m++) sum += x.cell[i * exact->k + n] == y.cell[i * exact->k + m];
    }
    return ferry_total(world, sum);
}

/* The setting that is found keeps its promise, and what is said about a setting is so: the sample may be all queries.
 */
static void recall_is_met(const ferry_world *world, const ferry_world *alone)
{
    set a = mixture(world, 6000, 20, 15, 1, 130), b = mixture(world, 1200, 20, 15, 1, 140);
    const how h = settled((how){.k = 20, .lists = 120, .threads = 2});
    const double wanted[3] = {0.8, 0.95, 0.995};
    search s, one;
    ferry_graph exact = {0};
    ferry_search_counts counts;
    CHECK(open_search(&s, world, &b, &a, h) == FERRY_OK);
    CHECK(open_search(&one, alone, &b, &a, h) == FERRY_OK);
    CHECK(graph_of(&exact, &counts, world, &s) == FERRY_OK);
    double pairs = 0;
    for (int i = 0; i < 3; i++) {
        ferry_recall r, again, whole;
        s.options.rule = FERRY_VISIT_EXACT;
        CHECK(ferry_recall_tune(&r, world, &s.queries, &s.reference, &s.options, wanted[i], 400, 5) == FERRY_OK);
        CHECK(ferry_recall_tune(&again, alone, &one.queries, &one.reference, &one.options, wanted[i], 400, 5) ==
              FERRY_OK);
        CHECK(r.rule == again.rule && r.reach == again.reach && r.probes == again.probes && r.mean == again.mean &&
              r.pairs == again.pairs && r.quantile[0] == again.quantile[0] && r.below_half == again.below_half);
        CHECK(r.rule != FERRY_VISIT_EXACT && r.sample == 400 && r.mean >= wanted[i] && r.mean < 1);
        CHECK(r.pairs > pairs && r.quantile[0] <= r.quantile[1] && r.quantile[1] <= r.quantile[2]);
        pairs = r.pairs;
        for (int probes = 0; probes < 2; probes++) { /* as found, then by the other rule */
            s.options.rule = r.rule;
            s.options.reach = r.reach;
            s.options.probes = r.probes;
            if (probes) {
                s.options.rule = r.rule == FERRY_VISIT_PROBES ? FERRY_VISIT_REACH : FERRY_VISIT_PROBES;
                s.options.reach = 0.31;
                s.options.probes = 3 + i;
            }
            ferry_graph graph = {0};
            CHECK(graph_of(&graph, &counts, world, &s) == FERRY_OK);
            const double got = (double)common(&graph, &exact, world) / (1200 * 20.0);
            CHECK(ferry_recall_tune(&whole, world, &s.queries, &s.reference, &s.options, 0, 1200, 5) == FERRY_OK);
            CHECK(fabs(whole.mean - got) < 1e-12);
            if (fabs(whole.mean - got) >= 1e-12) fprintf(stderr, "%g said, %g found\n", whole.mean, got);
            CHECK(probes || got > wanted[i] - 4 * 0.15 / 20); /* 400 queries, each off by 0.15 */
            if (getenv("SEARCH_TALK") && world->rank == 0)
                printf("recall %g: %s %g %lld, %g on the sample, %g on all; pairs %.4f, %.4f\n", wanted[i],
                       s.options.rule == FERRY_VISIT_REACH ? "reach" : "probes", s.options.reach,
                       (long long)s.options.probes, r.mean, got, whole.pairs,
                       (double)counts.pairs / (1200.0 * (double)a.rows));
            ferry_graph_close(&graph);
        }
    }
    s.options.rule = FERRY_VISIT_EXACT;
    ferry_recall r;
    CHECK(ferry_recall_tune(&r, world, &s.queries, &s.reference, &s.options, 1.1, 50, 5) == FERRY_OK);
    CHECK(r.rule == FERRY_VISIT_EXACT && r.mean == 1 && r.pairs > pairs);
    ferry_graph_close(&exact);
    close_search(&s, world);
    close_search(&one, alone);
    free(a.values);
    free(b.values);
}

/* Every meeting fails once. */
static void failures(const ferry_world *world)
{
    set a = mixture(world, 500, 8, 3, 1, 150);
    search s;
    ferry_search_counts counts;
    CHECK(open_search(&s, world, &a, &a, settled((how){.self = true, .lists = 10})) == FERRY_OK);
    bool clean = false;
    for (int n = 1; n < 100 && !clean; n++) {
        char text[32];
        ferry_graph graph = {0};
        ferry_recall r;
        CHECK(ferry_graph_open(&graph, world, 500, 500, 15, true, 1 << 24, NULL) == FERRY_OK);
        snprintf(text, sizeof text, "%d:%d", n, n % world->size);
        setenv("FERRY_FAIL", text, 1);
        ferry_status status = ferry_search(&graph, &counts, world, &s.reference, &s.reference, &s.options);
        if (status == FERRY_OK)
            status = ferry_recall_tune(&r, world, &s.reference, &s.reference, &s.options, 0.9, 50, 1);
        clean = status == FERRY_OK;
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        CHECK(clean || n < 99);
        ferry_graph_close(&graph);
    }
    CHECK(clean);
    ferry_graph graph = {0};
    CHECK(ferry_graph_open(&graph, world, 500, 500, 90, true, 1 << 24, NULL) == FERRY_OK);
    s.options.k = 90;
    CHECK(ferry_search(&graph, &counts, world, &s.reference, &s.reference, &s.options) == FERRY_E_ARG);
    CHECK(strstr(ferry_error(), "1 to 89"));
    s.options.k = 15;
    CHECK(ferry_search(&graph, &counts, world, &s.reference, &s.reference, &s.options) == FERRY_E_ARG);
    ferry_graph_close(&graph);
    close_search(&s, world);
    free(a.values);
}

int main(int argc, char **argv)
{
    ferry_world world;
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    ferry_log_level(FERRY_WARN);
    CHECK(ferry_kernels_choose(&kernels, &world, getenv("SEARCH_TABLE")) == FERRY_OK);
    hard_sets(&world);
    duplicates(&world);
    small_sets(&world);
    large_chunks(&world);
    narrow_cone(&world);
    real_cells(&world);
    ferry_world alone;
    CHECK(ferry_world_split(&alone, &world, world.rank, 0) == FERRY_OK);
    same_for_all(&world, &alone);
    recall_is_met(&world, &alone);
    failures(&world);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

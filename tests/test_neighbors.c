/* From points to graph: against brute force in float64, in memory and on disk, and what the plan foretells against what
 * the run counts. */
#include "neighbors/neighbors.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- points: clusters with a spread of their own, every 40th cell a copy of the one before --- */

static double random_of(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (double)(*state >> 33) / 2147483648.0;
}

static float *make_points(int64_t count, int dim, uint64_t seed)
{
    float *out = calloc((size_t)(count * dim + 1), sizeof *out);
    for (int64_t i = 0; i < count; i++) {
        uint64_t own = seed + (uint64_t)(i % 40 == 39 ? i - 1 : i) * 977, cluster = 99 + (uint64_t)(i % 11);
        for (int w = 0; w < 3; w++) (void)random_of(&own);
        if (i % 40 == 39) cluster = 99 + (uint64_t)((i - 1) % 11);
        const double spread = 0.5 + 0.1 * (double)(cluster % 7);
        for (int k = 0; k < dim; k++) {
            const double centre = 6 * random_of(&cluster);
            double noise = -3;
            for (int w = 0; w < 6; w++) noise += random_of(&own);
            out[i * dim + k] = (float)(centre + spread * noise);
        }
    }
    return out;
}

typedef struct side {
    float *all;
    int64_t *firsts;
    ferry_points_shard shard;
    ferry_points points;
} side;

/* Every rank holds an uneven run of the rows. */
static void side_open(side *s, const ferry_world *world, int64_t count, int dim, uint64_t seed)
{
    s->all = make_points(count, dim, seed);
    s->firsts = calloc((size_t)world->size + 1, sizeof *s->firsts);
    for (int r = 1; r <= world->size; r++)
        s->firsts[r] = r == world->size ? count : count * r * r / world->size / world->size;
    s->shard = (ferry_points_shard){.values = s->all + s->firsts[world->rank] * dim, .firsts = s->firsts};
    ferry_points_held(&s->points, &s->shard, count, dim, "points");
}

static void side_close(side *s)
{
    free(s->all);
    free(s->firsts);
}

/* --- brute force --- */

typedef struct near {
    double distance;
    int64_t cell;
} near;

static int by_distance(const void *a, const void *b)
{
    const near *x = a, *y = b;
    return x->distance < y->distance ? -1 : x->distance > y->distance ? 1 : (x->cell > y->cell) - (x->cell < y->cell);
}

static double distance_of(const float *a, const float *b, int dim, ferry_search_metric metric)
{
    double sum = 0, aa = 0, bb = 0, ab = 0;
    for (int k = 0; k < dim; k++) {
        const double x = (double)a[k], y = (double)b[k];
        sum += (x - y) * (x - y);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    return metric == FERRY_COSINE ? 1 - ab / sqrt(aa * bb) : sqrt(sum);
}

/* The row of the graph has the distances of brute force, its cells have them, and (exact) they are the very ones where
 * no other is as far. */
static int64_t wrong_in_row(const uint32_t *cell, const float *distance, const near *truth, int k, const float *query,
                            const float *reference, int dim, ferry_search_metric metric)
{
    int64_t wrong = 0;
    for (int j = 0; j < k; j++) {
        const double d = distance_of(query, reference + (int64_t)cell[j] * dim, dim, metric);
        const double slack = 1e-6 + 1e-5 * truth[j].distance;
        wrong += fabs((double)distance[j] - truth[j].distance) > slack || fabs(d - truth[j].distance) > slack;
        if (j && distance[j] == distance[j - 1]) wrong += cell[j] <= cell[j - 1];
        const bool tied = (j > 0 && truth[j].distance - truth[j - 1].distance < 1e-12) ||
                          truth[j + 1].distance - truth[j].distance < 1e-12;
        if (!tied) wrong += cell[j] != truth[j].cell;
    }
    return wrong;
}

static void check_exact(ferry_graph *graph, const side *queries, const side *reference, int dim,
                        ferry_search_metric metric)
{
    const int64_t n = graph->columns;
    near *truth = calloc((size_t)n + 1, sizeof *truth);
    int64_t wrong = 0;
    for (int64_t t = 0; t < graph->rounds; t++) {
        ferry_graph_block block;
        CHECK(ferry_graph_take(&block, graph, t) == FERRY_OK);
        for (int64_t i = 0; i < block.rows; i++) {
            const float *query = queries->all + (block.first + i) * dim;
            for (int64_t c = 0; c < n; c++) {
                const bool itself = graph->self && c == block.first + i;
                truth[c] = (near){itself ? INFINITY : distance_of(query, reference->all + c * dim, dim, metric), c};
            }
            truth[n] = (near){INFINITY, n};
            qsort(truth, (size_t)n, sizeof *truth, by_distance);
            wrong += wrong_in_row(block.cell + i * graph->k, block.distance + i * graph->k, truth, graph->k, query,
                                  reference->all, dim, metric);
        }
    }
    CHECK(wrong == 0);
    free(truth);
}

/* --- runs --- */

static ferry_neighbors_options options_of(int k, double recall)
{
    return (ferry_neighbors_options){.k = k,
                                     .exact = isnan(recall),
                                     .recall = recall,
                                     .memory = (int64_t)1 << 30,
                                     .threads = 1,
                                     .seed = 5,
                                     .kernels = ferry_kernels_find("auto")};
}

/* queries NULL: within the reference. Everything, with this plan. */
static ferry_status run_with(ferry_graph *graph, ferry_neighbors_report *report, const ferry_world *world,
                             const ferry_points *queries, const ferry_points *reference,
                             const ferry_neighbors_options *o, const ferry_neighbors_plan *plan)
{
    ferry_reference ready;
    memset(graph, 0, sizeof *graph);
    FERRY_TRY(ferry_reference_open(&ready, world, reference, NULL, o, plan));
    const ferry_status status = ferry_neighbors(graph, report, world, queries, &ready, o, plan);
    ferry_reference_close(&ready, world);
    return status;
}

static ferry_neighbors_sizes sizes_of(const ferry_world *world, int64_t queries, int64_t reference, int dim)
{
    return (ferry_neighbors_sizes){.queries = queries ? queries : reference,
                                   .reference = reference,
                                   .dim = dim,
                                   .self = queries == 0,
                                   .ranks = world->size,
                                   .nodes = world->nodes};
}

/* All rows of the graph, on every rank. */
static uint64_t whole(ferry_graph *graph, const ferry_world *world)
{
    uint64_t sum = 0;
    for (int64_t t = 0; t < graph->rounds; t++) {
        ferry_graph_block block;
        CHECK(ferry_graph_take(&block, graph, t) == FERRY_OK);
        for (int64_t i = 0; i < block.rows * graph->k; i++) {
            uint32_t bits;
            memcpy(&bits, &block.distance[i], 4);
            const uint64_t mixed = ((uint64_t)block.cell[i] << 32 | bits) + (uint64_t)(block.first * graph->k + i);
            sum += mixed * 0x9E3779B97F4A7C15U ^ mixed >> 29;
        }
    }
    return (uint64_t)ferry_total(world, (int64_t)sum);
}

/* Held and on disk, in all forms: the same graph. */
static void forms(const ferry_world *world, int64_t queries, int64_t cells, int dim, double recall,
                  ferry_search_metric metric)
{
    side query = {0}, reference = {0};
    ferry_neighbors_options o = options_of(9, recall);
    ferry_neighbors_plan plan;
    uint64_t first = 0;
    o.metric = metric;
    o.lists = 24;
    if (queries) side_open(&query, world, queries, dim, 77);
    side_open(&reference, world, cells, dim, 3);
    const ferry_neighbors_sizes sizes = sizes_of(world, queries, cells, dim);
    for (int form = 0; form < 4; form++) {
        ferry_graph graph;
        ferry_neighbors_report report;
        CHECK(ferry_neighbors_layout(&plan, &sizes, &o) == FERRY_OK);
        CHECK(plan.reference_held && plan.queries_held && plan.graph_held);
        if (form & 1) {
            plan.reference_held = false;
            if (!queries) plan.queries_held = false;
            plan.cache = ferry_lists_cache_least(dim, 1);
        }
        if (form & 2) {
            plan.queries_held = plan.graph_held = false;
            if (!queries) plan.reference_held = false;
            plan.cache = plan.query_cache = ferry_lists_cache_least(dim, 1);
            plan.graph = ferry_graph_least(sizes.queries, o.k, world->size);
        }
        CHECK(run_with(&graph, &report, world, queries ? &query.points : NULL, &reference.points, &o, &plan) ==
              FERRY_OK);
        if (!graph.store) continue;
        CHECK(report.counts.queries == sizes.queries && report.lists <= 24 && report.counts.pairs > 0);
        const uint64_t here = whole(&graph, world);
        if (form == 0) first = here;
        CHECK(here == first);
        if (isnan(recall) && form == 0) check_exact(&graph, queries ? &query : &reference, &reference, dim, metric);
        if (!isnan(recall)) CHECK(report.recall.sample > 0 && report.recall.mean >= recall);
        ferry_graph_close(&graph);
    }
    side_close(&query);
    side_close(&reference);
}

/* Settings by hand are measured too; what they find is a part of the truth. */
static void by_hand(const ferry_world *world)
{
    side reference = {0};
    ferry_neighbors_options o = options_of(5, 0.99);
    ferry_neighbors_plan plan;
    side_open(&reference, world, 900, 6, 3);
    const ferry_neighbors_sizes sizes = sizes_of(world, 0, 900, 6);
    for (int i = 0; i < 2; i++) {
        ferry_graph graph;
        ferry_neighbors_report report;
        o.recall = NAN;
        o.probes = i ? 0 : 3;
        o.reach = i ? 0.5 : 0;
        CHECK(ferry_neighbors_layout(&plan, &sizes, &o) == FERRY_OK);
        CHECK(run_with(&graph, &report, world, NULL, &reference.points, &o, &plan) == FERRY_OK);
        CHECK(report.rule == (i ? FERRY_VISIT_REACH : FERRY_VISIT_PROBES) && report.recall.sample > 0);
        CHECK(report.recall.mean > 0.5 && report.recall.mean <= 1);
        ferry_graph_close(&graph);
    }
    side_close(&reference);
}

/* --- the plan --- */

/* Less memory: first the graph goes, then the queries, then the reference; at last it is refused before any work. */
static void plans(void)
{
    ferry_neighbors_sizes sizes = {
        .queries = 3000000, .reference = 4000000, .dim = 50, .base = (int64_t)50 << 20, .ranks = 4, .nodes = 1};
    ferry_neighbors_options o = options_of(30, 0.99);
    ferry_neighbors_plan plan;
    bool held[4] = {true, true, true, true};
    int64_t smallest = 0, last = INT64_MAX;
    for (o.memory = (int64_t)8 << 30; o.memory > (int64_t)16 << 20; o.memory -= o.memory / 16) {
        const ferry_status status = ferry_neighbors_layout(&plan, &sizes, &o);
        if (status == FERRY_E_PLAN) {
            CHECK(strstr(ferry_error(), "--memory"));
            break;
        }
        CHECK(status == FERRY_OK && plan.bytes <= o.memory && plan.lists == 4000);
        held[0] &= plan.reference_held;
        held[1] &= plan.queries_held;
        held[2] &= plan.graph_held;
        smallest = o.memory;
        CHECK(plan.scratch == 0 || !held[2] || !held[0]);
        last = plan.bytes;
    }
    CHECK(last < INT64_MAX && !held[0] && !held[1] && !held[2]);
    CHECK(smallest < (int64_t)512 << 20);
    sizes.dim = 0;
    CHECK(ferry_neighbors_layout(&plan, &sizes, &o) == FERRY_E_ARG);
}

/* A file of cells, so that reading is counted as it is for a user. */
static void write_cells(const ferry_world *world, const char *path, int64_t count, int dim)
{
    float *all = make_points(count, dim, 3);
    ferry_output *output = NULL;
    ferry_names names = {0};
    const int64_t first = count * world->rank / world->size, end = count * (world->rank + 1) / world->size;
    for (int64_t i = first; i < end; i++) {
        char name[24];
        CHECK(ferry_names_add(&names, name, snprintf(name, sizeof name, "cell%lld", (long long)i)) == FERRY_OK);
    }
    CHECK(ferry_output_open(&output, world, path, true) == FERRY_OK);
    CHECK(ferry_output_anndata(output) == FERRY_OK);
    CHECK(ferry_output_frame(output, "obs", count, first, &names) == FERRY_OK);
    ferry_names_close(&names);
    CHECK(ferry_output_frame(output, "var", 0, 0, &names) == FERRY_OK);
    CHECK(ferry_output_array(output, "obsm/X_pca", FERRY_F32, count, dim, first, end - first, all + first * dim) ==
          FERRY_OK);
    CHECK(ferry_output_finish(&output) == FERRY_OK);
    free(all);
}

static ferry_stage stage_now(const char *name)
{
    const ferry_stages *stages = ferry_stages_here();
    for (int i = 0; i < stages->count; i++)
        if (!strcmp(stages->stage[i].name, name)) return stages->stage[i];
    return (ferry_stage){0};
}

static void check_bytes(const char *name, const char *what, int64_t planned, int64_t counted)
{
    const double difference = fabs((double)planned - (double)counted);
    const bool good = difference <= 0.1 * (double)counted || difference < 50000;
    if (!good)
        fprintf(stderr, "%s %s: planned %lld, counted %lld\n", name, what, (long long)planned, (long long)counted);
    CHECK(good);
}

/* The phases' bytes within 10 % of what is counted; tight: in hardly more memory than is needed. */
static void counters(const ferry_world *world, const char *path, int64_t count, int dim, bool tight)
{
    const ferry_population_options from = {.path = path};
    static const char *const name[] = {"train", "assign", "place", "search", "write"};
    ferry_population cells;
    ferry_points points;
    ferry_neighbors_options o = options_of(40, NAN);
    ferry_neighbors_plan plan;
    ferry_stage before[5];
    ferry_graph graph;
    ferry_neighbors_report report;
    ferry_output *output = NULL;
    o.exact = false;
    o.probes = 2;
    o.lists = 120;
    CHECK(ferry_population_open(&cells, world, &from) == FERRY_OK);
    ferry_points_of(&points, &cells);
    const ferry_neighbors_sizes sizes = sizes_of(world, 0, count, dim);
    if (tight) o.memory = (int64_t)20 << 20;
    while (ferry_neighbors_layout(&plan, &sizes, &o) == FERRY_E_PLAN) o.memory += (int64_t)1 << 20;
    CHECK(plan.phases > 0 && plan.reference_held == !tight && plan.graph_held == !tight);
    for (int i = 0; i < 5; i++) before[i] = stage_now(name[i]);
    CHECK(run_with(&graph, &report, world, NULL, &points, &o, &plan) == FERRY_OK);
    ferry_stage_begin("write");
    CHECK(ferry_output_open(&output, world, "test_neighbors_out.h5ad", true) == FERRY_OK);
    CHECK(ferry_output_anndata(output) == FERRY_OK);
    CHECK(graph.store && ferry_graph_write(&graph, world, output) == FERRY_OK);
    ferry_output_discard(&output);
    ferry_stage_begin(NULL);
    for (int i = 0; i < 5; i++) {
        const ferry_stage now = stage_now(name[i]);
        const int64_t read = ferry_total(world, now.read_bytes - before[i].read_bytes);
        const int64_t written = ferry_total(world, now.written_bytes - before[i].written_bytes);
        const int64_t sent = ferry_total(world, now.sent_bytes - before[i].sent_bytes);
        for (int p = 0; p < plan.phases && world->rank == 0; p++) {
            if (strcmp(plan.phase[p].name, name[i])) continue;
            if (strcmp(name[i], "search") != 0) check_bytes(name[i], "read", plan.phase[p].read_bytes, read);
            check_bytes(name[i], "written", plan.phase[p].written_bytes, written);
            check_bytes(name[i], "sent", plan.phase[p].sent_bytes, sent);
        }
    }
    ferry_graph_close(&graph);
    ferry_population_close(&cells);
}

/* --- failures --- */

/* Meetings (FERRY_FAIL), or allocations (FERRY_FAIL_ALLOC), fail once each, on the last rank: all ranks get the same
 * error, and nothing is left behind. step: so many are passed over, to save time. */
static void every_failure(const ferry_world *world, const char *what, int step)
{
    side reference = {0}, query = {0};
    ferry_neighbors_options o = options_of(3, 0.9);
    ferry_neighbors_plan plan;
    o.lists = 4;
    side_open(&reference, world, 200, 4, 3);
    side_open(&query, world, 90, 4, 5);
    const ferry_neighbors_sizes sizes = sizes_of(world, 90, 200, 4);
    CHECK(ferry_neighbors_layout(&plan, &sizes, &o) == FERRY_OK);
    plan.reference_held = plan.queries_held = plan.graph_held = false;
    plan.cache = plan.query_cache = ferry_lists_cache_least(4, 1);
    plan.graph = ferry_graph_least(90, 3, world->size);
    ferry_status status = FERRY_E_RUN;
    int failed = 0;
    for (int number = 1; status != FERRY_OK && number < 5000; number += step) {
        char text[32];
        ferry_graph graph;
        ferry_neighbors_report report;
        snprintf(text, sizeof text, "%d:%d", number, world->size - 1);
        setenv(what, text, 1);
        status = run_with(&graph, &report, world, &query.points, &reference.points, &o, &plan);
        unsetenv(what);
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        ferry_graph_close(&graph);
        failed += status != FERRY_OK;
    }
    CHECK(status == FERRY_OK && failed > 5);
    side_close(&reference);
    side_close(&query);
}

int main(int argc, char **argv)
{
    ferry_world world;
    MPI_Init(&argc, &argv);
    if (ferry_world_open(&world, MPI_COMM_WORLD) != FERRY_OK) return 1;
    ferry_log_level(FERRY_QUIET);
    char path[64];
    snprintf(path, sizeof path, "test_neighbors_%d.h5ad", world.size);
    forms(&world, 0, 1100, 7, NAN, FERRY_EUCLIDEAN);
    forms(&world, 300, 1100, 7, NAN, FERRY_EUCLIDEAN);
    forms(&world, 300, 700, 12, NAN, FERRY_COSINE);
    forms(&world, 0, 1100, 7, 0.95, FERRY_EUCLIDEAN);
    by_hand(&world);
    plans();
    write_cells(&world, path, 60000, 80);
    counters(&world, path, 60000, 80, false);
    if (world.size < 3) counters(&world, path, 60000, 80, true); /* a share of more ranks may fit whole */
    ferry_barrier(&world);
    if (world.rank == 0) unlink(path);
    every_failure(&world, "FERRY_FAIL", 3);
    every_failure(&world, "FERRY_FAIL_ALLOC", 29);
    ferry_world_close(&world);
    return test_end();
}

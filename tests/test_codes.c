/* An index of codes: candidates as brute force in float64 chooses them, the answer exactly as brute force decides among
 * all when every cell is a candidate, recall on clusters, and the same bits for any ranks, threads and memory; what
 * does not fit together is said. */
#define _GNU_SOURCE /* setenv */
#include "io/read.h"
#include "neighbors/neighbors.h"
#include "test.h"
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIM     10
#define BYTES   4 /* sub-spaces of 2, 3, 2 and 3 columns */
#define CELLS   2000
#define QUERIES 300
#define K       10
#define LISTS   40
static char folder[64], path[96];
static const ferry_kernels *kernels;

/* --- points: clusters of noise; every 50th cell is a copy of the one before --- */

static double uniform(uint64_t seed, uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15U + seed * 0xd1342543de82ef95U;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    return (double)(x >> 11) * 0x1p-53;
}

static float *make_points(int64_t count, uint64_t seed)
{
    float *out = calloc((size_t)(count * DIM), sizeof *out);
    for (int64_t i = 0; i < count; i++) {
        const uint64_t from = (uint64_t)(i % 50 == 49 ? i - 1 : i);
        const uint64_t cluster = (uint64_t)(12 * uniform(seed + 1, from));
        for (uint64_t k = 0; k < DIM; k++) {
            double noise = -3;
            for (uint64_t w = 0; w < 6; w++) noise += uniform(seed, (from * DIM + k) * 6 + w);
            out[i * DIM + (int64_t)k] = (float)(1 + 6 * uniform(7, cluster * DIM + k) + noise);
        }
    }
    return out;
}

/* All ranks have all of it. */
typedef struct side {
    float *all;
    ferry_points points;
} side;

static ferry_status read_side(void *self, ferry_matrix *out, const ferry_world *world, int64_t first, int64_t count)
{
    const side *s = self;
    ferry_status status = ferry_matrix_open(out, count, DIM, FERRY_FLOAT);
    if (status == FERRY_OK) memcpy(out->f, s->all + first * DIM, (size_t)(count * DIM) * sizeof *out->f);
    status = ferry_agree(world, status);
    if (status != FERRY_OK) ferry_matrix_close(out);
    return status;
}

static void side_open(side *s, int64_t count, uint64_t seed)
{
    *s = (side){.all = make_points(count, seed),
                .points = {.cells = count, .dim = DIM, .name = "points", .read = read_side, .self = s}};
}

/* --- an index --- */

static ferry_status store(uint64_t *fingerprint, const ferry_world *world, const ferry_lists *lists,
                          const ferry_codes *codes, int64_t batch, int threads)
{
    ferry_output *output = NULL;
    ferry_status status = ferry_output_open(&output, world, path, true);
    if (status == FERRY_OK) status = ferry_index_write_codes(fingerprint, output, world, lists, codes, batch, threads);
    if (status == FERRY_OK) return ferry_output_finish(&output);
    ferry_output_discard(&output);
    return status;
}

/* Collective. Lists on disk and small passes, or in memory and large ones: the file is the same. */
static ferry_status make_index(const ferry_world *world, const side *cells, ferry_search_metric metric, int64_t bytes,
                               bool held)
{
    const ferry_train_options training = {.lists = LISTS, .sample = 64, .seed = 3, .threads = 1, .memory = 1 << 24};
    const ferry_lists_options options = {
        .exact = true, .held = held, .keep_rows = true, .memory = 1 << 20, .folder = folder, .threads = 1};
    ferry_quantizer q = {0};
    ferry_lists lists = {0};
    ferry_codes codes = {0};
    uint64_t fingerprint = 0;
    ferry_matrix all = {.rows = CELLS, .dim = DIM, .f = cells->all};
    FERRY_TRY(ferry_quantizer_train(&q, world, &cells->points, metric, kernels, &training));
    ferry_status status = ferry_lists_build(&lists, world, &q, &cells->points, &options);
    if (status == FERRY_OK) status = ferry_codes_train(&codes, world, &lists, bytes, 11, held ? 1 : 3);
    if (status == FERRY_OK) status = store(&fingerprint, world, &lists, &codes, held ? 100000 : 77, held ? 1 : 3);
    if (status == FERRY_OK) CHECK(fingerprint == ferry_fingerprint(&all, 0));
    ferry_codes_close(&codes);
    ferry_lists_close(&lists, world);
    ferry_quantizer_close(&q, world);
    return status;
}

static ferry_status open_index(ferry_index *out, const ferry_world *world)
{
    const ferry_lists_options options = {.held = true, .threads = 1};
    return ferry_index_open(out, world, path, kernels, &options);
}

/* --- searches; every rank gathers the whole answer --- */

typedef struct answer {
    uint32_t cell[CELLS * K];
    float distance[CELLS * K];
} answer;

static void gather(answer *out, ferry_graph *graph, const ferry_world *world)
{
    memset(out, 0, sizeof *out);
    for (int64_t t = 0; t < graph->rounds; t++) {
        ferry_graph_block block;
        CHECK(ferry_graph_take(&block, graph, t) == FERRY_OK);
        memcpy(out->cell + block.first * K, block.cell, (size_t)(block.rows * K) * 4);
        memcpy(out->distance + block.first * K, block.distance, (size_t)(block.rows * K) * 4);
    }
    MPI_Allreduce(MPI_IN_PLACE, out->cell, CELLS * K, MPI_UINT32_T, MPI_SUM, world->comm);
    MPI_Allreduce(MPI_IN_PLACE, out->distance, CELLS * K, MPI_FLOAT, MPI_SUM, world->comm);
}

static ferry_status search(answer *out, const ferry_world *world, const side *queries, const side *cells,
                           const ferry_index *index, const ferry_codes_options *options)
{
    ferry_graph graph = {0};
    ferry_search_counts counts;
    ferry_status status =
        ferry_graph_open(&graph, world, queries->points.cells, CELLS, K, options->self, 1 << 26, NULL);
    if (status == FERRY_OK)
        status = ferry_codes_search(&graph, &counts, world, &queries->points, &cells->points, index, options);
    if (status == FERRY_OK) gather(out, &graph, world);
    if (status == FERRY_OK) CHECK(counts.queries == queries->points.cells && counts.lists >= counts.queries);
    ferry_graph_close(&graph);
    return status;
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

static double distance_of(const float *a, const float *b, ferry_search_metric metric)
{
    double sum = 0, aa = 0, bb = 0, ab = 0;
    for (int k = 0; k < DIM; k++) {
        const double x = (double)a[k], y = (double)b[k];
        sum += (x - y) * (x - y);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    return metric == FERRY_COSINE ? 1 - ab / sqrt(aa * bb) : sqrt(sum);
}

/* Cells by |q - c - r| of the code, of the nearest `probes` lists; returns how many. */
static int64_t by_codes(near *out, const ferry_index *index, const float *query, int64_t probes, int64_t without)
{
    const ferry_quantizer *q = &index->quantizer;
    float prepared[DIM], norm2;
    near list[LISTS];
    int64_t count = 0;
    CHECK(ferry_quantizer_prepare(prepared, &norm2, q, query, 1, 0) == FERRY_OK);
    for (int64_t l = 0; l < index->lists.lists; l++)
        list[l] = (near){distance_of(prepared, q->list.centre + l * DIM, FERRY_EUCLIDEAN), l};
    qsort(list, (size_t)index->lists.lists, sizeof *list, by_distance);
    for (int64_t n = 0; n < probes && n < index->lists.lists; n++)
        for (int64_t r = index->lists.first[list[n].cell]; r < index->lists.first[list[n].cell + 1]; r++) {
            float there[DIM];
            if (index->codes.cell[r] == without) continue;
            for (int m = 0; m < index->codes.bytes; m++)
                for (int k = ferry_codes_column(&index->codes, m); k < ferry_codes_column(&index->codes, m + 1); k++)
                    there[k] = q->list.centre[list[n].cell * DIM + k] +
                               index->codes.book[index->codes.code[r * index->codes.bytes + m] * DIM + k];
            out[count++] = (near){distance_of(prepared, there, FERRY_EUCLIDEAN), index->codes.cell[r]};
        }
    qsort(out, (size_t)count, sizeof *out, by_distance);
    return count;
}

/* Share of brute force's neighbours in the answer; with probes 0 among all cells, else among the candidates that codes
 * choose. Distances are those of the cells, in order. */
static double check_answer(const answer *found, const ferry_index *index, const side *queries, const side *cells,
                           const ferry_codes_options *options)
{
    const ferry_search_metric metric = index->quantizer.metric;
    const int64_t step = options->self ? 5 : 1; /* it takes long */
    int64_t hits = 0, wrong = 0, seen = 0;
    near *all = calloc(CELLS, sizeof *all);
    for (int64_t i = 0; i < queries->points.cells; i += step, seen++) {
        const float *query = queries->all + i * DIM;
        int64_t count = CELLS;
        if (options->probes) count = by_codes(all, index, query, options->probes, options->self ? i : -1);
        if (options->probes && count > options->rerank * K) count = options->rerank * K;
        for (int64_t c = 0; !options->probes && c < CELLS; c++) all[c].cell = c;
        for (int64_t c = 0; c < count; c++)
            all[c].distance = options->self && all[c].cell == i
                                  ? INFINITY
                                  : distance_of(query, cells->all + all[c].cell * DIM, metric);
        qsort(all, (size_t)count, sizeof *all, by_distance);
        for (int j = 0; j < K; j++) {
            const int64_t cell = found->cell[i * K + j];
            const double d = distance_of(query, cells->all + cell * DIM, metric);
            wrong += cell >= CELLS || (options->self && cell == i);
            wrong += fabs(d - (double)found->distance[i * K + j]) > 1e-6 + 1e-5 * d;
            if (j) wrong += found->distance[i * K + j] < found->distance[i * K + j - 1];
            if (j && found->distance[i * K + j] == found->distance[i * K + j - 1] && metric == FERRY_EUCLIDEAN)
                wrong += cell <= found->cell[i * K + j - 1];
            for (int m = 0; m < K; m++) hits += all[m].cell == cell;
        }
    }
    free(all);
    CHECK(wrong == 0);
    return (double)hits / (double)(seen * K);
}

/* --- cases --- */

static answer one, other; /* large */

/* Candidates are as brute force has them (but for rounding), and with all cells as candidates the answer is exact. */
static void check_searches(const ferry_world *world, const side *queries, const side *cells, const ferry_index *index)
{
    const bool self = queries == cells;
    ferry_codes_options options = {.k = K, .self = self, .probes = 5, .rerank = 3, .memory = 1 << 24, .threads = 1};
    CHECK(search(&one, world, queries, cells, index, &options) == FERRY_OK);
    CHECK(check_answer(&one, index, queries, cells, &options) > 0.9995);
    options.memory = 0; /* many batches */
    options.threads = 3;
    CHECK(search(&other, world, queries, cells, index, &options) == FERRY_OK);
    CHECK(!memcmp(&one, &other, sizeof one));
    if (self) return;
    options.probes = LISTS;
    options.rerank = CELLS / K;
    CHECK(search(&one, world, queries, cells, index, &options) == FERRY_OK);
    options.probes = 0;
    CHECK(check_answer(&one, index, queries, cells, &options) == 1);
}

/* The recall that is measured is that of the search, and high. */
static void check_recall(const ferry_world *world, const side *queries, const side *cells, ferry_index *index)
{
    ferry_codes_options options = {
        .k = K, .self = queries == cells, .rerank = 10, .memory = 1 << 24, .seed = 1, .threads = 1};
    ferry_recall recall = {0}, again = {0};
    double ceiling = 0, none = 0;
    const int64_t all = queries->points.cells;
    CHECK(ferry_codes_tune(&recall, &ceiling, world, &queries->points, &cells->points, index, &options, 0.97, all) ==
          FERRY_OK);
    CHECK(recall.mean >= 0.97 && ceiling >= recall.mean && ceiling > 0.99 && recall.sample == all);
    CHECK(recall.probes > 0 && recall.probes < index->lists.lists && recall.quantile[0] <= recall.quantile[2]);
    options.probes = recall.probes;
    options.threads = 2;
    CHECK(ferry_codes_tune(&again, &none, world, &queries->points, &cells->points, index, &options, NAN, all) ==
          FERRY_OK);
    CHECK(again.mean == recall.mean && again.pairs == recall.pairs && isnan(none));
    CHECK(search(&one, world, queries, cells, index, &options) == FERRY_OK);
    options.probes = 0;
    const double slack = options.self ? 0.01 : 4e-3; /* copies may change places */
    CHECK(fabs(check_answer(&one, index, queries, cells, &options) - recall.mean) < slack);
    options.rerank = 1;
    CHECK(ferry_codes_tune(&recall, &ceiling, world, &queries->points, &cells->points, index, &options, 1, all) ==
          FERRY_OK);
    CHECK(ceiling < 0.97 && recall.mean >= ceiling - 0.001); /* cannot be reached: the best there is */
    const uint64_t fingerprint = index->fingerprint;
    index->fingerprint = 1;
    CHECK(ferry_codes_tune(&recall, &ceiling, world, &queries->points, &cells->points, index, &options, 1, 9) ==
          FERRY_E_FILE);
    CHECK(strstr(ferry_error(), path) && strstr(ferry_error(), "points"));
    index->fingerprint = fingerprint;
}

/* One rank alone makes the same file and the same answer as all together. */
static void check_ranks(const ferry_world *world, const side *queries, const side *cells)
{
    ferry_world alone;
    ferry_index index, mine;
    const ferry_codes_options options = {.k = K, .probes = 4, .rerank = 4, .memory = 1 << 20, .threads = 1};
    CHECK(make_index(world, cells, FERRY_EUCLIDEAN, BYTES, true) == FERRY_OK);
    CHECK(open_index(&index, world) == FERRY_OK);
    CHECK(search(&one, world, queries, cells, &index, &options) == FERRY_OK);
    ferry_barrier(world);
    CHECK(ferry_world_open(&alone, MPI_COMM_SELF) == FERRY_OK);
    if (world->rank == 0) {
        char kept[sizeof path];
        strcpy(kept, path);
        strcat(path, "_alone");
        CHECK(make_index(&alone, cells, FERRY_EUCLIDEAN, BYTES, false) == FERRY_OK);
        CHECK(open_index(&mine, &alone) == FERRY_OK);
        CHECK(!memcmp(mine.codes.book, index.codes.book, (size_t)FERRY_WORDS * DIM * 4));
        CHECK(!memcmp(mine.codes.code, index.codes.code, (size_t)CELLS * BYTES));
        CHECK(!memcmp(mine.codes.cell, index.codes.cell, (size_t)CELLS * 4));
        CHECK(!memcmp(mine.codes.own, index.codes.own, (size_t)CELLS * 4));
        CHECK(search(&other, &alone, queries, cells, &mine, &options) == FERRY_OK);
        CHECK(!memcmp(&one, &other, sizeof one));
        ferry_index_close(&mine, &alone);
        CHECK(unlink(path) == 0);
        strcpy(path, kept);
    }
    ferry_world_close(&alone);
    ferry_barrier(world);
    ferry_index_close(&index, world);
}

static void check_metric(const ferry_world *world, const side *queries, const side *cells, ferry_search_metric metric)
{
    ferry_index index;
    int bytes = 0;
    CHECK(make_index(world, cells, metric, BYTES, metric == FERRY_EUCLIDEAN) == FERRY_OK);
    CHECK(ferry_index_code_bytes(&bytes, world, path) == FERRY_OK && bytes == BYTES);
    CHECK(open_index(&index, world) == FERRY_OK);
    if (!index.path) return;
    CHECK(index.codes.bytes == BYTES && index.codes.rows == CELLS);
    check_searches(world, queries, cells, &index);
    check_recall(world, queries, cells, &index);
    if (metric == FERRY_EUCLIDEAN) {
        check_searches(world, cells, cells, &index);
        check_recall(world, cells, cells, &index);
    }
    ferry_index_close(&index, world);
}

/* The whole way, with its plan; what codes cannot do is refused. */
static void check_whole(const ferry_world *world, const side *queries, const side *cells)
{
    ferry_neighbors_options options = {.k = K, .recall = 0.95, .rerank = 8, .memory = 1 << 28, .threads = 1};
    const ferry_neighbors_sizes sizes = {.queries = CELLS, /* at most */
                                         .reference = CELLS,
                                         .dim = DIM,
                                         .stored = true,
                                         .lists = LISTS,
                                         .codes = BYTES,
                                         .ranks = world->size,
                                         .nodes = world->nodes};
    ferry_neighbors_plan plan;
    ferry_reference reference;
    ferry_graph graph;
    ferry_neighbors_report report;
    options.kernels = kernels;
    CHECK(ferry_neighbors_layout(&plan, &sizes, &options) == FERRY_OK && plan.bytes < options.memory);
    CHECK(ferry_reference_open(&reference, world, NULL, path, &options, &plan) == FERRY_OK);
    CHECK(ferry_neighbors(&graph, &report, world, &queries->points, &reference, &options, &plan) == FERRY_E_ARG);
    reference.points = &cells->points;
    CHECK(ferry_neighbors(&graph, &report, world, &queries->points, &reference, &options, &plan) == FERRY_OK);
    CHECK(report.codes == BYTES && report.rerank == 8 && report.recall.mean >= 0.95 && report.ceiling >= 0.95);
    ferry_graph_close(&graph);
    CHECK(ferry_neighbors(&graph, &report, world, NULL, &reference, &options, &plan) == FERRY_OK);
    CHECK(graph.self && graph.rows == CELLS);
    ferry_graph_close(&graph);
    options.reach = 0.5;
    CHECK(ferry_neighbors(&graph, &report, world, &queries->points, &reference, &options, &plan) == FERRY_E_ARG);
    ferry_reference_close(&reference, world);
    options.reach = 0;
    options.exact = true;
    CHECK(ferry_reference_open(&reference, world, NULL, path, &options, &plan) == FERRY_E_ARG);
    CHECK(strstr(ferry_error(), "--exact"));
    options.memory = 1 << 20;
    CHECK(ferry_neighbors_layout(&plan, &sizes, &options) == FERRY_E_PLAN);
}

/* --- an index that was tampered with --- */

typedef struct harm {
    const char *name;
    int row; /* -1: an attribute; -2: removed; -3: made anew as signed numbers */
    double value;
    const char *said;
} harm;

static void do_harm(const harm *h)
{
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    if (h->row == -1) {
        hid_t attribute = H5Aopen(file, h->name, H5P_DEFAULT);
        H5Awrite(attribute, H5T_NATIVE_DOUBLE, &h->value);
        H5Aclose(attribute);
    } else if (h->row < 0) {
        H5Ldelete(file, h->name, H5P_DEFAULT);
    } else {
        hid_t set = H5Dopen2(file, h->name, H5P_DEFAULT), space = H5Dget_space(set), single = H5Screate(H5S_SCALAR);
        hsize_t start[2] = {(hsize_t)h->row, 0}, size[2] = {1, 1};
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL);
        H5Dwrite(set, H5T_NATIVE_DOUBLE, single, space, H5P_DEFAULT, &h->value);
        H5Sclose(single);
        H5Sclose(space);
        H5Dclose(set);
    }
    if (h->row == -3) {
        hsize_t size[2] = {CELLS, BYTES};
        hid_t space = H5Screate_simple(2, size, NULL);
        H5Dclose(H5Dcreate2(file, h->name, H5T_STD_I8LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(space);
    }
    H5Fclose(file);
}

static const harm harms[] = {{"codes", -1, 5, "rows/code is 2000 x 4, not 2000 x 5"},
                             {"codes", -1, 0, "codes is 0"},
                             {"codes", -1, DIM + 1, "codes is 11"},
                             {"version", -1, 1, "rows/values"},
                             {"version", -1, 3, "version 3"},
                             {"book", -2, 0, "book"},
                             {"book", 17, NAN, "book has a value that is not finite in row 17"},
                             {"rows/code", -2, 0, "rows/code"},
                             {"rows/code", -3, 0, "another type"},
                             {"rows/cell", 1200, CELLS, "cell 2000 of 2000"},
                             {"rows/cell", -2, 0, "rows/cell"},
                             {"first", 3, CELLS - 1, "first does not ascend"}};

static void check_harms(const ferry_world *world, const side *cells)
{
    for (size_t i = 0; i < sizeof harms / sizeof *harms; i++) {
        ferry_index index;
        CHECK(make_index(world, cells, FERRY_EUCLIDEAN, BYTES, true) == FERRY_OK);
        if (world->rank == 0) do_harm(&harms[i]);
        ferry_barrier(world);
        CHECK(open_index(&index, world) == FERRY_E_FILE && !index.path);
        CHECK(strstr(ferry_error(), path) && strstr(ferry_error(), harms[i].said));
        ferry_barrier(world);
    }
    CHECK(make_index(world, cells, FERRY_EUCLIDEAN, 0, true) == FERRY_E_ARG);
    CHECK(make_index(world, cells, FERRY_EUCLIDEAN, DIM + 1, true) == FERRY_E_ARG);
}

/* --- meetings and allocations that fail --- */

static ferry_status all_steps(const ferry_world *world, const side *queries, const side *cells)
{
    ferry_index index = {0};
    ferry_recall recall;
    double ceiling;
    ferry_codes_options options = {.k = K, .rerank = 2, .memory = 1 << 24, .threads = 1, .probes = 2};
    ferry_status status = make_index(world, cells, FERRY_EUCLIDEAN, BYTES, true);
    if (status == FERRY_OK) status = open_index(&index, world);
    if (status == FERRY_OK)
        status = ferry_codes_tune(&recall, &ceiling, world, &queries->points, &cells->points, &index, &options, NAN, 4);
    if (status == FERRY_OK) status = search(&one, world, queries, cells, &index, &options);
    ferry_index_close(&index, world);
    return status;
}

static void check_failures(const ferry_world *world, const side *queries, const side *cells, const char *variable,
                           int step)
{
    ferry_status status = FERRY_E_MPI;
    for (int n = 1; status != FERRY_OK && n < 3000; n += step) {
        char plan[32];
        snprintf(plan, sizeof plan, "%d:%d", n, world->size - 1);
        setenv(variable, plan, 1);
        status = all_steps(world, queries, cells);
        CHECK(ferry_max(world, (int64_t)status) == ferry_min(world, (int64_t)status));
        unsetenv(variable);
    }
    CHECK(status == FERRY_OK);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    side queries, cells;
    ferry_world_open(&world, MPI_COMM_WORLD);
    CHECK(ferry_kernels_choose(&kernels, &world, "auto") == FERRY_OK);
    if (world.rank == 0) {
        snprintf(folder, sizeof folder, "/tmp/test_codes.XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
    }
    ferry_broadcast(&world, folder, sizeof folder, 0);
    snprintf(path, sizeof path, "%s/index.h5", folder);
    side_open(&queries, QUERIES, 2);
    side_open(&cells, CELLS, 5);
    check_metric(&world, &queries, &cells, FERRY_COSINE);
    check_metric(&world, &queries, &cells, FERRY_EUCLIDEAN);
    check_whole(&world, &queries, &cells);
    check_ranks(&world, &queries, &cells);
    check_harms(&world, &cells);
    check_failures(&world, &queries, &cells, "FERRY_FAIL", 10 * world.size + 7);
    check_failures(&world, &queries, &cells, "FERRY_FAIL_ALLOC", 20 * world.size + 17);
    ferry_barrier(&world);
    free(queries.all);
    free(cells.all);
    if (world.rank == 0) CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    ferry_world_close(&world);
    return test_end();
}

/* Kernels against CellMapper's stored answers and plain dense sums; the same bits on one rank and on all, in memory and
 * in scratch files; the graph as scanpy writes it; every meeting made to fail once.
 *   test_weights FILE  writes the graph of the oracle's cells, for check_graph.py */
#include "io/stored.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "neighbors/weights.h"
#include "oracle.h"
#include "test.h"
#include <math.h>
#include <unistd.h>

static ferry_world world, alone;
static hid_t oracle;
#define MEMORY ((int64_t)1 << 28)

/* ---- graphs ---- */

/* Entries [rows][k] of a whole graph. */
typedef struct list {
    int64_t rows, columns;
    int k;
    bool self;
    uint32_t *cell;
    float *distance;
} list;

static list new_list(int64_t rows, int64_t columns, int k, bool self)
{
    list out = {rows, columns, k, self, NULL, NULL};
    out.cell = malloc((size_t)(rows * k + 1) * sizeof *out.cell);
    out.distance = malloc((size_t)(rows * k + 1) * sizeof *out.distance);
    return out;
}

static void free_list(list *it)
{
    free(it->cell);
    free(it->distance);
}

static list oracle_list(const char *group, const char *name, int64_t columns, bool self)
{
    char text[64];
    hsize_t shape[2];
    snprintf(text, sizeof text, "%s_indices", name);
    double *cell = oracle_array(oracle, group, text, shape);
    snprintf(text, sizeof text, "%s_distances", name);
    double *distance = oracle_array(oracle, group, text, NULL);
    list out = new_list((int64_t)shape[0], columns, (int)shape[1], self);
    for (int64_t e = 0; e < out.rows * out.k; e++) {
        out.cell[e] = (uint32_t)cell[e];
        out.distance[e] = (float)distance[e];
    }
    free(cell);
    free(distance);
    return out;
}

/* Every rank brings a share of the rows that is not its own. */
static void fill(ferry_graph *graph, const ferry_world *in, const list *from)
{
    CHECK(ferry_graph_open(graph, in, from->rows, from->columns, from->k, from->self, MEMORY, NULL) == FERRY_OK);
    const int64_t first = from->rows * in->rank / in->size, last = from->rows * (in->rank + 1) / in->size;
    uint32_t *row = malloc((size_t)(last - first + 1) * sizeof *row);
    for (int64_t i = first; i < last; i++) row[i - first] = (uint32_t)i;
    const ferry_graph_rows rows = {last - first, row, from->cell + first * from->k, from->distance + first * from->k};
    CHECK(ferry_graph_put(graph, in, &rows) == FERRY_OK);
    CHECK(ferry_graph_finish(graph, in) == FERRY_OK);
    free(row);
}

/* ---- K, whole ---- */

typedef struct dense {
    int64_t rows, columns;
    double *value, *there; /* [rows][columns] */
} dense;

static dense new_dense(int64_t rows, int64_t columns)
{
    dense out = {rows, columns, NULL, NULL};
    out.value = calloc((size_t)(rows * columns + 1), sizeof *out.value);
    out.there = calloc((size_t)(rows * columns + 1), sizeof *out.there);
    return out;
}

static void free_dense(dense *it)
{
    free(it->value);
    free(it->there);
}

/* Takes all rounds; the form of every block is checked on the way. */
static dense take_all(ferry_weights *weights)
{
    dense out = new_dense(weights->rows, weights->columns);
    int64_t before = 0;
    for (int64_t round = 0; round < weights->rounds; round++) {
        ferry_weights_block block;
        CHECK(ferry_weights_take(&block, weights, &world, round) == FERRY_OK);
        CHECK(block.rows == 0 || block.first == before + ferry_before(&world, block.rows));
        if (block.rows == 0) ferry_before(&world, 0);
        for (int64_t i = 0; i < block.rows; i++) {
            double sum = 0;
            for (int64_t e = block.indptr[i]; e < block.indptr[i + 1]; e++) {
                const int64_t at = (block.first + i) * out.columns + block.cell[e];
                CHECK(e == block.indptr[i] || block.cell[e] > block.cell[e - 1]);
                CHECK(isfinite(block.weight[e]));
                out.value[at] = block.weight[e];
                out.there[at] = 1;
                sum += block.weight[e];
            }
            CHECK(sum == block.sum[i]);
        }
        before += ferry_total(&world, block.rows);
    }
    CHECK(before == weights->rows);
    MPI_Allreduce(MPI_IN_PLACE, out.value, (int)(out.rows * out.columns), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, out.there, (int)(out.rows * out.columns), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return out;
}

static dense weigh(const ferry_weights_graphs *graphs, const ferry_weights_options *options)
{
    ferry_weights weights;
    ferry_weights_options with = *options;
    with.memory = MEMORY;
    CHECK(ferry_weights_open(&weights, &world, graphs, &with) == FERRY_OK);
    dense out = take_all(&weights);
    ferry_weights_close(&weights);
    return out;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* Same entries; values to 2e-6, relative above 1. */
static void compare(const dense *got, const dense *want, const char *what)
{
    int64_t wrong = 0;
    double most = 0;
    for (int64_t i = 0; i < want->rows * want->columns; i++) {
        if (got->there[i] != want->there[i]) wrong++;
        most = larger(most, fabs(got->value[i] - want->value[i]) / larger(1, fabs(want->value[i])));
    }
    if (wrong || !(most < 2e-6)) fprintf(stderr, "%s: %lld entries, difference %g\n", what, (long long)wrong, most);
    CHECK(wrong == 0 && most < 2e-6);
}

static dense oracle_matrix(const char *group, const char *name, int64_t columns)
{
    char text[64];
    hsize_t shape[2];
    snprintf(text, sizeof text, "%s_indptr", name);
    double *indptr = oracle_array(oracle, group, text, shape);
    snprintf(text, sizeof text, "%s_indices", name);
    double *index = oracle_array(oracle, group, text, NULL);
    snprintf(text, sizeof text, "%s_data", name);
    double *data = oracle_array(oracle, group, text, NULL);
    dense out = new_dense((int64_t)shape[0] - 1, columns);
    for (int64_t i = 0; i < out.rows; i++)
        for (int64_t e = (int64_t)indptr[i]; e < (int64_t)indptr[i + 1]; e++) {
            out.value[i * columns + (int64_t)index[e]] = data[e];
            out.there[i * columns + (int64_t)index[e]] = 1;
        }
    free(indptr);
    free(index);
    free(data);
    return out;
}

/* ---- CellMapper ---- */

static const char *const names[] = {
    [FERRY_GAUSS] = "gauss",       [FERRY_UMAP] = "umap",   [FERRY_INVERSE_DISTANCE] = "inverse_distance",
    [FERRY_SCARCHES] = "scarches", [FERRY_EQUAL] = "equal", [FERRY_JACCARD] = "jaccard",
    [FERRY_HNOCA] = "hnoca"};

static void agree_with(const char *group, const char *name, int64_t columns, const ferry_weights_graphs *graphs,
                       const ferry_weights_options *options)
{
    dense want = oracle_matrix(group, name, columns), got = weigh(graphs, options);
    compare(&got, &want, name);
    free_dense(&want);
    free_dense(&got);
}

static void cross(void)
{
    list lists[4] = {oracle_list("cross", "yx", 300, false), oracle_list("cross", "xx", 300, true),
                     oracle_list("cross", "yy", 200, true), oracle_list("cross", "xy", 200, false)};
    ferry_graph graph[4];
    for (int g = 0; g < 4; g++) fill(&graph[g], &world, &lists[g]);
    const ferry_weights_graphs all = {&graph[0], &graph[1], &graph[2], &graph[3]}, one = {.yx = &graph[0]};
    for (ferry_weight_kernel kernel = FERRY_GAUSS; kernel <= FERRY_HNOCA; kernel++) {
        if (kernel == FERRY_UMAP) continue;
        char name[64];
        snprintf(name, sizeof name, "kernel_%s", names[kernel]);
        const ferry_weights_options options = {.kernel = kernel};
        agree_with("cross", name, 300, kernel < FERRY_JACCARD ? &one : &all, &options);
    }
    for (int g = 0; g < 4; g++) {
        ferry_graph_close(&graph[g]);
        free_list(&lists[g]);
    }
}

static void self(const ferry_weights_graphs *graphs)
{
    for (ferry_weight_kernel kernel = FERRY_GAUSS; kernel < FERRY_HNOCA; kernel++)
        for (int symmetrize = 0; symmetrize < 2; symmetrize++)
            for (int own = 0; own < 2; own++) {
                char name[64];
                snprintf(name, sizeof name, "kernel_%s_sym%d_self%d", names[kernel], symmetrize, own);
                const ferry_weights_options options = {
                    .kernel = kernel, .symmetrize = (ferry_symmetrize)symmetrize, .self_edges = own};
                agree_with("self", name, 250, graphs, &options);
            }
    const ferry_weights_options mean = {.kernel = FERRY_GAUSS, .symmetrize = FERRY_SYMMETRIZE_MEAN, .self_edges = true};
    agree_with("self", "kernel_gauss_symmean_self1", 250, graphs, &mean);
}

/* ---- hnoca of one set: dense ---- */

static void dense_hnoca(const list *from, const ferry_weights_graphs *graphs)
{
    const int64_t n = from->rows;
    dense a = new_dense(n, n), want = new_dense(n, n);
    for (int64_t i = 0; i < n; i++) {
        a.value[i * n + i] = 1;
        for (int j = 0; j < from->k; j++) a.value[i * n + from->cell[i * from->k + j]] = 1;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double c = 0;
            for (int64_t b = 0; b < n; b++) c += 2 * a.value[i * n + b] * a.value[j * n + b];
            want.there[i * n + j] = c > 0;
            const double w = c / larger(2 * (from->k + 1) - c, 1);
            want.value[i * n + j] = w * w;
        }
    const ferry_weights_options options = {.kernel = FERRY_HNOCA, .self_edges = true};
    dense got = weigh(graphs, &options);
    compare(&got, &want, "hnoca of one set");
    CHECK(got.value[0] == 4.0 * (from->k + 1) * (from->k + 1)); /* C = 2 k' */
    free_dense(&a);
    free_dense(&want);
    free_dense(&got);
}

/* ---- a graph with everything that is awkward ---- */

static uint64_t state = 1;
static uint32_t random_below(uint32_t n)
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)((state >> 33) % n);
}

/* Cell 7 is in every row (a hub), rows have duplicates at distance 0, some have fewer than k or no neighbours; no cell
 * above 9 / 10 of the columns is anybody's neighbour. */
static list awkward(int64_t rows, int64_t columns, int k, bool own)
{
    list out = new_list(rows, columns, k, own);
    for (int64_t i = 0; i < rows; i++) {
        int count = i % 11 == 3 ? 0 : i % 7 == 2 ? k / 2 : k;
        for (int j = 0; j < k; j++) {
            uint32_t cell = j == 0 && i != 7 ? 7 : 8 + random_below((uint32_t)columns * 9 / 10 - 8);
            for (int e = 0; e < j; e++)
                if (out.cell[i * k + e] == cell || (own && cell == i))
                    cell = 8 + random_below((uint32_t)columns - 8), e = -1;
            if (own && cell == i) cell = cell == 8 ? 9 : 8, count = j;
            out.cell[i * k + j] = j < count ? cell : UINT32_MAX;
            out.distance[i * k + j] = j >= count            ? INFINITY
                                      : i % 5 == 0 && j < 2 ? 0
                                                            : 0.25F * (float)(j + 1) + (float)random_below(64) / 256;
        }
    }
    return out;
}

/* The blocks of all ranks together are those of one rank alone. */
static void same_rows(ferry_weights *weights, ferry_weights *one)
{
    CHECK(weights->mean == one->mean && weights->deviation == one->deviation);
    for (int64_t round = 0; round < weights->rounds; round++) {
        ferry_weights_block block, other;
        CHECK(ferry_weights_take(&block, weights, &world, round) == FERRY_OK);
        const int64_t b = round * world.size + world.rank;
        if (b >= one->rounds) {
            CHECK(block.rows == 0);
            continue;
        }
        CHECK(ferry_weights_take(&other, one, &alone, b) == FERRY_OK);
        CHECK(block.first == other.first && block.rows == other.rows);
        if (block.rows != other.rows) continue;
        const size_t rows = (size_t)block.rows, entries = (size_t)block.indptr[block.rows];
        CHECK(!memcmp(block.indptr, other.indptr, (rows + 1) * sizeof *block.indptr));
        CHECK(!memcmp(block.cell, other.cell, entries * sizeof *block.cell));
        CHECK(!memcmp(block.weight, other.weight, entries * sizeof *block.weight));
        CHECK(!memcmp(block.sum, other.sum, rows * sizeof *block.sum));
    }
}

static void same_bits(const ferry_weights_graphs *graphs, const ferry_weights_graphs *single,
                      const ferry_weights_options *options)
{
    ferry_weights weights, one;
    ferry_weights_options other = *options;
    other.memory = 0; /* in scratch files */
    CHECK(ferry_weights_open(&one, &alone, single, options) == FERRY_OK);
    CHECK(ferry_weights_open(&weights, &world, graphs, &other) == FERRY_OK);
    same_rows(&weights, &one);
    ferry_weights_close(&weights);
    other.memory = MEMORY;
    other.threads = 3;
    CHECK(ferry_weights_open(&weights, &world, graphs, &other) == FERRY_OK);
    same_rows(&weights, &one);
    ferry_weights_close(&weights);
    ferry_weights_close(&one);
}

static void all_bits(void)
{
    list sets[4] = {awkward(1500, 2100, 6, false), awkward(2100, 2100, 6, true), awkward(1500, 1500, 5, true),
                    awkward(2100, 1500, 6, false)};
    ferry_graph graph[4], single[4];
    for (int g = 0; g < 4; g++) {
        fill(&graph[g], &world, &sets[g]);
        fill(&single[g], &alone, &sets[g]);
    }
    const ferry_weights_graphs cross_all = {&graph[0], &graph[1], &graph[2], &graph[3]};
    const ferry_weights_graphs cross_one = {&single[0], &single[1], &single[2], &single[3]};
    const ferry_weights_graphs self_all = {.yx = &graph[1]}, self_one = {.yx = &single[1]};
    for (ferry_weight_kernel kernel = FERRY_GAUSS; kernel <= FERRY_HNOCA; kernel++) {
        ferry_weights_options options = {.kernel = kernel, .memory = MEMORY, .sample = kernel == FERRY_GAUSS ? 333 : 0};
        if (kernel != FERRY_UMAP) same_bits(&cross_all, &cross_one, &options);
        options.self_edges = kernel % 2;
        for (int s = 0; s <= FERRY_SYMMETRIZE_MEAN; s++) {
            options.symmetrize = (ferry_symmetrize)s;
            same_bits(&self_all, &self_one, &options);
        }
    }
    for (int g = 0; g < 4; g++) {
        ferry_graph_close(&graph[g]);
        ferry_graph_close(&single[g]);
        free_list(&sets[g]);
    }
}

/* ---- what is not there, and zeros ---- */

static void symmetric(const dense *k)
{
    int64_t wrong = 0;
    for (int64_t i = 0; i < k->rows; i++)
        for (int64_t j = 0; j < k->rows; j++) {
            wrong += k->value[i * k->rows + j] != k->value[j * k->rows + i];
            wrong += k->there[i * k->rows + j] != k->there[j * k->rows + i];
        }
    CHECK(wrong == 0);
}

/* All distances are 0; row 20 has no neighbours and is in no row. */
static void zeros(void)
{
    list from = new_list(21, 21, 3, true);
    for (int64_t i = 0; i < 21; i++)
        for (int j = 0; j < 3; j++) {
            from.cell[i * 3 + j] = i == 20 ? UINT32_MAX : (uint32_t)((i + j + 1) % 20);
            from.distance[i * 3 + j] = i == 20 ? INFINITY : 0;
        }
    ferry_graph graph;
    fill(&graph, &world, &from);
    const ferry_weights_graphs graphs = {.yx = &graph};
    for (ferry_weight_kernel kernel = FERRY_GAUSS; kernel <= FERRY_HNOCA; kernel++)
        for (int s = 0; s <= FERRY_SYMMETRIZE_MEAN; s++) {
            const ferry_weights_options options = {.kernel = kernel, .symmetrize = (ferry_symmetrize)s};
            dense k = weigh(&graphs, &options);
            if (s || kernel == FERRY_UMAP) symmetric(&k);
            const double near = k.value[1];
            if (s == 0 && kernel < FERRY_JACCARD) CHECK(near == (kernel == FERRY_INVERSE_DISTANCE ? 1 / 1e-8 : 1));
            double last = 0;
            for (int64_t j = 0; j < 20; j++) last += k.there[20 * 21 + j] + k.there[j * 21 + 20];
            CHECK(last == 0 && k.there[20 * 21 + 20] == (kernel >= FERRY_JACCARD)); /* in A it names itself */
            free_dense(&k);
        }
    ferry_graph_close(&graph);
    free_list(&from);
}

/* Mean and deviation of exactly the sampled rows, and of all. */
static void statistics(void)
{
    list from = awkward(700, 700, 4, true);
    ferry_graph graph;
    fill(&graph, &world, &from);
    const ferry_weights_graphs graphs = {.yx = &graph};
    for (int64_t sample = 0; sample <= 750; sample += 150) {
        const ferry_weights_options options = {
            .kernel = FERRY_SCARCHES, .self_edges = true, .sample = sample, .seed = 12345, .memory = MEMORY};
        double sum = 0, count = 0, squares = 0;
        int64_t rows = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = 0; i < 700; i++) {
                if (sample > 0 && sample < 700 && (i + 12345 % 700) % 700 * sample % 700 >= sample) continue;
                rows += pass;
                if (pass) squares += sum / count * (sum / count);
                if (!pass) count++;
                for (int e = 0; e < 4; e++) {
                    if (from.cell[i * 4 + e] == UINT32_MAX) continue;
                    const double d = from.distance[i * 4 + e];
                    if (pass) squares += (d - sum / count) * (d - sum / count);
                    if (!pass) sum += d;
                    if (!pass) count++;
                }
            }
        CHECK(rows == (sample > 0 && sample < 700 ? sample : 700));
        ferry_weights weights;
        CHECK(ferry_weights_open(&weights, &world, &graphs, &options) == FERRY_OK);
        CHECK(fabs(weights.mean - sum / count) < 1e-12 && fabs(weights.deviation - sqrt(squares / count)) < 1e-12);
        ferry_weights_close(&weights);
    }
    ferry_graph_close(&graph);
    free_list(&from);
}

/* A set without cells, one with a single one, and k = 1. */
static void tiny(void)
{
    for (int64_t rows = 0; rows < 3; rows++) {
        list from = new_list(rows, rows, 1, true);
        for (int64_t i = 0; i < rows; i++) {
            from.cell[i] = rows == 1 ? UINT32_MAX : (uint32_t)(1 - i);
            from.distance[i] = rows == 1 ? INFINITY : 2;
        }
        ferry_graph graph;
        fill(&graph, &world, &from);
        const ferry_weights_graphs graphs = {.yx = &graph};
        for (ferry_weight_kernel kernel = FERRY_GAUSS; kernel <= FERRY_HNOCA; kernel++) {
            const ferry_weights_options options = {
                .kernel = kernel, .symmetrize = FERRY_SYMMETRIZE_MAX, .self_edges = true};
            dense k = weigh(&graphs, &options);
            if (kernel != FERRY_UMAP && rows) CHECK(k.there[0] == 1);
            if (rows == 2) CHECK(k.value[1] > 0);
            free_dense(&k);
        }
        ferry_graph_close(&graph);
        free_list(&from);
    }
}

/* ---- mistakes and failures ---- */

static void refuse(const ferry_weights_graphs *graphs, const ferry_weights_options *options, const char *text)
{
    ferry_weights weights;
    CHECK(ferry_weights_open(&weights, &world, graphs, options) == FERRY_E_ARG);
    CHECK(strstr(ferry_error(), text) != NULL);
    CHECK(weights.store == NULL);
    ferry_weights_close(&weights);
}

static void mistakes(const ferry_weights_graphs *one_set)
{
    list from = oracle_list("cross", "yx", 300, false);
    ferry_graph graph;
    fill(&graph, &world, &from);
    const ferry_weights_graphs none = {0}, yx = {.yx = &graph}, mixed = {&graph, one_set->yx, one_set->yx, one_set->yx};
    refuse(&none, &(ferry_weights_options){.kernel = FERRY_GAUSS}, "no neighbours");
    refuse(&yx, &(ferry_weights_options){.kernel = FERRY_UMAP}, "umap");
    refuse(&yx, &(ferry_weights_options){.symmetrize = FERRY_SYMMETRIZE_MAX}, "symmetrized");
    refuse(&yx, &(ferry_weights_options){.self_edges = true}, "itself");
    refuse(&yx, &(ferry_weights_options){.kernel = FERRY_JACCARD}, "four directions");
    refuse(&mixed, &(ferry_weights_options){.kernel = FERRY_HNOCA}, "not of the same two sets");
    refuse(&yx, &(ferry_weights_options){.kernel = (ferry_weight_kernel)9}, "no kernel 9");
    refuse(&yx, &(ferry_weights_options){.symmetrize = (ferry_symmetrize)5}, "no way 5");
    ferry_weights weights;
    CHECK(ferry_weights_open(&weights, &world, &yx, &(ferry_weights_options){.kernel = FERRY_EQUAL}) == FERRY_OK);
    ferry_weights_block block;
    CHECK(ferry_weights_take(&block, &weights, &world, weights.rounds) == FERRY_E_ARG);
    ferry_weights_close(&weights);
    CHECK(ferry_weights_bytes(1000000, 30, 4, FERRY_UMAP, FERRY_SYMMETRIZE_NONE) >
          ferry_weights_edge_bytes(1000000, 30, 4, FERRY_UMAP, FERRY_SYMMETRIZE_NONE));
    CHECK(ferry_weights_edge_bytes(1000000, 30, 4, FERRY_GAUSS, FERRY_SYMMETRIZE_NONE) == 0);
    ferry_graph_close(&graph);
    free_list(&from);
}

static ferry_status run(const ferry_weights_graphs *graphs, ferry_weight_kernel kernel, int64_t memory)
{
    ferry_weights weights;
    const ferry_weights_options options = {.kernel = kernel, .memory = memory};
    FERRY_TRY(ferry_weights_open(&weights, &world, graphs, &options));
    ferry_status status = FERRY_OK;
    for (int64_t round = 0; round < 2 && round < weights.rounds && status == FERRY_OK; round++) {
        ferry_weights_block block;
        status = ferry_weights_take(&block, &weights, &world, round);
    }
    ferry_weights_close(&weights);
    return status;
}

static void every_failure(const char *variable, const ferry_weights_graphs *graphs, ferry_weight_kernel kernel)
{
    ferry_status status = FERRY_E_MPI;
    int failures = 0;
    for (int n = 1; status != FERRY_OK && n < 500; n++, failures++) {
        char plan[32];
        snprintf(plan, sizeof plan, "%d:%d", n, n % world.size);
        setenv(variable, plan, 1);
        status = run(graphs, kernel, kernel == FERRY_JACCARD ? MEMORY : 0);
        unsetenv(variable);
        const int64_t mine = (int64_t)status;
        CHECK(ferry_max(&world, mine) == ferry_min(&world, mine));
    }
    CHECK(status == FERRY_OK && failures > 10);
}

/* ---- files ---- */

static ferry_status write_file(ferry_graph *graph, const char *path, bool frames)
{
    ferry_output *output = NULL;
    FERRY_TRY(ferry_output_open(&output, &world, path, true));
    ferry_status status = ferry_output_anndata(output);
    ferry_names cells = {0}, none = {0};
    const int64_t rows = world.rank == 0 ? graph->rows : 0;
    for (int64_t i = 0; i < rows; i++) {
        char name[32];
        const int length = snprintf(name, sizeof name, "cell%d", (int)i);
        if (status == FERRY_OK) status = ferry_names_add(&cells, name, length);
    }
    status = ferry_agree(&world, status);
    if (status == FERRY_OK && frames) status = ferry_output_frame(output, "obs", graph->rows, 0, &cells);
    if (status == FERRY_OK && frames) status = ferry_output_frame(output, "var", 0, 0, &none);
    if (status == FERRY_OK)
        status = ferry_weights_write_graph(graph, &world, output, "X_emb", "euclidean", 7, frames ? MEMORY : 0, NULL);
    if (status == FERRY_OK)
        status = ferry_output_finish(&output);
    else
        ferry_output_discard(&output);
    ferry_names_close(&cells);
    return status;
}

/* Meetings of writing fail: one status on all ranks. */
static void every_write_failure(ferry_graph *graph)
{
    char path[64];
    snprintf(path, sizeof path, "test_weights_fail_%d.h5ad", world.size);
    ferry_status status = FERRY_E_MPI;
    for (int n = 1, step = 1; status != FERRY_OK && n < 5000; n += step) {
        char plan[32];
        snprintf(plan, sizeof plan, "%d:%d", n, n % world.size);
        setenv("FERRY_FAIL", plan, 1);
        status = write_file(graph, path, false);
        unsetenv("FERRY_FAIL");
        const int64_t mine = (int64_t)status;
        CHECK(ferry_max(&world, mine) == ferry_min(&world, mine));
        CHECK(status != FERRY_OK || access(path, F_OK) == 0);
        step = 3 + n / 16;
        ferry_barrier(&world);
    }
    CHECK(status == FERRY_OK);
    ferry_barrier(&world);
    if (world.rank == 0) unlink(path);
}

static dense read_matrix(ferry_stored *stored, const char *path, int64_t rows)
{
    char part[64];
    int64_t entries, columns;
    snprintf(part, sizeof part, "%s/data", path);
    CHECK(ferry_stored_shape(&entries, &columns, stored, part) == FERRY_OK);
    int64_t *indptr = calloc((size_t)rows + 1, sizeof *indptr), *index = calloc((size_t)entries + 1, sizeof *index);
    double *value = calloc((size_t)entries + 1, sizeof *value);
    CHECK(ferry_stored_numbers(value, stored, part, 0, entries) == FERRY_OK);
    snprintf(part, sizeof part, "%s/indices", path);
    CHECK(ferry_stored_integers(index, stored, part, 0, entries) == FERRY_OK);
    snprintf(part, sizeof part, "%s/indptr", path);
    CHECK(ferry_stored_integers(indptr, stored, part, 0, rows + 1) == FERRY_OK);
    dense out = new_dense(rows, rows);
    CHECK(indptr[rows] == entries);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t e = indptr[i]; e < indptr[i + 1]; e++) {
            CHECK(e == indptr[i] || index[e] > index[e - 1]);
            out.value[i * rows + index[e]] = value[e];
            out.there[i * rows + index[e]] = 1;
        }
    free(indptr);
    free(index);
    free(value);
    return out;
}

static void files(const list *from, ferry_graph *graph)
{
    char path[64], *text = NULL;
    snprintf(path, sizeof path, "test_weights_%d.h5ad", world.size);
    CHECK(write_file(graph, path, false) == FERRY_OK);
    ferry_stored *stored = NULL;
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK);
    dense want = new_dense(from->rows, from->rows), distances = read_matrix(stored, "obsp/distances", from->rows);
    for (int64_t i = 0; i < from->rows; i++)
        for (int e = 0; e < from->k; e++) {
            want.value[i * from->rows + from->cell[i * from->k + e]] = from->distance[i * from->k + e];
            want.there[i * from->rows + from->cell[i * from->k + e]] = 1;
        }
    compare(&distances, &want, "obsp/distances");
    dense umap = oracle_matrix("self", "kernel_umap_sym0_self1", 250);
    dense connectivities = read_matrix(stored, "obsp/connectivities", from->rows);
    compare(&connectivities, &umap, "obsp/connectivities");
    double neighbors = 0;
    CHECK(ferry_stored_number(&neighbors, stored, "uns/neighbors/params/n_neighbors") == FERRY_OK && neighbors == 15);
    CHECK(ferry_stored_text(&text, stored, "uns/neighbors/params/use_rep") == FERRY_OK && !strcmp(text, "X_emb"));
    free(text);
    ferry_stored_close(&stored);
    free_dense(&want);
    free_dense(&distances);
    free_dense(&umap);
    free_dense(&connectivities);
    ferry_barrier(&world);
    if (world.rank == 0) unlink(path);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world_open(&world, MPI_COMM_WORLD);
    ferry_world_open(&alone, MPI_COMM_SELF);
    ferry_log_level(FERRY_WARN);
    oracle = oracle_open("neighbors.h5");
    list from = oracle_list("self", "yx", 250, true);
    ferry_graph graph;
    fill(&graph, &world, &from);
    const ferry_weights_graphs graphs = {.yx = &graph};
    if (argc > 1) {
        CHECK(write_file(&graph, argv[1], true) == FERRY_OK);
    } else {
        cross();
        self(&graphs);
        dense_hnoca(&from, &graphs);
        all_bits();
        zeros();
        statistics();
        tiny();
        mistakes(&graphs);
        files(&from, &graph);
        every_write_failure(&graph);
        every_failure("FERRY_FAIL", &graphs, FERRY_UMAP);
        every_failure("FERRY_FAIL", &graphs, FERRY_JACCARD);
        every_failure("FERRY_FAIL_ALLOC", &graphs, FERRY_UMAP);
        every_failure("FERRY_FAIL_ALLOC", &graphs, FERRY_JACCARD);
    }
    ferry_graph_close(&graph);
    free_list(&from);
    H5Fclose(oracle);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

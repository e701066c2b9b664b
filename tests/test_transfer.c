/* transfer: CellMapper's predictions, confidences, probabilities, numbers, embeddings, layers and presence scores from
 * its own neighbours; ties, missing labels and rows without weight; the same bits for any number of ranks. */
#include "io/read.h"
#include "neighbors/transfer.h"
#include "oracle.h"
#include "test.h"
#include <math.h>

enum { REFERENCE = 300, QUERIES = 200, SELF = 250, GENES = 40, MOST = 300, CLASSES = 8 };

/* ---- inputs ---- */

/* One side: a file of the oracle, whole on every rank, and the rows of this rank. */
typedef struct side {
    ferry_file *file;
    int64_t cells, first[9], rows[MOST];
    ferry_labels labels;
    const int32_t *code; /* of the rows here */
} side;

static void side_open(side *s, const ferry_world *world, const char *name, int64_t cells)
{
    char path[1024];
    const char *folder = getenv("FERRY_TEST_DATA");
    snprintf(path, sizeof path, "%s/oracle/%s", folder ? folder : ".", name);
    memset(s, 0, sizeof *s);
    s->cells = cells;
    for (int r = 0; r <= world->size; r++) s->first[r] = cells * r / world->size;
    for (int i = 0; i < MOST; i++) s->rows[i] = i;
    CHECK(ferry_file_open(&s->file, world, path) == FERRY_OK);
    CHECK(ferry_read_labels(&s->labels, world, s->file, "cell_type", s->rows, cells) == FERRY_OK);
    s->code = s->labels.code + s->first[world->rank];
}

static void side_close(side *s)
{
    ferry_labels_close(&s->labels);
    ferry_file_close(&s->file);
}

/* Neighbours of the oracle as a graph: rank r brings rows r, r + size, ... */
static void graph_of(ferry_graph *out, const ferry_world *world, hid_t oracle, const char *group, const char *name,
                     int64_t columns, bool self)
{
    char path[2][64];
    hsize_t shape[2];
    snprintf(path[0], sizeof path[0], "%s_indices", name);
    snprintf(path[1], sizeof path[1], "%s_distances", name);
    double *cell = oracle_array(oracle, group, path[0], shape), *distance = oracle_array(oracle, group, path[1], NULL);
    const int64_t rows = (int64_t)shape[0], k = (int64_t)shape[1];
    uint32_t *row = malloc((size_t)rows * sizeof *row), *cells = malloc((size_t)(rows * k) * sizeof *cells);
    float *distances = malloc((size_t)(rows * k) * sizeof *distances);
    int64_t count = 0;
    for (int64_t i = world->rank; i < rows; i += world->size, count++) {
        row[count] = (uint32_t)i;
        for (int64_t j = 0; j < k; j++) {
            cells[count * k + j] = (uint32_t)cell[i * k + j];
            distances[count * k + j] = (float)distance[i * k + j];
        }
    }
    const ferry_graph_rows mine = {count, row, cells, distances};
    CHECK(ferry_graph_open(out, world, rows, columns, (int)k, self, (int64_t)1 << 26, NULL) == FERRY_OK);
    CHECK(ferry_graph_put(out, world, &mine) == FERRY_OK);
    CHECK(ferry_graph_finish(out, world) == FERRY_OK);
    free(row);
    free(cells);
    free(distances);
    free(cell);
    free(distance);
}

/* Texts of the oracle, whole. */
static void texts(ferry_names *out, hid_t oracle, const char *path)
{
    hid_t set = H5Dopen2(oracle, path, H5P_DEFAULT), space = H5Dget_space(set), type = H5Tcopy(H5T_C_S1);
    hsize_t length = 0;
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Sget_simple_extent_dims(space, &length, NULL);
    char **text = calloc((size_t)length, sizeof *text);
    CHECK(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0);
    for (hsize_t i = 0; i < length; i++) {
        CHECK(ferry_names_add(out, text[i], (int64_t)strlen(text[i])) == FERRY_OK);
        H5free_memory(text[i]);
    }
    free(text);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
}

/* ---- results, whole on every rank ---- */

typedef struct result {
    const ferry_world *world;
    int64_t next; /* the row that the next call has to begin with */
    int64_t rows, width;
    double *code, *confidence;
    double *dense; /* [rows][width] */
    int64_t times[MOST];
} result;

static void result_open(result *r, const ferry_world *world, int64_t rows, int64_t width)
{
    memset(r, 0, sizeof *r);
    r->world = world;
    r->rows = rows;
    r->width = width;
    r->code = calloc(MOST, sizeof *r->code);
    r->confidence = calloc(MOST, sizeof *r->confidence);
    r->dense = calloc((size_t)(rows * width + 1), sizeof *r->dense);
}

static void result_close(result *r)
{
    free(r->code);
    free(r->confidence);
    free(r->dense);
}

/* Rows of a call are consecutive in rank order and follow those of the call before. */
static int64_t place(result *r, int64_t rows)
{
    const int64_t at = r->next + ferry_before(r->world, rows);
    r->next += ferry_total(r->world, rows);
    CHECK(at + rows <= r->rows);
    for (int64_t i = 0; i < rows; i++) r->times[at + i]++;
    return at;
}

static void spread(result *r, int64_t at, const ferry_rows *rows)
{
    for (int64_t i = 0; i < rows->rows; i++)
        for (int64_t e = rows->indptr[i]; e < rows->indptr[i + 1]; e++) {
            CHECK(rows->indices[e] >= 0 && rows->indices[e] < r->width && rows->values[e] != 0);
            CHECK(e == rows->indptr[i] || rows->indices[e] > rows->indices[e - 1]);
            r->dense[(at + i) * r->width + rows->indices[e]] = (double)rows->values[e];
        }
}

static ferry_status take_labels(void *self, int64_t first, int64_t rows, const int32_t *code, const float *confidence,
                                const ferry_rows *probabilities)
{
    result *r = self;
    const int64_t at = place(r, rows);
    CHECK((rows == 0 || first == at) && probabilities->rows == rows);
    for (int64_t i = 0; i < rows; i++) {
        r->code[at + i] = code[i];
        r->confidence[at + i] = (double)confidence[i];
    }
    spread(r, at, probabilities);
    return FERRY_OK;
}

static ferry_status take_values(void *self, int64_t first, int64_t rows, int64_t width, const double *values)
{
    result *r = self;
    const int64_t at = place(r, rows);
    CHECK((rows == 0 || first == at) && width == r->width);
    if (rows) memcpy(r->dense + at * width, values, (size_t)(rows * width) * sizeof *values);
    return FERRY_OK;
}

static ferry_status take_rows(void *self, const ferry_rows *rows)
{
    result *r = self;
    spread(r, place(r, rows->rows), rows);
    return FERRY_OK;
}

static void gather(result *r)
{
    MPI_Allreduce(MPI_IN_PLACE, r->code, MOST, MPI_DOUBLE, MPI_SUM, r->world->comm);
    MPI_Allreduce(MPI_IN_PLACE, r->confidence, MOST, MPI_DOUBLE, MPI_SUM, r->world->comm);
    MPI_Allreduce(MPI_IN_PLACE, r->dense, (int)(r->rows * r->width), MPI_DOUBLE, MPI_SUM, r->world->comm);
    MPI_Allreduce(MPI_IN_PLACE, r->times, MOST, MPI_INT64_T, MPI_SUM, r->world->comm);
    for (int64_t i = 0; i < r->rows; i++) CHECK(r->times[i] == 1);
}

/* ---- labels ---- */

static void compare_labels(const result *r, hid_t oracle, const char *group, const char *tag,
                           const ferry_names *categories)
{
    char path[96];
    ferry_names want = {0}, columns = {0};
    snprintf(path, sizeof path, "%s/%s_pred", group, tag);
    texts(&want, oracle, path);
    snprintf(path, sizeof path, "%s/%s_prob_cols", group, tag);
    texts(&columns, oracle, path);
    snprintf(path, sizeof path, "%s_conf", tag);
    double *confidence = oracle_array(oracle, group, path, NULL);
    snprintf(path, sizeof path, "%s_prob", tag);
    double *probability = oracle_array(oracle, group, path, NULL);
    for (int64_t i = 0; i < r->rows; i++) {
        const int64_t code = (int64_t)r->code[i];
        CHECK(!strcmp(code < 0 ? "nan" : ferry_name(categories, code), ferry_name(&want, i)));
        CHECK(fabs(r->confidence[i] - confidence[i]) < 1e-6);
        double rest = 0;
        for (int64_t c = 0; c < r->width; c++) rest += r->dense[i * r->width + c];
        for (int64_t c = 0; c < columns.count; c++) {
            const int64_t mine = ferry_names_find(categories, ferry_name(&columns, c));
            const double p = r->dense[i * r->width + (mine < 0 ? categories->count : mine)];
            CHECK(fabs(p - probability[i * columns.count + c]) < 1e-6);
            rest -= p;
        }
        CHECK(fabs(rest) < 1e-12);
    }
    free(confidence);
    free(probability);
    ferry_names_close(&want);
    ferry_names_close(&columns);
}

static void labels_case(const ferry_world *world, ferry_weights *weights, hid_t oracle, const char *group,
                        const char *tag, const ferry_transfer_labels *labels)
{
    result r;
    result_open(&r, world, weights->rows, labels->categories->count + 1);
    CHECK(ferry_transfer_categories(weights, world, labels, take_labels, &r) == FERRY_OK);
    gather(&r);
    compare_labels(&r, oracle, group, tag, labels->categories);
    result_close(&r);
}

static void score_case(const ferry_world *world, ferry_weights *weights, hid_t oracle, const char *group,
                       const char *tag, const side *reference)
{
    char path[96];
    result r;
    double *score = NULL;
    CHECK(ferry_read_numbers(&score, reference->file, "score", reference->rows, reference->cells) == FERRY_OK);
    const ferry_transfer_values values = {score + reference->first[world->rank], reference->first, 1};
    result_open(&r, world, weights->rows, 1);
    CHECK(ferry_transfer_numbers(weights, world, &values, take_values, &r) == FERRY_OK);
    gather(&r);
    snprintf(path, sizeof path, "%s_score", tag);
    double *want = oracle_array(oracle, group, path, NULL);
    for (int64_t i = 0; i < r.rows; i++) CHECK(fabs(r.dense[i] - want[i]) < 2e-6);
    free(want);
    free(score);
    result_close(&r);
}

static const struct kernel {
    const char *name;
    ferry_weight_kernel kernel;
} kernels[] = {{"gauss", FERRY_GAUSS}, {"scarches", FERRY_SCARCHES}, {"inverse_distance", FERRY_INVERSE_DISTANCE},
               {"equal", FERRY_EQUAL}, {"jaccard", FERRY_JACCARD},   {"hnoca", FERRY_HNOCA},
               {"umap", FERRY_UMAP}};

static ferry_weights_options options_of(ferry_weight_kernel kernel)
{
    return (ferry_weights_options){.kernel = kernel, .memory = (int64_t)1 << 26};
}

static void cross_labels(const ferry_world *world, hid_t oracle, const side *reference,
                         const ferry_weights_graphs *graphs)
{
    const ferry_transfer_labels labels = {reference->code, reference->first, &reference->labels.categories, NULL,
                                          false};
    for (int k = 0; k < 6; k++) {
        ferry_weights weights;
        const ferry_weights_options options = options_of(kernels[k].kernel);
        CHECK(ferry_weights_open(&weights, world, graphs, &options) == FERRY_OK);
        labels_case(world, &weights, oracle, "cross", kernels[k].name, &labels);
        score_case(world, &weights, oracle, "cross", kernels[k].name, reference);
        ferry_weights_close(&weights);
    }
}

static void self_labels(const ferry_world *world, hid_t oracle)
{
    side cells;
    ferry_graph graph;
    side_open(&cells, world, "neighbors_self.h5ad", SELF);
    graph_of(&graph, world, oracle, "self", "yx", SELF, true);
    const ferry_weights_graphs graphs = {&graph, NULL, NULL, NULL};
    const ferry_transfer_labels labels = {cells.code, cells.first, &cells.labels.categories, NULL, false};
    for (int k = 0; k < 7; k++)
        for (int symmetric = 0; symmetric < 2; symmetric++) {
            char tag[64];
            ferry_weights weights;
            ferry_weights_options options = options_of(kernels[k].kernel);
            if (kernels[k].kernel == FERRY_HNOCA) continue; /* the reference divides by zero */
            options.self_edges = true;
            options.symmetrize = symmetric ? FERRY_SYMMETRIZE_MAX : FERRY_SYMMETRIZE_NONE;
            snprintf(tag, sizeof tag, "%s_sym%d_self1", kernels[k].name, symmetric);
            CHECK(ferry_weights_open(&weights, world, &graphs, &options) == FERRY_OK);
            labels_case(world, &weights, oracle, "self", tag, &labels);
            score_case(world, &weights, oracle, "self", tag, &cells);
            ferry_weights_close(&weights);
        }
    ferry_graph_close(&graph);
    side_close(&cells);
}

/* The gauss kernel of the oracle: subsets, and 60 cells without a label. */
static void some_labels(const ferry_world *world, hid_t oracle, const side *reference,
                        const ferry_weights_graphs *graphs)
{
    bool kept[CLASSES] = {false};
    ferry_weights weights;
    ferry_weights_options options = options_of(FERRY_GAUSS);
    const ferry_names *categories = &reference->labels.categories;
    const char *const subset[] = {"B cell", "T cell", "DC"};
    for (int k = 0; k < 3; k++) kept[ferry_names_find(categories, subset[k])] = true;
    const ferry_transfer_labels some = {reference->code, reference->first, categories, kept, false};
    CHECK(ferry_weights_open(&weights, world, graphs, &options) == FERRY_OK);
    labels_case(world, &weights, oracle, "cross", "subset", &some);
    ferry_weights_close(&weights);

    int32_t code[MOST];
    const int64_t first = reference->first[world->rank], end = reference->first[world->rank + 1];
    for (int64_t i = first; i < end; i++) code[i - first] = i < 60 ? -1 : reference->labels.code[i];
    const ferry_transfer_labels missing = {code, reference->first, categories, NULL, false};
    options.kernel = FERRY_EQUAL;
    CHECK(ferry_weights_open(&weights, world, graphs, &options) == FERRY_OK);
    labels_case(world, &weights, oracle, "edge", "nan", &missing);
    /* without votes of cells that have no label: the same masses, less that class */
    result with, without;
    ferry_transfer_labels dropped = missing;
    dropped.drop_missing = true;
    result_open(&with, world, QUERIES, categories->count + 1);
    result_open(&without, world, QUERIES, categories->count + 1);
    CHECK(ferry_transfer_categories(&weights, world, &missing, take_labels, &with) == FERRY_OK);
    CHECK(ferry_transfer_categories(&weights, world, &dropped, take_labels, &without) == FERRY_OK);
    gather(&with);
    gather(&without);
    for (int64_t i = 0; i < QUERIES; i++) {
        CHECK(without.code[i] >= 0 && without.dense[i * with.width + categories->count] == 0);
        for (int64_t c = 0; c < categories->count; c++)
            CHECK(with.dense[i * with.width + c] == without.dense[i * with.width + c]);
    }
    result_close(&with);
    result_close(&without);
    ferry_weights_close(&weights);
}

/* Four queries, four cells: z a a' missing. Ties go to the first name; the missing class is the last; no weight at all
 * gives the first name with confidence 0. */
static void ties(const ferry_world *world)
{
    static const uint32_t cell[5 * 2] = {0, 1, 3, 0, 2, UINT32_MAX, UINT32_MAX, UINT32_MAX, 3, UINT32_MAX};
    static const float distance[5 * 2] = {1, 1, 1, 1, 1, INFINITY, INFINITY, INFINITY, 1, INFINITY};
    static const int32_t code[] = {0, 1, 2, -1}, want[] = {1, 0, 2, 1, -1};
    static const double confidence[] = {0.5, 0.5, 1, 0, 1};
    static const uint32_t row[] = {0, 1, 2, 3, 4};
    const bool kept[] = {true, false, false};
    int64_t first[9];
    ferry_graph graph;
    ferry_weights weights;
    ferry_names names = {0};
    result r;
    for (int k = 0; k <= world->size; k++) first[k] = 4 * k / world->size;
    const char *const text[] = {"z", "a", "\xc3\xa4"}; /* bytes of a-umlaut come after z */
    for (int k = 0; k < 3; k++) CHECK(ferry_names_add(&names, text[k], (int64_t)strlen(text[k])) == FERRY_OK);
    const ferry_graph_rows rows = {world->rank == 0 ? 5 : 0, row, cell, distance};
    const ferry_weights_graphs graphs = {&graph, NULL, NULL, NULL};
    const ferry_weights_options options = options_of(FERRY_EQUAL);
    CHECK(ferry_graph_open(&graph, world, 5, 4, 2, false, (int64_t)1 << 24, NULL) == FERRY_OK);
    CHECK(ferry_graph_put(&graph, world, &rows) == FERRY_OK && ferry_graph_finish(&graph, world) == FERRY_OK);
    CHECK(ferry_weights_open(&weights, world, &graphs, &options) == FERRY_OK);
    ferry_transfer_labels labels = {code + first[world->rank], first, &names, NULL, false};
    result_open(&r, world, 5, 4);
    CHECK(ferry_transfer_categories(&weights, world, &labels, take_labels, &r) == FERRY_OK);
    gather(&r);
    for (int i = 0; i < 5; i++) CHECK(r.code[i] == want[i] && r.confidence[i] == confidence[i]);
    result_close(&r);
    labels.kept = kept; /* only z: the others have nothing */
    result_open(&r, world, 5, 4);
    CHECK(ferry_transfer_categories(&weights, world, &labels, take_labels, &r) == FERRY_OK);
    gather(&r);
    for (int i = 0; i < 5; i++) CHECK(r.code[i] == 0 && r.confidence[i] == (i < 2 ? 0.5 : 0));
    result_close(&r);
    /* a missing number spreads to those who touch it */
    static const double number[] = {1, 3, NAN, 5};
    const ferry_transfer_values values = {number + first[world->rank], first, 1};
    result_open(&r, world, 5, 1);
    CHECK(ferry_transfer_numbers(&weights, world, &values, take_values, &r) == FERRY_OK);
    gather(&r);
    CHECK(r.dense[0] == 2 && r.dense[1] == 3 && isnan(r.dense[2]) && r.dense[3] == 0 && r.dense[4] == 5);
    result_close(&r);
    ferry_weights_close(&weights);
    ferry_graph_close(&graph);
    ferry_names_close(&names);
}

/* ---- values ---- */

static void embedding(const ferry_world *world, hid_t oracle, const side *reference, ferry_weights *gauss)
{
    ferry_matrix umap = {0};
    result r;
    CHECK(ferry_read_rep(&umap, reference->file, "X_umap", 0, FERRY_DOUBLE, reference->rows, REFERENCE) == FERRY_OK);
    const ferry_transfer_values values = {umap.d + 2 * reference->first[world->rank], reference->first, 2};
    result_open(&r, world, QUERIES, 2);
    CHECK(ferry_transfer_numbers(gauss, world, &values, take_values, &r) == FERRY_OK);
    gather(&r);
    double *want = oracle_array(oracle, "cross", "obsm_X_umap_pred", NULL);
    for (int i = 0; i < 2 * QUERIES; i++) CHECK(fabs(r.dense[i] - want[i]) < 2e-6);
    free(want);
    result_close(&r);
    ferry_matrix_close(&umap);
}

/* Rows first ... end of a matrix as sparse rows. */
static void sparse_of(int64_t **start, ferry_transfer_entry **entry, const ferry_matrix *m, int64_t first, int64_t end)
{
    *start = calloc((size_t)(end - first + 1), sizeof **start);
    *entry = calloc((size_t)((end - first) * m->dim + 1), sizeof **entry);
    int64_t at = 0;
    for (int64_t i = first; i < end; i++) {
        for (int k = 0; k < m->dim; k++)
            if (m->d[i * m->dim + k] != 0)
                (*entry)[at++] = (ferry_transfer_entry){(uint32_t)k, (float)m->d[i * m->dim + k]};
        (*start)[i - first + 1] = at;
    }
}

static void layer_case(const ferry_world *world, hid_t oracle, ferry_weights *gauss,
                       const ferry_transfer_sparse *sparse, const char *name, uint64_t *bits)
{
    char path[3][96];
    const char *const part[] = {"data", "indices", "indptr"};
    result r;
    result_open(&r, world, QUERIES, GENES);
    const ferry_sink sink = {take_rows, &r};
    CHECK(ferry_transfer_layer(gauss, world, sparse, &sink) == FERRY_OK);
    gather(&r);
    for (int k = 0; k < 3; k++) snprintf(path[k], sizeof path[k], "%s_%s", name, part[k]);
    double *data = oracle_array(oracle, "cross", path[0], NULL),
           *indices = oracle_array(oracle, "cross", path[1], NULL),
           *indptr = oracle_array(oracle, "cross", path[2], NULL);
    for (int64_t i = 0; i < QUERIES; i++) {
        int64_t mine = 0;
        for (int64_t g = 0; g < GENES; g++) mine += r.dense[i * GENES + g] != 0;
        CHECK(mine == (int64_t)indptr[i + 1] - (int64_t)indptr[i]);
        for (int64_t e = (int64_t)indptr[i]; e < (int64_t)indptr[i + 1]; e++)
            CHECK(fabs(r.dense[i * GENES + (int64_t)indices[e]] - data[e]) < 2e-6 * fmax(1, fabs(data[e])));
    }
    *bits = 0;
    for (int64_t i = 0; i < QUERIES * GENES; i++) {
        uint64_t word;
        memcpy(&word, r.dense + i, sizeof word);
        *bits = (*bits ^ word) * 0x9E3779B97F4A7C15U + 1;
    }
    free(data);
    free(indices);
    free(indptr);
    result_close(&r);
}

static void layers(const ferry_world *world, hid_t oracle, const side *reference, ferry_weights *gauss)
{
    side query;
    ferry_matrix counts = {0}, own = {0};
    int64_t *start;
    ferry_transfer_entry *entry;
    double libsize[QUERIES], row_sum[QUERIES] = {0};
    int64_t rows = 0;
    uint64_t bits[4];
    side_open(&query, world, "neighbors_cross_query.h5ad", QUERIES);
    CHECK(ferry_read_rep(&counts, reference->file, "layers/counts", 0, FERRY_DOUBLE, reference->rows, REFERENCE) ==
          FERRY_OK);
    CHECK(ferry_read_rep(&own, query.file, "layers/counts", 0, FERRY_DOUBLE, query.rows, QUERIES) == FERRY_OK);
    sparse_of(&start, &entry, &counts, reference->first[world->rank], reference->first[world->rank + 1]);
    for (int64_t i = 0; i < QUERIES * GENES; i++) row_sum[i / GENES] += own.d[i];
    for (int b = world->rank; b < gauss->blocks.count; b += world->size)
        for (int64_t i = ferry_block_first(&gauss->blocks, b); i < ferry_block_first(&gauss->blocks, b + 1); i++)
            libsize[rows++] = row_sum[i];
    CHECK(rows == ferry_transfer_rows(&gauss->blocks, world->rank, world->size));
    ferry_transfer_sparse sparse = {start, entry, reference->first, GENES, NULL, 0, 1};
    layer_case(world, oracle, gauss, &sparse, "layer_counts_pred", bits);
    sparse.memory = 1; /* 16 rows a step */
    sparse.threads = 2;
    layer_case(world, oracle, gauss, &sparse, "layer_counts_pred", bits + 1);
    sparse.libsize = libsize;
    layer_case(world, oracle, gauss, &sparse, "layer_counts_libsize_pred", bits + 2);
    sparse.memory = 0;
    layer_case(world, oracle, gauss, &sparse, "layer_counts_libsize_pred", bits + 3);
    CHECK(bits[0] == bits[1] && bits[2] == bits[3]);
    free(start);
    free(entry);
    ferry_matrix_close(&counts);
    ferry_matrix_close(&own);
    side_close(&query);
}

/* ---- presence ---- */

static void presence_case(const ferry_world *world, hid_t oracle, const side *reference, ferry_weights *gauss,
                          int setting, const int32_t *group, int64_t groups)
{
    char path[64];
    double percentile[2];
    double *score = NULL;
    const int64_t first = reference->first[world->rank], rows = reference->first[world->rank + 1] - first;
    snprintf(path, sizeof path, "cases.presence%d.percentile", setting);
    hid_t attribute = H5Aopen(oracle, path, H5P_DEFAULT);
    H5Aread(attribute, H5T_NATIVE_DOUBLE, percentile);
    H5Aclose(attribute);
    snprintf(path, sizeof path, "cases.presence%d.log", setting);
    const bool logarithm = oracle_number(oracle, "/", path) != 0;
    snprintf(path, sizeof path, "cases.presence%d.minmax", setting);
    const bool minmax = oracle_number(oracle, "/", path) != 0;
    CHECK(ferry_presence(&score, gauss, world, reference->first, group, groups) == FERRY_OK);
    CHECK(ferry_presence_finish(score, world, rows, groups, logarithm, percentile[0], percentile[1], minmax) ==
          FERRY_OK);
    snprintf(path, sizeof path, "presence%d_%s", setting, group ? "groups" : "all");
    double *want = oracle_array(oracle, "cross", path, NULL);
    for (int64_t i = 0; i < rows * groups; i++)
        CHECK(fabs(score[i] - want[first * groups + i]) < 1e-6 * fmax(1, fabs(want[first * groups + i])));
    free(want);
    free(score);
}

static void presences(const ferry_world *world, hid_t oracle, const side *reference, ferry_weights *gauss)
{
    side query;
    ferry_labels batch = {0};
    ferry_names columns = {0};
    int32_t group[QUERIES];
    int64_t rows = 0;
    side_open(&query, world, "neighbors_cross_query.h5ad", QUERIES);
    texts(&columns, oracle, "cross/presence0_cols");
    CHECK(ferry_read_labels(&batch, world, query.file, "batch", query.rows, QUERIES) == FERRY_OK);
    for (int b = world->rank; b < gauss->blocks.count; b += world->size)
        for (int64_t i = ferry_block_first(&gauss->blocks, b); i < ferry_block_first(&gauss->blocks, b + 1); i++)
            group[rows++] = (int32_t)ferry_names_find(&columns, ferry_name(&batch.categories, batch.code[i]));
    for (int setting = 0; setting < 5; setting++) {
        presence_case(world, oracle, reference, gauss, setting, NULL, 1);
        presence_case(world, oracle, reference, gauss, setting, group, columns.count);
    }
    ferry_names_close(&columns);
    ferry_labels_close(&batch);
    side_close(&query);
}

/* ---- the same bits alone; every meeting and allocation fails once ---- */

/* What a world computes, summed over its ranks' bits in a way that the ranks do not matter. */
typedef struct bits {
    const ferry_world *world;
    int64_t next;
    uint64_t sum;
} bits;

static void add_bits(bits *b, int64_t row, int64_t column, double value)
{
    uint64_t word;
    memcpy(&word, &value, sizeof word);
    word = (word ^ (uint64_t)(row * 1000 + column)) * 0x9E3779B97F4A7C15U;
    b->sum += word ^ word >> 29;
}

static ferry_status label_bits(void *self, int64_t first, int64_t rows, const int32_t *code, const float *confidence,
                               const ferry_rows *probabilities)
{
    for (int64_t i = 0; i < rows; i++) {
        add_bits(self, first + i, 900 + code[i], (double)confidence[i]);
        for (int64_t e = probabilities->indptr[i]; e < probabilities->indptr[i + 1]; e++)
            add_bits(self, first + i, probabilities->indices[e], (double)probabilities->values[e]);
    }
    return FERRY_OK;
}

static ferry_status value_bits(void *self, int64_t first, int64_t rows, int64_t width, const double *values)
{
    for (int64_t i = 0; i < rows * width; i++) add_bits(self, first + i / width, i % width, values[i]);
    return FERRY_OK;
}

static ferry_status row_bits(void *self, const ferry_rows *rows)
{
    bits *b = self;
    const int64_t first = b->next + ferry_before(b->world, rows->rows);
    b->next += ferry_total(b->world, rows->rows);
    for (int64_t i = 0; i < rows->rows; i++)
        for (int64_t e = rows->indptr[i]; e < rows->indptr[i + 1]; e++)
            add_bits(b, first + i, rows->indices[e], (double)rows->values[e]);
    return FERRY_OK;
}

/* Collective. Presence of 3 made-up groups. */
static ferry_status presence_bits(bits *b, const ferry_world *world, ferry_weights *gauss, const side *reference)
{
    int32_t group[QUERIES];
    int64_t rows = 0;
    FERRY_AUTO double *score = NULL;
    for (int block = world->rank; block < gauss->blocks.count; block += world->size)
        for (int64_t i = ferry_block_first(&gauss->blocks, block); i < ferry_block_first(&gauss->blocks, block + 1);
             i++)
            group[rows++] = (int32_t)(i % 4) - 1;
    FERRY_TRY(ferry_presence(&score, gauss, world, reference->first, group, 3));
    const int64_t first = reference->first[world->rank], held = reference->first[world->rank + 1] - first;
    for (int64_t i = 0; i < held * 3; i++) add_bits(b, first + i / 3, 500 + i % 3, score[i]);
    FERRY_TRY(ferry_presence_finish(score, world, held, 3, true, 2, 97, true));
    for (int64_t i = 0; i < held * 3; i++) add_bits(b, first + i / 3, 600 + i % 3, score[i]);
    return FERRY_OK;
}

/* Collective. Everything that is carried, with one kernel. */
static ferry_status carry_all(uint64_t *sum, const ferry_world *world, const ferry_weights_graphs *graphs,
                              const side *reference, const ferry_transfer_sparse *sparse)
{
    bits b = {.world = world};
    ferry_weights gauss;
    const ferry_weights_options options = options_of(FERRY_GAUSS);
    const ferry_transfer_labels labels = {reference->code, reference->first, &reference->labels.categories, NULL,
                                          false};
    double number[MOST];
    for (int64_t i = 0; i < MOST; i++) number[i] = 1.0 / (double)(1 + i + reference->first[world->rank]);
    const ferry_transfer_values values = {number, reference->first, 1};
    const ferry_sink sink = {row_bits, &b};
    FERRY_TRY(ferry_weights_open(&gauss, world, graphs, &options));
    ferry_status status = ferry_transfer_categories(&gauss, world, &labels, label_bits, &b);
    if (status == FERRY_OK) status = ferry_transfer_numbers(&gauss, world, &values, value_bits, &b);
    if (status == FERRY_OK) status = ferry_transfer_layer(&gauss, world, sparse, &sink);
    if (status == FERRY_OK) status = presence_bits(&b, world, &gauss, reference);
    ferry_weights_close(&gauss);
    *sum = (uint64_t)ferry_total(world, (int64_t)b.sum);
    return status;
}

/* Collective. Its own reader, graphs and rows; walks through failures of `variable` when it is not NULL. */
static uint64_t carry_in(const ferry_world *world, hid_t oracle, const char *variable, int step)
{
    side reference;
    ferry_graph graph;
    ferry_matrix counts = {0};
    int64_t *start;
    ferry_transfer_entry *entry;
    uint64_t sum = 0;
    const ferry_weights_graphs graphs = {&graph, NULL, NULL, NULL};
    side_open(&reference, world, "neighbors_cross_ref.h5ad", REFERENCE);
    graph_of(&graph, world, oracle, "cross", "yx", REFERENCE, false);
    CHECK(ferry_read_rep(&counts, reference.file, "layers/counts", 0, FERRY_DOUBLE, reference.rows, REFERENCE) ==
          FERRY_OK);
    sparse_of(&start, &entry, &counts, reference.first[world->rank], reference.first[world->rank + 1]);
    const ferry_transfer_sparse sparse = {start, entry, reference.first, GENES, NULL, 0, 1};
    ferry_status status = variable ? FERRY_E_NUMERIC : carry_all(&sum, world, &graphs, &reference, &sparse);
    CHECK(variable || status == FERRY_OK);
    int n = 0;
    for (; variable && status != FERRY_OK && n < 4000; n += step) {
        char text[64];
        snprintf(text, sizeof text, "%d:%d", n + 1, world->size - 1);
        setenv(variable, text, 1);
        status = carry_all(&sum, world, &graphs, &reference, &sparse);
        unsetenv(variable);
        CHECK(ferry_max(world, status) == ferry_min(world, status));
    }
    CHECK(!variable || (n > 20 && n < 4000));
    free(start);
    free(entry);
    ferry_matrix_close(&counts);
    ferry_graph_close(&graph);
    side_close(&reference);
    return sum;
}

static void same_and_failing(const ferry_world *world, hid_t oracle)
{
    ferry_world alone;
    CHECK(ferry_world_split(&alone, world, world->rank, 0) == FERRY_OK);
    const uint64_t together = carry_in(world, oracle, NULL, 1), by_itself = carry_in(&alone, oracle, NULL, 1);
    CHECK(together == by_itself && together != 0);
    ferry_world_close(&alone);
    CHECK(carry_in(world, oracle, "FERRY_FAIL", world->size > 2 ? 7 : 3) == together);
    CHECK(carry_in(world, oracle, "FERRY_FAIL_ALLOC", world->size > 2 ? 11 : 5) == together);
}

static void cross(const ferry_world *world, hid_t oracle)
{
    side reference;
    ferry_graph graph[4];
    ferry_weights gauss;
    const ferry_weights_options options = options_of(FERRY_GAUSS);
    const ferry_weights_graphs graphs = {graph, graph + 1, graph + 2, graph + 3};
    side_open(&reference, world, "neighbors_cross_ref.h5ad", REFERENCE);
    graph_of(graph, world, oracle, "cross", "yx", REFERENCE, false);
    graph_of(graph + 1, world, oracle, "cross", "xx", REFERENCE, true);
    graph_of(graph + 2, world, oracle, "cross", "yy", QUERIES, true);
    graph_of(graph + 3, world, oracle, "cross", "xy", QUERIES, false);
    cross_labels(world, oracle, &reference, &graphs);
    some_labels(world, oracle, &reference, &graphs);
    CHECK(ferry_weights_open(&gauss, world, &graphs, &options) == FERRY_OK);
    embedding(world, oracle, &reference, &gauss);
    layers(world, oracle, &reference, &gauss);
    presences(world, oracle, &reference, &gauss);
    ferry_weights_close(&gauss);
    for (int k = 0; k < 4; k++) ferry_graph_close(graph + k);
    side_close(&reference);
}

int main(int argc, char **argv)
{
    ferry_world world;
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    hid_t oracle = oracle_open("neighbors.h5");
    ties(&world);
    cross(&world, oracle);
    self_labels(&world, oracle);
    same_and_failing(&world, oracle);
    H5Fclose(oracle);
    ferry_world_close(&world);
    return test_end();
}

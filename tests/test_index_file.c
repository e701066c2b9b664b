/* A stored index is the lists it was made of, bit for bit, opened in memory or through a cache, by any number of ranks;
 * what does not fit together is said with the file's name. */
#define _GNU_SOURCE /* setenv */
#include "neighbors/index_file.h"
#include "io/read.h"
#include "test.h"
#include <hdf5.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIM   6
#define CELLS 1500
#define LISTS 31
static char folder[64], path[96];
static const ferry_kernels *kernels;

static float number(uint64_t seed, uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u + seed * 0xd1342543de82ef95u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (float)((double)(x >> 40) / (1 << 24)) * 4 - 1;
}

/* Element i of the points; the last rows are the first again. */
static float value(int64_t i)
{
    return number(1, (uint64_t)i % (DIM * 1100));
}

static ferry_status read_points(void *self, ferry_matrix *out, const ferry_world *world, int64_t first, int64_t count)
{
    ferry_status status = ferry_matrix_open(out, count, DIM, FERRY_FLOAT);
    (void)self;
    for (int64_t i = 0; status == FERRY_OK && i < count * DIM; i++) out->f[i] = value(first * DIM + i);
    status = ferry_agree(world, status);
    if (status != FERRY_OK) ferry_matrix_close(out);
    return status;
}

static ferry_status make_quantizer(ferry_quantizer *out, const ferry_world *world, ferry_search_metric metric)
{
    float mean[DIM], centre[LISTS * DIM], super[3 * DIM] = {0};
    const int64_t child[4] = {0, 10, 20, LISTS};
    for (int k = 0; k < DIM; k++) mean[k] = 0.5F;
    for (int i = 0; i < LISTS * DIM; i++) centre[i] = number(2, (uint64_t)i) - 0.5F + (i / DIM == 4 ? 500 : 0);
    return ferry_quantizer_of(out, world, DIM, LISTS, 3, mean, centre, super, child, metric, kernels);
}

static ferry_status build(ferry_lists *out, const ferry_world *world, const ferry_quantizer *q, bool held)
{
    const ferry_points points = {.cells = CELLS, .dim = DIM, .name = "made", .read = read_points};
    const ferry_lists_options options = {
        .exact = true, .held = held, .keep_rows = true, .memory = 1 << 20, .folder = folder, .threads = 1};
    return ferry_lists_build(out, world, q, &points, &options);
}

/* Of all points, as one rank would read them. */
static uint64_t whole_fingerprint(void)
{
    ferry_matrix all = {0};
    CHECK(ferry_matrix_open(&all, CELLS, DIM, FERRY_FLOAT) == FERRY_OK);
    for (int64_t i = 0; i < CELLS * DIM; i++) all.f[i] = value(i);
    const uint64_t print = ferry_fingerprint(&all, 0);
    ferry_matrix_close(&all);
    return print;
}

static ferry_status store(const ferry_world *world, const ferry_lists *lists, int64_t batch)
{
    ferry_output *output = NULL;
    uint64_t fingerprint = 0;
    ferry_status status = ferry_output_open(&output, world, path, true);
    if (status == FERRY_OK) status = ferry_index_write(&fingerprint, output, world, lists, batch);
    if (status == FERRY_OK) CHECK(fingerprint == whole_fingerprint());
    if (status == FERRY_OK) return ferry_output_finish(&output);
    ferry_output_discard(&output);
    return status;
}

static bool same_part(const ferry_list_part *a, const ferry_list_part *b)
{
    const size_t n = (size_t)a->count, places = (size_t)a->units * 32;
    return a->first == b->first && a->count == b->count && a->units == b->units && !memcmp(a->cell, b->cell, n * 4) &&
           !memcmp(a->distance, b->distance, n * 4) && !memcmp(a->rows, b->rows, n * DIM * 4) &&
           !memcmp(a->beta, b->beta, places * 4) && !memcmp(a->packed, b->packed, places * DIM * 4);
}

static bool same_lists(const ferry_lists *a, const ferry_lists *b)
{
    bool same = a->rows == b->rows && a->lists == b->lists && a->exact == b->exact &&
                !memcmp(a->first, b->first, (size_t)(a->lists + 1) * 8) &&
                !memcmp(a->radius, b->radius, (size_t)a->lists * 4);
    for (int64_t i = 0; same && i < a->lists; i++) {
        for (int64_t k = 0; same && k < ferry_list_parts(a, i); k++) {
            ferry_list_part x, y;
            same = ferry_lists_take(&x, a, i, k) == FERRY_OK && ferry_lists_take(&y, b, i, k) == FERRY_OK;
            if (!same) break;
            same = same_part(&x, &y);
            ferry_lists_drop(a, &x);
            ferry_lists_drop(b, &y);
        }
    }
    return same;
}

static bool same_quantizer(const ferry_quantizer *a, const ferry_quantizer *b)
{
    return a->dim == b->dim && a->metric == b->metric && a->list.count == b->list.count &&
           a->super.count == b->super.count && !memcmp(a->mean, b->mean, DIM * 4) &&
           !memcmp(a->list.centre, b->list.centre, LISTS * DIM * 4) &&
           !memcmp(a->super.centre, b->super.centre, 3 * DIM * 4) && !memcmp(a->child, b->child, 4 * 8);
}

static void check_opened(const ferry_world *world, const ferry_lists *built, bool held, int64_t memory)
{
    ferry_index index;
    const ferry_lists_options options = {.held = held, .keep_rows = true, .memory = memory, .threads = 2};
    CHECK(ferry_index_open(&index, world, path, kernels, &options) == FERRY_OK);
    if (!index.path) return;
    CHECK(index.lists.held == held && index.cells == CELLS && !index.input && index.fingerprint == 0);
    CHECK(same_quantizer(&index.quantizer, built->quantizer));
    CHECK(same_lists(&index.lists, built));
    CHECK(same_lists(&index.lists, built));
    ferry_barrier(world);
    ferry_index_close(&index, world);
    CHECK(!index.path);
}

static void check_metric(const ferry_world *world, ferry_search_metric metric)
{
    ferry_quantizer q;
    ferry_lists lists;
    ferry_search_metric found = FERRY_EUCLIDEAN;
    CHECK(make_quantizer(&q, world, metric) == FERRY_OK);
    for (int held = 0; held < 2; held++) {
        int64_t rows = 0, count = 0;
        int dim = 0;
        CHECK(build(&lists, world, &q, held) == FERRY_OK);
        CHECK(store(world, &lists, held ? 100000 : 90) == FERRY_OK);
        CHECK(ferry_index_peek(&rows, &count, &dim, &found, world, path) == FERRY_OK);
        CHECK(rows == CELLS && count == LISTS && dim == DIM && found == metric);
        check_opened(world, &lists, true, 0);
        check_opened(world, &lists, false, 1 << 24);
        check_opened(world, &lists, false, 0);
        ferry_lists_close(&lists, world);
    }
    ferry_quantizer_close(&q, world);
}

/* ---- an index that was tampered with ---- */

static void set_number(hid_t file, const char *name, double value)
{
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_DOUBLE, &value);
    H5Aclose(attribute);
}

static void set_element(hid_t file, const char *name, hsize_t row, double value)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set), one = H5Screate(H5S_SCALAR);
    hsize_t start[2] = {row, 0}, size[2] = {1, 1};
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL);
    H5Dwrite(set, H5T_NATIVE_DOUBLE, one, space, H5P_DEFAULT, &value);
    H5Sclose(one);
    H5Sclose(space);
    H5Dclose(set);
}

typedef struct harm {
    const char *name;
    int row; /* -1: an attribute; -2: removed; -3: cut to half of its length; -4: no HDF5 file */
    double value;
    const char *said;
} harm;

static void do_harm(const harm *h)
{
    if (h->row == -3) {
        CHECK(truncate(path, 40000) == 0);
        return;
    }
    if (h->row == -4) {
        FILE *text = fopen(path, "w");
        fprintf(text, "no HDF5");
        fclose(text);
        return;
    }
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    if (h->row == -2)
        H5Ldelete(file, h->name, H5P_DEFAULT);
    else if (h->row == -1 && !strcmp(h->name, "kind"))
        H5Adelete(file, "kind");
    else if (h->row == -1)
        set_number(file, h->name, h->value);
    else
        set_element(file, h->name, (hsize_t)h->row, h->value);
    H5Fclose(file);
}

/* Said by opening it in memory, or by taking a part where the rows are wrong. */
static void check_harm(const ferry_world *world, const ferry_lists *lists, const harm *h)
{
    ferry_index index;
    ferry_lists_options options = {.held = true, .keep_rows = true, .threads = 1};
    CHECK(store(world, lists, 1000) == FERRY_OK);
    if (world->rank == 0) do_harm(h);
    ferry_barrier(world);
    const ferry_status status = ferry_index_open(&index, world, path, kernels, &options);
    CHECK(status == FERRY_E_FILE && !index.path);
    CHECK(strstr(ferry_error(), path) && strstr(ferry_error(), h->said));
    if (strncmp(h->name, "rows/", 5) != 0 || h->row < 0) return;
    options.held = false;
    CHECK(ferry_index_open(&index, world, path, kernels, &options) == FERRY_OK);
    if (!index.path) return;
    const int64_t list = ferry_lists_of_row(&index.lists, h->row);
    ferry_list_part part;
    for (int again = 0; again < 2; again++) {
        CHECK(ferry_lists_take(&part, &index.lists, list, 0) == FERRY_E_FILE && !part.packed);
        CHECK(strstr(ferry_error(), h->said));
    }
    ferry_barrier(world);
    ferry_index_close(&index, world);
}

static const harm harms[] = {{"kind", -1, 0, "is no index"},
                             {"version", -1, 3, "version 3"},
                             {"version", -1, 2, "codes"},
                             {"lists", -1, 7, "centroids is 31"},
                             {"rows", -1, 1501, "rows/values is 1500"},
                             {"dim", -1, 0, "dim is 0"},
                             {"exact", -1, NAN, "exact is"},
                             {"centroids", -2, 0, "centroids"},
                             {"rows/cell", -2, 0, "rows/cell"},
                             {"first", 3, 1499, "first does not ascend"},
                             {"first", LISTS, 1400, "first does not ascend"},
                             {"children", 1, 25, "children does not ascend"},
                             {"radius", 4, 1, "radius of list 4"},
                             {"radius", 5, NAN, "radius"},
                             {"mean", 2, NAN, "mean has a value"},
                             {"centroids", 7, INFINITY, "centroids has a value that is not finite in row 7"},
                             {"rows/values", 700, NAN, "row 700"},
                             {"rows/cell", 1200, 1500, "cell 1500 of 1500"},
                             {"rows/distance", 900, 1e9, "not in the order"},
                             {"rows/distance", 0, -1, "not in the order"},
                             {"", -3, 0, ""},
                             {"", -4, 0, "not an HDF5 file"}};

static void check_harms(const ferry_world *world)
{
    ferry_quantizer q;
    ferry_lists lists;
    ferry_index index;
    const ferry_lists_options options = {.held = true};
    CHECK(make_quantizer(&q, world, FERRY_EUCLIDEAN) == FERRY_OK);
    CHECK(build(&lists, world, &q, true) == FERRY_OK);
    for (size_t i = 0; i < sizeof harms / sizeof *harms; i++) check_harm(world, &lists, &harms[i]);
    CHECK(ferry_index_open(&index, world, "/nowhere/index.h5", kernels, &options) == FERRY_E_FILE);
    ferry_lists_close(&lists, world);
    ferry_quantizer_close(&q, world);
}

/* ---- where the cells came from ---- */

static ferry_status store_input(ferry_output *output, const ferry_world *world, const ferry_lists *lists,
                                const ferry_population *cells)
{
    uint64_t fingerprint;
    ferry_names names = {0};
    const int64_t first = cells->cells * world->rank / world->size;
    FERRY_TRY(ferry_index_write(&fingerprint, output, world, lists, 50));
    FERRY_TRY(ferry_index_write_input(output, world, cells, fingerprint));
    FERRY_TRY(
        ferry_population_names(&names, world, cells, first, cells->cells * (world->rank + 1) / world->size - first));
    const ferry_status status = ferry_output_texts(output, "names", cells->cells, first, &names);
    ferry_names_close(&names);
    return status;
}

static void check_origin(const ferry_world *world, const ferry_population *cells)
{
    ferry_index index;
    ferry_names names, want;
    ferry_matrix all = {0};
    const ferry_lists_options options = {.held = false, .memory = 1 << 20};
    CHECK(ferry_index_open(&index, world, path, kernels, &options) == FERRY_OK);
    if (!index.path) return;
    CHECK(ferry_population_points(&all, world, cells, 0, cells->cells, FERRY_FLOAT, NULL) == FERRY_OK);
    CHECK(index.fingerprint == ferry_fingerprint(&all, 0) && index.cells == cells->cells);
    CHECK(index.input && !strcmp(index.input, cells->options.path));
    CHECK(index.rep && !strcmp(index.rep, cells->options.rep) && index.dims == 5);
    CHECK(index.where && !index.where[0]);
    CHECK(ferry_index_names(&names, path, 3, 4) == FERRY_OK);
    CHECK(ferry_population_names(&want, world, cells, 3, 4) == FERRY_OK);
    CHECK(names.count == 4 && want.count == 4);
    for (int i = 0; i < 4; i++) CHECK(!strcmp(ferry_name(&names, i), ferry_name(&want, i)));
    ferry_names_close(&want);
    ferry_names_close(&names);
    CHECK(ferry_index_names(&names, path, cells->cells, 1) == FERRY_E_FILE);
    ferry_matrix_close(&all);
    ferry_index_close(&index, world);
}

static void check_input(const ferry_world *world)
{
    char file[1024];
    const char *data = getenv("FERRY_TEST_DATA");
    snprintf(file, sizeof file, "%s/oracle/neighbors_self.h5ad", data ? data : ".");
    const ferry_population_options cells_options = {.path = file, .dims = 5};
    const ferry_train_options training = {.sample = 64, .threads = 1, .memory = 1 << 24};
    const ferry_lists_options options = {.exact = true, .held = true, .keep_rows = true, .memory = 1 << 24};
    ferry_population cells;
    ferry_quantizer q;
    ferry_lists lists;
    ferry_points points;
    ferry_output *output = NULL;
    CHECK(ferry_population_open(&cells, world, &cells_options) == FERRY_OK);
    if (!cells.file) return;
    ferry_points_of(&points, &cells);
    CHECK(ferry_quantizer_train(&q, world, &points, FERRY_EUCLIDEAN, kernels, &training) == FERRY_OK);
    CHECK(ferry_lists_build(&lists, world, &q, &points, &options) == FERRY_OK);
    CHECK(ferry_output_open(&output, world, path, true) == FERRY_OK);
    CHECK(store_input(output, world, &lists, &cells) == FERRY_OK);
    CHECK(ferry_output_finish(&output) == FERRY_OK);
    check_origin(world, &cells);
    ferry_lists_close(&lists, world);
    ferry_quantizer_close(&q, world);
    ferry_population_close(&cells);
}

/* Every meeting (or allocation) of opening fails once, on the first and the last rank. */
static void check_failures(const ferry_world *world, bool held, const char *variable)
{
    for (int rank = 0; rank<world->size; rank += world->size> 1 ? world->size - 1 : 1) {
        ferry_status status = FERRY_E_MPI;
        for (int n = 1; status != FERRY_OK && n < 400; n++) {
            char plan[32];
            ferry_index index;
            const ferry_lists_options options = {.held = held, .keep_rows = true};
            snprintf(plan, sizeof plan, "%d:%d", n, rank);
            setenv(variable, plan, 1);
            status = ferry_index_open(&index, world, path, kernels, &options);
            CHECK(ferry_max(world, (int64_t)status) == ferry_min(world, (int64_t)status));
            unsetenv(variable);
            ferry_index_close(&index, world);
        }
        CHECK(status == FERRY_OK);
    }
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    ferry_world_open(&world, MPI_COMM_WORLD);
    CHECK(ferry_kernels_choose(&kernels, &world, "auto") == FERRY_OK);
    if (world.rank == 0) {
        snprintf(folder, sizeof folder, "/tmp/test_index.XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
    }
    ferry_broadcast(&world, folder, sizeof folder, 0);
    snprintf(path, sizeof path, "%s/index.h5", folder);
    check_metric(&world, FERRY_EUCLIDEAN);
    check_metric(&world, FERRY_COSINE);
    for (int held = 0; held < 2; held++) {
        check_failures(&world, held, "FERRY_FAIL");
        check_failures(&world, held, "FERRY_FAIL_ALLOC");
    }
    check_harms(&world);
    check_input(&world);
    ferry_barrier(&world);
    if (world.rank == 0) CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    ferry_world_close(&world);
    return test_end();
}

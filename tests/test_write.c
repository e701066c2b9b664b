/* The writer: what it leaves is read back through stored.h and through HDF5, for every number of ranks the same. With a
 * file name as argument it writes the file that check_anndata.py opens, and keeps it. */
#include "io/stored.h"
#include "io/write.h"
#include "test.h"
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static ferry_world world;
static char folder[256]; /* this run's own, on rank 0's say */

static const char *in_folder(const char *name)
{
    static char path[8][512];
    static int next;
    char *out = path[next++ % 8];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static bool exists(const char *path)
{
    struct stat info;
    MPI_Barrier(world.comm);
    return stat(path, &info) == 0;
}

static int64_t share_first(int64_t rows, int rank)
{
    return rows * rank / world.size;
}

static void my_rows(int64_t rows, int64_t *first, int64_t *count)
{
    *first = share_first(rows, world.rank);
    *count = share_first(rows, world.rank + 1) - *first;
}

static ferry_status same_everywhere(ferry_status status)
{
    CHECK(ferry_max(&world, status) == ferry_min(&world, status));
    return status;
}

/* ---- a whole AnnData file ---- */

#define CELLS 1003
#define GENES 37

static void cell_name(char name[64], int64_t i)
{
    static const char *const kind[] = {"cell", "Z\xc3\xa4hler", "\xe7\xb4\xb0\xe8\x83\x9e", "c"};
    snprintf(name, 64, "%s-%lld%s", kind[i % 4], (long long)i, i == 77 ? "-a-rather-longer-name-than-others" : "");
}

static ferry_status names_of(ferry_names *out, int64_t first, int64_t count, bool genes)
{
    char name[64];
    for (int64_t i = 0; i < count; i++) {
        cell_name(name, first + i);
        if (genes) snprintf(name, sizeof name, "gene%lld", (long long)(first + i));
        FERRY_TRY(ferry_names_add(out, name, (int64_t)strlen(name)));
    }
    return FERRY_OK;
}

/* Row i has i % 6 entries, every 35th row of a narrow matrix is full. */
static int64_t row_entries(int64_t i, int64_t columns)
{
    int64_t entries = i % 35 == 34 && columns < 100 ? columns : i % 6;
    return entries < columns ? entries : columns;
}

static int64_t entry_column(int64_t i, int64_t k, int64_t columns)
{
    int64_t entries = row_entries(i, columns), free = columns - entries;
    return k + i * 1234567891 % (free + 1);
}

static float entry_value(int64_t i, int64_t column)
{
    return (float)(i % 1000) + (float)(column % 64) / 64;
}

/* A block of rows, as a producer makes it. */
typedef struct block {
    ferry_rows rows;
    int64_t *indptr, *indices;
    float *values;
} block;

static void block_make(block *out, int64_t first, int64_t count, int64_t columns)
{
    int64_t entries = 0;
    for (int64_t i = 0; i < count; i++) entries += row_entries(first + i, columns);
    out->indptr = calloc((size_t)count + 1, 8);
    out->indices = malloc((size_t)entries * 8 + 1);
    out->values = malloc((size_t)entries * 4 + 1);
    entries = 0;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < row_entries(first + i, columns); k++, entries++) {
            out->indices[entries] = entry_column(first + i, k, columns);
            out->values[entries] = entry_value(first + i, out->indices[entries]);
        }
        out->indptr[i + 1] = entries;
    }
    out->rows = (ferry_rows){count, out->indptr, out->indices, out->values};
}

static void block_free(block *b)
{
    free(b->indptr);
    free(b->indices);
    free(b->values);
}

/* Rows in blocks of uneven length: call c gives rank r (7 c + 3 r) % most rows, until all have come. */
static ferry_status feed(const ferry_sink *sink, int64_t rows, int64_t columns, int64_t most)
{
    int64_t at = 0;
    for (int64_t call = 0; at < rows; call++) {
        int64_t first = at, mine = 0, mine_first = rows;
        for (int r = 0; r < world.size; r++) {
            int64_t count = (7 * call + 3 * r + 1) % most;
            if (count > rows - first) count = rows - first;
            if (r == world.rank) mine = count, mine_first = first;
            first += count;
        }
        at = first;
        block b;
        block_make(&b, mine_first, mine, columns);
        ferry_status status = sink->take(sink->self, &b.rows);
        block_free(&b);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

static ferry_status write_matrix(ferry_output *output, const char *path, int64_t rows, int64_t columns, int64_t most)
{
    ferry_sink sink;
    FERRY_TRY(ferry_output_csr_open(&sink, output, path, rows, columns));
    FERRY_TRY(feed(&sink, rows, columns, most));
    return ferry_output_csr_finish(&sink);
}

static ferry_status write_frames(ferry_output *output)
{
    int64_t first, count;
    ferry_names names = {0}, genes = {0}, types = {0}, none = {0};
    my_rows(CELLS, &first, &count);
    FERRY_TRY(names_of(&names, first, count, false));
    ferry_status status = ferry_output_frame(output, "obs", CELLS, first, &names);
    ferry_names_close(&names);
    FERRY_TRY(status);
    my_rows(GENES, &first, &count);
    FERRY_TRY(names_of(&genes, first, count, true));
    status = ferry_output_frame(output, "var", GENES, first, &genes);
    ferry_names_close(&genes);
    FERRY_TRY(status);
    my_rows(CELLS, &first, &count);
    double mass[CELLS];
    int32_t code[CELLS], missing[CELLS];
    int64_t number[CELLS];
    bool flag[CELLS];
    for (int64_t i = 0; i < count; i++) {
        mass[i] = 1.0 / (double)(first + i + 1);
        code[i] = (int32_t)((first + i) % 4) - 1;
        missing[i] = -1;
        number[i] = (first + i) * ((int64_t)1 << 33);
        flag[i] = (first + i) % 3 == 0;
    }
    FERRY_TRY(ferry_output_column_create(output, "obs", "mass", FERRY_F64));
    FERRY_TRY(ferry_output_rows(output, "obs/mass", first, count, mass));
    FERRY_TRY(ferry_output_column(output, "obs", "number", FERRY_INT64, first, count, number));
    FERRY_TRY(ferry_output_column(output, "obs", "CD4+/CD8-", FERRY_BOOL, first, count, flag));
    FERRY_TRY(ferry_names_add(&types, "T cell", 6));
    FERRY_TRY(ferry_names_add(&types, "", 0));
    FERRY_TRY(ferry_names_add(&types, "\xce\xb2 cell", 7));
    status = ferry_output_categorical(output, "obs", "type", first, count, code, &types, true);
    if (status == FERRY_OK)
        status = ferry_output_categorical(output, "obs", "empty", first, count, missing, &none, false);
    ferry_names_close(&types);
    return status;
}

static ferry_status write_rest(ferry_output *output)
{
    int64_t first, count;
    ferry_names words = {0};
    my_rows(CELLS, &first, &count);
    float pca[CELLS * 3];
    for (int64_t i = 0; i < count * 3; i++) pca[i] = (float)(first * 3 + i) / 8;
    FERRY_TRY(ferry_output_array(output, "obsm/X_pca", FERRY_F32, CELLS, 3, first, count, pca));
    FERRY_TRY(ferry_output_create(output, "obsm/parts", FERRY_F32, CELLS, 3));
    for (int64_t part = 0; part < 5; part++) { /* rows of every fifth of this rank's, unevenly */
        int64_t from = count * part / 5, to = count * (part + 1) / 5;
        FERRY_TRY(ferry_output_rows(output, "obsm/parts", first + from, to - from, pca + from * 3));
    }
    FERRY_TRY(ferry_output_create(output, "obsm/blocks", FERRY_F32, CELLS, 3));
    for (int64_t column = 2; column >= 0; column--) {
        float one[CELLS];
        for (int64_t i = 0; i < count; i++) one[i] = pca[i * 3 + column];
        FERRY_TRY(ferry_output_block(output, "obsm/blocks", first, count, column, 1, one));
    }
    FERRY_TRY(ferry_output_group(output, "uns/cellferry", "dict", "0.1.0"));
    FERRY_TRY(ferry_output_number(output, "uns/cellferry/epsilon", 0.05));
    FERRY_TRY(ferry_output_count(output, "uns/cellferry/iterations", (int64_t)1 << 40));
    FERRY_TRY(ferry_output_text(output, "uns/cellferry/record",
                                world.rank ? "not this"
                                           : "{\"name\": \"Gr\xc3\xb6\xc3\x9f"
                                             "e\"}"));
    FERRY_TRY(ferry_output_text(output, "uns/deep/er/nothing", ""));
    FERRY_TRY(ferry_output_attribute_text(output, "uns/cellferry", "note", "a note"));
    FERRY_TRY(ferry_output_attribute_number(output, "uns/cellferry", "pi", 3));
    FERRY_TRY(ferry_output_attribute_number(output, "uns/cellferry", "pi", 3.25)); /* replaced */
    FERRY_TRY(ferry_output_texts(output, "uns/no_texts", 0, 0, NULL));
    if (world.rank == world.size - 1) FERRY_TRY(ferry_names_add(&words, "w\xc3\xb6rter", 7));
    ferry_status status = ferry_output_texts(output, "uns/texts", 1, 0, &words);
    ferry_names_close(&words);
    return status;
}

static ferry_status write_all(ferry_output *output)
{
    FERRY_TRY(ferry_output_anndata(output));
    FERRY_TRY(write_frames(output));
    FERRY_TRY(write_matrix(output, "X", CELLS, GENES, 40));
    FERRY_TRY(write_matrix(output, "layers/same", CELLS, GENES, 400));
    return write_rest(output);
}

static ferry_status whole(const char *path, bool overwrite)
{
    ferry_output *output = NULL;
    FERRY_TRY(ferry_output_open(&output, &world, path, overwrite));
    ferry_status status = write_all(output);
    if (status == FERRY_OK) return ferry_output_finish(&output);
    ferry_output_discard(&output);
    return status;
}

/* ---- reading it again ---- */

static void check_matrix(ferry_stored *stored, const char *path, int64_t rows, int64_t columns)
{
    char part[64];
    int64_t elements = 0, at = 0;
    for (int64_t i = 0; i < rows; i++) elements += row_entries(i, columns);
    int64_t *indptr = malloc((size_t)(rows + 1) * 8), *indices = malloc((size_t)elements * 8 + 1), length = 0;
    double *data = malloc((size_t)elements * 8 + 1);
    snprintf(part, sizeof part, "%s/indptr", path);
    CHECK(ferry_stored_shape(&length, NULL, stored, part) == FERRY_OK && length == rows + 1);
    CHECK(ferry_stored_integers(indptr, stored, part, 0, rows + 1) == FERRY_OK);
    snprintf(part, sizeof part, "%s/indices", path);
    CHECK(ferry_stored_shape(&length, NULL, stored, part) == FERRY_OK && length == elements);
    CHECK(ferry_stored_integers(indices, stored, part, 0, elements) == FERRY_OK);
    snprintf(part, sizeof part, "%s/data", path);
    CHECK(ferry_stored_shape(&length, NULL, stored, part) == FERRY_OK && length == elements);
    CHECK(ferry_stored_numbers(data, stored, part, 0, elements) == FERRY_OK);
    int wrong = indptr[0] != 0;
    for (int64_t i = 0; i < rows; i++) {
        wrong += indptr[i + 1] - indptr[i] != row_entries(i, columns);
        for (int64_t k = 0; k < row_entries(i, columns); k++, at++)
            wrong += indices[at] != entry_column(i, k, columns) ||
                     data[at] != (double)entry_value(i, entry_column(i, k, columns));
    }
    CHECK(wrong == 0);
    free(indptr);
    free(indices);
    free(data);
}

static void check_obs(ferry_stored *stored)
{
    double mass[CELLS], number[CELLS], flag[CELLS];
    int64_t code[CELLS];
    ferry_names names, types;
    char name[64];
    int wrong = 0;
    CHECK(ferry_stored_numbers(mass, stored, "obs/mass", 0, CELLS) == FERRY_OK);
    CHECK(ferry_stored_numbers(number, stored, "obs/number", 0, CELLS) == FERRY_OK);
    CHECK(ferry_stored_numbers(flag, stored, "obs/CD4+_CD8-", 0, CELLS) == FERRY_OK);
    CHECK(ferry_stored_integers(code, stored, "obs/type/codes", 0, CELLS) == FERRY_OK);
    CHECK(ferry_stored_texts(&names, stored, "obs/_index", 0, CELLS) == FERRY_OK && names.count == CELLS);
    CHECK(ferry_stored_texts(&types, stored, "obs/type/categories", 0, 3) == FERRY_OK && types.count == 3);
    for (int64_t i = 0; i < CELLS; i++) {
        cell_name(name, i);
        wrong += strcmp(name, ferry_name(&names, i)) != 0;
        wrong += mass[i] != 1.0 / (double)(i + 1) || number[i] != (double)i * 8589934592.0;
        wrong += flag[i] != (i % 3 == 0) || code[i] != i % 4 - 1;
    }
    CHECK(wrong == 0);
    CHECK(!strcmp(ferry_name(&types, 0), "T cell") && !ferry_name(&types, 1)[0]);
    CHECK(!strcmp(ferry_name(&types, 2), "\xce\xb2 cell"));
    ferry_names_close(&names);
    ferry_names_close(&types);
}

static void check_text(ferry_stored *stored, const char *path, const char *attribute, const char *expected)
{
    char *text = NULL;
    ferry_status status = attribute ? ferry_stored_attribute_text(&text, stored, path, attribute)
                                    : ferry_stored_text(&text, stored, path);
    CHECK(status == FERRY_OK && !strcmp(text, expected));
    free(text);
}

static void check_rest(ferry_stored *stored)
{
    static double pca[CELLS * 3], parts[CELLS * 3];
    int64_t rows = 0, columns = 0;
    double value = 0;
    CHECK(ferry_stored_shape(&rows, &columns, stored, "obsm/X_pca") == FERRY_OK && rows == CELLS && columns == 3);
    CHECK(ferry_stored_numbers(pca, stored, "obsm/X_pca", 0, CELLS) == FERRY_OK);
    CHECK(ferry_stored_numbers(parts, stored, "/obsm/parts", 0, CELLS) == FERRY_OK);
    CHECK(!memcmp(pca, parts, sizeof pca) && pca[3001] == 3001 / 8.0);
    CHECK(ferry_stored_numbers(parts, stored, "obsm/blocks", 0, CELLS) == FERRY_OK);
    CHECK(!memcmp(pca, parts, sizeof pca));
    CHECK(ferry_stored_number(&value, stored, "uns/cellferry/epsilon") == FERRY_OK && value == 0.05);
    CHECK(ferry_stored_number(&value, stored, "uns/cellferry/iterations") == FERRY_OK && value == 1099511627776.0);
    CHECK(ferry_stored_attribute_number(&value, stored, "uns/cellferry", "pi") == FERRY_OK && value == 3.25);
    check_text(stored, "uns/cellferry/record", NULL,
               "{\"name\": \"Gr\xc3\xb6\xc3\x9f"
               "e\"}");
    check_text(stored, "uns/deep/er/nothing", NULL, "");
    check_text(stored, "uns/texts", NULL, "w\xc3\xb6rter");
    check_text(stored, "uns/cellferry", "note", "a note");
    check_text(stored, "uns/deep", "encoding-type", "dict");
    check_text(stored, "/", "encoding-type", "anndata");
    check_text(stored, "X", "encoding-type", "csr_matrix");
    check_text(stored, "obs", "_index", "_index");
    CHECK(!ferry_stored_has(stored, "raw") && ferry_stored_has(stored, "/uns/no_texts"));
}

static void check_whole(const char *path)
{
    ferry_stored *stored = NULL;
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK);
    if (!stored) return;
    check_obs(stored);
    check_matrix(stored, "X", CELLS, GENES);
    check_matrix(stored, "layers/same", CELLS, GENES);
    check_rest(stored);
    ferry_stored_close(&stored);
}

/* What stored.h does not show: order of columns, types, filters, the mark. */
static void check_raw(const char *path)
{
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    CHECK(file >= 0 && H5Aexists(file, "cellferry_partial") == 0);
    hid_t obs = H5Gopen2(file, "obs", H5P_DEFAULT), order = H5Aopen(obs, "column-order", H5P_DEFAULT);
    hid_t text = H5Aget_type(order), space = H5Aget_space(order);
    char *names[8] = {0};
    CHECK(H5Sget_simple_extent_npoints(space) == 5 && H5Aread(order, text, names) >= 0);
    CHECK(names[0] && !strcmp(names[0], "mass") && !strcmp(names[2], "CD4+_CD8-") && !strcmp(names[4], "empty"));
    H5Dvlen_reclaim(text, space, H5P_DEFAULT, names);
    hid_t indices = H5Dopen2(file, "X/indices", H5P_DEFAULT), type = H5Dget_type(indices);
    hid_t plist = H5Dget_create_plist(indices);
    CHECK(H5Tget_size(type) == 8 && H5Pget_nfilters(plist) == 2);
    hid_t ids[] = {plist, type, indices, space, text, order, obs, file};
    for (size_t k = 0; k < sizeof ids / sizeof *ids; k++) H5Idec_ref(ids[k]);
}

/* ---- shapes out of the ordinary ---- */

/* rows x columns with blocks of up to `most` rows, passes of `pass` elements. */
static void matrix_case(int64_t rows, int64_t columns, int64_t most, const char *pass)
{
    ferry_output *output = NULL;
    const char *path = in_folder("matrix.h5");
    if (pass)
        setenv("FERRY_PASS", pass, 1);
    else
        unsetenv("FERRY_PASS");
    CHECK(ferry_output_open(&output, &world, path, true) == FERRY_OK);
    CHECK(same_everywhere(write_matrix(output, "a/b", rows, columns, most)) == FERRY_OK);
    CHECK(ferry_output_finish(&output) == FERRY_OK && !output);
    unsetenv("FERRY_PASS");
    ferry_stored *stored = NULL;
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK);
    if (stored) check_matrix(stored, "a/b", rows, columns);
    ferry_stored_close(&stored);
    MPI_Barrier(world.comm);
}

static void matrix_cases(void)
{
    matrix_case(300, 37, 11, NULL);
    matrix_case(300, 37, 290, "200"); /* blocks larger than the buffers */
    matrix_case(90, 37, 11, "50");
    matrix_case(40, 7, 5, "1");
    matrix_case(2, 3, 2, "9");
    matrix_case(0, 5, 3, NULL);
    matrix_case(7, 0, 3, "5");
    matrix_case(60, (int64_t)1 << 33, 9, "40"); /* 64-bit columns */
}

/* Every fill of one chunk and more, packed: compared with what was written. */
static void large_case(void)
{
    ferry_output *output = NULL;
    const char *path = in_folder("large.h5");
    int64_t rows = 300000, first, count;
    my_rows(rows, &first, &count);
    double *values = malloc((size_t)rows * 8), *back = malloc((size_t)rows * 8);
    for (int64_t i = 0; i < rows; i++) values[i] = (double)(i * 7 % 1001);
    CHECK(ferry_output_open(&output, &world, path, true) == FERRY_OK);
    CHECK(ferry_output_array(output, "x", FERRY_F64, rows, 0, first, count, values + first) == FERRY_OK);
    CHECK(ferry_output_array(output, "one", FERRY_F64, rows, 0, world.rank ? rows : 0, world.rank ? 0 : rows, values) ==
          FERRY_OK);
    my_rows(rows / 100, &first, &count);
    CHECK(ferry_output_array(output, "wide", FERRY_F64, rows / 100, 100, first, count, values + first * 100) ==
          FERRY_OK);
    CHECK(ferry_output_finish(&output) == FERRY_OK);
    ferry_stored *stored = NULL;
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK);
    static const char *const name[] = {"x", "one", "wide"};
    for (int k = 0; k < 3; k++) {
        CHECK(ferry_stored_numbers(back, stored, name[k], 0, k == 2 ? rows / 100 : rows) == FERRY_OK);
        CHECK(!memcmp(values, back, (size_t)rows * 8));
    }
    ferry_stored_close(&stored);
    struct stat info;
    CHECK(!stat(path, &info) && info.st_size < rows * 8); /* three times packed: less than one plain */
    free(values);
    free(back);
    MPI_Barrier(world.comm);
}

/* ---- refusals ---- */

static void expect(const char *path, bool overwrite, ferry_status expected, const char *words)
{
    ferry_output *output = NULL;
    ferry_status status = ferry_output_open(&output, &world, path, overwrite);
    CHECK(same_everywhere(status) == expected && !output);
    CHECK(strstr(ferry_error(), words));
    if (!strstr(ferry_error(), words)) fprintf(stderr, "got: %s\n", ferry_error());
    ferry_output_discard(&output);
}

static void refusals(const char *good)
{
    expect(good, false, FERRY_E_FILE, "--overwrite");
    expect(folder, true, FERRY_E_FILE, "is a folder");
    expect(in_folder("absent/file.h5"), false, FERRY_E_FILE, "absent cannot be used");
    expect(in_folder("whole.h5ad/file.h5"), false, FERRY_E_FILE, "is a file, not a folder");
    expect("", false, FERRY_E_ARG, "no name");
    expect(in_folder("new/"), false, FERRY_E_FILE, "no file name");
    expect("/proc/cellferry.h5", false, FERRY_E_FILE, "/proc");
    CHECK(!exists(in_folder("absent")));
}

static ferry_status one_error(ferry_output *output, int which)
{
    double x[4] = {1, 2, 3, 4};
    int32_t code[4] = {0, 1, 7, 0};
    ferry_names none = {0};
    int64_t indptr[] = {0, 2}, down[] = {3, 1}, far[] = {1, 9};
    float value[] = {1, 2};
    ferry_rows bad = {1, indptr, which == 6 ? down : far, value};
    ferry_sink sink;
    switch (which) {
    case 0: /* rows beyond the end, on the last rank only */
        return ferry_output_array(output, "a", FERRY_F64, 4, 0, world.rank == world.size - 1 ? 1 : 0,
                                  world.rank == world.size - 1 ? 4 : 0, x);
    case 1:
        FERRY_TRY(ferry_output_count(output, "twice", 1));
        return ferry_output_count(output, "twice", 2);
    case 2:
        return ferry_output_column(output, "obs", "x", FERRY_F64, 0, 0, x);
    case 3:
        FERRY_TRY(ferry_output_frame(output, "obs", 0, 0, &none));
        return ferry_output_categorical(output, "obs", "x", 0, 4, code, &none, false);
    case 4:
        return ferry_output_rows(output, "absent", 0, 0, x);
    case 5: /* too few rows */
        FERRY_TRY(ferry_output_csr_open(&sink, output, "X", 5, 5));
        return ferry_output_csr_finish(&sink);
    case 6: /* columns that do not ascend, beyond the last one */
    case 7:
        FERRY_TRY(ferry_output_csr_open(&sink, output, "X", 5, 5));
        bad.rows = world.rank == 0;
        return sink.take(sink.self, &bad);
    default: /* more rows than said */
        FERRY_TRY(ferry_output_csr_open(&sink, output, "X", world.size - 1, 20));
        bad.rows = 1;
        return sink.take(sink.self, &bad);
    }
}

static void errors(void)
{
    const char *path = in_folder("errors.h5");
    for (int which = 0; which < 9; which++) {
        ferry_output *output = NULL;
        CHECK(ferry_output_open(&output, &world, path, false) == FERRY_OK);
        CHECK(same_everywhere(one_error(output, which)) == FERRY_E_ARG);
        ferry_output_discard(&output);
        ferry_output_discard(&output); /* NULL is fine */
        CHECK(!exists(path) && !exists(in_folder("errors.h5.partial")));
        MPI_Barrier(world.comm);
    }
    ferry_output *output = NULL;
    ferry_sink sink;
    CHECK(ferry_output_open(&output, &world, path, false) == FERRY_OK);
    CHECK(ferry_output_csr_open(&sink, output, "X", 5, 5) == FERRY_OK);
    CHECK(same_everywhere(ferry_output_finish(&output)) == FERRY_E_ARG && !output); /* the matrix still grows */
    CHECK(!exists(path));
}

/* A disk without room: files may have 300 KB, the old file stays. */
static void no_room(const char *good)
{
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 1200000;
    ferry_output *output = NULL;
    double *values = calloc(200000, 8);
    MPI_Barrier(world.comm);
    setrlimit(RLIMIT_FSIZE, &small);
    CHECK(ferry_output_open(&output, &world, good, true) == FERRY_OK);
    if (output)
        CHECK(same_everywhere(ferry_output_array(output, "x", FERRY_F64, 200000, 0, 0, world.rank ? 0 : 200000,
                                                 values)) == FERRY_E_RUN);
    CHECK(strstr(ferry_error(), "raise the limit"));
    ferry_output_discard(&output);
    CHECK(same_everywhere(ferry_text_write(&world, in_folder("long.txt"), false, (char *)values, 1600000)) ==
          FERRY_E_RUN);
    MPI_Barrier(world.comm);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(!exists(in_folder("long.txt")) && !exists(in_folder("long.txt.partial")));
    check_whole(good);
    free(values);
}

/* A partial file is marked and refused; what stored.h refuses besides. */
static void partial_file(void)
{
    ferry_output *output = NULL;
    ferry_stored *stored = NULL;
    const char *path = in_folder("part.h5"), *partial = in_folder("part.h5.partial");
    CHECK(ferry_output_open(&output, &world, path, false) == FERRY_OK);
    CHECK(exists(partial) && !exists(path));
    char name[512];
    snprintf(name, sizeof name, "%s.%d", partial, world.rank);
    char copy[1100];
    snprintf(copy, sizeof copy, "cp '%s' '%s'", partial, name); /* each rank's own: HDF5 has the other one open */
    CHECK(system(copy) == 0);
    CHECK(ferry_stored_open(&stored, name) == FERRY_E_FILE && !stored && strstr(ferry_error(), "not complete"));
    unlink(name);
    ferry_output_discard(&output);
    CHECK(!exists(partial));
}

static void texts(void)
{
    const char *path = in_folder("table.csv");
    CHECK(same_everywhere(ferry_text_write(&world, path, false, "a,b\n1,2\n", 8)) == FERRY_OK);
    CHECK(same_everywhere(ferry_text_write(&world, path, false, "x", 1)) == FERRY_E_FILE);
    CHECK(same_everywhere(ferry_text_write(&world, path, true, "", 0)) == FERRY_OK);
    struct stat info;
    CHECK(!stat(path, &info) && info.st_size == 0);
    CHECK(same_everywhere(ferry_text_write(&world, in_folder("no/table.csv"), true, "", 0)) == FERRY_E_FILE);
    CHECK(!exists(in_folder("table.csv.partial")));
}

/* FERRY_FAIL walked over a write of everything: each time one status on all ranks, nothing under the final name and no
 * partial file, until a run has fewer meetings. */
static ferry_status short_run(const char *path)
{
    ferry_output *output = NULL;
    double x = 1;
    ferry_names none = {0}, type = {0};
    int32_t code[1] = {0};
    int64_t mine = world.rank == 0;
    ferry_status status = ferry_agree(&world, ferry_names_add(&type, "a", 1));
    if (status == FERRY_OK) status = ferry_output_open(&output, &world, path, true);
    if (status == FERRY_OK) status = ferry_output_anndata(output);
    if (status == FERRY_OK) status = ferry_output_frame(output, "obs", 0, 0, &none);
    if (status == FERRY_OK) status = ferry_output_categorical(output, "obs", "c", 0, 0, code, &type, false);
    if (status == FERRY_OK) status = write_matrix(output, "X", 40, 7, 9);
    if (status == FERRY_OK) status = ferry_output_array(output, "uns/x", FERRY_F64, 1, 0, 0, mine, &x);
    if (status == FERRY_OK) status = ferry_output_create(output, "uns/y", FERRY_F64, 1, 1);
    if (status == FERRY_OK) status = ferry_output_rows(output, "uns/y", 0, mine, &x);
    if (status == FERRY_OK) status = ferry_output_text(output, "uns/t", "text");
    if (status == FERRY_OK) status = ferry_output_attribute_text(output, "uns", "t", "text");
    ferry_names_close(&type);
    if (status == FERRY_OK) return ferry_output_finish(&output);
    ferry_output_discard(&output);
    return status;
}

/* May there be a file? Yes after success, and when the very last meeting failed, after the rename: then it is whole. */
static bool walked(const char *path, ferry_status status)
{
    ferry_stored *stored = NULL;
    if (status == FERRY_OK) return true;
    bool there = ferry_stored_open(&stored, path) == FERRY_OK;
    if (there) check_text(stored, "uns/t", NULL, "text");
    ferry_stored_close(&stored);
    MPI_Barrier(world.comm);
    if (world.rank == 0) unlink(path);
    return there;
}

static void walk(const char *variable, int rank)
{
    char plan[32];
    const char *path = in_folder("walk.h5ad"), *partial = in_folder("walk.h5ad.partial");
    setenv("FERRY_PASS", "30", 1);
    ferry_status status = FERRY_E_NUMERIC;
    for (int n = 1; status != FERRY_OK && n < 1000; n++) {
        snprintf(plan, sizeof plan, "%d:%d", n, rank);
        setenv(variable, plan, 1);
        status = short_run(path);
        unsetenv(variable);
        same_everywhere(status);
        bool there = exists(path);
        CHECK(!exists(partial) && there == walked(path, status));
        if (status != FERRY_OK) CHECK(status == FERRY_E_NUMERIC || status == FERRY_E_MEM);
    }
    CHECK(status == FERRY_OK);
    unsetenv("FERRY_PASS");
    MPI_Barrier(world.comm);
    if (world.rank == 0) unlink(path);
    MPI_Barrier(world.comm);
}

static void make_folder(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/cellferry-write-XXXXXX", base && strlen(base) < 200 ? base : "/tmp");
    if (world.rank == 0 && !mkdtemp(folder)) perror(folder);
    ferry_broadcast(&world, folder, sizeof folder, 0);
}

static void remove_folder(void)
{
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    MPI_Barrier(world.comm);
    if (world.rank == 0) CHECK(system(command) == 0);
}

static void phase(const char *name)
{
    static double before;
    double now = MPI_Wtime();
    if (before > 0 && world.rank == 0) printf("%s %.2f s\n", name, now - before);
    before = now;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    if (argc > 1) {
        CHECK(whole(argv[1], true) == FERRY_OK);
        ferry_world_close(&world);
        return test_end();
    }
    phase("");
    make_folder();
    const char *good = strdup(in_folder("whole.h5ad"));
    CHECK(same_everywhere(whole(good, false)) == FERRY_OK);
    if (test_failures) fprintf(stderr, "%s\n", ferry_error());
    check_whole(good);
    check_raw(good);
    refusals(good);
    setenv("FERRY_PASS", "100", 1);
    CHECK(same_everywhere(whole(good, true)) == FERRY_OK);
    unsetenv("FERRY_PASS");
    check_whole(good);
    phase("whole");
    matrix_cases();
    phase("matrices");
    large_case();
    errors();
    no_room(good);
    partial_file();
    texts();
    phase("other cases");
    if (world.size == 1) walk("FERRY_FAIL_ALLOC", 0);
    if (world.size == 2) walk("FERRY_FAIL", 0);
    if (world.size == 3) walk("FERRY_FAIL", 2);
    phase("walk");
    remove_folder();
    free((void *)good);
    ferry_world_close(&world);
    return test_end();
}

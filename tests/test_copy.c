/* A result that begins as a copy of a file: what was there stays, what is added or replaced is read back, and the
 * original keeps every byte; the same for every number of ranks, and through every failed meeting. */
#include "io/read.h"
#include "io/stored.h"
#include "io/write.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CELLS = 211 };
static ferry_world world;
static char folder[256];

static const char *in_folder(const char *name)
{
    static char path[4][512];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static int64_t share(int rank)
{
    return (int64_t)CELLS * rank / world.size;
}

static double value_of(int64_t i, int kind)
{
    return (double)(i * 7 % 31) + 100.0 * kind;
}

static void add(ferry_names *names, const char *text)
{
    CHECK(ferry_names_add(names, text, (int64_t)strlen(text)) == FERRY_OK);
}

/* Collective. Cells with two columns, one key of obsm, and one of uns. */
static ferry_status write_original(const char *path)
{
    ferry_output *output = NULL;
    ferry_names names = {0}, none = {0};
    double values[CELLS];
    const int64_t first = share(world.rank), count = share(world.rank + 1) - first;
    for (int64_t i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "cell%lld", (long long)(first + i));
        add(&names, name);
        values[i] = value_of(first + i, 1);
    }
    FERRY_TRY(ferry_output_open(&output, &world, path, true));
    FERRY_TRY(ferry_output_anndata(output));
    FERRY_TRY(ferry_output_frame(output, "obs", CELLS, first, &names));
    FERRY_TRY(ferry_output_frame(output, "var", 0, 0, &none));
    FERRY_TRY(ferry_output_column(output, "obs", "a", FERRY_F64, first, count, values));
    FERRY_TRY(ferry_output_column(output, "obs", "b", FERRY_F64, first, count, values));
    FERRY_TRY(ferry_output_array(output, "obsm/E", FERRY_F64, CELLS, 1, first, count, values));
    FERRY_TRY(ferry_output_text(output, "uns/note", "kept"));
    ferry_names_close(&names);
    return ferry_output_finish(&output);
}

/* Collective. Column b replaced, c and categories in parts added, obsm/E replaced. */
static ferry_status fill(ferry_output *output)
{
    double values[CELLS];
    int32_t codes[CELLS];
    ferry_names colours = {0};
    const int64_t first = share(world.rank), count = share(world.rank + 1) - first;
    for (int64_t i = 0; i < count; i++) {
        values[i] = value_of(first + i, 2);
        codes[i] = (int32_t)((first + i) % 4) - 1;
    }
    add(&colours, "red");
    add(&colours, "green");
    add(&colours, "blue");
    ferry_status status = ferry_output_frame_of_copy(output, "obs", CELLS);
    if (status == FERRY_OK) status = ferry_output_remove(output, "obs/b");
    if (status == FERRY_OK) status = ferry_output_remove(output, "obs/nothing");
    if (status == FERRY_OK) status = ferry_output_remove(output, "obsm/E");
    if (status == FERRY_OK) status = ferry_output_column(output, "obs", "b", FERRY_F64, first, count, values);
    if (status == FERRY_OK) status = ferry_output_categorical_create(output, "obs", "c", &colours, false);
    for (int64_t k = 0; k < 3 && status == FERRY_OK; k++) {
        const int64_t at = count * k / 3, rows = count * (k + 1) / 3 - at;
        status = ferry_output_rows(output, "obs/c/codes", first + at, rows, codes + at);
    }
    if (status == FERRY_OK) status = ferry_output_array(output, "obsm/E", FERRY_F64, CELLS, 1, first, count, values);
    ferry_names_close(&colours);
    return status;
}

static ferry_status make_copy(const char *path, const char *source)
{
    ferry_output *output = NULL;
    FERRY_TRY(ferry_output_open_copy(&output, &world, path, true, source));
    const ferry_status status = fill(output);
    if (status == FERRY_OK) return ferry_output_finish(&output);
    ferry_output_discard(&output);
    return status;
}

/* ---- what came of it ---- */

static void check_numbers(ferry_file *file, const char *column, int kind)
{
    int64_t rows[CELLS];
    double *values = NULL;
    for (int64_t i = 0; i < CELLS; i++) rows[i] = i;
    CHECK(ferry_read_numbers(&values, file, column, rows, CELLS) == FERRY_OK);
    for (int64_t i = 0; values && i < CELLS; i++) CHECK(values[i] == value_of(i, kind));
    free(values);
}

static void check_copy(const char *path)
{
    int64_t rows[CELLS];
    ferry_file *file = NULL;
    ferry_labels labels = {0};
    ferry_matrix e = {0};
    ferry_stored *stored = NULL;
    char *note = NULL;
    for (int64_t i = 0; i < CELLS; i++) rows[i] = i;
    CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
    if (!file) return;
    check_numbers(file, "a", 1);
    check_numbers(file, "b", 2);
    CHECK(ferry_read_labels(&labels, &world, file, "c", rows, CELLS) == FERRY_OK);
    CHECK(labels.categories.count == 3 && !strcmp(ferry_name(&labels.categories, 2), "blue"));
    for (int64_t i = 0; i < labels.count; i++) CHECK(labels.code[i] == i % 4 - 1);
    CHECK(ferry_read_rep(&e, file, "E", 0, FERRY_DOUBLE, rows, CELLS) == FERRY_OK);
    for (int64_t i = 0; i < e.rows; i++) CHECK(e.d[i] == value_of(i, 2));
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK); /* beside the open file */
    CHECK(ferry_stored_text(&note, stored, "uns/note") == FERRY_OK && note && !strcmp(note, "kept"));
    free(note);
    ferry_stored_close(&stored);
    ferry_matrix_close(&e);
    ferry_labels_close(&labels);
    ferry_file_close(&file);
}

/* A number of the file's bytes. */
static uint64_t bytes_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t sum = 0;
    int c;
    if (!file) return 0;
    while ((c = fgetc(file)) != EOF) sum = (sum ^ (uint64_t)c) * 0x100000001B3U + 7;
    fclose(file);
    return sum;
}

static void walk(const char *path, const char *source)
{
    ferry_status status = FERRY_E_NUMERIC;
    int n = 0;
    const int step = world.size > 2 ? 5 : 2;
    for (; status != FERRY_OK && n < 1000; n += step) {
        char text[64];
        struct stat info;
        snprintf(text, sizeof text, "%d:%d", n + 1, world.size - 1);
        setenv("FERRY_FAIL", text, 1);
        status = make_copy(path, source);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(&world, status) == ferry_min(&world, status));
        char partial[600];
        snprintf(partial, sizeof partial, "%s.partial", path);
        ferry_barrier(&world);
        CHECK(stat(partial, &info) != 0);
    }
    CHECK(n > 20 && n < 1000);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/ferry-copy-%ld", parent ? parent : "/tmp", (long)getpid());
    ferry_broadcast(&world, folder, sizeof folder, 0);
    if (world.rank == 0) CHECK(mkdir(folder, 0700) == 0);
    ferry_barrier(&world);
    const char *source = in_folder("original.h5ad"), *copy = in_folder("copy.h5ad");
    CHECK(write_original(source) == FERRY_OK);
    const uint64_t before = bytes_of(source);
    CHECK(make_copy(copy, source) == FERRY_OK);
    check_copy(copy);
    CHECK(make_copy(in_folder("again.h5ad"), copy) != FERRY_OK); /* column c is there already */
    CHECK(strstr(ferry_error(), "two columns 'c'") != NULL);
    CHECK(make_copy(copy, in_folder("absent.h5ad")) == FERRY_E_FILE && strstr(ferry_error(), "absent.h5ad"));
    check_copy(copy); /* as it was */
    walk(copy, source);
    check_copy(copy);
    CHECK(before == bytes_of(source) && before != 0);
    ferry_barrier(&world);
    if (world.rank == 0) {
        unlink(source);
        unlink(copy);
        CHECK(rmdir(folder) == 0);
    }
    ferry_world_close(&world);
    return test_end();
}

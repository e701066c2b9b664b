/* What a run that is killed leaves. test_crash.sh runs it three times in one folder:
 *   test_crash FILE old           writes FILE
 *   test_crash FILE kill PASSES   writes it anew; one rank kills itself without a word after PASSES passes, or, with a
 *                                 negative number, after -PASSES milliseconds, wherever it is then
 *   test_crash FILE check PASSES  FILE is the old one; FILE.partial opens, is marked, and its whole rows are right */
#include "io/stored.h"
#include "io/write.h"
#include "test.h"
#include <hdf5.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>

#define ROWS    60000
#define COLUMNS 500
#define EACH    100 /* rows a rank brings to one call */

static ferry_world world;

static int64_t entries(int64_t row)
{
    return row * 7 % 13;
}

static float value(int64_t row, int64_t k)
{
    return (float)(row * 31 % 1009) + (float)k;
}

/* Rows first .. first + count into the buffers. */
static ferry_rows block(int64_t *indptr, int64_t *indices, float *values, int64_t first, int64_t count)
{
    int64_t at = 0;
    indptr[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < entries(first + i); k++, at++) {
            indices[at] = k * 30 + first % 7;
            values[at] = value(first + i, k);
        }
        indptr[i + 1] = at;
    }
    return (ferry_rows){count, indptr, indices, values};
}

static int64_t file_length(const char *path)
{
    struct stat info;
    return stat(path, &info) ? 0 : (int64_t)info.st_size;
}

/* The file grows with each pass. */
static void count_passes(const char *partial, int64_t passes)
{
    static int64_t length, seen;
    int64_t now = file_length(partial);
    if (length && now != length) seen++;
    length = now;
    if (passes > 0 && seen >= passes) raise(SIGKILL);
}

static ferry_status write_file(const char *path, double mark, int64_t passes, int64_t rows)
{
    ferry_output *output = NULL;
    ferry_sink sink;
    int64_t indptr[EACH + 1], indices[EACH * 13];
    float values[EACH * 13];
    char partial[600];
    snprintf(partial, sizeof partial, "%s.partial", path);
    FERRY_TRY(ferry_output_open(&output, &world, path, true));
    FERRY_TRY(ferry_output_number(output, "mark", mark));
    FERRY_TRY(ferry_output_csr_open(&sink, output, "X", rows, COLUMNS));
    for (int64_t at = 0; at < rows; at += (int64_t)EACH * world.size) {
        int64_t first = at + (int64_t)EACH * world.rank, count = rows - first < EACH ? rows - first : EACH;
        ferry_rows rows_here = block(indptr, indices, values, first, count > 0 ? count : 0);
        FERRY_TRY(sink.take(sink.self, &rows_here));
        if (world.rank == world.size - 1) count_passes(partial, passes);
    }
    FERRY_TRY(ferry_output_csr_finish(&sink));
    return ferry_output_finish(&output);
}

static void kill_after(int64_t milliseconds)
{
    struct itimerval when = {{0, 0}, {milliseconds / 1000, milliseconds % 1000 * 1000}};
    signal(SIGALRM, SIG_DFL);
    if (world.rank == world.size / 2) setitimer(ITIMER_REAL, &when, NULL);
}

static int64_t read_all(hid_t file, const char *path, hid_t type, void **out, size_t bytes)
{
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), space = H5Dget_space(dataset);
    int64_t count = (int64_t)H5Sget_simple_extent_npoints(space);
    *out = malloc((size_t)count * bytes + 1);
    CHECK(count >= 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) >= 0);
    H5Sclose(space);
    H5Dclose(dataset);
    return count;
}

static int64_t check_rows(hid_t file)
{
    int64_t *indptr = NULL, wrong = 0;
    int32_t *indices = NULL;
    float *data = NULL;
    int64_t rows = read_all(file, "X/indptr", H5T_NATIVE_INT64, (void **)&indptr, 8) - 1;
    int64_t count = read_all(file, "X/data", H5T_NATIVE_FLOAT, (void **)&data, 4);
    int64_t same = read_all(file, "X/indices", H5T_NATIVE_INT32, (void **)&indices, 4);
    CHECK(rows >= 0 && indptr[0] == 0 && count == same && indptr[rows] <= count);
    for (int64_t i = 0; i < rows && indptr[rows] <= count; i++) {
        wrong += indptr[i + 1] - indptr[i] != entries(i);
        for (int64_t k = 0; k < entries(i); k++)
            wrong += data[indptr[i] + k] != value(i, k) || indices[indptr[i] + k] != k * 30 + i / EACH * EACH % 7;
    }
    CHECK(wrong == 0);
    free(indptr);
    free(indices);
    free(data);
    return rows;
}

static void check(const char *path, int64_t passes)
{
    ferry_stored *stored = NULL;
    char partial[600];
    double mark = 0;
    snprintf(partial, sizeof partial, "%s.partial", path);
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK);
    if (stored) CHECK(ferry_stored_number(&mark, stored, "mark") == FERRY_OK && mark == 1);
    ferry_stored_close(&stored);
    CHECK(ferry_stored_open(&stored, partial) == FERRY_E_FILE && strstr(ferry_error(), "not complete"));
    hid_t file = H5Fopen(partial, H5F_ACC_RDONLY, H5P_DEFAULT);
    CHECK(file >= 0);
    if (file < 0) return;
    CHECK(H5Aexists(file, "cellferry_partial") > 0);
    int64_t rows = passes < 0 && H5Lexists(file, "X", H5P_DEFAULT) <= 0 ? 0 : check_rows(file);
    printf("%lld whole rows of %d in the partial file\n", (long long)rows, ROWS);
    CHECK(passes < 0 || (rows > 0 && rows < ROWS));
    H5Fclose(file);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(argc > 2 && ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    int64_t passes = argc > 3 ? atoll(argv[3]) : 0;
    if (argc > 2 && !strcmp(argv[2], "old")) CHECK(write_file(argv[1], 1, 0, 10) == FERRY_OK);
    if (argc > 2 && !strcmp(argv[2], "kill")) {
        if (passes < 0) kill_after(-passes);
        CHECK(write_file(argv[1], 2, passes, ROWS) == FERRY_OK); /* the run ends in it */
        while (passes < 0 && !test_failures) continue;           /* a late alarm: it comes */
    }
    if (argc > 2 && !strcmp(argv[2], "check")) check(argv[1], passes);
    ferry_world_close(&world);
    return test_end();
}

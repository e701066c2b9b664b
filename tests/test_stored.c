/* Files read back by stored.h: ours is tested with the writer (test_write.c); here are texts as other programs store
 * them, types, ranges, and everything that is refused. Each rank makes and reads its own file. */
#include "io/stored.h"
#include "mpi/world.h"
#include "test.h"
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(hid_t file, const char *name, hid_t type, int rank, const hsize_t *size, const void *values)
{
    hid_t space = rank ? H5Screate_simple(rank, size, NULL) : H5Screate(H5S_SCALAR);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(dataset >= 0 && (!values || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0));
    H5Dclose(dataset);
    H5Sclose(space);
}

static hid_t text_type(size_t bytes, H5T_str_t padding)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, bytes ? bytes : H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Tset_strpad(type, padding);
    return type;
}

static void put_attribute(hid_t object, const char *name, hid_t type, hsize_t count, const void *value)
{
    hid_t space = count ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(attribute >= 0 && H5Awrite(attribute, type, value) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
}

static void make(const char *path)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t variable = text_type(0, H5T_STR_NULLTERM), padded = text_type(5, H5T_STR_NULLPAD);
    hid_t blank = text_type(5, H5T_STR_SPACEPAD), group = H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t flag = H5Tenum_create(H5T_STD_I8LE), wide = H5Tenum_create(H5T_STD_I32LE);
    const char *words[3] = {"a", "", "\xc3\xa4hnlich"}, *one = "scalar";
    int16_t small[3] = {-1, 2, 300};
    float table[6] = {0.5f, 1, 2, 3, 4, 5.25f};
    int8_t no = 0, yes = 1, flags[3] = {1, 0, 1};
    int number = 7;
    double pair[2] = {1, 2};
    H5Tenum_insert(flag, "FALSE", &no);
    H5Tenum_insert(flag, "TRUE", &yes);
    H5Tenum_insert(wide, "SEVEN", &number);
    put(file, "g/variable", variable, 1, (hsize_t[]){3}, words);
    put(file, "g/padded", padded, 1, (hsize_t[]){3}, "12345\0\0\0\0\0\xc3\xa4\xc3\xa4");
    put(file, "g/blank", blank, 1, (hsize_t[]){2}, "ab   12345");
    put(file, "g/scalar", variable, 0, NULL, &one);
    put(file, "small", H5T_NATIVE_INT16, 1, (hsize_t[]){3}, small);
    put(file, "table", H5T_NATIVE_FLOAT, 2, (hsize_t[]){3, 2}, table);
    put(file, "flags", flag, 1, (hsize_t[]){3}, flags);
    put(file, "wide", wide, 0, NULL, &number);
    put(file, "none", H5T_NATIVE_INT, 1, (hsize_t[]){0}, NULL);
    put(file, "cube", H5T_NATIVE_INT, 3, (hsize_t[]){1, 1, 1}, &number);
    put_attribute(group, "text", variable, 0, &one);
    put_attribute(group, "fixed", padded, 1, "abcde");
    put_attribute(group, "number", H5T_NATIVE_INT, 0, &number);
    put_attribute(group, "pair", H5T_NATIVE_DOUBLE, 2, pair);
    hid_t ids[] = {flag, wide, group, blank, padded, variable, file};
    for (size_t k = 0; k < sizeof ids / sizeof *ids; k++) H5Idec_ref(ids[k]);
}

static void numbers(ferry_stored *it)
{
    double out[6] = {0};
    int64_t whole[3], rows, columns;
    CHECK(ferry_stored_shape(&rows, &columns, it, "table") == FERRY_OK && rows == 3 && columns == 2);
    CHECK(ferry_stored_numbers(out, it, "/table", 1, 2) == FERRY_OK && out[0] == 2 && out[3] == 5.25);
    CHECK(ferry_stored_integers(whole, it, "small", 0, 3) == FERRY_OK && whole[0] == -1 && whole[2] == 300);
    CHECK(ferry_stored_numbers(out, it, "small", 2, 1) == FERRY_OK && out[0] == 300);
    CHECK(ferry_stored_integers(whole, it, "flags", 1, 2) == FERRY_OK && whole[0] == 0 && whole[1] == 1);
    CHECK(ferry_stored_numbers(out, it, "flags", 0, 3) == FERRY_OK && out[0] == 1 && out[1] == 0);
    CHECK(ferry_stored_shape(&rows, NULL, it, "none") == FERRY_OK && rows == 0);
    CHECK(ferry_stored_numbers(out, it, "none", 0, 0) == FERRY_OK);
    CHECK(ferry_stored_numbers(out, it, "small", 3, 0) == FERRY_OK);
    CHECK(ferry_stored_attribute_number(out, it, "g", "number") == FERRY_OK && out[0] == 7);
}

static void texts(ferry_stored *it)
{
    ferry_names names;
    char *text;
    CHECK(ferry_stored_texts(&names, it, "g/variable", 0, 3) == FERRY_OK && names.count == 3);
    CHECK(!strcmp(ferry_name(&names, 0), "a") && !ferry_name(&names, 1)[0]);
    CHECK(!strcmp(ferry_name(&names, 2), "\xc3\xa4hnlich"));
    ferry_names_close(&names);
    CHECK(ferry_stored_texts(&names, it, "g/padded", 0, 3) == FERRY_OK && names.count == 3);
    CHECK(!strcmp(ferry_name(&names, 0), "12345") && !ferry_name(&names, 1)[0]);
    CHECK(!strcmp(ferry_name(&names, 2), "\xc3\xa4\xc3\xa4"));
    ferry_names_close(&names);
    CHECK(ferry_stored_texts(&names, it, "g/blank", 0, 2) == FERRY_OK);
    CHECK(!strcmp(ferry_name(&names, 0), "ab") && !strcmp(ferry_name(&names, 1), "12345"));
    ferry_names_close(&names);
    CHECK(ferry_stored_texts(&names, it, "g/blank", 2, 0) == FERRY_OK && names.count == 0);
    ferry_names_close(&names);
    CHECK(ferry_stored_text(&text, it, "g/scalar") == FERRY_OK && !strcmp(text, "scalar"));
    free(text);
    CHECK(ferry_stored_attribute_text(&text, it, "g", "text") == FERRY_OK && !strcmp(text, "scalar"));
    free(text);
    CHECK(ferry_stored_attribute_text(&text, it, "/g", "fixed") == FERRY_OK && !strcmp(text, "abcde"));
    free(text);
}

#define REFUSED(call, words)                                                                                           \
    do {                                                                                                               \
        CHECK((call) == FERRY_E_FILE && strstr(ferry_error(), words));                                                 \
        if (!strstr(ferry_error(), words)) fprintf(stderr, "got: %s\n", ferry_error());                                \
    } while (0)

static void refusals(ferry_stored *it)
{
    double out[8];
    int64_t rows;
    ferry_names names;
    char *text;
    REFUSED(ferry_stored_numbers(out, it, "small", 2, 2), "small has 3 rows, not 4");
    REFUSED(ferry_stored_numbers(out, it, "small", -1, 2), "small");
    REFUSED(ferry_stored_numbers(out, it, "absent/deep", 0, 1), "absent/deep");
    REFUSED(ferry_stored_numbers(out, it, "g", 0, 1), "g: a group");
    REFUSED(ferry_stored_numbers(out, it, "g/variable", 0, 1), "numbers");
    REFUSED(ferry_stored_numbers(out, it, "wide", 0, 1), "enumeration");
    REFUSED(ferry_stored_number(out, it, "small"), "not one");
    REFUSED(ferry_stored_shape(&rows, NULL, it, "cube"), "3 dimensions");
    REFUSED(ferry_stored_texts(&names, it, "small", 0, 1), "texts");
    REFUSED(ferry_stored_texts(&names, it, "g/padded", 2, 2), "3 rows");
    REFUSED(ferry_stored_text(&text, it, "absent"), "absent");
    REFUSED(ferry_stored_attribute_number(out, it, "g", "pair"), "pair");
    REFUSED(ferry_stored_attribute_number(out, it, "g", "text"), "not a number");
    REFUSED(ferry_stored_attribute_number(out, it, "absent", "text"), "absent");
    REFUSED(ferry_stored_attribute_text(&text, it, "g", "number"), "not a text");
    REFUSED(ferry_stored_attribute_text(&text, it, "/", "nothing"), "nothing");
    CHECK(ferry_stored_has(it, "g/scalar") && ferry_stored_has(it, "/table") && !ferry_stored_has(it, "g/x/y"));
}

static void broken_files(const char *path)
{
    ferry_stored *it = NULL;
    REFUSED(ferry_stored_open(&it, "/absent/file.h5"), "/absent/file.h5");
    REFUSED(ferry_stored_open(&it, "/tmp"), "/tmp");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    int64_t one = 1;
    put_attribute(file, "cellferry_partial", H5T_NATIVE_INT64, 0, &one);
    H5Fclose(file);
    REFUSED(ferry_stored_open(&it, path), "not complete");
    CHECK(truncate(path, 2000) == 0);
    REFUSED(ferry_stored_open(&it, path), "cannot be opened");
    CHECK(truncate(path, 3) == 0);
    REFUSED(ferry_stored_open(&it, path), "not an HDF5 file");
    CHECK(!it);
    ferry_stored_close(&it);
}

/* Each allocation refused once: an error, nothing lost. */
static void walk(const char *path, int rank)
{
    char plan[32];
    ferry_status status = FERRY_E_MEM;
    for (int n = 1; status != FERRY_OK && n < 100; n++) {
        ferry_stored *it = NULL;
        ferry_names names = {0};
        char *text = NULL;
        double out[3];
        snprintf(plan, sizeof plan, "%d:%d", n, rank);
        setenv("FERRY_FAIL_ALLOC", plan, 1);
        status = ferry_stored_open(&it, path);
        if (status == FERRY_OK) status = ferry_stored_texts(&names, it, "g/variable", 0, 3);
        if (status == FERRY_OK) ferry_names_close(&names);
        if (status == FERRY_OK) status = ferry_stored_texts(&names, it, "g/padded", 0, 3);
        if (status == FERRY_OK) status = ferry_stored_text(&text, it, "g/scalar");
        if (status == FERRY_OK) status = ferry_stored_numbers(out, it, "flags", 0, 3);
        CHECK(status == FERRY_OK || status == FERRY_E_MEM);
        ferry_names_close(&names);
        free(text);
        ferry_stored_close(&it);
    }
    unsetenv("FERRY_FAIL_ALLOC");
    CHECK(status == FERRY_OK);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    char path[] = "/tmp/cellferry-stored-XXXXXX";
    int made = mkstemp(path);
    CHECK(made >= 0 && close(made) == 0);
    make(path);
    ferry_stored *it = NULL;
    CHECK(ferry_stored_open(&it, path) == FERRY_OK);
    if (it) {
        numbers(it);
        texts(it);
        refusals(it);
    }
    ferry_stored_close(&it);
    ferry_stored_close(&it);
    walk(path, world.rank);
    broken_files(path);
    unlink(path);
    ferry_world_close(&world);
    return test_end();
}

/* make_files.c - see make_files.h. With -DMAKE_FILES_MAIN (the program make_files) it fills a folder for trials by
   hand: make_files DIR The sound file: 6 cells x 4 genes; X csr with 8 entries, obs {_index, type (3 categories),
   score}, obsm/X_pca 6 x 3. */
#include "make_files.h"
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CELLS = 6, GENES = 4, NONZEROS = 8, DIMS = 3, TYPES = 3 };

static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static void put_text(hid_t object, const char *name, const char *value)
{
    hid_t type = text_type(), space = H5Screate(H5S_SCALAR);
    if (H5Aexists(object, name) > 0) H5Adelete(object, name);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, &value);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static void put_texts(hid_t object, const char *name, const char *const *values, hsize_t count)
{
    hid_t type = text_type(), space = H5Screate_simple(1, &count, NULL);
    if (H5Aexists(object, name) > 0) H5Adelete(object, name);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, values);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static void encode(hid_t object, const char *encoding, const char *version)
{
    put_text(object, "encoding-type", encoding);
    put_text(object, "encoding-version", version);
}

static void encode_at(hid_t file, const char *path, const char *encoding, const char *version)
{
    hid_t object = H5Oopen(file, path, H5P_DEFAULT);
    encode(object, encoding, version);
    H5Oclose(object);
}

/* A dataset of `ndim` dimensions in memory type `type`, stored as `stored`. */
static void put(hid_t file, const char *path, hid_t stored, hid_t type, int ndim, const hsize_t *dims,
                const void *values)
{
    hid_t space = H5Screate_simple(ndim, dims, NULL);
    hid_t set = H5Dcreate2(file, path, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (values) H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(set);
    H5Sclose(space);
}

static void put_strings(hid_t file, const char *path, const char *const *values, hsize_t count)
{
    hid_t type = text_type();
    put(file, path, type, type, 1, &count, values);
    H5Tclose(type);
    encode_at(file, path, "string-array", "0.2.0");
}

static void group(hid_t file, const char *path)
{
    H5Gclose(H5Gcreate2(file, path, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

static const float data[NONZEROS] = {1, 2, 3, 4, 5, 6, 7, 8};
static const int indices[NONZEROS] = {0, 2, 1, 3, 0, 1, 2, 3};
static const int indptr[CELLS + 1] = {0, 2, 4, 4, 5, 7, 8};
static const char *const cells[CELLS] = {"c0", "c1", "c2", "c3", "c4", "c5"};
static const char *const genes[GENES] = {"g0", "g1", "g2", "g3"};
static const char *const types[TYPES] = {"B", "NK", "T"};

static void put_shape(hid_t file, const char *path, hid_t type, const void *shape)
{
    hsize_t two = 2;
    hid_t object = H5Oopen(file, path, H5P_DEFAULT), space = H5Screate_simple(1, &two, NULL);
    if (H5Aexists(object, "shape") > 0) H5Adelete(object, "shape");
    if (shape) {
        hid_t attribute = H5Acreate2(object, "shape", type, space, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(attribute, type, shape);
        H5Aclose(attribute);
    }
    H5Sclose(space);
    H5Oclose(object);
}

static void put_csr(hid_t file, const char *path)
{
    char name[64];
    const long long shape[2] = {CELLS, GENES};
    group(file, path);
    encode_at(file, path, "csr_matrix", "0.1.0");
    put_shape(file, path, H5T_NATIVE_LLONG, shape);
    snprintf(name, sizeof name, "%s/data", path);
    put(file, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, (hsize_t[]){NONZEROS}, data);
    snprintf(name, sizeof name, "%s/indices", path);
    put(file, name, H5T_STD_I32LE, H5T_NATIVE_INT, 1, (hsize_t[]){NONZEROS}, indices);
    snprintf(name, sizeof name, "%s/indptr", path);
    put(file, name, H5T_STD_I32LE, H5T_NATIVE_INT, 1, (hsize_t[]){CELLS + 1}, indptr);
}

static void put_frame(hid_t file, const char *path, const char *const *index, hsize_t count)
{
    char name[64];
    group(file, path);
    encode_at(file, path, "dataframe", "0.2.0");
    hid_t frame = H5Oopen(file, path, H5P_DEFAULT);
    put_text(frame, "_index", "_index");
    put_texts(frame, "column-order", NULL, 0);
    H5Oclose(frame);
    snprintf(name, sizeof name, "%s/_index", path);
    put_strings(file, name, index, count);
}

static void sound(const char *path)
{
    const signed char codes[CELLS] = {0, 1, 2, 0, 2, -1};
    const double score[CELLS] = {.5, 1, 1.5, 2, 2.5, 3};
    float pca[CELLS][DIMS];
    for (int i = 0; i < CELLS; i++)
        for (int k = 0; k < DIMS; k++) pca[i][k] = (float)(10 * i + k);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    encode(file, "anndata", "0.1.0");
    put_csr(file, "X");
    put_frame(file, "obs", cells, CELLS);
    put_frame(file, "var", genes, GENES);
    hid_t obs = H5Oopen(file, "obs", H5P_DEFAULT);
    const char *order[] = {"type", "score"};
    put_texts(obs, "column-order", order, 2);
    H5Oclose(obs);
    group(file, "obs/type");
    encode_at(file, "obs/type", "categorical", "0.2.0");
    put(file, "obs/type/codes", H5T_STD_I8LE, H5T_NATIVE_SCHAR, 1, (hsize_t[]){CELLS}, codes);
    put_strings(file, "obs/type/categories", types, TYPES);
    put(file, "obs/score", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, (hsize_t[]){CELLS}, score);
    encode_at(file, "obs/score", "array", "0.2.0");
    group(file, "obsm");
    encode_at(file, "obsm", "dict", "0.1.0");
    put(file, "obsm/X_pca", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, (hsize_t[]){CELLS, DIMS}, pca);
    encode_at(file, "obsm/X_pca", "array", "0.2.0");
    H5Fclose(file);
}

static hid_t reopen(const char *path)
{
    sound(path);
    return H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
}

static void drop(hid_t file, const char *path)
{
    H5Ldelete(file, path, H5P_DEFAULT);
}

static void replace(hid_t file, const char *path, hid_t stored, hid_t type, hsize_t count, const void *values)
{
    drop(file, path);
    put(file, path, stored, type, 1, &count, values);
}

static void bytes(const char *path, const void *content, size_t length)
{
    FILE *out = fopen(path, "wb");
    if (!out) return;
    fwrite(content, 1, length, out);
    fclose(out);
}

static long length_of(const char *path)
{
    struct stat info;
    return stat(path, &info) ? 0 : (long)info.st_size;
}

/* ---- the file itself ---- */
static void truncated(const char *path)
{
    sound(path);
    if (truncate(path, length_of(path) / 2)) perror(path);
}
static void html(const char *path)
{
    const char page[] = "<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n";
    bytes(path, page, sizeof page - 1);
}
static void empty(const char *path)
{
    bytes(path, "", 0);
}
static void folder(const char *path)
{
    mkdir(path, 0777);
}
static void zarr(const char *path)
{
    char inside[4096];
    mkdir(path, 0777);
    snprintf(inside, sizeof inside, "%s/.zgroup", path);
    bytes(inside, "{\"zarr_format\": 2}", 18);
}
static void mudata(const char *path)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    encode(file, "MuData", "0.1.0");
    group(file, "mod");
    group(file, "mod/rna");
    put_frame(file, "obs", cells, CELLS);
    put_frame(file, "var", genes, GENES);
    H5Fclose(file);
}
static void plain_hdf5(const char *path)
{
    const double values[3] = {1, 2, 3};
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put(file, "measurements", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, (hsize_t[]){3}, values);
    H5Fclose(file);
}
/* A writer that was killed: the superblock still says "open for writing" (only the newest file format notes it). */
static void left_open(const char *path)
{
    char other[4096];
    snprintf(other, sizeof other, "%s.open", path);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    hid_t file = H5Fcreate(other, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    put_csr(file, "X");
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    FILE *in = fopen(other, "rb");
    static char copy[1 << 20];
    size_t length = in ? fread(copy, 1, sizeof copy, in) : 0;
    if (in) fclose(in);
    bytes(path, copy, length);
    H5Fclose(file);
    H5Pclose(access);
    unlink(other);
}
static void zero_tail(const char *path)
{
    sound(path);
    long length = length_of(path), from = length / 4;
    char *zeros = calloc(1, (size_t)(length - from));
    FILE *out = fopen(path, "r+b");
    if (out && zeros) {
        fseek(out, from, SEEK_SET);
        fwrite(zeros, 1, (size_t)(length - from), out);
    }
    if (out) fclose(out);
    free(zeros);
}

/* Overwrite the first place where `what` stands in the file. */
static void scratch(const char *path, const void *what, size_t length)
{
    long size = length_of(path);
    char *all = malloc((size_t)size);
    FILE *io = fopen(path, "r+b");
    if (io && all && fread(all, 1, (size_t)size, io) == (size_t)size)
        for (long at = 0; at + (long)length <= size; at++)
            if (!memcmp(all + at, what, length)) {
                fseek(io, at, SEEK_SET);
                fputc(all[at] ^ 0x55, io);
                break;
            }
    if (io) fclose(io);
    free(all);
}
static void chunked_pca(const char *path, void (*filter)(hid_t))
{
    float pca[CELLS][DIMS];
    for (int i = 0; i < CELLS; i++)
        for (int k = 0; k < DIMS; k++) pca[i][k] = 1234.5F + (float)(10 * i + k);
    hid_t file = reopen(path), create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(2, (hsize_t[]){CELLS, DIMS}, NULL);
    H5Pset_chunk(create, 2, (hsize_t[]){CELLS, DIMS});
    filter(create);
    drop(file, "obsm/X_pca");
    hid_t set = H5Dcreate2(file, "obsm/X_pca", H5T_IEEE_F32LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, pca);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(create);
    H5Fclose(file);
}
static void fletcher(hid_t create)
{
    H5Pset_fletcher32(create);
}
static void checksum(const char *path)
{
    const float mark[3] = {1234.5F, 1235.5F, 1236.5F};
    chunked_pca(path, fletcher);
    scratch(path, mark, sizeof mark);
}
static size_t same_bytes(unsigned flags, size_t n, const unsigned *values, size_t size, size_t *room, void **buffer)
{
    (void)flags, (void)n, (void)values, (void)room, (void)buffer;
    return size;
}
static void foreign(hid_t create)
{
    H5Pset_filter(create, (H5Z_filter_t)32015, 0, 0, NULL);
}
static void no_filter(const char *path)
{
    const H5Z_class2_t zstd = {H5Z_CLASS_T_VERS, 32015, 1, 1, "zstd", NULL, NULL, same_bytes};
    H5Zregister(&zstd);
    chunked_pca(path, foreign);
    H5Zunregister(32015);
}
static void gzip(hid_t create)
{
    H5Pset_deflate(create, 4);
}
static void broken_gzip(const char *path)
{
    chunked_pca(path, gzip);
    const unsigned char zlib_head[2] = {0x78, 0x5e};
    scratch(path, zlib_head, 2);
}
static void root_datatype(const char *path)
{
    hid_t file = reopen(path), type = H5Tcopy(H5T_NATIVE_INT);
    H5Tcommit2(file, "__DATA_TYPES__", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(type);
    H5Fclose(file);
}
static void soft_link(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obsm/X_pca");
    H5Lcreate_soft("/nowhere/at/all", file, "obsm/X_pca", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
}
static void external_link(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "X");
    H5Lcreate_external("absent.h5", "/X", file, "X", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
}
/* anndata 0.7: a categorical column points at its categories by an object reference */
static void dead_reference(const char *path)
{
    const signed char codes[CELLS] = {0, 1, 2, 0, 2, 1};
    hid_t file = reopen(path), type = text_type(), space = H5Screate(H5S_SCALAR);
    drop(file, "obs/type");
    group(file, "obs/__categories");
    put(file, "obs/__categories/type", type, type, 1, (hsize_t[]){TYPES}, types);
    put(file, "obs/type", H5T_STD_I8LE, H5T_NATIVE_SCHAR, 1, (hsize_t[]){CELLS}, codes);
    hobj_ref_t reference;
    H5Rcreate(&reference, file, "obs/__categories/type", H5R_OBJECT, -1);
    hid_t column = H5Oopen(file, "obs/type", H5P_DEFAULT);
    hid_t attribute = H5Acreate2(column, "categories", H5T_STD_REF_OBJ, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_STD_REF_OBJ, &reference);
    H5Aclose(attribute);
    H5Oclose(column);
    drop(file, "obs/__categories");
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(file);
}

/* ---- sparse X ---- */
static void with_indptr(const char *path, const int values[CELLS + 1])
{
    hid_t file = reopen(path);
    replace(file, "X/indptr", H5T_STD_I32LE, H5T_NATIVE_INT, CELLS + 1, values);
    H5Fclose(file);
}
static void indptr_negative(const char *path)
{
    with_indptr(path, (int[]){0, 2, 4, 4, 5, -2147483647, -2147483641});
}
static void indptr_falls(const char *path)
{
    with_indptr(path, (int[]){0, 4, 2, 4, 5, 7, 8});
}
static void indptr_start(const char *path)
{
    with_indptr(path, (int[]){1, 2, 4, 4, 5, 7, 8});
}
static void indptr_end(const char *path)
{
    with_indptr(path, (int[]){0, 2, 4, 4, 5, 7, 11});
}
static void indptr_short(const char *path)
{
    hid_t file = reopen(path);
    replace(file, "X/indptr", H5T_STD_I32LE, H5T_NATIVE_INT, CELLS, indptr);
    H5Fclose(file);
}
static void indices_short(const char *path)
{
    hid_t file = reopen(path);
    replace(file, "X/indices", H5T_STD_I32LE, H5T_NATIVE_INT, NONZEROS - 1, indices);
    H5Fclose(file);
}
static void with_indices(const char *path, const int values[NONZEROS])
{
    hid_t file = reopen(path);
    replace(file, "X/indices", H5T_STD_I32LE, H5T_NATIVE_INT, NONZEROS, values);
    H5Fclose(file);
}
static void index_large(const char *path)
{
    with_indices(path, (int[]){0, 2, 1, 4, 0, 1, 2, 3});
}
static void index_negative(const char *path)
{
    with_indices(path, (int[]){0, -2, 1, 3, 0, 1, 2, 3});
}
static void index_unsorted(const char *path)
{
    const float swapped[NONZEROS] = {2, 1, 3, 4, 5, 6, 7, 8};
    with_indices(path, (int[]){2, 0, 1, 3, 0, 1, 2, 3});
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    replace(file, "X/data", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, NONZEROS, swapped);
    H5Fclose(file);
}
static void index_twice(const char *path)
{
    with_indices(path, (int[]){0, 0, 1, 3, 0, 1, 2, 3});
}
static void with_shape(const char *path, hid_t type, const void *shape)
{
    hid_t file = reopen(path);
    put_shape(file, "X", type, shape);
    H5Fclose(file);
}
static void shape_swapped(const char *path)
{
    with_shape(path, H5T_NATIVE_LLONG, (long long[]){GENES, CELLS});
}
static void shape_missing(const char *path)
{
    with_shape(path, H5T_NATIVE_LLONG, NULL);
}
static void shape_float(const char *path)
{
    with_shape(path, H5T_NATIVE_DOUBLE, (double[]){CELLS, GENES});
}
static void shape_negative(const char *path)
{
    with_shape(path, H5T_NATIVE_LLONG, (long long[]){CELLS, -4});
}
static void csr_is_csc(const char *path)
{
    const int by_column[GENES + 1] = {0, 2, 4, 6, 8};
    hid_t file = reopen(path);
    replace(file, "X/indptr", H5T_STD_I32LE, H5T_NATIVE_INT, GENES + 1, by_column);
    H5Fclose(file);
}
static void indices_float(const char *path)
{
    double values[NONZEROS];
    for (int i = 0; i < NONZEROS; i++) values[i] = indices[i];
    hid_t file = reopen(path);
    replace(file, "X/indices", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, NONZEROS, values);
    H5Fclose(file);
}
static void indices_fraction(const char *path)
{
    double values[NONZEROS];
    for (int i = 0; i < NONZEROS; i++) values[i] = indices[i] + (i == 3 ? -.5 : 0);
    hid_t file = reopen(path);
    replace(file, "X/indices", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, NONZEROS, values);
    H5Fclose(file);
}
static void indices_unsigned(const char *path)
{
    unsigned long long values[NONZEROS];
    for (int i = 0; i < NONZEROS; i++) values[i] = (unsigned long long)indices[i];
    hid_t file = reopen(path);
    replace(file, "X/indices", H5T_STD_U64LE, H5T_NATIVE_ULLONG, NONZEROS, values);
    H5Fclose(file);
}
static void data_nan(const char *path)
{
    float values[NONZEROS];
    memcpy(values, data, sizeof values);
    values[3] = NAN;
    hid_t file = reopen(path);
    replace(file, "X/data", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, NONZEROS, values);
    H5Fclose(file);
}
static void data_missing(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "X/data");
    H5Fclose(file);
}
static void data_text(const char *path)
{
    const char *const words[NONZEROS] = {"1", "2", "3", "4", "5", "6", "7", "8"};
    hid_t file = reopen(path);
    drop(file, "X/data");
    put_strings(file, "X/data", words, NONZEROS);
    H5Fclose(file);
}
static void dense_rows(const char *path)
{
    const float values[GENES][CELLS] = {{0}};
    hid_t file = reopen(path);
    drop(file, "X");
    put(file, "X", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, (hsize_t[]){GENES, CELLS}, values);
    encode_at(file, "X", "array", "0.2.0");
    H5Fclose(file);
}
static void dense_cube(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "X");
    put(file, "X", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, (hsize_t[]){CELLS, GENES, 2}, NULL);
    encode_at(file, "X", "array", "0.2.0");
    H5Fclose(file);
}

/* ---- frames ---- */
static void index_attribute(const char *path)
{
    hid_t file = reopen(path), obs = H5Oopen(file, "obs", H5P_DEFAULT);
    H5Adelete(obs, "_index");
    H5Oclose(obs);
    drop(file, "obs/_index");
    H5Fclose(file);
}
static void index_absent(const char *path)
{
    hid_t file = reopen(path), obs = H5Oopen(file, "obs", H5P_DEFAULT);
    put_text(obs, "_index", "barcode");
    H5Oclose(obs);
    H5Fclose(file);
}
static void index_length(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obs/_index");
    put_strings(file, "obs/_index", cells, CELLS - 1);
    H5Fclose(file);
}
static void column_absent(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obs/type");
    H5Fclose(file);
}
static void column_length(const char *path)
{
    const double score[CELLS] = {0};
    hid_t file = reopen(path);
    replace(file, "obs/score", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, CELLS - 2, score);
    H5Fclose(file);
}
static void with_codes(const char *path, const signed char codes[CELLS])
{
    hid_t file = reopen(path);
    replace(file, "obs/type/codes", H5T_STD_I8LE, H5T_NATIVE_SCHAR, CELLS, codes);
    H5Fclose(file);
}
static void code_large(const char *path)
{
    with_codes(path, (signed char[]){0, 1, 2, 3, 2, 0});
}
static void code_small(const char *path)
{
    with_codes(path, (signed char[]){0, 1, 2, -2, 2, 0});
}
static void codes_missing(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obs/type/codes");
    H5Fclose(file);
}
static void categories_missing(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obs/type/categories");
    H5Fclose(file);
}
static void categories_twice(const char *path)
{
    const char *const twice[TYPES] = {"B", "NK", "B"};
    hid_t file = reopen(path);
    drop(file, "obs/type/categories");
    put_strings(file, "obs/type/categories", twice, TYPES);
    H5Fclose(file);
}
static void codes_length(const char *path)
{
    const signed char codes[CELLS] = {0};
    hid_t file = reopen(path);
    replace(file, "obs/type/codes", H5T_STD_I8LE, H5T_NATIVE_SCHAR, CELLS - 1, codes);
    H5Fclose(file);
}
static void score_text(const char *path)
{
    const char *const words[CELLS] = {"1", "2", "high", "4", "5", "6"};
    hid_t file = reopen(path);
    drop(file, "obs/score");
    put_strings(file, "obs/score", words, CELLS);
    H5Fclose(file);
}
static void no_obs(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obs");
    H5Fclose(file);
}
static void obs_rows(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "X/indptr");
    put(file, "X/indptr", H5T_STD_I32LE, H5T_NATIVE_INT, 1, (hsize_t[]){CELLS}, (int[]){0, 2, 4, 4, 5, 8});
    put_shape(file, "X", H5T_NATIVE_LLONG, (long long[]){CELLS - 1, GENES});
    H5Fclose(file);
}

/* ---- obsm ---- */
static void pca_rows(const char *path)
{
    const float values[CELLS - 1][DIMS] = {{0}};
    hid_t file = reopen(path);
    drop(file, "obsm/X_pca");
    put(file, "obsm/X_pca", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, (hsize_t[]){CELLS - 1, DIMS}, values);
    H5Fclose(file);
}
static void pca_vector(const char *path)
{
    const float values[CELLS] = {0};
    hid_t file = reopen(path);
    replace(file, "obsm/X_pca", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, CELLS, values);
    H5Fclose(file);
}
static void pca_narrow(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obsm/X_pca");
    put(file, "obsm/X_pca", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, (hsize_t[]){CELLS, 0}, NULL);
    H5Fclose(file);
}
static void pca_nan(const char *path)
{
    float values[CELLS][DIMS] = {{0}};
    values[4][1] = INFINITY;
    hid_t file = reopen(path);
    drop(file, "obsm/X_pca");
    put(file, "obsm/X_pca", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, (hsize_t[]){CELLS, DIMS}, values);
    H5Fclose(file);
}
static void pca_absent(const char *path)
{
    hid_t file = reopen(path);
    drop(file, "obsm/X_pca");
    H5Fclose(file);
}

const make_case make_cases[] = {
    {"truncated", "transfer broken off half way", READ_OPEN, "", "truncated", 0, 0, truncated},
    {"html", "an error page saved under the file's name", READ_OPEN, "", "HDF5", 0, 0, html},
    {"empty", "no bytes", READ_OPEN, "", "empty", 0, 0, empty},
    {"folder", "the path is a folder", READ_OPEN, "", "folder", 0, 0, folder},
    {"zarr", "a zarr store", READ_OPEN, "", "zarr", 0, 0, zarr},
    {"mudata", "MuData: several modalities", READ_OPEN, "mod", "MuData", 0, 0, mudata},
    {"plain_hdf5", "HDF5, but not AnnData", READ_OPEN, "obs", "", 0, 0, plain_hdf5},
    {"left_open", "the writer was killed", READ_OPEN, "", "", 0, 0, left_open},
    {"zero_tail", "the rest of the file is zeros", READ_PCA, "", "", 0, 0, zero_tail},
    {"checksum", "a chunk fails its checksum", READ_PCA, "obsm/X_pca", "checksum", 0, 0, checksum},
    {"no_filter", "compressed with a filter that is not installed", READ_PCA, "obsm/X_pca", "32015", 0, 0, no_filter},
    {"broken_gzip", "a compressed chunk is damaged", READ_PCA, "obsm/X_pca", "", 0, 0, broken_gzip},
    {"root_datatype", "a named type at the root (JHDF5)", READ_X, "", "", 1, 1, root_datatype},
    {"soft_link", "a soft link to nowhere", READ_PCA, "obsm/X_pca", "link", 0, 0, soft_link},
    {"external_link", "an external link to an absent file", READ_X, "X", "link", 0, 0, external_link},
    {"dead_reference", "categories by a reference to a deleted object", READ_TYPE, "obs/type", "", 0, 0,
     dead_reference},

    {"indptr_negative", "32-bit indptr that wrapped around", READ_X, "X/indptr", "", 0, 0, indptr_negative},
    {"indptr_falls", "indptr that falls", READ_X, "X/indptr", "", 0, 0, indptr_falls},
    {"indptr_start", "indptr that does not start at 0", READ_X, "X/indptr", "", 0, 0, indptr_start},
    {"indptr_end", "indptr that ends past the data", READ_X, "X/indptr", "", 0, 0, indptr_end},
    {"indptr_short", "indptr too short", READ_X, "X/indptr", "", 0, 0, indptr_short},
    {"indices_short", "fewer indices than data", READ_X, "X/indices", "", 0, 0, indices_short},
    {"index_large", "a column beyond the last gene", READ_X, "X/indices", "", 0, 0, index_large},
    {"index_negative", "a negative column", READ_X, "X/indices", "", 0, 0, index_negative},
    {"index_unsorted", "columns in any order", READ_X, "", "", 1, 1, index_unsorted},
    {"index_twice", "an entry twice: added", READ_X, "", "", 1, 3, index_twice},
    {"shape_swapped", "shape says genes x cells", READ_X, "X", "shape", 0, 0, shape_swapped},
    {"shape_missing", "no shape", READ_X, "X", "shape", 0, 0, shape_missing},
    {"shape_float", "shape as floats", READ_X, "", "", 1, 1, shape_float},
    {"shape_negative", "a negative number of genes", READ_X, "X", "shape", 0, 0, shape_negative},
    {"csr_is_csc", "says csr, is csc", READ_X, "X/indptr", "csc", 0, 0, csr_is_csc},
    {"indices_float", "whole numbers stored as floats", READ_X, "", "", 1, 1, indices_float},
    {"indices_fraction", "a column number with a fraction", READ_X, "X/indices", "", 0, 0, indices_fraction},
    {"indices_unsigned", "unsigned 64-bit indices", READ_X, "", "", 1, 1, indices_unsigned},
    {"data_nan", "NaN in X", READ_X, "X", "NaN", 0, 0, data_nan},
    {"data_missing", "no X/data", READ_X, "X/data", "", 0, 0, data_missing},
    {"data_text", "numbers as text", READ_X, "X/data", "text", 0, 0, data_text},
    {"dense_rows", "genes in the rows", READ_X, "X", "", 0, 0, dense_rows},
    {"dense_cube", "X with three dimensions", READ_X, "X", "dimension", 0, 0, dense_cube},

    {"index_attribute", "obs without _index", READ_NAMES, "obs", "_index", 0, 0, index_attribute},
    {"index_absent", "_index names an absent column", READ_NAMES, "obs/barcode", "", 0, 0, index_absent},
    {"index_length", "fewer names than cells", READ_NAMES, "obs/_index", "", 0, 0, index_length},
    {"column_absent", "column-order lists an absent column", READ_TYPE, "obs/type", "", 0, 0, column_absent},
    {"column_length", "a column shorter than obs", READ_SCORE, "obs/score", "", 0, 0, column_length},
    {"code_large", "a code beyond the last category", READ_TYPE, "obs/type/codes", "", 0, 0, code_large},
    {"code_small", "a code below -1", READ_TYPE, "obs/type/codes", "", 0, 0, code_small},
    {"codes_missing", "a categorical without codes", READ_TYPE, "obs/type/codes", "", 0, 0, codes_missing},
    {"categories_missing", "a categorical without categories", READ_TYPE, "obs/type/categories", "", 0, 0,
     categories_missing},
    {"categories_twice", "a category twice", READ_TYPE, "obs/type/categories", "B", 0, 0, categories_twice},
    {"codes_length", "fewer codes than cells", READ_TYPE, "obs/type/codes", "", 0, 0, codes_length},
    {"score_text", "words where numbers are wanted", READ_SCORE, "obs/score", "", 0, 0, score_text},
    {"no_obs", "no obs", READ_OPEN, "obs", "", 0, 0, no_obs},
    {"obs_rows", "X has fewer rows than obs", READ_X, "X", "", 0, 0, obs_rows},

    {"pca_rows", "obsm with another number of rows", READ_PCA, "obsm/X_pca", "", 0, 0, pca_rows},
    {"pca_vector", "obsm with one dimension", READ_PCA, "obsm/X_pca", "dimension", 0, 0, pca_vector},
    {"pca_narrow", "obsm without columns", READ_PCA, "obsm/X_pca", "column", 0, 0, pca_narrow},
    {"pca_nan", "an infinite value in obsm", READ_PCA, "obsm/X_pca", "c4", 0, 0, pca_nan},
    {"pca_absent", "no such obsm", READ_PCA, "obsm", "X_pca", 0, 0, pca_absent},
};
const int make_case_count = sizeof make_cases / sizeof *make_cases;

void make_file(char *path, size_t room, const char *dir, int i)
{
    snprintf(path, room, "%s/%s.h5ad", dir, make_cases[i].name);
    make_cases[i].make(path);
}

#ifdef MAKE_FILES_MAIN
int main(int argc, char **argv)
{
    char path[4096];
    if (argc != 2) {
        fprintf(stderr, "usage: make_files DIR   (an existing, empty folder)\n");
        return 2;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    for (int i = 0; i < make_case_count; i++) {
        make_file(path, sizeof path, argv[1], i);
        printf("%-20s %s%s\n", make_cases[i].name, make_cases[i].how, make_cases[i].sound ? " (legal)" : "");
    }
    return 0;
}
#endif

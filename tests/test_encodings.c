/* The same cells in every encoding that AnnData has written since 0.5: each file is read back to the same numbers. */
#include "io/population.h"
#include "make_h5ad.h"
#include "test.h"
#include <math.h>

#define CELLS 7
#define GENES 5
static ferry_world world;
static char path[64];

/* X: zeros, one row and one column without anything, one negative. */
static const double x[CELLS][GENES] = {{1, 0, 2, 0, 0}, {0, 0, 0, 0, 0}, {3, 0, 0, 4, 0}, {0, 0, 5, 0, 0},
                                       {6, 0, 0, 0, 0}, {0, 0, 7, 8, 0}, {9, 0, 1, 2, 0}};

/* ---- X ---- */

typedef struct matrix_case {
    const char *name;
    void (*make)(hid_t file);
    const char *rep, *encoding;
} matrix_case;

static void dense(hid_t file, hid_t type, hid_t list)
{
    mk_array(file, "X", type, H5T_NATIVE_DOUBLE, CELLS, GENES, list, x);
    if (list != H5P_DEFAULT) H5Pclose(list);
}

static void dense_f32(hid_t file)
{
    dense(file, H5T_IEEE_F32LE, H5P_DEFAULT);
}
static void dense_big_endian(hid_t file)
{
    dense(file, H5T_IEEE_F64BE, mk_chunks(2, 3));
}
static void dense_u16(hid_t file)
{
    dense(file, H5T_STD_U16LE, mk_chunks(1, GENES));
}
static void dense_i64(hid_t file)
{
    dense(file, H5T_STD_I64LE, mk_chunks(CELLS, GENES));
}

static void dense_half(hid_t file)
{
    hid_t half = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(half, 15, 10, 5, 0, 10);
    H5Tset_size(half, 2);
    H5Tset_ebias(half, 15);
    dense(file, half, H5P_DEFAULT);
    H5Tclose(half);
}

static void dense_gzip(hid_t file)
{
    hid_t list = mk_chunks(3, 2);
    H5Pset_shuffle(list);
    H5Pset_deflate(list, 4);
    H5Pset_fletcher32(list);
    dense(file, H5T_IEEE_F32LE, list);
}

/* One chunk of 35 bytes in the LZF of h5py: literals, a copy that overlaps itself, literals. */
static void dense_lzf(hid_t file)
{
    unsigned char stream[64], plain[CELLS * GENES];
    size_t n = 0;
    for (int i = 0; i < CELLS * GENES; i++) plain[i] = (unsigned char)((const double *)x)[i];
    stream[n++] = 3; /* 4 literals: 1 0 2 0 */
    for (int i = 0; i < 4; i++) stream[n++] = plain[i];
    stream[n++] = 4 << 5; /* copy of 4 + 2 = 6 bytes from 1 back: zeros up to plain[9] */
    stream[n++] = 0;
    stream[n++] = 24; /* 25 literals: the rest */
    for (int i = 10; i < 35; i++) stream[n++] = plain[i];
    hid_t list = mk_chunks(CELLS, GENES);
    const unsigned parameters[3] = {4, 0x105, CELLS * GENES};
    hsize_t shape[2] = {CELLS, GENES}, origin[2] = {0, 0};
    if (H5Zfilter_avail(32000) > 0) H5Zunregister(32000); /* the reader's filter cannot write, so it would refuse */
    H5Pset_filter(list, 32000, H5Z_FLAG_OPTIONAL, 3, parameters);
    hid_t space = H5Screate_simple(2, shape, NULL);
    hid_t dataset = H5Dcreate2(file, "X", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    CHECK(dataset >= 0 && H5Dwrite_chunk(dataset, H5P_DEFAULT, 0, origin, n, stream) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(list);
}

/* Sparse: by rows or columns, with types of data, indices, indptr. odd: entries of a row backwards, the first one split
 * into two that add up, and an explicit zero. */
static void sparse(hid_t parent, const char *name, int by_column, int odd, int old, hid_t data, hid_t indices,
                   hid_t indptr)
{
    double value[3 * CELLS * GENES];
    int64_t index[3 * CELLS * GENES], pointer[CELLS + GENES + 1] = {0}, shape[2] = {CELLS, GENES};
    int major = by_column ? GENES : CELLS, minor = by_column ? CELLS : GENES, n = 0;
    for (int i = 0; i < major; i++) {
        for (int k = 0; k < minor; k++) {
            int j = odd ? minor - 1 - k : k;
            double v = by_column ? x[j][i] : x[i][j];
            if (v == 0 && !(odd && i == 0 && j == 1)) continue;
            if (odd && v > 2) {
                value[n] = v - 2;
                index[n++] = j;
                v = 2;
            }
            value[n] = v;
            index[n++] = j;
        }
        pointer[i + 1] = n;
    }
    hid_t group = mk_group(parent, name, old ? NULL : by_column ? "csc_matrix" : "csr_matrix", "0.1.0");
    if (old) mk_text_attribute(group, "h5sparse_format", by_column ? "csc" : "csr");
    mk_integers_attribute(group, old ? "h5sparse_shape" : "shape", shape, 2);
    hid_t list = mk_chunks(3, 0);
    mk_array(group, "data", data, H5T_NATIVE_DOUBLE, (hsize_t)n, 0, list, value);
    mk_array(group, "indices", indices, H5T_NATIVE_INT64, (hsize_t)n, 0, list, index);
    mk_array(group, "indptr", indptr, H5T_NATIVE_INT64, (hsize_t)major + 1, 0, H5P_DEFAULT, pointer);
    H5Pclose(list);
    H5Gclose(group);
}

static void csr(hid_t f)
{
    sparse(f, "X", 0, 0, 0, H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I32LE);
}
static void csr_mixed(hid_t f)
{
    sparse(f, "X", 0, 0, 0, H5T_STD_U16LE, H5T_STD_I64LE, H5T_STD_I32LE);
}
static void csr_odd(hid_t f)
{
    sparse(f, "X", 0, 1, 0, H5T_IEEE_F64LE, H5T_STD_U16LE, H5T_STD_U64LE);
}
static void csr_floats(hid_t f)
{
    sparse(f, "X", 0, 1, 0, H5T_STD_I64LE, H5T_IEEE_F64LE, H5T_IEEE_F64LE);
}
static void csr_old(hid_t f)
{
    sparse(f, "X", 0, 0, 1, H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I32LE);
}
static void csc(hid_t f)
{
    sparse(f, "X", 1, 0, 0, H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I64LE);
}
static void csc_odd(hid_t f)
{
    sparse(f, "X", 1, 1, 0, H5T_IEEE_F64LE, H5T_STD_U64LE, H5T_STD_I32LE);
}
static void csc_old(hid_t f)
{
    sparse(f, "X", 1, 0, 1, H5T_STD_I32LE, H5T_STD_I32LE, H5T_STD_I32LE);
}

static void layer(hid_t file)
{
    hid_t group = mk_group(file, "layers", "dict", "0.1.0");
    sparse(group, "counts", 0, 0, 0, H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I32LE);
    H5Gclose(group);
}

static void raw_with_var(hid_t file)
{
    char **gene = mk_names("r", GENES);
    hid_t raw = mk_group(file, "raw", "raw", "0.1.0");
    sparse(raw, "X", 1, 0, 0, H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I32LE);
    H5Gclose(mk_frame(raw, "var", (const char *const *)gene, GENES, NULL, 0));
    H5Gclose(raw);
    mk_names_free(gene);
}

static void raw_flat(hid_t file)
{
    char **gene = mk_names("r", GENES);
    sparse(file, "raw.X", 0, 0, 1, H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I32LE);
    H5Gclose(mk_frame(file, "raw.var", (const char *const *)gene, GENES, NULL, 0));
    mk_names_free(gene);
}

static void obsm_array(hid_t file)
{
    hid_t group = mk_group(file, "obsm", "dict", "0.1.0");
    mk_array(group, "X_pca", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, CELLS, GENES, H5P_DEFAULT, x);
    H5Gclose(group);
}

static void obsm_sparse(hid_t file)
{
    hid_t group = mk_group(file, "obsm", "dict", "0.1.0");
    sparse(group, "S", 0, 0, 0, H5T_IEEE_F32LE, H5T_STD_I32LE, H5T_STD_I32LE);
    H5Gclose(group);
}

static void obsm_frame(hid_t file)
{
    static const char *const columns[GENES] = {"a", "b", "c", "d", "e"};
    char **cell = mk_names("c", CELLS);
    hid_t group = mk_group(file, "obsm", "dict", "0.1.0");
    hid_t frame = mk_frame(group, "df", (const char *const *)cell, CELLS, columns, GENES);
    for (int j = 0; j < GENES; j++) {
        double column[CELLS];
        for (int i = 0; i < CELLS; i++) column[i] = x[i][j];
        mk_array(frame, columns[j], j % 2 ? H5T_STD_I32LE : H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, CELLS, 0, H5P_DEFAULT,
                 column);
    }
    H5Gclose(frame);
    H5Gclose(group);
    mk_names_free(cell);
}

static const matrix_case matrices[] = {{"dense float32", dense_f32, "X", "dense float32"},
                                       {"dense big endian", dense_big_endian, "X", "dense float64"},
                                       {"dense uint16", dense_u16, "X", "dense uint16"},
                                       {"dense int64", dense_i64, "X", "dense int64"},
                                       {"dense float16", dense_half, "X", "dense float16"},
                                       {"dense gzip shuffle fletcher", dense_gzip, "X", "dense float32"},
                                       {"dense lzf", dense_lzf, "X", "dense uint8"},
                                       {"csr", csr, "X", "csr float32"},
                                       {"csr mixed widths", csr_mixed, "X", "csr uint16"},
                                       {"csr unsorted, doubled", csr_odd, "X", "csr float64"},
                                       {"csr float indices", csr_floats, "X", "csr int64"},
                                       {"csr h5sparse", csr_old, "X", "csr float32"},
                                       {"csc", csc, "X", "csc float32"},
                                       {"csc unsorted, doubled", csc_odd, "X", "csc float64"},
                                       {"csc h5sparse", csc_old, "X", "csc int32"},
                                       {"layer", layer, "layers/counts", "csr float32"},
                                       {"raw", raw_with_var, "raw/X", "csc float32"},
                                       {"raw.X", raw_flat, "raw/X", "csr float32"},
                                       {"obsm array", obsm_array, "X_pca", "dense float64"},
                                       {"obsm sparse", obsm_sparse, "S", "csr float32"},
                                       {"obsm frame", obsm_frame, "df", "data frame"}};

/* Every choice of rows (the bits of `set`), both precisions, all and the first three columns. */
static void check_rows(ferry_file *file, const matrix_case *m, unsigned set, int dims, ferry_precision precision)
{
    int64_t rows[CELLS], count = 0;
    for (int i = 0; i < CELLS; i++)
        if (set >> i & 1) rows[count++] = i;
    ferry_matrix got;
    if (ferry_read_rep(&got, file, m->rep, dims, precision, rows, count) != FERRY_OK) {
        fprintf(stderr, "%s: %s\n", m->name, ferry_error());
        CHECK(!"read");
        return;
    }
    int good = got.rows == count && got.dim == (dims ? dims : GENES);
    for (int64_t i = 0; good && i < count; i++)
        for (int j = 0; j < got.dim; j++) {
            double value = precision == FERRY_FLOAT ? (double)got.f[i * got.dim + j] : got.d[i * got.dim + j];
            good = good && value == x[rows[i]][j];
        }
    if (!good) fprintf(stderr, "%s: rows %x, %d columns differ\n", m->name, set, dims);
    CHECK(good);
    ferry_matrix_close(&got);
}

static void check_entry(ferry_file *file, const matrix_case *m)
{
    ferry_entry *entry;
    int count, seen = 0;
    CHECK(ferry_file_entries(&entry, &count, file) == FERRY_OK);
    for (int i = 0; i < count; i++) {
        const char *end = strstr(entry[i].path, m->rep);
        if (!end || strcmp(end, m->rep) != 0 || !strncmp(entry[i].path, "var", 3)) continue;
        if (strncmp(entry[i].use, "--rep ", 6) != 0 || strcmp(entry[i].use + 6, m->rep) != 0) continue;
        seen++;
        if (strcmp(entry[i].encoding, m->encoding) != 0) fprintf(stderr, "%s: '%s'\n", m->name, entry[i].encoding);
        CHECK(!strcmp(entry[i].encoding, m->encoding));
        CHECK(entry[i].rows == CELLS && entry[i].columns == GENES);
    }
    CHECK(seen == 1);
    free(entry);
}

static void test_matrices(void)
{
    for (size_t k = 0; k < sizeof matrices / sizeof *matrices; k++) {
        const matrix_case *m = matrices + k;
        if (world.rank == 0) {
            hid_t obs, file = mk_file(path, &obs, CELLS, GENES, NULL, 0);
            m->make(file);
            H5Gclose(obs);
            H5Fclose(file);
        }
        ferry_barrier(&world);
        ferry_file *file;
        ferry_status status = ferry_file_open(&file, &world, path);
        if (status != FERRY_OK) fprintf(stderr, "%s: %s\n", m->name, ferry_error());
        CHECK(status == FERRY_OK);
        if (status != FERRY_OK) continue;
        for (unsigned set = (unsigned)world.rank; set < 1U << CELLS; set += (unsigned)world.size)
            check_rows(file, m, set, set % 3 ? 0 : 3, set % 2 ? FERRY_FLOAT : FERRY_DOUBLE);
        check_rows(file, m, 127, 0, FERRY_FLOAT);
        check_entry(file, m);
        CHECK(!strcmp(ferry_file_default_rep(file), strcmp(m->rep, "X_pca") ? "X" : "X_pca"));
        ferry_names genes;
        CHECK(ferry_read_gene_names(&genes, file, m->rep, 1, 2) == FERRY_OK && genes.count == 2);
        if (!strcmp(m->rep, "raw/X")) CHECK(!strcmp(ferry_name(&genes, 0), "r1"));
        if (!strcmp(m->rep, "df")) CHECK(!strcmp(ferry_name(&genes, 1), "c"));
        if (!strcmp(m->rep, "X")) CHECK(!strcmp(ferry_name(&genes, 1), "g2"));
        ferry_names_close(&genes);
        ferry_file_close(&file);
        ferry_barrier(&world);
    }
}

/* ---- obs ---- */

typedef struct column_case {
    const char *name;
    void (*make)(hid_t obs);
    const char *labels[CELLS]; /* NULL: missing */
    const char *categories;    /* joined with | ; NULL: labels are refused */
    const double *numbers;     /* NULL: numbers are refused */
    const char *encoding;
} column_case;

static const int codes[CELLS] = {1, 0, -1, 1, 1, 0, -1};
static const char *const two[2] = {"B cell", "T cell"};

static void categories_of(hid_t obs, hid_t type)
{
    mk_categorical(obs, "col", type, codes, CELLS, two, 2);
}
static void cat8(hid_t obs)
{
    categories_of(obs, H5T_STD_I8LE);
}
static void cat16(hid_t obs)
{
    categories_of(obs, H5T_STD_I16LE);
}
static void cat32(hid_t obs)
{
    categories_of(obs, H5T_STD_I32BE);
}
static void cat64(hid_t obs)
{
    categories_of(obs, H5T_STD_I64LE);
}

static void cat_numbers(hid_t obs)
{
    static const double days[2] = {10, 10.5};
    mk_categorical(obs, "col", H5T_STD_I8LE, codes, CELLS, NULL, 0);
    mk_array(obs, "col/categories", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 2, 0, H5P_DEFAULT, days);
}

static void cat_booleans(hid_t obs)
{
    static const int8_t flags[2] = {0, 1};
    hid_t type = mk_bool();
    mk_categorical(obs, "col", H5T_STD_I8LE, codes, CELLS, NULL, 0);
    mk_array(obs, "col/categories", type, type, 2, 0, H5P_DEFAULT, flags);
    H5Tclose(type);
}

static void cat_nullable(hid_t obs)
{
    static const int8_t mask[2] = {0, 0};
    mk_categorical(obs, "col", H5T_STD_I8LE, codes, CELLS, NULL, 0);
    mk_nullable_texts(obs, "col/categories", two, mask, 2);
}

static void cat_fixed(hid_t obs)
{
    mk_categorical(obs, "col", H5T_STD_I8LE, codes, CELLS, NULL, 0);
    mk_texts(obs, "col/categories", two, 2, 6);
}

static void cat_empty(hid_t obs)
{
    static const int none[CELLS] = {-1, -1, -1, -1, -1, -1, -1};
    mk_categorical(obs, "col", H5T_STD_I8LE, none, CELLS, two, 0);
    hid_t group = H5Gopen2(obs, "col", H5P_DEFAULT);
    H5Adelete(group, "ordered");
    H5Gclose(group);
}

/* AnnData 0.7. */
static void cat_reference(hid_t obs)
{
    hobj_ref_t reference;
    hid_t group = mk_group(obs, "__categories", NULL, NULL);
    mk_texts(group, "col", two, 2, 0);
    mk_array(obs, "col", H5T_STD_I8LE, H5T_NATIVE_INT, CELLS, 0, H5P_DEFAULT, codes);
    H5Rcreate(&reference, obs, "__categories/col", H5R_OBJECT, -1);
    hid_t dataset = H5Dopen2(obs, "col", H5P_DEFAULT), space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(dataset, "categories", H5T_STD_REF_OBJ, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_STD_REF_OBJ, &reference);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Gclose(group);
}

static const char *const words[CELLS] = {"b", "a", "", "b", "\xc3\xa9", "a", "b%"};
static void texts(hid_t obs)
{
    mk_texts(obs, "col", words, CELLS, 0);
}
static void texts_fixed(hid_t obs)
{
    mk_texts(obs, "col", words, CELLS, 3);
}

static void texts_nullable(hid_t obs)
{
    static const int8_t mask[CELLS] = {0, 0, 1, 0, 0, 0, 0};
    mk_nullable_texts(obs, "col", words, mask, CELLS);
}

static const int whole[CELLS] = {10, -3, 2, 10, 100, -30, 2};
static void integers(hid_t obs)
{
    mk_array(obs, "col", H5T_STD_I16LE, H5T_NATIVE_INT, CELLS, 0, H5P_DEFAULT, whole);
}

static void integers_nullable(hid_t obs)
{
    static const int8_t mask[CELLS] = {0, 0, 1, 0, 0, 0, 1};
    hid_t group = mk_group(obs, "col", "nullable-integer", "0.1.0");
    mk_array(group, "values", H5T_STD_I64LE, H5T_NATIVE_INT, CELLS, 0, H5P_DEFAULT, whole);
    mk_mask(group, mask, CELLS);
    H5Gclose(group);
}

static void integers_unsigned(hid_t obs)
{
    static const uint64_t large[CELLS] = {UINT64_MAX, 5, 5, 5, 5, 5, 40};
    mk_array(obs, "col", H5T_STD_U64LE, H5T_NATIVE_UINT64, CELLS, 0, H5P_DEFAULT, large);
}

static const int8_t flags[CELLS] = {1, 0, 0, 1, 1, 0, 1};
static void booleans(hid_t obs)
{
    hid_t type = mk_bool();
    mk_array(obs, "col", type, type, CELLS, 0, H5P_DEFAULT, flags);
    H5Tclose(type);
}

static void booleans_nullable(hid_t obs)
{
    static const int8_t mask[CELLS] = {0, 1, 0, 0, 0, 0, 0};
    hid_t group = mk_group(obs, "col", "nullable-boolean", "0.1.0");
    booleans(group);
    H5Lmove(group, "col", group, "values", H5P_DEFAULT, H5P_DEFAULT);
    mk_mask(group, mask, CELLS);
    H5Gclose(group);
}

static const double reals[CELLS] = {0.5, -1, 1e30, NAN, 0, INFINITY, 3};
static void floats(hid_t obs)
{
    mk_array(obs, "col", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, CELLS, 0, H5P_DEFAULT, reals);
}

#define CATEGORICAL                                                                                                    \
    {                                                                                                                  \
        "T cell", "B cell", NULL, "T cell", "T cell", "B cell", NULL                                                   \
    }
static const double days[CELLS] = {10.5, 10, NAN, 10.5, 10.5, 10, NAN}, truth[CELLS] = {1, 0, NAN, 1, 1, 0, NAN},
                    whole_numbers[CELLS] = {10, -3, 2, 10, 100, -30, 2},
                    nullable_numbers[CELLS] = {10, -3, NAN, 10, 100, -30, NAN},
                    flag_numbers[CELLS] = {1, 0, 0, 1, 1, 0, 1}, nullable_flags[CELLS] = {1, NAN, 0, 1, 1, 0, 1},
                    none[CELLS] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN},
                    large[CELLS] = {18446744073709551615.0, 5, 5, 5, 5, 5, 40};
static const column_case columns[] = {
    {"int8 codes", cat8, CATEGORICAL, "B cell|T cell", NULL, "categorical (2)"},
    {"int16 codes", cat16, CATEGORICAL, "B cell|T cell", NULL, "categorical (2)"},
    {"int32 codes", cat32, CATEGORICAL, "B cell|T cell", NULL, "categorical (2)"},
    {"int64 codes", cat64, CATEGORICAL, "B cell|T cell", NULL, "categorical (2)"},
    {"nullable categories", cat_nullable, CATEGORICAL, "B cell|T cell", NULL, "categorical (2)"},
    {"fixed categories", cat_fixed, CATEGORICAL, "B cell|T cell", NULL, "categorical (2)"},
    {"referred categories", cat_reference, CATEGORICAL, "B cell|T cell", NULL, "categorical (2)"},
    {"number categories",
     cat_numbers,
     {"10.5", "10.0", NULL, "10.5", "10.5", "10.0", NULL},
     "10.0|10.5",
     days,
     "categorical (2)"},
    {"boolean categories",
     cat_booleans,
     {"True", "False", NULL, "True", "True", "False", NULL},
     "False|True",
     truth,
     "categorical (2)"},
    {"no categories", cat_empty, {NULL}, "", none, "categorical (0)"},
    {"texts", texts, {"b", "a", "", "b", "\xc3\xa9", "a", "b%"}, "|a|b|b%|\xc3\xa9", NULL, "text"},
    {"fixed texts", texts_fixed, {"b", "a", "", "b", "\xc3\xa9", "a", "b%"}, "|a|b|b%|\xc3\xa9", NULL, "text"},
    {"nullable texts",
     texts_nullable,
     {"b", "a", NULL, "b", "\xc3\xa9", "a", "b%"},
     "a|b|b%|\xc3\xa9",
     NULL,
     "nullable text"},
    {"integers",
     integers,
     {"10", "-3", "2", "10", "100", "-30", "2"},
     "-30|-3|2|10|100",
     whole_numbers,
     "number int16"},
    {"nullable integers",
     integers_nullable,
     {"10", "-3", NULL, "10", "100", "-30", NULL},
     "-30|-3|10|100",
     nullable_numbers,
     "nullable number int64"},
    {"unsigned integers",
     integers_unsigned,
     {"18446744073709551615", "5", "5", "5", "5", "5", "40"},
     "5|40|18446744073709551615",
     large,
     "number uint64"},
    {"booleans",
     booleans,
     {"True", "False", "False", "True", "True", "False", "True"},
     "False|True",
     flag_numbers,
     "boolean"},
    {"nullable booleans",
     booleans_nullable,
     {"True", NULL, "False", "True", "True", "False", "True"},
     "False|True",
     nullable_flags,
     "nullable boolean"},
    {"floats", floats, {NULL}, NULL, reals, "number float64"},
};

static int same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static void check_labels(ferry_file *file, const column_case *c, const int64_t *rows, int64_t count)
{
    ferry_labels labels;
    char joined[200] = "";
    ferry_status status = ferry_read_labels(&labels, &world, file, "col", rows, count);
    if (!c->categories) {
        CHECK(status == FERRY_E_FILE && strstr(ferry_error(), "obs/col") && strstr(ferry_error(), "category"));
        return;
    }
    if (status != FERRY_OK) fprintf(stderr, "%s: %s\n", c->name, ferry_error());
    CHECK(status == FERRY_OK);
    if (status != FERRY_OK) return;
    for (int64_t i = 0; i < labels.categories.count; i++) {
        size_t used = strlen(joined);
        snprintf(joined + used, sizeof joined - used, "%s%s", i ? "|" : "", ferry_name(&labels.categories, i));
    }
    if (strcmp(joined, c->categories) != 0) fprintf(stderr, "%s: categories %s\n", c->name, joined);
    CHECK(!strcmp(joined, c->categories));
    CHECK(labels.count == count);
    for (int64_t i = 0; i < count; i++) {
        const char *wanted = c->labels[rows[i]];
        const char *got = labels.code[i] < 0 ? NULL : ferry_name(&labels.categories, labels.code[i]);
        CHECK((!wanted && !got) || (wanted && got && !strcmp(wanted, got)));
    }
    ferry_labels_close(&labels);
}

static void check_numbers(ferry_file *file, const column_case *c, const int64_t *rows, int64_t count)
{
    double *number;
    ferry_status status = ferry_read_numbers(&number, file, "col", rows, count);
    if (!c->numbers) {
        CHECK(status == FERRY_E_FILE && strstr(ferry_error(), "obs/col"));
        return;
    }
    if (status != FERRY_OK) fprintf(stderr, "%s: %s\n", c->name, ferry_error());
    CHECK(status == FERRY_OK);
    if (status != FERRY_OK) return;
    for (int64_t i = 0; i < count; i++) {
        if (!same_number(number[i], c->numbers[rows[i]])) fprintf(stderr, "%s: %g\n", c->name, number[i]);
        CHECK(same_number(number[i], c->numbers[rows[i]]));
    }
    free(number);
}

static void test_columns(void)
{
    static const char *const order[] = {"col"};
    for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
        const column_case *c = columns + k;
        if (world.rank == 0) {
            hid_t obs, file = mk_file(path, &obs, CELLS, GENES, order, 1);
            c->make(obs);
            H5Gclose(obs);
            H5Fclose(file);
        }
        ferry_barrier(&world);
        ferry_file *file;
        ferry_entry *entry;
        int entries;
        int64_t rows[CELLS], count = 0;
        for (int i = world.rank; i < CELLS; i += 1 + i % 2) rows[count++] = i; /* with gaps, other ones on each rank */
        ferry_status status = ferry_file_open(&file, &world, path);
        if (status != FERRY_OK) fprintf(stderr, "%s: %s\n", c->name, ferry_error());
        CHECK(status == FERRY_OK);
        if (status != FERRY_OK) continue;
        CHECK(ferry_file_has_obs(file, "col") && !ferry_file_has_obs(file, "colour"));
        check_labels(file, c, rows, count);
        check_labels(file, c, rows, 0);
        check_numbers(file, c, rows, count);
        CHECK(ferry_file_entries(&entry, &entries, file) == FERRY_OK);
        for (int i = 0; i < entries; i++) {
            if (strcmp(entry[i].path, "obs/col") != 0) continue;
            if (strcmp(entry[i].encoding, c->encoding) != 0) fprintf(stderr, "%s: '%s'\n", c->name, entry[i].encoding);
            CHECK(!strcmp(entry[i].encoding, c->encoding));
        }
        free(entry);
        ferry_file_close(&file);
        ferry_barrier(&world);
    }
}

/* ---- frames ---- */

/* AnnData 0.5: obs, var and obsm are tables, categories lie in uns (a single one as a scalar). */
static void make_compound(void)
{
    typedef struct {
        char index[4];
        int8_t kind, one;
        int64_t n;
        float score;
    } row;
    typedef struct {
        double pca[GENES];
        float umap[2];
    } point;
    row rows[CELLS];
    point points[CELLS];
    for (int i = 0; i < CELLS; i++) {
        memcpy(rows[i].index, (const char[4]){'c', (char)('0' + i)}, 4);
        rows[i].kind = (int8_t)codes[i];
        rows[i].one = 0;
        rows[i].n = whole[i];
        rows[i].score = (float)i / 4;
        memcpy(points[i].pca, x[i], sizeof x[i]);
        points[i].umap[0] = points[i].umap[1] = (float)i;
    }
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), text = mk_text_type(4);
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(row));
    H5Tinsert(type, "index", HOFFSET(row, index), text);
    H5Tinsert(type, "kind", HOFFSET(row, kind), H5T_NATIVE_INT8);
    H5Tinsert(type, "one", HOFFSET(row, one), H5T_NATIVE_INT8);
    H5Tinsert(type, "n", HOFFSET(row, n), H5T_NATIVE_INT64);
    H5Tinsert(type, "score", HOFFSET(row, score), H5T_NATIVE_FLOAT);
    hsize_t cells = CELLS, genes = GENES, dims[2] = {GENES, 2};
    hid_t space = H5Screate_simple(1, &cells, NULL), list = mk_chunks(2, 0);
    hid_t dataset = H5Dcreate2(file, "obs", type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows);
    H5Dclose(dataset);
    H5Tclose(type);
    hid_t pca = H5Tarray_create2(H5T_NATIVE_DOUBLE, 1, dims), umap = H5Tarray_create2(H5T_NATIVE_FLOAT, 1, dims + 1);
    type = H5Tcreate(H5T_COMPOUND, sizeof(point));
    H5Tinsert(type, "X_pca", HOFFSET(point, pca), pca);
    H5Tinsert(type, "X_umap", HOFFSET(point, umap), umap);
    dataset = H5Dcreate2(file, "obsm", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, points);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Tclose(type);
    H5Tclose(pca);
    H5Tclose(umap);
    char names[GENES][4] = {"g0", "g1", "g2", "g3", "g4"};
    type = H5Tcreate(H5T_COMPOUND, 4);
    H5Tinsert(type, "index", 0, text);
    space = H5Screate_simple(1, &genes, NULL);
    dataset = H5Dcreate2(file, "var", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, names);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Tclose(type);
    hid_t uns = mk_group(file, "uns", NULL, NULL), scalar = H5Screate(H5S_SCALAR);
    mk_texts(uns, "kind_categories", two, 2, 6);
    dataset = H5Dcreate2(uns, "one_categories", text, scalar, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(dataset, text, H5S_ALL, H5S_ALL, H5P_DEFAULT, "all");
    H5Dclose(dataset);
    H5Sclose(scalar);
    H5Gclose(uns);
    H5Pclose(list);
    H5Tclose(text);
    csr_old(file);
    H5Fclose(file);
}

static void test_compound(void)
{
    if (world.rank == 0) make_compound();
    ferry_barrier(&world);
    static const int64_t rows[] = {0, 2, 3, 6};
    static const matrix_case pca = {"compound obsm", NULL, "X_pca", ""};
    ferry_file *file;
    ferry_labels labels;
    ferry_names names;
    double *number;
    CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
    if (!file) return;
    for (unsigned set = 0; set < 128; set++) check_rows(file, &pca, set, set % 3 ? 0 : 2, FERRY_FLOAT);
    CHECK(ferry_read_labels(&labels, &world, file, "kind", rows, 4) == FERRY_OK);
    CHECK(labels.categories.count == 2 && labels.code[0] == 1 && labels.code[1] == -1 && labels.code[3] == -1);
    ferry_labels_close(&labels);
    CHECK(ferry_read_labels(&labels, &world, file, "one", rows, 4) == FERRY_OK);
    CHECK(labels.categories.count == 1 && !strcmp(ferry_name(&labels.categories, 0), "all") && labels.code[2] == 0);
    ferry_labels_close(&labels);
    CHECK(ferry_read_labels(&labels, &world, file, "n", rows, 4) == FERRY_OK && labels.categories.count == 5);
    ferry_labels_close(&labels);
    CHECK(ferry_read_numbers(&number, file, "score", rows, 4) == FERRY_OK && number[3] == 1.5);
    free(number);
    CHECK(ferry_read_cell_names(&names, file, rows, 4) == FERRY_OK && !strcmp(ferry_name(&names, 1), "c2"));
    ferry_names_close(&names);
    CHECK(ferry_read_numbers(&number, file, "skore", rows, 4) == FERRY_E_FILE &&
          strstr(ferry_error(), "did you mean 'score'"));
    ferry_file_close(&file);
    ferry_barrier(&world);
}

/* Index as nullable texts, as a category, under another name; names with "/", doubled; a column column-order forgot. */
static void make_indices(void)
{
    static const char *const order[] = {"a/b"}, *const cell[CELLS] = {"c0", "c1", "c2", "c3", "c4", "c5", "c6"};
    static const char *const twice[GENES] = {"l/d", "NK1/1", "same", "same", "x"};
    static const int8_t mask[CELLS] = {0};
    static const int gene_codes[GENES] = {2, 1, 0, 0, 3};
    static const char *const gene[4] = {"same", "NK1/1", "l/d", "x"};
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t obs = mk_frame(file, "obs", NULL, CELLS, order, 1), var = mk_group(file, "var", "dataframe", "0.1.0");
    mk_nullable_texts(obs, "_index", cell, mask, CELLS);
    hid_t nested = mk_group(obs, "a", NULL, NULL);
    mk_categorical(nested, "b", H5T_STD_I8LE, codes, CELLS, two, 2);
    H5Gclose(nested);
    mk_array(obs, "extra", H5T_STD_I32LE, H5T_NATIVE_INT, CELLS, 0, H5P_DEFAULT, whole);
    mk_text_attribute(var, "_index", "gene name");
    mk_categorical(var, "gene name", H5T_STD_I8LE, gene_codes, GENES, gene, 4);
    mk_texts(var, "spare", twice, GENES, 0);
    H5Gclose(obs);
    H5Gclose(var);
    csr(file);
    H5Fclose(file);
}

static void test_indices(void)
{
    if (world.rank == 0) make_indices();
    ferry_barrier(&world);
    static const int64_t rows[] = {1, 2, 6};
    ferry_file *file;
    ferry_labels labels;
    ferry_names names;
    double *number;
    CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
    if (!file) return;
    CHECK(ferry_read_cell_names(&names, file, rows, 3) == FERRY_OK && !strcmp(ferry_name(&names, 2), "c6"));
    ferry_names_close(&names);
    CHECK(ferry_read_gene_names(&names, file, "X", 0, GENES) == FERRY_OK);
    CHECK(!strcmp(ferry_name(&names, 0), "l/d") && !strcmp(ferry_name(&names, 3), "same"));
    ferry_names_close(&names);
    CHECK(ferry_read_labels(&labels, &world, file, "a/b", rows, 3) == FERRY_OK && labels.code[0] == 0);
    ferry_labels_close(&labels);
    CHECK(ferry_read_numbers(&number, file, "extra", rows, 3) == FERRY_OK && number[0] == -3);
    free(number);
    ferry_file_close(&file);
    ferry_barrier(&world);
}

/* ---- scale ---- */

/* Fill values only, 3e9 cells: one row of X is written, and the last row of a sparse layer whose pointers and elements
 * lie beyond 2^31. */
#define MANY ((int64_t)3000000000)
static void put(hid_t dataset, hid_t memory, const int64_t *start, const int64_t *size, const void *values)
{
    hsize_t at[2] = {(hsize_t)start[0], (hsize_t)start[1]}, n[2] = {(hsize_t)size[0], (hsize_t)size[1]};
    hid_t file = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_ndims(file);
    hid_t space = H5Screate_simple(rank, n, NULL);
    H5Sselect_hyperslab(file, H5S_SELECT_SET, at, NULL, n, NULL);
    CHECK(H5Dwrite(dataset, memory, space, file, H5P_DEFAULT, values) >= 0);
    H5Sclose(space);
    H5Sclose(file);
}

static hid_t huge(hid_t parent, const char *name, hid_t type, int64_t rows, int64_t width, int64_t fill)
{
    hsize_t shape[2] = {(hsize_t)rows, (hsize_t)width};
    hid_t list = mk_chunks(1024, width ? 3 : 0), space = H5Screate_simple(width ? 2 : 1, shape, NULL);
    H5Pset_fill_value(list, H5T_NATIVE_INT64, &fill);
    hid_t dataset = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Pclose(list);
    H5Sclose(space);
    return dataset;
}

static void make_many(void)
{
    int64_t shape[2] = {MANY, 3}, nonzeros = MANY + 2, last[2] = {MANY, MANY + 2}, zero = 0, indices[2] = {0, 2};
    float values[3] = {1, 2, 3};
    char **gene = mk_names("g", 3);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t obs = mk_frame(file, "obs", NULL, 0, NULL, 0);
    H5Gclose(mk_frame(file, "var", (const char *const *)gene, 3, NULL, 0));
    mk_names_free(gene);
    hid_t text = mk_text_type(2), names = -1, list = mk_chunks(1024, 0);
    hsize_t rows = (hsize_t)MANY;
    hid_t space = H5Screate_simple(1, &rows, NULL);
    names = H5Dcreate2(obs, "_index", text, space, H5P_DEFAULT, list, H5P_DEFAULT);
    put(names, text, (const int64_t[2]){MANY - 1, 0}, (const int64_t[2]){1, 1}, "zz");
    H5Dclose(names);
    H5Sclose(space);
    H5Tclose(text);
    H5Pclose(list);
    H5Gclose(obs);
    hid_t data = huge(file, "X", H5T_IEEE_F32LE, MANY, 3, 7);
    put(data, H5T_NATIVE_FLOAT, (const int64_t[2]){MANY - 2, 0}, (const int64_t[2]){1, 3}, values);
    H5Dclose(data);
    hid_t layers = mk_group(file, "layers", "dict", "0.1.0"), group = mk_group(layers, "s", "csr_matrix", "0.1.0");
    mk_integers_attribute(group, "shape", shape, 2);
    data = huge(group, "data", H5T_IEEE_F32LE, nonzeros, 0, 0);
    put(data, H5T_NATIVE_FLOAT, (const int64_t[2]){MANY}, (const int64_t[2]){2}, values + 1);
    H5Dclose(data);
    data = huge(group, "indices", H5T_STD_I32LE, nonzeros, 0, 0);
    put(data, H5T_NATIVE_INT64, (const int64_t[2]){MANY}, (const int64_t[2]){2}, indices);
    H5Dclose(data);
    data = huge(group, "indptr", H5T_STD_I64LE, MANY + 1, 0, MANY); /* row 0 holds 3e9 elements, then empty rows */
    put(data, H5T_NATIVE_INT64, (const int64_t[2]){0}, (const int64_t[2]){1}, &zero);
    put(data, H5T_NATIVE_INT64, (const int64_t[2]){MANY - 1}, (const int64_t[2]){2}, last);
    H5Dclose(data);
    H5Gclose(group);
    H5Gclose(layers);
    H5Fclose(file);
}

static void test_many(void)
{
    if (world.rank == 0) make_many();
    ferry_barrier(&world);
    static const int64_t rows[] = {5, ((int64_t)1 << 31) + 1, MANY - 2, MANY - 1};
    ferry_file *file;
    ferry_matrix m;
    ferry_names names;
    CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
    if (!file) return;
    CHECK(ferry_file_cells(file) == MANY);
    CHECK(ferry_read_rep(&m, file, "X", 0, FERRY_FLOAT, rows, 4) == FERRY_OK);
    CHECK(m.rows == 4 && m.f[0] == 7 && m.f[5] == 7 && m.f[6] == 1 && m.f[8] == 3 && m.f[9] == 7);
    ferry_matrix_close(&m);
    CHECK(ferry_read_rep(&m, file, "layers/s", 0, FERRY_DOUBLE, rows, 4) == FERRY_OK);
    CHECK(m.rows == 4 && m.d[0] == 0 && m.d[8] == 0 && m.d[9] == 2 && m.d[10] == 0 && m.d[11] == 3);
    ferry_matrix_close(&m);
    CHECK(ferry_read_cell_names(&names, file, rows + 2, 2) == FERRY_OK && !strcmp(ferry_name(&names, 1), "zz"));
    ferry_names_close(&names);
    ferry_selection all;
    int64_t three[3];
    CHECK(ferry_select_open(&all, &world, file, NULL, 0) == FERRY_OK && all.cells == MANY);
    CHECK(ferry_select_rows(three, &world, &all, MANY - 3, 3) == FERRY_OK && three[2] == MANY - 1);
    ferry_select_close(&all);
    ferry_file_close(&file);
    ferry_barrier(&world);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    snprintf(path, sizeof path, "test_encodings.np%d.h5ad", world.size);
    test_matrices();
    test_columns();
    test_compound();
    test_indices();
    test_many();
    if (world.rank == 0) remove(path);
    ferry_world_close(&world);
    return test_end();
}

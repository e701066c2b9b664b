/* Reading across ranks, lists of files, messages, bounded slabs; real cells; and, where FERRY_REAL_DATA names a
 * folder of .h5ad files, everything in every one of them. */
#include "io/population.h"
#include "make_h5ad.h"
#include "mpi/log.h"
#include "test.h"
#include <dirent.h>
#include <math.h>

static ferry_world world;
static char path[64], second[64], list[64], list_arg[80];

/* This rank's even share of n rows, as a list; free it. */
static int64_t *share(int64_t *count, int64_t n)
{
    int64_t first = n * world.rank / world.size, end = n * (world.rank + 1) / world.size;
    int64_t *rows = calloc((size_t)(end - first + 1), sizeof *rows);
    for (int64_t i = first; i < end; i++) rows[i - first] = i;
    *count = end - first;
    return rows;
}

static double total(double mine)
{
    double sum = 0;
    MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return sum;
}

/* Sum of a representation over all ranks, and its fingerprint, which may not depend on their number. */
static double sum_of(ferry_file *file, const char *rep, ferry_precision precision, uint64_t *print)
{
    int64_t count;
    int64_t *rows = share(&count, ferry_file_cells(file));
    ferry_matrix m;
    double sum = 0;
    ferry_status status = ferry_read_rep(&m, file, rep, 0, precision, rows, count);
    if (status != FERRY_OK) fprintf(stderr, "%s\n", ferry_error());
    CHECK(status == FERRY_OK);
    for (int64_t i = 0; i < m.rows * m.dim; i++) sum += m.f ? (double)m.f[i] : m.d[i];
    *print = status == FERRY_OK ? ferry_fingerprint(&m, count ? rows[0] : 0) : 0;
    *print = (uint64_t)ferry_total(&world, (int64_t)*print);
    ferry_matrix_close(&m);
    free(rows);
    return total(sum);
}

/* 700 cells of AnnData 0.5: tables, codes with their categories in uns, raw.X, dense gzip. Numbers are anndata's. */
static void test_real(void)
{
    char name[4096];
    static const int64_t some[] = {0, 1, 699};
    static const int64_t sizes[] = {68, 8, 19, 54, 43, 129, 95, 13, 31, 240};
    const char *folder = getenv("FERRY_DATA");
    snprintf(name, sizeof name, "%s/pbmc68k_reduced.h5ad", folder ? folder : "data");
    ferry_file *file;
    ferry_status status = ferry_file_open(&file, &world, name);
    if (status != FERRY_OK) fprintf(stderr, "%s\n", ferry_error());
    CHECK(status == FERRY_OK);
    if (status != FERRY_OK) return;
    CHECK(ferry_file_cells(file) == 700 && ferry_file_genes(file) == 765);
    CHECK(!strcmp(ferry_file_default_rep(file), "X_pca"));
    uint64_t print;
    CHECK(fabs(sum_of(file, "X_pca", FERRY_FLOAT, &print) - 0.0018205521701020189) < 1e-9);
    CHECK(print == UINT64_C(0xa4c9e050f81f2326));
    CHECK(fabs(sum_of(file, "X", FERRY_FLOAT, &print) + 243.681057988666) < 1e-6);
    CHECK(fabs(sum_of(file, "raw/X", FERRY_DOUBLE, &print) - 319044.23824107647) < 1e-5);
    ferry_matrix m;
    CHECK(ferry_read_rep(&m, file, "X_pca", 0, FERRY_FLOAT, some, 3) == FERRY_OK);
    CHECK(m.dim == 50 && m.f[0] == -7.939618F && m.f[149] == 0.64597267F);
    ferry_matrix_close(&m);
    ferry_names names;
    CHECK(ferry_read_cell_names(&names, file, some, 3) == FERRY_OK &&
          !strcmp(ferry_name(&names, 2), "TTGAGGTGGAGAGC-8"));
    ferry_names_close(&names);
    CHECK(ferry_read_gene_names(&names, file, "raw/X", 764, 1) == FERRY_OK && !strcmp(ferry_name(&names, 0), "MT-ND3"));
    ferry_names_close(&names);
    int64_t count, seen[10] = {0};
    int64_t *rows = share(&count, 700);
    ferry_labels labels;
    CHECK(ferry_read_labels(&labels, &world, file, "bulk_labels", rows, count) == FERRY_OK);
    for (int64_t i = 0; i < labels.count; i++) seen[labels.code[i]]++;
    ferry_total_counts(&world, seen, 10);
    CHECK(labels.categories.count == 10 && !memcmp(seen, sizes, sizeof sizes));
    CHECK(!strcmp(ferry_name(&labels.categories, 9), "Dendritic"));
    ferry_labels_close(&labels);
    double *number, sum = 0;
    CHECK(ferry_read_numbers(&number, file, "n_genes", rows, count) == FERRY_OK);
    for (int64_t i = 0; i < count; i++) sum += number[i];
    CHECK(total(sum) == 830061);
    free(number);
    free(rows);
    int dim;
    CHECK(ferry_rep_dim(&dim, file, "X_pka", 0) == FERRY_E_FILE && strstr(ferry_error(), "did you mean 'X_pca'"));
    CHECK(ferry_rep_dim(&dim, file, "X_pca", 51) == FERRY_E_FILE && strstr(ferry_error(), "50 columns"));
    CHECK(ferry_rep_dim(&dim, file, "X_pca", 7) == FERRY_OK && dim == 7);
    ferry_file_close(&file);
}

/* ---- lists of files ---- */

/* Part p of a list: 3 + p cells with X_pca, X (CSR), a categorical, a text column; genes in another order if turned. */
static void make_part(const char *name, int p, int turned, int width)
{
    static const char *const order[] = {"kind", "word", "n"};
    static const char *const kinds[2][3] = {{"beta", "alpha", ""}, {"gamma", "beta", "alpha"}};
    static const char *const words[] = {"w2", "w1", "w9", "w1", "w5"};
    static const int codes[] = {0, 1, -1, 0, 2}, n[] = {5, 4, 3, 2, 1};
    int cells = 3 + p;
    hid_t obs, file = mk_file(name, &obs, cells, 3, order, 3);
    hsize_t rows = (hsize_t)cells;
    mk_categorical(obs, "kind", H5T_STD_I8LE, p ? codes + 1 : codes, rows, kinds[p], p ? 3 : 2);
    mk_texts(obs, "word", words + p, rows, 0);
    mk_array(obs, "n", p ? H5T_STD_I64LE : H5T_STD_I8LE, H5T_NATIVE_INT, rows, 0, H5P_DEFAULT, n + p);
    if (turned) {
        static const char *const genes[] = {"g0", "g2", "g1"};
        H5Ldelete(file, "var", H5P_DEFAULT);
        H5Gclose(mk_frame(file, "var", genes, 3, NULL, 0));
    }
    double x[5 * 3], pca[5 * 4];
    for (int i = 0; i < cells; i++) {
        for (int j = 0; j < 3; j++) x[i * 3 + j] = 100 * p + 10 * i + j;
        for (int j = 0; j < width; j++) pca[i * width + j] = 1000 * p + 10 * i + j;
    }
    mk_array(file, "X", H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, rows, 3, H5P_DEFAULT, x);
    hid_t group = mk_group(file, "obsm", "dict", "0.1.0");
    mk_array(group, "X_pca", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, rows, (hsize_t)width, H5P_DEFAULT, pca);
    H5Gclose(group);
    H5Gclose(obs);
    H5Fclose(file);
}

static void make_list(int turned, int width)
{
    ferry_barrier(&world);
    if (world.rank == 0) {
        make_part(path, 0, 0, 4);
        make_part(second, 1, turned, width);
        FILE *text = fopen(list, "w");
        CHECK(text != NULL);
        if (text) {
            fprintf(text, "# two files\n%s\n\n  %s  \n", path, second);
            fclose(text);
        }
    }
    ferry_barrier(&world);
}

static void test_list(void)
{
    static const int64_t rows[] = {0, 2, 3, 6};
    ferry_file *file;
    ferry_matrix m;
    ferry_labels labels;
    ferry_names names;
    double *number;
    make_list(0, 4);
    ferry_status status = ferry_file_open(&file, &world, list_arg);
    if (status != FERRY_OK) fprintf(stderr, "%s\n", ferry_error());
    CHECK(status == FERRY_OK);
    if (status != FERRY_OK) return;
    CHECK(ferry_file_cells(file) == 7 && !strcmp(ferry_file_path(file), list_arg));
    CHECK(ferry_read_rep(&m, file, "X_pca", 2, FERRY_FLOAT, rows, 4) == FERRY_OK);
    CHECK(m.f[0] == 0 && m.f[2] == 20 && m.f[4] == 1000 && m.f[7] == 1031);
    ferry_matrix_close(&m);
    CHECK(ferry_read_rep(&m, file, "X", 0, FERRY_FLOAT, rows, 4) == FERRY_OK && m.f[11] == 132);
    ferry_matrix_close(&m);
    /* categories: beta alpha, then gamma; codes of part 1 (1, -1, 0, 2) mean beta, none, gamma, alpha */
    CHECK(ferry_read_labels(&labels, &world, file, "kind", rows, 4) == FERRY_OK);
    CHECK(labels.categories.count == 3 && !strcmp(ferry_name(&labels.categories, 2), "gamma"));
    CHECK(labels.code[0] == 0 && labels.code[1] == -1 && labels.code[2] == 0 && labels.code[3] == 1);
    ferry_labels_close(&labels);
    CHECK(ferry_read_labels(&labels, &world, file, "word", rows, 4) == FERRY_OK);
    CHECK(labels.categories.count == 4 && labels.code[0] == 1 && labels.code[1] == 3 && labels.code[2] == 0 &&
          labels.code[3] == 2);
    ferry_labels_close(&labels);
    CHECK(ferry_read_numbers(&number, file, "n", rows, 4) == FERRY_OK && number[0] == 5 && number[3] == 1);
    free(number);
    CHECK(ferry_read_cell_names(&names, file, rows, 4) == FERRY_OK && !strcmp(ferry_name(&names, 3), "c3"));
    ferry_names_close(&names);
    ferry_file_close(&file);

    int dim;
    make_list(1, 3); /* other genes, another width */
    CHECK(ferry_file_open(&file, &world, list_arg) == FERRY_OK);
    CHECK(ferry_rep_dim(&dim, file, "X", 0) == FERRY_E_FILE && strstr(ferry_error(), "gene 1 is 'g2'"));
    CHECK(ferry_rep_dim(&dim, file, "X_pca", 0) == FERRY_E_FILE && strstr(ferry_error(), "3 columns, but 4"));
    ferry_file_close(&file);
    ferry_barrier(&world);
    if (world.rank == 0) remove(second);
    ferry_barrier(&world);
    CHECK(ferry_file_open(&file, &world, list_arg) == FERRY_E_FILE && strstr(ferry_error(), second));
    CHECK(file == NULL);
    CHECK(ferry_file_open(&file, &world, "@no-such-list.txt") == FERRY_E_FILE);
    if (world.rank == 0) remove(list);
}

/* ---- slabs and chunks ---- */

/* 300 x 40 in chunks larger and smaller than anything wanted; all strides of rows give what is stored. */
static void test_chunks(void)
{
    static const hsize_t shapes[][2] = {{1, 40}, {7, 3}, {300, 40}, {256, 1}, {64, 64}};
    float *x = malloc(sizeof(float) * 300 * 40);
    for (int i = 0; i < 300 * 40; i++) x[i] = (float)(i % 4093) / 8;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        ferry_barrier(&world);
        if (world.rank == 0) {
            hid_t obs, file = mk_file(path, &obs, 300, 40, NULL, 0);
            hid_t dcpl = mk_chunks(shapes[k][0], shapes[k][1] > 40 ? 40 : shapes[k][1]);
            H5Pset_deflate(dcpl, 1);
            mk_array(file, "X", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 300, 40, dcpl, x);
            H5Pclose(dcpl);
            H5Gclose(obs);
            H5Fclose(file);
        }
        ferry_barrier(&world);
        ferry_file *file;
        CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
        if (!file) break;
        for (int step = 1; step < 300; step = 2 * step + 1) {
            int64_t rows[300], count = 0;
            ferry_matrix m;
            for (int i = world.rank; i < 300; i += step) rows[count++] = i;
            CHECK(ferry_read_rep(&m, file, "X", step % 3 ? 0 : 11, FERRY_FLOAT, rows, count) == FERRY_OK);
            int good = 1;
            for (int64_t i = 0; i < m.rows; i++)
                good = good && !memcmp(m.f + i * m.dim, x + rows[i] * 40, sizeof(float) * (size_t)m.dim);
            CHECK(good);
            ferry_matrix_close(&m);
        }
        int64_t twice[] = {3, 3}, beyond[] = {300};
        ferry_matrix m;
        CHECK(ferry_read_rep(&m, file, "X", 0, FERRY_FLOAT, twice, 2) == FERRY_E_ARG);
        CHECK(ferry_read_rep(&m, file, "X", 0, FERRY_FLOAT, beyond, 1) == FERRY_E_ARG);
        ferry_file_close(&file);
    }
    free(x);
}

/* 24 MiB a row of chunks: read in stripes of columns. Only some chunks are stored, the others are fill values. */
static void test_wide(void)
{
    ferry_barrier(&world);
    if (world.rank == 0) {
        hid_t obs, file = mk_file(path, &obs, 600, 12000, NULL, 0);
        hsize_t shape[2] = {600, 12000};
        hid_t dcpl = mk_chunks(600, 900), space = H5Screate_simple(2, shape, NULL);
        float fill = 3, some[5] = {10, 11, 12, 13, 14};
        H5Pset_fill_value(dcpl, H5T_NATIVE_FLOAT, &fill);
        H5Pset_deflate(dcpl, 1);
        hid_t x = H5Dcreate2(file, "X", H5T_IEEE_F32LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
        hsize_t start[2] = {599, 8998}, size[2] = {1, 5};
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL);
        hid_t memory = H5Screate_simple(2, size, NULL);
        CHECK(H5Dwrite(x, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, some) >= 0);
        H5Sclose(memory);
        H5Sclose(space);
        H5Dclose(x);
        H5Pclose(dcpl);
        H5Gclose(obs);
        H5Fclose(file);
    }
    ferry_barrier(&world);
    static const int64_t rows[] = {0, 300, 301, 599};
    ferry_file *file;
    ferry_matrix m;
    CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
    if (!file) return;
    CHECK(ferry_read_rep(&m, file, "X", 0, FERRY_FLOAT, rows, 4) == FERRY_OK);
    double sum = 0;
    for (int64_t i = 0; i < m.rows * m.dim; i++) sum += m.f[i];
    CHECK(sum == 3.0 * 4 * 12000 + 60 - 15 && m.f[3 * 12000 + 8998] == 10 && m.f[3 * 12000 + 9002] == 14);
    ferry_matrix_close(&m);
    ferry_file_close(&file);
}

/* ---- distinct values ---- */

/* More distinct texts than one rank sees; each is told once, order does not depend on the ranks. */
static void test_distinct(void)
{
    enum { N = 1000 };
    static const char *const order[] = {"text"};
    ferry_barrier(&world);
    if (world.rank == 0) {
        char **word = mk_names("w", N);
        for (int i = 0; i < N; i++) snprintf(word[i], 24, "w%d", (i * 7919) % 401);
        hid_t obs, file = mk_file(path, &obs, N, 1, order, 1);
        mk_texts(obs, "text", (const char *const *)word, N, 0);
        H5Gclose(obs);
        H5Fclose(file);
        mk_names_free(word);
    }
    ferry_barrier(&world);
    int64_t count;
    ferry_file *file;
    ferry_labels labels;
    CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
    if (!file) return;
    int64_t *rows = share(&count, N);
    CHECK(ferry_read_labels(&labels, &world, file, "text", rows, count) == FERRY_OK);
    CHECK(labels.categories.count == 401);
    for (int64_t i = 1; i < labels.categories.count; i++)
        CHECK(strcmp(ferry_name(&labels.categories, i - 1), ferry_name(&labels.categories, i)) < 0);
    for (int64_t i = 0; i < count; i++) {
        char wanted[24];
        int64_t row = rows ? rows[i] : 0;
        snprintf(wanted, sizeof wanted, "w%d", (int)(row * 7919 % 401));
        CHECK(!strcmp(ferry_name(&labels.categories, labels.code[i]), wanted));
    }
    ferry_labels_close(&labels);
    CHECK(ferry_read_labels(&labels, &world, file, "texts", rows, count) == FERRY_E_FILE &&
          strstr(ferry_error(), "did you mean 'text'"));
    ferry_file_close(&file);
    free(rows);
}

/* A chunk broken on the disk: one rank alone meets it, all leave. */
static void test_one_rank_fails(void)
{
    float x[64 * 4];
    for (int i = 0; i < 256; i++) x[i] = (float)i;
    ferry_barrier(&world);
    if (world.rank == 0) {
        hid_t obs, file = mk_file(path, &obs, 64, 4, NULL, 0);
        hid_t dcpl = mk_chunks(4, 4);
        H5Pset_fletcher32(dcpl);
        mk_array(file, "X", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 64, 4, dcpl, x);
        hid_t data = H5Dopen2(file, "X", H5P_DEFAULT);
        hsize_t last[2] = {60, 0};
        char bytes[68] = {1, 2, 3};
        CHECK(H5Dwrite_chunk(data, H5P_DEFAULT, 0, last, sizeof bytes, bytes) >= 0);
        H5Dclose(data);
        H5Pclose(dcpl);
        H5Gclose(obs);
        H5Fclose(file);
    }
    ferry_barrier(&world);
    ferry_population_options options = {.path = path};
    ferry_population population;
    ferry_matrix m;
    CHECK(ferry_population_open(&population, &world, &options) == FERRY_OK);
    int64_t first = 64 * world.rank / world.size, end = 64 * (world.rank + 1) / world.size;
    CHECK(ferry_population_points(&m, &world, &population, first, end - first, FERRY_FLOAT, NULL) == FERRY_E_FILE);
    CHECK(strstr(ferry_error(), path) && strstr(ferry_error(), "X:") && strstr(ferry_error(), "checksum"));
    ferry_population_close(&population);
}

/* ---- every file of a folder ---- */

static void read_everything(const char *name)
{
    ferry_file *file;
    ferry_entry *entry = NULL;
    int entries = 0, failed = 0;
    ferry_status status = ferry_file_open(&file, &world, name);
    if (status != FERRY_OK) fprintf(stderr, "%s\n", ferry_error());
    CHECK(status == FERRY_OK);
    if (status != FERRY_OK) return;
    int64_t count;
    int64_t *rows = share(&count, ferry_file_cells(file));
    CHECK(ferry_file_entries(&entry, &entries, file) == FERRY_OK && entries > 0);
    for (int i = 0; i < entries; i++) {
        CHECK(strcmp(entry[i].encoding, "unreadable") != 0);
        ferry_matrix m = {0};
        ferry_labels labels = {0};
        double *number = NULL;
        status = FERRY_OK;
        if (!strncmp(entry[i].use, "--rep ", 6))
            status = ferry_read_rep(&m, file, entry[i].use + 6, 0, FERRY_FLOAT, rows, count);
        else if (!strncmp(entry[i].path, "obs/", 4) && strstr(entry[i].encoding, "float"))
            status = ferry_read_numbers(&number, file, entry[i].path + 4, rows, count);
        else if (!strncmp(entry[i].path, "obs/", 4))
            status = ferry_read_labels(&labels, &world, file, entry[i].path + 4, rows, count);
        ferry_matrix_close(&m);
        ferry_labels_close(&labels);
        free(number);
        /* the one thing in AnnData's own archive that is no representation: a frame with categories that are no numbers
         */
        bool frame =
            !strcmp(entry[i].encoding, "data frame") && status == FERRY_E_FILE && strstr(ferry_error(), "numbers");
        if (status != FERRY_OK && !frame) fprintf(stderr, "%s: %s\n", entry[i].path, ferry_error());
        failed += status != FERRY_OK && !frame;
    }
    CHECK(failed == 0);
    if (world.rank == 0) printf("%s: %d entries\n", name, entries);
    free(entry);
    free(rows);
    ferry_file_close(&file);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_folder(void)
{
    const char *folder = getenv("FERRY_REAL_DATA");
    if (!folder) {
        if (world.rank == 0) printf("skipped: FERRY_REAL_DATA not set\n");
        return;
    }
    DIR *open = opendir(folder);
    CHECK(open != NULL);
    if (!open) return;
    char *names[1000];
    int count = 0;
    for (struct dirent *item; (item = readdir(open)) && count < 1000;) {
        size_t length = strlen(item->d_name);
        if (length > 5 && !strcmp(item->d_name + length - 5, ".h5ad")) names[count++] = strdup(item->d_name);
    }
    closedir(open);
    qsort(names, (size_t)count, sizeof *names, by_name); /* folders list in any order; ranks must not */
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        read_everything(name);
        free(names[i]);
    }
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    snprintf(path, sizeof path, "test_read.np%d.h5ad", world.size);
    snprintf(second, sizeof second, "test_read.np%d.b.h5ad", world.size);
    snprintf(list, sizeof list, "test_read.np%d.txt", world.size);
    snprintf(list_arg, sizeof list_arg, "@%s", list);
    test_real();
    test_list();
    test_chunks();
    test_wide();
    test_distinct();
    test_one_rank_fails();
    test_folder();
    ferry_barrier(&world);
    if (world.rank == 0) remove(path);
    ferry_world_close(&world);
    return test_end();
}

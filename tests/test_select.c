/* Filters and populations: the same kept cells on any number of ranks, any range from any rank, messages. */
#include "io/population.h"
#include "make_h5ad.h"
#include "test.h"
#include <math.h>

#define CELLS 20
static ferry_world world;
static char path[64];

/* Cell i: kind a, b, "a,b", missing, ...; day 10, 10.5 or 11 (float categories); n = i / 4; word w0 ... w4; flag i
 * even; weight i, -1 at 19, NaN at 18; score i / 2; X_pca = (i, -i), NaN in cell 7, infinity in cell 13. */
static void make(void)
{
    static const char *const order[] = {"kind", "day", "n", "word", "flag", "weight", "score", "a=b"};
    static const char *const kinds[] = {"a", "b", "a,b", "unused"};
    static const double days[] = {10, 10.5, 11};
    int kind[CELLS], day[CELLS], n[CELLS];
    double weight[CELLS], score[CELLS], pca[CELLS][2];
    int8_t flag[CELLS];
    char **word = mk_names("w", CELLS);
    for (int i = 0; i < CELLS; i++) {
        kind[i] = i % 4 == 3 ? -1 : i % 4;
        day[i] = i % 3;
        n[i] = i / 4;
        snprintf(word[i], 24, "w%d", i % 5);
        flag[i] = i % 2 == 0;
        weight[i] = i == 19 ? -1 : i == 18 ? NAN : i;
        score[i] = i / 2.0;
        pca[i][0] = i == 7 ? NAN : i;
        pca[i][1] = i == 13 ? INFINITY : -i;
    }
    hid_t obs, file = mk_file(path, &obs, CELLS, 1, order, 8), type = mk_bool();
    mk_categorical(obs, "kind", H5T_STD_I8LE, kind, CELLS, kinds, 4);
    mk_categorical(obs, "day", H5T_STD_I8LE, day, CELLS, NULL, 0);
    mk_array(obs, "day/categories", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 3, 0, H5P_DEFAULT, days);
    mk_array(obs, "n", H5T_STD_I64LE, H5T_NATIVE_INT, CELLS, 0, H5P_DEFAULT, n);
    snprintf(word[4], 24, "w3,w4");
    mk_texts(obs, "word", (const char *const *)word, CELLS, 0);
    mk_array(obs, "flag", type, type, CELLS, 0, H5P_DEFAULT, flag);
    mk_array(obs, "weight", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, CELLS, 0, H5P_DEFAULT, weight);
    mk_array(obs, "score", H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, CELLS, 0, H5P_DEFAULT, score);
    mk_array(obs, "a=b", H5T_STD_I32LE, H5T_NATIVE_INT, CELLS, 0, H5P_DEFAULT, n);
    hid_t obsm = mk_group(file, "obsm", "dict", "0.1.0");
    mk_array(obsm, "X_pca", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, CELLS, 2, H5P_DEFAULT, pca);
    H5Gclose(obsm);
    H5Gclose(obs);
    H5Tclose(type);
    H5Fclose(file);
    mk_names_free(word);
}

typedef struct select_case {
    const char *where[3]; /* NULL ends */
    const char *kept;     /* cells in order, " 1 2"; NULL: refused, with `says` in the message */
    const char *says;
} select_case;

static const select_case cases[] = {
    {{"kind=a"}, " 0 4 8 12 16", NULL},
    {{"kind=a,b"}, " 2 6 10 14 18", NULL}, /* a category of this name exists: the parts are not meant */
    {{"kind=a", "kind=b"}, " 0 1 4 5 8 9 12 13 16 17", NULL},
    {{"kind=b,a"}, " 0 1 4 5 8 9 12 13 16 17", NULL},
    {{"day=10.5"}, " 1 4 7 10 13 16 19", NULL},
    {{"day=10"}, " 0 3 6 9 12 15 18", NULL}, /* 10 is 10.0 */
    {{"day=10.0,11"}, " 0 2 3 5 6 8 9 11 12 14 15 17 18", NULL},
    {{"day=10", "kind=a"}, " 0 12", NULL},
    {{"n=2"}, " 8 9 10 11", NULL},
    {{"n=2.0,4"}, " 8 9 10 11 16 17 18 19", NULL},
    {{"word=w3"}, " 3 8 13 18", NULL},
    {{"word=w3,w4"}, " 4", NULL}, /* a cell has the whole text */
    {{"word=w4,w3"}, " 3 8 9 13 14 18 19", NULL},
    {{"word=w3,w4", "word=w0"}, " 0 4 5 10 15", NULL},
    {{"flag=True", "n=0,1"}, " 0 2 4 6", NULL},
    {{"flag=false", "n=0"}, " 1 3", NULL},
    {{"score=3.5"}, " 7", NULL},
    {{"score=3.50,9"}, " 7 18", NULL},
    {{"a=b=4"}, " 16 17 18 19", NULL},
    {{"kind=unused"}, NULL, "no cell passes the filters: kind=unused alone keeps 0"},
    {{"kind=a", "n=0", "day=10.5"}, NULL, "n=0 alone keeps 4"},
    {{"kind=c"}, NULL, "there are: a, b, a,b, unused"},
    {{"kind=a,unusde"}, NULL, "did you mean 'unused'"},
    {{"n=77"}, NULL, "obs/n: no cell has '77'"},
    {{"word=W2"}, NULL, "did you mean 'w2'"},
    {{"kin=a"}, NULL, "no column 'kin'; did you mean 'kind'?"},
};

static const char *text_of(char *text, size_t size, const int64_t *rows, int64_t count)
{
    size_t used = 0;
    text[0] = 0;
    for (int64_t i = 0; i < count && used + 16 < size; i++)
        used += (size_t)snprintf(text + used, size - used, " %lld", (long long)rows[i]);
    return text;
}

static void check_kept(const ferry_selection *s, const select_case *c)
{
    char text[200];
    int64_t *rows = malloc(sizeof *rows * (CELLS + 1));
    CHECK(s->cells <= CELLS && !s->all);
    /* everything on every rank; nothing on odd ranks; an even share */
    CHECK(ferry_select_rows(rows, &world, s, 0, s->cells) == FERRY_OK);
    if (strcmp(text_of(text, sizeof text, rows, s->cells), c->kept) != 0)
        fprintf(stderr, "%s: %s\n", c->where[0], text);
    CHECK(!strcmp(text, c->kept));
    int64_t count = world.rank % 2 ? 0 : s->cells;
    CHECK(ferry_select_rows(rows, &world, s, s->cells - count, count) == FERRY_OK);
    CHECK(!strcmp(text_of(text, sizeof text, rows, count), count ? c->kept : ""));
    int64_t first = s->cells * world.rank / world.size, end = s->cells * (world.rank + 1) / world.size;
    CHECK(ferry_select_rows(rows, &world, s, first, end - first) == FERRY_OK);
    text_of(text, sizeof text, rows, end - first);
    CHECK(strstr(c->kept, text) != NULL);
    CHECK(ferry_select_rows(rows, &world, s, 0, world.rank == world.size - 1 ? s->cells + 1 : 0) == FERRY_E_ARG);
    free(rows);
}

static void test_filters(void)
{
    ferry_file *file;
    CHECK(ferry_file_open(&file, &world, path) == FERRY_OK);
    if (!file) return;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const select_case *c = cases + k;
        int filters = 0;
        while (filters < 3 && c->where[filters]) filters++;
        ferry_selection s;
        ferry_status status = ferry_select_open(&s, &world, file, c->where, filters);
        if (c->kept) {
            if (status != FERRY_OK) fprintf(stderr, "%s\n", ferry_error());
            CHECK(status == FERRY_OK && s.filters == filters);
            if (status == FERRY_OK) check_kept(&s, c);
        } else {
            CHECK(status == FERRY_E_FILE && strstr(ferry_error(), path));
            if (!strstr(ferry_error(), c->says)) fprintf(stderr, "%s: %s\n", c->where[0], ferry_error());
            CHECK(strstr(ferry_error(), c->says) != NULL);
        }
        ferry_select_close(&s);
    }
    static const char *const bad[] = {"kind"}, *const both[] = {"n=1,2", "kind=a"};
    ferry_selection s;
    CHECK(ferry_select_open(&s, &world, file, bad, 1) == FERRY_E_ARG && strstr(ferry_error(), "COLUMN=VALUE"));
    CHECK(ferry_select_open(&s, &world, file, both, 2) == FERRY_OK);
    CHECK(s.cells == 2 && s.kept_by[0] == 8 && s.kept_by[1] == 5);
    ferry_select_close(&s);
    CHECK(ferry_select_open(&s, &world, file, NULL, 0) == FERRY_OK && s.all && s.cells == CELLS);
    int64_t row = -1;
    CHECK(ferry_select_rows(&row, &world, &s, CELLS - 1, 1) == FERRY_OK && row == CELLS - 1);
    ferry_select_close(&s);
    ferry_file_close(&file);
}

static void test_population(void)
{
    static const char *const first_half[] = {"n=0,1,2"}, *const clean[] = {"n=0"};
    ferry_population_options options = {.path = path, .where = first_half, .filters = 1, .weights = "weight"};
    ferry_population p;
    ferry_matrix m;
    ferry_names names;
    double *weight;
    int64_t bad, *rows;
    CHECK(ferry_population_open(&p, &world, &options) == FERRY_OK);
    CHECK(p.cells == 12 && p.dim == 2 && !strcmp(p.options.rep, "X_pca"));
    int64_t first = 12 * world.rank / world.size, count = 12 * (world.rank + 1) / world.size - first;
    CHECK(ferry_population_points(&m, &world, &p, first, count, FERRY_DOUBLE, &bad) == FERRY_OK);
    CHECK(ferry_total(&world, bad) == 1 && m.rows == count);
    for (int64_t i = 0; i < m.rows; i++) CHECK(m.d[2 * i + 1] == -(double)(first + i));
    ferry_matrix_close(&m);
    CHECK(ferry_population_points(&m, &world, &p, first, count, FERRY_FLOAT, NULL) == FERRY_E_FILE);
    CHECK(strstr(ferry_error(), "obsm/X_pca: cell 'c7' (row 7) has NaN in column 0") &&
          strstr(ferry_error(), "1 cells in all"));
    CHECK(!m.f);
    CHECK(ferry_population_weights(&weight, &world, &p, first, count) == FERRY_OK);
    for (int64_t i = 0; i < count; i++) CHECK(weight[i] == (double)(first + i));
    free(weight);
    CHECK(ferry_population_names(&names, &world, &p, 11, 1) == FERRY_OK && !strcmp(ferry_name(&names, 0), "c11"));
    ferry_names_close(&names);
    CHECK(ferry_population_rows(&rows, &world, &p, 11, 1) == FERRY_OK && rows[0] == 11);
    free(rows);
    ferry_population_close(&p);

    options.where = clean;
    options.weights = NULL;
    options.dims = 1;
    CHECK(ferry_population_open(&p, &world, &options) == FERRY_OK && p.cells == 4 && p.dim == 1);
    CHECK(ferry_population_points(&m, &world, &p, 0, 4, FERRY_FLOAT, NULL) == FERRY_OK && m.dim == 1 && m.f[3] == 3);
    ferry_matrix_close(&m);
    CHECK(ferry_population_weights(&weight, &world, &p, 0, 4) == FERRY_OK && weight[2] == 0.25);
    free(weight);
    ferry_population_close(&p);

    options = (ferry_population_options){.path = path, .weights = "weight"};
    CHECK(ferry_population_open(&p, &world, &options) == FERRY_OK);
    CHECK(ferry_population_weights(&weight, &world, &p, 19, 1) == FERRY_E_FILE && strstr(ferry_error(), "a negative"));
    CHECK(ferry_population_weights(&weight, &world, &p, 18, 1) == FERRY_E_FILE && strstr(ferry_error(), "a missing"));
    CHECK(weight == NULL);
    ferry_population_close(&p);
    options.weights = "word";
    CHECK(ferry_population_open(&p, &world, &options) == FERRY_E_FILE && strstr(ferry_error(), "obs/word"));
    options.weights = NULL;
    options.rep = "X_umap";
    CHECK(ferry_population_open(&p, &world, &options) == FERRY_E_FILE && strstr(ferry_error(), "X_umap"));
    options.path = "absent.h5ad";
    CHECK(ferry_population_open(&p, &world, &options) == FERRY_E_FILE && strstr(ferry_error(), "absent.h5ad: no such"));
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    snprintf(path, sizeof path, "test_select.np%d.h5ad", world.size);
    if (world.rank == 0) make();
    ferry_barrier(&world);
    test_filters();
    test_population();
    ferry_barrier(&world);
    if (world.rank == 0) remove(path);
    ferry_world_close(&world);
    return test_end();
}

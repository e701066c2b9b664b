/* evaluate: sklearn's figures of a small case, CellMapper's agreement of genes, percentiles as numpy gives them; the
 * same bits for any number of ranks. */
#include "io/read.h"
#include "neighbors/evaluate.h"
#include "neighbors/transfer.h"
#include "oracle.h"
#include "test.h"
#include <math.h>

static void add(ferry_names *names, const char *const *text)
{
    for (; *text; text++) CHECK(ferry_names_add(names, *text, (int64_t)strlen(*text)) == FERRY_OK);
}

static int64_t from(const ferry_world *world, int64_t count, int rank)
{
    return count * rank / world->size;
}

/* ---- labels ---- */

/* Cell i of 500; sklearn 1.9 gave the numbers below for them (zero_division 0). */
static void cell(int64_t i, int32_t *truth, int32_t *prediction, float *confidence)
{
    static const int32_t right[] = {3, 0, 2};
    const int32_t t = (int32_t)(i * 7 % 11 % 3);
    *truth = i % 17 == 0 ? -1 : t;
    *prediction = i % 23 == 5 ? -1 : i % 5 == 0 ? (int32_t)(i * 3 % 4) : right[t];
    *confidence = (float)((double)(i * 37 % 101) / 100);
}

static void labels_case(const ferry_world *world, double cutoff, const int64_t counts[3], const double figures[5],
                        const int64_t confusion[25])
{
    static const char *const truth_names[] = {"T cell", "B cell", "NK", "unused", NULL};
    static const char *const prediction_names[] = {"B cell", "Mono", "NK", "T cell", "never", NULL};
    static const char *const classes[] = {"B cell", "Mono", "NK", "T cell", "nan"};
    int32_t truth[500], prediction[500];
    float confidence[500];
    ferry_names t = {0}, p = {0};
    ferry_confusion c;
    const int64_t first = from(world, 500, world->rank), end = from(world, 500, world->rank + 1);
    add(&t, truth_names);
    add(&p, prediction_names);
    for (int64_t i = first; i < end; i++) cell(i, truth + i - first, prediction + i - first, confidence + i - first);
    CHECK(ferry_evaluate_labels(&c, world, truth, &t, prediction, &p, confidence, end - first, cutoff) == FERRY_OK);
    CHECK(c.considered == counts[0] && c.excluded == counts[1] && c.unlabelled == counts[2]);
    CHECK(c.classes.count == 5);
    for (int k = 0; k < 5 && c.classes.count == 5; k++) CHECK(!strcmp(ferry_name(&c.classes, k), classes[k]));
    for (int k = 0; k < 25 && c.classes.count == 5; k++) CHECK(c.count[k] == confusion[k]);
    const double mine[5] = {c.accuracy, c.precision, c.recall, c.f1, c.macro_f1};
    for (int k = 0; k < 5; k++) CHECK(fabs(mine[k] - figures[k]) < 1e-14);
    CHECK(fabs(c.excluded_share - (double)counts[1] / (double)(counts[0] + counts[1])) < 1e-15);
    CHECK(c.support[1] == 0 && c.class_f1[1] == 0 && c.class_recall[1] == 0);
    ferry_confusion_close(&c);
    ferry_names_close(&t);
    ferry_names_close(&p);
}

static void labels(const ferry_world *world)
{
    const int64_t all[3] = {470, 0, 30}, some[3] = {332, 138, 30};
    const double of_all[5] = {0.8063829787234043, 0.8885711323796679, 0.8063829787234043, 0.8452332576958741,
                              0.506202588130299};
    const double of_some[5] = {0.8012048192771084, 0.8820034797575396, 0.8012048192771084, 0.8393277674136271,
                               0.5029505972792705};
    const int64_t counts_all[25] = {137, 8, 10, 8, 8, 0, 0, 0, 0, 0, 8, 6, 103, 5, 5, 8, 9, 9, 139, 7, 0, 0, 0, 0, 0};
    const int64_t counts_some[25] = {93, 5, 7, 6, 7, 0, 0, 0, 0, 0, 7, 4, 77, 3, 4, 5, 7, 8, 96, 3, 0, 0, 0, 0, 0};
    labels_case(world, 0, all, of_all, counts_all);
    labels_case(world, 0.3, some, of_some, counts_some);
    /* nobody is left: every share is 0, and nothing is divided by it */
    ferry_names none = {0};
    ferry_confusion c;
    CHECK(ferry_evaluate_labels(&c, world, NULL, &none, NULL, &none, NULL, 0, 0) == FERRY_OK);
    CHECK(c.considered == 0 && c.accuracy == 0 && c.macro_f1 == 0 && c.excluded_share == 0 && c.classes.count == 0);
    ferry_confusion_close(&c);
}

/* ---- expression ---- */

/* Rows of a rank: dealt in turns of 7 cells, as blocks are. */
static int64_t take_rows(ferry_expression *e, double **truth, double **imputed, int64_t **number, int64_t cells,
                         int64_t genes, const double *all_truth, const double *all_imputed, const ferry_world *world)
{
    int64_t rows = 0;
    *truth = malloc((size_t)(cells * genes + 1) * sizeof **truth);
    *imputed = malloc((size_t)(cells * genes + 1) * sizeof **imputed);
    *number = malloc((size_t)(cells + 1) * sizeof **number);
    for (int64_t i = 0; i < cells; i++) {
        if (i / 7 % world->size != world->rank) continue;
        memcpy(*truth + rows * genes, all_truth + i * genes, (size_t)genes * sizeof **truth);
        memcpy(*imputed + rows * genes, all_imputed + i * genes, (size_t)genes * sizeof **imputed);
        (*number)[rows++] = i;
    }
    *e = (ferry_expression){*truth, *imputed, *number, rows, genes};
    return rows;
}

static void agreement_of(double *out, const ferry_world *world, int64_t cells, int64_t genes, const double *truth,
                         const double *imputed, ferry_agreement method)
{
    ferry_expression e;
    double *t, *p;
    int64_t *number;
    take_rows(&e, &t, &p, &number, cells, genes, truth, imputed, world);
    CHECK(ferry_evaluate_expression(out, world, &e, method) == FERRY_OK);
    free(t);
    free(p);
    free(number);
}

/* A CSR matrix of the oracle, dense. */
static double *dense(hid_t oracle, const char *name, int64_t rows, int64_t columns)
{
    char path[3][96];
    hsize_t shape[2];
    const char *const part[] = {"data", "indices", "indptr"};
    for (int k = 0; k < 3; k++) snprintf(path[k], sizeof path[k], "%s_%s", name, part[k]);
    double *data = oracle_array(oracle, "cross", path[0], shape),
           *indices = oracle_array(oracle, "cross", path[1], shape),
           *indptr = oracle_array(oracle, "cross", path[2], shape);
    double *out = calloc((size_t)(rows * columns), sizeof *out);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t e = (int64_t)indptr[i]; e < (int64_t)indptr[i + 1]; e++)
            out[i * columns + (int64_t)indices[e]] = data[e];
    free(data);
    free(indices);
    free(indptr);
    return out;
}

static void expression(const ferry_world *world, hid_t oracle)
{
    static const char *const method[] = {"pearson", "spearman", "js", "rmse"};
    enum { CELLS = 200, GENES = 40 };
    char path[1024];
    const char *folder = getenv("FERRY_TEST_DATA");
    int64_t rows[CELLS];
    ferry_file *file = NULL;
    ferry_matrix counts = {0};
    snprintf(path, sizeof path, "%s/oracle/neighbors_cross_query.h5ad", folder ? folder : ".");
    for (int i = 0; i < CELLS; i++) rows[i] = i;
    CHECK(ferry_file_open(&file, world, path) == FERRY_OK);
    if (!file) return;
    CHECK(ferry_read_rep(&counts, file, "layers/counts", 0, FERRY_DOUBLE, rows, CELLS) == FERRY_OK);
    double *imputed = dense(oracle, "layer_counts_pred", CELLS, GENES), out[GENES];
    for (int m = 0; m < 4; m++) {
        char name[64];
        snprintf(name, sizeof name, "expr_metric_%s", method[m]);
        double *want = oracle_array(oracle, "cross", name, NULL);
        agreement_of(out, world, CELLS, GENES, counts.d, imputed, (ferry_agreement)m);
        for (int g = 0; g < GENES; g++) CHECK(fabs(out[g] - want[g]) < 1e-6);
        snprintf(name, sizeof name, "cases.cross_expr_%s", method[m]);
        CHECK(fabs(ferry_agreement_mean(out, GENES) - oracle_number(oracle, "/", name)) < 1e-6);
        free(want);
    }
    free(imputed);
    ferry_matrix_close(&counts);
    ferry_file_close(&file);
}

/* Columns where something is not defined, ties, and more ranks than genes or cells. */
static void odd_expression(const ferry_world *world)
{
    const double truth[4 * 3] = {1, 0, 5, 1, 0, 3, 2, 0, 1, 4, 0, -1},
                           imputed[4 * 3] = {1, 1, 6, 1, 2, 2, 2, 3, 1, 3, 4, 0};
    double out[3];
    agreement_of(out, world, 4, 3, truth, imputed, FERRY_PEARSON);
    CHECK(fabs(out[0] - 0.984731927834662) < 1e-12 && isnan(out[1]) && fabs(out[2] - 0.9326733179802503) < 1e-12);
    CHECK(fabs(ferry_agreement_mean(out, 3) - (0.984731927834662 + 0.9326733179802503) / 2) < 1e-12);
    agreement_of(out, world, 4, 3, truth, imputed, FERRY_SPEARMAN);
    CHECK(fabs(out[0] - 1) < 1e-12 && isnan(out[1]) && fabs(out[2] - 1) < 1e-12);
    agreement_of(out, world, 4, 3, truth, imputed, FERRY_JS);
    CHECK(fabs(out[0] - 0.03338486141329771) < 1e-12 && isnan(out[1]));
    agreement_of(out, world, 4, 3, truth, imputed, FERRY_RMSE);
    CHECK(fabs(out[0] - 0.17474594224380802) < 1e-12 && fabs(out[1] - 1) < 1e-12);
    double nothing[1];
    ferry_expression none = {NULL, NULL, NULL, 0, 1};
    CHECK(ferry_evaluate_expression(nothing, world, &none, FERRY_RMSE) == FERRY_OK && isnan(nothing[0]));
    CHECK(isnan(ferry_agreement_mean(nothing, 1)));
}

/* ---- percentiles ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void percentile_case(const ferry_world *world, const double *all, int64_t count, double q)
{
    enum { STRIDE = 3 };
    double mine[STRIDE * 64] = {0}, sorted[64], out = 0;
    const int64_t first = from(world, count, world->rank), end = from(world, count, world->rank + 1);
    for (int64_t i = first; i < end; i++) mine[(i - first) * STRIDE] = all[i];
    memcpy(sorted, all, (size_t)count * sizeof *all);
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    const double at = q / 100 * (double)(count - 1), t = at - floor(at);
    const double a = sorted[(int64_t)at], b = sorted[(int64_t)at + (t > 0)];
    CHECK(ferry_percentile(&out, world, mine, end - first, STRIDE, q) == FERRY_OK);
    CHECK(out == (t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t)));
}

static void percentiles(const ferry_world *world)
{
    static const double q[] = {0, 1, 5, 33.3, 50, 90, 99, 100};
    double all[64], out;
    for (int i = 0; i < 64; i++) all[i] = (i * 29 % 64 - 20) * (i % 3 ? 0.37 : 1e-9) * (i % 7 ? 1 : 0);
    for (size_t k = 0; k < sizeof q / sizeof *q; k++)
        for (int64_t count = 1; count <= 64; count += 9) percentile_case(world, all, count, q[k]);
    CHECK(ferry_percentile(&out, world, all, 0, 1, 50) == FERRY_OK && isnan(out));
    all[3] = NAN;
    CHECK(ferry_percentile(&out, world, all, 10, 1, 50) == FERRY_OK && isnan(out));
    CHECK(ferry_percentile(&out, world, all, 3, 1, 101) == FERRY_E_ARG);
}

int main(int argc, char **argv)
{
    ferry_world world;
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    hid_t oracle = oracle_open("neighbors.h5");
    labels(&world);
    expression(&world, oracle);
    odd_expression(&world);
    percentiles(&world);
    H5Fclose(oracle);
    ferry_world_close(&world);
    return test_end();
}

/* sparsify: the reference's answers (moscot 0.5.2), plain sorting, and the same bits for any layout. */
#include "mpi/log.h"
#include "oracle.h"
#include "plans.h"
#include "test.h"
#include "transport/sparsify.h"
#include "transport/sparsify_impl.h"

#define TEXT(...) (snprintf(text, sizeof text, __VA_ARGS__), text)

/* ---- what comes out, whole on every rank ---- */

typedef struct coupling {
    const ferry_world *world;
    int64_t n, m, rows; /* rows that have come */
    float *dense;       /* [n, m] */
    int64_t *count;     /* [n] stored entries */
    double *mass, *kept;
    bool ascending;
} coupling;

static ferry_status take(void *self, const ferry_rows *rows)
{
    coupling *c = self;
    const int64_t first = c->rows + ferry_before(c->world, rows->rows);
    for (int64_t i = 0; i < rows->rows; i++)
        for (int64_t k = rows->indptr[i]; k < rows->indptr[i + 1]; k++) {
            if (k > rows->indptr[i] && rows->indices[k] <= rows->indices[k - 1]) c->ascending = false;
            c->dense[(first + i) * c->m + rows->indices[k]] = rows->values[k];
            c->count[first + i]++;
        }
    c->rows += ferry_total(c->world, rows->rows);
    return FERRY_OK;
}

static ferry_status take_masses(void *self, int64_t first, int64_t count, const double *mass, const double *kept)
{
    coupling *c = self;
    for (int64_t i = 0; i < count; i++) {
        c->mass[first + i] = mass[i];
        c->kept[first + i] = kept[i];
    }
    return FERRY_OK;
}

static void coupling_open(coupling *c, const ferry_world *world, int64_t n, int64_t m)
{
    *c = (coupling){.world = world, .n = n, .m = m, .ascending = true};
    c->dense = calloc((size_t)(n * m + 1), sizeof *c->dense);
    c->count = calloc((size_t)n + 1, sizeof *c->count);
    c->mass = calloc((size_t)n + 1, sizeof *c->mass);
    c->kept = calloc((size_t)n + 1, sizeof *c->kept);
}

static void coupling_close(coupling *c)
{
    free(c->dense);
    free(c->count);
    free(c->mass);
    free(c->kept);
}

/* Each row is on one rank: adding zeros of the others changes no bit. */
static ferry_status sparsify(coupling *c, ferry_sparsify_result *result, ferry_plan *plan, const ferry_world *world,
                             const ferry_sparsify_options *options)
{
    coupling_open(c, world, plan->source.cells, plan->target.cells);
    const ferry_sink sink = {take, c};
    FERRY_TRY(ferry_sparsify(result, plan, world, options, &sink, take_masses, c));
    MPI_Allreduce(MPI_IN_PLACE, c->dense, (int)(c->n * c->m), MPI_FLOAT, MPI_SUM, world->comm);
    MPI_Allreduce(MPI_IN_PLACE, c->mass, (int)c->n, MPI_DOUBLE, MPI_SUM, world->comm);
    MPI_Allreduce(MPI_IN_PLACE, c->kept, (int)c->n, MPI_DOUBLE, MPI_SUM, world->comm);
    MPI_Allreduce(MPI_IN_PLACE, c->count, (int)c->n, MPI_INT64_T, MPI_SUM, world->comm);
    CHECK(c->rows == c->n);
    CHECK(c->ascending);
    return FERRY_OK;
}

static bool same(const coupling *a, const coupling *b)
{
    return memcmp(a->dense, b->dense, (size_t)(a->n * a->m) * sizeof *a->dense) == 0 &&
           memcmp(a->count, b->count, (size_t)a->n * sizeof *a->count) == 0 &&
           memcmp(a->mass, b->mass, (size_t)a->n * sizeof *a->mass) == 0 &&
           memcmp(a->kept, b->kept, (size_t)a->n * sizeof *a->kept) == 0;
}

/* ---- one row ---- */

static int descending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void test_prefix(void)
{
    enum { N = 3000 };
    static float v[N], sorted[N], work[N];
    for (int round = 0; round < 200; round++) {
        const int n = round % 7 == 0 ? 1 + round % 5 : 1 + (round * 37) % N;
        double *noise = plans_random(n, (uint64_t)round + 1), total = 0;
        for (int i = 0; i < n; i++)
            v[i] = round % 3 == 0 ? (float)(1 + (int)fabs(noise[i] * 2)) : (float)exp(4 * noise[i]);
        memcpy(sorted, v, sizeof v);
        qsort(sorted, (size_t)n, sizeof *sorted, descending);
        for (int i = 0; i < n; i++) total += (double)sorted[i];
        const double target = round % 4 == 3 ? INFINITY : total * ((round % 10) + 0.53) / 11;
        const int64_t number = round % 2 ? INT64_MAX : 1 + round % n;
        double sum = 0;
        int64_t k = 0; /* how many sorting keeps */
        while (k < n && k < number && sum < target) sum += (double)sorted[k++];
        const ferry_prefix_end end = ferry_prefix(v, n, target, number, work);
        int64_t above = 0, equal = 0;
        for (int i = 0; i < n; i++) {
            above += v[i] > end.at;
            equal += v[i] == end.at;
        }
        if (end.found) {
            CHECK(end.at == sorted[k - 1]);
            CHECK(above + end.ties == k && end.ties <= equal);
        } else {
            CHECK(k == n);
        }
        free(noise);
    }
}

/* Whole rows through the panel form against sorting; max_k small and large, ties, a row of zeros. */
static void test_panel(void)
{
    enum { M = 2300, UNITS = (M + 31) / 32 };
    float *plan = aligned_alloc(64, (size_t)UNITS * 24 * 32 * sizeof *plan);
    float *row = malloc(M * sizeof *row);
    const ferry_kernels *kernels = ferry_kernels_find(NULL);
    memset(plan, 0, (size_t)UNITS * 24 * 32 * sizeof *plan);
    double sums[24] = {0};
    for (int i = 0; i < 24; i++) {
        double *noise = plans_random(M, (uint64_t)i + 5);
        for (int j = 0; j < M && i != 7; j++) {
            const float value = i % 3 == 1 ? (float)(1 + ((j * 7) % 5)) : (float)exp(3 * noise[j] - 9);
            plan[j / 32 * 768 + i * 32 + j % 32] = value;
            sums[i] += (double)value;
        }
        free(noise);
    }
    const ferry_rule rules[] = {
        {true, 0.9, 0, 0},    {true, 0.99, 50, 0},         {true, 1, 0, 0},  {true, 1, 3, 0}, {true, 0.5, 1, 0},
        {true, 0.3, 2200, 0}, {false, 0, 0, ferry_cut(4)}, {true, 1, 300, 0}};
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++) {
        ferry_kept kept;
        CHECK(ferry_kept_open(&kept, kernels, &rules[k], M) == FERRY_OK);
        CHECK(ferry_kept_select(&kept, plan, 24, sums, NULL, NULL) == FERRY_OK);
        int64_t at = 0;
        for (int i = 0; i < 24; i++) {
            for (int j = 0; j < M; j++) row[j] = plan[j / 32 * 768 + i * 32 + j % 32];
            qsort(row, M, sizeof *row, descending);
            int64_t n = 0, nonzero = 0;
            double sum = 0, kept_sum = 0;
            const double target = rules[k].value >= 1 ? INFINITY : rules[k].value * sums[i];
            for (int j = 0; j < M; j++) nonzero += row[j] > 0;
            if (rules[k].mass)
                while (n < nonzero && sum < target && (!rules[k].max_k || n < rules[k].max_k)) sum += (double)row[n++];
            else
                while (n < nonzero && row[n] >= rules[k].cut) n++;
            CHECK(kept.count[i] == n);
            float *mine = malloc((size_t)(kept.count[i] + 1) * sizeof *mine);
            memcpy(mine, kept.values + at, (size_t)kept.count[i] * sizeof *mine);
            for (int64_t e = 0; e < kept.count[i]; e++) {
                const int32_t j = kept.indices[at + e];
                CHECK(e == 0 || j > kept.indices[at + e - 1]);
                CHECK(mine[e] == plan[j / 32 * 768 + i * 32 + j % 32]);
                kept_sum += (double)mine[e];
            }
            CHECK(fabs(kept_sum - kept.sum[i]) <= 1e-9 * kept_sum);
            qsort(mine, (size_t)kept.count[i], sizeof *mine, descending);
            CHECK(kept.count[i] != n || memcmp(mine, row, (size_t)n * sizeof *mine) == 0);
            /* equal entries: the ones in the first columns */
            float last = n ? row[n - 1] : 0;
            int64_t seen = 0, of = 0;
            for (int64_t e = 0; e < n && kept.count[i] == n; e++) of += kept.values[at + e] == last;
            for (int32_t j = 0; j < M && seen < of && seen < 20; j++) {
                if (plan[j / 32 * 768 + i * 32 + j % 32] != last) continue;
                bool there = false;
                for (int64_t e = 0; e < n; e++) there |= kept.indices[at + e] == j;
                CHECK(there);
                seen++;
            }
            free(mine);
            at += kept.count[i];
        }
        CHECK(at == kept.total);
        ferry_kept_close(&kept);
    }
    free(plan);
    free(row);
}

static void test_sample(void)
{
    int64_t rows[1000], again[1000];
    ferry_sample_rows(rows, 1000, 1000, 3);
    for (int64_t i = 0; i < 1000; i++) CHECK(rows[i] == i);
    ferry_sample_rows(rows, 300, 1000003, 3);
    ferry_sample_rows(again, 300, 1000003, 4);
    int differ = 0;
    double mean = 0;
    for (int i = 0; i < 300; i++) {
        CHECK(rows[i] >= 0 && rows[i] < 1000003 && (i == 0 || rows[i] > rows[i - 1]));
        differ += rows[i] != again[i];
        mean += (double)rows[i] / 300;
    }
    CHECK(differ > 250);
    CHECK(fabs(mean / 1000003 - 0.5) < 0.1);
    CHECK(ferry_cut(0) > 0 && ferry_cut(-1) > 0 && ferry_cut(0.5) == 0.5F);
    CHECK((double)ferry_cut(0.1) >= 0.1 && (double)nextafterf(ferry_cut(0.1), 0) < 0.1);
    CHECK(isinf(ferry_cut(INFINITY)));
}

static void refused(ferry_sparsify_mode mode, double value, int64_t max_k, const char *says)
{
    ferry_sparsify_options o = FERRY_SPARSIFY_DEFAULTS;
    o.mode = mode;
    o.value = value;
    o.max_k = max_k;
    CHECK(ferry_sparsify_check(&o) == FERRY_E_ARG);
    CHECK(strstr(ferry_error(), says) != NULL);
}

static void test_check(void)
{
    const ferry_sparsify_options defaults = FERRY_SPARSIFY_DEFAULTS;
    CHECK(ferry_sparsify_check(&defaults) == FERRY_OK);
    refused(FERRY_SPARSIFY_THRESHOLD, NAN, 0, "value");
    refused(FERRY_SPARSIFY_PERCENTILE, NAN, 0, "value");
    refused(FERRY_SPARSIFY_PERCENTILE, 101, 0, "100");
    refused(FERRY_SPARSIFY_MASS, NAN, 0, "(0, 1]");
    refused(FERRY_SPARSIFY_MASS, 0, -1, "(0, 1]"); /* the value first, as the reference */
    refused(FERRY_SPARSIFY_MASS, 1.1, 0, "(0, 1]");
    refused(FERRY_SPARSIFY_MASS, 0.5, -1, "positive");
    refused(FERRY_SPARSIFY_THRESHOLD, 0.1, 3, "only supported");
    refused(FERRY_SPARSIFY_MIN_ROW, NAN, 3, "only supported");
    refused((ferry_sparsify_mode)9, 1, 0, "not one of");
}

/* ---- the reference's answers ---- */

static const struct {
    const char *name;
    ferry_sparsify_mode mode;
    double value;
    int64_t max_k, n_samples;
} runs[] = {{"threshold_1e-4", FERRY_SPARSIFY_THRESHOLD, 1e-4, 0, 1024},
            {"threshold_0.1", FERRY_SPARSIFY_THRESHOLD, 0.1, 0, 1024},
            {"percentile_90_seed0", FERRY_SPARSIFY_PERCENTILE, 90, 0, 20},
            {"percentile_50_all", FERRY_SPARSIFY_PERCENTILE, 50, 0, 1000000},
            {"min_row", FERRY_SPARSIFY_MIN_ROW, NAN, 0, 1024},
            {"min_row_bs7", FERRY_SPARSIFY_MIN_ROW, NAN, 0, 1024},
            {"mass_0.5", FERRY_SPARSIFY_MASS, 0.5, 0, 1024},
            {"mass_0.9", FERRY_SPARSIFY_MASS, 0.9, 0, 1024},
            {"mass_0.99_k5", FERRY_SPARSIFY_MASS, 0.99, 5, 1024},
            {"mass_1", FERRY_SPARSIFY_MASS, 1, 0, 1024},
            {"mass_1_k3", FERRY_SPARSIFY_MASS, 1, 3, 1024}};

static const int64_t rows_pt[20] = {2,  4,  10, 11, 15, 16, 18, 20, 22, 25,
                                    27, 28, 29, 30, 31, 37, 38, 40, 41, 43}; /* RandomState(0).choice(45, 20, False) */

/* Row i of the reference: the same columns and values; of ties only how many and the values, sorted. */
static void compare_row(const coupling *c, int64_t i, const double *data, const double *indices, int64_t count,
                        bool ties, double tolerance)
{
    float mine[128], theirs[128];
    int64_t n = 0;
    for (int64_t j = 0; j < c->m; j++)
        if (c->dense[i * c->m + j] != 0) mine[n++] = c->dense[i * c->m + j];
    CHECK(n == c->count[i]);
    if (ties) {
        CHECK(llabs(n - count) <= 1);
        for (int64_t k = 0; k < count; k++) theirs[k] = (float)data[k];
        qsort(mine, (size_t)n, sizeof *mine, descending);
        qsort(theirs, (size_t)count, sizeof *theirs, descending);
        for (int64_t k = 0; k < n && k < count; k++) CHECK(fabsf(mine[k] - theirs[k]) <= (float)tolerance * theirs[k]);
        return;
    }
    int64_t normal = 0; /* float kernels give 0 where floats get subnormal */
    for (int64_t k = 0; k < count; k++) {
        const double value = (double)c->dense[i * c->m + (int64_t)indices[k]];
        CHECK(fabs(value - data[k]) <= tolerance * data[k] + 1e-12);
        normal += data[k] > 1.2e-38;
    }
    CHECK(n >= normal && n <= count);
}

static void compare(const coupling *c, hid_t oracle, const char *matrix, const char *run, bool ties, double tolerance)
{
    char text[128];
    double *data = oracle_array(oracle, "sparsify", TEXT("%s_%s_data", matrix, run), NULL);
    double *indices = oracle_array(oracle, "sparsify", TEXT("%s_%s_indices", matrix, run), NULL);
    double *indptr = oracle_array(oracle, "sparsify", TEXT("%s_%s_indptr", matrix, run), NULL);
    for (int64_t i = 0; i < c->n; i++)
        compare_row(c, i, data + (int64_t)indptr[i], indices + (int64_t)indptr[i], (int64_t)(indptr[i + 1] - indptr[i]),
                    ties, tolerance);
    free(data);
    free(indices);
    free(indptr);
}

static void run_all(hid_t oracle, const char *matrix, ferry_plan *plan, const ferry_world *world, const int64_t *sample,
                    double tolerance)
{
    char text[128];
    const bool ties = strcmp(matrix, "ties") == 0;
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        if (H5Lexists(oracle, TEXT("sparsify/%s_%s_data", matrix, runs[k].name), H5P_DEFAULT) <= 0) continue;
        coupling c;
        ferry_sparsify_result result;
        ferry_sparsify_options o = FERRY_SPARSIFY_DEFAULTS;
        o.mode = runs[k].mode;
        o.value = runs[k].value;
        o.max_k = runs[k].max_k;
        o.n_samples = runs[k].n_samples;
        o.batch = strcmp(runs[k].name, "min_row_bs7") == 0 ? 7 : 0;
        if (runs[k].n_samples == 20) o.sample = sample;
        CHECK(sparsify(&c, &result, plan, world, &o) == FERRY_OK);
        compare(&c, oracle, matrix, runs[k].name, ties, tolerance);
        if (runs[k].n_samples == 20 && strcmp(matrix, "P") == 0)
            CHECK(fabs(result.threshold - oracle_number(oracle, "sparsify", "percentile_90_threshold")) <=
                  tolerance * result.threshold);
        int64_t stored = 0;
        for (int64_t i = 0; i < c.n; i++) stored += c.count[i];
        CHECK(stored == result.nonzeros);
        CHECK(result.massless == (ties ? 1 : 0));
        coupling_close(&c);
    }
}

static void test_oracle(const char *folder, const ferry_world *world, ferry_precision precision, double tolerance)
{
    hid_t oracle = oracle_open("transport.h5");
    hsize_t nx[2], ny[2];
    double *x = oracle_array(oracle, "cost_sqeuclidean", "x", nx),
           *y = oracle_array(oracle, "cost_sqeuclidean", "y", ny);
    double *f = oracle_array(oracle, "cost_sqeuclidean", "f", NULL),
           *g = oracle_array(oracle, "cost_sqeuclidean", "g", NULL);
    double *chosen = oracle_array(oracle, "sparsify", "percentile_90_seed0_rows", NULL);
    const double epsilon = oracle_number(oracle, "cost_sqeuclidean", "epsilon");
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.precision = precision;
    int64_t rows[20];
    for (int i = 0; i < 20; i++) rows[i] = (int64_t)chosen[19 - i]; /* any order */
    const plans_side a = {(int64_t)nx[0], (int)nx[1], x, f, NULL, NULL, 0, "a"};
    const plans_side b = {(int64_t)ny[0], (int)ny[1], y, g, NULL, NULL, 0, "b"};
    ferry_plan plan;
    CHECK(plans_write(folder, "p", world, &a, &b, 1, &options, 1, epsilon) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "p", world, 1) == FERRY_OK);
    run_all(oracle, "P", &plan, world, rows, tolerance);
    ferry_plan_close(&plan);
    CHECK(plans_write(folder, "pt", world, &b, &a, 1, &options, 1, epsilon) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "pt", world, 2) == FERRY_OK);
    run_all(oracle, "PT", &plan, world, rows_pt, tolerance);
    ferry_plan_close(&plan);
    free(x);
    free(y);
    free(f);
    free(g);
    free(chosen);
    H5Fclose(oracle);
}

/* Any matrix as a plan: cost -<x, y>, source i the i-th unit vector, target j the logarithms of column j. In double
 * precision, where equal entries come out equal. */
static ferry_status write_dense(const char *folder, const char *name, const ferry_world *world, const double *p,
                                int64_t n, int64_t m)
{
    double *x = calloc((size_t)(n * n), sizeof *x), *y = malloc((size_t)(n * m) * sizeof *y);
    for (int64_t i = 0; i < n; i++) x[i * n + i] = 1;
    for (int64_t j = 0; j < m; j++)
        for (int64_t i = 0; i < n; i++) y[j * n + i] = p[i * m + j] > 0 ? log(p[i * m + j]) : -2000;
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.kind = FERRY_COST_DOT;
    options.precision = FERRY_DOUBLE;
    const plans_side a = {n, (int)n, x, NULL, NULL, NULL, 0, NULL}, b = {m, (int)n, y, NULL, NULL, NULL, 0, NULL};
    ferry_status status = plans_write(folder, name, world, &a, &b, 1, &options, 1, 1);
    free(x);
    free(y);
    return status;
}

static void test_ties(const char *folder, const ferry_world *world)
{
    hid_t oracle = oracle_open("transport.h5");
    hsize_t shape[2];
    double *ties = oracle_array(oracle, "sparsify", "ties", shape);
    ferry_plan plan;
    CHECK(write_dense(folder, "ties", world, ties, (int64_t)shape[0], (int64_t)shape[1]) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "ties", world, 1) == FERRY_OK);
    run_all(oracle, "ties", &plan, world, NULL, 1e-6);
    ferry_plan_close(&plan);
    free(ties);
    H5Fclose(oracle);
}

/* ---- the same bits for any layout ---- */

static const struct {
    ferry_sparsify_mode mode;
    double value;
    int64_t max_k, n_samples;
} modes[] = {{FERRY_SPARSIFY_MASS, 0.95, 0, 1024},
             {FERRY_SPARSIFY_MASS, 0.99, 10, 1024},
             {FERRY_SPARSIFY_THRESHOLD, 1e-5, 0, 1024},
             {FERRY_SPARSIFY_PERCENTILE, 95, 0, 50},
             {FERRY_SPARSIFY_MIN_ROW, NAN, 0, 1024}};

static void test_layouts(const char *folder, const ferry_world *world, const ferry_world *alone,
                         ferry_precision precision)
{
    enum { D = 5 };
    const int64_t N = 121,
                  M = precision == FERRY_DOUBLE ? 170 : 2200; /* more than 2048: rows are looked at in chunks */
    double *x = plans_random(N * D, 1), *y = plans_random(M * D, 2), *f = plans_random(N, 3), *g = plans_random(M, 4);
    f[17] = -INFINITY; /* a row without mass */
    const plans_side a = {N, D, x, f, NULL, NULL, 0, NULL}, b = {M, D, y, g, NULL, NULL, 0, NULL};
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.precision = precision;
    const int grids[2] = {1, world->size % 2 ? world->size : 2};
    CHECK(plans_write(folder, "layout", world, &a, &b, grids[1] <= world->size ? grids[1] : 1, &options, 0.7, 0.9) ==
          FERRY_OK);
    for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) {
        ferry_sparsify_options o = FERRY_SPARSIFY_DEFAULTS;
        o.mode = modes[k].mode;
        o.value = modes[k].value;
        o.max_k = modes[k].max_k;
        o.n_samples = modes[k].n_samples;
        o.seed = 7;
        coupling one, here;
        ferry_sparsify_result first, second;
        ferry_plan plan;
        CHECK(plans_open(&plan, folder, "layout", alone, 1) == FERRY_OK);
        CHECK(sparsify(&one, &first, &plan, alone, &o) == FERRY_OK);
        CHECK(first.massless == 1 && first.nonzeros > 0 && first.kept_mass <= first.mass * (1 + 1e-5));
        ferry_plan_close(&plan);
        const int64_t batches[2] = {30, 0};
        const int panels[] = {2, 3, 8, 2};
        for (int variant = 0; variant < 4; variant++) {
            o.batch = batches[variant % 2];
            o.grid_cols = grids[variant / 2];
            if (o.grid_cols > world->size) o.grid_cols = 1;
            o.memory = variant == 1 ? 1 : 0; /* too little: panel by panel */
            CHECK(plans_open(&plan, folder, "layout", world, 1 + variant / 2) == FERRY_OK);
            plan.cost.panels = panels[variant]; /* evaluated together */
            CHECK(sparsify(&here, &second, &plan, world, &o) == FERRY_OK);
            CHECK(same(&one, &here));
            CHECK(memcmp(&first, &second, sizeof first) == 0);
            coupling_close(&here);
            ferry_plan_close(&plan);
        }
        coupling_close(&one);
    }
    free(x);
    free(y);
    free(f);
    free(g);
}

/* The percentile of our own sample is numpy's of the sampled rows without the massless ones. */
static int doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_percentile(const char *folder, const ferry_world *world)
{
    enum { N = 70, M = 33, D = 3, K = 40 };
    double *x = plans_random(N * D, 1), *y = plans_random(M * D, 2), *f = plans_random(N, 3);
    static double values[K * M];
    int64_t rows[K], n = 0;
    for (int i = 0; i < N; i += 3) f[i] = -INFINITY;
    for (int i = 0; i < N; i += 7) f[i] = -60; /* rows that are nearly 0: denormals, too */
    const plans_side a = {N, D, x, f, NULL, NULL, 0, NULL}, b = {M, D, y, NULL, NULL, NULL, 0, NULL};
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.precision = FERRY_DOUBLE;
    double *p = plans_dense(&a, &b, 1, 0.5);
    ferry_sample_rows(rows, K, N, 11);
    for (int k = 0; k < K; k++)
        for (int j = 0; j < M && isfinite(f[rows[k]]); j++)
            if (f[rows[k]] != -60 || p[rows[k] * M + j] > 1e-300) values[n++] = (double)(float)p[rows[k] * M + j];
    CHECK(n > 0 && n % M == 0);
    qsort(values, (size_t)n, sizeof *values, doubles);
    ferry_plan plan;
    CHECK(plans_write(folder, "percentile", world, &a, &b, 1, &options, 1, 0.5) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "percentile", world, 2) == FERRY_OK);
    for (double value = 0; value <= 100; value += 37.5) {
        ferry_sparsify_options o = FERRY_SPARSIFY_DEFAULTS;
        o.mode = FERRY_SPARSIFY_PERCENTILE;
        o.value = value;
        o.n_samples = K;
        o.seed = 11;
        coupling c;
        ferry_sparsify_result result;
        CHECK(sparsify(&c, &result, &plan, world, &o) == FERRY_OK);
        const double at = (double)(n - 1) * value / 100;
        const int64_t low = (int64_t)at, high = low + 1 < n ? low + 1 : low;
        const double expected = values[low] + (at - (double)low) * (values[high] - values[low]);
        CHECK(fabs(result.threshold - expected) <= 1e-6 * expected + 1e-44);
        coupling_close(&c);
    }
    ferry_plan_close(&plan);
    for (int i = 0; i < N; i++) f[i] = -INFINITY; /* nothing at all */
    CHECK(plans_write(folder, "percentile", world, &a, &b, 1, &options, 1, 0.5) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "percentile", world, 1) == FERRY_OK);
    for (int mode = FERRY_SPARSIFY_PERCENTILE; mode <= FERRY_SPARSIFY_MIN_ROW; mode++) {
        ferry_sparsify_options o = FERRY_SPARSIFY_DEFAULTS;
        o.mode = (ferry_sparsify_mode)mode;
        o.value = 50;
        coupling c;
        ferry_sparsify_result result;
        CHECK(sparsify(&c, &result, &plan, world, &o) == FERRY_OK);
        CHECK(isinf(result.threshold) && result.nonzeros == 0 && result.massless == N);
        coupling_close(&c);
    }
    ferry_plan_close(&plan);
    free(p);
    free(x);
    free(y);
    free(f);
}

/* Every meeting fails once, on the last rank; all ranks get the same status and go on. */
static void walk_failures(const char *folder, const ferry_world *world)
{
    ferry_sparsify_options o = FERRY_SPARSIFY_DEFAULTS;
    o.mode = FERRY_SPARSIFY_PERCENTILE;
    o.value = 50;
    o.n_samples = 10;
    o.grid_cols = world->size % 2 ? 1 : 2;
    ferry_status status = FERRY_E_NUMERIC;
    int meeting = 0, step = world->size > 2 ? 3 : 1; /* one rank and two fail at every meeting */
    while (status != FERRY_OK && meeting < 400) {
        char text[64];
        coupling c;
        ferry_sparsify_result result;
        ferry_plan plan = {0};
        setenv("FERRY_FAIL", TEXT("%d:%d", meeting += step, world->size - 1), 1);
        status = plans_open(&plan, folder, "p", world, 1);
        coupling_open(&c, world, 60, 45);
        const ferry_sink sink = {take, &c};
        if (status == FERRY_OK) status = ferry_sparsify(&result, &plan, world, &o, &sink, take_masses, &c);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        coupling_close(&c);
        ferry_plan_close(&plan);
    }
    CHECK(meeting > 20 && meeting < 400);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world, alone;
    char folder[64];
    ferry_log_level(FERRY_QUIET);
    if (ferry_world_open(&world, MPI_COMM_WORLD) || ferry_world_open(&alone, MPI_COMM_SELF)) return 1;
    plans_folder(folder, &world);
    test_prefix();
    test_panel();
    test_sample();
    test_check();
    test_oracle(folder, &world, FERRY_DOUBLE, 2e-7);
    test_oracle(folder, &world, FERRY_FLOAT, 1e-5);
    test_ties(folder, &world);
    test_layouts(folder, &world, &alone, FERRY_FLOAT);
    test_layouts(folder, &world, &alone, FERRY_DOUBLE);
    test_percentile(folder, &world);
    walk_failures(folder, &world);
    plans_remove(folder, &world);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

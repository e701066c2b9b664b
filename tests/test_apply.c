/* push and pull: the reference's answers (OTT-JAX), plain sums, and the same bits for any layout. */
#include "mpi/log.h"
#include "oracle.h"
#include "plans.h"
#include "test.h"
#include "transport/apply.h"
#include "transport/sparsify.h"

/* Columns in memory, and what comes back, whole on every rank. */
typedef struct carried {
    int64_t rows, columns;
    const float *v; /* [from, columns] */
    double *out;    /* [rows, columns] */
    int64_t *times; /* [rows] how often a row came */
} carried;

static ferry_status read_values(void *self, float *out, int64_t first, int64_t count, int64_t column, int64_t columns)
{
    const carried *c = self;
    for (int64_t i = 0; i < count; i++)
        memcpy(out + i * columns, c->v + (first + i) * c->columns + column, (size_t)columns * sizeof *out);
    return FERRY_OK;
}

static ferry_status take(void *self, int64_t first, int64_t count, int64_t column, int64_t columns, const double *out)
{
    carried *c = self;
    for (int64_t i = 0; i < count; i++) {
        c->times[first + i] += columns;
        memcpy(c->out + (first + i) * c->columns + column, out + i * columns, (size_t)columns * sizeof *out);
    }
    return FERRY_OK;
}

static ferry_status carry(carried *c, ferry_plan *plan, const ferry_world *world, const ferry_apply_options *options,
                          const float *v, int64_t columns)
{
    *c = (carried){options->pull ? plan->source.cells : plan->target.cells, columns, v, NULL, NULL};
    c->out = calloc((size_t)(c->rows * columns + 1), sizeof *c->out);
    c->times = calloc((size_t)c->rows + 1, sizeof *c->times);
    const ferry_values values = {columns, read_values, c};
    FERRY_TRY(ferry_apply(plan, world, options, &values, take, c));
    MPI_Allreduce(MPI_IN_PLACE, c->out, (int)(c->rows * columns), MPI_DOUBLE, MPI_SUM, world->comm);
    MPI_Allreduce(MPI_IN_PLACE, c->times, (int)c->rows, MPI_INT64_T, MPI_SUM, world->comm);
    for (int64_t i = 0; i < c->rows; i++) CHECK(c->times[i] == columns);
    return FERRY_OK;
}

static void carried_close(carried *c)
{
    free(c->out);
    free(c->times);
}

static float *floats(const double *v, int64_t count)
{
    float *f = malloc((size_t)(count + 1) * sizeof *f);
    for (int64_t i = 0; i < count; i++) f[i] = (float)v[i];
    return f;
}

static double largest(const double *v, int64_t count)
{
    double most = 0;
    for (int64_t i = 0; i < count; i++) most = fmax(most, fabs(v[i]));
    return most;
}

static void close_to(const double *mine, const double *theirs, int64_t count, double tolerance)
{
    const double size = largest(theirs, count);
    for (int64_t i = 0; i < count; i++) CHECK(fabs(mine[i] - theirs[i]) <= tolerance * size);
}

/* ---- the reference ---- */

static void against(hid_t oracle, const char *name, ferry_plan *plan, const ferry_world *world, bool pull, bool scale,
                    double tolerance)
{
    hsize_t shape[2];
    double *v = oracle_array(oracle, "apply", pull ? "v1" : "v0", shape);
    double *answer = oracle_array(oracle, "apply", name, NULL);
    float *f = floats(v, (int64_t)(shape[0] * shape[1]));
    ferry_apply_options o = FERRY_APPLY_DEFAULTS;
    o.pull = pull;
    o.scale_by_marginals = scale;
    carried c;
    CHECK(carry(&c, plan, world, &o, f, (int64_t)shape[1]) == FERRY_OK);
    close_to(c.out, answer, c.rows * c.columns, tolerance);
    carried_close(&c);
    free(v);
    free(f);
    free(answer);
}

static void marginals(hid_t oracle, ferry_plan *plan, const ferry_world *world, bool pull, double tolerance)
{
    double *answer = oracle_array(oracle, "apply", pull ? "a_post" : "b_post", NULL);
    float ones[100];
    for (int i = 0; i < 100; i++) ones[i] = 1;
    ferry_apply_options o = FERRY_APPLY_DEFAULTS;
    o.pull = pull;
    carried c;
    CHECK(carry(&c, plan, world, &o, ones, 1) == FERRY_OK);
    for (int64_t i = 0; i < c.rows; i++) CHECK(fabs(c.out[i] - answer[i]) <= tolerance * answer[i]);
    carried_close(&c);
    free(answer);
}

static void test_oracle(const char *folder, const ferry_world *world, ferry_precision precision, double tolerance)
{
    hid_t oracle = oracle_open("transport.h5");
    hsize_t nx[2], ny[2];
    double *x = oracle_array(oracle, "apply_base", "x", nx), *y = oracle_array(oracle, "apply_base", "y", ny);
    double *f = oracle_array(oracle, "apply_base", "f", NULL), *g = oracle_array(oracle, "apply_base", "g", NULL);
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.precision = precision;
    const plans_side a = {(int64_t)nx[0], (int)nx[1], x, f, NULL, NULL, 0, NULL};
    const plans_side b = {(int64_t)ny[0], (int)ny[1], y, g, NULL, NULL, 0, NULL};
    ferry_plan plan;
    CHECK(plans_write(folder, "base", world, &a, &b, 1, &options, 1, oracle_number(oracle, "apply_base", "epsilon")) ==
          FERRY_OK);
    CHECK(plans_open(&plan, folder, "base", world, 1) == FERRY_OK);
    against(oracle, "push", &plan, world, false, false, tolerance);
    against(oracle, "pull", &plan, world, true, false, tolerance);
    against(oracle, "push_s", &plan, world, false, true, tolerance);
    against(oracle, "pull_s", &plan, world, true, true, tolerance);
    marginals(oracle, &plan, world, false, precision == FERRY_DOUBLE ? 1e-9 : 1e-5);
    marginals(oracle, &plan, world, true, precision == FERRY_DOUBLE ? 1e-9 : 1e-5);
    ferry_plan_close(&plan);
    free(x);
    free(y);
    free(f);
    free(g);
    H5Fclose(oracle);
}

/* ---- the same bits for any layout, and plain sums ---- */

static double *plain(const double *p, int64_t n, int64_t m, const float *v, int64_t columns,
                     const ferry_apply_options *o)
{
    const int64_t from = o->pull ? m : n, to = o->pull ? n : m;
    double *out = calloc((size_t)(to * columns), sizeof *out);
    for (int64_t w = 0; w < columns; w++) {
        double sum = 0;
        for (int64_t j = 0; j < from; j++) sum += (double)v[j * columns + w];
        for (int64_t j = 0; j < from; j++) {
            double value = (double)v[j * columns + w], marginal = 0;
            if (o->normalize) value = sum != 0 ? value / sum : 0;
            for (int64_t i = 0; i < to; i++) marginal += p[o->pull ? i * m + j : j * m + i];
            if (o->scale_by_marginals) value /= marginal + 1e-12;
            for (int64_t i = 0; i < to; i++) out[i * columns + w] += p[o->pull ? i * m + j : j * m + i] * value;
        }
    }
    return out;
}

static void test_layouts(const char *folder, const ferry_world *world, const ferry_world *alone,
                         ferry_precision precision, int64_t columns)
{
    enum { N = 200, M = 230, D = 4 };
    double *x = plans_random(N * D, 1), *y = plans_random(M * D, 2), *f = plans_random(N, 3), *g = plans_random(M, 4);
    double *noise = plans_random((N + M) * columns, 5);
    float *v = floats(noise, (N + M) * columns);
    f[3] = -INFINITY;
    for (int64_t i = 0; i < N + M; i++)
        if (columns > 2) v[i * columns + 2] = 0; /* a column whose sum is 0 stays 0 */
    const plans_side a = {N, D, x, f, NULL, NULL, 0, NULL}, b = {M, D, y, g, NULL, NULL, 0, NULL};
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.precision = precision;
    const int grids[2] = {1, world->size % 2 ? world->size : 2};
    double *p = plans_dense(&a, &b, 0.7, 0.9);
    CHECK(plans_write(folder, "layout", world, &a, &b, grids[1], &options, 0.7, 0.9) == FERRY_OK);
    for (int kind = 0; kind < 4; kind++) {
        ferry_apply_options o = FERRY_APPLY_DEFAULTS;
        o.pull = kind % 2;
        o.normalize = o.scale_by_marginals = kind / 2;
        carried one, here;
        ferry_plan plan;
        CHECK(plans_open(&plan, folder, "layout", alone, 1) == FERRY_OK);
        CHECK(carry(&one, &plan, alone, &o, v, columns) == FERRY_OK);
        ferry_plan_close(&plan);
        double *sums = plain(p, N, M, v, columns, &o);
        close_to(one.out, sums, one.rows * columns, precision == FERRY_DOUBLE ? 1e-7 : 2e-5);
        free(sums);
        for (int variant = 0; variant < 4; variant++) {
            o.batch = variant % 2 ? 0 : variant ? 100 : 40;
            o.memory = variant % 2 ? 20000 : 0; /* few columns at a time */
            o.grid_cols = grids[variant / 2];
            CHECK(plans_open(&plan, folder, "layout", world, 1 + variant % 2 * 2) == FERRY_OK);
            plan.cost.panels = 3; /* evaluated together, where memory allows */
            CHECK(carry(&here, &plan, world, &o, v, columns) == FERRY_OK);
            CHECK(memcmp(one.out, here.out, (size_t)(one.rows * columns) * sizeof *one.out) == 0);
            carried_close(&here);
            ferry_plan_close(&plan);
        }
        carried_close(&one);
    }
    free(p);
    free(x);
    free(y);
    free(f);
    free(g);
    free(v);
    free(noise);
}

/* ---- the whole coupling times vectors ---- */

typedef struct product {
    const ferry_world *world;
    const float *v;
    double *pull, *push; /* [n], [m] */
    int64_t rows;
} product;

static ferry_status multiply(void *self, const ferry_rows *rows)
{
    product *p = self;
    const int64_t first = p->rows + ferry_before(p->world, rows->rows);
    for (int64_t i = 0; i < rows->rows; i++)
        for (int64_t k = rows->indptr[i]; k < rows->indptr[i + 1]; k++) {
            p->pull[first + i] += (double)rows->values[k] * (double)p->v[rows->indices[k]];
            p->push[rows->indices[k]] += (double)rows->values[k] * (double)p->v[first + i];
        }
    p->rows += ferry_total(p->world, rows->rows);
    return FERRY_OK;
}

/* Small epsilon: exponents are large and float has few digits left for them. */
static void test_coupling(const char *folder, const ferry_world *world)
{
    enum { N = 130, M = 150, D = 10 };
    double *x = plans_random(N * D, 1), *y = plans_random(M * D, 2), *noise = plans_random(N + M, 5);
    float *v = floats(noise, N + M);
    static double f[N], pull[N], push[M];
    for (int i = 0; i < N; i++) { /* f_i = min_j C_ij: sums of the size of 1 */
        f[i] = INFINITY;
        for (int j = 0; j < M; j++) {
            double c = 0;
            for (int k = 0; k < D; k++) c += (x[i * D + k] - y[j * D + k]) * (x[i * D + k] - y[j * D + k]);
            f[i] = fmin(f[i], c);
        }
    }
    const plans_side a = {N, D, x, f, NULL, NULL, 0, NULL}, b = {M, D, y, NULL, NULL, NULL, 0, NULL};
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    ferry_plan plan;
    CHECK(plans_write(folder, "whole", world, &a, &b, 1, &options, 1, 0.02) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "whole", world, 1) == FERRY_OK);
    product p = {world, v, pull, push, 0};
    memset(pull, 0, sizeof pull);
    memset(push, 0, sizeof push);
    ferry_sparsify_options all = FERRY_SPARSIFY_DEFAULTS;
    all.value = 1;
    ferry_sparsify_result result;
    const ferry_sink sink = {multiply, &p};
    CHECK(ferry_sparsify(&result, &plan, world, &all, &sink, NULL, NULL) == FERRY_OK);
    CHECK(fabs(result.mass - result.kept_mass) <= 1e-4 * result.mass);
    MPI_Allreduce(MPI_IN_PLACE, pull, N, MPI_DOUBLE, MPI_SUM, world->comm);
    MPI_Allreduce(MPI_IN_PLACE, push, M, MPI_DOUBLE, MPI_SUM, world->comm);
    ferry_apply_options o = FERRY_APPLY_DEFAULTS;
    for (int k = 0; k < 2; k++) {
        carried c;
        o.pull = k;
        CHECK(carry(&c, &plan, world, &o, v, 1) == FERRY_OK);
        close_to(c.out, k ? pull : push, c.rows, 1e-6);
        carried_close(&c);
    }
    ferry_plan_close(&plan);
    free(x);
    free(y);
    free(v);
    free(noise);
}

/* ---- changed inputs, failures ---- */

static void test_changed(const char *folder, const ferry_world *world)
{
    enum { N = 50, M = 40, D = 3 };
    double *x = plans_random(N * D, 1), *y = plans_random(M * D, 2);
    float v[N + M];
    for (int i = 0; i < N + M; i++) v[i] = 1;
    const plans_side a = {N, D, x, NULL, NULL, NULL, 0, NULL}, b = {M, D, y, NULL, NULL, NULL, 0, NULL};
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    for (int side = 0; side < 2; side++) {
        char path[160];
        ferry_plan plan;
        CHECK(plans_write(folder, "changed", world, &a, &b, 1, &options, 1, 1) == FERRY_OK);
        double *values = side ? y : x;
        values[5] += 1e-3;
        snprintf(path, sizeof path, "%s/changed_%s.h5ad", folder, side ? "target" : "source");
        CHECK(plans_write_cells(path, world, side ? &b : &a) == FERRY_OK);
        values[5] -= 1e-3;
        CHECK(plans_open(&plan, folder, "changed", world, 1) == FERRY_OK);
        carried c;
        ferry_apply_options o = FERRY_APPLY_DEFAULTS;
        CHECK(carry(&c, &plan, world, &o, v, 1) == FERRY_E_FILE);
        CHECK(strstr(ferry_error(), side ? "the target changed" : "the source changed") != NULL);
        CHECK(strstr(ferry_error(), path) != NULL);
        carried_close(&c);
        ferry_plan_close(&plan);
    }
    free(x);
    free(y);
}

static void walk_failures(const char *folder, const ferry_world *world, bool pull)
{
    float v[200];
    for (int i = 0; i < 200; i++) v[i] = 1;
    ferry_status status = FERRY_E_NUMERIC;
    int meeting = 0, step = world->size > 2 ? 3 : 1; /* one rank and two fail at every meeting */
    while (status != FERRY_OK && meeting < 400) {
        char text[64];
        carried c = {0};
        ferry_plan plan = {0};
        ferry_apply_options o = {pull, true, true, 0, 0, 0, world->size % 2 ? 1 : 2};
        snprintf(text, sizeof text, "%d:%d", meeting += step, world->size - 1);
        setenv("FERRY_FAIL", text, 1);
        status = plans_open(&plan, folder, "base", world, 1);
        if (status == FERRY_OK) status = carry(&c, &plan, world, &o, v, 2);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        carried_close(&c);
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
    test_oracle(folder, &world, FERRY_DOUBLE, 3e-7);
    test_oracle(folder, &world, FERRY_FLOAT, 1e-5);
    test_layouts(folder, &world, &alone, FERRY_FLOAT, 70);
    test_layouts(folder, &world, &alone, FERRY_DOUBLE, 3);
    test_coupling(folder, &world);
    test_changed(folder, &world);
    walk_failures(folder, &world, false);
    walk_failures(folder, &world, true);
    plans_remove(folder, &world);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

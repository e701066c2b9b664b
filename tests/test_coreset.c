/* Transport by a coreset: near the whole solve, all of it when all cells are drawn, the same on every layout, estimates
 * near what they estimate, failures that all ranks share. */
#include "math/random.h"
#include "test.h"
#include "transport/coreset.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIM 5

static ferry_world world, alone;

typedef struct problem {
    int64_t n, m;
    double *x, *y, *a, *b; /* whole on every rank */
    ferry_cost_options cost;
    ferry_transport_options options;
    ferry_coreset_options coreset;
} problem;
typedef struct answer {
    double *f, *g;
    ferry_potentials p; /* f, g not valid */
} answer;

static double *cells(int64_t count, double shift, uint64_t seed)
{
    double *x = malloc((size_t)(count * DIM) * sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        const int centre = (int)(ferry_random(seed, (uint64_t)i) * ferry_random(seed + 1, (uint64_t)i) * 6);
        for (int k = 0; k < DIM; k++)
            x[i * DIM + k] = (float)(4 * ferry_random(7, (uint64_t)(centre * DIM + k)) + shift +
                                     ferry_random(seed + 2, (uint64_t)(i * DIM + k)));
    }
    return x;
}
static problem make(int64_t n, int64_t m)
{
    problem p = {.n = n,
                 .m = m,
                 .cost = FERRY_COST_DEFAULTS,
                 .options = FERRY_TRANSPORT_DEFAULTS,
                 .coreset = FERRY_CORESET_DEFAULTS};
    double sum_a = 0, sum_b = 0;
    p.x = cells(n, 0, 1);
    p.y = cells(m, 0.2, 11);
    p.a = malloc((size_t)n * sizeof *p.a);
    p.b = malloc((size_t)m * sizeof *p.b);
    for (int64_t i = 0; i < n; i++) sum_a += p.a[i] = i % 37 == 5 ? 0 : 0.5 + ferry_random(21, (uint64_t)i);
    for (int64_t j = 0; j < m; j++) sum_b += p.b[j] = j % 41 == 7 ? 0 : 0.5 + ferry_random(22, (uint64_t)j);
    for (int64_t i = 0; i < n; i++) p.a[i] /= sum_a;
    for (int64_t j = 0; j < m; j++) p.b[j] /= sum_b;
    p.options.check_every = 1;
    p.options.threshold = 1e-4;
    p.coreset.cells = 300;
    p.coreset.sample = 150;
    return p;
}
static void free_problem(problem *p)
{
    free(p->x);
    free(p->y);
    free(p->a);
    free(p->b);
}
static void free_answer(answer *s)
{
    free(s->f);
    free(s->g);
    ferry_potentials_close(&s->p);
    memset(s, 0, sizeof *s);
}

static ferry_matrix rows_of(const double *x, int64_t first, int64_t rows, ferry_precision precision)
{
    const size_t count = (size_t)(rows * DIM) + 1; /* not by ferry_matrix_open, whose allocation may be made to fail */
    ferry_matrix matrix = {.rows = rows, .dim = DIM};
    matrix.f = precision == FERRY_FLOAT ? malloc(count * sizeof *matrix.f) : NULL;
    matrix.d = precision == FERRY_DOUBLE ? malloc(count * sizeof *matrix.d) : NULL;
    for (int64_t e = 0; e < rows * DIM; e++)
        if (matrix.f)
            matrix.f[e] = (float)x[first * DIM + e];
        else
            matrix.d[e] = x[first * DIM + e];
    return matrix;
}
static double *whole(const ferry_world *w, const double *part, int64_t first, int64_t count, int64_t total, bool mine)
{
    double *all = calloc((size_t)total + 1, sizeof *all);
    if (mine && count) memcpy(all + first, part, (size_t)count * sizeof *all);
    MPI_Allreduce(MPI_IN_PLACE, all, (int)total, MPI_DOUBLE, MPI_SUM, w->comm);
    return all;
}

/* Collective over w. */
static ferry_status solve(answer *out, const ferry_world *w, int rows, const problem *p, bool coarse)
{
    ferry_grid grid;
    ferry_cost *cost = NULL;
    memset(out, 0, sizeof *out);
    ferry_status status = ferry_grid_open(&grid, w, rows, w->size / rows, p->n, p->m);
    if (status != FERRY_OK) return status;
    ferry_matrix x = rows_of(p->x, grid.source_first, grid.source_rows, p->cost.precision);
    ferry_matrix y = rows_of(p->y, grid.bring_first, grid.bring_rows, p->cost.precision);
    status = ferry_cost_open(&cost, &grid, &x, &y, &p->cost);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    const double *a = p->a + grid.source_first, *b = p->b + grid.target_first;
    if (status == FERRY_OK)
        status = coarse ? ferry_transport_coarse(&out->p, cost, a, b, &p->options, &p->coreset)
                        : ferry_transport(&out->p, cost, a, b, &p->options);
    if (status == FERRY_OK) {
        out->f = whole(w, out->p.f, grid.source_first, grid.source_rows, p->n, grid.col == 0);
        out->g = whole(w, out->p.g, grid.target_first, grid.target_rows, p->m, grid.row == 0);
    }
    ferry_cost_close(&cost);
    ferry_grid_close(&grid);
    return status;
}

/* Root mean square of f - h in units of epsilon where weights are positive, less the mean difference if `constant`. */
static double apart(const double *f, const double *h, const double *weight, int64_t count, double epsilon,
                    bool constant)
{
    double sum = 0, squares = 0, used = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!(weight[i] > 0)) continue;
        const double d = (f[i] - h[i]) / epsilon;
        sum += d;
        squares += d * d;
        used++;
    }
    return sqrt(fmax(squares / used - (constant ? sum * sum / used / used : 0), 0));
}

static void near_the_whole(const char *kind, double tau_a, double tau_b, ferry_precision precision)
{
    problem p = make(1500, 1300);
    answer all, part, every, guess;
    const bool constant = tau_a == 1 && tau_b == 1;
    const double epsilon = p.options.epsilon;
    const int before = test_failures;
    CHECK(ferry_cost_parse(&p.cost, kind) == FERRY_OK);
    p.cost.precision = precision;
    p.options.tau_a = tau_a;
    p.options.tau_b = tau_b;
    CHECK(solve(&all, &world, world.size, &p, false) == FERRY_OK);
    CHECK(solve(&part, &world, world.size, &p, true) == FERRY_OK);
    p.coreset.certify = FERRY_CERTIFY_SAMPLE;
    CHECK(solve(&guess, &world, world.size, &p, true) == FERRY_OK);
    p.coreset.cells = 2000;
    p.coreset.certify = FERRY_CERTIFY_FULL;
    CHECK(solve(&every, &world, world.size, &p, true) == FERRY_OK);
    if (all.f && part.f && every.f && guess.f) {
        const double f = apart(part.f, all.f, p.a, p.n, epsilon, constant);
        const double g = apart(part.g, all.g, p.b, p.m, epsilon, constant);
        CHECK(f < 0.6 && g < 0.6);
        CHECK(part.p.passes == 1 + (constant && p.cost.kind == FERRY_COST_EUCLIDEAN) && part.p.coarse[0] >= 280);
        CHECK(part.p.coarse[1] < 450 && part.p.checks == 1 && !part.p.estimated && !part.p.converged);
        CHECK(part.p.lower_bound <= all.p.upper_bound && part.p.upper_bound >= all.p.lower_bound);
        CHECK(tau_a < 1 || part.p.row_error < 1e-9);
        CHECK(part.p.lower_bound > all.p.lower_bound - 0.15 * fabs(all.p.transport_cost));
        /* all cells drawn: nothing but one more iteration */
        CHECK(every.p.coarse[0] == p.n - (p.n + 31) / 37 && every.p.coarse[1] == p.m - (p.m + 33) / 41);
        CHECK(every.p.converged && apart(every.f, all.f, p.a, p.n, epsilon, constant) < 5e-3);
        CHECK(apart(every.g, all.g, p.b, p.m, epsilon, constant) < 5e-3);
        /* estimates: of potentials before the iteration, whose rows are off as well */
        CHECK(guess.p.estimated && !guess.p.converged && guess.p.passes == 0 && isinf(guess.p.upper_bound));
        CHECK(guess.p.column_error > 0.4 * part.p.column_error && guess.p.column_error < 2.5 * part.p.column_error);
        CHECK(fabs(guess.p.mass - part.p.mass) < 0.1 * part.p.mass);
        CHECK(fabs(guess.p.transport_cost - part.p.transport_cost) < 0.1 * part.p.transport_cost);
        CHECK(fabs(guess.p.reg_ot_cost - part.p.reg_ot_cost) < 0.05 * fabs(part.p.reg_ot_cost) + 0.005);
        CHECK(guess.p.error_sd > 0 && guess.p.error_sd < guess.p.marginal_error);
        if ((before != test_failures || getenv("FERRY_TEST_TALK")) && world.rank == 0)
            fprintf(stderr,
                    "%s tau %g %g: f %.3f g %.3f eps, %lld + %lld cells, error %.3g, cost %.4g of %.4g, guessed error "
                    "%.3g + %.3g (sd %.2g), mass %.4g of %.4g, cost %.4g, reg %.4g of %.4g; all: f %.1e\n",
                    kind, tau_a, tau_b, f, g, (long long)part.p.coarse[0], (long long)part.p.coarse[1],
                    part.p.marginal_error, part.p.transport_cost, all.p.transport_cost, guess.p.row_error,
                    guess.p.column_error, guess.p.error_sd, guess.p.mass, part.p.mass, guess.p.transport_cost,
                    guess.p.reg_ot_cost, part.p.reg_ot_cost, apart(every.f, all.f, p.a, p.n, epsilon, constant));
    }
    free_answer(&all);
    free_answer(&part);
    free_answer(&every);
    free_answer(&guess);
    free_problem(&p);
}

/* The same bits on one rank and on every grid, with other numbers of threads. */
static void layouts(ferry_certify certify, double tau)
{
    problem p = make(700, 500);
    answer one, many;
    p.coreset.certify = certify;
    p.options.tau_a = tau;
    p.options.max_iterations = 6;
    CHECK(solve(&one, &alone, 1, &p, true) == FERRY_OK);
    for (int rows = 1; rows <= world.size; rows++) {
        if (world.size % rows) continue;
        p.cost.threads = rows % 2 ? 2 : 1;
        CHECK(solve(&many, &world, rows, &p, true) == FERRY_OK);
        if (one.f && many.f) {
            const double of_one[] = {one.p.marginal_error, one.p.mass,        one.p.transport_cost,
                                     one.p.reg_ot_cost,    one.p.lower_bound, one.p.error_sd};
            const double of_many[] = {many.p.marginal_error, many.p.mass,        many.p.transport_cost,
                                      many.p.reg_ot_cost,    many.p.lower_bound, many.p.error_sd};
            CHECK(memcmp(one.f, many.f, (size_t)p.n * sizeof *one.f) == 0);
            CHECK(memcmp(one.g, many.g, (size_t)p.m * sizeof *one.g) == 0);
            CHECK(memcmp(of_one, of_many, sizeof of_one) == 0);
            CHECK(one.p.coarse[0] == many.p.coarse[0] && one.p.iterations == many.p.iterations);
        }
        free_answer(&many);
    }
    free_answer(&one);
    free_problem(&p);
}

static void refused(void)
{
    problem p = make(450, 420);
    answer s;
    p.options.momentum = 1.2;
    CHECK(solve(&s, &world, world.size, &p, true) == FERRY_E_ARG);
    p.options.momentum = 1;
    p.options.f = p.a;
    CHECK(solve(&s, &world, world.size, &p, true) == FERRY_E_ARG);
    p.options.f = NULL;
    p.coreset.sample = 0;
    CHECK(solve(&s, &world, world.size, &p, true) == FERRY_E_ARG);
    p.coreset.sample = 10;
    for (int64_t i = 0; i < p.n; i++) p.a[i] *= 2;
    CHECK(solve(&s, &world, world.size, &p, true) == FERRY_E_ARG);
    memset(p.a, 0, (size_t)p.n * sizeof *p.a);
    CHECK(solve(&s, &world, world.size, &p, true) == FERRY_E_ARG);
    free_problem(&p);
    CHECK(ferry_coreset_cells(100) == 100 && ferry_coreset_cells(30000) == 20000);
    CHECK(ferry_coreset_cells(600000) == 30000 && ferry_coreset_cells(100000000) == 50000);
}

/* Each meeting, or allocation, made to fail once: every rank returns the same failure. */
static void every_failure(const char *variable, ferry_certify certify)
{
    problem p = make(450, 420);
    char text[32];
    int failed = 0;
    p.coreset.cells = 60;
    p.coreset.sample = 20;
    p.coreset.certify = certify;
    p.options.max_iterations = 2;
    for (int k = 1; k < 3000; k += 1 + k / 8) {
        answer s;
        (void)snprintf(text, sizeof text, "%d:%d", k, world.size - 1);
        setenv(variable, text, 1);
        const ferry_status status = solve(&s, &world, world.size, &p, true);
        unsetenv(variable);
        free_answer(&s);
        if (status == FERRY_OK) break;
        failed++;
        CHECK(ferry_max(&world, status) == status && ferry_min(&world, status) == status);
    }
    CHECK(failed > 5);
    free_problem(&p);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    CHECK(ferry_world_split(&alone, &world, world.rank, 0) == FERRY_OK);
    near_the_whole("sq_euclidean", 1, 1, FERRY_FLOAT);
    if (world.size == 1) {
        near_the_whole("sq_euclidean", 0.95, 0.99, FERRY_FLOAT);
        near_the_whole("cosine", 1, 0.9, FERRY_FLOAT);
        near_the_whole("spearman", 0.9, 1, FERRY_FLOAT);
        near_the_whole("euclidean", 1, 1, FERRY_DOUBLE);
    }
    layouts(FERRY_CERTIFY_FULL, 1);
    layouts(FERRY_CERTIFY_SAMPLE, 0.98);
    refused();
    every_failure("FERRY_FAIL", FERRY_CERTIFY_SAMPLE);
    every_failure("FERRY_FAIL_ALLOC", FERRY_CERTIFY_FULL);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

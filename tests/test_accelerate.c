/* The accelerated solver against the plain iteration, against itself on other layouts, and where it is hard. */
#include "test.h"
#include "math/random.h"
#include "mpi/log.h"
#include "transport/sinkhorn.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIM 6

static ferry_world world, alone;

/* A problem, whole on every rank. */
typedef struct problem {
    int64_t n, m;
    double *x, *y, *a, *b; /* [n][DIM], [m][DIM] */
    ferry_cost_options cost;
    ferry_transport_options options;
} problem;
typedef struct answer {
    double *f, *g;
    ferry_potentials p; /* f, g not valid */
} answer;

static double normal(uint64_t seed, uint64_t *counter)
{
    const double u = ferry_random(seed, *counter), v = ferry_random(seed, *counter + 1);
    *counter += 2;
    return sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
}

/* Cells around `groups` centres `apart` from each other; centres are shared by all seeds. */
static double *cells(int64_t count, int groups, double apart, double shift, uint64_t seed)
{
    double *x = calloc((size_t)count * DIM + 1, sizeof *x);
    uint64_t counter = 0;
    for (int64_t i = 0; i < count; i++) {
        /* more of some groups than of others, other ones for every seed */
        const double u = ferry_random(seed + 100, (uint64_t)i);
        uint64_t centre = (uint64_t)DIM * 4 * (uint64_t)(u * u * groups + (seed % 2 ? 0 : 0.3 * groups * u * (1 - u)));
        for (int k = 0; k < DIM; k++)
            x[i * DIM + k] = apart * normal(77, &centre) + 0.5 * normal(seed, &counter) + (k == 0 ? shift : 0);
    }
    return x;
}
static problem make(int64_t n, int64_t m, int groups, double apart)
{
    problem p = {.n = n, .m = m, .cost = FERRY_COST_DEFAULTS, .options = FERRY_TRANSPORT_DEFAULTS};
    p.x = cells(n, groups, apart, 0, 1);
    p.y = cells(m, groups, apart, 0.3, 2);
    p.a = malloc((size_t)n * sizeof *p.a);
    p.b = malloc((size_t)m * sizeof *p.b);
    for (int64_t i = 0; i < n; i++) p.a[i] = 1.0 / (double)n;
    for (int64_t j = 0; j < m; j++) p.b[j] = 1.0 / (double)m;
    p.options.check_every = 1;
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
    free(s->p.errors);
    memset(s, 0, sizeof *s);
}

static ferry_matrix rows_of(const double *x, int64_t first, int64_t rows, ferry_precision precision)
{
    const size_t count = (size_t)(rows * DIM) + 1; /* not by ferry_matrix_open, whose allocation may be made to fail */
    ferry_matrix matrix = {.rows = rows, .dim = DIM};
    matrix.f = precision == FERRY_FLOAT ? malloc(count * sizeof *matrix.f) : NULL;
    matrix.d = precision == FERRY_DOUBLE ? malloc(count * sizeof *matrix.d) : NULL;
    for (int64_t i = 0; i < rows * DIM; i++)
        if (matrix.f)
            matrix.f[i] = (float)x[first * DIM + i];
        else
            matrix.d[i] = x[first * DIM + i];
    return matrix;
}
static double *whole(const ferry_world *w, const double *part, int64_t first, int64_t count, int64_t total, int mine)
{
    double *all = calloc((size_t)total + 1, sizeof *all);
    if (mine && count) memcpy(all + first, part, (size_t)count * sizeof *all);
    MPI_Allreduce(MPI_IN_PLACE, all, (int)total, MPI_DOUBLE, MPI_SUM, w->comm);
    return all;
}

/* Collective over w. */
static ferry_status solve(answer *out, const ferry_world *w, int rows, int cols, const problem *p)
{
    ferry_grid grid;
    ferry_cost *cost = NULL;
    memset(out, 0, sizeof *out);
    ferry_status status = ferry_grid_open(&grid, w, rows, cols, p->n, p->m);
    if (status != FERRY_OK) return status;
    ferry_matrix x = rows_of(p->x, grid.source_first, grid.source_rows, p->cost.precision);
    ferry_matrix y = rows_of(p->y, grid.bring_first, grid.bring_rows, p->cost.precision);
    status = ferry_cost_open(&cost, &grid, &x, &y, &p->cost);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    if (status == FERRY_OK) {
        ferry_transport_options o = p->options;
        if (o.f) o.f += grid.source_first;
        if (o.g) o.g += grid.target_first;
        status = ferry_transport(&out->p, cost, p->a + grid.source_first, p->b + grid.target_first, &o);
        if (status == FERRY_OK) {
            out->f = whole(w, out->p.f, grid.source_first, grid.source_rows, p->n, grid.col == 0);
            out->g = whole(w, out->p.g, grid.target_first, grid.target_rows, p->m, grid.row == 0);
            free(out->p.f);
            free(out->p.g);
            out->p.f = out->p.g = NULL;
        }
    }
    ferry_cost_close(&cost);
    ferry_grid_close(&grid);
    return status;
}
static ferry_status solve_by(answer *out, problem *p, ferry_solver solver)
{
    p->options.solver = solver;
    return solve(out, &alone, 1, 1, p);
}

/* Largest difference where weights are positive, in units of epsilon; the mean difference is taken out first when
 * `constant`. Infinite where one is not finite. */
static double distance(const double *f, const double *g, const double *weights, int64_t count, double epsilon,
                       double *constant)
{
    double sum = 0, most = 0;
    int64_t used = 0;
    if (!f || !g) return INFINITY;
    for (int64_t i = 0; i < count; i++)
        if (weights[i] > 0) {
            sum += f[i] - g[i];
            used++;
        } else if (f[i] != -INFINITY || g[i] != -INFINITY) {
            return INFINITY;
        }
    const double shift = constant ? sum / (double)used : 0;
    for (int64_t i = 0; i < count; i++)
        if (weights[i] > 0) most = fmax(most, fabs(f[i] - g[i] - shift) / epsilon);
    if (constant) *constant = shift;
    return isfinite(sum) ? most : INFINITY;
}

/* --- the same answer --- */

static void agree(problem *p, double epsilon, double tau_a, double tau_b, const char *what)
{
    answer plain, fast;
    double cf = 0, cg = 0;
    const bool balanced = tau_a == 1 && tau_b == 1;
    p->cost.precision = FERRY_DOUBLE;
    p->options.epsilon = epsilon;
    p->options.tau_a = tau_a;
    p->options.tau_b = tau_b;
    p->options.threshold = 1e-9;
    p->options.max_iterations = 20000;
    CHECK(solve_by(&plain, p, FERRY_SOLVER_SINKHORN) == FERRY_OK);
    CHECK(solve_by(&fast, p, FERRY_SOLVER_AUTO) == FERRY_OK);
    const double f = distance(plain.f, fast.f, p->a, p->n, epsilon, balanced ? &cf : NULL);
    const double g = distance(plain.g, fast.g, p->b, p->m, epsilon, balanced ? &cg : NULL);
    const int before = test_failures;
    CHECK(plain.p.converged && fast.p.converged);
    CHECK(f < 1e-4);
    CHECK(g < 1e-4);
    CHECK(fabs(cf + cg) < 1e-4 * epsilon);
    CHECK(fabs(fast.p.reg_ot_cost - plain.p.reg_ot_cost) < 1e-7 * fabs(plain.p.reg_ot_cost));
    CHECK(fabs(fast.p.mass - plain.p.mass) < 1e-7 * plain.p.mass);
    CHECK(fast.p.marginal_error < 1e-9);
    CHECK(fast.p.iterations <= plain.p.iterations);
    if (before != test_failures || getenv("FERRY_TEST_TALK"))
        fprintf(stderr, "%s, epsilon %g, taus %g %g: f %.1e g %.1e eps, iterations %d for %d\n", what, epsilon, tau_a,
                tau_b, f, g, fast.p.iterations, plain.p.iterations);
    free_answer(&plain);
    free_answer(&fast);
}
static void agreement(void)
{
    problem p = make(410, 440, 9, 1.2);
    agree(&p, 0.05, 1, 1, "balanced");
    agree(&p, 0.02, 1, 1, "balanced");
    agree(&p, 0.01, 0.95, 0.9, "unbalanced");
    agree(&p, 0.05, 0.99, 0.99, "unbalanced");
    agree(&p, 0.03, 1, 0.9, "one side");
    agree(&p, 0.03, 0.95, 1, "one side");
    for (int64_t i = 0; i < p.n; i++) p.a[i] = i % 7 == 3 || i < 40 ? 0 : 1 + (double)(i % 5);
    double sum = 0, total = 0;
    for (int64_t j = 0; j < p.m; j++) p.b[j] = j % 11 == 0 || j >= 400 ? 0 : 1 + (double)(j % 3);
    for (int64_t i = 0; i < p.n; i++) sum += p.a[i];
    for (int64_t j = 0; j < p.m; j++) total += p.b[j];
    for (int64_t i = 0; i < p.n; i++) p.a[i] *= 3 / sum;
    for (int64_t j = 0; j < p.m; j++) p.b[j] *= 3 / total;
    agree(&p, 0.05, 1, 1, "zero weights, mass not 1");
    agree(&p, 0.03, 0.9, 0.95, "zero weights");
    p.cost.kind = FERRY_COST_COSINE;
    agree(&p, 0.05, 1, 1, "cosine");
    p.cost.kind = FERRY_COST_EUCLIDEAN;
    agree(&p, 0.05, 1, 1, "euclidean");
    free_problem(&p);
}

/* --- fewer passes --- */

static void passes(int64_t n, int64_t m, int groups, double apart, double epsilon, double tau, int most, int times)
{
    problem p = make(n, m, groups, apart);
    answer plain, fast;
    p.options.epsilon = epsilon;
    p.options.tau_a = p.options.tau_b = tau;
    p.options.max_iterations = 3000;
    CHECK(solve_by(&plain, &p, FERRY_SOLVER_SINKHORN) == FERRY_OK);
    CHECK(solve_by(&fast, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(fast.p.converged && fast.p.marginal_error < 1e-3);
    const int before = test_failures;
    CHECK(fast.p.iterations <= most);
    CHECK(fast.p.passes <= most + 4);
    CHECK(plain.p.iterations >= times * fast.p.iterations);
    if (before != test_failures || getenv("FERRY_TEST_TALK"))
        fprintf(stderr, "%d groups, epsilon %g, tau %g: %d iterations for %d\n", groups, epsilon, tau,
                fast.p.iterations, plain.p.iterations);
    free_answer(&plain);
    free_answer(&fast);
    free_problem(&p);
}

/* Passes over all pairs by a path of epsilons and over the kept plan; most0: as many where nothing is kept. */
static void kept_passes(double epsilon, double tau_a, double tau_b, int most, int most0)
{
    problem p = make(900, 1000, 30, 2);
    answer kept, none, little;
    p.options.epsilon = epsilon;
    p.options.tau_a = tau_a;
    p.options.tau_b = tau_b;
    CHECK(solve_by(&kept, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    p.options.cache_bytes = 0;
    CHECK(solve_by(&none, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    p.options.cache_bytes = 400; /* not even for the lists of tiles */
    CHECK(solve_by(&little, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    const int before = test_failures;
    CHECK(kept.p.converged && kept.p.marginal_error < 1e-3 && kept.p.stored_passes > 0);
    CHECK(kept.p.stored_share > 0 && kept.p.stored_share <= kept.p.stored_passes);
    CHECK(none.p.converged && none.p.stored_passes == 0 && none.p.stored_share == 0);
    CHECK(little.p.converged && little.p.stored_passes == 0);
    CHECK(kept.p.passes <= most);
    CHECK(none.p.passes <= most0);
    CHECK(kept.p.passes < none.p.passes);
    CHECK(fabs(kept.p.reg_ot_cost - none.p.reg_ot_cost) < 1e-3 * fabs(none.p.reg_ot_cost));
    CHECK(fabs(kept.p.mass - none.p.mass) < 2e-3 * none.p.mass);
    if (before != test_failures || getenv("FERRY_TEST_TALK"))
        fprintf(stderr, "epsilon %g, taus %g %g: %d passes and %d kept (%.2f of all pairs) for %d\n", epsilon, tau_a,
                tau_b, kept.p.passes, kept.p.stored_passes, kept.p.stored_share, none.p.passes);
    free_answer(&kept);
    free_answer(&none);
    free_answer(&little);
    free_problem(&p);
}

/* --- the same bits --- */

static void same_bits(const answer *s, const answer *t, const problem *p)
{
    CHECK(s->f && t->f && s->g && t->g);
    if (!s->f || !t->f || !s->g || !t->g) return;
    CHECK(memcmp(s->f, t->f, (size_t)p->n * sizeof *s->f) == 0);
    CHECK(memcmp(s->g, t->g, (size_t)p->m * sizeof *s->g) == 0);
    CHECK(s->p.iterations == t->p.iterations && s->p.passes == t->p.passes);
    CHECK(s->p.stored_passes == t->p.stored_passes && s->p.stored_share == t->p.stored_share);
    CHECK(s->p.marginal_error == t->p.marginal_error && s->p.reg_ot_cost == t->p.reg_ot_cost);
    CHECK(s->p.mass == t->p.mass && s->p.transport_cost == t->p.transport_cost);
}
static void layouts(problem *p)
{
    answer one, other;
    CHECK(solve_by(&one, p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(one.p.converged);
    CHECK((one.p.stored_passes > 0) == (p->cost.precision == FERRY_FLOAT));
    for (int rows = 1; rows <= world.size; rows++) {
        if (world.size % rows) continue;
        for (p->cost.threads = 1; p->cost.threads <= 3; p->cost.threads += 2) {
            CHECK(solve(&other, &world, rows, world.size / rows, p) == FERRY_OK);
            same_bits(&one, &other, p);
            free_answer(&other);
        }
    }
    p->cost.threads = 0;
    free_answer(&one);
}

/* --- hard cases: never unconverged where the plain iteration converges --- */

static void hard(problem *p, const char *what)
{
    answer plain, fast;
    const ferry_status want = solve_by(&plain, p, FERRY_SOLVER_SINKHORN);
    const ferry_status got = solve_by(&fast, p, FERRY_SOLVER_AUTO);
    const int before = test_failures;
    CHECK(got == want);
    CHECK(fast.p.converged || !plain.p.converged);
    CHECK(!fast.p.converged || fast.p.marginal_error < p->options.threshold);
    if (before != test_failures || getenv("FERRY_TEST_TALK"))
        fprintf(stderr, "%s: error %.1e after %d for %.1e after %d\n", what, fast.p.marginal_error, fast.p.iterations,
                plain.p.marginal_error, plain.p.iterations);
    free_answer(&plain);
    free_answer(&fast);
}
static void hard_cases(void)
{
    problem p = make(430, 410, 5, 1);
    for (int k = 0; k < DIM; k++) { /* cells far from all others, on both sides */
        p.x[k] = 400;
        p.x[DIM + k] = k ? 0 : -900;
        p.y[7 * DIM + k] = k == 2 ? 700 : 0;
    }
    p.cost.scale = FERRY_SCALE_NUMBER;
    p.options.epsilon = 1;
    hard(&p, "outliers");
    p.options.tau_a = p.options.tau_b = 0.9;
    hard(&p, "outliers, unbalanced");
    free_problem(&p);

    p = make(430, 410, 2, 20); /* two distant groups with other masses: some has to go all the way */
    hard(&p, "two groups");
    p.options.epsilon = 0.01;
    hard(&p, "two groups, smaller epsilon");
    p.options.tau_a = 0.999;
    p.options.tau_b = 0.999;
    hard(&p, "two groups, unbalanced");
    free_problem(&p);

    p = make(430, 410, 1, 0); /* all cells alike */
    for (int64_t e = 0; e < p.n * DIM; e++) p.x[e] = 1.5;
    for (int64_t e = 0; e < p.m * DIM; e++) p.y[e] = 1.5;
    p.cost.scale = FERRY_SCALE_NUMBER;
    hard(&p, "all alike");
    for (int64_t e = 0; e < p.m * DIM; e++) p.y[e] = (double)(e / DIM % 2); /* two places */
    hard(&p, "two places");
    free_problem(&p);

    p = make(430, 410, 6, 1);
    p.options.threshold = 0; /* never reached: the best point, not the last */
    p.options.max_iterations = 120;
    answer s;
    CHECK(solve_by(&s, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(!s.p.converged && s.p.iterations == 120 && s.p.checks == 120);
    double best = INFINITY;
    for (int k = 0; k < s.p.checks; k++) best = fmin(best, s.p.errors[k]);
    CHECK(s.p.marginal_error <= 1.001 * best + 1e-7);
    free_answer(&s);
    free_problem(&p);
}

/* --- a given start --- */

static void start(void)
{
    problem p = make(450, 470, 8, 1.2);
    answer first, second;
    p.options.epsilon = 0.02;
    CHECK(solve_by(&first, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    p.options.f = first.f;
    p.options.g = first.g;
    CHECK(solve_by(&second, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(second.p.converged && second.p.iterations <= 2);
    free_answer(&second);
    p.options.f = NULL;
    CHECK(solve_by(&second, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(second.p.converged && second.p.iterations == 1); /* g as given: the same rows and error */
    CHECK(fabs(second.p.marginal_error - first.p.marginal_error) < 1e-6);
    free_answer(&first);
    free_answer(&second);
    free_problem(&p);
}

/* Every meeting (FERRY_FAIL) or allocation (FERRY_FAIL_ALLOC) fails once, on one rank: all ranks get the same error. */
static void every_failure(const char *variable, int rows, int cols, int rank)
{
    problem p = make(420, 405, 4, 1);
    answer s;
    int failures = 0, status = 1, step = 1;
    p.options.max_iterations = 2;
    for (int at = 1; status != FERRY_OK; at += step) {
        char value[32];
        snprintf(value, sizeof value, "%d:%d", at, rank);
        setenv(variable, value, 1);
        status = (int)solve(&s, &world, rows, cols, &p);
        unsetenv(variable);
        free_answer(&s);
        int most[2] = {status, -status};
        MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_INT, MPI_MAX, world.comm);
        CHECK(most[0] == -most[1]);
        if (most[0] != -most[1]) break;
        failures++;
        step = 1 + failures / 40; /* later ones are those of the passes, many times over */
    }
    CHECK(failures > 30 && status == FERRY_OK);
    free_problem(&p);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world_open(&world, MPI_COMM_WORLD);
    ferry_world_open(&alone, MPI_COMM_SELF);
    ferry_log_level(FERRY_WARN);
    if (world.size == 1) {
        agreement();
        passes(900, 1000, 30, 2, 0.05, 1, 12, 3);
        passes(900, 1000, 30, 2, 0.01, 1, 30, 3);
        passes(900, 1000, 30, 2, 0.02, 0.99, 15, 5);
        kept_passes(0.05, 1, 1, 4, 12);
        kept_passes(0.01, 1, 1, 8, 30);
        kept_passes(0.005, 1, 1, 10, 40);
        kept_passes(0.001, 1, 1, 20, 120);
        kept_passes(0.05, 0.99, 0.999, 4, 12);
        kept_passes(0.01, 0.95, 1, 8, 30);
        kept_passes(0.005, 0.999, 0.999, 10, 60);
        kept_passes(0.001, 1, 0.95, 20, 120);
        hard_cases();
        start();
    }
    problem p = make(700, 650, 12, 1.5);
    p.options.epsilon = 0.02;
    layouts(&p);
    p.options.tau_a = 0.99;
    p.options.tau_b = 0.9;
    layouts(&p);
    p.options.epsilon = 0.004;
    layouts(&p);
    p.options.epsilon = 0.02;
    p.options.tau_a = p.options.tau_b = 1;
    p.cost.kind = FERRY_COST_EUCLIDEAN;
    p.cost.precision = FERRY_DOUBLE;
    layouts(&p);
    free_problem(&p);
    every_failure("FERRY_FAIL", world.size, 1, world.size - 1);
    if (world.size > 1) every_failure("FERRY_FAIL", 1, world.size, 0);
    every_failure("FERRY_FAIL_ALLOC", world.size, 1, world.size - 1);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

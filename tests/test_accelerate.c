/* The accelerated solver against the plain iteration, against itself on other layouts, and where it is hard. */
#include "problem.h"

#define DIM 6

static problem make(int64_t n, int64_t m, int centres, double apart)
{
    return problem_make(n, m, DIM, centres, apart, UNEVEN);
}
static ferry_status solve_by(solution *out, problem *p, ferry_solver solver)
{
    p->options.solver = solver;
    return problem_solve(out, &alone, 1, 1, p);
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
    solution plain, fast;
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
    if (problem_talks(before))
        fprintf(stderr, "%s, epsilon %g, taus %g %g: f %.1e g %.1e eps, iterations %d for %d\n", what, epsilon, tau_a,
                tau_b, f, g, fast.p.iterations, plain.p.iterations);
    solution_free(&plain);
    solution_free(&fast);
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
    problem_free(&p);
}

/* --- fewer passes --- */

static void passes(int64_t n, int64_t m, int groups, double apart, double epsilon, double tau, int most, int times)
{
    problem p = make(n, m, groups, apart);
    solution plain, fast;
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
    if (problem_talks(before))
        fprintf(stderr, "%d groups, epsilon %g, tau %g: %d iterations for %d\n", groups, epsilon, tau,
                fast.p.iterations, plain.p.iterations);
    solution_free(&plain);
    solution_free(&fast);
    problem_free(&p);
}

/* Passes over all pairs by a path of epsilons and over the kept plan; most0: as many where nothing is kept. */
static void kept_passes(double epsilon, double tau_a, double tau_b, int most, int most0)
{
    problem p = make(900, 1000, 30, 2);
    solution kept, none, little;
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
    if (problem_talks(before))
        fprintf(stderr, "epsilon %g, taus %g %g: %d passes and %d kept (%.2f of all pairs) for %d\n", epsilon, tau_a,
                tau_b, kept.p.passes, kept.p.stored_passes, kept.p.stored_share, none.p.passes);
    solution_free(&kept);
    solution_free(&none);
    solution_free(&little);
    problem_free(&p);
}

/* --- the same bits --- */

static void layouts(problem *p)
{
    solution one, other;
    CHECK(solve_by(&one, p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(one.p.converged);
    CHECK((one.p.stored_passes > 0) == (p->cost.precision == FERRY_FLOAT));
    for (int rows = 1; rows <= world.size; rows++) {
        if (world.size % rows) continue;
        for (p->cost.threads = 1; p->cost.threads <= 3; p->cost.threads += 2) {
            CHECK(problem_solve(&other, &world, rows, world.size / rows, p) == FERRY_OK);
            solution_same(&one, &other, p);
            solution_free(&other);
        }
    }
    p->cost.threads = 1;
    solution_free(&one);
}

/* --- hard cases: never unconverged where the plain iteration converges --- */

static void hard(problem *p, const char *what)
{
    solution plain, fast;
    const ferry_status want = solve_by(&plain, p, FERRY_SOLVER_SINKHORN);
    const ferry_status got = solve_by(&fast, p, FERRY_SOLVER_AUTO);
    const int before = test_failures;
    CHECK(got == want);
    CHECK(fast.p.converged || !plain.p.converged);
    CHECK(!fast.p.converged || fast.p.marginal_error < p->options.threshold);
    if (problem_talks(before))
        fprintf(stderr, "%s: error %.1e after %d for %.1e after %d\n", what, fast.p.marginal_error, fast.p.iterations,
                plain.p.marginal_error, plain.p.iterations);
    solution_free(&plain);
    solution_free(&fast);
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
    problem_free(&p);

    p = make(430, 410, 2, 20); /* two distant groups with other masses: some has to go all the way */
    hard(&p, "two groups");
    p.options.epsilon = 0.01;
    hard(&p, "two groups, smaller epsilon");
    p.options.tau_a = 0.999;
    p.options.tau_b = 0.999;
    hard(&p, "two groups, unbalanced");
    problem_free(&p);

    p = make(430, 410, 1, 0); /* all cells alike */
    for (int64_t e = 0; e < p.n * DIM; e++) p.x[e] = 1.5;
    for (int64_t e = 0; e < p.m * DIM; e++) p.y[e] = 1.5;
    p.cost.scale = FERRY_SCALE_NUMBER;
    hard(&p, "all alike");
    for (int64_t e = 0; e < p.m * DIM; e++) p.y[e] = (double)(e / DIM % 2); /* two places */
    hard(&p, "two places");
    problem_free(&p);

    p = make(430, 410, 6, 1);
    p.options.threshold = 0; /* never reached: the best point, not the last */
    p.options.max_iterations = 120;
    solution s;
    CHECK(solve_by(&s, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(!s.p.converged && s.p.iterations == 120 && s.p.checks == 120);
    double best = INFINITY;
    for (int k = 0; k < s.p.checks; k++) best = fmin(best, s.p.errors[k]);
    CHECK(s.p.marginal_error <= 1.001 * best + 1e-7);
    solution_free(&s);
    problem_free(&p);
}

/* --- a given start --- */

static void start(void)
{
    problem p = make(450, 470, 8, 1.2);
    solution first, second;
    p.options.epsilon = 0.02;
    CHECK(solve_by(&first, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    p.options.f = first.f;
    p.options.g = first.g;
    CHECK(solve_by(&second, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(second.p.converged && second.p.iterations <= 2);
    solution_free(&second);
    p.options.f = NULL;
    CHECK(solve_by(&second, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(second.p.converged && second.p.iterations == 1); /* g as given: the same rows and error */
    CHECK(fabs(second.p.marginal_error - first.p.marginal_error) < 1e-6);
    solution_free(&first);
    solution_free(&second);
    problem_free(&p);
}

/* Columns that choose their mass, most of them next to none: the kept plan holds only near where it was made. */
static void free_columns(void)
{
    problem p = make(900, 1000, 300, 1);
    solution kept;
    p.options.epsilon = 0.001;
    p.options.tau_b = 0.95;
    CHECK(solve_by(&kept, &p, FERRY_SOLVER_AUTO) == FERRY_OK);
    CHECK(kept.p.converged && kept.p.marginal_error < 1e-3);
    CHECK(kept.p.passes <= 12);
    CHECK(kept.p.stored_passes <= 60);
    solution_free(&kept);
    problem_free(&p);
}

int main(int argc, char **argv)
{
    problem_begin(&argc, &argv);
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
        free_columns();
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
    problem_free(&p);
    p = make(420, 405, 4, 1);
    p.options.max_iterations = 2;
    problem_failures("FERRY_FAIL", world.size - 1, 40, 30, solution_attempt, &p, world.size, 1);
    if (world.size > 1) problem_failures("FERRY_FAIL", 0, 40, 30, solution_attempt, &p, 1, world.size);
    problem_failures("FERRY_FAIL_ALLOC", world.size - 1, 40, 30, solution_attempt, &p, world.size, 1);
    problem_free(&p);
    return problem_end();
}

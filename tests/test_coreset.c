/* Transport by a coreset: near the whole solve, all of it when all cells are drawn, the same on every layout, estimates
 * near what they estimate, failures that all ranks share. */
#include "problem.h"

#define DIM 5

static const ferry_coreset_options drawn = {.cells = 300, .sample = 150};

/* Small clouds of few places, nearly each of which a sample meets. */
static void place(double *x, int64_t count, double shift, uint64_t seed)
{
    for (int64_t i = 0; i < count; i++) {
        const int centre = (int)(ferry_random(seed, (uint64_t)i) * ferry_random(seed + 1, (uint64_t)i) * 6);
        for (int k = 0; k < DIM; k++)
            x[i * DIM + k] = (float)(4 * ferry_random(7, (uint64_t)(centre * DIM + k)) + shift +
                                     ferry_random(seed + 2, (uint64_t)(i * DIM + k)));
    }
}
static problem make(int64_t n, int64_t m)
{
    problem p = problem_make(n, m, DIM, 6, 1, UNEVEN);
    double sum_a = 0, sum_b = 0;
    place(p.x, n, 0, 1);
    place(p.y, m, 0.2, 11);
    for (int64_t i = 0; i < n; i++) sum_a += p.a[i] = i % 37 == 5 ? 0 : 0.5 + ferry_random(21, (uint64_t)i);
    for (int64_t j = 0; j < m; j++) sum_b += p.b[j] = j % 41 == 7 ? 0 : 0.5 + ferry_random(22, (uint64_t)j);
    for (int64_t i = 0; i < n; i++) p.a[i] /= sum_a;
    for (int64_t j = 0; j < m; j++) p.b[j] /= sum_b;
    p.options.threshold = 1e-4;
    return p;
}
/* Collective. By a coreset, or (NULL) as a whole. */
static ferry_status solve(solution *out, problem *p, const ferry_coreset_options *coarse)
{
    p->coarse = coarse;
    return problem_solve(out, &world, world.size, 1, p);
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
    ferry_coreset_options coarse = drawn;
    problem p = make(1500, 1300);
    solution all, part, every, guess;
    const bool constant = tau_a == 1 && tau_b == 1;
    const double epsilon = p.options.epsilon;
    const int before = test_failures;
    CHECK(ferry_cost_parse(&p.cost, kind) == FERRY_OK);
    p.cost.precision = precision;
    p.options.tau_a = tau_a;
    p.options.tau_b = tau_b;
    CHECK(solve(&all, &p, NULL) == FERRY_OK);
    CHECK(solve(&part, &p, &coarse) == FERRY_OK);
    coarse.certify = FERRY_CERTIFY_SAMPLE;
    CHECK(solve(&guess, &p, &coarse) == FERRY_OK);
    coarse.cells = 2000;
    coarse.certify = FERRY_CERTIFY_FULL;
    CHECK(solve(&every, &p, &coarse) == FERRY_OK);
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
        if (problem_talks(before) && world.rank == 0)
            fprintf(stderr,
                    "%s tau %g %g: f %.3f g %.3f eps, %lld + %lld cells, error %.3g, cost %.4g of %.4g, guessed error "
                    "%.3g + %.3g (sd %.2g), mass %.4g of %.4g, cost %.4g, reg %.4g of %.4g; all: f %.1e\n",
                    kind, tau_a, tau_b, f, g, (long long)part.p.coarse[0], (long long)part.p.coarse[1],
                    part.p.marginal_error, part.p.transport_cost, all.p.transport_cost, guess.p.row_error,
                    guess.p.column_error, guess.p.error_sd, guess.p.mass, part.p.mass, guess.p.transport_cost,
                    guess.p.reg_ot_cost, part.p.reg_ot_cost, apart(every.f, all.f, p.a, p.n, epsilon, constant));
    }
    solution_free(&all);
    solution_free(&part);
    solution_free(&every);
    solution_free(&guess);
    problem_free(&p);
}

/* The same bits on one rank and on every grid, with other numbers of threads. */
static void layouts(ferry_certify certify, double tau)
{
    ferry_coreset_options coarse = drawn;
    problem p = make(700, 500);
    solution one, many;
    coarse.certify = certify;
    p.options.tau_a = tau;
    p.options.max_iterations = 6;
    p.coarse = &coarse;
    CHECK(problem_solve(&one, &alone, 1, 1, &p) == FERRY_OK);
    for (int rows = 1; rows <= world.size; rows++) {
        if (world.size % rows) continue;
        p.cost.threads = rows % 2 ? 2 : 1;
        CHECK(problem_solve(&many, &world, rows, world.size / rows, &p) == FERRY_OK);
        solution_same(&one, &many, &p);
        solution_free(&many);
    }
    solution_free(&one);
    problem_free(&p);
}

static void refused(void)
{
    ferry_coreset_options coarse = drawn;
    problem p = make(450, 420);
    solution s;
    p.options.momentum = 1.2;
    CHECK(solve(&s, &p, &coarse) == FERRY_E_ARG);
    p.options.momentum = 1;
    p.options.f = p.a;
    CHECK(solve(&s, &p, &coarse) == FERRY_E_ARG);
    p.options.f = NULL;
    coarse.sample = 0;
    CHECK(solve(&s, &p, &coarse) == FERRY_E_ARG);
    coarse.sample = 10;
    for (int64_t i = 0; i < p.n; i++) p.a[i] *= 2;
    CHECK(solve(&s, &p, &coarse) == FERRY_E_ARG);
    memset(p.a, 0, (size_t)p.n * sizeof *p.a);
    CHECK(solve(&s, &p, &coarse) == FERRY_E_ARG);
    problem_free(&p);
    CHECK(ferry_coreset_cells(100) == 100 && ferry_coreset_cells(30000) == 20000);
    CHECK(ferry_coreset_cells(600000) == 30000 && ferry_coreset_cells(100000000) == 50000);
}

static void every_failure(const char *variable, ferry_certify certify)
{
    const ferry_coreset_options coarse = {.cells = 60, .sample = 20, .certify = certify};
    problem p = make(450, 420);
    p.coarse = &coarse;
    p.options.max_iterations = 2;
    problem_failures(variable, world.size - 1, 8, 5, solution_attempt, &p, world.size, 1);
    problem_free(&p);
}

int main(int argc, char **argv)
{
    problem_begin(&argc, &argv);
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
    return problem_end();
}

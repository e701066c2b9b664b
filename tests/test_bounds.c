/* The optimum lies between the bounds that every result carries: against the same problem solved here in float64, pair
 * by pair, along a path of falling epsilons. */
#include "problem.h"

#define DIM 4
#define N   21
#define M   17

static double x[N * DIM], y[M * DIM], a[N], b[M], cost[N][M]; /* cost: scaled to mean 1 */

static void make_points(double mass_b)
{
    double sum_a = 0, sum_b = 0, mean = 0;
    for (int e = 0; e < N * DIM; e++) x[e] = (float)(ferry_random(1, (uint64_t)e) + 2 * (e / DIM % 3));
    for (int e = 0; e < M * DIM; e++) y[e] = (float)(ferry_random(2, (uint64_t)e) * 1.5 + 2.2 * (e / DIM % 3));
    for (int i = 0; i < N; i++) sum_a += a[i] = i == 4 ? 0 : 0.3 + ferry_random(3, (uint64_t)i);
    for (int j = 0; j < M; j++) sum_b += b[j] = j == 6 ? 0 : 0.3 + ferry_random(4, (uint64_t)j);
    for (int i = 0; i < N; i++) a[i] /= sum_a;
    for (int j = 0; j < M; j++) b[j] *= mass_b / sum_b;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++) {
            cost[i][j] = 0;
            for (int k = 0; k < DIM; k++) cost[i][j] += pow(x[i * DIM + k] - y[j * DIM + k], 2);
            mean += cost[i][j] / (N * M);
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++) cost[i][j] /= mean;
}
static void other_cost(void)
{
    double mean = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++) {
            cost[i][j] = 0;
            for (int k = 0; k < DIM; k++) cost[i][j] += pow(x[i * DIM + k] - y[j * DIM + k], 2);
            mean += (cost[i][j] = sqrt(cost[i][j])) / (N * M);
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++) cost[i][j] /= mean;
}

static double dual_part(double weight, double h, double rho)
{
    return isinf(rho) ? weight * h : -rho * weight * expm1(-h / rho);
}
/* Both sides penalised: the constant at which the dual value is largest. */
static void best_constant(double *f, double *g, double rho_a, double rho_b)
{
    double of_f = 0, of_g = 0;
    if (isinf(rho_a) || isinf(rho_b)) return;
    for (int i = 0; i < N; i++) of_f += a[i] > 0 ? a[i] * exp(-f[i] / rho_a) : 0;
    for (int j = 0; j < M; j++) of_g += b[j] > 0 ? b[j] * exp(-g[j] / rho_b) : 0;
    const double shift = rho_a * rho_b / (rho_a + rho_b) * (log(of_f) - log(of_g));
    for (int i = 0; i < N; i++) f[i] += shift;
    for (int j = 0; j < M; j++) g[j] -= shift;
}
/* The largest dual value; *left: how far its marginals are off, so how far it may be from the optimum. */
static double optimum(double *left, double epsilon, double rho_a, double rho_b)
{
    double f[N] = {0}, g[M] = {0}, value = 0;
    for (int stage = 0; stage < 12; stage++) {
        const double eps = epsilon * pow(0.3 / epsilon, stage < 11 ? (11 - stage) / 11.0 : 0);
        const double ta = isinf(rho_a) ? 1 : rho_a / (rho_a + eps), tb = isinf(rho_b) ? 1 : rho_b / (rho_b + eps);
        for (int it = 0; it < (stage < 11 ? 100 : 6000); it++) {
            double moved = 0;
            for (int i = 0; i < N; i++) {
                double top = -INFINITY, sum = 0;
                if (!(a[i] > 0)) continue;
                for (int j = 0; j < M; j++)
                    if (b[j] > 0) top = fmax(top, (g[j] - cost[i][j]) / eps);
                for (int j = 0; j < M; j++)
                    if (b[j] > 0) sum += exp((g[j] - cost[i][j]) / eps - top);
                f[i] = ta * eps * (log(a[i]) - top - log(sum));
            }
            for (int j = 0; j < M; j++) {
                double top = -INFINITY, sum = 0;
                if (!(b[j] > 0)) continue;
                for (int i = 0; i < N; i++)
                    if (a[i] > 0) top = fmax(top, (f[i] - cost[i][j]) / eps);
                for (int i = 0; i < N; i++)
                    if (a[i] > 0) sum += exp((f[i] - cost[i][j]) / eps - top);
                const double now = tb * eps * (log(b[j]) - top - log(sum));
                moved = fmax(moved, fabs(now - g[j]) / eps);
                g[j] = now;
            }
            if (moved < 1e-13) break;
            best_constant(f, g, rho_a, rho_b);
        }
    }
    *left = 0;
    for (int i = 0; i < N; i++) {
        double row = 0;
        for (int j = 0; j < M; j++)
            if (a[i] > 0 && b[j] > 0) row += exp((f[i] + g[j] - cost[i][j]) / epsilon);
        value -= epsilon * row;
        if (a[i] > 0) *left += fabs(row - (isinf(rho_a) ? a[i] : a[i] * exp(-f[i] / rho_a)));
    }
    for (int i = 0; i < N; i++) value += a[i] > 0 ? dual_part(a[i], f[i], rho_a) : 0;
    for (int j = 0; j < M; j++) value += b[j] > 0 ? dual_part(b[j], g[j], rho_b) : 0;
    return value;
}

/* After few and many iterations, float and double, the bounds hold and close. */
static void bounds(const char *kind, double tau_a, double tau_b, double epsilon, double momentum)
{
    static const int iterations[] = {2, 5, 20, 100};
    const double rho_a = tau_a == 1 ? INFINITY : epsilon * tau_a / (1 - tau_a);
    const double rho_b = tau_b == 1 ? INFINITY : epsilon * tau_b / (1 - tau_b);
    double left, gap = INFINITY;
    const double right = optimum(&left, epsilon, rho_a, rho_b);
    for (int k = 0; k < 8; k++) {
        if (world.size > 1 && k != 2 && k != 5) continue; /* bits are the same on any ranks: test_sinkhorn */
        const int before = test_failures, rows = k % 4 < 2 ? world.size : 1;
        problem here = {.n = N, .m = M, .dim = DIM, .x = x, .y = y, .a = a, .b = b, .cost = FERRY_COST_DEFAULTS};
        solution s;
        here.options = (ferry_transport_options)FERRY_TRANSPORT_DEFAULTS;
        CHECK(ferry_cost_parse(&here.cost, kind) == FERRY_OK);
        here.cost.precision = k % 2 ? FERRY_DOUBLE : FERRY_FLOAT;
        here.options.solver = FERRY_SOLVER_SINKHORN;
        here.options.epsilon = epsilon;
        here.options.tau_a = tau_a;
        here.options.tau_b = tau_b;
        here.options.threshold = 0;
        here.options.check_every = 1;
        here.options.momentum = momentum;
        here.options.max_iterations = iterations[k / 2];
        CHECK(problem_solve(&s, &world, rows, world.size / rows, &here) == FERRY_OK);
        const ferry_potentials p = s.p;
        CHECK(p.lower_bound <= right + 2 * left + 1e-12);
        CHECK(p.upper_bound >= right - 1e-12);
        CHECK(p.dual_gap >= -1e-7 && p.dual_gap <= p.upper_bound - p.lower_bound);
        CHECK(momentum != 1 || tau_a < 1 || p.row_error < 1e-9);
        CHECK(momentum == 1 || p.row_error_max <= p.row_error);
        CHECK(p.column_error_max <= p.column_error + 1e-15);
        CHECK(tau_a < 1 || tau_b < 1 || fabs(p.column_error - p.marginal_error) <= 1e-12);
        /* first order in the error where rows and columns are exact, second order otherwise */
        CHECK(tau_b < 1 || tau_a < 1 || !isfinite(p.dual_gap) || p.dual_gap < 4 * p.column_error + 1e-6);
        if (k == 7 && left < 1e-9) gap = p.upper_bound - p.lower_bound;
        if (before != test_failures && world.rank == 0)
            fprintf(stderr, "%s tau %g %g eps %g, %d iterations, %s: %.12g <= %.12g <= %.12g (left %.1e, error %.1e)\n",
                    kind, tau_a, tau_b, epsilon, iterations[k / 2], k % 2 ? "double" : "float", p.lower_bound, right,
                    p.upper_bound, left, p.column_error);
        if (k == 7 && world.rank == 0 && getenv("FERRY_TEST_TALK"))
            fprintf(stderr, "%s tau %g %g eps %g: gap %.1e, below by %.1e, above by %.1e (left %.1e, error %.1e)\n",
                    kind, tau_a, tau_b, epsilon, p.dual_gap, right - p.lower_bound, p.upper_bound - right, left,
                    p.column_error);
        solution_free(&s);
    }
    CHECK(!(tau_a < 0.99 && tau_b < 0.99) || isinf(gap) || gap < 1e-6); /* second order */
}

int main(int argc, char **argv)
{
    static const double taus[][2] = {{1, 1}, {.95, .95}, {.95, 1}, {1, .9}, {.9999, .9999}}, eps[] = {.05, .01, .001};
    problem_begin(&argc, &argv);
    for (int t = 0; t < 5; t++)
        for (int e = 0; e < 3; e++) {
            make_points(t == 0 ? 1 : 1.2);
            bounds("sq_euclidean", taus[t][0], taus[t][1], eps[e], 1);
        }
    for (int t = 0; t < 4; t++) {
        make_points(t == 0 ? 1 : 1.2);
        bounds("sq_euclidean", taus[t][0], taus[t][1], .02, 1.5);
        other_cost();
        bounds("euclidean", taus[t][0], taus[t][1], .05, 1);
    }
    return problem_end();
}

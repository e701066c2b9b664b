/* The solver against the oracles (spec/transport.md), and against itself on other layouts. */
#include "oracle.h"
#include "test.h"
#include "mpi/log.h"
#include "transport/cost_impl.h"
#include "transport/sinkhorn.h"
#include <math.h>

static ferry_world world, alone;
static hid_t file;

/* A problem, whole on every rank. */
typedef struct problem {
    int64_t n, m;
    int dim;
    double *x, *y, *a, *b;
    ferry_cost_options cost;
    ferry_transport_options options;
} problem;
static void free_problem(problem *p)
{
    free(p->x);
    free(p->y);
    free(p->a);
    free(p->b);
}

/* A solved problem, whole on every rank; the last numbers are those of ferry_potentials. */
typedef struct answer {
    double *f, *g;
    ferry_potentials p; /* f, g not valid; errors owned */
    double inv_scale, mean, std;
} answer;
static void free_answer(answer *s)
{
    free(s->f);
    free(s->g);
    free(s->p.errors);
}

/* Rows first ... of x in the precision asked for. */
static ferry_matrix rows_of(const double *x, int64_t first, int64_t rows, int dim, ferry_precision precision)
{
    const size_t count = (size_t)(rows * dim) + 1; /* not by ferry_matrix_open, whose allocation may be made to fail */
    ferry_matrix matrix = {.rows = rows, .dim = dim};
    matrix.f = precision == FERRY_FLOAT ? malloc(count * sizeof *matrix.f) : NULL;
    matrix.d = precision == FERRY_DOUBLE ? malloc(count * sizeof *matrix.d) : NULL;
    for (int64_t i = 0; i < rows * dim; i++)
        if (matrix.f)
            matrix.f[i] = (float)x[first * dim + i];
        else
            matrix.d[i] = x[first * dim + i];
    return matrix;
}

/* Collective. The parts that ranks have, put together; `mine` says who speaks for its part. */
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
    ferry_matrix x = rows_of(p->x, grid.source_first, grid.source_rows, p->dim, p->cost.precision);
    ferry_matrix y = rows_of(p->y, grid.bring_first, grid.bring_rows, p->dim, p->cost.precision);
    status = ferry_cost_open(&cost, &grid, &x, &y, &p->cost);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    if (status == FERRY_OK) {
        ferry_transport_options o = p->options;
        if (o.f) o.f += grid.source_first;
        if (o.g) o.g += grid.target_first;
        out->inv_scale = ferry_cost_inv_scale(cost);
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

/* --- oracles --- */

static ferry_cost_kind kind_of(const char *text)
{
    static const struct {
        const char *name;
        ferry_cost_kind kind;
    } kinds[] = {{"SqEuclidean", FERRY_COST_SQ_EUCLIDEAN},
                 {"Euclidean", FERRY_COST_EUCLIDEAN},
                 {"Cosine", FERRY_COST_COSINE},
                 {"PNormP", FERRY_COST_PNORM},
                 {"SqPNorm", FERRY_COST_SQ_PNORM},
                 {"EuclideanP", FERRY_COST_EUCLIDEAN_P},
                 {"NegDotProduct", FERRY_COST_DOT},
                 {"Arccos", FERRY_COST_ARCCOS}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, text) == 0) return kinds[i].kind;
    CHECK(!"a cost of the oracle is unknown");
    return FERRY_COST_SQ_EUCLIDEAN;
}

static problem load(const char *name, ferry_precision precision)
{
    problem p = {.cost = FERRY_COST_DEFAULTS, .options = FERRY_TRANSPORT_DEFAULTS};
    hsize_t shape[2];
    char text[64];
    p.x = oracle_array(file, name, "x", shape);
    p.n = (int64_t)shape[0];
    p.dim = (int)shape[1];
    p.y = oracle_array(file, name, "y", shape);
    p.m = (int64_t)shape[0];
    p.a = oracle_array(file, name, "a", NULL);
    p.b = oracle_array(file, name, "b", NULL);
    p.cost.precision = precision;
    oracle_text(text, file, name, "cost_fn");
    p.cost.kind = kind_of(text);
    if (oracle_has(file, name, "settings.p")) p.cost.p = oracle_number(file, name, "settings.p");
    if (oracle_has(file, name, "settings.n")) p.cost.p = oracle_number(file, name, "settings.n");
    p.cost.scale = FERRY_SCALE_NUMBER;
    p.cost.scale_number = 1 / oracle_number(file, name, "inv_scale_cost");
    p.options.epsilon = oracle_number(file, name, "epsilon");
    p.options.tau_a = oracle_number(file, name, "tau_a");
    p.options.tau_b = oracle_number(file, name, "tau_b");
    p.options.threshold = oracle_number(file, name, "threshold");
    p.options.norm_error = (int)oracle_number(file, name, "norm_error");
    p.options.check_every = (int)oracle_number(file, name, "inner_iterations");
    p.options.min_iterations = (int)oracle_number(file, name, "min_iterations");
    p.options.max_iterations = (int)oracle_number(file, name, "max_iterations");
    p.options.recenter = oracle_number(file, name, "recenter_potentials") != 0;
    oracle_text(text, file, name, "momentum");
    if (sscanf(text, "constant %lf", &p.options.momentum) != 1) p.options.momentum = 1;
    if (sscanf(text, "adaptive, start %d", &p.options.momentum_adaptive_from) != 1)
        p.options.momentum_adaptive_from = 0;
    return p;
}

/* Largest |f_i - f*_i - shift| in units of epsilon over finite entries; infinities must agree. */
static double distance(const double *f, const double *wanted, int64_t n, double shift, double epsilon)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isinf(wanted[i]) || isinf(f[i])) {
            if (f[i] != wanted[i]) most = INFINITY;
        } else {
            most = fmax(most, fabs(f[i] - wanted[i] - shift) / epsilon);
        }
    }
    return most;
}

typedef struct tolerance {
    double potentials; /* in units of epsilon */
    double cost;       /* relative, of reg_ot_cost and the transport cost */
    double errors;     /* relative to the largest, of all recorded errors; 0: not compared */
    int iterations;    /* more or less; -1: not compared */
    int up_to_constant;
} tolerance;

static void against_oracle(const char *name, const problem *p, int rows, int cols, tolerance t)
{
    answer s;
    double *f = oracle_array(file, name, "f", NULL), *g = oracle_array(file, name, "g", NULL);
    const double epsilon = p->options.epsilon, reg = oracle_number(file, name, "reg_ot_cost");
    const double primal = oracle_number(file, name, "primal_cost"), mass = oracle_number(file, name, "transport_mass");
    const int iterations = (int)oracle_number(file, name, "n_iters"), before = test_failures;
    ferry_status status = solve(&s, &world, rows, cols, p);
    CHECK(status == FERRY_OK);
    if (status == FERRY_OK) {
        double shift = 0;
        for (int64_t i = p->n - 1; i >= 0 && t.up_to_constant; i--)
            if (isfinite(f[i])) shift = s.f[i] - f[i];
        const double of_f = distance(s.f, f, p->n, shift, epsilon), of_g = distance(s.g, g, p->m, -shift, epsilon);
        CHECK(of_f <= t.potentials);
        CHECK(of_g <= t.potentials);
        CHECK(fabs(s.p.reg_ot_cost - reg) <= t.cost * fabs(reg));
        CHECK(fabs(s.p.transport_cost - primal) <= 10 * t.cost * fabs(primal));
        CHECK(fabs(s.p.mass - mass) <= 10 * t.cost * fabs(mass));
        CHECK(t.iterations < 0 || abs(s.p.iterations - iterations) <= t.iterations);
        CHECK(t.iterations < 0 || s.p.converged == (oracle_number(file, name, "converged") != 0));
        CHECK(s.p.dual_gap >= -1e-6 * fabs(reg) && (s.p.dual_gap < 10 * fabs(reg) + 1 || isnan(s.p.dual_gap)));
        double worst = 0;
        if (t.errors > 0) {
            hsize_t shape[2];
            double *errors = oracle_array(file, name, "errors", shape);
            CHECK((int)shape[0] == s.p.checks);
            for (int i = 0; i < s.p.checks && i < (int)shape[0]; i++)
                worst = fmax(worst, fabs(errors[i] - s.p.errors[i]) / errors[0]);
            CHECK(worst <= t.errors);
            free(errors);
        }
        if (world.rank == 0 && (before != test_failures || getenv("FERRY_TEST_TALK")))
            fprintf(
                stderr,
                "%s %dx%d: f %.1e g %.1e eps, reg %.1e <P,C> %.1e mass %.1e relative, errors %.1e, iterations %d/%d, "
                "passes %d, gap %.2e (error %.2e), independence %.3f\n",
                name, rows, cols, of_f, of_g, fabs(s.p.reg_ot_cost / reg - 1), fabs(s.p.transport_cost / primal - 1),
                fabs(s.p.mass / mass - 1), worst, s.p.iterations, iterations, s.p.passes, s.p.dual_gap,
                s.p.marginal_error, s.p.independence);
    } else if (world.rank == 0) {
        fprintf(stderr, "%s: %s\n", name, ferry_error());
    }
    free_answer(&s);
    free(f);
    free(g);
}

/* The same steps as the reference; strict in double precision. */
static const char *const exact[] = {"iters_1",
                                    "iters_2",
                                    "iters_5",
                                    "iters_20",
                                    "iters_15_inner10",
                                    "unbal_iters_1",
                                    "unbal_iters_5",
                                    "unbal_recenter_iters_1",
                                    "unbal_recenter_iters_5"};
static const char *const solved[] = {"term_default",
                                     "term_norm2",
                                     "unbal_term_default",
                                     "unbal_0.5_0.5",
                                     "unbal_0.95_0.95",
                                     "unbal_0.95_0.95_recenter",
                                     "unbal_0.9_0.6_recenter",
                                     "unbal_0.9_1.0",
                                     "unbal_1.0_0.8",
                                     "unbal_mass",
                                     "recenter_balanced",
                                     "zero_weights",
                                     "scale_1.0",
                                     "scale_2.5",
                                     "scale_mean",
                                     "scale_mean_online",
                                     "scale_median",
                                     "scale_max_cost",
                                     "scale_max_norm",
                                     "scale_max_bound",
                                     "eps_default",
                                     "eps_rel_mean",
                                     "eps_rel_std",
                                     "eps_rel_mean_scaled",
                                     "cost_sqeuclidean",
                                     "cost_euclidean",
                                     "cost_cosine",
                                     "cost_pnormp_1",
                                     "cost_pnormp_1.5",
                                     "cost_pnormp_3",
                                     "cost_sqpnorm_1.5",
                                     "cost_euclideanp_1.5",
                                     "cost_negdot",
                                     "cost_arccos_1",
                                     "medium_f64",
                                     "apply_base"};
#define COUNT(list) ((int)(sizeof(list) / sizeof *(list)))

static void one_case(const char *name, ferry_precision precision, int rows, int cols, tolerance t)
{
    problem p = load(name, precision);
    against_oracle(name, &p, rows, cols, t);
    free_problem(&p);
}

/* Every grid of this many ranks, one after the other. */
static int grids[4][2], grid_count;
static void list_grids(void)
{
    for (int r = 1; r <= world.size; r++)
        if (world.size % r == 0) {
            grids[grid_count][0] = r;
            grids[grid_count++][1] = world.size / r;
        }
}

/* Cases that gain less than 4 % an iteration: what a tile loses to rounding is there 30 times and more in the answer.
 */
static bool slow(const char *name)
{
    static const char *const names[] = {"scale_mean",  "scale_mean_online", "scale_median",    "recenter_balanced",
                                        "eps_default", "cost_sqeuclidean",  "cost_negdot",     "cost_arccos_1",
                                        "cost_cosine", "cost_euclidean",    "cost_pnormp_1.5", "zero_weights"};
    for (int i = 0; i < COUNT(names); i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* Float against double precision on the same rounded points after equally many iterations: what the tiles lose. */
static void float_case(const char *name, int rows, int cols)
{
    const double most = slow(name) ? 1e-4 : 1e-5;
    problem p = load(name, FERRY_DOUBLE);
    answer narrow, wide;
    for (int64_t i = 0; i < p.n * p.dim; i++) p.x[i] = (double)(float)p.x[i];
    for (int64_t i = 0; i < p.m * p.dim; i++) p.y[i] = (double)(float)p.y[i];
    p.options.threshold = 0;
    p.options.max_iterations = (int)oracle_number(file, name, "n_iters");
    CHECK(solve(&wide, &alone, 1, 1, &p) == FERRY_OK);
    p.cost.precision = FERRY_FLOAT;
    CHECK(solve(&narrow, &world, rows, cols, &p) == FERRY_OK);
    const double f = distance(narrow.f, wide.f, p.n, 0, p.options.epsilon);
    const double g = distance(narrow.g, wide.g, p.m, 0, p.options.epsilon);
    const int before = test_failures;
    CHECK(f <= most);
    CHECK(g <= most);
    CHECK(fabs(narrow.p.reg_ot_cost - oracle_number(file, name, "reg_ot_cost")) <= 1e-5 * fabs(wide.p.reg_ot_cost));
    CHECK(fabs(narrow.p.transport_cost - wide.p.transport_cost) <= 1e-5 * fabs(wide.p.transport_cost));
    CHECK(narrow.p.iterations == wide.p.iterations);
    if (world.rank == 0 && (before != test_failures || getenv("FERRY_TEST_TALK")))
        fprintf(stderr, "%s %dx%d float: f %.1e g %.1e eps, reg %.1e relative, gap %.2e for %.2e\n", name, rows, cols,
                f, g, fabs(narrow.p.reg_ot_cost / wide.p.reg_ot_cost - 1), narrow.p.dual_gap, wide.p.dual_gap);
    free_answer(&narrow);
    free_answer(&wide);
    free_problem(&p);
}

#ifdef __SANITIZE_ADDRESS__ /* ten times slower: the same paths, fewer times */
#define FEW true
#else
#define FEW false
#endif

/* Long cases take turns where several ranks share few cores: on one rank all of them, else a third for each number. */
static bool on_turn(const char *name, int i)
{
    if (FEW) return oracle_number(file, name, "n_iters") <= 60;
    return world.size == 1 || oracle_number(file, name, "n_iters") <= 200 || i % 3 == world.size % 3;
}

static void oracles(void)
{
    const tolerance steps = {1e-10, 1e-10, 1e-10, 0, 0}, strict = {1e-6, 1e-8, 1e-6, 0, 1};
    int turn = 0;
    for (int i = 0; i < COUNT(exact); i++, turn++) {
        const int *grid = grids[turn % grid_count];
        one_case(exact[i], FERRY_DOUBLE, grid[0], grid[1], steps);
        float_case(exact[i], grid[0], grid[1]);
    }
    for (int i = 0; i < COUNT(solved); i++, turn++) {
        const int *grid = grids[turn % grid_count];
        if (!on_turn(solved[i], i)) continue;
        one_case(solved[i], FERRY_DOUBLE, grid[0], grid[1], strict);
        if (world.size == 1 || i % 6 == world.size) float_case(solved[i], grid[0], grid[1]);
    }
}

/* --- momentum, adaptive or not, to the same answer --- */

static void momentum(void)
{
    if (world.size > 2 || FEW) return;
    one_case("acc_momentum1.5", FERRY_DOUBLE, world.size, 1, (tolerance){1e-6, 1e-8, 0, 0, 1});
    one_case("acc_momentum_adaptive", FERRY_DOUBLE, world.size, 1, (tolerance){1e-6, 1e-8, 0, 0, 1});
    one_case("acc_none", FERRY_DOUBLE, 1, world.size, (tolerance){1e-6, 1e-8, 0, 0, 1});
}

/* Weight 1.95 diverges here: the safeguard must bring the plain answer. */
static void safeguard(void)
{
    problem p = load("scale_1.0", FERRY_DOUBLE);
    answer plain, wild;
    CHECK(solve(&plain, &alone, 1, 1, &p) == FERRY_OK);
    p.options.momentum = 1.95;
    CHECK(solve(&wild, &world, world.size, 1, &p) == FERRY_OK);
    CHECK(wild.p.converged);
    CHECK(distance(wild.f, plain.f, p.n, wild.f[0] - plain.f[0], p.options.epsilon) < 1e-6);
    CHECK(fabs(wild.p.reg_ot_cost - plain.p.reg_ot_cost) < 1e-9);
    free_answer(&plain);
    free_answer(&wild);
    free_problem(&p);
}

/* --- made-up problems, several canonical blocks on each side --- */

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (double)(*state >> 11) / 9007199254740992.0;
}
static problem made_up(int64_t n, int64_t m, int dim, ferry_precision precision, ferry_cost_kind kind)
{
    problem p = {.n = n, .m = m, .dim = dim, .cost = FERRY_COST_DEFAULTS, .options = FERRY_TRANSPORT_DEFAULTS};
    uint64_t state = 42;
    p.x = malloc((size_t)(n * dim) * sizeof *p.x);
    p.y = malloc((size_t)(m * dim) * sizeof *p.y);
    p.a = malloc((size_t)n * sizeof *p.a);
    p.b = malloc((size_t)m * sizeof *p.b);
    for (int64_t i = 0; i < n * dim; i++) p.x[i] = (double)(float)(3 + uniform(&state) - uniform(&state));
    for (int64_t i = 0; i < m * dim; i++) p.y[i] = (double)(float)(3.3 + 2 * uniform(&state) * uniform(&state));
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += p.a[i] = i % 17 == 3 && n > 17 ? 0 : 0.2 + uniform(&state);
    for (int64_t i = 0; i < n; i++) p.a[i] /= sum;
    sum = 0;
    for (int64_t j = 0; j < m; j++) sum += p.b[j] = j % 19 == 5 ? 0 : 0.2 + uniform(&state);
    for (int64_t j = 0; j < m; j++) p.b[j] /= sum;
    p.cost.kind = kind;
    p.cost.p = kind == FERRY_COST_ARCCOS ? 1 : 1.5;
    p.cost.precision = precision;
    p.cost.scale = kind == FERRY_COST_ARCCOS || kind == FERRY_COST_DOT ? FERRY_SCALE_MAX_COST : FERRY_SCALE_MEAN;
    p.options.threshold = 1e-5;
    p.options.check_every = 3;
    p.options.max_iterations = 6;
    return p;
}

/* Every number of an answer, bit by bit. */
static void same_bits(const answer *s, const answer *t, const problem *p, const char *what)
{
    const int before = test_failures;
    CHECK(memcmp(s->f, t->f, (size_t)p->n * sizeof *s->f) == 0);
    CHECK(memcmp(s->g, t->g, (size_t)p->m * sizeof *s->g) == 0);
    CHECK(s->p.checks == t->p.checks && s->p.iterations == t->p.iterations && s->p.passes == t->p.passes);
    CHECK(s->p.checks != t->p.checks ||
          memcmp(s->p.errors, t->p.errors, (size_t)s->p.checks * sizeof *s->p.errors) == 0);
    const double of_s[] = {s->p.reg_ot_cost, s->p.transport_cost, s->p.mass, s->p.dual_gap, s->p.independence};
    const double of_t[] = {t->p.reg_ot_cost, t->p.transport_cost, t->p.mass, t->p.dual_gap, t->p.independence};
    CHECK(memcmp(of_s, of_t, sizeof of_s) == 0);
    CHECK(memcmp(&s->inv_scale, &t->inv_scale, sizeof s->inv_scale) == 0);
    if (before != test_failures && world.rank == 0)
        fprintf(stderr, "%s: f[0] %.17g %.17g, passes %d %d, gap %.17g %.17g, scale %.17g %.17g\n", what, s->f[0],
                t->f[0], s->p.passes, t->p.passes, s->p.dual_gap, t->p.dual_gap, s->inv_scale, t->inv_scale);
}

/* The same bits on one rank and on every grid of this many, with one thread and with three. */
static void every_layout(problem *p, const char *what, int most_threads)
{
    answer one, many;
    ferry_status status = solve(&one, &alone, 1, 1, p);
    CHECK(status == FERRY_OK);
    if (status != FERRY_OK) {
        if (world.rank == 0) fprintf(stderr, "%s: %s\n", what, ferry_error());
        return;
    }
    for (int k = 0; k < grid_count; k++)
        for (p->cost.threads = 1; p->cost.threads <= most_threads; p->cost.threads += 2) {
            char text[96];
            snprintf(text, sizeof text, "%s, %dx%d, %d threads", what, grids[k][0], grids[k][1], p->cost.threads);
            CHECK(solve(&many, &world, grids[k][0], grids[k][1], p) == FERRY_OK);
            if (many.f) same_bits(&one, &many, p, text);
            free_answer(&many);
        }
    p->cost.threads = 1;
    free_answer(&one);
}

static void layouts(void)
{
    static const ferry_cost_kind kinds[] = {
        FERRY_COST_SQ_EUCLIDEAN, FERRY_COST_EUCLIDEAN, FERRY_COST_COSINE, FERRY_COST_PNORM,    FERRY_COST_SQ_PNORM,
        FERRY_COST_EUCLIDEAN_P,  FERRY_COST_DOT,       FERRY_COST_ARCCOS, FERRY_COST_SPEARMAN, FERRY_COST_CORRELATION};
    for (int i = 0; i < COUNT(kinds); i++)
        for (int precision = 0; precision < 2; precision++) {
            if (world.size > 1 && i > 2 && (i + world.size) % 2 != precision)
                continue; /* the other at another number */
            problem p = made_up(127, 137, 6, (ferry_precision)precision, kinds[i]);
            char text[32];
            if (i % 3 == 1) { /* all ways to update in turn */
                p.options.tau_a = 0.9;
                p.options.tau_b = 0.8;
                p.options.recenter = true;
            } else if (i % 3 == 2) {
                p.options.momentum = 1.3;
                p.options.tau_a = i % 2 ? 0.95 : 1;
            }
            every_layout(&p, ferry_cost_text(text, &p.cost), i < 3 || world.size == 1 ? 3 : 1);
            free_problem(&p);
        }
}

/* Panels of wide cells evaluated together, none of them, or some: also where rows have to be evaluated again. */
static void wide(ferry_cost_kind kind, double epsilon, double low)
{
    static const int panels[] = {3, 8};
    problem p = made_up(1000, 150, 140, FERRY_FLOAT, kind);
    answer one, many;
    double g[150];
    for (int j = 0; j < 150; j++) g[j] = j % 3 ? 0 : low * epsilon;
    p.options.epsilon = epsilon;
    if (low < 0) p.options.g = g;
    CHECK(p.cost.panels == 0);
    CHECK(ferry_panels_at_once(&p.cost, p.dim, 42, 150) == 1);
    CHECK(ferry_panels_at_once(&p.cost, p.dim, 42, 100000) > 2);
    CHECK(ferry_panels_at_once(&p.cost, p.dim, 1, 100000) == 1);
    CHECK(solve(&one, &alone, 1, 1, &p) == FERRY_OK);
    for (int k = 0; k < grid_count; k++)
        for (int i = 0; i < 4; i++) {
            char text[64];
            p.cost.panels = panels[i % 2];
            p.cost.threads = 1 + i / 2 * 2;
            CHECK(ferry_panels_at_once(&p.cost, p.dim, 42, 150) == panels[i % 2]);
            snprintf(text, sizeof text, "wide, %dx%d, %d threads", grids[k][0], grids[k][1], p.cost.threads);
            CHECK(solve(&many, &world, grids[k][0], grids[k][1], &p) == FERRY_OK);
            if (many.f) same_bits(&one, &many, &p, text);
            free_answer(&many);
        }
    free_answer(&one);
    free_problem(&p);
}

/* Potentials that float tiles cannot hold at once: rows are lowered, panels evaluated again, columns rescued. */
static void underflow(double epsilon, double low, double high)
{
    problem p = made_up(150, 140, 5, FERRY_FLOAT, FERRY_COST_SQ_EUCLIDEAN);
    answer narrow, wide;
    double g[140];
    for (int j = 0; j < 140; j++) g[j] = j % 3 ? high * epsilon : low * epsilon;
    p.options.epsilon = epsilon;
    if (low != high) p.options.g = g;
    every_layout(&p, "underflow", 1);
    CHECK(solve(&narrow, &world, world.size, 1, &p) == FERRY_OK);
    p.cost.precision = FERRY_DOUBLE;
    CHECK(solve(&wide, &world, world.size, 1, &p) == FERRY_OK);
    CHECK(narrow.p.passes == narrow.p.iterations + 1); /* the first, or one that rescued columns; and the last */
    CHECK(distance(narrow.f, wide.f, p.n, 0, epsilon) < 1e-2);
    CHECK(distance(narrow.g, wide.g, p.m, 0, epsilon) < 1e-2);
    CHECK(fabs(narrow.p.marginal_error - wide.p.marginal_error) < 1e-3);
    free_answer(&narrow);
    free_answer(&wide);
    free_problem(&p);
}

static void shapes(void)
{
    static const int64_t sizes[][2] = {{1, 1}, {1, 70}, {70, 1}, {3, 40}, {24, 32}, {25, 33}, {2, 2}};
    for (int i = 0; i < COUNT(sizes); i++) {
        problem p =
            made_up(sizes[i][0], sizes[i][1], i == 1 ? 1 : 4, (ferry_precision)(i % 2), FERRY_COST_SQ_EUCLIDEAN);
        every_layout(&p, "small shapes", 1);
        free_problem(&p);
    }
}

/* MPI's own reduction: other bits, the same answer. */
static void mpi_reduction(void)
{
    problem p = made_up(127, 137, 6, FERRY_FLOAT, FERRY_COST_SQ_EUCLIDEAN);
    answer tree, mpi;
    CHECK(solve(&tree, &world, world.size, 1, &p) == FERRY_OK);
    p.cost.reduction = FERRY_REDUCE_MPI;
    CHECK(solve(&mpi, &world, world.size, 1, &p) == FERRY_OK);
    CHECK(distance(mpi.f, tree.f, p.n, 0, p.options.epsilon) < 1e-6);
    CHECK(distance(mpi.g, tree.g, p.m, 0, p.options.epsilon) < 1e-6);
    free_answer(&tree);
    free_answer(&mpi);
    free_problem(&p);
}

/* Every device table that this machine has gives the same answer to rounding. */
static void tables(void)
{
    static const char *const names[] = {"generic", "avx2", "avx512"};
    for (ferry_cost_kind kind = FERRY_COST_SQ_EUCLIDEAN; kind <= FERRY_COST_CORRELATION; kind++) {
        problem p = made_up(60, 70, 9, FERRY_DOUBLE, kind);
        answer wide, narrow;
        CHECK(solve(&wide, &alone, 1, 1, &p) == FERRY_OK);
        p.cost.precision = FERRY_FLOAT;
        for (int t = 0; t < COUNT(names); t++) {
            p.cost.kernels = ferry_kernels_find(names[t]);
            if (!p.cost.kernels) continue;
            CHECK(solve(&narrow, &alone, 1, 1, &p) == FERRY_OK);
            const double f = distance(narrow.f, wide.f, p.n, 0, p.options.epsilon);
            const double g = distance(narrow.g, wide.g, p.m, 0, p.options.epsilon);
            if (f > 2e-5 || g > 2e-5) fprintf(stderr, "cost %d, %s: f %.1e g %.1e\n", (int)kind, names[t], f, g);
            CHECK(f <= 2e-5 && g <= 2e-5);
            free_answer(&narrow);
        }
        free_answer(&wide);
        free_problem(&p);
    }
}

/* Start from potentials: given f as OTT does, given g as it is. */
static void initial(void)
{
    problem p = made_up(127, 137, 6, FERRY_DOUBLE, FERRY_COST_SQ_EUCLIDEAN);
    answer first, second, third, fourth;
    p.options.check_every = 1;
    p.options.max_iterations = 4;
    CHECK(solve(&first, &world, world.size, 1, &p) == FERRY_OK);
    p.options.max_iterations = 7;
    CHECK(solve(&second, &world, world.size, 1, &p) == FERRY_OK);
    p.options.f = first.f;
    p.options.max_iterations = 3;
    CHECK(solve(&third, &world, 1, world.size, &p) == FERRY_OK);
    CHECK(distance(third.f, second.f, p.n, 0, p.options.epsilon) < 1e-11);
    CHECK(distance(third.g, second.g, p.m, 0, p.options.epsilon) < 1e-11);
    p.options.f = NULL;
    p.options.g = second.g;
    p.options.max_iterations = 1;
    CHECK(solve(&fourth, &world, 1, world.size, &p) == FERRY_OK);
    CHECK(distance(fourth.f, second.f, p.n, 0, p.options.epsilon) < 1e-11);
    CHECK(fourth.p.passes < 5);
    free_answer(&first);
    free_answer(&second);
    free_answer(&third);
    free_answer(&fourth);
    free_problem(&p);
}

/* --- errors --- */

static void refused(const problem *p, ferry_status code, const char *text)
{
    answer s;
    CHECK(solve(&s, &world, 1, world.size, p) == code);
    CHECK(strstr(ferry_error(), text) != NULL);
    if (!strstr(ferry_error(), text) && world.rank == 0) fprintf(stderr, "not \"%s\": %s\n", text, ferry_error());
    free_answer(&s);
}
static void wrong_use(void)
{
    problem p = made_up(30, 40, 3, FERRY_FLOAT, FERRY_COST_SQ_EUCLIDEAN);
    const problem good = p;
    p.options.epsilon = 0;
    refused(&p, FERRY_E_ARG, "epsilon");
    p = good;
    p.options.tau_a = 1.5;
    refused(&p, FERRY_E_ARG, "tau_a");
    p = good;
    p.options.check_every = 0;
    refused(&p, FERRY_E_ARG, "check_every");
    p = good;
    p.options.momentum = 2;
    refused(&p, FERRY_E_ARG, "momentum");
    p = good;
    p.a[0] = -1;
    refused(&p, FERRY_E_ARG, "weight");
    p.a[0] = 7;
    refused(&p, FERRY_E_ARG, "equal sums");
    p.options.tau_a = 0.9;
    answer s;
    CHECK(solve(&s, &world, world.size, 1, &p) == FERRY_OK);
    free_answer(&s);
    for (int64_t i = 0; i < p.n; i++) p.a[i] = 0;
    refused(&p, FERRY_E_ARG, "sum to 0");
    free_problem(&p);
}

/* Each meeting and each allocation of one rank made to fail once: one status on all ranks, nothing hangs. */
static void every_failure(const char *variable, int rows, int cols, int rank)
{
    problem p = made_up(60, 70, 3, FERRY_FLOAT, FERRY_COST_EUCLIDEAN);
    char plan[32];
    int failures = 0, status = FERRY_E_MEM;
    p.options.check_every = 1;
    p.options.max_iterations = 2;
    p.options.tau_a = p.options.tau_b = 0.9;
    p.options.recenter = true;
    while (status != FERRY_OK && failures < 1000) {
        answer s;
        snprintf(plan, sizeof plan, "%d:%d", failures + 1, rank);
        setenv(variable, plan, 1);
        status = (int)solve(&s, &world, rows, cols, &p);
        unsetenv(variable);
        free_answer(&s);
        int most[2] = {status, -status};
        MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_INT, MPI_MAX, world.comm);
        CHECK(most[0] == -most[1]);
        if (most[0] != -most[1]) break;
        failures++;
    }
    CHECK(failures > 20 && status == FERRY_OK);
    free_problem(&p);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world_open(&world, MPI_COMM_WORLD);
    ferry_world_open(&alone, MPI_COMM_SELF);
    file = oracle_open("transport.h5");
    list_grids();
    ferry_log_level(FERRY_WARN);
    oracles();
    momentum();
    safeguard();
    layouts();
    underflow(2e-4, 0, 0);
    underflow(0.05, -300, 0);
    underflow(0.05, -400, 600);
    wide(FERRY_COST_SQ_EUCLIDEAN, 0.05, 0);
    wide(FERRY_COST_SQ_EUCLIDEAN, 0.05, -300);
    wide(FERRY_COST_EUCLIDEAN, 0.05, 0);
    shapes();
    mpi_reduction();
    if (world.size == 1) tables();
    initial();
    wrong_use();
    for (int k = 0; k < grid_count; k++) every_failure("FERRY_FAIL", grids[k][0], grids[k][1], world.size - 1);
    every_failure("FERRY_FAIL_ALLOC", grids[0][0], grids[0][1], 0);
    H5Fclose(file);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

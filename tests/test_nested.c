/* A solve of few cells as the start of one of many: nearer than the groups' means, the same on every layout, failures
 * that all ranks share, and used where there are cells enough and no room to keep their plan. */
#include "passes.h"
#include "transport/coarse_impl.h"
#include "transport/nested_impl.h"

#define N    2400
#define M    2700
#define FEW  500
#define MANY 20000

static problem make(double tau_a, double tau_b)
{
    problem p = problem_make(N, M, 6, 9, 1, UNEVEN);
    p.groups = PASSES_GROUPS;
    p.bytes = 0;
    p.options.epsilon = 0.05;
    p.options.tau_a = tau_a;
    p.options.tau_b = tau_b;
    return p;
}

/* Of the columns, against what the penalty allows: after one iteration from s->g. */
static double column_error(ferry_sinkhorn *s)
{
    double off = 0, sum = 0;
    CHECK(ferry_sinkhorn_iterate(s) == FERRY_OK);
    for (int64_t j = 0; j < s->targets; j++) {
        const double goal = s->tau_b == 1 ? s->b[j] : s->b[j] * exp(-s->g[j] / s->epsilon * (1 / s->tau_b - 1));
        off += fabs(s->c[j] - goal);
        sum += goal;
    }
    return off / sum;
}
/* Alone. */
static void nearer(double tau_a, double tau_b)
{
    problem p = make(tau_a, tau_b);
    job k;
    const int before = test_failures;
    CHECK(open_job(&k, &alone, 1, 1, &p) == FERRY_OK);
    CHECK(ferry_coarse_start(&k.s, &k.groups) == FERRY_OK);
    const double means = column_error(&k.s);
    CHECK(ferry_nested_start(&k.s, FEW) == FERRY_OK);
    const double few = column_error(&k.s);
    CHECK(few < 0.5 * means && few < 0.2);
    CHECK(ferry_nested_start(&k.s, M) == FERRY_OK); /* all of them: solved */
    const double all = column_error(&k.s);
    CHECK(all < 4e-3);
    if (problem_talks(before)) fprintf(stderr, "means %.2e, few %.2e, all %.2e\n", means, few, all);
    close_job(&k);
    problem_free(&p);
}

typedef struct start {
    double *f, *g;
} start;
static ferry_status start_on(start *out, const ferry_world *w, int rows, int cols, const problem *p)
{
    job k;
    *out = (start){0};
    ferry_status status = open_job(&k, w, rows, cols, p);
    if (status == FERRY_OK) status = ferry_nested_start(&k.s, FEW);
    if (status == FERRY_OK) {
        out->f = problem_whole(&k.grid, k.s.f, false);
        out->g = problem_whole(&k.grid, k.s.g, true);
    }
    close_job(&k);
    return status;
}
static void free_start(start *s)
{
    free(s->f);
    free(s->g);
}
static void layouts(void)
{
    problem p = make(0.97, 1);
    start whole, here;
    CHECK(start_on(&whole, &alone, 1, 1, &p) == FERRY_OK);
    for (p.cost.threads = 1; p.cost.threads <= 2; p.cost.threads++)
        for (int cols = 1; cols <= world.size; cols++) {
            if (world.size % cols) continue;
            CHECK(start_on(&here, &world, world.size / cols, cols, &p) == FERRY_OK);
            CHECK(here.f && whole.f && !memcmp(here.f, whole.f, N * sizeof *here.f));
            CHECK(here.g && whole.g && !memcmp(here.g, whole.g, M * sizeof *here.g));
            free_start(&here);
        }
    free_start(&whole);
    problem_free(&p);
}
static ferry_status attempt(const problem *p, int rows, int cols)
{
    start out;
    const ferry_status status = start_on(&out, &world, rows, cols, p);
    free_start(&out);
    return status;
}

/* Many cells: fewer passes without room to keep a plan than from the means of their groups, and the same optimum. */
static void many(void)
{
    problem p = problem_make(MANY, MANY + 100, 4, 40, 2, UNEVEN);
    solution kept, dense;
    p.options.cache_bytes = (int64_t)4 << 30;
    CHECK(problem_solve(&kept, &world, world.size, 1, &p) == FERRY_OK);
    p.options.cache_bytes = 0;
    CHECK(problem_solve(&dense, &world, world.size, 1, &p) == FERRY_OK);
    CHECK(kept.p.converged && dense.p.converged && kept.p.stored_passes > 0 && dense.p.stored_passes == 0);
    CHECK(dense.p.passes <= 5);
    CHECK(dense.p.lower_bound <= kept.p.upper_bound && kept.p.lower_bound <= dense.p.upper_bound);
    if (problem_talks(test_failures)) fprintf(stderr, "kept %d passes, dense %d\n", kept.p.passes, dense.p.passes);
    solution_free(&kept);
    solution_free(&dense);
    problem_free(&p);
}

int main(int argc, char **argv)
{
    problem_begin(&argc, &argv);
    problem p = make(1, 1);
    if (world.size == 1) {
        nearer(1, 1);
        nearer(0.95, 1);
        nearer(0.98, 0.9);
        CHECK(ferry_nested_cells(MANY - 1, 1000000) == 0 && ferry_nested_cells(MANY, 1000000) == 4000);
        CHECK(ferry_nested_cells(100000, 200000) == 6250 && ferry_nested_cells(100000000, 100000000) == 14000);
    }
    layouts();
    problem_failures("FERRY_FAIL", world.size - 1, 8, 10, attempt, &p, world.size, 1);
    problem_failures("FERRY_FAIL_ALLOC", world.size - 1, 8, 10, attempt, &p, world.size, 1);
    problem_free(&p);
    many();
    return problem_end();
}

/* What a solve gives to MPI against the model, on every grid of this many ranks; and batches in flight against one rank
 * alone. */
#include "problem.h"
#include "transport/traffic.h"

#define DIM 4

static problem make(int64_t n, int64_t m)
{
    problem p = problem_make(n, m, DIM, 9, 0.5, IN_TURN);
    p.options.threshold = 0;
    return p;
}
static ferry_traffic_model model_of(const problem *p, int rows, int cols, int groups)
{
    ferry_traffic_model model;
    const ferry_traffic_problem of = {.cost = &p->cost,
                                      .dim = p->dim,
                                      .sources = p->n,
                                      .targets = p->m,
                                      .grid_rows = rows,
                                      .grid_cols = cols,
                                      .groups = groups,
                                      .balanced = p->options.tau_a == 1,
                                      .check_every = p->options.check_every};
    CHECK(ferry_traffic_open(&model, &of) == FERRY_OK);
    return model;
}
static bool within(double counted, double model, double share)
{
    return fabs(counted - model) <= share * model + 1e-9;
}

/* What the second of two runs, that differ in their iterations alone, did and gave to MPI beyond the first. */
typedef struct further {
    int passes, stored;
    double messages, bytes;
} further;
static further run_further(problem *p, int rows, int cols, int few, int many)
{
    solution first, second;
    p->options.max_iterations = few;
    CHECK(problem_solve(&first, &world, rows, cols, p) == FERRY_OK);
    p->options.max_iterations = many;
    CHECK(problem_solve(&second, &world, rows, cols, p) == FERRY_OK);
    const further out = {second.p.passes - first.p.passes, second.p.stored_passes - first.p.stored_passes,
                         (double)(second.messages - first.messages), (double)(second.bytes - first.bytes)};
    solution_free(&first);
    solution_free(&second);
    return out;
}

/* What an iteration gives to MPI. */
static void against_model(int rows, int cols, int64_t n, int64_t m, double tau)
{
    const int few = 30, many = 60; /* the last pass of a solve that is far off says less */
    problem p = make(n, m);
    p.options.solver = FERRY_SOLVER_SINKHORN;
    p.options.check_every = 10;
    p.options.tau_a = tau;
    ferry_traffic_model model = model_of(&p, rows, cols, 0);
    const further more = run_further(&p, rows, cols, few, many);
    const ferry_traffic t = ferry_traffic_iteration(&model, world.rank / cols, world.rank % cols);
    const double messages = more.messages / (many - few), bytes = more.bytes / (many - few);
    const int before = test_failures;
    CHECK(within(messages, t.messages, 0.1) && within(bytes, t.bytes, 0.1));
    CHECK(t.wire >= t.bytes && (world.size > 1) == (t.bytes > 0));
    if (problem_talks(before))
        fprintf(stderr,
                "%dx%d %lld x %lld rank %d: %.2f messages (model %.2f), %.0f bytes (model %.0f, on the wire %.0f)\n",
                rows, cols, (long long)n, (long long)m, world.rank, messages, t.messages, bytes, t.bytes, t.wire);
    ferry_traffic_close(&model);
    problem_free(&p);
}

/* The accelerated loop, without a store and with one. */
static void accelerated(int rows, int cols, bool store)
{
    const int few = 3, many = 9, row = world.rank / cols, col = world.rank % cols;
    problem p = make(900, 800);
    p.options.cache_bytes = store ? (int64_t)64 << 20 : 0;
    ferry_traffic_model model = model_of(&p, rows, cols, ferry_traffic_groups(p.n, p.m, 1));
    const further more = run_further(&p, rows, cols, few, many);
    const ferry_traffic pass = ferry_traffic_iteration(&model, row, col);
    const ferry_traffic kept = ferry_traffic_keeping(&model, row, col);
    const ferry_traffic again = ferry_traffic_stored(&model, row, col);
    const double bytes = more.passes * pass.bytes + (store ? more.passes * kept.bytes : 0) + more.stored * again.bytes;
    const int before = test_failures;
    CHECK(more.passes == many - few && (more.stored > 0) == store);
    CHECK(within(more.bytes, bytes, 0.1));
    if (problem_talks(before))
        fprintf(stderr, "accelerated %dx%d%s rank %d: %d passes, %d stored, %.0f bytes (model %.0f)\n", rows, cols,
                store ? " store" : "", world.rank, more.passes, more.stored, more.bytes, bytes);
    ferry_traffic_close(&model);
    problem_free(&p);
}

/* Several batches in flight, rows that have to be evaluated again or lowered among them: the bits of one rank. */
static void in_flight(int rows, int cols, int threads, double epsilon)
{
    problem p = make(1400, 700);
    solution one, all;
    p.options.solver = FERRY_SOLVER_SINKHORN;
    p.options.epsilon = epsilon;
    p.options.check_every = p.options.max_iterations = 3;
    p.options.g = p.g; /* far off, by another amount for every target */
    for (int64_t j = 0; j < p.m; j++) p.g[j] = 40 * ferry_random(77, (uint64_t)j);
    CHECK(problem_solve(&one, &alone, 1, 1, &p) == FERRY_OK);
    p.cost.threads = threads;
    CHECK(problem_solve(&all, &world, rows, cols, &p) == FERRY_OK);
    solution_same(&one, &all, &p);
    solution_free(&one);
    solution_free(&all);
    problem_free(&p);
}

/* A reduction by MPI itself has a line in the model too. */
static void by_mpi(void)
{
    problem p = {.n = 96000, .m = 64000, .dim = DIM, .cost = FERRY_COST_DEFAULTS, .options = FERRY_TRANSPORT_DEFAULTS};
    p.cost.reduction = FERRY_REDUCE_MPI;
    ferry_traffic_model model = model_of(&p, 8, 1, 100);
    const ferry_traffic pass = ferry_traffic_pass(&model, 3, 0), more = ferry_traffic_iteration(&model, 3, 0);
    CHECK(pass.messages == 2 && pass.bytes == 8 + 8 * 64000 && within(pass.wire, 2 * 0.875 * 512000, 0.01));
    CHECK(within(more.bytes - pass.bytes, 8 * 100 * 100, 0.02));
    ferry_traffic_close(&model);
}

int main(int argc, char **argv)
{
    problem_begin(&argc, &argv);
    for (int cols = 1; cols <= world.size; cols++) {
        if (world.size % cols) continue;
        against_model(world.size / cols, cols, 800, 700, 1);
        against_model(world.size / cols, cols, 300, 1500, 0.9);
        accelerated(world.size / cols, cols, false);
        accelerated(world.size / cols, cols, true);
        in_flight(world.size / cols, cols, 1, 0.05);
        in_flight(world.size / cols, cols, 3, 0.001);
    }
    by_mpi();
    return problem_end();
}

/* What a solve gives to MPI against the model, on every grid of this many ranks; and batches in flight against one rank
 * alone. */
#include "mpi/log.h"
#include "mpi/stage.h"
#include "test.h"
#include "transport/sinkhorn.h"
#include "transport/traffic.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIM 4

static ferry_world world, alone;

static double noise(uint64_t seed)
{
    uint64_t x = seed * 0x9E3779B97F4A7C15u + 0x7F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}

/* Rows first ... of a side: clouds around a few places, so that rows and columns differ. */
static ferry_matrix points(int64_t first, int64_t rows, uint64_t side)
{
    ferry_matrix out;
    CHECK(ferry_matrix_open(&out, rows, DIM, FERRY_FLOAT) == FERRY_OK);
    for (int64_t i = 0; i < rows; i++)
        for (int k = 0; k < DIM; k++) {
            const uint64_t cell = (uint64_t)(first + i);
            out.f[i * DIM + k] =
                (float)(noise(side + 8 * cell + (uint64_t)k) + 2 * noise(side % 7 + cell % 9 * 31 + (uint64_t)k));
        }
    return out;
}

typedef struct solved {
    double *f, *g; /* [n], [m] whole, in order */
    int64_t messages, bytes;
    int iterations, passes, stored;
} solved;

/* Collective over w. */
static ferry_status solve(solved *out, const ferry_world *w, int rows, int cols, int64_t n, int64_t m,
                          const ferry_cost_options *cost_options, const ferry_transport_options *options)
{
    ferry_grid grid;
    ferry_cost *cost = NULL;
    ferry_potentials p = {0};
    memset(out, 0, sizeof *out);
    CHECK(ferry_grid_open(&grid, w, rows, cols, n, m) == FERRY_OK);
    ferry_matrix x = points(grid.source_first, grid.source_rows, 1000003);
    ferry_matrix y = points(grid.bring_first, grid.bring_rows, 5000011);
    CHECK(ferry_cost_open(&cost, &grid, &x, &y, cost_options) == FERRY_OK);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    double *a = calloc((size_t)grid.source_rows + 1, sizeof *a), *b = calloc((size_t)grid.target_rows + 1, sizeof *b);
    double *g = calloc((size_t)grid.target_rows + 1, sizeof *g);
    for (int64_t i = 0; i < grid.source_rows; i++) a[i] = 1.0 / (double)n;
    for (int64_t j = 0; j < grid.target_rows; j++) b[j] = 1.0 / (double)m;
    ferry_transport_options o = *options;
    if (o.g) { /* far off, by another amount for every target */
        for (int64_t j = 0; j < grid.target_rows; j++) g[j] = 40 * noise((uint64_t)(grid.target_first + j) + 77);
        o.g = g;
    }
    const ferry_stages before = *ferry_stages_here();
    const ferry_status status = ferry_transport(&p, cost, a, b, &o);
    out->messages = ferry_stages_here()->messages - before.messages;
    out->bytes = ferry_stages_here()->sent_bytes - before.sent_bytes;
    if (status == FERRY_OK) {
        out->f = calloc((size_t)n, sizeof *out->f);
        out->g = calloc((size_t)m, sizeof *out->g);
        if (grid.col == 0) memcpy(out->f + grid.source_first, p.f, (size_t)grid.source_rows * sizeof *p.f);
        if (grid.row == 0) memcpy(out->g + grid.target_first, p.g, (size_t)grid.target_rows * sizeof *p.g);
        MPI_Allreduce(MPI_IN_PLACE, out->f, (int)n, MPI_DOUBLE, MPI_SUM, w->comm);
        MPI_Allreduce(MPI_IN_PLACE, out->g, (int)m, MPI_DOUBLE, MPI_SUM, w->comm);
        out->iterations = p.iterations;
        out->passes = p.passes;
        out->stored = p.stored_passes;
    }
    ferry_potentials_close(&p);
    free(a);
    free(b);
    free(g);
    ferry_cost_close(&cost);
    ferry_grid_close(&grid);
    return status;
}
static void free_solved(solved *s)
{
    free(s->f);
    free(s->g);
}

static bool within(double counted, double model, double share)
{
    return fabs(counted - model) <= share * model + 1e-9;
}

/* Two runs that differ in their iterations alone: what an iteration gives to MPI. */
static void against_model(int rows, int cols, int64_t n, int64_t m, double tau)
{
    const int few = 30, many = 60; /* the last pass of a solve that is far off says less */
    ferry_cost_options cost = FERRY_COST_DEFAULTS;
    ferry_transport_options o = FERRY_TRANSPORT_DEFAULTS;
    ferry_traffic_model model;
    solved first, second;
    cost.threads = 1;
    o.solver = FERRY_SOLVER_SINKHORN;
    o.threshold = 0;
    o.tau_a = tau;
    o.max_iterations = few;
    CHECK(solve(&first, &world, rows, cols, n, m, &cost, &o) == FERRY_OK);
    o.max_iterations = many;
    CHECK(solve(&second, &world, rows, cols, n, m, &cost, &o) == FERRY_OK);
    const ferry_traffic_problem problem = {.cost = &cost,
                                           .dim = DIM,
                                           .sources = n,
                                           .targets = m,
                                           .grid_rows = rows,
                                           .grid_cols = cols,
                                           .balanced = tau == 1,
                                           .check_every = o.check_every};
    CHECK(ferry_traffic_open(&model, &problem) == FERRY_OK);
    const ferry_traffic t = ferry_traffic_iteration(&model, world.rank / cols, world.rank % cols);
    const double messages = (double)(second.messages - first.messages) / (many - few);
    const double bytes = (double)(second.bytes - first.bytes) / (many - few);
    CHECK(within(messages, t.messages, 0.1) && within(bytes, t.bytes, 0.1));
    CHECK(t.wire >= t.bytes && (world.size > 1) == (t.bytes > 0));
    if (getenv("FERRY_TEST_VERBOSE"))
        fprintf(stderr,
                "%dx%d %lld x %lld rank %d: %.2f messages (model %.2f), %.0f bytes (model %.0f, on the wire %.0f)\n",
                rows, cols, (long long)n, (long long)m, world.rank, messages, t.messages, bytes, t.bytes, t.wire);
    ferry_traffic_close(&model);
    free_solved(&first);
    free_solved(&second);
}

/* The accelerated loop, without a store and with one. */
static void accelerated(int rows, int cols, bool store)
{
    const int64_t n = 900, m = 800;
    const int few = 3, many = 9;
    ferry_cost_options cost = FERRY_COST_DEFAULTS;
    ferry_transport_options o = FERRY_TRANSPORT_DEFAULTS;
    ferry_traffic_model model;
    solved first, second;
    cost.threads = 1;
    o.threshold = 0;
    o.check_every = 1;
    o.cache_bytes = store ? (int64_t)64 << 20 : 0;
    o.max_iterations = few;
    CHECK(solve(&first, &world, rows, cols, n, m, &cost, &o) == FERRY_OK);
    o.max_iterations = many;
    CHECK(solve(&second, &world, rows, cols, n, m, &cost, &o) == FERRY_OK);
    const ferry_traffic_problem problem = {.cost = &cost,
                                           .dim = DIM,
                                           .sources = n,
                                           .targets = m,
                                           .grid_rows = rows,
                                           .grid_cols = cols,
                                           .groups = ferry_traffic_groups(n, m, 1),
                                           .balanced = true,
                                           .check_every = 1};
    CHECK(ferry_traffic_open(&model, &problem) == FERRY_OK);
    const int row = world.rank / cols, col = world.rank % cols, passes = second.passes - first.passes;
    const int stored = second.stored - first.stored;
    const ferry_traffic pass = ferry_traffic_iteration(&model, row, col);
    const ferry_traffic kept = ferry_traffic_keeping(&model, row, col);
    const ferry_traffic again = ferry_traffic_stored(&model, row, col);
    const double bytes = passes * pass.bytes + (store ? passes * kept.bytes : 0) + stored * again.bytes;
    CHECK(passes == many - few && (stored > 0) == store);
    CHECK(within((double)(second.bytes - first.bytes), bytes, 0.1));
    if (getenv("FERRY_TEST_VERBOSE"))
        fprintf(stderr, "accelerated %dx%d%s rank %d: %d passes, %d stored, %.0f bytes (model %.0f)\n", rows, cols,
                store ? " store" : "", world.rank, passes, stored, (double)(second.bytes - first.bytes), bytes);
    ferry_traffic_close(&model);
    free_solved(&first);
    free_solved(&second);
}

/* Several batches in flight, rows that have to be evaluated again or lowered among them: the bits of one rank. */
static void in_flight(int rows, int cols, int threads, double epsilon)
{
    const int64_t n = 1400, m = 700;
    const double guess = 0;
    ferry_cost_options cost = FERRY_COST_DEFAULTS;
    ferry_transport_options o = FERRY_TRANSPORT_DEFAULTS;
    solved one, all;
    o.solver = FERRY_SOLVER_SINKHORN;
    o.epsilon = epsilon;
    o.threshold = 0;
    o.check_every = o.max_iterations = 3;
    o.g = &guess; /* its own values are set per rank */
    cost.threads = 1;
    CHECK(solve(&one, &alone, 1, 1, n, m, &cost, &o) == FERRY_OK);
    cost.threads = threads;
    CHECK(solve(&all, &world, rows, cols, n, m, &cost, &o) == FERRY_OK);
    CHECK(one.f && all.f && !memcmp(one.f, all.f, (size_t)n * sizeof *one.f));
    CHECK(one.g && all.g && !memcmp(one.g, all.g, (size_t)m * sizeof *one.g));
    free_solved(&one);
    free_solved(&all);
}

/* A reduction by MPI itself has a line in the model too. */
static void by_mpi(void)
{
    ferry_cost_options cost = FERRY_COST_DEFAULTS;
    ferry_traffic_model model;
    cost.reduction = FERRY_REDUCE_MPI;
    const ferry_traffic_problem problem = {.cost = &cost,
                                           .dim = DIM,
                                           .sources = 96000,
                                           .targets = 64000,
                                           .grid_rows = 8,
                                           .grid_cols = 1,
                                           .groups = 100,
                                           .balanced = true,
                                           .check_every = 10};
    CHECK(ferry_traffic_open(&model, &problem) == FERRY_OK);
    const ferry_traffic pass = ferry_traffic_pass(&model, 3, 0), more = ferry_traffic_iteration(&model, 3, 0);
    CHECK(pass.messages == 2 && pass.bytes == 8 + 8 * 64000 && within(pass.wire, 2 * 0.875 * 512000, 0.01));
    CHECK(within(more.bytes - pass.bytes, 8 * 100 * 100, 0.02));
    ferry_traffic_close(&model);
}

int main(int argc, char **argv)
{
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    CHECK(ferry_world_open(&alone, MPI_COMM_SELF) == FERRY_OK);
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
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

/* Passes over what weighs where its tiles find no room: against dense passes, the same bits on every layout, failures.
 */
#include "test.h"
#include "math/random.h"
#include "mpi/log.h"
#include "transport/groups_impl.h"
#include "transport/store_impl.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIM     6
#define CENTRES 9
#define GROUPS  14
#define N       610
#define M       700
#define LITTLE  4000 /* bytes: enough for lists, not for tiles */

static ferry_world world, alone;

typedef struct problem {
    double *x, *y, *a, *b, *g; /* g: where to begin, in the order of the groups */
    double epsilon, tau_a, tau_b, threshold;
    int threads;
    int64_t bytes;
} problem;

static double normal(uint64_t seed, uint64_t *counter)
{
    const double u = ferry_random(seed, *counter), v = ferry_random(seed, *counter + 1);
    *counter += 2;
    return sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
}
static double *cells(int64_t count, double shift, uint64_t seed)
{
    double *x = calloc((size_t)count * DIM + 1, sizeof *x);
    uint64_t counter = 0;
    for (int64_t i = 0; i < count; i++) {
        uint64_t centre = (uint64_t)(i % CENTRES) * DIM * 2;
        for (int k = 0; k < DIM; k++)
            x[i * DIM + k] = 3 * normal(77, &centre) + 0.5 * normal(seed, &counter) + (k == 0 ? shift : 0);
    }
    return x;
}
static problem make(void)
{
    problem p = {.epsilon = 0.01, .tau_a = 1, .tau_b = 1, .threshold = 1e-6, .threads = 1, .bytes = LITTLE};
    p.x = cells(N, 0, 1);
    p.y = cells(M, 0.3, 2);
    p.a = malloc(N * sizeof *p.a);
    p.b = malloc(M * sizeof *p.b);
    p.g = calloc(M, sizeof *p.g);
    for (int64_t i = 0; i < N; i++) p.a[i] = 1.0 / N;
    for (int64_t j = 0; j < M; j++) p.b[j] = 1.0 / M;
    return p;
}
static void free_problem(problem *p)
{
    free(p->x);
    free(p->y);
    free(p->a);
    free(p->b);
    free(p->g);
}
static ferry_matrix rows_of(const double *x, int64_t first, int64_t rows)
{
    ferry_matrix matrix = {.rows = rows, .dim = DIM, .f = malloc((size_t)(rows * DIM + 1) * sizeof(float))};
    for (int64_t i = 0; i < rows * DIM; i++) matrix.f[i] = (float)x[first * DIM + i];
    return matrix;
}

/* A solver's state that is no more than passes need, its cost in the order of the groups. */
typedef struct job {
    ferry_grid grid;
    ferry_cost *given;
    ferry_groups groups;
    ferry_transport_options options;
    ferry_aggregate aggregate;
    ferry_sinkhorn s;
    ferry_store *store;
} job;

static void close_job(job *k)
{
    ferry_sinkhorn *s = &k->s;
    ferry_store_close(k->store);
    ferry_sinkhorn_close_passes(s);
    free(s->f);
    free(s->g);
    free(s->c);
    free(s->r);
    free(s->work);
    free(k->aggregate.sums);
    ferry_groups_close(&k->groups);
    ferry_cost_close(&k->given);
    ferry_grid_close(&k->grid);
}
/* Local. All weights are equal, so that their order does not matter. */
static ferry_status open_solver(job *k, const problem *p)
{
    ferry_sinkhorn *s = &k->s;
    const int64_t count = k->groups.count;
    k->options = (ferry_transport_options)FERRY_TRANSPORT_DEFAULTS;
    k->options.threshold = p->threshold;
    *s = (ferry_sinkhorn){.grid = &k->grid,
                          .cost = &k->groups.cost,
                          .source = ferry_cost_source(&k->groups.cost),
                          .options = &k->options,
                          .a = p->a,
                          .b = p->b,
                          .sources = k->grid.source_rows,
                          .targets = k->grid.target_rows,
                          .columns = k->groups.cost.columns,
                          .epsilon = p->epsilon,
                          .tau_a = p->tau_a,
                          .tau_b = p->tau_b,
                          .mass_a = 1,
                          .mass_b = 1,
                          .balanced = p->tau_a == 1 && p->tau_b == 1,
                          .threads = p->threads,
                          .weight = 1};
    s->rows = s->source->panels * FERRY_SOURCE_UNIT;
    FERRY_TRY(ferry_alloc(&s->f, s->rows));
    FERRY_TRY(ferry_alloc(&s->r, s->rows));
    FERRY_TRY(ferry_alloc(&s->g, s->columns));
    FERRY_TRY(ferry_alloc(&s->c, s->columns));
    FERRY_TRY(ferry_alloc(&s->work, s->rows > s->columns ? s->rows : s->columns));
    for (int64_t i = 0; i < s->rows; i++) s->f[i] = i < s->sources ? 0 : -INFINITY;
    for (int64_t j = 0; j < s->targets; j++) s->g[j] = p->g[k->grid.target_first + j];
    k->aggregate = (ferry_aggregate){.groups = &k->groups, .units = ferry_exact_units(1), .size = count * count};
    FERRY_TRY(ferry_alloc(&k->aggregate.sums, k->aggregate.size * s->threads));
    FERRY_TRY(ferry_sinkhorn_open_passes(s));
    return ferry_store_open(&k->store, s, p->bytes);
}
/* Collective over w. */
static ferry_status open_job(job *k, const ferry_world *w, int rows, int cols, const problem *p)
{
    ferry_cost_options o = FERRY_COST_DEFAULTS;
    memset(k, 0, sizeof *k);
    o.threads = p->threads;
    FERRY_TRY(ferry_grid_open(&k->grid, w, rows, cols, N, M));
    ferry_matrix x = rows_of(p->x, k->grid.source_first, k->grid.source_rows);
    ferry_matrix y = rows_of(p->y, k->grid.bring_first, k->grid.bring_rows);
    ferry_status status = ferry_cost_open(&k->given, &k->grid, &x, &y, &o);
    free(x.f);
    free(y.f);
    FERRY_TRY(status);
    FERRY_TRY(ferry_groups_open(&k->groups, k->given, GROUPS, 3));
    return ferry_agree(w, open_solver(k, p));
}
static void plain_step(ferry_sinkhorn *s)
{
    for (int64_t j = 0; j < s->targets; j++) s->g[j] = s->tau_b * (s->g[j] + s->epsilon * log(s->b[j] / s->c[j]));
}
/* Where the tests begin: some iterations after the first g. */
static void begin(problem *p, int iterations)
{
    job k;
    CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK);
    CHECK(ferry_sinkhorn_first_g(&k.s) == FERRY_OK);
    for (int i = 0; i < iterations; i++) {
        CHECK(ferry_sinkhorn_iterate(&k.s) == FERRY_OK);
        plain_step(&k.s);
    }
    memcpy(p->g, k.s.g, M * sizeof *p->g);
    close_job(&k);
}

/* What a pass gives, whole on every rank. */
typedef struct answer {
    double *f, *r, *c;
    int64_t masses[GROUPS * GROUPS];
    double share;
    bool usable;
} answer;
static double *whole(const ferry_world *w, const double *part, int64_t first, int64_t count, int64_t total, int mine)
{
    double *all = calloc((size_t)total + 1, sizeof *all);
    if (mine && count) memcpy(all + first, part, (size_t)count * sizeof *all);
    MPI_Allreduce(MPI_IN_PLACE, all, (int)total, MPI_DOUBLE, MPI_SUM, w->comm);
    return all;
}
static void take(answer *out, job *k)
{
    const ferry_world *w = k->grid.world;
    *out = (answer){.usable = ferry_store_usable(k->store), .share = ferry_store_share(k->store)};
    out->f = whole(w, k->s.f, k->grid.source_first, k->grid.source_rows, N, k->grid.col == 0);
    out->r = whole(w, k->s.r, k->grid.source_first, k->grid.source_rows, N, k->grid.col == 0);
    out->c = whole(w, k->s.c, k->grid.target_first, k->grid.target_rows, M, k->grid.row == 0);
    for (int t = 0; t < k->s.threads; t++)
        for (int64_t e = 0; e < k->aggregate.size; e++) out->masses[e] += k->aggregate.sums[t * k->aggregate.size + e];
    ferry_total_counts(w, out->masses, GROUPS * GROUPS);
}
static void free_answer(answer *out)
{
    free(out->f);
    free(out->r);
    free(out->c);
}
static double difference(const double *x, const double *y, int64_t count) /* largest, relative */
{
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = fabs(x[i] - y[i]), scale = fabs(y[i]);
        if (!(d <= most * scale)) most = d / scale;
    }
    return most;
}
/* Moves of g, in nats: the same for every layout. */
static void move(job *k, const problem *p, double by)
{
    for (int64_t j = 0; j < k->s.targets; j++) {
        uint64_t counter = (uint64_t)(2 * (k->grid.target_first + j));
        k->s.g[j] += by * p->epsilon * normal(5, &counter);
    }
}

/* Alone: a fill is a dense pass; at its place its sums come out again; near it those of a dense pass there, and the
 * masses between groups with them. least: what both differ by at its place */
static void against_dense(problem *p, double least, const char *what)
{
    job k, dense;
    answer filled, plain, again;
    double apart = 0, sum = 0;
    const int before = test_failures;
    begin(p, 4);
    CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK && open_job(&dense, &alone, 1, 1, p) == FERRY_OK);
    CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK && ferry_sinkhorn_iterate(&dense.s) == FERRY_OK);
    take(&filled, &k);
    take(&plain, &dense);
    CHECK(filled.usable && filled.share > 0.02 && filled.share < 0.5);
    CHECK(ferry_store_exact(k.store)); /* evaluated again, not read */
    CHECK(!memcmp(filled.f, plain.f, N * sizeof *plain.f) && !memcmp(filled.c, plain.c, M * sizeof *plain.c));
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    CHECK(k.s.passes == 1);
    take(&again, &k);
    const double c0 = difference(again.c, plain.c, M), r0 = difference(again.r, plain.r, N);
    CHECK(c0 < least && r0 < least);
    free_answer(&plain);
    free_answer(&again);
    move(&k, p, 0.5);
    memcpy(dense.s.g, k.s.g, M * sizeof *k.s.g);
    k.s.aggregate = &k.aggregate;
    dense.s.aggregate = &dense.aggregate;
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK && ferry_sinkhorn_iterate(&dense.s) == FERRY_OK);
    take(&plain, &dense);
    take(&again, &k);
    const double c1 = difference(again.c, plain.c, M), r1 = difference(again.r, plain.r, N);
    CHECK(c1 < 1e-3 && r1 < 1e-3);
    for (int64_t i = 0; i < N; i++) CHECK(fabs(again.f[i] - plain.f[i]) < 1e-3 * p->epsilon);
    for (int64_t e = 0; e < k.aggregate.size; e++) {
        apart += fabs((double)(again.masses[e] - plain.masses[e])) / k.aggregate.units;
        sum += (double)plain.masses[e] / k.aggregate.units;
    }
    CHECK(apart < 1e-3 && sum > 0.2);
    if (before != test_failures || getenv("FERRY_TEST_TALK"))
        fprintf(stderr, "%s: share %.3f, there c %.1e r %.1e, moved c %.1e r %.1e, groups %.1e of %.2f\n", what,
                filled.share, c0, r0, c1, r1, apart, sum);
    free_answer(&filled);
    free_answer(&plain);
    free_answer(&again);
    close_job(&dense);
    close_job(&k);
}

/* Far cells of next to no weight, none of whose tiles is listed: the others' passes stay usable, and at the place of
 * the dense pass these columns have their sums too. */
static void lost_columns(problem *p)
{
    enum { FAR = 100 };
    problem q = *p;
    job k;
    answer plain, again;
    q.epsilon /= 3; /* of a mean cost that grows with them */
    q.y = malloc(M * DIM * sizeof *q.y);
    q.b = malloc(M * sizeof *q.b);
    q.g = calloc(M, sizeof *q.g);
    memcpy(q.y, p->y, M * DIM * sizeof *q.y);
    for (int64_t j = 0; j < M; j++) { /* b in the order of the groups: FAR of them, whichever they are, come first */
        q.b[j] = 1.0 / M;
        if (j < FAR)
            for (int d = 0; d < DIM; d++) q.y[j * DIM + d] = 12 + ferry_random(9, (uint64_t)(j * DIM + d));
    }
    CHECK(open_job(&k, &alone, 1, 1, &q) == FERRY_OK);
    for (int64_t i = 0; i < M; i++)
        if (k.groups.target.old[i] < FAR) q.b[i] = 1e-12;
    close_job(&k);
    begin(&q, 4);
    CHECK(open_job(&k, &alone, 1, 1, &q) == FERRY_OK);
    CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
    take(&plain, &k);
    CHECK(plain.usable && ferry_store_exact(k.store));
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    take(&again, &k);
    CHECK(difference(again.c, plain.c, M) < 1e-6);
    if (getenv("FERRY_TEST_TALK")) fprintf(stderr, "lost columns: share %.3f\n", plain.share);
    free_answer(&plain);
    free_answer(&again);
    close_job(&k);
    free(q.y);
    free(q.b);
    free(q.g);
}

/* No room for lists; or tiles that nearly all weigh. */
static void not_usable(problem *p)
{
    job k;
    const double epsilon = p->epsilon;
    for (int turn = 0; turn < 2; turn++) {
        p->bytes = turn == 0 ? 100 : LITTLE;
        p->epsilon = turn == 0 ? epsilon : 3;
        begin(p, 2);
        CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK);
        CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
        CHECK(!ferry_store_usable(k.store));
        CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_E_ARG);
        close_job(&k);
    }
    p->bytes = LITTLE;
    p->epsilon = epsilon;
}

/* A second fill elsewhere, then a pass. */
static ferry_status fill_twice(answer *out, const ferry_world *w, int rows, int cols, const problem *p)
{
    job k;
    memset(out, 0, sizeof *out);
    ferry_status status = open_job(&k, w, rows, cols, p);
    if (status == FERRY_OK) status = ferry_store_fill(k.store, &k.s);
    if (status == FERRY_OK) {
        plain_step(&k.s);
        status = ferry_store_fill(k.store, &k.s);
    }
    if (status == FERRY_OK) {
        move(&k, p, 0.3);
        k.s.aggregate = &k.aggregate;
        status = ferry_store_iterate(k.store, &k.s);
    }
    if (status == FERRY_OK) take(out, &k);
    close_job(&k);
    return status;
}
static void layouts(problem *p)
{
    answer reference, here;
    begin(p, 3);
    CHECK(fill_twice(&reference, &alone, 1, 1, p) == FERRY_OK);
    for (p->threads = 1; p->threads <= 2; p->threads++)
        for (int cols = 1; cols <= world.size; cols++) {
            if (world.size % cols) continue;
            CHECK(fill_twice(&here, &world, world.size / cols, cols, p) == FERRY_OK);
            CHECK(here.usable && here.share == reference.share);
            CHECK(!memcmp(here.f, reference.f, N * sizeof *here.f));
            CHECK(!memcmp(here.r, reference.r, N * sizeof *here.r));
            CHECK(!memcmp(here.c, reference.c, M * sizeof *here.c));
            CHECK(!memcmp(here.masses, reference.masses, sizeof here.masses));
            free_answer(&here);
        }
    p->threads = 1;
    free_answer(&reference);
}

/* Every meeting or allocation fails once on one rank: all ranks get the same error. */
static void every_failure(const char *variable, problem *p)
{
    answer out;
    int failures = 0, status = 1;
    for (int at = 1; status != FERRY_OK; at += 1 + failures / 8) {
        char value[32];
        snprintf(value, sizeof value, "%d:%d", at, world.size - 1);
        setenv(variable, value, 1);
        status = (int)fill_twice(&out, &world, world.size, 1, p);
        unsetenv(variable);
        free_answer(&out);
        int most[2] = {status, -status};
        MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_INT, MPI_MAX, world.comm);
        CHECK(most[0] == -most[1]);
        if (most[0] != -most[1]) break;
        failures++;
    }
    CHECK(failures > 10);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    CHECK(ferry_world_open(&alone, MPI_COMM_SELF) == FERRY_OK);
    ferry_log_level(FERRY_WARN);
    problem p = make();
    if (world.size == 1) {
        against_dense(&p, 1e-6, "balanced");
        p.tau_a = 0.9;
        p.tau_b = 0.95;
        against_dense(&p, 1e-6, "unbalanced");
        p.tau_a = p.tau_b = 1;
        p.threshold = 1e-3; /* what is left out is not looked for */
        against_dense(&p, 1e-4, "coarse");
        p.b[5] = 1e-7; /* but for the sake of a thin column */
        against_dense(&p, 1e-6, "thin");
        p.b[5] = 1.0 / M;
        lost_columns(&p);
        not_usable(&p);
    }
    layouts(&p);
    p.threshold = 1e-3;
    layouts(&p);
    p.threshold = 1e-6;
    every_failure("FERRY_FAIL", &p);
    every_failure("FERRY_FAIL_ALLOC", &p);
    free_problem(&p);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

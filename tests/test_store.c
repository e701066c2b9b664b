/* A kept plan against the dense pass and against brute force, the same bits on every layout, what is not kept, halves.
 */
#include "test.h"
#include "kernels/halves.h"
#include "math/random.h"
#include "mpi/log.h"
#include "transport/groups_impl.h"
#include "transport/store_impl.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef DIM
#define DIM 6
#endif
#define GROUPS 9

static ferry_world world, alone;

/* A problem, whole on every rank: cells around centres, in the order of their groups or one group after the other. */
typedef struct problem {
    int64_t n, m;
    double *x, *y, *a, *b, *g; /* g: where to begin, from a solve alone */
    int32_t *group, *target_group;
    double epsilon, tau_a, tau_b;
    const char *table;
    int threads;
    int64_t bytes;
    bool aggregate;
} problem;

static double normal(uint64_t seed, uint64_t *counter)
{
    const double u = ferry_random(seed, *counter), v = ferry_random(seed, *counter + 1);
    *counter += 2;
    return sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
}
static double *cells(int32_t *group, int64_t count, double apart, double shift, uint64_t seed, bool sorted)
{
    double *x = calloc((size_t)count * DIM + 1, sizeof *x);
    uint64_t counter = 0;
    for (int64_t i = 0; i < count; i++) {
        group[i] = (int32_t)(sorted ? i * GROUPS / count : i % GROUPS);
        uint64_t centre = (uint64_t)group[i] * DIM * 2;
        for (int k = 0; k < DIM; k++)
            x[i * DIM + k] = apart * normal(77, &centre) + 0.5 * normal(seed, &counter) + (k == 0 ? shift : 0);
    }
    return x;
}
static problem make(int64_t n, int64_t m, double apart, double epsilon, bool sorted)
{
    problem p = {.n = n, .m = m, .epsilon = epsilon, .tau_a = 1, .tau_b = 1, .threads = 1, .bytes = INT64_MAX};
    p.group = calloc((size_t)n + 1, sizeof *p.group);
    p.target_group = calloc((size_t)m + 1, sizeof *p.target_group);
    p.x = cells(p.group, n, apart, 0, 1, sorted);
    p.y = cells(p.target_group, m, apart, 0.3, 2, sorted);
    p.a = malloc((size_t)n * sizeof *p.a);
    p.b = malloc((size_t)m * sizeof *p.b);
    p.g = calloc((size_t)m + 1, sizeof *p.g);
    for (int64_t i = 0; i < n; i++) p.a[i] = 1.0 / (double)n;
    for (int64_t j = 0; j < m; j++) p.b[j] = 1.0 / (double)m;
    return p;
}
static void free_problem(problem *p)
{
    free(p->x);
    free(p->y);
    free(p->a);
    free(p->b);
    free(p->g);
    free(p->group);
    free(p->target_group);
}

static ferry_matrix rows_of(const double *x, int64_t first, int64_t rows)
{
    ferry_matrix matrix = {.rows = rows, .dim = DIM, .f = malloc((size_t)(rows * DIM + 1) * sizeof(float))};
    for (int64_t i = 0; i < rows * DIM; i++) matrix.f[i] = (float)x[first * DIM + i];
    return matrix;
}

/* A solver's state that is no more than passes need. */
typedef struct job {
    ferry_grid grid;
    ferry_cost *cost;
    ferry_transport_options options;
    ferry_groups groups;
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
    ferry_cost_close(&k->cost);
    ferry_grid_close(&k->grid);
}
/* Local. */
static ferry_status open_solver(job *k, const problem *p)
{
    ferry_sinkhorn *s = &k->s;
    k->options = (ferry_transport_options)FERRY_TRANSPORT_DEFAULTS;
    *s = (ferry_sinkhorn){.grid = &k->grid,
                          .cost = k->cost,
                          .source = ferry_cost_source(k->cost),
                          .options = &k->options,
                          .a = p->a + k->grid.source_first,
                          .b = p->b + k->grid.target_first,
                          .sources = k->grid.source_rows,
                          .targets = k->grid.target_rows,
                          .columns = k->cost->columns,
                          .epsilon = p->epsilon,
                          .tau_a = p->tau_a,
                          .tau_b = p->tau_b,
                          .mass_a = 1,
                          .mass_b = 1,
                          .balanced = p->tau_a == 1 && p->tau_b == 1,
                          .threads = ferry_cost_options_of(k->cost)->threads,
                          .weight = 1};
    s->rows = s->source->panels * FERRY_SOURCE_UNIT;
    FERRY_TRY(ferry_alloc(&s->f, s->rows));
    FERRY_TRY(ferry_alloc(&s->r, s->rows));
    FERRY_TRY(ferry_alloc(&s->g, s->columns));
    FERRY_TRY(ferry_alloc(&s->c, s->columns));
    FERRY_TRY(ferry_alloc(&s->work, s->rows > s->columns ? s->rows : s->columns));
    for (int64_t i = 0; i < s->rows; i++) s->f[i] = i < s->sources && s->a[i] > 0 ? 0 : -INFINITY;
    for (int64_t j = 0; j < s->targets; j++) s->g[j] = s->b[j] > 0 ? p->g[k->grid.target_first + j] : -INFINITY;
    k->groups.count = GROUPS;
    k->groups.group = p->group + k->grid.source_first;
    k->groups.target_group = p->target_group + k->grid.target_first;
    k->aggregate = (ferry_aggregate){.groups = &k->groups, .units = ferry_exact_units(1), .size = GROUPS * GROUPS};
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
    o.kernels = p->table ? ferry_kernels_find(p->table) : NULL;
    ferry_status status = ferry_grid_open(&k->grid, w, rows, cols, p->n, p->m);
    if (status != FERRY_OK) return status;
    ferry_matrix x = rows_of(p->x, k->grid.source_first, k->grid.source_rows);
    ferry_matrix y = rows_of(p->y, k->grid.bring_first, k->grid.bring_rows);
    status = ferry_cost_open(&k->cost, &k->grid, &x, &y, &o);
    free(x.f);
    free(y.f);
    return status == FERRY_OK ? ferry_agree(w, open_solver(k, p)) : status;
}

static void plain_step(ferry_sinkhorn *s)
{
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0) s->g[j] = s->tau_b * (s->g[j] + s->epsilon * log(s->b[j] / s->c[j]));
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
    memcpy(p->g, k.s.g, (size_t)p->m * sizeof *p->g);
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
static void take(answer *out, job *k, const problem *p)
{
    const ferry_world *w = k->grid.world;
    *out = (answer){.usable = ferry_store_usable(k->store), .share = ferry_store_share(k->store)};
    out->f = whole(w, k->s.f, k->grid.source_first, k->grid.source_rows, p->n, k->grid.col == 0);
    out->r = whole(w, k->s.r, k->grid.source_first, k->grid.source_rows, p->n, k->grid.col == 0);
    out->c = whole(w, k->s.c, k->grid.target_first, k->grid.target_rows, p->m, k->grid.row == 0);
    for (int t = 0; t < k->s.threads; t++)
        for (int e = 0; e < GROUPS * GROUPS; e++) out->masses[e] += k->aggregate.sums[t * GROUPS * GROUPS + e];
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
static double total(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i];
    return sum;
}

/* Moves of g, in nats: the same for every layout. */
static void move(job *k, const problem *p, double by)
{
    for (int64_t j = 0; j < k->s.targets; j++) {
        uint64_t counter = (uint64_t)(2 * (k->grid.target_first + j));
        k->s.g[j] += by * p->epsilon * normal(5, &counter);
    }
}

/* Masses between groups of the plan at f, g, from the points. */
static void brute_masses(double masses[GROUPS * GROUPS], const problem *p, const double *f, const double *g, double k)
{
    memset(masses, 0, GROUPS * GROUPS * sizeof *masses);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < p->m; j++) {
            double d = 0;
            for (int e = 0; e < DIM; e++) d += pow(p->x[i * DIM + e] - p->y[j * DIM + e], 2);
            masses[p->group[i] * GROUPS + p->target_group[j]] += exp((f[i] + g[j] - k * d) / p->epsilon);
        }
}

/* Alone: a fill is a dense pass; at its place the store gives its sums; near it those of a dense pass there. */
static void against_dense(problem *p, double least_share, double most_share, const char *what)
{
    job k, dense;
    answer filled, plain, stored, masses;
    double brute[GROUPS * GROUPS];
    const int before = test_failures;
    begin(p, 4);
    CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK && open_job(&dense, &alone, 1, 1, p) == FERRY_OK);
    CHECK(!ferry_store_usable(k.store));
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_E_ARG);
    CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK && ferry_sinkhorn_iterate(&dense.s) == FERRY_OK);
    take(&filled, &k, p);
    take(&plain, &dense, p);
    CHECK(filled.usable && filled.share > least_share && filled.share < most_share);
    CHECK(!memcmp(filled.f, plain.f, (size_t)p->n * sizeof *plain.f));
    CHECK(!memcmp(filled.c, plain.c, (size_t)p->m * sizeof *plain.c));
    CHECK(k.s.passes == 1);
    /* at the reference */
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    CHECK(k.s.passes == 1);
    take(&stored, &k, p);
    const double c0 = difference(stored.c, plain.c, p->m), r0 = difference(stored.r, plain.r, p->n);
    CHECK(c0 < 1e-6 && r0 < 1e-6);
    free_answer(&plain);
    free_answer(&stored);
    /* moved */
    move(&k, p, 0.5);
    memcpy(dense.s.g, k.s.g, (size_t)p->m * sizeof *k.s.g);
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK && ferry_sinkhorn_iterate(&dense.s) == FERRY_OK);
    take(&plain, &dense, p);
    take(&stored, &k, p);
    const double c1 = difference(stored.c, plain.c, p->m), mass = fabs(total(stored.c, p->m) - total(plain.c, p->m));
    CHECK(c1 < 2e-3 && mass < 1e-4 * total(plain.c, p->m));
    CHECK(difference(stored.r, plain.r, p->n) < 1e-3);
    for (int64_t i = 0; i < p->n; i++)
        if (p->a[i] > 0) CHECK(fabs(stored.f[i] - plain.f[i]) < 1e-3 * p->epsilon);
    /* between groups */
    k.s.aggregate = &k.aggregate;
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    take(&masses, &k, p);
    CHECK(difference(masses.c, stored.c, p->m) < 1e-6);
    brute_masses(brute, p, masses.f, k.s.g, ferry_cost_inv_scale(k.cost));
    double sum = 0, apart = 0;
    for (int e = 0; e < GROUPS * GROUPS; e++) {
        const double q = (double)masses.masses[e] / k.aggregate.units;
        sum += q;
        apart += fabs(q - brute[e]);
    }
    CHECK(apart < 1e-3);
    CHECK(fabs(sum - total(masses.c, p->m)) < 1e-6);
    if (before != test_failures || getenv("FERRY_TEST_TALK"))
        fprintf(stderr, "%s, %s: share %.3f, there c %.1e r %.1e, moved c %.1e mass %.1e, groups %.1e\n", what,
                p->table ? p->table : "auto", filled.share, c0, r0, c1, mass, apart);
    free_answer(&filled);
    free_answer(&plain);
    free_answer(&stored);
    free_answer(&masses);
    close_job(&dense);
    close_job(&k);
}
static void tables(problem *p, double least_share, double most_share, const char *what)
{
    char names[64];
    snprintf(names, sizeof names, "%s", ferry_kernels_names());
    for (char *name = strtok(names, " "); name; name = strtok(NULL, " ")) {
        p->table = name;
        against_dense(p, least_share, most_share, what);
    }
    p->table = NULL;
}

/* A second fill elsewhere, then a pass: what was kept before leaves no trace. */
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
    if (status == FERRY_OK && ferry_store_usable(k.store)) {
        move(&k, p, 0.3);
        k.s.aggregate = p->aggregate ? &k.aggregate : NULL;
        status = ferry_store_iterate(k.store, &k.s);
    }
    if (status == FERRY_OK) take(out, &k, p);
    close_job(&k);
    return status;
}
static void same(const answer *x, const answer *y, const problem *p)
{
    CHECK(x->usable && y->usable && x->share == y->share);
    CHECK(!memcmp(x->f, y->f, (size_t)p->n * sizeof *x->f));
    CHECK(!memcmp(x->r, y->r, (size_t)p->n * sizeof *x->r));
    CHECK(!memcmp(x->c, y->c, (size_t)p->m * sizeof *x->c));
    CHECK(!memcmp(x->masses, y->masses, sizeof x->masses));
}
static void layouts(problem *p)
{
    answer reference, here;
    p->threads = 1;
    begin(p, 3);
    CHECK(fill_twice(&reference, &alone, 1, 1, p) == FERRY_OK);
    for (p->threads = 1; p->threads <= 2; p->threads++)
        for (int cols = 1; cols <= world.size; cols++) {
            if (world.size % cols) continue;
            CHECK(fill_twice(&here, &world, world.size / cols, cols, p) == FERRY_OK);
            same(&here, &reference, p);
            free_answer(&here);
        }
    p->threads = 1;
    free_answer(&reference);
}

/* Columns that the plan has all but left: the store holds them by what they lost; and where they are many there is
 * none.
 */
static void left_columns(problem *p)
{
    job k;
    answer plain, stored;
    begin(p, 4);
    for (int64_t j = 50; j < p->m; j += 200) p->g[j] -= 30 * p->epsilon;
    CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK);
    CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
    take(&plain, &k, p);
    CHECK(plain.usable && plain.c[50] > 0 && plain.c[50] < 1e-11 * p->b[50]);
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    take(&stored, &k, p);
    CHECK(difference(stored.c, plain.c, p->m) < 1e-6);
    free_answer(&plain);
    free_answer(&stored);
    for (int64_t j = 50; j < p->m; j += 200) k.s.g[j] += 2 * p->epsilon;
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    take(&stored, &k, p);
    CHECK(ferry_sinkhorn_iterate(&k.s) == FERRY_OK);
    take(&plain, &k, p);
    CHECK(difference(stored.c, plain.c, p->m) < 1e-3);
    free_answer(&plain);
    free_answer(&stored);
    for (int64_t j = 0; j < p->m; j++) k.s.g[j] -= j % 10 ? 0 : 30 * p->epsilon;
    CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
    CHECK(!ferry_store_usable(k.store));
    close_job(&k);
}

/* Too little room on one rank: no rank has a store, and the answer of the fill stays that of the dense pass. */
static void little_room(problem *p)
{
    answer reference, here;
    job k;
    begin(p, 2);
    p->bytes = 0;
    CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK);
    CHECK(ferry_sinkhorn_iterate(&k.s) == FERRY_OK);
    take(&reference, &k, p);
    close_job(&k);
    for (int cols = 1; cols <= world.size; cols += world.size > 1 ? world.size - 1 : 1) {
        p->bytes = world.rank == world.size - 1 ? 100000 : INT64_MAX;
        CHECK(open_job(&k, &world, world.size / cols, cols, p) == FERRY_OK);
        CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
        take(&here, &k, p);
        CHECK(!here.usable && here.share == 0);
        CHECK(!memcmp(here.c, reference.c, (size_t)p->m * sizeof *here.c));
        CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_E_ARG);
        free_answer(&here);
        close_job(&k);
    }
    free_answer(&reference);
    p->bytes = INT64_MAX;
}

/* The same halves from every table, those of IEEE 754; sums to rounding. */
enum { PANEL = 2 * FERRY_HALF_TILE, UNITS = 3 };
static void panel_of(uint16_t halves[2][UNITS * FERRY_HALF_TILE], int32_t kept[UNITS], const char *table,
                     const float *plan, const float *weights)
{
    memset(halves, 0, (size_t)2 * UNITS * FERRY_HALF_TILE * sizeof **halves);
    kept[0] = kept[1] = -1;
    CHECK(ferry_halves_of(ferry_kernels_find(table))
              ->keep(halves[0], halves[1], kept, plan, weights, 5, UNITS, 0x1p-13F) == 2);
    CHECK(kept[0] == 5 && kept[1] == 7);
}
static void sums_of_tables(const ferry_halves *generic, const ferry_halves *table, const uint16_t *tiles)
{
    const int32_t unit[] = {1, 3};
    float w[128], q[12];
    double sums[12], sums_there[12], c[128], c_there[128];
    for (int i = 0; i < 12; i++) q[i] = 1 + (float)i;
    for (int j = 0; j < 128; j++) w[j] = (float)ferry_random(4, (uint64_t)j);
    generic->rows(sums, tiles, w, unit, 2, tiles);
    table->rows(sums_there, tiles, w, unit, 2, tiles);
    for (int i = 0; i < 12; i++) CHECK(sums[i] > 0 && fabs(sums[i] - sums_there[i]) < 1e-6 * sums[i]);
    for (int first = 0; first < 12; first++)
        for (int end = first + 1; end <= 12; end++) {
            for (int j = 0; j < 128; j++) c[j] = c_there[j] = j;
            generic->columns(c, tiles, q, unit, 2, first, end, tiles);
            table->columns(c_there, tiles, q, unit, 2, first, end, tiles);
            CHECK(difference(c_there, c, 128) < 1e-6 && c_there[31] == 31 && c_there[64] == 64 &&
                  total(c_there, 128) > 64 * 127);
        }
    table->rows(sums_there, tiles, w, unit, 0, tiles);
    CHECK(sums_there[11] == 0);
}
static void conversions(void)
{
    static _Alignas(64) uint16_t expected[2][UNITS * FERRY_HALF_TILE], halves[2][UNITS * FERRY_HALF_TILE];
    static float plan[UNITS * PANEL];
    float weights[24];
    int32_t kept[UNITS];
    char names[64];
    const float special[] = {0,         65504,    65519.99F,  65520,      0x1p-14F,     0x1.ff8p-15F, 0x1.ffep-15F,
                             0x1p-24F,  0x1p-25F, 0x1.8p-24F, 0x1.8p-25F, 1 + 0x1p-11F, 1 + 0x3p-11F, 0x1p-126F,
                             0x1p-149F, INFINITY, 1e30F};
    const uint16_t wanted[] = {0, 0x7bff, 0x7bff, 0x7c00, 0x0400, 0x03ff, 0x0400, 1,     0,
                               2, 1,      0x3c00, 0x3c02, 0,      0,      0x7c00, 0x7c00};
    enum { SPECIAL = sizeof special / sizeof *special };
    for (int i = 0; i < 24; i++) weights[i] = 1;
    for (int e = 0; e < UNITS * PANEL; e++) /* the second unit does not weigh */
        plan[e] = e < SPECIAL      ? special[e]
                  : e / PANEL == 1 ? 0x1p-13F * (float)ferry_random(3, (uint64_t)e)
                                   : (float)ldexp(ferry_random(3, (uint64_t)e), e % 45 - 28);
    panel_of(expected, kept, "generic", plan, weights);
    for (int e = 0; e < SPECIAL; e++) CHECK(expected[0][e] == wanted[e]);
    for (int pass = 0; pass < 2; pass++) {
        snprintf(names, sizeof names, "%s", ferry_kernels_names());
        for (char *name = strtok(names, " "); name; name = strtok(NULL, " ")) {
            panel_of(halves, kept, name, plan, weights);
            CHECK(!memcmp(halves, expected, sizeof halves));
            if (pass == 0) continue;
            sums_of_tables(ferry_halves_of(ferry_kernels_find("generic")), ferry_halves_of(ferry_kernels_find(name)),
                           expected[0]);
            sums_of_tables(ferry_halves_of(ferry_kernels_find("generic")), ferry_halves_of(ferry_kernels_find(name)),
                           expected[1]);
        }
        for (int e = 0; e < SPECIAL; e++) plan[e] = 1; /* then sums, without infinities */
        for (int i = 0; i < 24; i++) weights[i] = 1 / (1 + (float)i);
        panel_of(expected, kept, "generic", plan, weights);
    }
}

/* Every meeting fails once: all ranks come back alike, and with nothing kept. */
static void every_failure(const char *variable)
{
    problem p = make(300, 350, 1, 0.1, true);
    char text[64], clean = 0;
    p.aggregate = true;
    for (int n = 1; n < 1000 && !clean; n += 1 + n / 25) { /* later ones are those of the passes, many times over */
        answer out;
        snprintf(text, sizeof text, "%d:%d", n, world.size - 1);
        setenv(variable, text, 1);
        const ferry_status status = fill_twice(&out, &world, 1, world.size, &p);
        unsetenv(variable);
        clean = status == FERRY_OK && out.usable;
        int64_t code[2] = {status, -status};
        CHECK(ferry_max(&world, code[0]) == -ferry_max(&world, code[1]));
        if (status == FERRY_OK) free_answer(&out);
    }
    CHECK(clean);
    free_problem(&p);
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
/* test_store time N [EPSILON]: core-ns a pair of a dense pass, a fill and a pass over the store, in turns. */
static int timing(int64_t n, double epsilon)
{
    problem p = make(n, n, 1, epsilon, true);
    job k;
    double pairs = (double)n * (double)n, best[4] = {INFINITY, INFINITY, INFINITY, INFINITY};
    begin(&p, 2);
    CHECK(open_job(&k, &alone, 1, 1, &p) == FERRY_OK);
    for (int turn = 0; turn < 4; turn++) {
        const double t0 = cpu();
        CHECK(ferry_sinkhorn_iterate(&k.s) == FERRY_OK);
        const double t1 = cpu();
        CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
        const double t2 = cpu();
        CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
        const double t3 = cpu();
        k.s.aggregate = &k.aggregate;
        CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
        k.s.aggregate = NULL;
        const double times[] = {t1 - t0, t2 - t1, t3 - t2, cpu() - t3};
        for (int e = 0; e < 4; e++) best[e] = fmin(best[e], times[e]);
    }
    printf("dense %.4f, fill %.4f, stored %.4f, with masses %.4f core-ns a pair; share %.3f\n", 1e9 * best[0] / pairs,
           1e9 * best[1] / pairs, 1e9 * best[2] / pairs, 1e9 * best[3] / pairs, ferry_store_share(k.store));
    close_job(&k);
    free_problem(&p);
    return 0;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world_open(&world, MPI_COMM_WORLD);
    ferry_world_open(&alone, MPI_COMM_SELF);
    ferry_log_level(FERRY_WARN);
    if (argc > 2) {
        timing(atoll(argv[2]), argc > 3 ? atof(argv[3]) : 0.05);
        ferry_world_close(&alone);
        ferry_world_close(&world);
        return test_end();
    }
    problem smooth = make(500, 610, 0.5, 0.1, true), sharp = make(610, 700, 3, 0.01, true);
    problem mixed = make(610, 700, 2, 0.03, false);
    if (world.size == 1) {
        conversions();
        tables(&smooth, 0.99, 1.01, "smooth");
        tables(&sharp, 0.02, 0.4, "sharp");
        left_columns(&sharp);
        tables(&mixed, 0.5, 1.01, "mixed");
        smooth.tau_a = 0.9;
        smooth.tau_b = 0.95;
        smooth.a[3] = smooth.a[499] = smooth.b[7] = 0;
        against_dense(&smooth, 0.9, 1.01, "unbalanced");
        smooth.tau_a = smooth.tau_b = 1;
    }
    layouts(&sharp);
    sharp.aggregate = mixed.aggregate = true;
    layouts(&sharp);
    layouts(&mixed);
    little_room(&smooth);
    every_failure("FERRY_FAIL");
    every_failure("FERRY_FAIL_ALLOC");
    free_problem(&smooth);
    free_problem(&sharp);
    free_problem(&mixed);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

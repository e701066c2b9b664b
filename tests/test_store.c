/* A kept plan against the dense pass and against brute force, the same bits on every layout, what is not kept, halves.
 */
#include "passes.h"
#include "kernels/halves.h"
#include <time.h>

#ifndef DIM
#define DIM 6
#endif
#define GROUPS 9

/* Cells around centres, in the order of their groups or one group after the other. */
static problem make(int64_t n, int64_t m, double apart, double epsilon, problem_mix mix)
{
    problem p = problem_make(n, m, DIM, GROUPS, apart, mix);
    p.options.epsilon = epsilon;
    return p;
}
static double total(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i];
    return sum;
}

/* Masses between groups of the plan at f, g, from the points. */
static void brute_masses(double masses[GROUPS * GROUPS], const problem *p, const double *f, const double *g, double k)
{
    memset(masses, 0, GROUPS * GROUPS * sizeof *masses);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < p->m; j++) {
            double d = 0;
            for (int e = 0; e < DIM; e++) d += pow(p->x[i * DIM + e] - p->y[j * DIM + e], 2);
            masses[p->group[i] * GROUPS + p->target_group[j]] += exp((f[i] + g[j] - k * d) / p->options.epsilon);
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
    take(&filled, &k);
    take(&plain, &dense);
    CHECK(filled.usable && filled.share > least_share && filled.share < most_share);
    CHECK(!memcmp(filled.f, plain.f, (size_t)p->n * sizeof *plain.f));
    CHECK(!memcmp(filled.c, plain.c, (size_t)p->m * sizeof *plain.c));
    CHECK(k.s.passes == 1);
    /* at the reference */
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    CHECK(k.s.passes == 1);
    take(&stored, &k);
    const double c0 = difference(stored.c, plain.c, p->m), r0 = difference(stored.r, plain.r, p->n);
    CHECK(c0 < 1e-6 && r0 < 1e-6);
    free_answer(&plain);
    free_answer(&stored);
    /* moved */
    move(&k, 0.5);
    memcpy(dense.s.g, k.s.g, (size_t)p->m * sizeof *k.s.g);
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK && ferry_sinkhorn_iterate(&dense.s) == FERRY_OK);
    take(&plain, &dense);
    take(&stored, &k);
    const double c1 = difference(stored.c, plain.c, p->m), mass = fabs(total(stored.c, p->m) - total(plain.c, p->m));
    CHECK(c1 < 2e-3 && mass < 1e-4 * total(plain.c, p->m));
    CHECK(difference(stored.r, plain.r, p->n) < 1e-3);
    for (int64_t i = 0; i < p->n; i++)
        if (p->a[i] > 0) CHECK(fabs(stored.f[i] - plain.f[i]) < 1e-3 * p->options.epsilon);
    /* between groups */
    k.s.aggregate = &k.aggregate;
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    take(&masses, &k);
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
    if (problem_talks(before))
        fprintf(stderr, "%s, %s: share %.3f, there c %.1e r %.1e, moved c %.1e mass %.1e, groups %.1e\n", what,
                p->cost.kernels ? p->cost.kernels->name : "auto", filled.share, c0, r0, c1, mass, apart);
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
        p->cost.kernels = ferry_kernels_find(name);
        against_dense(p, least_share, most_share, what);
    }
    p->cost.kernels = NULL;
}

/* Columns that the plan has all but left: the store holds them by what they lost; and where they are many there is
 * none.
 */
static void left_columns(problem *p)
{
    job k;
    answer plain, stored;
    begin(p, 4);
    for (int64_t j = 50; j < p->m; j += 200) p->g[j] -= 30 * p->options.epsilon;
    CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK);
    CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
    take(&plain, &k);
    CHECK(plain.usable && plain.c[50] > 0 && plain.c[50] < 1e-11 * p->b[50]);
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    take(&stored, &k);
    CHECK(difference(stored.c, plain.c, p->m) < 1e-6);
    free_answer(&plain);
    free_answer(&stored);
    for (int64_t j = 50; j < p->m; j += 200) k.s.g[j] += 2 * p->options.epsilon;
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK);
    take(&stored, &k);
    CHECK(ferry_sinkhorn_iterate(&k.s) == FERRY_OK);
    take(&plain, &k);
    CHECK(difference(stored.c, plain.c, p->m) < 1e-3);
    free_answer(&plain);
    free_answer(&stored);
    for (int64_t j = 0; j < p->m; j++) k.s.g[j] -= j % 10 ? 0 : 30 * p->options.epsilon;
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
    take(&reference, &k);
    close_job(&k);
    for (int cols = 1; cols <= world.size; cols += world.size > 1 ? world.size - 1 : 1) {
        p->bytes = world.rank == world.size - 1 ? 100000 : INT64_MAX;
        CHECK(open_job(&k, &world, world.size / cols, cols, p) == FERRY_OK);
        CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
        take(&here, &k);
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

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
/* test_store time N [EPSILON]: core-ns a pair of a dense pass, a fill and a pass over the store, in turns. */
static int timing(int64_t n, double epsilon)
{
    problem p = make(n, n, 1, epsilon, SORTED);
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
    problem_free(&p);
    return 0;
}

int main(int argc, char **argv)
{
    problem_begin(&argc, &argv);
    if (argc > 2) {
        timing(atoll(argv[2]), argc > 3 ? atof(argv[3]) : 0.05);
        return problem_end();
    }
    problem smooth = make(500, 610, 0.5, 0.1, SORTED), sharp = make(610, 700, 3, 0.01, SORTED);
    problem mixed = make(610, 700, 2, 0.03, IN_TURN), small = make(300, 350, 1, 0.1, SORTED);
    if (world.size == 1) {
        conversions();
        tables(&smooth, 0.99, 1.01, "smooth");
        tables(&sharp, 0.02, 0.4, "sharp");
        left_columns(&sharp);
        tables(&mixed, 0.5, 1.01, "mixed");
        smooth.options.tau_a = 0.9;
        smooth.options.tau_b = 0.95;
        smooth.a[3] = smooth.a[499] = smooth.b[7] = 0;
        against_dense(&smooth, 0.9, 1.01, "unbalanced");
        smooth.options.tau_a = smooth.options.tau_b = 1;
    }
    passes_layouts(&sharp, false);
    passes_layouts(&sharp, true);
    passes_layouts(&mixed, true);
    little_room(&smooth);
    problem_failures("FERRY_FAIL", world.size - 1, 40, 10, passes_attempt, &small, 1, world.size);
    problem_failures("FERRY_FAIL_ALLOC", world.size - 1, 40, 10, passes_attempt, &small, 1, world.size);
    problem_free(&smooth);
    problem_free(&sharp);
    problem_free(&mixed);
    problem_free(&small);
    return problem_end();
}

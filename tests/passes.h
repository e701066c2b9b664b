/** passes.h - single passes for tests, over all pairs and over a kept plan: a problem (problem.h) with no more of a
 * solver than they need. */
#ifndef PASSES_H
#define PASSES_H
#include "problem.h"
#include "transport/groups_impl.h"
#include "transport/store_impl.h"

#define PASSES_GROUPS 14 /* most that answers have room for */

typedef struct job {
    ferry_grid grid;
    ferry_cost *given, *cost; /* cost: in the order of the groups, or as given */
    ferry_transport_options options;
    ferry_groups groups;
    ferry_aggregate aggregate;
    ferry_sinkhorn s;
    ferry_store *store;
} job;

static inline void close_job(job *k)
{
    ferry_sinkhorn *s = &k->s;
    double *const all[] = {s->f, s->g, s->c, s->r, s->work};
    ferry_store_close(k->store);
    ferry_sinkhorn_close_passes(s);
    for (int e = 0; e < 5; e++) free(all[e]);
    free(k->aggregate.sums);
    if (k->cost != k->given) ferry_groups_close(&k->groups);
    ferry_cost_close(&k->given);
    ferry_grid_close(&k->grid);
}
/* Local. Weights as the places of the cost have them, in whatever order it is. */
static inline ferry_status open_solver(job *k, const problem *p)
{
    ferry_sinkhorn *s = &k->s;
    const int64_t size = (int64_t)k->groups.count * k->groups.count;
    k->options = p->options;
    *s = (ferry_sinkhorn){.grid = &k->grid,
                          .cost = k->cost,
                          .source = ferry_cost_source(k->cost),
                          .options = &k->options,
                          .a = p->a + k->grid.source_first,
                          .b = p->b + k->grid.target_first,
                          .sources = k->grid.source_rows,
                          .targets = k->grid.target_rows,
                          .columns = k->cost->columns,
                          .epsilon = p->options.epsilon,
                          .tau_a = p->options.tau_a,
                          .tau_b = p->options.tau_b,
                          .mass_a = 1,
                          .mass_b = 1,
                          .balanced = p->options.tau_a == 1 && p->options.tau_b == 1,
                          .threads = p->cost.threads,
                          .weight = 1};
    s->rows = s->source->panels * FERRY_SOURCE_UNIT;
    FERRY_TRY(ferry_alloc(&s->f, s->rows));
    FERRY_TRY(ferry_alloc(&s->r, s->rows));
    FERRY_TRY(ferry_alloc(&s->g, s->columns));
    FERRY_TRY(ferry_alloc(&s->c, s->columns));
    FERRY_TRY(ferry_alloc(&s->work, s->rows > s->columns ? s->rows : s->columns));
    for (int64_t i = 0; i < s->rows; i++) s->f[i] = i < s->sources && s->a[i] > 0 ? 0 : -INFINITY;
    for (int64_t j = 0; j < s->targets; j++) s->g[j] = s->b[j] > 0 ? p->g[k->grid.target_first + j] : -INFINITY;
    k->aggregate = (ferry_aggregate){.groups = &k->groups, .units = ferry_exact_units(1), .size = size};
    FERRY_TRY(ferry_alloc(&k->aggregate.sums, size * s->threads));
    FERRY_TRY(ferry_sinkhorn_open_passes(s));
    return ferry_store_open(&k->store, s, p->bytes);
}
/* Collective over w. */
static inline ferry_status open_job(job *k, const ferry_world *w, int rows, int cols, const problem *p)
{
    memset(k, 0, sizeof *k);
    FERRY_TRY(ferry_grid_open(&k->grid, w, rows, cols, p->n, p->m));
    FERRY_TRY(problem_cost(&k->given, &k->grid, p));
    k->cost = p->groups ? &k->groups.cost : k->given;
    if (p->groups) {
        FERRY_TRY(ferry_groups_open(&k->groups, k->given, p->groups, 3));
    } else {
        k->groups.count = p->centres;
        k->groups.group = p->group + k->grid.source_first;
        k->groups.target_group = p->target_group + k->grid.target_first;
    }
    return ferry_agree(w, open_solver(k, p));
}

static inline void plain_step(ferry_sinkhorn *s)
{
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0) s->g[j] = s->tau_b * (s->g[j] + s->epsilon * log(s->b[j] / s->c[j]));
}
/* Where the tests begin: some iterations after the first g. */
static inline void begin(problem *p, int iterations)
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
/* Moves of g, in nats: the same for every layout. */
static inline void move(job *k, double by)
{
    for (int64_t j = 0; j < k->s.targets; j++) {
        uint64_t counter = (uint64_t)(2 * (k->grid.target_first + j));
        k->s.g[j] += by * k->s.epsilon * problem_normal(5, &counter);
    }
}

/* What a pass gives, whole on every rank. */
typedef struct answer {
    double *f, *r, *c;
    int64_t masses[PASSES_GROUPS * PASSES_GROUPS]; /* [groups][groups] */
    double share;
    bool usable;
} answer;
static inline void take(answer *out, job *k)
{
    *out = (answer){.usable = ferry_store_usable(k->store), .share = ferry_store_share(k->store)};
    out->f = problem_whole(&k->grid, k->s.f, false);
    out->r = problem_whole(&k->grid, k->s.r, false);
    out->c = problem_whole(&k->grid, k->s.c, true);
    for (int t = 0; t < k->s.threads; t++)
        for (int64_t e = 0; e < k->aggregate.size; e++) out->masses[e] += k->aggregate.sums[t * k->aggregate.size + e];
    ferry_total_counts(k->grid.world, out->masses, PASSES_GROUPS * PASSES_GROUPS);
}
static inline void free_answer(answer *out)
{
    free(out->f);
    free(out->r);
    free(out->c);
}
static inline double difference(const double *x, const double *y, int64_t count) /* largest, relative */
{
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = fabs(x[i] - y[i]), scale = fabs(y[i]);
        if (!(d <= most * scale)) most = d / scale;
    }
    return most;
}

/* Collective over w. A second fill elsewhere, then a pass, with masses between groups if `masses`: what was kept before
 * leaves no trace. */
static inline ferry_status fill_twice(answer *out, const ferry_world *w, int rows, int cols, const problem *p,
                                      bool masses)
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
        move(&k, 0.3);
        k.s.aggregate = masses ? &k.aggregate : NULL;
        status = ferry_store_iterate(k.store, &k.s);
    }
    if (status == FERRY_OK) take(out, &k);
    close_job(&k);
    return status;
}
/* The same bits on every layout. */
static inline void passes_layouts(problem *p, bool masses)
{
    answer alike, here;
    begin(p, 3);
    CHECK(fill_twice(&alike, &alone, 1, 1, p, masses) == FERRY_OK);
    for (p->cost.threads = 1; p->cost.threads <= 2; p->cost.threads++)
        for (int cols = 1; cols <= world.size; cols++) {
            if (world.size % cols) continue;
            CHECK(fill_twice(&here, &world, world.size / cols, cols, p, masses) == FERRY_OK);
            CHECK(here.usable && alike.usable && here.share == alike.share);
            CHECK(!memcmp(here.f, alike.f, (size_t)p->n * sizeof *here.f));
            CHECK(!memcmp(here.r, alike.r, (size_t)p->n * sizeof *here.r));
            CHECK(!memcmp(here.c, alike.c, (size_t)p->m * sizeof *here.c));
            CHECK(!memcmp(here.masses, alike.masses, sizeof here.masses));
            free_answer(&here);
        }
    p->cost.threads = 1;
    free_answer(&alike);
}
/* For problem_failures: done when something was kept and passed over, which a failed allocation may prevent. */
static inline ferry_status passes_attempt(const problem *p, int rows, int cols)
{
    answer out;
    const ferry_status status = fill_twice(&out, &world, rows, cols, p, true);
    const bool kept = out.usable;
    free_answer(&out);
    return status == FERRY_OK && !kept ? FERRY_E_MEM : status;
}
#endif

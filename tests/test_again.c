/* Passes over what weighs where its tiles find no room: against dense passes, the same bits on every layout, failures.
 */
#include "passes.h"

#define DIM    6
#define N      610
#define M      700
#define LITTLE 4000 /* bytes: enough for lists, not for tiles */

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
    move(&k, 0.5);
    memcpy(dense.s.g, k.s.g, M * sizeof *k.s.g);
    k.s.aggregate = &k.aggregate;
    dense.s.aggregate = &dense.aggregate;
    CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_OK && ferry_sinkhorn_iterate(&dense.s) == FERRY_OK);
    take(&plain, &dense);
    take(&again, &k);
    const double c1 = difference(again.c, plain.c, M), r1 = difference(again.r, plain.r, N);
    CHECK(c1 < 1e-3 && r1 < 1e-3);
    for (int64_t i = 0; i < N; i++) CHECK(fabs(again.f[i] - plain.f[i]) < 1e-3 * p->options.epsilon);
    for (int64_t e = 0; e < k.aggregate.size; e++) {
        apart += fabs((double)(again.masses[e] - plain.masses[e])) / k.aggregate.units;
        sum += (double)plain.masses[e] / k.aggregate.units;
    }
    CHECK(apart < 1e-3 && sum > 0.2);
    if (problem_talks(before))
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
    q.options.epsilon /= 3; /* of a mean cost that grows with them */
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
    if (problem_talks(test_failures)) fprintf(stderr, "lost columns: share %.3f\n", plain.share);
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
    const double epsilon = p->options.epsilon;
    for (int turn = 0; turn < 2; turn++) {
        p->bytes = turn == 0 ? 100 : LITTLE;
        p->options.epsilon = turn == 0 ? epsilon : 3;
        begin(p, 2);
        CHECK(open_job(&k, &alone, 1, 1, p) == FERRY_OK);
        CHECK(ferry_store_fill(k.store, &k.s) == FERRY_OK);
        CHECK(!ferry_store_usable(k.store));
        CHECK(ferry_store_iterate(k.store, &k.s) == FERRY_E_ARG);
        close_job(&k);
    }
    p->bytes = LITTLE;
    p->options.epsilon = epsilon;
}

int main(int argc, char **argv)
{
    problem_begin(&argc, &argv);
    problem p = problem_make(N, M, DIM, 9, 3, IN_TURN);
    ferry_transport_options *o = &p.options;
    p.groups = PASSES_GROUPS;
    p.bytes = LITTLE;
    o->epsilon = 0.01;
    o->threshold = 1e-6;
    if (world.size == 1) {
        against_dense(&p, 1e-6, "balanced");
        o->tau_a = 0.9;
        o->tau_b = 0.95;
        against_dense(&p, 1e-6, "unbalanced");
        o->tau_a = o->tau_b = 1;
        o->threshold = 1e-3; /* what is left out is not looked for */
        against_dense(&p, 1e-4, "coarse");
        p.b[5] = 1e-7; /* but for the sake of a thin column */
        against_dense(&p, 1e-6, "thin");
        p.b[5] = 1.0 / M;
        lost_columns(&p);
        not_usable(&p);
    }
    passes_layouts(&p, true);
    o->threshold = 1e-3;
    passes_layouts(&p, true);
    o->threshold = 1e-6;
    problem_failures("FERRY_FAIL", world.size - 1, 8, 10, passes_attempt, &p, world.size, 1);
    problem_failures("FERRY_FAIL_ALLOC", world.size - 1, 8, 10, passes_attempt, &p, world.size, 1);
    problem_free(&p);
    return problem_end();
}

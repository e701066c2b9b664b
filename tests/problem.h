/** problem.h - transport problems of random cells for tests, whole on every rank: made, solved on any grid of ranks,
 * and with every meeting made to fail. */
#ifndef PROBLEM_H
#define PROBLEM_H
#include "math/random.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include "test.h"
#include "transport/coreset.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ferry_world world, alone; /* all ranks; and each by itself */

static inline void problem_begin(int *argc, char ***argv)
{
    int provided;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    CHECK(ferry_world_open(&alone, MPI_COMM_SELF) == FERRY_OK);
    ferry_log_level(FERRY_WARN);
}
static inline int problem_end(void)
{
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}
/* Whether to say what was measured: on demand, and where checks have failed since there were `before`. */
static inline bool problem_talks(int before)
{
    return before != test_failures || getenv("FERRY_TEST_TALK");
}

/* Which centre cell i belongs to: i modulo centres; one centre after the other; or at random, to some more often than
 * to others, and to other ones for every seed. */
typedef enum problem_mix { IN_TURN, SORTED, UNEVEN } problem_mix;

typedef struct problem {
    int64_t n, m;
    int dim, centres;
    double *x, *y, *a, *b, *g;     /* [n, dim] [m, dim] [n] [m]; g [m]: where passes begin (passes.h) */
    int32_t *group, *target_group; /* the centre of each cell */
    ferry_cost_options cost;
    ferry_transport_options options;     /* f, g: [n], [m] or NULL */
    const ferry_coreset_options *coarse; /* solved by a coreset; NULL: by all cells */
    int groups;                          /* of passes: most groups that cells are put in the order of; 0: as given */
    int64_t bytes;                       /* of passes: room for what is kept */
} problem;

static inline double problem_normal(uint64_t seed, uint64_t *counter)
{
    const double u = ferry_random(seed, *counter), v = ferry_random(seed, *counter + 1);
    *counter += 2;
    return sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
}
static inline int32_t problem_group(problem_mix mix, int64_t i, int64_t count, int centres, uint64_t seed)
{
    const double u = ferry_random(seed + 100, (uint64_t)i);
    return (int32_t)(mix == IN_TURN  ? i % centres
                     : mix == SORTED ? i * centres / count
                                     : (int)(u * u * centres + (seed % 2 ? 0 : 0.3 * centres * u * (1 - u))));
}
/* Cells around centres that are `apart` from each other, and the same for all seeds. */
static inline double *problem_cells(int32_t **group, int64_t count, int dim, int centres, double apart, double shift,
                                    problem_mix mix, uint64_t seed)
{
    double *x = calloc((size_t)(count * dim) + 1, sizeof *x);
    uint64_t counter = 0;
    *group = calloc((size_t)count + 1, sizeof **group);
    for (int64_t i = 0; i < count; i++) {
        (*group)[i] = problem_group(mix, i, count, centres, seed);
        uint64_t centre = (uint64_t)dim * 4 * (uint64_t)(*group)[i];
        for (int k = 0; k < dim; k++)
            x[i * dim + k] =
                apart * problem_normal(77, &centre) + 0.5 * problem_normal(seed, &counter) + (k == 0 ? shift : 0);
    }
    return x;
}
/* Even weights of sum 1, every error recorded; at first one thread. */
static inline problem problem_make(int64_t n, int64_t m, int dim, int centres, double apart, problem_mix mix)
{
    problem p = {.n = n,
                 .m = m,
                 .dim = dim,
                 .centres = centres,
                 .cost = FERRY_COST_DEFAULTS,
                 .options = FERRY_TRANSPORT_DEFAULTS,
                 .bytes = INT64_MAX};
    p.x = problem_cells(&p.group, n, dim, centres, apart, 0, mix, 1);
    p.y = problem_cells(&p.target_group, m, dim, centres, apart, 0.3, mix, 2);
    p.a = malloc((size_t)n * sizeof *p.a);
    p.b = malloc((size_t)m * sizeof *p.b);
    p.g = calloc((size_t)m + 1, sizeof *p.g);
    for (int64_t i = 0; i < n; i++) p.a[i] = 1.0 / (double)n;
    for (int64_t j = 0; j < m; j++) p.b[j] = 1.0 / (double)m;
    p.cost.threads = 1;
    p.options.check_every = 1;
    return p;
}
static inline void problem_free(problem *p)
{
    double *const all[] = {p->x, p->y, p->a, p->b, p->g};
    for (int e = 0; e < 5; e++) free(all[e]);
    free(p->group);
    free(p->target_group);
}

/* Rows first ... of x; not by ferry_matrix_open, whose allocation may be made to fail. */
static inline ferry_matrix problem_rows(const problem *p, const double *x, int64_t first, int64_t rows)
{
    const bool wide = p->cost.precision == FERRY_DOUBLE;
    const size_t count = (size_t)(rows * p->dim);
    ferry_matrix out = {.rows = rows, .dim = p->dim};
    if (wide) out.d = malloc((count + 1) * sizeof *out.d);
    if (!wide) out.f = malloc((count + 1) * sizeof *out.f);
    x += first * p->dim;
    for (size_t e = 0; e < count; e++)
        if (wide)
            out.d[e] = x[e];
        else
            out.f[e] = (float)x[e];
    return out;
}
/* Collective. The cost of p on this grid. */
static inline ferry_status problem_cost(ferry_cost **out, const ferry_grid *grid, const problem *p)
{
    ferry_matrix x = problem_rows(p, p->x, grid->source_first, grid->source_rows);
    ferry_matrix y = problem_rows(p, p->y, grid->bring_first, grid->bring_rows);
    const ferry_status status = ferry_cost_open(out, grid, &x, &y, &p->cost);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    return status;
}
/* Collective. Every source's value, from the ranks of the first column of the grid; every target's, from its first row.
 */
static inline double *problem_whole(const ferry_grid *grid, const double *part, bool target)
{
    const int64_t first = target ? grid->target_first : grid->source_first;
    const int64_t here = target ? grid->target_rows : grid->source_rows;
    const int64_t total = (target ? grid->target : grid->source).blocks.rows;
    double *all = calloc((size_t)total + 1, sizeof *all);
    if ((target ? grid->row : grid->col) == 0 && here) memcpy(all + first, part, (size_t)here * sizeof *all);
    MPI_Allreduce(MPI_IN_PLACE, all, (int)total, MPI_DOUBLE, MPI_SUM, grid->world->comm);
    return all;
}

typedef struct solution {
    double *f, *g;           /* [n], [m]; NULL where the solve failed */
    ferry_potentials p;      /* of this rank */
    int64_t messages, bytes; /* that this rank gave to MPI in the solve */
} solution;

/* Collective over w. */
static inline ferry_status problem_solve(solution *out, const ferry_world *w, int rows, int cols, const problem *p)
{
    ferry_grid grid;
    ferry_cost *cost = NULL;
    memset(out, 0, sizeof *out);
    ferry_status status = ferry_grid_open(&grid, w, rows, cols, p->n, p->m);
    if (status != FERRY_OK) return status;
    status = problem_cost(&cost, &grid, p);
    if (status == FERRY_OK) {
        const double *a = p->a + grid.source_first, *b = p->b + grid.target_first;
        const ferry_stages before = *ferry_stages_here();
        ferry_transport_options o = p->options;
        if (o.f) o.f += grid.source_first;
        if (o.g) o.g += grid.target_first;
        status = p->coarse ? ferry_transport_coarse(&out->p, cost, a, b, &o, p->coarse)
                           : ferry_transport(&out->p, cost, a, b, &o);
        out->messages = ferry_stages_here()->messages - before.messages;
        out->bytes = ferry_stages_here()->sent_bytes - before.sent_bytes;
    }
    if (status == FERRY_OK) {
        out->f = problem_whole(&grid, out->p.f, false);
        out->g = problem_whole(&grid, out->p.g, true);
    }
    ferry_cost_close(&cost);
    ferry_grid_close(&grid);
    return status;
}
static inline void solution_free(solution *s)
{
    free(s->f);
    free(s->g);
    ferry_potentials_close(&s->p);
    memset(s, 0, sizeof *s);
}
static inline void solution_same(const solution *s, const solution *t, const problem *p)
{
    CHECK(s->f && t->f && s->g && t->g);
    if (!s->f || !t->f) return;
    const double of_s[] = {s->p.marginal_error, s->p.mass,         s->p.transport_cost, s->p.reg_ot_cost,
                           s->p.lower_bound,    s->p.stored_share, s->p.error_sd};
    const double of_t[] = {t->p.marginal_error, t->p.mass,         t->p.transport_cost, t->p.reg_ot_cost,
                           t->p.lower_bound,    t->p.stored_share, t->p.error_sd};
    CHECK(memcmp(s->f, t->f, (size_t)p->n * sizeof *s->f) == 0);
    CHECK(memcmp(s->g, t->g, (size_t)p->m * sizeof *s->g) == 0);
    CHECK(memcmp(of_s, of_t, sizeof of_s) == 0);
    CHECK(s->p.iterations == t->p.iterations && s->p.passes == t->p.passes);
    CHECK(s->p.stored_passes == t->p.stored_passes && s->p.coarse[0] == t->p.coarse[0]);
}

/* Collective. Every meeting (FERRY_FAIL) or allocation (FERRY_FAIL_ALLOC) of `attempt` fails once, on one rank: all
 * ranks get the same error. Later ones are those of the passes, many times over: one more is left out each time after
 * `every` failures. */
typedef ferry_status problem_attempt(const problem *p, int rows, int cols);
static inline void problem_failures(const char *variable, int rank, int every, int least, problem_attempt *attempt,
                                    const problem *p, int rows, int cols)
{
    int failures = 0;
    int64_t status = 1;
    for (int at = 1; status != FERRY_OK; at += 1 + failures / every) {
        char value[32];
        snprintf(value, sizeof value, "%d:%d", at, rank);
        setenv(variable, value, 1);
        status = attempt(p, rows, cols);
        unsetenv(variable);
        const bool agreed = ferry_max(&world, status) == ferry_min(&world, status);
        CHECK(agreed);
        if (!agreed) break;
        failures++;
    }
    CHECK(failures > least && status == FERRY_OK);
}
static inline ferry_status solution_attempt(const problem *p, int rows, int cols)
{
    solution s;
    const ferry_status status = problem_solve(&s, &world, rows, cols, p);
    solution_free(&s);
    return status;
}
#endif

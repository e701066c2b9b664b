/** coreset_impl.h - between coreset.c (draw, solve, extend), coreset_draw.c, coreset_sweep.c, coreset_guess.c and
 *  nested.c (not installed). */
#ifndef FERRY_CORESET_IMPL_H
#define FERRY_CORESET_IMPL_H
#include "coreset.h"
#include "groups_impl.h"
FERRY_BEGIN
/** One side of a problem: who holds which of its cells. The ranks of `same` hold the same ones, those of `cut` others.
 */
typedef struct ferry_side {
    bool target;
    const ferry_cost *cost;
    const ferry_world *same, *cut;
    const ferry_shards *shards;
    int64_t first, here;  /* of this rank and of all of `same` */
    int64_t from, count;  /* cells first + from ... that this rank works on for all of `same`: whole panels */
    const double *weight; /* [here] */
    double tau;
} ferry_side;
ferry_side ferry_side_of(const ferry_cost *cost, bool target, const double *weight, double tau);

/** Cells of a side, all of them on every rank. */
typedef struct ferry_few {
    int64_t count;
    int64_t *cell;     /* [count] their numbers, ascending */
    double *weight;    /* [count] */
    ferry_matrix rows; /* as read, but for what preparing changes for good */
} ferry_few;
void ferry_few_close(ferry_few *few);
/** Collective. Cells chosen [side->count] by this rank among its own (from side->from on), with weights [side->count],
 *  to all ranks. */
ferry_status ferry_few_gather(ferry_few *out, const ferry_side *side, const bool *chosen, const double *weight);
/** Collective. About `cells` of the side, with weights w for which sum w^tau is the side's, group by group. */
ferry_status ferry_few_draw(ferry_few *out, const ferry_side *side, ferry_groups *groups, int64_t cells, uint64_t seed);

/** Collective. h [side->here] = tau (epsilon log weight - epsilon log sum_l exp((g_l - C_.l) / epsilon)) over the few
 *  cells of the other side; -inf where the weight is 0. */
ferry_status ferry_extend(double *h, const ferry_side *side, const ferry_few *few, const double *g, double epsilon);
/** What the plan has in a few columns (or rows: those of the side's other one), from all cells of the side. */
typedef struct ferry_marginal {
    double *sums; /* [few->count] */
    double cost;  /* <P, C> of these columns */
} ferry_marginal;
/** Collective. h [side->here], g [few->count] potentials. sums is the caller's. total: about sum P over all pairs. */
ferry_status ferry_few_marginal(ferry_marginal *out, const ferry_side *side, const double *h, const ferry_few *few,
                                const double *g, double epsilon, double total);

/** What is alive while a coreset is worked on; all but few, of_few and h is borrowed. */
typedef struct ferry_coreset {
    const ferry_world *world;
    ferry_cost *cost;
    const ferry_transport_options *options;
    const ferry_coreset_options *how;
    ferry_side side[2];
    ferry_few few[2];
    double *of_few[2]; /* [few] potentials */
    double *h[2];      /* [here] potentials of all cells */
} ferry_coreset;
/** Local. A coreset of which nothing is drawn yet; close with ferry_coreset_close, also after a failure. */
void ferry_coreset_open(ferry_coreset *out, ferry_cost *cost, const double *a, const double *b,
                        const ferry_transport_options *options, const ferry_coreset_options *how);
void ferry_coreset_close(ferry_coreset *coreset);
/** Collective. Cells drawn, solved between, and their potentials extended into h. iterations: of that solve. */
ferry_status ferry_coreset_potentials(int *iterations, ferry_coreset *coreset);
/** Collective. The answer at h (which it takes over), its figures estimated from samples. */
ferry_status ferry_coreset_guess(ferry_potentials *out, ferry_coreset *coreset);
/** Local. Bytes of extending from, or the marginal of, `few` cells. */
int64_t ferry_sweep_bytes(const ferry_cost_options *options, int dim, int64_t few);
FERRY_END
#endif

/** accelerate_parts_impl.h - between accelerate.c (the loop), accelerate_step.c (one pass and the step after it) and
 *  path.c (larger epsilons first) (not installed). */
#ifndef FERRY_ACCELERATE_PARTS_IMPL_H
#define FERRY_ACCELERATE_PARTS_IMPL_H
#include "accelerate_impl.h"
#include "coarse_impl.h"
#include "math/anderson.h"
#include "store_impl.h"
FERRY_BEGIN
/** What passes are made over: all pairs; all pairs, keeping the plan for passes over the store; the store. */
typedef enum ferry_over { FERRY_OVER_ALL = 0, FERRY_OVER_ALL_KEPT, FERRY_OVER_STORE } ferry_over;

typedef struct ferry_accelerated {
    ferry_sinkhorn *s;
    const ferry_groups *groups;
    ferry_aggregate aggregate;
    ferry_anderson mixing;
    double *psi, *residual, *before; /* [targets] nats, 0 where b is 0 */
    double *best;                    /* [targets] of all dense passes */
    double *from;                    /* [targets] where passes over the store began */
    double *near, *near_f;           /* [targets], [rows] of the passes over one store: the best psi, and its f */
    double *wants;                   /* [targets] goals, where mixing began */
    double *column;                  /* [count] sums of columns of Q */
    double *v;                       /* [count] */
    int64_t *sums;                   /* [count][2] of the targets of each group: c, goal after the plain step */
    ferry_balance balance;
    double ka, kb;
    double error, best_error; /* L1 of columns, relative to the goals' sum; best: of the dense passes */
    double mass, goal;        /* sum c, sum bt */
    double held;              /* part of the error in columns that may not move further from there */
    double reach;             /* nats: how far psi may go from `from` */
    double promised;          /* what the last round over the store has left of the error, by the store */
    double weight;            /* sum b */
    int since_best, extra;
    bool plain;
    bool nowhere;       /* the last round over the store has found no better point */
    int64_t few;        /* cells whose solve is the start; 0: it is the groups' means' */
    bool capped;        /* columns that float has lost take a capped step, not a pass of their own */
    ferry_store *store; /* NULL: every pass is dense */
    int stored_passes;
    double stored_share; /* of all pairs, added up over them */
} ferry_accelerated;

/** Local. sinkhorn's epsilon and what goes with it. */
void ferry_accelerated_taus(ferry_accelerated *x);
/** Collective. Rows and columns at psi, the error, and (dense) the best point. */
ferry_status ferry_accelerated_pass(ferry_accelerated *x, ferry_over over);
/** Collective. After a pass: psi -> psi + residual, mixed; f follows by the mean step, so that exponents stay those of
 * the plan. */
ferry_status ferry_accelerated_step(ferry_accelerated *x, ferry_over over);
/** Local. How far the constant is from what it will be (nats); 0 for balanced problems. */
double ferry_accelerated_left(const ferry_accelerated *x);

/** Collective. After a dense pass that filled the store: its step, then passes and steps over the store until its error
 *  is below target (relative) or no longer improves; psi, f: the best point of these. */
ferry_status ferry_accelerated_round(ferry_accelerated *x, double target);

/** Collective. psi, f where a solve begins that is given neither. */
ferry_status ferry_accelerated_start(ferry_accelerated *x);
/** Local. Larger epsilons come first: how many; 0 where none do. */
int ferry_epsilon_stages(const ferry_accelerated *x);
/** Collective. psi, f from the coarse problem at the largest epsilon, followed down to the one asked for. */
ferry_status ferry_epsilon_path(ferry_accelerated *x, int stages);
FERRY_END
#endif

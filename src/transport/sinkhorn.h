/** sinkhorn.h - entropic optimal transport between sharded cells.
 *
 *  P_ij = exp((f_i + g_j - C_ij) / epsilon), log a and log b inside f and g (OTT-JAX's convention). One iteration is g
 *  first, then f, as OTT-JAX 0.6.0; each tile of the plan is evaluated once per iteration, plus one pass at the start
 *  (the pass of iteration k finishes f_k row by row and adds the column sums with the new f_k, which give the error at
 * k and g_{k+1}). */
#ifndef FERRY_SINKHORN_H
#define FERRY_SINKHORN_H
#include "cost.h"
FERRY_BEGIN
/** SINKHORN: the plain iteration, step by step as OTT-JAX. AUTO: the same fixed point in fewer passes (accelerate.c),
 * from 400 cells on either side and unless momentum is asked for; an iteration is one pass there too, and its error the
 * one that the plain iteration has at the same f, g. A balanced answer differs in its constant (recenter fixes it). */
typedef enum ferry_solver { FERRY_SOLVER_AUTO = 0, FERRY_SOLVER_SINKHORN = 1 } ferry_solver;

typedef struct ferry_transport_options {
    double epsilon;      /* of the scaled cost, > 0: ferry_cost_epsilon */
    double tau_a, tau_b; /* (0, 1]; 1: balanced. rho = epsilon tau / (1 - tau) */
    double threshold;    /* stop when the error falls below it */
    int norm_error;      /* 1: L1 error of the column marginal; 2: L2 */
    int check_every;     /* iterations between checks */
    int min_iterations;  /* no stop before */
    int max_iterations;  /* in whole blocks of check_every */
    double momentum; /* weight w of the new potentials, in (0, 2); 1: none; above 1 over-relaxes: when the error exceeds
                        10 times the best, or 5 checks pass without a better one, back to the best point and w = 1 */
    int momentum_adaptive_from; /* > 0: OTT's adaptive momentum from this iteration (two checks must come before) */
    bool recenter;              /* translation-invariant updates */
    ferry_solver solver;
    int64_t cache_bytes; /* of each rank, for what is kept of a plan between passes (AUTO in float precision: passes
                            over it in place of most passes over all pairs); 0: nothing is kept */
    /* Start from these [source rows here], [target rows of this grid column]; NULL: zeros. With f the first g comes
       from f, as in OTT (g matters for momentum only); g alone is used as the first g, which saves the start pass. */
    const double *f, *g;
} ferry_transport_options;
#define FERRY_TRANSPORT_DEFAULTS                                                                                       \
    {                                                                                                                  \
        0.05, 1, 1, 1e-3, 1, 10, 0, 2000, 1, 0, false, FERRY_SOLVER_AUTO, (int64_t)1 << 30, NULL, NULL                 \
    }

typedef struct ferry_potentials {
    double *f;                /* [source rows here] -inf where a is 0 */
    double *g;                /* [target rows of this grid column] the same on all ranks of the column */
    int64_t sources, targets; /* lengths of f and g here */
    double epsilon, tau_a, tau_b;
    int iterations;      /* as OTT counts: checks * check_every */
    int passes;          /* evaluations of all pairs, with the first */
    int stored_passes;   /* passes over what was kept of a plan */
    double stored_share; /* what these took of all pairs, added up over them */
    int checks;
    double *errors; /* [checks] after every check */
    bool converged;
    double marginal_error; /* the last of errors, recomputed at the end when not checked there */
    double reg_ot_cost;    /* as OTT reports it */
    double transport_cost; /* <P, C> */
    double mass;           /* sum P */
    /* The marginals of the dense pass at f, g, float pairs with float64 sums, against the weights; where tau is below 1
       against what the penalty allows, a exp(-f / rho_a) and b exp(-g / rho_b). L1, and the largest of any cell. */
    double row_error, row_error_max, column_error, column_error_max;
    /* The optimum of  min over P of <P,C> + epsilon sum P (log P - 1) + rho_a KL(P1|a) + rho_b KL(P'1|b)  lies between
       the two (a penalty stands only where tau is below 1, otherwise the marginal is exact; KL(p|q) = sum p log(p/q) -
       p + q). Below: a dual value. Above: the value of a plan with the right marginals. Both are certified but for
       rounding, for which float pairs are allowed 1e-6 and double 1e-12 of value, cost and epsilon * mass. A balanced
       optimum is reg_ot_cost - epsilon (H(a) + H(b) + sum a sum b) at the solution, H(a) = -sum a log a; where tau is
       below 1 OTT's reg_ot_cost belongs to another problem. Infinite where potentials are too far off. */
    double lower_bound, upper_bound;
    double dual_gap;     /* upper - lower without the allowance, >= 0 up to rounding; NaN where one is infinite */
    int64_t coarse[2];   /* cells of either side that a coreset was solved on (coreset.h); 0: all pairs were */
    bool estimated;      /* errors, cost and mass are estimates from sampled rows and columns, bounds infinite */
    double error_sd;     /* of marginal_error where estimated: its standard error */
    double independence; /* sum |P - r c^T / mass| over a fixed sample of rows, relative to their mass: near 0 when the
                            plan is nearly the product of its marginals (epsilon too large) */
} ferry_potentials;

/** Collective. a [source rows here], b [target rows of this grid column]: weights >= 0; each side's sum must be
 * positive (balanced on both sides: the two sums must agree to 1e-6 relative, FERRY_E_ARG otherwise). out owns f, g and
 * errors; close with ferry_potentials_close. FERRY_OK with converged = false when the error is still above the
 * threshold after max_iterations; FERRY_E_NUMERIC when potentials are not finite whatever is tried. Momentum that makes
 * the error grow falls back to 1. Reports progress (log.h). */
FERRY_API ferry_status ferry_transport(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                                       const ferry_transport_options *options);
FERRY_API void ferry_potentials_close(ferry_potentials *potentials);
/** Local. Cache of a rank with so many rows and columns in which a whole plan can be kept: more is of no use. */
FERRY_API int64_t ferry_cache_bytes(int64_t source_rows, int64_t target_rows);
/** Local. Bytes per rank that ferry_transport allocates on a grid of Pr x Pc with these local sizes, beside the cost.
 */
FERRY_API int64_t ferry_transport_bytes(const ferry_cost_options *cost, int dim, int64_t sources, int64_t targets,
                                        int64_t source_rows, int64_t target_rows, int grid_rows, int grid_cols);
FERRY_END
#endif

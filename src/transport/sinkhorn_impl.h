/** sinkhorn_impl.h - between sinkhorn.c (the loop), sinkhorn_pass.c (once over all pairs) and sinkhorn_result.c. */
#ifndef FERRY_SINKHORN_IMPL_H
#define FERRY_SINKHORN_IMPL_H
#include "cost_impl.h"
#include "sinkhorn.h"
FERRY_BEGIN
/** Mass between groups of sources and groups of targets, added up in a pass (groups_impl.h). */
typedef struct ferry_aggregate {
    const struct ferry_groups *groups;
    double units;  /* whole numbers per mass */
    int64_t size;  /* numbers of Q: groups * groups */
    int64_t *sums; /* [threads][size] */
} ferry_aggregate;

/** -sum P log2 P of the plan that an iteration leaves, added up in its pass as whole numbers (ferry_exact): the plan's
 *  cost follows without another pass. */
typedef struct ferry_entropy {
    bool known;    /* of the plan at s->f, s->g: whoever moves them by other means than a pass or a constant says no */
    bool adding;   /* in the pass that is going on */
    double units;  /* whole numbers per mass and bit */
    int64_t *sums; /* [threads][8] that sum, and the mass; then unused, so that threads do not share a cache line */
} ferry_entropy;
#define FERRY_ENTROPY_WIDTH 8

/** Everything of one solve. Arrays over rows go to whole panels (-inf or 0 past the end), arrays over columns to whole
 *  units. */
typedef struct ferry_sinkhorn {
    const ferry_grid *grid;
    ferry_cost *cost;
    const ferry_source *source;
    const ferry_transport_options *options;
    const double *a, *b; /* borrowed [sources], [targets] */
    int64_t sources, targets, rows, columns;
    double epsilon, tau_a, tau_b, rho_a, rho_b; /* rho: infinite where tau is 1 */
    double mass_a, mass_b;
    bool balanced, recenter, shifting; /* shifting: recentred by translation invariance (both taus below 1) */
    bool given;                        /* f and g are both where the first pass is made */
    int threads, passes;
    double weight; /* momentum of this iteration */
    double *f;     /* [rows] */
    double *g;     /* [columns] */
    double *c;     /* [columns] column sums of the plan at f, g */
    double *r;     /* [rows] row sums of it */
    double *raw;   /* [rows] f before momentum, when recentring; or NULL */
    double *work;  /* [max of rows, columns] */
    ferry_target target;
    /* of the pass */
    ferry_panel *panel;         /* [threads][together], or [slots][batch] where the grid has several columns */
    int panels, batch;          /* how many; panels of a batch */
    int together;               /* panels that a thread evaluates together */
    double *leaf;               /* [threads][2 columns] sums of one canonical block */
    ferry_forest *forest;       /* [columns] over source blocks */
    ferry_aggregate *aggregate; /* of the next passes, or NULL */
    bool scoring;               /* iterations find the entropy too, 4 % of a pass at 50 columns */
    ferry_entropy entropy;
    struct ferry_store *store; /* that keeps the plan of this iteration (store_impl.h), or NULL */
} ferry_sinkhorn;

/** What a pass does with the rows of a panel: evaluates them at the potentials `reference`, adds up `width` sums per
 *  row over all columns, turns the sums into weights q, and (columns) adds q_i P_ij over the rows. */
typedef enum ferry_again { FERRY_ROWS_DONE = 0, FERRY_ROWS_AGAIN, FERRY_ROWS_AT_MAX } ferry_again;
typedef struct ferry_row_work ferry_row_work;
struct ferry_row_work {
    int width;
    bool columns;
    /* sums[g] [blocks][width][24] of this rank's canonical target blocks, for each of `count` panels at their
     * references */
    void (*evaluate)(double *const *sums, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel_rows *rows,
                     int count);
    /* sums [width][24] -> q [24]. AGAIN: evaluate again at the reference it has moved; AT_MAX: again, rows with a sum
     * of 0, infinity or NaN first lowered by their largest exponent. */
    ferry_again (*finish)(double *q, const ferry_row_work *work, ferry_sinkhorn *s, const ferry_panel *panel,
                          int64_t index, double *reference, const double *sums, int round);
    void *self;
};
#define FERRY_ROW_SUMS 4 /* largest width */

/** Local. Memory of the passes; free with ferry_passes_free. */
FERRY_API ferry_status ferry_sinkhorn_open_passes(ferry_sinkhorn *s);
FERRY_API void ferry_sinkhorn_close_passes(ferry_sinkhorn *s);
/** Local. Bytes of it. */
int64_t ferry_sinkhorn_pass_bytes(const ferry_cost_options *options, int dim, int64_t sources, int64_t targets,
                                  int64_t source_rows, int64_t target_rows, int grid_cols);
/** Collective. One pass; column sums into c [columns] if work->columns. */
ferry_status ferry_sinkhorn_pass(double *c, ferry_sinkhorn *s, const ferry_row_work *work);
/** Collective. f from the rows (f_k), column sums of the new plan into s->c, its row sums into s->r. */
FERRY_API ferry_status ferry_sinkhorn_iterate(ferry_sinkhorn *s);
/** Collective. lse [columns] = epsilon log sum_i exp((f_i - C_ij) / epsilon), by one pass that cannot underflow. */
ferry_status ferry_sinkhorn_column_lse(double *lse, ferry_sinkhorn *s);

/** Collective. One plain iteration from options' f and g, both of which are good already: f and the errors, cost and
 *  bounds of one pass. */
ferry_status ferry_transport_once(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                                  const ferry_transport_options *options);
/** Collective. g from f by that pass, as the first iteration begins. */
FERRY_API ferry_status ferry_sinkhorn_first_g(ferry_sinkhorn *s);
/** Collective. The error at f, g, from c and r. */
ferry_status ferry_sinkhorn_error(double *error, ferry_sinkhorn *s);
/** Local. One more error for the answer. */
ferry_status ferry_sinkhorn_record(ferry_potentials *out, double error);
void ferry_sinkhorn_progress(const ferry_sinkhorn *s, const ferry_potentials *out, int done);

/** Collective. Canonical sum of values over source rows, over target columns. */
ferry_status ferry_sinkhorn_source_sum(double *out, ferry_sinkhorn *s, const double *values);
ferry_status ferry_sinkhorn_target_sum(double *out, ferry_sinkhorn *s, const double *values);
/** Collective. -rho log sum_i w_i exp(-h_i / rho) over a side; entries of weight 0 do not count. */
ferry_status ferry_sinkhorn_soft_min(double *out, ferry_sinkhorn *s, const double *h, bool target);
/** Collective. What to add to f and take from g so that the constant is the best one (Sejourne 2022): for tau < 1 on
 *  both sides. */
ferry_status ferry_sinkhorn_best_shift(double *shift, ferry_sinkhorn *s);
/** Collective. Objective, cost, mass, errors, bounds, independence of the potentials in s, from what the last pass
 * left; another pass is made where that was not a dense one that found the entropy. */
ferry_status ferry_sinkhorn_result(ferry_potentials *out, ferry_sinkhorn *s);
FERRY_END
#endif

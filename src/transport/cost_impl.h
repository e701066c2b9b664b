/** cost_impl.h - tiles of the plan for the solver, sparsify, push, pull and transition (not installed). */
#ifndef FERRY_COST_IMPL_H
#define FERRY_COST_IMPL_H
#include "cost.h"
FERRY_BEGIN
/** Source rows made ready for tiles: packed in panels of 24, with their norms. Close with ferry_source_close. */
typedef struct ferry_source {
    int64_t rows, panels;
    void *packed; /* [panels][24 * dim] float, as the kernels pack, or [rows][dim] double */
    double *norm; /* [panels * 24] squared norms after centring (0 where the cost needs none) */
} ferry_source;
/** Local. x: any rows, float or double as the cost's precision; it is only read. Epsilon is folded in when a target is
 *  prepared, not here, so a source serves every epsilon. */
FERRY_API ferry_status ferry_source_open(ferry_source *out, const ferry_cost *cost, const ferry_matrix *x);
FERRY_API void ferry_source_close(ferry_source *source);
/** Local. The source side given to ferry_cost_open; NULL after ferry_cost_open_target. Borrowed. */
FERRY_API const ferry_source *ferry_cost_source(const ferry_cost *cost);
FERRY_API const ferry_grid *ferry_cost_grid(const ferry_cost *cost);
FERRY_API const ferry_cost_options *ferry_cost_options_of(const ferry_cost *cost);

/** Target potentials in the form the tiles want; rebuilt when g or epsilon changes. */
typedef struct ferry_target {
    double epsilon;
    int64_t columns; /* of this rank's grid column, padded to whole units */
    float *beta_f;   /* [columns] (g_j - norm part) log2(e) / epsilon, -inf in padding and where g_j = -inf */
    double *beta_d;
} ferry_target;
/** Local. Allocates; fill with ferry_target_set. */
FERRY_API ferry_status ferry_target_open(ferry_target *out, const ferry_cost *cost);
FERRY_API void ferry_target_set(ferry_target *target, const ferry_cost *cost, const double *g, double epsilon);
FERRY_API void ferry_target_close(ferry_target *target);

/** One panel: 24 source rows against all target columns of this grid column. One per thread; allocated once. */
typedef struct ferry_panel {
    const ferry_cost *cost;
    int64_t units;       /* column units of this grid column */
    int blocks;          /* canonical target blocks of this grid column */
    const int64_t *unit; /* [blocks + 1] first unit of each, counted from this grid column's first */
    float *f;            /* [units][24][32] */
    double *d;           /* the same for --precision double */
    double *block_sums;  /* [blocks][24] row sums per canonical target block */
    void *scratch;
} ferry_panel;
FERRY_API ferry_status ferry_panel_open(ferry_panel *out, const ferry_cost *cost);
FERRY_API void ferry_panel_close(ferry_panel *panel);
FERRY_API int64_t ferry_panel_bytes(const ferry_cost_options *options, int dim, int64_t target_rows);

/** Local. Entries P_ij = exp((f_i + g_j - C_ij) / epsilon) of rows 24 * index ... into the panel, and block_sums.
 *  f: [24] potentials of these rows, -inf for none (row of zeros; rows past the end too). */
FERRY_API void ferry_panel_plan(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                                const ferry_target *target);
/** Local. Row sums [24] = the adjacent-pair tree over block_sums, for a grid with one column. */
FERRY_API void ferry_panel_row_sums(double *sums, const ferry_panel *panel);
/** Local. Row log-sum-exp that cannot underflow: lse_i = log2 sum_j 2^(log2 P_ij), [24]; the panel is overwritten. Over
 *  this rank's columns only. */
FERRY_API void ferry_panel_row_lse(double *lse, ferry_panel *panel, const ferry_source *source, int64_t index,
                                   const double *f, const ferry_target *target);
/** Local. c [columns] += sum_i q_i P_ij, q [24]. */
FERRY_API void ferry_panel_columns(double *c, const ferry_panel *panel, const double *q);
/** Local. Exponents log2 P_ij join the running column log-sum-exp m, t [columns] (kernels.h: column_lse); the panel is
 *  overwritten by exponents. */
FERRY_API void ferry_panel_column_lse(double *m, double *t, ferry_panel *panel, const ferry_source *source,
                                      int64_t index, const double *f, const ferry_target *target);
/** Local. Costs C_ij (scaled) of the panel into values [24][width] row-major, width = 32 * units: for statistics and
 * for transport cost. */
FERRY_API void ferry_panel_costs(double *values, ferry_panel *panel, const ferry_source *source, int64_t index);
FERRY_END
#endif

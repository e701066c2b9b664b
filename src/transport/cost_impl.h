/** cost_impl.h - tiles of the plan for the solver, sparsify, push, pull and transition (not installed). */
#ifndef FERRY_COST_IMPL_H
#define FERRY_COST_IMPL_H
#include "cost.h"
#include "mpi/memory.h"
FERRY_BEGIN
#define FERRY_LOG2_E 1.4426950408889634074 /* log2(e) */

/** Source rows made ready for tiles: packed in panels of 24, with their norms. Close with ferry_source_close. */
typedef struct ferry_source {
    int64_t rows, panels;
    float *f;     /* [panels][24 * dim], as the kernels pack */
    double *d;    /* [panels * 24][dim], for double precision */
    double *norm; /* [panels * 24] the row's part of the cost (squared norm after centring; 0 where there is none) */
} ferry_source;

/** Where costs are bilinear, C_ij = inv_scale (norm_i + norm_j - factor <x_i, y_j>), with x and y prepared:
 *  ranked, normalised, centred on the target mean (cost_ranks.c). */
struct ferry_cost {
    const ferry_grid *grid;
    ferry_cost_options options;
    int dim;
    ferry_tile_kind tile;
    bool bilinear; /* exactly of the form above; cosine in double precision is not, for the 1e-8 in it */
    bool centred;
    double factor;
    double inv_scale;
    double *centre;         /* [dim], zeros unless centred */
    int64_t units, columns; /* of this grid column; columns = 32 units */
    int blocks;             /* its canonical target blocks */
    int64_t *unit;          /* [blocks + 1] first unit of each, from this grid column's first */
    int runs;               /* pieces of blocks whose row sums are wanted one by one; 0: the blocks themselves */
    int64_t *run;           /* [runs + 1] first unit of each, or NULL */
    ferry_window window;    /* holds what y... point to, once per node */
    float *y;               /* [units][32 * dim], as the kernels pack */
    double *y_d;            /* [units][dim][32], for double precision */
    double *y_norm;         /* [columns] */
    float *y2;              /* [columns] the same for tiles that want it as float */
    ferry_source source;    /* empty after ferry_cost_open_target */
    bool has_source;
    double *sum_x, *sum_y;       /* [dim + 1] canonical sums of all prepared rows and, last, of their norms */
    double raw_max_x, raw_max_y; /* largest squared norms as read */
    double mean, square;         /* of the scaled cost and of its square */
    bool mean_known, square_known;
};

/** Local. x: any rows, float or double as the cost's precision; it is only read. Epsilon is folded in tile by tile, so
 *  a source serves every epsilon. */
FERRY_API ferry_status ferry_source_open(ferry_source *out, const ferry_cost *cost, const ferry_matrix *x);
FERRY_API void ferry_source_close(ferry_source *source);
/** Local. Bytes of a source side of that many rows. */
FERRY_API int64_t ferry_source_bytes(const ferry_cost_options *options, int dim, int64_t rows);
/** Local. The source side given to ferry_cost_open; NULL after ferry_cost_open_target. Borrowed. */
FERRY_API const ferry_source *ferry_cost_source(const ferry_cost *cost);
FERRY_API const ferry_grid *ferry_cost_grid(const ferry_cost *cost);
FERRY_API const ferry_cost_options *ferry_cost_options_of(const ferry_cost *cost);

/** Target potentials in the form the tiles want; rebuilt when g or epsilon changes. */
typedef struct ferry_target {
    double epsilon;
    int64_t columns; /* of this rank's grid column, padded to whole units */
    float *beta_f;   /* [columns] (g_j - norm part) log2(e) / epsilon, -inf in padding and where g_j = -inf */
    double *beta_d;  /* the same for double precision (without the norm part: costs are evaluated whole) */
} ferry_target;
/** Local. Allocates; fill with ferry_target_set. */
FERRY_API ferry_status ferry_target_open(ferry_target *out, const ferry_cost *cost);
/** Local. g [target rows of this grid column]; NULL: zeros. */
FERRY_API void ferry_target_set(ferry_target *target, const ferry_cost *cost, const double *g, double epsilon);
/** Local. What rounding to float took from the exponents of column j: log2 P_ij gains it (0 in double precision). */
FERRY_API double ferry_target_residual(const ferry_target *target, const ferry_cost *cost, const double *g, int64_t j);
FERRY_API void ferry_target_close(ferry_target *target);

/** Units of a panel that are evaluated, the others being left out: pieces of units side by side, in ascending order,
 *  none across canonical blocks. */
typedef struct ferry_pieces {
    int64_t count;
    const int32_t *unit; /* [count][2] first unit of the piece, and how many */
} ferry_pieces;
/** One panel: 24 source rows against all target columns of this grid column. One per thread; allocated once. */
typedef struct ferry_panel {
    const ferry_cost *cost;
    int64_t units;              /* column units of this grid column */
    int blocks;                 /* canonical target blocks of this grid column */
    const int64_t *unit;        /* [blocks + 1] first unit of each, counted from this grid column's first */
    float *f;                   /* [units][24][32] */
    double *d;                  /* the same for --precision double */
    double *block_sums;         /* [blocks][24] row sums per canonical target block */
    const ferry_pieces *pieces; /* what was evaluated (the rest is of another time), borrowed; NULL: all */
    const ferry_masses
        *masses;          /* where column sums leave masses too, borrowed; NULL, as after an evaluation: nowhere */
    double *block_scores; /* [blocks][24] sum_j P_ij log2 P_ij per canonical target block, */
    bool scored;          /* if they are wanted of whole evaluations (exponents as in the tiles) */
    float *x;             /* [24 * dim] the rows with epsilon and scale folded in */
    float alpha[FERRY_SOURCE_UNIT], x2[FERRY_SOURCE_UNIT];
    double alpha_d[FERRY_SOURCE_UNIT];
    double residual[FERRY_SOURCE_UNIT]; /* what rounding took from alpha: log2 P_ij gains it (not in block_sums) */
} ferry_panel;
FERRY_API ferry_status ferry_panel_open(ferry_panel *panel, const ferry_cost *cost);
FERRY_API void ferry_panel_close(ferry_panel *panel);
FERRY_API int64_t ferry_panel_bytes(const ferry_cost_options *options, int dim, int64_t target_rows);

/** Local. Entries P_ij = exp((f_i + g_j - C_ij) / epsilon) of rows 24 * index ... into the panel, and block_sums.
 *  f: [24] potentials of these rows, -inf for none (row of zeros; rows past the end too). */
FERRY_API void ferry_panel_plan(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                                const ferry_target *target);
/** Local. The same of those pieces alone, float only: the others do not count in block_sums and the column sums. Row
 * sums are multiplied by scale [24]. */
FERRY_API void ferry_panel_plan_pieces(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                                       const ferry_target *target, const ferry_pieces *pieces, const double *scale);
/** Local. Exponents log2 P_ij into the panel instead of the plan. */
FERRY_API void ferry_panel_scores(ferry_panel *panel, const ferry_source *source, int64_t index, const double *f,
                                  const ferry_target *target);
/** Panels that are evaluated together, so that the target side comes from memory once for all of them.
 *  Every one holds the same bits as if it had been evaluated alone. */
typedef struct ferry_panel_rows {
    ferry_panel *panel; /* all of one cost */
    int64_t index;      /* its rows: 24 * index ... */
    const double *f;    /* [24] their potentials, as above */
} ferry_panel_rows;
/** Local. rows [count], count <= FERRY_PANELS_AT_ONCE (kernels.h). */
FERRY_API void ferry_panels_plan(const ferry_panel_rows *rows, int count, const ferry_source *source,
                                 const ferry_target *target);
FERRY_API void ferry_panels_scores(const ferry_panel_rows *rows, int count, const ferry_source *source,
                                   const ferry_target *target);
/** Local. How many a thread does so, where a rank has `panels` to evaluate against `columns` targets: options->panels,
 *  or what pays. */
FERRY_API int ferry_panels_at_once(const ferry_cost_options *options, int dim, int64_t panels, int64_t columns);
/** Local. Row sums [24] = the adjacent-pair tree over block_sums, for a grid with one column. */
FERRY_API void ferry_panel_row_sums(double *sums, const ferry_panel *panel);
/** Local. max [24] = largest exponent log2 P_ij of each row over this rank's columns, -inf where there is none; the
 *  panel is overwritten by exponents. Moving f_i down by epsilon log(2) max_i makes row sums that cannot underflow. */
FERRY_API void ferry_panel_row_max(double *max, ferry_panel *panel, const ferry_source *source, int64_t index,
                                   const double *f, const ferry_target *target);
/** Local. c [columns] += sum_i q_i P_ij, q [24]; c NULL: the masses alone. */
FERRY_API void ferry_panel_columns(double *c, const ferry_panel *panel, const double *q);
/** Local. The same for units first ... first + units - 1 only (c still begins at column 0). */
FERRY_API void ferry_panel_columns_part(double *c, const ferry_panel *panel, const double *q, int64_t first,
                                        int64_t units);
/** Local. Exponents log2 P_ij join the running column log-sum-exp m, t [columns] (kernels.h: column_lse); the panel is
 *  overwritten by exponents. */
FERRY_API void ferry_panel_column_lse(double *m, double *t, ferry_panel *panel, const ferry_source *source,
                                      int64_t index, const double *f, const ferry_target *target);
/** Local. The same of exponents that the panel holds already. */
FERRY_API void ferry_panel_join_lse(double *m, double *t, const ferry_panel *panel);
/** Local. Costs C_ij (scaled) of the panel into values [24][width] row-major, width = 32 * units: for statistics and
 *  for transport cost. Finite values without meaning in padding rows and columns. */
FERRY_API void ferry_panel_costs(double *values, ferry_panel *panel, const ferry_source *source, int64_t index);

/** Local. Costs of units first ... first + units - 1 (at most FERRY_SLICE_UNITS) into values [24][32 * units]; x: room
 *  for 24 * dim floats. Needs no panel. */
#define FERRY_SLICE_UNITS 16
FERRY_API void ferry_cost_slice(double *values, float *x, const ferry_cost *cost, const ferry_source *source,
                                int64_t index, int64_t first, int64_t units);
/** Local. The row's part of the cost (squared norm or 0) of a prepared row [dim], or of a mean of such rows. */
FERRY_API double ferry_norm_part(const double *row, const ferry_cost *cost);
/** Local. Room that ferry_prepare_rows needs for sorting, in bytes. */
FERRY_API int64_t ferry_prepare_bytes(const ferry_cost *cost);
/** Local. Rows first ... first + count - 1 of x made ready: centred, ranked, normalised, rounded to the precision, into
 *  out [count, dim]; norm [count] their part of the cost. */
FERRY_API void ferry_prepare_rows(double *out, double *norm, const ferry_cost *cost, const ferry_matrix *x,
                                  int64_t first, int64_t count, void *scratch);
/** Collective. out [source rows here] = sum_j e_j C_ij, e [target rows of this grid column] >= 0: in closed form where
 *  costs are bilinear, else by one pass (*passed = true). The same for every layout. */
FERRY_API ferry_status ferry_cost_row_sums(double *out, bool *passed, const ferry_cost *cost, const double *e);
/** Local. The adjacent-pair tree over [count][length] vectors, count a power of two; in place, the root comes first. */
FERRY_API void ferry_canonical_tree(double *vectors, int count, int64_t length);
/** Collective over `world`, the ranks along which `shards` is cut (part = rank in it). *out = sum of values [local
 * rows] by canonical blocks: the same bits for any layout. The status is this call's alone: agree on it. */
FERRY_API ferry_status ferry_canonical_sum(double *out, const double *values, const ferry_shards *shards,
                                           const ferry_world *world, ferry_reduction how);
FERRY_END
#endif

/** kernels.h - the seam: what one device must be able to do, in blocks of work.
 *
 *  Tiles: 24 source rows (FERRY_SOURCE_UNIT, a "panel") against units of 32 target columns (FERRY_TARGET_UNIT).
 *  A panel buffer is [units][24][32] float. Exponents are in base 2: P_ij = 2^s_ij,
 *    linear costs     s_ij = <x_i, y_j> + alpha_i + beta_j      (scale and epsilon folded into x, norms into alpha,
 * beta) other costs      s_ij = alpha_i + beta_j - scale * cost(x_i, y_j) Padding rows and columns carry alpha = -inf
 * or beta = -inf, so P = 0 there; x and y are zero there. All tables give the same results to rounding; on one table
 * the result of a tile never depends on how many tiles a call has, nor on the place of a tile in a call (fixed order of
 * additions), so answers do not depend on the layout. */
#ifndef FERRY_KERNELS_H
#define FERRY_KERNELS_H
#include "mpi/shard.h"
#include "mpi/world.h"
#include <stdbool.h>
FERRY_BEGIN

#define FERRY_PANELS_AT_ONCE 8

typedef enum ferry_tile_kind {
    FERRY_TILE_LINEAR = 0,  /* squared Euclidean, dot, cosine, correlation, Spearman: one GEMM */
    FERRY_TILE_EUCLIDEAN_P, /* |x - y|_2^p through the GEMM: x2 + y2 - 2 <x, y>, clamped at 0 */
    FERRY_TILE_ARCCOS,      /* arc-cosine kernel of order n = 0, 1, 2 */
    FERRY_TILE_PNORM,       /* sum |x - y|^p / p */
    FERRY_TILE_SQ_PNORM     /* (sum |x - y|^p)^(2/p) / 2 */
} ferry_tile_kind;

/** What one call works on. All pointers borrowed. */
typedef struct ferry_tile {
    ferry_tile_kind kind;
    int dim;
    int64_t units;      /* column units */
    const float *x;     /* one packed panel of rows (pack_rows) */
    const float *y;     /* `units` packed column units, 32 * dim floats each (pack_columns) */
    const float *alpha; /* [24] */
    const float *beta;  /* [units * 32] */
    double p;           /* exponent, or order of arccos */
    double scale;       /* s = alpha + beta - scale * cost, for other than linear */
    const float *x2;    /* [24] squared norms, for EUCLIDEAN_P and ARCCOS */
    const float *y2;    /* [units * 32] */
    double *scores; /* `plan` and `plans`: [24] += sum_j P_ij s_ij, exponents below -10^4 as that; NULL: not wanted */
} ferry_tile;

/** Where column sums leave the mass between groups of rows and groups of columns, as whole numbers: the order in which
 *  they are added does not count. Pointers borrowed. */
typedef struct ferry_masses {
    int segments;                    /* of the panel's rows, each of one group: */
    int end[FERRY_SOURCE_UNIT];      /* past its last row; 24 in the end */
    int64_t *row[FERRY_SOURCE_UNIT]; /* the masses of its group, by column group */
    double per_mass;                 /* whole numbers per mass; at most 2^51 a unit */
    const int64_t *run;              /* [runs + 1] first unit of each run of columns, from column 0 on */
    const int32_t *part;             /* [runs + 1] first part of each run; of one with several, which is one unit, */
    const float *mask;               /* [parts][32] 1 in the lanes of each part, 0 elsewhere */
    const int32_t *group;            /* [parts] */
    int runs;
} ferry_masses;

typedef struct ferry_kernels {
    const char *name; /* "generic", "avx2", "avx512" */
    int level;        /* 0, 1, 2: higher is faster */
    int x_width;      /* rows of a register block: 24 is a multiple of it */

    /* packed [24 / x_width][dim][x_width] = rows [rows <= 24, dim] row-major, missing rows zero */
    void (*pack_rows)(float *packed, const float *rows, int64_t count, int dim);
    /* packed [dim][32] = one column unit of rows [count <= 32, dim] row-major, missing rows zero */
    void (*pack_columns)(float *packed, const float *rows, int64_t count, int dim);
    /* s [units][24][32] = exponents */
    void (*scores)(float *s, const ferry_tile *tile);
    /* plan [units][24][32] = 2^s, sums [24] = row sums over these units (float32 in the lanes of a unit run, added in
       fixed order, then float64). The hot call: exponents never leave registers for linear costs. */
    void (*plan)(float *plan, double *sums, const ferry_tile *tile);
    /* `plan` of several panels, at most FERRY_PANELS_AT_ONCE, against the same columns: tile [panels] differ in x,
       alpha and x2 alone; plan[g] and sums[g] are as `plan` of tile[g] gives them, bit by bit. Every unit of y serves
       all panels while it is in cache: for wide cells, whose y would come from memory for each of them. Sums
       are by blocks of units: sums[g] [blocks][24], and scores likewise; block b ends with unit end[b] - 1, the last
       one with the tile, and its sums are those of a call for it alone. */
    void (*plans)(float *const *plan, double *const *sums, const ferry_tile *tile, int panels, const int64_t *end,
                  int blocks);
    /* p = 2^s in place, sums [24] as above */
    void (*exponentials)(float *s, double *sums, int64_t units);
    /* c [units * 32] += sum over the 24 rows of q_i plan_ij: float32 over the rows in order, then one float64 addition
     */
    void (*column_sums)(double *c, const float *plan, const float *q, int64_t units);
    /* `column_sums` of units first ... first + units - 1, c and plan beginning with the first, c the same bits; c NULL:
       not wanted. The mass of each segment of rows in each part of each unit is added up in float32, the lanes in
       float64, and joins `into`. */
    void (*column_masses)(double *c, const float *plan, const float *q, int64_t first, int64_t units,
                          const ferry_masses *into);
    /* max [24] = largest exponent of each row over these units (-inf where there is none) */
    void (*row_max)(float *max, const float *s, int64_t units);
    /* running log-sum-exp of columns: (m, t) means t * 2^m, m integral; the 24 rows of s join it. Start: m = -inf, t =
     * 0 */
    void (*column_lse)(double *m, double *t, const float *s, int64_t units);
    /* entries of row i (0..23) of the panel that are >= cut: their values and columns (unit * 32 + lane), in column
       order; returns how many. Room for units * 32 entries plus 16 is the caller's. */
    int64_t (*row_above)(float *values, int32_t *columns, const float *plan, int i, int64_t units, float cut);
    /* out [24][width] += sum over columns of plan_ij v_j, v [units * 32][width]; float32 in blocks of one unit, then
       float64. width <= 64 */
    void (*times)(double *out, const float *plan, const float *v, int width, int64_t units);
    /* out [units * 32][width] += sum over the 24 rows of plan_ij v_i, v [24][width]; float32 over the rows in order,
       then float64. width <= 64 */
    void (*transposed_times)(double *out, const float *plan, const float *v, int width, int64_t units);
    /* `times` of few columns, v [width][stride] with stride >= units * 32: any width, but it pays up to 20 or so.
       float32 in the lanes of at most 16 units, then float64: not the bits of `times` */
    void (*few_times)(double *out, const float *plan, const float *v, int64_t stride, int width, int64_t units);
} ferry_kernels;

/** Local. The table of that name ("auto" or NULL: the best this CPU has); NULL when it is not built or not supported.
 */
FERRY_API const ferry_kernels *ferry_kernels_find(const char *name);
/** Local. Names that this program has and this CPU supports, best first, "avx512 avx2 generic". */
FERRY_API const char *ferry_kernels_names(void);
/** Collective. One table for all ranks: the lowest common level for "auto"; FERRY_E_DEVICE with the list of what there
 * is when a named one is missing on any rank. */
FERRY_API ferry_status ferry_kernels_choose(const ferry_kernels **out, const ferry_world *world, const char *name);
FERRY_END
#endif

/** passes_impl.h - going once over the plan by source rows, without holding the source side: sparsify, push, pull and
 *  transition are bodies of this loop.
 *
 *  Two ways to deal source cells to grid rows, in batches that are multiples of 24 cells (whole panels):
 *  FERRY_DEAL_CYCLIC: pass p covers cells [p * batch * Pr, (p + 1) * batch * Pr); grid row r has the r-th `batch` of
 *    them. So the rows of a pass are consecutive in rank order, and passes follow one another, as ferry_sink wants.
 *    Sums over source rows can then be formed per panel only (a panel is never split).
 *  FERRY_DEAL_SHARDS: grid row r goes through its shard of whole canonical blocks (grid.source), `batch` cells at a
 *    time. A batch may end inside a block, but the next batch of the same rank goes on there, so a sum over source
 *    rows keeps the open block's partial vector from pass to pass and comes out with the same bits for every batch and
 *    every number of ranks; and the blocks of a rank are a run, so that few subtree roots are alive. */
#ifndef FERRY_PASSES_IMPL_H
#define FERRY_PASSES_IMPL_H
#include "cost_impl.h"
#include "plan.h"
FERRY_BEGIN
typedef enum ferry_deal { FERRY_DEAL_CYCLIC = 0, FERRY_DEAL_SHARDS = 1 } ferry_deal;

typedef struct ferry_passes_options {
    ferry_deal deal;
    int grid_rows, grid_cols; /* grid_rows 0: ranks / grid_cols */
    int64_t batch;            /* source rows per grid row and pass, rounded up to 24; 0: as many as memory allows */
    int64_t memory;           /* bytes for panels and batches; 0: 256 MiB */
    int64_t fixed_bytes;      /* what the body takes of it anyway, */
    int64_t row_bytes;        /* per source row of a batch, */
    int64_t thread_bytes;     /* and per thread beside its panel */
    int64_t most_rows;        /* of a batch that is chosen; 0: no limit */
} ferry_passes_options;

/** The target side of an opened plan, ready for passes that stream the source side: grid, cost, prepared potentials. */
typedef struct ferry_passes {
    ferry_plan *plan;
    const ferry_world *world;
    ferry_grid grid;
    ferry_cost *cost;
    ferry_target target;
    ferry_deal deal;
    int threads;
    int together;        /* panels that a thread evaluates at once, where that pays */
    ferry_panel *pool;   /* [threads][together] */
    int64_t *number;     /* [threads][together] which of the pass they hold; -1: none */
    ferry_panel **panel; /* [threads] the one that is at hand, of the pool */
    float *column;  /* [target.columns] 2^(what rounding took from beta_j): a factor of the panel's columns, near 1 */
    int64_t batch;  /* source rows per grid row and pass, a multiple of 24 */
    int64_t passes; /* the same on all ranks */
    uint64_t seen;  /* fingerprint of the source rows seen so far on this rank */
} ferry_passes;

/** One pass's rows of this grid row: kept source cells first ... first + rows - 1. With more than one grid column the
 *  ranks of a grid row have the same rows and different columns. */
typedef struct ferry_pass {
    int64_t first, rows, panels;
    ferry_source source; /* packed */
    double *f;           /* [panels * 24], -inf past the end */
} ferry_pass;

#define FERRY_PASSES_MEMORY ((int64_t)256 << 20)

/** Collective. Reads the target side into the shared copy and checks its fingerprint. plan and world are borrowed.
 *  Close with ferry_passes_close, also after a failure. */
FERRY_API ferry_status ferry_passes_open(ferry_passes *out, ferry_plan *plan, const ferry_world *world,
                                         const ferry_passes_options *options);
/** Collective. A zeroed or closed one is fine. */
FERRY_API void ferry_passes_close(ferry_passes *passes);
/** Collective. Rows of pass `number` (0 ... passes - 1), read from the file; ranks past the end get 0 rows. Close with
 *  ferry_pass_close, also after a failure. */
FERRY_API ferry_status ferry_pass_open(ferry_pass *out, ferry_passes *passes, int64_t number);
FERRY_API void ferry_pass_close(ferry_pass *pass);
/** Collective, after the last pass: the source side is what the plan was solved from, or FERRY_E_FILE. Then the passes
 *  can be gone through again. */
FERRY_API ferry_status ferry_passes_check(ferry_passes *passes);
/** Local. Panel `number` of the pass, evaluated, becomes passes->panel[thread]. Where that pays, the next ones of this
 *  thread, `step` further each, are evaluated with it and are there when they are asked for; step 0: none. */
FERRY_API ferry_panel *ferry_passes_panel(ferry_passes *passes, const ferry_pass *pass, int64_t number, int64_t step,
                                          int thread);
/** Local. The same where the panels that follow are any others: next [count] begins with the one that is wanted. */
FERRY_API ferry_panel *ferry_passes_panel_of(ferry_passes *passes, const ferry_pass *pass, const int64_t *next,
                                             int count, int thread);
/** Local. Panels first ... first + count - 1 of the pass into passes->panel[0 ... count - 1], one thread each; count <=
 *  threads, and the next call goes on where this one ends. */
FERRY_API void ferry_passes_plan(ferry_passes *passes, const ferry_pass *pass, int64_t first, int count);
/** Local. Source cells that all ranks have behind them after pass `number`, for progress (of shards: about). */
FERRY_API int64_t ferry_passes_done(const ferry_passes *passes, int64_t number);
/** Local. 2^(what rounding took from alpha_i): a factor of row i of an evaluated panel, near 1. Potentials are float64
 *  but exponents are float: with both factors sums over rows and columns are those of the potentials as stored. */
FERRY_API double ferry_passes_row_factor(const ferry_panel *panel, int i);
/** Local. Column units of grid column `col`, and of the whole target. */
FERRY_API int64_t ferry_passes_units(const ferry_passes *passes, int col);
FERRY_API int64_t ferry_passes_all_units(const ferry_passes *passes);
FERRY_END
#endif

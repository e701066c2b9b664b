/** store_impl.h - the plan of one dense pass kept where it weighs, and passes over what was kept (not installed).
 *
 *  Kept are tiles [24][32] in half precision, as densities D_ij = P_ij t / r_i of the plan P whose rows are finished
 *  (row sums r_i; t targets in the whole problem, less for many so that no density exceeds the halves' range): a
 *  density of 1 is what every pair has where rows are spread evenly. A tile without a density above FERRY_STORE_CUT is
 *  not kept, so that a row loses at most that share, and column j at most that share times b_j / c_j. What a tile holds
 *  and whether it is kept depends on the tile alone, so answers do not depend on the layout.
 *
 *  A pass over the store at other g, with f0, g0, r0 of the dense pass and w_j = exp((g_j - g0_j) / epsilon):
 *
 *    row sums at (f0, g)  rho_i r0_i / t sum_j D_ij w_j,  from them f and q_i = exp((f_i - f0_i) / epsilon)
 *    column sums          gamma_j w_j sum_i q_i r0_i / t D_ij
 *
 *  where rho_i and gamma_j make row and column sums at f0, g0 those of the dense pass: what was dropped or rounded is
 *  corrected there to first order, and a point that is the fixed point of the dense iteration is that of the store's.
 *  Memory: 2 bytes per kept pair and 4 per kept tile. */
#ifndef FERRY_STORE_IMPL_H
#define FERRY_STORE_IMPL_H
#include "sinkhorn_impl.h"
FERRY_BEGIN
#define FERRY_STORE_CUT 0x1p-13F

typedef struct ferry_store ferry_store;

/** Local. An empty store for the passes of s (borrowed), float precision only; at most `bytes` of tiles on this rank.
 *  FERRY_E_MEM. Close with ferry_store_close; NULL is fine there. */
FERRY_API ferry_status ferry_store_open(ferry_store **out, const ferry_sinkhorn *s, int64_t bytes);
FERRY_API void ferry_store_close(ferry_store *store);
/** Collective. ferry_sinkhorn_iterate (the same bits), keeping its plan, in place of what was kept before. */
FERRY_API ferry_status ferry_store_fill(ferry_store *store, ferry_sinkhorn *s);
/** Local, the same on all ranks. Everything that weighs was kept within `bytes` on every rank, or a quarter of the
 * tiles do not weigh, whose place alone is kept then (8 bytes a tile) and which a pass evaluates again; and no row and
 * few columns (by b) lost more than half of their sum. Otherwise the store is empty and its memory given back. */
FERRY_API bool ferry_store_usable(const ferry_store *store);
/** Collective. As ferry_sinkhorn_iterate, from the store: f and r of the rows, c of the columns, the aggregate, at s->g
 *  (and, for momentum-free f, whatever s->f is). Does not count as a pass. Sums that are 0, infinite or NaN are left in
 *  c and r for the caller to see. */
FERRY_API ferry_status ferry_store_iterate(ferry_store *store, ferry_sinkhorn *s);
/** Local, the same on all ranks. Kept pairs over all pairs. */
FERRY_API double ferry_store_share(const ferry_store *store);
/** Local, the same on all ranks. Tiles are evaluated again: errors are those of dense passes, but for what was left
 *  out. */
FERRY_API bool ferry_store_exact(const ferry_store *store);
/** Local. Bytes that a store of every pair of a rank takes. */
FERRY_API int64_t ferry_store_bytes(int64_t source_rows, int64_t target_rows);
/** Local. Bytes of the mass between `groups` groups that was not kept, which a solve with groups takes beside. */
FERRY_API int64_t ferry_store_groups_bytes(int groups, int threads);
/** Local. For the dense pass that fills s->store: rows 24 * index ... are finished, with weights q [24]; c [columns]
 * gains their column sums (ferry_panel_columns). By the thread that has the panel. */
void ferry_store_keep(double *c, const ferry_sinkhorn *s, const ferry_panel *panel, int64_t index, const double *q);
/** Local. Panels [count] of rows 24 * first ..., with weights q [count][24]; no column sums. By all threads. */
void ferry_store_keep_batch(const ferry_sinkhorn *s, const ferry_panel *panels, int64_t first, int64_t count,
                            const double *q);
FERRY_END
#endif

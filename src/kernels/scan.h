/** scan.h - the seam of the neighbour search: distances of a few queries to the rows of a list, and which are kept.
 *
 *  Everything is centred on one vector before packing. A score is sigma = <q, x> - |x|^2 / 2 in float32, a squared
 *  distance s = |q|^2 - 2 sigma. Its error is at most E = (dim + 8) u (3 |q| + tau)^2 with u = 2^-24 and tau the
 * current k-th distance, whatever lies further out; so a row is dropped only when s > s_k + 2 E, s_k the k-th smallest
 * s so far, and no row beyond tau = sqrt(s_k + E) is among the k nearest. What remains is decided by the caller in
 * float64. Thresholds only rise and radii only fall. (The proof, with the rounding of centred rows: scan_impl.h.)
 *
 *  The score of a pair does not depend on the tile it is in, and what a query keeps only on the order in which lists
 *  come to it, so answers do not depend on threads, ranks or batches. */
#ifndef FERRY_SCAN_H
#define FERRY_SCAN_H
#include "kernels/kernels.h"
FERRY_BEGIN
#define FERRY_CANDIDATE_ROOM 160 /* kept rows of one query before they are settled */
#define FERRY_CANDIDATE_MOST 96  /* more than these after settling: ties and near ties, resolved in float64 */
#define FERRY_MOST_NEIGHBORS 90  /* k of one search, at most */

/** What the queries of a chunk keep. All arrays are the caller's, 64-byte aligned. */
typedef struct ferry_candidates {
    int k; /* neighbours wanted, the query itself counted when it is among the rows */
    int dim;
    int queries;
    float *distance2;   /* [queries][FERRY_CANDIDATE_ROOM] s, never below 0 */
    uint32_t *position; /* [queries][FERRY_CANDIDATE_ROOM] row number in list order */
    int32_t *count;     /* [queries] */
    float *threshold;   /* [queries] scores below it are dropped: (|q|^2 - s_k - 2 E) / 2; -inf while fewer than k */
    float *radius;      /* [queries] tau; +inf while fewer than k */
    const float *norm2; /* [queries] |q|^2 of the centred query */
    /* Called when more than FERRY_CANDIDATE_MOST are within the margin: leaves the k nearest by (float64 distance,
       cell) of count[query] rows in distance2 and position, and sets count[query] = k. */
    void (*resolve)(void *self, struct ferry_candidates *candidates, int query);
    void *self;
    int64_t kept, resolved; /* counters: rows that passed a threshold, calls of resolve */
} ferry_candidates;

/** Up to 24 queries against a run of rows of one list. */
typedef struct ferry_scan {
    int rows;             /* queries, <= 24; blocks of the panel without queries cost nothing */
    const float *x;       /* their panel, packed by the kernels' pack_rows, centred */
    const int32_t *query; /* [rows] their numbers in the candidates */
    int64_t units;        /* of 32 list rows */
    const float *y;       /* [units][32 * dim] packed by pack_columns, centred */
    const float *beta;    /* [units * 32] -|x|^2 / 2, -inf past the end */
    uint32_t position;    /* of the first row; the others follow */
} ferry_scan;

/** Which lists a query has to visit, from the scores of their centroids; bounds with margins:
 *  bisector: sigma_i - sigma_j - (E_i + E_j) / 2 < reach gap_j (1 + 2e-6), i the query's own list, gap_j = |c_i - c_j|;
 *            members of j are nearer to c_j than to c_i. Holds for exactly assigned lists only (bisector false: left
 *            out)
 *  ball:     d_j^2 - E_j < ((reach + radius_j) (1 + 6e-6))^2, d_j^2 = |q|^2 - 2 sigma_j,
 *  E_j = (dim + 8) u (|q| + |c_j|)^2, E_i = (dim + 8) u (3 |q| + d_i)^2. A list that cannot be ruled out is visited. */
typedef struct ferry_visits {
    int dim;
    int64_t units;       /* of 32 lists */
    const float *scores; /* [units][24][32] as the kernels' scores gives them (alpha 0, beta = -|c|^2 / 2) */
    const float *gap;    /* [units * 32], rounded up; 0 for the own list and its twins */
    const float *radius; /* [units * 32] rounded up; -inf for empty lists and past the end: never visited */
    const float *norm;   /* [units * 32] |c_j| */
    bool bisector;
} ferry_visits;

typedef struct ferry_scans {
    const char *name;
    /* Scores of the tile; those that reach their query's threshold are appended to its candidates in row order. A query
       whose room may not hold the next unit is settled. */
    void (*scan)(ferry_candidates *candidates, const ferry_scan *scan);
    /* s_k, threshold and radius of one query from its candidates, of which only s <= s_k + 2 E stay, in their order.
       Nothing with fewer than k of them. */
    void (*settle)(ferry_candidates *candidates, int query);
    /* best [24] = largest score of each row, index [24] its column (the lowest of equals), second [24] = the largest of
       the other columns (-inf where there is none). alpha of the tile is added, scores are linear. */
    void (*nearest)(float *best, int32_t *index, float *second, const ferry_tile *tile);
    /* Columns that row i (0..23) with |q|^2 = norm2, score `own` of its own list and reach = a * tau has to visit:
       list [found] ascending, distance [found] = |q - c|, bound [found] = the bisector bound of the distance to any
       member (-inf without bisector). Room for units * 32 + 16. Returns found. */
    int64_t (*visit)(int32_t *list, float *distance, float *bound, const ferry_visits *visits, int i, float norm2,
                     float own, float reach);
    /* The k-th largest of row i (0..23) of scores [units][24][32]; -inf when there are fewer finite ones. k >= 1 */
    float (*row_kth)(const float *scores, int i, int64_t units, int64_t k);
    /* sum (a_k - b_k)^2 in float64: eight sums over k = l mod 8 by fused multiply-add in ascending k, added as
       ((0+4)+(2+6)) + ((1+5)+(3+7)): the same bits in every table */
    double (*distance2)(const float *a, const float *b, int dim);
    /* |a/|a| - b/|b||^2 / 2 = 1 - cos(a, b) in float64, sums as above, the same bits in every table */
    double (*cosine)(const float *a, const float *b, int dim);
} ferry_scans;

/** Local. The search's functions of the same instruction set. */
FERRY_API const ferry_scans *ferry_scans_of(const ferry_kernels *kernels);
FERRY_END
#endif

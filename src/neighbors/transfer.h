/** transfer.h - what the reference knows, carried to the queries: M Z by row blocks, M = K / row sums in float32 (rows
 *  without weight stay zero).
 *
 *  Reference-side arrays are dealt over the ranks by contiguous rows: rank r holds rows first[r] ... first[r + 1] - 1.
 *  Results come block by block in the order of the walk (graph.h): consecutive rows in rank order. */
#ifndef FERRY_TRANSFER_H
#define FERRY_TRANSFER_H
#include "io/read.h"
#include "weights.h"
FERRY_BEGIN
/** A column of categories of the reference. */
typedef struct ferry_transfer_labels {
    const int32_t *code;           /* [rows here] into categories, -1 missing */
    const int64_t *first;          /* [ranks + 1] */
    const ferry_names *categories; /* the same on all ranks */
    const bool *kept;              /* [categories] those that may win (others lose their mass); NULL: all */
    bool drop_missing; /* cells without a label have no vote; else they are a class of their own, the last */
} ferry_transfer_labels;
/** Collective, as a sink. code [rows] into categories (-1: the missing class won), confidence [rows] its mass, and the
 *  probabilities of all classes with mass as rows (columns: categories, then the missing class). A row without mass:
 *  the first category in sorted order with confidence 0. Ties: the first in the lexicographic order of the names. */
typedef ferry_status (*ferry_labels_taker)(void *self, int64_t first, int64_t rows, const int32_t *code,
                                           const float *confidence, const ferry_rows *probabilities);
FERRY_API ferry_status ferry_transfer_categories(ferry_weights *weights, const ferry_world *world,
                                                 const ferry_transfer_labels *labels, ferry_labels_taker take,
                                                 void *self);

/** Local. The class that a label votes for: its code, or the missing class (the number of categories); -1: none. */
FERRY_API int32_t ferry_transfer_class(const ferry_transfer_labels *labels, int32_t code);
/** Local. Winners of rows of dense masses [rows][categories + 1] by the same rule, for masses that were diffused. */
FERRY_API ferry_status ferry_transfer_decide(int32_t *code, float *confidence, const double *mass, int64_t rows,
                                             const ferry_transfer_labels *labels);

/** Dense columns of the reference: numbers of obs, obsm, or a layer's genes. */
typedef struct ferry_transfer_values {
    const double *value; /* [rows here][width] */
    const int64_t *first;
    int64_t width;
} ferry_transfer_values;
/** Collective, as a sink. values [rows][width] = M Z in float64 (NaN spreads). */
typedef ferry_status (*ferry_values_taker)(void *self, int64_t first, int64_t rows, int64_t width,
                                           const double *values);
FERRY_API ferry_status ferry_transfer_numbers(ferry_weights *weights, const ferry_world *world,
                                              const ferry_transfer_values *values, ferry_values_taker take, void *self);

/** Sparse rows of the reference, such as X or a layer: CSR rows here. */
typedef struct ferry_transfer_entry {
    uint32_t column;
    float value;
} ferry_transfer_entry;
typedef struct ferry_transfer_sparse {
    const int64_t *start;              /* [rows here + 1] */
    const ferry_transfer_entry *entry; /* ascending columns in each row */
    const int64_t *first;
    int64_t columns;
    const double *libsize; /* [rows of the weights' blocks of this rank, in the order of rounds] sums that rows are
                              scaled to (rows with sum 0 stay 0); NULL: not scaled */
    int64_t memory;        /* bytes per rank for fetched rows and results, about; 0: 64 MiB. Never changes the result */
    int threads;           /* 0: one */
} ferry_transfer_sparse;
/** Collective. M X as sparse rows into a sink; dropped where exactly 0. */
FERRY_API ferry_status ferry_transfer_layer(ferry_weights *weights, const ferry_world *world,
                                            const ferry_transfer_sparse *sparse, const ferry_sink *sink);
/** Local. Rows that a rank has in the blocks of all rounds. */
FERRY_API int64_t ferry_transfer_rows(const ferry_blocks *blocks, int rank, int size);

/** Presence of every reference cell among the queries: column sums of the gauss kernel (no self edges, not
 *  normalised), in the order of the query rows. group [rows of this rank's blocks, in the order of rounds] or NULL with
 *  groups 1; -1: in no group. *score [rows here of first][groups], free with free(). */
FERRY_API ferry_status ferry_presence(double **score, ferry_weights *gauss, const ferry_world *world,
                                      const int64_t *first, const int32_t *group, int64_t groups);
/** Collective. In place, each column on its own over all ranks: log(1 + x) if wanted; clipped to percentiles low, high
 *  (numpy's linear interpolation, exact; left out for 0, 100); scaled to [0, 1] if wanted (all equal: 0). */
FERRY_API ferry_status ferry_presence_finish(double *score, const ferry_world *world, int64_t rows, int64_t groups,
                                             bool logarithm, double low, double high, bool minmax);
/** Collective. The q-th percentile (0 ... 100, linear interpolation) of all ranks' values, exact: bisection on the
 * bits.
 */
FERRY_API ferry_status ferry_percentile(double *out, const ferry_world *world, const double *values, int64_t count,
                                        int64_t stride, double q);
FERRY_END
#endif

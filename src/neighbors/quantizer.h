/** quantizer.h - the centroids of the lists: trained in two levels on a sample, once per node, and the list of any row.
 *
 *  Level 1 are super-cells, level 2 the lists of each. Lists are numbered so that near ones have near numbers
 * (recursive bisection of the super-cells' centres by the widest direction, then of the lists inside), so a run of
 * lists is a region, and one rank owns it. Everything is centred on `mean`; with the cosine metric rows are scaled to
 * length 1 first. The centroids are the same for any number of ranks and threads. */
#ifndef FERRY_QUANTIZER_H
#define FERRY_QUANTIZER_H
#include "kernels/scan.h"
#include "mpi/memory.h"
#include "points.h"
FERRY_BEGIN
typedef enum ferry_search_metric { FERRY_EUCLIDEAN = 0, FERRY_COSINE = 1 } ferry_search_metric;

/** A flat set of centres as the kernels want it. */
typedef struct ferry_centres {
    int64_t count, units; /* units of 32 */
    const float *centre;  /* [count][dim] centred */
    const float *packed;  /* [units][32 * dim] */
    const float *half;    /* [units * 32] -|c|^2 / 2, -inf past the end */
    const float *norm;    /* [units * 32] |c| */
} ferry_centres;

typedef struct ferry_quantizer {
    int dim;
    ferry_search_metric metric;
    const ferry_kernels *kernels;
    const ferry_scans *scans;
    const float *mean;    /* [dim] */
    ferry_centres list;   /* every list */
    ferry_centres super;  /* every super-cell */
    const int64_t *child; /* [super.count + 1] lists child[s] ... child[s + 1] - 1 belong to s */
    const float *spread;  /* [super.count] largest distance of a list's centroid to its super-cell's, rounded up */
    int64_t trained;      /* rows of the sample */
    double distortion;    /* mean squared distance of the sample's rows to the nearest list of their super-cell; NaN
                             when it was not trained here */
    ferry_window window;  /* all of it, once per node */
} ferry_quantizer;

typedef struct ferry_train_options {
    int64_t lists;  /* wanted; fewer when there are fewer different rows. 0: ferry_lists_wanted */
    int64_t sample; /* rows per list of the sample: 64 */
    int steps;      /* k-means steps of each level; 0: 10 */
    uint64_t seed;
    int64_t memory; /* bytes per rank that training may use beside the centroids; the sample shrinks to it (the
                       sample depends on memory only through this cut, which is said in a warning) */
    int threads;
} ferry_train_options;
#define FERRY_TRAIN_DEFAULTS                                                                                           \
    {                                                                                                                  \
        .sample = 64                                                                                                   \
    }

/** Local. max(sqrt(rows), rows / 1000) lists, so that a list has about 1000 rows when there are many. */
FERRY_API int64_t ferry_lists_wanted(int64_t rows);
/** Collective. Sample rows are chosen by counting (math/random.h), level 2 is trained by the rank that a super-cell is
 *  dealt to. FERRY_E_ARG for a row of length 0 with the cosine metric (named). Close with ferry_quantizer_close. */
FERRY_API ferry_status ferry_quantizer_train(ferry_quantizer *out, const ferry_world *world, const ferry_points *points,
                                             ferry_search_metric metric, const ferry_kernels *kernels,
                                             const ferry_train_options *options);
/** Collective. From stored numbers: mean [dim], centre [lists][dim] centred, super [supers][dim] centred, child
 *  [supers + 1]. The sizes are the same on all ranks; the arrays are rank 0's, NULL elsewhere is fine. */
FERRY_API ferry_status ferry_quantizer_of(ferry_quantizer *out, const ferry_world *world, int dim, int64_t lists,
                                          int64_t supers, const float *mean, const float *centre, const float *super,
                                          const int64_t *child, ferry_search_metric metric,
                                          const ferry_kernels *kernels);
FERRY_API void ferry_quantizer_close(ferry_quantizer *quantizer, const ferry_world *world);
/** Local. Bytes of the centroids per node, and of training per rank at its largest. */
FERRY_API int64_t ferry_quantizer_bytes(int64_t lists, int dim);
FERRY_API int64_t ferry_train_bytes(int64_t lists, int dim, int64_t sample, int ranks);

/** Local. prepared [count][dim] = rows as they are packed: (scaled to length 1 and) centred; norm2 [count] their
 * squared norms, summed in float64. FERRY_E_ARG names the first row of length 0 with the cosine metric (first + its
 * number). */
FERRY_API ferry_status ferry_quantizer_prepare(float *prepared, float *norm2, const ferry_quantizer *quantizer,
                                               const float *rows, int64_t count, int64_t first);
/** Local, OpenMP threads. list [count] of prepared rows, distance [count] = |x - c| in float64, then float32 rounded to
 *  nearest (both or either may be NULL).
 *  exact: the true nearest list by (float64 distance, number): a float32 product with the margin of scan.h, runner-ups
 *  within it decided in float64 - whole above `lists` of a few thousand too, so it costs rows x lists pairs.
 *  Otherwise through the best 4 super-cells. */
FERRY_API ferry_status ferry_quantizer_assign(int32_t *list, float *distance, const ferry_quantizer *quantizer,
                                              const float *prepared, const float *norm2, int64_t count, bool exact,
                                              int threads);
FERRY_END
#endif

/** sparsify.h - a sparse coupling from the potentials, by row blocks (moscot 0.5.2's `sparsify`). */
#ifndef FERRY_SPARSIFY_H
#define FERRY_SPARSIFY_H
#include "io/write.h"
#include "plan.h"
FERRY_BEGIN
typedef enum ferry_sparsify_mode {
    FERRY_SPARSIFY_MASS = 0, /* per row the shortest prefix of the descending entries with cumsum >= value * row mass */
    FERRY_SPARSIFY_THRESHOLD,  /* entries >= value */
    FERRY_SPARSIFY_PERCENTILE, /* entries >= the value-th percentile of sampled rows (linear interpolation) */
    FERRY_SPARSIFY_MIN_ROW     /* entries >= the smallest row maximum: every row with mass keeps one */
} ferry_sparsify_mode;
typedef struct ferry_sparsify_options {
    ferry_sparsify_mode mode;
    double value;      /* NAN: not given */
    int64_t max_k;     /* mass only; 0: none; below 0: refused */
    int64_t n_samples; /* rows of the percentile's sample */
    uint64_t seed;
    const int64_t *sample; /* [n_samples] these rows instead of our own sample (for comparison); NULL: own */
    int64_t batch;         /* source rows per rank and pass; 0: chosen; never changes the result */
    int64_t memory;        /* bytes for passes; 0: 256 MiB */
    int grid_rows, grid_cols;
} ferry_sparsify_options;
#define FERRY_SPARSIFY_DEFAULTS                                                                                        \
    {                                                                                                                  \
        FERRY_SPARSIFY_MASS, 0.99, 0, 1024, 0, NULL, 0, 0, 0, 1                                                        \
    }
typedef struct ferry_sparsify_result {
    int64_t nonzeros, massless; /* rows without mass are kept empty */
    double threshold;           /* of threshold, percentile, min_row */
    double mass, kept_mass;     /* over all rows */
} ferry_sparsify_result;
/** Local. FERRY_E_ARG for values outside their range, max_k outside mass, in the reference's order of checks. */
FERRY_API ferry_status ferry_sparsify_check(const ferry_sparsify_options *options);
/** Collective. One pass over the plan (two for min_row; percentile evaluates its sample of rows twice before). Hands
 * row blocks to sink; masses (for obs columns; may be NULL) is called after each block, Collective, with this rank's
 * rows: first kept cell, count, their masses and kept masses. out->threshold is NaN for mode mass, infinite when no row
 * has mass. Selection compares float entries; exponents' rounding is taken out of the values after it. */
FERRY_API ferry_status ferry_sparsify(ferry_sparsify_result *out, ferry_plan *plan, const ferry_world *world,
                                      const ferry_sparsify_options *options, const ferry_sink *sink,
                                      ferry_status (*masses)(void *self, int64_t first, int64_t count,
                                                             const double *mass, const double *kept),
                                      void *masses_self);
FERRY_END
#endif

/** sparsify_impl.h - selection in the rows of one panel, and thresholds over the plan (not installed). */
#ifndef FERRY_SPARSIFY_IMPL_H
#define FERRY_SPARSIFY_IMPL_H
#include "kernels/float_bits.h"
#include "kernels/large.h"
#include "passes_impl.h"
#include "sparsify.h"
FERRY_BEGIN
/** What is kept of a row. */
typedef struct ferry_rule {
    bool mass;     /* the shortest prefix in descending order that reaches value * row sum, of at most max_k entries */
    double value;  /* >= 1: every entry that is not 0 */
    int64_t max_k; /* 0: no limit */
    float cut;     /* otherwise: entries >= cut, > 0 since zeros are never stored */
} ferry_rule;

/** The smallest float entry that is not below a threshold, and not 0. Local. */
FERRY_API float ferry_cut(double threshold);

/** The answer of ferry_prefix: entries above `at` are kept, and the first `ties` of those equal to it. */
typedef struct ferry_prefix_end {
    bool found; /* false: all of the entries together stay below target and number: keep all */
    float at;
    int64_t ties;
    int64_t kept; /* entries of the prefix */
} ferry_prefix_end;
/** Local. Where the shortest prefix of v [n] (positive, any order) in descending order ends whose sum reaches target,
 *  or that has `number` entries. Sums are float64. work: room for n floats. Does not sort: buckets of float bit
 * patterns with counts and sums lead to the few values around the end. */
FERRY_API ferry_prefix_end ferry_prefix(const float *v, int64_t n, double target, int64_t number, float *work);
/** Local. The same of a row whose `before` largest entries, with this sum, do not stand in v, and do not suffice. work
 *  may be v. */
FERRY_API ferry_prefix_end ferry_prefix_after(double sum, int64_t before, const float *v, int64_t n, double target,
                                              int64_t number, float *work);

/** Selection for one thread: candidates of a row, and what was kept of the last panel. */
typedef struct ferry_kept {
    const ferry_selects *selects;
    ferry_rule rule;
    int64_t units, columns; /* of whole rows */
    int64_t sampled;        /* units of a row that tell where it ends */
    float *sample;          /* [32 * sampled] */
    ferry_large large;      /* candidates of a row: */
    float cut;              /* entries >= it */
    float *work, *other;    /* as many */
    /* of the last panel: */
    int64_t count[FERRY_SOURCE_UNIT]; /* kept entries of each row */
    double sum[FERRY_SOURCE_UNIT];    /* of them */
    int64_t total, kept_room;
    float *values; /* [total], row after row, columns ascending */
    int32_t *indices;
} ferry_kept;
/** Local. For rows of `columns` entries. Close with ferry_kept_close. */
FERRY_API ferry_status ferry_kept_open(ferry_kept *out, const ferry_kernels *kernels, const ferry_rule *rule,
                                       int64_t columns);
FERRY_API void ferry_kept_close(ferry_kept *kept);
/** Local. Bytes that ferry_kept_open takes, and what a panel's kept entries may take. */
FERRY_API int64_t ferry_kept_bytes(const ferry_rule *rule, int64_t columns);
/** Local. Selects in the first `rows` rows of plan [units][24][32] with these row sums. The kept values are multiplied
 *  by row [24] and column [units * 32] factors (NULL: 1). */
FERRY_API ferry_status ferry_kept_select(ferry_kept *kept, const float *plan, int rows, const double *sums,
                                         const double *row, const float *column);

/** Collective. The threshold of percentile (over a sample of rows) and of min_row (over all rows, one pass). */
FERRY_API ferry_status ferry_threshold_percentile(double *out, ferry_passes *passes,
                                                  const ferry_sparsify_options *options);
FERRY_API ferry_status ferry_threshold_min_row(double *out, ferry_passes *passes);
/** Local. rows [count] = `count` distinct numbers of 0 ... cells - 1, ascending, the same on every machine: the first
 *  ones of a random order that only seed and cells decide. */
FERRY_API void ferry_sample_rows(int64_t *rows, int64_t count, int64_t cells, uint64_t seed);
/** Local. Entries of panel t of passes as float, [units][24][32] of this grid column: panel.f, or panel.d rounded into
 *  `rounded`. */
FERRY_API const float *ferry_panel_entries(const ferry_panel *panel, float *rounded);
FERRY_END
#endif

/** quantizer_impl.h - what training and assignment share (not installed). */
#ifndef FERRY_QUANTIZER_IMPL_H
#define FERRY_QUANTIZER_IMPL_H
#include "math/cluster.h"
#include "quantizer.h"

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT

/* Local. Super-cells of so many lists. */
int64_t ferry_supers_wanted(int64_t lists);

/* The nearest centre of 24 rows so far. */
typedef struct ferry_nearest {
    float best[ROWS], second[ROWS]; /* scores */
    int32_t index[ROWS];
} ferry_nearest;
/* Local. None yet. */
void ferry_nearest_start(ferry_nearest *nearest);
/* Local. Units first ... first + units - 1 of the centres join; equal scores: the lower number. */
void ferry_nearest_join(ferry_nearest *nearest, const ferry_scans *scans, const ferry_centres *centres, int dim,
                        const float *panel, int64_t first, int64_t units);

/* Local. Fills packed, half and norm [units * 32] of centre [count][dim]. */
void ferry_centres_pack(const ferry_centres *centres, int dim, const ferry_kernels *kernels);

/* Local. One row as it is packed: scaled to length 1 for cosine, and centred on mean (NULL: not). False for a row of
 * length 0 with cosine. */
bool ferry_prepare_row(float *prepared, const float *row, const float *mean, int dim, ferry_search_metric metric);
/* Local. Sum of squares in eight float64 lanes. */
double ferry_row_norm2(const float *row, int dim);

/* k-means of one set of rows, by one thread or by several. */
typedef struct ferry_lloyd {
    int dim, threads;
    int64_t rows, panels;
    int most; /* centres */
    const ferry_kernels *kernels;
    const ferry_scans *scans;
    float *row;            /* [rows][dim] side by side */
    float *panel;          /* [panels][24 * dim] */
    int32_t *label;        /* [rows] */
    float *few;            /* [seeds][dim] that seeding looks at */
    ferry_seeding seeding; /* for seeds rows */
    ferry_centres now;     /* with room for most */
    float *centre;         /* [most][dim] in the making, = now.centre */
    double *sums;          /* [most][dim] */
    int64_t *counts;       /* [most] */
    int32_t *order;        /* [most] */
    double *keys;          /* room of the bisection */
} ferry_lloyd;
/* Local. For at most `rows` rows and `most` centres. */
ferry_status ferry_lloyd_open(ferry_lloyd *out, int64_t rows, int most, int dim, const ferry_kernels *kernels,
                              int threads);
void ferry_lloyd_close(ferry_lloyd *lloyd);
/* Local. Bytes of it. */
int64_t ferry_lloyd_bytes(int64_t rows, int most, int dim);
/* Local. found [at most `most`][dim] = centres of the `count` rows index[0 ...] (NULL: 0, 1, ...) of rows [..][dim]:
 * greedy D^2 seeding and `steps` steps; those that no row is nearest to are left out; in the order of the bisection.
 * distortion = sum of squared distances. Returns how many. The same for any number of threads. */
int ferry_lloyd_find(float *found, double *distortion, ferry_lloyd *lloyd, const float *rows, const int64_t *index,
                     int64_t count, int most, int steps, uint64_t seed);

/* Local. order [count] = numbers of the centres [count][dim] by recursive bisection: across the widest direction, into
 * halves of equal weight. room [count * 2 + 3 * dim] doubles. */
void ferry_bisect(int32_t *order, const float *centres, const int64_t *weight, int count, int dim, double *room);
#endif

/** large.h - the seam of sparsify: the large entries of the rows of a panel, row after row in registers. */
#ifndef FERRY_LARGE_H
#define FERRY_LARGE_H
#include "kernels/kernels.h"
FERRY_BEGIN
#define FERRY_SELECT_SPARE 16 /* places behind the last entry that may be read or written */

/** How many entries of a row are expected: it changes the time, not the result. */
typedef enum ferry_share {
    FERRY_FEW,  /* less than one in 50: most vectors have none */
    FERRY_SOME, /* */
    FERRY_MANY  /* one in 12 and more: their factors are read with them */
} ferry_share;

/** Large entries of a row, in ascending order of columns. Here as elsewhere arrays have FERRY_SELECT_SPARE places more
 *  than entries. */
typedef struct ferry_large {
    int64_t count;
    float *values;
    int32_t *columns;    /* unit * 32 + lane */
    const float *factor; /* of all columns [units * 32]; NULL: 1 */
    float *factors;      /* of these columns, if with_factors */
    bool with_factors;
} ferry_large;
/* Local. Entry k times row, times the factor of its column, in float64, and rounded. */
static inline float ferry_large_scaled(const ferry_large *large, int64_t k, double row)
{
    return (float)((double)large->values[k] * row * (large->factor ? (double)large->factor[large->columns[k]] : 1));
}

typedef struct ferry_selects {
    const char *name;
    /* Entries >= cut > 0 of row i (0 ... 23) of plan [units][24][32]. Room for all. */
    void (*above)(ferry_large *into, const float *plan, int i, int64_t units, float cut, ferry_share share);
    /* Sum of the entries of v [32 n], n even, that are < cut, in float32 lanes. */
    double (*below)(const float *v, int64_t n, float cut);
    /* Number of the entries that are >= cut. */
    int64_t (*reaching)(const float *v, int64_t n, float cut);
    /* Entries of v [n] < cut into low, the others into high (NULL: not wanted), in their order; returns how many are
     *low. sum = of the others, in float64. One of low and high may be v. */
    int64_t (*split)(float *low, float *high, double *sum, const float *v, int64_t n, float cut);
    /* Entries >= cut, scaled as above, into values, their columns into indices; returns how many. *sum = of them, in
       float64: 16 or fewer sums by a place, added as a tree. */
    int64_t (*keep)(float *values, int32_t *indices, double *sum, const ferry_large *from, float cut, double row);
} ferry_selects;

/** Local. The functions of the same instruction set. */
FERRY_API const ferry_selects *ferry_selects_of(const ferry_kernels *kernels);
FERRY_END
#endif

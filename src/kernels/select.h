/** select.h - the seam of sparsify: the large entries of the rows of a panel, row after row in registers. */
#ifndef FERRY_KERNELS_SELECT_H
#define FERRY_KERNELS_SELECT_H
#include "kernels/kernels.h"
FERRY_BEGIN
#define FERRY_SELECT_STEP  4                                            /* units that a row looks at at a time */
#define FERRY_SELECT_SPARE (FERRY_SELECT_STEP * FERRY_TARGET_UNIT + 16) /* room that a row needs beside its entries */

/** Where the entries of some rows of a panel go. All arrays borrowed. */
typedef struct ferry_collection {
    const float *cut;     /* [rows] entries >= cut are wanted, cut > 0; infinite: none */
    const int64_t *first; /* [rows + 1] row r has places first[r] ... first[r + 1] - 1 of: */
    float *values;
    int32_t *columns; /* unit * 32 + lane, ascending */
    int64_t *found;   /* [rows] entries of each; -1: more than its places less FERRY_SELECT_SPARE, given up */
} ferry_collection;

typedef struct ferry_selects {
    const char *name;
    /* Rows row ... row + rows - 1 (of 0 ... 23) of plan [units][24][32] into places 0 ... rows - 1. The panel is read
       once, in the order of memory. */
    void (*collect)(const ferry_collection *into, const float *plan, int row, int rows, int64_t units);
    /* Sum and number of the entries of v [32 n], n even, that are < cut; the sum in float32 lanes. */
    void (*below)(double *sum, int64_t *count, const float *v, int64_t n, float cut);
    /* Entries of v [n] < cut into out, in their order; returns how many. *sum = of the others, in float64. Room for 16
       more than n in both. */
    int64_t (*split)(float *out, double *sum, const float *v, int64_t n, float cut);
    /* Entries of v [n] >= cut and their columns into values and indices, each value multiplied by row and by
       factor[column] (NULL: 1) in float64 and rounded; returns how many. *sum = of the results, in float64: 16 or fewer
       sums by their place, added as a tree. Room for 16 more than n everywhere. */
    int64_t (*keep)(float *values, int32_t *indices, double *sum, const float *v, const int32_t *columns, int64_t n,
                    float cut, double row, const float *factor);
} ferry_selects;

/** Local. The functions of the same instruction set. */
FERRY_API const ferry_selects *ferry_selects_of(const ferry_kernels *kernels);
FERRY_END
#endif

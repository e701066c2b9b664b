/** halves.h - tiles of the plan kept in half precision, and sums over them: the kernels of a pass over what was kept
 *  (transport/store_impl.h). A table of its own beside each ferry_kernels.
 *
 *  A part is 12 rows of a panel against the units that were kept: [units][12][32] IEEE halves, `unit` naming them in
 *  ascending order. Its column sums follow its row sums while it is in the second cache. Both ask memory for what comes
 *  after, `ahead`, half a tile with each tile: so memory works all the time. Additions have one order for each table:
 *  numbers of a row join in float32 lanes over FERRY_HALF_FLUSH tiles counted from the first of the call, then float64.
 */
#ifndef FERRY_HALVES_H
#define FERRY_HALVES_H
#include "kernels/kernels.h"
FERRY_BEGIN
#define FERRY_HALF_ROWS  12 /* divides FERRY_SOURCE_UNIT */
#define FERRY_HALF_TILE  (FERRY_HALF_ROWS * FERRY_TARGET_UNIT)
#define FERRY_HALF_FLUSH 32

typedef struct ferry_halves {
    /* Tiles of a panel that weigh: numbers plan [units][24][32] times weights [24] of the rows, rounded to nearest with
       ties to even, the same bits in all tables. A tile that has one above cut before rounding is put at the end of
       both parts, kept [units] gets first + its place. Returns how many. What is written goes past the caches. */
    int64_t (*keep)(uint16_t *upper, uint16_t *lower, int32_t *kept, const float *plan, const float *weights,
                    int64_t first, int64_t units, float cut);
    /* sums [12]: sum over tiles [count][12][32] and columns of half_ij w_j; w begins at column 0 */
    void (*rows)(double *sums, const uint16_t *tiles, const float *w, const int32_t *unit, int64_t count,
                 const uint16_t *ahead);
    /* c_j += sum over rows first ... end - 1 (of 12) of q_i half_ij; c begins at column 0, q at the first of the 12.
       float32 over the rows, then one float64 addition. */
    void (*columns)(double *c, const uint16_t *tiles, const float *q, const int32_t *unit, int64_t count, int first,
                    int end, const uint16_t *ahead);
} ferry_halves;

/** Local. The table that belongs to a table of kernels. */
FERRY_API const ferry_halves *ferry_halves_of(const ferry_kernels *kernels);
FERRY_END
#endif

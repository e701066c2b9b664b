/** halves.h - tiles of the plan kept in half precision, and sums over them: the kernels of a pass over what was kept
 *  (transport/store_impl.h). A table of its own beside each ferry_kernels.
 *
 *  Kept tiles are [24][32] IEEE halves one behind the other; `unit` names the column unit of each, in ascending order.
 *  Rows are taken in parts of FERRY_HALF_ROWS, so that the tiles of a part are still in the second cache when their
 *  column sums follow. Additions have one order for each table: numbers of a row join in float32 lanes over
 *  FERRY_HALF_FLUSH tiles counted from the first of the call, then float64. */
#ifndef FERRY_HALVES_H
#define FERRY_HALVES_H
#include "kernels/kernels.h"
FERRY_BEGIN
#define FERRY_HALF_ROWS  12 /* divides FERRY_SOURCE_UNIT */
#define FERRY_HALF_FLUSH 32
#define FERRY_HALF_TILE  (FERRY_SOURCE_UNIT * FERRY_TARGET_UNIT)

typedef struct ferry_halves {
    /* half [24][32] = plan [24][32] times weights [24] of the rows, rounded to nearest, ties to even; the same bits in
       all tables. Returns the largest of the numbers before rounding. */
    float (*keep)(uint16_t *half, const float *plan, const float *weights);
    /* sums [12] of rows first ... first + 11: sum over tiles and columns of half_ij w_j; w begins at column 0. first is
       0 or 12. */
    void (*rows)(double *sums, const uint16_t *halves, const float *w, const int32_t *unit, int64_t count, int first);
    /* c_j += sum over rows first ... end - 1 of q_i half_ij; c begins at column 0, q at row 0. float32 over the rows,
       then one float64 addition. */
    void (*columns)(double *c, const uint16_t *halves, const float *q, const int32_t *unit, int64_t count, int first,
                    int end);
} ferry_halves;

/** Local. The table that belongs to a table of kernels. */
FERRY_API const ferry_halves *ferry_halves_of(const ferry_kernels *kernels);
FERRY_END
#endif

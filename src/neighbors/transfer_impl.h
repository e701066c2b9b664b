/** transfer_impl.h - what labels, values and layers share: a block of K turned into M, with its distinct columns. */
#ifndef FERRY_TRANSFER_IMPL_H
#define FERRY_TRANSFER_IMPL_H
#include "transfer.h"

/* Rows of M of a block, and the reference cells that they touch, each once. */
typedef struct ferry_touched {
    int64_t rows, entries, distinct;
    const int64_t *start; /* [rows + 1] borrowed from the block, from any number */
    float *m;             /* [entries] K / row sum, from entry start[0] */
    int32_t *place;       /* [entries] into cell */
    int64_t *cell;        /* [distinct] in the order of their first entry */
} ferry_touched;
/* Local. Close with ferry_touched_close, also after a failure. */
ferry_status ferry_touched_open(ferry_touched *out, const int64_t *start, int64_t rows, const uint32_t *cell);
void ferry_touched_close(ferry_touched *touched);
/* Local. m [entries] = K / row sum of a block in float32; rows without weight are 0. */
void ferry_normalised(float *m, const ferry_weights_block *block);
#endif

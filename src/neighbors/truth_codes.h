/* truth_codes.h - the true neighbours of a few queries, by one pass over all reference rows. */
#ifndef FERRY_TRUTH_CODES_H
#define FERRY_TRUTH_CODES_H
#include "search_codes_impl.h"

/* A few queries, the same on all ranks. */
typedef struct ferry_sample {
    int64_t count;
    int64_t *row;          /* [count] ascending */
    float *raw, *prepared; /* [count][dim] */
    float *norm2;          /* [count] */
    int64_t available;     /* neighbours that a query has: k at most */
    uint32_t *truth;       /* [count][k] their cells, ascending by cell; `available` of them */
} ferry_sample;
/* Collective. `wanted` queries, one of each of as many equal runs, drawn by counting. Close with ferry_sample_close,
 * also after a failure. */
ferry_status ferry_sample_open(ferry_sample *out, const ferry_world *world, const ferry_codes_job *job,
                               const ferry_points *queries, int64_t wanted);
/* Collective. Fills truth. FERRY_E_FILE when the reference is not what the index was made of. */
ferry_status ferry_sample_truth(ferry_sample *sample, const ferry_world *world, const ferry_codes_job *job,
                                const ferry_points *reference);
void ferry_sample_close(ferry_sample *sample);
#endif

/** anderson.h - Anderson's extrapolation of a fixed-point iteration x <- x + r(x), with restart from the best point. */
#ifndef FERRY_ANDERSON_H
#define FERRY_ANDERSON_H
#include "mpi/reduce.h"
#include <stdbool.h>
FERRY_BEGIN
#define FERRY_ANDERSON_MEMORY 6 /* differences that are mixed */

typedef struct ferry_anderson {
    int64_t count;
    const double *weight;       /* [count] of the inner product; borrowed */
    const ferry_shards *shards; /* x is cut by them over world (part = rank there): products are canonical sums; NULL:
                                   x is whole here */
    const ferry_world *world;
    ferry_reduction how;
    int filled, next, restarts;
    bool started;
    double best;                      /* smallest error */
    double *best_x, *best_r;          /* [count] where it was */
    double *last_x, *last_r;          /* [count] */
    float *dr[FERRY_ANDERSON_MEMORY]; /* differences of r; of x + r */
    float *dy[FERRY_ANDERSON_MEMORY];
    double gram[FERRY_ANDERSON_MEMORY][FERRY_ANDERSON_MEMORY];
} ferry_anderson;

/** Local. Fields count ... how are set; close with ferry_anderson_close. */
FERRY_API ferry_status ferry_anderson_open(ferry_anderson *out, int64_t count, const double *weight,
                                           const ferry_shards *shards, const ferry_world *world, ferry_reduction how);
FERRY_API void ferry_anderson_close(ferry_anderson *anderson);
/** Local. As opened: no differences, no best point; restarts are kept. */
FERRY_API void ferry_anderson_forget(ferry_anderson *anderson);
/** Local. Bytes of it. */
FERRY_API int64_t ferry_anderson_bytes(int64_t count);
/** Collective over world (Local without shards). x [count] -> the next x; r [count] its residual, error the size of it
 *  by the caller's measure. mix: extrapolate, else x + r; so is a mixed step that strays from it by more than 20. An
 * error above 2.5 times the best goes back to the best point's plain step and forgets. The status is this rank's. */
FERRY_API ferry_status ferry_anderson_step(double *x, ferry_anderson *anderson, const double *r, double error,
                                           bool mix);
FERRY_END
#endif

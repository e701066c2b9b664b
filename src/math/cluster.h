/** cluster.h - k-means on a sample of rows that one rank holds, and the nearest centre of any row. */
#ifndef FERRY_CLUSTER_H
#define FERRY_CLUSTER_H
#include "kernels/kernels.h"
#include "mpi/shard.h"
FERRY_BEGIN
/** Centres, and the form in which the kernels want them. */
typedef struct ferry_clusters {
    int count, dim;
    int64_t units;  /* of 32 centres */
    float *centres; /* [count][dim] */
    float *packed;  /* [units][32 * dim] */
    float *half;    /* [units * 32] -|centre|^2 / 2, -inf past the end */
    float *norm;    /* [count] |centre|^2 */
    const ferry_kernels *kernels;
} ferry_clusters;

/** Local. At most `most` centres of rows [count][dim] by k-means: greedy D^2 seeding, then `steps` Lloyd steps; ordered
 *  as a chain in which the next centre is the nearest one left. Fewer centres when there are fewer different rows. The
 *  same for the same rows, seed and kernels. Close with ferry_clusters_close. */
FERRY_API ferry_status ferry_clusters_find(ferry_clusters *out, const float *rows, int64_t count, int dim, int most,
                                           int steps, uint64_t seed, const ferry_kernels *kernels);
/** Local. Given centres [count][dim], copied. */
FERRY_API ferry_status ferry_clusters_of(ferry_clusters *out, const float *centres, int count, int dim,
                                         const ferry_kernels *kernels);
FERRY_API void ferry_clusters_close(ferry_clusters *clusters);
/** Local. label [24] = nearest centre (the lower number on ties) of a panel of 24 rows packed by the kernels'
 * pack_rows; room: [units][24][32] floats. */
FERRY_API void ferry_clusters_nearest(int32_t *label, const ferry_clusters *clusters, const float *panel, float *room);
/** Local. Rows [count][dim] row-major; FERRY_E_MEM. */
FERRY_API ferry_status ferry_clusters_assign(int32_t *label, const ferry_clusters *clusters, const float *rows,
                                             int64_t count);

/** Room for choosing first centres among a few rows; one per thread. */
typedef struct ferry_seeding {
    const float *rows; /* [count][dim] */
    int64_t count, units, most;
    int dim;
    float *packed; /* [units][32 * dim] */
    float *half;   /* [units * 32] -|x|^2 / 2, -inf past the end */
    float *near;   /* [units * 32] D^2, 0 past the end */
    float *scores; /* [units][24][32] of the candidates, then their squared distances */
    float *panel;  /* [2][24 * dim] */
    double *sums;  /* [count] running sums of D^2 */
    const ferry_kernels *kernels;
} ferry_seeding;
/** Local. For at most `most` rows. Close with ferry_seeding_close. */
FERRY_API ferry_status ferry_seeding_open(ferry_seeding *out, int64_t most, int dim, const ferry_kernels *kernels);
FERRY_API void ferry_seeding_close(ferry_seeding *seeding);
/** Local. Bytes of it. */
FERRY_API int64_t ferry_seeding_bytes(int64_t most, int dim);
/** Local. centres [most][dim] = up to `most` different ones of rows [count][dim] by greedy D^2 seeding; returns how
 *  many: fewer when there are fewer different rows. */
FERRY_API int ferry_seeding_find(float *centres, ferry_seeding *seeding, const float *rows, int64_t count, int most,
                                 uint64_t seed);
FERRY_END
#endif

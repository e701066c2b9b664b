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
FERRY_END
#endif

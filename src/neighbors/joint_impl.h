/* joint_impl.h - the shared genes of both sets as sparse rows in memory, and sums over cells. */
#ifndef FERRY_JOINT_IMPL_H
#define FERRY_JOINT_IMPL_H
#include "joint.h"
#include "math/krylov.h"

/* One set: its cells dealt by shards, their shared genes. */
typedef struct ferry_joint_side {
    const ferry_world *world;
    ferry_shards shards;
    int64_t cells, here, genes;
    int64_t *start; /* [here + 1] */
    int32_t *gene;  /* [start[here]] ascending in a row */
    float *value;
    double *mean; /* [here] of a cell over the shared genes */
    bool *flat;   /* [here] all of its values are equal: centred, the row is 0 */
} ferry_joint_side;

/* Local. out [here][n] = X u, u [genes][n] */
void ferry_joint_forward(double *out, const ferry_joint_side *side, const double *u, int n);
/* Collective. out [genes + 1][n] = sum over all cells of their row, and in the last place of extra (NULL: 1), times
 * t [here][n]. */
ferry_status ferry_joint_backward(double *out, const ferry_joint_side *side, const double *t, const double *extra,
                                  int n);
/* Collective. Fill dim, query and reference of out. */
ferry_status ferry_joint_pca(ferry_joint *out, ferry_joint_side *query, ferry_joint_side *reference,
                             const ferry_joint_options *options);
ferry_status ferry_joint_cca(ferry_joint *out, ferry_joint_side *query, ferry_joint_side *reference,
                             const ferry_joint_options *options);

#define FERRY_JOINT_TOLERANCE 1e-12 /* of eigenvalues that are squares */
#define FERRY_JOINT_NOTHING   1e-12 /* of the largest: no more than rounding */
#define FERRY_JOINT_PRODUCTS  1000
/* Local. Leading pairs that are more than rounding. */
int ferry_joint_rank(const ferry_eigenpairs *pairs);
#endif

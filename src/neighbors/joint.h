/** joint.h - a common embedding of two sets that share genes but no representation.
 *
 *  pca: principal components of both sets' cells together, on the shared genes, centred. The genes x genes covariance
 *  is never formed, so any number of genes will do. cca: CellMapper 1.6 fast_cca: X_q X_r^T / (g - 1) of rows centred
 *  over genes, n left and right singular vectors without their values, rows scaled to length 1. Cells x cells is never
 *  formed. Both go over the non-zero values of the shared genes, which are kept in memory (8 bytes each). The same bits
 *  for any number of ranks. */
#ifndef FERRY_JOINT_H
#define FERRY_JOINT_H
#include "points.h"
FERRY_BEGIN
typedef enum ferry_joint_method { FERRY_JOINT_NONE = 0, FERRY_JOINT_PCA, FERRY_JOINT_CCA } ferry_joint_method;
typedef struct ferry_joint_options {
    ferry_joint_method method;
    int components;  /* 50 */
    const char *rep; /* of the expression on both sides: "X", "layers/NAME" */
    int64_t memory;  /* bytes per rank; 0: no limit */
    uint64_t seed;
} ferry_joint_options;
typedef struct ferry_joint {
    int dim;                                /* components, fewer when there are fewer genes or cells */
    int64_t genes;                          /* shared */
    int64_t *query_first, *reference_first; /* [ranks + 1] rows held by every rank */
    float *query, *reference;               /* [rows here][dim] */
} ferry_joint;
/** Collective. FERRY_E_FILE: no shared gene names (the message names one of each side). Close with ferry_joint_close.
 */
FERRY_API ferry_status ferry_joint_open(ferry_joint *out, const ferry_world *world, ferry_population *query,
                                        ferry_population *reference, const ferry_joint_options *options);
FERRY_API void ferry_joint_close(ferry_joint *joint);
FERRY_END
#endif

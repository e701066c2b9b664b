/** weights.h - kernels on the edges of a graph, K, row block by row block; M = K / row sums is never whole.
 *
 *  d: distances of valid entries (k a row in self mode, without the cell itself).
 *    gauss             exp(-d^2 / (2 s^2)), s = mean of all d; 1 where all d are 0
 *    scarches          exp(-d std^2 / 4), std = population standard deviation of all d
 *    inverse_distance  1 / (d + 1e-8)
 *    equal             1
 *    umap              (self) fuzzy simplicial set on n = k + 1 columns with the cell itself first (n = k columns
 *                      without self_edges, as CellMapper), K = W + W^T - W W^T elementwise; the diagonal is 0
 *    jaccard           C / (4 k' - C);  C = A_yx A_xx^T + A_yy A_xy^T, A = 0/1, k' = stored neighbours
 *    hnoca             (C / max(2 k' - C, 1))^2, k' = ones a row
 *  In C two sets have k ones a row: A_xx and A_yy the cell itself and its k - 1 nearest (the first k - 1 entries of xx
 *  and yy), A_yx and A_xy the k nearest; one set has k + 1 everywhere, the cell itself and its k nearest.
 *  self_edges: the cell itself with d = 0 (it counts in mean and std); C does not depend on it. umap, jaccard and hnoca
 *  of one set are symmetric as they are. Sums over all rows by canonical blocks: the same bits for any number of ranks.
 */
#ifndef FERRY_WEIGHTS_H
#define FERRY_WEIGHTS_H
#include "graph.h"
FERRY_BEGIN
typedef enum ferry_weight_kernel {
    FERRY_GAUSS = 0,
    FERRY_UMAP,
    FERRY_INVERSE_DISTANCE,
    FERRY_SCARCHES,
    FERRY_EQUAL,
    FERRY_JACCARD,
    FERRY_HNOCA
} ferry_weight_kernel;
typedef enum ferry_symmetrize {
    FERRY_SYMMETRIZE_NONE = 0,
    FERRY_SYMMETRIZE_MAX,
    FERRY_SYMMETRIZE_MEAN
} ferry_symmetrize;

typedef struct ferry_weights_options {
    ferry_weight_kernel kernel;
    ferry_symmetrize symmetrize; /* self mode only */
    bool self_edges;             /* self mode only */
    int64_t sample;              /* > 0: mean and std from so many rows (chosen by counting); 0: from all */
    uint64_t seed;
    int64_t memory; /* bytes per rank for transposed edges; more goes to folder */
    const char *folder;
    int threads; /* OpenMP threads of this rank; 0: 1 */
} ferry_weights_options;

/** The graphs of a cross mapping; x reference, y query. Self mode and kernels of one hop: yx only, the others NULL. */
typedef struct ferry_weights_graphs {
    ferry_graph *yx, *xx, *yy, *xy;
} ferry_weights_graphs;

typedef struct ferry_weights {
    int64_t rows, columns;
    ferry_blocks blocks; /* dealt as the graph's (graph.h) */
    int64_t rounds;
    double mean, deviation; /* of the distances */
    struct ferry_weights_store *store;
} ferry_weights;

/** Rows of K of one block; arrays are the weights' until the next call. */
typedef struct ferry_weights_block {
    int64_t first, rows;
    const int64_t *indptr; /* [rows + 1] from 0 */
    const uint32_t *cell;  /* ascending in each row */
    const double *weight;
    const double *sum; /* [rows] of the weights */
} ferry_weights_block;

/** Collective. The graphs are finished, and stay open as long as the weights. FERRY_E_ARG: umap, symmetrize or
 *  self_edges with two sets; jaccard and hnoca without the four graphs. Close with ferry_weights_close. */
FERRY_API ferry_status ferry_weights_open(ferry_weights *out, const ferry_world *world,
                                          const ferry_weights_graphs *graphs, const ferry_weights_options *options);
FERRY_API void ferry_weights_close(ferry_weights *weights);
/** Collective. Round 0 ... rounds - 1, any round at any time. */
FERRY_API ferry_status ferry_weights_take(ferry_weights_block *out, ferry_weights *weights, const ferry_world *world,
                                          int64_t round);
/** Local. Bytes per rank in memory when the transposed edges are kept there too, for evenly spread neighbours; 12 bytes
 *  an edge of them. rows: of the larger set. */
FERRY_API int64_t ferry_weights_bytes(int64_t rows, int k, int ranks, ferry_weight_kernel kernel,
                                      ferry_symmetrize symmetrize);
/** Local. Of these, the transposed edges: what options.memory may do without. */
FERRY_API int64_t ferry_weights_edge_bytes(int64_t rows, int k, int ranks, ferry_weight_kernel kernel,
                                           ferry_symmetrize symmetrize);

/** Collective. obsp/distances, obsp/connectivities (umap of k + 1 columns with the cell itself) and uns/neighbors of an
 *  open AnnData output, as scanpy writes them. rep: key of obsm for use_rep, NULL to leave it out. metric: "euclidean",
 *  "cosine". */
FERRY_API ferry_status ferry_weights_write_graph(ferry_graph *graph, const ferry_world *world, ferry_output *output,
                                                 const char *rep, const char *metric, uint64_t seed, int64_t memory,
                                                 const char *folder);
FERRY_END
#endif

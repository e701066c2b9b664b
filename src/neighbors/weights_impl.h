/* weights_impl.h - what the kernels share: rows dealt by canonical blocks, transposed edges, the state of a walk. */
#ifndef FERRY_WEIGHTS_IMPL_H
#define FERRY_WEIGHTS_IMPL_H
#include "io/scratch.h"
#include "weights.h"

/* Rows dealt by canonical blocks, block b to rank b mod size (graph.h). Keys number the rows rank by rank, as
 * mpi/fetch.h wants them. */
typedef struct ferry_deal {
    ferry_blocks blocks;
    int rank, size;
    int64_t mine;    /* blocks of this rank: its rounds with rows */
    int64_t *row;    /* [mine + 1] rows of this rank before each of its blocks */
    int64_t *key;    /* [blocks.count] key of the first row of every block */
    int64_t *first;  /* [size + 1] first key of every rank */
    int64_t longest; /* rows of a block, at most */
} ferry_deal;
ferry_status ferry_deal_open(ferry_deal *out, int64_t rows, const ferry_world *world);
void ferry_deal_close(ferry_deal *deal);
/* The block of a row. */
int ferry_deal_block(const ferry_deal *deal, int64_t row);
/* Rows of a block, at most. */
int64_t ferry_deal_longest(const ferry_blocks *blocks);

/* An edge seen from its end. */
typedef struct ferry_edge {
    uint32_t row;  /* in its block */
    uint32_t from; /* the cell it starts at */
    float value;
} ferry_edge;

/* Edges at their ends: for every column of a graph the rows that name it, by blocks of columns. */
typedef struct ferry_transpose {
    ferry_deal deal;        /* of the columns */
    int64_t *bucket;        /* [mine + 1] edges before each block of this rank */
    int64_t *filled;        /* [mine] */
    int64_t *start;         /* [rows here + 1] edges before each row of this rank */
    ferry_edge *held;       /* all of them, or */
    ferry_scratch *scratch; /* a bucket a block */
    ferry_edge *read;       /* [room] of one block or row */
    int64_t room;
} ferry_transpose;

/* Which edges: the first `most` entries of every row, with their distance or a value of their own. */
typedef struct ferry_edges {
    ferry_graph *graph;
    int most;
    /* Local. value [rows][graph->k] of a block; NULL: the distances */
    ferry_status (*values)(void *self, float *value, const ferry_graph_block *block, int64_t round);
    void *self;
} ferry_edges;

/* Collective. Two walks: count, deliver. memory: bytes for edges of this rank; more go to a file in folder. Close also
 * after a failure. */
ferry_status ferry_transpose_open(ferry_transpose *out, const ferry_world *world, const ferry_edges *edges,
                                  int64_t memory, const char *folder);
void ferry_transpose_close(ferry_transpose *transpose);
/* Local. Edges of this rank's block of a round, by (row, from), until the next call: those of row i of the block are
 * edges[start[i] - start[0]] ... [start[i + 1] - start[0] - 1]. */
ferry_status ferry_transpose_block(const ferry_edge **edges, const int64_t **start, ferry_transpose *transpose,
                                   int64_t round);
/* Local. Edges of one row of this rank, until the next call. */
ferry_status ferry_transpose_row(const ferry_edge **edges, ferry_transpose *transpose, int64_t row);

/* Bytes of the edges on their way, sorted and received. */
#define FERRY_DELIVERY       ((int64_t)1 << 18) /* edges that a rank sends at a time */
#define FERRY_DELIVERY_BYTES (FERRY_DELIVERY * 4 * 16)

/* Is entry e of a row there? */
static inline bool ferry_entry(const ferry_graph_block *block, int64_t e)
{
    return block->cell[e] != UINT32_MAX && block->distance[e] < __builtin_inff();
}

/* A cell and a distance, or a membership. */
typedef struct ferry_link {
    uint32_t cell;
    float value;
} ferry_link;

/* What the membership of a row is made of (weights_umap.c). */
typedef struct ferry_smooth {
    float rho, sigma;
} ferry_smooth;
/* distance [count] of the neighbours; own: the cell itself, at distance 0, is the first column. mean: of all. */
ferry_smooth ferry_smooth_row(const float *distance, int count, bool own, double mean);
float ferry_membership(float distance, ferry_smooth smooth);

struct ferry_two_hop;
struct ferry_weights_store {
    ferry_weights_options options;
    ferry_graph *graph; /* yx */
    int threads;
    ferry_deal deal; /* of the rows */
    double factor;   /* of the exponent of gauss and scarches */
    bool both;       /* transposed edges take part */
    ferry_transpose incoming;
    ferry_smooth *smooth; /* [rows here] of umap */
    struct ferry_two_hop *hop;
    /* the block handed out */
    int64_t *indptr, *count; /* [longest + 1] */
    double *sum;
    uint32_t *cell; /* [room] */
    double *weight;
    int64_t room;
    ferry_link *line; /* [threads][k + 1] */
};

/* Local. Room for `entries` in cell and weight, of which `kept` stay. */
ferry_status ferry_weights_room(struct ferry_weights_store *store, int64_t kept, int64_t entries);
/* Weight of an edge of a one-hop kernel; the value of umap is its weight. */
double ferry_weight_of(const struct ferry_weights_store *store, float value);

/* One row of the union of own [n] and incoming [m] edges, both ascending. Returns its entries. */
int64_t ferry_symmetric_row(uint32_t *cell, double *weight, const struct ferry_weights_store *store, int64_t row,
                            const ferry_link *own, int64_t n, const ferry_edge *in, int64_t m);

/* jaccard and hnoca (weights_jaccard.c). Collective: open and take; take fills indptr, cell and weight. */
ferry_status ferry_two_hop_open(struct ferry_two_hop **out, const ferry_world *world,
                                const ferry_weights_graphs *graphs, const ferry_weights_options *options);
void ferry_two_hop_close(struct ferry_two_hop **hop);
ferry_status ferry_two_hop_take(int64_t *rows, struct ferry_weights_store *store, const ferry_world *world,
                                int64_t round);
#endif

/* graph_impl.h - where the rows of a graph are: in memory, or in buckets of consecutive blocks in a scratch file. */
#ifndef FERRY_GRAPH_IMPL_H
#define FERRY_GRAPH_IMPL_H
#include "graph.h"
#include "io/scratch.h"

struct ferry_graph_store {
    int64_t *start; /* [blocks here + 1] rows of this rank before each of its blocks */
    int64_t blocks; /* of this rank */
    uint64_t *seen; /* one bit per row here: it has come */
    int64_t came;
    bool finished;
    uint32_t *cell;          /* [rows here][k]; on disk: of the bucket that is loaded */
    float *distance;         /* likewise */
    ferry_scratch *scratch;  /* NULL: all is in memory */
    int64_t per_bucket;      /* blocks of a bucket */
    int64_t buckets, loaded; /* loaded -1: none */
};

/* Local. Rows of the largest block. */
int64_t ferry_graph_block_most(const ferry_blocks *blocks);
#endif

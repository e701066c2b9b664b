/** graph.h - the k nearest of every row, in file order, dealt to the ranks by canonical blocks: block b of the rows
 *  (ferry_blocks_of(rows, FERRY_TARGET_UNIT)) belongs to rank b mod size. Round t of a walk hands out blocks
 *  t size ... t size + size - 1, one per rank, which are consecutive rows in rank order: what sinks want (io/write.h).
 *  In memory, or in a scratch file of each rank. */
#ifndef FERRY_GRAPH_H
#define FERRY_GRAPH_H
#include "io/write.h"
#include "mpi/memory.h"
#include "mpi/shard.h"
FERRY_BEGIN
typedef struct ferry_graph {
    int64_t rows, columns; /* queries, reference cells */
    int k;                 /* entries of a row; fewer exist: -1 and +inf at its end */
    bool self;             /* rows and columns are the same cells; no row holds itself */
    ferry_blocks blocks;
    int rank, size;                  /* of the world it was opened in */
    int64_t rounds;                  /* of a walk: ceil(blocks.count / size) */
    struct ferry_graph_store *store; /* opaque */
} ferry_graph;

/** Collective. memory: bytes per rank it may keep; more goes to a scratch file in folder. Close with
 *  ferry_graph_close. */
FERRY_API ferry_status ferry_graph_open(ferry_graph *out, const ferry_world *world, int64_t rows, int64_t columns,
                                        int k, bool self, int64_t memory, const char *folder);
FERRY_API void ferry_graph_close(ferry_graph *graph);
/** Local. Bytes per rank in memory when all is kept, and the least with a scratch file. */
FERRY_API int64_t ferry_graph_bytes(int64_t rows, int k, int ranks);
FERRY_API int64_t ferry_graph_least(int64_t rows, int k, int ranks);

/** Finished rows, in any order: row [count], cell [count][k] (UINT32_MAX: none), distance [count][k]. */
typedef struct ferry_graph_rows {
    int64_t count;
    const uint32_t *row, *cell;
    const float *distance;
} ferry_graph_rows;
/** Collective. Rows of this rank go to the ranks that own them. Every row once in all. */
FERRY_API ferry_status ferry_graph_put(ferry_graph *graph, const ferry_world *world, const ferry_graph_rows *rows);
/** Collective. All rows are there (checked); walks may begin. */
FERRY_API ferry_status ferry_graph_finish(ferry_graph *graph, const ferry_world *world);

/** One block of a walk; arrays are the graph's until the next call. */
typedef struct ferry_graph_block {
    int64_t first, rows;   /* 0 rows: this rank has none in this round */
    const uint32_t *cell;  /* [rows][k], UINT32_MAX: none */
    const float *distance; /* [rows][k] */
} ferry_graph_block;
/** Local. This rank's block of round 0 ... rounds - 1. */
FERRY_API ferry_status ferry_graph_take(ferry_graph_block *out, ferry_graph *graph, int64_t round);

/** Collective. obsm/neighbors int64 and obsm/distances float32 of an open AnnData output; the first has attributes
 *  columns and self. */
FERRY_API ferry_status ferry_graph_write(ferry_graph *graph, const ferry_world *world, ferry_output *output);
/** Collective. From a file: obsm/neighbors and obsm/distances of a result of ours (key NULL), or obsp/KEY: a square CSR
 *  matrix of distances, rows sorted by (distance, cell), without the diagonal and entries that are not finite, cut or
 *  padded to k. k 0: as long as the rows are (of obsp: the longest). The graph is finished. FERRY_E_FILE says what is
 *  wrong with the file; FERRY_E_ARG: a result of ours with fewer than k. */
FERRY_API ferry_status ferry_graph_read(ferry_graph *out, const ferry_world *world, const char *path, const char *key,
                                        int k, int64_t memory, const char *folder);
FERRY_END
#endif

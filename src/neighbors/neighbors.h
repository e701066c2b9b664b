/** neighbors.h - neighbours of every cell from points to graph: train, build, search; and what it costs, beforehand. */
#ifndef FERRY_NEIGHBORS_H
#define FERRY_NEIGHBORS_H
#include "index_file.h"
#include "search_codes.h"
FERRY_BEGIN
typedef struct ferry_neighbors_options {
    int k; /* 30 */
    ferry_search_metric metric;
    bool exact;
    double recall;         /* 0.99: the setting is found by measuring; NAN with probes or reach by hand */
    int64_t lists, probes; /* by hand; 0: chosen */
    double reach;          /* by hand; 0: not */
    int64_t rerank;        /* of an index with codes: candidates for each neighbour; 0: FERRY_RERANK */
    int64_t memory;        /* bytes per rank for all of it */
    const char *folder;    /* scratch files */
    int64_t batch;
    uint64_t seed;
    int threads;
    const ferry_kernels *kernels;
} ferry_neighbors_options;

/** What is settled before any work, from numbers alone: neighbors_plan.c has the formulas. */
typedef struct ferry_neighbors_phase {
    char name[24]; /* train, assign, place, tune, search, write, graph: the names of the run's stages */
    int64_t rows;  /* of the rank with most */
    int64_t bytes; /* memory of that rank while it lasts */
    int64_t read_bytes, written_bytes, sent_bytes; /* of all ranks */
    double flops, seconds;                         /* of the rank with most; an estimate */
} ferry_neighbors_phase;
#define FERRY_NEIGHBORS_PHASES 12
typedef struct ferry_neighbors_plan {
    bool reference_held, queries_held, graph_held; /* in memory, else on disk */
    int64_t lists, batch, bytes;                   /* bytes per rank at the largest phase */
    /* Bytes per rank for: training; building lists; caches of lists on disk (reference, queries); buffers of the
       search; the graph; edges of the umap kernel. */
    int64_t train, build, cache, query_cache, work, graph, edges;
    int64_t scratch; /* bytes on disk, all ranks */
    int phases;
    ferry_neighbors_phase phase[FERRY_NEIGHBORS_PHASES];
} ferry_neighbors_plan;
typedef struct ferry_neighbors_sizes {
    int64_t queries, reference; /* self: equal */
    int dim;
    bool self, stored;                /* stored: the reference comes as an index */
    bool index;                       /* lists are all that is wanted: no search, no graph */
    int64_t lists;                    /* of a stored index; else 0 */
    int codes;                        /* of a stored index: bytes of a row's code; 0: whole vectors */
    int64_t query_row, reference_row; /* bytes of a row in its file; 0: float32 */
    int64_t write_bytes;              /* of the results, all ranks, beside the graph's arrays */
    bool weights;                     /* obsp is written too */
    bool copies;                      /* the queries' representation is copied into the result */
    int64_t base;                     /* bytes per rank before any work */
    int ranks, nodes;
} ferry_neighbors_sizes;
/** Local. FERRY_E_PLAN when it does not fit: how much is needed and which option to lower. */
FERRY_API ferry_status ferry_neighbors_layout(ferry_neighbors_plan *out, const ferry_neighbors_sizes *sizes,
                                              const ferry_neighbors_options *options);

typedef struct ferry_neighbors_report {
    ferry_neighbors_plan plan;
    ferry_search_counts counts;
    ferry_recall recall;   /* as measured on a sample; sample 0: not measured (exact) */
    ferry_visit_rule rule; /* of the search, with its setting: */
    double reach;
    int64_t probes;
    int64_t lists, trained;
    double distortion;
    int codes;                 /* bytes of a row's code; 0: whole vectors */
    int64_t rerank;            /* candidates for each neighbour */
    double ceiling;            /* recall that more probes do not raise; NaN: not measured */
    double search_cpu_seconds; /* of all ranks and threads */
} ferry_neighbors_report;

/** A reference made ready for searches: trained and built, or a stored index. It may not be moved. */
typedef struct ferry_reference {
    ferry_index index; /* quantizer and lists in both cases */
    bool stored;
    const ferry_points *points; /* set by the caller when the index has codes: what it was made of, borrowed */
} ferry_reference;
/** Collective. points: the reference's cells; or index_path (points may be NULL then). Close with
 *  ferry_reference_close. */
FERRY_API ferry_status ferry_reference_open(ferry_reference *out, const ferry_world *world, const ferry_points *points,
                                            const char *index_path, const ferry_neighbors_options *options,
                                            const ferry_neighbors_plan *plan);
FERRY_API void ferry_reference_close(ferry_reference *reference, const ferry_world *world);
/** Collective. graph [queries' rows]: opened here, closed by the caller. queries NULL: the reference's own cells,
 * without themselves. */
FERRY_API ferry_status ferry_neighbors(ferry_graph *graph, ferry_neighbors_report *report, const ferry_world *world,
                                       const ferry_points *queries, ferry_reference *reference,
                                       const ferry_neighbors_options *options, const ferry_neighbors_plan *plan);
FERRY_END
#endif

/** search_codes.h - the k nearest reference cells of every query by the codes of an index (codes.h), decided by the
 *  reference's own vectors.
 *
 *  Every query looks into the lists with the nearest centroids, `probes` of them, and further ones while they hold
 * fewer than k cells. Of all cells in them the rerank k with the smallest |q - c - r| are candidates (equal ones by
 * their number); their vectors are read from the reference's file, batch of queries by batch, each row once a batch in
 *  ascending order, and the k nearest by (float64 distance, cell) are the answer. It depends on the index, k, probes
 * and rerank alone: not on ranks, threads or memory. */
#ifndef FERRY_SEARCH_CODES_H
#define FERRY_SEARCH_CODES_H
#include "index_file.h"
#include "search.h"
FERRY_BEGIN
#define FERRY_RERANK 10 /* candidates for each neighbour, when not said */

typedef struct ferry_codes_options {
    int k;
    bool self;      /* queries are the reference's own cells: a query is not its own neighbour */
    int64_t probes; /* 0 for tuning: to be found */
    int64_t rerank; /* 0: FERRY_RERANK */
    int64_t memory; /* bytes per rank for a batch of queries */
    uint64_t seed;  /* of the sample */
    int threads;
} ferry_codes_options;

/** Collective. Results go to graph (opened by the caller, finished here). reference: the points that the index was made
 *  of. */
FERRY_API ferry_status ferry_codes_search(ferry_graph *graph, ferry_search_counts *counts, const ferry_world *world,
                                          const ferry_points *queries, const ferry_points *reference,
                                          const ferry_index *index, const ferry_codes_options *options);
/** Collective. The fewest probes with a mean recall of at least `recall` on a sample of the queries; the true
 * neighbours of the sample are found in one pass over the reference, which shows too whether it is what the index was
 * made of (FERRY_E_FILE). *ceiling = the recall with the most probes that are tried, which more of them do not raise
 * much; when `recall` is above it, the setting is the cheapest that comes within 0.001 of it. options->probes given:
 * that setting is measured, and *ceiling is NaN. The same for any number of ranks. */
FERRY_API ferry_status ferry_codes_tune(ferry_recall *out, double *ceiling, const ferry_world *world,
                                        const ferry_points *queries, const ferry_points *reference,
                                        const ferry_index *index, const ferry_codes_options *options, double recall,
                                        int64_t sample);
/** Local. Bytes per rank at the least, and of one more query in a batch. */
FERRY_API int64_t ferry_codes_least(int dim, int k, int64_t rerank, int64_t lists, int threads);
FERRY_API int64_t ferry_codes_query_bytes(int dim, int k, int64_t rerank);
FERRY_END
#endif

/** search.h - the k nearest reference cells of every query, list by list.
 *
 *  Queries of one list are searched together: their own list first (and the next nearest until k cells are seen), which
 *  gives tau_0, then the lists that they must or may visit, each a small product of matrices.
 *    exact:   every list whose bound (ball, bisector; scan.h) is below tau, which only falls: a proof.
 *    reach a: lists whose bound is below a tau_0, fixed before the first of them is visited.
 *    probes:  the given number of lists nearest to the query.
 *  The last two look at the max(1024, 8 probes) lists nearest to the query's own. What is found is decided by (float64
 *  distance, cell), so results depend on the lists alone: not on ranks, threads, memory or the order of visits. */
#ifndef FERRY_SEARCH_H
#define FERRY_SEARCH_H
#include "graph.h"
#include "lists.h"
FERRY_BEGIN
typedef enum ferry_visit_rule { FERRY_VISIT_EXACT = 0, FERRY_VISIT_REACH, FERRY_VISIT_PROBES } ferry_visit_rule;
typedef struct ferry_search_options {
    int k;
    bool self; /* queries and reference are the same cells: a query is not its own neighbour */
    ferry_visit_rule rule;
    double reach; /* 0 < a <= 1 */
    int64_t probes;
    int64_t memory; /* bytes per rank for buffers and results on their way */
    int threads;
} ferry_search_options;

typedef struct ferry_search_counts { /* of all ranks */
    int64_t queries, lists, pairs;   /* visits of lists by queries; distances */
    int64_t kept, resolved, slots;   /* candidates, ties resolved; places in the tiles, of which `pairs` are used */
} ferry_search_counts;

/** Collective. queries and reference have the same quantizer; in self mode they may be the same object. Queries are cut
 *  in chunks by their number alone; ranks take turns with chunks when both lists are held, else a rank has a run of
 *  equal cost. Results go to graph (opened by the caller, finished here). The counts are the same for any number of
 * ranks and threads; they depend on the chunks, which the answer does not. */
FERRY_API ferry_status ferry_search(ferry_graph *graph, ferry_search_counts *counts, const ferry_world *world,
                                    const ferry_lists *queries, const ferry_lists *reference,
                                    const ferry_search_options *options);
/** Local. Bytes per rank at the least. */
FERRY_API int64_t ferry_search_least(int dim, int k, int64_t lists, int threads);

/** Recall of a setting on a sample of the queries, against exact search. */
typedef struct ferry_recall {
    int64_t sample;        /* queries */
    double mean;           /* of the share of the k true neighbours that are found */
    double quantile[3];    /* 1 %, 5 %, 10 % of the queries are at most this good */
    double below_half;     /* share of queries with less than half of their neighbours */
    double pairs;          /* mean number of distances of a query, as a share of the reference */
    ferry_visit_rule rule; /* with the setting that was measured */
    double reach;
    int64_t probes;
} ferry_recall;
/** Collective. The cheapest setting (fewest distances; reach or probes) whose mean recall on a sample of `sample`
 *  queries is at least `recall`; the sample is searched exactly, and the rank and the bound of each true neighbour's
 *  list tell what every setting would find. The same for any number of ranks. With options->rule other than exact:
 * measures that setting. recall above what the approximate rules reach: rule exact. */
FERRY_API ferry_status ferry_recall_tune(ferry_recall *out, const ferry_world *world, const ferry_lists *queries,
                                         const ferry_lists *reference, const ferry_search_options *options,
                                         double recall, int64_t sample, uint64_t seed);
FERRY_END
#endif

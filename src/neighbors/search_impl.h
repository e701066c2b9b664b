/* search_impl.h - one thread's part of a search: a chunk of queries, the lists around theirs, and the lists to visit.
 *
 * A chunk is a run of queries in list order; the queries of one list in it are a segment. The larger it is, the more of
 * its queries visit the same list while that is in the core's cache. Chunks are cut by the number of queries alone, so
 * what is visited in which order is the same for any number of ranks and threads. */
#ifndef FERRY_SEARCH_IMPL_H
#define FERRY_SEARCH_IMPL_H
#include "search.h"

#define CHUNK      1536 /* queries that are searched together, at most */
#define CHUNKS     64   /* that a small set of queries is cut in */
#define PANEL      FERRY_SOURCE_UNIT
#define UNIT       FERRY_TARGET_UNIT
#define LOOKED     1024 /* lists around a query's own that the approximate rules look at, at least */
#define BATCH      2048 /* lists whose centroids the exact rule scores at a time */
#define NEARBY     8192 /* lists around one whose gaps are kept, at least */
#define FIRST_MOST (FERRY_MOST_NEIGHBORS + 2) /* lists that are scanned unconditionally */
#define VISITS     98304                      /* visits that are collected before they are made */

/* What all threads share. */
typedef struct ferry_search_job {
    const ferry_lists *queries, *reference;
    const ferry_search_options *options;
    const ferry_quantizer *quantizer;
    const ferry_scans *scans;
    int dim, k;     /* k: neighbours looked for, with the query itself in self mode */
    int chunk;      /* queries of a chunk */
    double error;   /* (dim + 8) u of scan.h */
    int64_t looked; /* lists that the approximate rules look at */
    int64_t nearby; /* lists whose gaps are kept */
    float *widest;  /* [supers] largest radius of a list of it */
} ferry_search_job;

/* The lists around one list. */
typedef struct ferry_near {
    int64_t of;     /* the list in the middle; -1: none */
    bool complete;  /* every list that holds rows is there */
    int64_t count;  /* lists with rows, in ascending order */
    int32_t *list;  /* [nearby] */
    float *gap;     /* [nearby] |c - c_j|, rounded up */
    float *keys;    /* [nearby] room for selecting */
    int64_t firsts; /* scanned unconditionally, */
    int32_t first[FIRST_MOST];
    float first_gap[FIRST_MOST];
    double *away;   /* [supers] |c - s|, when the lists are not complete */
    int32_t *order; /* [supers] by it */
} ferry_near;

/* Lists whose centroids are scored together, as scan.h's visits wants them. */
typedef struct ferry_coarse {
    int64_t of; /* they are the lists that approximate rules look at around this one; -1: not */
    bool all;   /* every list that holds rows: only gap and radius differ from list to list */
    int64_t count, units, room;
    int32_t *list;
    float *gap, *radius, *norm, *half, *packed, *scores;
    int32_t *found; /* [room + 16] what a query has to visit, with */
    float *distance, *bound;
} ferry_coarse;

/** A list that a query has to visit. */
typedef struct ferry_visit {
    int32_t slot, query;
    float distance; /* to the centroid; below 0: not known, the whole list is scanned */
    float bound;    /* bisector bound */
} ferry_visit;
typedef struct ferry_visit_slot {
    float key; /* nearest first */
    int32_t list;
    int64_t first, count; /* visits */
} ferry_visit_slot;

/* A query of the list that is visited: distances to its centroid of the rows that it needs; key >= 0 for sorting. */
typedef struct ferry_need {
    float low, high, key;
    int32_t query;
} ferry_need;

/* A neighbour of the answer. */
typedef struct ferry_answer {
    double distance; /* squared, or the cosine distance */
    uint32_t cell, position;
} ferry_answer;

/* One thread. */
typedef struct ferry_searcher {
    const ferry_search_job *job;
    ferry_status status; /* of resolving inside a scan */
    /* the chunk */
    int count, segments;
    struct {
        int64_t list;
        int first, count;
    } segment[CHUNK];
    float *raw, *rows;                /* [chunk][dim] as in the file; prepared */
    uint32_t *cell;                   /* [chunk] */
    float *norm2, *norm, *own, *away; /* [chunk] |q|^2, |q|, score of and distance to its own list */
    float *tau0;                      /* [chunk] k-th distance after the first lists */
    ferry_candidates found;
    ferry_near near;
    ferry_coarse coarse;
    float *panel; /* [24 * dim] */
    /* what to visit */
    int64_t visits;
    ferry_visit *visit, *sorted; /* [VISITS + 24 * coarse.room] */
    int64_t slots;
    int32_t *slot_of; /* [lists] -1: none */
    ferry_visit_slot *slot;
    /* the queries of the list that is visited, in the order of its panels */
    ferry_need need[CHUNK + 1];
    int32_t query[CHUNK];
    float low[CHUNK], high[CHUNK];
    /* the answer */
    uint64_t *places, *spare; /* position, query, number; before: order of the slots */
    ferry_answer *kept;       /* [chunk][FERRY_CANDIDATE_ROOM] ascending after ferry_searcher_finish */
    int answers[CHUNK];
    int64_t lists, pairs, places_used; /* counters */
} ferry_searcher;

/* --- search_group.c --- */

/* Local. Checks the options against the lists; chunks for so many queries. Close with ferry_search_job_close. */
ferry_status ferry_search_job_open(ferry_search_job *out, const ferry_lists *queries, const ferry_lists *reference,
                                   const ferry_search_options *options, int64_t count);
void ferry_search_job_close(ferry_search_job *job);
/* Local. One thread's arrays; close also after a failure. */
ferry_status ferry_searcher_open(ferry_searcher *out, const ferry_search_job *job);
void ferry_searcher_close(ferry_searcher *searcher);
/* Local. With chunks of `chunk` queries. */
int64_t ferry_searcher_bytes(int dim, int64_t lists, int64_t looked, int64_t nearby, int64_t chunk);
/* Local. The chunk is rows row[0 ... count - 1] of the queries' list order, ascending (NULL: first, first + 1, ...). */
ferry_status ferry_searcher_load(ferry_searcher *searcher, const uint32_t *row, int64_t first, int count);
/* Local. Searches the chunk; kept and answers have its k nearest, at most, without the query itself in self mode. */
ferry_status ferry_searcher_run(ferry_searcher *searcher, ferry_visit_rule rule);
/* Local. Makes the visits that are collected. */
ferry_status ferry_searcher_visit(ferry_searcher *searcher);
/* Local. places [count] ascending by the upper 32 bits, equal ones in their order; returns which of the two arrays has
 * them. */
uint64_t *ferry_sort_places(uint64_t *places, uint64_t *spare, int64_t count);

/* --- search_visits.c --- */

/* Local. The lists around `list`, and which of them are scanned unconditionally. */
void ferry_near_find(ferry_searcher *searcher, int64_t list);
/* Local. The lists that the approximate rules look at around near.of. */
void ferry_coarse_looked(ferry_searcher *searcher);
/* Local. Scores of queries first ... first + count - 1 (<= 24) of the chunk with the coarse lists. */
void ferry_coarse_score(ferry_searcher *searcher, int first, int count);
/* Local. What these visits are (scan.h). */
ferry_visits ferry_coarse_visits(const ferry_searcher *searcher, bool bisector);
/* Local. Collects the first lists of a segment; makes visits when there are too many. */
ferry_status ferry_visit_first(ferry_searcher *searcher, int segment);
/* Local. Collects what a segment has to visit besides; makes visits when there are too many. */
ferry_status ferry_visit_collect(ferry_searcher *searcher, int segment, ferry_visit_rule rule);
#endif

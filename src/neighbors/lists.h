/** lists.h - cells in list order: the inverted lists of a reference, or the queries grouped by their list.
 *
 *  Rows of a list are ordered by (distance to its centroid, cell). They are held once per node in shared memory, or lie
 *  in a scratch file or a stored index that every rank reads, with a cache of the lists in use: then a rank owns a run
 * of lists, reads them in cell order, and takes its neighbours' lists from the same file. */
#ifndef FERRY_LISTS_H
#define FERRY_LISTS_H
#include "quantizer.h"
FERRY_BEGIN
#define FERRY_LIST_PART 8192 /* rows of a list that are in use at a time, at most */

typedef struct ferry_lists {
    const ferry_quantizer *quantizer; /* borrowed */
    int64_t rows;                     /* below 2^32 - 1 */
    int64_t lists;
    int64_t *first; /* [lists + 1] row numbers in list order */
    float *radius;  /* [lists] largest distance of a member to its centroid, rounded up; -inf when empty */
    bool exact;     /* every row is in its truly nearest list: the bisector bound holds */
    bool held;      /* in memory, once per node */
    struct ferry_lists_store *store; /* opaque */
} ferry_lists;

/** A run of rows of one list, in memory until it is dropped. */
typedef struct ferry_list_part {
    int64_t first, count;  /* rows in list order */
    int64_t units;         /* of 32 */
    const float *packed;   /* [units][32 * dim] prepared (centred, scaled for cosine) */
    const float *beta;     /* [units * 32] -|x|^2 / 2, -inf past the end */
    const float *distance; /* [count] to the centroid, ascending */
    const float *rows;     /* [count][dim] as in the file */
    const uint32_t *cell;  /* [count] row number in the points */
    void *hold;
} ferry_list_part;

typedef struct ferry_lists_options {
    bool exact;         /* exact assignment */
    bool held;          /* once per node in memory; else on disk */
    const char *folder; /* for scratch files; a folder that all ranks see when nodes > 1. NULL: TMPDIR or /tmp */
    int64_t memory;     /* bytes per rank for building; and for the cache of lists that are not held, when */
    int64_t cache;      /* it has no bytes of its own; 0: as for building */
    int64_t batch;      /* rows read at a time per rank; 0: chosen from memory */
    int threads;
    bool keep_rows;   /* false: `rows` of the parts stays NULL (queries need no rows in the file's form when the
                         search resolves from prepared ones - leave true) */
    const char *what; /* "reference", "queries": for progress */
} ferry_lists_options;

/** Collective. Two passes over the points in row blocks: assign and count; read again and place. close with
 *  ferry_lists_close. Progress is shown. */
FERRY_API ferry_status ferry_lists_build(ferry_lists *out, const ferry_world *world, const ferry_quantizer *quantizer,
                                         const ferry_points *points, const ferry_lists_options *options);
FERRY_API void ferry_lists_close(ferry_lists *lists, const ferry_world *world);
/** Local. Bytes per rank: held lists (its share of the node's), or the smallest cache that works. */
FERRY_API int64_t ferry_lists_held_bytes(int64_t rows, int64_t lists, int dim, int ranks_per_node);
FERRY_API int64_t ferry_lists_cache_least(int dim, int threads);

/** Local. Number of parts of a list: 0 when empty. */
static inline int64_t ferry_list_parts(const ferry_lists *lists, int64_t list)
{
    return (lists->first[list + 1] - lists->first[list] + FERRY_LIST_PART - 1) / FERRY_LIST_PART;
}
/** Local, thread-safe. Part `part` of a list (rows part * FERRY_LIST_PART ... of it), read if it is not in memory. Each
 *  thread holds at most two parts at a time. */
FERRY_API ferry_status ferry_lists_take(ferry_list_part *out, const ferry_lists *lists, int64_t list, int64_t part);
FERRY_API void ferry_lists_drop(const ferry_lists *lists, ferry_list_part *part);
/** Local. The list that holds a row of list order. */
FERRY_API int64_t ferry_lists_of_row(const ferry_lists *lists, int64_t row);
/** Local. Counters since the opening: parts read from disk, found in the cache. */
FERRY_API void ferry_lists_traffic(const ferry_lists *lists, int64_t *read, int64_t *found);
FERRY_END
#endif

/* lists_build_impl.h - what building lists in memory and on disk have in common (lists_build.c, lists_spill.c). */
#ifndef FERRY_LISTS_BUILD_IMPL_H
#define FERRY_LISTS_BUILD_IMPL_H
#include "lists_impl.h"
#include "io/scratch.h"

/* A row on its way; dim floats follow. */
typedef struct ferry_lists_record {
    int32_t list;
    uint32_t cell;
    float distance;
} ferry_lists_record;

typedef struct ferry_lists_build_state ferry_lists_build_state;
struct ferry_lists_build_state {
    ferry_lists *out;
    const ferry_world *world;
    const ferry_quantizer *quantizer;
    const ferry_points *points;
    const ferry_lists_options *options;
    int dim;
    int64_t lists;
    size_t record;         /* bytes of a row on its way */
    int64_t begin, count;  /* rows of this rank */
    int64_t batch, rounds; /* rows of a round; rounds of every rank */
    bool keep;             /* the rows stay in memory from pass to pass: */
    float *kept;           /* [count][dim] */
    int32_t *list;         /* [count] of pass 1 */
    float *distance;       /* [count] */
    int64_t *sizes;        /* [lists] rows */
    double *widest;        /* [lists] largest distance */
    int64_t *cut;          /* [ranks + 1] rank r owns lists cut[r] ... */

    /* pass 2 */
    int64_t most; /* records from one rank to another at a time */
    char *send, *recv;
    int32_t *order;
    int64_t *start, *send_counts, *recv_counts;
    ferry_status (*place)(ferry_lists_build_state *b, const char *records, int64_t count); /* Local */
    int64_t *filled;  /* held: [own lists] rows that have come */
    float *kept_rows; /* held without rows: [own rows][dim] for the time of building */

    /* on disk: bucket k holds lists bucket[k] ... bucket[k + 1] - 1 */
    ferry_scratch *scratch;
    int64_t buckets, *bucket;
    int64_t bucket_first; /* of this rank */
    int64_t bucket_count;
};

void ferry_lists_progress(const ferry_lists_build_state *b, const char *doing, int64_t done, int64_t total);
/* Collective. Pass 2 into a scratch file, ordered there, and a cache over it. send: pass 2 with b->place. */
ferry_status ferry_lists_spill(ferry_lists_build_state *b);
ferry_status ferry_lists_send(ferry_lists_build_state *b);
#endif

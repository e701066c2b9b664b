/* search_codes_impl.h - one thread's way through codes, for the search and for its recall. */
#ifndef FERRY_SEARCH_CODES_IMPL_H
#define FERRY_SEARCH_CODES_IMPL_H
#include "lists_impl.h"
#include "search_codes.h"

#define PANEL FERRY_SOURCE_UNIT
#define UNIT  FERRY_TARGET_UNIT

/* What all threads share. */
typedef struct ferry_codes_job {
    const ferry_index *index;
    const ferry_quantizer *q;
    const ferry_codes *codes;
    ferry_codes_options options; /* defaults filled in */
    int64_t most;                /* candidates of a query: rerank k */
} ferry_codes_job;
/* Local. Checks the options. */
ferry_status ferry_codes_job_of(ferry_codes_job *out, const ferry_index *index, const ferry_codes_options *options);

/* Numbers that sort as (distance, number) do. */
static inline uint64_t ferry_codes_key(float distance, uint32_t number)
{
    return ferry_lists_key(distance > 0 ? distance : 0, number);
}
/* Local. The `most` smallest of different keys come first, in any order. */
void ferry_keys_select(uint64_t *key, int64_t count, int64_t most);

/* One thread. */
typedef struct ferry_codes_scanner {
    const ferry_codes_job *job;
    float *panel, *scores; /* [24 * dim], [units][24][32] */
    uint64_t *list;        /* [lists] (|q - c|^2, list), the nearest first as far as they are ordered */
    int64_t ordered;
    float *base;     /* [lists] |q - c|^2 of list l */
    float *table;    /* [bytes][256] -2 <q, word> */
    uint64_t *found; /* [2 most] keys of (distance, cell) */
    int64_t count;
    float threshold;      /* above it nothing is a candidate */
    int64_t lists, pairs; /* counters */
} ferry_codes_scanner;
/* Local. Close also after a failure. */
ferry_status ferry_codes_scanner_open(ferry_codes_scanner *out, const ferry_codes_job *job);
void ferry_codes_scanner_close(ferry_codes_scanner *scanner);
/* Local. Scores of up to 24 prepared rows with all centroids. */
void ferry_codes_panel(ferry_codes_scanner *scanner, const float *rows, int64_t count);
/* Local. Row i of the panel (prepared, squared norm norm2) is the query now; nothing is found. */
void ferry_codes_begin(ferry_codes_scanner *scanner, int i, const float *row, float norm2);
/* Local. The n-th nearest list; lists without rows come too. */
int64_t ferry_codes_list(ferry_codes_scanner *scanner, int64_t n);
/* Local. All rows of a list join; cell `without` (UINT32_MAX: none) does not. */
void ferry_codes_scan(ferry_codes_scanner *scanner, int64_t list, uint32_t without);
/* Local. found [count] = the best so far, `most` at most. */
void ferry_codes_settle(ferry_codes_scanner *scanner);
/* Exact distance of two rows as in the file: squared, or the cosine distance. */
double ferry_codes_distance(const ferry_codes_job *job, const float *a, const float *b);
#endif

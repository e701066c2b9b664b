/* lists_impl.h - what the files of lists.h share: the head that every node holds, lists in memory, and the cache. */
#ifndef FERRY_LISTS_IMPL_H
#define FERRY_LISTS_IMPL_H
#include "lists.h"

/* Where parts come from that are not in memory. read is Local and thread-safe: rows first ... first + count of list
 * order (a part or less), as an image: cell [count], distance [count], rows [count][dim]; the image has room for
 * `image` bytes a row. */
typedef struct ferry_lists_source {
    ferry_status (*read)(const void *self, char *image, int64_t first, int64_t count);
    void (*close)(void *self);
    void *self;
    size_t image; /* at least 8 + 4 dim */
} ferry_lists_source;

typedef struct ferry_lists_cache ferry_lists_cache;

struct ferry_lists_store {
    ferry_world node;         /* the ranks that share the windows */
    ferry_window head;        /* first, unit, radius */
    const int64_t *unit;      /* [lists + 1] units before each list */
    ferry_window body;        /* held lists: */
    float *packed;            /* [units][32 * dim] */
    float *beta;              /* [units * 32] */
    float *distance, *rows;   /* [rows], [rows][dim]; rows NULL when they are not kept */
    uint32_t *cell;           /* [rows] */
    ferry_lists_cache *cache; /* lists that are not held */
};

/* Collective. Sizes of the lists and their radius [lists], the same on all ranks. */
ferry_status ferry_lists_head(ferry_lists *out, const ferry_world *world, const ferry_quantizer *quantizer,
                              const int64_t *count, const float *radius, bool exact);
/* Collective. Room for all lists, once per node, to be filled. */
ferry_status ferry_lists_body(ferry_lists *out, const ferry_world *world, bool keep_rows);
/* Local. Packed rows and beta of rows [count][dim] (a list, or a run of whole units of one). prepared: room for
 * FERRY_PACK_ROWS rows. */
#define FERRY_PACK_ROWS 32
ferry_status ferry_lists_pack(float *packed, float *beta, const ferry_quantizer *quantizer, const float *rows,
                              int64_t count, float *prepared);
/* Local. Parts come from the source, of which `lists` becomes the owner also when this fails. */
ferry_status ferry_lists_cached(ferry_lists *lists, const ferry_lists_source *source, int64_t memory);
/* Local. The same for lists in memory. */
ferry_status ferry_cache_take(ferry_list_part *out, const ferry_lists *lists, int64_t list, int64_t part);
void ferry_cache_drop(ferry_lists_cache *cache, ferry_list_part *part);
void ferry_cache_close(ferry_lists_cache **cache);
void ferry_cache_traffic(ferry_lists_cache *cache, int64_t *read, int64_t *found);
/* Local. Bytes of a part of so many rows in the cache. */
int64_t ferry_cache_part_bytes(int64_t rows, int dim, size_t image);

/* Local. Numbers that sort as (distance, cell) do; distances are not negative. */
static inline uint64_t ferry_lists_key(float distance, uint32_t cell)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &distance, sizeof bits);
    return (uint64_t)bits << 32 | cell;
}
typedef struct ferry_lists_place {
    uint64_t key;
    int64_t from;
} ferry_lists_place;
/* Local. By key. */
void ferry_lists_sort(ferry_lists_place *place, int64_t count);
#endif

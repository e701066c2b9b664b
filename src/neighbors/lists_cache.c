/* Parts of lists that are not in memory: read when they are taken, kept until the room is needed, the longest unused
 * leaves first. One mutex guards the table; reading and packing go on outside of it, and who wants a part that another
 * thread is reading waits for that. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "lists_impl.h"
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { LOADING, READY, FAILED };

typedef struct entry {
    struct entry *older, *newer; /* by last use */
    int64_t number;              /* of the part */
    int pins, state;
    ferry_status why;
    char *memory;
    size_t bytes;
    int64_t count, units;
} entry;

struct ferry_lists_cache {
    ferry_lists_source source;
    size_t most, used; /* bytes */
    uint32_t *part;    /* [lists + 1] parts before each list */
    entry **at;        /* [parts] */
    entry *oldest, *newest;
    pthread_mutex_t guard;
    pthread_cond_t loaded;
    int64_t read, found;
};

/* ---- memory: mapped, so that what is given back really is ---- */

/* Rounded up by an eighth at most, so that the room of one part can be used for another. */
static size_t rounded(size_t bytes)
{
    size_t step = 4096;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
}

static size_t up64(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t packed_bytes(int64_t units, int dim)
{
    return up64((size_t)(units * FERRY_TARGET_UNIT) * (size_t)dim * sizeof(float));
}

static size_t part_bytes(int64_t rows, int dim, size_t image)
{
    const int64_t units = (rows + FERRY_TARGET_UNIT - 1) / FERRY_TARGET_UNIT;
    return rounded(packed_bytes(units, dim) + (size_t)(units * FERRY_TARGET_UNIT) * sizeof(float) +
                   up64((size_t)rows * image));
}

int64_t ferry_cache_part_bytes(int64_t rows, int dim, size_t image)
{
    return (int64_t)part_bytes(rows, dim, image);
}

int64_t ferry_lists_cache_least(int dim, int threads)
{
    return 2 * (int64_t)(threads > 0 ? threads : 1) *
           ferry_cache_part_bytes(FERRY_LIST_PART, dim, 12 + 4 * (size_t)dim);
}

static ferry_status map(char **out, size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char text[32];
    if (memory == MAP_FAILED)
        return ferry_fail(FERRY_E_MEM, "out of memory: %s more for lists were refused: %s; lower --memory",
                          ferry_size_text(text, (double)bytes), strerror(errno));
    *out = memory;
    return FERRY_OK;
}

/* ---- the table; guard is held ---- */

static void unlink_entry(ferry_lists_cache *cache, entry *e)
{
    *(e->older ? &e->older->newer : &cache->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &cache->newest) = e->older;
    e->older = e->newer = NULL;
}

static void link_newest(ferry_lists_cache *cache, entry *e)
{
    e->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = e;
    cache->newest = e;
}

static void free_entry(ferry_lists_cache *cache, entry *e)
{
    if (e->memory) {
        munmap(e->memory, e->bytes);
        cache->used -= e->bytes;
    }
    free(e);
}

/* Parts leave until `bytes` more fit; *reuse = memory of that very size, if one of them had it. Parts in use stay, so
 * that more than `most` may be used when it is less than ferry_lists_cache_least. */
static void make_room(char **reuse, ferry_lists_cache *cache, size_t bytes)
{
    *reuse = NULL;
    for (entry *e = cache->oldest, *next; e && !*reuse && cache->used + bytes > cache->most; e = next) {
        next = e->newer;
        if (e->pins) continue;
        unlink_entry(cache, e);
        cache->at[e->number] = NULL;
        if (e->bytes == bytes) {
            *reuse = e->memory;
            e->memory = NULL;
        }
        free_entry(cache, e);
    }
}

/* A new entry, pinned and loading. */
static ferry_status new_entry(entry **out, ferry_lists_cache *cache, int64_t number, int64_t count, size_t bytes)
{
    entry *e = NULL;
    char *memory = NULL;
    FERRY_TRY(ferry_alloc(&e, 1));
    make_room(&memory, cache, bytes);
    if (!memory) {
        const ferry_status status = map(&memory, bytes);
        if (status != FERRY_OK) {
            free(e);
            return status;
        }
        cache->used += bytes;
    }
    *e = (entry){.number = number, .pins = 1, .state = LOADING, .memory = memory, .bytes = bytes, .count = count};
    e->units = (count + FERRY_TARGET_UNIT - 1) / FERRY_TARGET_UNIT;
    cache->at[number] = e;
    link_newest(cache, e);
    *out = e;
    return FERRY_OK;
}

static void unpin(ferry_lists_cache *cache, entry *e)
{
    if (--e->pins == 0 && e->state == FAILED) free_entry(cache, e);
}

/* ---- one part ---- */

typedef struct view {
    float *packed, *beta;
    char *image;
} view;

static view view_of(const entry *e, int dim)
{
    char *beta = e->memory + packed_bytes(e->units, dim);
    return (view){.packed = (float *)(void *)e->memory,
                  .beta = (float *)(void *)beta,
                  .image = beta + (size_t)(e->units * FERRY_TARGET_UNIT) * sizeof(float)};
}

/* Outside of the guard. */
static ferry_status load(const entry *e, const ferry_lists *lists, int64_t first)
{
    const ferry_lists_source *source = &lists->store->cache->source;
    const int dim = lists->quantizer->dim;
    const view v = view_of(e, dim);
    FERRY_AUTO float *prepared = NULL;
    FERRY_TRY(ferry_alloc(&prepared, (int64_t)FERRY_PACK_ROWS * dim));
    FERRY_TRY(source->read(source->self, v.image, first, e->count));
    const float *rows = (const float *)(const void *)(v.image + 8 * e->count);
    return ferry_lists_pack(v.packed, v.beta, lists->quantizer, rows, e->count, prepared);
}

static void show(ferry_list_part *out, entry *e, int dim, int64_t first)
{
    const view v = view_of(e, dim);
    *out = (ferry_list_part){.first = first,
                             .count = e->count,
                             .units = e->units,
                             .packed = v.packed,
                             .beta = v.beta,
                             .cell = (const uint32_t *)(const void *)v.image,
                             .distance = (const float *)(const void *)(v.image + 4 * e->count),
                             .rows = (const float *)(const void *)(v.image + 8 * e->count),
                             .hold = e};
}

/* The part is there, or another thread brings it; guard is held. *e = NULL when that fails. */
static ferry_status wait_for(ferry_lists_cache *cache, entry **e)
{
    entry *it = *e;
    it->pins++;
    cache->found++;
    unlink_entry(cache, it);
    link_newest(cache, it);
    while (it->state == LOADING) pthread_cond_wait(&cache->loaded, &cache->guard);
    if (it->state == READY) return FERRY_OK;
    const ferry_status why = it->why;
    unpin(cache, it);
    *e = NULL;
    return why;
}

static ferry_status bring(entry **out, const ferry_lists *lists, int64_t number, int64_t first, int64_t count)
{
    ferry_lists_cache *cache = lists->store->cache;
    entry *e;
    FERRY_TRY(new_entry(&e, cache, number, count, part_bytes(count, lists->quantizer->dim, cache->source.image)));
    cache->read++;
    pthread_mutex_unlock(&cache->guard);
    const ferry_status status = load(e, lists, first);
    pthread_mutex_lock(&cache->guard);
    e->state = status == FERRY_OK ? READY : FAILED;
    e->why = status;
    pthread_cond_broadcast(&cache->loaded);
    *out = e;
    if (status == FERRY_OK) return FERRY_OK;
    unlink_entry(cache, e);
    cache->at[number] = NULL;
    unpin(cache, e);
    *out = NULL;
    return status;
}

ferry_status ferry_cache_take(ferry_list_part *out, const ferry_lists *lists, int64_t list, int64_t part)
{
    ferry_lists_cache *cache = lists->store->cache;
    const int64_t number = (int64_t)cache->part[list] + part;
    const int64_t first = lists->first[list] + part * FERRY_LIST_PART, left = lists->first[list + 1] - first;
    *out = (ferry_list_part){0};
    pthread_mutex_lock(&cache->guard);
    entry *e = cache->at[number];
    const ferry_status status =
        e ? wait_for(cache, &e) : bring(&e, lists, number, first, left < FERRY_LIST_PART ? left : FERRY_LIST_PART);
    pthread_mutex_unlock(&cache->guard);
    if (status == FERRY_OK && e) show(out, e, lists->quantizer->dim, first);
    return status;
}

void ferry_cache_drop(ferry_lists_cache *cache, ferry_list_part *part)
{
    if (!part->hold) return;
    pthread_mutex_lock(&cache->guard);
    unpin(cache, part->hold);
    pthread_mutex_unlock(&cache->guard);
}

void ferry_cache_traffic(ferry_lists_cache *cache, int64_t *read, int64_t *found)
{
    pthread_mutex_lock(&cache->guard);
    *read = cache->read;
    *found = cache->found;
    pthread_mutex_unlock(&cache->guard);
}

void ferry_lists_cache_set(const ferry_lists *lists, int64_t bytes)
{
    ferry_lists_cache *cache = lists->held || !lists->store ? NULL : lists->store->cache;
    char *none;
    if (!cache) return;
    pthread_mutex_lock(&cache->guard);
    cache->most = (size_t)(bytes > 0 ? bytes : 0);
    make_room(&none, cache, 0);
    pthread_mutex_unlock(&cache->guard);
}

/* ---- open, close ---- */

static ferry_status open_cache(ferry_lists_cache *cache, const ferry_lists *lists)
{
    FERRY_TRY(ferry_alloc(&cache->part, lists->lists + 1));
    for (int64_t i = 0; i < lists->lists; i++)
        cache->part[i + 1] = cache->part[i] + (uint32_t)ferry_list_parts(lists, i);
    return ferry_alloc_bytes(&cache->at, cache->part[lists->lists], sizeof(void *));
}

ferry_status ferry_lists_cached(ferry_lists *lists, const ferry_lists_source *source, int64_t memory)
{
    ferry_lists_cache *cache = NULL;
    const ferry_status status = ferry_alloc(&cache, 1);
    if (status != FERRY_OK) {
        source->close(source->self);
        return status;
    }
    cache->source = *source;
    cache->most = (size_t)(memory > 0 ? memory : 0);
    pthread_mutex_init(&cache->guard, NULL);
    pthread_cond_init(&cache->loaded, NULL);
    lists->store->cache = cache;
    lists->held = false;
    return open_cache(cache, lists);
}

void ferry_cache_close(ferry_lists_cache **cache)
{
    ferry_lists_cache *it = *cache;
    if (!it) return;
    for (entry *e = it->oldest, *next; e; e = next) {
        next = e->newer;
        free_entry(it, e);
    }
    it->source.close(it->source.self);
    pthread_mutex_destroy(&it->guard);
    pthread_cond_destroy(&it->loaded);
    free(it->part);
    free(it->at);
    free(it);
    *cache = NULL;
}

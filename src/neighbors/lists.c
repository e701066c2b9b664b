/* Lists in memory, and what lists in memory and on disk have in common: sizes and radii once per node. */
#include "lists_impl.h"
#include <math.h>
#include <string.h>

/* ---- room ---- */

/* Pieces of a window, each at a multiple of 64 bytes. */
static size_t reserve(size_t *bytes, int64_t count, size_t size)
{
    const size_t at = *bytes;
    *bytes = (at + (size_t)count * size + 63) / 64 * 64;
    return at;
}

static char *aligned(const ferry_window *window)
{
    return (char *)window->base + (-(uintptr_t)window->base & 63);
}

static int64_t units_of(int64_t rows)
{
    return (rows + FERRY_TARGET_UNIT - 1) / FERRY_TARGET_UNIT;
}

/* Local. */
static ferry_status check_head(ferry_lists *out, const int64_t *count)
{
    for (int64_t i = 0; i < out->lists; i++) out->rows += count[i];
    if (out->rows >= (int64_t)UINT32_MAX)
        return ferry_fail(FERRY_E_ARG, "%lld cells: a search takes fewer than 4294967295; split the set",
                          (long long)out->rows);
    return ferry_alloc(&out->store, 1);
}

static void fill_head(ferry_lists *out, int64_t *unit, const int64_t *count, const float *radius)
{
    out->first[0] = unit[0] = 0;
    for (int64_t i = 0; i < out->lists; i++) {
        out->first[i + 1] = out->first[i] + count[i];
        unit[i + 1] = unit[i] + units_of(count[i]);
        out->radius[i] = count[i] ? radius[i] : -INFINITY;
    }
}

ferry_status ferry_lists_head(ferry_lists *out, const ferry_world *world, const ferry_quantizer *quantizer,
                              const int64_t *count, const float *radius, bool exact)
{
    *out = (ferry_lists){.quantizer = quantizer, .lists = quantizer->list.count, .exact = exact};
    ferry_status status = ferry_agree(world, check_head(out, count));
    if (status != FERRY_OK) {
        free(out->store);
        *out = (ferry_lists){0};
        return status;
    }
    struct ferry_lists_store *store = out->store;
    status = ferry_world_open(&store->node, world->node);
    size_t bytes = 64;
    const size_t first = reserve(&bytes, out->lists + 1, sizeof *out->first) - 64;
    const size_t unit = reserve(&bytes, out->lists + 1, sizeof *store->unit) - 64;
    const size_t wide = reserve(&bytes, out->lists, sizeof *out->radius) - 64;
    if (status == FERRY_OK) status = ferry_window_open(&store->head, &store->node, bytes);
    status = ferry_agree(world, status);
    if (status != FERRY_OK) {
        ferry_lists_close(out, world);
        return status;
    }
    char *base = aligned(&store->head);
    out->first = (int64_t *)(void *)(base + first);
    out->radius = (float *)(void *)(base + wide);
    store->unit = (int64_t *)(void *)(base + unit);
    if (store->node.rank == 0) fill_head(out, (int64_t *)(void *)(base + unit), count, radius);
    ferry_window_sync(&store->head, &store->node);
    return FERRY_OK;
}

ferry_status ferry_lists_body(ferry_lists *out, const ferry_world *world, bool keep_rows)
{
    struct ferry_lists_store *store = out->store;
    const int64_t units = store->unit[out->lists], dim = out->quantizer->dim;
    size_t bytes = 64;
    const size_t packed = reserve(&bytes, units * FERRY_TARGET_UNIT * dim, sizeof(float)) - 64;
    const size_t beta = reserve(&bytes, units * FERRY_TARGET_UNIT, sizeof(float)) - 64;
    const size_t distance = reserve(&bytes, out->rows, sizeof(float)) - 64;
    const size_t cell = reserve(&bytes, out->rows, sizeof(uint32_t)) - 64;
    const size_t rows = reserve(&bytes, keep_rows ? out->rows * dim : 0, sizeof(float)) - 64;
    FERRY_TRY(ferry_agree(world, ferry_window_open(&store->body, &store->node, bytes)));
    char *base = aligned(&store->body);
    store->packed = (float *)(void *)(base + packed);
    store->beta = (float *)(void *)(base + beta);
    store->distance = (float *)(void *)(base + distance);
    store->cell = (uint32_t *)(void *)(base + cell);
    store->rows = keep_rows ? (float *)(void *)(base + rows) : NULL;
    out->held = true;
    return FERRY_OK;
}

void ferry_lists_close(ferry_lists *lists, const ferry_world *world)
{
    struct ferry_lists_store *store = lists->store;
    (void)world;
    if (store) {
        ferry_cache_close(&store->cache);
        ferry_window_close(&store->body);
        ferry_window_close(&store->head);
        ferry_world_close(&store->node);
        free(store);
    }
    *lists = (ferry_lists){0};
}

int64_t ferry_lists_held_bytes(int64_t rows, int64_t lists, int dim, int ranks_per_node)
{
    const int64_t padded = rows + lists * (FERRY_TARGET_UNIT / 2); /* half a unit of each list is empty */
    const int64_t node = padded * (4 * (int64_t)dim + 4) + rows * (4 * (int64_t)dim + 8) + lists * 20;
    return node / (ranks_per_node > 0 ? ranks_per_node : 1);
}

/* ---- order and packing ---- */

static int by_key(const void *a, const void *b)
{
    const uint64_t x = ((const ferry_lists_place *)a)->key, y = ((const ferry_lists_place *)b)->key;
    return (x > y) - (x < y);
}

void ferry_lists_sort(ferry_lists_place *place, int64_t count)
{
    qsort(place, (size_t)count, sizeof *place, by_key);
}

ferry_status ferry_lists_pack(float *packed, float *beta, const ferry_quantizer *quantizer, const float *rows,
                              int64_t count, float *prepared)
{
    const int dim = quantizer->dim;
    for (int64_t at = 0; at < count; at += FERRY_PACK_ROWS) {
        const int64_t n = count - at < FERRY_PACK_ROWS ? count - at : FERRY_PACK_ROWS;
        FERRY_TRY(ferry_quantizer_prepare(prepared, beta + at, quantizer, rows + at * dim, n, at));
        quantizer->kernels->pack_columns(packed + at * dim, prepared, n, dim);
        for (int64_t i = 0; i < n; i++) beta[at + i] *= -0.5F;
        for (int64_t i = n; i < FERRY_PACK_ROWS; i++) beta[at + i] = -INFINITY;
    }
    return FERRY_OK;
}

/* ---- use ---- */

ferry_status ferry_lists_take(ferry_list_part *out, const ferry_lists *lists, int64_t list, int64_t part)
{
    const struct ferry_lists_store *store = lists->store;
    if (!lists->held) return ferry_cache_take(out, lists, list, part);
    const int64_t dim = lists->quantizer->dim, first = lists->first[list] + part * FERRY_LIST_PART;
    const int64_t left = lists->first[list + 1] - first, count = left < FERRY_LIST_PART ? left : FERRY_LIST_PART;
    const int64_t unit = store->unit[list] + part * (FERRY_LIST_PART / FERRY_TARGET_UNIT);
    *out = (ferry_list_part){.first = first,
                             .count = count,
                             .units = units_of(count),
                             .packed = store->packed + unit * FERRY_TARGET_UNIT * dim,
                             .beta = store->beta + unit * FERRY_TARGET_UNIT,
                             .distance = store->distance + first,
                             .rows = store->rows ? store->rows + first * dim : NULL,
                             .cell = store->cell + first};
    return FERRY_OK;
}

void ferry_lists_drop(const ferry_lists *lists, ferry_list_part *part)
{
    if (!lists->held) ferry_cache_drop(lists->store->cache, part);
    *part = (ferry_list_part){0};
}

int64_t ferry_lists_of_row(const ferry_lists *lists, int64_t row)
{
    int64_t low = 0, high = lists->lists; /* first[low] <= row < first[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (lists->first[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void ferry_lists_traffic(const ferry_lists *lists, int64_t *read, int64_t *found)
{
    *read = *found = 0;
    if (!lists->held) ferry_cache_traffic(lists->store->cache, read, found);
}

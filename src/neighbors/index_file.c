/* INDEX.h5, opened: rank 0 reads and checks the head and tells the others; rows are read by their place in the file,
 * by every rank its share of them (held), or part by part when they are wanted (cached). What was stored by ranks and
 * memory of another size is the same. */
#include "index_file.h"
#include "io/stored.h"
#include "lists_impl.h"
#include "mpi/log.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READ_ROWS 4096
#define REMAKE    "make it again with 'cellferry index'"

/* ---- head ---- */

typedef struct header {
    int64_t rows, lists, supers, dim, exact, metric;
    int64_t codes; /* bytes of a row's code; 0: whole vectors */
} header;

static ferry_status check_kind(bool *codes, ferry_stored *stored, const char *path)
{
    FERRY_AUTO char *kind = NULL;
    double version = 0;
    if (ferry_stored_attribute_text(&kind, stored, "/", "kind") != FERRY_OK || strcmp(kind, "cellferry index") != 0)
        return ferry_fail(FERRY_E_FILE, "%s is no index: make one with 'cellferry index REFERENCE -o INDEX.h5'", path);
    FERRY_TRY(ferry_stored_attribute_number(&version, stored, "/", "version"));
    if (version != 1 && version != 2)
        return ferry_fail(FERRY_E_FILE, "%s is an index of version %g, this program reads versions 1 and 2; " REMAKE,
                          path, version);
    *codes = version == 2;
    return FERRY_OK;
}

static ferry_status read_metric(header *h, ferry_stored *stored, const char *path)
{
    FERRY_AUTO char *metric = NULL;
    FERRY_TRY(ferry_stored_attribute_text(&metric, stored, "/", "metric"));
    if (!strcmp(metric, "cosine"))
        h->metric = FERRY_COSINE;
    else if (!strcmp(metric, "euclidean"))
        h->metric = FERRY_EUCLIDEAN;
    else
        return ferry_fail(FERRY_E_FILE, "%s: metric '%s' is neither euclidean nor cosine; " REMAKE, path, metric);
    return FERRY_OK;
}

static ferry_status read_count(int64_t *out, ferry_stored *stored, const char *path, const char *name, int64_t least,
                               int64_t most)
{
    double value;
    FERRY_TRY(ferry_stored_attribute_number(&value, stored, "/", name));
    if (!(value >= (double)least && value <= (double)most) || value != floor(value))
        return ferry_fail(FERRY_E_FILE, "%s: attribute %s is %g, not %" PRId64 " to %" PRId64 "; " REMAKE, path, name,
                          value, least, most);
    *out = (int64_t)value;
    return FERRY_OK;
}

static ferry_status check_shape(ferry_stored *stored, const char *path, const char *name, int64_t rows, int64_t columns)
{
    int64_t r, c;
    FERRY_TRY(ferry_stored_shape(&r, &c, stored, name));
    if (r == rows && c == columns) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s is %" PRId64 " x %" PRId64 ", not %" PRId64 " x %" PRId64 "; " REMAKE, path,
                      name, r, c, rows, columns);
}

static ferry_status read_header(header *h, ferry_stored *stored, const char *path)
{
    int64_t columns;
    bool codes = false;
    FERRY_TRY(check_kind(&codes, stored, path));
    FERRY_TRY(read_metric(h, stored, path));
    FERRY_TRY(read_count(&h->rows, stored, path, "rows", 1, (int64_t)UINT32_MAX - 1));
    FERRY_TRY(read_count(&h->lists, stored, path, "lists", 1, INT32_MAX));
    FERRY_TRY(read_count(&h->dim, stored, path, "dim", 1, 1 << 20));
    FERRY_TRY(read_count(&h->exact, stored, path, "exact", 0, 1));
    if (codes) FERRY_TRY(read_count(&h->codes, stored, path, "codes", 1, h->dim));
    FERRY_TRY(ferry_stored_shape(&h->supers, &columns, stored, "supers"));
    const struct {
        const char *name;
        int64_t rows, columns;
    } shapes[] = {{"mean", h->dim, 1},
                  {"centroids", h->lists, h->dim},
                  {"supers", h->supers, h->dim},
                  {"children", h->supers + 1, 1},
                  {"first", h->lists + 1, 1},
                  {"radius", h->lists, 1},
                  {codes ? "rows/code" : "rows/values", h->rows, codes ? h->codes : h->dim},
                  {"rows/cell", h->rows, 1},
                  {"rows/distance", h->rows, 1},
                  {codes ? "book" : "mean", codes ? FERRY_WORDS : h->dim, codes ? h->dim : 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        FERRY_TRY(check_shape(stored, path, shapes[i].name, shapes[i].rows, shapes[i].columns));
    return FERRY_OK;
}

static ferry_status peek(header *h, const char *path)
{
    ferry_stored *stored = NULL;
    FERRY_TRY(ferry_stored_open(&stored, path));
    const ferry_status status = read_header(h, stored, path);
    ferry_stored_close(&stored);
    return status;
}

ferry_status ferry_index_peek(int64_t *rows, int64_t *lists, int *dim, ferry_search_metric *metric,
                              const ferry_world *world, const char *path)
{
    header h = {0};
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? peek(&h, path) : FERRY_OK));
    ferry_broadcast(world, &h, sizeof h, 0);
    *rows = h.rows;
    *lists = h.lists;
    *dim = (int)h.dim;
    *metric = (ferry_search_metric)h.metric;
    return FERRY_OK;
}

ferry_status ferry_index_code_bytes(int *bytes, const ferry_world *world, const char *path)
{
    header h = {0};
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? peek(&h, path) : FERRY_OK));
    ferry_broadcast(world, &h, sizeof h, 0);
    *bytes = (int)h.codes;
    return FERRY_OK;
}

ferry_status ferry_index_names(ferry_names *out, const char *path, int64_t first, int64_t count)
{
    ferry_stored *stored = NULL;
    memset(out, 0, sizeof *out);
    FERRY_TRY(ferry_stored_open(&stored, path));
    const ferry_status status = ferry_stored_texts(out, stored, "names", first, count);
    ferry_stored_close(&stored);
    return status;
}

/* ---- numbers of the quantizer and the lists ---- */

typedef struct numbers {
    float *mean, *centroid, *super, *radius, *book;
    int64_t *child, *first;
} numbers;

static void free_numbers(numbers *n)
{
    free(n->mean);
    free(n->centroid);
    free(n->super);
    free(n->radius);
    free(n->book);
    free(n->child);
    free(n->first);
}

/* A whole array as float32; NaN, or infinity where it may not be, is said. */
static ferry_status read_floats(float **out, ferry_stored *stored, const char *path, const char *name, int64_t rows,
                                int64_t columns, bool infinite)
{
    FERRY_AUTO double *part = NULL;
    FERRY_TRY(ferry_alloc(out, rows * columns));
    FERRY_TRY(ferry_alloc(&part, (rows < READ_ROWS ? rows : READ_ROWS) * columns));
    for (int64_t at = 0; at < rows; at += READ_ROWS) {
        const int64_t n = rows - at < READ_ROWS ? rows - at : READ_ROWS;
        FERRY_TRY(ferry_stored_numbers(part, stored, name, at, n));
        for (int64_t i = 0; i < n * columns; i++) {
            if (isnan(part[i]) || (isinf(part[i]) && !infinite))
                return ferry_fail(FERRY_E_FILE, "%s: %s has a value that is not finite in row %" PRId64 "; " REMAKE,
                                  path, name, at + i / columns);
            (*out)[at * columns + i] = (float)part[i];
        }
    }
    return FERRY_OK;
}

/* From 0 to `last`, ascending. */
static ferry_status read_starts(int64_t **out, ferry_stored *stored, const char *path, const char *name, int64_t count,
                                int64_t last)
{
    FERRY_TRY(ferry_alloc(out, count + 1));
    FERRY_TRY(ferry_stored_integers(*out, stored, name, 0, count + 1));
    bool good = (*out)[0] == 0 && (*out)[count] == last;
    for (int64_t i = 0; i < count; i++) good = good && (*out)[i] <= (*out)[i + 1];
    if (good) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s does not ascend from 0 to %" PRId64 "; " REMAKE, path, name, last);
}

static ferry_status check_radius(const numbers *n, const header *h, const char *path)
{
    for (int64_t i = 0; i < h->lists; i++) {
        const bool empty = n->first[i] == n->first[i + 1];
        if (empty ? n->radius[i] == -INFINITY : n->radius[i] >= 0 && n->radius[i] < INFINITY) continue;
        return ferry_fail(FERRY_E_FILE, "%s: radius of list %" PRId64 " is %g; " REMAKE, path, i, (double)n->radius[i]);
    }
    return FERRY_OK;
}

static ferry_status read_numbers(numbers *n, const header *h, ferry_stored *stored, const char *path)
{
    FERRY_TRY(read_floats(&n->mean, stored, path, "mean", h->dim, 1, false));
    FERRY_TRY(read_floats(&n->centroid, stored, path, "centroids", h->lists, h->dim, false));
    FERRY_TRY(read_floats(&n->super, stored, path, "supers", h->supers, h->dim, false));
    FERRY_TRY(read_starts(&n->child, stored, path, "children", h->supers, h->lists));
    FERRY_TRY(read_starts(&n->first, stored, path, "first", h->lists, h->rows));
    FERRY_TRY(read_floats(&n->radius, stored, path, "radius", h->lists, 1, true));
    if (h->codes) FERRY_TRY(read_floats(&n->book, stored, path, "book", FERRY_WORDS, h->dim, false));
    return check_radius(n, h, path);
}

/* ---- rows ---- */

/* The rows of an open index, or their codes; every rank has the file open. */
typedef struct rows {
    ferry_plain value, cell, distance;
    int64_t rows, dim;
} rows;

static void close_rows(void *self)
{
    rows *it = self;
    ferry_plain_close(&it->value);
    ferry_plain_close(&it->cell);
    ferry_plain_close(&it->distance);
    free(it);
}

static ferry_status open_rows(rows *it, const header *h, ferry_stored *stored)
{
    it->rows = h->rows;
    it->dim = h->dim;
    if (h->codes)
        FERRY_TRY(ferry_plain_open(&it->value, stored, "rows/code", FERRY_UINT8, h->rows, h->codes));
    else
        FERRY_TRY(ferry_plain_open(&it->value, stored, "rows/values", FERRY_F32, h->rows, h->dim));
    FERRY_TRY(ferry_plain_open(&it->cell, stored, "rows/cell", FERRY_INT64, h->rows, 0));
    return ferry_plain_open(&it->distance, stored, "rows/distance", FERRY_F32, h->rows, 0);
}

/* Rows of one list, or a part of it. */
static ferry_status check_list(const rows *it, const float *values, const float *distance, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count * it->dim; i++)
        if (!isfinite(values[i]))
            return ferry_fail(FERRY_E_FILE, "%s: row %" PRId64 " has NaN or infinity; " REMAKE, it->value.name,
                              first + i / it->dim);
    for (int64_t i = 0; i < count; i++)
        if (!(distance[i] >= (i ? distance[i - 1] : 0)))
            return ferry_fail(FERRY_E_FILE, "%s: row %" PRId64 " is not in the order of its list; " REMAKE,
                              it->distance.name, first + i);
    return FERRY_OK;
}

static ferry_status read_cells(uint32_t *out, const rows *it, int64_t first, int64_t count)
{
    int64_t cell[512];
    for (int64_t at = 0; at < count; at += 512) {
        const int64_t n = count - at < 512 ? count - at : 512;
        FERRY_TRY(ferry_plain_read(cell, &it->cell, first + at, n));
        for (int64_t i = 0; i < n; i++) {
            if (cell[i] < 0 || cell[i] >= it->rows)
                return ferry_fail(FERRY_E_FILE, "%s: row %" PRId64 " is cell %" PRId64 " of %" PRId64 "; " REMAKE,
                                  it->cell.name, first + at + i, cell[i], it->rows);
            out[at + i] = (uint32_t)cell[i];
        }
    }
    return FERRY_OK;
}

static ferry_status read_list(uint32_t *cell, float *distance, float *values, const rows *it, int64_t first,
                              int64_t count)
{
    FERRY_TRY(ferry_plain_read(values, &it->value, first, count));
    FERRY_TRY(ferry_plain_read(distance, &it->distance, first, count));
    FERRY_TRY(read_cells(cell, it, first, count));
    return check_list(it, values, distance, first, count);
}

static ferry_status read_image(const void *self, char *image, int64_t first, int64_t count)
{
    return read_list((uint32_t *)(void *)image, (float *)(void *)(image + 4 * count),
                     (float *)(void *)(image + 8 * count), self, first, count);
}

/* ---- held ---- */

static ferry_status load_list(const ferry_lists *lists, const rows *it, int64_t list, float *values, float *prepared)
{
    const struct ferry_lists_store *store = lists->store;
    const int64_t first = lists->first[list], count = lists->first[list + 1] - first;
    const int64_t unit = store->unit[list] * FERRY_TARGET_UNIT;
    if (store->rows) values = store->rows + first * it->dim;
    FERRY_TRY(read_list(store->cell + first, store->distance + first, values, it, first, count));
    return ferry_lists_pack(store->packed + unit * it->dim, store->beta + unit, lists->quantizer, values, count,
                            prepared);
}

static ferry_status open_buffers(float **values, float **prepared, const ferry_lists *lists)
{
    const int64_t dim = lists->quantizer->dim;
    int64_t longest = 0;
    for (int64_t i = 0; i < lists->lists; i++)
        if (lists->first[i + 1] - lists->first[i] > longest) longest = lists->first[i + 1] - lists->first[i];
    FERRY_TRY(ferry_alloc(values, lists->store->rows ? 0 : longest * dim));
    return ferry_alloc(prepared, FERRY_PACK_ROWS * dim);
}

/* Local. The lists that begin in this rank's share of its node's rows. */
static ferry_status load_share(const ferry_lists *lists, const rows *it, int threads)
{
    const ferry_world *node = &lists->store->node;
    const int64_t begin = lists->rows * node->rank / node->size, end = lists->rows * (node->rank + 1) / node->size;
    ferry_status worst = FERRY_OK;
#pragma omp parallel num_threads(threads > 0 ? threads : 1)
    {
        float *values = NULL, *prepared = NULL;
        ferry_status mine = open_buffers(&values, &prepared, lists);
#pragma omp for schedule(dynamic, 8)
        for (int64_t i = 0; i < lists->lists; i++)
            if (mine == FERRY_OK && lists->first[i] >= begin && lists->first[i] < end &&
                lists->first[i] < lists->first[i + 1])
                mine = load_list(lists, it, i, values, prepared);
        free(values);
        free(prepared);
#pragma omp critical(ferry_index_load)
        if (mine < worst) worst = mine;
    }
    return worst;
}

/* Collective. */
static ferry_status load(ferry_index *out, const ferry_world *world, const rows *it, const ferry_lists_options *options)
{
    FERRY_TRY(ferry_lists_body(&out->lists, world, options->keep_rows));
    FERRY_TRY(ferry_agree(world, load_share(&out->lists, it, options->threads)));
    ferry_window_sync(&out->lists.store->body, &out->lists.store->node);
    ferry_progress(world, "reading the index", out->lists.rows, out->lists.rows, "cells", NULL);
    return FERRY_OK;
}

/* ---- codes ---- */

static int64_t aligned(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Collective. Room for them, once per node. */
static ferry_status open_codes(ferry_codes *codes, const header *h, const ferry_world *world)
{
    const int64_t code = aligned(h->rows * h->codes), own = aligned(h->rows * (int64_t)sizeof *codes->own);
    FERRY_TRY(ferry_world_open(&codes->node, world->node));
    ferry_status status = ferry_window_open(&codes->window, &codes->node,
                                            (size_t)(code + own + h->rows * (int64_t)sizeof *codes->cell + 64));
    status = ferry_agree(world, status);
    if (status != FERRY_OK) {
        ferry_window_close(&codes->window);
        ferry_world_close(&codes->node);
        return status;
    }
    char *base = (char *)codes->window.base + (-(uintptr_t)codes->window.base & 63);
    codes->rows = h->rows;
    codes->code = (const uint8_t *)base;
    codes->own = (const float *)(const void *)(base + code);
    codes->cell = (const uint32_t *)(const void *)(base + code + own);
    return FERRY_OK;
}

/* Local. This rank's share of its node's rows. */
static ferry_status load_codes(ferry_index *out, const rows *it)
{
    const ferry_codes *codes = &out->codes;
    const int64_t rank = codes->node.rank, size = codes->node.size;
    const int64_t begin = codes->rows * rank / size, end = codes->rows * (rank + 1) / size;
    uint8_t *code = (uint8_t *)(uintptr_t)codes->code;
    float *own = (float *)(uintptr_t)codes->own;
    uint32_t *cell = (uint32_t *)(uintptr_t)codes->cell;
    int64_t list = begin < end ? ferry_lists_of_row(&out->lists, begin) : 0;
    for (int64_t at = begin; at < end; at += READ_ROWS) {
        const int64_t n = end - at < READ_ROWS ? end - at : READ_ROWS;
        FERRY_TRY(ferry_plain_read(code + at * codes->bytes, &it->value, at, n));
        FERRY_TRY(read_cells(cell + at, it, at, n));
        for (int64_t i = at; i < at + n; i++) {
            while (i >= out->lists.first[list + 1]) list++;
            own[i] = ferry_codes_own(codes, &out->quantizer, code + i * codes->bytes, list);
        }
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status hold_codes(ferry_index *out, const header *h, const ferry_world *world, const rows *it)
{
    FERRY_TRY(open_codes(&out->codes, h, world));
    FERRY_TRY(ferry_agree(world, load_codes(out, it)));
    ferry_window_sync(&out->codes.window, &out->codes.node);
    ferry_progress(world, "reading the index", out->codes.rows, out->codes.rows, "cells", NULL);
    return FERRY_OK;
}

/* Collective. The book of rank 0 to all. */
static ferry_status share_book(ferry_index *out, const header *h, const ferry_world *world, const float *book)
{
    const int64_t count = FERRY_WORDS * h->dim;
    out->codes.bytes = (int)h->codes;
    out->codes.dim = (int)h->dim;
    FERRY_TRY(ferry_agree(world, ferry_alloc(&out->codes.book, count)));
    if (world->rank == 0 && book) memcpy(out->codes.book, book, (size_t)count * sizeof *book);
    ferry_broadcast(world, out->codes.book, (size_t)count * sizeof *book, 0);
    return FERRY_OK;
}

/* ---- where it came from ---- */

static ferry_status copy_text(char **out, const char *text)
{
    const size_t length = strlen(text) + 1;
    FERRY_TRY(ferry_alloc(out, (int64_t)length));
    memcpy(*out, text, length);
    return FERRY_OK;
}

/* The file as it is named, by its absolute path, or beside the index. '@' marks a list of files. */
static ferry_status find_input(ferry_index *out, const char *given, const char *whole)
{
    const char *slash = strrchr(out->path, '/'), *base = strrchr(given, '/');
    const int folder = slash ? (int)(slash - out->path) + 1 : 0, list = given[0] == '@';
    base = base ? base + 1 : given + list;
    const size_t room = strlen(out->path) + strlen(base) + 2;
    FERRY_AUTO char *beside = NULL;
    FERRY_TRY(ferry_alloc(&beside, (int64_t)room));
    snprintf(beside, room, "%s%.*s%s", list ? "@" : "", folder, out->path, base);
    const char *places[] = {given, whole, beside, given};
    int k = 0;
    while (k < 3 && access(places[k] + (places[k][0] == '@'), R_OK)) k++;
    return copy_text(&out->input, places[k]);
}

static ferry_status read_origin(ferry_index *out, ferry_stored *stored)
{
    FERRY_AUTO char *given = NULL;
    FERRY_AUTO char *whole = NULL;
    FERRY_AUTO char *print = NULL;
    double dims;
    if (!ferry_stored_has(stored, "input")) return FERRY_OK;
    FERRY_TRY(ferry_stored_attribute_text(&given, stored, "input", "path"));
    FERRY_TRY(ferry_stored_attribute_text(&whole, stored, "input", "absolute_path"));
    FERRY_TRY(ferry_stored_attribute_text(&out->rep, stored, "/", "rep"));
    FERRY_TRY(ferry_stored_attribute_text(&out->where, stored, "input", "where"));
    FERRY_TRY(ferry_stored_attribute_text(&print, stored, "input", "fingerprint"));
    FERRY_TRY(ferry_stored_attribute_number(&dims, stored, "/", "dims"));
    out->dims = dims >= 0 && dims <= INT32_MAX ? (int)dims : 0;
    out->fingerprint = strtoull(print, NULL, 16);
    return find_input(out, given, whole);
}

/* Collective. Rank 0's text to all, NULL too. */
static ferry_status share_text(char **text, const ferry_world *world)
{
    int64_t length = *text ? (int64_t)strlen(*text) : -1;
    ferry_broadcast(world, &length, sizeof length, 0);
    if (length < 0) return FERRY_OK;
    FERRY_TRY(ferry_agree(world, world->rank ? ferry_alloc(text, length + 1) : FERRY_OK));
    ferry_broadcast(world, *text, (size_t)length + 1, 0);
    return FERRY_OK;
}

/* ---- open ---- */

static ferry_status read_head(header *h, numbers *n, ferry_index *out, const char *path)
{
    ferry_stored *stored = NULL;
    FERRY_TRY(ferry_stored_open(&stored, path));
    ferry_status status = read_header(h, stored, path);
    if (status == FERRY_OK) status = read_numbers(n, h, stored, path);
    if (status == FERRY_OK) status = read_origin(out, stored);
    ferry_stored_close(&stored);
    return status;
}

static ferry_status allot(numbers *n, const header *h)
{
    FERRY_TRY(ferry_alloc(&n->first, h->lists + 1));
    return ferry_alloc(&n->radius, h->lists);
}

/* Collective. */
static ferry_status share_head(ferry_index *out, header *h, numbers *n, const ferry_world *world)
{
    ferry_broadcast(world, h, sizeof *h, 0);
    FERRY_TRY(ferry_agree(world, world->rank ? allot(n, h) : FERRY_OK));
    ferry_broadcast(world, n->first, (size_t)(h->lists + 1) * sizeof *n->first, 0);
    ferry_broadcast(world, n->radius, (size_t)h->lists * sizeof *n->radius, 0);
    FERRY_TRY(share_text(&out->input, world));
    FERRY_TRY(share_text(&out->rep, world));
    FERRY_TRY(share_text(&out->where, world));
    int64_t two[2] = {out->dims, (int64_t)out->fingerprint};
    ferry_broadcast(world, two, sizeof two, 0);
    out->dims = (int)two[0];
    out->fingerprint = (uint64_t)two[1];
    out->cells = h->rows;
    return FERRY_OK;
}

/* Collective. */
static ferry_status open_head(ferry_index *out, header *h, numbers *n, const ferry_world *world, const char *path,
                              const ferry_kernels *kernels)
{
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? read_head(h, n, out, path) : FERRY_OK));
    FERRY_TRY(share_head(out, h, n, world));
    FERRY_TRY(ferry_quantizer_of(&out->quantizer, world, (int)h->dim, h->lists, h->supers, n->mean, n->centroid,
                                 n->super, n->child, (ferry_search_metric)h->metric, kernels));
    if (h->codes) FERRY_TRY(share_book(out, h, world, n->book));
    if (!n->first) return FERRY_E_MEM;                                                  /* cannot be: agreed */
    for (int64_t i = 0; i < h->lists; i++) n->first[i] = n->first[i + 1] - n->first[i]; /* sizes of the lists */
    return ferry_lists_head(&out->lists, world, &out->quantizer, n->first, n->radius, h->exact != 0);
}

/* Local. */
static ferry_status new_rows(rows **out, const header *h, const char *path)
{
    ferry_stored *stored = NULL;
    FERRY_TRY(ferry_alloc(out, 1));
    FERRY_TRY(ferry_stored_open(&stored, path));
    const ferry_status status = open_rows(*out, h, stored);
    ferry_stored_close(&stored);
    return status;
}

/* Collective. */
static ferry_status open_body(ferry_index *out, const header *h, const ferry_world *world,
                              const ferry_lists_options *options)
{
    rows *it = NULL;
    ferry_status status = ferry_agree(world, new_rows(&it, h, out->path));
    if (status == FERRY_OK && !h->codes && !options->held) {
        const ferry_lists_source source = {read_image, close_rows, it, 8 + 4 * (size_t)h->dim};
        return ferry_agree(world, ferry_lists_cached(&out->lists, &source, options->memory));
    }
    if (status == FERRY_OK) status = h->codes ? hold_codes(out, h, world, it) : load(out, world, it, options);
    if (it) close_rows(it);
    return status;
}

ferry_status ferry_index_open(ferry_index *out, const ferry_world *world, const char *path,
                              const ferry_kernels *kernels, const ferry_lists_options *options)
{
    header h = {0};
    numbers n = {0};
    *out = (ferry_index){0};
    ferry_status status = ferry_agree(world, copy_text(&out->path, path));
    if (status == FERRY_OK) status = open_head(out, &h, &n, world, path, kernels);
    free_numbers(&n);
    if (status == FERRY_OK) status = open_body(out, &h, world, options);
    if (status != FERRY_OK) ferry_index_close(out, world);
    return status;
}

void ferry_index_close(ferry_index *index, const ferry_world *world)
{
    ferry_codes_close(&index->codes);
    ferry_lists_close(&index->lists, world);
    ferry_quantizer_close(&index->quantizer, world);
    free(index->path);
    free(index->input);
    free(index->rep);
    free(index->where);
    *index = (ferry_index){0};
}

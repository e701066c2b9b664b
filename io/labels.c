/* A column of obs as categories.
 *
 *  Categorical columns bring their categories; files of a list are merged by name, in the order of the first. Other
 *  columns give their distinct values: each rank looks through an even share of the rows, then rank after rank tells
 *  the others the values that they have not heard yet. So no rank holds more than the distinct values. */
#include "h5ad_impl.h"
#include "names_impl.h"
#include "read.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

typedef struct collector {
    ferry_file *file;
    const char *column;
    ferry_names categories; /* known to all ranks */
    ferry_name_index index;
    ferry_names mine; /* distinct values of this rank's share that are no category */
    ferry_name_index mine_index;
    int32_t **code;  /* [parts][categories of the part] code in `categories`; NULL: the part is not categorical */
    int64_t *sizes;  /* [parts] categories of the part */
    bool ordered;    /* in every part */
    bool numeric;    /* every part without categories holds integers */
    bool values_too; /* some part is not categorical */
} collector;

static ferry_status open_part(ferry_column *out, collector *c, int k)
{
    ferry_part *part;
    FERRY_AUTO_FRAME obs = {0};
    FERRY_TRY(ferry_file_part(&part, c->file, k));
    FERRY_TRY(ferry_frame_open(&obs, part, "obs"));
    FERRY_TRY(ferry_column_open(out, &obs, c->column));
    if (!out->categories && out->kind == FERRY_KIND_FLOAT)
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: numbers with fractions are no labels; make it a category: adata.obs['%.80s'] = "
                          "adata.obs['%.80s'].astype('category')",
                          part->path, out->path, c->column, c->column);
    return FERRY_OK;
}

static ferry_status too_many(const collector *c)
{
    return ferry_fail(FERRY_E_FILE, "%s: obs/%s: more than %d distinct values; name a coarser column",
                      ferry_file_path(c->file), c->column, FERRY_MAX_CATEGORIES);
}

/* Categories of part k join those that are known. */
static ferry_status take_categories(collector *c, const ferry_column *column, int k)
{
    ferry_names names = {0};
    ferry_status status = ferry_column_categories(&names, NULL, column);
    if (status == FERRY_OK) status = ferry_alloc(&c->code[k], names.count);
    for (int64_t i = 0; i < names.count && status == FERRY_OK; i++) {
        int64_t at = 0;
        status = ferry_name_index_add(&at, NULL, &c->index, &c->categories, ferry_name(&names, i),
                                      ferry_name_length(&names, i));
        c->code[k][i] = (int32_t)at;
    }
    c->sizes[k] = names.count;
    ferry_names_close(&names);
    if (status == FERRY_OK && c->categories.count > FERRY_MAX_CATEGORIES) return too_many(c);
    return status;
}

/* Distinct values of rows [first, first + count) of a part that are no category. */
static ferry_status take_values(collector *c, const ferry_column *column, int64_t first, int64_t count)
{
    FERRY_AUTO uint8_t *missing = NULL;
    ferry_names text = {0};
    ferry_status status = FERRY_OK;
    FERRY_TRY(ferry_alloc(&missing, FERRY_SLAB_ROWS));
    for (int64_t at = first; at < first + count && status == FERRY_OK; at += FERRY_SLAB_ROWS) {
        int64_t n = first + count - at < FERRY_SLAB_ROWS ? first + count - at : FERRY_SLAB_ROWS;
        ferry_names_close(&text);
        status = ferry_column_texts(&text, missing, column, at, n);
        for (int64_t i = 0; i < n && status == FERRY_OK; i++) {
            int64_t length = status == FERRY_OK ? ferry_name_length(&text, i) : 0, place;
            const char *value = ferry_name(&text, i);
            if (missing[i] || ferry_name_index_find(&c->index, &c->categories, value, length) >= 0) continue;
            status = ferry_name_index_add(&place, NULL, &c->mine_index, &c->mine, value, length);
            if (status == FERRY_OK && c->mine.count > FERRY_MAX_CATEGORIES) status = too_many(c);
        }
    }
    ferry_names_close(&text);
    return status;
}

/* Local. All categories, then the distinct values in this rank's even share of the rows. */
static ferry_status look(collector *c, const ferry_world *world)
{
    FERRY_H5_QUIET;
    int parts = c->file->parts;
    FERRY_TRY(ferry_alloc(&c->code, parts));
    FERRY_TRY(ferry_alloc(&c->sizes, parts));
    c->ordered = c->numeric = true;
    for (int k = 0; k < parts; k++) {
        FERRY_AUTO_COLUMN column = {0};
        FERRY_TRY(open_part(&column, c, k));
        if (column.categories) {
            FERRY_TRY(take_categories(c, &column, k));
            c->ordered = c->ordered && column.ordered;
            continue;
        }
        c->values_too = true;
        c->ordered = false;
        c->numeric = c->numeric && column.kind == FERRY_KIND_INTEGER;
    }
    int64_t cells = c->file->cells;
    int64_t begin = cells / world->size * world->rank + cells % world->size * world->rank / world->size;
    int64_t end = cells / world->size * (world->rank + 1) + cells % world->size * (world->rank + 1) / world->size;
    for (int k = 0; k < parts && c->values_too; k++) {
        const ferry_part *part = c->file->part + k;
        int64_t from = begin > part->first ? begin : part->first;
        int64_t to = end < part->first + part->cells ? end : part->first + part->cells;
        if (c->code[k] || from >= to) continue;
        FERRY_AUTO_COLUMN column = {0};
        FERRY_TRY(open_part(&column, c, k));
        FERRY_TRY(take_values(c, &column, from - part->first, to - from));
    }
    return FERRY_OK;
}

/* Local. The values of `mine` that `known` lacks, as texts with NULs between. */
static ferry_status pack_new(char **out, int64_t *bytes, const collector *c, const ferry_names *known,
                             const ferry_name_index *index)
{
    *bytes = 0;
    FERRY_TRY(ferry_alloc(out, c->mine.count ? c->mine.start[c->mine.count] : 0));
    for (int64_t i = 0; i < c->mine.count; i++) {
        int64_t length = ferry_name_length(&c->mine, i);
        if (ferry_name_index_find(index, known, ferry_name(&c->mine, i), length) >= 0) continue;
        memcpy(*out + *bytes, ferry_name(&c->mine, i), (size_t)length + 1);
        *bytes += length + 1;
    }
    return FERRY_OK;
}

static ferry_status unpack(ferry_names *known, ferry_name_index *index, const char *text, int64_t bytes)
{
    for (int64_t at = 0; text && at < bytes;) {
        int64_t length = (int64_t)strlen(text + at), place;
        FERRY_TRY(ferry_name_index_add(&place, NULL, index, known, text + at, length));
        at += length + 1;
    }
    return FERRY_OK;
}

/* Collective. Values of all ranks, each told once. */
static ferry_status tell_all(ferry_names *known, ferry_name_index *index, const ferry_world *world, const collector *c)
{
    for (int r = 0; r < world->size; r++) {
        FERRY_AUTO char *text = NULL;
        int64_t bytes = 0;
        ferry_status status = world->rank == r ? pack_new(&text, &bytes, c, known, index) : FERRY_OK;
        FERRY_TRY(ferry_agree(world, status));
        ferry_broadcast(world, &bytes, sizeof bytes, r);
        if (world->rank != r) status = ferry_alloc(&text, bytes);
        FERRY_TRY(ferry_agree(world, status));
        ferry_broadcast(world, text, (size_t)bytes, r);
        FERRY_TRY(ferry_agree(world, unpack(known, index, text, bytes)));
        if (known->count > FERRY_MAX_CATEGORIES) return too_many(c); /* on every rank */
    }
    return FERRY_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Whole numbers in digits: the sign, then the length, then the digits decide. */
static int by_number(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    bool x_below = *x == '-', y_below = *y == '-';
    if (x_below != y_below) return x_below ? -1 : 1;
    size_t nx = strlen(x), ny = strlen(y);
    int order = nx != ny ? (nx < ny ? -1 : 1) : strcmp(x, y);
    return x_below ? -order : order;
}

/* Local. The values, sorted, go behind the categories. */
static ferry_status append_sorted(collector *c, const ferry_names *values)
{
    FERRY_AUTO const char **order = NULL;
    FERRY_TRY(ferry_alloc(&order, values->count));
    for (int64_t i = 0; i < values->count; i++) order[i] = ferry_name(values, i);
    qsort(order, (size_t)values->count, sizeof *order, c->numeric ? by_number : by_text);
    for (int64_t i = 0; i < values->count; i++) {
        int64_t at;
        FERRY_TRY(ferry_name_index_add(&at, NULL, &c->index, &c->categories, order[i], (int64_t)strlen(order[i])));
    }
    return c->categories.count > FERRY_MAX_CATEGORIES ? too_many(c) : FERRY_OK;
}

static ferry_status merge(collector *c, const ferry_world *world)
{
    ferry_names values = {0};
    ferry_name_index index = {0};
    ferry_status status = tell_all(&values, &index, world, c);
    if (status == FERRY_OK) status = ferry_agree(world, append_sorted(c, &values));
    ferry_names_close(&values);
    ferry_name_index_close(&index);
    return status;
}

/* Codes of wanted rows of a part whose column has categories of its own. */
static ferry_status map_codes(int32_t *out, const collector *c, const ferry_column *column, int k, const int64_t *rows,
                              int64_t count)
{
    FERRY_AUTO int32_t *code = NULL;
    int64_t span, near = ferry_column_near(column), first = column->part->first;
    FERRY_TRY(ferry_alloc(&code, FERRY_SLAB_ROWS));
    for (int64_t at = 0, n; at < count; at += n) {
        n = ferry_next_run(&span, rows, at, count, near, FERRY_SLAB_ROWS);
        FERRY_TRY(ferry_column_codes(code, column, c->sizes[k], rows[at] - first, span));
        for (int64_t i = 0; i < n; i++) {
            int32_t here = code[rows[at + i] - rows[at]];
            out[at + i] = here < 0 ? -1 : c->code[k][here];
        }
    }
    return FERRY_OK;
}

/* The same for values: each is looked up. */
static ferry_status find_codes(int32_t *out, const collector *c, const ferry_column *column, const int64_t *rows,
                               int64_t count)
{
    FERRY_AUTO uint8_t *missing = NULL;
    int64_t span, near = ferry_column_near(column), first = column->part->first;
    FERRY_TRY(ferry_alloc(&missing, FERRY_SLAB_ROWS));
    for (int64_t at = 0, n; at < count; at += n) {
        ferry_names text = {0};
        n = ferry_next_run(&span, rows, at, count, near, FERRY_SLAB_ROWS);
        ferry_status status = ferry_column_texts(&text, missing, column, rows[at] - first, span);
        for (int64_t i = 0; i < n && status == FERRY_OK; i++) {
            int64_t j = rows[at + i] - rows[at];
            int64_t code = missing[j] ? -1
                                      : ferry_name_index_find(&c->index, &c->categories, ferry_name(&text, j),
                                                              ferry_name_length(&text, j));
            out[at + i] = (int32_t)code;
        }
        ferry_names_close(&text);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status fill(ferry_labels *out, collector *c, const int64_t *rows, int64_t count)
{
    FERRY_H5_QUIET;
    FERRY_TRY(ferry_file_check_rows(c->file, rows, count));
    FERRY_TRY(ferry_alloc(&out->code, count));
    for (int k = 0; k < c->file->parts; k++) {
        int64_t begin, end;
        ferry_file_rows_of(&begin, &end, c->file, k, rows, count);
        if (begin == end) continue;
        FERRY_AUTO_COLUMN column = {0};
        FERRY_TRY(open_part(&column, c, k));
        if (c->code[k])
            FERRY_TRY(map_codes(out->code + begin, c, &column, k, rows + begin, end - begin));
        else
            FERRY_TRY(find_codes(out->code + begin, c, &column, rows + begin, end - begin));
    }
    out->count = count;
    out->ordered = c->ordered;
    out->categories = c->categories; /* taken over */
    c->categories = (ferry_names){0};
    return FERRY_OK;
}

static ferry_status read_labels(ferry_labels *out, const ferry_world *world, collector *c, const int64_t *rows,
                                int64_t count)
{
    FERRY_TRY(ferry_same(world, "column of labels", c->column, strlen(c->column)));
    FERRY_TRY(ferry_agree(world, look(c, world)));
    if (c->values_too) FERRY_TRY(merge(c, world)); /* known to every rank: each looked at every file */
    return ferry_agree(world, fill(out, c, rows, count));
}

ferry_status ferry_read_labels(ferry_labels *out, const ferry_world *world, ferry_file *file, const char *column,
                               const int64_t *rows, int64_t count)
{
    collector c = {.file = file, .column = column};
    *out = (ferry_labels){0};
    ferry_status status = read_labels(out, world, &c, rows, count);
    ferry_names_close(&c.categories);
    ferry_names_close(&c.mine);
    ferry_name_index_close(&c.index);
    ferry_name_index_close(&c.mine_index);
    for (int k = 0; c.code && k < file->parts; k++) free(c.code[k]);
    free(c.code);
    free(c.sizes);
    if (status != FERRY_OK) ferry_labels_close(out);
    return status;
}

void ferry_labels_close(ferry_labels *labels)
{
    free(labels->code);
    ferry_names_close(&labels->categories);
    *labels = (ferry_labels){0};
}

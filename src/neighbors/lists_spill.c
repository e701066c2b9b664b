/* Lists on disk: an external bucket sort. Buckets are runs of lists that can be ordered in memory; rows go to their
 * bucket as they come, then each bucket is read, ordered and written back in place. A list that is larger than that is
 * ordered in runs, which are merged.
 *
 *  In the finished file a part of n rows takes the place of n records: cell [n], distance [n], rows [n][dim], and what
 *  is left is not used; so a part is one read. */
#include "lists_build_impl.h"
#include <string.h>

#define BUCKET_LEAST 32

/* ---- buckets ---- */

/* Rows that are ordered in memory. */
static int64_t limit_of(const ferry_lists_build_state *b)
{
    const int64_t each = (int64_t)(b->record + sizeof(ferry_lists_place));
    const int64_t rows = b->options->memory / 4 / each;
    return rows > BUCKET_LEAST ? rows : BUCKET_LEAST;
}

/* Runs of lists inside each rank's. With bucket NULL only counts them. */
static int64_t cut_buckets(ferry_lists_build_state *b, int64_t *bucket)
{
    const int64_t limit = limit_of(b), *first = b->out->first;
    int64_t count = 0;
    for (int r = 0; r < b->world->size; r++) {
        if (r == b->world->rank) b->bucket_first = count;
        for (int64_t list = b->cut[r]; list < b->cut[r + 1]; count++) {
            if (bucket) bucket[count] = list;
            int64_t end = list + 1;
            while (end < b->cut[r + 1] && first[end + 1] - first[list] <= limit) end++;
            list = end;
        }
        if (r == b->world->rank) b->bucket_count = count - b->bucket_first;
    }
    if (bucket) bucket[count] = b->lists;
    return count;
}

static ferry_status open_buckets(ferry_lists_build_state *b, int64_t **lengths)
{
    b->buckets = cut_buckets(b, NULL);
    FERRY_TRY(ferry_alloc(&b->bucket, b->buckets + 1));
    FERRY_TRY(ferry_alloc(lengths, b->buckets));
    cut_buckets(b, b->bucket);
    for (int64_t k = 0; k < b->buckets; k++)
        (*lengths)[k] = b->out->first[b->bucket[k + 1]] - b->out->first[b->bucket[k]];
    return FERRY_OK;
}

/* The bucket of this rank that has `list`. */
static int64_t bucket_of(const ferry_lists_build_state *b, int64_t list)
{
    int64_t low = b->bucket_first, high = low + b->bucket_count;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (b->bucket[middle] <= list)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static ferry_status place_spilled(ferry_lists_build_state *b, const char *records, int64_t count)
{
    for (int64_t i = 0; i < count; i++, records += b->record) {
        ferry_lists_record record;
        memcpy(&record, records, sizeof record);
        FERRY_TRY(ferry_scratch_append(b->scratch, bucket_of(b, record.list), records, 1));
    }
    return FERRY_OK;
}

/* ---- images of parts ---- */

/* Rows of one list in their order, collected to parts and written where they belong. */
typedef struct writer {
    ferry_lists_build_state *b;
    char *image;
    int64_t bucket, at; /* place of the part in its bucket */
    int64_t count, put; /* rows of the part, of which so many have come */
} writer;

static void begin_part(writer *w, int64_t left)
{
    w->count = left < FERRY_LIST_PART ? left : FERRY_LIST_PART;
    w->put = 0;
}

static void put_row(const writer *w, const char *record)
{
    const size_t width = (size_t)w->b->dim * sizeof(float);
    ferry_lists_record head;
    memcpy(&head, record, sizeof head);
    memcpy(w->image + 4 * w->put, &head.cell, 4);
    memcpy(w->image + 4 * (w->count + w->put), &head.distance, 4);
    memcpy(w->image + 8 * w->count + (size_t)w->put * width, record + sizeof head, width);
}

/* The next row of a list of which `left` have not come, this one counted. */
static ferry_status write_row(writer *w, const char *record, int64_t left)
{
    if (w->put == w->count) begin_part(w, left);
    put_row(w, record);
    if (++w->put < w->count) return FERRY_OK;
    const int64_t at = w->at;
    w->at += w->count;
    return ferry_scratch_write(w->b->scratch, w->bucket, at, w->count, w->image);
}

/* ---- a bucket in memory ---- */

typedef struct sorter {
    ferry_lists_build_state *b;
    int64_t limit; /* records */
    char *records;
    ferry_lists_place *place;
    int64_t *at; /* [lists of a bucket] */
    writer writer;
} sorter;

/* place [count]: the records by list, and in each list by (distance, cell). */
static void order_bucket(sorter *s, int64_t first_list, int64_t lists, int64_t count)
{
    const ferry_lists_build_state *b = s->b;
    int64_t total = 0;
    for (int64_t i = 0; i < lists; i++) {
        s->at[i] = total;
        total += b->sizes[first_list + i];
    }
    for (int64_t i = 0; i < count; i++) {
        ferry_lists_record record;
        memcpy(&record, s->records + (size_t)i * b->record, sizeof record);
        s->place[s->at[record.list - first_list]++] =
            (ferry_lists_place){ferry_lists_key(record.distance, record.cell), i};
    }
    for (int64_t i = 0; i < lists; i++)
        ferry_lists_sort(s->place + s->at[i] - b->sizes[first_list + i], b->sizes[first_list + i]);
}

static ferry_status sort_bucket(sorter *s, int64_t bucket)
{
    ferry_lists_build_state *b = s->b;
    const int64_t first_list = b->bucket[bucket], lists = b->bucket[bucket + 1] - first_list;
    const int64_t count = b->out->first[first_list + lists] - b->out->first[first_list];
    FERRY_TRY(ferry_scratch_read(b->scratch, bucket, 0, count, s->records));
    order_bucket(s, first_list, lists, count);
    const ferry_lists_place *place = s->place;
    for (int64_t i = 0; i < lists; i++)
        for (int64_t left = b->sizes[first_list + i]; left > 0; left--, place++)
            FERRY_TRY(write_row(&s->writer, s->records + (size_t)place->from * b->record, left));
    return FERRY_OK;
}

/* ---- a list that is larger than memory ---- */

typedef struct run {
    uint64_t key; /* of its next record */
    int64_t number, next, count;
    int64_t from, held; /* records in the buffer */
    char *buffer;
} run;

static void sink_run(run *heap, int64_t runs, int64_t at)
{
    for (int64_t child; (child = 2 * at + 1) < runs; at = child) {
        if (child + 1 < runs && heap[child + 1].key < heap[child].key) child++;
        if (heap[at].key <= heap[child].key) return;
        const run other = heap[at];
        heap[at] = heap[child];
        heap[child] = other;
    }
}

static uint64_t key_of(const char *record)
{
    ferry_lists_record head;
    memcpy(&head, record, sizeof head);
    return ferry_lists_key(head.distance, head.cell);
}

/* The next record becomes the first of the buffer; false when the run is at its end. */
static ferry_status advance(bool *more, run *r, const ferry_scratch *runs, int64_t room, size_t record)
{
    *more = r->next < r->count;
    if (!*more) return FERRY_OK;
    if (r->next == r->from + r->held) {
        r->from = r->next;
        r->held = r->count - r->next < room ? r->count - r->next : room;
        FERRY_TRY(ferry_scratch_read(runs, r->number, r->from, r->held, r->buffer));
    }
    r->key = key_of(r->buffer + (size_t)(r->next - r->from) * record);
    return FERRY_OK;
}

static ferry_status merge_runs(sorter *s, run *heap, int64_t runs, const ferry_scratch *sorted, int64_t left)
{
    const size_t record = s->b->record;
    const int64_t room = s->limit / runs > 0 ? s->limit / runs : 1;
    bool more;
    for (int64_t i = 0; i < runs; i++) {
        heap[i].buffer = s->records + (size_t)(i * room) * record;
        FERRY_TRY(advance(&more, &heap[i], sorted, room, record));
    }
    for (int64_t i = runs / 2; i-- > 0;) sink_run(heap, runs, i);
    for (; left > 0; left--) {
        run *r = &heap[0];
        FERRY_TRY(write_row(&s->writer, r->buffer + (size_t)(r->next - r->from) * record, left));
        r->next++;
        FERRY_TRY(advance(&more, r, sorted, room, record));
        if (!more) heap[0] = heap[--runs];
        sink_run(heap, runs, 0);
    }
    return FERRY_OK;
}

/* One run in order, into the second scratch file. */
static ferry_status sort_run(sorter *s, ferry_scratch *sorted, int64_t bucket, int64_t number, int64_t count)
{
    const ferry_lists_build_state *b = s->b;
    FERRY_TRY(ferry_scratch_read(b->scratch, bucket, number * s->limit, count, s->records));
    for (int64_t i = 0; i < count; i++)
        s->place[i] = (ferry_lists_place){key_of(s->records + (size_t)i * b->record), i};
    ferry_lists_sort(s->place, count);
    const int64_t most = FERRY_LIST_PART;
    for (int64_t at = 0; at < count; at += most) {
        const int64_t n = count - at < most ? count - at : most;
        for (int64_t i = 0; i < n; i++)
            memcpy(s->writer.image + (size_t)i * b->record, s->records + (size_t)s->place[at + i].from * b->record,
                   b->record);
        FERRY_TRY(ferry_scratch_write(sorted, number, at, n, s->writer.image));
    }
    return FERRY_OK;
}

static ferry_status sort_runs(sorter *s, ferry_scratch *sorted, run *heap, int64_t bucket, int64_t runs)
{
    int64_t left = s->b->sizes[s->b->bucket[bucket]];
    const int64_t all = left;
    for (int64_t k = 0; k < runs; k++, left -= s->limit) {
        heap[k] = (run){.number = k, .count = left < s->limit ? left : s->limit};
        FERRY_TRY(sort_run(s, sorted, bucket, k, heap[k].count));
    }
    return merge_runs(s, heap, runs, sorted, all);
}

static ferry_status sort_long(sorter *s, int64_t bucket)
{
    const int64_t count = s->b->sizes[s->b->bucket[bucket]], runs = (count + s->limit - 1) / s->limit;
    FERRY_AUTO run *heap = NULL;
    FERRY_AUTO int64_t *lengths = NULL;
    ferry_scratch *sorted = NULL;
    FERRY_TRY(ferry_alloc(&heap, runs));
    FERRY_TRY(ferry_alloc(&lengths, runs));
    for (int64_t k = 0; k < runs; k++) lengths[k] = count - k * s->limit < s->limit ? count - k * s->limit : s->limit;
    FERRY_TRY(ferry_scratch_open(&sorted, s->b->options->folder, lengths, runs, s->b->record, 0));
    const ferry_status status = sort_runs(s, sorted, heap, bucket, runs);
    ferry_scratch_close(&sorted);
    return status;
}

/* ---- all buckets of this rank ---- */

static ferry_status open_sorter(sorter *s)
{
    const ferry_lists_build_state *b = s->b;
    int64_t rows = 0, lists = 0, longest = 0, runs = 0;
    for (int64_t k = b->bucket_first; k < b->bucket_first + b->bucket_count; k++) {
        const int64_t count = b->out->first[b->bucket[k + 1]] - b->out->first[b->bucket[k]];
        if (count > rows) rows = count;
        if (b->bucket[k + 1] - b->bucket[k] > lists) lists = b->bucket[k + 1] - b->bucket[k];
    }
    for (int64_t i = b->cut[b->world->rank]; i < b->cut[b->world->rank + 1]; i++)
        if (b->sizes[i] > longest) longest = b->sizes[i];
    s->limit = limit_of(b);
    if (rows > s->limit) {
        runs = (rows + s->limit - 1) / s->limit; /* each of them has at least one record in memory */
        rows = s->limit > runs ? s->limit : runs;
    }
    FERRY_TRY(ferry_alloc_bytes(&s->records, rows, b->record));
    FERRY_TRY(ferry_alloc(&s->place, rows));
    FERRY_TRY(ferry_alloc(&s->at, lists));
    return ferry_alloc_bytes(&s->writer.image, longest < FERRY_LIST_PART ? longest : FERRY_LIST_PART, b->record);
}

static ferry_status sort_buckets(sorter *s)
{
    ferry_lists_build_state *b = s->b;
    const int64_t own = b->out->first[b->cut[b->world->rank + 1]] - b->out->first[b->cut[b->world->rank]];
    int64_t done = 0;
    FERRY_TRY(open_sorter(s));
    for (int64_t k = b->bucket_first; k < b->bucket_first + b->bucket_count; k++) {
        const int64_t count = b->out->first[b->bucket[k + 1]] - b->out->first[b->bucket[k]];
        s->writer.b = b;
        s->writer.bucket = k;
        s->writer.at = s->writer.count = s->writer.put = 0;
        FERRY_TRY(count <= s->limit ? sort_bucket(s, k) : sort_long(s, k));
        ferry_lists_progress(b, "ordering", done += count, own);
    }
    return FERRY_OK;
}

static ferry_status order_spilled(ferry_lists_build_state *b)
{
    sorter s = {.b = b};
    ferry_status status = ferry_scratch_flush(b->scratch);
    if (status == FERRY_OK) status = sort_buckets(&s);
    free(s.records);
    free(s.place);
    free(s.at);
    free(s.writer.image);
    return status;
}

/* ---- reading ---- */

typedef struct spilled {
    ferry_scratch *scratch;
    int64_t buckets, *row; /* [buckets + 1] rows before each bucket */
} spilled;

static ferry_status read_spilled(const void *self, char *image, int64_t first, int64_t count)
{
    const spilled *it = self;
    int64_t low = 0, high = it->buckets; /* row[low] <= first < row[high] */
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (it->row[middle] <= first)
            low = middle;
        else
            high = middle;
    }
    return ferry_scratch_read(it->scratch, low, first - it->row[low], count, image);
}

static void close_spilled(void *self)
{
    spilled *it = self;
    ferry_scratch_close(&it->scratch);
    free(it->row);
    free(it);
}

/* The scratch file becomes the lists'. */
static ferry_status open_reading(ferry_lists_build_state *b)
{
    spilled *it = NULL;
    int64_t *row = NULL;
    FERRY_TRY(ferry_alloc(&it, 1));
    const ferry_status status = ferry_alloc(&row, b->buckets + 1);
    if (status != FERRY_OK) {
        free(it);
        return status;
    }
    for (int64_t k = 0; k <= b->buckets; k++) row[k] = b->out->first[b->bucket[k]];
    *it = (spilled){b->scratch, b->buckets, row};
    b->scratch = NULL;
    const ferry_lists_source source = {read_spilled, close_spilled, it, b->record};
    return ferry_lists_cached(b->out, &source, b->options->cache ? b->options->cache : b->options->memory);
}

ferry_status ferry_lists_spill(ferry_lists_build_state *b)
{
    FERRY_AUTO int64_t *lengths = NULL;
    b->place = place_spilled;
    FERRY_TRY(ferry_agree(b->world, open_buckets(b, &lengths)));
    FERRY_TRY(ferry_scratch_open_shared(&b->scratch, b->world, b->options->folder, lengths, b->buckets, b->record,
                                        b->options->memory / 4));
    FERRY_TRY(ferry_lists_send(b));
    FERRY_TRY(ferry_agree(b->world, order_spilled(b)));
    FERRY_TRY(ferry_scratch_share(b->scratch, b->world));
    return ferry_agree(b->world, open_reading(b));
}

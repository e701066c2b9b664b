/* A CSR matrix of unknown size, appended by row blocks that are dealt to the ranks block-cyclically.
 *
 *  Rows and elements wait in memory until some rank has no room; then all ranks write one pass. A pass is a run of
 *  elements [first, first + length) of the matrix, cut into one slab of whole chunks a rank; the elements move to the
 *  rank of their slab and are packed and written there, so that packing is shared evenly however uneven the blocks are.
 *  A pass ends at a chunk boundary, the rest waits for the next one: no packed chunk is written twice, and the bytes of
 *  every chunk are the same for any number of ranks. indptr then gets the rows that are complete, and the file is
 *  flushed: after each pass the partial file holds len(indptr) - 1 whole rows.
 *
 *  Every rank knows how many elements of every rank wait (a table of one line a call), so all decide alike when to
 *  write and what moves where, without asking. */
#include "write_impl.h"
#include "mpi/exchange.h"
#include "mpi/stage.h"
#include <stdio.h>
#include <string.h>

#define WAITING ((int64_t)1 << 20) /* elements that wait on a rank: 8 chunks, 12 MiB */
#define TABLE   ((int64_t)1 << 20) /* entries of the tables before a pass is made to shorten them */

/* Things of the matrix, elements or rows, that were taken and are not written: count[call * size + rank] each, in the
 * order of the file. */
typedef struct queue {
    int64_t first; /* place in the file of the first */
    int64_t calls, room;
    int64_t *count;
} queue;

typedef struct ferry_csr {
    ferry_output *output;
    struct ferry_csr *next;
    char path[FERRY_PATH];
    int64_t rows, columns;
    hid_t data, indices, indptr;
    int64_t room, chunk; /* elements that may wait here; of a chunk */
    float *value;        /* [room] waiting on this rank */
    int64_t *index;      /* [room] as wide as the row pointers: scipy refuses a mixture in place (sort_indices) */
    int64_t *end;        /* [line_room] waiting rows: where they end in the file */
    int64_t lines, line_room;
    queue elements, rows_left;
    int64_t *fill, *held;                   /* [size] elements and rows that wait on each rank */
    int64_t *left;                          /* [size] elements of this call that found no room yet */
    int64_t *came, *pair;                   /* [2 size] rows and elements of each rank in this call; [size] twos */
    int64_t *send, *receive, *place, *gone; /* [size] */
    int64_t slab_bytes;
    char *moved, *slab;               /* [slab_bytes] */
    int64_t came_rows, came_elements; /* all ranks, all calls */
} ferry_csr;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- queues ---- */

static ferry_status queue_room(queue *q, int size)
{
    if (q->calls < q->room) return FERRY_OK;
    FERRY_TRY(ferry_grow(&q->count, q->calls * size, 2 * (q->room + 8) * size));
    q->room = 2 * (q->room + 8);
    return FERRY_OK;
}

/* Takes `length` things from the front; gone[rank] = how many of each rank. */
static void queue_take(queue *q, int size, int64_t length, int64_t *gone)
{
    int64_t done = 0;
    memset(gone, 0, (size_t)size * sizeof *gone);
    q->first += length;
    for (; done < q->calls && length; done++) {
        for (int r = 0; r < size && length; r++) {
            int64_t n = smaller(q->count[done * size + r], length);
            q->count[done * size + r] -= n;
            gone[r] += n;
            length -= n;
        }
        if (!length) break; /* this call may have more */
    }
    memmove(q->count, q->count + done * size, (size_t)((q->calls - done) * size) * sizeof *q->count);
    q->calls -= done;
}

/* Where the slab of part r of [first, first + length) begins: at a multiple of unit. */
static int64_t cut(int64_t first, int64_t length, int r, int size, int64_t unit)
{
    if (r == 0) return first;
    if (r >= size) return first + length;
    int64_t at = (first + length / size * r + length % size * r / size) / unit * unit;
    return at < first ? first : at;
}

/* Called for each piece of [first, first + length) that lies in one rank's buffer and goes to one rank's slab. */
typedef void (*piece_fn)(void *self, int from, int to, int64_t at, int64_t count);

static void for_pieces(const queue *q, int size, int64_t length, int64_t unit, piece_fn piece, void *self)
{
    int64_t at = q->first, stop = q->first + length;
    int to = 0;
    for (int64_t k = 0; at < stop; k++) {
        int64_t end = smaller(at + q->count[k], stop);
        while (at < end) {
            int64_t slab_end = cut(q->first, length, to + 1, size, unit);
            if (at >= slab_end) {
                to++;
                continue;
            }
            int64_t n = smaller(end, slab_end) - at;
            piece(self, (int)(k % size), to, at, n);
            at += n;
        }
    }
}

/* ---- moving to the slabs ---- */

typedef struct move {
    ferry_csr *it;
    size_t bytes;  /* of one thing */
    int64_t first; /* of my slab */
} move;

static void count_piece(void *self, int from, int to, int64_t at, int64_t count)
{
    const move *m = self;
    int me = m->it->output->world->rank;
    (void)at;
    if (from == me) m->it->send[to] += count;
    if (to == me) m->it->receive[from] += count;
}

static void place_piece(void *self, int from, int to, int64_t at, int64_t count)
{
    const move *m = self;
    if (to != m->it->output->world->rank) return;
    memcpy(m->it->slab + (size_t)(at - m->first) * m->bytes, m->it->moved + (size_t)m->it->place[from] * m->bytes,
           (size_t)count * m->bytes);
    m->it->place[from] += count;
}

/* Moves [q->first, q->first + length) to its slabs. mine: what of it waits here, in order. Returns this rank's slab:
 * things *first .. *first + *count. */
static const void *to_slab(ferry_csr *it, const queue *q, int64_t length, int64_t unit, const void *mine, size_t bytes,
                           int64_t *first, int64_t *count)
{
    const ferry_world *world = it->output->world;
    *first = cut(q->first, length, world->rank, world->size, unit);
    *count = cut(q->first, length, world->rank + 1, world->size, unit) - *first;
    if (world->size == 1) return mine;
    move m = {it, bytes, *first};
    memset(it->send, 0, (size_t)world->size * sizeof *it->send);
    memset(it->receive, 0, (size_t)world->size * sizeof *it->receive);
    for_pieces(q, world->size, length, unit, count_piece, &m);
    ferry_exchange(world, mine, it->send, it->moved, it->receive, bytes);
    it->place[0] = 0;
    for (int r = 1; r < world->size; r++) it->place[r] = it->place[r - 1] + it->receive[r - 1];
    for_pieces(q, world->size, length, unit, place_piece, &m);
    return it->slab;
}

/* ---- a pass ---- */

/* Elements from the first waiting one on that are in buffers without a gap: up to a rank whose block did not fit. */
static int64_t ready(const ferry_csr *it)
{
    int size = it->output->world->size;
    const queue *q = &it->elements;
    int64_t sum = 0;
    for (int64_t k = 0; k < q->calls * size; k++) {
        int64_t missing = k / size == q->calls - 1 ? it->left[k % size] : 0;
        sum += q->count[k] - missing;
        if (missing) break;
    }
    return sum;
}

static ferry_status extend(const ferry_csr *it, int64_t elements, int64_t rows)
{
    int64_t end = it->elements.first + elements, entries = it->rows_left.first + rows + 1;
    hsize_t length = (hsize_t)end, lines = (hsize_t)entries;
    if (H5Dset_extent(it->data, &length) >= 0 && H5Dset_extent(it->indices, &length) >= 0 &&
        H5Dset_extent(it->indptr, &lines) >= 0)
        return FERRY_OK;
    return ferry_write_fail(it->output, it->path, "the matrix cannot grow");
}

static ferry_status write_slab(ferry_csr *it, hid_t dataset, hid_t type, const queue *q, int64_t length, int64_t unit,
                               const void *mine, int64_t shift)
{
    int64_t first, count;
    const void *slab = to_slab(it, q, length, unit, mine, H5Tget_size(type), &first, &count);
    return ferry_agree(it->output->world,
                       ferry_put_rows(it->output, it->path, dataset, type, 0, 0, first + shift, count, slab));
}

static ferry_status write_elements(ferry_csr *it, int64_t length)
{
    const ferry_world *world = it->output->world;
    if (!length) return FERRY_OK;
    FERRY_TRY(write_slab(it, it->data, H5T_NATIVE_FLOAT, &it->elements, length, it->chunk, it->value, 0));
    FERRY_TRY(write_slab(it, it->indices, H5T_NATIVE_INT64, &it->elements, length, it->chunk, it->index, 0));
    queue_take(&it->elements, world->size, length, it->gone);
    for (int r = 0; r < world->size; r++) it->fill[r] -= it->gone[r];
    size_t gone = (size_t)it->gone[world->rank], kept = (size_t)it->fill[world->rank];
    memmove(it->value, it->value + gone, kept * sizeof *it->value);
    memmove(it->index, it->index + gone, kept * sizeof *it->index);
    return FERRY_OK;
}

/* In runs of rows whose slabs fit. */
static ferry_status write_lines(ferry_csr *it, int64_t rows)
{
    const ferry_world *world = it->output->world;
    int64_t most = (it->slab_bytes / 8 - 1) * world->size;
    for (int64_t done = 0; done < rows; done += most) {
        int64_t run = smaller(rows - done, most);
        FERRY_TRY(write_slab(it, it->indptr, H5T_NATIVE_INT64, &it->rows_left, run, 1, it->end, 1));
        queue_take(&it->rows_left, world->size, run, it->gone);
        for (int r = 0; r < world->size; r++) it->held[r] -= it->gone[r];
        size_t kept = (size_t)it->held[world->rank] * sizeof *it->end;
        if (kept) memmove(it->end, it->end + it->gone[world->rank], kept);
    }
    return FERRY_OK;
}

/* Room on the disk: allocated unpacked, in whole chunks. */
static int64_t pass_bytes(const ferry_csr *it, int64_t elements, int64_t rows)
{
    return (elements + 2 * it->chunk) * (int64_t)(sizeof *it->value + sizeof *it->index) + (rows + 2 * FERRY_CHUNK) * 8;
}

static ferry_status pass(ferry_csr *it, bool last)
{
    FERRY_H5_QUIET;
    const ferry_world *world = it->output->world;
    int64_t end = it->elements.first + ready(it), complete = 0;
    if (!last) end = end / it->chunk * it->chunk;
    if (end < it->elements.first) end = it->elements.first;
    while (complete < it->held[world->rank] && it->end[complete] <= end) complete++;
    int64_t length = end - it->elements.first, rows = ferry_total(world, complete);
    if (!length && !rows) return FERRY_OK;
    FERRY_TRY(ferry_agree(world, ferry_reserve(it->output, pass_bytes(it, length, rows))));
    FERRY_TRY(ferry_agree(world, extend(it, length, rows)));
    FERRY_TRY(write_elements(it, length));
    FERRY_TRY(write_lines(it, rows));
    ferry_stage_sample();
    return ferry_agree(world, ferry_flush(it->output));
}

/* ---- taking blocks ---- */

static ferry_status check_block(const ferry_csr *it, const ferry_rows *block)
{
    for (int64_t i = 0; i < block->rows; i++) {
        int64_t from = block->indptr[i], to = block->indptr[i + 1], before = -1;
        if ((i == 0 && from != 0) || to < from)
            return ferry_fail(FERRY_E_ARG, "%s: row %lld of a block goes from element %lld to %lld", it->path,
                              (long long)i, (long long)from, (long long)to);
        for (int64_t k = from; k < to; k++) {
            if (block->indices[k] <= before || block->indices[k] >= it->columns)
                return ferry_fail(FERRY_E_ARG, "%s: column %lld after %lld of %lld in row %lld of a block", it->path,
                                  (long long)block->indices[k], (long long)before, (long long)it->columns,
                                  (long long)i);
            before = block->indices[k];
        }
    }
    return FERRY_OK;
}

static ferry_status make_room(ferry_csr *it, int64_t rows)
{
    FERRY_TRY(queue_room(&it->elements, it->output->world->size));
    FERRY_TRY(queue_room(&it->rows_left, it->output->world->size));
    int64_t held = it->held[it->output->world->rank], need = held + (rows > 0 ? rows : 0);
    if (need <= it->line_room) return FERRY_OK;
    FERRY_TRY(ferry_grow(&it->end, held, need + need / 2));
    it->line_room = need + need / 2;
    return FERRY_OK;
}

/* Where every rank's rows and elements of this call belong; the rows begin to wait. */
static ferry_status enter_call(ferry_csr *it, const ferry_rows *block)
{
    const ferry_world *world = it->output->world;
    int64_t mine[2] = {block->rows, block->rows ? block->indptr[block->rows] : 0};
    ferry_gather_all(world, mine, it->pair, it->came, sizeof *mine);
    int64_t before = it->came_elements, *elements = it->elements.count + it->elements.calls++ * world->size,
            *rows = it->rows_left.count + it->rows_left.calls++ * world->size;
    int64_t *end = it->end + it->held[world->rank];
    for (int r = 0; r < world->size; r++) {
        if (r == world->rank) before = it->came_elements;
        rows[r] = it->came[2 * r];
        elements[r] = it->left[r] = it->came[2 * r + 1];
        it->held[r] += rows[r];
        it->came_rows += rows[r];
        it->came_elements += elements[r];
    }
    if (it->came_rows > it->rows)
        return ferry_fail(FERRY_E_ARG, "%s: row %lld came for a matrix of %lld rows", it->path,
                          (long long)it->came_rows, (long long)it->rows);
    for (int64_t i = 0; i < block->rows; i++) end[i] = before + block->indptr[i + 1];
    return FERRY_OK;
}

static void copy_elements(ferry_csr *it, const ferry_rows *block, int64_t at, int64_t to, int64_t count)
{
    if (!count) return;
    memcpy(it->value + to, block->values + at, (size_t)count * sizeof *it->value);
    memcpy(it->index + to, block->indices + at, (size_t)count * sizeof *it->index);
}

/* Every rank's buffer as far as there is room; true when some rank has elements left. */
static bool fill_up(ferry_csr *it, const ferry_rows *block)
{
    const ferry_world *world = it->output->world;
    bool more = false;
    for (int r = 0; r < world->size; r++) {
        int64_t count = smaller(it->left[r], it->room - it->fill[r]);
        if (r == world->rank) copy_elements(it, block, it->came[2 * r + 1] - it->left[r], it->fill[r], count);
        it->fill[r] += count;
        it->left[r] -= count;
        if (it->left[r]) more = true;
    }
    return more;
}

static bool many_wait(const ferry_csr *it)
{
    int size = it->output->world->size;
    int64_t most = 0;
    for (int r = 0; r < size; r++)
        if (it->held[r] > most) most = it->held[r];
    return most > it->room || it->elements.calls * size > TABLE || it->rows_left.calls * size > TABLE;
}

static ferry_status take(void *self, const ferry_rows *block)
{
    ferry_csr *it = self;
    ferry_status status = check_block(it, block);
    if (status == FERRY_OK) status = make_room(it, block->rows);
    FERRY_TRY(ferry_agree(it->output->world, status));
    FERRY_TRY(enter_call(it, block));
    while (fill_up(it, block)) FERRY_TRY(pass(it, false));
    return many_wait(it) ? pass(it, false) : FERRY_OK;
}

/* ---- open and finish ---- */

int64_t ferry_output_csr_bytes(void)
{
    const int64_t index = sizeof(int64_t);
    /* waiting, moved and slab, and what HDF5 holds of a slab: unpacked and packed */
    return WAITING * (4 + index) + 4 * (WAITING + 2 * FERRY_CHUNK) * index;
}

/* FERRY_PASS=<elements> of rank 0 makes passes small, for tests. */
static void sizes(ferry_csr *it)
{
    const char *text = it->output->world->rank ? NULL : getenv("FERRY_PASS");
    int64_t wish = text ? strtoll(text, NULL, 10) : 0;
    ferry_broadcast(it->output->world, &wish, sizeof wish, 0);
    it->room = wish > 0 ? wish + 4 : WAITING;
    it->chunk = wish > 0 ? it->room / 4 : FERRY_CHUNK;
    double most = (double)it->rows * (double)it->columns; /* a small matrix needs no large chunk */
    if (most < (double)it->chunk) it->chunk = most < 1 ? 1 : (int64_t)most;
    it->slab_bytes = (it->room + 2 * it->chunk + 16) * (int64_t)sizeof *it->index;
}

static ferry_status buffers(ferry_csr *it)
{
    int64_t size = it->output->world->size;
    FERRY_TRY(ferry_alloc(&it->value, it->room));
    FERRY_TRY(ferry_alloc(&it->index, it->room));
    if (size > 1) FERRY_TRY(ferry_alloc(&it->moved, it->slab_bytes));
    if (size > 1) FERRY_TRY(ferry_alloc(&it->slab, it->slab_bytes));
    int64_t **each[] = {&it->fill, &it->held, &it->left, &it->pair, &it->send, &it->receive, &it->place, &it->gone};
    for (size_t k = 0; k < sizeof each / sizeof *each; k++) FERRY_TRY(ferry_alloc(each[k], size));
    for (int64_t r = 0; r < size; r++) it->pair[r] = 2;
    return ferry_alloc(&it->came, 2 * size);
}

static ferry_status make_datasets(ferry_csr *it)
{
    FERRY_H5_QUIET;
    ferry_output *output = it->output;
    char path[FERRY_PATH + 16];
    int64_t shape[2] = {it->rows, it->columns}, zero = 0;
    FERRY_HID group = H5Gopen2(output->file, it->path, H5P_DEFAULT);
    if (group < 0) return ferry_write_fail(output, it->path, "the group cannot be opened");
    FERRY_TRY(ferry_put_values(output, it->path, group, "shape", H5T_NATIVE_INT64, 2, shape));
    snprintf(path, sizeof path, "%s/data", it->path);
    FERRY_TRY(ferry_new_dataset(&it->data, output, path, H5T_IEEE_F32LE, 0, 0, FERRY_GROWING, it->chunk));
    snprintf(path, sizeof path, "%s/indices", it->path);
    FERRY_TRY(ferry_new_dataset(&it->indices, output, path, H5T_STD_I64LE, 0, 0, FERRY_GROWING, it->chunk));
    snprintf(path, sizeof path, "%s/indptr", it->path);
    FERRY_TRY(ferry_new_dataset(&it->indptr, output, path, H5T_STD_I64LE, 1, 0, FERRY_APPENDED,
                                smaller(it->rows + 1, FERRY_CHUNK)));
    return ferry_put_rows(output, path, it->indptr, H5T_NATIVE_INT64, 0, 0, 0, output->world->rank == 0, &zero);
}

/* Becomes the first of output->csr, which ferry_csr_drop frees. */
static ferry_status new_csr(ferry_output *output, const char *path, int64_t rows, int64_t columns)
{
    if (rows < 0 || columns < 0)
        return ferry_fail(FERRY_E_ARG, "%s: a matrix of %lld x %lld", path, (long long)rows, (long long)columns);
    ferry_csr *it = NULL;
    FERRY_TRY(ferry_alloc(&it, 1));
    it->output = output;
    it->rows = rows;
    it->columns = columns;
    it->data = it->indices = it->indptr = -1;
    it->next = output->csr;
    output->csr = it;
    return ferry_path(it->path, path);
}

ferry_status ferry_output_csr_open(ferry_sink *sink, ferry_output *output, const char *path, int64_t rows,
                                   int64_t columns)
{
    int64_t shape[2] = {rows, columns};
    memset(sink, 0, sizeof *sink);
    FERRY_TRY(ferry_agree(output->world, new_csr(output, path, rows, columns)));
    ferry_csr *it = output->csr;
    FERRY_TRY(ferry_same(output->world, "the shape of a sparse matrix", shape, sizeof shape));
    sizes(it);
    FERRY_TRY(ferry_agree(output->world, buffers(it)));
    FERRY_TRY(ferry_output_group(output, it->path, "csr_matrix", "0.1.0"));
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, pass_bytes(it, 0, 0))));
    FERRY_TRY(ferry_agree(output->world, make_datasets(it)));
    *sink = (ferry_sink){take, it};
    return FERRY_OK;
}

static void close_csr(ferry_csr *it)
{
    ferry_hid_close(&it->data);
    ferry_hid_close(&it->indices);
    ferry_hid_close(&it->indptr);
    void *memory[] = {it->value, it->index, it->end,  it->elements.count, it->rows_left.count, it->fill,  it->held,
                      it->left,  it->came,  it->pair, it->send,           it->receive,         it->place, it->gone,
                      it->moved, it->slab};
    for (size_t k = 0; k < sizeof memory / sizeof *memory; k++) free(memory[k]);
    free(it);
}

void ferry_csr_drop(ferry_output *output)
{
    while (output->csr) {
        ferry_csr *it = output->csr;
        output->csr = it->next;
        close_csr(it);
    }
}

ferry_status ferry_output_csr_finish(ferry_sink *sink)
{
    ferry_csr *it = sink->self;
    memset(sink, 0, sizeof *sink);
    if (it->came_rows != it->rows)
        return ferry_fail(FERRY_E_ARG, "%s: %lld of %lld rows came", it->path, (long long)it->came_rows,
                          (long long)it->rows);
    FERRY_TRY(pass(it, true));
    for (ferry_csr **at = &it->output->csr; *at; at = &(*at)->next) {
        if (*at != it) continue;
        *at = it->next;
        break;
    }
    close_csr(it);
    return FERRY_OK;
}

/* Rows of a dense matrix, of a compound field and of a data frame.
 *
 *  Wanted rows are read in runs (ferry_next_run) of at most a slab. A chunk is unpacked once: the cache of the dataset
 *  holds the chunks that a band of rows touches; where it cannot (very wide bands), the columns are taken in stripes of
 *  whole chunks that it can hold. */
#include "h5ad_impl.h"
#include "mpi/stage.h"
#include <string.h>

/* What one read call needs. */
typedef struct reader {
    const ferry_disk *disk;
    char *out; /* [count, columns] of `size` bytes each */
    size_t size;
    hid_t memory; /* type of one number in memory; not owned */
    int64_t columns, count, first;
    const int64_t *rows;
    bool flags; /* booleans in the file: one byte each, HDF5 will not turn them into numbers */
} reader;

static void put(const reader *r, void *to, double value)
{
    if (r->size == sizeof(float))
        *(float *)to = (float)value;
    else
        *(double *)to = value;
}

/* File rows [row, row + span) and columns [left, left + width) into `to`, whose rows are `stride` numbers apart. */
static ferry_status read_block(const reader *r, void *to, int64_t stride, int64_t row, int64_t span, int64_t left,
                               int64_t width)
{
    const ferry_disk *disk = r->disk;
    hsize_t start[2] = {(hsize_t)row, (hsize_t)left}, size[2] = {(hsize_t)span, (hsize_t)width};
    hsize_t shape[2] = {(hsize_t)span, (hsize_t)stride}, origin[2] = {0, 0};
    FERRY_HID file = H5Dget_space(disk->data), memory = H5Screate_simple(2, shape, NULL);
    H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, size, NULL);
    H5Sselect_hyperslab(memory, H5S_SELECT_SET, origin, NULL, size, NULL);
    if (H5Dread(disk->data, r->flags ? disk->type : r->memory, memory, file, H5P_DEFAULT, to) < 0)
        return ferry_h5_unreadable(disk->data, disk->part->path, disk->path);
    ferry_stage_read(span * width * (int64_t)H5Tget_size(disk->type));
    return FERRY_OK;
}

static ferry_status read_stripe(const reader *r, char *slab, int64_t slab_rows, int64_t near, int64_t left,
                                int64_t width)
{
    int64_t span;
    for (int64_t k = 0, n; k < r->count; k += n) {
        n = ferry_next_run(&span, r->rows, k, r->count, near, slab_rows);
        char *to = r->out + (size_t)(k * r->columns + left) * r->size;
        if (span == n && !r->flags) {
            FERRY_TRY(read_block(r, to, r->columns, r->rows[k] - r->first, span, left, width));
            continue;
        }
        FERRY_TRY(read_block(r, slab, width, r->rows[k] - r->first, span, left, width));
        for (int64_t i = 0; i < n; i++, to += (size_t)r->columns * r->size) {
            int64_t at = (r->rows[k + i] - r->rows[k]) * width;
            if (!r->flags) memcpy(to, slab + (size_t)at * r->size, (size_t)width * r->size);
            for (int64_t j = 0; r->flags && j < width; j++) put(r, to + (size_t)j * r->size, slab[at + j] != 0);
        }
    }
    return FERRY_OK;
}

static ferry_status read_dense(const reader *r)
{
    hsize_t chunk[8] = {0, 0};
    bool chunked = ferry_h5_chunk(chunk, r->disk->data);
    int64_t width = r->columns, stored = (int64_t)H5Tget_size(r->disk->type);
    if (chunked && (double)chunk[0] * (double)width * (double)stored > (double)FERRY_SLAB_BYTES) {
        double chunk_bytes = (double)chunk[0] * (double)chunk[1] * (double)stored;
        int64_t chunks = (int64_t)((double)FERRY_SLAB_BYTES / chunk_bytes);
        width = (chunks > 1 ? chunks - 1 : 1) * (int64_t)chunk[1];
        if (width > r->columns) width = r->columns;
    }
    int64_t slab_rows = FERRY_SLAB_BYTES / (width * (int64_t)r->size);
    if (slab_rows < 1) slab_rows = 1;
    int64_t near = chunked ? (int64_t)chunk[0] : 65536 / (width * stored) + 1;
    int64_t longest = 0, span;
    for (int64_t k = 0, n; k < r->count; k += n) { /* the slab as large as the runs need */
        n = ferry_next_run(&span, r->rows, k, r->count, near, slab_rows);
        if ((span != n || r->flags) && span > longest) longest = span;
    }
    FERRY_AUTO char *slab = NULL;
    FERRY_TRY(ferry_alloc_bytes(&slab, longest * width, r->size));
    for (int64_t left = 0; left < r->columns; left += width) {
        int64_t here = r->columns - left < width ? r->columns - left : width;
        FERRY_TRY(read_stripe(r, slab, slab_rows, near, left, here));
    }
    return FERRY_OK;
}

/* One dimension on disk: one column. */
static ferry_status read_flat(const reader *r)
{
    const ferry_disk *disk = r->disk;
    int64_t span;
    FERRY_AUTO double *slab = NULL;
    FERRY_TRY(ferry_alloc(&slab, FERRY_SLAB_ROWS));
    for (int64_t k = 0, n; k < r->count; k += n) {
        n = ferry_next_run(&span, r->rows, k, r->count, 4096, FERRY_SLAB_ROWS);
        FERRY_TRY(ferry_h5_read(slab, disk->data, H5T_NATIVE_DOUBLE, r->rows[k] - r->first, span, disk->part->path,
                                disk->path));
        for (int64_t i = 0; i < n; i++) put(r, r->out + (size_t)(k + i) * r->size, slab[r->rows[k + i] - r->rows[k]]);
    }
    return FERRY_OK;
}

/* A field of compound obsm: HDF5 picks it by name, whole. */
static ferry_status read_field(const reader *r)
{
    const ferry_disk *disk = r->disk;
    hsize_t dims = (hsize_t)disk->columns, chunk[8];
    size_t row_bytes = (size_t)disk->columns * r->size;
    int64_t slab_rows = FERRY_SLAB_BYTES / (int64_t)row_bytes, span;
    if (slab_rows < 1) slab_rows = 1;
    int64_t near = ferry_h5_chunk(chunk, disk->data) ? (int64_t)chunk[0] : 256;
    FERRY_HID array = H5Tarray_create2(r->memory, 1, &dims), one = H5Tcreate(H5T_COMPOUND, row_bytes);
    if (array < 0 || one < 0 || H5Tinsert(one, disk->member, 0, array) < 0)
        return ferry_h5_fail(disk->part->path, disk->path, "cannot be read", FERRY_REWRITE);
    if (slab_rows > disk->rows) slab_rows = disk->rows;
    FERRY_AUTO char *slab = NULL;
    FERRY_TRY(ferry_alloc_bytes(&slab, slab_rows, row_bytes));
    for (int64_t k = 0, n; k < r->count; k += n) {
        n = ferry_next_run(&span, r->rows, k, r->count, near, slab_rows);
        FERRY_TRY(ferry_h5_read(slab, disk->data, one, r->rows[k] - r->first, span, disk->part->path, disk->path));
        for (int64_t i = 0; i < n; i++)
            memcpy(r->out + (size_t)((k + i) * r->columns) * r->size,
                   slab + (size_t)(r->rows[k + i] - r->rows[k]) * row_bytes, (size_t)r->columns * r->size);
    }
    return FERRY_OK;
}

static ferry_status read_table_column(const reader *r, double *slab, int64_t c)
{
    int64_t span;
    FERRY_AUTO_COLUMN column = {0};
    FERRY_TRY(ferry_column_open(&column, &r->disk->frame, ferry_name(&r->disk->frame.columns, c)));
    int64_t near = ferry_column_near(&column);
    for (int64_t k = 0, n; k < r->count; k += n) {
        n = ferry_next_run(&span, r->rows, k, r->count, near, FERRY_SLAB_ROWS);
        FERRY_TRY(ferry_column_numbers(slab, &column, r->rows[k] - r->first, span));
        for (int64_t i = 0; i < n; i++)
            put(r, r->out + (size_t)((k + i) * r->columns + c) * r->size, slab[r->rows[k + i] - r->rows[k]]);
    }
    return FERRY_OK;
}

static ferry_status read_table(const reader *r)
{
    FERRY_AUTO double *slab = NULL;
    FERRY_TRY(ferry_alloc(&slab, FERRY_SLAB_ROWS));
    for (int64_t c = 0; c < r->columns; c++) FERRY_TRY(read_table_column(r, slab, c));
    return FERRY_OK;
}

ferry_status ferry_dense_read(void *out, ferry_precision precision, const ferry_disk *disk, int64_t columns,
                              const int64_t *rows, int64_t count, int64_t first)
{
    H5T_class_t class = disk->type > 0 ? H5Tget_class(disk->type) : H5T_FLOAT;
    reader r = {.disk = disk,
                .out = out,
                .size = precision == FERRY_DOUBLE ? sizeof(double) : sizeof(float),
                .memory = precision == FERRY_DOUBLE ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT,
                .columns = columns,
                .count = count,
                .first = first,
                .rows = rows,
                .flags = class == H5T_ENUM || class == H5T_BITFIELD};
    if (disk->layout == FERRY_TABLE) return read_table(&r);
    if (disk->layout == FERRY_DENSE && !disk->flat) return read_dense(&r);
    if (r.flags)
        return ferry_fail(FERRY_E_FILE, "%s: %s: booleans in this old layout cannot be read; " FERRY_REWRITE,
                          disk->part->path, disk->path);
    return disk->flat ? read_flat(&r) : read_field(&r);
}

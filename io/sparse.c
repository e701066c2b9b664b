/* Rows of a sparse matrix, made dense: out[row, indices[e]] += data[e] for e in [indptr[row], indptr[row + 1]).
 *
 *  CSR reads the elements of the wanted rows; CSC reads the indices of all wanted columns and the data where a wanted
 *  row occurs. Both in slabs. Nothing in the file is trusted: pointers ascend and stay inside data, indices stay inside
 *  the shape. */
#include "h5ad_impl.h"
#include "mpi/stage.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SLAB ((int64_t)1 << 20) /* elements of one read: 8 MiB of indices and at most 8 MiB of data */

typedef struct scatter {
    const ferry_disk *disk;
    ferry_precision precision;
    void *out; /* [count, columns] floats or doubles */
    int64_t columns, count, first;
    const int64_t *rows;
    int64_t *index; /* [SLAB] */
    double *value;  /* [SLAB] doubles, or floats in the same room */
    int64_t near;   /* elements that are cheaper to read than to skip */
} scatter;

static ferry_status fail_at(const ferry_disk *disk, const char *member, const char *what)
{
    return ferry_fail(FERRY_E_FILE, "%s: %s/%s: %s; " FERRY_REWRITE, disk->part->path, disk->path, member, what);
}

/* Whole numbers [first, first + count) of indices or indptr: any integer type, or floats without a fraction. */
static ferry_status read_whole(int64_t *out, const ferry_disk *disk, hid_t dataset, const char *member, int64_t first,
                               int64_t count)
{
    char where[1100];
    snprintf(where, sizeof where, "%.1000s/%s", disk->path, member);
    FERRY_HID type = H5Dget_type(dataset);
    if (H5Tget_class(type) != H5T_FLOAT)
        return ferry_h5_read(out, dataset, H5T_NATIVE_INT64, first, count, disk->part->path, where);
    FERRY_TRY(ferry_h5_read(out, dataset, H5T_NATIVE_DOUBLE, first, count, disk->part->path, where));
    for (int64_t i = 0; i < count; i++) {
        double real;
        memcpy(&real, out + i, sizeof real);
        if (!(fabs(real) <= 0x1p53) || real != floor(real))
            return fail_at(disk, member, "stored as floats that are no whole numbers");
        out[i] = (int64_t)real;
    }
    return FERRY_OK;
}

static ferry_status check_whole_type(const ferry_disk *disk, hid_t dataset, const char *member)
{
    FERRY_HID type = H5Dget_type(dataset);
    H5T_class_t class = H5Tget_class(type);
    if ((class == H5T_INTEGER || class == H5T_FLOAT) && H5Tget_size(type) <= 8) return FERRY_OK;
    return fail_at(disk, member, "not integers");
}

/* Length of indptr against the shape, with the mix-up of csr and csc told. */
static ferry_status check_pointers(const ferry_disk *disk, int64_t length)
{
    bool csr = disk->layout == FERRY_CSR;
    int64_t major = csr ? disk->rows : disk->columns, minor = csr ? disk->columns : disk->rows, wanted = major + 1;
    char text[300];
    if (length == wanted) return FERRY_OK;
    snprintf(text, sizeof text, "%lld entries, but %s of shape %lld x %lld needs %lld%s", (long long)length,
             csr ? "CSR" : "CSC", (long long)disk->rows, (long long)disk->columns, (long long)wanted,
             length == minor + 1 ? ": encoding-type (csr, csc) and shape do not belong together" : "");
    return fail_at(disk, "indptr", text);
}

ferry_status ferry_sparse_check(const ferry_disk *disk)
{
    hsize_t length[8];
    char text[200];
    int64_t end[2] = {0, 0};
    if (ferry_h5_shape(length, disk->indices) != 1) return fail_at(disk, "indices", "is not 1-D");
    if ((int64_t)length[0] != disk->nonzeros) {
        snprintf(text, sizeof text, "%lld entries, but data has %lld", (long long)length[0], (long long)disk->nonzeros);
        return fail_at(disk, "indices", text);
    }
    if (ferry_h5_shape(length, disk->indptr) != 1) return fail_at(disk, "indptr", "is not 1-D");
    FERRY_TRY(check_pointers(disk, (int64_t)length[0]));
    FERRY_TRY(check_whole_type(disk, disk->indices, "indices"));
    FERRY_TRY(check_whole_type(disk, disk->indptr, "indptr"));
    FERRY_TRY(read_whole(end, disk, disk->indptr, "indptr", 0, 1));
    FERRY_TRY(read_whole(end + 1, disk, disk->indptr, "indptr", (int64_t)length[0] - 1, 1));
    if (end[0] != 0) {
        snprintf(text, sizeof text, "begins with %lld, not 0", (long long)end[0]);
        return fail_at(disk, "indptr", text);
    }
    if (end[1] < 0)
        return ferry_fail(
            FERRY_E_FILE,
            "%s: %s/indptr: negative: the 32-bit pointers wrapped past 2147483647 non-zeros; make the file "
            "again from its source with 64-bit pointers (anndata 0.10 or newer)",
            disk->part->path, disk->path);
    if (end[1] != disk->nonzeros) {
        snprintf(text, sizeof text, "ends with %lld, but data has %lld entries", (long long)end[1],
                 (long long)disk->nonzeros);
        return fail_at(disk, "indptr", text);
    }
    return FERRY_OK;
}

/* indptr[first .. first + count], ascending and inside data. */
static ferry_status read_pointers(int64_t *out, const ferry_disk *disk, int64_t first, int64_t count)
{
    char text[200];
    FERRY_TRY(read_whole(out, disk, disk->indptr, "indptr", first, count + 1));
    for (int64_t i = 0; i <= count; i++) {
        int64_t at = first + i;
        bool ascends = i == 0 || out[i] >= out[i - 1];
        if (ascends && out[i] >= 0 && out[i] <= disk->nonzeros) continue;
        snprintf(text, sizeof text, "entry %lld is %lld, %s%s", (long long)at, (long long)out[i],
                 ascends ? "outside data" : "below the entry before it",
                 out[i] < 0
                     ? ": 32-bit pointers wrapped past 2147483647 non-zeros, make the file again with 64-bit ones"
                     : "");
        return fail_at(disk, "indptr", text);
    }
    return FERRY_OK;
}

static ferry_status read_indices(const scatter *s, int64_t first, int64_t count)
{
    const ferry_disk *disk = s->disk;
    int64_t limit = disk->layout == FERRY_CSR ? disk->columns : disk->rows;
    char text[200];
    FERRY_TRY(read_whole(s->index, disk, disk->indices, "indices", first, count));
    for (int64_t i = 0; i < count; i++) {
        int64_t at = first + i, last = limit - 1;
        if (s->index[i] >= 0 && s->index[i] < limit) continue;
        snprintf(text, sizeof text, "entry %lld is %lld, outside 0 to %lld", (long long)at, (long long)s->index[i],
                 (long long)last);
        return fail_at(disk, "indices", text);
    }
    return FERRY_OK;
}

static ferry_status read_data(const scatter *s, int64_t first, int64_t count)
{
    const ferry_disk *disk = s->disk;
    char where[1100];
    snprintf(where, sizeof where, "%.1000s/data", disk->path);
    H5T_class_t class = H5Tget_class(disk->type);
    bool single = s->precision == FERRY_FLOAT;
    if (class != H5T_ENUM && class != H5T_BITFIELD)
        return ferry_h5_read(s->value, disk->data, single ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE, first, count,
                             disk->part->path, where);
    FERRY_AUTO uint8_t *flag = NULL; /* booleans: HDF5 does not turn them into numbers */
    FERRY_TRY(ferry_alloc(&flag, count));
    FERRY_TRY(ferry_h5_read(flag, disk->data, disk->type, first, count, disk->part->path, where));
    for (int64_t i = 0; i < count; i++) {
        if (single)
            ((float *)s->value)[i] = flag[i] != 0;
        else
            s->value[i] = flag[i] != 0;
    }
    return FERRY_OK;
}

static inline void add(const scatter *s, int64_t k, int64_t column, int64_t e)
{
    if (s->precision == FERRY_FLOAT)
        ((float *)s->out)[k * s->columns + column] += ((const float *)s->value)[e];
    else
        ((double *)s->out)[k * s->columns + column] += s->value[e];
}

/* Elements [begin, end), which hold the wanted rows k .. stop; row k has pointers[0], pointers[1] at its place. */
static ferry_status scatter_rows(const scatter *s, const int64_t *pointer, int64_t base, int64_t k, int64_t stop,
                                 int64_t begin, int64_t end)
{
    for (int64_t slab = begin; slab < end; slab += SLAB) {
        int64_t n = end - slab < SLAB ? end - slab : SLAB;
        FERRY_TRY(read_indices(s, slab, n));
        FERRY_TRY(read_data(s, slab, n));
        while (k < stop) {
            const int64_t *row = pointer + (s->rows[k] - base);
            int64_t from = row[0] > slab ? row[0] : slab, to = row[1] < slab + n ? row[1] : slab + n;
            for (int64_t e = from; e < to; e++)
                if (s->index[e - slab] < s->columns) add(s, k, s->index[e - slab], e - slab);
            if (row[1] > slab + n) break; /* it goes on in the next slab */
            k++;
        }
    }
    return FERRY_OK;
}

static ferry_status read_csr(const scatter *s)
{
    FERRY_AUTO int64_t *pointer = NULL;
    int64_t span;
    FERRY_TRY(ferry_alloc(&pointer, FERRY_SLAB_ROWS + 1));
    for (int64_t k = 0, n; k < s->count; k += n) {
        n = ferry_next_run(&span, s->rows, k, s->count, 4096, FERRY_SLAB_ROWS);
        int64_t base = s->rows[k];
        FERRY_TRY(read_pointers(pointer, s->disk, base - s->first, span));
        for (int64_t i = k, next; i < k + n; i = next) { /* wanted rows whose elements lie close together */
            int64_t begin = pointer[s->rows[i] - base], end = pointer[s->rows[i] - base + 1];
            for (next = i + 1; next < k + n; next++) {
                const int64_t *row = pointer + (s->rows[next] - base);
                if (row[0] - end > s->near || row[1] - begin > SLAB) break;
                end = row[1];
            }
            FERRY_TRY(scatter_rows(s, pointer, base, i, next, begin, end));
        }
    }
    return FERRY_OK;
}

/* Place of a row of the file among the wanted rows, -1: not wanted. */
static int64_t place_of(const scatter *s, int64_t row)
{
    int64_t low = 0, high = s->count - 1;
    row += s->first;
    if (row < s->rows[0] || row > s->rows[high]) return -1;
    if (s->rows[high] - s->rows[0] == high) return row - s->rows[0];
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (s->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return s->rows[low] == row ? low : -1;
}

/* Elements [begin, end) of columns left, ..., pointer[0] being that of column left. */
static ferry_status scatter_columns(const scatter *s, const int64_t *pointer, int64_t left, int64_t begin, int64_t end)
{
    int64_t c = 0;
    for (int64_t slab = begin; slab < end; slab += SLAB) {
        int64_t n = end - slab < SLAB ? end - slab : SLAB, wanted = 0;
        FERRY_TRY(read_indices(s, slab, n));
        for (int64_t i = 0; i < n; i++) {
            s->index[i] = place_of(s, s->index[i]);
            wanted += s->index[i] >= 0;
        }
        if (!wanted) continue;
        FERRY_TRY(read_data(s, slab, n));
        for (int64_t i = 0; i < n; i++) {
            while (slab + i >= pointer[c + 1]) c++;
            if (s->index[i] >= 0) add(s, s->index[i], left + c, i);
        }
    }
    return FERRY_OK;
}

static ferry_status read_csc(const scatter *s)
{
    FERRY_AUTO int64_t *pointer = NULL;
    FERRY_TRY(ferry_alloc(&pointer, FERRY_SLAB_ROWS + 1));
    for (int64_t left = 0; left < s->columns; left += FERRY_SLAB_ROWS) {
        int64_t n = s->columns - left < FERRY_SLAB_ROWS ? s->columns - left : FERRY_SLAB_ROWS;
        FERRY_TRY(read_pointers(pointer, s->disk, left, n));
        FERRY_TRY(scatter_columns(s, pointer, left, pointer[0], pointer[n]));
    }
    return FERRY_OK;
}

ferry_status ferry_sparse_read(void *out, ferry_precision precision, const ferry_disk *disk, int64_t columns,
                               const int64_t *rows, int64_t count, int64_t first)
{
    hsize_t chunk[8];
    FERRY_AUTO int64_t *index = NULL;
    FERRY_AUTO double *value = NULL;
    int64_t room = disk->nonzeros < SLAB ? disk->nonzeros : SLAB;
    FERRY_TRY(ferry_alloc(&index, room));
    FERRY_TRY(ferry_alloc(&value, room));
    scatter s = {.disk = disk,
                 .precision = precision,
                 .out = out,
                 .columns = columns,
                 .count = count,
                 .first = first,
                 .rows = rows,
                 .index = index,
                 .value = value,
                 .near = ferry_h5_chunk(chunk, disk->data) && chunk[0] < (hsize_t)SLAB ? (int64_t)chunk[0] : 16384};
    return disk->layout == FERRY_CSR ? read_csr(&s) : read_csc(&s);
}

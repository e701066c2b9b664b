/* Dense arrays and lists of texts: each rank writes its rows, in collective writes of bounded size.
 *
 *  Texts are of fixed length, the longest over all ranks, UTF-8 padded with NUL: parallel HDF5 cannot write datasets of
 *  variable-length texts. anndata, h5py, h5ls and R read either. Long arrays that are written at once are packed;
 *  arrays written in parts are contiguous, because a packed chunk that is written twice moves in the file, and a run
 *  killed in between would leave a partial file that does not open. */
#include "names_impl.h"
#include "write_impl.h"
#include "mpi/stage.h"
#include <stdio.h>
#include <string.h>

/* ---- types ---- */

/* As h5py stores booleans. */
static hid_t bool_type(void)
{
    hid_t type = H5Tenum_create(H5T_STD_I8LE);
    int8_t no = 0, yes = 1;
    H5Tenum_insert(type, "FALSE", &no);
    H5Tenum_insert(type, "TRUE", &yes);
    return type;
}

hid_t ferry_file_type(ferry_type type)
{
    switch (type) {
    case FERRY_INT8:
        return H5Tcopy(H5T_STD_I8LE);
    case FERRY_UINT8:
        return H5Tcopy(H5T_STD_U8LE);
    case FERRY_INT32:
        return H5Tcopy(H5T_STD_I32LE);
    case FERRY_INT64:
        return H5Tcopy(H5T_STD_I64LE);
    case FERRY_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case FERRY_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case FERRY_BOOL:
        break;
    }
    return bool_type();
}

hid_t ferry_memory_type(ferry_type type)
{
    hid_t file = ferry_file_type(type), memory = H5Tget_native_type(file, H5T_DIR_ASCEND);
    H5Tclose(file);
    return memory;
}

size_t ferry_type_bytes(ferry_type type)
{
    static const size_t bytes[] = {[FERRY_INT8] = 1, [FERRY_INT32] = 4, [FERRY_INT64] = 8, [FERRY_F32] = 4,
                                   [FERRY_F64] = 8,  [FERRY_BOOL] = 1,  [FERRY_UINT8] = 1};
    return bytes[type];
}

/* ---- datasets ---- */

static int64_t at_least_1(int64_t value)
{
    return value > 1 ? value : 1;
}

/* Rows of a chunk: whole rows, about FERRY_CHUNK elements and at most 1 MiB. */
static int64_t chunk_rows(int64_t rows, int64_t columns, size_t bytes)
{
    int64_t elements = FERRY_CHUNK * (int64_t)bytes > 1 << 20 ? (1 << 20) / (int64_t)bytes : FERRY_CHUNK;
    int64_t chunk = at_least_1(elements / at_least_1(columns));
    return chunk < rows ? chunk : at_least_1(rows);
}

ferry_status ferry_new_dataset(hid_t *out, ferry_output *output, const char *path, hid_t type, int64_t rows,
                               int64_t columns, ferry_layout layout, int64_t chunk)
{
    FERRY_TRY(ferry_parents(output, path));
    if (ferry_h5_link(output->file, path))
        return ferry_fail(FERRY_E_ARG, "%s: %s is written twice", output->partial, path);
    bool grows = layout == FERRY_GROWING || layout == FERRY_APPENDED;
    hsize_t size[2] = {(hsize_t)rows, (hsize_t)columns}, most[2] = {grows ? H5S_UNLIMITED : size[0], size[1]};
    FERRY_HID space = H5Screate_simple(columns ? 2 : 1, size, most);
    FERRY_HID plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
    if (layout != FERRY_CONTIGUOUS) {
        int64_t wide = columns < FERRY_CHUNK ? columns : FERRY_CHUNK;
        hsize_t cut[2] = {(hsize_t)(chunk ? chunk : chunk_rows(rows, columns, H5Tget_size(type))), (hsize_t)wide};
        H5Pset_chunk(plist, columns ? 2 : 1, cut);
    }
    if (layout == FERRY_PACKED || layout == FERRY_GROWING) {
        H5Pset_shuffle(plist);
        H5Pset_deflate(plist, 1);
    }
    *out = H5Dcreate2(output->file, path, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    return *out < 0 ? ferry_write_fail(output, path, "the dataset cannot be made") : FERRY_OK;
}

ferry_status ferry_put_rows(ferry_output *output, const char *path, hid_t dataset, hid_t type, int64_t column,
                            int64_t columns, int64_t first, int64_t count, const void *values)
{
    hsize_t start[2] = {(hsize_t)first, (hsize_t)column}, size[2] = {(hsize_t)count, (hsize_t)columns};
    int rank = columns ? 2 : 1;
    FERRY_HID file = H5Dget_space(dataset);
    FERRY_HID memory = H5Screate_simple(rank, size, NULL);
    if (count > 0) {
        H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, size, NULL);
    } else {
        H5Sselect_none(file);
        H5Sselect_none(memory);
    }
    char nothing[8] = {0};
    if (H5Dwrite(dataset, type, memory, file, output->transfer, values ? values : nothing) < 0)
        return ferry_write_fail(output, path, "writing failed");
    ferry_stage_wrote(count * at_least_1(columns) * (int64_t)H5Tget_size(type));
    return FERRY_OK;
}

/* ---- one array, written in pieces ---- */

/* What a rank brings: rows of `bytes` bytes, or names that are laid out in `packed` piece by piece. */
typedef struct bring {
    const char *values;
    const ferry_names *names;
    char *packed;
    size_t bytes;
} bring;

static const void *piece_of(const bring *from, int64_t at, int64_t rows)
{
    if (!from->names) return from->values ? from->values + (size_t)at * from->bytes : NULL;
    if (!from->packed) return NULL;
    memset(from->packed, 0, (size_t)rows * from->bytes);
    for (int64_t i = 0; i < rows; i++)
        memcpy(from->packed + (size_t)i * from->bytes, ferry_name(from->names, at + i),
               (size_t)ferry_name_length(from->names, at + i));
    return from->packed;
}

/* Rows of one collective write. */
static int64_t piece_rows(size_t bytes)
{
    return at_least_1(FERRY_PIECE_ROOM / at_least_1((int64_t)bytes));
}

static ferry_status write_pieces(ferry_output *output, const char *path, hid_t dataset, hid_t type, int64_t column,
                                 int64_t columns, int64_t first, int64_t count, const bring *from)
{
    int64_t most = piece_rows(from->bytes), rows_here = ferry_max(output->world, count);
    int64_t pieces = (rows_here + most - 1) / most;
    output->unflushed += rows_here * (int64_t)from->bytes;
    for (int64_t p = 0; p < pieces; p++) {
        int64_t at = p * most < count ? p * most : count, rows = count - at < most ? count - at : most;
        const void *piece = rows ? piece_of(from, at, rows) : NULL;
        FERRY_TRY(ferry_agree(output->world,
                              ferry_put_rows(output, path, dataset, type, column, columns, first + at, rows, piece)));
    }
    return FERRY_OK;
}

/* What a call is about, the same on all ranks. */
typedef struct about {
    char path[FERRY_PATH];
    int64_t rows, columns, type;
} about;

static ferry_status check_rows(const about *what, int64_t first, int64_t count)
{
    if (what->rows >= 0 && what->columns >= 0 && first >= 0 && count >= 0 && first <= what->rows - count)
        return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "%s: rows %lld to %lld are not rows of %lld", what->path, (long long)first,
                      (long long)(first + count), (long long)what->rows);
}

static ferry_status meet(about *what, ferry_output *output, const char *path, int64_t type, int64_t rows,
                         int64_t columns, int64_t first, int64_t count)
{
    memset(what, 0, sizeof *what);
    what->rows = rows;
    what->columns = columns;
    what->type = type;
    ferry_status status = ferry_path(what->path, path);
    if (status == FERRY_OK) status = check_rows(what, first, count);
    FERRY_TRY(ferry_agree(output->world, status));
    return ferry_same(output->world, "path, type and shape of an output array", what, sizeof *what);
}

static int64_t whole_bytes(const about *what, size_t bytes)
{
    return what->rows * at_least_1(what->columns) * (int64_t)bytes;
}

static ferry_status create(hid_t *out, ferry_output *output, const about *what, hid_t type, ferry_layout layout,
                           const char *encoding)
{
    FERRY_H5_QUIET;
    FERRY_TRY(ferry_new_dataset(out, output, what->path, type, what->rows, what->columns, layout, 0));
    return ferry_put_encoding(output, what->path, *out, encoding, "0.2.0");
}

static ferry_layout layout_of(int64_t bytes)
{
    return bytes > FERRY_PLAIN ? FERRY_PACKED : FERRY_CONTIGUOUS;
}

ferry_status ferry_output_array(ferry_output *output, const char *path, ferry_type type, int64_t rows, int64_t columns,
                                int64_t first, int64_t count, const void *values)
{
    about what;
    FERRY_H5_QUIET;
    FERRY_TRY(meet(&what, output, path, (int64_t)type, rows, columns, first, count));
    int64_t bytes = whole_bytes(&what, ferry_type_bytes(type));
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, bytes)));
    FERRY_HID file = ferry_file_type(type);
    FERRY_HID memory = ferry_memory_type(type);
    FERRY_HID dataset = -1;
    FERRY_TRY(ferry_agree(output->world, create(&dataset, output, &what, file, layout_of(bytes), "array")));
    bring from = {.values = values, .bytes = ferry_type_bytes(type) * (size_t)at_least_1(columns)};
    return write_pieces(output, what.path, dataset, memory, 0, columns, first, count, &from);
}

ferry_status ferry_output_create(ferry_output *output, const char *path, ferry_type type, int64_t rows, int64_t columns)
{
    about what;
    FERRY_H5_QUIET;
    FERRY_TRY(meet(&what, output, path, (int64_t)type, rows, columns, 0, 0));
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, whole_bytes(&what, ferry_type_bytes(type)))));
    FERRY_HID file = ferry_file_type(type);
    FERRY_HID dataset = -1;
    return ferry_agree(output->world, create(&dataset, output, &what, file, FERRY_CONTIGUOUS, "array"));
}

/* The dataset that ferry_output_create made; its type is one of ours. */
static ferry_status reopen(hid_t *out, hid_t *memory, about *what, const ferry_output *output)
{
    *out = ferry_h5_link(output->file, what->path) ? H5Dopen2(output->file, what->path, H5P_DEFAULT) : -1;
    if (*out < 0) return ferry_fail(FERRY_E_ARG, "%s: %s was not created", output->partial, what->path);
    hsize_t shape[8] = {0};
    if (ferry_h5_shape(shape, *out) == 2) what->columns = (int64_t)shape[1];
    what->rows = (int64_t)shape[0];
    FERRY_HID file = H5Dget_type(*out);
    *memory = H5Tget_native_type(file, H5T_DIR_ASCEND);
    return FERRY_OK;
}

/* columns -1: all there are. */
static ferry_status write_part(ferry_output *output, const char *path, int64_t first, int64_t count, int64_t column,
                               int64_t columns, const void *values)
{
    about what, part = {.columns = columns, .type = column};
    FERRY_H5_QUIET;
    FERRY_TRY(meet(&what, output, path, 0, INT64_MAX, 0, first, count));
    FERRY_TRY(ferry_same(output->world, "the columns of a block", &part, sizeof part));
    FERRY_HID dataset = -1;
    FERRY_HID memory = -1;
    ferry_status status = reopen(&dataset, &memory, &what, output);
    if (status == FERRY_OK) status = check_rows(&what, first, count);
    if (status == FERRY_OK && columns >= 0 && (column < 0 || column > what.columns - columns))
        status = ferry_fail(FERRY_E_ARG, "%s: columns %lld to %lld are not columns of %lld", what.path,
                            (long long)column, (long long)(column + columns), (long long)what.columns);
    FERRY_TRY(ferry_agree(output->world, status));
    if (columns < 0) columns = what.columns;
    bring from = {.values = values, .bytes = H5Tget_size(memory) * (size_t)at_least_1(columns)};
    FERRY_TRY(write_pieces(output, what.path, dataset, memory, column, columns, first, count, &from));
    /* parts come in many small calls: flush when some 64 MiB may wait */
    return output->unflushed < 4 * FERRY_PIECE_ROOM ? FERRY_OK : ferry_agree(output->world, ferry_flush(output));
}

ferry_status ferry_output_rows(ferry_output *output, const char *path, int64_t first, int64_t count, const void *values)
{
    return write_part(output, path, first, count, 0, -1, values);
}

ferry_status ferry_output_block(ferry_output *output, const char *path, int64_t first, int64_t count, int64_t column,
                                int64_t columns, const void *values)
{
    if (columns == 0) count = 0; /* every rank has the same columns */
    return write_part(output, path, first, count, column, columns, values);
}

static int64_t longest(const ferry_names *names)
{
    int64_t bytes = 1; /* HDF5 has no texts of 0 bytes */
    for (int64_t i = 0; names && i < names->count; i++)
        if (ferry_name_length(names, i) > bytes) bytes = ferry_name_length(names, i);
    return bytes;
}

ferry_status ferry_output_texts(ferry_output *output, const char *path, int64_t rows, int64_t first,
                                const ferry_names *names)
{
    about what;
    FERRY_H5_QUIET;
    int64_t count = names ? names->count : 0;
    FERRY_TRY(meet(&what, output, path, 0, rows, 0, first, count));
    bring from = {.names = names, .bytes = (size_t)ferry_max(output->world, longest(names))};
    FERRY_AUTO char *packed = NULL;
    int64_t most = piece_rows(from.bytes), bytes = whole_bytes(&what, from.bytes);
    ferry_status status = ferry_alloc(&packed, (count < most ? count : most) * (int64_t)from.bytes);
    from.packed = packed;
    if (status == FERRY_OK) status = ferry_reserve(output, bytes);
    FERRY_TRY(ferry_agree(output->world, status));
    FERRY_HID type = ferry_text_type(from.bytes);
    FERRY_HID dataset = -1;
    FERRY_TRY(ferry_agree(output->world, create(&dataset, output, &what, type, layout_of(bytes), "string-array")));
    return write_pieces(output, what.path, dataset, type, 0, 0, first, count, &from);
}

ferry_status ferry_output_texts_create(ferry_output *output, const char *path, int64_t rows, int64_t longest_text)
{
    about what;
    FERRY_H5_QUIET;
    const int64_t bytes = at_least_1(longest_text);
    FERRY_TRY(meet(&what, output, path, bytes, rows, 0, 0, 0));
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, whole_bytes(&what, (size_t)bytes))));
    FERRY_HID type = ferry_text_type((size_t)bytes);
    FERRY_HID dataset = -1;
    return ferry_agree(output->world, create(&dataset, output, &what, type, FERRY_CONTIGUOUS, "string-array"));
}

/* The dataset that was made for texts, and the length of one. */
static ferry_status reopen_texts(hid_t *out, hid_t *type, about *what, const ferry_output *output,
                                 const ferry_names *names)
{
    *out = ferry_h5_link(output->file, what->path) ? H5Dopen2(output->file, what->path, H5P_DEFAULT) : -1;
    if (*out < 0) return ferry_fail(FERRY_E_ARG, "%s: %s was not created", output->partial, what->path);
    hsize_t shape[8] = {0};
    ferry_h5_shape(shape, *out);
    what->rows = (int64_t)shape[0];
    *type = H5Dget_type(*out);
    if (H5Tget_class(*type) != H5T_STRING || longest(names) > (int64_t)H5Tget_size(*type))
        return ferry_fail(FERRY_E_ARG, "%s: a text of %lld bytes has no room in %s", output->partial,
                          (long long)longest(names), what->path);
    return FERRY_OK;
}

ferry_status ferry_output_texts_rows(ferry_output *output, const char *path, int64_t first, const ferry_names *names)
{
    about what;
    FERRY_H5_QUIET;
    const int64_t count = names ? names->count : 0;
    FERRY_TRY(meet(&what, output, path, 0, INT64_MAX, 0, first, count));
    FERRY_HID dataset = -1;
    FERRY_HID type = -1;
    FERRY_AUTO char *packed = NULL;
    ferry_status status = reopen_texts(&dataset, &type, &what, output, names);
    if (status == FERRY_OK) status = check_rows(&what, first, count);
    bring from = {.names = names, .bytes = status == FERRY_OK ? H5Tget_size(type) : 1};
    const int64_t most = piece_rows(from.bytes);
    if (status == FERRY_OK) status = ferry_alloc(&packed, (count < most ? count : most) * (int64_t)from.bytes);
    from.packed = packed;
    FERRY_TRY(ferry_agree(output->world, status));
    return write_pieces(output, what.path, dataset, type, 0, 0, first, count, &from);
}

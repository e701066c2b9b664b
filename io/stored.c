/* Results of ours, read back. Numbers of any stored type come as float64 or int64; texts of fixed or variable length.
 */
#include "stored.h"
#include "write_impl.h"
#include "mpi/stage.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ferry_stored {
    hid_t file;
    char *path;
};

/* ---- open ---- */

static ferry_status open_file(ferry_stored *it, const char *path)
{
    FERRY_H5_QUIET;
    if (access(path, R_OK)) return ferry_fail(FERRY_E_FILE, "%s: %s; check the name", path, strerror(errno));
    if (H5Fis_hdf5(path) <= 0)
        return ferry_fail(FERRY_E_FILE, "%s is not an HDF5 file: give a file that cellferry has written", path);
    FERRY_HID access = ferry_h5_access();
    it->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (it->file < 0)
        return ferry_fail(FERRY_E_FILE, "%s cannot be opened (HDF5: %s); make it again with the command that wrote it",
                          path, ferry_h5_reason());
    int64_t partial = 0;
    if (ferry_h5_attribute_integers(&partial, 1, it->file, "cellferry_partial") && partial)
        return ferry_fail(FERRY_E_FILE, "%s is not complete: the run that wrote it was stopped; run that command again",
                          path);
    return FERRY_OK;
}

ferry_status ferry_stored_open(ferry_stored **out, const char *path)
{
    *out = NULL;
    ferry_stored *it = NULL;
    FERRY_TRY(ferry_alloc(&it, 1));
    it->file = -1;
    size_t length = strlen(path);
    ferry_status status = ferry_alloc(&it->path, (int64_t)length + 1);
    if (status == FERRY_OK) memcpy(it->path, path, length);
    if (status == FERRY_OK) status = open_file(it, path);
    if (status == FERRY_OK)
        *out = it;
    else
        ferry_stored_close(&it);
    return status;
}

void ferry_stored_close(ferry_stored **stored)
{
    if (!*stored) return;
    ferry_hid_close(&(*stored)->file);
    free((*stored)->path);
    free(*stored);
    *stored = NULL;
}

/* ---- datasets ---- */

bool ferry_stored_has(const ferry_stored *stored, const char *path)
{
    FERRY_H5_QUIET;
    while (*path == '/') path++;
    return ferry_h5_object(stored->file, path);
}

/* An open dataset with its shape. */
typedef struct table {
    hid_t dataset, type;
    int rank;
    int64_t rows, columns; /* columns 1 when it is 1-D or a scalar, rows 1 when it is a scalar */
} table;

static void close_table(table *it)
{
    ferry_hid_close(&it->type);
    ferry_hid_close(&it->dataset);
}
#define TABLE __attribute__((cleanup(close_table))) table

static ferry_status open_table(table *out, const ferry_stored *stored, const char *path)
{
    out->dataset = out->type = -1;
    while (*path == '/') path++;
    FERRY_TRY(ferry_h5_dataset(&out->dataset, stored->file, path, 0, stored->path, path));
    out->type = H5Dget_type(out->dataset);
    hsize_t shape[8] = {0};
    out->rank = ferry_h5_shape(shape, out->dataset);
    if (out->rank < 0 || out->rank > 2)
        return ferry_fail(FERRY_E_FILE, "%s: %s has %d dimensions, not 0 to 2", stored->path, path, out->rank);
    out->rows = out->rank > 0 ? (int64_t)shape[0] : 1;
    out->columns = out->rank > 1 ? (int64_t)shape[1] : 1;
    return FERRY_OK;
}

ferry_status ferry_stored_shape(int64_t *rows, int64_t *columns, ferry_stored *stored, const char *path)
{
    FERRY_H5_QUIET;
    TABLE it;
    FERRY_TRY(open_table(&it, stored, path));
    *rows = it.rows;
    if (columns) *columns = it.columns;
    return FERRY_OK;
}

static ferry_status check_range(const table *it, const ferry_stored *stored, const char *path, int64_t first,
                                int64_t count)
{
    if (first >= 0 && count >= 0 && first <= it->rows - count) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s has %lld rows, not %lld; make the file again", stored->path, path,
                      (long long)it->rows, (long long)(first + count));
}

/* Rows first .. first + count in the memory type. */
static ferry_status read_rows(void *out, const table *it, hid_t memory, const ferry_stored *stored, const char *path,
                              int64_t first, int64_t count)
{
    FERRY_TRY(check_range(it, stored, path, first, count));
    if (count == 0 || it->columns == 0) return FERRY_OK;
    hsize_t start[2] = {(hsize_t)first, 0}, size[2] = {(hsize_t)count, (hsize_t)it->columns};
    FERRY_HID file = H5Dget_space(it->dataset);
    FERRY_HID space = H5Screate_simple(it->rank ? it->rank : 1, size, NULL);
    if (it->rank) H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, size, NULL);
    if (H5Dread(it->dataset, memory, space, file, H5P_DEFAULT, out) < 0)
        return ferry_h5_fail(stored->path, path, "reading failed", "make the file again");
    ferry_stage_read(count * it->columns * (int64_t)H5Tget_size(it->type));
    return FERRY_OK;
}

/* Booleans are an enumeration of one byte, which HDF5 does not convert to numbers: 0 and 1. */
static ferry_status read_flags(double *out, int64_t *whole, const table *it, const ferry_stored *stored,
                               const char *path, int64_t first, int64_t count)
{
    FERRY_AUTO int8_t *flags = NULL;
    if (H5Tget_size(it->type) != 1)
        return ferry_fail(FERRY_E_FILE, "%s: %s is an enumeration of %zu bytes, not numbers", stored->path, path,
                          H5Tget_size(it->type));
    FERRY_TRY(check_range(it, stored, path, first, count));
    FERRY_TRY(ferry_alloc(&flags, count * it->columns));
    FERRY_TRY(read_rows(flags, it, it->type, stored, path, first, count));
    for (int64_t i = 0; i < count * it->columns; i++) {
        if (out) out[i] = flags[i] != 0;
        if (whole) whole[i] = flags[i] != 0;
    }
    return FERRY_OK;
}

static ferry_status read_numbers(double *out, int64_t *whole, ferry_stored *stored, const char *path, int64_t first,
                                 int64_t count, bool scalar)
{
    FERRY_H5_QUIET;
    TABLE it;
    FERRY_TRY(open_table(&it, stored, path));
    if (scalar && (it.rows != 1 || it.columns != 1))
        return ferry_fail(FERRY_E_FILE, "%s: %s has %lld x %lld values, not one", stored->path, path,
                          (long long)it.rows, (long long)it.columns);
    H5T_class_t class = H5Tget_class(it.type);
    if (class == H5T_ENUM) return read_flags(out, whole, &it, stored, path, first, count);
    if (class != H5T_INTEGER && class != H5T_FLOAT)
        return ferry_fail(FERRY_E_FILE, "%s: %s does not hold numbers; make the file again", stored->path, path);
    void *values = out ? (void *)out : whole;
    return read_rows(values, &it, out ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, stored, path, first, count);
}

ferry_status ferry_stored_numbers(double *out, ferry_stored *stored, const char *path, int64_t first, int64_t count)
{
    return read_numbers(out, NULL, stored, path, first, count, false);
}

ferry_status ferry_stored_integers(int64_t *out, ferry_stored *stored, const char *path, int64_t first, int64_t count)
{
    return read_numbers(NULL, out, stored, path, first, count, false);
}

ferry_status ferry_stored_number(double *out, ferry_stored *stored, const char *path)
{
    return read_numbers(out, NULL, stored, path, 0, 1, true);
}

/* ---- texts ---- */

/* `count` texts of `bytes` bytes each, padded with NUL or blanks. */
static ferry_status add_fixed(ferry_names *out, const char *packed, int64_t count, size_t bytes, bool blanks)
{
    for (int64_t i = 0; i < count; i++) {
        const char *text = packed + (size_t)i * bytes;
        size_t length = strnlen(text, bytes);
        while (blanks && length && text[length - 1] == ' ') length--;
        FERRY_TRY(ferry_names_add(out, text, (int64_t)length));
    }
    return FERRY_OK;
}

static ferry_status add_variable(ferry_names *out, char *const *text, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        FERRY_TRY(ferry_names_add(out, text[i] ? text[i] : "", text[i] ? (int64_t)strlen(text[i]) : 0));
    return FERRY_OK;
}

static ferry_status read_variable(ferry_names *out, const table *it, const ferry_stored *stored, const char *path,
                                  int64_t first, int64_t count)
{
    FERRY_AUTO char **text = NULL;
    FERRY_TRY(ferry_alloc(&text, count));
    FERRY_HID type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5Tget_cset(it->type));
    FERRY_TRY(read_rows(text, it, type, stored, path, first, count));
    ferry_status status = add_variable(out, text, count);
    for (int64_t i = 0; i < count; i++) H5free_memory(text[i]);
    return status;
}

static ferry_status read_fixed(ferry_names *out, const table *it, const ferry_stored *stored, const char *path,
                               int64_t first, int64_t count)
{
    FERRY_AUTO char *packed = NULL;
    size_t bytes = H5Tget_size(it->type);
    FERRY_TRY(ferry_alloc(&packed, count * (int64_t)bytes));
    FERRY_TRY(read_rows(packed, it, it->type, stored, path, first, count));
    return add_fixed(out, packed, count, bytes, H5Tget_strpad(it->type) == H5T_STR_SPACEPAD);
}

/* In parts, so that the texts are not held twice. */
static ferry_status read_texts(ferry_names *out, const table *it, const ferry_stored *stored, const char *path,
                               int64_t first, int64_t count)
{
    if (H5Tget_class(it->type) != H5T_STRING || it->columns != 1)
        return ferry_fail(FERRY_E_FILE, "%s: %s does not hold texts; make the file again", stored->path, path);
    FERRY_TRY(check_range(it, stored, path, first, count));
    bool variable = H5Tis_variable_str(it->type) > 0;
    int64_t part = FERRY_SLAB_BYTES / (int64_t)H5Tget_size(it->type);
    if (part < 1) part = 1;
    for (int64_t at = 0; at < count; at += part) {
        int64_t rows = count - at < part ? count - at : part;
        if (variable)
            FERRY_TRY(read_variable(out, it, stored, path, first + at, rows));
        else
            FERRY_TRY(read_fixed(out, it, stored, path, first + at, rows));
    }
    return FERRY_OK;
}

ferry_status ferry_stored_texts(ferry_names *out, ferry_stored *stored, const char *path, int64_t first, int64_t count)
{
    FERRY_H5_QUIET;
    memset(out, 0, sizeof *out);
    TABLE it;
    FERRY_TRY(open_table(&it, stored, path));
    ferry_status status = read_texts(out, &it, stored, path, first, count);
    if (status != FERRY_OK) ferry_names_close(out);
    return status;
}

ferry_status ferry_stored_text(char **text, ferry_stored *stored, const char *path)
{
    ferry_names one;
    *text = NULL;
    FERRY_TRY(ferry_stored_texts(&one, stored, path, 0, 1));
    int64_t length = (int64_t)strlen(ferry_name(&one, 0));
    ferry_status status = ferry_alloc(text, length + 1);
    if (status == FERRY_OK) memcpy(*text, ferry_name(&one, 0), (size_t)length);
    ferry_names_close(&one);
    return status;
}

/* ---- attributes ---- */

static ferry_status open_object(hid_t *out, const ferry_stored *stored, const char *path, const char *name)
{
    while (*path == '/') path++;
    *out = !*path || ferry_h5_object(stored->file, path) ? H5Oopen(stored->file, *path ? path : "/", H5P_DEFAULT) : -1;
    if (*out >= 0 && H5Aexists(*out, name) > 0) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s has no attribute %s; make the file again", stored->path, *path ? path : "/",
                      name);
}

ferry_status ferry_stored_attribute_number(double *out, ferry_stored *stored, const char *path, const char *name)
{
    FERRY_H5_QUIET;
    FERRY_HID object = -1;
    FERRY_TRY(open_object(&object, stored, path, name));
    FERRY_HID attribute = H5Aopen(object, name, H5P_DEFAULT);
    FERRY_HID space = H5Aget_space(attribute);
    FERRY_HID type = H5Aget_type(attribute);
    H5T_class_t class = H5Tget_class(type);
    if (H5Sget_simple_extent_npoints(space) == 1 && (class == H5T_INTEGER || class == H5T_FLOAT) &&
        H5Aread(attribute, H5T_NATIVE_DOUBLE, out) >= 0)
        return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: attribute %s of %s is not a number; make the file again", stored->path, name,
                      path);
}

ferry_status ferry_stored_attribute_integers(int64_t *out, int count, ferry_stored *stored, const char *path,
                                             const char *name)
{
    FERRY_H5_QUIET;
    FERRY_HID object = -1;
    FERRY_TRY(open_object(&object, stored, path, name));
    if (ferry_h5_attribute_integers(out, count, object, name) > 0) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: attribute %s of %s is not %d whole numbers; make the file again", stored->path,
                      name, path, count);
}

ferry_status ferry_stored_attribute_text(char **text, ferry_stored *stored, const char *path, const char *name)
{
    FERRY_H5_QUIET;
    FERRY_HID object = -1;
    *text = NULL;
    FERRY_TRY(open_object(&object, stored, path, name));
    FERRY_TRY(ferry_h5_attribute_text(text, object, name));
    if (*text) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: attribute %s of %s is not a text; make the file again", stored->path, name,
                      path);
}

/* ---- datasets in one piece ---- */

static ferry_status check_plain(const table *it, const ferry_stored *stored, const char *path, ferry_type type,
                                int64_t rows, int64_t columns)
{
    FERRY_HID memory = ferry_memory_type(type);
    FERRY_HID plist = H5Dget_create_plist(it->dataset);
    if (it->rank != (columns ? 2 : 1) || it->rows != rows || (columns && it->columns != columns))
        return ferry_fail(FERRY_E_FILE, "%s: %s is %lld x %lld, not %lld x %lld; make the file again", stored->path,
                          path, (long long)it->rows, (long long)it->columns, (long long)rows,
                          (long long)(columns ? columns : 1));
    if (H5Tequal(it->type, memory) <= 0)
        return ferry_fail(FERRY_E_FILE, "%s: %s has numbers of another type; make the file again", stored->path, path);
    if (H5Pget_layout(plist) != H5D_CONTIGUOUS)
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s does not lie in one piece (was it repacked?); make the file again with the command "
                          "that wrote it",
                          stored->path, path);
    return FERRY_OK;
}

static ferry_status place_plain(ferry_plain *out, const table *it, const ferry_stored *stored, const char *path,
                                ferry_type type, int64_t rows, int64_t columns)
{
    struct stat info;
    FERRY_TRY(check_plain(it, stored, path, type, rows, columns));
    const size_t length = strlen(stored->path) + strlen(path) + 3;
    FERRY_TRY(ferry_alloc(&out->name, (int64_t)length));
    snprintf(out->name, length, "%s: %s", stored->path, path);
    out->rows = rows;
    out->bytes = ferry_type_bytes(type) * (size_t)(columns ? columns : 1);
    if (rows == 0) return FERRY_OK;
    const haddr_t offset = H5Dget_offset(it->dataset);
    out->file = open(stored->path, O_RDONLY | O_CLOEXEC);
    if (out->file < 0 || fstat(out->file, &info))
        return ferry_fail(FERRY_E_FILE, "%s: %s; check the name", stored->path, strerror(errno));
    out->offset = (int64_t)offset;
    if (offset == HADDR_UNDEF || out->offset > info.st_size - rows * (int64_t)out->bytes)
        return ferry_fail(FERRY_E_FILE, "%s is cut off: make the file again", out->name);
    return FERRY_OK;
}

ferry_status ferry_plain_open(ferry_plain *out, ferry_stored *stored, const char *path, ferry_type type, int64_t rows,
                              int64_t columns)
{
    FERRY_H5_QUIET;
    TABLE it;
    *out = (ferry_plain){.file = -1};
    FERRY_TRY(open_table(&it, stored, path));
    const ferry_status status = place_plain(out, &it, stored, path, type, rows, columns);
    if (status != FERRY_OK) ferry_plain_close(out);
    return status;
}

void ferry_plain_close(ferry_plain *plain)
{
    if (plain->name && plain->file >= 0) close(plain->file);
    free(plain->name);
    *plain = (ferry_plain){.file = -1};
}

ferry_status ferry_plain_read(void *out, const ferry_plain *plain, int64_t first, int64_t count)
{
    const int64_t bytes = count * (int64_t)plain->bytes, at = plain->offset + first * (int64_t)plain->bytes;
    if (first < 0 || count < 0 || first > plain->rows - count)
        return ferry_fail(FERRY_E_ARG, "%s has %lld rows, not %lld", plain->name, (long long)plain->rows,
                          (long long)(first + count));
    for (int64_t done = 0; done < bytes;) {
        const ssize_t n = pread(plain->file, (char *)out + done, (size_t)(bytes - done), (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return ferry_fail(FERRY_E_FILE, "%s cannot be read: %s; make the file again", plain->name,
                              n ? strerror(errno) : "the file has become shorter");
        done += n;
    }
    ferry_stage_read(bytes);
    return FERRY_OK;
}

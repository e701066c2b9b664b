/* Values of a column, in bounded pieces: as numbers, integers, texts, codes. */
#include "h5ad_impl.h"
#include "names_impl.h"
#include "mpi/stage.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Values [first, first + count) in memory type `type` into out. */
static ferry_status read_values(void *out, const ferry_column *column, hid_t type, int64_t first, int64_t count)
{
    const char *file = column->part->path;
    if (first < 0 || count < 0 || first > column->rows - count)
        return ferry_fail(FERRY_E_ARG, "%s: %s: rows %lld to %lld are asked for, it has %lld", file, column->path,
                          (long long)first, (long long)(first + count), (long long)column->rows);
    if (!column->member) return ferry_h5_read(out, column->data, type, first, count, file, column->values);
    FERRY_HID one = H5Tcreate(H5T_COMPOUND, H5Tget_size(type)); /* HDF5 picks the field by its name */
    if (one < 0 || H5Tinsert(one, column->member, 0, type) < 0)
        return ferry_h5_fail(file, column->path, "cannot be read", FERRY_REWRITE);
    return ferry_h5_read(out, column->data, one, first, count, file, column->path);
}

static ferry_status read_mask(uint8_t *missing, const ferry_column *column, int64_t first, int64_t count)
{
    if (column->mask <= 0) {
        memset(missing, 0, (size_t)count);
        return FERRY_OK;
    }
    FERRY_HID type = H5Dget_type(column->mask); /* of one byte: open_mask looked */
    return ferry_h5_read(missing, column->mask, type, first, count, column->part->path, column->path);
}

ferry_status ferry_column_integers(int64_t *out, uint8_t *missing, const ferry_column *column, int64_t first,
                                   int64_t count)
{
    if (missing) FERRY_TRY(read_mask(missing, column, first, count));
    if (column->kind == FERRY_KIND_INTEGER) return read_values(out, column, H5T_NATIVE_INT64, first, count);
    if (column->kind != FERRY_KIND_BOOLEAN)
        return ferry_fail(FERRY_E_FILE, "%s: %s: whole numbers are expected here; " FERRY_REWRITE, column->part->path,
                          column->path);
    uint8_t *byte = (uint8_t *)out + 7 * count; /* the upper end of out: the loop below never overtakes it */
    FERRY_TRY(read_values(byte, column, column->type, first, count));
    for (int64_t i = 0; i < count; i++) out[i] = byte[i] != 0;
    return FERRY_OK;
}

/* Numbers of a column that is no categorical. */
static ferry_status plain_numbers(double *out, const ferry_column *column, int64_t first, int64_t count)
{
    FERRY_AUTO uint8_t *missing = NULL;
    if (column->kind == FERRY_KIND_FLOAT || column->kind == FERRY_KIND_INTEGER) {
        FERRY_TRY(read_values(out, column, H5T_NATIVE_DOUBLE, first, count));
    } else if (column->kind == FERRY_KIND_BOOLEAN) {
        FERRY_AUTO int64_t *whole = NULL;
        FERRY_TRY(ferry_alloc(&whole, count));
        FERRY_TRY(ferry_column_integers(whole, NULL, column, first, count));
        for (int64_t i = 0; i < count; i++) out[i] = (double)whole[i];
    } else {
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: holds texts, numbers are needed; name a column of numbers, or turn it "
                          "into one: pandas.to_numeric",
                          column->part->path, column->path);
    }
    if (column->mask <= 0) return FERRY_OK;
    FERRY_TRY(ferry_alloc(&missing, count));
    FERRY_TRY(read_mask(missing, column, first, count));
    for (int64_t i = 0; i < count; i++)
        if (missing[i]) out[i] = NAN;
    return FERRY_OK;
}

/* Fewest digits that read back as the same number, laid out as Python's repr does. */
const char *ferry_float_text(char text[32], double value, bool single)
{
    if (!isfinite(value)) {
        snprintf(text, 32, "%s", isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return text;
    }
    int digits = 1;
    for (; digits < 17; digits++) {
        snprintf(text, 32, "%.*e", digits - 1, value);
        if (single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value) break;
    }
    snprintf(text, 32, "%.*e", digits - 1, value);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent < -4 || exponent >= 16) return text;
    snprintf(text, 32, "%.*f", digits - 1 - exponent < 1 ? 1 : digits - 1 - exponent, value);
    return text;
}

static ferry_status add_text(ferry_names *out, const char *text, size_t size, bool spaces)
{
    size_t length = strnlen(text, size);
    while (spaces && length && text[length - 1] == ' ') length--;
    return ferry_names_add(out, text, (int64_t)length);
}

static ferry_status fixed_texts(ferry_names *out, const ferry_column *column, int64_t first, int64_t count)
{
    size_t size = H5Tget_size(column->type);
    if ((int64_t)size > FERRY_SLAB_BYTES)
        return ferry_fail(FERRY_E_FILE, "%s: %s: texts of %zu bytes each; " FERRY_REWRITE, column->part->path,
                          column->path, size);
    bool spaces = H5Tget_strpad(column->type) == H5T_STR_SPACEPAD;
    int64_t slab = FERRY_SLAB_BYTES / (int64_t)size;
    if (slab > count) slab = count;
    FERRY_AUTO char *text = NULL;
    FERRY_TRY(ferry_alloc_bytes(&text, slab, size));
    for (int64_t at = 0; at < count; at += slab) {
        int64_t n = count - at < slab ? count - at : slab;
        FERRY_TRY(read_values(text, column, column->type, first + at, n));
        for (int64_t i = 0; i < n; i++) FERRY_TRY(add_text(out, text + (size_t)i * size, size, spaces));
    }
    return FERRY_OK;
}

static ferry_status variable_texts(ferry_names *out, const ferry_column *column, int64_t first, int64_t count)
{
    FERRY_HID memory = H5Tcopy(H5T_C_S1);
    H5Tset_size(memory, H5T_VARIABLE);
    H5Tset_cset(memory, H5Tget_cset(column->type));
    int64_t slab = count < FERRY_SLAB_ROWS ? count : FERRY_SLAB_ROWS;
    FERRY_AUTO char **text = NULL;
    FERRY_TRY(ferry_alloc(&text, slab));
    for (int64_t at = 0; at < count; at += slab) {
        int64_t n = count - at < slab ? count - at : slab;
        memset(text, 0, (size_t)slab * sizeof *text);
        ferry_status status = read_values(text, column, memory, first + at, n);
        for (int64_t i = 0; i < n && status == FERRY_OK; i++) status = ferry_names_add(out, text[i] ? text[i] : "", -1);
        for (int64_t i = 0; i < n; i++) H5free_memory(text[i]);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

static ferry_status number_texts(ferry_names *out, const ferry_column *column, int64_t first, int64_t count)
{
    int64_t slab = count < FERRY_SLAB_ROWS ? count : FERRY_SLAB_ROWS;
    char text[32];
    union { /* the same 8 bytes a value, as the column's kind has it */
        int64_t *whole;
        uint64_t *natural;
        double *real;
    } value = {NULL};
    FERRY_AUTO int64_t *room = NULL;
    FERRY_TRY(ferry_alloc(&room, slab));
    value.whole = room;
    bool natural = column->kind == FERRY_KIND_INTEGER && H5Tget_sign(column->type) == H5T_SGN_NONE;
    bool single = H5Tget_size(column->type) <= 4;
    for (int64_t at = 0; at < count; at += slab) {
        int64_t n = count - at < slab ? count - at : slab;
        if (column->kind == FERRY_KIND_FLOAT)
            FERRY_TRY(read_values(value.real, column, H5T_NATIVE_DOUBLE, first + at, n));
        else if (natural)
            FERRY_TRY(read_values(value.natural, column, H5T_NATIVE_UINT64, first + at, n));
        else
            FERRY_TRY(ferry_column_integers(value.whole, NULL, column, first + at, n));
        for (int64_t i = 0; i < n; i++) {
            const char *shown = text;
            if (column->kind == FERRY_KIND_FLOAT)
                ferry_float_text(text, value.real[i], single);
            else if (column->kind == FERRY_KIND_BOOLEAN)
                shown = value.whole[i] ? "True" : "False";
            else if (natural)
                snprintf(text, sizeof text, "%llu", (unsigned long long)value.natural[i]);
            else
                snprintf(text, sizeof text, "%lld", (long long)value.whole[i]);
            FERRY_TRY(ferry_names_add(out, shown, -1));
        }
    }
    return FERRY_OK;
}

static ferry_status plain_texts(ferry_names *out, const ferry_column *column, int64_t first, int64_t count)
{
    if (count == 0) return FERRY_OK;
    if (column->kind != FERRY_KIND_TEXT) return number_texts(out, column, first, count);
    if (H5Tis_variable_str(column->type) > 0) return variable_texts(out, column, first, count);
    return fixed_texts(out, column, first, count);
}

static ferry_status bad_code(const ferry_column *column, int64_t code, int64_t row, int64_t categories)
{
    bool natural = H5Tget_sign(column->type) == H5T_SGN_NONE;
    uint64_t top = H5Tget_size(column->type) >= 8 ? UINT64_MAX : (1ULL << 8 * H5Tget_size(column->type)) - 1;
    const char *hint = natural && ((uint64_t)code == top || code == INT64_MAX)
                           ? " (some writers mean missing by it; AnnData's missing is -1 in a signed type)"
                           : "";
    return ferry_fail(FERRY_E_FILE, "%s: %s: code %lld in row %lld, but there are %lld categories%s; " FERRY_REWRITE,
                      column->part->path, column->member ? column->path : column->values, (long long)code,
                      (long long)row, (long long)categories, hint);
}

ferry_status ferry_column_codes(int32_t *out, const ferry_column *column, int64_t categories, int64_t first,
                                int64_t count)
{
    int64_t slab = count < FERRY_SLAB_ROWS ? count : FERRY_SLAB_ROWS;
    FERRY_AUTO int64_t *code = NULL;
    FERRY_TRY(ferry_alloc(&code, slab));
    if (column->kind != FERRY_KIND_INTEGER)
        return ferry_fail(FERRY_E_FILE, "%s: %s: codes of categories must be integers; " FERRY_REWRITE,
                          column->part->path, column->values);
    for (int64_t at = 0; at < count; at += slab) {
        int64_t n = count - at < slab ? count - at : slab;
        FERRY_TRY(read_values(code, column, H5T_NATIVE_INT64, first + at, n));
        for (int64_t i = 0; i < n; i++) {
            if (code[i] < -1 || code[i] >= categories) return bad_code(column, code[i], first + at + i, categories);
            out[at + i] = (int32_t)code[i];
        }
    }
    return FERRY_OK;
}

/* All of text is a number. */
static bool is_number(double *out, const char *text)
{
    char *end;
    if (!*text || isspace((unsigned char)*text)) return false;
    *out = strtod(text, &end);
    return *end == 0 && isfinite(*out);
}

/* Categories as numbers; *out stays NULL when one of them is none. */
static ferry_status category_numbers(double **out, const ferry_column *list, const ferry_names *names)
{
    FERRY_AUTO double *number = NULL;
    FERRY_TRY(ferry_alloc(&number, names->count));
    if (list->kind == FERRY_KIND_TEXT) {
        for (int64_t i = 0; i < names->count; i++)
            if (!is_number(number + i, ferry_name(names, i))) return FERRY_OK;
    } else {
        FERRY_TRY(plain_numbers(number, list, 0, names->count));
    }
    *out = number;
    number = NULL;
    return FERRY_OK;
}

static ferry_status check_categories(const ferry_column *list, const ferry_names *names, const uint8_t *missing)
{
    const char *file = list->part->path;
    ferry_name_index index = {0};
    ferry_names seen = {0};
    ferry_status status = FERRY_OK;
    for (int64_t i = 0; i < names->count && status == FERRY_OK; i++) {
        int64_t at;
        bool fresh = true;
        if (missing[i] || (list->kind == FERRY_KIND_FLOAT && !strcmp(ferry_name(names, i), "nan")))
            status = ferry_fail(FERRY_E_FILE,
                                "%s: %s: category %lld is missing (NaN); cells without a category have "
                                "code -1 instead: " FERRY_REWRITE,
                                file, list->path, (long long)i);
        else
            status =
                ferry_name_index_add(&at, &fresh, &index, &seen, ferry_name(names, i), ferry_name_length(names, i));
        if (status == FERRY_OK && !fresh)
            status = ferry_fail(FERRY_E_FILE,
                                "%s: %s: category '%.80s' occurs twice (numbers %lld and %lld); rename "
                                "one, or " FERRY_REWRITE,
                                file, list->path, ferry_name(names, i), (long long)at, (long long)i);
    }
    ferry_name_index_close(&index);
    ferry_names_close(&seen);
    return status;
}

ferry_status ferry_column_categories(ferry_names *out, double **numbers, const ferry_column *column)
{
    FERRY_AUTO_COLUMN list = {0};
    FERRY_AUTO uint8_t *missing = NULL;
    if (numbers) *numbers = NULL;
    FERRY_TRY(ferry_column_open_path(&list, column->part, column->categories));
    if (list.categories)
        return ferry_fail(FERRY_E_FILE, "%s: %s: categories that are themselves categorical; " FERRY_REWRITE,
                          column->part->path, list.path);
    if (list.rows > FERRY_MAX_CATEGORIES)
        return ferry_fail(FERRY_E_FILE, "%s: %s: %lld categories, at most %d are taken; name a coarser column",
                          column->part->path, list.path, (long long)list.rows, FERRY_MAX_CATEGORIES);
    FERRY_TRY(ferry_alloc(&missing, list.rows));
    FERRY_TRY(read_mask(missing, &list, 0, list.rows));
    FERRY_TRY(plain_texts(out, &list, 0, list.rows));
    FERRY_TRY(check_categories(&list, out, missing));
    return numbers ? category_numbers(numbers, &list, out) : FERRY_OK;
}

/* Local. Reads the categories at the first call. */
static ferry_status know_categories(const ferry_column *column)
{
    ferry_categories *known = column->known;
    if (known->read) return FERRY_OK;
    FERRY_TRY(ferry_column_categories(&known->names, &known->number, column));
    known->read = true;
    return FERRY_OK;
}

ferry_status ferry_column_numbers(double *out, const ferry_column *column, int64_t first, int64_t count)
{
    if (!column->categories) return plain_numbers(out, column, first, count);
    FERRY_AUTO int32_t *code = NULL;
    FERRY_TRY(know_categories(column));
    const ferry_categories *known = column->known;
    if (!known->number)
        return ferry_fail(
            FERRY_E_FILE,
            "%s: %s: categories that are no numbers ('%.60s'), numbers are needed; name a column of numbers",
            column->part->path, column->path, ferry_name(&known->names, 0));
    FERRY_TRY(ferry_alloc(&code, count));
    FERRY_TRY(ferry_column_codes(code, column, known->names.count, first, count));
    for (int64_t i = 0; i < count; i++) out[i] = code[i] < 0 ? NAN : known->number[code[i]];
    return FERRY_OK;
}

static ferry_status category_texts(ferry_names *out, uint8_t *missing, const ferry_column *column, int64_t first,
                                   int64_t count)
{
    FERRY_AUTO int32_t *code = NULL;
    FERRY_TRY(know_categories(column));
    const ferry_names *names = &column->known->names;
    FERRY_TRY(ferry_alloc(&code, count));
    FERRY_TRY(ferry_column_codes(code, column, names->count, first, count));
    for (int64_t i = 0; i < count; i++) {
        if (missing) missing[i] = code[i] < 0;
        FERRY_TRY(code[i] < 0 ? ferry_names_add(out, "nan", 3)
                              : ferry_names_add(out, ferry_name(names, code[i]), ferry_name_length(names, code[i])));
    }
    return FERRY_OK;
}

ferry_status ferry_column_texts(ferry_names *out, uint8_t *missing, const ferry_column *column, int64_t first,
                                int64_t count)
{
    if (column->categories) return category_texts(out, missing, column, first, count);
    if (missing) FERRY_TRY(read_mask(missing, column, first, count));
    return plain_texts(out, column, first, count);
}

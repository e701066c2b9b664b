/* What a file holds, entry by entry, for `cellferry info`. */
#include "h5ad_impl.h"
#include "names_impl.h"
#include <stdio.h>
#include <string.h>

typedef struct listing {
    ferry_entry *entry;
    int count, room;
    const ferry_file *file;
    const ferry_part *part;
} listing;

static ferry_status add(ferry_entry **out, listing *list, const char *path)
{
    if (list->count == list->room) {
        int room = list->room ? 2 * list->room : 32;
        FERRY_TRY(ferry_grow(&list->entry, list->count, room));
        list->room = room;
    }
    ferry_entry *entry = list->entry + list->count++;
    *entry = (ferry_entry){.rows = -1, .columns = -1, .nonzeros = -1};
    snprintf(entry->path, sizeof entry->path, "%.255s", path);
    *out = entry;
    return FERRY_OK;
}

/* "float32", "int64", "uint8", "boolean", "text" */
static const char *type_text(char text[24], hid_t type)
{
    H5T_class_t class = H5Tget_class(type);
    int bits = (int)(8 * H5Tget_size(type));
    if (class == H5T_INTEGER)
        snprintf(text, 24, "%sint%d", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
    else if (class == H5T_FLOAT)
        snprintf(text, 24, "float%d", bits);
    else
        snprintf(text, 24, "%s", class == H5T_STRING ? "text" : class == H5T_COMPOUND ? "table" : "boolean");
    return text;
}

/* The message of the last failure without the file's name, which the reader of a list of entries knows. */
static void unreadable(ferry_entry *entry, const listing *list)
{
    const char *text = ferry_error();
    size_t prefix = strlen(list->part->path);
    if (!strncmp(text, list->part->path, prefix) && text[prefix] == ':') text += prefix + 2;
    snprintf(entry->encoding, sizeof entry->encoding, "unreadable");
    snprintf(entry->note, sizeof entry->note, "%.255s", text);
}

static ferry_status add_matrix(listing *list, const char *path, const char *use)
{
    static const char *const layout[] = {"dense", "csr", "csc", "data frame", "dense"};
    ferry_entry *entry;
    char type[24] = "";
    FERRY_TRY(add(&entry, list, path));
    FERRY_AUTO_DISK disk = {0};
    ferry_status status = ferry_disk_open(&disk, list->part, path, 0);
    if (status == FERRY_E_MEM) return status;
    if (status != FERRY_OK) {
        unreadable(entry, list);
        return FERRY_OK;
    }
    if (disk.type > 0) type_text(type, disk.type);
    snprintf(entry->encoding, sizeof entry->encoding, "%s%s%s", layout[disk.layout], type[0] ? " " : "", type);
    entry->rows = list->file->cells;
    entry->columns = disk.columns;
    entry->nonzeros = list->file->parts == 1 ? disk.nonzeros : -1;
    snprintf(entry->use, sizeof entry->use, "--rep %.120s", use);
    if (disk.columns == 0) snprintf(entry->note, sizeof entry->note, "without columns");
    if (disk.columns == 0) entry->use[0] = 0;
    return FERRY_OK;
}

static ferry_status add_matrices(listing *list, const char *group)
{
    ferry_names names = {0};
    ferry_status status = ferry_members(&names, list->part, group);
    for (int64_t i = 0; i < names.count && status == FERRY_OK; i++) {
        char path[1100];
        snprintf(path, sizeof path, "%s/%.1000s", group, ferry_name(&names, i));
        status = add_matrix(list, path, strcmp(group, "obsm") ? path : ferry_name(&names, i));
    }
    ferry_names_close(&names);
    return status;
}

/* "categorical (11)" and its first names. */
static ferry_status describe_categorical(ferry_entry *entry, const listing *list, const ferry_column *column)
{
    char names[200];
    ferry_names categories = {0};
    ferry_status status = ferry_column_categories(&categories, NULL, column);
    if (status == FERRY_OK) {
        snprintf(entry->encoding, sizeof entry->encoding, "%scategorical (%lld)", column->ordered ? "ordered " : "",
                 (long long)categories.count);
        snprintf(entry->note, sizeof entry->note, "%s%s",
                 categories.count ? ferry_names_list(names, sizeof names, &categories, 3) : "all missing",
                 list->file->parts > 1 ? " (first file)" : "");
    } else if (status != FERRY_E_MEM) {
        unreadable(entry, list);
        status = FERRY_OK;
    }
    ferry_names_close(&categories);
    return status;
}

static ferry_status describe_column(ferry_entry *entry, const listing *list, const ferry_column *column)
{
    char type[24];
    const char *nullable = column->mask > 0 ? "nullable " : "";
    if (column->categories) return describe_categorical(entry, list, column);
    if (column->kind == FERRY_KIND_TEXT || column->kind == FERRY_KIND_BOOLEAN)
        snprintf(entry->encoding, sizeof entry->encoding, "%s%s", nullable,
                 column->kind == FERRY_KIND_TEXT ? "text" : "boolean");
    else
        snprintf(entry->encoding, sizeof entry->encoding, "%snumber %s", nullable, type_text(type, column->type));
    return FERRY_OK;
}

static ferry_status add_column(listing *list, const ferry_frame *frame, const char *name, bool obs)
{
    ferry_entry *entry;
    char path[1100];
    snprintf(path, sizeof path, "%s/%.1000s", frame->path, name);
    FERRY_TRY(add(&entry, list, path));
    FERRY_AUTO_COLUMN column = {0};
    ferry_status status = ferry_column_open(&column, frame, name);
    if (status == FERRY_E_MEM) return status;
    if (status != FERRY_OK) {
        unreadable(entry, list);
        return FERRY_OK;
    }
    FERRY_TRY(describe_column(entry, list, &column));
    entry->rows = obs ? list->file->cells : column.rows;
    bool index = !strcmp(name, frame->index);
    if (index) snprintf(entry->note, sizeof entry->note, obs ? "cell names" : "gene names");
    if (obs && !index && strcmp(entry->encoding, "unreadable") != 0)
        snprintf(entry->use, sizeof entry->use, "--where %.100s=...", name);
    return FERRY_OK;
}

static ferry_status add_frame(listing *list, const char *path)
{
    FERRY_AUTO_FRAME frame = {0};
    if (!ferry_h5_link(list->part->id, path)) return FERRY_OK;
    FERRY_TRY(ferry_frame_open(&frame, list->part, path));
    bool obs = !strcmp(path, "obs");
    FERRY_TRY(add_column(list, &frame, frame.index, obs));
    for (int64_t i = 0; i < frame.columns.count; i++)
        FERRY_TRY(add_column(list, &frame, ferry_name(&frame.columns, i), obs));
    return FERRY_OK;
}

/* Graphs and the top of uns: what they are called and what they are, not what is in them. */
static ferry_status add_names(listing *list, const char *group)
{
    ferry_names names = {0};
    ferry_status status = ferry_members(&names, list->part, group);
    for (int64_t i = 0; i < names.count && status == FERRY_OK; i++) {
        ferry_entry *entry;
        char path[1100];
        hsize_t shape[8];
        snprintf(path, sizeof path, "%s/%.1000s", group, ferry_name(&names, i));
        status = add(&entry, list, path);
        if (status != FERRY_OK) break;
        FERRY_HID id = ferry_h5_object(list->part->id, path) ? H5Oopen(list->part->id, path, H5P_DEFAULT) : -1;
        if (id < 0) {
            snprintf(entry->encoding, sizeof entry->encoding, "unreadable");
            continue;
        }
        FERRY_AUTO char *encoding = NULL;
        status = ferry_h5_attribute_text(&encoding, id, "encoding-type");
        bool group_here = ferry_h5_is_group(id);
        snprintf(entry->encoding, sizeof entry->encoding, "%.60s", encoding ? encoding : group_here ? "dict" : "array");
        int rank = group_here ? -1 : ferry_h5_shape(shape, id);
        if (rank > 0) entry->rows = (int64_t)shape[0];
        if (rank > 1) entry->columns = (int64_t)shape[1];
        int64_t square[2];
        if (group_here && ferry_h5_attribute_integers(square, 2, id, "shape") > 0) {
            entry->rows = square[0];
            entry->columns = square[1];
        }
    }
    ferry_names_close(&names);
    return status;
}

static ferry_status list_all(listing *list)
{
    bool raw = ferry_disk_exists(list->part, "raw/X");
    if (ferry_disk_exists(list->part, "X")) FERRY_TRY(add_matrix(list, "X", "X"));
    FERRY_TRY(add_matrices(list, "layers"));
    if (raw) FERRY_TRY(add_matrix(list, "raw/X", "raw/X"));
    FERRY_TRY(add_frame(list, "obs"));
    FERRY_TRY(add_matrices(list, "obsm"));
    FERRY_TRY(add_frame(list, "var"));
    FERRY_TRY(add_names(list, "obsp"));
    return add_names(list, "uns");
}

ferry_status ferry_file_entries(ferry_entry **out, int *count, ferry_file *file)
{
    FERRY_H5_QUIET;
    listing list = {.file = file};
    ferry_part *part = NULL;
    *out = NULL;
    *count = 0;
    FERRY_TRY(ferry_file_part(&part, file, 0));
    list.part = part;
    ferry_status status = ferry_alloc(&list.entry, 1);
    list.room = 1;
    if (status == FERRY_OK) status = list_all(&list);
    if (status != FERRY_OK) {
        free(list.entry);
        return status;
    }
    *out = list.entry;
    *count = list.count;
    return FERRY_OK;
}

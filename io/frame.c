/* Data frames: obs, var and the frames in obsm.
 *
 *  Since 0.7 a group: attribute `_index` names the index column, `column-order` lists the others. Before, one dataset
 *  of compounds whose field `index` is the index. */
#include "h5ad_impl.h"
#include "names_impl.h"
#include <stdio.h>
#include <string.h>

ferry_status ferry_path_join(char **out, const char *a, const char *b)
{
    size_t length = strlen(a) + (b ? strlen(b) : 0) + 2;
    FERRY_TRY(ferry_alloc(out, (int64_t)length));
    snprintf(*out, length, "%s%s%s", a, b ? "/" : "", b ? b : "");
    return FERRY_OK;
}

static herr_t add_link(hid_t group, const char *name, const H5L_info_t *info, void *out)
{
    (void)group;
    (void)info;
    return ferry_names_add(out, name, -1) == FERRY_OK ? 0 : -1;
}

static ferry_status add_fields(ferry_names *out, hid_t type)
{
    int fields = H5Tget_nmembers(type);
    for (int i = 0; i < fields; i++) {
        char *name = H5Tget_member_name(type, (unsigned)i);
        ferry_status status = name ? ferry_names_add(out, name, -1) : FERRY_OK;
        H5free_memory(name);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

ferry_status ferry_members(ferry_names *out, const ferry_part *part, const char *path)
{
    if (!ferry_h5_object(part->id, path)) return FERRY_OK;
    FERRY_HID id = H5Oopen(part->id, path, H5P_DEFAULT);
    if (id > 0 && ferry_h5_is_group(id)) {
        hsize_t at = 0;
        if (H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, &at, add_link, out) < 0)
            return ferry_h5_fail(part->path, path, "the list of its members cannot be read", FERRY_COPY_AGAIN);
    } else if (id > 0 && ferry_h5_is_dataset(id)) {
        FERRY_HID type = H5Dget_type(id);
        if (H5Tget_class(type) == H5T_COMPOUND) FERRY_TRY(add_fields(out, type));
    }
    return FERRY_OK;
}

/* The texts of attribute column-order; an empty one is stored as an empty list of floats. */
static ferry_status read_order(ferry_names *out, bool *found, hid_t group)
{
    *found = false;
    if (H5Aexists(group, "column-order") <= 0) return FERRY_OK;
    FERRY_HID attribute = H5Aopen(group, "column-order", H5P_DEFAULT);
    if (attribute < 0) return FERRY_OK;
    FERRY_HID type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    hssize_t count = H5Sget_simple_extent_npoints(space);
    *found = H5Tget_class(type) == H5T_STRING || count == 0;
    if (!*found || count <= 0) return FERRY_OK;
    ferry_status status = FERRY_OK;
    if (H5Tis_variable_str(type) > 0) {
        FERRY_HID memory = H5Tcopy(H5T_C_S1);
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        FERRY_AUTO char **text = NULL;
        FERRY_TRY(ferry_alloc(&text, count));
        if (H5Aread(attribute, memory, text) < 0) {
            *found = false;
            return FERRY_OK;
        }
        for (hssize_t i = 0; i < count && status == FERRY_OK; i++)
            status = ferry_names_add(out, text[i] ? text[i] : "", -1);
        H5Dvlen_reclaim(memory, space, H5P_DEFAULT, text);
        return status;
    }
    size_t size = H5Tget_size(type);
    FERRY_AUTO char *text = NULL;
    FERRY_TRY(ferry_alloc_bytes(&text, count, size));
    if (H5Aread(attribute, type, text) < 0) *found = false;
    for (hssize_t i = 0; i < count && *found; i++)
        FERRY_TRY(ferry_names_add(out, text + (size_t)i * size, (int64_t)strnlen(text + (size_t)i * size, size)));
    return FERRY_OK;
}

/* column-order, or without it the links of the group; the index left out. */
static ferry_status list_columns(ferry_frame *frame)
{
    ferry_names all = {0};
    bool found;
    ferry_status status = read_order(&all, &found, frame->id);
    if (status == FERRY_OK && !found) {
        hsize_t at = 0;
        ferry_names_close(&all);
        if (H5Literate(frame->id, H5_INDEX_NAME, H5_ITER_INC, &at, add_link, &all) < 0)
            status =
                ferry_h5_fail(frame->part->path, frame->path, "its list of columns cannot be read", FERRY_COPY_AGAIN);
    }
    for (int64_t i = 0; i < all.count && status == FERRY_OK; i++) {
        const char *name = ferry_name(&all, i);
        if (strcmp(name, frame->index) != 0 && strcmp(name, "__categories") != 0)
            status = ferry_names_add(&frame->columns, name, -1);
    }
    ferry_names_close(&all);
    return status;
}

static ferry_status open_group(ferry_frame *frame)
{
    const char *file = frame->part->path;
    FERRY_TRY(ferry_h5_attribute_text(&frame->index, frame->id, "_index"));
    if (!frame->index)
        return ferry_fail(FERRY_E_FILE, "%s: %s: no attribute _index, which names the column with the %s names; %s",
                          file, frame->path, strstr(frame->path, "var") ? "gene" : "cell", FERRY_REWRITE);
    if (!ferry_h5_link(frame->id, frame->index))
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s/%s: missing, but attribute _index of %s names it; set the attribute to an existing "
                          "column, or " FERRY_REWRITE,
                          file, frame->path, frame->index, frame->path);
    FERRY_AUTO_COLUMN index = {0};
    FERRY_TRY(ferry_column_open(&index, frame, frame->index));
    frame->rows = index.rows;
    return list_columns(frame);
}

static ferry_status open_compound(ferry_frame *frame)
{
    static const char *const usual[] = {"index",     "_index",    "row_names", "obs_names",
                                        "var_names", "col_names", "smp_names"};
    const char *file = frame->part->path;
    hsize_t shape[8];
    frame->type = H5Dget_type(frame->id);
    if (frame->type < 0 || H5Tget_class(frame->type) != H5T_COMPOUND || ferry_h5_shape(shape, frame->id) != 1)
        return ferry_fail(FERRY_E_FILE, "%s: %s: neither a group nor a table; " FERRY_REWRITE, file, frame->path);
    frame->rows = (int64_t)shape[0];
    int field = -1;
    for (size_t i = 0; i < sizeof usual / sizeof *usual && field < 0; i++)
        field = H5Tget_member_index(frame->type, usual[i]);
    for (int i = 0; i < H5Tget_nmembers(frame->type) && field < 0; i++)
        if (H5Tget_member_class(frame->type, (unsigned)i) == H5T_STRING) field = i;
    if (field < 0)
        return ferry_fail(FERRY_E_FILE, "%s: %s: no field 'index' with the names; " FERRY_REWRITE, file, frame->path);
    ferry_names all = {0};
    char *name = H5Tget_member_name(frame->type, (unsigned)field);
    ferry_status status = ferry_path_join(&frame->index, name, NULL);
    H5free_memory(name);
    if (status == FERRY_OK) status = add_fields(&all, frame->type);
    for (int64_t i = 0; i < all.count && status == FERRY_OK; i++)
        if (i != field) status = ferry_names_add(&frame->columns, ferry_name(&all, i), -1);
    ferry_names_close(&all);
    return status;
}

static ferry_status open_frame(ferry_frame *out, const ferry_part *part, const char *path)
{
    FERRY_TRY(ferry_path_join(&out->path, path, NULL));
    if (!ferry_h5_link(part->id, path))
        return ferry_fail(FERRY_E_FILE, "%s: %s: missing, so this is no AnnData file; " FERRY_REWRITE, part->path,
                          path);
    out->id = H5Oopen(part->id, path, H5P_DEFAULT);
    if (out->id < 0) return ferry_h5_fail(part->path, path, "cannot be opened", FERRY_COPY_AGAIN);
    if (ferry_h5_is_group(out->id)) return open_group(out);
    if (ferry_h5_is_dataset(out->id)) return open_compound(out);
    return ferry_fail(FERRY_E_FILE, "%s: %s: neither a group nor a table; " FERRY_REWRITE, part->path, path);
}

ferry_status ferry_frame_open(ferry_frame *out, const ferry_part *part, const char *path)
{
    *out = (ferry_frame){.part = part, .id = -1, .type = -1};
    ferry_status status = open_frame(out, part, path);
    if (status != FERRY_OK) ferry_frame_close(out);
    return status;
}

void ferry_frame_close(ferry_frame *frame)
{
    ferry_hid_close(&frame->id);
    ferry_hid_close(&frame->type);
    free(frame->path);
    free(frame->index);
    ferry_names_close(&frame->columns);
    *frame = (ferry_frame){.id = -1, .type = -1};
}

/* No column is as long as the index: then the index is wrong, not they. Columns that cannot be read are no witnesses.
 */
static ferry_status check_index(const ferry_frame *frame)
{
    ferry_frame any = *frame;
    any.rows = -1; /* columns of any length open */
    int64_t rows = -1;
    const char *witness = NULL;
    for (int64_t i = 0; i < frame->columns.count; i++) {
        FERRY_AUTO_COLUMN column = {0};
        const char *name = ferry_name(&frame->columns, i);
        if (ferry_column_open(&column, &any, name) != FERRY_OK) continue;
        if (column.rows == frame->rows) return FERRY_OK;
        rows = column.rows;
        witness = name;
    }
    if (!witness) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s/%s: has %lld names, but column '%s' has %lld values; " FERRY_REWRITE,
                      frame->part->path, frame->path, frame->index, (long long)frame->rows, witness, (long long)rows);
}

ferry_status ferry_frame_check(const ferry_frame *frame)
{
    if (frame->type > 0) return FERRY_OK; /* fields of one table have one length */
    for (int64_t i = 0; i < frame->columns.count; i++)
        if (!ferry_h5_link(frame->id, ferry_name(&frame->columns, i)))
            return ferry_fail(FERRY_E_FILE,
                              "%s: %s/%s: missing, but attribute column-order of %s lists it; " FERRY_REWRITE,
                              frame->part->path, frame->path, ferry_name(&frame->columns, i), frame->path);
    return check_index(frame);
}

bool ferry_frame_has(const ferry_frame *frame, const char *column)
{
    if (!*column || !strcmp(column, "__categories")) return false;
    if (frame->type > 0) return H5Tget_member_index(frame->type, column) >= 0;
    if (ferry_names_find(&frame->columns, column) >= 0 || !strcmp(column, frame->index)) return true;
    if (!ferry_h5_object(frame->id, column)) return false;
    FERRY_HID id = H5Oopen(frame->id, column, H5P_DEFAULT); /* a column that column-order forgot */
    return id > 0 && (ferry_h5_is_dataset(id) || ferry_h5_object(id, "codes") || ferry_h5_object(id, "values"));
}

/* Columns of a frame, in every encoding since AnnData 0.5:
 *
 *  plain        1-D dataset of integers, floats, texts, or booleans (an enum FALSE, TRUE), or a field of a compound
 *  categorical  group {codes, categories}; 0.7: codes, with an attribute `categories` that refers to
 *               __categories/COLUMN; before: integer field of the compound, names in uns/COLUMN_categories
 *  nullable     group {values, mask}, mask true where the value is missing */
#include "h5ad_impl.h"
#include "names_impl.h"
#include <stdio.h>
#include <string.h>

/* What the values are, from their type; FERRY_E_FILE for what we cannot take. */
static ferry_status classify(ferry_column *column)
{
    H5T_class_t class = H5Tget_class(column->type);
    size_t size = H5Tget_size(column->type);
    if (class == H5T_INTEGER && size <= 8) {
        column->kind = FERRY_KIND_INTEGER;
    } else if (class == H5T_FLOAT) {
        column->kind = FERRY_KIND_FLOAT;
    } else if (class == H5T_STRING) {
        column->kind = FERRY_KIND_TEXT;
    } else if ((class == H5T_ENUM || class == H5T_BITFIELD) && size == 1) {
        column->kind = FERRY_KIND_BOOLEAN;
    } else {
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: values of a type that is not number, text or boolean; drop the column, or turn it "
                          "into text in anndata",
                          column->part->path, column->path);
    }
    return FERRY_OK;
}

/* Opens the dataset of values, and learns type and length. */
static ferry_status open_values(ferry_column *column)
{
    hsize_t shape[8];
    const char *file = column->part->path;
    FERRY_TRY(ferry_h5_dataset(&column->data, column->part->id, column->values, 0, file, column->values));
    int rank = ferry_h5_shape(shape, column->data);
    if (rank != 0 && rank != 1)
        return ferry_fail(FERRY_E_FILE, "%s: %s: has %d dimensions, a column has one; " FERRY_REWRITE, file,
                          column->values, rank);
    column->rows = rank ? (int64_t)shape[0] : 1;
    column->type = H5Dget_type(column->data);
    if (column->member) {
        FERRY_HID whole = column->type;
        column->type = H5Tget_member_type(whole, (unsigned)H5Tget_member_index(whole, column->member));
    }
    return classify(column);
}

static ferry_status open_mask(ferry_column *column, const char *path)
{
    hsize_t shape[8];
    const char *file = column->part->path;
    FERRY_AUTO char *mask = NULL;
    FERRY_TRY(ferry_path_join(&mask, path, "mask"));
    FERRY_TRY(ferry_h5_dataset(&column->mask, column->part->id, mask, 0, file, mask));
    FERRY_HID type = H5Dget_type(column->mask);
    H5T_class_t class = H5Tget_class(type);
    if ((class != H5T_ENUM && class != H5T_INTEGER && class != H5T_BITFIELD) || H5Tget_size(type) != 1)
        return ferry_fail(FERRY_E_FILE, "%s: %s: a mask of booleans is expected here; " FERRY_REWRITE, file, mask);
    if (ferry_h5_shape(shape, column->mask) != 1 || (int64_t)shape[0] != column->rows)
        return ferry_fail(FERRY_E_FILE, "%s: %s: not as long as %s (%lld); " FERRY_REWRITE, file, mask, column->values,
                          (long long)column->rows);
    return FERRY_OK;
}

static ferry_status open_group(ferry_column *column, hid_t group, const char *path)
{
    FERRY_AUTO char *encoding = NULL;
    FERRY_TRY(ferry_h5_attribute_text(&encoding, group, "encoding-type"));
    bool categorical = ferry_h5_link(group, "codes") || (encoding && !strcmp(encoding, "categorical"));
    if (categorical) {
        FERRY_TRY(ferry_path_join(&column->values, path, "codes"));
        FERRY_TRY(ferry_path_join(&column->categories, path, "categories"));
        column->ordered = ferry_h5_attribute_flag(group, "ordered", false);
        return open_values(column);
    }
    if (ferry_h5_link(group, "values") && ferry_h5_link(group, "mask")) {
        FERRY_TRY(ferry_path_join(&column->values, path, "values"));
        FERRY_TRY(open_values(column));
        return open_mask(column, path);
    }
    return ferry_fail(FERRY_E_FILE,
                      "%s: %s: a group that is no column (encoding-type %s; a column is an array or a group with codes "
                      "and categories, or values and mask); " FERRY_REWRITE,
                      column->part->path, path, encoding ? encoding : "absent");
}

/* 0.7: attribute `categories` of the codes is a reference to the categories. */
static ferry_status follow_reference(ferry_column *column, hid_t dataset, const char *path)
{
    const char *file = column->part->path;
    const char *broken = "attribute categories refers to nothing";
    hobj_ref_t reference = 0;
    char name[1024];
    FERRY_HID attribute = H5Aopen(dataset, "categories", H5P_DEFAULT);
    FERRY_HID type = attribute > 0 ? H5Aget_type(attribute) : -1, space = attribute > 0 ? H5Aget_space(attribute) : -1;
    if (type < 0 || H5Tequal(type, H5T_STD_REF_OBJ) <= 0 || H5Sget_simple_extent_npoints(space) != 1 ||
        H5Aread(attribute, H5T_STD_REF_OBJ, &reference) < 0)
        return ferry_fail(FERRY_E_FILE, "%s: %s: attribute categories is not a reference to categories; " FERRY_REWRITE,
                          file, path);
    FERRY_HID target = H5Rdereference2(dataset, H5P_DEFAULT, H5R_OBJECT, &reference);
    if (target < 0) return ferry_h5_fail(file, path, broken, FERRY_REWRITE);
    ssize_t length = H5Rget_name(dataset, H5R_OBJECT, &reference, name, sizeof name);
    if (length <= 0 || length >= (ssize_t)sizeof name || !ferry_h5_object(column->part->id, name + 1))
        return ferry_fail(FERRY_E_FILE, "%s: %s: %s; " FERRY_REWRITE, file, path, broken);
    column->ordered = ferry_h5_attribute_flag(target, "ordered", false);
    return ferry_path_join(&column->categories, name + (name[0] == '/'), NULL);
}

static ferry_status open_path(ferry_column *column, const char *path)
{
    const ferry_part *part = column->part;
    if (!ferry_h5_link(part->id, path))
        return ferry_fail(FERRY_E_FILE, "%s: %s: missing; " FERRY_REWRITE, part->path, path);
    if (!ferry_h5_object(part->id, path))
        return ferry_fail(FERRY_E_FILE, "%s: %s: a link that leads nowhere; " FERRY_REWRITE, part->path, path);
    FERRY_HID id = H5Oopen(part->id, path, H5P_DEFAULT);
    if (id < 0) return ferry_h5_fail(part->path, path, "cannot be opened", FERRY_COPY_AGAIN);
    if (ferry_h5_is_group(id)) return open_group(column, id, path);
    if (ferry_h5_is_dataset(id) && H5Aexists(id, "categories") > 0) FERRY_TRY(follow_reference(column, id, path));
    FERRY_TRY(ferry_path_join(&column->values, path, NULL));
    ferry_hid_close(&id); /* so that open_values sets the chunk cache */
    return open_values(column);
}

/* A field of compound obs; categories live in uns. */
static ferry_status open_member(ferry_column *column, const ferry_frame *frame, const char *name)
{
    FERRY_TRY(ferry_path_join(&column->values, frame->path, NULL));
    FERRY_TRY(ferry_path_join(&column->member, name, NULL));
    FERRY_TRY(open_values(column));
    char path[600];
    snprintf(path, sizeof path, "uns/%.500s_categories", name);
    if (column->kind == FERRY_KIND_INTEGER && ferry_h5_object(column->part->id, path))
        FERRY_TRY(ferry_path_join(&column->categories, path, NULL));
    return FERRY_OK;
}

static ferry_status absent(const ferry_frame *frame, const char *name)
{
    char list[400], near[120] = "";
    const char *nearest = ferry_names_nearest(&frame->columns, name);
    if (nearest) snprintf(near, sizeof near, " did you mean '%.80s'?", nearest);
    return ferry_fail(FERRY_E_FILE, "%s: %s: no column '%s';%s there are: %s", frame->part->path, frame->path, name,
                      near, ferry_names_list(list, sizeof list, &frame->columns, 10));
}

static ferry_status open_column(ferry_column *column, const ferry_frame *frame, const char *name)
{
    FERRY_TRY(ferry_path_join(&column->path, frame->path, name));
    if (frame->type > 0) return open_member(column, frame, name);
    FERRY_TRY(open_path(column, column->path));
    if (frame->rows >= 0 && frame->index && strcmp(name, frame->index) != 0 && column->rows != frame->rows)
        return ferry_fail(FERRY_E_FILE, "%s: %s: has %lld values, but %s has %lld rows; " FERRY_REWRITE,
                          column->part->path, column->values, (long long)column->rows, frame->path,
                          (long long)frame->rows);
    if (column->categories && column->kind != FERRY_KIND_INTEGER)
        return ferry_fail(FERRY_E_FILE, "%s: %s: codes of categories must be integers; " FERRY_REWRITE,
                          column->part->path, column->values);
    return FERRY_OK;
}

/* Room for the categories, once the column is known to have some. */
static ferry_status finish(ferry_column *column, ferry_status status)
{
    if (status == FERRY_OK && column->categories) status = ferry_alloc(&column->known, 1);
    if (status != FERRY_OK) ferry_column_close(column);
    return status;
}

ferry_status ferry_column_open(ferry_column *out, const ferry_frame *frame, const char *name)
{
    *out = (ferry_column){.part = frame->part, .data = -1, .mask = -1, .type = -1};
    bool index = frame->index && !strcmp(name, frame->index);
    if (!index && !ferry_frame_has(frame, name)) return absent(frame, name);
    return finish(out, open_column(out, frame, name));
}

ferry_status ferry_column_open_path(ferry_column *out, const ferry_part *part, const char *path)
{
    *out = (ferry_column){.part = part, .data = -1, .mask = -1, .type = -1};
    ferry_status status = ferry_path_join(&out->path, path, NULL);
    if (status == FERRY_OK) status = open_path(out, path);
    return finish(out, status);
}

void ferry_column_close(ferry_column *column)
{
    ferry_hid_close(&column->data);
    ferry_hid_close(&column->mask);
    ferry_hid_close(&column->type);
    free(column->path);
    free(column->values);
    free(column->member);
    free(column->categories);
    if (column->known) {
        ferry_names_close(&column->known->names);
        free(column->known->number);
    }
    free(column->known);
    *column = (ferry_column){.data = -1, .mask = -1, .type = -1};
}

int64_t ferry_column_near(const ferry_column *column)
{
    hsize_t chunk[8];
    return ferry_h5_chunk(chunk, column->data) ? (int64_t)chunk[0] : 4096;
}

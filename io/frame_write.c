/* The AnnData skeleton and its data frames, as anndata 0.8 and later write them: anndata 0.1.0, dataframe 0.2.0 with
 * attributes _index and column-order, categorical 0.2.0 with codes and categories. */
#include "names_impl.h"
#include "write_impl.h"
#include <stdio.h>
#include <string.h>

ferry_status ferry_output_anndata(ferry_output *output)
{
    static const char *const part[] = {"layers", "obsm", "varm", "obsp", "varp", "uns"};
    FERRY_TRY(ferry_output_group(output, "/", "anndata", "0.1.0"));
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        FERRY_TRY(ferry_output_group(output, part[k], "dict", "0.1.0"));
    return FERRY_OK;
}

static ferry_status put_order(ferry_output *output, const ferry_frame *frame, const char **names)
{
    FERRY_H5_QUIET;
    FERRY_HID group = H5Gopen2(output->file, frame->path, H5P_DEFAULT);
    if (group < 0) return ferry_write_fail(output, frame->path, "the frame cannot be opened");
    FERRY_HID type = ferry_text_type(0);
    return ferry_put_values(output, frame->path, group, "column-order", type, frame->columns.count, names);
}

/* column-order says what there is at any time, so that a partial file opens too. */
static ferry_status order(ferry_output *output, const ferry_frame *frame)
{
    FERRY_AUTO const char **names = NULL;
    ferry_status status = ferry_alloc(&names, frame->columns.count);
    if (status == FERRY_OK) status = ferry_reserve(output, 0);
    FERRY_TRY(ferry_agree(output->world, status));
    for (int64_t i = 0; i < frame->columns.count; i++) names[i] = ferry_name(&frame->columns, i);
    return ferry_agree(output->world, put_order(output, frame, names));
}

static ferry_status new_frame(ferry_output *output, const char *path, int64_t rows)
{
    int count = output->frame_count;
    if (count)
        FERRY_TRY(ferry_grow(&output->frames, count, count + 1));
    else
        FERRY_TRY(ferry_alloc(&output->frames, 1));
    FERRY_TRY(ferry_path(output->frames[count].path, path));
    output->frames[count].rows = rows;
    output->frame_count++;
    return FERRY_OK;
}

static ferry_status put_index_name(ferry_output *output, const char *path)
{
    return ferry_output_attribute_text(output, path, "_index", "_index");
}

/* A frame without its index, which is to lie at path. */
static ferry_status frame_head(char path[2 * FERRY_PATH], ferry_output *output, const char *frame, int64_t rows)
{
    FERRY_TRY(ferry_agree(output->world, new_frame(output, frame, rows)));
    const ferry_frame *it = &output->frames[output->frame_count - 1];
    FERRY_TRY(ferry_output_group(output, it->path, "dataframe", "0.2.0"));
    FERRY_TRY(put_index_name(output, it->path));
    snprintf(path, 2 * FERRY_PATH, "%s/_index", it->path);
    return order(output, it);
}

ferry_status ferry_output_frame(ferry_output *output, const char *frame, int64_t rows, int64_t first,
                                const ferry_names *index)
{
    char path[2 * FERRY_PATH];
    FERRY_TRY(frame_head(path, output, frame, rows));
    return ferry_output_texts(output, path, rows, first, index);
}

ferry_status ferry_output_frame_create(ferry_output *output, const char *frame, int64_t rows, int64_t longest)
{
    char path[2 * FERRY_PATH];
    FERRY_TRY(frame_head(path, output, frame, rows));
    return ferry_output_texts_create(output, path, rows, longest);
}

/* *name as a link: '/' would make a group of it, so it becomes '_'. */
static ferry_status enter(int *out, char path[2 * FERRY_PATH], ferry_output *output, const char *frame,
                          const char *name)
{
    char at[FERRY_PATH], link[FERRY_PATH];
    FERRY_TRY(ferry_path(at, frame));
    int k = 0;
    while (k < output->frame_count && strcmp(output->frames[k].path, at) != 0) k++;
    if (k == output->frame_count) return ferry_fail(FERRY_E_ARG, "%s: there is no frame %s", output->partial, at);
    *out = k;
    ferry_names *columns = &output->frames[k].columns;
    int length = snprintf(link, sizeof link, "%s", name ? name : "");
    for (char *c = link; *c; c++)
        if (*c == '/') *c = '_';
    if (!link[0] || !strcmp(link, ".") || !strcmp(link, "_index") || length >= FERRY_PATH / 2)
        return ferry_fail(FERRY_E_ARG, "%s: '%.80s' cannot be the name of a column; rename it", at, link);
    if (ferry_names_find(columns, link) >= 0)
        return ferry_fail(FERRY_E_ARG, "%s: there are two columns '%s'; rename one", at, link);
    if (columns->count >= FERRY_COLUMNS)
        return ferry_fail(FERRY_E_ARG, "%s: a frame has at most %d columns; choose fewer", at, FERRY_COLUMNS);
    snprintf(path, 2 * FERRY_PATH, "%s/%s", at, link);
    return ferry_names_add(columns, link, (int64_t)strlen(link));
}

ferry_status ferry_output_column(ferry_output *output, const char *frame, const char *name, ferry_type type,
                                 int64_t first, int64_t count, const void *values)
{
    char path[2 * FERRY_PATH] = "";
    int k = 0;
    FERRY_TRY(ferry_agree(output->world, enter(&k, path, output, frame, name)));
    FERRY_TRY(ferry_output_array(output, path, type, output->frames[k].rows, 0, first, count, values));
    return order(output, &output->frames[k]);
}

ferry_status ferry_output_column_create(ferry_output *output, const char *frame, const char *name, ferry_type type)
{
    char path[2 * FERRY_PATH] = "";
    int k = 0;
    FERRY_TRY(ferry_agree(output->world, enter(&k, path, output, frame, name)));
    FERRY_TRY(ferry_output_create(output, path, type, output->frames[k].rows, 0));
    return order(output, &output->frames[k]);
}

static ferry_status check_codes(const char *path, const int32_t *codes, int64_t count, const ferry_names *categories)
{
    for (int64_t i = 0; i < count; i++)
        if (codes[i] < -1 || codes[i] >= categories->count)
            return ferry_fail(FERRY_E_ARG, "%s: code %d of %lld categories", path, codes[i],
                              (long long)categories->count);
    return FERRY_OK;
}

static ferry_status put_ordered(ferry_output *output, const char *path, bool ordered)
{
    FERRY_H5_QUIET;
    FERRY_HID group = H5Gopen2(output->file, path, H5P_DEFAULT);
    if (group < 0) return ferry_write_fail(output, path, "the group cannot be opened");
    FERRY_HID type = ferry_file_type(FERRY_BOOL);
    int8_t value = ordered;
    return ferry_put_values(output, path, group, "ordered", type, -1, &value);
}

/* The group of a categorical, without its codes. */
static ferry_status put_categories(ferry_output *output, const char *path, const ferry_names *categories, bool ordered)
{
    char part[2 * FERRY_PATH + 16];
    const ferry_names none = {0}; /* the same on all ranks: rank 0 writes */
    FERRY_TRY(ferry_output_group(output, path, "categorical", "0.2.0"));
    FERRY_TRY(ferry_agree(output->world, put_ordered(output, path, ordered)));
    snprintf(part, sizeof part, "%s/categories", path);
    return ferry_output_texts(output, part, categories->count, 0, output->world->rank ? &none : categories);
}

ferry_status ferry_output_categorical(ferry_output *output, const char *frame, const char *name, int64_t first,
                                      int64_t count, const int32_t *codes, const ferry_names *categories, bool ordered)
{
    char path[2 * FERRY_PATH] = "", part[2 * FERRY_PATH + 16];
    int k = 0;
    ferry_status status = enter(&k, path, output, frame, name);
    if (status == FERRY_OK) status = check_codes(path, codes, count, categories);
    FERRY_TRY(ferry_agree(output->world, status));
    FERRY_TRY(put_categories(output, path, categories, ordered));
    snprintf(part, sizeof part, "%s/codes", path);
    FERRY_TRY(ferry_output_array(output, part, FERRY_INT32, output->frames[k].rows, 0, first, count, codes));
    return order(output, &output->frames[k]);
}

ferry_status ferry_output_categorical_create(ferry_output *output, const char *frame, const char *name,
                                             const ferry_names *categories, bool ordered)
{
    char path[2 * FERRY_PATH] = "", part[2 * FERRY_PATH + 16];
    int k = 0;
    FERRY_TRY(ferry_agree(output->world, enter(&k, path, output, frame, name)));
    FERRY_TRY(put_categories(output, path, categories, ordered));
    snprintf(part, sizeof part, "%s/codes", path);
    FERRY_TRY(ferry_output_create(output, part, FERRY_INT32, output->frames[k].rows, 0));
    return order(output, &output->frames[k]);
}

/* ---- frames of a copy ---- */

ferry_status ferry_frame_forget(ferry_frame *frame, const char *column)
{
    ferry_names kept = {0};
    ferry_status status = FERRY_OK;
    for (int64_t i = 0; i < frame->columns.count && status == FERRY_OK; i++)
        if (strcmp(ferry_name(&frame->columns, i), column) != 0)
            status = ferry_names_add(&kept, ferry_name(&frame->columns, i), ferry_name_length(&frame->columns, i));
    if (status == FERRY_OK) {
        ferry_names_close(&frame->columns);
        frame->columns = kept;
    } else {
        ferry_names_close(&kept);
    }
    return status;
}

/* Columns that the group says it has. */
static ferry_status known_columns(ferry_frame *frame, hid_t group)
{
    FERRY_HID attribute = H5Aopen(group, "column-order", H5P_DEFAULT);
    if (attribute < 0) return FERRY_OK; /* anndata writes one always; without it columns are found by name */
    FERRY_HID type = H5Aget_type(attribute);
    FERRY_HID space = H5Aget_space(attribute);
    const hssize_t count = H5Sget_simple_extent_npoints(space);
    if (count <= 0 || H5Tget_class(type) != H5T_STRING) return FERRY_OK; /* no columns: an empty list of floats */
    const bool variable = H5Tis_variable_str(type) > 0;
    const size_t size = variable ? sizeof(char *) : H5Tget_size(type);
    FERRY_AUTO char *text = NULL;
    FERRY_TRY(ferry_alloc_bytes(&text, count, size));
    if (H5Aread(attribute, type, text) < 0) return FERRY_E_FILE;
    ferry_status status = FERRY_OK;
    for (hssize_t i = 0; i < count && status == FERRY_OK; i++) {
        const char *name = text + (size_t)i * size;
        if (variable) memcpy(&name, text + (size_t)i * size, sizeof name);
        status =
            ferry_names_add(&frame->columns, name ? name : "", variable || !name ? -1 : (int64_t)strnlen(name, size));
    }
    if (variable) H5Dvlen_reclaim(type, space, H5P_DEFAULT, text);
    return status;
}

static ferry_status frame_of_copy(ferry_output *output, const char *path, int64_t rows)
{
    FERRY_H5_QUIET;
    FERRY_TRY(new_frame(output, path, rows));
    ferry_frame *it = &output->frames[output->frame_count - 1];
    FERRY_HID group = ferry_h5_link(output->file, it->path) ? H5Oopen(output->file, it->path, H5P_DEFAULT) : -1;
    if (group < 0 || !ferry_h5_is_group(group))
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s is a table of an anndata before 0.7, which takes no more columns; read the file and "
                          "write it with a newer anndata, or do without a copy of it",
                          output->partial, it->path);
    if (known_columns(it, group) == FERRY_OK) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s: its list of columns cannot be read; %s", output->partial, it->path,
                      FERRY_REWRITE);
}

ferry_status ferry_output_frame_of_copy(ferry_output *output, const char *frame, int64_t rows)
{
    return ferry_agree(output->world, frame_of_copy(output, frame, rows));
}

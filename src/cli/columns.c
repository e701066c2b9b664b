/* columns.c - see columns.h. Values are read when they are asked for, by row ranges; nothing is held but names. */
#include "columns.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE ((int64_t)32 << 20) /* bytes of whole rows that are read to take some columns of them */

/* ---- opening ---- */

static ferry_status copy_text(char **out, const char *text, size_t length)
{
    FERRY_TRY(ferry_alloc(out, (int64_t)length + 1));
    memcpy(*out, text, length);
    return FERRY_OK;
}

static ferry_status add_name(ferry_names *names, const char *name)
{
    return ferry_names_add(names, name, (int64_t)strlen(name));
}

/* Local. Is the obs column one of numbers? */
static ferry_status is_number(bool *out, ferry_file *file, const char *column)
{
    FERRY_AUTO ferry_entry *entry = NULL;
    char path[300];
    int count;
    *out = false;
    FERRY_TRY(ferry_file_entries(&entry, &count, file));
    (void)snprintf(path, sizeof path, "obs/%s", column);
    for (int i = 0; i < count; i++) {
        if (strcmp(entry[i].path, path) != 0) continue;
        const char *encoding = entry[i].encoding;
        if (!strncmp(encoding, "nullable ", 9)) encoding += 9;
        *out = !strncmp(encoding, "number", 6) || !strncmp(encoding, "boolean", 7);
    }
    return FERRY_OK;
}

/* Collective. Categories of the column become the names; nothing is read for cells. */
static ferry_status open_labels(columns *out, const char *value)
{
    ferry_labels labels = {0};
    ferry_status status = ferry_read_labels(&labels, out->world, out->population->file, out->key, NULL, 0);
    if (status == FERRY_OK && value) {
        out->kind = COLUMNS_ONE_LABEL;
        out->label = ferry_names_find(&labels.categories, value);
        const char *near = out->label < 0 ? ferry_names_nearest(&labels.categories, value) : NULL;
        if (out->label < 0)
            status = ferry_fail(FERRY_E_FILE, "%s: obs/%s has no value '%s'%s%s%s", out->population->options.path,
                                out->key, value, near ? "; did you mean '" : "; 'cellferry info' shows its values",
                                near ? near : "", near ? "'?" : "");
        else
            status = add_name(&out->names, value);
    } else if (status == FERRY_OK) {
        out->kind = COLUMNS_LABELS;
        out->names = labels.categories;
        labels.categories = (ferry_names){0};
    }
    ferry_labels_close(&labels);
    return ferry_agree(out->world, status);
}

/* Collective. rest: COLUMN or COLUMN=VALUE; a column whose own name has a '=' is taken as it is. */
static ferry_status open_obs(columns *out, const char *rest)
{
    const char *equal = strchr(rest, '=');
    if (equal && ferry_file_has_obs(out->population->file, rest)) equal = NULL;
    bool number = false;
    ferry_status status = copy_text(&out->key, rest, equal ? (size_t)(equal - rest) : strlen(rest));
    if (status == FERRY_OK && !equal) status = is_number(&number, out->population->file, out->key);
    FERRY_TRY(ferry_agree(out->world, status));
    if (!number) return open_labels(out, equal ? equal + 1 : NULL);
    out->kind = COLUMNS_NUMBER;
    return ferry_agree(out->world, add_name(&out->names, out->key));
}

/* Local. */
static ferry_status open_matrix(columns *out, const char *rep, bool genes)
{
    ferry_file *file = out->population->file;
    int width;
    out->kind = COLUMNS_MATRIX;
    FERRY_TRY(copy_text(&out->key, rep, strlen(rep)));
    FERRY_TRY(ferry_rep_dim(&width, file, rep, 0));
    if (genes) return ferry_read_gene_names(&out->names, file, rep, 0, width);
    for (int k = 0; k < width; k++) {
        char name[300];
        (void)snprintf(name, sizeof name, "%s-%d", rep, k); /* as scanpy names the columns of an obsm key */
        FERRY_TRY(add_name(&out->names, name));
    }
    return FERRY_OK;
}

/* ---- reading ---- */

static ferry_status ones(float *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++) out[i] = 1;
    return FERRY_OK;
}

/* Local. */
static ferry_status numbers(const columns *c, float *out, const int64_t *rows, int64_t count)
{
    FERRY_AUTO double *value = NULL;
    FERRY_TRY(ferry_read_numbers(&value, c->population->file, c->key, rows, count));
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(value[i]))
            return ferry_fail(FERRY_E_FILE,
                              "%s: obs/%s of cell %lld is missing or not finite, and would spoil every result; leave "
                              "such cells out when the plan is made (--source-where, --target-where)",
                              c->population->options.path, c->key, (long long)rows[i]);
        out[i] = (float)value[i];
    }
    return FERRY_OK;
}

/* Local. Some columns of rows first ... of a matrix; whole rows are read in slices. */
static ferry_status matrix(const columns *c, float *out, const int64_t *rows, int64_t count, int64_t column,
                           int64_t width)
{
    int64_t all = c->names.count, slice = SLICE / (4 * (all ? all : 1));
    if (slice < 1) slice = 1;
    for (int64_t at = 0; at < count; at += slice) {
        int64_t part = count - at < slice ? count - at : slice;
        ferry_matrix m = {0};
        ferry_status status = ferry_read_rep(&m, c->population->file, c->key, 0, FERRY_FLOAT, rows + at, part);
        for (int64_t i = 0; status == FERRY_OK && i < part; i++)
            for (int64_t k = 0; k < width; k++) out[(at + i) * width + k] = m.f[i * all + column + k];
        ferry_matrix_close(&m);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* Collective. One column a category, or one for one of them. */
static ferry_status labels_of(const columns *c, float *out, const int64_t *rows, int64_t count, int64_t column,
                              int64_t width)
{
    ferry_labels labels = {0};
    ferry_status status = ferry_read_labels(&labels, c->world, c->population->file, c->key, rows, count);
    int64_t first = c->kind == COLUMNS_ONE_LABEL ? c->label : column;
    for (int64_t i = 0; status == FERRY_OK && i < count; i++)
        for (int64_t k = 0; k < width; k++) out[i * width + k] = labels.code[i] == first + k ? 1 : 0;
    ferry_labels_close(&labels);
    return status;
}

/* Collective; see ferry_values. */
static ferry_status read_columns(void *self, float *out, int64_t first, int64_t count, int64_t column, int64_t width)
{
    const columns *c = self;
    if (c->kind == COLUMNS_ONES) return ones(out, count * width);
    FERRY_AUTO int64_t *rows = NULL;
    FERRY_TRY(ferry_population_rows(&rows, c->world, c->population, first, count));
    if (c->kind == COLUMNS_LABELS || c->kind == COLUMNS_ONE_LABEL) return labels_of(c, out, rows, count, column, width);
    return ferry_agree(c->world, c->kind == COLUMNS_NUMBER ? numbers(c, out, rows, count)
                                                           : matrix(c, out, rows, count, column, width));
}

ferry_status columns_open(columns *out, const ferry_world *world, const ferry_population *population, const char *text)
{
    ferry_status status = FERRY_OK;
    *out = (columns){.world = world, .population = population};
    if (!strcmp(text, "ones")) {
        out->kind = COLUMNS_ONES;
        status = ferry_agree(world, add_name(&out->names, "ones"));
    } else if (!strncmp(text, "obs:", 4)) {
        status = open_obs(out, text + 4);
    } else if (!strncmp(text, "obsm:", 5)) {
        status = ferry_agree(world, open_matrix(out, text + 5, false));
    } else if (!strcmp(text, "X") || !strncmp(text, "layers/", 7)) {
        status = ferry_agree(world, open_matrix(out, text, true));
    } else {
        status = ferry_fail(FERRY_E_ARG,
                            "--values is '%s', but has to be ones, obs:COLUMN, obs:COLUMN=VALUE, obsm:KEY, X "
                            "or layers/NAME",
                            text);
    }
    out->values = (ferry_values){out->names.count, read_columns, out};
    return status;
}

void columns_close(columns *c)
{
    free(c->key);
    ferry_names_close(&c->names);
    *c = (columns){0};
}

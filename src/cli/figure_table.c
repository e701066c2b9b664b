/* figure_table.c - tables to draw: a transition table (CSV: a header of target groups, then a source group and its
 * numbers a line), or the confusion matrix of `cellferry map --evaluate` (the same, with the truth's classes as lines
 * and four columns more). */
#include "figure.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- reading CSV (RFC 4180) ---- */

/* One field from *at, unquoted into field; *at moves past its comma. Returns what ended it: ',' '\n' or 0; -1 for a
 * quote that is never closed. */
static int next_field(const char **at, figure_text *field)
{
    const char *c = *at;
    field->length = 0;
    figure_add(field, "%s", "");
    if (*c == '"') {
        for (c++; *c && (*c != '"' || c[1] == '"'); c++) {
            if (*c == '"') c++;
            figure_add(field, "%c", *c);
        }
        if (*c != '"') return -1;
        c++;
    }
    for (; *c && *c != ',' && *c != '\n'; c++)
        if (*c != '\r') figure_add(field, "%c", *c);
    const int end = (unsigned char)*c;
    *at = *c ? c + 1 : c;
    return end;
}

static ferry_status read_header(figure_table *out, const char **at, figure_text *field, const char *path)
{
    int end = next_field(at, field);
    (void)snprintf(out->corner, sizeof out->corner, "%s", field->text ? field->text : "");
    while (end == ',') {
        end = next_field(at, field);
        if (field->failed) return ferry_fail(FERRY_E_MEM, "%s: no memory to read it", path);
        FERRY_TRY(ferry_names_add(&out->columns, field->text, (int64_t)field->length));
    }
    if (end < 0 || out->columns.count == 0)
        return ferry_fail(FERRY_E_FILE,
                          "%s: no table: the first line must name the target groups, as `cellferry "
                          "transition` writes it",
                          path);
    return FERRY_OK;
}

static ferry_status read_line(figure_table *out, const char **at, figure_text *field, int64_t *room, const char *path)
{
    const int64_t columns = out->columns.count, line = out->rows.count + 2;
    int end = next_field(at, field);
    if (field->failed) return ferry_fail(FERRY_E_MEM, "%s: no memory to read it", path);
    if (field->length == 0 && end != ',') return FERRY_OK; /* an empty line */
    FERRY_TRY(ferry_names_add(&out->rows, field->text, (int64_t)field->length));
    const int64_t first = (out->rows.count - 1) * columns;
    if (first + columns > *room) {
        const int64_t wanted = 2 * (first + columns);
        FERRY_TRY(ferry_grow(&out->value, first, wanted));
        *room = wanted;
    }
    for (int64_t j = 0; j < columns; j++) {
        char *rest = NULL;
        if (end != ',')
            return ferry_fail(FERRY_E_FILE, "%s: line %lld has %lld numbers, the header names %lld groups", path,
                              (long long)line, (long long)j, (long long)columns);
        end = next_field(at, field);
        if (field->failed) return ferry_fail(FERRY_E_MEM, "%s: no memory to read it", path);
        out->value[first + j] = strtod(field->text, &rest);
        if (rest == field->text || *rest || !isfinite(out->value[first + j]) || out->value[first + j] < 0)
            return ferry_fail(FERRY_E_FILE, "%s: line %lld: \"%s\" for group %s is not a share or a mass", path,
                              (long long)line, field->text, ferry_name(&out->columns, j));
    }
    if (end == ',')
        return ferry_fail(FERRY_E_FILE, "%s: line %lld has more numbers than the header's %lld groups", path,
                          (long long)line, (long long)columns);
    return FERRY_OK;
}

static ferry_status read_table(figure_table *out, const char *path)
{
    FERRY_AUTO char *text = NULL;
    FERRY_TRY(figure_file_read(&text, path));
    const char *at = text;
    int64_t room = 0;
    figure_text field = {0};
    ferry_status status = read_header(out, &at, &field, path);
    while (status == FERRY_OK && *at) status = read_line(out, &at, &field, &room, path);
    free(field.text);
    FERRY_TRY(status);
    if (out->rows.count == 0) return ferry_fail(FERRY_E_FILE, "%s: the table has no lines below its header", path);
    return FERRY_OK;
}

/* A confusion matrix ends in columns that are no classes: they leave the table, F1 in an average. */
static void know_confusion(figure_table *t)
{
    static const char *const last[] = {"support", "precision", "recall", "f1"};
    const int64_t n = t->rows.count, m = t->columns.count, classes = m - 4;
    if (strcmp(t->corner, "truth") != 0 || classes != n) return;
    for (int64_t k = 0; k < 4; k++)
        if (strcmp(ferry_name(&t->columns, classes + k), last[k]) != 0) return;
    double right = 0;
    for (int64_t i = 0; i < n; i++) {
        t->macro_f1 += t->value[i * m + m - 1] / (double)n;
        for (int64_t j = 0; j < classes; j++) {
            t->value[i * classes + j] = t->value[i * m + j]; /* never behind what is still to be read */
            t->cells += t->value[i * classes + j];
        }
        right += t->value[i * classes + i];
    }
    t->columns.count = classes;
    t->confusion = true;
    t->accuracy = t->cells > 0 ? right / t->cells : 0;
}

ferry_status figure_table_read(figure_table *out, const char *path)
{
    memset(out, 0, sizeof *out);
    const ferry_status status = read_table(out, path);
    if (status == FERRY_OK) know_confusion(out);
    if (status != FERRY_OK) figure_table_close(out);
    return status;
}

void figure_table_close(figure_table *table)
{
    ferry_names_close(&table->rows);
    ferry_names_close(&table->columns);
    free(table->value);
    memset(table, 0, sizeof *table);
}

/* ---- what the numbers are ---- */

/* CSV carries about 9 digits. */

bool figure_table_sums_to_one(const figure_table *t, bool down)
{
    const int64_t n = t->rows.count, m = t->columns.count;
    bool some = false;
    for (int64_t i = 0; i < (down ? m : n); i++) {
        double sum = 0;
        for (int64_t j = 0; j < (down ? n : m); j++) sum += down ? t->value[j * m + i] : t->value[i * m + j];
        if (sum != 0 && fabs(sum - 1) > 1e-5) return false;
        some = some || sum != 0;
    }
    return some;
}

double figure_longest_name(const ferry_names *names, double size, double limit)
{
    double width = 0;
    for (int64_t i = 0; i < names->count; i++) width = fmax(width, figure_text_width(ferry_name(names, i), size));
    return fmin(width, limit);
}

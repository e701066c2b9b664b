/* figure_stages.c - where a run spent its time and its memory, from the run record (JSON on stdout with --json, or the
 * copy inside every result). */
#include "figure.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- just enough JSON: finding members of a well-formed record without building a tree ---- */

static const char *skip_space(const char *c)
{
    while (*c == ' ' || *c == '\n' || *c == '\r' || *c == '\t') c++;
    return c;
}

/* Past the value that begins at c, at most at the closing NUL. */
static const char *skip_value(const char *c)
{
    int depth = 0;
    c = skip_space(c);
    do {
        if (*c == '"') {
            for (c++; *c && *c != '"'; c++)
                if (*c == '\\' && c[1]) c++;
            if (*c) c++;
        } else if (*c == '{' || *c == '[') {
            depth++;
            c++;
        } else if (*c == '}' || *c == ']') {
            depth--;
            c++;
        } else if (depth == 0) {
            while (*c && !strchr(",]} \n\r\t", *c)) c++;
        } else if (*c) {
            c++;
        }
    } while (*c && depth > 0);
    return c;
}

/* The value of a member of the object at c, NULL if it has none. */
static const char *member(const char *c, const char *key)
{
    const size_t length = strlen(key);
    c = skip_space(c);
    if (*c != '{') return NULL;
    for (c = skip_space(c + 1); *c == '"'; c = skip_space(c)) {
        const char *name = c + 1;
        c = skip_space(skip_value(c));
        if (*c != ':') return NULL;
        const char *value = skip_space(c + 1);
        if (strncmp(name, key, length) == 0 && name[length] == '"') return value;
        c = skip_space(skip_value(value));
        if (*c == ',') c++;
    }
    return NULL;
}

static double number(const char *object, const char *key)
{
    const char *value = member(object, key);
    char *end = NULL;
    if (!value) return NAN;
    const double out = strtod(value, &end);
    return end == value ? NAN : out;
}

static const char *text_of(char *out, size_t room, const char *object, const char *key)
{
    const char *value = member(object, key);
    size_t used = 0;
    if (value && *value == '"')
        for (value++; *value && *value != '"' && used + 1 < room; value++) {
            if (*value == '\\' && value[1]) value++;
            out[used++] = *value;
        }
    out[used] = 0;
    return out;
}

/* ---- the picture ---- */

typedef struct bars {
    char name[FERRY_STAGES][64];
    double seconds[FERRY_STAGES], cpu[FERRY_STAGES], peak[FERRY_STAGES];
    int count;
} bars;

static ferry_status read_bars(bars *out, const char *record, const char *path)
{
    const char *stage = member(record, "stages");
    if (!stage || *stage != '[')
        return ferry_fail(FERRY_E_FILE,
                          "%s: no \"stages\" in it: not a run record, as `cellferry COMMAND --json` prints it", path);
    for (stage = skip_space(stage + 1); *stage == '{' && out->count < FERRY_STAGES; stage = skip_space(stage)) {
        const int k = out->count++;
        (void)text_of(out->name[k], sizeof out->name[k], stage, "name");
        out->seconds[k] = number(stage, "seconds");
        out->cpu[k] = number(stage, "cpu_seconds");
        out->peak[k] = number(stage, "peak_pss");
        if (!out->name[k][0] || !isfinite(out->seconds[k]) || !isfinite(out->peak[k]))
            return ferry_fail(FERRY_E_FILE, "%s: stage %d of its record lacks name, seconds or peak_pss", path, k + 1);
        stage = skip_space(skip_value(stage));
        if (*stage == ',') stage++;
    }
    return out->count ? FERRY_OK : ferry_fail(FERRY_E_FILE, "%s: its run record has no stages", path);
}

/* Bars of one quantity from x0 to x1, the largest filling the width less room for its number. */
static void panel(figure *out, const bars *b, const double *value, double x0, double x1, double top, double row,
                  const char *heading, const char *colour, bool time)
{
    double largest = 0;
    char text[64];
    for (int k = 0; k < b->count; k++) largest = fmax(largest, value[k]);
    figure_label(out, x0, top + 16, 'l', 12, 0, FIGURE_INK, heading);
    for (int k = 0; k < b->count; k++) {
        const double middle = top - (k + 0.5) * row;
        const double length = largest > 0 ? (x1 - x0 - 78) * value[k] / largest : 0;
        figure_rect(out, x0, middle - 8, x0 + fmax(length, 1), middle + 8, colour);
        if (time)
            (void)snprintf(text, sizeof text, value[k] < 0.0995 ? "%.1f ms" : "%.2f s",
                           value[k] < 0.0995 ? 1e3 * value[k] : value[k]);
        else
            (void)ferry_size_text(text, value[k]);
        figure_label(out, x0 + fmax(length, 1) + 6, middle, 'l', 11, 0, FIGURE_INK, text);
    }
}

static void draw(figure *out, const bars *b, const char *record, const char *path, const char *title)
{
    char text[256], command[64];
    const double ranks = number(record, "ranks"), threads = number(record, "threads");
    double names = 0, total = 0;
    for (int k = 0; k < b->count; k++) {
        names = fmax(names, figure_text_width(b->name[k], 12));
        total += b->seconds[k];
    }
    const double row = 28, left = 24 + names + 10, width = 330, gap = 40, bottom = 20, top = bottom + row * b->count;
    figure_canvas(out, left + 2 * width + gap + 24, top + 84);
    figure_margins(out, left, bottom, out->width - 24, top);
    (void)snprintf(text, sizeof text, "%s", title ? title : figure_base_name(path));
    figure_label(out, 24, top + 64, 'l', 14, 0, FIGURE_INK, text);
    (void)text_of(command, sizeof command, record, "command");
    (void)snprintf(text, sizeof text, "cellferry %s: %.3g s on %.0f rank%s of %.0f thread%s", command, total, ranks,
                   ranks == 1 ? "" : "s", threads, threads == 1 ? "" : "s");
    figure_label(out, 24, top + 42, 'l', 11, 0, FIGURE_GREY, text);
    figure_add(&out->data, "# stage\tseconds\tcpu_seconds\tpeak_bytes\n");
    for (int k = 0; k < b->count; k++) {
        figure_label(out, left - 8, top - (k + 0.5) * row, 'r', 12, 0, FIGURE_INK, b->name[k]);
        figure_add(&out->data, "\"%s\"\t%.9g\t%.9g\t%.0f\n", b->name[k], b->seconds[k], b->cpu[k], b->peak[k]);
    }
    panel(out, b, b->seconds, left, left + width, top, row, "time (slowest rank)", "#4292c6", true);
    panel(out, b, b->peak, left + width + gap, left + 2 * width + gap, top, row, "peak memory (largest rank)",
          "#74a57f", false);
    /* Everything is drawn by objects; an empty plot makes gnuplot show them. */
    figure_add(&out->script, "unset tics\nunset border\nset xrange [0:1]\nset yrange [0:1]\nplot NaN\n");
}

static ferry_status record_of(char **out, const char *path)
{
    char head[8] = {0};
    FILE *file = fopen(path, "rb");
    if (file) {
        if (fread(head, 1, sizeof head, file) < sizeof head) head[0] = 0;
        (void)fclose(file);
    }
    if (memcmp(head, "\211HDF\r\n\032\n", 8) != 0) return figure_file_read(out, path);
    ferry_stored *stored = NULL;
    FERRY_TRY(ferry_stored_open(&stored, path));
    const ferry_status status = ferry_stored_text(out, stored, "uns/cellferry/record");
    ferry_stored_close(&stored);
    return status;
}

ferry_status figure_stages(figure *out, const char *path, const char *title)
{
    FERRY_AUTO char *record = NULL;
    bars b = {0};
    FERRY_TRY(record_of(&record, path));
    FERRY_TRY(read_bars(&b, record, path));
    draw(out, &b, record, path, title);
    return FERRY_OK;
}

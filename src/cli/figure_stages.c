/* figure_stages.c - where a run spent its time and its memory, from the run record (JSON on stdout with --json, or the
 * copy inside every result). */
#include "figure_json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct bars {
    char name[FERRY_STAGES][64];
    double seconds[FERRY_STAGES], cpu[FERRY_STAGES], peak[FERRY_STAGES];
    int count;
} bars;

static ferry_status read_bars(bars *out, const char *record, const char *path)
{
    const char *stage = figure_json_member(record, "stages");
    if (!stage || *stage != '[')
        return ferry_fail(FERRY_E_FILE,
                          "%s: no \"stages\" in it: not a run record, as `cellferry COMMAND --json` prints it", path);
    for (stage = figure_json_space(stage + 1); *stage == '{' && out->count < FERRY_STAGES;
         stage = figure_json_space(stage)) {
        const int k = out->count++;
        (void)figure_json_text(out->name[k], sizeof out->name[k], stage, "name");
        out->seconds[k] = figure_json_number(stage, "seconds");
        out->cpu[k] = figure_json_number(stage, "cpu_seconds");
        out->peak[k] = figure_json_number(stage, "peak_pss");
        if (!out->name[k][0] || !isfinite(out->seconds[k]) || !isfinite(out->peak[k]))
            return ferry_fail(FERRY_E_FILE, "%s: stage %d of its record lacks name, seconds or peak_pss", path, k + 1);
        stage = figure_json_space(figure_json_past(stage));
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
    const double ranks = figure_json_number(record, "ranks"), threads = figure_json_number(record, "threads");
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
    (void)figure_json_text(command, sizeof command, record, "command");
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

ferry_status figure_stages(figure *out, const char *path, const char *title)
{
    FERRY_AUTO char *record = NULL;
    bars b = {0};
    FERRY_TRY(figure_json_record(&record, path));
    FERRY_TRY(read_bars(&b, record, path));
    draw(out, &b, record, path, title);
    return FERRY_OK;
}

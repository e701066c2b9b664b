/* figure_scaling.c - time of a pass over the number of ranks, strong and weak, with the ideal and the model; and the
 * efficiency. From the run record of `cellferry bench scaling`. */
#include "figure_json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MOST 64

typedef struct curve {
    double ranks[MOST], seconds[MOST], model[MOST], efficiency[MOST];
    double cells;
    int count;
} curve;

static ferry_status read_curves(curve curves[2], const char *record, const char *path)
{
    const char *figures = figure_json_member(record, "figures");
    const char *row = figures ? figure_json_member(figures, "scaling") : NULL;
    if (!row || *row != '[')
        return ferry_fail(FERRY_E_FILE, "%s: no \"scaling\" in it: not the run record of `cellferry bench scaling`",
                          path);
    for (row = figure_json_space(row + 1); *row == '{'; row = figure_json_space(row)) {
        char kind[16];
        curve *c = &curves[strcmp(figure_json_text(kind, sizeof kind, row, "kind"), "weak") == 0];
        if (c->count == MOST) break;
        const int k = c->count++;
        c->ranks[k] = figure_json_number(row, "ranks");
        c->seconds[k] = figure_json_number(row, "seconds");
        c->model[k] = figure_json_number(row, "model_seconds");
        c->efficiency[k] = figure_json_number(row, "efficiency");
        if (k == 0) c->cells = figure_json_number(row, "cells");
        if (!(c->ranks[k] > 0) || !(c->seconds[k] > 0))
            return ferry_fail(FERRY_E_FILE, "%s: row %d of its scaling lacks ranks or seconds", path, k + 1);
        row = figure_json_space(figure_json_past(row));
        if (*row == ',') row++;
    }
    return curves[0].count + curves[1].count ? FERRY_OK : ferry_fail(FERRY_E_FILE, "%s: its scaling has no rows", path);
}

static const char *const names[2] = {"strong", "weak"}, *const colours[2] = {"#2171b5", "#d9822b"};

/* One block of the data file per curve: ranks, seconds, model, ideal, efficiency in percent. */
static void write_data(figure *out, const curve curves[2])
{
    for (int w = 0; w < 2; w++) {
        const curve *c = &curves[w];
        if (!c->count) continue;
        figure_add(&out->data, "# %s: ranks\tseconds\tmodel\tideal\tefficiency\n", names[w]);
        for (int k = 0; k < c->count; k++)
            figure_add(&out->data, "%.0f\t%.9g\t%.9g\t%.9g\t%.6g\n", c->ranks[k], c->seconds[k], c->model[k],
                       w ? c->seconds[0] : c->seconds[0] * c->ranks[0] / c->ranks[k], 100 * c->efficiency[k]);
        figure_add(&out->data, "\n\n");
    }
}

/* `plot` with every curve: column, style of line. */
static void plot_curve(figure *out, bool *first, int block, int column, const char *style, const char *colour)
{
    figure_text *s = &out->script;
    figure_add(s, *first ? "plot " : ", \\\n  ");
    figure_quote(s, out->data_name);
    figure_add(s, " index %d using 1:%d with %s linecolor rgb '%s'", block, column, style, colour);
    *first = false;
}

static void axes(figure *out, const curve curves[2], double left, double right)
{
    double low = INFINITY, high = 0;
    for (int w = 0; w < 2; w++)
        for (int k = 0; k < curves[w].count; k++) {
            low = fmin(low, curves[w].ranks[k]);
            high = fmax(high, curves[w].ranks[k]);
        }
    figure_margins(out, left, 66, right, 380);
    figure_add(&out->script, "set xrange [%.6g:%.6g]\nset logscale x 2\nset xtics (", low / 1.15, high * 1.15);
    bool first = true;
    for (int w = 0; w < 2; w++)
        for (int k = 0; k < curves[w].count; k++) {
            bool seen = false;
            for (int j = 0; w && j < curves[0].count; j++) seen |= curves[0].ranks[j] == curves[1].ranks[k];
            if (!seen) figure_add(&out->script, first ? "%.0f" : ", %.0f", curves[w].ranks[k]);
            first &= seen;
        }
    figure_add(&out->script, ") nomirror out\n");
}

static void draw_times(figure *out, const curve curves[2])
{
    double low = INFINITY, high = 0;
    for (int w = 0; w < 2; w++)
        for (int k = 0; k < curves[w].count; k++) {
            const double ideal =
                w ? curves[w].seconds[0] : curves[w].seconds[0] * curves[w].ranks[0] / curves[w].ranks[k];
            low = fmin(low, fmin(ideal, curves[w].seconds[k]));
            high = fmax(high, fmax(ideal, curves[w].seconds[k]));
        }
    axes(out, curves, 92, 400);
    figure_add(&out->script, "set logscale y 10\nset yrange [%.6g:%.6g]\nset ytics (", low / 1.4, high * 1.4);
    bool none = true;
    for (int power = (int)floor(log10(low / 1.4)); power <= (int)ceil(log10(high)); power++)
        for (int digit = 1; digit <= 5; digit += digit == 1 ? 1 : 3) {
            const double tic = digit * pow(10, power);
            if (tic < low / 1.4 || tic > high * 1.4) continue;
            figure_add(&out->script, none ? "'%g' %g" : ", '%g' %g", tic, tic);
            none = false;
        }
    figure_add(&out->script, ") nomirror out\n");
    bool first = true;
    for (int w = 0, block = 0; w < 2; w++) {
        if (!curves[w].count) continue;
        plot_curve(out, &first, block, 4, "lines dashtype 2 linewidth 1.2", FIGURE_GREY);
        plot_curve(out, &first, block, 3, "lines dashtype 3 linewidth 1.5", colours[w]);
        plot_curve(out, &first, block++, 2, "linespoints linewidth 2 pointtype 7 pointsize 0.6", colours[w]);
    }
    figure_add(&out->script, "\n");
}

static void draw_efficiency(figure *out, const curve curves[2])
{
    double high = 105;
    for (int w = 0; w < 2; w++)
        for (int k = 0; k < curves[w].count; k++) high = fmax(high, 104 * curves[w].efficiency[k]);
    axes(out, curves, 492, 790);
    figure_add(&out->script, "unset logscale y\nset yrange [0:%.6g]\nset ytics auto nomirror out\n", high);
    figure_add(&out->script,
               "set arrow from graph 0, first 100 to graph 1, first 100 nohead dashtype 2 linewidth 1.2 linecolor rgb "
               "'%s'\n",
               FIGURE_GREY);
    bool first = true;
    for (int w = 0, block = 0; w < 2; w++)
        if (curves[w].count)
            plot_curve(out, &first, block++, 5, "linespoints linewidth 2 pointtype 7 pointsize 0.6", colours[w]);
    figure_add(&out->script, "\n");
}

static void draw(figure *out, const curve curves[2], const char *record, const char *path, const char *title)
{
    char text[256];
    double y = 410;
    figure_canvas(out, 820, 460);
    figure_label(out, 24, 436, 'l', 14, 0, FIGURE_INK, title ? title : figure_base_name(path));
    write_data(out, curves);
    for (int w = 0, x = 92; w < 2; w++) {
        if (!curves[w].count) continue;
        (void)snprintf(text, sizeof text, "%s: %.0f cells a side%s", names[w], curves[w].cells,
                       w ? " on the fewest ranks, as many pairs a rank on all" : "");
        figure_dot(out, x, y, 4, colours[w]);
        figure_label(out, x + 10, y, 'l', 11, 0, FIGURE_INK, text);
        x += 30 + (int)figure_text_width(text, 11);
    }
    figure_label(out, 246, 18, 'c', 12, 0, FIGURE_INK, "ranks");
    figure_label(out, 641, 18, 'c', 12, 0, FIGURE_INK, "ranks");
    figure_label(out, 22, 223, 'c', 12, 90, FIGURE_INK, "seconds a pass");
    figure_label(out, 440, 223, 'c', 12, 90, FIGURE_INK, "efficiency (%)");
    figure_label(out, 92, 390, 'l', 11, 0, FIGURE_GREY, "dashed: ideal, dotted: model");
    const char *figures = figure_json_member(record, "figures");
    const char *shared = figures ? figure_json_member(figures, "shared_cores") : NULL;
    if (shared && *shared == 't')
        figure_label(out, 790, 390, 'r', 11, 0, "#c0392b", "ranks shared cores: times say little");
    figure_add(&out->script, "set border 3 linecolor rgb '%s'\nset grid ytics linecolor rgb '#e4e4e4' linewidth 1\n",
               FIGURE_INK);
    figure_add(&out->script, "set multiplot\n");
    draw_times(out, curves);
    figure_add(&out->script, "unset label\nunset object\n");
    draw_efficiency(out, curves);
    figure_add(&out->script, "unset multiplot\n");
}

ferry_status figure_scaling_text(figure *out, const char *record, const char *path, const char *title)
{
    curve curves[2] = {0};
    FERRY_TRY(read_curves(curves, record, path));
    draw(out, curves, record, path, title);
    return FERRY_OK;
}

ferry_status figure_scaling(figure *out, const char *path, const char *title)
{
    FERRY_AUTO char *record = NULL;
    FERRY_TRY(figure_json_record(&record, path));
    return figure_scaling_text(out, record, path, title);
}

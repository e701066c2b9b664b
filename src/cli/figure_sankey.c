/* figure_sankey.c - a table as a Sankey diagram: what flows from each row's group to each column's. */
#include "figure.h"
#include <math.h>
#include <stdio.h>

/* One colour a source group (Tableau's twenty, the strong ones first). */
static const char *const COLOURS[] = {"#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948",
                                      "#9c755f", "#ff9da7", "#79706e", "#a0cbe8", "#ffbe7d", "#8cd17d", "#86bcb6",
                                      "#f1ce63", "#d37295", "#fabfd2", "#d4a6c8", "#b6992d", "#499894"};
enum { COLOUR_COUNT = sizeof COLOURS / sizeof COLOURS[0], BEND = 32 };
#define NODE_WIDTH   14.0
#define RIBBON_SPACE 420.0 /* pixels that the whole mass is high */
#define RIBBON_WIDTH 420.0
#define LINE         19.0  /* between groups: as high as a name, so names never meet */
#define HIDDEN       0.001 /* flows below this share of the mass are thinner than half a pixel */

typedef struct side {
    double *mass, *top, *used; /* [count] */
    double height;             /* of the whole side with its gaps */
} side;

static ferry_status side_open(side *out, const figure_table *t, bool target)
{
    const int64_t n = t->rows.count, m = t->columns.count, count = target ? m : n;
    *out = (side){0};
    FERRY_TRY(ferry_alloc(&out->mass, count));
    FERRY_TRY(ferry_alloc(&out->top, count));
    FERRY_TRY(ferry_alloc(&out->used, count));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) out->mass[target ? j : i] += t->value[i * m + j];
    out->height = RIBBON_SPACE + LINE * (double)(count - 1);
    return FERRY_OK;
}

static void side_close(side *s)
{
    free(s->mass);
    free(s->top);
    free(s->used);
}

static void side_place(side *s, int64_t count, double top, double total)
{
    for (int64_t i = 0; i < count; i++) {
        s->top[i] = top;
        top -= RIBBON_SPACE * s->mass[i] / total + LINE;
    }
}

/* Bars and names of one side. */
static void side_draw(figure *out, const side *s, const ferry_names *names, double x, bool target, double total)
{
    char text[256], share[300];
    for (int64_t i = 0; i < names->count; i++) {
        const double height = RIBBON_SPACE * s->mass[i] / total, middle = s->top[i] - height / 2;
        const char *colour = target ? "#9a9a9a" : COLOURS[i % COLOUR_COUNT];
        figure_rect(out, x, s->top[i] - fmax(height, 0.8), x + NODE_WIDTH, s->top[i], colour);
        (void)snprintf(share, sizeof share, "%s  %.1f%%", figure_fit(text, ferry_name(names, i), 12, 260),
                       100 * s->mass[i] / total);
        figure_label(out, target ? x + NODE_WIDTH + 7 : x - 7, middle, target ? 'l' : 'r', 12, 0, FIGURE_INK, share);
    }
}

/* The band of one flow: x, lower and upper edge, along a smooth step from left to right. */
static void ribbon(figure_text *data, double x0, double x1, double left_top, double right_top, double height)
{
    for (int k = 0; k <= BEND; k++) {
        const double u = (double)k / BEND, step = u * u * (3 - 2 * u);
        const double top = left_top + (right_top - left_top) * step;
        figure_add(data, "%.2f\t%.2f\t%.2f\n", x0 + (x1 - x0) * u, top - height, top);
    }
    figure_add(data, "\n\n");
}

typedef struct flows {
    double x0, x1, total, hidden;
    int64_t drawn;
} flows;

static void draw_flows(figure *out, flows *f, const figure_table *t, side *source, side *target)
{
    const int64_t n = t->rows.count, m = t->columns.count;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) {
            const double mass = t->value[i * m + j], height = RIBBON_SPACE * mass / f->total;
            if (mass > 0 && mass >= HIDDEN * f->total) {
                char from[256], to[256];
                figure_add(&out->data, "# %s -> %s: %.9g\n", figure_fit(from, ferry_name(&t->rows, i), 1, 1000),
                           figure_fit(to, ferry_name(&t->columns, j), 1, 1000), mass);
                ribbon(&out->data, f->x0, f->x1, source->top[i] - source->used[i], target->top[j] - target->used[j],
                       height);
                figure_add(&out->script, f->drawn == 0 ? "plot " : ", \\\n  ");
                figure_quote(&out->script, out->data_name);
                figure_add(
                    &out->script,
                    " index %lld using 1:2:3 with filledcurves fillcolor rgb '%s' fillstyle transparent solid 0.45 "
                    "noborder",
                    (long long)f->drawn, COLOURS[i % COLOUR_COUNT]);
                f->drawn++;
            } else {
                f->hidden += mass;
            }
            source->used[i] += height;
            target->used[j] += height;
        }
    figure_add(&out->script, "\n");
}

static ferry_status sankey(figure *out, const figure_table *t, side *source, side *target, const char *title)
{
    const int64_t n = t->rows.count, m = t->columns.count;
    flows f = {0};
    for (int64_t i = 0; i < n; i++) f.total += source->mass[i];
    if (f.total <= 0) return ferry_fail(FERRY_E_FILE, "the table has no mass to draw: all its numbers are 0");
    const double names = figure_longest_name(&t->rows, 12, 260) + 62,
                 other = figure_longest_name(&t->columns, 12, 260) + 62;
    const double high = fmax(source->height, target->height), bottom = 52;
    f.x0 = 24 + names + NODE_WIDTH;
    f.x1 = f.x0 + RIBBON_WIDTH;
    side_place(source, n, bottom + (high + source->height) / 2, f.total);
    side_place(target, m, bottom + (high + target->height) / 2, f.total);
    figure_canvas(out, f.x1 + NODE_WIDTH + other + 24, bottom + high + 70);
    figure_margins(out, 0, 0, out->width, out->height);
    figure_label(out, out->width / 2, out->height - 24, 'c', 14, 0, FIGURE_INK, title);
    if (figure_table_sums_to_one(t, false))
        figure_label(out, out->width / 2, out->height - 42, 'c', 11, 0, FIGURE_GREY,
                     "every source group counts alike: the table's rows sum to 1");
    figure_label(out, f.x0, bottom + high + 20, 'r', 11, 0, FIGURE_GREY, t->confusion ? "truth" : "source");
    figure_label(out, f.x1, bottom + high + 20, 'l', 11, 0, FIGURE_GREY, t->confusion ? "prediction" : "target");
    side_draw(out, source, &t->rows, f.x0 - NODE_WIDTH, false, f.total);
    side_draw(out, target, &t->columns, f.x1, true, f.total);
    figure_text plots = out->script; /* the plot command comes last: after the footnote, which needs the flows */
    out->script = (figure_text){0};
    draw_flows(out, &f, t, source, target);
    figure_text drawn = out->script;
    out->script = plots;
    if (f.hidden > 0) {
        char note[96];
        (void)snprintf(note, sizeof note, "flows below %.1f%% of the mass, %.2g%% in all, are not drawn", 100 * HIDDEN,
                       100 * f.hidden / f.total);
        figure_label(out, out->width / 2, 20, 'c', 11, 0, FIGURE_GREY, note);
    }
    figure_add(&out->script, "unset tics\nunset border\nset xrange [0:%.2f]\nset yrange [0:%.2f]\n%s", out->width,
               out->height, drawn.text ? drawn.text : "");
    if (drawn.failed) out->script.failed = true;
    free(drawn.text);
    return f.drawn > 0 ? FERRY_OK
                       : ferry_fail(FERRY_E_FILE,
                                    "every flow of the table is below %.1f%% of its mass: draw a heatmap, or "
                                    "fewer groups",
                                    100 * HIDDEN);
}

ferry_status figure_sankey(figure *out, const char *csv_path, const char *title)
{
    figure_table t;
    side source = {0}, target = {0};
    FERRY_TRY(figure_table_read(&t, csv_path));
    ferry_status status = side_open(&source, &t, false);
    if (status == FERRY_OK) status = side_open(&target, &t, true);
    if (status == FERRY_OK) status = sankey(out, &t, &source, &target, title ? title : figure_base_name(csv_path));
    side_close(&source);
    side_close(&target);
    figure_table_close(&t);
    return status;
}

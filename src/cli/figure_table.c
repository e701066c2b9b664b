/* figure_table.c - a transition table (CSV: a header of target groups, then a source group and its numbers a line) as a
 * heatmap or as a Sankey diagram. */
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

ferry_status figure_table_read(figure_table *out, const char *path)
{
    memset(out, 0, sizeof *out);
    const ferry_status status = read_table(out, path);
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

/* Is every line (or, across, every column) of the table 1 or 0 in sum? CSV carries about 9 digits. */
static bool sums_to_one(const figure_table *t, bool down)
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

static const char *meaning(const figure_table *t)
{
    if (sums_to_one(t, false)) return "rows: source, columns: target; each row sums to 1";
    if (sums_to_one(t, true)) return "rows: source, columns: target; each column sums to 1";
    return "rows: source, columns: target; mass";
}

static double longest(const ferry_names *names, double size, double limit)
{
    double width = 0;
    for (int64_t i = 0; i < names->count; i++) width = fmax(width, figure_text_width(ferry_name(names, i), size));
    return fmin(width, limit);
}

/* ---- heatmap ---- */

/* Light to dark, each step as far from the last as the eye sees it (ColorBrewer's Blues, darkened at the end). */
static const char *const SHADES = "0 '#f7fbff', 1 '#deebf7', 2 '#c6dbef', 3 '#9ecae1', 4 '#6baed6', 5 '#4292c6', 6 "
                                  "'#2171b5', 7 '#08519c', 8 '#08306b'";

typedef struct heat {
    double cell_width, cell_height, left, bottom, right, top, size, largest;
    bool numbers;
} heat;

static void number_text(char text[32], double value, double largest)
{
    if (value == 0)
        (void)snprintf(text, 32, "0");
    else if (largest >= 0.1 && largest < 1000)
        (void)snprintf(text, 32, "%.2f", value);
    else if (largest >= 0.001 && largest < 0.1)
        (void)snprintf(text, 32, "%.4f", value);
    else
        (void)snprintf(text, 32, "%.1e", value);
}

static heat layout(const figure_table *t)
{
    const double n = (double)t->rows.count, m = (double)t->columns.count;
    heat h = {0};
    for (int64_t i = 0; i < t->rows.count * t->columns.count; i++) h.largest = fmax(h.largest, t->value[i]);
    const bool wide = h.largest > 0 && (h.largest < 0.1 || h.largest >= 1000);
    h.cell_width = fmin(wide ? 62 : 50, fmax(12, 1300 / m));
    h.cell_height = fmin(30, fmax(12, 1300 / n));
    h.numbers = h.cell_width >= (wide ? 58 : 34) && h.cell_height >= 16;
    h.size = fmin(12, 0.9 * fmin(h.cell_height, h.cell_width));
    const double row_names = longest(&t->rows, h.size, 260), column_names = longest(&t->columns, h.size, 260);
    /* Names of columns run down to the left at 45 degrees: the first one needs room at the left too. */
    h.left = 24 + fmax(row_names + 10, 0.71 * column_names - h.cell_width / 2);
    h.bottom = fmax(24 + 0.71 * column_names + 14, 116 - n * h.cell_height); /* the scale of colours is 90 high */
    h.right = h.left + m * h.cell_width;
    h.top = h.bottom + n * h.cell_height;
    return h;
}

/* The scale of colours: a bar of its own at the right, so that its place never depends on the terminal. */
static void colour_bar(figure *out, const heat *h)
{
    const double x = h->right + 22, height = fmin(220, fmax(90, h->top - h->bottom)), y0 = h->top - height;
    static const char *const shade[] = {"#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6",
                                        "#4292c6", "#2171b5", "#08519c", "#08306b"};
    for (int i = 0; i < 64; i++) { /* the palette in 64 steps */
        const double at = (i + 0.5) / 64 * 8;
        const int low = (int)at;
        unsigned from = 0, to = 0;
        (void)sscanf(shade[low] + 1, "%x", &from);
        (void)sscanf(shade[low < 8 ? low + 1 : 8] + 1, "%x", &to);
        char colour[16];
        unsigned mixed = 0;
        for (int byte = 16; byte >= 0; byte -= 8) {
            const double a = (from >> byte) & 255, b = (to >> byte) & 255;
            mixed = mixed << 8 | (unsigned)lround(a + (b - a) * (at - low));
        }
        (void)snprintf(colour, sizeof colour, "#%06x", mixed);
        figure_rect(out, x, y0 + height * i / 64, x + 14, y0 + height * (i + 1) / 64 + (i < 63 ? 0.6 : 0), colour);
    }
    for (int i = 0; i <= 2; i++) {
        char text[32];
        number_text(text, h->largest * i / 2, h->largest);
        figure_label(out, x + 20, y0 + height * i / 2, 'l', 11, 0, FIGURE_INK, text);
    }
}

static void heat_names(figure *out, const figure_table *t, const heat *h)
{
    char text[256];
    for (int64_t i = 0; i < t->rows.count; i++)
        figure_label(out, h->left - 8, h->top - ((double)i + 0.5) * h->cell_height, 'r', h->size, 0, FIGURE_INK,
                     figure_fit(text, ferry_name(&t->rows, i), h->size, 260));
    for (int64_t j = 0; j < t->columns.count; j++)
        figure_label(out, h->left + ((double)j + 0.5) * h->cell_width + 3, h->bottom - 10, 'r', h->size, 45, FIGURE_INK,
                     figure_fit(text, ferry_name(&t->columns, j), h->size, 260));
}

static void heat_cells(figure *out, const figure_table *t, const heat *h)
{
    const int64_t n = t->rows.count, m = t->columns.count;
    figure_add(&out->data, "# column\trow\tvalue\n");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) {
            const double value = t->value[i * m + j];
            figure_add(&out->data, "%lld\t%lld\t%.9g\n", (long long)j, (long long)i, value);
            if (!h->numbers) continue;
            char text[32];
            number_text(text, value, h->largest);
            figure_label(out, h->left + ((double)j + 0.5) * h->cell_width, h->top - ((double)i + 0.5) * h->cell_height,
                         'c', 10, 0,
                         value > 0.55 * h->largest   ? "#ffffff"
                         : value < 0.02 * h->largest ? "#9aa5b1"
                                                     : FIGURE_INK,
                         text);
        }
}

ferry_status figure_heatmap(figure *out, const char *csv_path, const char *title)
{
    figure_table t;
    FERRY_TRY(figure_table_read(&t, csv_path));
    const heat h = layout(&t);
    const char *shown = title ? title : figure_base_name(csv_path);
    const double text = fmax(figure_text_width(shown, 14), figure_text_width(meaning(&t), 11) + 10);
    figure_canvas(out, fmax(h.right + 100, h.left + text + 20), h.top + 62);
    figure_label(out, h.left, h.top + 40, 'l', 14, 0, FIGURE_INK, shown);
    figure_label(out, h.left, h.top + 18, 'l', 11, 0, FIGURE_GREY, meaning(&t));
    figure_margins(out, h.left, h.bottom, h.right, h.top);
    heat_names(out, &t, &h);
    heat_cells(out, &t, &h);
    colour_bar(out, &h);
    figure_text *s = &out->script;
    figure_add(s, "unset tics\nunset colorbox\nset border 15 linecolor rgb '%s' linewidth 0.5\n", FIGURE_GREY);
    figure_add(s, "set palette defined (%s)\nset cbrange [0:%.9g]\n", SHADES, h.largest > 0 ? h.largest : 1);
    figure_add(s, "set xrange [-0.5:%lld.5]\nset yrange [%lld.5:-0.5]\nplot ", (long long)t.columns.count - 1,
               (long long)t.rows.count - 1);
    figure_quote(s, out->data_name);
    figure_add(s, " using 1:2:(0.5):(0.5):3 with boxxyerror fillstyle solid 1 noborder linecolor palette\n");
    figure_table_close(&t);
    return FERRY_OK;
}

/* ---- Sankey ---- */

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
    const double names = longest(&t->rows, 12, 260) + 62, other = longest(&t->columns, 12, 260) + 62;
    const double high = fmax(source->height, target->height), bottom = 52;
    f.x0 = 24 + names + NODE_WIDTH;
    f.x1 = f.x0 + RIBBON_WIDTH;
    side_place(source, n, bottom + (high + source->height) / 2, f.total);
    side_place(target, m, bottom + (high + target->height) / 2, f.total);
    figure_canvas(out, f.x1 + NODE_WIDTH + other + 24, bottom + high + 70);
    figure_margins(out, 0, 0, out->width, out->height);
    figure_label(out, out->width / 2, out->height - 24, 'c', 14, 0, FIGURE_INK, title);
    if (sums_to_one(t, false))
        figure_label(out, out->width / 2, out->height - 42, 'c', 11, 0, FIGURE_GREY,
                     "every source group counts alike: the table's rows sum to 1");
    figure_label(out, f.x0, bottom + high + 20, 'r', 11, 0, FIGURE_GREY, "source");
    figure_label(out, f.x1, bottom + high + 20, 'l', 11, 0, FIGURE_GREY, "target");
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

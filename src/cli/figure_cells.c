/* figure_cells.c - the picture of figure_cells.h: panels of points with a legend or a scale beside each. Points are
 * drawn in random order, so that no category hides the others by coming last; cells without a value lie beneath. The
 * script holds each panel's colours in a list that the numbers beside it point into. */
#include "figure_cells.h"
#include "figure_colour.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SHADES = 64, LISTED = 64 }; /* steps of a scale; at most that many colours, of categories too */
#define SIDE      470.0            /* pixels of a panel's longer side */
#define NAME_SIZE 12.0
#define NAME_ROOM 320.0 /* pixels of a name in the legend */
#define COVER     0.12  /* share of a panel that points would cover if none lay on another */

/* How a panel shows its column. */
typedef struct panel_look {
    int listed; /* colours before those of other and missing cells */
    char colour[LISTED][8];
    int32_t *shown;                                          /* [categories] place in the list, -1: other */
    int64_t category[FIGURE_COLOURS], cells[FIGURE_COLOURS]; /* of each place */
    int64_t others, other_cells, missing, known;             /* categories that are not listed, and cells */
    double low, high;                                        /* ends of the scale */
    bool below, above;                                       /* are there values beyond them? */
    double legend;                                           /* pixels at the right of the panel */
} panel_look;

typedef struct drawing {
    const figure_cells *cells;
    int64_t *order, count; /* cells with a place, as they are drawn */
    double x0, x1, y0, y1; /* of the embedding, with some room */
    double scale, width, height;
    bool flipped; /* y down, as the pixels of an image */
    panel_look look[CELLS_PANELS];
} drawing;

static const char *thousands(char text[32], int64_t value)
{
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)(value < 0 ? -value : value));
    int used = 0;
    if (value < 0) text[used++] = '-';
    for (int i = 0; i < length && used < 30; i++) {
        if (i && (length - i) % 3 == 0) text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = 0;
    return text;
}

static const char *value_text(char text[32], double value)
{
    if (fabs(value) >= 1e4 && fabs(value) < 1e7) return thousands(text, (int64_t)llround(value));
    (void)snprintf(text, 32, "%.4g", value);
    return text;
}

/* ---- categories ---- */

typedef struct tally {
    int64_t cells, category;
} tally;

static int by_cells(const void *a, const void *b)
{
    const tally *x = a, *y = b;
    if (x->cells != y->cells) return x->cells < y->cells ? 1 : -1;
    return (x->category > y->category) - (x->category < y->category);
}

static bool is_colour(const char *text)
{
    return text[0] == '#' && strlen(text) >= 7 && strspn(text + 1, "0123456789abcdefABCDEF") == strlen(text + 1);
}

/* The file's own, or the palette: by category while it has one for each, else by frequency. */
static const char *colour_of(const cells_panel *panel, int64_t category, int64_t place)
{
    if (panel->stored.count > category && is_colour(ferry_name(&panel->stored, category)))
        return ferry_name(&panel->stored, category);
    return figure_category_colour(panel->labels.categories.count <= FIGURE_FEW ? category : place);
}

static ferry_status look_at_labels(panel_look *look, const drawing *d, const cells_panel *panel)
{
    const int64_t categories = panel->labels.categories.count;
    FERRY_AUTO tally *count = NULL;
    FERRY_TRY(ferry_alloc(&count, categories));
    FERRY_TRY(ferry_alloc(&look->shown, categories));
    for (int64_t c = 0; c < categories; c++) count[c].category = c;
    for (int64_t i = 0; i < d->count; i++) {
        const int32_t code = panel->labels.code[d->order[i]];
        if (code < 0)
            look->missing++;
        else
            count[code].cells++;
    }
    qsort(count, (size_t)categories, sizeof *count, by_cells);
    for (int64_t k = 0; k < categories; k++) {
        const int64_t c = count[k].category;
        look->shown[c] = -1;
        if (count[k].cells == 0) continue;
        if (look->listed == FIGURE_COLOURS) {
            look->others++;
            look->other_cells += count[k].cells;
            continue;
        }
        (void)snprintf(look->colour[look->listed], 8, "%.7s", colour_of(panel, c, k));
        look->category[look->listed] = c;
        look->cells[look->listed] = count[k].cells;
        look->shown[c] = look->listed++;
    }
    return FERRY_OK;
}

/* ---- numbers ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The scale: 0 to 1 for a confidence; else from the least to the largest value, or, when a few values alone would take
 * most of it, from the 1st to the 99th of a hundred. */
static void choose_scale(panel_look *look, const char *column, const double *sorted, int64_t n)
{
    const size_t length = strlen(column);
    look->low = n ? sorted[0] : 0;
    look->high = n ? sorted[n - 1] : 1;
    const double low = n ? sorted[n / 100] : 0, high = n ? sorted[n - 1 - n / 100] : 1;
    if (length > 5 && strcmp(column + length - 5, "_conf") == 0 && look->low >= 0 && look->high <= 1) {
        look->low = 0;
        look->high = 1;
    } else if (high > low && look->high - look->low > 2 * (high - low)) {
        look->below = low > look->low;
        look->above = high < look->high;
        look->low = low;
        look->high = high;
    }
    if (!(look->high > look->low)) look->high = look->low + 1;
}

static ferry_status look_at_numbers(panel_look *look, const drawing *d, const cells_panel *panel)
{
    FERRY_AUTO double *sorted = NULL;
    int64_t n = 0;
    FERRY_TRY(ferry_alloc(&sorted, d->count));
    for (int64_t i = 0; i < d->count; i++) {
        const double value = panel->number[d->order[i]];
        if (isfinite(value)) sorted[n++] = value;
    }
    look->missing = d->count - n;
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    choose_scale(look, panel->column, sorted, n);
    look->listed = SHADES;
    for (int i = 0; i < SHADES; i++) (void)figure_shade(look->colour[i], FIGURE_VIRIDIS, (i + 0.5) / SHADES);
    return FERRY_OK;
}

/* Place of a cell's colour in the list of the panel, from 1; other and missing come last. */
static int place_of(const panel_look *look, const cells_panel *panel, int64_t cell)
{
    if (panel->numeric) {
        const double value = panel->number[cell];
        if (!isfinite(value)) return look->listed + 2;
        return 1 + (int)fmin(SHADES - 1, fmax(0, SHADES * (value - look->low) / (look->high - look->low)));
    }
    const int32_t code = panel->labels.code[cell];
    if (code < 0) return look->listed + 2;
    return look->shown[code] < 0 ? look->listed + 1 : look->shown[code] + 1;
}

/* ---- where everything is ---- */

typedef struct turn {
    uint64_t at;
    int64_t cell;
} turn;

static int by_turn(const void *a, const void *b)
{
    const turn *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

/* Cells with a place, in random order. */
static ferry_status order_cells(drawing *d)
{
    const float *xy = d->cells->xy.f;
    FERRY_AUTO turn *turns = NULL;
    FERRY_TRY(ferry_alloc(&turns, d->cells->count));
    FERRY_TRY(ferry_alloc(&d->order, d->cells->count));
    for (int64_t i = 0; i < d->cells->count; i++)
        if (isfinite(xy[2 * i]) && isfinite(xy[2 * i + 1]))
            turns[d->count++] = (turn){figure_cells_random(i ^ INT64_C(0x5bd1e995)), i};
    if (d->count == 0)
        return ferry_fail(
            FERRY_E_FILE,
            "%s: obsm/%s: no cell has a place: all its numbers are missing or infinite; give another --basis",
            d->cells->path, d->cells->basis);
    qsort(turns, (size_t)d->count, sizeof *turns, by_turn);
    for (int64_t i = 0; i < d->count; i++) d->order[i] = turns[i].cell;
    return FERRY_OK;
}

/* Equal axes: as large as fits a square, at least half of it wide and high. */
static void fit_axes(drawing *d)
{
    const float *xy = d->cells->xy.f;
    d->x0 = d->y0 = INFINITY;
    d->x1 = d->y1 = -INFINITY;
    for (int64_t i = 0; i < d->count; i++) {
        const double x = (double)xy[2 * d->order[i]], y = (double)xy[2 * d->order[i] + 1];
        d->x0 = fmin(d->x0, x);
        d->x1 = fmax(d->x1, x);
        d->y0 = fmin(d->y0, y);
        d->y1 = fmax(d->y1, y);
    }
    const double larger = fmax(d->x1 - d->x0, d->y1 - d->y0), span = larger > 0 ? larger : 1;
    const double middle_x = (d->x0 + d->x1) / 2, middle_y = (d->y0 + d->y1) / 2;
    const double half_x = 0.53 * fmax(d->x1 - d->x0, span / 2), half_y = 0.53 * fmax(d->y1 - d->y0, span / 2);
    d->x0 = middle_x - half_x;
    d->x1 = middle_x + half_x;
    d->y0 = middle_y - half_y;
    d->y1 = middle_y + half_y;
    d->scale = SIDE / (2 * fmax(half_x, half_y));
    d->width = 2 * half_x * d->scale;
    d->height = 2 * half_y * d->scale;
    d->flipped = strcmp(d->cells->basis, "spatial") == 0;
}

/* "UMAP", "tSNE", "PC", as scanpy calls the axes of an embedding. */
static const char *axis_name(const char *basis)
{
    static const char *const known[][2] = {{"X_umap", "UMAP"},     {"X_tsne", "tSNE"},   {"X_pca", "PC"},
                                           {"X_diffmap", "DC"},    {"X_phate", "PHATE"}, {"spatial", "spatial "},
                                           {"X_umap_pred", "UMAP"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i][0], basis) == 0) return known[i][1];
    return strncmp(basis, "X_", 2) == 0 ? basis + 2 : basis;
}

/* ---- legends ---- */

static double line_height(const drawing *d, const panel_look *look)
{
    const int lines = look->listed + (look->others > 0) + (look->missing > 0);
    return fmax(15.5, fmin(21, d->height / fmax(lines, 1)));
}

static double legend_height(const drawing *d, const cells_panel *panel, const panel_look *look)
{
    if (panel->numeric) return 0;
    return line_height(d, look) * (look->listed + (look->others > 0) + (look->missing > 0));
}

/* "1,234", or "12.3 %" when a part of the cells is drawn. */
static const char *amount(char text[32], const drawing *d, int64_t cells)
{
    if (d->cells->count == d->cells->cells) return thousands(text, cells);
    (void)snprintf(text, 32, "%.1f %%", 100.0 * (double)cells / (double)d->count);
    return text;
}

static void other_name(char text[64], const panel_look *look)
{
    char number[32];
    (void)snprintf(text, 64, "%s other %s", thousands(number, look->others),
                   look->others == 1 ? "category" : "categories");
}

static double legend_width(const drawing *d, const cells_panel *panel, const panel_look *look)
{
    char text[256];
    if (panel->numeric) return 110;
    double names = figure_text_width(look->others    ? "12,345 other categories"
                                     : look->missing ? "missing"
                                                     : "",
                                     NAME_SIZE);
    for (int k = 0; k < look->listed; k++)
        names = fmax(names, figure_text_width(figure_fit(text, ferry_name(&panel->labels.categories, look->category[k]),
                                                         NAME_SIZE, NAME_ROOM),
                                              NAME_SIZE));
    return 34 + fmin(names, NAME_ROOM) + figure_text_width(amount(text, d, d->count), 11) + 10;
}

static void legend_line(figure *out, const drawing *d, const panel_look *look, double x, double y, const char *colour,
                        const char *name, int64_t cells)
{
    char text[256];
    figure_dot(out, x + 20, y, 5, colour);
    figure_label(out, x + 32, y, 'l', NAME_SIZE, 0, FIGURE_INK, figure_fit(text, name, NAME_SIZE, NAME_ROOM));
    figure_label(out, x + look->legend, y, 'r', 11, 0, FIGURE_GREY, amount(text, d, cells));
}

static void draw_legend(figure *out, const drawing *d, int k, double x, double top)
{
    const cells_panel *panel = &d->cells->panel[k];
    const panel_look *look = &d->look[k];
    const double line = line_height(d, look);
    double y = top - fmax(0, (d->height - legend_height(d, panel, look)) / 2) - line / 2;
    char text[64];
    for (int i = 0; i < look->listed; i++, y -= line)
        legend_line(out, d, look, x, y, look->colour[i], ferry_name(&panel->labels.categories, look->category[i]),
                    look->cells[i]);
    if (look->others) {
        other_name(text, look);
        legend_line(out, d, look, x, y, FIGURE_OTHER, text, look->other_cells);
        y -= line;
    }
    if (look->missing) legend_line(out, d, look, x, y, FIGURE_MISSING, "missing", look->missing);
}

static void draw_scale(figure *out, const drawing *d, int k, double x, double top)
{
    const panel_look *look = &d->look[k];
    const double height = fmin(220, d->height - 40), y0 = top - (d->height + height) / 2;
    char low[48], middle[48], high[48], text[64], number[32];
    (void)snprintf(low, sizeof low, "%s%s", look->below ? "\u2264 " : "", value_text(number, look->low));
    (void)snprintf(middle, sizeof middle, "%s", value_text(number, (look->low + look->high) / 2));
    (void)snprintf(high, sizeof high, "%s%s", look->above ? "\u2265 " : "", value_text(number, look->high));
    figure_colour_bar(out, FIGURE_VIRIDIS, x + 16, y0, height, low, middle, high);
    if (!look->missing) return;
    (void)snprintf(text, sizeof text, "missing %s", amount(number, d, look->missing));
    figure_dot(out, x + 23, y0 - 20, 5, FIGURE_MISSING);
    figure_label(out, x + 36, y0 - 20, 'l', 11, 0, FIGURE_INK, text);
}

/* ---- points ---- */

static void write_numbers(figure *out, const drawing *d)
{
    const figure_cells *c = d->cells;
    figure_text *data = &out->data;
    figure_add(data, "# x\ty");
    for (int k = 0; k < c->panels; k++) {
        char text[256];
        figure_add(data, "\tcolour of %s", figure_fit(text, c->panel[k].column, 1, 100));
        if (c->panel[k].numeric) figure_add(data, "\t%s", text);
    }
    figure_add(data, "\n");
    for (int64_t i = 0; i < d->count; i++) {
        const int64_t cell = d->order[i];
        figure_add(data, "%.6g\t%.6g", (double)c->xy.f[2 * cell], (double)c->xy.f[2 * cell + 1]);
        for (int k = 0; k < c->panels; k++) {
            figure_add(data, "\t%d", place_of(&d->look[k], &c->panel[k], cell));
            if (c->panel[k].numeric) figure_add(data, "\t%.6g", c->panel[k].number[cell]);
        }
        figure_add(data, "\n");
    }
}

/* The colours of a panel: 0xTTRRGGBB, of which TT is how much shines through. */
static void write_colours(figure *out, const drawing *d, int k, unsigned through)
{
    const panel_look *look = &d->look[k];
    figure_text *s = &out->script;
    figure_add(s, "# colours of panel %d: as in its %s, then of other cells and of cells without a value\n", k + 1,
               d->cells->panel[k].numeric ? "scale" : "legend");
    figure_add(s, "array colour%d[%d] = [", k + 1, look->listed + 2);
    for (int i = 0; i < look->listed; i++) figure_add(s, "0x%02x%s,", through, look->colour[i] + 1);
    figure_add(s, "0x%02x%s,0x%02x%s]\n", through, FIGURE_OTHER + 1, through, FIGURE_MISSING + 1);
}

/* The points of a panel whose colours are beneath, or above. */
static void add_plot(figure *out, const drawing *d, int k, int column, const char *which, double x, double bottom,
                     double size, bool first)
{
    const double x_at = x - d->scale * d->x0, y_at = d->flipped ? bottom + d->scale * d->y1 : bottom - d->scale * d->y0;
    figure_text *s = &out->script;
    figure_add(s, first ? "plot " : ", \\\n  ");
    figure_quote(s, out->data_name);
    figure_add(s,
               " using ($%d %s %d ? %.9g + %.9g * $1 : NaN):(%.9g %s %.9g * $2):(colour%d[int($%d)]) with points "
               "pointtype 7 pointsize %.4g linewidth 0.1 linecolor rgb variable",
               column, which, d->look[k].listed, x_at, d->scale, y_at, d->flipped ? "-" : "+", d->scale, k + 1, column,
               size);
}

/* ---- the whole ---- */

typedef struct sheet {
    double left[CELLS_PANELS], bottom[CELLS_PANELS];
    double width, height;
} sheet;

/* Panels side by side, at most two in a row; legends may be higher than panels. */
static sheet arrange(const drawing *d)
{
    sheet s = {0};
    const int panels = d->cells->panels, rows = (panels + 1) / 2;
    double first = 0, y = 18; /* the widest legend between two panels; the lowest end of a legend */
    for (int k = 0; k < panels; k += 2) first = fmax(first, d->look[k].legend);
    for (int row = rows - 1; row >= 0; row--) {
        const int end = 2 * row + 2 < panels ? 2 * row + 2 : panels;
        double high = d->height + 22; /* with the name of the axis */
        for (int k = 2 * row; k < end; k++) high = fmax(high, legend_height(d, &d->cells->panel[k], &d->look[k]));
        for (int k = 2 * row; k < end; k++) {
            s.left[k] = k % 2 ? 46 + d->width + first + 50 : 46;
            s.bottom[k] = y + high - d->height;
            s.width = fmax(s.width, s.left[k] + d->width + d->look[k].legend + 24);
        }
        y += high + (row ? 56 : 0);
    }
    s.height = y + 82;
    return s;
}

/* "X_umap: 100,000 of 1,306,127 cells, chosen at random" */
static void subtitle(char text[400], const drawing *d)
{
    const figure_cells *c = d->cells;
    char all[32], drawn[32], lost[32];
    const int64_t placeless = c->count - d->count;
    int used = c->count == c->cells ? snprintf(text, 400, "%.200s: %s cells", c->basis, thousands(all, c->cells))
                                    : snprintf(text, 400, "%.200s: %s of %s cells, chosen at random", c->basis,
                                               thousands(drawn, c->count), thousands(all, c->cells));
    if (placeless) (void)snprintf(text + used, 400 - (size_t)used, "; %s without a place", thousands(lost, placeless));
}

static void draw_frames(figure *out, const drawing *d, const sheet *s)
{
    char text[300];
    const char *axis = axis_name(d->cells->basis);
    for (int k = 0; k < d->cells->panels; k++) {
        const double x = s->left[k], y = s->bottom[k], top = y + d->height;
        figure_frame(out, x, y, x + d->width, top);
        figure_label(out, x, top + 14, 'l', 13, 0, FIGURE_INK,
                     figure_fit(text, d->cells->panel[k].column, 13, d->width + d->look[k].legend));
        (void)snprintf(text, sizeof text, "%.200s1", axis);
        figure_label(out, x + d->width / 2, y - 14, 'c', 11, 0, FIGURE_GREY, text);
        (void)snprintf(text, sizeof text, "%.200s2", axis);
        figure_label(out, x - 14, y + d->height / 2, 'c', 11, 90, FIGURE_GREY, text);
        if (d->cells->panel[k].numeric)
            draw_scale(out, d, k, x + d->width, top);
        else
            draw_legend(out, d, k, x + d->width, top);
    }
}

static void draw_points(figure *out, const drawing *d, const sheet *s)
{
    /* Few cells: large and nearly solid. Many: small, and dense places show. */
    const double n = (double)d->count;
    const double radius = fmin(4.5, fmax(0.75, sqrt(COVER * d->width * d->height / (n * 3.14159265358979))));
    const double solid = fmin(0.9, fmax(0.55, 0.9 - 0.12 * log10(fmax(n, 1000) / 1000)));
    const unsigned through = (unsigned)lround(255 * (1 - solid));
    int column = 3;
    for (int k = 0; k < d->cells->panels; k++) write_colours(out, d, k, through);
    figure_add(&out->script, "unset tics\nunset border\nset xrange [0:%.6g]\nset yrange [0:%.6g]\n", out->width,
               out->height);
    for (int k = 0; k < d->cells->panels; k++) {
        const double size = figure_point_size(out, radius);
        if (d->look[k].missing || d->look[k].others)
            add_plot(out, d, k, column, ">", s->left[k], s->bottom[k], size, column == 3);
        add_plot(out, d, k, column, "<=", s->left[k], s->bottom[k], size,
                 column == 3 && !d->look[k].missing && !d->look[k].others);
        column += d->cells->panel[k].numeric ? 2 : 1;
    }
    figure_add(&out->script, "\n");
}

static ferry_status prepare(drawing *d)
{
    FERRY_TRY(order_cells(d));
    fit_axes(d);
    for (int k = 0; k < d->cells->panels; k++) {
        const cells_panel *panel = &d->cells->panel[k];
        FERRY_TRY(panel->numeric ? look_at_numbers(&d->look[k], d, panel) : look_at_labels(&d->look[k], d, panel));
        d->look[k].legend = legend_width(d, panel, &d->look[k]);
    }
    return FERRY_OK;
}

ferry_status figure_cells_draw(figure *out, const figure_cells *cells, const char *title)
{
    char text[400];
    drawing d = {.cells = cells};
    const ferry_status status = prepare(&d);
    if (status == FERRY_OK) {
        const sheet s = arrange(&d);
        subtitle(text, &d);
        figure_canvas(out, fmax(s.width, 46 + fmax(figure_text_width(title, 15), figure_text_width(text, 11)) + 20),
                      s.height);
        figure_margins(out, 0, 0, out->width, out->height);
        figure_label(out, 46, out->height - 22, 'l', 15, 0, FIGURE_INK, title);
        figure_label(out, 46, out->height - 43, 'l', 11, 0, FIGURE_GREY, text);
        draw_frames(out, &d, &s);
        write_numbers(out, &d);
        draw_points(out, &d, &s);
    }
    free(d.order);
    for (int k = 0; k < CELLS_PANELS; k++) free(d.look[k].shown);
    return status;
}

/* figure_heatmap.c - a table as a heatmap. */
#include "figure_colour.h"
#include <math.h>
#include <stdio.h>

typedef struct heat {
    double cell_width, cell_height, left, bottom, right, top, size, largest;
    bool numbers;
} heat;

static const char *meaning(char text[160], const figure_table *t, const heat *h)
{
    if (t->confusion)
        (void)snprintf(text, 160, "%.0f cells; colour: share of each row%s; accuracy %.3f, macro F1 %.3f", t->cells,
                       h->numbers ? "; numbers: cells" : "", t->accuracy, t->macro_f1);
    else
        (void)snprintf(text, 160, "rows: source, columns: target; %s",
                       figure_table_sums_to_one(t, false)  ? "each row sums to 1"
                       : figure_table_sums_to_one(t, true) ? "each column sums to 1"
                                                           : "mass");
    return text;
}

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
    heat h = {.largest = t->confusion ? 1 : 0};
    for (int64_t i = 0; i < t->rows.count * t->columns.count && !t->confusion; i++)
        h.largest = fmax(h.largest, t->value[i]);
    const bool wide = h.largest > 0 && (h.largest < 0.1 || h.largest >= 1000);
    h.cell_width = fmin(wide ? 62 : 50, fmax(12, 1300 / m));
    h.cell_height = fmin(30, fmax(12, 1300 / n));
    h.numbers = h.cell_width >= (wide ? 58 : 34) && h.cell_height >= 16;
    h.size = fmin(12, 0.9 * fmin(h.cell_height, h.cell_width));
    const double row_names = figure_longest_name(&t->rows, h.size, 260),
                 column_names = figure_longest_name(&t->columns, h.size, 260);
    /* Names of columns run down to the left at 45 degrees: the first one needs room at the left too. */
    const double axis = t->confusion ? 22 : 0; /* what rows and columns are */
    h.left = 24 + axis + fmax(row_names + 10, 0.71 * column_names - h.cell_width / 2);
    h.bottom =
        fmax(24 + axis + 0.71 * column_names + 14, 116 - n * h.cell_height); /* the scale of colours is 90 high */
    h.right = h.left + m * h.cell_width;
    h.top = h.bottom + n * h.cell_height;
    return h;
}

/* The scale of colours: a bar of its own at the right, so that its place never depends on the terminal. */
static void colour_bar(figure *out, const heat *h)
{
    const double height = fmin(220, fmax(90, h->top - h->bottom));
    char text[3][32];
    for (int i = 0; i <= 2; i++) number_text(text[i], h->largest * i / 2, h->largest);
    figure_colour_bar(out, FIGURE_BLUES, h->right + 22, h->top - height, height, text[0], text[1], text[2]);
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

static void heat_axes(figure *out, const heat *h)
{
    figure_label(out, (h->left + h->right) / 2, 18, 'c', 12, 0, FIGURE_INK, "prediction");
    figure_label(out, 18, (h->bottom + h->top) / 2, 'c', 12, 90, FIGURE_INK, "truth");
}

/* The number in a cell: what its colour is, but cells in a confusion matrix. */
static void heat_number(figure *out, const figure_table *t, const heat *h, int64_t i, int64_t j, double shade)
{
    char text[32];
    const double value = t->value[i * t->columns.count + j];
    if (!t->confusion)
        number_text(text, value, h->largest);
    else
        (void)snprintf(text, sizeof text, value < 1e6 ? "%.0f" : "%.1e", value);
    figure_label(out, h->left + ((double)j + 0.5) * h->cell_width, h->top - ((double)i + 0.5) * h->cell_height, 'c', 10,
                 0,
                 shade > 0.55 * h->largest   ? "#ffffff"
                 : shade < 0.02 * h->largest ? "#9aa5b1"
                                             : FIGURE_INK,
                 text);
}

static void heat_cells(figure *out, const figure_table *t, const heat *h)
{
    const int64_t n = t->rows.count, m = t->columns.count;
    figure_add(&out->data, t->confusion ? "# column\trow\tshare of the row\tcells\n" : "# column\trow\tvalue\n");
    for (int64_t i = 0; i < n; i++) {
        double row = 0;
        for (int64_t j = 0; j < m; j++) row += t->value[i * m + j];
        for (int64_t j = 0; j < m; j++) {
            const double value = t->value[i * m + j];
            const double shade = !t->confusion ? value : row > 0 ? value / row : 0;
            figure_add(&out->data, "%lld\t%lld\t%.9g", (long long)j, (long long)i, shade);
            if (t->confusion) figure_add(&out->data, "\t%.0f", value);
            figure_add(&out->data, "\n");
            if (h->numbers && (value > 0 || !t->confusion)) heat_number(out, t, h, i, j, shade);
        }
    }
}

static void heat_plot(figure *out, const figure_table *t, const heat *h)
{
    figure_text *s = &out->script;
    char colour[8];
    figure_add(s, "unset tics\nunset colorbox\nset border 15 linecolor rgb '%s' linewidth 0.5\n", FIGURE_GREY);
    figure_add(s, "set palette defined (");
    for (int i = 0; i <= 8; i++)
        figure_add(s, "%s%d '%s'", i ? ", " : "", i, figure_shade(colour, FIGURE_BLUES, i / 8.0));
    figure_add(s, ")\nset cbrange [0:%.9g]\n", h->largest > 0 ? h->largest : 1);
    figure_add(s, "set xrange [-0.5:%lld.5]\nset yrange [%lld.5:-0.5]\nplot ", (long long)t->columns.count - 1,
               (long long)t->rows.count - 1);
    figure_quote(s, out->data_name);
    figure_add(s, " using 1:2:(0.5):(0.5):3 with boxxyerror fillstyle solid 1 noborder linecolor palette\n");
}

ferry_status figure_heatmap(figure *out, const char *csv_path, const char *title)
{
    figure_table t;
    char note[160];
    FERRY_TRY(figure_table_read(&t, csv_path));
    const heat h = layout(&t);
    const char *shown = title ? title : figure_base_name(csv_path);
    const double text = fmax(figure_text_width(shown, 14), figure_text_width(meaning(note, &t, &h), 11) + 10);
    figure_canvas(out, fmax(h.right + 100, h.left + text + 20), h.top + 62);
    figure_label(out, h.left, h.top + 40, 'l', 14, 0, FIGURE_INK, shown);
    figure_label(out, h.left, h.top + 18, 'l', 11, 0, FIGURE_GREY, note);
    figure_margins(out, h.left, h.bottom, h.right, h.top);
    heat_names(out, &t, &h);
    if (t.confusion) heat_axes(out, &h);
    heat_cells(out, &t, &h);
    colour_bar(out, &h);
    heat_plot(out, &t, &h);
    figure_table_close(&t);
    return FERRY_OK;
}

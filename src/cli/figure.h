/** figure.h - a picture: a data file and a gnuplot script beside it, and gnuplot run on them. All Local but
 * figure_write; only rank 0 makes pictures. Coordinates are pixels of a canvas whose origin is the lower left corner,
 * so that room for every text is known before gnuplot starts. */
#ifndef CLI_FIGURE_H
#define CLI_FIGURE_H
#include <cellferry.h>

typedef struct figure_text { /* grows as it is appended to */
    char *text;
    size_t length, room;
    bool failed; /* out of memory: nothing was appended since */
} figure_text;
void figure_add(figure_text *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

enum { FIGURE_SVG, FIGURE_PNG, FIGURE_PDF };
typedef struct figure {
    char *path, *script_path, *data_path; /* owned; FIGURE.svg, FIGURE.gp, FIGURE.dat */
    const char *name, *data_name;         /* the last part of path and data_path */
    int format;                           /* FIGURE_SVG ... */
    double width, height;                 /* pixels */
    figure_text script, data;
} figure;

/* Paths from the name of the figure; FERRY_E_ARG unless it ends in .svg, .png or .pdf. Close with figure_close. */
ferry_status figure_open(figure *out, const char *path);
void figure_close(figure *out);
/* The head of the script: terminal, size, font, output. Once, before anything else is drawn. */
void figure_canvas(figure *out, double width, double height);
/* The frame that coordinates of the data are drawn in. */
void figure_margins(figure *out, double left, double bottom, double right, double top);
/* A text at a place of the canvas; every character means itself. align: 'l', 'c', 'r'; colour "#rrggbb". */
void figure_label(figure *out, double x, double y, char align, double size, double rotate, const char *colour,
                  const char *text);
/* A filled rectangle of the canvas. */
void figure_rect(figure *out, double x0, double y0, double x1, double y1, const char *colour);
/* An empty rectangle with thin edges. */
void figure_frame(figure *out, double x0, double y0, double x1, double y1);
/* gnuplot's pointsize of a round point (pointtype 7) of this radius. */
double figure_point_size(const figure *out, double radius);
/* A round point of the canvas. */
void figure_dot(figure *out, double x, double y, double radius, const char *colour);
/* 'text' as a gnuplot string. */
void figure_quote(figure_text *out, const char *text);
/* Pixels that a text of this size takes at most, about. */
double figure_text_width(const char *text, double size);
/* Shortened to fit into `width` pixels with "..." in the middle; out has room for 256 bytes. Returns out. */
const char *figure_fit(char out[256], const char *text, double size, double width);
/* Run gnuplot on the script, in the figure's folder. FERRY_E_DEVICE when there is no gnuplot (the message says how to
 * draw the files that are left), FERRY_E_RUN when it failed. */
ferry_status figure_draw(const figure *out);

#define FIGURE_INK  "#222222"
#define FIGURE_GREY "#777777"

/* What can be drawn. */
ferry_status figure_trace(figure *out, const char *plan_path, const char *title);
ferry_status figure_heatmap(figure *out, const char *csv_path, const char *title);
ferry_status figure_sankey(figure *out, const char *csv_path, const char *title);
ferry_status figure_stages(figure *out, const char *path, const char *title); /* a record, or a result that holds one */

/* Of `cellferry bench scaling`: its run record, in a file or as text. */
ferry_status figure_scaling(figure *out, const char *path, const char *title);
ferry_status figure_scaling_text(figure *out, const char *record, const char *path, const char *title);

/* Local, before the work: may the figure, its script and its data be written? Script and data are by-products: they may
 * replace their own kind, not a file of the user's. */
ferry_status figure_check(const figure *out, bool overwrite);
/* Collective; out of rank 0. Data and script are written and gnuplot draws. */
ferry_status figure_write(const figure *out, const ferry_world *world);

/* A table of numbers with names, read from a CSV file. Close with figure_table_close. */
typedef struct figure_table {
    ferry_names rows, columns;
    double *value; /* [rows.count, columns.count] */
    char corner[128];
    bool confusion; /* of classes: rows are the truth, columns the prediction, values are cells */
    double cells, accuracy, macro_f1;
} figure_table;
ferry_status figure_table_read(figure_table *out, const char *path);
void figure_table_close(figure_table *table);
/* Is every row (or, down, every column) 1 or 0 in sum? */
bool figure_table_sums_to_one(const figure_table *table, bool down);
/* Pixels of the longest name, at most `limit`. */
double figure_longest_name(const ferry_names *names, double size, double limit);
/* The whole of a text file, NUL-terminated; free with free(). */
ferry_status figure_file_read(char **text, const char *path);
/* The last part of a path. Borrowed. */
const char *figure_base_name(const char *path);
#endif

/** figure_colour.h - the colours of figures: scales for numbers, lists for names. All Local. */
#ifndef CLI_FIGURE_COLOUR_H
#define CLI_FIGURE_COLOUR_H
#include "figure.h"

#define FIGURE_MISSING "#b4b4b4" /* cells without a value */
#define FIGURE_OTHER   "#dedede" /* of categories that are not told apart */

/* Perceptually even: equal steps of the number look equally far apart. */
typedef enum figure_scale { FIGURE_BLUES, FIGURE_VIRIDIS } figure_scale;
/* The colour at 0 ... 1 of a scale, as "#rrggbb"; returns text. */
const char *figure_shade(char text[8], figure_scale scale, double at);
/* A bar of the scale from y0 to y0 + height, with the texts of its lower end, middle and upper end at its right. */
void figure_colour_bar(figure *out, figure_scale scale, double x, double y0, double height, const char *low,
                       const char *middle, const char *high);

enum { FIGURE_FEW = 20, FIGURE_COLOURS = 30 };
/* Category i of FIGURE_COLOURS; the first FIGURE_FEW are scanpy's palette for as many categories. */
const char *figure_category_colour(int64_t i);
#endif

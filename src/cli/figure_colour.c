/* figure_colour.c - see figure_colour.h. ColorBrewer's Blues, darkened at the end; matplotlib's viridis (van der Walt
 * and Smith 2015), sampled at equal steps. */
#include "figure_colour.h"
#include <math.h>
#include <stdio.h>

enum { MOST_STOPS = 10, STEPS = 64 };
static const struct {
    int stops;
    unsigned stop[MOST_STOPS];
} SCALE[] = {
    [FIGURE_BLUES] = {9, {0xf7fbff, 0xdeebf7, 0xc6dbef, 0x9ecae1, 0x6baed6, 0x4292c6, 0x2171b5, 0x08519c, 0x08306b}},
    [FIGURE_VIRIDIS] = {
        10, {0x440154, 0x482878, 0x3e4a89, 0x31688e, 0x26828e, 0x1f9e89, 0x35b779, 0x6ece58, 0xb5de2b, 0xfde725}}};

const char *figure_shade(char text[8], figure_scale scale, double at)
{
    const double place = fmin(1, fmax(0, at)) * (SCALE[scale].stops - 1);
    const int low = (int)fmin(place, SCALE[scale].stops - 2);
    const unsigned from = SCALE[scale].stop[low], to = SCALE[scale].stop[low + 1];
    unsigned mixed = 0;
    for (int byte = 16; byte >= 0; byte -= 8) {
        const double a = (from >> byte) & 255, b = (to >> byte) & 255;
        mixed = mixed << 8 | (unsigned)lround(a + (b - a) * (place - low));
    }
    (void)snprintf(text, 8, "#%06x", mixed & 0xffffff);
    return text;
}

void figure_colour_bar(figure *out, figure_scale scale, double x, double y0, double height, const char *low,
                       const char *middle, const char *high)
{
    const char *const text[] = {low, middle, high};
    char colour[8];
    for (int i = 0; i < STEPS; i++) /* each a little into the next, so that no line shows between them */
        figure_rect(out, x, y0 + height * i / STEPS, x + 14, y0 + height * (i + 1) / STEPS + (i < STEPS - 1 ? 0.6 : 0),
                    figure_shade(colour, scale, (i + 0.5) / STEPS));
    for (int i = 0; i <= 2; i++) figure_label(out, x + 20, y0 + height * i / 2, 'l', 11, 0, FIGURE_INK, text[i]);
}

const char *figure_category_colour(int64_t i)
{
    static const char *const colour[FIGURE_COLOURS] = {
        "#1f77b4", "#ff7f0e", "#279e68", "#d62728", "#aa40fc", "#8c564b", "#e377c2", "#b5bd61", "#17becf", "#aec7e8",
        "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2", "#dbdb8d", "#9edae5", "#ad494a", "#8c6d31",
        "#3b3eac", "#0b6e4f", "#7a0177", "#00b3a4", "#ff3399", "#665c00", "#3399ff", "#5c3c11", "#99cc00", "#990033"};
    return colour[i % FIGURE_COLOURS];
}

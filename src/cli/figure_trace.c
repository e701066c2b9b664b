/* figure_trace.c - the error of a solved plan after every check, on a log scale, with the threshold it ran to. */
#include "figure.h"
#include <math.h>
#include <stdio.h>

typedef struct trace {
    double *error; /* [checks] */
    int64_t checks;
    double every, threshold, iterations, converged;
} trace;

static ferry_status read_trace(trace *out, ferry_stored *plan, const char *path)
{
    FERRY_TRY(ferry_stored_shape(&out->checks, NULL, plan, "errors"));
    if (out->checks == 0)
        return ferry_fail(FERRY_E_FILE, "%s: /errors is empty: the solver made no check, so there is no trace", path);
    FERRY_TRY(ferry_alloc(&out->error, out->checks));
    FERRY_TRY(ferry_stored_numbers(out->error, plan, "errors", 0, out->checks));
    FERRY_TRY(ferry_stored_attribute_number(&out->every, plan, "errors", "check_every"));
    FERRY_TRY(ferry_stored_attribute_number(&out->threshold, plan, "/", "threshold"));
    FERRY_TRY(ferry_stored_attribute_number(&out->iterations, plan, "/", "iterations"));
    return ferry_stored_attribute_number(&out->converged, plan, "/", "converged");
}

static void draw(figure *out, const trace *t, const char *path, const char *title)
{
    char text[512];
    double low = t->threshold > 0 ? t->threshold : INFINITY, high = low < INFINITY ? low : 0;
    double last = NAN;
    int64_t shown = 0;
    for (int64_t k = 0; k < t->checks; k++) {
        if (!(t->error[k] > 0) || !isfinite(t->error[k])) continue;
        low = fmin(low, t->error[k]);
        high = fmax(high, t->error[k]);
    }
    if (!(low < INFINITY)) low = high = 1e-16; /* all errors are exactly 0 */
    figure_canvas(out, 760, 460);
    figure_margins(out, 92, 66, 730, 380);
    figure_label(out, 92, 436, 'l', 14, 0, FIGURE_INK, title ? title : figure_base_name(path));
    figure_add(&out->data, "# iteration\terror\n");
    for (int64_t k = 0; k < t->checks; k++) {
        figure_add(&out->data, "%.0f\t%.9g\n", t->every * (double)(k + 1), t->error[k]);
        shown += t->error[k] > 0;
        last = t->error[k];
    }
    (void)snprintf(text, sizeof text, "%s after %.0f iterations, error %.1e (threshold %.1e)",
                   t->converged != 0 ? "converged" : "not converged", t->iterations, last, t->threshold);
    figure_label(out, 92, 410, 'l', 12, 0, t->converged != 0 ? FIGURE_GREY : "#c0392b", text);
    figure_label(out, 411, 18, 'c', 12, 0, FIGURE_INK, "iteration");
    figure_label(out, 22, 223, 'c', 12, 90, FIGURE_INK, "error of the marginal");
    figure_text *s = &out->script;
    figure_add(s, "set logscale y\nset format y '%%.0e'\nset border 3 linecolor rgb '%s'\n", FIGURE_INK);
    figure_add(s, "set xtics nomirror out\nset ytics nomirror out\nset mytics 10\nset grid ytics linecolor rgb "
                  "'#e4e4e4' linewidth 1\n");
    const double end = t->every * (double)t->checks;
    figure_add(s, "set xrange [0:%.9g]\nset yrange [%.9g:%.9g]\n", end * 1.04, pow(10, floor(log10(low) - 0.15)),
               pow(10, ceil(log10(high) + 0.05)));
    if (t->threshold > 0) {
        figure_add(s,
                   "set arrow from graph 0, first %.9g to graph 1, first %.9g nohead dashtype 2 linewidth 1.5 "
                   "linecolor rgb '#c0392b'\n",
                   t->threshold, t->threshold);
        figure_add(
            s,
            "set label 'threshold' at graph 0.01, first %.9g left offset 0,-0.7 textcolor rgb '#c0392b' font ',%s'\n",
            t->threshold, out->format == 0 ? "11" : "8.25");
    }
    figure_add(s, "plot ");
    figure_quote(s, out->data_name);
    figure_add(s, " using 1:2 with %s linewidth 2 pointtype 7 pointsize 0.5 linecolor rgb '#2171b5'\n",
               shown > 60 ? "lines" : "linespoints");
}

ferry_status figure_trace(figure *out, const char *plan_path, const char *title)
{
    trace t = {0};
    ferry_stored *plan = NULL;
    FERRY_TRY(ferry_stored_open(&plan, plan_path));
    const ferry_status status = read_trace(&t, plan, plan_path);
    ferry_stored_close(&plan);
    if (status == FERRY_OK) draw(out, &t, plan_path, title);
    free(t.error);
    return status;
}

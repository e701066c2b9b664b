#include "population.h"
#include "h5ad_impl.h"
#include <math.h>
#include <string.h>

/* Local. The weights column exists and holds numbers. */
static ferry_status check_weights(const ferry_population *p)
{
    FERRY_AUTO double *none = NULL;
    return p->options.weights ? ferry_read_numbers(&none, p->file, p->options.weights, NULL, 0) : FERRY_OK;
}

static ferry_status open_population(ferry_population *p, const ferry_world *world)
{
    FERRY_TRY(ferry_file_open(&p->file, world, p->options.path));
    if (!p->options.rep) p->options.rep = ferry_file_default_rep(p->file);
    FERRY_TRY(ferry_agree(world, ferry_rep_dim(&p->dim, p->file, p->options.rep, p->options.dims)));
    FERRY_TRY(ferry_agree(world, check_weights(p)));
    FERRY_TRY(ferry_select_open(&p->selection, world, p->file, p->options.where, p->options.filters));
    p->cells = p->selection.cells;
    return FERRY_OK;
}

ferry_status ferry_population_open(ferry_population *out, const ferry_world *world,
                                   const ferry_population_options *options)
{
    *out = (ferry_population){.options = *options};
    ferry_status status = open_population(out, world);
    if (status != FERRY_OK) ferry_population_close(out);
    return status;
}

void ferry_population_close(ferry_population *population)
{
    ferry_select_close(&population->selection);
    ferry_file_close(&population->file);
    *population = (ferry_population){0};
}

ferry_status ferry_population_rows(int64_t **rows, const ferry_world *world, const ferry_population *population,
                                   int64_t first, int64_t count)
{
    *rows = NULL;
    ferry_status status = ferry_agree(world, ferry_alloc(rows, count));
    if (status == FERRY_OK) status = ferry_select_rows(*rows, world, &population->selection, first, count);
    if (status == FERRY_OK) return FERRY_OK;
    free(*rows);
    *rows = NULL;
    return status;
}

static double number_at(const ferry_matrix *m, int64_t i)
{
    return m->f ? (double)m->f[i] : m->d[i];
}

/* Local. The message for cells that are not finite. */
static ferry_status not_finite(const ferry_matrix *points, const ferry_population *p, const int64_t *rows, int64_t bad,
                               int64_t at)
{
    int column = 0;
    ferry_names name = {0};
    FERRY_AUTO char *path = NULL;
    while (column + 1 < points->dim && isfinite(number_at(points, at * points->dim + column))) column++;
    double value = number_at(points, at * points->dim + column);
    FERRY_TRY(ferry_rep_path(&path, p->options.rep));
    FERRY_TRY(ferry_read_cell_names(&name, p->file, rows + at, 1));
    ferry_status status = ferry_fail(
        FERRY_E_FILE,
        "%s: %s: cell '%.80s' (row %lld) has %s in column %d, and %lld cells in all are not finite; drop them in "
        "anndata (adata[numpy.isfinite(...).all(axis=1)]), or name another representation",
        ferry_file_path(p->file), path, ferry_name(&name, 0), (long long)rows[at], isnan(value) ? "NaN" : "infinity",
        column, (long long)bad);
    ferry_names_close(&name);
    return status;
}

/* Local: read, and how many are not finite. */
static ferry_status read_points(ferry_matrix *out, int64_t *bad, int64_t *at, const ferry_population *p,
                                ferry_precision precision, const int64_t *rows, int64_t count)
{
    FERRY_TRY(ferry_read_rep(out, p->file, p->options.rep, p->options.dims, precision, rows, count));
    *bad = ferry_matrix_nonfinite(at, out);
    return FERRY_OK;
}

static ferry_status points(ferry_matrix *out, const ferry_world *world, const ferry_population *p, const int64_t *rows,
                           int64_t count, ferry_precision precision, int64_t *nonfinite)
{
    int64_t bad = 0, at = -1;
    FERRY_TRY(ferry_agree(world, read_points(out, &bad, &at, p, precision, rows, count)));
    if (nonfinite) {
        *nonfinite = bad;
        return FERRY_OK;
    }
    int64_t all = ferry_total(world, bad); /* ranges of ranks may overlap: then at most too high */
    return ferry_agree(world, bad ? not_finite(out, p, rows, all, at) : FERRY_OK);
}

ferry_status ferry_population_points(ferry_matrix *out, const ferry_world *world, const ferry_population *population,
                                     int64_t first, int64_t count, ferry_precision precision, int64_t *nonfinite)
{
    FERRY_AUTO int64_t *rows = NULL;
    *out = (ferry_matrix){0};
    FERRY_TRY(ferry_population_rows(&rows, world, population, first, count));
    ferry_status status = points(out, world, population, rows, count, precision, nonfinite);
    if (status != FERRY_OK) ferry_matrix_close(out);
    return status;
}

/* Local. */
static ferry_status read_weights(double **out, const ferry_population *p, const int64_t *rows, int64_t count)
{
    if (!p->options.weights) {
        FERRY_TRY(ferry_alloc(out, count));
        for (int64_t i = 0; i < count; i++) (*out)[i] = 1.0 / (double)p->cells;
        return FERRY_OK;
    }
    FERRY_TRY(ferry_read_numbers(out, p->file, p->options.weights, rows, count));
    for (int64_t i = 0; i < count; i++) {
        double w = (*out)[i];
        if (isfinite(w) && w >= 0) continue;
        return ferry_fail(
            FERRY_E_FILE,
            "%s: obs/%s: %s in row %lld; weights are numbers from 0: fill it, drop the cell, or leave the "
            "weights out (uniform)",
            ferry_file_path(p->file), p->options.weights,
            isnan(w)   ? "a missing weight"
            : isinf(w) ? "an infinite weight"
                       : "a negative weight",
            (long long)rows[i]);
    }
    return FERRY_OK;
}

ferry_status ferry_population_weights(double **out, const ferry_world *world, const ferry_population *population,
                                      int64_t first, int64_t count)
{
    FERRY_AUTO int64_t *rows = NULL;
    *out = NULL;
    FERRY_TRY(ferry_population_rows(&rows, world, population, first, count));
    ferry_status status = ferry_agree(world, read_weights(out, population, rows, count));
    if (status == FERRY_OK) return FERRY_OK;
    free(*out);
    *out = NULL;
    return status;
}

ferry_status ferry_population_names(ferry_names *out, const ferry_world *world, const ferry_population *population,
                                    int64_t first, int64_t count)
{
    FERRY_AUTO int64_t *rows = NULL;
    *out = (ferry_names){0};
    FERRY_TRY(ferry_population_rows(&rows, world, population, first, count));
    ferry_status status = ferry_agree(world, ferry_read_cell_names(out, population->file, rows, count));
    if (status != FERRY_OK) ferry_names_close(out);
    return status;
}

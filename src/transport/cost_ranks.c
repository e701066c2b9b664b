/* One row of points made ready for its cost.
 *
 *  cosine        x / |x|                       (float; the 1e-8 of the definition is below rounding)
 *  correlation   (x - mean x) / |x - mean x|   (0 for a constant row)
 *  Spearman      the same of average ranks
 * so that these three are 1 - <x, y>. Then, but for arc-cosine, the centre c (mean of the target side) is taken off,
 * u = x - c: smaller numbers, smaller rounding. Costs of differences do not notice; for the others
 *  <x, y> = <u, v> + <c, u> + <c, v> + <c, c>,
 * and what is left of the cost besides <u, v> is the rows' norm parts. In double precision only differences are
 * centred.
 */
#include "cost_impl.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct ranked {
    double value;
    int column;
} ranked;

static int by_value(const void *a, const void *b)
{
    double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return (x > y) - (x < y);
}

/* Average ranks, as ties share the mean of their places. */
static void rank_row(double *row, int dim, ranked *order)
{
    for (int k = 0; k < dim; k++) order[k] = (ranked){row[k], k};
    qsort(order, (size_t)dim, sizeof *order, by_value);
    for (int from = 0, to; from < dim; from = to) {
        for (to = from + 1; to < dim && order[to].value == order[from].value;) to++;
        for (int k = from; k < to; k++) row[order[k].column] = (from + to + 1) / 2.0;
    }
}

static double dot(const double *x, const double *y, int dim)
{
    double sum = 0;
    for (int k = 0; k < dim; k++) sum += x[k] * y[k];
    return sum;
}

/* Row / |row|; zeros for a zero row, and for one that is zero but for rounding of `size`. */
static void normalise(double *row, int dim, double size)
{
    double norm = sqrt(dot(row, row, dim)), inverse = norm > 1e-14 * size ? 1 / norm : 0;
    for (int k = 0; k < dim; k++) row[k] *= inverse;
}

static void subtract_mean(double *row, int dim)
{
    double sum = 0;
    for (int k = 0; k < dim; k++) sum += row[k];
    for (int k = 0; k < dim; k++) row[k] -= sum / dim;
}

static void prepare(double *row, const ferry_cost *cost, void *scratch)
{
    const int dim = cost->dim;
    if (cost->options.kind == FERRY_COST_COSINE && cost->options.precision == FERRY_FLOAT) normalise(row, dim, 0);
    if (cost->options.kind == FERRY_COST_SPEARMAN) rank_row(row, dim, scratch);
    if (cost->options.kind == FERRY_COST_SPEARMAN || cost->options.kind == FERRY_COST_CORRELATION) {
        double size = sqrt(dot(row, row, dim));
        subtract_mean(row, dim);
        normalise(row, dim, size);
    }
    for (int k = 0; k < dim; k++) row[k] -= cost->centre[k]; /* zeros where nothing is centred, or not yet */
    if (cost->options.precision == FERRY_FLOAT)
        for (int k = 0; k < dim; k++) row[k] = (double)(float)row[k];
}

/* The norm is that of the rounded row: then costs are exact costs of slightly moved points, without bias. */
double ferry_norm_part(const double *row, const ferry_cost *cost)
{
    const double *c = cost->centre;
    const int dim = cost->dim;
    if (cost->tile != FERRY_TILE_LINEAR || cost->options.kind == FERRY_COST_SQ_EUCLIDEAN || !cost->bilinear)
        return dot(row, row, dim);
    const double one = cost->options.kind == FERRY_COST_DOT ? 0 : 1; /* of 1 - <x, y>: half on each side */
    return one / 2 - dot(c, row, dim) - dot(c, c, dim) / 2;
}

int64_t ferry_prepare_bytes(const ferry_cost *cost)
{
    return (int64_t)sizeof(ranked) * cost->dim;
}

void ferry_prepare_rows(double *out, double *norm, const ferry_cost *cost, const ferry_matrix *x, int64_t first,
                        int64_t count, void *scratch)
{
    const int dim = cost->dim;
    for (int64_t i = 0; i < count; i++, out += dim) {
        for (int k = 0; k < dim; k++) out[k] = x->d ? x->d[(first + i) * dim + k] : (double)x->f[(first + i) * dim + k];
        prepare(out, cost, scratch);
        norm[i] = ferry_norm_part(out, cost);
    }
}

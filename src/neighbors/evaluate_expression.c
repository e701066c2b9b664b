/* Agreement of imputed with measured expression, gene by gene over all cells (spec: CellMapper's
 * evaluate_expression_transfer):
 *
 *    pearson   cov(x, y) / (std x std y)
 *    spearman  pearson of the ranks, ties at their mean rank
 *    js        sqrt(JS(p, q)),  JS = (KL(p | m) + KL(q | m)) / 2,  m = (p + q) / 2,  p, q = max(x, 0) / sum; log base
 * 10 rmse      sqrt(mean((z_x - z_y)^2)) of z-scores
 *
 *  Ranks need a column whole in one place, so columns travel: some of them at a time to every rank. */
#include "evaluate.h"
#include "mpi/exchange.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLAB ((int64_t)64 << 20) /* bytes of columns that travel at a time, per rank */

/* ---- one gene ---- */

static double mean_of(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum / (double)n;
}

static bool constant(const double *x, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (x[i] != x[0]) return false;
    return true;
}

static double pearson(const double *x, const double *y, int64_t n)
{
    if (constant(x, n) || constant(y, n)) return NAN;
    const double a = mean_of(x, n), b = mean_of(y, n);
    double xx = 0, yy = 0, xy = 0;
    for (int64_t i = 0; i < n; i++) {
        xx += (x[i] - a) * (x[i] - a);
        yy += (y[i] - b) * (y[i] - b);
        xy += (x[i] - a) * (y[i] - b);
    }
    const double r = xy / sqrt(xx) / sqrt(yy);
    return r > 1 ? 1 : r < -1 ? -1 : r;
}

typedef struct ranked {
    double value;
    int64_t cell;
} ranked;

static int by_value(const void *a, const void *b)
{
    const double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return (x > y) - (x < y);
}

/* x -> mean ranks from 1, in place; order [n] is scratch. */
static void to_ranks(double *x, ranked *order, int64_t n)
{
    for (int64_t i = 0; i < n; i++) order[i] = (ranked){x[i], i};
    qsort(order, (size_t)n, sizeof *order, by_value);
    for (int64_t i = 0; i < n;) {
        int64_t end = i + 1;
        while (end < n && order[end].value == order[i].value) end++;
        for (int64_t k = i; k < end; k++) x[order[k].cell] = 0.5 * (double)(i + end + 1);
        i = end;
    }
}

static double js(const double *x, const double *y, int64_t n)
{
    double a = 0, b = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        a += fmax(x[i], 0);
        b += fmax(y[i], 0);
    }
    if (!(a > 0 && b > 0)) return NAN;
    for (int64_t i = 0; i < n; i++) {
        const double p = fmax(x[i], 0) / a, q = fmax(y[i], 0) / b, m = (p + q) / 2;
        if (p > 0) sum += p * log(p / m);
        if (q > 0) sum += q * log(q / m);
    }
    return sqrt(fmax(sum, 0) / log(10) / 2);
}

/* Mean and population standard deviation; 1 where that is 0. */
static void moments(double *mean, double *deviation, const double *x, int64_t n)
{
    double sum = 0;
    *mean = mean_of(x, n);
    for (int64_t i = 0; i < n; i++) sum += (x[i] - *mean) * (x[i] - *mean);
    *deviation = constant(x, n) ? 1 : sqrt(sum / (double)n);
}

static double rmse(const double *x, const double *y, int64_t n)
{
    double a, b, s, t, sum = 0;
    moments(&a, &s, x, n);
    moments(&b, &t, y, n);
    for (int64_t i = 0; i < n; i++) {
        const double d = (x[i] - a) / s - (y[i] - b) / t;
        sum += d * d;
    }
    return sqrt(sum / (double)n);
}

static bool all_finite(const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* x and y are spoilt by ranks. */
static double agree(double *x, double *y, ranked *order, int64_t n, ferry_agreement method)
{
    if (n == 0 || !all_finite(x, n) || !all_finite(y, n)) return NAN;
    switch (method) {
    case FERRY_PEARSON:
        return pearson(x, y, n);
    case FERRY_JS:
        return js(x, y, n);
    case FERRY_RMSE:
        return rmse(x, y, n);
    case FERRY_SPEARMAN:
        break;
    }
    to_ranks(x, order, n);
    to_ranks(y, order, n);
    return pearson(x, y, n);
}

/* ---- columns to ranks ---- */

typedef struct columns {
    const ferry_expression *e;
    int64_t total;           /* cells of all ranks */
    int64_t *cells, *cell;   /* [size] cells of every rank; [total] their numbers */
    int64_t *send, *receive; /* [size] */
    double *packed, *came, *x, *y;
    ranked *order;
} columns;

static void columns_close(columns *c)
{
    free(c->cells);
    free(c->cell);
    free(c->send);
    free(c->receive);
    free(c->packed);
    free(c->came);
    free(c->x);
    free(c->y);
    free(c->order);
}

static ferry_status columns_open(columns *c, int size)
{
    FERRY_TRY(ferry_alloc(&c->cells, size));
    FERRY_TRY(ferry_alloc(&c->send, size));
    return ferry_alloc(&c->receive, size);
}

/* Local. Room for `width` genes at a time, of every rank. */
static ferry_status columns_room(columns *c, int64_t width, int size)
{
    FERRY_TRY(ferry_alloc(&c->cell, c->total));
    FERRY_TRY(ferry_alloc(&c->packed, 2 * c->e->cells * width * size));
    FERRY_TRY(ferry_alloc(&c->came, 2 * c->total * width));
    FERRY_TRY(ferry_alloc(&c->x, c->total));
    FERRY_TRY(ferry_alloc(&c->y, c->total));
    return ferry_alloc(&c->order, c->total);
}

static int64_t clip(int64_t x, int64_t most)
{
    return x < most ? x : most;
}

/* Collective. Genes first ... of the slab: `width` to each rank, in the order of the ranks. */
static void send_slab(columns *c, const ferry_world *world, int64_t first, int64_t width)
{
    const ferry_expression *e = c->e;
    int64_t at = 0;
    const int64_t mine = clip(first + width * world->rank, e->genes),
                  mine_end = clip(first + width * (world->rank + 1), e->genes);
    for (int r = 0; r < world->size; r++) {
        const int64_t from = clip(first + width * r, e->genes), to = clip(first + width * (r + 1), e->genes);
        c->send[r] = 2 * e->cells * (to - from);
        c->receive[r] = 2 * c->cells[r] * (mine_end - mine);
        for (int64_t g = from; g < to; g++) {
            for (int64_t i = 0; i < e->cells; i++) c->packed[at++] = e->truth[i * e->genes + g];
            for (int64_t i = 0; i < e->cells; i++) c->packed[at++] = e->imputed[i * e->genes + g];
        }
    }
    ferry_exchange(world, c->packed, c->send, c->came, c->receive, sizeof *c->came);
}

/* Local. The k-th of `genes` genes that came, in the order of the cells. */
static void unpack(columns *c, const ferry_world *world, int64_t k)
{
    int64_t at = 0, row = 0;
    for (int r = 0; r < world->size; r++) {
        const double *truth = c->came + at + 2 * k * c->cells[r], *imputed = truth + c->cells[r];
        for (int64_t i = 0; i < c->cells[r]; i++, row++) {
            c->x[c->cell[row]] = truth[i];
            c->y[c->cell[row]] = imputed[i];
        }
        at += c->receive[r];
    }
}

/* Collective. */
static ferry_status run(double *agreement, columns *c, const ferry_world *world, ferry_agreement method)
{
    const ferry_expression *e = c->e;
    for (int r = 0; r < world->size; r++) c->send[r] = 1;
    ferry_gather_all(world, &e->cells, c->send, c->cells, sizeof *c->cells);
    for (int r = 0; r < world->size; r++) c->total += c->cells[r];
    const int64_t even = (e->genes + world->size - 1) / world->size;
    int64_t width = SLAB / (16 * (c->total + 1)) + 1;
    if (width > even) width = even > 0 ? even : 1;
    FERRY_TRY(ferry_agree(world, columns_room(c, width, world->size)));
    ferry_gather_all(world, e->cell, c->cells, c->cell, sizeof *c->cell);
    for (int64_t first = 0; first < e->genes; first += width * world->size) {
        send_slab(c, world, first, width);
        const int64_t mine = first + width * world->rank;
        for (int64_t k = 0; k < width && mine + k < e->genes; k++) {
            unpack(c, world, k);
            agreement[mine + k] = agree(c->x, c->y, c->order, c->total, method);
        }
    }
    return FERRY_OK;
}

ferry_status ferry_evaluate_expression(double *agreement, const ferry_world *world, const ferry_expression *expression,
                                       ferry_agreement method)
{
    columns c = {.e = expression};
    /* a value of one rank, -inf of the others: the maximum is that value; NaN goes as +inf, which no agreement is */
    for (int64_t g = 0; g < expression->genes; g++) agreement[g] = -INFINITY;
    ferry_status status = ferry_agree(world, columns_open(&c, world->size));
    if (status == FERRY_OK) status = run(agreement, &c, world, method);
    columns_close(&c);
    FERRY_TRY(status);
    for (int64_t g = 0; g < expression->genes; g++)
        if (isnan(agreement[g])) agreement[g] = INFINITY;
    ferry_max_doubles(world, agreement, expression->genes);
    for (int64_t g = 0; g < expression->genes; g++)
        if (isinf(agreement[g])) agreement[g] = NAN;
    return FERRY_OK;
}

double ferry_agreement_mean(const double *agreement, int64_t genes)
{
    double sum = 0;
    int64_t count = 0;
    for (int64_t g = 0; g < genes; g++) {
        if (isnan(agreement[g])) continue;
        sum += agreement[g];
        count++;
    }
    return count ? sum / (double)count : NAN;
}

/* kernels_generic.c - the reference: what every table computes, in plain C for any CPU.
 *
 * 2^s = 2^n 2^r with n = round(s) and r in [-1/2, 1/2]; 2^r by a polynomial of degree 5 fitted to the smallest largest
 * relative error (9.2e-8 before rounding), exact at r = 0. Below 2^-126 the result is 0. */
#include "kernels_impl.h"
#include <math.h>
#include <string.h>
#define BLOCK_ROWS    4 /* a register block: its sums stay in registers while k runs */
#define BLOCK_COLUMNS 8

static inline float exp2_of(float s)
{
    const float magic = 12582912; /* 1.5 * 2^23: adding it rounds to an integer */
    float c = s > 128 ? 128 : s < -126 ? -126 : s;
    float t = c + magic, r = c - (t - magic);
    float p = 1.3264727e-3f;
    p = p * r + 9.671513e-3f;
    p = p * r + 5.5507336e-2f;
    p = p * r + 2.4022242e-1f;
    p = p * r + 6.93147e-1f;
    p = p * r + 1;
    uint32_t bits, n;
    memcpy(&bits, &p, sizeof bits);
    memcpy(&n, &t, sizeof n);
    bits += n << 23; /* the low bits of t are the integer: it joins the exponent */
    memcpy(&p, &bits, sizeof p);
    p = s < -126 ? 0 : p;
    return s != s ? s : p; /* NaN stays, for the solver to see */
}

/* packed [count / width][dim][width] of rows [count, dim]; rows from `present` on are zero */
static void pack(float *packed, const float *rows, int64_t present, int count, int width, int dim)
{
    for (int i = 0; i < count; i++)
        for (int k = 0; k < dim; k++)
            packed[((int64_t)(i / width) * dim + k) * width + i % width] = i < present ? rows[(int64_t)i * dim + k] : 0;
}
static void pack_rows(float *packed, const float *rows, int64_t count, int dim)
{
    pack(packed, rows, count, ROWS, BLOCK_ROWS, dim);
}
static void pack_columns(float *packed, const float *rows, int64_t count, int dim)
{
    pack(packed, rows, count, COLUMNS, COLUMNS, dim);
}

/* s_ij = s0_ij + <x_i, y_j> of one block, s0 given in s */
static void dot_block(float *s, const float *x, const float *y, int dim)
{
    float sum[BLOCK_ROWS][BLOCK_COLUMNS];
    for (int i = 0; i < BLOCK_ROWS; i++) memcpy(sum[i], s + i * COLUMNS, sizeof sum[i]);
    for (int k = 0; k < dim; k++, x += BLOCK_ROWS, y += COLUMNS)
        for (int i = 0; i < BLOCK_ROWS; i++)
            for (int j = 0; j < BLOCK_COLUMNS; j++) sum[i][j] += x[i] * y[j];
    for (int i = 0; i < BLOCK_ROWS; i++) memcpy(s + i * COLUMNS, sum[i], sizeof sum[i]);
}
/* s_ij = sum_k |x_ik - y_jk|^p of one block */
static void power_block(float *s, const float *x, const float *y, int dim, float p)
{
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < BLOCK_COLUMNS; j++) {
            float sum = 0;
            for (int k = 0; k < dim; k++) {
                float d = fabsf(x[k * BLOCK_ROWS + i] - y[k * COLUMNS + j]);
                sum += p == 1 ? d : p == 2 ? d * d : p == 3 ? d * d * d : powf(d, p);
            }
            s[i * COLUMNS + j] = sum;
        }
}

/* -log((|x| |y|)^n J_n(t) / pi + 1e-8), t the angle between x and y:
   J_0 = pi - t, J_1 = sin t + (pi - t) cos t, J_2 = 3 sin t cos t + (pi - t) (1 + 2 cos^2 t) */
static float arccos_cost(float dot, float norms, int order)
{
    float c = fminf(fmaxf(dot / (norms + 1e-8f), -1), 1);
    float rest = acosf(-c), sine = sqrtf((1 - c) * (1 + c)); /* rest = pi - t */
    float j = order == 0 ? rest : order == 1 ? sine + rest * c : 3 * sine * c + rest * (1 + 2 * c * c);
    float power = order == 0 ? 1 : order == 1 ? norms : norms * norms;
    return -logf(power * fmaxf(j, 0) * (float)M_1_PI + 1e-8f);
}
/* cost of one pair from what its block sum holds: <x, y>, or sum |x - y|^p */
static float cost_of(const ferry_tile *tile, float sum, float x2, float y2)
{
    float p = (float)tile->p;
    switch (tile->kind) {
    case FERRY_TILE_EUCLIDEAN_P:
        sum = fmaxf(x2 + y2 - 2 * sum, 0);
        return p == 1 ? sqrtf(sum) : p == 2 ? sum : powf(sum, p / 2);
    case FERRY_TILE_ARCCOS:
        return arccos_cost(sum, sqrtf(x2) * sqrtf(y2), (int)tile->p);
    case FERRY_TILE_PNORM:
        return sum / p;
    case FERRY_TILE_SQ_PNORM:
        return (p == 1 ? sum * sum : p == 2 ? sum : powf(sum, 2 / p)) / 2;
    default:
        return sum;
    }
}

/* s [24][32] of column unit u */
static void scores_unit(float *s, const ferry_tile *tile, int64_t u)
{
    const bool linear = tile->kind == FERRY_TILE_LINEAR;
    const bool powers = tile->kind == FERRY_TILE_PNORM || tile->kind == FERRY_TILE_SQ_PNORM;
    const float *y = tile->y + u * COLUMNS * tile->dim, *beta = tile->beta + u * COLUMNS;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) s[i * COLUMNS + j] = linear ? tile->alpha[i] + beta[j] : 0;
    for (int i = 0; i < ROWS; i += BLOCK_ROWS)
        for (int j = 0; j < COLUMNS; j += BLOCK_COLUMNS) {
            const float *x = tile->x + (int64_t)i * tile->dim;
            if (powers)
                power_block(s + i * COLUMNS + j, x, y + j, tile->dim, (float)tile->p);
            else
                dot_block(s + i * COLUMNS + j, x, y + j, tile->dim);
        }
    if (linear) return;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            float x2 = powers ? 0 : tile->x2[i], y2 = powers ? 0 : tile->y2[u * COLUMNS + j];
            s[i * COLUMNS + j] =
                tile->alpha[i] + beta[j] - (float)tile->scale * cost_of(tile, s[i * COLUMNS + j], x2, y2);
        }
}

/* Row sums of a call: each lane adds FLUSH_UNITS units in float32, then joins its float64 sum; lanes last. */
typedef struct row_lanes {
    float now[ROWS][COLUMNS];
    double past[ROWS][COLUMNS];
} row_lanes;

static void exponentials_unit(float *s, row_lanes *lanes)
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            s[i * COLUMNS + j] = exp2_of(s[i * COLUMNS + j]);
            lanes->now[i][j] += s[i * COLUMNS + j];
        }
}
/* the same of p s, from exponents */
static void score_unit(row_lanes *lanes, const float *s)
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            const float exponent = s[i * COLUMNS + j];
            lanes->now[i][j] += exp2_of(exponent) * (exponent > LEAST_SCORE ? exponent : LEAST_SCORE);
        }
}
static void flush(row_lanes *lanes)
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            lanes->past[i][j] += (double)lanes->now[i][j];
            lanes->now[i][j] = 0;
        }
}
static void add_lanes(double *sums, row_lanes *lanes)
{
    flush(lanes);
    for (int i = 0; i < ROWS; i++) {
        for (int half = COLUMNS / 2; half > 0; half /= 2)
            for (int j = 0; j < half; j++) lanes->past[i][j] += lanes->past[i][j + half];
        sums[i] = lanes->past[i][0];
    }
}

static void scores(float *s, const ferry_tile *tile)
{
    for (int64_t u = 0; u < tile->units; u++) scores_unit(s + u * TILE, tile, u);
}
static void plan_of(float *plan, double *sums, const ferry_tile *tile)
{
    row_lanes lanes = {0}, score = {0};
    double scores[ROWS];
    for (int64_t u = 0; u < tile->units; u++) {
        scores_unit(plan + u * TILE, tile, u);
        if (tile->scores) score_unit(&score, plan + u * TILE);
        exponentials_unit(plan + u * TILE, &lanes);
        if (u % FLUSH_UNITS != FLUSH_UNITS - 1) continue;
        flush(&lanes);
        flush(&score);
    }
    add_lanes(sums, &lanes);
    if (!tile->scores) return;
    add_lanes(scores, &score);
    for (int i = 0; i < ROWS; i++) tile->scores[i] += scores[i];
}
static void plans(float *const *plan, double *const *sums, const ferry_tile *tile, int panels, const int64_t *end,
                  int blocks)
{
    for (int g = 0; g < panels; g++)
        for (int b = 0; b < blocks; b++) {
            const int64_t first = b > 0 ? end[b - 1] : 0;
            ferry_tile part = tile[g];
            part.units = end[b] - first;
            part.y += first * COLUMNS * part.dim;
            part.beta += first * COLUMNS;
            if (part.y2) part.y2 += first * COLUMNS;
            if (part.scores) part.scores += (int64_t)b * ROWS;
            plan_of(plan[g] + first * TILE, sums[g] + (int64_t)b * ROWS, &part);
        }
}
static void exponentials(float *s, double *sums, int64_t units)
{
    row_lanes lanes = {0};
    for (int64_t u = 0; u < units; u++) {
        exponentials_unit(s + u * TILE, &lanes);
        if (u % FLUSH_UNITS == FLUSH_UNITS - 1) flush(&lanes);
    }
    add_lanes(sums, &lanes);
}

static void column_sums(double *c, const float *plan, const float *q, int64_t units)
{
    for (int64_t u = 0; u < units; u++, plan += TILE, c += COLUMNS) {
        float sum[COLUMNS] = {0};
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++) sum[j] += q[i] * plan[i * COLUMNS + j];
        for (int j = 0; j < COLUMNS; j++) c[j] += (double)sum[j];
    }
}

/* rows from ... to - 1 of a unit in the run's parts */
static void masses_of(const ferry_masses *into, int segment, int run, const float *plan, const float *q, int from)
{
    float sum[COLUMNS] = {0};
    const int32_t *part = into->part + run;
    for (int i = from; i < into->end[segment]; i++)
        for (int j = 0; j < COLUMNS; j++) sum[j] += q[i] * plan[i * COLUMNS + j];
    for (int32_t p = part[0]; p < part[1]; p++) {
        double mass = 0;
        for (int j = 0; j < COLUMNS; j++)
            if (part[1] - part[0] == 1 || into->mask[(int64_t)p * COLUMNS + j] > 0) mass += (double)sum[j];
        into->row[segment][into->group[p]] += whole_of(mass, into->per_mass);
    }
}
static void column_masses(double *c, const float *plan, const float *q, int64_t first, int64_t units,
                          const ferry_masses *into)
{
    int run = run_of(into, first);
    if (c) column_sums(c, plan, q, units);
    for (int64_t u = 0; u < units; u++, plan += TILE) {
        while (into->run[run + 1] <= first + u) run++;
        for (int s = 0; s < into->segments; s++) masses_of(into, s, run, plan, q, s ? into->end[s - 1] : 0);
    }
}
static void row_max(float *max, const float *s, int64_t units)
{
    for (int i = 0; i < ROWS; i++) max[i] = -INFINITY;
    for (int64_t u = 0; u < units; u++, s += TILE)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                if (s[i * COLUMNS + j] > max[i]) max[i] = s[i * COLUMNS + j];
}

/* t 2^m + sum_i 2^s_i = 2^M (t 2^(m - M) + sum_i 2^(s_i - M)), M = max(m, ceil(max_i s_i)); M integral, so that
   2^(m - M) is exact */
static void column_lse(double *m, double *t, const float *s, int64_t units)
{
    for (int64_t u = 0; u < units; u++, s += TILE, m += COLUMNS, t += COLUMNS)
        for (int j = 0; j < COLUMNS; j++) {
            float top = (float)m[j], sum = 0;
            for (int i = 0; i < ROWS; i++) top = fmaxf(top, ceilf(s[i * COLUMNS + j]));
            float base = top == -INFINITY ? 0 : top; /* nothing yet: every term is 0 */
            for (int i = 0; i < ROWS; i++) sum += exp2_of(s[i * COLUMNS + j] - base);
            t[j] = t[j] * (double)exp2_of((float)m[j] - base) + (double)sum;
            m[j] = (double)top;
        }
}

static int64_t row_above(float *values, int32_t *columns, const float *plan, int i, int64_t units, float cut)
{
    int64_t found = 0;
    plan += i * COLUMNS;
    for (int64_t u = 0; u < units; u++, plan += TILE)
        for (int j = 0; j < COLUMNS; j++)
            if (plan[j] >= cut) {
                values[found] = plan[j];
                columns[found++] = (int32_t)(u * COLUMNS + j);
            }
    return found;
}

static void times(double *out, const float *plan, const float *v, int width, int64_t units)
{
    for (int64_t u = 0; u < units; u++, plan += TILE, v += (int64_t)COLUMNS * width)
        for (int i = 0; i < ROWS; i++) {
            float sum[64] = {0};
            for (int j = 0; j < COLUMNS; j++)
                for (int w = 0; w < width; w++) sum[w] += plan[i * COLUMNS + j] * v[j * width + w];
            for (int w = 0; w < width; w++) out[i * width + w] += (double)sum[w];
        }
}
static void few_times(double *out, const float *plan, const float *v, int64_t stride, int width, int64_t units)
{
    for (int64_t u = 0; u < units; u++, plan += TILE, v += COLUMNS)
        for (int i = 0; i < ROWS; i++)
            for (int w = 0; w < width; w++) {
                float sum = 0;
                for (int j = 0; j < COLUMNS; j++) sum += plan[i * COLUMNS + j] * v[w * stride + j];
                out[i * width + w] += (double)sum;
            }
}
static void transposed_times(double *out, const float *plan, const float *v, int width, int64_t units)
{
    for (int64_t u = 0; u < units; u++, plan += TILE, out += (int64_t)COLUMNS * width)
        for (int j = 0; j < COLUMNS; j++) {
            float sum[64] = {0};
            for (int i = 0; i < ROWS; i++)
                for (int w = 0; w < width; w++) sum[w] += plan[i * COLUMNS + j] * v[i * width + w];
            for (int w = 0; w < width; w++) out[j * width + w] += (double)sum[w];
        }
}

const ferry_kernels ferry_kernels_generic = {
    .name = "generic",
    .level = 0,
    .x_width = BLOCK_ROWS,
    .pack_rows = pack_rows,
    .pack_columns = pack_columns,
    .scores = scores,
    .plan = plan_of,
    .plans = plans,
    .exponentials = exponentials,
    .column_sums = column_sums,
    .column_masses = column_masses,
    .row_max = row_max,
    .column_lse = column_lse,
    .row_above = row_above,
    .times = times,
    .transposed_times = transposed_times,
    .few_times = few_times,
};

/* scan_generic.c - the search's reference: what every table computes, in plain C for any CPU. */
#include "scan_impl.h"
#include <string.h>
#define BLOCK_ROWS 4 /* x_width of the kernels of this name */

/* scores of four rows of the panel and one unit: alpha_i + beta_j, then the products in ascending k */
static void score_block(float s[BLOCK_ROWS][COLUMNS], const float *x, const float *y, const float *alpha,
                        const float *beta, int dim)
{
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) s[i][j] = alpha[i] + beta[j];
    for (int k = 0; k < dim; k++, x += BLOCK_ROWS, y += COLUMNS)
        for (int i = 0; i < BLOCK_ROWS; i++)
            for (int j = 0; j < COLUMNS; j++) s[i][j] += x[i] * y[j];
}

/* The k-th smallest of count >= k numbers: by bisection of their bits, which are ordered as they are (none is below
   0). */
static float kth_smallest(const float *s, int count, int k)
{
    uint32_t bits[ROOM], low = 0, high = 0x7f800000;
    memcpy(bits, s, (size_t)count * sizeof *bits);
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        int below = 0;
        for (int j = 0; j < count; j++) below += bits[j] <= middle;
        if (below >= k)
            high = middle;
        else
            low = middle + 1;
    }
    float kth;
    memcpy(&kth, &low, sizeof kth);
    return kth;
}

static void settle(ferry_candidates *c, int query)
{
    float *s = c->distance2 + (int64_t)query * ROOM;
    uint32_t *position = c->position + (int64_t)query * ROOM;
    int count = c->count[query], stay = 0;
    if (count < c->k) return;
    const float limit = set_bounds(c, query, kth_smallest(s, count, c->k));
    for (int j = 0; j < count; j++)
        if (s[j] <= limit) {
            s[stay] = s[j];
            position[stay++] = position[j];
        }
    resolve_ties(c, query, stay);
}

static void keep(ferry_candidates *c, int query, const float *score, uint32_t position)
{
    const float threshold = c->threshold[query] > LEAST ? c->threshold[query] : LEAST, norm2 = c->norm2[query];
    float *s = c->distance2 + (int64_t)query * ROOM;
    uint32_t *at = c->position + (int64_t)query * ROOM;
    int count = c->count[query];
    for (int j = 0; j < COLUMNS; j++)
        if (score[j] >= threshold) {
            const float d2 = norm2 - 2 * score[j];
            s[count] = d2 > 0 ? d2 : 0;
            at[count++] = position + (uint32_t)j;
        }
    c->kept += count - c->count[query];
    c->count[query] = count;
    if (wants_settling(c, query)) settle(c, query);
}

static void scan(ferry_candidates *c, const ferry_scan *scan)
{
    static const float zero[BLOCK_ROWS];
    float s[BLOCK_ROWS][COLUMNS];
    for (int64_t u = 0; u < scan->units; u++)
        for (int i = 0; i < scan->rows; i += BLOCK_ROWS) {
            score_block(s, scan->x + (int64_t)i * c->dim, scan->y + u * COLUMNS * c->dim, zero,
                        scan->beta + u * COLUMNS, c->dim);
            for (int r = 0; r < BLOCK_ROWS && i + r < scan->rows; r++)
                keep(c, scan->query[i + r], s[r], scan->position + (uint32_t)(u * COLUMNS));
        }
}

static void nearest(float *best, int32_t *index, float *second, const ferry_tile *tile)
{
    float s[BLOCK_ROWS][COLUMNS];
    for (int i = 0; i < ROWS; i++) best[i] = second[i] = -INFINITY, index[i] = 0;
    for (int64_t u = 0; u < tile->units; u++)
        for (int i = 0; i < ROWS; i += BLOCK_ROWS) {
            score_block(s, tile->x + (int64_t)i * tile->dim, tile->y + u * COLUMNS * tile->dim, tile->alpha + i,
                        tile->beta + u * COLUMNS, tile->dim);
            for (int r = 0; r < BLOCK_ROWS; r++)
                for (int j = 0; j < COLUMNS; j++) {
                    const float score = s[r][j];
                    if (score > best[i + r]) {
                        second[i + r] = best[i + r];
                        best[i + r] = score;
                        index[i + r] = (int32_t)(u * COLUMNS + j);
                    } else if (score > second[i + r])
                        second[i + r] = score;
                }
        }
}

static int64_t visit(int32_t *list, float *distance, float *bound, const ferry_visits *v, int i, float norm2, float own,
                     float reach)
{
    const visit_bounds b = visit_bounds_of(v->dim, norm2, own, reach);
    const float *score = v->scores + i * COLUMNS;
    int64_t found = 0;
    for (int64_t u = 0; u < v->units; u++, score += TILE)
        for (int l = 0; l < COLUMNS; l++) {
            const int64_t j = u * COLUMNS + l;
            const float size = b.norm + v->norm[j], error = b.unit * size * size + b.tiny;
            const float d2 = b.norm2 - 2 * score[l], ball = (b.reach + v->radius[j]) * BALL_MARGIN;
            const float apart = b.own - score[l] - 0.5f * (b.error + error), gap = v->gap[j] * GAP_MARGIN;
            if (!(v->radius[j] >= 0) || d2 - error >= ball * ball || (v->bisector && apart >= b.reach * gap)) continue;
            list[found] = (int32_t)j;
            distance[found] = d2 > 0 ? sqrtf(d2) : 0;
            bound[found++] = v->bisector && gap > 0 ? apart / gap : -INFINITY;
        }
    return found;
}

/* integers in the order of the floats */
static float float_of(int32_t order)
{
    const int32_t bits = order >= 0 ? order : order ^ 0x7fffffff;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static int64_t count_from(const float *s, int64_t units, float cut)
{
    int64_t count = 0;
    for (int64_t u = 0; u < units; u++, s += TILE)
        for (int j = 0; j < COLUMNS; j++) count += s[j] >= cut;
    return count;
}
static float row_kth(const float *scores, int i, int64_t units, int64_t k)
{
    const float *s = scores + i * COLUMNS;
    int32_t low = (int32_t)0x80800000, high = 0x7f800000; /* of -FLT_MAX, which k numbers reach, and of infinity */
    if (count_from(s, units, float_of(low)) < k) return -INFINITY;
    while (low < high) {
        const int32_t middle = (int32_t)(((int64_t)low + high + 1) >> 1);
        if (count_from(s, units, float_of(middle)) >= k)
            low = middle;
        else
            high = middle - 1;
    }
    return float_of(low);
}

static double total(const double sum[8])
{
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}
static double distance2(const float *a, const float *b, int dim)
{
    double sum[8] = {0};
    for (int k = 0; k < dim; k++) {
        const double apart = (double)a[k] - (double)b[k];
        sum[k % 8] = fma(apart, apart, sum[k % 8]);
    }
    return total(sum);
}
static double length(const float *a, int dim)
{
    double sum[8] = {0};
    for (int k = 0; k < dim; k++) sum[k % 8] = fma((double)a[k], (double)a[k], sum[k % 8]);
    return sqrt(total(sum));
}
static double cosine(const float *a, const float *b, int dim)
{
    const double la = length(a, dim), lb = length(b, dim);
    double sum[8] = {0};
    for (int k = 0; k < dim; k++) {
        const double apart = (double)a[k] / la - (double)b[k] / lb;
        sum[k % 8] = fma(apart, apart, sum[k % 8]);
    }
    return total(sum) / 2;
}

const ferry_scans ferry_scans_generic = {
    .name = "generic",
    .scan = scan,
    .settle = settle,
    .nearest = nearest,
    .visit = visit,
    .row_kth = row_kth,
    .distance2 = distance2,
    .cosine = cosine,
};

/* How far the plan is from the product of its marginals: sum |P_ij - r_i c_j / mass| over a few rows, which are copied
 * into panels of their own. A tile does not depend on its place, so these rows have the bits of the whole pass. */
#include "groups_impl.h"
#include "result_impl.h"
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    ((int64_t)ROWS * COLUMNS)
#define SAMPLE  (4 * ROWS)

/* The rows of the sample that this rank holds. */
typedef struct sample {
    ferry_source source;
    int64_t row[SAMPLE]; /* here */
    int place[SAMPLE];   /* in the whole sample */
    int count;
    double f[SAMPLE];
    double *apart; /* [target blocks here][SAMPLE], by place */
} sample;

/* Row `place` of the sample: the middle of one of SAMPLE equal stretches. */
static int64_t row_of(const ferry_sinkhorn *s, int place)
{
    const int64_t n = s->grid->source.blocks.rows;
    return n <= SAMPLE ? place : (2 * (int64_t)place + 1) * n / (2 * SAMPLE);
}

static ferry_status pack(sample *k, const ferry_sinkhorn *s)
{
    const int dim = s->cost->dim;
    const int64_t panels = (k->count + ROWS - 1) / ROWS;
    FERRY_AUTO double *row = NULL;
    FERRY_AUTO float *rows = NULL;
    k->source = (ferry_source){.rows = k->count, .panels = panels};
    FERRY_TRY(ferry_alloc(&row, dim));
    FERRY_TRY(ferry_alloc(&rows, panels * ROWS * dim));
    FERRY_TRY(ferry_alloc(&k->source.norm, panels * ROWS));
    if (s->source->d)
        FERRY_TRY(ferry_alloc(&k->source.d, panels * ROWS * dim));
    else
        FERRY_TRY(ferry_alloc(&k->source.f, panels * ROWS * dim));
    for (int p = 0; p < k->count; p++) {
        k->source.norm[p] = s->source->norm[k->row[p]];
        ferry_source_row(row, s->cost, k->row[p]);
        for (int e = 0; e < dim; e++) rows[p * dim + e] = (float)row[e];
        if (k->source.d) memcpy(k->source.d + (int64_t)p * dim, row, (size_t)dim * sizeof *row);
    }
    for (int64_t p = 0; p < panels && k->source.f; p++)
        s->cost->options.kernels->pack_rows(k->source.f + p * ROWS * dim, rows + p * ROWS * dim,
                                            k->count - p * ROWS < ROWS ? k->count - p * ROWS : ROWS, dim);
    return FERRY_OK;
}

/* Local. */
static ferry_status open_sample(sample *k, const ferry_sinkhorn *s)
{
    const int64_t n = s->grid->source.blocks.rows, most = n < SAMPLE ? n : SAMPLE;
    for (int p = 0; p < most; p++) {
        const int64_t row = row_of(s, p) - s->grid->source_first;
        if (row < 0 || row >= s->sources || !(s->a[row] > 0)) continue;
        k->row[k->count] = row;
        k->place[k->count++] = p;
    }
    for (int p = 0; p < SAMPLE; p++) k->f[p] = p < k->count ? s->f[k->row[p]] : -INFINITY;
    FERRY_TRY(ferry_alloc(&k->apart, (int64_t)s->cost->blocks * SAMPLE));
    return pack(k, s);
}
static void close_sample(sample *k)
{
    ferry_source_close(&k->source);
    free(k->apart);
}

/* sum_j |P_ij - share c_j| of row i of the panel over units first ... end - 1 */
static double apart(const ferry_sinkhorn *s, const ferry_panel *panel, int i, double share, int64_t first, int64_t end)
{
    double sum = 0;
    for (int64_t u = first; u < end; u++) {
        const int64_t at = u * TILE + (int64_t)i * COLUMNS, left = s->targets - u * COLUMNS;
        for (int64_t j = 0; j < COLUMNS && j < left; j++)
            sum += fabs((panel->f ? (double)panel->f[at + j] : panel->d[at + j]) - share * s->c[u * COLUMNS + j]);
    }
    return sum;
}
static void take_panel(sample *k, const ferry_sinkhorn *s, const ferry_panel *panel, int64_t index, double mass)
{
    for (int b = 0; b < panel->blocks; b++)
        for (int64_t p = index * ROWS; p < (index + 1) * ROWS && p < k->count; p++)
            k->apart[(int64_t)b * SAMPLE + k->place[p]] =
                apart(s, panel, (int)(p - index * ROWS), s->r[k->row[p]] / mass, panel->unit[b], panel->unit[b + 1]);
}

/* Local. */
static ferry_status evaluate(ferry_forest **forest, sample *k, ferry_sinkhorn *s, double mass)
{
    FERRY_TRY(open_sample(k, s));
    FERRY_TRY(ferry_forest_open(forest, SAMPLE, s->grid->target.blocks.count, FERRY_JOIN_SUM));
    ferry_target_set(&s->target, s->cost, s->g, s->epsilon);
    s->panel[0].scored = false;
    for (int64_t p = 0; p < k->source.panels; p++) {
        ferry_panel_plan(&s->panel[0], &k->source, p, k->f + p * ROWS, &s->target);
        take_panel(k, s, &s->panel[0], p, mass);
    }
    for (int b = 0; b < s->cost->blocks; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, *forest));
        memcpy(leaf, k->apart + (int64_t)b * SAMPLE, SAMPLE * sizeof *leaf);
        ferry_forest_add(*forest, s->grid->target.block[s->grid->col] + b);
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status find(double *independence, ferry_forest **forest, sample *k, ferry_sinkhorn *s, double mass)
{
    double sums[2 * SAMPLE] = {0}, far = 0, all = 0; /* of each row: distance, mass */
    FERRY_TRY(ferry_agree(s->grid->world, evaluate(forest, k, s, mass)));
    FERRY_TRY(
        ferry_agree(s->grid->world, ferry_forest_reduce(sums, *forest, &s->grid->across, s->cost->options.reduction)));
    for (int p = 0; p < k->count; p++) sums[SAMPLE + k->place[p]] = s->r[k->row[p]];
    ferry_max_doubles(&s->grid->down, sums, (int64_t)2 * SAMPLE); /* a row has numbers on one grid row, else 0 */
    for (int p = 0; p < SAMPLE; p++) {
        far += sums[p];
        all += sums[SAMPLE + p];
    }
    *independence = all > 0 ? far / all : 0;
    return FERRY_OK;
}

ferry_status ferry_sinkhorn_independence(ferry_potentials *out, ferry_sinkhorn *s)
{
    sample k = {0};
    ferry_forest *forest = NULL;
    ferry_status status = find(&out->independence, &forest, &k, s, out->mass);
    ferry_forest_close(&forest);
    close_sample(&k);
    return status;
}

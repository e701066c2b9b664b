/* Every function of every table this CPU supports against formulas in float64, at widths and lengths that have odd
 * ends; results that do not depend on how a run of units is cut; one table for all ranks. */
#include "kernels/kernels.h"
#include "kernels/peak.h"
#include "mpi/memory.h"
#include "mpi/shard.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    (ROWS * COLUMNS)

static uint64_t seed = 1;
static double uniform(void) /* [-1, 1) */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)seed * 0x1p-63;
}
static float *floats(int64_t count)
{
    float *out = NULL;
    if (ferry_alloc(&out, count) != FERRY_OK) abort();
    for (int64_t i = 0; i < count; i++) out[i] = (float)uniform();
    return out;
}
static double *doubles(int64_t count)
{
    double *out = NULL;
    if (ferry_alloc(&out, count) != FERRY_OK) abort();
    return out;
}
static bool close_to(double value, double right, double tolerance)
{
    return value == right || fabs(value - right) <= tolerance;
}

/* the same bits */
static bool same(const void *a, const void *b, size_t bytes)
{
    return !memcmp((const unsigned char *)a, (const unsigned char *)b, bytes);
}

/* One panel of 21 rows against units * 32 - 5 columns: the rest is padding. */
typedef struct problem {
    int dim;
    int64_t units, columns;
    float *x, *y, *alpha, *beta, *x2, *y2;
    double *dot, *size; /* [columns][24] <x_i, y_j> and sum |x_ik y_jk| */
} problem;
enum { PRESENT = 21, ABSENT = 5 };

static void problem_open(problem *p, int dim, int64_t units)
{
    *p = (problem){.dim = dim, .units = units, .columns = units * COLUMNS};
    p->x = floats(ROWS * (int64_t)dim), p->y = floats(p->columns * dim);
    p->alpha = floats(ROWS), p->beta = floats(p->columns);
    p->x2 = floats(ROWS), p->y2 = floats(p->columns);
    p->dot = doubles(p->columns * ROWS), p->size = doubles(p->columns * ROWS);
    memset(p->x + (int64_t)PRESENT * dim, 0, (size_t)(ROWS - PRESENT) * dim * sizeof(float));
    memset(p->y + (p->columns - ABSENT) * dim, 0, (size_t)ABSENT * dim * sizeof(float));
    for (int i = 0; i < ROWS; i++) p->alpha[i] = i < PRESENT ? 3 * p->alpha[i] - 2 : -INFINITY;
    for (int64_t j = 0; j < p->columns; j++)
        p->beta[j] = j < p->columns - ABSENT && j % 29 != 7 ? 5 * p->beta[j] : -INFINITY;
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        for (int k = 0; k < dim; k++) sum += (double)p->x[(int64_t)i * dim + k] * p->x[(int64_t)i * dim + k];
        p->x2[i] = (float)sum;
    }
    for (int64_t j = 0; j < p->columns; j++) {
        const float *y = p->y + j * dim;
        double sum = 0;
        for (int k = 0; k < dim; k++) sum += (double)y[k] * y[k];
        p->y2[j] = (float)sum;
        for (int i = 0; i < ROWS; i++)
            for (int k = 0; k < dim; k++) {
                double term = (double)p->x[(int64_t)i * dim + k] * y[k];
                p->dot[j * ROWS + i] += term;
                p->size[j * ROWS + i] += fabs(term);
            }
    }
}
static void problem_close(problem *p)
{
    free(p->x), free(p->y), free(p->alpha), free(p->beta), free(p->x2), free(p->y2), free(p->dot), free(p->size);
}

/* The same points as one table packs them. */
typedef struct packed {
    float *x, *y;
    ferry_tile tile;
} packed;
static packed pack(const ferry_kernels *k, const problem *p, ferry_tile_kind kind, double power, double scale)
{
    packed out = {.x = floats(ROWS * (int64_t)p->dim), .y = floats(p->columns * p->dim)};
    k->pack_rows(out.x, p->x, PRESENT, p->dim);
    for (int64_t u = 0; u < p->units; u++)
        k->pack_columns(out.y + u * COLUMNS * p->dim, p->y + u * COLUMNS * p->dim,
                        u < p->units - 1 ? COLUMNS : COLUMNS - ABSENT, p->dim);
    out.tile = (ferry_tile){.kind = kind,
                            .dim = p->dim,
                            .units = p->units,
                            .x = out.x,
                            .y = out.y,
                            .alpha = p->alpha,
                            .beta = p->beta,
                            .p = power,
                            .scale = scale,
                            .x2 = p->x2,
                            .y2 = p->y2};
    return out;
}
static void packed_close(packed *p)
{
    free(p->x), free(p->y);
}
/* units first ... first + count - 1 of a tile */
static ferry_tile part(const ferry_tile *whole, int64_t first, int64_t count)
{
    ferry_tile out = *whole;
    out.units = count;
    out.y += first * COLUMNS * whole->dim, out.beta += first * COLUMNS, out.y2 += first * COLUMNS;
    return out;
}

/* 2^s over its whole range */
static void test_exponentials(const ferry_kernels *k)
{
    enum { UNITS = 340 };
    float *s = floats(UNITS * TILE), *p = floats(UNITS * TILE);
    double worst = 0, sums[ROWS];
    for (int64_t i = 0; i < UNITS * TILE; i++) {
        double at = (double)i / (UNITS * TILE);
        p[i] = s[i] = i % 3 == 0   ? (float)(-126 + 253.99 * at)
                      : i % 3 == 1 ? (float)(-2 * at)
                                   : (float)floor(-126 * at);
    }
    k->exponentials(p, sums, UNITS);
    for (int64_t i = 0; i < UNITS * TILE; i++) {
        worst = fmax(worst, fabs(p[i] / exp2((double)s[i]) - 1));
        if (i % 3 == 2) CHECK(p[i] == (float)exp2((double)s[i])); /* exact for whole numbers */
    }
    CHECK(worst < 3e-7);
    memset(s, 0, TILE * sizeof *s);
    const float small[] = {-INFINITY, -3e38f, -1e30f, -1e9f, -8388609, -300, -151, -150, -128};
    for (int i = 0; i < 9; i++) s[i] = small[i];
    s[32] = 127.9f, s[33] = 128, s[34] = 1000, s[35] = INFINITY, s[64] = NAN, s[96] = -126.5f, s[97] = -126;
    k->exponentials(s, sums, 1);
    for (int i = 0; i < 9; i++) CHECK(s[i] == 0 && !signbit(s[i]));
    CHECK(sums[0] == COLUMNS - 9);
    CHECK(close_to(s[32], exp2(127.9f), 3e-7 * exp2(127.9f)) && isinf(s[33]) && isinf(s[34]) && isinf(s[35]));
    CHECK(isinf(sums[1]) && isnan(s[64]) && isnan(sums[2]) && s[96] <= 0x1p-126f && s[97] == 0x1p-126f);
    free(s), free(p);
}

/* sums of p log2 p beside the same plan and row sums; they are added to what is there */
static void test_scores(const ferry_kernels *k, const ferry_tile *tile, const float *s, const float *plan,
                        const double *sums)
{
    const int64_t size = tile->units * TILE;
    float *again = floats(size);
    double scores[ROWS], other[ROWS], right[ROWS], allowed[ROWS];
    ferry_tile scored = *tile;
    scored.scores = scores;
    for (int i = 0; i < ROWS; i++) scores[i] = right[i] = i, allowed[i] = 1e-12;
    k->plan(again, other, &scored);
    CHECK(same(again, plan, (size_t)size * sizeof *plan) && same(other, sums, sizeof other));
    for (int64_t e = 0; e < size; e++) {
        const int i = (int)(e % TILE / COLUMNS);
        if (!(plan[e] > 0)) continue;
        right[i] += (double)plan[e] * s[e];
        allowed[i] += 2e-6 * fabs((double)plan[e] * s[e]);
    }
    for (int i = 0; i < ROWS; i++) CHECK(close_to(scores[i], right[i], allowed[i]));
    free(again);
}

/* scores, plan, row sums of linear costs; the same tiles wherever they stand in a call */
static void test_linear(const ferry_kernels *k, const problem *p)
{
    packed at = pack(k, p, FERRY_TILE_LINEAR, 0, 0);
    int64_t size = p->units * TILE;
    float *s = floats(size), *plan = floats(size), *again = floats(size);
    double sums[ROWS], other[ROWS], right[ROWS] = {0}, wrong = 0;
    k->scores(s, &at.tile);
    k->plan(plan, sums, &at.tile);
    for (int64_t e = 0; e < size; e++) {
        int64_t j = e / TILE * COLUMNS + e % COLUMNS;
        int i = (int)(e % TILE / COLUMNS);
        double exponent = p->dot[j * ROWS + i] + p->alpha[i] + p->beta[j];
        double error = 5e-7 * (p->size[j * ROWS + i] + fabs(p->alpha[i]) + fabs(p->beta[j]));
        if (!close_to(s[e], exponent, error)) wrong++;
        if (!close_to(plan[e], exp2(exponent), exp2(exponent) * (error + 4e-7))) wrong++;
        right[i] += plan[e];
    }
    CHECK(wrong == 0);
    for (int i = 0; i < ROWS; i++) CHECK(close_to(sums[i], right[i], 1e-6 * right[i]));
    memcpy(again, s, size * sizeof *s);
    k->exponentials(again, other, p->units);
    CHECK(same(again, plan, size * sizeof *s) && same(sums, other, sizeof sums));
    for (int64_t first = 0, run = 1; first < p->units; first += run, run = run % 5 + 2) {
        ferry_tile cut = part(&at.tile, first, first + run < p->units ? run : p->units - first);
        k->scores(again + first * TILE, &cut);
    }
    CHECK(same(again, s, size * sizeof *s));
    for (int64_t u = p->units - 1; u >= 0; u--) {
        ferry_tile cut = part(&at.tile, u, 1);
        k->plan(again, other, &cut);
        CHECK(same(again, plan + u * TILE, TILE * sizeof *s));
    }
    test_scores(k, &at.tile, s, plan, sums);
    free(s), free(plan), free(again), packed_close(&at);
}

static double arccos_of(double dot, double norms, int order)
{
    double c = fmin(fmax(dot / (norms + 1e-8), -1), 1), t = acos(c), j = M_PI - t;
    if (order == 1) j = sin(t) + (M_PI - t) * c;
    if (order == 2) j = 3 * sin(t) * c + (M_PI - t) * (1 + 2 * c * c);
    return -log(pow(norms, order) * j / M_PI + 1e-8);
}
/* cost of a pair from <x, y> or from sum |x - y|^p; error: how far its float32 value may be */
static double cost_of(const problem *p, const ferry_tile *t, int i, int64_t j, double *error)
{
    double sum = p->dot[j * ROWS + i], off = 4e-7 * (p->x2[i] + p->y2[j]), cost;
    double norms = sqrt(p->x2[i]) * sqrt(p->y2[j]);
    switch (t->kind) {
    case FERRY_TILE_EUCLIDEAN_P:
        sum = fmax(p->x2[i] + p->y2[j] - 2 * sum, 0);
        *error = pow(sum + off, t->p / 2) - pow(fmax(sum - off, 0), t->p / 2);
        return pow(sum, t->p / 2);
    case FERRY_TILE_ARCCOS:
        off = 4e-7 * norms;
        cost = arccos_of(sum, norms, (int)t->p);
        *error = fabs(arccos_of(sum + off, norms, (int)t->p) - arccos_of(sum - off, norms, (int)t->p)) +
                 1e-6 * pow(norms, t->p) * exp(cost);
        return cost;
    default:
        sum = 0;
        for (int k = 0; k < p->dim; k++)
            sum += pow(fabs((double)p->x[(int64_t)i * p->dim + k] - p->y[j * p->dim + k]), t->p);
        *error = 0;
        return t->kind == FERRY_TILE_PNORM ? sum / t->p : pow(sum, 2 / t->p) / 2;
    }
}

static void test_kind(const ferry_kernels *k, const problem *p, ferry_tile_kind kind, double power)
{
    const double scale = 0.37;
    packed at = pack(k, p, kind, power, scale);
    int64_t size = p->units * TILE, wrong = 0;
    float *s = floats(size), *plan = floats(size), *again = floats(size);
    double sums[ROWS], other[ROWS];
    k->scores(s, &at.tile);
    for (int64_t e = 0; e < size; e++) {
        int64_t j = e / TILE * COLUMNS + e % COLUMNS;
        int i = (int)(e % TILE / COLUMNS);
        double error, cost = cost_of(p, &at.tile, i, j, &error), free = (double)p->alpha[i] + p->beta[j];
        if (!close_to(s[e], free - scale * cost, scale * (error + 4e-6 * fabs(cost)) + 3e-7 * fabs(free))) wrong++;
    }
    CHECK(wrong == 0);
    if (wrong) fprintf(stderr, "%s: kind %d, p %g, dim %d: %ld wrong\n", k->name, kind, power, p->dim, (long)wrong);
    memcpy(again, s, size * sizeof *s);
    k->exponentials(again, other, p->units);
    k->plan(plan, sums, &at.tile);
    CHECK(same(again, plan, size * sizeof *s) && same(sums, other, sizeof sums));
    test_scores(k, &at.tile, s, plan, sums);
    ferry_tile last = part(&at.tile, p->units - 1, 1);
    k->scores(again, &last);
    CHECK(same(again, s + size - TILE, TILE * sizeof *s));
    free(s), free(plan), free(again), packed_close(&at);
}

/* Panels together give the bits of each alone. */
/* Blocks of 1, 2, 3, ... units, by the seed; some are empty, all where there is but one. Returns how many. */
static int cut_blocks(int64_t *end, int most, int64_t units, int number)
{
    int count = 0;
    int64_t u = 0;
    for (; u < units && count < most - 1; u += (count * 5 + number) % 4) end[count++] = u;
    end[count++] = units;
    return count;
}
static void test_together(const ferry_kernels *k, const problem *p, ferry_tile_kind kind, double power)
{
    enum { MOST = FERRY_PANELS_AT_ONCE, MOST_ENDS = 64 };
    const uint64_t before = seed; /* other tests keep their numbers */
    packed at = pack(k, p, kind, power, 0.37);
    const int64_t size = p->units * TILE, rows = (int64_t)ROWS * p->dim;
    ferry_tile tile[MOST];
    float *plan[MOST], *x = floats(MOST * rows), *alpha = floats(MOST * ROWS), *one = floats(size);
    double *sums[MOST], alone[ROWS], *scores = doubles(MOST_ENDS * ROWS), score[ROWS];
    int64_t end[MOST_ENDS];
    for (int g = 0; g < MOST; g++) {
        tile[g] = at.tile;
        tile[g].x = x + g * rows;
        tile[g].alpha = alpha + g * ROWS;
        tile[g].scores = g % 2 ? scores : NULL;
        plan[g] = floats(size), sums[g] = doubles(MOST_ENDS * ROWS);
    }
    for (int panels = 1; panels <= MOST; panels += panels < 3 ? 1 : 5) {
        const int blocks = cut_blocks(end, MOST_ENDS, p->units, panels);
        memset(scores, 0, MOST_ENDS * ROWS * sizeof *scores);
        k->plans(plan, sums, tile, panels, end, blocks);
        for (int g = 0; g < panels; g++)
            for (int b = 0; b < blocks; b++) {
                const int64_t first = b ? end[b - 1] : 0;
                ferry_tile block = part(&tile[g], first, end[b] - first);
                memset(score, 0, sizeof score);
                if (block.scores) block.scores = score;
                k->plan(one, alone, &block);
                CHECK(same(one, plan[g] + first * TILE, (size_t)(block.units * TILE) * sizeof *one));
                CHECK(same(alone, sums[g] + b * ROWS, sizeof alone));
                if (g == 1 && panels == 2) CHECK(same(score, scores + b * ROWS, sizeof score));
            }
    }
    ferry_tile nothing = tile[0]; /* a grid column without targets */
    double untouched = 7, *nowhere = &untouched;
    nothing.units = 0;
    k->plans(plan, &nowhere, &nothing, 1, NULL, 0);
    CHECK(untouched == 7);
    free(scores);
    for (int g = 0; g < MOST; g++) free(plan[g]), free(sums[g]);
    free(x), free(alpha), free(one), packed_close(&at);
    seed = before;
}

static void test_columns(const ferry_kernels *k, const float *plan, int64_t units)
{
    float *q = floats(ROWS);
    double *c = doubles(units * COLUMNS), *cut = doubles(units * COLUMNS);
    for (int i = 0; i < ROWS; i++) q[i] = fabsf(q[i]) + 0.01f;
    for (int64_t j = 0; j < units * COLUMNS; j++) c[j] = cut[j] = (double)j;
    k->column_sums(c, plan, q, units);
    for (int64_t u = 0; u < units; u += 3)
        k->column_sums(cut + u * COLUMNS, plan + u * TILE, q, units - u < 3 ? units - u : 3);
    CHECK(same(c, cut, units * COLUMNS * sizeof *c));
    for (int64_t j = 0; j < units * COLUMNS; j++) {
        double right = 0;
        for (int i = 0; i < ROWS; i++) right += (double)q[i] * plan[j / COLUMNS * TILE + i * COLUMNS + j % COLUMNS];
        CHECK(close_to(c[j], right + (double)j, 2e-6 * right + 1e-15 * (double)j));
    }
    free(q), free(c), free(cut);
}

/* Runs of units in turns: two units of one group, one unit of two groups split at a lane, and so on. */
typedef struct columns_groups {
    int64_t *run;
    int32_t *part, *group;
    float *mask;
    int runs;
} columns_groups;
static columns_groups make_groups(int64_t units)
{
    columns_groups g = {NULL, NULL, NULL, NULL, 0};
    if (ferry_alloc(&g.run, units + 1) != FERRY_OK || ferry_alloc(&g.part, units + 1) != FERRY_OK ||
        ferry_alloc(&g.group, 2 * units) != FERRY_OK || ferry_alloc(&g.mask, 2 * units * COLUMNS) != FERRY_OK)
        abort();
    int parts = 0;
    for (int64_t u = 0; u < units; u += g.runs % 2 ? 2 : 1) {
        const int split = g.runs % 2 ? (int)(u % (COLUMNS - 1)) + 1 : COLUMNS;
        g.run[g.runs] = u, g.part[g.runs++] = parts;
        for (int j = 0; j < COLUMNS; j++) g.mask[(parts + (j >= split)) * COLUMNS + j] = 1;
        g.group[parts] = (g.runs * 5) % 7, g.group[parts + 1] = (g.runs * 5 + 3) % 7;
        parts += split < COLUMNS ? 2 : 1;
    }
    g.run[g.runs] = units, g.part[g.runs] = parts;
    return g;
}
static void free_groups(columns_groups *g)
{
    free(g->run), free(g->part), free(g->group), free(g->mask);
}
/* The masses of row groups ends[0], ends[1], ... and column groups, in whole numbers: the same for a call cut into
 * pieces and without column sums, whose bits are those of column_sums. */
static void test_masses(const ferry_kernels *k, const float *plan, int64_t units, const int *ends, int segments)
{
    enum { GROUPS = 7 };
    columns_groups g = make_groups(units);
    float *q = floats(ROWS);
    double *c = doubles(units * COLUMNS), *right = doubles(units * COLUMNS), mass[ROWS][GROUPS] = {{0}}, largest = 0;
    int64_t whole[ROWS][GROUPS] = {{0}}, pieces[ROWS][GROUPS] = {{0}};
    ferry_masses into = {segments, {0}, {0}, 0x1p30, g.run, g.part, g.mask, g.group, g.runs}, cut;
    for (int i = 0; i < ROWS; i++) q[i] = fabsf(q[i]) + 0.01f;
    for (int s = 0; s < segments; s++) into.end[s] = ends[s], into.row[s] = whole[s];
    cut = into;
    for (int s = 0; s < segments; s++) cut.row[s] = pieces[s];
    k->column_sums(right, plan, q, units);
    k->column_masses(c, plan, q, 0, units, &into);
    CHECK(same(c, right, units * COLUMNS * sizeof *c));
    for (int64_t u = 0; u < units; u += 5)
        k->column_masses(NULL, plan + u * TILE, q, u, units - u < 5 ? units - u : 5, &cut);
    CHECK(same(whole, pieces, sizeof whole));
    for (int r = 0; r < g.runs; r++)
        for (int64_t u = g.run[r]; u < g.run[r + 1]; u++)
            for (int i = 0, s = 0; i < ROWS; i++) {
                s += i == ends[s];
                for (int j = 0; j < COLUMNS; j++) {
                    const int32_t first = g.part[r], split = g.part[r + 1] - first > 1;
                    const int32_t part = first + (split && g.mask[(first + 1) * COLUMNS + j] > 0);
                    mass[s][g.group[part]] += (double)q[i] * plan[u * TILE + i * COLUMNS + j];
                }
            }
    for (int s = 0; s < segments; s++)
        for (int l = 0; l < GROUPS; l++) largest = fmax(largest, mass[s][l]);
    for (int s = 0; s < segments; s++)
        for (int l = 0; l < GROUPS; l++)
            CHECK(close_to((double)whole[s][l] * 0x1p-30, mass[s][l], 2e-6 * mass[s][l] + 1e-7 * (double)units));
    CHECK(largest > 0);
    free(q), free(c), free(right), free_groups(&g);
}

/* Two panels join; column 3 of each unit never has a finite exponent, column 4 only in the second. */
static void test_logsumexp(const ferry_kernels *k, int64_t units)
{
    float *s = floats(2 * units * TILE), max[ROWS];
    int64_t columns = units * COLUMNS;
    double *m = doubles(columns), *t = doubles(columns), *m1 = doubles(columns), *t1 = doubles(columns);
    for (int64_t e = 0; e < 2 * units * TILE; e++) {
        int64_t j = e % COLUMNS;
        s[e] *= j == 9 ? 900 : j == 10 ? 1e5f : 20;
        if (j == 3 || (j == 4 && e < units * TILE) || e % TILE / COLUMNS == 20) s[e] = -INFINITY;
    }
    for (int64_t j = 0; j < columns; j++) m[j] = m1[j] = -INFINITY;
    for (int panel = 0; panel < 2; panel++) {
        k->column_lse(m, t, s + panel * units * TILE, units);
        for (int64_t u = 0; u < units; u++)
            k->column_lse(m1 + u * COLUMNS, t1 + u * COLUMNS, s + (panel * units + u) * TILE, 1);
    }
    CHECK(same(m, m1, columns * sizeof *m) && same(t, t1, columns * sizeof *t));
    for (int64_t j = 0; j < columns; j++) {
        double top = -INFINITY, sum = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int i = 0; i < 2 * ROWS; i++) {
                double at = s[(i / ROWS * units + j / COLUMNS) * TILE + i % ROWS * COLUMNS + j % COLUMNS];
                if (pass == 0) top = fmax(top, at);
                if (pass == 1 && top > -INFINITY) sum += exp2(at - top);
            }
        if (top == -INFINITY)
            CHECK(m[j] == -INFINITY && t[j] == 0);
        else
            CHECK(m[j] == ceil(top) && close_to(t[j], sum * exp2(top - m[j]), 3e-6 * t[j]));
    }
    k->row_max(max, s, units);
    for (int i = 0; i < ROWS; i++) {
        float top = -INFINITY;
        for (int64_t e = 0; e < units * TILE; e++)
            if (e % TILE / COLUMNS == i && s[e] > top) top = s[e];
        CHECK(max[i] == top);
    }
    free(s), free(m), free(t), free(m1), free(t1);
}

static void test_above(const ferry_kernels *k, const float *plan, int64_t units)
{
    int64_t columns = units * COLUMNS;
    float *values = floats(columns + 16);
    int32_t *found = NULL;
    if (ferry_alloc(&found, columns + 16) != FERRY_OK) abort();
    const float cuts[] = {-1, 0, 1e-3f, 0.3f, plan[5 * COLUMNS + 1], INFINITY};
    for (int c = 0; c < 6; c++)
        for (int i = 0; i < ROWS; i += 5) {
            int64_t count = k->row_above(values, found, plan, i, units, cuts[c]), right = 0;
            for (int64_t j = 0; j < columns; j++) {
                float at = plan[j / COLUMNS * TILE + i * COLUMNS + j % COLUMNS];
                if (at < cuts[c]) continue;
                CHECK(right < count && values[right] == at && found[right] == j);
                right++;
            }
            CHECK(count == right);
        }
    free(values), free(found);
}

static void test_products(const ferry_kernels *k, const float *plan, int64_t units, int width)
{
    int64_t columns = units * COLUMNS;
    float *v = floats(columns * width);
    double *out = doubles(ROWS * width), *back = doubles(columns * width), wrong = 0;
    for (int e = 0; e < ROWS * width; e++) out[e] = e;
    for (int64_t e = 0; e < columns * width; e++) back[e] = (double)-e;
    k->times(out, plan, v, width, units);
    k->transposed_times(back, plan, v, width, units); /* the first 24 rows of v */
    for (int i = 0; i < ROWS; i++)
        for (int w = 0; w < width; w++) {
            double sum = 0, size = 0;
            for (int64_t j = 0; j < columns; j++) {
                double term = (double)plan[j / COLUMNS * TILE + i * COLUMNS + j % COLUMNS] * v[j * width + w];
                sum += term, size += fabs(term);
            }
            if (!close_to(out[i * width + w], sum + i * width + w, 2e-6 * size + 1e-12)) wrong++;
        }
    for (int64_t j = 0; j < columns; j++)
        for (int w = 0; w < width; w++) {
            double sum = 0, size = 0;
            for (int i = 0; i < ROWS; i++) {
                double term = (double)plan[j / COLUMNS * TILE + i * COLUMNS + j % COLUMNS] * v[i * width + w];
                sum += term, size += fabs(term);
            }
            if (!close_to(back[j * width + w], sum - (double)(j * width + w), 2e-6 * size + 1e-10)) wrong++;
        }
    CHECK(wrong == 0);
    free(v), free(out), free(back);
}

static const int dims[] = {1, 3, 30, 50, 351}, widths[] = {1, 5, 16, 33, 64};
static const int64_t lengths[] = {1, 2, 7, 40};
static const struct {
    ferry_tile_kind kind;
    double p;
} kinds[] = {{FERRY_TILE_EUCLIDEAN_P, 1}, {FERRY_TILE_EUCLIDEAN_P, 2}, {FERRY_TILE_EUCLIDEAN_P, 1.3},
             {FERRY_TILE_EUCLIDEAN_P, 3}, {FERRY_TILE_ARCCOS, 0},      {FERRY_TILE_ARCCOS, 1},
             {FERRY_TILE_ARCCOS, 2},      {FERRY_TILE_PNORM, 1},       {FERRY_TILE_PNORM, 2},
             {FERRY_TILE_PNORM, 3},       {FERRY_TILE_PNORM, 1.5},     {FERRY_TILE_SQ_PNORM, 1},
             {FERRY_TILE_SQ_PNORM, 2},    {FERRY_TILE_SQ_PNORM, 2.5}};

static void test_table(const ferry_kernels *k)
{
    CHECK(ROWS % k->x_width == 0);
    test_exponentials(k);
    for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
        float *plan = floats(lengths[n] * TILE);
        for (int64_t e = 0; e < lengths[n] * TILE; e++) plan[e] = e % 41 ? fabsf(plan[e]) : 0;
        test_columns(k, plan, lengths[n]);
        test_masses(k, plan, lengths[n], (const int[]){ROWS}, 1);
        test_masses(k, plan, lengths[n], (const int[]){5, 6, ROWS}, 3);
        test_logsumexp(k, lengths[n]);
        test_above(k, plan, lengths[n]);
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) test_products(k, plan, lengths[n], widths[w]);
        free(plan);
    }
}

/* Peaks are measured: more than a slow machine of long ago, and above what any kernel does. */
static void test_peaks(const ferry_kernels *const *tables, int count)
{
    double bytes = 0;
    CHECK(ferry_peak_bandwidth(&bytes) == FERRY_OK && bytes > 1e8 && bytes < 1e13);
    CHECK(ferry_last_cache() >= 1 << 20);
    for (int k = 0; k < count; k++) {
        const double peak = ferry_peak_multiply_adds(tables[k]);
        CHECK(peak > 1e7 && peak < 1e13);
        if (tables[k]->level > 0) CHECK(peak > 2 * ferry_peak_multiply_adds(ferry_kernels_find("generic")));
    }
}

static void test_pairs(const ferry_kernels **tables, int count)
{
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
            problem p;
            problem_open(&p, dims[d], lengths[n]);
            for (int k = 0; k < count; k++) {
                test_linear(tables[k], &p);
                if (lengths[n] * dims[d] < 3000) test_together(tables[k], &p, FERRY_TILE_LINEAR, 0);
                if (lengths[n] <= 7) test_together(tables[k], &p, FERRY_TILE_EUCLIDEAN_P, 1);
                for (size_t c = 0; c < sizeof kinds / sizeof *kinds && lengths[n] <= (dims[d] < 100 ? 7 : 1); c++)
                    test_kind(tables[k], &p, kinds[c].kind, kinds[c].p);
            }
            problem_close(&p);
        }
}

/* Identical points: the clamp keeps the root real, and a cost of zero is zero. */
static void test_same_points(const ferry_kernels *k)
{
    problem p;
    problem_open(&p, 3, 1);
    for (int i = 0; i < PRESENT; i++) memcpy(p.y + i * 3, p.x + i * 3, 3 * sizeof(float));
    memcpy(p.y2, p.x2, PRESENT * sizeof(float));
    for (size_t c = 0; c < sizeof kinds / sizeof *kinds; c++) {
        packed at = pack(k, &p, kinds[c].kind, kinds[c].p, 1);
        float s[TILE];
        k->scores(s, &at.tile);
        for (int i = 0; i < PRESENT; i++) {
            float free = p.alpha[i] + p.beta[i], mine = s[i * COLUMNS + i];
            CHECK(!isnan(mine));
            if (kinds[c].kind == FERRY_TILE_PNORM || kinds[c].kind == FERRY_TILE_SQ_PNORM) CHECK(mine == free);
            if (kinds[c].kind == FERRY_TILE_EUCLIDEAN_P) CHECK(close_to(mine, free, 2e-3));
        }
        packed_close(&at);
    }
    problem_close(&p);
}

static int tables_here(const ferry_kernels *tables[8])
{
    char names[64];
    int count = 0;
    snprintf(names, sizeof names, "%s", ferry_kernels_names());
    for (char *rest = names, *name; (name = strtok_r(rest, " ", &rest)); count++) {
        tables[count] = ferry_kernels_find(name);
        CHECK(tables[count] && !strcmp(tables[count]->name, name));
        if (!tables[count]) break;
        CHECK(count == 0 || tables[count]->level < tables[count - 1]->level);
    }
    if (count == 0 || !tables[0]) abort();
    CHECK(tables[count - 1]->level == 0 && !strcmp(tables[count - 1]->name, "generic"));
    return count;
}

static void test_choose(const ferry_world *world, const ferry_kernels **tables, int count)
{
    const ferry_kernels *k = NULL;
    unsetenv("FERRY_SIMD");
    CHECK(ferry_kernels_find("auto") == tables[0] && ferry_kernels_find(NULL) == tables[0]);
    CHECK(ferry_kernels_choose(&k, world, "auto") == FERRY_OK && k == tables[0]);
    for (int t = 0; t < count; t++)
        CHECK(ferry_kernels_choose(&k, world, tables[t]->name) == FERRY_OK && k == tables[t]);
    if (world->rank == world->size - 1) setenv("FERRY_SIMD", "generic", 1); /* the lowest counts */
    CHECK(ferry_kernels_choose(&k, world, NULL) == FERRY_OK && k == tables[count - 1]);
    if (world->rank == world->size - 1) setenv("FERRY_SIMD", "abacus", 1); /* one rank fails: all do */
    CHECK(ferry_kernels_choose(&k, world, "auto") == FERRY_E_DEVICE);
    CHECK(strstr(ferry_error(), "abacus") && strstr(ferry_error(), ferry_kernels_names()));
    CHECK(ferry_kernels_choose(&k, world, "generic") == FERRY_OK && k == tables[count - 1]);
    unsetenv("FERRY_SIMD");
    CHECK(ferry_kernels_find("sse9") == NULL && ferry_kernels_choose(&k, world, "sse9") == FERRY_E_DEVICE);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    const ferry_kernels *tables[8] = {NULL};
    int count = tables_here(tables);
    test_choose(&world, tables, count);
    for (int t = 0; t < count && world.rank == 0; t++) {
        test_table(tables[t]);
        test_same_points(tables[t]);
    }
    if (world.rank == 0 && world.size == 1) {
        test_pairs(tables, count);
        test_peaks(tables, count);
    }
    ferry_world_close(&world);
    return test_end();
}

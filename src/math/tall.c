/* Tall blocks: Gram matrices by canonical blocks. A block is made orthonormal by projection and Cholesky of its Gram
 * matrix, or column by column where that breaks down (modified Gram-Schmidt), again and again until no column loses
 * half of its length ("twice is enough", Kahan; Giraud, Langou, Rozloznik 2005).
 *
 * This file is compiled without contraction, and every sum is written out, so that the clones give the same bits. */
#include "math/tall.h"
#include "math/random.h"
#include "mpi/memory.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

#if defined __x86_64__ && defined __GNUC__ && !defined __clang__ && !defined __SANITIZE_ADDRESS__
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define PASSES    8    /* of orthonormalisation; random columns need three */
#define DEPENDENT 1e-6 /* what is left of a squared length when a factorisation still serves */

/* c [na][nb] += A^T B */
CLONES static void add_gram(double *c, const double *a, int64_t a_stride, int na, const double *b, int64_t b_stride,
                            int nb, int64_t rows)
{
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const double *a0 = a + r * a_stride, *a1 = a0 + a_stride, *a2 = a1 + a_stride, *a3 = a2 + a_stride;
        const double *b0 = b + r * b_stride, *b1 = b0 + b_stride, *b2 = b1 + b_stride, *b3 = b2 + b_stride;
        for (int i = 0; i < na; i++) {
            double *restrict row = c + (int64_t)i * nb;
            const double x0 = a0[i], x1 = a1[i], x2 = a2[i], x3 = a3[i];
            for (int j = 0; j < nb; j++) row[j] += (x0 * b0[j] + x1 * b1[j]) + (x2 * b2[j] + x3 * b3[j]);
        }
    }
    for (; r < rows; r++)
        for (int i = 0; i < na; i++)
            for (int j = 0; j < nb; j++) c[(int64_t)i * nb + j] += a[r * a_stride + i] * b[r * b_stride + j];
}

/* out [n] += sign v C, one row */
CLONES static void add_row(double *restrict out, const double *v, const double *c, int m, int n, double sign)
{
    int k = 0;
    for (; k + 4 <= m; k += 4) {
        const double *c0 = c + (int64_t)k * n, *c1 = c0 + n, *c2 = c1 + n, *c3 = c2 + n;
        const double v0 = sign * v[k], v1 = sign * v[k + 1], v2 = sign * v[k + 2], v3 = sign * v[k + 3];
        for (int j = 0; j < n; j++) out[j] += (v0 * c0[j] + v1 * c1[j]) + (v2 * c2[j] + v3 * c3[j]);
    }
    for (; k < m; k++)
        for (int j = 0; j < n; j++) out[j] += sign * v[k] * c[(int64_t)k * n + j];
}

/* Local. */
static ferry_status gram_leaves(ferry_forest **forest, const ferry_tall *tall, ferry_panel a, ferry_panel b)
{
    const ferry_shards *shards = tall->shards;
    const int64_t here = shards->first[tall->world->rank];
    FERRY_TRY(ferry_forest_open(forest, (int64_t)a.columns * b.columns, shards->blocks.count, FERRY_JOIN_SUM));
    for (int k = shards->block[tall->world->rank]; k < shards->block[tall->world->rank + 1]; k++) {
        double *leaf = NULL;
        const int64_t first = ferry_block_first(&shards->blocks, k), end = ferry_block_first(&shards->blocks, k + 1);
        FERRY_TRY(ferry_forest_leaf(&leaf, *forest));
        add_gram(leaf, a.x + (first - here) * a.stride, a.stride, a.columns, b.x + (first - here) * b.stride, b.stride,
                 b.columns, end - first);
        ferry_forest_add(*forest, k);
    }
    return FERRY_OK;
}

ferry_status ferry_tall_gram(double *out, const ferry_tall *tall, ferry_panel a, ferry_panel b)
{
    if (a.columns == 0 || b.columns == 0) return FERRY_OK;
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(tall->world, gram_leaves(&forest, tall, a, b));
    if (status == FERRY_OK) status = ferry_forest_reduce(out, forest, tall->world, FERRY_REDUCE_TREE);
    ferry_forest_close(&forest);
    return status;
}

void ferry_tall_subtract(ferry_panel a, ferry_panel v, const double *c, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) add_row(a.x + i * a.stride, v.x + i * v.stride, c, v.columns, a.columns, -1);
}

ferry_status ferry_tall_rotate(ferry_panel a, ferry_panel v, const double *c, int64_t rows)
{
    FERRY_AUTO double *row = NULL;
    FERRY_TRY(ferry_alloc(&row, a.columns));
    for (int64_t i = 0; i < rows; i++) {
        memset(row, 0, (size_t)a.columns * sizeof *row);
        add_row(row, v.x + i * v.stride, c, v.columns, a.columns, 1);
        memcpy(a.x + i * a.stride, row, (size_t)a.columns * sizeof *row);
    }
    return FERRY_OK;
}

static void random_column(ferry_panel a, const ferry_tall *tall, int column, uint64_t seed, uint64_t stream)
{
    const int64_t first = tall->shards->first[tall->world->rank], rows = ferry_tall_rows(tall);
    const uint64_t own = ferry_random_bits(seed, stream * 65536 + (uint64_t)column);
    const double scale = sqrt(12 / (double)tall->shards->blocks.rows);
    for (int64_t i = 0; i < rows; i++)
        a.x[i * a.stride + column] = scale * (ferry_random(own, (uint64_t)(first + i)) - 0.5);
}

void ferry_tall_random(ferry_panel a, const ferry_tall *tall, uint64_t seed, uint64_t stream)
{
    for (int j = 0; j < a.columns; j++) random_column(a, tall, j, seed, stream);
}

static ferry_panel columns_of(ferry_panel a, int first, int count)
{
    return (ferry_panel){a.x + first, a.stride, count};
}

/* Collective. A -= V V^T A */
static ferry_status project(ferry_panel a, const ferry_tall *tall, ferry_panel v, double *c)
{
    FERRY_TRY(ferry_tall_gram(c, tall, v, a));
    ferry_tall_subtract(a, v, c, ferry_tall_rows(tall));
    return FERRY_OK;
}

/* Collective. Column j against those before it, then to length 1; *length is what it had. */
static ferry_status settle_column(double *length, ferry_panel a, const ferry_tall *tall, int j, double *c)
{
    const ferry_panel column = columns_of(a, j, 1);
    const int64_t rows = ferry_tall_rows(tall);
    double square = 0;
    FERRY_TRY(project(column, tall, columns_of(a, 0, j), c));
    FERRY_TRY(ferry_tall_gram(&square, tall, column, column));
    *length = sqrt(square);
    const double scale = *length > 0 && isfinite(*length) ? 1 / *length : 0;
    for (int64_t i = 0; i < rows; i++) column.x[i * column.stride] *= scale;
    return FERRY_OK;
}

/* g [n][n] = R^T R, R in the upper triangle; false when columns are dependent or tiny */
static bool factor(double *g, int n, double tiny)
{
    for (int j = 0; j < n; j++) {
        const double whole = g[j * n + j];
        for (int k = 0; k <= j; k++) {
            double sum = g[k * n + j];
            for (int l = 0; l < k; l++) sum -= g[l * n + k] * g[l * n + j];
            if (k < j)
                g[k * n + j] = sum / g[k * n + k];
            else if (!(sum > DEPENDENT * whole) || !(sum > tiny * tiny) || !isfinite(sum))
                return false;
            else
                g[j * n + j] = sqrt(sum);
        }
    }
    return true;
}

/* A <- A R^-1, row by row */
static void divide(ferry_panel a, const double *r, int64_t rows)
{
    const int n = a.columns;
    for (int64_t i = 0; i < rows; i++) {
        double *row = a.x + i * a.stride;
        for (int j = 0; j < n; j++) {
            row[j] /= r[j * n + j];
            for (int k = j + 1; k < n; k++) row[k] -= row[j] * r[j * n + k];
        }
    }
}

/* Collective. Column by column, for what a factorisation cannot do. */
static ferry_status by_columns(double *shortest, ferry_panel a, const ferry_tall *tall, double *c, double tiny,
                               uint64_t seed, uint64_t stream)
{
    for (int j = 0; j < a.columns; j++) {
        double length = 0;
        FERRY_TRY(settle_column(&length, a, tall, j, c));
        if (!(length > tiny) || !isfinite(length)) { /* the same on all ranks */
            random_column(a, tall, j, seed, stream);
            length = 0;
        }
        if (length < *shortest) *shortest = length;
    }
    return FERRY_OK;
}

/* Collective. *shortest: the largest loss of length in this pass. */
static ferry_status one_pass(double *shortest, ferry_panel a, const ferry_tall *tall, ferry_panel v, double *c,
                             double tiny, uint64_t seed, uint64_t stream)
{
    *shortest = 1;
    FERRY_TRY(project(a, tall, v, c));
    FERRY_TRY(ferry_tall_gram(c, tall, a, a));
    if (!factor(c, a.columns, tiny)) return by_columns(shortest, a, tall, c, tiny, seed, stream);
    divide(a, c, ferry_tall_rows(tall));
    for (int j = 0; j < a.columns; j++)
        if (c[j * a.columns + j] < *shortest) *shortest = c[j * a.columns + j];
    return FERRY_OK;
}

ferry_status ferry_tall_orthonormal(ferry_panel a, const ferry_tall *tall, ferry_panel v, double tiny, uint64_t seed,
                                    uint64_t stream)
{
    FERRY_AUTO double *c = NULL;
    double shortest = 0;
    FERRY_TRY(ferry_agree(tall->world, ferry_alloc(&c, (int64_t)(v.columns + a.columns) * a.columns)));
    for (int pass = 0; pass < PASSES && (pass < 2 || shortest < 0.5); pass++)
        FERRY_TRY(one_pass(&shortest, a, tall, v, c, pass ? 1e-8 : tiny, seed, stream * PASSES + (uint64_t)pass));
    if (shortest < 0.5)
        return ferry_fail(FERRY_E_NUMERIC,
                          "%d more orthogonal vectors beside %d were not found: values of the matrix "
                          "are not finite, or there are too few rows (%lld)",
                          a.columns, v.columns, (long long)tall->shards->blocks.rows);
    return FERRY_OK;
}

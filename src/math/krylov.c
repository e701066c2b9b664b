/* Block Lanczos with full orthogonalisation and thick restart (Wu, Simon 2000), which is block Krylov-Rayleigh-Ritz:
 *
 *    V  orthonormal, its last block X;  W = A X,  H = V^T A V grows by V^T W;  F = W - V V^T W
 *    Ritz pairs (theta, V s) of H;  |A V s - theta V s|^2 = s_last^T F^T F s_last;  next block: F made orthonormal
 *
 * When V is full it becomes the best Ritz vectors, and goes on. A Krylov space of b vectors sees at most b copies of
 * an eigenvalue, and a graph of many components has many of the value 1; so when all have converged a block of new
 * random vectors is put in, again and again until nothing larger comes out of it. */
#include "math/krylov.h"
#include "math/eigen.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "mpi/stage.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LOOSE    1e-2 /* residual at which a value outside of the wanted ones is believed */
#define GIVEN_UP 1e-6 /* residual that is no longer an eigenvector */
#define TINY     1e-14

typedef struct space {
    const ferry_tall *tall;
    const ferry_operator *op;
    const ferry_krylov_options *options;
    int64_t rows, here;
    int width, most, stride; /* of a block; columns of V at most; of V's rows */
    int filled, fresh;       /* columns that H knows; columns of the block after them */
    double *v;               /* [here][stride] */
    double *x, *w;           /* [here][width] */
    double *h;               /* [most][most] */
    double *s, *theta;       /* [most][most] Ritz vectors as rows; [most] */
    double *residual;        /* [most] */
    double *c, *g;           /* [most][most] coefficients; [width][width] F^T F */
    int *order;              /* [most] by |theta| */
    double found;            /* sum of the wanted |theta| when they had converged before; -1 */
    uint64_t stream;
    int64_t products;
} space;

static int smaller(int a, int64_t b)
{
    return a < b ? a : (int)b;
}

static int width_of(int count)
{
    const int third = (count + 2) / 3;
    return third < 2 ? 2 : third > 16 ? 16 : third;
}
static int most_of(int count)
{
    const int b = width_of(count);
    return 3 * count > count + 8 * b ? 3 * count : count + 8 * b;
}

int64_t ferry_krylov_bytes(int64_t rows, int count)
{
    const int64_t b = width_of(count), m = most_of(count);
    return 8 * (rows * (m + 3 * b + count) + 4 * m * m);
}

static void space_close(space *k)
{
    free(k->v);
    free(k->x);
    free(k->w);
    free(k->h);
    free(k->s);
    free(k->theta);
    free(k->residual);
    free(k->c);
    free(k->g);
    free(k->order);
}

/* Local. */
static ferry_status space_open(space *k)
{
    const int count = k->options->count;
    if (count < 1 || count > k->rows)
        return ferry_fail(FERRY_E_ARG, "%d eigenvectors of a matrix of %lld rows", count, (long long)k->rows);
    k->width = smaller(width_of(count), k->rows);
    k->most = smaller(most_of(count), k->rows);
    k->stride = k->most + k->width;
    const int64_t square = (int64_t)k->stride * k->stride;
    FERRY_TRY(ferry_alloc(&k->v, k->here * k->stride));
    FERRY_TRY(ferry_alloc(&k->x, k->here * k->width));
    FERRY_TRY(ferry_alloc(&k->w, k->here * k->width));
    FERRY_TRY(ferry_alloc(&k->h, square));
    FERRY_TRY(ferry_alloc(&k->s, square));
    FERRY_TRY(ferry_alloc(&k->c, square));
    FERRY_TRY(ferry_alloc(&k->g, (int64_t)k->width * k->width));
    FERRY_TRY(ferry_alloc(&k->theta, k->stride));
    FERRY_TRY(ferry_alloc(&k->residual, k->stride));
    return ferry_alloc(&k->order, k->stride);
}

static ferry_panel columns(const space *k, int first, int count)
{
    return (ferry_panel){k->v + first, k->stride, count};
}

/* rows [here] of `count` columns between V and a compact array */
static void copy_columns(double *to, int64_t to_stride, const double *from, int64_t from_stride, int count,
                         int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) memcpy(to + i * to_stride, from + i * from_stride, (size_t)count * sizeof *to);
}

/* H gets the columns of the new block, from c [filled + fresh][fresh]; of its own square the mean of both triangles. */
static void extend(space *k)
{
    const int n = k->fresh, m = k->filled, s = k->stride;
    for (int i = 0; i < m + n; i++)
        for (int j = 0; j < n; j++) {
            const double other = i < m ? k->c[i * n + j] : k->c[(m + j) * n + i - m];
            const double value = 0.5 * (k->c[i * n + j] + other);
            k->h[(int64_t)i * s + m + j] = value;
            k->h[(int64_t)(m + j) * s + i] = value;
        }
}

/* Collective. One product; w becomes F. */
static ferry_status multiply(space *k)
{
    const ferry_panel w = {k->w, k->fresh, k->fresh};
    copy_columns(k->x, k->fresh, k->v + k->filled, k->stride, k->fresh, k->here);
    FERRY_TRY(k->op->apply(k->op->self, k->w, k->x, k->fresh));
    k->products++;
    FERRY_TRY(ferry_tall_gram(k->c, k->tall, columns(k, 0, k->filled + k->fresh), w));
    extend(k);
    ferry_tall_subtract(w, columns(k, 0, k->filled + k->fresh), k->c, k->here);
    FERRY_TRY(ferry_tall_gram(k->g, k->tall, w, w));
    k->filled += k->fresh;
    ferry_stage_sample();
    return FERRY_OK;
}

/* by |theta|, the largest first; insertion is enough, they come almost in order from both ends */
static void sort_values(space *k)
{
    for (int i = 0; i < k->filled; i++) {
        int at = i;
        while (at > 0 && fabs(k->theta[k->order[at - 1]]) < fabs(k->theta[i])) {
            k->order[at] = k->order[at - 1];
            at--;
        }
        k->order[at] = i;
    }
}

/* s_last^T G s_last */
static double residual_of(const space *k, const double *s)
{
    const int n = k->fresh;
    const double *last = s + k->filled - n;
    double square = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) square += last[i] * k->g[i * n + j] * last[j];
    return square > 0 ? sqrt(square) : 0;
}

/* Collective. */
static ferry_status ritz(space *k)
{
    const int m = k->filled;
    for (int i = 0; i < m; i++) memcpy(k->s + (int64_t)i * m, k->h + (int64_t)i * k->stride, (size_t)m * sizeof *k->s);
    FERRY_TRY(ferry_eigen_shared(k->theta, k->s, k->tall->world, m));
    sort_values(k);
    for (int i = 0; i < m; i++) k->residual[i] = residual_of(k, k->s + (int64_t)k->order[i] * m);
    return FERRY_OK;
}

/* Have the wanted pairs converged, and the one after them loosely? */
static bool converged(const space *k)
{
    const double scale = fabs(k->theta[k->order[0]]);
    if (k->filled == k->rows) return true; /* the whole space */
    if (k->filled <= k->options->count) return false;
    for (int i = 0; i < k->options->count; i++)
        if (!(k->residual[i] <= k->options->tolerance * scale)) return false;
    return k->residual[k->options->count] <= LOOSE * scale;
}

/* Local. V becomes the `keep` best Ritz vectors. */
static ferry_status restart(space *k, int keep)
{
    const int m = k->filled;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < keep; j++) k->c[(int64_t)i * keep + j] = k->s[(int64_t)k->order[j] * m + i];
    FERRY_TRY(ferry_tall_rotate(columns(k, 0, keep), columns(k, 0, m), k->c, k->here));
    memset(k->h, 0, (size_t)k->stride * (size_t)k->stride * sizeof *k->h);
    for (int j = 0; j < keep; j++) k->h[(int64_t)j * k->stride + j] = k->theta[k->order[j]];
    k->filled = keep;
    return FERRY_OK;
}

/* Collective. The next block: F, or random vectors. */
static ferry_status next_block(space *k, bool random)
{
    const double scale = k->filled ? fabs(k->theta[k->order[0]]) : 0;
    const int before = k->fresh;
    k->fresh = smaller(k->width, k->rows - k->filled);
    const ferry_panel block = columns(k, k->filled, k->fresh);
    if (random)
        ferry_tall_random(block, k->tall, k->options->seed, k->stream++);
    else
        copy_columns(block.x, k->stride, k->w, before, k->fresh, k->here);
    return ferry_tall_orthonormal(block, k->tall, columns(k, 0, k->filled), random ? 0 : TINY * scale, k->options->seed,
                                  k->stream++);
}

/* Sum of the wanted |theta|. */
static double sum_found(const space *k)
{
    double sum = 0;
    for (int i = 0; i < k->options->count; i++) sum += fabs(k->theta[k->order[i]]);
    return sum;
}

static void progress(const space *k)
{
    char note[64];
    int done = 0;
    const double scale = fabs(k->theta[k->order[0]]);
    if (!k->options->what) return;
    while (done < k->options->count && done < k->filled && k->residual[done] <= k->options->tolerance * scale) done++;
    snprintf(note, sizeof note, "%lld products", (long long)k->products);
    ferry_progress(k->tall->world, k->options->what, done, k->options->count, "eigenvectors", note);
}

/* Collective. A step after the Ritz values; *done when nothing is left to do. */
static ferry_status advance(space *k, bool *done)
{
    const int count = k->options->count, reserve = count / 2 > k->width ? count / 2 : k->width;
    *done = k->filled == k->rows || k->products >= k->options->most;
    if (*done) return FERRY_OK;
    if (converged(k)) {
        const double sum = sum_found(k);
        *done = k->found >= 0 && sum <= k->found + 1e-7 * fabs(k->theta[k->order[0]]);
        if (*done) return FERRY_OK;
        k->found = sum;
        FERRY_TRY(ferry_agree(k->tall->world, restart(k, count)));
        return next_block(k, true);
    }
    const int coming = smaller(k->width, k->rows - k->filled);
    if (k->filled + coming > k->most) FERRY_TRY(ferry_agree(k->tall->world, restart(k, count + reserve)));
    return next_block(k, false);
}

/* ---- how good they are ---- */

/* Room for a few vectors, their products, and the Gram matrix of the difference. */
typedef struct trial {
    double *x, *y, *g;
} trial;

static ferry_status trial_open(trial *t, int64_t rows, int columns)
{
    FERRY_TRY(ferry_alloc(&t->x, rows * columns));
    FERRY_TRY(ferry_alloc(&t->y, rows * columns));
    return ferry_alloc(&t->g, columns);
}

/* Collective. Pairs first ... first + n - 1. */
static ferry_status try_pairs(trial *t, ferry_eigenpairs *pairs, const ferry_tall *tall, const ferry_operator *op,
                              int first, int n)
{
    const int64_t rows = ferry_tall_rows(tall);
    copy_columns(t->x, n, pairs->vector + first, pairs->count, n, rows);
    FERRY_TRY(op->apply(op->self, t->y, t->x, n));
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < n; j++) t->y[i * n + j] -= pairs->value[first + j] * t->x[i * n + j];
    for (int j = 0; j < n; j++) {
        const ferry_panel column = {t->y + j, n, 1};
        FERRY_TRY(ferry_tall_gram(t->g, tall, column, column));
        const double length = sqrt(*t->g);
        if (!(length <= pairs->residual)) pairs->residual = length;
    }
    pairs->products++;
    return FERRY_OK;
}

ferry_status ferry_eigenpairs_measure(ferry_eigenpairs *pairs, const ferry_tall *tall, const ferry_operator *op,
                                      int columns)
{
    trial t = {0};
    pairs->residual = 0;
    ferry_status status = ferry_agree(tall->world, trial_open(&t, ferry_tall_rows(tall), columns));
    for (int first = 0; first < pairs->count && status == FERRY_OK; first += columns)
        status = try_pairs(&t, pairs, tall, op, first, smaller(columns, pairs->count - first));
    free(t.x);
    free(t.y);
    free(t.g);
    return status;
}

/* Local. */
static ferry_status take_pairs(ferry_eigenpairs *out, space *k)
{
    const int count = k->options->count;
    FERRY_TRY(ferry_alloc(&out->value, count));
    FERRY_TRY(ferry_alloc(&out->vector, k->here * count));
    out->count = count;
    for (int i = 0; i < count; i++) out->value[i] = k->theta[k->order[i]];
    out->next = k->filled > count ? fabs(k->theta[k->order[count]]) : 0;
    FERRY_TRY(restart(k, count));
    copy_columns(out->vector, count, k->v, k->stride, count, k->here);
    return FERRY_OK;
}

/* Collective. */
static ferry_status finish(ferry_eigenpairs *out, space *k)
{
    FERRY_TRY(ferry_agree(k->tall->world, take_pairs(out, k)));
    out->products = k->products;
    FERRY_TRY(ferry_eigenpairs_measure(out, k->tall, k->op, k->width));
    const double scale = fabs(out->value[0]);
    if (!(out->residual <= GIVEN_UP * scale))
        return ferry_fail(FERRY_E_NUMERIC,
                          "%d eigenvectors did not converge in %lld products (residual %.1e): ask for fewer",
                          out->count, (long long)k->products, out->residual);
    if (out->residual > 100 * k->options->tolerance * scale)
        ferry_log(k->tall->world, k->tall->world->rank == 0 ? FERRY_WARN : FERRY_DEBUG,
                  "the eigenvectors have converged to %.1e only, after %lld products", out->residual / scale,
                  (long long)k->products);
    return FERRY_OK;
}

/* Collective. */
static ferry_status solve(ferry_eigenpairs *out, space *k)
{
    FERRY_TRY(ferry_agree(k->tall->world, space_open(k)));
    FERRY_TRY(next_block(k, true));
    for (bool done = false; !done;) { /* the same on all ranks: it depends on shared numbers only */
        FERRY_TRY(multiply(k));
        FERRY_TRY(ritz(k));
        progress(k);
        FERRY_TRY(advance(k, &done));
    }
    if (k->filled < k->options->count)
        return ferry_fail(FERRY_E_NUMERIC, "%d eigenvectors were not found in %lld products", k->options->count,
                          (long long)k->products);
    return finish(out, k);
}

ferry_status ferry_krylov(ferry_eigenpairs *out, const ferry_tall *tall, const ferry_operator *op,
                          const ferry_krylov_options *options)
{
    space k = {.tall = tall,
               .op = op,
               .options = options,
               .rows = tall->shards->blocks.rows,
               .here = ferry_tall_rows(tall),
               .found = -1};
    *out = (ferry_eigenpairs){0};
    const ferry_status status = solve(out, &k);
    space_close(&k);
    if (status != FERRY_OK) ferry_eigenpairs_close(out);
    return status;
}

void ferry_eigenpairs_close(ferry_eigenpairs *pairs)
{
    free(pairs->value);
    free(pairs->vector);
    *pairs = (ferry_eigenpairs){0};
}

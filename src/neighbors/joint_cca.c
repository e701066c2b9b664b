/* CellMapper's fast_cca: with every cell's row centred over the g shared genes,
 *
 *    S = X_q X_r^T / (g - 1) = U diag(sigma) V^T,   embeddings: rows of U and of V, scaled to length 1
 *
 *  U by the eigenvectors of S S^T, whose products are four passes over sparse rows: cells x cells is never formed. V =
 *  S^T U with columns of length 1. Signs: the largest entry of a column of U (of equals the first cell's) is positive.
 *  The same bits for any number of ranks. */
#include "joint_impl.h"
#include "mpi/memory.h"
#include <math.h>
#include <string.h>

#define AT_A_TIME 16 /* vectors of a product */

typedef struct cross {
    ferry_joint_side *query, *reference;
    double scale; /* 1 / (g - 1) */
} cross;

/* y = X u with centred rows: minus mean . sum of u */
static void centred_forward(double *y, const ferry_joint_side *side, const double *u, double *sum, int n, double scale)
{
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t g = 0; g < side->genes; g++)
        for (int j = 0; j < n; j++) sum[j] += u[g * n + j];
    ferry_joint_forward(y, side, u, n);
    for (int64_t i = 0; i < side->here; i++)
        for (int j = 0; j < n; j++) y[i * n + j] = scale * (y[i * n + j] - side->mean[i] * sum[j]);
}

/* Collective. u [genes + 1][n] = X^T t with centred rows; the last place is room. */
static ferry_status centred_backward(double *u, const ferry_joint_side *side, const double *t, int n)
{
    FERRY_TRY(ferry_joint_backward(u, side, t, side->mean, n));
    for (int64_t g = 0; g < side->genes; g++)
        for (int j = 0; j < n; j++) u[g * n + j] -= u[side->genes * n + j];
    return FERRY_OK;
}

/* Room of a product. */
typedef struct bench {
    double *u, *w, *sum; /* [genes + 1][n], [reference cells here][n], [n] */
} bench;

static void bench_close(bench *b)
{
    free(b->u);
    free(b->w);
    free(b->sum);
}

static ferry_status bench_open(bench *b, const cross *c, int n)
{
    FERRY_TRY(ferry_alloc(&b->u, (c->query->genes + 1) * n));
    FERRY_TRY(ferry_alloc(&b->w, c->reference->here * n));
    return ferry_alloc(&b->sum, n);
}

/* Collective. w = S^T x */
static ferry_status half(bench *b, const cross *c, const double *x, int n)
{
    FERRY_TRY(ferry_agree(c->query->world, bench_open(b, c, n)));
    FERRY_TRY(centred_backward(b->u, c->query, x, n));
    centred_forward(b->w, c->reference, b->u, b->sum, n, c->scale);
    return FERRY_OK;
}

/* Collective. An operator of math/krylov.h: y = S S^T x */
static ferry_status multiply(void *self, double *y, const double *x, int n)
{
    bench b = {0};
    const cross *c = self;
    ferry_status status = half(&b, c, x, n);
    if (status == FERRY_OK) status = centred_backward(b.u, c->reference, b.w, n);
    if (status == FERRY_OK) centred_forward(y, c->query, b.u, b.sum, n, c->scale);
    bench_close(&b);
    return status;
}

/* Collective. sign [n] of the largest entry of every column of x [here][stride] over all ranks; room [n]. */
static void find_signs(double *sign, double *most, const ferry_joint_side *side, const double *x, int stride, int n)
{
    const int64_t first = side->shards.first[side->world->rank];
    memset(most, 0, (size_t)n * sizeof *most);
    for (int64_t i = 0; i < side->here; i++)
        for (int j = 0; j < n; j++) most[j] = fmax(most[j], fabs(x[i * stride + j]));
    ferry_max_doubles(side->world, most, n);
    for (int j = 0; j < n; j++) { /* minus the first cell that has it; its sign rides as a half */
        sign[j] = -INFINITY;
        for (int64_t i = 0; i < side->here && sign[j] == -INFINITY; i++)
            if (fabs(x[i * stride + j]) == most[j])
                sign[j] = -2 * (double)(first + i) + (x[i * stride + j] < 0 ? 0 : 1);
    }
    ferry_max_doubles(side->world, sign, n);
    for (int j = 0; j < n; j++) sign[j] = fmod(sign[j], 2) != 0 ? 1 : -1;
}

/* Local. out [here][dim] = rows of x [here][stride] times factor, to length 1; a cell whose values are all equal has no
 * direction: 0, not the rounding that its row holds. */
static ferry_status unit_rows(float **out, const ferry_joint_side *side, const double *x, int stride, int dim,
                              const double *factor)
{
    FERRY_TRY(ferry_alloc(out, side->here * dim));
    for (int64_t i = 0; i < side->here; i++) {
        const double *row = x + i * stride;
        double square = 0;
        for (int j = 0; j < dim; j++) square += row[j] * factor[j] * (row[j] * factor[j]);
        const double scale = square > 0 && !side->flat[i] ? 1 / sqrt(square) : 0;
        for (int j = 0; j < dim; j++) (*out)[i * dim + j] = (float)(row[j] * factor[j] * scale) + 0.0f; /* no -0 */
    }
    return FERRY_OK;
}

/* Local. factor [n] of the reference's columns: their sign over their length. */
static ferry_status take_both(ferry_joint *out, const cross *c, const ferry_eigenpairs *pairs, const double *v,
                              const double *sign, const double *factor)
{
    FERRY_TRY(unit_rows(&out->query, c->query, pairs->vector, pairs->count, out->dim, sign));
    return unit_rows(&out->reference, c->reference, v, pairs->count, out->dim, factor);
}

/* Collective. v [reference cells here][count] = S^T of the query's vectors, a few columns at a time. */
static ferry_status other_vectors(double *v, const cross *c, const ferry_eigenpairs *pairs)
{
    FERRY_AUTO double *x = NULL;
    FERRY_TRY(ferry_agree(c->query->world, ferry_alloc(&x, c->query->here * AT_A_TIME)));
    for (int first = 0; first < pairs->count; first += AT_A_TIME) {
        bench b = {0};
        const int n = pairs->count - first < AT_A_TIME ? pairs->count - first : AT_A_TIME;
        for (int64_t i = 0; i < c->query->here; i++)
            memcpy(x + i * n, pairs->vector + i * pairs->count + first, (size_t)n * sizeof *x);
        const ferry_status status = half(&b, c, x, n);
        for (int64_t i = 0; i < c->reference->here && status == FERRY_OK; i++)
            memcpy(v + i * pairs->count + first, b.w + i * n, (size_t)n * sizeof *v);
        bench_close(&b);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* Collective. Both sets' vectors from the query's. */
static ferry_status take_vectors(ferry_joint *out, const cross *c, const ferry_eigenpairs *pairs)
{
    FERRY_AUTO double *sign = NULL;
    FERRY_AUTO double *factor = NULL;
    FERRY_AUTO double *v = NULL;
    const ferry_world *world = c->query->world;
    const ferry_tall tall = {world, &c->reference->shards};
    const int n = pairs->count;
    FERRY_TRY(ferry_agree(world, ferry_alloc(&sign, n)));
    FERRY_TRY(ferry_agree(world, ferry_alloc(&factor, n)));
    FERRY_TRY(ferry_agree(world, ferry_alloc(&v, c->reference->here * n)));
    FERRY_TRY(other_vectors(v, c, pairs));
    find_signs(sign, factor, c->query, pairs->vector, n, n);
    for (int j = 0; j < out->dim; j++) {
        double square = 0;
        const ferry_panel column = {v + j, n, 1};
        FERRY_TRY(ferry_tall_gram(&square, &tall, column, column));
        factor[j] = square > 0 ? sign[j] / sqrt(square) : 0;
    }
    return ferry_agree(world, take_both(out, c, pairs, v, sign, factor));
}

/* Collective. */
static ferry_status embed(ferry_joint *out, cross *c, ferry_eigenpairs *pairs, const ferry_joint_options *options)
{
    const ferry_tall tall = {c->query->world, &c->query->shards};
    const ferry_operator op = {multiply, c};
    int64_t most = c->query->cells < c->reference->cells ? c->query->cells : c->reference->cells;
    if (c->query->genes < most) most = c->query->genes;
    const ferry_krylov_options how = {.count = (int)(options->components < most ? options->components : most),
                                      .tolerance = FERRY_JOINT_TOLERANCE,
                                      .most = FERRY_JOINT_PRODUCTS,
                                      .seed = options->seed,
                                      .what = "joint embedding"};
    FERRY_TRY(ferry_krylov(pairs, &tall, &op, &how));
    out->dim = ferry_joint_rank(pairs);
    if (out->dim == 0)
        return ferry_fail(FERRY_E_FILE,
                          "the cells of one set have no covariance with those of the other on %lld shared genes: "
                          "there are no components",
                          (long long)c->query->genes);
    return take_vectors(out, c, pairs);
}

ferry_status ferry_joint_cca(ferry_joint *out, ferry_joint_side *query, ferry_joint_side *reference,
                             const ferry_joint_options *options)
{
    cross c = {query, reference, query->genes > 1 ? 1 / (double)(query->genes - 1) : 1};
    ferry_eigenpairs pairs = {0};
    const ferry_status status = embed(out, &c, &pairs, options);
    ferry_eigenpairs_close(&pairs);
    return status;
}

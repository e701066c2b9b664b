/* Principal components of the cells of both sets together, on the shared genes.
 *
 *    C = 1 / (n - 1) sum_c (x_c - mu)(x_c - mu)^T,   C v = lambda v,   score_c = v . (x_c - mu)
 *
 *  C is never formed: a product is two passes over the sparse rows, so any number of genes will do. The largest loading
 *  (of equals the first gene's) is positive. The same bits for any number of ranks. */
#include "joint_impl.h"
#include "mpi/exchange.h"
#include "mpi/memory.h"
#include <math.h>
#include <string.h>

typedef struct covariance {
    ferry_joint_side *side[2];
    const ferry_world *world;
    ferry_shards shards; /* of the genes */
    int64_t genes, cells;
    int64_t *counts; /* [ranks] numbers that each has of a gathered array */
    double *mean;    /* [genes] */
} covariance;

static void covariance_close(covariance *c)
{
    ferry_shards_close(&c->shards);
    free(c->counts);
    free(c->mean);
}

/* Local. */
static ferry_status covariance_open(covariance *c, ferry_joint_side *query, ferry_joint_side *reference)
{
    *c = (covariance){.side = {query, reference}, .world = query->world, .genes = query->genes};
    c->cells = query->cells + reference->cells;
    FERRY_TRY(ferry_shards_open(&c->shards, c->genes, FERRY_TARGET_UNIT, c->world->size));
    FERRY_TRY(ferry_alloc(&c->counts, c->world->size));
    return ferry_alloc(&c->mean, c->genes);
}

/* Collective. all [genes][n] of x [genes here][n] */
static void gather(double *all, const covariance *c, const double *x, int n)
{
    for (int r = 0; r < c->world->size; r++) c->counts[r] = (c->shards.first[r + 1] - c->shards.first[r]) * n;
    ferry_gather_all(c->world, x, c->counts, all, sizeof *all);
}

/* Scores [here][n] of one side: X v - mu . v */
static void scores(double *out, const ferry_joint_side *side, const double *v, const double *shift, int n)
{
    ferry_joint_forward(out, side, v, n);
    for (int64_t i = 0; i < side->here; i++)
        for (int j = 0; j < n; j++) out[i * n + j] -= shift[j];
}

static void shift_of(double *shift, const covariance *c, const double *v, int n)
{
    memset(shift, 0, (size_t)n * sizeof *shift);
    for (int64_t g = 0; g < c->genes; g++)
        for (int j = 0; j < n; j++) shift[j] += c->mean[g] * v[g * n + j];
}

/* Room of a product. */
typedef struct bench {
    double *v, *sum[2], *score[2], *shift; /* [genes][n], [genes + 1][n] a side, [here][n] a side, [n] */
} bench;

static void bench_close(bench *b)
{
    free(b->v);
    free(b->shift);
    for (int k = 0; k < 2; k++) {
        free(b->sum[k]);
        free(b->score[k]);
    }
}

static ferry_status bench_open(bench *b, const covariance *c, int n)
{
    FERRY_TRY(ferry_alloc(&b->v, c->genes * n));
    FERRY_TRY(ferry_alloc(&b->shift, n));
    for (int k = 0; k < 2; k++) {
        FERRY_TRY(ferry_alloc(&b->sum[k], (c->genes + 1) * n));
        FERRY_TRY(ferry_alloc(&b->score[k], c->side[k]->here * n));
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status product(bench *b, double *y, const covariance *c, const double *x, int n)
{
    FERRY_TRY(ferry_agree(c->world, bench_open(b, c, n)));
    gather(b->v, c, x, n);
    shift_of(b->shift, c, b->v, n);
    for (int k = 0; k < 2; k++) {
        scores(b->score[k], c->side[k], b->v, b->shift, n);
        FERRY_TRY(ferry_joint_backward(b->sum[k], c->side[k], b->score[k], NULL, n));
    }
    const double *s = b->sum[0], *t = b->sum[1], scale = c->cells > 1 ? 1 / (double)(c->cells - 1) : 1;
    const int64_t first = c->shards.first[c->world->rank], end = c->shards.first[c->world->rank + 1];
    for (int64_t g = first; g < end; g++)
        for (int j = 0; j < n; j++) {
            const double total = s[c->genes * n + j] + t[c->genes * n + j]; /* 0 but for rounding */
            y[(g - first) * n + j] = scale * ((s[g * n + j] + t[g * n + j]) - c->mean[g] * total);
        }
    return FERRY_OK;
}

/* Collective. An operator of math/krylov.h. */
static ferry_status multiply(void *self, double *y, const double *x, int n)
{
    bench b = {0};
    const ferry_status status = product(&b, y, self, x, n);
    bench_close(&b);
    return status;
}

static ferry_status ones(double **out, int64_t count)
{
    FERRY_TRY(ferry_alloc(out, count));
    for (int64_t i = 0; i < count; i++) (*out)[i] = 1;
    return FERRY_OK;
}

/* Collective. */
static ferry_status find_mean(covariance *c)
{
    FERRY_AUTO double *sum = NULL;
    FERRY_TRY(ferry_agree(c->world, ferry_alloc(&sum, c->genes + 1)));
    for (int k = 0; k < 2; k++) {
        FERRY_AUTO double *one = NULL;
        FERRY_TRY(ferry_agree(c->world, ones(&one, c->side[k]->here)));
        FERRY_TRY(ferry_joint_backward(sum, c->side[k], one, NULL, 1));
        for (int64_t g = 0; g < c->genes; g++) c->mean[g] += sum[g];
    }
    for (int64_t g = 0; g < c->genes; g++) c->mean[g] /= (double)c->cells;
    return FERRY_OK;
}

/* The largest loading of every component positive; v [genes][n]. */
static void fix_signs(double *v, int64_t genes, int n)
{
    for (int j = 0; j < n; j++) {
        double most = 0;
        for (int64_t g = 0; g < genes; g++)
            if (fabs(v[g * n + j]) > fabs(most)) most = v[g * n + j];
        for (int64_t g = 0; g < genes && most < 0; g++) v[g * n + j] = -v[g * n + j];
    }
}

/* Local. out [here][dim] float32 from the first dim of n loadings. */
static ferry_status take_scores(float **out, const covariance *c, const ferry_joint_side *side, const double *v, int n,
                                int dim)
{
    FERRY_AUTO double *score = NULL;
    FERRY_AUTO double *shift = NULL;
    FERRY_TRY(ferry_alloc(&score, side->here * n));
    FERRY_TRY(ferry_alloc(&shift, n));
    FERRY_TRY(ferry_alloc(out, side->here * dim));
    shift_of(shift, c, v, n);
    scores(score, side, v, shift, n);
    for (int64_t i = 0; i < side->here; i++)
        for (int j = 0; j < dim; j++) (*out)[i * dim + j] = (float)score[i * n + j] + 0.0f; /* no -0 */
    return FERRY_OK;
}

/* Local. */
static ferry_status take_both(ferry_joint *out, const covariance *c, double *v, int n)
{
    fix_signs(v, c->genes, n);
    FERRY_TRY(take_scores(&out->query, c, c->side[0], v, n, out->dim));
    return take_scores(&out->reference, c, c->side[1], v, n, out->dim);
}

/* Collective. */
static ferry_status embed(ferry_joint *out, covariance *c, ferry_eigenpairs *pairs, const ferry_joint_options *options)
{
    FERRY_AUTO double *v = NULL;
    const ferry_tall tall = {c->world, &c->shards};
    const ferry_operator op = {multiply, c};
    const int64_t most = c->genes < c->cells ? c->genes : c->cells;
    const ferry_krylov_options how = {.count = (int)(options->components < most ? options->components : most),
                                      .tolerance = FERRY_JOINT_TOLERANCE,
                                      .most = FERRY_JOINT_PRODUCTS,
                                      .seed = options->seed,
                                      .what = "joint embedding"};
    FERRY_TRY(find_mean(c));
    FERRY_TRY(ferry_krylov(pairs, &tall, &op, &how));
    out->dim = ferry_joint_rank(pairs);
    FERRY_TRY(ferry_agree(c->world, ferry_alloc(&v, c->genes * pairs->count)));
    if (out->dim == 0)
        return ferry_fail(FERRY_E_FILE, "the %lld shared genes are the same in all cells: there are no components",
                          (long long)c->genes);
    gather(v, c, pairs->vector, pairs->count);
    return ferry_agree(c->world, take_both(out, c, v, pairs->count));
}

ferry_status ferry_joint_pca(ferry_joint *out, ferry_joint_side *query, ferry_joint_side *reference,
                             const ferry_joint_options *options)
{
    covariance c;
    ferry_eigenpairs pairs = {0};
    ferry_status status = ferry_agree(query->world, covariance_open(&c, query, reference));
    if (status == FERRY_OK) status = embed(out, &c, &pairs, options);
    ferry_eigenpairs_close(&pairs);
    covariance_close(&c);
    return status;
}

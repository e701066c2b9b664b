/* Diffusion through eigenvectors. For symmetric K with row sums D,
 *
 *    T = D^-1/2 K D^-1/2 = W L W^T,   M^t Z = D^-1/2 W L^t W^T D^1/2 Z      (M = D^-1 K; W^T D^1/2 = U^T D, U = D^-1/2
 * W)
 *
 *  T has no entry where a row has no weight, so M^t Z is 0 there, as it should be. All pairs, or at least a third of
 *  them: dense, math/eigen.h. Fewer: math/krylov.h on products T x, which run as a step of the iterative form does.
 *  With W cut to the largest |L| the error in the norm of D is at most |L_next|^t |Z|_D, for the rest of W is
 * orthonormal in it. Cells are dealt by shards here; values come and go as their owner dealt them. */
#include "diffusion_impl.h"
#include "math/eigen.h"
#include "math/krylov.h"
#include "math/random.h"
#include "mpi/fetch.h"
#include "mpi/stage.h"
#include "transfer_impl.h"
#include <limits.h>
#include <math.h>
#include <string.h>

#define TOLERANCE 1e-10
#define PRODUCTS  3000               /* with blocks, at most */
#define SLAB      ((int64_t)1 << 18) /* numbers of a coefficient matrix at a time */
#define MEASURED  64                 /* dense pairs that are multiplied at a time */
#define ASYMMETRY 1e-12              /* relative, of <Kx, y> and <x, Ky> for positive x, y: rounding stays far below */

struct ferry_spectrum_store {
    ferry_shards shards;
    double *degree; /* [rows here] */
    ferry_eigenpairs pairs;
};

/* ---- products with K ---- */

/* y = S K S x with S = diagonal of scale; NULL: 1. */
typedef struct product {
    ferry_weights *weights;
    const ferry_world *world;
    const ferry_shards *shards;
    const double *scale; /* [rows here] */
} product;

/* Rows of a block and what they touch. */
typedef struct patch {
    ferry_touched touched;
    double *fetched, *out; /* [distinct][columns], [rows][columns] */
    int64_t *key;
} patch;

static void patch_close(patch *p)
{
    ferry_touched_close(&p->touched);
    free(p->fetched);
    free(p->out);
    free(p->key);
}

static ferry_status patch_open(patch *p, const ferry_weights_block *block, int columns)
{
    FERRY_TRY(ferry_touched_open(&p->touched, block->indptr, block->rows, block->cell));
    FERRY_TRY(ferry_alloc(&p->fetched, p->touched.distinct * columns));
    FERRY_TRY(ferry_alloc(&p->out, block->rows * columns));
    FERRY_TRY(ferry_alloc(&p->key, block->rows));
    for (int64_t i = 0; i < block->rows; i++) p->key[i] = block->first + i;
    return FERRY_OK;
}

static void multiply_patch(patch *p, const ferry_weights_block *block, int columns)
{
    for (int64_t i = 0; i < block->rows; i++) {
        double *restrict row = p->out + i * columns;
        for (int64_t e = block->indptr[i]; e < block->indptr[i + 1]; e++) {
            const double k = block->weight[e], *x = p->fetched + (int64_t)p->touched.place[e] * columns;
            for (int j = 0; j < columns; j++) row[j] += k * x[j];
        }
    }
}

/* Collective. Rows [count] by key go to y [rows here][columns] of their owners. */
static ferry_status deal(double *y, const ferry_world *world, const int64_t *first, const int64_t *key,
                         const double *rows, int columns, int64_t count)
{
    FERRY_AUTO int64_t *keys = NULL;
    FERRY_AUTO double *came = NULL;
    const size_t size = (size_t)columns * sizeof *y;
    int64_t received = 0;
    void *payload = NULL;
    FERRY_TRY(ferry_deliver(&keys, &payload, &received, world, first, key, rows, size, count));
    came = payload;
    for (int64_t i = 0; i < received; i++)
        memcpy(y + (keys[i] - first[world->rank]) * columns, came + i * columns, size);
    return FERRY_OK;
}

/* Collective. One round; x is scaled already. */
static ferry_status multiply_round(patch *p, double *y, const product *k, const double *x, int columns, int64_t round)
{
    ferry_weights_block block;
    FERRY_TRY(ferry_weights_take(&block, k->weights, k->world, round));
    FERRY_TRY(ferry_agree(k->world, patch_open(p, &block, columns)));
    FERRY_TRY(ferry_fetch(p->fetched, k->world, k->shards->first, x, (size_t)columns * sizeof *x, p->touched.cell,
                          p->touched.distinct));
    multiply_patch(p, &block, columns);
    return deal(y, k->world, k->shards->first, p->key, p->out, columns, block.rows);
}

static void scale_rows(double *x, const double *scale, int64_t rows, int columns)
{
    for (int64_t i = 0; i < rows && scale; i++)
        for (int j = 0; j < columns; j++) x[i * columns + j] *= scale[i];
}

static ferry_status copy_of(double **out, const double *x, int64_t count)
{
    FERRY_TRY(ferry_alloc(out, count));
    memcpy(*out, x, (size_t)count * sizeof *x);
    return FERRY_OK;
}

/* Collective. An operator of math/krylov.h. */
static ferry_status multiply(void *self, double *y, const double *x, int columns)
{
    const product *k = self;
    FERRY_AUTO double *scaled = NULL;
    const int64_t rows = k->shards->first[k->world->rank + 1] - k->shards->first[k->world->rank];
    FERRY_TRY(ferry_agree(k->world, copy_of(&scaled, x, rows * columns)));
    scale_rows(scaled, k->scale, rows, columns);
    for (int64_t round = 0; round < k->weights->rounds; round++) {
        patch p = {0};
        const ferry_status status = multiply_round(&p, y, k, scaled, columns, round);
        patch_close(&p);
        FERRY_TRY(status);
    }
    scale_rows(y, k->scale, rows, columns);
    return FERRY_OK;
}

/* ---- degrees, and is K symmetric? ---- */

/* Collective. */
static ferry_status find_degrees(double *degree, const product *k)
{
    for (int64_t round = 0; round < k->weights->rounds; round++) {
        ferry_weights_block block;
        FERRY_AUTO int64_t *key = NULL;
        FERRY_TRY(ferry_weights_take(&block, k->weights, k->world, round));
        FERRY_TRY(ferry_agree(k->world, ferry_alloc(&key, block.rows)));
        for (int64_t i = 0; i < block.rows; i++) key[i] = block.first + i;
        FERRY_TRY(deal(degree, k->world, k->shards->first, key, block.sum, 1, block.rows));
    }
    return FERRY_OK;
}

/* Collective. <K x, y> and <x, K y> for random positive x, y: equal up to rounding only when K is symmetric (for almost
 * every x, y), and their size is that of what is compared. */
static ferry_status check_symmetric(const product *k, const ferry_tall *tall, uint64_t seed)
{
    const int64_t rows = ferry_tall_rows(tall), first = k->shards->first[k->world->rank];
    FERRY_AUTO double *x = NULL;
    FERRY_AUTO double *kx = NULL;
    double g[4] = {0};
    FERRY_TRY(ferry_agree(k->world, ferry_alloc(&x, rows * 2)));
    FERRY_TRY(ferry_agree(k->world, ferry_alloc(&kx, rows * 2)));
    for (int64_t i = 0; i < 2 * rows; i++) x[i] = ferry_random(seed ^ 0x5bd1e995, (uint64_t)(2 * first + i));
    FERRY_TRY(multiply((void *)k, kx, x, 2));
    FERRY_TRY(ferry_tall_gram(g, tall, (ferry_panel){kx, 2, 2}, (ferry_panel){x, 2, 2}));
    if (fabs(g[1] - g[2]) <= ASYMMETRY * fabs(g[1])) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG,
                      "spectral diffusion needs symmetric weights, and these are not: --symmetrize max, the "
                      "umap kernel, or --diffusion iterative");
}

/* ---- all eigenvectors ---- */

/* Local. Entries of T of a block; scale of the touched cells is in p->fetched, of the rows in p->out. */
static ferry_status list_entries(ferry_cyclic_entry **entry, const patch *p, const ferry_weights_block *block)
{
    FERRY_TRY(ferry_alloc(entry, block->rows ? block->indptr[block->rows] : 0));
    for (int64_t i = 0; i < block->rows; i++)
        for (int64_t e = block->indptr[i]; e < block->indptr[i + 1]; e++)
            (*entry)[e] = (ferry_cyclic_entry){(int32_t)(block->first + i), (int32_t)block->cell[e],
                                               p->out[i] * block->weight[e] * p->fetched[p->touched.place[e]]};
    return FERRY_OK;
}

/* Collective. */
static ferry_status add_round(patch *p, ferry_cyclic *dense, const product *k, int64_t round)
{
    ferry_weights_block block;
    FERRY_AUTO ferry_cyclic_entry *entry = NULL;
    FERRY_TRY(ferry_weights_take(&block, k->weights, k->world, round));
    FERRY_TRY(ferry_agree(k->world, patch_open(p, &block, 1)));
    FERRY_TRY(ferry_fetch(p->fetched, k->world, k->shards->first, k->scale, sizeof *k->scale, p->touched.cell,
                          p->touched.distinct));
    FERRY_TRY(ferry_fetch(p->out, k->world, k->shards->first, k->scale, sizeof *k->scale, p->key, block.rows));
    FERRY_TRY(ferry_agree(k->world, list_entries(&entry, p, &block)));
    return ferry_cyclic_add(dense, entry, block.rows ? block.indptr[block.rows] : 0);
}

/* Columns of the `count` largest |value| of value [n] ascending: from both ends. */
static double choose(int64_t *column, double *chosen, const double *value, int64_t n, int64_t count)
{
    int64_t low = 0, high = n - 1;
    for (int64_t i = 0; i < count; i++) {
        column[i] = fabs(value[high]) >= fabs(value[low]) ? high-- : low++;
        chosen[i] = value[column[i]];
    }
    return low > high ? 0 : fmax(fabs(value[low]), fabs(value[high]));
}

/* Local. */
static ferry_status pairs_open(ferry_eigenpairs *pairs, int64_t **column, int64_t count, int64_t rows)
{
    FERRY_TRY(ferry_alloc(column, count));
    if (count > INT_MAX) return ferry_fail(FERRY_E_PLAN, "%lld eigenvectors", (long long)count);
    pairs->count = (int)count;
    FERRY_TRY(ferry_alloc(&pairs->value, count));
    return ferry_alloc(&pairs->vector, rows * count);
}

/* Collective. */
static ferry_status solve_dense(ferry_eigenpairs *pairs, ferry_cyclic *dense, const product *k, int64_t count)
{
    FERRY_AUTO double *value = NULL;
    FERRY_AUTO int64_t *column = NULL;
    const int64_t rows = k->shards->first[k->world->rank + 1] - k->shards->first[k->world->rank];
    for (int64_t round = 0; round < k->weights->rounds; round++) {
        patch p = {0};
        const ferry_status status = add_round(&p, dense, k, round);
        patch_close(&p);
        FERRY_TRY(status);
    }
    FERRY_TRY(ferry_agree(k->world, ferry_alloc(&value, dense->n)));
    FERRY_TRY(ferry_cyclic_eigen(value, dense));
    ferry_stage_sample();
    FERRY_TRY(ferry_agree(k->world, pairs_open(pairs, &column, count, rows)));
    pairs->next = choose(column, pairs->value, value, dense->n, count);
    return ferry_cyclic_take(pairs->vector, dense, k->shards->first, column, count);
}

/* Collective. */
static ferry_status find_dense(ferry_eigenpairs *pairs, const product *k, const ferry_tall *tall,
                               const ferry_operator *op, int64_t count)
{
    ferry_cyclic dense;
    FERRY_TRY(ferry_cyclic_open(&dense, k->world, k->weights->rows, FERRY_DENSE_ALONE));
    const ferry_status status = solve_dense(pairs, &dense, k, count);
    ferry_cyclic_close(&dense);
    FERRY_TRY(status);
    return ferry_eigenpairs_measure(pairs, tall, op, MEASURED);
}

/* ---- the spectrum ---- */

/* Local. */
static ferry_status store_open(ferry_spectrum *out, const ferry_weights *weights, const ferry_world *world,
                               const ferry_diffusion_options *options)
{
    if (weights->rows != weights->columns)
        return ferry_fail(FERRY_E_ARG, "diffusion is for one set of cells, and weights are %lld x %lld",
                          (long long)weights->rows, (long long)weights->columns);
    if (options->eigenvectors < 0)
        return ferry_fail(FERRY_E_ARG, "%lld eigenvectors: 0 for all, or how many", (long long)options->eigenvectors);
    FERRY_TRY(ferry_diffusion_fits(weights->rows, 1, world->size, options));
    FERRY_TRY(ferry_alloc(&out->store, 1));
    FERRY_TRY(ferry_shards_open(&out->store->shards, weights->rows, FERRY_TARGET_UNIT, world->size));
    const int64_t *first = out->store->shards.first + world->rank;
    return ferry_alloc(&out->store->degree, first[1] - first[0]);
}

/* Collective. */
static ferry_status find_pairs(ferry_spectrum *out, product *k, const ferry_diffusion_options *options)
{
    FERRY_AUTO double *scale = NULL;
    struct ferry_spectrum_store *store = out->store;
    const ferry_tall tall = {k->world, &store->shards};
    const ferry_operator op = {multiply, k};
    const int64_t rows = k->weights->rows;
    FERRY_TRY(ferry_agree(k->world, ferry_alloc(&scale, ferry_tall_rows(&tall))));
    FERRY_TRY(check_symmetric(k, &tall, options->seed));
    FERRY_TRY(find_degrees(store->degree, k));
    for (int64_t i = 0; i < ferry_tall_rows(&tall); i++)
        scale[i] = store->degree[i] > 0 ? 1 / sqrt(store->degree[i]) : 0;
    k->scale = scale;
    out->complete = ferry_diffusion_complete(rows, options);
    if (out->complete) {
        const bool all = options->eigenvectors == 0 || options->eigenvectors > rows;
        return find_dense(&store->pairs, k, &tall, &op, all ? rows : options->eigenvectors);
    }
    const ferry_krylov_options how = {.count = (int)options->eigenvectors,
                                      .tolerance = TOLERANCE,
                                      .most = PRODUCTS,
                                      .seed = options->seed,
                                      .what = "eigenvectors"};
    return ferry_krylov(&store->pairs, &tall, &op, &how);
}

ferry_status ferry_spectrum_open(ferry_spectrum *out, ferry_weights *weights, const ferry_world *world,
                                 const ferry_diffusion_options *options)
{
    *out = (ferry_spectrum){0};
    ferry_status status = ferry_agree(world, store_open(out, weights, world, options));
    if (status == FERRY_OK && weights->rows > 0) {
        product k = {weights, world, &out->store->shards, NULL};
        status = find_pairs(out, &k, options);
    }
    if (status != FERRY_OK) {
        ferry_spectrum_close(out);
        return status;
    }
    out->count = out->store->pairs.count;
    out->value = out->store->pairs.value;
    out->next = out->store->pairs.next;
    out->residual = out->store->pairs.residual;
    return FERRY_OK;
}

void ferry_spectrum_close(ferry_spectrum *spectrum)
{
    if (spectrum->store) {
        ferry_shards_close(&spectrum->store->shards);
        ferry_eigenpairs_close(&spectrum->store->pairs);
        free(spectrum->store->degree);
        free(spectrum->store);
    }
    *spectrum = (ferry_spectrum){0};
}

/* ---- values through it ---- */

/* Columns of the values, dealt by their owner and by shards. */
typedef struct slab {
    double *theirs, *z, *c; /* [rows there][columns], [rows here][columns], [count][columns] */
    int64_t *wanted;        /* row numbers, of either side */
} slab;

static void slab_close(slab *s)
{
    free(s->theirs);
    free(s->z);
    free(s->c);
    free(s->wanted);
}

static ferry_status slab_open(slab *s, int64_t there, int64_t here, int64_t count, int columns)
{
    FERRY_TRY(ferry_alloc(&s->theirs, there * columns));
    FERRY_TRY(ferry_alloc(&s->z, here * columns));
    FERRY_TRY(ferry_alloc(&s->c, count * columns));
    return ferry_alloc(&s->wanted, there > here ? there : here);
}

/* Collective. Rows to [first_to] of an array dealt by first_from. */
static ferry_status move(double *to, slab *s, const ferry_world *world, const int64_t *first_to, const double *from,
                         const int64_t *first_from, int columns)
{
    const int64_t first = first_to[world->rank], count = first_to[world->rank + 1] - first;
    for (int64_t i = 0; i < count; i++) s->wanted[i] = first + i;
    return ferry_fetch(to, world, first_from, from, (size_t)columns * sizeof *to, s->wanted, count);
}

/* Collective. z <- D^-1/2 W L^t W^T D^1/2 z */
static ferry_status filter(slab *s, const ferry_spectrum *spectrum, const ferry_world *world, int columns, int steps)
{
    const struct ferry_spectrum_store *store = spectrum->store;
    const ferry_tall tall = {world, &store->shards};
    const int64_t rows = ferry_tall_rows(&tall);
    const ferry_panel w = {store->pairs.vector, store->pairs.count, store->pairs.count}, z = {s->z, columns, columns};
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) z.x[i * columns + j] *= sqrt(store->degree[i]);
    FERRY_TRY(ferry_tall_gram(s->c, &tall, w, z));
    for (int64_t p = 0; p < spectrum->count; p++) {
        double power = 1;
        for (int t = 0; t < steps; t++) power *= spectrum->value[p];
        for (int j = 0; j < columns; j++) s->c[p * columns + j] *= power;
    }
    FERRY_TRY(ferry_agree(world, ferry_tall_rotate(z, w, s->c, rows)));
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            z.x[i * columns + j] =
                store->degree[i] > 0 ? z.x[i * columns + j] / sqrt(store->degree[i]) + 0.0 : 0; /* no -0 */
    return FERRY_OK;
}

/* Collective. Columns from ... from + columns - 1 of values [rows there][width]. */
static ferry_status apply_slab(slab *s, double *values, const ferry_spectrum *spectrum, const ferry_world *world,
                               const int64_t *first, int64_t width, int64_t from, int columns, int steps)
{
    const int64_t *own = spectrum->store->shards.first, there = first[world->rank + 1] - first[world->rank];
    FERRY_TRY(
        ferry_agree(world, slab_open(s, there, own[world->rank + 1] - own[world->rank], spectrum->count, columns)));
    for (int64_t i = 0; i < there; i++)
        memcpy(s->theirs + i * columns, values + i * width + from, (size_t)columns * sizeof *values);
    FERRY_TRY(move(s->z, s, world, own, s->theirs, first, columns));
    FERRY_TRY(filter(s, spectrum, world, columns, steps));
    FERRY_TRY(move(s->theirs, s, world, first, s->z, own, columns));
    for (int64_t i = 0; i < there; i++)
        memcpy(values + i * width + from, s->theirs + i * columns, (size_t)columns * sizeof *values);
    return FERRY_OK;
}

static int slab_columns(int64_t count, int64_t width)
{
    const int64_t most = count > 0 && count < SLAB ? SLAB / count : 1;
    return (int)(most > 64 ? (width < 64 ? width : 64) : most < width ? most : width);
}

/* Local. */
static ferry_status check_values(const double *values, const ferry_spectrum *spectrum, const ferry_world *world,
                                 const int64_t *first, int64_t width)
{
    if (first[world->size] != spectrum->store->shards.blocks.rows)
        return ferry_fail(FERRY_E_ARG, "values of %lld cells, eigenvectors of %lld", (long long)first[world->size],
                          (long long)spectrum->store->shards.blocks.rows);
    const int64_t rows = first[world->rank + 1] - first[world->rank];
    for (int64_t i = 0; i < rows * width; i++)
        if (!isfinite(values[i]))
            return ferry_fail(FERRY_E_ARG,
                              "cell %lld has NaN or infinity in column %lld, which spectral diffusion would "
                              "carry to all cells: fill or drop it, or --diffusion iterative",
                              (long long)(first[world->rank] + i / width), (long long)(i % width));
    return FERRY_OK;
}

ferry_status ferry_spectrum_apply(double *values, const ferry_spectrum *spectrum, const ferry_world *world,
                                  const int64_t *first, int64_t width, int steps)
{
    FERRY_TRY(ferry_agree(world, check_values(values, spectrum, world, first, width)));
    if (first[world->size] == 0) return FERRY_OK;
    const int most = slab_columns(spectrum->count, width);
    for (int64_t from = 0; from < width; from += most) {
        slab s = {0};
        const int columns = (int)(width - from < most ? width - from : most);
        const ferry_status status = apply_slab(&s, values, spectrum, world, first, width, from, columns, steps);
        slab_close(&s);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

int64_t ferry_spectral_bytes(int64_t rows, int64_t width, int ranks, const ferry_diffusion_options *options)
{
    const int64_t here = ferry_diffusion_rows(rows, ranks), complete = ferry_diffusion_complete(rows, options);
    const int64_t all = options->eigenvectors == 0 || options->eigenvectors > rows;
    const int64_t count = all ? rows : options->eigenvectors, columns = slab_columns(count, width);
    const int64_t pairs =
        complete ? ferry_cyclic_bytes(rows, ranks) + 8 * here * 2 * MEASURED : ferry_krylov_bytes(here, (int)count);
    /* trees of coefficients; what a block touches and sends */
    return pairs + 24 * here * columns + 8 * 40 * count * columns + ((int64_t)64 << 20);
}

/* Anderson 1965, in the form of differences: with dr_k, dx_k the last steps of r and x,
 *   theta = argmin | r - sum theta_k dr_k |^2 (weighted; Tikhonov 1e-8 trace),   x' = x + r - sum theta_k (dx_k +
 * dr_k). Differences are kept in float: their size shrinks with the residual, so nothing is lost. */
#include "math/anderson.h"
#include "mpi/memory.h"
#include <math.h>
#include <string.h>

#define MEMORY FERRY_ANDERSON_MEMORY
#define WIDTH  (2 * MEMORY) /* the newest difference with all, all with r */
#define FAR    20.0         /* the most by which a mixed step may differ from the plain one, each number for itself */

ferry_status ferry_anderson_open(ferry_anderson *out, int64_t count, const double *weight, const ferry_shards *shards,
                                 const ferry_world *world, ferry_reduction how)
{
    *out = (ferry_anderson){
        .count = count, .weight = weight, .shards = shards, .world = world, .how = how, .best = INFINITY};
    FERRY_TRY(ferry_alloc(&out->best_x, count));
    FERRY_TRY(ferry_alloc(&out->best_r, count));
    FERRY_TRY(ferry_alloc(&out->last_x, count));
    FERRY_TRY(ferry_alloc(&out->last_r, count));
    for (int k = 0; k < MEMORY; k++) {
        FERRY_TRY(ferry_alloc(&out->dr[k], count));
        FERRY_TRY(ferry_alloc(&out->dy[k], count));
    }
    return FERRY_OK;
}

void ferry_anderson_close(ferry_anderson *anderson)
{
    free(anderson->best_x);
    free(anderson->best_r);
    free(anderson->last_x);
    free(anderson->last_r);
    for (int k = 0; k < MEMORY; k++) {
        free(anderson->dr[k]);
        free(anderson->dy[k]);
    }
    memset(anderson, 0, sizeof *anderson);
}

void ferry_anderson_forget(ferry_anderson *anderson)
{
    anderson->filled = anderson->next = 0;
    anderson->started = false;
    anderson->best = INFINITY;
}

int64_t ferry_anderson_bytes(int64_t count)
{
    return count * (4 * (int64_t)sizeof(double) + 2 * MEMORY * (int64_t)sizeof(float));
}

/* The products of rows first ... end - 1. */
static void add_products(double *sums, const ferry_anderson *a, const double *r, int newest, int64_t first, int64_t end)
{
    for (int k = 0; k < a->filled; k++) {
        const float *d = a->dr[k], *e = a->dr[newest];
        double with_newest = 0, with_r = 0;
        for (int64_t i = first; i < end; i++) {
            const double wd = a->weight[i] * (double)d[i];
            with_newest += wd * (double)e[i];
            with_r += wd * r[i];
        }
        sums[k] += with_newest;
        sums[MEMORY + k] += with_r;
    }
}

/* Local. Products by canonical blocks into a forest. */
static ferry_status plant(ferry_forest **out, const ferry_anderson *a, const double *r, int newest)
{
    const ferry_shards *shards = a->shards;
    const int part = a->world->rank;
    FERRY_TRY(ferry_forest_open(out, WIDTH, shards->blocks.count, FERRY_JOIN_SUM));
    FERRY_TRY(ferry_forest_expect(*out, shards, a->world));
    for (int b = shards->block[part]; b < shards->block[part + 1]; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, *out));
        add_products(leaf, a, r, newest, ferry_block_first(&shards->blocks, b) - shards->first[part],
                     ferry_block_first(&shards->blocks, b + 1) - shards->first[part]);
        ferry_forest_add(*out, b);
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status products(double *sums, const ferry_anderson *a, const double *r, int newest)
{
    memset(sums, 0, WIDTH * sizeof *sums);
    if (!a->shards) {
        add_products(sums, a, r, newest, 0, a->count);
        return FERRY_OK;
    }
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(a->world, plant(&forest, a, r, newest));
    if (status == FERRY_OK) status = ferry_forest_reduce(sums, forest, a->world, a->how);
    ferry_forest_close(&forest);
    return status;
}

/* The step from last to (x, r) becomes a difference; returns its slot. */
static int remember(ferry_anderson *a, const double *x, const double *r)
{
    const int slot = a->next;
    for (int64_t i = 0; i < a->count; i++) {
        const double d = r[i] - a->last_r[i];
        a->dr[slot][i] = (float)d;
        a->dy[slot][i] = (float)(x[i] - a->last_x[i] + d);
    }
    a->next = (slot + 1) % MEMORY;
    if (a->filled < MEMORY) a->filled++;
    return slot;
}

/* a x = b for a small positive definite a [n][n] by elimination; b becomes x. Here and not by linear.h: every rank
 * solves for itself and must get the same bits. */
static void eliminate(double *a, double *b, int n)
{
    for (int k = 0; k < n; k++)
        for (int i = k + 1; i < n; i++) {
            const double factor = a[i * n + k] / a[k * n + k];
            for (int j = k; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    for (int k = n - 1; k >= 0; k--) {
        for (int j = k + 1; j < n; j++) b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
}

/* theta [filled]; false when there is none */
static bool mixing(double *theta, const ferry_anderson *a)
{
    const int n = a->filled;
    double matrix[MEMORY * MEMORY], trace = 0;
    for (int i = 0; i < n; i++) trace += a->gram[i][i];
    if (!(trace > 0) || !isfinite(trace)) return false;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) matrix[i * n + j] = a->gram[i][j] + (i == j ? 1e-8 * trace : 0);
    eliminate(matrix, theta, n);
    for (int i = 0; i < n; i++)
        if (!isfinite(theta[i])) return false;
    return true;
}

static void keep(double *to_x, double *to_r, const ferry_anderson *a, const double *x, const double *r)
{
    memcpy(to_x, x, (size_t)a->count * sizeof *x);
    memcpy(to_r, r, (size_t)a->count * sizeof *r);
}

ferry_status ferry_anderson_step(double *x, ferry_anderson *a, const double *r, double error, bool mix)
{
    double sums[WIDTH], theta[MEMORY] = {0};
    if (!(error <= 2.5 * a->best) && a->started) {
        for (int64_t i = 0; i < a->count; i++) x[i] = a->best_x[i] + a->best_r[i];
        a->filled = a->next = 0;
        a->started = false;
        a->best = isfinite(error) ? error : INFINITY;
        a->restarts++;
        return FERRY_OK;
    }
    if (error < a->best) {
        a->best = error;
        keep(a->best_x, a->best_r, a, x, r);
    }
    if (a->started) {
        const int newest = remember(a, x, r);
        FERRY_TRY(products(sums, a, r, newest));
        for (int k = 0; k < a->filled; k++) {
            a->gram[newest][k] = a->gram[k][newest] = sums[k];
            theta[k] = sums[MEMORY + k];
        }
    }
    const bool mixed = mix && a->filled > 0 && mixing(theta, a);
    keep(a->last_x, a->last_r, a, x, r);
    a->started = true;
    for (int64_t i = 0; i < a->count; i++) {
        double correction = 0;
        for (int k = 0; k < a->filled && mixed; k++) correction += theta[k] * (double)a->dy[k][i];
        x[i] += r[i] - fmin(fmax(correction, -FAR), FAR);
    }
    return FERRY_OK;
}

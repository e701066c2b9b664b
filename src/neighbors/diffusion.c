/* Iterative diffusion (MAGIC: van Dijk et al. 2018; CellMapper's iterative map): Z <- M Z, t times.
 *
 *  A step is a transfer whose results go back to the owners of the rows: only the rows of Z that a block of M touches
 *  travel, and every sum runs over the cells of its row in ascending order, so the ranks do not show. */
#include "diffusion.h"
#include "diffusion_impl.h"
#include "mpi/fetch.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <string.h>

/* Rows of a step on their way to those who hold them. */
typedef struct step {
    const ferry_world *world;
    const int64_t *first;
    double *next; /* [rows here][width] */
} step;

static ferry_status number_rows(int64_t **key, int64_t first, int64_t rows)
{
    FERRY_TRY(ferry_alloc(key, rows));
    for (int64_t i = 0; i < rows; i++) (*key)[i] = first + i;
    return FERRY_OK;
}

/* Collective. A ferry_values_taker. */
static ferry_status take_rows(void *self, int64_t first, int64_t rows, int64_t width, const double *values)
{
    step *s = self;
    FERRY_AUTO int64_t *key = NULL;
    FERRY_AUTO int64_t *keys = NULL;
    FERRY_AUTO double *payload = NULL;
    const size_t size = (size_t)width * sizeof *payload;
    int64_t received = 0;
    void *came = NULL;
    FERRY_TRY(ferry_agree(s->world, number_rows(&key, first, rows)));
    FERRY_TRY(ferry_deliver(&keys, &came, &received, s->world, s->first, key, values, size, rows));
    payload = came;
    for (int64_t i = 0; i < received; i++)
        memcpy(s->next + (keys[i] - s->first[s->world->rank]) * width, payload + i * width, size);
    return FERRY_OK;
}

/* Collective. */
static ferry_status iterate(double *values, ferry_weights *weights, const ferry_world *world, const int64_t *first,
                            int64_t width, int steps)
{
    FERRY_AUTO double *next = NULL;
    const int64_t count = (first[world->rank + 1] - first[world->rank]) * width;
    FERRY_TRY(ferry_agree(world, ferry_alloc(&next, count)));
    for (int t = 0; t < steps; t++) {
        step s = {world, first, next};
        const ferry_transfer_values from = {values, first, width};
        FERRY_TRY(ferry_transfer_numbers(weights, world, &from, take_rows, &s));
        memcpy(values, next, (size_t)count * sizeof *values);
        ferry_progress(world, "diffusion", t + 1, steps, "steps", NULL);
        ferry_stage_sample();
    }
    return FERRY_OK;
}

bool ferry_diffusion_complete(int64_t rows, const ferry_diffusion_options *options)
{
    return options->eigenvectors == 0 || options->eigenvectors >= (rows + 2) / 3;
}

int64_t ferry_diffusion_rows(int64_t rows, int ranks)
{
    return rows / ranks + rows / ranks / 16 + 2 * FERRY_TARGET_UNIT; /* shards may be uneven by a sixteenth */
}

int64_t ferry_diffusion_bytes(int64_t rows, int64_t width, int ranks, const ferry_diffusion_options *options)
{
    if (options->method == FERRY_SPECTRAL) return ferry_spectral_bytes(rows, width, ranks, options);
    /* the next values, and what a block touches and sends */
    return 8 * width * ferry_diffusion_rows(rows, ranks) + ((int64_t)64 << 20);
}

ferry_status ferry_diffusion_fits(int64_t rows, int64_t width, int ranks, const ferry_diffusion_options *options)
{
    char needs[32], has[32];
    const int64_t bytes = ferry_diffusion_bytes(rows, width, ranks, options);
    if (options->memory <= 0 || bytes <= options->memory) return FERRY_OK;
    ferry_size_text(needs, (double)bytes);
    ferry_size_text(has, (double)options->memory);
    if (options->method == FERRY_ITERATIVE)
        return ferry_fail(FERRY_E_PLAN,
                          "diffusion of %lld columns needs %s per rank, of %s: fewer columns, more ranks, "
                          "or raise --memory",
                          (long long)width, needs, has);
    return ferry_fail(FERRY_E_PLAN,
                      "%s eigenvectors of %lld cells need %s per rank, of %s: %s, take --diffusion iterative or more "
                      "ranks, or raise --memory",
                      ferry_diffusion_complete(rows, options) ? "all" : "the", (long long)rows, needs, has,
                      ferry_diffusion_complete(rows, options) ? "name --eigenvectors below a third of the cells"
                                                              : "lower --eigenvectors");
}

/* Local. */
static ferry_status check(const ferry_weights *weights, const ferry_world *world, const int64_t *first, int64_t width,
                          const ferry_diffusion_options *options)
{
    if (options->steps < 1) return ferry_fail(FERRY_E_ARG, "diffusion of %d steps: at least 1", options->steps);
    if (width < 1) return ferry_fail(FERRY_E_ARG, "diffusion of %lld columns: at least 1", (long long)width);
    if (weights->rows != weights->columns || first[world->size] != weights->rows)
        return ferry_fail(FERRY_E_ARG,
                          "diffusion is for one set of cells: weights are %lld x %lld, values of %lld rows: leave out "
                          "--steps, or map one set to itself",
                          (long long)weights->rows, (long long)weights->columns, (long long)first[world->size]);
    return ferry_diffusion_fits(weights->rows, width, world->size, options);
}

/* Collective. */
static ferry_status spectral(double *values, double *residual, ferry_weights *weights, const ferry_world *world,
                             const int64_t *first, int64_t width, const ferry_diffusion_options *options)
{
    ferry_spectrum spectrum;
    FERRY_TRY(ferry_spectrum_open(&spectrum, weights, world, options));
    if (residual) *residual = spectrum.residual;
    const ferry_status status = ferry_spectrum_apply(values, &spectrum, world, first, width, options->steps);
    ferry_spectrum_close(&spectrum);
    return status;
}

ferry_status ferry_diffuse(double *values, double *residual, ferry_weights *weights, const ferry_world *world,
                           const int64_t *first, int64_t width, const ferry_diffusion_options *options)
{
    if (residual) *residual = 0;
    FERRY_TRY(ferry_agree(world, check(weights, world, first, width, options)));
    if (weights->rows == 0) return FERRY_OK;
    if (options->method == FERRY_SPECTRAL) return spectral(values, residual, weights, world, first, width, options);
    return iterate(values, weights, world, first, width, options->steps);
}

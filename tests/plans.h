/** plans.h - small solved problems for tests: two .h5ad files and a PLAN.h5 from given points and potentials. */
#ifndef PLANS_H
#define PLANS_H
#include "io/write.h"
#include "kernels/kernels.h"
#include "transport/plan.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct plans_side {
    int64_t cells;
    int dim;
    const double *points;    /* [cells, dim] */
    const double *potential; /* [cells]; NULL: zeros */
    const int32_t *label;    /* [cells] of obs column "group", into names; NULL: none */
    const char *const *names;
    int categories;
    const char *prefix; /* cells are called prefix0, prefix1, ...; NULL: "cell" */
} plans_side;

/* A folder for the files, the same on all ranks; removed by plans_remove. */
static inline void plans_folder(char folder[64], const ferry_world *world)
{
    snprintf(folder, 64, "/tmp/cellferry-plans-XXXXXX");
    if (world->rank == 0 && !mkdtemp(folder)) exit(1);
    ferry_broadcast(world, folder, 64, 0);
}

static inline void plans_remove(const char *folder, const ferry_world *world)
{
    char command[128];
    ferry_barrier(world);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (world->rank == 0 && system(command)) fprintf(stderr, "%s stays\n", folder);
}

static inline double *plans_random(int64_t count, uint64_t seed) /* about normal, the same everywhere */
{
    double *v = malloc((size_t)(count + 1) * sizeof *v);
    for (int64_t i = 0; i < count; i++) {
        double sum = -6;
        for (int k = 0; k < 12; k++) {
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            sum += (double)(seed >> 11) / 9007199254740992.0;
        }
        v[i] = sum;
    }
    return v;
}

static inline ferry_status plans_names(ferry_names *names, const plans_side *side, int64_t first, int64_t count)
{
    char text[64];
    for (int64_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s%lld", side->prefix ? side->prefix : "cell", (long long)(first + i));
        FERRY_TRY(ferry_names_add(names, text, -1));
    }
    return FERRY_OK;
}

static inline ferry_status plans_fill(ferry_output *output, const ferry_world *world, const plans_side *side)
{
    const int64_t first = side->cells * world->rank / world->size;
    const int64_t count = side->cells * (world->rank + 1) / world->size - first;
    ferry_names cells = {0}, genes = {0}, categories = {0};
    ferry_status status = plans_names(&cells, side, first, count);
    if (status == FERRY_OK && world->rank == 0) status = ferry_names_add(&genes, "gene0", -1);
    for (int k = 0; status == FERRY_OK && k < side->categories; k++)
        status = ferry_names_add(&categories, side->names[k], -1);
    status = ferry_agree(world, status);
    if (status == FERRY_OK) status = ferry_output_anndata(output);
    if (status == FERRY_OK) status = ferry_output_frame(output, "obs", side->cells, first, &cells);
    if (status == FERRY_OK) status = ferry_output_frame(output, "var", 1, 0, &genes);
    if (status == FERRY_OK)
        status = ferry_output_array(output, "obsm/X_pca", FERRY_F64, side->cells, side->dim, first, count,
                                    side->points + first * side->dim);
    if (status == FERRY_OK && side->label)
        status =
            ferry_output_categorical(output, "obs", "group", first, count, side->label + first, &categories, false);
    ferry_names_close(&cells);
    ferry_names_close(&genes);
    ferry_names_close(&categories);
    return status;
}

static inline ferry_status plans_write_cells(const char *path, const ferry_world *world, const plans_side *side)
{
    ferry_output *output = NULL;
    FERRY_TRY(ferry_output_open(&output, world, path, true));
    ferry_status status = plans_fill(output, world, side);
    if (status != FERRY_OK) {
        ferry_output_discard(&output);
        return status;
    }
    return ferry_output_finish(&output);
}

/* Everything of one problem that is open while its plan is written. */
typedef struct plans_job {
    ferry_population side[2];
    ferry_grid grid;
    ferry_cost *cost;
    ferry_matrix x, y;
} plans_job;

static inline ferry_status plans_write_job(plans_job *job, const char *path, const ferry_world *world,
                                           const plans_side *source, const plans_side *target, int grid_cols,
                                           const ferry_cost_options *options, double inv_scale, double epsilon)
{
    static const double zeros[100000];
    double errors[2] = {0.5, 0.0625};
    FERRY_TRY(ferry_grid_open(&job->grid, world, world->size / grid_cols, grid_cols, source->cells, target->cells));
    const ferry_grid *grid = &job->grid;
    FERRY_TRY(ferry_population_points(&job->x, world, &job->side[0], grid->source_first, grid->source_rows,
                                      options->precision, NULL));
    FERRY_TRY(ferry_population_points(&job->y, world, &job->side[1], grid->bring_first, grid->bring_rows,
                                      options->precision, NULL));
    FERRY_TRY(ferry_cost_open_target(&job->cost, grid, &job->y, options, inv_scale));
    ferry_potentials potentials = {.f = (double *)(source->potential ? source->potential : zeros) + grid->source_first,
                                   .g = (double *)(target->potential ? target->potential : zeros) + grid->target_first,
                                   .epsilon = epsilon,
                                   .tau_a = 1,
                                   .tau_b = 1,
                                   .iterations = 20,
                                   .passes = 21,
                                   .checks = 2,
                                   .errors = errors,
                                   .converged = true,
                                   .marginal_error = 0.0625};
    const uint64_t x = (uint64_t)ferry_total(world, (int64_t)ferry_plan_source_fingerprint(grid, &job->x));
    const uint64_t y = (uint64_t)ferry_total(world, (int64_t)ferry_plan_target_fingerprint(grid, &job->y));
    return ferry_plan_write(path, true, grid, &job->side[0], &job->side[1], job->cost, "mean", &potentials, zeros,
                            zeros, x, y, 1e-3, 10, "{}");
}

/* Collective. folder/NAME.h5 of folder/NAME_source.h5ad and folder/NAME_target.h5ad, which are there. */
static inline ferry_status plans_write_plan(const char *folder, const char *name, const ferry_world *world,
                                            const plans_side *source, const plans_side *target, int grid_cols,
                                            const ferry_cost_options *options, double inv_scale, double epsilon)
{
    char path[3][160];
    plans_job job = {0};
    ferry_status status = FERRY_OK;
    snprintf(path[0], sizeof path[0], "%s/%s_source.h5ad", folder, name);
    snprintf(path[1], sizeof path[1], "%s/%s_target.h5ad", folder, name);
    snprintf(path[2], sizeof path[2], "%s/%s.h5", folder, name);
    for (int i = 0; status == FERRY_OK && i < 2; i++) {
        const ferry_population_options population = {.path = path[i], .rep = "X_pca"};
        status = ferry_population_open(&job.side[i], world, &population);
    }
    if (status == FERRY_OK)
        status = plans_write_job(&job, path[2], world, source, target, grid_cols, options, inv_scale, epsilon);
    ferry_cost_close(&job.cost);
    ferry_matrix_close(&job.x);
    ferry_matrix_close(&job.y);
    ferry_grid_close(&job.grid);
    ferry_population_close(&job.side[0]);
    ferry_population_close(&job.side[1]);
    return status;
}

/* Collective. All three. */
static inline ferry_status plans_write(const char *folder, const char *name, const ferry_world *world,
                                       const plans_side *source, const plans_side *target, int grid_cols,
                                       const ferry_cost_options *options, double inv_scale, double epsilon)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s_source.h5ad", folder, name);
    FERRY_TRY(plans_write_cells(path, world, source));
    snprintf(path, sizeof path, "%s/%s_target.h5ad", folder, name);
    FERRY_TRY(plans_write_cells(path, world, target));
    return plans_write_plan(folder, name, world, source, target, grid_cols, options, inv_scale, epsilon);
}

/* Collective. The plan, on this world, with so many threads; kernels as chosen by FERRY_SIMD, else the best. */
static inline ferry_status plans_open(ferry_plan *plan, const char *folder, const char *name, const ferry_world *world,
                                      int threads)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s.h5", folder, name);
    FERRY_TRY(ferry_plan_open(plan, world, path));
    plan->cost.threads = threads;
    return ferry_kernels_choose(&plan->cost.kernels, world, NULL);
}

/* P [n, m] of squared Euclidean costs, in double. */
static inline double *plans_dense(const plans_side *source, const plans_side *target, double inv_scale, double epsilon)
{
    double *p = malloc((size_t)(source->cells * target->cells + 1) * sizeof *p);
    for (int64_t i = 0; i < source->cells; i++)
        for (int64_t j = 0; j < target->cells; j++) {
            double c = 0;
            for (int k = 0; k < source->dim; k++) {
                const double d = source->points[i * source->dim + k] - target->points[j * source->dim + k];
                c += d * d;
            }
            p[i * target->cells + j] = exp(((source->potential ? source->potential[i] : 0) +
                                            (target->potential ? target->potential[j] : 0) - inv_scale * c) /
                                           epsilon);
        }
    return p;
}
#endif

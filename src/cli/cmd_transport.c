/* cmd_transport.c - `cellferry transport`: open, plan, read, prepare, solve, write. */
#include "cmd_transport.h"
#include "progress.h"
#include "record.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_CONVERGED = 4 };

/* Passes over all pairs that the statistics of the cost take. */
static int statistics_passes(const transport_job *job)
{
    const ferry_cost_options *cost = &job->cost_options;
    bool closed = cost->kind == FERRY_COST_SQ_EUCLIDEAN || cost->kind == FERRY_COST_DOT;
    int passes = cost->scale == FERRY_SCALE_MAX_COST || (cost->scale == FERRY_SCALE_MEAN && !closed);
    if (cost->scale == FERRY_SCALE_MEDIAN) passes += 4;
    if (job->o->epsilon_of == FERRY_EPSILON_OF_STD || (job->o->epsilon_of == FERRY_EPSILON_OF_MEAN && !closed))
        passes += passes == 0;
    return passes;
}

/* Collective. */
static ferry_status open_sides(transport_job *job)
{
    const ferry_world *world = &job->program->world;
    ferry_population_options source = job->source.options, target = job->target.options;
    FERRY_TRY(ferry_population_open(&job->source, world, &source));
    FERRY_TRY(ferry_population_open(&job->target, world, &target));
    if (job->source.dim == job->target.dim) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "the source has %d columns (%s of %s) and the target %d (%s of %s): they have to agree; choose "
                      "with --source-rep, --target-rep or --dims",
                      job->source.dim, job->source.options.rep, source.path, job->target.dim, job->target.options.rep,
                      target.path);
}

/* Local. One file without filters of its own for either side: most likely a mistake. */
static void warn_same_cells(const transport_job *job)
{
    const transport_options *o = job->o;
    const side_options *side[] = {&o->source, &o->target};
    bool told_apart = job->program->inputs > 1;
    for (int i = 0; i < 2; i++) told_apart |= side[i]->where.count || side[i]->rep || side[i]->dims || side[i]->weights;
    if (!told_apart && job->program->world.rank == 0)
        ferry_log(&job->program->world, FERRY_WARN,
                  "source and target are the same cells of %s: tell them apart by --source-where and --target-where",
                  job->program->input[0]);
}

/* A rank's part of solving by a coreset: as if the grid had one column, which takes most. */
static int64_t coreset_bytes(const transport_job *job, int ranks)
{
    const int64_t n = job->source.cells, m = job->target.cells;
    if (!job->coarse) return 0;
    return ferry_coreset_bytes(&job->cost_options, job->source.dim, &job->coreset, n, m, n / ranks, m, ranks, 1);
}

/* Local. What is left of --memory is for the cache: half of it at most, and what is of use. */
static ferry_status choose_cache(transport_job *job, const ferry_machine *machine)
{
    ferry_layout *layout = &job->layout;
    const int64_t left =
        (machine->memory - layout->bytes) / 51 * 50; /* the heap takes a little more than is asked for */
    const int64_t rows = job->source.cells / layout->grid_rows, columns = job->target.cells / layout->grid_cols;
    const int64_t useful =
        ferry_cache_bytes(rows + rows / 16 + FERRY_SOURCE_UNIT, columns + columns / 16 + FERRY_TARGET_UNIT);
    char asked[32], rest[32];
    int64_t bytes = job->cache_most;
    if (bytes > left && bytes > 0)
        return ferry_fail(FERRY_E_PLAN,
                          "--cache %s does not fit beside the rest: --memory leaves %s of it; lower --cache, "
                          "leave it out, or raise --memory",
                          ferry_size_text(asked, (double)bytes), ferry_size_text(rest, (double)left));
    if (bytes < 0) bytes = machine->memory / 2 < left ? machine->memory / 2 : left;
    if (job->solver.solver == FERRY_SOLVER_SINKHORN || job->cost_options.precision == FERRY_DOUBLE) bytes = 0;
    job->solver.cache_bytes = bytes < useful ? bytes : useful;
    for (int i = 0; i < layout->phases; i++) { /* while it lasts, that is part of what is promised */
        ferry_phase *phase = &layout->phase[i];
        if (strcmp(phase->name, "start pass") != 0 && strcmp(phase->name, "each iteration") != 0) continue;
        phase->bytes += job->solver.cache_bytes / 50 * 51;
        if (phase->bytes > layout->bytes) layout->bytes = phase->bytes;
    }
    return FERRY_OK;
}

/* Collective. The measured base: files open, libraries loaded. */
static ferry_status choose_layout(transport_job *job)
{
    const ferry_machine machine = machine_of(job->program);
    const ferry_work work = {.cost = &job->cost_options,
                             .dim = job->source.dim,
                             .sources = job->source.cells,
                             .targets = job->target.cells,
                             .passes = statistics_passes(job),
                             .iterations = job->solver.max_iterations,
                             .accelerated = job->solver.solver == FERRY_SOLVER_AUTO && job->solver.momentum == 1,
                             .fixed_bytes = coreset_bytes(job, machine.ranks),
                             .base = ferry_max(&job->program->world, ferry_usage_now().pss)};
    FERRY_TRY(ferry_agree(&job->program->world, ferry_layout_choose(&job->layout, &work, &machine, job->grid_rows,
                                                                    job->grid_cols, job->o->common.batch)));
    job->cost_options.panels = job->layout.panels;
    return ferry_agree(&job->program->world, choose_cache(job, &machine));
}

/* What stands for the iterations of the table. */
static void print_coarse_plan(const transport_job *job, const ferry_machine *machine)
{
    const ferry_coreset_options *o = &job->coreset;
    const int64_t n = job->source.cells, m = job->target.cells;
    const double cells[2] = {(double)(o->cells ? o->cells : ferry_coreset_cells(n)),
                             (double)(o->cells ? o->cells : ferry_coreset_cells(m))};
    const double s = fmin(cells[0], (double)n), t = fmin(cells[1], (double)m), all = (double)n * (double)m;
    char bytes[32];
    printf("coarse: about %.0f x %.0f cells are solved, %.2g of all pairs an iteration; extended by %.2g of them; then "
           "%s; "
           "%s of the bytes\n",
           s, t, s * t / all, 3 * ((double)n * t + (double)m * s) / all,
           o->certify == FERRY_CERTIFY_FULL ? "one pass over all pairs" : "no pass over all pairs: estimates",
           ferry_size_text(bytes, (double)coreset_bytes(job, machine->ranks)));
}

/* Collective. What --plan prints beside the phases: what the filters keep, and rows that could not be used. */
static ferry_status describe(transport_job *job)
{
    const ferry_world *world = &job->program->world;
    const ferry_population *side[] = {&job->source, &job->target};
    const char *name[] = {"source", "target"};
    int64_t bad[2];
    for (int i = 0; i < 2; i++) FERRY_TRY(points_not_finite(&bad[i], world, side[i], job->layout.batch));
    ferry_machine machine = machine_of(job->program);
    json *figures = &job->program->figures;
    progress_end();
    for (int i = 0; i < 2; i++) {
        char key[40];
        input_record(&job->program->inputs_json, name[i], side[i], 0);
        (void)snprintf(key, sizeof key, "%s_rows_not_finite", name[i]);
        json_count(figures, key, bad[i]);
    }
    layout_record(figures, &job->layout, &machine);
    json_count(figures, "cache_bytes", job->solver.cache_bytes);
    if (world->rank != 0 || job->o->common.json) return FERRY_OK;
    for (int i = 0; i < 2; i++) {
        input_print(name[i], side[i]);
        printf("         rows with NaN or infinity: %lld%s\n", (long long)bad[i],
               bad[i] ? " (a run ends with exit code 3; leave them out with --where)" : "");
    }
    layout_print(&job->layout, &machine);
    char cache[32];
    printf("cache: %s of the bytes per rank for the plan of a pass\n",
           job->solver.cache_bytes ? ferry_size_text(cache, (double)job->solver.cache_bytes) : "nothing");
    if (job->coarse) print_coarse_plan(job, &machine);
    return FERRY_OK;
}

/* Collective. Sums of weights only for a message: to nine digits, the same for any number of ranks. */
static double rough_sum(const ferry_world *world, const double *values, int64_t count, bool mine)
{
    double largest = 0;
    int64_t parts = 0;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, values[i]);
    largest = ferry_max_double(world, largest);
    for (int64_t i = 0; i < count && mine && largest > 0; i++) parts += llround(values[i] / largest * 1073741824.0);
    return (double)ferry_total(world, parts) / 1073741824.0 * largest;
}

/* Collective. Points of both sides into the packed cost; they are freed before the solve. */
static ferry_status read_and_pack(transport_job *job)
{
    const ferry_world *world = &job->program->world;
    const ferry_grid *grid = &job->grid;
    const ferry_precision precision = job->cost_options.precision;
    const int64_t batch = job->layout.batch;
    ferry_matrix x = {0}, y = {0};
    watch_stage("read");
    ferry_status status = points_read(&x, world, &job->source, grid->source_first, grid->source_rows, batch, precision);
    if (status == FERRY_OK)
        status = points_read(&y, world, &job->target, grid->bring_first, grid->bring_rows, batch, precision);
    if (status == FERRY_OK) {
        uint64_t mine[] = {ferry_plan_source_fingerprint(grid, &x), ferry_plan_target_fingerprint(grid, &y)};
        for (int i = 0; i < 2; i++) job->fingerprint[i] = (uint64_t)ferry_total(world, (int64_t)mine[i]);
        ferry_stage_sample();
        watch_stage("prepare");
        status = ferry_cost_open(&job->cost, grid, &x, &y, &job->cost_options);
    }
    ferry_matrix_close(&y);
    ferry_matrix_close(&x);
    return status;
}

/* Collective. */
static ferry_status prepare(transport_job *job)
{
    const ferry_world *world = &job->program->world;
    ferry_grid *grid = &job->grid;
    FERRY_TRY(ferry_grid_open(grid, world, job->layout.grid_rows, job->layout.grid_cols, job->source.cells,
                              job->target.cells));
    FERRY_TRY(read_and_pack(job));
    FERRY_TRY(
        ferry_cost_epsilon(&job->solver.epsilon, job->cost, (ferry_epsilon_of)job->o->epsilon_of, job->o->epsilon));
    FERRY_TRY(ferry_population_weights(&job->a, world, &job->source, grid->source_first, grid->source_rows));
    FERRY_TRY(ferry_population_weights(&job->b, world, &job->target, grid->target_first, grid->target_rows));
    job->sum_a = rough_sum(world, job->a, grid->source_rows, grid->col == 0);
    job->sum_b = rough_sum(world, job->b, grid->target_rows, grid->row == 0);
    if (!job->o->initial) return FERRY_OK;
    FERRY_TRY(ferry_plan_initial(&job->f, &job->g, job->o->initial, world, grid, &job->source, &job->target,
                                 &job->cost_options, job->solver.epsilon));
    job->solver.f = job->f;
    job->solver.g = job->g;
    return FERRY_OK;
}

/* Collective. */
static ferry_status write_plan(transport_job *job)
{
    const transport_options *o = job->o;
    FERRY_AUTO char *record = NULL;
    FERRY_TRY(record_text(&record, job->program));
    return ferry_plan_write(o->common.output, o->common.overwrite, &job->grid, &job->source, &job->target, job->cost,
                            o->scale_cost, &job->potentials, job->a, job->b, job->fingerprint[0], job->fingerprint[1],
                            o->threshold, job->solver.check_every, record);
}

/* Collective. */
static ferry_status work(transport_job *job)
{
    const cli_program *program = job->program;
    const ferry_world *world = &program->world;
    watch_stage("open");
    FERRY_TRY(ferry_agree(world, transport_check(job)));
    FERRY_TRY(output_check(program));
    FERRY_TRY(open_sides(job));
    FERRY_TRY(choose_layout(job));
    warn_same_cells(job);
    if (job->o->common.plan) return describe(job);
    FERRY_TRY(prepare(job));
    watch_stage("solve");
    progress_goal(job->solver.threshold);
    if (job->coarse)
        FERRY_TRY(ferry_transport_coarse(&job->potentials, job->cost, job->a, job->b, &job->solver, &job->coreset));
    else
        FERRY_TRY(ferry_transport(&job->potentials, job->cost, job->a, job->b, &job->solver));
    transport_record(job);
    watch_stage("write");
    FERRY_TRY(write_plan(job));
    ferry_stage_begin(NULL);
    progress_end();
    if (!job->potentials.converged) job->program->exit_code = NOT_CONVERGED;
    if (world->rank != 0) return FERRY_OK;
    transport_warn(job);
    if (!job->o->common.json) transport_summary(job);
    return FERRY_OK;
}

static ferry_status run_transport(cli_program *program, const void *options)
{
    transport_job job = {.program = program, .o = options};
    ferry_status status = work(&job);
    ferry_potentials_close(&job.potentials);
    free(job.f);
    free(job.g);
    free(job.a);
    free(job.b);
    ferry_cost_close(&job.cost);
    ferry_grid_close(&job.grid);
    ferry_population_close(&job.target);
    ferry_population_close(&job.source);
    free(job.where[0]);
    free(job.where[1]);
    return status;
}

const cli_command command_transport = {
    .name = "transport",
    .line = "entropic optimal transport between two populations: PLAN.h5",
    .usage = "SOURCE [TARGET] -o PLAN.h5",
    .text =
        "Solves entropic optimal transport from the cells of SOURCE to the cells of TARGET, .h5ad files (or @LIST.txt "
        "naming one .h5ad a line). With one file both sides are taken from it, told apart by --source-where and "
        "--target-where. PLAN.h5 holds the potentials; sparsify, push, pull and transition work from them. Exit code "
        "4: the error is still above --threshold after --max-iterations; the result is written all the same.\n\n"
        "Every result says how good it is: the errors of the marginals in a float32 pass over all pairs with float64 "
        "sums, and two numbers between which the optimum lies, whatever the solver did. They are of the objective "
        "<P,C> + epsilon sum P (log P - 1), with rho KL(marginal|weights) for a side whose tau is below 1. A balanced "
        "optimum is the regularised cost less epsilon (H(a) + H(b) + 1) for weights a and b that sum to 1, H(a) = -sum "
        "a log a; the regularised cost of an unbalanced plan is OTT-JAX's, which is of another objective.",
    .example =
        "cellferry transport cells.h5ad --source-where phase=G1 --target-where phase=S,G2M -o plan.h5\n"
        "mpirun -n 8 cellferry transport day0.h5ad day2.h5ad --rep X_pca --dims 30 --epsilon 0.01 --memory 4G -o "
        "plan.h5\n"
        "mpirun -n 64 cellferry transport day0.h5ad day2.h5ad --coarse 50000 --certify sample -o plan.h5   (millions "
        "of "
        "cells)",
    .options = transport_table,
    .absent = transport_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(transport_options),
    .min_inputs = 1,
    .max_inputs = 2,
    .run = run_transport};

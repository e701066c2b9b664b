/* cmd_bench.c - `cellferry bench kernels`: the machine's peaks and each kernel's share of them, in one run. */
#include "bench_kernels.h"
#include "program.h"
#include "progress.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLES      "all|generic|avx2|avx512"
#define MOST_DIMS   16
#define LARGEST_DIM 65536

typedef struct bench_options {
    common_options common;
    const char *dims;
    int64_t columns;
    int simd;
} bench_options;

static const cli_option OPTIONS[] = {{"dims", 0, OPTION_TEXT, "N[,N]", offsetof(bench_options, dims), "10,30,50,350",
                                      "columns", "Dimensions of the points, as a representation may have"},
                                     {"columns", 0, OPTION_COUNT, "N", offsetof(bench_options, columns), "20000",
                                      "cells",
                                      "Target cells. What is larger than the last cache has memory as its second roof"},
                                     {"simd", 0, OPTION_CHOICE, TABLES, offsetof(bench_options, simd), "all", NULL,
                                      "Which kernels; all: those that every rank has"},
                                     {0}};

static ferry_status parse_dims(int dims[MOST_DIMS], int *count, const char *text)
{
    *count = 0;
    for (const char *at = text; *count < MOST_DIMS; at++) {
        char *end;
        errno = 0;
        const long dim = strtol(at, &end, 10);
        if (end == at || errno || dim < 1 || dim > LARGEST_DIM || (*end && *end != ',')) break;
        dims[(*count)++] = (int)dim;
        if (!*end) return FERRY_OK;
        at = end;
    }
    return ferry_fail(FERRY_E_ARG, "--dims %s: at most %d numbers from 1 to %d, such as 30,50,350", text, MOST_DIMS,
                      LARGEST_DIM);
}

static ferry_status check_options(int dims[MOST_DIMS], int *count, const bench_options *o, const char *what)
{
    if (strcmp(what, "kernels") != 0)
        return ferry_fail(FERRY_E_ARG, "there is no bench '%s'; there is 'cellferry bench kernels'", what);
    if (o->columns < 1) return ferry_fail(FERRY_E_ARG, "--columns has to be at least 1");
    return parse_dims(dims, count, o->dims);
}

static void tell(void *self, const bench_job *job, const bench_result *r)
{
    cli_program *program = self;
    json *figures = &program->figures;
    json_begin(figures, NULL, '{');
    json_text(figures, "kernel", r->kernel);
    json_count(figures, "dim", r->dim);
    json_count(figures, "panels", r->panels);
    json_number(figures, "pairs_per_core_second", r->pairs);
    json_number(figures, "roof", r->roof);
    json_text(figures, "roof_of", r->roof > 0 ? (r->memory ? "memory" : "multiply-adds") : NULL);
    json_end(figures, '}');
    if (program->world.rank != 0 || program->common->json) return;
    (void)job;
    if (r->dim)
        printf("  %4d  %-30s", r->dim, r->kernel);
    else
        printf("        %-30s", r->kernel);
    printf("  %6d  %9.4f", r->panels, 1e-9 * r->pairs);
    if (r->roof > 0)
        printf("  %9.4f  %5.1f %%%s", 1e-9 * r->roof, 100 * r->pairs / r->roof, r->memory ? "  of memory" : "");
    printf("\n");
    (void)fflush(stdout);
}

static void print_head(const cli_program *program, const bench_job *job, int64_t columns)
{
    if (program->world.rank != 0 || program->common->json) return;
    printf("%s: %.1f G multiply-adds per core-second, %.1f GB/s from memory; %lld targets, %d rank%s at once\n"
           "   dim  %-30s  %6s  %9s  %9s  %7s\n",
           job->kernels->name, 1e-9 * ferry_peak_multiply_adds(job->kernels), 1e-9 * job->bandwidth, (long long)columns,
           program->world.size, program->world.size == 1 ? "" : "s", "kernel", "panels", "G pairs/s", "roof", "of it");
}

/* Collective. */
static ferry_status bench_one(cli_program *program, bench_job *job)
{
    json *figures = &program->figures;
    print_head(program, job, job->columns);
    json_begin(figures, NULL, '{');
    json_text(figures, "name", job->kernels->name);
    json_begin(figures, "kernels", '[');
    ferry_status status = bench_table(job, &program->world, tell, program);
    json_end(figures, ']');
    json_number(figures, "multiply_adds_per_core_second", job->lanes);
    json_end(figures, '}');
    return status;
}

/* Collective. The tables that all ranks have, best first. */
static ferry_status bench_all(cli_program *program, bench_job *job, const char *only)
{
    const ferry_kernels *best;
    char names[64], *rest = names;
    ferry_status status = ferry_kernels_choose(&best, &program->world, strcmp(only, "all") != 0 ? only : "auto");
    if (status != FERRY_OK) return status;
    program->kernels = best;
    (void)snprintf(names, sizeof names, "%s", ferry_kernels_names());
    for (char *name; status == FERRY_OK && (name = strtok_r(rest, " ", &rest));) {
        job->kernels = ferry_kernels_find(name);
        const bool wanted = strcmp(only, "all") != 0 ? job->kernels == best : job->kernels->level <= best->level;
        if (wanted) status = bench_one(program, job);
    }
    return status;
}

static ferry_status run(cli_program *program, const void *options)
{
    const bench_options *o = options;
    const ferry_world *world = &program->world;
    json *figures = &program->figures;
    int dims[MOST_DIMS];
    bench_job job = {.dims = dims, .columns = o->columns};
    char only[32];
    FERRY_TRY(ferry_agree(world, check_options(dims, &job.dim_count, o, program->input[0])));
    watch_stage("peaks");
    FERRY_TRY(ferry_agree(world, ferry_peak_bandwidth(&job.bandwidth)));
    job.bandwidth = -ferry_max_double(world, -job.bandwidth); /* of the slowest rank */
    watch_stage("kernels");
    json_number(figures, "bytes_per_core_second", job.bandwidth);
    json_count(figures, "columns", o->columns);
    json_count(figures, "last_cache", ferry_last_cache());
    json_begin(figures, "tables", '[');
    ferry_status status = bench_all(program, &job, choice_name(only, TABLES, o->simd));
    json_end(figures, ']');
    return status;
}

const cli_command command_bench = {
    .name = "bench",
    .line = "how fast the kernels are on this machine, and how fast they could be",
    .usage = "kernels",
    .text =
        "Measures what a core does at most, multiply-adds in registers and bytes from memory, and then each kernel of "
        "each instruction set on made-up points: pairs of cells per core-second, and their share of the roofline. "
        "Several panels of 24 source rows are what a solve evaluates together when the target side comes from memory. "
        "CPU time, the best of short pieces; ranks measure at once and the slowest counts, so that mpirun with one "
        "rank per core shows what they leave one another.",
    .example =
        "cellferry bench kernels\nmpirun -n 8 cellferry bench kernels --dims 50,350 --columns 100000 --simd avx512",
    .options = OPTIONS,
    .groups = GROUP_JSON | GROUP_TALK,
    .size = sizeof(bench_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run,
};

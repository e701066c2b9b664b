/* cmd_bench.c - `cellferry bench kernels`: the machine's peaks and each kernel's share of them, in one run; `cellferry
 * bench scaling`: passes on more and more ranks. */
#include "bench_kernels.h"
#include "bench_scaling.h"
#include "figure.h"
#include "record.h"
#include "program.h"
#include "progress.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLES      "all|generic|avx2|avx512"
#define MOST_DIMS   16
#define LARGEST_DIM 65536
#define MOST_RANKS  (SCALING_ROWS / 2)

typedef struct bench_options {
    common_options common;
    const char *dims;
    int64_t columns;
    int simd;
    /* of scaling */
    const char *counts;
    int64_t cells, passes, rounds, grid_cols, threads, seed, memory;
    int kind, solver;
    double epsilon;
} bench_options;

static const cli_option OPTIONS[] = {
    {"dims", 0, OPTION_TEXT, "N[,N]", offsetof(bench_options, dims), "(10,30,50,350; scaling: 50)", "columns",
     "Dimensions of the points, as a representation may have; scaling takes one"},
    {"columns", 0, OPTION_COUNT, "N", offsetof(bench_options, columns), "20000", "cells",
     "kernels: target cells. What is larger than the last cache has memory as its second roof"},
    {"simd", 0, OPTION_CHOICE, TABLES, offsetof(bench_options, simd), "all", NULL,
     "Which kernels; all: those that every rank has; scaling: the best of them"},
    {"ranks", 0, OPTION_TEXT, "N[,N]", offsetof(bench_options, counts), "(1,2,4, ... all that were started)", "ranks",
     "scaling: how many ranks work at a time, the fewest first; the others sleep"},
    {"cells", 0, OPTION_COUNT, "N", offsetof(bench_options, cells), "(20000)", "cells",
     "scaling: cells of each side; for weak scaling on the fewest ranks"},
    {"kind", 0, OPTION_CHOICE, "both|strong|weak", offsetof(bench_options, kind), "both", NULL,
     "scaling: strong: the same cells on more ranks; weak: as many pairs per rank"},
    {"solver", 0, OPTION_CHOICE, "sinkhorn|auto", offsetof(bench_options, solver), "sinkhorn", NULL,
     "scaling: what is timed: passes of the plain iteration, or auto: whole solves, with their set-up, to an error of "
     "1e-3; messages and bytes are then those after the first pass"},
    {"passes", 0, OPTION_COUNT, "N", offsetof(bench_options, passes), "(5)", "passes",
     "scaling: passes that are timed, beside those that are taken off"},
    {"rounds", 0, OPTION_COUNT, "N", offsetof(bench_options, rounds), "(2)", NULL,
     "scaling: the best of so many counts"},
    {"grid-cols", 0, OPTION_COUNT, "N", offsetof(bench_options, grid_cols), "(chosen)", "ranks",
     "scaling: columns of the grid of ranks, to look at grids that would not be chosen"},
    {"epsilon", 0, OPTION_NUMBER, "E", offsetof(bench_options, epsilon), "0.05", "of the mean cost",
     "scaling: of the solves that are timed"},
    {"threads", 0, OPTION_COUNT, "N", offsetof(bench_options, threads), "(1)", NULL, "scaling: threads of each rank"},
    {"memory", 0, OPTION_SIZE, "SIZE", offsetof(bench_options, memory), "(its share of what is free)", "per rank",
     "scaling: what the grid may take"},
    {"seed", 0, OPTION_COUNT, "N", offsetof(bench_options, seed), "0", NULL, "scaling: of the made-up cells"},
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(bench_options, common.output), "(none)", NULL,
     "scaling: where the result goes: .json (the run record, which `cellferry plot` draws), .csv, or a figure (.svg, "
     ".png, .pdf) with its script and numbers beside it"},
    {"overwrite", 0, OPTION_FLAG, NULL, offsetof(bench_options, common.overwrite), NULL, NULL,
     "replace an output that exists"},
    {0}};

/* "30,50,350" -> numbers; false: at most `most`, from 1 to `largest`. */
static bool parse_numbers(int *numbers, int *count, int most, int largest, const char *text)
{
    *count = 0;
    for (const char *at = text; *count < most; at++) {
        char *end;
        errno = 0;
        const long number = strtol(at, &end, 10);
        if (end == at || errno || number < 1 || number > largest || (*end && *end != ',')) break;
        numbers[(*count)++] = (int)number;
        if (!*end) return true;
        at = end;
    }
    return false;
}

static ferry_status parse_dims(int *dims, int *count, int most, const char *text)
{
    if (parse_numbers(dims, count, most, LARGEST_DIM, text)) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "--dims %s: at most %d number%s from 1 to %d, such as %s", text, most,
                      most == 1 ? "" : "s", LARGEST_DIM, most == 1 ? "50" : "30,50,350");
}

static ferry_status check_options(int dims[MOST_DIMS], int *count, const bench_options *o)
{
    static const char only[] = "is an option of bench scaling: kernels has no use for it";
    if (o->columns < 1) return ferry_fail(FERRY_E_ARG, "--columns has to be at least 1");
    if (o->counts) return ferry_fail(FERRY_E_ARG, "--ranks %s", only);
    if (o->cells || o->passes || o->rounds || o->grid_cols || o->threads || o->seed || o->memory || o->kind ||
        o->solver)
        return ferry_fail(
            FERRY_E_ARG, "--cells, --passes, --rounds, --grid-cols, --threads, --seed, --memory, --kind or --solver %s",
            only);
    if (o->common.output) return ferry_fail(FERRY_E_ARG, "--output %s; --json prints the numbers", only);
    return parse_dims(dims, count, MOST_DIMS, o->dims ? o->dims : "10,30,50,350");
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

static ferry_status run_kernels(cli_program *program, const bench_options *o)
{
    const ferry_world *world = &program->world;
    json *figures = &program->figures;
    int dims[MOST_DIMS];
    bench_job job = {.dims = dims, .columns = o->columns};
    char only[32];
    FERRY_TRY(ferry_agree(world, check_options(dims, &job.dim_count, o)));
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

/* --- scaling --- */

static int by_size(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Local. Powers of two up to all, and all. */
static void all_counts(scaling_options *out, int ranks)
{
    for (int r = 1; r < ranks && out->count + 1 < MOST_RANKS; r *= 2) out->ranks[out->count++] = r;
    out->ranks[out->count++] = ranks;
}

/* Local. */
static ferry_status scaling_of(scaling_options *out, const bench_options *o, const cli_program *program)
{
    enum { BOTH, STRONG, WEAK };
    const ferry_world *world = &program->world;
    int dims;
    *out = (scaling_options){.strong = o->kind != WEAK,
                             .weak = o->kind != STRONG,
                             .solve = o->solver == 1,
                             .cells = o->cells ? o->cells : 20000,
                             .passes = o->passes ? (int)o->passes : 5,
                             .rounds = o->rounds ? (int)o->rounds : 2,
                             .grid_cols = (int)o->grid_cols,
                             .threads = o->threads ? (int)o->threads : 1,
                             .memory = o->memory,
                             .epsilon = o->epsilon,
                             .seed = (uint64_t)o->seed};
    if (o->columns != 20000)
        return ferry_fail(FERRY_E_ARG,
                          "--columns is an option of bench kernels: --cells says how many cells there are");
    FERRY_TRY(parse_dims(&out->dim, &dims, 1, o->dims ? o->dims : "50"));
    if (o->passes > 10000 || o->rounds > 1000 || o->threads > 4096 || o->grid_cols > world->size)
        return ferry_fail(FERRY_E_ARG,
                          "--passes goes to 10000, --rounds to 1000, --threads to 4096 and --grid-cols to "
                          "the ranks there are (%d)",
                          world->size);
    if (out->cells > (int64_t)1 << 40) return ferry_fail(FERRY_E_ARG, "--cells goes to 2^40");
    if (o->solver == 1 && o->passes)
        return ferry_fail(FERRY_E_ARG, "--passes is not for --solver auto: it stops by itself");
    if (!(o->epsilon > 0)) return ferry_fail(FERRY_E_ARG, "--epsilon has to be positive");
    if (!o->counts) {
        all_counts(out, world->size);
        return FERRY_OK;
    }
    if (!parse_numbers(out->ranks, &out->count, MOST_RANKS, world->size, o->counts))
        return ferry_fail(FERRY_E_ARG,
                          "--ranks %s: at most %d numbers from 1 to the ranks that were started (%d), such as "
                          "1,2,4",
                          o->counts, MOST_RANKS, world->size);
    qsort(out->ranks, (size_t)out->count, sizeof *out->ranks, by_size);
    return FERRY_OK;
}

static void tell_scaling(void *self, const scaling_result *result, const scaling_row *r)
{
    const cli_program *program = self;
    char sent[32], model[32];
    if (program->world.rank != 0 || program->common->json) return;
    if (r == &result->row[0] || r->weak != r[-1].weak)
        printf("%s scaling\n %5s %9s %10s %10s %9s %6s %12s %9s %9s %12s %12s %10s\n", r->weak ? "weak" : "strong",
               "ranks", "grid", "cells", r->passes ? "s a solve" : "s a pass", "speed-up", "eff.", "pairs/s/rank",
               "messages", "(model)", "sent", "(model)", "model s");
    char grid[32];
    (void)snprintf(grid, sizeof grid, "%dx%d", r->grid_rows, r->grid_cols);
    printf(" %5d %9s %10lld %10.4g %9.2f %5.1f%% %12.3g %9.1f %9.1f %12s %12s %10.4g\n", r->ranks, grid,
           (long long)r->cells, r->seconds, r->speedup, 100 * r->efficiency, r->pairs, r->messages, r->model_messages,
           ferry_size_text(sent, r->bytes), ferry_size_text(model, r->model_bytes), r->model_seconds);
    (void)fflush(stdout);
}

enum { RESULT_NONE, RESULT_JSON, RESULT_CSV, RESULT_FIGURE };

static bool ends_in(const char *path, const char *ending)
{
    const size_t length = strlen(path), tail = strlen(ending);
    return length > tail && strcmp(path + length - tail, ending) == 0;
}

/* Local, rank 0. What -o asks for, and that it may be written. */
static ferry_status open_result(figure *out, int *kind, const bench_options *o)
{
    const char *path = o->common.output;
    *kind = !path                    ? RESULT_NONE
            : ends_in(path, ".json") ? RESULT_JSON
            : ends_in(path, ".csv")  ? RESULT_CSV
                                     : RESULT_FIGURE;
    if (*kind == RESULT_NONE) return FERRY_OK;
    if (*kind != RESULT_FIGURE) return ferry_output_check(path, o->common.overwrite);
    if (!ends_in(path, ".svg") && !ends_in(path, ".png") && !ends_in(path, ".pdf"))
        return ferry_fail(FERRY_E_ARG, "--output %s: a result ends in .json or .csv, a figure in .svg, .png or .pdf",
                          path);
    FERRY_TRY(figure_open(out, path));
    return figure_check(out, o->common.overwrite);
}

/* Local, rank 0. */
static ferry_status draw_scaling(figure *out, const char *record, const bench_options *o)
{
    FERRY_TRY(figure_scaling_text(out, record, o->common.output, "cellferry bench scaling"));
    if (out->script.failed || out->data.failed) return ferry_fail(FERRY_E_MEM, "no memory for the figure's script");
    return FERRY_OK;
}

/* Collective. */
static ferry_status write_scaling(figure *out, int kind, const scaling_result *result, cli_program *program,
                                  const bench_options *o)
{
    const ferry_world *world = &program->world;
    const bool overwrite = o->common.overwrite;
    if (kind == RESULT_CSV) {
        json table = {0};
        scaling_table(&table, result);
        ferry_status status =
            ferry_agree(world, table.failed ? ferry_fail(FERRY_E_MEM, "no memory for the table") : FERRY_OK);
        if (status == FERRY_OK) status = ferry_text_write(world, o->common.output, overwrite, table.text, table.length);
        json_close(&table);
        return status;
    }
    FERRY_AUTO char *record = NULL;
    FERRY_TRY(record_text(&record, program));
    if (kind == RESULT_JSON) return ferry_text_write(world, o->common.output, overwrite, record, strlen(record));
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? draw_scaling(out, record, o) : FERRY_OK));
    return figure_write(out, world);
}

/* Collective. */
static ferry_status run_scaling(cli_program *program, const bench_options *o)
{
    const ferry_world *world = &program->world;
    scaling_options scaling;
    FERRY_AUTO scaling_result *result = NULL;
    figure picture = {0};
    int kind = RESULT_NONE;
    char only[32];
    FERRY_TRY(ferry_agree(world, scaling_of(&scaling, o, program)));
    FERRY_TRY(ferry_agree(world, ferry_alloc(&result, 1)));
    choice_name(only, TABLES, o->simd);
    FERRY_TRY(ferry_kernels_choose(&scaling.kernels, world, strcmp(only, "all") != 0 ? only : "auto"));
    program->kernels = scaling.kernels;
    program->threads = scaling.threads;
    const int64_t free_bytes = ferry_memory_free() / world->node_size / 10 * 9;
    scaling.memory = ferry_min(world, scaling.memory ? scaling.memory : free_bytes);
    ferry_status status = ferry_agree(world, world->rank == 0 ? open_result(&picture, &kind, o) : FERRY_OK);
    ferry_broadcast(world, &kind, sizeof kind, 0);
    if (status == FERRY_OK) status = bench_scaling(result, world, &scaling, tell_scaling, program);
    if (status == FERRY_OK) {
        scaling_record(&program->figures, result);
        if (result->shared && world->rank == 0)
            ferry_log(world, FERRY_WARN,
                      "ranks shared the %d cores of a node: times say little, messages and bytes count", result->cores);
        if (kind != RESULT_NONE) status = write_scaling(&picture, kind, result, program, o);
    }
    figure_close(&picture);
    return status;
}

static ferry_status run(cli_program *program, const void *options)
{
    const char *what = program->input[0];
    if (!strcmp(what, "kernels")) return run_kernels(program, options);
    if (!strcmp(what, "scaling")) return run_scaling(program, options);
    return ferry_agree(&program->world,
                       ferry_fail(FERRY_E_ARG,
                                  "there is no bench '%s'; there are 'cellferry bench kernels' and 'cellferry "
                                  "bench scaling'",
                                  what));
}

const cli_command command_bench = {
    .name = "bench",
    .line = "how fast kernels and ranks are on this machine, and how fast they could be",
    .usage = "kernels|scaling",
    .text =
        "kernels: Measures what a core does at most, multiply-adds in registers and bytes from memory, and then each "
        "kernel of "
        "each instruction set on made-up points: pairs of cells per core-second, and their share of the roofline. "
        "Several panels of 24 source rows are what a solve evaluates together when the target side comes from memory. "
        "CPU time, the best of short pieces; ranks measure at once and the slowest counts, so that mpirun with one "
        "rank per core shows what they leave one another.\n"
        "scaling: Times a pass of the solver on made-up cells, on 1, 2, 4, ... of the ranks that were started, the "
        "others "
        "asleep; counts messages and bytes, and holds all three against the model that --plan uses. Strong scaling: "
        "the "
        "same cells on more ranks; weak scaling: as many pairs per rank. Start one rank per core, or one per socket "
        "with "
        "--threads.",
    .example = "mpirun -n 8 cellferry bench kernels --dims 50,350 --columns 100000 --simd avx512\n"
               "mpirun -n 16 cellferry bench scaling --cells 50000 -o scaling.svg",
    .options = OPTIONS,
    .groups = GROUP_JSON | GROUP_TALK,
    .size = sizeof(bench_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run,
};

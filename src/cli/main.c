/* main.c - the program: starts the ranks, spreads rank 0's command line, runs one command, and leaves with one code and
 * one message. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "progress.h"
#include "record.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const cli_command *const commands[] = {&command_transport,  &command_sparsify, &command_push,      &command_pull,
                                              &command_transition, &command_index,    &command_neighbors, &command_map,
                                              &command_info,       &command_plot,     &command_bench,     NULL};

double now_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Collective. words: a copy of rank 0's, which is the one that counts; free both with free(). */
static ferry_status spread_words(char ***words, char **text, int *count, const ferry_world *world, char *const *argv,
                                 int argc)
{
    int64_t size[2] = {0, argc};
    for (int i = 0; i < argc; i++) size[0] += (int64_t)strlen(argv[i]) + 1;
    ferry_broadcast(world, size, sizeof size, 0);
    ferry_status status = ferry_alloc(text, size[0] + 1);
    if (status == FERRY_OK) status = ferry_alloc(words, size[1] + 1);
    FERRY_TRY(ferry_agree(world, status));
    FERRY_TRY(status); /* agreed; told to the analyser too */
    char *at = *text;
    for (int i = 0; world->rank == 0 && i < argc; i++) at += sprintf(at, "%s", argv[i]) + 1;
    ferry_broadcast(world, *text, (size_t)size[0] + 1, 0);
    *count = (int)size[1];
    at = *text;
    for (int i = 0; i < *count; i++, at += strlen(at) + 1) (*words)[i] = at;
    return FERRY_OK;
}

/* CPUs of this rank's mask, each shared evenly by the ranks of the node that may run on it. */
static int fair_threads(const cpu_set_t *masks, int ranks, int mine)
{
    double share = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        int sharers = 0;
        if (!CPU_ISSET(cpu, &masks[mine])) continue;
        for (int r = 0; r < ranks; r++) sharers += CPU_ISSET(cpu, &masks[r]) != 0;
        share += 1.0 / sharers;
    }
    return share < 1 ? 1 : (int)(share + 1e-9);
}

static int threads_from_environment(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    long value = text ? strtol(text, NULL, 10) : 0;
    return value > 0 && value < 4096 ? (int)value : 0;
}

/* Collective. */
static ferry_status settle_threads(cli_program *program)
{
    const ferry_world *world = &program->world;
    const ferry_world node = {.comm = world->node, .rank = world->node_rank, .size = world->node_size};
    FERRY_AUTO cpu_set_t *masks = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    cpu_set_t mine;
    ferry_status status = ferry_alloc(&masks, node.size);
    if (status == FERRY_OK) status = ferry_alloc(&counts, node.size);
    FERRY_TRY(ferry_agree(world, status));
    FERRY_TRY(status);
    CPU_ZERO(&mine);
    if (sched_getaffinity(0, sizeof mine, &mine) != 0) CPU_SET(0, &mine);
    for (int r = 0; r < node.size; r++) counts[r] = 1;
    ferry_gather_all(&node, &mine, counts, masks, sizeof mine);
    int given = program->common->threads ? (int)program->common->threads : threads_from_environment();
    int fair = fair_threads(masks, node.size, node.rank);
    program->threads = given ? given : fair;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (!given && world->rank == 0 && CPU_COUNT(&mine) == 1 && online > node.size)
        ferry_log(world, FERRY_WARN,
                  "each rank is bound to 1 of %ld CPUs and uses one thread: start mpirun with --bind-to none (or "
                  "--map-by slot:PE=%ld), or give --threads",
                  online, online / node.size);
    return FERRY_OK;
}

static ferry_status check_common(const common_options *common)
{
    enum { GPU = 2 };
    if (common->device == GPU)
        return ferry_fail(FERRY_E_DEVICE, "--device gpu: this build has no GPU part; --device auto or cpu runs here");
    if (common->threads > 4096)
        return ferry_fail(FERRY_E_ARG, "--threads %lld: at most 4096", (long long)common->threads);
    return FERRY_OK;
}

ferry_status program_settle(cli_program *program)
{
    const common_options *common = program->common;
    const ferry_world *world = &program->world;
    program->verbose = common->verbose;
    ferry_log_level(common->quiet ? FERRY_WARN : common->verbose ? FERRY_DEBUG : FERRY_INFO);
    if (!(program->command->groups & GROUP_COMPUTE)) return FERRY_OK;
    char simd[32];
    FERRY_TRY(ferry_agree(world, check_common(common)));
    FERRY_TRY(
        ferry_kernels_choose(&program->kernels, world, choice_name(simd, "auto|generic|avx2|avx512", common->simd)));
    FERRY_TRY(settle_threads(program));
    /* nine tenths of what the node has: the rest is for the page cache and other programs */
    int64_t most = ferry_usage_now().pss + ferry_memory_free() / world->node_size / 10 * 9;
    program->memory = common->memory ? common->memory : ferry_min(world, most);
    progress_start(common->quiet && common->progress == PROGRESS_AUTO ? PROGRESS_NONE
                                                                      : (progress_style)common->progress);
    return ferry_agree(world, watch_start(world, common->stall));
}

/* Local. --overwrite must not cost the user an input. */
static ferry_status output_is_no_input(const cli_program *program)
{
    struct stat output, input;
    if (stat(program->common->output, &output) != 0) return FERRY_OK;
    for (int i = 0; i < program->inputs; i++) {
        if (stat(program->input[i], &input) != 0) continue;
        if (input.st_dev == output.st_dev && input.st_ino == output.st_ino)
            return ferry_fail(FERRY_E_ARG, "%s is an input: name another file for the result", program->common->output);
    }
    return FERRY_OK;
}

static ferry_status check_output(const cli_program *program)
{
    FERRY_TRY(output_is_no_input(program));
    return ferry_output_check(program->common->output, program->common->overwrite);
}

ferry_status output_check(const cli_program *program)
{
    bool mine = !program->common->plan && program->world.rank == 0;
    return ferry_agree(&program->world, mine ? check_output(program) : FERRY_OK);
}

/* Collective. What every command ends with. */
static ferry_status finish(cli_program *program)
{
    FERRY_AUTO char *text = NULL;
    ferry_stage_begin(NULL);
    if (program->common->json) {
        FERRY_TRY(record_text(&text, program));
        if (program->world.rank == 0) printf("%s\n", text);
    }
    if (program->common->verbose && (program->command->groups & GROUP_COMPUTE)) FERRY_TRY(record_table(program));
    return FERRY_OK;
}

/* Collective. */
static ferry_status run_command(cli_program *program)
{
    const ferry_world *world = &program->world;
    bool help = false;
    FERRY_AUTO char *options = NULL;
    FERRY_TRY(ferry_agree(world, ferry_alloc(&options, (int64_t)program->command->size)));
    program->options = options;
    program->common = (const common_options *)options;
    ferry_status status =
        ferry_agree(world, options_parse(options, program->input, &program->inputs, &help, program->command,
                                         program->word_count - 2, program->words + 2));
    if (status == FERRY_OK && help) {
        if (world->rank == 0) help_command(program->command);
    } else if (status == FERRY_OK) {
        status = program_settle(program);
        if (status == FERRY_OK) status = program->command->run(program, options);
        watch_end();
        progress_end();
        if (status == FERRY_OK) status = finish(program);
    }
    options_close(options, program->command);
    return status;
}

static void print_version(void)
{
    printf("cellferry " CELLFERRY_VERSION "\nMPI     %s\nHDF5    %s (parallel)\nSIMD    %s here (built: %s)\n"
           "BLAS    not used\nGPU     not in this build\n",
           ferry_mpi_version(), ferry_hdf5_version(), ferry_kernels_find("auto")->name, ferry_kernels_names());
}

/* Local. FERRY_E_ARG naming the nearest command. */
static ferry_status find_command(const cli_command **out, const char *name)
{
    ferry_names names = {0};
    ferry_status status = FERRY_OK;
    *out = NULL;
    for (int i = 0; commands[i]; i++) {
        if (!strcmp(commands[i]->name, name)) *out = commands[i];
        if (status == FERRY_OK) status = ferry_names_add(&names, commands[i]->name, (int64_t)strlen(commands[i]->name));
    }
    if (status == FERRY_OK && !*out) {
        const char *near = ferry_names_nearest(&names, name);
        status = near ? ferry_fail(FERRY_E_ARG, "there is no command '%s'; did you mean '%s'?", name, near)
                      : ferry_fail(FERRY_E_ARG, "there is no command '%s'; 'cellferry --help' lists them", name);
    }
    ferry_names_close(&names);
    return status;
}

static bool is_one_of(const char *word, const char *a, const char *b)
{
    return !strcmp(word, a) || !strcmp(word, b);
}

/* Collective. */
static ferry_status dispatch(cli_program *program)
{
    const ferry_world *world = &program->world;
    const char *first = program->word_count > 1 ? program->words[1] : "--help";
    const char *second = program->word_count > 2 ? program->words[2] : NULL;
    if (is_one_of(first, "--help", "-h") || (!strcmp(first, "help") && !second)) {
        if (world->rank == 0) help_program(commands);
        return FERRY_OK;
    }
    if (is_one_of(first, "--version", "-V")) {
        if (world->rank == 0) print_version();
        return FERRY_OK;
    }
    bool help = !strcmp(first, "help");
    FERRY_TRY(ferry_agree(world, find_command(&program->command, help && second ? second : first)));
    if (!program->command) return FERRY_E_ARG; /* cannot be: agreed */
    if (!help) return run_command(program);
    if (world->rank == 0) help_command(program->command);
    return FERRY_OK;
}

static void print_failure(const cli_program *program)
{
    if (program->world.rank != 0) return;
    progress_end();
    fprintf(stderr, "cellferry: %s\n", ferry_error());
    if (program->verbose) fprintf(stderr, "cellferry: at %s\n", ferry_error_place());
}

int main(int argc, char **argv)
{
    int provided;
    FERRY_AUTO char **words = NULL;
    FERRY_AUTO char *text = NULL;
    cli_program program = {.started = now_seconds()};
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    ferry_stage_begin("start");
    ferry_status status = ferry_world_open(&program.world, MPI_COMM_WORLD);
    if (status == FERRY_OK) status = spread_words(&words, &text, &program.word_count, &program.world, argv, argc);
    program.words = words;
    if (status == FERRY_OK) status = dispatch(&program);
    if (status != FERRY_OK) print_failure(&program);
    json_close(&program.inputs_json);
    json_close(&program.figures);
    fflush(stdout);
    ferry_world_close(&program.world);
    MPI_Finalize();
    return status == FERRY_OK ? program.exit_code : ferry_exit_code(status);
}

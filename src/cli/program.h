/** program.h - what a running command knows: the ranks, its command line, and what was settled for it. */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H
#include "options.h"

typedef struct cli_program {
    ferry_world world;
    const cli_command *command;
    char **words; /* [word_count] the whole command line of rank 0 */
    int word_count;
    const char *input[2];
    int inputs;
    const common_options *common; /* the head of the command's options */
    const void *options;
    const ferry_kernels *kernels; /* of GROUP_COMPUTE commands */
    int threads;
    int64_t memory;            /* limit per rank, bytes */
    double started;            /* seconds, of some clock */
    bool verbose;              /* -v, kept for the last message */
    int exit_code;             /* left by a command that returns FERRY_OK: 0, or 4 when not converged */
    json inputs_json, figures; /* members for the run record */
} cli_program;

/* Local. Seconds of a steady clock. */
double now_seconds(void);
/* Collective. Kernels, threads, memory limit, progress and watchdog as the common options ask. */
ferry_status program_settle(cli_program *program);
/* Collective. The result may be written where -o says; nothing to check with --plan. */
ferry_status output_check(const cli_program *program);

extern const cli_command command_transport, command_sparsify, command_push, command_pull, command_transition,
    command_info, command_plot, command_bench, command_index, command_neighbors, command_map;
#endif

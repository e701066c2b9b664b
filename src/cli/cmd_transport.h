/** cmd_transport.h - the parts of `cellferry transport`: its options, its run, its report. */
#ifndef CLI_CMD_TRANSPORT_H
#define CLI_CMD_TRANSPORT_H
#include "inputs.h"
#include "layout.h"

typedef struct transport_options {
    common_options common; /* first */
    side_options both, source, target;
    const char *cost, *scale_cost, *momentum, *grid, *initial, *coarse, *cache;
    double epsilon, tau_a, tau_b, threshold;
    int epsilon_of, norm_error, precision, reduction, solver, certify;
    int64_t max_iterations, check_every, min_iterations;
    bool recenter;
} transport_options;

extern const cli_option transport_table[];
extern const absent_option transport_absent[];

/* What a run holds; closed in reverse order. */
typedef struct transport_job {
    cli_program *program;
    const transport_options *o;
    const char **where[2];
    ferry_population source, target;
    ferry_cost_options cost_options;
    ferry_transport_options solver;
    ferry_coreset_options coreset;
    bool coarse;              /* solve by the coreset */
    int64_t cache_most;       /* bytes asked for; -1: auto */
    int grid_rows, grid_cols; /* asked for */
    ferry_layout layout;
    ferry_grid grid;
    ferry_cost *cost;
    double *a, *b, *f, *g; /* weights; potentials to start from */
    uint64_t fingerprint[2];
    double sum_a, sum_b;
    ferry_potentials potentials;
} transport_job;

/* Local. The options' texts and ranges -> cost_options, solver, grid. FERRY_E_ARG. */
ferry_status transport_check(transport_job *job);
/* Local. Figures of the result for the record. */
void transport_record(transport_job *job);
/* Local, rank 0. The summary on stdout, and warnings on stderr. */
void transport_summary(const transport_job *job);
void transport_warn(const transport_job *job);
#endif

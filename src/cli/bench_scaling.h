/** bench_scaling.h - the solver on 1, 2, 4, ... of the ranks that were started, against the model of its time and of
 *  what it sends. */
#ifndef CLI_BENCH_SCALING_H
#define CLI_BENCH_SCALING_H
#include "json.h"
#include <cellferry.h>

#define SCALING_ROWS 64 /* rank counts, times two */

typedef struct scaling_options {
    int ranks[SCALING_ROWS / 2]; /* ascending, [count] */
    int count;
    bool strong, weak;
    bool solve;    /* whole solves in few passes instead of plain passes */
    int64_t cells; /* of each side; for weak scaling on the fewest ranks */
    int dim;
    int passes;    /* that are timed */
    int rounds;    /* the best of which counts */
    int grid_cols; /* 0: by the model */
    int threads;
    int64_t memory; /* bytes per rank */
    double epsilon; /* of the mean cost */
    uint64_t seed;
    const ferry_kernels *kernels;
} scaling_options;

/* One count of ranks. Of a pass: what lies between a solve with few and one with more iterations. Of a whole solve:
 * seconds with its set-up; messages and bytes of what it does after its first pass (or,
 * at a small epsilon, after the path there). */
typedef struct scaling_row {
    bool weak;
    int ranks, grid_rows, grid_cols;
    int64_t cells;                                  /* of each side */
    int passes, stored;                             /* of a whole solve: over all pairs, over what is kept of them */
    int more, more_stored;                          /* of them, after what a solve of one iteration does */
    double seconds;                                 /* a pass, slowest rank */
    double cpu_seconds;                             /* a pass, all ranks */
    double speedup, efficiency;                     /* against the fewest ranks */
    double pairs;                                   /* per second and rank */
    double messages, bytes;                         /* given to MPI by a rank, the mean */
    double model_messages, model_bytes, model_wire; /* wire: times what MPI's own algorithms make of them */
    double model_seconds;                           /* at the rate of the fewest ranks */
} scaling_row;

typedef struct scaling_result {
    scaling_row row[SCALING_ROWS];
    int rows;
    double latency, bandwidth; /* measured between ranks: seconds a message, bytes a second and rank */
    int cores;                 /* of a node, to see when ranks share them */
    bool shared;               /* ranks had to share cores: times say nothing */
} scaling_result;

/* Collective. `tell` is called on every rank with each row. */
ferry_status bench_scaling(scaling_result *out, const ferry_world *world, const scaling_options *o,
                           void (*tell)(void *self, const scaling_result *result, const scaling_row *row), void *self);

/* Local. The result as members of an object that is open; as a table (CSV). */
void scaling_record(json *out, const scaling_result *result);
void scaling_table(json *out, const scaling_result *result);
#endif

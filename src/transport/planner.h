/** planner.h - before any work: which process grid and row blocks fit into the memory limit, and what each phase costs.
 *
 *  Bytes come from the *_bytes functions of the methods and a measured base; times from a model (planner.c): they are
 *  estimates, bytes are promises. */
#ifndef FERRY_PLANNER_H
#define FERRY_PLANNER_H
#include "cost.h"
FERRY_BEGIN
typedef struct ferry_work {
    const ferry_cost_options *cost;
    int dim;
    int64_t sources, targets;
    bool stream;          /* sparsify, push, pull, transition: source rows pass by; false: a solve holds them */
    int64_t row_bytes;    /* stream: bytes per source row of a block beside its points (what is kept until written) */
    int64_t thread_bytes; /* stream: bytes per thread beside its panel */
    int64_t fixed_bytes;  /* bytes per rank that the command itself holds, such as columns of values */
    int64_t read_bytes;   /* bytes of one row as stored, for the reader's buffers */
    int passes;           /* over all pairs: before the iterations of a solve, or of a stream */
    int64_t iterations;   /* at most, of a solve */
    bool accelerated;     /* a solve in fewer passes, where the problem is large enough for it */
    int64_t base;         /* measured: bytes per rank before any work */
} ferry_work;
typedef struct ferry_machine {
    int ranks, nodes;
    int64_t memory; /* bytes per rank */
} ferry_machine;

#define FERRY_PHASES 8
typedef struct ferry_phase {
    char name[24];
    int64_t rows;      /* of the rank with most */
    int64_t bytes;     /* of that rank while it lasts, all in all */
    double flops;      /* of that rank */
    double messages;   /* calls of MPI per rank that move data */
    double sent_bytes; /* per rank */
    double seconds;    /* estimate */
} ferry_phase;
typedef struct ferry_layout {
    int grid_rows, grid_cols;
    int64_t batch;  /* rows of a block */
    int panels;     /* ferry_cost_options.panels that go with it */
    int64_t passes; /* of a stream: blocks one after the other */
    int64_t bytes;  /* of the largest phase */
    int64_t room;   /* of a stream: bytes that are left for panels and blocks */
    int phases;
    ferry_phase phase[FERRY_PHASES];
} ferry_layout;

/** Local. The fastest grid and the largest useful block that stay within machine->memory. grid_rows 0: any grid; batch
 *  0: chosen. FERRY_E_ARG when the grid has not as many places as there are ranks; FERRY_E_PLAN when nothing fits: the
 *  message says how much is needed and what would fit. */
FERRY_API ferry_status ferry_layout_choose(ferry_layout *out, const ferry_work *work, const ferry_machine *machine,
                                           int grid_rows, int grid_cols, int64_t batch);
FERRY_END
#endif

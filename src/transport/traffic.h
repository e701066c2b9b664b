/** traffic.h - what a solve sends between ranks: messages and bytes per rank, from the shape of the problem alone.
 *
 *  Counted as stage.h counts, so that the counters of a run can be held against it. */
#ifndef FERRY_TRAFFIC_H
#define FERRY_TRAFFIC_H
#include "cost.h"
FERRY_BEGIN
typedef struct ferry_traffic {
    double messages; /* calls of MPI that are given data */
    double bytes;    /* given to them */
    double wire;     /* bytes that leave the rank then: reductions and broadcasts of MPI's own times their algorithm */
} ferry_traffic;

typedef struct ferry_traffic_problem {
    const ferry_cost_options *cost;
    int dim;
    int64_t sources, targets;
    int grid_rows, grid_cols;
    int groups;      /* of the accelerated loop; 0: plain iterations */
    bool balanced;   /* both sides: errors of columns alone */
    int check_every; /* iterations */
} ferry_traffic_problem;

/** The shards of a problem, for the ranks of its grid. */
typedef struct ferry_traffic_model {
    ferry_traffic_problem of;
    ferry_shards source, target;
} ferry_traffic_model;

/** Local. Groups of the accelerated loop for a balanced problem of this size at this epsilon of the mean cost. */
FERRY_API int ferry_traffic_groups(int64_t sources, int64_t targets, double epsilon);
/** Local. Close with ferry_traffic_close. */
FERRY_API ferry_status ferry_traffic_open(ferry_traffic_model *out, const ferry_traffic_problem *problem);
FERRY_API void ferry_traffic_close(ferry_traffic_model *model);
/** Local. One pass over all pairs on rank (row, col) of the grid: sums of rows, sums of columns. */
FERRY_API ferry_traffic ferry_traffic_pass(const ferry_traffic_model *model, int row, int col);
/** Local. The pass of the start: a log-sum-exp of columns. */
FERRY_API ferry_traffic ferry_traffic_start(const ferry_traffic_model *model, int row, int col);
/** Local. One iteration: a pass and what the loop adds to it. */
FERRY_API ferry_traffic ferry_traffic_iteration(const ferry_traffic_model *model, int row, int col);
/** Local. The part of a pass that travels along grid rows while tiles are computed. */
FERRY_API ferry_traffic ferry_traffic_rows(const ferry_traffic_model *model, int row, int col);
/** What a rank computes in a second (pairs in passes) and what messages take. */
typedef struct ferry_traffic_speed {
    double pairs;     /* per second */
    double latency;   /* seconds per message */
    double bandwidth; /* bytes per second and rank */
} ferry_traffic_speed;
/** Local. Shared memory of one node, or a 100 Gb/s network shared by the ranks of a node. */
FERRY_API ferry_traffic_speed ferry_traffic_network(int ranks, int nodes);
/** Local. Seconds of a pass with this traffic (of this rank): sums of rows travel while tiles are computed, the rest is
 *  waited for. */
FERRY_API double ferry_traffic_seconds(const ferry_traffic_model *model, int row, int col, const ferry_traffic *traffic,
                                       const ferry_traffic_speed *speed);
/** Local. What a pass sends beside it when it keeps its plan (store_impl.h), and one iteration over what was kept. */
FERRY_API ferry_traffic ferry_traffic_keeping(const ferry_traffic_model *model, int row, int col);
FERRY_API ferry_traffic ferry_traffic_stored(const ferry_traffic_model *model, int row, int col);
FERRY_END
#endif

#define _GNU_SOURCE /* clock_gettime, sysconf */
/* Strong scaling: the same cells on more ranks. Weak scaling: as many pairs per rank, so cells grow with the root of
 * the ranks. Sub-worlds of the ranks that were started solve one after the other; the others sleep.
 *
 * A pass is timed as the difference of two solves that differ in their iterations alone, so that neither set-up nor the
 * last pass count, and so are its messages and bytes. Cells are made up from a seed by their number: every rank count
 * has the same ones.
 *
 * The model: the rate of a rank from the fewest ranks, latency and bandwidth from messages between neighbours, messages
 * and bytes from traffic.h. */
#include "bench_scaling.h"
#include "program.h"
#include "progress.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLUSTERS 20
#define FEW      1 /* iterations of the solve that is taken off */
#define REPEATS  200
#define SWAP     ((int64_t)4 << 20) /* bytes of a message that tells the bandwidth */

/* --- cells --- */

/* splitmix64 */
static uint64_t bits_of(uint64_t seed, uint64_t counter)
{
    uint64_t x = seed * 0xd1342543de82ef95u + (counter + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
static double uniform(uint64_t seed, uint64_t counter)
{
    return ((double)(bits_of(seed, counter) >> 11) + 0.5) * 0x1p-53;
}
static double normal(uint64_t seed, uint64_t counter)
{
    return sqrt(-2 * log(uniform(seed, 2 * counter))) * cos(6.283185307179586 * uniform(seed, 2 * counter + 1));
}

/* Local. Cells first ... of a side: clusters whose spread falls along the dimensions, as principal components do. */
static ferry_status make_cells(ferry_matrix *out, int64_t first, int64_t rows, int dim, uint64_t seed, uint64_t side)
{
    FERRY_TRY(ferry_matrix_open(out, rows, dim, FERRY_FLOAT));
    for (int64_t i = 0; i < rows; i++) {
        const uint64_t cell = (uint64_t)(first + i), width = (uint64_t)dim;
        const uint64_t cluster = bits_of(seed + side, cell) % (CLUSTERS + side) % CLUSTERS;
        for (int k = 0; k < dim; k++) {
            const double spread = 6 / sqrt(1 + (double)k);
            const double centre = spread * normal(seed + 2, cluster * width + (uint64_t)k);
            out->f[i * dim + k] = (float)(centre + 0.4 * spread * normal(seed + 3 + side, cell * width + (uint64_t)k) +
                                          0.2 * (double)side);
        }
    }
    return FERRY_OK;
}

/* --- one solve --- */

typedef struct measured {
    double seconds, cpu;
    double messages, bytes;
    int passes, stored;
} measured;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A problem, ready to be solved again and again. */
typedef struct bench_problem {
    ferry_grid grid;
    ferry_cost *cost;
    double *a, *b;
    double epsilon;
} bench_problem;

static void close_problem(bench_problem *p)
{
    free(p->a);
    free(p->b);
    ferry_cost_close(&p->cost);
    ferry_grid_close(&p->grid);
}

/* Local. */
static ferry_status make_sides(ferry_matrix *x, ferry_matrix *y, bench_problem *p, const scaling_options *o)
{
    const ferry_grid *grid = &p->grid;
    FERRY_TRY(make_cells(x, grid->source_first, grid->source_rows, o->dim, o->seed, 0));
    FERRY_TRY(make_cells(y, grid->bring_first, grid->bring_rows, o->dim, o->seed, 1));
    FERRY_TRY(ferry_alloc(&p->a, grid->source_rows));
    FERRY_TRY(ferry_alloc(&p->b, grid->target_rows));
    for (int64_t i = 0; i < grid->source_rows; i++) p->a[i] = 1 / (double)grid->source.blocks.rows;
    for (int64_t j = 0; j < grid->target_rows; j++) p->b[j] = 1 / (double)grid->target.blocks.rows;
    return FERRY_OK;
}

/* Collective over world. */
static ferry_status open_problem(bench_problem *p, const ferry_world *world, const scaling_row *row,
                                 const ferry_cost_options *cost, const scaling_options *o)
{
    ferry_matrix x = {0}, y = {0};
    FERRY_TRY(ferry_grid_open(&p->grid, world, row->grid_rows, row->grid_cols, row->cells, row->cells));
    ferry_status status = ferry_agree(world, make_sides(&x, &y, p, o));
    if (status == FERRY_OK) status = ferry_cost_open(&p->cost, &p->grid, &x, &y, cost);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    if (status == FERRY_OK) status = ferry_cost_epsilon(&p->epsilon, p->cost, FERRY_EPSILON_OF_MEAN, o->epsilon);
    return status;
}

/* Collective over world. iterations of the plain solver; 0: a whole solve in few passes, negative: its beginning. */
static ferry_status run_solve(measured *out, bench_problem *p, const ferry_world *world, const scaling_options *o,
                              int iterations)
{
    ferry_transport_options options = FERRY_TRANSPORT_DEFAULTS;
    ferry_potentials potentials = {0};
    options.epsilon = p->epsilon;
    options.check_every = 1;
    if (iterations > 0) {
        options.threshold = 0;
        options.solver = FERRY_SOLVER_SINKHORN;
        options.max_iterations = iterations;
    } else {
        const int64_t cache = ferry_cache_bytes(p->grid.source_rows, p->grid.target_rows);
        options.cache_bytes = cache < o->memory / 2 ? cache : o->memory / 2;
        if (iterations < 0) options.max_iterations = 1;
    }
    ferry_barrier(world);
    const ferry_stages before = *ferry_stages_here();
    const double began = now_seconds(), cpu = cpu_seconds();
    FERRY_TRY(ferry_transport(&potentials, p->cost, p->a, p->b, &options));
    *out = (measured){.seconds = now_seconds() - began,
                      .cpu = cpu_seconds() - cpu,
                      .messages = (double)(ferry_stages_here()->messages - before.messages),
                      .bytes = (double)(ferry_stages_here()->sent_bytes - before.sent_bytes),
                      .passes = potentials.passes,
                      .stored = potentials.stored_passes};
    ferry_potentials_close(&potentials);
    return FERRY_OK;
}

/* --- messages between ranks --- */

/* Collective. Neighbours swap long messages; all ranks meet over short ones. */
static ferry_status measure_network(scaling_result *out, const ferry_world *world)
{
    FERRY_AUTO char *data = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    ferry_status status = ferry_alloc(&data, 2 * SWAP);
    if (status == FERRY_OK) status = ferry_alloc(&counts, world->size);
    FERRY_TRY(ferry_agree(world, status));
    const ferry_traffic_speed assumed = ferry_traffic_network(world->size, world->nodes);
    out->latency = assumed.latency;
    out->bandwidth = assumed.bandwidth;
    if (world->size == 1) return FERRY_OK;
    int steps = 0;
    while (1 << steps < world->size) steps++;
    const int other = world->rank ^ 1;
    if (other < world->size) counts[other] = SWAP;
    double latency = INFINITY, seconds = INFINITY;
    for (int round = 0; round < 3; round++) {
        double began = now_seconds();
        for (int i = 0; i < REPEATS; i++) (void)ferry_max(world, i);
        latency = fmin(latency, (now_seconds() - began) / REPEATS / steps);
        began = now_seconds();
        ferry_exchange(world, data, counts, data + SWAP, counts, 1);
        ferry_barrier(world);
        seconds = fmin(seconds, now_seconds() - began);
    }
    out->latency = ferry_max_double(world, latency);
    out->bandwidth = (double)SWAP / ferry_max_double(world, seconds);
    return FERRY_OK;
}

/* --- one count of ranks --- */

/* Local. The grid that the planner would take. */
static ferry_status choose_grid(scaling_row *row, const ferry_world *world, const ferry_cost_options *cost,
                                const scaling_options *o)
{
    const ferry_work work = {.cost = cost,
                             .dim = o->dim,
                             .sources = row->cells,
                             .targets = row->cells,
                             .iterations = o->passes,
                             .base = ferry_usage_now().pss};
    const int nodes = (row->ranks * world->nodes + world->size - 1) / world->size;
    const ferry_machine machine = {row->ranks, nodes, o->memory};
    ferry_layout layout;
    if (o->grid_cols && row->ranks % o->grid_cols)
        return ferry_fail(FERRY_E_ARG,
                          "--grid-cols %d: %d ranks cannot make so many columns; leave it out, or %d out of "
                          "--ranks",
                          o->grid_cols, row->ranks, row->ranks);
    FERRY_TRY(
        ferry_layout_choose(&layout, &work, &machine, o->grid_cols ? row->ranks / o->grid_cols : 0, o->grid_cols, 0));
    row->grid_rows = layout.grid_rows;
    row->grid_cols = layout.grid_cols;
    return FERRY_OK;
}

/* Rank (r, c) of the model: a pass with a check, or what a whole solve does after its first pass. */
static ferry_traffic traffic_of(const ferry_traffic_model *model, const scaling_row *row, bool solve, int r, int c)
{
    ferry_traffic t = ferry_traffic_iteration(model, r, c);
    if (!solve) return t;
    const ferry_traffic kept = ferry_traffic_keeping(model, r, c), stored = ferry_traffic_stored(model, r, c);
    const int more = row->more, fills = row->more_stored > 0 ? more + 1 : 0; /* the last pass may do without */
    return (ferry_traffic){.messages = more * t.messages + fills * kept.messages + row->more_stored * stored.messages,
                           .bytes = more * t.bytes + fills * kept.bytes + row->more_stored * stored.bytes,
                           .wire = more * t.wire + fills * kept.wire + row->more_stored * stored.wire};
}

/* Local. What the model says, the mean over ranks and the time of the slowest. The rate is that of the row with the
 * fewest ranks. */
static ferry_status apply_model(scaling_row *row, const scaling_row *base, const ferry_cost_options *cost,
                                const scaling_result *result, const scaling_options *o)
{
    const ferry_traffic_problem problem = {.cost = cost,
                                           .dim = o->dim,
                                           .sources = row->cells,
                                           .targets = row->cells,
                                           .grid_rows = row->grid_rows,
                                           .grid_cols = row->grid_cols,
                                           .groups =
                                               o->solve ? ferry_traffic_groups(row->cells, row->cells, o->epsilon) : 0,
                                           .balanced = true,
                                           .check_every = 1};
    const ferry_traffic_speed speed = {base->pairs, result->latency, result->bandwidth};
    const double work = (double)row->cells * (double)row->cells / ((double)base->cells * (double)base->cells);
    ferry_traffic_model model;
    FERRY_TRY(ferry_traffic_open(&model, &problem));
    row->model_messages = row->model_bytes = row->model_wire = row->model_seconds = 0;
    for (int r = 0; r < row->grid_rows; r++)
        for (int c = 0; c < row->grid_cols; c++) {
            const ferry_traffic t = traffic_of(&model, row, o->solve, r, c);
            const double seconds = o->solve ? base->seconds * work * base->ranks / row->ranks +
                                                  t.messages * speed.latency + t.wire / speed.bandwidth
                                            : ferry_traffic_seconds(&model, r, c, &t, &speed);
            row->model_messages += t.messages / row->ranks;
            row->model_bytes += t.bytes / row->ranks;
            row->model_wire += t.wire / row->ranks;
            row->model_seconds = fmax(row->model_seconds, seconds);
        }
    ferry_traffic_close(&model);
    return FERRY_OK;
}

/* Collective over the ranks that work. */
static ferry_status time_passes(scaling_row *row, const ferry_world *world, const ferry_cost_options *cost,
                                const scaling_options *o)
{
    bench_problem p = {0};
    double few = INFINITY, more = INFINITY, cpu_few = INFINITY, cpu_more = INFINITY;
    measured first = {0}, second = {0};
    ferry_status status = open_problem(&p, world, row, cost, o);
    for (int round = 0; round < o->rounds && status == FERRY_OK; round++) {
        status = run_solve(&first, &p, world, o, o->solve ? -1 : FEW);
        if (status == FERRY_OK) status = run_solve(&second, &p, world, o, o->solve ? 0 : FEW + o->passes);
        if (status != FERRY_OK) break;
        few = fmin(few, ferry_max_double(world, first.seconds));
        more = fmin(more, ferry_max_double(world, second.seconds));
        cpu_few = fmin(cpu_few, first.cpu);
        cpu_more = fmin(cpu_more, second.cpu);
    }
    close_problem(&p);
    FERRY_TRY(status);
    const int passes = o->solve ? 1 : o->passes;
    /* a machine that was busy may leave no difference: then all passes count, with the first and the last */
    row->seconds = more > few ? (more - few) / o->passes : more / (FEW + o->passes + 2);
    if (o->solve) {
        row->seconds = more;
        row->passes = second.passes;
        row->stored = second.stored;
        row->more = second.passes - first.passes;
        row->more_stored = second.stored - first.stored;
        cpu_few = 0;
    }
    row->cpu_seconds = 1e-9 * (double)ferry_total(world, (int64_t)(1e9 * fmax(cpu_more - cpu_few, 0))) / passes;
    row->messages = (double)ferry_total(world, (int64_t)(second.messages - first.messages)) / row->ranks / passes;
    row->bytes = (double)ferry_total(world, (int64_t)(second.bytes - first.bytes)) / row->ranks / passes;
    row->pairs = (double)row->cells * (double)row->cells / row->ranks / row->seconds;
    return FERRY_OK;
}

/* Collective. One row: the first ranks work, the others sleep. */
static ferry_status measure_row(scaling_row *row, const ferry_world *world, const ferry_cost_options *cost,
                                const scaling_options *o)
{
    ferry_world part;
    FERRY_TRY(ferry_agree(world, choose_grid(row, world, cost, o)));
    ferry_broadcast(world, row, sizeof *row, 0);
    FERRY_TRY(ferry_world_split(&part, world, world->rank >= row->ranks, world->rank));
    ferry_status status = world->rank < row->ranks ? time_passes(row, &part, cost, o) : FERRY_OK;
    ferry_barrier_asleep(world);
    ferry_world_close(&part);
    FERRY_TRY(ferry_agree(world, status));
    ferry_broadcast(world, row, sizeof *row, 0);
    return FERRY_OK;
}

/* Against the first row of its kind. */
static void compare(scaling_row *row, const scaling_row *base)
{
    const double work = (double)row->cells * (double)row->cells / ((double)base->cells * (double)base->cells);
    row->speedup = work * base->seconds / row->seconds;
    row->efficiency = row->speedup * base->ranks / row->ranks;
}

/* Cells for as many pairs per rank as on the fewest ranks. */
static int64_t weak_cells(const scaling_options *o, int ranks)
{
    return (int64_t)((double)o->cells * sqrt((double)ranks / o->ranks[0]) + 0.5);
}

ferry_status bench_scaling(scaling_result *out, const ferry_world *world, const scaling_options *o,
                           void (*tell)(void *self, const scaling_result *result, const scaling_row *row), void *self)
{
    ferry_cost_options cost = FERRY_COST_DEFAULTS;
    cost.threads = o->threads;
    cost.kernels = o->kernels;
    *out = (scaling_result){.cores = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    FERRY_TRY(measure_network(out, world));
    for (int weak = 0; weak < 2; weak++) {
        const int first = out->rows;
        if (weak ? !o->weak : !o->strong) continue;
        for (int i = 0; i < o->count; i++) {
            scaling_row *row = &out->row[out->rows];
            *row = (scaling_row){.weak = weak, .ranks = o->ranks[i]};
            row->cells = weak ? weak_cells(o, row->ranks) : o->cells;
            watch_stage(weak ? "weak scaling" : "strong scaling");
            FERRY_TRY(measure_row(row, world, &cost, o));
            compare(row, &out->row[first]);
            FERRY_TRY(ferry_agree(world, apply_model(row, &out->row[first], &cost, out, o)));
            const int on_node = row->ranks < world->node_size ? row->ranks : world->node_size;
            out->shared |= on_node * o->threads > out->cores;
            out->rows++;
            tell(self, out, row);
        }
    }
    return FERRY_OK;
}

/* --- what is left of it --- */

void scaling_record(json *out, const scaling_result *result)
{
    json_number(out, "latency", result->latency);
    json_number(out, "bandwidth", result->bandwidth);
    json_bool(out, "shared_cores", result->shared);
    json_begin(out, "scaling", '[');
    for (int i = 0; i < result->rows; i++) {
        const scaling_row *r = &result->row[i];
        json_begin(out, NULL, '{');
        json_text(out, "kind", r->weak ? "weak" : "strong");
        json_count(out, "ranks", r->ranks);
        json_count(out, "grid_rows", r->grid_rows);
        json_count(out, "grid_cols", r->grid_cols);
        json_count(out, "cells", r->cells);
        if (r->passes) json_count(out, "passes", r->passes);
        if (r->passes) json_count(out, "stored_passes", r->stored);
        json_number(out, "seconds", r->seconds);
        json_number(out, "cpu_seconds", r->cpu_seconds);
        json_number(out, "speedup", r->speedup);
        json_number(out, "efficiency", r->efficiency);
        json_number(out, "pairs_per_second_and_rank", r->pairs);
        json_number(out, "messages", r->messages);
        json_number(out, "bytes", r->bytes);
        json_number(out, "model_messages", r->model_messages);
        json_number(out, "model_bytes", r->model_bytes);
        json_number(out, "model_wire_bytes", r->model_wire);
        json_number(out, "model_seconds", r->model_seconds);
        json_end(out, '}');
    }
    json_end(out, ']');
}

void scaling_table(json *out, const scaling_result *result)
{
    static const char head[] =
        "kind,ranks,grid_rows,grid_cols,cells,passes,stored_passes,seconds,cpu_seconds,speedup,efficiency,"
        "pairs_per_second_and_rank,messages,bytes,model_messages,model_bytes,model_wire_bytes,"
        "model_seconds\n";
    text_put(out, head, sizeof head - 1);
    for (int i = 0; i < result->rows; i++) {
        const scaling_row *r = &result->row[i];
        char line[512];
        const int length = snprintf(
            line, sizeof line, "%s,%d,%d,%d,%lld,%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.9g,%.6g,%.9g,%.9g,%.6g\n",
            r->weak ? "weak" : "strong", r->ranks, r->grid_rows, r->grid_cols, (long long)r->cells, r->passes,
            r->stored, r->seconds, r->cpu_seconds, r->speedup, r->efficiency, r->pairs, r->messages, r->bytes,
            r->model_messages, r->model_bytes, r->model_wire, r->model_seconds);
        text_put(out, line, (size_t)length);
    }
}

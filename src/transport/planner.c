/* planner.c - one candidate grid after the other: bytes decide whether it may be taken, the model which is fastest.
 *
 *  Time of one pass over all pairs on a grid of Pr x Pc, with n/Pr x m/Pc pairs a rank at R pairs per core-second:
 *    T = n m / (Pr Pc R threads) + bytes / B + messages L
 *  with bytes and messages of a solve from traffic.c, those of row sums only as far as they are not hidden behind
 * tiles; of a stream: 16 (Pc-1)/Pc n/Pr + 16 (Pr-1)/Pr m/Pc. R follows the roofline of a fused multiply-add a pair and
 *  dimension: peak / (d + 24). B and L are those of shared memory on one node and of a 100 Gb/s network between nodes.
 */
#include "planner.h"
#include "accelerate_impl.h"
#include "cost_impl.h"
#include "sinkhorn.h"
#include "traffic.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MIB  ((int64_t)1 << 20)
#define SLAB (32 * MIB) /* the reader's largest buffer */

/* What HDF5, MPI and the heap take beside our own arrays once work begins; measured, see tests/test_program.sh. */
#define ROOM(bytes) (10 * MIB + (bytes) / 50)

typedef struct part {
    int grid_rows, grid_cols, sharing;
    int64_t sources, targets; /* rows of the rank with most */
} part;

static double log2_up(double x)
{
    return ceil(log2(x < 1 ? 1 : x));
}

static int threads_of(const ferry_work *work)
{
    return work->cost->threads > 0 ? work->cost->threads : 1;
}

/* Pairs per second and core. */
static double rate(const ferry_work *work)
{
    static const double peak[] = {5e9, 6e10, 1.2e11}; /* lanes times multiply-adds per second: generic, avx2, avx512 */
    const ferry_kernels *kernels = work->cost->kernels ? work->cost->kernels : ferry_kernels_find(NULL);
    double per_pair = work->dim + 24; /* the exponential, and the panel written and read */
    if (work->cost->precision == FERRY_DOUBLE) return 1e9 / per_pair;
    if (work->cost->kind == FERRY_COST_PNORM || work->cost->kind == FERRY_COST_SQ_PNORM) per_pair *= 4;
    if (work->cost->kind == FERRY_COST_ARCCOS) per_pair += 40;
    return peak[kernels && kernels->level < 3 ? kernels->level : 0] / per_pair;
}

enum pass { START, ITERATION };

/* One pass of a solve, for a rank in the middle of the grid. */
static ferry_status solve_cost(ferry_phase *phase, enum pass which, const ferry_work *work,
                               const ferry_machine *machine, const part *p)
{
    const int64_t least = work->sources < work->targets ? work->sources : work->targets;
    const bool fewer = work->accelerated && least >= FERRY_ACCELERATE_FROM;
    const ferry_traffic_problem problem = {.cost = work->cost,
                                           .dim = work->dim,
                                           .sources = work->sources,
                                           .targets = work->targets,
                                           .grid_rows = p->grid_rows,
                                           .grid_cols = p->grid_cols,
                                           .groups = fewer ? ferry_accelerate_most_groups(least) : 0,
                                           .balanced = true,
                                           .check_every = fewer ? 1 : 10};
    const int row = p->grid_rows / 2, col = p->grid_cols / 2;
    ferry_traffic_speed speed = ferry_traffic_network(machine->ranks, machine->nodes);
    ferry_traffic_model model;
    FERRY_TRY(ferry_traffic_open(&model, &problem));
    const ferry_traffic t =
        which == START ? ferry_traffic_start(&model, row, col) : ferry_traffic_iteration(&model, row, col);
    speed.pairs = rate(work) * threads_of(work);
    phase->flops = (double)p->sources * (double)p->targets * (2.0 * work->dim + 16);
    phase->messages = t.messages;
    phase->sent_bytes = t.bytes;
    phase->seconds = ferry_traffic_seconds(&model, row, col, &t, &speed);
    ferry_traffic_close(&model);
    return FERRY_OK;
}

/* One pass of a stream. */
static void pass_cost(ferry_phase *phase, const ferry_work *work, const ferry_machine *machine, const part *p)
{
    const ferry_traffic_speed speed = ferry_traffic_network(machine->ranks, machine->nodes);
    double pairs = (double)p->sources * (double)p->targets, row_blocks = p->grid_cols > 1 ? 16 : 0;
    phase->flops = pairs * (2.0 * work->dim + 16);
    phase->messages = row_blocks * 2 * log2_up(p->grid_cols) + 2 * log2_up(p->grid_rows);
    phase->sent_bytes = 16.0 * (p->grid_cols - 1) / p->grid_cols * (double)p->sources +
                        16.0 * (p->grid_rows - 1) / p->grid_rows * (double)p->targets;
    phase->seconds =
        pairs / (rate(work) * threads_of(work)) + phase->messages * speed.latency + phase->sent_bytes / speed.bandwidth;
}

static void several(ferry_phase *phase, const ferry_work *work, const ferry_machine *machine, const part *p, int passes)
{
    pass_cost(phase, work, machine, p);
    phase->flops *= passes;
    phase->messages *= passes;
    phase->sent_bytes *= passes;
    phase->seconds *= passes;
}

static ferry_status part_of(part *out, const ferry_work *work, const ferry_machine *machine, int grid_rows)
{
    ferry_shards source = {0}, target = {0};
    int grid_cols = machine->ranks / grid_rows, per_node = machine->ranks / machine->nodes;
    *out = (part){grid_rows, grid_cols, per_node / grid_cols > 0 ? per_node / grid_cols : 1, 0, 0};
    ferry_status status = ferry_shards_open(&source, work->sources, FERRY_SOURCE_UNIT, grid_rows);
    if (status == FERRY_OK) status = ferry_shards_open(&target, work->targets, FERRY_TARGET_UNIT, grid_cols);
    for (int r = 0; status == FERRY_OK && r < grid_rows; r++)
        if (source.first[r + 1] - source.first[r] > out->sources) out->sources = source.first[r + 1] - source.first[r];
    for (int c = 0; status == FERRY_OK && c < grid_cols; c++)
        if (target.first[c + 1] - target.first[c] > out->targets) out->targets = target.first[c + 1] - target.first[c];
    ferry_shards_close(&source);
    ferry_shards_close(&target);
    return status;
}

static ferry_phase *add_phase(ferry_layout *out, const char *name, int64_t rows, int64_t bytes)
{
    ferry_phase *phase = &out->phase[out->phases++];
    memset(phase, 0, sizeof *phase);
    (void)snprintf(phase->name, sizeof phase->name, "%s", name);
    phase->rows = rows;
    phase->bytes = bytes + ROOM(bytes);
    if (phase->bytes > out->bytes) out->bytes = phase->bytes;
    return phase;
}

static int64_t point_bytes(const ferry_work *work)
{
    return (int64_t)work->dim * (work->cost->precision == FERRY_DOUBLE ? 8 : 4);
}

/* The reader's buffers for blocks of so many rows: as stored, and as handed out. */
static int64_t reading(const ferry_work *work, int64_t rows)
{
    double stored = (double)rows * (double)(work->read_bytes > 0 ? work->read_bytes : point_bytes(work));
    return (stored > (double)SLAB ? SLAB : (int64_t)stored) + rows * (point_bytes(work) + 8);
}

/* A file at about 200 MB/s a rank. */
static double reading_seconds(const ferry_work *work, int64_t rows)
{
    return (double)rows * (double)(work->read_bytes > 0 ? work->read_bytes : point_bytes(work)) / 2e8;
}

/* Phases of `cellferry transport`: raw points live until they are packed. */
static ferry_status solve_phases(ferry_layout *out, const ferry_work *work, const ferry_machine *machine, const part *p)
{
    int64_t bring = p->targets / p->sharing + FERRY_TARGET_UNIT, rows = p->sources + bring;
    int64_t raw = rows * point_bytes(work), held = work->base + work->fixed_bytes;
    int64_t packed = ferry_cost_bytes(work->cost, work->dim, p->sources, p->targets, p->sharing);
    int64_t solving = ferry_transport_bytes(work->cost, work->dim, work->sources, work->targets, p->sources, p->targets,
                                            p->grid_rows, p->grid_cols);
    int64_t weights = 8 * (p->sources + p->targets);
    int64_t block = out->batch < rows ? out->batch : rows;
    ferry_phase *read = add_phase(out, "read", rows, held + raw + reading(work, block));
    read->seconds = reading_seconds(work, rows);
    ferry_phase *prepare = add_phase(out, "prepare", rows, held + raw + packed);
    prepare->flops = (double)rows * work->dim * 8;
    prepare->seconds = prepare->flops / 2e9;
    int64_t bytes = held + packed + weights + solving;
    if (work->passes > 0) several(add_phase(out, "statistics", rows, bytes), work, machine, p, work->passes);
    FERRY_TRY(solve_cost(add_phase(out, "start pass", rows, bytes), START, work, machine, p));
    FERRY_TRY(solve_cost(add_phase(out, "each iteration", rows, bytes), ITERATION, work, machine, p));
    int64_t names = 64 * (p->sources + (p->targets + machine->ranks - 1) / machine->ranks) + 8 * SLAB / 32;
    add_phase(out, "write", p->sources, held + packed + weights + 16 * (p->sources + p->targets) + names);
    return FERRY_OK;
}

static int64_t panels_of(const part *p)
{
    return (p->sources + FERRY_SOURCE_UNIT - 1) / FERRY_SOURCE_UNIT;
}

/* Phases of a stream: the target side stays, blocks of source rows pass by. */
static void stream_phases(ferry_layout *out, const ferry_work *work, const ferry_machine *machine, const part *p)
{
    int64_t bring = p->targets / p->sharing + FERRY_TARGET_UNIT, held = work->base + work->fixed_bytes;
    int64_t packed = ferry_cost_bytes(work->cost, work->dim, 0, p->targets, p->sharing);
    int64_t potentials = 16 * p->targets;
    const int64_t together = ferry_panels_at_once(work->cost, work->dim, panels_of(p), p->targets);
    int64_t panels =
        (together * ferry_panel_bytes(work->cost, work->dim, p->targets) + work->thread_bytes) * threads_of(work);
    ferry_phase *read =
        add_phase(out, "read target", bring, held + packed + bring * point_bytes(work) + reading(work, bring));
    read->seconds = reading_seconds(work, bring);
    int64_t block = reading(work, out->batch) + out->batch * (2 * point_bytes(work) + work->row_bytes);
    out->room = (machine->memory - 10 * MIB) / 51 * 50 - held - packed - potentials;
    several(add_phase(out, work->passes > 1 ? "all passes" : "pass", p->sources,
                      held + packed + potentials + panels + block),
            work, machine, p, work->passes);
}

static ferry_status phases(ferry_layout *out, const ferry_work *work, const ferry_machine *machine, const part *p,
                           int64_t batch)
{
    *out = (ferry_layout){.grid_rows = p->grid_rows, .grid_cols = p->grid_cols, .batch = batch};
    out->passes = batch > 0 ? (p->sources + batch - 1) / batch : 0;
    if (!work->stream) return solve_phases(out, work, machine, p);
    stream_phases(out, work, machine, p);
    return FERRY_OK;
}

static int64_t whole_units(int64_t rows)
{
    return (rows + FERRY_SOURCE_UNIT - 1) / FERRY_SOURCE_UNIT * FERRY_SOURCE_UNIT;
}

/* The largest block that fits: halved from all rows down to one unit; out->bytes tells whether that was enough. */
static ferry_status fit_batch(ferry_layout *out, const ferry_work *work, const ferry_machine *machine, const part *p,
                              int64_t batch)
{
    if (batch > 0) return phases(out, work, machine, p, whole_units(batch));
    batch = whole_units(work->stream || p->sources > p->targets ? p->sources : p->targets);
    for (;;) {
        FERRY_TRY(phases(out, work, machine, p, batch));
        if (out->bytes <= machine->memory || batch <= FERRY_SOURCE_UNIT) return FERRY_OK;
        batch = whole_units(batch / 2);
    }
}

static double total_seconds(const ferry_layout *layout)
{
    double seconds = 0;
    for (int i = 0; i < layout->phases; i++)
        seconds += layout->phase[i].seconds * (strcmp(layout->phase[i].name, "each iteration") ? 1 : 100);
    return seconds;
}

/* Are blocks large enough for so many panels at once to be of use? A solve has all rows at hand. */
static bool of_use(const ferry_layout *layout, const ferry_work *work, const part *p, int panels)
{
    const int64_t least = 4 * FERRY_SOURCE_UNIT * (int64_t)threads_of(work) * panels;
    return !work->stream || layout->batch >= (least < p->sources ? least : p->sources);
}

/* One grid: panels held at once, which only save time, give way to memory. */
static ferry_status fit_grid(ferry_layout *out, const ferry_work *work, const ferry_machine *machine, const part *p,
                             int64_t batch)
{
    ferry_cost_options cost = *work->cost;
    ferry_work with = *work;
    with.cost = &cost;
    cost.panels = ferry_panels_at_once(work->cost, work->dim, panels_of(p), p->targets);
    for (;; cost.panels /= 2) {
        FERRY_TRY(fit_batch(out, &with, machine, p, batch));
        out->panels = cost.panels;
        const bool good = out->bytes <= machine->memory && of_use(out, work, p, cost.panels);
        if (good || cost.panels <= 1) return FERRY_OK;
    }
}

/* Best layout of a machine; *fits: does it stay within the limit? Otherwise the one with the fewest bytes. */
static ferry_status search(ferry_layout *out, bool *fits, const ferry_work *work, const ferry_machine *machine,
                           int grid_rows, int64_t batch)
{
    *fits = false;
    out->phases = 0;
    for (int rows = machine->ranks; rows >= 1; rows--) {
        ferry_layout layout;
        part p;
        if (machine->ranks % rows || (grid_rows && rows != grid_rows)) continue;
        FERRY_TRY(part_of(&p, work, machine, rows));
        FERRY_TRY(fit_grid(&layout, work, machine, &p, batch));
        bool good = layout.bytes <= machine->memory;
        bool better =
            out->phases == 0 || (good && !*fits) ||
            (good == *fits && (good ? total_seconds(&layout) < 0.95 * total_seconds(out) : layout.bytes < out->bytes));
        if (!better) continue;
        *out = layout;
        *fits = good;
    }
    return FERRY_OK;
}

/* What would fit, for the message. */
static void way_out(char text[256], const ferry_work *work, const ferry_machine *machine, int grid_rows, int64_t batch,
                    int64_t needed)
{
    ferry_layout layout;
    bool fits;
    char size[32];
    int used = snprintf(text, 256, "raise --memory to %lldM", (long long)((needed + MIB - 1) / MIB));
    ferry_cost_options single = *work->cost;
    ferry_work lean = *work;
    single.threads = 1;
    lean.cost = &single;
    if (grid_rows && search(&layout, &fits, work, machine, 0, batch) == FERRY_OK && fits)
        used += snprintf(text + used, 256 - (size_t)used, ", leave out --grid (%dx%d fits)", layout.grid_rows,
                         layout.grid_cols);
    if (batch && search(&layout, &fits, work, machine, grid_rows, 0) == FERRY_OK && fits)
        used += snprintf(text + used, 256 - (size_t)used, ", lower --batch-size to %lld", (long long)layout.batch);
    if (threads_of(work) > 1 && search(&layout, &fits, &lean, machine, grid_rows, batch) == FERRY_OK && fits)
        used += snprintf(text + used, 256 - (size_t)used, ", lower --threads to 1");
    for (int times = 2; times <= 1024 && work->base < machine->memory; times *= 2) {
        ferry_machine more = {machine->ranks * times, machine->nodes * times, machine->memory};
        if (more.ranks > 65536 || search(&layout, &fits, work, &more, 0, batch) != FERRY_OK || !fits) continue;
        (void)snprintf(text + used, 256 - (size_t)used, ", or use %d ranks", more.ranks);
        return;
    }
    (void)snprintf(text + used, 256 - (size_t)used, "; the program alone takes %s",
                   ferry_size_text(size, (double)work->base));
}

ferry_status ferry_layout_choose(ferry_layout *out, const ferry_work *work, const ferry_machine *machine, int grid_rows,
                                 int grid_cols, int64_t batch)
{
    bool fits;
    if (grid_rows && (int64_t)grid_rows * grid_cols != machine->ranks)
        return ferry_fail(FERRY_E_ARG, "--grid %dx%d has %lld places, but there are %d ranks", grid_rows, grid_cols,
                          (long long)grid_rows * grid_cols, machine->ranks);
    FERRY_TRY(search(out, &fits, work, machine, grid_rows, batch));
    if (fits) return FERRY_OK;
    char needed[32], allowed[32], way[256];
    way_out(way, work, machine, grid_rows, batch, out->bytes);
    return ferry_fail(
        FERRY_E_PLAN, "%lld source x %lld target cells need %s per rank on %d rank%s, and --memory allows %s: %s",
        (long long)work->sources, (long long)work->targets, ferry_size_text(needed, (double)out->bytes), machine->ranks,
        machine->ranks == 1 ? "" : "s", ferry_size_text(allowed, (double)machine->memory), way);
}

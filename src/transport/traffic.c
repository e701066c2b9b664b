/* The model of what is sent. One pass on a grid of Pr x Pc, rank (r, c), n_r source rows and m_c target columns there:
 *
 *   batches * sum(24 * panels of a batch; Pc)   row sums, hidden behind the tiles of the next batch
 *   sum(m_c; Pr)                                column sums, once
 *   sum(w; P) = w numbers by the tree of reduce_ranks.c: 16 (P-1)/P w bytes where P is a power of two,
 *               8 (k + 1) (P-1)/P w where it is not and the rank has k roots
 *
 * and small meetings: that all ranks are well, sums of one number. The accelerated loop adds the mass between groups,
 * K^2 whole numbers by MPI's own reduction, which moves them 2 (P-1)/P times (a ring), short ones log2(P) times. */
#include "traffic.h"
#include "accelerate_impl.h"
#include "sinkhorn_pass_impl.h"
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define STATUS  8     /* bytes of a meeting */
#define SHORT   10000 /* bytes below which MPI swaps whole vectors in a reduction */

/* What a pass of the accelerated loop adds up over targets (accelerate_step.c, anderson.c). */
#define MEASURES 5  /* numbers of its error */
#define MEANS    2  /* sums of one number */
#define GRAM     12 /* numbers of Anderson's products */

ferry_status ferry_traffic_open(ferry_traffic_model *out, const ferry_traffic_problem *problem)
{
    memset(out, 0, sizeof *out);
    out->of = *problem;
    ferry_status status = ferry_shards_open(&out->source, problem->sources, ROWS, problem->grid_rows);
    if (status == FERRY_OK) status = ferry_shards_open(&out->target, problem->targets, COLUMNS, problem->grid_cols);
    if (status != FERRY_OK) ferry_traffic_close(out);
    return status;
}

int ferry_traffic_groups(int64_t sources, int64_t targets, double epsilon)
{
    const int64_t least = sources < targets ? sources : targets;
    return least >= FERRY_ACCELERATE_FROM ? ferry_accelerate_groups_of(least, epsilon, 1) : 0;
}

void ferry_traffic_close(ferry_traffic_model *model)
{
    ferry_shards_close(&model->source);
    ferry_shards_close(&model->target);
    memset(model, 0, sizeof *model);
}

static int log2_of(int ranks)
{
    int steps = 0;
    while (1 << steps < ranks) steps++;
    return steps;
}

static void add(ferry_traffic *t, double messages, double bytes, double times)
{
    t->messages += messages;
    t->bytes += bytes;
    t->wire += bytes * times;
}
static void repeat(ferry_traffic *t, const ferry_traffic *part, double times)
{
    t->messages += times * part->messages;
    t->bytes += times * part->bytes;
    t->wire += times * part->wire;
}

/* A reduction by MPI itself. */
static void all_reduce(ferry_traffic *t, double bytes, int ranks)
{
    if (ranks > 1) add(t, 1, bytes, bytes < SHORT ? log2_of(ranks) : 2.0 * (ranks - 1) / ranks);
}
static void agree(ferry_traffic *t, int ranks)
{
    all_reduce(t, STATUS, ranks);
}

/* Do all parts have one root of the same size? */
static bool even(const ferry_shards *shards)
{
    const int parts = shards->parts, blocks = shards->blocks.count;
    if (parts & (parts - 1) || blocks < parts) return false;
    for (int p = 0; p < parts; p++)
        if (shards->block[p] != blocks / parts * p) return false;
    return true;
}

/* A sum over the blocks of shards, of `width` numbers in `planes` planes, as part `part` of it takes part. */
static void tree(ferry_traffic *t, double width, int planes, const ferry_shards *shards, int part, ferry_reduction how)
{
    const int parts = shards->parts;
    if (parts == 1 || width <= 0) return;
    if (how == FERRY_REDUCE_MPI && planes == 1) {
        all_reduce(t, 8 * width, parts);
        return;
    }
    if (!even(shards)) {
        const double roots = (double)ferry_forest_roots(shards, part), share = width / parts;
        const double takers = width < parts ? (part < width ? width - 1 : width) : parts - 1; /* who has a slice */
        const double own = width < parts ? (part < width) : share;
        add(t, (roots > 0 ? takers : 0) + planes * (own > 0 ? parts - 1 : 0),
            8 * planes * (roots * (width - own) + own * (parts - 1)), 1);
        return;
    }
    const int levels = log2_of(parts);
    double range = width;
    for (int k = 0; k < levels; k++) {
        const bool whole = k == levels - 1 || range <= FERRY_FOREST_WHOLE;
        add(t, planes * (whole ? 1 : 2), 8 * planes * range, 1); /* half there and, later, half back */
        if (!whole) range /= 2;
    }
}

/* Sums of `count` numbers over all targets, with the meetings around them. */
static void target_sum(ferry_traffic *t, const ferry_traffic_model *model, double count, int col)
{
    const ferry_traffic_problem *p = &model->of;
    agree(t, p->grid_cols);
    tree(t, count, 1, &model->target, col, p->cost->reduction);
    agree(t, p->grid_rows * p->grid_cols);
}
static void source_sum(ferry_traffic *t, const ferry_traffic_model *model, double count, int row)
{
    const ferry_traffic_problem *p = &model->of;
    agree(t, p->grid_rows);
    tree(t, count, 1, &model->source, row, p->cost->reduction);
    agree(t, p->grid_rows * p->grid_cols);
}

static double columns_of(const ferry_traffic_model *model, int col)
{
    const int64_t targets = model->target.first[col + 1] - model->target.first[col];
    const int64_t units = (targets + COLUMNS - 1) / COLUMNS;
    return (double)(units * COLUMNS);
}

ferry_traffic ferry_traffic_rows(const ferry_traffic_model *model, int row, int col)
{
    const ferry_traffic_problem *p = &model->of;
    const int64_t panels = (model->source.first[row + 1] - model->source.first[row] + ROWS - 1) / ROWS;
    ferry_traffic t = {0}, one = {0};
    if (p->grid_cols == 1 || panels == 0) return t;
    const int batch = ferry_batch_panels(p->cost, p->dim, p->targets, p->grid_cols, panels);
    tree(&one, (double)batch * ROWS, 1, &model->target, col, p->cost->reduction);
    const int64_t batches = (panels + batch - 1) / batch;
    repeat(&t, &one, (double)batches);
    return t;
}

ferry_traffic ferry_traffic_pass(const ferry_traffic_model *model, int row, int col)
{
    const ferry_traffic_problem *p = &model->of;
    const int ranks = p->grid_rows * p->grid_cols;
    ferry_traffic t = ferry_traffic_rows(model, row, col);
    agree(&t, p->grid_cols);
    agree(&t, ranks);
    tree(&t, columns_of(model, col), 1, &model->source, row, p->cost->reduction);
    if (p->grid_cols > 1) agree(&t, ranks);
    return t;
}

ferry_traffic ferry_traffic_start(const ferry_traffic_model *model, int row, int col)
{
    const ferry_traffic_problem *p = &model->of;
    const int ranks = p->grid_rows * p->grid_cols;
    ferry_traffic t = {0};
    agree(&t, ranks);
    tree(&t, columns_of(model, col), 2, &model->source, row, p->cost->reduction);
    agree(&t, ranks);
    return t;
}

/* What the accelerated loop does after a pass: mass between groups, the coarse step, Anderson's mixing. */
static void accelerated(ferry_traffic *t, const ferry_traffic_model *model, int row, int col)
{
    const ferry_traffic_problem *p = &model->of;
    const int ranks = p->grid_rows * p->grid_cols;
    const double groups = p->groups;
    all_reduce(t, 8 * groups * groups, ranks);
    all_reduce(t, 16 * groups, p->grid_cols);
    agree(t, ranks);
    if (ranks > 1) { /* the step, from the first rank */
        t->messages += row == 0 && col == 0;
        t->bytes += row == 0 && col == 0 ? 8 * groups : 0;
        t->wire += 8 * groups * (ranks - 1) / ranks;
    }
    target_sum(t, model, MEASURES, col);
    for (int k = 0; k < MEANS; k++) target_sum(t, model, 1, col);
    target_sum(t, model, GRAM, col);
    agree(t, p->grid_cols); /* the largest move */
}

/* What any loop does: the error now and then, the next potentials. */
static void around(ferry_traffic *t, const ferry_traffic_model *model, int row, int col)
{
    const ferry_traffic_problem *p = &model->of;
    const int ranks = p->grid_rows * p->grid_cols;
    ferry_traffic check = {0};
    target_sum(&check, model, 1, col);
    if (!p->balanced) source_sum(&check, model, 1, row);
    agree(&check, ranks);
    repeat(t, &check, 1.0 / (p->check_every > 0 ? p->check_every : 1));
    agree(t, p->grid_cols); /* have columns been lost? */
    if (p->groups > 0)
        accelerated(t, model, row, col);
    else
        agree(t, ranks);
}

ferry_traffic ferry_traffic_iteration(const ferry_traffic_model *model, int row, int col)
{
    ferry_traffic t = ferry_traffic_pass(model, row, col);
    around(&t, model, row, col);
    return t;
}

ferry_traffic ferry_traffic_stored(const ferry_traffic_model *model, int row, int col)
{
    const ferry_traffic_problem *p = &model->of;
    const int ranks = p->grid_rows * p->grid_cols;
    const int64_t rows = (model->source.first[row + 1] - model->source.first[row] + ROWS - 1) / ROWS * ROWS;
    ferry_traffic t = {0};
    tree(&t, p->grid_cols > 1 ? (double)rows : 0, 1, &model->target, col, p->cost->reduction);
    if (p->grid_cols > 1 || p->cost->threads > 1) agree(&t, ranks);
    tree(&t, columns_of(model, col), 1, &model->source, row, p->cost->reduction);
    if (p->grid_cols > 1) agree(&t, ranks);
    all_reduce(&t, 8.0 * p->groups, p->grid_rows); /* the rest of the plan, by groups */
    for (int k = 0; k < 2; k++) all_reduce(&t, 8.0 * p->groups, p->grid_cols);
    around(&t, model, row, col);
    return t;
}

ferry_traffic ferry_traffic_keeping(const ferry_traffic_model *model, int row, int col)
{
    const ferry_traffic_problem *p = &model->of;
    const int ranks = p->grid_rows * p->grid_cols;
    const int64_t rows = (model->source.first[row + 1] - model->source.first[row] + ROWS - 1) / ROWS * ROWS;
    const double groups = p->groups;
    ferry_traffic t = {0};
    for (int k = 0; k < 4; k++) agree(&t, ranks);
    if (p->grid_cols > 1 || p->cost->threads > 1) agree(&t, ranks);
    tree(&t, p->grid_cols > 1 ? (double)rows : 0, 1, &model->target, col, p->cost->reduction);
    tree(&t, columns_of(model, col), 1, &model->source, row, p->cost->reduction);
    for (int k = 0; k < 2; k++) all_reduce(&t, 8 * groups * groups, ranks);
    all_reduce(&t, 8 * groups, p->grid_rows);
    for (int k = 0; k < 2; k++) all_reduce(&t, 8 * groups, p->grid_cols);
    return t;
}

ferry_traffic_speed ferry_traffic_network(int ranks, int nodes)
{
    return (ferry_traffic_speed){.latency = nodes > 1 ? 1e-5 : 2e-6,
                                 .bandwidth = nodes > 1 ? 1.25e10 * nodes / ranks : 2e9};
}

double ferry_traffic_seconds(const ferry_traffic_model *model, int row, int col, const ferry_traffic *traffic,
                             const ferry_traffic_speed *speed)
{
    const ferry_traffic_problem *p = &model->of;
    const int64_t sources = model->source.first[row + 1] - model->source.first[row];
    const int64_t targets = model->target.first[col + 1] - model->target.first[col];
    const double computed = (double)sources * (double)targets / speed->pairs;
    const ferry_traffic rows = ferry_traffic_rows(model, row, col);
    const double waited =
        (traffic->messages - rows.messages) * speed->latency + (traffic->wire - rows.wire) / speed->bandwidth;
    const double handling = rows.messages * speed->latency / 2; /* the processor's part of what travels meanwhile */
    const double travelled = rows.messages * speed->latency + rows.wire / speed->bandwidth;
    const int64_t panels = (sources + ROWS - 1) / ROWS;
    const int batch = panels > 0 ? ferry_batch_panels(p->cost, p->dim, p->targets, p->grid_cols, panels) : 1;
    const double last = batch < panels ? (double)batch / (double)panels : 1; /* nothing is computed behind it */
    const double hidden = computed * (1 - last), rest = travelled * last;
    return computed + waited + handling + (travelled - hidden > rest ? travelled - hidden : rest);
}

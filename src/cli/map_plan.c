/* map_plan.c - memory and phases of `cellferry map`; see map.h. The phases of the search are the library's
 * (neighbors_plan.c); what follows, with q queries, n reference cells, k neighbours, P ranks, f = 1 - 1 / P:
 *
 *   weights   graph + what the kernel keeps; of one set each edge joins its reverse: sent f 16 k q
 *   labels    4 bytes a reference cell and column of labels, 8 of numbers; sent f 12 (numbers f 16) u B a column, where
 *             u = n (1 - exp(-k r / n)) cells of the reference are touched by a block of r rows, of B blocks (fewer
 *             when neighbours are shared); written 8 q a column
 *   values    8 bytes a reference cell and column of the embedding; read 4 w n (float32), sent f (8 + 8 w) u B, written
 * 4 w q layer     8 bytes a value of the reference, m values a cell; g = genes (1 - exp(-k m / genes)) values a result;
 *             read 12 m n (4 genes n when dense), sent f ((8 + 8 m) u B + 12 g q), written 12 g q before it is packed
 *   presence  8 bytes a reference cell and group; sent f 24 k q, twice with groups, written 8 n, and 8 n a group
 * A graph on disk is read once for the weights and for each column, embedding and layer, 8 k + 4 bytes a query; twice
 * for presence, once more for its groups. Blocks on their way: 64 bytes a weight of a block, and what is fetched for
 * them. */
#include "map.h"
#include "layout.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LITTLE ((int64_t)4 << 20)  /* of the writer, and small things */
#define MOST   ((int64_t)64 << 20) /* of a layer's rows at a time, for more makes nothing faster */
#define ENTRY  12                  /* bytes of a value and its column in a sparse file */
#define RATE   2e9                 /* bytes a second, on the network and into files */

/* Rows of a block of the walk, at most. */
static int64_t block_rows(const map_job *job)
{
    const ferry_blocks blocks = ferry_blocks_of(job->query.cells, FERRY_TARGET_UNIT);
    return job->query.cells / blocks.count + FERRY_TARGET_UNIT;
}

/* Edges of a row, at most about: both directions of an edge, or neighbours of neighbours. */
static double edges(const map_job *job)
{
    const double k = job->search.k;
    return job->two_hops ? k * k / 2 : job->self ? 1.5 * k : k;
}

/* Reference cells that all blocks touch, each block its own. */
static double touched(const map_job *job)
{
    const double n = (double)job->reference->cells, r = (double)block_rows(job);
    const double blocks = ferry_blocks_of(job->query.cells, FERRY_TARGET_UNIT).count;
    return n > 0 ? blocks * n * (1 - exp(-edges(job) * r / n)) : 0;
}

/* Bytes of a block on its way. */
static int64_t block_bytes(const map_job *job)
{
    return LITTLE + (int64_t)(64 * edges(job) * (double)block_rows(job));
}

/* Bytes per rank of what is held of the reference beside the layer, on so many ranks. */
static int64_t held_bytes(const map_job *job, int ranks)
{
    int64_t row = 8; /* its number in the file */
    for (int k = 0; k < job->keys; k++) row += job->key[k].number ? 8 : 4;
    return row * (job->reference->cells / ranks + 1);
}

static int64_t evaluated_bytes(const map_job *job, int ranks)
{
    return job->o->evaluate ? 16 * (job->query.cells / ranks + 1) : 0;
}

/* The widest embedding. */
static int64_t widest(const map_job *job)
{
    int64_t most = 0;
    for (int i = 0; i < job->o->obsm.count; i++) {
        int dim = 0;
        if (ferry_rep_dim(&dim, job->reference->file, job->o->obsm.text[i], 0) == FERRY_OK && dim > most) most = dim;
    }
    return most;
}

static void add_phase(map_job *job, const char *name, int64_t bytes, double read, double sent, double written)
{
    ferry_neighbors_plan *plan = &job->plan;
    if (plan->phases >= FERRY_NEIGHBORS_PHASES) return;
    const int ranks = machine_of(job->program).ranks;
    ferry_neighbors_phase *p = &plan->phase[plan->phases++];
    memset(p, 0, sizeof *p);
    (void)snprintf(p->name, sizeof p->name, "%s", name);
    p->rows = (job->query.cells + ranks - 1) / ranks;
    p->bytes = bytes;
    p->read_bytes = (int64_t)read;
    p->sent_bytes = (int64_t)sent;
    p->written_bytes = (int64_t)written;
    p->seconds = (read + sent + written) / RATE + 1e-7 * (double)p->rows * job->search.k;
    if (bytes > plan->bytes) plan->bytes = bytes;
}

/* The phases of a search, without those that write its graph. */
static void keep_search(ferry_neighbors_plan *plan)
{
    int kept = 0;
    for (int i = 0; i < plan->phases; i++) {
        if (!strcmp(plan->phase[i].name, "write") || !strcmp(plan->phase[i].name, "graph")) continue;
        plan->phase[kept++] = plan->phase[i];
    }
    plan->phases = kept;
    plan->bytes = 0;
    for (int i = 0; i < kept; i++)
        if (plan->phase[i].bytes > plan->bytes) plan->bytes = plan->phase[i].bytes;
}

/* Local. base: bytes per rank before any work, with what is held already. */
static ferry_status plan_search(map_job *job, int64_t base, int64_t lists, int codes)
{
    ferry_neighbors_sizes sizes = {.queries = job->query.cells,
                                   .reference = job->reference->cells,
                                   .dim = job->o->joint ? (int)job->o->components : job->query.dim,
                                   .self = job->self,
                                   .stored = job->o->search.index != NULL,
                                   .lists = lists,
                                   .codes = codes};
    if (job->o->joint && !sizes.dim) sizes.dim = 50;
    sizes_of_machine(&sizes, job->program, base);
    FERRY_TRY(ferry_neighbors_layout(&job->plan, &sizes, &job->search));
    keep_search(&job->plan);
    if (!job->two_hops || job->self) return FERRY_OK;
    sizes.queries = job->reference->cells;
    sizes.reference = job->query.cells;
    sizes.stored = false;
    sizes.lists = 0;
    sizes.codes = 0;
    FERRY_TRY(ferry_neighbors_layout(&job->back, &sizes, &job->search));
    keep_search(&job->back);
    if (job->back.bytes > job->plan.bytes) job->plan.bytes = job->back.bytes;
    return FERRY_OK;
}

/* Without a search: where the given graph is kept. */
static void plan_given(map_job *job, int64_t base)
{
    const int ranks = machine_of(job->program).ranks;
    const int64_t all = ferry_graph_bytes(job->query.cells, job->search.k, ranks);
    const int64_t least = ferry_graph_least(job->query.cells, job->search.k, ranks);
    job->plan.graph_held = base + all + block_bytes(job) < job->program->memory;
    job->plan.graph = job->plan.graph_held ? all : least;
    job->plan.reference_held = job->plan.queries_held = true;
}

/* Bytes of one walk over the graph, when it is on disk. */
static double walk_bytes(const map_job *job)
{
    return job->plan.graph_held ? 0 : (8.0 * job->search.k + 4) * (double)job->query.cells;
}

/* Columns that are diffused at a time: classes of labels, of an embedding; a layer's are made to fit. */
static int64_t diffused_width(const map_job *job)
{
    int64_t most = widest(job) > 1 ? widest(job) : 1;
    for (int k = 0; k < job->keys; k++)
        if (!job->key[k].number && job->key[k].labels.categories.count + 1 > most)
            most = job->key[k].labels.categories.count + 1;
    return most;
}

static void plan_diffusion(map_job *job, int64_t kept)
{
    const int ranks = machine_of(job->program).ranks;
    const int64_t cells = job->reference->cells, width = diffused_width(job);
    const bool stepwise = job->diffusion.method == FERRY_ITERATIVE;
    const double f = 1 - 1.0 / ranks, times = stepwise ? job->diffusion.steps : 20; /* products of a decomposition */
    const double columns = stepwise ? (double)width : (double)job->diffusion.eigenvectors;
    add_phase(job, "diffuse",
              kept + 8 * width * (cells / ranks + 1) + ferry_diffusion_bytes(cells, width, ranks, &job->diffusion), 0,
              times * f * 8 * columns * touched(job), 0);
}

static void plan_values(map_job *job, int64_t kept)
{
    const int ranks = machine_of(job->program).ranks;
    const double f = 1 - 1.0 / ranks, w = (double)widest(job), r = (double)block_rows(job);
    const double fetched = 8 * w * edges(job) * r;
    const int64_t here = (int64_t)(2 * (fetched < (double)MOST ? fetched : (double)MOST) + 12 * w * r);
    add_phase(job, "values", kept + block_bytes(job) + here + 8 * widest(job) * (job->reference->cells / ranks + 1),
              4 * w * (double)job->reference->cells + walk_bytes(job) * job->o->obsm.count,
              f * (8 + 8 * w) * touched(job), 4 * w * (double)job->query.cells);
}

static double clamp(double x, double least, double most)
{
    return x < least ? least : x < most ? x : most;
}

/* Settles what is read, fetched and made of the layer at a time, too. */
static void plan_layer(map_job *job, int64_t kept)
{
    map_layer *layer = &job->layer;
    const int ranks = machine_of(job->program).ranks;
    const double f = 1 - 1.0 / ranks, q = (double)job->query.cells, genes = (double)layer->count;
    const double all = (double)layer->bytes * job->world->size, value = sizeof(ferry_transfer_entry);
    const double of_row = edges(job) * layer->mean, wide = genes * (1 - exp(-of_row / genes));
    const double least = 16 * (value * of_row + ENTRY * wide); /* 16 rows */
    const double even = value * all / ranks + ENTRY * wide * (double)block_rows(job);
    const double fixed = (double)(kept + block_bytes(job)) + all / ranks, writer = (double)ferry_output_csr_bytes();
    const double room = (double)job->program->memory - fixed;
    layer->work = (int64_t)clamp((room - writer) / 2 - 2, least, even > (double)MOST ? (double)MOST : even);
    /* dense rows, and the reader's slabs of them; few passes over a matrix of columns */
    layer->batch =
        (int64_t)clamp(room / 3, (double)((int64_t)1 << 20), (double)(layer->by_columns ? 4 * MOST : LITTLE));
    const int64_t making = ferry_output_csr_bytes() + 2 * layer->work, reading = 3 * layer->batch;
    add_phase(job, "layer", (int64_t)fixed + (making > reading ? making : reading), layer->read + walk_bytes(job),
              f * ((8 + value * layer->mean) * touched(job) + ENTRY * q * wide), ENTRY * q * wide);
}

static void plan_phases(map_job *job, int64_t base, int64_t graphs)
{
    const int ranks = machine_of(job->program).ranks;
    const double f = 1 - 1.0 / ranks, kq = (double)job->search.k * (double)job->query.cells;
    const double q = (double)job->query.cells, n = (double)job->reference->cells;
    const bool joins = job->self && (job->kernel.symmetrize || job->kernel.kernel == FERRY_UMAP);
    const int64_t weights =
        ferry_weights_bytes(job->query.cells, job->search.k, ranks, job->kernel.kernel, job->kernel.symmetrize);
    const int64_t room = job->program->memory - base - graphs - job->layer.bytes - block_bytes(job);
    const int64_t kept = base + graphs + (weights < room / 2 ? weights : room > 0 ? room / 2 : 0);
    const int64_t packed = job->o->probabilities ? ferry_output_csr_bytes() : 0;
    add_phase(job, "weights", kept, walk_bytes(job), joins ? f * 16 * kq : 0, 0);
    if (job->diffused) plan_diffusion(job, kept);
    if (job->keys)
        add_phase(job, "labels", kept + block_bytes(job) + packed + evaluated_bytes(job, ranks),
                  walk_bytes(job) * job->keys, f * 12 * touched(job) * job->keys, 8 * q * job->keys);
    if (widest(job)) plan_values(job, kept);
    if (job->layer.count) plan_layer(job, kept);
    if (job->o->presence)
        add_phase(job, "presence", kept + 2 * block_bytes(job) + 16 * (job->reference->cells / ranks + 1),
                  walk_bytes(job) * (job->o->presence[0] ? 3 : 2), f * 24 * kq * (job->o->presence[0] ? 2 : 1), 8 * n);
}

static ferry_status check_layer(const map_job *job)
{
    char need[32], limit[32], layer[32];
    if (job->plan.bytes <= job->program->memory) return FERRY_OK;
    (void)ferry_size_text(need, (double)job->plan.bytes);
    (void)ferry_size_text(limit, (double)job->program->memory);
    (void)ferry_size_text(layer, (double)job->layer.bytes);
    if (job->layer.bytes > job->program->memory / 4)
        return ferry_fail(
            FERRY_E_PLAN,
            "the run needs %s per rank of --memory %s, %s of it for %s of the reference: take fewer genes "
            "with --genes FILE (%lld now), more ranks, or a larger --memory",
            need, limit, layer, job->layer.rep, (long long)job->layer.count);
    return ferry_fail(FERRY_E_PLAN,
                      "the run needs %s per rank of --memory %s: map fewer columns at a time, or use more ranks or a "
                      "larger --memory",
                      need, limit);
}

/* Local. */
static ferry_status settle(map_job *job, int64_t base, int64_t lists, int codes)
{
    const int ranks = machine_of(job->program).ranks;
    const int64_t held = held_bytes(job, ranks) - held_bytes(job, job->world->size);
    base += held > 0 ? held : 0; /* --plan for fewer ranks than those that run */
    if (job->o->neighbors)
        plan_given(job, base);
    else
        FERRY_TRY(plan_search(job, base, lists, codes));
    int64_t graphs = job->plan.graph;
    const int64_t other = job->plan.graph_held ? ferry_graph_bytes(job->reference->cells, job->search.k, ranks)
                                               : ferry_graph_least(job->reference->cells, job->search.k, ranks);
    if (!job->self && job->two_hops)
        graphs += other + 2 * (job->back.graph > job->plan.graph ? job->back.graph : job->plan.graph);
    else if (!job->self && !isnan(job->o->unknown_quantile))
        graphs += other;
    plan_phases(job, base, graphs);
    job->room =
        job->program->memory - base - graphs - block_bytes(job) - job->layer.bytes - evaluated_bytes(job, ranks);
    if (job->room < LITTLE) job->room = LITTLE;
    job->kernel.memory = job->room / 2;
    job->diffusion.memory = job->room / 2;
    return check_layer(job);
}

ferry_status map_settle(map_job *job)
{
    const ferry_world *world = job->world;
    int64_t rows = 0, lists = 0;
    int dim = job->query.dim, codes = 0;
    ferry_search_metric metric = job->search.metric;
    if (job->o->search.index) {
        FERRY_TRY(ferry_index_peek(&rows, &lists, &dim, &metric, world, job->o->search.index));
        if (!job->o->search.metric) job->search.metric = metric;
        FERRY_TRY(ferry_index_code_bytes(&codes, world, job->o->search.index));
        FERRY_TRY(ferry_agree(world, search_check_codes(&job->search, codes, job->o->search.index)));
    }
    const int64_t base = ferry_max(world, ferry_usage_now().pss);
    FERRY_TRY(ferry_agree(world, settle(job, base, lists, codes)));
    neighbors_plan_record(&job->program->figures, &job->plan, job->program);
    return FERRY_OK;
}

void map_describe(const map_job *job)
{
    if (job->world->rank != 0 || job->o->common.json) return;
    input_print(job->self ? "cells" : "query", &job->query);
    if (!job->self) input_print("reference", &job->other);
    neighbors_plan_print(&job->plan, job->program);
}

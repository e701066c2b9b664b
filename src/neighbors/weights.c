/* Kernels of one hop, and the walk over the rows of any kernel.
 *
 *   gauss  exp(-d^2 / (2 s^2)), s = mean d     scarches  exp(-d std^2 / 4)     inverse_distance  1 / (d + 1e-8)
 *   equal  1                                   umap      weights_umap.c        jaccard, hnoca    weights_jaccard.c
 *
 * Mean and std are of all distances that are there, self edges (0) included when there are any: sum d, sum d^2 and the
 * count, one leaf of the tree a canonical block. Where all distances are 0, gauss is 1.
 * A row is a function of its own entries, of the edges that end in it, and of these numbers: any thread makes it. */
#include "weights_impl.h"
#include "mpi/reduce.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define TINY 1e-8 /* of inverse_distance */
#define FEW  64   /* entries of a row that are sorted by insertion */

static bool two_hop(ferry_weight_kernel kernel)
{
    return kernel == FERRY_JACCARD || kernel == FERRY_HNOCA;
}

/* Rows of two hops are symmetric as they are. */
static bool needs_both(const ferry_weights_options *options)
{
    return options->kernel == FERRY_UMAP || (options->symmetrize != FERRY_SYMMETRIZE_NONE && !two_hop(options->kernel));
}

/* ---- what is asked for ---- */

static ferry_status check_cross(const ferry_weights_graphs *graphs, const ferry_weights_options *options)
{
    if (options->kernel == FERRY_UMAP)
        return ferry_fail(FERRY_E_ARG, "the umap kernel joins cells of one set, and here are two: take another kernel");
    if (options->symmetrize != FERRY_SYMMETRIZE_NONE)
        return ferry_fail(FERRY_E_ARG, "weights between two sets cannot be symmetrized: leave it out");
    if (options->self_edges)
        return ferry_fail(FERRY_E_ARG, "there are no edges from a cell to itself between two sets: leave them out");
    if (!two_hop(options->kernel)) return FERRY_OK;
    const ferry_graph *yx = graphs->yx, *xx = graphs->xx, *yy = graphs->yy, *xy = graphs->xy;
    if (!xx || !yy || !xy)
        return ferry_fail(FERRY_E_ARG, "jaccard and hnoca between two sets take the neighbours in all four directions, "
                                       "not the reference's of the queries alone");
    if (!xx->self || !yy->self || xx->rows != yx->columns || yy->rows != yx->rows || xy->rows != yx->columns ||
        xy->columns != yx->rows)
        return ferry_fail(FERRY_E_ARG, "the four graphs are not of the same two sets of %lld and %lld cells",
                          (long long)yx->columns, (long long)yx->rows);
    return FERRY_OK;
}

static ferry_status check(const ferry_weights_graphs *graphs, const ferry_weights_options *options)
{
    if (!graphs->yx) return ferry_fail(FERRY_E_ARG, "there are no neighbours to weigh");
    if ((int)options->kernel < FERRY_GAUSS || options->kernel > FERRY_HNOCA)
        return ferry_fail(FERRY_E_ARG, "there is no kernel %d", (int)options->kernel);
    if ((int)options->symmetrize < FERRY_SYMMETRIZE_NONE || options->symmetrize > FERRY_SYMMETRIZE_MEAN)
        return ferry_fail(FERRY_E_ARG, "there is no way %d to symmetrize", (int)options->symmetrize);
    if (options->sample < 0 || options->memory < 0)
        return ferry_fail(FERRY_E_ARG, "a sample of %lld rows and %lld bytes of memory make no sense",
                          (long long)options->sample, (long long)options->memory);
    return graphs->yx->self ? FERRY_OK : check_cross(graphs, options);
}

/* ---- mean and deviation ---- */

/* Exactly `sample` of the rows, evenly spread, beginning where the seed says. */
static bool sampled(const ferry_weights_options *options, int64_t rows, int64_t row)
{
    if (options->sample <= 0 || options->sample >= rows) return true;
    const uint64_t n = (uint64_t)rows, i = ((uint64_t)row + options->seed % n) % n;
    return i * (uint64_t)options->sample % n < (uint64_t)options->sample; /* below 2^64: rows are below 2^32 */
}

/* sums [3]: d, d^2, count */
static void add_block(double *sums, const ferry_weights_options *options, const ferry_graph *graph,
                      const ferry_graph_block *block)
{
    for (int64_t i = 0; i < block->rows; i++) {
        if (!sampled(options, graph->rows, block->first + i)) continue;
        sums[2] += options->self_edges;
        for (int64_t e = i * graph->k; e < (i + 1) * graph->k; e++) {
            if (!ferry_entry(block, e)) continue;
            const double d = block->distance[e];
            sums[0] += d;
            sums[1] += d * d;
            sums[2] += 1;
        }
    }
}

/* Local. */
static ferry_status sum_rows(ferry_forest *forest, const ferry_weights_options *options, ferry_graph *graph)
{
    for (int64_t round = 0; round < graph->rounds; round++) {
        const int64_t b = round * graph->size + graph->rank;
        if (b >= graph->blocks.count) break;
        ferry_graph_block block;
        double *leaf;
        FERRY_TRY(ferry_graph_take(&block, graph, round));
        FERRY_TRY(ferry_forest_leaf(&leaf, forest));
        add_block(leaf, options, graph, &block);
        ferry_forest_add(forest, (int)b);
    }
    return FERRY_OK;
}

static ferry_status measure(ferry_weights *weights, const ferry_world *world)
{
    struct ferry_weights_store *store = weights->store;
    ferry_forest *forest = NULL;
    double sums[3] = {0};
    ferry_status status = ferry_forest_open(&forest, 3, weights->blocks.count, FERRY_JOIN_SUM);
    if (status == FERRY_OK) status = sum_rows(forest, &store->options, store->graph);
    status = ferry_agree(world, status);
    if (status == FERRY_OK) status = ferry_forest_reduce(sums, forest, world, FERRY_REDUCE_TREE);
    if (forest) ferry_forest_close(&forest);
    FERRY_TRY(status);
    if (sums[2] == 0) return FERRY_OK; /* no neighbours at all */
    weights->mean = sums[0] / sums[2];
    const double variance = sums[1] / sums[2] - weights->mean * weights->mean;
    weights->deviation = variance > 0 ? sqrt(variance) : 0;
    if (store->options.kernel == FERRY_GAUSS && weights->mean > 0)
        store->factor = -1 / (2 * weights->mean * weights->mean);
    if (store->options.kernel == FERRY_SCARCHES) store->factor = -weights->deviation * weights->deviation / 4;
    return FERRY_OK;
}

/* ---- umap ---- */

typedef struct smoother {
    struct ferry_weights_store *store;
    double mean;
} smoother;

/* Local. rho and sigma of the block's rows, kept for the walks, and the memberships of its entries. */
static ferry_status smooth_block(void *self, float *value, const ferry_graph_block *block, int64_t round)
{
    const smoother *it = self;
    struct ferry_weights_store *store = it->store;
    const int k = store->graph->k;
    const bool own = store->options.self_edges;
    ferry_smooth *smooth = block->rows ? store->smooth + store->deal.row[round] : NULL;
#pragma omp parallel for num_threads(store->threads) schedule(static)
    for (int64_t i = 0; i < block->rows; i++) {
        float *d = value + i * k; /* the distances that are there, then all memberships */
        int count = 0;
        for (int64_t e = i * k; e < (i + 1) * k; e++)
            if (ferry_entry(block, e)) d[count++] = block->distance[e];
        smooth[i] = ferry_smooth_row(d, count, own, it->mean);
        for (int e = 0; e < k; e++) d[e] = ferry_membership(block->distance[i * k + e], smooth[i]);
    }
    return FERRY_OK;
}

static ferry_status turn_round(ferry_weights *weights, const ferry_world *world)
{
    struct ferry_weights_store *store = weights->store;
    smoother umap = {store, weights->mean};
    ferry_edges edges = {.graph = store->graph, .most = store->graph->k};
    ferry_status status = FERRY_OK;
    if (store->options.kernel == FERRY_UMAP) {
        edges.values = smooth_block;
        edges.self = &umap;
        status = ferry_alloc(&store->smooth, store->deal.row[store->deal.mine]);
    }
    FERRY_TRY(ferry_agree(world, status));
    return ferry_transpose_open(&store->incoming, world, &edges, store->options.memory, store->options.folder);
}

/* ---- open and close ---- */

/* Local. */
static ferry_status open_store(ferry_weights *out, const ferry_world *world, const ferry_weights_graphs *graphs,
                               const ferry_weights_options *options)
{
    FERRY_TRY(check(graphs, options));
    ferry_graph *graph = graphs->yx;
    FERRY_TRY(ferry_alloc(&out->store, 1));
    struct ferry_weights_store *store = out->store;
    out->rows = graph->rows;
    out->columns = graph->columns;
    out->blocks = graph->blocks;
    out->rounds = graph->rounds;
    store->options = *options;
    store->graph = graph;
    store->threads = options->threads > 0 ? options->threads : 1;
    store->both = needs_both(options);
    FERRY_TRY(ferry_deal_open(&store->deal, graph->rows, world));
    FERRY_TRY(ferry_alloc(&store->indptr, store->deal.longest + 1));
    FERRY_TRY(ferry_alloc(&store->count, store->deal.longest + 1));
    FERRY_TRY(ferry_alloc(&store->sum, store->deal.longest + 1));
    FERRY_TRY(ferry_alloc(&store->line, store->threads * ((int64_t)graph->k + 1)));
    return ferry_weights_room(store, 0, store->deal.longest * ((int64_t)graph->k + 1));
}

ferry_status ferry_weights_open(ferry_weights *out, const ferry_world *world, const ferry_weights_graphs *graphs,
                                const ferry_weights_options *options)
{
    *out = (ferry_weights){0};
    ferry_status status = ferry_agree(world, open_store(out, world, graphs, options));
    if (status == FERRY_OK) status = measure(out, world);
    if (status == FERRY_OK && out->store->both) status = turn_round(out, world);
    if (status == FERRY_OK && two_hop(options->kernel))
        status = ferry_two_hop_open(&out->store->hop, world, graphs, options);
    if (status != FERRY_OK) ferry_weights_close(out);
    return status;
}

void ferry_weights_close(ferry_weights *weights)
{
    struct ferry_weights_store *store = weights->store;
    if (store) {
        ferry_deal_close(&store->deal);
        ferry_transpose_close(&store->incoming);
        ferry_two_hop_close(&store->hop);
        void *memory[] = {store->smooth, store->indptr, store->count, store->sum,
                          store->cell,   store->weight, store->line,  store};
        for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) free(memory[i]);
    }
    *weights = (ferry_weights){0};
}

/* ---- rows ---- */

ferry_status ferry_weights_room(struct ferry_weights_store *store, int64_t kept, int64_t entries)
{
    if (entries <= store->room && store->cell) return FERRY_OK;
    const int64_t room = kept && entries < store->room + store->room / 2 ? store->room + store->room / 2 : entries;
    if (!kept) { /* before the new ones are taken */
        free(store->cell);
        free(store->weight);
        store->cell = NULL;
        store->weight = NULL;
        store->room = 0;
        FERRY_TRY(ferry_alloc(&store->cell, room));
        FERRY_TRY(ferry_alloc(&store->weight, room));
    } else {
        FERRY_TRY(ferry_grow(&store->cell, kept, room));
        FERRY_TRY(ferry_grow(&store->weight, kept, room));
    }
    store->room = room;
    return FERRY_OK;
}

double ferry_weight_of(const struct ferry_weights_store *store, float value)
{
    const double d = value;
    switch (store->options.kernel) {
    case FERRY_GAUSS:
        return exp(store->factor * d * d);
    case FERRY_SCARCHES:
        return exp(store->factor * d);
    case FERRY_INVERSE_DISTANCE:
        return 1 / (d + TINY);
    case FERRY_UMAP:
        return d;
    default:
        return 1;
    }
}

static int by_cell(const void *a, const void *b)
{
    const ferry_link *x = a, *y = b;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

static void sort_links(ferry_link *line, int count)
{
    if (count > FEW) {
        qsort(line, (size_t)count, sizeof *line, by_cell);
        return;
    }
    for (int i = 1; i < count; i++) {
        const ferry_link it = line[i];
        int j = i;
        for (; j > 0 && line[j - 1].cell > it.cell; j--) line[j] = line[j - 1];
        line[j] = it;
    }
}

/* The edges of row i of the block, ascending; line [k + 1]. */
static int own_links(ferry_link *line, const struct ferry_weights_store *store, const ferry_graph_block *block,
                     int64_t round, int64_t i)
{
    const int k = store->graph->k;
    const bool umap = store->options.kernel == FERRY_UMAP;
    int count = 0;
    for (int64_t e = i * k; e < (i + 1) * k; e++) {
        if (!ferry_entry(block, e)) continue;
        const float d = block->distance[e];
        line[count++] =
            (ferry_link){block->cell[e], umap ? ferry_membership(d, store->smooth[store->deal.row[round] + i]) : d};
    }
    if (store->options.self_edges && !umap) line[count++] = (ferry_link){(uint32_t)(block->first + i), 0};
    sort_links(line, count);
    return count;
}

/* Row i into its place, which begins at indptr[i]. */
static int64_t make_row(struct ferry_weights_store *store, const ferry_graph_block *block, const ferry_edge *edges,
                        const int64_t *start, int64_t round, int64_t i, ferry_link *line)
{
    uint32_t *cell = store->cell + store->indptr[i];
    double *weight = store->weight + store->indptr[i];
    const int64_t n = own_links(line, store, block, round, i);
    if (start)
        return ferry_symmetric_row(cell, weight, store, block->first + i, line, n, edges + (start[i] - start[0]),
                                   start[i + 1] - start[i]);
    for (int64_t e = 0; e < n; e++) {
        cell[e] = line[e].cell;
        weight[e] = ferry_weight_of(store, line[e].value);
    }
    return n;
}

/* Rows leave no gaps: those before row i hold `at` entries. */
static void close_gaps(struct ferry_weights_store *store, int64_t rows)
{
    int64_t at = 0;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t from = store->indptr[i], n = store->count[i];
        if (from != at) {
            memmove(store->cell + at, store->cell + from, (size_t)n * sizeof *store->cell);
            memmove(store->weight + at, store->weight + from, (size_t)n * sizeof *store->weight);
        }
        store->indptr[i] = at;
        at += n;
    }
    store->indptr[rows] = at;
}

/* Local. */
static ferry_status one_hop(int64_t *rows, struct ferry_weights_store *store, int64_t round)
{
    ferry_graph_block block;
    const ferry_edge *edges = NULL;
    const int64_t *start = NULL; /* of the rows' edges, when they take part */
    FERRY_TRY(ferry_graph_take(&block, store->graph, round));
    *rows = block.rows;
    if (block.rows && store->both) FERRY_TRY(ferry_transpose_block(&edges, &start, &store->incoming, round));
    const int64_t own = store->graph->k + 1;
    store->indptr[0] = 0;
    for (int64_t i = 0; i < block.rows; i++)
        store->indptr[i + 1] = store->indptr[i] + own + (start ? start[i + 1] - start[i] : 0);
    FERRY_TRY(ferry_weights_room(store, 0, store->indptr[block.rows]));
#pragma omp parallel num_threads(store->threads)
    {
        ferry_link *line = store->line + own * omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < block.rows; i++)
            store->count[i] = make_row(store, &block, edges, start, round, i, line);
    }
    close_gaps(store, block.rows);
    return FERRY_OK;
}

static void add_rows(struct ferry_weights_store *store, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        store->sum[i] = 0;
        for (int64_t e = store->indptr[i]; e < store->indptr[i + 1]; e++) store->sum[i] += store->weight[e];
    }
}

ferry_status ferry_weights_take(ferry_weights_block *out, ferry_weights *weights, const ferry_world *world,
                                int64_t round)
{
    struct ferry_weights_store *store = weights->store;
    const int64_t b = round * store->deal.size + store->deal.rank;
    int64_t rows = 0;
    *out = (ferry_weights_block){0};
    ferry_status status = FERRY_OK;
    if (round < 0 || round >= weights->rounds)
        status =
            ferry_fail(FERRY_E_ARG, "there is no round %lld of %lld", (long long)round, (long long)weights->rounds);
    else if (!store->hop)
        status = one_hop(&rows, store, round);
    FERRY_TRY(ferry_agree(world, status));
    if (store->hop) FERRY_TRY(ferry_two_hop_take(&rows, store, world, round));
    add_rows(store, rows);
    const int64_t first = b < weights->blocks.count ? ferry_block_first(&weights->blocks, (int)b) : weights->rows;
    *out = (ferry_weights_block){first, rows, store->indptr, store->cell, store->weight, store->sum};
    return FERRY_OK;
}

/* ---- bytes ---- */

int64_t ferry_weights_edge_bytes(int64_t rows, int k, int ranks, ferry_weight_kernel kernel,
                                 ferry_symmetrize symmetrize)
{
    const ferry_weights_options options = {.kernel = kernel, .symmetrize = symmetrize};
    const int64_t here = (rows + ranks - 1) / ranks * k * (int64_t)sizeof(ferry_edge);
    return two_hop(kernel) ? 2 * here : needs_both(&options) ? here : 0;
}

int64_t ferry_weights_bytes(int64_t rows, int k, int ranks, ferry_weight_kernel kernel, ferry_symmetrize symmetrize)
{
    const ferry_blocks blocks = ferry_blocks_of(rows, FERRY_TARGET_UNIT);
    const int64_t here = (rows + ranks - 1) / ranks, longest = ferry_deal_longest(&blocks), ones = k + 1;
    const int64_t entry = sizeof(uint32_t) + sizeof(double),
                  edges = ferry_weights_edge_bytes(rows, k, ranks, kernel, symmetrize);
    int64_t bytes = (longest * 3 + blocks.count + here / 16) * (int64_t)sizeof(int64_t) + longest * ones * entry;
    if (!edges) return bytes;
    bytes += edges + here * (int64_t)(sizeof(int64_t) + sizeof(ferry_smooth)) + FERRY_DELIVERY_BYTES;
    if (!two_hop(kernel)) return bytes + longest * ones * (entry + 2 * (int64_t)sizeof(ferry_edge));
    /* the lists of a block's distinct cells and their copy on the way; rows of up to 2 (k + 1)^2 entries */
    return bytes + 2 * (2 * longest * ones * ones * (int64_t)sizeof(uint32_t)) + 2 * longest * ones * ones * entry;
}

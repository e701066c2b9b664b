/* The graph as scanpy writes it: obsp/distances, obsp/connectivities and uns/neighbors.
 *
 *  Its n_neighbors counts the cell itself: k + 1 of ours. distances: k entries a row, those of distance 0 too;
 *  connectivities: the fuzzy simplicial set. Rows are sorted by cell, distances are float32 (scanpy has float64). */
#include "weights_impl.h"
#include <string.h>

/* A block as rows for a sink. */
typedef struct outgoing {
    int64_t *indptr;  /* [longest + 1] */
    int64_t *indices; /* [room] */
    float *values;
    int64_t room;
} outgoing;

static void free_outgoing(outgoing *it)
{
    free(it->indptr);
    free(it->indices);
    free(it->values);
}

static ferry_status make_room(outgoing *it, int64_t entries)
{
    if (entries <= it->room && it->indices) return FERRY_OK;
    free(it->indices);
    free(it->values);
    it->indices = NULL;
    it->values = NULL;
    it->room = entries + entries / 4;
    FERRY_TRY(ferry_alloc(&it->indices, it->room));
    return ferry_alloc(&it->values, it->room);
}

/* Entry `at` of a row sinks to its place among those from `first` on. */
static void put_in_place(outgoing *it, int64_t first, int64_t at)
{
    const int64_t cell = it->indices[at];
    const float value = it->values[at];
    for (; at > first && it->indices[at - 1] > cell; at--) {
        it->indices[at] = it->indices[at - 1];
        it->values[at] = it->values[at - 1];
    }
    it->indices[at] = cell;
    it->values[at] = value;
}

/* Local. */
static ferry_status load_distances(outgoing *out, int64_t *rows, ferry_graph *graph, int64_t round)
{
    ferry_graph_block block;
    FERRY_TRY(ferry_graph_take(&block, graph, round));
    const int64_t k = graph->k;
    *rows = block.rows;
    FERRY_TRY(make_room(out, block.rows * k));
    int64_t at = 0;
    for (int64_t i = 0; i < block.rows; i++) {
        for (int64_t e = i * k; e < (i + 1) * k; e++) {
            if (!ferry_entry(&block, e)) continue;
            out->indices[at] = block.cell[e];
            out->values[at] = block.distance[e];
            put_in_place(out, out->indptr[i], at++);
        }
        out->indptr[i + 1] = at;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status load_weights(outgoing *out, const ferry_weights_block *block)
{
    const int64_t entries = block->rows ? block->indptr[block->rows] : 0;
    FERRY_TRY(make_room(out, entries));
    if (block->rows) memcpy(out->indptr, block->indptr, (size_t)(block->rows + 1) * sizeof *out->indptr);
    for (int64_t e = 0; e < entries; e++) {
        out->indices[e] = block->cell[e];
        out->values[e] = (float)block->weight[e];
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status hand_over(const ferry_sink *sink, outgoing *it, int64_t rows)
{
    const ferry_rows block = {rows, it->indptr, it->indices, it->values};
    return sink->take(sink->self, &block);
}

/* Collective. */
static ferry_status write_distances(ferry_graph *graph, const ferry_world *world, const ferry_sink *sink, outgoing *it)
{
    for (int64_t round = 0; round < graph->rounds; round++) {
        int64_t rows = 0;
        FERRY_TRY(ferry_agree(world, load_distances(it, &rows, graph, round)));
        FERRY_TRY(hand_over(sink, it, rows));
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status write_weights(ferry_weights *weights, const ferry_world *world, const ferry_sink *sink,
                                  outgoing *it)
{
    for (int64_t round = 0; round < weights->rounds; round++) {
        ferry_weights_block block;
        FERRY_TRY(ferry_weights_take(&block, weights, world, round));
        FERRY_TRY(ferry_agree(world, load_weights(it, &block)));
        FERRY_TRY(hand_over(sink, it, block.rows));
    }
    return FERRY_OK;
}

/* Collective. weights NULL: the distances. */
static ferry_status write_matrix(ferry_graph *graph, ferry_weights *weights, const ferry_world *world,
                                 ferry_output *output, const char *path)
{
    ferry_sink sink;
    outgoing it = {0};
    ferry_status status = ferry_output_csr_open(&sink, output, path, graph->rows, graph->columns);
    if (status != FERRY_OK) return status;
    status = ferry_agree(world, ferry_alloc(&it.indptr, ferry_deal_longest(&graph->blocks) + 1));
    if (status == FERRY_OK)
        status = weights ? write_weights(weights, world, &sink, &it) : write_distances(graph, world, &sink, &it);
    if (status == FERRY_OK) status = ferry_output_csr_finish(&sink);
    free_outgoing(&it);
    return status;
}

/* Collective. */
static ferry_status write_record(ferry_output *output, int64_t neighbors, const char *rep, const char *metric,
                                 uint64_t seed)
{
    FERRY_TRY(ferry_output_group(output, "uns/neighbors", "dict", "0.1.0"));
    FERRY_TRY(ferry_output_text(output, "uns/neighbors/connectivities_key", "connectivities"));
    FERRY_TRY(ferry_output_text(output, "uns/neighbors/distances_key", "distances"));
    FERRY_TRY(ferry_output_group(output, "uns/neighbors/params", "dict", "0.1.0"));
    FERRY_TRY(ferry_output_count(output, "uns/neighbors/params/n_neighbors", neighbors));
    FERRY_TRY(ferry_output_text(output, "uns/neighbors/params/method", "umap"));
    FERRY_TRY(ferry_output_count(output, "uns/neighbors/params/random_state", (int64_t)seed));
    FERRY_TRY(ferry_output_text(output, "uns/neighbors/params/metric", metric));
    return rep ? ferry_output_text(output, "uns/neighbors/params/use_rep", rep) : FERRY_OK;
}

ferry_status ferry_weights_write_graph(ferry_graph *graph, const ferry_world *world, ferry_output *output,
                                       const char *rep, const char *metric, uint64_t seed, int64_t memory,
                                       const char *folder)
{
    const ferry_weights_graphs graphs = {.yx = graph};
    const ferry_weights_options options = {
        .kernel = FERRY_UMAP, .self_edges = true, .seed = seed, .memory = memory, .folder = folder};
    ferry_weights weights;
    FERRY_TRY(ferry_weights_open(&weights, world, &graphs, &options));
    ferry_status status = write_matrix(graph, NULL, world, output, "obsp/distances");
    if (status == FERRY_OK) status = write_matrix(graph, &weights, world, output, "obsp/connectivities");
    if (status == FERRY_OK) status = write_record(output, (int64_t)graph->k + 1, rep, metric, seed);
    ferry_weights_close(&weights);
    return status;
}

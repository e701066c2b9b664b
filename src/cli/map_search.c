/* map_search.c - neighbours of the queries, searched or given, and their weights; see map.h. */
#include "map.h"
#include "progress.h"
#include <stdlib.h>
#include <string.h>

#define NAMES ((int64_t)1 << 16) /* that are compared at a time */

/* ---- are they the same cells? ---- */

/* Names of cells first ... of a file or an index. Local. */
typedef ferry_status (*names_reader)(ferry_names *out, const void *from, int64_t first, int64_t count);

static ferry_status names_of_index(ferry_names *out, const void *from, int64_t first, int64_t count)
{
    return ferry_index_names(out, from, first, count);
}

static ferry_status names_of_graph(ferry_names *out, const void *from, int64_t first, int64_t count)
{
    ferry_stored *stored = NULL;
    ferry_status status = ferry_stored_open(&stored, from);
    if (status == FERRY_OK) status = ferry_stored_texts(out, stored, "obs/_index", first, count);
    ferry_stored_close(&stored);
    return status;
}

/* Local. */
static ferry_status compare(const ferry_names *names, names_reader reader, const void *from, int64_t first,
                            const ferry_population *cells)
{
    ferry_names stored = {0};
    ferry_status status = names->count ? reader(&stored, from, first, names->count) : FERRY_OK;
    for (int64_t i = 0; i < names->count && status == FERRY_OK; i++)
        if (strcmp(ferry_name(names, i), ferry_name(&stored, i)) != 0)
            status = ferry_fail(FERRY_E_FILE,
                                "%s: cell %lld is '%.60s', but '%.60s' in %s: it was made of other cells; make it "
                                "again",
                                (const char *)from, (long long)(first + i), ferry_name(&stored, i),
                                ferry_name(names, i), cells->options.path);
    ferry_names_close(&stored);
    return status;
}

/* Collective. */
static ferry_status same_cells(const map_job *job, const ferry_population *cells, names_reader reader, const void *from)
{
    const ferry_world *world = job->world;
    for (int64_t at = 0; at < cells->cells; at += NAMES * world->size) {
        int64_t first = at + NAMES * world->rank;
        if (first > cells->cells) first = cells->cells;
        const int64_t count = cells->cells - first < NAMES ? cells->cells - first : NAMES;
        ferry_names names = {0};
        ferry_status status = ferry_population_names(&names, world, cells, first, count);
        if (status == FERRY_OK) status = ferry_agree(world, compare(&names, reader, from, first, cells));
        ferry_names_close(&names);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* ---- given neighbours ---- */

static ferry_status check_given(const map_job *job)
{
    const ferry_graph *g = &job->yx;
    if (g->rows == job->query.cells && g->columns == job->reference->cells && g->self == job->self) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "%s holds neighbours of %lld cells among %lld%s, but these are %lld among %lld%s; make it again "
                      "with 'cellferry neighbors' of the same files and filters",
                      job->o->neighbors, (long long)g->rows, (long long)g->columns, g->self ? " of the same set" : "",
                      (long long)job->query.cells, (long long)job->reference->cells,
                      job->self ? " of the same set" : "");
}

/* Collective. */
static ferry_status take_given(map_job *job)
{
    watch_stage("read");
    FERRY_TRY(ferry_graph_read(&job->yx, job->world, job->o->neighbors, NULL, (int)job->o->search.k, job->plan.graph,
                               job->o->search.spill));
    FERRY_TRY(ferry_agree(job->world, check_given(job)));
    return same_cells(job, &job->query, names_of_graph, job->o->neighbors);
}

/* ---- searches ---- */

/* Collective. */
static ferry_status open_points(map_job *job)
{
    if (!job->o->joint) {
        ferry_points_of(&job->points[0], &job->query);
        ferry_points_of(&job->points[1], job->reference);
        return FERRY_OK;
    }
    const ferry_joint_options options = {.method = !strcmp(job->o->joint, "cca") ? FERRY_JOINT_CCA : FERRY_JOINT_PCA,
                                         .components = job->o->components ? (int)job->o->components : 50,
                                         .rep = job->query.options.rep,
                                         .memory = job->room / 2,
                                         .seed = job->search.seed};
    watch_stage("joint");
    FERRY_TRY(ferry_joint_open(&job->joint, job->world, &job->query, &job->other, &options));
    job->shard[0] = (ferry_points_shard){.values = job->joint.query, .firsts = job->joint.query_first};
    job->shard[1] = (ferry_points_shard){.values = job->joint.reference, .firsts = job->joint.reference_first};
    ferry_points_held(&job->points[0], &job->shard[0], job->query.cells, job->joint.dim, "the joint embedding");
    ferry_points_held(&job->points[1], &job->shard[1], job->other.cells, job->joint.dim, "the joint embedding");
    json_count(&job->program->figures, "joint_genes", job->joint.genes);
    json_count(&job->program->figures, "joint_components", job->joint.dim);
    return FERRY_OK;
}

static ferry_status check_index(const map_job *job, const ferry_reference *reference)
{
    if (!reference->stored || reference->index.cells == job->reference->cells) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "%s has %lld cells, but the reference %s %lld: give the file and filter that it was "
                      "made of",
                      job->o->search.index, (long long)reference->index.cells, job->reference->options.path,
                      (long long)job->reference->cells);
}

/* The plan of another search in the same lists, whose graph has other rows. */
static ferry_neighbors_plan plan_of_rows(const map_job *job, const ferry_neighbors_plan *plan, int64_t rows)
{
    ferry_neighbors_plan out = *plan;
    const int k = job->search.k, ranks = job->world->size;
    out.graph = plan->graph_held ? ferry_graph_bytes(rows, k, ranks) : ferry_graph_least(rows, k, ranks);
    return out;
}

/* Collective. Searches in the reference: of the queries, and of its own cells where they are needed. */
static ferry_status search_reference(map_job *job, ferry_reference *reference)
{
    ferry_neighbors_report of_reference;
    FERRY_TRY(ferry_agree(job->world, check_index(job, reference)));
    if (reference->stored) FERRY_TRY(same_cells(job, job->reference, names_of_index, job->o->search.index));
    FERRY_TRY(ferry_neighbors(&job->yx, &job->report, job->world, job->self ? NULL : &job->points[0], reference,
                              &job->search, &job->plan));
    const bool own = !job->self && (job->two_hops || job->o->unknown_quantile == job->o->unknown_quantile);
    if (!own) return FERRY_OK;
    const ferry_neighbors_plan plan = plan_of_rows(job, &job->plan, job->reference->cells);
    job->graphs.xx = &job->xx;
    return ferry_neighbors(&job->xx, &of_reference, job->world, NULL, reference, &job->search, &plan);
}

/* Collective. Searches in the query. */
static ferry_status search_query(map_job *job, ferry_reference *query)
{
    ferry_neighbors_report report;
    const ferry_neighbors_plan plan = plan_of_rows(job, &job->back, job->query.cells);
    FERRY_TRY(ferry_neighbors(&job->yy, &report, job->world, NULL, query, &job->search, &plan));
    FERRY_TRY(ferry_neighbors(&job->xy, &report, job->world, &job->points[1], query, &job->search, &job->back));
    job->graphs.yy = &job->yy;
    job->graphs.xy = &job->xy;
    return FERRY_OK;
}

/* Collective. */
static ferry_status search(map_job *job)
{
    const char *index = job->o->search.index;
    ferry_reference side;
    FERRY_TRY(open_points(job));
    FERRY_TRY(ferry_reference_open(&side, job->world, &job->points[1], index, &job->search, &job->plan));
    side.points = &job->points[1];
    ferry_status status = search_reference(job, &side);
    ferry_reference_close(&side, job->world);
    if (status != FERRY_OK || job->self || !job->two_hops) return status;
    FERRY_TRY(ferry_reference_open(&side, job->world, &job->points[0], NULL, &job->search, &job->back));
    status = search_query(job, &side);
    ferry_reference_close(&side, job->world);
    return status;
}

ferry_status map_search(map_job *job)
{
    FERRY_TRY(job->o->neighbors ? take_given(job) : search(job));
    ferry_joint_close(&job->joint);
    job->graphs.yx = &job->yx;
    ferry_weights_graphs graphs = job->graphs;
    if (!job->two_hops) graphs.xx = NULL;
    watch_stage("weights");
    FERRY_TRY(ferry_weights_open(&job->weights, job->world, &graphs, &job->kernel));
    job->weighted = true;
    json *figures = &job->program->figures;
    if (!job->o->neighbors) neighbors_record(figures, &job->report);
    json_count(figures, "k", job->yx.k);
    json_number(figures, "mean_distance", job->weights.mean);
    json_number(figures, "deviation_of_distances", job->weights.deviation);
    return FERRY_OK;
}

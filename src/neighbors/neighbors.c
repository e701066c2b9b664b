/* Train, assign, place, tune, search: each is a stage of the run, as neighbors_plan.c foretells it. */
#define _GNU_SOURCE /* clock_gettime */
#include "neighbors.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <math.h>
#include <string.h>
#include <time.h>

#define EXACT_LISTS   4096 /* up to here the true nearest list costs little */
#define RECALL_SAMPLE 1000 /* queries that a setting is measured on: quantiles of 1 % need as many */

static bool exact_lists(const ferry_neighbors_options *options, int64_t lists)
{
    return options->exact || lists <= EXACT_LISTS;
}

static ferry_lists_options lists_options(const ferry_neighbors_options *options, const ferry_neighbors_plan *plan,
                                         int64_t lists, bool queries)
{
    const bool held = queries ? plan->queries_held : plan->reference_held;
    const int64_t cache = queries ? plan->query_cache : plan->cache;
    return (ferry_lists_options){.exact = exact_lists(options, lists),
                                 .held = held,
                                 .folder = options->folder,
                                 .memory = plan->build,
                                 .cache = held ? 0 : cache,
                                 .batch = plan->batch,
                                 .threads = options->threads,
                                 .keep_rows = true,
                                 .what = queries ? "queries" : "reference"};
}

/* --- the reference --- */

/* Collective. */
static ferry_status train_and_build(ferry_index *out, const ferry_world *world, const ferry_points *points,
                                    const ferry_neighbors_options *options, const ferry_neighbors_plan *plan)
{
    ferry_train_options training = FERRY_TRAIN_DEFAULTS;
    training.lists = plan->lists;
    training.seed = options->seed;
    training.memory = plan->train;
    training.threads = options->threads;
    ferry_stage_begin("train");
    FERRY_TRY(ferry_quantizer_train(&out->quantizer, world, points, options->metric, options->kernels, &training));
    const ferry_lists_options lists = lists_options(options, plan, out->quantizer.list.count, false);
    ferry_stage_begin("assign");
    FERRY_TRY(ferry_lists_build(&out->lists, world, &out->quantizer, points, &lists));
    out->cells = points->cells;
    return FERRY_OK;
}

/* Collective. */
static ferry_status open_stored(ferry_index *out, const ferry_world *world, const char *path,
                                const ferry_neighbors_options *options, const ferry_neighbors_plan *plan)
{
    ferry_lists_options lists = lists_options(options, plan, plan->lists, false);
    lists.memory = plan->cache;
    ferry_stage_begin("place");
    FERRY_TRY(ferry_index_open(out, world, path, options->kernels, &lists));
    if (out->quantizer.metric != options->metric)
        return ferry_fail(FERRY_E_ARG, "%s is an index for --metric %s; give that, or leave --metric out", path,
                          out->quantizer.metric == FERRY_COSINE ? "cosine" : "euclidean");
    if (options->exact && out->codes.bytes)
        return ferry_fail(
            FERRY_E_ARG,
            "%s holds codes of %d bytes, which prove nothing: leave --exact out, or make an index of whole "
            "vectors (cellferry index without --codes)",
            path, out->codes.bytes);
    if (options->exact && !out->lists.exact)
        ferry_log(world, FERRY_DEBUG,
                  "%s: cells are in a near list, not always in the nearest: the search is exact without the bisector "
                  "bound, and looks into more lists",
                  path);
    return FERRY_OK;
}

ferry_status ferry_reference_open(ferry_reference *out, const ferry_world *world, const ferry_points *points,
                                  const char *index_path, const ferry_neighbors_options *options,
                                  const ferry_neighbors_plan *plan)
{
    memset(out, 0, sizeof *out);
    out->stored = index_path != NULL;
    const ferry_status status = index_path ? open_stored(&out->index, world, index_path, options, plan)
                                           : train_and_build(&out->index, world, points, options, plan);
    if (status != FERRY_OK) ferry_reference_close(out, world);
    return status;
}

void ferry_reference_close(ferry_reference *reference, const ferry_world *world)
{
    if (reference->stored) {
        ferry_index_close(&reference->index, world);
    } else {
        ferry_lists_close(&reference->index.lists, world);
        ferry_quantizer_close(&reference->index.quantizer, world);
    }
    memset(reference, 0, sizeof *reference);
}

/* --- the search --- */

static int64_t cpu_nanoseconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Collective. The setting: as asked for, or the cheapest that reaches the recall. Both are measured. */
static ferry_status settle(ferry_search_options *search, ferry_neighbors_report *report, const ferry_world *world,
                           const ferry_lists *queries, const ferry_lists *reference,
                           const ferry_neighbors_options *options)
{
    if (options->probes)
        search->rule = FERRY_VISIT_PROBES;
    else if (options->reach > 0)
        search->rule = FERRY_VISIT_REACH;
    search->probes = options->probes;
    search->reach = options->reach;
    if (options->exact) return FERRY_OK;
    ferry_stage_begin("tune");
    const int64_t sample = queries->rows < RECALL_SAMPLE ? queries->rows : RECALL_SAMPLE;
    FERRY_TRY(
        ferry_recall_tune(&report->recall, world, queries, reference, search, options->recall, sample, options->seed));
    search->rule = report->recall.rule;
    search->probes = report->recall.probes;
    search->reach = report->recall.reach;
    return FERRY_OK;
}

/* Collective. */
static ferry_status search_lists(ferry_graph *graph, ferry_neighbors_report *report, const ferry_world *world,
                                 const ferry_lists *queries, const ferry_lists *reference,
                                 const ferry_neighbors_options *options, const ferry_neighbors_plan *plan)
{
    const bool self = queries == reference;
    ferry_search_options search = {.k = options->k, .self = self, .memory = plan->work, .threads = options->threads};
    /* a sample wants lists from everywhere: what most queries will need is a cache until then */
    const int64_t least = ferry_search_least(reference->quantizer->dim, options->k, reference->lists, options->threads);
    if (plan->work > least) ferry_lists_cache_set(reference, plan->cache + plan->work - least);
    FERRY_TRY(settle(&search, report, world, queries, reference, options));
    ferry_lists_cache_set(reference, plan->cache);
    report->rule = search.rule;
    report->reach = search.reach;
    report->probes = search.probes;
    ferry_stage_begin("search");
    const int64_t began = cpu_nanoseconds();
    FERRY_TRY(
        ferry_graph_open(graph, world, queries->rows, reference->rows, options->k, self, plan->graph, options->folder));
    FERRY_TRY(ferry_search(graph, &report->counts, world, queries, reference, &search));
    report->search_cpu_seconds = 1e-9 * (double)ferry_total(world, cpu_nanoseconds() - began);
    return FERRY_OK;
}

/* Local. */
static ferry_status check_codes(const ferry_points *reference, const ferry_index *index,
                                const ferry_neighbors_options *options)
{
    if (options->exact || options->reach > 0)
        return ferry_fail(FERRY_E_ARG, "%s holds codes, which are searched by recall or probes", index->path);
    if (reference) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "%s holds codes: the file that it was made of decides about neighbours",
                      index->path);
}

/* Collective. queries NULL: the reference's own cells. */
static ferry_status search_codes(ferry_graph *graph, ferry_neighbors_report *report, const ferry_world *world,
                                 const ferry_points *queries, const ferry_reference *reference,
                                 const ferry_neighbors_options *options, const ferry_neighbors_plan *plan)
{
    const ferry_index *index = &reference->index;
    const bool self = !queries;
    FERRY_TRY(ferry_agree(world, check_codes(reference->points, index, options)));
    if (self) queries = reference->points;
    if (!queries) return FERRY_E_ARG; /* cannot be: agreed */
    ferry_codes_options search = {.k = options->k,
                                  .self = self,
                                  .probes = options->probes,
                                  .rerank = options->rerank ? options->rerank : FERRY_RERANK,
                                  .memory = plan->work,
                                  .seed = options->seed,
                                  .threads = options->threads};
    ferry_stage_begin("tune");
    FERRY_TRY(ferry_codes_tune(&report->recall, &report->ceiling, world, queries, reference->points, index, &search,
                               options->recall, RECALL_SAMPLE));
    search.probes = report->probes = report->recall.probes;
    report->rule = FERRY_VISIT_PROBES;
    report->codes = index->codes.bytes;
    report->rerank = search.rerank;
    ferry_stage_begin("search");
    const int64_t began = cpu_nanoseconds();
    FERRY_TRY(
        ferry_graph_open(graph, world, queries->cells, index->cells, options->k, self, plan->graph, options->folder));
    FERRY_TRY(ferry_codes_search(graph, &report->counts, world, queries, reference->points, index, &search));
    report->search_cpu_seconds = 1e-9 * (double)ferry_total(world, cpu_nanoseconds() - began);
    return FERRY_OK;
}

/* Collective. */
static ferry_status check_queries(const ferry_points *queries, const ferry_reference *reference)
{
    const int dim = reference->index.quantizer.dim;
    if (!queries || queries->dim == dim) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "%s has %d columns and the reference %d: they have to agree; choose with --rep or "
                      "--dims",
                      queries->name, queries->dim, dim);
}

ferry_status ferry_neighbors(ferry_graph *graph, ferry_neighbors_report *report, const ferry_world *world,
                             const ferry_points *queries, ferry_reference *reference,
                             const ferry_neighbors_options *options, const ferry_neighbors_plan *plan)
{
    const ferry_index *index = &reference->index;
    ferry_lists lists = {0};
    memset(graph, 0, sizeof *graph);
    *report = (ferry_neighbors_report){.plan = *plan,
                                       .lists = index->quantizer.list.count,
                                       .trained = index->quantizer.trained,
                                       .distortion = index->quantizer.distortion,
                                       .ceiling = NAN};
    FERRY_TRY(ferry_agree(world, check_queries(queries, reference)));
    if (index->codes.bytes) {
        const ferry_status status = search_codes(graph, report, world, queries, reference, options, plan);
        if (status != FERRY_OK) ferry_graph_close(graph);
        return status;
    }
    if (queries) {
        const ferry_lists_options build = lists_options(options, plan, index->lists.lists, true);
        ferry_stage_begin("assign");
        FERRY_TRY(ferry_lists_build(&lists, world, &index->quantizer, queries, &build));
    }
    const ferry_status status =
        search_lists(graph, report, world, queries ? &lists : &index->lists, &index->lists, options, plan);
    if (queries) ferry_lists_close(&lists, world);
    if (status != FERRY_OK) ferry_graph_close(graph);
    return status;
}

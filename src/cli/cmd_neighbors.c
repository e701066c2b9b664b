/* cmd_neighbors.c - `cellferry neighbors`: open, plan, train, assign, place, tune, search, write. */
#include "neighbors_report.h"
#include "progress.h"
#include "record.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct neighbors_options {
    common_options common;
    search_options search;
    sides_options sides;
    bool no_graph, no_rep;
    const char *from_distances;
} neighbors_options;

#define AT(field) offsetof(neighbors_options, field)

static const cli_option table[] = {
    SEARCH_ROWS(AT(search)),
    SIDES_ROWS(AT(sides)),
    {"from-distances", 0, OPTION_TEXT, "KEY", AT(from_distances), "(search)", NULL,
     "take the distances of obsp/KEY of the one file instead of searching; -k: as many as its longest row"},
    {"no-graph", 0, OPTION_FLAG, NULL, AT(no_graph), NULL, NULL,
     "with one set: no obsp/distances, obsp/connectivities and uns/neighbors"},
    {"no-rep", 0, OPTION_FLAG, NULL, AT(no_rep), NULL, NULL,
     "with one set: do not copy the representation to the result"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

/* What a run holds; closed in reverse order. */
typedef struct neighbors_job {
    cli_program *program;
    const neighbors_options *o;
    sides_options sides; /* as used: an index tells what is not said */
    char *index_rep;
    const char **where[2];
    ferry_neighbors_options search;
    ferry_neighbors_sizes sizes;
    ferry_neighbors_plan plan;
    ferry_population query, reference;
    ferry_population behind; /* what an index with codes was made of */
    const char **behind_where;
    ferry_points behind_points;
    bool one_set;
    ferry_reference ready;
    ferry_graph graph;
    ferry_neighbors_report report;
    uint64_t fingerprint;
    ferry_output *output;
} neighbors_job;

/* --- what is asked for --- */

/* Local. */
static ferry_status check_inputs(const neighbors_job *job)
{
    const neighbors_options *o = job->o;
    const int inputs = job->program->inputs;
    if (o->search.index && inputs > 1)
        return ferry_fail(FERRY_E_ARG, "--index %s takes the place of %s: give one of them", o->search.index,
                          job->program->input[1]);
    if (!o->from_distances) return FERRY_OK;
    if (o->search.index || inputs > 1)
        return ferry_fail(FERRY_E_ARG, "--from-distances %s takes the distances of one file: leave the other out",
                          o->from_distances);
    if (o->sides.both.where.count || !sides_are_one(&o->sides, inputs))
        return ferry_fail(FERRY_E_ARG, "--from-distances %s takes all cells as they are: no filters, no two sides",
                          o->from_distances);
    return FERRY_OK;
}

/* Local. Metric and representation of the index, where the command line does not say them. */
static ferry_status ask_index(neighbors_job *job)
{
    const char *path = job->o->search.index;
    ferry_stored *index = NULL;
    FERRY_TRY(ferry_stored_open(&index, path));
    double dims = 0;
    ferry_status status = ferry_stored_attribute_text(&job->index_rep, index, "/", "rep");
    if (status == FERRY_OK) status = ferry_stored_attribute_number(&dims, index, "/", "dims");
    ferry_stored_close(&index);
    FERRY_TRY(status);
    side_options *both = &job->sides.both;
    if (job->index_rep && job->index_rep[0] && !both->rep && !job->sides.query.rep) {
        both->rep = job->index_rep;
        if (!both->dims && !job->sides.query.dims) both->dims = (int64_t)dims;
    }
    return FERRY_OK;
}

/* Collective. Sizes and metric of the index. */
static ferry_status see_index(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    ferry_search_metric metric = FERRY_EUCLIDEAN;
    FERRY_TRY(ferry_index_peek(&job->sizes.reference, &job->sizes.lists, &job->sizes.dim, &metric, world,
                               job->o->search.index));
    if (!job->o->search.metric) job->search.metric = metric;
    job->sizes.stored = true;
    FERRY_TRY(ferry_index_code_bytes(&job->sizes.codes, world, job->o->search.index));
    FERRY_TRY(ferry_agree(world, search_check_codes(&job->search, job->sizes.codes, job->o->search.index)));
    return ferry_agree(world, ask_index(job));
}

/* Collective. Names are all that is wanted of the cells whose distances are there. */
static ferry_status open_cells(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    job->query.options.path = job->program->input[0];
    FERRY_TRY(ferry_file_open(&job->query.file, world, job->program->input[0]));
    FERRY_TRY(ferry_select_open(&job->query.selection, world, job->query.file, NULL, 0));
    job->query.cells = job->query.selection.cells;
    return FERRY_OK;
}

/* Collective. */
static ferry_status open_sides(neighbors_job *job)
{
    const cli_program *program = job->program;
    const ferry_world *world = &program->world;
    const char *path = program->input[0], *other = program->inputs > 1 ? program->input[1] : path;
    ferry_population_options query = {0}, reference = {0};
    FERRY_TRY(ferry_agree(world, sides_join(&query, &reference, job->where, &job->sides, path, other)));
    FERRY_TRY(ferry_population_open(&job->query, world, &query));
    job->sizes.queries = job->query.cells;
    job->one_set = !job->sizes.stored && sides_are_one(&job->sides, program->inputs);
    if (job->sizes.stored) {
        if (job->query.dim == job->sizes.dim) return FERRY_OK;
        return ferry_fail(FERRY_E_FILE,
                          "the query has %d columns (%s of %s) and the index %s has %d: they have to agree; choose "
                          "with --rep or --dims",
                          job->query.dim, job->query.options.rep, path, job->o->search.index, job->sizes.dim);
    }
    job->sizes.dim = job->query.dim;
    job->sizes.reference = job->query.cells;
    if (job->one_set) return FERRY_OK;
    FERRY_TRY(ferry_population_open(&job->reference, world, &reference));
    job->sizes.reference = job->reference.cells;
    return sides_agree(&job->query, &job->reference);
}

/* --- the plan --- */

static bool copies_rep(const neighbors_job *job)
{
    return job->sizes.self && !job->o->no_rep && !job->o->from_distances;
}

/* Collective. */
static ferry_status settle_plan(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    ferry_neighbors_sizes *sizes = &job->sizes;
    sizes->self = job->one_set;
    FERRY_TRY(points_row_bytes(&sizes->query_row, world, &job->query));
    if (job->one_set) sizes->reference_row = sizes->query_row;
    if (job->reference.file) FERRY_TRY(points_row_bytes(&sizes->reference_row, world, &job->reference));
    sizes->weights = !job->o->no_graph && (sizes->self || (sizes->stored && sizes->reference == sizes->queries));
    sizes->copies = copies_rep(job);
    sizes_of_machine(sizes, job->program, ferry_max(world, ferry_usage_now().pss));
    return ferry_agree(world, ferry_neighbors_layout(&job->plan, sizes, &job->search));
}

static void record_sides(neighbors_job *job)
{
    json *out = &job->program->inputs_json;
    input_record(out, job->one_set ? "cells" : "query", &job->query, job->fingerprint);
    if (job->reference.file) input_record(out, "reference", &job->reference, 0);
    if (!job->sizes.stored) return;
    json_begin(out, NULL, '{');
    json_text(out, "side", "index");
    json_text(out, "path", job->o->search.index);
    json_count(out, "cells", job->sizes.reference);
    json_count(out, "lists", job->sizes.lists);
    json_count(out, "dim", job->sizes.dim);
    json_end(out, '}');
}

/* Collective. For --plan. */
static void describe(neighbors_job *job)
{
    const cli_program *program = job->program;
    record_sides(job);
    if (job->plan.phases) neighbors_plan_record(&job->program->figures, &job->plan, program);
    progress_end();
    if (program->world.rank != 0 || program->common->json) return;
    if (job->query.options.rep) input_print(job->one_set ? "cells" : "query", &job->query);
    if (job->reference.file) input_print("reference", &job->reference);
    if (job->sizes.stored)
        printf("index    %s: %lld cells in %lld lists (%d columns)\n", job->o->search.index,
               (long long)job->sizes.reference, (long long)job->sizes.lists, job->sizes.dim);
    if (job->plan.phases)
        neighbors_plan_print(&job->plan, program);
    else
        printf("nothing is searched: the distances are taken from obsp/%s\n", job->o->from_distances);
}

/* --- the search --- */

/* Collective. The number that ferry_fingerprint gives for all points, block by block. */
static ferry_status take_fingerprint(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    const ferry_population *cells = &job->query;
    const int64_t first = cells->cells * world->rank / world->size, batch = 16384;
    const int64_t count = cells->cells * (world->rank + 1) / world->size - first;
    const int64_t blocks = ferry_max(world, (count + batch - 1) / batch);
    uint64_t mine = 0;
    for (int64_t k = 0; k < blocks; k++) {
        const int64_t at = k * batch < count ? k * batch : count;
        ferry_matrix part = {0};
        ferry_status status = ferry_population_points(&part, world, cells, first + at,
                                                      count - at < batch ? count - at : batch, FERRY_FLOAT, NULL);
        if (status == FERRY_OK) mine += ferry_fingerprint(&part, first + at);
        ferry_matrix_close(&part);
        FERRY_TRY(status);
    }
    job->fingerprint = (uint64_t)ferry_total(world, (int64_t)mine);
    return FERRY_OK;
}

/* Collective. An index of the very cells that are asked for is a search within one set. */
static ferry_status recognize(neighbors_job *job)
{
    const ferry_index *index = &job->ready.index;
    if (!job->sizes.stored || index->cells != job->query.cells || !index->fingerprint) return FERRY_OK;
    FERRY_TRY(take_fingerprint(job));
    job->one_set = job->sizes.self = job->fingerprint == index->fingerprint;
    if (job->one_set)
        ferry_log(&job->program->world, FERRY_INFO, "%s holds these very cells: a cell is not its own neighbour",
                  job->o->search.index);
    return FERRY_OK;
}

/* Local. Its filters, which are one text of lines. */
static ferry_status split_where(neighbors_job *job, ferry_population_options *options)
{
    char *at = job->ready.index.where;
    int lines = 1;
    if (!at || !*at) return FERRY_OK;
    for (const char *c = at; *c; c++) lines += *c == '\n';
    FERRY_TRY(ferry_alloc(&job->behind_where, lines));
    for (char *end; at; at = end) {
        end = strchr(at, '\n');
        if (end) *end++ = '\0';
        job->behind_where[options->filters++] = at;
    }
    options->where = job->behind_where;
    return FERRY_OK;
}

/* Local. */
static ferry_status check_behind(const neighbors_job *job)
{
    const ferry_index *index = &job->ready.index;
    if (job->behind.cells == index->cells && job->behind.dim == index->quantizer.dim) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "%s was made of %lld cells of %d columns, but %s has %lld of %d now: make the index again with "
                      "'cellferry index', or bring the file back",
                      index->path, (long long)index->cells, index->quantizer.dim, index->input,
                      (long long)job->behind.cells, job->behind.dim);
}

/* Collective. The vectors behind codes are in the file that the index was made of. */
static ferry_status open_behind(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    const ferry_index *index = &job->ready.index;
    if (!index->codes.bytes) return FERRY_OK;
    ferry_population_options options = {.path = index->input, .rep = index->rep, .dims = index->dims};
    ferry_status status = index->input ? split_where(job, &options)
                                       : ferry_fail(FERRY_E_FILE,
                                                    "%s holds codes, but not which file they were made of: make "
                                                    "it again with 'cellferry index'",
                                                    index->path);
    FERRY_TRY(ferry_agree(world, status));
    FERRY_TRY(ferry_population_open(&job->behind, world, &options));
    FERRY_TRY(ferry_agree(world, check_behind(job)));
    ferry_points_of(&job->behind_points, &job->behind);
    job->ready.points = &job->behind_points;
    return FERRY_OK;
}

/* Collective. */
static ferry_status search(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    ferry_points query, reference;
    ferry_points_of(&query, &job->query);
    if (job->reference.file) ferry_points_of(&reference, &job->reference);
    const ferry_points *points = job->sizes.stored ? NULL : job->reference.file ? &reference : &query;
    FERRY_TRY(ferry_reference_open(&job->ready, world, points, job->o->search.index, &job->search, &job->plan));
    FERRY_TRY(open_behind(job));
    FERRY_TRY(recognize(job));
    FERRY_TRY(ferry_neighbors(&job->graph, &job->report, world, job->one_set ? NULL : &query, &job->ready, &job->search,
                              &job->plan));
    if (job->sizes.stored && !job->one_set) return FERRY_OK; /* names of its cells are still wanted */
    ferry_reference_close(&job->ready, world);
    return FERRY_OK;
}

/* Collective. */
static ferry_status read_distances(neighbors_job *job)
{
    const cli_program *program = job->program;
    const int64_t memory = program->memory - ferry_max(&program->world, ferry_usage_now().pss);
    job->one_set = job->sizes.self = true;
    watch_stage("read");
    FERRY_TRY(ferry_graph_read(&job->graph, &program->world, program->input[0], job->o->from_distances,
                               (int)job->o->search.k, memory / 2, job->o->search.spill));
    if (job->graph.rows == job->query.cells) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: obsp/%s has %lld rows, but there are %lld cells", program->input[0],
                      job->o->from_distances, (long long)job->graph.rows, (long long)job->query.cells);
}

/* --- the result --- */

/* The key of obsm that the representation is copied to: X, layers/NAME and raw/X become X_neighbors. */
static const char *rep_key(const neighbors_job *job)
{
    const char *rep = job->query.options.rep;
    return !strcmp(rep, "X") || strchr(rep, '/') ? "X_neighbors" : rep;
}

/* Collective. */
static ferry_status copy_rep(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    const ferry_population *cells = &job->query;
    const int64_t batch = (int64_t)(1 << 20) / (4 * cells->dim) + 1, step = batch * world->size;
    char path[512];
    (void)snprintf(path, sizeof path, "obsm/%s", rep_key(job));
    FERRY_TRY(ferry_output_create(job->output, path, FERRY_F32, cells->cells, cells->dim));
    for (int64_t at = 0; at < cells->cells; at += step) {
        int64_t first = at + batch * world->rank;
        if (first > cells->cells) first = cells->cells;
        const int64_t count = cells->cells - first < batch ? cells->cells - first : batch;
        ferry_matrix part = {0};
        ferry_status status = ferry_population_points(&part, world, cells, first, count, FERRY_FLOAT, NULL);
        if (status == FERRY_OK) status = ferry_output_rows(job->output, path, first, count, part.f);
        ferry_matrix_close(&part);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* Collective. Names of the cells that obsm/neighbors counts, when they are others than obs. */
static ferry_status write_reference_names(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    static const char *const path = "uns/cellferry/reference_names";
    if (job->one_set) return FERRY_OK;
    if (job->reference.file) return cells_names_in_parts(job->output, world, path, &job->reference);
    const int64_t cells = job->ready.index.cells, first = cells * world->rank / world->size;
    ferry_names names = {0};
    ferry_status status = ferry_agree(world, ferry_index_names(&names, job->ready.index.path, first,
                                                               cells * (world->rank + 1) / world->size - first));
    if (status == FERRY_OK) status = ferry_output_texts(job->output, path, cells, first, &names);
    ferry_names_close(&names);
    return status;
}

/* Collective. */
static ferry_status write_weights(neighbors_job *job)
{
    const cli_program *program = job->program;
    /* taken distances have no plan: half of what is left */
    const int64_t half = (program->memory - ferry_max(&program->world, ferry_usage_now().pss)) / 2;
    const int64_t room = job->plan.edges ? job->plan.edges : half;
    watch_stage("graph");
    return ferry_weights_write_graph(&job->graph, &program->world, job->output, copies_rep(job) ? rep_key(job) : NULL,
                                     job->search.metric == FERRY_COSINE ? "cosine" : "euclidean", job->search.seed,
                                     room > 0 ? room : 1, job->o->search.spill);
}

/* Collective. */
static ferry_status write_result(neighbors_job *job)
{
    const common_options *common = job->program->common;
    const ferry_world *world = &job->program->world;
    const ferry_names none = {0};
    watch_stage("write");
    FERRY_TRY(ferry_output_open(&job->output, world, common->output, common->overwrite));
    FERRY_TRY(ferry_output_anndata(job->output));
    FERRY_TRY(cells_frame_in_parts(job->output, world, "obs", &job->query));
    FERRY_TRY(ferry_output_frame(job->output, "var", 0, 0, &none));
    FERRY_TRY(ferry_graph_write(&job->graph, world, job->output));
    if (copies_rep(job)) FERRY_TRY(copy_rep(job));
    if (job->one_set && !job->o->no_graph) FERRY_TRY(write_weights(job));
    watch_stage("finish");
    FERRY_TRY(record_write(job->output, job->program, "cellferry neighbors"));
    FERRY_TRY(write_reference_names(job));
    ferry_status status = ferry_output_finish(&job->output);
    ferry_stage_begin(NULL);
    progress_end();
    return status;
}

/* --- all of it --- */

static void record_figures(neighbors_job *job)
{
    json *out = &job->program->figures;
    json_count(out, "cells", job->graph.rows);
    json_count(out, "reference_cells", job->graph.columns);
    json_count(out, "neighbors", job->graph.k);
    json_bool(out, "one_set", job->one_set);
    if (job->o->from_distances) return;
    json_text(out, "metric", job->search.metric == FERRY_COSINE ? "cosine" : "euclidean");
    neighbors_record(out, &job->report);
    neighbors_plan_record(out, &job->plan, job->program);
}

/* Local, rank 0. */
static void summary(const neighbors_job *job)
{
    const cli_program *program = job->program;
    char peak[32];
    printf("found    %d neighbours of %lld cells", job->graph.k, (long long)job->graph.rows);
    if (job->one_set)
        printf(" of the same set\n");
    else
        printf(" among %lld cells of the reference\n", (long long)job->graph.columns);
    if (job->o->from_distances)
        printf("taken    from obsp/%s of %s\n", job->o->from_distances, program->input[0]);
    else
        neighbors_print(&job->report, &job->search);
    printf("run      %.2f s on %d rank%s of %d thread%s (%s), at most %s per rank\nwritten  %s\n",
           now_seconds() - program->started, program->world.size, program->world.size == 1 ? "" : "s", program->threads,
           program->threads == 1 ? "" : "s", program->kernels->name,
           ferry_size_text(peak, (double)ferry_usage_now().peak_pss), program->common->output);
}

/* Collective. */
static ferry_status find(neighbors_job *job)
{
    const ferry_world *world = &job->program->world;
    watch_stage("open");
    FERRY_TRY(ferry_agree(world, check_inputs(job)));
    FERRY_TRY(ferry_agree(world, search_check(&job->search, &job->o->search, job->program)));
    FERRY_TRY(output_check(job->program));
    if (job->o->search.index) FERRY_TRY(see_index(job));
    if (job->o->from_distances) {
        FERRY_TRY(open_cells(job));
        return job->o->common.plan ? FERRY_OK : read_distances(job);
    }
    FERRY_TRY(open_sides(job));
    FERRY_TRY(settle_plan(job));
    return job->o->common.plan ? FERRY_OK : search(job);
}

/* Collective. */
static ferry_status work(neighbors_job *job)
{
    FERRY_TRY(find(job));
    if (job->o->common.plan) {
        describe(job);
        return FERRY_OK;
    }
    record_sides(job);
    record_figures(job);
    FERRY_TRY(write_result(job));
    if (job->program->world.rank == 0 && !job->o->common.json) summary(job);
    return FERRY_OK;
}

static ferry_status run_neighbors(cli_program *program, const void *options)
{
    neighbors_job job = {.program = program, .o = options};
    job.sides = job.o->sides;
    ferry_status status = work(&job);
    ferry_output_discard(&job.output);
    ferry_graph_close(&job.graph);
    ferry_reference_close(&job.ready, &program->world);
    ferry_population_close(&job.behind);
    free(job.behind_where);
    ferry_population_close(&job.reference);
    ferry_population_close(&job.query);
    free(job.where[0]);
    free(job.where[1]);
    free(job.index_rep);
    return status;
}

const cli_command command_neighbors = {
    .name = "neighbors",
    .line = "nearest neighbours within one set of cells, or of one in another: GRAPH.h5ad",
    .usage = "QUERY [REFERENCE] -o GRAPH.h5ad",
    .text =
        "Finds the nearest cells of REFERENCE for every cell of QUERY, .h5ad files (or @LIST.txt naming one .h5ad a "
        "line). With one file the neighbours are in the same set, without the cell itself, and obsp/distances, "
        "obsp/connectivities and uns/neighbors are written as scanpy writes them; --query-where and --reference-where "
        "take two sides from one file. GRAPH.h5ad holds obsm/neighbors (numbers of reference cells, -1 where there are "
        "fewer) and obsm/distances, nearest first. What --memory does not hold goes to scratch files in --spill.",
    .example = "cellferry neighbors cells.h5ad -k 15 -o graph.h5ad\n"
               "mpirun -n 8 cellferry neighbors query.h5ad atlas.h5ad --rep X_scvi --recall 0.999 --memory 4G -o "
               "graph.h5ad",
    .options = table,
    .absent = search_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(neighbors_options),
    .min_inputs = 1,
    .max_inputs = 2,
    .run = run_neighbors};

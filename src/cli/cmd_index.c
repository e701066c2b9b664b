/* cmd_index.c - `cellferry index`: open, plan, train, assign, place, write. */
#include "neighbors_report.h"
#include "progress.h"
#include "record.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct index_options {
    common_options common;
    search_options search; /* metric, lists, exact, spill */
    int64_t codes;
    side_options cells;
} index_options;

#define AT(field) offsetof(index_options, field)

static const cli_option table[] = {
    {"rep", 0, OPTION_TEXT, "KEY", AT(cells.rep), "(X_pca if present, else X)", NULL,
     "representation: an obsm key, X, layers/NAME or raw/X"},
    {"dims", 0, OPTION_COUNT, "N", AT(cells.dims), "(all)", "columns", "first columns of the representation"},
    {"where", 0, OPTION_LIST, "KEY=VALUE[,VALUE]", AT(cells.where), "(all cells)", NULL,
     "only cells whose obs column has one of the values; repeat for several columns, or for a value with a comma"},
    {"metric", 0, OPTION_TEXT, "euclidean|cosine", AT(search.metric), "euclidean", NULL,
     "distance of two cells; cosine: 1 - cos"},
    LISTS_ROW(AT(search)),
    {"exact", 0, OPTION_FLAG, NULL, AT(search.exact), NULL, NULL,
     "put every cell into its truly nearest list, which makes exact searches cheaper (always done up to 4096 lists)"},
    {"codes", 0, OPTION_COUNT, "M", AT(codes), "(whole vectors)", "bytes",
     "a small index: M bytes stand for the vector of a cell (product-quantised, half of the columns is a good M); "
     "searches are not exact, and read the vectors of the nearest candidates from REFERENCE, which has to stay, here "
     "and "
     "there in it: for an index that must be small, and fast disks"},
    SPILL_ROW(AT(search)),
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

/* What a run holds; closed in reverse order. */
typedef struct index_job {
    cli_program *program;
    const index_options *o;
    const char **where;
    ferry_population cells;
    ferry_neighbors_options search;
    ferry_neighbors_sizes sizes;
    ferry_neighbors_plan plan;
    int64_t pass; /* rows of a rank in one write */
    ferry_reference ready;
    ferry_codes codes;
    uint64_t fingerprint;
    ferry_output *output;
} index_job;

/* ---- the plan ---- */

#define PASS_BYTES ((int64_t)8 << 20)

static int64_t between(int64_t least, int64_t value, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* The phase that searches do not have. A pass is held, converted and written: three times its bytes, for which there is
 * room beside the lists. Names are read twice: for the longest, and to be written. */
static void plan_write(index_job *job, int64_t name_read, int64_t name_bytes)
{
    ferry_neighbors_plan *plan = &job->plan;
    const ferry_neighbors_sizes *sizes = &job->sizes;
    const int64_t n = sizes->reference, row = 4 * (int64_t)sizes->dim + 12;
    const int on_node = (sizes->ranks + sizes->nodes - 1) / sizes->nodes;
    const int64_t lists =
        sizes->base + ferry_quantizer_bytes(plan->lists, sizes->dim) / on_node +
        (plan->reference_held ? ferry_lists_held_bytes(n, plan->lists, sizes->dim, on_node) : plan->cache);
    const int64_t stored = job->o->codes ? job->o->codes + 12 : row; /* of a row in the index */
    const int64_t pass = between(1 << 16, (job->search.memory - lists) / 3, PASS_BYTES);
    if (job->o->codes) {
        const int threads = job->search.threads;
        ferry_neighbors_phase *codes = &plan->phase[plan->phases++];
        *codes =
            (ferry_neighbors_phase){.name = "codes",
                                    .rows = n,
                                    .bytes = lists + ferry_codes_train_bytes(n, sizes->dim, job->o->codes, threads)};
        if (codes->bytes > plan->bytes) plan->bytes = codes->bytes;
    }
    ferry_neighbors_phase *write = &plan->phase[plan->phases++];
    *write = (ferry_neighbors_phase){.name = "write",
                                     .rows = (n + sizes->ranks - 1) / sizes->ranks,
                                     .bytes = lists + 3 * pass,
                                     .read_bytes = 2 * n * name_read + (plan->reference_held ? 0 : n * row),
                                     .written_bytes = n * (stored + name_bytes) + plan->lists * row};
    write->seconds = (double)(write->read_bytes + write->written_bytes) / 1e9 / sizes->nodes;
    if (write->bytes > plan->bytes) plan->bytes = write->bytes;
    job->pass = pass / row + 1;
    if (job->search.batch && job->search.batch < job->pass) job->pass = job->search.batch;
}

/* Collective. What the names cost: from a few in the middle of each rank's part. */
static ferry_status name_cost(int64_t *read, int64_t *longest, const ferry_world *world, const ferry_population *cells)
{
    const int64_t first = cells->cells * world->rank / world->size;
    const int64_t rows = cells->cells * (world->rank + 1) / world->size - first, few = rows < 512 ? rows : 512;
    const int64_t before = ferry_stages_here()->read_bytes;
    ferry_names names = {0};
    int64_t most = 1;
    ferry_status status = ferry_population_names(&names, world, cells, first + (rows - few) / 2, few);
    for (int64_t i = 0; i < names.count; i++) {
        const int64_t length = names.start[i + 1] - names.start[i] - 1;
        if (length > most) most = length;
    }
    ferry_names_close(&names);
    FERRY_TRY(status);
    const int64_t total = ferry_total(world, ferry_stages_here()->read_bytes - before), all = ferry_total(world, few);
    *read = all > 0 ? (total + all / 2) / all : 0;
    *longest = ferry_max(world, most);
    return FERRY_OK;
}

/* Collective. */
static ferry_status settle_plan(index_job *job)
{
    const ferry_world *world = &job->program->world;
    ferry_neighbors_sizes *sizes = &job->sizes;
    int64_t name_read, name_bytes;
    sizes->reference = job->cells.cells;
    sizes->dim = job->cells.dim;
    sizes->index = true;
    FERRY_TRY(points_row_bytes(&sizes->reference_row, world, &job->cells));
    FERRY_TRY(name_cost(&name_read, &name_bytes, world, &job->cells));
    sizes_of_machine(sizes, job->program, ferry_max(world, ferry_usage_now().pss));
    FERRY_TRY(ferry_agree(world, ferry_neighbors_layout(&job->plan, sizes, &job->search)));
    if (job->o->codes > sizes->dim)
        return ferry_agree(world,
                           ferry_fail(FERRY_E_ARG, "--codes %lld: cells of %d columns have codes of 1 to %d bytes",
                                      (long long)job->o->codes, sizes->dim, sizes->dim));
    plan_write(job, name_read, name_bytes);
    return FERRY_OK;
}

/* Collective. For --plan. */
static void describe(index_job *job)
{
    const cli_program *program = job->program;
    input_record(&job->program->inputs_json, "reference", &job->cells, 0);
    neighbors_plan_record(&job->program->figures, &job->plan, program);
    progress_end();
    if (program->world.rank != 0 || program->common->json) return;
    input_print("cells", &job->cells);
    neighbors_plan_print(&job->plan, program);
}

/* ---- the result ---- */

/* Collective. */
static ferry_status write_result(index_job *job)
{
    const common_options *common = job->program->common;
    const ferry_world *world = &job->program->world;
    watch_stage("write");
    FERRY_TRY(ferry_output_open(&job->output, world, common->output, common->overwrite));
    FERRY_TRY(ferry_index_write_codes(&job->fingerprint, job->output, world, &job->ready.index.lists,
                                      job->o->codes ? &job->codes : NULL, job->pass, job->search.threads));
    FERRY_TRY(ferry_index_write_input(job->output, world, &job->cells, job->fingerprint));
    FERRY_TRY(cells_names_in_parts(job->output, world, "names", &job->cells));
    input_record(&job->program->inputs_json, "reference", &job->cells, job->fingerprint);
    FERRY_TRY(record_write(job->output, job->program, "cellferry index"));
    const ferry_status status = ferry_output_finish(&job->output);
    ferry_stage_begin(NULL);
    progress_end();
    return status;
}

/* Sizes of the smallest, the middle and the largest list. */
static int by_size(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static ferry_status list_sizes(int64_t size[3], const ferry_lists *lists)
{
    FERRY_AUTO int64_t *sizes = NULL;
    FERRY_TRY(ferry_alloc(&sizes, lists->lists));
    for (int64_t i = 0; i < lists->lists; i++) sizes[i] = lists->first[i + 1] - lists->first[i];
    qsort(sizes, (size_t)lists->lists, sizeof *sizes, by_size);
    size[0] = sizes[0];
    size[1] = sizes[lists->lists / 2];
    size[2] = sizes[lists->lists - 1];
    return FERRY_OK;
}

/* Collective. */
static ferry_status record_figures(index_job *job, int64_t size[3])
{
    const ferry_index *index = &job->ready.index;
    json *out = &job->program->figures;
    FERRY_TRY(ferry_agree(&job->program->world, list_sizes(size, &index->lists)));
    json_count(out, "cells", index->lists.rows);
    json_text(out, "metric", job->search.metric == FERRY_COSINE ? "cosine" : "euclidean");
    if (job->o->codes) json_count(out, "codes", job->o->codes);
    json_bool(out, "exact_lists", index->lists.exact);
    json_count(out, "lists", index->lists.lists);
    json_count(out, "smallest_list", size[0]);
    json_count(out, "median_list", size[1]);
    json_count(out, "largest_list", size[2]);
    json_count(out, "trained_cells", index->quantizer.trained);
    json_number(out, "distortion", index->quantizer.distortion);
    neighbors_plan_record(out, &job->plan, job->program);
    return FERRY_OK;
}

/* Local, rank 0. */
static void summary(const index_job *job, const int64_t size[3])
{
    const cli_program *program = job->program;
    const ferry_index *index = &job->ready.index;
    char peak[32];
    printf("indexed  %lld cells of %d columns (%s)\n"
           "lists    %lld of %lld to %lld cells, %lld in the middle; %s\n"
           "trained  on %lld cells, mean squared distance to the nearest list %.6g\n",
           (long long)index->lists.rows, index->quantizer.dim,
           job->search.metric == FERRY_COSINE ? "cosine" : "euclidean", (long long)index->lists.lists,
           (long long)size[0], (long long)size[2], (long long)size[1],
           index->lists.exact ? "every cell in its nearest list" : "cells in a near list, not always the nearest",
           (long long)index->quantizer.trained, index->quantizer.distortion);
    if (job->o->codes)
        printf("codes    %lld bytes for the %d columns of a cell\n", (long long)job->o->codes, index->quantizer.dim);
    printf("run      %.2f s on %d rank%s of %d thread%s (%s), at most %s per rank\nwritten  %s\n",
           now_seconds() - program->started, program->world.size, program->world.size == 1 ? "" : "s", program->threads,
           program->threads == 1 ? "" : "s", program->kernels->name,
           ferry_size_text(peak, (double)ferry_usage_now().peak_pss), program->common->output);
}

/* ---- all of it ---- */

/* Collective. */
static ferry_status open_cells(index_job *job)
{
    const cli_program *program = job->program;
    const side_options none = {0};
    ferry_population_options cells = {0};
    FERRY_TRY(ferry_agree(&program->world, side_join(&cells, &job->where, program->input[0], &job->o->cells, &none)));
    return ferry_population_open(&job->cells, &program->world, &cells);
}

/* Local. The options of a search that an index has. */
static ferry_status check(index_job *job)
{
    search_options search = job->o->search;
    search.recall = search.reach = NAN;
    return search_check(&job->search, &search, job->program);
}

/* Collective. */
static ferry_status work(index_job *job)
{
    const ferry_world *world = &job->program->world;
    ferry_points points;
    int64_t size[3] = {0};
    watch_stage("open");
    FERRY_TRY(ferry_agree(world, check(job)));
    FERRY_TRY(output_check(job->program));
    FERRY_TRY(open_cells(job));
    FERRY_TRY(settle_plan(job));
    if (job->o->common.plan) {
        describe(job);
        return FERRY_OK;
    }
    ferry_points_of(&points, &job->cells);
    FERRY_TRY(ferry_reference_open(&job->ready, world, &points, NULL, &job->search, &job->plan));
    if (job->o->codes) {
        watch_stage("codes");
        FERRY_TRY(ferry_codes_train(&job->codes, world, &job->ready.index.lists, job->o->codes, job->search.seed,
                                    job->search.threads));
    }
    FERRY_TRY(record_figures(job, size));
    FERRY_TRY(write_result(job));
    if (world->rank == 0 && !job->o->common.json) summary(job, size);
    return FERRY_OK;
}

static ferry_status run_index(cli_program *program, const void *options)
{
    index_job job = {.program = program, .o = options};
    ferry_status status = work(&job);
    ferry_output_discard(&job.output);
    ferry_codes_close(&job.codes);
    ferry_reference_close(&job.ready, &program->world);
    ferry_population_close(&job.cells);
    free(job.where);
    return status;
}

const cli_command command_index = {
    .name = "index",
    .line = "cells cut into lists for many searches: INDEX.h5",
    .usage = "REFERENCE -o INDEX.h5",
    .text = "Trains lists on a sample of the cells of REFERENCE, a .h5ad file (or @LIST.txt naming one .h5ad a line), "
            "puts every cell into one, and stores them with the cells' coordinates and names, to be searched by "
            "'cellferry neighbors' and 'cellferry map' with --index, on any number of ranks. What --memory does not "
            "hold goes to a scratch file in --spill. 'cellferry info INDEX.h5' shows the lists.",
    .example = "cellferry index atlas.h5ad --rep X_scvi -o atlas_index.h5\n"
               "cellferry index atlas.h5ad --rep X_scvi --codes 15 -o small_index.h5\n"
               "mpirun -n 8 cellferry index @atlas.txt --metric cosine --exact --memory 4G --spill /scratch -o "
               "atlas_index.h5",
    .options = table,
    .absent = search_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(index_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_index};

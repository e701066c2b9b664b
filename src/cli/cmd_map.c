/* cmd_map.c - `cellferry map`: what a reference knows, carried to the cells of a query; its steps are in map_*.c. */
#include "map.h"
#include "progress.h"
#include "record.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- before the work ---- */

/* Local, rank 0. Files beside the result may be written too. */
static ferry_status check_beside(const map_job *job)
{
    FERRY_AUTO char *path = NULL;
    if (!job->o->presence || job->self) return FERRY_OK;
    FERRY_TRY(map_beside(&path, job->o->common.output, "presence.h5ad"));
    return ferry_output_check(path, job->o->common.overwrite);
}

/* Collective. */
static ferry_status check(map_job *job)
{
    FERRY_TRY(ferry_agree(job->world, map_check(job)));
    FERRY_TRY(output_check(job->program));
    const bool mine = !job->o->common.plan && job->world->rank == 0;
    return ferry_agree(job->world, mine ? check_beside(job) : FERRY_OK);
}

/* ---- after it ---- */

static void print_key(const map_job *job, const map_key *key)
{
    int64_t most = -1;
    const int64_t categories = key->labels.categories.count;
    if (key->number) {
        printf("%-8s numbers\n", key->predicted);
        return;
    }
    for (int64_t c = 0; c <= categories; c++)
        if (most < 0 || key->cells[c] > key->cells[most]) most = c;
    const double queries = job->query.cells > 0 ? (double)job->query.cells : 1;
    printf("%-8s mean confidence %.4f; most frequent '%s' (%.1f %%)", key->predicted,
           (double)key->confidence / 1073741824.0 / queries,
           most == categories ? "nan" : ferry_name(&key->labels.categories, most),
           100 * (double)key->cells[most] / queries);
    if (key->massless) printf("; %lld cells without weight", (long long)key->massless);
    printf("\n");
}

static void summary(const map_job *job)
{
    const cli_program *program = job->program;
    char peak[32];
    if (job->world->rank != 0 || job->o->common.json) return;
    input_print(job->self ? "cells" : "query", &job->query);
    if (!job->self) input_print("reference", &job->other);
    if (!job->o->neighbors) neighbors_print(&job->report, &job->search);
    for (int k = 0; k < job->keys; k++) print_key(job, &job->key[k]);
    if (!isnan(job->o->unknown_quantile))
        printf("unknown  %lld cells, farther than %.6g from their neighbours\n", (long long)job->unknown, job->far);
    printf("run      %.2f s on %d rank%s of %d thread%s (%s), at most %s per rank\nwritten  %s\n",
           now_seconds() - program->started, program->world.size, program->world.size == 1 ? "" : "s", program->threads,
           program->threads == 1 ? "" : "s", program->kernels->name,
           ferry_size_text(peak, (double)ferry_usage_now().peak_pss), program->common->output);
}

/* Collective. */
static ferry_status finish(map_job *job)
{
    watch_stage("write");
    FERRY_TRY(record_write(job->output, job->program, "cellferry map"));
    const ferry_status status = ferry_output_finish(&job->output);
    ferry_stage_begin(NULL);
    progress_end();
    return status;
}

/* ---- the run ---- */

/* Collective. All that is asked for, one after the other. */
static ferry_status carry(map_job *job)
{
    const map_options *o = job->o;
    FERRY_TRY(map_output(job));
    for (int k = 0; k < job->keys; k++) {
        map_key *key = &job->key[k];
        FERRY_TRY(key->number ? map_numbers(job, key) : map_labels(job, key));
        if (key->evaluated) FERRY_TRY(map_evaluate(job, key));
    }
    if (!isnan(o->unknown_quantile)) FERRY_TRY(map_unknown(job));
    for (int i = 0; i < o->obsm.count; i++) FERRY_TRY(map_embedding(job, o->obsm.text[i]));
    if (o->layer) FERRY_TRY(map_layer_run(job));
    return o->presence ? map_presence(job) : FERRY_OK;
}

/* Collective. */
static ferry_status work(map_job *job)
{
    FERRY_TRY(check(job));
    watch_stage("open");
    FERRY_TRY(map_open(job));
    FERRY_TRY(map_settle(job));
    if (job->o->common.plan) {
        map_describe(job);
        return FERRY_OK;
    }
    FERRY_TRY(map_search(job));
    FERRY_TRY(carry(job));
    FERRY_TRY(finish(job));
    summary(job);
    return FERRY_OK;
}

static ferry_status run_map(cli_program *program, const void *options)
{
    map_job *job = NULL; /* large, and its members are borrowed by each other: on the heap */
    FERRY_TRY(ferry_agree(&program->world, ferry_alloc(&job, 1)));
    job->program = program;
    job->world = &program->world;
    job->o = options;
    const ferry_status status = work(job);
    map_close(job);
    free(job);
    return status;
}

const cli_command command_map = {
    .name = "map",
    .line = "labels, numbers and expression of a reference for the cells of a query: MAPPED.h5ad",
    .usage = "QUERY [REFERENCE] -o MAPPED.h5ad --obs cell_type[,...]",
    .text =
        "Finds the nearest reference cells of every query cell, weights them by a kernel, and carries what they know: "
        "M Z, where the rows of M are the weights divided by their sum. Everything goes row block by row block; M is "
        "never whole. Without a REFERENCE the set maps onto itself (smoothing), and --steps repeats it.\n"
        "The result is AnnData with the cells of the query: obs/COLUMN_pred (the reference's categories in their "
        "order; a winning missing label is missing), obs/COLUMN_conf (its share of the weights), obsm/KEY_pred, X and "
        "var for --layer, and in uns the colours, the evaluation and the run record. --presence of two sets writes "
        "OUT.presence.h5ad beside it (obs: the reference's cells), --evaluate OUT.COLUMN.confusion.csv.",
    .example = "cellferry map query.h5ad atlas.h5ad -o mapped.h5ad --obs cell_type --unknown-quantile 0.99\n"
               "mpirun -n 4 cellferry map query.h5ad atlas.h5ad -o imputed.h5ad --layer X --genes panel.txt",
    .options = map_table,
    .absent = search_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(map_options),
    .min_inputs = 1,
    .max_inputs = 2,
    .run = run_map};

/* map_presence.c - presence of the reference's cells among the queries: obs of the result when they are the same set,
 * else of a file beside it; see map.h. */
#include "map.h"
#include "progress.h"
#include "record.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCORE "presence_score"

/* Collective. Weights of the gauss kernel between sets; of one set without the cells themselves. */
static ferry_status open_gauss(ferry_weights *gauss, const map_job *job)
{
    ferry_weights_options options = job->kernel;
    const ferry_weights_graphs graphs = {.yx = (ferry_graph *)&job->yx};
    options.kernel = FERRY_GAUSS;
    options.symmetrize = FERRY_SYMMETRIZE_NONE;
    options.self_edges = false;
    return ferry_weights_open(gauss, job->world, &graphs, &options);
}

/* Collective. Scores of this rank's cells, made ready. */
static ferry_status scores(double **out, const map_job *job, ferry_weights *gauss, const int32_t *group, int64_t groups)
{
    const ferry_world *world = job->world;
    const map_options *o = job->o;
    FERRY_TRY(ferry_presence(out, gauss, world, job->first, group, groups));
    const int64_t rows = job->first[world->rank + 1] - job->first[world->rank];
    return ferry_presence_finish(*out, world, rows, groups, o->presence_log, job->percentile[0], job->percentile[1],
                                 o->presence_minmax);
}

/* ---- writing ---- */

static ferry_status column_of(double **out, const double *score, int64_t rows, int64_t groups, int64_t g)
{
    FERRY_TRY(ferry_alloc(out, rows));
    for (int64_t i = 0; i < rows; i++) (*out)[i] = score[i * groups + g];
    return FERRY_OK;
}

/* Collective. A data frame in obsm, one column a group. */
static ferry_status write_groups(const map_job *job, ferry_output *output, const double *score,
                                 const ferry_names *names)
{
    const ferry_world *world = job->world;
    const int64_t first = job->first[world->rank], rows = job->first[world->rank + 1] - first;
    FERRY_TRY(cells_frame_in_parts(output, world, "obsm/" SCORE, job->reference));
    for (int64_t g = 0; g < names->count; g++) {
        FERRY_AUTO double *column = NULL;
        FERRY_TRY(ferry_agree(world, column_of(&column, score, rows, names->count, g)));
        FERRY_TRY(ferry_output_column(output, "obsm/" SCORE, ferry_name(names, g), FERRY_F64, first, rows, column));
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status write_scores(const map_job *job, ferry_output *output, const double *all, const double *grouped,
                                 const ferry_names *names)
{
    const int64_t first = job->first[job->world->rank], rows = job->first[job->world->rank + 1] - first;
    FERRY_TRY(ferry_output_column(output, "obs", SCORE, FERRY_F64, first, rows, all));
    return grouped ? write_groups(job, output, grouped, names) : FERRY_OK;
}

/* Collective. Into the result, whose obs are these cells. */
static ferry_status write_here(const map_job *job, const double *all, const double *grouped, const ferry_names *names)
{
    FERRY_TRY(map_clear(job, "obs", SCORE));
    if (grouped) FERRY_TRY(map_clear(job, "obsm", SCORE));
    return write_scores(job, job->output, all, grouped, names);
}

/* Collective. */
static ferry_status fill(const map_job *job, ferry_output *output, const double *all, const double *grouped,
                         const ferry_names *names)
{
    const ferry_names none = {0};
    FERRY_TRY(ferry_output_anndata(output));
    FERRY_TRY(cells_frame_in_parts(output, job->world, "obs", job->reference));
    FERRY_TRY(ferry_output_frame(output, "var", 0, 0, &none));
    FERRY_TRY(write_scores(job, output, all, grouped, names));
    return record_write(output, job->program, "cellferry presence");
}

/* Collective. Into a file beside the result. */
static ferry_status write_beside(const map_job *job, const double *all, const double *grouped, const ferry_names *names)
{
    FERRY_AUTO char *path = NULL;
    ferry_output *output = NULL;
    const common_options *common = &job->o->common;
    FERRY_TRY(ferry_agree(job->world, map_beside(&path, common->output, "presence.h5ad")));
    FERRY_TRY(ferry_output_open(&output, job->world, path, common->overwrite));
    ferry_status status = fill(job, output, all, grouped, names);
    if (status == FERRY_OK)
        status = ferry_output_finish(&output);
    else
        ferry_output_discard(&output);
    return status;
}

/* ---- all ---- */

/* Collective. Scores of all queries; and group by group. */
static ferry_status run(map_job *job, ferry_weights *gauss, const ferry_labels *labels)
{
    FERRY_AUTO double *all = NULL;
    FERRY_AUTO double *grouped = NULL;
    FERRY_TRY(scores(&all, job, gauss, NULL, 1));
    if (labels && labels->categories.count)
        FERRY_TRY(scores(&grouped, job, gauss, labels->code, labels->categories.count));
    const ferry_names *names = labels ? &labels->categories : NULL;
    return job->self ? write_here(job, all, grouped, names) : write_beside(job, all, grouped, names);
}

/* Collective. */
static ferry_status run_grouped(map_job *job, ferry_weights *gauss)
{
    FERRY_AUTO int64_t *rows = NULL;
    ferry_labels labels = {0};
    int64_t count = 0;
    if (!job->o->presence[0]) return run(job, gauss, NULL);
    FERRY_TRY(map_walk_rows(&rows, &count, job, &gauss->blocks));
    FERRY_TRY(ferry_read_labels(&labels, job->world, job->query.file, job->o->presence, rows, count));
    const ferry_status status = run(job, gauss, &labels);
    ferry_labels_close(&labels);
    return status;
}

ferry_status map_presence(map_job *job)
{
    ferry_weights gauss;
    watch_stage("presence");
    FERRY_TRY(open_gauss(&gauss, job));
    const ferry_status status = run_grouped(job, &gauss);
    ferry_weights_close(&gauss);
    return status;
}

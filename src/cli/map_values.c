/* map_values.c - numbers of obs and embeddings of the reference for the queries; see map.h. */
#include "map.h"
#include "progress.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH ((int64_t)4 << 20) /* bytes of an embedding that are read at a time */

typedef struct values_writer {
    ferry_output *output;
    const ferry_world *world;
    char path[1024];
    bool single; /* stored as float32 */
} values_writer;

static ferry_status to_single(float **out, const double *values, int64_t count)
{
    FERRY_TRY(ferry_alloc(out, count));
    for (int64_t i = 0; i < count; i++) (*out)[i] = (float)values[i];
    return FERRY_OK;
}

/* Collective; see ferry_values_taker. */
static ferry_status take(void *self, int64_t first, int64_t rows, int64_t width, const double *values)
{
    const values_writer *w = self;
    if (!w->single) return ferry_output_rows(w->output, w->path, first, rows, values);
    FERRY_AUTO float *single = NULL;
    FERRY_TRY(ferry_agree(w->world, to_single(&single, values, rows * width)));
    return ferry_output_rows(w->output, w->path, first, rows, single);
}

/* ---- diffusion ---- */

/* Collective. Eigenvectors once, for all that is mapped. */
static ferry_status decompose(map_job *job)
{
    if (job->decomposed) return FERRY_OK;
    FERRY_TRY(ferry_spectrum_open(&job->spectrum, &job->weights, job->world, &job->diffusion));
    job->decomposed = true;
    json *out = &job->program->figures;
    json_begin(out, "spectrum", '{');
    json_count(out, "eigenpairs", job->spectrum.count);
    json_number(out, "residual", job->spectrum.residual);
    json_number(out, "left_out_below", job->spectrum.next);
    json_end(out, '}');
    return FERRY_OK;
}

ferry_status map_diffuse(map_job *job, double *values, int64_t width)
{
    if (job->diffusion.method == FERRY_ITERATIVE)
        return ferry_diffuse(values, NULL, &job->weights, job->world, job->first, width, &job->diffusion);
    FERRY_TRY(decompose(job));
    return ferry_spectrum_apply(values, &job->spectrum, job->world, job->first, width, job->diffusion.steps);
}

/* ---- numbers ---- */

/* Collective. M^t of values [rows here][width], which are spoilt. */
static ferry_status carry(map_job *job, double *values, int64_t width, values_writer *w)
{
    const ferry_world *world = job->world;
    const int64_t first = job->first[world->rank];
    if (!job->diffused) {
        const ferry_transfer_values columns = {values, job->first, width};
        return ferry_transfer_numbers(&job->weights, world, &columns, take, w);
    }
    FERRY_TRY(map_diffuse(job, values, width));
    return take(w, first, job->first[world->rank + 1] - first, width, values);
}

ferry_status map_numbers(map_job *job, map_key *key)
{
    values_writer w = {.output = job->output, .world = job->world};
    watch_stage("labels");
    map_path(w.path, "obs", key->predicted, "");
    FERRY_TRY(map_clear(job, "obs", key->predicted));
    FERRY_TRY(ferry_output_column_create(job->output, "obs", key->predicted, FERRY_F64));
    return carry(job, key->value, 1, &w);
}

/* ---- embeddings ---- */

/* Local. Is it stored in float32, or shorter? */
static ferry_status is_single(bool *single, ferry_file *file, const char *key)
{
    FERRY_AUTO ferry_entry *entry = NULL;
    char path[300];
    int count;
    *single = true;
    FERRY_TRY(ferry_file_entries(&entry, &count, file));
    (void)snprintf(path, sizeof path, "obsm/%.280s", key);
    for (int i = 0; i < count; i++)
        if (!strcmp(entry[i].path, path)) *single = strstr(entry[i].encoding, "float64") == NULL;
    return FERRY_OK;
}

/* Local. Rows of the reference here, in batches. */
static ferry_status read_embedding(double **values, int *width, bool *single, const map_job *job, const char *key)
{
    const int64_t rows = job->first[job->world->rank + 1] - job->first[job->world->rank];
    ferry_file *file = job->reference->file;
    FERRY_TRY(ferry_rep_dim(width, file, key, 0));
    FERRY_TRY(is_single(single, file, key));
    FERRY_TRY(ferry_alloc(values, rows * *width));
    const int64_t batch = 1 + BATCH / (8 * (int64_t)*width);
    for (int64_t at = 0; at < rows; at += batch) {
        const int64_t count = rows - at < batch ? rows - at : batch;
        ferry_matrix part = {0};
        FERRY_TRY(ferry_read_rep(&part, file, key, 0, FERRY_DOUBLE, job->rows + at, count));
        memcpy(*values + at * *width, part.d, (size_t)(count * *width) * sizeof **values);
        ferry_matrix_close(&part);
    }
    return FERRY_OK;
}

ferry_status map_embedding(map_job *job, const char *key)
{
    FERRY_AUTO double *values = NULL;
    values_writer w = {.output = job->output, .world = job->world};
    int width = 0;
    char name[600];
    watch_stage("values");
    FERRY_TRY(ferry_agree(job->world, read_embedding(&values, &width, &w.single, job, key)));
    (void)snprintf(name, sizeof name, "%s_pred", key);
    map_path(w.path, "obsm", name, "");
    FERRY_TRY(map_clear(job, "obsm", name));
    FERRY_TRY(ferry_output_create(job->output, w.path, w.single ? FERRY_F32 : FERRY_F64, job->query.cells, width));
    return carry(job, values, width, &w);
}

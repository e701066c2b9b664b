/* map_labels.c - labels of the reference for the queries: predictions, confidences, probabilities, and which queries
 * are far from everything; see map.h. */
#include "map.h"
#include "progress.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRUST 1073741824.0 /* 2^30: confidences are counted in its parts, exactly */

typedef struct labels_writer {
    map_job *job;
    map_key *key;
    ferry_sink probabilities; /* take NULL: not written */
    char codes[1024], trust[1024];
} labels_writer;

/* Local. */
static void count(map_key *key, int64_t rows, const int32_t *code, const float *confidence)
{
    const int64_t categories = key->labels.categories.count;
    for (int64_t i = 0; i < rows; i++) {
        key->cells[code[i] < 0 ? categories : code[i]]++;
        key->confidence += llround((double)confidence[i] * TRUST);
        key->massless += !(confidence[i] > 0);
    }
    if (!key->code || rows == 0) return;
    memcpy(key->code + key->rows, code, (size_t)rows * sizeof *code);
    memcpy(key->trust + key->rows, confidence, (size_t)rows * sizeof *confidence);
    key->rows += rows;
}

/* Collective; see ferry_labels_taker. */
static ferry_status take(void *self, int64_t first, int64_t rows, const int32_t *code, const float *confidence,
                         const ferry_rows *probabilities)
{
    labels_writer *w = self;
    ferry_output *output = w->job->output;
    count(w->key, rows, code, confidence);
    FERRY_TRY(ferry_output_rows(output, w->codes, first, rows, code));
    FERRY_TRY(ferry_output_rows(output, w->trust, first, rows, confidence));
    return w->probabilities.take ? w->probabilities.take(w->probabilities.self, probabilities) : FERRY_OK;
}

/* Collective. Has the reference cells without a label, and do they vote? */
static bool has_missing(const map_job *job, const map_key *key)
{
    int64_t missing = 0;
    for (int64_t i = 0; i < key->labels.count; i++) missing += key->labels.code[i] < 0;
    return ferry_total(job->world, missing) > 0 && !job->o->drop_missing && !key->kept;
}

/* Local, rank 0. */
static ferry_status class_names(ferry_names *out, const map_key *key, bool missing)
{
    const ferry_names *names = &key->labels.categories;
    for (int64_t i = 0; i < names->count; i++)
        FERRY_TRY(ferry_names_add(out, ferry_name(names, i), (int64_t)strlen(ferry_name(names, i))));
    return missing ? ferry_names_add(out, "nan", 3) : FERRY_OK;
}

/* Collective. */
static ferry_status open_probabilities(labels_writer *w, const map_job *job, const map_key *key)
{
    const bool missing = has_missing(job, key);
    const int64_t classes = key->labels.categories.count + missing;
    char path[1024], name[600];
    ferry_names names = {0};
    ferry_status status = ferry_agree(job->world, job->world->rank == 0 ? class_names(&names, key, missing) : FERRY_OK);
    (void)snprintf(name, sizeof name, "%s_prob_names", key->name);
    map_path(path, "uns", name, "");
    if (status == FERRY_OK) status = map_clear(job, "uns", name);
    if (status == FERRY_OK) status = ferry_output_texts(job->output, path, classes, 0, &names);
    ferry_names_close(&names);
    FERRY_TRY(status);
    (void)snprintf(name, sizeof name, "%s_prob", key->name);
    map_path(path, "obsm", name, "");
    FERRY_TRY(map_clear(job, "obsm", name));
    return ferry_output_csr_open(&w->probabilities, job->output, path, job->query.cells, classes);
}

/* Collective. */
static ferry_status open_columns(labels_writer *w, map_job *job, map_key *key)
{
    char name[600];
    (void)snprintf(name, sizeof name, "%s_conf", key->name);
    map_path(w->codes, "obs", key->predicted, "/codes");
    map_path(w->trust, "obs", name, "");
    FERRY_TRY(map_clear(job, "obs", key->predicted));
    FERRY_TRY(map_clear(job, "obs", name));
    FERRY_TRY(ferry_output_categorical_create(job->output, "obs", key->predicted, &key->labels.categories,
                                              key->labels.ordered));
    FERRY_TRY(ferry_output_column_create(job->output, "obs", name, FERRY_F32));
    return job->o->probabilities ? open_probabilities(w, job, key) : FERRY_OK;
}

/* Local. Room for what --evaluate looks at. */
static ferry_status keep(map_key *key, int64_t rows)
{
    if (!key->evaluated) return FERRY_OK;
    FERRY_TRY(ferry_alloc(&key->code, rows));
    return ferry_alloc(&key->trust, rows);
}

/* ---- after diffusion ---- */

/* Rows of M^t Z of this rank, and what follows from them. */
typedef struct diffused {
    double *mass; /* [rows][classes] */
    int32_t *code;
    float *confidence, *values;
    int64_t *indptr, *indices;
} diffused;

static void diffused_close(diffused *d)
{
    free(d->mass);
    free(d->code);
    free(d->confidence);
    free(d->values);
    free(d->indptr);
    free(d->indices);
}

/* Local. One column a class: 1 where a cell votes for it. */
static ferry_status one_hot(diffused *d, const ferry_transfer_labels *labels, int64_t rows)
{
    const int64_t classes = labels->categories->count + 1;
    FERRY_TRY(ferry_alloc(&d->mass, rows * classes));
    for (int64_t i = 0; i < rows; i++) {
        const int32_t c = ferry_transfer_class(labels, labels->code[i]);
        if (c >= 0) d->mass[i * classes + c] = 1;
    }
    return FERRY_OK;
}

/* Local. Winners, and what is above 0 as sparse rows. */
static ferry_status decide(diffused *d, const ferry_transfer_labels *labels, int64_t rows)
{
    const int64_t classes = labels->categories->count + 1;
    FERRY_TRY(ferry_alloc(&d->code, rows));
    FERRY_TRY(ferry_alloc(&d->confidence, rows));
    FERRY_TRY(ferry_transfer_decide(d->code, d->confidence, d->mass, rows, labels));
    FERRY_TRY(ferry_alloc(&d->indptr, rows + 1));
    for (int64_t i = 0; i < rows; i++) {
        d->indptr[i + 1] = d->indptr[i];
        for (int64_t c = 0; c < classes; c++) d->indptr[i + 1] += (float)d->mass[i * classes + c] > 0;
    }
    FERRY_TRY(ferry_alloc(&d->indices, d->indptr[rows]));
    FERRY_TRY(ferry_alloc(&d->values, d->indptr[rows]));
    for (int64_t i = 0, to = 0; i < rows; i++)
        for (int64_t c = 0; c < classes; c++) {
            const float value = (float)d->mass[i * classes + c];
            if (!(value > 0)) continue;
            d->indices[to] = c;
            d->values[to++] = value;
        }
    return FERRY_OK;
}

/* Collective. */
static ferry_status diffuse(diffused *d, map_job *job, const ferry_transfer_labels *labels, labels_writer *w)
{
    const ferry_world *world = job->world;
    const int64_t first = job->first[world->rank], rows = job->first[world->rank + 1] - first;
    FERRY_TRY(ferry_agree(world, one_hot(d, labels, rows)));
    FERRY_TRY(map_diffuse(job, d->mass, labels->categories->count + 1));
    FERRY_TRY(ferry_agree(world, decide(d, labels, rows)));
    const ferry_rows probabilities = {rows, d->indptr, d->indices, d->values};
    return take(w, first, rows, d->code, d->confidence, &probabilities);
}

/* ---- all ---- */

/* Collective. Figures over all ranks. */
static void total(const map_job *job, map_key *key)
{
    ferry_total_counts(job->world, key->cells, key->labels.categories.count + 1);
    key->confidence = ferry_total(job->world, key->confidence);
    key->massless = ferry_total(job->world, key->massless);
}

static void record(json *out, const map_job *job, const map_key *key)
{
    const double queries = job->query.cells > 0 ? (double)job->query.cells : 1;
    json_begin(out, key->name, '{');
    json_number(out, "mean_confidence", (double)key->confidence / TRUST / queries);
    json_count(out, "without_weight", key->massless);
    json_begin(out, "shares", '{');
    for (int64_t c = 0; c <= key->labels.categories.count; c++)
        if (key->cells[c])
            json_number(out, c < key->labels.categories.count ? ferry_name(&key->labels.categories, c) : "nan",
                        (double)key->cells[c] / queries);
    json_end(out, '}');
    json_end(out, '}');
}

ferry_status map_labels(map_job *job, map_key *key)
{
    labels_writer w = {.job = job, .key = key};
    const ferry_world *world = job->world;
    const ferry_transfer_labels labels = {key->labels.code, job->first, &key->labels.categories, key->kept,
                                          job->o->drop_missing};
    const int64_t rows = job->diffused ? job->first[world->rank + 1] - job->first[world->rank]
                                       : ferry_transfer_rows(&job->weights.blocks, world->rank, world->size);
    watch_stage("labels");
    FERRY_TRY(ferry_agree(world, keep(key, rows)));
    FERRY_TRY(open_columns(&w, job, key));
    if (job->diffused) {
        diffused d = {0};
        const ferry_status status = diffuse(&d, job, &labels, &w);
        diffused_close(&d);
        FERRY_TRY(status);
    } else {
        FERRY_TRY(ferry_transfer_categories(&job->weights, world, &labels, take, &w));
    }
    if (w.probabilities.take) FERRY_TRY(ferry_output_csr_finish(&w.probabilities));
    total(job, key);
    record(&job->program->figures, job, key);
    return map_colours(job, key);
}

/* ---- far from everything ---- */

/* Mean distances of this rank's rows to their neighbours, in the order of the walk; +inf without any. */
static ferry_status distances(double **out, int64_t *rows, ferry_graph *graph)
{
    *rows = ferry_transfer_rows(&graph->blocks, graph->rank, graph->size);
    FERRY_TRY(ferry_alloc(out, *rows));
    int64_t at = 0;
    for (int64_t round = 0; round < graph->rounds; round++) {
        ferry_graph_block block;
        FERRY_TRY(ferry_graph_take(&block, graph, round));
        for (int64_t i = 0; i < block.rows; i++, at++) {
            double sum = 0;
            int found = 0;
            for (; found < graph->k && block.cell[i * graph->k + found] != UINT32_MAX; found++)
                sum += (double)block.distance[i * graph->k + found];
            (*out)[at] = found ? sum / found : INFINITY;
        }
    }
    return FERRY_OK;
}

/* Collective. The column of one key, block by block. */
static ferry_status write_unknown(map_job *job, const map_key *key, const double *distance)
{
    char path[1024], name[600];
    const ferry_blocks *blocks = &job->yx.blocks;
    const ferry_world *world = job->world;
    FERRY_AUTO int8_t *flag = NULL;
    int64_t at = 0;
    (void)snprintf(name, sizeof name, "%s_unknown", key->name);
    map_path(path, "obs", name, "");
    FERRY_TRY(map_clear(job, "obs", name));
    FERRY_TRY(ferry_output_column_create(job->output, "obs", name, FERRY_BOOL));
    const int64_t rows = ferry_transfer_rows(blocks, world->rank, world->size);
    FERRY_TRY(ferry_agree(world, ferry_alloc(&flag, rows)));
    for (int64_t i = 0; i < rows; i++) flag[i] = distance[i] > job->far;
    for (int b = 0; b < blocks->count; b += world->size) {
        const int mine = b + world->rank < blocks->count ? b + world->rank : blocks->count;
        const int64_t first = ferry_block_first(blocks, mine);
        const int64_t here = mine < blocks->count ? ferry_block_first(blocks, mine + 1) - first : 0;
        FERRY_TRY(ferry_output_rows(job->output, path, here ? first : 0, here, flag + at));
        at += here;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status measure(double **queries, int64_t *rows, double **reference, int64_t *cells, map_job *job)
{
    FERRY_TRY(distances(queries, rows, &job->yx));
    return distances(reference, cells, job->self ? &job->yx : &job->xx);
}

ferry_status map_unknown(map_job *job)
{
    FERRY_AUTO double *queries = NULL;
    FERRY_AUTO double *reference = NULL;
    int64_t rows = 0, cells = 0;
    watch_stage("unknown");
    FERRY_TRY(ferry_agree(job->world, measure(&queries, &rows, &reference, &cells, job)));
    FERRY_TRY(ferry_percentile(&job->far, job->world, reference, cells, 1, 100 * job->o->unknown_quantile));
    for (int64_t i = 0; i < rows; i++) job->unknown += queries[i] > job->far;
    job->unknown = ferry_total(job->world, job->unknown);
    for (int k = 0; k < job->keys; k++)
        if (!job->key[k].number) FERRY_TRY(write_unknown(job, &job->key[k], queries));
    json_count(&job->program->figures, "unknown", job->unknown);
    json_number(&job->program->figures, "unknown_above", job->far);
    return FERRY_OK;
}

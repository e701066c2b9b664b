/* map_layer.c - expression of the reference for the queries: X of the result; see map.h.
 *
 * The reference's rows are held sparse, dealt over the ranks. One step gives sparse rows; after diffusion they are
 * dense, so X is a dense array then, made in slabs of genes that fit in the memory. */
#include "map.h"
#include "progress.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH ((int64_t)4 << 20) /* bytes of the query's dense rows that are read at a time */

/* ---- reading ---- */

/* Local. Values of a batch that are not 0, of the wanted genes. */
static ferry_status add_rows(map_layer *layer, int64_t *room, int64_t row, const ferry_matrix *part, int64_t limit)
{
    for (int64_t i = 0; i < part->rows; i++) {
        const float *from = part->f + i * part->dim;
        if (layer->entries + layer->count > *room) {
            const int64_t more = 2 * *room + layer->count;
            if ((int64_t)sizeof *layer->entry * (layer->entries + layer->count) > limit)
                return ferry_fail(
                    FERRY_E_PLAN,
                    "%s of the reference takes more than was planned: take fewer genes with --genes FILE, "
                    "or give a larger --memory",
                    layer->rep);
            FERRY_TRY(ferry_grow(&layer->entry, layer->entries, more));
            *room = more;
        }
        for (int64_t g = 0; g < layer->count; g++)
            if (from[layer->column[g]] != 0)
                layer->entry[layer->entries++] = (ferry_transfer_entry){(uint32_t)g, from[layer->column[g]]};
        layer->start[row + i + 1] = layer->entries;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status read_layer(map_job *job)
{
    map_layer *layer = &job->layer;
    const int64_t rows = job->first[job->world->rank + 1] - job->first[job->world->rank];
    int64_t room = layer->bytes / (int64_t)sizeof *layer->entry;
    const int64_t batch = 1 + layer->batch / (4 * (int64_t)layer->dim);
    FERRY_TRY(ferry_alloc(&layer->start, rows + 1));
    FERRY_TRY(ferry_alloc(&layer->entry, room));
    for (int64_t at = 0; at < rows; at += batch) {
        const int64_t count = rows - at < batch ? rows - at : batch;
        ferry_matrix part = {0};
        FERRY_TRY(ferry_read_rep(&part, job->reference->file, layer->rep, 0, FERRY_FLOAT, job->rows + at, count));
        const ferry_status status = add_rows(layer, &room, at, &part, layer->bytes + job->room / 2);
        ferry_matrix_close(&part);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* Local. Sums of the query's rows, of a whole layer; or a column of obs. */
static ferry_status read_sums(double **out, const map_job *job, const int64_t *rows, int64_t count)
{
    const char *key = job->o->libsize;
    char rep[300];
    int dim;
    if (!strncmp(key, "obs:", 4)) return ferry_read_numbers(out, job->query.file, key + 4, rows, count);
    map_layer_rep(rep, key);
    FERRY_TRY(ferry_rep_dim(&dim, job->query.file, rep, 0));
    FERRY_TRY(ferry_alloc(out, count));
    const int64_t batch = 1 + BATCH / (4 * (int64_t)dim);
    for (int64_t at = 0; at < count; at += batch) {
        const int64_t here = count - at < batch ? count - at : batch;
        ferry_matrix part = {0};
        FERRY_TRY(ferry_read_rep(&part, job->query.file, rep, 0, FERRY_FLOAT, rows + at, here));
        for (int64_t i = 0; i < here * dim; i++) (*out)[at + i / dim] += (double)part.f[i];
        ferry_matrix_close(&part);
    }
    return FERRY_OK;
}

/* ---- one step ---- */

/* Rows on their way into the file, and past the evaluation. */
typedef struct layer_sink {
    const ferry_world *world;
    ferry_sink file;          /* take NULL: not written in this pass */
    map_agreement *agreement; /* NULL: none */
    int64_t next;             /* cell that the next call begins with */
} layer_sink;

/* Collective, as a sink. */
static ferry_status take(void *self, const ferry_rows *rows)
{
    layer_sink *s = self;
    const int64_t first = s->next + ferry_before(s->world, rows->rows);
    s->next += ferry_total(s->world, rows->rows);
    if (s->agreement) FERRY_TRY(map_agreement_rows(s->agreement, first, rows->rows, rows));
    return s->file.take ? s->file.take(s->file.self, rows) : FERRY_OK;
}

/* Collective. Passes over the queries: the first writes, each fills one slab of the evaluation. */
static ferry_status run_passes(map_job *job, map_agreement *agreement, const double *libsize)
{
    const ferry_transfer_sparse sparse = {job->layer.start, job->layer.entry, job->first,           job->layer.count,
                                          libsize,          job->room / 4,    job->program->threads};
    const int64_t passes = agreement ? (agreement->shared + agreement->slab - 1) / agreement->slab : 1;
    for (int64_t p = 0; p < passes; p++) {
        layer_sink sink = {.world = job->world, .agreement = agreement};
        const ferry_sink out = {take, &sink};
        if (p == 0) FERRY_TRY(ferry_output_csr_open(&sink.file, job->output, "X", job->query.cells, job->layer.count));
        FERRY_TRY(ferry_transfer_layer(&job->weights, job->world, &sparse, &out));
        if (p == 0) FERRY_TRY(ferry_output_csr_finish(&sink.file));
        if (agreement) FERRY_TRY(map_agreement_pass(agreement));
    }
    return FERRY_OK;
}

/* ---- diffusion ---- */

/* Dense columns of this rank's cells. */
typedef struct slab {
    int64_t first, rows; /* cells here */
    int64_t from, width; /* genes */
    double *values;      /* [rows][width] */
    float *single;
    int64_t *indptr, *indices; /* for the evaluation */
} slab;

static void slab_close(slab *s)
{
    free(s->values);
    free(s->single);
    free(s->indptr);
    free(s->indices);
}

/* Local. */
static ferry_status slab_open(slab *s, const map_layer *layer, bool evaluated)
{
    FERRY_TRY(ferry_alloc(&s->values, s->rows * s->width));
    FERRY_TRY(ferry_alloc(&s->single, s->rows * s->width));
    if (evaluated) {
        FERRY_TRY(ferry_alloc(&s->indptr, s->rows + 1));
        FERRY_TRY(ferry_alloc(&s->indices, s->rows * s->width));
    }
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t e = layer->start[i]; e < layer->start[i + 1]; e++) {
            const int64_t g = (int64_t)layer->entry[e].column - s->from;
            if (g >= 0 && g < s->width) s->values[i * s->width + g] = (double)layer->entry[e].value;
        }
    return FERRY_OK;
}

/* Genes of a slab, so that values and their diffusion fit. */
static int64_t slab_width(const map_job *job)
{
    const ferry_world *world = job->world;
    const int64_t rows = ferry_max(world, job->first[world->rank + 1] - job->first[world->rank]);
    int64_t width = job->layer.count;
    while (width > 1 &&
           20 * rows * width + ferry_diffusion_bytes(job->reference->cells, width, world->size, &job->diffusion) >
               job->room)
        width = (width + 1) / 2;
    return width;
}

/* Collective. The slab for the evaluation, as rows that hold every gene of it. */
static ferry_status judge_slab(slab *s, map_agreement *a)
{
    while (a->to < a->shared && a->gene[a->to] < s->from + s->width) a->to++;
    if (a->to == a->from) return FERRY_OK;
    for (int64_t i = 0; i < s->rows; i++) {
        s->indptr[i + 1] = (i + 1) * s->width;
        for (int64_t g = 0; g < s->width; g++) s->indices[i * s->width + g] = s->from + g;
    }
    const ferry_rows rows = {s->rows, s->indptr, s->indices, s->single};
    FERRY_TRY(map_agreement_rows(a, s->first, s->rows, &rows));
    return map_agreement_pass(a);
}

/* Collective. One slab: summed up (scale NULL), or scaled, written and judged. */
static ferry_status run_slab(slab *s, map_job *job, map_agreement *agreement, double *sum, const double *scale)
{
    FERRY_TRY(ferry_agree(job->world, slab_open(s, &job->layer, agreement != NULL)));
    FERRY_TRY(map_diffuse(job, s->values, s->width));
    for (int64_t i = 0; i < s->rows * s->width; i++) {
        if (sum) sum[i / s->width] += s->values[i];
        s->single[i] = (float)(s->values[i] * (scale ? scale[i / s->width] : 1));
    }
    if (sum) return FERRY_OK;
    FERRY_TRY(ferry_output_block(job->output, "X", s->first, s->rows, s->from, s->width, s->single));
    return agreement ? judge_slab(s, agreement) : FERRY_OK;
}

/* Collective. All slabs. */
static ferry_status run_slabs(map_job *job, map_agreement *agreement, double *sum, const double *scale)
{
    const int64_t most = slab_width(job);
    const int64_t width = agreement && agreement->slab < most ? agreement->slab : most;
    for (int64_t from = 0; from < job->layer.count; from += width) {
        slab s = {.first = job->first[job->world->rank], .from = from};
        s.rows = job->first[job->world->rank + 1] - s.first;
        s.width = job->layer.count - from < width ? job->layer.count - from : width;
        const ferry_status status = run_slab(&s, job, sum ? NULL : agreement, sum, scale);
        slab_close(&s);
        FERRY_TRY(status);
        ferry_progress(job->world, "layer", from + s.width, job->layer.count, "genes", NULL);
    }
    return FERRY_OK;
}

/* Collective. libsize: of the cells here, NULL: as they are. */
static ferry_status run_diffused(map_job *job, map_agreement *agreement, const double *libsize)
{
    FERRY_AUTO double *sum = NULL;
    const int64_t rows = job->first[job->world->rank + 1] - job->first[job->world->rank];
    FERRY_TRY(ferry_output_create(job->output, "X", FERRY_F32, job->query.cells, job->layer.count));
    if (!libsize) return run_slabs(job, agreement, NULL, NULL);
    FERRY_TRY(ferry_agree(job->world, ferry_alloc(&sum, rows)));
    FERRY_TRY(run_slabs(job, agreement, sum, NULL));
    for (int64_t i = 0; i < rows; i++) sum[i] = sum[i] == 0 ? 1 : libsize[i] / sum[i];
    return run_slabs(job, agreement, NULL, sum);
}

/* ---- all ---- */

/* Collective. Sums that the rows are scaled to, in the order that they are made in. */
static ferry_status open_sums(double **libsize, const map_job *job)
{
    const ferry_world *world = job->world;
    FERRY_AUTO int64_t *rows = NULL;
    int64_t count = job->first[world->rank + 1] - job->first[world->rank];
    if (!job->o->libsize) return FERRY_OK;
    if (!job->diffused) FERRY_TRY(map_walk_rows(&rows, &count, job, &job->weights.blocks));
    return ferry_agree(world, read_sums(libsize, job, job->diffused ? job->rows : rows, count));
}

/* Collective. */
static ferry_status run(map_job *job, map_agreement *agreement)
{
    FERRY_AUTO double *libsize = NULL;
    FERRY_TRY(open_sums(&libsize, job));
    FERRY_TRY(job->diffused ? run_diffused(job, agreement, libsize) : run_passes(job, agreement, libsize));
    return agreement ? map_agreement_write(agreement) : FERRY_OK;
}

ferry_status map_layer_run(map_job *job)
{
    map_agreement agreement;
    watch_stage("layer");
    FERRY_TRY(ferry_agree(job->world, read_layer(job)));
    json_count(&job->program->figures, "genes", job->layer.count);
    if (!job->o->evaluate_layer) return run(job, NULL);
    ferry_status status = map_agreement_open(&agreement, job, job->room / 4);
    if (status == FERRY_OK) status = run(job, &agreement);
    map_agreement_close(&agreement);
    return status;
}

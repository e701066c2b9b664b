/* map_evaluate.c - predictions against what the queries are known to be: labels, and expression; see map.h. */
#include "map.h"
#include "progress.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDED 200                /* classes whose confusion matrix goes into the record */
#define BATCH    ((int64_t)4 << 20) /* bytes of dense rows that are read at a time */

/* ---- labels ---- */

static void record_counts(json *out, const ferry_confusion *c)
{
    json_begin(out, "confusion", '[');
    for (int64_t t = 0; t < c->classes.count; t++) {
        json_begin(out, NULL, '[');
        for (int64_t p = 0; p < c->classes.count; p++) json_count(out, NULL, c->count[t * c->classes.count + p]);
        json_end(out, ']');
    }
    json_end(out, ']');
}

static void record_labels(json *out, const map_job *job, const map_key *key, const ferry_confusion *c)
{
    json_begin(out, "evaluation", '{');
    json_text(out, "truth", job->o->evaluate);
    json_text(out, "prediction", key->predicted);
    json_count(out, "considered", c->considered);
    json_count(out, "excluded", c->excluded);
    json_count(out, "unlabelled", c->unlabelled);
    json_number(out, "accuracy", c->accuracy);
    json_number(out, "precision", c->precision);
    json_number(out, "recall", c->recall);
    json_number(out, "f1_weighted", c->f1);
    json_number(out, "f1_macro", c->macro_f1);
    json_number(out, "excluded_fraction", c->excluded_share);
    if (c->classes.count <= RECORDED) {
        json_begin(out, "f1", '{');
        for (int64_t k = 0; k < c->classes.count; k++) json_number(out, ferry_name(&c->classes, k), c->class_f1[k]);
        json_end(out, '}');
        record_counts(out, c);
    }
    json_end(out, '}');
}

static void put_name(json *text, const char *name)
{
    text_put(text, "\"", 1);
    for (; *name; name++) text_put(text, *name == '"' ? "\"\"" : name, *name == '"' ? 2 : 1);
    text_put(text, "\"", 1);
}

/* A line a class of the truth: its predictions, then its own figures. */
static void put_table(json *text, const ferry_confusion *c)
{
    char number[64];
    text_put(text, "truth", 5);
    for (int64_t p = 0; p < c->classes.count; p++) {
        text_put(text, ",", 1);
        put_name(text, ferry_name(&c->classes, p));
    }
    text_put(text, ",support,precision,recall,f1\n", 29);
    for (int64_t t = 0; t < c->classes.count; t++) {
        put_name(text, ferry_name(&c->classes, t));
        for (int64_t p = 0; p < c->classes.count; p++) {
            const int length = snprintf(number, sizeof number, ",%lld", (long long)c->count[t * c->classes.count + p]);
            text_put(text, number, (size_t)length);
        }
        char line[160];
        const int length = snprintf(line, sizeof line, ",%lld,%.9g,%.9g,%.9g\n", (long long)c->support[t],
                                    c->class_precision[t], c->class_recall[t], c->class_f1[t]);
        text_put(text, line, (size_t)length);
    }
}

/* Collective. OUT.KEY.confusion.csv. */
static ferry_status write_table(const map_job *job, const map_key *key, const ferry_confusion *c)
{
    json text = {0};
    char ending[640];
    FERRY_AUTO char *path = NULL;
    (void)snprintf(ending, sizeof ending, "%.600s.confusion.csv", key->name);
    for (char *at = ending; *at; at++)
        if (*at == '/') *at = '_';
    ferry_status status = map_beside(&path, job->o->common.output, ending);
    if (status == FERRY_OK) put_table(&text, c);
    if (status == FERRY_OK && text.failed) status = ferry_fail(FERRY_E_MEM, "out of memory for the confusion matrix");
    status = ferry_agree(job->world, status);
    if (status == FERRY_OK)
        status = ferry_text_write(job->world, path, job->o->common.overwrite, text.text, text.length);
    json_close(&text);
    return status;
}

/* Collective. uns/KEY_evaluation. */
static ferry_status write_figures(const map_job *job, const map_key *key, const ferry_confusion *c)
{
    char group[1024], path[1100], name[600];
    const ferry_names none = {0};
    const int64_t n = c->classes.count, mine = job->world->rank == 0 ? n : 0;
    const struct {
        const char *name;
        double value;
    } number[] = {{"accuracy", c->accuracy}, {"precision", c->precision}, {"recall", c->recall},
                  {"f1_weighted", c->f1},    {"f1_macro", c->macro_f1},   {"excluded_fraction", c->excluded_share}};
    (void)snprintf(name, sizeof name, "%s_evaluation", key->name);
    map_path(group, "uns", name, "");
    FERRY_TRY(map_clear(job, "uns", name));
    FERRY_TRY(ferry_output_group(job->output, group, "dict", "0.1.0"));
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", group, number[i].name);
        FERRY_TRY(ferry_output_number(job->output, path, number[i].value));
    }
    if (n == 0) return FERRY_OK;
    (void)snprintf(path, sizeof path, "%s/classes", group);
    FERRY_TRY(ferry_output_texts(job->output, path, n, 0, mine ? &c->classes : &none));
    (void)snprintf(path, sizeof path, "%s/f1", group);
    FERRY_TRY(ferry_output_array(job->output, path, FERRY_F64, n, 0, 0, mine, c->class_f1));
    (void)snprintf(path, sizeof path, "%s/confusion", group);
    return ferry_output_array(job->output, path, FERRY_INT64, n, n, 0, mine, c->count);
}

/* Collective. The truth of the cells that the key has kept, in their order. */
static ferry_status read_truth(ferry_labels *truth, const map_job *job)
{
    FERRY_AUTO int64_t *rows = NULL;
    int64_t count = job->first[job->world->rank + 1] - job->first[job->world->rank];
    if (!job->diffused) FERRY_TRY(map_walk_rows(&rows, &count, job, &job->weights.blocks));
    return ferry_read_labels(truth, job->world, job->query.file, job->o->evaluate, job->diffused ? job->rows : rows,
                             count);
}

/* Collective. */
static ferry_status judge(map_job *job, const map_key *key, const ferry_labels *truth)
{
    ferry_confusion c;
    FERRY_TRY(ferry_evaluate_labels(&c, job->world, truth->code, &truth->categories, key->code, &key->labels.categories,
                                    key->trust, key->rows, isnan(job->o->cutoff) ? 0 : job->o->cutoff));
    record_labels(&job->program->figures, job, key, &c);
    ferry_status status = write_figures(job, key, &c);
    if (status == FERRY_OK) status = write_table(job, key, &c);
    if (status == FERRY_OK && job->world->rank == 0 && !job->o->common.json)
        printf("accuracy %.4f, weighted precision %.4f, recall %.4f, F1 %.4f; macro F1 %.4f of %lld cells; %.2f %% "
               "below the cutoff\n",
               c.accuracy, c.precision, c.recall, c.f1, c.macro_f1, (long long)c.considered, 100 * c.excluded_share);
    ferry_confusion_close(&c);
    return status;
}

ferry_status map_evaluate(map_job *job, const map_key *key)
{
    ferry_labels truth = {0};
    watch_stage("evaluate");
    ferry_status status = read_truth(&truth, job);
    if (status == FERRY_OK) status = judge(job, key, &truth);
    ferry_labels_close(&truth);
    return status;
}

/* ---- expression ---- */

/* Local. Which genes of the layer the query's own layer has. */
static ferry_status share_genes(map_agreement *a, const ferry_names *own)
{
    const map_layer *layer = &a->job->layer;
    FERRY_TRY(ferry_alloc(&a->truth, layer->count));
    FERRY_TRY(ferry_alloc(&a->gene, layer->count));
    FERRY_TRY(ferry_alloc(&a->agreement, layer->count));
    FERRY_TRY(map_find_names(a->truth, &layer->names, own));
    for (int64_t g = 0; g < layer->count; g++) {
        a->agreement[g] = NAN;
        if (a->truth[g] >= 0) a->gene[a->shared++] = (int32_t)g;
    }
    if (a->shared) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "no gene of the reference's %s is in the query's %s: '%.60s' and '%.60s' are the "
                      "first; rename the genes of one side",
                      layer->rep, a->rep, layer->count ? ferry_name(&layer->names, 0) : "",
                      own->count ? ferry_name(own, 0) : "");
}

/* Local. */
static ferry_status open_own(map_agreement *a)
{
    ferry_names own = {0};
    ferry_file *file = a->job->query.file;
    map_layer_rep(a->rep, a->job->o->evaluate_layer);
    FERRY_TRY(ferry_rep_dim(&a->dim, file, a->rep, 0));
    ferry_status status = ferry_read_gene_names(&own, file, a->rep, 0, a->dim);
    if (status == FERRY_OK) status = share_genes(a, &own);
    ferry_names_close(&own);
    return status;
}

/* Local. */
static ferry_status make_room(map_agreement *a, int64_t rows)
{
    const int64_t wanted = a->cells + rows;
    if (wanted <= a->room) return FERRY_OK;
    const int64_t room = wanted + wanted / 8 + 64;
    if (a->room == 0) {
        FERRY_TRY(ferry_alloc(&a->own, room * a->slab));
        FERRY_TRY(ferry_alloc(&a->imputed, room * a->slab));
        FERRY_TRY(ferry_alloc(&a->cell, room));
    } else {
        FERRY_TRY(ferry_grow(&a->own, a->cells * a->slab, room * a->slab));
        FERRY_TRY(ferry_grow(&a->imputed, a->cells * a->slab, room * a->slab));
        FERRY_TRY(ferry_grow(&a->cell, a->cells, room));
    }
    a->room = room;
    return FERRY_OK;
}

ferry_status map_agreement_open(map_agreement *a, map_job *job, int64_t memory)
{
    *a = (map_agreement){.job = job};
    FERRY_TRY(ferry_agree(job->world, open_own(a)));
    const int64_t rows = job->query.cells / job->world->size + 4096;
    a->slab = memory / (2 * 2 * 8 * rows); /* both sides, and columns on their way */
    if (a->slab < 1) a->slab = 1;
    if (a->slab > a->shared) a->slab = a->shared;
    a->to = job->diffused ? 0 : a->slab;
    return FERRY_OK;
}

/* Local. The query's own values of the genes of the pass. */
static ferry_status read_own(map_agreement *a, const int64_t *row, int64_t rows)
{
    const int64_t batch = 1 + BATCH / (4 * (int64_t)a->dim), width = a->to - a->from;
    for (int64_t at = 0; at < rows; at += batch) {
        const int64_t count = rows - at < batch ? rows - at : batch;
        ferry_matrix part = {0};
        FERRY_TRY(ferry_read_rep(&part, a->job->query.file, a->rep, 0, FERRY_FLOAT, row + at, count));
        for (int64_t i = 0; i < count; i++)
            for (int64_t k = 0; k < width; k++)
                a->own[(a->cells + at + i) * width + k] = (double)part.f[i * part.dim + a->truth[a->gene[a->from + k]]];
        ferry_matrix_close(&part);
    }
    return FERRY_OK;
}

/* Local. */
static void spread(map_agreement *a, int64_t first, const ferry_rows *rows)
{
    const int64_t width = a->to - a->from;
    for (int64_t i = 0; i < rows->rows; i++) {
        double *to = a->imputed + (a->cells + i) * width;
        int64_t k = 0;
        memset(to, 0, (size_t)width * sizeof *to);
        a->cell[a->cells + i] = first + i;
        for (int64_t e = rows->indptr[i]; e < rows->indptr[i + 1]; e++) {
            while (k < width && a->gene[a->from + k] < rows->indices[e]) k++;
            if (k < width && a->gene[a->from + k] == rows->indices[e]) to[k] = (double)rows->values[e];
        }
    }
}

static ferry_status add(map_agreement *a, const int64_t *row, int64_t first, int64_t rows, const ferry_rows *imputed)
{
    FERRY_TRY(make_room(a, rows));
    FERRY_TRY(read_own(a, row, rows));
    spread(a, first, imputed);
    a->cells += rows;
    return FERRY_OK;
}

ferry_status map_agreement_rows(map_agreement *a, int64_t first, int64_t rows, const ferry_rows *imputed)
{
    FERRY_AUTO int64_t *row = NULL;
    FERRY_TRY(ferry_population_rows(&row, a->job->world, &a->job->query, rows ? first : 0, rows));
    return ferry_agree(a->job->world, add(a, row, first, rows, imputed));
}

static ferry_agreement method_of(const map_options *o)
{
    int method = FERRY_PEARSON;
    if (o->evaluate_method)
        (void)choice_find(&method, "--evaluate-method", "pearson|spearman|js|rmse", o->evaluate_method); /* checked */
    return (ferry_agreement)method;
}

ferry_status map_agreement_pass(map_agreement *a)
{
    FERRY_AUTO double *out = NULL;
    const int64_t width = a->to - a->from;
    const ferry_expression e = {a->own, a->imputed, a->cell, a->cells, width};
    FERRY_TRY(ferry_agree(a->job->world, ferry_alloc(&out, width)));
    FERRY_TRY(ferry_evaluate_expression(out, a->job->world, &e, method_of(a->job->o)));
    for (int64_t k = 0; k < width; k++) a->agreement[a->gene[a->from + k]] = out[k];
    a->from = a->to;
    a->to = a->job->diffused ? a->from : a->from + a->slab;
    if (a->to > a->shared) a->to = a->shared;
    a->cells = 0;
    return FERRY_OK;
}

ferry_status map_agreement_write(map_agreement *a)
{
    map_job *job = a->job;
    char name[64];
    const char *method = job->o->evaluate_method ? job->o->evaluate_method : "pearson";
    const int64_t genes = job->layer.count, mine = job->world->rank == 0 ? genes : 0;
    const double mean = ferry_agreement_mean(a->agreement, genes);
    (void)snprintf(name, sizeof name, "metric_%s", method);
    FERRY_TRY(ferry_output_column(job->output, "var", name, FERRY_F64, 0, mine, a->agreement));
    json *out = &job->program->figures;
    json_begin(out, "expression", '{');
    json_text(out, "method", method);
    json_count(out, "genes", a->shared);
    json_number(out, "mean", mean);
    json_end(out, '}');
    if (job->world->rank == 0 && !job->o->common.json)
        printf("%s %.4f, mean of %lld shared genes\n", method, mean, (long long)a->shared);
    return FERRY_OK;
}

void map_agreement_close(map_agreement *a)
{
    free(a->truth);
    free(a->gene);
    free(a->own);
    free(a->imputed);
    free(a->cell);
    free(a->agreement);
}

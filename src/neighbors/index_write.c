/* INDEX.h5, written. Every rank brings the lists of its share of the rows, in passes. */
#define _GNU_SOURCE /* realpath */
#include "index_file.h"
#include "mpi/log.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

static int64_t share(int64_t rows, const ferry_world *world, int part)
{
    return (int64_t)((__int128)rows * part / world->size);
}

/* ---- head ---- */

static ferry_status write_attributes(ferry_output *output, const ferry_lists *lists, const ferry_codes *codes)
{
    const ferry_quantizer *q = lists->quantizer;
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"version", codes ? 2 : 1},
                   {"dim", q->dim},
                   {"exact", lists->exact},
                   {"rows", (double)lists->rows},
                   {"lists", (double)lists->lists}};
    FERRY_TRY(ferry_output_attribute_text(output, "", "kind", "cellferry index"));
    FERRY_TRY(ferry_output_attribute_text(output, "", "metric", q->metric == FERRY_COSINE ? "cosine" : "euclidean"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        FERRY_TRY(ferry_output_attribute_number(output, "", numbers[i].name, numbers[i].value));
    if (codes) FERRY_TRY(ferry_output_attribute_number(output, "", "codes", codes->bytes));
    return FERRY_OK;
}

/* An array that every rank holds: each writes a share of its rows. */
static ferry_status write_shared(ferry_output *output, const ferry_world *world, const char *name, ferry_type type,
                                 int64_t rows, int64_t columns, const void *values)
{
    const int64_t first = share(rows, world, world->rank), count = share(rows, world, world->rank + 1) - first;
    const size_t element = type == FERRY_INT64 ? sizeof(int64_t) : sizeof(float);
    const size_t width = element * (size_t)(columns ? columns : 1);
    return ferry_output_array(output, name, type, rows, columns, first, count,
                              (const char *)values + (size_t)first * width);
}

static ferry_status write_head(ferry_output *output, const ferry_world *world, const ferry_lists *lists,
                               const ferry_codes *codes)
{
    const ferry_quantizer *q = lists->quantizer;
    const int64_t supers = q->super.count;
    FERRY_TRY(write_attributes(output, lists, codes));
    if (codes) FERRY_TRY(write_shared(output, world, "book", FERRY_F32, FERRY_WORDS, codes->dim, codes->book));
    FERRY_TRY(write_shared(output, world, "mean", FERRY_F32, q->dim, 0, q->mean));
    FERRY_TRY(write_shared(output, world, "centroids", FERRY_F32, lists->lists, q->dim, q->list.centre));
    FERRY_TRY(write_shared(output, world, "supers", FERRY_F32, supers, q->dim, q->super.centre));
    FERRY_TRY(write_shared(output, world, "children", FERRY_INT64, supers + 1, 0, q->child));
    FERRY_TRY(write_shared(output, world, "first", FERRY_INT64, lists->lists + 1, 0, lists->first));
    return write_shared(output, world, "radius", FERRY_F32, lists->lists, 0, lists->radius);
}

/* ---- rows ---- */

typedef struct pass {
    float *values, *distance;
    int64_t *cell;
    uint64_t fingerprint;   /* of the rows that went through it */
    ferry_encoder *encoder; /* NULL: the rows themselves are written */
    uint8_t *code;
    int bytes, threads;
} pass;

static ferry_status open_pass(pass *p, const ferry_quantizer *q, const ferry_codes *codes, int64_t batch)
{
    const int dim = q->dim;
    if (codes) {
        p->bytes = codes->bytes;
        FERRY_TRY(ferry_encoder_open(&p->encoder, codes, q));
        FERRY_TRY(ferry_alloc(&p->code, batch * codes->bytes));
    }
    FERRY_TRY(ferry_alloc(&p->values, batch * dim));
    FERRY_TRY(ferry_alloc(&p->distance, batch));
    return ferry_alloc(&p->cell, batch);
}

static void close_pass(pass *p)
{
    free(p->values);
    free(p->distance);
    free(p->cell);
    free(p->code);
    ferry_encoder_close(&p->encoder);
}

/* What of a part lies in rows first ... first + count, to its place in the pass. */
static ferry_status copy_part(pass *p, const ferry_list_part *part, int dim, int64_t first, int64_t count)
{
    const int64_t from = part->first > first ? part->first : first;
    const int64_t last = part->first + part->count < first + count ? part->first + part->count : first + count;
    const int64_t n = last - from, at = from - first, skip = from - part->first;
    if (!part->rows) return ferry_fail(FERRY_E_ARG, "lists without their rows cannot be stored");
    memcpy(p->values + at * dim, part->rows + skip * dim, (size_t)(n * dim) * sizeof *p->values);
    memcpy(p->distance + at, part->distance + skip, (size_t)n * sizeof *p->distance);
    for (int64_t i = 0; i < n; i++) {
        const ferry_matrix row = {.rows = 1, .dim = dim, .f = p->values + (at + i) * dim};
        p->cell[at + i] = part->cell[skip + i];
        p->fingerprint += ferry_fingerprint(&row, part->cell[skip + i]);
    }
    return FERRY_OK;
}

/* Local. Rows first ... first + count of list order. */
static ferry_status gather(pass *p, const ferry_lists *lists, int64_t first, int64_t count)
{
    if (count == 0) return FERRY_OK;
    for (int64_t list = ferry_lists_of_row(lists, first), row = first; row < first + count; list++) {
        for (; row < first + count && row < lists->first[list + 1];) {
            ferry_list_part part;
            FERRY_TRY(ferry_lists_take(&part, lists, list, (row - lists->first[list]) / FERRY_LIST_PART));
            const ferry_status status = copy_part(p, &part, lists->quantizer->dim, first, count);
            row = part.first + part.count;
            ferry_lists_drop(lists, &part);
            FERRY_TRY(status);
        }
    }
    return p->encoder ? ferry_encode(p->code, p->encoder, lists, p->values, first, count, p->threads) : FERRY_OK;
}

static ferry_status write_pass(ferry_output *output, const ferry_world *world, const ferry_lists *lists, pass *p,
                               int64_t first, int64_t count)
{
    FERRY_TRY(ferry_agree(world, gather(p, lists, first, count)));
    if (p->encoder)
        FERRY_TRY(ferry_output_rows(output, "rows/code", first, count, p->code));
    else
        FERRY_TRY(ferry_output_rows(output, "rows/values", first, count, p->values));
    FERRY_TRY(ferry_output_rows(output, "rows/cell", first, count, p->cell));
    return ferry_output_rows(output, "rows/distance", first, count, p->distance);
}

static ferry_status write_rows(ferry_output *output, const ferry_world *world, const ferry_lists *lists, pass *p,
                               int64_t batch)
{
    const int64_t begin = share(lists->rows, world, world->rank), end = share(lists->rows, world, world->rank + 1);
    const int64_t passes = ferry_max(world, (end - begin + batch - 1) / batch);
    FERRY_TRY(ferry_output_group(output, "rows", "dict", "0.1.0"));
    if (p->encoder)
        FERRY_TRY(ferry_output_create(output, "rows/code", FERRY_UINT8, lists->rows, p->bytes));
    else
        FERRY_TRY(ferry_output_create(output, "rows/values", FERRY_F32, lists->rows, lists->quantizer->dim));
    FERRY_TRY(ferry_output_create(output, "rows/cell", FERRY_INT64, lists->rows, 0));
    FERRY_TRY(ferry_output_create(output, "rows/distance", FERRY_F32, lists->rows, 0));
    for (int64_t k = 0; k < passes; k++) {
        const int64_t first = begin + k * batch < end ? begin + k * batch : end;
        FERRY_TRY(write_pass(output, world, lists, p, first, end - first < batch ? end - first : batch));
        ferry_progress(world, "writing the index", lists->rows * (k + 1) / passes, lists->rows, "cells", NULL);
    }
    return FERRY_OK;
}

ferry_status ferry_index_write_codes(uint64_t *fingerprint, ferry_output *output, const ferry_world *world,
                                     const ferry_lists *lists, const ferry_codes *codes, int64_t batch, int threads)
{
    pass p = {.threads = threads};
    const int64_t most = (lists->rows + world->size - 1) / world->size;
    if (batch > most) batch = most;
    if (batch < 1) batch = 1;
    FERRY_TRY(write_head(output, world, lists, codes));
    ferry_status status = ferry_agree(world, open_pass(&p, lists->quantizer, codes, batch));
    if (status == FERRY_OK) status = write_rows(output, world, lists, &p, batch);
    close_pass(&p);
    *fingerprint = (uint64_t)ferry_total(world, (int64_t)p.fingerprint);
    return status;
}

ferry_status ferry_index_write(uint64_t *fingerprint, ferry_output *output, const ferry_world *world,
                               const ferry_lists *lists, int64_t batch)
{
    return ferry_index_write_codes(fingerprint, output, world, lists, NULL, batch, 1);
}

/* ---- input ---- */

/* Local. The path with all folders; the path itself where it cannot be found. '@' marks a list of files. */
static void absolute(char out[PATH_MAX + 1], const char *path)
{
    char real[PATH_MAX];
    const int list = path[0] == '@';
    if (!realpath(path + list, real)) snprintf(real, sizeof real, "%s", path + list);
    snprintf(out, PATH_MAX + 1, "%s%s", list ? "@" : "", real);
}

static ferry_status join_where(char **text, const ferry_population_options *options)
{
    int64_t length = 1;
    for (int i = 0; i < options->filters; i++) length += (int64_t)strlen(options->where[i]) + 1;
    FERRY_TRY(ferry_alloc(text, length));
    char *at = *text;
    for (int i = 0; i < options->filters; i++) at += sprintf(at, "%s%s", i ? "\n" : "", options->where[i]);
    return FERRY_OK;
}

ferry_status ferry_index_write_input(ferry_output *output, const ferry_world *world, const ferry_population *population,
                                     uint64_t fingerprint)
{
    const ferry_population_options *options = &population->options;
    char whole[PATH_MAX + 1] = "", print[32] = "";
    FERRY_AUTO char *where = NULL;
    FERRY_TRY(ferry_agree(world, join_where(&where, options)));
    if (world->rank == 0) absolute(whole, options->path);
    if (fingerprint) snprintf(print, sizeof print, "%016llx", (unsigned long long)fingerprint);
    const char *texts[][3] = {{"", "rep", options->rep},
                              {"input", "path", options->path},
                              {"input", "absolute_path", whole},
                              {"input", "where", where},
                              {"input", "fingerprint", print}};
    FERRY_TRY(ferry_output_group(output, "input", "dict", "0.1.0"));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        FERRY_TRY(ferry_output_attribute_text(output, texts[i][0], texts[i][1], texts[i][2]));
    FERRY_TRY(ferry_output_attribute_number(output, "", "dims", options->dims));
    FERRY_TRY(ferry_output_attribute_number(output, "input", "cells", (double)population->cells));
    return ferry_output_attribute_number(output, "input", "file_cells", (double)ferry_file_cells(population->file));
}

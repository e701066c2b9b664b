/* inputs.c - see inputs.h. Blocks are read by every rank equally often: reading meets. */
#include "inputs.h"
#include <stdio.h>
#include <string.h>

ferry_status side_join(ferry_population_options *out, const char ***where, const char *path, const side_options *both,
                       const side_options *own)
{
    int filters = both->where.count + own->where.count;
    FERRY_TRY(ferry_alloc(where, filters + 1));
    for (int i = 0; i < both->where.count; i++) (*where)[i] = both->where.text[i];
    for (int i = 0; i < own->where.count; i++) (*where)[both->where.count + i] = own->where.text[i];
    int64_t dims = own->dims ? own->dims : both->dims;
    if (dims > INT32_MAX) return ferry_fail(FERRY_E_ARG, "--dims %lld is more than any matrix has", (long long)dims);
    *out = (ferry_population_options){.path = path,
                                      .rep = own->rep ? own->rep : both->rep,
                                      .dims = (int)dims,
                                      .where = *where,
                                      .filters = filters,
                                      .weights = own->weights};
    return FERRY_OK;
}

static int64_t block_rows(int64_t count, int64_t done, int64_t batch)
{
    return count - done < batch ? (count > done ? count - done : 0) : batch;
}

/* Local. */
static void copy_rows(ferry_matrix *out, const ferry_matrix *part, int64_t at)
{
    size_t width = (size_t)out->dim * (out->d ? sizeof *out->d : sizeof *out->f);
    char *to = out->d ? (char *)out->d : (char *)out->f;
    if (part->rows)
        memcpy(to + (size_t)at * width, part->d ? (const void *)part->d : (const void *)part->f,
               (size_t)part->rows * width);
}

ferry_status points_read(ferry_matrix *out, const ferry_world *world, const ferry_population *population, int64_t first,
                         int64_t count, int64_t batch, ferry_precision precision)
{
    if (ferry_max(world, count) <= batch)
        return ferry_population_points(out, world, population, first, count, precision, NULL);
    FERRY_TRY(ferry_agree(world, ferry_matrix_open(out, count, population->dim, precision)));
    int64_t blocks = ferry_max(world, (count + batch - 1) / batch), total = ferry_total(world, count);
    for (int64_t k = 0; k < blocks; k++) {
        int64_t at = k * batch < count ? k * batch : count, rows = block_rows(count, at, batch);
        ferry_matrix part = {0};
        ferry_status status = ferry_population_points(&part, world, population, first + at, rows, precision, NULL);
        if (status == FERRY_OK) copy_rows(out, &part, at);
        ferry_matrix_close(&part);
        FERRY_TRY(status);
        ferry_progress(world, "reading cells", total * (k + 1) / blocks, total, "cells", NULL);
        ferry_stage_sample();
    }
    return FERRY_OK;
}

ferry_status points_not_finite(int64_t *rows, const ferry_world *world, const ferry_population *population,
                               int64_t batch)
{
    int64_t first = population->cells * world->rank / world->size;
    int64_t count = population->cells * (world->rank + 1) / world->size - first, mine = 0;
    int64_t blocks = ferry_max(world, (count + batch - 1) / batch);
    for (int64_t k = 0; k < blocks; k++) {
        int64_t at = k * batch < count ? k * batch : count, bad = 0;
        ferry_matrix part = {0};
        ferry_status status = ferry_population_points(&part, world, population, first + at,
                                                      block_rows(count, at, batch), FERRY_FLOAT, &bad);
        ferry_matrix_close(&part);
        FERRY_TRY(status);
        mine += bad;
        ferry_progress(world, "looking for NaN", population->cells * (k + 1) / blocks, population->cells, "cells",
                       NULL);
    }
    *rows = ferry_total(world, mine);
    return FERRY_OK;
}

#define PROBED 512 /* rows that are read to see what a row costs */

ferry_status points_row_bytes(int64_t *bytes, const ferry_world *world, const ferry_population *cells)
{
    const int64_t first = cells->cells * world->rank / world->size;
    const int64_t rows = cells->cells * (world->rank + 1) / world->size - first, few = rows < PROBED ? rows : PROBED;
    const int64_t before = ferry_stages_here()->read_bytes;
    ferry_matrix part = {0};
    ferry_status status =
        ferry_population_points(&part, world, cells, first + (rows - few) / 2, few, FERRY_FLOAT, &(int64_t){0});
    ferry_matrix_close(&part);
    FERRY_TRY(status);
    const int64_t read = ferry_total(world, ferry_stages_here()->read_bytes - before), all = ferry_total(world, few);
    *bytes = all > 0 ? (read + all / 2) / all : 0;
    return FERRY_OK;
}

void input_record(json *out, const char *side, const ferry_population *population, uint64_t fingerprint)
{
    const ferry_population_options *o = &population->options;
    char hex[24];
    (void)snprintf(hex, sizeof hex, "%016llx", (unsigned long long)fingerprint);
    json_begin(out, NULL, '{');
    json_text(out, "side", side);
    json_text(out, "path", o->path);
    json_text(out, "rep", o->rep);
    json_count(out, "dims", o->dims);
    json_begin(out, "where", '[');
    for (int i = 0; i < o->filters; i++) json_text(out, NULL, o->where[i]);
    json_end(out, ']');
    json_text(out, "weights", o->weights);
    json_count(out, "cells", population->cells);
    json_count(out, "file_cells", ferry_file_cells(population->file));
    json_count(out, "dim", population->dim);
    json_text(out, "fingerprint", fingerprint ? hex : NULL);
    json_end(out, '}');
}

void input_print(const char *side, const ferry_population *population)
{
    const ferry_population_options *o = &population->options;
    printf("%-8s %s: %lld of %lld cells, %s (%d columns)\n", side, o->path, (long long)population->cells,
           (long long)ferry_file_cells(population->file), o->rep, population->dim);
    for (int i = 0; i < o->filters; i++)
        printf("         %s keeps %lld cells\n", o->where[i], (long long)population->selection.kept_by[i]);
}

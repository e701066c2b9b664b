/* Labels and numbers of the reference, carried to the queries (spec: CellMapper's map_obs and map_obsm).
 *
 *    Y = M Z,   M_ij = float32(K_ij / sum_j K_ij),   Z one column a class (0 or 1), or numbers
 *
 *  Row block by row block: the reference cells that a block touches are asked of their owners, each once; then every
 *  row is added up in the order of its cells, in float64. A label wins by its mass; of equals, the first in the order
 *  of the names' bytes, as a table whose columns are sorted would give. */
#include "transfer_impl.h"
#include "mpi/fetch.h"
#include "mpi/log.h"
#include <string.h>

#define FETCHED ((int64_t)64 << 20) /* bytes of numbers that are fetched at a time */

int64_t ferry_transfer_rows(const ferry_blocks *blocks, int rank, int size)
{
    int64_t rows = 0;
    for (int b = rank; b < blocks->count; b += size)
        rows += ferry_block_first(blocks, b + 1) - ferry_block_first(blocks, b);
    return rows;
}

/* ---- a block of M ---- */

void ferry_normalised(float *m, const ferry_weights_block *block)
{
    for (int64_t i = 0; i < block->rows; i++)
        for (int64_t e = block->indptr[i]; e < block->indptr[i + 1]; e++)
            m[e] = block->sum[i] > 0 ? (float)(block->weight[e] / block->sum[i]) : 0.0f;
}

/* slot [mask + 1] holds places + 1, 0: free. */
static void find_places(ferry_touched *t, const uint32_t *cell, int32_t *slot, uint32_t mask)
{
    for (int64_t e = 0; e < t->entries; e++) {
        uint32_t at = (uint32_t)((uint64_t)cell[e] * 0x9E3779B97F4A7C15U >> 32) & mask;
        while (slot[at] && t->cell[slot[at] - 1] != cell[e]) at = (at + 1) & mask;
        if (!slot[at]) {
            t->cell[t->distinct++] = cell[e];
            slot[at] = (int32_t)t->distinct;
        }
        t->place[e] = slot[at] - 1;
    }
}

ferry_status ferry_touched_open(ferry_touched *out, const int64_t *start, int64_t rows, const uint32_t *cell)
{
    FERRY_AUTO int32_t *slot = NULL;
    uint32_t room = 64;
    *out = (ferry_touched){.rows = rows, .start = start, .entries = rows ? start[rows] - start[0] : 0};
    if (out->entries >= (int64_t)1 << 30)
        return ferry_fail(FERRY_E_RUN,
                          "a block of %lld rows has %lld weights, more than one rank takes at a time: "
                          "lower -k, or use a kernel of one hop",
                          (long long)rows, (long long)out->entries);
    while (room < 2 * out->entries) room *= 2;
    FERRY_TRY(ferry_alloc(&slot, room));
    FERRY_TRY(ferry_alloc(&out->m, out->entries));
    FERRY_TRY(ferry_alloc(&out->place, out->entries));
    FERRY_TRY(ferry_alloc(&out->cell, out->entries));
    if (rows) find_places(out, cell + start[0], slot, room - 1);
    return FERRY_OK;
}

void ferry_touched_close(ferry_touched *touched)
{
    free(touched->m);
    free(touched->place);
    free(touched->cell);
    *touched = (ferry_touched){0};
}

static ferry_status touch(ferry_touched *out, const ferry_weights_block *block)
{
    FERRY_TRY(ferry_touched_open(out, block->indptr, block->rows, block->cell));
    ferry_normalised(out->m, block);
    return FERRY_OK;
}

/* ---- labels ---- */

typedef struct voting {
    const ferry_transfer_labels *labels;
    int64_t classes; /* categories, and the missing class */
    int32_t *order;  /* [classes] place of the class in the order of the names; the missing class is the last */
    int32_t fallback;
    double *mass;     /* [classes] of the row at hand */
    int32_t *touched; /* [classes] classes of the row at hand, each once */
} voting;

/* Results of a block. */
typedef struct ballot {
    int32_t *code, *seen; /* [rows]; [distinct] codes of the touched cells */
    float *confidence;
    int64_t *indptr, *indices;
    float *values;
} ballot;

static void voting_close(voting *v)
{
    free(v->order);
    free(v->mass);
    free(v->touched);
}

static void ballot_close(ballot *b)
{
    free(b->code);
    free(b->seen);
    free(b->confidence);
    free(b->indptr);
    free(b->indices);
    free(b->values);
}

static const ferry_names *sorted_names; /* for qsort; ranks are processes, and threads do not come here */

static int by_name(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    const int order = strcmp(ferry_name(sorted_names, x), ferry_name(sorted_names, y));
    return order ? order : (x > y) - (x < y);
}

/* Local. */
static ferry_status voting_open(voting *v, const ferry_transfer_labels *labels)
{
    FERRY_AUTO int32_t *sorted = NULL;
    const int64_t categories = labels->categories->count;
    *v = (voting){.labels = labels, .classes = categories + 1, .fallback = -1};
    FERRY_TRY(ferry_alloc(&sorted, v->classes));
    FERRY_TRY(ferry_alloc(&v->order, v->classes));
    FERRY_TRY(ferry_alloc(&v->mass, v->classes));
    FERRY_TRY(ferry_alloc(&v->touched, v->classes));
    for (int32_t c = 0; c < v->classes; c++) sorted[c] = c;
    sorted_names = labels->categories;
    qsort(sorted, (size_t)categories, sizeof *sorted, by_name);
    for (int32_t i = 0; i < v->classes; i++) {
        v->order[sorted[i]] = i;
        if (v->fallback < 0 && i < categories && (!labels->kept || labels->kept[sorted[i]])) v->fallback = sorted[i];
    }
    return FERRY_OK;
}

int32_t ferry_transfer_class(const ferry_transfer_labels *labels, int32_t code)
{
    if (code < 0) return labels->drop_missing || labels->kept ? -1 : (int32_t)labels->categories->count;
    return labels->kept && !labels->kept[code] ? -1 : code;
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Masses of one row -> its winner, and its classes as a sparse row. */
static void settle(voting *v, ballot *out, int64_t row, int64_t classes)
{
    int32_t best = v->fallback;
    double most = 0;
    int64_t to = out->indptr[row];
    qsort(v->touched, (size_t)classes, sizeof *v->touched, ascending);
    for (int64_t i = 0; i < classes; i++) {
        const int32_t c = v->touched[i];
        const double mass = v->mass[c];
        v->mass[c] = 0;
        if (!(mass > 0)) continue;
        out->indices[to] = c;
        out->values[to++] = (float)mass;
        if (mass < most || (mass == most && v->order[c] > v->order[best])) continue;
        best = c;
        most = mass;
    }
    out->code[row] = best == v->classes - 1 ? -1 : best;
    out->confidence[row] = (float)most;
    out->indptr[row + 1] = to;
}

/* Local. */
static void vote(voting *v, ballot *out, const ferry_touched *t)
{
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t classes = 0;
        for (int64_t e = t->start[i]; e < t->start[i + 1]; e++) {
            const int32_t c = ferry_transfer_class(v->labels, out->seen[t->place[e]]);
            if (c < 0 || t->m[e] == 0) continue;
            if (v->mass[c] == 0) v->touched[classes++] = c;
            v->mass[c] += (double)t->m[e];
        }
        settle(v, out, i, classes);
    }
}

/* Local. */
static ferry_status ballot_open(ballot *out, const ferry_touched *t)
{
    FERRY_TRY(ferry_alloc(&out->code, t->rows));
    FERRY_TRY(ferry_alloc(&out->seen, t->distinct));
    FERRY_TRY(ferry_alloc(&out->confidence, t->rows));
    FERRY_TRY(ferry_alloc(&out->indptr, t->rows + 1));
    FERRY_TRY(ferry_alloc(&out->indices, t->entries));
    return ferry_alloc(&out->values, t->entries);
}

static ferry_status open_block(ferry_touched *touched, ballot *out, const ferry_weights_block *block)
{
    FERRY_TRY(touch(touched, block));
    return ballot_open(out, touched);
}

/* Collective. */
static ferry_status labels_round(voting *v, ferry_touched *touched, ballot *out, ferry_weights *weights,
                                 const ferry_world *world, int64_t round, ferry_labels_taker take, void *self)
{
    ferry_weights_block block;
    FERRY_TRY(ferry_weights_take(&block, weights, world, round));
    FERRY_TRY(ferry_agree(world, open_block(touched, out, &block)));
    FERRY_TRY(ferry_fetch(out->seen, world, v->labels->first, v->labels->code, sizeof *out->seen, touched->cell,
                          touched->distinct));
    vote(v, out, touched);
    const ferry_rows rows = {block.rows, out->indptr, out->indices, out->values};
    return take(self, block.first, block.rows, out->code, out->confidence, &rows);
}

ferry_status ferry_transfer_categories(ferry_weights *weights, const ferry_world *world,
                                       const ferry_transfer_labels *labels, ferry_labels_taker take, void *self)
{
    voting v = {0};
    ferry_status status = ferry_agree(world, voting_open(&v, labels));
    for (int64_t round = 0; status == FERRY_OK && round < weights->rounds; round++) {
        ferry_touched touched = {0};
        ballot out = {0};
        status = labels_round(&v, &touched, &out, weights, world, round, take, self);
        ballot_close(&out);
        ferry_touched_close(&touched);
        ferry_progress(world, "labels", (round + 1) * weights->rows / weights->rounds, weights->rows, "cells", NULL);
    }
    voting_close(&v);
    return status;
}

ferry_status ferry_transfer_decide(int32_t *code, float *confidence, const double *mass, int64_t rows,
                                   const ferry_transfer_labels *labels)
{
    voting v = {0};
    ferry_status status = voting_open(&v, labels);
    for (int64_t i = 0; i < rows && status == FERRY_OK; i++) {
        const double *row = mass + i * v.classes;
        int32_t best = v.fallback;
        double most = 0;
        for (int32_t c = 0; c < v.classes; c++) {
            if (!(row[c] > 0) || row[c] < most || (row[c] == most && v.order[c] > v.order[best])) continue;
            best = c;
            most = row[c];
        }
        code[i] = best == v.classes - 1 ? -1 : best;
        confidence[i] = (float)most;
    }
    voting_close(&v);
    return status;
}

/* ---- numbers ---- */

/* Local. Rows of M times the fetched rows. */
static void multiply(double *out, const ferry_touched *t, const double *fetched, int64_t width)
{
    for (int64_t i = 0; i < t->rows; i++) {
        double *row = out + i * width;
        for (int64_t e = t->start[i]; e < t->start[i + 1]; e++) {
            const double m = (double)t->m[e - t->start[0]];
            const double *z = fetched + t->place[e - t->start[0]] * width;
            for (int64_t k = 0; k < width; k++) row[k] += m * z[k];
        }
    }
}

/* Local. Part of a block. */
static ferry_status open_part(ferry_touched *touched, double **fetched, const ferry_weights_block *block,
                              const float *m, int64_t first, int64_t end, int64_t width)
{
    FERRY_TRY(ferry_touched_open(touched, block->indptr + first, end - first, block->cell));
    if (end > first) memcpy(touched->m, m + block->indptr[first], (size_t)touched->entries * sizeof *m);
    return ferry_alloc(fetched, touched->distinct * width);
}

/* Collective. Rows first ... end of the block. */
static ferry_status numbers_part(double *out, const ferry_world *world, const ferry_transfer_values *values,
                                 const ferry_weights_block *block, const float *m, int64_t first, int64_t end)
{
    FERRY_AUTO double *fetched = NULL;
    ferry_touched touched = {0};
    const ferry_status opened = open_part(&touched, &fetched, block, m, first, end, values->width);
    ferry_status status = ferry_agree(world, opened);
    if (status == FERRY_OK && opened == FERRY_OK)
        status = ferry_fetch(fetched, world, values->first, values->value, (size_t)values->width * sizeof *fetched,
                             touched.cell, touched.distinct);
    if (status == FERRY_OK && opened == FERRY_OK)
        multiply(out + first * values->width, &touched, fetched, values->width);
    ferry_touched_close(&touched);
    return status;
}

static ferry_status open_numbers(double **out, float **m, const ferry_weights_block *block, int64_t width)
{
    FERRY_TRY(ferry_alloc(out, block->rows * width));
    FERRY_TRY(ferry_alloc(m, block->rows ? block->indptr[block->rows] : 0));
    ferry_normalised(*m, block);
    return FERRY_OK;
}

/* Collective. */
static ferry_status numbers_round(ferry_weights *weights, const ferry_world *world, const ferry_transfer_values *values,
                                  int64_t round, ferry_values_taker take, void *self)
{
    FERRY_AUTO double *out = NULL;
    FERRY_AUTO float *m = NULL;
    ferry_weights_block block;
    FERRY_TRY(ferry_weights_take(&block, weights, world, round));
    const ferry_status opened = open_numbers(&out, &m, &block, values->width);
    FERRY_TRY(ferry_agree(world, opened));
    FERRY_TRY(opened); /* agreed; told to the analyser too */
    const int64_t bytes = block.rows ? block.indptr[block.rows] * values->width * (int64_t)sizeof *out : 0;
    const int64_t parts = 1 + ferry_max(world, bytes) / FETCHED;
    for (int64_t p = 0; p < parts; p++)
        FERRY_TRY(numbers_part(out, world, values, &block, m, block.rows * p / parts, block.rows * (p + 1) / parts));
    return take(self, block.first, block.rows, values->width, out);
}

ferry_status ferry_transfer_numbers(ferry_weights *weights, const ferry_world *world,
                                    const ferry_transfer_values *values, ferry_values_taker take, void *self)
{
    for (int64_t round = 0; round < weights->rounds; round++) {
        FERRY_TRY(numbers_round(weights, world, values, round, take, self));
        ferry_progress(world, "values", (round + 1) * weights->rows / weights->rounds, weights->rows, "cells", NULL);
    }
    return FERRY_OK;
}

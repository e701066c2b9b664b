/* Points from a population's file, or from rows that the ranks hold: then ranges are sent by their owners. */
#include "points.h"
#include "mpi/exchange.h"
#include "mpi/memory.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static ferry_status read_population(void *self, ferry_matrix *out, const ferry_world *world, int64_t first,
                                    int64_t count)
{
    return ferry_population_points(out, world, self, first, count, FERRY_FLOAT, NULL);
}

void ferry_points_of(ferry_points *out, ferry_population *population)
{
    *out =
        (ferry_points){.cells = population->cells, .dim = population->dim, .read = read_population, .self = population};
    const char *rep = population->options.rep ? population->options.rep : "";
    snprintf(out->name, sizeof out->name, "%s: %s%s", ferry_file_path(population->file),
             strchr(rep, '/') || !strcmp(rep, "X") ? "" : "obsm/", rep);
}

/* --- held rows --- */

/* One reading: who wants which rows, and what goes where. */
typedef struct wish {
    int64_t *range;       /* [size][2] first, count of every rank */
    int64_t *counts;      /* [size] 2 for every rank */
    int64_t *sent, *come; /* [size] rows to and from every rank */
    float *send;          /* [rows to all ranks][dim] */
    const ferry_points_shard *own;
    int64_t cells;
} wish;

static void close_wish(wish *w)
{
    free(w->range);
    free(w->counts);
    free(w->sent);
    free(w->come);
    free(w->send);
}

static int64_t overlap(int64_t a, int64_t a_end, int64_t b, int64_t b_end)
{
    const int64_t low = a > b ? a : b, high = a_end < b_end ? a_end : b_end;
    return high > low ? high - low : 0;
}

/* Local. */
static ferry_status open_wish(wish *w, ferry_matrix *out, const ferry_world *world, int64_t first, int64_t count)
{
    if (first < 0 || count < 0 || first + count > w->cells)
        return ferry_fail(FERRY_E_ARG, "%s: no cells %lld ... %lld of %lld", w->own->name, (long long)first,
                          (long long)(first + count), (long long)w->cells);
    FERRY_TRY(ferry_alloc(&w->range, 2 * (int64_t)world->size));
    FERRY_TRY(ferry_alloc(&w->counts, world->size));
    FERRY_TRY(ferry_alloc(&w->sent, world->size));
    FERRY_TRY(ferry_alloc(&w->come, world->size));
    for (int r = 0; r < world->size; r++) w->counts[r] = 2;
    return ferry_matrix_open(out, count, w->own->dim, FERRY_FLOAT);
}

/* Local. What every rank wants of this rank's rows, packed in rank order. */
static ferry_status pack_wishes(wish *w, const ferry_world *world, int64_t first, int64_t count)
{
    const int64_t *own = w->own->firsts, mine = own[world->rank], end = own[world->rank + 1];
    const int dim = w->own->dim;
    int64_t total = 0, at = 0;
    for (int r = 0; r < world->size; r++) {
        const int64_t *range = w->range + 2 * (int64_t)r;
        w->come[r] = overlap(first, first + count, own[r], own[r + 1]);
        total += w->sent[r] = overlap(range[0], range[0] + range[1], mine, end);
    }
    FERRY_TRY(ferry_alloc(&w->send, total * dim));
    for (int r = 0; r < world->size; r++) {
        const int64_t from = w->range[2 * (int64_t)r] > mine ? w->range[2 * (int64_t)r] : mine;
        if (!w->sent[r]) continue;
        memcpy(w->send + at * dim, w->own->values + (from - mine) * dim, (size_t)(w->sent[r] * dim) * sizeof *w->send);
        at += w->sent[r];
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status check_finite(const char *name, const ferry_matrix *rows, int64_t first)
{
    int64_t at;
    const int64_t bad = ferry_matrix_nonfinite(&at, rows);
    if (!bad) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: cell %lld has NaN or infinity, and so have %lld cells in all; drop them", name,
                      (long long)(first + at), (long long)bad);
}

/* Collective. */
static ferry_status exchange_held(wish *w, ferry_matrix *out, const ferry_world *world, int64_t first, int64_t count)
{
    const int64_t range[2] = {first, count};
    FERRY_TRY(ferry_agree(world, open_wish(w, out, world, first, count)));
    if (world->size == 1) {
        const int64_t dim = w->own->dim;
        memcpy(out->f, w->own->values + first * dim, (size_t)(count * dim) * sizeof *out->f);
        return ferry_agree(world, check_finite(w->own->name, out, first));
    }
    ferry_gather_all(world, range, w->counts, w->range, sizeof *range);
    FERRY_TRY(ferry_agree(world, pack_wishes(w, world, first, count)));
    ferry_exchange(world, w->send, w->sent, out->f, w->come, (size_t)w->own->dim * sizeof(float));
    return ferry_agree(world, check_finite(w->own->name, out, first));
}

static ferry_status read_held(void *self, ferry_matrix *out, const ferry_world *world, int64_t first, int64_t count)
{
    const ferry_points_shard *shard = self;
    wish w = {.own = shard, .cells = shard->firsts[world->size]};
    *out = (ferry_matrix){0};
    ferry_status status = exchange_held(&w, out, world, first, count);
    close_wish(&w);
    if (status != FERRY_OK) ferry_matrix_close(out);
    return status;
}

void ferry_points_held(ferry_points *out, ferry_points_shard *shard, int64_t cells, int dim, const char *name)
{
    *out = (ferry_points){.cells = cells, .dim = dim, .read = read_held, .self = shard};
    snprintf(out->name, sizeof out->name, "%s", name);
    shard->dim = dim;
    shard->name = name;
}

/* Presence of every reference cell among the queries (spec: CellMapper's compute_presence_score).
 *
 *    p_jg = sum over queries i of group g of K_ij,   K the gauss kernel, not normalised
 *
 *  then log(1 + p), clipped to two percentiles, scaled to [0, 1]; each column on its own. Weights travel to the rank
 *  that holds cell j and are added there in the order of the query rows: rounds come in ascending rows, and what comes
 *  in a round lies in the order of the ranks, whose rows are consecutive. So no number of ranks changes a bit. */
#include "transfer.h"
#include "mpi/fetch.h"
#include "mpi/log.h"
#include <math.h>
#include <stdlib.h>

typedef struct parcel {
    double weight;
    int64_t group;
} parcel;

/* Local. The weights of a block that count, with their cells. group: of the block's rows, or NULL. */
static ferry_status pack(int64_t **key, parcel **payload, int64_t *count, const ferry_weights_block *block,
                         const int32_t *group)
{
    const int64_t entries = block->rows ? block->indptr[block->rows] : 0;
    FERRY_TRY(ferry_alloc(key, entries));
    FERRY_TRY(ferry_alloc(payload, entries));
    for (int64_t i = 0; i < block->rows; i++) {
        if (group && group[i] < 0) continue;
        for (int64_t e = block->indptr[i]; e < block->indptr[i + 1]; e++) {
            (*key)[*count] = block->cell[e];
            (*payload)[(*count)++] = (parcel){block->weight[e], group ? group[i] : 0};
        }
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status add_round(double *score, int64_t *rows_done, ferry_weights *gauss, const ferry_world *world,
                              int64_t round, const int64_t *first, const int32_t *group, int64_t groups)
{
    FERRY_AUTO int64_t *key = NULL;
    FERRY_AUTO parcel *payload = NULL;
    FERRY_AUTO int64_t *keys = NULL;
    FERRY_AUTO void *came = NULL;
    int64_t count = 0, received = 0;
    ferry_weights_block block;
    FERRY_TRY(ferry_weights_take(&block, gauss, world, round));
    FERRY_TRY(ferry_agree(world, pack(&key, &payload, &count, &block, group ? group + *rows_done : NULL)));
    FERRY_TRY(ferry_deliver(&keys, &came, &received, world, first, key, payload, sizeof *payload, count));
    const parcel *it = came;
    for (int64_t e = 0; e < received; e++) score[(keys[e] - first[world->rank]) * groups + it[e].group] += it[e].weight;
    *rows_done += block.rows;
    return FERRY_OK;
}

ferry_status ferry_presence(double **score, ferry_weights *gauss, const ferry_world *world, const int64_t *first,
                            const int32_t *group, int64_t groups)
{
    int64_t rows_done = 0;
    *score = NULL;
    ferry_status status =
        ferry_agree(world, ferry_alloc(score, (first[world->rank + 1] - first[world->rank]) * groups));
    for (int64_t round = 0; status == FERRY_OK && round < gauss->rounds; round++) {
        status = add_round(*score, &rows_done, gauss, world, round, first, group, groups);
        ferry_progress(world, "presence", (round + 1) * gauss->rows / gauss->rounds, gauss->rows, "cells", NULL);
    }
    if (status == FERRY_OK) return FERRY_OK;
    free(*score);
    *score = NULL;
    return status;
}

/* Collective. Smallest and largest of a column; +inf, -inf when there are no rows. */
static void range(double *least, double *most, const ferry_world *world, const double *score, int64_t rows,
                  int64_t stride)
{
    double mine[2] = {-INFINITY, -INFINITY};
    for (int64_t i = 0; i < rows; i++) {
        mine[0] = fmax(mine[0], -score[i * stride]);
        mine[1] = fmax(mine[1], score[i * stride]);
    }
    ferry_max_doubles(world, mine, 2);
    *least = -mine[0];
    *most = mine[1];
}

/* Collective. One column. */
static ferry_status finish_column(double *score, const ferry_world *world, int64_t rows, int64_t stride, bool logarithm,
                                  double low, double high, bool minmax)
{
    if (logarithm)
        for (int64_t i = 0; i < rows; i++) score[i * stride] = log1p(score[i * stride]);
    if (low > 0 || high < 100) {
        double floor, ceiling;
        FERRY_TRY(ferry_percentile(&floor, world, score, rows, stride, low));
        FERRY_TRY(ferry_percentile(&ceiling, world, score, rows, stride, high));
        for (int64_t i = 0; i < rows; i++) score[i * stride] = fmin(fmax(score[i * stride], floor), ceiling);
    }
    if (!minmax) return FERRY_OK;
    double least, most;
    range(&least, &most, world, score, rows, stride);
    for (int64_t i = 0; i < rows; i++)
        score[i * stride] = most > least ? (score[i * stride] - least) / (most - least) : 0;
    return FERRY_OK;
}

ferry_status ferry_presence_finish(double *score, const ferry_world *world, int64_t rows, int64_t groups,
                                   bool logarithm, double low, double high, bool minmax)
{
    const double limit[2] = {low, high};
    FERRY_TRY(ferry_same(world, "percentiles of the presence", limit, sizeof limit));
    if (!(low >= 0 && low <= high && high <= 100))
        return ferry_fail(FERRY_E_ARG, "percentiles %g,%g: two numbers from 0 to 100, the smaller one first", low,
                          high);
    for (int64_t g = 0; g < groups; g++)
        FERRY_TRY(finish_column(score + g, world, rows, groups, logarithm, low, high, minmax));
    return FERRY_OK;
}

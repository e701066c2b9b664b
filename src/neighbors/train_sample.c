/* The sample of training: how many rows, which ones, read, and centred on their mean (float64 sums by canonical blocks
 * of the sample, reduce.h). */
#include "mpi/log.h"
#include "mpi/reduce.h"
#include "math/random.h"
#include "train_impl.h"
#include <math.h>
#include <string.h>

#define LEAST_SAMPLE 4 /* rows for each list that memory has to hold */
#define READ_BYTES   ((int64_t)4 << 20)

/* --- sizes --- */

/* Bytes of one row of the sample at the largest: sent, and received. */
static int64_t row_bytes(int dim)
{
    return 2 * (dim * (int64_t)sizeof(float) + (int64_t)sizeof(int32_t) + (int64_t)sizeof(int64_t));
}
/* Beside the rows: the room of one thread for a super-cell of twice the mean, and a block that is read. */
static int64_t fixed_bytes(int64_t lists, int dim, int64_t sample, int threads)
{
    const int64_t supers = ferry_supers_wanted(lists), first = supers * SUPER_SAMPLE;
    const int64_t cell = 2 * sample / supers, most = 2 * lists / supers + 1;
    const int64_t level_1 = ferry_lloyd_bytes(first < sample ? first : sample, (int)supers, dim);
    const int64_t level_2 = threads * ferry_lloyd_bytes(cell < sample ? cell : sample, (int)most, dim);
    return (level_1 > level_2 ? level_1 : level_2) + READ_BYTES + 2 * lists * dim * (int64_t)sizeof(float);
}

int64_t ferry_train_bytes(int64_t lists, int dim, int64_t sample, int ranks)
{
    return (sample + ranks - 1) / ranks * row_bytes(dim) + fixed_bytes(lists, dim, sample, 1);
}

ferry_status ferry_training_sizes(ferry_training *t)
{
    const int64_t cells = t->points->cells, memory = t->options.memory;
    if (cells < 1 || t->dim < 1)
        return ferry_fail(FERRY_E_ARG, "%s: no points (%lld cells, width %d)", t->points->name, (long long)cells,
                          t->dim);
    if (t->options.lists < 0 || t->options.sample < 0 || t->options.steps < 0)
        return ferry_fail(FERRY_E_ARG, "no training of %lld lists on %lld rows each in %d steps",
                          (long long)t->options.lists, (long long)t->options.sample, t->options.steps);
    if (!t->options.lists) t->options.lists = ferry_lists_wanted(cells);
    if (!t->options.sample) t->options.sample = 64;
    if (t->options.threads < 1) t->options.threads = 1;
    t->lists = t->options.lists < cells ? t->options.lists : cells;
    if (t->lists >= INT32_MAX - COLUMNS)
        return ferry_fail(FERRY_E_ARG, "%lld lists are too many: at most 2^31", (long long)t->lists);
    if (__builtin_mul_overflow(t->options.sample, t->lists, &t->sample) || t->sample > cells) t->sample = cells;
    if (memory <= 0) return FERRY_OK;
    const int64_t left = memory - fixed_bytes(t->lists, t->dim, t->sample, t->options.threads);
    const int64_t fits = left > 0 ? left / row_bytes(t->dim) * t->world->size : 0, least = LEAST_SAMPLE * t->lists;
    if (fits >= t->sample) return FERRY_OK;
    if (fits < (least < t->sample ? least : t->sample)) {
        char text[32], has[32];
        const int64_t bytes =
            ferry_train_bytes(t->lists, t->dim, least < t->sample ? least : t->sample, t->world->size);
        return ferry_fail(FERRY_E_PLAN,
                          "training of %lld lists needs %s per rank at least and may take %s: lower --lists, or raise "
                          "--memory",
                          (long long)t->lists, ferry_size_text(text, (double)bytes),
                          ferry_size_text(has, (double)memory));
    }
    ferry_log(t->world, t->world->rank ? FERRY_DEBUG : FERRY_WARN,
              "%lld lists are trained on %lld cells instead of %lld, which fit in the memory limit",
              (long long)t->lists, (long long)fits, (long long)t->sample);
    t->sample = fits;
    return FERRY_OK;
}

/* --- the sample --- */

/* First cell of run i: floor(i cells / sample). */
static int64_t run_first(const ferry_training *t, int64_t i)
{
    const int64_t cells = t->points->cells;
    return i * (cells / t->sample) + i * (cells % t->sample) / t->sample;
}
static int64_t cell_of(const ferry_training *t, int64_t i)
{
    const int64_t low = run_first(t, i), length = run_first(t, i + 1) - low;
    return low + (int64_t)(ferry_random(t->options.seed, (uint64_t)i) * (double)length);
}

/* Local. Rows of the sample within a block of cells are kept. */
static ferry_status keep_sampled(ferry_training *t, const ferry_matrix *block, int64_t first, int64_t *next)
{
    const int64_t mine = t->shards.first[t->world->rank];
    for (; *next < t->rows; ++*next) {
        const int64_t cell = cell_of(t, mine + *next);
        if (cell >= first + block->rows) return FERRY_OK;
        float *to = t->row + *next * t->dim;
        if (!ferry_prepare_row(to, block->f + (cell - first) * t->dim, NULL, t->dim, t->metric))
            return ferry_fail(FERRY_E_ARG,
                              "%s: cell %lld has length 0, so no angle to others: drop such cells, or use --metric "
                              "euclidean",
                              t->points->name, (long long)cell);
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status open_sample(ferry_training *t)
{
    FERRY_TRY(ferry_shards_open(&t->shards, t->sample, FERRY_SOURCE_UNIT, t->world->size));
    t->rows = t->shards.first[t->world->rank + 1] - t->shards.first[t->world->rank];
    return ferry_alloc(&t->row, t->rows * t->dim);
}

/* Collective. Every rank reads the cells of its part of the sample, block by block. */
static ferry_status read_sample(ferry_training *t)
{
    FERRY_TRY(ferry_agree(t->world, open_sample(t)));
    const int64_t mine = t->shards.first[t->world->rank];
    const int64_t begin = run_first(t, mine), end = run_first(t, mine + t->rows);
    int64_t block = READ_BYTES / (t->dim * (int64_t)sizeof(float)), next = 0;
    block = block < 1 ? 1 : block;
    const int64_t rounds = ferry_max(t->world, (end - begin + block - 1) / block);
    for (int64_t round = 0; round < rounds; round++) {
        const int64_t from = begin + round * block < end ? begin + round * block : end;
        const int64_t to = from + block < end ? from + block : end;
        ferry_matrix rows = {0};
        FERRY_TRY(t->points->read(t->points->self, &rows, t->world, from, to - from));
        const ferry_status status = keep_sampled(t, &rows, from, &next);
        ferry_matrix_close(&rows);
        FERRY_TRY(ferry_agree(t->world, status));
    }
    return FERRY_OK;
}

/* Local. Sums of the blocks of this rank. */
static ferry_status sum_rows(ferry_training *t, ferry_forest **forest)
{
    const ferry_shards *s = &t->shards;
    FERRY_TRY(ferry_alloc(&t->mean, t->dim));
    FERRY_TRY(ferry_forest_open(forest, t->dim, s->blocks.count, FERRY_JOIN_SUM));
    for (int b = s->block[t->world->rank]; b < s->block[t->world->rank + 1]; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, *forest));
        for (int64_t i = ferry_block_first(&s->blocks, b); i < ferry_block_first(&s->blocks, b + 1); i++) {
            const float *row = t->row + (i - s->first[t->world->rank]) * t->dim;
            for (int k = 0; k < t->dim; k++) leaf[k] += (double)row[k];
        }
        ferry_forest_add(*forest, b);
    }
    return FERRY_OK;
}

/* Collective. The mean, and the rows centred on it. */
static ferry_status centre_sample(ferry_training *t)
{
    ferry_forest *forest = NULL;
    FERRY_AUTO double *sums = NULL;
    ferry_status status = ferry_alloc(&sums, t->dim);
    if (status == FERRY_OK) status = sum_rows(t, &forest);
    status = ferry_agree(t->world, status);
    if (status == FERRY_OK) status = ferry_forest_reduce(sums, forest, t->world, FERRY_REDUCE_TREE);
    ferry_forest_close(&forest);
    FERRY_TRY(status);
    for (int k = 0; k < t->dim; k++) t->mean[k] = (float)(sums[k] / (double)t->sample);
    for (int64_t i = 0; i < t->rows; i++)
        for (int k = 0; k < t->dim; k++) t->row[i * t->dim + k] -= t->mean[k];
    return FERRY_OK;
}

ferry_status ferry_training_sample(ferry_training *training)
{
    FERRY_TRY(read_sample(training));
    return centre_sample(training);
}

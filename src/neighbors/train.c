/* Two-level k-means on a sample: tens of times cheaper than one level at equal quality.
 *
 * The sample: the cells are cut into as many equal runs as rows are wanted, and of each run one row is taken, chosen by
 * counting. Level 1 finds super-cells on a few of these rows, on rank 0. Every row of the sample goes to the rank that
 * its super-cell is dealt to, which finds the super-cell's lists; their number is proportional to its rows. Rows of a
 * super-cell are in the order of the cells whatever the number of ranks, so the centroids are the same. */
#include "mpi/exchange.h"
#include "mpi/log.h"
#include "mpi/reduce.h"
#include "mpi/stage.h"
#include "math/random.h"
#include "quantizer_impl.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define SUPER_SAMPLE 128 /* rows of level 1 for each super-cell */
#define STEPS        10  /* k-means steps of each level, when not said */
#define LEAST_SAMPLE 4   /* rows for each list that memory has to hold */
#define READ_BYTES   ((int64_t)4 << 20)

typedef struct training {
    const ferry_world *world;
    const ferry_points *points;
    ferry_search_metric metric;
    const ferry_kernels *kernels;
    ferry_train_options options; /* defaults filled in */
    int dim;
    int64_t lists, sample; /* wanted lists; rows of the sample */
    ferry_shards shards;   /* of the sample */
    int64_t rows;          /* of it on this rank; later those of its super-cells */
    float *row;            /* [rows][dim] prepared */
    int32_t *cell;         /* [rows] super-cell */
    float *mean;           /* [dim] */
    int supers;
    float *super;       /* [supers][dim] */
    int64_t *weight;    /* [supers] rows */
    int64_t *share;     /* [supers] lists wanted */
    int32_t *owner;     /* [supers] rank */
    int64_t *found;     /* [supers] lists found */
    double *distortion; /* [supers] */
    float *centre;      /* [lists of this rank's super-cells][dim]; on rank 0 later all */
} training;

static void close_training(training *t)
{
    ferry_shards_close(&t->shards);
    free(t->row);
    free(t->cell);
    free(t->mean);
    free(t->super);
    free(t->weight);
    free(t->share);
    free(t->owner);
    free(t->found);
    free(t->distortion);
    free(t->centre);
}

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

/* Local. */
static ferry_status choose_sizes(training *t)
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
static int64_t run_first(const training *t, int64_t i)
{
    const int64_t cells = t->points->cells;
    return i * (cells / t->sample) + i * (cells % t->sample) / t->sample;
}
static int64_t cell_of(const training *t, int64_t i)
{
    const int64_t low = run_first(t, i), length = run_first(t, i + 1) - low;
    return low + (int64_t)(ferry_random(t->options.seed, (uint64_t)i) * (double)length);
}

/* Local. Rows of the sample within a block of cells are kept. */
static ferry_status keep_sampled(training *t, const ferry_matrix *block, int64_t first, int64_t *next)
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
static ferry_status open_sample(training *t)
{
    FERRY_TRY(ferry_shards_open(&t->shards, t->sample, FERRY_SOURCE_UNIT, t->world->size));
    t->rows = t->shards.first[t->world->rank + 1] - t->shards.first[t->world->rank];
    return ferry_alloc(&t->row, t->rows * t->dim);
}

/* Collective. Every rank reads the cells of its part of the sample, block by block. */
static ferry_status read_sample(training *t)
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
static ferry_status sum_rows(training *t, ferry_forest **forest)
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
static ferry_status centre_sample(training *t)
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

/* --- level 1 --- */

/* Rows of level 1: row i of `count` is row floor(i sample / count) of the sample. */
typedef struct few {
    int64_t count, mine;
    float *row, *all; /* of this rank; of all ranks, on rank 0 */
    int64_t *counts;  /* [size] */
} few;

static void close_few(few *f)
{
    free(f->row);
    free(f->all);
    free(f->counts);
}

/* Local. */
static ferry_status pick_few(few *f, training *t, int64_t wanted)
{
    const int64_t first = t->shards.first[t->world->rank];
    FERRY_TRY(ferry_alloc(&t->super, wanted * t->dim));
    f->count = wanted * SUPER_SAMPLE < t->sample ? wanted * SUPER_SAMPLE : t->sample;
    FERRY_TRY(ferry_alloc(&f->counts, t->world->size));
    for (int64_t i = 0, r = 0; i < f->count; i++) {
        while (i * t->sample / f->count >= t->shards.first[r + 1]) r++;
        f->counts[r]++;
    }
    FERRY_TRY(ferry_alloc(&f->row, f->counts[t->world->rank] * t->dim));
    FERRY_TRY(ferry_alloc(&f->all, t->world->rank ? 0 : f->count * t->dim));
    for (int64_t i = 0; i < f->count; i++) {
        const int64_t at = i * t->sample / f->count - first;
        if (at < 0 || at >= t->rows) continue;
        memcpy(f->row + f->mine++ * t->dim, t->row + at * t->dim, (size_t)t->dim * sizeof *f->row);
    }
    return FERRY_OK;
}

/* Local, rank 0. */
static ferry_status find_supers(const few *f, training *t, int wanted)
{
    ferry_lloyd lloyd = {0};
    double distortion;
    const int steps = t->options.steps ? t->options.steps : STEPS;
    ferry_status status = ferry_lloyd_open(&lloyd, f->count, wanted, t->dim, t->kernels, t->options.threads);
    if (status == FERRY_OK)
        t->supers =
            ferry_lloyd_find(t->super, &distortion, &lloyd, f->all, NULL, f->count, wanted, steps, t->options.seed);
    ferry_lloyd_close(&lloyd);
    return status;
}

/* Collective. */
static ferry_status train_supers(few *f, training *t)
{
    const int wanted = (int)ferry_supers_wanted(t->lists);
    FERRY_TRY(ferry_agree(t->world, pick_few(f, t, wanted)));
    ferry_gather(t->world, f->row, f->counts, f->all, (size_t)t->dim * sizeof(float), 0);
    FERRY_TRY(ferry_agree(t->world, t->world->rank ? FERRY_OK : find_supers(f, t, wanted)));
    ferry_broadcast(t->world, &t->supers, sizeof t->supers, 0);
    ferry_broadcast(t->world, t->super, (size_t)t->supers * (size_t)t->dim * sizeof *t->super, 0);
    return FERRY_OK;
}

/* Local. The super-cell of every row of this rank. */
static ferry_status label_rows(training *t)
{
    const int64_t columns = (t->supers + COLUMNS - 1) / COLUMNS * COLUMNS;
    FERRY_AUTO float *packed = NULL;
    FERRY_AUTO float *half = NULL;
    FERRY_AUTO float *norm = NULL;
    FERRY_TRY(ferry_alloc(&packed, columns * t->dim));
    FERRY_TRY(ferry_alloc(&half, columns));
    FERRY_TRY(ferry_alloc(&norm, columns));
    const ferry_quantizer q = {.dim = t->dim,
                               .kernels = t->kernels,
                               .scans = ferry_scans_of(t->kernels),
                               .list = {t->supers, columns / COLUMNS, t->super, packed, half, norm}};
    ferry_centres_pack(&q.list, t->dim, t->kernels);
    return ferry_quantizer_assign(t->cell, NULL, &q, t->row, NULL, t->rows, false, t->options.threads);
}

/* --- who trains which super-cell, with how many lists --- */

/* Lists of super-cells in proportion to their rows (largest remainder): each with rows has at least one and at most as
 * many as rows; all are `lists` unless there are fewer rows. */
static void share_lists(training *t)
{
    int64_t left = t->lists;
    for (int s = 0; s < t->supers; s++) {
        int64_t share = (int64_t)((double)t->lists * (double)t->weight[s] / (double)t->sample);
        if (share < 1) share = 1;
        if (share > t->weight[s]) share = t->weight[s];
        t->share[s] = share;
        left -= share;
    }
    while (left != 0) {
        const int64_t step = left > 0 ? 1 : -1;
        double most = -INFINITY;
        int best = -1;
        for (int s = 0; s < t->supers; s++) {
            if (left > 0 ? t->share[s] >= t->weight[s] : t->share[s] <= 1) continue;
            const double lack = (double)t->lists * (double)t->weight[s] / (double)t->sample - (double)t->share[s];
            if ((double)step * lack <= most) continue;
            most = (double)step * lack;
            best = s;
        }
        if (best < 0) return;
        t->share[best] += step;
        left -= step;
    }
}

/* Super-cells by falling cost, each to the rank with least so far. */
static void deal(training *t, int64_t *load, int32_t *order)
{
    for (int s = 0; s < t->supers; s++) order[s] = s;
    for (int a = 1; a < t->supers; a++) /* at most a thousand */
        for (int b = a; b > 0; b--) {
            const int64_t here = t->weight[order[b]] * t->share[order[b]];
            if (here <= t->weight[order[b - 1]] * t->share[order[b - 1]]) break;
            const int32_t swap = order[b];
            order[b] = order[b - 1];
            order[b - 1] = swap;
        }
    for (int i = 0; i < t->supers; i++) {
        int least = 0;
        for (int r = 1; r < t->world->size; r++)
            if (load[r] < load[least]) least = r;
        t->owner[order[i]] = least;
        load[least] += t->weight[order[i]] * t->share[order[i]] + 1;
    }
}

/* Local. */
static ferry_status open_cells(training *t)
{
    FERRY_TRY(ferry_alloc(&t->cell, t->rows));
    FERRY_TRY(ferry_alloc(&t->weight, t->supers));
    FERRY_TRY(ferry_alloc(&t->share, t->supers));
    FERRY_TRY(ferry_alloc(&t->owner, t->supers));
    FERRY_TRY(ferry_alloc(&t->found, t->supers));
    FERRY_TRY(ferry_alloc(&t->distortion, t->supers));
    FERRY_TRY(label_rows(t));
    for (int64_t i = 0; i < t->rows; i++) t->weight[t->cell[i]]++;
    return FERRY_OK;
}

/* Rows and their super-cells on the way to the ranks that train them. */
typedef struct parcel {
    float *row;
    int32_t *cell;
    int64_t *send, *come; /* [size] */
    int64_t received;
} parcel;

static void close_parcel(parcel *p)
{
    free(p->row);
    free(p->cell);
    free(p->send);
    free(p->come);
}

/* Local. */
static ferry_status plan_cells(training *t, parcel *p)
{
    FERRY_AUTO int64_t *load = NULL;
    FERRY_AUTO int32_t *order = NULL;
    FERRY_TRY(ferry_alloc(&load, t->world->size));
    FERRY_TRY(ferry_alloc(&order, t->supers));
    FERRY_TRY(ferry_alloc(&p->send, t->world->size));
    FERRY_TRY(ferry_alloc(&p->come, t->world->size));
    share_lists(t);
    deal(t, load, order);
    return FERRY_OK;
}

/* Local. Rows in the order of the ranks that they go to. */
static ferry_status sort_by_owner(training *t, parcel *p)
{
    const int size = t->world->size;
    FERRY_AUTO int64_t *at = NULL;
    FERRY_AUTO float *row = NULL;
    FERRY_AUTO int32_t *cell = NULL;
    FERRY_TRY(ferry_alloc(&at, size + 1));
    FERRY_TRY(ferry_alloc(&row, t->rows * t->dim));
    FERRY_TRY(ferry_alloc(&cell, t->rows));
    for (int64_t i = 0; i < t->rows; i++) p->send[t->owner[t->cell[i]]]++;
    for (int r = 0; r < size; r++) at[r + 1] = at[r] + p->send[r];
    for (int64_t i = 0; i < t->rows; i++) {
        const int64_t to = at[t->owner[t->cell[i]]]++;
        memcpy(row + to * t->dim, t->row + i * t->dim, (size_t)t->dim * sizeof *row);
        cell[to] = t->cell[i];
    }
    float *old_row = t->row;
    int32_t *old_cell = t->cell;
    t->row = row;
    t->cell = cell;
    row = old_row;
    cell = old_cell;
    return FERRY_OK;
}

/* Local. */
static ferry_status open_received(training *t, parcel *p)
{
    for (int r = 0; r < t->world->size; r++) p->received += p->come[r];
    FERRY_TRY(ferry_alloc(&p->row, p->received * t->dim));
    return ferry_alloc(&p->cell, p->received);
}

/* Collective. */
static ferry_status send_rows(training *t, parcel *p)
{
    ferry_total_counts(t->world, t->weight, t->supers);
    FERRY_TRY(ferry_agree(t->world, plan_cells(t, p)));
    if (t->world->size == 1) return FERRY_OK; /* they are where they belong, in the order of the sample */
    FERRY_TRY(ferry_agree(t->world, sort_by_owner(t, p)));
    ferry_exchange_counts(t->world, p->send, p->come);
    FERRY_TRY(ferry_agree(t->world, open_received(t, p)));
    ferry_exchange(t->world, t->row, p->send, p->row, p->come, (size_t)t->dim * sizeof *t->row);
    ferry_exchange(t->world, t->cell, p->send, p->cell, p->come, sizeof *t->cell);
    free(t->row);
    free(t->cell);
    t->row = p->row;
    t->cell = p->cell;
    t->rows = p->received;
    p->row = NULL;
    p->cell = NULL;
    return FERRY_OK;
}

/* --- level 2 --- */

/* The super-cells of this rank. */
typedef struct own {
    int count;
    int32_t *cell;   /* [count] ascending */
    int64_t *start;  /* [supers + 1] of every super-cell's rows in index */
    int64_t *index;  /* [rows] in the order of the sample */
    int64_t *place;  /* [count + 1] first centre */
    int64_t largest; /* rows, and lists of one */
    int most;
} own;

static void close_own(own *o)
{
    free(o->cell);
    free(o->start);
    free(o->index);
    free(o->place);
}

/* Local. */
static ferry_status open_own(own *o, training *t)
{
    FERRY_TRY(ferry_alloc(&o->cell, t->supers));
    FERRY_TRY(ferry_alloc(&o->start, t->supers + 2));
    FERRY_TRY(ferry_alloc(&o->index, t->rows));
    FERRY_TRY(ferry_alloc(&o->place, t->supers + 1));
    for (int s = 0; s < t->supers; s++) {
        if (t->owner[s] != t->world->rank || !t->weight[s]) continue;
        o->place[o->count + 1] = o->place[o->count] + t->share[s];
        o->cell[o->count++] = s;
        if (t->weight[s] > o->largest) o->largest = t->weight[s];
        if (t->share[s] > o->most) o->most = (int)t->share[s];
    }
    for (int64_t i = 0; i < t->rows; i++) o->start[t->cell[i] + 2]++;
    for (int s = 2; s < t->supers + 2; s++) o->start[s] += o->start[s - 1];
    for (int64_t i = 0; i < t->rows; i++)
        o->index[o->start[t->cell[i] + 1]++] = i; /* then start[s] is where s begins */
    return ferry_alloc(&t->centre, o->place[o->count] * t->dim);
}

/* Local. Every super-cell by one thread. */
static ferry_status train_own(own *o, training *t)
{
    FERRY_TRY(open_own(o, t));
    ferry_status status = FERRY_OK;
    const int steps = t->options.steps ? t->options.steps : STEPS;
    const int threads = t->options.threads < o->count ? t->options.threads : o->count;
#pragma omp parallel num_threads(threads < 1 ? 1 : threads)
    {
        ferry_lloyd lloyd = {0};
        const ferry_status mine =
            o->count ? ferry_lloyd_open(&lloyd, o->largest, o->most, t->dim, t->kernels, 1) : FERRY_OK;
        if (mine != FERRY_OK) {
#pragma omp critical(ferry_train)
            status = mine;
        }
#pragma omp barrier
        if (status == FERRY_OK) {
#pragma omp for schedule(dynamic)
            for (int c = 0; c < o->count; c++) {
                const int s = o->cell[c];
                t->found[s] = ferry_lloyd_find(t->centre + o->place[c] * t->dim, &t->distortion[s], &lloyd, t->row,
                                               o->index + o->start[s], t->weight[s], (int)t->share[s], steps,
                                               ferry_random_bits(t->options.seed, UINT64_MAX - (uint64_t)s));
            }
        }
        ferry_lloyd_close(&lloyd);
    }
    if (status != FERRY_OK) return status;
    for (int64_t c = 0, to = 0; c < o->count; to += t->found[o->cell[c++]]) /* without gaps */
        memmove(t->centre + to * t->dim, t->centre + o->place[c] * t->dim,
                (size_t)(t->found[o->cell[c]] * t->dim) * sizeof *t->centre);
    return FERRY_OK;
}

/* --- the numbers of all lists, on rank 0 --- */

typedef struct whole {
    int64_t lists;
    int64_t *counts; /* [size] lists of every rank */
    int64_t *child;  /* [supers + 1] */
    float *gathered; /* [lists][dim] by rank, on rank 0 */
    float *centre;   /* [lists][dim] by number, on rank 0 */
} whole;

static void close_whole(whole *w)
{
    free(w->counts);
    free(w->child);
    free(w->gathered);
    free(w->centre);
}

/* Local. */
static ferry_status open_whole(whole *w, const training *t)
{
    FERRY_TRY(ferry_alloc(&w->counts, t->world->size));
    FERRY_TRY(ferry_alloc(&w->child, t->supers + 1));
    for (int s = 0; s < t->supers; s++) {
        w->counts[t->owner[s]] += t->found[s];
        w->child[s + 1] = w->child[s] + t->found[s];
    }
    w->lists = w->child[t->supers];
    FERRY_TRY(ferry_alloc(&w->gathered, t->world->rank ? 0 : w->lists * t->dim));
    return ferry_alloc(&w->centre, t->world->rank ? 0 : w->lists * t->dim);
}

/* Local, rank 0. From the order of the ranks into that of the super-cells. */
static void number_lists(whole *w, const training *t)
{
    int64_t at = 0;
    for (int r = 0; r < t->world->size; r++)
        for (int s = 0; s < t->supers; s++) {
            if (t->owner[s] != r) continue;
            memcpy(w->centre + w->child[s] * t->dim, w->gathered + at * t->dim,
                   (size_t)(t->found[s] * t->dim) * sizeof *w->centre);
            at += t->found[s];
        }
}

/* Collective. */
static ferry_status gather_lists(ferry_quantizer *out, whole *w, training *t)
{
    ferry_total_counts(t->world, t->found, t->supers);
    ferry_max_doubles(t->world, t->distortion, t->supers);
    FERRY_TRY(ferry_agree(t->world, open_whole(w, t)));
    ferry_gather(t->world, t->centre, w->counts, w->gathered, (size_t)t->dim * sizeof(float), 0);
    if (t->world->rank == 0) number_lists(w, t);
    FERRY_TRY(ferry_quantizer_of(out, t->world, t->dim, w->lists, t->supers, t->mean, w->centre, t->super, w->child,
                                 t->metric, t->kernels));
    out->trained = t->sample;
    out->distortion = 0;
    for (int s = 0; s < t->supers; s++) out->distortion += t->distortion[s] / (double)t->sample;
    return FERRY_OK;
}

/* --- all of it --- */

/* Collective. */
static ferry_status train_lists(training *t)
{
    parcel p = {0};
    own o = {0};
    FERRY_TRY(ferry_agree(t->world, open_cells(t)));
    ferry_status status = send_rows(t, &p);
    close_parcel(&p);
    FERRY_TRY(status);
    ferry_stage_sample();
    status = train_own(&o, t);
    close_own(&o);
    return ferry_agree(t->world, status);
}

/* Collective. */
static ferry_status train(ferry_quantizer *out, training *t)
{
    few f = {0};
    whole w = {0};
    FERRY_TRY(ferry_agree(t->world, choose_sizes(t)));
    t->sample = ferry_min(t->world, t->sample); /* threads, and so what fits, may differ */
    FERRY_TRY(read_sample(t));
    FERRY_TRY(centre_sample(t));
    ferry_status status = train_supers(&f, t);
    close_few(&f);
    FERRY_TRY(status);
    FERRY_TRY(train_lists(t));
    status = gather_lists(out, &w, t);
    close_whole(&w);
    return status;
}

ferry_status ferry_quantizer_train(ferry_quantizer *out, const ferry_world *world, const ferry_points *points,
                                   ferry_search_metric metric, const ferry_kernels *kernels,
                                   const ferry_train_options *options)
{
    training t = {.world = world,
                  .points = points,
                  .metric = metric,
                  .kernels = kernels,
                  .options = *options,
                  .dim = points->dim};
    const int64_t asked[] = {options->lists, options->sample, options->steps, (int64_t)options->seed, options->memory};
    memset(out, 0, sizeof *out);
    FERRY_TRY(ferry_same(world, "training options", asked, sizeof asked));
    ferry_status status = train(out, &t);
    close_training(&t);
    return status;
}

/* Two-level k-means on a sample: tens of times cheaper than one level at equal quality.
 *
 * The sample: the cells are cut into as many equal runs as rows are wanted, and of each run one row is taken, chosen by
 * counting. Level 1 finds super-cells on a few of these rows, on rank 0. Every row of the sample goes to the rank that
 * its super-cell is dealt to, which finds the super-cell's lists; their number is proportional to its rows. Rows of a
 * super-cell are in the order of the cells whatever the number of ranks, so the centroids are the same. */
#include "mpi/exchange.h"
#include "mpi/stage.h"
#include "math/random.h"
#include "train_impl.h"
#include <math.h>
#include <string.h>

#define STEPS 10 /* k-means steps of each level, when not said */

static void close_training(ferry_training *t)
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
static ferry_status pick_few(few *f, ferry_training *t, int64_t wanted)
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
static ferry_status find_supers(const few *f, ferry_training *t, int wanted)
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
static ferry_status train_supers(few *f, ferry_training *t)
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
static ferry_status label_rows(ferry_training *t)
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
static void share_lists(ferry_training *t)
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
static void deal(ferry_training *t, int64_t *load, int32_t *order)
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
static ferry_status open_cells(ferry_training *t)
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
static ferry_status plan_cells(ferry_training *t, parcel *p)
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
static ferry_status sort_by_owner(ferry_training *t, parcel *p)
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
static ferry_status open_received(ferry_training *t, parcel *p)
{
    for (int r = 0; r < t->world->size; r++) p->received += p->come[r];
    FERRY_TRY(ferry_alloc(&p->row, p->received * t->dim));
    return ferry_alloc(&p->cell, p->received);
}

/* Collective. */
static ferry_status send_rows(ferry_training *t, parcel *p)
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
static ferry_status open_own(own *o, ferry_training *t)
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
static ferry_status train_own(own *o, ferry_training *t)
{
    FERRY_TRY(open_own(o, t));
    ferry_status status = FERRY_OK;
    const int steps = t->options.steps ? t->options.steps : STEPS;
    const int threads = t->options.threads < o->count ? t->options.threads : o->count;
    (void)threads; /* where OpenMP is off */
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
static ferry_status open_whole(whole *w, const ferry_training *t)
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
static void number_lists(whole *w, const ferry_training *t)
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
static ferry_status gather_lists(ferry_quantizer *out, whole *w, ferry_training *t)
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
static ferry_status train_lists(ferry_training *t)
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
static ferry_status train(ferry_quantizer *out, ferry_training *t)
{
    few f = {0};
    whole w = {0};
    FERRY_TRY(ferry_agree(t->world, ferry_training_sizes(t)));
    t->sample = ferry_min(t->world, t->sample); /* threads, and so what fits, may differ */
    FERRY_TRY(ferry_training_sample(t));
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
    ferry_training t = {.world = world,
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

/* What the candidates of every number of probes hold of the true neighbours of a sample: lists join one after the
 * other, nearest first, and at every number that is tried the rerank k best so far are compared with the truth. The
 * re-rank is exact, so a true neighbour is in the answer exactly when it is a candidate. Sums over queries are
 * integers: the same for any number of ranks. */
#include "truth_codes.h"
#include "mpi/log.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define FINE   128 /* probes 1 ... 128, then an eighth more each */
#define MOST   (FINE + 32)
#define PROBES 512   /* at most */
#define NEAR   0.001 /* what is given up of the ceiling */

typedef struct tuning {
    ferry_codes_job job;
    ferry_sample sample;
    int settings;
    int64_t probes[MOST];
    ferry_codes_scanner *scanner; /* [threads] */
    int64_t *pairs;               /* [threads][settings] */
    int64_t *found;               /* [threads][settings][k + 1] queries that find so many */
} tuning;

static void choose_settings(tuning *t)
{
    const int64_t lists = t->job.q->list.count, most = lists < PROBES ? lists : PROBES;
    if (t->job.options.probes) {
        t->probes[t->settings++] = t->job.options.probes < lists ? t->job.options.probes : lists;
        return;
    }
    int64_t p = 1;
    for (; p < most && t->settings < MOST - 1; p += p < FINE ? 1 : p / 8) t->probes[t->settings++] = p;
    t->probes[t->settings++] = most;
}

/* Local. */
static ferry_status open_tuning(tuning *t, const ferry_index *index, const ferry_points *queries,
                                const ferry_points *reference, const ferry_codes_options *options)
{
    FERRY_TRY(ferry_codes_job_of(&t->job, index, options));
    if (reference->cells != t->job.codes->rows || reference->dim != t->job.q->dim || queries->dim != t->job.q->dim)
        return ferry_fail(FERRY_E_FILE,
                          "%s was made of %lld cells of %d columns, but %s has %lld of %d: give what it was made of",
                          index->path, (long long)t->job.codes->rows, t->job.q->dim, reference->name,
                          (long long)reference->cells, reference->dim);
    choose_settings(t);
    const int64_t threads = t->job.options.threads;
    FERRY_TRY(ferry_alloc(&t->scanner, threads));
    for (int i = 0; i < threads; i++) FERRY_TRY(ferry_codes_scanner_open(&t->scanner[i], &t->job));
    FERRY_TRY(ferry_alloc(&t->pairs, threads * t->settings));
    return ferry_alloc(&t->found, threads * t->settings * (t->job.options.k + 1));
}

static void close_tuning(tuning *t)
{
    for (int i = 0; t->scanner && i < t->job.options.threads; i++) ferry_codes_scanner_close(&t->scanner[i]);
    free(t->scanner);
    free(t->pairs);
    free(t->found);
    ferry_sample_close(&t->sample);
}

/* How many of the candidates are true. */
static int64_t true_ones(const tuning *t, const ferry_codes_scanner *s, int64_t q)
{
    const uint32_t *truth = t->sample.truth + q * t->job.options.k;
    int64_t found = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const uint32_t cell = (uint32_t)s->found[i];
        int64_t low = 0, high = t->sample.available;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (truth[middle] < cell)
                low = middle + 1;
            else
                high = middle;
        }
        found += low < t->sample.available && truth[low] == cell;
    }
    return found;
}

/* Query q of the sample, row i of the panel. */
static void measure_query(tuning *t, int thread, int i, int64_t q)
{
    ferry_codes_scanner *s = &t->scanner[thread];
    const ferry_lists *lists = &t->job.index->lists;
    const int k = t->job.options.k;
    const bool self = t->job.options.self;
    int64_t n = 0, seen = 0;
    ferry_codes_begin(s, i, t->sample.prepared + q * t->job.q->dim, t->sample.norm2[q]);
    for (int set = 0; set < t->settings; set++) {
        for (; n < lists->lists && (n < t->probes[set] || seen < k + self); n++) {
            const int64_t list = ferry_codes_list(s, n);
            ferry_codes_scan(s, list, self ? (uint32_t)t->sample.row[q] : UINT32_MAX);
            seen += lists->first[list + 1] - lists->first[list];
        }
        ferry_codes_settle(s);
        const int64_t at = (int64_t)thread * t->settings + set;
        t->pairs[at] += seen;
        t->found[at * (k + 1) + true_ones(t, s, q)]++;
    }
}

/* Local. */
static void measure_share(tuning *t, const ferry_world *world)
{
    const int64_t dim = t->job.q->dim;
    const int64_t begin = t->sample.count * world->rank / world->size;
    const int64_t end = t->sample.count * (world->rank + 1) / world->size;
#pragma omp parallel for num_threads(t->job.options.threads) schedule(dynamic, 1)
    for (int64_t p = begin; p < end; p += PANEL) {
        const int thread = omp_get_thread_num();
        const int64_t count = end - p < PANEL ? end - p : PANEL;
        ferry_codes_panel(&t->scanner[thread], t->sample.prepared + p * dim, count);
        for (int64_t i = 0; i < count; i++) measure_query(t, thread, (int)i, p + i);
    }
}

/* Collective. The first thread's sums become those of all. */
static void add_sums(tuning *t, const ferry_world *world)
{
    const int64_t settings = t->settings, bins = settings * (t->job.options.k + 1);
    for (int i = 1; i < t->job.options.threads; i++) {
        for (int64_t n = 0; n < settings; n++) t->pairs[n] += t->pairs[i * settings + n];
        for (int64_t n = 0; n < bins; n++) t->found[n] += t->found[i * bins + n];
    }
    ferry_total_counts(world, t->pairs, settings);
    ferry_total_counts(world, t->found, bins);
}

static double mean_of(const tuning *t, int set)
{
    const int64_t *found = t->found + (int64_t)set * (t->job.options.k + 1), available = t->sample.available;
    int64_t sum = 0;
    for (int64_t n = 0; n <= available; n++) sum += n * found[n];
    return available ? (double)sum / ((double)t->sample.count * (double)available) : 1;
}

static void describe(ferry_recall *out, const tuning *t, int set)
{
    static const double part[3] = {0.01, 0.05, 0.1};
    const int64_t *found = t->found + (int64_t)set * (t->job.options.k + 1), available = t->sample.available;
    const double sample = (double)t->sample.count;
    int64_t queries = 0, below = 0;
    int reached = 0;
    *out = (ferry_recall){.sample = t->sample.count,
                          .mean = mean_of(t, set),
                          .quantile = {1, 1, 1},
                          .pairs = (double)t->pairs[set] / (sample * (double)t->job.codes->rows),
                          .rule = FERRY_VISIT_PROBES,
                          .probes = t->probes[set]};
    for (int64_t n = 0; available && n <= available; n++) {
        queries += found[n];
        if (2 * n < available) below += found[n];
        for (; reached < 3 && (double)queries >= part[reached] * sample; reached++)
            out->quantile[reached] = (double)n / (double)available;
    }
    out->below_half = (double)below / sample;
}

static void choose(ferry_recall *out, double *ceiling, const tuning *t, const ferry_world *world, double recall)
{
    int best = 0;
    *ceiling = NAN;
    if (!t->job.options.probes) {
        *ceiling = 0; /* more lists bring false candidates too */
        for (int i = 0; i < t->settings; i++)
            if (mean_of(t, i) > *ceiling) *ceiling = mean_of(t, i);
        const double wanted = recall <= *ceiling ? recall : *ceiling - NEAR;
        while (best + 1 < t->settings && mean_of(t, best) < wanted) best++;
        if (recall > *ceiling)
            ferry_log(world, world->rank ? FERRY_DEBUG : FERRY_WARN,
                      "codes of %d bytes with %lld candidates for each neighbour find %.4f of the neighbours at most: "
                      "raise --rerank, or make the index with longer --codes",
                      t->job.codes->bytes, (long long)t->job.options.rerank, *ceiling);
    }
    describe(out, t, best);
}

/* Collective. */
static ferry_status tune(tuning *t, const ferry_world *world, const ferry_points *queries,
                         const ferry_points *reference, const ferry_index *index, const ferry_codes_options *options,
                         int64_t sample)
{
    FERRY_TRY(ferry_agree(world, open_tuning(t, index, queries, reference, options)));
    FERRY_TRY(ferry_sample_open(&t->sample, world, &t->job, queries, sample));
    FERRY_TRY(ferry_sample_truth(&t->sample, world, &t->job, reference));
    measure_share(t, world);
    add_sums(t, world);
    return FERRY_OK;
}

ferry_status ferry_codes_tune(ferry_recall *out, double *ceiling, const ferry_world *world, const ferry_points *queries,
                              const ferry_points *reference, const ferry_index *index,
                              const ferry_codes_options *options, double recall, int64_t sample)
{
    tuning t = {0};
    const ferry_status status = tune(&t, world, queries, reference, index, options, sample);
    if (status == FERRY_OK) choose(out, ceiling, &t, world, recall);
    close_tuning(&t);
    return status;
}

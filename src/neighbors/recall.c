/* What every setting of the approximate rules would find, from one exact search of a sample.
 *
 * The true neighbours of a sample query are known with the lists that hold them. List j is visited
 *   with reach a when max(ball bound, bisector bound) < a tau_0,
 *   with p probes when fewer than p of the lists that are looked at have a better score,
 * and always when it is one of the first lists. So each list of each query has the least a and the least p from which
 * on its rows are seen, and sums over lists and neighbours, by setting, are all that is needed. They are integers: the
 * same for any number of ranks. A visit costs the rows of the list; lists that tau_0 rules out cost nothing.
 *
 * The sample has one query of each of `sample` equal runs of the list order, drawn by counting. */
#include "search_impl.h"
#include "math/random.h"
#include "mpi/log.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define REACHES 50  /* 0.02 ... 1 */
#define FINE    128 /* probes 1 ... 128, then an eighth more each */
#define MOST    (REACHES + FINE + 64)
#define PARTS   4 /* so many times larger chunks than a search of the sample alone would have: 16 */

typedef struct setting {
    ferry_visit_rule rule;
    double reach;
    int64_t probes, looked;
} setting;

/* Sums over queries. */
typedef struct tally {
    int64_t *pairs; /* [settings] */
    int64_t *found; /* [settings][k + 1] queries that find so many of their neighbours */
} tally;

typedef struct probe { /* room of one thread */
    ferry_searcher searcher;
    tally sums;
    int64_t *at;               /* [settings] rows that become visible with a setting */
    int *seen;                 /* [settings] neighbours likewise */
    float *need;               /* [coarse] reach from which on a list is visited; +inf: never */
    int32_t *near_rank, *rank; /* [coarse] place by gap, by score from 1 */
    uint64_t *keys, *spare;    /* [coarse] */
    uint64_t *sorted;          /* one of them: lists by score, best first */
    int64_t ranked;            /* list of queries that near_rank is for */
} probe;

typedef struct tuning {
    ferry_search_job job;
    ferry_search_options options;
    const ferry_world *world;
    int threads, settings, available; /* neighbours that a query has */
    setting setting[MOST];
    int64_t sample;
    uint32_t *row; /* [sample here] in list order */
    int64_t first, count;
    probe *probe; /* [threads] */
} tuning;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- settings --- */

static void add_setting(tuning *t, ferry_visit_rule rule, double reach, int64_t probes)
{
    if (!t->job.reference) return;
    const int64_t looked = smaller(t->job.reference->lists, larger(LOOKED, 8 * probes));
    t->setting[t->settings++] = (setting){rule, reach, probes, looked};
}

/* The one that is given, or all. */
static void choose_settings(tuning *t, const ferry_search_options *options, int64_t most)
{
    t->settings = 0;
    if (options->rule != FERRY_VISIT_EXACT) {
        const bool probes = options->rule == FERRY_VISIT_PROBES;
        add_setting(t, options->rule, probes ? 0 : options->reach, probes ? options->probes : 0);
        return;
    }
    for (int i = 1; i <= REACHES; i++) add_setting(t, FERRY_VISIT_REACH, (double)i / REACHES, 0);
    for (int64_t p = 1; p <= most && t->settings < MOST; p += p < FINE ? 1 : p / 8)
        add_setting(t, FERRY_VISIT_PROBES, 0, p);
}

/* --- open, close --- */

static void close_probe(probe *p)
{
    ferry_searcher_close(&p->searcher);
    void *arrays[] = {p->sums.pairs, p->sums.found, p->at, p->seen, p->need, p->near_rank, p->rank, p->keys, p->spare};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

static ferry_status open_probe(probe *p, const tuning *t)
{
    FERRY_TRY(ferry_searcher_open(&p->searcher, &t->job));
    const int64_t room = p->searcher.coarse.room;
    p->ranked = -1;
    FERRY_TRY(ferry_alloc(&p->sums.pairs, t->settings));
    FERRY_TRY(ferry_alloc(&p->sums.found, t->settings * (t->options.k + 1)));
    FERRY_TRY(ferry_alloc(&p->at, t->settings));
    FERRY_TRY(ferry_alloc(&p->seen, t->settings));
    FERRY_TRY(ferry_alloc(&p->need, room));
    FERRY_TRY(ferry_alloc(&p->near_rank, room));
    FERRY_TRY(ferry_alloc(&p->rank, room));
    FERRY_TRY(ferry_alloc(&p->keys, room));
    return ferry_alloc(&p->spare, room);
}

/* One of each run of the list order. */
static ferry_status draw_sample(tuning *t, uint64_t seed)
{
    if (!t->job.queries || t->job.chunk < 1) return ferry_fail(FERRY_E_ARG, "no queries to draw a sample from");
    const int64_t rows = t->job.queries->rows, chunks = (t->sample + t->job.chunk - 1) / t->job.chunk;
    t->first = smaller(t->sample, chunks * t->world->rank / t->world->size * t->job.chunk);
    t->count = smaller(t->sample, chunks * (t->world->rank + 1) / t->world->size * t->job.chunk) - t->first;
    FERRY_TRY(ferry_alloc(&t->row, t->count));
    for (int64_t n = 0; n < t->count; n++) {
        const int64_t i = t->first + n;
        const int64_t low = (int64_t)((double)i * (double)rows / (double)t->sample);
        const int64_t end = larger(low + 1, (int64_t)((double)(i + 1) * (double)rows / (double)t->sample));
        t->row[n] = (uint32_t)(low + (int64_t)(ferry_random_bits(seed, (uint64_t)i) % (uint64_t)(end - low)));
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status open_tuning(tuning *t, const ferry_lists *queries, const ferry_lists *reference,
                                const ferry_search_options *options, int64_t sample, uint64_t seed)
{
    const bool probes = options->rule == FERRY_VISIT_PROBES, given = options->rule != FERRY_VISIT_EXACT;
    if (sample < 1 || queries->rows < 1)
        return ferry_fail(FERRY_E_ARG, "a sample of %lld of %lld queries: at least 1", (long long)sample,
                          (long long)queries->rows);
    /* the searchers look at as many lists as the most probes want */
    t->options = *options;
    t->options.rule = FERRY_VISIT_PROBES;
    t->options.probes = smaller(reference->lists, probes ? options->probes : given ? 1 : 4 * FINE);
    t->sample = smaller(sample, queries->rows);
    FERRY_TRY(ferry_search_job_open(&t->job, queries, reference, &t->options, PARTS * t->sample));
    choose_settings(t, options, t->options.probes);
    t->threads = (int)larger(1, options->threads);
    t->available = (int)smaller(options->k, reference->rows - options->self);
    FERRY_TRY(draw_sample(t, seed));
    FERRY_TRY(ferry_alloc(&t->probe, t->threads));
    for (int i = 0; i < t->threads; i++) FERRY_TRY(open_probe(&t->probe[i], t));
    return FERRY_OK;
}

static void close_tuning(tuning *t)
{
    for (int i = 0; t->probe && i < t->threads; i++) close_probe(&t->probe[i]);
    free(t->probe);
    free(t->row);
    ferry_search_job_close(&t->job);
}

/* --- one query --- */

/* near_rank: places of the coarse lists by gap, when there are more than the least number that is looked at. */
static void rank_by_gap(probe *p)
{
    const ferry_coarse *coarse = &p->searcher.coarse;
    if (p->ranked == coarse->of) return;
    p->ranked = coarse->of;
    if (coarse->count <= LOOKED) {
        memset(p->near_rank, 0, (size_t)coarse->count * sizeof *p->near_rank);
        return;
    }
    for (int64_t j = 0; j < coarse->count; j++) {
        uint32_t bits;
        memcpy(&bits, &coarse->gap[j], sizeof bits);
        p->keys[j] = (uint64_t)bits << 32 | (uint64_t)j;
    }
    const uint64_t *sorted = ferry_sort_places(p->keys, p->spare, coarse->count);
    for (int64_t j = 0; j < coarse->count; j++) p->near_rank[(uint32_t)sorted[j]] = (int32_t)j;
}

static float score_of(const ferry_coarse *coarse, int i, int64_t j)
{
    return coarse->scores[j / UNIT * PANEL * UNIT + i * UNIT + j % UNIT];
}

/* sorted = coarse lists, the best score of row i first. */
static void sort_by_score(probe *p, int i)
{
    const ferry_coarse *coarse = &p->searcher.coarse;
    for (int64_t j = 0; j < coarse->count; j++) {
        const float score = score_of(coarse, i, j);
        uint32_t bits;
        memcpy(&bits, &score, sizeof bits);
        bits = bits >> 31 ? bits : ~bits & 0x7fffffff; /* larger scores come first */
        p->keys[j] = (uint64_t)bits << 32 | (uint64_t)j;
    }
    p->sorted = ferry_sort_places(p->keys, p->spare, coarse->count);
}

/* rank = places by score among the `looked` nearest lists; equal scores are visited together. */
static void rank_by_score(probe *p, int i, int64_t looked)
{
    const ferry_coarse *coarse = &p->searcher.coarse;
    int32_t place = 0, shared = 0;
    float before = INFINITY;
    for (int64_t n = 0; n < coarse->count; n++) {
        const int64_t j = (int64_t)(uint32_t)p->sorted[n];
        if (p->near_rank[j] >= looked) continue;
        const float score = score_of(coarse, i, j);
        place++;
        if (score != before) shared = place;
        before = score;
        p->rank[j] = shared;
    }
}

/* need = reach from which on each list is visited by query q, row i of the panel; those beyond tau_0 never are. */
static void find_needs(probe *p, int i, int q, bool bisector)
{
    ferry_searcher *s = &p->searcher;
    ferry_coarse *coarse = &s->coarse;
    const ferry_visits visits = ferry_coarse_visits(s, bisector);
    for (int64_t j = 0; j < coarse->count; j++) p->need[j] = INFINITY;
    const int64_t found = s->job->scans->visit(coarse->found, coarse->distance, coarse->bound, &visits, i, s->norm2[q],
                                               s->own[q], s->tau0[q]);
    for (int64_t n = 0; n < found; n++) {
        const int32_t j = coarse->found[n];
        const double size = (double)s->norm[q] + coarse->norm[j];
        const double square = (double)coarse->distance[n] * coarse->distance[n] - s->job->error * size * size;
        const double ball = sqrt(square > 0 ? square : 0) / (1 + 6e-6) - coarse->radius[j];
        const double most = ball > coarse->bound[n] ? ball : coarse->bound[n];
        p->need[j] = most > 0 ? (float)most : 0;
    }
}

/* Number of the first setting of first ... end - 1 that visits list j; end: none does. */
static int first_setting(const probe *p, const tuning *t, int first, int end, int q, int64_t j)
{
    if (p->near_rank[j] >= t->setting[first].looked || p->need[j] == INFINITY) return end;
    int low = first, high = end;
    while (low < high) {
        const int middle = (low + high) / 2;
        const setting *s = &t->setting[middle];
        if (s->rule == FERRY_VISIT_REACH ? (float)(s->reach * p->searcher.tau0[q]) > p->need[j]
                                         : s->probes >= p->rank[j])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Place of a list in the coarse ones; -1: it is not looked at. */
static int64_t place_of(const ferry_coarse *coarse, int64_t list)
{
    int64_t low = 0, high = coarse->count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (coarse->list[middle] >= list)
            high = middle;
        else
            low = middle + 1;
    }
    return low < coarse->count && coarse->list[low] == list ? low : -1;
}

static bool is_first(const ferry_near *near, int64_t list)
{
    for (int64_t i = 0; i < near->firsts; i++)
        if (near->first[i] == list) return true;
    return false;
}

static int64_t rows_of(const tuning *t, int64_t list)
{
    return t->job.reference->first[list + 1] - t->job.reference->first[list];
}

/* Settings first ... end - 1, which look at the same lists and each visit what the ones before do. */
static void add_query(probe *p, const tuning *t, int first, int end, int q)
{
    const ferry_searcher *s = &p->searcher;
    int64_t pairs = 0;
    int seen = 0;
    for (int i = first; i < end; i++) p->at[i] = p->seen[i] = 0;
    for (int64_t i = 0; i < s->near.firsts; i++) pairs += rows_of(t, s->near.first[i]);
    for (int64_t j = 0; j < s->coarse.count; j++) {
        const int at = first_setting(p, t, first, end, q, j);
        if (at < end) p->at[at] += rows_of(t, s->coarse.list[j]);
    }
    for (int n = 0; n < s->answers[q]; n++) {
        const int64_t list =
            ferry_lists_of_row(t->job.reference, s->kept[(int64_t)q * FERRY_CANDIDATE_ROOM + n].position);
        const int64_t j = place_of(&s->coarse, list);
        const int at = is_first(&s->near, list) ? first : j < 0 ? end : first_setting(p, t, first, end, q, j);
        if (at < end) p->seen[at]++;
    }
    for (int i = first; i < end; i++) {
        p->sums.pairs[i] += pairs += p->at[i];
        p->sums.found[(int64_t)i * (t->options.k + 1) + (seen += p->seen[i])]++;
    }
}

/* Runs of settings with the same rule and number of lists. */
static void measure_query(probe *p, const tuning *t, int i, int q)
{
    const bool proven = t->job.reference->exact;
    sort_by_score(p, i);
    for (int first = 0, end; first < t->settings; first = end) {
        const setting *s = &t->setting[first];
        for (end = first; end < t->settings && t->setting[end].rule == s->rule && t->setting[end].looked == s->looked;)
            end++;
        find_needs(p, i, q, proven || s->rule == FERRY_VISIT_REACH);
        if (s->rule == FERRY_VISIT_PROBES) rank_by_score(p, i, s->looked);
        add_query(p, t, first, end, q);
    }
}

/* --- the sample --- */

static ferry_status measure_chunk(probe *p, const tuning *t, int64_t at, int count)
{
    ferry_searcher *s = &p->searcher;
    FERRY_TRY(ferry_searcher_load(s, t->row + at, 0, count));
    FERRY_TRY(ferry_searcher_run(s, FERRY_VISIT_EXACT));
    for (int g = 0; g < s->segments; g++) {
        const int first = s->segment[g].first, end = first + s->segment[g].count;
        ferry_near_find(s, s->segment[g].list);
        ferry_coarse_looked(s);
        rank_by_gap(p);
        for (int q = first; q < end; q += PANEL) {
            const int rows = end - q < PANEL ? end - q : PANEL;
            ferry_coarse_score(s, q, rows);
            for (int i = 0; i < rows; i++) measure_query(p, t, i, q + i);
        }
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status measure_sample(tuning *t)
{
    ferry_status status = FERRY_OK;
    const int64_t together = larger(1, t->job.chunk), chunks = (t->count + together - 1) / together;
#pragma omp parallel for num_threads(t->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < chunks; i++) {
        ferry_status now;
#pragma omp atomic read
        now = status;
        if (now != FERRY_OK) continue;
        now = measure_chunk(&t->probe[omp_get_thread_num()], t, i * together,
                            (int)smaller(together, t->count - i * together));
        if (now != FERRY_OK) {
#pragma omp atomic write
            status = now;
        }
        if (omp_get_thread_num() == 0) ferry_progress(t->world, "recall", i + 1, chunks, "chunks", NULL);
    }
    return status;
}

/* Collective. The first thread's sums become those of all. */
static int64_t add_sums(tuning *t)
{
    const int64_t bins = t->settings * (int64_t)(t->options.k + 1);
    tally *all = &t->probe[0].sums;
    int64_t pairs = t->probe[0].searcher.pairs;
    for (int i = 1; i < t->threads; i++) {
        const probe *p = &t->probe[i];
        for (int64_t n = 0; n < t->settings; n++) all->pairs[n] += p->sums.pairs[n];
        for (int64_t n = 0; n < bins; n++) all->found[n] += p->sums.found[n];
        pairs += p->searcher.pairs;
    }
    ferry_total_counts(t->world, all->pairs, t->settings);
    ferry_total_counts(t->world, all->found, bins);
    return ferry_total(t->world, pairs);
}

/* --- the answer --- */

static double mean_of(const tuning *t, int chosen)
{
    const int64_t *found = t->probe[0].sums.found + (int64_t)chosen * (t->options.k + 1);
    int64_t sum = 0;
    for (int64_t n = 0; n <= t->available; n++) sum += n * found[n];
    return t->available ? (double)sum / ((double)t->sample * t->available) : 1;
}

static void describe(ferry_recall *out, const tuning *t, int chosen)
{
    static const double part[3] = {0.01, 0.05, 0.1};
    const int64_t *found = t->probe[0].sums.found + (int64_t)chosen * (t->options.k + 1);
    const setting *s = &t->setting[chosen];
    out->rule = s->rule;
    out->reach = s->reach;
    out->probes = s->probes;
    out->mean = mean_of(t, chosen);
    out->pairs = (double)t->probe[0].sums.pairs[chosen] / ((double)t->sample * (double)t->job.reference->rows);
    if (t->available == 0) return;
    int64_t queries = 0, below = 0;
    int reached = 0;
    for (int64_t n = 0; n <= t->available; n++) {
        queries += found[n];
        if (2 * n < t->available) below += found[n];
        for (; reached < 3 && (double)queries >= part[reached] * (double)t->sample; reached++)
            out->quantile[reached] = (double)n / t->available;
    }
    out->below_half = (double)below / (double)t->sample;
}

static void choose(ferry_recall *out, const tuning *t, double recall, bool given, int64_t exact_pairs)
{
    const int64_t *pairs = t->probe[0].sums.pairs;
    int best = given ? 0 : -1;
    for (int i = 0; !given && i < t->settings; i++)
        if (mean_of(t, i) >= recall && (best < 0 || pairs[i] < pairs[best])) best = i;
    *out = (ferry_recall){.sample = t->sample, .mean = 1, .quantile = {1, 1, 1}, .rule = FERRY_VISIT_EXACT};
    if (best >= 0 && (given || pairs[best] < exact_pairs))
        describe(out, t, best);
    else
        out->pairs = (double)exact_pairs / ((double)t->sample * (double)t->job.reference->rows);
}

ferry_status ferry_recall_tune(ferry_recall *out, const ferry_world *world, const ferry_lists *queries,
                               const ferry_lists *reference, const ferry_search_options *options, double recall,
                               int64_t sample, uint64_t seed)
{
    tuning t = {.world = world};
    ferry_status status = ferry_agree(world, open_tuning(&t, queries, reference, options, sample, seed));
    if (status == FERRY_OK) status = ferry_agree(world, measure_sample(&t));
    if (status == FERRY_OK) {
        const int64_t exact_pairs = add_sums(&t);
        choose(out, &t, recall, options->rule != FERRY_VISIT_EXACT, exact_pairs);
    }
    close_tuning(&t);
    return status;
}

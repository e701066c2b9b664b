/* The search of one chunk of queries.
 *
 * 1. The lists of the queries, and the next nearest, are scanned: tau_0.
 * 2. What each query has to visit is collected by lists (search_visits.c).
 * 3. The lists are visited, nearest first. A query is left out where the proof holds with the tau it has by then, which
 *    never changes the answer: with E = (dim + 12) u (|q| + |c_j|)^2 the error of the squared distance to the centroid
 *    (and of its root and square), members of j are further than tau when
 *      bound >= tau (1 + 2e-6)                            (bisector; only where every row is in its nearest list)
 *      d_j^2 - E >= ((tau + R_j)(1 + 6e-6))^2             (ball)
 *    and rows x of it when d(x, c_j) is below sqrt(d_j^2 - E) - tau or above sqrt(d_j^2 + E) + tau (annulus). Rows are
 *    in the order of d(x, c_j), queries of a list by what they need of it, so the 24 of a panel agree about a run of
 * units.
 * 4. What is left within the margins is decided by float64 distances of the rows as they were given. */
#include "search_impl.h"
#include <math.h>
#include <string.h>

#define TAU_MARGIN    (1 + 2e-6f)
#define RADIUS_MARGIN (1 + 6e-6f)

/* --- open, close --- */

/* Local. */
static ferry_status widest_radii(ferry_search_job *job)
{
    const ferry_quantizer *quantizer = job->quantizer;
    FERRY_TRY(ferry_alloc(&job->widest, quantizer->super.count));
    for (int64_t s = 0; s < quantizer->super.count; s++) {
        job->widest[s] = -INFINITY;
        for (int64_t j = quantizer->child[s]; j < quantizer->child[s + 1]; j++)
            job->widest[s] = fmaxf(job->widest[s], job->reference->radius[j]);
    }
    return FERRY_OK;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

ferry_status ferry_search_job_open(ferry_search_job *out, const ferry_lists *queries, const ferry_lists *reference,
                                   const ferry_search_options *options, int64_t count)
{
    *out = (ferry_search_job){.queries = queries,
                              .reference = reference,
                              .options = options,
                              .quantizer = reference->quantizer,
                              .scans = reference->quantizer->scans,
                              .dim = reference->quantizer->dim,
                              .k = options->k + options->self,
                              .error = (reference->quantizer->dim + 8) * 0x1p-24};
    if (options->k < 1 || out->k > FERRY_MOST_NEIGHBORS)
        return ferry_fail(FERRY_E_ARG, "%d neighbours of a cell: 1 to %d can be searched", options->k,
                          FERRY_MOST_NEIGHBORS - options->self);
    if (options->rule == FERRY_VISIT_REACH && !(options->reach > 0 && options->reach <= 1))
        return ferry_fail(FERRY_E_ARG, "reach %g: above 0, and at most 1", options->reach);
    if (options->rule == FERRY_VISIT_PROBES && options->probes < 1)
        return ferry_fail(FERRY_E_ARG, "%lld probes: at least 1", (long long)options->probes);
    if (queries->lists != reference->lists || queries->quantizer->dim != out->dim)
        return ferry_fail(FERRY_E_ARG, "queries and reference are in different lists");
    if (options->self && queries->rows != reference->rows)
        return ferry_fail(FERRY_E_ARG, "%lld queries and %lld reference cells are not the same cells",
                          (long long)queries->rows, (long long)reference->rows);
    const int64_t probes = options->rule == FERRY_VISIT_PROBES ? smaller(options->probes, reference->lists) : 0;
    out->looked = smaller(reference->lists, larger(LOOKED, 8 * probes));
    out->chunk = (int)smaller(CHUNK, larger(PANEL, (count / CHUNKS + PANEL - 1) / PANEL * PANEL));
    out->nearby = smaller(reference->lists, larger(NEARBY, 8 * out->looked));
    return widest_radii(out);
}

void ferry_search_job_close(ferry_search_job *job)
{
    free(job->widest);
    *job = (ferry_search_job){0};
}

static int64_t coarse_room(int64_t lists, int64_t looked)
{
    return (smaller(lists, larger(looked, BATCH)) + UNIT - 1) / UNIT * UNIT;
}

static ferry_status open_near(ferry_near *near, const ferry_search_job *job)
{
    const int64_t supers = job->quantizer->super.count;
    near->of = -1;
    FERRY_TRY(ferry_alloc(&near->list, job->nearby));
    FERRY_TRY(ferry_alloc(&near->gap, job->nearby));
    FERRY_TRY(ferry_alloc(&near->keys, job->nearby));
    FERRY_TRY(ferry_alloc(&near->away, supers));
    return ferry_alloc(&near->order, supers);
}

static ferry_status open_coarse(ferry_coarse *coarse, const ferry_search_job *job)
{
    const int64_t room = coarse->room = coarse_room(job->reference->lists, job->looked);
    coarse->of = -1;
    FERRY_TRY(ferry_alloc(&coarse->list, room));
    FERRY_TRY(ferry_alloc(&coarse->gap, room));
    FERRY_TRY(ferry_alloc(&coarse->radius, room));
    FERRY_TRY(ferry_alloc(&coarse->norm, room));
    FERRY_TRY(ferry_alloc(&coarse->half, room));
    FERRY_TRY(ferry_alloc(&coarse->packed, room * job->dim));
    FERRY_TRY(ferry_alloc(&coarse->scores, room * PANEL));
    FERRY_TRY(ferry_alloc(&coarse->found, room + 16));
    FERRY_TRY(ferry_alloc(&coarse->distance, room + 16));
    return ferry_alloc(&coarse->bound, room + 16);
}

static void resolve(void *self, ferry_candidates *candidates, int query);

static ferry_status open_candidates(ferry_searcher *s)
{
    const int64_t chunk = s->job->chunk;
    ferry_candidates *found = &s->found;
    *found = (ferry_candidates){
        .k = s->job->k, .dim = s->job->dim, .queries = s->job->chunk, .norm2 = s->norm2, .resolve = resolve, .self = s};
    FERRY_TRY(ferry_alloc(&found->distance2, chunk * FERRY_CANDIDATE_ROOM));
    FERRY_TRY(ferry_alloc(&found->position, chunk * FERRY_CANDIDATE_ROOM));
    FERRY_TRY(ferry_alloc(&found->count, chunk));
    FERRY_TRY(ferry_alloc(&found->threshold, chunk));
    return ferry_alloc(&found->radius, chunk);
}

static ferry_status open_chunk(ferry_searcher *s)
{
    const int64_t dim = s->job->dim, chunk = s->job->chunk;
    FERRY_TRY(ferry_alloc(&s->raw, chunk * dim));
    FERRY_TRY(ferry_alloc(&s->rows, chunk * dim));
    FERRY_TRY(ferry_alloc(&s->cell, chunk));
    FERRY_TRY(ferry_alloc(&s->norm2, chunk));
    FERRY_TRY(ferry_alloc(&s->norm, chunk));
    FERRY_TRY(ferry_alloc(&s->own, chunk));
    FERRY_TRY(ferry_alloc(&s->away, chunk));
    FERRY_TRY(ferry_alloc(&s->tau0, chunk));
    FERRY_TRY(ferry_alloc(&s->panel, PANEL * dim));
    return ferry_alloc(&s->kept, chunk * FERRY_CANDIDATE_ROOM);
}

static int64_t visits_room(int64_t coarse, int64_t chunk)
{
    return VISITS + PANEL * coarse + chunk;
}

static int64_t slots_room(int64_t lists, int64_t coarse, int64_t chunk)
{
    return smaller(lists, visits_room(coarse, chunk));
}

static int64_t places_room(int64_t lists, int64_t coarse, int64_t chunk)
{
    return larger(chunk * FERRY_CANDIDATE_ROOM, slots_room(lists, coarse, chunk));
}

ferry_status ferry_searcher_open(ferry_searcher *out, const ferry_search_job *job)
{
    const int64_t lists = job->reference->lists, chunk = job->chunk;
    *out = (ferry_searcher){.job = job};
    FERRY_TRY(open_chunk(out));
    FERRY_TRY(open_candidates(out));
    FERRY_TRY(open_near(&out->near, job));
    FERRY_TRY(open_coarse(&out->coarse, job));
    FERRY_TRY(ferry_alloc(&out->visit, visits_room(out->coarse.room, chunk)));
    FERRY_TRY(ferry_alloc(&out->sorted, visits_room(out->coarse.room, chunk)));
    FERRY_TRY(ferry_alloc(&out->slot, slots_room(lists, out->coarse.room, chunk)));
    FERRY_TRY(ferry_alloc(&out->places, places_room(lists, out->coarse.room, chunk)));
    FERRY_TRY(ferry_alloc(&out->spare, places_room(lists, out->coarse.room, chunk)));
    FERRY_TRY(ferry_alloc(&out->slot_of, lists));
    for (int64_t i = 0; i < lists; i++) out->slot_of[i] = -1;
    return FERRY_OK;
}

int64_t ferry_searcher_bytes(int dim, int64_t lists, int64_t looked, int64_t nearby, int64_t chunk)
{
    const int64_t coarse = coarse_room(lists, looked), candidates = chunk * FERRY_CANDIDATE_ROOM;
    const int64_t rows = chunk * (2 * dim + 9) * 4 + PANEL * dim * 4;
    const int64_t kept = candidates * (int64_t)(8 + sizeof(ferry_answer)) + 16 * places_room(lists, coarse, chunk);
    const int64_t near = smaller(lists, nearby) * 12 + lists * 12; /* as many super-cells as lists, at most */
    const int64_t scored = coarse * (8 + dim + PANEL) * 4;
    const int64_t visits = 2 * visits_room(coarse, chunk) * (int64_t)sizeof(ferry_visit) +
                           slots_room(lists, coarse, chunk) * (int64_t)sizeof(ferry_visit_slot) + 4 * lists;
    return (int64_t)sizeof(ferry_searcher) + rows + kept + near + scored + visits;
}

void ferry_searcher_close(ferry_searcher *s)
{
    void *arrays[] = {s->raw,
                      s->rows,
                      s->cell,
                      s->norm2,
                      s->norm,
                      s->own,
                      s->away,
                      s->tau0,
                      s->panel,
                      s->places,
                      s->spare,
                      s->kept,
                      s->found.distance2,
                      s->found.position,
                      s->found.count,
                      s->found.threshold,
                      s->found.radius,
                      s->near.list,
                      s->near.gap,
                      s->near.keys,
                      s->near.away,
                      s->near.order,
                      s->coarse.list,
                      s->coarse.gap,
                      s->coarse.radius,
                      s->coarse.norm,
                      s->coarse.half,
                      s->coarse.packed,
                      s->coarse.scores,
                      s->coarse.found,
                      s->coarse.distance,
                      s->coarse.bound,
                      s->visit,
                      s->sorted,
                      s->slot,
                      s->slot_of};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    *s = (ferry_searcher){0};
}

/* --- the chunk --- */

/* Rows of one part of a list; returns how many of the wanted ones it has. */
static int copy_rows(ferry_searcher *s, const ferry_list_part *part, const uint32_t *row, int64_t first, int at,
                     int count)
{
    const int64_t dim = s->job->dim;
    int n = at;
    for (; n < count; n++) {
        const int64_t i = (row ? row[n] : first + n) - part->first;
        if (i >= part->count) break;
        memcpy(s->raw + n * dim, part->rows + i * dim, (size_t)dim * sizeof *s->raw);
        s->cell[n] = part->cell[i];
    }
    return n - at;
}

static void begin_segment(ferry_searcher *s, int64_t list, int at)
{
    if (s->segments == 0 || s->segment[s->segments - 1].list != list) {
        s->segment[s->segments].list = list;
        s->segment[s->segments].first = at;
        s->segment[s->segments++].count = 0;
    }
}

static ferry_status copy_chunk(ferry_searcher *s, const uint32_t *row, int64_t first, int count)
{
    const ferry_lists *queries = s->job->queries;
    s->segments = 0;
    for (int at = 0; at < count;) {
        const int64_t wanted = row ? row[at] : first + at;
        const int64_t list = ferry_lists_of_row(queries, wanted);
        ferry_list_part part;
        FERRY_TRY(ferry_lists_take(&part, queries, list, (wanted - queries->first[list]) / FERRY_LIST_PART));
        const int had = part.rows ? copy_rows(s, &part, row, first, at, count) : 0;
        ferry_lists_drop(queries, &part);
        if (had == 0) return ferry_fail(FERRY_E_ARG, "queries were stored without their rows");
        begin_segment(s, list, at);
        s->segment[s->segments - 1].count += had;
        at += had;
    }
    return FERRY_OK;
}

/* Score of and distance to the centroid of its own list, in float64. */
static void measure_own(ferry_searcher *s, int64_t list, int q)
{
    const ferry_search_job *job = s->job;
    const float *centre = job->quantizer->list.centre + list * job->dim, *row = s->rows + (int64_t)q * job->dim;
    double dot = 0;
    for (int i = 0; i < job->dim; i++) dot += (double)row[i] * centre[i];
    s->own[q] = (float)(dot + job->quantizer->list.half[list]);
    s->away[q] = (float)(sqrt(job->scans->distance2(row, centre, job->dim)) * (1 + 0x1p-22));
    s->norm[q] = sqrtf(s->norm2[q]);
}

ferry_status ferry_searcher_load(ferry_searcher *s, const uint32_t *row, int64_t first, int count)
{
    s->count = count;
    FERRY_TRY(copy_chunk(s, row, first, count));
    FERRY_TRY(ferry_quantizer_prepare(s->rows, s->norm2, s->job->quantizer, s->raw, count, first));
    for (int i = 0; i < s->segments; i++)
        for (int q = s->segment[i].first; q < s->segment[i].first + s->segment[i].count; q++)
            measure_own(s, s->segment[i].list, q);
    for (int q = 0; q < count; q++) {
        s->found.count[q] = 0;
        s->found.threshold[q] = -INFINITY;
        s->found.radius[q] = INFINITY;
    }
    return FERRY_OK;
}

/* --- visits --- */

/* sorted = visits by slot; returns the slots' numbers by key, in one of the two arrays that the answer needs later. */
static const uint64_t *sort_visits(ferry_searcher *s)
{
    int64_t at = 0;
    for (int64_t i = 0; i < s->slots; i++) {
        uint32_t bits;
        memcpy(&bits, &s->slot[i].key, sizeof bits);
        s->places[i] = (uint64_t)bits << 32 | (uint64_t)i;
        s->slot_of[s->slot[i].list] = -1;
        s->slot[i].first = at;
        at += s->slot[i].count;
    }
    for (int64_t i = 0; i < s->visits; i++) s->sorted[s->slot[s->visit[i].slot].first++] = s->visit[i];
    for (int64_t i = 0; i < s->slots; i++) s->slot[i].first -= s->slot[i].count;
    return ferry_sort_places(s->places, s->spare, s->slots);
}

/* The queries that still have to visit a list, with the distances to its centroid that matter; returns how many. */
static int still_needed(ferry_searcher *s, const ferry_visit_slot *slot)
{
    const ferry_search_job *job = s->job;
    const float radius = job->reference->radius[slot->list], norm = job->quantizer->list.norm[slot->list];
    const float error = (float)(job->error + 4 * 0x1p-24), tiny = (float)(job->dim + 8) * 0x1p-147f;
    const bool proven = job->reference->exact;
    int n = 0;
    for (int64_t i = slot->first; i < slot->first + slot->count; i++) {
        const ferry_visit *v = &s->sorted[i];
        const float tau = s->found.radius[v->query], near = tau * TAU_MARGIN;
        if (v->distance < 0) {
            s->need[n++] = (ferry_need){-INFINITY, INFINITY, 0, v->query};
            continue;
        }
        const float sum = s->norm[v->query] + norm, e = error * sum * sum + tiny, square = v->distance * v->distance;
        const float ball = (tau + radius) * RADIUS_MARGIN, least = square - e;
        const float low = (sqrtf(least > 0 ? least : 0) - near) * (1 - 2e-6f);
        s->need[n] = (ferry_need){low, (sqrtf(square + e) + tau) * TAU_MARGIN, low > 0 ? low : 0, v->query};
        n += !((proven && v->bound >= near) || least >= ball * ball);
    }
    return n;
}

/* query, low and high by ascending low, to the 64th part of its range: panels of queries that need about the same rows.
 * Most rows are far from their centroid and most visitors further, so the lower end is the one that leaves out many. */
static void sort_queries(ferry_searcher *s, int n)
{
    enum { PARTS = 64 };
    int start[PARTS + 1] = {0};
    float least = s->need[0].key, most = least;
    for (int i = 1; i < n; i++) {
        least = s->need[i].key < least ? s->need[i].key : least;
        most = s->need[i].key > most ? s->need[i].key : most;
    }
    const float scale = n > PANEL && most > least ? (PARTS - 1) / (most - least) : 0;
    for (int i = 0; i < n; i++) start[(int)((s->need[i].key - least) * scale) + 1]++;
    for (int b = 0; b < PARTS; b++) start[b + 1] += start[b];
    for (int i = 0; i < n; i++) {
        const int to = start[(int)((s->need[i].key - least) * scale)]++;
        s->query[to] = s->need[i].query;
        s->low[to] = s->need[i].low;
        s->high[to] = s->need[i].high;
    }
}

/* As the kernels' pack_rows, of rows that are not together; what lies past them is not used. */
static void pack_queries(ferry_searcher *s, const int32_t *query, int count)
{
    const int dim = s->job->dim, width = s->job->quantizer->kernels->x_width;
    for (int i = 0; i < count; i++) {
        const float *from = s->rows + (int64_t)query[i] * dim;
        float *to = s->panel + i / width * width * dim + i % width;
        for (int k = 0; k < dim; k++) to[k * width] = from[k];
    }
}

/* First of `count` ascending distances that is at least (above: more than) x. */
static int64_t first_from(const float *distance, int64_t count, float x, bool above)
{
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (above ? distance[middle] > x : distance[middle] >= x)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Up to 24 queries against the units of a part that they need. */
static void scan_panel(ferry_searcher *s, const ferry_list_part *part, int first, int count)
{
    const int64_t dim = s->job->dim;
    float low = INFINITY, high = -INFINITY;
    for (int i = first; i < first + count; i++) {
        low = s->low[i] < low ? s->low[i] : low;
        high = s->high[i] > high ? s->high[i] : high;
    }
    const int64_t from = first_from(part->distance, part->count, low, false) / UNIT;
    const int64_t to = (first_from(part->distance, part->count, high, true) + UNIT - 1) / UNIT;
    if (from >= to) return;
    pack_queries(s, s->query + first, count);
    const ferry_scan scan = {.rows = count,
                             .x = s->panel,
                             .query = s->query + first,
                             .units = to - from,
                             .y = part->packed + from * UNIT * dim,
                             .beta = part->beta + from * UNIT,
                             .position = (uint32_t)(part->first + from * UNIT)};
    s->job->scans->scan(&s->found, &scan);
    s->pairs += count * (smaller(part->count, to * UNIT) - from * UNIT);
    s->places_used += (count + 3) / 4 * 4 * (to - from) * UNIT;
}

static ferry_status visit_list(ferry_searcher *s, const ferry_visit_slot *slot)
{
    const ferry_lists *reference = s->job->reference;
    const int n = still_needed(s, slot);
    if (n == 0) return FERRY_OK;
    sort_queries(s, n);
    s->lists += n;
    for (int64_t p = 0; p < ferry_list_parts(reference, slot->list); p++) {
        ferry_list_part part;
        FERRY_TRY(ferry_lists_take(&part, reference, slot->list, p));
        for (int i = 0; i < n; i += PANEL) scan_panel(s, &part, i, n - i < PANEL ? n - i : PANEL);
        ferry_lists_drop(reference, &part);
        FERRY_TRY(s->status);
    }
    return FERRY_OK;
}

ferry_status ferry_searcher_visit(ferry_searcher *s)
{
    const uint64_t *order = sort_visits(s);
    for (int64_t i = 0; i < s->slots; i++) FERRY_TRY(visit_list(s, &s->slot[(uint32_t)order[i]]));
    s->slots = s->visits = 0;
    return FERRY_OK;
}

/* --- decisions in float64 --- */

static double distance_of(const ferry_search_job *job, const float *query, const float *row)
{
    return job->quantizer->metric == FERRY_COSINE ? job->scans->cosine(query, row, job->dim)
                                                  : job->scans->distance2(query, row, job->dim);
}

uint64_t *ferry_sort_places(uint64_t *places, uint64_t *spare, int64_t count)
{
    uint64_t all = 0, any = ~(uint64_t)0;
    for (int64_t i = 0; i < count; i++) {
        all |= places[i];
        any &= places[i];
    }
    for (int shift = 32; shift < 64; shift += 8) {
        if (((all ^ any) >> shift & 255) == 0) continue; /* all alike */
        int64_t start[256] = {0}, at = 0;
        for (int64_t i = 0; i < count; i++) start[places[i] >> shift & 255]++;
        for (int b = 0; b < 256; b++) {
            const int64_t n = start[b];
            start[b] = at;
            at += n;
        }
        for (int64_t i = 0; i < count; i++) spare[start[places[i] >> shift & 255]++] = places[i];
        uint64_t *t = places;
        places = spare;
        spare = t;
    }
    return places;
}

/* Distances of the places in one part: `count` of them are there at most, returns how many were. */
static int64_t measure_part(ferry_searcher *s, const ferry_list_part *part, const uint64_t *place, int64_t count)
{
    const int64_t dim = s->job->dim, ahead = 12;
    int64_t n = 0;
    for (; n < count; n++) {
        const int64_t i = (int64_t)(place[n] >> 32) - part->first;
        if (i >= part->count) break;
        if (n + ahead < count) {
            const int64_t later = (int64_t)(place[n + ahead] >> 32) - part->first;
            if (later < part->count)
                for (int64_t b = 0; b < dim; b += 16) __builtin_prefetch(part->rows + later * dim + b);
        }
        const int64_t query = place[n] >> 8 & 0xffffff;
        s->kept[query * FERRY_CANDIDATE_ROOM + (int64_t)(place[n] & 255)] = (ferry_answer){
            distance_of(s->job, s->raw + query * dim, part->rows + i * dim), part->cell[i], (uint32_t)(place[n] >> 32)};
    }
    return n;
}

/* kept = float64 distances of the candidates of queries first ... end - 1. */
static ferry_status measure(ferry_searcher *s, int first, int end, uint64_t *places, uint64_t *spare)
{
    const ferry_lists *reference = s->job->reference;
    int64_t count = 0;
    for (int q = first; q < end; q++)
        for (int i = 0; i < s->found.count[q]; i++)
            places[count++] = (uint64_t)s->found.position[(int64_t)q * FERRY_CANDIDATE_ROOM + i] << 32 |
                              (uint64_t)q << 8 | (uint64_t)i;
    const uint64_t *place = ferry_sort_places(places, spare, count);
    for (int64_t at = 0; at < count;) {
        const int64_t row = (int64_t)(place[at] >> 32), list = ferry_lists_of_row(reference, row);
        ferry_list_part part;
        FERRY_TRY(ferry_lists_take(&part, reference, list, (row - reference->first[list]) / FERRY_LIST_PART));
        const int64_t n = part.rows ? measure_part(s, &part, place + at, count - at) : 0;
        ferry_lists_drop(reference, &part);
        if (n == 0) return ferry_fail(FERRY_E_ARG, "the reference was stored without its rows");
        at += n;
    }
    return FERRY_OK;
}

static bool before(const ferry_answer *a, const ferry_answer *b)
{
    return a->distance < b->distance || (a->distance == b->distance && a->cell < b->cell);
}

static void sort_answers(ferry_answer *answer, int count)
{
    for (int i = 1; i < count; i++) {
        const ferry_answer a = answer[i];
        int j = i;
        for (; j > 0 && before(&a, &answer[j - 1]); j--) answer[j] = answer[j - 1];
        answer[j] = a;
    }
}

/* Too many within the margin: the k nearest by (distance, cell) stay, in their order. */
static void resolve(void *self, ferry_candidates *found, int query)
{
    ferry_searcher *s = self;
    uint64_t places[FERRY_CANDIDATE_ROOM], spare[FERRY_CANDIDATE_ROOM];
    const int64_t at = (int64_t)query * FERRY_CANDIDATE_ROOM;
    const ferry_status status = measure(s, query, query + 1, places, spare);
    if (status != FERRY_OK) s->status = status;
    if (status == FERRY_OK) {
        ferry_answer sorted[FERRY_CANDIDATE_ROOM];
        memcpy(sorted, s->kept + at, (size_t)found->count[query] * sizeof *sorted);
        sort_answers(sorted, found->count[query]);
        const ferry_answer last = sorted[found->k - 1];
        for (int i = 0, n = 0; i < found->count[query]; i++) {
            if (before(&last, &s->kept[at + i])) continue;
            found->distance2[at + n] = found->distance2[at + i];
            found->position[at + n++] = found->position[at + i];
        }
    }
    found->count[query] = found->k;
}

/* Ascending, without the query itself, at most k. */
static void finish_query(ferry_searcher *s, int q)
{
    const ferry_search_options *options = s->job->options;
    ferry_answer *answer = s->kept + (int64_t)q * FERRY_CANDIDATE_ROOM;
    int count = s->found.count[q];
    if (options->self)
        for (int i = 0; i < count; i++)
            if (answer[i].cell == s->cell[q]) answer[i] = answer[--count];
    sort_answers(answer, count);
    s->answers[q] = count < options->k ? count : options->k;
}

static ferry_status finish(ferry_searcher *s)
{
    for (int q = 0; q < s->count; q++) s->job->scans->settle(&s->found, q);
    FERRY_TRY(s->status);
    FERRY_TRY(measure(s, 0, s->count, s->places, s->spare));
    for (int q = 0; q < s->count; q++) finish_query(s, q);
    return FERRY_OK;
}

ferry_status ferry_searcher_run(ferry_searcher *s, ferry_visit_rule rule)
{
    for (int i = 0; i < s->segments; i++) {
        ferry_near_find(s, s->segment[i].list);
        FERRY_TRY(ferry_visit_first(s, i));
    }
    FERRY_TRY(ferry_searcher_visit(s));
    for (int q = 0; q < s->count; q++) {
        s->job->scans->settle(&s->found, q);
        s->tau0[q] = s->found.radius[q];
    }
    FERRY_TRY(s->status);
    for (int i = 0; i < s->segments; i++) FERRY_TRY(ferry_visit_collect(s, i, rule));
    FERRY_TRY(ferry_searcher_visit(s));
    return finish(s);
}

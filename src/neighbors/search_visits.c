/* Which lists the queries of a segment have to visit. c is their own list, D_j = |c - c_j|.
 *
 * A member x of list j within tau of q has d(x, c) <= d(q, c) + tau, and
 *   D_j <= d(c, x) + d(x, c_j) <= 2 d(x, c) <= 2 (d(q, c) + tau)   when every row is in its nearest list,
 *   D_j <= d(c, x) + d(x, c_j) <= d(q, c) + tau + R_j              always,
 * so with L the largest d(q, c) + tau of a segment, lists further than the smaller of 2 L and L + R_j are left out for
 * all of it; and a super-cell s, whose lists are at most `spread` from its centre, when |c - s| - spread is beyond both
 * for the largest R_j in it. The others are scored, and each query decides with its own bounds (scan.h). The margin of
 * L is 1e-5 and a few rounding errors of the norms, far above those of the float64 distances that are compared. */
#include "search_impl.h"
#include <math.h>
#include <string.h>

#define MARGIN 1e-5

/* rounded up */
static float root_above(double square)
{
    return (float)(sqrt(square) * (1 + 0x1p-22));
}

static double gap2(const ferry_search_job *job, int64_t c, int64_t j)
{
    const float *centre = job->quantizer->list.centre;
    return job->scans->distance2(centre + c * job->dim, centre + j * job->dim, job->dim);
}

static bool holds_rows(const ferry_search_job *job, int64_t list)
{
    return job->reference->first[list + 1] > job->reference->first[list];
}

/* --- around one list --- */

/* distances below are not negative, so their bits are in the order of the numbers */
static void sort_supers(int32_t *order, const double *away, int64_t count)
{
    for (int64_t gap = count / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11) /* Shell's sort */
        for (int64_t i = gap; i < count; i++) {
            const int32_t s = order[i];
            int64_t j = i;
            for (; j >= gap &&
                   (away[order[j - gap]] > away[s] || (away[order[j - gap]] == away[s] && order[j - gap] > s));
                 j -= gap)
                order[j] = order[j - gap];
            order[j] = s;
        }
}

static void add_near(ferry_near *near, const ferry_search_job *job, int64_t c, int64_t list)
{
    if (!holds_rows(job, list) || near->count == job->nearby) return;
    near->list[near->count] = (int32_t)list;
    near->gap[near->count++] = root_above(gap2(job, c, list));
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Lists of the super-cells nearest to c, until there is no room. */
static void near_by_supers(ferry_near *near, const ferry_search_job *job, int64_t c)
{
    const ferry_quantizer *quantizer = job->quantizer;
    const int64_t supers = quantizer->super.count;
    for (int64_t s = 0; s < supers; s++) {
        near->away[s] = sqrt(job->scans->distance2(quantizer->list.centre + c * job->dim,
                                                   quantizer->super.centre + s * job->dim, job->dim));
        near->order[s] = (int32_t)s;
    }
    sort_supers(near->order, near->away, supers);
    for (int64_t i = 0; i < supers && near->count < job->nearby; i++)
        for (int64_t j = quantizer->child[near->order[i]]; j < quantizer->child[near->order[i] + 1]; j++)
            if (holds_rows(job, j) && near->count < job->nearby) near->list[near->count++] = (int32_t)j;
    qsort(near->list, (size_t)near->count, sizeof *near->list, ascending);
    for (int64_t i = 0; i < near->count; i++) near->gap[i] = root_above(gap2(job, c, near->list[i]));
}

/* Its own list and the nearest until they hold enough: k rows, so that tau is known, and two lists. */
static void choose_first(ferry_near *near, const ferry_search_job *job)
{
    int64_t rows = 0;
    near->firsts = 0;
    memcpy(near->keys, near->gap, (size_t)near->count * sizeof *near->keys);
    for (int64_t i = 0; i < near->count; i++)
        if (near->list[i] == near->of) near->keys[i] = -1; /* before its twins */
    while (near->firsts < near->count && near->firsts < FIRST_MOST && (rows < job->k || near->firsts < 2)) {
        int64_t best = 0;
        for (int64_t i = 1; i < near->count; i++)
            if (near->keys[i] < near->keys[best]) best = i;
        near->keys[best] = INFINITY;
        near->first_gap[near->firsts] = near->gap[best];
        near->first[near->firsts++] = near->list[best];
        rows += job->reference->first[near->list[best] + 1] - job->reference->first[near->list[best]];
    }
}

void ferry_near_find(ferry_searcher *searcher, int64_t list)
{
    const ferry_search_job *job = searcher->job;
    ferry_near *near = &searcher->near;
    if (near->of == list) return;
    near->of = list;
    near->count = 0;
    near->complete = job->reference->lists <= job->nearby;
    if (near->complete)
        for (int64_t j = 0; j < job->reference->lists; j++) add_near(near, job, list, j);
    else
        near_by_supers(near, job, list);
    choose_first(near, job);
}

/* --- lists that are scored --- */

/* Centres of lists l[0 ... 31] as a unit of columns; a run of the quantizer's is copied. */
static void pack_unit(float *packed, const ferry_quantizer *quantizer, const int32_t *l, int64_t count)
{
    const int64_t dim = quantizer->dim;
    if (count == UNIT && l[0] % UNIT == 0 && l[UNIT - 1] == l[0] + UNIT - 1) {
        memcpy(packed, quantizer->list.packed + l[0] * dim, (size_t)(UNIT * dim) * sizeof *packed);
        return;
    }
    memset(packed, 0, (size_t)(UNIT * dim) * sizeof *packed);
    for (int64_t j = 0; j < count; j++)
        for (int64_t k = 0; k < dim; k++) packed[k * UNIT + j] = quantizer->list.centre[l[j] * dim + k];
}

/* Marks the first lists, which are not visited again, or takes the marks away: slots -1, 0, ... are -2, -3, ... */
static void mark_first(ferry_searcher *searcher)
{
    for (int64_t i = 0; i < searcher->near.firsts; i++) {
        int32_t *slot = &searcher->slot_of[searcher->near.first[i]];
        *slot = -3 - *slot;
    }
}

static bool is_first(const ferry_searcher *searcher, int64_t list)
{
    return searcher->slot_of[list] <= -2;
}

/* radius of the coarse lists, which keeps the first ones out; nothing past the end. */
static void complete_radius(ferry_searcher *searcher)
{
    ferry_coarse *coarse = &searcher->coarse;
    const float *radius = searcher->job->reference->radius;
    for (int64_t i = 0; i < coarse->count; i++)
        coarse->radius[i] = is_first(searcher, coarse->list[i]) ? -INFINITY : radius[coarse->list[i]];
    for (int64_t i = coarse->count; i < coarse->units * UNIT; i++) {
        coarse->gap[i] = 0;
        coarse->radius[i] = -INFINITY;
    }
}

/* The lists of the coarse set with their gaps are there; the rest of it. */
static void complete_coarse(ferry_searcher *searcher)
{
    const ferry_quantizer *quantizer = searcher->job->quantizer;
    ferry_coarse *coarse = &searcher->coarse;
    coarse->units = (coarse->count + UNIT - 1) / UNIT;
    complete_radius(searcher);
    for (int64_t i = 0; i < coarse->count; i++) {
        coarse->norm[i] = quantizer->list.norm[coarse->list[i]];
        coarse->half[i] = quantizer->list.half[coarse->list[i]];
    }
    for (int64_t i = coarse->count; i < coarse->units * UNIT; i++) {
        coarse->norm[i] = 0;
        coarse->half[i] = -INFINITY;
    }
    for (int64_t u = 0; u < coarse->units; u++)
        pack_unit(coarse->packed + u * UNIT * quantizer->dim, quantizer, coarse->list + u * UNIT,
                  coarse->count - u * UNIT < UNIT ? coarse->count - u * UNIT : UNIT);
}

/* The value that is at place `n` of count values when they are sorted; the values are moved about. */
static float select_float(float *values, int64_t count, int64_t n)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const float pivot = values[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i <= j) {
                const float t = values[i];
                values[i++] = values[j];
                values[j--] = t;
            }
        }
        if (n <= j)
            high = j;
        else if (n >= i)
            low = i;
        else
            break;
    }
    return values[n];
}

/* The lists nearest to near.of, as many as are looked at, in ascending order. */
static void choose_looked(ferry_coarse *coarse, ferry_near *near, int64_t looked)
{
    float cut = INFINITY;
    int64_t ties = near->count; /* how many of the lists at the cut */
    if (near->count > looked) {
        memcpy(near->keys, near->gap, (size_t)near->count * sizeof *near->keys);
        cut = select_float(near->keys, near->count, looked - 1);
        ties = looked;
        for (int64_t i = 0; i < near->count; i++) ties -= near->gap[i] < cut;
    }
    coarse->count = 0;
    for (int64_t i = 0; i < near->count; i++) {
        if (near->gap[i] > cut || (near->gap[i] == cut && ties-- <= 0)) continue;
        coarse->list[coarse->count] = near->list[i];
        coarse->gap[coarse->count++] = near->gap[i];
    }
}

void ferry_coarse_looked(ferry_searcher *searcher)
{
    ferry_near *near = &searcher->near;
    ferry_coarse *coarse = &searcher->coarse;
    if (coarse->of == near->of) return;
    const bool all = near->complete && near->count <= searcher->job->looked;
    mark_first(searcher);
    if (all && coarse->all) {
        memcpy(coarse->gap, near->gap, (size_t)near->count * sizeof *coarse->gap);
        complete_radius(searcher);
    } else {
        choose_looked(coarse, near, searcher->job->looked);
        complete_coarse(searcher);
    }
    mark_first(searcher);
    coarse->of = near->of;
    coarse->all = all;
}

/* How far lists may be, and where the exact rule is in going through them. */
typedef struct walk {
    double far; /* L */
    int64_t super, next;
    bool proven; /* every row is in its nearest list */
} walk;

static bool within(const walk *w, double gap, double radius)
{
    return gap <= w->far + radius && (!w->proven || gap <= 2 * w->far);
}

static void add_within(ferry_searcher *searcher, const walk *w, int64_t list, float gap)
{
    ferry_coarse *coarse = &searcher->coarse;
    if (is_first(searcher, list) || !within(w, gap, searcher->job->reference->radius[list])) return;
    coarse->list[coarse->count] = (int32_t)list;
    coarse->gap[coarse->count++] = gap;
}

/* Whether a list of super-cell s may be within reach. */
static bool super_within(const ferry_searcher *searcher, const walk *w, int64_t s)
{
    const double nearest = searcher->near.away[s] - searcher->job->quantizer->spread[s];
    return within(w, nearest * (1 - MARGIN), searcher->job->widest[s]);
}

/* The next lists within L; false when there are none left. */
static bool next_batch(ferry_searcher *searcher, walk *w)
{
    const ferry_search_job *job = searcher->job;
    const ferry_near *near = &searcher->near;
    ferry_coarse *coarse = &searcher->coarse;
    coarse->of = -1;
    coarse->all = false;
    coarse->count = 0;
    mark_first(searcher);
    if (near->complete) {
        for (; w->next < near->count && coarse->count < BATCH; w->next++)
            add_within(searcher, w, near->list[w->next], near->gap[w->next]);
    } else {
        for (; w->super < job->quantizer->super.count && coarse->count < BATCH; w->super++) {
            const int64_t end = job->quantizer->child[w->super + 1];
            w->next = w->next > job->quantizer->child[w->super] ? w->next : job->quantizer->child[w->super];
            if (!super_within(searcher, w, w->super)) continue;
            for (; w->next < end && coarse->count < BATCH; w->next++)
                if (holds_rows(job, w->next))
                    add_within(searcher, w, w->next, root_above(gap2(job, near->of, w->next)));
            if (w->next < end) break;
        }
    }
    complete_coarse(searcher);
    mark_first(searcher);
    return coarse->count > 0;
}

void ferry_coarse_score(ferry_searcher *searcher, int first, int count)
{
    static const float zero[PANEL];
    const ferry_search_job *job = searcher->job;
    ferry_coarse *coarse = &searcher->coarse;
    job->quantizer->kernels->pack_rows(searcher->panel, searcher->rows + (int64_t)first * job->dim, count, job->dim);
    const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                             .dim = job->dim,
                             .units = coarse->units,
                             .x = searcher->panel,
                             .y = coarse->packed,
                             .alpha = zero,
                             .beta = coarse->half};
    job->quantizer->kernels->scores(coarse->scores, &tile);
}

ferry_visits ferry_coarse_visits(const ferry_searcher *searcher, bool bisector)
{
    const ferry_coarse *coarse = &searcher->coarse;
    return (ferry_visits){.dim = searcher->job->dim,
                          .units = coarse->units,
                          .scores = coarse->scores,
                          .gap = coarse->gap,
                          .radius = coarse->radius,
                          .norm = coarse->norm,
                          .bisector = bisector};
}

/* --- visits --- */

static void add_visit(ferry_searcher *searcher, int64_t list, float key, int query, float distance, float bound)
{
    int32_t slot = searcher->slot_of[list];
    if (slot < 0) {
        slot = searcher->slot_of[list] = (int32_t)searcher->slots++;
        searcher->slot[slot] = (ferry_visit_slot){.key = key, .list = (int32_t)list};
    }
    ferry_visit_slot *s = &searcher->slot[slot];
    s->key = key < s->key ? key : s->key;
    s->count++;
    searcher->visit[searcher->visits++] = (ferry_visit){slot, query, distance, bound};
}

ferry_status ferry_visit_first(ferry_searcher *searcher, int segment)
{
    const ferry_near *near = &searcher->near;
    const int first = searcher->segment[segment].first, count = searcher->segment[segment].count;
    for (int64_t i = 0; i < near->firsts; i++) {
        for (int q = first; q < first + count; q++)
            add_visit(searcher, near->first[i], near->first_gap[i], q, -1, -INFINITY);
        if (searcher->visits >= VISITS) FERRY_TRY(ferry_searcher_visit(searcher));
    }
    return FERRY_OK;
}

/* One query of the panel that is scored. */
static void add_visits(ferry_searcher *searcher, const ferry_visits *visits, int i, int q, ferry_visit_rule rule)
{
    const ferry_search_job *job = searcher->job;
    ferry_coarse *coarse = &searcher->coarse;
    const float tau = searcher->found.radius[q];
    const float reach = rule == FERRY_VISIT_REACH ? (float)(job->options->reach * searcher->tau0[q]) : tau;
    const int64_t found = job->scans->visit(coarse->found, coarse->distance, coarse->bound, visits, i,
                                            searcher->norm2[q], searcher->own[q], reach);
    const float cut = rule == FERRY_VISIT_PROBES
                          ? job->scans->row_kth(coarse->scores, i, coarse->units, job->options->probes)
                          : -INFINITY;
    for (int64_t n = 0; n < found; n++) {
        const int32_t j = coarse->found[n];
        if (coarse->scores[j / UNIT * PANEL * UNIT + i * UNIT + j % UNIT] < cut) continue;
        add_visit(searcher, coarse->list[j], coarse->gap[j], q, coarse->distance[n], coarse->bound[n]);
    }
}

static ferry_status collect_batch(ferry_searcher *searcher, int segment, ferry_visit_rule rule)
{
    const int first = searcher->segment[segment].first, end = first + searcher->segment[segment].count;
    const bool bisector = searcher->job->reference->exact || rule == FERRY_VISIT_REACH;
    for (int p = first; p < end; p += PANEL) {
        const int count = end - p < PANEL ? end - p : PANEL;
        ferry_coarse_score(searcher, p, count);
        const ferry_visits visits = ferry_coarse_visits(searcher, bisector);
        for (int i = 0; i < count; i++) add_visits(searcher, &visits, i, p + i, rule);
        if (searcher->visits >= VISITS) FERRY_TRY(ferry_searcher_visit(searcher));
    }
    return FERRY_OK;
}

ferry_status ferry_visit_collect(ferry_searcher *searcher, int segment, ferry_visit_rule rule)
{
    const ferry_search_job *job = searcher->job;
    const int first = searcher->segment[segment].first, count = searcher->segment[segment].count;
    ferry_near_find(searcher, searcher->segment[segment].list);
    if (rule != FERRY_VISIT_EXACT) {
        ferry_coarse_looked(searcher);
        return collect_batch(searcher, segment, rule);
    }
    walk w = {.proven = job->reference->exact};
    for (int q = first; q < first + count; q++) {
        const double far = (double)searcher->away[q] + searcher->found.radius[q];
        w.far = far > w.far ? far : w.far;
    }
    w.far *= 1 + MARGIN;
    while (next_batch(searcher, &w)) FERRY_TRY(collect_batch(searcher, segment, rule));
    return FERRY_OK;
}

/* What is kept of the rows of a panel (moscot 0.5.2).
 *
 *   mass: sort the row in descending order; k = #(cumsum < value * total) + 1, at most max_k: keep the first k.
 *
 * Nothing is sorted. Every few units of a row are a sample of it: what its small entries sum to, and how many are
 * large, tells between which two entries the prefix ends, with room for the sample's error. One scan over the panel
 * collects the entries from the lower one on, the candidates; of these only the few below the upper one are looked into
 * (sparsify_prefix.c). A sample that led astray costs another scan of that row, from entries on that cannot be too
 * large: those below c = (1 - value) total / m sum to less than (1 - value) total. Equal entries are kept in ascending
 * order of columns. All of it depends on the row alone. */
#include "mpi/memory.h"
#include "sparsify_impl.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    (ROWS * COLUMNS)
#define SPARE   FERRY_SELECT_SPARE
#define SHARE   8         /* one unit of so many is looked at, */
#define LEAST   16        /* but so many at least, */
#define MOST    64        /* and at most */
#define NEAR    (1 << 19) /* bits of entries that lie within 6 to 12 % */
#define SIGMAS  3         /* of the number of large entries in a sample */
#define PAGE    16        /* entries: rows of candidates begin at cache lines */

float ferry_cut(double threshold)
{
    if (!(threshold > FLT_TRUE_MIN)) return FLT_TRUE_MIN;
    if (threshold > FLT_MAX) return INFINITY;
    float cut = (float)threshold;
    return (double)cut < threshold ? nextafterf(cut, INFINITY) : cut;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float value_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- room ---- */

static int64_t whole_room(const ferry_kept *kept)
{
    return kept->units * COLUMNS + SPARE;
}

static void plan_room(ferry_kept *kept)
{
    const ferry_rule *rule = &kept->rule;
    const int64_t all = kept->units * COLUMNS;
    int64_t row = kept->units <= LEAST ? all : all / 2;
    kept->sampled = kept->units / SHARE;
    if (kept->sampled > MOST) kept->sampled = MOST;
    if (kept->sampled < LEAST) kept->sampled = LEAST;
    if (kept->sampled > kept->units) kept->sampled = kept->units;
    kept->sampled += kept->sampled & 1; /* ferry_selects.below wants an even number; the last may be empty */
    if (rule->mass && rule->max_k > 0 && rule->max_k < row / 8) row = 8 * rule->max_k + row / 64;
    kept->most = ROWS * (row + SPARE + PAGE);
}

ferry_status ferry_kept_open(ferry_kept *out, const ferry_kernels *kernels, const ferry_rule *rule, int64_t columns)
{
    memset(out, 0, sizeof *out);
    out->selects = ferry_selects_of(kernels);
    out->rule = *rule;
    out->columns = columns;
    out->units = (columns + COLUMNS - 1) / COLUMNS;
    plan_room(out);
    FERRY_TRY(ferry_alloc(&out->sample, out->sampled * COLUMNS));
    out->kept_room = 1024;
    FERRY_TRY(ferry_alloc(&out->values, out->kept_room));
    return ferry_alloc(&out->indices, out->kept_room);
}

void ferry_kept_close(ferry_kept *kept)
{
    free(kept->sample);
    free(kept->v);
    free(kept->c);
    free(kept->whole_v);
    free(kept->whole_c);
    free(kept->work);
    free(kept->values);
    free(kept->indices);
    memset(kept, 0, sizeof *kept);
}

int64_t ferry_kept_bytes(const ferry_rule *rule, int64_t columns)
{
    ferry_kept kept = {.rule = *rule, .columns = columns, .units = (columns + COLUMNS - 1) / COLUMNS};
    plan_room(&kept);
    const int64_t pair = sizeof *kept.v + sizeof *kept.c;
    const int64_t most = rule->mass && rule->max_k > 0 && rule->max_k < columns ? rule->max_k : columns;
    return (kept.most + whole_room(&kept) + 2 * ROWS * most) * pair + whole_room(&kept) * (int64_t)sizeof *kept.work;
}

static ferry_status room_for_candidates(ferry_kept *kept, int64_t need)
{
    if (need <= kept->room) return FERRY_OK;
    const int64_t room = need > kept->room / 2 * 3 ? need : kept->room / 2 * 3;
    free(kept->v);
    free(kept->c);
    kept->v = NULL;
    kept->c = NULL;
    kept->room = 0;
    FERRY_TRY(ferry_alloc(&kept->v, room));
    FERRY_TRY(ferry_alloc(&kept->c, room));
    kept->room = room;
    return FERRY_OK;
}

static ferry_status room_for_work(ferry_kept *kept, int64_t need)
{
    if (need + SPARE <= kept->work_room) return FERRY_OK;
    const int64_t room = 2 * need + SPARE < whole_room(kept) ? 2 * need + SPARE : whole_room(kept);
    free(kept->work);
    kept->work = NULL;
    kept->work_room = 0;
    FERRY_TRY(ferry_alloc(&kept->work, room));
    kept->work_room = room;
    return FERRY_OK;
}

static ferry_status room_for_kept(ferry_kept *kept, int64_t more)
{
    const int64_t need = kept->total + more + SPARE;
    if (need <= kept->kept_room) return FERRY_OK;
    const int64_t room = need > 2 * kept->kept_room ? need : 2 * kept->kept_room;
    FERRY_TRY(ferry_grow(&kept->values, kept->total, room));
    FERRY_TRY(ferry_grow(&kept->indices, kept->total, room));
    kept->kept_room = room;
    return FERRY_OK;
}

/* ---- where a row ends, from a sample of it ---- */

/* Entries below it are never kept. The rows' sums may be off by what float32 lanes round (1e-7), so the bound is moved
 * down by more than that. */
static float mass_cut(const ferry_kept *kept, double total)
{
    if (!kept->rule.mass) return kept->rule.cut;
    double cut = (1 - kept->rule.value) * total / (double)kept->columns * (1 - 1e-5);
    return cut > 2 * (double)FLT_MIN ? nextafterf((float)cut, 0) : FLT_TRUE_MIN;
}

/* What the sample of a row is asked. */
struct sample {
    const ferry_kept *kept;
    double share;              /* entries of the row for one of the sample */
    double least, most;        /* small entries of the sample may sum to so much below its end, and do above it */
    double few, enough;        /* large ones: at most so many above its end, at least below it */
    double sum, large;         /* the answer: of entries below, number of the others */
    bool not_above, not_below; /* the row ends at or above the entry asked about, at or below it */
};

static void take_sample(ferry_kept *kept, const float *plan, int i)
{
    const int64_t units = kept->units, count = kept->sampled < units ? kept->sampled : units;
    for (int64_t k = 0; k < count; k++)
        memcpy(kept->sample + k * COLUMNS, plan + (2 * k + 1) * units / (2 * count) * TILE + i * COLUMNS,
               COLUMNS * sizeof *kept->sample);
}

/* Of the number-th largest of a row an n-th part was drawn: s - 3 sqrt(s) and s + 3 sqrt(s) of the sample are it. */
static void count_bounds(struct sample *s, double number)
{
    const double root = sqrt(SIGMAS * SIGMAS + 4 * number / s->share);
    s->enough = (root + SIGMAS) * (root + SIGMAS) / 4;
    s->few = root > SIGMAS ? (root - SIGMAS) * (root - SIGMAS) / 4 : 0;
}

static struct sample sample_of(const ferry_kept *kept, double total)
{
    const ferry_rule *rule = &kept->rule;
    const int64_t count = kept->sampled < kept->units ? kept->sampled : kept->units;
    struct sample s = {.kept = kept, .share = (double)kept->units / (double)count, .enough = INFINITY, .few = INFINITY};
    const double small = rule->value >= 1 ? 0 : (1 - rule->value) * total;
    s.least = (small - 1e-6 * total) / s.share;
    s.most = rule->value >= 1 ? -INFINITY : (small + 1e-6 * total) / s.share;
    if (rule->max_k > 0) count_bounds(&s, (double)rule->max_k);
    return s;
}

/* The sum of sampled entries below `at` is off by its deviation, at most sqrt(at * sum), and may miss large ones. */
static void ask(struct sample *s, float at)
{
    int64_t count;
    s->kept->selects->below(&s->sum, &count, s->kept->sample, s->kept->sampled, at);
    s->large = (double)(s->kept->sampled * COLUMNS - count);
    const double off = 2 * sqrt((double)at * s->sum);
    s->not_above = s->large >= s->enough || s->sum + off + 2 * (double)at <= s->least;
    s->not_below = s->large <= s->few && s->sum - off >= s->most;
}

/* cut and high of row i; returns how many candidates it will have, about. */
static double find_bounds(ferry_kept *kept, const float *plan, int i, double total)
{
    struct sample s = sample_of(kept, total);
    uint32_t low = bits_of(mass_cut(kept, total)), high = bits_of((float)total) + 1, verified = bits_of(INFINITY);
    double large = -1;
    take_sample(kept, plan, i);
    for (uint32_t most = high; kept->rule.mass && most > low + NEAR;) {
        const uint32_t middle = low + (most - low) / 2;
        ask(&s, value_of(middle));
        if (s.not_above) {
            low = middle;
            large = s.large;
        } else {
            most = middle;
        }
        if (s.not_below && middle < verified) verified = middle;
    }
    for (uint32_t least = low, most = verified < high ? verified : high; kept->rule.mass && most > least + NEAR;) {
        const uint32_t middle = least + (most - least) / 2;
        ask(&s, value_of(middle));
        if (s.not_below)
            most = verified = middle;
        else
            least = middle;
    }
    kept->cut[i] = value_of(low);
    kept->high[i] = value_of(verified);
    if (large < 0) {
        ask(&s, kept->cut[i]);
        large = s.large;
    }
    return s.share * (1.25 * large + 4 * sqrt(large) + 4);
}

/* ---- candidates ---- */

/* Local. Bounds and places of every row; one without room is done alone. */
static ferry_status prepare(ferry_kept *kept, const float *plan, int rows, const double *sums)
{
    const int64_t all = kept->units * COLUMNS;
    int64_t end = 0;
    for (int i = 0; i < rows; i++) {
        double want = 0;
        kept->first[i] = end;
        kept->cut[i] = kept->high[i] = INFINITY;
        if (sums[i] > 0) want = find_bounds(kept, plan, i, sums[i]);
        const int64_t room = (want < (double)all ? (int64_t)want : all) + SPARE + PAGE - 1;
        end += room / PAGE * PAGE;
        if (end > kept->most) end = kept->first[i];
    }
    kept->first[rows] = end;
    return room_for_candidates(kept, end);
}

/* The candidates of one row. */
struct row {
    const float *v;
    const int32_t *c;
    int64_t n;
    float cut;
};

static ferry_status collect_whole(struct row *row, ferry_kept *kept, const float *plan, int i, float cut)
{
    const int64_t room[2] = {0, whole_room(kept)};
    if (!kept->whole_v) FERRY_TRY(ferry_alloc(&kept->whole_v, room[1]));
    if (!kept->whole_c) FERRY_TRY(ferry_alloc(&kept->whole_c, room[1]));
    *row = (struct row){kept->whole_v, kept->whole_c, 0, cut};
    const ferry_collection into = {&cut, room, kept->whole_v, kept->whole_c, &row->n};
    kept->selects->collect(&into, plan, i, 1, kept->units);
    return FERRY_OK;
}

/* Local. Where the prefix ends among the candidates; below `high`, if they do not suffice from there on. */
static ferry_status find_end(ferry_prefix_end *end, ferry_kept *kept, const struct row *row, float high, double total)
{
    const double target = kept->rule.value >= 1 ? INFINITY : kept->rule.value * total;
    const int64_t number = kept->rule.max_k > 0 ? kept->rule.max_k : INT64_MAX;
    FERRY_TRY(room_for_work(kept, row->n));
    if (isfinite(high)) {
        double above;
        const int64_t rest = kept->selects->split(kept->work, &above, row->v, row->n, high);
        if (row->n - rest < number && above < target) {
            *end = ferry_prefix_after(above, row->n - rest, kept->work, rest, target, number, kept->work);
            return FERRY_OK;
        }
    }
    *end = ferry_prefix(row->v, row->n, target, number, kept->work);
    return FERRY_OK;
}

/* Local. Until the prefix ends among the candidates, or they are all of the row. */
static ferry_status find_row_end(ferry_prefix_end *end, struct row *row, ferry_kept *kept, const float *plan, int i,
                                 double total)
{
    const int64_t number = kept->rule.max_k > 0 ? kept->rule.max_k : INT64_MAX;
    const float bound = mass_cut(kept, total);
    FERRY_TRY(find_end(end, kept, row, kept->high[i], total));
    while (!end->found && row->n < number && row->cut > FLT_TRUE_MIN) {
        FERRY_TRY(collect_whole(row, kept, plan, i, row->cut > bound ? bound : FLT_TRUE_MIN));
        FERRY_TRY(find_end(end, kept, row, INFINITY, total));
    }
    return FERRY_OK;
}

/* ---- what is kept ---- */

/* Not all of the entries equal to the last one: those in the first columns. */
static int64_t keep_ties(float *values, int32_t *indices, double *sum, const struct row *row, ferry_prefix_end end,
                         double factor, const float *column)
{
    int64_t n = 0;
    *sum = 0;
    for (int64_t k = 0; k < row->n; k++) {
        if (!(row->v[k] > end.at || (row->v[k] == end.at && end.ties-- > 0))) continue;
        values[n] = (float)((double)row->v[k] * factor * (column ? (double)column[row->c[k]] : 1));
        indices[n] = row->c[k];
        *sum += (double)values[n++];
    }
    return n;
}

/* Local. Row i of the panel: its kept entries behind those of the rows before. */
static ferry_status finish(ferry_kept *kept, const float *plan, int i, double total, double factor, const float *column)
{
    struct row row = {kept->v + kept->first[i], kept->c + kept->first[i], kept->found[i], kept->cut[i]};
    ferry_prefix_end end = {.found = false};
    if (row.n < 0) FERRY_TRY(collect_whole(&row, kept, plan, i, kept->cut[i]));
    if (kept->rule.mass && row.n > 0) FERRY_TRY(find_row_end(&end, &row, kept, plan, i, total));
    FERRY_TRY(room_for_kept(kept, row.n));
    float *values = kept->values + kept->total;
    int32_t *indices = kept->indices + kept->total;
    kept->count[i] = kept->selects->keep(values, indices, &kept->sum[i], row.v, row.c, row.n,
                                         end.found ? end.at : row.cut, factor, column);
    if (end.found && kept->count[i] > end.kept)
        kept->count[i] = keep_ties(values, indices, &kept->sum[i], &row, end, factor, column);
    kept->total += kept->count[i];
    return FERRY_OK;
}

ferry_status ferry_kept_select(ferry_kept *kept, const float *plan, int rows, const double *sums, const double *row,
                               const float *column)
{
    kept->total = 0;
    FERRY_TRY(prepare(kept, plan, rows, sums));
    const ferry_collection into = {kept->cut, kept->first, kept->v, kept->c, kept->found};
    kept->selects->collect(&into, plan, 0, rows, kept->units);
    for (int i = 0; i < rows; i++) FERRY_TRY(finish(kept, plan, i, sums[i], row ? row[i] : 1, column));
    return FERRY_OK;
}

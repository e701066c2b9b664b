/* What is kept of the rows of a panel (moscot 0.5.2).
 *
 *   mass: sort the row in descending order; k = #(cumsum < value * total) + 1, at most max_k: keep the first k.
 *
 * Nothing is sorted. Every few units of a row are a sample of it: what its small entries sum to, and how many are
 * large, tells between which two entries the prefix ends, with room for the sample's error. One scan collects the
 * entries from the lower one on, the candidates; of these only the few below the upper one are looked into
 * (sparsify_prefix.c). A sample that led astray costs another scan, from an entry on that cannot be too large: those
 * below c = (1 - value) total / m sum to less than (1 - value) total. Equal entries are kept in ascending order of
 * columns. All of it depends on the row alone. */
#include "mpi/memory.h"
#include "sparsify_impl.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    (ROWS * COLUMNS)
#define SHARE   16        /* one unit of so many is looked at, */
#define LEAST   16        /* but so many at least, */
#define MOST    64        /* and at most */
#define NEAR    (1 << 19) /* bits of entries that lie within 6 to 12 % */
#define SIGMAS  3         /* of the number of large entries in a sample */
#define FEW     50        /* one entry of so many */
#define MANY    12
#define HANDFUL 8 /* entries that are looked at one by one */

float ferry_cut(double threshold)
{
    if (!(threshold > FLT_TRUE_MIN)) return FLT_TRUE_MIN;
    if (threshold > FLT_MAX) return INFINITY;
    float cut = (float)threshold;
    return (double)cut < threshold ? nextafterf(cut, INFINITY) : cut;
}

/* ---- room ---- */

static void choose_sample(ferry_kept *kept)
{
    kept->sampled = kept->units / SHARE;
    if (kept->sampled > MOST) kept->sampled = MOST;
    if (kept->sampled < LEAST) kept->sampled = LEAST;
    if (kept->sampled > kept->units) kept->sampled = kept->units;
    kept->sampled += kept->sampled & 1; /* the kernels want an even number; the last may be empty */
}

ferry_status ferry_kept_open(ferry_kept *out, const ferry_kernels *kernels, const ferry_rule *rule, int64_t columns)
{
    memset(out, 0, sizeof *out);
    out->selects = ferry_selects_of(kernels);
    out->rule = *rule;
    out->columns = columns;
    out->units = (columns + COLUMNS - 1) / COLUMNS;
    choose_sample(out);
    const int64_t room = out->units * COLUMNS + FERRY_SELECT_SPARE;
    FERRY_TRY(ferry_alloc(&out->sample, out->sampled * COLUMNS));
    FERRY_TRY(ferry_alloc(&out->large.values, room));
    FERRY_TRY(ferry_alloc(&out->large.columns, room));
    FERRY_TRY(ferry_alloc(&out->large.factors, room));
    FERRY_TRY(ferry_alloc(&out->work, room));
    FERRY_TRY(ferry_alloc(&out->other, room));
    out->kept_room = 1024;
    FERRY_TRY(ferry_alloc(&out->values, out->kept_room));
    return ferry_alloc(&out->indices, out->kept_room);
}

void ferry_kept_close(ferry_kept *kept)
{
    free(kept->sample);
    free(kept->large.values);
    free(kept->large.columns);
    free(kept->large.factors);
    free(kept->work);
    free(kept->other);
    free(kept->values);
    free(kept->indices);
    memset(kept, 0, sizeof *kept);
}

int64_t ferry_kept_bytes(const ferry_rule *rule, int64_t columns)
{
    const int64_t number = sizeof(float), pair = number + (int64_t)sizeof(int32_t);
    const int64_t most = rule->mass && rule->max_k > 0 && rule->max_k < columns ? rule->max_k : columns;
    return columns * (pair + 3 * number) + 2 * ROWS * most * pair;
}

static ferry_status room_for_kept(ferry_kept *kept, int64_t more)
{
    const int64_t need = kept->total + more + FERRY_SELECT_SPARE;
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
    double share;       /* entries of the row for one of the sample */
    double least, most; /* small entries of the sample may sum to so much below its end, and do above it */
    double few, enough; /* large ones: at most so many above its end, at least below it */
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

/* The row ends at `at` or above it. Mass: the sum of sampled entries below is off by its deviation, at most
 * sqrt(at * sum), and may miss large ones. */
static bool not_below(const struct sample *s, float at)
{
    const ferry_kept *kept = s->kept;
    if (isfinite(s->enough) && (double)kept->selects->reaching(kept->sample, kept->sampled, at) >= s->enough)
        return true;
    if (!(s->least > 0)) return false;
    const double sum = kept->selects->below(kept->sample, kept->sampled, at);
    return sum + 2 * sqrt((double)at * sum) + 2 * (double)at <= s->least;
}

/* The row ends at `at` or below it. */
static bool not_above(const struct sample *s, float at)
{
    const ferry_kept *kept = s->kept;
    if (isfinite(s->few) && (double)kept->selects->reaching(kept->sample, kept->sampled, at) > s->few) return false;
    if (!(s->most > 0)) return true;
    const double sum = kept->selects->below(kept->sample, kept->sampled, at);
    return sum - 2 * sqrt((double)at * sum) >= s->most;
}

/* Where a row ends: at `cut` or above it, below `high` or at it. Only likely. */
struct bounds {
    float cut, high;
    ferry_share share; /* entries from cut on */
};

static struct bounds find_bounds(ferry_kept *kept, const float *plan, int i, double total)
{
    const struct sample s = sample_of(kept, total);
    const uint32_t most = ferry_float_bits((float)total) + 1;
    uint32_t low = ferry_float_bits(mass_cut(kept, total)), high = most;
    take_sample(kept, plan, i);
    for (uint32_t end = most; kept->rule.mass && end > low + NEAR;) {
        const uint32_t middle = low + (end - low) / 2;
        if (not_below(&s, ferry_float_of(middle)))
            low = middle;
        else
            end = middle;
    }
    for (uint32_t step = 2 * NEAR; kept->rule.mass; step *= 2) {
        high = step < most - low ? low + step : most;
        if (high == most || not_above(&s, ferry_float_of(high))) break;
    }
    const float cut = ferry_float_of(low);
    const int64_t large = kept->selects->reaching(kept->sample, kept->sampled, cut);
    const int64_t all = kept->sampled * COLUMNS;
    const ferry_share share = large * FEW < all ? FERRY_FEW : large * MANY < all ? FERRY_SOME : FERRY_MANY;
    return (struct bounds){cut, high < most ? ferry_float_of(high) : INFINITY, share};
}

/* ---- one row ---- */

static void collect(ferry_kept *kept, const float *plan, int i, float cut, ferry_share share)
{
    kept->cut = cut;
    kept->selects->above(&kept->large, plan, i, kept->units, cut, share);
}

/* Candidates among which the end lies; `before` others with sum `sum` are larger. */
struct part {
    float *v, *room; /* [n]; as many */
    int64_t n, before;
    double sum;
    uint32_t low, high; /* bits: entries from low on, below high */
    bool ends;          /* the larger ones and they suffice */
};

/* Do the entries from the middle on suffice? Those are left then, otherwise the others. */
static void halve(struct part *part, const ferry_selects *selects, double target, int64_t number)
{
    const uint32_t middle = part->low + (part->high - part->low) / 2;
    double sum;
    float *large = part->room;
    const int64_t rest = selects->split(part->v, large, &sum, part->v, part->n, ferry_float_of(middle));
    const int64_t count = part->n - rest;
    if (part->before + count < number && part->sum + sum < target) {
        part->n = rest;
        part->before += count;
        part->sum += sum;
        part->high = middle;
    } else {
        part->room = part->v;
        part->v = large;
        part->n = count;
        part->low = middle;
        part->ends = true;
    }
}

/* The smallest entry, and all that are equal to it. */
static ferry_prefix_end end_of_all(const struct part *part)
{
    ferry_prefix_end end = {true, part->v[0], 0, part->before + part->n};
    for (int64_t k = 0; k < part->n; k++)
        if (part->v[k] < end.at) end.at = part->v[k];
    for (int64_t k = 0; k < part->n; k++) end.ties += part->v[k] == end.at;
    return end;
}

/* Among the candidates; below `high`, if they do not suffice from there on. */
static ferry_prefix_end find_end(ferry_kept *kept, float high, double target, int64_t number)
{
    struct part part = {
        .v = kept->work, .room = kept->other, .low = ferry_float_bits(kept->cut), .high = ferry_float_bits(high)};
    if (isfinite(high)) {
        part.n = kept->selects->split(part.v, NULL, &part.sum, kept->large.values, kept->large.count, high);
        part.before = kept->large.count - part.n;
    }
    if (!isfinite(high) || part.before >= number || part.sum >= target)
        return ferry_prefix(kept->large.values, kept->large.count, target, number, kept->work);
    while (part.n > HANDFUL && part.high - part.low > 1) halve(&part, kept->selects, target, number);
    const ferry_prefix_end end = ferry_prefix_after(part.sum, part.before, part.v, part.n, target, number, part.room);
    return !end.found && part.ends && part.n > 0 ? end_of_all(&part) : end;
}

/* Candidates of row i, until its end is among them or they are all of it. */
static ferry_prefix_end find_row_end(ferry_kept *kept, const float *plan, int i, double total)
{
    const double target = kept->rule.value >= 1 ? INFINITY : kept->rule.value * total;
    const int64_t number = kept->rule.max_k > 0 ? kept->rule.max_k : INT64_MAX;
    const struct bounds bounds = find_bounds(kept, plan, i, total);
    const float bound = mass_cut(kept, total);
    collect(kept, plan, i, bounds.cut, bounds.share);
    if (!kept->rule.mass) return (ferry_prefix_end){.found = false};
    ferry_prefix_end end = find_end(kept, bounds.high, target, number);
    while (!end.found && kept->large.count < number && kept->cut > FLT_TRUE_MIN) {
        collect(kept, plan, i, kept->cut > bound ? bound : FLT_TRUE_MIN, FERRY_SOME);
        end = find_end(kept, INFINITY, target, number);
    }
    return end;
}

/* Not all of the entries equal to the last one: those in the first columns. */
static int64_t keep_ties(const ferry_kept *kept, double *sum, ferry_prefix_end end, double row)
{
    const ferry_large *large = &kept->large;
    float *values = kept->values + kept->total;
    int32_t *indices = kept->indices + kept->total;
    int64_t n = 0;
    *sum = 0;
    for (int64_t k = 0; k < kept->large.count; k++) {
        const float v = large->values[k];
        if (!(v > end.at || (v == end.at && end.ties-- > 0))) continue;
        values[n] = ferry_large_scaled(large, k, row);
        indices[n] = large->columns[k];
        *sum += (double)values[n++];
    }
    return n;
}

/* Local. Row i of the panel: its kept entries behind those of the rows before. */
static ferry_status select_row(ferry_kept *kept, const float *plan, int i, double total, double row)
{
    kept->count[i] = 0;
    kept->sum[i] = 0;
    if (!(total > 0)) return FERRY_OK;
    const ferry_prefix_end end = find_row_end(kept, plan, i, total);
    FERRY_TRY(room_for_kept(kept, kept->large.count));
    kept->count[i] = kept->selects->keep(kept->values + kept->total, kept->indices + kept->total, &kept->sum[i],
                                         &kept->large, end.found ? end.at : kept->cut, row);
    if (end.found && kept->count[i] > end.kept) kept->count[i] = keep_ties(kept, &kept->sum[i], end, row);
    kept->total += kept->count[i];
    return FERRY_OK;
}

ferry_status ferry_kept_select(ferry_kept *kept, const float *plan, int rows, const double *sums, const double *row,
                               const float *column)
{
    kept->total = 0;
    kept->large.factor = column;
    for (int i = 0; i < rows; i++) FERRY_TRY(select_row(kept, plan, i, sums[i], row ? row[i] : 1));
    return FERRY_OK;
}

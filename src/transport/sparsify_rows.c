/* What is kept of one row of the plan (moscot 0.5.2).
 *
 *   mass: sort the row in descending order; k = #(cumsum < value * total) + 1, at most max_k: keep the first k.
 *
 * A whole row is never sorted. Entries below c = (1 - value) total / m sum to less than (1 - value) total, so the
 * prefix ends among those >= c: one vector scan collects them, buckets of bit patterns (positive floats are ordered
 * like their bits) with counts and float64 sums find the bucket in which it ends, and only that one is looked into.
 * With max_k the k-th largest so far raises c as the scan goes, so that few entries pass it. Equal entries are kept in
 * ascending order of columns. */
#include "sparsify_impl.h"
#include "mpi/memory.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    (ROWS * COLUMNS)
#define BUCKETS 512
#define ROUGH   128
#define FEW     24 /* values that are sorted */
#define CHUNK   32 /* units: 96 KiB, which stay in the core's cache while 24 rows look at them */
#define SPARE   16 /* entries that row_above may write behind its last */

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

static void sort_descending(float *v, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        float x = v[i];
        int64_t j = i;
        for (; j > 0 && v[j - 1] < x; j--) v[j] = v[j - 1];
        v[j] = x;
    }
}

/* The end lies in v [n], of which `before` entries with sum `sum` are larger. */
static ferry_prefix_end walk(float *v, int64_t n, double sum, int64_t before, double target, int64_t number)
{
    sort_descending(v, n);
    int64_t last = 0;
    for (sum += (double)v[0]; sum < target && before + last + 1 < number && last + 1 < n; sum += (double)v[last])
        last++;
    ferry_prefix_end end = {true, v[last], 1};
    for (int64_t j = last; j > 0 && v[j - 1] == v[last]; j--) end.ties++;
    return end;
}

/* All n values are equal. */
static ferry_prefix_end walk_equal(float at, int64_t n, double sum, int64_t before, double target, int64_t number)
{
    ferry_prefix_end end = {true, at, 1};
    for (sum += (double)at; sum < target && before + end.ties < number && end.ties < n; sum += (double)at) end.ties++;
    return end;
}

struct buckets {
    int64_t count[BUCKETS];
    double sum[BUCKETS];
};

static void fill(struct buckets *buckets, int used, const float *v, int64_t n, uint32_t low, int shift)
{
    memset(buckets->count, 0, (size_t)used * sizeof *buckets->count);
    memset(buckets->sum, 0, (size_t)used * sizeof *buckets->sum);
    for (int64_t i = 0; i < n; i++) {
        uint32_t b = (bits_of(v[i]) - low) >> shift;
        buckets->count[b]++;
        buckets->sum[b] += (double)v[i];
    }
}

static int64_t gather(float *into, const float *v, int64_t n, uint32_t low, int shift, uint32_t bucket)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) { /* into may be v: it never overtakes */
        float x = v[i];
        into[found] = x;
        found += (bits_of(x) - low) >> shift == bucket;
    }
    return found;
}

/* As integers: their least and most are found several at a time. */
static void range(uint32_t *low, uint32_t *high, const float *v, int64_t n)
{
    int32_t least = INT32_MAX, most = 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t bits = (int32_t)bits_of(v[i]);
        least = bits < least ? bits : least;
        most = bits > most ? bits : most;
    }
    *low = (uint32_t)least;
    *high = (uint32_t)most;
}

/* Bits of a value that at least `number` of v [n] reach, and not many more: the lower end of the bucket in which the
 * number-th largest is. */
static uint32_t rough_bound(const float *v, int64_t n, int64_t number)
{
    int32_t count[ROUGH] = {0};
    uint32_t low, high;
    range(&low, &high, v, n);
    int shift = 0, b = ROUGH - 1;
    while ((high - low) >> shift >= ROUGH) shift++;
    for (int64_t i = 0; i < n; i++) count[(bits_of(v[i]) - low) >> shift]++;
    for (int64_t seen = count[b]; seen < number && b > 0;) seen += count[--b];
    return low + ((uint32_t)b << shift);
}

ferry_prefix_end ferry_prefix(const float *v, int64_t n, double target, int64_t number, float *work)
{
    const ferry_prefix_end all = {false, 0, 0};
    struct buckets buckets;
    double sum = 0;
    int64_t before = 0;
    if (n == 0 || (number >= n && isinf(target))) return all;
    for (;;) {
        uint32_t low, high;
        range(&low, &high, v, n);
        const uint32_t most = n < BUCKETS ? BUCKETS / 8 : BUCKETS; /* looking at empty buckets costs time, too */
        int shift = 0, b;
        while ((high - low) >> shift >= most) shift++;
        int used = (int)((high - low) >> shift) + 1;
        fill(&buckets, used, v, n, low, shift);
        for (b = used - 1; b >= 0; b--) {
            if (before + buckets.count[b] >= number || sum + buckets.sum[b] >= target) break;
            before += buckets.count[b];
            sum += buckets.sum[b];
        }
        if (b < 0) return all;
        if (shift == 0) return walk_equal(value_of(low + (uint32_t)b), buckets.count[b], sum, before, target, number);
        n = gather(work, v, n, low, shift, (uint32_t)b);
        v = work;
        if (n <= FEW) return walk(work, n, sum, before, target, number);
    }
}

/* ---- one panel ---- */

static void plan_room(ferry_kept *kept)
{
    const ferry_rule *rule = &kept->rule;
    const int64_t most = kept->units * COLUMNS;
    kept->chunk = kept->units;
    kept->rows = 1;
    kept->full = most;
    if (rule->mass && rule->max_k > 0 && rule->max_k < most / 8 && kept->units > 2 * CHUNK) {
        kept->chunk = CHUNK;
        kept->rows = ROWS;
        kept->full = 3 * rule->max_k > 128 ? 3 * rule->max_k : 128;
    }
    kept->room = kept->rows == 1 ? most + SPARE : kept->full + CHUNK * COLUMNS + SPARE;
    kept->room = (kept->room + 15) / 16 * 16;
}

ferry_status ferry_kept_open(ferry_kept *out, const ferry_kernels *kernels, const ferry_rule *rule, int64_t columns)
{
    memset(out, 0, sizeof *out);
    out->kernels = kernels;
    out->rule = *rule;
    out->columns = columns;
    out->units = (columns + COLUMNS - 1) / COLUMNS;
    plan_room(out);
    FERRY_TRY(ferry_alloc(&out->v, out->rows * out->room));
    FERRY_TRY(ferry_alloc(&out->c, out->rows * out->room));
    FERRY_TRY(ferry_alloc(&out->work, out->room));
    out->kept_room = 1024;
    FERRY_TRY(ferry_alloc(&out->values, out->kept_room));
    return ferry_alloc(&out->indices, out->kept_room);
}

void ferry_kept_close(ferry_kept *kept)
{
    free(kept->v);
    free(kept->c);
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
    return kept.room * (kept.rows * pair + (int64_t)sizeof *kept.work) + 2 * ROWS * most * pair;
}

/* Only the max_k largest of row r matter: drop the others, and from here on look at larger ones only. Roughly at
 * first; exactly when that leaves too many (equal ones, above all). Columns ascend, so entries equal to the last of
 * max_k come too late. */
static void shrink(ferry_kept *kept, int r)
{
    float *v = kept->v + r * kept->room;
    int32_t *c = kept->c + r * kept->room;
    const float bound = value_of(rough_bound(v, kept->found[r], kept->rule.max_k));
    int64_t n = 0;
    for (int64_t i = 0; i < kept->found[r]; i++) {
        const int keep = v[i] >= bound;
        v[n] = v[i];
        c[n] = c[i];
        n += keep;
    }
    kept->found[r] = n;
    kept->cut[r] = bound;
    if (n <= kept->full / 4 * 3) return;
    ferry_prefix_end end = ferry_prefix(v, n, INFINITY, kept->rule.max_k, kept->work);
    if (!end.found) return; /* just max_k */
    kept->found[r] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(v[i] > end.at || (v[i] == end.at && end.ties-- > 0))) continue;
        v[kept->found[r]] = v[i];
        c[kept->found[r]++] = c[i];
    }
    kept->cut[r] = nextafterf(end.at, INFINITY);
}

/* Candidates of panel rows first ... first + count - 1 into places 0 ... count - 1. */
static void collect(ferry_kept *kept, const float *plan, int first, int count)
{
    for (int r = 0; r < count; r++) kept->found[r] = 0;
    /* the first chunks are small, so that the k-th largest is known before many entries pass */
    int64_t next = kept->rows > 1 ? CHUNK / 8 : kept->chunk;
    for (int64_t u = 0, units; u < kept->units; u += units) {
        units = kept->units - u < next ? kept->units - u : next;
        if (next < kept->chunk) next *= 2;
        for (int r = 0; r < count; r++) {
            const int64_t had = kept->found[r];
            int32_t *c = kept->c + r * kept->room + had;
            const int64_t more = kept->kernels->row_above(kept->v + r * kept->room + had, c, plan + u * TILE, first + r,
                                                          units, kept->cut[r]);
            for (int64_t i = 0; i < more; i++) c[i] += (int32_t)(u * COLUMNS);
            kept->found[r] = had + more;
            if (kept->found[r] > kept->full) shrink(kept, r);
        }
    }
}

/* The rows' sums may be off by what float32 lanes round (1e-7), so the bound is moved down by more than that. */
static float mass_cut(const ferry_kept *kept, double total)
{
    if (!kept->rule.mass) return kept->rule.cut;
    double cut = (1 - kept->rule.value) * total / (double)kept->columns * (1 - 1e-5);
    return cut > 2 * (double)FLT_MIN ? nextafterf((float)cut, 0) : FLT_TRUE_MIN;
}

static ferry_status make_room(ferry_kept *kept, int64_t more)
{
    const int64_t need = kept->total + more;
    if (need <= kept->kept_room) return FERRY_OK;
    const int64_t room = need > 2 * kept->kept_room ? need : 2 * kept->kept_room;
    FERRY_TRY(ferry_grow(&kept->values, kept->total, room));
    FERRY_TRY(ferry_grow(&kept->indices, kept->total, room));
    kept->kept_room = room;
    return FERRY_OK;
}

/* Row i of the panel, candidates in place r: the kept ones behind those of the rows before. */
static void take(ferry_kept *kept, int i, int r, ferry_prefix_end end, double row, const float *column)
{
    const float *v = kept->v + r * kept->room;
    const int32_t *c = kept->c + r * kept->room;
    float *values = kept->values + kept->total;
    int32_t *indices = kept->indices + kept->total;
    double sum = 0;
    int64_t n = 0;
    for (int64_t k = 0; k < kept->found[r]; k++) {
        if (end.found && !(v[k] > end.at || (v[k] == end.at && end.ties-- > 0))) continue;
        const float value = (float)((double)v[k] * row * (column ? (double)column[c[k]] : 1));
        values[n] = value;
        indices[n++] = c[k];
        sum += (double)value;
    }
    kept->count[i] = n;
    kept->sum[i] = sum;
    kept->total += n;
}

static ferry_status finish(ferry_kept *kept, const float *plan, int i, int r, double total, double row,
                           const float *column)
{
    ferry_prefix_end end = {false, 0, 0};
    if (kept->rule.mass) {
        const double target = kept->rule.value >= 1 ? INFINITY : kept->rule.value * total;
        const int64_t number = kept->rule.max_k > 0 ? kept->rule.max_k : INT64_MAX;
        end = ferry_prefix(kept->v + r * kept->room, kept->found[r], target, number, kept->work);
        if (!end.found && kept->found[r] < number && kept->cut[r] > FLT_TRUE_MIN) {
            /* within rounding of the total the bound was too high: this row once more with all its entries */
            kept->cut[0] = FLT_TRUE_MIN;
            collect(kept, plan, i, 1);
            r = 0;
            end = ferry_prefix(kept->v, kept->found[0], target, number, kept->work);
        }
    }
    FERRY_TRY(make_room(kept, kept->found[r]));
    take(kept, i, r, end, row, column);
    return FERRY_OK;
}

ferry_status ferry_kept_select(ferry_kept *kept, const float *plan, int rows, const double *sums, const double *row,
                               const float *column)
{
    kept->total = 0;
    for (int first = 0; first < rows; first += kept->rows) {
        const int count = rows - first < kept->rows ? rows - first : kept->rows;
        for (int r = 0; r < count; r++) kept->cut[r] = sums[first + r] > 0 ? mass_cut(kept, sums[first + r]) : INFINITY;
        collect(kept, plan, first, count);
        for (int r = 0; r < count; r++)
            FERRY_TRY(finish(kept, plan, first + r, r, sums[first + r], row ? row[first + r] : 1, column));
    }
    return FERRY_OK;
}

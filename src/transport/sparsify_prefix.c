/* Where the shortest prefix of a row in descending order ends whose sum reaches a target.
 *
 * Nothing is sorted but a few values: buckets of bit patterns (positive floats are ordered like their bits) with counts
 * and float64 sums find the bucket in which it ends, and only that one is looked into. */
#include "sparsify_impl.h"
#include <math.h>
#include <string.h>

#define BUCKETS 512
#define FEW     24 /* values that are sorted */

static void sort_descending(float *v, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        float x = v[i];
        int64_t j = i;
        for (; j > 0 && v[j - 1] < x; j--) v[j] = v[j - 1];
        v[j] = x;
    }
}

/* In v [n], of which `before` entries with sum `sum` are larger. sure: it ends there, whatever rounding says. */
static ferry_prefix_end walk(float *v, int64_t n, double sum, int64_t before, double target, int64_t number, bool sure)
{
    sort_descending(v, n);
    int64_t last = 0;
    for (sum += (double)v[0]; sum < target && before + last + 1 < number && last + 1 < n; sum += (double)v[last])
        last++;
    ferry_prefix_end end = {sure || sum >= target || before + last + 1 >= number, v[last], 1, before + last + 1};
    for (int64_t j = last; j > 0 && v[j - 1] == v[last]; j--) end.ties++;
    return end;
}

/* All n values are equal. */
static ferry_prefix_end walk_equal(float at, int64_t n, double sum, int64_t before, double target, int64_t number)
{
    ferry_prefix_end end = {true, at, 1, 0};
    for (sum += (double)at; sum < target && before + end.ties < number && end.ties < n; sum += (double)at) end.ties++;
    end.kept = before + end.ties;
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
        uint32_t b = (ferry_float_bits(v[i]) - low) >> shift;
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
        found += (ferry_float_bits(x) - low) >> shift == bucket;
    }
    return found;
}

/* As integers: their least and most are found several at a time. */
static void range(uint32_t *low, uint32_t *high, const float *v, int64_t n)
{
    int32_t least = INT32_MAX, most = 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t bits = (int32_t)ferry_float_bits(v[i]);
        least = bits < least ? bits : least;
        most = bits > most ? bits : most;
    }
    *low = (uint32_t)least;
    *high = (uint32_t)most;
}

ferry_prefix_end ferry_prefix_after(double sum, int64_t before, const float *v, int64_t n, double target,
                                    int64_t number, float *work)
{
    const ferry_prefix_end all = {false, 0, 0, before + n};
    struct buckets buckets;
    if (n == 0 || (number - before > n && isinf(target))) return all;
    if (n <= FEW) {
        if (v != work) memcpy(work, v, (size_t)n * sizeof *work);
        return walk(work, n, sum, before, target, number, false);
    }
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
        if (shift == 0)
            return walk_equal(ferry_float_of(low + (uint32_t)b), buckets.count[b], sum, before, target, number);
        n = gather(work, v, n, low, shift, (uint32_t)b);
        v = work;
        if (n <= FEW) return walk(work, n, sum, before, target, number, true);
    }
}

ferry_prefix_end ferry_prefix(const float *v, int64_t n, double target, int64_t number, float *work)
{
    return ferry_prefix_after(0, 0, v, n, target, number, work);
}

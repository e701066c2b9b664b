/* A percentile over all ranks, exactly: with n values, h = q / 100 (n - 1), the two order statistics around h are found
 * by bisection on the bits of the doubles, in an order that goes with their values: some 60 counts of the values, and
 * no value moves. Between them as numpy: a + (b - a) t for t < 1/2, b - (b - a) (1 - t) from there. */
#include "transfer.h"
#include <math.h>
#include <string.h>

/* An integer that is ordered as the doubles are. */
static uint64_t key_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

static double value_of(uint64_t key)
{
    const uint64_t bits = key >> 63 ? key ^ (uint64_t)1 << 63 : ~key;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Collective. Values whose key is at most `key`. */
static int64_t count_to(const ferry_world *world, const double *values, int64_t count, int64_t stride, uint64_t key)
{
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) found += key_of(values[i * stride]) <= key;
    return ferry_total(world, found);
}

/* Collective. Key of the value with `rank` values before it. */
static uint64_t statistic(const ferry_world *world, const double *values, int64_t count, int64_t stride, int64_t rank)
{
    uint64_t low = 0, high = UINT64_MAX;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (count_to(world, values, count, stride, middle) > rank)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Collective. The smallest value above a key; it exists. */
static double above(const ferry_world *world, const double *values, int64_t count, int64_t stride, uint64_t key)
{
    double least = INFINITY;
    for (int64_t i = 0; i < count; i++)
        if (key_of(values[i * stride]) > key) least = fmin(least, values[i * stride]);
    return -ferry_max_double(world, -least);
}

/* Local. */
static int64_t nans(const double *values, int64_t count, int64_t stride)
{
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) found += isnan(values[i * stride]);
    return found;
}

ferry_status ferry_percentile(double *out, const ferry_world *world, const double *values, int64_t count,
                              int64_t stride, double q)
{
    *out = NAN;
    FERRY_TRY(ferry_same(world, "the percentile", &q, sizeof q));
    if (!(q >= 0 && q <= 100)) return ferry_fail(FERRY_E_ARG, "percentile %g: a number from 0 to 100", q);
    const int64_t total = ferry_total(world, count);
    if (total == 0 || ferry_total(world, nans(values, count, stride)) > 0) return FERRY_OK;
    const double at = q / 100 * (double)(total - 1), down = floor(at), t = at - down;
    const uint64_t low = statistic(world, values, count, stride, (int64_t)down);
    const double a = value_of(low);
    double b = a;
    if (t > 0 && count_to(world, values, count, stride, low) <= (int64_t)down + 1)
        b = above(world, values, count, stride, low);
    *out = t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
    return FERRY_OK;
}

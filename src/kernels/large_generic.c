/* large_generic.c - sparsify's reference: what every table computes, in plain C for any CPU. */
#include "large_impl.h"

static void above(ferry_large *into, const float *plan, int i, int64_t units, float cut, ferry_share share)
{
    int64_t found = 0;
    into->with_factors = share == FERRY_MANY && into->factor;
    for (int64_t u = 0; u < units; u++)
        for (int j = 0; j < COLUMNS; j++) {
            const float value = plan[u * TILE + i * COLUMNS + j];
            if (!(value >= cut)) continue;
            if (into->with_factors) into->factors[found] = into->factor[u * COLUMNS + j];
            into->values[found] = value;
            into->columns[found++] = (int32_t)(u * COLUMNS + j);
        }
    into->count = found;
}

static double below(const float *v, int64_t n, float cut)
{
    double sum = 0;
    for (int64_t i = 0; i < n * COLUMNS; i++) sum += v[i] < cut ? (double)v[i] : 0;
    return sum;
}

static int64_t reaching(const float *v, int64_t n, float cut)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n * COLUMNS; i++) count += v[i] >= cut;
    return count;
}

static int64_t split(float *low, float *high, double *sum, const float *v, int64_t n, float cut)
{
    int64_t below = 0, above = 0;
    *sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const float value = v[i];
        if (value < cut) {
            low[below++] = value;
            continue;
        }
        *sum += (double)value;
        if (high) high[above++] = value;
    }
    return below;
}

static int64_t keep(float *values, int32_t *indices, double *sum, const ferry_large *from, float cut, double row)
{
    int64_t found = 0;
    *sum = 0;
    for (int64_t i = 0; i < from->count; i++) {
        if (!(from->values[i] >= cut)) continue;
        values[found] = ferry_large_scaled(from, i, row);
        *sum += (double)values[found];
        indices[found++] = from->columns[i];
    }
    return found;
}

const ferry_selects ferry_selects_generic = {
    .name = "generic", .above = above, .below = below, .reaching = reaching, .split = split, .keep = keep};

/* select_generic.c - sparsify's reference: what every table computes, in plain C for any CPU. */
#include "select_impl.h"

static void collect(const ferry_collection *into, const float *plan, int row, int rows, int64_t units)
{
    for (int r = 0; r < rows; r++) {
        float *values = into->values + into->first[r];
        int32_t *columns = into->columns + into->first[r];
        const int64_t room = into->first[r + 1] - into->first[r] - SPARE;
        const float *p = plan + (row + r) * COLUMNS, cut = into->cut[r];
        int64_t found = 0;
        for (int64_t u = 0; u < units && found <= room; u++, p += TILE)
            for (int j = 0; j < COLUMNS; j++)
                if (p[j] >= cut) {
                    values[found] = p[j];
                    columns[found++] = (int32_t)(u * COLUMNS + j);
                }
        into->found[r] = found <= room ? found : -1;
    }
}

static void below(double *sum, int64_t *count, const float *v, int64_t n, float cut)
{
    *sum = 0;
    *count = 0;
    for (int64_t i = 0; i < n * COLUMNS; i++)
        if (v[i] < cut) {
            *sum += (double)v[i];
            ++*count;
        }
}

static int64_t split(float *out, double *sum, const float *v, int64_t n, float cut)
{
    int64_t found = 0;
    *sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (v[i] < cut)
            out[found++] = v[i];
        else
            *sum += (double)v[i];
    return found;
}

static int64_t keep(float *values, int32_t *indices, double *sum, const float *v, const int32_t *columns, int64_t n,
                    float cut, double row, const float *factor)
{
    int64_t found = 0;
    *sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(v[i] >= cut)) continue;
        const float value = (float)((double)v[i] * row * (factor ? (double)factor[columns[i]] : 1));
        values[found] = value;
        indices[found++] = columns[i];
        *sum += (double)value;
    }
    return found;
}

const ferry_selects ferry_selects_generic = {
    .name = "generic", .collect = collect, .below = below, .split = split, .keep = keep};

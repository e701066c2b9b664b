/* Sparsify's functions on every table against the generic one and plain loops; the products of a panel with few
 * columns, and that columns of a product have the same bits whatever stands beside them. */
#include "kernels/kernels_impl.h"
#include "kernels/large.h"
#include "plans.h"
#include "test.h"

enum { UNITS = 37, M = UNITS * COLUMNS };
#define SPARE FERRY_SELECT_SPARE

static float plan[UNITS * TILE];
static float factor[M + SPARE];

/* zeros, ties and many orders of magnitude */
static void fill(void)
{
    double *noise = plans_random(UNITS * TILE, 3), *near = plans_random(M, 4);
    for (int64_t e = 0; e < UNITS * TILE; e++)
        plan[e] = e % 11 == 0 ? 0 : e % 7 == 0 ? 0.25F : (float)exp(4 * noise[e] - 5);
    for (int64_t j = 0; j < M; j++) factor[j] = (float)(1 + 1e-5 * near[j]);
    free(noise);
    free(near);
}

static float entry(int i, int64_t j)
{
    return plan[j / COLUMNS * TILE + i * COLUMNS + j % COLUMNS];
}

static void large_open(ferry_large *large, const float *by)
{
    *large = (ferry_large){.factor = by};
    CHECK(ferry_alloc(&large->values, M + SPARE) == FERRY_OK);
    CHECK(ferry_alloc(&large->columns, M + SPARE) == FERRY_OK);
    CHECK(ferry_alloc(&large->factors, M + SPARE) == FERRY_OK);
}

static void large_close(ferry_large *large)
{
    free(large->values);
    free(large->columns);
    free(large->factors);
}

/* `above` and then `keep` of the larger half of it */
static void check_row(const ferry_selects *s, ferry_large *large, int i, float cut, ferry_share share)
{
    static float values[M + SPARE];
    static int32_t indices[M + SPARE];
    const double row = 1 + 1e-6 * i;
    const float at = 2 * cut;
    double sum, expected = 0;
    int64_t n = 0, kept = 0;
    s->above(large, plan, i, UNITS, cut, share);
    const int64_t found = s->keep(values, indices, &sum, large, at, row);
    for (int64_t j = 0; j < M; j++) {
        if (!(entry(i, j) >= cut)) continue;
        CHECK(n < large->count && large->values[n] == entry(i, j) && large->columns[n] == j);
        n++;
        if (!(entry(i, j) >= at)) continue;
        const float value = (float)((double)entry(i, j) * row * (large->factor ? (double)factor[j] : 1));
        CHECK(kept < found && values[kept] == value && indices[kept] == j);
        kept++;
        expected += (double)value;
    }
    CHECK(n == large->count && kept == found);
    CHECK(fabs(sum - expected) <= 1e-12 * expected);
}

static void check_sums(const ferry_selects *s, const ferry_large *large, float cut)
{
    static float low[M + SPARE], high[M + SPARE];
    const int64_t n = large->count, units = n / COLUMNS & ~(int64_t)1;
    double sum, below = 0, above = 0;
    int64_t lows = 0, reaching = 0;
    const int64_t found = s->split(low, high, &sum, large->values, n, cut);
    for (int64_t k = 0; k < n; k++) {
        const float value = large->values[k];
        if (value < cut) {
            CHECK(lows < found && low[lows] == value);
            lows++;
        } else {
            CHECK(high[k - lows] == value);
            above += (double)value;
        }
        if (k >= units * COLUMNS) continue;
        below += value < cut ? (double)value : 0;
        reaching += value >= cut;
    }
    CHECK(lows == found && fabs(sum - above) <= 1e-12 * above);
    CHECK(fabs(s->below(large->values, units, cut) - below) <= 1e-5 * below + 1e-30);
    CHECK(s->reaching(large->values, units, cut) == reaching);
    memcpy(low, large->values, (size_t)n * sizeof *low); /* in place */
    CHECK(s->split(low, NULL, &sum, low, n, cut) == found);
    for (int64_t k = 0, l = 0; k < n; k++)
        if (large->values[k] < cut) CHECK(low[l++] == large->values[k]);
}

static void test_selects(const ferry_kernels *kernels)
{
    const ferry_selects *s = ferry_selects_of(kernels);
    const float cuts[] = {1e-30F, 1e-3F, 0.25F, 2, INFINITY};
    ferry_large large;
    CHECK(strcmp(s->name, kernels->name) == 0);
    for (int with = 0; with < 2; with++) {
        large_open(&large, with ? factor : NULL);
        for (int i = 0; i < ROWS; i += 5)
            for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++)
                for (int share = FERRY_FEW; share <= FERRY_MANY; share++) {
                    check_row(s, &large, i, cuts[c], (ferry_share)share);
                    if (isfinite(cuts[c])) check_sums(s, &large, 3 * cuts[c]);
                }
        large_close(&large);
    }
}

static void test_few(const ferry_kernels *kernels)
{
    enum { MOST = 17, STRIDE = M + 48 };
    double *noise = plans_random(STRIDE * MOST, 9);
    static float v[STRIDE * MOST];
    for (int64_t e = 0; e < (int64_t)STRIDE * MOST; e++) v[e] = (float)noise[e];
    free(noise);
    for (int width = 1; width <= MOST; width += 3) {
        double out[ROWS * MOST] = {0}, alone[ROWS];
        out[1] = 3;
        kernels->few_times(out, plan, v, STRIDE, width, UNITS);
        out[1] -= 3;
        for (int w = 0; w < width; w++) {
            memset(alone, 0, sizeof alone);
            kernels->few_times(alone, plan, v + w * STRIDE, STRIDE, 1, UNITS);
            for (int i = 0; i < ROWS; i++) {
                double sum = 0, size = 0;
                for (int64_t j = 0; j < M; j++) {
                    const double term = (double)entry(i, j) * (double)v[w * STRIDE + j];
                    sum += term;
                    size += fabs(term);
                }
                CHECK(fabs(out[i * width + w] - sum) <= 2e-6 * size);
                if (i * width + w != 1) CHECK(out[i * width + w] == alone[i]);
            }
        }
    }
}

/* Column 0 of a product, whatever its width. */
static void test_widths(const ferry_kernels *kernels)
{
    static double wide[M * 64], narrow[M];
    static float v[M * 64], column[M];
    double *noise = plans_random(M, 12);
    for (int64_t j = 0; j < M; j++) column[j] = (float)noise[j];
    free(noise);
    memset(narrow, 0, sizeof narrow);
    kernels->transposed_times(narrow, plan, column, 1, UNITS);
    for (int width = 2; width <= 64; width += width < 8 ? 1 : 14) {
        memset(wide, 0, sizeof wide);
        for (int64_t e = 0; e < (int64_t)M * width; e++) v[e] = e % width ? (float)(e % 5) : column[e / width];
        kernels->transposed_times(wide, plan, v, width, UNITS);
        int64_t unlike = 0;
        for (int64_t j = 0; j < M; j++) unlike += wide[j * width] != narrow[j];
        CHECK(unlike == 0);
    }
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    const char *const names[] = {"generic", "avx2", "avx512"};
    fill();
    for (int k = 0; k < 3; k++) {
        const ferry_kernels *kernels = ferry_kernels_find(names[k]);
        if (!kernels) continue; /* not this CPU's */
        test_selects(kernels);
        test_few(kernels);
        test_widths(kernels);
    }
    return test_end();
}

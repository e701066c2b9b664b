/* halves_generic.c - the reference: tiles in half precision, in plain C for any CPU.
 *
 * A half has 5 bits of exponent and 10 of fraction: 2^(e - 15) (1 + f / 1024), and f 2^-24 for e = 0. Conversions are
 * those of IEEE 754, to nearest with ties to even, as the CPU's own instructions do it. */
#include "float_bits.h"
#include "halves_impl.h"
#include <string.h>

static uint16_t half_of(float a)
{
    const uint32_t bits = ferry_float_bits(a), sign = bits >> 16 & 0x8000U, size = bits & 0x7fffffffU;
    if (size > 0x7f800000U) return (uint16_t)(sign | 0x7e00U | (size >> 13 & 0x3ffU)); /* NaN, made quiet */
    if (size >= 0x47800000U) return (uint16_t)(sign | 0x7c00U);                        /* 2^16 and more */
    if (size < 0x38800000U) /* below 2^-14: adding 1/2 rounds to multiples of 2^-24 */
        return (uint16_t)(sign | (ferry_float_bits(ferry_float_of(size) + 0.5F) - 0x3f000000U));
    const uint32_t odd = size >> 13 & 1;
    return (uint16_t)(sign | ((size - 0x38000000U + 0xfffU + odd) >> 13)); /* may carry into infinity */
}
static inline float float_of_half(uint16_t half)
{
    const uint32_t size = half & 0x7fffU, sign = (uint32_t)(half & 0x8000U) << 16;
    /* scaled by 2^112, which is exact for subnormal halves too */
    const float a = ferry_float_of(size << 13) * 0x1p112F;
    return ferry_float_of(sign | (size >= 0x7c00U ? size << 13 | 0x7f800000U : ferry_float_bits(a)));
}

/* half [12][32]; true where one is above cut */
static bool weigh(uint16_t *half, const float *plan, const float *weights, float cut)
{
    bool above = false;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            const float a = plan[i * COLUMNS + j] * weights[i];
            above |= a > cut;
            half[i * COLUMNS + j] = half_of(a);
        }
    return above;
}
static int64_t keep(uint16_t *upper, uint16_t *lower, int32_t *kept, const float *plan, const float *weights,
                    int64_t first, int64_t units, float cut)
{
    int64_t count = 0;
    for (int64_t u = 0; u < units; u++, plan += 2 * TILE) {
        uint16_t half[2][TILE];
        const bool above = weigh(half[0], plan, weights, cut), below = weigh(half[1], plan + TILE, weights + ROWS, cut);
        if (!above && !below) continue;
        if (upper) {
            memcpy(upper + count * TILE, half[0], sizeof half[0]);
            memcpy(lower + count * TILE, half[1], sizeof half[1]);
        }
        kept[count++] = (int32_t)(first + u);
    }
    return count;
}

static void flush(double past[][COLUMNS], float now[][COLUMNS])
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            past[i][j] += (double)now[i][j];
            now[i][j] = 0;
        }
}
static void rows_of(double *sums, const uint16_t *tiles, const float *w, const int32_t *unit, int64_t count,
                    const uint16_t *ahead)
{
    (void)ahead;
    float now[ROWS][COLUMNS] = {0};
    double past[ROWS][COLUMNS] = {0};
    for (int64_t k = 0; k < count; k++, tiles += TILE) {
        const float *wk = w + (int64_t)unit[k] * COLUMNS;
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++) now[i][j] += float_of_half(tiles[i * COLUMNS + j]) * wk[j];
        if (k % FERRY_HALF_FLUSH == FERRY_HALF_FLUSH - 1) flush(past, now);
    }
    flush(past, now);
    for (int i = 0; i < ROWS; i++) {
        for (int half = COLUMNS / 2; half > 0; half /= 2)
            for (int j = 0; j < half; j++) past[i][j] += past[i][j + half];
        sums[i] = past[i][0];
    }
}

static void columns_of(double *c, const uint16_t *tiles, const float *q, const int32_t *unit, int64_t count, int first,
                       int end, const uint16_t *ahead)
{
    (void)ahead;
    for (int64_t k = 0; k < count; k++, tiles += TILE) {
        float sum[COLUMNS] = {0};
        double *ck = c + (int64_t)unit[k] * COLUMNS;
        for (int i = first; i < end; i++)
            for (int j = 0; j < COLUMNS; j++) sum[j] += q[i] * float_of_half(tiles[i * COLUMNS + j]);
        for (int j = 0; j < COLUMNS; j++) ck[j] += (double)sum[j];
    }
}

const ferry_halves ferry_halves_generic = {.keep = keep, .rows = rows_of, .columns = columns_of};

/* select_avx512.c - the table of sparsify for CPUs with AVX-512 F, BW, VL, DQ. */
#define ISA avx512
#include "vector_avx512.inc"

/* Entries >= cut into values and columns; returns how many. Writes whole vectors. */
INLINE int s_append(float *values, int32_t *columns, vec a, vec cut, int32_t first)
{
    return v_append(values, (uint32_t *)columns, a, v_at_least(a, cut), (uint32_t)first);
}
/* Those lanes of a into out; returns how many. Writes a whole vector. */
INLINE int s_pack(float *out, vec a, unsigned chosen)
{
    v_store(out, _mm512_maskz_compress_ps((__mmask16)chosen, a));
    return __builtin_popcount(chosen);
}

/* A sum in each lane, in float64. */
typedef struct s_sums {
    __m512d low, high;
} s_sums;
INLINE s_sums s_nothing(void)
{
    return (s_sums){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
INLINE void s_count(s_sums *sums, vec a, unsigned chosen)
{
    const vec there = _mm512_maskz_mov_ps((__mmask16)chosen, a);
    sums->low = _mm512_add_pd(sums->low, _mm512_cvtps_pd(_mm512_castps512_ps256(there)));
    sums->high = _mm512_add_pd(sums->high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(there, 1)));
}
INLINE double s_total(const s_sums *sums)
{
    return d_total(_mm512_add_pd(sums->low, sums->high));
}
/* a times row, times factor of its column, in float64 */
INLINE vec s_scaled(vec a, double row, const float *factor, const int32_t *columns)
{
    const __m512d rows = _mm512_set1_pd(row);
    __m512d low = _mm512_mul_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)), rows);
    __m512d high = _mm512_mul_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)), rows);
    if (factor) {
        const vec f = _mm512_i32gather_ps(_mm512_loadu_si512(columns), factor, 4);
        low = _mm512_mul_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(f)));
        high = _mm512_mul_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(f, 1)));
    }
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
#include "select_cpu.inc"

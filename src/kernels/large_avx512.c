/* large_avx512.c - the table of sparsify for CPUs with AVX-512 F, BW, VL, DQ. */
#define ISA avx512
#include "vector_avx512.inc"

/* The lanes of a that `chosen` says into out; returns how many. Writes a whole vector. */
INLINE int s_pack(float *out, vec a, unsigned chosen)
{
    v_store(out, _mm512_maskz_compress_ps((__mmask16)chosen, a));
    return __builtin_popcount(chosen);
}

/* sum + the lanes of a that are < cut */
INLINE vec s_add_below(vec sum, vec a, vec cut)
{
    return _mm512_mask_add_ps(sum, _mm512_cmp_ps_mask(a, cut, _CMP_LT_OQ), sum, a);
}

/* from[at] in the lanes of `chosen` */
INLINE vec s_gather(const float *from, const uint32_t *at, unsigned chosen)
{
    return _mm512_mask_i32gather_ps(v_set(1), (__mmask16)chosen, _mm512_loadu_si512(at), from, 4);
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
/* a times row times factor in float64 */
INLINE vec s_scaled(vec a, double row, vec factor)
{
    const __m512d rows = _mm512_set1_pd(row);
    __m512d low = _mm512_mul_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)), rows);
    __m512d high = _mm512_mul_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)), rows);
    low = _mm512_mul_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(factor)));
    high = _mm512_mul_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(factor, 1)));
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
#include "large_cpu.inc"

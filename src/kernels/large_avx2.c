/* large_avx2.c - the table of sparsify for CPUs with AVX2 and FMA. */
#define ISA avx2
#include "vector_avx2.inc"

/* The lanes of a that `chosen` says into out; returns how many. */
INLINE int s_pack(float *out, vec a, unsigned chosen)
{
    int found = 0;
    float lane[LANES];
    if (!chosen) return 0;
    v_store(lane, a);
    for (; chosen; chosen &= chosen - 1) out[found++] = lane[__builtin_ctz(chosen)];
    return found;
}

/* all bits of the lanes that `chosen` says */
INLINE vec s_lanes(unsigned chosen)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)chosen), bit), bit));
}
/* sum + the lanes of a that are < cut */
INLINE vec s_add_below(vec sum, vec a, vec cut)
{
    return v_add(sum, _mm256_and_ps(a, _mm256_cmp_ps(a, cut, _CMP_LT_OQ)));
}

/* from[at] in the lanes of `chosen` */
INLINE vec s_gather(const float *from, const uint32_t *at, unsigned chosen)
{
    return _mm256_mask_i32gather_ps(v_set(1), from, _mm256_loadu_si256((const __m256i *)at), s_lanes(chosen), 4);
}

/* A sum in each lane, in float64. */
typedef struct s_sums {
    __m256d low, high;
} s_sums;
INLINE s_sums s_nothing(void)
{
    return (s_sums){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
INLINE void s_count(s_sums *sums, vec a, unsigned chosen)
{
    const vec b = _mm256_and_ps(a, s_lanes(chosen));
    sums->low = _mm256_add_pd(sums->low, _mm256_cvtps_pd(_mm256_castps256_ps128(b)));
    sums->high = _mm256_add_pd(sums->high, _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1)));
}
INLINE double s_total(const s_sums *sums)
{
    return d_total((vec8){sums->low, sums->high});
}
/* a times row times factor in float64 */
INLINE vec s_scaled(vec a, double row, vec factor)
{
    const __m256d rows = _mm256_set1_pd(row);
    __m256d low = _mm256_mul_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)), rows);
    __m256d high = _mm256_mul_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)), rows);
    low = _mm256_mul_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(factor)));
    high = _mm256_mul_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(factor, 1)));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high), 1);
}
#include "large_cpu.inc"

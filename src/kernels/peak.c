/* peak.c - see peak.h. The roofline of Williams, Waterman and Patterson (2009): a kernel with `ops` multiply-adds and
 * `bytes` from memory for each pair makes at most min(peak / ops, bandwidth / bytes) pairs per second. */
#include "peak.h"
#include "mpi/memory.h"
#include <math.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif
enum { CHAINS = 12, STEPS = 50000, RUNS = 40, SWEEPS = 5 }; /* 12 chains hide the latency of two units */
#define UNROLL        _Pragma("GCC unroll 12")
#define TRIAD_BYTES   ((int64_t)256 << 20)
#define SLICE         2e-3 /* seconds that a thread has the core, at least, once it has got it */
#define AHEAD         256  /* numbers of a sweep */
#define DEFAULT_CACHE ((int64_t)32 << 20)

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
double ferry_core_seconds(void)
{
    return seconds(CLOCK_THREAD_CPUTIME_ID);
}
ferry_watch ferry_watch_start(void)
{
    return (ferry_watch){seconds(CLOCK_MONOTONIC), ferry_core_seconds()};
}
double ferry_watch_seconds(const ferry_watch *start)
{
    const double wall = seconds(CLOCK_MONOTONIC) - start->wall;
    return wall < SLICE ? wall : fmax(SLICE, ferry_core_seconds() - start->core);
}

/* Chains of multiply-adds, unlike so that none is computed for another; returns the lanes done. */
static double chains_scalar(void)
{
    float sum[CHAINS], x = 1.0001f, y = 0.9f;
    for (int i = 0; i < CHAINS; i++) sum[i] = (float)i;
    for (int n = 0; n < STEPS; n++) {
        __asm__ volatile("" : "+m"(x), "+m"(y));
        for (int i = 0; i < CHAINS; i++) sum[i] += x * y;
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" ::"m"(sum[i]));
    return (double)CHAINS * STEPS;
}
#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static double chains_avx2(void)
{
    __m256 sum[CHAINS], x = _mm256_set1_ps(1.0001f), y = _mm256_set1_ps(0.9f);
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_set1_ps((float)i);
    for (int n = 0; n < STEPS; n++) {
        __asm__ volatile("" : "+x"(x), "+x"(y));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(x, y, sum[i]);
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" ::"x"(sum[i]));
    return 8.0 * CHAINS * STEPS;
}
__attribute__((target("avx512f"))) static double chains_avx512(void)
{
    __m512 sum[CHAINS], x = _mm512_set1_ps(1.0001f), y = _mm512_set1_ps(0.9f);
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int n = 0; n < STEPS; n++) {
        __asm__ volatile("" : "+v"(x), "+v"(y));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(x, y, sum[i]);
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" ::"v"(sum[i]));
    return 16.0 * CHAINS * STEPS;
}
#endif

double ferry_peak_multiply_adds(const ferry_kernels *kernels)
{
    double (*chains)(void) = chains_scalar;
    double best = 0;
#ifdef __x86_64__
    if (kernels->level == 1) chains = chains_avx2;
    if (kernels->level == 2) chains = chains_avx512;
#endif
    (void)kernels;
    for (int n = 0; n < RUNS; n++) {
        const ferry_watch start = ferry_watch_start();
        const double lanes = chains();
        best = fmax(best, lanes / ferry_watch_seconds(&start));
    }
    return best;
}

static void triad(double *restrict a, const double *restrict b, const double *restrict c, double s, int64_t count)
{
    for (int64_t i = 0; i < count; i++) a[i] = b[i] + s * c[i];
    __asm__ volatile("" ::"r"(a) : "memory");
}
ferry_status ferry_peak_bandwidth(double *bytes_per_second)
{
    const int64_t count = TRIAD_BYTES / 3 / (int64_t)sizeof(double);
    FERRY_AUTO double *a = NULL;
    FERRY_AUTO double *b = NULL;
    FERRY_AUTO double *c = NULL;
    *bytes_per_second = 0;
    FERRY_TRY(ferry_alloc(&a, count));
    FERRY_TRY(ferry_alloc(&b, count));
    FERRY_TRY(ferry_alloc(&c, count));
    for (int64_t i = 0; i < count; i++) b[i] = c[i] = a[i] = (double)i; /* pages of their own */
    for (int n = 0; n < SWEEPS; n++) {
        const ferry_watch start = ferry_watch_start();
        triad(a, b, c, 0.5, count);
        *bytes_per_second = fmax(*bytes_per_second, 32.0 * (double)count / ferry_watch_seconds(&start));
    }
    return FERRY_OK;
}

/* Eight sums, and each line asked for some time before: what one core can read, not how well its look-ahead guesses. */
static double total(const double *a, int64_t count)
{
    double sum[8] = {0};
    for (int64_t i = 0; i < count; i += 8) {
        __builtin_prefetch(a + i + AHEAD);
        for (int l = 0; l < 8; l++) sum[l] += a[i + l];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}
ferry_status ferry_peak_reading(double *bytes_per_second)
{
    const int64_t count = TRIAD_BYTES / (int64_t)sizeof(double);
    FERRY_AUTO double *a = NULL;
    double sum = 0;
    *bytes_per_second = 0;
    FERRY_TRY(ferry_alloc(&a, count));
    for (int64_t i = 0; i < count; i++) a[i] = (double)(i % 7);
    for (int n = 0; n < SWEEPS; n++) {
        const ferry_watch start = ferry_watch_start();
        sum += total(a, count);
        __asm__ volatile("" : "+m"(sum));
        *bytes_per_second = fmax(*bytes_per_second, 8.0 * (double)count / ferry_watch_seconds(&start));
    }
    return FERRY_OK;
}

int64_t ferry_last_cache(void)
{
    long bytes = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return bytes > 0 ? bytes : DEFAULT_CACHE;
}

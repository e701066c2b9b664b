/* A developer's benchmark, no test: bench_kernels [columns] prints, for each table of this CPU, pairs per core-second
 * of each kernel, and for the passes of the solver the share of the roofline lanes / (dim + 7), lanes being the
 * multiply-adds per second that the same table's registers reach in the same run. CPU time. */
#include "kernels/kernels.h"
#include "mpi/memory.h"
#include "mpi/shard.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
enum { WIDTH = 16, PANELS = 4, CHAIN = 50000 };

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 12 chains of multiply-adds, unlike so that none is computed for another; returns lanes done */
static double chains_scalar(void)
{
    float sum[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, x = 1.0001f, y = 0.9f;
    for (int n = 0; n < CHAIN; n++) {
        __asm__ volatile("" : "+m"(x), "+m"(y));
        for (int i = 0; i < 12; i++) sum[i] += x * y;
    }
    for (int i = 0; i < 12; i++) __asm__ volatile("" ::"m"(sum[i]));
    return 12.0 * CHAIN;
}
#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static double chains_avx2(void)
{
    __m256 sum[12], x = _mm256_set1_ps(1.0001f), y = _mm256_set1_ps(0.9f);
    for (int i = 0; i < 12; i++) sum[i] = _mm256_set1_ps((float)i);
    for (int n = 0; n < CHAIN; n++) {
        __asm__ volatile("" : "+x"(x), "+x"(y));
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) sum[i] = _mm256_fmadd_ps(x, y, sum[i]);
    }
    for (int i = 0; i < 12; i++) __asm__ volatile("" ::"x"(sum[i]));
    return 12.0 * CHAIN * 8;
}
__attribute__((target("avx512f"))) static double chains_avx512(void)
{
    __m512 sum[12], x = _mm512_set1_ps(1.0001f), y = _mm512_set1_ps(0.9f);
    for (int i = 0; i < 12; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int n = 0; n < CHAIN; n++) {
        __asm__ volatile("" : "+v"(x), "+v"(y));
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) sum[i] = _mm512_fmadd_ps(x, y, sum[i]);
    }
    for (int i = 0; i < 12; i++) __asm__ volatile("" ::"v"(sum[i]));
    return 12.0 * CHAIN * 16;
}
#endif
static double lanes_per_second(const ferry_kernels *k)
{
    double best = 0;
    for (int n = 0; n < 40; n++) {
        double start = cpu_seconds(), lanes;
#ifdef __x86_64__
        lanes = k->level == 2 ? chains_avx512() : k->level == 1 ? chains_avx2() : chains_scalar();
#else
        lanes = chains_scalar();
#endif
        best = fmax(best, lanes / (cpu_seconds() - start));
    }
    (void)k;
    return best;
}

typedef struct bench {
    const ferry_kernels *k;
    ferry_tile tile;
    int64_t run; /* units per call of plan, as in a canonical block */
    float *x, *y, *alpha, *beta, *norm, *plan, *q, *v, *values;
    int32_t *columns;
    double *c, *m, *t, *out, sums[ROWS], kept;
} bench;

static void run_scores(bench *b)
{
    b->k->scores(b->plan, &b->tile);
}
static void run_plan(bench *b)
{
    for (int64_t u = 0; u < b->tile.units; u += b->run) {
        ferry_tile part = b->tile;
        part.units = b->tile.units - u < b->run ? b->tile.units - u : b->run;
        part.y += u * COLUMNS * part.dim, part.beta += u * COLUMNS;
        b->k->plan(b->plan + u * ROWS * COLUMNS, b->sums, &part);
    }
}
static void run_column_sums(bench *b)
{
    b->k->column_sums(b->c, b->plan, b->q, b->tile.units);
}
static void run_one_pass(bench *b)
{
    run_plan(b), run_column_sums(b);
}
static void run_exponentials(bench *b)
{
    b->k->exponentials(b->plan, b->sums, b->tile.units);
}
static void run_row_max(bench *b)
{
    b->k->row_max(b->q, b->plan, b->tile.units);
}
static void run_column_lse(bench *b)
{
    b->k->column_lse(b->m, b->t, b->plan, b->tile.units);
}
static void run_start(bench *b)
{
    run_scores(b), run_column_lse(b);
}
static void run_above(bench *b)
{
    for (int i = 0; i < ROWS; i++)
        b->kept += (double)b->k->row_above(b->values, b->columns, b->plan, i, b->tile.units, 0x1.8p-1f);
}
static void run_times(bench *b)
{
    b->k->times(b->out, b->plan, b->v, WIDTH, b->tile.units);
}
static void run_transposed(bench *b)
{
    b->k->transposed_times(b->out, b->plan, b->v, WIDTH, b->tile.units);
}

/* Pairs per core-second: the best piece of about 80 ms. Short pieces, so that one of them is undisturbed, yet long for
   the clock. */
static double rate(bench *b, void (*run)(bench *))
{
    int panels = 1 + (int)(400 / b->tile.units);
    double pairs = (double)b->tile.units * ROWS * COLUMNS * panels, best = 0, end = cpu_seconds() + 0.08;
    for (int n = 0; n < 3 * PANELS || cpu_seconds() < end; n++) {
        b->tile.x = b->x + (int64_t)(n % PANELS) * ROWS * b->tile.dim;
        double start = cpu_seconds();
        for (int panel = 0; panel < panels; panel++) run(b);
        best = fmax(best, pairs / (cpu_seconds() - start));
    }
    return best;
}

static float *floats(int64_t count, double from, double to)
{
    float *out = NULL;
    if (ferry_alloc(&out, count) != FERRY_OK) exit(1);
    for (int64_t i = 0; i < count; i++) out[i] = (float)(from + (to - from) * (double)(i * 7919 % 10007) / 10007);
    return out;
}
static double *doubles(int64_t count)
{
    double *out = NULL;
    if (ferry_alloc(&out, count) != FERRY_OK) exit(1);
    return out;
}

static void bench_open(bench *b, const ferry_kernels *k, int dim, int64_t units)
{
    int64_t columns = units * COLUMNS;
    *b = (bench){.k = k, .run = (units + 63) / 64};
    b->x = floats((int64_t)PANELS * ROWS * dim, -0.3, 0.3), b->y = floats(columns * dim, -0.3, 0.3);
    b->alpha = floats(ROWS, -20, 0), b->beta = floats(columns, -5, 0), b->norm = floats(columns, 5, 6);
    b->plan = floats(units * ROWS * COLUMNS, 0, 1), b->q = floats(ROWS, 0, 1), b->v = floats(columns * WIDTH, 0, 1);
    b->values = floats(columns + 16, 0, 0), b->columns = (int32_t *)floats(columns + 16, 0, 0);
    b->c = doubles(columns), b->m = doubles(columns), b->t = doubles(columns), b->out = doubles(columns * WIDTH);
    b->tile = (ferry_tile){.dim = dim,
                           .units = units,
                           .x = b->x,
                           .y = b->y,
                           .alpha = b->alpha,
                           .beta = b->beta,
                           .p = 1,
                           .scale = 1,
                           .x2 = b->norm,
                           .y2 = b->norm};
}
static void bench_close(bench *b)
{
    free(b->x), free(b->y), free(b->alpha), free(b->beta), free(b->norm), free(b->plan), free(b->q), free(b->v);
    free(b->values), free(b->columns), free(b->c), free(b->m), free(b->t), free(b->out);
}

static const struct {
    const char *name;
    void (*run)(bench *);
    bool pass; /* show its share of the roofline */
} passes[] = {{"plan", run_plan, true},
              {"plan + column_sums", run_one_pass, true},
              {"scores", run_scores, true},
              {"scores + column_lse", run_start, true}},
  streams[] = {{"column_sums", run_column_sums, false},
               {"exponentials", run_exponentials, false},
               {"row_max", run_row_max, false},
               {"column_lse", run_column_lse, false},
               {"row_above, all rows, 1/4 pass", run_above, false},
               {"times, 16 wide", run_times, false},
               {"transposed_times, 16 wide", run_transposed, false}};

static void bench_table(const ferry_kernels *k, int64_t units)
{
    static const int dims[] = {10, 30, 50, 350};
    static const struct {
        const char *name;
        ferry_tile_kind kind;
        double p;
    } kinds[] = {{"euclidean", FERRY_TILE_EUCLIDEAN_P, 1},
                 {"euclidean^1.5", FERRY_TILE_EUCLIDEAN_P, 1.5},
                 {"arccos 1", FERRY_TILE_ARCCOS, 1},
                 {"pnorm 1", FERRY_TILE_PNORM, 1},
                 {"pnorm 1.5", FERRY_TILE_PNORM, 1.5}};
    bench b;
    printf("%s: %.1f G multiply-adds per second\n", k->name, 1e-9 * lanes_per_second(k));
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        bench_open(&b, k, dims[d], units);
        for (size_t n = 0; n < sizeof passes / sizeof *passes; n++) {
            double lanes = lanes_per_second(k), got = rate(&b, passes[n].run);
            lanes = fmax(lanes, lanes_per_second(k));
            printf("  dim %3d  %-30s %7.3f G pairs  %3.0f %% of the roofline\n", dims[d], passes[n].name, 1e-9 * got,
                   100 * got * (dims[d] + 7) / lanes);
        }
        bench_close(&b);
    }
    bench_open(&b, k, 50, units);
    for (size_t n = 0; n < sizeof streams / sizeof *streams; n++)
        printf("  %-39s %7.3f G pairs\n", streams[n].name, 1e-9 * rate(&b, streams[n].run));
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds && k->level > 0; n++) {
        b.tile.kind = kinds[n].kind, b.tile.p = kinds[n].p;
        printf("  dim  50  plan of %-22s %7.3f G pairs\n", kinds[n].name, 1e-9 * rate(&b, run_scores));
    }
    bench_close(&b);
}

int main(int argc, char **argv)
{
    int64_t columns = argc > 1 ? atoll(argv[1]) : 20000;
    const char *only = argc > 2 ? argv[2] : "";
    char names[64];
    snprintf(names, sizeof names, "%s", ferry_kernels_names());
    for (char *rest = names, *name; (name = strtok_r(rest, " ", &rest));)
        if (strstr(name, only)) bench_table(ferry_kernels_find(name), (columns + COLUMNS - 1) / COLUMNS);
    return 0;
}

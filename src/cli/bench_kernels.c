/* bench_kernels.c - see bench_kernels.h. Made-up points, laid out as the solver has them: canonical blocks of targets,
 * panels of 24 rows. CPU time, the best of short pieces: so that one of them is undisturbed, yet long for the clock. */
#include "bench_kernels.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    ((int64_t)ROWS * COLUMNS)
#define MOST    FERRY_PANELS_AT_ONCE
enum { WIDTH = 16, ENTRY_DIM = 50, LEAST_TRIES = 3, GROUPS = 100 };
#define MOST_HALVES ((int64_t)512 << 20) /* bytes */
#define PIECE       0.08                 /* seconds */

typedef struct bench {
    const ferry_kernels *k;
    ferry_blocks blocks; /* of the columns: whose sums a call of plans keeps apart */
    int panels;
    ferry_tile tile[MOST];
    float *x, *y, *alpha, *beta, *norm, *plan[MOST], *q, *v, *values;
    int32_t *columns;
    double *c, *m, *t, *out, *block_sums, sums[MOST][ROWS], kept;
    ferry_masses masses; /* of GROUPS groups of columns side by side, and its arrays */
    int64_t *run, *mass;
    int32_t *part, *group;
    float *mask;
    uint16_t *halves;    /* [parts][units][12][32] more than the last cache holds */
    int64_t parts, *end; /* end: of the blocks */
    int32_t *unit;
} bench;

/* ---- what is timed: `panels` panels against all columns ---- */

static void run_plan(bench *b)
{
    double *sums[MOST];
    for (int g = 0; g < b->panels; g++) sums[g] = b->block_sums + (int64_t)g * b->blocks.count * ROWS;
    b->k->plans(b->plan, sums, b->tile, b->panels, b->end, b->blocks.count);
}
static void run_column_sums(bench *b)
{
    for (int g = 0; g < b->panels; g++) b->k->column_sums(b->c, b->plan[g], b->q, b->tile[g].units);
}
static void run_one_pass(bench *b)
{
    run_plan(b);
    run_column_sums(b);
}
static void run_masses(bench *b)
{
    run_plan(b);
    for (int g = 0; g < b->panels; g++) b->k->column_masses(b->c, b->plan[g], b->q, 0, b->tile[g].units, &b->masses);
}
/* A pass over kept tiles: each part's row sums, then its column sums, while the next one comes. */
static void run_halves(bench *b)
{
    const ferry_halves *k = ferry_halves_of(b->k);
    const int64_t units = b->tile[0].units, step = units * FERRY_HALF_TILE;
    for (int64_t p = 0; p < b->parts; p++) {
        const uint16_t *at = b->halves + p * step, *next = b->halves + (p + 1) % b->parts * step;
        k->rows(b->sums[0], at, b->beta, b->unit, units, at + step / 2);
        k->columns(b->c, at, b->q, b->unit, units, 0, FERRY_HALF_ROWS, next);
    }
}
static void run_scores(bench *b)
{
    for (int g = 0; g < b->panels; g++) b->k->scores(b->plan[g], &b->tile[g]);
}
static void run_column_lse(bench *b)
{
    for (int g = 0; g < b->panels; g++) b->k->column_lse(b->m, b->t, b->plan[g], b->tile[g].units);
}
static void run_start(bench *b)
{
    run_scores(b);
    run_column_lse(b);
}
static void run_exponentials(bench *b)
{
    b->k->exponentials(b->plan[0], b->sums[0], b->tile[0].units);
}
static void run_row_max(bench *b)
{
    b->k->row_max(b->q, b->plan[0], b->tile[0].units);
}
static void run_above(bench *b)
{
    for (int i = 0; i < ROWS; i++)
        b->kept += (double)b->k->row_above(b->values, b->columns, b->plan[0], i, b->tile[0].units, 0x1.8p-1f);
}
static void run_times(bench *b)
{
    b->k->times(b->out, b->plan[0], b->v, WIDTH, b->tile[0].units);
}
static void run_transposed(bench *b)
{
    b->k->transposed_times(b->out, b->plan[0], b->v, WIDTH, b->tile[0].units);
}

typedef struct piece {
    const char *name;
    void (*run)(bench *);
    double extra; /* multiply-adds of a pair beside those of its dimensions; below 0: no roof is said */
    double entry; /* bytes of a pair's entry from and to memory, when the panel stays in no cache; below 0: that many
                     are read from memory anyway */
    ferry_tile_kind kind;
    double p;
} piece;
/* 2^s takes 6 multiply-adds and its sum one more; what else both take, and the start of a sum, may cost the same units
 * of a CPU three more, so that 92 to 95 % are the most at 30 to 50 dimensions there. An entry that is written is read
 * before that. */
static const piece on_points[] = {{"plan", run_plan, 7, 8, FERRY_TILE_LINEAR, 0},
                                  {"plan + column_sums", run_one_pass, 8, 12, FERRY_TILE_LINEAR, 0},
                                  {"plan + column_masses", run_masses, 8, 12, FERRY_TILE_LINEAR, 0}},
                   at_start[] = {{"scores", run_scores, 0, 8, FERRY_TILE_LINEAR, 0},
                                 {"scores + column_lse", run_start, 8, 12, FERRY_TILE_LINEAR, 0}},
                   on_entries[] = {{"column_sums", run_column_sums, 1, 4, FERRY_TILE_LINEAR, 0},
                                   {"exponentials", run_exponentials, 7, 8, FERRY_TILE_LINEAR, 0},
                                   {"row_max", run_row_max, 1, 4, FERRY_TILE_LINEAR, 0},
                                   {"column_lse", run_column_lse, 8, 4, FERRY_TILE_LINEAR, 0},
                                   {"row_above, all rows, 1/4 pass", run_above, 1, 4, FERRY_TILE_LINEAR, 0},
                                   {"times, 16 wide", run_times, WIDTH, 4, FERRY_TILE_LINEAR, 0},
                                   {"transposed_times, 16 wide", run_transposed, WIDTH, 4, FERRY_TILE_LINEAR, 0}},
                   on_halves[] = {{"halves: rows + columns", run_halves, 2, -2, FERRY_TILE_LINEAR, 0}},
                   on_kinds[] = {{"scores of euclidean", run_scores, -1, 8, FERRY_TILE_EUCLIDEAN_P, 1},
                                 {"scores of euclidean_p:1.5", run_scores, -1, 8, FERRY_TILE_EUCLIDEAN_P, 1.5},
                                 {"scores of arccos:1", run_scores, -1, 8, FERRY_TILE_ARCCOS, 1},
                                 {"scores of pnorm:1", run_scores, -1, 8, FERRY_TILE_PNORM, 1},
                                 {"scores of pnorm:1.5", run_scores, -1, 8, FERRY_TILE_PNORM, 1.5}};
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* ---- buffers ---- */

static ferry_status numbers(float **out, int64_t count, double from, double to)
{
    FERRY_TRY(ferry_alloc(out, count));
    for (int64_t i = 0; i < count; i++) (*out)[i] = (float)(from + (to - from) * (double)(i * 7919 % 10007) / 10007);
    return FERRY_OK;
}

/* GROUPS groups of equally many columns; a unit that holds several is a run of its own. */
static ferry_status open_masses(bench *b, int64_t units)
{
    const int64_t columns = units * COLUMNS;
    int parts = 0, runs = 0, last = -1;
    FERRY_TRY(ferry_alloc(&b->run, units + 1));
    FERRY_TRY(ferry_alloc(&b->part, units + 1));
    FERRY_TRY(ferry_alloc(&b->group, columns));
    FERRY_TRY(ferry_alloc(&b->mask, (units + GROUPS) * COLUMNS));
    FERRY_TRY(ferry_alloc(&b->mass, GROUPS));
    for (int64_t u = 0; u < units; u++) {
        const int first = (int)(u * COLUMNS * GROUPS / columns);
        const int end = (int)((u * COLUMNS + COLUMNS - 1) * GROUPS / columns);
        if (first == end && first == last) continue;
        b->run[runs] = u;
        b->part[runs++] = parts;
        last = first == end ? first : -1;
        for (int j = 0; j < COLUMNS; j++) {
            const int group = (int)((u * COLUMNS + j) * GROUPS / columns);
            if (j == 0 || group != b->group[parts - 1]) b->group[parts++] = group;
            b->mask[(int64_t)(parts - 1) * COLUMNS + j] = 1;
        }
    }
    b->run[runs] = units;
    b->part[runs] = parts;
    b->masses = (ferry_masses){.segments = 1,
                               .end = {ROWS},
                               .row = {b->mass},
                               .per_mass = 1,
                               .run = b->run,
                               .part = b->part,
                               .mask = b->mask,
                               .group = b->group,
                               .runs = runs};
    return FERRY_OK;
}
static ferry_status open_halves(bench *b)
{
    const int64_t step = b->tile[0].units * FERRY_HALF_TILE, bytes = step * (int64_t)sizeof *b->halves;
    const int64_t wanted = 2 * ferry_last_cache() < MOST_HALVES ? 2 * ferry_last_cache() : MOST_HALVES;
    b->parts = wanted / bytes + 1;
    FERRY_TRY(ferry_alloc(&b->halves, b->parts * step));
    FERRY_TRY(ferry_alloc(&b->unit, b->tile[0].units));
    for (int64_t i = 0; i < b->parts * step; i++) b->halves[i] = (uint16_t)(0x3000 + i % 1024);
    for (int64_t u = 0; u < b->tile[0].units; u++) b->unit[u] = (int32_t)u;
    return FERRY_OK;
}

static ferry_status bench_open(bench *b, const bench_job *job, int dim, int panels)
{
    const int64_t units = (job->columns + COLUMNS - 1) / COLUMNS, columns = units * COLUMNS;
    *b = (bench){.k = job->kernels, .blocks = ferry_blocks_of(columns, COLUMNS), .panels = panels};
    FERRY_TRY(numbers(&b->x, (int64_t)panels * ROWS * dim, -0.3, 0.3));
    FERRY_TRY(numbers(&b->y, columns * dim, -0.3, 0.3));
    FERRY_TRY(numbers(&b->alpha, ROWS, -20, 0));
    FERRY_TRY(numbers(&b->beta, columns, -5, 0));
    FERRY_TRY(numbers(&b->norm, columns, 5, 6));
    FERRY_TRY(numbers(&b->q, ROWS, 0, 1));
    FERRY_TRY(numbers(&b->v, columns * WIDTH, 0, 1));
    FERRY_TRY(ferry_alloc(&b->values, columns + 16));
    FERRY_TRY(ferry_alloc(&b->columns, columns + 16));
    FERRY_TRY(ferry_alloc(&b->c, columns));
    FERRY_TRY(ferry_alloc(&b->m, columns));
    FERRY_TRY(ferry_alloc(&b->t, columns));
    FERRY_TRY(ferry_alloc(&b->out, columns * WIDTH));
    FERRY_TRY(open_masses(b, units));
    FERRY_TRY(ferry_alloc(&b->block_sums, (int64_t)panels * b->blocks.count * ROWS));
    FERRY_TRY(ferry_alloc(&b->end, b->blocks.count));
    for (int block = 0; block < b->blocks.count; block++)
        b->end[block] = ferry_block_first(&b->blocks, block + 1) / COLUMNS;
    for (int g = 0; g < panels; g++) {
        FERRY_TRY(numbers(&b->plan[g], units * TILE, 0, 1));
        b->tile[g] = (ferry_tile){.dim = dim,
                                  .units = units,
                                  .x = b->x + (int64_t)g * ROWS * dim,
                                  .y = b->y,
                                  .alpha = b->alpha,
                                  .beta = b->beta,
                                  .scale = 1,
                                  .x2 = b->norm,
                                  .y2 = b->norm};
    }
    return FERRY_OK;
}
static void bench_close(bench *b)
{
    float *const floats[] = {b->x, b->y, b->alpha, b->beta, b->norm, b->q, b->v, b->values};
    double *const doubles[] = {b->c, b->m, b->t, b->out, b->block_sums};
    for (int i = 0; i < COUNT(floats); i++) free(floats[i]);
    for (int i = 0; i < COUNT(doubles); i++) free(doubles[i]);
    for (int g = 0; g < MOST; g++) free(b->plan[g]);
    free(b->columns);
    free(b->end);
    free(b->run);
    free(b->part);
    free(b->group);
    free(b->mask);
    free(b->mass);
    free(b->halves);
    free(b->unit);
}

/* ---- timing ---- */

/* Pairs per core-second. */
static double rate(bench *b, const piece *p)
{
    const double units = (double)b->tile[0].units, end = ferry_core_seconds() + PIECE;
    const double pairs = p->run == run_halves ? units * FERRY_HALF_TILE * (double)b->parts : units * TILE * b->panels;
    const int times = 1 + (int)(3e5 / pairs);
    double best = 0;
    for (int g = 0; g < b->panels; g++) {
        b->tile[g].kind = p->kind;
        b->tile[g].p = p->p;
    }
    p->run(b); /* the caches as in the middle of a pass */
    for (int tries = 0; tries < LEAST_TRIES || ferry_core_seconds() < end; tries++) {
        const ferry_watch start = ferry_watch_start();
        for (int n = 0; n < times; n++) p->run(b);
        best = fmax(best, pairs * times / ferry_watch_seconds(&start));
    }
    return best;
}

/* At most so many pairs per core-second. y and the panels come from memory when they are larger than the last cache. */
static void find_roof(bench_result *out, const bench_job *job, const piece *p)
{
    const double cache = (double)ferry_last_cache(), columns = (double)job->columns;
    const double ops = p->extra + out->dim;
    double bytes = 0;
    if (p->extra < 0 || ops <= 0) return;
    if (columns * out->dim * sizeof(float) > cache) bytes += (double)(out->dim * sizeof(float)) / ROWS / out->panels;
    if (p->entry > 0 && columns * out->panels * ROWS * sizeof(float) > cache) bytes += p->entry;
    const double memory = p->entry < 0 ? job->reading / -p->entry : bytes > 0 ? job->bandwidth / bytes : INFINITY;
    out->roof = job->lanes / ops;
    out->memory = memory < out->roof;
    if (out->memory) out->roof = memory;
}

/* Collective. */
static double slowest(const ferry_world *world, double mine)
{
    return -ferry_max_double(world, -mine);
}

typedef struct listener {
    bench_job *job;
    const ferry_world *world;
    void (*tell)(void *self, const bench_job *job, const bench_result *result);
    void *self;
} listener;

/* Collective. */
static ferry_status measure(const listener *to, const piece *pieces, int count, int dim, int panels, bool entries)
{
    bench_job *job = to->job;
    bench b = {0};
    ferry_status status = bench_open(&b, job, dim, panels);
    if (status == FERRY_OK && pieces == on_halves) status = open_halves(&b);
    status = ferry_agree(to->world, status);
    for (int i = 0; i < count && status == FERRY_OK; i++) {
        bench_result result = {.kernel = pieces[i].name, .dim = entries ? 0 : dim, .panels = panels};
        ferry_barrier(to->world);
        result.pairs = slowest(to->world, rate(&b, &pieces[i]));
        job->lanes = fmax(job->lanes, slowest(to->world, ferry_peak_multiply_adds(job->kernels)));
        find_roof(&result, job, &pieces[i]);
        to->tell(to->self, job, &result);
    }
    bench_close(&b);
    return status;
}

ferry_status bench_table(bench_job *job, const ferry_world *world,
                         void (*tell)(void *self, const bench_job *job, const bench_result *result), void *self)
{
    static const int together[] = {1, 2, MOST};
    const listener to = {job, world, tell, self};
    job->lanes = slowest(world, ferry_peak_multiply_adds(job->kernels));
    FERRY_TRY(ferry_agree(world, ferry_peak_reading(&job->reading)));
    job->reading = slowest(world, job->reading);
    for (int d = 0; d < job->dim_count; d++) {
        for (int g = 0; g < COUNT(together); g++)
            FERRY_TRY(measure(&to, on_points, COUNT(on_points), job->dims[d], together[g], false));
        FERRY_TRY(measure(&to, at_start, COUNT(at_start), job->dims[d], 1, false));
    }
    FERRY_TRY(measure(&to, on_entries, COUNT(on_entries), ENTRY_DIM, 1, true));
    FERRY_TRY(measure(&to, on_halves, COUNT(on_halves), ENTRY_DIM, 1, true));
    return measure(&to, on_kinds, COUNT(on_kinds), ENTRY_DIM, 1, false);
}

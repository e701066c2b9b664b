/* Thresholds over the plan.
 *
 *   percentile: numpy.percentile(entries of the sampled rows, value), linear between the two neighbouring entries,
 *     rows without mass left out; found exactly by counting float bit patterns: first the upper 16 bits of all entries,
 *     then the lower 15 of those that share the upper ones with the wanted two. Counts are added over the ranks;
 *     nothing is gathered.
 *   min_row: the smallest of the row maxima above 0. */
#include "mpi/log.h"
#include "mpi/memory.h"
#include "plan_impl.h"
#include "sparsify_impl.h"
#include <math.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    (ROWS * COLUMNS)
#define LOW     15
#define UPPER   ((int64_t)1 << 16) /* buckets of the upper bits (the sign is 0) */
#define LOWER   ((int64_t)1 << LOW)

/* ---- the sample ---- */

static uint64_t mix(uint64_t x) /* splitmix64's finish */
{
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

/* A one-to-one map of 0 ... 4^half - 1 (Feistel network): place `at` of a random order. */
static uint64_t shuffled(uint64_t at, int half, uint64_t seed)
{
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t left = at >> half, right = at & mask;
    for (uint64_t round = 0; round < 6; round++) {
        const uint64_t next = left ^ (mix(right ^ mix(seed ^ mix(round))) & mask);
        left = right;
        right = next;
    }
    return left << half | right;
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void ferry_sample_rows(int64_t *rows, int64_t count, int64_t cells, uint64_t seed)
{
    int half = 1;
    while (half < 31 && (int64_t)1 << (2 * half) < cells) half++;
    for (int64_t i = 0; i < count; i++) {
        uint64_t row = (uint64_t)i;
        do row = shuffled(row, half, seed); /* walk on until it is a row: the map stays one-to-one */
        while (row >= (uint64_t)cells);
        rows[i] = (int64_t)row;
    }
    qsort(rows, (size_t)count, sizeof *rows, ascending);
}

/* This grid row's part of the sampled rows, packed like a pass. */
struct sample {
    int64_t count; /* over all ranks */
    int64_t rows, panels;
    ferry_source source;
    double *f;
    double *mass; /* [rows] > 0 where the row has mass */
};

static ferry_status list_rows(int64_t **rows, int64_t *count, int64_t cells, const ferry_sparsify_options *options)
{
    *count = options->n_samples < cells ? options->n_samples : cells;
    FERRY_TRY(ferry_alloc(rows, *count));
    if (!options->sample) {
        ferry_sample_rows(*rows, *count, cells, options->seed);
        return FERRY_OK;
    }
    memcpy(*rows, options->sample, (size_t)*count * sizeof **rows);
    qsort(*rows, (size_t)*count, sizeof **rows, ascending);
    for (int64_t i = 0; i < *count; i++)
        if ((*rows)[i] < 0 || (*rows)[i] >= cells || (i && (*rows)[i] == (*rows)[i - 1]))
            return ferry_fail(FERRY_E_ARG, "row %lld of the sample is not one of 0 ... %lld, or is there twice",
                              (long long)(*rows)[i], (long long)cells - 1);
    return FERRY_OK;
}

/* Local. Reads just the rows wanted [rows], kept cells from `first` on being file rows `place`. */
static ferry_status read_points(ferry_matrix *x, const ferry_passes *passes, const int64_t *wanted, int64_t rows,
                                int64_t first, const int64_t *place)
{
    FERRY_AUTO int64_t *file_row = NULL;
    const ferry_population *source = &passes->plan->source;
    FERRY_TRY(ferry_alloc(&file_row, rows));
    for (int64_t i = 0; i < rows; i++) file_row[i] = place[wanted[i] - first];
    FERRY_TRY(ferry_read_rep(x, source->file, source->options.rep, source->options.dims, passes->plan->cost.precision,
                             file_row, rows));
    int64_t bad = -1;
    if (ferry_matrix_nonfinite(&bad, x) > 0)
        return ferry_fail(FERRY_E_FILE, "%s: %s of cell %lld is not finite; leave such cells out with --source-where",
                          source->options.path, source->options.rep, (long long)file_row[bad]);
    return FERRY_OK;
}

static ferry_status prepare(struct sample *sample, const ferry_passes *passes, const int64_t *wanted, int64_t first,
                            int64_t span, const int64_t *place)
{
    FERRY_AUTO double *f = NULL;
    ferry_matrix x = {0};
    ferry_status status = read_points(&x, passes, wanted, sample->rows, first, place);
    if (status == FERRY_OK) status = ferry_source_open(&sample->source, passes->cost, &x);
    ferry_matrix_close(&x);
    FERRY_TRY(status);
    sample->panels = (sample->rows + ROWS - 1) / ROWS;
    FERRY_TRY(ferry_alloc(&sample->f, sample->panels * ROWS));
    FERRY_TRY(ferry_alloc(&sample->mass, sample->rows));
    FERRY_TRY(ferry_alloc(&f, span));
    FERRY_TRY(ferry_plan_source_potentials(f, passes->plan, first, span));
    for (int64_t i = 0; i < sample->panels * ROWS; i++)
        sample->f[i] = i < sample->rows ? f[wanted[i] - first] : -INFINITY;
    return FERRY_OK;
}

/* Collective. */
static ferry_status sample_open(struct sample *out, ferry_passes *passes, const ferry_sparsify_options *options)
{
    FERRY_AUTO int64_t *all = NULL, *place = NULL;
    const ferry_grid *grid = &passes->grid;
    FERRY_TRY(ferry_agree(passes->world, list_rows(&all, &out->count, passes->plan->source.cells, options)));
    const int64_t from = ferry_plan_part(out->count, grid->row, grid->rows);
    out->rows = ferry_plan_part(out->count, grid->row + 1, grid->rows) - from;
    const int64_t *wanted = all + from;
    const int64_t first = out->rows ? wanted[0] : 0, span = out->rows ? wanted[out->rows - 1] + 1 - first : 0;
    FERRY_TRY(ferry_population_rows(&place, passes->world, &passes->plan->source, first, span));
    return ferry_agree(passes->world, prepare(out, passes, wanted, first, span, place));
}

static void sample_close(struct sample *sample)
{
    ferry_source_close(&sample->source);
    free(sample->f);
    free(sample->mass);
}

/* ---- counting ---- */

const float *ferry_panel_entries(const ferry_panel *panel, float *rounded)
{
    if (!panel->d) return panel->f;
    for (int64_t i = 0; i < panel->units * TILE; i++) rounded[i] = (float)panel->d[i];
    return rounded;
}

/* Entries of one level: level 0 by their upper bits, level 1 by the lower ones under either of two upper parts. */
struct counter {
    int level;
    uint32_t upper[2];
    int64_t *count; /* [threads][UPPER] or [threads][2][LOWER]; the first thread's is the sum in the end */
    float *rounded; /* [threads][units][24][32] in double precision */
};

static void count_entry(const struct counter *counter, int64_t *count, float entry)
{
    uint32_t bits;
    memcpy(&bits, &entry, sizeof bits);
    bits &= 0x7fffffffU;
    const uint32_t upper = bits >> LOW, lower = bits & (uint32_t)(LOWER - 1);
    if (counter->level == 0) {
        count[upper]++;
        return;
    }
    if (upper == counter->upper[0]) count[lower]++;
    if (upper == counter->upper[1]) count[LOWER + lower]++;
}

static void count_panel(const struct counter *counter, int64_t *count, const float *plan, int rows, int64_t columns)
{
    for (int64_t j = 0; j < columns; j++) {
        const float *entry = plan + j / COLUMNS * TILE + j % COLUMNS;
        for (int i = 0; i < rows; i++) count_entry(counter, count, entry[(int64_t)i * COLUMNS]);
    }
}

/* Local. */
static void count_sample(struct counter *counter, ferry_passes *passes, struct sample *sample)
{
    const int64_t room = ferry_passes_units(passes, passes->grid.col) * TILE;
#pragma omp parallel for num_threads(passes->threads) schedule(static)
    for (int t = 0; t < passes->threads; t++) {
        ferry_panel *panel = &passes->pool[t * passes->together];
        int64_t *count = counter->count + t * UPPER;
        for (int64_t p = t; p < sample->panels; p += passes->threads) {
            double sums[ROWS];
            ferry_panel_plan(panel, &sample->source, p, sample->f + p * ROWS, &passes->target);
            const float *plan = ferry_panel_entries(panel, counter->rounded + (panel->d ? t * room : 0));
            const int rows = (int)(sample->rows - p * ROWS < ROWS ? sample->rows - p * ROWS : ROWS);
            count_panel(counter, count, plan, rows, passes->grid.target_rows);
            ferry_panel_row_sums(sums, panel);
            for (int i = 0; i < rows; i++) sample->mass[p * ROWS + i] = sums[i];
        }
    }
    for (int t = 1; t < passes->threads; t++)
        for (int64_t k = 0; k < UPPER; k++) counter->count[k] += counter->count[t * UPPER + k];
}

/* Rows without mass are zeros only: take their zeros out again. */
static void drop_massless(int64_t *count, int64_t massless, int64_t columns)
{
    count[0] -= massless * columns;
}

/* The bucket that holds the rank-th entry (from 0); rank becomes its place in the bucket. */
static uint32_t bucket_of(const int64_t *count, int64_t buckets, int64_t *rank)
{
    int64_t b = 0;
    while (b + 1 < buckets && *rank >= count[b]) *rank -= count[b++];
    return (uint32_t)b;
}

static float entry_of(uint32_t upper, uint32_t lower)
{
    const uint32_t bits = upper << LOW | lower;
    float entry;
    memcpy(&entry, &bits, sizeof entry);
    return entry;
}

/* numpy's linear interpolation between neighbours a and b */
static double between(double a, double b, double t)
{
    return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
}

/* Collective. The two neighbours of the percentile; *part = how far it is from the first to the second. */
static void find_neighbours(double pair[2], double *part, struct counter *counter, ferry_passes *passes,
                            struct sample *sample, double value)
{
    const int64_t columns = passes->plan->target.cells;
    count_sample(counter, passes, sample);
    ferry_total_counts(passes->world, counter->count, UPPER);
    ferry_max_doubles(&passes->grid.across, sample->mass, sample->rows);
    int64_t massless = 0;
    for (int64_t i = 0; passes->grid.col == 0 && i < sample->rows; i++) massless += !(sample->mass[i] > 0);
    massless = ferry_total(passes->world, massless);
    drop_massless(counter->count, massless, columns);
    const int64_t entries = (sample->count - massless) * columns;
    pair[0] = pair[1] = INFINITY; /* nothing left: nothing is kept */
    *part = 0;
    if (entries == 0) return;
    const double at = (double)(entries - 1) * (value / 100);
    int64_t rank[2] = {(int64_t)floor(at), 0};
    rank[1] = rank[0] + 1 < entries ? rank[0] + 1 : rank[0];
    *part = at - (double)rank[0];
    for (int k = 0; k < 2; k++) counter->upper[k] = bucket_of(counter->count, UPPER, &rank[k]);
    counter->level = 1;
    memset(counter->count, 0, (size_t)(passes->threads * UPPER) * sizeof *counter->count);
    count_sample(counter, passes, sample);
    ferry_total_counts(passes->world, counter->count, 2 * LOWER);
    for (int k = 0; k < 2; k++) {
        int64_t *count = counter->count + k * LOWER;
        if (counter->upper[k] == 0) drop_massless(count, massless, columns);
        pair[k] = (double)entry_of(counter->upper[k], bucket_of(count, LOWER, &rank[k]));
    }
}

static ferry_status counter_open(struct counter *out, const ferry_passes *passes)
{
    const int rounds = passes->plan->cost.precision == FERRY_DOUBLE;
    FERRY_TRY(ferry_alloc(&out->count, passes->threads * UPPER));
    return ferry_alloc(&out->rounded,
                       rounds ? passes->threads * ferry_passes_units(passes, passes->grid.col) * TILE : 0);
}

ferry_status ferry_threshold_percentile(double *out, ferry_passes *passes, const ferry_sparsify_options *options)
{
    struct sample sample = {0};
    struct counter counter = {0};
    double pair[2] = {INFINITY, INFINITY}, part = 0;
    ferry_status status = sample_open(&sample, passes, options);
    if (status == FERRY_OK) status = ferry_agree(passes->world, counter_open(&counter, passes));
    if (status == FERRY_OK) find_neighbours(pair, &part, &counter, passes, &sample, options->value);
    *out = isinf(pair[0]) ? INFINITY : between(pair[0], pair[1], part);
    sample_close(&sample);
    free(counter.count);
    free(counter.rounded);
    return status;
}

/* ---- the smallest row maximum ---- */

/* Local. max [panels * 24] over this rank's columns. */
static void row_maxima(double *max, ferry_passes *passes, const ferry_pass *pass, float *rounded)
{
    const ferry_kernels *kernels = ferry_cost_options_of(passes->cost)->kernels;
    const int64_t units = ferry_passes_units(passes, passes->grid.col);
#pragma omp parallel for num_threads(passes->threads) schedule(static)
    for (int t = 0; t < passes->threads; t++) {
        float most[ROWS];
        for (int64_t p = t; p < pass->panels; p += passes->threads) {
            const ferry_panel *panel = ferry_passes_panel(passes, pass, p, passes->threads, t);
            const float *plan = ferry_panel_entries(panel, rounded + (panel->d ? t * units * TILE : 0));
            kernels->row_max(most, plan, units); /* entries, here, not exponents */
            for (int i = 0; i < ROWS; i++) max[p * ROWS + i] = (double)most[i];
        }
    }
}

ferry_status ferry_threshold_min_row(double *out, ferry_passes *passes)
{
    FERRY_AUTO double *max = NULL;
    FERRY_AUTO float *rounded = NULL;
    double least = INFINITY;
    const int64_t room = passes->plan->cost.precision == FERRY_DOUBLE
                             ? passes->threads * ferry_passes_units(passes, passes->grid.col) * TILE
                             : 0;
    FERRY_TRY(ferry_agree(passes->world, ferry_alloc(&max, passes->batch)));
    FERRY_TRY(ferry_agree(passes->world, ferry_alloc(&rounded, room)));
    for (int64_t p = 0; p < passes->passes; p++) {
        ferry_pass pass;
        ferry_status status = ferry_pass_open(&pass, passes, p);
        if (status == FERRY_OK) {
            row_maxima(max, passes, &pass, rounded);
            ferry_max_doubles(&passes->grid.across, max, pass.rows);
            for (int64_t i = 0; i < pass.rows; i++)
                if (max[i] > 0 && max[i] < least) least = max[i];
            ferry_progress(passes->world, "row maxima", ferry_passes_done(passes, p), passes->plan->source.cells,
                           "rows", NULL);
        }
        ferry_pass_close(&pass);
        FERRY_TRY(status);
    }
    *out = -ferry_max_double(passes->world, -least);
    return ferry_passes_check(passes);
}

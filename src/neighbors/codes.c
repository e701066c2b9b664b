/* The book of words and the codes of rows. Sub-spaces have nothing to do with each other: they are trained by the rank
 * that they are dealt to, on the same sample everywhere. */
#include "codes.h"
#include "mpi/exchange.h"
#include "math/random.h"
#include "quantizer_impl.h"
#include <string.h>

#define SAMPLE_EACH  128                 /* rows of the sample for each word */
#define SAMPLE_BYTES ((int64_t)64 << 20) /* of it, at most, */
#define SAMPLE_LEAST 4096                /* but so many rows */
#define STEPS        10                  /* k-means steps */
#define UNITS        (FERRY_WORDS / COLUMNS)

static int64_t sample_of(int64_t rows, int64_t dim)
{
    int64_t most = SAMPLE_BYTES / (dim * (int64_t)sizeof(float));
    if (most < SAMPLE_LEAST) most = SAMPLE_LEAST;
    if (most > (int64_t)SAMPLE_EACH * FERRY_WORDS) most = (int64_t)SAMPLE_EACH * FERRY_WORDS;
    return rows < most ? rows : most;
}

int64_t ferry_codes_train_bytes(int64_t rows, int dim, int64_t bytes, int threads)
{
    const int64_t sample = sample_of(rows, dim), width = (dim + bytes - 1) / bytes;
    const int64_t one = ferry_lloyd_bytes(sample, FERRY_WORDS, (int)width) + 4 * sample * width;
    return 8 * sample * dim + (threads > 0 ? threads : 1) * one + 4 * (int64_t)FERRY_WORDS * dim;
}

int64_t ferry_codes_held_bytes(int64_t rows, int dim, int64_t bytes)
{
    return rows * (bytes + 8) + 8 * (int64_t)FERRY_WORDS * dim;
}

void ferry_codes_close(ferry_codes *codes)
{
    if (codes->rows) {
        ferry_window_close(&codes->window);
        ferry_world_close(&codes->node);
    }
    free(codes->book);
    *codes = (ferry_codes){0};
}

/* --- the sample --- */

typedef struct training {
    ferry_codes *codes;
    const ferry_world *world;
    const ferry_lists *lists;
    uint64_t seed;
    int threads;
    int64_t sample;
    int64_t *counts;   /* [size] rows of the sample from every rank */
    float *mine, *all; /* residuals [..][dim] */
    float *words;      /* [256][width] of one sub-space on its way */
} training;

/* Row of the list order that is row i of the sample: one of each of `sample` runs of equal length. */
static int64_t row_of(const training *t, int64_t i)
{
    const int64_t rows = t->lists->rows;
    const int64_t low = (int64_t)((__int128)i * rows / t->sample);
    const int64_t end = (int64_t)((__int128)(i + 1) * rows / t->sample);
    return low + (int64_t)(ferry_random(t->seed, (uint64_t)i) * (double)(end - low));
}

static int64_t sample_first(const training *t, int rank)
{
    return t->sample * rank / t->world->size;
}

/* Local. */
static ferry_status open_training(training *t, int64_t bytes)
{
    const int dim = t->lists->quantizer->dim;
    if (bytes < 1 || bytes > dim)
        return ferry_fail(FERRY_E_ARG, "codes of %lld bytes: rows of %d columns have codes of 1 to %d bytes",
                          (long long)bytes, dim, dim);
    *t->codes = (ferry_codes){.bytes = (int)bytes, .dim = dim};
    t->sample = sample_of(t->lists->rows, dim);
    FERRY_TRY(ferry_alloc(&t->codes->book, (int64_t)FERRY_WORDS * dim));
    FERRY_TRY(ferry_alloc(&t->counts, t->world->size));
    for (int r = 0; r < t->world->size; r++) t->counts[r] = sample_first(t, r + 1) - sample_first(t, r);
    FERRY_TRY(ferry_alloc(&t->mine, t->counts[t->world->rank] * dim));
    FERRY_TRY(ferry_alloc(&t->all, t->sample * dim));
    return ferry_alloc(&t->words, (int64_t)FERRY_WORDS * dim);
}

static void close_training(training *t)
{
    free(t->counts);
    free(t->mine);
    free(t->all);
    free(t->words);
}

/* residual = prepared row - centroid. Local. */
static ferry_status residual_of(float *residual, const ferry_lists *lists, const float *row, int64_t list)
{
    const ferry_quantizer *q = lists->quantizer;
    const float *centre = q->list.centre + list * q->dim;
    float norm2;
    FERRY_TRY(ferry_quantizer_prepare(residual, &norm2, q, row, 1, 0));
    for (int k = 0; k < q->dim; k++) residual[k] -= centre[k];
    return FERRY_OK;
}

/* Local. Residuals of this rank's share of the sample, in list order. */
static ferry_status take_sample(training *t)
{
    const ferry_lists *lists = t->lists;
    const int dim = lists->quantizer->dim;
    const int64_t begin = sample_first(t, t->world->rank), end = begin + t->counts[t->world->rank];
    for (int64_t i = begin; i < end;) {
        const int64_t row = row_of(t, i), list = ferry_lists_of_row(lists, row);
        ferry_list_part part;
        FERRY_TRY(ferry_lists_take(&part, lists, list, (row - lists->first[list]) / FERRY_LIST_PART));
        ferry_status status = part.rows ? FERRY_OK : ferry_fail(FERRY_E_ARG, "lists without their rows have no codes");
        for (int64_t at = row; status == FERRY_OK && at < part.first + part.count;) {
            status = residual_of(t->mine + (i - begin) * dim, lists, part.rows + (at - part.first) * dim, list);
            if (++i >= end) break;
            at = row_of(t, i);
        }
        ferry_lists_drop(lists, &part);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* --- training --- */

/* Local. The words of one sub-space; those that no row needs are like the first. */
static ferry_status find_words(training *t, int m)
{
    const ferry_codes *codes = t->codes;
    const ferry_quantizer *q = t->lists->quantizer;
    const int first = ferry_codes_column(codes, m), width = ferry_codes_column(codes, m + 1) - first;
    ferry_lloyd lloyd = {0};
    double distortion;
    FERRY_AUTO float *rows = NULL;
    FERRY_AUTO float *found = NULL;
    FERRY_TRY(ferry_alloc(&rows, t->sample * width));
    FERRY_TRY(ferry_alloc(&found, (int64_t)FERRY_WORDS * width));
    for (int64_t i = 0; i < t->sample; i++)
        memcpy(rows + i * width, t->all + i * codes->dim + first, (size_t)width * sizeof *rows);
    ferry_status status = ferry_lloyd_open(&lloyd, t->sample, FERRY_WORDS, width, q->kernels, 1);
    if (status == FERRY_OK) {
        const int words = ferry_lloyd_find(found, &distortion, &lloyd, rows, NULL, t->sample, FERRY_WORDS, STEPS,
                                           t->seed + (uint64_t)m + 1);
        for (int64_t w = 0; w < FERRY_WORDS; w++)
            memcpy(codes->book + w * codes->dim + first, found + (w < words ? w : 0) * width,
                   (size_t)width * sizeof *found);
    }
    ferry_lloyd_close(&lloyd);
    return status;
}

/* Local. Every `size`-th sub-space. */
static ferry_status train_mine(training *t)
{
    ferry_status worst = FERRY_OK;
#pragma omp parallel for num_threads(t->threads) schedule(dynamic, 1)
    for (int m = t->world->rank; m < t->codes->bytes; m += t->world->size) {
        const ferry_status status = find_words(t, m);
#pragma omp critical(ferry_codes_train)
        if (status < worst) worst = status;
    }
    return worst;
}

/* Collective. */
static void share_words(training *t)
{
    const ferry_codes *codes = t->codes;
    for (int m = 0; m < codes->bytes; m++) {
        const int first = ferry_codes_column(codes, m), width = ferry_codes_column(codes, m + 1) - first;
        for (int64_t w = 0; w < FERRY_WORDS; w++)
            memcpy(t->words + w * width, codes->book + w * codes->dim + first, (size_t)width * sizeof *t->words);
        ferry_broadcast(t->world, t->words, (size_t)(FERRY_WORDS * width) * sizeof *t->words, m % t->world->size);
        for (int64_t w = 0; w < FERRY_WORDS; w++)
            memcpy(codes->book + w * codes->dim + first, t->words + w * width, (size_t)width * sizeof *t->words);
    }
}

/* Collective. */
static ferry_status train(training *t, int64_t bytes)
{
    FERRY_TRY(ferry_agree(t->world, open_training(t, bytes)));
    FERRY_TRY(ferry_agree(t->world, take_sample(t)));
    ferry_gather_all(t->world, t->mine, t->counts, t->all, (size_t)t->codes->dim * sizeof(float));
    FERRY_TRY(ferry_agree(t->world, train_mine(t)));
    share_words(t);
    return FERRY_OK;
}

ferry_status ferry_codes_train(ferry_codes *out, const ferry_world *world, const ferry_lists *lists, int64_t bytes,
                               uint64_t seed, int threads)
{
    *out = (ferry_codes){0};
    training t = {.codes = out, .world = world, .lists = lists, .seed = seed, .threads = threads > 0 ? threads : 1};
    const ferry_status status = train(&t, bytes);
    close_training(&t);
    if (status != FERRY_OK) ferry_codes_close(out);
    return status;
}

/* --- encoding --- */

struct ferry_encoder {
    const ferry_codes *codes;
    const ferry_quantizer *q;
    int widest;          /* columns of a sub-space */
    float *centre;       /* [256][dim] sub-space by sub-space */
    float *packed;       /* [256 * dim] likewise */
    float *half, *norm;  /* [bytes][256] */
    ferry_centres *book; /* [bytes] */
};

ferry_status ferry_encoder_open(ferry_encoder **out, const ferry_codes *codes, const ferry_quantizer *q)
{
    FERRY_TRY(ferry_alloc(out, 1));
    ferry_encoder *e = *out;
    *e = (ferry_encoder){.codes = codes, .q = q};
    FERRY_TRY(ferry_alloc(&e->centre, (int64_t)FERRY_WORDS * codes->dim));
    FERRY_TRY(ferry_alloc(&e->packed, (int64_t)FERRY_WORDS * codes->dim));
    FERRY_TRY(ferry_alloc(&e->half, (int64_t)FERRY_WORDS * codes->bytes));
    FERRY_TRY(ferry_alloc(&e->norm, (int64_t)FERRY_WORDS * codes->bytes));
    FERRY_TRY(ferry_alloc(&e->book, codes->bytes));
    for (int m = 0; m < codes->bytes; m++) {
        const int first = ferry_codes_column(codes, m), width = ferry_codes_column(codes, m + 1) - first;
        float *centre = e->centre + (int64_t)FERRY_WORDS * first;
        if (width > e->widest) e->widest = width;
        for (int64_t w = 0; w < FERRY_WORDS; w++)
            memcpy(centre + w * width, codes->book + w * codes->dim + first, (size_t)width * sizeof *centre);
        e->book[m] = (ferry_centres){FERRY_WORDS,
                                     UNITS,
                                     centre,
                                     e->packed + (int64_t)FERRY_WORDS * first,
                                     e->half + (int64_t)FERRY_WORDS * m,
                                     e->norm + (int64_t)FERRY_WORDS * m};
        ferry_centres_pack(&e->book[m], width, q->kernels);
    }
    return FERRY_OK;
}

void ferry_encoder_close(ferry_encoder **encoder)
{
    ferry_encoder *e = *encoder;
    if (e) {
        free(e->centre);
        free(e->packed);
        free(e->half);
        free(e->norm);
        free(e->book);
        free(e);
    }
    *encoder = NULL;
}

/* What one thread works with. */
typedef struct desk {
    float *residual, *part, *panel; /* [24][dim], [24][widest], [24 * widest] */
} desk;

static ferry_status open_desk(desk *d, const ferry_encoder *e)
{
    FERRY_TRY(ferry_alloc(&d->residual, (int64_t)ROWS * e->codes->dim));
    FERRY_TRY(ferry_alloc(&d->part, (int64_t)ROWS * e->widest));
    return ferry_alloc(&d->panel, (int64_t)ROWS * e->widest);
}

static void close_desk(desk *d)
{
    free(d->residual);
    free(d->part);
    free(d->panel);
}

/* Up to 24 rows, the first of them row `first` of the lists. */
static ferry_status encode_panel(uint8_t *code, desk *d, const ferry_encoder *e, const ferry_lists *lists,
                                 const float *rows, int64_t first, int64_t count)
{
    const ferry_codes *codes = e->codes;
    int64_t list = ferry_lists_of_row(lists, first);
    for (int64_t i = 0; i < count; i++) {
        while (first + i >= lists->first[list + 1]) list++;
        FERRY_TRY(residual_of(d->residual + i * codes->dim, lists, rows + i * codes->dim, list));
    }
    for (int m = 0; m < codes->bytes; m++) {
        const int column = ferry_codes_column(codes, m), width = ferry_codes_column(codes, m + 1) - column;
        ferry_nearest nearest;
        for (int64_t i = 0; i < count; i++)
            memcpy(d->part + i * width, d->residual + i * codes->dim + column, (size_t)width * sizeof *d->part);
        e->q->kernels->pack_rows(d->panel, d->part, count, width);
        ferry_nearest_start(&nearest);
        ferry_nearest_join(&nearest, e->q->scans, &e->book[m], width, d->panel, 0, UNITS);
        for (int64_t i = 0; i < count; i++) code[i * codes->bytes + m] = (uint8_t)nearest.index[i];
    }
    return FERRY_OK;
}

ferry_status ferry_encode(uint8_t *code, const ferry_encoder *encoder, const ferry_lists *lists, const float *rows,
                          int64_t first, int64_t count, int threads)
{
    const int bytes = encoder->codes->bytes, dim = encoder->codes->dim;
    ferry_status worst = FERRY_OK;
#pragma omp parallel num_threads(threads > 0 ? threads : 1)
    {
        desk d = {0};
        ferry_status mine = open_desk(&d, encoder);
#pragma omp for schedule(dynamic, 16)
        for (int64_t at = 0; at < count; at += ROWS)
            if (mine == FERRY_OK)
                mine = encode_panel(code + at * bytes, &d, encoder, lists, rows + at * dim, first + at,
                                    count - at < ROWS ? count - at : ROWS);
        close_desk(&d);
#pragma omp critical(ferry_encode)
        if (mine < worst) worst = mine;
    }
    return worst;
}

float ferry_codes_own(const ferry_codes *codes, const ferry_quantizer *q, const uint8_t *code, int64_t list)
{
    const float *centre = q->list.centre + list * q->dim;
    double sum = 0;
    for (int m = 0; m < codes->bytes; m++) {
        const float *word = codes->book + (int64_t)code[m] * codes->dim;
        for (int k = ferry_codes_column(codes, m); k < ferry_codes_column(codes, m + 1); k++)
            sum += (double)word[k] * ((double)word[k] + 2 * (double)centre[k]);
    }
    return (float)sum;
}

/* A query and the codes of the lists that it looks into: one table a query, M additions a row. Candidates are kept as
 * keys (distance, cell); when twice as many are there as are wanted, the better half stays and the threshold falls. */
#include "search_codes_impl.h"
#include "quantizer_impl.h"
#include <math.h>
#include <string.h>

ferry_status ferry_codes_job_of(ferry_codes_job *out, const ferry_index *index, const ferry_codes_options *options)
{
    *out = (ferry_codes_job){.index = index, .q = &index->quantizer, .codes = &index->codes, .options = *options};
    if (!out->options.rerank) out->options.rerank = FERRY_RERANK;
    if (out->options.threads < 1) out->options.threads = 1;
    out->most = out->options.rerank * options->k;
    if (!index->codes.bytes) return ferry_fail(FERRY_E_ARG, "%s holds whole vectors, no codes", index->path);
    if (options->k < 1 || out->options.rerank < 1 || out->most > 1 << 20)
        return ferry_fail(FERRY_E_ARG, "%lld candidates for each of %d neighbours: 1 to 1048576 in all",
                          (long long)out->options.rerank, options->k);
    return FERRY_OK;
}

double ferry_codes_distance(const ferry_codes_job *job, const float *a, const float *b)
{
    const ferry_quantizer *q = job->q;
    return q->metric == FERRY_COSINE ? q->scans->cosine(a, b, q->dim) : q->scans->distance2(a, b, q->dim);
}

void ferry_keys_select(uint64_t *key, int64_t count, int64_t most)
{
    int64_t low = 0, high = count - 1;
    if (most <= 0 || most >= count) return;
    while (low < high) {
        const uint64_t a = key[low], b = key[low + (high - low) / 2], c = key[high];
        const uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b); /* the middle one */
        int64_t i = low, j = high;
        while (i <= j) {
            while (key[i] < pivot) i++;
            while (key[j] > pivot) j--;
            if (i <= j) {
                const uint64_t t = key[i];
                key[i++] = key[j];
                key[j--] = t;
            }
        }
        if (most - 1 <= j)
            high = j;
        else if (most - 1 >= i)
            low = i;
        else
            return;
    }
}

ferry_status ferry_codes_scanner_open(ferry_codes_scanner *out, const ferry_codes_job *job)
{
    const ferry_quantizer *q = job->q;
    *out = (ferry_codes_scanner){.job = job};
    FERRY_TRY(ferry_alloc(&out->panel, (int64_t)PANEL * q->dim));
    FERRY_TRY(ferry_alloc(&out->scores, q->list.units * PANEL * UNIT));
    FERRY_TRY(ferry_alloc(&out->list, q->list.count));
    FERRY_TRY(ferry_alloc(&out->base, q->list.count));
    FERRY_TRY(ferry_alloc(&out->table, (int64_t)job->codes->bytes * FERRY_WORDS));
    return ferry_alloc(&out->found, 2 * job->most);
}

void ferry_codes_scanner_close(ferry_codes_scanner *scanner)
{
    free(scanner->panel);
    free(scanner->scores);
    free(scanner->list);
    free(scanner->base);
    free(scanner->table);
    free(scanner->found);
}

void ferry_codes_panel(ferry_codes_scanner *scanner, const float *rows, int64_t count)
{
    static const float zero[PANEL];
    const ferry_quantizer *q = scanner->job->q;
    q->kernels->pack_rows(scanner->panel, rows, count, q->dim);
    const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                             .dim = q->dim,
                             .units = q->list.units,
                             .x = scanner->panel,
                             .y = q->list.packed,
                             .alpha = zero,
                             .beta = q->list.half};
    q->kernels->scores(scanner->scores, &tile);
}

/* table = -2 <q, word> of all words. */
static void fill_table(ferry_codes_scanner *scanner, const float *row)
{
    const ferry_codes *codes = scanner->job->codes;
    for (int m = 0; m < codes->bytes; m++) {
        float *table = scanner->table + (int64_t)m * FERRY_WORDS;
        const int first = ferry_codes_column(codes, m), end = ferry_codes_column(codes, m + 1);
        for (int64_t w = 0; w < FERRY_WORDS; w++) {
            const float *word = codes->book + w * codes->dim;
            float sum = 0;
            for (int k = first; k < end; k++) sum += row[k] * word[k];
            table[w] = -2 * sum;
        }
    }
}

void ferry_codes_begin(ferry_codes_scanner *scanner, int i, const float *row, float norm2)
{
    const ferry_quantizer *q = scanner->job->q;
    for (int64_t l = 0; l < q->list.count; l++) {
        const float square = norm2 - 2 * scanner->scores[l / UNIT * PANEL * UNIT + i * UNIT + l % UNIT];
        scanner->base[l] = square;
        scanner->list[l] = ferry_codes_key(square, (uint32_t)l);
    }
    scanner->ordered = 0;
    fill_table(scanner, row);
    scanner->count = 0;
    scanner->threshold = INFINITY;
}

static int by_key(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int64_t ferry_codes_list(ferry_codes_scanner *scanner, int64_t n)
{
    const int64_t lists = scanner->job->q->list.count, done = scanner->ordered;
    if (n >= done) {
        int64_t more = done < 32 ? 32 : done; /* twice as many as before */
        if (more <= n - done) more = n - done + 1;
        if (more > lists - done) more = lists - done;
        ferry_keys_select(scanner->list + done, lists - done, more);
        qsort(scanner->list + done, (size_t)more, sizeof *scanner->list, by_key);
        scanner->ordered = done + more;
    }
    return (int64_t)(uint32_t)scanner->list[n];
}

void ferry_codes_settle(ferry_codes_scanner *scanner)
{
    const int64_t most = scanner->job->most;
    if (scanner->count < most) return;
    ferry_keys_select(scanner->found, scanner->count, most);
    scanner->count = most;
    uint64_t last = 0;
    for (int64_t i = 0; i < most; i++) last = scanner->found[i] > last ? scanner->found[i] : last;
    const uint32_t bits = (uint32_t)(last >> 32);
    memcpy(&scanner->threshold, &bits, sizeof bits);
}

/* Sum of the table's entries of one row, in a fixed order. */
static inline float sum_of(const float *table, const uint8_t *code, int bytes)
{
    float a = 0, b = 0, c = 0, d = 0;
    int m = 0;
    for (; m + 4 <= bytes; m += 4, table += 4 * FERRY_WORDS) {
        a += table[code[m]];
        b += table[FERRY_WORDS + code[m + 1]];
        c += table[2 * FERRY_WORDS + code[m + 2]];
        d += table[3 * FERRY_WORDS + code[m + 3]];
    }
    for (; m < bytes; m++, table += FERRY_WORDS) a += table[code[m]];
    return (a + b) + (c + d);
}

void ferry_codes_scan(ferry_codes_scanner *scanner, int64_t list, uint32_t without)
{
    const ferry_codes *codes = scanner->job->codes;
    const ferry_lists *lists = &scanner->job->index->lists;
    const float base = scanner->base[list];
    const int64_t first = lists->first[list], end = lists->first[list + 1];
    const int bytes = codes->bytes;
    for (int64_t r = first; r < end; r++) {
        const float d = base + (codes->own[r] + sum_of(scanner->table, codes->code + r * bytes, bytes));
        if (!(d <= scanner->threshold) || codes->cell[r] == without) continue;
        scanner->found[scanner->count++] = ferry_codes_key(d, codes->cell[r]);
        if (scanner->count == 2 * scanner->job->most) ferry_codes_settle(scanner);
    }
    scanner->lists++;
    scanner->pairs += end - first;
}

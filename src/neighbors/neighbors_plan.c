/* What a search takes, from numbers alone. n reference cells, q queries (self: the same), d columns, k neighbours, P
 * ranks, p of them on a node, L lists, s = sqrt(L) super-cells, f = 1 - 1/P the share that leaves a rank, B bytes of a
 * row in its file (4 d for float32), R = 12 + 4 d a row on its way, G = 4 + 8 k a finished row.
 *
 * Memory of a rank: base (measured) + centroids / p, in all phases, and
 *   train    ferry_train_bytes of 64 L rows (fewer when they do not fit: the training says so)
 *   assign   build: 8 bytes a row of the rank, sums of the lists, a batch; the rows themselves when they fit
 *   place    build + held lists / p
 *   search   held lists or a cache, of the reference and of the queries (not in self mode) + graph + buffers
 *   tune     as search, without the graph
 *   write    graph + a block of rows
 *   graph    graph + ferry_weights_bytes of the umap kernel + the writer of a sparse matrix
 * What does not fit goes to disk: first the graph, then the queries, then the reference; with few queries these stay
 * and the reference goes.
 *
 * Bytes of all ranks:
 *   train    read n B;                  sent f (64 L (4 + 4 d) + (128 s + s + L) 4 d)
 *   assign   read n B + q B;            sent 32 L P for each side
 *   place    read n B + q B, nothing where rows are kept from assign; sent f R (n + q); on disk written 2 R n, read R n
 *   tune     on disk read 1.2 R n: the sample needs nearly every list (measured: 1.0 to 1.4)
 *   search   sent f G q; on disk: the graph written G q; lists read 1.05 R n + R q at the least. Queries are searched
 * in chunks as large as memory allows, each of which reads what it looks into: few lists besides its own where the
 * cells of a type fill few lists, but many where one type fills thousands, which no number tells beforehand write
 * written 12 k q + results; the graph on disk read G q graph    sent f (16 + 30) k q (both directions of an edge meet;
 * sparse rows go to the rank that writes them); written 12 (k + 1.5 k) q (as many edges are one-sided as not); on disk
 * read 5 G q A stored index is read once, n (8 + 4 d), when it is held, in `place`.
 *
 * An index with codes of M bytes holds n (M + 8) once per node instead of lists, read n (M + 8) in `place`; queries are
 * not cut into lists. tune reads the reference once, n B; search reads the rows of the candidates, c = rerank k a
 * query, batch by batch of b queries: at most q / b times n B, and q c of 64 KiB each when they lie far apart. */
#include "mpi/memory.h"
#include "neighbors.h"
#include "weights.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MARGIN       ((int64_t)10 << 20)  /* what libraries take while they work */
#define MESSAGES     ((int64_t)8 << 20)   /* what MPI holds once ranks have talked */
#define WRITING      ((int64_t)16 << 20)  /* what HDF5 and MPI hold of a file that is written */
#define SLAB         ((int64_t)32 << 20)  /* of one read of rows, at most */
#define MOST_WORK    ((int64_t)256 << 20) /* more than this in buffers of the search makes nothing faster */
#define SAMPLE       64                   /* rows a list that the lists are trained on */
#define SUPER_SAMPLE 128                  /* rows a super-cell that level 1 is trained on */
#define SAMPLE_LEAST 8
#define TUNED        1000 /* queries that are searched exactly when a setting is found */
#define SUPERS_BEST  4    /* super-cells that a row's list is looked for in */
#define EXACT_LISTS  4096
#define HALO         0.05 /* lists that a rank reads besides its own, or again, as a share of all */
#define TUNE_READS   1.2  /* times that a list is read for the sample */
#define FLOPS        4e10 /* of one rank's core in a second */
#define DISK_RATE    1e9  /* bytes a second, all ranks of a node */
#define NETWORK_RATE 2e9  /* bytes a second, one rank */

/* What the formulas work with. */
typedef struct numbers {
    const ferry_neighbors_sizes *sizes;
    const ferry_neighbors_options *o;
    int64_t n, q, lists; /* q 0 in self mode: no side of its own */
    int64_t rows;        /* of the graph */
    int64_t d, p, fixed; /* fixed: base, centroids and margin */
    double leaves;       /* f */
    bool exact;          /* assignment */
    int64_t reference_row, query_row;
} numbers;

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static numbers numbers_of(const ferry_neighbors_sizes *sizes, const ferry_neighbors_options *o)
{
    numbers x = {.sizes = sizes, .o = o, .n = sizes->reference, .d = sizes->dim};
    x.q = sizes->self || sizes->codes ? 0 : sizes->queries; /* codes: queries have no lists */
    x.rows = sizes->index ? 0 : sizes->self ? sizes->reference : sizes->queries;
    x.lists = sizes->stored ? sizes->lists : o->lists ? o->lists : ferry_lists_wanted(x.n);
    x.lists = larger(1, smaller(x.lists, x.n));
    x.p = (sizes->ranks + sizes->nodes - 1) / sizes->nodes;
    x.fixed =
        sizes->base + MARGIN + (sizes->ranks > 1 ? MESSAGES : 0) + ferry_quantizer_bytes(x.lists, sizes->dim) / x.p;
    x.leaves = 1 - 1.0 / sizes->ranks;
    x.exact = o->exact || x.lists <= EXACT_LISTS;
    x.reference_row = sizes->reference_row ? sizes->reference_row : 4 * x.d;
    x.query_row = sizes->query_row ? sizes->query_row : 4 * x.d;
    return x;
}

/* --- memory --- */

static int64_t per_rank(const numbers *x, int64_t rows)
{
    return (rows + x->sizes->ranks - 1) / x->sizes->ranks;
}

/* Building the lists of so many rows, at the least: numbers of the rows and lists, a batch and its reading. */
static int64_t build_least(const numbers *x, int64_t rows, int64_t row)
{
    const int64_t here = per_rank(x, rows), numbers_here = 8 * here + 16 * x->lists;
    const int64_t all = here * (20 * x->d + 64) + smaller(SLAB, 2 * here * row);
    return numbers_here + smaller(all, 4 * numbers_here + ((int64_t)4 << 20));
}

/* Training shrinks its sample, and says so, down to a few rows for each list. */
static int64_t train_least(const numbers *x)
{
    if (x->sizes->stored) return 0;
    return ferry_train_bytes(x->lists, x->sizes->dim, smaller(x->n, SAMPLE_LEAST * x->lists), x->sizes->ranks);
}

/* Bytes of a side and of the graph in the search. */
typedef struct form {
    bool reference, queries, graph; /* held */
} form;

static int64_t side_bytes(const numbers *x, int64_t rows, bool held)
{
    if (rows == 0) return 0;
    if (x->sizes->codes) return ferry_codes_held_bytes(rows, x->sizes->dim, x->sizes->codes) / x->p;
    if (!held) return ferry_lists_cache_least(x->sizes->dim, x->o->threads);
    const int64_t bytes = ferry_lists_held_bytes(rows, x->lists, x->sizes->dim, (int)x->p);
    return x->p > 1 ? bytes + bytes / 8 : bytes; /* pages that one rank alone has touched count whole for it */
}

static int64_t graph_bytes(const numbers *x, bool held)
{
    return held ? ferry_graph_bytes(x->rows, x->o->k, x->sizes->ranks)
                : ferry_graph_least(x->rows, x->o->k, x->sizes->ranks);
}

/* The true neighbours of the sample, of all ranks, and a block of the reference in three forms. */
static int64_t truth_bytes(const numbers *x)
{
    return TUNED * (12 * x->d + 16 * (int64_t)x->o->k * (x->sizes->ranks + 1)) + ((int64_t)16 << 20);
}

static int64_t work_least(const numbers *x)
{
    if (x->sizes->codes)
        return ferry_codes_least(x->sizes->dim, x->o->k, x->o->rerank, x->lists, x->o->threads) + truth_bytes(x);
    return x->sizes->index ? 0 : ferry_search_least(x->sizes->dim, x->o->k, x->lists, x->o->threads);
}

static int64_t search_bytes(const numbers *x, form f)
{
    return x->fixed + side_bytes(x, x->n, f.reference) + side_bytes(x, x->q, f.queries) + graph_bytes(x, f.graph) +
           work_least(x);
}

static int64_t place_bytes(const numbers *x, form f)
{
    const int64_t reference = f.reference ? side_bytes(x, x->n, true) : 0;
    const int64_t queries = f.queries ? side_bytes(x, x->q, true) : 0;
    const int64_t first = x->sizes->stored ? reference : reference + build_least(x, x->n, x->reference_row);
    const int64_t second = x->q ? reference + queries + build_least(x, x->q, x->query_row) : 0;
    return x->fixed + larger(first, second);
}

/* Transposed edges of umap may be on disk; what is left may not. */
static int64_t weights_least(const numbers *x)
{
    if (!x->sizes->weights) return 0;
    const int ranks = x->sizes->ranks;
    return ferry_weights_bytes(x->rows, x->o->k, ranks, FERRY_UMAP, FERRY_SYMMETRIZE_NONE) -
           ferry_weights_edge_bytes(x->rows, x->o->k, ranks, FERRY_UMAP, FERRY_SYMMETRIZE_NONE) +
           ferry_output_csr_bytes();
}

static int64_t write_bytes(const numbers *x, form f)
{
    const ferry_blocks blocks = ferry_blocks_of(x->rows, FERRY_TARGET_UNIT);
    const int64_t block = 2 * (x->rows / blocks.count + blocks.unit) * 12 * x->o->k;
    return x->fixed + WRITING + graph_bytes(x, f.graph) + larger(block, weights_least(x));
}

static int64_t form_bytes(const numbers *x, form f)
{
    return larger(larger(search_bytes(x, f), x->fixed + train_least(x)), larger(place_bytes(x, f), write_bytes(x, f)));
}

/* In this order the first that fits is taken. A reference on disk whose cache would get less than a quarter of it,
 * while others are held, is not worth holding them. */
static const form forms[] = {{true, true, true},   {true, true, false},  {true, false, false}, {false, true, true},
                             {false, true, false}, {false, false, true}, {false, false, false}};
enum { FORMS = sizeof forms / sizeof *forms };

static bool fits(const numbers *x, form f)
{
    int64_t left = x->o->memory - form_bytes(x, f);
    if (!f.reference && (f.queries || f.graph)) {
        const int64_t held = (f.queries ? side_bytes(x, x->q, true) : 0) + (f.graph ? graph_bytes(x, true) : 0);
        left -= smaller(held, side_bytes(x, x->n, true) / 4);
    }
    return left >= 0;
}

static ferry_status choose_form(form *out, const numbers *x)
{
    char needs[32], has[32], what[64];
    for (int i = 0; i < FORMS; i++) {
        *out = forms[i];
        if (fits(x, *out)) return FERRY_OK;
    }
    const int64_t least = form_bytes(x, forms[FORMS - 1]);
    const bool builds = place_bytes(x, *out) == least, writes = x->sizes->weights && write_bytes(x, *out) == least;
    (void)snprintf(what, sizeof what,
                   writes   ? "more ranks or --no-graph need less"
                   : builds ? "more ranks or fewer --lists (%lld) need less"
                            : "more ranks need less",
                   (long long)x->lists);
    return ferry_fail(
        FERRY_E_PLAN,
        "the %s needs %s per rank at least, with all that may be on disk there, of %s: raise --memory; %s",
        x->sizes->index ? "index" : "search", ferry_size_text(needs, (double)least),
        ferry_size_text(has, (double)x->o->memory), what);
}

/* Bytes of a side in a cache that holds all of it. */
static int64_t whole_cache(const numbers *x, int64_t rows)
{
    return rows ? side_bytes(x, rows, false) + 6 * (int64_t)x->p * side_bytes(x, rows, true) / 5 : 0;
}

/* Most of what the other arrays leave when the reference is on disk: the more queries are searched together, the less
 * often it is read, and a cache of some lists does not change that. */
static int64_t disk_work(const numbers *x, const ferry_neighbors_plan *out, int64_t queries, int64_t memory)
{
    if (x->sizes->index) return 0;
    const int64_t least = work_least(x),
                  most = ferry_search_most(x->sizes->dim, x->o->k, x->lists, per_rank(x, x->rows), x->o->threads);
    const int64_t left =
        memory - x->fixed - queries - out->query_cache - out->graph - least - side_bytes(x, x->n, false);
    return least + larger(0, smaller(most - least, left - left / 4));
}

/* What is left over goes to what is on disk, and to the buffers. */
static void share_out(ferry_neighbors_plan *out, const numbers *x, form f)
{
    const int64_t memory = x->o->memory - x->o->memory / 32 - ((int64_t)2 << 20); /* not every byte has to be used */
    const int64_t left = larger(0, memory - search_bytes(x, f));
    const int64_t reference = f.reference ? side_bytes(x, x->n, true) : 0;
    const int64_t queries = f.queries ? side_bytes(x, x->q, true) : 0;
    const int64_t least = larger(build_least(x, x->n, x->reference_row), build_least(x, x->q, x->query_row));
    const bool disk = (x->sizes->codes && !f.reference) || (x->q && !f.queries);
    const int64_t result =
        x->sizes->codes ? ferry_codes_query_bytes(x->sizes->dim, x->o->k, x->o->rerank) : 4 + 8 * (int64_t)x->o->k;
    const int64_t results = per_rank(x, x->rows) * result;
    out->reference_held = f.reference;
    out->queries_held = x->q ? f.queries : f.reference;
    out->graph_held = f.graph;
    out->train = x->o->memory - x->fixed;
    out->build = larger(least, memory - x->fixed - reference - queries);
    out->work = work_least(x) + smaller(smaller(MOST_WORK, results), disk ? left / 4 : left / 2);
    out->graph = graph_bytes(x, f.graph) + (f.graph ? 0 : smaller(left / 8, (int64_t)64 << 20));
    if (x->q && !f.queries) out->query_cache = smaller(side_bytes(x, x->q, false) + left / 8, whole_cache(x, x->q));
    if (!f.reference && !x->sizes->codes) out->work = disk_work(x, out, queries, memory);
    const int64_t others = x->fixed + queries + out->query_cache + out->graph + out->work;
    if (!f.reference) out->cache = smaller(whole_cache(x, x->n), larger(side_bytes(x, x->n, false), memory - others));
}

/* --- bytes and operations --- */

/* Rows of a round of building lists, and whether rows stay in memory from assign to place, as lists_build.c decides. */
typedef struct building {
    int64_t bytes; /* of a rank while it assigns */
    bool kept;
} building;

static building building_of(const numbers *x, int64_t rows, int64_t row, const ferry_neighbors_plan *out)
{
    const int64_t here = per_rank(x, rows), wide = 16 * x->d + 44;
    int64_t batch = out->batch ? out->batch : larger(256, smaller(out->build / 8 / wide, (int64_t)1 << 16));
    batch = smaller(batch, here);
    const int64_t plain = here * 8 + batch * wide + x->lists * 16, all = here * 4 * x->d;
    const bool kept = all < out->build / 2 - plain;
    return (building){plain + smaller(SLAB, 2 * batch * row) + (kept ? all : 0), kept};
}

static int64_t rounded(double bytes)
{
    return (int64_t)(bytes + 0.5);
}

static double pair_flops(const numbers *x, double pairs)
{
    return 2.0 * (double)x->d * pairs / x->sizes->ranks;
}

static ferry_neighbors_phase *add_phase(ferry_neighbors_plan *out, const char *name, int64_t rows, int64_t bytes)
{
    ferry_neighbors_phase *phase = &out->phase[out->phases++];
    (void)snprintf(phase->name, sizeof phase->name, "%s", name);
    phase->rows = rows;
    phase->bytes = bytes;
    return phase;
}

static void finish_phases(ferry_neighbors_plan *out, const numbers *x)
{
    for (int i = 0; i < out->phases; i++) {
        ferry_neighbors_phase *phase = &out->phase[i];
        const double disk = (double)(phase->read_bytes + phase->written_bytes) / x->sizes->nodes;
        phase->seconds = phase->flops / FLOPS / larger(1, x->o->threads) + disk / DISK_RATE +
                         (double)phase->sent_bytes / x->sizes->ranks / NETWORK_RATE;
        out->bytes = larger(out->bytes, phase->bytes);
    }
}

static void add_train(ferry_neighbors_plan *out, const numbers *x)
{
    const double sample = (double)smaller(x->n, SAMPLE * x->lists), supers = sqrt((double)x->lists);
    const int64_t bytes = ferry_train_bytes(x->lists, x->sizes->dim, (int64_t)sample, x->sizes->ranks);
    ferry_neighbors_phase *phase = add_phase(out, "train", per_rank(x, x->n), x->fixed + smaller(bytes, out->train));
    phase->read_bytes = x->n * x->reference_row;
    const double few = fmin(sample, SUPER_SAMPLE * supers); /* of level 1, gathered on rank 0 */
    phase->sent_bytes =
        rounded(x->leaves * (sample * (4 + 4 * (double)x->d) + (few + supers + (double)x->lists) * 4 * (double)x->d));
    phase->flops = pair_flops(x, sample * (supers + 5 * (double)x->lists / supers));
}

/* Lists on disk are ordered in a quarter of the memory for building, and appended through another. */
static int64_t spilling(const ferry_neighbors_plan *out, bool held)
{
    return held ? 0 : out->build / 2;
}

static void add_build(ferry_neighbors_plan *out, const numbers *x)
{
    const int64_t record = 12 + 4 * x->d, rows[2] = {x->sizes->stored ? 0 : x->n, x->q};
    const int64_t row[2] = {x->reference_row, x->query_row};
    const bool held[2] = {out->reference_held, out->queries_held};
    const double supers = sqrt((double)x->lists);
    const double looked_at = x->exact ? (double)x->lists : supers + SUPERS_BEST * (double)x->lists / supers;
    ferry_neighbors_phase assign = {.rows = per_rank(x, larger(rows[0], rows[1]))};
    ferry_neighbors_phase place = {.rows = per_rank(x, larger(x->n, x->q))};
    int64_t before = x->fixed; /* what is there when a side is built */
    for (int i = 0; i < 2; i++) {
        const int64_t lists = held[i] ? side_bytes(x, i ? x->q : x->n, true) : 0;
        if (rows[i]) {
            const building b = building_of(x, rows[i], row[i], out);
            assign.bytes = larger(assign.bytes, before + b.bytes);
            assign.read_bytes += rows[i] * row[i];
            assign.sent_bytes += 16 * x->lists * x->sizes->ranks;
            place.bytes = larger(place.bytes, before + lists + smaller(out->build, b.bytes + spilling(out, held[i])));
            place.read_bytes += b.kept ? 0 : rows[i] * row[i];
            place.sent_bytes += rounded(x->leaves * (double)(rows[i] * record));
        }
        before += lists;
        if (held[i] || !rows[i]) continue;
        place.read_bytes += rows[i] * record;
        place.written_bytes += 2 * rows[i] * record;
        out->scratch += rows[i] * record;
    }
    if (x->sizes->stored && out->reference_held)
        place.read_bytes += x->n * (8 + (x->sizes->codes ? x->sizes->codes : 4 * x->d));
    place.bytes = larger(place.bytes, before);
    assign.flops = pair_flops(x, (double)(rows[0] + rows[1]) * looked_at);
    if (rows[0] + rows[1] > 0) {
        ferry_neighbors_phase *to = add_phase(out, "assign", 0, 0);
        (void)memcpy(assign.name, to->name, sizeof assign.name);
        *to = assign;
    }
    ferry_neighbors_phase *to = add_phase(out, "place", 0, 0);
    (void)memcpy(place.name, to->name, sizeof place.name);
    *to = place;
}

/* Distances of a query, as a share of the reference: measured on cells grown from real ones, and no more than a guess
 * for others. */
static double pairs_share(const numbers *x)
{
    const double lists = (double)x->lists, cells = (double)larger(2, x->n);
    if (x->o->probes) return fmin(1, (double)x->o->probes / lists);
    if (x->o->exact) return fmin(1, 0.25 * pow(1e6 / cells, 0.15));
    return fmin(1, 0.03 * pow(1e6 / cells, 0.5));
}

static int64_t search_phase_bytes(const ferry_neighbors_plan *out, const numbers *x, bool graph)
{
    const int64_t reference = out->reference_held ? side_bytes(x, x->n, true) : out->cache;
    const int64_t queries = !x->q ? 0 : out->queries_held ? side_bytes(x, x->q, true) : out->query_cache;
    return x->fixed + reference + queries + out->work + (graph ? out->graph : 0);
}

/* Rows of candidates are read once a batch, in pieces of 64 KiB when they lie far apart. */
static double candidate_bytes(const ferry_neighbors_plan *out, const numbers *x)
{
    const int64_t rerank = x->o->rerank ? x->o->rerank : FERRY_RERANK;
    const int64_t each = ferry_codes_query_bytes(x->sizes->dim, x->o->k, rerank);
    const int64_t batch = larger(1, smaller(per_rank(x, x->rows), (out->work - work_least(x)) / each));
    const double batches = ceil((double)x->rows / (double)batch);
    const double apart = (double)batch * (double)rerank * x->o->k * fmax(65536, (double)x->reference_row);
    return batches * fmin((double)x->n * (double)x->reference_row, apart);
}

/* A query adds M numbers a row of the lists that it looks into; 4 percent of them are a guess. */
static void add_codes_search(ferry_neighbors_plan *out, const numbers *x)
{
    const double lists = (double)x->lists, share = x->o->probes ? fmin(1, (double)x->o->probes / lists) : 0.04;
    const double of_row = (double)x->sizes->codes / (2.0 * (double)x->d), sample = (double)smaller(TUNED, x->rows);
    ferry_neighbors_phase *tune = add_phase(out, "tune", (int64_t)sample, search_phase_bytes(out, x, false));
    tune->read_bytes = x->n * x->reference_row;
    tune->flops = pair_flops(x, sample * (double)x->n);
    tune->sent_bytes = rounded(x->leaves * x->sizes->ranks * sample * (16.0 * x->o->k + 4 * (double)x->d));
    ferry_neighbors_phase *search = add_phase(out, "search", per_rank(x, x->rows), search_phase_bytes(out, x, true));
    search->flops = pair_flops(x, (double)x->rows * ((double)x->n * share * of_row + lists));
    search->sent_bytes = rounded(x->leaves * (4 + 8 * (double)x->o->k) * (double)x->rows);
    search->read_bytes = x->rows * x->query_row + rounded(candidate_bytes(out, x));
    if (out->graph_held) return;
    search->written_bytes += rounded((4 + 8 * (double)x->o->k) * (double)x->rows);
    out->scratch += rounded((4 + 8 * (double)x->o->k) * (double)x->rows);
}

static void add_search(ferry_neighbors_plan *out, const numbers *x)
{
    const double sample = (double)smaller(TUNED, x->rows), finished = 4 + 8 * (double)x->o->k;
    const int64_t record = 12 + 4 * x->d;
    if (!x->o->exact) {
        ferry_neighbors_phase *tune = add_phase(out, "tune", (int64_t)sample, search_phase_bytes(out, x, false));
        tune->read_bytes = out->reference_held ? 0 : rounded(TUNE_READS * (double)(x->n * record));
        tune->flops = pair_flops(x, sample * (double)x->n * fmin(1, 0.25 * pow(1e6 / (double)larger(2, x->n), 0.15)));
    }
    ferry_neighbors_phase *search = add_phase(out, "search", per_rank(x, x->rows), search_phase_bytes(out, x, true));
    search->flops = pair_flops(x, (double)x->rows * (double)x->n * pairs_share(x));
    search->sent_bytes = rounded(x->leaves * finished * (double)x->rows);
    if (!out->reference_held) search->read_bytes += rounded((1 + HALO) * (double)(x->n * record));
    if (x->q && !out->queries_held) search->read_bytes += x->q * record;
    if (out->graph_held) return;
    search->written_bytes += rounded(finished * (double)x->rows);
    out->scratch += rounded(finished * (double)x->rows);
}

static void add_write(ferry_neighbors_plan *out, const numbers *x)
{
    const double k = x->o->k, rows = (double)x->rows, walk = out->graph_held ? 0 : (4 + 8 * k) * rows;
    const form f = {out->reference_held, out->queries_held, out->graph_held};
    numbers plain = *x;
    ferry_neighbors_sizes sizes = *x->sizes;
    sizes.weights = false;
    plain.sizes = &sizes;
    ferry_neighbors_phase *write = add_phase(out, "write", per_rank(x, x->rows), write_bytes(&plain, f));
    const int64_t copied = x->sizes->copies ? x->rows : 0;
    write->read_bytes = rounded(walk) + copied * x->query_row;
    write->written_bytes = rounded(12 * k * rows) + copied * 4 * x->d + x->sizes->write_bytes;
    if (!x->sizes->weights) return;
    const int64_t edges =
        ferry_weights_edge_bytes(x->rows, x->o->k, x->sizes->ranks, FERRY_UMAP, FERRY_SYMMETRIZE_NONE);
    const int64_t room = x->o->memory - write_bytes(x, f) - x->o->memory / 32;
    ferry_neighbors_phase *graph =
        add_phase(out, "graph", per_rank(x, x->rows), write_bytes(x, f) + smaller(edges, larger(room, 0)));
    graph->read_bytes = rounded(5 * walk);
    graph->sent_bytes = rounded(x->leaves * (16 + 12 * 2.5) * k * rows);
    graph->written_bytes = rounded(12 * 2.5 * k * rows);
    out->edges = larger(room, (int64_t)1 << 20);
    if (edges + edges / 16 <= room) return; /* cells are not named equally often */
    graph->written_bytes += rounded(24 * k * rows);
    graph->read_bytes += rounded(24 * k * rows);
    out->scratch += rounded(12 * k * rows);
}

static ferry_status check_sizes(const ferry_neighbors_sizes *sizes, const ferry_neighbors_options *o)
{
    if (sizes->ranks < 1 || sizes->nodes < 1 || sizes->dim < 1 || sizes->reference < 1 || sizes->queries < 0 ||
        o->k < 1)
        return ferry_fail(FERRY_E_ARG, "no search of %lld cells in %lld of %d columns on %d ranks",
                          (long long)sizes->queries, (long long)sizes->reference, sizes->dim, sizes->ranks);
    return FERRY_OK;
}

ferry_status ferry_neighbors_layout(ferry_neighbors_plan *out, const ferry_neighbors_sizes *sizes,
                                    const ferry_neighbors_options *options)
{
    form f;
    *out = (ferry_neighbors_plan){.batch = options->batch};
    FERRY_TRY(check_sizes(sizes, options));
    const numbers x = numbers_of(sizes, options);
    FERRY_TRY(choose_form(&f, &x));
    out->lists = x.lists;
    share_out(out, &x, f);
    if (!sizes->stored) add_train(out, &x);
    add_build(out, &x);
    if (!sizes->index) {
        if (sizes->codes)
            add_codes_search(out, &x);
        else
            add_search(out, &x);
        add_write(out, &x);
    }
    finish_phases(out, &x);
    return FERRY_OK;
}

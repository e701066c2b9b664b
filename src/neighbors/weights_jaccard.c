/* Kernels of two hops. With x the reference and y the queries, A the 0/1 adjacency of k ones a row,
 *
 *   C = A_yx A_xx^T + A_yy A_xy^T      jaccard  C / (4 k' - C)      hnoca  (C / max(2 k'' - C, 1))^2
 *
 * A_xx and A_yy: the cell itself and its k - 1 nearest; A_yx and A_xy: the k nearest; k' = k'' = k. Of one set all four
 * are the cell itself and its k nearest, k' = k (as the reference counts, so values pass 1) and k'' = k + 1 ones.
 * The denominators are at least 1.
 *
 * Row i of C counts how often a cell b comes up among the lists of those who name a: over a in N_yx(i) the cells b with
 * a in N_xx(b), over c in N_yy(i) those with c in N_xy(b). These lists are rows of the transposed adjacency, dealt over
 * the ranks. A block of rows asks for the lists of the distinct cells that it names, gathers and sorts them row by row,
 * and counts runs: C is never stored. */
#include "mpi/exchange.h"
#include "weights_impl.h"
#include <string.h>

#define CHUNK 64 /* rows that are gathered at a time */
#define FEW   32

/* The lists of the distinct cells that a block names. */
typedef struct lists {
    int64_t count;
    uint32_t *id;    /* [count] ascending */
    int64_t *start;  /* [count] of each list in `from` */
    int64_t *length; /* [count] */
    uint32_t *from;
    bool itself; /* every cell is in its own list too, beside those stored */
} lists;

/* A neighbourhood and who is named in the second hop. */
typedef struct hop {
    ferry_graph *first; /* rows are the queries */
    int most;           /* entries of a row that count */
    bool own;           /* the cell itself is among them */
    ferry_transpose second;
    bool itself; /* of the second hop */
    lists found; /* of this round */
} hop;

struct ferry_two_hop {
    int hops; /* 1: one set, where both are the same and count twice */
    hop hop[2];
    double stored, ones; /* k' and k'' */
};

static void free_lists(lists *it)
{
    free(it->id);
    free(it->start);
    free(it->length);
    free(it->from);
    *it = (lists){0};
}

/* ---- open ---- */

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

ferry_status ferry_two_hop_open(struct ferry_two_hop **out, const ferry_world *world,
                                const ferry_weights_graphs *graphs, const ferry_weights_options *options)
{
    FERRY_TRY(ferry_agree(world, ferry_alloc(out, 1)));
    struct ferry_two_hop *it = *out;
    ferry_graph *yx = graphs->yx;
    const int k = yx->k;
    it->stored = it->ones = k;
    if (yx->self) {
        it->hops = 1;
        it->ones = k + 1;
        it->hop[0] = (hop){.first = yx, .most = k, .own = true, .itself = true};
        const ferry_edges edges = {.graph = yx, .most = k};
        return ferry_transpose_open(&it->hop[0].second, world, &edges, options->memory, options->folder);
    }
    it->hops = 2;
    it->hop[0] = (hop){.first = yx, .most = k, .itself = true};
    it->hop[1] = (hop){.first = graphs->yy, .most = smaller(graphs->yy->k, k - 1), .own = true};
    const ferry_edges edges[2] = {{.graph = graphs->xx, .most = smaller(graphs->xx->k, k - 1)},
                                  {.graph = graphs->xy, .most = smaller(graphs->xy->k, k)}};
    for (int h = 0; h < 2; h++)
        FERRY_TRY(ferry_transpose_open(&it->hop[h].second, world, &edges[h], options->memory / 2, options->folder));
    return FERRY_OK;
}

void ferry_two_hop_close(struct ferry_two_hop **two)
{
    if (!*two) return;
    for (int h = 0; h < 2; h++) {
        ferry_transpose_close(&(*two)->hop[h].second);
        free_lists(&(*two)->hop[h].found);
    }
    free(*two);
    *two = NULL;
}

/* ---- sorted numbers ---- */

/* a [n] ascending; other [n]. Bytes that are the same in all are passed over. */
static void sort_cells(uint32_t *a, uint32_t *other, int64_t n)
{
    if (n <= FEW) {
        for (int64_t i = 1; i < n; i++) {
            const uint32_t it = a[i];
            int64_t j = i;
            for (; j > 0 && a[j - 1] > it; j--) a[j] = a[j - 1];
            a[j] = it;
        }
        return;
    }
    uint32_t *from = a, *to = other;
    for (int shift = 0; shift < 32; shift += 8) {
        int64_t at[256] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++) at[from[i] >> shift & 255]++;
        if (at[from[0] >> shift & 255] == n) continue;
        for (int d = 0; d < 256; d++) {
            const int64_t count = at[d];
            at[d] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++) to[at[from[i] >> shift & 255]++] = from[i];
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != a) memcpy(a, from, (size_t)n * sizeof *a);
}

static int64_t find(const lists *in, uint32_t id)
{
    int64_t low = 0, high = in->count;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (in->id[middle] <= id)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Local. The distinct cells that the block of the first hop names. */
static ferry_status name_cells(lists *out, const hop *it, const ferry_graph_block *block)
{
    FERRY_AUTO uint32_t *other = NULL;
    const int64_t k = it->first->k, room = block->rows * ((int64_t)it->most + 1);
    free_lists(out);
    out->itself = it->itself;
    FERRY_TRY(ferry_alloc(&out->id, room));
    FERRY_TRY(ferry_alloc(&other, room));
    int64_t n = 0;
    for (int64_t i = 0; i < block->rows; i++) {
        if (it->own) out->id[n++] = (uint32_t)(block->first + i);
        for (int64_t e = i * k; e < i * k + it->most; e++)
            if (ferry_entry(block, e)) out->id[n++] = block->cell[e];
    }
    sort_cells(out->id, other, n);
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || out->id[i] != out->id[i - 1]) out->id[out->count++] = out->id[i];
    FERRY_TRY(ferry_alloc(&out->start, out->count));
    return ferry_alloc(&out->length, out->count);
}

/* ---- lists of other ranks ---- */

typedef struct asking {
    int64_t *send, *receive;      /* [ranks] cells asked of each rank, by each rank */
    int64_t *place;               /* [count] where the answer for an id stands */
    uint32_t *out, *in;           /* the cells */
    int64_t *out_length, *length; /* of the lists given, and got */
    int64_t *give, *get;          /* [ranks] elements */
    uint32_t *given;              /* elements */
    int64_t asked;                /* by others */
} asking;

static void free_asking(asking *a)
{
    void *memory[] = {a->send,       a->receive, a->place, a->out, a->in,
                      a->out_length, a->length,  a->give,  a->get, a->given};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) free(memory[i]);
}

/* Local. The cells by owner, ascending for each. */
static ferry_status group(asking *a, const ferry_deal *deal, const lists *wanted)
{
    FERRY_AUTO int64_t *at = NULL;
    FERRY_TRY(ferry_alloc(&at, deal->size + 1));
    FERRY_TRY(ferry_alloc(&a->send, deal->size));
    FERRY_TRY(ferry_alloc(&a->receive, deal->size));
    FERRY_TRY(ferry_alloc(&a->give, deal->size));
    FERRY_TRY(ferry_alloc(&a->get, deal->size));
    FERRY_TRY(ferry_alloc(&a->place, wanted->count));
    FERRY_TRY(ferry_alloc(&a->length, wanted->count));
    FERRY_TRY(ferry_alloc(&a->out, wanted->count));
    for (int64_t i = 0; i < wanted->count; i++) a->send[ferry_deal_block(deal, wanted->id[i]) % deal->size]++;
    for (int r = 0; r < deal->size; r++) at[r + 1] = at[r] + a->send[r];
    for (int64_t i = 0; i < wanted->count; i++) {
        const int64_t to = at[ferry_deal_block(deal, wanted->id[i]) % deal->size]++;
        a->out[to] = wanted->id[i];
        a->place[i] = to;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status make_room(asking *a, int ranks)
{
    for (int r = 0; r < ranks; r++) a->asked += a->receive[r];
    FERRY_TRY(ferry_alloc(&a->in, a->asked));
    return ferry_alloc(&a->out_length, a->asked);
}

static int64_t row_here(const ferry_deal *deal, uint32_t cell)
{
    const int b = ferry_deal_block(deal, cell);
    return deal->key[b] - deal->first[deal->rank] + cell - ferry_block_first(&deal->blocks, b);
}

/* Local. What others asked for. */
static ferry_status answer(asking *a, ferry_transpose *second)
{
    const ferry_deal *deal = &second->deal;
    int64_t all = 0, at = 0;
    for (int64_t i = 0; i < a->asked; i++) {
        const int64_t row = row_here(deal, a->in[i]);
        a->out_length[i] = second->start[row + 1] - second->start[row];
        all += a->out_length[i];
    }
    FERRY_TRY(ferry_alloc(&a->given, all));
    int64_t i = 0;
    for (int r = 0; r < deal->size; r++) {
        const int64_t begin = at;
        for (const int64_t end = i + a->receive[r]; i < end; i++) {
            const ferry_edge *edges;
            FERRY_TRY(ferry_transpose_row(&edges, second, row_here(deal, a->in[i])));
            for (int64_t e = 0; e < a->out_length[i]; e++) a->given[at++] = edges[e].from;
        }
        a->give[r] = at - begin;
    }
    return FERRY_OK;
}

/* Local. Where each list will be. */
static ferry_status expect(lists *out, asking *a, int ranks)
{
    FERRY_AUTO int64_t *start = NULL;
    FERRY_TRY(ferry_alloc(&start, out->count + 1));
    int64_t i = 0;
    for (int r = 0; r < ranks; r++) {
        const int64_t begin = start[i];
        for (const int64_t end = i + a->send[r]; i < end; i++) start[i + 1] = start[i] + a->length[i];
        a->get[r] = start[i] - begin;
    }
    for (int64_t c = 0; c < out->count; c++) {
        out->start[c] = start[a->place[c]];
        out->length[c] = a->length[a->place[c]];
    }
    return ferry_alloc(&out->from, start[out->count]);
}

/* Collective. */
static ferry_status ask(lists *out, asking *a, ferry_transpose *second, const ferry_world *world)
{
    FERRY_TRY(ferry_agree(world, group(a, &second->deal, out)));
    ferry_exchange_counts(world, a->send, a->receive);
    FERRY_TRY(ferry_agree(world, make_room(a, world->size)));
    ferry_exchange(world, a->out, a->send, a->in, a->receive, sizeof *a->in);
    FERRY_TRY(ferry_agree(world, answer(a, second)));
    ferry_exchange(world, a->out_length, a->receive, a->length, a->send, sizeof *a->length);
    FERRY_TRY(ferry_agree(world, expect(out, a, world->size)));
    ferry_exchange(world, a->given, a->give, out->from, a->get, sizeof *out->from);
    return FERRY_OK;
}

/* ---- rows ---- */

/* Adds the list of a cell at a + n; a NULL: only its length. */
static int64_t add_list(uint32_t *a, const lists *in, uint32_t cell)
{
    const int64_t i = find(in, cell), length = in->length[i];
    if (a) {
        memcpy(a, in->from + in->start[i], (size_t)length * sizeof *a);
        if (in->itself) a[length] = cell;
    }
    return length + in->itself;
}

/* Cells that row i comes to in two steps, as often as there are ways; a NULL: only how many. */
static int64_t gather(uint32_t *a, const struct ferry_two_hop *two, const ferry_graph_block *block, int64_t i)
{
    int64_t n = 0;
    for (int h = 0; h < two->hops; h++) {
        const hop *it = &two->hop[h];
        const int64_t k = it->first->k;
        if (it->own) n += add_list(a ? a + n : NULL, &it->found, (uint32_t)(block[h].first + i));
        for (int64_t e = i * k; e < i * k + it->most; e++)
            if (ferry_entry(&block[h], e)) n += add_list(a ? a + n : NULL, &it->found, block[h].cell[e]);
    }
    return n;
}

static double at_least_1(double value)
{
    return value > 1 ? value : 1;
}

static double weigh(const struct ferry_two_hop *two, bool hnoca, double c)
{
    if (!hnoca) return c / at_least_1(4 * two->stored - c);
    const double w = c / at_least_1(2 * two->ones - c);
    return w * w;
}

/* a [n] ascending becomes its distinct cells and their weights; returns how many. */
static int64_t count_runs(double *weight, uint32_t *a, int64_t n, const struct ferry_two_hop *two, bool hnoca)
{
    const double ways = two->hops == 1 ? 2 : 1;
    int64_t count = 0;
    for (int64_t i = 0; i < n;) {
        const int64_t begin = i;
        while (i < n && a[i] == a[begin]) i++;
        weight[count] = weigh(two, hnoca, ways * (double)(i - begin));
        a[count++] = a[begin];
    }
    return count;
}

typedef struct chunk {
    int64_t first[CHUNK + 1], count[CHUNK], room;
    uint32_t *cell, *other; /* [room] */
    double *weight;
} chunk;

static void free_chunk(chunk *c)
{
    free(c->cell);
    free(c->other);
    free(c->weight);
}

static ferry_status chunk_room(chunk *c, int64_t room)
{
    if (room <= c->room && c->cell) return FERRY_OK;
    free_chunk(c);
    c->cell = c->other = NULL;
    c->weight = NULL;
    c->room = room + room / 4;
    FERRY_TRY(ferry_alloc(&c->cell, c->room));
    FERRY_TRY(ferry_alloc(&c->other, c->room));
    return ferry_alloc(&c->weight, c->room);
}

/* Local. Rows i ... i + rows - 1 are put after those before them. */
static ferry_status make_chunk(chunk *c, struct ferry_weights_store *store, const ferry_graph_block *block, int64_t i,
                               int64_t rows)
{
    const struct ferry_two_hop *two = store->hop;
    const bool hnoca = store->options.kernel == FERRY_HNOCA;
    for (int64_t r = 0; r < rows; r++) c->first[r + 1] = c->first[r] + gather(NULL, two, block, i + r);
    FERRY_TRY(chunk_room(c, c->first[rows]));
#pragma omp parallel for num_threads(store->threads) schedule(dynamic)
    for (int64_t r = 0; r < rows; r++) {
        uint32_t *a = c->cell + c->first[r];
        const int64_t n = gather(a, two, block, i + r);
        sort_cells(a, c->other + c->first[r], n);
        c->count[r] = count_runs(c->weight + c->first[r], a, n, two, hnoca);
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = store->indptr[i + r], n = c->count[r];
        FERRY_TRY(ferry_weights_room(store, at, at + n));
        memcpy(store->cell + at, c->cell + c->first[r], (size_t)n * sizeof *store->cell);
        memcpy(store->weight + at, c->weight + c->first[r], (size_t)n * sizeof *store->weight);
        store->indptr[i + r + 1] = at + n;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status make_rows(struct ferry_weights_store *store, const ferry_graph_block *block)
{
    chunk c = {0};
    ferry_status status = FERRY_OK;
    store->indptr[0] = 0;
    for (int64_t i = 0; i < block->rows && status == FERRY_OK; i += CHUNK) {
        const int64_t left = block->rows - i;
        status = make_chunk(&c, store, block, i, left < CHUNK ? left : CHUNK);
    }
    free_chunk(&c);
    return status;
}

/* Local. */
static ferry_status begin_round(ferry_graph_block *block, struct ferry_two_hop *two, int64_t round)
{
    for (int h = 0; h < two->hops; h++) {
        hop *it = &two->hop[h];
        FERRY_TRY(ferry_graph_take(&block[h], it->first, round));
        FERRY_TRY(name_cells(&it->found, it, &block[h]));
    }
    return FERRY_OK;
}

ferry_status ferry_two_hop_take(int64_t *rows, struct ferry_weights_store *store, const ferry_world *world,
                                int64_t round)
{
    struct ferry_two_hop *two = store->hop;
    ferry_graph_block block[2] = {0};
    FERRY_TRY(ferry_agree(world, begin_round(block, two, round)));
    for (int h = 0; h < two->hops; h++) {
        asking a = {0};
        const ferry_status status = ask(&two->hop[h].found, &a, &two->hop[h].second, world);
        free_asking(&a);
        FERRY_TRY(status);
    }
    FERRY_TRY(ferry_agree(world, make_rows(store, block)));
    *rows = block[0].rows;
    return FERRY_OK;
}

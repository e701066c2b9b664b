/* The quantizer's numbers, once per node: laid out in one window, filled by the first rank of each node. */
#include "quantizer_impl.h"
#include <math.h>
#include <string.h>

#define SUPERS_MOST 1024
#define LINE        64 /* bytes that every array begins at a multiple of */

int64_t ferry_lists_wanted(int64_t rows)
{
    const int64_t root = (int64_t)ceil(sqrt((double)rows)), share = rows / 1000;
    const int64_t wanted = root > share ? root : share;
    return wanted > 1 ? wanted : 1;
}

int64_t ferry_supers_wanted(int64_t lists)
{
    const int64_t root = (int64_t)(sqrt((double)lists) + 0.5);
    return root < 1 ? 1 : root > SUPERS_MOST ? SUPERS_MOST : root;
}

/* --- rows --- */

double ferry_row_norm2(const float *row, int dim)
{
    double lane[8] = {0};
    int k = 0;
    for (; k + 8 <= dim; k += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)row[k + l] * (double)row[k + l];
    for (int l = 0; k < dim; k++, l++) lane[l] += (double)row[k] * (double)row[k];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

bool ferry_prepare_row(float *prepared, const float *row, const float *mean, int dim, ferry_search_metric metric)
{
    if (metric == FERRY_COSINE) {
        const double norm2 = ferry_row_norm2(row, dim);
        if (!(norm2 > 0)) return false;
        const double scale = 1 / sqrt(norm2); /* one rounding, relative to the centred row: what the margins count on */
        for (int k = 0; k < dim; k++) prepared[k] = (float)((double)row[k] * scale - (mean ? (double)mean[k] : 0));
        return true;
    }
    for (int k = 0; k < dim; k++) prepared[k] = mean ? row[k] - mean[k] : row[k];
    return true;
}

ferry_status ferry_quantizer_prepare(float *prepared, float *norm2, const ferry_quantizer *quantizer, const float *rows,
                                     int64_t count, int64_t first)
{
    const int dim = quantizer->dim;
    for (int64_t i = 0; i < count; i++) {
        if (!ferry_prepare_row(prepared + i * dim, rows + i * dim, quantizer->mean, dim, quantizer->metric))
            return ferry_fail(FERRY_E_ARG,
                              "cell %lld has length 0, so no angle to others: drop such cells, or use --metric "
                              "euclidean",
                              (long long)(first + i));
        norm2[i] = (float)ferry_row_norm2(prepared + i * dim, dim);
    }
    return FERRY_OK;
}

/* --- centres --- */

void ferry_centres_pack(const ferry_centres *centres, int dim, const ferry_kernels *kernels)
{
    float *packed = (float *)(uintptr_t)centres->packed, *half = (float *)(uintptr_t)centres->half;
    float *norm = (float *)(uintptr_t)centres->norm;
    for (int64_t u = 0; u < centres->units; u++) {
        const int64_t left = centres->count - u * COLUMNS, present = left < COLUMNS ? left : COLUMNS;
        kernels->pack_columns(packed + u * COLUMNS * dim, centres->centre + u * COLUMNS * dim, present, dim);
    }
    for (int64_t c = 0; c < centres->units * COLUMNS; c++) {
        const double norm2 = c < centres->count ? ferry_row_norm2(centres->centre + c * dim, dim) : 0;
        half[c] = c < centres->count ? (float)(-norm2 / 2) : -INFINITY;
        norm[c] = (float)sqrt(norm2);
    }
}

/* Where the arrays lie in the window. */
typedef struct layout {
    char *base; /* NULL: only counted */
    int64_t end;
} layout;

static void *place(layout *at, int64_t count, size_t size)
{
    void *here = at->base ? at->base + at->end : NULL;
    at->end += (count * (int64_t)size + LINE - 1) / LINE * LINE;
    return here;
}
static void place_centres(ferry_centres *c, layout *at, int64_t count, int dim)
{
    c->count = count;
    c->units = (count + COLUMNS - 1) / COLUMNS;
    c->centre = place(at, count * dim, sizeof *c->centre);
    c->packed = place(at, c->units * COLUMNS * dim, sizeof *c->packed);
    c->half = place(at, c->units * COLUMNS, sizeof *c->half);
    c->norm = place(at, c->units * COLUMNS, sizeof *c->norm);
}
/* Returns the bytes. */
static int64_t lay_out(ferry_quantizer *q, char *base, int64_t lists, int64_t supers)
{
    layout at = {.base = base};
    q->mean = place(&at, q->dim, sizeof *q->mean);
    place_centres(&q->list, &at, lists, q->dim);
    place_centres(&q->super, &at, supers, q->dim);
    q->child = place(&at, supers + 1, sizeof *q->child);
    q->spread = place(&at, supers, sizeof *q->spread);
    return at.end;
}

int64_t ferry_quantizer_bytes(int64_t lists, int dim)
{
    ferry_quantizer q = {.dim = dim};
    return lay_out(&q, NULL, lists, ferry_supers_wanted(lists));
}

/* Largest distance of a super-cell's lists to its centre, rounded up. */
static void find_spread(const ferry_quantizer *q)
{
    float *spread = (float *)(uintptr_t)q->spread;
    for (int64_t s = 0; s < q->super.count; s++) {
        double most = 0;
        for (int64_t c = q->child[s]; c < q->child[s + 1]; c++) {
            const double d2 = q->scans->distance2(q->super.centre + s * q->dim, q->list.centre + c * q->dim, q->dim);
            if (d2 > most) most = d2;
        }
        spread[s] = nextafterf((float)(sqrt(most) * (1 + 1e-12)), INFINITY);
    }
}

/* What rank 0 gives. */
typedef struct given {
    const float *mean, *centre, *super;
    const int64_t *child;
} given;

/* Local, rank 0. */
static ferry_status check_given(const given *g, int dim, int64_t lists, int64_t supers)
{
    if (!g->mean || !g->centre || !g->super || !g->child)
        return ferry_fail(FERRY_E_ARG, "a quantizer needs mean, centroids, super-cells and their children");
    if (g->child[0] != 0 || g->child[supers] != lists)
        return ferry_fail(FERRY_E_FILE, "super-cells have lists %lld ... %lld, but there are %lld",
                          (long long)g->child[0], (long long)g->child[supers], (long long)lists);
    for (int64_t s = 0; s < supers; s++)
        if (g->child[s] > g->child[s + 1])
            return ferry_fail(FERRY_E_FILE, "super-cell %lld has %lld lists", (long long)s,
                              (long long)(g->child[s + 1] - g->child[s]));
    for (int64_t i = 0; i < (lists + supers + 1) * dim; i++) {
        const float value = i < lists * dim              ? g->centre[i]
                            : i < (lists + supers) * dim ? g->super[i - lists * dim]
                                                         : g->mean[i - (lists + supers) * dim];
        if (!isfinite(value)) return ferry_fail(FERRY_E_FILE, "a centroid has NaN or infinity");
    }
    return FERRY_OK;
}

/* Local. The shape of it, before the window. */
static ferry_status begin(ferry_quantizer *out, const ferry_world *world, int dim, int64_t lists, int64_t supers,
                          const given *g, ferry_search_metric metric, const ferry_kernels *kernels)
{
    *out = (ferry_quantizer){
        .dim = dim, .metric = metric, .kernels = kernels, .scans = ferry_scans_of(kernels), .distortion = NAN};
    if (dim < 1 || lists < 1 || supers < 1 || lists >= INT32_MAX - COLUMNS)
        return ferry_fail(FERRY_E_FILE, "no quantizer of %lld lists in %lld super-cells of width %d", (long long)lists,
                          (long long)supers, dim);
    return world->rank == 0 ? check_given(g, dim, lists, supers) : FERRY_OK;
}

/* Collective over the first ranks of all nodes. Rank 0's numbers into every window, and what follows from them. */
static void fill(ferry_quantizer *q, const ferry_world *leaders, const given *g)
{
    const size_t row = (size_t)q->dim * sizeof(float);
    const struct {
        const void *to, *from;
        size_t bytes;
    } part[] = {{q->mean, g->mean, row},
                {q->list.centre, g->centre, (size_t)q->list.count * row},
                {q->super.centre, g->super, (size_t)q->super.count * row},
                {q->child, g->child, (size_t)(q->super.count + 1) * sizeof *q->child}};
    for (int i = 0; i < 4; i++) {
        void *to = (void *)(uintptr_t)part[i].to;
        if (leaders->rank == 0 && to && part[i].from) memcpy(to, part[i].from, part[i].bytes);
        ferry_broadcast(leaders, to, part[i].bytes, 0);
    }
    ferry_centres_pack(&q->list, q->dim, q->kernels);
    ferry_centres_pack(&q->super, q->dim, q->kernels);
    find_spread(q);
}

/* Collective. node: the ranks that share memory. */
static ferry_status open_on(ferry_quantizer *q, const ferry_world *world, const ferry_world *node, int64_t lists,
                            int64_t supers, const given *g)
{
    ferry_world leaders = {0};
    const size_t bytes = (size_t)lay_out(q, NULL, lists, supers);
    FERRY_TRY(ferry_agree(world, ferry_window_open(&q->window, node, bytes)));
    lay_out(q, q->window.base, lists, supers);
    ferry_status status = ferry_world_split(&leaders, world, node->rank != 0, world->rank);
    if (status == FERRY_OK && node->rank == 0) fill(q, &leaders, g);
    ferry_world_close(&leaders);
    ferry_window_sync(&q->window, node);
    return ferry_agree(world, status);
}

ferry_status ferry_quantizer_of(ferry_quantizer *out, const ferry_world *world, int dim, int64_t lists, int64_t supers,
                                const float *mean, const float *centre, const float *super, const int64_t *child,
                                ferry_search_metric metric, const ferry_kernels *kernels)
{
    const given g = {mean, centre, super, child};
    const int64_t shape[] = {dim, lists, supers, metric};
    ferry_world node = {0};
    memset(out, 0, sizeof *out);
    FERRY_TRY(ferry_same(world, "the shape of a quantizer", shape, sizeof shape));
    FERRY_TRY(ferry_agree(world, begin(out, world, dim, lists, supers, &g, metric, kernels)));
    ferry_status status = ferry_agree(world, ferry_world_open(&node, world->node));
    if (status == FERRY_OK) status = open_on(out, world, &node, lists, supers, &g);
    ferry_world_close(&node);
    if (status != FERRY_OK) ferry_quantizer_close(out, world);
    return status;
}

void ferry_quantizer_close(ferry_quantizer *quantizer, const ferry_world *world)
{
    (void)world;
    ferry_window_close(&quantizer->window);
    memset(quantizer, 0, sizeof *quantizer);
}

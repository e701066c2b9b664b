/* What is kept of a dense pass, and where.
 *
 * A panel is looked at when its rows are finished and its tiles are still in cache: D_ij = q_i P_ij t / r_i goes to
 * halves at the end of the thread's arenas, of the upper 12 rows and of the lower ones, and stays there if one of them
 * is above the cut. Chunks are mapped, not cleared: what is not used costs no memory. Where room runs out on any rank
 * the halves are given back, and the lists of what weighs serve to evaluate those tiles again (store_again.c). */
#define _GNU_SOURCE /* MADV_HUGEPAGE, MAP_ANONYMOUS */
#include "mpi/log.h"
#include "store_parts_impl.h"
#include <math.h>
#include <omp.h>
#include <string.h>
#include <sys/mman.h>

#define ROWS       FERRY_SOURCE_UNIT
#define COLUMNS    FERRY_TARGET_UNIT
#define TILE       ((int64_t)ROWS * COLUMNS)
#define AT_ONCE    16    /* units that are summed by columns and then kept */
#define MOST_T     32768 /* of t: halves end at 65504 */
#define CHUNK      ((size_t)16 << 20)
#define HUGE_PAGE  ((size_t)2 << 20)
#define LINE       64
#define MOST_AGAIN 0.75 /* share of the tiles from which on evaluating them again does not pay */

/* --- memory --- */

typedef struct ferry_chunk {
    char *base;
    size_t bytes;
    bool mapped;
} chunk;

static ferry_status open_chunk(chunk *out, size_t bytes)
{
    *out = (chunk){.bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE};
#ifdef MAP_ANONYMOUS
    void *base = mmap(NULL, out->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base != MAP_FAILED) {
#ifdef MADV_HUGEPAGE
        madvise(base, out->bytes, MADV_HUGEPAGE); /* a wish; may be refused */
#endif
        out->base = base;
        out->mapped = true;
        return FERRY_OK;
    }
#endif
    return ferry_alloc(&out->base, (int64_t)out->bytes);
}
static void close_chunk(chunk *c)
{
    if (c->mapped)
        munmap(c->base, c->bytes);
    else
        free(c->base);
}

static void close_arena(ferry_arena *arena)
{
    for (int i = 0; i < arena->count; i++) close_chunk(&arena->chunks[i]);
    free(arena->chunks);
    *arena = (ferry_arena){0};
}

/* Room for `bytes` at the end; by one thread at a time where chunks have run out. */
static ferry_status more_chunks(ferry_arena *arena, size_t bytes)
{
    chunk one;
    FERRY_TRY(ferry_grow(&arena->chunks, arena->count, arena->count + 1));
    FERRY_TRY(open_chunk(&one, bytes > CHUNK / 4 ? 4 * bytes : CHUNK));
    arena->chunks[arena->count++] = one;
    return FERRY_OK;
}
char *ferry_arena_room(ferry_arena *arena, size_t bytes)
{
    ferry_status status = FERRY_OK;
    if (arena->now < arena->count && arena->used + bytes > arena->chunks[arena->now].bytes) {
        arena->now++;
        arena->used = 0;
    }
    if (arena->now == arena->count) {
#pragma omp critical(ferry_sinkhorn)
        status = more_chunks(arena, bytes);
    }
    return status == FERRY_OK ? arena->chunks[arena->now].base + arena->used : NULL;
}

/* --- open and close --- */

/* Of vectors beside the tiles. */
static int64_t vector_bytes(int64_t rows, int64_t columns)
{
    return 5 * rows * (int64_t)sizeof(double) + columns * (int64_t)(9 * sizeof(double) + 2 * sizeof(float));
}
int64_t ferry_store_bytes(int64_t source_rows, int64_t target_rows)
{
    const int64_t panels = (source_rows + ROWS - 1) / ROWS, units = (target_rows + COLUMNS - 1) / COLUMNS;
    const int64_t tile = TILE * (int64_t)sizeof(uint16_t) + (int64_t)(2 * sizeof(int32_t));
    return panels * units * tile + panels * (int64_t)(sizeof(ferry_stored) + 3 * LINE) +
           vector_bytes(panels * ROWS, units * COLUMNS);
}

static ferry_status open_vectors(ferry_store *store)
{
    const int64_t rows = store->rows, columns = store->columns, threads = store->threads;
    FERRY_TRY(ferry_alloc(&store->arena, threads));
    FERRY_TRY(ferry_alloc(&store->lower, threads));
    FERRY_TRY(ferry_alloc(&store->lists, threads));
    FERRY_TRY(ferry_alloc(&store->pieces, store->panels));
    FERRY_TRY(ferry_alloc(&store->list, threads * store->units));
    FERRY_TRY(ferry_alloc(&store->panel, store->panels));
    FERRY_TRY(ferry_alloc(&store->f, rows));
    FERRY_TRY(ferry_alloc(&store->r, rows));
    FERRY_TRY(ferry_alloc(&store->rho, rows));
    FERRY_TRY(ferry_alloc(&store->sums, rows));
    FERRY_TRY(ferry_alloc(&store->g, columns));
    FERRY_TRY(ferry_alloc(&store->c, columns));
    FERRY_TRY(ferry_alloc(&store->gamma, columns));
    FERRY_TRY(ferry_alloc(&store->rest, columns));
    FERRY_TRY(ferry_alloc(&store->rest_now, columns));
    FERRY_TRY(ferry_alloc(&store->moves, columns));
    FERRY_TRY(ferry_alloc(&store->kept, columns));
    FERRY_TRY(ferry_alloc(&store->factor, columns));
    FERRY_TRY(ferry_alloc(&store->w, columns));
    FERRY_TRY(ferry_alloc(&store->group_w, columns));
    FERRY_TRY(ferry_alloc(&store->unit_group, store->units));
    return ferry_alloc(&store->touched, threads * store->units);
}

ferry_status ferry_store_open(ferry_store **out, const ferry_sinkhorn *s, int64_t bytes)
{
    const ferry_grid *grid = s->grid;
    *out = NULL;
    if (s->cost->options.precision != FERRY_FLOAT)
        return ferry_fail(FERRY_E_ARG, "a plan in double precision is not kept in halves: use --precision float");
    FERRY_TRY(ferry_alloc(out, 1));
    ferry_store *store = *out;
    store->kernels = ferry_halves_of(s->cost->options.kernels);
    store->threads = s->threads;
    store->bytes = bytes;
    store->panels = s->source->panels;
    store->rows = s->rows;
    store->units = s->cost->units;
    store->columns = s->columns;
    store->blocks = s->cost->blocks;
    ferry_status status = open_vectors(store);
    if (status == FERRY_OK && grid->cols > 1)
        status = ferry_forest_open(&store->forest, s->rows, grid->target.blocks.count, FERRY_JOIN_SUM);
    if (status == FERRY_OK && store->forest) status = ferry_forest_expect(store->forest, &grid->target, &grid->across);
    if (status == FERRY_OK) return FERRY_OK;
    ferry_store_close(store);
    *out = NULL;
    return status;
}

static void give_back_halves(ferry_store *store)
{
    for (int t = 0; store->arena && t < store->threads; t++) close_arena(&store->arena[t]);
    for (int t = 0; store->lower && t < store->threads; t++) close_arena(&store->lower[t]);
    if (store->panel) memset(store->panel, 0, (size_t)store->panels * sizeof *store->panel);
}
static void give_back(ferry_store *store)
{
    give_back_halves(store);
    for (int t = 0; store->lists && t < store->threads; t++) close_arena(&store->lists[t]);
    store->usable = false;
    store->share = 0;
}

void ferry_store_close(ferry_store *store)
{
    if (!store) return;
    give_back(store);
    free(store->arena);
    free(store->lower);
    free(store->lists);
    free(store->pieces);
    free(store->list);
    free(store->panel);
    free(store->f);
    free(store->r);
    free(store->rho);
    free(store->sums);
    free(store->g);
    free(store->c);
    free(store->gamma);
    free(store->rest);
    free(store->rest_now);
    free(store->moves);
    free(store->kept);
    ferry_rest_close(&store->groups_rest);
    free(store->factor);
    free(store->w);
    free(store->group_w);
    free(store->unit_group);
    free(store->touched);
    ferry_forest_close(&store->forest);
    free(store);
}

bool ferry_store_usable(const ferry_store *store)
{
    return store->usable;
}
double ferry_store_share(const ferry_store *store)
{
    return store->share;
}
bool ferry_store_exact(const ferry_store *store)
{
    return store->again;
}

/* --- a fill --- */

/* From entries of the panel to densities; false where a row has no sum. */
static bool weights_of(float weights[ROWS], const ferry_store *store, const ferry_sinkhorn *s, int64_t index,
                       const double *q)
{
    bool good = true;
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = index * ROWS + i;
        const bool present = row < s->sources && s->f[row] != -INFINITY;
        weights[i] = present ? (float)(q[i] * store->targets / s->r[row]) : 0;
        if (present && (ferry_bad_sum(s->r[row]) || !isfinite(weights[i]))) good = false;
    }
    return good;
}

/* Numbers of the first of each target block, after the list of units. */
static void find_blocks(ferry_stored *kept, const ferry_cost *cost)
{
    int64_t k = 0;
    for (int b = 0; b <= cost->blocks; b++) {
        while (k < kept->count && kept->unit[k] < cost->unit[b]) k++;
        kept->first[b] = (int32_t)k;
    }
}

/* Tiles that weigh into halves, or nowhere, and their units into list; returns how many. With c, the panel's column
 * sums join it while its tiles are in cache. */
static int64_t keep_tiles(uint16_t *const halves[2], int32_t *list, double *c, const ferry_store *store,
                          const ferry_panel *panel, const float weights[ROWS], const double *q)
{
    int64_t count = 0;
    for (int64_t u = 0, some; u < store->units; u += some) {
        const int64_t at = count * FERRY_HALF_TILE;
        some = store->units - u < AT_ONCE ? store->units - u : AT_ONCE;
        if (c) ferry_panel_columns_part(c, panel, q, u, some);
        count += store->kernels->keep(halves[0] ? halves[0] + at : NULL, halves[0] ? halves[1] + at : NULL,
                                      list + count, panel->f + u * TILE, weights, u, some, store->cut);
    }
    return count;
}

static int read_flag(const int *flag)
{
    int value;
#pragma omp atomic read
    value = *flag;
    return value;
}
static void raise_flag(int *flag)
{
#pragma omp atomic write
    *flag = 1;
}

/* What is kept of a panel becomes part of the store: its lists stand behind its upper rows. */
static void take_in(ferry_store *store, ferry_stored *kept, const int32_t *list, const ferry_cost *cost, int64_t index,
                    int thread)
{
    const size_t rows = (size_t)(kept->count * FERRY_HALF_TILE) * sizeof **kept->halves;
    size_t bytes = rows + (size_t)(kept->count + store->blocks + 1) * sizeof *list;
    int64_t used;
    kept->unit = (int32_t *)(void *)(kept->halves[0] + kept->count * FERRY_HALF_TILE);
    kept->first = kept->unit + kept->count;
    memcpy(kept->unit, list, (size_t)kept->count * sizeof *list);
    find_blocks(kept, cost);
    store->panel[index] = *kept;
    bytes = (bytes + LINE - 1) / LINE * LINE;
    store->arena[thread].used += bytes;
    store->lower[thread].used += rows;
#pragma omp atomic capture
    used = store->used += (int64_t)(bytes + rows);
    if (used > store->bytes) raise_flag(&store->over);
}
/* Room for all tiles of a panel; false where there is none. */
static bool find_room(ferry_stored *kept, ferry_store *store, int thread)
{
    const size_t rows = (size_t)(store->units * FERRY_HALF_TILE) * sizeof **kept->halves;
    const size_t lists = (size_t)(store->units + store->blocks + 1) * sizeof *kept->unit;
    kept->halves[0] = (uint16_t *)(void *)ferry_arena_room(&store->arena[thread], rows + lists + LINE);
    kept->halves[1] = (uint16_t *)(void *)ferry_arena_room(&store->lower[thread], rows);
    if (kept->halves[0] && kept->halves[1]) return true;
    kept->halves[0] = kept->halves[1] = NULL;
    return false;
}

/* False where nothing was looked at, and c has gained nothing. */
static bool keep_panel(double *c, ferry_store *store, const ferry_sinkhorn *s, const ferry_panel *panel, int64_t index,
                       const double *q, int thread)
{
    ferry_stored kept = {0};
    float weights[ROWS];
    int32_t *list = store->list + thread * store->units;
    if (read_flag(&store->bad)) return false;
    if (!weights_of(weights, store, s, index, q)) {
        raise_flag(&store->bad);
        return false;
    }
    if (!read_flag(&store->over) && !find_room(&kept, store, thread)) raise_flag(&store->over);
    kept.count = keep_tiles(kept.halves, list, c, store, panel, weights, q);
    if (!ferry_store_list(store, s->cost, index, list, kept.count, thread)) raise_flag(&store->bad);
    if (kept.halves[0]) take_in(store, &kept, list, s->cost, index, thread);
#pragma omp atomic
    store->tiles += kept.count;
    return true;
}

void ferry_store_keep(double *c, const ferry_sinkhorn *s, const ferry_panel *panel, int64_t index, const double *q)
{
    if (!keep_panel(c, s->store, s, panel, index, q, omp_get_thread_num())) ferry_panel_columns(c, panel, q);
}
void ferry_store_keep_batch(const ferry_sinkhorn *s, const ferry_panel *panels, int64_t first, int64_t count,
                            const double *q)
{
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t p = 0; p < count; p++)
        keep_panel(NULL, s->store, s, panels + p, first + p, q + p * ROWS, omp_get_thread_num());
}

/* Local. Nothing is kept; memory stays for what comes. */
static void begin_fill(ferry_store *store, const ferry_sinkhorn *s)
{
    const double targets = (double)s->grid->target.blocks.rows, sources = (double)s->grid->source.blocks.rows;
    const double row = s->mass_a / sources;
    for (int t = 0; t < store->threads; t++) {
        store->arena[t].now = store->lower[t].now = store->lists[t].now = 0;
        store->arena[t].used = store->lower[t].used = store->lists[t].used = 0;
    }
    memset(store->panel, 0, (size_t)store->panels * sizeof *store->panel);
    memset(store->pieces, 0, (size_t)store->panels * sizeof *store->pieces);
    /* where twice the room was missing the last time, it is not tried again */
    store->over = store->again && store->tiles * TILE * (int64_t)sizeof(uint16_t) / 2 > store->bytes;
    store->bad = 0;
    store->used = store->tiles = store->listed = 0;
    store->usable = false;
    store->share = 0;
    store->targets = targets < MOST_T ? targets : MOST_T;
    store->cut = (float)((double)FERRY_STORE_CUT * store->targets / targets);
    store->times = row > 0 && isfinite(row) ? ldexp(1, -ilogb(row)) : 1;
}

/* Collective. What the pass has kept becomes a store, or is given back. */
static ferry_status end_fill(ferry_store *store, ferry_sinkhorn *s)
{
    const ferry_world *world = s->grid->world;
    double most[3] = {store->bad ? 2 : store->over, (double)store->tiles, store->threads > 1}; /* of any rank */
    ferry_max_doubles(world, most, 3);
    const int worst = (int)most[0];
    bool lost = worst == 2;
    store->several = most[2] > 0;
    store->again = worst == 1;
    if (store->again) give_back_halves(store);
    memcpy(store->f, s->f, (size_t)s->rows * sizeof *s->f);
    memcpy(store->r, s->r, (size_t)s->rows * sizeof *s->r);
    memcpy(store->g, s->g, (size_t)s->columns * sizeof *s->g);
    memcpy(store->c, s->c, (size_t)s->columns * sizeof *s->c);
    if (!lost) {
        int64_t tiles[2] = {store->tiles, store->panels * store->units};
        ferry_total_counts(world, tiles, 2);
        store->share = tiles[1] > 0 ? (double)tiles[0] / (double)tiles[1] : 0;
        ferry_log(world, FERRY_DEBUG, "%.1f %% of the tiles weigh, on the rank with most %.2f times the mean",
                  100 * store->share, tiles[0] > 0 ? most[1] * world->size / (double)tiles[0] : 1);
        lost = store->again && store->share > MOST_AGAIN;
    }
    if (!lost) FERRY_TRY((store->again ? ferry_store_calibrate_again : ferry_store_calibrate)(store, s, &lost));
    store->usable = !lost;
    if (lost) give_back(store);
    return FERRY_OK;
}

ferry_status ferry_store_fill(ferry_store *store, ferry_sinkhorn *s)
{
    begin_fill(store, s);
    s->store = store;
    ferry_status status = ferry_sinkhorn_iterate(s);
    s->store = NULL;
    if (status == FERRY_OK) status = end_fill(store, s);
    if (status != FERRY_OK) give_back(store);
    return status;
}

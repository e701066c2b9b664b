/* A graph from a file. Every rank reads the blocks that it owns, so nothing travels. */
#include "graph_impl.h"
#include "io/stored.h"
#include "mpi/log.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PIECE ((int64_t)1 << 20) /* entries of a sparse matrix that are read at a time, when rows are not longer */

/* Where a graph comes from. */
typedef struct source {
    ferry_stored *stored;
    const char *path, *key; /* key NULL: a result of ours */
    int64_t rows, columns;
    int k;
    bool self;
} source;

static const char *dataset_of(char text[512], const source *from, const char *name)
{
    (void)snprintf(text, 512, "obsp/%s/%s", from->key, name);
    return text;
}

/* --- obsp/KEY --- */

typedef struct entry {
    int64_t cell;
    double distance;
} entry;

static int by_cell(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->cell < y->cell ? -1 : x->cell > y->cell;
}

static int by_distance(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->distance < y->distance ? -1 : x->distance > y->distance ? 1 : by_cell(a, b);
}

/* Entries of consecutive rows of the matrix. */
typedef struct run {
    int64_t rows;
    int64_t *start; /* [rows + 1] as in the file */
    entry *entry;   /* [start[rows] - start[0]] */
} run;

static void free_run(run *r)
{
    free(r->start);
    free(r->entry);
}
#define FERRY_AUTO_RUN __attribute__((cleanup(free_run))) run

static ferry_status check_starts(const run *r, const source *from, int64_t first)
{
    for (int64_t i = 0; i < r->rows; i++)
        if (r->start[i + 1] < r->start[i] || r->start[i] < 0)
            return ferry_fail(FERRY_E_FILE, "%s: obsp/%s/indptr falls at row %lld; write the file anew with anndata",
                              from->path, from->key, (long long)(first + i));
    return FERRY_OK;
}

static ferry_status check_entry(const entry *e, const source *from, int64_t row)
{
    if (e->cell < 0 || e->cell >= from->rows)
        return ferry_fail(FERRY_E_FILE, "%s: obsp/%s: row %lld has column %lld, of %lld; write the file anew",
                          from->path, from->key, (long long)row, (long long)e->cell, (long long)from->rows);
    if (e->distance < 0)
        return ferry_fail(FERRY_E_FILE,
                          "%s: obsp/%s: row %lld has the value %g; distances are not negative: name a matrix of "
                          "distances with --from-distances",
                          from->path, from->key, (long long)row, e->distance);
    return FERRY_OK;
}

/* Rows first ... first + rows - 1, as many of them as hold PIECE entries, but at least one: out->rows. */
static ferry_status read_run(run *out, const source *from, int64_t first, int64_t rows)
{
    char text[512];
    FERRY_AUTO int64_t *cell = NULL;
    FERRY_AUTO double *distance = NULL;
    out->rows = rows;
    FERRY_TRY(ferry_alloc(&out->start, rows + 1));
    FERRY_TRY(ferry_stored_integers(out->start, from->stored, dataset_of(text, from, "indptr"), first, rows + 1));
    FERRY_TRY(check_starts(out, from, first));
    while (out->rows > 1 && out->start[out->rows] - out->start[0] > PIECE) out->rows = (out->rows + 1) / 2;
    const int64_t count = out->start[out->rows] - out->start[0];
    FERRY_TRY(ferry_alloc(&cell, count));
    FERRY_TRY(ferry_alloc(&distance, count));
    FERRY_TRY(ferry_alloc(&out->entry, count));
    FERRY_TRY(ferry_stored_integers(cell, from->stored, dataset_of(text, from, "indices"), out->start[0], count));
    FERRY_TRY(ferry_stored_numbers(distance, from->stored, dataset_of(text, from, "data"), out->start[0], count));
    for (int64_t i = 0; i < count; i++) out->entry[i] = (entry){cell[i], distance[i]};
    return FERRY_OK;
}

/* The neighbours among `count` entries of a row, nearest first, moved to their front. */
static ferry_status order_row(int64_t *neighbors, entry *e, int64_t count, const source *from, int64_t row)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        FERRY_TRY(check_entry(&e[i], from, row));
        if (e[i].cell != row && isfinite(e[i].distance)) e[n++] = e[i];
    }
    qsort(e, (size_t)n, sizeof *e, by_cell);
    for (int64_t i = 1; i < n; i++)
        if (e[i].cell == e[i - 1].cell)
            return ferry_fail(FERRY_E_FILE, "%s: obsp/%s: row %lld has column %lld twice; write the file anew",
                              from->path, from->key, (long long)row, (long long)e[i].cell);
    qsort(e, (size_t)n, sizeof *e, by_distance);
    *neighbors = n;
    return FERRY_OK;
}

/* Local. The most neighbours of a row of rows first ...; each row's k nearest into the arrays (NULL: only counted). */
static ferry_status sparse_rows(int64_t *most, uint32_t *cells, float *distances, const source *from, int64_t first,
                                int64_t rows)
{
    for (int64_t at = 0; at < rows;) {
        FERRY_AUTO_RUN r = {0};
        FERRY_TRY(read_run(&r, from, first + at, rows - at));
        for (int64_t i = 0; i < r.rows; i++) {
            int64_t n;
            entry *e = r.entry + (r.start[i] - r.start[0]);
            FERRY_TRY(order_row(&n, e, r.start[i + 1] - r.start[i], from, first + at + i));
            if (n > *most) *most = n;
            for (int j = 0; cells && j < from->k; j++) {
                cells[(at + i) * from->k + j] = j < n ? (uint32_t)e[j].cell : UINT32_MAX;
                distances[(at + i) * from->k + j] = j < n ? (float)e[j].distance : INFINITY;
            }
        }
        at += r.rows;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status open_sparse(source *from)
{
    char text[512];
    int64_t shape[2], starts, entries, values;
    (void)snprintf(text, sizeof text, "obsp/%s", from->key);
    if (!ferry_stored_has(from->stored, text))
        return ferry_fail(FERRY_E_FILE, "%s: no obsp/%s; 'cellferry info %s' shows what there is", from->path,
                          from->key, from->path);
    FERRY_AUTO char *encoding = NULL;
    const ferry_status read = ferry_stored_attribute_text(&encoding, from->stored, text, "encoding-type");
    if (read != FERRY_OK || strcmp(encoding, "csr_matrix") != 0)
        return ferry_fail(FERRY_E_FILE,
                          "%s: obsp/%s is %s, but has to be a CSR matrix of distances; convert it with "
                          "scipy.sparse.csr_matrix",
                          from->path, from->key, read == FERRY_OK ? encoding : "no sparse matrix");
    FERRY_TRY(ferry_stored_attribute_integers(shape, 2, from->stored, text, "shape"));
    if (shape[0] != shape[1])
        return ferry_fail(FERRY_E_FILE, "%s: obsp/%s has %lld x %lld values; a matrix of distances is square",
                          from->path, from->key, (long long)shape[0], (long long)shape[1]);
    FERRY_TRY(ferry_stored_shape(&starts, NULL, from->stored, dataset_of(text, from, "indptr")));
    FERRY_TRY(ferry_stored_shape(&entries, NULL, from->stored, dataset_of(text, from, "indices")));
    FERRY_TRY(ferry_stored_shape(&values, NULL, from->stored, dataset_of(text, from, "data")));
    if (starts != shape[0] + 1 || entries != values)
        return ferry_fail(FERRY_E_FILE, "%s: obsp/%s: %lld row pointers, %lld indices, %lld values do not fit together",
                          from->path, from->key, (long long)starts, (long long)entries, (long long)values);
    from->rows = from->columns = shape[0];
    from->self = true;
    return FERRY_OK;
}

/* --- a result of ours --- */

static const char *const neighbors_path = "obsm/neighbors", *const distances_path = "obsm/distances";

/* Local. */
static ferry_status open_ours(source *from)
{
    double columns, self;
    int64_t rows, wide, other_rows, other_wide;
    if (!ferry_stored_has(from->stored, neighbors_path) || !ferry_stored_has(from->stored, distances_path))
        return ferry_fail(FERRY_E_FILE,
                          "%s: no obsm/neighbors and obsm/distances: give a result of 'cellferry "
                          "neighbors'",
                          from->path);
    FERRY_TRY(ferry_stored_shape(&rows, &wide, from->stored, neighbors_path));
    FERRY_TRY(ferry_stored_shape(&other_rows, &other_wide, from->stored, distances_path));
    if (rows != other_rows || wide != other_wide || wide < 1 || wide > INT32_MAX)
        return ferry_fail(FERRY_E_FILE,
                          "%s: obsm/neighbors has %lld x %lld values, obsm/distances %lld x %lld; make it again with "
                          "'cellferry neighbors'",
                          from->path, (long long)rows, (long long)wide, (long long)other_rows, (long long)other_wide);
    FERRY_TRY(ferry_stored_attribute_number(&columns, from->stored, neighbors_path, "columns"));
    FERRY_TRY(ferry_stored_attribute_number(&self, from->stored, neighbors_path, "self"));
    if (from->k > wide)
        return ferry_fail(FERRY_E_ARG, "%s holds %lld neighbours of a cell, not %d; lower -k or make it again",
                          from->path, (long long)wide, from->k);
    if (!from->k) from->k = (int)wide;
    from->rows = rows;
    from->columns = (int64_t)columns;
    from->self = self != 0;
    return FERRY_OK;
}

static ferry_status check_ours(const source *from, int64_t row, const int64_t *cell, const double *distance)
{
    double last = 0;
    for (int j = 0; j < from->k; j++) {
        const bool none = cell[j] == -1;
        if (cell[j] < -1 || cell[j] >= from->columns || (from->self && cell[j] == row) || !(distance[j] >= last) ||
            none != !isfinite(distance[j]))
            return ferry_fail(FERRY_E_FILE,
                              "%s: obsm/neighbors, row %lld: cell %lld at distance %g cannot be its neighbour %d; make "
                              "the file again with 'cellferry neighbors'",
                              from->path, (long long)row, (long long)cell[j], distance[j], j);
        last = distance[j];
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status our_rows(uint32_t *cells, float *distances, const source *from, int64_t first, int64_t rows)
{
    int64_t count, wide;
    FERRY_AUTO int64_t *cell = NULL;
    FERRY_AUTO double *distance = NULL;
    FERRY_TRY(ferry_stored_shape(&count, &wide, from->stored, neighbors_path));
    FERRY_TRY(ferry_alloc(&cell, rows * wide));
    FERRY_TRY(ferry_alloc(&distance, rows * wide));
    FERRY_TRY(ferry_stored_integers(cell, from->stored, neighbors_path, first, rows));
    FERRY_TRY(ferry_stored_numbers(distance, from->stored, distances_path, first, rows));
    for (int64_t i = 0; i < rows; i++) {
        FERRY_TRY(check_ours(from, first + i, cell + i * wide, distance + i * wide));
        for (int j = 0; j < from->k; j++) {
            cells[i * from->k + j] = cell[i * wide + j] < 0 ? UINT32_MAX : (uint32_t)cell[i * wide + j];
            distances[i * from->k + j] = (float)distance[i * wide + j];
        }
    }
    return FERRY_OK;
}

/* --- both --- */

/* Local. */
static ferry_status open_source(source *from)
{
    if (from->path[0] == '@')
        return ferry_fail(FERRY_E_FILE, "%s: a graph is read from one file, not from a list", from->path);
    FERRY_TRY(ferry_stored_open(&from->stored, from->path));
    FERRY_TRY(from->key ? open_sparse(from) : open_ours(from));
    if (from->rows < UINT32_MAX && from->columns >= 0 && from->columns < UINT32_MAX) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: a graph of %lld x %lld cells; at most %u", from->path, (long long)from->rows,
                      (long long)from->columns, UINT32_MAX - 1);
}

/* Collective. k = the longest row. */
static ferry_status measure_rows(source *from, const ferry_world *world)
{
    const ferry_blocks blocks = ferry_blocks_of(from->rows, FERRY_TARGET_UNIT);
    int64_t most = 0;
    ferry_status status = FERRY_OK;
    for (int b = world->rank; b < blocks.count && status == FERRY_OK; b += world->size) {
        const int64_t first = ferry_block_first(&blocks, b);
        status = sparse_rows(&most, NULL, NULL, from, first, ferry_block_first(&blocks, b + 1) - first);
    }
    FERRY_TRY(ferry_agree(world, status));
    most = ferry_max(world, most);
    if (most >= 1 && most <= INT32_MAX) from->k = (int)most;
    return most >= 1 ? FERRY_OK
                     : ferry_fail(FERRY_E_FILE, "%s: obsp/%s has no entry besides the diagonal", from->path, from->key);
}

/* Local. */
static ferry_status read_block(uint32_t *row, uint32_t *cell, float *distance, const source *from, int64_t first,
                               int64_t rows)
{
    int64_t most = 0;
    for (int64_t i = 0; i < rows; i++) row[i] = (uint32_t)(first + i);
    return from->key ? sparse_rows(&most, cell, distance, from, first, rows)
                     : our_rows(cell, distance, from, first, rows);
}

/* Local. */
static ferry_status block_buffers(uint32_t **row, uint32_t **cell, float **distance, int64_t rows, int k)
{
    FERRY_TRY(ferry_alloc(row, rows));
    FERRY_TRY(ferry_alloc(cell, rows * k));
    return ferry_alloc(distance, rows * k);
}

/* Collective. */
static ferry_status fill(ferry_graph *graph, const ferry_world *world, const source *from)
{
    FERRY_AUTO uint32_t *row = NULL;
    FERRY_AUTO uint32_t *cell = NULL;
    FERRY_AUTO float *distance = NULL;
    FERRY_TRY(
        ferry_agree(world, block_buffers(&row, &cell, &distance, ferry_graph_block_most(&graph->blocks), graph->k)));
    for (int64_t t = 0; t < graph->rounds; t++) {
        const int64_t b = t * world->size + world->rank;
        const int64_t first = b < graph->blocks.count ? ferry_block_first(&graph->blocks, (int)b) : graph->rows;
        const int64_t rows = b < graph->blocks.count ? ferry_block_first(&graph->blocks, (int)b + 1) - first : 0;
        FERRY_TRY(ferry_agree(world, read_block(row, cell, distance, from, first, rows)));
        const ferry_graph_rows came = {rows, row, cell, distance};
        FERRY_TRY(ferry_graph_put(graph, world, &came));
        ferry_progress(world, "reading neighbours", graph->rows * (t + 1) / graph->rounds, graph->rows, "cells", NULL);
    }
    return ferry_graph_finish(graph, world);
}

/* Collective. */
static ferry_status read_graph(ferry_graph *out, source *from, const ferry_world *world, int64_t memory,
                               const char *folder)
{
    FERRY_TRY(ferry_agree(world, open_source(from)));
    if (!from->k) FERRY_TRY(measure_rows(from, world));
    FERRY_TRY(ferry_graph_open(out, world, from->rows, from->columns, from->k, from->self, memory, folder));
    return fill(out, world, from);
}

ferry_status ferry_graph_read(ferry_graph *out, const ferry_world *world, const char *path, const char *key, int k,
                              int64_t memory, const char *folder)
{
    source from = {.path = path, .key = key, .k = k};
    memset(out, 0, sizeof *out);
    ferry_status status = read_graph(out, &from, world, memory, folder);
    if (status != FERRY_OK) ferry_graph_close(out);
    ferry_stored_close(&from.stored);
    return status;
}

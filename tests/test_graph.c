/* A graph whose every entry tells its row and place, so that a wrong one is seen: rows come in pieces, in a scattered
 * order, from any rank; walks give them back in file order; memory and scratch file give the same. */
#include "neighbors/graph.h"
#include "neighbors/graph_impl.h"
#include "io/stored.h"
#include "mpi/log.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t cell_of(int64_t row, int j, int k)
{
    if (row % 50 == 49 && j >= k / 2) return UINT32_MAX;
    return (uint32_t)((row * 31 + j * 7) % 100000);
}
static float distance_of(int64_t row, int j, int k)
{
    return cell_of(row, j, k) == UINT32_MAX ? INFINITY : (float)row + (float)j / 128;
}

/* Rows r with r % size == rank in steps, in descending order; some puts are empty on some ranks. */
static ferry_status fill(ferry_graph *graph, const ferry_world *world, int64_t piece, int64_t skip)
{
    const int k = graph->k;
    const int64_t most = (graph->rows + world->size - 1) / world->size;
    uint32_t *row = calloc((size_t)piece + 1, 4), *cell = calloc((size_t)(piece * k + 1), 4);
    float *distance = calloc((size_t)(piece * k + 1), 4);
    ferry_status status = FERRY_OK;
    for (int64_t at = 0; at < most && status == FERRY_OK; at += piece) {
        ferry_graph_rows rows = {.row = row, .cell = cell, .distance = distance};
        for (int64_t i = at; i < at + piece && i < most; i++) {
            const int64_t r = (most - 1 - i) * world->size + world->rank;
            if (r >= graph->rows || r == skip) continue;
            row[rows.count] = (uint32_t)r;
            for (int j = 0; j < k; j++) {
                cell[rows.count * k + j] = cell_of(r, j, k);
                distance[rows.count * k + j] = distance_of(r, j, k);
            }
            rows.count++;
        }
        status = ferry_graph_put(graph, world, &rows);
    }
    free(row);
    free(cell);
    free(distance);
    return status;
}

static void check_round(ferry_graph *graph, const ferry_world *world, int64_t t, int64_t expected)
{
    ferry_graph_block block;
    CHECK(ferry_graph_take(&block, graph, t) == FERRY_OK);
    CHECK(ferry_before(world, block.rows) + expected == block.first || block.rows == 0);
    int64_t wrong = 0;
    for (int64_t i = 0; i < block.rows; i++)
        for (int j = 0; j < graph->k; j++)
            wrong += block.cell[i * graph->k + j] != cell_of(block.first + i, j, graph->k) ||
                     !(block.distance[i * graph->k + j] == distance_of(block.first + i, j, graph->k));
    CHECK(wrong == 0);
}

static void walk(const ferry_world *world, int64_t rows, int k, int64_t memory, bool held)
{
    ferry_graph graph;
    CHECK(ferry_graph_open(&graph, world, rows, 100000, k, false, memory, NULL) == FERRY_OK);
    if (!graph.store) return;
    CHECK(held == (graph.store->scratch == NULL));
    CHECK(fill(&graph, world, 700, -1) == FERRY_OK);
    CHECK(ferry_graph_finish(&graph, world) == FERRY_OK);
    int64_t before = 0;
    for (int64_t t = 0; t < graph.rounds; t++) {
        ferry_graph_block block;
        check_round(&graph, world, t, before);
        CHECK(ferry_graph_take(&block, &graph, t) == FERRY_OK);
        before += ferry_total(world, block.rows);
    }
    CHECK(before == rows);
    if (graph.rounds > 2) {
        check_round(&graph, world, 0, 0); /* any round at any time */
        ferry_graph_block block;
        CHECK(ferry_graph_take(&block, &graph, graph.rounds) == FERRY_E_ARG);
    }
    ferry_graph_close(&graph);
}

static void mistakes(const ferry_world *world)
{
    ferry_graph graph;
    CHECK(ferry_graph_open(&graph, world, 100, 100000, 0, false, 1 << 30, NULL) == FERRY_E_ARG);
    CHECK(ferry_graph_open(&graph, world, 100, 101, 3, true, 1 << 30, NULL) == FERRY_E_ARG);
    CHECK(ferry_graph_open(&graph, world, 1000000, 1000, 30, false, 1000, NULL) == FERRY_E_PLAN);
    CHECK(ferry_graph_open(&graph, world, 1000, 100000, 3, false, 1 << 30, NULL) == FERRY_OK);
    CHECK(fill(&graph, world, 100, 567) == FERRY_OK);
    CHECK(ferry_graph_finish(&graph, world) == FERRY_E_ARG && strstr(ferry_error(), "did not come"));
    const uint32_t row[] = {567, 9}, cell[] = {1, 2, 3, 4, 5, 6}, outside[] = {1, 2, 100000, 4, 5, 6};
    const float distance[] = {1, 2, 3, 4, 5, 6};
    ferry_graph_rows rows = {world->rank == world->size - 1 ? 2 : 0, row, cell, distance};
    CHECK(ferry_graph_put(&graph, world, &rows) == FERRY_E_ARG && strstr(ferry_error(), "row 9 of the graph comes"));
    rows.cell = outside;
    CHECK(ferry_graph_put(&graph, world, &rows) == FERRY_E_ARG && strstr(ferry_error(), "cell 100000"));
    ferry_graph_close(&graph);
    ferry_graph_close(&graph);
}

/* What is written is read back, by ferry_stored and by ferry_graph_read. */
static void files(const ferry_world *world, int64_t rows, int k)
{
    ferry_graph graph;
    ferry_output *output = NULL;
    char path[64];
    snprintf(path, sizeof path, "test_graph_%d.h5ad", world->size);
    CHECK(ferry_graph_open(&graph, world, rows, 100000, k, false, (int64_t)1 << 30, NULL) == FERRY_OK);
    CHECK(fill(&graph, world, 700, -1) == FERRY_OK && ferry_graph_finish(&graph, world) == FERRY_OK);
    CHECK(ferry_output_open(&output, world, path, true) == FERRY_OK);
    CHECK(ferry_output_anndata(output) == FERRY_OK);
    CHECK(ferry_graph_write(&graph, world, output) == FERRY_OK);
    CHECK(ferry_output_finish(&output) == FERRY_OK);
    ferry_graph_close(&graph);
    ferry_stored *stored = NULL;
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK);
    int64_t *cell = calloc((size_t)(rows * k), sizeof *cell);
    double *distance = calloc((size_t)(rows * k), sizeof *distance);
    CHECK(ferry_stored_integers(cell, stored, "obsm/neighbors", 0, rows) == FERRY_OK);
    CHECK(ferry_stored_numbers(distance, stored, "obsm/distances", 0, rows) == FERRY_OK);
    int64_t wrong = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < k; j++) {
            const uint32_t c = cell_of(i, j, k);
            wrong += cell[i * k + j] != (c == UINT32_MAX ? -1 : (int64_t)c);
            wrong += !(distance[i * k + j] == distance_of(i, j, k));
        }
    CHECK(wrong == 0);
    free(cell);
    free(distance);
    ferry_stored_close(&stored);
    for (int half = 0; half < 2; half++) { /* 0: as it is; 1: half of the columns, in a scratch file */
        const int64_t least = ferry_graph_least(rows, k / 2, world->size);
        CHECK(ferry_graph_read(&graph, world, path, NULL, half ? k / 2 : 0, half ? least : 1 << 30, NULL) == FERRY_OK);
        CHECK(graph.rows == rows && graph.columns == 100000 && graph.k == (half ? k / 2 : k) && !graph.self);
        for (int64_t t = 0; t < graph.rounds; t++) {
            ferry_graph_block block;
            CHECK(ferry_graph_take(&block, &graph, t) == FERRY_OK);
            for (int64_t i = 0; i < block.rows; i++)
                for (int j = 0; j < graph.k; j++)
                    CHECK(block.cell[i * graph.k + j] == cell_of(block.first + i, j, k) &&
                          block.distance[i * graph.k + j] == distance_of(block.first + i, j, k));
        }
        ferry_graph_close(&graph);
    }
    CHECK(ferry_graph_read(&graph, world, path, NULL, k + 1, 1 << 30, NULL) == FERRY_E_ARG);
    CHECK(ferry_graph_read(&graph, world, path, "distances", 0, 1 << 30, NULL) == FERRY_E_FILE);
    ferry_barrier(world);
    if (world->rank == 0) unlink(path);
}

/* Row r of a square matrix: itself, an infinity, and 2 + r % 4 others; two of them equally far. */
enum { SQUARE = 300 };
static int64_t square_row(int64_t *index, float *value, int64_t r, bool negative)
{
    int64_t n = 0;
    for (int64_t c = 0; c < SQUARE; c++) {
        const int64_t step = (c - r + SQUARE) % SQUARE;
        if (step > 3 + r % 4) continue;
        index[n] = c;
        value[n++] = step == 0 ? 0.5F : step == 3 ? INFINITY : step < 3 ? 7 : 10 - (float)step;
        if (negative && r == 217 && step == 1) value[n - 1] = -1;
    }
    return n;
}

static void write_square(const ferry_world *world, const char *path, int64_t columns, bool negative)
{
    ferry_output *output = NULL;
    ferry_sink sink;
    int64_t indptr[SQUARE + 1] = {0}, index[SQUARE * 8];
    float value[SQUARE * 8];
    const int64_t rows = world->rank == 0 ? SQUARE : 0;
    for (int64_t r = 0; r < rows; r++)
        indptr[r + 1] = indptr[r] + square_row(index + indptr[r], value + indptr[r], r, negative);
    const ferry_rows block = {rows, indptr, index, value};
    CHECK(ferry_output_open(&output, world, path, true) == FERRY_OK);
    CHECK(ferry_output_anndata(output) == FERRY_OK);
    CHECK(ferry_output_csr_open(&sink, output, "obsp/far", SQUARE, columns) == FERRY_OK);
    CHECK(sink.take(sink.self, &block) == FERRY_OK);
    CHECK(ferry_output_csr_finish(&sink) == FERRY_OK);
    CHECK(ferry_output_finish(&output) == FERRY_OK);
}

static void squares(const ferry_world *world)
{
    ferry_graph graph;
    char path[64];
    snprintf(path, sizeof path, "test_graph_square_%d.h5ad", world->size);
    write_square(world, path, SQUARE, false);
    for (int k = 0; k < 4; k += 3) {
        CHECK(ferry_graph_read(&graph, world, path, "far", k, 1 << 30, NULL) == FERRY_OK);
        CHECK(graph.self && graph.k == (k ? k : 5) && graph.columns == SQUARE);
        for (int64_t t = 0; t < graph.rounds; t++) {
            ferry_graph_block block;
            CHECK(ferry_graph_take(&block, &graph, t) == FERRY_OK);
            for (int64_t i = 0; i < block.rows; i++) {
                const int64_t r = block.first + i, n = 2 + r % 4; /* farthest step first, 1 and 2 tie at 7 */
                for (int j = 0; j < graph.k; j++) {
                    float want = INFINITY;
                    const int64_t steps[] = {6, 5, 4}, late = n - 2; /* 10 - 6 = 4, 5, 6: before 7 */
                    if (j < late) want = 10 - (float)steps[3 - late + j];
                    if (j >= late && j < n) want = 7;
                    const uint32_t cell = block.cell[i * graph.k + j];
                    CHECK(block.distance[i * graph.k + j] == want);
                    CHECK((cell == UINT32_MAX) == (j >= n));
                    if (j == late)
                        CHECK(cell == (r + 1 < SQUARE && r + 2 >= SQUARE ? 0U : (uint32_t)((r + 1) % SQUARE)));
                }
            }
        }
        ferry_graph_close(&graph);
    }
    ferry_status status = FERRY_E_RUN; /* every meeting of reading fails once */
    int meeting = 0;
    for (; status != FERRY_OK && meeting < 200; meeting++) {
        char text[32];
        snprintf(text, sizeof text, "%d:%d", meeting + 1, world->size - 1);
        setenv("FERRY_FAIL", text, 1);
        status = ferry_graph_read(&graph, world, path, "far", 0, ferry_graph_least(SQUARE, 5, world->size), NULL);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        ferry_graph_close(&graph);
    }
    CHECK(status == FERRY_OK && meeting > 5);
    CHECK(ferry_graph_read(&graph, world, path, "near", 0, 1 << 30, NULL) == FERRY_E_FILE);
    CHECK(ferry_graph_read(&graph, world, path, NULL, 0, 1 << 30, NULL) == FERRY_E_FILE);
    write_square(world, path, SQUARE, true);
    CHECK(ferry_graph_read(&graph, world, path, "far", 0, 1 << 30, NULL) == FERRY_E_FILE &&
          strstr(ferry_error(), "row 217 has the value -1"));
    write_square(world, path, SQUARE + 1, false);
    CHECK(ferry_graph_read(&graph, world, path, "far", 0, 1 << 30, NULL) == FERRY_E_FILE &&
          strstr(ferry_error(), "square"));
    ferry_barrier(world);
    if (world->rank == 0) unlink(path);
}

int main(int argc, char **argv)
{
    ferry_world world;
    MPI_Init(&argc, &argv);
    if (ferry_world_open(&world, MPI_COMM_WORLD) != FERRY_OK) return 1;
    ferry_log_level(FERRY_QUIET);
    const int64_t plenty = (int64_t)1 << 30;
    walk(&world, 0, 3, plenty, true);
    walk(&world, 1, 3, plenty, true);
    walk(&world, 33, 1, plenty, true);
    walk(&world, 5000, 30, plenty, true);
    walk(&world, 70001, 5, plenty, true);
    walk(&world, 70001, 30, ferry_graph_least(70001, 30, world.size), false);
    walk(&world, 200001, 3, 4 << 20, world.size > 2);
    mistakes(&world);
    files(&world, 5000, 6);
    squares(&world);
    ferry_world_close(&world);
    return test_end();
}

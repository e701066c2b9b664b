/* Tall blocks and the largest eigenpairs: orthonormal columns whatever comes in, eigenvalues of matrices that are
 * known, also when one of them has many copies, and the same bits for any number of ranks. */
#include "math/krylov.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "test.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const ferry_world *world;

/* ---- tall blocks ---- */

static double worst_gram(const ferry_tall *tall, ferry_panel a, ferry_panel b, bool identity)
{
    double worst = 0, *c = calloc((size_t)(a.columns * b.columns) + 1, sizeof *c);
    CHECK(ferry_tall_gram(c, tall, a, b) == FERRY_OK);
    for (int i = 0; i < a.columns; i++)
        for (int j = 0; j < b.columns; j++) worst = fmax(worst, fabs(c[i * b.columns + j] - (identity && i == j)));
    free(c);
    return worst;
}

/* Columns: some of V, some equal, some zero, some nearly dependent. */
static void orthonormal(int64_t rows)
{
    ferry_shards shards;
    CHECK(ferry_shards_open(&shards, rows, FERRY_TARGET_UNIT, world->size) == FERRY_OK);
    const ferry_tall tall = {world, &shards};
    const int64_t here = ferry_tall_rows(&tall);
    const int n = rows < 8 ? (int)rows / 2 : 7, m = rows < 8 ? (int)rows - n : 5;
    double *all = calloc((size_t)(here * 20) + 1, sizeof *all);
    const ferry_panel v = {all, 20, m}, a = {all + m, 20, n};
    ferry_tall_random(v, &tall, 3, 0);
    CHECK(ferry_tall_orthonormal(v, &tall, (ferry_panel){all, 20, 0}, 0, 3, 1) == FERRY_OK);
    ferry_tall_random(a, &tall, 3, 2);
    for (int64_t i = 0; i < here && n == 7; i++) {
        double *row = a.x + i * a.stride;
        row[1] = v.x[i * v.stride];
        row[2] = row[0];
        row[3] = 0;
        row[4] = row[0] + 1e-9 * row[5];
        row[6] = 1e-30 * row[6];
    }
    CHECK(ferry_tall_orthonormal(a, &tall, v, 1e-14, 3, 3) == FERRY_OK);
    CHECK(worst_gram(&tall, a, a, true) < 1e-14 && worst_gram(&tall, v, a, false) < 1e-14);
    /* what a near copy added is kept: column 4 is along column 5 */
    CHECK(n < 7 || worst_gram(&tall, (ferry_panel){a.x + 5, 20, 1}, (ferry_panel){a.x + 4, 20, 1}, false) < 1e-14);
    if (rows >= 2) {
        const ferry_panel many = {all, 20, (int)(rows < 18 ? rows + 1 : 19)};
        ferry_tall_random(many, &tall, 3, 4);
        CHECK(ferry_tall_orthonormal(many, &tall, (ferry_panel){all, 20, 0}, 0, 3, 5) ==
              (rows < 18 ? FERRY_E_NUMERIC : FERRY_OK));
    }
    free(all);
    ferry_shards_close(&shards);
}

/* ---- eigenpairs ---- */

/* A = Q diag Q, Q = I - 2 u u^T / u^T u: dense, but its products are cheap; u_i = 1 + i mod 3. */
typedef struct mirror {
    ferry_tall tall;
    const double *diagonal; /* [rows] */
    bool poison;
} mirror;

static ferry_status reflect(double *x, const mirror *m, int columns)
{
    const int64_t here = ferry_tall_rows(&m->tall), first = m->tall.shards->first[world->rank];
    double *u = calloc((size_t)here + 1, sizeof *u), *c = calloc((size_t)columns + 1, sizeof *c), square = 0;
    for (int64_t i = 0; i < here; i++) u[i] = 1 + (double)((first + i) % 3);
    const ferry_panel column = {u, 1, 1};
    ferry_status status = ferry_tall_gram(&square, &m->tall, column, column);
    if (status == FERRY_OK) status = ferry_tall_gram(c, &m->tall, column, (ferry_panel){x, columns, columns});
    for (int j = 0; j < columns; j++) c[j] *= 2 / square;
    ferry_tall_subtract((ferry_panel){x, columns, columns}, column, c, here);
    free(u);
    free(c);
    return status;
}

static ferry_status apply(void *self, double *y, const double *x, int columns)
{
    const mirror *m = self;
    const int64_t here = ferry_tall_rows(&m->tall), first = m->tall.shards->first[world->rank];
    memcpy(y, x, (size_t)(here * columns) * sizeof *y);
    FERRY_TRY(reflect(y, m, columns));
    for (int64_t i = 0; i < here; i++)
        for (int j = 0; j < columns; j++) y[i * columns + j] *= m->poison ? NAN : m->diagonal[first + i];
    return reflect(y, m, columns);
}

static int by_size(const void *a, const void *b)
{
    const double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
    return (x < y) - (x > y);
}

/* One number of all bits. */
static uint64_t bits_of(const ferry_eigenpairs *pairs, int64_t here, int64_t first)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < here * pairs->count; i++) {
        uint64_t bits;
        memcpy(&bits, pairs->vector + i, sizeof bits);
        sum += bits * (uint64_t)(2 * (first * pairs->count + i) + 1);
    }
    return (uint64_t)ferry_total(world, (int64_t)sum);
}

static ferry_status eigen(uint64_t *bits, const double *diagonal, int64_t rows, int count, bool poison)
{
    ferry_shards shards;
    ferry_eigenpairs pairs;
    CHECK(ferry_shards_open(&shards, rows, FERRY_TARGET_UNIT, world->size) == FERRY_OK);
    mirror m = {{world, &shards}, diagonal, poison};
    const ferry_operator op = {apply, &m};
    const ferry_krylov_options options = {.count = count, .tolerance = 1e-10, .most = 2000, .seed = 5};
    const ferry_status status = ferry_krylov(&pairs, &m.tall, &op, &options);
    if (status == FERRY_OK) {
        double *sorted = malloc((size_t)rows * sizeof *sorted);
        memcpy(sorted, diagonal, (size_t)rows * sizeof *sorted);
        qsort(sorted, (size_t)rows, sizeof *sorted, by_size);
        const double scale = fabs(sorted[0]) > 0 ? fabs(sorted[0]) : 1;
        for (int i = 0; i < count; i++) CHECK(fabs(fabs(pairs.value[i]) - fabs(sorted[i])) < 1e-9 * scale);
        CHECK(count == rows || fabs(pairs.next - fabs(sorted[count])) < 0.02 * scale);
        CHECK(pairs.residual <= 1e-9 * scale);
        const ferry_panel v = {pairs.vector, count, count};
        CHECK(worst_gram(&m.tall, v, v, true) < 1e-12);
        if (bits) *bits = bits_of(&pairs, ferry_tall_rows(&m.tall), shards.first[world->rank]);
        free(sorted);
    }
    ferry_eigenpairs_close(&pairs);
    ferry_shards_close(&shards);
    return status;
}

static void spectra(void)
{
    double d[1500];
    uint64_t bits = 0, own = 0;
    for (int i = 0; i < 1500; i++) d[i] = (i % 3 ? 1 : -1) / (1 + 0.02 * i);
    CHECK(eigen(&bits, d, 1500, 20, false) == FERRY_OK);
    const ferry_world *all = world;
    ferry_world single;
    CHECK(ferry_world_split(&single, all, all->rank, 0) == FERRY_OK);
    world = &single;
    CHECK(eigen(&own, d, 1500, 20, false) == FERRY_OK);
    world = all;
    ferry_world_close(&single);
    CHECK(own == bits);
    CHECK(eigen(NULL, d, 100, 20, false) == FERRY_OK);
    CHECK(eigen(NULL, d, 40, 20, false) == FERRY_OK);
    CHECK(eigen(NULL, d, 40, 40, false) == FERRY_OK);
    CHECK(eigen(NULL, d, 1, 1, false) == FERRY_OK);
    CHECK(eigen(NULL, d, 2, 1, false) == FERRY_OK);
    CHECK(eigen(NULL, d, 10, 11, false) == FERRY_E_ARG);
    CHECK(eigen(NULL, d, 500, 5, true) == FERRY_E_NUMERIC && strstr(ferry_error(), "NaN"));
    /* 45 copies of 1 among 50 wanted, copies of -1 too, then a crowd; many zeros */
    for (int i = 0; i < 1500; i++) d[i] = i < 45 ? 1 : i < 48 ? -1 : 0.0006 * i;
    CHECK(eigen(NULL, d, 1500, 50, false) == FERRY_OK);
    for (int i = 0; i < 1500; i++) d[i] = i < 7 ? 1 + i : 0;
    CHECK(eigen(NULL, d, 1500, 12, false) == FERRY_OK);
    for (int i = 0; i < 1500; i++) d[i] = 0;
    CHECK(eigen(NULL, d, 1500, 3, false) == FERRY_OK);
}

/* Every meeting fails once. */
static void walk(void)
{
    char text[32];
    double d[60];
    int meeting = 1;
    for (int i = 0; i < 60; i++) d[i] = i < 6 ? 2 + i : 0;
    for (ferry_status status = FERRY_E_RUN; status != FERRY_OK && meeting < 3000; meeting += meeting < 30 ? 1 : 61) {
        ferry_shards shards;
        ferry_eigenpairs pairs;
        CHECK(ferry_shards_open(&shards, 60, FERRY_TARGET_UNIT, world->size) == FERRY_OK);
        mirror m = {{world, &shards}, d, false};
        const ferry_operator op = {apply, &m};
        const ferry_krylov_options options = {.count = 3, .tolerance = 1e-10, .most = 100, .seed = 5};
        snprintf(text, sizeof text, "%d:%d", meeting, meeting % world->size);
        setenv("FERRY_FAIL", text, 1);
        status = ferry_krylov(&pairs, &m.tall, &op, &options);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        ferry_eigenpairs_close(&pairs);
        ferry_shards_close(&shards);
    }
    CHECK(meeting > 30 && meeting < 3000);
}

int main(int argc, char **argv)
{
    ferry_world all;
    MPI_Init(&argc, &argv);
    if (ferry_world_open(&all, MPI_COMM_WORLD) != FERRY_OK) return 1;
    world = &all;
    ferry_log_level(FERRY_QUIET);
    const int64_t rows[] = {1, 2, 5, 7, 40, 1000, 5000};
    for (int i = 0; i < 7; i++) orthonormal(rows[i]);
    spectra();
    walk();
    ferry_world_close(&all);
    return test_end();
}

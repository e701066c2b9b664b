/* Dense symmetric eigenproblems, on one rank and over a grid: A v = value v, orthonormal v, the same values. */
#include "math/eigen.h"
#include "math/random.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "test.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* symmetric, of norm about sqrt(n) / 2; some pairs of equal eigenvalues by a zero block */
static double element(int64_t i, int64_t j)
{
    const uint64_t low = (uint64_t)(i < j ? i : j), high = (uint64_t)(i < j ? j : i);
    if (low % 10 == 3) return 0;
    return ferry_random(7, low * 100000 + high) - 0.5 + (i == j);
}

/* largest |A v - value v| over rows first ... end of all; vectors as rows of v (transposed: columns of v [rows][n]) */
static double wrong_pairs(const double *value, const double *v, int n)
{
    double worst = 0;
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n; i++) {
            double sum = 0;
            for (int j = 0; j < n; j++) sum += element(i, j) * v[k * n + j];
            worst = fmax(worst, fabs(sum - value[k] * v[k * n + i]));
        }
    return worst;
}
static double not_orthonormal(const double *v, int n)
{
    double worst = 0;
    for (int k = 0; k < n; k++)
        for (int l = 0; l <= k; l++) {
            double sum = 0;
            for (int j = 0; j < n; j++) sum += v[k * n + j] * v[l * n + j];
            worst = fmax(worst, fabs(sum - (k == l)));
        }
    return worst;
}

static void alone(const ferry_world *world, int n)
{
    double *a = calloc((size_t)(n * n) + 1, sizeof *a), *value = calloc((size_t)n + 1, sizeof *value);
    omp_set_num_threads(3);
    for (int i = 0; i < n * n; i++) a[i] = world->rank == 0 ? element(i / n, i % n) : NAN;
    CHECK(ferry_eigen_shared(value, a, world, n) == FERRY_OK);
    CHECK(omp_get_max_threads() == 3);
    omp_set_num_threads(1);
    CHECK(wrong_pairs(value, a, n) < 1e-12 * (n + 1) && not_orthonormal(a, n) < 1e-12);
    for (int i = 1; i < n; i++) CHECK(value[i] >= value[i - 1]);
    if (n > 1) {
        a[1] = NAN;
        CHECK(ferry_eigen_shared(value, a, world, n) == FERRY_E_NUMERIC && strstr(ferry_error(), "NaN"));
    }
    free(a);
    free(value);
}

/* Entries come from any rank, some in two halves; rows are dealt unevenly at the end, and columns in another order. */
static ferry_status over_grid(const ferry_world *world, int n, int64_t on_one, bool check)
{
    ferry_cyclic cyclic = {0};
    ferry_cyclic_entry *entry = calloc((size_t)(2 * n * n) + 1, sizeof *entry);
    int64_t count = 0, *first = calloc((size_t)world->size + 1, sizeof *first);
    int64_t *column = calloc((size_t)n + 1, sizeof *column);
    double *value = calloc((size_t)n + 1, sizeof *value), *rows = calloc((size_t)(n * n) + 1, sizeof *rows);
    double *all = calloc((size_t)(n * n) + 1, sizeof *all), *reference = calloc((size_t)n + 1, sizeof *reference);
    for (int i = 0; i < n * n; i++) {
        if (i * 7 % world->size != world->rank || element(i / n, i % n) == 0) continue;
        entry[count++] = (ferry_cyclic_entry){i / n, i % n, 0.5 * element(i / n, i % n)};
        entry[count++] = (ferry_cyclic_entry){i / n, i % n, 0.5 * element(i / n, i % n)};
    }
    for (int r = 0; r < world->size; r++) first[r + 1] = r + 1 < world->size ? (int64_t)n * r / world->size : n;
    for (int k = 0; k < n; k++) column[k] = n - 1 - k;
    ferry_status status = ferry_cyclic_open(&cyclic, world, n, on_one);
    if (status == FERRY_OK) status = ferry_cyclic_add(&cyclic, entry, count);
    if (status == FERRY_OK) status = ferry_cyclic_eigen(value, &cyclic);
    if (status == FERRY_OK) status = ferry_cyclic_take(rows, &cyclic, first, column, n);
    if (check && status == FERRY_OK) {
        for (int64_t i = first[world->rank]; i < first[world->rank + 1]; i++)
            for (int k = 0; k < n; k++) all[(n - 1 - k) * n + i] = rows[(i - first[world->rank]) * n + k];
        MPI_Allreduce(MPI_IN_PLACE, all, n * n, MPI_DOUBLE, MPI_SUM, world->comm);
        CHECK(wrong_pairs(value, all, n) < 1e-12 * (n + 1) && not_orthonormal(all, n) < 1e-12);
        for (int i = 0; i < n * n; i++) all[i] = element(i / n, i % n);
        CHECK(ferry_eigen(reference, all, n) == FERRY_OK);
        for (int i = 0; i < n; i++) CHECK(fabs(value[i] - reference[i]) < 1e-12 * (n + 1));
    }
    ferry_cyclic_close(&cyclic);
    free(entry);
    free(first);
    free(column);
    free(value);
    free(rows);
    free(all);
    free(reference);
    return status;
}

/* Every meeting fails once, on each rank: one status for all, and nothing hangs. */
static void walk(const ferry_world *world)
{
    char text[32];
    int meeting = 1;
    for (ferry_status status = FERRY_E_RUN; status != FERRY_OK && meeting < 100; meeting++) {
        snprintf(text, sizeof text, "%d:%d", meeting, meeting % world->size);
        setenv("FERRY_FAIL", text, 1);
        status = over_grid(world, 40, 0, false);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
    }
    CHECK(meeting > 5 && meeting < 100);
}

int main(int argc, char **argv)
{
    ferry_world world;
    MPI_Init(&argc, &argv);
    if (ferry_world_open(&world, MPI_COMM_WORLD) != FERRY_OK) return 1;
    ferry_log_level(FERRY_QUIET);
    const int sizes[] = {0, 1, 2, 3, 17, 150};
    for (int i = 0; i < 6; i++) {
        alone(&world, sizes[i]);
        CHECK(over_grid(&world, sizes[i], 0, true) == FERRY_OK);
        CHECK(over_grid(&world, sizes[i], FERRY_DENSE_ALONE, true) == FERRY_OK);
    }
    CHECK(over_grid(&world, 300, 0, true) == FERRY_OK);
    ferry_cyclic cyclic;
    const ferry_cyclic_entry outside = {5, 0, 1.0};
    CHECK(ferry_cyclic_open(&cyclic, &world, 5, 0) == FERRY_OK);
    CHECK(ferry_cyclic_add(&cyclic, &outside, world.rank == world.size - 1) == FERRY_E_ARG);
    ferry_cyclic_close(&cyclic);
    CHECK(ferry_cyclic_open(&cyclic, &world, (int64_t)1 << 40, 0) == FERRY_E_PLAN);
    walk(&world);
    ferry_world_close(&world);
    return test_end();
}

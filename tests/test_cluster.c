/* k-means: groups found, isolated ones too, assignment by brute force, the same again; small linear systems. */
#include "test.h"
#include "math/anderson.h"
#include "math/cluster.h"
#include "math/linear.h"
#include "math/random.h"
#include "mpi/memory.h"
#include <math.h>

#define DIM   7
#define COUNT 1500

static float rows[COUNT * DIM];
static int truth[COUNT];

/* Groups of very unequal size, the last of 5 rows alone, far from all others. */
static void make(int groups)
{
    for (int i = 0; i < COUNT; i++) {
        const double u = ferry_random(1, (uint64_t)i);
        truth[i] = i % 300 == 17 ? groups - 1 : (int)(u * u * (groups - 1));
        for (int k = 0; k < DIM; k++) {
            const double centre = 20 * ferry_random(2, (uint64_t)truth[i] * DIM + (uint64_t)k) - 10;
            rows[i * DIM + k] = (float)(centre + 0.1 * ferry_random(3, (uint64_t)i * DIM + (uint64_t)k) +
                                        (truth[i] == groups - 1 ? 100 : 0));
        }
    }
}

static double squared(const float *a, const float *b)
{
    double sum = 0;
    for (int k = 0; k < DIM; k++) sum += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
    return sum;
}

static void groups_found(const ferry_kernels *kernels)
{
    ferry_clusters c = {0}, again = {0};
    int32_t label[COUNT];
    make(20);
    CHECK(ferry_clusters_find(&c, rows, COUNT, DIM, 20, 1, 5, kernels) == FERRY_OK);
    CHECK(ferry_clusters_find(&again, rows, COUNT, DIM, 20, 1, 5, kernels) == FERRY_OK);
    CHECK(c.count == 20 && again.count == 20);
    for (int e = 0; e < 20 * DIM; e++) CHECK(c.centres[e] == again.centres[e]);
    CHECK(ferry_clusters_assign(label, &c, rows, COUNT) == FERRY_OK);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < i; j += 37) CHECK((label[i] == label[j]) == (truth[i] == truth[j]));
    for (int i = 0; i < COUNT; i++) { /* the nearest centre, up to rounding */
        const double mine = squared(rows + i * DIM, c.centres + label[i] * DIM);
        for (int g = 0; g < c.count; g++) CHECK(mine <= squared(rows + i * DIM, c.centres + g * DIM) + 1e-2);
    }
    /* a chain: no centre left is nearer than the next one */
    for (int g = 1; g < c.count; g++)
        for (int h = g; h < c.count; h++)
            CHECK(squared(c.centres + (g - 1) * DIM, c.centres + g * DIM) <=
                  squared(c.centres + (g - 1) * DIM, c.centres + h * DIM) * (1 + 1e-5));
    ferry_clusters_close(&c);
    ferry_clusters_close(&again);
}

static void few_rows(const ferry_kernels *kernels)
{
    ferry_clusters c = {0};
    for (int i = 0; i < 40 * DIM; i++) rows[i] = (float)(i / DIM % 3); /* three different rows */
    CHECK(ferry_clusters_find(&c, rows, 40, DIM, 10, 2, 5, kernels) == FERRY_OK);
    CHECK(c.count == 3);
    ferry_clusters_close(&c);
    CHECK(ferry_clusters_find(&c, rows, 1, DIM, 10, 2, 5, kernels) == FERRY_OK);
    CHECK(c.count == 1 && c.centres[0] == 0);
    ferry_clusters_close(&c);
    CHECK(ferry_clusters_find(&c, rows, 0, DIM, 10, 2, 5, kernels) == FERRY_E_ARG);
}

static void linear(void)
{
    enum { N = 37, ROWS = 50 };
    static double w[ROWS * N], a[N * N], copy[N * N], b[N], x[N];
    for (int i = 0; i < ROWS * N; i++) w[i] = ferry_random(9, (uint64_t)i) - 0.5;
    for (int i = 0; i < N; i++) x[i] = ferry_random(10, (uint64_t)i);
    ferry_subtract_gram(a, w, ROWS, N); /* 0 - w^T w */
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) {
            double sum = 0;
            for (int k = 0; k < ROWS; k++) sum += w[k * N + i] * w[k * N + j];
            CHECK(fabs(a[i * N + j] + sum) < 1e-12);
            copy[i * N + j] = copy[j * N + i] = a[i * N + j] = sum + (i == j);
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) b[i] += copy[i * N + j] * x[j];
    CHECK(ferry_solve_spd(a, b, N));
    for (int i = 0; i < N; i++) CHECK(fabs(b[i] - x[i]) < 1e-11);
    double bad[4] = {1, 0, 2, 1}, right[2] = {1, 1};
    CHECK(!ferry_solve_spd(bad, right, 2));
}

/* x = M x + h with a spectrum up to 0.99: plain steps would need hundreds */
static void fixed_point(void)
{
    enum { N = 40 };
    double x[N] = {0}, r[N], weight[N], error = 1;
    ferry_anderson a = {0};
    int steps = 0;
    for (int i = 0; i < N; i++) weight[i] = 1 + i % 3;
    CHECK(ferry_anderson_open(&a, N, weight, NULL, NULL, FERRY_REDUCE_TREE) == FERRY_OK);
    for (; steps < 200 && error > 1e-8; steps++) {
        error = 0;
        for (int i = 0; i < N; i++) {
            r[i] = 0.1 - (i < 4 ? 0.01 * (i + 1) : 0.9) * x[i];
            error += fabs(r[i]);
        }
        CHECK(ferry_anderson_step(x, &a, r, error, true) == FERRY_OK);
    }
    CHECK(error <= 1e-8 && steps < 40);
    CHECK(fabs(x[0] - 10) < 1e-4);
    /* an error far above the best goes back to the best point */
    for (int i = 0; i < N; i++) {
        r[i] = 0;
        x[i] = 1e9;
    }
    CHECK(ferry_anderson_step(x, &a, r, 1e9, true) == FERRY_OK);
    CHECK(a.restarts == 1 && fabs(x[0] - 10) < 1e-4);
    ferry_anderson_close(&a);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    const char *names[] = {"generic", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        const ferry_kernels *kernels = ferry_kernels_find(names[i]);
        if (!kernels) continue;
        groups_found(kernels);
        few_rows(kernels);
    }
    linear();
    fixed_point();
    return test_end();
}

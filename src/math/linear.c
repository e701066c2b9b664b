/* Small dense linear systems: A = L L^T row by row. */
#include "math/linear.h"
#include <math.h>

/* Built for several instruction sets, chosen at start; results differ in the last bits, so one rank solves for all. */
#if defined __x86_64__ && defined __GNUC__ && !defined __clang__ && !defined __SANITIZE_ADDRESS__
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

/* eight chains, so that additions do not wait for each other */
CLONES double ferry_dot(const double *a, const double *b, int n)
{
    double s[8] = {0};
    int k = 0;
    for (; k + 8 <= n; k += 8)
        for (int l = 0; l < 8; l++) s[l] += a[k + l] * b[k + l];
    for (; k < n; k++) s[0] += a[k] * b[k];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

bool ferry_solve_spd(double *a, double *b, int n)
{
    for (int i = 0; i < n; i++) {
        double *row = a + (int64_t)i * n;
        for (int j = 0; j < i; j++) {
            const double *left = a + (int64_t)j * n;
            row[j] = (row[j] - ferry_dot(row, left, j)) / left[j];
        }
        const double square = row[i] - ferry_dot(row, row, i);
        if (!(square > 0) || !isfinite(square)) return false;
        row[i] = sqrt(square);
        b[i] = (b[i] - ferry_dot(row, b, i)) / row[i];
    }
    for (int i = n - 1; i >= 0; i--) {
        const double *row = a + (int64_t)i * n;
        b[i] /= row[i];
        for (int j = 0; j < i; j++) b[j] -= row[j] * b[i];
    }
    return true;
}

void ferry_solve_again(const double *l, double *b, int n)
{
    for (int i = 0; i < n; i++) b[i] = (b[i] - ferry_dot(l + (int64_t)i * n, b, i)) / l[(int64_t)i * n + i];
    for (int i = n - 1; i >= 0; i--) {
        const double *row = l + (int64_t)i * n;
        b[i] /= row[i];
        for (int j = 0; j < i; j++) b[j] -= row[j] * b[i];
    }
}

CLONES void ferry_subtract_gram(double *h, const double *w, int rows, int n)
{
    int k = 0;
    for (; k + 4 <= rows; k += 4) {
        const double *w0 = w + (int64_t)k * n, *w1 = w0 + n, *w2 = w1 + n, *w3 = w2 + n;
        for (int i = 0; i < n; i++) {
            double *restrict row = h + (int64_t)i * n;
            const double x0 = w0[i], x1 = w1[i], x2 = w2[i], x3 = w3[i];
            for (int j = 0; j <= i; j++) row[j] -= (x0 * w0[j] + x1 * w1[j]) + (x2 * w2[j] + x3 * w3[j]);
        }
    }
    for (; k < rows; k++)
        for (int i = 0; i < n; i++) {
            double *restrict row = h + (int64_t)i * n;
            const double x = w[(int64_t)k * n + i];
            for (int j = 0; j <= i; j++) row[j] -= x * w[(int64_t)k * n + j];
        }
}

/* Fuzzy simplicial set of one row, as umap-learn computes it (McInnes, Healy, Melville 2018; smooth_knn_dist and
 * compute_membership_strengths, local connectivity 1):
 *
 *   rho   = the smallest distance above 0
 *   sigma : sum over columns 1 ... n - 1 of exp(-max(0, d - rho) / sigma) = log2 n   by bisection, to 1e-5, from 1
 *   sigma >= 1e-3 times the mean distance of the row (of all rows where rho = 0)
 *   w     = 1 where d <= rho, else exp(-(d - rho) / sigma)
 *
 * The steps of the bisection are part of the answer, for it ends within the tolerance: they are followed one by one.
 * The sum grows with sigma, so where Newton's method has found the root, a step far from it needs no sum: its side is
 * known. Float and double are used where umap-learn has them. Where fewer neighbours exist, n counts those that do. */
#include "weights_impl.h"
#include <float.h>
#include <math.h>

#define STEPS     64
#define TOLERANCE 1e-5
#define LEAST     1e-3
#define NEWTON    12

/* Columns from `first` on; slope: of the sum by sigma. */
static double memberships(double *slope, const float *d, int first, int count, float rho, double sigma)
{
    double sum = 0, moment = 0;
    for (int j = first; j < count; j++) {
        const float beyond = d[j] - rho;
        const double x = (double)beyond / sigma, w = beyond > 0 ? exp(-x) : 1;
        sum += w;
        if (beyond > 0) moment += w * x;
    }
    *slope = moment / sigma;
    return sum;
}

/* Where the sum is the target, and farther than *near from it the sum is not within the tolerance; NAN: not found. */
static double find_root(double *near, const float *d, int first, int count, float rho, double target)
{
    double sigma = count > first ? (d[count - 1] - rho) / 2 : 0;
    for (int step = 0; step < NEWTON && sigma > 0; step++) {
        double slope;
        const double over = memberships(&slope, d, first, count, rho, sigma) - target;
        if (!(slope > 0)) break;
        *near = 8 * TOLERANCE / slope;
        if (fabs(over) < TOLERANCE / 8) return *near < sigma / 64 ? sigma : NAN;
        const double next = sigma - over / slope;
        sigma = next > sigma / 4 ? (next < 4 * sigma ? next : 4 * sigma) : sigma / 4;
    }
    return NAN;
}

static double bisect(const float *d, int first, int count, float rho, double target)
{
    double low = 0, high = FLT_MAX, sigma = 1, near = 0;
    const double root = find_root(&near, d, first, count, rho, target);
    for (int step = 0; step < STEPS; step++) {
        double over = sigma - root, slope;
        if (!(fabs(over) > near))
            over = memberships(&slope, d, first, count, rho, sigma) - target;
        else
            over = over > 0 ? 1 : -1;
        if (fabs(over) < TOLERANCE) break;
        if (over > 0) {
            high = sigma;
            sigma = (low + high) / 2;
        } else {
            low = sigma;
            sigma = high >= FLT_MAX ? sigma * 2 : (low + high) / 2;
        }
    }
    return sigma;
}

ferry_smooth ferry_smooth_row(const float *distance, int count, bool own, double mean)
{
    ferry_smooth out = {0, 0};
    double sum = 0;
    for (int j = 0; j < count; j++) {
        sum += distance[j];
        if (distance[j] > 0 && (out.rho == 0 || distance[j] < out.rho)) out.rho = distance[j];
    }
    const int n = count + own;
    if (n == 0) return out;
    out.sigma = (float)bisect(distance, own ? 0 : 1, count, out.rho, log2(n)); /* the first column does not count */
    const double least = LEAST * (out.rho > 0 ? sum / n : mean);
    if (out.sigma < least) out.sigma = (float)least;
    return out;
}

float ferry_membership(float distance, ferry_smooth smooth)
{
    if (distance - smooth.rho <= 0 || smooth.sigma == 0) return 1;
    return expf(-((distance - smooth.rho) / smooth.sigma));
}

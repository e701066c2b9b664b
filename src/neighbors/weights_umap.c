/* Fuzzy simplicial set of one row, as umap-learn computes it (McInnes, Healy, Melville 2018; smooth_knn_dist and
 * compute_membership_strengths, local connectivity 1):
 *
 *   rho   = the smallest distance above 0
 *   sigma : sum over columns 1 ... n - 1 of exp(-max(0, d - rho) / sigma) = log2 n   by bisection, to 1e-5, from 1
 *   sigma >= 1e-3 times the mean distance of the row (of all rows where rho = 0)
 *   w     = 1 where d <= rho, else exp(-(d - rho) / sigma)
 *
 * The bisection is followed step by step: its end within the tolerance is part of the answer. Float and double are used
 * where umap-learn has them. Where fewer neighbours exist, n counts those that do. */
#include "weights_impl.h"
#include <float.h>
#include <math.h>

#define STEPS     64
#define TOLERANCE 1e-5
#define LEAST     1e-3

/* Columns from `first` on; d [count] */
static double memberships(const float *d, int first, int count, float rho, double sigma)
{
    double sum = 0;
    for (int j = first; j < count; j++) {
        const float beyond = d[j] - rho;
        sum += beyond > 0 ? exp(-((double)beyond / sigma)) : 1;
    }
    return sum;
}

static double bisect(const float *d, int first, int count, float rho, double target)
{
    double low = 0, high = FLT_MAX, sigma = 1;
    for (int step = 0; step < STEPS; step++) {
        const double sum = memberships(d, first, count, rho, sigma);
        if (fabs(sum - target) < TOLERANCE) break;
        if (sum > target) {
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

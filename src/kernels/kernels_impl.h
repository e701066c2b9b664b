/** kernels_impl.h - the tables that a build may hold, and what their bodies agree on (not installed). */
#ifndef FERRY_KERNELS_IMPL_H
#define FERRY_KERNELS_IMPL_H
#include "kernels/kernels.h"
#include "mpi/shard.h"
#define ROWS        FERRY_SOURCE_UNIT
#define COLUMNS     FERRY_TARGET_UNIT
#define TILE        (ROWS * COLUMNS) /* entries of one unit of a panel buffer */
#define LEAST_SCORE -1e4F            /* stands for exponents below it in sums of p s */
#define FLUSH_UNITS 16               /* a lane adds 16 units of a call in float32, then joins its float64 sum */

/* A mass in units, at most 2^51 of them, rounded without branches: what is added to 1.5 2^52 stands in the low bits. */
static inline int64_t whole_of(double mass, double per_mass)
{
    union {
        double sum;
        int64_t bits;
    } at, base = {.sum = 0x1.8p52};
    const double scaled = mass * per_mass;
    at.sum = (scaled < 0x1p51 ? scaled : 0x1p51) + base.sum;
    return at.bits - base.bits;
}
/* The run that a unit lies in. */
static inline int run_of(const ferry_masses *masses, int64_t unit)
{
    int first = 0, end = masses->runs;
    while (end - first > 1) {
        const int middle = first + (end - first) / 2;
        if (masses->run[middle] <= unit)
            first = middle;
        else
            end = middle;
    }
    return first;
}

extern const ferry_kernels ferry_kernels_generic, ferry_kernels_avx2, ferry_kernels_avx512;
#endif

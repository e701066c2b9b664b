/** bench_kernels.h - how fast each kernel of a table is, and how fast it could be. */
#ifndef CLI_BENCH_KERNELS_H
#define CLI_BENCH_KERNELS_H
#include <cellferry.h>

/* One kernel, or two that follow one another. */
typedef struct bench_result {
    const char *kernel;
    int dim;      /* 0: the kernel works on entries, whatever their dimensions were */
    int panels;   /* evaluated together */
    double pairs; /* per core-second */
    double
        roof; /* the same, at most: of the multiply-adds and, where nothing stays in a cache, of memory; 0: not said */
    bool memory; /* memory is the lower roof */
} bench_result;

typedef struct bench_job {
    const ferry_kernels *kernels;
    const int *dims; /* [dim_count] */
    int dim_count;
    int64_t columns;
    double bandwidth; /* bytes per core-second */
    double reading;   /* the same of reading alone; found by bench_table */
    double lanes;     /* multiply-adds per core-second; the largest of what is measured between the kernels */
} bench_job;

/* Collective. Every kernel by itself for about 0.1 s on all ranks at once; the slowest rank counts. `tell` is called on
 * every rank with each result. */
ferry_status bench_table(bench_job *job, const ferry_world *world,
                         void (*tell)(void *self, const bench_job *job, const bench_result *result), void *self);
#endif

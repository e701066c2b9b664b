/** train_impl.h - what the parts of training share (not installed). */
#ifndef FERRY_TRAIN_IMPL_H
#define FERRY_TRAIN_IMPL_H
#include "quantizer_impl.h"

#define SUPER_SAMPLE 128 /* rows of level 1 for each super-cell */

typedef struct ferry_training {
    const ferry_world *world;
    const ferry_points *points;
    ferry_search_metric metric;
    const ferry_kernels *kernels;
    ferry_train_options options; /* defaults filled in */
    int dim;
    int64_t lists, sample; /* wanted lists; rows of the sample */
    ferry_shards shards;   /* of the sample */
    int64_t rows;          /* of it on this rank; later those of its super-cells */
    float *row;            /* [rows][dim] prepared */
    int32_t *cell;         /* [rows] super-cell */
    float *mean;           /* [dim] */
    int supers;
    float *super;       /* [supers][dim] */
    int64_t *weight;    /* [supers] rows */
    int64_t *share;     /* [supers] lists wanted */
    int32_t *owner;     /* [supers] rank */
    int64_t *found;     /* [supers] lists found */
    double *distortion; /* [supers] */
    float *centre;      /* [lists of this rank's super-cells][dim]; on rank 0 later all */
} ferry_training;

/* Local. Lists and rows of the sample, within the memory; defaults filled in. */
ferry_status ferry_training_sizes(ferry_training *training);
/* Collective. Rows of the sample that this rank keeps, centred on the mean. */
ferry_status ferry_training_sample(ferry_training *training);
#endif

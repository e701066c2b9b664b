/** points.h - where the points of a search come from, by row ranges: a file's representation, or an array. */
#ifndef FERRY_POINTS_H
#define FERRY_POINTS_H
#include "io/population.h"
FERRY_BEGIN
typedef struct ferry_points {
    int64_t cells;
    int dim;
    char name[256]; /* for messages: "FILE: obsm/X_pca" */
    /* Collective. Points first ... first + count - 1 (any range per rank); close out with ferry_matrix_close. Rows with
       NaN or infinity are FERRY_E_FILE. */
    ferry_status (*read)(void *self, ferry_matrix *out, const ferry_world *world, int64_t first, int64_t count);
    void *self;
} ferry_points;

/** Local. The kept cells of a population, which is borrowed for the life of the points. */
FERRY_API void ferry_points_of(ferry_points *out, ferry_population *population);
/** Local. Rows that this rank holds, borrowed: values [count][dim] are points first ... of `cells`. Reading reaches the
 * rows of other ranks too (Collective). firsts [size + 1]: first row of every rank, borrowed. */
typedef struct ferry_points_shard {
    const float *values;
    const int64_t *firsts;
    int dim;          /* set by ferry_points_held */
    const char *name; /* likewise; borrowed */
} ferry_points_shard;
FERRY_API void ferry_points_held(ferry_points *out, ferry_points_shard *shard, int64_t cells, int dim,
                                 const char *name);
FERRY_END
#endif

/** population.h - one side of a problem: the cells of a file that take part, and their representation. */
#ifndef FERRY_POPULATION_H
#define FERRY_POPULATION_H
#include "select.h"
FERRY_BEGIN
/** What the user named. Texts are borrowed for the life of the population. */
typedef struct ferry_population_options {
    const char *path;         /* .h5ad or @LIST.txt */
    const char *rep;          /* NULL: ferry_file_default_rep */
    int dims;                 /* first columns taken; 0: all */
    const char *const *where; /* filters as ferry_select_open takes them */
    int filters;
    const char *weights; /* obs column, NULL: uniform, 1 / cells each */
} ferry_population_options;

typedef struct ferry_population {
    ferry_population_options options; /* with rep filled in */
    ferry_file *file;
    ferry_selection selection;
    int64_t cells; /* kept */
    int dim;
} ferry_population;

/** Collective. Opens the file, filters, checks the representation and the weights column. Close with
 *  ferry_population_close. */
FERRY_API ferry_status ferry_population_open(ferry_population *out, const ferry_world *world,
                                             const ferry_population_options *options);
FERRY_API void ferry_population_close(ferry_population *population);
/** Collective. File rows of kept cells first ... first + count - 1, any range per rank; free with free(). */
FERRY_API ferry_status ferry_population_rows(int64_t **rows, const ferry_world *world,
                                             const ferry_population *population, int64_t first, int64_t count);
/** Collective. Points of kept cells first ..., any range per rank. *nonfinite (may be NULL) = kept cells of this rank
 * with NaN or infinity; with NULL they are FERRY_E_FILE (names the first cell and the way out). */
FERRY_API ferry_status ferry_population_points(ferry_matrix *out, const ferry_world *world,
                                               const ferry_population *population, int64_t first, int64_t count,
                                               ferry_precision precision, int64_t *nonfinite);
/** Collective. *out [count] weights of kept cells first ...; negative or missing ones are FERRY_E_FILE. Free with
 * free(). */
FERRY_API ferry_status ferry_population_weights(double **out, const ferry_world *world,
                                                const ferry_population *population, int64_t first, int64_t count);
/** Collective. Names of kept cells first ... */
FERRY_API ferry_status ferry_population_names(ferry_names *out, const ferry_world *world,
                                              const ferry_population *population, int64_t first, int64_t count);
FERRY_END
#endif

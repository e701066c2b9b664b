/** read.h - rows of matrices, columns of obs and names of a .h5ad file, by row ranges. All Local unless said. */
#ifndef FERRY_READ_H
#define FERRY_READ_H
#include "h5ad.h"
FERRY_BEGIN
/** Local. Width of a representation: "X_pca" (a key of obsm: array, data frame of numbers, or sparse), "X",
 *  "layers/NAME", "raw/X". dims > 0 takes the first dims columns. FERRY_E_FILE when absent (naming the nearest and what
 *  there is), 1-D, without columns, or with another number of rows than obs. */
FERRY_API ferry_status ferry_rep_dim(int *out, ferry_file *file, const char *rep, int dims);
/** Local. out [count, dim] = rows `rows` (ascending row numbers of the file) of rep. Dense, CSR and CSC, any integer or
 *  float type; duplicates in a sparse row are added; NaN is passed on (ferry_matrix_finite tells). CSC is read whole in
 *  bounded slabs. Memory beside out is bounded (32 MiB slabs). Close out with ferry_matrix_close. */
FERRY_API ferry_status ferry_read_rep(ferry_matrix *out, ferry_file *file, const char *rep, int dims,
                                      ferry_precision precision, const int64_t *rows, int64_t count);
/** Local. Number of rows of the matrix with a NaN or infinity; *first = the first of them (-1: none). */
FERRY_API int64_t ferry_matrix_nonfinite(int64_t *first, const ferry_matrix *matrix);
/** Local. A number that changes when any value changes: the sum over rows of a hash of (first + i, row bytes as float32
 * or float64), modulo 2^64; add the ranks' numbers with ferry_total. */
FERRY_API uint64_t ferry_fingerprint(const ferry_matrix *matrix, int64_t first);

/** A categorical view of an obs column: codes into categories, -1 = missing. */
typedef struct ferry_labels {
    int64_t count;
    int32_t *code;          /* [count] */
    ferry_names categories; /* in category order; numbers as text ("10.5"), booleans "False", "True" */
    bool ordered;
} ferry_labels;
/** Collective. Column of obs as categories, for these rows of this rank. Categorical columns keep their category order
 *  (also categories that no cell uses); text, integer, boolean and nullable columns get the sorted distinct values over
 * all cells of the file. At most 1e6 categories. Floats are refused with the way out, except in categoricals. */
FERRY_API ferry_status ferry_read_labels(ferry_labels *out, const ferry_world *world, ferry_file *file,
                                         const char *column, const int64_t *rows, int64_t count);
FERRY_API void ferry_labels_close(ferry_labels *labels);
/** Local. Column of obs as numbers (integers, floats, booleans, nullable, categorical with numeric categories); missing
 * is NaN. *out [count], free with free(). */
FERRY_API ferry_status ferry_read_numbers(double **out, ferry_file *file, const char *column, const int64_t *rows,
                                          int64_t count);
/** Local. Cell names (obs index) of these rows; gene names (var index) first..first+count. Close with
 * ferry_names_close. */
FERRY_API ferry_status ferry_read_cell_names(ferry_names *out, ferry_file *file, const int64_t *rows, int64_t count);
FERRY_API ferry_status ferry_read_gene_names(ferry_names *out, ferry_file *file, const char *rep, int64_t first,
                                             int64_t count);
FERRY_END
#endif

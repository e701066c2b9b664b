/** index_file.h - INDEX.h5: lists stored by parallel HDF5, opened again on any number of ranks.
 *
 *  Root attributes: kind "cellferry index", version, metric, dim, exact, rep, dims, rows, lists. Datasets:
 *    mean [dim], centroids [lists][dim], supers [supers][dim], children [supers + 1], first [lists + 1],
 *    radius [lists], rows/values [rows][dim] float32 as in the input, rows/cell [rows] int64, rows/distance [rows];
 *    names [rows] of the cells in the order of the input; input (path, rep, where, fingerprint); uns/cellferry. */
#ifndef FERRY_INDEX_FILE_H
#define FERRY_INDEX_FILE_H
#include "io/write.h"
#include "lists.h"
FERRY_BEGIN
/** Collective. Everything but names, input and the record into an open output; in passes of `batch` rows. */
FERRY_API ferry_status ferry_index_write(ferry_output *output, const ferry_world *world, const ferry_lists *lists,
                                         int64_t batch);
typedef struct ferry_index {
    ferry_quantizer quantizer;
    ferry_lists lists;
    char *path, *input, *rep; /* of the reference's file, as stored; input and rep may be NULL */
    int dims;
    uint64_t fingerprint; /* of the reference's points; 0: not stored */
    int64_t cells;
} ferry_index;
/** Collective. held or cached as in options (exact and batch are not used). Close with ferry_index_close. FERRY_E_FILE
 *  when it is no index, incomplete, or does not fit together. */
FERRY_API ferry_status ferry_index_open(ferry_index *out, const ferry_world *world, const char *path,
                                        const ferry_kernels *kernels, const ferry_lists_options *options);
FERRY_API void ferry_index_close(ferry_index *index, const ferry_world *world);
/** Collective. Header only (sizes for a plan): rows, lists, dim. */
FERRY_API ferry_status ferry_index_peek(int64_t *rows, int64_t *lists, int *dim, ferry_search_metric *metric,
                                        const ferry_world *world, const char *path);
/** Local. Names of cells first ... of the reference, from the index. */
FERRY_API ferry_status ferry_index_names(ferry_names *out, const char *path, int64_t first, int64_t count);
FERRY_END
#endif

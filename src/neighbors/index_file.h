/** index_file.h - INDEX.h5: lists stored by parallel HDF5, opened again on any number of ranks.
 *
 *  Root attributes: kind "cellferry index", version, metric, dim, exact, rows, lists, and with the input rep and dims.
 *  Datasets:
 *    mean [dim], centroids [lists][dim], supers [supers][dim], children [supers + 1], first [lists + 1],
 *    radius [lists], rows/values [rows][dim] float32 as in the input, rows/cell [rows] int64, rows/distance [rows]
 *    (contiguous, so that lists are read by their place);
 *    with codes (codes.h; attribute codes, bytes of a row; version 2) rows/code [rows][codes] uint8 and book [256][dim]
 *    stand for rows/values;
 *    names [rows] of the cells in the order of the input; input with the attributes path, absolute_path, where (joined
 *    by newlines), fingerprint (hex text), cells, file_cells; uns/cellferry. */
#ifndef FERRY_INDEX_FILE_H
#define FERRY_INDEX_FILE_H
#include "io/population.h"
#include "io/write.h"
#include "codes.h"
FERRY_BEGIN
/** Collective. Everything but names, input and the record into an open output; in passes of `batch` rows a rank.
 *  *fingerprint = that of all points (read.h). */
FERRY_API ferry_status ferry_index_write(uint64_t *fingerprint, ferry_output *output, const ferry_world *world,
                                         const ferry_lists *lists, int64_t batch);
/** Collective. The same with codes in place of the rows; the lists have their rows. */
FERRY_API ferry_status ferry_index_write_codes(uint64_t *fingerprint, ferry_output *output, const ferry_world *world,
                                               const ferry_lists *lists, const ferry_codes *codes, int64_t batch,
                                               int threads);
/** Collective. input, rep and dims: where the cells came from. fingerprint 0: not known. */
FERRY_API ferry_status ferry_index_write_input(ferry_output *output, const ferry_world *world,
                                               const ferry_population *population, uint64_t fingerprint);
typedef struct ferry_index {
    ferry_quantizer quantizer; /* the lists point to it: an index stays where it was opened */
    ferry_lists lists;
    ferry_codes codes; /* bytes 0: the lists have their rows; else they are sizes alone, of which no part is taken */
    char *path;        /* of the index */
    char *input; /* the reference's file, where it is now: as stored, by its absolute path, or beside the index; NULL:
                    not stored */
    char *rep, *where; /* as stored; NULL with input NULL */
    int dims;
    uint64_t fingerprint; /* of the reference's points; 0: not stored */
    int64_t cells;
} ferry_index;
/** Collective. held or cached as in options (exact and batch are not used); codes are always held. Close with
 * ferry_index_close. FERRY_E_FILE when it is no index, incomplete, or does not fit together. */
FERRY_API ferry_status ferry_index_open(ferry_index *out, const ferry_world *world, const char *path,
                                        const ferry_kernels *kernels, const ferry_lists_options *options);
FERRY_API void ferry_index_close(ferry_index *index, const ferry_world *world);
/** Collective. Header only (sizes for a plan): rows, lists, dim. */
FERRY_API ferry_status ferry_index_peek(int64_t *rows, int64_t *lists, int *dim, ferry_search_metric *metric,
                                        const ferry_world *world, const char *path);
/** Collective. Bytes of a row's code; 0: whole vectors. */
FERRY_API ferry_status ferry_index_code_bytes(int *bytes, const ferry_world *world, const char *path);
/** Local. Names of cells first ... of the reference, from the index. */
FERRY_API ferry_status ferry_index_names(ferry_names *out, const char *path, int64_t first, int64_t count);
FERRY_END
#endif

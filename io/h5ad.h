/** h5ad.h - an AnnData file (or several read as one), open for reading.
 *
 *  Every rank opens the file by itself and reads only the rows it wants, so reading is Local and a rank that meets a
 *  broken chunk can tell the others at the next meeting; nothing can hang in a collective read. Only ferry_file_open,
 *  select.h and the functions that say so are Collective. */
#ifndef FERRY_H5AD_H
#define FERRY_H5AD_H
#include "names.h"
#include "mpi/shard.h"
#include <stdbool.h>
FERRY_BEGIN
typedef struct ferry_file ferry_file; /* opaque */

/** Collective. path: a .h5ad file, or @LIST.txt naming one .h5ad a line (relative to the list), read as one data set in
 *  that order. Checks what can be checked without reading data: HDF5 signature and length, AnnData layout, shapes of X,
 * obs, var, layers, obsm against each other. FERRY_E_FILE names file, HDF5 path, what is wrong, the way out; the same
 * on all ranks. Close with ferry_file_close. */
FERRY_API ferry_status ferry_file_open(ferry_file **out, const ferry_world *world, const char *path);
/** Local. */
FERRY_API void ferry_file_close(ferry_file **file);
/** Local. */
FERRY_API const char *ferry_file_path(const ferry_file *file);
FERRY_API int64_t ferry_file_cells(const ferry_file *file);
FERRY_API int64_t ferry_file_genes(const ferry_file *file);

/** One line of what a file holds, for `cellferry info`. */
typedef struct ferry_entry {
    char path[256];    /* "X", "obsm/X_pca", "obs/cell_type", "raw/X", "uns/..." (top level of uns only) */
    char encoding[64]; /* "csr float32", "dense float64", "categorical (11)", "number int64", "text", "nullable
                          integer", ... */
    int64_t rows, columns, nonzeros; /* -1: not meant */
    char use[128];                   /* how a command names it: "--rep X_pca", "--source-where bulk_labels=...", "" */
    char note[256]; /* up to three categories with counts left out, "10.0, 10.5, 11.0"; "all missing"; "" */
} ferry_entry;
/** Local. *out [count] entries, in the file's order X, layers, raw, obs, obsm, var, obsp, uns; free with free(). Does
 * not read data. */
FERRY_API ferry_status ferry_file_entries(ferry_entry **out, int *count, ferry_file *file);
/** Local. The representation a command takes when none is named: "X_pca" if there is one, else "X". */
FERRY_API const char *ferry_file_default_rep(const ferry_file *file);
/** Local. Is this obs column there? */
FERRY_API bool ferry_file_has_obs(const ferry_file *file, const char *column);
FERRY_END
#endif

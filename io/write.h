/** write.h - results in parallel HDF5, as AnnData: written as FILE.partial, renamed when complete.
 *
 *  Every call is Collective unless said, with the same arguments on all ranks except the rows a rank brings. A failure
 * is agreed; the caller then closes with ferry_output_discard, and the file under the final name stays what it was. */
#ifndef FERRY_WRITE_H
#define FERRY_WRITE_H
#include "names.h"
#include "mpi/shard.h"
#include <stdbool.h>
FERRY_BEGIN
/** One block of sparse rows, valid during the call that hands it over. */
typedef struct ferry_rows {
    int64_t rows;
    const int64_t *indptr;  /* [rows + 1], from 0 */
    const int64_t *indices; /* [indptr[rows]] columns, ascending in each row */
    const float *values;
} ferry_rows;
/** Takes row blocks. Collective: called equally often on all ranks; a rank without rows hands in an empty block. The
 *  blocks of one call are consecutive rows in rank order and follow those of the call before: so rows are dealt to
 * ranks block-cyclically, and a sparse matrix of unknown size can be appended without a second pass. */
typedef struct ferry_sink {
    ferry_status (*take)(void *self, const ferry_rows *rows);
    void *self;
} ferry_sink;

typedef enum ferry_type {
    FERRY_INT8,
    FERRY_INT32,
    FERRY_INT64,
    FERRY_F32,
    FERRY_F64,
    FERRY_BOOL,
    FERRY_UINT8
} ferry_type;
typedef struct ferry_output ferry_output; /* opaque */

/** Local. What ferry_output_open would refuse, said before the work: on rank 0, then ferry_agree. */
FERRY_API ferry_status ferry_output_check(const char *path, bool overwrite);

/** FERRY_E_FILE when path exists and overwrite is false, its folder is absent or not writable. */
FERRY_API ferry_status ferry_output_open(ferry_output **out, const ferry_world *world, const char *path,
                                         bool overwrite);
/** The same, beginning as a copy of source (one .h5ad file, which is only read) to which more is added. */
FERRY_API ferry_status ferry_output_open_copy(ferry_output **out, const ferry_world *world, const char *path,
                                              bool overwrite, const char *source);
/** Of a copy: removes what lies at path, if anything does, so that it can be written anew. */
FERRY_API ferry_status ferry_output_remove(ferry_output *output, const char *path);
/** Close, wait for the disk (unless FERRY_NO_SYNC is set, for tests), rename to the final name. *output is NULL after,
 * also on failure. */
FERRY_API ferry_status ferry_output_finish(ferry_output **output);
/** Close and remove the partial file (after a failure). NULL is fine. */
FERRY_API void ferry_output_discard(ferry_output **output);

/** A group with encoding-type and encoding-version (NULL: none). Parents are made as needed. */
FERRY_API ferry_status ferry_output_group(ferry_output *output, const char *path, const char *encoding,
                                          const char *version);
/** Dense array of `rows` x `columns` (columns 0: 1-D), this rank writing rows first .. first+count. encoding-type
 * array. */
FERRY_API ferry_status ferry_output_array(ferry_output *output, const char *path, ferry_type type, int64_t rows,
                                          int64_t columns, int64_t first, int64_t count, const void *values);
/** The same in parts: create, then any number of collective writes (a rank without rows passes count 0). */
FERRY_API ferry_status ferry_output_create(ferry_output *output, const char *path, ferry_type type, int64_t rows,
                                           int64_t columns);
FERRY_API ferry_status ferry_output_rows(ferry_output *output, const char *path, int64_t first, int64_t count,
                                         const void *values);
/** The same for a block of columns column .. column + columns of an array of two dimensions: values [count, columns].
 */
FERRY_API ferry_status ferry_output_block(ferry_output *output, const char *path, int64_t first, int64_t count,
                                          int64_t column, int64_t columns, const void *values);
/** Texts: a string-array dataset of `rows` names, this rank bringing names for rows first ... */
FERRY_API ferry_status ferry_output_texts(ferry_output *output, const char *path, int64_t rows, int64_t first,
                                          const ferry_names *names);
/** The same in parts: create, with room for texts of `longest` bytes, then any number of collective writes. */
FERRY_API ferry_status ferry_output_texts_create(ferry_output *output, const char *path, int64_t rows, int64_t longest);
FERRY_API ferry_status ferry_output_texts_rows(ferry_output *output, const char *path, int64_t first,
                                               const ferry_names *names);
/** Scalars: encoding-type numeric-scalar / string. */
FERRY_API ferry_status ferry_output_number(ferry_output *output, const char *path, double value);
FERRY_API ferry_status ferry_output_count(ferry_output *output, const char *path, int64_t value);
FERRY_API ferry_status ferry_output_text(ferry_output *output, const char *path, const char *text);
/** Attributes of a group or dataset. */
FERRY_API ferry_status ferry_output_attribute_text(ferry_output *output, const char *path, const char *name,
                                                   const char *text);
FERRY_API ferry_status ferry_output_attribute_number(ferry_output *output, const char *path, const char *name,
                                                     double value);

/** AnnData skeleton: root attributes, obs and var frames with these indices; empty layers, obsm, varm, obsp, varp, uns.
 */
FERRY_API ferry_status ferry_output_anndata(ferry_output *output);
/** A data frame: obs or var, its index (names for rows first ... of this rank); columns are added after. */
FERRY_API ferry_status ferry_output_frame(ferry_output *output, const char *frame, int64_t rows, int64_t first,
                                          const ferry_names *index);
/** The same in parts: names of at most `longest` bytes, then ferry_output_texts_rows on "FRAME/_index". */
FERRY_API ferry_status ferry_output_frame_create(ferry_output *output, const char *frame, int64_t rows,
                                                 int64_t longest);
/** A frame of a copy, which takes more columns. FERRY_E_FILE for the frames of anndata before 0.7, which are tables. */
FERRY_API ferry_status ferry_output_frame_of_copy(ferry_output *output, const char *frame, int64_t rows);
/** A column of numbers of the frame (type as given), entered in column-order. */
FERRY_API ferry_status ferry_output_column(ferry_output *output, const char *frame, const char *name, ferry_type type,
                                           int64_t first, int64_t count, const void *values);
/** The same in parts: enter the column, then ferry_output_rows on "FRAME/NAME". */
FERRY_API ferry_status ferry_output_column_create(ferry_output *output, const char *frame, const char *name,
                                                  ferry_type type);
/** A categorical column: codes int32, categories the same on all ranks. */
FERRY_API ferry_status ferry_output_categorical(ferry_output *output, const char *frame, const char *name,
                                                int64_t first, int64_t count, const int32_t *codes,
                                                const ferry_names *categories, bool ordered);
/** The same in parts: enter the column, then ferry_output_rows on "FRAME/NAME/codes". */
FERRY_API ferry_status ferry_output_categorical_create(ferry_output *output, const char *frame, const char *name,
                                                       const ferry_names *categories, bool ordered);

/** A CSR matrix that grows row block by row block: data float32, indices and indptr int64; gzip 1 with shuffle; flushed
 * after each pass. Hand `sink` to the producer, then finish. `rows` must have come. */
FERRY_API ferry_status ferry_output_csr_open(ferry_sink *sink, ferry_output *output, const char *path, int64_t rows,
                                             int64_t columns);
FERRY_API ferry_status ferry_output_csr_finish(ferry_sink *sink);
/** Local. Bytes that such a matrix takes on each rank while it grows, HDF5's copies included. */
FERRY_API int64_t ferry_output_csr_bytes(void);

/** Collective. A text file (CSV, JSON, gnuplot script) of rank 0's text, written as path.partial and renamed. */
FERRY_API ferry_status ferry_text_write(const ferry_world *world, const char *path, bool overwrite, const char *text,
                                        size_t length);
FERRY_END
#endif

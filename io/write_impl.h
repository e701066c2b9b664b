/* write_impl.h - what the files of the writer share: the open output, its space on the disk, datasets and attributes.
 *
 *  HDF5 calls on an open output are collective: every rank makes the same ones in the same order. So a function does
 *  what can fail on one rank alone first, meets, calls HDF5, and meets again. */
#ifndef FERRY_WRITE_IMPL_H
#define FERRY_WRITE_IMPL_H
#include "hdf5_impl.h"
#include "write.h"

#define FERRY_PATH       1024                 /* longest HDF5 path, with its NUL */
#define FERRY_PLAIN      ((int64_t)1 << 20)   /* arrays up to so many bytes are contiguous, larger ones packed */
#define FERRY_CHUNK      ((int64_t)128 << 10) /* elements of a chunk */
#define FERRY_PIECE_ROOM ((int64_t)16 << 20)  /* bytes that a rank hands to one collective write */
#define FERRY_MARK       "cellferry_partial"  /* root attribute of a file that is not complete */
#define FERRY_COLUMNS    4000                 /* names that fit in column-order: HDF5 keeps 64 KiB of attributes */

typedef struct ferry_frame {
    char path[FERRY_PATH];
    int64_t rows;
    ferry_names columns; /* names in column order */
} ferry_frame;

struct ferry_csr;
struct ferry_output {
    const ferry_world *world;
    char *path, *partial;
    bool overwrite;
    hid_t file, transfer; /* transfer: collective */
    int reserve;          /* rank 0: the partial file, for fallocate; -1 elsewhere */
    int64_t limit;        /* longest file that every rank may write */
    int64_t planned;      /* rank 0: how long the file may get with what was asked for */
    int64_t reserved;     /* rank 0: the disk has room for the file up to here */
    int64_t unflushed;    /* bytes written by ferry_output_rows since the last flush */
    ferry_frame *frames;
    int frame_count;
    struct ferry_csr *csr; /* matrices that still grow */
};

/* Local. The frame has no such column any more (if it had). */
ferry_status ferry_frame_forget(ferry_frame *frame, const char *column);

/* How a dataset is laid out. */
typedef enum ferry_layout {
    FERRY_CONTIGUOUS,
    FERRY_PACKED,   /* chunked, shuffle, gzip 1 */
    FERRY_GROWING,  /* chunked from 0 rows, shuffle, gzip 1 */
    FERRY_APPENDED, /* chunked from 0 rows, plain: rewriting its last chunk changes no byte that is there already */
} ferry_layout;

/* Local. May a result be written to path? Looks at the path, its folder and the limit on file sizes. */
ferry_status ferry_target_check(const char *path, bool overwrite);
/* Local. file closed and complete under `partial`: to the disk, then renamed to path. Removes partial on failure. */
ferry_status ferry_target_rename(const char *partial, const char *path, bool overwrite);

/* Local, met right after. Before any HDF5 call that makes the file longer: rank 0 takes room on the disk for `bytes`
 * more, because Open MPI's collective writes wait for ever, or lose data, when the disk is full on one rank. */
ferry_status ferry_reserve(ferry_output *output, int64_t bytes);

/* The functions below call HDF5 collectively and do not meet. Text and numbers must be equal on all ranks. */

/* Path as kept: without '/' at its ends; FERRY_E_ARG when it is too long or has an empty part. */
ferry_status ferry_path(char out[FERRY_PATH], const char *path);
/* Groups above path that are not there yet, as dict. */
ferry_status ferry_parents(ferry_output *output, const char *path);
ferry_status ferry_put_encoding(ferry_output *output, const char *path, hid_t object, const char *type,
                                const char *version);
ferry_status ferry_put_text(ferry_output *output, const char *path, hid_t object, const char *name, const char *text);
/* An attribute of count values; count -1: a scalar. */
ferry_status ferry_put_values(ferry_output *output, const char *path, hid_t object, const char *name, hid_t type,
                              int64_t count, const void *values);
/* *out = new dataset of rows x columns elements (columns 0: 1-D); chunk: rows of a chunk for growing layouts. */
ferry_status ferry_new_dataset(hid_t *out, ferry_output *output, const char *path, hid_t type, int64_t rows,
                               int64_t columns, ferry_layout layout, int64_t chunk);
/* One collective write of rows first .. first + count of this rank, columns column .. column + columns (columns 0: of a
 * 1-D dataset); count 0 takes part. */
ferry_status ferry_put_rows(ferry_output *output, const char *path, hid_t dataset, hid_t type, int64_t column,
                            int64_t columns, int64_t first, int64_t count, const void *values);
ferry_status ferry_flush(ferry_output *output);

/* Text of one kind of HDF5 string: bytes 0 is of variable length, otherwise padded with NUL. Close the id. */
hid_t ferry_text_type(size_t bytes);
/* HDF5's types of our types in the file and in memory; close both. */
hid_t ferry_file_type(ferry_type type);
hid_t ferry_memory_type(ferry_type type);
size_t ferry_type_bytes(ferry_type type);

/* Local. Collective closing of HDF5's handles is left to the caller's order: same on all ranks. */
void ferry_csr_drop(ferry_output *output);

#define ferry_write_fail(output, path, what)                                                                           \
    ferry_fail(FERRY_E_RUN, "%s: %s: %s (HDF5: %s); check the disk, then run again", (output)->partial,                \
               (path)[0] ? (path) : "/", (what), ferry_h5_reason())
#endif

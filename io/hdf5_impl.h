/* hdf5_impl.h - HDF5 for reading: handles that close themselves, its errors as our messages, bounded reads. All Local.
 *
 *  HDF5's own error printing is switched off between FERRY_H5_QUIET and the end of the block; what it would have said
 *  is in ferry_h5_reason(). */
#ifndef FERRY_HDF5_IMPL_H
#define FERRY_HDF5_IMPL_H
#include "mpi/memory.h"
#include <hdf5.h>
#include <stdbool.h>

#define FERRY_SLAB_BYTES ((int64_t)16 << 20) /* of one read beside the result */
#define FERRY_SLAB_ROWS  ((int64_t)1 << 16)  /* of one read of a column */

static inline void ferry_hid_close(hid_t *id)
{
    if (*id > 0) H5Idec_ref(*id);
    *id = -1;
}
#define FERRY_HID __attribute__((cleanup(ferry_hid_close))) hid_t

typedef struct ferry_h5_quiet {
    H5E_auto2_t print;
    void *payload;
} ferry_h5_quiet;
ferry_h5_quiet ferry_h5_quiet_begin(void);
void ferry_h5_quiet_end(ferry_h5_quiet *quiet);
#define FERRY_H5_QUIET                                                                                                 \
    __attribute__((cleanup(ferry_h5_quiet_end), unused)) ferry_h5_quiet quiet_ = ferry_h5_quiet_begin()

/* The innermost line of HDF5's error stack, "" if none; ask at once after the failed call. Borrowed until the next. */
const char *ferry_h5_reason(void);

/* A name or path below id: is there a link, and does it lead to an object? An absent parent is false, not an error. */
bool ferry_h5_link(hid_t id, const char *path);
bool ferry_h5_object(hid_t id, const char *path);
/* H5I_GROUP, H5I_DATASET, ... of what an open id is. */
#define ferry_h5_is_group(id)   (H5Iget_type(id) == H5I_GROUP)
#define ferry_h5_is_dataset(id) (H5Iget_type(id) == H5I_DATASET)

/* Text attribute (fixed or variable length; scalar or one element). *out = NULL when absent or no text; free it. */
ferry_status ferry_h5_attribute_text(char **out, hid_t object, const char *name);
/* Attribute with `count` whole numbers, stored as integers or as floats without fraction. *found = 0 absent, 1 good, -1
 * something else. */
int ferry_h5_attribute_integers(int64_t *out, int count, hid_t object, const char *name);
/* A boolean or integer attribute; fallback when absent. */
bool ferry_h5_attribute_flag(hid_t object, const char *name, bool fallback);

/* How files are opened for reading: without locks, which shared file systems may not have. A file may be open several
 * times only in the same way. Close it. */
hid_t ferry_h5_access(void);

/* Shape of a dataset: rank -1 on failure, else up to 8 sizes (scalar: rank 0). */
int ferry_h5_shape(hsize_t shape[8], hid_t dataset);
/* Lengths of a chunk into chunk[8]; false for other layouts. */
bool ferry_h5_chunk(hsize_t chunk[8], hid_t dataset);

/* Dataset `path` below id, with a chunk cache that holds the chunks that one row
 * of `columns` columns touches (columns 0: all), at most FERRY_SLAB_BYTES but at least one chunk. file and where are
 * for messages. Ends at FERRY_E_FILE when it is absent or not a dataset. */
ferry_status ferry_h5_dataset(hid_t *out, hid_t id, const char *path, int64_t columns, const char *file,
                              const char *where);
/* Elements [first, first + count) of a 1-D dataset into out. */
ferry_status ferry_h5_read(void *out, hid_t dataset, hid_t type, int64_t first, int64_t count, const char *file,
                           const char *where);

/* For after a failed read: FERRY_E_FILE that names the missing filter, or what HDF5 says. */
ferry_status ferry_h5_unreadable(hid_t dataset, const char *file, const char *where);

/* "FILE: PATH: what (HDF5: reason); way out" */
#define ferry_h5_fail(file, where, what, way)                                                                          \
    ferry_fail(FERRY_E_FILE, "%s: %s: %s (HDF5: %s); %s", (file), (where), (what), ferry_h5_reason(), (way))
#define FERRY_COPY_AGAIN "copy or download the file again, or write it anew with anndata"
#define FERRY_REWRITE    "write the file anew with anndata"
#endif

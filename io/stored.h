/** stored.h - a result file of ours, read back. Local, like all reading: every rank opens it by itself. */
#ifndef FERRY_STORED_H
#define FERRY_STORED_H
#include "write.h"
FERRY_BEGIN
typedef struct ferry_stored ferry_stored; /* opaque */
/** Local. FERRY_E_FILE when absent, not HDF5, or still marked partial. */
FERRY_API ferry_status ferry_stored_open(ferry_stored **out, const char *path);
FERRY_API void ferry_stored_close(ferry_stored **stored);
FERRY_API bool ferry_stored_has(const ferry_stored *stored, const char *path);
/** Local. Length (and columns; NULL if not wanted) of a 1-D or 2-D dataset. */
FERRY_API ferry_status ferry_stored_shape(int64_t *rows, int64_t *columns, ferry_stored *stored, const char *path);
/** Local. out [count * columns] = rows first .. first + count as float64. */
FERRY_API ferry_status ferry_stored_numbers(double *out, ferry_stored *stored, const char *path, int64_t first,
                                            int64_t count);
FERRY_API ferry_status ferry_stored_integers(int64_t *out, ferry_stored *stored, const char *path, int64_t first,
                                             int64_t count);
/** Local. Scalars and texts; *text is the caller's, free with free(). */
FERRY_API ferry_status ferry_stored_number(double *out, ferry_stored *stored, const char *path);
FERRY_API ferry_status ferry_stored_text(char **text, ferry_stored *stored, const char *path);
FERRY_API ferry_status ferry_stored_texts(ferry_names *out, ferry_stored *stored, const char *path, int64_t first,
                                          int64_t count);
/** Local. A number or text attribute of a group or dataset. */
FERRY_API ferry_status ferry_stored_attribute_number(double *out, ferry_stored *stored, const char *path,
                                                     const char *name);
/** Local. An attribute of `count` whole numbers, such as the shape of a sparse matrix. */
FERRY_API ferry_status ferry_stored_attribute_integers(int64_t *out, int count, ferry_stored *stored, const char *path,
                                                       const char *name);
FERRY_API ferry_status ferry_stored_attribute_text(char **text, ferry_stored *stored, const char *path,
                                                   const char *name);

/** A long dataset that lies in one piece in the file, read by its place there: by many threads at once, which HDF5 does
 *  not do, and after the stored file is closed. */
typedef struct ferry_plain {
    int file;
    char *name;     /* "FILE: PATH" for messages */
    int64_t offset; /* of its first byte */
    int64_t rows;
    size_t bytes; /* of a row */
} ferry_plain;
/** Local. Of that type, with that many rows and columns (0: one dimension); FERRY_E_FILE otherwise, or when the file is
 *  cut off. Close with ferry_plain_close. */
FERRY_API ferry_status ferry_plain_open(ferry_plain *out, ferry_stored *stored, const char *path, ferry_type type,
                                        int64_t rows, int64_t columns);
FERRY_API void ferry_plain_close(ferry_plain *plain);
/** Local, thread-safe. out = rows first ... first + count. */
FERRY_API ferry_status ferry_plain_read(void *out, const ferry_plain *plain, int64_t first, int64_t count);
FERRY_END
#endif

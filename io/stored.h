/** stored.h - a result file of ours, read back. Local, like all reading: every rank opens it by itself. */
#ifndef FERRY_STORED_H
#define FERRY_STORED_H
#include "names.h"
#include <stdbool.h>
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
FERRY_END
#endif

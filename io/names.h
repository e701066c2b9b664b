/** names.h - a list of texts in one piece of memory: cell names, gene names, categories. */
#ifndef FERRY_NAMES_H
#define FERRY_NAMES_H
#include "mpi/memory.h"
FERRY_BEGIN
typedef struct ferry_names {
    int64_t count;
    int64_t *start; /* [count + 1] offsets into text; each name is followed by a NUL that the next start skips */
    char *text;
    int64_t room, text_room; /* allocated */
} ferry_names;
/** Local. Appends a copy. */
FERRY_API ferry_status ferry_names_add(ferry_names *names, const char *name, int64_t length);
/** Local. Name i, NUL-terminated; borrowed. */
static inline const char *ferry_name(const ferry_names *names, int64_t i)
{
    return names->text + names->start[i];
}
/** Local. Index of name, -1 if absent (linear; for short lists). */
FERRY_API int64_t ferry_names_find(const ferry_names *names, const char *name);
/** Local. The name nearest in spelling, NULL when none is near; for messages. */
FERRY_API const char *ferry_names_nearest(const ferry_names *names, const char *name);
FERRY_API void ferry_names_close(ferry_names *names);
FERRY_END
#endif

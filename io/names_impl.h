/* names_impl.h - finding names in long lists: a hash table of positions in a ferry_names. */
#ifndef FERRY_NAMES_IMPL_H
#define FERRY_NAMES_IMPL_H
#include "names.h"
#include <stdbool.h>

typedef struct ferry_name_index {
    int64_t *slot; /* [room] position + 1, 0: free; room is a power of two */
    int64_t room;
} ferry_name_index;

/* Local. *at = position of name (length bytes) in names; added at the end when new, and *fresh = true (may be NULL).
 * names must hold exactly what was added through this index. */
ferry_status ferry_name_index_add(int64_t *at, bool *fresh, ferry_name_index *index, ferry_names *names,
                                  const char *name, int64_t length);
/* Local. -1 when absent. */
int64_t ferry_name_index_find(const ferry_name_index *index, const ferry_names *names, const char *name,
                              int64_t length);
void ferry_name_index_close(ferry_name_index *index);

/* Local. Length of name i in bytes. */
static inline int64_t ferry_name_length(const ferry_names *names, int64_t i)
{
    return names->start[i + 1] - names->start[i] - 1;
}
/* Local. "a, b, c and 8 more" into text; at most `most` names. Returns text. */
const char *ferry_names_list(char *text, size_t size, const ferry_names *names, int most);
#endif

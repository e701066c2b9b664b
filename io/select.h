/** select.h - which cells of a file take part: filters on obs columns, spread over ranks. */
#ifndef FERRY_SELECT_H
#define FERRY_SELECT_H
#include "read.h"
FERRY_BEGIN
typedef struct ferry_selection {
    int64_t cells; /* kept, over all ranks: kept cell k is a row of the file, ascending in k */
    int filters;
    int64_t *kept_by;             /* [filters] cells that each filter alone keeps */
    bool all;                     /* every cell: row k is k, nothing is stored */
    int64_t *row;                 /* this rank's share of kept rows, found in an even range of the file's rows */
    int64_t row_first, row_count; /* kept cells row_first ... are in `row` */
    int64_t *first;               /* [size + 1] row_first of every rank */
} ferry_selection;
/** Collective. where: texts "COLUMN=VALUE[,VALUE]" (a cell passes a filter when its value is one of the values; several
 *  filters all have to pass, but filters on the same column add their values, so a value with a comma can be given by
 *  repeating). Values are categories, texts, numbers ("10.5" finds 10.5), "True"/"False". A column or value that does
 * not exist is FERRY_E_FILE naming the nearest and up to ten that exist; so is a selection without any cell. */
FERRY_API ferry_status ferry_select_open(ferry_selection *out, const ferry_world *world, ferry_file *file,
                                         const char *const *where, int filters);
FERRY_API void ferry_select_close(ferry_selection *selection);
/** Collective. rows [count] = file rows of kept cells first ... first + count - 1; any range per rank. */
FERRY_API ferry_status ferry_select_rows(int64_t *rows, const ferry_world *world, const ferry_selection *selection,
                                         int64_t first, int64_t count);
FERRY_END
#endif

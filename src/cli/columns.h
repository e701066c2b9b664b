/** columns.h - `--values` of push and pull: where the columns that are carried come from, and their names. */
#ifndef CLI_COLUMNS_H
#define CLI_COLUMNS_H
#include "program.h"

typedef enum column_kind {
    COLUMNS_ONES,
    COLUMNS_NUMBER,
    COLUMNS_LABELS,
    COLUMNS_ONE_LABEL,
    COLUMNS_MATRIX
} column_kind;

typedef struct columns {
    const ferry_world *world;           /* borrowed */
    const ferry_population *population; /* borrowed: the side pushed from */
    column_kind kind;
    char *key;     /* obs column, or representation */
    int64_t label; /* of ONE_LABEL */
    ferry_names names;
    ferry_values values; /* for ferry_apply; its self is this struct */
} columns;

/* Collective. text: ones, obs:COLUMN, obs:COLUMN=VALUE, obsm:KEY, X or layers/NAME. out may not move afterwards. Close
 * with columns_close, also after a failure. */
ferry_status columns_open(columns *out, const ferry_world *world, const ferry_population *population, const char *text);
void columns_close(columns *c);
#endif

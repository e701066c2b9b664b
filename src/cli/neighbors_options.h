/** neighbors_options.h - options that neighbors, index and map share: how the search is done, and its sides. */
#ifndef CLI_NEIGHBORS_OPTIONS_H
#define CLI_NEIGHBORS_OPTIONS_H
#include "inputs.h"

typedef struct search_options {
    int64_t k; /* 0: not given */
    const char *metric, *index, *spill;
    bool exact;
    double recall, reach;
    int64_t lists, probes, rerank;
} search_options;

typedef struct sides_options {
    side_options both, query, reference;
} sides_options;

/* Rows of a command's table; `at` is the offset of the struct in the command's options. */
#define SEARCH_AT(at, field) ((at) + offsetof(search_options, field))
#define METRIC_ROW(at)                                                                                                 \
    {                                                                                                                  \
        "metric", 0, OPTION_TEXT, "euclidean|cosine", SEARCH_AT(at, metric), "(euclidean, or that of --index)", NULL,  \
            "distance of two cells; cosine: 1 - cos"                                                                   \
    }
#define LISTS_ROW(at)                                                                                                  \
    {                                                                                                                  \
        "lists", 0, OPTION_COUNT, "N", SEARCH_AT(at, lists),                                                           \
            "(square root of the cells; 1000 cells each when there are many)", "lists",                                \
            "lists that the reference is cut into"                                                                     \
    }
#define SPILL_ROW(at)                                                                                                  \
    {                                                                                                                  \
        "spill", 0, OPTION_TEXT, "DIR", SEARCH_AT(at, spill), "(TMPDIR, or /tmp)", NULL,                               \
            "folder for scratch files, when --memory does not hold everything; on several nodes one that all of them " \
            "see"                                                                                                      \
    }
#define SEARCH_ROWS(at)                                                                                                \
    {"k",                                                                                                              \
     'k',                                                                                                              \
     OPTION_COUNT,                                                                                                     \
     "N",                                                                                                              \
     SEARCH_AT(at, k),                                                                                                 \
     "(30)",                                                                                                           \
     "cells",                                                                                                          \
     "neighbours of a cell; with one set without the cell itself, so that scanpy's n_neighbors is k + 1"},             \
        METRIC_ROW(at),                                                                                                \
        {"exact",                                                                                                      \
         0,                                                                                                            \
         OPTION_FLAG,                                                                                                  \
         NULL,                                                                                                         \
         SEARCH_AT(at, exact),                                                                                         \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "every true neighbour, ties to the lower number: a proof, not an estimate"},                                  \
        {"recall",                                                                                                     \
         0,                                                                                                            \
         OPTION_NUMBER,                                                                                                \
         "R",                                                                                                          \
         SEARCH_AT(at, recall),                                                                                        \
         "(0.99)",                                                                                                     \
         "above 0, at most 1",                                                                                         \
         "share of the true neighbours: the cheapest search that finds it on a sample of the queries, which is "       \
         "searched exactly"},                                                                                          \
        LISTS_ROW(at),                                                                                                 \
        {"probes",                                                                                                     \
         0,                                                                                                            \
         OPTION_COUNT,                                                                                                 \
         "N",                                                                                                          \
         SEARCH_AT(at, probes),                                                                                        \
         "(from --recall)",                                                                                            \
         "lists",                                                                                                      \
         "by hand: every query looks into its N nearest lists"},                                                       \
        {"reach",                                                                                                      \
         0,                                                                                                            \
         OPTION_NUMBER,                                                                                                \
         "A",                                                                                                          \
         SEARCH_AT(at, reach),                                                                                         \
         "(from --recall)",                                                                                            \
         "above 0, at most 1",                                                                                         \
         "by hand: look into every list that may hold a cell within A times the k-th distance found in the first"},    \
        {"index",                                                                                                      \
         0,                                                                                                            \
         OPTION_TEXT,                                                                                                  \
         "INDEX.h5",                                                                                                   \
         SEARCH_AT(at, index),                                                                                         \
         "(none)",                                                                                                     \
         NULL,                                                                                                         \
         "search the cells of a stored index (cellferry index) instead of a REFERENCE"},                               \
        {"rerank",                                                                                                     \
         0,                                                                                                            \
         OPTION_COUNT,                                                                                                 \
         "N",                                                                                                          \
         SEARCH_AT(at, rerank),                                                                                        \
         "(10)",                                                                                                       \
         "candidates",                                                                                                 \
         "with an --index of --codes: so many candidates for each neighbour are compared by their own vectors, which " \
         "are read from the reference's file, here and there in it: for an index that must be small, and fast disks"}, \
        SPILL_ROW(at)

#define SIDE_AT(at, side, field) ((at) + offsetof(sides_options, side) + offsetof(side_options, field))
#define SIDES_ROWS(at)                                                                                                 \
    {"rep",                                                                                                            \
     0,                                                                                                                \
     OPTION_TEXT,                                                                                                      \
     "KEY",                                                                                                            \
     SIDE_AT(at, both, rep),                                                                                           \
     "(X_pca if present, else X)",                                                                                     \
     NULL,                                                                                                             \
     "representation of both sides: an obsm key, X, layers/NAME or raw/X"},                                            \
        {"query-rep", 0, OPTION_TEXT, "KEY", SIDE_AT(at, query, rep), "(--rep)", NULL, "representation of the query"}, \
        {"reference-rep",                                                                                              \
         0,                                                                                                            \
         OPTION_TEXT,                                                                                                  \
         "KEY",                                                                                                        \
         SIDE_AT(at, reference, rep),                                                                                  \
         "(--rep)",                                                                                                    \
         NULL,                                                                                                         \
         "representation of the reference"},                                                                           \
        {"dims",                                                                                                       \
         0,                                                                                                            \
         OPTION_COUNT,                                                                                                 \
         "N",                                                                                                          \
         SIDE_AT(at, both, dims),                                                                                      \
         "(all)",                                                                                                      \
         "columns",                                                                                                    \
         "first columns of the representation"},                                                                       \
        {"query-dims",                                                                                                 \
         0,                                                                                                            \
         OPTION_COUNT,                                                                                                 \
         "N",                                                                                                          \
         SIDE_AT(at, query, dims),                                                                                     \
         "(--dims)",                                                                                                   \
         "columns",                                                                                                    \
         "first columns of the query's"},                                                                              \
        {"reference-dims",                                                                                             \
         0,                                                                                                            \
         OPTION_COUNT,                                                                                                 \
         "N",                                                                                                          \
         SIDE_AT(at, reference, dims),                                                                                 \
         "(--dims)",                                                                                                   \
         "columns",                                                                                                    \
         "first columns of the reference's"},                                                                          \
        {"where",                                                                                                      \
         0,                                                                                                            \
         OPTION_LIST,                                                                                                  \
         "KEY=VALUE[,VALUE]",                                                                                          \
         SIDE_AT(at, both, where),                                                                                     \
         "(all cells)",                                                                                                \
         NULL,                                                                                                         \
         "only cells of both sides whose obs column has one of the values; repeat for several columns, or for a "      \
         "value "                                                                                                      \
         "with a comma"},                                                                                              \
        {"query-where",           0, OPTION_LIST, "KEY=VALUE[,VALUE]", SIDE_AT(at, query, where), "(all cells)", NULL, \
         "the same for the query"},                                                                                    \
    {                                                                                                                  \
        "reference-where", 0, OPTION_LIST, "KEY=VALUE[,VALUE]", SIDE_AT(at, reference, where), "(all cells)", NULL,    \
            "the same for the reference"                                                                               \
    }

extern const absent_option search_absent[];

/* Local. What the options say, with the common ones; out->k is 30 when it is not given, out->memory the whole limit.
 * FERRY_E_ARG. metric: NULL of --metric means euclidean here; search_metric settles it when there is an index. */
ferry_status search_check(ferry_neighbors_options *out, const search_options *o, const cli_program *program);
/* Local. One file stands for both sides unless an option tells them apart: then it is a search within one set. */
bool sides_are_one(const sides_options *o, int inputs);
/* Local. Both populations' options; one side: only the query's. where [2]: free each with free(). */
ferry_status sides_join(ferry_population_options *query, ferry_population_options *reference, const char **where[2],
                        const sides_options *o, const char *query_path, const char *reference_path);
/* Local. Whether the search goes with the index: codes, bytes of its codes (0: whole vectors). */
ferry_status search_check_codes(const ferry_neighbors_options *options, int codes, const char *index);
/* Local. FERRY_E_FILE naming both when the widths differ. */
ferry_status sides_agree(const ferry_population *query, const ferry_population *reference);
#endif

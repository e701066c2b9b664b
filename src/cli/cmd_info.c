/* cmd_info.c - `cellferry info`: what a file holds, and which keys and commands can use it. */
#include "program.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct info_options {
    common_options common;
} info_options;

static const cli_option table[] = {{NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

/* ---- a plan ---- */

static ferry_status print_side(ferry_stored *stored, const char *side)
{
    FERRY_AUTO char *path = NULL;
    FERRY_AUTO char *rep = NULL;
    FERRY_AUTO char *where = NULL;
    FERRY_AUTO char *weights = NULL;
    double cells, file_cells, dim;
    FERRY_TRY(ferry_stored_attribute_text(&path, stored, side, "path"));
    FERRY_TRY(ferry_stored_attribute_text(&rep, stored, side, "rep"));
    FERRY_TRY(ferry_stored_attribute_text(&where, stored, side, "where"));
    FERRY_TRY(ferry_stored_attribute_text(&weights, stored, side, "weights_key"));
    FERRY_TRY(ferry_stored_attribute_number(&cells, stored, side, "cells"));
    FERRY_TRY(ferry_stored_attribute_number(&file_cells, stored, side, "file_cells"));
    FERRY_TRY(ferry_stored_attribute_number(&dim, stored, side, "dim"));
    printf("%-8s %s: %.0f of %.0f cells, %s (%.0f columns)%s%s\n", side, path, cells, file_cells, rep, dim,
           *weights ? ", weights obs/" : "", weights);
    for (const char *line = where; *line;) {
        int length = (int)strcspn(line, "\n");
        printf("         where %.*s\n", length, line);
        line += length + (line[length] == '\n');
    }
    return FERRY_OK;
}

static ferry_status number(double *out, ferry_stored *stored, const char *name)
{
    return ferry_stored_attribute_number(out, stored, "/", name);
}

static ferry_status print_solution(ferry_stored *stored)
{
    FERRY_AUTO char *kind = NULL;
    FERRY_AUTO char *scale = NULL;
    FERRY_AUTO char *precision = NULL;
    static const char *const names[] = {"epsilon",    "tau_a",          "tau_b",          "threshold",
                                        "iterations", "converged",      "transport_cost", "reg_ot_cost",
                                        "mass",       "marginal_error", "dual_gap"};
    static const char *const more[] = {"lower_bound",    "upper_bound",    "row_error",
                                       "row_error_max",  "column_error",   "column_error_max",
                                       "coarse_sources", "coarse_targets", "estimated"};
    enum { EPSILON, TAU_A, TAU_B, THRESHOLD, ITERATIONS, CONVERGED, COST, REG_COST, MASS, ERROR, GAP, COUNT };
    enum { LOWER, UPPER, ROWS, ROWS_MAX, COLUMNS, COLUMNS_MAX, SOURCES, TARGETS, ESTIMATED, MORE };
    double v[COUNT], w[MORE];
    FERRY_TRY(ferry_stored_attribute_text(&kind, stored, "cost", "kind"));
    FERRY_TRY(ferry_stored_attribute_text(&scale, stored, "cost", "scale_cost"));
    FERRY_TRY(ferry_stored_attribute_text(&precision, stored, "cost", "precision"));
    for (int i = 0; i < COUNT; i++) FERRY_TRY(number(&v[i], stored, names[i]));
    printf("cost     %s, scaled by %s, pairs in %s; epsilon %.6g, tau %g and %g\n", kind, scale, precision, v[EPSILON],
           v[TAU_A], v[TAU_B]);
    printf("solved   %.0f iterations, error %.3g, threshold %g: %s\n", v[ITERATIONS], v[ERROR], v[THRESHOLD],
           v[CONVERGED] != 0 ? "converged" : "NOT converged");
    printf("result   transport cost %.7g, regularised cost %.7g, duality gap %.3g, mass %.6g\n", v[COST], v[REG_COST],
           v[GAP], v[MASS]);
    for (int i = 0; i < MORE; i++)
        if (number(&w[i], stored, more[i]) != FERRY_OK) return FERRY_OK; /* a file of an earlier version */
    if (w[SOURCES] > 0)
        printf("coarse   solved between %.0f source and %.0f target cells, extended to all%s\n", w[SOURCES], w[TARGETS],
               w[ESTIMATED] != 0 ? "; errors, costs and mass are estimates" : "");
    if (w[ESTIMATED] != 0) return FERRY_OK;
    printf("bounds   optimum between %.8g and %.8g (gap %.2g of the transport cost)\n", w[LOWER], w[UPPER],
           fabs((w[UPPER] - w[LOWER]) / v[COST]));
    printf("margins  rows off by %.2g in all, at most %.2g; columns by %.2g, at most %.2g\n", w[ROWS], w[ROWS_MAX],
           w[COLUMNS], w[COLUMNS_MAX]);
    return FERRY_OK;
}

static ferry_status print_plan(const char *path, ferry_stored *stored)
{
    int64_t sources, targets;
    printf("%s: a plan of cellferry transport\n", path);
    FERRY_TRY(print_side(stored, "source"));
    FERRY_TRY(print_side(stored, "target"));
    FERRY_TRY(print_solution(stored));
    FERRY_TRY(ferry_stored_shape(&sources, NULL, stored, "source/potential"));
    FERRY_TRY(ferry_stored_shape(&targets, NULL, stored, "target/potential"));
    printf(
        "holds    source/potential [%lld], target/potential [%lld], weights, names, errors, uns/cellferry/record\n\n",
        (long long)sources, (long long)targets);
    printf("cellferry sparsify   %s -o coupling.h5ad\n"
           "cellferry push       %s --values obs:COLUMN -o pushed.h5ad     (pull: the other way)\n"
           "cellferry transition %s --source-key OBS --target-key OBS -o table.csv\n"
           "cellferry plot       %s -o trace.svg\n"
           "cellferry transport  ... --initial %s\n",
           path, path, path, path, path);
    return FERRY_OK;
}

/* ---- an index ---- */

static int by_size(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static ferry_status print_lists(ferry_stored *stored, int64_t lists, bool exact)
{
    FERRY_AUTO int64_t *first = NULL;
    int64_t empty = 0;
    FERRY_TRY(ferry_alloc(&first, lists + 1));
    FERRY_TRY(ferry_stored_integers(first, stored, "first", 0, lists + 1));
    for (int64_t i = 0; i < lists; i++) first[i] = first[i + 1] - first[i];
    qsort(first, (size_t)lists, sizeof *first, by_size);
    while (empty < lists && first[empty] == 0) empty++;
    printf("lists    %lld: smallest %lld, median %lld, largest %lld cells, %lld empty; %s\n", (long long)lists,
           (long long)first[0], (long long)first[lists / 2], (long long)first[lists - 1], (long long)empty,
           exact ? "every cell in its nearest list" : "cells in a near list, not always the nearest");
    return FERRY_OK;
}

/* Where the cells came from, when that is stored. */
static ferry_status print_origin(ferry_stored *stored, double rows)
{
    FERRY_AUTO char *path = NULL;
    FERRY_AUTO char *rep = NULL;
    FERRY_AUTO char *where = NULL;
    FERRY_AUTO char *print = NULL;
    double dims, file_cells;
    if (!ferry_stored_has(stored, "input")) return FERRY_OK;
    FERRY_TRY(ferry_stored_attribute_text(&path, stored, "input", "path"));
    FERRY_TRY(ferry_stored_attribute_text(&where, stored, "input", "where"));
    FERRY_TRY(ferry_stored_attribute_text(&print, stored, "input", "fingerprint"));
    FERRY_TRY(ferry_stored_attribute_number(&file_cells, stored, "input", "file_cells"));
    FERRY_TRY(ferry_stored_attribute_text(&rep, stored, "/", "rep"));
    FERRY_TRY(number(&dims, stored, "dims"));
    printf("from     %s: %.0f of %.0f cells, %s", path, rows, file_cells, rep);
    if (dims > 0) printf(" (the first %.0f columns)", dims);
    printf(", fingerprint %s\n", print);
    for (const char *line = where; *line;) {
        int length = (int)strcspn(line, "\n");
        printf("         where %.*s\n", length, line);
        line += length + (line[length] == '\n');
    }
    return FERRY_OK;
}

static ferry_status print_index(const char *path, ferry_stored *stored)
{
    FERRY_AUTO char *metric = NULL;
    double rows, lists, dim, exact, version, codes = 0;
    int64_t supers;
    struct stat file;
    char bytes[32];
    FERRY_TRY(ferry_stored_attribute_text(&metric, stored, "/", "metric"));
    FERRY_TRY(number(&rows, stored, "rows"));
    FERRY_TRY(number(&lists, stored, "lists"));
    FERRY_TRY(number(&dim, stored, "dim"));
    FERRY_TRY(number(&exact, stored, "exact"));
    FERRY_TRY(number(&version, stored, "version"));
    if (version == 2) FERRY_TRY(number(&codes, stored, "codes"));
    FERRY_TRY(ferry_stored_shape(&supers, NULL, stored, "supers"));
    printf("%s: an index of cellferry index, %s\ncells    %.0f of %.0f columns, %s distance\n", path,
           ferry_size_text(bytes, stat(path, &file) ? 0 : (double)file.st_size), rows, dim, metric);
    if (codes > 0)
        printf("kind     codes of %.0f bytes a cell instead of %.0f; vectors are read from the file below\n", codes,
               4 * dim);
    else
        printf("kind     whole vectors, %.0f bytes a cell\n", 4 * dim);
    FERRY_TRY(print_lists(stored, (int64_t)lists, exact != 0));
    FERRY_TRY(print_origin(stored, rows));
    printf("holds    centroids [%.0f], supers [%lld], %s, rows/cell, rows/distance, names, "
           "uns/cellferry/record\n\n"
           "cellferry neighbors QUERY.h5ad --index %s -o graph.h5ad\n"
           "cellferry map       QUERY.h5ad --index %s -o mapped.h5ad\n",
           lists, (long long)supers, codes > 0 ? "book, rows/code" : "rows/values", path, path);
    return FERRY_OK;
}

/* ---- an AnnData file ---- */

static void shape_text(char text[64], const ferry_entry *entry)
{
    int used = 0;
    text[0] = 0;
    if (entry->rows >= 0) used = snprintf(text, 64, "%lld", (long long)entry->rows);
    if (entry->rows >= 0 && entry->columns >= 0)
        used += snprintf(text + used, 64 - (size_t)used, " x %lld", (long long)entry->columns);
    if (entry->nonzeros >= 0)
        (void)snprintf(text + used, 64 - (size_t)used, " (%lld nonzero)", (long long)entry->nonzeros);
}

static int widest(const ferry_entry *entries, int count)
{
    int most = 8;
    for (int i = 0; i < count; i++) {
        int length = (int)strlen(entries[i].path);
        if (length > most && length <= 40) most = length;
    }
    return most;
}

/* How to see the cells, when the file holds an embedding that is drawn by itself. */
static void print_picture(const ferry_entry *entries, int count, const char *path)
{
    for (int i = 0; i < count; i++) {
        if (strncmp(entries[i].path, "obsm/", 5) != 0) continue;
        if (entries[i].columns != 2 && strcmp(entries[i].path, "obsm/spatial") != 0) continue;
        printf("\ncellferry plot %s -o cells.png     (its cells on an embedding: --basis KEY; coloured by --color "
               "COLUMN)\n",
               path);
        return;
    }
}

static ferry_status print_entries(ferry_file *file)
{
    FERRY_AUTO ferry_entry *entries = NULL;
    int count;
    FERRY_TRY(ferry_file_entries(&entries, &count, file));
    int wide = widest(entries, count);
    printf("%s: %lld cells x %lld genes\n\n%-*s  %-26s %-30s %s\n", ferry_file_path(file),
           (long long)ferry_file_cells(file), (long long)ferry_file_genes(file), wide, "path", "encoding", "shape",
           "use");
    for (int i = 0; i < count; i++) {
        char shape[64];
        shape_text(shape, &entries[i]);
        printf("%-*s  %-26s %-30s %s\n", wide, entries[i].path, entries[i].encoding, shape, entries[i].use);
        if (entries[i].note[0]) printf("%*s    %s\n", wide, "", entries[i].note);
    }
    int dim;
    const char *rep = ferry_file_default_rep(file);
    bool usable = ferry_rep_dim(&dim, file, rep, 0) == FERRY_OK;
    printf("\nwithout --rep a command takes %s%s\n", rep, usable ? "" : ", which is not there: name another");
    print_picture(entries, count, ferry_file_path(file));
    return FERRY_OK;
}

/* What rank 0 finds out before the reader of .h5ad opens the file (one file is not opened in two ways at a time). */
typedef struct finding {
    int is_own;    /* a plan or an index, which is printed */
    char kind[64]; /* of a result of ours, else empty */
} finding;

/* Local. A file that cannot be opened is left to the reader of .h5ad, whose message is better. */
static ferry_status look(finding *out, const char *path)
{
    ferry_stored *stored = NULL;
    FERRY_AUTO char *kind = NULL;
    FERRY_AUTO char *own = NULL;
    if (path[0] == '@' || ferry_stored_open(&stored, path) != FERRY_OK) return FERRY_OK;
    ferry_status status = FERRY_OK;
    if (ferry_stored_attribute_text(&kind, stored, "/", "kind") == FERRY_OK && !strcmp(kind, "cellferry plan")) {
        out->is_own = 1;
        status = print_plan(path, stored);
    } else if (kind && !strcmp(kind, "cellferry index")) {
        out->is_own = 1;
        status = print_index(path, stored);
    } else if (ferry_stored_has(stored, "uns/cellferry/kind")) {
        status = ferry_stored_text(&own, stored, "uns/cellferry/kind");
        if (status == FERRY_OK) (void)snprintf(out->kind, sizeof out->kind, "%s", own);
    }
    ferry_stored_close(&stored);
    return status;
}

static void print_own(const finding *found, const char *path)
{
    if (!found->kind[0]) return;
    printf("\na result of cellferry (%s); how it was made is in uns/cellferry/record:\n"
           "cellferry plot %s --kind stages -o stages.svg     (time and memory by stage)\n",
           found->kind, path);
}

static ferry_status run_info(cli_program *program, const void *options)
{
    const ferry_world *world = &program->world;
    const char *path = program->input[0];
    finding found = {0};
    (void)options;
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? look(&found, path) : FERRY_OK));
    ferry_broadcast(world, &found, sizeof found, 0);
    if (found.is_own) return FERRY_OK;
    ferry_file *file = NULL;
    ferry_status status = ferry_file_open(&file, world, path);
    if (status == FERRY_OK) status = ferry_agree(world, world->rank == 0 ? print_entries(file) : FERRY_OK);
    if (status == FERRY_OK && world->rank == 0) print_own(&found, path);
    ferry_file_close(&file);
    return status;
}

const cli_command command_info = {
    .name = "info",
    .line = "what a file holds, and which keys and commands can use it",
    .usage = "FILE",
    .text = "Shows the matrices, columns and keys of a .h5ad file (or @LIST.txt) with their encoding, shape and the "
            "option that takes them; of a result of cellferry, what it is and how to go on. Data is not read.",
    .example = "cellferry info cells.h5ad\ncellferry info plan.h5",
    .options = table,
    .groups = GROUP_TALK,
    .size = sizeof(info_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_info};

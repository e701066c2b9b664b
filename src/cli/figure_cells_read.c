/* figure_cells_read.c - which embedding, columns and cells a picture of cells takes; see figure_cells.h. */
#include "figure_cells.h"
#include <stdio.h>
#include <string.h>

/* ---- what there is ---- */

typedef struct content {
    ferry_entry *entry;
    int count;
    const char *path;
} content;

/* The name of an entry of a group ("obs", "obsm"), NULL for entries of others. */
static const char *in_group(const ferry_entry *entry, const char *group)
{
    const size_t length = strlen(group);
    return strncmp(entry->path, group, length) == 0 && entry->path[length] == '/' ? entry->path + length + 1 : NULL;
}

static const ferry_entry *find(const content *c, const char *group, const char *name)
{
    for (int i = 0; i < c->count; i++) {
        const char *own = in_group(&c->entry[i], group);
        if (own && strcmp(own, name) == 0) return &c->entry[i];
    }
    return NULL;
}

static bool is_index(const ferry_entry *e)
{
    return strcmp(e->note, "cell names") == 0;
}

static bool is_kind(const ferry_entry *e, const char *kind) /* "categorical", "text", "boolean", "number" */
{
    return strstr(e->encoding, kind) != NULL;
}

/* "X_pca (50 columns), spatial (3 columns)", or the names of columns, up to ten. */
static const char *list(char *text, size_t room, const content *c, const char *group)
{
    size_t used = 0;
    int told = 0;
    text[0] = 0;
    for (int i = 0; i < c->count; i++) {
        const char *name = in_group(&c->entry[i], group);
        if (!name || is_index(&c->entry[i])) continue;
        if (told++ >= 10 || used + 100 > room) continue;
        used += (size_t)snprintf(text + used, room - used, "%s%.60s", used ? ", " : "", name);
        if (c->entry[i].columns >= 0)
            used += (size_t)snprintf(text + used, room - used, " (%lld columns)", (long long)c->entry[i].columns);
    }
    if (told > 10) (void)snprintf(text + used, room - used, " and %d more", told - 10);
    return told ? text : "nothing";
}

/* ---- the embedding ---- */

static ferry_status no_basis(const content *c)
{
    char text[1000];
    for (int i = 0; i < c->count; i++) {
        const char *name = in_group(&c->entry[i], "obsm");
        if (name && c->entry[i].columns >= 2)
            return ferry_fail(FERRY_E_FILE,
                              "%s: no embedding of two columns: obsm holds %s; give --basis %.100s to draw its first "
                              "two columns, or add one (scanpy.tl.umap)",
                              c->path, list(text, sizeof text, c, "obsm"), name);
    }
    return ferry_fail(FERRY_E_FILE,
                      "%s: no embedding to draw its cells on: obsm holds %s; a result of cellferry map has the "
                      "query's with --into, or one of its own with --obsm X_umap",
                      c->path, list(text, sizeof text, c, "obsm"));
}

static ferry_status named_basis(char basis[CELLS_NAME], const content *c, const char *wanted)
{
    char name[CELLS_NAME], text[1000];
    const ferry_entry *entry = find(c, "obsm", wanted);
    (void)snprintf(name, sizeof name, "%s", wanted);
    if (!entry) { /* as scanpy: umap for X_umap */
        (void)snprintf(name, sizeof name, "X_%.250s", wanted);
        entry = find(c, "obsm", name);
    }
    if (!entry)
        return ferry_fail(FERRY_E_FILE, "%s: --basis %s: there is no such key in obsm, which holds %s", c->path, wanted,
                          list(text, sizeof text, c, "obsm"));
    if (entry->columns < 2)
        return ferry_fail(FERRY_E_FILE, "%s: --basis %s: obsm/%s has %lld columns, a picture needs two; obsm holds %s",
                          c->path, wanted, name, (long long)entry->columns, list(text, sizeof text, c, "obsm"));
    (void)snprintf(basis, CELLS_NAME, "%s", name);
    return FERRY_OK;
}

static ferry_status choose_basis(char basis[CELLS_NAME], const content *c, const char *wanted)
{
    static const char *const usual[] = {"X_umap", "X_tsne", "spatial"};
    if (wanted) return named_basis(basis, c, wanted);
    for (int i = 0; i < 3; i++) {
        const ferry_entry *entry = find(c, "obsm", usual[i]);
        if (entry && entry->columns >= 2) return named_basis(basis, c, usual[i]);
    }
    for (int i = 0; i < c->count; i++) {
        const char *name = in_group(&c->entry[i], "obsm");
        if (name && c->entry[i].columns == 2) return named_basis(basis, c, name);
    }
    return no_basis(c);
}

/* ---- the columns ---- */

static ferry_status add_panel(figure_cells *out, const content *c, const char *column)
{
    char text[1000];
    const ferry_entry *entry = find(c, "obs", column);
    if (!entry) {
        ferry_names names = {0};
        ferry_status status = FERRY_OK;
        for (int i = 0; i < c->count && status == FERRY_OK; i++)
            if (in_group(&c->entry[i], "obs")) status = ferry_names_add(&names, in_group(&c->entry[i], "obs"), -1);
        const char *near = status == FERRY_OK ? ferry_names_nearest(&names, column) : NULL;
        if (status == FERRY_OK)
            status = ferry_fail(FERRY_E_FILE, "%s: --color %s: there is no such column in obs;%s%.80s%s it holds %s",
                                c->path, column, near ? " did you mean '" : "", near ? near : "", near ? "'?" : "",
                                list(text, sizeof text, c, "obs"));
        ferry_names_close(&names);
        return status;
    }
    cells_panel *panel = &out->panel[out->panels++];
    (void)snprintf(panel->column, sizeof panel->column, "%s", column);
    panel->numeric = is_kind(entry, "number");
    return FERRY_OK;
}

static bool ends_in(const char *text, const char *ending)
{
    const size_t length = strlen(text), last = strlen(ending);
    return length > last && strcmp(text + length - last, ending) == 0;
}

/* A column that is a good colour: how good, 0 if it is none. */
static int quality(const ferry_entry *e, const char *name)
{
    int categories = 0;
    const bool categorical = is_kind(e, "categorical");
    const char *count = strchr(e->encoding, '(');
    if (categorical && count) categories = (int)strtol(count + 1, NULL, 10);
    if (ends_in(name, "_pred")) return categorical ? 7 : 6;
    if (categorical) return categories >= 2 && categories <= 100 ? 5 : 1; /* not barcodes */
    if (is_kind(e, "boolean")) return 4;
    if (is_kind(e, "number")) return 3;
    return is_kind(e, "text") ? 2 : 0;
}

/* Predictions first, with their confidence beside them. */
static ferry_status choose_column(figure_cells *out, const content *c)
{
    const char *best = NULL;
    int most = 0;
    for (int i = 0; i < c->count; i++) {
        const char *name = in_group(&c->entry[i], "obs");
        const int good = !name || is_index(&c->entry[i]) ? 0 : quality(&c->entry[i], name);
        if (good > most) {
            most = good;
            best = name;
        }
    }
    if (!best)
        return ferry_fail(FERRY_E_FILE, "%s: no column of obs to colour cells by: obs holds only their names", c->path);
    FERRY_TRY(add_panel(out, c, best));
    char trust[CELLS_NAME + 8];
    if (!ends_in(best, "_pred")) return FERRY_OK;
    (void)snprintf(trust, sizeof trust, "%.*s_conf", (int)strlen(best) - 5, best);
    const ferry_entry *entry = find(c, "obs", trust);
    return entry && is_kind(entry, "number") ? add_panel(out, c, trust) : FERRY_OK;
}

static ferry_status choose_from(figure_cells *out, const content *c, const cells_wish *wish)
{
    FERRY_TRY(choose_basis(out->basis, c, wish->basis));
    if (wish->colours > CELLS_PANELS)
        return ferry_fail(FERRY_E_ARG, "--color is given %d times: at most %d panels are drawn", wish->colours,
                          CELLS_PANELS);
    for (int i = 0; i < wish->colours; i++) FERRY_TRY(add_panel(out, c, wish->colour[i]));
    return wish->colours ? FERRY_OK : choose_column(out, c);
}

/* Local. */
static ferry_status choose(figure_cells *out, ferry_file *file, const cells_wish *wish)
{
    FERRY_AUTO ferry_entry *entries = NULL;
    content c = {.path = ferry_file_path(file)};
    FERRY_TRY(ferry_file_entries(&entries, &c.count, file));
    c.entry = entries;
    out->cells = ferry_file_cells(file);
    out->count = out->cells < wish->most ? out->cells : wish->most;
    if (out->cells == 0) return ferry_fail(FERRY_E_FILE, "%s: it has no cells to draw", c.path);
    const ferry_status status = choose_from(out, &c, wish);
    if (status == FERRY_OK || !wish->optional || status != FERRY_E_FILE) return status;
    out->panels = 0;
    return FERRY_OK;
}

/* ---- the cells ---- */

/* One cell, by counting, of each of `count` stretches of nearly equal length. */
static ferry_status choose_rows(int64_t **rows, int64_t cells, int64_t count)
{
    FERRY_TRY(ferry_alloc(rows, count));
    for (int64_t k = 0; k < count; k++) {
        const int64_t first = (int64_t)((__int128)k * cells / count),
                      end = (int64_t)((__int128)(k + 1) * cells / count);
        (*rows)[k] = first + (int64_t)(figure_cells_random(k) % (uint64_t)(end - first));
    }
    return FERRY_OK;
}

/* Local, rank 0. */
static ferry_status read_places(figure_cells *out, int64_t **rows, ferry_file *file)
{
    FERRY_TRY(choose_rows(rows, out->cells, out->count));
    return ferry_read_rep(&out->xy, file, out->basis, 2, FERRY_FLOAT, *rows, out->count);
}

/* Collective. Labels need the whole column, so that all ranks look at it; cells are rank 0's. */
static ferry_status read_panels(figure_cells *out, const ferry_world *world, ferry_file *file, const int64_t *rows)
{
    const int64_t mine = world->rank == 0 ? out->count : 0;
    for (int k = 0; k < out->panels; k++) {
        cells_panel *panel = &out->panel[k];
        ferry_status status = FERRY_OK;
        if (!panel->numeric)
            status = ferry_read_labels(&panel->labels, world, file, panel->column, rows, mine);
        else if (world->rank == 0)
            status = ferry_read_numbers(&panel->number, file, panel->column, rows, mine);
        FERRY_TRY(ferry_agree(world, status));
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status read_cells(figure_cells *out, const ferry_world *world, ferry_file *file, const cells_wish *wish)
{
    FERRY_AUTO int64_t *rows = NULL;
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? choose(out, file, wish) : FERRY_OK));
    ferry_broadcast(world, &out->panels, sizeof out->panels, 0);
    for (int k = 0; k < out->panels; k++) {
        ferry_broadcast(world, out->panel[k].column, CELLS_NAME, 0);
        ferry_broadcast(world, &out->panel[k].numeric, sizeof out->panel[k].numeric, 0);
    }
    if (out->panels == 0) return FERRY_OK;
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? read_places(out, &rows, file) : FERRY_OK));
    return read_panels(out, world, file, rows);
}

/* Local, rank 0, when the reader of .h5ad has closed the file. */
static ferry_status read_colours(figure_cells *out, const char *path)
{
    ferry_stored *stored = NULL;
    ferry_status status = FERRY_OK;
    if (path[0] == '@') return FERRY_OK;
    FERRY_TRY(ferry_stored_open(&stored, path));
    for (int k = 0; k < out->panels && status == FERRY_OK; k++) {
        cells_panel *panel = &out->panel[k];
        char link[CELLS_NAME + 16];
        int64_t count = 0, columns = 0;
        (void)snprintf(link, sizeof link, "uns/%s", panel->column);
        for (char *c = link + 4; *c; c++)
            if (*c == '/') *c = '_';
        (void)snprintf(link + strlen(link), sizeof link - strlen(link), "_colors");
        if (panel->numeric || !ferry_stored_has(stored, link)) continue;
        if (ferry_stored_shape(&count, &columns, stored, link) != FERRY_OK) continue; /* not a list: not scanpy's */
        if (columns == 1 && count >= panel->labels.categories.count)
            status = ferry_stored_texts(&panel->stored, stored, link, 0, count);
        if (status == FERRY_E_FILE) status = FERRY_OK; /* a list of something else */
    }
    ferry_stored_close(&stored);
    return status;
}

ferry_status figure_cells_read(figure_cells *out, const ferry_world *world, const cells_wish *wish)
{
    ferry_file *file = NULL;
    *out = (figure_cells){.path = wish->path};
    FERRY_TRY(ferry_file_open(&file, world, wish->path));
    ferry_status status = read_cells(out, world, file, wish);
    ferry_file_close(&file);
    if (status == FERRY_OK) status = ferry_agree(world, world->rank == 0 ? read_colours(out, wish->path) : FERRY_OK);
    if (status != FERRY_OK) figure_cells_close(out);
    return status;
}

void figure_cells_close(figure_cells *cells)
{
    ferry_matrix_close(&cells->xy);
    for (int k = 0; k < CELLS_PANELS; k++) {
        ferry_labels_close(&cells->panel[k].labels);
        free(cells->panel[k].number);
        ferry_names_close(&cells->panel[k].stored);
    }
    memset(cells, 0, sizeof *cells);
}

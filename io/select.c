/* Filters. Each rank looks at an even share of the file's rows, slab by slab, and keeps the numbers of those that pass;
 * ferry_select_rows then serves any range of kept cells from the ranks that found them.
 *
 *  A text "COLUMN=a,b" may mean the value "a,b" or the values "a" and "b". Both are looked for; when the file knows the
 *  whole, the parts do not count, and where they had matched cells the pass is made again without them. */
#include "select.h"
#include "h5ad_impl.h"
#include "mpi/exchange.h"
#include "names_impl.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define EXAMPLES 50 /* values of a column without categories kept for an error message */

typedef struct filter {
    char *column;
    int group;          /* number of the first filter on the same column */
    ferry_names values; /* 0: all behind "=", 1 ...: its parts when there are commas */
    double *number;     /* [values] their numbers, NaN where they are none */
    int64_t *found;     /* [values] cells, or categories, that match; over all ranks after total() */
    bool whole;         /* only value 0 counts */
    ferry_names seen;   /* some values of the column, for a message */
} filter;

typedef struct selector {
    ferry_file *file;
    const char *const *where;
    int filters;
    filter *filter;
    int64_t *kept_by; /* [filters] */
    int64_t *row;
    int64_t rows, room;
    uint8_t *pass, *all; /* [slab] of one column, of all */
} selector;

/* One column in one file, ready to be asked about rows. */
typedef struct view {
    ferry_column column;
    ferry_names categories;
    uint8_t **match; /* [filters] for the filters on this column: [categories] does the category match? */
    int32_t *code;
    double *number;
    uint8_t *missing;
} view;

static bool counts(const filter *f, int64_t v)
{
    return f->whole ? v == 0 : true;
}

/* Does a value of the column, as text and (NaN: none) as number, equal value v of the filter? */
static bool equals(const filter *f, int64_t v, const char *text, double number)
{
    const char *wanted = ferry_name(&f->values, v);
    if (!strcmp(text, wanted)) return true;
    if (number == f->number[v]) return true; /* false for NaN */
    bool truth = !strcmp(text, "True"), falsehood = !strcmp(text, "False");
    return (truth && (!strcmp(wanted, "true") || !strcmp(wanted, "TRUE") || !strcmp(wanted, "1"))) ||
           (falsehood && (!strcmp(wanted, "false") || !strcmp(wanted, "FALSE") || !strcmp(wanted, "0")));
}

/* Marks the filter's values that match; true when one does. */
static bool matches(filter *f, const char *text, double number, int64_t times)
{
    bool any = false;
    for (int64_t v = 0; v < f->values.count; v++) {
        if (!counts(f, v) || !equals(f, v, text, number)) continue;
        f->found[v] += times;
        any = true;
    }
    return any;
}

static ferry_status remember(filter *f, const char *text)
{
    if (f->seen.count >= EXAMPLES || ferry_names_find(&f->seen, text) >= 0) return FERRY_OK;
    return ferry_names_add(&f->seen, text, -1);
}

/* ---- Local: the texts of the user ---- */

static ferry_status add_value(filter *f, const char *text, int64_t length)
{
    char *end;
    FERRY_TRY(ferry_names_add(&f->values, text, length));
    const char *value = ferry_name(&f->values, f->values.count - 1);
    FERRY_TRY(ferry_grow(&f->number, f->values.count - 1, f->values.count));
    double number = strtod(value, &end);
    f->number[f->values.count - 1] = *value && *end == 0 ? number : NAN;
    return FERRY_OK;
}

/* "COLUMN=VALUE": column names may hold "=", so the first "=" that ends the name of a column is taken. */
static ferry_status parse(filter *f, selector *s, int i)
{
    const char *text = s->where[i], *equal = NULL;
    for (const char *at = strchr(text, '='); at; at = strchr(at + 1, '=')) {
        FERRY_AUTO char *name = NULL;
        FERRY_TRY(ferry_alloc(&name, at - text + 1));
        memcpy(name, text, (size_t)(at - text));
        if (!equal || ferry_file_has_obs(s->file, name)) equal = at;
        if (ferry_file_has_obs(s->file, name)) break;
    }
    if (!equal || equal == text)
        return ferry_fail(FERRY_E_ARG, "filter '%s': write COLUMN=VALUE or COLUMN=VALUE,VALUE, with a column of obs",
                          text);
    FERRY_TRY(ferry_alloc(&f->column, equal - text + 1));
    memcpy(f->column, text, (size_t)(equal - text));
    FERRY_TRY(add_value(f, equal + 1, -1));
    for (const char *at = equal + 1; strchr(equal + 1, ',') && at;) {
        const char *comma = strchr(at, ',');
        FERRY_TRY(add_value(f, at, comma ? comma - at : -1));
        at = comma ? comma + 1 : NULL;
    }
    FERRY_TRY(ferry_alloc(&f->found, f->values.count));
    for (f->group = 0; strcmp(s->filter[f->group].column, f->column) != 0;) f->group++;
    return FERRY_OK;
}

static ferry_status parse_all(selector *s)
{
    FERRY_TRY(ferry_alloc(&s->filter, s->filters));
    FERRY_TRY(ferry_alloc(&s->kept_by, s->filters));
    FERRY_TRY(ferry_alloc(&s->pass, FERRY_SLAB_ROWS));
    FERRY_TRY(ferry_alloc(&s->all, FERRY_SLAB_ROWS));
    for (int i = 0; i < s->filters; i++) FERRY_TRY(parse(s->filter + i, s, i));
    return FERRY_OK;
}

/* ---- Local: looking at rows ---- */

static void view_close(view *w, int filters)
{
    ferry_column_close(&w->column);
    ferry_names_close(&w->categories);
    for (int i = 0; w->match && i < filters; i++) free(w->match[i]);
    free(w->match);
    free(w->code);
    free(w->number);
    free(w->missing);
}

static ferry_status match_categories(view *w, selector *s, int group)
{
    FERRY_AUTO double *number = NULL;
    FERRY_TRY(ferry_column_categories(&w->categories, &number, &w->column));
    FERRY_AUTO_COLUMN list = {0};
    FERRY_TRY(ferry_column_open_path(&list, w->column.part, w->column.categories));
    bool texts = list.kind == FERRY_KIND_TEXT; /* "010" is not 10 */
    for (int i = group; i < s->filters; i++) {
        filter *f = s->filter + i;
        if (f->group != group) continue;
        FERRY_TRY(ferry_alloc(&w->match[i], w->categories.count));
        for (int64_t c = 0; c < w->categories.count; c++) {
            const char *name = ferry_name(&w->categories, c);
            w->match[i][c] = matches(f, name, number && !texts ? number[c] : NAN, 1);
            FERRY_TRY(remember(f, name));
        }
    }
    return FERRY_OK;
}

static ferry_status view_open(view *w, selector *s, int group, ferry_part *part)
{
    FERRY_AUTO_FRAME obs = {0};
    FERRY_TRY(ferry_frame_open(&obs, part, "obs"));
    FERRY_TRY(ferry_column_open(&w->column, &obs, s->filter[group].column));
    FERRY_TRY(ferry_alloc(&w->match, s->filters));
    FERRY_TRY(ferry_alloc(&w->code, FERRY_SLAB_ROWS));
    FERRY_TRY(ferry_alloc(&w->number, FERRY_SLAB_ROWS));
    FERRY_TRY(ferry_alloc(&w->missing, FERRY_SLAB_ROWS));
    return w->column.categories ? match_categories(w, s, group) : FERRY_OK;
}

static ferry_status look_at_codes(view *w, selector *s, int group, int64_t first, int64_t count)
{
    FERRY_TRY(ferry_column_codes(w->code, &w->column, w->categories.count, first, count));
    for (int i = group; i < s->filters; i++) {
        if (s->filter[i].group != group) continue;
        for (int64_t r = 0; r < count; r++) {
            bool match = w->code[r] >= 0 && w->match[i][w->code[r]];
            s->kept_by[i] += match;
            s->pass[r] |= match;
        }
    }
    return FERRY_OK;
}

static ferry_status look_at_texts(const ferry_names *text, view *w, selector *s, int group, int64_t count)
{
    for (int i = group; i < s->filters; i++) {
        filter *f = s->filter + i;
        if (f->group != group) continue;
        for (int64_t r = 0; r < count; r++) {
            if (w->missing[r]) continue;
            const char *value = ferry_name(text, r);
            bool match = matches(f, value, w->column.kind == FERRY_KIND_TEXT ? NAN : w->number[r], 1);
            if (!match && f->seen.count < EXAMPLES) FERRY_TRY(remember(f, value));
            s->kept_by[i] += match;
            s->pass[r] |= match;
        }
    }
    return FERRY_OK;
}

static ferry_status look_at_values(view *w, selector *s, int group, int64_t first, int64_t count)
{
    ferry_names text = {0};
    ferry_status status = ferry_column_texts(&text, w->missing, &w->column, first, count);
    if (status == FERRY_OK && w->column.kind != FERRY_KIND_TEXT)
        status = ferry_column_numbers(w->number, &w->column, first, count);
    if (status == FERRY_OK) status = look_at_texts(&text, w, s, group, count);
    ferry_names_close(&text);
    return status;
}

static ferry_status keep(selector *s, int64_t first, int64_t count)
{
    for (int64_t r = 0; r < count; r++) {
        if (!s->all[r]) continue;
        if (s->rows == s->room) {
            int64_t room = s->room ? 2 * s->room : 4096;
            FERRY_TRY(ferry_grow(&s->row, s->rows, room));
            s->room = room;
        }
        s->row[s->rows++] = first + r;
    }
    return FERRY_OK;
}

/* Rows [from, to) of one file, counted in it. */
static ferry_status scan_rows(selector *s, view *views, const ferry_part *part, int64_t from, int64_t to)
{
    for (int64_t at = from; at < to; at += FERRY_SLAB_ROWS) {
        int64_t n = to - at < FERRY_SLAB_ROWS ? to - at : FERRY_SLAB_ROWS;
        memset(s->all, 1, (size_t)n);
        for (int g = 0; g < s->filters; g++) {
            if (s->filter[g].group != g) continue;
            memset(s->pass, 0, (size_t)n);
            if (views[g].column.categories)
                FERRY_TRY(look_at_codes(views + g, s, g, at, n));
            else
                FERRY_TRY(look_at_values(views + g, s, g, at, n));
            for (int64_t r = 0; r < n; r++) s->all[r] &= s->pass[r];
        }
        FERRY_TRY(keep(s, part->first + at, n));
    }
    return FERRY_OK;
}

static ferry_status scan_part(selector *s, int k, int64_t begin, int64_t end)
{
    ferry_part *part;
    FERRY_AUTO view *views = NULL;
    FERRY_TRY(ferry_alloc(&views, s->filters));
    FERRY_TRY(ferry_file_part(&part, s->file, k));
    int64_t from = begin > part->first ? begin - part->first : 0;
    int64_t to = (end < part->first + part->cells ? end : part->first + part->cells) - part->first;
    ferry_status status = FERRY_OK;
    for (int g = 0; g < s->filters && status == FERRY_OK; g++)
        if (s->filter[g].group == g) status = view_open(views + g, s, g, part);
    if (status == FERRY_OK) status = scan_rows(s, views, part, from, to);
    for (int g = 0; g < s->filters; g++) view_close(views + g, s->filters);
    return status;
}

/* Every file is looked at on every rank, also where it has none of the rank's rows: a column that one file lacks is an
 * error, and a category that no cell uses is known. */
static ferry_status scan(selector *s, const ferry_world *world)
{
    FERRY_H5_QUIET;
    int64_t cells = s->file->cells, even = cells / world->size, rest = cells % world->size;
    int64_t begin = even * world->rank + rest * world->rank / world->size;
    int64_t end = even * (world->rank + 1) + rest * (world->rank + 1) / world->size;
    s->rows = 0;
    memset(s->kept_by, 0, (size_t)s->filters * sizeof *s->kept_by);
    for (int i = 0; i < s->filters; i++)
        memset(s->filter[i].found, 0, (size_t)s->filter[i].values.count * sizeof *s->filter[i].found);
    for (int k = 0; k < s->file->parts; k++) FERRY_TRY(scan_part(s, k, begin, end));
    return FERRY_OK;
}

/* ---- Collective ---- */

static void total(selector *s, const ferry_world *world)
{
    ferry_total_counts(world, s->kept_by, s->filters);
    for (int i = 0; i < s->filters; i++) ferry_total_counts(world, s->filter[i].found, s->filter[i].values.count);
}

/* Filters whose whole text the file knows give up their parts; true when parts had matched, so that the pass has to be
 * made again. The same on all ranks: found is. */
static bool settle(selector *s)
{
    bool again = false;
    for (int i = 0; i < s->filters; i++) {
        filter *f = s->filter + i;
        if (f->whole || !f->found[0] || f->values.count == 1) continue;
        f->whole = true;
        for (int64_t v = 1; v < f->values.count; v++)
            again = again || (f->found[v] && strcmp(ferry_name(&f->values, v), ferry_name(&f->values, 0)) != 0);
    }
    return again;
}

/* Local. Every value of every filter is known to the file? */
static ferry_status check_values(const selector *s)
{
    for (int i = 0; i < s->filters; i++) {
        const filter *f = s->filter + i;
        for (int64_t v = f->values.count > 1; v < f->values.count; v++) {
            if (f->found[v] || f->found[0]) continue;
            char list[600], near[160] = "";
            const char *wanted = ferry_name(&f->values, v), *nearest = ferry_names_nearest(&f->seen, wanted);
            if (nearest) snprintf(near, sizeof near, " did you mean '%.100s'?", nearest);
            return ferry_fail(FERRY_E_FILE, "%s: obs/%s: no cell has '%s';%s there are: %s", s->file->path, f->column,
                              wanted, near, ferry_names_list(list, sizeof list, &f->seen, 10));
        }
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status nothing_left(const selector *s)
{
    char text[1000] = "";
    size_t used = 0;
    for (int i = 0; i < s->filters && used + 160 < sizeof text; i++) {
        int n = snprintf(text + used, sizeof text - used, "%s%.100s alone keeps %lld", i ? ", " : "", s->where[i],
                         (long long)s->kept_by[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    return ferry_fail(FERRY_E_FILE, "%s: obs: no cell passes the filters: %s; leave one out", s->file->path, text);
}

static ferry_status filter_rows(ferry_selection *out, selector *s, const ferry_world *world)
{
    FERRY_TRY(ferry_agree(world, parse_all(s)));
    FERRY_TRY(ferry_agree(world, scan(s, world)));
    total(s, world);
    if (settle(s)) {
        FERRY_TRY(ferry_agree(world, scan(s, world)));
        total(s, world);
    }
    FERRY_TRY(ferry_agree(world, check_values(s)));
    out->cells = ferry_total(world, s->rows);
    if (!out->cells) return ferry_agree(world, nothing_left(s));
    out->row_count = s->rows;
    out->row_first = ferry_before(world, s->rows);
    out->row = s->row;
    out->kept_by = s->kept_by;
    s->row = NULL;
    s->kept_by = NULL;
    return FERRY_OK;
}

/* Row numbers of every rank's share. */
static ferry_status share_bounds(ferry_selection *out, const ferry_world *world)
{
    FERRY_TRY(ferry_agree(world, ferry_alloc(&out->first, world->size + 1)));
    out->first[world->rank] = out->row_first;
    ferry_total_counts(world, out->first, world->size); /* each rank's place holds zero on the others */
    out->first[world->size] = out->cells;
    return FERRY_OK;
}

static ferry_status every_row(ferry_selection *out, const ferry_world *world, const ferry_file *file)
{
    ferry_status status = FERRY_OK;
    out->all = true;
    out->cells = ferry_file_cells(file);
    if (!out->cells) status = ferry_fail(FERRY_E_FILE, "%s: obs: no cells; name another file", file->path);
    return ferry_agree(world, status);
}

static void selector_close(selector *s)
{
    for (int i = 0; s->filter && i < s->filters; i++) {
        free(s->filter[i].column);
        ferry_names_close(&s->filter[i].values);
        ferry_names_close(&s->filter[i].seen);
        free(s->filter[i].number);
        free(s->filter[i].found);
    }
    free(s->filter);
    free(s->kept_by);
    free(s->row);
    free(s->pass);
    free(s->all);
}

ferry_status ferry_select_open(ferry_selection *out, const ferry_world *world, ferry_file *file,
                               const char *const *where, int filters)
{
    *out = (ferry_selection){.filters = filters};
    FERRY_TRY(ferry_same(world, "number of filters", &filters, sizeof filters));
    if (filters == 0) return every_row(out, world, file);
    selector s = {.file = file, .where = where, .filters = filters};
    ferry_status status = filter_rows(out, &s, world);
    if (status == FERRY_OK) status = share_bounds(out, world);
    selector_close(&s);
    if (status != FERRY_OK) ferry_select_close(out);
    return status;
}

void ferry_select_close(ferry_selection *selection)
{
    free(selection->kept_by);
    free(selection->row);
    free(selection->first);
    *selection = (ferry_selection){0};
}

/* Cells that ranges [a, a + an) and [b, b + bn) share; *from = the first. */
static int64_t overlap(int64_t *from, int64_t a, int64_t an, int64_t b, int64_t bn)
{
    int64_t begin = a > b ? a : b, end = a + an < b + bn ? a + an : b + bn;
    *from = begin;
    return end > begin ? end - begin : 0;
}

typedef struct traffic {
    int64_t *wanted;       /* [size][2] first and count of every rank */
    int64_t *two;          /* [size] 2 */
    int64_t *sent, *taken; /* [size] */
    int64_t *packed;       /* rows for others, in rank order */
} traffic;

/* Local. */
static ferry_status traffic_open(traffic *t, const ferry_world *world, const ferry_selection *selection, int64_t first,
                                 int64_t count)
{
    FERRY_TRY(ferry_alloc(&t->wanted, 2 * (int64_t)world->size));
    FERRY_TRY(ferry_alloc(&t->two, world->size));
    FERRY_TRY(ferry_alloc(&t->sent, world->size));
    FERRY_TRY(ferry_alloc(&t->taken, world->size));
    for (int r = 0; r < world->size; r++) t->two[r] = 2;
    if (first >= 0 && count >= 0 && first <= selection->cells - count) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "kept cells %lld to %lld are asked for, there are %lld", (long long)first,
                      (long long)(first + count), (long long)selection->cells);
}

/* Local. What every rank wants of the rows here, packed; what comes from every rank. Ranges of several ranks may
 * overlap, so more may leave than is here. */
static ferry_status pack(traffic *t, const ferry_world *world, const ferry_selection *selection, int64_t first,
                         int64_t count)
{
    int64_t from, all = 0, at = 0;
    for (int r = 0; r < world->size; r++) {
        t->sent[r] = overlap(&from, t->wanted[2 * r], t->wanted[2 * r + 1], selection->row_first, selection->row_count);
        t->taken[r] = overlap(&from, first, count, selection->first[r], selection->first[r + 1] - selection->first[r]);
        all += t->sent[r];
    }
    FERRY_TRY(ferry_alloc(&t->packed, all));
    for (int r = 0; r < world->size; r++) {
        overlap(&from, t->wanted[2 * r], t->wanted[2 * r + 1], selection->row_first, selection->row_count);
        if (t->sent[r])
            memcpy(t->packed + at, selection->row + (from - selection->row_first),
                   (size_t)t->sent[r] * sizeof *t->packed);
        at += t->sent[r];
    }
    return FERRY_OK;
}

static ferry_status exchange(int64_t *rows, traffic *t, const ferry_world *world, const ferry_selection *selection,
                             int64_t first, int64_t count)
{
    FERRY_TRY(ferry_agree(world, traffic_open(t, world, selection, first, count)));
    if (selection->all) {
        for (int64_t i = 0; i < count; i++) rows[i] = first + i;
        return FERRY_OK;
    }
    int64_t mine[2] = {first, count};
    ferry_gather_all(world, mine, t->two, t->wanted, sizeof *t->wanted);
    FERRY_TRY(ferry_agree(world, pack(t, world, selection, first, count)));
    ferry_exchange(world, t->packed, t->sent, rows, t->taken, sizeof *rows);
    return FERRY_OK;
}

ferry_status ferry_select_rows(int64_t *rows, const ferry_world *world, const ferry_selection *selection, int64_t first,
                               int64_t count)
{
    traffic t = {0};
    ferry_status status = exchange(rows, &t, world, selection, first, count);
    free(t.wanted);
    free(t.two);
    free(t.sent);
    free(t.taken);
    free(t.packed);
    return status;
}

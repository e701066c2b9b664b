/* PLAN.h5: written by the solver's command, opened by sparsify, push, pull and transition. The layout is in plan.h. */
#define _GNU_SOURCE /* realpath */
#include "plan_impl.h"
#include "io/version.h"
#include "cost_impl.h"
#include "io/write.h"
#include "mpi/memory.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KIND "cellferry plan"

/* ---- paths ---- */

static const char *bare(const char *path) /* "@list.txt" is a list of files */
{
    return path + (path[0] == '@');
}

/* Local. The path with all folders; the path itself where it cannot be found. */
static void absolute(char out[PATH_MAX + 1], const char *path)
{
    char real[PATH_MAX];
    const int list = path[0] == '@';
    if (!realpath(bare(path), real)) snprintf(real, sizeof real, "%s", bare(path));
    snprintf(out, PATH_MAX + 1, "%s%s", list ? "@" : "", real);
}

/* ---- writing ---- */

int64_t ferry_plan_part(int64_t rows, int part, int parts)
{
    return rows / parts * part + rows % parts * part / parts; /* rows * part could be too large */
}

uint64_t ferry_plan_source_fingerprint(const ferry_grid *grid, const ferry_matrix *x)
{
    return grid->col == 0 ? ferry_fingerprint(x, grid->source_first) : 0;
}

uint64_t ferry_plan_target_fingerprint(const ferry_grid *grid, const ferry_matrix *y)
{
    /* every node has a copy of the column's rows; the one with the first rank of the column counts */
    const int first_copy = ferry_min(&grid->sharing, grid->row) == 0;
    return first_copy ? ferry_fingerprint(y, grid->bring_first) : 0;
}

/* One side: its rows are on several ranks (the others of the grid row or column), each of which writes a part. */
struct side {
    const char *group;
    const ferry_population *population;
    const double *potential, *weights; /* from row `held` on */
    int64_t held, first, count;        /* this rank writes rows first ... first + count - 1 */
    uint64_t fingerprint;
};

static const char *below(char path[64], const char *group, const char *name)
{
    snprintf(path, 64, "%s/%s", group, name);
    return path;
}

static ferry_status write_number(ferry_output *output, const char *path, const char *name, double value)
{
    return ferry_output_attribute_number(output, path, name, value);
}

/* Local. The filters, one a line. */
static ferry_status join_where(char **text, const ferry_population_options *options)
{
    int64_t length = 1;
    for (int i = 0; i < options->filters; i++) length += (int64_t)strlen(options->where[i]) + 1;
    FERRY_TRY(ferry_alloc(text, length));
    char *at = *text;
    for (int i = 0; i < options->filters; i++) at += sprintf(at, "%s%s", i ? "\n" : "", options->where[i]);
    return FERRY_OK;
}

static ferry_status describe(ferry_output *output, const ferry_world *world, const struct side *side)
{
    const ferry_population_options *options = &side->population->options;
    char whole[PATH_MAX + 1], print[32];
    FERRY_AUTO char *where = NULL;
    FERRY_TRY(ferry_agree(world, join_where(&where, options)));
    absolute(whole, options->path);
    ferry_broadcast(world, whole, sizeof whole, 0);
    snprintf(print, sizeof print, "%016llx", (unsigned long long)side->fingerprint);
    const char *texts[][2] = {{"path", options->path},
                              {"absolute_path", whole},
                              {"rep", options->rep},
                              {"where", where},
                              {"weights_key", options->weights ? options->weights : ""},
                              {"fingerprint", print}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        FERRY_TRY(ferry_output_attribute_text(output, side->group, texts[i][0], texts[i][1]));
    FERRY_TRY(write_number(output, side->group, "dims", options->dims));
    FERRY_TRY(write_number(output, side->group, "dim", side->population->dim));
    FERRY_TRY(write_number(output, side->group, "cells", (double)side->population->cells));
    return write_number(output, side->group, "file_cells", (double)ferry_file_cells(side->population->file));
}

static ferry_status write_names(ferry_output *output, const ferry_world *world, const struct side *side)
{
    char path[64];
    ferry_names names = {0};
    ferry_status status = ferry_population_names(&names, world, side->population, side->first, side->count);
    if (status == FERRY_OK)
        status =
            ferry_output_texts(output, below(path, side->group, "names"), side->population->cells, side->first, &names);
    ferry_names_close(&names);
    return status;
}

static ferry_status write_side(ferry_output *output, const ferry_world *world, const struct side *side)
{
    char path[64];
    const int64_t skip = side->first - side->held;
    FERRY_TRY(ferry_output_group(output, side->group, NULL, NULL));
    FERRY_TRY(describe(output, world, side));
    FERRY_TRY(ferry_output_array(output, below(path, side->group, "potential"), FERRY_F64, side->population->cells, 0,
                                 side->first, side->count, side->potential + skip));
    FERRY_TRY(ferry_output_array(output, below(path, side->group, "weights"), FERRY_F64, side->population->cells, 0,
                                 side->first, side->count, side->weights + skip));
    return write_names(output, world, side);
}

static ferry_status write_cost(ferry_output *output, const ferry_cost *cost, const char *scale_text)
{
    const ferry_cost_options *options = ferry_cost_options_of(cost);
    char kind[32];
    FERRY_TRY(ferry_output_group(output, "cost", NULL, NULL));
    FERRY_TRY(ferry_output_attribute_text(output, "cost", "kind", ferry_cost_text(kind, options)));
    FERRY_TRY(ferry_output_attribute_text(output, "cost", "scale_cost", scale_text));
    FERRY_TRY(ferry_output_attribute_text(output, "cost", "precision",
                                          options->precision == FERRY_DOUBLE ? "double" : "float"));
    return write_number(output, "cost", "inv_scale", ferry_cost_inv_scale(cost));
}

static ferry_status write_figures(ferry_output *output, const ferry_grid *grid, const ferry_potentials *potentials,
                                  double threshold, int check_every)
{
    const ferry_potentials *p = potentials;
    const struct {
        const char *name;
        double value;
    } figures[] = {{"epsilon", p->epsilon},
                   {"tau_a", p->tau_a},
                   {"tau_b", p->tau_b},
                   {"threshold", threshold},
                   {"iterations", p->iterations},
                   {"passes", p->passes},
                   {"stored_passes", p->stored_passes},
                   {"stored_share", p->stored_share},
                   {"converged", p->converged},
                   {"reg_ot_cost", p->reg_ot_cost},
                   {"transport_cost", p->transport_cost},
                   {"mass", p->mass},
                   {"marginal_error", p->marginal_error},
                   {"dual_gap", p->dual_gap},
                   {"lower_bound", p->lower_bound},
                   {"upper_bound", p->upper_bound},
                   {"row_error", p->row_error},
                   {"row_error_max", p->row_error_max},
                   {"column_error", p->column_error},
                   {"column_error_max", p->column_error_max},
                   {"coarse_sources", (double)p->coarse[0]},
                   {"coarse_targets", (double)p->coarse[1]},
                   {"estimated", p->estimated},
                   {"independence", p->independence}};
    FERRY_TRY(ferry_output_attribute_text(output, "/", "kind", KIND));
    FERRY_TRY(ferry_output_attribute_text(output, "/", "version", CELLFERRY_VERSION));
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        FERRY_TRY(write_number(output, "/", figures[i].name, figures[i].value));
    const int64_t mine = grid->world->rank == 0 ? p->checks : 0;
    FERRY_TRY(ferry_output_array(output, "errors", FERRY_F64, p->checks, 0, 0, mine, p->errors));
    return write_number(output, "errors", "check_every", check_every);
}

static ferry_status write_all(ferry_output *output, const ferry_grid *grid, const struct side sides[2],
                              const ferry_cost *cost, const char *scale_text, const ferry_potentials *potentials,
                              double threshold, int check_every, const char *record_json)
{
    FERRY_TRY(write_figures(output, grid, potentials, threshold, check_every));
    FERRY_TRY(write_cost(output, cost, scale_text));
    for (int i = 0; i < 2; i++) FERRY_TRY(write_side(output, grid->world, &sides[i]));
    FERRY_TRY(ferry_output_group(output, "uns", NULL, NULL));
    FERRY_TRY(ferry_output_group(output, "uns/cellferry", NULL, NULL));
    return ferry_output_text(output, "uns/cellferry/record", record_json);
}

ferry_status ferry_plan_write(const char *path, bool overwrite, const ferry_grid *grid, const ferry_population *source,
                              const ferry_population *target, const ferry_cost *cost, const char *scale_text,
                              const ferry_potentials *potentials, const double *a, const double *b,
                              uint64_t source_fingerprint, uint64_t target_fingerprint, double threshold,
                              int check_every, const char *record_json)
{
    int64_t from[2] = {ferry_plan_part(grid->source_rows, grid->col, grid->cols),
                       ferry_plan_part(grid->target_rows, grid->row, grid->rows)};
    int64_t to[2] = {ferry_plan_part(grid->source_rows, grid->col + 1, grid->cols),
                     ferry_plan_part(grid->target_rows, grid->row + 1, grid->rows)};
    const struct side sides[2] = {{"source", source, potentials->f, a, grid->source_first, grid->source_first + from[0],
                                   to[0] - from[0], source_fingerprint},
                                  {"target", target, potentials->g, b, grid->target_first, grid->target_first + from[1],
                                   to[1] - from[1], target_fingerprint}};
    ferry_output *output = NULL;
    FERRY_TRY(ferry_output_open(&output, grid->world, path, overwrite));
    ferry_status status = write_all(output, grid, sides, cost, scale_text, potentials, threshold, check_every,
                                    record_json ? record_json : "{}");
    if (status != FERRY_OK) {
        ferry_output_discard(&output);
        return status;
    }
    return ferry_output_finish(&output);
}

/* ---- opening ---- */

/* What the file says of one side. */
struct origin {
    char *path, *whole, *rep, *where, *weights, *fingerprint;
    double dims, dim, cells, file_cells;
    const char **filters;       /* [count] into where */
    char place[PATH_MAX + 1];   /* where the input was found */
    char missing[PATH_MAX + 1]; /* the first place that was tried */
};
struct texts {
    struct origin side[2];
};

static const char *const side_name[2] = {"source", "target"};

static void free_texts(struct texts *texts)
{
    for (int i = 0; texts && i < 2; i++) {
        struct origin *o = &texts->side[i];
        free(o->path);
        free(o->whole);
        free(o->rep);
        free(o->where);
        free(o->weights);
        free(o->fingerprint);
        free(o->filters);
    }
    free(texts);
}

/* Local. The lines of where, cut in place. */
static ferry_status split_where(struct origin *o, int *filters)
{
    int count = o->where[0] != '\0';
    for (const char *at = o->where; *at; at++) count += *at == '\n';
    FERRY_TRY(ferry_alloc(&o->filters, count));
    char *at = o->where;
    for (int i = 0; i < count; i++) {
        o->filters[i] = at;
        at += strcspn(at, "\n");
        if (*at) *at++ = '\0';
    }
    *filters = count;
    return FERRY_OK;
}

static ferry_status read_side(ferry_population_options *options, struct origin *o, ferry_stored *stored,
                              const char *group)
{
    struct {
        const char *name;
        char **text;
    } texts[] = {{"path", &o->path},   {"absolute_path", &o->whole}, {"rep", &o->rep},
                 {"where", &o->where}, {"weights_key", &o->weights}, {"fingerprint", &o->fingerprint}};
    struct {
        const char *name;
        double *value;
    } numbers[] = {{"dims", &o->dims}, {"dim", &o->dim}, {"cells", &o->cells}, {"file_cells", &o->file_cells}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        FERRY_TRY(ferry_stored_attribute_text(texts[i].text, stored, group, texts[i].name));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        FERRY_TRY(ferry_stored_attribute_number(numbers[i].value, stored, group, numbers[i].name));
    FERRY_TRY(split_where(o, &options->filters));
    options->rep = o->rep;
    options->dims = (int)o->dims;
    options->where = o->filters;
    options->weights = o->weights[0] ? o->weights : NULL;
    return FERRY_OK;
}

ferry_status ferry_plan_kind(ferry_stored *stored, const char *path)
{
    FERRY_AUTO char *kind = NULL;
    ferry_status status = ferry_stored_attribute_text(&kind, stored, "/", "kind");
    if (status == FERRY_E_MEM) return status;
    if (status == FERRY_OK && strcmp(kind, KIND) == 0) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "%s: not a plan (its attribute 'kind' is not '" KIND "'); give a file that "
                      "'cellferry transport' wrote",
                      path);
}

static ferry_status read_cost(ferry_plan *plan)
{
    FERRY_AUTO char *kind = NULL, *precision = NULL;
    plan->cost = (ferry_cost_options)FERRY_COST_DEFAULTS;
    FERRY_TRY(ferry_stored_attribute_text(&kind, plan->stored, "cost", "kind"));
    FERRY_TRY(ferry_stored_attribute_text(&precision, plan->stored, "cost", "precision"));
    FERRY_TRY(ferry_stored_attribute_number(&plan->inv_scale, plan->stored, "cost", "inv_scale"));
    FERRY_TRY(ferry_cost_parse(&plan->cost, kind));
    plan->cost.scale = FERRY_SCALE_NUMBER;
    plan->cost.scale_number = 1 / plan->inv_scale;
    plan->cost.precision = strcmp(precision, "double") == 0 ? FERRY_DOUBLE : FERRY_FLOAT;
    return FERRY_OK;
}

static ferry_status read_figures(ferry_plan *plan)
{
    double converged = 0;
    FERRY_TRY(ferry_stored_attribute_number(&plan->epsilon, plan->stored, "/", "epsilon"));
    FERRY_TRY(ferry_stored_attribute_number(&plan->tau_a, plan->stored, "/", "tau_a"));
    FERRY_TRY(ferry_stored_attribute_number(&plan->tau_b, plan->stored, "/", "tau_b"));
    FERRY_TRY(ferry_stored_attribute_number(&converged, plan->stored, "/", "converged"));
    plan->converged = converged != 0;
    if (!(plan->epsilon > 0) || !isfinite(plan->inv_scale) || !(plan->inv_scale > 0))
        return ferry_fail(FERRY_E_FILE, "%s: epsilon %g and inv_scale %g must be positive; solve again", plan->path,
                          plan->epsilon, plan->inv_scale);
    return FERRY_OK;
}

/* Local. The potentials are as long as the sides: ranges can then be read without looking. */
static ferry_status check_lengths(ferry_plan *plan, const struct texts *texts)
{
    char path[64];
    for (int i = 0; i < 2; i++) {
        int64_t rows = 0;
        FERRY_TRY(ferry_stored_shape(&rows, NULL, plan->stored, below(path, side_name[i], "potential")));
        if ((double)rows != texts->side[i].cells)
            return ferry_fail(FERRY_E_FILE, "%s: /%s has %lld values for %.0f cells; the file is damaged, solve again",
                              plan->path, path, (long long)rows, texts->side[i].cells);
    }
    return FERRY_OK;
}

/* Local. Everything that stands in the plan itself. */
static ferry_status read_plan(ferry_plan *plan, ferry_population_options options[2], const char *path)
{
    struct texts *texts = NULL;
    FERRY_TRY(ferry_alloc(&plan->path, (int64_t)strlen(path) + 1));
    memcpy(plan->path, path, strlen(path) + 1);
    FERRY_TRY(ferry_alloc(&texts, 1));
    plan->texts = texts;
    FERRY_TRY(ferry_stored_open(&plan->stored, path));
    FERRY_TRY(ferry_plan_kind(plan->stored, path));
    FERRY_TRY(read_cost(plan));
    FERRY_TRY(read_figures(plan));
    for (int i = 0; i < 2; i++) FERRY_TRY(read_side(&options[i], &texts->side[i], plan->stored, side_name[i]));
    plan->source_fingerprint = strtoull(texts->side[0].fingerprint, NULL, 16);
    plan->target_fingerprint = strtoull(texts->side[1].fingerprint, NULL, 16);
    return check_lengths(plan, texts);
}

static bool try_place(char place[PATH_MAX + 1], const char *folder, int folder_length, const char *path)
{
    const int length =
        snprintf(place, PATH_MAX + 1, "%s%.*s%s", path[0] == '@' ? "@" : "", folder_length, folder, bare(path));
    return length <= PATH_MAX && access(bare(place), R_OK) == 0;
}

/* Local, rank 0. As given, then by its absolute path, then beside the plan (by the path as given, then by name). */
static bool find_input(struct origin *o, const char *plan_path)
{
    const char *slash = strrchr(plan_path, '/');
    const int folder = slash ? (int)(slash - plan_path) + 1 : 0;
    const char *base = strrchr(o->path, '/');
    char name[PATH_MAX + 1];
    snprintf(name, sizeof name, "%s%s", o->path[0] == '@' ? "@" : "", base ? base + 1 : bare(o->path));
    snprintf(o->missing, sizeof o->missing, "%s", o->path);
    return try_place(o->place, "", 0, o->path) || try_place(o->place, "", 0, o->whole) ||
           (bare(o->path)[0] != '/' && try_place(o->place, plan_path, folder, o->path)) ||
           try_place(o->place, plan_path, folder, name);
}

/* Local. */
static ferry_status find_inputs(ferry_plan *plan, const ferry_world *world)
{
    struct texts *texts = plan->texts;
    for (int i = 0; world->rank == 0 && i < 2; i++) {
        struct origin *o = &texts->side[i];
        if (!find_input(o, plan->path))
            return ferry_fail(FERRY_E_FILE,
                              "%s: its %s is not found, neither as '%s' nor as '%s' nor beside the plan; move it to "
                              "one of these places",
                              plan->path, side_name[i], bare(o->path), bare(o->whole));
    }
    return FERRY_OK;
}

static ferry_status check_side(const ferry_plan *plan, const ferry_population *population, int i)
{
    const struct origin *o = &((struct texts *)plan->texts)->side[i];
    const struct {
        const char *what;
        double now, then;
    } figures[] = {{"cells in the file", (double)ferry_file_cells(population->file), o->file_cells},
                   {"cells that the filters keep", (double)population->cells, o->cells},
                   {"columns of the representation", population->dim, o->dim}};
    for (size_t k = 0; k < sizeof figures / sizeof *figures; k++)
        if (figures[k].now != figures[k].then)
            return ferry_fail(FERRY_E_FILE,
                              "%s: the %s %s changed since: %s are %.0f now, %.0f then; solve again, or give back the "
                              "file as it was",
                              plan->path, side_name[i], o->place, figures[k].what, figures[k].now, figures[k].then);
    return FERRY_OK;
}

static ferry_status open_side(ferry_plan *plan, const ferry_world *world, ferry_population_options *options, int i)
{
    struct origin *o = &((struct texts *)plan->texts)->side[i];
    ferry_population *population = i ? &plan->target : &plan->source;
    ferry_broadcast(world, o->place, sizeof o->place, 0);
    options->path = o->place;
    ferry_status status = ferry_population_open(population, world, options);
    if (status != FERRY_OK) { /* the same text on all ranks */
        char why[FERRY_ERROR_TEXT];
        snprintf(why, sizeof why, "%s", ferry_error());
        return ferry_fail(status, "%s: its %s cannot be opened again: %.1800s", plan->path, side_name[i], why);
    }
    return ferry_agree(world, check_side(plan, population, i));
}

ferry_status ferry_plan_open(ferry_plan *out, const ferry_world *world, const char *path)
{
    memset(out, 0, sizeof *out);
    ferry_population_options options[2] = {{0}, {0}};
    ferry_status status = ferry_agree(world, read_plan(out, options, path));
    if (status == FERRY_OK) status = ferry_agree(world, find_inputs(out, world));
    for (int i = 0; status == FERRY_OK && i < 2; i++) status = open_side(out, world, &options[i], i);
    if (status != FERRY_OK) ferry_plan_close(out);
    return status;
}

void ferry_plan_close(ferry_plan *plan)
{
    ferry_population_close(&plan->target);
    ferry_population_close(&plan->source);
    ferry_stored_close(&plan->stored);
    free_texts(plan->texts);
    free(plan->path);
    memset(plan, 0, sizeof *plan);
}

static ferry_status potentials_of(double *out, ferry_plan *plan, const char *path, int64_t first, int64_t count)
{
    return count > 0 ? ferry_stored_numbers(out, plan->stored, path, first, count) : FERRY_OK;
}

ferry_status ferry_plan_source_potentials(double *out, ferry_plan *plan, int64_t first, int64_t count)
{
    return potentials_of(out, plan, "source/potential", first, count);
}

ferry_status ferry_plan_target_potentials(double *out, ferry_plan *plan, int64_t first, int64_t count)
{
    return potentials_of(out, plan, "target/potential", first, count);
}

ferry_status ferry_plan_same(const ferry_world *world, const ferry_plan *plan, bool target, uint64_t mine)
{
    const uint64_t now = (uint64_t)ferry_total(world, (int64_t)mine);
    const uint64_t then = target ? plan->target_fingerprint : plan->source_fingerprint;
    const ferry_population *population = target ? &plan->target : &plan->source;
    if (now == then) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "%s: the %s changed since: the values of %s in %s are not those of the solve (fingerprint "
                      "%016llx now, %016llx then); solve again, or give back the file as it was",
                      plan->path, side_name[target], population->options.rep, population->options.path,
                      (unsigned long long)now, (unsigned long long)then);
}

/* cmd_transition.c - `cellferry transition`: mass between groups of cells, as a CSV table; or between cells and groups,
 * as AnnData. */
#include "progress.h"
#include "record.h"
#include "stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct transition_options {
    common_options common;
    const char *source_key, *target_key;
    int direction, aggregation;
    bool no_normalize;
} transition_options;

enum { FORWARD, BACKWARD };
enum { ANNOTATION, CELL };

#define AT(field) offsetof(transition_options, field)

static const cli_option table[] = {
    {"source-key", 0, OPTION_TEXT, "OBS", AT(source_key), "(needed, but for forward with cell)", NULL,
     "obs column with the groups of the source"},
    {"target-key", 0, OPTION_TEXT, "OBS", AT(target_key), "(needed, but for backward with cell)", NULL,
     "obs column with the groups of the target"},
    {"direction", 0, OPTION_CHOICE, "forward|backward", AT(direction), "forward", NULL,
     "forward: where each source group goes (rows sum to 1); backward: where each target group comes from (columns sum "
     "to 1)"},
    {"aggregation", 0, OPTION_CHOICE, "annotation|cell", AT(aggregation), "annotation", NULL,
     "annotation: groups x groups as CSV; cell: each cell x groups of the other side as .h5ad"},
    {"no-normalize", 0, OPTION_FLAG, NULL, AT(no_normalize), NULL, NULL,
     "mass per cell of the group instead of shares that sum to 1"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

static void csv_text(json *out, const char *text)
{
    bool quote = strpbrk(text, ",\"\n\r") != NULL;
    if (quote) text_put(out, "\"", 1);
    for (const char *c = text; *c; c++) {
        if (*c == '"') text_put(out, "\"", 1);
        text_put(out, c, 1);
    }
    if (quote) text_put(out, "\"", 1);
}

/* The table as CSV: the first column and the first line are the groups. */
static ferry_status csv(json *out, const double *values, const ferry_names *rows, const ferry_names *columns)
{
    char number[40];
    for (int64_t j = 0; j < columns->count; j++) {
        text_put(out, ",", 1);
        csv_text(out, ferry_name(columns, j));
    }
    text_put(out, "\n", 1);
    for (int64_t i = 0; i < rows->count; i++) {
        csv_text(out, ferry_name(rows, i));
        for (int64_t j = 0; j < columns->count; j++)
            text_put(out, number, (size_t)snprintf(number, sizeof number, ",%.9g", values[i * columns->count + j]));
        text_put(out, "\n", 1);
    }
    return out->failed ? ferry_fail(FERRY_E_MEM, "out of memory while writing the table") : FERRY_OK;
}

static ferry_transition_options library_options(const stream *s, const transition_options *o)
{
    ferry_transition_options options = FERRY_TRANSITION_DEFAULTS;
    options.backward = o->direction == BACKWARD;
    options.cells = o->aggregation == CELL;
    options.normalize = !o->no_normalize;
    options.batch = o->common.batch;
    options.memory = s->room;
    options.grid_rows = s->layout.grid_rows;
    options.grid_cols = s->layout.grid_cols;
    return options;
}

/* Collective. The categories that the library will use, so that X can be made before the first cells come. */
static ferry_status group_names(ferry_names *out, stream *s, const ferry_population *side, const char *key)
{
    ferry_labels labels = {0};
    ferry_status status = ferry_read_labels(&labels, &s->program->world, side->file, key, NULL, 0);
    if (status == FERRY_OK) {
        *out = labels.categories;
        labels.categories = (ferry_names){0};
    }
    ferry_labels_close(&labels);
    return status;
}

/* Collective. Groups are carried from the target to the source, all at once; backward by cells the other way. */
static ferry_status settle(stream *s, const transition_options *o)
{
    const bool push = o->direction == BACKWARD && o->aggregation == CELL;
    ferry_names names = {0};
    ferry_status status =
        group_names(&names, s, push ? &s->plan.source : &s->plan.target, push ? o->source_key : o->target_key);
    const stream_needs needs = stream_column_needs(s, !push, names.count, 1);
    ferry_names_close(&names);
    FERRY_TRY(status);
    return stream_settle(s, &needs);
}

/* Collective. */
static ferry_status groups(stream *s, const transition_options *o)
{
    const ferry_world *world = &s->program->world;
    const ferry_transition_options options = library_options(s, o);
    FERRY_AUTO double *values = NULL;
    ferry_names rows = {0}, columns = {0};
    json text = {0};
    ferry_status status =
        ferry_transition(&values, &rows, &columns, &s->plan, world, o->source_key, o->target_key, &options);
    if (status == FERRY_OK) {
        watch_stage("write");
        json_count(&s->program->figures, "source_groups", rows.count);
        json_count(&s->program->figures, "target_groups", columns.count);
        status = ferry_agree(world, world->rank == 0 ? csv(&text, values, &rows, &columns) : FERRY_OK);
    }
    if (status == FERRY_OK)
        status = ferry_text_write(world, o->common.output, o->common.overwrite, text.text, text.length);
    if (status == FERRY_OK && world->rank == 0 && !o->common.json) {
        progress_end();
        printf("table    %lld source groups (%s) x %lld target groups (%s), %s\n", (long long)rows.count, o->source_key,
               (long long)columns.count, o->target_key,
               options.backward ? "backward: columns are where a target group comes from"
                                : "forward: rows are where a source group goes");
        stream_summary(s);
    }
    json_close(&text);
    ferry_names_close(&rows);
    ferry_names_close(&columns);
    return status;
}

typedef struct cell_writer {
    ferry_output *output;
    int64_t cells;
    bool made;
} cell_writer;

/* Collective. X is made when the first cells tell how many groups have any. */
static ferry_status write_cells(void *self, int64_t first, int64_t count, int64_t columns, const double *rows)
{
    cell_writer *writer = self;
    if (!writer->made) FERRY_TRY(ferry_output_create(writer->output, "X", FERRY_F64, writer->cells, columns));
    writer->made = true;
    return ferry_output_rows(writer->output, "X", first, count, rows);
}

/* Collective. Cells of one side x groups of the other. */
static ferry_status cells(stream *s, const transition_options *o)
{
    const ferry_world *world = &s->program->world;
    const ferry_transition_options options = library_options(s, o);
    const ferry_population *mine = options.backward ? &s->plan.target : &s->plan.source;
    const char *key = options.backward ? o->source_key : o->target_key;
    ferry_names names = {0};
    ferry_status status = stream_output(s, mine);
    cell_writer writer = {s->output, mine->cells, false};
    if (status == FERRY_OK)
        status = ferry_transition_cells(&names, &s->plan, world, key, &options, write_cells, &writer);
    if (status == FERRY_OK) status = stream_var_names(s, &names);
    json_count(&s->program->figures, "groups", names.count);
    if (status == FERRY_OK) status = stream_finish(s, "cellferry transition");
    if (status == FERRY_OK && world->rank == 0 && !o->common.json) {
        printf("table    %lld %s cells x %lld groups (%s)\n", (long long)mine->cells,
               options.backward ? "target" : "source", (long long)names.count, key);
        stream_summary(s);
    }
    ferry_names_close(&names);
    return status;
}

static ferry_status check(const transition_options *o)
{
    bool groups_only = o->aggregation == ANNOTATION;
    if (!o->source_key && (groups_only || o->direction == BACKWARD))
        return ferry_fail(FERRY_E_ARG, "transition needs --source-key OBS: the column with the groups of the source");
    if (!o->target_key && (groups_only || o->direction == FORWARD))
        return ferry_fail(FERRY_E_ARG, "transition needs --target-key OBS: the column with the groups of the target");
    return FERRY_OK;
}

/* Collective. */
static ferry_status work(stream *s, cli_program *program, const transition_options *o)
{
    FERRY_TRY(ferry_agree(&program->world, check(o)));
    FERRY_TRY(stream_open(s, program));
    FERRY_TRY(settle(s, o));
    if (o->common.plan) {
        stream_describe(s);
        return FERRY_OK;
    }
    return o->aggregation == CELL ? cells(s, o) : groups(s, o);
}

static ferry_status run_transition(cli_program *program, const void *options)
{
    stream s = {0};
    ferry_status status = work(&s, program, options);
    stream_close(&s);
    return status;
}

const cli_command command_transition = {
    .name = "transition",
    .line = "how much mass goes from each group of cells to each: TABLE.csv",
    .usage = "PLAN.h5 --source-key OBS --target-key OBS -o TABLE.csv",
    .text = "Sums the plan over groups of cells, in the order of the categories; cells without a label are left out. "
            "'cellferry plot TABLE.csv' draws it.",
    .example = "cellferry transition plan.h5 --source-key cell_type --target-key cell_type -o table.csv\n"
               "cellferry transition plan.h5 --target-key cell_type --aggregation cell -o fates.h5ad",
    .options = table,
    .absent = stream_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(transition_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_transition};

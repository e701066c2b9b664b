/* cmd_push.c - `cellferry push` and `cellferry pull`: values of the cells of one side, carried to the other. */
#include "columns.h"
#include "stream.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct push_options {
    common_options common;
    const char *values;
    bool normalize, scale_by_marginals;
} push_options;

#define AT(field) offsetof(push_options, field)

static const cli_option table[] = {
    {"values", 0, OPTION_TEXT, "V", AT(values), "ones", NULL,
     "what is carried: ones, obs:COLUMN (numbers; a category as one column each), obs:COLUMN=VALUE, obsm:KEY, X or "
     "layers/NAME"},
    {"normalize", 0, OPTION_FLAG, NULL, AT(normalize), NULL, NULL,
     "divide each column by its sum before it is carried"},
    {"scale-by-marginals", 0, OPTION_FLAG, NULL, AT(scale_by_marginals), NULL, NULL,
     "divide the values by the plan's own marginal of the side they come from (moscot's temporal problems have both "
     "on)"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

typedef struct block_writer {
    const ferry_world *world;
    ferry_output *output;
} block_writer;

static ferry_status to_float(float **out, const double *values, int64_t count)
{
    FERRY_TRY(ferry_alloc(out, count));
    for (int64_t i = 0; i < count; i++) (*out)[i] = (float)values[i];
    return FERRY_OK;
}

/* Collective; see ferry_apply. In slices, so that the float copy stays small. */
static ferry_status write_block(void *self, int64_t first, int64_t count, int64_t column, int64_t width,
                                const double *values)
{
    const block_writer *writer = self;
    const int64_t slice = 1 + (4 << 20) / (width > 0 ? width : 1);
    const int64_t slices = ferry_max(writer->world, (count + slice - 1) / slice);
    for (int64_t k = 0; k < slices; k++) {
        int64_t at = k * slice < count ? k * slice : count, rows = count - at < slice ? count - at : slice;
        FERRY_AUTO float *part = NULL;
        FERRY_TRY(ferry_agree(writer->world, to_float(&part, values + at * width, rows * width)));
        FERRY_TRY(ferry_output_block(writer->output, "X", first + at, rows, column, width, part));
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status carry(stream *s, columns *from, const push_options *o, const ferry_apply_options *options)
{
    const ferry_population *to = options->pull ? &s->plan.source : &s->plan.target;
    FERRY_TRY(stream_output(s, to));
    FERRY_TRY(stream_var_names(s, &from->names));
    FERRY_TRY(ferry_output_create(s->output, "X", FERRY_F32, to->cells, from->names.count));
    block_writer writer = {&s->program->world, s->output};
    FERRY_TRY(ferry_apply(&s->plan, &s->program->world, options, &from->values, write_block, &writer));
    json_count(&s->program->figures, "columns", from->names.count);
    FERRY_TRY(stream_finish(s, options->pull ? "cellferry pull" : "cellferry push"));
    if (s->program->world.rank != 0 || o->common.json) return FERRY_OK;
    printf("%-8s %lld column%s of %s for %lld cells of the %s\n", options->pull ? "pulled" : "pushed",
           (long long)from->names.count, from->names.count == 1 ? "" : "s", o->values, (long long)to->cells,
           options->pull ? "source" : "target");
    stream_summary(s);
    return FERRY_OK;
}

/* Collective. */
static ferry_status work(stream *s, columns *from, cli_program *program, const push_options *o, bool pull)
{
    FERRY_TRY(stream_open(s, program));
    FERRY_TRY(columns_open(from, &program->world, pull ? &s->plan.target : &s->plan.source, o->values));
    const stream_needs needs = stream_column_needs(s, pull, 1, o->scale_by_marginals ? 2 : 1);
    FERRY_TRY(stream_settle(s, &needs));
    if (o->common.plan) {
        stream_describe(s);
        return FERRY_OK;
    }
    ferry_apply_options options = FERRY_APPLY_DEFAULTS;
    options.pull = pull;
    options.normalize = o->normalize;
    options.scale_by_marginals = o->scale_by_marginals;
    options.batch = o->common.batch;
    options.memory = s->room;
    options.grid_rows = s->layout.grid_rows;
    options.grid_cols = s->layout.grid_cols;
    return carry(s, from, o, &options);
}

static ferry_status run(cli_program *program, const push_options *o, bool pull)
{
    stream s = {0};
    columns from = {0};
    ferry_status status = work(&s, &from, program, o, pull);
    columns_close(&from);
    stream_close(&s);
    return status;
}

static ferry_status run_push(cli_program *program, const void *options)
{
    return run(program, options, false);
}

static ferry_status run_pull(cli_program *program, const void *options)
{
    return run(program, options, true);
}

const cli_command command_push = {
    .name = "push",
    .line = "carry values from source cells to target cells: OUT.h5ad",
    .usage = "PLAN.h5 --values V -o OUT.h5ad",
    .text =
        "Multiplies the transposed plan with columns of the source cells, without storing the plan. OUT.h5ad has one "
        "row per target cell; X holds the carried columns, var their names.",
    .example = "cellferry push plan.h5 --values obs:cell_type -o fates.h5ad\n"
               "mpirun -n 4 cellferry push plan.h5 --values X --normalize --scale-by-marginals -o expression.h5ad",
    .options = table,
    .absent = stream_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(push_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_push};

const cli_command command_pull = {
    .name = "pull",
    .line = "carry values from target cells back to source cells: OUT.h5ad",
    .usage = "PLAN.h5 --values V -o OUT.h5ad",
    .text = "Multiplies the plan with columns of the target cells, without storing the plan. OUT.h5ad has one row per "
            "source cell; X holds the carried columns, var their names.",
    .example = "cellferry pull plan.h5 --values obs:cell_type=Monocyte -o ancestors.h5ad\n"
               "mpirun -n 4 cellferry pull plan.h5 --values obsm:X_umap --scale-by-marginals -o umap.h5ad",
    .options = table,
    .absent = stream_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(push_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_pull};

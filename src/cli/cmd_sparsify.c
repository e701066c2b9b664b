/* cmd_sparsify.c - `cellferry sparsify`: the plan's large entries as a CSR coupling, by row blocks. */
#include "progress.h"
#include "stream.h"
#include <math.h>
#include <stdio.h>

typedef struct sparsify_options {
    common_options common;
    int mode;
    double value;
    int64_t max_k, n_samples;
} sparsify_options;

#define AT(field) offsetof(sparsify_options, field)

static const cli_option table[] = {
    {"mode", 0, OPTION_CHOICE, "mass|threshold|percentile|min_row", AT(mode), "mass", NULL,
     "mass: per row the largest entries that hold --value of its mass; threshold: entries of at least --value; "
     "percentile: of at least the --value-th percentile of sampled rows; min_row: of at least the smallest row "
     "maximum, "
     "so that every row with mass keeps one"},
    {"value", 0, OPTION_NUMBER, "NUMBER", AT(value), "(0.99 for mass; threshold and percentile need one)", NULL,
     "of the mode: a share of mass in (0, 1], an entry, or a percentile in [0, 100]"},
    {"max-k", 0, OPTION_COUNT, "N", AT(max_k), "(no limit)", "entries", "at most so many entries of a row; mass only"},
    {"n-samples", 0, OPTION_COUNT, "N", AT(n_samples), "1024", "rows", "sample of percentile"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

/* Rows and their masses go into the result; that is a stage of its own, between those of the passes. */
typedef struct coupling {
    ferry_output *output;
    ferry_sink rows;
} coupling;

/* Collective. */
static ferry_status write_rows(void *self, const ferry_rows *rows)
{
    const coupling *to = self;
    watch_stage("write");
    return to->rows.take(to->rows.self, rows);
}

/* Collective, after write_rows: blocks of all ranks together are the next rows. */
static ferry_status write_masses(void *self, int64_t first, int64_t count, const double *mass, const double *kept)
{
    const coupling *to = self;
    FERRY_TRY(ferry_output_rows(to->output, "obs/mass", first, count, mass));
    FERRY_TRY(ferry_output_rows(to->output, "obs/kept_mass", first, count, kept));
    watch_stage("passes");
    return FERRY_OK;
}

/* Collective. */
static ferry_status sparsify(ferry_sparsify_result *result, stream *s, const ferry_sparsify_options *options)
{
    watch_stage("write");
    FERRY_TRY(stream_output(s, &s->plan.source));
    FERRY_TRY(stream_var_cells(s, &s->plan.target));
    FERRY_TRY(ferry_output_column_create(s->output, "obs", "mass", FERRY_F64));
    FERRY_TRY(ferry_output_column_create(s->output, "obs", "kept_mass", FERRY_F64));
    coupling to = {.output = s->output};
    FERRY_TRY(ferry_output_csr_open(&to.rows, s->output, "X", s->plan.source.cells, s->plan.target.cells));
    const ferry_sink sink = {write_rows, &to};
    watch_stage("passes");
    FERRY_TRY(ferry_sparsify(result, &s->plan, &s->program->world, options, &sink, write_masses, &to));
    watch_stage("write");
    return ferry_output_csr_finish(&to.rows);
}

static void report(const stream *s, const sparsify_options *o, const ferry_sparsify_result *result)
{
    char mode[32];
    double rows = (double)s->plan.source.cells, columns = (double)s->plan.target.cells;
    input_print("source", &s->plan.source);
    input_print("target", &s->plan.target);
    printf("coupling %lld entries, %.4g a row, %.3g %% of the matrix; mode %s\n", (long long)result->nonzeros,
           (double)result->nonzeros / rows, 100 * (double)result->nonzeros / rows / columns,
           choice_name(mode, table[0].metavar, o->mode));
    if (o->mode != FERRY_SPARSIFY_MASS) printf("         entries of at least %.6g\n", result->threshold);
    printf("kept     %.6g of mass %.6g (%.4g %%)\n", result->kept_mass, result->mass,
           result->mass > 0 ? 100 * result->kept_mass / result->mass : 0.0);
    stream_summary(s);
}

static void record(json *out, const ferry_sparsify_result *result)
{
    json_count(out, "nonzeros", result->nonzeros);
    json_count(out, "massless_rows", result->massless);
    json_number(out, "threshold", result->threshold);
    json_number(out, "mass", result->mass);
    json_number(out, "kept_mass", result->kept_mass);
}

/* Kept entries wait for the writer, at most all of a row; the writer keeps some 2 million of them. */
static stream_needs needs_of(const stream *s, const ferry_sparsify_options *options)
{
    const int64_t columns = s->plan.target.cells, entry = 12, most_writer = (int64_t)36 << 20;
    const double all = 3.0 * (double)entry * (double)columns * (double)s->plan.source.cells;
    const int64_t writer = all < (double)most_writer ? (int64_t)all : most_writer;
    const int64_t most = options->max_k > 0 && options->max_k < columns ? options->max_k : columns;
    const bool twice = options->mode == FERRY_SPARSIFY_PERCENTILE || options->mode == FERRY_SPARSIFY_MIN_ROW;
    return (stream_needs){.row = 2 * most * entry,
                          .thread = 2 * FERRY_SOURCE_UNIT * most * entry + 40 * columns,
                          .fixed = 4 * columns + writer,
                          .passes = twice ? 2 : 1};
}

/* Collective. */
static ferry_status work(stream *s, cli_program *program, const sparsify_options *o)
{
    ferry_sparsify_options options = FERRY_SPARSIFY_DEFAULTS;
    ferry_sparsify_result result = {0};
    options.mode = (ferry_sparsify_mode)o->mode;
    options.value = isnan(o->value) && options.mode == FERRY_SPARSIFY_MASS ? 0.99 : o->value;
    options.max_k = o->max_k;
    options.n_samples = o->n_samples;
    options.seed = (uint64_t)o->common.seed;
    FERRY_TRY(ferry_agree(&program->world, ferry_sparsify_check(&options)));
    FERRY_TRY(stream_open(s, program));
    const stream_needs needs = needs_of(s, &options);
    FERRY_TRY(stream_settle(s, &needs));
    if (o->common.plan) {
        stream_describe(s);
        return FERRY_OK;
    }
    options.batch = o->common.batch;
    options.memory = s->room;
    options.grid_rows = s->layout.grid_rows;
    options.grid_cols = s->layout.grid_cols;
    FERRY_TRY(sparsify(&result, s, &options));
    record(&program->figures, &result);
    FERRY_TRY(stream_finish(s, "cellferry coupling"));
    if (program->world.rank != 0) return FERRY_OK;
    if (result.massless)
        ferry_log(&program->world, FERRY_WARN, "%lld source cells have no mass: their rows are empty",
                  (long long)result.massless);
    if (!o->common.json) report(s, o, &result);
    return FERRY_OK;
}

static ferry_status run_sparsify(cli_program *program, const void *options)
{
    stream s = {0};
    ferry_status status = work(&s, program, options);
    stream_close(&s);
    return status;
}

const cli_command command_sparsify = {
    .name = "sparsify",
    .line = "the large entries of a plan as a sparse coupling: COUPLING.h5ad",
    .usage = "PLAN.h5 -o COUPLING.h5ad",
    .text =
        "Writes the plan of PLAN.h5 without its small entries: X is the coupling in CSR form, source cells x target "
        "cells, float32; obs/mass the row sums of the plan, obs/kept_mass of what was kept. Entries are not "
        "renormalised. Rows are done in blocks; their size never changes the result. The inputs of the plan have to "
        "be where they were.",
    .example = "cellferry sparsify plan.h5 -o coupling.h5ad --value 0.99 --max-k 50\n"
               "mpirun -n 8 cellferry sparsify plan.h5 -o coupling.h5ad --mode threshold --value 1e-7 --memory 2G",
    .options = table,
    .absent = stream_absent,
    .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
    .size = sizeof(sparsify_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_sparsify};

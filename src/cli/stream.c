/* stream.c - see stream.h. */
#include "stream.h"
#include "progress.h"
#include "record.h"
#include <stdio.h>

#define MOST_ROOM ((int64_t)2 << 30) /* more than this in buffers makes nothing faster */

const absent_option stream_absent[] = {
    {"checkpoint", "this version writes no checkpoints; run the command again"},
    {"checkpoint-every", "this version writes no checkpoints; run the command again"},
    {"resume", "this version writes no checkpoints; run the command again"},
    {"gpu-memory", "this build has no GPU part; --memory bounds what a rank takes"},
    {NULL, NULL}};

ferry_status stream_open(stream *out, cli_program *program)
{
    const ferry_world *world = &program->world;
    out->program = program;
    watch_stage("open");
    FERRY_TRY(output_check(program));
    FERRY_TRY(ferry_plan_open(&out->plan, world, program->input[0]));
    out->plan.cost.kernels = program->kernels;
    out->plan.cost.threads = program->threads;
    input_record(&program->inputs_json, "source", &out->plan.source, out->plan.source_fingerprint);
    input_record(&program->inputs_json, "target", &out->plan.target, out->plan.target_fingerprint);
    if (!out->plan.converged && world->rank == 0)
        ferry_log(world, FERRY_WARN, "%s is marked converged=false: its marginals are not reached yet", out->plan.path);
    return FERRY_OK;
}

ferry_status stream_settle(stream *s, const stream_needs *needs)
{
    cli_program *program = s->program;
    const ferry_world *world = &program->world;
    const ferry_machine machine = machine_of(program);
    const ferry_work work = {.cost = &s->plan.cost,
                             .dim = s->plan.source.dim,
                             .sources = s->plan.source.cells,
                             .targets = s->plan.target.cells,
                             .stream = true,
                             .row_bytes = needs->row,
                             .thread_bytes = needs->thread,
                             .fixed_bytes = needs->fixed,
                             .passes = needs->passes,
                             .base = ferry_max(world, ferry_usage_now().pss)};
    FERRY_TRY(ferry_agree(world, ferry_layout_choose(&s->layout, &work, &machine, 0, 0, program->common->batch)));
    /* what is fixed is part of the room: the library takes it from there */
    s->plan.cost.panels = s->layout.panels;
    s->room = s->layout.room < MOST_ROOM ? s->layout.room : MOST_ROOM;
    layout_record(&program->figures, &s->layout, &machine);
    watch_stage("passes");
    return FERRY_OK;
}

/* Pull: the columns of the target side stay as they are. Push: sums over source rows wait in a tree of vectors. */
stream_needs stream_column_needs(const stream *s, bool pull, int64_t columns, int passes)
{
    const int64_t targets = s->plan.target.cells + FERRY_TARGET_UNIT;
    const ferry_blocks blocks = ferry_blocks_of(s->plan.source.cells, FERRY_SOURCE_UNIT);
    const int64_t tree = ferry_forest_bytes(targets, blocks.count, blocks.count) + 16 * targets;
    return (stream_needs){.row = 8 * columns,
                          .thread = 12 * 8 * FERRY_SOURCE_UNIT * columns,
                          .fixed = (pull ? 12 * targets : tree) * columns,
                          .passes = passes};
}

void stream_close(stream *s)
{
    ferry_output_discard(&s->output);
    ferry_plan_close(&s->plan);
}

void stream_describe(const stream *s)
{
    const ferry_machine machine = machine_of(s->program);
    if (s->program->world.rank != 0 || s->program->common->json) return;
    input_print("source", &s->plan.source);
    input_print("target", &s->plan.target);
    layout_print(&s->layout, &machine);
}

/* Collective. A frame whose index is the kept cells of a population, each rank bringing an even share of the names. */
static ferry_status cells_frame(ferry_output *output, const ferry_world *world, const char *frame,
                                const ferry_population *cells)
{
    int64_t first = cells->cells / world->size * world->rank + cells->cells % world->size * world->rank / world->size;
    int next = world->rank + 1;
    int64_t end = cells->cells / world->size * next + cells->cells % world->size * next / world->size;
    ferry_names names = {0};
    ferry_status status = ferry_population_names(&names, world, cells, first, end - first);
    if (status == FERRY_OK) status = ferry_output_frame(output, frame, cells->cells, first, &names);
    ferry_names_close(&names);
    return status;
}

ferry_status stream_output(stream *s, const ferry_population *cells)
{
    const common_options *common = s->program->common;
    const ferry_world *world = &s->program->world;
    FERRY_TRY(ferry_output_open(&s->output, world, common->output, common->overwrite));
    FERRY_TRY(ferry_output_anndata(s->output));
    return cells_frame(s->output, world, "obs", cells);
}

ferry_status stream_var_cells(stream *s, const ferry_population *cells)
{
    return cells_frame(s->output, &s->program->world, "var", cells);
}

ferry_status stream_var_names(stream *s, const ferry_names *names)
{
    const ferry_names none = {0}; /* rank 0 brings them all */
    return ferry_output_frame(s->output, "var", names->count, 0, s->program->world.rank == 0 ? names : &none);
}

ferry_status stream_finish(stream *s, const char *kind)
{
    watch_stage("write");
    FERRY_TRY(record_write(s->output, s->program, kind));
    ferry_status status = ferry_output_finish(&s->output);
    ferry_stage_begin(NULL);
    progress_end();
    return status;
}

void stream_summary(const stream *s)
{
    const cli_program *program = s->program;
    char peak[32];
    printf("run      %.2f s on %d rank%s of %d thread%s (%s), at most %s per rank\nwritten  %s\n",
           now_seconds() - program->started, program->world.size, program->world.size == 1 ? "" : "s", program->threads,
           program->threads == 1 ? "" : "s", program->kernels->name,
           ferry_size_text(peak, (double)ferry_usage_now().peak_pss), program->common->output);
}

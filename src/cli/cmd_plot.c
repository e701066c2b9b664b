/* cmd_plot.c - `cellferry plot`: a picture for every result. */
#include "figure.h"
#include "program.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct plot_options {
    common_options common;
    int kind;
    const char *title;
} plot_options;

enum { KIND_AUTO, KIND_TRACE, KIND_HEATMAP, KIND_SANKEY, KIND_STAGES };

static const cli_option OPTIONS[] = {
    {"kind", 0, OPTION_CHOICE, "auto|trace|heatmap|sankey|stages", offsetof(plot_options, kind), "auto", NULL,
     "What to draw. auto: trace for PLAN.h5, heatmap for a CSV table, stages for a run record or any other result"},
    {"title", 0, OPTION_TEXT, "TEXT", offsetof(plot_options, title), "(the file's name)", NULL,
     "The line above the picture"},
    {0}};

/* What a file is good for, by its first bytes and what a result of ours says it is. */
static ferry_status kind_of(int *kind, const char *path)
{
    unsigned char head[8] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) return ferry_fail(FERRY_E_FILE, "%s: cannot read it: %s", path, strerror(errno));
    const size_t got = fread(head, 1, sizeof head, file);
    (void)fclose(file);
    if (got == 0) return ferry_fail(FERRY_E_FILE, "%s: it is empty, or a folder", path);
    if (got == 8 && memcmp(head, "\211HDF\r\n\032\n", 8) == 0) {
        ferry_stored *stored = NULL;
        FERRY_TRY(ferry_stored_open(&stored, path));
        *kind = ferry_stored_has(stored, "errors") ? KIND_TRACE : KIND_STAGES;
        ferry_stored_close(&stored);
    } else {
        *kind = head[0] == '{' ? KIND_STAGES : KIND_HEATMAP;
    }
    return FERRY_OK;
}

/* Script and data are by-products: they may replace their own kind, not a file of the user's. */
static ferry_status may_write(const char *path, bool overwrite, bool by_product)
{
    static const char ours[] = "# cellferry plot";
    char head[sizeof ours] = {0};
    if (overwrite || access(path, F_OK) != 0) return FERRY_OK;
    if (by_product) {
        FILE *file = fopen(path, "rb");
        if (file) {
            const size_t got = fread(head, 1, sizeof ours - 1, file);
            (void)fclose(file);
            if (got == sizeof ours - 1 && memcmp(head, ours, got) == 0) return FERRY_OK;
        }
    }
    return ferry_fail(FERRY_E_FILE, "%s exists: give --overwrite or another --output", path);
}

static ferry_status prepare(figure *out, const cli_program *program, const plot_options *o)
{
    const char *input = program->input[0];
    int kind = o->kind;
    FERRY_TRY(figure_open(out, o->common.output));
    FERRY_TRY(may_write(out->path, o->common.overwrite, false));
    FERRY_TRY(may_write(out->script_path, o->common.overwrite, true));
    FERRY_TRY(may_write(out->data_path, o->common.overwrite, true));
    if (kind == KIND_AUTO) FERRY_TRY(kind_of(&kind, input));
    if (kind == KIND_TRACE) FERRY_TRY(figure_trace(out, input, o->title));
    if (kind == KIND_HEATMAP) FERRY_TRY(figure_heatmap(out, input, o->title));
    if (kind == KIND_SANKEY) FERRY_TRY(figure_sankey(out, input, o->title));
    if (kind == KIND_STAGES) FERRY_TRY(figure_stages(out, input, o->title));
    if (out->script.failed || out->data.failed) return ferry_fail(FERRY_E_MEM, "no memory for the figure's script");
    return FERRY_OK;
}

/* A path that rank 0 made, the same on all ranks. */
static void share_path(char path[4096], const ferry_world *world, const char *mine)
{
    if (world->rank == 0) (void)snprintf(path, 4096, "%s", mine);
    ferry_broadcast(world, path, 4096, 0);
}

static ferry_status write_and_draw(const figure *out, const ferry_world *world)
{
    char path[4096] = "";
    share_path(path, world, out->data_path);
    FERRY_TRY(ferry_text_write(world, path, true, out->data.text, out->data.length));
    share_path(path, world, out->script_path);
    FERRY_TRY(ferry_text_write(world, path, true, out->script.text, out->script.length));
    return ferry_agree(world, world->rank == 0 ? figure_draw(out) : FERRY_OK);
}

static ferry_status run(cli_program *program, const void *options)
{
    const plot_options *o = options;
    const ferry_world *world = &program->world;
    figure out = {0};
    ferry_status status = ferry_agree(world, world->rank == 0 ? prepare(&out, program, o) : FERRY_OK);
    if (status == FERRY_OK) status = write_and_draw(&out, world);
    if (status == FERRY_OK && world->rank == 0)
        printf("figure   %s\nscript   %s   (gnuplot %s draws it again)\nnumbers  %s\n", out.path, out.script_path,
               figure_base_name(out.script_path), out.data_path);
    figure_close(&out);
    return status;
}

const cli_command command_plot = {
    .name = "plot",
    .line = "draw a result: error trace, heatmap, Sankey diagram, time and memory by stage",
    .usage = "RESULT -o FIGURE.svg|.png|.pdf",
    .text =
        "Draws PLAN.h5 (the error after every check), a transition table (heatmap, or a Sankey diagram with --kind "
        "sankey), a run record or the record inside any result (time and memory by stage). gnuplot draws; its script "
        "and the numbers stay beside the figure as FIGURE.gp and FIGURE.dat, to be changed and drawn again. Without "
        "gnuplot these two are left and the exit code is 3.",
    .example = "cellferry plot plan.h5 -o trace.svg\ncellferry plot transition.csv --kind sankey -o sankey.pdf",
    .options = OPTIONS,
    .groups = GROUP_OUTPUT | GROUP_TALK,
    .size = sizeof(plot_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run,
};

/* cmd_plot.c - `cellferry plot`: a picture for every result. */
#include "figure_cells.h"
#include "figure_json.h"
#include "program.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef struct plot_options {
    common_options common;
    int kind;
    const char *title, *basis;
    text_list colour;
} plot_options;

enum { KIND_AUTO, KIND_TRACE, KIND_HEATMAP, KIND_SANKEY, KIND_STAGES, KIND_CELLS, KIND_SCALING };
/* Points that a picture shows: a viewer keeps each of a vector format for itself. */
enum { MOST_POINTS = 100000, MOST_VECTOR_POINTS = 30000 };

static const cli_option OPTIONS[] = {
    {"kind", 0, OPTION_CHOICE, "auto|trace|heatmap|sankey|stages|cells|scaling", offsetof(plot_options, kind), "auto",
     NULL,
     "what to draw. auto: trace for PLAN.h5, heatmap for a CSV table, cells for a .h5ad with an embedding, scaling for "
     "what bench scaling left, else stages"},
    {"basis", 0, OPTION_TEXT, "KEY", offsetof(plot_options, basis),
     "(X_umap, X_tsne, spatial, or the first of two columns)", NULL,
     "embedding to draw cells on: a key of obsm, of which the first two columns count"},
    {"color", 0, OPTION_LIST, "COLUMN", offsetof(plot_options, colour),
     "(the first *_pred with its *_conf, else the first categorical)", NULL,
     "column of obs to colour cells by, labels or numbers; up to four times: panels side by side"},
    {"title", 0, OPTION_TEXT, "TEXT", offsetof(plot_options, title), "(the file's name)", NULL,
     "the line above the picture"},
    {0}};

/* What the picture is of. */
typedef struct subject {
    int kind;
    bool recorded; /* cells, but there is a run record to draw instead */
} subject;

static ferry_status kind_of_result(subject *out, const char *path)
{
    ferry_stored *stored = NULL;
    FERRY_TRY(ferry_stored_open(&stored, path));
    out->recorded = ferry_stored_has(stored, "uns/cellferry/record");
    out->kind = ferry_stored_has(stored, "errors") ? KIND_TRACE
                : ferry_stored_has(stored, "obs")  ? KIND_CELLS
                                                   : KIND_STAGES;
    ferry_stored_close(&stored);
    return FERRY_OK;
}

/* What a file is good for, by its first bytes and what a result of ours says it is. */
static ferry_status kind_of(subject *out, const char *path)
{
    unsigned char head[8] = {0};
    if (path[0] == '@') {
        out->kind = KIND_CELLS;
        return FERRY_OK;
    }
    FILE *file = fopen(path, "rb");
    if (!file) return ferry_fail(FERRY_E_FILE, "%s: cannot read it: %s", path, strerror(errno));
    const size_t got = fread(head, 1, sizeof head, file);
    (void)fclose(file);
    if (got == 0) return ferry_fail(FERRY_E_FILE, "%s: it is empty, or a folder", path);
    if (got == 8 && memcmp(head, "\211HDF\r\n\032\n", 8) == 0) return kind_of_result(out, path);
    out->kind = KIND_HEATMAP;
    if (head[0] != '{') return FERRY_OK;
    FERRY_AUTO char *record = NULL;
    FERRY_TRY(figure_json_record(&record, path));
    const char *figures = figure_json_member(record, "figures");
    out->kind = figures && figure_json_member(figures, "scaling") ? KIND_SCALING : KIND_STAGES;
    return FERRY_OK;
}

static ferry_status prepare(figure *out, subject *what, const cli_program *program, const plot_options *o)
{
    const bool wished = o->basis || o->colour.count;
    FERRY_TRY(figure_open(out, o->common.output));
    FERRY_TRY(figure_check(out, o->common.overwrite));
    what->kind = o->kind;
    if (o->kind == KIND_AUTO) FERRY_TRY(kind_of(what, program->input[0]));
    if (wished || o->kind == KIND_CELLS) what->recorded = false;
    if (wished && what->kind != KIND_CELLS)
        return ferry_fail(FERRY_E_ARG, "%s draws the cells of a .h5ad file: not for %s%s",
                          o->basis ? "--basis" : "--color", program->input[0],
                          o->kind == KIND_AUTO ? "" : " and this --kind");
    return FERRY_OK;
}

/* Local. */
static ferry_status draw(figure *out, const subject *what, const figure_cells *cells, const char *input,
                         const char *title)
{
    switch (what->kind) {
    case KIND_TRACE:
        FERRY_TRY(figure_trace(out, input, title));
        break;
    case KIND_HEATMAP:
        FERRY_TRY(figure_heatmap(out, input, title));
        break;
    case KIND_SANKEY:
        FERRY_TRY(figure_sankey(out, input, title));
        break;
    case KIND_CELLS:
        FERRY_TRY(figure_cells_draw(out, cells, title ? title : figure_base_name(input)));
        break;
    case KIND_SCALING:
        FERRY_TRY(figure_scaling(out, input, title));
        break;
    default:
        FERRY_TRY(figure_stages(out, input, title));
    }
    if (out->script.failed || out->data.failed) return ferry_fail(FERRY_E_MEM, "no memory for the figure's script");
    return FERRY_OK;
}

/* Collective. Without an embedding, a result is drawn by its record. */
static ferry_status read_cells(figure_cells *out, subject *what, const cli_program *program, const plot_options *o,
                               int format)
{
    const cells_wish wish = {.path = program->input[0],
                             .basis = o->basis,
                             .colour = o->colour.text,
                             .colours = o->colour.count,
                             .most = format == FIGURE_PNG ? MOST_POINTS : MOST_VECTOR_POINTS,
                             .optional = what->recorded};
    FERRY_TRY(figure_cells_read(out, &program->world, &wish));
    if (out->panels == 0) what->kind = KIND_STAGES;
    return FERRY_OK;
}

static ferry_status run(cli_program *program, const void *options)
{
    const plot_options *o = options;
    const ferry_world *world = &program->world;
    figure out = {0};
    figure_cells cells = {0};
    subject what = {0};
    ferry_status status = ferry_agree(world, world->rank == 0 ? prepare(&out, &what, program, o) : FERRY_OK);
    ferry_broadcast(world, &what, sizeof what, 0);
    if (status == FERRY_OK && what.kind == KIND_CELLS) status = read_cells(&cells, &what, program, o, out.format);
    if (status == FERRY_OK)
        status =
            ferry_agree(world, world->rank == 0 ? draw(&out, &what, &cells, program->input[0], o->title) : FERRY_OK);
    if (status == FERRY_OK) status = figure_write(&out, world);
    if (status == FERRY_OK && world->rank == 0)
        printf("figure   %s\nscript   %s   (gnuplot %s draws it again)\nnumbers  %s\n", out.path, out.script_path,
               figure_base_name(out.script_path), out.data_path);
    if (status == FERRY_OK && world->rank == 0 && what.recorded && what.kind == KIND_STAGES)
        printf("it shows time and memory by stage: the file has no embedding of its cells (--kind cells says more)\n");
    figure_cells_close(&cells);
    figure_close(&out);
    return status;
}

const cli_command command_plot = {
    .name = "plot",
    .line = "draw a result: cells on an embedding, error trace, heatmap, Sankey diagram, stages",
    .usage = "RESULT -o FIGURE.svg|.png|.pdf",
    .text =
        "Draws PLAN.h5 (the error after every check); the cells of a .h5ad file, ours or not, on an embedding, "
        "coloured by "
        "labels or numbers; a transition table or the confusion matrix of map --evaluate (heatmap, or a Sankey diagram "
        "with --kind sankey); a run record or the record inside any result (time and memory by stage; of bench scaling "
        "its curves). Of many cells "
        "100000 are drawn (PNG; 30000 in SVG and PDF), always the same ones. gnuplot draws; its script and the numbers "
        "stay beside the figure as FIGURE.gp and FIGURE.dat, to be changed and drawn again. Without gnuplot these two "
        "are "
        "left and the exit code is 3.",
    .example = "cellferry plot mapped.h5ad -o map.png --basis X_umap --color cell_type_pred\n"
               "cellferry plot transition.csv --kind sankey -o sankey.pdf",
    .options = OPTIONS,
    .groups = GROUP_OUTPUT | GROUP_TALK,
    .size = sizeof(plot_options),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run,
};

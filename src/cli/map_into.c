/* map_into.c - the result of `cellferry map`: a file of its own, or a copy of the query with more in it; see map.h. */
#include "map.h"
#include "progress.h"
#include <stdio.h>
#include <string.h>

/* scanpy's palette of 20 (vega), for columns whose reference has no colours */
static const char *const palette[] = {"#1f77b4", "#ff7f0e", "#279e68", "#d62728", "#aa40fc", "#8c564b", "#e377c2",
                                      "#b5bd61", "#17becf", "#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5",
                                      "#c49c94", "#f7b6d2", "#dbdb8d", "#9edae5", "#ad494a", "#8c6d31"};
enum { PALETTE = sizeof palette / sizeof *palette };

void map_path(char path[1024], const char *frame, const char *name, const char *ending)
{
    char link[700];
    (void)snprintf(link, sizeof link, "%s", name);
    for (char *c = link; *c; c++)
        if (*c == '/') *c = '_'; /* as the writer names the links of columns */
    (void)snprintf(path, 1024, "%s/%s%s", frame, link, ending);
}

ferry_status map_clear(const map_job *job, const char *frame, const char *name)
{
    char path[1024];
    if (!job->o->into) return FERRY_OK;
    map_path(path, frame, name, "");
    return ferry_output_remove(job->output, path);
}

ferry_status map_beside(char **path, const char *output, const char *ending)
{
    size_t stem = strlen(output);
    if (stem > 5 && !strcmp(output + stem - 5, ".h5ad")) stem -= 5;
    const size_t room = stem + strlen(ending) + 2;
    FERRY_TRY(ferry_alloc(path, (int64_t)room));
    (void)snprintf(*path, room, "%.*s.%s", (int)stem, output, ending);
    return FERRY_OK;
}

/* Collective. Groups that old files lack. */
static ferry_status complete(map_job *job)
{
    static const char *const group[] = {"obsm", "uns"};
    for (int i = 0; i < 2; i++) FERRY_TRY(ferry_output_group(job->output, group[i], "dict", "0.1.0"));
    return FERRY_OK;
}

/* Collective. */
static ferry_status copy(map_job *job)
{
    const common_options *common = &job->o->common;
    FERRY_TRY(
        ferry_output_open_copy(&job->output, job->world, common->output, common->overwrite, job->query.options.path));
    FERRY_TRY(ferry_output_frame_of_copy(job->output, "obs", job->query.cells));
    FERRY_TRY(complete(job));
    return ferry_output_remove(job->output, "uns/cellferry");
}

ferry_status map_output(map_job *job)
{
    const common_options *common = &job->o->common;
    const ferry_names none = {0};
    watch_stage("write");
    if (job->o->into) return copy(job);
    FERRY_TRY(ferry_output_open(&job->output, job->world, common->output, common->overwrite));
    FERRY_TRY(ferry_output_anndata(job->output));
    FERRY_TRY(cells_frame_in_parts(job->output, job->world, "obs", &job->query));
    return ferry_output_frame(job->output, "var", job->layer.count, 0,
                              job->world->rank == 0 ? &job->layer.names : &none);
}

/* ---- colours ---- */

/* Local, rank 0. Those of the reference's column, when there is one for each label. */
static ferry_status stored_colours(ferry_names *out, const map_job *job, const map_key *key)
{
    ferry_stored *stored = NULL;
    char path[1024], name[600];
    int64_t rows = 0, columns = 0;
    (void)snprintf(name, sizeof name, "%s_colors", key->name);
    map_path(path, "uns", name, "");
    if (job->reference->options.path[0] == '@') return FERRY_OK;
    FERRY_TRY(ferry_stored_open(&stored, job->reference->options.path));
    ferry_status status = FERRY_OK;
    if (ferry_stored_has(stored, path)) {
        status = ferry_stored_shape(&rows, &columns, stored, path);
        if (status == FERRY_OK && rows == key->labels.categories.count && columns == 1)
            status = ferry_stored_texts(out, stored, path, 0, rows);
    }
    ferry_stored_close(&stored);
    return status;
}

/* Local, rank 0. More labels than the palette has get hues around the circle, a golden angle apart. */
static ferry_status made_colours(ferry_names *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        char text[16];
        if (count <= PALETTE) {
            (void)snprintf(text, sizeof text, "%s", palette[i]);
        } else {
            const double hue = (double)i * 0.6180339887498949 - (double)(int64_t)((double)i * 0.6180339887498949);
            const double light = 0.9 - 0.15 * (double)(i % 3);
            int part[3];
            for (int c = 0; c < 3; c++) {
                double x = hue * 6 + 2 * c;
                x = x >= 6 ? x - 6 : x;
                const double up = x < 3 ? 2 - x : x - 4; /* red, green, blue as waves around the circle */
                part[c] = (int)(255 * light * (0.35 + 0.65 * (up < 0 ? 0 : up > 1 ? 1 : up)));
            }
            (void)snprintf(text, sizeof text, "#%02x%02x%02x", part[0] & 255, part[1] & 255, part[2] & 255);
        }
        FERRY_TRY(ferry_names_add(out, text, (int64_t)strlen(text)));
    }
    return FERRY_OK;
}

ferry_status map_colours(const map_job *job, const map_key *key)
{
    ferry_names colours = {0};
    char path[1024], name[600];
    ferry_status status = FERRY_OK;
    if (job->world->rank == 0) {
        status = stored_colours(&colours, job, key);
        if (status == FERRY_OK && colours.count == 0) status = made_colours(&colours, key->labels.categories.count);
    }
    status = ferry_agree(job->world, status);
    (void)snprintf(name, sizeof name, "%s_colors", key->predicted);
    map_path(path, "uns", name, "");
    if (status == FERRY_OK) status = map_clear(job, "uns", name);
    if (status == FERRY_OK) status = ferry_output_texts(job->output, path, key->labels.categories.count, 0, &colours);
    ferry_names_close(&colours);
    return status;
}

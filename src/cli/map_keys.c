/* map_keys.c - what is mapped: both sides, columns of obs, genes of a layer; see map.h. Nothing is missing later. */
#include "map.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static ferry_status text_of(char **out, const char *format, const char *a, size_t length)
{
    const size_t room = strlen(format) + length + 1;
    FERRY_TRY(ferry_alloc(out, (int64_t)room));
    (void)snprintf(*out, room, format, (int)length, a);
    return FERRY_OK;
}

static ferry_status add_key(map_job *job, const char *name, size_t length)
{
    if (job->keys)
        FERRY_TRY(ferry_grow(&job->key, job->keys, job->keys + 1));
    else
        FERRY_TRY(ferry_alloc(&job->key, 1));
    map_key *key = &job->key[job->keys++];
    *key = (map_key){0};
    FERRY_TRY(text_of(&key->name, "%.*s", name, length));
    FERRY_TRY(text_of(&key->predicted, "%.*s_pred", name, length));
    for (int k = 0; k + 1 < job->keys; k++)
        if (!strcmp(job->key[k].name, key->name)) return ferry_fail(FERRY_E_ARG, "--obs %s is given twice", key->name);
    return FERRY_OK;
}

/* Local. A name with a comma is one column when the file has it. */
static ferry_status split_obs(map_job *job)
{
    for (int i = 0; i < job->o->obs.count; i++) {
        const char *at = job->o->obs.text[i];
        if (ferry_file_has_obs(job->reference->file, at)) {
            FERRY_TRY(add_key(job, at, strlen(at)));
            continue;
        }
        for (;;) {
            const size_t length = strcspn(at, ",");
            FERRY_TRY(add_key(job, at, length));
            if (!at[length]) break;
            at += length + 1;
        }
    }
    return FERRY_OK;
}

/* Local. Is the column one of numbers, and are its categories ordered? */
static ferry_status look_at(map_key *key, ferry_file *file)
{
    FERRY_AUTO ferry_entry *entry = NULL;
    char path[300];
    int count;
    FERRY_TRY(ferry_file_entries(&entry, &count, file));
    (void)snprintf(path, sizeof path, "obs/%s", key->name);
    for (int i = 0; i < count; i++) {
        if (strcmp(entry[i].path, path) != 0) continue;
        const char *encoding = entry[i].encoding;
        if (!strncmp(encoding, "nullable ", 9)) encoding += 9;
        key->number = !strncmp(encoding, "number", 6) || !strncmp(encoding, "boolean", 7);
    }
    return FERRY_OK;
}

/* ---- columns of the reference ---- */

/* Local. */
static ferry_status subset(map_key *key, const map_job *job)
{
    FERRY_TRY(ferry_alloc(&key->cells, key->labels.categories.count + 1));
    if (job->o->subset.count == 0) return FERRY_OK;
    FERRY_TRY(ferry_alloc(&key->kept, key->labels.categories.count));
    for (int i = 0; i < job->o->subset.count; i++) {
        const char *name = job->o->subset.text[i];
        const int64_t at = ferry_names_find(&key->labels.categories, name);
        const char *near = at < 0 ? ferry_names_nearest(&key->labels.categories, name) : NULL;
        if (at < 0)
            return ferry_fail(FERRY_E_FILE, "%s: obs/%s has no label '%s'%s%s%s", job->reference->options.path,
                              key->name, name, near ? "; did you mean '" : "; 'cellferry info' shows its labels",
                              near ? near : "", near ? "'?" : "");
        key->kept[at] = true;
    }
    return FERRY_OK;
}

static ferry_status no_labels(const map_job *job, const map_key *key)
{
    if (key->labels.categories.count) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: obs/%s: every label is missing; name another column",
                      job->reference->options.path, key->name);
}

/* Collective. */
static ferry_status open_key(map_job *job, map_key *key)
{
    const int64_t count = job->first[job->world->rank + 1] - job->first[job->world->rank];
    ferry_file *file = job->reference->file;
    FERRY_TRY(ferry_agree(job->world, look_at(key, file)));
    if (key->number) return ferry_agree(job->world, ferry_read_numbers(&key->value, file, key->name, job->rows, count));
    FERRY_TRY(ferry_read_labels(&key->labels, job->world, file, key->name, job->rows, count));
    ferry_status status = no_labels(job, key);
    if (status == FERRY_OK) status = subset(key, job);
    return ferry_agree(job->world, status);
}

/* Local. Options that speak of labels have some, and --evaluate has its column. */
static ferry_status check_keys(const map_job *job)
{
    const map_options *o = job->o;
    int labels = 0, evaluated = -1, last = -1;
    for (int k = 0; k < job->keys; k++) {
        if (job->key[k].number) continue;
        labels++;
        last = k;
        if (o->evaluate && !strcmp(job->key[k].name, o->evaluate)) evaluated = k;
    }
    if (labels == 0 && (o->probabilities || o->subset.count || o->drop_missing || o->evaluate))
        return ferry_fail(FERRY_E_ARG, "%s: --obs names only numbers; it needs a column of labels",
                          o->probabilities  ? "--probabilities"
                          : o->subset.count ? "--subset"
                          : o->drop_missing ? "--drop-missing"
                                            : "--evaluate");
    if (labels > 1 && o->subset.count)
        return ferry_fail(FERRY_E_ARG, "--subset: its labels are of one column; map %s alone", job->key[0].name);
    if (!o->evaluate) return FERRY_OK;
    if (evaluated < 0 && labels > 1)
        return ferry_fail(FERRY_E_ARG,
                          "--evaluate %s: which of the columns of --obs does it judge? map one column, or "
                          "name one of them",
                          o->evaluate);
    job->key[evaluated < 0 ? last : evaluated].evaluated = true;
    if (ferry_file_has_obs(job->query.file, o->evaluate)) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: no obs/%s to evaluate with; 'cellferry info' shows its columns",
                      job->query.options.path, o->evaluate);
}

/* ---- embeddings and layers ---- */

static ferry_status check_embeddings(const map_job *job)
{
    for (int i = 0; i < job->o->obsm.count; i++) {
        const char *key = job->o->obsm.text[i];
        int dim;
        if (!strcmp(key, "X") || strchr(key, '/'))
            return ferry_fail(FERRY_E_ARG, "--obsm %s: name a key of obsm; expression is mapped by --layer", key);
        FERRY_TRY(ferry_rep_dim(&dim, job->reference->file, key, 0));
    }
    return FERRY_OK;
}

void map_layer_rep(char rep[300], const char *name)
{
    const bool whole = !strcmp(name, "X") || !strcmp(name, "raw/X") || !strncmp(name, "layers/", 7);
    (void)snprintf(rep, 300, "%s%.280s", whole ? "" : "layers/", name);
}

static ferry_status read_lines(ferry_names *out, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[1024];
    ferry_status status = FERRY_OK;
    if (!file) return ferry_fail(FERRY_E_FILE, "%s: cannot be read; --genes takes a text file, one name a line", path);
    while (status == FERRY_OK && fgets(line, sizeof line, file)) {
        size_t length = strcspn(line, "\r\n");
        while (length && (line[length - 1] == ' ' || line[length - 1] == '\t')) length--;
        if (length) status = ferry_names_add(out, line, (int64_t)length);
    }
    (void)fclose(file);
    if (status == FERRY_OK && out->count == 0) status = ferry_fail(FERRY_E_FILE, "%s: names no gene", path);
    return status;
}

static const ferry_names *compared; /* for qsort and bsearch */

static int by_name(const void *a, const void *b)
{
    return strcmp(ferry_name(compared, *(const int32_t *)a), ferry_name(compared, *(const int32_t *)b));
}

static int to_name(const void *name, const void *b)
{
    return strcmp(name, ferry_name(compared, *(const int32_t *)b));
}

ferry_status map_find_names(int32_t *place, const ferry_names *names, const ferry_names *all)
{
    FERRY_AUTO int32_t *sorted = NULL;
    FERRY_TRY(ferry_alloc(&sorted, all->count));
    for (int32_t i = 0; i < all->count; i++) sorted[i] = i;
    compared = all;
    if (all->count) qsort(sorted, (size_t)all->count, sizeof *sorted, by_name);
    for (int64_t i = 0; i < names->count; i++) {
        const int32_t *at =
            all->count ? bsearch(ferry_name(names, i), sorted, (size_t)all->count, sizeof *sorted, to_name) : NULL;
        place[i] = at ? *at : -1;
    }
    return FERRY_OK;
}

/* Local. Columns of the wanted genes, in the order of the file. */
static ferry_status choose_genes(map_layer *layer, const map_job *job, const ferry_names *all,
                                 const ferry_names *wanted)
{
    FERRY_AUTO int32_t *place = NULL;
    FERRY_AUTO bool *taken = NULL;
    int64_t absent = 0;
    FERRY_TRY(ferry_alloc(&place, wanted->count));
    FERRY_TRY(ferry_alloc(&taken, all->count));
    FERRY_TRY(map_find_names(place, wanted, all));
    for (int64_t i = 0; i < wanted->count; i++) {
        if (place[i] < 0)
            absent++;
        else
            taken[place[i]] = true;
    }
    for (int64_t g = 0; g < all->count; g++)
        if (taken[g]) layer->column[layer->count++] = (int32_t)g;
    if (layer->count == 0)
        return ferry_fail(FERRY_E_FILE, "%s: none of its genes is in the %s of %s, which begins with '%s'",
                          job->o->genes, layer->rep, job->reference->options.path,
                          all->count ? ferry_name(all, 0) : "");
    if (absent && job->world->rank == 0)
        ferry_log(job->world, FERRY_WARN, "%s: %lld of %lld genes are not in the reference and are left out",
                  job->o->genes, (long long)absent, (long long)wanted->count);
    return FERRY_OK;
}

/* Local. */
static ferry_status choose(map_layer *layer, const map_job *job, const ferry_names *all)
{
    ferry_names wanted = {0};
    FERRY_TRY(ferry_alloc(&layer->column, all->count));
    ferry_status status = job->o->genes ? read_lines(&wanted, job->o->genes) : FERRY_OK;
    if (status == FERRY_OK && job->o->genes) status = choose_genes(layer, job, all, &wanted);
    if (status == FERRY_OK && !job->o->genes)
        for (int64_t g = 0; g < all->count; g++) layer->column[layer->count++] = (int32_t)g;
    for (int64_t g = 0; g < layer->count && status == FERRY_OK; g++)
        status = ferry_names_add(&layer->names, ferry_name(all, layer->column[g]),
                                 (int64_t)strlen(ferry_name(all, layer->column[g])));
    ferry_names_close(&wanted);
    return status;
}

/* Local. Entries of all rows, at most: what the file says, and what the genes leave. */
static ferry_status measure(map_layer *layer, const map_job *job)
{
    FERRY_AUTO ferry_entry *entry = NULL;
    int count;
    const double cells = (double)ferry_file_cells(job->reference->file);
    double values = cells * layer->dim;
    FERRY_TRY(ferry_file_entries(&entry, &count, job->reference->file));
    for (int i = 0; i < count; i++)
        if (!strcmp(entry[i].path, layer->rep) && entry[i].nonzeros >= 0) {
            values = (double)entry[i].nonzeros;
            layer->by_columns = !strncmp(entry[i].encoding, "csc", 3);
        }
    layer->mean = values / (cells > 0 ? cells : 1) * (double)layer->count / layer->dim;
    layer->read = values < cells * layer->dim ? 12 * values : 4 * values; /* values and columns; values */
    layer->read *= (double)job->reference->cells / (cells > 0 ? cells : 1);
    if (values > cells * (double)layer->count) values = cells * (double)layer->count;
    values *= (double)job->reference->cells / (cells > 0 ? cells : 1) / job->world->size;
    layer->bytes =
        (int64_t)(values * sizeof(ferry_transfer_entry)) + 8 * (job->reference->cells / job->world->size + 1);
    return FERRY_OK;
}

/* Local. */
static ferry_status open_layer(map_job *job)
{
    map_layer *layer = &job->layer;
    ferry_names all = {0};
    if (!job->o->layer) return FERRY_OK;
    map_layer_rep(layer->rep, job->o->layer);
    FERRY_TRY(ferry_rep_dim(&layer->dim, job->reference->file, layer->rep, 0));
    ferry_status status = ferry_read_gene_names(&all, job->reference->file, layer->rep, 0, layer->dim);
    if (status == FERRY_OK) status = choose(layer, job, &all);
    ferry_names_close(&all);
    return status == FERRY_OK ? measure(layer, job) : status;
}

/* The frames of anndata before 0.7 are tables, which take no more columns. */
static ferry_status check_copied(const map_job *job)
{
    FERRY_AUTO char *index = NULL;
    ferry_stored *stored = NULL;
    if (!job->o->into) return FERRY_OK;
    FERRY_TRY(ferry_stored_open(&stored, job->query.options.path));
    const ferry_status status = ferry_stored_attribute_text(&index, stored, "obs", "_index");
    ferry_stored_close(&stored);
    if (status == FERRY_OK) return FERRY_OK;
    return ferry_fail(
        FERRY_E_FILE,
        "%s: obs is a table of an anndata before 0.7, which takes no more columns; read the file and write "
        "it with a newer anndata, or do without --into",
        job->query.options.path);
}

static ferry_status check_query(const map_job *job)
{
    FERRY_TRY(check_copied(job));
    const char *group = job->o->presence;
    if (group && group[0] && !ferry_file_has_obs(job->query.file, group))
        return ferry_fail(FERRY_E_FILE, "%s: no obs/%s to group --presence by; 'cellferry info' shows its columns",
                          job->query.options.path, group);
    return FERRY_OK;
}

/* ---- sides ---- */

/* Local. */
static ferry_status agree_on_widths(const map_job *job)
{
    char text[FERRY_ERROR_TEXT];
    const ferry_status status = sides_agree(&job->query, &job->other);
    if (status == FERRY_OK) return FERRY_OK;
    (void)snprintf(text, sizeof text, "%s", ferry_error());
    return ferry_fail(status, "%.1900s; sets that share genes but no embedding: --joint pca or --joint cca", text);
}

/* Collective. */
static ferry_status open_sides(map_job *job)
{
    const cli_program *program = job->program;
    ferry_population_options query, reference;
    job->reference_path = program->input[program->inputs - 1];
    if (job->index_input) job->reference_path = job->index_input;
    FERRY_TRY(ferry_agree(
        job->world, sides_join(&query, &reference, job->where, &job->sides, program->input[0], job->reference_path)));
    if (job->o->joint && !query.rep) query.rep = "X";
    if (job->o->joint && !reference.rep) reference.rep = "X";
    FERRY_TRY(ferry_population_open(&job->query, job->world, &query));
    job->reference = &job->query;
    input_record(&job->program->inputs_json, "query", &job->query, 0);
    if (job->self) return FERRY_OK;
    FERRY_TRY(ferry_population_open(&job->other, job->world, &reference));
    job->reference = &job->other;
    input_record(&job->program->inputs_json, "reference", &job->other, 0);
    if (job->o->joint || job->o->neighbors) return FERRY_OK;
    return ferry_agree(job->world, agree_on_widths(job));
}

static ferry_status deal(map_job *job)
{
    FERRY_TRY(ferry_alloc(&job->first, job->world->size + 1));
    for (int r = 0; r <= job->world->size; r++)
        job->first[r] = job->reference->cells / job->world->size * r +
                        job->reference->cells % job->world->size * r / job->world->size;
    return split_obs(job);
}

ferry_status map_open(map_job *job)
{
    const ferry_world *world = job->world;
    FERRY_TRY(open_sides(job));
    FERRY_TRY(ferry_agree(world, deal(job)));
    const int64_t first = job->first[world->rank];
    FERRY_TRY(ferry_population_rows(&job->rows, world, job->reference, first, job->first[world->rank + 1] - first));
    for (int k = 0; k < job->keys; k++) FERRY_TRY(open_key(job, &job->key[k]));
    ferry_status status = check_keys(job);
    if (status == FERRY_OK) status = check_embeddings(job);
    if (status == FERRY_OK) status = open_layer(job);
    if (status == FERRY_OK) status = check_query(job);
    return ferry_agree(world, status);
}

ferry_status map_walk_rows(int64_t **rows, int64_t *count, const map_job *job, const ferry_blocks *blocks)
{
    const ferry_world *world = job->world;
    int64_t at = 0;
    *count = ferry_transfer_rows(blocks, world->rank, world->size);
    *rows = NULL;
    FERRY_TRY(ferry_agree(world, ferry_alloc(rows, *count)));
    for (int b = 0; b < blocks->count; b += world->size) {
        const int mine = b + world->rank < blocks->count ? b + world->rank : blocks->count;
        const int64_t first = ferry_block_first(blocks, mine), end = ferry_block_first(blocks, mine + 1);
        const int64_t here = mine < blocks->count ? end - first : 0;
        const ferry_status status = ferry_select_rows(*rows + at, world, &job->query.selection, here ? first : 0, here);
        if (status != FERRY_OK) {
            free(*rows);
            *rows = NULL;
            return status;
        }
        at += here;
    }
    return FERRY_OK;
}

/* ---- closing ---- */

static void close_key(map_key *key)
{
    free(key->name);
    free(key->predicted);
    free(key->value);
    free(key->kept);
    free(key->cells);
    free(key->code);
    free(key->trust);
    ferry_labels_close(&key->labels);
}

void map_close(map_job *job)
{
    ferry_output_discard(&job->output);
    if (job->decomposed) ferry_spectrum_close(&job->spectrum);
    if (job->weighted) ferry_weights_close(&job->weights);
    ferry_graph *const graph[] = {&job->yx, &job->xx, &job->yy, &job->xy};
    for (int i = 0; i < 4; i++) ferry_graph_close(graph[i]);
    ferry_joint_close(&job->joint);
    for (int k = 0; k < job->keys; k++) close_key(&job->key[k]);
    free(job->key);
    free(job->layer.column);
    free(job->layer.start);
    free(job->layer.entry);
    ferry_names_close(&job->layer.names);
    free(job->first);
    free(job->rows);
    ferry_population_close(&job->query);
    ferry_population_close(&job->other);
    free(job->index_input);
    free(job->index_rep);
    free(job->where[0]);
    free(job->where[1]);
}

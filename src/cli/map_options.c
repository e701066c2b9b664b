/* map_options.c - the options of `cellferry map`, and which of them do not fit together; see map.h. */
#include "map.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define AT(field)  offsetof(map_options, field)
#define KERNELS    "gauss|umap|inverse_distance|scarches|equal|jaccard|hnoca"
#define SYMMETRIES "none|max|mean"
#define METHODS    "pearson|spearman|js|rmse"
#define SAMPLE     65536 /* rows of --global-mean sample */

const cli_option map_table[] = {
    {"obs", 0, OPTION_LIST, "COLUMN[,COLUMN]", AT(obs), "(none)", NULL,
     "columns of the reference's obs: labels give COLUMN_pred and COLUMN_conf, numbers COLUMN_pred; repeat for a name "
     "with a comma"},
    {"obsm", 0, OPTION_LIST, "KEY", AT(obsm), "(none)", NULL,
     "embedding of the reference: obsm/KEY_pred is its mean over the neighbours; may be repeated"},
    {"layer", 0, OPTION_TEXT, "NAME", AT(layer), "(none)", NULL,
     "expression of the reference (X, raw/X or a layer): X of the result is imputed, var the reference's genes"},
    {"target-libsize", 0, OPTION_TEXT, "KEY", AT(libsize), "(off)", NULL,
     "scale imputed cells to the sums of the query's X, of its layer KEY, or to its column obs:KEY"},
    {"genes", 0, OPTION_TEXT, "FILE", AT(genes), "(all)", NULL, "only these genes of the layer, one name a line"},
    SEARCH_ROWS(AT(search)),
    SIDES_ROWS(AT(sides)),
    {"kernel", 0, OPTION_TEXT, KERNELS, AT(kernel), "(two sets: gauss; one set: umap)", NULL,
     "weights of neighbours from their distances; jaccard and hnoca from shared neighbours"},
    {"symmetrize", 0, OPTION_TEXT, SYMMETRIES, AT(symmetrize), "(two sets: none; one set: max)", NULL,
     "of one set: the larger of both directions, or their mean"},
    {"self-edges", 0, OPTION_MAYBE, "[yes|no]", AT(self_edges), "(two sets: no; one set: yes)", NULL,
     "of one set: each cell is its own neighbour too, at distance 0"},
    {"global-mean", 0, OPTION_CHOICE, "exact|sample", AT(global_mean), "exact", NULL,
     "mean and deviation of the distances in gauss and scarches: of all of them, or of some 65000 cells"},
    {"steps", 0, OPTION_COUNT, "T", AT(steps), "(1)", "steps", "of one set: apply the map T times (diffusion)"},
    {"diffusion", 0, OPTION_TEXT, "iterative|spectral", AT(diffusion), "(iterative)", NULL,
     "step by step, or through eigenvectors of a symmetric kernel"},
    {"eigenvectors", 0, OPTION_COUNT, "N", AT(eigenvectors), "(50)", "eigenvectors",
     "of --diffusion spectral; as many as there are cells: the complete decomposition"},
    {"neighbors", 0, OPTION_TEXT, "GRAPH.h5ad", AT(neighbors), "(search)", NULL,
     "take the neighbours that 'cellferry neighbors' found instead of searching"},
    {"joint", 0, OPTION_TEXT, "pca|cca", AT(joint), "(off)", NULL,
     "no shared embedding: make one of the genes that both sets share, from --rep (X)"},
    {"components", 0, OPTION_COUNT, "N", AT(components), "(50)", "components", "of --joint"},
    {"probabilities", 0, OPTION_FLAG, NULL, AT(probabilities), NULL, NULL,
     "obsm/COLUMN_prob: the mass of every label as a sparse matrix; their names in uns/COLUMN_prob_names"},
    {"subset", 0, OPTION_LIST, "LABEL", AT(subset), "(all)", NULL,
     "only these labels can win; the others lose their mass; repeat it"},
    {"drop-missing", 0, OPTION_FLAG, NULL, AT(drop_missing), NULL, NULL,
     "cells without a label have no vote; else a missing label is a class that can win"},
    {"unknown-quantile", 0, OPTION_NUMBER, "Q", AT(unknown_quantile), "(off)", "a share from 0 to 1, such as 0.99",
     "COLUMN_unknown: cells whose mean distance to their neighbours is above this quantile of the reference's own"},
    {"evaluate", 0, OPTION_TEXT, "COLUMN", AT(evaluate), "(off)", NULL,
     "the query's own labels: accuracy, precision, recall, F1 and the confusion matrix of the predictions"},
    {"confidence-cutoff", 0, OPTION_NUMBER, "C", AT(cutoff), "(0)", NULL,
     "cells below this confidence are left out by --evaluate"},
    {"evaluate-layer", 0, OPTION_TEXT, "NAME", AT(evaluate_layer), "(off)", NULL,
     "the query's own expression: agreement with the imputed layer for every shared gene, into var"},
    {"evaluate-method", 0, OPTION_TEXT, METHODS, AT(evaluate_method), "(pearson)", NULL,
     "correlation, Jensen-Shannon distance, or the root mean square of z-scores' differences"},
    {"presence", 0, OPTION_MAYBE, "[GROUP]", AT(presence), "(off)", NULL,
     "how present each reference cell is among the queries, and for each value of the query's obs column GROUP; of two "
     "sets in a file beside the result, OUT.presence.h5ad, whose obs are the reference's cells"},
    {"presence-log", 0, OPTION_FLAG, NULL, AT(presence_log), NULL, NULL, "the logarithm of 1 + score"},
    {"presence-percentile", 0, OPTION_TEXT, "LOW,HIGH", AT(presence_percentile), "(1,99)", "percentiles",
     "clip scores there; 0,100 for none"},
    {"presence-minmax", 0, OPTION_FLAG, NULL, AT(presence_minmax), NULL, NULL,
     "scale scores to 0 ... 1, as CellMapper"},
    {"into", 0, OPTION_FLAG, NULL, AT(into), NULL, NULL,
     "the result is a copy of the query's file with the new columns, not a file of these alone"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

/* ---- one rule each ---- */

static ferry_status needs(bool given, const char *option, bool there, const char *what)
{
    if (!given || there) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "%s needs %s", option, what);
}

static ferry_status excludes(bool given, const char *option, bool other, const char *why)
{
    if (!given || !other) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "%s: %s", option, why);
}

static ferry_status check_labels(const map_options *o)
{
    const bool obs = o->obs.count > 0;
    FERRY_TRY(needs(o->probabilities, "--probabilities", obs, "--obs, a column of labels"));
    FERRY_TRY(needs(o->subset.count > 0, "--subset", obs, "--obs, a column of labels"));
    FERRY_TRY(needs(o->drop_missing, "--drop-missing", obs, "--obs, a column of labels"));
    FERRY_TRY(needs(!isnan(o->unknown_quantile), "--unknown-quantile", obs, "--obs: it marks predictions"));
    FERRY_TRY(needs(o->evaluate != NULL, "--evaluate", obs, "--obs, the predicted column"));
    FERRY_TRY(needs(!isnan(o->cutoff), "--confidence-cutoff", o->evaluate != NULL, "--evaluate"));
    if (!isnan(o->unknown_quantile) && !(o->unknown_quantile >= 0 && o->unknown_quantile <= 1))
        return ferry_fail(FERRY_E_ARG, "--unknown-quantile is %g, but has to be a share from 0 to 1",
                          o->unknown_quantile);
    return FERRY_OK;
}

static ferry_status check_values(const map_options *o)
{
    const bool layer = o->layer != NULL;
    FERRY_TRY(needs(o->libsize != NULL, "--target-libsize", layer, "--layer"));
    FERRY_TRY(needs(o->genes != NULL, "--genes", layer, "--layer"));
    FERRY_TRY(needs(o->evaluate_layer != NULL, "--evaluate-layer", layer, "--layer, what it is compared with"));
    FERRY_TRY(needs(o->evaluate_method != NULL, "--evaluate-method", o->evaluate_layer != NULL, "--evaluate-layer"));
    FERRY_TRY(needs(o->presence_log, "--presence-log", o->presence != NULL, "--presence"));
    FERRY_TRY(needs(o->presence_minmax, "--presence-minmax", o->presence != NULL, "--presence"));
    FERRY_TRY(needs(o->presence_percentile != NULL, "--presence-percentile", o->presence != NULL, "--presence"));
    if (o->obs.count || o->obsm.count || layer || o->presence) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "nothing to map: give --obs COLUMN, --obsm KEY, --layer NAME or --presence");
}

static ferry_status check_into(const map_job *job)
{
    const map_options *o = job->o;
    if (!o->into) return FERRY_OK;
    FERRY_TRY(excludes(true, "--into", o->layer != NULL,
                       "the imputed layer has the reference's genes, which do not fit the query's; run --layer without "
                       "--into"));
    FERRY_TRY(
        excludes(true, "--into", job->program->input[0][0] == '@', "it copies one file; give one instead of a list"));
    return excludes(true, "--into", o->sides.both.where.count || o->sides.query.where.count,
                    "the copy has all cells of the query; do without --where and --query-where");
}

/* Where neighbours come from. */
static ferry_status check_search(const map_job *job)
{
    const map_options *o = job->o;
    const bool given = o->neighbors != NULL;
    const char *why = "the neighbours of --neighbors are found already";
    FERRY_TRY(excludes(o->search.exact, "--exact", given, why));
    FERRY_TRY(excludes(!isnan(o->search.recall), "--recall", given, why));
    FERRY_TRY(excludes(o->search.lists > 0, "--lists", given, why));
    FERRY_TRY(excludes(o->search.probes > 0, "--probes", given, why));
    FERRY_TRY(excludes(!isnan(o->search.reach), "--reach", given, why));
    FERRY_TRY(excludes(o->search.index != NULL, "--index", given, why));
    FERRY_TRY(excludes(o->search.metric != NULL, "--metric", given, why));
    FERRY_TRY(excludes(o->joint != NULL, "--joint", given, why));
    FERRY_TRY(excludes(o->joint != NULL, "--joint", o->search.index != NULL,
                       "an index is of one set's own representation; search without it"));
    FERRY_TRY(excludes(o->joint != NULL, "--joint", job->self, "one set shares its embedding with itself; give two"));
    FERRY_TRY(needs(o->components > 0, "--components", o->joint != NULL, "--joint"));
    FERRY_TRY(excludes(given && !isnan(o->unknown_quantile), "--unknown-quantile", !job->self,
                       "it needs the reference's own neighbours, which --neighbors has not; search instead"));
    FERRY_TRY(excludes(given && job->two_hops, "--kernel", !job->self,
                       "jaccard and hnoca of two sets need four searches, and --neighbors holds one; search instead"));
    return excludes(job->two_hops && o->search.k == 1, "-k", !job->self,
                    "jaccard and hnoca of two sets need at least 2 neighbours");
}

/* ---- what they mean ---- */

static ferry_status set_kernel(map_job *job)
{
    const map_options *o = job->o;
    int kernel = job->self ? FERRY_UMAP : FERRY_GAUSS, symmetrize = job->self ? FERRY_SYMMETRIZE_MAX : 0;
    int edges = job->self;
    if (o->kernel) FERRY_TRY(choice_find(&kernel, "--kernel", KERNELS, o->kernel));
    if (o->symmetrize) FERRY_TRY(choice_find(&symmetrize, "--symmetrize", SYMMETRIES, o->symmetrize));
    if (o->self_edges && o->self_edges[0]) FERRY_TRY(choice_find(&edges, "--self-edges", "no|yes", o->self_edges));
    if (o->self_edges && !o->self_edges[0]) edges = 1;
    const char *why = "it is of one set: give one file, or leave it out";
    FERRY_TRY(excludes(kernel == FERRY_UMAP, "--kernel umap", !job->self, why));
    FERRY_TRY(excludes(symmetrize != FERRY_SYMMETRIZE_NONE, "--symmetrize", !job->self, why));
    FERRY_TRY(excludes(edges != 0, "--self-edges", !job->self, why));
    job->two_hops = kernel == FERRY_JACCARD || kernel == FERRY_HNOCA;
    job->kernel = (ferry_weights_options){.kernel = (ferry_weight_kernel)kernel,
                                          .symmetrize = (ferry_symmetrize)symmetrize,
                                          .self_edges = edges != 0,
                                          .sample = o->global_mean ? SAMPLE : 0,
                                          .seed = (uint64_t)o->common.seed,
                                          .folder = o->search.spill,
                                          .threads = job->program->threads};
    return FERRY_OK;
}

static ferry_status set_diffusion(map_job *job)
{
    const map_options *o = job->o;
    int method = FERRY_ITERATIVE;
    if (o->diffusion) FERRY_TRY(choice_find(&method, "--diffusion", "iterative|spectral", o->diffusion));
    FERRY_TRY(needs(o->eigenvectors > 0, "--eigenvectors", method == FERRY_SPECTRAL, "--diffusion spectral"));
    FERRY_TRY(excludes(o->steps > 1 || o->diffusion, "--steps", !job->self,
                       "diffusion goes from a set to itself: give one file"));
    if (o->steps > 1000000) return ferry_fail(FERRY_E_ARG, "--steps %lld: at most 1000000", (long long)o->steps);
    job->diffused = o->steps > 1 || method == FERRY_SPECTRAL;
    job->diffusion = (ferry_diffusion_options){.method = (ferry_diffusion)method,
                                               .steps = o->steps ? (int)o->steps : 1,
                                               .eigenvectors = o->eigenvectors ? o->eigenvectors : 50,
                                               .seed = (uint64_t)o->common.seed};
    return FERRY_OK;
}

static ferry_status set_percentile(map_job *job)
{
    const char *text = job->o->presence_percentile ? job->o->presence_percentile : "1,99";
    char *end, *last = NULL;
    job->percentile[0] = strtod(text, &end);
    job->percentile[1] = *end == ',' ? strtod(end + 1, &last) : NAN;
    if (end != text && last && last != end + 1 && !*last && job->percentile[0] >= 0 &&
        job->percentile[0] <= job->percentile[1] && job->percentile[1] <= 100)
        return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "--presence-percentile is '%s', but has to be LOW,HIGH from 0 to 100, such as 1,99",
                      text);
}

/* ---- a stored index ---- */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Its file and representation, where the command line does not say them. */
static ferry_status ask_stored(map_job *job, ferry_stored *index)
{
    const char *path = job->o->search.index;
    double dims = 0;
    side_options *both = &job->sides.both;
    FERRY_TRY(ferry_stored_attribute_text(&job->index_rep, index, "/", "rep"));
    FERRY_TRY(ferry_stored_attribute_number(&dims, index, "/", "dims"));
    if (job->index_rep && job->index_rep[0] && !both->rep && !job->sides.query.rep && !job->sides.reference.rep) {
        both->rep = job->index_rep;
        if (!both->dims && !job->sides.query.dims && !job->sides.reference.dims) both->dims = (int64_t)dims;
    }
    if (job->program->inputs > 1) return FERRY_OK;
    if (ferry_stored_has(index, "input") &&
        ferry_stored_attribute_text(&job->index_input, index, "input", "path") == FERRY_OK && job->index_input[0])
        return FERRY_OK;
    return ferry_fail(FERRY_E_ARG,
                      "%s does not say which file it was made of; give it: cellferry map QUERY REFERENCE --index %s",
                      path, path);
}

static ferry_status ask_index(map_job *job)
{
    ferry_stored *index = NULL;
    if (!job->o->search.index) return FERRY_OK;
    FERRY_TRY(ferry_stored_open(&index, job->o->search.index));
    const ferry_status status = ask_stored(job, index);
    ferry_stored_close(&index);
    return status;
}

ferry_status map_check(map_job *job)
{
    const map_options *o = job->o;
    int method;
    job->sides = o->sides;
    FERRY_TRY(ask_index(job));
    job->self = sides_are_one(&o->sides, job->program->inputs);
    if (job->index_input && job->self) job->self = same_file(job->index_input, job->program->input[0]);
    FERRY_TRY(set_kernel(job));
    FERRY_TRY(search_check(&job->search, &o->search, job->program));
    FERRY_TRY(set_diffusion(job));
    FERRY_TRY(set_percentile(job));
    FERRY_TRY(check_values(o));
    FERRY_TRY(check_labels(o));
    FERRY_TRY(check_into(job));
    if (o->evaluate_method) FERRY_TRY(choice_find(&method, "--evaluate-method", METHODS, o->evaluate_method));
    if (o->joint) FERRY_TRY(choice_find(&method, "--joint", "pca|cca", o->joint));
    return check_search(job);
}

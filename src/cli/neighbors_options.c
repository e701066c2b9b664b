/* neighbors_options.c - see neighbors_options.h. */
#include "neighbors_options.h"
#include <math.h>
#include <string.h>

const absent_option search_absent[] = {
    {"checkpoint", "this version writes no checkpoints of a search; run the command again"},
    {"checkpoint-every", "this version writes no checkpoints of a search; run the command again"},
    {"resume", "this version writes no checkpoints of a search; run the command again"},
    {"gpu-memory", "this build has no GPU part; --memory bounds what a rank takes"},
    {NULL, NULL}};

static ferry_status check_share(const char *name, double value)
{
    if (isnan(value) || (value > 0 && value <= 1)) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "--%s is %g, but has to be above 0 and at most 1", name, value);
}

/* Ways to say how well to search; one of them at most. */
static ferry_status check_rules(const search_options *o)
{
    const struct {
        const char *name;
        bool given;
    } rule[] = {{"--exact", o->exact},
                {"--recall", !isnan(o->recall)},
                {"--probes", o->probes > 0},
                {"--reach", !isnan(o->reach)}};
    const char *first = NULL;
    for (int i = 0; i < 4; i++) {
        if (!rule[i].given) continue;
        if (first) return ferry_fail(FERRY_E_ARG, "%s and %s: give one of them", first, rule[i].name);
        first = rule[i].name;
    }
    if (o->index && o->lists)
        return ferry_fail(FERRY_E_ARG, "--lists: %s has its lists already; leave one of them out", o->index);
    if (o->rerank && !o->index)
        return ferry_fail(FERRY_E_ARG, "--rerank %lld is for an --index that was made with --codes",
                          (long long)o->rerank);
    FERRY_TRY(check_share("recall", o->recall));
    return check_share("reach", o->reach);
}

ferry_status search_check(ferry_neighbors_options *out, const search_options *o, const cli_program *program)
{
    int metric = FERRY_EUCLIDEAN;
    if (o->metric) FERRY_TRY(choice_find(&metric, "--metric", "euclidean|cosine", o->metric));
    FERRY_TRY(check_rules(o));
    if (o->k > FERRY_MOST_NEIGHBORS - 1)
        return ferry_fail(FERRY_E_ARG, "-k %lld: at most %d neighbours of a cell are found", (long long)o->k,
                          FERRY_MOST_NEIGHBORS - 1);
    const bool by_hand = o->exact || o->probes || !isnan(o->reach);
    *out = (ferry_neighbors_options){.k = o->k ? (int)o->k : 30,
                                     .metric = (ferry_search_metric)metric,
                                     .exact = o->exact,
                                     .recall = by_hand            ? NAN
                                               : isnan(o->recall) ? 0.99
                                                                  : o->recall,
                                     .lists = o->lists,
                                     .probes = o->probes,
                                     .reach = isnan(o->reach) ? 0 : o->reach,
                                     .rerank = o->rerank,
                                     .memory = program->memory,
                                     .folder = o->spill,
                                     .batch = program->common->batch,
                                     .seed = (uint64_t)program->common->seed,
                                     .threads = program->threads,
                                     .kernels = program->kernels};
    return FERRY_OK;
}

ferry_status search_check_codes(const ferry_neighbors_options *o, int codes, const char *index)
{
    const char *rule = o->exact ? "--exact" : "--reach";
    if (codes && (o->exact || o->reach > 0))
        return ferry_fail(
            FERRY_E_ARG,
            "%s: %s holds codes of %d bytes, which cannot say what is left out: give --recall or --probes, "
            "or make an index of whole vectors with 'cellferry index' without --codes",
            rule, index, codes);
    if (!codes && o->rerank)
        return ferry_fail(FERRY_E_ARG, "--rerank %lld: %s holds whole vectors and needs none; leave it out",
                          (long long)o->rerank, index);
    return FERRY_OK;
}

static bool says_anything(const side_options *side)
{
    return side->rep || side->dims || side->where.count;
}

bool sides_are_one(const sides_options *o, int inputs)
{
    return inputs == 1 && !says_anything(&o->query) && !says_anything(&o->reference);
}

ferry_status sides_join(ferry_population_options *query, ferry_population_options *reference, const char **where[2],
                        const sides_options *o, const char *query_path, const char *reference_path)
{
    FERRY_TRY(side_join(query, &where[0], query_path, &o->both, &o->query));
    return side_join(reference, &where[1], reference_path, &o->both, &o->reference);
}

ferry_status sides_agree(const ferry_population *query, const ferry_population *reference)
{
    if (query->dim == reference->dim) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "the query has %d columns (%s of %s) and the reference %d (%s of %s): they have to agree; choose "
                      "with --query-rep, --reference-rep or --dims",
                      query->dim, query->options.rep, query->options.path, reference->dim, reference->options.rep,
                      reference->options.path);
}

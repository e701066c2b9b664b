/* neighbors_report.c - see neighbors_report.h. */
#include "neighbors_report.h"
#include "layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what is planned --- */

void sizes_of_machine(ferry_neighbors_sizes *sizes, const cli_program *program, int64_t base)
{
    const ferry_machine machine = machine_of(program);
    sizes->ranks = machine.ranks;
    sizes->nodes = machine.nodes;
    sizes->base = base;
}

static const char *where(bool held)
{
    return held ? "in memory" : "on disk";
}

/* An index is only made. */
static bool searches(const ferry_neighbors_plan *plan)
{
    for (int i = 0; i < plan->phases; i++)
        if (!strcmp(plan->phase[i].name, "search")) return true;
    return false;
}

void neighbors_plan_print(const ferry_neighbors_plan *plan, const cli_program *program)
{
    const ferry_machine machine = machine_of(program);
    char bytes[32], read[32], written[32], sent[32];
    printf("%d rank%s on %d node%s, %lld lists; reference %s", machine.ranks, machine.ranks == 1 ? "" : "s",
           machine.nodes, machine.nodes == 1 ? "" : "s", (long long)plan->lists, where(plan->reference_held));
    if (searches(plan)) printf(", queries %s, results %s", where(plan->queries_held), where(plan->graph_held));
    printf("; at most %s of %s per rank, %s of scratch files\n", ferry_size_text(bytes, (double)plan->bytes),
           ferry_size_text(read, (double)machine.memory), ferry_size_text(written, (double)plan->scratch));
    printf("%-8s %13s %12s %12s %12s %12s %9s %9s\n", "phase", "rows per rank", "bytes/rank", "read, all", "written",
           "sent", "flops", "seconds");
    for (int i = 0; i < plan->phases; i++) {
        const ferry_neighbors_phase *p = &plan->phase[i];
        printf("%-8s %13lld %12s %12s %12s %12s %9.2g %9.3g\n", p->name, (long long)p->rows,
               ferry_size_text(bytes, (double)p->bytes), ferry_size_text(read, (double)p->read_bytes),
               ferry_size_text(written, (double)p->written_bytes), ferry_size_text(sent, (double)p->sent_bytes),
               p->flops, p->seconds);
    }
    printf("seconds and flops are estimates; bytes per rank are kept%s\n",
           searches(plan) && !plan->reference_held
               ? "; search reads at least so much, more when the cells of one type fill many lists"
               : "");
}

void neighbors_plan_record(json *out, const ferry_neighbors_plan *plan, const cli_program *program)
{
    const ferry_machine machine = machine_of(program);
    json_begin(out, "layout", '{');
    json_count(out, "ranks", machine.ranks);
    json_count(out, "nodes", machine.nodes);
    json_count(out, "lists", plan->lists);
    json_bool(out, "reference_held", plan->reference_held);
    json_bool(out, "queries_held", plan->queries_held);
    json_bool(out, "graph_held", plan->graph_held);
    json_count(out, "bytes", plan->bytes);
    json_count(out, "scratch_bytes", plan->scratch);
    json_begin(out, "phases", '[');
    for (int i = 0; i < plan->phases; i++) {
        const ferry_neighbors_phase *p = &plan->phase[i];
        json_begin(out, NULL, '{');
        json_text(out, "name", p->name);
        json_count(out, "rows", p->rows);
        json_count(out, "bytes", p->bytes);
        json_count(out, "read_bytes", p->read_bytes);
        json_count(out, "written_bytes", p->written_bytes);
        json_count(out, "sent_bytes", p->sent_bytes);
        json_number(out, "flops", p->flops);
        json_number(out, "seconds", p->seconds);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_end(out, '}');
}

/* --- what came out --- */

static const char *rule_name(ferry_visit_rule rule)
{
    return rule == FERRY_VISIT_EXACT ? "exact" : rule == FERRY_VISIT_REACH ? "reach" : "probes";
}

static void record_recall(json *out, const ferry_recall *recall)
{
    json_begin(out, "recall", '{');
    json_count(out, "sample", recall->sample);
    json_number(out, "mean", recall->mean);
    json_number(out, "quantile_01", recall->quantile[0]);
    json_number(out, "quantile_05", recall->quantile[1]);
    json_number(out, "quantile_10", recall->quantile[2]);
    json_number(out, "below_half", recall->below_half);
    json_number(out, "pairs_share", recall->pairs);
    json_end(out, '}');
}

void neighbors_record(json *out, const ferry_neighbors_report *report)
{
    const ferry_search_counts *counts = &report->counts;
    const double queries = counts->queries > 0 ? (double)counts->queries : 1;
    json_count(out, "lists", report->lists);
    json_count(out, "trained_cells", report->trained);
    json_number(out, "distortion", report->distortion);
    json_text(out, "rule", rule_name(report->rule));
    if (report->rule == FERRY_VISIT_REACH) json_number(out, "reach", report->reach);
    if (report->rule == FERRY_VISIT_PROBES) json_count(out, "probes", report->probes);
    if (report->recall.sample > 0) record_recall(out, &report->recall);
    if (report->codes) {
        json_count(out, "codes", report->codes);
        json_count(out, "rerank", report->rerank);
        if (report->ceiling == report->ceiling) json_number(out, "recall_ceiling", report->ceiling);
    }
    json_count(out, "queries", counts->queries);
    json_number(out, "lists_per_query", (double)counts->lists / queries);
    json_number(out, "pairs_per_query", (double)counts->pairs / queries);
    json_number(out, "kept_per_query", (double)counts->kept / queries);
    json_count(out, "ties_resolved", counts->resolved);
    json_number(out, "tiles_filled", counts->slots > 0 ? (double)counts->pairs / (double)counts->slots : 0);
    json_number(out, "search_core_seconds", report->search_cpu_seconds);
    json_number(out, "search_core_seconds_per_query", report->search_cpu_seconds / queries);
}

static void print_setting(const ferry_neighbors_report *report)
{
    const long long lists = (long long)report->lists;
    if (report->rule == FERRY_VISIT_EXACT)
        printf("search   exact, %lld lists", lists);
    else if (report->rule == FERRY_VISIT_REACH)
        printf("search   lists within %.3g of the k-th distance, of %lld", report->reach, lists);
    else
        printf("search   the nearest %lld of %lld lists", (long long)report->probes, lists);
    const double queries = report->counts.queries > 0 ? (double)report->counts.queries : 1;
    printf(": a query visits %.4g lists and %.4g cells, %.3g core-microseconds\n",
           (double)report->counts.lists / queries, (double)report->counts.pairs / queries,
           1e6 * report->search_cpu_seconds / queries);
}

void neighbors_print(const ferry_neighbors_report *report, const ferry_neighbors_options *options)
{
    const ferry_recall *recall = &report->recall;
    print_setting(report);
    if (report->codes)
        printf("codes    of %d bytes; the vectors of %lld candidates a query read from the reference's file\n",
               report->codes, (long long)report->rerank * options->k);
    if (options->exact || recall->sample == 0) return;
    printf("recall   %.4f, measured on %lld queries; 1 %% of them below %.3f, 5 %% below %.3f, 10 %% below %.3f\n",
           recall->mean, (long long)recall->sample, recall->quantile[0], recall->quantile[1], recall->quantile[2]);
    if (report->codes && report->ceiling == report->ceiling)
        printf("ceiling  %.4f is what these codes and --rerank %lld reach with more lists\n", report->ceiling,
               (long long)report->rerank);
}

/* --- names in row blocks --- */

#define NAMES ((int64_t)1 << 14) /* of a block */

/* Calls of `take` with the names of this rank's cells, block by block; equally often on all ranks. */
typedef struct names_walk {
    ferry_output *output;
    const ferry_world *world;
    const ferry_population *cells;
    const char *path;
    int64_t longest;
    ferry_status (*take)(struct names_walk *walk, int64_t first, const ferry_names *names); /* Collective */
} names_walk;

static ferry_status measure_names(names_walk *walk, int64_t first, const ferry_names *names)
{
    (void)first;
    for (int64_t i = 0; i < names->count; i++) {
        const int64_t length = (int64_t)strlen(ferry_name(names, i));
        if (length > walk->longest) walk->longest = length;
    }
    return FERRY_OK;
}

static ferry_status write_names(names_walk *walk, int64_t first, const ferry_names *names)
{
    return ferry_output_texts_rows(walk->output, walk->path, first, names);
}

/* Collective. */
static ferry_status walk_names(names_walk *walk)
{
    const ferry_world *world = walk->world;
    const int64_t cells = walk->cells->cells, step = NAMES * world->size;
    for (int64_t at = 0; at < cells; at += step) {
        int64_t first = at + NAMES * world->rank;
        if (first > cells) first = cells;
        const int64_t count = cells - first < NAMES ? cells - first : NAMES;
        ferry_names names = {0};
        ferry_status status = ferry_population_names(&names, world, walk->cells, first, count);
        if (status == FERRY_OK) status = walk->take(walk, first, &names);
        ferry_names_close(&names);
        FERRY_TRY(status);
        ferry_stage_sample();
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status longest_name(int64_t *longest, ferry_output *output, const ferry_world *world,
                                 const ferry_population *cells)
{
    names_walk walk = {output, world, cells, NULL, 0, measure_names};
    FERRY_TRY(walk_names(&walk));
    *longest = ferry_max(world, walk.longest);
    return FERRY_OK;
}

ferry_status cells_frame_in_parts(ferry_output *output, const ferry_world *world, const char *frame,
                                  const ferry_population *cells)
{
    int64_t longest;
    char path[32];
    FERRY_TRY(longest_name(&longest, output, world, cells));
    FERRY_TRY(ferry_output_frame_create(output, frame, cells->cells, longest));
    (void)snprintf(path, sizeof path, "%s/_index", frame);
    names_walk walk = {output, world, cells, path, 0, write_names};
    return walk_names(&walk);
}

ferry_status cells_names_in_parts(ferry_output *output, const ferry_world *world, const char *path,
                                  const ferry_population *cells)
{
    int64_t longest;
    FERRY_TRY(longest_name(&longest, output, world, cells));
    FERRY_TRY(ferry_output_texts_create(output, path, cells->cells, longest));
    names_walk walk = {output, world, cells, path, 0, write_names};
    return walk_names(&walk);
}

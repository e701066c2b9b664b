/* transport_options.c - every option of `cellferry transport`, and what its texts mean. */
#include "cmd_transport.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(transport_options, field)

const cli_option transport_table[] = {
    {"rep", 0, OPTION_TEXT, "KEY", AT(both.rep), "(X_pca if present, else X)", NULL,
     "representation of both sides: an obsm key, X, layers/NAME or raw/X"},
    {"source-rep", 0, OPTION_TEXT, "KEY", AT(source.rep), "(--rep)", NULL, "representation of the source"},
    {"target-rep", 0, OPTION_TEXT, "KEY", AT(target.rep), "(--rep)", NULL, "representation of the target"},
    {"dims", 0, OPTION_COUNT, "N", AT(both.dims), "(all)", "columns", "first columns of the representation"},
    {"source-dims", 0, OPTION_COUNT, "N", AT(source.dims), "(--dims)", "columns", "first columns of the source's"},
    {"target-dims", 0, OPTION_COUNT, "N", AT(target.dims), "(--dims)", "columns", "first columns of the target's"},
    {"where", 0, OPTION_LIST, "KEY=VALUE[,VALUE]", AT(both.where), "(all cells)", NULL,
     "only cells of both sides whose obs column has one of the values; repeat for several columns, or for a value with "
     "a comma"},
    {"source-where", 0, OPTION_LIST, "KEY=VALUE[,VALUE]", AT(source.where), "(all cells)", NULL,
     "the same for the source"},
    {"target-where", 0, OPTION_LIST, "KEY=VALUE[,VALUE]", AT(target.where), "(all cells)", NULL,
     "the same for the target"},
    {"source-weights", 0, OPTION_TEXT, "OBS", AT(source.weights), "(uniform)", NULL, "obs column with the cells' mass"},
    {"target-weights", 0, OPTION_TEXT, "OBS", AT(target.weights), "(uniform)", NULL, "obs column with the cells' mass"},
    {"cost", 0, OPTION_TEXT, "NAME", AT(cost), "sq_euclidean", NULL,
     "sq_euclidean, euclidean, cosine, pnorm:P, sq_pnorm:P, euclidean_p:P, dot, arccos:N, spearman, correlation"},
    {"scale-cost", 0, OPTION_TEXT, "NAME", AT(scale_cost), "mean", NULL,
     "mean, median, max_cost, max_norm, max_bound, or a number to divide by; 1 for none"},
    {"epsilon", 0, OPTION_NUMBER, "NUMBER", AT(epsilon), "0.05", "in units of the scaled cost",
     "strength of the entropic regularisation"},
    {"epsilon-of", 0, OPTION_CHOICE, "absolute|mean|std", AT(epsilon_of), "absolute", NULL,
     "what --epsilon is multiplied by: 1, or the mean or standard deviation of the scaled cost"},
    {"tau-a", 0, OPTION_NUMBER, "NUMBER", AT(tau_a), "1", "above 0, at most 1",
     "source marginal: 1 is kept exactly; below 1 unbalanced, rho = epsilon tau / (1 - tau)"},
    {"tau-b", 0, OPTION_NUMBER, "NUMBER", AT(tau_b), "1", "above 0, at most 1", "target marginal, likewise"},
    {"threshold", 0, OPTION_NUMBER, "NUMBER", AT(threshold), "1e-3", "mass",
     "stop when the error of the column marginal falls below it"},
    {"norm-error", 0, OPTION_CHOICE, "1|2", AT(norm_error), "1", NULL, "norm of that error: L1 or L2"},
    {"max-iterations", 0, OPTION_COUNT, "N", AT(max_iterations), "2000", "iterations",
     "the most that are done, in whole blocks of --check-every"},
    {"min-iterations", 0, OPTION_COUNT, "N", AT(min_iterations), "0", "iterations", "no stop before"},
    {"check-every", 0, OPTION_COUNT, "N", AT(check_every), "(10 with --solver sinkhorn, 1 with auto)", "iterations",
     "how often the error is looked at"},
    {"momentum", 0, OPTION_TEXT, "W|adaptive", AT(momentum), "1", NULL,
     "over-relaxation of the updates (below 2), which falls back to 1 when the error grows; adaptive: chosen from the "
     "errors, from the third check on"},
    {"recenter", 0, OPTION_FLAG, NULL, AT(recenter), NULL, NULL, "translation-invariant updates"},
    {"solver", 0, OPTION_CHOICE, "auto|sinkhorn", AT(solver), "auto", NULL,
     "sinkhorn: the plain iteration, comparable one to one with OTT-JAX; auto: whatever reaches the same fixed point "
     "sooner"},
    {"cache", 0, OPTION_TEXT, "auto|off|SIZE", AT(cache), "auto", "bytes per rank",
     "memory for the plan of a pass, in half precision and where it weighs, over which the next iterations go instead "
     "of "
     "all pairs; auto: what is left of --memory, at most half of it. Answers with another cache agree within "
     "--threshold"},
    {"coarse", 0, OPTION_MAYBE, "[CELLS]", AT(coarse),
     "(off; alone: a twentieth of a side, at least 20000, at most 50000)", "cells of each side",
     "solve between so many cells of each side, drawn from groups of near cells, with the mass that each stands for, "
     "and "
     "extend their potentials to all cells: the time goes with the number of cells, not of pairs"},
    {"certify", 0, OPTION_CHOICE, "full|sample", AT(certify), "full", NULL,
     "what --coarse ends with. full: one pass over all pairs, for the errors, cost and bounds that every result has; "
     "sample: estimates from 2000 rows and columns of the plan, where all pairs are too many"},
    {"initial", 0, OPTION_TEXT, "PLAN.h5", AT(initial), "(zeros)", NULL,
     "start from other potentials, also of another size where cell names agree"},
    {"precision", 0, OPTION_CHOICE, "float|double", AT(precision), "float", NULL,
     "of the pairs; sums and potentials are always float64"},
    {"grid", 0, OPTION_TEXT, "RxC", AT(grid), "(chosen)", "ranks", "process grid: source rows over R, target over C"},
    {"reduction", 0, OPTION_CHOICE, "tree|mpi", AT(reduction), "tree", NULL,
     "tree: the same bits on every grid; mpi: MPI_Allreduce"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

const absent_option transport_absent[] = {
    {"rank", "this version solves the full-rank problem only; leave the option out"},
    {"problem", "this version solves the linear problem only (no Gromov-Wasserstein, no fused); leave the option out"},
    {"alpha", "this version solves the linear problem only, which has no alpha; leave the option out"},
    {"checkpoint", "this version writes no checkpoints; --initial PLAN.h5 starts from an earlier result"},
    {"checkpoint-every", "this version writes no checkpoints; --initial PLAN.h5 starts from an earlier result"},
    {"resume", "this version writes no checkpoints; --initial PLAN.h5 starts from an earlier result"},
    {"gpu-memory", "this build has no GPU part; --memory bounds what a rank takes"},
    {NULL, NULL}};

static ferry_status in_range(const char *name, double value, double above, double most)
{
    if (value > above && value <= most) return FERRY_OK;
    return isfinite(most)
               ? ferry_fail(FERRY_E_ARG, "--%s is %g, but has to be above %g and at most %g", name, value, above, most)
               : ferry_fail(FERRY_E_ARG, "--%s is %g, but has to be above %g", name, value, above);
}

static ferry_status count_range(const char *name, int64_t value, int64_t least)
{
    if (value >= least && value <= INT32_MAX) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "--%s is %lld, but has to be from %lld to %d", name, (long long)value,
                      (long long)least, INT32_MAX);
}

static ferry_status momentum_parse(ferry_transport_options *out, const char *text)
{
    char *end;
    if (!strcmp(text, "adaptive")) {
        out->momentum_adaptive_from = 3 * out->check_every;
        return FERRY_OK;
    }
    out->momentum = strtod(text, &end);
    if (end == text || *end)
        return ferry_fail(FERRY_E_ARG, "--momentum is '%s', but has to be a number, or adaptive", text);
    if (out->momentum > 0 && out->momentum < 2) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "--momentum is %s, but has to be above 0 and below 2", text);
}

static ferry_status solver_options(ferry_transport_options *out, const transport_options *o)
{
    const double most = INFINITY;
    *out = (ferry_transport_options)FERRY_TRANSPORT_DEFAULTS;
    FERRY_TRY(in_range("epsilon", o->epsilon, 0, most));
    FERRY_TRY(in_range("tau-a", o->tau_a, 0, 1));
    FERRY_TRY(in_range("tau-b", o->tau_b, 0, 1));
    if (o->threshold < 0) return ferry_fail(FERRY_E_ARG, "--threshold is %g, but cannot be negative", o->threshold);
    FERRY_TRY(count_range("max-iterations", o->max_iterations, 1));
    FERRY_TRY(count_range("min-iterations", o->min_iterations, 0));
    FERRY_TRY(count_range("check-every", o->check_every, 0));
    out->tau_a = o->tau_a;
    out->tau_b = o->tau_b;
    out->threshold = o->threshold;
    out->norm_error = o->norm_error + 1;
    out->max_iterations = (int)o->max_iterations;
    out->min_iterations = (int)o->min_iterations;
    out->solver = (ferry_solver)o->solver;
    out->check_every = o->check_every ? (int)o->check_every : out->solver == FERRY_SOLVER_SINKHORN ? 10 : 1;
    out->recenter = o->recenter;
    return momentum_parse(out, o->momentum);
}

static ferry_status cache_options(transport_job *job)
{
    const char *text = job->o->cache;
    job->cache_most = -1;
    if (!strcmp(text, "auto")) return FERRY_OK;
    if (strcmp(text, "off") != 0 && ferry_size_parse(&job->cache_most, text) != FERRY_OK)
        return ferry_fail(FERRY_E_ARG, "--cache is '%s', but has to be auto, off or a size such as 2G", text);
    if (job->cache_most < 0) job->cache_most = 0;
    return FERRY_OK;
}

static ferry_status coarse_options(transport_job *job)
{
    const transport_options *o = job->o;
    ferry_coreset_options *out = &job->coreset;
    *out = (ferry_coreset_options)FERRY_CORESET_DEFAULTS;
    job->coarse = o->coarse != NULL;
    if (!job->coarse)
        return o->certify ? ferry_fail(FERRY_E_ARG, "--certify sample belongs to --coarse: every other solve goes "
                                                    "through all pairs anyway")
                          : FERRY_OK;
    if (*o->coarse) {
        char *end;
        const double cells = strtod(o->coarse, &end);
        if (end == o->coarse || *end || !(cells >= 100) || !(cells <= 1e7) || cells != floor(cells))
            return ferry_fail(FERRY_E_ARG, "--coarse is '%s', but has to be a number of cells from 100 to 10000000",
                              o->coarse);
        out->cells = (int64_t)cells;
    }
    out->certify = (ferry_certify)o->certify;
    out->seed = (uint64_t)o->common.seed;
    if (o->initial) return ferry_fail(FERRY_E_ARG, "--coarse and --initial both say where to begin: leave one out");
    if (job->solver.momentum != 1 || job->solver.momentum_adaptive_from)
        return ferry_fail(FERRY_E_ARG, "--coarse solves without --momentum: leave one out");
    if (job->solver.solver == FERRY_SOLVER_SINKHORN)
        return ferry_fail(FERRY_E_ARG, "--coarse solves its cells with --solver auto: leave --solver sinkhorn out");
    return FERRY_OK;
}

ferry_status transport_check(transport_job *job)
{
    const transport_options *o = job->o;
    ferry_cost_options *cost = &job->cost_options;
    *cost = (ferry_cost_options)FERRY_COST_DEFAULTS;
    FERRY_TRY(ferry_cost_parse(cost, o->cost));
    FERRY_TRY(ferry_scale_parse(cost, o->scale_cost));
    FERRY_TRY(solver_options(&job->solver, o));
    FERRY_TRY(coarse_options(job));
    FERRY_TRY(cache_options(job));
    cost->precision = (ferry_precision)o->precision;
    cost->reduction = (ferry_reduction)o->reduction;
    cost->kernels = job->program->kernels;
    cost->threads = job->program->threads;
    FERRY_TRY(grid_parse(&job->grid_rows, &job->grid_cols, o->grid));
    const char *path = job->program->input[0], *other = job->program->inputs > 1 ? job->program->input[1] : path;
    FERRY_TRY(side_join(&job->source.options, &job->where[0], path, &o->both, &o->source));
    return side_join(&job->target.options, &job->where[1], other, &o->both, &o->target);
}

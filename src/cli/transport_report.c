/* transport_report.c - what `cellferry transport` tells of its result. */
#include "cmd_transport.h"
#include <math.h>
#include <stdio.h>

void transport_record(transport_job *job)
{
    json *out = &job->program->figures;
    const ferry_potentials *p = &job->potentials;
    input_record(&job->program->inputs_json, "source", &job->source, job->fingerprint[0]);
    input_record(&job->program->inputs_json, "target", &job->target, job->fingerprint[1]);
    json_number(out, "epsilon", p->epsilon);
    json_number(out, "inv_scale_cost", ferry_cost_inv_scale(job->cost));
    json_count(out, "iterations", p->iterations);
    json_count(out, "passes", p->passes);
    json_count(out, "stored_passes", p->stored_passes);
    json_number(out, "stored_share", p->stored_share);
    json_count(out, "cache_bytes", job->solver.cache_bytes);
    json_count(out, "stored_passes", p->stored_passes);
    json_bool(out, "converged", p->converged);
    if (job->coarse) {
        json_count(out, "coarse_sources", p->coarse[0]);
        json_count(out, "coarse_targets", p->coarse[1]);
        json_bool(out, "estimated", p->estimated);
        if (p->estimated) json_number(out, "marginal_error_sd", p->error_sd);
    }
    json_number(out, "marginal_error", p->marginal_error);
    json_number(out, "reg_ot_cost", p->reg_ot_cost);
    json_number(out, "transport_cost", p->transport_cost);
    json_number(out, "dual_gap", p->dual_gap);
    json_number(out, "lower_bound", p->lower_bound);
    json_number(out, "upper_bound", p->upper_bound);
    json_number(out, "row_error", p->row_error);
    json_number(out, "row_error_max", p->row_error_max);
    json_number(out, "column_error", p->column_error);
    json_number(out, "column_error_max", p->column_error_max);
    json_number(out, "mass", p->mass);
    json_number(out, "independence", p->independence);
    ferry_machine machine = machine_of(job->program);
    layout_record(out, &job->layout, &machine);
}

static void print_coreset(const ferry_potentials *p)
{
    printf("coarse   %lld source and %lld target cells, %d iterations between them; extended to all cells\n",
           (long long)p->coarse[0], (long long)p->coarse[1], p->iterations);
}
static void print_figures(const transport_job *job)
{
    const ferry_potentials *p = &job->potentials;
    char passes[128];
    if (p->stored_passes)
        (void)snprintf(passes, sizeof passes, "%d passes over all pairs, %d over the kept %.3g %% of them", p->passes,
                       p->stored_passes, 100 * p->stored_share / p->stored_passes);
    else
        (void)snprintf(passes, sizeof passes, "%d iterations (%d passes)", p->iterations, p->passes);
    if (job->coarse) print_coreset(p);
    printf("%s %s, error %.3g %s %g: %s\n", job->coarse ? "checked " : "solved  ",
           job->coarse ? "by a pass over all pairs" : passes, p->marginal_error, p->converged ? "below" : "not below",
           job->solver.threshold, p->converged ? "converged" : "NOT converged");
    printf("result   transport cost %.7g, regularised cost %.7g, duality gap %.3g, mass %.6g\n", p->transport_cost,
           p->reg_ot_cost, p->dual_gap, p->mass);
    printf("bounds   optimum between %.8g and %.8g (gap %.2g of the transport cost)\n", p->lower_bound, p->upper_bound,
           fabs((p->upper_bound - p->lower_bound) / p->transport_cost));
    printf("margins  rows off by %.2g in all, at most %.2g; columns by %.2g, at most %.2g\n", p->row_error,
           p->row_error_max, p->column_error, p->column_error_max);
}
/* Of sampled rows and columns. */
static void print_estimates(const transport_job *job)
{
    const ferry_potentials *p = &job->potentials;
    print_coreset(p);
    printf(
        "estimate error %.3g (+- %.1g) of both marginals, rows %.3g, columns %.3g, from %lld of each: NOT certified\n",
        p->marginal_error, p->error_sd, p->row_error, p->column_error, (long long)job->coreset.sample);
    printf("result   about: transport cost %.5g, regularised cost %.5g, mass %.5g\n", p->transport_cost, p->reg_ot_cost,
           p->mass);
}

void transport_summary(const transport_job *job)
{
    const ferry_potentials *p = &job->potentials;
    const transport_options *o = job->o;
    const cli_program *program = job->program;
    char peak[32];
    input_print("source", &job->source);
    input_print("target", &job->target);
    printf("cost     %s, scaled by %s; epsilon %.6g", o->cost, o->scale_cost, p->epsilon);
    if (p->tau_a < 1 || p->tau_b < 1) printf("; unbalanced, tau %g and %g", p->tau_a, p->tau_b);
    printf("\n");
    if (p->estimated)
        print_estimates(job);
    else
        print_figures(job);
    printf("run      %.2f s on %d rank%s of %d thread%s (%s), at most %s per rank\n", now_seconds() - program->started,
           program->world.size, program->world.size == 1 ? "" : "s", program->threads, program->threads == 1 ? "" : "s",
           program->kernels->name, ferry_size_text(peak, (double)ferry_usage_now().peak_pss));
    printf("written  %s\n", o->common.output);
}

static void warn_mass(const transport_job *job)
{
    const ferry_potentials *p = &job->potentials;
    double least = fmin(job->sum_a, job->sum_b), most = fmax(job->sum_a, job->sum_b);
    if ((p->tau_a >= 1 && p->tau_b >= 1) || !(least > 0)) return;
    if (p->mass < 0.5 * least)
        ferry_log(&job->program->world, FERRY_WARN,
                  "the plan carries mass %.3g where the sides have %.3g and %.3g: most mass is created and destroyed "
                  "instead of moved; raise --tau-a and --tau-b towards 1, or --epsilon",
                  p->mass, job->sum_a, job->sum_b);
    else if (p->mass > 2 * most)
        ferry_log(&job->program->world, FERRY_WARN,
                  "the plan carries mass %.3g where the sides have %.3g and %.3g: the entropy term favours mass (it "
                  "depends on the numbers of cells); lower --epsilon, or raise --tau-a and --tau-b towards 1",
                  p->mass, job->sum_a, job->sum_b);
}

void transport_warn(const transport_job *job)
{
    const ferry_potentials *p = &job->potentials;
    const ferry_world *world = &job->program->world;
    if (p->estimated)
        ferry_log(world, FERRY_WARN,
                  "not certified: the error %.3g is an estimate from %lld rows and columns, so the result is marked "
                  "converged=false. For less error give --coarse more cells, or go on over all pairs with --initial %s",
                  p->marginal_error, (long long)job->coreset.sample, job->o->common.output);
    else if (job->coarse && !p->converged)
        ferry_log(
            world, FERRY_WARN,
            "not converged: error %.3g over all pairs, threshold %g; the result is written and marked "
            "converged=false. Go on with --initial %s (without --coarse), which is a good start, or give --coarse "
            "more cells",
            p->marginal_error, job->solver.threshold, job->o->common.output);
    else if (!p->converged)
        ferry_log(world, FERRY_WARN,
                  "not converged: error %.3g after %d iterations, threshold %g; the result is written and marked "
                  "converged=false. Raise --max-iterations or --epsilon, or go on with --initial %s",
                  p->marginal_error, p->iterations, job->solver.threshold, job->o->common.output);
    if (isfinite(p->independence) && p->independence < 0.1)
        ferry_log(world, FERRY_WARN,
                  "the plan is nearly the product of its marginals (distance %.2g): epsilon %.3g is too large to tell "
                  "cells apart; lower --epsilon",
                  p->independence, p->epsilon);
    warn_mass(job);
}

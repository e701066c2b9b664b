/* Log-domain Sinkhorn in OTT-JAX's order, one pass over the pairs per iteration (eps = epsilon, L without own
 * potential):
 *
 *   g_j = tau_b (eps log b_j - eps log sum_i exp((f_i - C_ij) / eps))      from the column sums of the pass before
 *   f_i = tau_a (eps log a_i - eps log sum_j exp((g_j - C_ij) / eps))      row by row in the pass
 *   c_j = sum_i exp((f_i + g_j - C_ij) / eps)                              in the same pass, with the new f
 *
 * Iteration k ends with (f_k, g_k) and c, which holds the error at k and g_{k+1}. The first g comes from a column
 * log-sum-exp at the initial f. Momentum w: the new potential is (1 - w) old + w new.
 * Recentring (both taus below 1): the translation-invariant updates of Sejourne, Vialard, Peyre 2022. */
#include "accelerate_impl.h"
#include "nested_impl.h"
#include "regroup_impl.h"
#include "sinkhorn_impl.h"
#include "store_impl.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT

/* --- options, weights, memory --- */

static ferry_status check_options(const ferry_transport_options *o)
{
    const struct {
        bool wrong;
        const char *what;
        double value;
    } rules[] = {
        {!(o->epsilon > 0) || !isfinite(o->epsilon), "epsilon is %g: it must be positive", o->epsilon},
        {!(o->tau_a > 0 && o->tau_a <= 1), "tau_a is %g: it must be above 0 and at most 1 (balanced)", o->tau_a},
        {!(o->tau_b > 0 && o->tau_b <= 1), "tau_b is %g: it must be above 0 and at most 1 (balanced)", o->tau_b},
        {!(o->threshold >= 0), "threshold is %g: it must not be negative", o->threshold},
        {o->norm_error != 1 && o->norm_error != 2, "norm_error is %g: it must be 1 or 2", o->norm_error},
        {o->check_every < 1, "check_every is %g: it must be at least 1", o->check_every},
        {o->min_iterations < 0, "min_iterations is %g: it must not be negative", o->min_iterations},
        {o->max_iterations < 1, "max_iterations is %g: it must be at least 1", o->max_iterations},
        {!(o->momentum > 0 && o->momentum < 2), "momentum is %g: it must lie between 0 and 2", o->momentum},
        {o->solver != FERRY_SOLVER_AUTO && o->solver != FERRY_SOLVER_SINKHORN, "there is no solver number %g",
         o->solver},
        {o->momentum_adaptive_from < 0, "adaptive momentum from iteration %g: it must not be negative",
         o->momentum_adaptive_from},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wrong) {
            char text[128];
            snprintf(text, sizeof text, rules[i].what, rules[i].value);
            return ferry_fail(FERRY_E_ARG, "%s", text);
        }
    return FERRY_OK;
}

static ferry_status check_weights(const double *weights, int64_t count, const char *side)
{
    for (int64_t i = 0; i < count; i++)
        if (!(weights[i] >= 0) || !isfinite(weights[i]))
            return ferry_fail(FERRY_E_ARG, "a %s weight is %g: weights must be finite and not negative", side,
                              weights[i]);
    return FERRY_OK;
}

/* Local. An initial potential into out; -inf where the weight is 0. */
static ferry_status start_from(double *out, const double *given, const double *weights, int64_t count, const char *side)
{
    for (int64_t i = 0; i < count; i++) {
        out[i] = weights[i] > 0 ? (given ? given[i] : 0) : -INFINITY;
        if (weights[i] > 0 && !isfinite(out[i]))
            return ferry_fail(FERRY_E_ARG, "an initial %s potential is %g where the weight is positive", side, out[i]);
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status begin(ferry_sinkhorn *s, ferry_cost *cost, const double *a, const double *b,
                          const ferry_transport_options *o)
{
    s->grid = ferry_cost_grid(cost);
    s->cost = cost;
    s->source = ferry_cost_source(cost);
    s->options = o;
    if (!s->source) return ferry_fail(FERRY_E_ARG, "this cost has no source side: nothing to solve");
    FERRY_TRY(check_options(o));
    s->a = a;
    s->b = b;
    s->sources = s->grid->source_rows;
    s->targets = s->grid->target_rows;
    s->rows = s->source->panels * ROWS;
    s->columns = s->cost->columns;
    s->epsilon = o->epsilon;
    s->tau_a = o->tau_a;
    s->tau_b = o->tau_b;
    s->rho_a = o->tau_a == 1 ? INFINITY : o->epsilon * o->tau_a / (1 - o->tau_a);
    s->rho_b = o->tau_b == 1 ? INFINITY : o->epsilon * o->tau_b / (1 - o->tau_b);
    s->balanced = o->tau_a == 1 && o->tau_b == 1;
    s->shifting = o->recenter && o->tau_a < 1 && o->tau_b < 1;
    s->threads = ferry_cost_options_of(cost)->threads;
    s->weight = 1;
    FERRY_TRY(check_weights(a, s->sources, "source"));
    FERRY_TRY(check_weights(b, s->targets, "target"));
    FERRY_TRY(ferry_alloc(&s->f, s->rows));
    FERRY_TRY(ferry_alloc(&s->r, s->rows));
    FERRY_TRY(ferry_alloc(&s->g, s->columns));
    FERRY_TRY(ferry_alloc(&s->c, s->columns));
    FERRY_TRY(ferry_alloc(&s->work, s->rows > s->columns ? s->rows : s->columns));
    if (s->shifting) FERRY_TRY(ferry_alloc(&s->raw, s->rows));
    for (int64_t i = s->sources; i < s->rows; i++) s->f[i] = -INFINITY;
    FERRY_TRY(start_from(s->f, o->f, a, s->sources, "source"));
    FERRY_TRY(start_from(s->g, o->g, b, s->targets, "target"));
    return ferry_sinkhorn_open_passes(s);
}

static void end(ferry_sinkhorn *s)
{
    ferry_sinkhorn_close_passes(s);
    free(s->f);
    free(s->r);
    free(s->g);
    free(s->c);
    free(s->work);
    free(s->raw);
}

/* Local. What the accelerated loop needs beside, with the most groups it may take; the ranks of a node share the
 * targets' copy, here taken as one rank's. */
static int64_t accelerated_bytes(const ferry_cost_options *cost, int dim, int64_t sources, int64_t targets,
                                 int64_t source_rows, int64_t target_rows, int grid_rows, int grid_cols)
{
    const int64_t least = sources < targets ? sources : targets;
    const int groups = ferry_accelerate_most_groups(least), threads = cost->threads < 1 ? 1 : cost->threads;
    if (least < FERRY_ACCELERATE_FROM) return 0;
    return ferry_groups_bytes(cost, dim, groups, sources, targets, source_rows, target_rows) +
           ferry_nested_bytes(cost, dim, sources, targets, source_rows, target_rows, grid_rows, grid_cols) +
           ferry_regrouped_bytes(source_rows, target_rows) +
           ferry_accelerate_bytes(groups, threads, source_rows, target_rows) +
           ferry_store_groups_bytes(groups, threads);
}

int64_t ferry_transport_bytes(const ferry_cost_options *cost, int dim, int64_t sources, int64_t targets,
                              int64_t source_rows, int64_t target_rows, int grid_rows, int grid_cols)
{
    const int64_t rows = source_rows + ROWS, columns = target_rows + COLUMNS;
    /* f, r, raw, work, and in the result four sums per row; f and g once more in the answer, best f and g of momentum
     */
    const int64_t vectors = 10 * rows + 9 * columns;
    return vectors * (int64_t)sizeof(double) +
           ferry_sinkhorn_pass_bytes(cost, dim, sources, targets, source_rows, target_rows, grid_cols) +
           accelerated_bytes(cost, dim, sources, targets, source_rows, target_rows, grid_rows, grid_cols);
}

int64_t ferry_cache_bytes(int64_t source_rows, int64_t target_rows)
{
    return ferry_store_bytes(source_rows, target_rows);
}

/* Collective. */
static ferry_status check_masses(ferry_sinkhorn *s)
{
    FERRY_TRY(ferry_sinkhorn_source_sum(&s->mass_a, s, s->a));
    FERRY_TRY(ferry_sinkhorn_target_sum(&s->mass_b, s, s->b));
    if (!(s->mass_a > 0) || !(s->mass_b > 0))
        return ferry_fail(FERRY_E_ARG, "the %s weights sum to %g: some must be positive",
                          s->mass_a > 0 ? "target" : "source", s->mass_a > 0 ? s->mass_b : s->mass_a);
    if (s->balanced && fabs(s->mass_a - s->mass_b) > 1e-6 * fmax(s->mass_a, s->mass_b))
        return ferry_fail(FERRY_E_ARG,
                          "source weights sum to %.9g and target weights to %.9g: a balanced problem needs equal sums; "
                          "normalise them, or set tau-a or tau-b below 1",
                          s->mass_a, s->mass_b);
    return FERRY_OK;
}

/* --- sums of one side --- */

ferry_status ferry_sinkhorn_source_sum(double *out, ferry_sinkhorn *s, const double *values)
{
    return ferry_agree(s->grid->world,
                       ferry_canonical_sum(out, values, &s->grid->source, &s->grid->down, s->cost->options.reduction));
}
ferry_status ferry_sinkhorn_target_sum(double *out, ferry_sinkhorn *s, const double *values)
{
    return ferry_agree(s->grid->world, ferry_canonical_sum(out, values, &s->grid->target, &s->grid->across,
                                                           s->cost->options.reduction));
}

ferry_status ferry_sinkhorn_soft_min(double *out, ferry_sinkhorn *s, const double *h, bool target)
{
    const double *weights = target ? s->b : s->a, rho = target ? s->rho_b : s->rho_a;
    const int64_t count = target ? s->targets : s->sources;
    double top = -INFINITY, sum;
    for (int64_t i = 0; i < count; i++)
        if (weights[i] > 0 && -h[i] / rho > top) top = -h[i] / rho;
    top = ferry_max_double(target ? &s->grid->across : &s->grid->down, top);
    for (int64_t i = 0; i < count; i++) s->work[i] = weights[i] > 0 ? weights[i] * exp(-h[i] / rho - top) : 0;
    FERRY_TRY(target ? ferry_sinkhorn_target_sum(&sum, s, s->work) : ferry_sinkhorn_source_sum(&sum, s, s->work));
    *out = -rho * (top + log(sum));
    return FERRY_OK;
}

ferry_status ferry_sinkhorn_best_shift(double *shift, ferry_sinkhorn *s)
{
    double least_f, least_g;
    FERRY_TRY(ferry_sinkhorn_soft_min(&least_f, s, s->f, false));
    FERRY_TRY(ferry_sinkhorn_soft_min(&least_g, s, s->g, true));
    *shift = s->rho_a * s->rho_b / (s->rho_a + s->rho_b) * (least_g / s->rho_b - least_f / s->rho_a);
    return FERRY_OK;
}

/* k and xi of the translation-invariant updates */
static double kappa(double ti, double tj, double ta, double tb)
{
    return -tj * (ta - 1) * (tb - 1) * (ti - 1) / ((tj - 1) * (ta * (tb - 1) + tb * (ta - 1)));
}
static double xi(double ti, double tj, double ta, double tb)
{
    const double k = kappa(ti, tj, ta, tb);
    return k / (1 - k);
}

/* --- the two updates --- */

/* Collective. Constants of the new f: f, and with it c and r. */
static ferry_status shift_rows(ferry_sinkhorn *s)
{
    const double ta = s->tau_a, tb = s->tau_b;
    double least_g, least_f;
    FERRY_TRY(ferry_sinkhorn_soft_min(&least_g, s, s->g, true));
    FERRY_TRY(ferry_sinkhorn_soft_min(&least_f, s, s->raw, false));
    const double first = -kappa(ta, ta, ta, tb) * least_g;
    const double shift = s->weight * (first + xi(ta, tb, ta, tb) * (least_f + first));
    const double times = exp(shift / s->epsilon);
    for (int64_t i = 0; i < s->sources; i++) {
        s->f[i] += shift;
        s->r[i] *= times;
    }
    for (int64_t j = 0; j < s->targets; j++) s->c[j] *= times;
    return FERRY_OK;
}

/* Collective. lse_j where the column sums are no use, by a pass of its own; at the start for all columns. A column sum
 * below 2^-90 b_j has lost what float cannot hold. */
static ferry_status rescue_columns(ferry_sinkhorn *s, double *lse, bool *rescued, bool all)
{
    int64_t lost = all;
    for (int64_t j = 0; j < s->targets && !lost; j++)
        lost = s->b[j] > 0 && !(s->c[j] >= s->b[j] * 0x1p-90 && s->c[j] < INFINITY);
    if (s->grid->cols > 1) lost = ferry_max(&s->grid->across, lost); /* down the grid c is the same */
    *rescued = lost != 0;
    return lost ? ferry_sinkhorn_column_lse(lse, s) : FERRY_OK;
}

/* Collective. g of the next iteration from f and c (all: from f alone). */
static ferry_status update_g(ferry_sinkhorn *s, bool all)
{
    const double ta = s->tau_a, tb = s->tau_b, w = s->weight;
    double shift = 0, least_f, least_g;
    bool rescued;
    FERRY_AUTO double *g = NULL;
    FERRY_TRY(ferry_agree(s->grid->world, ferry_alloc(&g, s->columns)));
    FERRY_TRY(rescue_columns(s, g, &rescued, all));
    for (int64_t j = 0; j < s->targets; j++) {
        const bool usable = !all && s->c[j] >= s->b[j] * 0x1p-90 && s->c[j] < INFINITY;
        if (!(s->b[j] > 0))
            g[j] = -INFINITY;
        else if (usable)
            g[j] = tb * (s->epsilon * log(s->b[j] / s->c[j]) + s->g[j]);
        else
            g[j] = tb * (s->epsilon * log(s->b[j]) - g[j]);
    }
    if (s->shifting) {
        FERRY_TRY(ferry_sinkhorn_soft_min(&least_f, s, s->f, false));
        FERRY_TRY(ferry_sinkhorn_soft_min(&least_g, s, g, true));
        const double first = -kappa(tb, tb, ta, tb) * least_f;
        shift = first + xi(tb, ta, ta, tb) * (least_g + first);
    }
    for (int64_t j = 0; j < s->targets; j++) {
        if (!(s->b[j] > 0)) continue;
        s->g[j] = w == 1 ? g[j] + shift : s->g[j] + w * (g[j] + shift - s->g[j]);
    }
    return FERRY_OK;
}

ferry_status ferry_sinkhorn_first_g(ferry_sinkhorn *s)
{
    return update_g(s, true);
}

/* Collective. OTT's error: the column marginal's when balanced; otherwise of both sides, against what the penalties
 * allow, a exp(-f / rho_a) and b exp(-g / rho_b). */
ferry_status ferry_sinkhorn_error(double *error, ferry_sinkhorn *s)
{
    const int p = s->options->norm_error;
    double shift = 0, rows = 0, columns;
    if (s->shifting) FERRY_TRY(ferry_sinkhorn_best_shift(&shift, s));
    for (int64_t j = 0; j < s->targets; j++) {
        const double goal = s->tau_b == 1 ? s->b[j] : s->b[j] > 0 ? s->b[j] * exp(-(s->g[j] - shift) / s->rho_b) : 0;
        const double gap = fabs(s->c[j] - goal);
        s->work[j] = p == 1 ? gap : gap * gap;
    }
    FERRY_TRY(ferry_sinkhorn_target_sum(&columns, s, s->work));
    if (!s->balanced) {
        for (int64_t i = 0; i < s->sources; i++) {
            const double goal = s->tau_a == 1 ? s->a[i]
                                : s->a[i] > 0 ? s->a[i] * exp(-(s->f[i] + shift) / s->rho_a)
                                              : 0;
            const double gap = fabs(s->r[i] - goal);
            s->work[i] = p == 1 ? gap : gap * gap;
        }
        FERRY_TRY(ferry_sinkhorn_source_sum(&rows, s, s->work));
    }
    *error = p == 1 ? columns + rows : sqrt(columns) + sqrt(rows);
    return FERRY_OK;
}

/* --- momentum --- */

/* The best point seen, to return to when momentum makes things worse. */
typedef struct safeguard {
    bool on, fallen; /* watching; momentum given up */
    int worse;       /* checks in a row above the best */
    double best;
    double *f, *g; /* f at the best check and the plain g that follows from it */
} safeguard;

static ferry_status open_safeguard(safeguard *guard, const ferry_sinkhorn *s)
{
    guard->on = s->options->momentum > 1 || s->options->momentum_adaptive_from > 0;
    guard->best = INFINITY;
    if (!guard->on) return FERRY_OK;
    FERRY_TRY(ferry_alloc(&guard->f, s->rows));
    return ferry_alloc(&guard->g, s->columns);
}
static void close_safeguard(safeguard *guard)
{
    free(guard->f);
    free(guard->g);
}

/* OTT's weight of the new potentials at iteration `it`; adaptive (Lehmann 2021) once two errors before `from` are
 * known: w = 2 / (1 + sqrt(1 - rate)), rate per iteration from the two checks before `from`. */
static double weight_at(const ferry_sinkhorn *s, const safeguard *guard, const double *errors, int it)
{
    const ferry_transport_options *o = s->options;
    if (guard->fallen) return 1;
    if (o->momentum_adaptive_from <= 0) return o->momentum;
    int check = o->momentum_adaptive_from / o->check_every;
    if (check < 2) check = 2;
    if (it < o->momentum_adaptive_from || it < check * o->check_every) return o->momentum;
    const double ratio = fmin(errors[check - 1] / errors[check - 2], 0.99);
    return 2 / (1 + sqrt(1 - pow(ratio, 1.0 / o->check_every)));
}

/* Local, the same on all ranks. Keeps the best point; true when it is time to go back to it. */
static bool watch(safeguard *guard, const ferry_sinkhorn *s, double error)
{
    if (!guard->on || guard->fallen) return false;
    if (error < guard->best) {
        guard->best = error;
        guard->worse = 0;
        memcpy(guard->f, s->f, (size_t)s->rows * sizeof *s->f);
        for (int64_t j = 0; j < s->targets; j++) /* a lost column keeps its g */
            guard->g[j] = s->b[j] > 0 && s->c[j] >= s->b[j] * 0x1p-90
                              ? s->tau_b * (s->epsilon * log(s->b[j] / s->c[j]) + s->g[j])
                              : s->g[j];
        return false;
    }
    guard->worse++;
    return isfinite(guard->best) && (!isfinite(error) || error > 10 * guard->best || guard->worse >= 5);
}
static void fall_back(safeguard *guard, ferry_sinkhorn *s, int iterations)
{
    ferry_log(s->grid->world, FERRY_INFO,
              "momentum %.3g makes the error grow: back to the best point and plain iterations after iteration %d",
              s->weight, iterations);
    guard->fallen = true;
    memcpy(s->f, guard->f, (size_t)s->rows * sizeof *s->f);
    memcpy(s->g, guard->g, (size_t)s->targets * sizeof *s->g);
}

/* --- the loop --- */

/* Local. Record one more error. */
ferry_status ferry_sinkhorn_record(ferry_potentials *out, double error)
{
    if ((out->checks & (out->checks - 1)) == 0) /* room for the next power of two */
        FERRY_TRY(ferry_grow(&out->errors, out->checks, out->checks ? 2 * (int64_t)out->checks : 1));
    out->errors[out->checks++] = isfinite(error) ? error : DBL_MAX;
    return FERRY_OK;
}

/* Collective. Error at the end of a block of iterations; *stop when it is time. */
static ferry_status check(bool *stop, ferry_potentials *out, ferry_sinkhorn *s, safeguard *guard)
{
    const ferry_transport_options *o = s->options;
    double error;
    FERRY_TRY(ferry_sinkhorn_error(&error, s));
    FERRY_TRY(ferry_agree(s->grid->world, ferry_sinkhorn_record(out, error)));
    out->iterations = out->checks * o->check_every;
    out->converged = error < o->threshold;
    *stop = (out->converged && out->iterations >= o->min_iterations) || out->iterations >= o->max_iterations;
    if (*stop && isfinite(error)) return FERRY_OK;
    if (watch(guard, s, error)) {
        *stop = false;
        fall_back(guard, s, out->iterations);
    } else if (!isfinite(error)) {
        return ferry_fail(FERRY_E_NUMERIC,
                          "after %d iterations the potentials are no longer finite: raise epsilon (%g), or use "
                          "--precision double",
                          out->iterations, s->epsilon);
    }
    return FERRY_OK;
}

void ferry_sinkhorn_progress(const ferry_sinkhorn *s, const ferry_potentials *out, int done)
{
    char note[48] = "";
    if (out->checks) snprintf(note, sizeof note, "error %.2e", out->errors[out->checks - 1]);
    ferry_progress(s->grid->world, "transport", done, s->options->max_iterations, "iterations", note);
    ferry_stage_sample();
}

/* Collective. */
static ferry_status iterate(ferry_potentials *out, ferry_sinkhorn *s, safeguard *guard)
{
    const ferry_transport_options *o = s->options;
    bool stop = false;
    s->weight = weight_at(s, guard, NULL, 0);
    if (!s->given && (o->f || !o->g)) FERRY_TRY(update_g(s, true)); /* a g given without f is used as it is */
    for (int it = 0; !stop; it++) {
        const bool fallen = guard->fallen;
        s->scoring = (it + 1) % o->check_every == 0; /* it may be the last */
        FERRY_TRY(ferry_sinkhorn_iterate(s));
        if (s->shifting) FERRY_TRY(shift_rows(s));
        if ((it + 1) % o->check_every == 0) FERRY_TRY(check(&stop, out, s, guard));
        ferry_sinkhorn_progress(s, out, it + 1);
        s->weight = weight_at(s, guard, out->errors, it + 1);
        if (!stop && fallen == guard->fallen) FERRY_TRY(update_g(s, false)); /* else g is the best point's */
    }
    return FERRY_OK;
}

/* Collective. Recentred potentials, as OTT leaves them: f with mean 0, or the best constant when unbalanced. */
static ferry_status recenter(ferry_sinkhorn *s)
{
    double shift, count;
    if (!s->options->recenter) return FERRY_OK;
    if (s->shifting) {
        FERRY_TRY(ferry_sinkhorn_best_shift(&shift, s));
    } else if (s->balanced) {
        for (int64_t i = 0; i < s->sources; i++) s->work[i] = s->a[i] > 0;
        FERRY_TRY(ferry_sinkhorn_source_sum(&count, s, s->work));
        for (int64_t i = 0; i < s->sources; i++) s->work[i] = s->a[i] > 0 ? s->f[i] : 0;
        FERRY_TRY(ferry_sinkhorn_source_sum(&shift, s, s->work));
        shift /= -count;
    } else {
        return FERRY_OK; /* one side alone balanced: OTT leaves them as they are */
    }
    for (int64_t i = 0; i < s->sources; i++) s->f[i] += shift;
    for (int64_t j = 0; j < s->targets; j++) s->g[j] -= shift;
    return FERRY_OK;
}

/* Local. The answer takes f and g over. */
static void hand_over(ferry_potentials *out, ferry_sinkhorn *s)
{
    out->f = s->f;
    out->g = s->g;
    s->f = s->g = NULL;
    out->sources = s->sources;
    out->targets = s->targets;
    out->epsilon = s->epsilon;
    out->tau_a = s->tau_a;
    out->tau_b = s->tau_b;
    out->passes = s->passes;
    out->marginal_error = out->errors[out->checks - 1];
}

/* Collective in safe mode. */
static ferry_status check_same(const ferry_world *world, const ferry_transport_options *o)
{
    const double same[] = {o->epsilon,        o->tau_a,          o->tau_b,          o->threshold,
                           o->norm_error,     o->check_every,    o->momentum,       o->momentum_adaptive_from,
                           o->min_iterations, o->max_iterations, o->recenter,       (double)o->solver,
                           o->f != NULL,      o->g != NULL,      o->cache_bytes > 0};
    return ferry_same(world, "the transport options", same, sizeof same);
}

/* Collective. */
static ferry_status solve(ferry_potentials *out, ferry_sinkhorn *s, safeguard *guard, const ferry_groups *groups)
{
    FERRY_TRY(check_masses(s));
    FERRY_TRY(ferry_agree(s->grid->world, open_safeguard(guard, s)));
    FERRY_TRY(groups ? ferry_sinkhorn_accelerate(out, s, groups) : iterate(out, s, guard));
    FERRY_TRY(recenter(s));
    return ferry_sinkhorn_result(out, s);
}

/* Collective. One solve; groups: of the cost, for the accelerated loop, or NULL; given: begin at options' f and g. */
static ferry_status solve_with(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                               const ferry_transport_options *options, const ferry_groups *groups, bool given)
{
    ferry_sinkhorn s = {.given = given};
    safeguard guard = {0};
    ferry_status status = ferry_agree(cost->grid->world, begin(&s, cost, a, b, options));
    if (status == FERRY_OK) status = solve(out, &s, &guard, groups);
    if (status == FERRY_OK) hand_over(out, &s);
    close_safeguard(&guard);
    end(&s);
    return status;
}

ferry_status ferry_transport(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                             const ferry_transport_options *options)
{
    memset(out, 0, sizeof *out);
    ferry_status status = check_same(cost->grid->world, options);
    if (status == FERRY_OK && ferry_accelerable(cost, options)) {
        ferry_regrouped r = {0};
        status = ferry_regrouped_open(&r, cost, a, b, options);
        if (status == FERRY_OK) status = solve_with(out, &r.groups.cost, r.a, r.b, &r.options, &r.groups, false);
        if (status == FERRY_OK) status = ferry_regrouped_restore(out, &r);
        ferry_regrouped_close(&r);
    } else if (status == FERRY_OK) {
        status = solve_with(out, cost, a, b, options, NULL, false);
    }
    if (status != FERRY_OK) ferry_potentials_close(out);
    return status;
}

ferry_status ferry_transport_once(ferry_potentials *out, ferry_cost *cost, const double *a, const double *b,
                                  const ferry_transport_options *options)
{
    ferry_transport_options once = *options;
    once.solver = FERRY_SOLVER_SINKHORN;
    once.momentum = once.max_iterations = once.check_every = 1;
    once.momentum_adaptive_from = once.min_iterations = 0;
    memset(out, 0, sizeof *out);
    ferry_status status = check_same(cost->grid->world, &once);
    if (status == FERRY_OK) status = solve_with(out, cost, a, b, &once, NULL, true);
    if (status != FERRY_OK) ferry_potentials_close(out);
    return status;
}

void ferry_potentials_close(ferry_potentials *potentials)
{
    free(potentials->f);
    free(potentials->g);
    free(potentials->errors);
    memset(potentials, 0, sizeof *potentials);
}

/* Fewer passes to the same fixed point.
 *
 * A pass is the plain iteration's (sinkhorn_pass.c): with psi = g / eps, phi = f / eps (nats) it finishes the rows and
 * gives the column sums c. Slow modes of the plain step psi_j += tau_b log(bt_j / c_j), bt_j = b_j exp(-kb psi_j), kb =
 * (1 - tau_b) / tau_b, are constants on groups of near cells: one per group. So each pass also yields Q [K][K], the
 * mass between groups, and the step becomes
 *
 *   residual_j = tau_b log(bt_j / c_j) + v_group(j),      v: balance of Q with columns at their new sums (balance.c)
 *
 * (for one group v is the closed-form translation of unbalanced problems), mixed by Anderson.
 *
 * Q without sorting rows: groups_impl.h. Its row sums are what the rows have, its columns are scaled to the new column
 * sums of their groups, so v = 0 at the fixed point and the answer is that of the plain iteration.
 *
 * Safety: the best point is kept; a step that makes things much worse goes back to it (anderson.h); where that does not
 * help the loop falls back to plain steps from the best point. The error is that of a dense pass at (f, g), always. */
#include "accelerate_impl.h"
#include "coarse_impl.h"
#include "math/anderson.h"
#include "mpi/log.h"
#include <math.h>
#include <string.h>

#define MIX_BELOW 0.3   /* relative error from which on steps are mixed */
#define PATIENCE  40    /* passes without a better point, then plain steps */
#define RESTARTS  10    /* as many, then plain steps */
#define NEAR_ONE  0.999 /* taus from which on the translation must have settled too */
#define LARGE     20000 /* cells from which on more groups pay */
#define EXTRA     5     /* passes granted to it */

typedef struct accelerated {
    ferry_sinkhorn *s;
    const ferry_groups *groups;
    ferry_aggregate aggregate;
    ferry_anderson mixing;
    double *psi, *residual, *before; /* [targets] nats, 0 where b is 0 */
    double *best;                    /* [targets] */
    double *column;                  /* [count] sums of columns of Q */
    double *v;                       /* [count] */
    int64_t *sums;                   /* [count][2] of the targets of each group: c, goal after the plain step */
    ferry_balance balance;
    double ka, kb;
    double error, best_error; /* L1 of columns, relative to the goals' sum */
    double mass, goal;        /* sum c, sum bt */
    int since_best, extra;
    bool plain;
} accelerated;

static ferry_status open_accelerated(accelerated *x, ferry_sinkhorn *s, const ferry_groups *groups)
{
    const int64_t count = groups->count;
    *x = (accelerated){.s = s, .groups = groups, .best_error = INFINITY};
    x->ka = (1 - s->tau_a) / s->tau_a;
    x->kb = (1 - s->tau_b) / s->tau_b;
    x->aggregate = (ferry_aggregate){.groups = groups, .size = count * count};
    x->balance = (ferry_balance){.count = groups->count, .tau_a = s->tau_a, .tau_b = s->tau_b};
    FERRY_TRY(ferry_alloc(&x->aggregate.sums, x->aggregate.size * s->threads));
    FERRY_TRY(ferry_alloc(&x->psi, s->targets));
    FERRY_TRY(ferry_alloc(&x->residual, s->targets));
    FERRY_TRY(ferry_alloc(&x->before, s->targets));
    FERRY_TRY(ferry_alloc(&x->best, s->targets));
    FERRY_TRY(ferry_alloc(&x->column, count));
    FERRY_TRY(ferry_alloc(&x->v, count));
    FERRY_TRY(ferry_alloc(&x->sums, 2 * count));
    FERRY_TRY(ferry_alloc(&x->balance.q, count * count));
    FERRY_TRY(ferry_alloc(&x->balance.a, count));
    FERRY_TRY(ferry_alloc(&x->balance.b, count));
    return ferry_anderson_open(&x->mixing, s->targets, s->b, &s->grid->target, &s->grid->across,
                               s->cost->options.reduction);
}
static void close_accelerated(accelerated *x)
{
    free(x->aggregate.sums);
    free(x->psi);
    free(x->residual);
    free(x->before);
    free(x->best);
    free(x->column);
    free(x->v);
    free(x->sums);
    free(x->balance.q);
    free(x->balance.a);
    free(x->balance.b);
    ferry_anderson_close(&x->mixing);
}

int64_t ferry_accelerate_bytes(int groups, int threads, int64_t target_rows)
{
    const int64_t count = groups;
    return count * count * (int64_t)sizeof(int64_t) * threads + 4 * count * count * (int64_t)sizeof(double) +
           4 * target_rows * (int64_t)sizeof(double) + ferry_anderson_bytes(target_rows);
}

/* --- one pass --- */

static double goal_of(const accelerated *x, int64_t j, double psi)
{
    return x->kb > 0 ? x->s->b[j] * exp(-x->kb * psi) : x->s->b[j];
}

/* Collective. mass, goal and the error of this pass, the best point. */
static ferry_status measure(accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    double gap;
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? s->c[j] : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&x->mass, s, s->work));
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? goal_of(x, j, x->psi[j]) : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&x->goal, s, s->work));
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? fabs(s->work[j] - s->c[j]) : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&gap, s, s->work));
    x->error = gap / x->goal;
    x->since_best++;
    if (x->error < x->best_error) {
        if (x->error < 0.99 * x->best_error) x->since_best = 0;
        x->best_error = x->error;
        memcpy(x->best, x->psi, (size_t)s->targets * sizeof *x->psi);
    }
    return FERRY_OK;
}

/* Collective. Rows and columns at psi. */
static ferry_status pass(accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    ferry_aggregate *q = &x->aggregate;
    for (int64_t j = 0; j < s->targets; j++) s->g[j] = s->b[j] > 0 ? s->epsilon * x->psi[j] : -INFINITY;
    memset(q->sums, 0, (size_t)(q->size * s->threads) * sizeof *q->sums);
    q->units = ferry_exact_units(x->mass);
    s->aggregate = x->plain ? NULL : q;
    ferry_status status = ferry_sinkhorn_iterate(s);
    s->aggregate = NULL;
    FERRY_TRY(status);
    if (!x->plain) {
        for (int t = 1; t < s->threads; t++)
            for (int64_t e = 0; e < q->size; e++) q->sums[e] += q->sums[t * q->size + e];
        ferry_total_counts(s->grid->world, q->sums, q->size);
    }
    return measure(x);
}

/* --- the step --- */

static bool usable(double c, double goal)
{
    return c >= goal * 0x1p-90 && c < INFINITY;
}

/* Collective. The plain step; columns whose sums float has lost, by a pass of their own. */
static ferry_status plain_residual(accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    const double tb = s->tau_b;
    int64_t lost = 0;
    for (int64_t j = 0; j < s->targets; j++) {
        x->residual[j] = 0;
        if (!(s->b[j] > 0)) continue;
        const double goal = goal_of(x, j, x->psi[j]);
        if (!usable(s->c[j], goal))
            lost = 1;
        else
            x->residual[j] = tb * log(goal / s->c[j]);
    }
    if (s->grid->cols > 1) lost = ferry_max(&s->grid->across, lost);
    if (!lost) return FERRY_OK;
    FERRY_AUTO double *lse = NULL;
    FERRY_TRY(ferry_agree(s->grid->world, ferry_alloc(&lse, s->columns)));
    FERRY_TRY(ferry_sinkhorn_column_lse(lse, s));
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0 && !usable(s->c[j], goal_of(x, j, x->psi[j])))
            x->residual[j] = tb * (log(s->b[j]) - lse[j] / s->epsilon) - x->psi[j];
    return FERRY_OK;
}

/* Collective. Column sums and goals after the plain step, by groups. */
static void sum_groups(accelerated *x, double units)
{
    const ferry_sinkhorn *s = x->s;
    const int64_t numbers = 2 * (int64_t)x->groups->count;
    memset(x->sums, 0, (size_t)numbers * sizeof *x->sums);
    for (int64_t j = 0; j < s->targets; j++) {
        if (!(s->b[j] > 0)) continue;
        int64_t *sum = x->sums + (ptrdiff_t)2 * x->groups->target_group[j];
        const double after = goal_of(x, j, x->psi[j] + x->residual[j]);
        const bool used = usable(s->c[j], goal_of(x, j, x->psi[j]));
        sum[0] += ferry_exact(used ? s->c[j] * exp(x->residual[j]) : after, units);
        sum[1] += ferry_exact(after, units);
    }
    if (s->grid->cols > 1) ferry_total_counts(&s->grid->across, x->sums, numbers);
}

/* Q, A, B of the balance; false where the integers of Q did not hold the mass. */
static bool take_balance(accelerated *x, double units)
{
    const int count = x->groups->count;
    const double mass = 1 / x->aggregate.units;
    ferry_balance *p = &x->balance;
    double total = 0, sum_b = 0;
    memset(x->column, 0, (size_t)count * sizeof *x->column);
    for (int k = 0; k < count; k++) {
        int64_t sum = 0;
        for (int l = 0; l < count; l++) {
            const int64_t now = x->aggregate.sums[(int64_t)k * count + l];
            sum += now;
            x->column[l] += (double)now * mass;
            p->q[(int64_t)k * count + l] = (double)now * mass;
        }
        p->a[k] = (double)sum * mass;
        total += p->a[k];
    }
    for (int l = 0; l < count; l++) {
        p->b[l] = (double)x->sums[2 * l + 1] / units;
        sum_b += p->b[l];
        x->column[l] = x->column[l] > 0 ? (double)x->sums[2 * l] / units / x->column[l] : 0;
    }
    for (int k = 0; k < count; k++)
        for (int l = 0; l < count; l++) {
            double *q = &p->q[(int64_t)k * count + l];
            *q = *q * x->column[l] + 1e-14 * p->a[k] * p->b[l] / sum_b;
        }
    return fabs(total - x->mass) < 1e-2 * x->mass && sum_b > 0;
}

/* Collective. v of all groups, by rank 0. */
static ferry_status balance(accelerated *x)
{
    const ferry_world *world = x->s->grid->world;
    const int count = x->groups->count;
    const double units = ferry_exact_units(x->mass > x->goal ? x->mass : x->goal);
    ferry_status status = FERRY_OK;
    sum_groups(x, units);
    memset(x->v, 0, (size_t)count * sizeof *x->v);
    if (world->rank == 0 && take_balance(x, units))
        status = ferry_balance_solve(x->v, &x->balance, fmin(1e-3 * x->error, 1e-6));
    FERRY_TRY(ferry_agree(world, status));
    ferry_broadcast(world, x->v, (size_t)count * sizeof *x->v, 0);
    return FERRY_OK;
}

/* Collective. The weighted mean of values over targets. */
static ferry_status mean(double *out, accelerated *x, const double *values, const double *weights)
{
    ferry_sinkhorn *s = x->s;
    double sum, weight;
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? weights[j] * values[j] : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&sum, s, s->work));
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? weights[j] : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&weight, s, s->work));
    *out = weight > 0 && isfinite(sum) && isfinite(weight) ? sum / weight : 0;
    return FERRY_OK;
}

/* Collective. psi -> psi + residual, mixed; f follows by the mean step, so that exponents stay those of the plan. */
static ferry_status step(accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    double moved;
    memcpy(x->before, x->psi, (size_t)s->targets * sizeof *x->psi);
    FERRY_TRY(plain_residual(x));
    if (!x->plain) {
        FERRY_TRY(balance(x));
        for (int64_t j = 0; j < s->targets; j++)
            if (s->b[j] > 0) x->residual[j] += x->v[x->groups->target_group[j]];
        if (s->balanced) {
            FERRY_TRY(mean(&moved, x, x->residual, s->b));
            for (int64_t j = 0; j < s->targets; j++)
                if (s->b[j] > 0) x->residual[j] -= moved;
        }
        FERRY_TRY(ferry_agree(s->grid->world,
                              ferry_anderson_step(x->psi, &x->mixing, x->residual, x->error, x->error < MIX_BELOW)));
    } else {
        for (int64_t j = 0; j < s->targets; j++) x->psi[j] += x->residual[j];
    }
    for (int64_t j = 0; j < s->targets; j++) x->before[j] = x->psi[j] - x->before[j];
    FERRY_TRY(mean(&moved, x, x->before, s->c));
    for (int64_t i = 0; i < s->sources; i++) s->f[i] -= s->epsilon * moved;
    return FERRY_OK;
}

/* --- the loop --- */

static void take_psi(accelerated *x)
{
    const ferry_sinkhorn *s = x->s;
    for (int64_t j = 0; j < s->targets; j++) x->psi[j] = s->b[j] > 0 ? s->g[j] / s->epsilon : 0;
}
/* Collective. psi as the plain iteration begins. */
static ferry_status first_psi(accelerated *x)
{
    FERRY_TRY(ferry_sinkhorn_first_g(x->s));
    take_psi(x);
    return FERRY_OK;
}

/* Collective. psi and f of the first pass. */
static ferry_status begin(accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    const ferry_transport_options *o = s->options;
    if (!o->f && !o->g) FERRY_TRY(ferry_coarse_start(s, x->groups));
    if (o->f)
        FERRY_TRY(first_psi(x));
    else
        take_psi(x); /* a g given without f is used as it is */
    for (int64_t i = 0; i < s->sources; i++)
        s->work[i] = s->a[i] > 0 ? s->a[i] * exp(-x->ka * s->f[i] / s->epsilon) : 0;
    return ferry_sinkhorn_source_sum(&x->mass, s, s->work);
}

/* Whether the constant has settled: close to balanced problems a small error leaves much of it. */
static bool settled(accelerated *x)
{
    const ferry_sinkhorn *s = x->s;
    if (s->balanced || s->tau_a < NEAR_ONE || s->tau_b < NEAR_ONE) return true;
    const double left = s->tau_b * log(x->goal / x->mass) / (1 - s->tau_a * s->tau_b);
    return fabs(left) < fmax(10 * s->options->threshold, 1e-4) || x->extra++ >= EXTRA;
}

/* Collective. Plain steps from the best point on, or from the plain iteration's beginning where there is none. */
static ferry_status give_up(accelerated *x, int iterations)
{
    ferry_sinkhorn *s = x->s;
    ferry_log(s->grid->world, FERRY_INFO,
              "accelerated steps do not help: plain iterations from the best point (error %.2e) after iteration %d",
              x->best_error, iterations);
    x->plain = true;
    if (x->best_error < INFINITY) {
        memcpy(x->psi, x->best, (size_t)s->targets * sizeof *x->psi);
        return FERRY_OK;
    }
    for (int64_t i = 0; i < s->sources; i++)
        if (s->a[i] > 0) s->f[i] = s->options->f ? s->options->f[i] : 0;
    return first_psi(x);
}

/* Collective. *again: the next pass is at another point than the step's. */
static ferry_status watch(bool *again, accelerated *x, int iterations)
{
    *again = !x->plain && (!isfinite(x->error) || x->since_best >= PATIENCE || x->mixing.restarts >= RESTARTS);
    if (*again) return give_up(x, iterations);
    if (!isfinite(x->error))
        return ferry_fail(FERRY_E_NUMERIC,
                          "after %d iterations the potentials are no longer finite: raise epsilon (%g), or use "
                          "--precision double",
                          iterations, x->s->epsilon);
    return FERRY_OK;
}

/* Collective. */
static ferry_status loop(ferry_potentials *out, accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    const ferry_transport_options *o = s->options;
    const int most = (o->max_iterations + o->check_every - 1) / o->check_every * o->check_every;
    FERRY_TRY(begin(x));
    for (int it = 1;; it++) {
        double error;
        bool again;
        if (it == most && x->best_error < INFINITY) /* the last one: the best point */
            memcpy(x->psi, x->best, (size_t)s->targets * sizeof *x->psi);
        FERRY_TRY(pass(x));
        if (it % o->check_every == 0) {
            FERRY_TRY(ferry_sinkhorn_error(&error, s));
            FERRY_TRY(ferry_agree(s->grid->world, ferry_sinkhorn_record(out, error)));
            out->iterations = it;
            out->converged = error < o->threshold;
            if (out->converged && it >= o->min_iterations && settled(x)) break;
            if (it >= most) break;
        }
        ferry_sinkhorn_progress(s, out, it);
        FERRY_TRY(watch(&again, x, it));
        if (!again) FERRY_TRY(step(x));
    }
    return FERRY_OK;
}

ferry_status ferry_sinkhorn_accelerate(ferry_potentials *out, ferry_sinkhorn *s, const ferry_groups *groups)
{
    accelerated x = {0};
    const bool shifting = s->shifting;
    s->shifting = false; /* the translation is part of the step */
    ferry_status status = ferry_agree(s->grid->world, open_accelerated(&x, s, groups));
    if (status == FERRY_OK) status = loop(out, &x);
    close_accelerated(&x);
    s->shifting = shifting;
    return status;
}

bool ferry_accelerable(const ferry_cost *cost, const ferry_transport_options *o)
{
    const ferry_grid *grid = ferry_cost_grid(cost);
    const int64_t n = grid->source.blocks.rows, m = grid->target.blocks.rows;
    return o->solver == FERRY_SOLVER_AUTO && o->momentum == 1 && o->momentum_adaptive_from == 0 &&
           n >= FERRY_ACCELERATE_FROM && m >= FERRY_ACCELERATE_FROM && ferry_cost_source(cost);
}

/* The mean cost where it is known without a pass; infinite otherwise. */
static double mean_cost(const ferry_cost *cost)
{
    const int dim = cost->dim;
    const double n = (double)cost->grid->source.blocks.rows, m = (double)cost->grid->target.blocks.rows;
    double dot = 0;
    if (cost->mean_known) return cost->mean;
    if (!cost->bilinear) return INFINITY;
    for (int k = 0; k < dim; k++) dot += cost->sum_x[k] / n * (cost->sum_y[k] / m);
    return cost->inv_scale * (cost->sum_x[dim] / n + cost->sum_y[dim] / m - cost->factor * dot);
}

int ferry_accelerate_most_groups(int64_t least)
{
    const int64_t count = least > LARGE ? 300 : 200;
    return (int)(count <= least / 8 ? count : least < 8 ? 1 : least / 8);
}
int ferry_accelerate_groups(const ferry_cost *cost, double epsilon)
{
    const int64_t sources = cost->grid->source.blocks.rows, targets = cost->grid->target.blocks.rows;
    const double mean = mean_cost(cost);
    const int most = ferry_accelerate_most_groups(sources < targets ? sources : targets);
    const int count = epsilon >= 0.03 * mean ? 100 : epsilon <= 0.01 * mean ? 300 : 200;
    return count < most ? count : most;
}

/* Fewer passes over all pairs to the same fixed point.
 *
 * After a dense pass comes a step towards balance (accelerate_step.c). Where the plan of the pass could be kept
 * (store_impl.h), many such steps follow over the store, at a fifth of a pass's cost or less, until the store is solved
 * as well as the problem is wanted; then a dense pass shows where that has led, and the store is filled anew for what
 * is left. A store corrects at its reference what it has dropped, so each round leaves a small share of the error.
 *
 * Safety: only dense passes decide. The best point is kept; a step that makes things much worse goes back to it
 * (anderson.h); a store that does not help is closed; where nothing helps the loop falls back to plain steps from the
 * best point. The error is that of a dense pass at (f, g), always. */
#include "accelerate_parts_impl.h"
#include "mpi/log.h"
#include "nested_impl.h"
#include <math.h>
#include <string.h>

#define PATIENCE  40    /* passes without a better point, then plain steps */
#define RESTARTS  10    /* as many, then plain steps */
#define NEAR_ONE  0.999 /* taus from which on the translation must have settled too */
#define LARGE     20000 /* cells from which on more groups pay */
#define EXTRA     5     /* passes granted to it */
#define MOST_KEPT 200   /* passes over one store */
#define STALL     30    /* of them without a better point: mixing begins anew, and slow modes take as many to be seen */
#define SHARE     0.3   /* of the threshold, that the store is solved to */
#define EXACT     0.95  /* the same where its tiles are evaluated again: their error is that of a dense pass */
#define DEEPEST   0.003 /* of the error of the pass that filled it: not better than that */
#define HELPFUL   0.7   /* of its error is what a round may leave */
#define USELESS   4     /* rounds in a row that do not, or lead nowhere: then passes over all pairs */
#define REACH     70.0  /* nats: as far from where the store was filled as passes over it go */
#define FREE      12.0  /* the same where columns choose their mass */
#define CHOOSE    0.02  /* share of a goal that such a way changes: there they do */
#define LEAST     4.0   /* of it */
#define WAIT      2     /* steps over all pairs after one that leads nowhere */
#define FEW_WEIGH 0.02  /* of the mean cost: at a smaller epsilon few tiles weigh */

static ferry_status open_accelerated(ferry_accelerated *x, ferry_sinkhorn *s, const ferry_groups *groups)
{
    const int64_t count = groups->count;
    *x = (ferry_accelerated){.s = s, .groups = groups, .best_error = INFINITY};
    x->aggregate = (ferry_aggregate){.groups = groups, .size = count * count};
    x->balance = (ferry_balance){.count = groups->count};
    ferry_accelerated_taus(x);
    x->reach = x->kb * REACH > CHOOSE ? FREE : REACH;
    FERRY_TRY(ferry_alloc(&x->aggregate.sums, x->aggregate.size * s->threads));
    FERRY_TRY(ferry_alloc(&x->psi, s->targets));
    FERRY_TRY(ferry_alloc(&x->residual, s->targets));
    FERRY_TRY(ferry_alloc(&x->before, s->targets));
    FERRY_TRY(ferry_alloc(&x->best, s->targets));
    FERRY_TRY(ferry_alloc(&x->from, s->targets));
    FERRY_TRY(ferry_alloc(&x->near, s->targets));
    FERRY_TRY(ferry_alloc(&x->near_f, s->rows));
    FERRY_TRY(ferry_alloc(&x->wants, s->targets));
    FERRY_TRY(ferry_alloc(&x->column, count));
    FERRY_TRY(ferry_alloc(&x->v, count));
    FERRY_TRY(ferry_alloc(&x->sums, 2 * count));
    FERRY_TRY(ferry_alloc(&x->balance.q, count * count));
    FERRY_TRY(ferry_alloc(&x->balance.factor, count * count));
    FERRY_TRY(ferry_alloc(&x->balance.a, count));
    FERRY_TRY(ferry_alloc(&x->balance.b, count));
    return ferry_anderson_open(&x->mixing, s->targets, x->wants, &s->grid->target, &s->grid->across,
                               s->cost->options.reduction);
}
static void close_accelerated(ferry_accelerated *x)
{
    ferry_store_close(x->store);
    free(x->aggregate.sums);
    free(x->psi);
    free(x->residual);
    free(x->before);
    free(x->best);
    free(x->from);
    free(x->near);
    free(x->near_f);
    free(x->wants);
    free(x->column);
    free(x->v);
    free(x->sums);
    free(x->balance.q);
    free(x->balance.factor);
    free(x->balance.a);
    free(x->balance.b);
    ferry_anderson_close(&x->mixing);
}

int64_t ferry_accelerate_bytes(int groups, int threads, int64_t source_rows, int64_t target_rows)
{
    const int64_t count = groups;
    return count * count * (int64_t)sizeof(int64_t) * threads + 4 * count * count * (int64_t)sizeof(double) +
           (7 * target_rows + source_rows) * (int64_t)sizeof(double) + ferry_anderson_bytes(target_rows);
}

/* --- the store --- */

/* Collective. x->store, where the plan of a pass is likely to fit into what may be used for it; else x->few. */
static ferry_status open_store(ferry_accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    const ferry_world *world = s->grid->world;
    const int64_t allowed = -ferry_max(world, -s->options->cache_bytes);
    x->few = ferry_nested_cells(s->grid->source.blocks.rows, s->grid->target.blocks.rows);
    if (allowed <= 0 || s->cost->options.precision != FERRY_FLOAT) return FERRY_OK;
    const bool fits = !ferry_max(world, ferry_store_bytes(s->sources, s->targets) > s->options->cache_bytes);
    if (fits) x->few = 0;
    if (!fits && !(s->epsilon <= FEW_WEIGH * ferry_mean_cost(s->cost))) return FERRY_OK;
    return ferry_agree(world, ferry_store_open(&x->store, s, s->options->cache_bytes));
}

static void drop_store(ferry_accelerated *x, const char *why)
{
    ferry_log(x->s->grid->world, FERRY_DEBUG, "the kept plan %s: passes over all pairs from here on", why);
    ferry_store_close(x->store);
    x->store = NULL;
}

static void keep_near(ferry_accelerated *x)
{
    const ferry_sinkhorn *s = x->s;
    memcpy(x->near, x->psi, (size_t)s->targets * sizeof *x->psi);
    memcpy(x->near_f, s->f, (size_t)s->rows * sizeof *s->f);
}

/* Collective. Passes and steps over the store; *best: the smallest error. */
static ferry_status over_store(double *best, ferry_accelerated *x, double target)
{
    const bool strict = x->s->tau_a >= NEAR_ONE && x->s->tau_b >= NEAR_ONE;
    int since = 0;
    *best = INFINITY;
    for (int pass = 0; pass < MOST_KEPT; pass++) {
        FERRY_TRY(ferry_accelerated_pass(x, FERRY_OVER_STORE));
        if (!isfinite(x->error)) break;
        if (x->error < 0.95 * *best) since = 0;
        if (x->error < *best) {
            *best = x->error;
            keep_near(x);
        }
        ferry_log(x->s->grid->world, FERRY_DEBUG, "  kept pass %d: error %.2e, %.1e of it held", pass + 1, x->error,
                  x->held);
        if (x->error - 2 * x->held < target && (!strict || fabs(ferry_accelerated_left(x)) < fmax(3 * target, 1e-4)))
            break;
        if (++since > STALL) break;
        FERRY_TRY(ferry_accelerated_step(x, FERRY_OVER_STORE));
    }
    return FERRY_OK;
}

ferry_status ferry_accelerated_round(ferry_accelerated *x, double target)
{
    const double before = x->error;
    const int restarts = x->mixing.restarts;
    double best;
    ferry_anderson_forget(&x->mixing);
    memcpy(x->from, x->psi, (size_t)x->s->targets * sizeof *x->psi);
    keep_near(x);
    FERRY_TRY(ferry_accelerated_step(x, FERRY_OVER_STORE));
    FERRY_TRY(over_store(&best, x, fmax(target, DEEPEST * before)));
    memcpy(x->psi, x->near, (size_t)x->s->targets * sizeof *x->psi);
    memcpy(x->s->f, x->near_f, (size_t)x->s->rows * sizeof *x->s->f);
    ferry_anderson_forget(&x->mixing);
    x->mixing.restarts = restarts;
    x->nowhere = !(best < before);
    x->promised = best / before;
    return FERRY_OK;
}

/* --- the loop --- */

static void take_psi(ferry_accelerated *x)
{
    const ferry_sinkhorn *s = x->s;
    for (int64_t j = 0; j < s->targets; j++) x->psi[j] = s->b[j] > 0 ? s->g[j] / s->epsilon : 0;
}
/* Collective. psi as the plain iteration begins. */
static ferry_status first_psi(ferry_accelerated *x)
{
    FERRY_TRY(ferry_sinkhorn_first_g(x->s));
    take_psi(x);
    return FERRY_OK;
}

/* Collective. The mass that the next pass will count, about. */
static ferry_status first_mass(ferry_accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    for (int64_t i = 0; i < s->sources; i++)
        s->work[i] = s->a[i] > 0 ? s->a[i] * exp(-x->ka * s->f[i] / s->epsilon) : 0;
    return ferry_sinkhorn_source_sum(&x->mass, s, s->work);
}

ferry_status ferry_accelerated_start(ferry_accelerated *x)
{
    ferry_status status = x->few > 0 ? ferry_nested_start(x->s, x->few) : FERRY_E_NUMERIC;
    if (status == FERRY_E_NUMERIC) status = ferry_coarse_start(x->s, x->groups); /* none, or the few have no answer */
    if (status == FERRY_OK) take_psi(x);
    return status;
}

/* Collective. psi and f of the first pass. */
static ferry_status begin(ferry_accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    const ferry_transport_options *o = s->options;
    FERRY_TRY(open_store(x));
    const int stages = o->f || o->g ? 0 : ferry_epsilon_stages(x);
    if (stages > 0) return ferry_epsilon_path(x, stages);
    if (!o->f && !o->g)
        FERRY_TRY(ferry_accelerated_start(x));
    else if (o->f)
        FERRY_TRY(first_psi(x));
    else
        take_psi(x); /* a g given without f is used as it is */
    return first_mass(x);
}

/* Whether the constant has settled: close to balanced problems a small error leaves much of it. */
static bool settled(ferry_accelerated *x)
{
    const ferry_sinkhorn *s = x->s;
    if (s->balanced || s->tau_a < NEAR_ONE || s->tau_b < NEAR_ONE) return true;
    return fabs(ferry_accelerated_left(x)) < fmax(10 * s->options->threshold, 1e-4) || x->extra++ >= EXTRA;
}

/* Collective. Plain steps from the best point on, or from the plain iteration's beginning where there is none. */
static ferry_status give_up(ferry_accelerated *x, int iterations)
{
    ferry_sinkhorn *s = x->s;
    ferry_log(s->grid->world, FERRY_INFO,
              "accelerated steps do not help: plain iterations from the best point (error %.2e) after iteration %d",
              x->best_error, iterations);
    x->plain = true;
    if (x->store) drop_store(x, "is not needed");
    if (x->best_error < INFINITY) {
        memcpy(x->psi, x->best, (size_t)s->targets * sizeof *x->psi);
        return FERRY_OK;
    }
    for (int64_t i = 0; i < s->sources; i++)
        if (s->a[i] > 0) s->f[i] = s->options->f ? s->options->f[i] : 0;
    return first_psi(x);
}

/* Collective. *again: the next pass is at another point than the step's. */
static ferry_status watch(bool *again, ferry_accelerated *x, int iterations)
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

/* What is known of the rounds over a store. */
typedef struct rounds {
    double scale;    /* of the error that is asked for, to the one that steps are judged by */
    double before;   /* error of the pass that filled the store; 0: none did */
    double gain;     /* what a round has left of an error */
    double expected; /* error of the next pass */
    int useless;     /* rounds in a row that left much of it */
    int wait;        /* dense steps before the next one, after one that led nowhere */
} rounds;

/* Collective. From a dense pass to the point of the next one. */
static ferry_status advance(ferry_accelerated *x, rounds *r)
{
    const double share = x->store && ferry_store_exact(x->store) ? EXACT : SHARE;
    const double target = share * x->s->options->threshold * r->scale, before = x->error;
    const bool kept = x->store && ferry_store_usable(x->store) && r->before == 0 && r->wait == 0;
    if (r->wait > 0) r->wait--;
    if (!kept) return ferry_accelerated_step(x, FERRY_OVER_ALL);
    FERRY_TRY(ferry_accelerated_round(x, target));
    if (x->nowhere) { /* back where it began: a few steps over all pairs may lead out of there */
        r->expected = before;
        r->wait = WAIT;
        if (++r->useless >= USELESS) drop_store(x, "leads nowhere");
        return FERRY_OK;
    }
    r->before = before;
    r->expected = fmax(r->gain * before, target);
    return FERRY_OK;
}

/* The dense pass after a round: did it help? Where the store had promised more, steps went where it does not hold;
 * where it had not, they were too short. */
static void judge(ferry_accelerated *x, rounds *r)
{
    if (r->before > 0) {
        r->gain = x->error / r->before;
        r->useless = r->gain < HELPFUL ? 0 : r->useless + 1;
        if (r->useless)
            x->reach = x->promised < HELPFUL * r->gain ? fmax(x->reach / 3, LEAST) : fmin(3 * x->reach, REACH);
        if (x->store && (r->useless >= USELESS || !isfinite(r->gain))) drop_store(x, "does not help");
    }
    r->before = 0;
}

/* Collective. */
static ferry_status loop(ferry_potentials *out, ferry_accelerated *x)
{
    ferry_sinkhorn *s = x->s;
    const ferry_transport_options *o = s->options;
    const int most = (o->max_iterations + o->check_every - 1) / o->check_every * o->check_every;
    rounds r = {.scale = 1, .gain = 0.05, .expected = INFINITY};
    FERRY_TRY(begin(x));
    for (int it = 1;; it++) {
        double error;
        bool again;
        if (it == most && x->best_error < INFINITY) /* the last one: the best point */
            memcpy(x->psi, x->best, (size_t)s->targets * sizeof *x->psi);
        const bool keep = x->store && it < most && r.wait == 0 && !(r.expected < 0.5 * o->threshold * r.scale);
        FERRY_TRY(ferry_accelerated_pass(x, keep ? FERRY_OVER_ALL_KEPT : FERRY_OVER_ALL));
        if (it % o->check_every == 0) {
            FERRY_TRY(ferry_sinkhorn_error(&error, s));
            FERRY_TRY(ferry_agree(s->grid->world, ferry_sinkhorn_record(out, error)));
            out->iterations = it;
            out->converged = error < o->threshold;
            if (error > 0 && isfinite(error)) r.scale = x->error / error;
            if (out->converged && it >= o->min_iterations && settled(x)) break;
            if (it >= most) break;
        }
        ferry_sinkhorn_progress(s, out, it);
        judge(x, &r);
        FERRY_TRY(watch(&again, x, it));
        if (!keep) r.before = 0;
        if (!again) FERRY_TRY(advance(x, &r));
    }
    return FERRY_OK;
}

ferry_status ferry_sinkhorn_accelerate(ferry_potentials *out, ferry_sinkhorn *s, const ferry_groups *groups)
{
    ferry_accelerated x = {0};
    const bool shifting = s->shifting;
    s->shifting = false; /* the translation is part of the step */
    ferry_status status = ferry_agree(s->grid->world, open_accelerated(&x, s, groups));
    if (status == FERRY_OK) status = loop(out, &x);
    out->stored_passes = x.stored_passes;
    out->stored_share = x.stored_share;
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

double ferry_mean_cost(const ferry_cost *cost)
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
int ferry_accelerate_groups_of(int64_t least, double epsilon, double mean)
{
    const int most = ferry_accelerate_most_groups(least);
    const int count = least > LARGE || epsilon <= 0.01 * mean ? 300 : epsilon >= 0.03 * mean ? 100 : 200;
    return count < most ? count : most;
}
int ferry_accelerate_groups(const ferry_cost *cost, double epsilon)
{
    const int64_t sources = cost->grid->source.blocks.rows, targets = cost->grid->target.blocks.rows;
    return ferry_accelerate_groups_of(sources < targets ? sources : targets, epsilon, ferry_mean_cost(cost));
}

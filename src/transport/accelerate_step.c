/* One pass of the accelerated loop, and the step after it.
 *
 * A pass, over all pairs or over what is kept of them (store_impl.h), is the plain iteration's: with psi = g / eps,
 * phi = f / eps (nats) it finishes the rows and gives the column sums c. Slow modes of the plain step psi_j += tau_b
 * log(bt_j / c_j), bt_j = b_j exp(-kb psi_j), kb = (1 - tau_b) / tau_b, are constants on groups of near cells: one per
 * group. So each pass also yields Q [K][K], the mass between groups, and the step becomes
 *
 *   residual_j = tau_b log(bt_j / c_j) + v_group(j),      v: balance of Q with columns at their new sums (balance.c)
 *
 * (for one group v is the closed-form translation of unbalanced problems), mixed by Anderson.
 *
 * Q without sorting rows: groups_impl.h. Its row sums are what the rows have, its columns are scaled to the new column
 * sums of their groups, so v = 0 at the fixed point and the answer is that of the plain iteration. */
#include "accelerate_parts_impl.h"
#include "mpi/log.h"
#include <math.h>
#include <string.h>

#define MIX_BELOW 0.3   /* relative error of a dense pass from which on steps are mixed */
#define MIX_KEPT  1.0   /* the same over the store */
#define NOTHING   1e-25 /* of a column's weight */
#define CAP       30.0  /* nats: the largest step of a column that float has lost */

void ferry_accelerated_taus(ferry_accelerated *x)
{
    const ferry_sinkhorn *s = x->s;
    x->ka = (1 - s->tau_a) / s->tau_a;
    x->kb = (1 - s->tau_b) / s->tau_b;
    x->balance.factored = false;
    x->balance.tau_a = s->tau_a;
    x->balance.tau_b = s->tau_b;
}

/* --- one pass --- */

static double goal_of(const ferry_accelerated *x, int64_t j, double psi)
{
    return x->kb > 0 ? x->s->b[j] * exp(-x->kb * psi) : x->s->b[j];
}

/* Sums over the targets by canonical blocks: `width` numbers of each. */
typedef void (*numbers_of)(double *sums, const ferry_accelerated *x, int64_t j);
static ferry_status plant(ferry_forest **out, const ferry_accelerated *x, int width, numbers_of add)
{
    const ferry_shards *shards = &x->s->grid->target;
    const int part = x->s->grid->across.rank;
    FERRY_TRY(ferry_forest_open(out, width, shards->blocks.count, FERRY_JOIN_SUM));
    FERRY_TRY(ferry_forest_expect(*out, shards, &x->s->grid->across));
    for (int b = shards->block[part]; b < shards->block[part + 1]; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, *out));
        const int64_t end = ferry_block_first(&shards->blocks, b + 1) - shards->first[part];
        for (int64_t j = ferry_block_first(&shards->blocks, b) - shards->first[part]; j < end; j++)
            if (x->s->b[j] > 0) add(leaf, x, j);
        ferry_forest_add(*out, b);
    }
    return FERRY_OK;
}
/* Collective. */
static ferry_status add_up(double *out, const ferry_accelerated *x, int width, numbers_of add)
{
    const ferry_sinkhorn *s = x->s;
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(s->grid->world, plant(&forest, x, width, add));
    if (status == FERRY_OK)
        status =
            ferry_agree(s->grid->world, ferry_forest_reduce(out, forest, &s->grid->across, s->cost->options.reduction));
    ferry_forest_close(&forest);
    return status;
}

/* As far as passes over the store may move it; a little less, for rounding. */
static bool at_end(const ferry_accelerated *x, int64_t j)
{
    return fabs(x->psi[j] - x->from[j]) >= 0.9999 * x->reach;
}
static void measured(double *sums, const ferry_accelerated *x, int64_t j)
{
    const double goal = goal_of(x, j, x->psi[j]), c = x->s->c[j];
    sums[0] += c;
    sums[1] += goal;
    sums[2] += fabs(goal - c);
    sums[3] += x->s->b[j];
    if (at_end(x, j)) sums[4] += fabs(goal - c);
}
/* Collective. mass, goal and the error of this pass. */
static ferry_status measure(ferry_accelerated *x, bool stored)
{
    double sums[5];
    FERRY_TRY(add_up(sums, x, 5, measured));
    x->mass = sums[0];
    x->goal = sums[1];
    x->error = sums[2] / sums[1];
    x->weight = sums[3];
    x->held = stored ? sums[4] / sums[1] : 0;
    return FERRY_OK;
}
static void keep_best(ferry_accelerated *x)
{
    x->since_best++;
    if (!(x->error < x->best_error)) return;
    if (x->error < 0.99 * x->best_error) x->since_best = 0;
    x->best_error = x->error;
    memcpy(x->best, x->psi, (size_t)x->s->targets * sizeof *x->psi);
}

/* Collective. */
static ferry_status iterate(ferry_accelerated *x, ferry_over over)
{
    if (over == FERRY_OVER_ALL) return ferry_sinkhorn_iterate(x->s);
    if (over == FERRY_OVER_ALL_KEPT) return ferry_store_fill(x->store, x->s);
    x->stored_passes++;
    x->stored_share += ferry_store_share(x->store);
    return ferry_store_iterate(x->store, x->s);
}

ferry_status ferry_accelerated_pass(ferry_accelerated *x, ferry_over over)
{
    ferry_sinkhorn *s = x->s;
    ferry_aggregate *q = &x->aggregate;
    for (int64_t j = 0; j < s->targets; j++) s->g[j] = s->b[j] > 0 ? s->epsilon * x->psi[j] : -INFINITY;
    memset(q->sums, 0, (size_t)(q->size * s->threads) * sizeof *q->sums);
    q->units = ferry_exact_units(x->mass);
    s->aggregate = x->plain ? NULL : q;
    ferry_status status = iterate(x, over);
    s->aggregate = NULL;
    FERRY_TRY(status);
    if (!x->plain) {
        for (int t = 1; t < s->threads; t++)
            for (int64_t e = 0; e < q->size; e++) q->sums[e] += q->sums[t * q->size + e];
        ferry_total_counts(s->grid->world, q->sums, q->size);
    }
    FERRY_TRY(measure(x, over == FERRY_OVER_STORE));
    if (over == FERRY_OVER_STORE) return FERRY_OK;
    keep_best(x);
    ferry_log(s->grid->world, FERRY_DEBUG, "pass %d over all pairs at epsilon %g: error %.2e", s->passes, s->epsilon,
              x->error);
    return FERRY_OK;
}

double ferry_accelerated_left(const ferry_accelerated *x)
{
    const ferry_sinkhorn *s = x->s;
    return s->balanced ? 0 : s->tau_b * log(x->goal / x->mass) / (1 - s->tau_a * s->tau_b);
}

/* --- the step --- */

static bool usable(double c, double goal)
{
    return c >= goal * 0x1p-90 && c < INFINITY && c > 0;
}
/* Unbalanced, a column may want no mass at all. */
static bool unwanted(const ferry_accelerated *x, int64_t j, double goal)
{
    return x->kb > 0 && goal < NOTHING * x->s->b[j];
}

/* Collective. The plain step; columns whose sums float has lost, by a pass of their own, or capped. Over a store they
 * stay: a pass over all pairs for one of many steps would cost more than all of them. */
static ferry_status plain_residual(ferry_accelerated *x, ferry_over over)
{
    ferry_sinkhorn *s = x->s;
    const double tb = s->tau_b;
    int64_t lost = 0;
    for (int64_t j = 0; j < s->targets; j++) {
        x->residual[j] = 0;
        if (!(s->b[j] > 0)) continue;
        const double goal = goal_of(x, j, x->psi[j]);
        if (unwanted(x, j, goal) && !(s->c[j] > NOTHING * s->b[j])) continue;
        if (usable(s->c[j], goal))
            x->residual[j] = tb * log(goal / s->c[j]);
        else if (x->capped)
            x->residual[j] = s->c[j] < goal ? CAP : 0;
        else
            lost = over != FERRY_OVER_STORE;
        if (x->capped) x->residual[j] = fmin(fmax(x->residual[j], -CAP), CAP);
    }
    if (s->grid->cols > 1) lost = ferry_max(&s->grid->across, lost);
    if (!lost) return FERRY_OK;
    FERRY_AUTO double *lse = NULL;
    FERRY_TRY(ferry_agree(s->grid->world, ferry_alloc(&lse, s->columns)));
    FERRY_TRY(ferry_sinkhorn_column_lse(lse, s));
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0 && !usable(s->c[j], goal_of(x, j, x->psi[j])) && !unwanted(x, j, goal_of(x, j, x->psi[j])))
            x->residual[j] = tb * (log(s->b[j]) - lse[j] / s->epsilon) - x->psi[j];
    return FERRY_OK;
}

/* Collective. Column sums and goals after the plain step, by groups. */
static void sum_groups(ferry_accelerated *x, double units)
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
static bool take_balance(ferry_accelerated *x, double units)
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
static ferry_status balance(ferry_accelerated *x)
{
    const ferry_world *world = x->s->grid->world;
    const int count = x->groups->count;
    const double units = ferry_exact_units(x->mass > x->goal ? x->mass : x->goal);
    ferry_status status = FERRY_OK;
    sum_groups(x, units);
    memset(x->v, 0, (size_t)count * sizeof *x->v);
    if (world->rank == 0 && take_balance(x, units))
        status = ferry_balance_solve(x->v, &x->balance, fmin(1e-2 * x->error, 1e-3));
    FERRY_TRY(ferry_agree(world, status));
    ferry_broadcast(world, x->v, (size_t)count * sizeof *x->v, 0);
    return FERRY_OK;
}

static void weighted_residual(double *sums, const ferry_accelerated *x, int64_t j)
{
    sums[0] += x->s->b[j] * x->residual[j];
}
static void weighted_move(double *sums, const ferry_accelerated *x, int64_t j)
{
    sums[0] += x->s->c[j] * (x->psi[j] - x->before[j]);
}
/* Collective. A weighted mean over targets. */
static ferry_status mean(double *out, const ferry_accelerated *x, numbers_of add, double weight)
{
    double sum;
    FERRY_TRY(add_up(&sum, x, 1, add));
    *out = weight > 0 && isfinite(sum) && isfinite(weight) ? sum / weight : 0;
    return FERRY_OK;
}

/* Collective. The residual of all targets. */
static ferry_status find_residual(ferry_accelerated *x, ferry_over over)
{
    const ferry_sinkhorn *s = x->s;
    double moved;
    FERRY_TRY(plain_residual(x, over));
    if (x->plain) return FERRY_OK;
    FERRY_TRY(balance(x));
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0) x->residual[j] += x->v[x->groups->target_group[j]];
    if (!s->balanced) return FERRY_OK;
    FERRY_TRY(mean(&moved, x, weighted_residual, x->weight));
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0) x->residual[j] -= moved;
    return FERRY_OK;
}

/* Columns at the end of their reach stay there. */
static void hold(ferry_accelerated *x)
{
    for (int64_t j = 0; j < x->s->targets; j++) {
        const double gone = x->psi[j] - x->from[j];
        if (at_end(x, j) && gone * x->residual[j] > 0) x->residual[j] = 0;
    }
}

ferry_status ferry_accelerated_step(ferry_accelerated *x, ferry_over over)
{
    ferry_sinkhorn *s = x->s;
    double moved;
    memcpy(x->before, x->psi, (size_t)s->targets * sizeof *x->psi);
    if (!x->mixing.started)
        for (int64_t j = 0; j < s->targets; j++) x->wants[j] = goal_of(x, j, x->psi[j]);
    FERRY_TRY(find_residual(x, over));
    if (over == FERRY_OVER_STORE) hold(x);
    if (x->plain)
        for (int64_t j = 0; j < s->targets; j++) x->psi[j] += x->residual[j];
    else
        FERRY_TRY(ferry_agree(s->grid->world,
                              ferry_anderson_step(x->psi, &x->mixing, x->residual, x->error,
                                                  x->error < (over == FERRY_OVER_STORE ? MIX_KEPT : MIX_BELOW))));
    if (over == FERRY_OVER_STORE)
        for (int64_t j = 0; j < s->targets; j++)
            x->psi[j] = fmin(fmax(x->psi[j], x->from[j] - x->reach), x->from[j] + x->reach);
    FERRY_TRY(mean(&moved, x, weighted_move, x->mass));
    for (int64_t i = 0; i < s->sources; i++) s->f[i] -= s->epsilon * moved;
    return FERRY_OK;
}

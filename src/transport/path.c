/* Small epsilon: the solution at a larger one, followed down by halves (speed of a plain start: thousands of passes, or
 * none where float loses columns).
 *
 * Start potentials are those of the largest epsilon. At each a dense pass keeps its plan, passes over the store bring
 * the error to STAGE, and the potentials go over to the next as they are in units of cost, without their weights'
 * part: f - eps tau_a log a, g - eps tau_b log b stay. rho stays too: tau = rho / (rho + eps) at every stage. */
#include "accelerate_parts_impl.h"
#include <math.h>
#include <string.h>

#define BELOW 0.03 /* of the mean cost: from here on down it pays */
#define FIRST 0.04 /* of the mean cost: the largest epsilon is at least that */
#define STAGE 0.02 /* error of a stage */
#define DENSE 4    /* passes of a stage, at most */

int ferry_epsilon_stages(const ferry_accelerated *x)
{
    const double mean = ferry_mean_cost(x->s->cost);
    int stages = 0;
    if (!isfinite(mean) || x->s->epsilon >= BELOW * mean) return 0;
    while (ldexp(x->s->epsilon, stages) < FIRST * mean) stages++;
    return stages;
}

static void set_epsilon(ferry_accelerated *x, double epsilon)
{
    ferry_sinkhorn *s = x->s;
    s->epsilon = epsilon;
    s->tau_a = isinf(s->rho_a) ? 1 : s->rho_a / (s->rho_a + epsilon);
    s->tau_b = isinf(s->rho_b) ? 1 : s->rho_b / (s->rho_b + epsilon);
    ferry_accelerated_taus(x);
}

static void carry(ferry_accelerated *x, double epsilon)
{
    ferry_sinkhorn *s = x->s;
    const double old = s->epsilon, tau_a = s->tau_a, tau_b = s->tau_b;
    set_epsilon(x, epsilon);
    for (int64_t i = 0; i < s->sources; i++)
        if (s->a[i] > 0) s->f[i] += (epsilon * s->tau_a - old * tau_a) * log(s->a[i]);
    for (int64_t j = 0; j < s->targets; j++)
        if (s->b[j] > 0) x->psi[j] = (old * x->psi[j] + (epsilon * s->tau_b - old * tau_b) * log(s->b[j])) / epsilon;
}

/* Collective. */
static ferry_status stage(ferry_accelerated *x)
{
    for (int pass = 0; pass < DENSE; pass++) {
        FERRY_TRY(ferry_accelerated_pass(x, x->store ? FERRY_OVER_ALL_KEPT : FERRY_OVER_ALL));
        if (!isfinite(x->error)) return FERRY_OK;
        if (x->error < STAGE) return FERRY_OK;
        if (x->store && ferry_store_usable(x->store)) return ferry_accelerated_round(x, STAGE);
        FERRY_TRY(ferry_accelerated_step(x, FERRY_OVER_ALL));
    }
    return FERRY_OK;
}

ferry_status ferry_epsilon_path(ferry_accelerated *x, int stages)
{
    ferry_sinkhorn *s = x->s;
    const double epsilon = s->epsilon, tau_a = s->tau_a, tau_b = s->tau_b;
    set_epsilon(x, ldexp(epsilon, stages));
    ferry_status status = ferry_accelerated_start(x);
    x->mass = s->mass_a;
    x->capped = true;
    for (int k = stages; k > 0 && status == FERRY_OK && !isnan(x->error); k--) {
        status = stage(x);
        carry(x, ldexp(epsilon, k - 1));
        ferry_anderson_forget(&x->mixing);
    }
    x->capped = false;
    x->best_error = INFINITY;
    x->since_best = 0;
    x->mixing.restarts = 0;
    s->epsilon = epsilon;
    s->tau_a = tau_a;
    s->tau_b = tau_b;
    ferry_accelerated_taus(x);
    return status;
}

/* Balance of aggregated mass: the dual of the transport problem restricted to potentials that are constant on groups,
 * phi_i += u_k, psi_j += v_l, in nats, with ka = (1 - tau_a) / tau_a (0 when balanced), kb likewise:
 *
 *   max  -(1/ka) sum A_k e^(-ka u_k) - (1/kb) sum B_l e^(-kb v_l) - sum Q_kl e^(u_k + v_l)
 *
 * u_k = tau_a log(A_k / sum_l Q_kl e^(v_l)) is eliminated; Newton on v with
 *   gradient_l = B_l e^(-kb v_l) - cc_l,   H = diag(cc + kb B e^(-kb v) + 1e-9 B) - W^T diag(tau_a / rq) W,
 * W = Q e^(u + v), rq its row sums, cc its column sums; both taus 1: the constant is fixed by 1e-3 B B^T / sum B.
 * Where the factor of an earlier problem is given, its steps are taken as long as each halves the gradient.
 * Steps are clipped to 2 nats. The case of one group has a closed form (mass and translation): it is absorbed first,
 * because close to balanced problems it is hundreds of nats. */
#include "coarse_impl.h"
#include "math/linear.h"
#include <math.h>
#include <string.h>

#define MOST_STEPS 50
#define CLIP       2.0
#define FALLS      0.5 /* what a step by an old factor must leave of the gradient, at most */

typedef struct newton {
    const ferry_balance *p;
    double ka, kb, sum_b;
    double stiff;  /* of B, added to the diagonal: groups that are balanced to it stay where they are */
    double *w;     /* [count][count] W, then its rows times sqrt(tau_a / rq) */
    double *h;     /* [count][count], then its factor: the problem's, or of its own */
    double *cc;    /* [count] */
    double *goal;  /* [count] B e^(-kb v) */
    double *step;  /* [count] */
    double *last;  /* [count] the one before */
    double *power; /* [count] e^v */
} newton;

static ferry_status open_newton(newton *n, const ferry_balance *p)
{
    const int64_t k = p->count;
    *n = (newton){.p = p, .ka = (1 - p->tau_a) / p->tau_a, .kb = (1 - p->tau_b) / p->tau_b};
    FERRY_TRY(ferry_alloc(&n->w, k * k));
    n->h = p->factor;
    if (!n->h) FERRY_TRY(ferry_alloc(&n->h, k * k));
    FERRY_TRY(ferry_alloc(&n->cc, k));
    FERRY_TRY(ferry_alloc(&n->goal, k));
    FERRY_TRY(ferry_alloc(&n->step, k));
    FERRY_TRY(ferry_alloc(&n->last, k));
    return ferry_alloc(&n->power, k);
}
static void close_newton(newton *n)
{
    free(n->w);
    if (n->h != n->p->factor) free(n->h);
    free(n->cc);
    free(n->goal);
    free(n->step);
    free(n->last);
    free(n->power);
}

static double total(const double *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += values[i];
    return sum;
}

/* The closed form for one group; returns v0. */
static double absorb_constant(ferry_balance *p)
{
    const double ta = p->tau_a, tb = p->tau_b, mass = total(p->q, (int64_t)p->count * p->count);
    const double la = log(total(p->a, p->count) / mass), lb = log(total(p->b, p->count) / mass);
    const double v0 = tb * (lb - ta * la) / (1 - ta * tb), u0 = ta * (la - v0);
    const double fa = exp(-(1 - ta) / ta * u0), fb = exp(-(1 - tb) / tb * v0), fq = exp(u0 + v0);
    if (!isfinite(v0) || !isfinite(fa) || !isfinite(fb) || !isfinite(fq)) return 0;
    for (int k = 0; k < p->count; k++) {
        p->a[k] *= fa;
        p->b[k] *= fb;
    }
    for (int64_t e = 0; e < (int64_t)p->count * p->count; e++) p->q[e] *= fq;
    return v0;
}

/* W, cc, goal at v, and the L1 norm of the gradient. Rows of W end up times sqrt(tau_a / rq). */
static double evaluate(newton *n, const double *v)
{
    const ferry_balance *p = n->p;
    const int count = p->count;
    double norm = 0;
    for (int l = 0; l < count; l++) {
        n->power[l] = exp(v[l]);
        n->cc[l] = 0;
    }
    for (int k = 0; k < count; k++) {
        double *w = n->w + (int64_t)k * count, sum = 0;
        const double *q = p->q + (int64_t)k * count;
        for (int l = 0; l < count; l++) {
            w[l] = q[l] * n->power[l];
            sum += w[l];
        }
        const double e = sum > 0 && p->a[k] > 0 ? pow(p->a[k] / sum, p->tau_a) : 0; /* e^u */
        const double root = e > 0 ? sqrt(p->tau_a / (e * sum)) : 0;
        for (int l = 0; l < count; l++) {
            w[l] *= e;
            n->cc[l] += w[l];
            w[l] *= root;
        }
    }
    for (int l = 0; l < count; l++) {
        n->goal[l] = n->kb > 0 ? p->b[l] * exp(-n->kb * v[l]) : p->b[l];
        n->step[l] = n->goal[l] - n->cc[l];
        norm += fabs(n->step[l]);
    }
    return norm;
}

/* Clipped; false where it is no number. */
static bool clip(newton *n)
{
    double most = 0;
    for (int l = 0; l < n->p->count; l++) most = fmax(most, fabs(n->step[l]));
    if (!isfinite(most)) return false;
    for (int l = 0; l < n->p->count && most > CLIP; l++) n->step[l] *= CLIP / most;
    return true;
}

/* The Newton step from the gradient in n->step; false when there is none. */
static bool find_step(newton *n)
{
    const ferry_balance *p = n->p;
    const int count = p->count;
    const bool balanced = p->tau_a == 1 && p->tau_b == 1;
    for (int i = 0; i < count; i++)
        for (int j = 0; j <= i; j++) n->h[(int64_t)i * count + j] = balanced ? 1e-3 / n->sum_b * p->b[i] * p->b[j] : 0;
    for (int l = 0; l < count; l++) {
        const bool used = p->b[l] > 0;
        n->h[(int64_t)l * count + l] += used ? n->cc[l] + n->kb * n->goal[l] + n->stiff * p->b[l] : 1;
        if (!used) n->step[l] = 0;
    }
    ferry_subtract_gram(n->h, n->w, count, count);
    return ferry_solve_spd(n->h, n->step, count) && clip(n);
}

/* The same by the factor at hand. */
static bool old_step(newton *n)
{
    for (int l = 0; l < n->p->count; l++)
        if (!(n->p->b[l] > 0)) n->step[l] = 0;
    ferry_solve_again(n->h, n->step, n->p->count);
    return clip(n);
}

/* v from 0; factored: n->h holds the factor of another problem like this one. */
static void find_v(double *v, newton *n, bool *factored, double tolerance)
{
    const int count = n->p->count;
    double before = INFINITY, norm;
    bool old = *factored;
    for (int step = 0; step < MOST_STEPS; step++) {
        norm = evaluate(n, v);
        if (old && !(norm < before)) { /* worse: from where it came, by a new one */
            for (int l = 0; l < count; l++) v[l] -= n->last[l];
            norm = evaluate(n, v);
        }
        if (!(norm >= tolerance * n->sum_b)) return;
        old = *factored && norm < (step ? FALLS * before : INFINITY);
        if (!(old ? old_step(n) : (*factored = find_step(n)))) return;
        before = norm;
        for (int l = 0; l < count; l++) v[l] += n->last[l] = n->step[l];
    }
}

ferry_status ferry_balance_solve(double *v, ferry_balance *problem, double tolerance)
{
    newton n;
    const int count = problem->count;
    double v0 = 0;
    ferry_status status = open_newton(&n, problem);
    for (int l = 0; l < count; l++) v[l] = 0;
    if (status == FERRY_OK) {
        for (int l = 0; l < count; l++) /* groups without targets take no part */
            for (int k = 0; k < count && !(problem->b[l] > 0); k++) problem->q[(int64_t)k * count + l] = 0;
        if (problem->tau_a < 1 || problem->tau_b < 1) v0 = absorb_constant(problem);
        n.sum_b = total(problem->b, count);
        n.stiff = fmax(1e-9, tolerance);
        bool factored = problem->factor && problem->factored;
        find_v(v, &n, &factored, tolerance);
        problem->factored = factored;
    }
    for (int l = 0; l < count; l++) v[l] = isfinite(v[l]) ? v[l] + v0 : v0;
    close_newton(&n);
    return status;
}

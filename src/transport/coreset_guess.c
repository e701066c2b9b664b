/* What a coreset's potentials are worth where n m pairs are too many: sampled rows and columns against all cells of the
 * other side. L1 errors are estimated as cells / sampled times what the sampled ones are off, mass and cost likewise.
 */
#include "coreset_impl.h"
#include "math/random.h"
#include <math.h>
#include <string.h>

/* Collective. The sampled cells of a side, weights theirs; potentials [few] of them. */
static ferry_status sample_side(ferry_few *out, double **potential, const ferry_coreset *k, int i)
{
    const ferry_side *side = &k->side[i];
    const int64_t n = side->shards->blocks.rows, count = k->how->sample < n ? k->how->sample : n;
    FERRY_AUTO bool *chosen = NULL;
    FERRY_AUTO double *values = NULL;
    ferry_few other = {0};
    ferry_status status = ferry_alloc(&chosen, side->count);
    if (status == FERRY_OK) status = ferry_alloc(&values, 2 * side->count);
    FERRY_TRY(ferry_agree(k->world, status));
    const int64_t begin = side->first + side->from;
    for (int64_t e = 0; e < count; e++) { /* one at a random place of each of equally long stretches */
        const int64_t from = e * n / count, end = (e + 1) * n / count;
        const int64_t cell =
            from + (int64_t)(ferry_random(k->how->seed + 31 + (uint64_t)i, (uint64_t)e) * (double)(end - from));
        if (cell >= begin && cell < begin + side->count) chosen[cell - begin] = true;
    }
    memcpy(values, side->weight + side->from, (size_t)side->count * sizeof *values);
    memcpy(values + side->count, k->h[i] + side->from, (size_t)side->count * sizeof *values);
    FERRY_TRY(ferry_few_gather(out, side, chosen, values));
    status = ferry_few_gather(&other, side, chosen, values + side->count);
    *potential = other.weight;
    other.weight = NULL;
    ferry_few_close(&other);
    return status;
}

/* What the sampled cells of a side tell. */
typedef struct estimate {
    double error, error_max, error_sd, mass, cost;
} estimate;
static estimate judge(const ferry_coreset *k, int i, const ferry_few *few, const double *potential,
                      const ferry_marginal *m)
{
    const double tau = k->side[i].tau, rho = tau < 1 ? k->options->epsilon * tau / (1 - tau) : INFINITY;
    const double times = (double)k->side[i].shards->blocks.rows / (double)few->count, count = (double)few->count;
    estimate e = {0};
    double squares = 0;
    for (int64_t l = 0; l < few->count; l++) {
        const double goal = tau == 1             ? few->weight[l]
                            : few->weight[l] > 0 ? few->weight[l] * exp(-potential[l] / rho)
                                                 : 0;
        const double off = fabs(m->sums[l] - goal);
        e.error += times * off;
        e.error_max = fmax(e.error_max, off);
        e.mass += times * m->sums[l];
        squares += off * off;
    }
    const double mean = e.error / times / count, spread = fmax(squares / count - mean * mean, 0);
    e.error_sd = times * sqrt(count * spread * fmax(1 - 1 / times, 0));
    e.cost = times * m->cost;
    return e;
}

/* Collective. Sampled cells of side i against all of the other one. */
static ferry_status estimate_side(estimate *out, const ferry_coreset *k, int i, double total)
{
    ferry_few few = {0};
    ferry_marginal marginal = {0};
    FERRY_AUTO double *potential = NULL;
    ferry_status status = sample_side(&few, &potential, k, i);
    if (status == FERRY_OK)
        status =
            ferry_few_marginal(&marginal, &k->side[1 - i], k->h[1 - i], &few, potential, k->options->epsilon, total);
    if (status == FERRY_OK) *out = judge(k, i, &few, potential, &marginal);
    free(marginal.sums);
    ferry_few_close(&few);
    return status;
}

/* Collective. sum of weights, of weight h, of div_a and of weight of a side, by canonical blocks. */
static ferry_status side_sum(double *out, const ferry_coreset *k, int i, bool objective)
{
    const ferry_side *side = &k->side[i];
    const double tau = side->tau, epsilon = k->options->epsilon, rho = tau < 1 ? epsilon * tau / (1 - tau) : INFINITY;
    FERRY_AUTO double *values = NULL;
    FERRY_TRY(ferry_agree(k->world, ferry_alloc(&values, side->here)));
    for (int64_t e = 0; e < side->here; e++) {
        const double w = side->weight[e], h = w > 0 ? k->h[i][e] - epsilon * log(w) : 0;
        values[e] = !objective ? w : !(w > 0) ? 0 : tau == 1 ? w * h : -w * rho * expm1(-h / rho);
    }
    return ferry_agree(k->world, ferry_canonical_sum(out, values, side->shards, side->cut, FERRY_REDUCE_TREE));
}

/* Local. The answer takes the potentials over. */
static ferry_status hand_over(ferry_potentials *out, ferry_coreset *k)
{
    const ferry_transport_options *o = k->options;
    *out = (ferry_potentials){.sources = k->side[0].here, .targets = k->side[1].here};
    FERRY_TRY(ferry_alloc(&out->errors, 1));
    out->f = k->h[0];
    out->g = k->h[1];
    k->h[0] = k->h[1] = NULL;
    out->epsilon = o->epsilon;
    out->tau_a = o->tau_a;
    out->tau_b = o->tau_b;
    out->checks = 1;
    out->estimated = true;
    out->lower_bound = -INFINITY;
    out->upper_bound = INFINITY;
    out->dual_gap = out->independence = NAN;
    return FERRY_OK;
}

/* Collective. Figures from samples. */
ferry_status ferry_coreset_guess(ferry_potentials *out, ferry_coreset *k)
{
    estimate e[2];
    double mass[2], objective[2];
    for (int i = 0; i < 2; i++) {
        FERRY_TRY(side_sum(&mass[i], k, i, false));
        FERRY_TRY(side_sum(&objective[i], k, i, true));
    }
    for (int i = 0; i < 2; i++) FERRY_TRY(estimate_side(&e[i], k, i, fmax(mass[0], mass[1])));
    FERRY_TRY(ferry_agree(k->world, hand_over(out, k)));
    out->row_error = e[0].error;
    out->row_error_max = e[0].error_max;
    out->column_error = e[1].error;
    out->column_error_max = e[1].error_max;
    out->marginal_error = out->errors[0] = e[0].error + e[1].error;
    out->error_sd = hypot(e[0].error_sd, e[1].error_sd);
    out->mass = 0.5 * (e[0].mass + e[1].mass);
    out->transport_cost = 0.5 * (e[0].cost + e[1].cost);
    out->reg_ot_cost = objective[0] + objective[1] + k->options->epsilon * (mass[0] * mass[1] - out->mass);
    return FERRY_OK;
}

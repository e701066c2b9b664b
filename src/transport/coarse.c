/* The start: the transport problem between the groups' means, and its potentials extended to all cells.
 *
 * With potentials written phi = tau_a log a + u, psi = tau_b log b + v (nats) the plan between cells of groups k and l
 * is a^tau_a b^tau_b exp(u + v - C / epsilon), so groups weigh A_k = sum a^tau_a, B_l = sum b^tau_b and
 *
 *   u_k = -tau_a log sum_l B_l exp(v_l - C_kl / eps),   v_l = -tau_b log sum_k A_k exp(u_k - C_kl / eps)
 *
 * A few rounds in logarithms, then by products with the matrix W = A_k B_l exp(u_k + v_l - C_kl / eps) of reference
 * potentials, renewed when the solution has left them; Anderson mixing, the constant in closed form. The tolerance is
 * coarse, like the problem.
 *
 * Extended by soft c-transforms: psi_j = tau_b (log b_j - log sum_k A_k exp(u_k - C(mean_k, y_j) / eps)), phi_i from
 * the targets' means likewise. So exponents are right from the first pass on, and no pass for the largest is needed. */
#include "coarse_impl.h"
#include "math/anderson.h"
#include "math/linear.h"
#include "mpi/exchange.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define ROWS       FERRY_SOURCE_UNIT
#define COLUMNS    FERRY_TARGET_UNIT
#define TOLERANCE  1e-2
#define LOG_ROUNDS 3
#define MOST       200  /* products */
#define FAR        60.0 /* nats from the reference */

/* The groups of one side: masses and means. */
typedef struct side {
    double *mass; /* [count] */
    double *mean; /* [count][dim] */
} side;
/* The coarse problem, as a cost of its own. */
typedef struct coarse {
    int count, dim;
    side x, y;
    ferry_grid grid;     /* only target_rows is used */
    ferry_cost cost;     /* targets: the target means */
    ferry_source source; /* the source means */
    int64_t unit[2];
    double *m;     /* [count][count] -C / epsilon */
    double *w;     /* [count][count] */
    double *u, *v; /* [count] */
    double *room;  /* [6 count] */
} coarse;

static void close_coarse(coarse *k)
{
    free(k->x.mass);
    free(k->x.mean);
    free(k->y.mass);
    free(k->y.mean);
    free(k->cost.y);
    free(k->cost.y_d);
    free(k->cost.y_norm);
    free(k->cost.y2);
    ferry_source_close(&k->source);
    free(k->m);
    free(k->w);
    free(k->u);
    free(k->v);
    free(k->room);
}

/* --- masses and means --- */

typedef void (*row_of)(double *out, const ferry_cost *cost, int64_t i);

/* Local. sums [groups][dim + 1] of weights and weighted rows, as whole numbers. largest: of any coordinate; units: per
 * mass */
static ferry_status add_rows(int64_t *sums, const ferry_cost *cost, const double *weight, double tau,
                             const int32_t *group, int groups, int64_t count, row_of row, double largest, double units)
{
    const int dim = cost->dim, threads = cost->options.threads;
    const int64_t size = (int64_t)groups * (dim + 1);
    FERRY_AUTO int64_t *parts = NULL; /* [threads][groups][dim + 1] */
    FERRY_AUTO double *rows = NULL;   /* [threads][dim] */
    FERRY_TRY(ferry_alloc(&parts, size * threads));
    FERRY_TRY(ferry_alloc(&rows, (int64_t)dim * threads));
#pragma omp parallel num_threads(threads)
    {
        double *x = rows + (int64_t)omp_get_thread_num() * dim;
        int64_t *mine = parts + omp_get_thread_num() * size;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            if (!(weight[i] > 0)) continue;
            const double mass = units * (tau == 1 ? weight[i] : pow(weight[i], tau)), part = mass / largest;
            int64_t *sum = mine + (int64_t)group[i] * (dim + 1);
            row(x, cost, i);
            sum[0] += ferry_exact_part(mass, 1);
            for (int k = 0; k < dim; k++) sum[k + 1] += ferry_exact_part(x[k], part);
        }
    }
    for (int t = 0; t < threads; t++)
        for (int64_t e = 0; e < size; e++) sums[e] += parts[t * size + e];
    return FERRY_OK;
}

static void take_side(side *out, const int64_t *sums, int count, int dim, double largest, double units)
{
    for (int g = 0; g < count; g++) {
        const int64_t *sum = sums + (int64_t)g * (dim + 1);
        out->mass[g] = (double)sum[0] / units;
        for (int k = 0; k < dim; k++)
            out->mean[(int64_t)g * dim + k] = sum[0] > 0 ? (double)sum[k + 1] / (double)sum[0] * largest : 0;
    }
}

/* Collective. */
static ferry_status find_sides(coarse *k, ferry_sinkhorn *s, const ferry_groups *groups)
{
    const ferry_cost *cost = &groups->cost;
    const int64_t width = (int64_t)k->count * (k->dim + 1);
    double total[2], units[2];
    FERRY_AUTO int64_t *sums = NULL;
    for (int64_t i = 0; i < s->sources; i++) s->work[i] = s->a[i] > 0 ? pow(s->a[i], s->tau_a) : 0;
    FERRY_TRY(ferry_sinkhorn_source_sum(&total[0], s, s->work));
    for (int64_t j = 0; j < s->targets; j++) s->work[j] = s->b[j] > 0 ? pow(s->b[j], s->tau_b) : 0;
    FERRY_TRY(ferry_sinkhorn_target_sum(&total[1], s, s->work));
    for (int i = 0; i < 2; i++) units[i] = ferry_exact_units(total[i]);
    ferry_status status = ferry_alloc(&sums, 2 * width);
    if (status == FERRY_OK)
        status = add_rows(sums, cost, s->a, s->tau_a, groups->group, k->count, s->sources, ferry_source_row,
                          groups->largest, units[0]);
    if (status == FERRY_OK)
        status = add_rows(sums + width, cost, s->b, s->tau_b, groups->target_group, k->count, s->targets,
                          ferry_target_row, groups->largest, units[1]);
    FERRY_TRY(ferry_agree(s->grid->world, status));
    ferry_total_counts(&s->grid->down, sums, width);
    ferry_total_counts(&s->grid->across, sums + width, width);
    take_side(&k->x, sums, k->count, k->dim, groups->largest, units[0]);
    take_side(&k->y, sums + width, k->count, k->dim, groups->largest, units[1]);
    return FERRY_OK;
}

/* --- the coarse cost --- */

/* Local. Means as the two sides of a cost. */
static ferry_status pack(coarse *k, const ferry_cost *cost)
{
    const int dim = k->dim, count = k->count;
    const bool in_double = cost->options.precision == FERRY_DOUBLE;
    FERRY_AUTO float *rows = NULL;
    k->grid.target_rows = count;
    k->cost.grid = &k->grid;
    k->cost.units = (count + COLUMNS - 1) / COLUMNS;
    k->cost.columns = k->cost.units * COLUMNS;
    k->unit[1] = k->cost.units;
    k->source = (ferry_source){.rows = count, .panels = (count + ROWS - 1) / ROWS};
    FERRY_TRY(ferry_alloc(&rows, (int64_t)count * dim));
    FERRY_TRY(ferry_alloc(&k->cost.y_norm, k->cost.columns));
    FERRY_TRY(ferry_alloc(&k->source.norm, k->source.panels * ROWS));
    if (cost->y2) FERRY_TRY(ferry_alloc(&k->cost.y2, k->cost.columns));
    if (in_double) {
        FERRY_TRY(ferry_alloc(&k->cost.y_d, k->cost.columns * dim));
        FERRY_TRY(ferry_alloc(&k->source.d, k->source.panels * ROWS * dim));
    } else {
        FERRY_TRY(ferry_alloc(&k->cost.y, k->cost.columns * dim));
        FERRY_TRY(ferry_alloc(&k->source.f, k->source.panels * ROWS * dim));
    }
    for (int g = 0; g < count; g++) {
        k->source.norm[g] = ferry_norm_part(k->x.mean + (int64_t)g * dim, cost);
        k->cost.y_norm[g] = ferry_norm_part(k->y.mean + (int64_t)g * dim, cost);
        if (k->cost.y2) k->cost.y2[g] = (float)k->cost.y_norm[g];
        for (int e = 0; e < dim && in_double; e++) {
            k->source.d[(int64_t)g * dim + e] = k->x.mean[(int64_t)g * dim + e];
            k->cost.y_d[((int64_t)(g / COLUMNS) * dim + e) * COLUMNS + g % COLUMNS] = k->y.mean[(int64_t)g * dim + e];
        }
    }
    if (in_double) return FERRY_OK;
    for (int64_t e = 0; e < (int64_t)count * dim; e++) rows[e] = (float)k->x.mean[e];
    for (int64_t p = 0; p < k->source.panels; p++)
        cost->options.kernels->pack_rows(k->source.f + p * ROWS * dim, rows + p * ROWS * dim,
                                         count - p * ROWS < ROWS ? count - p * ROWS : ROWS, dim);
    for (int64_t e = 0; e < (int64_t)count * dim; e++) rows[e] = (float)k->y.mean[e];
    for (int64_t u = 0; u < k->cost.units; u++)
        cost->options.kernels->pack_columns(k->cost.y + u * COLUMNS * dim, rows + u * COLUMNS * dim,
                                            count - u * COLUMNS < COLUMNS ? count - u * COLUMNS : COLUMNS, dim);
    return FERRY_OK;
}

/* Local. */
static ferry_status open_coarse(coarse *k, const ferry_groups *groups)
{
    const int64_t count = groups->count, dim = groups->cost.dim;
    k->count = groups->count;
    k->dim = groups->cost.dim;
    k->cost = groups->cost;
    k->cost.y = NULL;
    k->cost.y_d = k->cost.y_norm = NULL;
    k->cost.y2 = NULL;
    k->cost.run = NULL;
    k->cost.runs = 0;
    k->cost.blocks = 1;
    k->cost.unit = k->unit;
    FERRY_TRY(ferry_alloc(&k->x.mass, count));
    FERRY_TRY(ferry_alloc(&k->y.mass, count));
    FERRY_TRY(ferry_alloc(&k->x.mean, count * dim));
    FERRY_TRY(ferry_alloc(&k->y.mean, count * dim));
    FERRY_TRY(ferry_alloc(&k->m, count * count));
    FERRY_TRY(ferry_alloc(&k->w, count * count));
    FERRY_TRY(ferry_alloc(&k->u, count));
    FERRY_TRY(ferry_alloc(&k->v, count));
    return ferry_alloc(&k->room, 6 * count);
}

/* Local. m = -C / epsilon between the means. */
static ferry_status find_costs(coarse *k, double epsilon)
{
    const int64_t width = k->cost.columns;
    ferry_panel panel = {0};
    FERRY_AUTO double *values = NULL;
    FERRY_TRY(ferry_alloc(&values, ROWS * width));
    ferry_status status = ferry_panel_open(&panel, &k->cost);
    for (int64_t p = 0; p < k->source.panels && status == FERRY_OK; p++) {
        ferry_panel_costs(values, &panel, &k->source, p);
        for (int64_t g = p * ROWS; g < (p + 1) * ROWS && g < k->count; g++)
            for (int l = 0; l < k->count; l++) k->m[g * k->count + l] = -values[(g - p * ROWS) * width + l] / epsilon;
    }
    ferry_panel_close(&panel);
    return status;
}

/* --- its solution, on rank 0 --- */

/* u, v once each in logarithms; la, lb: logarithms of the masses */
static void log_round(coarse *k, double tau_a, double tau_b, const double *la, const double *lb)
{
    const int n = k->count;
    double *top = k->room + 4 * n, *sum = k->room + 5 * n;
    for (int i = 0; i < n; i++) {
        const double *m = k->m + (int64_t)i * n;
        double most = -INFINITY, all = 0;
        for (int l = 0; l < n; l++) most = fmax(most, m[l] + k->v[l] + lb[l]);
        for (int l = 0; l < n; l++) all += exp(m[l] + k->v[l] + lb[l] - most);
        k->u[i] = -tau_a * (most + log(all));
    }
    for (int l = 0; l < n; l++) {
        top[l] = -INFINITY;
        sum[l] = 0;
    }
    for (int i = 0; i < n; i++)
        for (int l = 0; l < n; l++) top[l] = fmax(top[l], k->m[(int64_t)i * n + l] + k->u[i] + la[i]);
    for (int i = 0; i < n; i++)
        for (int l = 0; l < n; l++) sum[l] += exp(k->m[(int64_t)i * n + l] + k->u[i] + la[i] - top[l]);
    for (int l = 0; l < n; l++) k->v[l] = -tau_b * (top[l] + log(sum[l]));
}

static void absorb(coarse *k, const double *la, const double *lb)
{
    const int n = k->count;
    for (int i = 0; i < n; i++)
        for (int l = 0; l < n; l++) {
            const double power = k->m[(int64_t)i * n + l] + k->u[i] + k->v[l] + la[i] + lb[l];
            k->w[(int64_t)i * n + l] = exp(power < 600 ? power : 600);
        }
}

/* From dv (nats away from the reference): du, the residual of v, and the error. */
static double product_round(double *du, double *residual, const coarse *k, const double *dv, double tau_a, double tau_b)
{
    const int n = k->count;
    const double ka = (1 - tau_a) / tau_a, kb = (1 - tau_b) / tau_b;
    double *power = k->room + 4 * n, *c = k->room + 5 * n, error = 0, sum_b = 0, sum_a = 0, sum_goal = 0;
    for (int l = 0; l < n; l++) {
        power[l] = exp(dv[l]);
        c[l] = 0;
    }
    for (int i = 0; i < n; i++) {
        const double *w = k->w + (int64_t)i * n, goal = k->x.mass[i] * exp(-ka * k->u[i]);
        const double q = ferry_dot(w, power, n);
        du[i] = goal > 0 ? tau_a * log(goal / fmax(q, 1e-300)) : 0;
        const double e = goal > 0 ? exp(du[i]) : 0;
        for (int l = 0; l < n; l++) c[l] += w[l] * e;
        sum_a += goal * exp(-ka * du[i]);
    }
    for (int l = 0; l < n; l++) {
        const double goal = k->y.mass[l] * exp(-kb * (k->v[l] + dv[l])), now = c[l] * power[l];
        residual[l] = goal > 0 ? tau_b * log(goal / fmax(now, 1e-300)) : 0;
        error += fabs(goal - now);
        sum_b += goal;
        sum_goal += goal * exp(-kb * residual[l]);
    }
    /* the constant: by the closed form, or weight-mean zero */
    double shift = 0;
    if (tau_a < 1 || tau_b < 1)
        shift = -tau_b * tau_a * log(sum_a / sum_goal) / (1 - tau_a * tau_b);
    else
        for (int l = 0; l < n; l++) shift -= k->y.mass[l] * residual[l] / sum_b;
    for (int l = 0; l < n; l++) residual[l] = k->y.mass[l] > 0 ? fmin(fmax(residual[l] + shift, -30), 30) : 0;
    return error / sum_b + (tau_a < 1 || tau_b < 1 ? fmin(fabs(shift), 1) : 0);
}

static double farthest(const double *values, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs(values[i]));
    return most;
}

/* The reference moves by du, dv. */
static void move(coarse *k, const double *du, const double *dv)
{
    for (int g = 0; g < k->count; g++) {
        k->u[g] += du[g];
        k->v[g] += dv[g];
    }
}

/* Local. From the reference by products and mixing; error of the point where u, v are left: the best seen. */
static ferry_status mix(double *error, coarse *k, double tau_a, double tau_b, const double *la, const double *lb)
{
    const int n = k->count;
    double *dv = k->room + 2 * n, *residual = k->room + 3 * n;
    ferry_anderson mixing = {0};
    FERRY_AUTO double *du = NULL;
    FERRY_AUTO double *best = NULL; /* u, v */
    FERRY_TRY(ferry_alloc(&du, n));
    FERRY_TRY(ferry_alloc(&best, 2 * (int64_t)n));
    ferry_status status = ferry_anderson_open(&mixing, n, k->y.mass, NULL, NULL, FERRY_REDUCE_TREE);
    *error = INFINITY;
    for (int g = 0; g < n; g++) dv[g] = 0;
    for (int step = 0; step < MOST && status == FERRY_OK && !(*error < TOLERANCE); step++) {
        const double now = product_round(du, residual, k, dv, tau_a, tau_b);
        if (!isfinite(now)) break;
        if (now < *error) {
            *error = now;
            for (int g = 0; g < n; g++) {
                best[g] = k->u[g] + du[g];
                best[n + g] = k->v[g] + dv[g] + residual[g];
            }
        }
        if (farthest(du, n) > FAR || farthest(dv, n) > FAR) {
            for (int g = 0; g < n; g++) dv[g] += residual[g];
            move(k, du, dv);
            for (int g = 0; g < n; g++) dv[g] = 0;
            absorb(k, la, lb);
            ferry_anderson_close(&mixing);
            status = ferry_anderson_open(&mixing, n, k->y.mass, NULL, NULL, FERRY_REDUCE_TREE);
        } else {
            status = ferry_anderson_step(dv, &mixing, residual, now, now < 0.5);
        }
    }
    ferry_anderson_close(&mixing);
    if (*error < INFINITY) {
        memcpy(k->u, best, (size_t)n * sizeof *best);
        memcpy(k->v, best + n, (size_t)n * sizeof *best);
    }
    return status;
}

/* Local. v by Newton's steps, u in logarithms: for what mixing did not solve, such as distant parts with other masses.
 */
static ferry_status balance(coarse *k, double tau_a, double tau_b, const double *la, const double *lb)
{
    const int n = k->count;
    const double ka = (1 - tau_a) / tau_a, kb = (1 - tau_b) / tau_b;
    double *v = k->room + 2 * n;
    FERRY_AUTO double *masses = NULL;
    FERRY_TRY(ferry_alloc(&masses, 2 * (int64_t)n));
    absorb(k, la, lb);
    for (int g = 0; g < n; g++) {
        masses[g] = k->x.mass[g] * exp(-ka * k->u[g]);
        masses[n + g] = k->y.mass[g] * exp(-kb * k->v[g]);
    }
    ferry_balance problem = {.count = n, .q = k->w, .a = masses, .b = masses + n, .tau_a = tau_a, .tau_b = tau_b};
    FERRY_TRY(ferry_balance_solve(v, &problem, TOLERANCE));
    for (int g = 0; g < n; g++) k->v[g] += v[g];
    log_round(k, tau_a, tau_b, la, lb);
    return FERRY_OK;
}

/* Local. u, v. */
static ferry_status solve_coarse(coarse *k, double tau_a, double tau_b)
{
    const int n = k->count;
    double *la = k->room, *lb = la + n, error;
    for (int g = 0; g < n; g++) {
        la[g] = k->x.mass[g] > 0 ? log(k->x.mass[g]) : -INFINITY;
        lb[g] = k->y.mass[g] > 0 ? log(k->y.mass[g]) : -INFINITY;
        k->v[g] = 0;
    }
    for (int round = 0; round < LOG_ROUNDS; round++) log_round(k, tau_a, tau_b, la, lb);
    absorb(k, la, lb);
    FERRY_TRY(mix(&error, k, tau_a, tau_b, la, lb));
    return error > 10 * TOLERANCE ? balance(k, tau_a, tau_b, la, lb) : FERRY_OK;
}

/* --- extension to all cells --- */

/* Local. lse [count] of targets first ... first + count - 1 against the source means: a view of those targets alone. */
static ferry_status lse_targets(double *lse, const coarse *k, const double *f, const ferry_cost *whole, double epsilon,
                                int64_t first, int64_t count)
{
    ferry_grid grid = {.target_rows = count};
    ferry_cost view = *whole;
    int64_t unit[2] = {0, (count + COLUMNS - 1) / COLUMNS};
    ferry_panel panel = {0};
    ferry_target target = {0};
    FERRY_AUTO double *pairs = NULL;
    view.grid = &grid;
    view.units = unit[1];
    view.columns = unit[1] * COLUMNS;
    view.blocks = 1;
    view.unit = unit;
    view.runs = 0;
    view.y = whole->y ? whole->y + first * whole->dim : NULL;
    view.y_d = whole->y_d ? whole->y_d + first * whole->dim : NULL;
    view.y_norm = whole->y_norm + first;
    view.y2 = whole->y2 ? whole->y2 + first : NULL;
    FERRY_TRY(ferry_alloc(&pairs, 2 * view.columns));
    ferry_status status = ferry_panel_open(&panel, &view);
    if (status == FERRY_OK) status = ferry_target_open(&target, &view);
    if (status == FERRY_OK) {
        ferry_target_set(&target, &view, NULL, epsilon);
        for (int64_t j = 0; j < view.columns; j++) pairs[j] = -INFINITY;
        for (int64_t p = 0; p < k->source.panels; p++)
            ferry_panel_column_lse(pairs, pairs + view.columns, &panel, &k->source, p, f + p * ROWS, &target);
        for (int64_t j = 0; j < count; j++) lse[j] = (pairs[j] + log2(pairs[view.columns + j])) / FERRY_LOG2_E;
    }
    ferry_target_close(&target);
    ferry_panel_close(&panel);
    return status;
}

/* Local. lse [targets] of this rank's share of the units of its grid column, by threads. */
static ferry_status lse_share(double *lse, const coarse *k, const double *f, ferry_sinkhorn *s)
{
    const ferry_world *down = &s->grid->down;
    const int64_t from = s->cost->units * down->rank / down->size, to = s->cost->units * (down->rank + 1) / down->size;
    ferry_status status = FERRY_OK;
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int t = 0; t < s->threads; t++) {
        const int64_t first = (from + (to - from) * t / s->threads) * COLUMNS;
        int64_t end = (from + (to - from) * (t + 1) / s->threads) * COLUMNS;
        if (end > s->targets) end = s->targets;
        if (end <= first) continue;
        ferry_status got = lse_targets(lse + first - from * COLUMNS, k, f, s->cost, s->epsilon, first, end - first);
#pragma omp critical(ferry_coarse)
        if (got != FERRY_OK) status = got;
    }
    return status;
}

/* Collective. psi of all targets here into s->g. */
static ferry_status extend_targets(ferry_sinkhorn *s, const coarse *k)
{
    const ferry_world *down = &s->grid->down;
    FERRY_AUTO double *f = NULL;
    FERRY_AUTO double *mine = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    const int64_t padded = k->source.panels * ROWS;
    ferry_status status = ferry_alloc(&f, padded);
    if (status == FERRY_OK) status = ferry_alloc(&mine, s->targets + COLUMNS);
    if (status == FERRY_OK) status = ferry_alloc(&counts, down->size);
    for (int64_t g = 0; g < padded && status == FERRY_OK; g++)
        f[g] = g < k->count && k->x.mass[g] > 0 ? s->epsilon * (k->u[g] + log(k->x.mass[g])) : -INFINITY;
    for (int r = 0; r < down->size && status == FERRY_OK; r++) {
        int64_t from = s->cost->units * r / down->size * COLUMNS, to = s->cost->units * (r + 1) / down->size * COLUMNS;
        if (to > s->targets) to = s->targets;
        counts[r] = to > from ? to - from : 0;
    }
    if (status == FERRY_OK) status = lse_share(mine, k, f, s);
    FERRY_TRY(ferry_agree(s->grid->world, status));
    ferry_gather_all(down, mine, counts, s->work, sizeof *mine);
    for (int64_t j = 0; j < s->targets; j++)
        s->g[j] = s->b[j] > 0 ? s->tau_b * s->epsilon * (log(s->b[j]) - s->work[j]) : -INFINITY;
    return FERRY_OK;
}

/* Local. phi of panels p ... of one thread into s->f. */
static void extend_panel(ferry_sinkhorn *s, const coarse *k, ferry_panel *panel, const ferry_target *target, int64_t p)
{
    double f[ROWS], max[ROWS], sums[ROWS];
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = p * ROWS + i;
        f[i] = row < s->sources && s->a[row] > 0 ? 0 : -INFINITY;
    }
    ferry_panel_row_max(max, panel, s->source, p, f, target);
    for (int i = 0; i < ROWS; i++)
        if (f[i] == 0) f[i] = -s->epsilon / FERRY_LOG2_E * max[i];
    ferry_panel_plan(panel, s->source, p, f, target);
    ferry_panel_row_sums(sums, panel);
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = p * ROWS + i;
        if (f[i] == -INFINITY) continue;
        s->f[row] = s->tau_a * (s->epsilon * log(s->a[row] / sums[i]) + f[i]);
    }
    (void)k;
}
/* Local. */
static ferry_status extend_sources(ferry_sinkhorn *s, const coarse *k)
{
    FERRY_AUTO double *g = NULL;
    FERRY_AUTO ferry_panel *panel = NULL;
    ferry_target target = {0};
    FERRY_TRY(ferry_alloc(&g, k->cost.columns));
    FERRY_TRY(ferry_alloc(&panel, s->threads));
    for (int64_t l = 0; l < k->cost.columns; l++)
        g[l] = l < k->count && k->y.mass[l] > 0 ? s->epsilon * (k->v[l] + log(k->y.mass[l])) : -INFINITY;
    ferry_status status = ferry_target_open(&target, &k->cost);
    for (int t = 0; t < s->threads && status == FERRY_OK; t++) status = ferry_panel_open(&panel[t], &k->cost);
    if (status == FERRY_OK) {
        ferry_target_set(&target, &k->cost, g, s->epsilon);
#pragma omp parallel for num_threads(s->threads) schedule(static)
        for (int64_t p = 0; p < s->source->panels; p++) extend_panel(s, k, &panel[omp_get_thread_num()], &target, p);
    }
    for (int t = 0; t < s->threads; t++) ferry_panel_close(&panel[t]);
    ferry_target_close(&target);
    return status;
}

/* Collective. */
static ferry_status start(ferry_sinkhorn *s, const ferry_groups *groups, coarse *k)
{
    const ferry_world *world = s->grid->world;
    const size_t bytes = (size_t)groups->count * sizeof(double);
    FERRY_TRY(ferry_agree(world, open_coarse(k, groups)));
    FERRY_TRY(find_sides(k, s, groups));
    ferry_status status = pack(k, &groups->cost);
    if (status == FERRY_OK && world->rank == 0) status = find_costs(k, s->epsilon);
    if (status == FERRY_OK && world->rank == 0) status = solve_coarse(k, s->tau_a, s->tau_b);
    FERRY_TRY(ferry_agree(world, status));
    ferry_broadcast(world, k->u, bytes, 0);
    ferry_broadcast(world, k->v, bytes, 0);
    FERRY_TRY(extend_targets(s, k));
    return ferry_agree(world, extend_sources(s, k));
}

ferry_status ferry_coarse_start(ferry_sinkhorn *s, const ferry_groups *groups)
{
    coarse k = {0};
    ferry_status status = start(s, groups, &k);
    close_coarse(&k);
    return status;
}

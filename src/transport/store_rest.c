/* The rest of a plan of which only the tiles that weigh were kept, by groups.
 *
 * With rows i in groups k, columns j in groups l, S what was kept and Q what the groups exchange in the dense pass:
 *   rho_i = r_i - sum_j S_ij,  gamma_j = c_j - sum_i S_ij,  Qr = Q - (sums of S by groups),  R, G: rho, gamma by group
 *   P ~ S + [rho_i gamma_j Qr_kl / (R_k G_l)]
 * The second part costs a pass K^2 + n + m additions. It has the sums of what was dropped, and it follows the
 * potentials: without it parts of the problem that only small numbers join would fall apart, and a store could not be
 * solved at all. What rounding leaves below 0 is cut; a small floor keeps every row and column joined.
 *
 * Sums by groups are whole numbers, so that their order does not matter. */
#include "store_parts_impl.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define FLOOR  1e-13 /* of a row's or column's sum, of the mass between two groups */
#define ROUNDS 10

/* Units in which sums of about `total` may become 2^20 times larger. */
static double roomy_units(double total)
{
    return ferry_exact_units(total) / 1024;
}

ferry_status ferry_rest_open(ferry_rest *rest, const ferry_store *store, const ferry_groups *groups)
{
    const int64_t count = groups->count;
    if (rest->matrix) return FERRY_OK;
    rest->groups = groups;
    FERRY_TRY(ferry_alloc(&rest->row, store->rows));
    FERRY_TRY(ferry_alloc(&rest->column, store->columns));
    FERRY_TRY(ferry_alloc(&rest->e, count));
    FERRY_TRY(ferry_alloc(&rest->f, count));
    FERRY_TRY(ferry_alloc(&rest->given, count));
    FERRY_TRY(ferry_alloc(&rest->sums, count * store->threads));
    FERRY_TRY(ferry_alloc(&rest->kept, count * count * (store->threads + 1)));
    return ferry_alloc(&rest->matrix, count * count);
}
int64_t ferry_store_groups_bytes(int groups, int threads)
{
    const int64_t count = groups;
    return (count * (threads + 2) + threads + 3) * count * (int64_t)sizeof(double);
}
void ferry_rest_close(ferry_rest *rest)
{
    free(rest->row);
    free(rest->column);
    free(rest->e);
    free(rest->f);
    free(rest->given);
    free(rest->sums);
    free(rest->kept);
    free(rest->matrix);
    memset(rest, 0, sizeof *rest);
}

/* Collective over the grid row. sums [count] of values times times (NULL: 1) over the targets of each group. */
static void by_target_group(double *sums, ferry_rest *rest, const ferry_sinkhorn *s, const double *values,
                            const double *times, double units)
{
    const int count = rest->groups->count;
    memset(rest->sums, 0, (size_t)count * sizeof *rest->sums);
    for (int64_t j = 0; j < s->targets; j++)
        rest->sums[rest->groups->target_group[j]] += ferry_exact(times ? values[j] * times[j] : values[j], units);
    if (s->grid->cols > 1) ferry_total_counts(&s->grid->across, rest->sums, count);
    for (int l = 0; l < count; l++) sums[l] = (double)rest->sums[l] / units;
}

/* f_l = sum_k M_kl given_k, and e_k = sum_l M_kl w_l */
static void through(double *f, const ferry_rest *rest, const double *given)
{
    const int count = rest->groups->count;
    memset(f, 0, (size_t)count * sizeof *f);
    for (int k = 0; k < count; k++)
        for (int l = 0; l < count; l++) f[l] += rest->matrix[(int64_t)k * count + l] * given[k];
}
static void back(double *e, const ferry_rest *rest, const double *w)
{
    const int count = rest->groups->count;
    for (int k = 0; k < count; k++) {
        e[k] = 0;
        for (int l = 0; l < count; l++) e[k] += rest->matrix[(int64_t)k * count + l] * w[l];
    }
}

/* Qr to row sums r and column sums g, as far as they go together; room [count]. */
static void fit(double *q, const double *r, const double *g, double *room, int count)
{
    for (int round = 0; round < ROUNDS; round++) {
        for (int l = 0; l < count; l++) room[l] = 0;
        for (int k = 0; k < count; k++) {
            double sum = 0;
            for (int l = 0; l < count; l++) sum += q[(int64_t)k * count + l];
            const double times = sum > 0 ? r[k] / sum : 0;
            for (int l = 0; l < count; l++) room[l] += q[(int64_t)k * count + l] *= times;
        }
        for (int l = 0; l < count; l++) room[l] = room[l] > 0 ? g[l] / room[l] : 0;
        for (int k = 0; k < count; k++)
            for (int l = 0; l < count; l++) q[(int64_t)k * count + l] *= room[l];
    }
}

/* Collective. What the groups exchange beside what was kept: matrix. */
static void find_matrix(ferry_rest *rest, const ferry_store *store, const ferry_sinkhorn *s, const double *r,
                        const double *g)
{
    const ferry_aggregate *a = s->aggregate;
    const int count = rest->groups->count;
    int64_t *whole = rest->kept + a->size * store->threads;
    for (int64_t e = 0; e < a->size; e++) {
        whole[e] = a->sums[e];
        for (int t = 1; t < store->threads; t++) {
            whole[e] += a->sums[t * a->size + e];
            rest->kept[e] += rest->kept[t * a->size + e];
        }
    }
    ferry_total_counts(s->grid->world, whole, a->size);
    ferry_total_counts(s->grid->world, rest->kept, a->size);
    for (int64_t e = 0; e < a->size; e++)
        rest->matrix[e] = fmax((double)(whole[e] - rest->kept[e]), FLOOR * (double)whole[e]);
    fit(rest->matrix, r, g, rest->given, count);
    for (int k = 0; k < count; k++)
        for (int l = 0; l < count; l++) {
            double *q = &rest->matrix[(int64_t)k * count + l];
            *q = r[k] > 0 && g[l] > 0 ? *q / r[k] / g[l] : 0;
        }
}

ferry_status ferry_rest_take(ferry_rest *rest, ferry_store *store, ferry_sinkhorn *s)
{
    const int count = rest->groups->count;
    const double units = roomy_units(s->mass_a < s->mass_b ? s->mass_b : s->mass_a);
    FERRY_AUTO double *r = NULL; /* [2][count] R, G */
    FERRY_TRY(ferry_agree(s->grid->world, ferry_alloc(&r, 2 * (int64_t)count)));
    rest->units = units;
    memset(rest->sums, 0, (size_t)count * sizeof *rest->sums);
    for (int64_t i = 0; i < s->sources; i++) {
        const double whole = store->r[i], left = store->rho[i] > 0 ? whole * (1 - 1 / store->rho[i]) : 0;
        rest->row[i] = store->rho[i] > 0 ? fmax(left, FLOOR * whole) : 0;
        rest->sums[rest->groups->group[i]] += ferry_exact(rest->row[i], units);
    }
    ferry_total_counts(&s->grid->down, rest->sums, count);
    for (int k = 0; k < count; k++) r[k] = (double)rest->sums[k] / units;
    for (int64_t j = 0; j < s->targets; j++)
        rest->column[j] = store->c[j] > 0 ? fmax(store->c[j] - store->kept[j], FLOOR * store->c[j]) : 0;
    by_target_group(r + count, rest, s, rest->column, NULL, units);
    find_matrix(rest, store, s, r, r + count);
    back(rest->e, rest, r + count);
    through(rest->f, rest, r);
    for (int64_t i = 0; i < s->sources; i++) {
        const double kept = store->rho[i] > 0 ? store->r[i] / store->rho[i] : 0;
        if (store->rho[i] > 0) store->rho[i] = store->r[i] / (kept + rest->row[i] * rest->e[rest->groups->group[i]]);
    }
    for (int64_t j = 0; j < s->targets; j++) {
        const double all = store->kept[j] + rest->column[j] * rest->f[rest->groups->target_group[j]];
        store->gamma[j] = store->c[j] > 0 && all > 0 ? store->c[j] / all : 1;
    }
    return FERRY_OK;
}

void ferry_rest_begin(ferry_rest *rest, const ferry_store *store, const ferry_sinkhorn *s)
{
    by_target_group(rest->f, rest, s, rest->column, store->moves, rest->units);
    back(rest->e, rest, rest->f);
    memset(rest->sums, 0, (size_t)(rest->groups->count * store->threads) * sizeof *rest->sums);
}

void ferry_rest_end(ferry_rest *rest, const ferry_store *store, ferry_sinkhorn *s)
{
    const int count = rest->groups->count;
    const ferry_aggregate *a = s->aggregate;
    for (int t = 1; t < store->threads; t++)
        for (int k = 0; k < count; k++) rest->sums[k] += rest->sums[t * count + k];
    ferry_total_counts(&s->grid->down, rest->sums, count);
    for (int k = 0; k < count; k++) rest->given[k] = (double)rest->sums[k] / rest->units;
    through(rest->f, rest, rest->given);
    for (int64_t j = 0; j < s->targets; j++) {
        const double more = store->gamma[j] * store->moves[j] * rest->column[j];
        s->work[j] = more;
        s->c[j] += more * rest->f[rest->groups->target_group[j]];
    }
    if (!a) return;
    by_target_group(rest->e, rest, s, s->work, NULL, rest->units);
    for (int k = 0; k < count && s->grid->world->rank == 0; k++)
        for (int l = 0; l < count; l++)
            a->sums[(int64_t)k * count + l] +=
                ferry_exact(rest->given[k] * rest->matrix[(int64_t)k * count + l] * rest->e[l], a->units);
}

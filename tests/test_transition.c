/* transition: moscot's tables, matched by label, and the same bits for any layout. */
#include "mpi/log.h"
#include "oracle.h"
#include "plans.h"
#include "test.h"
#include "transport/transition.h"

static const char *const letters[] = {"A", "B", "C"};

/* Cells x groups, whole on every rank. */
typedef struct cells {
    int64_t rows, groups;
    double *out;
    int64_t *times;
} cells;

static ferry_status take(void *self, int64_t first, int64_t count, int64_t groups, const double *rows)
{
    cells *c = self;
    CHECK(groups == c->groups);
    for (int64_t i = 0; i < count; i++) {
        c->times[first + i]++;
        memcpy(c->out + (first + i) * groups, rows + i * groups, (size_t)groups * sizeof *rows);
    }
    return FERRY_OK;
}

static ferry_status by_cells(cells *c, ferry_names *names, ferry_plan *plan, const ferry_world *world, int64_t groups,
                             const ferry_transition_options *o)
{
    *c = (cells){o->backward ? plan->target.cells : plan->source.cells, groups, NULL, NULL};
    c->out = calloc((size_t)(c->rows * groups + 1), sizeof *c->out);
    c->times = calloc((size_t)c->rows + 1, sizeof *c->times);
    FERRY_TRY(ferry_transition_cells(names, plan, world, "group", o, take, c));
    MPI_Allreduce(MPI_IN_PLACE, c->out, (int)(c->rows * groups), MPI_DOUBLE, MPI_SUM, world->comm);
    MPI_Allreduce(MPI_IN_PLACE, c->times, (int)c->rows, MPI_INT64_T, MPI_SUM, world->comm);
    for (int64_t i = 0; i < c->rows; i++) CHECK(c->times[i] == 1);
    return FERRY_OK;
}

static void cells_close(cells *c)
{
    free(c->out);
    free(c->times);
}

/* ---- the reference ---- */

/* Cells of one time point of the reference. */
typedef struct moment {
    double points[105 * 6];
    int32_t label[105];
    int64_t cells;
} moment;

static void pick(moment *m, const double *points, const double *time, const double *type, double when)
{
    m->cells = 0;
    for (int i = 0; i < 105; i++) {
        if (time[i] != when) continue;
        memcpy(m->points + 6 * m->cells, points + (ptrdiff_t)6 * i, 6 * sizeof *points);
        m->label[m->cells++] = (int32_t)type[i];
    }
}

static double mean_cost(const moment *a, const moment *b)
{
    double sum = 0;
    for (int64_t i = 0; i < a->cells; i++)
        for (int64_t j = 0; j < b->cells; j++)
            for (int k = 0; k < 6; k++) {
                const double d = a->points[i * 6 + k] - b->points[j * 6 + k];
                sum += d * d;
            }
    return sum / (double)(a->cells * b->cells);
}

static void groups_case(hid_t oracle, ferry_plan *plan, const ferry_world *world, bool backward, bool normalize,
                        double tolerance)
{
    char name[64];
    snprintf(name, sizeof name, "df_ct_annotation_%s_%s", backward ? "bwd" : "fwd", normalize ? "norm" : "raw");
    double *answer = oracle_array(oracle, "moscot_temporal", name, NULL), *table = NULL;
    ferry_transition_options o = FERRY_TRANSITION_DEFAULTS;
    ferry_names source = {0}, target = {0};
    o.backward = backward;
    o.normalize = normalize;
    CHECK(ferry_transition(&table, &source, &target, plan, world, "group", "group", &o) == FERRY_OK);
    CHECK(source.count == 3 && target.count == 3);
    for (int s = 0; s < 3; s++) {
        CHECK(strcmp(ferry_name(&source, s), letters[s]) == 0 && strcmp(ferry_name(&target, s), letters[s]) == 0);
        for (int t = 0; t < 3; t++) CHECK(fabs(table[3 * s + t] - answer[3 * s + t]) <= tolerance);
    }
    free(table);
    free(answer);
    ferry_names_close(&source);
    ferry_names_close(&target);
}

/* The reference's cells have groups C, B, A; backward it has groups in rows. */
static void cells_case(hid_t oracle, ferry_plan *plan, const ferry_world *world, bool backward, bool normalize,
                       double tolerance)
{
    char name[64];
    snprintf(name, sizeof name, "df_ct_cell_%s_%s", backward ? "bwd" : "fwd", normalize ? "norm" : "raw");
    double *answer = oracle_array(oracle, "moscot_temporal", name, NULL);
    ferry_transition_options o = FERRY_TRANSITION_DEFAULTS;
    ferry_names groups = {0};
    cells c;
    o.backward = backward;
    o.normalize = normalize;
    o.cells = true;
    CHECK(by_cells(&c, &groups, plan, world, 3, &o) == FERRY_OK);
    CHECK(groups.count == 3 && strcmp(ferry_name(&groups, 2), "C") == 0);
    for (int64_t i = 0; i < c.rows; i++)
        for (int g = 0; g < 3; g++) {
            const double theirs = backward ? answer[(2 - g) * c.rows + i] : answer[i * 3 + (2 - g)];
            CHECK(fabs(c.out[i * 3 + g] - theirs) <= tolerance);
        }
    cells_close(&c);
    ferry_names_close(&groups);
    free(answer);
}

static void test_oracle(const char *folder, const ferry_world *world, ferry_precision precision, double tolerance)
{
    static moment then, now;
    hid_t oracle = oracle_open("transport.h5");
    double *points = oracle_array(oracle, "moscot_temporal", "X_pca", NULL);
    double *time = oracle_array(oracle, "moscot_temporal", "time", NULL);
    double *type = oracle_array(oracle, "moscot_temporal", "ct", NULL);
    double *f = oracle_array(oracle, "moscot_temporal", "f_0_1", NULL);
    double *g = oracle_array(oracle, "moscot_temporal", "g_0_1", NULL);
    pick(&then, points, time, type, 0);
    pick(&now, points, time, type, 1);
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    options.precision = precision;
    const plans_side a = {then.cells, 6, then.points, f, then.label, letters, 3, NULL};
    const plans_side b = {now.cells, 6, now.points, g, now.label, letters, 3, NULL};
    ferry_plan plan;
    CHECK(then.cells == 30 && now.cells == 40);
    CHECK(plans_write(folder, "time", world, &a, &b, 1, &options, 1 / mean_cost(&then, &now), 0.05) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "time", world, 1) == FERRY_OK);
    for (int backward = 0; backward < 2; backward++)
        for (int normalize = 0; normalize < 2; normalize++) {
            groups_case(oracle, &plan, world, backward, normalize, tolerance);
            cells_case(oracle, &plan, world, backward, normalize, tolerance);
        }
    ferry_plan_close(&plan);
    free(points);
    free(time);
    free(type);
    free(f);
    free(g);
    H5Fclose(oracle);
}

/* ---- layouts ---- */

/* Plain sums, with groups that no cell has left out. */
static double *plain(const double *p, const plans_side *a, const plans_side *b, const int *source, int sources,
                     const int *target, int targets, const ferry_transition_options *o)
{
    double *table = calloc((size_t)sources * (size_t)targets, sizeof *table);
    for (int s = 0; s < sources; s++)
        for (int t = 0; t < targets; t++) {
            double sum = 0, total = 0;
            int64_t in_s = 0, in_t = 0;
            for (int64_t i = 0; i < a->cells; i++) in_s += a->label[i] == source[s];
            for (int64_t j = 0; j < b->cells; j++) in_t += b->label[j] == target[t];
            for (int64_t i = 0; i < a->cells; i++)
                for (int64_t j = 0; j < b->cells; j++) {
                    if (a->label[i] < 0 || b->label[j] < 0) continue;
                    const double mass = p[i * b->cells + j];
                    if (a->label[i] == source[s] && b->label[j] == target[t]) sum += mass;
                    if (o->backward ? b->label[j] == target[t] : a->label[i] == source[s]) total += mass;
                }
            table[s * targets + t] = sum / (o->normalize ? total : o->backward ? (double)in_t : (double)in_s);
        }
    return table;
}

static void test_layouts(const char *folder, const ferry_world *world, const ferry_world *alone)
{
    enum { N = 170, M = 190, D = 4 };
    static const char *const five[] = {"e", "d", "c", "b", "a"};
    static const int source[] = {0, 1, 3, 4}, target[] = {0, 1, 2};
    double *x = plans_random(N * D, 1), *y = plans_random(M * D, 2), *g = plans_random(M, 4);
    int32_t from[N], to[M];
    for (int i = 0; i < N; i++) from[i] = i % 11 == 0 ? -1 : i % 5 == 2 ? 1 : i % 5; /* nobody is in "c" */
    for (int j = 0; j < M; j++) to[j] = j % 13 == 0 ? -1 : j % 3;                    /* nor here in "b" and "a" */
    const plans_side a = {N, D, x, NULL, from, five, 5, NULL}, b = {M, D, y, g, to, five, 5, NULL};
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    double *p = plans_dense(&a, &b, 0.7, 0.9);
    CHECK(plans_write(folder, "layout", world, &a, &b, 1, &options, 0.7, 0.9) == FERRY_OK);
    for (int kind = 0; kind < 4; kind++) {
        ferry_transition_options o = FERRY_TRANSITION_DEFAULTS;
        o.backward = kind % 2;
        o.normalize = kind / 2;
        double *one = NULL, *answer = plain(p, &a, &b, source, 4, target, 3, &o);
        ferry_names groups = {0}, others = {0};
        cells each;
        ferry_plan plan;
        CHECK(plans_open(&plan, folder, "layout", alone, 1) == FERRY_OK);
        CHECK(ferry_transition(&one, &groups, &others, &plan, alone, "group", "group", &o) == FERRY_OK);
        CHECK(groups.count == 4 && others.count == 3 && strcmp(ferry_name(&groups, 2), "b") == 0);
        for (int k = 0; one && k < 12; k++) CHECK(fabs(one[k] - answer[k]) <= 2e-5 * answer[k]);
        ferry_names_close(&groups);
        ferry_names_close(&others);
        CHECK(by_cells(&each, &groups, &plan, alone, o.backward ? 4 : 3, &o) == FERRY_OK);
        ferry_names_close(&groups);
        ferry_plan_close(&plan);
        for (int variant = 0; variant < 4; variant++) {
            double *here = NULL;
            cells again;
            o.batch = variant % 2 ? 0 : 40;
            o.grid_cols = variant / 2 == 0 ? 1 : world->size % 2 ? world->size : 2;
            CHECK(plans_open(&plan, folder, "layout", world, 1 + variant % 2) == FERRY_OK);
            CHECK(ferry_transition(&here, &groups, &others, &plan, world, "group", "group", &o) == FERRY_OK);
            CHECK(here && memcmp(one, here, 12 * sizeof *one) == 0);
            ferry_names_close(&groups);
            ferry_names_close(&others);
            CHECK(by_cells(&again, &groups, &plan, world, each.groups, &o) == FERRY_OK);
            CHECK(memcmp(each.out, again.out, (size_t)(each.rows * each.groups) * sizeof *each.out) == 0);
            ferry_names_close(&groups);
            cells_close(&again);
            free(here);
            ferry_plan_close(&plan);
        }
        cells_close(&each);
        free(one);
        free(answer);
    }
    free(p);
    free(x);
    free(y);
    free(g);
}

/* ---- what cannot be done ---- */

static void test_refused(const char *folder, const ferry_world *world)
{
    ferry_transition_options o = FERRY_TRANSITION_DEFAULTS;
    ferry_names source = {0}, target = {0};
    double *table = NULL;
    ferry_plan plan;
    CHECK(plans_open(&plan, folder, "time", world, 1) == FERRY_OK);
    CHECK(ferry_transition(&table, &source, &target, &plan, world, "group", "gruop", &o) == FERRY_E_FILE);
    CHECK(strstr(ferry_error(), "gruop") != NULL);
    o.grid_cols = world->size + 1;
    CHECK(ferry_transition(&table, &source, &target, &plan, world, "group", "group", &o) == FERRY_E_ARG);
    CHECK(!table && source.count == 0 && target.count == 0);
    ferry_plan_close(&plan);
}

static void walk_failures(const char *folder, const ferry_world *world)
{
    ferry_status status = FERRY_E_NUMERIC;
    int meeting = 0, step = world->size > 2 ? 3 : 1; /* one rank and two fail at every meeting */
    while (status != FERRY_OK && meeting < 400) {
        char text[64];
        ferry_transition_options o = FERRY_TRANSITION_DEFAULTS;
        ferry_names source = {0}, target = {0};
        double *table = NULL;
        ferry_plan plan = {0};
        o.grid_cols = world->size % 2 ? 1 : 2;
        snprintf(text, sizeof text, "%d:%d", meeting += step, world->size - 1);
        setenv("FERRY_FAIL", text, 1);
        status = plans_open(&plan, folder, "time", world, 1);
        if (status == FERRY_OK) status = ferry_transition(&table, &source, &target, &plan, world, "group", "group", &o);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        free(table);
        ferry_names_close(&source);
        ferry_names_close(&target);
        ferry_plan_close(&plan);
    }
    CHECK(meeting > 20 && meeting < 400);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world, alone;
    char folder[64];
    ferry_log_level(FERRY_QUIET);
    if (ferry_world_open(&world, MPI_COMM_WORLD) || ferry_world_open(&alone, MPI_COMM_SELF)) return 1;
    plans_folder(folder, &world);
    test_oracle(folder, &world, FERRY_FLOAT, 3e-6);
    test_oracle(folder, &world, FERRY_DOUBLE, 1e-8);
    test_layouts(folder, &world, &alone);
    test_refused(folder, &world);
    walk_failures(folder, &world);
    plans_remove(folder, &world);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

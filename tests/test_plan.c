/* PLAN.h5: what is written is found again, changed inputs are told, other plans give a start. */
#include "mpi/log.h"
#include "plans.h"
#include "test.h"
#include <sys/stat.h>

enum { N = 100, M = 70, D = 3 };

static const char *says(const char *text)
{
    return strstr(ferry_error(), text);
}

static void check_range(ferry_plan *plan, bool target, const double *expected, int64_t first, int64_t count)
{
    double values[N + M];
    CHECK((target ? ferry_plan_target_potentials : ferry_plan_source_potentials)(values, plan, first, count) ==
          FERRY_OK);
    for (int64_t i = 0; i < count; i++) CHECK(values[i] == expected[first + i]);
}

static void test_round_trip(const char *folder, const ferry_world *world, const plans_side *a, const plans_side *b)
{
    char text[200];
    const ferry_cost_kind kinds[] = {FERRY_COST_SQ_EUCLIDEAN, FERRY_COST_PNORM, FERRY_COST_SPEARMAN};
    for (int k = 0; k < 3; k++) {
        ferry_cost_options options = FERRY_COST_DEFAULTS;
        options.kind = kinds[k];
        options.p = 1.5;
        options.precision = k == 1 ? FERRY_DOUBLE : FERRY_FLOAT;
        ferry_plan plan;
        const int cols = k == 2 ? world->size : 1; /* also written from a wide grid */
        CHECK(plans_write(folder, "trip", world, a, b, cols, &options, 0.25, 0.0625) == FERRY_OK);
        CHECK(plans_open(&plan, folder, "trip", world, 1) == FERRY_OK);
        CHECK(plan.cost.kind == kinds[k] && plan.cost.precision == options.precision);
        CHECK(k != 1 || plan.cost.p == 1.5);
        CHECK(plan.inv_scale == 0.25 && plan.epsilon == 0.0625 && plan.tau_a == 1 && plan.converged);
        CHECK(plan.source.cells == N && plan.target.cells == M && plan.source.dim == D);
        check_range(&plan, false, a->potential, 7, N - 7);
        check_range(&plan, false, a->potential, N, 0);
        check_range(&plan, true, b->potential, 0, M);
        snprintf(text, sizeof text, "%s/trip.h5", folder);
        CHECK(strcmp(plan.path, text) == 0);
        double number = 0;
        char *words = NULL;
        CHECK(ferry_stored_attribute_number(&number, plan.stored, "errors", "check_every") == FERRY_OK && number == 10);
        CHECK(ferry_stored_attribute_text(&words, plan.stored, "source", "rep") == FERRY_OK);
        CHECK(words && strcmp(words, "X_pca") == 0);
        free(words);
        ferry_plan_close(&plan);
    }
}

/* The inputs move: beside the plan they are found, elsewhere they are not. */
static void test_places(const char *folder, const ferry_world *world, const plans_side *a, const plans_side *b)
{
    char from[160], to[200];
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    ferry_plan plan;
    CHECK(plans_write(folder, "place", world, a, b, 1, &options, 1, 1) == FERRY_OK);
    snprintf(to, sizeof to, "%s/moved", folder);
    if (world->rank == 0) CHECK(mkdir(to, 0777) == 0);
    const char *const files[] = {"place.h5", "place_source.h5ad", "place_target.h5ad"};
    for (int i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%s/%s", folder, files[i]);
        snprintf(to, sizeof to, "%s/moved/%s", folder, files[i]);
        ferry_barrier(world);
        if (world->rank == 0) CHECK(rename(from, to) == 0);
        ferry_barrier(world);
        if (i == 0) {
            snprintf(to, sizeof to, "%s/moved", folder);
            CHECK(plans_open(&plan, to, "place", world, 1) == FERRY_OK); /* the old paths still hold */
            ferry_plan_close(&plan);
        }
    }
    snprintf(to, sizeof to, "%s/moved", folder);
    CHECK(plans_open(&plan, to, "place", world, 1) == FERRY_OK);
    CHECK(strstr(plan.target.options.path, "moved/place_target") != NULL);
    ferry_plan_close(&plan);
    snprintf(to, sizeof to, "%s/moved/place_target.h5ad", folder);
    ferry_barrier(world);
    if (world->rank == 0) CHECK(remove(to) == 0);
    ferry_barrier(world);
    snprintf(to, sizeof to, "%s/moved", folder);
    CHECK(plans_open(&plan, to, "place", world, 1) == FERRY_E_FILE);
    CHECK(says("its target is not found") && says("place_target.h5ad"));
    ferry_plan_close(&plan);
}

static void test_changed(const char *folder, const ferry_world *world, const plans_side *a, const plans_side *b)
{
    char path[160];
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    ferry_plan plan;
    CHECK(plans_write(folder, "changed", world, a, b, 1, &options, 1, 1) == FERRY_OK);
    snprintf(path, sizeof path, "%s/changed_target.h5ad", folder);
    plans_side other = *b;
    other.cells = M - 1;
    CHECK(plans_write_cells(path, world, &other) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "changed", world, 1) == FERRY_E_FILE);
    CHECK(says("the target") && says("cells in the file are 69 now, 70 then"));
    other = *b;
    other.dim = D - 1; /* another width, the same length */
    CHECK(plans_write_cells(path, world, &other) == FERRY_OK);
    CHECK(plans_open(&plan, folder, "changed", world, 1) == FERRY_E_FILE);
    CHECK(says("the target") && says("are 2 now, 3 then"));
    CHECK(ferry_plan_open(&plan, world, path) == FERRY_E_FILE); /* a file of cells is no plan */
    CHECK(says("not a plan"));
    snprintf(path, sizeof path, "%s/none.h5", folder);
    CHECK(ferry_plan_open(&plan, world, path) == FERRY_E_FILE);
    CHECK(says("none.h5"));
    CHECK(plan.path == NULL && plan.stored == NULL);
}

/* ---- another plan as a start ---- */

typedef struct start {
    ferry_population side[2];
    ferry_grid grid;
    double *f, *g;
} start;

static ferry_status start_open(start *s, const char *folder, const char *name, const char *from,
                               const ferry_world *world, int cols, double epsilon)
{
    char path[3][160];
    const ferry_cost_options options = FERRY_COST_DEFAULTS;
    memset(s, 0, sizeof *s);
    snprintf(path[0], sizeof path[0], "%s/%s_source.h5ad", folder, name);
    snprintf(path[1], sizeof path[1], "%s/%s_target.h5ad", folder, name);
    snprintf(path[2], sizeof path[2], "%s/%s.h5", folder, from);
    for (int i = 0; i < 2; i++) {
        const ferry_population_options population = {.path = path[i], .rep = "X_pca"};
        FERRY_TRY(ferry_population_open(&s->side[i], world, &population));
    }
    FERRY_TRY(ferry_grid_open(&s->grid, world, world->size / cols, cols, s->side[0].cells, s->side[1].cells));
    return ferry_plan_initial(&s->f, &s->g, path[2], world, &s->grid, &s->side[0], &s->side[1], &options, epsilon);
}

static void start_close(start *s)
{
    ferry_grid_close(&s->grid);
    ferry_population_close(&s->side[0]);
    ferry_population_close(&s->side[1]);
    free(s->f);
    free(s->g);
}

static void test_initial(const char *folder, const ferry_world *world, const plans_side *a, const plans_side *b)
{
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    start s;
    double f[N];
    memcpy(f, a->potential, sizeof f);
    f[5] = -INFINITY; /* its weight was 0 */
    plans_side source = *a;
    source.potential = f;
    double mean = 0;
    for (int i = 0; i < N; i++) mean += i == 5 ? 0 : f[i] / (N - 1);
    CHECK(plans_write(folder, "known", world, &source, b, 1, &options, 1, 1) == FERRY_OK);
    for (int cols = 1; cols <= world->size; cols++) {
        if (world->size % cols) continue;
        CHECK(start_open(&s, folder, "known", "known", world, cols, 1) == FERRY_OK); /* the same cells */
        for (int64_t i = 0; i < s.grid.source_rows; i++) {
            const int64_t row = s.grid.source_first + i;
            CHECK(row == 5 ? fabs(s.f[i] - mean) < 1e-12 : s.f[i] == f[row]);
        }
        for (int64_t j = 0; j < s.grid.target_rows; j++) CHECK(s.g[j] == b->potential[s.grid.target_first + j]);
        start_close(&s);
    }
    /* more source cells under the same names, target cells that the plan does not know */
    double *x = plans_random((N + 50) * D, 9);
    const plans_side more = {N + 50, D, x, NULL, NULL, NULL, 0, a->prefix},
                     strange = {M, D, x, NULL, NULL, NULL, 0, "q"};
    CHECK(plans_write(folder, "more", world, &more, &strange, 1, &options, 1, 1) == FERRY_OK);
    double bits = 0;
    for (int cols = 1; cols <= world->size; cols++) {
        if (world->size % cols) continue;
        CHECK(start_open(&s, folder, "more", "known", world, cols, 2) == FERRY_OK);
        for (int64_t i = 0; i < s.grid.source_rows; i++) {
            const int64_t row = s.grid.source_first + i;
            const bool known = row < N && row != 5;
            if (!known && bits == 0) bits = s.f[i]; /* the same mean on every grid */
            CHECK(known ? s.f[i] == f[row] : fabs(s.f[i] - mean) < 1e-12 && s.f[i] == bits);
        }
        for (int64_t j = 0; j < s.grid.target_rows; j++) CHECK(s.g[j] == 0);
        start_close(&s);
    }
    CHECK(plans_write(folder, "strange", world, &strange, &strange, 1, &options, 1, 1) == FERRY_OK);
    CHECK(start_open(&s, folder, "strange", "known", world, 1, 1) == FERRY_E_FILE);
    CHECK(says("none of its cells") && !s.f && !s.g);
    start_close(&s);
    free(x);
}

/* Nothing half done: there is no file, or (when the last meeting failed) all of it. */
static void check_whole(const char *path)
{
    struct stat info;
    ferry_stored *stored = NULL;
    if (stat(path, &info) != 0) return;
    CHECK(ferry_stored_open(&stored, path) == FERRY_OK && ferry_stored_has(stored, "uns/cellferry/record"));
    ferry_stored_close(&stored);
}

static void walk_failures(const char *folder, const ferry_world *world, const plans_side *a, const plans_side *b)
{
    ferry_cost_options options = FERRY_COST_DEFAULTS;
    ferry_status status = FERRY_E_NUMERIC;
    char text[160];
    int meeting = 0, step = world->size > 2 ? 3 : 1; /* one rank and two fail at every meeting */
    CHECK(plans_write(folder, "walk", world, a, b, 1, &options, 1, 1) == FERRY_OK);
    while (status != FERRY_OK && meeting < 600) {
        start s = {0};
        snprintf(text, sizeof text, "%d:%d", meeting += step, world->size - 1);
        setenv("FERRY_FAIL", text, 1);
        status = plans_write_plan(folder, "walk", world, a, b, 1, &options, 1, 1);
        snprintf(text, sizeof text, "%s/walk.h5", folder);
        check_whole(text);
        if (status == FERRY_OK) status = start_open(&s, folder, "more", "walk", world, 1, 1);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(world, status) == ferry_min(world, status));
        start_close(&s);
        ferry_barrier(world);
        if (world->rank == 0) remove(text);
        ferry_barrier(world);
    }
    CHECK(meeting > 40 && meeting < 600);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    char folder[64];
    ferry_log_level(FERRY_QUIET);
    if (ferry_world_open(&world, MPI_COMM_WORLD)) return 1;
    plans_folder(folder, &world);
    double *x = plans_random(N * D, 1), *y = plans_random(M * D, 2), *f = plans_random(N, 3), *g = plans_random(M, 4);
    const plans_side a = {N, D, x, f, NULL, NULL, 0, "a"}, b = {M, D, y, g, NULL, NULL, 0, "b"};
    test_round_trip(folder, &world, &a, &b);
    test_places(folder, &world, &a, &b);
    test_changed(folder, &world, &a, &b);
    test_initial(folder, &world, &a, &b);
    walk_failures(folder, &world, &a, &b);
    free(x);
    free(y);
    free(f);
    free(g);
    plans_remove(folder, &world);
    ferry_world_close(&world);
    return test_end();
}

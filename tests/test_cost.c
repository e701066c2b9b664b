/* Costs, scales, statistics and tiles: against the oracles, against plain formulas, and on every layout. */
#include "oracle.h"
#include "test.h"
#include "transport/cost_impl.h"
#include <math.h>

#define COUNT(list) ((int)(sizeof(list) / sizeof *(list)))

static ferry_world world, alone;
static hid_t file;

typedef struct points {
    int64_t n, m;
    int dim;
    double *x, *y;
} points;
static void free_points(points *p)
{
    free(p->x);
    free(p->y);
}
static points of_oracle(const char *name)
{
    points p;
    hsize_t shape[2];
    p.x = oracle_array(file, name, "x", shape);
    p.n = (int64_t)shape[0];
    p.dim = (int)shape[1];
    p.y = oracle_array(file, name, "y", shape);
    p.m = (int64_t)shape[0];
    return p;
}
static points made_up(int64_t n, int64_t m, int dim)
{
    points p = {n, m, dim, malloc((size_t)(n * dim) * sizeof(double)), malloc((size_t)(m * dim) * sizeof(double))};
    uint64_t state = 7;
    for (int64_t i = 0; i < (n + m) * dim; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const double value = (double)(float)((double)(state >> 40) / 4194304.0 - 1.5); /* 2^22: -1.5 ... 2.5 */
        if (i < n * dim)
            p.x[i] = value;
        else
            p.y[i - n * dim] = value + 0.25;
    }
    for (int k = 0; k < dim; k++) p.x[k] = 2; /* a constant row: no correlation */
    return p;
}

static ferry_matrix rows_of(const double *x, int64_t first, int64_t rows, int dim, ferry_precision precision)
{
    const size_t count = (size_t)(rows * dim) + 1;
    ferry_matrix matrix = {.rows = rows, .dim = dim};
    matrix.f = precision == FERRY_FLOAT ? malloc(count * sizeof *matrix.f) : NULL;
    matrix.d = precision == FERRY_DOUBLE ? malloc(count * sizeof *matrix.d) : NULL;
    for (int64_t i = 0; i < rows * dim; i++)
        if (matrix.f)
            matrix.f[i] = (float)x[first * dim + i];
        else
            matrix.d[i] = x[first * dim + i];
    return matrix;
}

/* Collective over w. The grid stays open with the cost. */
static ferry_status open_cost(ferry_cost **cost, ferry_grid *grid, const ferry_world *w, int rows, int cols,
                              const points *p, const ferry_cost_options *o)
{
    *cost = NULL;
    ferry_status status = ferry_grid_open(grid, w, rows, cols, p->n, p->m);
    if (status != FERRY_OK) return status;
    ferry_matrix x = rows_of(p->x, grid->source_first, grid->source_rows, p->dim, o->precision);
    ferry_matrix y = rows_of(p->y, grid->bring_first, grid->bring_rows, p->dim, o->precision);
    status = ferry_cost_open(cost, grid, &x, &y, o);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    if (status != FERRY_OK) ferry_grid_close(grid);
    return status;
}
static void close_cost(ferry_cost **cost, ferry_grid *grid)
{
    ferry_cost_close(cost);
    ferry_grid_close(grid);
}

/* --- texts --- */

static void texts(void)
{
    static const char *const good[] = {"sq_euclidean",     "euclidean", "cosine",   "pnorm:1.5", "sq_pnorm:3",
                                       "euclidean_p:1.25", "dot",       "arccos:2", "spearman",  "correlation"};
    static const char *const wrong[][2] = {{"sqeuclidean", "sq_euclidean"}, {"pnorm", "pnorm:2"},
                                           {"pnorm:x", "number"},           {"pnorm:-1", "positive"},
                                           {"arccos:3", "0, 1 or 2"},       {"cosine:2", "no parameter"},
                                           {"pearman", "spearman"},         {"", "unknown"}};
    ferry_cost_options o = FERRY_COST_DEFAULTS;
    for (int i = 0; i < COUNT(good); i++) {
        char text[32];
        CHECK(ferry_cost_parse(&o, good[i]) == FERRY_OK);
        CHECK((int)o.kind == i);
        CHECK(strcmp(ferry_cost_text(text, &o), good[i]) == 0);
    }
    for (int i = 0; i < COUNT(wrong); i++) {
        CHECK(ferry_cost_parse(&o, wrong[i][0]) == FERRY_E_ARG);
        CHECK(strstr(ferry_error(), wrong[i][1]) != NULL);
    }
    CHECK(ferry_scale_parse(&o, "median") == FERRY_OK && o.scale == FERRY_SCALE_MEDIAN);
    CHECK(ferry_scale_parse(&o, "2.5") == FERRY_OK && o.scale == FERRY_SCALE_NUMBER && o.scale_number == 2.5);
    CHECK(ferry_scale_parse(&o, "0") == FERRY_E_ARG);
    CHECK(ferry_scale_parse(&o, "means") == FERRY_E_ARG && strstr(ferry_error(), "mean"));
}

/* --- scales and epsilon against the oracles --- */

static bool near(double value, double wanted, double relative)
{
    return fabs(value - wanted) <= relative * fabs(wanted);
}

static void scale_of(const char *name, const char *scale, ferry_precision precision)
{
    points p = of_oracle(name);
    ferry_cost_options o = FERRY_COST_DEFAULTS;
    ferry_cost *cost;
    ferry_grid grid;
    double mean, std, epsilon;
    const double relative = precision == FERRY_DOUBLE ? 1e-12 : 1e-6;
    o.precision = precision;
    CHECK(ferry_scale_parse(&o, scale) == FERRY_OK);
    CHECK(open_cost(&cost, &grid, &world, world.size, 1, &p, &o) == FERRY_OK);
    CHECK(near(ferry_cost_inv_scale(cost), oracle_number(file, name, "inv_scale_cost"), relative));
    CHECK(ferry_cost_statistics(&mean, &std, cost) == FERRY_OK);
    CHECK(near(mean, oracle_number(file, name, "mean_cost_matrix"), relative));
    CHECK(near(std, oracle_number(file, name, "std_cost_matrix"), relative));
    const bool of_mean = strncmp(name, "eps_rel_mean", 12) == 0, of_std = strcmp(name, "eps_rel_std") == 0;
    if (of_mean || of_std) {
        CHECK(ferry_cost_epsilon(&epsilon, cost, of_mean ? FERRY_EPSILON_OF_MEAN : FERRY_EPSILON_OF_STD, 0.1) ==
              FERRY_OK);
        CHECK(near(epsilon, oracle_number(file, name, "epsilon"), relative));
    }
    if (strcmp(name, "eps_default") == 0) {
        CHECK(ferry_cost_epsilon(&epsilon, cost, FERRY_EPSILON_OF_STD, 0.05) == FERRY_OK);
        CHECK(near(epsilon, oracle_number(file, name, "epsilon"), relative));
    }
    CHECK(ferry_cost_epsilon(&epsilon, cost, FERRY_EPSILON_ABSOLUTE, 0.3) == FERRY_OK && epsilon == 0.3);
    CHECK(ferry_cost_epsilon(&epsilon, cost, FERRY_EPSILON_ABSOLUTE, 0) == FERRY_E_ARG);
    close_cost(&cost, &grid);
    free_points(&p);
}
static void scales(void)
{
    static const char *const cases[][2] = {{"scale_1.0", "1"},
                                           {"scale_2.5", "2.5"},
                                           {"scale_mean", "mean"},
                                           {"scale_median", "median"},
                                           {"scale_max_cost", "max_cost"},
                                           {"scale_max_norm", "max_norm"},
                                           {"scale_max_bound", "max_bound"},
                                           {"eps_default", "1"},
                                           {"eps_rel_mean", "1"},
                                           {"eps_rel_std", "1"},
                                           {"eps_rel_mean_scaled", "max_cost"}};
    for (int i = 0; i < COUNT(cases); i++) {
        scale_of(cases[i][0], cases[i][1], FERRY_DOUBLE);
        scale_of(cases[i][0], cases[i][1], FERRY_FLOAT);
    }
}

/* Mean and deviation of every cost the reference knows. */
static void cost_moments(void)
{
    static const char *const cases[][2] = {{"cost_sqeuclidean", "sq_euclidean"},
                                           {"cost_euclidean", "euclidean"},
                                           {"cost_cosine", "cosine"},
                                           {"cost_pnormp_1", "pnorm:1"},
                                           {"cost_pnormp_1.5", "pnorm:1.5"},
                                           {"cost_pnormp_3", "pnorm:3"},
                                           {"cost_sqpnorm_1.5", "sq_pnorm:1.5"},
                                           {"cost_euclideanp_1.5", "euclidean_p:1.5"},
                                           {"cost_negdot", "dot"},
                                           {"cost_arccos_1", "arccos:1"}};
    for (int i = 0; i < COUNT(cases); i++)
        for (int precision = 0; precision < 2; precision++) {
            points p = of_oracle(cases[i][0]);
            ferry_cost_options o = FERRY_COST_DEFAULTS;
            ferry_cost *cost;
            ferry_grid grid;
            double mean, std;
            const double relative = precision ? 1e-12 : 2e-6;
            CHECK(ferry_cost_parse(&o, cases[i][1]) == FERRY_OK);
            o.precision = (ferry_precision)precision;
            o.scale = FERRY_SCALE_NUMBER;
            CHECK(open_cost(&cost, &grid, &world, 1, world.size, &p, &o) == FERRY_OK);
            CHECK(ferry_cost_statistics(&mean, &std, cost) == FERRY_OK);
            CHECK(near(mean, oracle_number(file, cases[i][0], "mean_cost_matrix"), relative));
            CHECK(near(std, oracle_number(file, cases[i][0], "std_cost_matrix"), relative));
            close_cost(&cost, &grid);
            free_points(&p);
        }
}

/* --- tiles against plain formulas --- */

static double dot(const double *x, const double *y, int dim)
{
    double sum = 0;
    for (int k = 0; k < dim; k++) sum += x[k] * y[k];
    return sum;
}
/* Pearson's r of x and y; of their average ranks */
static double pearson(const double *x, const double *y, int dim)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (int k = 0; k < dim; k++) {
        mx += x[k] / dim;
        my += y[k] / dim;
    }
    for (int k = 0; k < dim; k++) {
        xx += (x[k] - mx) * (x[k] - mx);
        yy += (y[k] - my) * (y[k] - my);
        xy += (x[k] - mx) * (y[k] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0;
}
static double spearman(const double *x, const double *y, int dim)
{
    double rx[16], ry[16];
    for (int k = 0; k < dim; k++) {
        rx[k] = ry[k] = 0.5;
        for (int l = 0; l < dim; l++) {
            rx[k] += x[l] < x[k] ? 1 : x[l] == x[k] ? 0.5 : 0;
            ry[k] += y[l] < y[k] ? 1 : y[l] == y[k] ? 0.5 : 0;
        }
    }
    return pearson(rx, ry, dim);
}
static double plain_cost(const ferry_cost_options *o, const double *x, const double *y, int dim)
{
    double squares = 0, powers = 0;
    const double p = o->p, norms = sqrt(dot(x, x, dim) * dot(y, y, dim)), xy = dot(x, y, dim);
    for (int k = 0; k < dim; k++) {
        squares += (x[k] - y[k]) * (x[k] - y[k]);
        powers += pow(fabs(x[k] - y[k]), p);
    }
    switch (o->kind) {
    case FERRY_COST_SQ_EUCLIDEAN:
        return squares;
    case FERRY_COST_EUCLIDEAN:
        return sqrt(squares);
    case FERRY_COST_EUCLIDEAN_P:
        return pow(squares, p / 2);
    case FERRY_COST_COSINE:
        return 1 - xy / (norms + 1e-8);
    case FERRY_COST_PNORM:
        return powers / p;
    case FERRY_COST_SQ_PNORM:
        return pow(powers, 2 / p) / 2;
    case FERRY_COST_DOT:
        return -xy;
    case FERRY_COST_SPEARMAN:
        return 1 - spearman(x, y, dim);
    case FERRY_COST_CORRELATION:
        return 1 - pearson(x, y, dim);
    case FERRY_COST_ARCCOS: {
        const double c = fmin(fmax(xy / (norms + 1e-8), -1), 1), t = acos(c);
        const double j = p == 0   ? M_PI - t
                         : p == 1 ? sin(t) + (M_PI - t) * c
                                  : 3 * sin(t) * c + (M_PI - t) * (1 + 2 * c * c);
        return -log(pow(norms, p) * j / M_PI + 1e-8);
    }
    }
    return NAN;
}

/* One panel's plan, sums, costs and column sums against the formula, entry by entry. */
static void panel_against(const ferry_cost *cost, const points *p, const ferry_cost_options *o, int64_t index,
                          double most)
{
    const ferry_grid *grid = ferry_cost_grid(cost);
    const ferry_source *source = ferry_cost_source(cost);
    const double epsilon = 0.2, inv_scale = ferry_cost_inv_scale(cost);
    ferry_panel panel;
    ferry_target target;
    CHECK(ferry_panel_open(&panel, cost) == FERRY_OK);
    CHECK(ferry_target_open(&target, cost) == FERRY_OK);
    const int64_t width = panel.units * FERRY_TARGET_UNIT;
    double *g = malloc((size_t)(width + 1) * sizeof *g), *c = calloc((size_t)width + 1, sizeof *c);
    double *values = malloc((size_t)(24 * width + 1) * sizeof *values), f[24], sums[24], max[24], q[24];
    for (int64_t j = 0; j < grid->target_rows; j++) g[j] = j % 11 == 4 ? -INFINITY : 0.01 * (double)(j % 7);
    for (int i = 0; i < 24; i++) f[i] = i == 3 ? -INFINITY : 0.02 * i;
    for (int i = 0; i < 24; i++) q[i] = 1 + 0.1 * i;
    ferry_target_set(&target, cost, g, epsilon);
    ferry_panel_plan(&panel, source, index, f, &target);
    ferry_panel_columns(c, &panel, q);
    ferry_panel_row_sums(sums, &panel);
    double worst = 0, worst_sum = 0, worst_cost = 0, worst_column = 0;
    double *column = calloc((size_t)width + 1, sizeof *column);
    ferry_panel_costs(values, &panel, source, index);
    ferry_panel_plan(&panel, source, index, f, &target);
    for (int i = 0; i < 24; i++) {
        double sum = 0;
        for (int64_t j = 0; j < width; j++) {
            const int64_t at = j / 32 * 768 + i * 32 + j % 32, row = index * 24 + i;
            const double entry = panel.f ? (double)panel.f[at] : panel.d[at];
            double wanted = 0;
            if (row < source->rows && j < grid->target_rows) {
                const double plain = plain_cost(o, p->x + (grid->source_first + row) * p->dim,
                                                p->y + (grid->target_first + j) * p->dim, p->dim) *
                                     inv_scale;
                wanted = exp((f[i] + g[j] - plain) / epsilon);
                worst_cost = fmax(worst_cost, fabs(values[i * width + j] - plain));
            }
            sum += wanted;
            column[j] += q[i] * wanted;
            worst = fmax(worst, fabs(entry - wanted) / fmax(wanted, 1e-6));
        }
        worst_sum = fmax(worst_sum, fabs(sums[i] - sum) / fmax(sum, 1e-6));
    }
    for (int64_t j = 0; j < width; j++)
        worst_column = fmax(worst_column, fabs(c[j] - column[j]) / fmax(column[j], 1e-6));
    char text[32];
    if (worst > most || worst_sum > most || worst_cost > most || worst_column > most)
        fprintf(stderr, "%s %s: entries %.1e sums %.1e costs %.1e columns %.1e\n", ferry_cost_text(text, o),
                panel.f ? "float" : "double", worst, worst_sum, worst_cost, worst_column);
    CHECK(worst <= most && worst_sum <= most && worst_cost <= most && worst_column <= most);
    ferry_panel_row_max(max, &panel, source, index, f, &target);
    CHECK(max[3] == -INFINITY);
    CHECK(index * 24 >= source->rows || width == 0 || isfinite(max[0]));
    free(g);
    free(c);
    free(column);
    free(values);
    ferry_target_close(&target);
    ferry_panel_close(&panel);
}

static const char *const kinds[] = {"sq_euclidean",    "euclidean",   "cosine",   "pnorm:1.5", "sq_pnorm:3",
                                    "euclidean_p:1.5", "dot",         "arccos:0", "arccos:1",  "arccos:2",
                                    "spearman",        "correlation", "pnorm:1",  "sq_pnorm:2"};

static void tiles(void)
{
    points p = made_up(77, 109, 9);
    for (int i = 0; i < COUNT(kinds); i++)
        for (int precision = 0; precision < 2; precision++) {
            ferry_cost_options o = FERRY_COST_DEFAULTS;
            ferry_cost *cost;
            ferry_grid grid;
            CHECK(ferry_cost_parse(&o, kinds[i]) == FERRY_OK);
            o.precision = (ferry_precision)precision;
            o.scale = FERRY_SCALE_NUMBER;
            o.scale_number = 3;
            CHECK(open_cost(&cost, &grid, &world, 1, world.size, &p, &o) == FERRY_OK);
            for (int64_t index = 0; index < ferry_cost_source(cost)->panels; index++)
                panel_against(cost, &p, &o, index, precision ? 1e-11 : 3e-4);
            close_cost(&cost, &grid);
        }
    free_points(&p);
}

/* sum_j e_j C_ij in closed form and by a pass. */
static void weighted_totals(void)
{
    points p = made_up(77, 109, 9);
    for (int i = 0; i < COUNT(kinds); i++)
        for (int precision = 0; precision < 2; precision++) {
            ferry_cost_options o = FERRY_COST_DEFAULTS;
            ferry_cost *cost;
            ferry_grid grid;
            double sums[77] = {0}, e[109];
            bool passed;
            CHECK(ferry_cost_parse(&o, kinds[i]) == FERRY_OK);
            o.precision = (ferry_precision)precision;
            o.scale = FERRY_SCALE_NUMBER;
            for (int k = 0; k < 109; k++) e[k] = 0.1 * (k % 5);
            CHECK(open_cost(&cost, &grid, &world, 1, world.size, &p, &o) == FERRY_OK);
            CHECK(ferry_cost_row_sums(sums, &passed, cost, e + grid.target_first) == FERRY_OK);
            for (int64_t k = 0; k < grid.source_rows; k++) {
                const double *row = p.x + (grid.source_first + k) * p.dim;
                double wanted = 0, size = 0;
                for (int l = 0; l < 109; l++) {
                    const double one = e[l] * plain_cost(&o, row, p.y + (ptrdiff_t)l * p.dim, p.dim);
                    wanted += one;
                    size += fabs(one);
                }
                CHECK(fabs(sums[k] - wanted) <= (precision ? 1e-9 : 4e-6) * size);
            }
            CHECK(passed == !cost->bilinear);
            close_cost(&cost, &grid);
        }
    free_points(&p);
}

/* A target opened alone gives the same bits as the one the solver had. */
static void target_alone(void)
{
    points p = made_up(77, 109, 9);
    ferry_cost_options o = FERRY_COST_DEFAULTS;
    ferry_cost *cost, *later;
    ferry_grid grid;
    CHECK(open_cost(&cost, &grid, &world, 1, world.size, &p, &o) == FERRY_OK);
    ferry_matrix x = rows_of(p.x, grid.source_first, grid.source_rows, p.dim, o.precision);
    ferry_matrix y = rows_of(p.y, grid.bring_first, grid.bring_rows, p.dim, o.precision);
    CHECK(ferry_cost_open_target(&later, &grid, &y, &o, ferry_cost_inv_scale(cost)) == FERRY_OK);
    CHECK(ferry_cost_source(later) == NULL);
    ferry_source source;
    ferry_panel first, second;
    ferry_target target;
    double f[24] = {0};
    CHECK(ferry_source_open(&source, later, &x) == FERRY_OK);
    CHECK(ferry_panel_open(&first, cost) == FERRY_OK && ferry_panel_open(&second, later) == FERRY_OK);
    CHECK(ferry_target_open(&target, later) == FERRY_OK);
    ferry_target_set(&target, later, NULL, 0.1);
    ferry_panel_plan(&first, ferry_cost_source(cost), 2, f, &target);
    ferry_panel_plan(&second, &source, 2, f, &target);
    CHECK(memcmp(first.f, second.f, (size_t)first.units * 768 * sizeof(float)) == 0);
    ferry_panel_close(&first);
    ferry_panel_close(&second);
    ferry_target_close(&target);
    ferry_source_close(&source);
    ferry_cost_close(&later);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    close_cost(&cost, &grid);
    free_points(&p);
}

/* --- layouts --- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of the costs as tiles give them, by sorting all. */
static double plain_median(const ferry_cost *cost, const points *p)
{
    ferry_panel panel;
    CHECK(ferry_panel_open(&panel, cost) == FERRY_OK);
    const int64_t width = panel.units * 32;
    double *values = malloc((size_t)(24 * width) * sizeof *values), *all = malloc((size_t)(p->n * p->m) * sizeof *all);
    int64_t count = 0;
    for (int64_t i = 0; i < p->n; i++) {
        if (i % 24 == 0) ferry_panel_costs(values, &panel, ferry_cost_source(cost), i / 24);
        for (int64_t j = 0; j < p->m; j++) all[count++] = values[i % 24 * width + j];
    }
    qsort(all, (size_t)count, sizeof *all, by_value);
    const double median = (all[(count - 1) / 2] + all[count / 2]) / 2;
    free(values);
    free(all);
    ferry_panel_close(&panel);
    return median;
}

static void layouts(void)
{
    static const ferry_scale ways[] = {FERRY_SCALE_MEAN, FERRY_SCALE_MEDIAN, FERRY_SCALE_MAX_COST};
    points p = made_up(101, 131, 7);
    for (int i = 0; i < COUNT(kinds); i++) {
        ferry_cost_options o = FERRY_COST_DEFAULTS;
        CHECK(ferry_cost_parse(&o, kinds[i]) == FERRY_OK);
        o.scale = o.kind == FERRY_COST_ARCCOS || o.kind == FERRY_COST_DOT ? FERRY_SCALE_MAX_COST : ways[i % 3];
        o.precision = i % 4 == 1 ? FERRY_DOUBLE : FERRY_FLOAT;
        ferry_cost *cost;
        ferry_grid grid;
        double one[3], many[3];
        CHECK(open_cost(&cost, &grid, &alone, 1, 1, &p, &o) == FERRY_OK);
        one[2] = ferry_cost_inv_scale(cost);
        if (o.scale == FERRY_SCALE_MEDIAN) CHECK(near(plain_median(cost, &p), 1, 1e-6));
        CHECK(ferry_cost_statistics(&one[0], &one[1], cost) == FERRY_OK);
        close_cost(&cost, &grid);
        for (int rows = 1; rows <= world.size; rows++) {
            if (world.size % rows) continue;
            o.threads = rows % 2 ? 3 : 1;
            CHECK(open_cost(&cost, &grid, &world, rows, world.size / rows, &p, &o) == FERRY_OK);
            many[2] = ferry_cost_inv_scale(cost);
            CHECK(ferry_cost_statistics(&many[0], &many[1], cost) == FERRY_OK);
            CHECK(memcmp(one, many, sizeof one) == 0);
            close_cost(&cost, &grid);
        }
    }
    free_points(&p);
}

/* --- errors --- */

static void refused(const points *p, const ferry_cost_options *o, ferry_status code, const char *text)
{
    ferry_cost *cost;
    ferry_grid grid;
    ferry_status status = open_cost(&cost, &grid, &world, 1, world.size, p, o);
    CHECK(status == code);
    CHECK(strstr(ferry_error(), text) != NULL);
    if (!strstr(ferry_error(), text) && world.rank == 0) fprintf(stderr, "not \"%s\": %s\n", text, ferry_error());
    if (status == FERRY_OK) close_cost(&cost, &grid);
}
static void wrong_use(void)
{
    points p = made_up(30, 40, 5);
    ferry_cost_options o = FERRY_COST_DEFAULTS;
    const double kept = p.x[37];
    p.x[37] = NAN;
    refused(&p, &o, FERRY_E_FILE, "source cell 7 (of those kept) has nan in dimension 2");
    p.x[37] = kept;
    p.y[199] = INFINITY;
    refused(&p, &o, FERRY_E_FILE, "target cell 39");
    p.y[199] = 1;
    o.scale = FERRY_SCALE_MAX_BOUND;
    o.kind = FERRY_COST_COSINE;
    refused(&p, &o, FERRY_E_ARG, "max_bound");
    o.scale = FERRY_SCALE_NUMBER;
    o.scale_number = -1;
    refused(&p, &o, FERRY_E_ARG, "positive");
    o.scale = FERRY_SCALE_MEAN;
    for (int64_t i = 0; i < 150; i++) p.x[i] = 0.1 + (double)(i % 5);
    for (int64_t i = 0; i < 200; i++) p.y[i] = 0.1 + (double)(i % 5);
    for (int kind = 0; kind < 10; kind++) {
        o.kind = (ferry_cost_kind)kind;
        o.p = 1;
        if (kind == FERRY_COST_DOT || kind == FERRY_COST_ARCCOS)
            refused(&p, &o, FERRY_E_ARG, "turn the cost round");
        else
            refused(&p, &o, FERRY_E_FILE, "all costs are zero");
    }
    free_points(&p);
    p = made_up(30, 40, 5);
    p.n = 0;
    refused(&p, &o, FERRY_E_FILE, "source side has no cells");
    free_points(&p);
}

/* Each meeting of one rank made to fail once. */
static void every_failure(const char *variable, int rows, int cols, int rank)
{
    points p = made_up(60, 70, 3);
    ferry_cost_options o = FERRY_COST_DEFAULTS;
    char plan[32];
    int failures = 0, status = FERRY_E_MEM;
    o.kind = FERRY_COST_EUCLIDEAN;
    o.scale = FERRY_SCALE_MEDIAN;
    while (status != FERRY_OK && failures < 500) {
        ferry_cost *cost;
        ferry_grid grid;
        double mean, std;
        snprintf(plan, sizeof plan, "%d:%d", failures + 1, rank);
        setenv(variable, plan, 1);
        status = (int)open_cost(&cost, &grid, &world, rows, cols, &p, &o);
        if (status == FERRY_OK) {
            status = (int)ferry_cost_statistics(&mean, &std, cost);
            close_cost(&cost, &grid);
        }
        unsetenv(variable);
        int most[2] = {status, -status};
        MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_INT, MPI_MAX, world.comm);
        CHECK(most[0] == -most[1]);
        if (most[0] != -most[1]) break;
        failures++;
    }
    CHECK(failures > 10 && status == FERRY_OK);
    free_points(&p);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world_open(&world, MPI_COMM_WORLD);
    ferry_world_open(&alone, MPI_COMM_SELF);
    file = oracle_open("transport.h5");
    texts();
    scales();
    cost_moments();
    tiles();
    weighted_totals();
    target_alone();
    layouts();
    wrong_use();
    for (int rows = 1; rows <= world.size; rows++)
        if (world.size % rows == 0) every_failure("FERRY_FAIL", rows, world.size / rows, world.size - 1);
    every_failure("FERRY_FAIL_ALLOC", world.size, 1, 0);
    H5Fclose(file);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

/* M^t Z against CellMapper's iterative answers: step by step, with all eigenvectors, and with a part of them within the
 * bound of what is left out; the same bits on one rank and on all; every meeting made to fail once. */
#include "mpi/log.h"
#include "math/random.h"
#include "mpi/memory.h"
#include "neighbors/diffusion.h"
#include "oracle.h"
#include "test.h"
#include <math.h>
#include <stdbool.h>

static ferry_world world, alone;
#define MEMORY ((int64_t)1 << 30)

/* ---- graphs ---- */

/* A graph in the world of all, and one on every rank alone. */
typedef struct graphs {
    int64_t cells;
    int k;
    uint32_t *cell; /* [cells][k] */
    float *distance;
    ferry_graph wide, own;
} graphs;

static void fill(ferry_graph *graph, const ferry_world *in, const graphs *from)
{
    const int64_t first = from->cells * in->rank / in->size, last = from->cells * (in->rank + 1) / in->size;
    uint32_t *row = malloc((size_t)(last - first + 1) * sizeof *row);
    for (int64_t i = first; i < last; i++) row[i - first] = (uint32_t)i;
    const ferry_graph_rows rows = {last - first, row, from->cell + first * from->k, from->distance + first * from->k};
    CHECK(ferry_graph_open(graph, in, from->cells, from->cells, from->k, true, MEMORY, NULL) == FERRY_OK);
    CHECK(ferry_graph_put(graph, in, &rows) == FERRY_OK && ferry_graph_finish(graph, in) == FERRY_OK);
    free(row);
}

static void graphs_fill(graphs *g)
{
    fill(&g->wide, &world, g);
    fill(&g->own, &alone, g);
}

static void graphs_close(graphs *g)
{
    ferry_graph_close(&g->wide);
    ferry_graph_close(&g->own);
    free(g->cell);
    free(g->distance);
}

static void graphs_room(graphs *g, int64_t cells, int k)
{
    *g = (graphs){.cells = cells, .k = k};
    g->cell = malloc((size_t)(cells * k + 1) * sizeof *g->cell);
    g->distance = malloc((size_t)(cells * k + 1) * sizeof *g->distance);
}

/* The k nearest of every cell by all distances; cells from `lonely` on have none. */
static void nearest(graphs *g, const double *points, int64_t cells, int dim, int k, int64_t lonely)
{
    graphs_room(g, cells, k);
    for (int64_t i = 0; i < cells; i++) {
        int64_t count = 0;
        for (int64_t j = 0; j < lonely && i < lonely; j++) {
            double square = 0;
            for (int d = 0; d < dim; d++)
                square += (points[i * dim + d] - points[j * dim + d]) * (points[i * dim + d] - points[j * dim + d]);
            const float distance = (float)sqrt(square);
            if (i == j || (count == k && distance >= g->distance[i * k + k - 1])) continue;
            int64_t at = count < k ? count++ : k - 1;
            for (; at > 0 && g->distance[i * k + at - 1] > distance; at--) {
                g->distance[i * k + at] = g->distance[i * k + at - 1];
                g->cell[i * k + at] = g->cell[i * k + at - 1];
            }
            g->distance[i * k + at] = distance;
            g->cell[i * k + at] = (uint32_t)j;
        }
        for (; count < k; count++) {
            g->distance[i * k + count] = INFINITY;
            g->cell[i * k + count] = UINT32_MAX;
        }
    }
    graphs_fill(g);
}

static ferry_status weigh(ferry_weights *out, const ferry_world *in, graphs *g, const ferry_weights_options *options)
{
    ferry_weights_options with = *options;
    const ferry_weights_graphs all = {.yx = in == &world ? &g->wide : &g->own};
    with.memory = MEMORY;
    return ferry_weights_open(out, in, &all, &with);
}

/* ---- diffusion of whole arrays ---- */

typedef struct outcome {
    ferry_status status;
    double residual;
    double *values; /* [cells][width], of all cells */
} outcome;

/* Rows are dealt unevenly: the first of several ranks has none, the last what is left. */
static outcome diffuse(const ferry_world *in, graphs *g, const ferry_weights_options *kernel, const double *z,
                       int64_t width, const ferry_diffusion_options *options)
{
    outcome out = {.residual = -1};
    ferry_weights weights = {0};
    const int64_t cells = g->cells;
    int64_t *first = calloc((size_t)in->size + 1, sizeof *first);
    for (int r = 0; r < in->size; r++) first[r + 1] = r + 1 < in->size ? cells * r / in->size : cells;
    const int64_t here = first[in->rank], end = first[in->rank + 1];
    double *mine = malloc((size_t)((end - here) * width + 1) * sizeof *mine);
    memcpy(mine, z + here * width, (size_t)((end - here) * width) * sizeof *mine);
    out.values = calloc((size_t)(cells * width + 1), sizeof *out.values);
    out.status = weigh(&weights, in, g, kernel);
    if (out.status == FERRY_OK) out.status = ferry_diffuse(mine, &out.residual, &weights, in, first, width, options);
    memcpy(out.values + here * width, mine, (size_t)((end - here) * width) * sizeof *mine);
    MPI_Allreduce(MPI_IN_PLACE, out.values, (int)(cells * width), MPI_DOUBLE, MPI_SUM, in->comm);
    ferry_weights_close(&weights);
    free(mine);
    free(first);
    return out;
}

static double worst(const double *a, const double *b, int64_t count)
{
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        const double wrong = fabs(a[i] - b[i]) / fmax(1, fabs(b[i]));
        if (!(wrong <= most)) most = wrong;
    }
    return most;
}

/* The same bits on one rank and on all. */
static outcome both(graphs *g, const ferry_weights_options *kernel, const double *z, int64_t width,
                    const ferry_diffusion_options *options)
{
    outcome a = diffuse(&world, g, kernel, z, width, options), b = diffuse(&alone, g, kernel, z, width, options);
    CHECK(a.status == FERRY_OK && b.status == FERRY_OK);
    CHECK(memcmp(a.values, b.values, (size_t)(g->cells * width) * sizeof *z) == 0 && a.residual == b.residual);
    free(b.values);
    return a;
}

/* ---- norms of what is left out ---- */

/* |x|_D^2, D the row sums of K, of all columns. */
static void norms(double *square, ferry_weights *weights, const double *x, int64_t width)
{
    memset(square, 0, (size_t)width * sizeof *square);
    for (int64_t round = 0; round < weights->rounds; round++) {
        ferry_weights_block block;
        CHECK(ferry_weights_take(&block, weights, &world, round) == FERRY_OK);
        for (int64_t i = 0; i < block.rows; i++)
            for (int64_t j = 0; j < width; j++) {
                const double value = x[(block.first + i) * width + j];
                square[j] += block.sum[i] * value * value;
            }
    }
    MPI_Allreduce(MPI_IN_PLACE, square, (int)width, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
}

/* With `count` eigenvectors the error of every column is within next^t |Z|_D, and not far below for t = 1. */
static void within_bound(graphs *g, const ferry_weights_options *kernel, const double *z, int64_t width, int64_t count,
                         int steps, bool complete)
{
    ferry_weights weights;
    ferry_spectrum spectrum;
    const ferry_diffusion_options part = {FERRY_SPECTRAL, steps, count, 3, MEMORY},
                                  exact = {FERRY_ITERATIVE, steps, 0, 0, 0};
    outcome truth = diffuse(&world, g, kernel, z, width, &exact);
    const int64_t first[5] = {0, g->cells, g->cells, g->cells, g->cells}; /* all on rank 0 */
    const int64_t all = g->cells * width;
    double *cut = calloc((size_t)all + 1, sizeof *cut), error[16], norm[16], largest = 0;
    if (world.rank == 0) memcpy(cut, z, (size_t)all * sizeof *cut);
    CHECK(truth.status == FERRY_OK && weigh(&weights, &world, g, kernel) == FERRY_OK);
    CHECK(ferry_spectrum_open(&spectrum, &weights, &world, &part) == FERRY_OK);
    CHECK(ferry_spectrum_apply(cut, &spectrum, &world, first, width, steps) == FERRY_OK);
    CHECK(spectrum.count == count && spectrum.complete == complete);
    CHECK(spectrum.residual >= 0 && spectrum.residual < 1e-9);
    CHECK(fabs(spectrum.value[0] - 1) < 1e-9); /* M has the eigenvalue 1 */
    CHECK(spectrum.next <= fabs(spectrum.value[count - 1]) && spectrum.next > 0.05);
    MPI_Bcast(cut, (int)all, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    for (int64_t i = 0; i < all; i++) cut[i] -= truth.values[i];
    norms(norm, &weights, z, width);
    norms(error, &weights, cut, width);
    for (int64_t j = 0; j < width; j++) {
        const double bound = pow(spectrum.next, steps) * sqrt(norm[j]);
        CHECK(sqrt(error[j]) <= bound * 1.01 + 1e-6 * sqrt(norm[j]));
        largest = fmax(largest, sqrt(error[j]) / bound);
    }
    CHECK(steps > 1 || largest > 1e-3); /* something is left out */
    ferry_spectrum_close(&spectrum);
    ferry_weights_close(&weights);
    free(truth.values);
    free(cut);
}

/* ---- the reference ---- */

static const ferry_weights_options umap = {
    .kernel = FERRY_UMAP, .symmetrize = FERRY_SYMMETRIZE_MAX, .self_edges = true};
static const ferry_weights_options gauss = {.symmetrize = FERRY_SYMMETRIZE_MAX, .self_edges = true};

static void oracle_values(hid_t oracle, graphs *g, const double *z)
{
    const int steps[] = {1, 3, 10};
    for (int i = 0; i < 6; i++) {
        char name[64];
        const int t = steps[i % 3];
        const ferry_weights_options *kernel = i < 3 ? &umap : &gauss;
        snprintf(name, sizeof name, "%s_iter_t%d", i < 3 ? "umap" : "gauss", t);
        double *truth = oracle_array(oracle, "diffusion", name, NULL);
        const ferry_diffusion_options stepwise = {FERRY_ITERATIVE, t, 50, 0, MEMORY};
        outcome o = both(g, kernel, z, 12, &stepwise);
        CHECK(worst(o.values, truth, 250 * 12) < 1e-6);
        free(o.values);
        const ferry_diffusion_options all = {FERRY_SPECTRAL, t, 0, 0, 0};
        o = both(g, kernel, z, 12, &all);
        CHECK(worst(o.values, truth, 250 * 12) < 1e-6);
        CHECK(o.residual >= 0 && o.residual < 1e-12);
        free(o.values);
        if (i % 3 == i / 3) within_bound(g, kernel, z, 12, 12, t, false);
        free(truth);
    }
    within_bound(g, &umap, z, 12, 84, 1, true); /* a third: dense, but cut */
    const ferry_diffusion_options part = {FERRY_SPECTRAL, 2, 8, 7, MEMORY};
    outcome o = both(g, &umap, z, 12, &part);
    free(o.values);
}

static int32_t code_of(const ferry_names *names, const char *text)
{
    return (int32_t)ferry_names_find(names, text);
}

/* Labels after three steps. */
static void oracle_labels(hid_t oracle, hid_t file, graphs *g)
{
    static const char *const types[] = {"T cell", "B cell", "NK", "Mono", "DC"};
    ferry_names names = {0};
    double *code = oracle_array(file, "obs/cell_type", "codes", NULL), *mass = calloc(250 * 6, sizeof *mass);
    double *confidence = oracle_array(oracle, "diffusion", "umap_t3_conf", NULL);
    int32_t decided[250], wrong = 0;
    float sure[250];
    char *text[250];
    for (int c = 0; c < 5; c++) CHECK(ferry_names_add(&names, types[c], -1) == FERRY_OK);
    for (int i = 0; i < 250; i++) mass[i * 6 + (int)code[i]] = 1;
    const ferry_diffusion_options options = {FERRY_ITERATIVE, 3, 0, 0, MEMORY};
    outcome o = both(g, &umap, mass, 6, &options);
    const ferry_transfer_labels labels = {.categories = &names};
    CHECK(ferry_transfer_decide(decided, sure, o.values, 250, &labels) == FERRY_OK);
    hid_t set = H5Dopen2(oracle, "diffusion/umap_t3_pred", H5P_DEFAULT), type = H5Dget_type(set);
    hid_t space = H5Dget_space(set);
    CHECK(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, (void *)text) >= 0);
    for (int i = 0; i < 250; i++) {
        wrong += decided[i] != code_of(&names, text[i]);
        wrong += !(fabs((double)sure[i] - confidence[i]) < 1e-6);
    }
    CHECK(wrong == 0);
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, (void *)text);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(set);
    ferry_names_close(&names);
    free(code);
    free(confidence);
    free(mass);
    free(o.values);
}

/* ---- made-up sets ---- */

static double *random_values(int64_t count, uint64_t seed)
{
    double *out = malloc((size_t)(count + 1) * sizeof *out);
    for (int64_t i = 0; i < count; i++) out[i] = ferry_random(seed, (uint64_t)i) - 0.3;
    return out;
}

/* Three far groups, and cells without any neighbour: their rows become 0, on either way. */
static void lonely(void)
{
    graphs g;
    double *points = random_values(90 * 2, 1), *z = random_values(90 * 3, 2);
    for (int i = 0; i < 90; i++) points[2 * i] += 10 * (i % 3);
    nearest(&g, points, 90, 2, 6, 85);
    const ferry_weights_options kernel = {.symmetrize = FERRY_SYMMETRIZE_MAX};
    const ferry_diffusion_options stepwise = {FERRY_ITERATIVE, 4, 0, 0, 0}, all = {FERRY_SPECTRAL, 4, 0, 0, 0},
                                  part = {FERRY_SPECTRAL, 4, 12, 1, 0}, own = {FERRY_ITERATIVE, 1, 0, 0, 0};
    outcome a = both(&g, &kernel, z, 3, &stepwise), b = both(&g, &kernel, z, 3, &all);
    outcome c = both(&g, &kernel, z, 3, &part);
    CHECK(worst(b.values, a.values, 90 * 3) < 1e-6);
    for (int i = 85 * 3; i < 90 * 3; i++) CHECK(a.values[i] == 0 && b.values[i] == 0 && c.values[i] == 0);
    within_bound(&g, &kernel, z, 3, 12, 1, false);
    /* NaN reaches its neighbours only; a spectrum would carry it everywhere */
    z[0] = NAN;
    outcome d = both(&g, &kernel, z, 3, &own), e = diffuse(&world, &g, &kernel, z, 3, &part);
    int bad = 0;
    for (int i = 0; i < 90 * 3; i++) bad += isnan(d.values[i]);
    CHECK(bad >= 1 && bad <= 30);
    CHECK(e.status == FERRY_E_ARG && strstr(ferry_error(), "cell 0 has NaN"));
    free(a.values);
    free(b.values);
    free(c.values);
    free(d.values);
    free(e.values);
    free(points);
    free(z);
    graphs_close(&g);
}

/* One cell, two cells, and none. */
static void tiny(void)
{
    const double points[] = {0, 0, 1, 1}, z[] = {3, 5};
    const ferry_weights_options kernel = {.kernel = FERRY_EQUAL, .symmetrize = FERRY_SYMMETRIZE_MAX};
    for (int way = 0; way < 2; way++) {
        const ferry_diffusion_options once = {way ? FERRY_SPECTRAL : FERRY_ITERATIVE, 3, 50, 0, 0};
        for (int cells = 0; cells < 3; cells++) {
            graphs g;
            nearest(&g, points, cells, 2, 2, cells);
            outcome o = both(&g, &kernel, z, 1, &once);
            if (cells == 1) CHECK(o.values[0] == 0);
            if (cells == 2) CHECK(fabs(o.values[0] - 5) < 1e-12 && fabs(o.values[1] - 3) < 1e-12);
            free(o.values);
            graphs_close(&g);
        }
    }
}

/* More cells than one rank takes alone: over the grid, to a tolerance. */
static void large(void)
{
    graphs g;
    const int64_t n = 1100;
    double *points = random_values(n * 3, 5), *z = random_values(n * 2, 6);
    nearest(&g, points, n, 3, 8, n);
    const ferry_diffusion_options stepwise = {FERRY_ITERATIVE, 3, 0, 0, 0}, all = {FERRY_SPECTRAL, 3, n, 0, MEMORY};
    outcome a = both(&g, &gauss, z, 2, &stepwise), b = diffuse(&world, &g, &gauss, z, 2, &all);
    CHECK(b.status == FERRY_OK && worst(b.values, a.values, n * 2) < 1e-6);
    CHECK(b.residual < 1e-11);
    free(a.values);
    free(b.values);
    free(points);
    free(z);
    graphs_close(&g);
}

static void refused(graphs *g, const double *z)
{
    const ferry_weights_options plain = {.kernel = FERRY_GAUSS};
    const ferry_diffusion_options all = {FERRY_SPECTRAL, 1, 0, 0, 0}, part = {FERRY_SPECTRAL, 1, 10, 0, 0};
    const ferry_diffusion_options none = {FERRY_ITERATIVE, 0, 0, 0, 0}, less = {FERRY_SPECTRAL, 1, -1, 0, 0};
    const ferry_diffusion_options small = {FERRY_SPECTRAL, 1, 0, 0, 1 << 20}, thin = {FERRY_ITERATIVE, 1, 0, 0, 1000};
    const struct {
        const ferry_weights_options *kernel;
        const ferry_diffusion_options *options;
        ferry_status status;
        const char *says;
    } cases[] = {{&plain, &all, FERRY_E_ARG, "--symmetrize max"},  {&plain, &part, FERRY_E_ARG, "symmetric weights"},
                 {&gauss, &none, FERRY_E_ARG, "0 steps"},          {&gauss, &less, FERRY_E_ARG, "-1 eigenvectors"},
                 {&gauss, &small, FERRY_E_PLAN, "--eigenvectors"}, {&gauss, &thin, FERRY_E_PLAN, "columns"}};
    for (int i = 0; i < 6; i++) {
        outcome o = diffuse(&world, g, cases[i].kernel, z, 12, cases[i].options);
        CHECK(o.status == cases[i].status && strstr(ferry_error(), cases[i].says));
        free(o.values);
    }
}

/* Every meeting fails once: one status for all ranks. */
static void walk(const ferry_diffusion_options *options, int stride)
{
    graphs g;
    char text[32];
    double *points = random_values(40 * 2, 8), *z = random_values(40 * 3, 9);
    int meeting = 1;
    nearest(&g, points, 40, 2, 4, 38);
    for (ferry_status status = FERRY_E_RUN; status != FERRY_OK && meeting < 5000;
         meeting += meeting < 25 ? 1 : stride) {
        snprintf(text, sizeof text, "%d:%d", meeting, meeting % world.size);
        setenv("FERRY_FAIL", text, 1);
        outcome o = diffuse(&world, &g, &gauss, z, 3, options);
        unsetenv("FERRY_FAIL");
        status = o.status;
        CHECK(ferry_max(&world, status) == ferry_min(&world, status));
        free(o.values);
    }
    CHECK(meeting > 5 && meeting < 5000);
    free(points);
    free(z);
    graphs_close(&g);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    if (ferry_world_open(&world, MPI_COMM_WORLD) != FERRY_OK) return 1;
    if (ferry_world_split(&alone, &world, world.rank, 0) != FERRY_OK) return 1;
    ferry_log_level(FERRY_QUIET);
    graphs g;
    hid_t oracle = oracle_open("neighbors.h5"), file = oracle_open("neighbors_self.h5ad");
    double *z = oracle_array(file, "obsm", "X_emb", NULL);
    nearest(&g, z, 250, 12, 14, 250);
    oracle_values(oracle, &g, z);
    oracle_labels(oracle, file, &g);
    refused(&g, z);
    lonely();
    tiny();
    large();
    const ferry_diffusion_options ways[] = {
        {FERRY_ITERATIVE, 2, 0, 0, 0}, {FERRY_SPECTRAL, 2, 0, 0, 0}, {FERRY_SPECTRAL, 2, 3, 1, MEMORY}};
    for (int i = 0; i < 3; i++) walk(ways + i, i == 2 ? 397 : 7);
    free(z);
    graphs_close(&g);
    H5Fclose(oracle);
    H5Fclose(file);
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

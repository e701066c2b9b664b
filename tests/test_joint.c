/* Joint embeddings of two small files against dense eigenvectors and singular vectors; genes matched by name; the same
 * bits on one rank and on all; mistakes named; every meeting made to fail once. */
#include "make_h5ad.h"
#include "math/eigen.h"
#include "math/random.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "neighbors/joint.h"
#include "test.h"
#include <math.h>
#include <stdbool.h>
#include <unistd.h>

static ferry_world world, alone;

/* ---- files ---- */

/* A set: genes named prefix<from> ... , the last first when backwards; half of the values are 0. */
typedef struct set {
    const char *path, *prefix;
    int cells, genes, from;
    bool backwards;
    uint64_t seed;
    float level; /* 0: all values are 0 */
} set;

static float value_of(const set *s, int cell, int gene)
{
    const uint64_t at = (uint64_t)cell * 1000 + (uint64_t)gene;
    if (ferry_random(s->seed, at) < 0.5) return 0;
    const double kind = cell % 3 == gene % 3 ? 2 : 0.5, trend = 1 + 0.1 * ((cell / 3 + gene) % 7);
    return s->level * (float)(kind * trend * (1 + ferry_random(s->seed + 1, at)));
}

static void write_set(const set *s, bool poison)
{
    char **cell = mk_names("c", s->cells), **name = malloc((size_t)s->genes * sizeof *name);
    char *text = malloc((size_t)s->genes * 32);
    float *x = malloc((size_t)(s->cells * s->genes + 1) * sizeof *x);
    for (int j = 0; j < s->genes; j++) {
        const int gene = s->from + (s->backwards ? s->genes - 1 - j : j);
        name[j] = text + 32 * j;
        snprintf(name[j], 32, "%s%d", s->prefix, gene);
        for (int i = 0; i < s->cells; i++) x[i * s->genes + j] = value_of(s, i, gene);
    }
    if (poison) x[s->genes] = NAN;
    hid_t file = H5Fcreate(s->path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    mk_encoding(file, "anndata", "0.1.0");
    H5Gclose(mk_frame(file, "obs", (const char *const *)cell, (hsize_t)s->cells, NULL, 0));
    H5Gclose(mk_frame(file, "var", (const char *const *)name, (hsize_t)s->genes, NULL, 0));
    mk_array(file, "X", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, (hsize_t)s->cells, (hsize_t)s->genes, H5P_DEFAULT, x);
    hid_t group = mk_group(file, "layers", "dict", "0.1.0");
    mk_array(group, "again", H5T_IEEE_F64LE, H5T_NATIVE_FLOAT, (hsize_t)s->cells, (hsize_t)s->genes, H5P_DEFAULT, x);
    H5Gclose(group);
    group = mk_group(file, "obsm", "dict", "0.1.0");
    mk_array(group, "X_pca", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, (hsize_t)s->cells, (hsize_t)s->genes, H5P_DEFAULT, x);
    H5Gclose(group);
    H5Fclose(file);
    mk_names_free(cell);
    free(name);
    free(text);
    free(x);
}

/* ---- embeddings, whole ---- */

typedef struct whole {
    ferry_status status;
    int dim;
    int64_t genes;
    float *of[2]; /* [cells][dim] */
} whole;

static ferry_status open_population(ferry_population *out, const ferry_world *in, const set *s)
{
    const ferry_population_options options = {.path = s->path, .rep = "X_pca"};
    return ferry_population_open(out, in, &options);
}

static void gather(whole *out, const ferry_world *in, int k, const float *mine, const int64_t *first, int cells)
{
    out->of[k] = calloc((size_t)(cells * out->dim) + 1, sizeof(float));
    if (out->status != FERRY_OK) return;
    CHECK(first[0] == 0 && first[in->size] == cells);
    memcpy(out->of[k] + first[in->rank] * out->dim, mine,
           (size_t)((first[in->rank + 1] - first[in->rank]) * out->dim) * sizeof(float));
    MPI_Allreduce(MPI_IN_PLACE, out->of[k], cells * out->dim, MPI_FLOAT, MPI_SUM, in->comm);
}

static whole embed(const ferry_world *in, const set *q, const set *r, const ferry_joint_options *options)
{
    whole out = {0};
    ferry_population query = {0}, reference = {0};
    ferry_joint joint = {0};
    out.status = open_population(&query, in, q);
    if (out.status == FERRY_OK) out.status = open_population(&reference, in, r);
    if (out.status == FERRY_OK) out.status = ferry_joint_open(&joint, in, &query, &reference, options);
    out.dim = joint.dim;
    out.genes = joint.genes;
    gather(&out, in, 0, joint.query, joint.query_first, q->cells);
    gather(&out, in, 1, joint.reference, joint.reference_first, r->cells);
    ferry_joint_close(&joint);
    ferry_population_close(&query);
    ferry_population_close(&reference);
    return out;
}

static void whole_close(whole *it)
{
    free(it->of[0]);
    free(it->of[1]);
}

static whole both(const set *q, const set *r, const ferry_joint_options *options)
{
    whole a = embed(&world, q, r, options), b = embed(&alone, q, r, options);
    CHECK(a.status == FERRY_OK && b.status == FERRY_OK && a.dim == b.dim);
    CHECK(memcmp(a.of[0], b.of[0], (size_t)(q->cells * a.dim) * sizeof(float)) == 0);
    CHECK(memcmp(a.of[1], b.of[1], (size_t)(r->cells * a.dim) * sizeof(float)) == 0);
    whole_close(&b);
    return a;
}

/* ---- dense truth ---- */

/* Shared genes first ... last of both sets, in the query's order; x [cells][genes]. */
static int shared_of(double *x[2], const set *s)
{
    const int first = s[0].from > s[1].from ? s[0].from : s[1].from;
    const int a = s[0].from + s[0].genes, b = s[1].from + s[1].genes, genes = (a < b ? a : b) - first;
    for (int k = 0; k < 2; k++) {
        x[k] = malloc((size_t)(s[k].cells * genes) * sizeof(double));
        for (int i = 0; i < s[k].cells; i++)
            for (int g = 0; g < genes; g++)
                x[k][i * genes + g] = (double)value_of(&s[k], i, first + (s[0].backwards ? genes - 1 - g : g));
    }
    return genes;
}

static double sign_of(const double *v, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        if (fabs(v[i]) > fabs(most) * (1 + 1e-9)) most = v[i];
    return most < 0 ? -1 : 1;
}

static void check_pca(const whole *it, const set *s)
{
    double *x[2];
    const int g = shared_of(x, s), n = s[0].cells + s[1].cells;
    double *c = calloc((size_t)(g * g), sizeof *c), *value = calloc((size_t)g, sizeof *value);
    double *mean = calloc((size_t)g, sizeof *mean), worst = 0;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < s[k].cells * g; i++) mean[i % g] += x[k][i] / n;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < s[k].cells; i++)
            for (int a = 0; a < g; a++)
                for (int b = 0; b < g; b++)
                    c[a * g + b] += (x[k][i * g + a] - mean[a]) * (x[k][i * g + b] - mean[b]) / (n - 1);
    CHECK(ferry_eigen(value, c, g) == FERRY_OK);
    CHECK(it->genes == g && it->dim <= g);
    for (int j = 0; j < it->dim; j++) {
        const double *v = c + (g - 1 - j) * g, sign = sign_of(v, g);
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < s[k].cells; i++) {
                double score = 0;
                for (int a = 0; a < g; a++) score += (x[k][i * g + a] - mean[a]) * v[a];
                worst = fmax(worst, fabs(sign * score - (double)it->of[k][i * it->dim + j]));
            }
    }
    CHECK(worst < 1e-5);
    for (int k = 0; k < 2; k++) free(x[k]);
    free(c);
    free(value);
    free(mean);
}

/* Singular vectors by the symmetric matrix [0 S; S^T 0]. */
static void check_cca(const whole *it, const set *s)
{
    double *x[2];
    const int g = shared_of(x, s), nq = s[0].cells, nr = s[1].cells, n = nq + nr;
    double *a = calloc((size_t)(n * n), sizeof *a), *value = calloc((size_t)n, sizeof *value), worst = 0, off = 0;
    int flats = 0;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < s[k].cells; i++) {
            double mean = 0;
            for (int b = 0; b < g; b++) mean += x[k][i * g + b] / g;
            for (int b = 0; b < g; b++) x[k][i * g + b] -= mean;
        }
    for (int i = 0; i < nq; i++)
        for (int j = 0; j < nr; j++) {
            double sum = 0;
            for (int b = 0; b < g; b++) sum += x[0][i * g + b] * x[1][j * g + b];
            a[i * n + nq + j] = a[(nq + j) * n + i] = sum / (g > 1 ? g - 1 : 1);
        }
    CHECK(ferry_eigen(value, a, n) == FERRY_OK);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < s[k].cells; i++) {
            double square = 0, length = 0, row[64];
            bool flat = true; /* equal values have no direction: zeros */
            for (int b = 0; b < g; b++) flat = flat && fabs(x[k][i * g + b]) < 1e-12;
            for (int j = 0; j < it->dim; j++) {
                const double *v = a + (n - 1 - j) * n;
                row[j] = sign_of(v, nq) * v[k * nq + i];
                square += row[j] * row[j];
                length += (double)it->of[k][i * it->dim + j] * (double)it->of[k][i * it->dim + j];
            }
            if (flat) flats++;
            for (int j = 0; j < it->dim; j++)
                worst = fmax(worst, fabs((flat ? 0 : row[j] / sqrt(square)) - (double)it->of[k][i * it->dim + j]));
            off = fmax(off, fabs(length - !flat));
        }
    CHECK(it->genes == g && worst < 1e-5 && off < 1e-5 && (g > 3 || flats > 0));
    for (int k = 0; k < 2; k++) free(x[k]);
    free(a);
    free(value);
}

/* ---- cases ---- */

static void write_both(const set *s, bool poison)
{
    ferry_barrier(&world);
    if (world.rank == 0) {
        write_set(s, false);
        write_set(s + 1, poison);
    }
    ferry_barrier(&world);
}

static void compare(const set *s, int components, int pca, int cca)
{
    ferry_joint_options options = {FERRY_JOINT_PCA, components, "X", (int64_t)1 << 30, 3};
    write_both(s, false);
    whole it = both(s, s + 1, &options);
    CHECK(it.dim == pca);
    check_pca(&it, s);
    whole_close(&it);
    options.method = FERRY_JOINT_CCA;
    options.rep = "layers/again";
    options.memory = 0;
    it = both(s, s + 1, &options);
    CHECK(it.dim == cca);
    check_cca(&it, s);
    whole_close(&it);
}

static void refused(const set *pair, const ferry_joint_options *options, ferry_status status, const char *says)
{
    whole it = embed(&world, pair, pair + 1, options);
    CHECK(it.status == status && strstr(ferry_error(), says));
    whole_close(&it);
}

static void mistakes(const char *const *paths)
{
    const set good[2] = {{paths[0], "g", 20, 12, 0, false, 1, 1}, {paths[1], "g", 15, 12, 4, true, 5, 1}};
    const set other[2] = {good[0], {paths[1], "ENSG", 15, 12, 4, true, 5, 1}};
    const set still[2] = {{paths[0], "g", 20, 12, 0, false, 1, 0}, {paths[1], "g", 15, 12, 4, true, 5, 0}};
    const ferry_joint_options pca = {FERRY_JOINT_PCA, 5, "X", 0, 0}, cca = {FERRY_JOINT_CCA, 5, NULL, 0, 0};
    const ferry_joint_options none = {FERRY_JOINT_NONE, 5, "X", 0, 0}, zero = {FERRY_JOINT_CCA, 0, "X", 0, 0};
    const ferry_joint_options pc = {FERRY_JOINT_PCA, 5, "X_pca", 0, 0}, thin = {FERRY_JOINT_PCA, 5, "X", 1000, 0};
    write_both(other, false);
    refused(other, &pca, FERRY_E_FILE, "'ENSG15' in the other");
    refused(other, &cca, FERRY_E_FILE, "share no gene names ('g0'");
    write_both(still, false);
    refused(still, &pca, FERRY_E_FILE, "no components");
    refused(still, &cca, FERRY_E_FILE, "no components");
    write_both(good, true);
    refused(good, &pca, FERRY_E_FILE, "NaN");
    write_both(good, false);
    refused(good, &none, FERRY_E_ARG, "joint embedding 0");
    refused(good, &zero, FERRY_E_ARG, "--components 0");
    refused(good, &pc, FERRY_E_ARG, "'X_pca' is none");
    refused(good, &thin, FERRY_E_PLAN, "raise --memory");
}

/* Every meeting fails once. */
static void walk(const set *s, ferry_joint_method method)
{
    char text[32];
    int meeting = 1;
    const ferry_joint_options options = {method, 2, "X", 0, 1};
    for (ferry_status status = FERRY_E_RUN; status != FERRY_OK && meeting < 3000; meeting += meeting < 60 ? 1 : 41) {
        snprintf(text, sizeof text, "%d:%d", meeting, meeting % world.size);
        setenv("FERRY_FAIL", text, 1);
        whole it = embed(&world, s, s + 1, &options);
        unsetenv("FERRY_FAIL");
        status = it.status;
        CHECK(ferry_max(&world, status) == ferry_min(&world, status));
        whole_close(&it);
    }
    CHECK(meeting > 20 && meeting < 3000);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    if (ferry_world_open(&world, MPI_COMM_WORLD) != FERRY_OK) return 1;
    if (ferry_world_split(&alone, &world, world.rank, 0) != FERRY_OK) return 1;
    ferry_log_level(FERRY_QUIET);
    char a[64], b[64];
    snprintf(a, sizeof a, "test_joint_a%d.h5ad", world.size);
    snprintf(b, sizeof b, "test_joint_b%d.h5ad", world.size);
    const char *const paths[] = {a, b};
    const set some[2] = {{a, "g", 140, 40, 0, false, 1, 1}, {b, "g", 75, 45, 10, true, 5, 1}};
    const set few[2] = {{a, "g", 3, 40, 0, true, 1, 1}, {b, "g", 2, 40, 10, false, 5, 1}};
    const set one[2] = {{a, "g", 1, 9, 0, false, 11, 1}, {b, "g", 1, 9, 0, false, 15, 1}};
    const set thin[2] = {{a, "g", 30, 5, 0, false, 1, 1}, {b, "g", 20, 5, 2, false, 5, 1}}; /* 3 shared */
    compare(some, 8, 8, 8);
    compare(some, 50, 30, 29);
    compare(few, 50, 4, 2);
    compare(one, 50, 1, 1);
    compare(thin, 50, 3, 2);
    mistakes(paths);
    write_both(few, false);
    walk(few, FERRY_JOINT_PCA);
    walk(few, FERRY_JOINT_CCA);
    ferry_barrier(&world);
    if (world.rank == 0) {
        unlink(a);
        unlink(b);
    }
    ferry_world_close(&alone);
    ferry_world_close(&world);
    return test_end();
}

/* Dense symmetric eigenproblems: dsyevd on one rank, pdsyevd (Tisseur, Dongarra 1999) over a grid of ranks.
 *
 *  Element (i, j) is held by grid place (i / block mod rows, j / block mod columns). No C headers come with ScaLAPACK;
 *  what is called is declared here, with the lengths of texts that Fortran passes last. */
#include "math/eigen.h"
#include "mpi/exchange.h"
#include "mpi/memory.h"
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#define BLOCK     64
#define DELIVERED ((int64_t)1 << 21) /* elements that a rank sends at a time */

extern void dsyevd_(const char *job, const char *triangle, const int *n, double *a, const int *lda, double *w,
                    double *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);
extern void pdsyevd_(const char *job, const char *triangle, const int *n, double *a, const int *ia, const int *ja,
                     const int *desc_a, double *w, double *z, const int *iz, const int *jz, const int *desc_z,
                     double *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);
extern void descinit_(int *desc, const int *m, const int *n, const int *mb, const int *nb, const int *row,
                      const int *column, const int *context, const int *lld, int *info);
extern int Csys2blacs_handle(MPI_Comm comm);
extern void Cfree_blacs_system_handle(int handle);
extern void Cblacs_gridinit(int *context, const char *order, int rows, int columns);
extern void Cblacs_gridexit(int context);
/* only OpenBLAS has them */
extern void openblas_set_num_threads(int) __attribute__((weak));
extern int openblas_get_num_threads(void) __attribute__((weak));

/* One thread, so that neither cores are oversubscribed nor bits depend on them; OpenBLAS passes its number on to
 * OpenMP, so that is put back too. */
typedef struct threads {
    int blas, openmp;
} threads;
static threads one_thread(void)
{
    const threads before = {openblas_get_num_threads ? openblas_get_num_threads() : 0, omp_get_max_threads()};
    if (openblas_set_num_threads) openblas_set_num_threads(1);
    return before;
}
static void threads_back(threads before)
{
    if (openblas_set_num_threads && before.blas > 0) openblas_set_num_threads(before.blas);
    omp_set_num_threads(before.openmp);
}

/* ---- one rank ---- */

static bool all_finite(const double *a, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(a[i])) return false;
    return true;
}

static ferry_status failed(int64_t n, int info)
{
    return ferry_fail(FERRY_E_NUMERIC, "the eigenvalues of a matrix of %lld rows were not found (LAPACK says %d)",
                      (long long)n, info);
}
static ferry_status not_finite(int64_t n)
{
    return ferry_fail(FERRY_E_NUMERIC, "a matrix of %lld rows has NaN or infinity: it has no eigenvalues",
                      (long long)n);
}

static ferry_status solve(double *value, double *a, int n)
{
    FERRY_AUTO double *work = NULL;
    FERRY_AUTO int *iwork = NULL;
    double room = 0;
    int most = 0, info = 0;
    const int ask = -1;
    dsyevd_("V", "L", &n, a, &n, value, &room, &ask, &most, &ask, &info, 1, 1);
    if (info) return failed(n, info);
    if (room > INT_MAX) return ferry_fail(FERRY_E_PLAN, "a matrix of %d rows is too large for one rank", n);
    const int lwork = (int)room, liwork = most;
    FERRY_TRY(ferry_alloc(&work, lwork));
    FERRY_TRY(ferry_alloc(&iwork, liwork));
    dsyevd_("V", "L", &n, a, &n, value, work, &lwork, iwork, &liwork, &info, 1, 1);
    return info ? failed(n, info) : FERRY_OK;
}

ferry_status ferry_eigen(double *value, double *a, int n)
{
    if (n == 0) return FERRY_OK;
    if (!all_finite(a, (int64_t)n * n)) return not_finite(n);
    const threads before = one_thread();
    const ferry_status status = solve(value, a, n);
    threads_back(before);
    return status;
}

ferry_status ferry_eigen_shared(double *value, double *a, const ferry_world *world, int n)
{
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? ferry_eigen(value, a, n) : FERRY_OK));
    ferry_broadcast(world, value, (size_t)n * sizeof *value, 0);
    ferry_broadcast(world, a, (size_t)n * (size_t)n * sizeof *a, 0);
    return FERRY_OK;
}

/* ---- a grid of ranks ---- */

/* rows 0 ... end - 1 held by place `at` of `ranks` */
static int64_t held(int64_t end, int block, int at, int ranks)
{
    const int64_t round = (int64_t)block * ranks, full = end / round, rest = end % round - (int64_t)block * at;
    return full * block + (rest < 0 ? 0 : rest > block ? block : rest);
}

/* the row of all that is local row i of place `at` */
static int64_t row_of(int64_t i, int block, int at, int ranks)
{
    return (i / block * ranks + at) * block + i % block;
}

static void shape(ferry_cyclic *c, int ranks, int64_t alone)
{
    c->block = BLOCK;
    c->grid[0] = c->grid[1] = 1;
    if (c->n <= alone) return;
    while ((int64_t)(c->grid[0] + 1) * (c->grid[0] + 1) <= ranks) c->grid[0]++;
    c->grid[1] = ranks / c->grid[0];
    /* more ranks than blocks have nothing to do */
    const int64_t blocks = (c->n + 3) / 4;
    for (int k = 0; k < 2; k++)
        if (c->grid[k] > blocks) c->grid[k] = (int)blocks;
    while (c->block > 4 && (int64_t)c->block * c->grid[1] > c->n) c->block /= 2;
}

/* Local. */
static ferry_status open_local(ferry_cyclic *c)
{
    if (c->n >= INT_MAX) return ferry_fail(FERRY_E_PLAN, "a dense matrix of %lld rows", (long long)c->n);
    for (int k = 0; k < 2; k++) c->here[k] = c->at[0] < 0 ? 0 : held(c->n, c->block, c->at[k], c->grid[k]);
    if (c->here[0] && c->here[1] > INT_MAX / c->here[0])
        return ferry_fail(FERRY_E_PLAN,
                          "a dense matrix of %lld rows over %d ranks is more than ScaLAPACK can count: "
                          "more ranks, or fewer eigenvectors",
                          (long long)c->n, c->world->size);
    return ferry_alloc(&c->a, c->here[0] * c->here[1]);
}

ferry_status ferry_cyclic_open(ferry_cyclic *out, const ferry_world *world, int64_t n, int64_t alone)
{
    *out = (ferry_cyclic){.n = n, .world = world, .at = {-1, -1}};
    shape(out, world->size, alone);
    if (world->rank < out->grid[0] * out->grid[1]) {
        out->at[0] = world->rank / out->grid[1];
        out->at[1] = world->rank % out->grid[1];
    }
    ferry_status status = ferry_agree(world, open_local(out));
    if (status != FERRY_OK) ferry_cyclic_close(out);
    return status;
}

void ferry_cyclic_close(ferry_cyclic *cyclic)
{
    free(cyclic->a);
    *cyclic = (ferry_cyclic){0};
}

int64_t ferry_cyclic_bytes(int64_t n, int ranks)
{
    /* the matrix, its eigenvectors, as much of work; and rows of them for the caller; one rank: the matrix, 2 n^2 of
     * work, rows */
    return (n <= FERRY_DENSE_ALONE ? 4 : 5) * 8 * n * n / (n <= FERRY_DENSE_ALONE ? 1 : ranks) + 64 * n +
           3 * DELIVERED * (int64_t)sizeof(ferry_cyclic_entry);
}

/* --- entries --- */

static int owner_of(const ferry_cyclic *c, int64_t row, int64_t column)
{
    return (int)(row / c->block % c->grid[0]) * c->grid[1] + (int)(column / c->block % c->grid[1]);
}

/* Entries on their way. */
typedef struct parcel {
    ferry_cyclic_entry *send, *recv;
    int64_t *sent, *come, *at; /* [ranks] */
} parcel;

static void parcel_close(parcel *p)
{
    free(p->send);
    free(p->recv);
    free(p->sent);
    free(p->come);
    free(p->at);
}

/* Local. */
static ferry_status pack(parcel *p, const ferry_cyclic *c, const ferry_cyclic_entry *entry, int64_t count)
{
    const int ranks = c->world->size;
    FERRY_TRY(ferry_alloc(&p->sent, ranks));
    FERRY_TRY(ferry_alloc(&p->come, ranks));
    FERRY_TRY(ferry_alloc(&p->at, ranks));
    FERRY_TRY(ferry_alloc(&p->send, count));
    if (!entry) return count ? ferry_fail(FERRY_E_ARG, "%lld entries, and none are given", (long long)count) : FERRY_OK;
    for (int64_t i = 0; i < count; i++) {
        if (entry[i].row < 0 || entry[i].column < 0 || entry[i].row >= c->n || entry[i].column >= c->n)
            return ferry_fail(FERRY_E_ARG, "entry (%d, %d) of a matrix of %lld rows", entry[i].row, entry[i].column,
                              (long long)c->n);
        p->sent[owner_of(c, entry[i].row, entry[i].column)]++;
    }
    for (int r = 1; r < ranks; r++) p->at[r] = p->at[r - 1] + p->sent[r - 1];
    for (int64_t i = 0; i < count; i++) p->send[p->at[owner_of(c, entry[i].row, entry[i].column)]++] = entry[i];
    return FERRY_OK;
}

static int64_t total(const int64_t *counts, int ranks)
{
    int64_t sum = 0;
    for (int r = 0; r < ranks; r++) sum += counts[r];
    return sum;
}

/* Collective. */
static ferry_status add_parcel(parcel *p, ferry_cyclic *c, const ferry_cyclic_entry *entry, int64_t count)
{
    const ferry_world *world = c->world;
    FERRY_TRY(ferry_agree(world, pack(p, c, entry, count)));
    ferry_exchange_counts(world, p->sent, p->come);
    const int64_t come = total(p->come, world->size);
    FERRY_TRY(ferry_agree(world, ferry_alloc(&p->recv, come)));
    ferry_exchange(world, p->send, p->sent, p->recv, p->come, sizeof *p->recv);
    for (int64_t i = 0; i < come; i++) {
        const int64_t row = held(p->recv[i].row, c->block, c->at[0], c->grid[0]);
        const int64_t column = held(p->recv[i].column, c->block, c->at[1], c->grid[1]);
        c->a[column * c->here[0] + row] += p->recv[i].value;
    }
    return FERRY_OK;
}

ferry_status ferry_cyclic_add(ferry_cyclic *cyclic, const ferry_cyclic_entry *entry, int64_t count)
{
    const int64_t most = ferry_max(cyclic->world, count), parts = (most + DELIVERED - 1) / DELIVERED;
    for (int64_t k = 0; k < parts; k++) {
        parcel p = {0};
        const int64_t first = count * k / parts, end = count * (k + 1) / parts;
        const ferry_status status = add_parcel(&p, cyclic, entry ? entry + first : NULL, end - first);
        parcel_close(&p);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* --- eigenvectors --- */

/* What pdsyevd works with. */
typedef struct request {
    int context, desc[9], lwork, liwork;
    double *z, *work;
    int *iwork;
} request;

/* Collective over the grid. */
static int call_pdsyevd(request *r, double *value, ferry_cyclic *c, double *work, int lwork, int *iwork, int liwork)
{
    const int n = (int)c->n, one = 1;
    int info = 0;
    pdsyevd_("V", "L", &n, c->a, &one, &one, r->desc, value, r->z, &one, &one, r->desc, work, &lwork, iwork, &liwork,
             &info, 1, 1);
    return info;
}

/* Local, but for the question to ScaLAPACK, which sends nothing. */
static ferry_status prepare(request *r, double *value, ferry_cyclic *c)
{
    const int n = (int)c->n, zero = 0, lld = c->here[0] > 1 ? (int)c->here[0] : 1;
    double room[4] = {0};
    int info = 0, most[4] = {0};
    if (!all_finite(c->a, c->here[0] * c->here[1])) return not_finite(c->n);
    FERRY_TRY(ferry_alloc(&r->z, c->here[0] * c->here[1]));
    descinit_(r->desc, &n, &n, &c->block, &c->block, &zero, &zero, &r->context, &lld, &info);
    if (info) return failed(c->n, info);
    info = call_pdsyevd(r, value, c, room, -1, most, -1);
    if (info) return failed(c->n, info);
    /* what it asks for has been too little for some shapes (2.2.1): a margin */
    const double wanted = room[0] * 1.25 + 8.0 * n + 4096;
    if (wanted > INT_MAX)
        return ferry_fail(FERRY_E_PLAN,
                          "a dense matrix of %d rows over %d ranks is more than ScaLAPACK can count: "
                          "more ranks, or fewer eigenvectors",
                          n, c->world->size);
    r->lwork = (int)wanted;
    r->liwork = most[0] + 8 * n + 256;
    FERRY_TRY(ferry_alloc(&r->work, r->lwork));
    return ferry_alloc(&r->iwork, r->liwork);
}

static void request_close(request *r)
{
    free(r->z);
    free(r->work);
    free(r->iwork);
}

/* Collective. */
static ferry_status solve_grid(request *r, double *value, ferry_cyclic *c)
{
    const bool inside = c->at[0] >= 0;
    FERRY_TRY(ferry_agree(c->world, inside ? prepare(r, value, c) : FERRY_OK));
    const int info = inside ? call_pdsyevd(r, value, c, r->work, r->lwork, r->iwork, r->liwork) : 0;
    FERRY_TRY(ferry_agree(c->world, info ? failed(c->n, info) : FERRY_OK));
    double *old = c->a;
    if (inside) {
        c->a = r->z;
        r->z = old;
    }
    ferry_broadcast(c->world, value, (size_t)c->n * sizeof *value, 0);
    return FERRY_OK;
}

static ferry_status eigen_grid(double *value, ferry_cyclic *c)
{
    request r = {0};
    const int handle = Csys2blacs_handle(c->world->comm);
    const threads before = one_thread();
    r.context = handle;
    Cblacs_gridinit(&r.context, "Row", c->grid[0], c->grid[1]);
    const ferry_status status = solve_grid(&r, value, c);
    threads_back(before);
    request_close(&r);
    if (c->at[0] >= 0) Cblacs_gridexit(r.context);
    Cfree_blacs_system_handle(handle);
    return status;
}

ferry_status ferry_cyclic_eigen(double *value, ferry_cyclic *cyclic)
{
    if (cyclic->n == 0) return FERRY_OK;
    if (cyclic->grid[0] * cyclic->grid[1] > 1) return eigen_grid(value, cyclic);
    const ferry_world *world = cyclic->world;
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? ferry_eigen(value, cyclic->a, (int)cyclic->n) : FERRY_OK));
    ferry_broadcast(world, value, (size_t)cyclic->n * sizeof *value, 0);
    return FERRY_OK;
}

/* --- eigenvectors to rows --- */

/* Rows that a place of the grid has of a range: local rows begin ... end. */
static void range_of(int64_t range[2], const ferry_cyclic *c, int grid_row, int64_t first, int64_t end)
{
    range[0] = held(first, c->block, grid_row, c->grid[0]);
    range[1] = held(end, c->block, grid_row, c->grid[0]);
}

/* which of column [count] are held by place `at` of the grid's columns, in order; returns how many */
static int64_t columns_at(int64_t *mine, const ferry_cyclic *c, int at, const int64_t *column, int64_t count)
{
    int64_t n = 0;
    for (int64_t k = 0; k < count; k++)
        if (column[k] / c->block % c->grid[1] == at) mine[n++] = k;
    return n;
}

/* Values on their way: of every place, for every local row of the range, its columns. */
typedef struct moving {
    double *send, *recv;
    int64_t *sent, *come; /* [ranks] */
    int64_t *mine;        /* [count] */
} moving;

static void moving_close(moving *m)
{
    free(m->send);
    free(m->recv);
    free(m->sent);
    free(m->come);
    free(m->mine);
}

/* Local. */
static ferry_status pack_rows(moving *m, const ferry_cyclic *c, const int64_t *first, const int64_t *column,
                              int64_t count)
{
    const int ranks = c->world->size;
    int64_t range[2], *at = NULL, columns = 0, to = 0;
    FERRY_TRY(ferry_alloc(&m->sent, ranks));
    FERRY_TRY(ferry_alloc(&m->come, ranks));
    FERRY_TRY(ferry_alloc(&m->mine, count));
    const int64_t here = first[c->world->rank], end = first[c->world->rank + 1];
    for (int r = 0; r < c->grid[0] * c->grid[1]; r++) {
        range_of(range, c, r / c->grid[1], here, end);
        m->come[r] = (range[1] - range[0]) * columns_at(m->mine, c, r % c->grid[1], column, count);
    }
    FERRY_TRY(ferry_alloc(&m->recv, total(m->come, ranks)));
    if (c->at[0] >= 0) columns = columns_at(m->mine, c, c->at[1], column, count);
    FERRY_TRY(ferry_alloc(&m->send, c->here[0] * columns));
    if (c->at[0] < 0) return FERRY_OK;
    at = m->mine;
    for (int r = 0; r < ranks; r++) {
        range_of(range, c, c->at[0], first[r], first[r + 1]);
        m->sent[r] = (range[1] - range[0]) * columns;
        for (int64_t i = range[0]; i < range[1]; i++)
            for (int64_t k = 0; k < columns; k++)
                m->send[to++] = c->a[held(column[at[k]], c->block, c->at[1], c->grid[1]) * c->here[0] + i];
    }
    return FERRY_OK;
}

static void unpack_rows(double *out, moving *m, const ferry_cyclic *c, const int64_t *first, const int64_t *column,
                        int64_t count)
{
    int64_t range[2], from = 0;
    const int64_t here = first[c->world->rank], end = first[c->world->rank + 1];
    for (int r = 0; r < c->grid[0] * c->grid[1]; r++) {
        range_of(range, c, r / c->grid[1], here, end);
        const int64_t columns = columns_at(m->mine, c, r % c->grid[1], column, count);
        for (int64_t i = range[0]; i < range[1]; i++) {
            double *row = out + (row_of(i, c->block, r / c->grid[1], c->grid[0]) - here) * count;
            for (int64_t k = 0; k < columns; k++) row[m->mine[k]] = m->recv[from++];
        }
    }
}

ferry_status ferry_cyclic_take(double *out, const ferry_cyclic *cyclic, const int64_t *first, const int64_t *column,
                               int64_t count)
{
    moving m = {0};
    ferry_status status = ferry_agree(cyclic->world, pack_rows(&m, cyclic, first, column, count));
    if (status == FERRY_OK) {
        ferry_exchange(cyclic->world, m.send, m.sent, m.recv, m.come, sizeof *out);
        unpack_rows(out, &m, cyclic, first, column, count);
    }
    moving_close(&m);
    return status;
}

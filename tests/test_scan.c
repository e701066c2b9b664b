/* The search's table of every instruction set of this CPU against plain loops in float64: no true neighbour is ever
 * lost, whatever the order of lists and the tiles that queries come in; scores that do not depend on their tile; the
 * float64 distances the same in all tables. Data: random, repeated, half of it shifted far away, nearly one point, and
 * so small that products vanish. */
#include "kernels/scan.h"
#include "mpi/memory.h"
#include "mpi/shard.h"
#include "test.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define ROWS    FERRY_SOURCE_UNIT
#define COLUMNS FERRY_TARGET_UNIT
#define TILE    (ROWS * COLUMNS)
#define ROOM    FERRY_CANDIDATE_ROOM
enum { LISTS = 7, QUERIES = 31 };

static uint64_t seed = 1;
static double uniform(void) /* [-1, 1) */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)seed * 0x1p-63;
}
static int64_t below(int64_t n)
{
    int64_t i = (int64_t)(0.5 * (uniform() + 1) * (double)n);
    return i < n ? i : n - 1;
}
static void *room_of(int64_t count, size_t size)
{
    char *out = NULL;
    if (ferry_alloc(&out, count * (int64_t)size) != FERRY_OK) abort();
    return out;
}
static float *floats(int64_t count)
{
    return room_of(count, sizeof(float));
}
static bool same(const void *a, const void *b, size_t bytes)
{
    return !memcmp((const unsigned char *)a, (const unsigned char *)b, bytes);
}

/* --- points: rows as in a file, and centred in float32; lists are runs of them --- */

typedef enum data { RANDOM, REPEATED, SHIFTED, NARROW, TINY, KINDS } data;
typedef struct points {
    int dim;
    int64_t rows, first[LISTS + 1];
    float *row, *centred; /* [rows][dim] */
    float *query, *q;     /* [QUERIES][dim] the same of the queries */
    float norm2[QUERIES]; /* |q|^2 */
    double *far2;         /* [QUERIES][rows] squared distances of rows as in a file */
} points;

static float coordinate(data kind, int64_t i, int k)
{
    switch (kind) {
    case SHIFTED:
        return (float)(uniform() + (k == 0 && i % 2 ? 3000 : 0));
    case NARROW:
        return (float)(1 + 1e-4 * uniform());
    case TINY:
        return (float)(1e-20 * uniform());
    default:
        return (float)(2 * uniform());
    }
}
static void centre(float *out, const float *rows, const float *mean, int64_t count, int dim)
{
    for (int64_t i = 0; i < count * dim; i++) out[i] = rows[i] - mean[i % dim];
}
static void points_open(points *p, data kind, int dim, int64_t rows)
{
    *p = (points){.dim = dim, .rows = rows};
    p->row = floats(rows * dim), p->centred = floats(rows * dim);
    p->query = floats(QUERIES * dim), p->q = floats(QUERIES * dim), p->far2 = room_of(QUERIES * rows, sizeof(double));
    float *mean = floats(dim);
    for (int64_t i = 0; i < rows; i++)
        for (int k = 0; k < dim; k++)
            p->row[i * dim + k] = kind == REPEATED && i % 200 ? p->row[(i - 1) * dim + k] : coordinate(kind, i, k);
    for (int64_t i = 0; i < QUERIES; i++)
        for (int k = 0; k < dim; k++) /* half of the queries are rows themselves */
            p->query[i * dim + k] = i % 2 ? p->row[i * 11 % rows * dim + k] : coordinate(kind, i / 2, k);
    for (int k = 0; k < dim; k++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += p->row[i * dim + k];
        mean[k] = (float)(sum / (double)rows);
    }
    centre(p->centred, p->row, mean, rows, dim), centre(p->q, p->query, mean, QUERIES, dim);
    for (int64_t i = 0; i < QUERIES; i++) {
        double sum = 0;
        for (int k = 0; k < dim; k++) sum += (double)p->q[i * dim + k] * p->q[i * dim + k];
        p->norm2[i] = (float)sum;
        for (int64_t j = 0; j < rows; j++) {
            double d2 = 0;
            for (int k = 0; k < dim; k++) d2 += pow((double)p->query[i * dim + k] - p->row[j * dim + k], 2);
            p->far2[i * rows + j] = d2;
        }
    }
    for (int l = 1; l < LISTS; l++)
        p->first[l] = p->first[l - 1] + below(2 * (rows - p->first[l - 1]) / (LISTS + 1 - l));
    p->first[LISTS] = rows;
    free(mean);
}
static void points_close(points *p)
{
    free(p->row), free(p->centred), free(p->query), free(p->q), free(p->far2);
}

/* Lists as one table packs them. */
typedef struct packed {
    const ferry_kernels *k;
    int64_t units[LISTS];
    float *y[LISTS], *beta[LISTS];
} packed;
static void packed_open(packed *out, const ferry_kernels *k, const points *p)
{
    *out = (packed){.k = k};
    for (int l = 0; l < LISTS; l++) {
        const int64_t count = p->first[l + 1] - p->first[l], units = out->units[l] = (count + COLUMNS - 1) / COLUMNS;
        const float *rows = p->centred + p->first[l] * p->dim;
        out->y[l] = floats((units + 1) * COLUMNS * p->dim), out->beta[l] = floats((units + 1) * COLUMNS);
        for (int64_t u = 0; u < units; u++) {
            const int64_t left = count - u * COLUMNS;
            k->pack_columns(out->y[l] + u * COLUMNS * p->dim, rows + u * COLUMNS * p->dim,
                            left < COLUMNS ? left : COLUMNS, p->dim);
        }
        for (int64_t j = 0; j < units * COLUMNS; j++) {
            double sum = 0;
            for (int d = 0; d < p->dim && j < count; d++) sum += (double)rows[j * p->dim + d] * rows[j * p->dim + d];
            out->beta[l][j] = j < count ? (float)(-sum / 2) : -INFINITY;
        }
    }
}
static void packed_close(packed *p)
{
    for (int l = 0; l < LISTS; l++) free(p->y[l]), free(p->beta[l]);
}

/* --- candidates --- */

typedef struct ranked {
    double d2;
    uint32_t position;
    float s;
} ranked;
static int nearer(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->d2 != y->d2) return x->d2 < y->d2 ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}
static void resolve(void *self, ferry_candidates *c, int query)
{
    const points *p = self;
    ranked all[ROOM];
    const int count = c->count[query];
    CHECK(count > FERRY_CANDIDATE_MOST && count <= ROOM);
    for (int j = 0; j < count; j++) {
        const uint32_t at = c->position[query * ROOM + j];
        all[j] = (ranked){p->far2[query * p->rows + at], at, c->distance2[query * ROOM + j]};
    }
    qsort(all, (size_t)count, sizeof *all, nearer);
    for (int j = 0; j < c->k; j++)
        c->position[query * ROOM + j] = all[j].position, c->distance2[query * ROOM + j] = all[j].s;
    c->count[query] = c->k;
}
static void candidates_open(ferry_candidates *c, const points *p, int k)
{
    *c = (ferry_candidates){
        .k = k, .dim = p->dim, .queries = QUERIES, .norm2 = p->norm2, .resolve = resolve, .self = (void *)p};
    c->distance2 = floats(QUERIES * ROOM), c->position = room_of(QUERIES * ROOM, sizeof(uint32_t));
    c->count = room_of(QUERIES, sizeof(int32_t)), c->threshold = floats(QUERIES), c->radius = floats(QUERIES);
    for (int i = 0; i < QUERIES; i++) c->threshold[i] = -INFINITY, c->radius[i] = INFINITY;
}
static void candidates_close(ferry_candidates *c)
{
    free(c->distance2), free(c->position), free(c->count), free(c->threshold), free(c->radius);
}

/* All queries against one list, in tiles of `most` queries (0: of any number) of a random order. */
static void scan_list(ferry_candidates *c, const ferry_scans *scans, const packed *lists, const points *p, int list,
                      int most)
{
    int32_t order[QUERIES];
    float *rows = floats((int64_t)ROWS * p->dim), *x = floats((int64_t)ROWS * p->dim);
    for (int i = 0; i < QUERIES; i++) order[i] = i;
    for (int i = QUERIES - 1; i > 0 && !most; i--) {
        const int64_t j = below(i + 1);
        const int32_t one = order[i];
        order[i] = order[j], order[j] = one;
    }
    for (int from = 0, count; from < QUERIES; from += count) {
        count = most ? most : 1 + (int)below(ROWS);
        count = count < QUERIES - from ? count : QUERIES - from;
        for (int i = 0; i < count; i++)
            memcpy(rows + i * p->dim, p->q + order[from + i] * p->dim, (size_t)p->dim * sizeof(float));
        lists->k->pack_rows(x, rows, count, p->dim);
        const ferry_scan scan = {.rows = count,
                                 .x = x,
                                 .query = order + from,
                                 .units = lists->units[list],
                                 .y = lists->y[list],
                                 .beta = lists->beta[list],
                                 .position = (uint32_t)p->first[list]};
        scans->scan(c, &scan);
    }
    free(rows), free(x);
}
static void search(ferry_candidates *c, const ferry_scans *scans, const packed *lists, const points *p, bool back,
                   int most)
{
    for (int l = 0; l < LISTS; l++) scan_list(c, scans, lists, p, back ? LISTS - 1 - l : l, most);
    for (int i = 0; i < QUERIES; i++) scans->settle(c, i);
}

/* Every one of the k nearest by (float64 distance, position) is there, inside the radius; nothing else is claimed. */
static void check_found(const ferry_candidates *c, const points *p, const ranked *truth)
{
    const int64_t wanted = c->k < p->rows ? c->k : p->rows;
    for (int i = 0; i < QUERIES; i++) {
        const uint32_t *position = c->position + i * ROOM;
        unsigned char *seen = room_of(p->rows, 1);
        CHECK(c->count[i] >= wanted && c->count[i] <= FERRY_CANDIDATE_MOST);
        CHECK(p->rows < c->k ? isinf(c->radius[i]) : isfinite(c->radius[i]) && isfinite(c->threshold[i]));
        for (int j = 0; j < c->count[i]; j++) {
            CHECK(position[j] < p->rows && !seen[position[j]]);
            seen[position[j]] = 1;
            const double d2 = p->far2[i * p->rows + position[j]], size = 3 * sqrt((double)p->norm2[i]) + sqrt(d2);
            CHECK(c->distance2[i * ROOM + j] >= 0);
            CHECK(fabs(c->distance2[i * ROOM + j] - d2) <= (p->dim + 8) * (0x1p-24 * size * size + 0x1p-147));
        }
        int missing = 0;
        for (int j = 0; j < wanted; j++) missing += !seen[truth[i * p->rows + j].position];
        CHECK(missing == 0);
        CHECK(sqrt(truth[i * p->rows + wanted - 1].d2) <= (double)c->radius[i]);
        free(seen);
    }
}
static bool same_candidates(const ferry_candidates *a, const ferry_candidates *b)
{
    bool equal = a->kept == b->kept && a->resolved == b->resolved &&
                 same(a->count, b->count, QUERIES * sizeof(int32_t)) &&
                 same(a->threshold, b->threshold, QUERIES * sizeof(float)) &&
                 same(a->radius, b->radius, QUERIES * sizeof(float));
    for (int i = 0; i < QUERIES && equal; i++)
        equal = same(a->distance2 + i * ROOM, b->distance2 + i * ROOM, (size_t)a->count[i] * sizeof(float)) &&
                same(a->position + i * ROOM, b->position + i * ROOM, (size_t)a->count[i] * sizeof(uint32_t));
    return equal;
}

static void test_search(const ferry_kernels *k, const points *p, data kind, const ranked *truth)
{
    static const int wanted[] = {1, 30, FERRY_MOST_NEIGHBORS};
    static int height;
    const ferry_scans *scans = ferry_scans_of(k);
    packed lists;
    packed_open(&lists, k, p);
    for (int w = 0; w < 3; w++)
        for (int back = 0; back < 2; back++) {
            ferry_candidates c, other;
            candidates_open(&c, p, wanted[w]);
            search(&c, scans, &lists, p, back, ROWS);
            check_found(&c, p, truth);
            CHECK(c.kept >= QUERIES * (p->rows < c.k ? p->rows : c.k) && c.kept <= QUERIES * p->rows);
            if (kind == REPEATED && p->rows > 400) CHECK(c.resolved > 0);
            if (kind == RANDOM && p->rows > 400 && c.k < 90) CHECK(c.resolved == 0);
            for (int turn = 0; turn < 2; turn++) { /* tiles of any number, and of each number in turn */
                const int most = turn ? 0 : 1 + height++ % ROWS;
                candidates_open(&other, p, wanted[w]);
                search(&other, scans, &lists, p, back, most);
                CHECK(same_candidates(&c, &other));
                candidates_close(&other);
            }
            candidates_close(&c);
        }
    packed_close(&lists);
}

/* --- scores of a panel: nearest, visit, row_kth --- */

static void test_nearest(const ferry_kernels *k, const points *p)
{
    const ferry_scans *scans = ferry_scans_of(k);
    packed lists;
    packed_open(&lists, k, p);
    float *x = floats((int64_t)ROWS * p->dim), alpha[ROWS], best[ROWS], second[ROWS];
    int32_t index[ROWS];
    k->pack_rows(x, p->q, ROWS - 2, p->dim);
    for (int i = 0; i < ROWS; i++) alpha[i] = (float)uniform();
    for (int l = 0; l < LISTS; l++) {
        const ferry_tile tile = {.kind = FERRY_TILE_LINEAR,
                                 .dim = p->dim,
                                 .units = lists.units[l],
                                 .x = x,
                                 .y = lists.y[l],
                                 .alpha = alpha,
                                 .beta = lists.beta[l]};
        float *s = floats(tile.units * TILE + 1);
        k->scores(s, &tile);
        scans->nearest(best, index, second, &tile);
        for (int i = 0; i < ROWS; i++) {
            float right[2] = {-INFINITY, -INFINITY};
            int32_t at = 0;
            for (int64_t j = 0; j < tile.units * COLUMNS; j++) {
                const float score = s[j / COLUMNS * TILE + i * COLUMNS + j % COLUMNS];
                if (score > right[0])
                    right[1] = right[0], right[0] = score, at = (int32_t)j;
                else if (score > right[1])
                    right[1] = score;
            }
            CHECK(best[i] == right[0] && second[i] == right[1] && index[i] == at);
        }
        free(s);
    }
    free(x), packed_close(&lists);
}

static int falling(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}
static void test_kth(const ferry_scans *scans)
{
    enum { UNITS = 5, COUNT = UNITS * COLUMNS };
    float *s = floats(UNITS * TILE), row[COUNT];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < UNITS * TILE; i++) {
            const double u = uniform();
            s[i] = round == 0   ? (float)u
                   : round == 1 ? (float)floor(3 * u)
                   : round == 2 ? (float)(u * 1e38)
                                : (float)(u * 1e-42);
            if (i % 7 == 3) s[i] = -INFINITY;
        }
        for (int i = 0; i < ROWS; i++) {
            int finite = 0;
            for (int j = 0; j < COUNT; j++) {
                row[j] = s[j / COLUMNS * TILE + i * COLUMNS + j % COLUMNS];
                finite += row[j] > -INFINITY;
            }
            qsort(row, COUNT, sizeof *row, falling);
            for (int k = 1; k <= COUNT; k += 1 + k / 5) CHECK(scans->row_kth(s, i, UNITS, k) == row[k - 1]);
            CHECK(scans->row_kth(s, i, UNITS, finite) == row[finite - 1]);
            CHECK(scans->row_kth(s, i, UNITS, finite + 1) == -INFINITY);
            CHECK(scans->row_kth(s, i, UNITS, 10 * COUNT) == -INFINITY);
        }
    }
    free(s);
}

/* Centroids are the points; twins among them, empty lists, and members of known distance. */
static void test_visit(const ferry_kernels *k, const points *p)
{
    const ferry_scans *scans = ferry_scans_of(k);
    const int64_t units = (p->rows + COLUMNS - 1) / COLUMNS, count = units * COLUMNS;
    float *x = floats((int64_t)ROWS * p->dim), *y = floats(count * p->dim), *beta = floats(count),
          *norm = floats(count);
    float *gap = floats(count), *radius = floats(count), *scores = floats(units * TILE), zero[ROWS] = {0};
    float *distance = floats(count + 16), *bound = floats(count + 16);
    int32_t *list = room_of(count + 16, sizeof(int32_t));
    k->pack_rows(x, p->q, ROWS, p->dim);
    for (int64_t u = 0; u < units; u++) {
        const int64_t left = p->rows - u * COLUMNS;
        k->pack_columns(y + u * COLUMNS * p->dim, p->centred + u * COLUMNS * p->dim, left < COLUMNS ? left : COLUMNS,
                        p->dim);
    }
    for (int64_t j = 0; j < count; j++) {
        double n2 = 0;
        for (int d = 0; d < p->dim && j < p->rows; d++) n2 += pow(p->centred[j * p->dim + d], 2);
        beta[j] = j < p->rows ? (float)(-n2 / 2) : -INFINITY;
        norm[j] = (float)sqrt(n2);
        radius[j] = j >= p->rows || j % 13 == 5 ? -INFINITY : (float)(0.3 * sqrt(n2) * (uniform() + 1));
    }
    const ferry_tile tile = {
        .kind = FERRY_TILE_LINEAR, .dim = p->dim, .units = units, .x = x, .y = y, .alpha = zero, .beta = beta};
    k->scores(scores, &tile);
    for (int i = 0; i < ROWS; i++) {
        const float *q = p->q + i * p->dim;
        int64_t own = 0;
        for (int64_t j = 1; j < p->rows; j++)
            if (scans->distance2(q, p->centred + j * p->dim, p->dim) <
                scans->distance2(q, p->centred + own * p->dim, p->dim))
                own = j;
        for (int64_t j = 0; j < count; j++) {
            const double g =
                j < p->rows ? sqrt(scans->distance2(p->centred + own * p->dim, p->centred + j * p->dim, p->dim)) : 0;
            gap[j] = g > 0 ? nextafterf((float)g, INFINITY) : 0;
        }
        const double own2 = scans->distance2(q, p->centred + own * p->dim, p->dim);
        for (int step = 0; step < 8; step++) {
            const bool bisector = step % 2;
            const float reach = step >= 6 ? INFINITY : (float)(sqrt(own2) * (0.2 + 0.4 * step));
            const ferry_visits v = {.dim = p->dim,
                                    .units = units,
                                    .scores = scores,
                                    .gap = gap,
                                    .radius = radius,
                                    .norm = norm,
                                    .bisector = bisector};
            const float mine = scores[own / COLUMNS * TILE + i * COLUMNS + own % COLUMNS];
            const int64_t found = scans->visit(list, distance, bound, &v, i, p->norm2[i], mine, reach);
            int64_t n = 0, needed = 0, idle = 0;
            for (int64_t j = 0; j < count; j++) {
                const bool here = n < found && list[n] == j;
                if (j >= p->rows || radius[j] < 0) {
                    CHECK(!here);
                    continue;
                }
                const double d2 = scans->distance2(q, p->centred + j * p->dim, p->dim), d = sqrt(d2);
                const double size = 3 * sqrt((double)p->norm2[i]) + norm[j] + d,
                             error = (p->dim + 8) * (0x1p-23 * size * size + 0x1p-140);
                const double apart = (d2 - own2) / 2, apart_gap = gap[j];
                const bool ball = d < (double)reach + radius[j],
                           half = !bisector || (apart_gap > 0 ? apart / apart_gap < (double)reach : true);
                needed += ball && half && !here;
                idle += here && (d2 - 2 * error > 1.0001 * pow((double)reach + radius[j], 2) ||
                                 (bisector && apart - 2 * error > 1.0001 * apart_gap * (double)reach));
                if (here) {
                    CHECK(fabs(pow(distance[n], 2) - d2) <= error);
                    if (!bisector || gap[j] == 0)
                        CHECK(bound[n] == -INFINITY);
                    else
                        CHECK(bound[n] * apart_gap <= apart + 0x1p-140 &&
                              bound[n] * apart_gap >= apart - 2 * error - 1e-4 * fabs(apart));
                    n++;
                }
            }
            CHECK(n == found && needed == 0 && idle == 0);
        }
    }
    free(x), free(y), free(beta), free(norm), free(gap), free(radius), free(scores), free(distance), free(bound),
        free(list);
}

/* --- float64 distances --- */

static double total(const double sum[8])
{
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}
static void test_float64(const ferry_scans *scans)
{
    enum { MOST = 70 };
    float a[MOST + 1], b[MOST + 1];
    for (int dim = 1; dim <= MOST; dim++)
        for (int round = 0; round < 3; round++) {
            double sum[8] = {0}, aa[8] = {0}, bb[8] = {0}, apart[8] = {0};
            const float scale = round == 0 ? 1 : round == 1 ? 1e18f : 1e-18f;
            for (int k = 0; k < dim; k++) a[k] = scale * (float)uniform(), b[k] = (float)uniform();
            a[dim] = b[dim] = NAN; /* nothing past the end is read into the sums */
            for (int k = 0; k < dim; k++) {
                sum[k % 8] = fma((double)a[k] - (double)b[k], (double)a[k] - (double)b[k], sum[k % 8]);
                aa[k % 8] = fma(a[k], a[k], aa[k % 8]), bb[k % 8] = fma(b[k], b[k], bb[k % 8]);
            }
            const double la = sqrt(total(aa)), lb = sqrt(total(bb));
            for (int k = 0; k < dim; k++) {
                const double d = (double)a[k] / la - (double)b[k] / lb;
                apart[k % 8] = fma(d, d, apart[k % 8]);
            }
            CHECK(scans->distance2(a, b, dim) == total(sum) && scans->distance2(a, a, dim) == 0);
            CHECK(scans->cosine(a, b, dim) == total(apart) / 2 && scans->cosine(a, a, dim) == 0);
        }
}

static void test_points(data kind, int dim, int64_t rows)
{
    points p;
    points_open(&p, kind, dim, rows);
    ranked *truth = room_of(QUERIES * rows, sizeof *truth);
    for (int i = 0; i < QUERIES; i++) {
        for (int64_t j = 0; j < rows; j++) truth[i * rows + j] = (ranked){p.far2[i * rows + j], (uint32_t)j, 0};
        qsort(truth + i * rows, (size_t)rows, sizeof *truth, nearer);
    }
    char names[64];
    snprintf(names, sizeof names, "%s", ferry_kernels_names());
    for (char *rest = names, *name; (name = strtok_r(rest, " ", &rest));) {
        const ferry_kernels *k = ferry_kernels_find(name);
        CHECK(!strcmp(ferry_scans_of(k)->name, name));
        test_search(k, &p, kind, truth);
        test_nearest(k, &p);
        test_visit(k, &p);
    }
    free(truth), points_close(&p);
}

int main(int argc, char **argv)
{
    static const int dims[] = {1, 2, 3, 10, 50, 100, 350};
    int rank, size, turn = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int d = 0; d < 7; d++)
        for (int kind = 0; kind < KINDS; kind++)
            for (int few = 0; few < 2; few++, turn++)
                if (turn % size == rank) test_points((data)kind, dims[d], few ? 61 : dims[d] > 50 ? 205 : 610);
    char names[64];
    snprintf(names, sizeof names, "%s", ferry_kernels_names());
    for (char *rest = names, *name; (name = strtok_r(rest, " ", &rest));) {
        const ferry_scans *scans = ferry_scans_of(ferry_kernels_find(name));
        test_float64(scans);
        test_kth(scans);
    }
    return test_end();
}

/* Genes that two sets share, and the cells of both on them. Rank 0 matches the names; every rank reads the cells of its
 * shard in slabs and keeps what is not zero. What follows (joint_pca.c, joint_cca.c) goes over memory only. */
#include "joint_impl.h"
#include "io/read.h"
#include "mpi/log.h"
#include "mpi/stage.h"
#include <string.h>

#define SLAB ((int64_t)8 << 20) /* bytes of dense rows read at a time */

/* ---- genes ---- */

/* Columns of the shared genes in either matrix, in the order of the query's. */
typedef struct shared_genes {
    int64_t count;
    int64_t *query, *reference; /* [count] */
} shared_genes;

static const ferry_names *sorted_names; /* for qsort; ranks are processes, and threads do not come here */

static int by_name(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    const int order = strcmp(ferry_name(sorted_names, x), ferry_name(sorted_names, y));
    return order ? order : (x > y) - (x < y);
}

/* *order [count] by name, of equal names the first; *distinct of them. */
static ferry_status sort_distinct(int64_t **order, int64_t *distinct, const ferry_names *names)
{
    FERRY_TRY(ferry_alloc(order, names->count));
    for (int64_t i = 0; i < names->count; i++) (*order)[i] = i;
    sorted_names = names;
    qsort(*order, (size_t)names->count, sizeof **order, by_name);
    *distinct = 0;
    for (int64_t i = 0; i < names->count; i++)
        if (!i || strcmp(ferry_name(names, (*order)[i]), ferry_name(names, (*order)[*distinct - 1])) != 0)
            (*order)[(*distinct)++] = (*order)[i];
    return FERRY_OK;
}

/* Local, rank 0. */
static ferry_status match(shared_genes *out, const ferry_names *q, const ferry_names *r, int64_t *repeated)
{
    FERRY_AUTO int64_t *order_q = NULL;
    FERRY_AUTO int64_t *order_r = NULL;
    FERRY_AUTO int64_t *partner = NULL;
    int64_t nq = 0, nr = 0, to = 0;
    FERRY_TRY(sort_distinct(&order_q, &nq, q));
    FERRY_TRY(sort_distinct(&order_r, &nr, r));
    *repeated = q->count - nq + r->count - nr;
    FERRY_TRY(ferry_alloc(&partner, q->count));
    for (int64_t i = 0; i < q->count; i++) partner[i] = -1;
    for (int64_t i = 0, j = 0; i < nq && j < nr;) {
        const int order = strcmp(ferry_name(q, order_q[i]), ferry_name(r, order_r[j]));
        if (order == 0) {
            partner[order_q[i++]] = order_r[j++];
            out->count++;
        } else if (order < 0) {
            i++;
        } else {
            j++;
        }
    }
    FERRY_TRY(ferry_alloc(&out->query, out->count));
    FERRY_TRY(ferry_alloc(&out->reference, out->count));
    for (int64_t i = 0; i < q->count; i++) {
        if (partner[i] < 0) continue;
        out->query[to] = i;
        out->reference[to++] = partner[i];
    }
    return FERRY_OK;
}

/* Local, rank 0. */
static ferry_status find_shared(shared_genes *out, const ferry_population *query, const ferry_population *reference,
                                int64_t *repeated)
{
    ferry_names q = {0}, r = {0};
    ferry_status status = ferry_read_gene_names(&q, query->file, query->options.rep, 0, query->dim);
    if (status == FERRY_OK)
        status = ferry_read_gene_names(&r, reference->file, reference->options.rep, 0, reference->dim);
    if (status == FERRY_OK) status = match(out, &q, &r, repeated);
    if (status == FERRY_OK && out->count == 0)
        status =
            ferry_fail(FERRY_E_FILE,
                       "%s and %s share no gene names ('%.60s' in the one, '%.60s' in the other): a joint embedding "
                       "stands on shared genes; give both var the same kind of names",
                       ferry_file_path(query->file), ferry_file_path(reference->file), q.count ? ferry_name(&q, 0) : "",
                       r.count ? ferry_name(&r, 0) : "");
    ferry_names_close(&q);
    ferry_names_close(&r);
    return status;
}

/* Local, the other ranks. */
static ferry_status room_for(shared_genes *out)
{
    if (!out->query) FERRY_TRY(ferry_alloc(&out->query, out->count));
    return out->reference ? FERRY_OK : ferry_alloc(&out->reference, out->count);
}

/* Collective. */
static ferry_status share_genes(shared_genes *out, const ferry_world *world, const ferry_population *query,
                                const ferry_population *reference)
{
    int64_t repeated = 0;
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? find_shared(out, query, reference, &repeated) : FERRY_OK));
    if (repeated > 0)
        ferry_log(world, FERRY_WARN, "%lld gene names occur more than once in a set: the first of each is taken",
                  (long long)repeated);
    ferry_broadcast(world, &out->count, sizeof out->count, 0);
    FERRY_TRY(ferry_agree(world, room_for(out)));
    ferry_broadcast(world, out->query, (size_t)out->count * sizeof *out->query, 0);
    ferry_broadcast(world, out->reference, (size_t)out->count * sizeof *out->reference, 0);
    return FERRY_OK;
}

/* ---- cells ---- */

static void side_close(ferry_joint_side *side)
{
    ferry_shards_close(&side->shards);
    free(side->start);
    free(side->gene);
    free(side->value);
    free(side->mean);
    free(side->flat);
}

/* Reading of one side. */
typedef struct reading {
    const int64_t *column; /* [genes] of the shared genes */
    int64_t room, most;    /* entries that fit in the arrays; that fit in memory */
} reading;

/* Local. */
static ferry_status side_open(ferry_joint_side *side, const ferry_world *world, const ferry_population *population,
                              int64_t genes)
{
    *side = (ferry_joint_side){.world = world, .cells = population->cells, .genes = genes};
    if (population->cells < 1)
        return ferry_fail(FERRY_E_FILE, "%s: no cells for a joint embedding", ferry_file_path(population->file));
    FERRY_TRY(ferry_shards_open(&side->shards, side->cells, FERRY_TARGET_UNIT, world->size));
    side->here = side->shards.first[world->rank + 1] - side->shards.first[world->rank];
    FERRY_TRY(ferry_alloc(&side->start, side->here + 1));
    FERRY_TRY(ferry_alloc(&side->flat, side->here));
    return ferry_alloc(&side->mean, side->here);
}

/* Local. Room for one more row. */
static ferry_status make_room(ferry_joint_side *side, reading *r, int64_t kept)
{
    char needs[32];
    if (kept + side->genes <= r->room) return FERRY_OK;
    int64_t room = 2 * r->room + side->genes;
    if (room > r->most && kept + side->genes <= r->most) room = r->most;
    if (room > r->most)
        return ferry_fail(
            FERRY_E_PLAN,
            "the shared genes of %lld cells need more than %s per rank: raise --memory, or use more ranks",
            (long long)side->here, ferry_size_text(needs, 8.0 * (double)r->most));
    FERRY_TRY(ferry_grow(&side->gene, kept, room));
    FERRY_TRY(ferry_grow(&side->value, kept, room));
    r->room = room;
    return FERRY_OK;
}

/* Local. Rows at ... of this rank. */
static ferry_status keep_rows(ferry_joint_side *side, reading *r, const ferry_matrix *rows, int64_t at)
{
    for (int64_t i = 0; i < rows->rows; i++) {
        int64_t to = side->start[at + i];
        const float level = rows->f[i * rows->dim + r->column[0]];
        double sum = 0;
        bool flat = true;
        FERRY_TRY(make_room(side, r, to));
        for (int64_t g = 0; g < side->genes; g++) {
            const float value = rows->f[i * rows->dim + r->column[g]];
            flat = flat && value == level;
            if (value == 0) continue;
            side->gene[to] = (int32_t)g;
            side->value[to++] = value;
            sum += (double)value;
        }
        side->start[at + i + 1] = to;
        side->mean[at + i] = sum / (double)side->genes;
        side->flat[at + i] = flat;
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status read_side(ferry_joint_side *side, reading *r, const ferry_population *population)
{
    const int64_t slab = SLAB / (4 * (int64_t)population->dim) + 1;
    const int64_t first = side->shards.first[side->world->rank];
    const int64_t slabs = ferry_max(side->world, (side->here + slab - 1) / slab);
    for (int64_t k = 0; k < slabs; k++) {
        ferry_matrix rows;
        const int64_t at = k * slab < side->here ? k * slab : side->here;
        const int64_t count = side->here - at < slab ? side->here - at : slab;
        FERRY_TRY(ferry_population_points(&rows, side->world, population, first + at, count, FERRY_FLOAT, NULL));
        const ferry_status status = ferry_agree(side->world, keep_rows(side, r, &rows, at));
        ferry_matrix_close(&rows);
        FERRY_TRY(status);
        ferry_progress(side->world, "reading genes", k + 1, slabs, "slabs", NULL);
        ferry_stage_sample();
    }
    return FERRY_OK;
}

/* ---- sums ---- */

void ferry_joint_forward(double *out, const ferry_joint_side *side, const double *u, int n)
{
    memset(out, 0, (size_t)(side->here * n) * sizeof *out);
    for (int64_t i = 0; i < side->here; i++) {
        double *restrict row = out + i * n;
        for (int64_t e = side->start[i]; e < side->start[i + 1]; e++) {
            const double x = (double)side->value[e], *v = u + (int64_t)side->gene[e] * n;
            for (int j = 0; j < n; j++) row[j] += x * v[j];
        }
    }
}

static void add_rows(double *leaf, const ferry_joint_side *side, const double *t, const double *extra, int n,
                     int64_t first, int64_t end)
{
    for (int64_t i = first; i < end; i++) {
        const double *v = t + i * n, more = extra ? extra[i] : 1;
        for (int64_t e = side->start[i]; e < side->start[i + 1]; e++) {
            double *restrict row = leaf + (int64_t)side->gene[e] * n;
            const double x = (double)side->value[e];
            for (int j = 0; j < n; j++) row[j] += x * v[j];
        }
        for (int j = 0; j < n; j++) leaf[side->genes * n + j] += more * v[j];
    }
}

/* Local. */
static ferry_status backward_leaves(ferry_forest **forest, const ferry_joint_side *side, const double *t,
                                    const double *extra, int n)
{
    const ferry_shards *shards = &side->shards;
    const int64_t here = shards->first[side->world->rank];
    FERRY_TRY(ferry_forest_open(forest, (side->genes + 1) * n, shards->blocks.count, FERRY_JOIN_SUM));
    for (int b = shards->block[side->world->rank]; b < shards->block[side->world->rank + 1]; b++) {
        double *leaf = NULL;
        FERRY_TRY(ferry_forest_leaf(&leaf, *forest));
        add_rows(leaf, side, t, extra, n, ferry_block_first(&shards->blocks, b) - here,
                 ferry_block_first(&shards->blocks, b + 1) - here);
        ferry_forest_add(*forest, b);
    }
    return FERRY_OK;
}

ferry_status ferry_joint_backward(double *out, const ferry_joint_side *side, const double *t, const double *extra,
                                  int n)
{
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(side->world, backward_leaves(&forest, side, t, extra, n));
    if (status == FERRY_OK) status = ferry_forest_reduce(out, forest, side->world, FERRY_REDUCE_TREE);
    ferry_forest_close(&forest);
    return status;
}

int ferry_joint_rank(const ferry_eigenpairs *pairs)
{
    int rank = 0;
    while (rank < pairs->count && pairs->value[rank] > FERRY_JOINT_NOTHING * pairs->value[0]) rank++;
    return rank;
}

/* ---- both ---- */

/* The population read for its expression: the same file and filter. */
static ferry_status expression_of(ferry_population *out, const ferry_population *population, const char *rep)
{
    *out = *population;
    out->options.rep = rep ? rep : "X";
    out->options.dims = 0;
    if (strcmp(out->options.rep, "X") != 0 && strcmp(out->options.rep, "raw/X") != 0 &&
        strncmp(out->options.rep, "layers/", 7) != 0)
        return ferry_fail(FERRY_E_ARG,
                          "a joint embedding is made of expression, and '%s' is none: --rep X, or layers/NAME",
                          out->options.rep);
    return ferry_rep_dim(&out->dim, out->file, out->options.rep, 0);
}

/* Bytes per rank beside the cells' genes: vectors, sums over cells, and the result. */
static int64_t work_bytes(const ferry_joint_side *q, const ferry_joint_side *r, const ferry_joint_options *options)
{
    const int64_t n = options->components, genes = q->genes;
    const int64_t vectors = options->method == FERRY_JOINT_PCA ? genes / q->world->size + 64 : q->here;
    const ferry_blocks *blocks = &(q->cells > r->cells ? q : r)->shards.blocks;
    return ferry_krylov_bytes(vectors, (int)n) + ferry_forest_bytes((genes + 1) * 16, blocks->count, blocks->count) +
           8 * (genes * (n + 64) + (q->here + r->here) * 32) + 12 * (q->here + r->here) * n + 2 * SLAB;
}

/* Local. */
static ferry_status plan_reading(reading *out, const ferry_joint_side *q, const ferry_joint_side *r,
                                 const ferry_joint_options *options)
{
    char needs[32], has[32];
    const int64_t work = work_bytes(q, r, options), left = options->memory - work;
    out->most = INT64_MAX / 64;
    if (options->memory <= 0) return FERRY_OK;
    if (left <= 0)
        return ferry_fail(FERRY_E_PLAN,
                          "the joint embedding needs %s per rank beside the cells, of %s: raise --memory, lower "
                          "--components, or use more ranks",
                          ferry_size_text(needs, (double)work), ferry_size_text(has, (double)options->memory));
    out->most = left / 8;
    return FERRY_OK;
}

/* Everything on the way; borrowed files. */
typedef struct workshop {
    ferry_population expression[2];
    ferry_joint_side side[2];
    shared_genes genes;
} workshop;

static void workshop_close(workshop *w)
{
    side_close(&w->side[0]);
    side_close(&w->side[1]);
    free(w->genes.query);
    free(w->genes.reference);
}

/* Local. */
static ferry_status prepare(workshop *w, const ferry_population *query, const ferry_population *reference,
                            const ferry_joint_options *options)
{
    if (options->method != FERRY_JOINT_PCA && options->method != FERRY_JOINT_CCA)
        return ferry_fail(FERRY_E_ARG, "there is no joint embedding %d", (int)options->method);
    if (options->components < 1) return ferry_fail(FERRY_E_ARG, "--components %d: at least 1", options->components);
    FERRY_TRY(expression_of(&w->expression[0], query, options->rep));
    return expression_of(&w->expression[1], reference, options->rep);
}

/* Local. The rows are those of the sides' shards. */
static ferry_status deal_rows(ferry_joint *out, const workshop *w, int ranks)
{
    FERRY_TRY(ferry_alloc(&out->query_first, ranks + 1));
    FERRY_TRY(ferry_alloc(&out->reference_first, ranks + 1));
    memcpy(out->query_first, w->side[0].shards.first, (size_t)(ranks + 1) * sizeof(int64_t));
    memcpy(out->reference_first, w->side[1].shards.first, (size_t)(ranks + 1) * sizeof(int64_t));
    return FERRY_OK;
}

/* Local. */
static ferry_status open_sides(workshop *w, reading *r, const ferry_world *world, const ferry_joint_options *options)
{
    FERRY_TRY(side_open(&w->side[0], world, &w->expression[0], w->genes.count));
    FERRY_TRY(side_open(&w->side[1], world, &w->expression[1], w->genes.count));
    return plan_reading(r, &w->side[0], &w->side[1], options);
}

/* Collective. */
static ferry_status build(ferry_joint *out, workshop *w, const ferry_world *world, const ferry_population *query,
                          const ferry_population *reference, const ferry_joint_options *options)
{
    reading r = {0};
    FERRY_TRY(ferry_agree(world, prepare(w, query, reference, options)));
    FERRY_TRY(share_genes(&w->genes, world, &w->expression[0], &w->expression[1]));
    out->genes = w->genes.count;
    FERRY_TRY(ferry_agree(world, open_sides(w, &r, world, options)));
    for (int k = 0; k < 2; k++) {
        r.column = k ? w->genes.reference : w->genes.query;
        r.room = 0;
        FERRY_TRY(read_side(&w->side[k], &r, &w->expression[k]));
        r.most -= w->side[k].start[w->side[k].here];
    }
    FERRY_TRY(ferry_agree(world, deal_rows(out, w, world->size)));
    if (options->method == FERRY_JOINT_PCA) return ferry_joint_pca(out, &w->side[0], &w->side[1], options);
    return ferry_joint_cca(out, &w->side[0], &w->side[1], options);
}

ferry_status ferry_joint_open(ferry_joint *out, const ferry_world *world, ferry_population *query,
                              ferry_population *reference, const ferry_joint_options *options)
{
    workshop w = {0};
    *out = (ferry_joint){0};
    const ferry_status status = build(out, &w, world, query, reference, options);
    workshop_close(&w);
    if (status != FERRY_OK) ferry_joint_close(out);
    return status;
}

void ferry_joint_close(ferry_joint *joint)
{
    free(joint->query_first);
    free(joint->reference_first);
    free(joint->query);
    free(joint->reference);
    *joint = (ferry_joint){0};
}

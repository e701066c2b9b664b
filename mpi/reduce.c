/* The adjacent-pair tree.
 *
 *   sum of blocks [0, 2^k) = sum of [0, 2^(k-1)) + sum of [2^(k-1), 2^k),   and so on down to single blocks
 *
 * A node is known by its level (2^level blocks) and its first block. Two siblings join as soon as both are there, so a
 * forest that sees a run of blocks holds only the roots of the complete subtrees of that run. A block that never comes
 * is neutral: its sibling is passed up as it is. Where the nodes were formed does not matter, hence the same bits for
 * every number of ranks and threads.
 *
 * Over ranks: rank r gets slice r of every root of every rank, finishes the tree for that slice, and the slices are
 * gathered. So the additions are shared evenly, and MPI moves data without adding. */
#include "mpi/reduce.h"
#include "mpi/exchange.h"
#include "mpi/memory.h"
#include "mpi/world_impl.h"
#include <math.h>
#include <string.h>

/* A node; in a forest it stands in front of its vector. Lists are ordered by `first`, the largest first, so that blocks
 * which come in ascending order are put in at once. */
struct node {
    struct node *next;
    int level, first;
    double *m, *s; /* LSE: exponents and sums; otherwise the values and NULL */
};
#define HEAD 64 /* bytes before the vector: keeps it aligned */
_Static_assert(sizeof(struct node) <= HEAD, "the node fits before its vector");

struct ferry_forest {
    int64_t width;
    int levels; /* 2^levels leaves */
    ferry_join join;
    struct node *roots, *spare, *leaf;
};

static int64_t pairs(const ferry_forest *forest)
{
    return forest->join == FERRY_JOIN_LSE ? forest->width / 2 : forest->width;
}

/* 2^d for d <= 0. Exponents are whole numbers, so scaling by it is exact. */
static double power(double d)
{
    if (d == 0) return 1;
    if (!(d >= -1100)) return isnan(d) ? d : 0; /* smaller than any double */
    return d == (int)d ? ldexp(1, (int)d) : exp2(d);
}

static void join_lse(int64_t n, double *restrict m, double *restrict s, const double *restrict m2,
                     const double *restrict s2)
{
    for (int64_t i = 0; i < n; i++) {
        double most = m[i] > m2[i] ? m[i] : m2[i];
        if (most == -INFINITY) continue; /* both are empty */
        s[i] = s[i] * power(m[i] - most) + s2[i] * power(m2[i] - most);
        m[i] = most;
    }
}

/* left = left and right, elementwise */
static void join(ferry_join how, int64_t n, struct node *left, const struct node *right)
{
    double *restrict a = left->m;
    const double *restrict b = right->m;
    switch (how) {
    case FERRY_JOIN_SUM:
        for (int64_t i = 0; i < n; i++) a[i] += b[i];
        break;
    case FERRY_JOIN_MAX:
        for (int64_t i = 0; i < n; i++) a[i] = b[i] > a[i] || isnan(b[i]) ? b[i] : a[i]; /* NaN stays seen */
        break;
    case FERRY_JOIN_LSE:
        join_lse(n, a, left->s, b, right->s);
        break;
    }
}

static int siblings(const struct node *right, const struct node *left)
{
    return left && right->level == left->level && left->first + (1 << left->level) == right->first &&
           (left->first >> left->level) % 2 == 0;
}

/* The nodes under one root, by passing every lonely node up level by level; NULL if there are none. `rest` gets the
 * nodes that were joined away. */
static struct node *finish(struct node *list, int levels, ferry_join how, int64_t n, struct node **rest)
{
    for (int level = 0; level < levels; level++) {
        for (struct node **at = &list; *at; at = &(*at)->next) {
            struct node *right = *at, *left = right->next;
            if (right->level != level) continue;
            if (siblings(right, left)) {
                join(how, n, left, right);
                *at = left;
                right->next = *rest;
                *rest = right;
            }
            (*at)->level = level + 1;
            (*at)->first = (*at)->first >> (level + 1) << (level + 1);
        }
    }
    return list;
}

static void fill_empty(double *m, double *s, ferry_join how, int64_t n)
{
    const double empty = how == FERRY_JOIN_SUM ? 0 : -INFINITY;
    for (int64_t i = 0; i < n; i++) m[i] = empty;
    if (s) memset(s, 0, (size_t)n * sizeof *s);
}

ferry_status ferry_forest_open(ferry_forest **out, int64_t width, int blocks, ferry_join how)
{
    *out = NULL;
    if (width < 0 || blocks < 1 || (blocks & (blocks - 1)) || (how == FERRY_JOIN_LSE && width % 2))
        return ferry_fail(FERRY_E_ARG, "no sum of %d blocks of %lld numbers", blocks, (long long)width);
    FERRY_TRY(ferry_alloc(out, 1));
    (*out)->width = width;
    (*out)->levels = __builtin_ctz((unsigned)blocks);
    (*out)->join = how;
    return FERRY_OK;
}

static void free_list(struct node *list)
{
    while (list) {
        struct node *next = list->next;
        free(list);
        list = next;
    }
}

void ferry_forest_close(ferry_forest **forest)
{
    if (!*forest) return;
    free_list((*forest)->roots);
    free_list((*forest)->spare);
    free((*forest)->leaf);
    free(*forest);
    *forest = NULL;
}

static ferry_status new_node(struct node **out, const ferry_forest *forest)
{
    char *memory;
    FERRY_TRY(ferry_alloc_bytes(&memory, HEAD + forest->width * (int64_t)sizeof(double), 1));
    *out = (struct node *)(void *)memory;
    (*out)->m = (double *)(void *)(memory + HEAD);
    (*out)->s = forest->join == FERRY_JOIN_LSE ? (*out)->m + forest->width / 2 : NULL;
    return FERRY_OK;
}

ferry_status ferry_forest_leaf(double **leaf, ferry_forest *forest)
{
    if (!forest->leaf && forest->spare) {
        forest->leaf = forest->spare;
        forest->spare = forest->leaf->next;
    }
    if (!forest->leaf) FERRY_TRY(new_node(&forest->leaf, forest));
    fill_empty(forest->leaf->m, forest->leaf->s, forest->join, pairs(forest));
    *leaf = forest->leaf->m;
    return FERRY_OK;
}

static void recycle(ferry_forest *forest, struct node *node)
{
    node->next = forest->spare;
    forest->spare = node;
}

/* Put the node in its place, then join what has become complete. Only the new node can complete something: `before`
 * is the link to it, and a sibling is next to it on either side. */
static void insert(ferry_forest *forest, struct node *node)
{
    struct node **link = &forest->roots, *right = NULL;
    struct node **right_link = NULL;
    while (*link && (*link)->first > node->first) {
        right_link = link;
        right = *link;
        link = &right->next;
    }
    node->next = *link;
    *link = node;
    for (;;) {
        if (siblings(node, node->next)) { /* node is the right one */
            struct node *left = node->next;
            join(forest->join, pairs(forest), left, node);
            *link = left;
            recycle(forest, node);
            node = left;
        } else if (right && siblings(right, node)) {
            join(forest->join, pairs(forest), node, right);
            *right_link = node;
            recycle(forest, right);
            link = right_link;
            right = NULL; /* found again below */
            for (struct node **at = &forest->roots; *at != node; at = &(*at)->next) {
                right_link = at;
                right = *at;
            }
        } else {
            return;
        }
        node->level++;
    }
}

void ferry_forest_add(ferry_forest *forest, int block)
{
    struct node *node = forest->leaf;
    if (!node) return; /* no leaf was asked for */
    forest->leaf = NULL;
    node->level = 0;
    node->first = block;
    insert(forest, node);
}

void ferry_forest_merge(ferry_forest *into, ferry_forest *from)
{
    while (from->roots) {
        struct node *node = from->roots;
        from->roots = node->next;
        insert(into, node);
    }
}

void ferry_forest_root(double *out, ferry_forest *forest)
{
    struct node *root = finish(forest->roots, forest->levels, forest->join, pairs(forest), &forest->spare);
    forest->roots = NULL;
    if (!root) {
        fill_empty(out, forest->join == FERRY_JOIN_LSE ? out + forest->width / 2 : NULL, forest->join, pairs(forest));
        return;
    }
    memcpy(out, root->m, (size_t)forest->width * sizeof *out);
    recycle(forest, root);
}

/* What one reduction over ranks needs. */
struct meeting {
    int64_t *roots;        /* [ranks] how many roots each rank has */
    int64_t *length;       /* [ranks] numbers in the slice of each rank */
    int64_t *send, *recv;  /* [ranks] of one round */
    int (*names)[2];       /* [total] level and first of every root, by rank; each rank's in list order */
    int (*mine)[2];        /* [my roots] */
    struct node *nodes;    /* [total] my slice of every root */
    double *values;        /* [total, halves, my slice] */
    int64_t total, rounds; /* roots of all ranks, most roots of one rank */
};

static void free_meeting(struct meeting *meet)
{
    free(meet->roots);
    free(meet->length);
    free(meet->send);
    free(meet->recv);
    free(meet->names);
    free(meet->mine);
    free(meet->nodes);
    free(meet->values);
}

static int64_t count_roots(const ferry_forest *forest)
{
    int64_t count = 0;
    for (const struct node *node = forest->roots; node; node = node->next) count++;
    return count;
}

/* Local. */
static ferry_status prepare_counts(struct meeting *meet, const ferry_forest *forest, const ferry_world *world)
{
    FERRY_TRY(ferry_alloc(&meet->roots, world->size));
    FERRY_TRY(ferry_alloc(&meet->length, world->size));
    FERRY_TRY(ferry_alloc(&meet->send, world->size));
    FERRY_TRY(ferry_alloc(&meet->recv, world->size));
    FERRY_TRY(ferry_alloc(&meet->mine, count_roots(forest)));
    int64_t n = pairs(forest), i = 0;
    for (int r = 0; r < world->size; r++) {
        meet->length[r] = n / world->size + (r < n % world->size);
        meet->send[r] = 1;
    }
    for (const struct node *node = forest->roots; node; node = node->next, i++) {
        meet->mine[i][0] = node->level;
        meet->mine[i][1] = node->first;
    }
    return FERRY_OK;
}

/* Local. */
static ferry_status prepare_slices(struct meeting *meet, const ferry_forest *forest, const ferry_world *world)
{
    const int64_t halves = forest->join == FERRY_JOIN_LSE ? 2 : 1;
    for (int r = 0; r < world->size; r++) {
        meet->total += meet->roots[r];
        if (meet->roots[r] > meet->rounds) meet->rounds = meet->roots[r];
    }
    FERRY_TRY(ferry_alloc(&meet->names, meet->total));
    FERRY_TRY(ferry_alloc(&meet->nodes, meet->total));
    return ferry_alloc(&meet->values, meet->total * halves * meet->length[world->rank]);
}

/* Local. Where the slices of one round arrive: `at` is moved behind them. */
static void expect(struct meeting *meet, const ferry_world *world, int64_t round, int second, double **at)
{
    const int64_t length = meet->length[world->rank];
    int64_t name = round;
    for (int r = 0; r < world->size; r++) {
        meet->recv[r] = round < meet->roots[r] ? length : 0;
        if (round < meet->roots[r]) {
            struct node *node = &meet->nodes[name];
            *node = (struct node){.level = meet->names[name][0], .first = meet->names[name][1], .m = node->m};
            if (second)
                node->s = *at;
            else
                node->m = *at;
            *at += length;
        }
        name += meet->roots[r];
    }
}

/* Collective. Round i: every rank that has an i-th root sends its slices; a vector is its slices in rank order. */
static void send_slices(struct meeting *meet, const ferry_forest *forest, const ferry_world *world)
{
    const struct node *node = forest->roots;
    double *at = meet->values;
    for (int64_t round = 0; round < meet->rounds; round++) {
        for (int r = 0; r < world->size; r++) meet->send[r] = node ? meet->length[r] : 0;
        double *place = at;
        expect(meet, world, round, 0, &at);
        ferry_exchange(world, node ? node->m : NULL, meet->send, place, meet->recv, sizeof(double));
        if (forest->join == FERRY_JOIN_LSE) {
            place = at;
            expect(meet, world, round, 1, &at);
            ferry_exchange(world, node ? node->s : NULL, meet->send, place, meet->recv, sizeof(double));
        }
        if (node) node = node->next;
    }
}

static int by_first(const void *a, const void *b)
{
    int x = ((const struct node *)a)->first, y = ((const struct node *)b)->first;
    return (x < y) - (x > y); /* the largest first */
}

/* Local. My slice of the sum over all ranks. */
static const struct node *finish_slice(struct meeting *meet, const ferry_forest *forest, const ferry_world *world)
{
    struct node *rest = NULL;
    qsort(meet->nodes, (size_t)meet->total, sizeof *meet->nodes, by_first);
    for (int64_t i = 0; i + 1 < meet->total; i++) meet->nodes[i].next = &meet->nodes[i + 1];
    return finish(meet->nodes, forest->levels, forest->join, meet->length[world->rank], &rest);
}

static void empty_forest(ferry_forest *forest)
{
    while (forest->roots) {
        struct node *node = forest->roots;
        forest->roots = node->next;
        recycle(forest, node);
    }
}

/* Collective. */
static ferry_status reduce_tree(double *out, ferry_forest *forest, const ferry_world *world, struct meeting *meet)
{
    FERRY_TRY(ferry_agree(world, prepare_counts(meet, forest, world)));
    const int64_t roots = count_roots(forest);
    ferry_gather_all(world, &roots, meet->send, meet->roots, sizeof roots); /* send holds ones */
    FERRY_TRY(ferry_agree(world, prepare_slices(meet, forest, world)));
    double *second = forest->join == FERRY_JOIN_LSE ? out + forest->width / 2 : NULL;
    if (meet->total == 0) {
        fill_empty(out, second, forest->join, pairs(forest));
        return FERRY_OK;
    }
    ferry_gather_all(world, meet->mine, meet->roots, meet->names, sizeof *meet->names);
    send_slices(meet, forest, world);
    const struct node *slice = finish_slice(meet, forest, world);
    ferry_gather_all(world, slice->m, meet->length, out, sizeof *out);
    if (second) ferry_gather_all(world, slice->s, meet->length, second, sizeof *out);
    return FERRY_OK;
}

ferry_status ferry_forest_reduce(double *out, ferry_forest *forest, const ferry_world *world, ferry_reduction how)
{
    const int64_t shape[4] = {forest->width, forest->levels, (int64_t)forest->join, (int64_t)how};
    FERRY_TRY(ferry_same(world, "the shape of a sum over blocks", shape, sizeof shape));
    if (world->size == 1) {
        ferry_forest_root(out, forest);
        return FERRY_OK;
    }
    if (how == FERRY_REDUCE_MPI && forest->join != FERRY_JOIN_LSE) { /* MPI has no log-sum-exp */
        ferry_forest_root(out, forest);
        if (forest->join == FERRY_JOIN_MAX)
            ferry_max_doubles(world, out, forest->width);
        else
            ferry_total_doubles(world, out, forest->width);
        return FERRY_OK;
    }
    struct meeting meet = {0};
    ferry_status status = reduce_tree(out, forest, world, &meet);
    free_meeting(&meet);
    empty_forest(forest);
    return status;
}

/* The run with the most complete subtrees is 1 2 4 .. 4 2 1: 2 k of them for 2 (2^k - 1) blocks, and one more when
 * another 2^k fits into the middle. */
static int64_t most_roots(int blocks, int mine)
{
    int k = 31 - __builtin_clz((unsigned)mine / 2 + 1);
    int most = mine == blocks ? 31 - __builtin_clz((unsigned)blocks) : 2 * k + (mine >= 3 * ((int64_t)1 << k) - 2);
    return most < mine ? most : mine;
}

int64_t ferry_forest_bytes(int64_t width, int blocks, int mine)
{
    if (mine < 1) return (int64_t)sizeof(ferry_forest);
    int64_t vector = HEAD + width * (int64_t)sizeof(double), roots = most_roots(blocks, mine);
    int64_t received = mine == blocks ? 0 : roots; /* slices of all ranks' roots: as much as my own roots, nearly */
    return (int64_t)sizeof(ferry_forest) + (roots + 1 + received) * vector;
}

/* The adjacent-pair tree.
 *
 *   sum of blocks [0, 2^k) = sum of [0, 2^(k-1)) + sum of [2^(k-1), 2^k),   and so on down to single blocks
 *
 * A node is known by its level (2^level blocks) and its first block. Two siblings join as soon as both are there, so a
 * forest that sees a run of blocks holds only the roots of the complete subtrees of that run. A block that never comes
 * is neutral: its sibling is passed up as it is. Where the nodes were formed does not matter, hence the same bits for
 * every number of ranks and threads.
 * Over ranks: reduce_ranks.c. */
#include "mpi/reduce.h"
#include "mpi/memory.h"
#include "mpi/reduce_impl.h"
#include <math.h>
#include <string.h>

#define HEAD 64 /* bytes before the vector: keeps it aligned */
_Static_assert(sizeof(struct ferry_node) <= HEAD, "the node fits before its vector");

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

void ferry_node_join(ferry_join how, int64_t n, struct ferry_node *left, const struct ferry_node *right)
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

static int siblings(const struct ferry_node *right, const struct ferry_node *left)
{
    return left && right->level == left->level && left->first + (1 << left->level) == right->first &&
           (left->first >> left->level) % 2 == 0;
}

struct ferry_node *ferry_nodes_finish(struct ferry_node *list, int levels, ferry_join how, int64_t n,
                                      struct ferry_node **rest)
{
    for (int level = 0; level < levels; level++) {
        for (struct ferry_node **at = &list; *at; at = &(*at)->next) {
            struct ferry_node *right = *at, *left = right->next;
            if (right->level != level) continue;
            if (siblings(right, left)) {
                ferry_node_join(how, n, left, right);
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

void ferry_fill_empty(double *m, double *s, ferry_join how, int64_t n)
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

static void free_list(struct ferry_node *list)
{
    while (list) {
        struct ferry_node *next = list->next;
        free(list);
        list = next;
    }
}

void ferry_forest_close(ferry_forest **forest)
{
    if (!*forest) return;
    ferry_meeting_close(&(*forest)->meeting);
    free_list((*forest)->roots);
    free_list((*forest)->spare);
    free((*forest)->leaf);
    free(*forest);
    *forest = NULL;
}

static ferry_status new_node(struct ferry_node **out, const ferry_forest *forest)
{
    char *memory;
    FERRY_TRY(ferry_alloc_bytes(&memory, HEAD + forest->width * (int64_t)sizeof(double), 1));
    *out = (struct ferry_node *)(void *)memory;
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
    ferry_fill_empty(forest->leaf->m, forest->leaf->s, forest->join, ferry_forest_pairs(forest));
    *leaf = forest->leaf->m;
    return FERRY_OK;
}

static void recycle(ferry_forest *forest, struct ferry_node *node)
{
    node->next = forest->spare;
    forest->spare = node;
}

/* Put the node in its place, then join what has become complete. Only the new node can complete something: `before`
 * is the link to it, and a sibling is next to it on either side. */
static void insert(ferry_forest *forest, struct ferry_node *node)
{
    struct ferry_node **link = &forest->roots, *right = NULL;
    struct ferry_node **right_link = NULL;
    while (*link && (*link)->first > node->first) {
        right_link = link;
        right = *link;
        link = &right->next;
    }
    node->next = *link;
    *link = node;
    for (;;) {
        if (siblings(node, node->next)) { /* node is the right one */
            struct ferry_node *left = node->next;
            ferry_node_join(forest->join, ferry_forest_pairs(forest), left, node);
            *link = left;
            recycle(forest, node);
            node = left;
        } else if (right && siblings(right, node)) {
            ferry_node_join(forest->join, ferry_forest_pairs(forest), node, right);
            *right_link = node;
            recycle(forest, right);
            link = right_link;
            right = NULL; /* found again below */
            for (struct ferry_node **at = &forest->roots; *at != node; at = &(*at)->next) {
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
    struct ferry_node *node = forest->leaf;
    if (!node) return; /* no leaf was asked for */
    forest->leaf = NULL;
    node->level = 0;
    node->first = block;
    insert(forest, node);
}

void ferry_forest_merge(ferry_forest *into, ferry_forest *from)
{
    while (from->roots) {
        struct ferry_node *node = from->roots;
        from->roots = node->next;
        insert(into, node);
    }
}

void ferry_forest_empty(ferry_forest *forest)
{
    while (forest->roots) {
        struct ferry_node *node = forest->roots;
        forest->roots = node->next;
        recycle(forest, node);
    }
}

void ferry_forest_root(double *out, ferry_forest *forest)
{
    struct ferry_node *root =
        ferry_nodes_finish(forest->roots, forest->levels, forest->join, ferry_forest_pairs(forest), &forest->spare);
    forest->roots = NULL;
    if (!root) {
        ferry_fill_empty(out, forest->join == FERRY_JOIN_LSE ? out + forest->width / 2 : NULL, forest->join,
                         ferry_forest_pairs(forest));
        return;
    }
    memcpy(out, root->m, (size_t)forest->width * sizeof *out);
    recycle(forest, root);
}

/* The run with the most complete subtrees is 1 2 4 .. 4 2 1: 2 k of them for 2 (2^k - 1) blocks, and one more when
 * another 2^k fits into the middle. */
static int64_t most_roots(int blocks, int mine)
{
    int k = 31 - __builtin_clz((unsigned)mine / 2 + 1);
    int most = mine == blocks ? 31 - __builtin_clz((unsigned)blocks) : 2 * k + (mine >= 3 * ((int64_t)1 << k) - 2);
    return most < mine ? most : mine;
}

ferry_status ferry_forest_reserve(ferry_forest *forest, int mine)
{
    int64_t missing = mine > 0 ? most_roots(1 << forest->levels, mine) + 1 : 0;
    for (const struct ferry_node *node = forest->spare; node; node = node->next) missing--;
    for (; missing > 0; missing--) {
        struct ferry_node *node;
        FERRY_TRY(new_node(&node, forest));
        recycle(forest, node);
    }
    return FERRY_OK;
}

int64_t ferry_forest_bytes(int64_t width, int blocks, int mine)
{
    if (mine < 1) return (int64_t)sizeof(ferry_forest);
    int64_t vector = HEAD + width * (int64_t)sizeof(double), roots = most_roots(blocks, mine);
    int64_t received = mine == blocks ? 0 : roots; /* slices of all ranks' roots: as much as my own roots, nearly */
    return (int64_t)sizeof(ferry_forest) + (roots + 1 + received) * vector;
}

/** reduce_impl.h - between reduce.c (the tree on one rank) and reduce_ranks.c (over ranks), not for users. */
#ifndef FERRY_REDUCE_IMPL_H
#define FERRY_REDUCE_IMPL_H
#include "mpi/reduce.h"
/* A node; in a forest it stands in front of its vector. Lists are ordered by `first`, the largest first, so that blocks
 * which come in ascending order are put in at once. */
struct ferry_node {
    struct ferry_node *next;
    int level, first;
    double *m, *s; /* LSE: exponents and sums; otherwise the values and NULL */
};
struct ferry_meeting;
struct ferry_forest {
    int64_t width;
    int levels; /* 2^levels leaves */
    ferry_join join;
    struct ferry_node *roots, *spare, *leaf;
    struct ferry_meeting *meeting; /* over ranks: expected, or in progress */
    bool expected;                 /* the meeting stays from one reduction to the next */
};
/** Local. Numbers that are joined: width, or width / 2 pairs. */
static inline int64_t ferry_forest_pairs(const ferry_forest *forest)
{
    return forest->join == FERRY_JOIN_LSE ? forest->width / 2 : forest->width;
}
/** Local. left = left and right, elementwise. */
void ferry_node_join(ferry_join how, int64_t n, struct ferry_node *left, const struct ferry_node *right);
/** Local. The nodes under one root, by passing every lonely node up level by level; NULL if there are none. `rest` gets
 *  the nodes that were joined away. */
struct ferry_node *ferry_nodes_finish(struct ferry_node *list, int levels, ferry_join how, int64_t n,
                                      struct ferry_node **rest);
/** Local. n pairs without a block: 0, -inf, or both. */
void ferry_fill_empty(double *m, double *s, ferry_join how, int64_t n);
/** Local. All roots become spare nodes. */
void ferry_forest_empty(ferry_forest *forest);
/** Local. Spare nodes for a run of `mine` blocks in order. */
ferry_status ferry_forest_reserve(ferry_forest *forest, int mine);
/** Local. */
void ferry_meeting_close(struct ferry_meeting **meeting);
#endif

/** store_parts_impl.h - between store.c (what is kept) and store_pass.c (passes over it) (not installed). */
#ifndef FERRY_STORE_PARTS_IMPL_H
#define FERRY_STORE_PARTS_IMPL_H
#include "kernels/halves.h"
#include "sinkhorn_pass_impl.h"
#include "store_impl.h"
FERRY_BEGIN
#define FERRY_STORE_LOST 0x1p-6 /* mass of columns that may have lost most of their sum */
/** What is kept of a panel. */
typedef struct ferry_stored {
    uint16_t *halves[2]; /* [count][12][32] the upper 12 rows, the lower */
    int32_t *unit;       /* [count] their units, ascending */
    int32_t *first;      /* [blocks + 1] the first of each canonical target block among them */
    int64_t count;
} ferry_stored;

/** Memory of one thread: chunks that are filled one after the other, and used again by the next fill. */
typedef struct ferry_arena {
    struct ferry_chunk *chunks; /* [count] */
    int count, now;             /* how many; the one that is being filled */
    size_t used;                /* bytes of it */
} ferry_arena;

/** What was not kept, by groups (store_rest.c); all NULL where no mass between groups is wanted. */
typedef struct ferry_rest {
    const ferry_groups *groups;
    double units;   /* whole numbers per mass */
    double *row;    /* [rows] rho */
    double *column; /* [columns] gamma */
    double *matrix; /* [count][count] Qr / (R G) */
    double *e, *f;  /* [count] what a row gets per rho; a column per gamma */
    double *given;  /* [count] sums of q_i rho_i over the rows of each group */
    int64_t *sums;  /* [threads][count] the same as whole numbers */
    int64_t *kept;  /* [threads + 1][count][count] mass between groups of what was kept; of all */
} ferry_rest;

struct ferry_store {
    ferry_rest groups_rest;
    const ferry_halves *kernels;
    int threads;
    int64_t bytes, used, tiles; /* allowed; of what is kept; how many */
    int over, bad;              /* room ran out; a density is no number, or there was no room for the lists */
    bool several;               /* threads on some rank: blocks come in no order, and room for them may run out */
    bool again;                 /* tiles are evaluated again where the lists say (store_again.c) */
    int64_t listed;             /* bytes of the lists */
    bool usable;
    double share;
    int64_t panels, rows, units, columns;
    int blocks;            /* canonical target blocks here */
    ferry_arena *arena;    /* [threads] of upper rows and lists of units, */
    ferry_arena *lower;    /* [threads] of lower rows */
    ferry_arena *lists;    /* [threads] of pieces */
    ferry_pieces *pieces;  /* [panels] what weighs */
    int32_t *list;         /* [threads][units] units of the panel being kept */
    ferry_stored *panel;   /* [panels] */
    double targets, times; /* t; 2^k, near 1 over a row's mass */
    float cut;
    double *f, *r, *rho;   /* [rows] at the dense pass, and its correction */
    double *g, *c, *gamma; /* [columns] */
    double *rest;          /* [columns] what those lost that have no gamma */
    /* of a pass */
    float *w, *group_w;     /* [columns] w_j; the same with gamma_j */
    double *rest_now;       /* [columns] rest_j w_j */
    double *moves;          /* [columns] w_j, however large */
    double *kept;           /* [columns] column sums of what was kept, at w = q = 1 */
    double *factor;         /* [columns] from sums of q_i r_i 2^k D_ij to column sums */
    double *sums;           /* [rows] over all columns, where the grid has several */
    ferry_forest *forest;   /* [rows] over target blocks, likewise */
    int32_t *unit_group;    /* [units] the group of all its columns, or -1 */
    unsigned char *touched; /* [threads][units] */
};

/** Local. A pass: threads over whole canonical source blocks. */
typedef struct ferry_store_pass {
    ferry_store *store;
    ferry_sinkhorn *s;
    bool calibrating; /* w = 1 and q = 1: rho comes out, and raw column sums in store->factor */
    int lost;         /* a row kept less than half of its sum */
} ferry_store_pass;
/** Local. Room at the end of an arena; NULL where there is none. */
char *ferry_arena_room(ferry_arena *arena, size_t bytes);
/** Local. The panel's units [count] that weigh become its pieces; false where there is no room for them. */
bool ferry_store_list(ferry_store *store, const ferry_cost *cost, int64_t index, const int32_t *list, int64_t count,
                      int thread);
/** Collective. ferry_store_calibrate and ferry_store_iterate where tiles are evaluated again. */
ferry_status ferry_store_calibrate_again(ferry_store *store, ferry_sinkhorn *s, bool *lost);
ferry_status ferry_store_iterate_again(ferry_store *store, ferry_sinkhorn *s);
/** Local. Allocates once. */
ferry_status ferry_rest_open(ferry_rest *rest, const ferry_store *store, const ferry_groups *groups);
void ferry_rest_close(ferry_rest *rest);
/** Collective. From a pass at w = 1, q = 1 (store->rho: row's whole over kept; store->kept; rest->kept) the rest, and
 *  store->rho, store->gamma with it. */
ferry_status ferry_rest_take(ferry_rest *rest, ferry_store *store, ferry_sinkhorn *s);
/** Collective. Before a pass: what rows get, at store->moves. */
void ferry_rest_begin(ferry_rest *rest, const ferry_store *store, const ferry_sinkhorn *s);
/** Local, by one thread. What row i gets. */
static inline double ferry_rest_of_row(const ferry_rest *rest, int64_t i)
{
    return rest->matrix ? rest->row[i] * rest->e[rest->groups->group[i]] : 0;
}
/** Local, by one thread. Row i gives q times its rest. */
static inline void ferry_rest_give(ferry_rest *rest, int64_t i, double q, int thread)
{
    if (rest->matrix)
        rest->sums[(int64_t)thread * rest->groups->count + rest->groups->group[i]] +=
            ferry_exact(q * rest->row[i], rest->units);
}
/** Collective. After it: columns and the mass between groups gain their part. */
void ferry_rest_end(ferry_rest *rest, const ferry_store *store, ferry_sinkhorn *s);
/** Collective. rho and gamma; *lost, the same on all ranks: a row or column kept less than half of its sum. */
ferry_status ferry_store_calibrate(ferry_store *store, ferry_sinkhorn *s, bool *lost);
FERRY_END
#endif

/* The adjacent-pair tree over ranks. MPI only moves data; additions are ours, in the tree's order.
 *
 * Halving and doubling, where P is a power of two and every rank has one root of the same size (what whole blocks dealt
 * evenly give): at distance 1, 2, 4, ... two ranks swap halves of the range they share and join them, so that ranks
 * hold ever larger subtrees of ever shorter ranges; then the ranges are put together in the opposite order. The last
 * distance, and short ranges at any, go whole: as many bytes (a few more), half the messages. Per rank, w numbers: 2
 * log2(P) - 1 messages, 8 (2 (P-1)/P) w bytes;   for w <= FERRY_FOREST_WHOLE: log2(P) messages, 8 log2(P) w bytes
 *
 * Slices, everywhere else: rank r gets slice r of every root of every rank, finishes the tree for that slice and sends
 * it to all. With k roots on this rank: 2 (P-1) messages, 8 (k + 1) (P-1)/P w bytes
 *
 * Both go on in steps whenever progress is asked for. The order of messages between two ranks is the same on both sides
 * because reductions over one world follow each other. */
#include "mpi/exchange.h"
#include "mpi/memory.h"
#include "mpi/reduce_impl.h"
#include "mpi/stage.h"
#include "mpi/world_impl.h"
#include <string.h>

#define TAG    19
#define LEVELS 31  /* ranks are int */
#define PARTS  128 /* of one message */

struct ferry_meeting {
    const ferry_world *world;
    int64_t *roots;           /* [ranks] how many each rank has */
    int (*names)[2];          /* [total] level and first of every root, by rank; each rank's in list order */
    int64_t total;            /* roots of all ranks */
    struct ferry_node *order; /* [total] as they are joined: the largest first; m NULL: a root of this rank */
    struct ferry_node *nodes; /* [total] the same at work */
    double *values;           /* what is received to be joined */
    MPI_Request *request;     /* [room] */
    int64_t room;
    int requests; /* of this step */
    bool running;
    int step, levels; /* levels: log2(ranks) where halves are swapped, else 0 */
    double *out;
    struct ferry_node here;                    /* halves: what this rank holds of its range */
    double *received;                          /* halves: of this step */
    int64_t low[LEVELS + 1], high[LEVELS + 1]; /* halves: range at each level */
};

static int64_t pieces(int64_t numbers)
{
    const int64_t most = FERRY_PIECE / (int64_t)sizeof(double);
    return (numbers + most - 1) / most;
}

static int planes(const ferry_forest *forest)
{
    return forest->join == FERRY_JOIN_LSE ? 2 : 1;
}

/* First number of slice r. */
static int64_t slice_at(const ferry_forest *forest, int ranks, int r)
{
    const int64_t n = ferry_forest_pairs(forest), rest = n % ranks;
    return n / ranks * r + (r < rest ? r : rest);
}

void ferry_meeting_close(struct ferry_meeting **meeting)
{
    if (!*meeting) return;
    free((*meeting)->roots);
    free((*meeting)->names);
    free((*meeting)->order);
    free((*meeting)->nodes);
    free((*meeting)->values);
    free((*meeting)->request);
    free(*meeting);
    *meeting = NULL;
}

/* --- what is known before: roots and memory --- */

/* Size of the complete subtree that begins a run of blocks. */
static int first_level(int first, int end)
{
    int level = 0;
    while (first % (2 << level) == 0 && first + (2 << level) <= end) level++;
    return level;
}
static int64_t roots_of_run(int first, int end)
{
    int64_t count = 0;
    for (; first < end; count++) first += 1 << first_level(first, end);
    return count;
}

int64_t ferry_forest_roots(const ferry_shards *shards, int part)
{
    return roots_of_run(shards->block[part], shards->block[part + 1]);
}

static bool halves_serve(const struct ferry_meeting *meet)
{
    const int ranks = meet->world->size;
    if (ranks & (ranks - 1)) return false;
    for (int r = 0; r < ranks; r++)
        if (meet->roots[r] != 1 || meet->names[r][0] != meet->names[0][0] ||
            meet->names[r][1] != r << meet->names[0][0])
            return false;
    return true;
}

/* Is the range of a level swapped whole? */
static bool whole(const struct ferry_meeting *meet, int level)
{
    return level == meet->levels - 1 || meet->high[level] - meet->low[level] <= FERRY_FOREST_WHOLE;
}

/* Ranges of all levels; returns numbers received on the way. */
static int64_t find_ranges(struct ferry_meeting *meet, int64_t n)
{
    int64_t received = 0;
    meet->low[0] = 0;
    meet->high[0] = n;
    for (int k = 0; k < meet->levels; k++) {
        const int64_t low = meet->low[k], high = meet->high[k], middle = low + (high - low + 1) / 2;
        const bool upper = meet->world->rank >> k & 1;
        meet->low[k + 1] = upper && !whole(meet, k) ? middle : low;
        meet->high[k + 1] = upper || whole(meet, k) ? high : middle;
        received += meet->high[k + 1] - meet->low[k + 1];
    }
    return received;
}

static int by_first(const void *a, const void *b)
{
    int x = ((const struct ferry_node *)a)->first, y = ((const struct ferry_node *)b)->first;
    return (x < y) - (x > y); /* the largest first */
}

/* Where the slices of all roots arrive. */
static void lay_out_slices(struct ferry_meeting *meet, const ferry_forest *forest)
{
    const ferry_world *world = meet->world;
    const int64_t mine = slice_at(forest, world->size, world->rank + 1) - slice_at(forest, world->size, world->rank);
    double *at = meet->values;
    for (int64_t r = 0, i = 0; r < world->size; r++)
        for (int64_t k = 0; k < meet->roots[r]; k++, i++) {
            meet->order[i] = (struct ferry_node){.level = meet->names[i][0], .first = meet->names[i][1]};
            if (r == world->rank) continue;
            meet->order[i].m = at;
            meet->order[i].s = planes(forest) == 2 ? at + mine : NULL;
            at += planes(forest) * mine;
        }
    qsort(meet->order, (size_t)meet->total, sizeof *meet->order, by_first);
}

/* Local. roots and names are there; everything else follows. */
static ferry_status prepare(struct ferry_meeting *meet, const ferry_forest *forest)
{
    const ferry_world *world = meet->world;
    const int64_t n = ferry_forest_pairs(forest), others = world->size - 1, both = planes(forest);
    const int64_t mine = slice_at(forest, world->size, world->rank + 1) - slice_at(forest, world->size, world->rank);
    meet->levels = halves_serve(meet) ? __builtin_ctz((unsigned)world->size) : 0;
    if (meet->levels > 0) {
        FERRY_TRY(ferry_alloc(&meet->values, both * find_ranges(meet, n)));
        meet->room = 2 * both * pieces(n);
    } else {
        FERRY_TRY(ferry_alloc(&meet->order, meet->total));
        FERRY_TRY(ferry_alloc(&meet->nodes, meet->total));
        FERRY_TRY(ferry_alloc(&meet->values, both * mine * (meet->total - meet->roots[world->rank])));
        meet->room = both * pieces(n / world->size + 1) * (others * (meet->roots[world->rank] + 2) + meet->total);
        lay_out_slices(meet, forest);
    }
    if (meet->room < pieces(forest->width)) meet->room = pieces(forest->width); /* MPI's own reduction */
    return ferry_alloc_bytes(&meet->request, meet->room, sizeof(MPI_Request));
}

/* Local. */
static ferry_status open_meeting(struct ferry_meeting **out, const ferry_world *world)
{
    FERRY_TRY(ferry_alloc(out, 1));
    (*out)->world = world;
    return ferry_alloc(&(*out)->roots, world->size);
}

ferry_status ferry_forest_expect(ferry_forest *forest, const ferry_shards *shards, const ferry_world *world)
{
    const int me = world->rank;
    FERRY_TRY(ferry_forest_reserve(forest, shards->block[me + 1] - shards->block[me]));
    forest->expected = true;
    if (world->size == 1) return FERRY_OK;
    ferry_meeting_close(&forest->meeting);
    FERRY_TRY(open_meeting(&forest->meeting, world));
    struct ferry_meeting *meet = forest->meeting;
    for (int r = 0; r < world->size; r++) meet->total += meet->roots[r] = ferry_forest_roots(shards, r);
    FERRY_TRY(ferry_alloc(&meet->names, meet->total));
    for (int64_t r = 0, i = 0; r < world->size; i += meet->roots[r], r++) {
        int first = shards->block[r];
        for (int64_t k = meet->roots[r] - 1; k >= 0; k--) { /* lists begin with the last */
            const int level = first_level(first, shards->block[r + 1]);
            meet->names[i + k][0] = level;
            meet->names[i + k][1] = first;
            first += 1 << level;
        }
    }
    return prepare(meet, forest);
}

static int64_t count_roots(const ferry_forest *forest)
{
    int64_t count = 0;
    for (const struct ferry_node *node = forest->roots; node; node = node->next) count++;
    return count;
}

/* What this rank tells of its roots. */
struct told {
    int64_t *ones;  /* [ranks] */
    int (*mine)[2]; /* [my roots] */
};

/* Local. */
static ferry_status prepare_names(struct told *told, ferry_forest *forest, const ferry_world *world)
{
    int64_t i = 0;
    FERRY_TRY(open_meeting(&forest->meeting, world));
    FERRY_TRY(ferry_alloc(&told->ones, world->size));
    FERRY_TRY(ferry_alloc(&told->mine, count_roots(forest)));
    for (int r = 0; r < world->size; r++) told->ones[r] = 1;
    for (const struct ferry_node *node = forest->roots; node; node = node->next, i++) {
        told->mine[i][0] = node->level;
        told->mine[i][1] = node->first;
    }
    return FERRY_OK;
}

/* Collective. Nothing was expected: every rank says what it has. */
static ferry_status tell(struct told *told, ferry_forest *forest, const ferry_world *world)
{
    FERRY_TRY(ferry_agree(world, prepare_names(told, forest, world)));
    struct ferry_meeting *meet = forest->meeting;
    const int64_t roots = count_roots(forest);
    ferry_gather_all(world, &roots, told->ones, meet->roots, sizeof roots);
    for (int r = 0; r < world->size; r++) meet->total += meet->roots[r];
    FERRY_TRY(ferry_agree(world, ferry_alloc(&meet->names, meet->total)));
    ferry_gather_all(world, told->mine, meet->roots, meet->names, sizeof *meet->names);
    return ferry_agree(world, prepare(meet, forest));
}

/* --- steps --- */

static void send(struct ferry_meeting *meet, const double *data, int64_t count, int to)
{
    const int64_t most = FERRY_PIECE / (int64_t)sizeof *data;
    for (int64_t at = 0; at < count; at += most) {
        const int64_t now = count - at < most ? count - at : most;
        ferry_stage_sent(now * (int64_t)sizeof *data);
        MPI_Isend(data + at, (int)now, MPI_DOUBLE, to, TAG, meet->world->comm, &meet->request[meet->requests++]);
    }
}
static void receive(struct ferry_meeting *meet, double *data, int64_t count, int from)
{
    const int64_t most = FERRY_PIECE / (int64_t)sizeof *data;
    for (int64_t at = 0; at < count; at += most) {
        const int64_t now = count - at < most ? count - at : most;
        MPI_Irecv(data + at, (int)now, MPI_DOUBLE, from, TAG, meet->world->comm, &meet->request[meet->requests++]);
    }
}

/* Both planes of numbers from `first` on of a vector. */
static void send_both(struct ferry_meeting *meet, const ferry_forest *forest, const struct ferry_node *node,
                      int64_t first, int64_t count, int to)
{
    send(meet, node->m + first, count, to);
    if (planes(forest) == 2) send(meet, node->s + first, count, to);
}
static void receive_both(struct ferry_meeting *meet, const ferry_forest *forest, const struct ferry_node *node,
                         int64_t first, int64_t count, int from)
{
    receive(meet, node->m + first, count, from);
    if (planes(forest) == 2) receive(meet, node->s + first, count, from);
}

static struct ferry_node result_of(const struct ferry_meeting *meet, const ferry_forest *forest)
{
    return (struct ferry_node){.m = meet->out, .s = planes(forest) == 2 ? meet->out + forest->width / 2 : NULL};
}

/* Can the slices of `roots` roots go as one message? Both sides ask. */
static bool together(const ferry_forest *forest, int64_t roots, int64_t count)
{
    const int64_t parts = roots * planes(forest);
    return parts > 1 && parts <= PARTS && count > 0 && parts * count <= FERRY_PIECE / (int64_t)sizeof(double);
}
static void send_together(struct ferry_meeting *meet, const ferry_forest *forest, int64_t first, int64_t count, int to)
{
    MPI_Datatype type;
    MPI_Aint at[PARTS];
    int parts = 0;
    for (const struct ferry_node *node = forest->roots; node; node = node->next) {
        MPI_Get_address(node->m + first, &at[parts++]);
        if (node->s) MPI_Get_address(node->s + first, &at[parts++]);
    }
    MPI_Type_create_hindexed_block(parts, (int)count, at, MPI_DOUBLE, &type);
    MPI_Type_commit(&type);
    ferry_stage_sent(parts * count * (int64_t)sizeof(double));
    MPI_Isend(MPI_BOTTOM, 1, type, to, TAG, meet->world->comm, &meet->request[meet->requests++]);
    MPI_Type_free(&type);
}

/* Step 0 of slices: to and from every rank. Receives come in the order of the senders' lists. */
static void post_slices(struct ferry_meeting *meet, const ferry_forest *forest)
{
    const ferry_world *world = meet->world;
    const int64_t mine = slice_at(forest, world->size, world->rank + 1) - slice_at(forest, world->size, world->rank);
    struct ferry_node at = {.m = meet->values, .s = meet->values + mine};
    for (int r = 0; r < world->size; r++) {
        if (r == world->rank) continue;
        const int64_t numbers = meet->roots[r] * planes(forest) * mine;
        if (together(forest, meet->roots[r], mine)) receive(meet, at.m, numbers, r);
        for (int64_t k = 0; k < meet->roots[r] && !together(forest, meet->roots[r], mine); k++) {
            const struct ferry_node one = {.m = at.m + k * planes(forest) * mine,
                                           .s = at.s + k * planes(forest) * mine};
            receive_both(meet, forest, &one, 0, mine, r);
        }
        at.m += numbers;
        at.s += numbers;
    }
    for (int k = 1; k < world->size; k++) {
        const int to = (world->rank + k) % world->size;
        const int64_t first = slice_at(forest, world->size, to), end = slice_at(forest, world->size, to + 1);
        if (together(forest, meet->roots[world->rank], end - first)) {
            send_together(meet, forest, first, end - first, to);
            continue;
        }
        for (const struct ferry_node *node = forest->roots; node; node = node->next)
            send_both(meet, forest, node, first, end - first, to);
    }
}

/* Local. My slice of the sum over all ranks. */
static const struct ferry_node *finish_slice(struct ferry_meeting *meet, const ferry_forest *forest, int64_t first,
                                             int64_t count)
{
    struct ferry_node *rest = NULL, *own = forest->roots;
    for (int64_t i = 0; i < meet->total; i++) {
        struct ferry_node *node = &meet->nodes[i];
        *node = meet->order[i];
        node->next = i + 1 < meet->total ? node + 1 : NULL;
        if (node->m || !own || own->first != node->first) continue;
        node->m = own->m + first;
        node->s = own->s ? own->s + first : NULL;
        own = own->next;
    }
    return ferry_nodes_finish(meet->nodes, forest->levels, forest->join, count, &rest);
}

/* Step 1 of slices: my slice is known, to all. */
static void post_result(struct ferry_meeting *meet, const ferry_forest *forest)
{
    const ferry_world *world = meet->world;
    const struct ferry_node result = result_of(meet, forest);
    const int64_t first = slice_at(forest, world->size, world->rank);
    const int64_t count = slice_at(forest, world->size, world->rank + 1) - first;
    const struct ferry_node *slice = finish_slice(meet, forest, first, count);
    if (!slice) {
        ferry_fill_empty(result.m, result.s, forest->join, ferry_forest_pairs(forest));
        return;
    }
    memcpy(result.m + first, slice->m, (size_t)count * sizeof *slice->m);
    if (result.s) memcpy(result.s + first, slice->s, (size_t)count * sizeof *slice->s);
    for (int k = 1; k < world->size; k++) {
        const int to = (world->rank + k) % world->size, from = (world->rank - k + world->size) % world->size;
        const int64_t other = slice_at(forest, world->size, from), end = slice_at(forest, world->size, from + 1);
        receive_both(meet, forest, &result, other, end - other, from);
        send_both(meet, forest, &result, first, count, to);
    }
}

/* Level k: send the half that is the other's, receive mine. */
static void post_halves(struct ferry_meeting *meet, const ferry_forest *forest, int k)
{
    const int other = meet->world->rank ^ 1 << k;
    const int64_t low = meet->low[k], length = meet->high[k] - low;
    const int64_t mine = meet->low[k + 1] - low, count = meet->high[k + 1] - meet->low[k + 1];
    const struct ferry_node at = {.m = meet->received, .s = meet->received + count};
    receive_both(meet, forest, &at, 0, count, other);
    if (count == length)
        send_both(meet, forest, &meet->here, 0, length, other);
    else
        send_both(meet, forest, &meet->here, mine > 0 ? 0 : count, length - count, other);
}
/* Level k has arrived: the lower rank's is the left one. */
static void join_halves(struct ferry_meeting *meet, const ferry_forest *forest, int k)
{
    const int64_t mine = meet->low[k + 1] - meet->low[k], count = meet->high[k + 1] - meet->low[k + 1];
    struct ferry_node own = meet->here, other = {.m = meet->received};
    own.m += mine;
    if (planes(forest) == 2) {
        own.s += mine;
        other.s = other.m + count;
    }
    const bool upper = meet->world->rank >> k & 1;
    ferry_node_join(forest->join, count, upper ? &other : &own, upper ? &own : &other);
    meet->here = upper ? other : own;
    meet->received += planes(forest) * count;
}
/* Back: ranges of level k + 1 become those of level k. */
static void post_doubling(struct ferry_meeting *meet, const ferry_forest *forest, int k)
{
    const int other = meet->world->rank ^ 1 << k;
    const struct ferry_node result = result_of(meet, forest);
    const int64_t low = meet->low[k + 1], high = meet->high[k + 1];
    const bool lower = low == meet->low[k];
    receive_both(meet, forest, &result, lower ? high : meet->low[k], lower ? meet->high[k] - high : low - meet->low[k],
                 other);
    send_both(meet, forest, &result, low, high - low, other);
}

static void take_range(struct ferry_meeting *meet, const ferry_forest *forest)
{
    const int64_t low = meet->low[meet->levels], count = meet->high[meet->levels] - low;
    const struct ferry_node result = result_of(meet, forest);
    memcpy(result.m + low, meet->here.m, (size_t)count * sizeof *result.m);
    if (result.s) memcpy(result.s + low, meet->here.s, (size_t)count * sizeof *result.s);
}

/* What has arrived is worked on and the next messages are posted; false when there are none. */
static bool next_step(ferry_forest *forest)
{
    struct ferry_meeting *meet = forest->meeting;
    const int step = meet->step++, levels = meet->levels;
    meet->requests = 0;
    if (levels == 0) {
        if (step == 1) post_result(meet, forest);
        return step < 2;
    }
    if (step > 0 && step <= levels) join_halves(meet, forest, step - 1);
    if (step < levels) post_halves(meet, forest, step);
    if (step == levels) take_range(meet, forest);
    if (step >= levels && step < 2 * levels && !whole(meet, 2 * levels - 1 - step))
        post_doubling(meet, forest, 2 * levels - 1 - step);
    return step < 2 * levels;
}

/* MPI's own order of additions. */
static void start_mpi(double *out, ferry_forest *forest)
{
    struct ferry_meeting *meet = forest->meeting;
    const int64_t most = FERRY_PIECE / (int64_t)sizeof *out;
    const MPI_Op op = forest->join == FERRY_JOIN_MAX ? MPI_MAX : MPI_SUM;
    ferry_forest_root(out, forest);
    meet->step = meet->levels > 0 ? 2 * meet->levels : 2; /* nothing follows */
    for (int64_t at = 0; at < forest->width; at += most) {
        const int64_t now = forest->width - at < most ? forest->width - at : most;
        ferry_stage_sent(now * (int64_t)sizeof *out);
        MPI_Iallreduce(MPI_IN_PLACE, out + at, (int)now, MPI_DOUBLE, op, meet->world->comm,
                       &meet->request[meet->requests++]);
    }
}

static void start(double *out, ferry_forest *forest, ferry_reduction how)
{
    struct ferry_meeting *meet = forest->meeting;
    meet->running = true;
    meet->requests = meet->step = 0;
    meet->out = out;
    if (how == FERRY_REDUCE_MPI && forest->join != FERRY_JOIN_LSE) { /* MPI has no log-sum-exp */
        start_mpi(out, forest);
        return;
    }
    if (meet->roots[meet->world->rank] != count_roots(forest))
        ferry_abort(meet->world, ferry_fail(FERRY_E_MPI, "a sum over blocks lacks some of the blocks it was to have"));
    if (meet->levels > 0) {
        meet->here = *forest->roots;
        meet->received = meet->values;
        next_step(forest);
    } else {
        meet->step = 1;
        post_slices(meet, forest);
    }
}

void ferry_forest_start(double *out, ferry_forest *forest, ferry_reduction how)
{
    if (forest->meeting)
        start(out, forest, how);
    else
        ferry_forest_root(out, forest);
}

bool ferry_forest_progress(ferry_forest *forest)
{
    struct ferry_meeting *meet = forest->meeting;
    while (meet && meet->running) {
        int done;
        MPI_Testall(meet->requests, meet->request, &done, MPI_STATUSES_IGNORE);
        if (!done) return false;
        meet->running = next_step(forest);
    }
    return true;
}

void ferry_forest_finish(ferry_forest *forest)
{
    struct ferry_meeting *meet = forest->meeting;
    while (meet && meet->running) {
        MPI_Waitall(meet->requests, meet->request, MPI_STATUSES_IGNORE);
        meet->running = next_step(forest);
    }
    ferry_forest_empty(forest);
}

ferry_status ferry_forest_reduce(double *out, ferry_forest *forest, const ferry_world *world, ferry_reduction how)
{
    const int64_t shape[4] = {forest->width, forest->levels, (int64_t)forest->join, (int64_t)how};
    FERRY_TRY(ferry_same(world, "the shape of a sum over blocks", shape, sizeof shape));
    if (world->size == 1) {
        ferry_forest_root(out, forest);
        return FERRY_OK;
    }
    struct told told = {0};
    ferry_status status = forest->expected ? FERRY_OK : tell(&told, forest, world);
    if (status == FERRY_OK) start(out, forest, how);
    if (status == FERRY_OK) ferry_forest_finish(forest);
    free(told.ones);
    free(told.mine);
    if (!forest->expected) ferry_meeting_close(&forest->meeting);
    ferry_forest_empty(forest);
    return status;
}

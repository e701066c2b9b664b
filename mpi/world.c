#define _GNU_SOURCE /* nanosleep */
/* The meetings. MPI's own errors stay fatal on our communicators (MPI_ERRORS_ARE_FATAL), so its return codes need no
 * test; what can fail on one rank alone is local work, and that meets in ferry_agree. */
#include "mpi/world.h"
#include "mpi/stage.h"
#include "mpi/world_impl.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Set by the first world, equal on all ranks: the environment may differ between nodes. */
static struct {
    int rank;           /* in the first world */
    int safe;           /* FERRY_SAFE: compare collective arguments */
    int ranks_per_node; /* FERRY_RANKS_PER_NODE: behave as if nodes held so many ranks, for tests; 0 = as they are */
} first = {-1, 0, 0};

long ferry_planned_now(struct ferry_planned *planned, const char *variable)
{
    static atomic_flag busy = ATOMIC_FLAG_INIT; /* threads allocate */
    const char *text = getenv(variable);
    if (!text) return 0;
    char *end;
    long n = strtol(text, &end, 10);
    if (*end != ':' || strtol(end + 1, NULL, 10) != first.rank) return 0;
    while (atomic_flag_test_and_set(&busy)) continue;
    if (strncmp(planned->text, text, sizeof planned->text - 1) != 0) {
        snprintf(planned->text, sizeof planned->text, "%s", text);
        planned->calls = 0;
    }
    long call = ++planned->calls;
    atomic_flag_clear(&busy);
    return call == n ? n : 0;
}

static int number_in_environment(const char *name)
{
    const char *text = getenv(name);
    long value = text ? strtol(text, NULL, 10) : 0;
    return value > 0 && value < 1 << 20 ? (int)value : 0;
}

static void remember_first(MPI_Comm comm, int rank)
{
    if (first.rank >= 0) return;
    first.rank = rank;
    int mine[2] = {number_in_environment("FERRY_SAFE"), number_in_environment("FERRY_RANKS_PER_NODE")}, all[2];
    MPI_Allreduce(mine, all, 2, MPI_INT, MPI_MAX, comm);
    first.safe = all[0];
    first.ranks_per_node = all[1];
}

/* Takes over comm, which is ours. */
static void settle(ferry_world *out, MPI_Comm comm)
{
    memset(out, 0, sizeof *out);
    out->comm = comm;
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_ARE_FATAL);
    MPI_Comm_rank(comm, &out->rank);
    MPI_Comm_size(comm, &out->size);
    remember_first(comm, out->rank);
    MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, out->rank, MPI_INFO_NULL, &out->node);
    if (first.ranks_per_node > 0) {
        MPI_Comm whole = out->node;
        MPI_Comm_split(whole, first.rank / first.ranks_per_node, out->rank, &out->node);
        MPI_Comm_free(&whole);
    }
    MPI_Comm_rank(out->node, &out->node_rank);
    MPI_Comm_size(out->node, &out->node_size);
    int leader = out->node_rank == 0;
    MPI_Allreduce(&leader, &out->nodes, 1, MPI_INT, MPI_SUM, comm);
}

ferry_status ferry_world_open(ferry_world *out, MPI_Comm comm)
{
    MPI_Comm own;
    MPI_Comm_dup(comm, &own);
    settle(out, own);
    return FERRY_OK;
}

ferry_status ferry_world_split(ferry_world *out, const ferry_world *world, int color, int key)
{
    MPI_Comm own;
    MPI_Comm_split(world->comm, color, key, &own);
    settle(out, own);
    return FERRY_OK;
}

void ferry_world_close(ferry_world *world)
{
    if (world->size > 0) {
        MPI_Comm_free(&world->node);
        MPI_Comm_free(&world->comm);
    }
    memset(world, 0, sizeof *world);
}

/* FERRY_FAIL=<n>:<rank> makes the n-th meeting of one rank fail: tests walk n upward until nothing fails. */
static ferry_status injected(ferry_status mine)
{
    static struct ferry_planned meetings;
    long n = ferry_planned_now(&meetings, "FERRY_FAIL");
    return n ? ferry_fail(FERRY_E_NUMERIC, "injected at meeting %ld", n) : mine;
}

ferry_status(ferry_agree)(const ferry_world *world, ferry_status mine) /* the function, not the analyser's macro */
{
    mine = injected(mine);
    struct {
        int code, rank;
    } in = {mine, world->rank}, worst;
    if (world->size > 1) ferry_stage_sent(sizeof in);
    MPI_Allreduce(&in, &worst, 1, MPI_2INT, MPI_MINLOC, world->comm);
    if (worst.code == FERRY_OK) return FERRY_OK;
    struct {
        char text[FERRY_ERROR_TEXT], place[256];
    } told;
    memset(&told, 0, sizeof told);
    if (world->rank == worst.rank) {
        snprintf(told.text, sizeof told.text, "%s", ferry_error());
        snprintf(told.place, sizeof told.place, "rank %d, %.200s", first.rank, ferry_error_place());
    }
    MPI_Bcast(&told, sizeof told, MPI_BYTE, worst.rank, world->comm);
    ferry_error_set(told.text, told.place);
    return (ferry_status)worst.code;
}

void ferry_abort(const ferry_world *world, ferry_status why)
{
    fprintf(stderr, "cellferry: rank %d: %s (%s)\n", world->rank, ferry_error(), ferry_error_place());
    MPI_Abort(MPI_COMM_WORLD, ferry_exit_code(why));
    abort();
}

const char *ferry_mpi_version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    if (!*text) MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = 0; /* the rest names the builder's machine */
    return text;
}

void ferry_broadcast(const ferry_world *world, void *data, size_t bytes, int root)
{
    if (world->size == 1) return;
    if (world->rank == root) ferry_stage_sent((int64_t)bytes);
    for (size_t at = 0; at < bytes; at += FERRY_PIECE) {
        size_t piece = bytes - at < FERRY_PIECE ? bytes - at : FERRY_PIECE;
        MPI_Bcast((char *)data + at, (int)piece, MPI_BYTE, root, world->comm);
    }
}

static int64_t combine(const ferry_world *world, int64_t mine, MPI_Op op)
{
    int64_t all;
    if (world->size > 1) ferry_stage_sent(sizeof mine);
    MPI_Allreduce(&mine, &all, 1, MPI_INT64_T, op, world->comm);
    return all;
}

int64_t ferry_max(const ferry_world *world, int64_t mine)
{
    return combine(world, mine, MPI_MAX);
}

int64_t ferry_min(const ferry_world *world, int64_t mine)
{
    return combine(world, mine, MPI_MIN);
}

int64_t ferry_total(const ferry_world *world, int64_t mine)
{
    return combine(world, mine, MPI_SUM);
}

double ferry_max_double(const ferry_world *world, double mine)
{
    ferry_max_doubles(world, &mine, 1);
    return mine;
}

int64_t ferry_before(const ferry_world *world, int64_t mine)
{
    int64_t before = 0;
    if (world->size > 1) ferry_stage_sent(sizeof mine);
    MPI_Exscan(&mine, &before, 1, MPI_INT64_T, MPI_SUM, world->comm);
    return world->rank ? before : 0; /* MPI leaves rank 0's undefined */
}

/* In place, in pieces that an int can count. Both types have 8 bytes. */
static void combine_many(const ferry_world *world, void *values, int64_t count, MPI_Datatype type, MPI_Op op)
{
    const int64_t most = FERRY_PIECE / 8;
    if (world->size == 1) return;
    ferry_stage_sent(count * 8);
    for (int64_t at = 0; at < count; at += most) {
        int64_t piece = count - at < most ? count - at : most;
        MPI_Allreduce(MPI_IN_PLACE, (char *)values + at * 8, (int)piece, type, op, world->comm);
    }
}

void ferry_max_doubles(const ferry_world *world, double *values, int64_t count)
{
    combine_many(world, values, count, MPI_DOUBLE, MPI_MAX);
}

void ferry_total_doubles(const ferry_world *world, double *values, int64_t count)
{
    combine_many(world, values, count, MPI_DOUBLE, MPI_SUM);
}

void ferry_total_counts(const ferry_world *world, int64_t *values, int64_t count)
{
    combine_many(world, values, count, MPI_INT64_T, MPI_SUM);
}

void ferry_barrier(const ferry_world *world)
{
    MPI_Barrier(world->comm);
}

void ferry_barrier_asleep(const ferry_world *world)
{
    const struct timespec millisecond = {.tv_nsec = 1000000};
    MPI_Request request;
    int done = 0;
    MPI_Ibarrier(world->comm, &request);
    for (;;) {
        MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        if (done) return;
        nanosleep(&millisecond, NULL);
    }
}

/* FNV-1a, 64 bits: enough to tell a slip in the options from agreement. */
static uint64_t hash(const void *data, size_t bytes)
{
    uint64_t h = 14695981039346656037u ^ bytes;
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return h;
}

ferry_status ferry_same(const ferry_world *world, const char *what, const void *data, size_t bytes)
{
    if (!first.safe) return FERRY_OK;
    uint64_t h = hash(data, bytes), pair[2] = {h, ~h};
    MPI_Allreduce(MPI_IN_PLACE, pair, 2, MPI_UINT64_T, MPI_MAX, world->comm); /* largest, and ~smallest */
    if (pair[0] == ~pair[1]) return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "%s differs between ranks: give every rank the same", what);
}

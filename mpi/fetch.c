/* Requests go to the owners grouped by rank, answers come back in the same order; a counting sort keeps the order
 * inside a group, so what arrives depends on the ranks only through which of them asks. */
#include "mpi/fetch.h"
#include "mpi/exchange.h"
#include "mpi/memory.h"
#include <string.h>

/* Numbers grouped by the rank that holds them, and their way there and back. */
typedef struct requests {
    int64_t count, asked; /* numbers here; numbers that others ask of this rank */
    int64_t *send, *recv; /* [ranks] how many go to, come from every rank */
    int64_t *key;         /* [count] grouped by owner */
    int64_t *place;       /* [count] where key i stood */
    int64_t *theirs;      /* [asked] */
} requests;

static void free_requests(requests *r)
{
    free(r->send);
    free(r->recv);
    free(r->key);
    free(r->place);
    free(r->theirs);
}

/* the rank that holds `key`: first [ranks + 1] ascending */
static int owner_of(const int64_t *first, int ranks, int64_t key, int hint)
{
    if (first[hint] <= key && key < first[hint + 1]) return hint;
    int low = 0, high = ranks;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (first[middle] <= key)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Local. */
static ferry_status group(requests *r, int ranks, const int64_t *first, const int64_t *key, int64_t count)
{
    FERRY_AUTO int64_t *at = NULL;
    FERRY_AUTO int32_t *owner = NULL;
    r->count = count;
    FERRY_TRY(ferry_alloc(&r->send, ranks));
    FERRY_TRY(ferry_alloc(&r->recv, ranks));
    FERRY_TRY(ferry_alloc(&r->key, count));
    FERRY_TRY(ferry_alloc(&r->place, count));
    FERRY_TRY(ferry_alloc(&at, ranks + 1));
    FERRY_TRY(ferry_alloc(&owner, count));
    int last = 0;
    for (int64_t i = 0; i < count; i++) {
        if (key[i] < 0 || key[i] >= first[ranks])
            return ferry_fail(FERRY_E_ARG, "record %lld asked for, of %lld", (long long)key[i],
                              (long long)first[ranks]);
        owner[i] = last = owner_of(first, ranks, key[i], last);
        r->send[last]++;
    }
    for (int k = 0; k < ranks; k++) at[k + 1] = at[k] + r->send[k];
    for (int64_t i = 0; i < count; i++) {
        const int64_t to = at[owner[i]]++;
        r->key[to] = key[i];
        r->place[to] = i;
    }
    return FERRY_OK;
}

/* Collective. Groups the numbers and tells every owner which are asked of it. */
static ferry_status ask(requests *r, const ferry_world *world, const int64_t *first, const int64_t *key, int64_t count)
{
    *r = (requests){0};
    FERRY_TRY(ferry_agree(world, group(r, world->size, first, key, count)));
    ferry_exchange_counts(world, r->send, r->recv);
    for (int k = 0; k < world->size; k++) r->asked += r->recv[k];
    FERRY_TRY(ferry_agree(world, ferry_alloc(&r->theirs, r->asked)));
    ferry_exchange(world, r->key, r->send, r->theirs, r->recv, sizeof *r->key);
    return FERRY_OK;
}

/* Local. */
static ferry_status two_buffers(char **a, int64_t a_count, char **b, int64_t b_count, size_t size)
{
    FERRY_TRY(ferry_alloc_bytes(a, a_count, size));
    return ferry_alloc_bytes(b, b_count, size);
}

/* Collective. */
static ferry_status fetch(void *out, requests *r, const ferry_world *world, const int64_t *first, ferry_record_of get,
                          const void *self, size_t size)
{
    FERRY_AUTO char *answers = NULL;
    FERRY_AUTO char *back = NULL;
    const int64_t base = first[world->rank];
    FERRY_TRY(ferry_agree(world, two_buffers(&answers, r->asked, &back, r->count, size)));
    for (int64_t i = 0; i < r->asked; i++) get(answers + (size_t)i * size, self, r->theirs[i] - base);
    ferry_exchange(world, answers, r->recv, back, r->send, size);
    for (int64_t i = 0; i < r->count; i++)
        memcpy((char *)out + (size_t)r->place[i] * size, back + (size_t)i * size, size);
    return FERRY_OK;
}

ferry_status ferry_fetch_from(void *out, const ferry_world *world, const int64_t *first, ferry_record_of get,
                              const void *self, size_t size, const int64_t *wanted, int64_t count)
{
    requests r;
    ferry_status status = ask(&r, world, first, wanted, count);
    if (status == FERRY_OK) status = fetch(out, &r, world, first, get, self, size);
    free_requests(&r);
    return status;
}

/* Records one after the other. */
typedef struct packed {
    const char *records;
    size_t size;
} packed;

static void get_packed(void *to, const void *self, int64_t i)
{
    const packed *p = self;
    memcpy(to, p->records + (size_t)i * p->size, p->size);
}

ferry_status ferry_fetch(void *out, const ferry_world *world, const int64_t *first, const void *mine, size_t size,
                         const int64_t *wanted, int64_t count)
{
    const packed records = {mine, size};
    return ferry_fetch_from(out, world, first, get_packed, &records, size, wanted, count);
}

/* --- records of different lengths --- */

typedef struct row_answers {
    int64_t *theirs, *mine;          /* lengths of what is answered [asked]; of what comes back [count] */
    char *out, *back;                /* elements on their way */
    int64_t *out_count, *back_count; /* [ranks] elements */
} row_answers;

static void free_answers(row_answers *a)
{
    free(a->theirs);
    free(a->mine);
    free(a->out);
    free(a->back);
    free(a->out_count);
    free(a->back_count);
}

/* sums of consecutive runs: run k has count[k] of the lengths */
static int64_t sum_runs(int64_t *sums, const int64_t *length, const int64_t *count, int ranks)
{
    int64_t at = 0, total = 0;
    for (int k = 0; k < ranks; k++) {
        sums[k] = 0;
        for (int64_t i = 0; i < count[k]; i++) sums[k] += length[at++];
        total += sums[k];
    }
    return total;
}

/* Local. */
static ferry_status measure(row_answers *a, const requests *r, int ranks, const int64_t *start, int64_t base)
{
    FERRY_TRY(ferry_alloc(&a->theirs, r->asked));
    FERRY_TRY(ferry_alloc(&a->mine, r->count));
    FERRY_TRY(ferry_alloc(&a->out_count, ranks));
    FERRY_TRY(ferry_alloc(&a->back_count, ranks));
    for (int64_t i = 0; i < r->asked; i++) a->theirs[i] = start[r->theirs[i] - base + 1] - start[r->theirs[i] - base];
    return FERRY_OK;
}

/* Local. Elements that others asked for, and room for what comes. */
static ferry_status gather_rows(row_answers *a, int64_t **starts, void **out, const requests *r, int ranks,
                                const int64_t *start, const void *mine, int64_t base, size_t size)
{
    const int64_t going = sum_runs(a->out_count, a->theirs, r->recv, ranks);
    const int64_t coming = sum_runs(a->back_count, a->mine, r->send, ranks);
    FERRY_TRY(ferry_alloc_bytes(&a->out, going, size));
    FERRY_TRY(ferry_alloc_bytes(&a->back, coming, size));
    FERRY_TRY(ferry_alloc(starts, r->count + 1));
    FERRY_TRY(ferry_alloc_bytes(out, coming, size));
    size_t at = 0;
    for (int64_t i = 0; i < r->asked; i++) {
        const size_t bytes = (size_t)a->theirs[i] * size;
        if (bytes) memcpy(a->out + at, (const char *)mine + (size_t)start[r->theirs[i] - base] * size, bytes);
        at += bytes;
    }
    return FERRY_OK;
}

static void scatter_rows(int64_t *starts, char *out, const row_answers *a, const requests *r, size_t size)
{
    for (int64_t i = 0; i < r->count; i++) starts[r->place[i] + 1] = a->mine[i];
    for (int64_t i = 0; i < r->count; i++) starts[i + 1] += starts[i];
    size_t at = 0;
    for (int64_t i = 0; i < r->count; i++) {
        const size_t bytes = (size_t)a->mine[i] * size;
        if (bytes) memcpy(out + (size_t)starts[r->place[i]] * size, a->back + at, bytes);
        at += bytes;
    }
}

/* Collective. */
static ferry_status fetch_rows(int64_t **starts, void **out, row_answers *a, const requests *r,
                               const ferry_world *world, const int64_t *first, const int64_t *start, const void *mine,
                               size_t size)
{
    const int64_t base = first[world->rank];
    FERRY_TRY(ferry_agree(world, measure(a, r, world->size, start, base)));
    ferry_exchange(world, a->theirs, r->recv, a->mine, r->send, sizeof *a->mine);
    FERRY_TRY(ferry_agree(world, gather_rows(a, starts, out, r, world->size, start, mine, base, size)));
    ferry_exchange(world, a->out, a->out_count, a->back, a->back_count, size);
    scatter_rows(*starts, *out, a, r, size);
    return FERRY_OK;
}

ferry_status ferry_fetch_rows(int64_t **starts, void **out, const ferry_world *world, const int64_t *first,
                              const int64_t *start, const void *mine, size_t size, const int64_t *wanted, int64_t count)
{
    requests r;
    row_answers answers = {0};
    *starts = NULL;
    *out = NULL;
    ferry_status status = ask(&r, world, first, wanted, count);
    if (status == FERRY_OK) status = fetch_rows(starts, out, &answers, &r, world, first, start, mine, size);
    if (status != FERRY_OK) {
        free(*starts);
        free(*out);
        *starts = NULL;
        *out = NULL;
    }
    free_answers(&answers);
    free_requests(&r);
    return status;
}

/* --- delivery --- */

/* Collective. */
static ferry_status deliver(void **payloads, char **grouped, const requests *r, const ferry_world *world,
                            const void *payload, size_t size)
{
    FERRY_TRY(ferry_agree(world, two_buffers(grouped, r->count, (char **)payloads, r->asked, size)));
    for (int64_t i = 0; i < r->count; i++)
        memcpy(*grouped + (size_t)i * size, (const char *)payload + (size_t)r->place[i] * size, size);
    ferry_exchange(world, *grouped, r->send, *payloads, r->recv, size);
    return FERRY_OK;
}

ferry_status ferry_deliver(int64_t **keys, void **payloads, int64_t *received, const ferry_world *world,
                           const int64_t *first, const int64_t *key, const void *payload, size_t size, int64_t count)
{
    requests r;
    char *grouped = NULL;
    *keys = NULL;
    *payloads = NULL;
    *received = 0;
    ferry_status status = ask(&r, world, first, key, count);
    if (status == FERRY_OK) status = deliver(payloads, &grouped, &r, world, payload, size);
    if (status == FERRY_OK) {
        *keys = r.theirs;
        r.theirs = NULL;
        *received = r.asked;
    } else {
        free(*payloads);
        *payloads = NULL;
    }
    free(grouped);
    free_requests(&r);
    return status;
}

/* `--initial PLAN.h5`: potentials of another plan as the start of a solve.
 *
 * Names are matched without any rank holding all of them: every rank sends hash and potential of its share of the
 * plan's cells to the rank that the hash names, then asks the ranks that the hashes of its own cells name. Hashes have
 * 64 bits; two names with the same hash among a million are a matter of one in ten million runs, and would cost a
 * poorer start of one cell. A name that comes twice gives its first potential. */
#include "cost_impl.h"
#include "mpi/exchange.h"
#include "mpi/log.h"
#include "mpi/memory.h"
#include "plan_impl.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct record {
    uint64_t hash;
    int64_t row; /* of the plan's cell, or of the asking rank's */
    double value;
};

/* The two sides differ in the place where they are and in how the grid holds them. */
struct side {
    const char *group; /* "source", "target" */
    const ferry_population *population;
    int64_t held_first, held_rows;     /* of this rank */
    int64_t first, count;              /* its part, which it asks for; the ranks of `beside` have the other parts */
    const ferry_world *beside, *along; /* the ranks with the same rows; those with the other rows */
    int part, parts;
    const ferry_shards *shards;
    double *values; /* [held_rows] */
    int64_t found;  /* in this rank's part */
};

static uint64_t hash_of(const char *name)
{
    uint64_t h = 0xcbf29ce484222325U; /* FNV-1a, then mixed: the rank is taken from the low bits */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3U;
    h = (h ^ (h >> 31)) * 0x9e3779b97f4a7c15U;
    return h ^ (h >> 29);
}

static int by_hash(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static const char *below(char path[64], const char *group, const char *name)
{
    (void)snprintf(path, 64, "%s/%s", group, name);
    return path;
}

/* ---- the same cells ---- */

/* Local. Does the plan have these names in these rows? */
static ferry_status same_names(bool *same, ferry_stored *stored, const struct side *side, const ferry_names *mine)
{
    char path[64];
    ferry_names theirs = {0};
    ferry_status status =
        ferry_stored_texts(&theirs, stored, below(path, side->group, "names"), side->first, side->count);
    *same = status == FERRY_OK && theirs.count == mine->count;
    for (int64_t i = 0; *same && i < mine->count; i++) *same = strcmp(ferry_name(&theirs, i), ferry_name(mine, i)) == 0;
    ferry_names_close(&theirs);
    return status;
}

/* ---- by name ---- */

/* What one rank sends to the others, by rank. */
struct mail {
    int64_t *send, *recv; /* [ranks] */
    struct record *out, *in;
    int64_t sent, received;
};

static void free_mail(struct mail *mail)
{
    free(mail->send);
    free(mail->recv);
    free(mail->out);
    free(mail->in);
}

static int rank_of(uint64_t hash, const ferry_world *world)
{
    return (int)(hash % (uint64_t)world->size);
}

static int64_t before(const int64_t *counts, int rank)
{
    int64_t sum = 0;
    for (int r = 0; r < rank; r++) sum += counts[r];
    return sum;
}

/* Local. Records of these names, those for rank 0 first. values NULL: questions. */
static ferry_status address(struct mail *mail, const ferry_world *world, const ferry_names *names, int64_t first,
                            const double *values)
{
    FERRY_AUTO int64_t *at = NULL;
    FERRY_TRY(ferry_alloc(&mail->send, world->size));
    FERRY_TRY(ferry_alloc(&mail->recv, world->size));
    FERRY_TRY(ferry_alloc(&at, world->size));
    FERRY_TRY(ferry_alloc(&mail->out, names->count));
    mail->sent = names->count;
    for (int64_t i = 0; i < names->count; i++) mail->send[rank_of(hash_of(ferry_name(names, i)), world)]++;
    for (int r = 0; r < world->size; r++) at[r] = before(mail->send, r);
    for (int64_t i = 0; i < names->count; i++) {
        const uint64_t hash = hash_of(ferry_name(names, i));
        mail->out[at[rank_of(hash, world)]++] = (struct record){hash, first + i, values ? values[i] : NAN};
    }
    return FERRY_OK;
}

/* Collective. */
static ferry_status deliver(struct mail *mail, const ferry_world *world)
{
    ferry_exchange_counts(world, mail->send, mail->recv);
    mail->received = before(mail->recv, world->size);
    FERRY_TRY(ferry_agree(world, ferry_alloc(&mail->in, mail->received)));
    ferry_exchange(world, mail->out, mail->send, mail->in, mail->recv, sizeof *mail->in);
    return FERRY_OK;
}

/* Local. This rank's share of the plan's cells, addressed. */
static ferry_status read_share(struct mail *mail, const ferry_world *world, ferry_stored *stored, const char *group)
{
    char path[64];
    int64_t rows = 0;
    FERRY_AUTO double *values = NULL;
    ferry_names names = {0};
    FERRY_TRY(ferry_stored_shape(&rows, NULL, stored, below(path, group, "potential")));
    const int64_t first = ferry_plan_part(rows, world->rank, world->size);
    const int64_t count = ferry_plan_part(rows, world->rank + 1, world->size) - first;
    FERRY_TRY(ferry_alloc(&values, count));
    if (count) FERRY_TRY(ferry_stored_numbers(values, stored, path, first, count));
    ferry_status status = ferry_stored_texts(&names, stored, below(path, group, "names"), first, count);
    if (status == FERRY_OK) status = address(mail, world, &names, first, values);
    ferry_names_close(&names);
    return status;
}

static void answer(struct mail *questions, struct mail *known)
{
    qsort(known->in, (size_t)known->received, sizeof *known->in, by_hash);
    for (int64_t i = 0; i < questions->received; i++) {
        struct record *question = &questions->in[i];
        int64_t low = 0, high = known->received; /* the first of that hash */
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (known->in[middle].hash < question->hash)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < known->received && known->in[low].hash == question->hash) question->value = known->in[low].value;
    }
}

/* Collective over world. part [count]: potentials by name, NaN where the plan has none. */
static ferry_status ask(double *part, struct side *side, ferry_stored *stored, const ferry_world *world,
                        const ferry_names *mine)
{
    struct mail known = {0}, questions = {0};
    ferry_status status = ferry_agree(world, read_share(&known, world, stored, side->group));
    if (status == FERRY_OK) status = ferry_agree(world, address(&questions, world, mine, 0, NULL));
    if (status == FERRY_OK) status = deliver(&known, world);
    if (status == FERRY_OK) status = deliver(&questions, world);
    if (status == FERRY_OK) {
        answer(&questions, &known);
        ferry_exchange(world, questions.in, questions.recv, questions.out, questions.send, sizeof *questions.in);
        for (int64_t i = 0; i < questions.sent; i++) part[questions.out[i].row] = questions.out[i].value;
    }
    free_mail(&known);
    free_mail(&questions);
    return status;
}

/* ---- one side ---- */

static ferry_status copy_or_nothing(double *part, ferry_stored *stored, const struct side *side)
{
    char path[64];
    if (side->count == 0) return FERRY_OK;
    return ferry_stored_numbers(part, stored, below(path, side->group, "potential"), side->first, side->count);
}

/* Collective over world. */
static ferry_status fill_part(double *part, struct side *side, ferry_stored *stored, const ferry_world *world,
                              const ferry_names *mine)
{
    char path[64];
    int64_t rows = 0;
    bool same = false;
    FERRY_TRY(ferry_agree(world, ferry_stored_shape(&rows, NULL, stored, below(path, side->group, "potential"))));
    if (rows == side->population->cells) FERRY_TRY(ferry_agree(world, same_names(&same, stored, side, mine)));
    if (ferry_min(world, same))
        FERRY_TRY(ferry_agree(world, copy_or_nothing(part, stored, side)));
    else
        FERRY_TRY(ask(part, side, stored, world, mine));
    for (int64_t i = 0; i < side->count; i++) side->found += isfinite(part[i]);
    return FERRY_OK;
}

/* Collective. What is not known becomes the mean of what is, added canonically: the same bits for any layout. */
static ferry_status fill_gaps(struct side *side, const ferry_world *world)
{
    FERRY_AUTO double *known = NULL;
    double sum = 0, count = 0;
    FERRY_TRY(ferry_agree(world, ferry_alloc(&known, 2 * side->held_rows)));
    double *number = known + side->held_rows; /* 1 where there is a potential */
    for (int64_t i = 0; i < side->held_rows; i++) {
        number[i] = isfinite(side->values[i]);
        known[i] = number[i] > 0 ? side->values[i] : 0;
    }
    ferry_status status = ferry_canonical_sum(&sum, known, side->shards, side->along, FERRY_REDUCE_TREE);
    FERRY_TRY(ferry_agree(world, status));
    status = ferry_canonical_sum(&count, number, side->shards, side->along, FERRY_REDUCE_TREE);
    FERRY_TRY(ferry_agree(world, status));
    for (int64_t i = 0; i < side->held_rows; i++)
        if (!(number[i] > 0)) side->values[i] = count > 0 ? sum / count : 0;
    return FERRY_OK;
}

static ferry_status room(double **part, int64_t **counts, struct side *side)
{
    FERRY_TRY(ferry_alloc(part, side->count));
    FERRY_TRY(ferry_alloc(counts, side->parts));
    for (int p = 0; p < side->parts; p++)
        (*counts)[p] =
            ferry_plan_part(side->held_rows, p + 1, side->parts) - ferry_plan_part(side->held_rows, p, side->parts);
    return ferry_alloc(&side->values, side->held_rows);
}

/* Collective over world. */
static ferry_status fill_side(struct side *side, ferry_stored *stored, const ferry_world *world)
{
    FERRY_AUTO double *part = NULL;
    FERRY_AUTO int64_t *counts = NULL;
    ferry_names mine = {0};
    const int64_t skip = ferry_plan_part(side->held_rows, side->part, side->parts);
    side->first = side->held_first + skip;
    side->count = ferry_plan_part(side->held_rows, side->part + 1, side->parts) - skip;
    FERRY_TRY(ferry_agree(world, room(&part, &counts, side)));
    ferry_status status = ferry_population_names(&mine, world, side->population, side->first, side->count);
    if (status == FERRY_OK) status = fill_part(part, side, stored, world, &mine);
    ferry_names_close(&mine);
    FERRY_TRY(status);
    ferry_gather_all(side->beside, part, counts, side->values, sizeof *part);
    return fill_gaps(side, world);
}

/* ---- the whole ---- */

struct settings {
    char kind[32];
    double epsilon;
};

static ferry_status read_settings(struct settings *out, ferry_stored *stored)
{
    FERRY_AUTO char *kind = NULL;
    FERRY_TRY(ferry_stored_attribute_text(&kind, stored, "cost", "kind"));
    (void)snprintf(out->kind, sizeof out->kind, "%s", kind);
    return ferry_stored_attribute_number(&out->epsilon, stored, "/", "epsilon");
}

static void warn_of_settings(const struct settings *then, const char *path, const ferry_world *world,
                             const ferry_cost_options *cost, double epsilon)
{
    char kind[32];
    if (world->rank != 0) return;
    if (cost && strcmp(ferry_cost_text(kind, cost), then->kind) != 0)
        ferry_log(world, FERRY_WARN, "%s was solved with cost %s, now %s: a poor start", path, then->kind, kind);
    if (epsilon > 0 && fabs(epsilon - then->epsilon) > 1e-6 * epsilon)
        ferry_log(world, FERRY_WARN, "%s was solved with epsilon %g, now %g", path, then->epsilon, epsilon);
}

/* Collective. */
static ferry_status check_found(const struct side sides[2], const char *path, const ferry_world *world)
{
    int64_t found[2] = {sides[0].found, sides[1].found};
    for (int i = 0; i < 2; i++) /* the ranks beside have other parts, so all ranks together have each row once */
        found[i] = ferry_total(world, found[i]);
    if (found[0] == 0 && found[1] == 0)
        return ferry_fail(FERRY_E_FILE,
                          "%s: none of its cells has a name of the cells of this problem; leave "
                          "--initial out, or give a plan of some of the same cells",
                          path);
    for (int i = 0; i < 2; i++)
        if (found[i] == 0 && world->rank == 0)
            ferry_log(world, FERRY_WARN, "%s: no cell of the %s is known; its potentials start at 0", path,
                      sides[i].group);
    return FERRY_OK;
}

static ferry_status open_settings(ferry_stored **stored, struct settings *then, const char *path)
{
    FERRY_TRY(ferry_stored_open(stored, path));
    FERRY_TRY(ferry_plan_kind(*stored, path));
    return read_settings(then, *stored);
}

ferry_status ferry_plan_initial(double **f, double **g, const char *path, const ferry_world *world,
                                const ferry_grid *grid, const ferry_population *source, const ferry_population *target,
                                const ferry_cost_options *cost, double epsilon)
{
    struct side sides[2] = {{.group = "source",
                             .population = source,
                             .held_first = grid->source_first,
                             .held_rows = grid->source_rows,
                             .beside = &grid->across,
                             .along = &grid->down,
                             .part = grid->col,
                             .parts = grid->cols,
                             .shards = &grid->source},
                            {.group = "target",
                             .population = target,
                             .held_first = grid->target_first,
                             .held_rows = grid->target_rows,
                             .beside = &grid->down,
                             .along = &grid->across,
                             .part = grid->row,
                             .parts = grid->rows,
                             .shards = &grid->target}};
    ferry_stored *stored = NULL;
    struct settings then = {{0}, 0};
    *f = *g = NULL;
    ferry_status status = ferry_agree(world, open_settings(&stored, &then, path));
    if (status == FERRY_OK) warn_of_settings(&then, path, world, cost, epsilon);
    for (int i = 0; status == FERRY_OK && i < 2; i++) status = fill_side(&sides[i], stored, world);
    if (status == FERRY_OK) status = check_found(sides, path, world);
    ferry_stored_close(&stored);
    if (status == FERRY_OK) {
        *f = sides[0].values;
        *g = sides[1].values;
    } else {
        free(sides[0].values);
        free(sides[1].values);
    }
    return status;
}

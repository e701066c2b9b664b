/* Mass between groups of cells (moscot's cell_transition).
 *
 *   S_st = sum_{i in s, j in t} P_ij ; forward S_st / |s|, normalized S_st / sum_t S_st ;
 *   backward S_st / |t|, normalized S_st / sum_s S_st.
 *
 * Cells x groups is a pull (forward) or push (backward) of one-hot columns. Groups x groups goes on from the pull: rows
 * are added by source group inside each canonical block, blocks by the adjacent-pair tree. */
#include "transition.h"
#include "apply_impl.h"
#include "mpi/memory.h"
#include "plan_impl.h"
#include <string.h>

/* The groups of one side, and the codes of a range of its cells. */
struct side {
    const ferry_world *world;
    const ferry_population *population;
    const char *key;
    ferry_names groups; /* categories that a kept cell has, in category order */
    int64_t *cells;     /* [categories] kept cells of each, then [groups] */
    int32_t *group;     /* [categories] number of the group, -1: no kept cell has it */
    int64_t categories;
    int64_t first, count; /* codes are of kept cells first ... first + count - 1 */
    int32_t *code;        /* group, -1: no label */
};

static void side_close(struct side *side)
{
    ferry_names_close(&side->groups);
    free(side->cells);
    free(side->group);
    free(side->code);
}

/* Collective. Labels of kept cells first ... */
static ferry_status read_labels(ferry_labels *labels, const struct side *side, int64_t first, int64_t count)
{
    FERRY_AUTO int64_t *rows = NULL;
    FERRY_TRY(ferry_population_rows(&rows, side->world, side->population, first, count));
    return ferry_read_labels(labels, side->world, side->population->file, side->key, rows, count);
}

static ferry_status count_labels(struct side *side, const ferry_labels *labels)
{
    side->categories = labels->categories.count;
    FERRY_TRY(ferry_alloc(&side->cells, side->categories));
    FERRY_TRY(ferry_alloc(&side->group, side->categories));
    for (int64_t i = 0; i < labels->count; i++)
        if (labels->code[i] >= 0) side->cells[labels->code[i]]++;
    return FERRY_OK;
}

static ferry_status name_groups(struct side *side, const ferry_labels *labels)
{
    for (int64_t k = 0; k < side->categories; k++) {
        side->group[k] = -1;
        if (side->cells[k] == 0) continue;
        side->group[k] = (int32_t)side->groups.count;
        side->cells[side->groups.count] = side->cells[k];
        FERRY_TRY(ferry_names_add(&side->groups, ferry_name(&labels->categories, k), -1));
    }
    if (side->groups.count == 0)
        return ferry_fail(FERRY_E_FILE, "%s: obs/%s: no cell that takes part has a value; name another column",
                          side->population->options.path, side->key);
    return FERRY_OK;
}

/* Collective. Groups of a side, counted over all ranks. */
static ferry_status side_open(struct side *out, const ferry_world *world, const ferry_population *population,
                              const char *key)
{
    ferry_labels labels = {0};
    *out = (struct side){.world = world, .population = population, .key = key};
    const int64_t first = ferry_plan_part(population->cells, world->rank, world->size);
    const int64_t count = ferry_plan_part(population->cells, world->rank + 1, world->size) - first;
    ferry_status status = read_labels(&labels, out, first, count);
    if (status == FERRY_OK) status = ferry_agree(world, count_labels(out, &labels));
    if (status == FERRY_OK) {
        ferry_total_counts(world, out->cells, out->categories);
        status = ferry_agree(world, name_groups(out, &labels));
    }
    ferry_labels_close(&labels);
    return status;
}

static ferry_status keep_codes(struct side *side, const ferry_labels *labels, int64_t first)
{
    free(side->code);
    side->code = NULL;
    FERRY_TRY(ferry_alloc(&side->code, labels->count));
    for (int64_t i = 0; i < labels->count; i++) side->code[i] = labels->code[i] < 0 ? -1 : side->group[labels->code[i]];
    side->first = first;
    side->count = labels->count;
    return FERRY_OK;
}

/* Collective. Codes of kept cells first ... into side->code. */
static ferry_status load_codes(struct side *side, int64_t first, int64_t count)
{
    ferry_labels labels = {0};
    ferry_status status = read_labels(&labels, side, first, count);
    if (status == FERRY_OK) status = ferry_agree(side->world, keep_codes(side, &labels, first));
    ferry_labels_close(&labels);
    return status;
}

/* Collective. Codes of this rank's shard of the source: what passes in shards go through. */
static ferry_status load_shard(struct side *side, int grid_rows, int grid_cols, ferry_blocks *blocks, int *block)
{
    const ferry_world *world = side->world;
    const int cols = grid_cols > 0 ? grid_cols : 1, rows = grid_rows > 0 ? grid_rows : world->size / cols;
    ferry_shards shards = {0};
    if (rows < 1 || (int64_t)rows * cols != world->size)
        return ferry_fail(FERRY_E_ARG,
                          "a grid of %d x %d does not fit %d ranks: choose --grid so that rows x columns "
                          "is the number of ranks",
                          rows, cols, world->size);
    ferry_status status =
        ferry_agree(world, ferry_shards_open(&shards, side->population->cells, FERRY_SOURCE_UNIT, rows));
    if (status == FERRY_OK) {
        const int row = world->rank / cols;
        const int64_t first = shards.first[row], end = shards.first[row + 1];
        *blocks = shards.blocks;
        *block = shards.block[row];
        status = load_codes(side, first, end - first);
    }
    ferry_shards_close(&shards);
    return status;
}

/* ---- one-hot columns ---- */

static void one_hot(float *out, const struct side *side, int64_t first, int64_t count, int64_t column, int64_t columns)
{
    memset(out, 0, (size_t)(count * columns) * sizeof *out);
    for (int64_t i = 0; i < count; i++) {
        const int64_t group = side->code[first - side->first + i] - column;
        if (side->code[first - side->first + i] >= 0 && group >= 0 && group < columns) out[i * columns + group] = 1;
    }
}

/* Collective. Target cells: read when asked, which is once. */
static ferry_status read_target(void *self, float *out, int64_t first, int64_t count, int64_t column, int64_t columns)
{
    struct side *side = self;
    FERRY_TRY(load_codes(side, first, count));
    one_hot(out, side, first, count, column, columns);
    return FERRY_OK;
}

/* Source cells, batch by batch of the shard that load_shard read. */
static ferry_status read_source(void *self, float *out, int64_t first, int64_t count, int64_t column, int64_t columns)
{
    one_hot(out, self, first, count, column, columns);
    return FERRY_OK;
}

static ferry_apply_options apply_options(const ferry_transition_options *options, bool pull)
{
    ferry_apply_options apply = FERRY_APPLY_DEFAULTS;
    apply.pull = pull;
    apply.batch = options->batch;
    apply.memory = options->memory;
    apply.grid_rows = options->grid_rows;
    apply.grid_cols = options->grid_cols;
    return apply;
}

/* ---- groups x groups ---- */

struct table {
    const struct side *source;
    int64_t targets; /* groups */
    const ferry_world *world;
    ferry_blocks blocks;
    int block; /* the next block to complete */
    ferry_forest *forest;
    double *leaf; /* [source groups][target groups] of it; NULL: not begun */
};

/* Local. rows [count][targets] come in order, so blocks are completed one after another. */
static ferry_status add_rows(struct table *table, int64_t first, int64_t count, const double *rows)
{
    for (int64_t i = 0; i < count; i++) {
        if (!table->leaf) FERRY_TRY(ferry_forest_leaf(&table->leaf, table->forest));
        const int32_t s = table->source->code[first - table->source->first + i];
        for (int64_t t = 0; s >= 0 && t < table->targets; t++)
            table->leaf[s * table->targets + t] += rows[i * table->targets + t];
        if (first + i + 1 < ferry_block_first(&table->blocks, table->block + 1)) continue;
        ferry_forest_add(table->forest, table->block++);
        table->leaf = NULL;
    }
    return FERRY_OK;
}

static ferry_status take_rows(void *self, int64_t first, int64_t count, int64_t column, int64_t columns,
                              const double *out)
{
    struct table *table = self;
    (void)column; /* all columns at once */
    (void)columns;
    return ferry_agree(table->world, add_rows(table, first, count, out));
}

/* sums [sources][targets] -> the table asked for */
static void divide(double *sums, const struct side *source, const struct side *target,
                   const ferry_transition_options *options)
{
    const int64_t sources = source->groups.count, targets = target->groups.count;
    const int64_t outer = options->backward ? targets : sources, inner = options->backward ? sources : targets;
    const int64_t step = options->backward ? 1 : targets, stride = options->backward ? targets : 1;
    const int64_t *cells = options->backward ? target->cells : source->cells;
    for (int64_t k = 0; k < outer; k++) {
        double *line = sums + k * step, total = 0;
        for (int64_t i = 0; i < inner; i++) total += line[i * stride];
        const double by = options->normalize ? total : (double)cells[k];
        for (int64_t i = 0; i < inner; i++) line[i * stride] = by > 0 ? line[i * stride] / by : 0;
    }
}

static ferry_status open_table(double **sums, struct table *table, int64_t width)
{
    FERRY_TRY(ferry_alloc(sums, width));
    return ferry_forest_open(&table->forest, width, table->blocks.count, FERRY_JOIN_SUM);
}

/* Collective. *sums [source groups][target groups] */
static ferry_status add_up(double **sums, struct side *source, struct side *target, ferry_plan *plan,
                           const ferry_transition_options *options)
{
    const ferry_world *world = source->world;
    struct table table = {.source = source, .targets = target->groups.count, .world = world};
    FERRY_TRY(load_shard(source, options->grid_rows, options->grid_cols, &table.blocks, &table.block));
    const ferry_apply_options apply = apply_options(options, true);
    const ferry_values values = {table.targets, read_target, target};
    ferry_status status = ferry_agree(world, open_table(sums, &table, source->groups.count * table.targets));
    if (status == FERRY_OK) status = ferry_apply_runs(plan, world, &apply, &values, true, take_rows, &table);
    if (status == FERRY_OK) status = ferry_forest_reduce(*sums, table.forest, world, plan->cost.reduction);
    ferry_forest_close(&table.forest);
    return status;
}

static void hand_names(ferry_names *out, struct side *side)
{
    *out = side->groups;
    side->groups = (ferry_names){0};
}

ferry_status ferry_transition(double **table, ferry_names *source_groups, ferry_names *target_groups, ferry_plan *plan,
                              const ferry_world *world, const char *source_key, const char *target_key,
                              const ferry_transition_options *options)
{
    struct side source = {0}, target = {0};
    double *sums = NULL;
    ferry_status status = side_open(&source, world, &plan->source, source_key);
    if (status == FERRY_OK) status = side_open(&target, world, &plan->target, target_key);
    if (status == FERRY_OK) status = add_up(&sums, &source, &target, plan, options);
    if (status == FERRY_OK) {
        divide(sums, &source, &target, options);
        hand_names(source_groups, &source);
        hand_names(target_groups, &target);
        *table = sums;
    } else {
        free(sums);
    }
    side_close(&source);
    side_close(&target);
    return status;
}

/* ---- cells x groups ---- */

struct receiver {
    bool normalize;
    const ferry_world *world;
    ferry_status (*give)(void *self, int64_t first, int64_t count, int64_t groups, const double *rows);
    void *self;
};

static ferry_status normalize_rows(double **rows, const double *out, int64_t count, int64_t groups, bool normalize)
{
    FERRY_TRY(ferry_alloc(rows, count * groups));
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int64_t t = 0; t < groups; t++) sum += out[i * groups + t];
        const double by = normalize ? sum : 1;
        for (int64_t t = 0; t < groups; t++) (*rows)[i * groups + t] = by > 0 ? out[i * groups + t] / by : 0;
    }
    return FERRY_OK;
}

static ferry_status pass_on(void *self, int64_t first, int64_t count, int64_t column, int64_t columns,
                            const double *out)
{
    const struct receiver *to = self;
    FERRY_AUTO double *rows = NULL;
    (void)column; /* all columns at once */
    FERRY_TRY(ferry_agree(to->world, normalize_rows(&rows, out, count, columns, to->normalize)));
    return to->give(to->self, first, count, columns, rows);
}

ferry_status ferry_transition_cells(ferry_names *groups, ferry_plan *plan, const ferry_world *world, const char *key,
                                    const ferry_transition_options *options,
                                    ferry_status (*give)(void *self, int64_t first, int64_t count, int64_t groups,
                                                         const double *rows),
                                    void *give_self)
{
    struct side side = {0};
    ferry_blocks blocks;
    int block;
    struct receiver to = {options->normalize, world, give, give_self};
    ferry_status status = side_open(&side, world, options->backward ? &plan->source : &plan->target, key);
    if (status == FERRY_OK && options->backward)
        status = load_shard(&side, options->grid_rows, options->grid_cols, &blocks, &block);
    if (status == FERRY_OK) {
        const ferry_apply_options apply = apply_options(options, !options->backward);
        const ferry_values values = {side.groups.count, options->backward ? read_source : read_target, &side};
        status = ferry_apply_runs(plan, world, &apply, &values, true, pass_on, &to);
    }
    if (status == FERRY_OK) hand_names(groups, &side);
    side_close(&side);
    return status;
}

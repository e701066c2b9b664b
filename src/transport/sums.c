/* Sums over one side of the problem by canonical blocks. */
#include "cost_impl.h"

/* Local. */
static ferry_status plant(ferry_forest **out, const double *values, const ferry_shards *shards,
                          const ferry_world *world)
{
    const int part = world->rank;
    FERRY_TRY(ferry_forest_open(out, 1, shards->blocks.count, FERRY_JOIN_SUM));
    FERRY_TRY(ferry_forest_expect(*out, shards, world));
    for (int b = shards->block[part]; b < shards->block[part + 1]; b++) {
        double *leaf;
        FERRY_TRY(ferry_forest_leaf(&leaf, *out));
        int64_t i = ferry_block_first(&shards->blocks, b) - shards->first[part];
        const int64_t end = ferry_block_first(&shards->blocks, b + 1) - shards->first[part];
        for (; i < end; i++) leaf[0] += values[i];
        ferry_forest_add(*out, b);
    }
    return FERRY_OK;
}

ferry_status ferry_canonical_sum(double *out, const double *values, const ferry_shards *shards,
                                 const ferry_world *world, ferry_reduction how)
{
    ferry_forest *forest = NULL;
    ferry_status status = ferry_agree(world, plant(&forest, values, shards, world));
    if (status == FERRY_OK) status = ferry_forest_reduce(out, forest, world, how);
    ferry_forest_close(&forest);
    return status;
}

void ferry_canonical_tree(double *vectors, int count, int64_t length)
{
    for (int step = 1; step < count; step *= 2)
        for (int b = 0; b + step < count; b += 2 * step)
            for (int64_t e = 0; e < length; e++) vectors[b * length + e] += vectors[(b + step) * length + e];
}

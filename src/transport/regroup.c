/* The accelerated loop works on both sides in the order of their groups. */
#include "regroup_impl.h"
#include "accelerate_impl.h"
#include <string.h>

#define SEED 20231 /* of the sample that groups are found from */

void ferry_regrouped_close(ferry_regrouped *r)
{
    ferry_groups_close(&r->groups);
    free(r->a);
    free(r->b);
    free(r->f);
    free(r->g);
    free(r->work);
}

/* Local. */
static ferry_status begin(ferry_regrouped *r, const ferry_grid *grid)
{
    FERRY_TRY(ferry_alloc(&r->a, grid->source_rows));
    FERRY_TRY(ferry_alloc(&r->b, grid->target_rows));
    FERRY_TRY(ferry_alloc(&r->f, grid->source_rows));
    FERRY_TRY(ferry_alloc(&r->g, grid->target_rows));
    return ferry_alloc(&r->work, grid->source_rows > grid->target_rows ? grid->source_rows : grid->target_rows);
}

ferry_status ferry_regrouped_open(ferry_regrouped *r, const ferry_cost *cost, const double *a, const double *b,
                                  const ferry_transport_options *o)
{
    FERRY_TRY(ferry_groups_open(&r->groups, cost, ferry_accelerate_groups(cost, o->epsilon), SEED));
    FERRY_TRY(ferry_agree(cost->grid->world, begin(r, cost->grid)));
    FERRY_TRY(ferry_order_take(r->a, &r->groups.source, a));
    FERRY_TRY(ferry_order_take(r->b, &r->groups.target, b));
    if (o->f) FERRY_TRY(ferry_order_take(r->f, &r->groups.source, o->f));
    if (o->g) FERRY_TRY(ferry_order_take(r->g, &r->groups.target, o->g));
    r->options = *o;
    r->options.f = o->f ? r->f : NULL;
    r->options.g = o->g ? r->g : NULL;
    return FERRY_OK;
}

ferry_status ferry_regrouped_restore(ferry_potentials *out, ferry_regrouped *r)
{
    FERRY_TRY(ferry_order_restore(r->work, &r->groups.source, out->f));
    memcpy(out->f, r->work, (size_t)out->sources * sizeof *out->f);
    FERRY_TRY(ferry_order_restore(r->work, &r->groups.target, out->g));
    memcpy(out->g, r->work, (size_t)out->targets * sizeof *out->g);
    return FERRY_OK;
}

int64_t ferry_regrouped_bytes(int64_t source_rows, int64_t target_rows)
{
    const int64_t more = source_rows > target_rows ? source_rows : target_rows;
    return (2 * source_rows + 2 * target_rows + more) * (int64_t)sizeof(double);
}

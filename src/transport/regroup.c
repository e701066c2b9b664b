/* The accelerated loop works on targets in the order of their groups. */
#include "accelerate_impl.h"
#include "regroup_impl.h"
#include <string.h>

#define SEED 20231 /* of the sample that groups are found from */

void ferry_regrouped_close(ferry_regrouped *r)
{
    ferry_groups_close(&r->groups);
    free(r->b);
    free(r->g);
    free(r->work);
}

ferry_status ferry_regrouped_open(ferry_regrouped *r, ferry_cost *cost, const double *b,
                                  const ferry_transport_options *o)
{
    const ferry_grid *grid = cost->grid;
    FERRY_TRY(ferry_groups_open(&r->groups, cost, ferry_accelerate_groups(cost, o->epsilon), SEED));
    ferry_status status = ferry_alloc(&r->b, grid->target_rows);
    if (status == FERRY_OK) status = ferry_alloc(&r->g, grid->target_rows);
    if (status == FERRY_OK) status = ferry_alloc(&r->work, grid->target_rows);
    FERRY_TRY(ferry_agree(grid->world, status));
    FERRY_TRY(ferry_groups_order(r->b, &r->groups, b));
    if (o->g) FERRY_TRY(ferry_groups_order(r->g, &r->groups, o->g));
    r->options = *o;
    r->options.g = o->g ? r->g : NULL;
    return FERRY_OK;
}

ferry_status ferry_regrouped_restore(ferry_potentials *out, ferry_regrouped *r)
{
    FERRY_TRY(ferry_groups_restore(r->work, &r->groups, out->g));
    memcpy(out->g, r->work, (size_t)out->targets * sizeof *out->g);
    return FERRY_OK;
}

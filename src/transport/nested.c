/* Start potentials from a coreset: many cells, whose plan cannot be kept between passes, so that every pass over all
 * pairs that is saved counts.
 *
 * A sixteenth of the cells is solved between, their plan kept (a 256th of the pairs a pass), and extended by a soft
 * c-transform a side (an eighth of the pairs of one pass). What is left is the noise of the draw, a few hundredths of
 * epsilon in every potential and nothing in common: three passes bring it down where eight are needed from the
 * groups' means. At a small epsilon few cells see each other and the noise is larger: there the path of larger ones
 * begins with it (path.c). */
#include "nested_impl.h"
#include "coreset_impl.h"
#include <math.h>
#include <string.h>

#define MANY        20000 /* cells of a side from which on it pays */
#define PART        16
#define LEAST_CELLS 4000
#define MOST_CELLS  14000 /* fewer than MANY with what may be drawn beyond: nothing is nested in it */
#define SEED        5
#define ERROR       2e-3 /* that its solve ends with, at most: below the noise */

int64_t ferry_nested_cells(int64_t sources, int64_t targets)
{
    const int64_t least = sources < targets ? sources : targets, part = least / PART;
    return least < MANY ? 0 : part < LEAST_CELLS ? LEAST_CELLS : part > MOST_CELLS ? MOST_CELLS : part;
}

/* Collective. */
static ferry_status start(ferry_sinkhorn *s, ferry_coreset *k)
{
    int iterations;
    FERRY_TRY(ferry_coreset_potentials(&iterations, k));
    memcpy(s->f, k->h[0], (size_t)s->sources * sizeof *s->f);
    for (int64_t j = 0; j < s->targets; j++) s->g[j] = s->b[j] > 0 ? k->h[1][j] : 0;
    return FERRY_OK;
}

ferry_status ferry_nested_start(ferry_sinkhorn *s, int64_t cells)
{
    ferry_transport_options options = *s->options;
    ferry_coreset_options how = FERRY_CORESET_DEFAULTS;
    ferry_coreset k;
    options.epsilon = s->epsilon;
    options.tau_a = s->tau_a;
    options.tau_b = s->tau_b;
    options.threshold = fmax(options.threshold, ERROR);
    options.check_every = 1;
    options.min_iterations = 0;
    options.recenter = false;
    how.cells = cells;
    how.seed = SEED;
    ferry_coreset_open(&k, s->cost, s->a, s->b, &options, &how);
    ferry_status status = start(s, &k);
    ferry_coreset_close(&k);
    return status;
}

int64_t ferry_nested_bytes(const ferry_cost_options *cost, int dim, int64_t sources, int64_t targets,
                           int64_t source_rows, int64_t target_rows, int grid_rows, int grid_cols)
{
    ferry_coreset_options how = FERRY_CORESET_DEFAULTS;
    how.cells = ferry_nested_cells(sources, targets);
    if (how.cells == 0) return 0;
    return ferry_coreset_bytes(cost, dim, &how, sources, targets, source_rows, target_rows, grid_rows, grid_cols);
}

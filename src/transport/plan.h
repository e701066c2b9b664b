/** plan.h - PLAN.h5: the potentials of a solved problem, what it was solved from, and opening it again. */
#ifndef FERRY_PLAN_H
#define FERRY_PLAN_H
#include "io/population.h"
#include "io/stored.h"
#include "sinkhorn.h"
FERRY_BEGIN
/** Collective over grid->world. Writes PLAN.h5:
 *    /source/{potential, weights} [n], /target/{potential, weights} [m] float64; /source and /target attributes: path
 * (as given and absolute), rep, dims, where (joined by newlines), weights_key, cells, file_cells, dim, fingerprint (hex
 * text); /source/names, /target/names: cell names (for --initial on another size); /cost attributes: kind (text),
 * inv_scale, scale_cost (text), precision; / attributes: kind = "cellferry plan", version, epsilon, tau_a, tau_b,
 * threshold, iterations, passes, stored_passes, stored_share, converged, reg_ot_cost, transport_cost, mass,
 * marginal_error, dual_gap, lower_bound, upper_bound, row_error, row_error_max, column_error, column_error_max,
 * coarse_sources, coarse_targets, estimated, independence;
 *    /errors [checks], check_every its attribute; /uns/cellferry/record: the run record (JSON).
 *  a, b as given to ferry_transport; fingerprints over the whole side (ferry_total of ferry_fingerprint). */
FERRY_API ferry_status ferry_plan_write(const char *path, bool overwrite, const ferry_grid *grid,
                                        const ferry_population *source, const ferry_population *target,
                                        const ferry_cost *cost, const char *scale_text,
                                        const ferry_potentials *potentials, const double *a, const double *b,
                                        uint64_t source_fingerprint, uint64_t target_fingerprint, double threshold,
                                        int check_every, const char *record_json);

/** PLAN.h5 opened again, with both inputs open. */
typedef struct ferry_plan {
    char *path;
    ferry_stored *stored;
    ferry_population source, target;
    ferry_cost_options cost; /* kernels, reduction, threads: set them before opening a cost with it */
    double inv_scale, epsilon, tau_a, tau_b;
    uint64_t source_fingerprint, target_fingerprint;
    bool converged;
    void *texts; /* owned strings */
} ferry_plan;
/** Collective. Opens the inputs where the plan says they are (relative to the present folder, then the absolute path,
 * then the plan's folder) and checks shapes and filters; FERRY_E_FILE says which of the two changed and how. The
 * fingerprint is checked by whoever reads the points: ferry_plan_same. */
FERRY_API ferry_status ferry_plan_open(ferry_plan *out, const ferry_world *world, const char *path);
FERRY_API void ferry_plan_close(ferry_plan *plan);
/** Local. Potentials or weights of cells first ... of a side into out [count]. */
FERRY_API ferry_status ferry_plan_source_potentials(double *out, ferry_plan *plan, int64_t first, int64_t count);
FERRY_API ferry_status ferry_plan_target_potentials(double *out, ferry_plan *plan, int64_t first, int64_t count);
/** Collective. FERRY_E_FILE, naming the file, when the sum of the ranks' fingerprints is not the plan's. */
FERRY_API ferry_status ferry_plan_same(const ferry_world *world, const ferry_plan *plan, bool target, uint64_t mine);

/** Fingerprints of the sides as a solve holds them, to be added over the ranks (ferry_total; unsigned, so they wrap):
 *  each row counts once although grid columns repeat source rows and nodes repeat target rows. Source: Local, x the
 * rows of grid->source_first ...; target: Collective, y the rows that this rank brings. */
FERRY_API uint64_t ferry_plan_source_fingerprint(const ferry_grid *grid, const ferry_matrix *x);
FERRY_API uint64_t ferry_plan_target_fingerprint(const ferry_grid *grid, const ferry_matrix *y);

/** Collective over grid->world. Potentials of another plan as the start of a solve (`--initial`): *f
 *  [grid->source_rows], *g [grid->target_rows] of the grid column, to be freed with free(). A side with the same cells
 *  in the same order is copied; otherwise potentials go by cell name, and cells that the plan does not know get the
 * mean of the ones found on their side (as do cells whose weight was 0 there). FERRY_E_FILE when no name of either side
 * is known; a side without any is left at zero, with a warning. Another cost than `cost` (NULL: not compared) or
 * another epsilon (<= 0: not compared) is a warning only. */
FERRY_API ferry_status ferry_plan_initial(double **f, double **g, const char *path, const ferry_world *world,
                                          const ferry_grid *grid, const ferry_population *source,
                                          const ferry_population *target, const ferry_cost_options *cost,
                                          double epsilon);
FERRY_END
#endif

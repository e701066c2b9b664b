/* A program that uses the library: transports one small cloud of points to another, both made here, on any number of
 * ranks. Prints one line, the same for every number of ranks. */
#include <cellferry.h>
#include <stdio.h>

enum { SOURCES = 300, TARGETS = 200, DIM = 3 };

/* Points on two curves, from their number alone, so that every rank can make its own rows. */
static void fill(ferry_matrix *points, int64_t first, float shift)
{
    for (int64_t i = 0; i < points->rows; i++)
        for (int k = 0; k < DIM; k++) points->f[i * DIM + k] = shift + (float)((first + i) * (k + 3) % 17) / 17.0f;
}

static ferry_status run(const ferry_grid *grid, const ferry_matrix *x, const ferry_matrix *y, double *a, double *b)
{
    ferry_cost_options how = FERRY_COST_DEFAULTS;
    ferry_transport_options options = FERRY_TRANSPORT_DEFAULTS;
    ferry_potentials potentials;
    ferry_cost *cost = NULL;
    for (int64_t i = 0; i < grid->source_rows; i++) a[i] = 1.0 / SOURCES;
    for (int64_t j = 0; j < grid->target_rows; j++) b[j] = 1.0 / TARGETS;
    FERRY_TRY(ferry_cost_open(&cost, grid, x, y, &how)); /* C / mean(C) of squared distances */
    const ferry_status status = ferry_transport(&potentials, cost, a, b, &options);
    if (status == FERRY_OK && grid->world->rank == 0)
        printf("iterations %d converged %d cost %.17g\n", potentials.iterations, potentials.converged,
               potentials.reg_ot_cost);
    if (status == FERRY_OK) ferry_potentials_close(&potentials);
    ferry_cost_close(&cost);
    return status;
}

static ferry_status solve(const ferry_world *world)
{
    ferry_grid grid;
    ferry_matrix x = {0, 0, NULL, NULL}, y = {0, 0, NULL, NULL};
    double *a = NULL, *b = NULL;
    FERRY_TRY(ferry_grid_open(&grid, world, world->size, 1, SOURCES, TARGETS));
    ferry_status status = ferry_matrix_open(&x, grid.source_rows, DIM, FERRY_FLOAT);
    if (status == FERRY_OK) status = ferry_matrix_open(&y, grid.bring_rows, DIM, FERRY_FLOAT);
    if (status == FERRY_OK) status = ferry_alloc_bytes(&a, grid.source_rows, sizeof *a);
    if (status == FERRY_OK) status = ferry_alloc_bytes(&b, grid.target_rows, sizeof *b);
    status = ferry_agree(world, status); /* before the next call that all ranks must make together */
    if (status == FERRY_OK) {
        fill(&x, grid.source_first, 0.0f);
        fill(&y, grid.bring_first, 0.5f);
        status = run(&grid, &x, &y, a, b);
    }
    free(a);
    free(b);
    ferry_matrix_close(&x);
    ferry_matrix_close(&y);
    ferry_grid_close(&grid);
    return status;
}

int main(int argc, char **argv)
{
    ferry_world world;
    MPI_Init(&argc, &argv);
    ferry_status status = ferry_world_open(&world, MPI_COMM_WORLD);
    if (status == FERRY_OK) status = solve(&world);
    if (status != FERRY_OK && world.rank == 0) fprintf(stderr, "solve: %s\n", ferry_error());
    ferry_world_close(&world);
    MPI_Finalize();
    return ferry_exit_code(status);
}

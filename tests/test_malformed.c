/* Every malformed file of make_files.h: all ranks leave together with FERRY_E_FILE and one message that names the file,
   the HDF5 path and the fault; odd but legal files are read. */
#include <cellferry.h>
#include "make_files.h"
#include "test.h"
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a command does with the file: open, then the part that meets the fault. value = first number read by rank 0. */
static ferry_status use(double *value, const ferry_world *world, const char *path, make_read read)
{
    const char *rep = read == READ_X ? "X" : "X_pca";
    ferry_population_options options = {.path = path, .rep = rep};
    ferry_population population = {0};
    ferry_status status;
    if (read == READ_OPEN) {
        ferry_file *file = NULL;
        status = ferry_file_open(&file, world, path);
        ferry_file_close(&file);
        return status;
    }
    status = ferry_population_open(&population, world, &options);
    int64_t cells = population.cells, first = cells * world->rank / world->size;
    int64_t count = cells * (world->rank + 1) / world->size - first;
    int64_t *rows = NULL;
    if (status == FERRY_OK && (read == READ_X || read == READ_PCA)) {
        ferry_matrix points = {0};
        status = ferry_population_points(&points, world, &population, first, count, FERRY_FLOAT, NULL);
        if (status == FERRY_OK && count && !first) *value = points.f[0];
        ferry_matrix_close(&points);
    } else if (status == FERRY_OK) {
        status = ferry_population_rows(&rows, world, &population, first, count);
        if (status == FERRY_OK && read == READ_TYPE) {
            ferry_labels labels = {0};
            status = ferry_read_labels(&labels, world, population.file, "type", rows, count);
            ferry_labels_close(&labels);
        } else if (status == FERRY_OK && read == READ_SCORE) {
            double *numbers = NULL;
            status = ferry_agree(world, ferry_read_numbers(&numbers, population.file, "score", rows, count));
            free(numbers);
        } else if (status == FERRY_OK) {
            ferry_names names = {0};
            status = ferry_population_names(&names, world, &population, first, count);
            ferry_names_close(&names);
        }
    }
    free(rows);
    ferry_population_close(&population);
    return status;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    char dir[] = "malformed.XXXXXX";
    if (!world.rank) CHECK(mkdtemp(dir) != NULL);
    ferry_broadcast(&world, dir, sizeof dir, 0);
    for (int i = 0; i < make_case_count; i++) {
        const make_case *made = &make_cases[i];
        char path[4096], text[FERRY_ERROR_TEXT], same[FERRY_ERROR_TEXT];
        if (!world.rank) make_file(path, sizeof path, dir, i);
        snprintf(path, sizeof path, "%s/%s.h5ad", dir, made->name);
        ferry_barrier(&world);
        double value = made->first;
        ferry_error_set("", "");
        ferry_status status = use(&value, &world, path, made->read);
        int wanted = made->sound ? status == FERRY_OK && value == made->first : status == FERRY_E_FILE;
        snprintf(text, sizeof text, "%s", status == FERRY_OK ? "" : ferry_error());
        snprintf(same, sizeof same, "%s", text);
        ferry_broadcast(&world, same, sizeof same, 0);
        if (!made->sound)
            wanted = wanted && !strcmp(text, same) && strstr(text, made->name) && strstr(text, made->path) &&
                     strstr(text, made->says);
        if (!wanted && !world.rank)
            fprintf(stderr, "%s (%s): status %d, value %g, message: %s\n", made->name, made->how, status, value, text);
        CHECK(wanted);
        if (!world.rank && argc > 1) printf("%-18s %s\n", made->name, text);
        ferry_barrier(&world);
        if (!world.rank) {
            char inside[8192];
            snprintf(inside, sizeof inside, "%s/.zgroup", path);
            unlink(inside);
            CHECK(unlink(path) == 0 || rmdir(path) == 0);
        }
    }
    if (!world.rank) rmdir(dir);
    ferry_world_close(&world);
    return test_end();
}

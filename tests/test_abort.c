/* The last rank cannot go on while the others wait in a barrier: ferry_abort must end all of them. */
#include "mpi/world.h"
#include "test.h"

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    if (world.rank == world.size - 1) ferry_abort(&world, ferry_fail(FERRY_E_FILE, "disk gone"));
    ferry_barrier(&world);
    printf("nobody was ended\n");
    ferry_world_close(&world);
    return test_end();
}

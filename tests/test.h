/** test.h - the whole test framework: CHECK prints file:line and marks this rank as failed; test_end makes all ranks
 *  return the same exit code. */
#ifndef TEST_H
#define TEST_H
#include <mpi.h>
#include <stdio.h>
static int test_failures;
#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            if (test_failures < 20) fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #cond);                  \
            test_failures++;                                                                                           \
        }                                                                                                              \
    } while (0)
static inline int test_end(void)
{
    MPI_Allreduce(MPI_IN_PLACE, &test_failures, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Finalize();
    return test_failures ? 1 : 0;
}
#endif

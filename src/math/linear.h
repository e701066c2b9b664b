/** linear.h - small dense linear systems, held whole. The last bits depend on the CPU: let one rank solve for all. */
#ifndef FERRY_LINEAR_H
#define FERRY_LINEAR_H
#include "mpi/error.h"
#include <stdbool.h>
#include <stdint.h>
FERRY_BEGIN
/** Local. Solves A x = b for a symmetric positive definite A [n][n], of which only the lower triangle is read; it
 *  becomes the Cholesky factor, and b [n] becomes x. False when A is not positive definite (b then has no meaning). */
FERRY_API bool ferry_solve_spd(double *a, double *b, int n);
/** Local. Solves again with the factor that ferry_solve_spd left. */
FERRY_API void ferry_solve_again(const double *l, double *b, int n);
/** Local. a . b */
FERRY_API double ferry_dot(const double *a, const double *b, int n);
/** Local. Lower triangle of h [n][n] -= w^T w, w [rows][n]. */
FERRY_API void ferry_subtract_gram(double *h, const double *w, int rows, int n);
FERRY_END
#endif

/** krylov.h - the eigenpairs of largest |value| of a symmetric operator that is known by its products with vectors. */
#ifndef FERRY_KRYLOV_H
#define FERRY_KRYLOV_H
#include "math/tall.h"
FERRY_BEGIN
typedef struct ferry_operator {
    /* Collective. y [rows here][columns] = A x. Its bits must not depend on the ranks. */
    ferry_status (*apply)(void *self, double *y, const double *x, int columns);
    void *self;
} ferry_operator;
typedef struct ferry_krylov_options {
    int count;        /* eigenpairs wanted; at most the number of rows */
    double tolerance; /* of residuals |A v - value v|, times the largest |value| */
    int most;         /* products with blocks, at most */
    uint64_t seed;
    const char *what; /* for progress, NULL: none */
} ferry_krylov_options;
typedef struct ferry_eigenpairs {
    int count;
    double *value;    /* [count] by |value|, the largest first; the same on all ranks */
    double *vector;   /* [rows here][count] orthonormal columns */
    double next;      /* |value| of the largest that was left out, about; 0 when all are here */
    double residual;  /* largest of the pairs, measured */
    int64_t products; /* of blocks */
} ferry_eigenpairs;
/** Collective. The same bits for any number of ranks (the Ritz problem is solved on rank 0). FERRY_E_NUMERIC when the
 *  residuals stay above a millionth. Close with ferry_eigenpairs_close. */
FERRY_API ferry_status ferry_krylov(ferry_eigenpairs *out, const ferry_tall *tall, const ferry_operator *op,
                                    const ferry_krylov_options *options);
/** Collective. pairs->residual = the largest |A v - value v|, measured with `columns` products at a time. */
FERRY_API ferry_status ferry_eigenpairs_measure(ferry_eigenpairs *pairs, const ferry_tall *tall,
                                                const ferry_operator *op, int columns);
FERRY_API void ferry_eigenpairs_close(ferry_eigenpairs *pairs);
/** Local. Bytes per rank, with `rows` rows on it, without the operator's. */
FERRY_API int64_t ferry_krylov_bytes(int64_t rows, int count);
FERRY_END
#endif

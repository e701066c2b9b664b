/** codes.h - rows of lists as product-quantised residuals: an index of a few bytes a cell.
 *
 *  The columns are cut into M sub-spaces of nearly equal width, each with a book of 256 words. A row x (prepared:
 *  centred, scaled for cosine) of the list with centroid c is r = the words nearest to its residual x - c, one byte a
 *  sub-space, and
 *    |q - c - r|^2 = |q - c|^2 + (|r|^2 + 2 <c, r>) - 2 <q, r>
 *  where the part in brackets is one number a row, known beforehand, and <q, r> a sum of M entries of a table that is
 *  made once a query. (Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", 2011.) */
#ifndef FERRY_CODES_H
#define FERRY_CODES_H
#include "lists.h"
FERRY_BEGIN
#define FERRY_WORDS 256

typedef struct ferry_codes {
    int bytes; /* M of a row; 0: there are none */
    int dim;
    float *book; /* [256][dim] word w of every sub-space side by side */
    /* of an opened index, once per node: */
    int64_t rows;
    const uint8_t *code;  /* [rows][bytes] in list order */
    const float *own;     /* [rows] |r|^2 + 2 <c, r> */
    const uint32_t *cell; /* [rows] */
    ferry_world node;
    ferry_window window;
} ferry_codes;

/** Local. First column of sub-space m; dim for m = bytes. */
static inline int ferry_codes_column(const ferry_codes *codes, int m)
{
    return (int)((int64_t)m * codes->dim / codes->bytes);
}
/** Collective. The book, by k-means on residuals of a sample of the rows of the lists (which have their rows), drawn by
 *  counting; sub-spaces are dealt to the ranks. The same for any number of ranks and threads, and any memory.
 *  FERRY_E_ARG: not 1 to dim bytes. Close with ferry_codes_close. */
FERRY_API ferry_status ferry_codes_train(ferry_codes *out, const ferry_world *world, const ferry_lists *lists,
                                         int64_t bytes, uint64_t seed, int threads);
FERRY_API void ferry_codes_close(ferry_codes *codes);
/** Local. Bytes per rank of training; of the codes of an opened index per node. */
FERRY_API int64_t ferry_codes_train_bytes(int64_t rows, int dim, int64_t bytes, int threads);
FERRY_API int64_t ferry_codes_held_bytes(int64_t rows, int dim, int64_t bytes);

typedef struct ferry_encoder ferry_encoder;
/** Local. The codes are borrowed. Close with ferry_encoder_close. */
FERRY_API ferry_status ferry_encoder_open(ferry_encoder **out, const ferry_codes *codes, const ferry_quantizer *q);
FERRY_API void ferry_encoder_close(ferry_encoder **encoder);
/** Local, OpenMP threads. code [count][bytes] of rows [count][dim] as in the file, which are rows first ... of the
 *  lists. The nearest word, of equally near ones the first. */
FERRY_API ferry_status ferry_encode(uint8_t *code, const ferry_encoder *encoder, const ferry_lists *lists,
                                    const float *rows, int64_t first, int64_t count, int threads);
/** Local. |r|^2 + 2 <c, r> of one row of `list`, in float64 and rounded. */
FERRY_API float ferry_codes_own(const ferry_codes *codes, const ferry_quantizer *q, const uint8_t *code, int64_t list);
FERRY_END
#endif

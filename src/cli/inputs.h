/** inputs.h - the two sides of a problem from the command line, and reading their points in blocks. */
#ifndef CLI_INPUTS_H
#define CLI_INPUTS_H
#include "program.h"

/* What the user said of one side, or of both. */
typedef struct side_options {
    const char *rep;
    int64_t dims;
    text_list where;
    const char *weights;
} side_options;

/* Local. Filters and names that `both` and `own` give together; the texts stay borrowed. *where (free with free())
 * holds the joined filters. */
ferry_status side_join(ferry_population_options *out, const char ***where, const char *path, const side_options *both,
                       const side_options *own);
/* Collective. Points of kept cells first ... first + count - 1 (any range per rank), read in blocks of `batch` rows.
 * Rows that are not finite end in FERRY_E_FILE naming the first. Close with ferry_matrix_close, also after a failure.
 */
ferry_status points_read(ferry_matrix *out, const ferry_world *world, const ferry_population *population, int64_t first,
                         int64_t count, int64_t batch, ferry_precision precision);
/* Collective. *rows = kept cells of all ranks with NaN or infinity; reads every point, in blocks of `batch` rows. */
ferry_status points_not_finite(int64_t *rows, const ferry_world *world, const ferry_population *population,
                               int64_t batch);
/* Collective. Bytes of a row in its file, for plans: from a few rows in the middle of each rank's part. */
ferry_status points_row_bytes(int64_t *bytes, const ferry_world *world, const ferry_population *cells);
/* Local. One element of the record's inputs; fingerprint 0: not known. */
void input_record(json *out, const char *side, const ferry_population *population, uint64_t fingerprint);
/* Local, rank 0. "source  FILE: 27627 of 55656 cells, X_tsne (2 columns)", and what each filter keeps. */
void input_print(const char *side, const ferry_population *population);
#endif

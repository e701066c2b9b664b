/** evaluate.h - how good a transfer is, against what the queries are known to be. */
#ifndef FERRY_EVALUATE_H
#define FERRY_EVALUATE_H
#include "io/names.h"
#include "mpi/world.h"
#include <stdbool.h>
FERRY_BEGIN
#define FERRY_MOST_CLASSES 4096 /* of a confusion matrix */
/** Counts of (truth, prediction) pairs of cells with a known truth and a confidence of at least the cutoff; classes are
 *  the sorted names that occur in them on either side ("nan": the missing class was predicted). */
typedef struct ferry_confusion {
    ferry_names classes;
    int64_t *count;                           /* [classes][classes] truth x prediction */
    int64_t considered, excluded, unlabelled; /* kept; below the cutoff; truth missing */
    double accuracy, precision, recall, f1;   /* weighted by the truth's support, as sklearn */
    double macro_f1, excluded_share;
    double *class_f1, *class_precision, *class_recall;
    int64_t *support;
} ferry_confusion;
/** Collective. truth and prediction [count] codes into their names (-1 missing), confidence [count]; a share without
 *  support is 0. FERRY_E_FILE with more than FERRY_MOST_CLASSES classes. Close with ferry_confusion_close. */
FERRY_API ferry_status ferry_evaluate_labels(ferry_confusion *out, const ferry_world *world, const int32_t *truth,
                                             const ferry_names *truth_names, const int32_t *prediction,
                                             const ferry_names *prediction_names, const float *confidence,
                                             int64_t count, double cutoff);
FERRY_API void ferry_confusion_close(ferry_confusion *confusion);

typedef enum ferry_agreement { FERRY_PEARSON = 0, FERRY_SPEARMAN, FERRY_JS, FERRY_RMSE } ferry_agreement;
/** Both sides dense, rows of this rank. */
typedef struct ferry_expression {
    const double *truth, *imputed; /* [cells][genes] */
    const int64_t *cell;           /* [cells] their numbers 0 ... of all ranks' cells, each once */
    int64_t cells, genes;
} ferry_expression;
/** Collective. agreement [genes] of each gene between truth and imputed over all cells, on every rank; NaN where not
 *  defined. js: Jensen-Shannon distance, base 10, of values clipped at 0; rmse: of z-scores (ddof 0, std 0 -> 1).
 *  Columns are dealt over the ranks, a few at a time, and put in the order of the cells: the same bits for any number
 *  of ranks. */
FERRY_API ferry_status ferry_evaluate_expression(double *agreement, const ferry_world *world,
                                                 const ferry_expression *expression, ferry_agreement method);
/** Local. Mean of what is defined; NaN when nothing is. */
FERRY_API double ferry_agreement_mean(const double *agreement, int64_t genes);
FERRY_END
#endif

/** evaluate.h - how good a transfer is, against what the queries are known to be. */
#ifndef FERRY_EVALUATE_H
#define FERRY_EVALUATE_H
#include "io/names.h"
#include "mpi/world.h"
#include <stdbool.h>
FERRY_BEGIN
/** Counts of (truth, prediction) pairs; classes are the sorted union of both sides' names. */
typedef struct ferry_confusion {
    ferry_names classes;
    int64_t *count;                           /* [classes][classes] truth x prediction */
    int64_t considered, excluded, unlabelled; /* kept; below the cutoff; truth missing */
    double accuracy, precision, recall, f1;   /* weighted by the truth's support, as sklearn */
    double macro_f1, excluded_share;
    double *class_f1, *class_precision, *class_recall;
    int64_t *support;
} ferry_confusion;
/** Collective. truth and prediction [count] codes into their names (-1 missing), confidence [count]. Close with
 *  ferry_confusion_close. */
FERRY_API ferry_status ferry_evaluate_labels(ferry_confusion *out, const ferry_world *world, const int32_t *truth,
                                             const ferry_names *truth_names, const int32_t *prediction,
                                             const ferry_names *prediction_names, const float *confidence,
                                             int64_t count, double cutoff);
FERRY_API void ferry_confusion_close(ferry_confusion *confusion);

typedef enum ferry_agreement { FERRY_PEARSON = 0, FERRY_SPEARMAN, FERRY_JS, FERRY_RMSE } ferry_agreement;
/** Collective. agreement [genes] of each gene between truth and imputed over all cells; NaN where not defined.
 *  js: Jensen-Shannon distance, base 10, of values clipped at 0; rmse: of z-scores (ddof 0, std 0 -> 1). Both sides
 *  dense [cells][genes], rows of this rank. The mean over defined genes in *mean. Spearman ranks need the column whole
 *  in one place: columns are dealt over the ranks. */
FERRY_API ferry_status ferry_evaluate_expression(double *agreement, double *mean, const ferry_world *world,
                                                 const double *truth, const double *imputed, int64_t cells,
                                                 int64_t genes, ferry_agreement method);
FERRY_END
#endif

/* How good predicted labels are, as sklearn counts it (zero_division = 0).
 *
 *    precision_c = C_cc / sum_t C_tc,  recall_c = C_cc / sum_p C_cp,  F1_c = 2 C_cc / (sum_t C_tc + sum_p C_cp)
 *
 *  weighted: by the truth's support; macro: the mean over classes that occur on either side. Only counts travel. */
#include "evaluate.h"
#include <string.h>

#define UNLABELLED "nan" /* the class of missing predictions */

static const ferry_names *sorted_names; /* for qsort; ranks are processes, and threads do not come here */

static int by_name(const void *a, const void *b)
{
    return strcmp(ferry_name(sorted_names, *(const int64_t *)a), ferry_name(sorted_names, *(const int64_t *)b));
}

/* Local. Names of `names` that occur, appended to `all`. */
static ferry_status add_names(ferry_names *all, const ferry_names *names, const int64_t *occurs)
{
    for (int64_t i = 0; i < names->count; i++)
        if (occurs[i]) FERRY_TRY(ferry_names_add(all, ferry_name(names, i), (int64_t)strlen(ferry_name(names, i))));
    return FERRY_OK;
}

/* Local. out = the sorted distinct names of `all`. */
static ferry_status sort_names(ferry_names *out, const ferry_names *all)
{
    FERRY_AUTO int64_t *order = NULL;
    FERRY_TRY(ferry_alloc(&order, all->count));
    for (int64_t i = 0; i < all->count; i++) order[i] = i;
    sorted_names = all;
    qsort(order, (size_t)all->count, sizeof *order, by_name);
    for (int64_t i = 0; i < all->count; i++) {
        const char *name = ferry_name(all, order[i]);
        if (i && !strcmp(name, ferry_name(all, order[i - 1]))) continue;
        FERRY_TRY(ferry_names_add(out, name, (int64_t)strlen(name)));
    }
    return FERRY_OK;
}

/* Place of a name among sorted ones; it is there. */
static int64_t place_of(const ferry_names *sorted, const char *name)
{
    int64_t low = 0, high = sorted->count - 1;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (strcmp(ferry_name(sorted, middle), name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* One side: which of its names occur, and their classes. The last is the missing label. */
typedef struct side {
    const ferry_names *names;
    int64_t *occurs; /* [names + 1] */
    int64_t *class_of;
} side;

static ferry_status side_open(side *s, const ferry_names *names)
{
    s->names = names;
    FERRY_TRY(ferry_alloc(&s->occurs, names->count + 1));
    return ferry_alloc(&s->class_of, names->count + 1);
}

static void side_close(side *s)
{
    free(s->occurs);
    free(s->class_of);
}

static void side_classes(side *s, const ferry_names *classes)
{
    for (int64_t i = 0; i <= s->names->count; i++)
        if (s->occurs[i])
            s->class_of[i] = place_of(classes, i < s->names->count ? ferry_name(s->names, i) : UNLABELLED);
}

typedef struct cells {
    const int32_t *truth, *prediction;
    const float *confidence;
    int64_t count;
    double cutoff;
} cells;

static bool considered(const cells *c, int64_t i)
{
    return c->truth[i] >= 0 && c->confidence[i] >= (float)c->cutoff;
}

static int64_t slot(const side *s, int32_t code)
{
    return code < 0 ? s->names->count : code;
}

/* Collective. Which names occur over all ranks. */
static void look(ferry_confusion *out, side *truth, side *prediction, const ferry_world *world, const cells *c)
{
    int64_t sum[3] = {0, 0, 0};
    for (int64_t i = 0; i < c->count; i++) {
        sum[0] += considered(c, i);
        sum[1] += c->truth[i] >= 0 && !considered(c, i);
        sum[2] += c->truth[i] < 0;
        if (!considered(c, i)) continue;
        truth->occurs[slot(truth, c->truth[i])]++;
        prediction->occurs[slot(prediction, c->prediction[i])]++;
    }
    ferry_total_counts(world, sum, 3);
    ferry_total_counts(world, truth->occurs, truth->names->count + 1);
    ferry_total_counts(world, prediction->occurs, prediction->names->count + 1);
    out->considered = sum[0];
    out->excluded = sum[1];
    out->unlabelled = sum[2];
}

/* Local; the same on every rank. */
static ferry_status open_classes(ferry_confusion *out, const side *truth, const side *prediction)
{
    ferry_names all = {0};
    ferry_status status = add_names(&all, truth->names, truth->occurs);
    if (status == FERRY_OK) status = add_names(&all, prediction->names, prediction->occurs);
    if (status == FERRY_OK && prediction->occurs[prediction->names->count])
        status = ferry_names_add(&all, UNLABELLED, (int64_t)strlen(UNLABELLED));
    if (status == FERRY_OK) status = sort_names(&out->classes, &all);
    ferry_names_close(&all);
    FERRY_TRY(status);
    const int64_t n = out->classes.count;
    if (n > FERRY_MOST_CLASSES)
        return ferry_fail(FERRY_E_FILE,
                          "%lld classes of labels: a confusion matrix takes at most %d; evaluate a "
                          "coarser column",
                          (long long)n, FERRY_MOST_CLASSES);
    FERRY_TRY(ferry_alloc(&out->count, n * n));
    FERRY_TRY(ferry_alloc(&out->class_f1, n));
    FERRY_TRY(ferry_alloc(&out->class_precision, n));
    FERRY_TRY(ferry_alloc(&out->class_recall, n));
    return ferry_alloc(&out->support, n);
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* Local. Figures from the counts. */
static void figures(ferry_confusion *c)
{
    const int64_t n = c->classes.count;
    const double total = (double)c->considered;
    double right = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t predicted = 0;
        for (int64_t j = 0; j < n; j++) {
            c->support[k] += c->count[k * n + j];
            predicted += c->count[j * n + k];
        }
        const double hit = (double)c->count[k * n + k], support = (double)c->support[k];
        c->class_precision[k] = ratio(hit, (double)predicted);
        c->class_recall[k] = ratio(hit, support);
        c->class_f1[k] = ratio(2 * hit, support + (double)predicted);
        right += hit;
        c->precision += ratio(support * c->class_precision[k], total);
        c->recall += ratio(support * c->class_recall[k], total);
        c->f1 += ratio(support * c->class_f1[k], total);
        c->macro_f1 += c->class_f1[k] / (double)n;
    }
    c->accuracy = ratio(right, total);
    c->excluded_share = ratio((double)c->excluded, total + (double)c->excluded);
}

/* Collective. */
static ferry_status evaluate(ferry_confusion *out, side *truth, side *prediction, const ferry_world *world,
                             const cells *c)
{
    look(out, truth, prediction, world, c);
    FERRY_TRY(ferry_agree(world, open_classes(out, truth, prediction)));
    side_classes(truth, &out->classes);
    side_classes(prediction, &out->classes);
    const int64_t n = out->classes.count;
    for (int64_t i = 0; i < c->count; i++)
        if (considered(c, i))
            out->count[truth->class_of[slot(truth, c->truth[i])] * n +
                       prediction->class_of[slot(prediction, c->prediction[i])]]++;
    ferry_total_counts(world, out->count, n * n);
    figures(out);
    return FERRY_OK;
}

static ferry_status open_sides(side *truth, const ferry_names *truth_names, side *prediction,
                               const ferry_names *prediction_names)
{
    FERRY_TRY(side_open(truth, truth_names));
    return side_open(prediction, prediction_names);
}

ferry_status ferry_evaluate_labels(ferry_confusion *out, const ferry_world *world, const int32_t *truth,
                                   const ferry_names *truth_names, const int32_t *prediction,
                                   const ferry_names *prediction_names, const float *confidence, int64_t count,
                                   double cutoff)
{
    side t = {0}, p = {0};
    const cells c = {truth, prediction, confidence, count, cutoff};
    *out = (ferry_confusion){0};
    const ferry_status opened = open_sides(&t, truth_names, &p, prediction_names);
    ferry_status status = ferry_agree(world, opened);
    if (status == FERRY_OK && opened == FERRY_OK) status = evaluate(out, &t, &p, world, &c);
    side_close(&t);
    side_close(&p);
    if (status != FERRY_OK) ferry_confusion_close(out);
    return status;
}

void ferry_confusion_close(ferry_confusion *confusion)
{
    ferry_names_close(&confusion->classes);
    free(confusion->count);
    free(confusion->class_f1);
    free(confusion->class_precision);
    free(confusion->class_recall);
    free(confusion->support);
    *confusion = (ferry_confusion){0};
}

/* Recursive bisection: the set is cut across the direction in which it is widest (the leading axis of its weighted
 * spread, by a few power steps from the coordinate of largest variance), where half of the weight lies on either side;
 * then either half. Points of a run of the order are near each other. */
#include "quantizer_impl.h"
#include <math.h>
#include <string.h>

#define POWER_STEPS 6

typedef struct bisection {
    const float *centres;
    const int64_t *weight;
    int dim;
    int32_t *order;
    double *axis, *next, *mean; /* [dim] */
    struct projected {
        double at;
        int64_t number;
    } * key; /* [count] */
} bisection;

static const float *centre_of(const bisection *b, int i)
{
    return b->centres + (int64_t)b->order[i] * b->dim;
}

static void find_mean(bisection *b, int low, int high)
{
    double total = 0;
    memset(b->mean, 0, (size_t)b->dim * sizeof *b->mean);
    for (int i = low; i < high; i++) {
        const float *c = centre_of(b, i);
        const double w = (double)b->weight[b->order[i]];
        total += w;
        for (int k = 0; k < b->dim; k++) b->mean[k] += w * (double)c[k];
    }
    for (int k = 0; k < b->dim; k++) b->mean[k] /= total;
}

/* The coordinate of largest variance, as a direction. */
static void widest_coordinate(bisection *b, int low, int high)
{
    int widest = 0;
    memset(b->next, 0, (size_t)b->dim * sizeof *b->next);
    for (int i = low; i < high; i++) {
        const float *c = centre_of(b, i);
        const double w = (double)b->weight[b->order[i]];
        for (int k = 0; k < b->dim; k++) {
            const double away = (double)c[k] - b->mean[k];
            b->next[k] += w * away * away;
        }
    }
    for (int k = 1; k < b->dim; k++)
        if (b->next[k] > b->next[widest]) widest = k;
    memset(b->axis, 0, (size_t)b->dim * sizeof *b->axis);
    b->axis[widest] = 1;
}

static double project(const bisection *b, const float *c)
{
    double sum = 0;
    for (int k = 0; k < b->dim; k++) sum += ((double)c[k] - b->mean[k]) * b->axis[k];
    return sum;
}

static void power_step(bisection *b, int low, int high)
{
    double norm = 0;
    memset(b->next, 0, (size_t)b->dim * sizeof *b->next);
    for (int i = low; i < high; i++) {
        const float *c = centre_of(b, i);
        const double part = (double)b->weight[b->order[i]] * project(b, c);
        for (int k = 0; k < b->dim; k++) b->next[k] += part * ((double)c[k] - b->mean[k]);
    }
    for (int k = 0; k < b->dim; k++) norm += b->next[k] * b->next[k];
    if (!(norm > 0) || !isfinite(norm)) return;
    norm = sqrt(norm);
    for (int k = 0; k < b->dim; k++) b->axis[k] = b->next[k] / norm;
}

static int compare(const void *a, const void *b)
{
    const struct projected *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

/* Sorts low ... high - 1 along the axis; returns where half of the weight is reached. */
static int halve(bisection *b, int low, int high)
{
    double total = 0, sum = 0;
    for (int i = low; i < high; i++) {
        b->key[i] = (struct projected){project(b, centre_of(b, i)), b->order[i]};
        total += (double)b->weight[b->order[i]];
    }
    qsort(b->key + low, (size_t)(high - low), sizeof *b->key, compare);
    for (int i = low; i < high; i++) b->order[i] = (int32_t)b->key[i].number;
    int middle = low;
    while (middle < high && 2 * sum < total) sum += (double)b->weight[b->order[middle++]];
    return middle <= low ? low + 1 : middle >= high ? high - 1 : middle;
}

static void split(bisection *b, int low, int high)
{
    while (high - low > 1) {
        find_mean(b, low, high);
        widest_coordinate(b, low, high);
        for (int step = 0; step < POWER_STEPS; step++) power_step(b, low, high);
        const int middle = halve(b, low, high);
        split(b, low, middle);
        low = middle;
    }
}

void ferry_bisect(int32_t *order, const float *centres, const int64_t *weight, int count, int dim, double *room)
{
    bisection b = {.centres = centres, .weight = weight, .dim = dim, .order = order};
    b.key = (struct projected *)(void *)room;
    b.axis = room + 2 * (int64_t)count;
    b.next = b.axis + dim;
    b.mean = b.next + dim;
    for (int i = 0; i < count; i++) order[i] = i;
    split(&b, 0, count);
}

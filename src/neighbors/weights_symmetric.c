/* Rows of a symmetric K: the edges of a row and those that end in it, joined cell by cell.
 *
 *   max   max(K_ij, K_ji)      mean  (K_ij + K_ji) / 2      umap  W_ij + W_ji - W_ij W_ji in float32, 0 left out */
#include "weights_impl.h"

static double join(const struct ferry_weights_store *store, double a, double b)
{
    if (store->options.kernel == FERRY_UMAP) {
        const float x = (float)a, y = (float)b, both = x + y, product = x * y;
        return both - product;
    }
    if (store->options.symmetrize == FERRY_SYMMETRIZE_MEAN) return (a + b) / 2;
    return a > b ? a : b;
}

int64_t ferry_symmetric_row(uint32_t *cell, double *weight, const struct ferry_weights_store *store, int64_t row,
                            const ferry_link *own, int64_t n, const ferry_edge *in, int64_t m)
{
    int64_t count = 0;
    for (int64_t i = 0, j = 0; i < n || j < m;) {
        const bool out = i < n && (j == m || own[i].cell <= in[j].from);
        const bool back = j < m && (i == n || in[j].from <= own[i].cell);
        const uint32_t other = out ? own[i].cell : in[j].from;
        const double there = out ? ferry_weight_of(store, own[i].value) : 0;
        double here = back ? ferry_weight_of(store, in[j].value) : 0;
        if (other == row) here = there; /* its own transpose, which was not sent */
        i += out;
        j += back;
        const double w = join(store, there, here);
        if (w == 0 && store->options.kernel == FERRY_UMAP) continue;
        cell[count] = other;
        weight[count++] = w;
    }
    return count;
}

/* Options of a cost as text, and the small questions about an open one. Costs are defined in cost.h. */
#include "cost_impl.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    ferry_cost_kind kind;
    int takes; /* 0: no parameter, 1: an exponent, 2: the order of arccos */
} kinds[] = {
    {"sq_euclidean", FERRY_COST_SQ_EUCLIDEAN, 0},
    {"euclidean", FERRY_COST_EUCLIDEAN, 0},
    {"cosine", FERRY_COST_COSINE, 0},
    {"pnorm", FERRY_COST_PNORM, 1},
    {"sq_pnorm", FERRY_COST_SQ_PNORM, 1},
    {"euclidean_p", FERRY_COST_EUCLIDEAN_P, 1},
    {"dot", FERRY_COST_DOT, 0},
    {"arccos", FERRY_COST_ARCCOS, 2},
    {"spearman", FERRY_COST_SPEARMAN, 0},
    {"correlation", FERRY_COST_CORRELATION, 0},
};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static const struct {
    const char *name;
    ferry_scale scale;
} scales[] = {{"mean", FERRY_SCALE_MEAN},
              {"median", FERRY_SCALE_MEDIAN},
              {"max_cost", FERRY_SCALE_MAX_COST},
              {"max_norm", FERRY_SCALE_MAX_NORM},
              {"max_bound", FERRY_SCALE_MAX_BOUND}};
#define SCALES ((int)(sizeof scales / sizeof *scales))

/* Letters of a that are in b, in order, less the rest: enough to guess what was meant. */
static int alike(const char *a, const char *b)
{
    int common = 0, longest = (int)strlen(b);
    for (const char *p = b; *a; a++) {
        const char *hit = strchr(p, tolower((unsigned char)*a));
        if (*p && hit && hit - p <= 2) {
            common++;
            p = hit + 1;
        }
    }
    return 2 * common - longest;
}

/* A number and nothing after it. */
static bool number(double *out, const char *text)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out);
}

ferry_status ferry_cost_parse(ferry_cost_options *out, const char *text)
{
    size_t length = strcspn(text, ":");
    for (int i = 0; i < KINDS; i++) {
        if (strlen(kinds[i].name) != length || strncmp(kinds[i].name, text, length) != 0) continue;
        double p = kinds[i].kind == FERRY_COST_ARCCOS ? 1 : 2;
        if (text[length] && !kinds[i].takes)
            return ferry_fail(FERRY_E_ARG, "cost %s takes no parameter: write %s", text, kinds[i].name);
        if (!text[length] && kinds[i].takes)
            return ferry_fail(FERRY_E_ARG, "cost %s needs a parameter: write %s:%s", text, text,
                              kinds[i].takes == 2 ? "1 (0, 1 or 2)" : "2 (an exponent)");
        if (text[length] && !number(&p, text + length + 1))
            return ferry_fail(FERRY_E_ARG, "cost %s: \"%s\" is not a number", text, text + length + 1);
        if (kinds[i].takes == 1 && !(p > 0))
            return ferry_fail(FERRY_E_ARG, "cost %s: the exponent must be positive", text);
        if (kinds[i].takes == 2 && p != 0 && p != 1 && p != 2)
            return ferry_fail(FERRY_E_ARG, "cost %s: the order must be 0, 1 or 2", text);
        out->kind = kinds[i].kind;
        out->p = p;
        return FERRY_OK;
    }
    int best = 0;
    for (int i = 1; i < KINDS; i++)
        if (alike(text, kinds[i].name) > alike(text, kinds[best].name)) best = i;
    return ferry_fail(FERRY_E_ARG,
                      "unknown cost \"%s\": did you mean %s? (sq_euclidean, euclidean, cosine, pnorm:P, sq_pnorm:P, "
                      "euclidean_p:P, dot, arccos:N, spearman, correlation)",
                      text, kinds[best].name);
}

ferry_status ferry_scale_parse(ferry_cost_options *out, const char *text)
{
    for (int i = 0; i < SCALES; i++)
        if (strcmp(scales[i].name, text) == 0) {
            out->scale = scales[i].scale;
            return FERRY_OK;
        }
    double value;
    if (number(&value, text)) {
        if (!(value > 0))
            return ferry_fail(FERRY_E_ARG, "scale_cost %s: the cost is divided by it, so it must be positive", text);
        out->scale = FERRY_SCALE_NUMBER;
        out->scale_number = value;
        return FERRY_OK;
    }
    int best = 0;
    for (int i = 1; i < SCALES; i++)
        if (alike(text, scales[i].name) > alike(text, scales[best].name)) best = i;
    return ferry_fail(FERRY_E_ARG,
                      "unknown scale_cost \"%s\": did you mean %s? (mean, median, max_cost, max_norm, max_bound, or a "
                      "number to divide by)",
                      text, scales[best].name);
}

const char *ferry_cost_text(char text[32], const ferry_cost_options *options)
{
    text[0] = 0;
    for (int i = 0; i < KINDS; i++)
        if (kinds[i].kind == options->kind)
            snprintf(text, 32, kinds[i].takes ? "%s:%.12g" : "%s", kinds[i].name, options->p);
    return text;
}

double ferry_cost_inv_scale(const ferry_cost *cost)
{
    return cost->inv_scale;
}
const ferry_source *ferry_cost_source(const ferry_cost *cost)
{
    return cost->has_source ? &cost->source : NULL;
}
const ferry_grid *ferry_cost_grid(const ferry_cost *cost)
{
    return cost->grid;
}
const ferry_cost_options *ferry_cost_options_of(const ferry_cost *cost)
{
    return &cost->options;
}

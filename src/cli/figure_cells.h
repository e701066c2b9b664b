/** figure_cells.h - the cells of a .h5ad file as points of an embedding, coloured by columns of obs: what is read, and
 * the picture of it. */
#ifndef CLI_FIGURE_CELLS_H
#define CLI_FIGURE_CELLS_H
#include "figure.h"

enum { CELLS_PANELS = 4, CELLS_NAME = 256 };
/* One column of obs; with labels or, if it holds numbers, with number. */
typedef struct cells_panel {
    char column[CELLS_NAME];
    bool numeric;
    ferry_labels labels;
    double *number;     /* [count], NaN: missing */
    ferry_names stored; /* uns/<column>_colors; empty when there are none for every category */
} cells_panel;

typedef struct figure_cells {
    const char *path; /* borrowed from the wish */
    char basis[CELLS_NAME];
    int panels;
    int64_t cells, count; /* in the file; read, on rank 0 */
    ferry_matrix xy;      /* [count, 2] */
    cells_panel panel[CELLS_PANELS];
} figure_cells;

/* What is wanted; NULL and no colours: chosen. */
typedef struct cells_wish {
    const char *path;  /* .h5ad or @LIST.txt */
    const char *basis; /* key of obsm, with or without "X_" */
    const char *const *colour;
    int colours;
    int64_t most;  /* cells to draw */
    bool optional; /* a file without an embedding or a column is FERRY_OK with panels 0 */
} cells_wish;

/* 64 random bits by counting (splitmix64's finish): which cells are drawn, and in which order. */
static inline uint64_t figure_cells_random(int64_t counter)
{
    uint64_t x = ((uint64_t)counter + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Collective. The cells to draw, on rank 0, and on all ranks how many panels; at most `most`, the same ones whenever
 * they are chosen. FERRY_E_FILE names what there is. Close with figure_cells_close. */
ferry_status figure_cells_read(figure_cells *out, const ferry_world *world, const cells_wish *wish);
void figure_cells_close(figure_cells *cells);
/* Local. */
ferry_status figure_cells_draw(figure *out, const figure_cells *cells, const char *title);
#endif

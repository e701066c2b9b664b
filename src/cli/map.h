/** map.h - the parts of `cellferry map`: its options, what a run holds, and its steps, each in map_<step>.c. */
#ifndef CLI_MAP_H
#define CLI_MAP_H
#include "neighbors_report.h"

typedef struct map_options {
    common_options common; /* first */
    search_options search;
    sides_options sides;
    text_list obs, obsm;
    const char *layer, *libsize, *genes;
    const char *kernel, *symmetrize, *self_edges;
    int64_t steps, eigenvectors;
    const char *diffusion;
    const char *presence, *presence_percentile;
    bool presence_log, presence_minmax;
    int global_mean;
    const char *neighbors;
    bool probabilities;
    const char *joint;
    int64_t components;
    double unknown_quantile;
    text_list subset;
    bool drop_missing;
    const char *evaluate;
    double cutoff;
    const char *evaluate_layer, *evaluate_method;
    bool into;
} map_options;

extern const cli_option map_table[];

/* A column of obs that is mapped. */
typedef struct map_key {
    char *name, *predicted; /* "cell_type", "cell_type_pred" */
    bool number;
    ferry_labels labels; /* of the reference's rows here */
    double *value;       /* the same of numbers */
    bool *kept;          /* [categories] of --subset; NULL: all */
    bool evaluated;      /* --evaluate looks at it */
    int64_t *cells;      /* [categories + 1] queries of each label; the last: missing */
    int64_t confidence;  /* sum over the queries, in 2^-30: the same for any number of ranks */
    int64_t massless;    /* queries without any weight on a label */
    int32_t *code;       /* [query rows here] as predicted, in the order of the walk; only if evaluated */
    float *trust;
    int64_t rows; /* that code has */
} map_key;

/* The layer that is mapped. */
typedef struct map_layer {
    char rep[300];     /* "X", "layers/counts" */
    int dim;           /* genes in the file */
    int64_t count;     /* genes taken */
    int32_t *column;   /* [count] their columns in the file, ascending */
    ferry_names names; /* [count] */
    int64_t bytes;     /* of the rows held here, at most (before reading) */
    int64_t *start;    /* as ferry_transfer_sparse */
    ferry_transfer_entry *entry;
    int64_t entries;
    bool by_columns; /* stored as CSC: a read of any rows goes over all of it */
    int64_t batch;   /* bytes of dense rows that are read at a time */
    int64_t work;    /* bytes for fetched rows and results at a time */
    double mean;     /* values of a cell, about */
    double read;     /* bytes of the file that hold it, all ranks, about */
} map_layer;

/* What a run holds; closed by map_close. */
typedef struct map_job {
    cli_program *program;
    const map_options *o;
    const ferry_world *world;
    bool self;       /* one set */
    bool two_hops;   /* the kernel needs all four searches */
    bool diffused;   /* M^t by map_diffuse */
    bool weighted;   /* the weights are there */
    bool decomposed; /* the spectrum is there */
    int keys;
    sides_options sides;           /* as used: an index tells what is not said */
    char *index_rep, *index_input; /* representation and file that an index names */
    const char *reference_path;
    const char **where[2];
    ferry_population query, other; /* other: the reference of two sets */
    ferry_population *reference;   /* one of them */
    ferry_neighbors_options search;
    ferry_weights_options kernel;
    ferry_diffusion_options diffusion;
    ferry_spectrum spectrum;
    double percentile[2];
    ferry_joint joint;
    ferry_points_shard shard[2];
    ferry_points points[2];          /* query, reference */
    ferry_neighbors_plan plan, back; /* of searches in the reference; in the query, for the kernels of two hops */
    int64_t room;                    /* bytes per rank for what comes after the search */
    ferry_neighbors_report report;
    ferry_graph yx, xx, yy, xy;
    ferry_weights_graphs graphs; /* NULL: not made */
    ferry_weights weights;
    int64_t *first; /* [size + 1] reference rows held by each rank */
    int64_t *rows;  /* rows of the reference's file held here */
    map_key *key;
    map_layer layer;
    ferry_output *output;
    int64_t unknown; /* queries */
    double far;      /* mean distance above which they are */
} map_job;

/* Local: map_options.c. Options that do not fit together, and what they mean. FERRY_E_ARG. */
ferry_status map_check(map_job *job);

/* map_keys.c. Collective. Both sides, open; the reference's columns of obs, and the genes of the layer. Everything that
 * can be missing in a file is found here, before the work. */
ferry_status map_open(map_job *job);
/* Collective. File rows of the queries of this rank in the order of the walk; free with free(). */
ferry_status map_walk_rows(int64_t **rows, int64_t *count, const map_job *job, const ferry_blocks *blocks);
void map_close(map_job *job);
/* "X", "raw/X", "layers/NAME" for what a user calls a layer. */
void map_layer_rep(char rep[300], const char *name);

/* map_plan.c. Collective. Memory and phases: FERRY_E_PLAN when they do not fit. */
ferry_status map_settle(map_job *job);
/* Local, rank 0. For --plan. */
void map_describe(const map_job *job);

/* map_search.c. Collective. Graphs, weights. */
ferry_status map_search(map_job *job);

/* map_into.c. Collective. The result, open: new, or a copy of the query. Names that are written are free. */
ferry_status map_output(map_job *job);
/* Collective. uns/KEY_colors of the predictions. */
ferry_status map_colours(const map_job *job, const map_key *key);
/* Local. "OUT.h5ad" and "presence.h5ad" -> "OUT.presence.h5ad"; free with free(). */
ferry_status map_beside(char **path, const char *output, const char *ending);
/* Collective. Of a copy: nothing lies at FRAME/NAME any more. */
ferry_status map_clear(const map_job *job, const char *frame, const char *name);
/* Local. "FRAME/NAME" with what the writer makes of the name, and an ending such as "/codes". */
void map_path(char path[1024], const char *frame, const char *name, const char *ending);
/* Local. place [names] -> its number in `all`, -1 when absent. */
ferry_status map_find_names(int32_t *place, const ferry_names *names, const ferry_names *all);

/* map_labels.c, map_values.c, map_layer.c, map_presence.c. Collective: into the open result. */
ferry_status map_labels(map_job *job, map_key *key);
ferry_status map_unknown(map_job *job);
ferry_status map_numbers(map_job *job, map_key *key);
ferry_status map_embedding(map_job *job, const char *key);
ferry_status map_layer_run(map_job *job);
/* map_values.c. Collective. values [reference rows here][width] <- M^t values. */
ferry_status map_diffuse(map_job *job, double *values, int64_t width);
ferry_status map_presence(map_job *job);

/* map_evaluate.c. Collective. Predicted labels of the key against the query's own. */
ferry_status map_evaluate(map_job *job, const map_key *key);
/* Agreement of the layer with the query's own, gathered while the layer is made: genes in slabs that fit. */
typedef struct map_agreement {
    map_job *job;
    char rep[300];
    int dim;                /* genes of the query's layer */
    int32_t *truth;         /* [genes of the layer] its column in the query's layer; -1: not there */
    int64_t shared;         /* genes */
    int32_t *gene;          /* [shared] their number in the layer */
    int64_t slab, from, to; /* of shared genes: at a time; those of this pass */
    int64_t room, cells;    /* rows held */
    double *own, *imputed;  /* [cells][slab] */
    int64_t *cell;          /* their numbers */
    double *agreement;      /* [genes of the layer], NaN: none */
} map_agreement;
ferry_status map_agreement_open(map_agreement *a, map_job *job, int64_t memory);
/* Cells first ... of the query: dense rows of the layer. Every rank calls it equally often. */
ferry_status map_agreement_rows(map_agreement *a, int64_t first, int64_t rows, const ferry_rows *imputed);
/* The genes of the pass are complete. */
ferry_status map_agreement_pass(map_agreement *a);
/* Into var and the figures. */
ferry_status map_agreement_write(map_agreement *a);
void map_agreement_close(map_agreement *a);
#endif

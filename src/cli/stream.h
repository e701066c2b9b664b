/** stream.h - what sparsify, push, pull and transition share: a solved plan opened again, the memory for passes over
 * it, and the frame of an AnnData result. */
#ifndef CLI_STREAM_H
#define CLI_STREAM_H
#include "inputs.h"
#include "layout.h"

typedef struct stream {
    cli_program *program;
    ferry_plan plan;
    ferry_layout layout;
    int64_t room;         /* bytes for panels and blocks, beside the target side */
    ferry_output *output; /* of commands that write AnnData */
} stream;

extern const absent_option stream_absent[];

/* Bytes that a command holds while it goes over the plan, beside the target side and the panels. */
typedef struct stream_needs {
    int64_t row, thread, fixed; /* per source row of a block, per thread, per rank */
    int passes;                 /* over the plan */
} stream_needs;

/* Collective. Checks the output and opens the plan. Close with stream_close, also after a failure. */
ferry_status stream_open(stream *out, cli_program *program);
/* Collective. Chooses grid and memory: FERRY_E_PLAN when they do not fit. */
ferry_status stream_settle(stream *s, const stream_needs *needs);
/* Local. What `columns` columns carried at a time need. */
stream_needs stream_column_needs(const stream *s, bool pull, int64_t columns, int passes);
/* Local; Collective when a result is open (it is removed). */
void stream_close(stream *s);
/* Collective. For --plan: sides and phases; there is nothing more to do then. */
void stream_describe(const stream *s);
/* Collective. Opens the result with obs = the kept cells of `cells`. */
ferry_status stream_output(stream *s, const ferry_population *cells);
/* Collective. Its var frame: the kept cells of a side, or names that every rank holds. */
ferry_status stream_var_cells(stream *s, const ferry_population *cells);
ferry_status stream_var_names(stream *s, const ferry_names *names);
/* Collective. The record into the result, and the result under its name. */
ferry_status stream_finish(stream *s, const char *kind);
/* Local, rank 0: the last lines of a summary. */
void stream_summary(const stream *s);
#endif

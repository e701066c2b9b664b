/** neighbors_report.h - a search for people and for the run record: what is planned, and what came out. */
#ifndef CLI_NEIGHBORS_REPORT_H
#define CLI_NEIGHBORS_REPORT_H
#include "neighbors_options.h"

/* Local. The ranks and nodes that a plan is made for (machine_of), and what a rank holds already. */
void sizes_of_machine(ferry_neighbors_sizes *sizes, const cli_program *program, int64_t base);
/* Local, rank 0. The table of phases on stdout. */
void neighbors_plan_print(const ferry_neighbors_plan *plan, const cli_program *program);
/* Local. `layout` as a member of an open object. */
void neighbors_plan_record(json *out, const ferry_neighbors_plan *plan, const cli_program *program);
/* Local. Figures of the search: its setting, recall, and work. */
void neighbors_record(json *out, const ferry_neighbors_report *report);
/* Local, rank 0. Lines of the summary. */
void neighbors_print(const ferry_neighbors_report *report, const ferry_neighbors_options *options);

/* Collective. The cells of a population as a frame (obs or var), in row blocks of bounded size. */
ferry_status cells_frame_in_parts(ferry_output *output, const ferry_world *world, const char *frame,
                                  const ferry_population *cells);
/* Collective. Names of the kept cells as one array of texts, likewise. */
ferry_status cells_names_in_parts(ferry_output *output, const ferry_world *world, const char *path,
                                  const ferry_population *cells);
#endif

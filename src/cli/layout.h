/** layout.h - what the planner chose, for people (--plan) and for the run record. */
#ifndef CLI_LAYOUT_H
#define CLI_LAYOUT_H
#include "program.h"

/* Local. The ranks, nodes and limit that a plan is made for: those running, or those of --ranks and --nodes. */
ferry_machine machine_of(const cli_program *program);
/* Local. "RxC" -> two counts; NULL: both 0. */
ferry_status grid_parse(int *rows, int *cols, const char *text);
/* Local, rank 0. The table of phases on stdout. */
void layout_print(const ferry_layout *layout, const ferry_machine *machine);
/* Local. grid, batch and phases as members of an open object. */
void layout_record(json *out, const ferry_layout *layout, const ferry_machine *machine);
#endif

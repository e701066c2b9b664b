/** record.h - the run record: what was run, on what, with which options, and where time and memory went.
 *
 *  One JSON object:
 *    program, version, command, command_line, mpi, hosts, ranks, threads, simd, device,
 *    inputs   [{side, path, rep, dims, where [], weights, cells, file_cells, dim, fingerprint}],
 *    options  {every option of the command as used},
 *    figures  {the command's own numbers},
 *    stages   [{name, seconds (slowest rank), cpu_seconds (sum), peak_pss (largest rank), peak_pss_total, read_bytes,
 *              written_bytes, sent_bytes, messages (sums)}] in the order of the run,
 *    memory   {limit, peak_pss, peak_pss_total, peak_rss, peak_rss_total} bytes; without "total": the largest rank,
 *    bytes    {read, written, sent}, seconds (from start to now). */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H
#include "program.h"

/* Collective. *text = the record as it stands, on every rank; free with free(). */
ferry_status record_text(char **text, const cli_program *program);
/* Collective. The stages of every rank as a table on stderr of rank 0. */
ferry_status record_table(const cli_program *program);
/* Local. The command line of rank 0, quoted where a shell wants it; free with free(), NULL without memory. */
char *record_command_line(const cli_program *program);
/* Collective. uns/cellferry of an AnnData result: kind, version and the record. */
ferry_status record_write(ferry_output *output, const cli_program *program, const char *kind);
#endif

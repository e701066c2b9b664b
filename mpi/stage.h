/** stage.h - where time and memory go: a table of stages, for the run record and for -v. */
#ifndef FERRY_STAGE_H
#define FERRY_STAGE_H
#include "mpi/memory.h"
FERRY_BEGIN
#define FERRY_STAGES 24
typedef struct ferry_stage {
    char name[32];
    double seconds, cpu_seconds; /* wall and process CPU time of this rank */
    int64_t peak_pss;            /* largest pss seen in it on this rank, bytes */
    int64_t read_bytes, written_bytes, sent_bytes;
    int64_t messages; /* of the same calls as sent_bytes */
} ferry_stage;
typedef struct ferry_stages {
    ferry_stage stage[FERRY_STAGES];
    int count;
    int64_t read_bytes, written_bytes, sent_bytes; /* of the whole process, in stages or between them */
    int64_t messages;                              /* MPI calls that were given data */
} ferry_stages;
/** Local. Begin a stage (ending the one before); name NULL only ends. A name used before goes on in the same line. */
FERRY_API void ferry_stage_begin(const char *name);
/** Local. Count bytes read or written by the current stage; io calls these. */
FERRY_API void ferry_stage_read(int64_t bytes);
FERRY_API void ferry_stage_wrote(int64_t bytes);
/** Local. Count one MPI call and the bytes that this rank handed to it; mpi/ calls this. The rule: a send counts its
 *  bytes, on the sender; a broadcast its bytes, on the root; a reduction, a gather or an exchange of counts what this
 * rank puts in. How often MPI's own algorithm then moves them (2 (P-1)/P or log2(P) times in a reduction, P - 1 times
 * in a gather) is not counted; sums over blocks (reduce.h) are sends of ours, and counted as they travel. Nothing is
 * counted on a rank alone, for barriers, new communicators and windows, files, the comparisons of FERRY_SAFE, and the
 * text of a failure.
 */
FERRY_API void ferry_stage_sent(int64_t bytes);
/** Local. Look at the memory now, so that a peak inside a stage is seen; at most 4 times a second, else it returns at
 * once. */
FERRY_API void ferry_stage_sample(void);
/** Local. This rank's table; borrowed. */
FERRY_API const ferry_stages *ferry_stages_here(void);
FERRY_END
#endif

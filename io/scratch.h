/** scratch.h - a file of this run: records of one size dealt into buckets whose lengths are known, in any order of
 *  arrival, and read back by bucket. Removed when closed, also after a crash of the program: it has no name while it is
 *  open. (A file that several nodes share keeps its name FOLDER/cellferry-XXXXXX until it is closed, because network
 *  file systems do not serve files without names.) Bytes are counted in the stages. Local unless said. */
#ifndef FERRY_SCRATCH_H
#define FERRY_SCRATCH_H
#include "mpi/memory.h"
FERRY_BEGIN
typedef struct ferry_scratch ferry_scratch; /* opaque */

/** Local. In folder (NULL: TMPDIR or /tmp). lengths [buckets] = records that each bucket will get, `size` bytes each;
 *  buffer = bytes kept in memory for appends over all buckets. The room is reserved on the disk: FERRY_E_RUN says how
 *  much was wanted and how much is free, and which option names another folder; FERRY_E_FILE: no such folder. */
FERRY_API ferry_status ferry_scratch_open(ferry_scratch **out, const char *folder, const int64_t *lengths,
                                          int64_t buckets, size_t size, int64_t buffer);
/** Collective. One file for all ranks, the same lengths on all. One rank alone appends to a bucket; after
 *  ferry_scratch_share every rank reads every bucket. FERRY_E_FILE when a rank does not see the folder of rank 0. */
FERRY_API ferry_status ferry_scratch_open_shared(ferry_scratch **out, const ferry_world *world, const char *folder,
                                                 const int64_t *lengths, int64_t buckets, size_t size, int64_t buffer);
/** Collective. Flushed on all ranks, and what any rank has written can be read by all. */
FERRY_API ferry_status ferry_scratch_share(ferry_scratch *scratch, const ferry_world *world);
/** Local, also for shared files. */
FERRY_API void ferry_scratch_close(ferry_scratch **scratch);
/** Local. Appends count records to a bucket. */
FERRY_API ferry_status ferry_scratch_append(ferry_scratch *scratch, int64_t bucket, const void *records, int64_t count);
/** Local. All appended records are in the file. Before reading. The memory for appends is given back; it comes again
 *  with the next append. */
FERRY_API ferry_status ferry_scratch_flush(ferry_scratch *scratch);
/** Local, thread-safe after a flush. records [count] = records first ... of a bucket. */
FERRY_API ferry_status ferry_scratch_read(const ferry_scratch *scratch, int64_t bucket, int64_t first, int64_t count,
                                          void *records);
/** Local. Overwrites records of a bucket, such as a sorted bucket in place. */
FERRY_API ferry_status ferry_scratch_write(ferry_scratch *scratch, int64_t bucket, int64_t first, int64_t count,
                                           const void *records);
FERRY_END
#endif

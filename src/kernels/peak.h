/** peak.h - what one core of this machine can do at most, measured: the two roofs of a kernel. */
#ifndef FERRY_PEAK_H
#define FERRY_PEAK_H
#include "kernels/kernels.h"
FERRY_BEGIN
/** Local. CPU time of this thread in seconds: what is lost to other programs does not count. */
FERRY_API double ferry_core_seconds(void);
/** Local. How long a piece of work took this thread: CPU time; but a piece shorter than a slice of the system's is
 *  best taken from the wall, for the CPU's clock may be off by some us either way, and the best of many pieces is one
 *  that nothing disturbed. */
typedef struct ferry_watch {
    double wall, core;
} ferry_watch;
FERRY_API ferry_watch ferry_watch_start(void);
FERRY_API double ferry_watch_seconds(const ferry_watch *start);
/** Local. Multiply-adds of float32 lanes per core-second that the registers of this table's instruction set reach, in
 *  the best of some short runs; about 5 ms. */
FERRY_API double ferry_peak_multiply_adds(const ferry_kernels *kernels);
/** Local. Bytes per core-second between this core and memory: the best of some runs of a_i = b_i + s c_i over 256 MiB,
 *  32 bytes each, for a line of a is read before it is written. About 0.3 s. */
FERRY_API ferry_status ferry_peak_bandwidth(double *bytes_per_second);
/** Local. The same of reading alone, 256 MiB added up. About 0.1 s. */
FERRY_API ferry_status ferry_peak_reading(double *bytes_per_second);
/** Local. Bytes of the last cache, as the system tells; 32 MiB where it does not. */
FERRY_API int64_t ferry_last_cache(void);
FERRY_END
#endif

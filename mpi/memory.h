/** memory.h - large allocations, memory shared by the ranks of a node, and what the process really uses. */
#ifndef FERRY_MEMORY_H
#define FERRY_MEMORY_H
#include "mpi/world.h"
#include <stdlib.h>
FERRY_BEGIN
/** Local. *out = count * size bytes, aligned to 64, zeroed; free with free() or FERRY_AUTO. FERRY_E_MEM says how much.
 *  count or size 0 gives a valid pointer. FERRY_FAIL_ALLOC=<n>:<rank> makes the n-th call fail, for tests. */
FERRY_API ferry_status ferry_alloc_bytes(void *out, int64_t count, size_t size);
#define ferry_alloc(out, count) ferry_alloc_bytes((out), (count), sizeof **(out))
/** Local. Grow *out (from ferry_alloc) to count elements, keeping `kept` of them. */
FERRY_API ferry_status ferry_grow_bytes(void *out, int64_t kept, int64_t count, size_t size);
#define ferry_grow(out, kept, count) ferry_grow_bytes((out), (kept), (count), sizeof **(out))
/* A local buffer that frees itself on every way out: FERRY_AUTO float *tile = NULL; (gcc and clang, .c files only) */
static inline void ferry_auto_free(void *pointer)
{
    free(*(void **)pointer);
}
#define FERRY_AUTO __attribute__((cleanup(ferry_auto_free)))

/** One piece of memory that all ranks of a node see (MPI_Win_allocate_shared, or a mapped file where /dev/shm is too
 *  small). */
typedef struct ferry_window {
    MPI_Win win;
    void *base; /* the same bytes on every rank of the node, zeroed at first */
    size_t bytes;
    int mapped; /* where /dev/shm is too small: a file that all map */
} ferry_window;
/** Collective over `node` (ranks that share memory). Every rank passes the same bytes; the first rank allocates.
 *  FERRY_E_MEM when neither /dev/shm nor TMPDIR has room. FERRY_SHARED_ROOM=<bytes> stands for the room of /dev/shm,
 * for tests. */
FERRY_API ferry_status ferry_window_open(ferry_window *out, const ferry_world *node, size_t bytes);
/** Collective over the same ranks. After it, what each rank wrote is seen by all. */
FERRY_API void ferry_window_sync(ferry_window *window, const ferry_world *node);
/** Collective over the same ranks. */
FERRY_API void ferry_window_close(ferry_window *window);

typedef struct ferry_usage {
    int64_t pss;      /* proportional set size now, bytes: shared pages are split among the ranks that map them */
    int64_t peak_pss; /* largest pss seen by ferry_usage_now in this process */
    int64_t peak_rss; /* VmHWM */
} ferry_usage;
/** Local. Reads /proc/self; zeros where there is none. Costs about a millisecond per GiB. */
FERRY_API ferry_usage ferry_usage_now(void);
/** Local. Memory that this process may still take on its node: MemAvailable, or what is left of the cgroup's limit. */
FERRY_API int64_t ferry_memory_free(void);
/** Local. "37.2 GiB" into text; returns text. */
FERRY_API const char *ferry_size_text(char text[32], double bytes);
/** Local. "4G", "512M", "1.5GiB", "1000000" -> bytes; FERRY_E_ARG otherwise. */
FERRY_API ferry_status ferry_size_parse(int64_t *out, const char *text);
FERRY_END
#endif

/** log.h - talk for people on stderr. The library prints in no other way. */
#ifndef FERRY_LOG_H
#define FERRY_LOG_H
#include "mpi/world.h"
FERRY_BEGIN
typedef enum ferry_level { FERRY_QUIET = 0, FERRY_WARN = 1, FERRY_INFO = 2, FERRY_DEBUG = 3 } ferry_level;
/** Local. Lines above this level are dropped (FERRY_INFO at start). */
FERRY_API void ferry_log_level(ferry_level level);
/** Local. One line on stderr: FERRY_WARN from any rank ("cellferry: warning: ...", with "rank 3:" unless rank 0),
 *  FERRY_INFO and FERRY_DEBUG from rank 0 only. */
FERRY_API void ferry_log(const ferry_world *world, ferry_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** Progress of long work. The library calls ferry_progress from rank 0's loops; who wants to show it sets a listener.
 */
typedef void (*ferry_progress_listener)(void *payload, const char *what, int64_t done, int64_t total, const char *unit,
                                        const char *note);
FERRY_API void ferry_progress_listen(ferry_progress_listener listener, void *payload);
/** Local. done of total units of `what`; note may be NULL or a short text such as "error 3.1e-3". Cheap; call freely.
 */
FERRY_API void ferry_progress(const ferry_world *world, const char *what, int64_t done, int64_t total, const char *unit,
                              const char *note);
FERRY_END
#endif

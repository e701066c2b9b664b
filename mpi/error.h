/** error.h - one status per call, one message per rank, one answer for all ranks (world.h: ferry_agree). */
#ifndef FERRY_ERROR_H
#define FERRY_ERROR_H
#ifdef __cplusplus
#define FERRY_BEGIN extern "C" {
#define FERRY_END   }
#else
#define FERRY_BEGIN
#define FERRY_END
#endif
#define FERRY_API __attribute__((visibility("default")))
FERRY_BEGIN

typedef enum ferry_status {
    FERRY_OK = 0,
    FERRY_E_ARG = -1,         /* wrong use: option, value                          exit code 2 */
    FERRY_E_MEM = -2,         /* malloc failed although the plan fitted            1 */
    FERRY_E_FILE = -3,        /* bad input or output: file, HDF5 path, value       3 */
    FERRY_E_MPI = -4,         /* messages between ranks                            1 */
    FERRY_E_DEVICE = -5,      /* a requested device is missing                     3 */
    FERRY_E_NUMERIC = -6,     /* NaN or infinity where there may be none           1 */
    FERRY_E_PLAN = -7,        /* does not fit in the memory limit, said before any work  5 */
    FERRY_E_INTERRUPTED = -8, /* stopped by a signal after a checkpoint            75 */
    FERRY_E_RUN = -9          /* failed while running: disk full, write error      1 */
} ferry_status;

/** Local. Record why this rank failed; returns code. Use through ferry_fail. The text names the thing, the value and
 *  the way out; where it happened is kept apart (ferry_error_place). */
FERRY_API ferry_status ferry_fail_at(const char *file, int line, ferry_status code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/** Local. The last message of this rank, "" if none. Borrowed until the next failure. */
FERRY_API const char *ferry_error(void);
/** Local. "file.c:line" of the last failure, for developers (-v). */
FERRY_API const char *ferry_error_place(void);
/** Local. Replace text and place, as ferry_agree does with the worst rank's. */
FERRY_API void ferry_error_set(const char *text, const char *place);
/** Local. The exit code of a program that ends with this status. */
FERRY_API int ferry_exit_code(ferry_status status);

#define FERRY_ERROR_TEXT 2048 /* bytes kept of a message */
#ifdef __clang_analyzer__     /* which does not see that the code comes back */
#define ferry_fail(code, ...) (ferry_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__), (code))
#else
#define ferry_fail(code, ...) ferry_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__)
#endif
#define FERRY_TRY(call)                                                                                                \
    do {                                                                                                               \
        ferry_status try_status_ = (call);                                                                             \
        if (try_status_ != FERRY_OK) return try_status_;                                                               \
    } while (0)
FERRY_END
#endif

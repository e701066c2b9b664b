#include "mpi/log.h"
#include <stdarg.h>
#include <stdio.h>

static ferry_level loudest = FERRY_INFO;
static ferry_progress_listener listening;
static void *listener_payload;

void ferry_log_level(ferry_level level)
{
    loudest = level;
}

void ferry_log(const ferry_world *world, ferry_level level, const char *fmt, ...)
{
    int rank = world ? world->rank : 0;
    if (level > loudest || level <= FERRY_QUIET || (level > FERRY_WARN && rank != 0)) return;
    char text[FERRY_ERROR_TEXT + 256], who[24] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (rank) snprintf(who, sizeof who, "rank %d: ", rank);
    /* one call, so that lines of several ranks do not mix */
    fprintf(stderr, "cellferry: %s%s%s\n", level == FERRY_WARN ? "warning: " : "", who, text);
}

void ferry_progress_listen(ferry_progress_listener listener, void *payload)
{
    listening = listener;
    listener_payload = payload;
}

void ferry_progress(const ferry_world *world, const char *what, int64_t done, int64_t total, const char *unit,
                    const char *note)
{
    if (listening && (!world || world->rank == 0)) listening(listener_payload, what, done, total, unit, note);
}

/* One slot for the last failure of this rank. It belongs to the process, not to a thread, so that what a worker thread
 * reports is still there when the main thread meets the other ranks. */
#include "mpi/error.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PLACE 256
static char message[FERRY_ERROR_TEXT], spot[PLACE];
static atomic_flag busy = ATOMIC_FLAG_INIT;

static void keep(const char *text, const char *place)
{
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) continue;
    snprintf(message, sizeof message, "%s", text);
    snprintf(spot, sizeof spot, "%s", place);
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

ferry_status ferry_fail_at(const char *file, int line, ferry_status code, const char *fmt, ...)
{
    char text[FERRY_ERROR_TEXT], place[PLACE]; /* apart from the slot: the arguments may quote ferry_error() */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(place, sizeof place, "%s:%d", file, line);
    keep(text, place);
    return code;
}

const char *ferry_error(void)
{
    return message;
}

const char *ferry_error_place(void)
{
    return spot;
}

void ferry_error_set(const char *text, const char *place)
{
    char copy[FERRY_ERROR_TEXT], where[PLACE]; /* either may be the slot itself */
    snprintf(copy, sizeof copy, "%s", text ? text : "");
    snprintf(where, sizeof where, "%s", place ? place : "");
    keep(copy, where);
}

int ferry_exit_code(ferry_status status)
{
    switch (status) {
    case FERRY_OK:
        return 0;
    case FERRY_E_ARG:
        return 2;
    case FERRY_E_FILE:
    case FERRY_E_DEVICE:
        return 3;
    case FERRY_E_PLAN:
        return 5;
    case FERRY_E_INTERRUPTED:
        return 75;
    case FERRY_E_MEM:
    case FERRY_E_MPI:
    case FERRY_E_NUMERIC:
    case FERRY_E_RUN:
        break;
    }
    return 1;
}

#define _GNU_SOURCE /* MADV_HUGEPAGE */
#include "mpi/memory.h"
#include "mpi/world_impl.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#define HUGE_FROM ((size_t)8 << 20) /* from here on the pages of 2 MiB save more misses than they waste */
#define HUGE_PAGE ((size_t)2 << 20)

/* FERRY_FAIL_ALLOC=<n>:<rank>: the n-th allocation of one rank fails, for tests. */
static int injected(void)
{
    static struct ferry_planned allocations;
    return ferry_planned_now(&allocations, "FERRY_FAIL_ALLOC") != 0;
}

ferry_status ferry_alloc_bytes(void *out, int64_t count, size_t size)
{
    size_t bytes = 0;
    char text[32];
    int fits = count >= 0 && !__builtin_mul_overflow((size_t)count, size, &bytes) && bytes <= PTRDIFF_MAX / 2;
    void *memory = NULL;
    if (fits && !injected()) {
        int big = bytes >= HUGE_FROM;
        if (posix_memalign(&memory, big ? HUGE_PAGE : 64, bytes ? bytes : 1)) memory = NULL;
        if (memory && big) madvise(memory, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a wish; may be refused */
    }
    if (!memory)
        return ferry_fail(FERRY_E_MEM,
                          "out of memory: %s more were refused; use more ranks or nodes, or lower --memory",
                          ferry_size_text(text, fits ? (double)bytes : (double)count * (double)size));
    memset(memory, 0, bytes);
    memcpy(out, &memory, sizeof memory);
    return FERRY_OK;
}

ferry_status ferry_grow_bytes(void *out, int64_t kept, int64_t count, size_t size)
{
    void *old, *larger = NULL;
    memcpy(&old, out, sizeof old);
    FERRY_TRY(ferry_alloc_bytes(&larger, count, size));
    if (old && kept > 0) memcpy(larger, old, (size_t)(kept < count ? kept : count) * size);
    free(old);
    memcpy(out, &larger, sizeof larger);
    return FERRY_OK;
}

const char *ferry_size_text(char text[32], double bytes)
{
    static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    while (fabs(bytes) >= 1024 && u < 5) {
        bytes /= 1024;
        u++;
    }
    snprintf(text, 32, u ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return text;
}

/* k, K, KiB: 1024; KB: 1000; and so on to T. */
static int scale_of(double *scale, const char *unit)
{
    static const char letters[] = "KMGT";
    while (isspace((unsigned char)*unit)) unit++;
    if (!*unit || !strcmp(unit, "B")) return 1;
    const char *found = strchr(letters, toupper((unsigned char)*unit));
    if (!found) return 0;
    int decimal = !strcasecmp(unit + 1, "B");
    if (unit[1] && !decimal && strcasecmp(unit + 1, "iB") != 0) return 0;
    for (const char *at = letters; at <= found; at++) *scale *= decimal ? 1000 : 1024;
    return 1;
}

ferry_status ferry_size_parse(int64_t *out, const char *text)
{
    char *end;
    double scale = 1, value = strtod(text, &end);
    if (end == text || !isfinite(value) || value < 0 || !scale_of(&scale, end) || value * scale >= 9e18)
        return ferry_fail(FERRY_E_ARG, "'%s' is no size: write 4G, 512M, 1.5GiB or a number of bytes", text);
    *out = (int64_t)llround(value * scale);
    return FERRY_OK;
}

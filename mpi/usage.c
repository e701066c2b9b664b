#define _GNU_SOURCE /* PATH_MAX */
/* What this process uses and what its node has left, as Linux tells it in /proc and /sys. */
#include "mpi/memory.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define UNKNOWN (-1)

/* The number after `key` at the beginning of a line; UNKNOWN when there is none. */
static int64_t number_in(const char *path, const char *key)
{
    FILE *file = fopen(path, "r");
    if (!file) return UNKNOWN;
    char line[512];
    int64_t value = UNKNOWN;
    size_t length = strlen(key);
    while (value == UNKNOWN && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) != 0) continue;
        char *end;
        long long number = strtoll(line + length, &end, 10);
        if (end != line + length) value = number;
    }
    fclose(file);
    return value;
}

static int64_t kib(const char *path, const char *key)
{
    int64_t value = number_in(path, key);
    return value == UNKNOWN ? 0 : value * 1024;
}

ferry_usage ferry_usage_now(void)
{
    static int64_t peak;
    ferry_usage usage = {.pss = kib("/proc/self/smaps_rollup", "Pss:"), .peak_rss = kib("/proc/self/status", "VmHWM:")};
    if (!usage.pss) usage.pss = kib("/proc/self/status", "VmRSS:"); /* kernels before 4.14, or a masked /proc */
    if (usage.pss > peak) peak = usage.pss;
    usage.peak_pss = peak;
    return usage;
}

/* Path of this process in the cgroup hierarchy whose line in /proc/self/cgroup holds `mark`. */
static int cgroup_path(char out[PATH_MAX], const char *mark)
{
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file) return 0;
    char line[PATH_MAX + 64];
    int found = 0;
    while (!found && fgets(line, sizeof line, file)) {
        char *at = strstr(line, mark);
        if (!at) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, PATH_MAX, "%s", at + strlen(mark));
        found = 1;
    }
    fclose(file);
    return found;
}

/* What is left below the limit of one group; file pages that nobody works with can be given back, so they are free. */
static int64_t left_in_group(const char *folder, const char *limit_name, const char *usage_name, const char *cache_key)
{
    char path[PATH_MAX + 256];
    snprintf(path, sizeof path, "%s/%s", folder, limit_name);
    int64_t limit = number_in(path, ""); /* "max" is no number */
    snprintf(path, sizeof path, "%s/%s", folder, usage_name);
    int64_t used = number_in(path, "");
    if (limit == UNKNOWN || used == UNKNOWN) return INT64_MAX;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    int64_t cache = number_in(path, cache_key);
    int64_t left = limit - used + (cache == UNKNOWN ? 0 : cache);
    return left > 0 ? left : 0;
}

/* The least that any group above this process leaves. In a container the mount shows the container's own group as the
 * root, so a path that is not there is no error. */
static int64_t left_in_hierarchy(const char *mount, const char *mark, const char *limit_name, const char *usage_name,
                                 const char *cache_key)
{
    char path[PATH_MAX], folder[PATH_MAX + 64];
    int64_t least = INT64_MAX;
    if (!cgroup_path(path, mark)) return least;
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", mount, path);
        int64_t left = left_in_group(folder, limit_name, usage_name, cache_key);
        if (left < least) least = left;
        char *slash = strrchr(path, '/');
        if (!slash || !*path) return least;
        *slash = 0;
    }
}

int64_t ferry_memory_free(void)
{
    int64_t least = number_in("/proc/meminfo", "MemAvailable:");
    least = least == UNKNOWN ? INT64_MAX : least * 1024;
    int64_t v2 = left_in_hierarchy("/sys/fs/cgroup", "0::", "memory.max", "memory.current", "inactive_file ");
    int64_t v1 = left_in_hierarchy("/sys/fs/cgroup/memory", ":memory:", "memory.limit_in_bytes",
                                   "memory.usage_in_bytes", "total_inactive_file ");
    if (v2 < least) least = v2;
    if (v1 < least) least = v1;
    return least;
}

/* kernels.c - which table: the best that the program has and the CPU supports, and one for all ranks.
 * Ranks on unlike CPUs would differ in the last bits, so the lowest level of all ranks counts. */
#include "kernels_impl.h"
#include <stdlib.h>
#include <string.h>

static bool always(void)
{
    return true;
}
#ifdef FERRY_KERNELS_X86
static bool can_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
/* avx2 too, so that each level contains the ones below it */
static bool can_avx512(void)
{
    return can_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#define BUILT "avx512 avx2 generic"
#else
#define BUILT "generic"
#endif

static const struct {
    const ferry_kernels *table;
    bool (*supported)(void);
} tables[] = {/* best first */
#ifdef FERRY_KERNELS_X86
              {&ferry_kernels_avx512, can_avx512},
              {&ferry_kernels_avx2, can_avx2},
#endif
              {&ferry_kernels_generic, always}};
enum { TABLES = sizeof tables / sizeof *tables };

/* "auto" means what FERRY_SIMD says, if that is set. NULL: no wish. */
static const char *wish(const char *name)
{
    if (!name || !strcmp(name, "auto")) name = getenv("FERRY_SIMD");
    return name && *name && strcmp(name, "auto") != 0 ? name : NULL;
}

static const ferry_kernels *best_up_to(int64_t level)
{
    for (int i = 0; i < TABLES; i++)
        if (tables[i].table->level <= level && tables[i].supported()) return tables[i].table;
    return &ferry_kernels_generic;
}

/* its place in the list, or -1 */
static int place(const char *name)
{
    name = wish(name);
    for (int i = 0; i < TABLES; i++)
        if ((!name || !strcmp(name, tables[i].table->name)) && tables[i].supported()) return i;
    return -1;
}
const ferry_kernels *ferry_kernels_find(const char *name)
{
    int i = place(name);
    return i >= 0 ? tables[i].table : NULL;
}

const char *ferry_kernels_names(void)
{
    /* Each level contains the ones below, so what is supported is a tail of this list. */
    static const char built[] = BUILT;
    return strstr(built, best_up_to(INT64_MAX)->name);
}

static ferry_status find(int *level, const char *name)
{
    int i = place(name);
    if (i < 0)
        return ferry_fail(FERRY_E_DEVICE,
                          "no instruction set \"%s\" here: this program was built with %s, this CPU supports %s; "
                          "take one of these or \"auto\"",
                          wish(name), BUILT, ferry_kernels_names());
    *level = tables[i].table->level;
    return FERRY_OK;
}

ferry_status ferry_kernels_choose(const ferry_kernels **out, const ferry_world *world, const char *name)
{
    int level = 0;
    FERRY_TRY(ferry_agree(world, find(&level, name)));
    *out = best_up_to(ferry_min(world, level));
    return FERRY_OK;
}

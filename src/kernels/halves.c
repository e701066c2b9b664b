/* halves.c - the table of halves beside a table of kernels. */
#include "halves_impl.h"
#ifdef FERRY_KERNELS_X86
#include <cpuid.h>

/* VCVTPH2PS and VCVTPS2PH: every CPU with AVX2 is said to have them, but it is a bit of its own. */
static bool can_convert(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const ferry_halves *ferry_halves_of(const ferry_kernels *kernels)
{
#ifdef FERRY_KERNELS_X86
    if (kernels->level == ferry_kernels_avx512.level) return &ferry_halves_avx512;
    if (kernels->level == ferry_kernels_avx2.level && can_convert()) return &ferry_halves_avx2;
#else
    (void)kernels;
#endif
    return &ferry_halves_generic;
}

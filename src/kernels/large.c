/* large.c - sparsify's table beside a kernels' table. */
#include "large_impl.h"

const ferry_selects *ferry_selects_of(const ferry_kernels *kernels)
{
#ifdef FERRY_KERNELS_X86
    if (kernels->level == ferry_kernels_avx512.level) return &ferry_selects_avx512;
    if (kernels->level == ferry_kernels_avx2.level) return &ferry_selects_avx2;
#endif
    return kernels->level == ferry_kernels_generic.level ? &ferry_selects_generic : NULL;
}

/* scan.c - the search's table beside a kernels' table. */
#include "scan_impl.h"

const ferry_scans *ferry_scans_of(const ferry_kernels *kernels)
{
#ifdef FERRY_KERNELS_X86
    if (kernels->level == ferry_kernels_avx512.level) return &ferry_scans_avx512;
    if (kernels->level == ferry_kernels_avx2.level) return &ferry_scans_avx2;
#endif
    return kernels->level == ferry_kernels_generic.level ? &ferry_scans_generic : NULL;
}

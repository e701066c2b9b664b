/** large_impl.h - the tables of sparsify that a build may hold (not installed). */
#ifndef FERRY_LARGE_IMPL_H
#define FERRY_LARGE_IMPL_H
#include "kernels_impl.h"
#include "large.h"

extern const ferry_selects ferry_selects_generic, ferry_selects_avx2, ferry_selects_avx512;
#endif

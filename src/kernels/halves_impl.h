/** halves_impl.h - the tables of halves that a build may hold (not installed). */
#ifndef FERRY_HALVES_IMPL_H
#define FERRY_HALVES_IMPL_H
#include "halves.h"
#include "kernels_impl.h"
#undef ROWS
#undef TILE
#define ROWS FERRY_HALF_ROWS
#define TILE FERRY_HALF_TILE

extern const ferry_halves ferry_halves_generic, ferry_halves_avx2, ferry_halves_avx512;
#endif

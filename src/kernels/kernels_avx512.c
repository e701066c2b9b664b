/* kernels_avx512.c - the table for CPUs with AVX-512 F, BW, VL and DQ. */
#define ISA   avx512
#define LEVEL 2
#include "vector_avx512.inc"
#include "kernels_cpu.inc"

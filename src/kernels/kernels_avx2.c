/* kernels_avx2.c - the table for CPUs with AVX2 and FMA. */
#define ISA   avx2
#define LEVEL 1
#include "vector_avx2.inc"
#include "kernels_cpu.inc"

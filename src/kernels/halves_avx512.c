/* halves_avx512.c - the table of halves for CPUs with AVX-512 F, BW, VL and DQ. */
#define ISA avx512
#include "vector_avx512.inc"
#include "halves_cpu.inc"

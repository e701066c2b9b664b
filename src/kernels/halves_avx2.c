/* halves_avx2.c - the table of halves for CPUs with AVX2, FMA and F16C. */
#define ISA avx2
#include "vector_avx2.inc"
#include "halves_cpu.inc"

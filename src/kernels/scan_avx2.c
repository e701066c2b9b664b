/* scan_avx2.c - the table of the search for CPUs with AVX2 and FMA. */
#define ISA avx2
#include "vector_avx2.inc"
#include "scan_cpu.inc"

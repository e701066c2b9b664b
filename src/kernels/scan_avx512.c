/* scan_avx512.c - the table of the search for CPUs with AVX-512 F, BW, VL, DQ. */
#define ISA avx512
#include "vector_avx512.inc"
#include "scan_cpu.inc"

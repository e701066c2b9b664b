/* scan_avx512.c - the search's table of that instruction set. */
#define BLOCK_ROWS 12
#define TABLE      ferry_scans_avx512
#define NAME       "avx512"
#include "scan_generic.c"

/* scan_avx2.c - the search's table of that instruction set. */
#define BLOCK_ROWS 6
#define TABLE      ferry_scans_avx2
#define NAME       "avx2"
#include "scan_generic.c"

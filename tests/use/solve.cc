// The same program, compiled as C++: every public header must be C++ too.
#include "solve.c"

/** version.h - which version this is, and which HDF5 it runs with. */
#ifndef FERRY_VERSION_H
#define FERRY_VERSION_H
#include "mpi/error.h"
#define CELLFERRY_VERSION "0.1.0"
FERRY_BEGIN
/** Local. "1.10.8": the library that is loaded, not the one that was compiled against. */
FERRY_API const char *ferry_hdf5_version(void);
FERRY_END
#endif

/** version.h - which HDF5 this program runs with. */
#ifndef FERRY_VERSION_H
#define FERRY_VERSION_H
#include "mpi/error.h"
FERRY_BEGIN
/** Local. "1.10.8": the library that is loaded, not the one that was compiled against. */
FERRY_API const char *ferry_hdf5_version(void);
FERRY_END
#endif

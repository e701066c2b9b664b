/* lzf_impl.h - the LZF filter of h5py (HDF5 filter 32000), reading only. */
#ifndef FERRY_LZF_IMPL_H
#define FERRY_LZF_IMPL_H
#include <stddef.h>

/* Local. Bytes that the LZF stream in [in] unpacks to; -1 when it is broken. */
long long ferry_lzf_length(const unsigned char *in, size_t in_bytes);
/* Local. Unpacks into out, whose size ferry_lzf_length has told. */
void ferry_lzf_unpack(unsigned char *out, const unsigned char *in, size_t in_bytes);
/* Local. Makes HDF5 in this process read LZF, unless it can already. */
void ferry_lzf_register(void);
#endif

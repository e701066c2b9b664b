/* LZF, the format of Marc Lehmann's liblzf, as h5py stores chunks (filter 32000).
 *
 *  A stream is a row of parts, each beginning with a control byte c:
 *    c < 32   c + 1 literal bytes follow
 *    c >= 32  a copy: length (c >> 5) + 2, or when c >> 5 is 7 the next byte adds to it; distance
 *             ((c & 31) << 8 | next byte) + 1 back from the end of the output, which it may overlap. */
#include "lzf_impl.h"
#include <hdf5.h>
#include <stdint.h>
#include <string.h>

#define LZF_FILTER 32000

long long ferry_lzf_length(const unsigned char *in, size_t in_bytes)
{
    size_t at = 0;
    long long out = 0;
    while (at < in_bytes) {
        unsigned control = in[at++];
        if (control < 32) {
            if (in_bytes - at < control + 1) return -1;
            at += control + 1;
            out += control + 1;
            continue;
        }
        size_t length = control >> 5;
        if (length == 7) {
            if (at == in_bytes) return -1;
            length += in[at++];
        }
        if (at == in_bytes) return -1;
        long long distance = (long long)((control & 31) << 8 | in[at++]) + 1;
        if (distance > out) return -1;
        out += (long long)length + 2;
    }
    return out;
}

void ferry_lzf_unpack(unsigned char *out, const unsigned char *in, size_t in_bytes)
{
    const unsigned char *end = in + in_bytes;
    while (in < end) {
        size_t control = *in++;
        if (control < 32) {
            memcpy(out, in, control + 1);
            in += control + 1;
            out += control + 1;
            continue;
        }
        size_t length = control >> 5;
        if (length == 7) length += *in++;
        const unsigned char *from = out - ((control & 31) << 8 | *in++) - 1;
        for (length += 2; length; length--) *out++ = *from++; /* byte by byte: it may overlap */
    }
}

/* HDF5's filter call: 0 means failure. Chunks that did not shrink carry a bit in their mask and never come here. */
static size_t unpack_chunk(unsigned flags, size_t parameters, const unsigned parameter[], size_t bytes, size_t *room,
                           void **buffer)
{
    if (!(flags & H5Z_FLAG_REVERSE)) return 0; /* we do not write LZF */
    long long length = ferry_lzf_length(*buffer, bytes);
    if (length <= 0) return 0;
    /* The third parameter is the chunk's size. HDF5 itself would read beyond a shorter chunk. */
    if (parameters > 2 && parameter[2] && parameter[2] != (unsigned long long)length) return 0;
    unsigned char *out = H5allocate_memory((size_t)length, 0);
    if (!out) return 0;
    ferry_lzf_unpack(out, *buffer, bytes);
    H5free_memory(*buffer);
    *buffer = out;
    *room = (size_t)length;
    return (size_t)length;
}

void ferry_lzf_register(void)
{
    static const H5Z_class2_t lzf = {H5Z_CLASS_T_VERS, LZF_FILTER, 0, 1, "lzf", NULL, NULL, unpack_chunk};
    if (H5Zfilter_avail(LZF_FILTER) <= 0) H5Zregister(&lzf);
}

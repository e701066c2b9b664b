/** float_bits.h - the bit pattern of a float, and back (not installed). */
#ifndef FERRY_FLOAT_BITS_H
#define FERRY_FLOAT_BITS_H
#include <stdint.h>
#include <string.h>
/** Local. Positive floats are ordered like their patterns. */
static inline uint32_t ferry_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float ferry_float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

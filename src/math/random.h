/** random.h - random numbers by counting: number `counter` of stream `seed` does not depend on who asks for it, nor on
 *  what was asked before, so the same numbers come for any number of ranks and threads. */
#ifndef FERRY_RANDOM_H
#define FERRY_RANDOM_H
#include <stdint.h>

/** Local. 64 random bits (splitmix64's finish of seed and counter). */
static inline uint64_t ferry_random_bits(uint64_t seed, uint64_t counter)
{
    uint64_t x = seed * 0xd1342543de82ef95u + (counter + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
/** Local. Uniform in [0, 1). */
static inline double ferry_random(uint64_t seed, uint64_t counter)
{
    return (double)(ferry_random_bits(seed, counter) >> 11) * 0x1p-53;
}
#endif

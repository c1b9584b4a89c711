/* MD5 (RFC 1321) of sixteen messages side by side, each in a lane of its own.

   One MD5 is a chain: each step waits for the one before, and most of a core waits with it. Sixteen independent chains
   in vector registers fill that time. Built by hatch_build.py where there is a compiler; lanes.py is its only caller. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "MD5 reads its words with the lowest byte first, and this file as the processor does"
#endif

#define LANES 16
#define BLOCK 64

typedef uint32_t lanes __attribute__((vector_size(4 * LANES)));

/* The wider registers where the processor has them, found when the library is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(INGEST_CLONES)
#define WIDEST __attribute__((target_clones("default", "avx512f")))
#else
#define WIDEST
#endif

/* RFC 1321, section 3.4; F and G with one operation less than they are written there. */
#define F(x, y, z) (z ^ (x & (y ^ z)))
#define G(x, y, z) (y ^ (z & (x ^ y)))
#define H(x, y, z) (x ^ y ^ z)
#define I(x, y, z) (y ^ (x | ~z))

#define STEP(f, a, b, c, d, k, s, t)        \
    a += f(b, c, d) + m[k] + (uint32_t)(t); \
    a = (a << (s) | a >> (32 - (s))) + b;

#define FOUR(f, s0, s1, s2, s3, k0, k1, k2, k3, t0, t1, t2, t3)     \
    STEP(f, a, b, c, d, k0, s0, t0) STEP(f, d, a, b, c, k1, s1, t1) \
    STEP(f, c, d, a, b, k2, s2, t2) STEP(f, b, c, d, a, k3, s3, t3)

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE /* GCC before 12 */
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (lanes){__VA_ARGS__})
#endif

/* One step of a transposition: rows `distance` apart exchange halves. */
#define ROW(...) __VA_ARGS__
#define HALVES(distance, lower, upper)                     \
    for (int i = 0; i < LANES; i++)                        \
        if (!(i & (distance))) {                           \
            lanes x = m[i], y = m[i | (distance)];         \
            m[i] = SHUFFLE(x, y, lower);                   \
            m[i | (distance)] = SHUFFLE(x, y, upper);      \
        }

/* The next block of each message, turned from a row for each message to a row for each word. */
static inline __attribute__((always_inline)) void load(lanes m[LANES], const uint8_t *const at[LANES])
{
    for (int i = 0; i < LANES; i++)
        memcpy(&m[i], at[i], BLOCK);
    HALVES(8, ROW(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
           ROW(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
    HALVES(4, ROW(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
           ROW(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
    HALVES(2, ROW(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
           ROW(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    HALVES(1, ROW(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
           ROW(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
}

/* Takes `blocks` blocks of 64 bytes from each of sixteen addresses into sixteen states. `state` holds A of all lanes,
   then B, C and D (RFC 1321, section 3.3). */
WIDEST void ingest_md5_advance(uint32_t state[4][LANES], const uint8_t *const from[LANES], size_t blocks)
{
    const uint8_t *at[LANES];
    lanes a, b, c, d;

    memcpy(at, from, sizeof at);
    memcpy(&a, state[0], sizeof a);
    memcpy(&b, state[1], sizeof b);
    memcpy(&c, state[2], sizeof c);
    memcpy(&d, state[3], sizeof d);
    while (blocks--) {
        lanes m[LANES], a0 = a, b0 = b, c0 = c, d0 = d;

        load(m, at);
        FOUR(F, 7, 12, 17, 22, 0, 1, 2, 3, 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee)
        FOUR(F, 7, 12, 17, 22, 4, 5, 6, 7, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501)
        FOUR(F, 7, 12, 17, 22, 8, 9, 10, 11, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be)
        FOUR(F, 7, 12, 17, 22, 12, 13, 14, 15, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821)
        FOUR(G, 5, 9, 14, 20, 1, 6, 11, 0, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa)
        FOUR(G, 5, 9, 14, 20, 5, 10, 15, 4, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8)
        FOUR(G, 5, 9, 14, 20, 9, 14, 3, 8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed)
        FOUR(G, 5, 9, 14, 20, 13, 2, 7, 12, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a)
        FOUR(H, 4, 11, 16, 23, 5, 8, 11, 14, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c)
        FOUR(H, 4, 11, 16, 23, 1, 4, 7, 10, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70)
        FOUR(H, 4, 11, 16, 23, 13, 0, 3, 6, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05)
        FOUR(H, 4, 11, 16, 23, 9, 12, 15, 2, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665)
        FOUR(I, 6, 10, 15, 21, 0, 7, 14, 5, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039)
        FOUR(I, 6, 10, 15, 21, 12, 3, 10, 1, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1)
        FOUR(I, 6, 10, 15, 21, 8, 15, 6, 13, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1)
        FOUR(I, 6, 10, 15, 21, 4, 11, 2, 9, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391)
        a += a0;
        b += b0;
        c += c0;
        d += d0;
        for (int i = 0; i < LANES; i++)
            at[i] += BLOCK;
    }
    memcpy(state[0], &a, sizeof a);
    memcpy(state[1], &b, sizeof b);
    memcpy(state[2], &c, sizeof c);
    memcpy(state[3], &d, sizeof d);
}

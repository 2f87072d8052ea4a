// Vectors of LANES floats. Included once for every instruction set, within a namespace of its own.

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int IntVec __attribute__((vector_size(LANES * 4)));

INLINE Vec load(const float *from) {
    Vec x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, Vec x) { __builtin_memcpy(to, &x, sizeof x); }

INLINE Vec splat(float x) { return x - Vec{}; }  // unlike a sum with zero, this keeps -0 and costs nothing

// Lets numbers that will be read and written come near.
INLINE void prefetch(const float *from, int count) {
    for (int i = 0; i < count; i += 16) __builtin_prefetch(from + i, 1);
}

// NaN in b stays, so that a diverged network shows.
INLINE Vec max(Vec a, Vec b) {
#if defined(__x86_64__)
    asm("vmaxps %2, %1, %0" : "=v"(a) : "v"(a), "v"(b));  // compilers make it a comparison and a choice
    return a;
#else
    return a > b ? a : b;
#endif
}

// Likewise.
INLINE Vec min(Vec a, Vec b) {
#if defined(__x86_64__)
    asm("vminps %2, %1, %0" : "=v"(a) : "v"(a), "v"(b));
    return a;
#else
    return a < b ? a : b;
#endif
}

INLINE Vec absolute(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

// Channels with those added that fill the last vector.
static inline int padded_channels(int channels) { return (channels + LANES - 1) / LANES * LANES; }

INLINE float sum(Vec x) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}

INLINE float largest(Vec x) {
    float most = x[0];
    for (int lane = 1; lane < LANES; lane++) most = x[lane] > most ? x[lane] : most;
    return most;
}

// 2^x for x <= 127, with a relative error below 2e-7; below -126 it is 2^-126.
INLINE Vec exp2(Vec x) {
    const float rounding = 12582912.f;  // 1.5 * 2^23: the sum has no bits behind the point
    x = max(splat(-126.f), x);
    Vec shifted = x + rounding;
    Vec rest = x - (shifted - rounding);  // in [-0.5, 0.5]
    Vec power = splat(1.5403530e-4f);  // the Taylor series
    power = power * rest + 1.3333558e-3f;
    power = power * rest + 9.6181291e-3f;
    power = power * rest + 5.5504109e-2f;
    power = power * rest + 2.4022651e-1f;
    power = power * rest + 6.9314718e-1f;
    power = power * rest + 1.f;
    return (Vec)((IntVec)power + ((IntVec)shifted << 23));
}

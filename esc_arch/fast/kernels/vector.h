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

// The lanes one further up, and in the first one the last of `below`.
INLINE Vec moved_up(Vec x, Vec below) {
#if defined(__x86_64__) && LANES == 16
    return (Vec)_mm512_alignr_epi32((__m512i)x, (__m512i)below, 15);
#elif defined(__x86_64__)
    const __m256i both = _mm256_permute2x128_si256((__m256i)below, (__m256i)x, 0x21);  // the upper half, the lower half
    return (Vec)_mm256_alignr_epi8((__m256i)x, both, 12);
#else
    Vec moved{};
    moved[0] = below[LANES - 1];
    for (int lane = 1; lane < LANES; lane++) moved[lane] = x[lane - 1];
    return moved;
#endif
}

INLINE float sum(Vec x) {
#if defined(__x86_64__) && LANES == 16
    return _mm512_reduce_add_ps((__m512)x);  // compilers would add one lane after the other
#else
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
#endif
}

constexpr float ROUNDING = 12582912.f;  // 1.5 * 2^23: a sum with it has no bits behind the point

INLINE bool any_beyond(Vec x, Vec limit) {
#if defined(__x86_64__) && LANES == 16
    return _mm512_cmp_ps_mask((__m512)x, (__m512)limit, _CMP_GT_OQ);
#elif defined(__x86_64__)
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, (__m256)limit, _CMP_GT_OQ));
#else
    const IntVec beyond = x > limit;
    int any = 0;
    for (int lane = 0; lane < LANES; lane++) any |= beyond[lane];
    return any;
#endif
}

// Cuts COUNT vectors into the nearest whole numbers and what is left, in [-0.5, 0.5].
template <int COUNT>
INLINE void split(Vec (&x)[COUNT], Vec (&whole)[COUNT]) {
#if defined(__x86_64__) && LANES == 16
    UNROLL
    for (int i = 0; i < COUNT; i++) whole[i] = (Vec)_mm512_roundscale_ps((__m512)x[i], _MM_FROUND_TO_NEAREST_INT);
    UNROLL
    for (int i = 0; i < COUNT; i++) x[i] = (Vec)_mm512_reduce_ps((__m512)x[i], _MM_FROUND_TO_NEAREST_INT);
#else
    UNROLL
    for (int i = 0; i < COUNT; i++) x[i] = max(splat(-126.f), x[i]);
    UNROLL
    for (int i = 0; i < COUNT; i++) whole[i] = x[i] + ROUNDING;
    UNROLL
    for (int i = 0; i < COUNT; i++) x[i] -= whole[i] - ROUNDING;
#endif
}

// x times 2 to the power of a whole number from `split`.
INLINE Vec scaled(Vec x, Vec whole) {
#if defined(__x86_64__) && LANES == 16
    return (Vec)_mm512_scalef_ps((__m512)x, (__m512)whole);
#else
    return (Vec)((IntVec)x + ((IntVec)whole << 23));
#endif
}

// 2^x of COUNT vectors, x <= 127; below -126 it is 2^-126 or less. `series` are the factors of x^n to x^1 that
// approximate 2^x - 1 within [-0.5, 0.5]. Step by step for all of them: those that wait for their turn would fill the
// queue of the processor.
template <int LENGTH, int COUNT>
INLINE void exp2_by(const float (&series)[LENGTH], Vec (&x)[COUNT]) {
    Vec whole[COUNT], power[COUNT];
    split(x, whole);
    UNROLL
    for (int i = 0; i < COUNT; i++) power[i] = x[i] * series[0] + series[1];
    UNROLL
    for (int term = 2; term < LENGTH; term++) {
        UNROLL
        for (int i = 0; i < COUNT; i++) power[i] = power[i] * x[i] + series[term];
    }
    UNROLL
    for (int i = 0; i < COUNT; i++) x[i] = scaled(power[i] * x[i] + 1.f, whole[i]);
}

// With a relative error below 2e-7: the smallest largest error of that degree.
constexpr float EXP2[] = {1.32647273e-3f, 9.67151299e-3f, 5.55073358e-2f, 2.40222424e-1f, 6.93147004e-1f};

template <int COUNT>
INLINE void exp2(Vec (&x)[COUNT]) { exp2_by(EXP2, x); }

// GELU and its derivative. Included once for every instruction set, behind vector.h.

// A polynomial in [0, GELU_END] whose fourth power is the upper tail q of the normal distribution; the largest error of
// q(t) and of t q(t) is the smallest. GELU has an error below 3e-7 and below 3e-7 of x; beside bf16 below 1e-4 and below
// 1.7e-4 of x.
#if BF16
constexpr float GELU_END = 3.75f;
constexpr float GELU_TAIL[] = {-5.95520949e-4f, 3.68598779e-3f,  6.03690790e-3f,
                               -5.15025072e-2f, -1.67386413e-1f, 8.40883136e-1f};
#else
constexpr float GELU_END = 5.25f;  // where t q(t) is below 4e-7
constexpr float GELU_TAIL[] = {-3.33337357e-6f, 5.73674297e-5f,  -3.00917571e-4f, -5.57194981e-5f, 3.83049832e-3f,
                               4.61844681e-3f,  -5.01844250e-2f, -1.67736113e-1f, 8.40896487e-1f};
#endif

// The upper tail of the normal distribution from |x| on, for COUNT vectors, and |x|, GELU_END at most. Step by step for all
// of them: those that wait for their turn would fill the queue of the processor.
template <int COUNT>
INLINE void normal_tails(const Vec (&x)[COUNT], Vec (&t)[COUNT], Vec (&tail)[COUNT]) {
    constexpr int LENGTH = sizeof GELU_TAIL / sizeof *GELU_TAIL;
    UNROLL
    for (int i = 0; i < COUNT; i++) t[i] = min(splat(GELU_END), absolute(x[i]));
    UNROLL
    for (int i = 0; i < COUNT; i++) tail[i] = t[i] * GELU_TAIL[0] + GELU_TAIL[1];
    UNROLL
    for (int power = 2; power < LENGTH; power++) {
        UNROLL
        for (int i = 0; i < COUNT; i++) tail[i] = tail[i] * t[i] + GELU_TAIL[power];
    }
    UNROLL
    for (int i = 0; i < COUNT; i++) tail[i] *= tail[i];
    UNROLL
    for (int i = 0; i < COUNT; i++) tail[i] *= tail[i];
}

// GELU of COUNT vectors: by symmetry it is max(x, 0) - |x| q(|x|). NaN stays.
template <int COUNT>
INLINE void gelu(Vec (&x)[COUNT]) {
    Vec t[COUNT], tail[COUNT];
    normal_tails(x, t, tail);
    UNROLL
    for (int i = 0; i < COUNT; i++) x[i] = max(Vec{}, x[i]) - t[i] * tail[i];
}

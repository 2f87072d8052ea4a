// GELU of many numbers, and its gradient. Included once for every instruction set, behind gelu.h.

constexpr int ACTIVATED = 4;  // vectors at a time

typedef std::uint16_t HalfVec __attribute__((vector_size(LANES * 2)));

// Numbers of 16 bits are bf16: the upper half of a float.
INLINE Vec load(const std::uint16_t *from) {
    HalfVec half;
    __builtin_memcpy(&half, from, sizeof half);
    return (Vec)(__builtin_convertvector(half, IntVec) << 16);
}

// Rounds to the nearest, halves to even; NaN stays.
INLINE void store(std::uint16_t *to, Vec x) {
    const IntVec bits = (IntVec)x, odd = bits >> 16 & 1;
    const IntVec rounded = x == x ? (bits + 0x7fff + odd) >> 16 : IntVec{} + 0x7fc0;
    const HalfVec half = __builtin_convertvector(rounded, HalfVec);
    __builtin_memcpy(to, &half, sizeof half);
}

// Multiplies COUNT vectors with the derivative of GELU, which is the normal distribution plus x times its density.
template <int COUNT>
INLINE void multiply_by_slope(Vec (&x)[COUNT], Vec (&grad)[COUNT]) {
    constexpr float HIGHEST = 0.3989422804f;  // of the density
    Vec t[COUNT], tail[COUNT], density[COUNT];
    normal_tails(x, t, tail);
    UNROLL
    for (int i = 0; i < COUNT; i++) density[i] = x[i] * x[i] * (-0.5f * LOG2_E);
    exp2(density);
    UNROLL
    for (int i = 0; i < COUNT; i++) {
        const Vec below = x[i] > 0.f ? 1.f - tail[i] : tail[i];
        grad[i] *= below + x[i] * density[i] * HIGHEST;
    }
}

// Writes GELU of as many numbers as there are, up to a block, or `grad` times its derivative unless that is null.
template <typename Number>
TARGET static void activate_block(std::ptrdiff_t count, const Number *x, const Number *grad, Number *out) {
    constexpr int SIZE = ACTIVATED * LANES;
    Number values[SIZE]{}, gradients[SIZE]{}, results[SIZE];
    Number *to = out;
    if (count < SIZE) {  // the last ones
        __builtin_memcpy(values, x, sizeof(Number) * count);
        if (grad) __builtin_memcpy(gradients, grad, sizeof(Number) * count);
        x = values, grad = grad ? gradients : nullptr, to = results;
    }
    Vec part[ACTIVATED], slopes[ACTIVATED];
    UNROLL
    for (int i = 0; i < ACTIVATED; i++) part[i] = load(x + i * LANES);
    if (grad) {
        UNROLL
        for (int i = 0; i < ACTIVATED; i++) slopes[i] = load(grad + i * LANES);
        multiply_by_slope(part, slopes);
    } else {
        gelu(part);
    }
    UNROLL
    for (int i = 0; i < ACTIVATED; i++) store(to + i * LANES, grad ? slopes[i] : part[i]);
    if (count < SIZE) __builtin_memcpy(out, results, sizeof(Number) * count);
}

// Likewise for `count` numbers.
template <typename Number>
static void activate(std::ptrdiff_t count, int threads, const Number *x, const Number *grad, Number *out) {
    constexpr int SIZE = ACTIVATED * LANES;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::ptrdiff_t block = 0; block < (count + SIZE - 1) / SIZE; block++) {
        activate_block(count - block * SIZE, x + block * SIZE, grad ? grad + block * SIZE : nullptr, out + block * SIZE);
    }
}

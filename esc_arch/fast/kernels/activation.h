// GELU of many numbers, and its gradient. Included once for every instruction set, behind gelu.h.

constexpr int ACTIVATED = 4;  // vectors at a time

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

// Does so for as many as there are, up to a block.
TARGET static void activate_block(std::ptrdiff_t count, const float *x, const float *grad, float *out) {
    constexpr int SIZE = ACTIVATED * LANES;
    float first[2 * SIZE], *second = first + SIZE;
    if (count < SIZE) {  // the last ones
        for (int i = 0; i < SIZE; i++) first[i] = i < count ? x[i] : 0.f, second[i] = grad && i < count ? grad[i] : 0.f;
        x = first, grad = grad ? second : nullptr;
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
    if (count >= SIZE) {
        UNROLL
        for (int i = 0; i < ACTIVATED; i++) store(out + i * LANES, grad ? slopes[i] : part[i]);
        return;
    }
    for (int i = 0; i < count; i++) out[i] = grad ? slopes[i / LANES][i % LANES] : part[i / LANES][i % LANES];
}

// Writes GELU of `count` numbers, or `grad` times its derivative unless that is null.
static void activate(std::ptrdiff_t count, int threads, const float *x, const float *grad, float *out) {
    constexpr int SIZE = ACTIVATED * LANES;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::ptrdiff_t block = 0; block < (count + SIZE - 1) / SIZE; block++) {
        activate_block(count - block * SIZE, x + block * SIZE, grad ? grad + block * SIZE : nullptr, out + block * SIZE);
    }
}

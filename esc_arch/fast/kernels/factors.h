// What is multiplied in products in float. Included once for every instruction set, behind groups.h.

typedef float Factor;

constexpr int CHANNELS = 1;  // in a factor

// The factor of a result from the weights of the channels that are left, one of them or more.
static inline Factor factor_of(const float *weights, int) { return *weights; }

// PIXELS pixels, `stride` floats apart, as they are multiplied.
struct Factors {
    const Factor *rows;
    std::ptrdiff_t stride;

    Factors(const float *pixels, int stride, int) : rows(pixels), stride(stride) {}
};

INLINE void store_factors(Factor *to, Vec x) { store(to, x); }

// Floats of memory that pack_factors needs for `count` rows of weights.
static std::ptrdiff_t packed_factors(std::ptrdiff_t, int) { return 0; }

static const Factor *pack_factors(const float *weights, std::ptrdiff_t, int, float *) { return weights; }

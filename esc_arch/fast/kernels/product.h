// A product in float. Included once for every instruction set, behind groups.h.

// Weights (results, channels) and biases (results), packed: for every group (channels, its results), then the biases.
struct Product {
    int channels;
    Groups groups;
    const float *packed;

    static std::ptrdiff_t size(int channels, int results) {
        return std::ptrdiff_t(channels + 1) * Groups(results).width();
    }

    // Takes size(channels, results) floats of memory; no biases are zeros.
    Product(int channels, int results, const float *weights, const float *biases, float *memory)
        : channels(channels), groups(results), packed(memory) {
        const int width = groups.parts * LANES;
        for (int group = 0; group < groups.count; group++) {
            for (int c = 0; c < channels; c++, memory += width) {
                for (int i = 0; i < width; i++) {
                    const int result = group * width + i;
                    memory[i] = result < results ? weights[std::ptrdiff_t(result) * channels + c] : 0.f;
                }
            }
        }
        for (int i = 0; i < groups.width(); i++) memory[i] = biases && i < results ? biases[i] : 0.f;
    }

    // Multiplies PIXELS pixels, `stride` floats apart, into rows of groups.width() floats.
    void operator()(const float *pixels, int stride, float *out) const {
        const int part = groups.parts * LANES, width = groups.width();
        const float *biases = packed + std::ptrdiff_t(channels) * width;
        for (int at = 0; at < width; at += part) {
            const float *weights = packed + std::ptrdiff_t(at) * channels;
            const auto multiply = groups.parts == 1   ? multiply_group<PIXELS, 1>
                                  : groups.parts == 2 ? multiply_group<PIXELS, 2>
                                  : groups.parts == 3 ? multiply_group<PIXELS, 3>
                                  : groups.parts == 4 ? multiply_group<PIXELS, 4>
                                                      : multiply_group<PIXELS, 5>;
            multiply(pixels, channels, stride, weights, part, biases + at, out + at, width);
        }
    }
};

// What rows of LANES or more channels are stored as to be multiplied.
typedef float Factor;

constexpr int factors(int channels) { return channels; }

INLINE void store_factors(Factor *to, Vec x) { store(to, x); }

template <int ROWS, int PARTS>
INLINE void multiply_factors(
    const Factor *rows, int count, const Factor *weights, std::ptrdiff_t pitch, float *out, std::ptrdiff_t width
) {
    multiply_group<ROWS, PARTS>(rows, count, count, weights, pitch, nullptr, out, width);
}

// Floats of memory that pack_factors needs for `count` rows of weights.
static std::ptrdiff_t packed_factors(std::ptrdiff_t, int) { return 0; }

static const Factor *pack_factors(const float *weights, std::ptrdiff_t, int, float *) { return weights; }

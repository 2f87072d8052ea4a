// A product with weights that are packed for it. Included once for every instruction set, behind factors.h.

constexpr int factors(int channels) { return (channels + CHANNELS - 1) / CHANNELS; }

// Weights (results, channels) and biases (results), packed: for every group (factors, its results), then the biases.
struct Product {
    int channels;
    Groups groups;
    const float *packed;

    static std::ptrdiff_t size(int channels, int results) {
        return std::ptrdiff_t(factors(channels) + 1) * Groups(results).width();
    }

    // Takes size(channels, results) floats of memory; no biases are zeros.
    Product(int channels, int results, const float *weights, const float *biases, float *memory)
        : channels(channels), groups(results), packed(memory) {
        const int width = groups.parts * LANES;
        for (int group = 0; group < groups.count; group++) {
            for (int c = 0; c < channels; c += CHANNELS, memory += width) {
                for (int i = 0; i < width; i++) {
                    const std::ptrdiff_t result = group * width + i;
                    const Factor factor = result < results ? factor_of(weights + result * channels + c, channels - c) : 0;
                    __builtin_memcpy(memory + i, &factor, sizeof factor);
                }
            }
        }
        for (int i = 0; i < groups.width(); i++) memory[i] = biases && i < results ? biases[i] : 0.f;
    }

    // Multiplies PIXELS pixels, `stride` floats apart, into rows of groups.width() floats, or adds to them.
    template <bool ADD = false>
    TARGET void operator()(const float *pixels, int stride, float *out) const {
        typedef void Multiply(
            const Factor *, int, std::ptrdiff_t, const Factor *, std::ptrdiff_t, const float *, float *, std::ptrdiff_t
        );
        static constexpr Multiply *MULTIPLY[] = {
            multiply_rows<PIXELS, 1, ADD>, multiply_rows<PIXELS, 2, ADD>, multiply_rows<PIXELS, 3, ADD>,
            multiply_rows<PIXELS, 4, ADD>, multiply_rows<PIXELS, 5, ADD>,
        };
        const int part = groups.parts * LANES, width = groups.width(), count = factors(channels);
        const Factors left(pixels, stride, channels);
        const float *biases = packed + std::ptrdiff_t(count) * width;
        for (int at = 0; at < width; at += part) {
            const Factor *weights = reinterpret_cast<const Factor *>(packed) + std::ptrdiff_t(at) * count;
            MULTIPLY[groups.parts - 1](left.rows, count, left.stride, weights, part, biases + at, out + at, width);
        }
    }

    // Adds the products of PIXELS pixels to rows of so many results; `rows` is memory for PIXELS rows of groups.width().
    TARGET void add(const float *pixels, int stride, int results, float *rows, float *out) const {
        if (groups.width() == results) return operator()<true>(pixels, stride, out);
        operator()(pixels, stride, rows);
        add_rows(rows, groups.width(), PIXELS, results, out);
    }
};

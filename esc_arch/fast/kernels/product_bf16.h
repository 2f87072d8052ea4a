// A product in bf16, with sums in float. Included behind groups.h and bf16.h, in the place of product.h.

constexpr int MOST_CHANNELS = 1024;  // that go into a product

// Multiplies ROWS rows of `count` pairs, `stride` pairs apart, with as many rows of PARTS vectors, a pitch apart, into rows
// that are `width` floats apart. No biases are zeros.
template <int ROWS, int PARTS>
TARGET static void multiply_pairs(
    const Pair *rows, int count, std::ptrdiff_t stride, const Pair *weights, std::ptrdiff_t pitch, const float *biases,
    float *out, std::ptrdiff_t width
) {
    Vec tile[ROWS][PARTS]{};
    if (biases) {
        UNROLL
        for (int part = 0; part < PARTS; part++) {
            UNROLL
            for (int i = 0; i < ROWS; i++) tile[i][part] = load(biases + part * LANES);
        }
    }
    for (int pair = 0; pair < count; pair++, weights += pitch) {
        IntVec weight[PARTS];
        UNROLL
        for (int part = 0; part < PARTS; part++) weight[part] = load_pairs(weights + part * LANES);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            if (PARTS == 1) {
                tile[i][0] = add_dots(tile[i][0], weight[0], rows + i * stride + pair);
            } else {
                const IntVec value = splat_pair(rows[i * stride + pair]);
                UNROLL
                for (int part = 0; part < PARTS; part++) tile[i][part] = add_dots(tile[i][part], weight[part], value);
            }
        }
    }
    UNROLL
    for (int i = 0; i < ROWS; i++) {
        UNROLL
        for (int part = 0; part < PARTS; part++) store(out + i * width + part * LANES, tile[i][part]);
    }
}

// Rounds a row to pairs, the last one filled up by zero; writes up to 2 * LANES - 1 further ones.
TARGET static void round_row(const float *row, int channels, Pair *to) {
    for (int c = 0; c < channels; c += 2 * LANES)
        store_pairs(to + c / 2, pairs_of_neighbours(load_first(row + c, channels - c), load_first(row + c + LANES, channels - c - LANES)));
}

// Weights (results, channels) and biases (results), packed: for every group (pairs of channels, its results), then the
// biases.
struct Product {
    int channels;
    Groups groups;
    const float *packed;

    static int pairs(int channels) { return (channels + 1) / 2; }

    static std::ptrdiff_t size(int channels, int results) {
        return std::ptrdiff_t(pairs(channels) + 1) * Groups(results).width();
    }

    // Takes size(channels, results) floats of memory; no biases are zeros.
    Product(int channels, int results, const float *weights, const float *biases, float *memory)
        : channels(channels), groups(results), packed(memory) {
        const int width = groups.parts * LANES;
        for (int group = 0; group < groups.count; group++) {
            for (int c = 0; c < channels; c += 2, memory += width) {
                for (int i = 0; i < width; i++) {
                    const int result = group * width + i;
                    const float *from = weights + std::ptrdiff_t(result) * channels + c;
                    const Pair pair = result < results ? narrowed(from[0]) | Pair(c + 1 < channels ? narrowed(from[1]) : 0) << 16 : 0;
                    __builtin_memcpy(memory + i, &pair, sizeof pair);
                }
            }
        }
        for (int i = 0; i < groups.width(); i++) memory[i] = biases && i < results ? biases[i] : 0.f;
    }

    // Multiplies PIXELS pixels, `stride` floats apart, into rows of groups.width() floats.
    TARGET void operator()(const float *pixels, int stride, float *out) const {
        const int part = groups.parts * LANES, width = groups.width(), count = pairs(channels);
        const int row = (count + LANES - 1) / LANES * LANES;
        Pair rows[PIXELS * MOST_CHANNELS / 2];
        for (int i = 0; i < PIXELS; i++) round_row(pixels + std::ptrdiff_t(i) * stride, channels, rows + i * row);
        const float *biases = packed + std::ptrdiff_t(count) * width;
        for (int at = 0; at < width; at += part) {
            const Pair *weights = reinterpret_cast<const Pair *>(packed) + std::ptrdiff_t(at) * count;
            const auto multiply = groups.parts == 1   ? multiply_pairs<PIXELS, 1>
                                  : groups.parts == 2 ? multiply_pairs<PIXELS, 2>
                                  : groups.parts == 3 ? multiply_pairs<PIXELS, 3>
                                  : groups.parts == 4 ? multiply_pairs<PIXELS, 4>
                                                      : multiply_pairs<PIXELS, 5>;
            multiply(rows, count, row, weights, part, biases + at, out + at, width);
        }
    }
};

// What rows of LANES or more channels are stored as to be multiplied.
typedef Pair Factor;

constexpr int factors(int channels) { return channels / 2; }

INLINE void store_factors(Factor *to, Vec x) { store_half(to, x); }

template <int ROWS, int PARTS>
INLINE void multiply_factors(
    const Factor *rows, int count, const Factor *weights, std::ptrdiff_t pitch, float *out, std::ptrdiff_t width
) {
    multiply_pairs<ROWS, PARTS>(rows, count, count, weights, pitch, nullptr, out, width);
}

// Floats of memory that pack_factors needs for `count` rows of weights, an even number.
static std::ptrdiff_t packed_factors(std::ptrdiff_t count, int width) { return count / 2 * width; }

TARGET static const Factor *pack_factors(const float *weights, std::ptrdiff_t count, int width, float *memory) {
    Factor *packed = reinterpret_cast<Factor *>(memory);
    for (std::ptrdiff_t row = 0; row < count; row += 2, weights += 2 * width, memory += width) {
        for (int i = 0; i < width; i += LANES)
            store_pairs(reinterpret_cast<Factor *>(memory) + i, pairs_of(load(weights + i), load(weights + width + i)));
    }
    return packed;
}

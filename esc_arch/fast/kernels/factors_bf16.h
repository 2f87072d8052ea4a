// What is multiplied in products in bf16, and how. Included behind groups.h and bf16.h, in the place of factors.h.

typedef Pair Factor;

constexpr int CHANNELS = 2;  // in a factor

// Multiplies ROWS rows of `count` pairs as that for floats does.
template <int ROWS, int PARTS, bool ADD = false>
TARGET static void multiply_rows(
    const Pair *rows, int count, std::ptrdiff_t stride, const Pair *weights, std::ptrdiff_t pitch, const float *biases,
    float *out, std::ptrdiff_t width
) {
    Vec tile[ROWS][PARTS];
    begin_sums<ROWS, PARTS, ADD>(biases, out, width, tile);
    Rows<ROWS, Pair> row(rows, stride);
    for (int pair = 0; pair < count; pair++, weights += pitch, row.advance()) {
        IntVec weight[PARTS];
        UNROLL
        for (int part = 0; part < PARTS; part++) weight[part] = load_pairs(weights + part * LANES);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            if (PARTS == 1) {
                tile[i][0] = add_dots(tile[i][0], weight[0], row[i]);
            } else {
                const IntVec value = splat_pair(*row[i]);
                UNROLL
                for (int part = 0; part < PARTS; part++) tile[i][part] = add_dots(tile[i][part], weight[part], value);
            }
        }
    }
    store_sums(tile, out, width);
}

// The factor of a result from the weights of the channels that are left, one of them or more.
static inline Factor factor_of(const float *weights, int left) {
    return narrowed(weights[0]) | Pair(left > 1 ? narrowed(weights[1]) : 0) << 16;
}

// PIXELS pixels, `stride` floats apart, as they are multiplied.
struct Factors {
    Factor rows[PIXELS * MOST_CHANNELS_BF16 / CHANNELS];
    std::ptrdiff_t stride;

    // Rounds the channels, and fills the rows up by zeros to whole vectors.
    TARGET Factors(const float *pixels, int stride_of_pixels, int channels)
        : stride((channels + 2 * LANES - 1) / (2 * LANES) * LANES) {
        if (channels > MOST_CHANNELS_BF16) __builtin_trap();  // behind `rows` lies the stack
        Factor *to = rows;
        for (int i = 0; i < PIXELS; i++, pixels += stride_of_pixels) {
            for (int c = 0; c < channels; c += 2 * LANES, to += LANES)
                store_pairs(to, pairs_of_neighbours(load_first(pixels + c, channels - c), load_first(pixels + c + LANES, channels - c - LANES)));
        }
    }
};

INLINE void store_factors(Factor *to, Vec x) { store_half(to, x); }

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

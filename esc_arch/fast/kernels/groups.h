// Products of pixels with the weights of a 1x1 convolution. Included once for every instruction set, behind vector.h.
//
// PIXELS pixels at a time are multiplied, with all of their results, or a group of them, in registers.

constexpr int MOST_PARTS = LANES == 8 ? 2 : 5;  // most vectors of results of a pixel: PIXELS times so many fit

// How the results of a product are cut into groups.
struct Groups {
    int count;
    int parts;  // vectors in each

    explicit Groups(int results) {
        const int vectors = padded_channels(results) / LANES;
        count = (vectors + MOST_PARTS - 1) / MOST_PARTS;
        parts = (vectors + count - 1) / count;
    }

    int width() const { return count * parts * LANES; }  // the results, and zeros that fill the last group
};

// Begins the sums of ROWS rows of PARTS vectors with the biases, or with zeros if there are none.
template <int ROWS, int PARTS>
INLINE void begin_sums(const float *biases, Vec (&sums)[ROWS][PARTS]) {
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        const Vec first = biases ? load(biases + part * LANES) : Vec{};
        UNROLL
        for (int i = 0; i < ROWS; i++) sums[i][part] = first;
    }
}

// Writes them into rows that are `width` floats apart.
template <int ROWS, int PARTS>
INLINE void store_sums(const Vec (&sums)[ROWS][PARTS], float *out, std::ptrdiff_t width) {
    UNROLL
    for (int i = 0; i < ROWS; i++) {
        UNROLL
        for (int part = 0; part < PARTS; part++) store(out + i * width + part * LANES, sums[i][part]);
    }
}

// Multiplies ROWS rows of `count` floats, `stride` floats apart, with as many rows of PARTS vectors, a pitch apart, into
// rows that are `width` floats apart. No biases are zeros.
template <int ROWS, int PARTS>
TARGET static void multiply_rows(
    const float *rows, int count, std::ptrdiff_t stride, const float *weights, std::ptrdiff_t pitch,
    const float *biases, float *out, std::ptrdiff_t width
) {
    Vec tile[ROWS][PARTS];
    begin_sums(biases, tile);
    for (int c = 0; c < count; c++, weights += pitch) {
        Vec weight[PARTS];
        UNROLL
        for (int part = 0; part < PARTS; part++) weight[part] = load(weights + part * LANES);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            const Vec value = splat(rows[i * stride + c]);
            UNROLL
            for (int part = 0; part < PARTS; part++) tile[i][part] += value * weight[part];
        }
    }
    store_sums(tile, out, width);
}

// Sums of two rows. Vectors, not single floats: the rows may be the same.
INLINE void add_row(const float *row, const float *other, int channels, float *out) {
    int c = 0;
    for (; c + LANES <= channels; c += LANES) store(out + c, load(row + c) + load(other + c));
    for (; c < channels; c++) out[c] = row[c] + other[c];
}

TARGET static void add_rows(const float *rows, int width, int count, int channels, float *out) {
    for (int i = 0; i < count; i++, rows += width, out += channels) add_row(rows, out, channels, out);
}

INLINE void copy_row(const float *row, int channels, float *out) {
    int c = 0;
    for (; c + LANES <= channels; c += LANES) store(out + c, load(row + c));
    for (; c < channels; c++) out[c] = row[c];
}

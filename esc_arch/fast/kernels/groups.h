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
        parts = count ? (vectors + count - 1) / count : 0;
    }

    int width() const { return count * parts * LANES; }  // the results, and zeros that fill the last group
};

// Begins the sums of ROWS rows of PARTS vectors with the biases, or with zeros if there are none; with ADD with rows that
// are `width` floats apart besides.
template <int ROWS, int PARTS, bool ADD>
INLINE void begin_sums(const float *biases, const float *rows, std::ptrdiff_t width, Vec (&sums)[ROWS][PARTS]) {
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        const Vec first = biases ? load(biases + part * LANES) : Vec{};
        UNROLL
        for (int i = 0; i < ROWS; i++) sums[i][part] = ADD ? load(rows + i * width + part * LANES) + first : first;
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

// Pointers into ROWS rows that are `stride` apart, one into every fourth row: the others are a multiple of the stride away
// that an instruction can add, while a register for each would be too many.
template <int ROWS, typename Number>
struct Rows {
    const Number *bases[(ROWS + 3) / 4];
    std::ptrdiff_t stride;

    INLINE_MEMBER Rows(const Number *rows, std::ptrdiff_t stride) : stride(stride) {
        UNROLL
        for (int i = 0; i < ROWS; i += 4) bases[i / 4] = rows + i * stride;
    }

    INLINE_MEMBER const Number *operator[](int row) const { return bases[row / 4] + row % 4 * stride; }

    INLINE_MEMBER void advance() {
        UNROLL
        for (int i = 0; i < (ROWS + 3) / 4; i++) {
            bases[i]++;
            asm("" : "+r"(bases[i]));  // or compilers make one pointer and as many distances of them again
        }
    }
};

// Multiplies ROWS rows of `count` floats, `stride` floats apart, with as many rows of PARTS vectors, a pitch apart, into
// rows that are `width` floats apart. No biases are zeros. With ADD the results are added to those rows.
template <int ROWS, int PARTS, bool ADD = false>
TARGET static void multiply_rows(
    const float *rows, int count, std::ptrdiff_t stride, const float *weights, std::ptrdiff_t pitch,
    const float *biases, float *out, std::ptrdiff_t width
) {
    Vec tile[ROWS][PARTS];
    begin_sums<ROWS, PARTS, ADD>(biases, out, width, tile);
    Rows<ROWS, float> row(rows, stride);
    for (int c = 0; c < count; c++, weights += pitch, row.advance()) {
        Vec weight[PARTS];
        UNROLL
        for (int part = 0; part < PARTS; part++) weight[part] = load(weights + part * LANES);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            const Vec value = splat(*row[i]);
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

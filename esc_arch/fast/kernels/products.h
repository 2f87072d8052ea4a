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

// Multiplies ROWS rows of `channels` floats, `stride` floats apart, with as many rows of PARTS vectors, a pitch apart,
// into rows that are `width` floats apart. No biases are zeros.
template <int ROWS, int PARTS>
TARGET static void multiply_group(
    const float *rows, int channels, std::ptrdiff_t stride, const float *weights, std::ptrdiff_t pitch,
    const float *biases, float *out, std::ptrdiff_t width
) {
    Vec tile[ROWS][PARTS]{};
    if (biases) {
        UNROLL
        for (int part = 0; part < PARTS; part++) {
            UNROLL
            for (int i = 0; i < ROWS; i++) tile[i][part] = load(biases + part * LANES);
        }
    }
    for (int c = 0; c < channels; c++, weights += pitch) {
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
    UNROLL
    for (int i = 0; i < ROWS; i++) {
        UNROLL
        for (int part = 0; part < PARTS; part++) store(out + i * width + part * LANES, tile[i][part]);
    }
}

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

TARGET static void add_rows(const float *rows, int width, int count, int channels, float *out) {
    for (int i = 0; i < count; i++) {
        for (int c = 0; c < channels; c++) out[i * channels + c] += rows[i * width + c];
    }
}

// Floats that add_products needs.
static std::ptrdiff_t add_products_workspace(int channels, int results, int threads) {
    const int width = Groups(results).width();
    return Product::size(channels, results) + std::ptrdiff_t(threads) * PIXELS * (channels + width);
}

// Adds the products of pixels (count, channels) with weights (results, channels) to `out` (count, results).
static void add_products(
    std::ptrdiff_t count, int channels, int results, int threads, const float *pixels, const float *weights,
    float *memory, float *out
) {
    const Product product(channels, results, weights, nullptr, memory);
    memory += Product::size(channels, results);
    const int width = product.groups.width(), size = PIXELS * (channels + width);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::ptrdiff_t block = 0; block < (count + PIXELS - 1) / PIXELS; block++) {
        const std::ptrdiff_t first = block * PIXELS;
        const int present = count - first < PIXELS ? count - first : PIXELS;
        float *rows = memory + std::ptrdiff_t(omp_get_thread_num()) * size, *last = rows + PIXELS * width;
        const float *from = pixels + first * channels;
        if (present < PIXELS) {
            __builtin_memset(last, 0, sizeof(float) * PIXELS * channels);
            __builtin_memcpy(last, from, sizeof(float) * present * channels);
            from = last;
        }
        product(from, channels, rows);
        add_rows(rows, width, present, results, out + first * results);
    }
}

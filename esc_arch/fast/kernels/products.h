// A 1x1 convolution whose results are added. Included once for every instruction set, behind the product.

TARGET static void add_rows(const float *rows, int width, int count, int channels, float *out) {
    for (int i = 0; i < count; i++, rows += width, out += channels) add_row(rows, out, channels, out);
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

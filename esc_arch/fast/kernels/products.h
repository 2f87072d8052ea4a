// A 1x1 convolution of pixels, perhaps normalised before. Included once for every instruction set, behind norm.h and
// product.h.

// Copies `count` of the pixels from the first one on as floats, filled up with zeros, as are the rows up to PIXELS.
TARGET static void take_pixels(const Pixels &pixels, std::ptrdiff_t first, int count, int channels, float *rows) {
    const int size = padded_channels(channels);
    for (int i = 0; i < count; i++) {
        float *to = rows + i * size;
#if BF16
        if (pixels.x_bf16) {
            widen(static_cast<const Bf16 *>(pixels.x) + (first + i) * channels, channels, to);
            for (int c = channels; c < size; c++) to[c] = 0.f;
            continue;
        }
#endif
        copy_filled(static_cast<const float *>(pixels.x) + (first + i) * channels, channels, size, to);
    }
    __builtin_memset(rows + count * size, 0, sizeof(float) * (PIXELS - count) * size);
}

// Hands `count` rows of results out.
TARGET static void hand_out(const Pixels &pixels, const float *rows, int width, std::ptrdiff_t first, int count, int results) {
    for (int i = 0; i < count; i++, rows += width) {
#if BF16
        if (pixels.out_bf16) {
            narrow(rows, results, static_cast<Bf16 *>(pixels.out) + (first + i) * results);
            continue;
        }
#endif
        float *out = static_cast<float *>(pixels.out) + (first + i) * results;
        if (pixels.add) {
            add_row(rows, out, results, out);
        } else {
            copy_row(rows, results, out);
        }
    }
}

// Floats that a thread needs.
static int block_of_products(int channels, int results) {
    return PIXELS * (padded_channels(channels) + Groups(results).width());
}

static std::ptrdiff_t products_workspace(int channels, int results, int threads) {
    return Product::size(channels, results) + Norm::size(channels) + std::ptrdiff_t(threads) * block_of_products(channels, results);
}

static void products(const Projection &projection, const Pixels &pixels, float *memory) {
    const int channels = projection.channels, results = projection.results, stride = padded_channels(channels);
    const Product product(channels, results, projection.weight, projection.bias, memory);
    memory += Product::size(channels, results);
    const Norm norm(channels, projection.epsilon, projection.scale, projection.shift, memory);
    memory += Norm::size(channels);
    const int width = product.groups.width(), size = block_of_products(channels, results);
    // whole blocks need not be copied
    const bool direct_in = !norm.packed && !pixels.x_bf16, direct_out = width == results && !pixels.out_bf16;
#pragma omp parallel for schedule(static) num_threads(pixels.threads)
    for (std::ptrdiff_t block = 0; block < (pixels.count + PIXELS - 1) / PIXELS; block++) {
        const std::ptrdiff_t first = block * PIXELS;
        const int count = pixels.count - first < PIXELS ? pixels.count - first : PIXELS;
        float *rows = memory + std::ptrdiff_t(omp_get_thread_num()) * size, *mapped = rows + PIXELS * stride;
        const float *from = static_cast<const float *>(pixels.x) + first * channels;
        int apart = channels;
        if (!direct_in || count < PIXELS) {
            take_pixels(pixels, first, count, channels, rows);
            for (int i = 0; i < count; i++) norm(rows + i * stride);
            from = rows, apart = stride;
        }
        float *to = static_cast<float *>(pixels.out) + first * results;
        if (!direct_out || count < PIXELS) {
            product(from, apart, mapped);
            hand_out(pixels, mapped, width, first, count, results);
        } else if (pixels.add) {
            product.operator()<true>(from, apart, to);
        } else {
            product(from, apart, to);
        }
    }
}

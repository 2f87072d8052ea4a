// A ConvFFN with the normalisation before it and the sum behind it. Included once for every instruction set, behind
// gelu.h.
//
// Of the hidden layer only three rows of a tile of the image exist at a time, and pixels go through products and
// activations while they are in the first-level cache.

constexpr int TILE_WIDTH = 128;  // pixels, at most: three rows of the hidden layer fit into the second-level cache
constexpr int TILE_HEIGHT = 64;
constexpr int AHEAD = 4 * PIXELS;  // pixels from what is written to what is fetched to be written next
constexpr int LOWEST_TILE = 8;  // of those that are made lower, to have some for every thread

// The weights as the kernel reads them, with the channels filled up by zeros.
struct PackedFFN {
    const ConvFFN &ffn;
    Product in;  // C -> E
    Product out;  // E -> results
    const float *taps;  // (9, E) and the biases (E) of the convolution between them
    Norm norm;

    static std::ptrdiff_t size(int channels, int hidden, int results) {
        return Product::size(channels, hidden) + Product::size(hidden, results) + 10 * Groups(hidden).width() +
               Norm::size(channels);
    }

    PackedFFN(const ConvFFN &ffn, float *memory)
        : ffn(ffn),
          in(ffn.channels, ffn.hidden, ffn.weight_in, ffn.bias_in, memory),
          out(ffn.hidden, ffn.results, ffn.weight_out, ffn.bias_out, memory + Product::size(ffn.channels, ffn.hidden)),
          norm(
              ffn.channels, ffn.epsilon, ffn.scale, ffn.shift,
              memory + size(ffn.channels, ffn.hidden, ffn.results) - Norm::size(ffn.channels)
          ) {
        memory += Product::size(ffn.channels, ffn.hidden) + Product::size(ffn.hidden, ffn.results);
        taps = memory;
        for (int tap = 0; tap < 10; tap++) {
            for (int c = 0; c < ffn.hidden; c++) {
                memory[c] = tap < 9 ? ffn.weight_between[c * 9 + tap] : ffn.bias_between[c];
            }
            for (int c = ffn.hidden; c < width(); c++) memory[c] = 0.f;
            memory += width();
        }
    }

    int width() const { return in.groups.width(); }  // floats of a hidden pixel
};

// Computes `count` pixels of the hidden layer before its convolution; there are at least PIXELS.
TARGET static void hidden_row(const PackedFFN &packed, const float *x, int count, float *pixels, float *hidden) {
    const int channels = packed.ffn.channels, stride = padded_channels(channels), width = packed.width();
    for (int first = 0; first < count; first += PIXELS) {
        const int at = first + PIXELS <= count ? first : count - PIXELS;  // the last ones overlap those before
        for (int i = 0; i < PIXELS; i++) {
            copy_filled(x + std::ptrdiff_t(at + i) * channels, channels, stride, pixels + i * stride);
            packed.norm(pixels + i * stride);
        }
        float *to = hidden + at * width;
        packed.in(pixels, stride, to);
        for (int c = 0; c < PIXELS * width; c += PIXELS * LANES) {
            Vec part[PIXELS];
            UNROLL
            for (int i = 0; i < PIXELS; i++) part[i] = load(to + c + i * LANES);
            gelu(part);
            UNROLL
            for (int i = 0; i < PIXELS; i++) store(to + c + i * LANES, part[i]);
        }
    }
}

// Convolves PIXELS pixels of the hidden layer, from three rows that begin at the left neighbour of the first one.
TARGET static void convolve(const PackedFFN &packed, const float *const (&rows)[3], float *out) {
    const int width = packed.width();
    for (int c = 0; c < width; c += LANES) {
        Vec total[PIXELS];
        UNROLL
        for (int i = 0; i < PIXELS; i++) total[i] = load(packed.taps + 9 * width + c);
        UNROLL
        for (int y = 0; y < 3; y++) {
            Vec near[PIXELS + 2];
            UNROLL
            for (int i = 0; i < PIXELS + 2; i++) near[i] = load(rows[y] + i * width + c);
            UNROLL
            for (int x = 0; x < 3; x++) {
                const Vec weight = load(packed.taps + (3 * y + x) * width + c);
                UNROLL
                for (int i = 0; i < PIXELS; i++) total[i] += near[i + x] * weight;
            }
        }
        gelu(total);
        UNROLL
        for (int i = 0; i < PIXELS; i++) store(out + i * width + c, total[i] + load(rows[1] + (i + 1) * width + c));
    }
}

// Hands PIXELS pixels out: C results plus those of `skip`, unless that is null, and then the rest.
TARGET static void distribute(
    const PackedFFN &packed, const float *mapped, const float *skip, float *out, float *rest
) {
    const int channels = packed.ffn.channels, further = packed.ffn.results - channels;
    for (int i = 0; i < PIXELS; i++, mapped += packed.out.groups.width(), out += channels, rest += further) {
        if (skip) {
            add_row(mapped, skip + i * channels, channels, out);
        } else {
            copy_row(mapped, channels, out);
        }
        copy_row(mapped + channels, further, rest);
    }
}

TARGET static void ffn_tile(const PackedFFN &packed, const FFNImages &images, const Tile &tile, float *memory) {
    const int channels = packed.ffn.channels, further = packed.ffn.results - channels, width = packed.width();
    const std::ptrdiff_t row_size = std::ptrdiff_t(tile.right - tile.left + 2) * width;
    float *rows = memory, *pixels = rows + 3 * row_size, *convolved = pixels + PIXELS * padded_channels(channels);
    float *mapped = convolved + PIXELS * width;
    const int first = tile.left > 0 ? tile.left - 1 : 0;
    const int last = tile.right < images.width ? tile.right + 1 : images.width;
    for (int y = tile.top - 1; y <= tile.bottom; y++) {
        float *row = rows + (y + 1) % 3 * row_size;
        if (y < 0 || y == images.height) {
            __builtin_memset(row, 0, sizeof(float) * row_size);
        } else {
            if (tile.left == 0) __builtin_memset(row, 0, sizeof(float) * width);
            if (tile.right == images.width) __builtin_memset(row + row_size - width, 0, sizeof(float) * width);
            const float *x = images.x + ((tile.image * images.height + y) * images.width + first) * channels;
            hidden_row(packed, x, last - first, pixels, row + (first - tile.left + 1) * width);
        }
        if (y <= tile.top) continue;
        for (int begin = tile.left; begin < tile.right; begin += PIXELS) {  // of the row above
            const int at = begin + PIXELS <= tile.right ? begin : tile.right - PIXELS;
            const float *near[3];
            for (int i = 0; i < 3; i++) near[i] = rows + (y + 2 + i) % 3 * row_size + (at - tile.left) * width;
            convolve(packed, near, convolved);
            packed.out(convolved, width, mapped);
            const std::ptrdiff_t pixel = (tile.image * images.height + y - 1) * images.width + at;
            const float *skip = images.skip ? images.skip + pixel * channels : nullptr;
            prefetch(images.out + (pixel + AHEAD) * channels, PIXELS * channels);
            distribute(packed, mapped, skip, images.out + pixel * channels, images.rest + pixel * further);
        }
    }
}

// Floats that a tile needs.
static std::ptrdiff_t ffn_tile_workspace(int channels, int hidden, int results) {
    const int width = Groups(hidden).width();
    const int pixel = padded_channels(channels) + width + Groups(results).width();
    return 3 * std::ptrdiff_t(TILE_WIDTH + 2) * width + PIXELS * pixel;
}

static std::ptrdiff_t ffn_workspace(int channels, int hidden, int results, int threads) {
    return PackedFFN::size(channels, hidden, results) + threads * ffn_tile_workspace(channels, hidden, results);
}

static void ffn_images(const ConvFFN &ffn, const FFNImages &images, float *memory) {
    const PackedFFN packed(ffn, memory);
    memory += PackedFFN::size(ffn.channels, ffn.hidden, ffn.results);
    const std::ptrdiff_t size = ffn_tile_workspace(ffn.channels, ffn.hidden, ffn.results);
    const std::ptrdiff_t columns = (images.width + TILE_WIDTH - 1) / TILE_WIDTH;
    std::ptrdiff_t rows, height = TILE_HEIGHT;
    for (;; height /= 2) {
        rows = (images.height + height - 1) / height;
        if (height <= LOWEST_TILE || images.batch * rows * columns >= 2 * images.threads) break;
    }
#pragma omp parallel for schedule(dynamic) num_threads(images.threads)
    for (std::ptrdiff_t i = 0; i < images.batch * rows * columns; i++) {
        const std::ptrdiff_t column = i % columns, row = i / columns % rows;
        const Tile tile{
            i / columns / rows,
            int(row * images.height / rows),
            int((row + 1) * images.height / rows),
            int(column * images.width / columns),
            int((column + 1) * images.width / columns),
        };
        ffn_tile(packed, images, tile, memory + omp_get_thread_num() * size);
    }
}

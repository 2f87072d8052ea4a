// A depthwise convolution with a kernel for every image, and the product behind it. Included once for every instruction
// set, behind product.h.
//
// All is done for one tile at a time. The rows of its context that a row of results needs stay in the first-level cache.

constexpr int BESIDE = 2 * PIXELS;  // pixels whose sums fit into registers
constexpr int DEPTHWISE_TILE_WIDTH = 2 * BESIDE;  // pixels, at most
constexpr int DEPTHWISE_TILE_HEIGHT = 32;

// Copies a piece of an image with its context, (.., columns + K - 1, padded channels), zeros where the image ends.
TARGET static void copy_piece(const DepthwiseImages &images, int radius, const Tile &tile, float *piece) {
    const int channels = images.channels, size = padded_channels(channels);
    const float *image = images.x + tile.image * images.height * images.width * channels;
    for (int y = tile.top - radius; y < tile.bottom + radius; y++) {
        for (int x = tile.left - radius; x < tile.right + radius; x++, piece += size) {
            if (y >= 0 && y < images.height && x >= 0 && x < images.width) {
                copy_filled(image + (std::ptrdiff_t(y) * images.width + x) * channels, channels, size, piece);
            } else {
                __builtin_memset(piece, 0, sizeof(float) * size);
            }
        }
    }
}

// Convolves BESIDE pixels, of which `near` is the first one's upper left neighbour, in rows that are `pitch` floats apart,
// with weights (K, K, size).
TARGET NOINLINE static void convolve_pixels(
    const float *near, std::ptrdiff_t pitch, const float *weights, int side, int size, float *out
) {
    for (int c = 0; c < size; c += LANES) {
        Vec total[BESIDE]{};
        for (int y = 0; y < side; y++) {
            const float *pixel = near + y * pitch + c, *weight = weights + std::ptrdiff_t(y) * side * size + c;
            for (int x = 0; x < side; x++, pixel += size, weight += size) {
                const Vec factor = load(weight);
                UNROLL
                for (int i = 0; i < BESIDE; i++) total[i] += load(pixel + i * size) * factor;
            }
        }
        UNROLL
        for (int i = 0; i < BESIDE; i++) store(out + i * size + c, total[i]);
    }
}

TARGET static void depthwise_tile(
    const DepthwiseImages &images, const Product &detour, const Tile &tile, float *memory
) {
    const int side = images.side, radius = side / 2, channels = images.channels, results = images.results;
    const int size = padded_channels(channels);
    // a narrower tile begins further left; what is computed there is not handed out
    const Tile whole{
        tile.image, tile.top, tile.bottom, tile.right - tile.left < BESIDE ? tile.right - BESIDE : tile.left, tile.right,
    };
    const int columns = whole.right - whole.left;
    const std::ptrdiff_t pitch = std::ptrdiff_t(columns + side - 1) * size;
    float *weights = memory, *piece = weights + side * side * size;
    float *convolved = piece + (tile.bottom - tile.top + side - 1) * pitch, *products = convolved + BESIDE * size;
    const float *given = images.weights + tile.image * channels * side * side;
    for (int tap = 0; tap < side * side; tap++) {
        for (int c = 0; c < size; c++) weights[tap * size + c] = c < channels ? given[c * side * side + tap] : 0.f;
    }
    copy_piece(images, radius, whole, piece);
    for (int row = 0; row < tile.bottom - tile.top; row++) {
        float *out = images.out +
                     ((tile.image * images.height + tile.top + row) * images.width + whole.left) * results;
        for (int begin = tile.left - whole.left; begin < columns; begin += BESIDE) {
            const int at = begin + BESIDE <= columns ? begin : columns - BESIDE;
            convolve_pixels(piece + row * pitch + at * size, pitch, weights, side, size, convolved);
            for (int i = 0; i < BESIDE; i += PIXELS) {
                const int done = begin - at - i;  // pixels that were handed out before, or belong to another tile
                float *to = out + std::ptrdiff_t(at + i) * results;
                if (done <= 0) {
                    detour.add(convolved + i * size, size, results, products, to);
                } else if (done < PIXELS) {
                    const int width = detour.groups.width();
                    detour(convolved + i * size, size, products);
                    add_rows(products + done * width, width, PIXELS - done, results, to + std::ptrdiff_t(done) * results);
                }
            }
        }
    }
}

// Floats that a tile needs.
static std::ptrdiff_t depthwise_tile_workspace(int channels, int results, int side) {
    const std::ptrdiff_t size = padded_channels(channels);
    const std::ptrdiff_t piece = (DEPTHWISE_TILE_WIDTH + side - 1) * (DEPTHWISE_TILE_HEIGHT + side - 1);
    return (side * side + piece + BESIDE) * size + PIXELS * Groups(results).width();
}

static std::ptrdiff_t depthwise_workspace(int channels, int results, int side, int threads) {
    return Product::size(channels, results) + threads * depthwise_tile_workspace(channels, results, side);
}

static void depthwise_images(const DepthwiseImages &images, float *memory) {
    const Product detour(images.channels, images.results, images.detour, nullptr, memory);
    memory += Product::size(images.channels, images.results);
    const std::ptrdiff_t size = depthwise_tile_workspace(images.channels, images.results, images.side);
    const std::ptrdiff_t rows = (images.height + DEPTHWISE_TILE_HEIGHT - 1) / DEPTHWISE_TILE_HEIGHT;
    const std::ptrdiff_t columns = (images.width + DEPTHWISE_TILE_WIDTH - 1) / DEPTHWISE_TILE_WIDTH;
#pragma omp parallel for schedule(dynamic) num_threads(images.threads)
    for (std::ptrdiff_t i = 0; i < images.batch * rows * columns; i++) {
        const std::ptrdiff_t column = i % columns, row = i / columns % rows;
        const Tile tile{
            i / columns / rows,
            int(row * images.height / rows),
            int((row + 1) * images.height / rows),
            int(column * DEPTHWISE_TILE_WIDTH),
            column + 1 < columns ? int((column + 1) * DEPTHWISE_TILE_WIDTH) : images.width,
        };
        depthwise_tile(images, detour, tile, memory + omp_get_thread_num() * size);
    }
}

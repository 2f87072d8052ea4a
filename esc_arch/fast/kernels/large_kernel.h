// The convolution of ConvAttn and the product behind it. Included once for every instruction set, behind product.h.
//
// The large kernel equals its mirror images. So after a Fourier transform along the columns it is real and the same for
// the cosine and the sine of a frequency, and along the rows the two neighbours at the same distance are added before
// they are multiplied. The transforms fold the upper and the lower half of a piece of the image in the same way. All is
// done for one tile at a time, which stays in the second-level cache.
//
// Channels are filled up by zeros to a multiple of 16.

constexpr int KERNEL_TILE = 64;  // pixels that a tile is wide, at most
constexpr int NARROWEST_TILE = 16;  // at least

// Rows of a product whose results have so many vectors, such that all fit into registers.
constexpr int tall(int parts) {
    return LANES == 8 ? (parts == 1 ? 12 : 6) : parts == 1 ? 16 : parts == 2 ? 12 : parts == 3 ? 8 : parts == 4 ? 6 : 5;
}

// What all tiles share.
struct KernelPlan {
    const LargeKernel &kernel;
    const KernelImages &images;
    const Product &detour;
    const Factor *spectrum;
    int radius;
    int rows;  // of results in a tile
    std::ptrdiff_t pitch, out_pitch;  // floats from row to row, with context and of results

    KernelPlan(const LargeKernel &kernel, const KernelImages &images, const Product &detour, const Factor *spectrum)
        : kernel(kernel),
          images(images),
          detour(detour),
          spectrum(spectrum),
          radius(kernel.taps - 1),
          rows(kernel.period - 2 * radius),
          pitch(row_pitch(KERNEL_TILE + 2 * radius, kernel.width)),
          out_pitch(row_pitch(KERNEL_TILE, kernel.width)) {}

    // Whole chunks of what `transform` multiplies, and some more, or rows would compete for the same lines of the cache.
    static std::ptrdiff_t row_pitch(int columns, int width) {
        const std::ptrdiff_t chunk = MOST_PARTS * LANES;
        return (std::ptrdiff_t(columns) * width + chunk - 1) / chunk * chunk + 16;
    }
};

// Multiplies PIXELS rows of a matrix (.., count) with `count` rows of features, all `floats` of them.
TARGET static void transform(
    const float *matrix, int count, const float *features, std::ptrdiff_t pitch, std::ptrdiff_t floats, float *out,
    std::ptrdiff_t out_pitch
) {
    for (std::ptrdiff_t at = 0; at < floats; at += MOST_PARTS * LANES)
        multiply_rows<PIXELS, MOST_PARTS>(matrix, count, count, features + at, pitch, nullptr, out + at, out_pitch);
}

// Copies a piece of an image with its context, zeros where the image ends, and folds it: sums of rows that are mirror
// images, then differences.
TARGET static void fold(const KernelPlan &plan, const float *x, const Tile &tile, float *patch, float *folded) {
    const int period = plan.kernel.period, width = plan.kernel.width, channels = plan.kernel.channels;
    const int count = tile.right - tile.left + 2 * plan.radius, half = period / 2;
    const std::ptrdiff_t size = std::ptrdiff_t(count) * width, pitch = plan.pitch;
    for (int y = 0; y < period; y++) {
        const int row = tile.top - plan.radius + y;
        float *to = patch + y * pitch;
        if (row < 0 || row >= plan.images.height) {
            __builtin_memset(to, 0, sizeof(float) * pitch);
            continue;
        }
        const float *from = x + std::ptrdiff_t(row) * plan.images.width * channels;
        for (int i = 0; i < count; i++, to += width) {
            const int column = tile.left - plan.radius + i;
            const bool there = column >= 0 && column < plan.images.width;
            for (int c = 0; c < width; c += 16) {
                float *part = to + c;
                const int present = !there || c >= channels ? 0 : channels - c < 16 ? channels - c : 16;
                if (present == 16) {
                    __builtin_memcpy(part, from + std::ptrdiff_t(column) * channels + c, 64);
                } else {
                    __builtin_memset(part, 0, 64);
                    if (present) __builtin_memcpy(part, from + std::ptrdiff_t(column) * channels + c, sizeof(float) * present);
                }
            }
        }
        __builtin_memset(to, 0, sizeof(float) * (pitch - size));
    }
    __builtin_memcpy(folded, patch, sizeof(float) * pitch);
    __builtin_memcpy(folded + half * pitch, patch + half * pitch, sizeof(float) * pitch);
    for (int y = 1; y < half; y++) {
        const float *upper = patch + y * pitch, *lower = patch + (period - y) * pitch;
        float *sums = folded + y * pitch, *differences = folded + (half + y) * pitch;
        for (std::ptrdiff_t i = 0; i < pitch; i += LANES) {
            store(sums + i, load(upper + i) + load(lower + i));
            store(differences + i, load(upper + i) - load(lower + i));
        }
    }
}

// Writes a pixel, of PARTS vectors or of any number if that is 0, and the sums of those at the same distance on both sides.
template <int PARTS>
INLINE void add_mirrored(const float *centre, int taps, int width, Factor *to) {
    const int size = PARTS ? PARTS * LANES : width;
    const float *left = centre, *right = centre;
    UNROLL
    for (int c = 0; c < size; c += LANES) store_factors(to + factors(c), load(centre + c));
    for (int tap = 1; tap < taps; tap++) {
        to += factors(size), left -= size, right += size;
        UNROLL
        for (int c = 0; c < size; c += LANES) store_factors(to + factors(c), load(left + c) + load(right + c));
    }
}

// Convolves a row of one frequency with its kernel (taps, width, width) along the row.
template <int PARTS>
TARGET static void convolve_frequency(
    const KernelPlan &plan, const Factor *weights, const float *row, int columns, Factor *sums, float *out
) {
    constexpr int ROWS = tall(PARTS);
    const int width = plan.kernel.width, taps = plan.kernel.taps, count = factors(taps * width);
    for (int begin = 0; begin < columns; begin += ROWS) {
        const int at = begin + ROWS <= columns ? begin : columns - ROWS;
        for (int i = 0; i < ROWS; i++) {
            const float *centre = row + (at + i + plan.radius) * width;
            if (width == PARTS * LANES) {
                add_mirrored<PARTS>(centre, taps, width, sums + i * count);
            } else {
                add_mirrored<0>(centre, taps, width, sums + i * count);
            }
        }
        for (int c = 0; c < width; c += PARTS * LANES)
            multiply_rows<ROWS, PARTS>(sums, count, count, weights + c, width, nullptr, out + at * width + c, width);
    }
}

// Adds what the kernel computed from each image does to a row of results, multiplies, and adds that to the images. The
// row of them that is `next` is fetched meanwhile: it lies elsewhere, where the processor does not expect it.
TARGET static void finish_row(
    const KernelPlan &plan, const float *dynamic, const float *patch, const float *row, int columns, float *buffer,
    float *out, const float *next
) {
    const int width = plan.kernel.width, results = plan.kernel.results, product_width = plan.detour.groups.width();
    float *products = buffer + PIXELS * width;
    for (int begin = 0; begin < columns; begin += PIXELS) {
        const int at = begin + PIXELS <= columns ? begin : columns - PIXELS;
        prefetch(next + std::ptrdiff_t(at) * results, PIXELS * results);
        for (int c = 0; c < width; c += LANES) {
            Vec total[PIXELS];
            UNROLL
            for (int i = 0; i < PIXELS; i++) total[i] = load(row + (at + i) * width + c);
            UNROLL
            for (int y = 0; y < 3; y++) {
                const float *near = patch + (y - 1) * plan.pitch + (at + plan.radius - 1) * width + c;
                Vec pixels[PIXELS + 2];
                UNROLL
                for (int i = 0; i < PIXELS + 2; i++) pixels[i] = load(near + i * width);
                UNROLL
                for (int x = 0; x < 3; x++) {
                    const Vec weight = load(dynamic + (3 * y + x) * width + c);
                    UNROLL
                    for (int i = 0; i < PIXELS; i++) total[i] += pixels[i + x] * weight;
                }
            }
            UNROLL
            for (int i = 0; i < PIXELS; i++) store(buffer + i * width + c, total[i]);
        }
        if (at == begin) {
            plan.detour.add(buffer, width, results, products, out + std::ptrdiff_t(at) * results);
            continue;
        }
        plan.detour(buffer, width, products);
        const int done = begin - at;  // these overlap those before
        add_rows(products + done * product_width, product_width, PIXELS - done, results, out + std::ptrdiff_t(begin) * results);
    }
}

template <int PARTS>
TARGET static void kernel_tile(const KernelPlan &plan, const Tile &tile, float *memory) {
    const LargeKernel &kernel = plan.kernel;
    const KernelImages &images = plan.images;
    const int period = kernel.period, half = period / 2, width = kernel.width, columns = tile.right - tile.left;
    const std::ptrdiff_t pitch = plan.pitch, out_pitch = plan.out_pitch;
    const std::ptrdiff_t floats = std::ptrdiff_t(columns + 2 * plan.radius) * width, out_floats = std::ptrdiff_t(columns) * width;
    float *patch = memory, *folded = patch + period * pitch, *block = folded + period * pitch;
    float *spectrum = block + PIXELS * pitch, *even = spectrum + period * out_pitch;
    float *odd = even + PIXELS * out_pitch, *line = odd + PIXELS * out_pitch, *sums = line + out_pitch;
    float *buffer = sums + tall(1) * kernel.taps * width;
    float *dynamic = buffer + PIXELS * (width + plan.detour.groups.width());
    for (int tap = 0; tap < 9; tap++) {
        for (int c = 0; c < width; c++) {
            dynamic[tap * width + c] =
                c < kernel.channels ? images.dynamic[(tile.image * kernel.channels + c) * 9 + tap] : 0.f;
        }
    }
    const std::ptrdiff_t pixels = std::ptrdiff_t(images.height) * images.width;
    fold(plan, images.x + tile.image * pixels * kernel.channels, tile, patch, folded);
    const std::ptrdiff_t taps = std::ptrdiff_t(factors(kernel.taps * width)) * width;
    for (int sine = 0; sine < 2; sine++) {  // the cosine of 0 .. half, the sine of 1 .. half - 1
        const int count = sine ? half - 1 : half + 1;
        const float *matrix = sine ? kernel.forward_sine : kernel.forward_cosine;
        const float *from = folded + sine * (half + 1) * pitch;
        for (int first = 0; first < count; first += PIXELS) {
            transform(matrix + first * count, count, from, pitch, floats, block, pitch);
            for (int i = 0; i < PIXELS && first + i < count; i++) {
                convolve_frequency<PARTS>(
                    plan, plan.spectrum + (first + i + sine) * taps, block + i * pitch, columns,
                    reinterpret_cast<Factor *>(sums),
                    spectrum + (first + i + sine * (half + 1)) * out_pitch
                );
            }
        }
    }
    float *out = images.out + (tile.image * pixels + tile.left) * kernel.results;
    for (int first = 0; first < plan.rows / 2 + 1; first += PIXELS) {
        transform(kernel.inverse_cosine + first * (half + 1), half + 1, spectrum, out_pitch, out_floats, even, out_pitch);
        transform(
            kernel.inverse_sine + first * (half - 1), half - 1, spectrum + (half + 1) * out_pitch, out_pitch, out_floats,
            odd, out_pitch
        );
        for (int i = 0; i < PIXELS && first + i <= plan.rows / 2; i++) {
            const int y = plan.radius + first + i;
            for (int mirrored = 0; mirrored < (y > plan.radius && y < half ? 2 : 1); mirrored++) {
                const int row = mirrored ? period - y : y, image_row = tile.top + row - plan.radius;
                if (image_row >= tile.bottom) continue;
                const int next = tile.top + (mirrored ? y + 1 : y > plan.radius && y < half ? period - y : y + 1) - plan.radius;
                const float sign = mirrored ? -1.f : 1.f;
                for (std::ptrdiff_t at = 0; at < out_floats; at += LANES)
                    store(line + at, load(even + i * out_pitch + at) + load(odd + i * out_pitch + at) * sign);
                finish_row(
                    plan, dynamic, patch + row * pitch, line, columns, buffer,
                    out + std::ptrdiff_t(image_row) * images.width * kernel.results,
                    out + std::ptrdiff_t(next < tile.bottom ? next : image_row) * images.width * kernel.results
                );
            }
        }
    }
}

// Floats that a tile needs.
static std::ptrdiff_t kernel_tile_workspace(const LargeKernel &kernel) {
    const std::ptrdiff_t pitch = KernelPlan::row_pitch(KERNEL_TILE + 2 * (kernel.taps - 1), kernel.width);
    const std::ptrdiff_t out_pitch = KernelPlan::row_pitch(KERNEL_TILE, kernel.width);
    const std::ptrdiff_t pixel = kernel.width + Groups(kernel.results).width();
    return (2 * kernel.period + PIXELS) * pitch + (kernel.period + 2 * PIXELS + 1) * out_pitch +
           std::ptrdiff_t(tall(1)) * kernel.taps * kernel.width + PIXELS * pixel + 9 * kernel.width;
}

static std::ptrdiff_t rows_of_spectrum(const LargeKernel &kernel) {
    return std::ptrdiff_t(kernel.period / 2 + 1) * kernel.taps * kernel.width;
}

static std::ptrdiff_t large_kernel_workspace(const LargeKernel &kernel, int threads) {
    return Product::size(kernel.channels, kernel.results) + packed_factors(rows_of_spectrum(kernel), kernel.width) +
           threads * kernel_tile_workspace(kernel);
}

static void large_kernel_images(const LargeKernel &kernel, const KernelImages &images, float *memory) {
    const Product detour(kernel.channels, kernel.results, kernel.detour, nullptr, memory);
    memory += Product::size(kernel.channels, kernel.results);
    const std::ptrdiff_t taps = rows_of_spectrum(kernel);
    const KernelPlan plan(kernel, images, detour, pack_factors(kernel.spectrum, taps, kernel.width, memory));
    memory += packed_factors(taps, kernel.width);
    const std::ptrdiff_t size = kernel_tile_workspace(kernel), rows = (images.height + plan.rows - 1) / plan.rows;
    std::ptrdiff_t columns = (images.width + KERNEL_TILE - 1) / KERNEL_TILE;
    while (images.batch * rows * columns < 2 * images.threads && images.width / (2 * columns) >= NARROWEST_TILE) columns *= 2;
    int parts = MOST_PARTS;  // that a row of results is cut into
    while (kernel.width / LANES % parts) parts--;
    const auto tile_of_kernel = parts == 1   ? kernel_tile<1>
                                : parts == 2 ? kernel_tile<2>
                                : parts == 3 ? kernel_tile<LANES == 8 ? 2 : 3>
                                : parts == 4 ? kernel_tile<LANES == 8 ? 2 : 4>
                                             : kernel_tile<LANES == 8 ? 2 : 5>;
#pragma omp parallel for schedule(dynamic) num_threads(images.threads)
    for (std::ptrdiff_t i = 0; i < images.batch * rows * columns; i++) {
        const std::ptrdiff_t column = i % columns, row = i / columns % rows;
        const int top = row * plan.rows, bottom = top + plan.rows;
        const Tile tile{
            i / columns / rows,
            top,
            bottom < images.height ? bottom : images.height,
            int(column * images.width / columns),
            int((column + 1) * images.width / columns),
        };
        tile_of_kernel(plan, tile, memory + omp_get_thread_num() * size);
    }
}

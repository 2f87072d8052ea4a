// Attention in all windows of a batch of images, shared out to threads. Included once for every instruction set, behind
// attention_gradients.h.

// Floats of memory that a thread needs.
static std::ptrdiff_t attention_workspace(int side, int depth, bool gradients) {
    const std::ptrdiff_t n = side * side, table = 4 * n, padded = padded_channels(depth), distance = pitch(n);
    if (!gradients) return n * (depth + filled(depth)) + QUERIES * (depth + CHUNK + filled(depth)) + table;
    return 4 * distance * depth + n * padded + AT_ONCE * (table + 3 * depth + padded) + table;
}

static void attend_images(
    const Images &images, const float *qkv, const float *table, float *memory, float *out, float *sums
) {
    const int n = images.side * images.side, entries = (2 * images.side - 1) * (2 * images.side - 1);
    const int size_of_value = filled(images.depth), channels = images.heads * images.depth;
    const std::ptrdiff_t size = attention_workspace(images.side, images.depth, false);
    const int parts = parts_of_heads(images);
    const std::ptrdiff_t count = images.windows() * images.heads * parts;
#pragma omp parallel num_threads(images.threads)
    {
        float *reversed = memory + omp_get_thread_num() * size, *keys = reversed + 4 * n;
        float *values = keys + n * images.depth, *others = values + n * size_of_value;
#pragma omp for schedule(dynamic)
        for (std::ptrdiff_t unit = 0; unit < count; unit++) {
            const Share share = share_of(images, parts, unit);
            const Window window = window_of(images, share.index);
            const float *q = qkv + share.head * images.depth;
            for (int entry = 0; entry < entries; entry++)
                reversed[entries - 1 - entry] = table[share.head * entries + entry] * LOG2_E;
            pack_groups(window, q + channels, keys);
            pack_rows(window, q + 2 * channels, size_of_value, values);
            attend(
                {window, reversed, keys, values},
                q,
                share.first,
                share.last,
                others,
                out + share.head * images.depth,
                sums ? sums + (share.index * images.heads + share.head) * n : nullptr
            );
        }
    }
}

static void differentiate_images(
    const Images &images,
    const float *qkv,
    const float *table,
    const float *out,
    const float *sums,
    const float *grad,
    float *memory,
    float *grad_qkv,
    float *grad_tables
) {
    const int n = images.side * images.side, entries = (2 * images.side - 1) * (2 * images.side - 1);
    const int padded = padded_channels(images.depth), channels = images.heads * images.depth;
    const std::ptrdiff_t size = attention_workspace(images.side, images.depth, true);
    const std::ptrdiff_t count = images.windows() * images.heads;
    const auto kernel = images.side % (2 * LANES) == 0 ? differentiate<2> : differentiate<1>;
#pragma omp parallel num_threads(images.threads)
    {
        float *keys = memory + omp_get_thread_num() * size, *values = keys + images.depth * pitch(n);
        float *key_rows = values + images.depth * pitch(n), *others = key_rows + n * padded;
        float *scaled = memory + (omp_get_thread_num() + 1) * size - 4 * n;
#pragma omp for schedule(dynamic)
        for (std::ptrdiff_t unit = 0; unit < count; unit++) {
            const int head = unit % images.heads, first = head * images.depth;
            const Window window = window_of(images, unit / images.heads);
            const float *q = qkv + first;
            float *grad_q = grad_qkv + first;
            pack_columns(window, q + channels, keys);
            pack_columns(window, q + 2 * channels, values);
            pack_rows(window, q + channels, padded, key_rows);
            for (int entry = 0; entry < entries; entry++) scaled[entry] = table[head * entries + entry] * LOG2_E;
            kernel(
                {window, scaled, keys, values},
                q,
                key_rows,
                out + first,
                sums + unit * n,
                grad + first,
                others,
                grad_q,
                grad_q + channels,
                grad_q + 2 * channels,
                grad_tables + unit * entries
            );
        }
    }
}

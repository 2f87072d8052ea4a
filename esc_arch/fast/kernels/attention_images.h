// Attention in all windows of a batch of images, shared out to threads. Included once for every instruction set, behind
// attention_gradients.h.

// Floats of memory that a thread needs.
static std::ptrdiff_t attention_workspace(int side, int depth, bool gradients) {
    const std::ptrdiff_t n = side * side, table = 4 * n;
    if (!gradients) return table + n * (depth + filled(depth)) + QUERIES * (depth + CHUNK + filled(depth));
    return 2 * table + n * (2 * depth + filled(depth) + 2 * padded_channels(depth)) + differentiate_workspace(depth);
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
            reverse_table(table + share.head * entries, entries, reversed);
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
    const int depth = images.depth, padded = padded_channels(depth), channels = images.heads * depth;
    const std::ptrdiff_t size = attention_workspace(images.side, depth, true);
    const std::ptrdiff_t count = images.windows() * images.heads;
#pragma omp parallel num_threads(images.threads)
    {
        float *reversed = memory + omp_get_thread_num() * size, *table_sums = reversed + 4 * n;
        float *keys = table_sums + 4 * n, *values = keys + n * depth, *key_rows = values + n * depth;
        float *key_sums = key_rows + n * filled(depth), *value_sums = key_sums + n * padded, *others = value_sums + n * padded;
#pragma omp for schedule(dynamic)
        for (std::ptrdiff_t unit = 0; unit < count; unit++) {
            const int head = unit % images.heads, first = head * depth;
            const Window window = window_of(images, unit / images.heads);
            const float *q = qkv + first;
            reverse_table(table + head * entries, entries, reversed);
            pack_groups(window, q + channels, keys);
            pack_groups(window, q + 2 * channels, values);
            pack_rows(window, q + channels, filled(depth), key_rows);
            __builtin_memset(table_sums, 0, sizeof(float) * 4 * n);
            __builtin_memset(key_sums, 0, sizeof(float) * 2 * n * padded);
            differentiate(
                {window, reversed, keys, values, key_rows},
                q,
                out + first,
                sums + unit * n,
                grad + first,
                others,
                grad_qkv + first,
                {key_sums, value_sums, table_sums}
            );
            unpack_rows(window, key_sums, grad_qkv + first + channels);
            unpack_rows(window, value_sums, grad_qkv + first + 2 * channels);
            for (int entry = 0; entry < entries; entry++)
                grad_tables[unit * entries + entry] = table_sums[LANES + entries - 1 - entry];
        }
    }
}

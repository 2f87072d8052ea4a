// The gradients of the window attention of one head of one window. Included once for every instruction set, behind
// attention.h.
//
// The scores of AT_ONCE queries are computed again, a tile of keys at a time.

constexpr int AT_ONCE = LANES == 8 ? 4 : 8;

// What all queries of a head of a window are compared with, packed for the gradients.
struct PackedColumns {
    const Window &window;
    const float *table;  // (2w - 1)^2 biases, times log2(e)
    const float *keys;  // (d, n)
    const float *values;  // (d, n)
};

// The distance of rows of n floats. Were it n, a power of two, columns would compete for the same lines of the cache.
static inline int pitch(int n) { return n + 16; }

// Copies one of q, k, v, (n, d) with strides, as (d, n).
TARGET static void pack_columns(const Window &window, const float *from, float *to) {
    for (int token = 0; token < window.tokens(); token++) {
        const float *row = from + window.offset(token, 3 * window.channels());
        for (int c = 0; c < window.depth; c++) to[c * pitch(window.tokens()) + token] = row[c];
    }
}

// Copies AT_ONCE rows of a matrix with `stride` floats per pixel, times `factor`, as (d, AT_ONCE).
TARGET static void pack_block(const Window &window, const float *from, int first, int stride, float factor, float *to) {
    for (int i = 0; i < AT_ONCE; i++) {
        const float *row = from + window.offset(first + i, stride);
        for (int c = 0; c < window.depth; c++) to[c * AT_ONCE + i] = row[c] * factor;
    }
}

// Adds the products of a block of rows (d, AT_ONCE) and PER_TILE * LANES columns, which are a pitch apart, to the tile.
template <int PER_TILE>
INLINE void multiply(const float *rows, const float *columns, int depth, int distance, Vec (&tile)[AT_ONCE][PER_TILE]) {
    for (int c = 0; c < depth; c++, rows += AT_ONCE, columns += distance) {
        const Vec left = load(columns), right = PER_TILE == 2 ? load(columns + LANES) : left;
        UNROLL
        for (int i = 0; i < AT_ONCE; i++) {
            const Vec row = splat(rows[i]);
            tile[i][0] += row * left;
            if (PER_TILE == 2) tile[i][PER_TILE - 1] += row * right;
        }
    }
}

// Adds the products of rows (d, AT_ONCE) and a tile of LANES columns, one row per query, to d rows that are a pitch apart.
INLINE void accumulate(const float *rows, const float *tile, int stride, int depth, int distance, float *to) {
    Vec part[AT_ONCE];
    UNROLL
    for (int i = 0; i < AT_ONCE; i++) part[i] = load(tile + i * stride);
    for (int c = 0; c < depth; c++) {
        Vec total = load(to + c * distance);
        UNROLL
        for (int i = 0; i < AT_ONCE; i++) total += rows[c * AT_ONCE + i] * part[i];
        store(to + c * distance, total);
    }
}

// The gradients of the attention of one head of one window.
//
// Writes those of q, k and v, with the strides of the features, and that of the table.
template <int PER_TILE>
TARGET static void differentiate(
    const PackedColumns &packed,
    const float *q,
    const float *key_rows,  // (n, padded d)
    const float *out,
    const float *sums,
    const float *grad,
    float *memory,
    float *grad_q,
    float *grad_k,
    float *grad_v,
    float *grad_table
) {
    const Window &window = packed.window;
    const int n = window.tokens(), w = window.side, side = 2 * w - 1, depth = window.depth;
    const int padded = padded_channels(depth), channels = window.channels(), distance = pitch(n);
    float *grad_keys = memory, *grad_values = grad_keys + depth * distance;  // (d, n)
    // one table for every query of a block: sums that overlap by all but one number would wait for each other
    float *tables = grad_values + depth * distance;  // (AT_ONCE, side^2)
    float *scaled = tables + AT_ONCE * side * side, *queries = scaled + depth * AT_ONCE;  // (d, AT_ONCE)
    float *incoming = queries + depth * AT_ONCE;
    float *grad_queries = incoming + depth * AT_ONCE;  // (AT_ONCE, padded d)
    __builtin_memset(grad_keys, 0, sizeof(float) * 2 * depth * distance);
    __builtin_memset(tables, 0, sizeof(float) * AT_ONCE * side * side);
    alignas(64) float weights[AT_ONCE][PER_TILE * LANES], grad_scores[AT_ONCE][PER_TILE * LANES];
    for (int block = 0; block < n; block += AT_ONCE) {
        pack_block(window, q, block, 3 * channels, window.scale() * LOG2_E, scaled);
        pack_block(window, q, block, 3 * channels, window.scale(), queries);
        pack_block(window, grad, block, channels, 1.f, incoming);
        __builtin_memset(grad_queries, 0, sizeof(float) * AT_ONCE * padded);
        float inner[AT_ONCE];  // sum(weights * their gradient) of every row, which is out * grad
        for (int i = 0; i < AT_ONCE; i++) {
            const std::ptrdiff_t at = window.offset(block + i, channels);
            inner[i] = 0;
            for (int c = 0; c < depth; c++) inner[i] += out[at + c] * grad[at + c];
        }
        const int y = block / w, x = block % w;
        for (int key = 0; key < n; key += PER_TILE * LANES) {
            const int relative = (key / w - y + w - 1) * side + (key % w - x + w - 1);
            Vec tile[AT_ONCE][PER_TILE], grad_tile[AT_ONCE][PER_TILE]{};
            UNROLL
            for (int i = 0; i < AT_ONCE; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++)
                    tile[i][part] = load(packed.table + relative - i + part * LANES);
            }
            multiply<PER_TILE>(scaled, packed.keys + key, depth, distance, tile);
            UNROLL
            for (int i = 0; i < AT_ONCE; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++) tile[i][part] -= sums[block + i];
                exp2(tile[i]);
                UNROLL
                for (int part = 0; part < PER_TILE; part++) store(weights[i] + part * LANES, tile[i][part]);
            }
            multiply<PER_TILE>(incoming, packed.values + key, depth, distance, grad_tile);
            UNROLL
            for (int i = 0; i < AT_ONCE; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++) {
                    Vec score = load(weights[i] + part * LANES) * (grad_tile[i][part] - inner[i]);
                    store(grad_scores[i] + part * LANES, score);
                    float *to = tables + i * side * side + relative + part * LANES;
                    store(to, load(to) + score);
                }
            }
            for (int channel = 0; channel < padded; channel += LANES) {
                Vec row[AT_ONCE];
                UNROLL
                for (int i = 0; i < AT_ONCE; i++) row[i] = load(grad_queries + i * padded + channel);
                for (int j = 0; j < PER_TILE * LANES; j++) {
                    Vec key_row = load(key_rows + (key + j) * padded + channel);
                    UNROLL
                    for (int i = 0; i < AT_ONCE; i++) row[i] += grad_scores[i][j] * key_row;
                }
                UNROLL
                for (int i = 0; i < AT_ONCE; i++) store(grad_queries + i * padded + channel, row[i]);
            }
            for (int part = 0; part < PER_TILE * LANES; part += LANES) {
                accumulate(queries, grad_scores[0] + part, PER_TILE * LANES, depth, distance, grad_keys + key + part);
                accumulate(incoming, weights[0] + part, PER_TILE * LANES, depth, distance, grad_values + key + part);
            }
        }
        for (int i = 0; i < AT_ONCE; i++) {
            float *to = grad_q + window.offset(block + i, 3 * channels);
            for (int c = 0; c < depth; c++) to[c] = grad_queries[i * padded + c] * window.scale();
        }
    }
    for (int token = 0; token < n; token++) {
        const std::ptrdiff_t at = window.offset(token, 3 * channels);
        for (int c = 0; c < depth; c++) {
            grad_k[at + c] = grad_keys[c * distance + token];
            grad_v[at + c] = grad_values[c * distance + token];
        }
    }
    __builtin_memset(grad_table, 0, sizeof(float) * side * side);
    for (int i = 0; i < AT_ONCE; i++) {
        for (int entry = i; entry < side * side; entry++) grad_table[entry - i] += tables[i * side * side + entry];
    }
}

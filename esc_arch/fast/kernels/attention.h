// Window attention of one head of one window. Included once for every instruction set, behind vector.h.
//
// Nothing of the size of the scores is stored: QUERIES rows of them at a time stay in the cache. The bias of a pair of
// tokens depends on their relative position only, so for one query the biases of a row of keys lie side by side in the
// table: they are loaded where they are needed and never expanded.

// What all queries of a head of a window are compared with, packed.
struct Packed {
    const Window &window;
    const float *table;  // (2w - 1)^2 biases, times log2(e)
    const float *keys;  // (d, n)
    const float *values;  // (n, padded d) for the result, (d, n) for the gradients
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

// Copies it as (n, padded d); what is added is zero.
TARGET static void pack_rows(const Window &window, const float *from, float *to) {
    const int padded = padded_channels(window.depth);
    for (int token = 0; token < window.tokens(); token++) {
        const float *row = from + window.offset(token, 3 * window.channels());
        for (int c = 0; c < padded; c++) to[token * padded + c] = c < window.depth ? row[c] : 0.f;
    }
}

// Copies QUERIES rows of a matrix with `stride` floats per pixel, times `factor`, as (d, QUERIES).
TARGET static void pack_block(const Window &window, const float *from, int first, int stride, float factor, float *to) {
    for (int i = 0; i < QUERIES; i++) {
        const float *row = from + window.offset(first + i, stride);
        for (int c = 0; c < window.depth; c++) to[c * QUERIES + i] = row[c] * factor;
    }
}

// Adds the products of a block of rows (d, QUERIES) and PER_TILE * LANES columns, which are a pitch apart, to the tile.
template <int PER_TILE>
INLINE void multiply(const float *rows, const float *columns, int depth, int distance, Vec (&tile)[QUERIES][PER_TILE]) {
    for (int c = 0; c < depth; c++, rows += QUERIES, columns += distance) {
        const Vec left = load(columns), right = PER_TILE == 2 ? load(columns + LANES) : left;
        UNROLL
        for (int i = 0; i < QUERIES; i++) {
            const Vec row = splat(rows[i]);
            tile[i][0] += row * left;
            if (PER_TILE == 2) tile[i][PER_TILE - 1] += row * right;
        }
    }
}

// The attention of the queries [first, last), whole blocks of a window.
//
// Writes out (n, d) with strides and, unless it is null, the logarithm (base 2) of the sum of every row to `sums` (n).
template <int PER_TILE>
TARGET static void attend(
    const Packed &packed, const float *q, int first, int last, float *scores, float *out, float *sums
) {
    const Window &window = packed.window;
    const int n = window.tokens(), w = window.side, side = 2 * w - 1, padded = padded_channels(window.depth);
    const int distance = pitch(n);
    float *queries = scores + QUERIES * distance;  // (d, QUERIES)
    for (int block = first; block < last; block += QUERIES) {
        pack_block(window, q, block, 3 * window.channels(), window.scale() * LOG2_E, queries);
        const int y = block / w, x = block % w;
        Vec most[QUERIES];
        UNROLL
        for (int i = 0; i < QUERIES; i++) most[i] = splat(-3e38f);
        for (int key = 0, column = 0, relative = (w - 1 - y) * side + w - 1 - x; key < n; key += PER_TILE * LANES) {
            const float *bias = packed.table + relative + column;
            Vec tile[QUERIES][PER_TILE];
            UNROLL
            for (int i = 0; i < QUERIES; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++) tile[i][part] = load(bias - i + part * LANES);
            }
            multiply<PER_TILE>(queries, packed.keys + key, window.depth, distance, tile);
            UNROLL
            for (int i = 0; i < QUERIES; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++) {
                    store(scores + i * distance + key + part * LANES, tile[i][part]);
                    most[i] = max(most[i], tile[i][part]);
                }
            }
            column += PER_TILE * LANES;
            if (column == w) column = 0, relative += side;
        }
        float total[QUERIES];
        for (int i = 0; i < QUERIES; i++) {
            const float shift = largest(most[i]);
            Vec even{}, odd{};
            for (float *score = scores + i * distance; score < scores + i * distance + n; score += 2 * LANES) {
                Vec left = exp2(load(score) - shift), right = exp2(load(score + LANES) - shift);
                store(score, left);
                store(score + LANES, right);
                even += left;
                odd += right;
            }
            total[i] = sum(even + odd);
            if (sums) sums[block + i] = shift + __builtin_log2f(total[i]);
        }
        for (int channel = 0; channel < padded; channel += LANES) {
            Vec even[QUERIES]{}, odd[QUERIES]{};
            for (int key = 0; key < n; key += 2) {
                const float *value = packed.values + key * padded + channel;
                Vec left = load(value), right = load(value + padded);
                UNROLL
                for (int i = 0; i < QUERIES; i++) {
                    even[i] += scores[i * distance + key] * left;
                    odd[i] += scores[i * distance + key + 1] * right;
                }
            }
            for (int i = 0; i < QUERIES; i++) {
                Vec row = (even[i] + odd[i]) / total[i];
                float *to = out + window.offset(block + i, window.channels()) + channel;
                if (channel + LANES <= window.depth) {
                    store(to, row);
                } else {
                    for (int c = 0; channel + c < window.depth; c++) to[c] = row[c];
                }
            }
        }
    }
}

// Adds the products of rows (d, QUERIES) and a tile of LANES columns, one row per query, to d rows that are a pitch apart.
INLINE void accumulate(const float *rows, const float *tile, int stride, int depth, int distance, float *to) {
    Vec part[QUERIES];
    UNROLL
    for (int i = 0; i < QUERIES; i++) part[i] = load(tile + i * stride);
    for (int c = 0; c < depth; c++) {
        Vec total = load(to + c * distance);
        UNROLL
        for (int i = 0; i < QUERIES; i++) total += rows[c * QUERIES + i] * part[i];
        store(to + c * distance, total);
    }
}

// The gradients of the attention of one head of one window.
//
// Writes those of q, k and v, with the strides of the features, and that of the table.
template <int PER_TILE>
TARGET static void differentiate(
    const Packed &packed,
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
    float *tables = grad_values + depth * distance;  // (QUERIES, side^2)
    float *scaled = tables + QUERIES * side * side, *queries = scaled + depth * QUERIES;  // (d, QUERIES)
    float *incoming = queries + depth * QUERIES;
    float *grad_queries = incoming + depth * QUERIES;  // (QUERIES, padded d)
    __builtin_memset(grad_keys, 0, sizeof(float) * 2 * depth * distance);
    __builtin_memset(tables, 0, sizeof(float) * QUERIES * side * side);
    alignas(64) float weights[QUERIES][PER_TILE * LANES], grad_scores[QUERIES][PER_TILE * LANES];
    for (int block = 0; block < n; block += QUERIES) {
        pack_block(window, q, block, 3 * channels, window.scale() * LOG2_E, scaled);
        pack_block(window, q, block, 3 * channels, window.scale(), queries);
        pack_block(window, grad, block, channels, 1.f, incoming);
        __builtin_memset(grad_queries, 0, sizeof(float) * QUERIES * padded);
        float inner[QUERIES];  // sum(weights * their gradient) of every row, which is out * grad
        for (int i = 0; i < QUERIES; i++) {
            const std::ptrdiff_t at = window.offset(block + i, channels);
            inner[i] = 0;
            for (int c = 0; c < depth; c++) inner[i] += out[at + c] * grad[at + c];
        }
        const int y = block / w, x = block % w;
        for (int key = 0; key < n; key += PER_TILE * LANES) {
            const int relative = (key / w - y + w - 1) * side + (key % w - x + w - 1);
            Vec tile[QUERIES][PER_TILE], grad_tile[QUERIES][PER_TILE]{};
            UNROLL
            for (int i = 0; i < QUERIES; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++)
                    tile[i][part] = load(packed.table + relative - i + part * LANES);
            }
            multiply<PER_TILE>(scaled, packed.keys + key, depth, distance, tile);
            UNROLL
            for (int i = 0; i < QUERIES; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++)
                    store(weights[i] + part * LANES, exp2(tile[i][part] - sums[block + i]));
            }
            multiply<PER_TILE>(incoming, packed.values + key, depth, distance, grad_tile);
            UNROLL
            for (int i = 0; i < QUERIES; i++) {
                UNROLL
                for (int part = 0; part < PER_TILE; part++) {
                    Vec score = load(weights[i] + part * LANES) * (grad_tile[i][part] - inner[i]);
                    store(grad_scores[i] + part * LANES, score);
                    float *to = tables + i * side * side + relative + part * LANES;
                    store(to, load(to) + score);
                }
            }
            for (int channel = 0; channel < padded; channel += LANES) {
                Vec row[QUERIES];
                UNROLL
                for (int i = 0; i < QUERIES; i++) row[i] = load(grad_queries + i * padded + channel);
                for (int j = 0; j < PER_TILE * LANES; j++) {
                    Vec key_row = load(key_rows + (key + j) * padded + channel);
                    UNROLL
                    for (int i = 0; i < QUERIES; i++) row[i] += grad_scores[i][j] * key_row;
                }
                UNROLL
                for (int i = 0; i < QUERIES; i++) store(grad_queries + i * padded + channel, row[i]);
            }
            for (int part = 0; part < PER_TILE * LANES; part += LANES) {
                accumulate(queries, grad_scores[0] + part, PER_TILE * LANES, depth, distance, grad_keys + key + part);
                accumulate(incoming, weights[0] + part, PER_TILE * LANES, depth, distance, grad_values + key + part);
            }
        }
        for (int i = 0; i < QUERIES; i++) {
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
    for (int i = 0; i < QUERIES; i++) {
        for (int entry = i; entry < side * side; entry++) grad_table[entry - i] += tables[i * side * side + entry];
    }
}

// Window attention of one head of one window. Included once for every instruction set, behind vector.h.
//
// Lanes are queries, some vectors of which go together, and only the scores of a chunk of keys exist at a time. The bias
// of a pair of tokens depends on their relative position only: in the table, in reverse order, the biases of neighbouring
// queries and one key lie side by side. They are loaded where they are needed and never expanded.

constexpr int CHUNK = 128;  // keys at a time, a divisor of the tokens of every window
constexpr int TOGETHER = 2;  // vectors of queries
constexpr int QUERIES = TOGETHER * LANES;
constexpr int SIDE_BY_SIDE = LANES == 8 ? 4 : 8;  // keys or channels whose sums, for all queries, fit into registers
constexpr float SLACK = 8.f;  // how far beyond the maximum, as it was, scores may go before sums are scaled anew

// What all queries of a head of a window are compared with, packed.
struct Packed {
    const Window &window;
    const float *table;  // (2w - 1)^2 biases, times log2(e), in reverse order
    const float *keys;  // (n / SIDE_BY_SIDE, d, SIDE_BY_SIDE)
    const float *values;  // (n, filled d)
};

// The channels of a head, filled up to those that are summed up side by side.
static inline int filled(int depth) { return (depth + SIDE_BY_SIDE - 1) / SIDE_BY_SIDE * SIDE_BY_SIDE; }

// Copies one of q, k, v, (n, d) with strides, as (n / SIDE_BY_SIDE, d, SIDE_BY_SIDE).
TARGET static void pack_groups(const Window &window, const float *from, float *to) {
    for (int token = 0; token < window.tokens(); token += SIDE_BY_SIDE, to += window.depth * SIDE_BY_SIDE) {
        for (int i = 0; i < SIDE_BY_SIDE; i++) {
            const float *row = from + window.offset(token + i, 3 * window.channels());
            for (int c = 0; c < window.depth; c++) to[c * SIDE_BY_SIDE + i] = row[c];
        }
    }
}

// Copies it as (n, size); what is added to d channels is zero.
TARGET static void pack_rows(const Window &window, const float *from, int size, float *to) {
    for (int token = 0; token < window.tokens(); token++) {
        const float *row = from + window.offset(token, 3 * window.channels());
        for (int c = 0; c < size; c++) to[token * size + c] = c < window.depth ? row[c] : 0.f;
    }
}

// Where the biases of a vector of queries and the first key lie; those of the next key lie before them.
INLINE const float *bias_of(const float *table, int w, int query) {
    return table + (w - 1 + query / w) * (2 * w - 1) + w - 1 + query % w;
}

// How far before them those of a key lie.
INLINE int relative_to_first(int w, int key) { return key / w * (2 * w - 1) + key % w; }

// Multiplies queries (d, QUERIES) with `count` keys from one on, (count, QUERIES). If there is one, adds the `bias` of each
// vector of queries and the first key of all, see bias_of, and tells the largest result of every query.
template <bool BIASED>
TARGET NOINLINE static void score(
    const Window &window, const float *queries, const float *keys, int key, int count,
    const float *const (&bias)[TOGETHER], float *scores, Vec (&most)[TOGETHER]
) {
    const int depth = window.depth;
    Vec largest[TOGETHER];
    UNROLL
    for (int j = 0; j < TOGETHER; j++) largest[j] = splat(-3e38f);
    for (const int end = key + count; key < end; key += SIDE_BY_SIDE, scores += SIDE_BY_SIDE * QUERIES) {
        const int last = BIASED ? relative_to_first(window.side, key) + SIDE_BY_SIDE - 1 : 0;
        Vec tile[SIDE_BY_SIDE][TOGETHER];
        UNROLL
        for (int i = 0; i < SIDE_BY_SIDE; i++) {
            UNROLL
            for (int j = 0; j < TOGETHER; j++) tile[i][j] = BIASED ? load(bias[j] - last + (SIDE_BY_SIDE - 1 - i)) : Vec{};
        }
        const float *query = queries, *column = keys + key * depth;
        for (int c = 0; c < depth; c++, query += QUERIES, column += SIDE_BY_SIDE) {
            Vec part[TOGETHER];
            UNROLL
            for (int j = 0; j < TOGETHER; j++) part[j] = load(query + j * LANES);
            UNROLL
            for (int i = 0; i < SIDE_BY_SIDE; i++) {
                const Vec one = splat(column[i]);
                UNROLL
                for (int j = 0; j < TOGETHER; j++) tile[i][j] += one * part[j];
            }
        }
        UNROLL
        for (int i = 0; i < SIDE_BY_SIDE; i++) {
            UNROLL
            for (int j = 0; j < TOGETHER; j++) {
                store(scores + i * QUERIES + j * LANES, tile[i][j]);
                if (BIASED) largest[j] = max(largest[j], tile[i][j]);
            }
        }
    }
    UNROLL
    for (int j = 0; j < TOGETHER; j++) most[j] = largest[j];
}

// Replaces the scores of a chunk by their exponentials, and adds the sums of these to `total`.
TARGET NOINLINE static void exponentiate(float *scores, const Vec (&shift)[TOGETHER], Vec (&total)[TOGETHER]) {
    constexpr int KEYS = LANES == 8 ? 2 : 4;  // at a time
    Vec sums[TOGETHER]{};
    for (int i = 0; i < CHUNK; i += KEYS, scores += KEYS * QUERIES) {
        Vec part[KEYS * TOGETHER];
        UNROLL
        for (int j = 0; j < KEYS * TOGETHER; j++) part[j] = load(scores + j * LANES) - shift[j % TOGETHER];
        exp2(part);
        UNROLL
        for (int j = 0; j < KEYS * TOGETHER; j++) {
            sums[j % TOGETHER] += part[j];
            store(scores + j * LANES, part[j]);
        }
    }
    UNROLL
    for (int j = 0; j < TOGETHER; j++) total[j] += sums[j];
}

// Adds the products of weights (count, QUERIES) and the values (count, size) of as many keys to the results (size,
// QUERIES). They are summed up first, which rounds less than one sum over all keys.
TARGET NOINLINE static void weigh(const float *weights, const float *values, int count, int size, float *results) {
    for (int channel = 0; channel < size; channel += SIDE_BY_SIDE, values += SIDE_BY_SIDE) {
        float *result = results + channel * QUERIES;
        Vec sums[SIDE_BY_SIDE][TOGETHER]{};
        const float *weight = weights, *value = values;
        for (int i = 0; i < count; i++, weight += QUERIES, value += size) {
            Vec part[TOGETHER];
            UNROLL
            for (int j = 0; j < TOGETHER; j++) part[j] = load(weight + j * LANES);
            UNROLL
            for (int c = 0; c < SIDE_BY_SIDE; c++) {
                const Vec one = splat(value[c]);
                UNROLL
                for (int j = 0; j < TOGETHER; j++) sums[c][j] += one * part[j];
            }
        }
        UNROLL
        for (int c = 0; c < SIDE_BY_SIDE; c++) {
            UNROLL
            for (int j = 0; j < TOGETHER; j++) {
                float *to = result + c * QUERIES + j * LANES;
                store(to, load(to) + sums[c][j]);
            }
        }
    }
}

// Copies QUERIES rows of a matrix with `stride` floats per pixel, times `factor`, as (d, QUERIES).
TARGET static void pack_queries(const Window &window, const float *from, int first, int stride, float factor, float *to) {
    for (int i = 0; i < QUERIES; i++) {
        const float *row = from + window.offset(first + i, stride);
        for (int c = 0; c < window.depth; c++) to[c * QUERIES + i] = row[c];
    }
    for (int at = 0; at < window.depth * QUERIES; at += LANES) store(to + at, load(to + at) * factor);
}

// The attention of the queries [first, last), whole blocks of a window.
//
// Writes out (n, d) with strides and, unless it is null, the logarithm (base 2) of the sum of every row to `sums` (n).
TARGET static void attend(const Packed &packed, const float *q, int first, int last, float *memory, float *out, float *sums) {
    const Window &window = packed.window;
    const int n = window.tokens(), depth = window.depth, size = filled(depth);
    float *queries = memory, *scores = queries + depth * QUERIES, *results = scores + CHUNK * QUERIES;
    for (int block = first; block < last; block += QUERIES) {
        const float *bias[TOGETHER];
        for (int j = 0; j < TOGETHER; j++) bias[j] = bias_of(packed.table, window.side, block + j * LANES);
        pack_queries(window, q, block, 3 * window.channels(), window.scale() * LOG2_E, queries);
        __builtin_memset(results, 0, sizeof(float) * size * QUERIES);
        Vec shift[TOGETHER], total[TOGETHER]{};
        for (int j = 0; j < TOGETHER; j++) shift[j] = splat(-3e38f);
        for (int key = 0; key < n; key += CHUNK) {
            Vec most[TOGETHER];
            score<true>(window, queries, packed.keys, key, CHUNK, bias, scores, most);
            for (int j = 0; j < TOGETHER; j++) {
                if (!any_beyond(most[j], shift[j] + SLACK)) continue;
                const Vec further = max(shift[j], most[j]);
                Vec factor[1] = {shift[j] - further};
                exp2(factor);
                for (int c = 0; c < size; c++) {
                    float *result = results + c * QUERIES + j * LANES;
                    store(result, load(result) * factor[0]);
                }
                total[j] *= factor[0];
                shift[j] = further;
            }
            exponentiate(scores, shift, total);
            weigh(scores, packed.values + std::ptrdiff_t(key) * size, CHUNK, size, results);
        }
        for (int j = 0; j < TOGETHER; j++) {
            const Vec factor = 1.f / total[j];
            for (int c = 0; c < depth; c++) {
                float *result = results + c * QUERIES + j * LANES;
                store(result, load(result) * factor);
            }
        }
        for (int i = 0; i < QUERIES; i++) {
            float *to = out + window.offset(block + i, window.channels());
            for (int c = 0; c < depth; c++) to[c] = results[c * QUERIES + i];
            if (sums) sums[block + i] = shift[i / LANES][i % LANES] + __builtin_log2f(total[i / LANES][i % LANES]);
        }
    }
}

// The gradients of the window attention of one head of one window. Included once for every instruction set, behind
// attention.h.
//
// The scores are computed again, of a block of queries and a few keys at a time.

constexpr int FEW = 64;  // keys at a time, a divisor of the tokens of every window
constexpr int SUMS = LANES == 8 ? 8 : 16;  // keys whose gradients are summed up in registers, a divisor of FEW

// What all queries of a head of a window are compared with, packed.
struct PackedForGradients {
    const Window &window;
    const float *table;  // (2w - 1)^2 biases, times log2(e), in reverse order
    const float *keys, *values;  // (n / SIDE_BY_SIDE, d, SIDE_BY_SIDE)
    const float *key_rows;  // (n, filled d)
};

// Where what is summed up over all queries goes.
struct SumsOverQueries {
    float *keys, *values;  // (n, padded d)
    float *table;  // LANES numbers that are not used, then (2w - 1)^2 in reverse order
};

// Copies QUERIES rows of a matrix with `stride` floats per pixel, times `factor`, as (QUERIES, padded d).
TARGET static void pack_query_rows(const Window &window, const float *from, int first, int stride, float factor, float *to) {
    const int padded = padded_channels(window.depth);
    for (int i = 0; i < QUERIES; i++, to += padded) {
        const float *row = from + window.offset(first + i, stride);
        for (int c = 0; c < padded; c++) to[c] = c < window.depth ? row[c] * factor : 0.f;
    }
}

// Makes weights of the scores (FEW, QUERIES), and gradients of the scores of those of the weights. `sums` and `inner` have
// a number for every query: see below.
TARGET NOINLINE static void differentiate_scores(float *scores, float *gradients, const float *sums, const float *inner) {
    constexpr int KEYS = LANES == 8 ? 2 : 4;  // at a time
    Vec shift[TOGETHER], centre[TOGETHER];
    UNROLL
    for (int j = 0; j < TOGETHER; j++) shift[j] = load(sums + j * LANES), centre[j] = load(inner + j * LANES);
    for (int i = 0; i < FEW; i += KEYS, scores += KEYS * QUERIES, gradients += KEYS * QUERIES) {
        Vec part[KEYS * TOGETHER];
        UNROLL
        for (int j = 0; j < KEYS * TOGETHER; j++) part[j] = load(scores + j * LANES) - shift[j % TOGETHER];
        exp2(part);
        UNROLL
        for (int j = 0; j < KEYS * TOGETHER; j++) {
            store(scores + j * LANES, part[j]);
            store(gradients + j * LANES, part[j] * (load(gradients + j * LANES) - centre[j % TOGETHER]));
        }
    }
}

// Adds the gradients of the scores of LANES queries and LANES keys, rows that are QUERIES floats apart, to those of their
// biases. `to` is where that of the first query and key lies.
//
// The biases of the next key lie one further before. So after every key the sum of the last lane is complete.
INLINE void add_to_table(const float *gradients, float *to) {
    Vec sums{}, complete{};
    for (int i = 0; i < LANES; i++, gradients += QUERIES) {
        sums += load(gradients);
        complete = moved_up(complete, sums);
        sums = moved_up(sums, Vec{});
    }
    store(to, load(to) + complete);
    store(to - LANES, load(to - LANES) + sums);
}

// Adds the products of factors (FEW, QUERIES) and rows (QUERIES, padded) to sums (FEW, padded).
TARGET NOINLINE static void add_over_queries(const float *factors, const float *rows, int padded, float *sums) {
    for (int key = 0; key < FEW; key += SUMS, factors += SUMS * QUERIES, sums += SUMS * padded) {
        for (int channel = 0; channel < padded; channel += LANES) {
            Vec total[SUMS];
            UNROLL
            for (int i = 0; i < SUMS; i++) total[i] = load(sums + i * padded + channel);
            for (int query = 0; query < QUERIES; query++) {
                const Vec row = load(rows + query * padded + channel);
                UNROLL
                for (int i = 0; i < SUMS; i++) total[i] += factors[i * QUERIES + query] * row;
            }
            UNROLL
            for (int i = 0; i < SUMS; i++) store(sums + i * padded + channel, total[i]);
        }
    }
}

// Floats of memory that it needs.
static std::ptrdiff_t differentiate_workspace(int depth) {
    return QUERIES * (2 * depth + 2 * padded_channels(depth) + 2 * FEW + filled(depth) + 1);
}

// The gradients of the attention of one head of one window.
//
// Writes those of q with the strides of the features, and adds those of k, v and the table to sums over the queries.
TARGET static void differentiate(
    const PackedForGradients &packed,
    const float *q,
    const float *out,
    const float *sums,
    const float *grad,
    float *memory,
    float *grad_q,
    const SumsOverQueries &totals
) {
    const Window &window = packed.window;
    const int n = window.tokens(), w = window.side, depth = window.depth, channels = window.channels();
    const int padded = padded_channels(depth), size = filled(depth);
    float *queries = memory, *incoming = queries + depth * QUERIES;  // (d, QUERIES)
    float *query_rows = incoming + depth * QUERIES, *incoming_rows = query_rows + QUERIES * padded;  // (QUERIES, padded d)
    float *scores = incoming_rows + QUERIES * padded, *gradients = scores + FEW * QUERIES;  // (FEW, QUERIES)
    float *results = gradients + FEW * QUERIES, *inner = results + size * QUERIES;
    for (int block = 0; block < n; block += QUERIES) {
        pack_queries(window, q, block, 3 * channels, window.scale() * LOG2_E, queries);
        pack_queries(window, grad, block, channels, 1.f, incoming);
        pack_query_rows(window, q, block, 3 * channels, window.scale(), query_rows);
        pack_query_rows(window, grad, block, channels, 1.f, incoming_rows);
        __builtin_memset(results, 0, sizeof(float) * size * QUERIES);
        for (int i = 0; i < QUERIES; i++) {  // sum(weights * their gradient) of every row, which is out * grad
            const float *row = out + window.offset(block + i, channels), *other = grad + window.offset(block + i, channels);
            inner[i] = 0;
            for (int c = 0; c < depth; c++) inner[i] += row[c] * other[c];
        }
        const float *bias[TOGETHER];
        for (int j = 0; j < TOGETHER; j++) bias[j] = bias_of(packed.table, w, block + j * LANES);
        for (int key = 0; key < n; key += FEW) {
            Vec most[TOGETHER];
            score<true>(window, queries, packed.keys, key, FEW, bias, scores, most);
            score<false>(window, incoming, packed.values, key, FEW, bias, gradients, most);
            differentiate_scores(scores, gradients, sums + block, inner);
            for (int i = 0; i < FEW; i += LANES) {
                for (int j = 0; j < TOGETHER; j++) {
                    const std::ptrdiff_t at = bias[j] - packed.table - relative_to_first(w, key + i);
                    add_to_table(gradients + i * QUERIES + j * LANES, totals.table + LANES + at);
                }
            }
            add_over_queries(scores, incoming_rows, padded, totals.values + std::ptrdiff_t(key) * padded);
            add_over_queries(gradients, query_rows, padded, totals.keys + std::ptrdiff_t(key) * padded);
            weigh(gradients, packed.key_rows + std::ptrdiff_t(key) * size, FEW, size, results);
        }
        for (int i = 0; i < QUERIES; i++) {
            float *to = grad_q + window.offset(block + i, 3 * channels);
            for (int c = 0; c < depth; c++) to[c] = results[c * QUERIES + i] * window.scale();
        }
    }
}

// Copies what belongs to the tokens of a window, (n, padded d), into features.
TARGET static void unpack_rows(const Window &window, const float *rows, float *to) {
    const int padded = padded_channels(window.depth);
    for (int token = 0; token < window.tokens(); token++, rows += padded) {
        float *row = to + window.offset(token, 3 * window.channels());
        for (int c = 0; c < window.depth; c++) row[c] = rows[c];
    }
}

// Window attention of one head of one window in bf16, with scores, softmax and sums in float. Included once, behind
// bf16.h.
//
// Lanes are queries. So the exponentials of two keys are a row of pairs, which is multiplied with their values at once,
// and only the scores of a chunk of keys exist at a time.

constexpr int CHUNK = 64;  // keys at a time, a divisor of the tokens of every window
constexpr float SLACK = 8.f;  // how far beyond the maximum, as it was, scores may go before sums are scaled anew

// What all queries of a head of a window are compared with, packed.
struct PackedPairs {
    const Window &window;
    const float *table;  // (2w - 1)^2 biases, times log2(e), in reverse order
    const Pair *keys;  // (n, pairs)
    const Pair *values;  // (n / 2, 2 * pairs), each of one channel of two keys
};

// With a relative error below 1.1e-4, a twentieth of the rounding to bf16.
constexpr float EXP2_COARSE[] = {5.500893e-2f, 2.4221096e-1f, 6.9328293e-1f};

template <int COUNT>
INLINE void exp2_coarse(Vec (&x)[COUNT]) { exp2_by(EXP2_COARSE, x); }

// Copies `count` pairs, and fills up to `pairs` with zeros.
INLINE void copy_pairs(const Bf16 *from, int count, int pairs, Pair *to) {
    __builtin_memcpy(to, from, sizeof(Pair) * count);
    for (int pair = count; pair < pairs; pair++) to[pair] = 0;
}

// Copies the keys (n, pairs), and the values (n / 2, 2 * pairs) in pairs of neighbours; what is added is zero.
template <int PAIRS>
TARGET static void pack_pairs(const Window &window, const Bf16 *k, const Bf16 *v, Pair *keys, Pair *values) {
    const int stride = 3 * window.channels(), count = window.depth / 2;
    for (int token = 0; token < window.tokens(); token += 2, values += 2 * PAIRS) {
        const std::ptrdiff_t at = window.offset(token, stride);
        Pair first[PAIRS], second[PAIRS];
        copy_pairs(k + at, count, PAIRS, keys + token * PAIRS);
        copy_pairs(k + at + stride, count, PAIRS, keys + (token + 1) * PAIRS);
        copy_pairs(v + at, count, PAIRS, first);
        copy_pairs(v + at + stride, count, PAIRS, second);
        for (int pair = 0; pair < PAIRS; pair++) {
            values[2 * pair] = (first[pair] & 0xffff) | second[pair] << 16;
            values[2 * pair + 1] = first[pair] >> 16 | (second[pair] & 0xffff0000);
        }
    }
}

// Computes the scores of LANES queries (pairs, LANES) and a chunk of keys, (CHUNK, LANES); returns the largest of every
// query. `bias` is that of the first query and key of all; that of the next query lies behind it, of the next key before.
template <int PAIRS>
TARGET NOINLINE static Vec score_pairs(
    const PackedPairs &packed, const Pair *queries, int key, const float *bias, float *scores
) {
    constexpr int KEYS = 16;  // at a time, a divisor of every side of a window
    const int w = packed.window.side, side = 2 * w - 1;
    const Vec scale = splat(packed.window.scale() * LOG2_E);
    IntVec query[PAIRS];
    UNROLL
    for (int pair = 0; pair < PAIRS; pair++) query[pair] = load_pairs(queries + pair * LANES);
    Vec most[2] = {splat(-3e38f), splat(-3e38f)};
    const Pair *keys = packed.keys + key * PAIRS;
    for (const int end = key + CHUNK; key < end; key += KEYS, keys += KEYS * PAIRS, scores += KEYS * LANES) {
        const float *near = bias - (key / w * side + key % w);
        Vec tile[KEYS]{};
        UNROLL
        for (int pair = 0; pair < PAIRS; pair++) {
            UNROLL
            for (int i = 0; i < KEYS; i++) tile[i] = add_dots(tile[i], query[pair], keys + i * PAIRS + pair);
        }
        UNROLL
        for (int i = 0; i < KEYS; i++) {
            tile[i] = tile[i] * scale + load(near - i);
            most[i % 2] = max(most[i % 2], tile[i]);
            store(scores + i * LANES, tile[i]);
        }
    }
    return max(most[0], most[1]);
}

// Writes the exponentials of the scores of a chunk, (CHUNK / 2, LANES), in pairs of keys; returns their sums.
TARGET NOINLINE static Vec exponentials(const float *scores, Vec shift, Pair *weights) {
    constexpr int KEYS = 8;  // at a time
    Vec total[2]{};
    for (int i = 0; i < CHUNK; i += KEYS, scores += KEYS * LANES, weights += KEYS / 2 * LANES) {
        Vec part[KEYS];
        UNROLL
        for (int j = 0; j < KEYS; j++) part[j] = load(scores + j * LANES) - shift;
        exp2_coarse(part);
        UNROLL
        for (int j = 0; j < KEYS; j += 2) {
            total[j / 2 % 2] += part[j] + part[j + 1];
            store_pairs(weights + j / 2 * LANES, pairs_of(part[j], part[j + 1]));
        }
    }
    return total[0] + total[1];
}

// Adds weights times values, both of a chunk, to the results (2 * PAIRS, LANES).
template <int PAIRS>
TARGET NOINLINE static void weigh_pairs(const Pair *weights, const Pair *values, float *results) {
    Vec sums[2 * PAIRS];
    UNROLL
    for (int c = 0; c < 2 * PAIRS; c++) sums[c] = load(results + c * LANES);
    for (int i = 0; i < CHUNK; i += 2, weights += LANES, values += 2 * PAIRS) {
        const IntVec weight = load_pairs(weights);
        UNROLL
        for (int c = 0; c < 2 * PAIRS; c++) sums[c] = add_dots(sums[c], weight, values + c);
    }
    UNROLL
    for (int c = 0; c < 2 * PAIRS; c++) store(results + c * LANES, sums[c]);
}

// The attention of the queries [first, last), whole blocks of LANES of a window.
template <int PAIRS>
TARGET static void attend_pairs(const PackedPairs &packed, const Bf16 *q, int first, int last, Bf16 *out, float *sums) {
    const Window &window = packed.window;
    const int n = window.tokens(), w = window.side, count = window.depth / 2;
    Pair queries[PAIRS * LANES], weights[CHUNK / 2 * LANES], one[PAIRS];
    float scores[CHUNK * LANES], results[2 * PAIRS * LANES];
    for (int block = first; block < last; block += LANES) {
        for (int i = 0; i < LANES; i++) {
            copy_pairs(q + window.offset(block + i, 3 * window.channels()), count, PAIRS, one);
            for (int pair = 0; pair < PAIRS; pair++) queries[pair * LANES + i] = one[pair];
        }
        __builtin_memset(results, 0, sizeof results);
        const float *bias = packed.table + (w - 1 + block / w) * (2 * w - 1) + w - 1 + block % w;
        Vec shift = splat(-3e38f), total{};
        for (int key = 0; key < n; key += CHUNK) {
            const Vec most = score_pairs<PAIRS>(packed, queries, key, bias, scores);
            if (any_beyond(most, shift + SLACK)) {
                const Vec further = max(shift, most);
                Vec factor[1] = {shift - further};
                exp2_coarse(factor);
                for (int c = 0; c < 2 * PAIRS; c++) store(results + c * LANES, load(results + c * LANES) * factor[0]);
                total *= factor[0];
                shift = further;
            }
            total += exponentials(scores, shift, weights);
            weigh_pairs<PAIRS>(weights, packed.values + key * PAIRS, results);
        }
        for (int i = 0; sums && i < LANES; i++) sums[block + i] = shift[i] + __builtin_log2f(total[i]);
        for (int pair = 0; pair < PAIRS; pair++) {
            const float *result = results + 2 * pair * LANES;
            store_pairs(queries + pair * LANES, pairs_of(load(result) / total, load(result + LANES) / total));
        }
        for (int i = 0; i < LANES; i++) {
            Bf16 *to = out + window.offset(block + i, window.channels());
            for (int pair = 0; pair < count; pair++) __builtin_memcpy(to + 2 * pair, queries + pair * LANES + i, sizeof(Pair));
        }
    }
}

// Packs and attends.
template <int PAIRS>
TARGET static void attend_window(
    const Window &window, const Bf16 *q, const float *table, int first, int last, Pair *memory, Bf16 *out, float *sums
) {
    Pair *values = memory + window.tokens() * PAIRS;
    pack_pairs<PAIRS>(window, q + window.channels(), q + 2 * window.channels(), memory, values);
    attend_pairs<PAIRS>({window, table, memory, values}, q, first, last, out, sums);
}

// Pairs of channels that a head is filled up to; it has an even number of channels, at most 16.
static int pairs_of_head(int depth) { return depth <= 8 ? 4 : depth <= 12 ? 6 : 8; }

// Floats of memory that a thread needs.
static std::ptrdiff_t attention_bf16_workspace(int side, int depth) {
    const std::ptrdiff_t n = side * side;
    return 2 * n * pairs_of_head(depth) + 4 * n;
}

static void attend_images_bf16(
    const Images &images, const Bf16 *qkv, const float *table, float *memory, Bf16 *out, float *sums
) {
    const int n = images.side * images.side, entries = (2 * images.side - 1) * (2 * images.side - 1);
    const int pairs = pairs_of_head(images.depth);
    const std::ptrdiff_t size = attention_bf16_workspace(images.side, images.depth);
    const int parts = parts_of_heads(images);
    const std::ptrdiff_t count = images.windows() * images.heads * parts;
    const auto kernel = pairs == 4 ? attend_window<4> : pairs == 6 ? attend_window<6> : attend_window<8>;
#pragma omp parallel num_threads(images.threads)
    {
        float *reversed = memory + omp_get_thread_num() * size;
#pragma omp for schedule(dynamic)
        for (std::ptrdiff_t unit = 0; unit < count; unit++) {
            const Share share = share_of(images, parts, unit);
            const Window window = window_of(images, share.index);
            const Bf16 *q = qkv + share.head * images.depth;
            reverse_table(table + share.head * entries, entries, reversed);
            kernel(
                window,
                q,
                reversed,
                share.first,
                share.last,
                reinterpret_cast<Pair *>(reversed + 4 * n),
                out + share.head * images.depth,
                sums ? sums + (share.index * images.heads + share.head) * n : nullptr
            );
        }
    }
}

// Numbers of 16 bits, bf16, whose products are summed up in float. Included for instruction sets that have them, behind
// vector.h.
//
// They are multiplied in pairs: a lane of 32 bits holds two, the first in its lower half.

typedef unsigned Pair;
typedef std::uint16_t Bf16;

// Rounds to the nearest, halves to even; NaN stays.
static inline Bf16 narrowed(float x) {
    unsigned bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    if (x != x) return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// Rounds LANES floats of `first` to the lower halves, and of `second` to the upper ones.
INLINE IntVec pairs_of(Vec first, Vec second) {
    const __m512i order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0
    );
    return (IntVec)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}

// Rounds 2 * LANES floats that lie side by side to LANES pairs of neighbours.
INLINE IntVec pairs_of_neighbours(Vec first, Vec second) {
    return (IntVec)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}

// Rounds LANES floats to LANES / 2 pairs of neighbours.
INLINE void store_half(Pair *to, Vec x) {
    const __m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)x);
    __builtin_memcpy(to, &half, sizeof half);
}

INLINE IntVec load_pairs(const Pair *from) {
    IntVec x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store_pairs(Pair *to, IntVec x) { __builtin_memcpy(to, &x, sizeof x); }

INLINE IntVec splat_pair(Pair x) { return (IntVec)_mm512_set1_epi32(x); }

// The first `count` floats, and zeros behind them.
INLINE Vec load_first(const float *from, int count) {
    const __mmask16 present = count >= LANES ? 0xffff : count <= 0 ? 0 : (1 << count) - 1;
    return (Vec)_mm512_maskz_loadu_ps(present, from);
}

INLINE void widen(const Bf16 *from, int count, float *to) {
    int c = 0;
    for (; c + LANES <= count; c += LANES) {
        const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + c)));
        store(to + c, (Vec)_mm512_slli_epi32(bits, 16));
    }
    for (; c < count; c++) {
        const unsigned bits = unsigned(from[c]) << 16;
        __builtin_memcpy(to + c, &bits, sizeof bits);
    }
}

INLINE void narrow(const float *from, int count, Bf16 *to) {
    int c = 0;
    for (; c + LANES <= count; c += LANES) {
        const __m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)load(from + c));
        __builtin_memcpy(to + c, &half, sizeof half);
    }
    for (; c < count; c++) to[c] = narrowed(from[c]);
}

// Adds the products of the pairs.
INLINE Vec add_dots(Vec total, IntVec a, IntVec b) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(total) : "v"(a), "v"(b));
    return total;
}

// Adds the products of the pairs in every lane and one pair, which is read as an operand of the instruction: compilers
// load it into a register of its own, and there is none left.
INLINE Vec add_dots(Vec total, IntVec pairs, const Pair *one) {
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(total) : "v"(pairs), "m"(*one));
    return total;
}

// Kernels for CPUs, compiled at installation where there is a compiler, and loaded by __init__.py.
//
// The arithmetic is written once, in terms of vectors, and compiled for every instruction set worth having; which one
// runs is decided at run time. Only C types pass the border, so the library fits every version of torch and Python. It
// takes OpenMP from torch: a second pool of threads would wait in the way of the first.

#include <cstddef>

#include <omp.h>

#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

namespace {

constexpr float LOG2_E = 1.4426950408889634f;

// One head of one window of an image whose channels lie side by side.
struct Window {
    int side;  // w
    int heads;
    int depth;  // d, channels of a head
    int width;  // W of the image
    std::ptrdiff_t corner;  // pixels before the first one of the window

    int tokens() const { return side * side; }
    int channels() const { return heads * depth; }
    float scale() const { return 1 / __builtin_sqrtf(depth); }

    // Where a token begins, of features with `stride` floats per pixel.
    std::ptrdiff_t offset(int token, int stride) const {
        return (corner + std::ptrdiff_t(token / side) * width + token % side) * stride;
    }
};

// A batch of images (B, H, W, channels), cut into windows.
struct Images {
    std::ptrdiff_t batch;
    int height;
    int width;
    int side;  // w, divides height and width and is a multiple of 16
    int heads;
    int depth;
    int threads;

    std::ptrdiff_t windows() const { return batch * (height / side) * (width / side); }
};

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define LANES 16
#define QUERIES 8
namespace avx512 {
#include "vector.h"
#include "attention.h"
#include "images.h"
}  // namespace avx512
#undef TARGET
#undef LANES
#undef QUERIES

#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define QUERIES 4
namespace avx2 {
#include "vector.h"
#include "attention.h"
#include "images.h"
}  // namespace avx2

int supported_lanes() {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 16;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 8 : 0;
}

#define FOR_THIS_PROCESSOR(call) \
    if (lanes == 16) return avx512::call; \
    return avx2::call

#else

#define TARGET
#define LANES 4
#define QUERIES 8
namespace generic {
#include "vector.h"
#include "attention.h"
#include "images.h"
}  // namespace generic

int supported_lanes() { return LANES; }

#define FOR_THIS_PROCESSOR(call) return generic::call

#endif

int lanes = 0;  // floats in a vector, see esc_lanes

}  // namespace

// The functions that __init__.py declares. Whenever one changes, so must the number.
extern "C" {

int esc_interface(void) { return 1; }

// Chooses vectors of no more than `most` floats, if there are such; returns their number, 0 if the processor has none.
int esc_lanes(int most) {
    const int widest = supported_lanes();
    lanes = most < widest && most >= 8 ? 8 : widest;
    return lanes;
}

std::ptrdiff_t esc_attention_workspace(int side, int depth, int gradients) {
    FOR_THIS_PROCESSOR(workspace(side, depth, gradients));
}

void esc_attend(
    std::ptrdiff_t batch, int height, int width, int side, int heads, int depth, int threads,
    const float *qkv, const float *table, float *memory, float *out, float *sums
) {
    const Images images{batch, height, width, side, heads, depth, threads};
    FOR_THIS_PROCESSOR(attend_images(images, qkv, table, memory, out, sums));
}

void esc_attend_gradients(
    std::ptrdiff_t batch, int height, int width, int side, int heads, int depth, int threads,
    const float *qkv, const float *table, const float *out, const float *sums, const float *grad,
    float *memory, float *grad_qkv, float *grad_tables
) {
    const Images images{batch, height, width, side, heads, depth, threads};
    FOR_THIS_PROCESSOR(differentiate_images(images, qkv, table, out, sums, grad, memory, grad_qkv, grad_tables));
}

}

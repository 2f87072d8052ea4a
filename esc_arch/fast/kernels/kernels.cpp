// Kernels for CPUs, compiled at installation where there is a compiler, and loaded by loading.py.
//
// The arithmetic is written once, in terms of vectors, and compiled for every instruction set worth having; which one
// runs is decided at run time. Only C types pass the border, so the library fits every version of torch and Python. It
// takes OpenMP from torch: a second pool of threads would wait in the way of the first.

#include <cstddef>
#include <cstdint>

#include <omp.h>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__) || __GNUC__ >= 10
#define HAS_BF16 1
#endif
#endif

#define INLINE TARGET static inline __attribute__((always_inline))
#define INLINE_MEMBER TARGET inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")

namespace {

constexpr float LOG2_E = 1.4426950408889634f;
constexpr int MOST_CHANNELS_BF16 = 1024;  // that go into a product in bf16

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

// A ConvFFN: W_2 (h + GELU(depthwise(h))) + b_2 of the hidden layer h = GELU(W_1 norm(x) + b_1).
struct ConvFFN {
    int channels;  // C
    int hidden;  // E
    int results;  // at least C
    float epsilon;  // of the normalisation
    const float *scale, *shift;  // of the normalisation, (C), null if there is none
    const float *weight_in, *bias_in;  // (E, C), (E)
    const float *weight_between, *bias_between;  // (E, 3, 3), (E)
    const float *weight_out, *bias_out;  // (results, E), (results)
};

// A batch of images that go through a ConvFFN.
struct FFNImages {
    std::ptrdiff_t batch;
    int height;
    int width;  // at least PIXELS
    int threads;
    const float *x;  // (B, H, W, C)
    const float *skip;  // (B, H, W, C), is added to the first C results; null for nothing
    float *out;  // (B, H, W, C), no memory of x or skip
    float *rest;  // (B, H, W, results - C)
};

// A 1x1 convolution W norm(x) + b.
struct Projection {
    int channels;
    int results;
    float epsilon;  // of the normalisation
    const float *scale, *shift;  // of the normalisation, (channels), null if there is none
    const float *weight, *bias;  // (results, channels), (results) or null for zeros
};

// Pixels that go through it. Numbers of 16 bits are bf16, for products in bf16 only.
struct Pixels {
    std::ptrdiff_t count;
    int threads;
    const void *x;  // (count, channels)
    bool x_bf16;
    void *out;  // (count, results)
    bool out_bf16;
    bool add;  // to what lies there, floats
};

// A part of an image.
struct Tile {
    std::ptrdiff_t image;
    int top, bottom, left, right;
};

// The large kernel of ConvAttn, transformed, and the 1x1 convolution behind it.
struct LargeKernel {
    int channels;  // P
    int width;  // P, filled up to a multiple of 16
    int results;  // C
    int taps;  // (K + 1) / 2
    int period;  // T of the transform, even and more than K
    const float *spectrum;  // (T/2 + 1, taps, width, width), the first of `width` the channels that come in
    const float *forward_cosine, *forward_sine;  // (T/2 + 1, T/2 + 1), (T/2 - 1, T/2 - 1)
    const float *inverse_cosine, *inverse_sine;  // (N, T/2 + 1), (N, T/2 - 1) with N = (T - K + 1)/2 + 1
    const float *detour;  // (C, P)
};

// A batch of images that go through it.
struct KernelImages {
    std::ptrdiff_t batch;
    int height;
    int width;
    int threads;
    const float *x;  // (B, H, W, P)
    const float *dynamic;  // (B, P, 3, 3)
    float *out;  // (B, H, W, C), is added to
};

// A batch of images that go through a depthwise convolution, with a kernel for each, and the 1x1 convolution behind it.
struct DepthwiseImages {
    std::ptrdiff_t batch;
    int height;
    int width;
    int threads;
    int channels;  // P
    int results;  // C
    int side;  // K of the kernels, odd
    const float *weights;  // (B, P, K, K)
    const float *detour;  // (C, P)
    const float *x;  // (B, H, W, P)
    float *out;  // (B, H, W, C), is added to
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

#include "windows.h"

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define LANES 16
#define PIXELS 5
namespace avx512 {
#include "vector.h"
#include "attention.h"
#include "attention_gradients.h"
#include "attention_images.h"
#include "groups.h"
#include "factors.h"
#include "norm.h"
#include "product.h"
#include "products.h"
#include "gelu.h"
#include "conv_ffn.h"
#include "large_kernel.h"
#include "depthwise.h"
#include "activation.h"
}  // namespace avx512
#undef TARGET
#undef LANES
#undef PIXELS

#ifdef HAS_BF16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))
#define LANES 16
#define PIXELS 5
namespace avx512_bf16 {
#include "vector.h"
#include "bf16.h"
#include "attention_bf16.h"
#include "groups.h"
#include "factors_bf16.h"
#include "norm.h"
#include "product.h"
#define BF16 1
#include "products.h"
#include "gelu.h"
#include "conv_ffn.h"
#include "large_kernel.h"
#include "depthwise.h"
#undef BF16
}  // namespace avx512_bf16
#undef TARGET
#undef LANES
#undef PIXELS
#endif

#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define PIXELS 6
namespace avx2 {
#include "vector.h"
#include "attention.h"
#include "attention_gradients.h"
#include "attention_images.h"
#include "groups.h"
#include "factors.h"
#include "norm.h"
#include "product.h"
#include "products.h"
#include "gelu.h"
#include "conv_ffn.h"
#include "large_kernel.h"
#include "depthwise.h"
#include "activation.h"
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

#ifdef HAS_BF16
bool supports_bf16() { return supported_lanes() == 16 && __builtin_cpu_supports("avx512bf16"); }
#endif

#else

#define TARGET
#define LANES 4
#define PIXELS 5
namespace generic {
#include "vector.h"
#include "attention.h"
#include "attention_gradients.h"
#include "attention_images.h"
#include "groups.h"
#include "factors.h"
#include "norm.h"
#include "product.h"
#include "products.h"
#include "gelu.h"
#include "conv_ffn.h"
#include "large_kernel.h"
#include "depthwise.h"
#include "activation.h"
}  // namespace generic

int supported_lanes() { return LANES; }

#define FOR_THIS_PROCESSOR(call) return generic::call

#endif

int lanes = 0;  // floats in a vector, see esc_lanes

#ifdef HAS_BF16
#define IN_BF16(call) return avx512_bf16::call
#else
bool supports_bf16() { return false; }
#define IN_BF16(call) __builtin_trap()
#endif

}  // namespace

// The functions that loading.py declares. Whenever one changes, so must the number.
extern "C" {

int esc_interface(void) { return 8; }

// Chooses vectors of no more than `most` floats, if there are such; returns their number, 0 if the processor has none.
int esc_lanes(int most) {
    const int widest = supported_lanes();
    lanes = most < widest && most >= 8 ? 8 : widest;
    return lanes;
}

// Returns how many channels may go into a product in bf16, 0 if there is none: then the functions that have it, and those
// that are asked for it, must not be called.
int esc_bf16(void) { return lanes == 16 && supports_bf16() ? MOST_CHANNELS_BF16 : 0; }

std::ptrdiff_t esc_attention_workspace(int side, int depth, int gradients) {
    FOR_THIS_PROCESSOR(attention_workspace(side, depth, gradients));
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

std::ptrdiff_t esc_attention_bf16_workspace(int side, int depth) {
    IN_BF16(attention_bf16_workspace(side, depth));
}

void esc_attend_bf16(
    std::ptrdiff_t batch, int height, int width, int side, int heads, int depth, int threads,
    const std::uint16_t *qkv, const float *table, float *memory, std::uint16_t *out, float *sums
) {
    const Images images{batch, height, width, side, heads, depth, threads};
    IN_BF16(attend_images_bf16(images, qkv, table, memory, out, sums));
}

// In bf16 it needs less.
std::ptrdiff_t esc_conv_ffn_workspace(int channels, int hidden, int results, int threads) {
    FOR_THIS_PROCESSOR(ffn_workspace(channels, hidden, results, threads));
}

void esc_conv_ffn(
    std::ptrdiff_t batch, int height, int width, int channels, int hidden, int results, int threads, float epsilon,
    const float *scale, const float *shift, const float *weight_in, const float *bias_in,
    const float *weight_between, const float *bias_between, const float *weight_out, const float *bias_out,
    const float *x, const float *skip, float *memory, float *out, float *rest, int bf16
) {
    const ConvFFN ffn{
        channels, hidden, results, epsilon, scale, shift,
        weight_in, bias_in, weight_between, bias_between, weight_out, bias_out,
    };
    const FFNImages images{batch, height, width, threads, x, skip, out, rest};
    if (bf16) IN_BF16(ffn_images(ffn, images, memory));
    FOR_THIS_PROCESSOR(ffn_images(ffn, images, memory));
}

// In bf16 it needs less.
std::ptrdiff_t esc_products_workspace(int channels, int results, int threads) {
    FOR_THIS_PROCESSOR(products_workspace(channels, results, threads));
}

void esc_products(
    std::ptrdiff_t count, int channels, int results, int threads, float epsilon,
    const float *scale, const float *shift, const float *weight, const float *bias,
    const void *x, float *memory, void *out, int x_bf16, int out_bf16, int add, int bf16
) {
    const Projection projection{channels, results, epsilon, scale, shift, weight, bias};
    const Pixels pixels{count, threads, x, x_bf16 != 0, out, out_bf16 != 0, add != 0};
    if (bf16) IN_BF16(products(projection, pixels, memory));
    FOR_THIS_PROCESSOR(products(projection, pixels, memory));
}

// GELU of floats, or `grad` times its derivative unless that is null.
void esc_gelu(std::ptrdiff_t count, int threads, const float *x, const float *grad, float *out) {
    FOR_THIS_PROCESSOR(activate(count, threads, x, grad, out));
}

// Likewise of bf16; every processor can.
void esc_gelu_bf16(
    std::ptrdiff_t count, int threads, const std::uint16_t *x, const std::uint16_t *grad, std::uint16_t *out
) {
    FOR_THIS_PROCESSOR(activate(count, threads, x, grad, out));
}

// In bf16 it needs less.
std::ptrdiff_t esc_depthwise_workspace(int channels, int results, int side, int threads) {
    FOR_THIS_PROCESSOR(depthwise_workspace(channels, results, side, threads));
}

void esc_depthwise(
    std::ptrdiff_t batch, int height, int width, int channels, int results, int side, int threads,
    const float *weights, const float *detour, const float *x, float *memory, float *out, int bf16
) {
    const DepthwiseImages images{
        batch, height, width, threads, channels, results, side, weights, detour, x, out,
    };
    if (bf16) IN_BF16(depthwise_images(images, memory));
    FOR_THIS_PROCESSOR(depthwise_images(images, memory));
}

std::ptrdiff_t esc_large_kernel_workspace(
    int channels, int width, int results, int taps, int period, int threads, int bf16
) {
    const LargeKernel kernel{channels, width, results, taps, period};
    if (bf16) IN_BF16(large_kernel_workspace(kernel, threads));
    FOR_THIS_PROCESSOR(large_kernel_workspace(kernel, threads));
}

void esc_large_kernel(
    std::ptrdiff_t batch, int height, int image_width, int channels, int width, int results, int taps, int period,
    int threads, const float *spectrum, const float *forward_cosine, const float *forward_sine,
    const float *inverse_cosine, const float *inverse_sine, const float *detour, const float *x, const float *dynamic,
    float *memory, float *out, int bf16
) {
    const LargeKernel kernel{
        channels, width, results, taps, period,
        spectrum, forward_cosine, forward_sine, inverse_cosine, inverse_sine, detour,
    };
    const KernelImages images{batch, height, image_width, threads, x, dynamic, out};
    if (bf16) IN_BF16(large_kernel_images(kernel, images, memory));
    FOR_THIS_PROCESSOR(large_kernel_images(kernel, images, memory));
}

}

"""Kernels for CPUs, in C++: what plain operators of PyTorch cannot keep in the cache or in registers.

They are compiled when the package is installed, if there is a compiler; without them everything runs, slower. They are
operators of PyTorch, `torch.ops.esc_arch.*`, so profilers see them, and torch says so where one cannot be used.
"""

from esc_arch.fast.kernels import attention, conv_ffn, depthwise, gelu, large_kernel, products
from esc_arch.fast.kernels.loading import available, has_bf16, images, instructions, most_channels_bf16

__all__ = [
    "attention",
    "available",
    "conv_ffn",
    "depthwise",
    "gelu",
    "has_bf16",
    "images",
    "instructions",
    "large_kernel",
    "most_channels_bf16",
    "products",
]

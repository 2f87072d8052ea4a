"""Kernels for CPUs, in C++: what plain operators of PyTorch cannot keep in the cache or in registers.

They are compiled when the package is installed, if there is a compiler; without them everything runs, slower. They are
operators of PyTorch, `torch.ops.esc_arch.*`, so profilers see them, and torch says so where one cannot be used.
"""

from esc_arch.fast.kernels import attention, conv_ffn, large_kernel
from esc_arch.fast.kernels.loading import available, images, instructions

__all__ = ["attention", "available", "conv_ffn", "images", "instructions", "large_kernel"]

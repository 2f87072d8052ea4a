"""The convolution of ConvAttn by a compiled kernel (see `esc_arch.fast.kernels`), without gradients.

Large kernel, dynamic kernel, the 1x1 convolution behind them and the sum are done for one tile of the image at a time.
A large kernel that is averaged over the square is real after a Fourier transform along the columns of the image, and
symmetric along its rows: half as many multiplications as with the transform of `large_kernel.py`.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from esc_arch.fast import kernels, reduced
from esc_arch.fast.large_kernel import ROWS, transformable
from esc_arch.fast.one_pass import once
from esc_arch.layers.conv_attn import DynamicLargeKernel, LargeKernel, PartialConvAttn


def pays(x: torch.Tensor, convolution: PartialConvAttn, kernel: Any) -> bool:
    """Tell whether this ConvAttn should be computed here, `x` (B, P, H, W) being results of a compiled ConvFFN."""
    return (
        type(convolution.plk) is DynamicLargeKernel
        and isinstance(kernel, LargeKernel)
        and transformable(x, kernel)
        and reduced.undisturbed()
        and x.shape[3] >= kernels.large_kernel.NARROWEST
    )


def add_conv_attn(out: torch.Tensor, x: torch.Tensor, convolution: PartialConvAttn, kernel: LargeKernel) -> None:
    """Convolve `x` (B, P, H, W), map it by the part of the last layer that is for it, and add that to `out`.

    Args:
        out: (B, C, H, W), channels last in memory as `x`.
        x: the channels to be convolved.
        convolution: a ConvAttn for which this pays.
        kernel: the large kernel.
    """
    assert isinstance(convolution.plk, DynamicLargeKernel)
    rows = math.ceil(x.shape[2] / math.ceil(x.shape[2] / ROWS) / 2) * 2
    detour = convolution.aggr.weight[:, : convolution.pdim]
    with torch.autocast("cpu", enabled=False):  # of the kernels themselves nothing is rounded
        transformed = once(kernel, ("compiled", rows), lambda: kernels.large_kernel.transformed(kernel.weight, rows))
        dynamic = convolution.plk.dynamic_kernel(x)
    torch.ops.esc_arch.large_kernel(out, x, dynamic, detour, *transformed, reduced.active(x.shape[1]))

"""The convolution of the decomposed ConvAttn by a compiled kernel (see `esc_arch.fast.kernels`), without gradients.

The depthwise convolution, which is another one for every image, the 1x1 convolution behind it and the sum are done for
one tile of the image at a time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from esc_arch.fast import kernels, reduced
from esc_arch.layers.conv_attn import DYNAMIC_SIZE, PartialConvAttn
from esc_arch.layers.decomposed_conv_attn import DecomposedLargeKernel


def pays(x: torch.Tensor, convolution: PartialConvAttn, kernel: Any) -> bool:
    """Tell whether this ConvAttn should be computed here, `x` (B, P, H, W) being results of a compiled ConvFFN."""
    return (
        type(convolution.plk) is DecomposedLargeKernel
        and isinstance(kernel, tuple)
        and all(part.dtype == torch.float32 for part in kernel)
        and reduced.undisturbed()
        and x.shape[3] >= kernels.depthwise.NARROWEST
    )


def add_conv_attn(
    out: torch.Tensor,
    x: torch.Tensor,
    convolution: PartialConvAttn,
    kernel: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Convolve `x` (B, P, H, W), map it by the part of the last layer that is for it, and add that to `out`.

    Args:
        out: (B, C, H, W), channels last in memory as `x`.
        x: the channels to be convolved.
        convolution: a ConvAttn for which this pays.
        kernel: the parts of the large kernel, (P, P, 1, 1) and (P, 1, K, K).
    """
    assert isinstance(convolution.plk, DecomposedLargeKernel)
    channel, spatial = kernel
    batch, channels, height, width = x.shape
    border = spatial.shape[-1] // 2 - DYNAMIC_SIZE // 2
    bf16 = reduced.active(channels)
    with torch.autocast("cpu", enabled=False):  # of the kernels themselves nothing is rounded
        dynamic = convolution.plk.proj(x).reshape(batch, channels, DYNAMIC_SIZE, DYNAMIC_SIZE)
        weight = spatial.squeeze(1) + F.pad(dynamic, (border, border, border, border))
    mixed = kernels.images(batch, channels, height, width)
    torch.ops.esc_arch.products(mixed, x, channel, bf16=bf16)
    torch.ops.esc_arch.depthwise(out, mixed, weight, convolution.aggr.weight[:, :channels], bf16)

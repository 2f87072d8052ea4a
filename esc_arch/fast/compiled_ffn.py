"""The ConvFFN of a step by a compiled kernel (see `esc_arch.fast.kernels`), without gradients.

Normalisation, both 1x1 convolutions, the depthwise one between them and both activations are done for a few pixels at a
time, and only three rows of the hidden layer exist.
"""

from __future__ import annotations

import torch
from torch import nn

from esc_arch.fast import kernels, reduced
from esc_arch.fast.compiled import serves
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.norm import LayerNorm


def pays(x: torch.Tensor, norm: nn.Module, ffn: ConvFFN) -> bool:
    """Tell whether ffn(norm(x)) of these images (B, C, H, W) should be computed here."""
    parameters = *norm.parameters(), *ffn.parameters()
    return (
        serves(x)
        and not torch.is_grad_enabled()
        and reduced.undisturbed()
        and all(tensor.dtype == torch.float32 for tensor in (x, *parameters))
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.shape[3] >= kernels.conv_ffn.NARROWEST
        and type(norm) in (LayerNorm, nn.Identity)
        and ffn.dwc.kernel_size == (3, 3)
    )


def compiled_ffn(
    x: torch.Tensor,
    norm: nn.Module,
    ffn: ConvFFN,
    weight: torch.Tensor,
    bias: torch.Tensor,
    skip: torch.Tensor | None = None,
    memory: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute ffn(norm(x)) of `x` (B, C, H, W) with other weights in place of those of its last layer.

    Args:
        x: images for which this pays.
        norm: the normalisation, or the identity.
        ffn: the ConvFFN, with E hidden channels.
        weight: of the last layer, (C + R, E, 1, 1).
        bias: likewise, (C + R).
        skip: (B, C, H, W), is added to the first C channels of the result.
        memory: is overwritten by them if it fits; fresh memory costs time.

    Returns:
        (B, C, H, W) and (B, R, H, W), the channels of the result, both channels last in memory.
    """
    channels = x.shape[1]
    if memory is None or memory.shape != x.shape or not memory.is_contiguous(memory_format=torch.channels_last):
        memory = torch.empty_like(x)
    rest = kernels.images(x.shape[0], len(weight) - channels, *x.shape[2:])
    scale, shift, epsilon = (norm.weight, norm.bias, norm.eps) if isinstance(norm, LayerNorm) else (None, None, 0.0)
    torch.ops.esc_arch.conv_ffn(
        x,
        scale,
        shift,
        epsilon,
        ffn.proj.weight,
        ffn.proj.bias,
        ffn.dwc.weight,
        ffn.dwc.bias,
        weight,
        bias,
        skip,
        memory,
        rest,
        reduced.active(channels, ffn.dwc.in_channels),
    )
    return memory, rest

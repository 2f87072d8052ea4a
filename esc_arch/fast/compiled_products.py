"""1x1 convolutions by a compiled kernel (see `esc_arch.fast.kernels`), without gradients.

The normalisation before one, and the sum behind it, are done while the pixels are in registers.
"""

from __future__ import annotations

import torch
from torch import nn

from esc_arch.fast import kernels, reduced
from esc_arch.fast.compiled import serves
from esc_arch.layers.norm import LayerNorm


def pays(x: torch.Tensor, conv: nn.Conv2d, norm: nn.Module | None = None) -> bool:
    """Tell whether conv(norm(x)) of these images (B, C, H, W) should be computed here."""
    parameters = *conv.parameters(), *(norm.parameters() if norm is not None else ())
    return (
        serves(x)
        and not torch.is_grad_enabled()
        and reduced.undisturbed()
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and reduced.active(x.shape[1])))
        and all(tensor.dtype == torch.float32 for tensor in parameters)
        and (norm is None or type(norm) in (LayerNorm, nn.Identity))
    )


def mapped(x: torch.Tensor, conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Compute conv(norm(x)) of `x` (B, C, H, W).

    Args:
        x: images for which this pays.
        conv: a 1x1 convolution, C -> C'.
        norm: the normalisation, or the identity.
        dtype: of the result, float32, or bfloat16 where `reduced.active(C)`.

    Returns:
        (B, C', H, W), channels last in memory.
    """
    out = kernels.images(x.shape[0], conv.out_channels, x.shape[2], x.shape[3], dtype)
    scale, shift, epsilon = (norm.weight, norm.bias, norm.eps) if isinstance(norm, LayerNorm) else (None, None, 0.0)
    x = x.contiguous(memory_format=torch.channels_last)
    bf16 = reduced.active(x.shape[1])
    torch.ops.esc_arch.products(out, x, conv.weight, conv.bias, scale, shift, epsilon, False, bf16)
    return out


def add_mapped(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """Add a 1x1 convolution of `x` (B, C, H, W), for which this pays, to `out` (B, C', H, W), float32.

    Args:
        out: channels last in memory.
        x: images.
        weight: (C', C, 1, 1).
        bias: (C').
    """
    x = x.contiguous(memory_format=torch.channels_last)
    torch.ops.esc_arch.products(out, x, weight, bias, None, None, 0.0, True, reduced.active(x.shape[1]))

"""The depthwise convolution of the decomposed ConvAttn, and the 1x1 one behind it: `torch.ops.esc_arch.depthwise`."""

from __future__ import annotations

import torch

from esc_arch.fast.kernels.loading import OPERATORS, require_bf16, require_images, require_shapes, required

NARROWEST = 16  # pixels of the narrowest images, or as many as are convolved at a time

OPERATORS.define("depthwise(Tensor(a!) out, Tensor x, Tensor weight, Tensor detour, bool bf16=False) -> ()")


def _depthwise(
    out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, detour: torch.Tensor, bf16: bool = False
) -> None:
    """Add detour * depthwise(x, weight) to `out`.

    All is float32, images lie with their channels last in memory, and are padded by zeros.

    Args:
        out: (B, C, H, W).
        x: (B, P, H, W), W at least NARROWEST.
        weight: a kernel for every channel of every image, (B, P, K, K), K odd.
        detour: (C, P, 1, 1).
        bf16: round the factors of the product with `detour`, where `esc_arch.fast.kernels.has_bf16()`.
    """
    kernels = required()
    batch, channels, height, width = x.shape
    results, side = len(detour), weight.shape[-1]
    if width < NARROWEST or side % 2 == 0:
        raise RuntimeError(
            f"esc_arch::depthwise is for images at least {NARROWEST} wide and odd kernels, got {tuple(x.shape)} and "
            f"{tuple(weight.shape)}."
        )
    require_images("depthwise", out, x)
    require_shapes(
        "depthwise",
        (x, (batch, channels, height, width)),
        (out, (batch, results, height, width)),
        (weight, (batch, channels, side, side)),
        (detour, (results, channels, 1, 1)),
    )
    if bf16:
        require_bf16("depthwise", channels)
    sizes = channels, results, side, torch.get_num_threads()
    memory = torch.empty(kernels.esc_depthwise_workspace(*sizes))
    ready = weight.contiguous(), detour.contiguous(), x, memory, out
    kernels.esc_depthwise(batch, height, width, *sizes, *(tensor.data_ptr() for tensor in ready), bf16)


OPERATORS.impl("depthwise", _depthwise, "CPU")
torch.library.register_fake("esc_arch::depthwise", lambda *arguments: None, lib=OPERATORS)  # it writes only

"""Attention of whole images by a compiled kernel (`esc_arch.fast.kernels`), without cutting them into windows first.

The scores of some queries at a time stay in the cache. The biases of a query and a row of keys lie side by side in the
table of relative positions, and are read there, never expanded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from esc_arch.fast import kernels, reduced, speedups
from esc_arch.fast.compiled import serves
from esc_arch.fast.strips import memory_format
from esc_arch.layers.backend import Bias, window_attention
from esc_arch.layers.window import RelativePositionBias, window_partition

Attend = Callable[[torch.Tensor, Bias, int, str], torch.Tensor]


def image_attention(
    definition: Attend, qkv: torch.Tensor, bias: Bias, heads: int, attn_type: str = "auto"
) -> torch.Tensor:
    """Do what `esc_arch.layers.backend.image_attention` does, and leave images in the layout in which they come."""
    if attn_type in ("auto", "SDPA") and isinstance(bias, RelativePositionBias) and pays(qkv, bias):
        fits = qkv.dtype == torch.float32 or kernels.attention.fits_bf16(qkv.shape[1] // 3 // heads)
        return compiled_attention(qkv if fits else qkv.float(), bias, heads).to(qkv.dtype)
    if not speedups.active().channels_last or memory_format(qkv) != torch.channels_last:
        return definition(qkv, bias, heads, attn_type)
    q, k, v = window_partition(qkv, bias.window, heads)
    tokens = window_attention(q, k, v, bias, attn_type)
    return merge_channels_last(tokens, bias.window, qkv.shape[2], qkv.shape[3])


def merge_channels_last(tokens: torch.Tensor, window: int, height: int, width: int) -> torch.Tensor:
    """Do what `esc_arch.layers.window.window_merge` does, to an image whose channels lie last in memory."""
    heads, depth = tokens.shape[1], tokens.shape[3]
    x = tokens.reshape(-1, height // window, width // window, heads, window, window, depth)
    x = x.permute(0, 1, 4, 2, 5, 3, 6).contiguous()  # (B, H/w, w, W/w, w, h, d)
    return x.view(-1, height, width, heads * depth).permute(0, 3, 1, 2)


def pays(qkv: torch.Tensor, bias: RelativePositionBias) -> bool:
    """Tell whether the attention of these images, (B, 3 * C, H, W), should be computed here."""
    return (
        serves(qkv)
        and (qkv.dtype == torch.float32 or (qkv.dtype == torch.bfloat16 and reduced.active()))
        and bias.table.dtype == torch.float32
        and type(bias) is RelativePositionBias
        and bias.window % kernels.attention.WINDOW_MULTIPLE == 0
        and qkv.is_contiguous(memory_format=torch.channels_last)
    )


def compiled_attention(qkv: torch.Tensor, bias: RelativePositionBias, heads: int) -> torch.Tensor:
    """Attend within the windows of images for which this pays."""
    return torch.ops.esc_arch.attend(qkv, bias.table, bias.window, heads, torch.is_grad_enabled())[0]

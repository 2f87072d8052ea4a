"""Attention of whole images by a compiled kernel (`esc_arch.fast.kernels`), without cutting them into windows first.

The scores of some queries at a time stay in the cache. The biases of a query and a row of keys lie side by side in the
table of relative positions, and are read there, never expanded. For the gradients the sums of the rows are stored, and
the scores computed again (as in FlashAttention, Dao et al. 2022).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from esc_arch.fast import kernels, speedups
from esc_arch.layers.window import RelativePositionBias


def pays(qkv: torch.Tensor, bias: RelativePositionBias) -> bool:
    """Tell whether the attention of these images, (B, 3 * C, H, W), should be computed here."""
    return (
        speedups.active().kernels
        and type(qkv) is torch.Tensor  # and not one that stands for another, without numbers of its own
        and qkv.device.type == "cpu"
        and qkv.dtype == bias.table.dtype == torch.float32
        and bias.window % kernels.attention.WINDOW_MULTIPLE == 0
        and qkv.is_contiguous(memory_format=torch.channels_last)
        and kernels.available()
    )


def compiled_attention(qkv: torch.Tensor, bias: RelativePositionBias, heads: int) -> torch.Tensor:
    """Do what `backend.image_attention` does."""
    if torch.is_grad_enabled():
        return _CompiledAttention.apply(qkv, bias.table, bias.window, heads)
    return torch.ops.esc_arch.attend(qkv, bias.table, bias.window, heads, False)[0]


class _CompiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, table: torch.Tensor, window: int, heads: int) -> torch.Tensor:
        out, sums = torch.ops.esc_arch.attend(qkv, table, window, heads, True)
        ctx.save_for_backward(qkv, table, out, sums)
        ctx.sides = window, heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *torch.ops.esc_arch.attend_gradients(grad, *ctx.saved_tensors, *ctx.sides), None, None

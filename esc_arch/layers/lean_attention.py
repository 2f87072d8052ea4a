"""Fused attention on a CPU, head by head, with gradients that store no scores.

The bias of one head, spread over all pairs of tokens, stays in the cache, that of all heads does not. PyTorch's fused
attention has no gradient for a bias here and would fall back to materialised scores, windows x heads x w^4 numbers that
are written and read several times. So the backward pass computes the scores again, in pieces that stay in the cache (as
in FlashAttention, Dao et al. 2022, but made of plain matrix products).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from esc_arch.layers import speedups
from esc_arch.layers.window import RelativePositionBias, reversed_bias

BUDGET = 2**21  # bytes of a piece of the scores


def pays(q: torch.Tensor) -> bool:
    """Tell whether the attention of these queries should be computed here."""
    # in half precision the pieces of the backward pass would be rounded
    exact = q.dtype in (torch.float32, torch.float64) or not torch.is_grad_enabled()
    return q.device.type == "cpu" and exact and speedups.active().lean_attention


def lean_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: RelativePositionBias) -> torch.Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v; arguments and result as in `backend.window_attention`."""
    # the order of the keys does not matter, and in reverse the bias is cheaper to expand
    k, v = k.flip(2), v.flip(2)
    if torch.is_grad_enabled():
        return _LeanAttention.apply(q, k, v, bias.table, bias)
    return _by_head(q, k, v, bias)


def _by_head(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: RelativePositionBias) -> torch.Tensor:
    """Attend with queries q to keys k and values v in reverse order, all (windows, h, n, d)."""
    windows, heads, tokens, depth = q.shape
    out = q.new_empty(windows, tokens, heads, depth).transpose(1, 2)  # heads side by side, as in the image
    for head in range(heads):
        one = slice(head, head + 1)
        mask = bias.of_head(head, q.dtype)
        out[:, one] = F.scaled_dot_product_attention(q[:, one], k[:, one], v[:, one], attn_mask=mask[None, None])
    return out


class _LeanAttention(torch.autograd.Function):
    """`_by_head` with gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        table: torch.Tensor,
        bias: RelativePositionBias,
    ) -> torch.Tensor:
        ctx.save_for_backward(q, k, v, table)
        ctx.window = bias.window
        return _by_head(q, k, v, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, table = ctx.saved_tensors
        bias = RelativePositionBias(table, ctx.window)
        grads = tuple(torch.empty_like(t) for t in (q, k, v, table))
        grad_bias = q.new_empty(q.shape[2], q.shape[2])
        for head in range(q.shape[1]):
            mask = bias.of_head(head, q.dtype)
            parts = _backward_of_head(q[:, head], k[:, head], v[:, head], mask, grad[:, head], grad_bias)
            for whole, part in zip(grads, parts, strict=False):
                whole[:, head] = part
            grads[3][head] = _gradient_of_table(table[head], ctx.window, grad_bias)
        return *grads, None


def _gradient_of_table(table: torch.Tensor, window: int, grad_bias: torch.Tensor) -> torch.Tensor:
    """Sum the gradient of the bias of one head (n, n), keys in reverse order, into that of its table ((2w - 1)^2,)."""
    with torch.enable_grad():
        table = table.detach().requires_grad_()
        bias = reversed_bias(table[None], window)
    return torch.autograd.grad(bias, table, grad_bias.view(bias.shape).to(table.dtype))[0]


def _backward_of_head(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor, grad: torch.Tensor, grad_bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Differentiate the attention of one head, some queries at a time.

    Args:
        q: (windows, n, d), like `k`, `v`, and `grad`, the gradient of the result.
        bias: (n, n).
        grad_bias: (n, n), is overwritten with the gradient of the bias.

    Returns:
        the gradients of q, k, v.
    """
    windows, tokens, depth = q.shape
    q, k, grad = ((q * depth**-0.5).contiguous(), k.contiguous(), grad.contiguous())
    keys, values = k.transpose(1, 2).contiguous(), v.transpose(1, 2).contiguous()  # (windows, d, n)
    grad_q, grad_keys, grad_values = torch.empty_like(q), torch.zeros_like(keys), torch.zeros_like(values)
    ones = q.new_ones(1, windows)
    step = min(max(BUDGET // (windows * tokens * q.element_size()), 1), tokens)
    memory = [q.new_empty(windows * step * tokens) for _ in range(3)]  # taken anew for every piece it costs a fifth
    for first in range(0, tokens, step):
        piece = slice(first, min(first + step, tokens))
        shape = windows, piece.stop - first, tokens
        scores, weights, grad_weights = (m[: math.prod(shape)].view(shape) for m in memory)
        torch.baddbmm(bias[piece], q[:, piece], keys, out=scores)
        torch._softmax(scores, -1, False, out=weights)
        grad_values.baddbmm_(grad[:, piece].transpose(1, 2), weights)
        torch.bmm(grad[:, piece], values, out=grad_weights)
        # the gradient of the softmax: weights * (g - sum(weights * g))
        torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype, grad_input=scores)
        torch.mm(ones, scores.view(windows, -1), out=grad_bias[piece].view(1, -1))  # the sum over the windows
        grad_q[:, piece] = torch.bmm(scores, k)
        grad_keys.baddbmm_(q[:, piece].transpose(1, 2), scores)
    return grad_q.mul_(depth**-0.5), grad_keys.transpose(1, 2), grad_values.transpose(1, 2)

"""Fused attention on a CPU, head by head, with gradients that store no scores.

The bias of one head, spread over all pairs of tokens, stays in the cache, that of all heads does not. PyTorch's fused
attention has no gradient for a bias here and would fall back to materialised scores, windows x heads x w^4 numbers that
are written and read several times. So the backward pass computes the scores again, in pieces that stay in the cache (as
in FlashAttention, Dao et al. 2022, but made of plain matrix products).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from esc_arch.fast import speedups
from esc_arch.fast.one_pass import once
from esc_arch.fast.products import linear
from esc_arch.layers.backend import Bias
from esc_arch.layers.factored_bias import FactoredBias
from esc_arch.layers.window import RelativePositionBias, reversed_bias

BUDGET = 2**21  # bytes of a piece of the scores
FEWEST_TOKENS = 256  # in a window; with fewer the scores are small, and stored faster than computed again


Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Bias], torch.Tensor]


def sdpa(definition: Attend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias) -> torch.Tensor:
    """Do what `esc_arch.layers.backend.sdpa` does."""
    if isinstance(bias, FactoredBias):
        lean = q.device.type == "cpu" and not torch.is_grad_enabled() and speedups.active().lean_attention
        return _with_product(q, k, v, bias) if lean else definition(q, k, v, bias)
    return (lean_attention if pays(q, bias) else definition)(q, k, v, bias)


def _with_product(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: FactoredBias) -> torch.Tensor:
    """Form the product of one head at a time: it costs less than its rank in channels of every window."""
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)
    for head in range(q.shape[1]):
        one = slice(head, head + 1)
        mask = bias.of_head(head, q.dtype)
        out[:, one] = F.scaled_dot_product_attention(q[:, one], k[:, one], v[:, one], attn_mask=mask[None, None])
    return out


def pays(q: torch.Tensor, bias: RelativePositionBias) -> bool:
    """Tell whether the attention of these queries should be computed here."""
    if q.device.type != "cpu" or type(bias) is not RelativePositionBias or not speedups.active().lean_attention:
        return False
    # in half precision the pieces of the backward pass would be rounded
    exact = q.dtype in (torch.float32, torch.float64)
    return not torch.is_grad_enabled() or (exact and q.shape[2] >= FEWEST_TOKENS)


def lean_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: RelativePositionBias) -> torch.Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v."""
    if torch.is_grad_enabled():
        return _LeanAttention.apply(q, k, v, bias.table, bias)
    return _by_head(q, k, v, bias)


def _by_head(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: RelativePositionBias) -> torch.Tensor:
    windows, heads, tokens, depth = q.shape
    # the order of the keys does not matter, and in reverse the bias is cheaper to expand
    k, v = k.flip(2), v.flip(2)
    out = q.new_empty(windows, tokens, heads, depth).transpose(1, 2)  # heads side by side, as in the image
    for head in range(heads):
        one = slice(head, head + 1)
        mask = bias_of_head(bias, head, q.dtype)
        out[:, one] = F.scaled_dot_product_attention(q[:, one], k[:, one], v[:, one], attn_mask=mask[None, None])
    return out


def bias_of_head(bias: RelativePositionBias, head: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the bias of one head for keys in reverse order, (w * w, w * w), without a graph of gradients.

    It is valid until the next call, which uses the same memory: fresh memory costs more time than filling it.
    """
    expanded = reversed_bias(bias.table[head : head + 1].detach().to(dtype), bias.window)[0]  # (w, w, w, w)
    memory = once(bias, ("memory", dtype), lambda: torch.empty(expanded.shape, dtype=dtype, device=expanded.device))
    return memory.copy_(expanded).view(bias.window**2, bias.window**2)


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
            mask = bias_of_head(bias, head, q.dtype)
            keys, values = k[:, head].flip(1), v[:, head].flip(1)
            parts = _backward_of_head(q[:, head], keys, values, mask, grad[:, head], grad_bias)
            grads[0][:, head] = parts[0]
            grads[1][:, head], grads[2][:, head] = parts[1].flip(1), parts[2].flip(1)
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
    """Differentiate the attention of one head, window by window and some queries at a time.

    Args:
        q: (windows, n, d), like `k`, `v`, and `grad`, the gradient of the result.
        bias: (n, n).
        grad_bias: (n, n), is overwritten with the gradient of the bias.

    Returns:
        the gradients of q, k, v.
    """
    windows, tokens, depth = q.shape
    q, grad = (q * depth**-0.5).contiguous(), grad.contiguous()
    keys = k.transpose(1, 2).contiguous()  # (windows, d, n)
    grad_q, grad_keys, grad_values = torch.empty_like(q), torch.zeros_like(keys), torch.zeros_like(keys)
    grad_bias.zero_()
    step = min(max(BUDGET // (tokens * q.element_size()), 1), tokens)
    for first in range(0, tokens, step):
        piece = slice(first, min(first + step, tokens))
        for window in range(windows):
            queries, incoming = q[window, piece], grad[window, piece]
            scores = linear(queries, k[window]).add_(bias[piece])
            weights = torch._softmax(scores, -1, False, out=scores)
            grad_values[window] += linear(incoming.t().contiguous(), weights.t())
            grad_weights = linear(incoming, v[window])
            # the gradient of the softmax: weights * (g - sum(weights * g))
            torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype, grad_input=grad_weights)
            grad_bias[piece] += grad_weights
            grad_q[window, piece] = linear(grad_weights, keys[window])
            grad_keys[window] += linear(queries.t().contiguous(), grad_weights.t())
    return grad_q.mul_(depth**-0.5), grad_keys.transpose(1, 2), grad_values.transpose(1, 2)

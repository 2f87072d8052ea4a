"""Attention back-ends: one function, softmax(q k^T / sqrt(d) + bias) v, computed in different ways.

`Naive` materialises the scores, `SDPA` lets PyTorch pick a fused kernel, `Flex` adds the bias inside a generated one
and never stores it. `auto` picks the best that runs on the device at hand. This is the only module that asks what the
machine can do.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from esc_arch.layers.factored_bias import FactoredBias
from esc_arch.layers.seam import replaceable
from esc_arch.layers.window import RelativePositionBias, window_merge, window_partition

ATTN_TYPES = ("auto", "Naive", "SDPA", "Flex")
Bias = RelativePositionBias | FactoredBias
FLEX_SMALLEST_HEAD = 16  # Triton multiplies matrices of no smaller side


@replaceable
def image_attention(qkv: torch.Tensor, bias: Bias, heads: int, attn_type: str = "auto") -> torch.Tensor:
    """Attend within the windows of images, with a bias for every pair of places.

    Args:
        qkv: (B, 3 * C, H, W), channels in the order (qkv, heads, head channels); H, W multiples of the window.
        bias: of all heads.
        heads: number of heads h, a divisor of C.
        attn_type: one of ATTN_TYPES.

    Returns:
        (B, C, H, W), in the dtype of `qkv`.

    Raises:
        RuntimeError: the back-end cannot run here; the message names one that can.
    """
    q, k, v = window_partition(qkv, bias.window, heads)  # (windows, h, w * w, d)
    tokens = window_attention(q, k, v, bias, attn_type)
    return window_merge(tokens, bias.window, qkv.shape[2], qkv.shape[3])


def window_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias, attn_type: str = "auto"
) -> torch.Tensor:
    """Attend within windows, with a bias for every pair of places.

    Args:
        q: queries (windows, h, w * w, d).
        k: keys, likewise.
        v: values, likewise.
        bias: of h heads and windows of side w.
        attn_type: one of ATTN_TYPES.

    Returns:
        (windows, h, w * w, d), in the dtype of `q`.

    Raises:
        RuntimeError: the back-end cannot run here; the message names one that can.
    """
    if attn_type == "auto":
        attn_type = best_attn_type(q, bias.table) if isinstance(bias, RelativePositionBias) else "SDPA"
    return _BACKENDS[attn_type](q, k, v, bias)


def best_attn_type(q: torch.Tensor, table: torch.Tensor) -> str:
    """Choose the back-end for these queries.

    SDPA needs the bias spread over all pairs of tokens, which is small beside the activations, once per layer. But its
    gradient is stored for every window of the batch, so where the bias is trained on a GPU, Flex is lighter.
    """
    trains_bias = torch.is_grad_enabled() and table.requires_grad
    return "Flex" if q.is_cuda and trains_bias and why_not_flex(q) is None else "SDPA"


def why_not_flex(q: torch.Tensor) -> str | None:
    """Say why the compiled path of Flex cannot run on the device and the head size of `q`, or None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "it needs Triton on a GPU, which is not installed"
    if torch.cuda.get_device_capability(q.device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or newer"
    if q.shape[-1] < FLEX_SMALLEST_HEAD:
        return f"it needs at least {FLEX_SMALLEST_HEAD} channels per head on a GPU, got {q.shape[-1]}"
    return None


def _naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias) -> torch.Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (windows, h, w * w, w * w)
    scores = scores + bias.expanded(q.dtype)
    return scores.softmax(dim=-1).to(v.dtype) @ v


@replaceable
def sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias) -> torch.Tensor:
    """Attend by PyTorch's fused kernel; arguments and result as in `window_attention`."""
    if isinstance(bias, FactoredBias):
        return bias.attend(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expanded(q.dtype)[None])


def _flex(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias) -> torch.Tensor:
    if q.is_cuda and (reason := why_not_flex(q)) is not None:
        raise RuntimeError(f"attn_type 'Flex' cannot run here: {reason}. Use 'SDPA' or 'auto'.")
    add_bias = (
        _bias_modifier(bias.table.to(q.dtype), bias.window)
        if isinstance(bias, RelativePositionBias)
        else _pair_modifier(bias.expanded(q.dtype))
    )
    if q.is_cuda:
        if torch.compiler.is_compiling():
            from torch.nn.attention.flex_attention import flex_attention

            return flex_attention(q, k, v, score_mod=add_bias)
        return _compiled_flex()(q, k, v, score_mod=add_bias)
    # Elsewhere PyTorch has no kernel with gradients: apply the same modifier to the materialised scores.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (windows, h, w * w, w * w)
    head = torch.arange(q.shape[1], device=q.device).reshape(-1, 1, 1)
    token = torch.arange(q.shape[2], device=q.device)
    scores = add_bias(scores, head, head, token.reshape(-1, 1), token)
    return scores.softmax(dim=-1).to(v.dtype) @ v


def _bias_modifier(table: torch.Tensor, window: int) -> Callable[..., torch.Tensor]:
    """Make the score modifier of Flex: called with one score and its indices, or with tensors of them."""
    side = 2 * window - 1

    def add_bias(
        score: torch.Tensor, _batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        down = key // window - query // window + window - 1
        right = key % window - query % window + window - 1
        return score + table[head, down * side + right]

    return add_bias


def _pair_modifier(bias: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Make the score modifier of Flex for a bias of every pair, (h, w * w, w * w)."""

    def add_bias(
        score: torch.Tensor, _batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        return score + bias[head, query, key]

    return add_bias


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    """Import and compile on first use: older versions of torch import the whole compiler with it."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


_BACKENDS: dict[str, Callable[..., torch.Tensor]] = {"Naive": _naive, "SDPA": sdpa, "Flex": _flex}

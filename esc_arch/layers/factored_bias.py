"""Biases of attention that are products of factors: for FlashBias and for the rank-factorised implicit bias.

A product of rank R is added to the scores by R further channels of queries and keys, so that any fused kernel serves,
without a bias argument. Where that does not pay the product is formed, and is a bias like any other.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F

from esc_arch.layers.window import RelativePositionBias

FEW_CHANNELS = 64  # that cost less than a bias for every pair of tokens
FLASH_CHANNELS = 256  # of a head, at most, in flash kernels


def exactly(x: torch.Tensor) -> AbstractContextManager[Any]:
    """Switch mixed precision off where `x` is."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


class FactoredBias:
    """A bias q k^T of one attention layer in one forward pass.

    Args:
        q: factors of the queries, (h, w * w, R).
        k: factors of the keys, likewise.
        window: side w.
    """

    def __init__(self, q: torch.Tensor, k: torch.Tensor, window: int) -> None:
        self.q = q
        self.k = k
        self.window = window

    @property
    def is_trained(self) -> bool:
        """Whether gradients are asked for."""
        return torch.is_grad_enabled() and (self.q.requires_grad or self.k.requires_grad)

    def expanded(self, dtype: torch.dtype) -> torch.Tensor:
        """Return (h, w * w, w * w), query before key; the product is computed in single precision at least."""
        return self._product(slice(None), dtype)

    def of_head(self, head: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the bias of one head, (w * w, w * w)."""
        return self._product(slice(head, head + 1), dtype)[0]

    def _product(self, heads: slice, dtype: torch.dtype) -> torch.Tensor:
        exact = torch.promote_types(self.q.dtype, torch.float32)
        with exactly(self.q):
            product = self.q[heads].to(exact) @ self.k[heads].to(exact).transpose(-2, -1)
        return product.to(dtype)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend by PyTorch's fused kernel; arguments and result as in `esc_arch.layers.backend.window_attention`."""
        depth, rank = q.shape[-1], self.q.shape[-1]
        flash = q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and depth + rank <= FLASH_CHANNELS
        if not flash and rank > FEW_CHANNELS:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self.expanded(q.dtype)[None])
        padding = -(depth + rank) % 8 if flash else 0
        shape = q.shape[0], -1, -1, -1
        q = torch.cat([q * depth**-0.5, self.q.to(q.dtype)[None].expand(shape)], dim=-1)
        k = torch.cat([k, self.k.to(k.dtype)[None].expand(shape)], dim=-1)
        q, k, v = F.pad(q, (0, padding)), F.pad(k, (0, padding)), F.pad(v, (0, rank + padding))
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :depth]


def factorise(table: torch.Tensor, window: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Approximate a table of relative position biases by factors, best among all of that rank.

    Args:
        table: (h, (2w - 1)^2), row-major, see `esc_arch.layers.window.reversed_bias`.
        window: side w.
        rank: R; beyond the number of tokens, factors have columns of zeros.

    Returns:
        factors of queries and of keys, (h, w * w, R); their product is the truncated singular value decomposition.
    """
    exact = torch.promote_types(table.dtype, torch.float32)
    bias = RelativePositionBias(table.detach().to("cpu", exact), window).expanded(exact)
    left, singular, right = torch.linalg.svd(bias)
    kept = min(rank, window**2)
    roots = singular[:, None, :kept].sqrt()
    factors = left[..., :kept] * roots, right[:, :kept].transpose(1, 2) * roots
    q, k = (F.pad(part, (0, rank - kept)).to(table.device, table.dtype).contiguous() for part in factors)
    return q, k

"""FlashBias: window attention whose table of relative positions is replaced by two factors of a given rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from esc_arch.layers.arguments import require
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.factored_bias import FLASH_CHANNELS, FactoredBias, factorise

TABLE = "relative_position_bias"
FROM_SCRATCH = (
    "attn_type 'FlashBias' learns no positions from scratch: its factors start at zero, and so do their gradients. "
    "Train with another attn_type first, and start from those weights: their table is turned into factors"
)


class FlashBiasAttention(WindowAttention):
    """`WindowAttention` with the bias as a product of factors (as published with ESC in December 2025).

    Weights with a table load: its best approximation of this rank is taken, which is the table itself where the rank
    suffices. Fresh factors are zero, and so are their gradients: training starts from weights.

    Args:
        dim: number of channels C.
        window_size: side w of a window.
        num_heads: number of heads h, a divisor of C.
        rank: R of the factors; None for as many as flash kernels take.
        scaled: the product is divided by sqrt(R), as in ESC-RIB.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, dim: int, window_size: int, num_heads: int, rank: int | None = None, scaled: bool = False
    ) -> None:
        super().__init__(dim, window_size, num_heads)
        rank = FLASH_CHANNELS - dim // num_heads if rank is None else rank
        require(rank >= 1, f"flashbias_rank must be positive, got {rank}")
        self.scale = rank**-0.5 if scaled else 1.0
        self.flashbias_q = nn.Parameter(torch.zeros(num_heads, window_size**2, rank))
        self.flashbias_k = nn.Parameter(torch.zeros(num_heads, window_size**2, rank))

    def new_positions(self) -> None:
        """Create nothing here: the factors come later, when their rank is known."""

    def bias(self) -> FactoredBias:
        """Prepare the bias for one forward pass."""
        q = self.flashbias_q
        return FactoredBias(q if self.scale == 1 else q * self.scale, self.flashbias_k, self.window_size)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Turn a table into factors first; torch hands over a copy of the caller's dictionary."""
        table = state_dict.get(prefix + TABLE)
        if isinstance(table, torch.Tensor) and prefix + "flashbias_q" not in state_dict:
            expected = self.num_heads, (2 * self.window_size - 1) ** 2
            if tuple(table.shape) == expected:
                q, k = factorise(table / self.scale, self.window_size, self.flashbias_q.shape[2])
                del state_dict[prefix + TABLE]
                state_dict.update({prefix + "flashbias_q": q, prefix + "flashbias_k": k})
            else:
                error_msgs.append(
                    f"{prefix}{TABLE} has the shape {tuple(table.shape)}, but {self.num_heads} heads and windows of "
                    f"{self.window_size} need {expected}"
                )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def factored_attention(
    attn_type: str, rank: int | None, dim: int, window_size: int, num_heads: int
) -> Callable[[], WindowAttention] | None:
    """Return what makes the attention of "FlashBias", or None for other types, where the rank means nothing."""
    return (lambda: FlashBiasAttention(dim, window_size, num_heads, rank)) if attn_type == "FlashBias" else None

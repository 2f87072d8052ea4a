"""MambaIRv2-light, attentive state spaces beside window attention, for comparison with ESC."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.archs.swin_frame import NORM_EPS, SwinFrame, residual_convolution
from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.attentive_state_space import AttentiveStateSpace
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.reflect import next_multiple
from esc_arch.layers.shifted_attention import ShiftedWindowAttention, relative_position_index

GATE_KERNEL = 5
RESIDUAL_START = 1e-4


class SpatialGate(nn.Module):
    """Half of the channels, multiplied by the other half after a depthwise convolution.

    Args:
        dim: channels of a half.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim, NORM_EPS)
        self.conv = nn.Conv2d(dim, dim, GATE_KERNEL, padding=GATE_KERNEL // 2, groups=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, 2 * D, H, W) to (B, D, H, W)."""
        kept, gate = x.chunk(2, dim=1)
        return kept * self.conv(self.norm(gate))


class GatedMlp(nn.Module):
    """Feed-forward network with a spatial gate.

    Args:
        dim: number of channels C.
        hidden: hidden channels, even.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.sg = SpatialGate(hidden // 2)
        self.fc2 = nn.Linear(hidden // 2, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to a tensor of the same shape."""
        hidden = F.gelu(self.fc1(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self.fc2(self.sg(hidden).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class AttentiveLayer(nn.Module):
    """Window attention, then the attentive state space, each with a feed-forward network (MambaIRv2, Sec. 3.2).

    Args:
        dim: number of channels C.
        states: N of the scan.
        num_heads: heads of the attention.
        window: side of its windows.
        shift: of the windows.
        rank: of the prompts.
        num_tokens: number of tokens.
        expand: expansion of the scan and of the feed-forward networks.
    """

    def __init__(
        self,
        dim: int,
        states: int,
        num_heads: int,
        window: int,
        shift: int,
        rank: int,
        num_tokens: int,
        expand: float,
    ) -> None:
        super().__init__()
        hidden = int(dim * expand)
        self.norm1, self.norm2, self.norm3, self.norm4 = (LayerNorm(dim, NORM_EPS) for _ in range(4))
        self.scale1, self.scale2 = (nn.Parameter(torch.full((dim,), RESIDUAL_START)) for _ in range(2))
        self.wqkv = nn.Linear(dim, 3 * dim)
        self.win_mhsa = ShiftedWindowAttention(dim, window, num_heads, shift)
        self.assm = AttentiveStateSpace(dim, hidden, states, num_tokens, rank)
        self.convffn1, self.convffn2 = GatedMlp(dim, hidden), GatedMlp(dim, hidden)
        self.embeddingA = nn.Embedding(rank, states)
        nn.init.uniform_(self.embeddingA.weight, -1 / rank, 1 / rank)

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W) with the index of relative positions; the result has the shape of `x`."""
        qkv = self.wqkv(self.norm1(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = x + self.win_mhsa(qkv, index)
        y = y + self.convffn1(self.norm2(y))
        x = x * self.scale1[:, None, None] + y
        y = x + self.assm(self.norm3(x), self.embeddingA.weight)
        y = y + self.convffn2(self.norm4(y))
        return x * self.scale2[:, None, None] + y


class AttentiveGroup(nn.Module):
    """Layers, a convolution and a skip; the index of relative positions is that of the network.

    Args:
        dim: number of channels C.
        layers: what precedes the convolution.
        resi_connection: the convolution, "1conv" or "3conv".
    """

    def __init__(self, dim: int, layers: Sequence[AttentiveLayer], resi_connection: str) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.conv = residual_convolution(dim, resi_connection)

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W); the result has the same shape."""
        y = x
        for layer in self.residual_group["layers"]:  # type: ignore[attr-defined]
            y = layer(y, index)
        return self.conv(y) + x


class MambaIRv2Light(SwinFrame, OnHub):
    """Restoration by attentive state spaces and window attention ("MambaIRv2", CVPR 2025), the light variant.

    Arguments, parameter names and shapes are those of the published checkpoints, which load strictly; the defaults are
    the published ones at scale 2. In evaluation every pixel takes its most probable token, see `AttentiveStateSpace`.
    The scans see the whole image, so tiles change the result.

    Args:
        upscale: scale S, at least 1.
        in_chans: channels of an image; for 3 the mean colour of DIV2K is subtracted and added again.
        img_size: not used, the network takes images of any size.
        img_range: the network works on images times this number.
        embed_dim: number of channels C, at least 3.
        d_state: states N of a channel of the scans.
        depths: number of layers in every group.
        num_heads: heads of the attention in every group, divisors of C.
        window_size: side of its windows.
        inner_rank: rank of the prompts.
        num_tokens: tokens that pixels are routed to.
        convffn_kernel_size: not used by the published network either.
        mlp_ratio: expansion of scans and feed-forward networks; C times it is even.
        resi_connection: convolution at the end of a group, "1conv" or "3conv".
        upsampler: "pixelshuffledirect", "pixelshuffle", or "" for restoration at scale 1.
        ignored: other arguments are ignored, with a warning.

    Raises:
        ValueError: an argument is out of range.
    """

    pads_itself = True
    relative_position_index_SA: torch.Tensor  # noqa: N815, the published name

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        img_size: int | Sequence[int] = 64,
        img_range: float = 1.0,
        embed_dim: int = 48,
        d_state: int = 8,
        depths: Sequence[int] = (5, 5, 5, 5),
        num_heads: Sequence[int] = (4, 4, 4, 4),
        window_size: int = 16,
        inner_rank: int = 32,
        num_tokens: int = 64,
        convffn_kernel_size: int = GATE_KERNEL,
        mlp_ratio: float = 1.0,
        resi_connection: str = "1conv",
        upsampler: str = "pixelshuffledirect",
        **ignored: Any,
    ) -> None:
        if ignored:
            warnings.warn(f"MambaIRv2Light ignores the arguments {', '.join(sorted(ignored))}", stacklevel=2)
        require(embed_dim >= 3, f"embed_dim must be at least 3, got {embed_dim}")
        require(window_size >= 2, f"window_size must be at least 2, got {window_size}")
        for name, number in (("d_state", d_state), ("inner_rank", inner_rank), ("num_tokens", num_tokens)):
            require(number >= 1, f"{name} must be positive, got {number}")
        hidden = int(embed_dim * mlp_ratio)
        require(hidden >= 2 and hidden % 2 == 0, f"mlp_ratio must give an even number of channels, got {mlp_ratio}")
        require(len(depths) > 0 and min(depths) > 0, f"depths must be a list of positive numbers, got {depths!r}")
        require(
            len(num_heads) == len(depths) and all(heads >= 1 and embed_dim % heads == 0 for heads in num_heads),
            f"num_heads must be divisors of embed_dim, as many as depths, got {num_heads!r}",
        )
        groups = [
            AttentiveGroup(
                embed_dim,
                [
                    AttentiveLayer(
                        embed_dim,
                        d_state,
                        heads,
                        window_size,
                        window_size // 2 if layer % 2 else 0,
                        inner_rank,
                        num_tokens,
                        mlp_ratio,
                    )
                    for layer in range(depth)
                ],
                resi_connection,
            )
            for depth, heads in zip(depths, num_heads, strict=True)
        ]
        super().__init__(upscale, in_chans, img_range, embed_dim, groups, resi_connection, upsampler)
        self.window_size = window_size
        self.register_buffer("relative_position_index_SA", relative_position_index(window_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images; `x` and the result are those of `SwinFrame.forward`.

        The image is padded on the right and the bottom to whole windows, by reflection that repeats the border, again
        and again where it is small.
        """
        require_image(x, self.in_chans)
        height, width = x.shape[2:]
        x = super().forward(_pad_symmetrically(_pad_symmetrically(x, 2, self.window_size), 3, self.window_size))
        return x[..., : height * self.upscale, : width * self.upscale]

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Process features (B, C, H, W) by the groups, all of which get the same index."""
        for group in self.layers:
            x = group(x, self.relative_position_index_SA)
        return x


def _pad_symmetrically(x: torch.Tensor, axis: int, multiple: int) -> torch.Tensor:
    side = x.shape[axis]
    place = torch.arange(next_multiple(side, multiple), device=x.device) % (2 * side)
    return x.index_select(axis, torch.minimum(place, 2 * side - 1 - place))

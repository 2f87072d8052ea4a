"""The attentive state space of MambaIRv2: pixels that look alike lie side by side in the sequence that is scanned."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.ss2d import ScanParameters


class AttentiveStateSpace(nn.Module):
    """One selective scan of the pixels, sorted by the token that each was routed to (MambaIRv2, Guo et al. 2025).

    The prompt of a pixel, a row of a table for its token, is added to what the scan reads. Step t of the sorted
    sequence gets the prompt of pixel t in raster order, not that of the pixel that stands there: so the published
    weights were trained.

    While training, tokens are drawn (Gumbel-softmax, straight-through). In evaluation the most probable token is taken;
    the published code draws in evaluation too, so that its results differ from run to run. Pixels with the same token
    stay in raster order, so results do not depend on the processor.

    Args:
        dim: number of channels C, at least 3.
        hidden: channels E of the scan.
        states: N of the scan.
        num_tokens: number of tokens T.
        rank: of the table of prompts, whose other factor belongs to the layer around.
    """

    def __init__(self, dim: int, hidden: int, states: int, num_tokens: int, rank: int) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.selectiveScan = ScanParameters(1, hidden, states, math.ceil(hidden / 16))
        self.out_norm = nn.LayerNorm(hidden)
        self.out_proj = nn.Linear(hidden, dim)
        self.in_proj = nn.Sequential(nn.Conv2d(dim, hidden, 1))
        self.CPE = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden))
        self.embeddingB = nn.Embedding(num_tokens, rank)
        nn.init.uniform_(self.embeddingB.weight, -1 / num_tokens, 1 / num_tokens)
        self.route = nn.Sequential(
            nn.Linear(dim, dim // 3), nn.GELU(), nn.Linear(dim // 3, num_tokens), nn.LogSoftmax(dim=-1)
        )

    def forward(self, x: torch.Tensor, other_factor: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W) with the other factor of the prompts, (rank, N); the shape stays."""
        size = x.shape[2:]
        prompts = self.embeddingB.weight @ other_factor  # (T, N)
        scores = self.route(x.flatten(2).transpose(1, 2))  # (B, L, T)
        if self.training:
            choice = F.gumbel_softmax(scores, hard=True, dim=-1)
            tokens, prompt = choice.argmax(dim=-1), choice @ prompts
        else:
            tokens = scores.argmax(dim=-1)  # (B, L)
            prompt = prompts[tokens]  # (B, L, N)
        features = self.in_proj(x)
        features = (features * torch.sigmoid(self.CPE(features))).flatten(2)  # (B, E, L)
        order = tokens.argsort(dim=-1, stable=True).unsqueeze(1)
        ordered = features.gather(2, order.expand_as(features))
        scanned = self.selectiveScan.scan(ordered.unsqueeze(1), prompt.transpose(1, 2).unsqueeze(1)).squeeze(1)
        y = self.out_proj(self.out_norm(scanned.transpose(1, 2).to(x.dtype))).transpose(1, 2)  # (B, C, L)
        return torch.zeros_like(y).scatter(2, order.expand_as(y), y).unflatten(2, size)

"""Layer normalisation over the channels of an image."""

import torch
import torch.nn.functional as F
from torch import nn


class LayerNorm(nn.Module):
    """Normalises every pixel over its channels (ConvNeXt's channels-first LayerNorm).

    Args:
        dim: number of channels C.
        eps: added to the variance.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` (B, C, H, W); the result has the same shape."""
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)  # (B, C, H, W)

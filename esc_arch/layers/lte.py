"""The Local Texture Estimator: an image function that can be asked for the colour at any place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require

SHIFT = 1e-6  # keeps a query that lies between two pixels from depending on rounding


def pixel_centres(count: int, like: torch.Tensor) -> torch.Tensor:
    """Return the centres of the pixels of an axis that reaches from -1 to 1, (count,).

    The order of operations is that of the published network. Where a query is as good as at a centre at the border of
    the image, the last digit of the distance decides how its neighbours are weighted.
    """
    return (1 / count - 1) + (2 / count) * torch.arange(count, device=like.device, dtype=like.dtype)


class MLP(nn.Module):
    """Linear layers with ReLU between.

    Args:
        in_features: features of the input.
        out_features: features of the result.
        hidden_list: features of the layers between.
    """

    def __init__(self, in_features: int, out_features: int, hidden_list: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for hidden in hidden_list:
            layers += [nn.Linear(in_features, hidden), nn.ReLU()]
            in_features = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(in_features, out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (..., in_features) to (..., out_features)."""
        return self.layers(x)


class LocalTextureEstimator(nn.Module):
    """Predicts colours at continuous coordinates from features ("Local Texture Estimator", CVPR 2022, Sec. 3).

    The features give amplitudes and frequencies of waves at every pixel; the phase depends on the size of the output
    pixel. A colour is the area-weighted mean of the predictions of the four nearest pixels. Coordinates are
    (row, column) in [-1, 1] and need single precision.

    Args:
        dim: number of channels C of the features.
        hidden_dim: number D of waves' coefficients, even.
        hidden_list: features of the hidden layers that turn waves into a colour.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, hidden_dim: int = 256, hidden_list: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        require(dim >= 1, f"dim must be positive, got {dim}")
        require(hidden_dim >= 2 and hidden_dim % 2 == 0, f"hidden_dim must be positive and even, got {hidden_dim}")
        require(all(n >= 1 for n in hidden_list), f"hidden_list must hold positive numbers, got {list(hidden_list)}")
        self.coef = nn.Conv2d(dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imnet = MLP(hidden_dim, 3, hidden_list)

    def waves(self, features: torch.Tensor) -> torch.Tensor:
        """Return amplitudes and frequencies of every pixel of `features` (B, C, H, W), as (B, H * W, 2 * D)."""
        return torch.cat([self.coef(features), self.freq(features)], dim=1).flatten(2).transpose(1, 2)

    def decode(
        self, waves: torch.Tensor, size: tuple[int, int], coord: torch.Tensor, cell: torch.Tensor
    ) -> torch.Tensor:
        """Predict colours.

        Args:
            waves: (B, H * W, 2 * D), from `waves`.
            size: H and W.
            coord: (B, Q, 2), where to predict.
            cell: (B, Q, 2), size of the output pixels.

        Returns:
            (B, Q, 3).
        """
        sides = _pair(size, coord)
        shift = self.phase((cell * sides).to(waves.dtype)).to(coord.dtype)  # (B, Q, D / 2)
        rows, columns = ([_nearest(coord[..., axis], side, size[axis]) for side in (-1, 1)] for axis in (0, 1))
        predictions, areas = [], []
        for row, rel_y in rows:
            for column, rel_x in columns:
                rel = torch.stack([rel_y, rel_x], dim=-1)
                predictions.append(self._predict(waves, row * size[1] + column, rel, shift))
                areas.append((rel_y * rel_x).abs() + 1e-9)
        total = torch.stack(areas).sum(0)
        # the nearer a pixel, the larger the area between the query and the pixel opposite
        weighted = [p * (a / total).unsqueeze(-1) for p, a in zip(predictions, reversed(areas), strict=True)]
        return torch.stack(weighted).sum(0)

    def _predict(
        self, waves: torch.Tensor, index: torch.Tensor, rel: torch.Tensor, shift: torch.Tensor
    ) -> torch.Tensor:
        """Predict from one pixel each: `index` (B, Q), `rel` (B, Q, 2) in pixels; returns (B, Q, 3)."""
        found = waves.gather(1, index.unsqueeze(-1).expand(-1, -1, waves.shape[-1]))  # (B, Q, 2 * D)
        amplitude, frequency = found.chunk(2, dim=-1)
        # components k have the row frequency 2k and the column frequency 2k + 1
        angle = frequency.to(rel.dtype).unflatten(-1, (-1, 2)) * rel.unsqueeze(-2)  # (B, Q, D / 2, 2)
        angle = math.pi * (angle.sum(-1) + shift)
        texture = amplitude * torch.cat([angle.cos(), angle.sin()], dim=-1).to(amplitude.dtype)
        return self.imnet(texture).to(rel.dtype)


def _nearest(place: torch.Tensor, side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the pixel half a pixel before (`side` -1) or after (1) places on an axis of `count` pixels.

    Returns:
        the index of the pixel and the distance of the place from its centre, in pixels; both like `place`.
    """
    moved = (place + (side / count + SHIFT)).clamp(-1 + SHIFT, 1 - SHIFT)
    index = ((moved + 1) * (count / 2) - 0.5).round().long().clamp(0, count - 1)
    return index, (place - pixel_centres(count, place)[index]) * count


def _pair(numbers: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """Make a tensor (2,) of two numbers, which may be symbolic sizes of a traced graph."""
    return torch.stack([torch.full((), number, dtype=like.dtype, device=like.device) for number in numbers])


def sample_bilinear(image: torch.Tensor, coord: torch.Tensor) -> torch.Tensor:
    """Read `image` (B, 3, H, W) at `coord` (B, Q, 2), rows first; returns (B, Q, 3)."""
    grid = coord.flip(-1).unsqueeze(1)  # (B, 1, Q, 2), x first
    sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.squeeze(2).transpose(1, 2)

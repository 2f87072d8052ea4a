"""Spatial-channel correlation: what the HiT-SR networks have in place of window self-attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require
from esc_arch.layers.constants import WithConstants

SMALLEST_DIM = 16  # below, the network for the position bias has no channel left


class DualFeatureExtraction(nn.Module):
    """Queries and values: the product of a bottleneck of convolutions and a linear map (HiT-SR, Sec. 3.3).

    Args:
        dim: number of channels C, at least 5.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(dim, dim // 5, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(dim // 5, dim // 5, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(dim // 5, dim, 1),
        )
        self.linear = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to queries and values (B, C, H, W), the queries in the first half of the channels."""
        return self.conv(x) * self.linear(x)


class CellPositionBias(WithConstants):
    """Bias between the pixels of a window and its cells: a small network over offsets, averaged over each cell.

    Args:
        dim: number of channels C of the features; the network has C // 4 // 4.
        window: height and width of a window.
        grid: number of cells in each direction, divisors of the window's sides.
        num_heads: number of heads h.
    """

    offsets: torch.Tensor

    def __init__(self, dim: int, window: tuple[int, int], grid: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.window = window
        self.cell = (window[0] // grid[0], window[1] // grid[1])
        width = dim // 4 // 4
        self.pos_proj = nn.Linear(2, width)
        self.pos1 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))
        self.pos2 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))
        self.pos3 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, num_heads))
        self.add_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        """Compute all offsets between two pixels of a window, (2 wh - 1, 2 ww - 1, 2)."""
        down, right = (torch.arange(1.0 - side, side) for side in self.window)
        return {"offsets": torch.stack(torch.meshgrid(down, right, indexing="ij"), dim=-1)}

    def forward(self) -> torch.Tensor:
        """Compute the biases (h, pixels of a window, cells of a window).

        The offsets between one pixel and the pixels of one cell form a rectangle in the table of all offsets. So the
        averages over cells are one average pooling of the table, and the biases of a cell are a window of the result:
        no index of all pairs of pixels is built.
        """
        table = self.pos3(self.pos2(self.pos1(self.pos_proj(self.offsets)))).permute(2, 0, 1)  # (h, 2 wh - 1, 2 ww - 1)
        means = F.avg_pool2d(table, self.cell, stride=1)
        windows = means.unfold(1, self.window[0], self.cell[0]).unfold(2, self.window[1], self.cell[1])
        return windows.flip(1, 2).flatten(3).flatten(1, 2).transpose(1, 2)  # (h, wh * ww, cells)


class SpatialChannelCorrelation(nn.Module):
    """Correlations within windows of any size, at a cost linear in the size (HiT-SR, Sec. 3.3).

    Half of the result comes from correlating the pixels of a window with a fixed number of cells, half from
    correlating channels with each other. There is no softmax.

    Args:
        dim: number of channels C, at least 16.
        window: height and width of a window.
        base: largest number of cells in each direction; the window's sides are multiples of it or not larger.
        num_heads: number of heads h of the spatial correlation, C is a multiple of 2 h.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, window: tuple[int, int], base: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        require(dim >= SMALLEST_DIM, f"dim must be at least {SMALLEST_DIM}, got {dim}")
        require(num_heads >= 1, f"num_heads must be positive, got {num_heads}")
        require(
            dim % (2 * num_heads) == 0,
            f"dim must be divisible by twice num_heads, got dim {dim} and num_heads {num_heads}",
        )
        require(min(window) >= 1 and min(base) >= 1, f"window and base must be positive, got {window} and {base}")
        self.window = window
        self.grid = (min(window[0], base[0]), min(window[1], base[1]))
        require(
            window[0] % self.grid[0] == 0 and window[1] % self.grid[1] == 0,
            f"window must be a multiple of base where it is larger, got window {window} and base {base}",
        )
        self.num_heads = num_heads
        self.qv = DualFeatureExtraction(dim)
        self.pos = CellPositionBias(dim, window, self.grid, num_heads)
        self.spatial_linear = nn.Linear(window[0] * window[1] // (self.grid[0] * self.grid[1]), 1)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Correlate within the windows of `x` (B, C, H, W), H, W multiples of the window; the shape stays."""
        batch, dim, height, width = x.shape
        rows, columns = height // self.window[0], width // self.window[1]
        qv = self.queries_and_values(x).reshape(batch, 2, dim // 2, rows, self.window[0], columns, self.window[1])
        qv = qv.permute(1, 0, 3, 5, 4, 6, 2)  # (2, B, rows, columns, wh, ww, C/2)
        q, v = qv.reshape(2, batch * rows * columns, self.window[0] * self.window[1], dim // 2).unbind(0)
        y = self.proj(torch.cat([self._correlate_cells(q, v), self._correlate_channels(q, v)], dim=-1))
        y = y.reshape(batch, rows, columns, *self.window, dim).permute(
            0, 5, 1, 3, 2, 4
        )  # (B, C, rows, wh, columns, ww)
        return y.reshape(batch, dim, height, width)

    def queries_and_values(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to queries and values of that shape, queries in the first half of the channels."""
        return self.qv(x)

    def _correlate_cells(self, q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Correlate pixels with cells, head by head: `q` and `v` (windows, L, C/2) give (windows, L, C/2)."""
        windows, length, channels = q.shape
        (rows, columns), (height, width) = self.grid, self.pos.cell
        depth = channels // self.num_heads
        v = v.reshape(windows, rows, height, columns, width, channels).permute(0, 1, 3, 5, 2, 4)
        v = self.spatial_linear(v.reshape(windows, rows * columns, channels, height * width))
        v = v.reshape(windows, rows * columns, self.num_heads, depth).transpose(1, 2)  # (windows, h, cells, d)
        q = q.reshape(windows, length, self.num_heads, depth).transpose(1, 2)  # (windows, h, L, d)
        correlation = (q / depth) @ v.transpose(-2, -1) + self.pos()  # (windows, h, L, cells)
        return (correlation @ v).transpose(1, 2).reshape(windows, length, channels)

    @staticmethod
    def _correlate_channels(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Correlate channels over the pixels of a window: `q` and `v` (windows, L, C/2) give (windows, L, C/2)."""
        correlation = q.transpose(1, 2) @ v / q.shape[1]  # (windows, C/2, C/2)
        return v @ correlation.transpose(1, 2)

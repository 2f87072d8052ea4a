"""Convolution with a large kernel, and the faster way for one that is symmetric.

A circulant matrix whose kernel is symmetric about its centre is diagonal in the basis of the discrete Hartley
transform, cas(a) = cos a + sin a, with real numbers only (Bracewell, "Discrete Hartley transform", 1983). The columns
of an image, cut into overlapping pieces of T rows, are transformed by a T x T matrix product; every frequency then has
a kernel of its own, of K instead of K x K taps, along the rows of the image; the inverse transform gives the rows of
the piece that the circular ends do not touch. For K = 13 and pieces of 44 rows this is a sixth of the operations.
Transforming along both sides would save more of them, but costs as much in moving data.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from esc_arch.fast import speedups
from esc_arch.fast.one_pass import once
from esc_arch.layers.conv_attn import DYNAMIC_SIZE, LargeKernel, dynamic_depthwise

SMALLEST_TRANSFORMED = 9  # side of the kernel from which the transform pays
BUDGET = 2**21  # bytes of the pieces that are convolved at a time, to stay in the cache; all if gradients are computed
ROWS = 32  # of the result, from one piece: many make the matrices of the transform large, few overlap much


def convolve(
    definition: Callable[[torch.Tensor, LargeKernel, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    kernel: LargeKernel,
    dynamic: torch.Tensor,
) -> torch.Tensor:
    """Do what `esc_arch.layers.conv_attn.convolve` does.

    Where the large kernel cannot be transformed, conv(x, kernel) + depthwise(x, dynamic) is one convolution with the
    sum of both kernels, the dynamic one on the diagonal of the channels and in the centre of the window. There is one
    such sum per image, so this serves a single image.
    """
    if transforms(x, kernel):
        return convolve_large(x, kernel) + dynamic_depthwise(x, dynamic)
    border = kernel.weight.shape[-1] // 2 - DYNAMIC_SIZE // 2
    if x.shape[0] > 1 or border < 0 or not speedups.active().merged:
        return definition(x, kernel, dynamic)
    diagonal = torch.diag_embed(dynamic[0].permute(1, 2, 0)).permute(2, 3, 0, 1)  # (P, P, 3, 3)
    return convolve_large(x, LargeKernel(kernel.weight + F.pad(diagonal, (border, border, border, border))))


def convolve_large(x: torch.Tensor, kernel: LargeKernel) -> torch.Tensor:
    """Convolve `x` (B, P, H, W) with the large kernel alone, padded by zeros to the same size."""
    side = kernel.weight.shape[-1]
    if not transforms(x, kernel):
        return F.conv2d(x, kernel.weight.to(x.dtype), padding=side // 2)
    height = x.shape[2]
    rows = math.ceil(height / math.ceil(height / ROWS))
    size = rows + side - 1
    with torch.autocast("cpu", enabled=False):
        spectrum = once(kernel, ("spectrum", size), lambda: transform_kernel(kernel.weight, size))
        out = convolve_transformed(x.to(kernel.weight.dtype), spectrum, rows)
    narrows = torch.is_autocast_enabled("cpu") and out.dtype == torch.float32  # autocast leaves float64 alone
    return out.to(torch.get_autocast_dtype("cpu")) if narrows else out


def transforms(x: torch.Tensor, kernel: LargeKernel) -> bool:
    """Tell whether `x` (B, P, H, W) is convolved with the large kernel by way of its transform.

    Under autocast, too, in the dtype of the kernel: that is faster than the convolution in half precision, and exact.
    """
    return transformable(x, kernel) or (torch.is_autocast_enabled("cpu") and transformable(x, kernel, torch.float32))


def transformable(x: torch.Tensor, kernel: LargeKernel, dtype: torch.dtype | None = None) -> bool:
    """Tell whether a transform of the kernel serves, if it is computed in a dtype, by default that of `x`."""
    dtype = dtype or x.dtype
    return (
        kernel.symmetric
        and kernel.weight.shape[-1] >= SMALLEST_TRANSFORMED
        and x.device.type == "cpu"
        and dtype == kernel.weight.dtype
        and dtype in (torch.float32, torch.float64)  # sums over a column lose too much in half precision
        and speedups.active().transform
    )


def hartley_matrix(size: int, like: torch.Tensor) -> torch.Tensor:
    """Return the matrix cas(2 pi f y / T), (T, T) for `size` T; its square is T times the identity."""
    index = torch.arange(size, dtype=torch.float64)
    angle = 2 * math.pi / size * (torch.outer(index, index) % size)
    return (angle.cos() + angle.sin()).to(like)


def transform_kernel(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Transform a kernel that is symmetric in y.

    Args:
        weight: (P, P, K, K).
        size: rows T of a piece of the image.

    Returns:
        (T * P, P, 1, K): a kernel along the rows for every frequency, for a convolution in T groups.
    """
    channels, _, kernel_size, _ = weight.shape
    offset = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    angle = 2 * math.pi / size * torch.outer(torch.arange(size, dtype=torch.float64), offset)
    spectrum = torch.tensordot(angle.cos().to(weight), weight, dims=([1], [2]))  # (T, P, P, K)
    return spectrum.reshape(size * channels, channels, 1, kernel_size)


def convolve_transformed(x: torch.Tensor, spectrum: torch.Tensor, rows: int) -> torch.Tensor:
    """Convolve with a transformed kernel.

    Args:
        x: (B, P, H, W).
        spectrum: from `transform_kernel`, (T * P, P, 1, K).
        rows: rows of the result from one piece, T - K + 1.

    Returns:
        (B, P, H, W).
    """
    batch, channels, height, width = x.shape
    radius = spectrum.shape[-1] // 2
    count = math.ceil(height / rows)
    x = F.pad(x.permute(0, 2, 1, 3), (0, 0, 0, 0, radius, radius + count * rows - height))  # (B, H', P, W)
    matrix = hartley_matrix(rows + 2 * radius, x)
    if torch.is_grad_enabled():
        out = _convolve_pieces(x, matrix, spectrum, rows)
    else:
        out = x.new_empty(batch, count * rows, channels, width)
        bytes_of_piece = batch * matrix.shape[0] * channels * width * x.element_size()
        step = max(BUDGET // bytes_of_piece, 1) * rows
        for top in range(0, count * rows, step):
            out[:, top : top + step] = _convolve_pieces(x[:, top : top + step + 2 * radius], matrix, spectrum, rows)
    return out[:, :height].permute(0, 2, 1, 3)


def _convolve_pieces(x: torch.Tensor, matrix: torch.Tensor, spectrum: torch.Tensor, rows: int) -> torch.Tensor:
    """Convolve rows of images, (B, N * rows + K - 1, P, W), to (B, N * rows, P, W)."""
    batch, _, channels, width = x.shape
    size, radius = matrix.shape[0], spectrum.shape[-1] // 2
    pieces = x.unfold(1, size, rows).movedim(-1, 2).reshape(-1, size, channels * width)  # (B * N, T, P * W)
    pieces = torch.bmm(matrix.expand(len(pieces), size, size), pieces)
    pieces = F.conv2d(pieces.reshape(-1, size * channels, 1, width), spectrum, padding=(0, radius), groups=size)
    inverse = matrix[radius : radius + rows] / size
    pieces = torch.bmm(inverse.expand(len(pieces), rows, size), pieces.reshape(-1, size, channels * width))
    return pieces.reshape(batch, -1, channels, width)

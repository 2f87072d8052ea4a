"""The convolution of ConvAttn with a symmetric kernel, and the 1x1 one behind it: `torch.ops.esc_arch.large_kernel`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from esc_arch.fast.kernels.loading import OPERATORS, require_bf16, require_images, require_shapes, required

NARROWEST = 16  # pixels of the narrowest images, or as many as are convolved at a time
CHANNEL_MULTIPLE = 16  # channels are filled up to a multiple of it
SPARE_ROWS = 8  # zeros below the matrices, whose rows are taken some at a time

OPERATORS.define(
    "large_kernel(Tensor(a!) out, Tensor x, Tensor dynamic, Tensor detour, Tensor spectrum, Tensor forward_cosine,"
    " Tensor forward_sine, Tensor inverse_cosine, Tensor inverse_sine, bool bf16=False) -> ()"
)


class Transformed(NamedTuple):
    """A kernel transformed along the columns of the image, with the matrices that transform images.

    With T, an even number of rows, and N = (T - K + 1)/2 + 1, all float32, SPARE_ROWS not counted, P filled up to P':

    Attributes:
        spectrum: (T/2 + 1, (K + 1)/2, P', P'), of every frequency and distance, channels in and channels out.
        forward_cosine: (T/2 + 1, T/2 + 1).
        forward_sine: (T/2 - 1, T/2 - 1).
        inverse_cosine: (N, T/2 + 1).
        inverse_sine: (N, T/2 - 1).
    """

    spectrum: torch.Tensor
    forward_cosine: torch.Tensor
    forward_sine: torch.Tensor
    inverse_cosine: torch.Tensor
    inverse_sine: torch.Tensor


def transformed(weight: torch.Tensor, rows: int) -> Transformed:
    """Transform a kernel that equals its mirror images in both directions.

    Args:
        weight: (P, P, K, K), K odd and more than 1.
        rows: rows of the result, even, from one piece of the image; T is K - 1 more.
    """
    channels, _, size, _ = weight.shape
    radius, period = size // 2, rows + size - 1
    frequency = torch.arange(period // 2 + 1, dtype=torch.float64)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    row = torch.arange(radius, radius + rows // 2 + 1, dtype=torch.float64)
    unit = 2 * math.pi / period
    spectrum = torch.tensordot((unit * torch.outer(frequency, offset)).cos().to(weight), weight, dims=([1], [2]))
    spectrum = spectrum[..., radius:].permute(0, 3, 2, 1)  # (T/2 + 1, (K + 1)/2, P, P)
    further = -channels % CHANNEL_MULTIPLE
    forward, inverse = unit * torch.outer(frequency, frequency), unit * torch.outer(row, frequency)
    share = torch.full_like(frequency, 2 / period)
    share[0] = share[-1] = 1 / period  # the others stand for their negative, too
    matrices = forward.cos(), forward.sin()[1:-1, 1:-1], inverse.cos() * share, (inverse.sin() * share)[:, 1:-1]
    return Transformed(
        F.pad(spectrum, (0, further, 0, further)).contiguous(),
        *(F.pad(matrix.to(weight), (0, 0, 0, SPARE_ROWS)) for matrix in matrices),
    )


def _large_kernel(
    out: torch.Tensor,
    x: torch.Tensor,
    dynamic: torch.Tensor,
    detour: torch.Tensor,
    spectrum: torch.Tensor,
    forward_cosine: torch.Tensor,
    forward_sine: torch.Tensor,
    inverse_cosine: torch.Tensor,
    inverse_sine: torch.Tensor,
    bf16: bool = False,
) -> None:
    """Add detour * (conv(x, kernel) + depthwise(x, dynamic)) to `out`.

    All is float32, images lie with their channels last in memory, and are padded by zeros.

    Args:
        out: (B, C, H, W).
        x: (B, P, H, W), W at least NARROWEST.
        dynamic: a kernel for every channel of every image, (B, P, 3, 3).
        detour: (C, P, 1, 1).
        spectrum: with the following four of the kernel, see `Transformed`.
        bf16: round the factors of the products with the spectrum and with `detour`, where
            `esc_arch.fast.kernels.has_bf16()`; transforms and sums stay float32.
    """
    kernels = required()
    batch, channels, height, width = x.shape
    frequencies, taps, filled, _ = spectrum.shape
    results, period = len(detour), 2 * (frequencies - 1)
    count = period // 2 - taps + 2
    if width < NARROWEST:
        raise RuntimeError(f"esc_arch::large_kernel is for images at least {NARROWEST} wide, got {tuple(x.shape)}.")
    require_images("large_kernel", out, x)
    require_shapes(
        "large_kernel",
        (x, (batch, channels, height, width)),
        (out, (batch, results, height, width)),
        (dynamic, (batch, channels, 3, 3)),
        (detour, (results, channels, 1, 1)),
        (spectrum, (frequencies, taps, *[channels + -channels % CHANNEL_MULTIPLE] * 2)),
        (forward_cosine, (frequencies + SPARE_ROWS, frequencies)),
        (forward_sine, (frequencies - 2 + SPARE_ROWS, frequencies - 2)),
        (inverse_cosine, (count + SPARE_ROWS, frequencies)),
        (inverse_sine, (count + SPARE_ROWS, frequencies - 2)),
    )
    if bf16:
        require_bf16("large_kernel", channels)
    threads = torch.get_num_threads()
    sizes = channels, filled, results, taps, period, threads
    memory = torch.empty(kernels.esc_large_kernel_workspace(*sizes, bf16))
    given = spectrum, forward_cosine, forward_sine, inverse_cosine, inverse_sine, detour, x, dynamic
    ready = [*(tensor.contiguous() for tensor in given[:6]), x, dynamic.contiguous(), memory, out]
    kernels.esc_large_kernel(batch, height, width, *sizes, *(tensor.data_ptr() for tensor in ready), bf16)


OPERATORS.impl("large_kernel", _large_kernel, "CPU")
torch.library.register_fake("esc_arch::large_kernel", lambda *arguments: None, lib=OPERATORS)  # it writes only

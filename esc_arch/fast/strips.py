"""Processing images in strips of rows, so that what lies between two layers stays in the cache."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.fast import speedups
from esc_arch.layers.reflect import next_multiple

# Bytes of the widest activation of a strip. On a CPU a few of them fit into the second-level cache of a core; on a GPU
# there is nothing to gain but memory, and launching kernels on little data costs time.
BUDGET = {"cpu": 3 * 2**19}
BUDGET_ELSEWHERE = 2**28


@dataclasses.dataclass(frozen=True)
class Strip:
    """Some rows of some images of a batch.

    Attributes:
        images: which images.
        rows: which rows.
        above: further rows above them that exist and are needed to compute these.
        below: likewise below.
    """

    images: slice
    rows: slice
    above: int = 0
    below: int = 0

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of `x` (B, C, H, W), a view."""
        return x[self.images, :, self.rows]

    def with_context(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of `x` (B, C, H, W) and those needed around them, a view."""
        return x[self.images, :, self.rows.start - self.above : self.rows.stop + self.below]


def cut(x: torch.Tensor, channels: int, context: int = 0, multiple: int = 1) -> Iterator[Strip]:
    """Cut a batch into strips: several images, or rows of one; the whole batch if there are gradients to compute.

    Args:
        x: (B, C, H, W).
        channels: of the widest activation between input and result.
        context: rows above and below that a convolution needs.
        multiple: strips start at multiples of so many rows.

    Yields:
        strips that cover the batch, from top to bottom.
    """
    batch, _, height, width = x.shape
    row = max(channels, 1) * width * x.element_size()
    whole = torch.is_grad_enabled() or not speedups.active().strips
    budget = batch * height * row if whole else BUDGET.get(x.device.type, BUDGET_ELSEWHERE)
    most = max(budget // (row * multiple), 1) * multiple
    # strips of about the same height
    rows = min(next_multiple(math.ceil(height / math.ceil(height / most)), multiple), height)
    images = max(budget // (row * height), 1) if rows == height else 1
    for first in range(0, batch, images):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            yield Strip(
                slice(first, min(first + images, batch)),
                slice(top, bottom),
                min(context, top),
                min(context, height - bottom),
            )


class Assembly:
    """A result that is put together from strips.

    Args:
        like: (B, C, H, W), gives batch, size and memory format; the first part gives channels and dtype.
        memory: is overwritten by the result if it fits; fresh memory costs more time than what is done with it.
    """

    def __init__(self, like: torch.Tensor, memory: torch.Tensor | None = None) -> None:
        self.like = like
        self._memory = memory
        self._whole: torch.Tensor | None = None

    def put(self, strip: Strip, part: torch.Tensor) -> None:
        """Put in the rows of a strip; a part that is all there is, is taken as it is."""
        batch, _, height, width = self.like.shape
        if part.shape[0] == batch and part.shape[2] == height:
            self._whole = part
            return
        if self._whole is None:
            shape, layout = torch.Size((batch, part.shape[1], height, width)), memory_format(self.like)
            if self._memory is not None and self._memory.shape == shape and self._memory.dtype == part.dtype:
                self._whole = self._memory
            else:
                self._whole = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout)
        strip.of(self._whole).copy_(part)

    @property
    def whole(self) -> torch.Tensor:
        """The result (B, C', H, W)."""
        assert self._whole is not None, "no strip was put in"
        return self._whole


def convolve_rows(conv: nn.Conv2d, x: torch.Tensor, above: int, below: int) -> torch.Tensor:
    """Convolve a strip as a part of its image.

    Args:
        conv: pads by zeros to the same size.
        x: (B, C, above + H + below, W).
        above: rows of `x` around the strip, up to half of the kernel; where they are fewer, the image ends.
        below: likewise at the bottom.

    Returns:
        (B, C', H, W).
    """
    padding = conv.kernel_size[0] // 2
    if above == below == 0:
        return conv(x)
    if above + below < 2 * padding:
        x = F.pad(x, (0, 0, padding - above, padding - below))
    return F.conv2d(x, conv.weight, conv.bias, padding=(0, padding), groups=conv.groups)


def memory_format(x: torch.Tensor) -> torch.memory_format:
    """Tell the memory format of a batch of images."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Lay images (B, C, H, W) out with their channels last in memory, and strides that say so.

    Along an axis of one element any stride will do, and `contiguous` leaves it: a single picture that comes from
    (H, W, C) has one with which convolutions do not take it for one with channels last.
    """
    _, channels, height, width = x.shape
    strides = height * width * channels, 1, width * channels, channels
    return x if x.stride() == strides else x.clone(memory_format=torch.channels_last)

"""Reflection of images at their borders, also where they are smaller than what is asked for."""

from __future__ import annotations

import torch


def reflect_axis(x: torch.Tensor, dim: int, start: int, stop: int) -> torch.Tensor:
    """Read positions `start` to `stop` - 1 of a dimension, reflecting as often as necessary (numpy's "reflect").

    A dimension of a single entry is repeated.

    Args:
        x: any tensor.
        dim: the dimension.
        start: first position, may be negative.
        stop: the position after the last, may exceed the size.

    Returns:
        a tensor like `x` with `stop` - `start` entries in `dim`.
    """
    position = torch.arange(start, stop, device=x.device).abs()
    # a tensor and not a number, which ONNX could not divide by and TorchScript would take for a constant
    period = (torch.zeros_like(position) + (2 * x.shape[dim] - 2)).clamp(min=1)
    position = position % period
    return x.index_select(dim, torch.minimum(position, period - position))

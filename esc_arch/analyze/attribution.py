"""Local attribution: how much each pixel of the input counts for what a network draws in a window of its output.

Source: Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps" (CVPR 2021), Sec. 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from esc_arch.analyze.photographs import Array, Box

EPSILON = 1e-6  # under the root: an edge of 1/1000 of the range of an image
SAMPLES = 400  # of the path, to measure how much it changes
POINTS = 2  # of the Gauss-Legendre rule on each segment, which is exact for cubic functions
TOLERANCE, FURTHER = 0.005, 4

Network = Callable[[torch.Tensor], torch.Tensor]


class Attribution(NamedTuple):
    """What the pixels of an input count for.

    Attributes:
        pixels: (3, h, w), how much each value adds to the detector.
        difference: of the detector between the sharp and the blurred input, which the attributions sum up to.
    """

    pixels: Array
    difference: float

    @property
    def incompleteness(self) -> float:
        """How far the sum is from the difference, as a part of it."""
        return abs(float(self.pixels.sum()) - self.difference) / max(abs(self.difference), np.finfo(float).tiny)

    @property
    def map(self) -> Array:
        """How much each pixel counts (h, w), whatever the sign, its colours together."""
        return np.abs(self.pixels.sum(axis=0))


@dataclass(frozen=True, eq=False)
class _Node:
    image: torch.Tensor
    detected: float


@dataclass(frozen=True, eq=False)
class _Segment:
    before: _Node
    after: _Node
    pixels: Array

    @property
    def missed(self) -> float:
        """How much the attributions sum up to beyond the difference of the detector."""
        return float(self.pixels.sum()) - (self.after.detected - self.before.detected)


def edges(image: torch.Tensor, window: Box) -> torch.Tensor:
    """Detect gradients: the sum of their magnitudes within a window, which sees no pixel outside of it.

    Args:
        image: (B, C, H, W).
        window: within the image, at least 2 pixels wide and high.

    Returns:
        (B,).
    """
    left, top, width, height = window
    part = image[..., top : top + height, left : left + width]
    down = part[..., 1:, :-1] - part[..., :-1, :-1]
    right = part[..., :-1, 1:] - part[..., :-1, :-1]
    return (down**2 + right**2 + EPSILON).sqrt().flatten(1).sum(1)


def blurred_path(image: Array, sigma: float, segments: int) -> list[Array]:
    """Walk from the blurred to the sharp image by ever narrower Gaussians, in steps of equal change.

    Args:
        image: (C, h, w).
        sigma: of the Gaussian at the beginning, in pixels.
        segments: number of steps.

    Returns:
        `segments` + 1 images, of which the last is the sharp one. Each step is equally long (Euclidean distance).
    """

    def blurred(width: float) -> Array:
        return gaussian_filter(image.astype(np.float64), (0, width, width)) if width > 0 else image.astype(np.float64)

    sigmas = sigma * np.linspace(1, 0, SAMPLES + 1)
    samples = [blurred(width) for width in sigmas]
    steps = [float(np.linalg.norm(after - before)) for before, after in pairwise(samples)]
    length = np.concatenate([[0.0], np.cumsum(steps)])
    if length[-1] == 0:
        return [samples[-1]] * (segments + 1)  # the image is of one colour
    chosen = np.interp(np.linspace(0, length[-1], segments + 1), length, sigmas)
    chosen[0], chosen[-1] = sigma, 0
    return [blurred(width) for width in chosen]


def attribute(
    network: Network, lq: torch.Tensor, window: Box, sigma: float, steps: int, done: Callable[[], None] = lambda: None
) -> Attribution:
    """Attribute what a network draws in a window to the pixels of its input.

    Gradients of the detector are integrated along the path from the blurred to the sharp input: along each of its
    segments by captum, with `POINTS` gradients. While the sum of the attributions misses the difference of the
    detector by more than `TOLERANCE`, the segment that misses most is halved, at most `FURTHER` times for each of the
    path.

    Args:
        network: from (B, 3, h, w) to (B, 3, S * h, S * w).
        lq: (1, 3, h, w).
        window: of the output.
        sigma: of the blur at the beginning of the path, in pixels of the input.
        steps: number of gradients at first, an even one.
        done: is called after each segment of the path.

    Returns:
        the attributions.
    """
    from captum.attr import IntegratedGradients

    path = blurred_path(lq[0].cpu().numpy(), sigma, steps // POINTS)
    integrate = IntegratedGradients(lambda image: edges(network(image), window), multiply_by_inputs=True)

    def detected(image: torch.Tensor) -> float:
        with torch.no_grad():
            return edges(network(image), window).double().item()

    def segment(before: _Node, after: _Node) -> _Segment:
        pixels = integrate.attribute(after.image, before.image, n_steps=POINTS, method="gausslegendre")
        return _Segment(before, after, pixels[0].detach().double().cpu().numpy())

    images = [torch.from_numpy(image).to(lq)[None] for image in path]
    nodes = [_Node(image, detected(image)) for image in images]
    segments = []
    for before, after in pairwise(nodes):
        segments.append(segment(before, after))
        done()
    difference = nodes[-1].detected - nodes[0].detected
    for _ in range(FURTHER * len(segments)):
        if abs(sum(part.missed for part in segments)) <= TOLERANCE * abs(difference):
            break
        worst = max(segments, key=lambda part: abs(part.missed))
        segments.remove(worst)
        image = (worst.before.image + worst.after.image) / 2
        middle = _Node(image, detected(image))
        segments += [segment(worst.before, middle), segment(middle, worst.after)]
    return Attribution(np.sum([part.pixels for part in segments], axis=0), difference)


def gini(values: Array) -> float:
    """Measure how unequal values are, none of them negative: 0 where all are the same, 1 - 1/n where n - 1 are 0."""
    ordered = np.sort(values.astype(np.float64), axis=None)
    count, total = ordered.size, float(ordered.sum())
    if total == 0:
        return 0.0
    return float(((2 * np.arange(1, count + 1) - count - 1) * ordered).sum() / (count * total))


def diffusion_index(values: Array) -> float:
    """Return (1 - Gini coefficient) * 100, the higher the wider the pixels that count are spread (Sec. 3.4)."""
    return (1 - gini(values)) * 100


def holding(values: Array, share: float) -> int:
    """Count the fewest pixels that hold a share of the sum of `values`, none of them negative."""
    descending = np.sort(values.astype(np.float64), axis=None)[::-1]
    sums = np.cumsum(descending)
    return int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12))) + 1 if sums[-1] > 0 else 0

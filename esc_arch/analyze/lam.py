"""Local attribution maps: which pixels of the input count for a window of the output."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from esc_arch.analyze import style
from esc_arch.analyze.attribution import POINTS, Attribution, attribute, diffusion_index, holding
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Array, Box, Photograph, to_tensor
from esc_arch.analyze.places import add_place_argument, common_scale, require_inside, surrounding
from esc_arch.analyze.result import Job, Result, Step
from esc_arch.common.arguments import positive
from esc_arch.common.errors import UserError

WINDOW = 16  # GT pixels, as published
SIGMA = 1.2  # of the published code
SHARE = 0.9
SPREAD = 2.0  # LQ pixels, of the Gaussian that makes an area of pixels
COMPLETE = 0.01
MODULES = ("captum",)
OF_GRADIENTS = True
SIDE = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this figure can be told."""
    default = f"the {WINDOW} x {WINDOW} with the strongest edges around the middle"
    add_place_argument(parser, "--window", f"of the output, in its pixels ({default})")
    parser.add_argument(
        "--steps", type=positive, default=32, metavar="N", help="gradients along the path (%(default)s)"
    )
    parser.add_argument("--sigma", type=float, default=SIGMA, help="LQ pixels, blur at its beginning (%(default)s)")


def prepare(args: argparse.Namespace, subjects: list[Subject], photographs: list[Photograph]) -> Job:
    """Check what was given.

    Raises:
        UserError: the networks have different scales, or the window is not in the picture.
    """
    scale = common_scale(subjects)
    photograph = photographs[0]
    if not 0 < args.sigma < math.inf:
        raise UserError(f"--sigma must be a positive number of pixels, got {args.sigma}.")
    lq = photograph.lq(scale)
    width, height = lq.shape[1] * scale, lq.shape[0] * scale
    window = args.window or _strongest(photograph.name, lq, scale)
    require_inside(window, width, height, photograph.name, "--window", smallest=2)
    left, top, *sides = surrounding(window, lq.shape[1], lq.shape[0], scale, args.side)
    lq = lq[top : top + sides[1], left : left + sides[0]]
    seen = (window[0] - left * scale, window[1] - top * scale, window[2], window[3])
    segments = -(-args.steps // POINTS)

    def run(step: Step) -> Result:
        found = [
            attribute(subject, to_tensor(lq, subject.device), seen, args.sigma, segments * POINTS, step)
            for subject in subjects
        ]
        return _result(subjects, found, photograph, lq, seen, window, scale)

    return Job(len(subjects) * segments, run)


def _strongest(name: str, lq: Array, scale: int) -> Box:
    """Find the window with the strongest edges, no nearer to the border than a quarter of the picture."""
    height, width = lq.shape[:2]
    if min(height, width) * scale < WINDOW:
        raise UserError(
            f"{name} is smaller than the window of {WINDOW} x {WINDOW} pixels; choose a larger picture, or a smaller "
            "window by --window."
        )
    grey, side = lq.mean(axis=2), -(-WINDOW // scale)
    strength = np.zeros_like(grey)
    strength[:-1, :-1] = np.hypot(np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1])
    places = [(left, top) for top in _middle(height, side) for left in _middle(width, side)]
    left, top = max(places, key=lambda place: float(strength[place[1] :, place[0] :][:side, :side].sum()))
    return min(left * scale, width * scale - WINDOW), min(top * scale, height * scale - WINDOW), WINDOW, WINDOW


def _middle(length: int, side: int) -> range:
    """Say where windows may start along an axis."""
    first = min(length // 4, (length - side) // 2)
    return range(first, max(length - side - first, first) + 1, max(side // 2, 1))


def _result(
    subjects: list[Subject],
    found: list[Attribution],
    photograph: Photograph,
    lq: Array,
    seen: Box,
    window: Box,
    scale: int,
) -> Result:
    areas = [gaussian_filter(attribution.map, SPREAD) for attribution in found]
    entries: list[dict[str, Any]] = []
    sentences = []
    for subject, attribution in zip(subjects, found, strict=True):
        entry = {
            "network": subject.title,
            "diffusion_index": diffusion_index(attribution.map),
            "pixels_with_90_percent": holding(attribution.map, SHARE),
            "sum_of_attributions": float(attribution.pixels.sum()),
            "difference_of_detector": attribution.difference,
            "incompleteness": attribution.incompleteness,
        }
        entries.append(entry)
        sentences.append(
            f"{subject.title}: diffusion index {entry['diffusion_index']:.2f}, 90 % of the attribution in "
            f"{entry['pixels_with_90_percent']} of {attribution.map.size} pixels."
        )
        if attribution.incompleteness > COMPLETE:
            sentences.append(
                f"{subject.title}: the attributions miss {attribution.incompleteness:.1%} of the difference that they "
                "should sum up to; raise --steps."
            )
    summary = {
        "picture": photograph.name,
        "scale": scale,
        "window": list(window),
        "window_in_part": list(seen),
        "lq_pixels": [lq.shape[1], lq.shape[0]],
        "networks": entries,
    }
    arrays: dict[str, Array] = {"lq": lq}
    for number, (attribution, area) in enumerate(zip(found, areas, strict=True)):
        arrays[f"attributions_{number}"] = attribution.pixels
        arrays[f"area_{number}"] = area
    return Result(_draw(subjects, found, areas, lq, seen, scale), arrays, summary, sentences)


def _draw(
    subjects: list[Subject], found: list[Attribution], areas: list[Array], lq: Array, seen: Box, scale: int
) -> Any:
    columns = len(subjects) + 1
    width = style.COLUMN if columns <= 4 else style.PAGE
    ratio = lq.shape[0] / lq.shape[1]
    figure, axes = style.panels(2, columns, width / columns * ratio + 0.2)
    grey = lq.mean(axis=2)
    left, top, *sides = (value / scale for value in seen)
    style.show(axes[0, 0], lq)
    axes[0, 0].set_title("LQ and window")
    style.mark(axes[0, 0], left, top, *sides)
    style.show(axes[1, 0], grey, cmap="gray", vmin=0, vmax=1)
    style.mark(axes[1, 0], left, top, *sides)
    axes[0, 0].set_ylabel("attribution")
    axes[1, 0].set_ylabel("area")
    for column, (subject, attribution, area) in enumerate(zip(subjects, found, areas, strict=True), 1):
        style.show(axes[0, column], style.over(grey, attribution.map))
        style.show(axes[1, column], style.over(grey, area, style.OTHER_MAP))
        axes[0, column].set_title(style.wrapped(subject.title, width / columns))
        axes[1, column].set_xlabel(f"DI {diffusion_index(attribution.map):.1f}")
        for row in (0, 1):
            style.mark(axes[row, column], left, top, *sides)
    return figure

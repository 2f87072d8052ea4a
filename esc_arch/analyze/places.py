"""Places in pictures, as the command line gives them, and whether pictures are large enough."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Box, Photograph, central
from esc_arch.common.errors import UserError


def add_place_argument(parser: argparse.ArgumentParser, option: str, told: str) -> None:
    """Add an option that takes a place in a picture, with what its help tells."""
    parser.add_argument(option, type=box, metavar="X,Y,W,H", help=told)


def box(text: str) -> Box:
    """Read "X,Y,W,H", as a `type` of argparse."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H: left, top, width and height in pixels")
    left, top, width, height = (int(part) for part in parts)
    return left, top, width, height


def require_inside(place: Box, width: int, height: int, name: str, option: str, smallest: int = 1) -> None:
    """Check that a place lies within a picture of `width` x `height`.

    Raises:
        UserError: it does not, or is smaller than `smallest` pixels a side.
    """
    left, top, wide, high = place
    if min(wide, high) < smallest:
        raise UserError(f"{option}: {wide} x {high} pixels are too few; give at least {smallest} x {smallest}.")
    if left + wide > width or top + high > height:
        raise UserError(
            f"{option}: {wide} x {high} pixels at {left},{top} are not within {name}, which has {width} x {height}; "
            "choose another place or picture."
        )


def require_sides(photographs: Sequence[Photograph], subjects: Sequence[Subject], side: int, smallest: int) -> None:
    """Check that what each network sees of each picture, the `side` x `side` LQ pixels in the middle, is large enough.

    Raises:
        UserError: it has fewer than `smallest` LQ pixels a side.
    """
    for photograph in photographs:
        for subject in subjects:
            if min(central(photograph.lq(subject.scale), side).shape[:2]) < smallest:
                raise UserError(
                    f"{photograph.name} is smaller than {smallest} LQ pixels a side; choose a larger picture or --side."
                )


def common_scale(subjects: list[Subject]) -> int:
    """Return the scale of all networks.

    Raises:
        UserError: they have several.
    """
    scales = {subject.scale: subject.label for subject in subjects}
    if len(scales) > 1:
        several = " and ".join(f"x{scale} ({label})" for scale, label in scales.items())
        raise UserError(f"The networks enlarge by different factors, {several}; choose networks of one scale.")
    return next(iter(scales))


def surrounding(window: Box, width: int, height: int, scale: int, side: int) -> Box:
    """Choose the part of LQ around a window of the output.

    Args:
        window: in pixels of the output, within the picture.
        width, height: of LQ.
        scale: between the two.
        side: of the part in LQ pixels, which grows with the window; 0 for all of LQ.

    Returns:
        the part in LQ pixels, with the window as near to its middle as the picture allows.
    """
    parts = []
    for first, length, whole in ((window[0], window[2], width), (window[1], window[3], height)):
        begin, end = first // scale, -(-(first + length) // scale)
        extent = min(max(side, end - begin), whole) if side else whole
        middle = (begin + end) // 2
        parts.append((min(max(middle - extent // 2, 0), whole - extent), extent))
    (left, wide), (top, high) = parts
    return left, top, wide, high

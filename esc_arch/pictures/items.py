"""What the boxes of an AVIF or HEIC say of its main picture (ISO/IEC 14496-12, 23008-12)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction

import numpy as np

from esc_arch.pictures.jpeg2000 import boxes
from esc_arch.pictures.picture import Pixels, Resolution
from esc_arch.pictures.upright import turn_upright

Property = tuple[bytes, bytes]  # name and content

_FULL = 4  # bytes of version and flags
_STEPS = {b"clap": 32, b"irot": 1, b"imir": 1}  # properties that change what is seen, and their bytes
_ROTATIONS, _MIRRORS = (1, 8, 3, 6), (4, 2)  # the orientations of EXIF that irot and imir mean


def main_properties(data: bytes) -> tuple[list[Property], list[Property]]:
    """Return the properties of the main picture in their order, and those of the first part where it is made of parts.

    Args:
        data: the file; of a damaged one nothing may be found.
    """
    with suppress(struct.error, IndexError, KeyError):
        meta = dict(boxes(dict(boxes(data))[b"meta"][_FULL:]))
        parts = list(boxes(meta[b"iprp"]))
        stored = list(boxes(dict(parts)[b"ipco"]))
        main = int.from_bytes(meta[b"pitm"][_FULL:], "big")
        first = next((part for *found, part in _references(meta.get(b"iref", b"")) if found == [b"dimg", main]), None)
        owned: dict[int | None, list[int]] = {}
        for name, content in parts:
            for item, indices in _associations(content) if name == b"ipma" else ():
                owned.setdefault(item, []).extend(index - 1 for index in indices if 0 < index <= len(stored))
        own, below = ([stored[index] for index in owned.get(item, ())] for item in (main, first))
        return own, below
    return [], []


def _associations(content: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield items and the numbers of their properties, counted from 1 (23008-12, section 9.3)."""
    item_format, wide = ">H" if content[0] < 1 else ">I", content[3] & 1
    (count,) = struct.unpack_from(">I", content, _FULL)
    position = _FULL + 4
    for _ in range(count):
        (item,) = struct.unpack_from(item_format, content, position)
        position += struct.calcsize(item_format)
        indices = struct.unpack_from(f">{content[position]}{'H' if wide else 'B'}", content, position + 1)
        position += 1 + len(indices) * (2 if wide else 1)
        yield item, [index & (0x7FFF if wide else 0x7F) for index in indices]


def _references(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield what refers to what, and the kind of it (14496-12, section 8.11.12)."""
    kind = "H" if content[:1] == b"\0" else "I"
    for name, reference in boxes(content[_FULL:]):
        item, count = struct.unpack_from(f">{kind}H", reference)
        for part in struct.unpack_from(f">{count}{kind}", reference, struct.calcsize(f">{kind}H")):
            yield name, item, part


def steps_of(properties: Sequence[Property]) -> list[Property]:
    """Choose the properties that crop, turn and mirror, which count in their order (23008-12, section 6.3)."""
    return [(name, content) for name, content in properties if len(content) == _STEPS.get(name)]


def orientation_of_steps(steps: Sequence[Property]) -> int:
    """Return what turns and mirrors amount to, 1 to 8 as EXIF numbers it."""
    corners: Pixels = np.arange(4).reshape(2, 2, 1)
    turned = show(corners, [step for step in steps if step[0] != b"clap"], [])
    return next(number for number in range(1, 9) if (turn_upright(corners, number) == turned).all())


def show(pixels: Pixels, steps: Sequence[Property], notes: list[str]) -> Pixels:
    """Make of decoded pixels what is to be seen.

    Args:
        pixels: (H, W, C).
        steps: as `steps_of` returns them.
        notes: gets a sentence where a step cannot be taken.

    Returns:
        contiguous pixels, (H', W', C).
    """
    for name, content in steps:
        if name == b"clap":
            pixels = _cropped(pixels, content, notes)
        else:
            choices = _ROTATIONS if name == b"irot" else _MIRRORS
            pixels = turn_upright(pixels, choices[content[0] % len(choices)])
    return np.ascontiguousarray(pixels)


def _cropped(pixels: Pixels, content: bytes, notes: list[str]) -> Pixels:
    """Cut the clean aperture out: its width and height, and how far its middle is from that of the picture."""
    numbers = struct.unpack(">IIIIiIiI", content)
    if all(numbers[1::2]):
        wide, high, right, down = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
        (top, bottom), (left, end) = (
            tuple(math.floor((length - side) / 2 + off + part + Fraction(1, 2)) for part in (0, side))
            for length, side, off in ((pixels.shape[0], high, down), (pixels.shape[1], wide, right))
        )
        if 0 <= top < bottom <= pixels.shape[0] and 0 <= left < end <= pixels.shape[1]:
            return pixels[top:bottom, left:end]
    notes.append("its clean aperture (clap) does not lie within it; all of the picture is taken")
    return pixels


def resolution_of_shape(properties: Sequence[Property], resolution: Resolution | None) -> Resolution | None:
    """Make a resolution agree with the shape of a pixel (`pasp`: its width and height, 14496-12, section 12.1.4).

    Args:
        properties: of the picture.
        resolution: of the stored pixels.

    Returns:
        the same where nothing is said, or pixels are square.
    """
    found = dict(reversed(properties)).get(b"pasp", b"")
    width, height = struct.unpack(">II", found) if len(found) == 8 else (1, 1)
    if width == height or not width or not height:
        return resolution
    if resolution is None:
        return Resolution(float(height), float(width), "")
    return Resolution(resolution.x, resolution.x * width / height, resolution.unit)

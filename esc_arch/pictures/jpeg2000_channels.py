"""What the channels of a JPEG 2000 picture mean, of which Pillow asks for a part (ISO/IEC 15444-1, A.5.1 and I.5.3)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.pictures.jpeg2000 import CODE_STREAM, FILE, boxes
from esc_arch.pictures.picture import Pixels
from esc_arch.pictures.ranges import divide_by_alpha

SYCC = 18  # an enumerated space of colours, brightness and colour differences of sRGB
_KNOWN = (0, 12, 16, 17, SYCC)  # none that is enumerated, CMYK, sRGB, grey
_NAMES = {11: "CMY", 13: "YCCK", 14: "CIE L*a*b*", 19: "CIE CAM", 20: "e-sRGB", 21: "ROMM RGB", 24: "e-sYCC"}
_SPACES_OF_PROFILES = (b"GRAY", b"RGB ", b"CMYK")
_COLOUR, _OPACITY, _MULTIPLIED = 0, 1, 2  # kinds of a channel
_WHOLE = 0  # what an opacity is of
_ENUMERATED_SYCC = re.compile(rb"(colr\x01..)\0\0\0\x12", re.DOTALL)


@dataclass(frozen=True)
class Channels:
    """The channels of a picture.

    Args:
        space: number of the enumerated space of colours, 0 where there is none.
        definitions: kind of each channel and the colour that it is, from 1 on; empty where nothing is said.
        steps: pixels across and down for a sample of each component.
        edges: across and down, where the picture and its tiles begin and end.
    """

    space: int = 0
    definitions: tuple[tuple[int, int], ...] = ()
    steps: tuple[tuple[int, int], ...] = ()
    edges: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    def require_known(self, file: str, profile: bytes) -> None:
        """Raise UserError where the colours would be taken for others, or no decoder gives them."""
        named = profile[16:20] if profile[36:40] == b"acsp" else b""  # a damaged one says nothing
        unknown = named not in _SPACES_OF_PROFILES if named else self.space not in _KNOWN
        if unknown:
            name = named.decode("ascii", "replace").strip() if named else _NAMES.get(self.space)
            raise UserError(
                f"{file} is a JPEG 2000 of {name or f'colours of the kind {self.space}'}, which is not read; convert "
                "it to RGB."
            )
        if self.steps and self.steps[0] != (1, 1):
            raise UserError(f"{file} is a JPEG 2000 with samples of more than a pixel, which is not read; convert it.")

    @property
    def lie_between(self) -> bool:
        """Whether pixels of colour differences are shared across an edge, which Pillow does not reckon with."""
        return any(edge % step[axis] for step in self.steps for axis in (0, 1) for edge in self.edges[axis])

    def arrange(self, pixels: Pixels, *, is_ordered: bool) -> Pixels:
        """Put channels in the order of colours and alpha, without those that are neither; alpha is divided out.

        Args:
            pixels: (H, W, C), uint8 or uint16.
            is_ordered: the decoder has put colours in order already, with what else there is behind them.
        """
        if len(self.definitions) != pixels.shape[2]:
            return pixels
        colours = sorted((colour, index) for index, (kind, colour) in enumerate(self.definitions) if kind == _COLOUR)
        others = [index for index, (kind, _) in enumerate(self.definitions) if kind != _COLOUR]
        if [colour for colour, _ in colours] != list(range(1, len(colours) + 1)) or not colours:
            return pixels
        order = [*(index for _, index in colours), *others]
        alphas = [
            (place, kind)
            for place, (kind, of) in enumerate(self.definitions[index] for index in order)
            if kind in (_OPACITY, _MULTIPLIED) and of == _WHOLE
        ][:1]
        places = [*range(len(colours)), *(place for place, _ in alphas)]
        chosen = places if is_ordered else [order[place] for place in places]
        if chosen != list(range(pixels.shape[2])):
            pixels = np.ascontiguousarray(pixels[..., chosen])
        return divide_by_alpha(pixels) if alphas and alphas[0][1] == _MULTIPLIED else pixels


def read_channels(data: bytes) -> Channels:
    """Read what a file, or a code stream alone, says of its channels.

    Raises:
        struct.error: the header is cut off.
    """
    space, definitions, looked_up = 0, dict[int, tuple[int, int]](), False
    for name, content in boxes(data) if data.startswith(FILE) else ():
        for inner, part in boxes(content) if name == b"jp2h" else ():
            if inner == b"colr" and part[:1] == b"\1" and not space and len(part) >= 7:
                space = int.from_bytes(part[3:7], "big")
            elif inner == b"cdef":
                entries = struct.iter_unpack(">3H", part[2 : 2 + (len(part) - 2) // 6 * 6])
                definitions = {channel: (kind, colour) for channel, kind, colour in entries}
            looked_up = looked_up or inner == b"pclr"
    start = data.find(CODE_STREAM) + len(CODE_STREAM)
    *sides, components = struct.unpack_from(">8IH", data, start + 4)
    steps = tuple(struct.unpack_from(">BB", data, start + 39 + 3 * index) for index in range(components))
    edges = tuple(_edges(*sides[axis::2]) for axis in (0, 1))
    count = len(definitions)
    listed = tuple(definitions[index] for index in range(count)) if set(definitions) == set(range(count)) else ()
    return Channels(space, () if looked_up else listed, steps, (edges[0], edges[1]))


def _edges(end: int, start: int, tile: int, first: int) -> tuple[int, ...]:
    return (end, start) if first + tile >= end else (end, start, tile, first)


def with_plain_space(data: bytes) -> bytes:
    """Say that brightness and colour differences are RGB, so that a decoder leaves them as they are."""
    return _ENUMERATED_SYCC.sub(lambda found: found[1] + b"\0\0\0\x10", data, count=1)


def without_signs(data: bytes) -> bytes:
    """Say that samples have no sign: a decoder then puts the middle of their range where it belongs (section G.1)."""
    known = bytearray(data)
    start = data.find(CODE_STREAM) + len(CODE_STREAM)
    (components,) = struct.unpack_from(">H", data, start + 36)
    for index in range(components):
        known[start + 38 + 3 * index] &= 0x7F
    return bytes(known)

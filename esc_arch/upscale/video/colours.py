"""Frames as RGB in floating point numbers, and back: by the matrix and the range that a video states.

Own arithmetic, since swscale rounds through 8 bits on the way to RGB, dithers on the way back, and takes chroma for
centred where H.264 and its successors mean it to lie on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Pixels

RGB, UNSPECIFIED = 0, 2
MATRICES = {  # of ITU-T H.273: the parts of red and blue in luma
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
BT709, BT601 = 1, 6
SMALL = (576, 1279)  # height, width up to which players take BT.601 where nothing is stated
LIMITED, FULL = 1, 2  # ranges
DEPTHS = ("", "9le", "10le", "12le", "14le", "16le")
LAYOUTS = [
    *(f"{kind}{depth}" for kind in ("yuv420p", "yuv422p", "yuv444p") for depth in DEPTHS),
    *(f"yuv440p{depth}" for depth in ("", "10le", "12le")),
    "yuv410p",
    "yuv411p",
    *(f"gbrp{depth}" for depth in DEPTHS),
    *(f"gray{depth}" for depth in DEPTHS),
]


@dataclass(frozen=True)
class Colours:
    """What the numbers of a frame mean.

    Args:
        matrix: of H.273; one of MATRICES, or RGB.
        full: whether they fill the whole range, and not that from 16 to 235 (240 for chroma) of 8 bits.
        centred: whether chroma lies in the middle of its pixels, as in JPEG, and not on the left.
        primaries: of H.273, carried along.
        transfer: of H.273, carried along.
    """

    matrix: int
    full: bool
    centred: bool = False
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @classmethod
    def of(cls, frame: Any, codec: str) -> Colours:
        """Read what a frame states. Where it states nothing, BT.601 or BT.709 by its size, as players do.

        Raises:
            UserError: the matrix is one that is not linear, or unknown.
        """
        kind = _kind(frame.format.name)
        matrix, full = int(frame.colorspace), int(frame.color_range) == FULL
        if kind == "rgb":
            matrix, full = RGB, int(frame.color_range) != LIMITED
        elif kind == "gray":
            matrix, full = matrix if matrix in MATRICES else BT709, int(frame.color_range) != LIMITED
        elif matrix in (RGB, UNSPECIFIED):
            matrix = BT601 if frame.height <= SMALL[0] and frame.width <= SMALL[1] else BT709
        if matrix != RGB and matrix not in MATRICES:
            raise UserError(
                f"colours are stated by matrix {matrix} of H.273, which is not known here; convert it first."
            )
        jpeg = frame.format.name.startswith("yuvj") or codec == "mjpeg"
        return cls(matrix, full or jpeg, jpeg, int(frame.color_primaries), int(frame.color_trc))


def layout_of(name: str, possible: Sequence[str] = LAYOUTS) -> str:
    """Return the one of some layouts that holds the pixels of a format with the least loss, and then in the least room.

    Args:
        name: of the format.
        possible: some of LAYOUTS.
    """
    plain = name.replace("yuvj", "yuv")
    if plain in possible:
        return plain
    import av

    source = av.VideoFormat(name)

    def cost(layout: str) -> tuple[bool, int, int, int, int]:
        there = av.VideoFormat(layout)
        (rows, columns), (of_rows, of_columns) = step_of(there), step_of(source)
        shared = max(rows - of_rows, 0) + max(columns - of_columns, 0)
        deeper = depth_of(there) - depth_of(source)
        return _kind(layout) != _kind(name), max(-deeper, 0), shared, deeper, -rows * columns

    return min(possible, key=cost)


def to_pixels(frame: Any, colours: Colours) -> Pixels:
    """Return a frame as pixels.

    Args:
        frame: of PyAV, in any format.
        colours: what its numbers mean.

    Returns:
        (H, W, 3), or (H, W, 1) for a grey one, float32 in [0, 1].
    """
    layout = layout_of(frame.format.name)
    if frame.format.name.replace("yuvj", "yuv") != layout:
        frame = frame.reformat(format=layout)  # in another order, but with the same numbers
    planes = [_array(plane, frame.format) for plane in frame.planes]
    luma, chroma = _ranges(colours, depth_of(frame.format))
    if layout.startswith("gbrp"):
        green, blue, red = planes
        pixels = np.stack([red, green, blue], axis=-1)
    elif layout.startswith("gray"):
        pixels = planes[0][..., None]
    else:
        sides = planes[0].shape
        blueness, redness = (
            _upsampled(plane, sides, frame.format, colours.centred) * chroma[0] + chroma[1] for plane in planes[1:]
        )
        brightness = planes[0] * luma[0] + luma[1]
        kr, kb = MATRICES[colours.matrix]
        red, blue = brightness + 2 * (1 - kr) * redness, brightness + 2 * (1 - kb) * blueness
        pixels = np.stack([red, (brightness - kr * red - kb * blue) / (1 - kr - kb), blue], axis=-1)
        return np.clip(pixels, 0, 1, out=pixels)
    return np.clip(pixels * luma[0] + luma[1], 0, 1)


def to_frame(pixels: Pixels, layout: str, colours: Colours) -> Any:
    """Return pixels as a frame; the inverse of `to_pixels`, rounded.

    Args:
        pixels: (H, W, 3) or (H, W, 1), float32 in [0, 1].
        layout: one of LAYOUTS; its chroma must fit H and W.
        colours: what the numbers shall mean.
    """
    import av

    frame = av.VideoFrame(pixels.shape[1], pixels.shape[0], layout)
    depth = depth_of(frame.format)
    (scale, offset), (chroma_scale, chroma_offset) = _ranges(colours, depth)
    whole = 2**depth - 1
    if layout.startswith("gbrp"):
        planes = [(pixels[..., min(channel, pixels.shape[2] - 1)] - offset) / scale for channel in (1, 2, 0)]
    else:
        kr, kb = MATRICES.get(colours.matrix, MATRICES[BT709])
        red, green, blue = (pixels[..., min(channel, pixels.shape[2] - 1)] for channel in range(3))
        brightness = kr * red + (1 - kr - kb) * green + kb * blue
        planes = [(brightness - offset) / scale]
        if layout.startswith("yuv"):
            for colour, part in ((blue, kb), (red, kr)):
                difference = (colour - brightness) / (2 * (1 - part))
                small = _downsampled(difference, frame.format, colours.centred)
                planes.append((small - chroma_offset) / chroma_scale)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // (1 if depth == 8 else 2)), np.uint8 if depth == 8 else "<u2")
        rows[:, : plane.width] = np.clip(np.rint(values), 0, whole)
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = colours.matrix, FULL if colours.full else LIMITED
    return frame


def step_of(video_format: Any) -> tuple[int, int]:
    """Return how many rows and columns share one chroma sample."""
    return 4 // video_format.chroma_height(4), 4 // video_format.chroma_width(4)


def depth_of(video_format: Any) -> int:
    """Return the bits of a channel; those of a palette's colours, for a format with one."""
    return 8 if video_format.has_palette else max(int(component.bits) for component in video_format.components)


def _kind(name: str) -> str:
    """Return rgb, gray or yuv."""
    if name.startswith(("gray", "ya", "mono")) and not name.startswith("yuv"):
        return "gray"
    return "rgb" if "rgb" in name or "bgr" in name or name.startswith(("gbr", "pal", "x2")) else "yuv"


def _ranges(colours: Colours, depth: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return factor and summand that make [0, 1] of luma, and [-0.5, 0.5] of chroma."""
    unit, whole, middle = 2 ** (depth - 8), 2**depth - 1, 2 ** (depth - 1)
    if colours.full:
        return (1 / whole, 0.0), (1 / whole, -middle / whole)
    return (1 / (219 * unit), -16 / 219), (1 / (224 * unit), -middle / (224 * unit))


def _array(plane: Any, video_format: Any) -> Pixels:
    values = np.frombuffer(plane, np.uint8 if depth_of(video_format) == 8 else "<u2")
    return values.reshape(plane.height, -1)[:, : plane.width].astype(np.float32)


def _upsampled(plane: Pixels, sides: tuple[int, ...], video_format: Any, centred: bool) -> Pixels:
    rows, columns = step_of(video_format)
    plane = _interpolated(plane, 0, sides[0], rows, centred=True)
    return _interpolated(plane, 1, sides[1], columns, centred)


def _interpolated(plane: Pixels, axis: int, length: int, step: int, centred: bool) -> Pixels:
    """Interpolate linearly along an axis, of which the samples lie on every first of `step` pixels or between them."""
    if step == 1:
        return plane
    last = plane.shape[axis] - 1
    places = np.clip((np.arange(length) + 0.5 * centred) / step - 0.5 * centred, 0, last)
    below = np.minimum(places.astype(int), max(last - 1, 0))
    part = (places - below).astype(np.float32)[(slice(None), None) if axis == 0 else (None, slice(None))]
    above = np.minimum(below + 1, last)
    return plane.take(below, axis) * (1 - part) + plane.take(above, axis) * part


def _downsampled(plane: Pixels, video_format: Any, centred: bool) -> Pixels:
    rows, columns = step_of(video_format)
    return _averaged(_averaged(plane, 0, rows, centred=True), 1, columns, centred)


def _averaged(plane: Pixels, axis: int, step: int, centred: bool) -> Pixels:
    """Take every `step`-th pixel along an axis after averaging: of a block, or around its first pixel."""
    if step == 1:
        return plane
    reach = [0, 0] if centred else [step - 1, step - 1]
    weights = [1.0] * step if centred else [float(step - abs(at)) for at in range(1 - step, step)]
    padded = np.pad(plane, [reach if axis == index else (0, 0) for index in range(2)], mode="edge")
    count = plane.shape[axis] // step
    parts = [
        weight * padded[(slice(None),) * axis + (slice(at, at + (count - 1) * step + 1, step),)]
        for at, weight in enumerate(weights)
    ]
    return sum(parts[1:], parts[0]) / sum(weights)

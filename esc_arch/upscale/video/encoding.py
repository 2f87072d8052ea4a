"""How a video is written: container, codec, quality, format of the pixels."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from esc_arch.common.errors import UserError, printable
from esc_arch.upscale.sizes import Sides
from esc_arch.upscale.video.clip import Clip, pyav
from esc_arch.upscale.video.colours import LAYOUTS, RGB, Colours, depth_of, layout_of, step_of

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
SHORT = {"h264": "libx264", "h265": "libx265", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
USUAL = {"webm": "libvpx-vp9"}  # else libx264
QUALITY = {"libx264": (18, 51), "libx265": (20, 51), "libvpx-vp9": (24, 63), "libsvtav1": (24, 63)}  # usual, worst
FIXED = {"libx265": {"x265-params": "log-level=error"}, "libvpx-vp9": {"row-mt": "1"}}
QUIET = {"libsvtav1": ("SVT_LOG", "1")}  # read from the environment: mistakes alone are told
SMALLEST = {"libx265": 64}  # sides, below which it writes past its buffers
BT709 = 1


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Args:
        container: short name of the format of the file.
        codec: name of the encoder.
        crf: its quality, None where it has none.
        layout: format of the pixels.
        sides: H, W of the frames.
        rate: frames a second, on average.
        base: seconds of a unit of time.
        colours: what the numbers of the pixels mean.
        aspect: width of a pixel to its height.
    """

    container: str
    codec: str
    crf: int | None
    layout: str
    sides: Sides
    rate: Fraction
    base: Fraction
    colours: Colours
    aspect: Fraction | None

    def add_to(self, output: Any) -> Any:
        """Add a stream with its encoder to an open container."""
        options = dict(FIXED.get(self.codec, {}))
        if quiet := QUIET.get(self.codec):
            os.environ.setdefault(*quiet)
        if self.crf is not None:
            options["crf"] = str(self.crf)
        stream = output.add_stream(self.codec, rate=self.rate, options=options)
        context = stream.codec_context
        stream.height, stream.width, stream.pix_fmt = *self.sides, self.layout
        context.time_base = self.base
        context.bit_rate = 0
        if self.aspect:
            context.sample_aspect_ratio = self.aspect
        context.colorspace, context.color_range = self.colours.matrix, 2 if self.colours.full else 1
        context.color_primaries, context.color_trc = self.colours.primaries, self.colours.transfer
        return stream


def container_of(file: str) -> str:
    """Return the short name of the container that a suffix stands for.

    Raises:
        UserError: it is none that is written.
    """
    suffix = os.path.splitext(file)[1].lower()
    if suffix not in CONTAINERS:
        raise UserError(f"{printable(file)}: the suffix of a video must be one of {', '.join(CONTAINERS)}.")
    return CONTAINERS[suffix]


def encoding_of(clip: Clip, file: str, wanted: Sides, codec: str | None, crf: int | None) -> tuple[Encoding, list[str]]:
    """Choose how the enlarged video is written, and try it.

    Args:
        clip: the video.
        file: of the result.
        wanted: H, W; made even where the format of the pixels shares chroma, by leaving out a row or a column.
        codec: name of an encoder, None for the usual one of the container.
        crf: quality, None for the usual one.

    Returns:
        the encoding, and what has to be told about it.

    Raises:
        UserError: the encoder is not there, does not take these frames, or does not go with the container.
    """
    av = pyav()
    container = container_of(file)
    codec = USUAL.get(container, "libx264") if codec is None else SHORT.get(codec, codec)
    try:
        encoder = av.codec.Codec(codec, "w")
    except ValueError as error:
        raise UserError(
            f"--codec: {codec or 'an empty name'} is no encoder that PyAV has here; take one of {', '.join(SHORT)}."
        ) from error
    if encoder.type != "video":
        raise UserError(f"--codec: {codec} encodes no videos; take one of {', '.join(SHORT)}.")
    usual, worst = QUALITY.get(codec, (None, None))
    if crf is not None and worst is None:
        raise UserError(f"--crf: {codec} has no such quality; leave it out, or take one of {', '.join(QUALITY)}.")
    if crf is not None and worst is not None and crf > worst:
        raise UserError(f"--crf: {codec} takes 0 to {worst}.")
    notes = []
    layout, lost = _layout(clip.format, encoder)
    if lost:
        notes.append(f"{codec} takes no {clip.format}, the result is {layout} ({lost})")
    rows, columns = step_of(av.VideoFormat(layout))
    sides = max(wanted[0] // rows * rows, rows), max(wanted[1] // columns * columns, columns)
    if sides != wanted:
        notes.append(
            f"{wanted[1]} x {wanted[0]} become {sides[1]} x {sides[0]}, since pixels of {layout} share their colours"
        )
    if min(sides) < SMALLEST.get(codec, 1):
        raise UserError(f"--codec: {codec} takes frames of at least {SMALLEST[codec]} pixels; take another.")
    colours = clip.colours
    if colours.matrix == RGB and not layout.startswith("gbrp"):
        colours = Colours(BT709, False, False, colours.primaries, colours.transfer)
    encoding = Encoding(
        container, codec, usual if crf is None else crf, layout, sides, clip.times.rate, clip.times.base, colours,
        clip.aspect,
    )  # fmt: skip
    try:
        with av.open(io.BytesIO(), "w", format=container) as output:
            encoding.add_to(output)
            output.start_encoding()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{printable(file)}: {codec} does not write {layout} of {sides[1]} x {sides[0]} into {container} "
            f"({reason}); choose another --codec or another suffix."
        ) from error
    return encoding, notes


def _layout(name: str, encoder: Any) -> tuple[str, str]:
    """Choose the format of pixels of an encoder that is nearest to a given one; and say what is lost."""
    av = pyav()
    own = layout_of(name)
    there = [candidate.name for candidate in encoder.video_formats or ()] or [own]
    possible = [layout for layout in LAYOUTS if layout in there]
    if not possible:
        raise UserError(f"--codec: {encoder.name} takes none of the formats of pixels that are written here.")
    nearest = layout_of(own, possible)
    before, after, lost = av.VideoFormat(own), av.VideoFormat(nearest), []
    if depth_of(after) < depth_of(before):
        lost.append(f"{depth_of(after)} bits instead of {depth_of(before)}")
    if step_of(after) > step_of(before):
        lost.append("colours of fewer pixels")
    if own.startswith("gbrp") and not nearest.startswith("gbrp"):
        lost.append("luma and chroma instead of RGB")
    return nearest, ", ".join(lost)

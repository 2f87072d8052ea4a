"""A video that is read: its frames in the order in which they are shown, upright, with their times."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from esc_arch.common.errors import UserError, printable
from esc_arch.pictures.picture import Pixels
from esc_arch.upscale.video.colours import Colours, to_pixels

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".nut", ".y4m"),
    *(".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob"),
)
PICTURE = "_pipe"  # ends the names that FFmpeg gives to formats of single pictures
WITHOUT_A_RATE = Fraction(25)  # frames a second, where nothing is stated
NOT_CARRIED = {  # what frames state beside their pixels, by PyAV's names
    "what it states of its mastering display and light": (
        "MASTERING_DISPLAY_METADATA",
        "CONTENT_LIGHT_LEVEL",
    ),
    "what it states for Dolby Vision": ("DOVI_RPU_BUFFER", "DOVI_METADATA"),
    "what it states for HDR10+ or HDR Vivid": ("DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID"),
    "captions within its frames": ("A53_CC",),
    "that it is a view all around": ("SPHERICAL",),
    "that its frames hold pictures for both eyes": ("STEREO3D",),
    "its colour profile": ("ICC_PROFILE",),
}
MICROSECONDS = 1_000_000
STATED = {"mp4", "matroska"}  # containers of which the head states how long all is
LACKING = Fraction(1, 2)  # seconds that may lack, where streams are rounded
LIKE = 0.02  # how far a stated rate may be from the times, of which containers round some
UPRIGHT = (1, 0, 0, 1)


def pyav() -> Any:
    """Import PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("Videos need an extra: pip install 'esc_arch[video]'.") from error
    return av


@dataclass(frozen=True)
class Times:
    """When frames are shown, in units of the time base.

    Attributes:
        base: seconds of a unit.
        starts: of all frames, ascending.
        durations: of each.
        rate: frames a second, on average.
    """

    base: Fraction
    starts: list[int]
    durations: list[int]
    rate: Fraction

    def name(self, start: int) -> str:
        """Name a frame by its number and its time."""
        number = bisect_left(self.starts, start)
        seconds = float((start - (self.starts[0] if self.starts else 0)) * self.base)
        return f"frame {number} (counted from 0, {seconds:.3f} s after the first)"


@dataclass
class Shot:
    """A frame.

    Attributes:
        start: when it is shown, in units of the time base.
        pixels: (H, W, 3 or 1), float32 in [0, 1].
    """

    start: int
    pixels: Pixels


@dataclass
class Clip:
    """A video.

    Attributes:
        file: its path.
        times: of the frames.
        colours: what the numbers of its frames mean.
        format: name of the format of its pixels.
        sides: H, W, upright.
        aspect: width of a pixel to its height, upright; None where nothing is stated.
        notes: what is lost or guessed.
        broken: what was told by the decoder while frames were read.
        cut: what lacks at the end of the file, as far as its head tells; empty for nothing.
    """

    file: str
    times: Times
    colours: Colours
    format: str
    sides: tuple[int, int]
    aspect: Fraction | None
    turn: tuple[int, int, int, int]
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    cut: str = ""

    @classmethod
    def of(cls, file: str) -> Clip:
        """Look through a video: the times of its frames, and what the first one states.

        Raises:
            UserError: it cannot be read, or holds no video.
        """
        with opened(file) as container:
            times, cut = _scanned(container, video_stream(container, file))
            kind, is_picture, _ = container.format.name.partition(PICTURE)
            if is_picture and len(times.starts) < 2:
                raise UserError(f"{printable(file)} is a picture ({kind}), whatever its name says; rename it.")
        with opened(file) as container:
            stream = video_stream(container, file)
            first = next((frame for frame in _decoded(stream, times, []) if frame), None)
            if first is None:
                raise UserError(f"{printable(file)}: no frame of it can be decoded.")
            notes = []
            turn, is_right = _turn(first)
            if not is_right:
                notes.append("it is turned by an angle other than a right one, which is not applied")
            if first.interlaced_frame:
                notes.append("it is interlaced: two fields are enlarged as one picture; deinterlace it before")
            has_alpha = any(component.is_alpha for component in first.format.components)
            if has_alpha or stream.metadata.get("alpha_mode") == "1":  # of VP8 and VP9, which is not decoded
                notes.append("its transparency is left out")
            try:
                colours = Colours.of(first, stream.codec_context.codec.name)
            except UserError as error:
                raise UserError(f"{printable(file)}: {error}") from error
            sides, aspect = (first.height, first.width), stream.sample_aspect_ratio or None
            if turn[0] == 0:
                sides, aspect = (first.width, first.height), aspect and 1 / aspect
            if lost := not_carried({data.type.name: bytes(data) for data in first.side_data}):
                notes.append(f"left out: {', '.join(lost)}")
            return cls(file, times, colours, first.format.name, sides, aspect, turn, notes, cut=cut)

    def shots(self, behind: int = 0) -> Iterator[Shot]:
        """Yield the frames in order; those that cannot be decoded are left out, and noted in `broken`.

        Args:
            behind: how many frames to pass over; they are decoded, since others are made of them.

        Raises:
            UserError: a frame has another size than the first one.
        """
        self.broken[:] = [self.cut] if self.cut else []
        with opened(self.file) as container:
            last = None
            for number, frame in enumerate(_decoded(video_stream(container, self.file), self.times, self.broken)):
                start = _start(frame, last, self.times)
                last = start
                if number < behind:
                    continue
                pixels = _turned(to_pixels(frame, self.colours), self.turn)
                if pixels.shape[:2] != self.sides:
                    raise UserError(
                        f"{printable(self.file)}: {self.times.name(start)} has {pixels.shape[1]} x {pixels.shape[0]} "
                        f"pixels, and the first one {self.sides[1]} x {self.sides[0]}; cut the video there."
                    )
                yield Shot(start, pixels)


def not_carried(stated: dict[str, bytes]) -> list[str]:
    """Say in words what frames state beside their pixels and the result does not.

    Args:
        stated: the data, by PyAV's names.
    """
    flat = not any(stated.get("STEREO3D", b"")[:4])  # the kind of packing
    found = stated.keys() - ({"STEREO3D"} if flat else set())
    return [words for words, names in NOT_CARRIED.items() if found & set(names)]


@contextmanager
def opened(file: str) -> Iterator[Any]:
    """Open a video to read it.

    Raises:
        UserError: it cannot be read.
    """
    av = pyav()
    av.logging.set_level(av.logging.PANIC)  # what matters is told by name
    try:
        container = av.open(file, metadata_errors="replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{printable(file)} cannot be read as a video ({reason}).") from error
    with container:
        yield container


def video_stream(container: Any, file: str) -> Any:
    """Return the first stream that is a video, and no picture of a cover.

    Raises:
        UserError: there is none, or nothing that decodes it.
    """
    av = pyav()
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise UserError(f"{printable(file)}: nothing here decodes its video; convert it first.")
            stream.thread_type = "SLICE"  # threads of whole frames tell mistakes late
            return stream
    raise UserError(f"{printable(file)} holds no video.")


def _scanned(container: Any, stream: Any) -> tuple[Times, str]:
    """Read the times of all packets, in the order in which they are shown; and say what lacks at the end."""
    base = Fraction(stream.time_base)
    found: dict[int, int] = {}
    unknown, end = 0, Fraction(0)
    try:
        for packet in container.demux():
            if packet.pts is not None and packet.size:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.size and packet.stream.index == stream.index and not packet.is_discard:
                if packet.pts is None:
                    unknown += 1
                else:
                    found.setdefault(packet.pts, packet.duration or 0)
    except (OSError, ValueError):  # what comes before is read again, and the place is told then
        pass
    starts = sorted(found)
    rate = _rate(Fraction(stream.average_rate or stream.guessed_rate or WITHOUT_A_RATE), starts, base)
    usual = max(round(1 / (rate * base)), 1)
    if unknown:
        first = starts[0] if starts else 0
        starts = [first + number * usual for number in range(unknown + len(starts))]
    durations = [found.get(start, 0) for start in starts]
    for index, duration in enumerate(durations):
        if not duration:
            durations[index] = starts[index + 1] - starts[index] if index + 1 < len(starts) else usual
    stated = Fraction(container.duration or 0, MICROSECONDS)
    cut = ""
    if STATED & set(container.format.name.split(",")) and stated - end > LACKING:
        cut = f"the file states {float(stated):.2f} s and ends after {float(end):.2f} s; the rest is missing"
    return Times(base, starts, durations, rate), cut


def _rate(stated: Fraction, starts: list[int], base: Fraction) -> Fraction:
    """Return the frames a second that are stated, unless the times tell another number."""
    if len(starts) < 2:
        return stated
    found = (len(starts) - 1) / ((starts[-1] - starts[0]) * base)
    return stated if abs(stated / found - 1) < LIKE else found.limit_denominator(1001)


def _decoded(stream: Any, times: Times, broken: list[str]) -> Iterator[Any]:
    """Decode, and go on behind what cannot be decoded, which is noted."""
    packets = stream.container.demux(stream)
    last = times.starts[0] if times.starts else 0
    while True:
        try:
            packet = next(packets, None)
        except (OSError, ValueError) as error:
            broken.append(f"the file cannot be read behind {times.name(last)} ({_reason(error)})")
            packet = None
        if packet is None:
            return
        try:
            frames = packet.decode()
        except (OSError, ValueError) as error:
            if not packet.is_discard:
                place = last if packet.pts is None else packet.pts
                broken.append(f"{times.name(place)} is broken and left out ({_reason(error)})")
            continue
        for frame in frames:
            last = last if frame.pts is None else frame.pts
            if frame.is_corrupt:
                broken.append(f"{times.name(last)} is damaged, and enlarged as the decoder mends it")
            yield frame


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _start(frame: Any, last: int | None, times: Times) -> int:
    """Return when a frame is shown: later than the one before, whatever it states."""
    if last is None:
        return times.starts[0] if frame.pts is None else int(frame.pts)
    usual = max(round(1 / (times.rate * times.base)), 1)
    return last + usual if frame.pts is None else max(int(frame.pts), last + 1)


def _turn(frame: Any) -> tuple[tuple[int, int, int, int], bool]:
    """Read how a frame becomes upright: the signs of a, b, c, d of its matrix; and whether that is all of it."""
    data = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return UPRIGHT, True
    a, b, _, c, d, *_ = struct.unpack("=9i", data)
    straight, across = abs(a) + abs(d), abs(b) + abs(c)
    if min(straight, across) > 0.01 * max(straight, across):
        return UPRIGHT, False
    signs = tuple(int(np.sign(value)) for value in ((a, 0, 0, d) if straight > across else (0, b, c, 0)))
    return (signs if any(signs) else UPRIGHT), True  # type: ignore[return-value]


def _turned(pixels: Pixels, turn: tuple[int, int, int, int]) -> Pixels:
    a, b, c, d = turn
    if a == 0:  # columns of the result are rows of the frame
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: d or 1, :: a or 1])

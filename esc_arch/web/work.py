"""What the page does: enlarges pictures one after the other, and says what became of each."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from esc_arch.common.errors import UserError, printable
from esc_arch.upscale import Enlarged, upscale_file
from esc_arch.web.previews import Pair, write_previews

WEIGHTS, TIMES, BOX, LONGEST = "weights", "scale", "size", "longest"  # ways to say how large
PREFIX = "job-"
ADVICE = re.compile(r"; [^;]*(?<![\w-])(?:-o|--[a-z][a-z-]*)(?![\w-])[^;]*$")
OTHER_FORMAT = "; choose another format."
Tell = Callable[[float, str], object]


class Stop(Exception):  # noqa: N818  it is no error
    """Whoever asked for the pictures does not want them any more."""


@dataclass(frozen=True)
class Limits:
    """How much one visitor may ask for.

    Args:
        upload: bytes of a file.
        files: pictures at a time.
        pixels: of a picture.
        result: pixels of a result.
    """

    upload: int = 50_000_000
    files: int = 20
    pixels: int = 25_000_000
    result: int = 100_000_000


@dataclass(frozen=True)
class Wish:
    """What is to be done with pictures.

    Args:
        pictures: paths.
        weights: a name or a path, None to choose by the size.
        way: one of WEIGHTS, TIMES, BOX and LONGEST, which says what of the next counts.
        scale: factor.
        width: the most pixels of a row, None or 0 for any number.
        height: of a column, likewise.
        longest: pixels of the longer side.
        kind: suffix of the format, such as `.png`; None for that of each picture.
        quality: of what is lossy, from 1 to 100, None for the usual one.
        metadata: keep what belongs to a picture.
    """

    pictures: list[str]
    weights: str | None = None
    way: str = WEIGHTS
    scale: float | None = None
    width: float | None = None
    height: float | None = None
    longest: float | None = None
    kind: str | None = None
    quality: float | None = None
    metadata: bool = True


@dataclass
class Outcome:
    """What became of pictures.

    Attributes:
        lines: a sentence for each.
        files: the results.
        pairs: previews of before and after, by the name of the picture.
    """

    lines: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    pairs: dict[str, Pair] = field(default_factory=dict)


class Workshop:
    """Enlarges pictures into folders of its own.

    Args:
        folder: where those are made.
        device: of the networks.
        limits: how much one visitor may ask for.
        lasting: seconds after which results are removed.
    """

    def __init__(self, folder: str, device: str, limits: Limits, lasting: float = 3600) -> None:
        self.folder, self.device, self.limits, self.lasting = folder, device, limits, lasting

    def enlarge(self, wish: Wish, tell: Tell, is_stopped: Callable[[], bool] = lambda: False) -> Iterator[Outcome]:
        """Enlarge pictures, and yield what has become of them after each.

        Args:
            wish: what is to be done.
            tell: called with how much of all is done, from 0 to 1, and a few words.
            is_stopped: tells whether to end.
        """
        self._sweep()
        outcome = Outcome()
        settings = {**_size_of(wish), "quality": _quality_of(wish)}
        if not wish.pictures:
            raise UserError("There is no picture yet; choose one first.")
        if len(wish.pictures) > self.limits.files:
            raise UserError(f"{len(wish.pictures)} pictures are too many at a time; take at most {self.limits.files}.")
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=self.folder)
        for number, picture in enumerate(wish.pictures):
            name = os.path.basename(picture)

            def on_tile(done: int, tiles: int, number: int = number, name: str = name) -> None:
                if is_stopped():
                    raise Stop
                part = (number + done / max(tiles, 1)) / len(wish.pictures)
                tell(part, f"{printable(name)}: tile {done} of {tiles}" if tiles > 1 else printable(name))

            tell(number / len(wish.pictures), printable(name))
            place = os.path.join(folder, str(number))  # two pictures may have one name
            try:
                if os.path.getsize(picture) > self.limits.upload:
                    raise UserError(f"{name} is larger than {self.limits.upload / 1e6:g} MB; take a smaller file.")
                done = upscale_file(
                    picture,
                    place,
                    wish.weights,
                    kind=wish.kind,
                    metadata=wish.metadata,
                    device=self.device,
                    max_pixels=self.limits.pixels,
                    max_result=self.limits.result,
                    on_tile=on_tile,
                    **settings,  # type: ignore[arg-type]
                )
                pair = write_previews(picture, done.file, os.path.join(folder, f"{number}-preview"))
            except UserError as error:
                outcome.lines.append(_for_the_page(str(error), picture, place, wish.weights))
            except Stop:
                outcome.lines.append("Stopped.")
                yield outcome
                return
            else:
                outcome.lines.append(_told(name, done))
                outcome.files.append(done.file)
                outcome.pairs[f"{number + 1}. {name}" if len(wish.pictures) > 1 else name] = pair
            yield outcome

    def _sweep(self) -> None:
        """Remove results that nobody has fetched for long."""
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if name.startswith(PREFIX) and time.time() - os.path.getmtime(path) > self.lasting:
                shutil.rmtree(path, ignore_errors=True)


def _size_of(wish: Wish) -> dict[str, object]:
    """Return what a wish says about the size, as `upscale_file` takes it."""
    if wish.way == TIMES:
        if wish.scale is None or not 1 <= wish.scale < float("inf"):
            raise UserError("The factor must be a number of at least 1.")
        return {"scale": wish.scale}
    if wish.way == BOX:
        width, height = _pixels(wish.width, "width"), _pixels(wish.height, "height")
        if width is None and height is None:
            raise UserError("Give a width or a height in pixels, or both.")
        return {"size": (width, height)}
    if wish.way == LONGEST:
        longest = _pixels(wish.longest, "longer side")
        if longest is None:
            raise UserError("Give the pixels of the longer side.")
        return {"longest": longest}
    return {}


def _quality_of(wish: Wish) -> int | None:
    if wish.quality is None:
        return None
    if wish.quality not in range(1, 101):
        raise UserError("The quality must be a whole number from 1 to 100.")
    return int(wish.quality)


def _pixels(value: float | None, what: str) -> int | None:
    if not value:
        return None
    if value < 1 or value != int(value):
        raise UserError(f"The {what} must be a whole number of pixels.")
    return int(value)


def _for_the_page(message: str, picture: str, place: str, weights: str | None) -> str:
    """Name files as the visitor knows them, and leave out advice about options of the command."""
    for path in (picture, weights or ""):
        for known in (path, printable(path)):
            if os.path.isabs(known):
                message = message.replace(known, printable(os.path.basename(path)))
    message = message.replace(place + os.sep, "")
    advice = ADVICE.search(message)
    if advice:
        message = message[: advice.start()] + (OTHER_FORMAT if "--format" in advice[0] else ".")
    return message


def _told(name: str, done: Enlarged) -> str:
    (height, width), (rows, columns) = done.sides, done.enlarged
    notes = "".join(f" {printable(note[:1].upper() + note[1:]).rstrip('.')}." for note in done.notes)
    return f"{printable(name)}: {width} x {height} to {columns} x {rows} in {done.seconds:.1f} s.{notes}"

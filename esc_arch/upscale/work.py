"""What is done with one picture: reading, enlarging and writing it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from esc_arch.common.errors import UserError, printable
from esc_arch.pictures.encoding import QUALITY
from esc_arch.pictures.formats import HEAD
from esc_arch.pictures.picture import Picture
from esc_arch.pictures.reading import read_picture, read_picture_in_memory
from esc_arch.pictures.writing import check_format, without_metadata, write_picture, written_format
from esc_arch.upscale.jobs import Job
from esc_arch.upscale.memory import free_memory
from esc_arch.upscale.network import Enlarger
from esc_arch.upscale.pixels import enlarge_together
from esc_arch.upscale.reaching import Networks, bytes_needed, enlarge_to, stages, target_of
from esc_arch.upscale.sizes import Sides, Size, factor_of
from esc_arch.upscale.streams import INPUT, OUTPUT, STREAM, format_like, read_standard_input, write_standard_output

DEFAULT_SCALE = 2  # where neither weights nor a size are given
ENCODING = 2  # bytes that writing takes for each byte of the result
EXPECTED = (UserError, RuntimeError, OSError, MemoryError)  # of a network, what it cannot take
LOSSY = ("JPEG", "AVIF")  # as they are written here


@dataclass(frozen=True)
class Settings:
    """How pictures are enlarged and written.

    Args:
        size: of the results.
        tile: side of a tile, None to choose it for every picture.
        overwrite: write results that are there already once more.
        max_pixels: the largest picture that is read.
        image_format: of a result on standard output, None for that of the picture; a file has it in its name.
        quality: of what is lossy, None for the usual one.
        lossless: write no format that is lossy.
        metadata: keep what belongs to a picture; otherwise only what its colours mean.
    """

    size: Size = field(default_factory=Size)
    tile: int | None = None
    overwrite: bool = False
    max_pixels: int = 100_000_000
    image_format: str | None = None
    quality: int | None = None
    lossless: bool = False
    metadata: bool = True


@dataclass
class Work:
    """One picture on its way.

    Attributes:
        number: of the job.
        job: where from and where to.
        there: whether the result is there already.
        problem: why it cannot be enlarged.
        picture: the picture, and then the result; None when it is written.
        notes: what was decided about it, to be told.
        sides: H, W of the picture.
        target: H', W' of the result.
        seconds: that reading, enlarging and writing took.
    """

    number: int
    job: Job
    there: bool = False
    problem: BaseException | None = None
    picture: Picture | None = None
    notes: tuple[str, ...] = ()
    image_format: str = ""
    sides: Sides = (0, 0)
    target: Sides = (0, 0)
    seconds: float = 0.0
    _enlarger: Enlarger | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there is something to do."""
        return not self.there and self.problem is None

    @property
    def enlarger(self) -> Enlarger:
        """The network that enlarges it."""
        assert self._enlarger is not None
        return self._enlarger

    @property
    def size(self) -> int:
        """Bytes of the pixels."""
        return self.picture.pixels.nbytes if self.picture else 0

    @property
    def is_only_resized(self) -> bool:
        """Whether the network is not needed."""
        return not stages(self.enlarger, self.sides, self.target)

    def attempt(self, step: Callable[[], object]) -> None:
        """Do one step, unless there was a problem, and note its time and its problem."""
        if not self.goes_on:
            return
        start = time.monotonic()
        try:
            step()
        except EXPECTED as error:
            self.problem, self.picture = error, None
        self.seconds += time.monotonic() - start

    def reason(self) -> str:
        """Say on one line what the problem is, whatever is in the name of the picture."""
        source = INPUT if self.job.source == STREAM else printable(self.job.source)
        text = str(self.problem)
        for path in (self.job.source, self.job.target):
            text = text if path == STREAM else text.replace(path, printable(path))
        text = printable(text.partition("\n")[0]) or type(self.problem).__name__
        return text if source in text else f"{source}: {text}"


def label_of(size: Size, networks: Networks) -> str:
    """Return what is added to the names of results, such as `_x2`."""
    return size.label() if size.is_given else f"_x{networks.reaching(DEFAULT_SCALE).scale:g}"


def read(work: Work, networks: Networks, settings: Settings) -> None:
    """Read the picture, choose the network, and check that the result can be written.

    Raises:
        UserError: something does not go.
    """
    source, target = work.job.source, work.job.target
    if target != STREAM and not settings.overwrite and os.path.exists(target):
        work.there = True
        return
    data = read_standard_input() if source == STREAM else b""
    picture = (
        read_picture_in_memory(INPUT, data, settings.max_pixels)
        if source == STREAM
        else read_picture(source, settings.max_pixels)
    )
    work.notes = picture.notes
    work.sides = picture.pixels.shape[0], picture.pixels.shape[1]
    if settings.size.is_given:
        wanted = settings.size.of(*work.sides)
        work._enlarger = networks.reaching(factor_of(work.sides, wanted))
    else:
        work._enlarger = networks.reaching(DEFAULT_SCALE)
    work.target = target_of(work.enlarger, settings.size, work.sides)
    stages(work.enlarger, work.sides, work.target)
    if target == STREAM:
        name, work.image_format = OUTPUT, settings.image_format or format_like(data or _head(source))
    else:
        name, work.image_format = target, written_format(target)
    check_format(name, work.image_format, picture, work.target)
    if settings.lossless and work.image_format in LOSSY:
        raise UserError(f"{name}: a {work.image_format} is not --lossless; take --format png or webp.")
    if work.image_format == "WEBP" and (settings.lossless or settings.quality is not None):
        picture = replace(picture, lossless=settings.lossless)
    work.picture = picture if settings.metadata else without_metadata(picture)


def _head(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(HEAD)


def enlarge(
    work: Work,
    settings: Settings,
    on_start: Callable[[int], object],
    on_tile: Callable[[], object],
    wait_for_memory: Callable[[], object],
) -> None:
    """Enlarge the picture.

    Args:
        work: what was read.
        settings: as they are.
        on_start: called with the number of tiles.
        on_tile: called after each.
        wait_for_memory: called where there is too little: waits for what is on its way to the disk.

    Raises:
        UserError: the result, and what writes it, do not fit into memory, and the process might be ended.
    """
    assert work.picture is not None
    needed = bytes_needed(work.enlarger, work.picture.pixels, work.target, 1 + ENCODING)
    if needed > free_memory():
        wait_for_memory()
    if needed > (free := free_memory()):
        raise UserError(
            f"the result takes {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free; cut the picture"
        )
    pixels = enlarge_to(work.picture.pixels, work.enlarger, work.target, settings.tile, on_start, on_tile)
    work.picture = replace(work.picture, pixels=pixels)


def are_alike(first: Work, second: Work) -> bool:
    """Tell whether two pictures can go through the network together."""
    if not (first.goes_on and second.goes_on and first.picture and second.picture):
        return False
    one, other = first.picture.pixels, second.picture.pixels
    same = one.shape == other.shape and one.dtype == other.dtype and first.target == second.target
    at_once = stages(first.enlarger, first.sides, first.target) == [first.target] and not first.enlarger.any_scale
    return same and at_once and first.enlarger is second.enlarger and one.shape[2] in (1, 3)


def enlarge_alike(group: list[Work]) -> bool:
    """Enlarge pictures that are alike in one pass; False where that does not go, and nothing is done."""
    pictures = [work.picture for work in group if work.picture]
    start = time.monotonic()
    try:
        results = enlarge_together([picture.pixels for picture in pictures], group[0].enlarger)
    except EXPECTED:  # one by one then, and each tells its problem
        return False
    for work, picture, pixels in zip(group, pictures, results, strict=True):
        work.picture = replace(picture, pixels=pixels)
        work.seconds += (time.monotonic() - start) / len(group)
    return True


def write(work: Work, settings: Settings) -> None:
    """Write the result.

    Raises:
        DiskError, UserError: it cannot be written.
    """
    assert work.picture is not None
    picture, work.picture = work.picture, None
    quality = QUALITY if settings.quality is None else settings.quality
    if work.job.target == STREAM:
        write_standard_output(picture, work.image_format, quality)
    else:
        write_picture(work.job.target, picture, quality)

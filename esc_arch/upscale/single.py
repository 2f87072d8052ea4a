"""Enlarging a picture in a file, as the command does with each of many."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

from esc_arch.common.errors import UserError
from esc_arch.common.precision import choose_dtype
from esc_arch.upscale import work as steps
from esc_arch.upscale.array import wanted_size
from esc_arch.upscale.jobs import plan_jobs, try_places
from esc_arch.upscale.network import load_enlarger
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.work import Settings, Work, label_of


@dataclass(frozen=True)
class Enlarged:
    """A picture that was enlarged.

    Attributes:
        file: the result.
        sides: H, W of the picture, upright.
        enlarged: H', W' of the result.
        notes: what was decided about the picture, sentences without its name.
        seconds: that reading, enlarging and writing took.
    """

    file: str
    sides: tuple[int, int]
    enlarged: tuple[int, int]
    notes: tuple[str, ...]
    seconds: float


def upscale_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    scale: float | None = None,
    size: tuple[int | None, int | None] | None = None,
    longest: int | None = None,
    suffix: str | None = None,
    kind: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
    metadata: bool = True,
    tile: int | None = None,
    self_ensemble: bool = False,
    dtype: str = "auto",
    window: int | None = None,
    device: str = "cpu",
    max_pixels: int = Settings.max_pixels,
    max_result: int | None = None,
    on_tile: Callable[[int, int], object] = lambda done, tiles: None,
) -> Enlarged:
    """Enlarge a picture in a file; what the command `python -m esc_arch.upscale` writes, byte for byte.

    Args:
        source: the picture.
        output: a folder, or the file to write; one that is there is replaced.
        weights: name of weights of this package, or a checkpoint; None for those that get there in the fewest steps.
        scale: see `upscale_image`, as for the two others.
        size: see there.
        longest: see there.
        suffix: added to the name; None for `_x2` and so on.
        kind: suffix of the format of the result, such as `.png`; None for that of the picture.
        quality: of what is lossy, from 1 to 100; None for 95.
        lossless: write no format that is lossy.
        metadata: keep what belongs to the picture.
        tile: side of a tile in pixels; None chooses it by the free memory.
        self_ensemble: average over the eight symmetries of the square, in eight times the time.
        dtype: what is computed in, `auto` (fp32), `fp32`, `bf16` or `fp16`; fp32 where there is no bf16.
        window: side of the windows of ESC-RIB, which no weight tells; None for the published one.
        device: of the network, as PyTorch names it.
        max_pixels: a larger picture is refused.
        max_result: a larger result is refused, in pixels.
        on_tile: called with how many tiles of the network's present step are done, and how many there are; what it
            raises ends the work, and nothing is written.

    Returns:
        what came of it.

    Raises:
        UserError: the picture, the weights or the place cannot be used, or they do not go together.
        ValueError: the size is none.
    """
    wanted = wanted_size(scale, size, longest)
    dtype, _ = choose_dtype(dtype, device)
    load = functools.partial(load_enlarger, self_ensemble=self_ensemble, dtype=dtype, scale=scale, window=window)
    networks = Networks(weights, load)
    networks.move(device, dtype)
    source, output = os.fspath(source), os.fspath(output)
    plan = plan_jobs([source], output, label_of(wanted, networks) if suffix is None else suffix, kind)
    try_places(plan, output, overwrite=True)
    if plan.problems:
        raise UserError(next(iter(plan.problems.values())))
    if len(plan.jobs) != 1:
        raise UserError(f"{source} is not one picture; name a file.")
    settings = Settings(wanted, tile, True, max_pixels, None, quality, lossless, metadata)
    work = Work(0, plan.jobs[0])
    work.attempt(lambda: steps.read(work, networks, settings))
    work.attempt(lambda: _check_result(work, max_result))
    progress = _Progress(on_tile)
    work.attempt(lambda: steps.enlarge(work, settings, progress.start, progress.advance, lambda: None))
    work.attempt(lambda: steps.write(work, settings))
    if work.problem is not None:
        raise UserError(work.reason()) from work.problem
    return Enlarged(work.job.target, work.sides, work.target, work.notes, work.seconds)


class _Progress:
    """Counts tiles, and tells how many there are."""

    def __init__(self, tell: Callable[[int, int], object]) -> None:
        self._tell = tell
        self._done = self._tiles = 0

    def start(self, tiles: int) -> None:
        self._done, self._tiles = 0, tiles
        self._tell(0, tiles)

    def advance(self) -> None:
        self._done += 1
        self._tell(self._done, self._tiles)


def _check_result(work: Work, most: int | None) -> None:
    height, width = work.target
    if most is not None and height * width > most:
        raise UserError(
            f"the result would have {width} x {height} pixels, and {most / 1e6:g} million are the most; take a smaller "
            "size"
        )

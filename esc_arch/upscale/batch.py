"""Enlarging many pictures, of which some may be broken."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from esc_arch.common.errors import UserError, printable
from esc_arch.common.whole_files import DiskError
from esc_arch.pictures.finding import in_words
from esc_arch.pictures.picture import Picture
from esc_arch.pictures.reading import read_picture
from esc_arch.pictures.writing import check_target, write_picture
from esc_arch.upscale.array import enlarge_pixels
from esc_arch.upscale.jobs import Job, Plan
from esc_arch.upscale.memory import free_memory
from esc_arch.upscale.network import Enlarger

LONGEST_LABEL = 40  # characters of a name beside the bar
ENCODING = 2  # bytes that writing takes for each byte of the result


@dataclass
class Summary:
    """What became of the pictures.

    Attributes:
        done: results that were written.
        there: results that were there already.
        failed: why pictures were not enlarged.
        passed: how many files were no pictures, by kind.
        left: how many pictures were not begun, because the disk takes nothing any more.
    """

    done: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    left: int = 0

    def __str__(self) -> str:
        parts = [f"{len(self.done)} enlarged"]
        if self.there:
            parts.append(f"{len(self.there)} there already (--overwrite makes them anew)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.left:
            parts.append(f"{self.left} not begun")
        if self.passed:
            parts.append(in_words(self.passed))
        return ", ".join(parts)


def run_jobs(plan: Plan, enlarger: Enlarger, *, tile: int | None, overwrite: bool, max_pixels: int) -> Summary:
    """Enlarge pictures one by one; name those that cannot be, and go on. A disk that takes nothing more ends it.

    Args:
        plan: what to read and to write.
        enlarger: the network.
        tile: side of a tile, None to choose it for every picture.
        overwrite: write results that are there already once more.
        max_pixels: the largest picture that is read.

    Returns:
        what became of them.
    """
    summary = Summary(passed=plan.passed)
    with tqdm(total=len(plan.jobs), unit="picture", disable=None) as bar:
        for source, problem in plan.problems.items():
            _note(summary, source, problem)
        for number, job in enumerate(plan.jobs):
            try:
                if os.path.exists(job.target) and not overwrite:
                    summary.there.append(job.target)
                else:
                    _run(job, enlarger, tile, max_pixels)
                    summary.done.append(job.target)
            except DiskError as error:
                _note(summary, job.source, _reason(job, error))
                summary.left = len(plan.jobs) - number - 1
                break
            except (UserError, RuntimeError, OSError, MemoryError) as error:  # of a network, what it cannot take
                _note(summary, job.source, _reason(job, error))
            bar.update()
    return summary


def _note(summary: Summary, source: str, message: str) -> None:
    summary.failed[source] = message
    tqdm.write(f"Error: {message}", file=sys.stderr)


def _reason(job: Job, error: BaseException) -> str:
    """Say on one line what happened to a picture, whatever is in its name."""
    text, source = str(error), printable(job.source)
    for path in (job.source, job.target):
        text = text.replace(path, printable(path))
    text = printable(text.partition("\n")[0]) or type(error).__name__
    return text if source in text else f"{source}: {text}"


def _run(job: Job, enlarger: Enlarger, tile: int | None, max_pixels: int) -> None:
    picture = read_picture(job.source, max_pixels)
    check_target(job.target, picture, enlarger.scale)
    _check_memory(picture, enlarger.scale)
    with tqdm(
        unit="tile", leave=False, disable=None, desc=printable(os.path.basename(job.source))[:LONGEST_LABEL]
    ) as bar:
        pixels = enlarge_pixels(
            picture.pixels, enlarger, tile, on_start=lambda tiles: bar.reset(tiles), on_tile=lambda: bar.update()
        )
    write_picture(job.target, replace(picture, pixels=pixels))


def _check_memory(picture: Picture, scale: float) -> None:
    """Raise UserError where the result, and what writes it, do not fit into memory, and the process might be ended."""
    needed, free = scale**2 * picture.pixels.nbytes * (1 + ENCODING), free_memory()
    if needed > free:
        raise UserError(
            f"the result takes {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free; cut the picture"
        )

"""Enlarging many pictures, of which some may be broken."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Picture
from esc_arch.pictures.reading import read_picture
from esc_arch.pictures.writing import check_target, write_picture
from esc_arch.upscale.array import enlarge_pixels
from esc_arch.upscale.jobs import Job
from esc_arch.upscale.memory import free_memory
from esc_arch.upscale.network import Enlarger

ENCODING = 2  # bytes that writing takes for each byte of the result


@dataclass
class Summary:
    """What became of the pictures."""

    done: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{len(self.done)} enlarged"]
        if self.there:
            parts.append(f"{len(self.there)} there already (--overwrite makes them anew)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)


def run_jobs(jobs: Sequence[Job], enlarger: Enlarger, *, tile: int | None, overwrite: bool, max_pixels: int) -> Summary:
    """Enlarge pictures one by one; name those that cannot be, and go on.

    Args:
        jobs: what to read and to write.
        enlarger: the network.
        tile: side of a tile, None to choose it for every picture.
        overwrite: write results that are there already once more.
        max_pixels: the largest picture that is read.

    Returns:
        what became of them.
    """
    summary, targets = Summary(), set[str]()
    with tqdm(total=len(jobs), unit="picture", disable=None) as bar:
        for job in jobs:
            try:
                target = os.path.realpath(job.target)
                if target in targets:
                    raise UserError(
                        f"{job.source} would be written over {job.target}, like another picture; rename it."
                    )
                targets.add(target)
                if os.path.realpath(job.source) == target:
                    raise UserError(f"{job.source} would be written over itself; give a --suffix or another -o.")
                if os.path.exists(target) and not overwrite:
                    summary.there.append(job.target)
                else:
                    _run(job, enlarger, tile, max_pixels)
                    summary.done.append(job.target)
            except (UserError, RuntimeError, OSError, MemoryError) as error:  # of a network, what it cannot take
                reason = str(error).partition("\n")[0] or type(error).__name__
                message = reason if job.source in reason else f"{job.source}: {reason}"
                summary.failed[job.source] = message
                tqdm.write(f"Error: {message}", file=sys.stderr)
            bar.update()
    return summary


def _run(job: Job, enlarger: Enlarger, tile: int | None, max_pixels: int) -> None:
    picture = read_picture(job.source, max_pixels)
    check_target(job.target, picture, enlarger.scale)
    _check_memory(picture, enlarger.scale)
    with tqdm(unit="tile", leave=False, disable=None, desc=os.path.basename(job.source)) as bar:
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

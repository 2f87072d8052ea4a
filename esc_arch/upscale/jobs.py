"""What to read and where to write it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import FORMATS, result_suffix


@dataclass(frozen=True)
class Job:
    """A picture to read, and the file to write."""

    source: str
    target: str


def plan_jobs(inputs: Sequence[str], output: str, suffix: str) -> list[Job]:
    """Find the pictures and name the results.

    Folders are searched recursively, and the tree below them is repeated. What an earlier run wrote is no picture to
    enlarge again.

    Args:
        inputs: files, folders and patterns.
        output: a folder; or, for a single file, the file to write, if it has the suffix of a picture.
        suffix: added to the names.

    Returns:
        the jobs, in the order of the inputs; folders in alphabetical order.

    Raises:
        UserError: an input does not exist, or there are no pictures at all.
    """
    found = [pair for pattern in inputs for pair in _find(pattern)]
    if not found:
        raise UserError(f"{', '.join(inputs)}: there are no pictures ({', '.join(FORMATS)}); name files or folders.")
    if _is_picture(output) and not os.path.isdir(output):
        if len(found) > 1:
            raise UserError(f"-o: {output} is one file, and there are {len(found)} pictures; name a folder.")
        return [Job(found[0][0], output)]
    jobs: dict[str, Job] = {}
    for source, relative in found:
        stem, kind = os.path.splitext(relative)
        jobs.setdefault(
            os.path.realpath(source), Job(source, os.path.join(output, stem + suffix + result_suffix(kind)))
        )
    written = {os.path.realpath(job.target) for path, job in jobs.items() if os.path.realpath(job.target) != path}
    return [job for path, job in jobs.items() if path not in written]


def _find(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield files, and their paths relative to the folder that was named."""
    if os.path.lexists(pattern) and not os.path.isdir(pattern):
        yield pattern, os.path.basename(pattern)
    elif os.path.isdir(pattern):
        for folder, folders, files in os.walk(pattern):
            folders.sort()
            for path in _pictures(os.path.join(folder, name) for name in sorted(files)):
                yield path, os.path.relpath(path, pattern)
    else:
        matches = sorted(glob.glob(pattern, recursive=True))
        if not matches:
            raise UserError(f"{pattern} does not exist; name a file, a folder, or a pattern that fits some.")
        for path in _pictures(matches):
            yield path, os.path.basename(path)


def _pictures(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if _is_picture(path) and not os.path.isdir(path))


def _is_picture(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in FORMATS

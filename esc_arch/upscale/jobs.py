"""What to read and where to write it."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from esc_arch.common.errors import UserError, printable
from esc_arch.common.leftovers import is_leftover
from esc_arch.common.whole_files import sweep, try_folder
from esc_arch.pictures.finding import RESULT, Found, in_words
from esc_arch.pictures.formats import FORMATS, OTHERS, format_of, result_suffix
from esc_arch.pictures.sides import stored_sides
from esc_arch.pictures.writing import written_format

_LABEL = re.compile(r"_x([1-9]\d*(?:\.\d+)?)\Z")  # that results of a factor have
LONGEST_NAME = 255  # bytes, where the system does not say


@dataclass(frozen=True)
class Job:
    """A picture to read, and the file to write."""

    source: str
    target: str


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs: the pictures, in the order of the inputs; folders in alphabetical order.
        problems: why a picture cannot be enlarged, by its path.
        passed: how many files are passed over, by their kinds.
    """

    jobs: list[Job] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)


def plan_jobs(inputs: Sequence[str], output: str, suffix: str, kind: str | None = None) -> Plan:
    """Find the pictures and name the results.

    Folders are searched recursively, and the tree below them is repeated; links are followed, and every name is a
    picture of its own. What an earlier run wrote is no picture to enlarge again, nor is what lies in an output folder
    within an input folder.

    Args:
        inputs: files, folders and patterns.
        output: a folder; or, for a single file, the file to write, if it has the suffix of a picture.
        suffix: added to the names.
        kind: suffix of all results, such as .png; None for that of each picture.

    Returns:
        what is to be done.

    Raises:
        UserError: an input does not exist, there are no pictures at all, a result would be written over its source
            or another result, or of a kind that is not written; the suffix is none.
    """
    if any(separator in suffix for separator in (os.sep, os.altsep, "\0") if separator):
        raise UserError(f"--suffix: {printable(suffix)} must be a part of a name; name the folder by -o.")
    found = _find(inputs, output)
    plan = Plan(problems=found.problems, passed=found.passed)
    if not found.pictures and not found.problems:
        passed = in_words(found.passed)
        raise UserError(
            f"{printable(', '.join(inputs))}: there are no pictures ({', '.join(FORMATS)}); name files or folders."
            + (f" There were {passed}." if passed else "")
        )
    is_folder = os.path.isdir(output) or output.endswith(os.sep)
    if len(inputs) == 1 and os.path.isfile(inputs[0]) and not is_folder and _stands_for_another_kind(output):
        written_format(output)  # which tells what there is instead
    if not format_of(output) and os.path.lexists(output) and not os.path.isdir(output):
        raise UserError(
            f"-o: {printable(output)} is there and no folder; name a folder, a file with the suffix of a picture, or - "
            "for standard output."
        )
    if format_of(output) and not os.path.isdir(output):
        if len(found.pictures) > 1:
            raise UserError(
                f"-o: {printable(output)} is one file, and there are {len(found.pictures)} pictures; name a folder."
            )
        jobs = [Job(source, output) for source, _ in found.pictures]
    else:
        jobs = [Job(source, _target(relative, output, suffix, kind)) for source, relative in found.pictures]
    plan.jobs = _without_results(jobs, plan.passed)
    _check_overwriting(plan.jobs)
    for job in plan.jobs:
        if problem := _target_problem(job.target):
            plan.problems[job.source] = f"{printable(job.source)}: {problem}"
    plan.jobs = [job for job in plan.jobs if job.source not in plan.problems]
    return plan


def try_places(plan: Plan, output: str, overwrite: bool) -> None:
    """Try whether the results can be written, before anything is computed, and sweep up after runs that were killed.

    Args:
        plan: its jobs lose those whose folder takes nothing; they become problems.
        output: as in `plan_jobs`.
        overwrite: results that are there are written too.

    Raises:
        UserError: nothing can be written there; or its system takes names that differ in small and capital letters
            for the same, and two results would.
    """
    waiting = [job for job in plan.jobs if overwrite or not os.path.exists(job.target)]
    if not waiting:
        return
    main = (os.path.dirname(output) or ".") if any(job.target == output for job in waiting) else output
    if try_folder(main):
        folded: dict[str, Job] = {}
        for job in plan.jobs:
            first = folded.setdefault(unicodedata.normalize("NFC", job.target).casefold(), job)
            if first is not job:
                raise _conflict(first, job)
    faults: dict[str, str] = {}
    for folder in {os.path.dirname(job.target) for job in waiting} - {main}:
        existing = _existing(folder)
        try:
            if not os.path.isdir(existing):
                raise UserError(f"{printable(folder)} cannot be made ({printable(existing)} is a file).")
            if existing == folder:
                try_folder(folder)
        except UserError as error:
            faults[folder] = str(error)
    for job in waiting:
        if fault := faults.get(os.path.dirname(job.target)):
            plan.problems[job.source] = f"{printable(job.source)}: {fault}"
    plan.jobs = [job for job in plan.jobs if job.source not in plan.problems]
    for folder in {os.path.dirname(job.target) or "." for job in waiting}:
        sweep(folder)


def _find(inputs: Sequence[str], output: str) -> Found:
    found = Found()
    apart = {os.path.realpath(output)}
    for pattern in inputs:
        name = os.path.basename(os.path.normpath(pattern))
        if os.path.isdir(pattern) and not is_leftover(name):
            found.add_folder(pattern, apart=apart - {os.path.realpath(pattern)})
        elif os.path.lexists(pattern):
            if is_leftover(name):
                found.add_if_picture(pattern, name)  # as a shell's pattern may name them: passed over
            else:
                found.add(pattern, name)
        else:
            matches = sorted(glob.glob(pattern, recursive=True))
            if not matches:
                raise UserError(
                    f"{printable(pattern)} does not exist; name a file, a folder, or a pattern that fits some."
                )
            for path in matches:
                if not os.path.isdir(path):
                    found.add_if_picture(path, os.path.basename(path))
    unique: dict[str, tuple[str, str]] = {}
    for source, relative in found.pictures:
        unique.setdefault(os.path.abspath(source), (source, relative))
    found.pictures = list(unique.values())
    return found


def _target(relative: str, output: str, suffix: str, kind: str | None) -> str:
    stem, own = os.path.splitext(relative)
    return os.path.join(output, stem + suffix + (kind or result_suffix(own)))


def _stands_for_another_kind(output: str) -> bool:
    return os.path.splitext(output)[1].lower() in OTHERS


def _entry(path: str) -> str:
    """Return the real path of a name in a folder, whatever the name leads to."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _without_results(jobs: list[Job], passed: Counter[str]) -> list[Job]:
    """Leave out what this run writes, and where results lie among their sources, what runs with other factors wrote."""
    written = {_entry(job.target): job.source for job in jobs if _entry(job.target) != _entry(job.source)}
    sources: dict[str, list[str]] = {}
    for job in jobs:
        sources.setdefault(os.path.splitext(_entry(job.source))[0], []).append(job.source)
    left = []
    for job in jobs:
        source = _entry(job.source)
        stem = os.path.splitext(source)[0]
        label = _LABEL.search(stem) if os.path.dirname(source) == os.path.dirname(_entry(job.target)) else None
        origins = sources.get(stem[: label.start()], []) if label else []
        is_earlier = label and any(_may_be_made_of(job.source, origin, float(label[1])) for origin in origins)
        if source not in written and not is_earlier:
            left.append(job)
    if len(left) < len(jobs):
        passed[RESULT] += len(jobs) - len(left)
    return left


def _may_be_made_of(result: str, source: str, factor: float) -> bool:
    """Tell whether a picture can be another one enlarged, turned or not; where a size is not known, it can be."""
    found, original = stored_sides(result), stored_sides(source)
    if found is None or original is None:
        return True
    return all(
        abs(after - factor * before) <= 1 + 1e-5 * after  # labels have six digits
        for before, after in zip(sorted(original), sorted(found), strict=True)
    )


def _check_overwriting(jobs: list[Job]) -> None:
    """Check that every result has a place of its own; the same file by the same name twice is done once."""
    owners: dict[str, Job] = {}
    for job in list(jobs):
        target = _entry(job.target)
        if target == _entry(job.source):
            raise UserError(f"{printable(job.source)} would be written over itself; give a --suffix or another -o.")
        first = owners.setdefault(target, job)
        if first is not job:
            if _entry(first.source) != _entry(job.source):
                raise _conflict(first, job)
            jobs.remove(job)


def _conflict(first: Job, second: Job) -> UserError:
    return UserError(
        f"{printable(second.source)} would be written over {printable(first.target)}, like another picture, "
        f"{printable(first.source)}; rename one, or enlarge them into different folders."
    )


def _target_problem(target: str) -> str | None:
    if os.path.isdir(target):
        return f"{printable(target)} is a folder; move it, or choose another -o."
    folder = _existing(os.path.dirname(target) or ".")
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = LONGEST_NAME
    length = len(os.fsencode(os.path.basename(target)))
    if length > longest:
        return (
            f"the name of the result has {length} bytes, and {printable(folder)} takes {longest}; give a shorter "
            "--suffix, or name the result (-o)."
        )
    return None


def _existing(folder: str) -> str:
    """Return a folder, or what there is of its path."""
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return folder or "."

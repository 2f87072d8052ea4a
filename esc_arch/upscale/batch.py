"""Enlarging many pictures, of which some may be broken."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from tqdm import tqdm

from esc_arch.common.errors import printable
from esc_arch.pictures.finding import in_words
from esc_arch.upscale import work as steps
from esc_arch.upscale.jobs import Job, Plan
from esc_arch.upscale.memory import most_together
from esc_arch.upscale.pipeline import Pipeline
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.streams import INPUT, OUTPUT, STREAM
from esc_arch.upscale.work import Settings, Work

LONGEST_LABEL = 40  # characters of a name beside the bar
TOGETHER = 16  # pictures of one size that go through a network on a GPU at once


@dataclass
class Summary:
    """What became of the pictures.

    Attributes:
        done: results that were written.
        resized: how many of them needed no network, since the pictures were large enough.
        there: results that were there already.
        failed: why pictures were not enlarged.
        passed: how many files were no pictures, by kind.
        left: how many pictures were not begun, because the disk takes nothing any more.
    """

    done: list[str] = field(default_factory=list)
    resized: int = 0
    there: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    left: int = 0

    def __str__(self) -> str:
        parts = [f"{len(self.done) - self.resized} enlarged"]
        if self.resized:
            parts.append(f"{self.resized} only resized (no larger than they were)")
        if self.there:
            parts.append(f"{len(self.there)} there already (--overwrite makes them anew)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.left:
            parts.append(f"{self.left} not begun")
        if self.passed:
            parts.append(in_words(self.passed))
        return ", ".join(parts)


@dataclass(frozen=True)
class Outcome:
    """What became of one picture, in words and numbers that can be sent to another process.

    Attributes:
        number: of the job.
        notes: what was decided about the picture.
        problem: why it was not enlarged.
        there: whether the result was there already.
        resized: whether it needed no network.
        line: sizes, time and speed.
    """

    number: int
    notes: tuple[str, ...] = ()
    problem: str | None = None
    there: bool = False
    resized: bool = False
    line: str = ""


def run_jobs(
    plan: Plan,
    networks: Networks,
    settings: Settings,
    *,
    tell: Callable[[str], object] | None = None,
    overlap: bool = True,
    together: int | None = None,
) -> Summary:
    """Enlarge pictures; name those that cannot be, and go on. A disk that takes nothing more ends it.

    Args:
        plan: what to read and to write.
        networks: what enlarges.
        settings: how.
        tell: what to do with a line about each picture that is done; None for nothing.
        overlap: read and write while the network computes.
        together: pictures of one size that are computed at once; None for 1 on a CPU, and TOGETHER elsewhere.

    Returns:
        what became of them.
    """
    summary = Summary(passed=plan.passed)
    for source, problem in plan.problems.items():
        note_problem(summary, source, problem)
    with tqdm(total=len(plan.jobs), unit="picture", disable=None) as bar:
        finished = 0
        works = (Work(number, job) for number, job in enumerate(plan.jobs))
        with closing(run_works(works, networks, settings, overlap=overlap, together=together)) as ended:
            for work in ended:
                finished += 1
                add(summary, work, tell)
                bar.update()
    summary.left = len(plan.jobs) - finished
    return summary


def run_works(
    works: Iterable[Work],
    networks: Networks,
    settings: Settings,
    *,
    overlap: bool = True,
    together: int | None = None,
    on_end: Callable[[Work], object] = lambda work: None,
    bars: bool = True,
) -> Generator[Work, None, None]:
    """Enlarge pictures and yield them in order when each has come to its end.

    Args:
        works: the pictures; each is taken when there is room for it.
        networks: as for `run_jobs`, and so are `settings`, `overlap` and `together`.
        on_end: called when a picture has come to its end, at once and in the thread that writes.
        bars: show how far a picture is.
    """

    def write(work: Work) -> None:
        work.attempt(lambda: steps.write(work, settings))
        on_end(work)

    pipeline = Pipeline(
        works,
        lambda work: work.attempt(lambda: steps.read(work, networks, settings)),
        write,
        together=together or (1 if networks.device == "cpu" else TOGETHER),
        overlap=overlap,
    )
    try:
        for group in pipeline.groups():
            _enlarge(group, settings, pipeline, bars)
            for work in group:
                pipeline.hand_over(work)
            yield from pipeline.finished()
        pipeline.end()
        yield from pipeline.finished()
    finally:
        pipeline.close()


def add(summary: Summary, work: Work, tell: Callable[[str], object] | None) -> None:
    """Add a picture to a summary, tell its problem, and perhaps a line about it."""
    add_outcome(summary, work.job, outcome_of(work), tell)


def outcome_of(work: Work) -> Outcome:
    """Say what became of a picture that has come to its end."""
    if work.problem is not None:
        return Outcome(work.number, work.notes, work.reason())
    if work.there:
        return Outcome(work.number, work.notes, there=True)
    return Outcome(work.number, work.notes, resized=work.is_only_resized, line=line_of(work))


def add_outcome(summary: Summary, job: Job, outcome: Outcome, tell: Callable[[str], object] | None) -> None:
    """Add what became of a picture to a summary, tell its problem, and perhaps a line about it."""
    for note in outcome.notes:
        source = INPUT if job.source == STREAM else job.source
        tqdm.write(f"Note: {printable(source)}: {printable(note)}", file=sys.stderr)
    if outcome.problem is not None:
        note_problem(summary, job.source, outcome.problem)
    elif outcome.there:
        summary.there.append(job.target)
    else:
        summary.done.append(job.target)
        summary.resized += outcome.resized
        if tell:
            tell(outcome.line)


def line_of(work: Work) -> str:
    """Say how large a picture was, how large it is, and how long that took."""
    (height, width), (rows, columns) = work.sides, work.target
    speed = rows * columns / 1e6 / max(work.seconds, 1e-9)
    source = INPUT if work.job.source == STREAM else printable(work.job.source)
    return (
        f"{source}: {width} x {height} to {columns} x {rows} in {duration(work.seconds)}, "
        f"{speed:.3g} megapixels a second"
    )


def conclusion(summary: str, output: str, start: float) -> str:
    """Say what became of all, where the results are, and how long it took.

    Args:
        summary: what became of the pictures.
        output: folder or file.
        start: of `time.monotonic`.
    """
    where = OUTPUT if output == STREAM else printable(output)
    return f"{summary}; {where}, {duration(time.monotonic() - start)}"


def duration(seconds: float) -> str:
    """Say how long something took: 0.52 s, 41 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def note_problem(summary: Summary, source: str, message: str) -> None:
    """Add a problem to a summary, and tell it."""
    summary.failed[source] = message
    tqdm.write(f"Error: {message}", file=sys.stderr)


def _enlarge(group: list[Work], settings: Settings, pipeline: Pipeline, bars: bool) -> None:
    if len(group) > 1:
        most = most_together(group[0].enlarger, group[0].sides, settings.tile)  # the others are alike
        while len(group) > 1 and most > 1 and steps.enlarge_alike(group[:most]):
            group = group[most:]
    for work in group:
        label = printable(os.path.basename(work.job.source))[:LONGEST_LABEL]
        with tqdm(unit="tile", leave=False, disable=None if bars else True, desc=label) as bar:
            work.attempt(
                lambda work=work, bar=bar: steps.enlarge(  # type: ignore[misc]
                    work, settings, lambda tiles: bar.reset(tiles), lambda: bar.update(), pipeline.wait_until_written
                )
            )

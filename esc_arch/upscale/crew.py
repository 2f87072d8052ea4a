"""Processes that share the pictures of one run, started by torchrun or srun, and what has become of all of them.

The first process plans and tells, and every process, the first one too, takes the next picture. A process that is
killed takes the pictures with it that it had begun: the first one notices that it gives no sign of life any more, names
them, and the exit code is 1.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from types import TracebackType

import torch
from torch.distributed import Store
from tqdm import tqdm

from esc_arch.common.ending import Stopped
from esc_arch.common.errors import RunError, UserError, printable
from esc_arch.common.launch import Launch, threads_for
from esc_arch.common.whole_files import DiskError, marked
from esc_arch.upscale.batch import Outcome, Summary, add_outcome, note_problem, outcome_of, run_jobs, run_works
from esc_arch.upscale.handing_out import Pictures, SharedStore, meet
from esc_arch.upscale.jobs import Plan
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.streams import STREAM
from esc_arch.upscale.work import Settings, Work

PLANNING = timedelta(hours=12)  # that the first process gets to find the pictures
BEAT = 2.0  # seconds between signs of life
PATIENCE = 60.0  # seconds without one after which a process is taken for dead
STARTING = 600.0  # and before the first one
PAUSE = 0.1  # seconds between two looks at the others
FAREWELL = 10.0  # seconds that the first process, which may keep the store, waits for others that have nothing to do
LOOKS = 20  # for a file that another node has made
Tell = Callable[[str], object] | None


class Alone:
    """The one process of a run."""

    def agree(self, plan: Callable[[], Plan], output: str) -> Plan:
        """Return the plan."""
        return plan()

    def run(self, plan: Plan, networks: Networks, settings: Settings, tell: Tell) -> Summary:
        """Enlarge all pictures."""
        return run_jobs(plan, networks, settings, tell=tell)


class Crew:
    """One of several processes of a run. As a context: its end is told to the others, whatever it is.

    Args:
        store: of all processes.
        launch: which of them this is.

    Attributes:
        is_for_another_to_tell: whether the first process tells what became of the pictures.
    """

    def __init__(self, store: Store, launch: Launch) -> None:
        self._launch = launch
        self._store = SharedStore(store, launch)
        self._pictures = Pictures(self._store, launch.size)
        self.is_for_another_to_tell = launch.rank > 0
        self._own: deque[Outcome] = deque()
        self._told = 0
        self._is_agreed = False
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._beating, name="beat", daemon=True)
        self._beats: dict[int, tuple[int, float]] = {}
        self._heard = [0] * launch.size
        self._stack = ExitStack()

    @classmethod
    def joined(cls, launch: Launch) -> Crew:
        """Meet the other processes, and take a share of the cores.

        Raises:
            RunError: the first process cannot be reached.
        """
        store = meet(launch)
        if threads := threads_for(launch):
            torch.set_num_threads(threads)
        return cls(store, launch)

    def __enter__(self) -> Crew:
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Say goodbye; the first process tells a mistake that this one has found, and its exit code counts."""
        self._pictures.close()
        try:
            if self._launch.rank > 0:
                return self._say_goodbye(error)
            with suppress(RunError):
                if not self._is_agreed:
                    self._store.set("plan", None)
                if error is None or not self._is_agreed:
                    self._wait_for_others(FAREWELL)
            return False
        finally:
            self._over.set()
            self._beat.join()  # within the store, it would not survive the end of the interpreter
            self._stack.close()

    def agree(self, plan: Callable[[], Plan], output: str) -> Plan:
        """Let the first process plan, and the others know.

        Args:
            plan: makes the plan.
            output: folder or file of the results, or STREAM.

        Returns:
            the plan; in the other processes, which ask for their pictures one by one, an empty one.

        Raises:
            UserError: the first process cannot plan, or this one does not see the same files.
        """
        if self._launch.rank > 0:
            self._store.wait("plan", PLANNING)
            agreed = self._store.get("plan")
            self._is_agreed = True
            if agreed is None:
                raise UserError("the first process could not plan")
            self._pictures.expect(agreed["jobs"])
            if agreed["jobs"] and agreed["mark"] and not _appears(agreed["mark"]):
                folder = printable(os.path.dirname(agreed["mark"]))
                raise UserError(
                    f"it does not see what the first one writes into {folder}; name a folder that all machines share."
                )
            return Plan()
        made = plan()
        is_shared = len(made.jobs) > 1
        self._pictures.send(made.jobs, is_shared)
        mark = self._mark(output) if is_shared else ""
        self._store.set("plan", {"jobs": len(made.jobs) if is_shared else 0, "mark": mark})
        self._is_agreed = True
        return made

    def run(self, plan: Plan, networks: Networks, settings: Settings, tell: Tell) -> Summary:
        """Enlarge the share of this process; the first one tells about all of them, and waits for the others.

        Returns:
            what became of the pictures, an empty summary in the other processes.

        Raises:
            RunError: the first process is gone.
        """
        if self._launch.rank > 0:
            for _ in self._enlarge(networks, settings) if self._pictures.total else ():
                pass
            return Summary()
        if self._pictures.total < 2:  # nothing to share: the others are gone, and their cores are free
            if threads := threads_for(replace(self._launch, local_size=1)):
                torch.set_num_threads(threads)
            return run_jobs(plan, networks, settings, tell=tell)
        summary = Summary(passed=plan.passed)
        for source, problem in plan.problems.items():
            note_problem(summary, source, problem)
        ended: set[int] = set()
        with tqdm(total=self._pictures.total, unit="picture", disable=None) as bar:

            def collect() -> None:
                for outcome in self._news():
                    ended.add(outcome.number)
                    add_outcome(summary, plan.jobs[outcome.number], outcome, tell)
                    bar.update()

            for _ in self._enlarge(networks, settings):
                collect()
            self._wait_for_others(None, collect)
            collect()
        self._reckon(summary, plan, ended)
        return summary

    def _enlarge(self, networks: Networks, settings: Settings) -> Iterator[Work]:
        works = run_works(self._pictures.take(), networks, settings, on_end=self._report, bars=self._launch.rank == 0)
        with closing(works) as ended:
            try:
                yield from ended
            finally:
                self._pictures.close()  # first, since the thread that reads may wait for the next picture

    def _report(self, work: Work) -> None:
        """Send what became of a picture; a disk that takes nothing more ends the run for all."""
        outcome = outcome_of(work)
        if isinstance(work.problem, DiskError):
            self._pictures.stop()
        if self._launch.rank == 0:
            self._own.append(outcome)
        else:
            self._store.set(f"ended/{self._launch.rank}/{self._told}", asdict(outcome))
            self._told += 1
        self._pictures.end(work.number)

    def _news(self) -> Iterator[Outcome]:
        """Yield what became of pictures of all processes since the last time."""
        while self._own:
            yield self._own.popleft()
        for rank in range(1, self._launch.size):
            while self._store.has(key := f"ended/{rank}/{self._heard[rank]}"):
                values = self._store.get(key)
                self._store.delete(key)
                self._heard[rank] += 1
                yield Outcome(**{**values, "notes": tuple(values["notes"])})

    def _wait_for_others(self, seconds: float | None, collect: Callable[[], object] = lambda: None) -> None:
        """Wait until all others have said goodbye or are dead, or for so many seconds."""
        end = time.monotonic() + (seconds or float("inf"))
        while any(self._is_at_work(rank) for rank in range(1, self._launch.size)) and time.monotonic() < end:
            collect()
            time.sleep(PAUSE)

    def _is_at_work(self, rank: int) -> bool:
        if self._store.has(f"bye/{rank}"):
            return False
        beats, now = self._store.add(f"beat/{rank}", 0), time.monotonic()
        before, when = self._beats.setdefault(rank, (beats, now))
        if beats != before:
            self._beats[rank] = beats, now
            return True
        return now - when < (PATIENCE if beats else STARTING)

    def _reckon(self, summary: Summary, plan: Plan, ended: set[int]) -> None:
        """Find what was taken and has not come to an end, and what nobody took."""
        taken = self._pictures.taken()
        given_back: set[int] = set(self._pictures.mine)
        for rank in range(1, self._launch.size):
            bye = self._store.get(f"bye/{rank}") if self._store.has(f"bye/{rank}") else None
            if bye is not None:
                given_back.update(bye["taken"])
            if bye is None or bye["problem"]:
                name = f"process {rank} of {self._launch.size}"
                reason = bye["problem"] if bye else "it gives no sign of life any more (killed, or out of memory?)"
                note_problem(summary, name, f"{name}{' on ' + bye['host'] if bye else ''}: {reason}")
        lost = sorted(set(range(taken)) - ended - given_back)
        for number in lost:
            source = plan.jobs[number].source
            note_problem(
                summary, source, f"{printable(source)}: the process that had taken it is gone; the same command does it"
            )
        summary.left = self._pictures.total - len(ended) - len(lost)

    def _say_goodbye(self, error: BaseException | None) -> bool:
        told_by_the_first = isinstance(error, UserError) and not isinstance(error, RunError)
        problem = None
        if isinstance(error, Exception | Stopped):
            problem = str(error) or type(error).__name__
        bye = {"problem": problem, "taken": sorted(self._pictures.mine), "host": socket.gethostname()}
        if not isinstance(error, RunError):
            self._store.set(f"bye/{self._launch.rank}", bye)
        return told_by_the_first

    def _mark(self, output: str) -> str:
        """Leave a file in the folder of the results, for the others to see; return its path."""
        if output == STREAM:
            return ""
        folder = output if os.path.isdir(output) else os.path.dirname(output) or "."
        try:
            return os.path.abspath(self._stack.enter_context(marked(folder)))
        except UserError:  # results are all there, in a place that can only be read
            return ""

    def _beating(self) -> None:
        with suppress(RunError):
            while True:
                self._store.add(f"beat/{self._launch.rank}", 1)
                if self._over.wait(BEAT):
                    return


@contextmanager
def told_by_the_first(launch: Launch) -> Iterator[None]:
    """Let the first process tell what all of them find, and end with its exit code.

    The others print nothing, and end without a fault: torchrun would end the first one before it has told anything.
    """
    if launch.rank == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except (SystemExit, UserError):
            sys.exit(0)


def _appears(file: str) -> bool:
    """Tell whether a file is seen that another process has made, which may take a moment on a network's disk."""
    for _ in range(LOOKS):
        if os.path.exists(file):
            return True
        time.sleep(PAUSE)
    return False

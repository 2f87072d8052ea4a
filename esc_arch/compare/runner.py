"""Runs the measurements: a process each, the networks in turn, with results kept as they come."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from esc_arch.common.processes import clean_processes
from esc_arch.compare.job import Job, Protocol
from esc_arch.compare.measure import work
from esc_arch.compare.options import TIMED, Row
from esc_arch.compare.pictures import FOLDER, Album, sweep
from esc_arch.compare.record import Record, digest, key_of, state_of
from esc_arch.compare.runtimes import FOLDER as GRAPHS
from esc_arch.compare.runtimes import circumstances

LOG = "messages.log"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        rows: the networks.
        sizes: height and width of the input, by scale.
        protocol: how the networks are run.
        rounds: how often every network is timed, in turn with the others.
        environment: machine and versions; results of another one are not used.
        folder: where results go.
        modules: modules to import first, which register networks.
        pictures: how many result pictures of every data set are kept.
    """

    rows: list[Row]
    sizes: dict[int, tuple[int, int]]
    protocol: Protocol
    rounds: int
    environment: dict[str, Any]
    folder: str
    modules: tuple[str, ...]
    pictures: int

    def key(self, row: Row, task: str) -> str:
        """Return a key of all that the result of a task depends on."""
        common = [row.file, row.network, row.scale, self.environment, self.modules, task]
        if task == "parameters":
            return key_of(common)
        if task == "macs":
            return key_of(common, self.sizes[row.scale])
        protocol = self.protocol
        if task == "speed":
            return key_of(common, self.sizes[row.scale], vars(protocol), row.dtype, *circumstances(row))
        rest = {key: row.content.get(key) for key in ("model_type", "val", "path", "tile")}
        data, weights = (row.sets[task], state_of(row.sets[task])), (row.param_key, digest(row.weights))
        return key_of(common, *data, rest, *weights, protocol.device, row.dtype, row.metrics)

    def album(self, row: Row, name: str) -> Album:
        """Return what keeps the result pictures of a data set, under the key of its scores."""
        return self._album(self.key(row, name))

    def _album(self, key: str) -> Album:
        return Album(os.path.join(os.path.abspath(self.folder), FOLDER, f"{key}.json"), self.pictures)

    def is_done(self, record: Record, row: Row, task: str, number: int) -> bool:
        """Whether there is a result of a task, and the pictures that belong to it."""
        key = self.key(row, task)
        if record.get(key, number) is None:
            return False
        return task in TIMED or not self.pictures or self._album(key).is_there()

    def tasks(self) -> Iterator[tuple[Row, int, list[str]]]:
        """Yield what a process does: row, round and tasks. The networks of a scale and dtype, whose times are set in
        relation, take turns, every other round backwards, so that a machine that grows slower or faster treats all
        alike."""
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in self.rows:
            if row.timed:
                groups.setdefault((row.scale, row.dtype), []).append(row)
        for group in groups.values():
            for number in range(self.rounds):
                for row in group if number % 2 == 0 else reversed(group):
                    yield row, number, list(TIMED) if number == 0 else ["speed"]
        for row in self.rows:
            sets = [name for name in row.sets if name not in row.problems] if row.content and row.is_scored else []
            if sets:
                # the number of parameters tells which published network it is
                yield row, 0, sets if row.timed or row.is_bicubic else ["parameters", *sets]


def run(plan: Plan) -> Record:
    """Measure all that has not been measured yet.

    Args:
        plan: what to measure; problems are added to its rows.

    Returns:
        the results, which are also in `results.jsonl` of the folder; result pictures are below it.

    Raises:
        UserError: the file of results cannot be read.
    """
    record = Record(os.path.join(plan.folder, "results.jsonl"))
    todo = [(row, number, tasks) for row, number, tasks in plan.tasks() if "" not in row.problems]
    for row in plan.rows:
        for name, problem in row.problems.items():
            tqdm.write(f"{row.title}{': ' + name if name else ''}: {problem}", file=sys.stderr)
    with tqdm(total=sum(len(tasks) for _, _, tasks in todo), unit="task", desc="compare", dynamic_ncols=True) as bar:
        for row, number, tasks in todo:
            bar.set_postfix_str(f"{row.title}, round {number + 1}")
            missing = [task for task in tasks if not plan.is_done(record, row, task, number)]
            for task in missing:
                if record.get(plan.key(row, task), number) is not None:
                    again = f"{row.title}, {task}: scored again for its pictures (--pictures 0 does without)."
                    tqdm.write(again, file=sys.stderr)
            while missing := [task for task in missing if not _is_hopeless(row, task)]:
                missing = _run_process(plan, record, row, number, missing)
            bar.update(len(tasks))
    shutil.rmtree(os.path.join(plan.folder, GRAPHS), ignore_errors=True)
    sweep(os.path.join(plan.folder, FOLDER))
    return record


def _is_hopeless(row: Row, task: str) -> bool:
    """Tell whether a task failed before, or the network could not even be built."""
    return task in row.problems or "parameters" in row.problems


def _run_process(plan: Plan, record: Record, row: Row, number: int, tasks: list[str]) -> list[str]:
    """Do tasks in a new process; return those it did not come to because it died."""
    context = clean_processes(["esc_arch.compare.measure", "basicsr"], afresh=plan.protocol.device == "cuda")
    receiver, sender = context.Pipe(duplex=False)
    log = os.path.abspath(os.path.join(plan.folder, LOG))
    albums = {task: plan.album(row, task) for task in tasks if plan.pictures and task not in TIMED}
    job = Job(row, plan.sizes[row.scale], plan.protocol, tuple(tasks), os.getcwd(), log, plan.modules, albums)
    process = context.Process(target=work, args=(sender, job))
    process.start()
    sender.close()
    waiting = list(tasks)
    try:
        while waiting:
            event, task, result = receiver.recv()
            if event == "started":
                continue
            waiting.remove(task)
            if event == "done":
                record.add(plan.key(row, task), number, label=row.title, task=task, values=result)
            else:
                _note_failure(plan, record, row, number, task, result)
            if "parameters" in row.problems:
                break
        process.join()
    except (EOFError, ConnectionResetError):
        process.join()
        _note_failure(plan, record, row, number, waiting.pop(0), _death(process.exitcode, log))
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()
    return waiting


def _note_failure(plan: Plan, record: Record, row: Row, number: int, task: str, problem: str) -> None:
    row.problems[task] = problem
    record.add(plan.key(row, task), number, label=row.title, task=task, error=problem)
    tqdm.write(f"{row.title}, {task}: {problem}", file=sys.stderr)


def _death(exit_code: int | None, log: str) -> str:
    """Say how a process ended that did not finish."""
    where = f"what it printed is in {os.path.relpath(log)}"
    if exit_code is not None and exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}; {where}."
    return f"the process ended by itself, with exit code {exit_code}, before it was done; {where}."

"""Runs a function over many files in worker processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import torch
from tqdm import tqdm

from esc_arch.common.errors import ManyError, UserError
from esc_arch.common.processes import clean_processes, end_clean_process
from esc_arch.common.whole_files import DiskError

Job = TypeVar("Job")


def default_workers() -> int:
    """Count the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_parallel(
    function: Callable[[Job], list[str] | None],
    jobs: Sequence[Job],
    workers: int | None = None,
    description: str = "",
    faults: Sequence[str] = (),
) -> None:
    """Call `function(job)` for all jobs, in no particular order.

    Args:
        function: must be picklable; raises UserError when a job's input is at fault, and may return what is to be
            noted about it.
        jobs: picklable arguments.
        workers: number of processes; None for one per CPU core.
        description: label of the progress bar.
        faults: what was found to be at fault before, to be told with the rest.

    Raises:
        DiskError: the disk is full; no further jobs are started.
        UserError: jobs failed, which are all named; the others were all finished before it is raised. Or a worker
            process was killed.
        OSError: writing failed; no further jobs are started.
    """
    workers = default_workers() if workers is None else workers
    if workers < 1:
        raise UserError(f"--workers must be at least 1, not {workers}.")
    faults, notes = list(faults), list[str]()
    count = max(1, min(workers, len(jobs)))
    module = getattr(function, "func", function).__module__  # of a functools.partial, what it calls
    executor = ProcessPoolExecutor(count, clean_processes([module]), initializer=_start_worker)
    try:
        futures = [executor.submit(function, job) for job in jobs]
        for future in tqdm(as_completed(futures), total=len(futures), desc=description, unit="image"):
            try:
                notes += future.result() or []
            except DiskError:
                raise
            except UserError as error:
                faults.append(str(error))
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()  # those that are still starting end at once, the others finish their image
        end_clean_process()
        raise
    except BrokenProcessPool as error:
        raise UserError(
            "A worker process was killed, perhaps for lack of memory: run again, fewer --workers."
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)
    for note in sorted(notes):
        print(f"Note: {note}", file=sys.stderr)
    if faults:
        raise faults_in_words(faults)


def faults_in_words(faults: Sequence[str]) -> UserError:
    """Name everything that is at fault, a line each."""
    return ManyError(sorted(faults))


def _start_worker() -> None:
    # one image per process and core is faster than several threads per image
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the parent to answer, while this finishes its image
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End this worker when the parent was killed; it would wait for its next job forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

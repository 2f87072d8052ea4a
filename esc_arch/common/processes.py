"""Processes that start clean, whatever the program has done before."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from typing import Any


def clean_processes(preload: list[str], afresh: bool = False) -> Any:
    """Choose how processes start: never as a copy of this one, whose threads a copy would lack and wait for.

    They are forked from a clean process that has imported what they need, which takes no time, or start afresh where
    there is no fork.

    Args:
        preload: modules that the clean process imports; the first call of a program decides.
        afresh: start every process afresh, as CUDA needs it.

    Returns:
        A context of `multiprocessing`.
    """
    if afresh or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    _start_forkserver()
    return context


def _start_forkserver() -> None:
    """Start the clean process, if it does not run yet, with the module path of this one.

    By itself it would look for this package in the current directory and among what is installed, and might take
    another version than the one that was started. It and its copies do not hear Ctrl-C, which is for this process to
    answer.
    """
    from multiprocessing import forkserver, resource_tracker  # not everywhere

    resource_tracker.ensure_running()  # here, since it ends with Ctrl-C heard again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def end_clean_process() -> None:
    """End the clean process, which may still be importing: what it would start has nobody to work for any more."""
    server = sys.modules.get("multiprocessing.forkserver")
    pid = getattr(getattr(server, "_forkserver", None), "_forkserver_pid", None)
    if pid:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)

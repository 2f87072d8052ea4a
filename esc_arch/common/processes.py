"""Processes that start clean, whatever the program has done before."""

from __future__ import annotations

import multiprocessing
import os
import sys
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
    another version than the one that was started.
    """
    from multiprocessing import forkserver  # not everywhere

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before

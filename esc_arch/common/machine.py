"""Describes what the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from esc_arch.common.errors import UserError
from esc_arch.fast import kernels
from esc_arch.version import __version__


def choose_device(name: str) -> str:
    """Resolve `auto`, and check that the device is there.

    Raises:
        UserError: CUDA is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("--device: cuda is not there (PyTorch sees no GPU); use --device cpu.")
    return ("cuda" if there else "cpu") if name == "auto" else name


def describe(device: str, threads: int | None) -> dict[str, Any]:
    """Name the machine, the device, the versions and the commit.

    Args:
        device: `cpu` or `cuda`.
        threads: number of CPU threads asked for, None for PyTorch's choice.

    Returns:
        names and values, for tables and for telling runs apart.
    """
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "host": platform.node(),
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "threads": threads or torch.get_num_threads(),
        "kernels": kernels.instructions() or "not compiled",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "basicsr": _version("basicsr"),
        "esc_arch": __version__,
        "commit": _commit(),
    }


def memory_of_machine() -> int:
    """Return the bytes of memory that the machine has; where that cannot be known, more than any has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 2**44


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Name the commit of this package's source, marked where files were changed since; None outside of a checkout."""
    folder = os.path.dirname(os.path.dirname(__file__))

    def git(*arguments: str) -> str:
        call = ["git", "-C", folder, *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "version.py")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None

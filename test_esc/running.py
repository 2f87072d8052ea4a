"""Training as the command does, for tests: in this process, or in one of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from esc_arch import train

Options = dict[str, Any]


def train_here(folder: Path, opt: Options, *arguments: str, file: str | None = None) -> int:
    """Train in this process below `folder`, which is the working directory; return the exit code."""
    from basicsr.utils.logger import initialized_logger

    initialized_logger.clear()
    logging.getLogger("basicsr").handlers.clear()
    if file is None:
        (folder / "options.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
    before = sys.argv
    sys.argv = ["train", "-opt", file or "options.yml", *arguments]
    try:
        train.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def started(folder: Path, opt: Options, *arguments: str, processes: int = 1) -> subprocess.Popen[str]:
    """Start a training in a process group of its own, below `folder`."""
    (folder / "options.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
    command = [sys.executable, "-m", "esc_arch.train", "-opt", "options.yml", *arguments]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=29583"]
        command = [sys.executable, *torchrun, *command[1:], "--launcher", "pytorch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a training that `started` began has written a file, however slow the machine is.

    Raises:
        AssertionError: it ended, or stopped, before; with what it printed.
    """
    printed: list[str] = []
    while not file.exists():
        if process.poll() is not None:
            printed += process.communicate()
            assert file.exists(), f"the training ended with {process.returncode} before {file.name}: {printed[0]}"
        time.sleep(0.02)


def everything(folder: Path, name: str, iteration: int) -> tuple[Any, Any]:
    """Read the checkpoint of an iteration: networks and state."""
    root = folder / "experiments" / name
    network = torch.load(root / f"models/net_g_{iteration}.pth", weights_only=True)
    return network, torch.load(root / f"training_states/{iteration}.state", weights_only=True)


def written(folder: Path) -> dict[str, int]:
    """List what training writes below `folder`, with the times of change."""
    paths = [path for top in ("experiments", "tb_logger") for path in (folder / top).rglob("*")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}

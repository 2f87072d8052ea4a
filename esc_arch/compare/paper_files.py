"""Finds the option files of the paper's Table 2: `--paper` of the comparison stands for them."""

from __future__ import annotations

import os
from pathlib import Path

import esc_arch
from esc_arch.common.errors import UserError
from esc_arch.compare.published import NETWORKS

SCALES = (2, 3, 4)
CPU_OUTPUT = 256, 256  # width, height; what takes minutes on a CPU in place of hours


def with_paper(files: list[str], paper: bool) -> list[str]:
    """Put the option files of the paper's table in front of those that are given.

    Args:
        files: option files that are given.
        paper: whether those of the paper are asked for.

    Returns:
        at x2, x3 and x4, the networks of the paper's Table 2 in its order, ESC last, and then `files`. A file of the
        paper that is given, too, stands where it was given.

    Raises:
        UserError: there is no file at all, or those of the paper cannot be found.
    """
    if not paper:
        if not files:
            raise UserError("there is nothing to compare; name option files, or give --paper for those of its table.")
        return files
    folder = _options_folder()
    given = {os.path.realpath(file) for file in files}
    found = [file for scale in SCALES for file in _of_scale(folder, scale) if os.path.realpath(file) not in given]
    return [*found, *files]


def _of_scale(folder: Path, scale: int) -> list[str]:
    names = [network.name.replace("-", "_") for network in NETWORKS if network.in_table]
    found = []
    for name in names:
        own, rival = folder / f"test_{name}_x{scale}.yml", folder / "peers" / f"test_{name}_x{scale}.yml"
        if not own.is_file() and not rival.is_file():
            raise UserError(f"--paper: {rival} is not there; get the option files of this version of esc_arch again.")
        found.append(os.path.relpath(own if own.is_file() else rival))
    return found


def _options_folder() -> Path:
    """Find `options/` of this project: here, or beside the package where it runs from a checkout."""
    beside = Path(esc_arch.__file__).parent.parent
    for root in (Path.cwd(), beside):
        if (root / "options" / "peers").is_dir():
            return root / "options"
    raise UserError(
        "--paper: there is no folder options/ with the option files of esc_arch here; run this in a clone of its "
        "repository, or name option files."
    )

"""Pictures per second of the upscaling command, with files and computing one after the other, and overlapped."""

from __future__ import annotations

import subprocess
import sys

from esc_arch.common.errors import UserError


def overlapping(sets: list[tuple[int, int]], device: str, rounds: int) -> str:
    """Let the command measure itself, in a process of its own: a tool knows nothing of another's insides.

    Args:
        sets: numbers of pictures, and their sides.
        device: `cpu` or `cuda`.
        rounds: how often each way is timed.

    Returns:
        a table in Markdown.

    Raises:
        UserError: the command cannot be measured.
    """
    given = [f"{number}x{side}" for number, side in sets]
    command = [sys.executable, "-m", "esc_arch.upscale.measuring", "--device", device, "--rounds", str(rounds)]
    done = subprocess.run([*command, "--sets", *given], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"files: {(done.stderr.strip().splitlines() or ['it ended without a word'])[-1]}")
    return done.stdout.strip()

"""Guards the commands of this package while they import what they need, which takes seconds.

To be imported first of all. Nothing has been written so far, so a signal ends the process at once. In a program of
somebody else nothing is done.
"""

from __future__ import annotations

import os
import sys

from esc_arch.common.ending import end_at_once, handle

MARK = "__command__"  # set to "esc_arch" by scripts that are commands of this package


def _is_command() -> bool:
    """Tell whether this program is `python -m esc_arch...`, or a script of this package."""
    named = sys.argv[:1] == ["-m"] and any(name.startswith(("esc_arch", "-mesc_arch")) for name in sys.orig_argv)
    return named or getattr(sys.modules.get("__main__"), MARK, None) == "esc_arch"


def _open_what_is_closed() -> None:
    """Open the standard streams that are closed: the next file would get their number, and every message into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


if _is_command():
    _open_what_is_closed()
    handle(end_at_once)

"""How commands end when they are told to stop: with a sentence, the usual exit code, and nothing half-written."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_WORDS = {"SIGINT": "Interrupted", "SIGTERM": "Ended by SIGTERM", "SIGHUP": "Ended by SIGHUP"}
_SIGNALS = {getattr(signal, name): words for name, words in _WORDS.items() if hasattr(signal, name)}
Handler = Any  # what `signal.signal` takes and returns
_LAST: list[Callable[[], object]] = []


class _State:
    """Who answers the signals: the process, and whether it was told to stop already."""

    owner = 0
    told = False


_STATE = _State()


class Stopped(KeyboardInterrupt):
    """The command was told to stop.

    Args:
        number: the signal.
        hint: what to do next, as the end of a sentence.
    """

    def __init__(self, number: int = signal.SIGINT, hint: str = "") -> None:
        super().__init__(number, hint)
        self.number, self.hint = number, hint

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as shells have it."""
        return 128 + self.number

    def __str__(self) -> str:
        return f"{_SIGNALS[self.number]}{'; ' + self.hint if self.hint else ''}."


def at_hard_end(function: Callable[[], object]) -> Callable[[], object]:
    """Call a function before the process ends at once, because it was told to stop a second time."""
    _LAST.append(function)
    return function


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals raise `Stopped` in the block; a second one ends the process at once, without what is half-written.

    Signals that are ignored, as under `nohup`, stay so. In a thread, or a process made by fork, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = handle(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def going_on_when_repeated() -> Iterator[None]:
    """Add to `Stopped`, or Ctrl-C, that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        raise Stopped(number, "the same command goes on from here") from None


def handle(handler: Handler) -> dict[int, Handler]:
    """Let a function answer the signals that ask to stop, unless they are ignored; return what handled them before."""
    _STATE.owner, _STATE.told = os.getpid(), False
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: old for number, old in found.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    return before


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End the process with a sentence: a handler for where there is nothing to be put in order."""
    for function in _LAST:
        function()
    with suppress(OSError):
        os.write(2, f"{Stopped(number)}\n".encode())
    os._exit(Stopped(number).exit_code)


def _raise(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _STATE.owner:  # a copy of the process: Ctrl-C is for the first one to answer
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
    elif _STATE.told:
        end_at_once(number, frame)
    else:
        _STATE.told = True
        raise Stopped(number)

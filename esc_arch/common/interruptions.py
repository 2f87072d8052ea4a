"""Signals that a long run answers when it suits, not at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from esc_arch.common.ending import end_at_once, handle

SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
# torchrun hands a signal on that a terminal or Slurm sent to all processes: the same one twice
SAME_SIGNAL_SECONDS = 1.0


class Interruptions:
    """Keeps the first signal for whoever asks; the second one ends the process at once.

    Attributes:
        number: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._when = 0.0
        self._words = ""

    @contextlib.contextmanager
    def awaited(self, words: str) -> Iterator[None]:
        """Take the signals meanwhile, in the main thread, the only one that Python lets.

        Args:
            words: what will be done now, to be printed when a signal comes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._words = words
        before = handle(self._keep)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._when = number, now
            with contextlib.suppress(OSError):  # in the middle of whatever is being printed
                os.write(2, f"\n{signal.Signals(number).name}: {self._words}\n".encode())
        elif "TORCHELASTIC_RUN_ID" not in os.environ or now - self._when > SAME_SIGNAL_SECONDS:
            for child in multiprocessing.active_children():
                child.kill()
            end_at_once(number, frame)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Let signals wait while a process is started, which inherits that until it has its own handlers."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Queues between the threads that read, compute and write."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """A queue between two threads that holds little: more is taken when what is there is less than both limits.

    Args:
        most: how many things it holds.
        most_bytes: how many bytes.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._things: deque[tuple[T, int]] = deque()
        self._changed = threading.Condition()
        self._busy = 0  # things that were taken and are not done
        self._ended = self._closed = False

    def wait_for_room(self) -> bool:
        """Wait until something can be put; False where nothing is wanted any more."""
        with self._changed:
            while not self._closed and self._things and self._is_full():
                self._changed.wait()
            return not self._closed

    def put(self, thing: T, size: int = 0) -> None:
        """Wait for room, and put a thing of so many bytes; it is dropped where nothing is wanted any more."""
        if self.wait_for_room():
            with self._changed:
                self._things.append((thing, size))
                self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing more will be put."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Drop everything, and want nothing any more."""
        with self._changed:
            self._closed = True
            self._things.clear()
            self._changed.notify_all()

    def get(self) -> T | None:
        """Wait for a thing and take it; None where none will come. What was taken before is done."""
        with self._changed:
            self._busy = 0
            self._changed.notify_all()
            while not self._things and not self._ended and not self._closed:
                self._changed.wait()
            return self._take() if self._things else None

    def get_alike(self, alike: Callable[[T], bool]) -> T | None:
        """Take the next thing as well, if it is there already and like the others."""
        with self._changed:
            return self._take() if self._things and alike(self._things[0][0]) else None

    def wait_until_done(self) -> None:
        """Wait until everything that was put is taken and done."""
        with self._changed:
            while (self._things or self._busy) and not self._closed:
                self._changed.wait()

    def _is_full(self) -> bool:
        return len(self._things) >= self._most or sum(size for _, size in self._things) >= self._most_bytes

    def _take(self) -> T:
        self._busy += 1
        self._changed.notify_all()
        return self._things.popleft()[0]


def in_thread(function: Callable[[], object], name: str) -> threading.Thread:
    """Start a thread, which does not keep the process from ending."""
    thread = threading.Thread(target=function, name=name, daemon=True)
    thread.start()
    return thread

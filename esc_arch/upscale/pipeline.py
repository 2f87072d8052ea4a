"""Reading, enlarging and writing many pictures, one after the other or all three at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from esc_arch.common.whole_files import DiskError
from esc_arch.upscale.overlap import Channel, in_thread
from esc_arch.upscale.work import Work, are_alike

AHEAD = 2  # pictures that are read before they are needed, and as many that wait to be written
AHEAD_BYTES = 256 * 2**20  # and no more than these, but for one picture
PATIENCE = 10.0  # seconds that a reader gets to come to an end; it has nothing half-written


class Pipeline:
    """The three steps, of which the middle one is the caller's: `groups` gives what is read, `write` takes it back.

    Overlapped, one thread reads and one writes, and both keep the order. Whatever goes wrong in a thread, other than
    with a picture, is raised in the caller's.

    Args:
        works: the pictures; each is taken when there is room for it.
        read: reads one, with its problems noted in it.
        write: writes one, likewise.
        together: the most pictures of a group.
        overlap: read and write meanwhile.
    """

    def __init__(
        self,
        works: Iterable[Work],
        read: Callable[[Work], object],
        write: Callable[[Work], object],
        *,
        together: int = 1,
        overlap: bool = True,
    ) -> None:
        self._works, self._read, self._write = works, read, write
        self._together, self._overlap = together, overlap
        ahead = max(AHEAD, 2 * together)
        self._read_ones: Channel[Work] = Channel(ahead, AHEAD_BYTES)
        self._enlarged: Channel[Work] = Channel(ahead, AHEAD_BYTES)
        self._finished: deque[Work] = deque()
        self._crash: list[BaseException] = []
        self._full = False
        self._threads = []
        if overlap:
            self._threads = [in_thread(self._reading, "reader"), in_thread(self._writing, "writer")]

    def groups(self) -> Iterator[list[Work]]:
        """Yield what is read, in order, as many at a time as are alike and there already."""
        if not self._overlap:
            for alone in self._works:
                self._read(alone)
                yield [alone]
                if self._full:
                    return
            return
        while (work := self._read_ones.get()) is not None:
            group = [work]
            while len(group) < self._together:
                more = self._read_ones.get_alike(lambda other, first=work: are_alike(first, other))  # type: ignore[misc]
                if more is None:
                    break
                group.append(more)
            yield group

    def hand_over(self, work: Work) -> None:
        """Give a picture to be written, or its problem to be told in its turn."""
        if self._overlap:
            self._enlarged.put(work, work.size)
        else:
            self._finish(work)

    def wait_until_written(self) -> None:
        """Wait until everything that was handed over is written."""
        if self._overlap:
            self._enlarged.wait_until_done()

    def finished(self) -> Iterator[Work]:
        """Yield what has come to its end since the last time."""
        while self._finished:
            yield self._finished.popleft()

    def end(self) -> None:
        """Wait until everything is written.

        Raises:
            BaseException: what went wrong in a thread.
        """
        self._enlarged.end()
        if self._overlap:
            self._threads[1].join()
        if self._crash:
            raise self._crash[0]

    def close(self) -> None:
        """Drop what is not begun. A picture that is being written becomes whole."""
        self._read_ones.close()
        self._enlarged.close()
        if self._overlap:
            self._threads[1].join()
            self._threads[0].join(PATIENCE)

    def _reading(self) -> None:
        try:
            works = iter(self._works)
            while self._read_ones.wait_for_room() and (work := next(works, None)) is not None:
                self._read(work)
                self._read_ones.put(work, work.size)
            self._read_ones.end()
        except BaseException as error:
            self._fail(error)

    def _writing(self) -> None:
        try:
            while (work := self._enlarged.get()) is not None:
                self._finish(work)
        except BaseException as error:
            self._fail(error)

    def _finish(self, work: Work) -> None:
        if self._full:
            return
        self._write(work)
        self._finished.append(work)
        if isinstance(work.problem, DiskError):  # a disk that takes nothing more: there is no sense in going on
            self._full = True
            self._read_ones.close()

    def _fail(self, error: BaseException) -> None:
        self._crash.append(error)
        self._read_ones.close()
        self._enlarged.close()

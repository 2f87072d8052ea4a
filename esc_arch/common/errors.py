"""Mistakes of the user, told in one sentence instead of a stack trace."""

from __future__ import annotations

import functools
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from esc_arch.common.ending import Stopped, stoppable
from esc_arch.common.launch import launched

P = ParamSpec("P")
T = TypeVar("T")
OF_OPENCV = re.compile(r"OpenCV\(.*?: error: \(-?\d+:(?P<kind>[^)]*)\)(?P<words>.*?) in function '")


class UserError(ValueError):
    """Something that the user gave cannot be used; the message names it and says what to do."""


class RunError(UserError):
    """Something went wrong in the middle of a run, perhaps in one of its processes only: that one tells it."""


class ManyError(UserError):
    """Several things at fault, each told in a line of its own.

    Args:
        sentences: what is wrong, and what to do.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("\nError: ".join(sentences))
        self.sentences = list(sentences)


def one_sentence(main: Callable[P, T]) -> Callable[P, T]:
    """Make a command end with exit code 1 and the message alone when it raises UserError.

    Told to stop by Ctrl-C, SIGTERM or SIGHUP, it ends with a sentence and the exit code that shells know them by. A
    reader of its output that goes away does not disturb it; output that cannot be written is told.

    Where several processes work together, every one finds the same mistake; only the first one tells it.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with stoppable(), _lasting_output():
                return main(*args, **kwargs)
        except UserError as error:
            for sentence in error.sentences if isinstance(error, ManyError) else [str(error)]:
                _tell(f"Error: {sentence}", isinstance(error, RunError))
            sys.exit(1)
        except UnicodeEncodeError as error:  # of a path, or of text that is written to a file
            text = error.object[error.start : error.end]
            _tell(
                f"Error: {text!r} cannot be written in the encoding of this system ({error.encoding}); set "
                "PYTHONUTF8=1, or choose names of plain letters."
            )
            sys.exit(1)
        except KeyboardInterrupt as stop:
            stopped = stop if isinstance(stop, Stopped) else Stopped()
            _tell(str(stopped))
            sys.exit(stopped.exit_code)

    return wrapper


def printable(text: str) -> str:
    """Write what a terminal or a line cannot hold as Python would: control characters, bytes that are no text."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; of one of OpenCV without places in its source."""
    in_parts = len(error.args) > 1 and all(isinstance(part, str) for part in error.args)  # BasicSR forgets to join some
    line = ("".join(error.args) if in_parts else str(error)).partition("\n")[0] or type(error).__name__
    found = OF_OPENCV.match(line)
    return line if found is None else f"OpenCV fails ({found['words'].strip() or found['kind']})"


def some(things: list[str], most: int = 10) -> str:
    """List things, the first of them where there are many."""
    return ", ".join(things[:most]) + (f" and {len(things) - most} more" if len(things) > most else "")


def _tell(message: str, by_any: bool = False) -> None:
    if by_any or _is_first_process():
        with suppress(OSError):
            print(printable(message), file=sys.stderr, flush=True)


def _is_first_process() -> bool:
    distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)  # not imported for this
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() == 0
    return launched().rank == 0


class _Lasting:
    """A stream of text that is written to nowhere from the moment on when it cannot be written any more.

    Args:
        stream: what is written to until then.

    Attributes:
        failure: why it could not be written, unless its reader went away.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as the stream does."""
        self._guarded(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush as the stream does."""
        self._guarded(self._stream.flush)

    def _guarded(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            function(*args)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failure = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what it still holds goes there too
            os.close(nowhere)


@contextmanager
def _lasting_output() -> Iterator[None]:
    """Let the standard streams take every name of a file, and outlast their readers.

    Raises:
        UserError: what was printed cannot be written.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    lasting = _Lasting(sys.stdout)
    sys.stdout, sys.stderr = lasting, _Lasting(sys.stderr)  # type: ignore[assignment]
    try:
        yield
    finally:
        lasting.flush()
        sys.stdout, sys.stderr = before
    if lasting.failure is not None:
        raise UserError(f"standard output cannot be written ({lasting.failure.strerror}).")

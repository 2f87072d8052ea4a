"""Batches for BasicSR's training loop, as many as iterations are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from esc_arch.bridge.unreadable import Unreadable, what_is_unreadable
from esc_arch.common.errors import RunError
from esc_arch.common.interruptions import Interruptions, blocked


class Progress(Protocol):
    """What follows the loop."""

    def begin_epoch(self) -> bool:
        """Tell whether there are iterations left."""

    def end_iteration(self) -> bool:
        """Do what is due after an iteration; tell whether there are iterations left."""

    def end_epoch(self) -> None:
        """Take note that there are no more batches in this epoch."""

    def begin_iteration(self) -> None:
        """Take note that a batch goes to the model."""


class Feed:
    """Stands in for a prefetcher of BasicSR, which it wraps.

    The loop counts an iteration more than it makes, goes on to further epochs when all are made, and builds two
    iterators for each epoch. It ends where it gets no batch, which is how iterations are counted here. And it asks for
    a batch when all that belongs to an iteration is done, which is where a training can stop.

    Args:
        prefetcher: makes a prefetcher of BasicSR, which reads from the start of an epoch.
        progress: what is told, and asked.
    """

    def __init__(self, prefetcher: Callable[[], Any], progress: Progress) -> None:
        self._make = prefetcher
        self._progress = progress
        self._prefetcher: Any = None

    def reset(self) -> None:
        """Begin an epoch."""
        self._drop()
        if self._progress.begin_epoch():
            with blocked():
                self._prefetcher = self._make()

    def next(self) -> Any:
        """Return a batch, or None at the end of the epoch or training.

        Raises:
            RunError: an image cannot be read.
        """
        if not self._progress.end_iteration() or self._prefetcher is None:
            self._drop()
            return None
        batch = self._prefetcher.next()
        if isinstance(batch, Unreadable):
            raise RunError(batch["sentence"])
        if batch is None:
            self._drop()
            self._progress.end_epoch()
            return None
        self._progress.begin_iteration()
        return batch

    def _drop(self) -> None:
        """End the loader processes, and the thread that reads ahead where there is one."""
        close = getattr(getattr(self._prefetcher, "loader", None), "close", None)
        if close is not None:
            close()
        self._prefetcher = None


class Abandoned(Exception):  # noqa: N818  nothing is wrong
    """A validation ends early, because the training shall."""


class ValidationImages:
    """A loader of a validation set that stops at a signal and names what it cannot read.

    Args:
        loader: BasicSR's loader.
        interruptions: where signals are seen.
        most: how many images, all by default.
        then: what to do once an image is repaired.
    """

    def __init__(
        self,
        loader: Any,
        interruptions: Interruptions,
        most: int | None = None,
        then: str = "go on with --auto_resume",
    ) -> None:
        self._loader = loader
        self._interruptions = interruptions
        self._then = then
        self._most = len(loader) if most is None else min(most, len(loader))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return self._most

    def __iter__(self) -> Iterator[Any]:
        images = iter(self._loader)
        for index in range(self._most):
            if self._interruptions.number is not None:
                raise Abandoned
            try:
                image = next(images)
            except Exception as error:  # a decoder may raise anything at all
                raise RunError(what_is_unreadable(self._loader.dataset, index, error, self._then)) from error
            yield image

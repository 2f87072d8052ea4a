"""Reading ahead in a thread."""

from __future__ import annotations

import contextlib
import queue
from typing import Any


def tell_errors_of_the_prefetch_thread() -> None:
    """Hand an error of BasicSR's prefetch thread on to the training, and let the thread end.

    The thread of `prefetch_mode: cpu` ends when reading fails, and the training waits for its next batch forever. One
    whose batches nobody takes any more waits forever itself, and its loader processes with it; `close` ends it.
    """
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    def run(self: Any) -> None:
        try:
            for item in self.generator:
                self.queue.put(item)
                if getattr(self, "closed", False):
                    return
        except BaseException as error:  # to be raised where the batch is waited for
            self.queue.put(_Raised(error))
        self.queue.put(None)

    take = PrefetchGenerator.__next__

    def next_item(self: Any) -> Any:
        item = take(self)
        if isinstance(item, _Raised):
            raise item.error
        return item

    def close(self: Any) -> None:
        self.closed = True
        while self.is_alive():
            with contextlib.suppress(queue.Empty):
                self.queue.get(timeout=0.01)  # makes room for what the thread holds in its hand
        self.generator = None

    PrefetchGenerator.run = run
    PrefetchGenerator.close = close
    PrefetchGenerator.__next__ = next_item


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error

"""PyTorch's store, by which the processes of a run know of each other, and the pictures that it hands out to them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, Store, TCPStore

from esc_arch.common.errors import RunError
from esc_arch.common.launch import Launch, meeting_place, run_name
from esc_arch.upscale.jobs import Job
from esc_arch.upscale.work import Work

JOINING = timedelta(minutes=10)  # that the first process gets to start
CHUNK = 1000  # jobs that are sent at once


def meet(launch: Launch) -> Store:
    """Meet the other processes at their store.

    Raises:
        RunError: the first process cannot be reached.
    """
    address, port = meeting_place()
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)  # by torchrun itself
    try:
        store = TCPStore(
            address,
            port,
            is_master=launch.rank == 0 and not served,
            timeout=JOINING,
            wait_for_workers=False,
            multi_tenant=True,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"process {launch.rank} of {launch.size} does not reach the first one at {address}, port {port} "
            f"({str(error).partition(chr(10))[0]}); set MASTER_ADDR and MASTER_PORT to where it can be reached."
        ) from error
    return PrefixStore(f"esc_arch.upscale/{run_name()}", store)


class SharedStore:
    """What the processes of a run tell each other. Every method raises RunError when the first process is gone.

    Args:
        store: of all processes.
        launch: which of them this is.
    """

    def __init__(self, store: Store, launch: Launch) -> None:
        self._store, self._launch = store, launch
        self._asking = threading.Lock()
        self._is_gone = False

    def set(self, key: str, value: Any) -> None:
        """Set a key to a value, which JSON must have."""
        self._ask(self._store.set, key, json.dumps(value))

    def get(self, key: str) -> Any:
        """Return the value of a key."""
        return json.loads(self._ask(self._store.get, key))

    def has(self, key: str) -> bool:
        """Tell whether a key is set."""
        return bool(self._ask(self._store.check, [key]))

    def delete(self, key: str) -> None:
        """Forget a key."""
        self._ask(self._store.delete_key, key)

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, and return what it then has."""
        return int(self._ask(self._store.add, key, amount))

    def wait(self, key: str, time: timedelta) -> None:
        """Wait until a key is set."""
        self._ask(self._store.wait, [key], time)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        gone = RunError(
            f"process {self._launch.rank} of {self._launch.size}: the first process is gone "
            "(killed, or out of memory?); the same command goes on from here."
        )
        with self._asking:
            if self._is_gone:  # to ask once more would make PyTorch print where its sources failed, in each thread
                raise gone
            try:
                return question(*arguments)
            except RuntimeError as error:
                self._is_gone = True
                raise gone from error


class Pictures:
    """The pictures of a run, of which every process takes the next one.

    Args:
        store: of all processes.
        size: how many processes there are.

    Attributes:
        total: how many pictures there are.
        mine: numbers of those that this process has taken, and that have not come to an end.
    """

    def __init__(self, store: SharedStore, size: int) -> None:
        self._store, self._size = store, size
        self.total = 0
        self.mine: set[int] = set()
        self._left = 0  # that nobody had taken when this process last took one
        self._jobs: list[Job] = []  # the chunk that was read last, of which the first has the number
        self._first = 0
        self._changed = threading.Condition()
        self._closed = False

    def send(self, jobs: list[Job], is_shared: bool) -> None:
        """Let the others know of all pictures, if they share them."""
        self._jobs = jobs
        self.expect(len(jobs))
        for first in range(0, self.total if is_shared else 0, CHUNK):
            self._store.set(f"jobs/{first}", [(job.source, job.target) for job in jobs[first : first + CHUNK]])

    def expect(self, total: int) -> None:
        """Know how many pictures there are."""
        self.total = self._left = total

    def take(self) -> Iterator[Work]:
        """Take pictures, one after the other, no more ahead than leaves the others their share to the end."""
        while True:
            with self._changed:
                while not self._closed and len(self.mine) >= max(self._left // (2 * self._size), 1):
                    self._changed.wait()
                if self._closed:
                    return
            if self._store.has("stop"):
                return
            number = self._store.add("next", 1) - 1
            if number >= self.total:
                return
            with self._changed:
                self._left = self.total - number
                self.mine.add(number)
            yield Work(number, self._job(number))

    def end(self, number: int) -> None:
        """Know that a picture has come to an end."""
        with self._changed:
            self.mine.discard(number)
            self._changed.notify_all()

    def taken(self) -> int:
        """Return how many pictures have been taken by all."""
        return min(self._store.add("next", 0), self.total)

    def stop(self) -> None:
        """Let nobody take any more."""
        self._store.set("stop", True)
        self.close()

    def close(self) -> None:
        """Take no more; who waits for the next one does not any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _job(self, number: int) -> Job:
        if not self._first <= number < self._first + len(self._jobs):
            self._first = number // CHUNK * CHUNK
            self._jobs = [Job(*names) for names in self._store.get(f"jobs/{self._first}")]
        return self._jobs[number - self._first]

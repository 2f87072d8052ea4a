"""What is drawn in which order, and what is cut out of it: a function of seed, epoch and place alone."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from esc_arch.bridge.random_states import kept
from esc_arch.bridge.unreadable import Unreadable, what_is_unreadable

Place = tuple[int, int]  # epoch, and place in the order of the epoch that all processes share


def draw_by_place() -> None:
    """Let crops and flips depend on seed, epoch and place in the epoch, and a training start within an epoch.

    BasicSR seeds each loader process once at its start, and starts the processes anew in every epoch: the same crops
    again and again, others with another number of workers, and those of the beginning after each resume.
    """
    import basicsr.train

    basicsr.train.EnlargedSampler = placed_sampler()
    basicsr.train.build_dataloader = _build_dataloader(basicsr.train.build_dataloader)


@functools.cache
def placed_sampler() -> type:
    """Make the class of the sampler, which needs BasicSR's."""
    from basicsr.data.data_sampler import EnlargedSampler

    class PlacedSampler(EnlargedSampler):
        """BasicSR's order, with the place of each image in it, from any place of an epoch on.

        Yields:
            (index, (epoch, place)).
        """

        resumed_epoch, resumed_place = -1, 0

        def resume(self, epoch: int, place: int) -> None:
            """Leave out, in one epoch, the images before a place (all processes counted)."""
            self.resumed_epoch, self.resumed_place = epoch, place

        def first(self) -> int:
            """Return how many images of this process and epoch are left out."""
            return -(-self.resumed_place // self.num_replicas) if self.epoch == self.resumed_epoch else 0

        def __iter__(self) -> Iterator[tuple[int, Place]]:
            first = self.first()
            for count, index in enumerate(super().__iter__()):
                if count >= first:
                    yield index, (self.epoch, count * self.num_replicas + self.rank)

    return PlacedSampler


class SeededDataset(Dataset[Any]):
    """A data set whose images draw from generators seeded for their place, and which tells what it cannot read.

    Args:
        dataset: any data set of BasicSR's registry.
        seed: the seed of the training.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, where: tuple[int, Place]) -> Any:
        index, place = where
        # in a loader process nobody else draws
        with kept() if get_worker_info() is None else contextlib.nullcontext():
            seed_generators((self.seed, *place))
            try:
                return self.dataset[index]
            except Exception as error:  # a decoder may raise anything at all
                return Unreadable(what_is_unreadable(self.dataset, index, error))


def seed_generators(numbers: tuple[int, ...]) -> None:
    """Seed the generators of Python, numpy and torch, all for the CPU, by numbers of any size."""
    words = np.random.SeedSequence([abs(number) for number in numbers]).generate_state(6)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:4])
    # not torch.manual_seed, which reaches for the GPUs as well
    torch.default_generator.manual_seed(int(words[4]) << 31 ^ int(words[5]))


def collate(items: list[Any]) -> Any:
    """Make a batch, or hand on what could not be read.

    An exception would come out of a loader process with the stack trace of that process as its message.
    """
    return next((item for item in items if isinstance(item, Unreadable)), None) or default_collate(items)


def _build_dataloader(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def build_dataloader(
        dataset: Any,
        dataset_opt: dict[str, Any],
        num_gpu: int = 1,
        dist: bool = False,
        sampler: Any = None,
        seed: int | None = None,
    ) -> Any:
        if not isinstance(sampler, placed_sampler()):
            return original(dataset, dataset_opt, num_gpu, dist, sampler, seed)
        options = dict(dataset_opt)
        if not options["num_worker_per_gpu"]:  # both would make generators of this process draw from another thread
            options.update(persistent_workers=False, prefetch_mode=None)
        loader = original(SeededDataset(dataset, seed or 0), options, num_gpu, dist, sampler, seed)
        loader.generator = torch.Generator()  # an epoch begins without a draw from that of the training
        loader.collate_fn = collate
        loader.worker_init_fn = leave_signals_to_the_training
        return loader

    return build_dataloader


def leave_signals_to_the_training(worker: int) -> None:
    """Let a loader process live on when a terminal or Slurm signals all processes: the training ends it.

    All signals are blocked while a loader process starts, see `Feed`.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on Windows and macOS
        threading.Thread(target=_end_with_the_training, daemon=True).start()
    if hasattr(signal, "pthread_sigmask"):
        kept_blocked = {signal.SIGTERM} if hasattr(signal, "sigwaitinfo") else set()
        signal.pthread_sigmask(signal.SIG_SETMASK, kept_blocked)


def _end_with_the_training() -> None:
    """End this process at a SIGTERM of its parent, which waits for that, and at no other."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)

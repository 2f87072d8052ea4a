"""Reading and writing while the network computes: order, bounds, and what ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import DiskError
from esc_arch.pictures.picture import Picture
from esc_arch.upscale.jobs import Job
from esc_arch.upscale.network import Enlarger
from esc_arch.upscale.overlap import Channel
from esc_arch.upscale.pipeline import AHEAD, Pipeline
from esc_arch.upscale.work import Work, are_alike, enlarge_alike

COUNT = 12


def works(taken: list[int]) -> Iterator[Work]:
    for number in range(COUNT):
        taken.append(number)
        yield Work(number, Job(f"{number}.png", f"out/{number}.png"))


def nothing(work: Work) -> None:
    pass


def run(pipeline: Pipeline) -> list[int]:
    ended = []
    try:
        for group in pipeline.groups():
            for work in group:
                pipeline.hand_over(work)
            ended += [work.number for work in pipeline.finished()]
        pipeline.end()
        return ended + [work.number for work in pipeline.finished()]
    finally:
        pipeline.close()


@pytest.mark.parametrize("overlap", [True, False])
def test_order_is_kept_with_problems_among_them(overlap: bool) -> None:
    def read(work: Work) -> None:
        if work.number % 3 == 0:
            work.problem = UserError("broken")

    assert run(Pipeline(works([]), read, lambda work: time.sleep(0.002), overlap=overlap)) == list(range(COUNT))


def test_little_is_read_ahead() -> None:
    taken: list[int] = []
    pipeline = Pipeline(works(taken), nothing, nothing)
    groups = pipeline.groups()
    next(groups)
    time.sleep(0.1)
    assert len(taken) <= AHEAD + 1
    pipeline.close()


def test_little_waits_to_be_written() -> None:
    go, channel = threading.Event(), Channel[int](2, 100)
    put: list[int] = []

    def fill() -> None:
        for number in range(5):
            channel.put(number, 60)
            put.append(number)
        go.set()

    thread = threading.Thread(target=fill)
    thread.start()
    time.sleep(0.05)
    assert put == [0, 1]
    assert [channel.get() for _ in range(5)] == list(range(5))
    thread.join()
    channel.end()
    assert channel.get() is None


@pytest.mark.parametrize("overlap", [True, False])
def test_a_full_disk_ends_it(overlap: bool) -> None:
    written: list[int] = []

    def write(work: Work) -> None:
        written.append(work.number)
        if work.number == 3:
            work.problem = DiskError("full")

    assert run(Pipeline(works([]), nothing, write, overlap=overlap)) == written == [0, 1, 2, 3]


@pytest.mark.parametrize("step", ["read", "write"])
def test_what_goes_wrong_in_a_thread_is_raised_here(step: str) -> None:
    def fail(work: Work) -> None:
        if work.number == 2:
            raise KeyboardInterrupt

    pipeline = Pipeline(works([]), fail if step == "read" else nothing, fail if step == "write" else nothing)
    with pytest.raises(KeyboardInterrupt):
        run(pipeline)
    assert not any(thread.is_alive() for thread in pipeline._threads)


def test_what_is_being_written_becomes_whole() -> None:
    begun, written = threading.Event(), []

    def write(work: Work) -> None:
        begun.set()
        time.sleep(0.05)
        written.append(work.number)

    pipeline = Pipeline(works([]), nothing, write)
    for group in pipeline.groups():
        pipeline.hand_over(group[0])
        begun.wait()
        break
    pipeline.close()
    assert written == [0]


class Twice(nn.Module):
    upscaling_factor = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x.shape
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_one_size_go_together(channels: int) -> None:
    network = Twice()
    enlarger = Enlarger(network, 2)
    rng = np.random.default_rng(0)
    group = []
    for number in range(4):
        pixels = rng.integers(0, 65535, (7, 5, channels), np.uint16)
        group.append(
            Work(number, Job("", ""), picture=Picture(pixels), sides=(7, 5), target=(14, 10), _enlarger=enlarger)
        )
    before = [work.picture.pixels for work in group if work.picture]
    assert are_alike(group[0], group[3])
    assert enlarge_alike(group)
    assert tuple(network.seen) == (4, 3, 7, 5)
    for work, pixels in zip(group, before, strict=True):
        assert work.picture is not None
        np.testing.assert_array_equal(work.picture.pixels, pixels.repeat(2, 0).repeat(2, 1))
    other = Work(4, Job("", ""), picture=Picture(before[0]), sides=(7, 5), target=(13, 9), _enlarger=enlarger)
    assert not are_alike(other, other)  # it is resized after the network

"""Files that are read and written while the network computes, and pictures of one size that are computed together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from esc_arch.upscale import work
from esc_arch.upscale.batch import TOGETHER, run_jobs
from esc_arch.upscale.jobs import Job, Plan
from esc_arch.upscale.network import Enlarger
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.work import Settings

PATIENCE = 300.0  # seconds that a thread gets to do what it should


class Repeat(nn.Module):
    """Repeats every pixel, notes how many images it gets at once, and begins when so many files were read."""

    def __init__(self, read: list[str], needed: int = 0) -> None:
        super().__init__()
        self.read, self.needed = read, needed
        self.batches: list[tuple[int, ...]] = []
        self.in_vain = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        end = time.monotonic() + PATIENCE
        while len(self.read) < self.needed and not self.in_vain:
            self.in_vain = time.monotonic() > end
            time.sleep(0.01)
        self.batches.append(tuple(x.shape))
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the pictures that were read so far."""
    found: list[str] = []
    original = work.read_picture

    def noted(file: str, *arguments: Any) -> Any:
        picture = original(file, *arguments)
        found.append(file)
        return picture

    monkeypatch.setattr(work, "read_picture", noted)
    return found


def plan(folder: Path, shapes: list[tuple[int, ...]]) -> tuple[Plan, list[Any]]:
    rng, jobs, pictures = np.random.default_rng(0), [], []
    for number, shape in enumerate(shapes):
        pictures.append(rng.integers(0, 256, shape, np.uint8))
        Image.fromarray(pictures[-1]).save(folder / f"{number}.png")
        jobs.append(Job(str(folder / f"{number}.png"), str(folder / f"{number}_x2.png")))
    return Plan(jobs), pictures


def run(made: Plan, network: nn.Module, device: str = "cpu", **how: Any) -> Any:
    networks = Networks("any", lambda name: Enlarger(network, 2))
    networks.device = device
    return run_jobs(made, networks, Settings(overwrite=True), **how)


def check(made: Plan, pictures: list[Any]) -> None:
    for job, picture in zip(made.jobs, pictures, strict=True):
        result = np.asarray(Image.open(job.target))
        np.testing.assert_array_equal(result, picture.repeat(2, 0).repeat(2, 1))


def test_pictures_are_read_while_the_network_computes(tmp_path: Path, read: list[str]) -> None:
    made, pictures = plan(tmp_path, [(8, 8, 3)] * 5)
    network = Repeat(read, needed=2)
    run(made, network)
    assert not network.in_vain
    check(made, pictures)
    read.clear()
    alone = Repeat(read)
    run(made, alone, overlap=False)
    check(made, pictures)
    assert alone.batches == network.batches == [(1, 3, 8, 8)] * 5


def test_pictures_of_one_size_are_computed_together(tmp_path: Path, read: list[str]) -> None:
    """In order, and only with those that are alike: of one size, grey or colour, without alpha."""
    shapes = [(8, 8, 3)] * 6 + [(8, 10, 3)] * 2 + [(8, 10)] * 2 + [(8, 8, 4)] + [(8, 8, 3)] * 2
    made, pictures = plan(tmp_path, shapes)
    network = Repeat(read, needed=8)
    summary = run(made, network, together=4)
    assert summary.done == [job.target for job in made.jobs]
    check(made, pictures)
    numbers = [batch[0] for batch in network.batches]
    assert max(numbers) == 4
    assert sum(numbers) == len(shapes) + 1  # alpha goes through it too
    assert {batch[1:] for batch in network.batches if batch[0] > 1} <= {(3, 8, 8), (3, 8, 10)}


def test_a_gpu_computes_together_by_itself(tmp_path: Path, read: list[str]) -> None:
    made, pictures = plan(tmp_path, [(8, 8, 3)] * 40)
    network = Repeat(read, needed=20)
    run(made, network, device="cuda")  # where the network is does not matter to those who choose
    check(made, pictures)
    assert max(batch[0] for batch in network.batches) == TOGETHER


def test_one_broken_among_many(tmp_path: Path, read: list[str]) -> None:
    made, pictures = plan(tmp_path, [(8, 8, 3)] * 6)
    Path(made.jobs[3].source).write_bytes(b"no picture")
    summary = run(made, Repeat(read, needed=4), together=4)
    assert list(summary.failed) == [made.jobs[3].source]
    del made.jobs[3], pictures[3]
    check(made, pictures)

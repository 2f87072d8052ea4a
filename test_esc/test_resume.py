"""Resuming: whole and exact, whatever is interrupted where; what changed meanwhile is named."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from esc_arch import train
from esc_arch.bridge.mends.saving import MORE_IN_STATE

Options = dict[str, Any]


@pytest.fixture
def run(folder: Path) -> Callable[..., None]:
    """Train in this process, below an empty working directory."""
    from basicsr.utils.logger import initialized_logger

    def call(opt: Options, *arguments: str) -> None:
        initialized_logger.clear()
        logging.getLogger("basicsr").handlers.clear()
        (folder / "options.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
        before = sys.argv
        sys.argv = ["train", "-opt", "options.yml", *arguments]
        try:
            train.main()
        finally:
            sys.argv = before

    return call


def with_total(opt: Options, name: str, total: int) -> Options:
    opt = copy.deepcopy(opt)
    opt["name"] = name
    opt["train"]["total_iter"] = total
    return opt


def everything(folder: Path, name: str, iteration: int) -> tuple[Any, Any]:
    root = folder / "experiments" / name
    network = torch.load(root / f"models/net_g_{iteration}.pth", weights_only=True)
    return network, torch.load(root / f"training_states/{iteration}.state", weights_only=True)


def assert_same(a: Any, b: Any, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}:{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{where}:{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


@pytest.mark.parametrize(
    ("changes", "workers"),
    [({}, (0, 0)), ({"prefetch_mode": "cpu"}, (1, 0)), ({"batch_size_per_gpu": 3, "dataset_enlarge_ratio": 2}, (0, 2))],
)
def test_an_interrupted_training_is_that_of_no_interruption(
    run: Callable[..., None], tiny_options: Options, folder: Path, changes: Options, workers: tuple[int, int]
) -> None:
    """Weights, EMA, optimizer, random states and best figures, bit for bit, with any number of loader processes.

    The third has epochs of two batches, and is interrupted in the middle of one.
    """
    tiny_options["datasets"]["train"].update(changes)
    tiny_options["logger"].update(save_checkpoint_freq=5, use_tb_logger=False)
    through, broken = copy.deepcopy(tiny_options), copy.deepcopy(tiny_options)
    through["datasets"]["train"]["num_worker_per_gpu"], broken["datasets"]["train"]["num_worker_per_gpu"] = workers
    broken["logger"]["save_checkpoint_freq"] = 3
    run(with_total(through, "through", 5))
    run(with_total(broken, "broken", 3))
    broken["logger"]["save_checkpoint_freq"] = 5
    run(with_total(broken, "broken", 5), "--auto_resume")
    a, b = everything(folder, "through", 5), everything(folder, "broken", 5)
    assert_same(a, b)
    assert a[1][MORE_IN_STATE]["best"]["tiny"]["psnr"]["iter"] in (2, 4)

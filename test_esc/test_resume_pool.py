"""Resuming the models that draw their batches from a pool of pairs, and mixed precision whose gradients are scaled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from running import everything, started, train_here
from test_peer_files import esc_real_mse, hat_real_gan
from test_resume import assert_same

from esc_arch.bridge.mends.saving import MORE_IN_STATE
from esc_arch.bridge.run import pool

Options = dict[str, Any]


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Train in this process below an empty working directory, and return what was printed."""

    def call(opt: Options, name: str, total: int, *arguments: str, code: int = 0) -> str:
        opt = copy.deepcopy(opt)
        opt["name"], opt["train"]["total_iter"] = name, total
        capfd.readouterr()
        ended = train_here(folder, opt, *arguments)
        text = "".join(capfd.readouterr())
        assert ended == code, text
        return text

    return call


def with_pool(opt: Options, batches: int) -> Options:
    """Without validation, saved after each iteration."""
    opt["val"], opt["queue_size"] = None, batches * opt["datasets"]["train"]["batch_size_per_gpu"]
    opt["logger"]["save_checkpoint_freq"] = 1
    del opt["datasets"]["val_1"]
    opt["datasets"]["train"].pop("meta_info_file", None)
    return opt


@pytest.mark.parametrize(
    ("kind", "workers", "broken_at"),
    [
        (esc_real_mse, (0, 2), 1),
        pytest.param(esc_real_mse, (2, 0), 3, marks=pytest.mark.slow),
        pytest.param(hat_real_gan, (0, 0), 3, marks=pytest.mark.slow),
    ],
)
def test_a_pool_goes_on(
    run: Callable[..., str], tiny_data: Path, folder: Path, kind: Any, workers: tuple[int, int], broken_at: int
) -> None:
    """The pool is full, so the next batch is drawn from it; weights, optimizers and random states bit for bit."""
    opt = with_pool(kind(tiny_data), broken_at)
    total = broken_at + 1
    through, broken = copy.deepcopy(opt), copy.deepcopy(opt)
    through["datasets"]["train"]["num_worker_per_gpu"], broken["datasets"]["train"]["num_worker_per_gpu"] = workers
    run(through, "through", total)
    run(broken, "broken", broken_at)
    assert "anew" not in run(broken, "broken", total, "--auto_resume")
    for a, b in zip(everything(folder, "through", total), everything(folder, "broken", total), strict=True):
        assert_same(a, b)
    assert [file.name for file in (folder / "experiments/broken/training_states").glob("*.pool")] == [f"{total}_0.pool"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [esc_real_mse, hat_real_gan])
def test_pools_of_two_processes_go_on(tiny_data: Path, folder: Path, kind: Any) -> None:
    """With gloo; each process has a pool of its own, which is full when the training is interrupted."""
    opt = {**with_pool(kind(tiny_data), 2), "num_gpu": 0}

    def run(name: str, total: int, *arguments: str) -> str:
        opt["name"], opt["train"]["total_iter"] = name, total
        process = started(folder, opt, *arguments, processes=2)
        text = process.communicate()[0]
        assert process.returncode == 0, text
        return text

    run("through", 4)
    run("broken", 2)
    pools = folder / "experiments/broken/training_states"
    assert sorted(file.name for file in pools.glob("*.pool")) == ["2_0.pool", "2_1.pool"]
    assert (pools / "2_0.pool").read_bytes() != (pools / "2_1.pool").read_bytes()
    assert "anew" not in run("broken", 4, "--auto_resume")
    for a, b in zip(everything(folder, "through", 4), everything(folder, "broken", 4), strict=True):
        assert_same(a, b)


def model(folder: Path, **changed: Any) -> SimpleNamespace:
    opt = {"path": {"training_states": str(folder)}, "rank": 0, "gt_size": 8, "scale": 2}
    opt["datasets"] = {"train": {"batch_size_per_gpu": changed.pop("batch", 2)}}
    return SimpleNamespace(opt={**opt, **changed}, queue_size=changed.get("queue_size", 6), device="cpu")


def test_a_pool_that_is_not_there_or_does_not_fit_fills_anew(tmp_path: Path) -> None:
    first = model(tmp_path)
    first.queue_lr, first.queue_gt, first.queue_ptr = torch.rand(6, 3, 4, 4), torch.rand(6, 3, 8, 8), 4
    state = str(tmp_path / "7.state")
    with pool.kept_beside(first, 7):
        pass
    assert pool.put_back(again := model(tmp_path), state, 7)
    assert torch.equal(again.queue_lr[:4], first.queue_lr[:4])
    assert torch.equal(again.queue_gt[:4], first.queue_gt[:4])
    assert again.queue_ptr == 4
    assert not again.queue_lr[4:].any()
    for changed in ({"gt_size": 16}, {"scale": 4}, {"queue_size": 8}, {"batch": 4}, {"rank": 1}):
        assert not pool.put_back(other := model(tmp_path, **changed), state, 7)
        assert not hasattr(other, "queue_lr")
    with pytest.raises(OSError, match="the state"), pool.kept_beside(first, 8):
        raise OSError("the state cannot be written")
    assert [file.name for file in tmp_path.iterdir()] == ["7_0.pool"]
    (tmp_path / "7_0.pool").write_bytes(b"PK")
    assert not pool.put_back(model(tmp_path), state, 7)


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "sharpened"])
def test_images_are_packed_without_loss(kind: str) -> None:
    whole = torch.randint(0, 256, (3, 3, 8, 8)).float() / 255
    images = {
        "8 bits": whole,
        "16 bits": torch.randint(0, 65536, (3, 3, 8, 8)) / 65535,
        "sharpened": torch.rand(3, 3, 8, 8),
    }
    packed = pool._packed(images[kind])
    assert torch.equal(pool._unpacked(packed), images[kind])
    assert ("index" in packed) == (kind == "8 bits")


def test_the_scale_of_gradients_goes_on(
    run: Callable[..., str], tiny_options: Options, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each two steps raise it; the interruption is between them."""
    original = torch.amp.GradScaler.__init__

    def quick(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **{**options, "init_scale": 2.0**17, "growth_interval": 2})

    monkeypatch.setattr(torch.amp.GradScaler, "__init__", quick)
    tiny_options["amp"] = "fp16"
    tiny_options["val"] = None
    tiny_options["logger"].update(use_tb_logger=False, save_checkpoint_freq=1)
    run(tiny_options, "through", 5)
    run(tiny_options, "broken", 3)
    scaler = everything(folder, "broken", 3)[1][MORE_IN_STATE]["scaler"]
    assert scaler["scale"] != 2.0**17
    assert scaler["_growth_tracker"] == 1
    run(tiny_options, "broken", 5, "--auto_resume")
    for a, b in zip(everything(folder, "through", 5), everything(folder, "broken", 5), strict=True):
        assert_same(a, b)

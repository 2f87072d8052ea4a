"""Resuming: whole and exact, whatever is interrupted where; what changed meanwhile is named."""

from __future__ import annotations

import copy
import math
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import everything, started, train_here, wait_for, written

from esc_arch.bridge.mends.saving import MORE_IN_STATE

Options = dict[str, Any]


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Train in this process below an empty working directory; returns what was printed."""

    def call(opt: Options, *arguments: str, code: int = 0) -> str:
        capfd.readouterr()
        ended = train_here(folder, opt, *arguments)
        text = "".join(capfd.readouterr())
        assert ended == code, text
        assert "Traceback" not in text
        return text

    return call


def with_total(opt: Options, name: str, total: int) -> Options:
    opt = copy.deepcopy(opt)
    opt["name"] = name
    opt["train"]["total_iter"] = total
    return opt


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
    [
        ({"prefetch_mode": "cpu"}, (1, 0)),
        ({"batch_size_per_gpu": 3, "dataset_enlarge_ratio": 2}, (0, 2)),
    ],
)
def test_an_interrupted_training_is_that_of_no_interruption(
    run: Callable[..., str], tiny_options: Options, folder: Path, changes: Options, workers: tuple[int, int]
) -> None:
    """Weights, EMA, optimizer, random states and best figures, bit for bit, with any number of loader processes.

    The second has epochs of two batches, in bf16, and is interrupted in the middle of one.
    """
    tiny_options["datasets"]["train"].update(changes)
    tiny_options["logger"].update(save_checkpoint_freq=5, use_tb_logger=False)
    if "batch_size_per_gpu" in changes:
        tiny_options["amp"] = "bf16"
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


@pytest.fixture
def brief(tiny_options: Options) -> Options:
    """Options without validation and curves."""
    tiny_options["val"] = None
    tiny_options["logger"].update(use_tb_logger=False, save_checkpoint_freq=2)
    tiny_options["train"].update(warmup_iter=-1, total_iter=2)
    tiny_options["train"]["scheduler"]["milestones"] = [100]
    return tiny_options


def rates(text: str) -> list[float]:
    return [float(rate) for rate in re.findall(r"lr:\(([-+.\de]+),\)", text)]


def test_changed_options_are_named_with_the_value_that_is_used(run: Callable[..., str], brief: Options) -> None:
    run(brief)
    brief["train"].update(total_iter=5, ema_decay=0.5)
    brief["train"]["optim_g"]["lr"] = 5e-4
    brief["train"]["scheduler"].update(milestones=[1, 3], gamma=0.1)
    brief["datasets"]["train"]["batch_size_per_gpu"] = 1
    text = run(brief, "--auto_resume")
    said = [line.partition("WARNING: ")[2] for line in text.splitlines() if "in the state that is resumed" in line]
    for start in (
        "train:optim_g:lr was 0.001 in the state that is resumed and is 0.0005 in the options: 0.001 is used",
        "train:scheduler:milestones was [100] in the state that is resumed and is [1, 3] in the options: [100] is used",
        "train:scheduler:gamma was 0.5",
        "train:ema_decay was 0.9 in the state that is resumed and is 0.5 now: 0.5 is used.",
        "datasets:train:batch_size_per_gpu was 2 in the state that is resumed and is 1 now: 1 is used.",
    ):
        assert sum(line.startswith(start) for line in said) == 1, (start, said)
    assert len(said) == 5
    assert rates(text) == [1e-3] * 3


def test_reset_schedule_takes_that_of_the_options(run: Callable[..., str], brief: Options) -> None:
    run(brief)
    brief["train"]["total_iter"] = 6
    brief["train"]["optim_g"]["lr"] = 5e-4
    brief["train"]["scheduler"].update(milestones=[1, 4], gamma=0.1)
    text = run(brief, "--auto_resume", "--reset_schedule")
    # as a training with these options would have them: the milestone before the place of resuming counts
    assert rates(text) == pytest.approx([5e-5, 5e-5, 5e-6, 5e-6])
    assert "0.0005 is used, because of --reset_schedule" in text


def test_the_figures_of_another_optimizer_are_refused(run: Callable[..., str], brief: Options, folder: Path) -> None:
    """Also where their names are the same, as those of Adam and AdamW are, and where BasicSR wrote the state."""
    run(brief)
    file = folder / "experiments/tiny/training_states/2.state"
    brief["train"]["total_iter"] = 4
    brief["train"]["optim_g"]["type"] = "AdamW"
    assert "type is AdamW, but" in (text := run(brief, "--auto_resume", code=1))
    assert "2.state was written by Adam; resume with that" in text
    state = torch.load(file, weights_only=True)
    del state[MORE_IN_STATE]
    torch.save(state, file)
    brief["train"]["optim_g"] = {"type": "SGD", "lr": 1e-3}
    before = written(folder)
    text = run(brief, "--auto_resume", code=1)
    assert "train:optim_g:type is SGD, but" in text
    assert "was written by another optimizer" in text
    assert written(folder) == before


def test_another_type_of_schedule_takes_effect_when_asked_for(
    run: Callable[..., str], brief: Options, folder: Path
) -> None:
    run(brief)
    brief["train"]["total_iter"] = 4
    brief["train"]["scheduler"] = {"type": "CosineAnnealingRestartLR", "periods": [8], "restart_weights": [1]}
    before = written(folder)
    assert "train:scheduler:type is not that of" in run(brief, "--auto_resume", code=1)
    assert written(folder) == before
    cosine = [1e-3 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    text = run(brief, "--auto_resume", "--reset_schedule")
    assert rates(text) == pytest.approx(cosine[2:4], rel=1e-3)
    brief["train"]["total_iter"] = 6  # nothing is left of the schedule before
    text = run(brief, "--auto_resume")
    assert rates(text) == pytest.approx(cosine[4:6], rel=1e-3)
    assert "in the state that is resumed" not in text


def test_unchanged_options_are_no_matter_for_warnings(run: Callable[..., str], brief: Options, folder: Path) -> None:
    """The seed is that of the training too, where the options have none."""
    brief["manual_seed"] = None
    run(brief)
    brief["train"]["total_iter"] = 4
    text = run(brief, "--auto_resume")
    assert "WARNING" not in text
    seeds = [everything(folder, "tiny", iteration)[1][MORE_IN_STATE]["seed"] for iteration in (2, 4)]
    assert seeds[0] == seeds[1]


def on_disk(brief: Options, tiny_data: Path, root: Path) -> Options:
    """The same with folders of pairs, whose files are written one after the other."""
    opt = copy.deepcopy(brief)
    for kind, folder in (("gt", "HR"), ("lq", "LR")):
        (root / folder).mkdir(parents=True)
        for file in sorted((tiny_data / "train" / folder).iterdir()):
            shutil.copy(file, root / folder / file.name)
        opt["datasets"]["train"][f"dataroot_{kind}"] = str(root / folder)
    opt["datasets"]["train"]["io_backend"] = {"type": "disk"}
    return opt


def test_the_order_in_which_a_disk_lists_files_is_no_matter(
    run: Callable[..., str], brief: Options, folder: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same data copied to another disk are the same training."""
    listed = os.scandir

    class Backwards:
        def __init__(self, path: Any) -> None:
            with listed(path) as found:
                self.entries = sorted(found, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> Any:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

        def __iter__(self) -> Any:
            return iter(self.entries)

    opt = on_disk(brief, tiny_data, folder / "data")
    run(with_total(opt, "one", 2))
    monkeypatch.setattr(os, "scandir", Backwards)
    run(with_total(opt, "two", 2))
    (one, _), (two, _) = (everything(folder, name, 2) for name in ("one", "two"))
    assert_same(one, two)


def test_images_of_other_names_are_told(run: Callable[..., str], brief: Options, folder: Path, tiny_data: Path) -> None:
    """As many images as before, but not these: what is left of the epoch is one of others."""
    opt = on_disk(brief, tiny_data, folder / "data")
    run(opt)
    moved = on_disk(brief, tiny_data, folder / "elsewhere")
    moved["train"]["total_iter"] = 4
    text = run(moved, "--auto_resume")
    assert "dataroot_gt was" in text
    assert "the names of the images" not in text
    for kind in ("HR", "LR"):
        (folder / "elsewhere" / kind / "p0.png").rename(folder / "elsewhere" / kind / "q.png")
    moved["train"]["total_iter"] = 5
    text = run(moved, "--auto_resume")
    assert "WARNING: datasets:train: the names of the images, or their order, are not those of the state" in text


def test_a_state_of_basicsr_is_resumed_with_a_warning(run: Callable[..., str], brief: Options, folder: Path) -> None:
    run(brief)
    file = folder / "experiments/tiny/training_states/2.state"
    state = torch.load(file, weights_only=True)
    del state[MORE_IN_STATE]
    torch.save(state, file)
    brief["train"]["total_iter"] = 4
    brief["train"]["optim_g"]["lr"] = 5e-4
    text = run(brief, "--auto_resume")
    assert "WARNING: The state was written by BasicSR: it lacks the random states" in text
    assert "train:optim_g:lr was 0.001" in text
    assert "Resuming training from epoch: 1, iter: 2" in text


def test_states_that_cannot_be_used_are_refused(run: Callable[..., str], brief: Options, folder: Path) -> None:
    run(brief)
    states = folder / "experiments/tiny/training_states"
    before = written(folder)

    def refused(*arguments: str, **path: Any) -> str:
        text = run({**brief, "path": {**brief["path"], **path}}, *arguments, code=1)
        assert written(folder) == before
        return text.splitlines()[-1]

    assert "does not exist" in refused(resume_state=str(states / "7.state"))
    assert "training_states is a folder; give the path of a .state file" in refused(resume_state=str(states))
    network = str(folder / "experiments/tiny/models/net_g_2.pth")
    assert "is no training state of BasicSR: it lacks iter" in refused(resume_state=network)
    state = torch.load(states / "2.state", weights_only=True)
    for key, value in (("iter", "2"), ("optimizers", 5), ("schedulers", [1])):
        torch.save({**state, key: value}, folder / "1.state")
        assert f"is no training state of BasicSR: its {key} is not" in refused(resume_state=str(folder / "1.state"))
    torch.save({**state, "iter": subprocess.Popen}, folder / "1.state")
    assert "Python objects other than numbers" in (text := refused(resume_state=str(folder / "1.state")))
    assert "weights_only" not in text
    for length in (0, 500):
        (folder / "1.state").write_bytes((states / "2.state").read_bytes()[:length])
        assert "(it is empty, cut off or damaged)" in refused(resume_state=str(folder / "1.state"))
    wider = copy.deepcopy(brief)
    wider["network_g"]["dim"] = 32
    text = run(wider, "--auto_resume", code=1)
    assert "is not that of the options" in text.splitlines()[-1]
    assert written(folder) == before
    (states / "2.state").rename(states / "latest.state")
    before = written(folder)
    assert "latest.state is not named by its iteration" in refused("--auto_resume")
    shutil.copy(states / "latest.state", states / "2.state")
    assert "Warning: " + str(states / "latest.state") + " is not named by its iteration" in run(brief, "--auto_resume")


def test_a_state_of_another_experiment_begins_a_new_one(run: Callable[..., str], brief: Options, folder: Path) -> None:
    run(brief)
    before = written(folder)
    brief["path"]["resume_state"] = "experiments/tiny/training_states/2.state"
    run(with_total(brief, "other", 4))
    assert before.items() <= written(folder).items()
    assert everything(folder, "other", 4)[1]["iter"] == 4


def test_nothing_is_left_to_train(run: Callable[..., str], brief: Options) -> None:
    run(brief)
    text = run(brief, "--auto_resume")
    assert "iteration 2 and total_iter is 2: nothing is left to train" in text
    assert "iter:" not in text.partition("Start training")[2].partition("\n")[2]


@pytest.mark.slow
@pytest.mark.parametrize("amp", [None, "bf16"])
def test_two_processes_resume_exactly(brief: Options, folder: Path, amp: str | None) -> None:
    """With gloo, stopped by a signal to all of them, and validated meanwhile."""
    brief["num_gpu"], brief["amp"] = 0, amp
    total = brief["train"]["total_iter"] = 24
    brief["logger"]["save_checkpoint_freq"] = 4
    brief["datasets"]["train"].update(dataset_enlarge_ratio=3, batch_size_per_gpu=2)
    through = started(folder, {**brief, "name": "through"}, processes=2)
    text = through.communicate()[0]
    assert through.returncode == 0, text
    broken = started(folder, {**brief, "name": "broken"}, processes=2)
    wait_for(folder / "experiments/broken/training_states/4.state", broken)
    os.kill(broken.pid, signal.SIGTERM)
    text = broken.communicate()[0]
    assert re.search(r"iteration \d+ of 24 is done", text), text
    again = started(folder, {**brief, "name": "broken"}, "--auto_resume", processes=2)
    text = again.communicate()[0]
    assert again.returncode == 0, text
    a, b = everything(folder, "through", total), everything(folder, "broken", total)
    assert_same(a, b)
    assert len(a[1][MORE_IN_STATE]["random"]) == 2

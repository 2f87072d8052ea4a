"""A training from its start to its end: all iterations, a folder that is guarded, failures that are told."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from running import everything, started, train_here, wait_for, written

from esc_arch.checks import parts
from esc_arch.common.lock import Lock

Options = dict[str, Any]


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Train in this process below an empty folder; returns the exit code and what was printed."""

    def call(opt: Options, *arguments: str, file: str | None = None) -> tuple[int, str]:
        capfd.readouterr()
        code = train_here(folder, opt, *arguments, file=file)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out + err

    return call


@pytest.fixture
def disk(tiny_options: Options, tiny_data: Path, folder: Path) -> Options:
    """Options that train on pictures in folders, without validation."""
    tiny_options["val"] = None
    tiny_options["logger"]["use_tb_logger"] = False
    train = tiny_options["datasets"]["train"]
    train["io_backend"] = {"type": "disk"}
    for kind, name in (("gt", "HR"), ("lq", "LR")):
        shutil.copytree(tiny_data / "train" / name, folder / name)
        train[f"dataroot_{kind}"] = str(folder / name)
    return tiny_options


def iterations(text: str) -> list[int]:
    return [int(n.replace(",", "")) for n in re.findall(r"iter:\s*([\d,]+), lr:", text)]


@pytest.mark.parametrize(("batch", "ratio", "total"), [(3, 1, 5), (4, 1, 3), (1, 2, 9), (3, 0.75, 4)])
def test_all_iterations_are_run(run: Any, disk: Options, batch: int, ratio: float, total: int) -> None:
    """Four images; epochs whose last batch is not whole, of one batch, and longer than the training."""
    disk["datasets"]["train"].update(batch_size_per_gpu=batch, dataset_enlarge_ratio=ratio)
    disk["train"]["total_iter"] = total
    code, text = run(disk, "--skip_data_check")
    assert code == 0
    assert iterations(text) == list(range(1, total + 1))
    per_epoch = math.ceil(4 * ratio) // batch
    assert f"Require iter number per epoch: {per_epoch}" in text
    assert f"Total epochs: {math.ceil(total / per_epoch)}" in text


def test_a_batch_larger_than_the_data(run: Any, disk: Options, folder: Path) -> None:
    disk["datasets"]["train"].update(batch_size_per_gpu=9, dataset_enlarge_ratio=2)
    code, text = run(disk)
    assert code == 1
    assert "batch" in text.splitlines()[-1]
    assert not written(folder)


def test_the_last_iteration_is_the_last(run: Any, tiny_options: Options, folder: Path) -> None:
    """BasicSR validates the last weights as those of an iteration that never was."""
    tiny_options["val"]["val_freq"] = 3
    code, text = run(tiny_options)
    assert code == 0
    assert re.findall(r"Best: \S+ @ (\d+) iter", text)[-1] in ("3", "4")
    assert text.count("Validation tiny") == 2  # at 3 and at the end
    assert "eta: -1 day" not in text


def test_warm_up_reaches_the_stated_rate(run: Any, disk: Options) -> None:
    disk["train"].update(warmup_iter=3, total_iter=6)
    disk["train"]["scheduler"]["milestones"] = [4]
    _, text = run(disk)
    rates = [float(rate) for rate in re.findall(r"lr:\(([-+.\de]+),\)", text)]
    assert rates == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 5e-4, 5e-4], rel=1e-3)


# ---- the folder


def test_nothing_is_touched_by_what_cannot_be_built(run: Any, disk: Options, folder: Path) -> None:
    """An earlier experiment keeps its place until all is built."""
    assert run(disk)[0] == 0
    before = written(folder)
    for section, name, value in [("train", "pixel_opt", {"type": "L3Loss"}), ("train", "optim_g", {"type": "Adam"})]:
        code, text = run({**disk, section: {**disk[section], name: value}})
        assert code == 1, text
        assert written(folder) == before


def test_the_option_file_may_lie_in_the_experiment(run: Any, disk: Options, folder: Path) -> None:
    assert run(disk)[0] == 0
    copy = folder / "experiments/tiny/options.yml"
    assert run(disk, "--auto_resume", file=str(copy))[0] == 0
    assert copy.read_text().count("# CMD") == 2
    assert run(disk, file=str(copy))[0] == 0
    assert "total_iter: 4" in copy.read_text()
    assert list(folder.glob("experiments/tiny_archived_*/models/net_g_4.pth"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_the_copy_of_an_option_file_is_utf8(run: Any, disk: Options, folder: Path, encoding: str) -> None:
    """Its head is, and a file of two encodings nobody can read."""
    (folder / "o.yml").write_bytes(yaml.safe_dump({**disk, "name": "größer"}, allow_unicode=True).encode(encoding))
    assert run({}, file="o.yml")[0] == 0
    code, text = run({}, "--auto_resume", file="experiments/größer/o.yml")
    assert code == 0
    assert "nothing is left to train" in text


def test_nothing_to_resume_is_said(run: Any, disk: Options) -> None:
    code, text = run(disk, "--auto_resume")
    assert code == 0
    assert "--auto_resume: there is nothing to resume" in text


@pytest.fixture
def holding() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Let another process take a lock."""
    processes = []

    def start(path: str) -> subprocess.Popen[str]:
        code = (
            "import sys, time\nfrom esc_arch.common.lock import Lock\nlock = Lock(sys.argv[1])\n"
            "print(lock.take(), flush=True)\ntime.sleep(100)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "None\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_lock_is_held_by_one_process_and_freed_by_a_kill(tmp_path: Path, holding: Any) -> None:
    path = str(tmp_path / "a.lock")
    process = holding(path)
    assert f"process {process.pid}" in str(Lock(path).holder())
    assert f"process {process.pid}" in str(Lock(path).take())
    process.kill()
    process.wait()
    lock = Lock(path)
    assert lock.holder() is None
    assert lock.take() is None
    lock.release()
    assert not os.path.exists(path)


def test_a_second_training_of_the_name_is_refused(run: Any, disk: Options, folder: Path, holding: Any) -> None:
    (folder / "experiments").mkdir()
    other = holding(str(folder / "experiments/.tiny.lock"))
    status, text = run(disk)
    assert status == 1
    assert f"a training of the name tiny runs already (process {other.pid}" in text
    assert os.listdir(folder / "experiments") == [".tiny.lock"]


# ---- failures


def spoil(monkeypatch: pytest.MonkeyPatch, which: Callable[[int], bool]) -> None:
    """Make the loss of some iterations a number that is none; the check calls it too, which is no iteration."""
    from basicsr.losses.basic_loss import L1Loss

    monkeypatch.setattr(parts, "try_loss", lambda *args: [])
    forward, calls = L1Loss.forward, [0]

    def spoilt(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls[0] += 1
        return forward(self, *args, **kwargs) * (math.nan if which(calls[0]) else 1)

    monkeypatch.setattr(L1Loss, "forward", spoilt)


def test_training_stops_after_ten_losses_that_are_no_numbers(
    run: Any, disk: Options, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk["train"]["total_iter"] = 50
    disk["logger"]["save_checkpoint_freq"] = 3
    spoil(monkeypatch, lambda call: call > 5)
    code, text = run(disk)
    assert code == 1
    assert iterations(text)[-1] == 15
    last = text.splitlines()[-1]
    assert "has not been a number for 10 iterations up to 15 at learning rate 5.000e-04" in last
    assert "3.state" in last
    assert {p.name for p in (folder / "experiments/tiny/models").iterdir()} == {"net_g_3.pth"}


def test_one_loss_that_is_no_number_leaves_the_weights_alone(
    run: Any, disk: Options, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk["logger"]["save_checkpoint_freq"] = 1
    spoil(monkeypatch, lambda call: call == 2)
    code, text = run(disk)
    assert code == 0
    assert "WARNING: In iteration 2: l_pix is nan at learning rate 1.000e-03" in text
    assert {p.name for p in (folder / "experiments/tiny/training_states").iterdir()} == {
        "1.state",
        "3.state",
        "4.state",
    }
    assert all(t.isfinite().all() for t in everything(folder, "tiny", 4)[0]["params"].values())


def test_a_checkpoint_that_cannot_be_written_ends_the_training(
    run: Any, disk: Options, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = torch.save, []

    def full(content: Any, file: Any) -> None:
        if "iter" in content and content["iter"] == 4:
            calls.append(1)
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    code, text = run(disk)
    assert code == 1
    assert len(calls) == 3
    last = text.splitlines()[-1]
    assert "the checkpoint of iteration 4 cannot be written" in last
    assert "No space left on device" in last
    assert "the newest whole checkpoint is" in last
    assert "2.state" in last


@pytest.mark.parametrize(("workers", "prefetch"), [(0, None), (1, None), (1, "cpu")])
def test_a_picture_that_breaks_during_training_is_named(
    run: Any, disk: Options, folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int, prefetch: str | None
) -> None:
    disk["datasets"]["train"].update(num_worker_per_gpu=workers, prefetch_mode=prefetch)
    (folder / "HR/p2.png").write_bytes((folder / "HR/p2.png").read_bytes()[:200])
    disk["train"]["total_iter"] = 50
    code, text = run(disk, "--skip_data_check")
    assert code == 1
    # a loader process may say a word of OpenCV's own afterwards
    (told,) = [line for line in text.splitlines() if line.startswith("Error: ")]
    assert f"{folder}/HR/p2.png cannot be read" in told


def test_an_error_in_the_prefetch_thread_is_raised(folder: Path) -> None:
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    def broken() -> Any:
        yield 1
        raise OSError("gone")

    items = PrefetchGenerator(broken(), 1)
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
    endless = PrefetchGenerator(iter(range(10**9)), 1)
    endless.close()
    assert not endless.is_alive()


def test_out_of_memory_names_batch_and_patch(run: Any, disk: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.archs import ESC

    forward = ESC.forward

    def full(self: Any, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 2 and not x.is_meta:  # on which the check tries the patches
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, x)

    monkeypatch.setattr(ESC, "forward", full)
    code, text = run(disk)
    assert code == 1
    assert "out of memory in iteration 1 of 4" in text
    assert "batch_size_per_gpu is 2 and gt_size 32" in text


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "set tile: {tile_size: 256, tile_pad: 32}, which enlarges in parts."),
        ({"tile": {"tile_size": 20, "tile_pad": 4}}, "lower tile:tile_size 20."),
        ({"model_type": "SRModel"}, "set model_type ESCModel and tile: "),
    ],
)
def test_out_of_memory_in_validation_names_tiles(
    run: Any, tiny_options: Options, monkeypatch: pytest.MonkeyPatch, changes: Options, advice: str
) -> None:
    from basicsr.models.sr_model import SRModel

    def full(self: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(SRModel, "test", full)
    code, text = run({**tiny_options, **changes})
    assert code == 1
    told = text.splitlines()[-1]
    assert "out of memory in the validation of iteration 2 of 4; the newest whole checkpoint" in told
    assert advice in told
    assert "batch_size_per_gpu" not in told


# ---- dry run


def test_dry_run_writes_nothing_and_says_what_is_needed(run: Any, tiny_options: Options, folder: Path) -> None:
    tiny_options["train"]["total_iter"] = 7200
    tiny_options["val"]["val_freq"] = 7200
    tiny_options["logger"]["save_checkpoint_freq"] = 3600
    code, text = run(tiny_options, "--dry_run")
    assert code == 0, text
    assert not written(folder)
    seconds = float(re.findall(r"seconds a step: (\S+)", text)[0])
    hours = float(re.findall(r"of which (\S+) for 7,200 iterations", text)[0])
    assert hours == pytest.approx(2 * seconds, rel=0.02)
    assert re.search(r"1 validations of 1 pictures", text)
    assert re.search(r"size of the experiment: .* mostly 2 checkpoints", text)
    assert "memory: " in text
    tiny_options["train"]["optim_g"]["lr"] = 1e-3
    (folder / "options.yml").unlink()
    spoilt = {**tiny_options, "train": {**tiny_options["train"], "pixel_opt": {"type": "L3Loss"}}}
    assert run(spoilt, "--dry_run")[0] == 1


# ---- signals


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGINT, 1), pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_training_that_can_be_resumed(
    disk: Options, folder: Path, number: signal.Signals, workers: int
) -> None:
    """The signal goes to all processes, as from a terminal or Slurm."""
    disk["train"]["total_iter"] = 100000
    disk["logger"].update(print_freq=1000, save_checkpoint_freq=5)
    disk["datasets"]["train"]["num_worker_per_gpu"] = workers
    process = started(folder, disk)
    states = folder / "experiments/tiny/training_states"
    wait_for(states / "5.state", process)
    os.killpg(process.pid, number)
    text = process.communicate()[0]
    assert process.returncode == 128 + number, text
    assert "Traceback" not in text
    done = int(re.findall(r"iteration (\d+) of 100000 is done", text)[0])
    assert (states / f"{done}.state").is_file()
    assert "--auto_resume" in text
    assert np.isfinite(everything(folder, "tiny", done)[1]["optimizers"][0]["param_groups"][0]["lr"])


def test_the_second_signal_ends_at_once() -> None:
    code = (
        "import time\nfrom esc_arch.common.interruptions import Interruptions\nheld = Interruptions()\n"
        "with held.awaited('once more ends at once'):\n"
        "    print('ready', flush=True)\n"
        "    while held.number is None: time.sleep(0.01)\n"
        "    print(held.number, flush=True)\n"
        "    time.sleep(100)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == f"{int(signal.SIGTERM)}\n"
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGINT
    assert "SIGTERM: once more ends at once" in err
    assert "Traceback" not in err


def test_what_is_unreadable_is_told_by_any_loop() -> None:
    from esc_arch.bridge.mends.sampling import collate
    from esc_arch.bridge.unreadable import Unreadable
    from esc_arch.common.errors import RunError

    batch = collate([{"lq": torch.zeros(1)}, Unreadable("a.png cannot be read")])
    with pytest.raises(RunError, match=r"a\.png cannot be read"):
        batch["lq"]

"""Training through BasicSR: it learns, validates, resumes after a kill, runs in two processes and in half precision."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.torch_version import TorchVersion

import esc_arch.test as esc_test
from esc_arch import report, train
from esc_arch.models import esc_model

Options = dict[str, Any]
Run = Callable[..., None]


def write(opt: Options, folder: Path, name: str = "options.yml") -> str:
    file = folder / name
    file.write_text(yaml.safe_dump(opt, sort_keys=False))
    return str(file)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of the package in this process, below `tmp_path`."""
    from basicsr.utils.logger import initialized_logger

    monkeypatch.chdir(tmp_path)

    def call(main: Callable[[], None], opt: Options, *arguments: str) -> None:
        initialized_logger.clear()
        logging.getLogger("basicsr").handlers.clear()
        monkeypatch.setattr(sys, "argv", ["command", "-opt", write(opt, tmp_path), *arguments])
        main()

    return call


def weights(experiment: Path, iteration: int | str, key: str = "params") -> dict[str, torch.Tensor]:
    return torch.load(experiment / f"models/net_g_{iteration}.pth", weights_only=True)[key]


def log_of(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted(folder.glob("*.log")))


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_train_test_and_report(
    run: Run, tiny_options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: LMDB, EMA, validation, TensorBoard, checkpoints, then testing and reporting what was trained."""
    run(train.main, tiny_options)
    experiment = tmp_path / "experiments/tiny"
    assert {p.name for p in (experiment / "models").iterdir()} == {
        "net_g_2.pth",
        "net_g_4.pth",
        "net_g_latest.pth",
    }
    assert {p.name for p in (experiment / "training_states").iterdir()} == {"2.state", "4.state"}
    assert not equal(weights(experiment, 2), weights(experiment, 4))
    assert not equal(weights(experiment, 4), weights(experiment, 4, "params_ema"))
    log = log_of(experiment)
    assert log.count("Validation tiny") == 2  # at 2 and 4, the end
    assert "psnr" in log
    assert "l_pix" in log
    assert list((tmp_path / "tb_logger/tiny").glob("events.out.tfevents.*"))
    validated = re.findall(r"# psnr: ([\d.]+)", log)[-1]

    tested = {
        **tiny_options,
        "name": "tested",
        "datasets": {"test_1": tiny_options["datasets"]["val_1"]},
        "path": {"pretrain_network_g": str(experiment / "models/net_g_latest.pth"), "param_key_g": "params_ema"},
        "val": {**tiny_options["val"], "save_img": True},
    }
    run(esc_test.main, tested)
    assert f"# psnr: {validated}" in log_of(tmp_path / "results/tested")
    assert (tmp_path / "results/tested/visualization/tiny/p0x2_tested.png").is_file()

    capsys.readouterr()
    run(report.main, tiny_options)
    lines = capsys.readouterr().out.splitlines()
    scores = dict(line.split() for line in lines[-3:-1])
    assert scores["ESC"] == validated
    assert float(scores["bicubic"]) > 20
    assert (tmp_path / lines[-1].rpartition(": ")[2]).stat().st_size > 1000


def test_no_warnings_to_ignore(tiny_options: Options, tmp_path: Path) -> None:
    """As a user starts it, with several validation sets and more loader processes than any machine has."""
    tiny_options["datasets"]["val_2"] = {**tiny_options["datasets"]["val_1"], "name": "again"}
    tiny_options["datasets"]["train"]["num_worker_per_gpu"] = 1000
    done = start(write(tiny_options, tmp_path), cwd=tmp_path).communicate()[0]
    assert "End of training" in done
    assert "warn" not in done.lower().replace(str(tmp_path).lower(), "")
    assert "num_worker_per_gpu is lowered from 1000 to" in done


def start(file: str, *arguments: str, cwd: Path, module: str = "esc_arch.train") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, "-opt", file, *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def test_killed_training_resumes_from_the_newest_whole_checkpoint(tiny_options: Options, tmp_path: Path) -> None:
    tiny_options["train"]["total_iter"] = 100000
    tiny_options["logger"]["print_freq"] = 100
    tiny_options["val"] = None
    file = write(tiny_options, tmp_path)
    states = tmp_path / "experiments/tiny/training_states"
    process = start(file, cwd=tmp_path)
    wait_for(states / "8.state", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    newest = max(int(path.stem) for path in states.glob("*.state"))
    damaged = states / f"{newest + 2}.state"  # as a crash of the file system may leave it
    damaged.write_bytes((states / f"{newest}.state").read_bytes()[:1000])
    tiny_options["train"]["total_iter"] = newest + 4
    output = start(write(tiny_options, tmp_path), "--auto_resume", cwd=tmp_path).communicate()[0]
    assert f"Warning: the checkpoint of {damaged} is not whole" in output
    assert re.search(rf"Resuming training from epoch: \d+, iter: {newest}\.", output)
    assert "End of training" in output
    assert (states / f"{newest + 4}.state").is_file()
    torch.load(damaged, weights_only=True)  # written anew on the way


def test_interrupted_and_uninterrupted_training_agree(run: Run, tiny_options: Options, tmp_path: Path) -> None:
    """Weights, EMA, optimizer and learning rate resume exactly.

    BasicSR does not store the random state and the place within the epoch, so the same batch is made every time here:
    one image, of the size of a patch, without augmentation.
    """
    tiny_options["val"] = None
    training_set = tiny_options["datasets"]["train"]
    training_set.update(use_hflip=False, use_rot=False, gt_size=40, batch_size_per_gpu=1, io_backend={"type": "disk"})
    for kind in ("gt", "lq"):
        size = {"gt": 40, "lq": 20}[kind]
        folder = tmp_path / kind
        folder.mkdir()
        import cv2
        from skimage import data

        cv2.imwrite(str(folder / "a.png"), data.coffee()[:size, :size])
        training_set[f"dataroot_{kind}"] = str(folder)
    tiny_options["train"]["total_iter"] = 6
    run(train.main, {**tiny_options, "name": "through"})
    run(train.main, {**tiny_options, "name": "broken", "train": {**tiny_options["train"], "total_iter": 4}})
    run(train.main, {**tiny_options, "name": "broken"}, "--auto_resume")
    through, broken = (tmp_path / "experiments" / name for name in ("through", "broken"))
    for key in ("params", "params_ema"):
        assert equal(weights(through, 6, key), weights(broken, 6, key))
        assert not equal(weights(through, 6, key), weights(through, 4, key))
    states = [torch.load(folder / "training_states/6.state", weights_only=True) for folder in (through, broken)]
    assert states[0]["schedulers"] == states[1]["schedulers"]
    for a, b in zip(*(state["optimizers"][0]["state"].values() for state in states), strict=True):
        assert equal(a, b)


def test_two_processes_keep_equal_weights(tiny_options: Options, tmp_path: Path) -> None:
    """`torchrun` on CPUs (gloo); each process trains on images of its own and saves its weights for the comparison."""
    script = tmp_path / "train_and_save_all_ranks.py"
    script.write_text(
        "import sys, torch, esc_arch\n"
        "from esc_arch.train import main\n"
        "from basicsr.models.sr_model import SRModel\n"
        "save = SRModel.save\n"
        "def save_all(self, epoch, current_iter):\n"
        "    rank = self.opt['rank']\n"
        "    mine = {'net': self.net_g.module.state_dict(), 'lq': getattr(self, 'lq', 0)}\n"
        "    torch.save(mine, f'rank{rank}_{current_iter}.pt')\n"
        "    save(self, epoch, current_iter)\n"
        "SRModel.save = save_all\n"
        "main()\n"
    )
    tiny_options["num_gpu"] = "auto"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29581"]
    command += [str(script), "-opt", write(tiny_options, tmp_path), "--launcher", "pytorch"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}_4.pt", weights_only=True) for rank in range(2))
    assert not torch.equal(first["lq"], second["lq"])
    assert equal(first["net"], second["net"])
    before = torch.load(tmp_path / "rank0_2.pt", weights_only=True)["net"]
    assert not equal(before, first["net"])
    assert equal(weights(tmp_path / "experiments/tiny", "latest"), first["net"])


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision(
    run: Run, tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amp: str
) -> None:
    from esc_arch.archs import ESC

    seen: list[tuple[bool, torch.dtype | None]] = []
    forward = ESC.forward

    def watched(self: ESC, x: torch.Tensor) -> torch.Tensor:
        enabled = torch.is_autocast_enabled("cpu")
        if x.is_meta:  # the check of sizes
            return forward(self, x)
        seen.append((self.training, torch.get_autocast_dtype("cpu") if enabled else None))
        return forward(self, x)

    monkeypatch.setattr(ESC, "forward", watched)
    run(train.main, {**tiny_options, "name": "plain"})
    assert {dtype for _, dtype in seen} == {None}
    seen.clear()
    run(train.main, {**tiny_options, "name": "mixed", "amp": amp})
    assert {dtype for training, dtype in seen if training} == {torch.bfloat16 if amp == "bf16" else torch.float16}
    assert {dtype for training, dtype in seen if not training} == {None}
    plain, mixed = (weights(tmp_path / "experiments" / name, 4) for name in ("plain", "mixed"))
    assert not equal(plain, mixed)
    for name, tensor in mixed.items():
        assert tensor.dtype == torch.float32
        assert (tensor - plain[name]).abs().max() < 0.02, name  # 4 steps of at most lr 1e-3 each, in either run


def test_fp16_leaves_out_steps_with_infinite_gradients(tiny_options: Options) -> None:
    from basicsr.models import build_model

    model = build_model({**tiny_options, "is_train": True, "dist": False, "amp": "fp16"})
    before = {name: tensor.clone() for name, tensor in model.net_g.state_dict().items()}
    model.feed_data({"lq": torch.full((1, 3, 16, 16), 1e30), "gt": torch.zeros(1, 3, 32, 32)})
    scale = model.scaler.get_scale()
    model.optimize_parameters(1)
    assert equal(model.net_g.state_dict(), before)
    assert model.scaler.get_scale() < scale
    model.feed_data({"lq": torch.rand(1, 3, 16, 16), "gt": torch.zeros(1, 3, 32, 32)})
    for iteration in range(2, 12):  # the scale halves until the gradients fit
        model.optimize_parameters(iteration)
    assert not equal(model.net_g.state_dict(), before)


@pytest.mark.parametrize("amp", [None, "bf16"])
def test_compiled_training(
    run: Run, tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amp: str | None
) -> None:
    """With the tracing of torch.compile but without its C++ compiler, which a machine may not have."""
    compiled: list[Any] = []
    original = torch.compile

    def compile_without_code_generation(function: Any, **kwargs: Any) -> Any:
        compiled.append(function)
        return original(function, backend="eager", **kwargs)

    monkeypatch.setattr(torch, "compile", compile_without_code_generation)
    monkeypatch.setattr(esc_model, "COMPILES_ON_CPU", "2.0")
    run(train.main, {**tiny_options, "name": "eager", "amp": amp})
    assert not compiled
    run(train.main, {**tiny_options, "name": "compiled", "amp": amp, "compile": True})
    assert len(compiled) == 1
    eager, traced = (weights(tmp_path / "experiments" / name, 4) for name in ("eager", "compiled"))
    assert eager.keys() == traced.keys()
    for name, tensor in eager.items():
        torch.testing.assert_close(traced[name], tensor, rtol=1e-3, atol=1e-4 if amp is None else 5e-3)


def test_compiler_that_is_too_old(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**tiny_options, "is_train": True, "dist": False, "compile": True}
    monkeypatch.setattr(esc_model, "COMPILES_ON_CPU", "99.0")
    with pytest.raises(ValueError, match=r"compile on a CPU needs torch 99\.0 or newer, found .* set compile to false"):
        esc_model.amp_dtype(options)


@pytest.mark.slow
@pytest.mark.skipif(
    TorchVersion(torch.__version__) < esc_model.COMPILES_ON_CPU, reason="this torch generates wrong gradients"
)
def test_compiled_training_with_inductor(run: Run, tiny_options: Options, tmp_path: Path) -> None:
    run(train.main, {**tiny_options, "compile": True, "amp": "bf16"})
    assert (tmp_path / "experiments/tiny/models/net_g_latest.pth").is_file()


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (16, 16)])
def test_evaluation_pads_whole_windows_for_any_size(tiny_options: Options, size: tuple[int, int]) -> None:
    from basicsr.models import build_model
    from conftest import randomise

    model = build_model({**tiny_options, "is_train": False, "dist": False})
    randomise(model.net_g)
    shapes: list[tuple[int, ...]] = []
    model.net_g.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape[2:])))
    lq = torch.rand(1, 3, *size)
    model.feed_data({"lq": lq})
    model.test()
    assert model.output.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert shapes == [tuple(-(-side // 8) * 8 for side in size)]
    assert torch.equal(model.lq, lq)


def test_evaluation_equals_swinir_model(tiny_options: Options) -> None:
    """Where BasicSR's SwinIRModel can pad, which published option files name, both compute the same."""
    from basicsr.models import build_model
    from conftest import randomise

    outputs = []
    for model_type in ("ESCModel", "SwinIRModel"):
        model = build_model({**tiny_options, "model_type": model_type, "is_train": False, "dist": False})
        randomise(model.net_g)
        model.feed_data({"lq": torch.linspace(0, 1, 3 * 13 * 11).reshape(1, 3, 13, 11)})
        model.test()
        outputs.append(model.output)
    assert torch.equal(*outputs)


def test_existing_experiment_is_kept(run: Run, tiny_options: Options, tmp_path: Path) -> None:
    tiny_options.update(val=None)
    run(train.main, tiny_options)
    first = weights(tmp_path / "experiments/tiny", 4)
    run(train.main, {**tiny_options, "manual_seed": 1})
    archived = next((tmp_path / "experiments").glob("tiny_archived_*"))
    assert equal(weights(archived, 4), first)
    assert not equal(weights(tmp_path / "experiments/tiny", 4), first)


def test_force_yml(run: Run, tiny_options: Options, tmp_path: Path) -> None:
    run(train.main, tiny_options, "--force_yml", "train:total_iter=2", "name=forced")
    assert (tmp_path / "experiments/forced/models/net_g_2.pth").is_file()
    assert not (tmp_path / "experiments/forced/models/net_g_4.pth").exists()

"""Training of the real-world and arbitrary-scale networks through BasicSR, end to end, and the mistakes on the way."""

from __future__ import annotations

import copy
import logging
import re
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY, option_file, randomise, relative_difference

import esc_arch.test as esc_test
from esc_arch import report, train
from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError
from esc_arch.models import esc_model

Options = dict[str, Any]
Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of the package in this process, below `tmp_path`."""
    from basicsr.utils.logger import initialized_logger

    monkeypatch.chdir(tmp_path)

    def call(main: Callable[[], None], opt: Options) -> None:
        initialized_logger.clear()
        logging.getLogger("basicsr").handlers.clear()
        (tmp_path / "options.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
        monkeypatch.setattr(sys, "argv", ["command", "-opt", str(tmp_path / "options.yml")])
        main()

    return call


def load(name: str) -> Options:
    return yaml.safe_load(option_file(name).read_text())


def shrunk(name: str, lmdb: Path) -> Options:
    """An option file with a tiny network and two iterations on another LMDB."""
    opt = load(name)
    opt["network_g"].update(TINY)
    opt["num_gpu"] = 0
    opt["datasets"]["train"].update(dataroot_gt=str(lmdb), num_worker_per_gpu=0, batch_size_per_gpu=2)
    opt["train"].update(total_iter=2)
    opt["logger"].update(print_freq=1, save_checkpoint_freq=1, use_tb_logger=False)
    if "queue_size" in opt:
        opt.update(queue_size=2, gt_size=32)  # the pool is full at the second iteration
        opt["datasets"]["train"].update(gt_size=32, dataset_enlarge_ratio=50)
    if "network_d" in opt:
        opt["network_d"]["num_feat"] = 4
        opt["train"].pop("perceptual_opt", None)
    return opt


@pytest.fixture
def lte_options(tiny_data: Path) -> Options:
    """Options that train a tiny ESC+LTE for two iterations, and validate it at two scales."""
    opt = shrunk("train_ESC_LTE", tiny_data / "train_HR.lmdb")
    opt["name"] = "lte"
    opt["network_g"].update(hidden_dim=8, hidden_list=[8])
    opt["datasets"]["train"].update(gt_size=32, queries=60)
    for phase in ("val_1", "val_2"):
        opt["datasets"][phase]["dataroot_gt"] = str(tiny_data / "val" / "HR")
    opt["datasets"] = {phase: opt["datasets"][phase] for phase in ("train", "val_1", "val_2")}
    opt["val"]["val_freq"] = 1
    return opt


def log_of(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted(folder.glob("*.log")))


def moved(folder: Path, label: str = "g", key: str = "params") -> bool:
    first, last = (torch.load(folder / f"models/net_{label}_{i}.pth", weights_only=True)[key] for i in (1, 2))
    return not all(torch.equal(first[name], last[name]) for name in first)


def test_arbitrary_scale_trains_tests_and_reports(
    run: Run, lte_options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(train.main, lte_options)
    experiment = tmp_path / "experiments/lte"
    log = log_of(experiment)
    assert log.count("Validation Set5_x2") == log.count("Validation Set5_x3") == 2
    assert moved(experiment)
    validated = re.findall(r"# psnr: ([\d.]+)", log)[-2:]

    tested = {**lte_options, "name": "tested"}
    tested["datasets"] = {f"test_{i}": lte_options["datasets"][f"val_{i}"] for i in (1, 2)}
    tested["path"] = {"pretrain_network_g": str(experiment / "models/net_g_latest.pth"), "param_key_g": "params_ema"}
    tested["val"] = {**lte_options["val"], "save_img": True, "suffix": None}
    run(esc_test.main, tested)
    assert re.findall(r"# psnr: ([\d.]+)", log_of(tmp_path / "results/tested")) == validated
    assert (tmp_path / "results/tested/visualization/Set5_x3/p0_tested.png").is_file()

    capsys.readouterr()
    run(report.main, lte_options)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("ESCLTE")] == validated
    assert [line.split(",")[1].strip() for line in lines if ", x" in line] == ["x2", "x3"]
    assert (tmp_path / lines[-1].rpartition(": ")[2]).stat().st_size > 1000


@pytest.mark.parametrize("change", [{"amp": "bf16"}, {"amp": "fp16"}])
def test_arbitrary_scale_in_mixed_precision(run: Run, lte_options: Options, tmp_path: Path, change: Options) -> None:
    run(train.main, {**lte_options, **change})
    assert moved(tmp_path / "experiments/lte")


def test_arbitrary_scale_compiled(
    run: Run, lte_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tracing of torch.compile but without its C++ compiler, which a machine may not have."""
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: original(function, backend="eager", **kwargs))
    monkeypatch.setattr(esc_model, "COMPILES_ON_CPU", "2.0")
    run(train.main, {**lte_options, "compile": True})
    assert moved(tmp_path / "experiments/lte")


def test_border_of_the_scale_is_cropped() -> None:
    from esc_arch.models.esc_lte_model import with_crop_border

    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": None}, "niqe": {"crop_border": 0}}
    before = copy.deepcopy(metrics)
    assert with_crop_border(metrics, 2.7) == {**before, "psnr": {"type": "calculate_psnr", "crop_border": 3}}
    assert metrics == before


def test_images_without_gt_get_the_scale_of_the_file(lte_options: Options) -> None:
    from basicsr.models import build_model

    model = build_model({**lte_options, "is_train": False, "dist": False, "scale": 2.5})
    randomise(model.net_g)
    lq = torch.rand(1, 3, 9, 12)
    model.feed_data({"lq": lq})
    model.test()
    assert model.output.shape == (1, 3, 22, 30)
    expected = model.net_g.forward(lq, size=(22, 30))  # forward itself, past what the model adds
    assert relative_difference(model.output, expected) <= 1e-5


@pytest.mark.parametrize("name", ["train_ESC_Real_x4_mse", "train_ESC_Real_x4_gan"])
def test_degradation_runs_without_a_gpu(tiny_data: Path, name: str) -> None:
    """BasicSR's models ask for one; pairs go through the pool, and come out whole."""
    from basicsr.data import build_dataset
    from basicsr.models import build_model

    opt = parsed({**shrunk(name, tiny_data / "train_HR.lmdb"), "queue_size": 4})
    opt["path"]["pretrain_network_g"] = None
    model, data = build_model(opt), build_dataset(opt["datasets"]["train"])
    fed = []
    for _ in range(3):
        items = [data[0], data[1]]
        model.feed_data({key: torch.stack([item[key] for item in items]) for key in items[0] if key != "gt_path"})
        assert model.lq.shape == (2, 3, 8, 8)
        assert model.gt.shape == (2, 3, 32, 32)
        if len(fed) == 4:  # the pool was full: the batch is of pairs from before
            pairs = {tuple(lq.flatten().tolist()): gt for lq, gt in fed}
            assert all(
                torch.equal(pairs[tuple(q.flatten().tolist())], g) for q, g in zip(model.lq, model.gt, strict=True)
            )
        fed += list(zip(model.lq, model.gt, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("base", ["train_ESC_Real_x4", "train_ESC_RealM_x2", "train_ESC_RealM_x1"])
def test_both_stages_of_real_world_training(run: Run, base: str, demo: Path, tmp_path: Path) -> None:
    """On the demonstration photographs; the second stage starts from the first."""
    first = shrunk(f"{base}_mse", demo / "train_HR_sub.lmdb")
    run(train.main, first)
    assert "l_pix" in log_of(tmp_path / f"experiments/{base}_mse")
    assert moved(tmp_path / f"experiments/{base}_mse")
    run(train.main, shrunk(f"{base}_gan", demo / "train_HR_sub.lmdb"))
    second = tmp_path / f"experiments/{base}_gan"
    log = log_of(second)
    assert "l_g_gan" in log
    assert "l_d_fake" in log
    assert f"Loading ESC{'Real' if '_Real_' in base else 'RealM'} model from experiments/{base}_mse" in log
    assert moved(second)
    assert moved(second, "d")
    tested = {**load(base.replace("train", "test")), "num_gpu": 0}
    tested["network_g"].update(TINY)
    tested["datasets"]["test_1"]["dataroot_lq"] = str(demo / "val/HR")
    run(esc_test.main, tested)
    assert "# niqe" in log_of(tmp_path / f"results/{tested['name']}")


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 3])
def test_dflip_training(run: Run, scale: int, demo: Path, tmp_path: Path) -> None:
    opt = shrunk(f"train_ESC_DFLIP_x{scale}", demo / "train_HR_sub.lmdb")
    opt["datasets"] = {"train": opt["datasets"]["train"]}
    opt["datasets"]["train"]["dataset_enlarge_ratio"] = 1
    opt.update(val=None)
    opt["path"]["pretrain_network_g"] = None
    run(train.main, opt)
    assert moved(tmp_path / f"experiments/train_ESC_DFLIP_x{scale}")


@pytest.mark.slow
def test_arbitrary_scale_demo(run: Run, demo: Path, tmp_path: Path) -> None:
    opt = load("demo_ESC_LTE")
    opt["datasets"]["train"].update(dataroot_gt=str(demo / "train_HR_sub.lmdb"))
    for phase in ("val_1", "val_2", "val_3"):
        opt["datasets"][phase]["dataroot_gt"] = str(demo / "val/HR")
    opt["train"]["total_iter"] = 4
    opt["val"]["val_freq"] = 4
    opt["num_gpu"] = 0
    run(train.main, opt)
    assert "Validation demo_x6" in log_of(tmp_path / "experiments/demo_ESC_LTE")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration data set."""
    from esc_arch.prepare.demo import prepare_demo

    folder = tmp_path_factory.mktemp("demo")
    prepare_demo(folder, workers=1)
    return folder


def parsed(opt: Options) -> Options:
    """Complete options as BasicSR's parser does."""
    opt = {**copy.deepcopy(opt), "is_train": True, "auto_resume": False, "dist": False, "rank": 0, "world_size": 1}
    for phase, dataset in opt["datasets"].items():
        dataset["phase"] = phase.partition("_")[0]
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
    return opt


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"queue_size": 3}, "queue_size 3 must be a multiple of batch_size_per_gpu 2; change one of them"),
        ({"jpeg_range2": ...}, "the option jpeg_range2 is missing"),
        ({"gt_usm": ...}, "the option gt_usm is missing"),
        ({"scale": 3}, "RealESRNetModel cuts GT to 400 pixels, which scale 3 does not divide; use 1, 2 or 4"),
    ],
)
def test_mistakes_in_real_world_options_are_named(tiny_data: Path, change: Options, sentence: str) -> None:
    opt = {**shrunk("train_ESC_Real_x4_mse", tiny_data / "train_HR.lmdb"), **change}
    with pytest.raises(UserError, match=sentence):
        check_options(parsed({name: value for name, value in opt.items() if value is not ...}))


def test_missing_first_stage_is_named(tiny_data: Path) -> None:
    opt = shrunk("train_ESC_Real_x4_gan", tiny_data / "train_HR.lmdb")
    with pytest.raises(UserError, match=r"net_g_latest\.pth does not exist; give the path of a checkpoint"):
        check_options(parsed(opt))


def test_missing_vgg_is_told_before_training(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a network: torchvision's download fails."""
    monkeypatch.chdir(tmp_path)

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    opt = shrunk("train_ESC_Real_x4_gan", tiny_data / "train_HR.lmdb")
    opt["path"]["pretrain_network_g"] = None
    check_options(parsed(opt))
    opt["train"]["perceptual_opt"] = load("train_ESC_Real_x4_gan")["train"]["perceptual_opt"]
    with pytest.raises(UserError, match=r"perceptual_opt: the weights of vgg19 cannot be loaded .*not known.*put"):
        check_options(parsed(opt))
    (tmp_path / "experiments/pretrained_models").mkdir(parents=True)
    (tmp_path / "experiments/pretrained_models/vgg19-dcbb9e9d.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"vgg19-dcbb9e9d\.pth of torchvision into experiments/pretrained_models/"):
        check_options(parsed(opt))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scale": [1, 9]}, r"datasets:train: queries must be from 1 to the 9 pixels"),
        ({"gt_size": 44}, r"datasets:train: \S+ \(40x48\) is smaller than gt_size 44"),
        ({"scale": None}, r"datasets:train: "),
        ({"dataroot_gt": "nowhere.lmdb"}, r"datasets:train:dataroot_gt: nowhere.lmdb does not exist"),
    ],
)
def test_mistakes_in_arbitrary_scale_options_are_named(lte_options: Options, change: Options, sentence: str) -> None:
    check_options(parsed(lte_options))
    lte_options["datasets"]["train"].update(change)
    with pytest.raises(UserError, match=sentence):
        check_options(parsed(lte_options))

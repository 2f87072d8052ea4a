"""Option files of the kinds that ESC, HAT, HiT-SR and BasicSR publish start, train, validate and test as they are."""

from __future__ import annotations

import copy
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY

import esc_arch.test as esc_test
from esc_arch import train

Options = dict[str, Any]
Run = Callable[..., str]
L1 = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
LOADER = {"use_shuffle": True, "num_worker_per_gpu": 0, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 10}
PATCHES = {"gt_size": 32, "use_hflip": True, "use_rot": True, **LOADER}
SWIN = {"upscale": 2, "in_chans": 3, "img_size": 64, "img_range": 1.0, "depths": [1], "embed_dim": 16, "num_heads": [2]}
HIT = {**SWIN, "base_win_size": [8, 8], "expansion_factor": 2, "resi_connection": "1conv"}
HIT.update(hier_win_ratios=[0.5, 1, 2, 4, 6, 8], upsampler="pixelshuffledirect")
HAT = {**SWIN, "window_size": 8, "compress_ratio": 3, "squeeze_factor": 4, "conv_scale": 0.01, "overlap_ratio": 0.5}
HAT.update(mlp_ratio=2, upsampler="pixelshuffle", resi_connection="1conv")
DEGRADATION: Options = {
    "gt_size": 32,
    "queue_size": 2,
    "second_blur_prob": 0.8,
    **{
        f"{name}{turn}": value
        for turn in ("", "2")
        for name, value in {
            "resize_prob": [0.2, 0.7, 0.1],
            "resize_range": [0.3, 1.2],
            "gaussian_noise_prob": 0.5,
            "noise_range": [1, 25],
            "poisson_scale_range": [0.05, 2.5],
            "gray_noise_prob": 0.4,
            "jpeg_range": [30, 95],
        }.items()
    },
}
BLUR: Options = {
    "final_sinc_prob": 0.8,
    **{
        f"{name}{turn}": value
        for turn in ("", "2")
        for name, value in {
            "blur_kernel_size": 21,
            "kernel_list": ["iso", "aniso"],
            "kernel_prob": [0.6, 0.4],
            "sinc_prob": 0.1,
            "blur_sigma": [0.2, 1.5],
            "betag_range": [0.5, 4],
            "betap_range": [1, 2],
        }.items()
    },
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of the package in this process, on a `.yaml` file; return what it printed and logged."""
    from basicsr.utils.logger import initialized_logger

    monkeypatch.chdir(tmp_path)

    def call(main: Callable[[], None], opt: Options) -> str:
        initialized_logger.clear()
        logging.getLogger("basicsr").handlers.clear()
        (tmp_path / "options.yaml").write_text(yaml.safe_dump(opt, sort_keys=False))
        monkeypatch.setattr(sys, "argv", ["command", "-opt", "options.yaml"])
        main()
        folder = tmp_path / ("experiments" if main is train.main else "results") / opt["name"]
        return capsys.readouterr().out + "".join(file.read_text() for file in folder.glob("*.log"))

    return call


def pairs(data: Path, **more: Any) -> Options:
    roots = {"dataroot_gt": str(data / "val/HR"), "dataroot_lq": str(data / "val/LR")}
    return {
        "name": "Set5",
        "type": "PairedImageDataset",
        **roots,
        "filename_tmpl": "{}x2",
        "io_backend": {"type": "disk"},
        **more,
    }


def of_folder(data: Path, kind: str, **more: Any) -> Options:
    """A training set of GT alone."""
    return {"name": kind, "type": kind, "dataroot_gt": str(data / "train/HR"), "io_backend": {"type": "disk"}, **more}


def of_lmdb(data: Path, **more: Any) -> Options:
    roots = {f"dataroot_{root}": str(data / f"train_{name}.lmdb") for root, name in (("gt", "HR"), ("lq", "LR"))}
    return {"name": "DIV2K", "type": "PairedImageDataset", **roots, "io_backend": {"type": "lmdb"}, **PATCHES, **more}


def training(model: str, network: Options, training_set: Options, data: Path, **more: Any) -> Options:
    psnr = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}
    return {
        "name": "peer",
        "model_type": model,
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {"train": training_set, "val_1": pairs(data)},
        "network_g": network,
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.999,
            "optim_g": {"type": "AdamW", "lr": 5e-4, "weight_decay": 0, "betas": [0.9, 0.9]},
            "scheduler": {"type": "MultiStepLR", "milestones": [1, 2], "gamma": 0.5},
            "total_iter": 2,
            "warmup_iter": -1,
            "pixel_opt": L1,
        },
        "val": {"val_freq": 2.0, "save_img": False, "pbar": False, "metrics": {"psnr": psnr}},
        "logger": {
            "print_freq": 1,
            "save_checkpoint_freq": 2.0,
            "use_tb_logger": False,
            "wandb": {"project": None, "resume_id": None},
        },
        "dist_params": {"backend": "nccl", "port": 29500},
        **more,
    }


def esc(data: Path) -> Options:
    network = {"type": "ESC", **TINY, "kernel_size": 13, "upscaling_factor": 2, "exp_ratio": 1.25}
    ahead = {"prefetch_mode": "cuda", "pin_memory": True, "filename_tmpl": "{}"}
    return training("ESRModel", network, of_lmdb(data, **ahead), data)


def esc_fp_on_dflip(data: Path) -> Options:
    network = {"type": "ESCFP", **TINY, "kernel_size": 13, "upscaling_factor": 2, "exp_ratio": 1.25}
    return training("ESRModel", network, of_folder(data, "DownsampleImageDataset", **PATCHES), data)


def blind(model: str, network: Options, data: Path, **more: Any) -> Options:
    training_set = of_folder(
        data, "RealESRGANDataset", **BLUR, **{**PATCHES, "use_rot": False, "dataset_enlarge_ratio": 50}
    )
    opt = training(model, network, training_set, data, **DEGRADATION, **more)
    opt["train"]["optim_d"] = {"type": "Adam", "lr": 1e-4, "weight_decay": 0, "betas": [0.9, 0.99]}
    return opt


def esc_real_mse(data: Path) -> Options:
    network = {"type": "ESCRealM", **TINY, "kernel_size": 13, "upscaling_factor": 2, "exp_ratio": 2, "deployment": True}
    return blind("RealHATMSEModel", network, data, gt_usm=True)


def hat_real_gan(data: Path) -> Options:
    network = {
        "type": "SwinIR",
        **SWIN,
        "window_size": 8,
        "mlp_ratio": 2,
        "upsampler": "pixelshuffle",
        "resi_connection": "1conv",
    }
    opt = blind("RealHATGANModel", network, data, l1_gt_usm=True, percep_gt_usm=True, gan_gt_usm=False)
    opt["datasets"]["train"]["meta_info_file"] = "hat/data/meta_info/no_such_list.txt"
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4, "skip_connection": True}
    gan = {"type": "GANLoss", "gan_type": "vanilla", "real_label_val": 1.0, "fake_label_val": 0.0, "loss_weight": 0.1}
    opt["train"].update(gan_opt=gan, net_d_iters=1, net_d_init_iters=0)
    return opt


def hat_on_imagenet(data: Path) -> Options:
    pytest.importorskip("spandrel")
    Path("train_map.txt").write_text("p0.png 17\np2.png 3\n")
    training_set = of_folder(data, "ImageNetPairedDataset", **{**PATCHES, "gt_size": 44})  # of images 48 x 40
    training_set.update(dataroot_lq=training_set["dataroot_gt"], meta_info_file="train_map.txt")
    return training("HATModel", {"type": "HAT", **HAT}, training_set, data)


def hit_sr(data: Path) -> Options:
    opt = training("HITModel", {"type": "HiT_SIR", **HIT}, of_lmdb(data, task="SR"), data)
    opt["datasets"]["val"] = {"task": "SR", **opt["datasets"].pop("val_1")}
    del opt["train"]["ema_decay"]
    return opt


@pytest.mark.parametrize("kind", [esc, esc_fp_on_dflip, esc_real_mse, hat_real_gan, hat_on_imagenet, hit_sr])
def test_training_and_testing(run: Run, tiny_data: Path, tmp_path: Path, kind: Callable[[Path], Options]) -> None:
    opt = kind(tiny_data)
    said = run(train.main, copy.deepcopy(opt))
    assert "End of training" in said
    trained = tmp_path / "experiments/peer/models/net_g_latest.pth"
    first, last = (torch.load(trained.with_name(f"net_g_{i}.pth"), weights_only=True) for i in (2, "latest"))
    assert all(torch.equal(first["params"][name], tensor) for name, tensor in last["params"].items())
    validated = re.findall(r"# psnr: ([\d.]+)", said)
    assert validated

    images = 2 if kind is hat_on_imagenet else 4
    assert f"Number of train images: {images}" in said
    assert ("meta_info_file: hat/data" in said) == (kind is hat_real_gan)
    assert ("deployment has no meaning here" in said) == (kind is esc_real_mse)
    assert ("prefetch_mode: cuda is left out" in said) == (kind is esc)

    # the authors test ESC-Real by ESRModel, HAT's by HATModel
    model = {esc_real_mse: "ESRModel", hat_real_gan: "HATModel"}.get(kind, opt["model_type"])
    tested = {key: opt[key] for key in ("name", "scale", "num_gpu", "manual_seed")} | {"model_type": model}
    tested["network_g"] = {key: value for key, value in opt["network_g"].items() if key != "deployment"}
    tested["datasets"] = {"test_1": pairs(tiny_data)}
    key = "params_ema" if "ema_decay" in opt["train"] else "params"
    tested["path"] = {"pretrain_network_g": str(trained), "strict_load_g": True, "param_key_g": key}
    tested["val"] = {"save_img": True, "suffix": None, "metrics": opt["val"]["metrics"]}
    assert f"# psnr: {validated[-1]}" in run(esc_test.main, tested)
    assert (tmp_path / "results/peer/visualization/Set5/p0x2_peer.png").is_file()


def test_file_without_val(run: Run, tiny_data: Path, tmp_path: Path) -> None:
    """As older releases of BasicSR have it, with save_img, suffix and crop_border at the top level."""
    network = {"type": "RCAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_group": 1, "num_block": 1}
    opt = training(
        "SRModel", {**network, "squeeze_factor": 16, "upscale": 2, "rgb_mean": [0.4, 0.4, 0.4]}, {}, tiny_data
    )
    old = {"suffix": None, "crop_border": None, "save_img": True, "datasets": {"test_1": pairs(tiny_data)}}
    for section in ("train", "val", "logger", "dist_params"):
        del opt[section]
    said = run(esc_test.main, {**opt, **old})
    assert said.count("have no effect here") + said.count("has no effect here") <= 1
    assert (tmp_path / "results/peer/visualization/Set5/p0x2_peer.png").is_file()


def test_penalty_of_the_discriminator(tiny_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Which the authors' file can name, and their code stops at; the loss of artefacts is left out, and said to be."""
    from basicsr.models import build_model

    logs, weights = [], []
    for penalty in ({}, {"use_gp": True, "gp_lambda": 5}):
        opt = hat_real_gan(tiny_data)
        opt["train"]["gan_opt"].update(penalty)
        opt["train"]["ldl_opt"] = L1
        torch.manual_seed(0)
        with caplog.at_level(logging.WARNING, "basicsr"), propagating("basicsr"):
            model = build_model({**opt, "is_train": True, "dist": False})
        model.lq, model.gt, model.gt_usm = (torch.rand(2, 3, side, side) for side in (16, 32, 32))
        model.optimize_parameters(1)
        logs.append(model.log_dict)
        weights.append(torch.cat([w.detach().flatten() for w in model.net_d.parameters()]))
    assert "gp_loss" not in logs[0]
    assert logs[1]["gp_loss"] > 0
    assert not torch.equal(*weights)
    assert not any("ldl" in name for log in logs for name in log)
    assert "train:ldl_opt is ignored by RealHATGANModel" in caplog.text


@contextmanager
def propagating(name: str) -> Iterator[None]:
    """Let what a logger says reach the root, where pytest listens."""
    logger = logging.getLogger(name)
    before, logger.propagate = logger.propagate, True
    try:
        yield
    finally:
        logger.propagate = before


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "Adamax", "SGD", "ASGD", "RMSprop", "Rprop"])
def test_optimizers(tiny_options: Options, optimizer: str) -> None:
    from basicsr.models import build_model

    tiny_options["train"]["optim_g"] = {"type": optimizer, "lr": 1e-3}
    model = build_model({**tiny_options, "is_train": True, "dist": False, "model_type": "SRModel"})
    assert type(model.optimizers[0]) is getattr(torch.optim, optimizer)
    before = [w.clone() for w in model.net_g.parameters()]
    model.feed_data({"lq": torch.rand(1, 3, 16, 16), "gt": torch.rand(1, 3, 32, 32)})
    model.optimize_parameters(1)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.net_g.parameters(), strict=True))

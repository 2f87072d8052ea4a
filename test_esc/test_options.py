"""Every option file of ESC: its network builds, and scale, sizes, templates and paths agree with one another."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import OPTIONS, option_file

from esc_arch import archs
from esc_arch.checks.options import build_checked

# tested below, in test_options_family.py and test_ablation.py
OTHER_PROTOCOLS = ("_bundled_", "_photo", "_ESC_Real", "_ESC_LTE", "_ESC_DFLIP", "_ESC_RIB", "_ESC_FB")
FILES = [
    file
    for file in sorted(OPTIONS.rglob("*_ESC_*.yml"))
    if file.parent.name != "ablation" and not any(part in file.stem for part in OTHER_PROTOCOLS)
]
BENCHMARKS = ["Set5", "Set14", "B100", "Urban100", "Manga109"]
VARIANTS = {"ESC": "ESC", "ESC_light": "ESC-light", "ESC_FP": "ESC-FP", "ESC_XL": "ESC-XL"}
BUNDLED_X2 = "bundled_ESC_light_x2"


def load(file: Path) -> dict[str, Any]:
    from basicsr.utils.options import ordered_yaml

    return yaml.load(file.read_text(), Loader=ordered_yaml()[0])


def variant_of(file: Path) -> str:
    return file.stem.partition("_")[2].rpartition(f"_x{load(file)['scale']}")[0]


def test_all_are_there() -> None:
    expected = {
        f"{kind}_{variant}_x{scale}" for kind in ("train", "test") for variant in VARIANTS for scale in (2, 3, 4)
    }
    expected |= {f"train_{variant}_x{s}_DIV2K" for variant in ("ESC", "ESC_light", "ESC_FP") for s in (2, 3, 4)}
    assert expected <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_agrees_with_itself(file: Path) -> None:
    opt = load(file)
    scale = opt["scale"]
    assert opt["name"] == file.stem
    assert f"_x{scale}" in file.stem
    assert opt["num_gpu"] == "auto"
    network = build_checked(opt["network_g"], "network_g")
    assert network.upscaling_factor == scale
    for metric in opt["val"]["metrics"].values():
        assert metric["crop_border"] == scale
        assert metric["test_y_channel"] is True
    for phase, dataset in opt["datasets"].items():
        assert "pin_memory" not in dataset
        assert dataset.get("prefetch_mode") is None
        for root in ("dataroot_gt", "dataroot_lq"):
            assert dataset[root].startswith("datasets/")
        is_lmdb = dataset["io_backend"]["type"] == "lmdb"
        assert is_lmdb == (phase == "train") == dataset["dataroot_gt"].endswith(".lmdb")
        assert Path(dataset["dataroot_lq"]).name in (f"X{scale}", f"LR_bicubic_X{scale}_sub.lmdb") or (
            file.stem.startswith("demo") and Path(dataset["dataroot_lq"]).name == f"train_LR_bicubic_X{scale}_sub.lmdb"
        )
        # an LMDB has the same keys for LQ and GT; a folder of LQ images names the scale
        assert dataset["filename_tmpl"] == ("{}" if is_lmdb else f"{{}}x{scale}")


@pytest.mark.parametrize("file", [f for f in FILES if f.stem.startswith("train")], ids=lambda file: file.stem)
def test_training_protocol(file: Path) -> None:
    opt = load(file)
    scale, train = opt["scale"], opt["train"]
    training_set = opt["datasets"]["train"]
    data = "DIV2K" if file.stem.endswith("_DIV2K") else "DF2K"
    assert training_set["dataroot_gt"] == f"datasets/{data}/HR_sub.lmdb"
    assert training_set["dataroot_lq"] == f"datasets/{data}/LR_bicubic_X{scale}_sub.lmdb"
    assert training_set["gt_size"] == 64 * scale
    assert training_set["batch_size_per_gpu"] * 4 == 64
    assert dict(train["optim_g"]) == {"type": "Adam", "lr": 5e-4, "weight_decay": 0, "betas": [0.9, 0.9]}
    assert train["scheduler"]["milestones"] == [250000, 400000, 450000, 475000, 490000]
    assert (train["total_iter"], train["warmup_iter"], train["ema_decay"]) == (500000, 20000, 0.999)
    assert train["pixel_opt"]["type"] == "L1Loss"
    validation = [d for phase, d in opt["datasets"].items() if phase != "train"]
    assert [d["name"] for d in validation] == BENCHMARKS
    pretrained = opt["path"]["pretrain_network_g"]
    if scale == 2:
        assert pretrained is None
    else:
        parent = file.stem.replace(f"_x{scale}", "_x2")
        assert option_file(parent)
        assert pretrained == f"experiments/{parent}/models/net_g_latest.pth"
        assert opt["path"]["param_key_g"] == "params_ema"


@pytest.mark.parametrize("file", [f for f in FILES if f.stem.startswith("test")], ids=lambda file: file.stem)
def test_test_file_tests_what_its_training_file_trains(file: Path) -> None:
    opt = load(file)
    trained = file.stem.replace("test_", "train_")
    training = load(option_file(trained))
    assert opt["network_g"] == training["network_g"]
    assert opt["path"]["pretrain_network_g"] == f"experiments/{trained}/models/net_g_latest.pth"
    tested = [dict(d) for d in opt["datasets"].values()]
    assert tested == [dict(d) for phase, d in training["datasets"].items() if phase != "train"]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bundled_weights_have_their_files(scale: int) -> None:
    name = f"ESC_light_x{scale}"
    training, opt = load(option_file(f"bundled_{name}")), load(option_file(f"test_bundled_{name}"))
    published = load(option_file(f"test_{name}"))
    assert training["network_g"] == opt["network_g"] == published["network_g"]
    assert opt["path"]["pretrain_network_g"] == f"{name}.pth"
    assert list(opt["datasets"].values()) == list(published["datasets"].values())[:3]
    assert (opt["val"], opt["scale"]) == (published["val"], scale)
    if scale != 2:
        continued = load(option_file(f"{BUNDLED_X2}_continued"))
        assert training["path"]["pretrain_network_g"] == f"experiments/{continued['name']}/models/net_g_latest.pth"


@pytest.mark.parametrize("scale", [2, 4])
def test_photo_weights_have_their_files(scale: int) -> None:
    name = f"ESC_light_x{scale}_photo"
    training, opt = load(option_file(f"bundled_{name}")), load(option_file(f"test_bundled_{name}"))
    published = load(option_file("train_ESC_Real_x4_mse"))
    assert training["network_g"] == opt["network_g"] == load(option_file(f"test_ESC_light_x{scale}"))["network_g"]
    assert training["scale"] == opt["scale"] == scale
    assert training["path"]["pretrain_network_g"] == f"ESC_light_x{scale}.pth"
    assert opt["path"]["pretrain_network_g"] == f"{name}.pth"
    for key in [key for key in published if key.endswith(("_prob", "_prob2", "_range", "_range2"))]:
        assert training[key] == published[key]
    ours, theirs = training["datasets"]["train"], published["datasets"]["train"]
    for key in [key for key in theirs if key.startswith(("blur", "kernel", "sinc", "beta", "final"))]:
        assert ours[key] == theirs[key]
    for data_set in opt["datasets"].values():
        folder = data_set["name"].removesuffix("_degraded")
        assert data_set["dataroot_lq"] == f"datasets/degraded/{folder}/LR_degraded/X{scale}"


def test_second_part_of_the_bundled_x2_goes_on_from_the_first() -> None:
    first, second = (copy.deepcopy(load(option_file(f"{BUNDLED_X2}{part}"))) for part in ("", "_continued"))
    assert second["path"]["pretrain_network_g"] == f"experiments/{first['name']}/models/net_g_latest.pth"
    for opt in (first, second):
        opt["name"] = opt["manual_seed"] = opt["path"]["pretrain_network_g"] = None
        opt["train"]["optim_g"]["lr"] = opt["train"]["scheduler"] = opt["train"]["total_iter"] = None
    assert first == second


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_rivals_share_everything_but_the_network(scale: int) -> None:
    reference = load(option_file(f"train_ESC_x{scale}"))
    for variant in VARIANTS:
        other = copy.deepcopy(load(option_file(f"train_{variant}_x{scale}")))
        for opt in (reference, other):
            opt["name"] = opt["network_g"] = opt["path"]["pretrain_network_g"] = None
        assert other == reference


@pytest.mark.parametrize("file", [f for f in FILES if not f.stem.startswith("demo")], ids=lambda file: file.stem)
def test_networks_have_the_published_size(file: Path, official_counts: dict[str, Any]) -> None:
    opt = load(file)
    network = build_checked(opt["network_g"], "network_g")
    expected = official_counts["params"][VARIANTS[variant_of(file)]][f"x{opt['scale']}"]
    assert sum(p.numel() for p in network.parameters()) == expected


def test_adam_is_adamw_without_weight_decay() -> None:
    """Why the files say Adam, the one optimizer that BasicSR 1.4.2 knows, where the paper says AdamW."""
    networks = [archs.ESC(dim=8, pdim=4, n_blocks=1, conv_blocks=1, window_size=4, num_heads=1) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    options: dict[str, Any] = {"lr": 5e-4, "betas": (0.9, 0.9), "weight_decay": 0}
    optimizers = [
        torch.optim.Adam(networks[0].parameters(), **options),
        torch.optim.AdamW(networks[1].parameters(), **options),
    ]
    x = torch.rand(1, 3, 8, 8)
    for _ in range(3):
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(a, b)

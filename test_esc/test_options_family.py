"""Option files of the real-world and arbitrary-scale networks and of DFLIP agree with themselves and each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import OPTIONS, option_file

from esc_arch.checks.options import build_checked

REAL = sorted(file for file in OPTIONS.glob("*_ESC_Real*.yml") if "_FB_" not in file.stem)
LTE = sorted(OPTIONS.glob("*_ESC_LTE*.yml"))
MSE = [file for file in REAL if file.stem.endswith("_mse")]
GAN = [file for file in REAL if "_gan" in file.stem]


def load(file: Path) -> dict[str, Any]:
    from basicsr.utils.options import ordered_yaml

    return yaml.load(file.read_text(), Loader=ordered_yaml()[0])


def ids(file: Path) -> str:
    return file.stem


def parameters(opt: dict[str, Any]) -> int:
    return sum(p.numel() for p in build_checked(opt["network_g"], "network_g").parameters())


def test_all_are_there() -> None:
    stages = ("_mse", "_gan")
    expected = {f"train_ESC_Real_x4{stage}" for stage in (*stages, "_gan_without_vgg")} | {"test_ESC_Real_x4"}
    expected |= {f"train_ESC_RealM_x{scale}{stage}" for scale in (1, 2, 4) for stage in stages}
    expected |= {f"test_ESC_RealM_x{scale}" for scale in (1, 2, 4)}
    assert {file.stem for file in REAL} == expected
    assert {file.stem for file in LTE} == {"demo_ESC_LTE", "test_ESC_LTE", "train_ESC_LTE", "train_ESC_LTE_DIV2K"}


@pytest.mark.parametrize("file", REAL, ids=ids)
def test_real_world_file_agrees_with_itself(file: Path, official_counts: dict[str, Any]) -> None:
    opt = load(file)
    scale = opt["scale"]
    assert opt["name"] == file.stem
    assert f"_x{scale}" in file.stem
    assert opt["num_gpu"] == "auto"
    variant = "ESC-Real-M" if "_RealM_" in file.stem else "ESC-Real"
    assert opt["network_g"]["type"] == variant.replace("-", "")
    assert opt["network_g"]["upscaling_factor"] == scale
    assert parameters(opt) == official_counts["params"][variant][f"x{scale}"]
    for dataset in opt["datasets"].values():
        assert (dataset.get("dataroot_gt") or dataset["dataroot_lq"]).startswith("datasets/")


@pytest.mark.parametrize("file", MSE, ids=ids)
def test_gan_continues_the_first_stage(file: Path) -> None:
    first = load(file)
    base = file.stem.removesuffix("_mse")
    assert first["model_type"] == "RealESRNetModel"
    for second_file in [f for f in GAN if f.stem.startswith(f"{base}_gan")]:
        second = load(second_file)
        assert second["model_type"] == "RealESRGANModel"
        assert second["path"]["pretrain_network_g"] == f"experiments/{file.stem}/models/net_g_latest.pth"
        assert second["path"]["param_key_g"] == "params_ema"
        assert ("perceptual_opt" in second["train"]) == ("without_vgg" not in second_file.stem)
        only_in_one_stage = {"name", "model_type", "gt_usm", "l1_gt_usm", "percep_gt_usm", "gan_gt_usm"}
        only_in_one_stage |= {"network_d", "path", "train"}
        shared = [{k: v for k, v in opt.items() if k not in only_in_one_stage} for opt in (first, second)]
        assert shared[0] == shared[1]
    tested = load(option_file(base.replace("train", "test")))
    assert tested["network_g"] == first["network_g"]
    assert tested["path"]["pretrain_network_g"] == f"experiments/{base}_gan/models/net_g_latest.pth"


@pytest.mark.parametrize("file", [*MSE, *GAN], ids=ids)
def test_degradation_is_complete(file: Path) -> None:
    """BasicSR reads these options while it trains; the check wants them before."""
    from esc_arch.checks.agreement import REQUIRED_OF_DEGRADATION, REQUIRED_OF_DEGRADING_MODEL

    opt = load(file)
    for name in (REQUIRED_OF_DEGRADATION + " " + REQUIRED_OF_DEGRADING_MODEL[opt["model_type"]]).split():
        section: Any = opt
        for key in name.split(":"):
            section = section[key]
    training_set = opt["datasets"]["train"]
    assert opt["gt_size"] == training_set["gt_size"]
    assert opt["gt_size"] % opt["scale"] == 0
    assert opt["queue_size"] % training_set["batch_size_per_gpu"] == 0
    for number in ("", "2"):
        assert sum(training_set[f"kernel_prob{number}"]) == pytest.approx(1)
        assert sum(opt[f"resize_prob{number}"]) == pytest.approx(1)


@pytest.mark.parametrize("file", LTE, ids=ids)
def test_arbitrary_scale_file_agrees_with_itself(file: Path) -> None:
    opt = load(file)
    assert opt["name"] == file.stem
    assert opt["model_type"] == "ESCLTEModel"
    assert "scale" not in opt  # BasicSR would put it into every data set
    build_checked(opt["network_g"], "network_g")
    sets = {phase: dataset for phase, dataset in opt["datasets"].items() if phase != "train"}
    for dataset in sets.values():
        assert dataset["name"].endswith(f"_x{dataset['scale']}")
    names = {dataset["name"].partition("_")[0] for dataset in sets.values()}
    tested = {"demo": {2, 3, 6}}.get(file.stem.partition("_")[0], {2, 3, 4, 6, 8})
    assert {(d["name"].partition("_")[0], d["scale"]) for d in sets.values()} == {(n, s) for n in names for s in tested}
    for metric in opt["val"]["metrics"].values():
        assert metric["crop_border"] is None
        assert metric["test_y_channel"] is True
    if "train" in opt["datasets"]:
        training_set = opt["datasets"]["train"]
        assert training_set["scale"] == [1, 4]
        assert training_set["queries"] <= (training_set["gt_size"] // 4) ** 2


def test_arbitrary_scale_tests_what_is_trained() -> None:
    trained, tested = load(option_file("train_ESC_LTE")), load(option_file("test_ESC_LTE"))
    assert tested["network_g"] == trained["network_g"]
    assert tested["path"]["pretrain_network_g"] == "experiments/train_ESC_LTE/models/net_g_latest.pth"
    small = load(option_file("train_ESC_LTE_DIV2K"))
    for opt in (trained, small):
        opt["name"] = opt["datasets"]["train"]["name"] = opt["datasets"]["train"]["dataroot_gt"] = None
    assert small == trained


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_dflip_differs_in_the_data_alone(scale: int) -> None:
    opt, reference = (load(option_file(f"train_{name}_x{scale}")) for name in ("ESC_DFLIP", "ESC"))
    assert opt["name"] == f"train_ESC_DFLIP_x{scale}"
    training_set, other = dict(opt["datasets"].pop("train")), dict(reference["datasets"].pop("train"))
    assert training_set.pop("type") == "BicubicDataset"
    assert training_set.pop("dataroot_gt") == "datasets/DFLIP/HR_sub.lmdb"
    assert training_set.pop("name") == "DFLIP"
    for key in ("type", "dataroot_gt", "name", "dataroot_lq", "filename_tmpl"):
        del other[key]
    assert training_set == other
    parent = opt["path"].pop("pretrain_network_g")
    assert parent == (None if scale == 2 else "experiments/train_ESC_DFLIP_x2/models/net_g_latest.pth")
    del reference["path"]["pretrain_network_g"]
    opt["name"] = reference["name"]
    assert opt == reference


def test_rib_is_trained_as_esc_and_tested_as_it_is_trained(family_counts: dict[str, Any]) -> None:
    opt, reference = load(option_file("train_ESC_RIB_x2")), load(option_file("train_ESC_DFLIP_x2"))
    network = opt["network_g"]
    assert "No recipe of ESC-RIB is published" in option_file("train_ESC_RIB_x2").read_text()
    opt["network_g"], opt["name"] = reference["network_g"], reference["name"]
    assert opt == reference
    for scale in (2, 3, 4):
        tested, same = load(option_file(f"test_ESC_RIB_x{scale}")), load(option_file(f"test_ESC_x{scale}"))
        assert tested["network_g"] == {**network, "upscaling_factor": scale}
        assert parameters(tested) == family_counts["params"]["ESC-RIB"][f"x{scale}"]
        assert tested["name"] == f"test_ESC_RIB_x{scale}"
        assert tested["path"]["pretrain_network_g"] == f"experiments/train_ESC_RIB_x{scale}/models/net_g_latest.pth"
        for key in ("network_g", "name", "path"):
            tested[key] = same[key]
        assert tested == same


def test_flash_bias_continues_a_training_with_a_table(family_counts: dict[str, Any]) -> None:
    opt, first = load(option_file("train_ESC_FB_R48_x2_DIV2K")), load(option_file("train_ESC_x2_DIV2K"))
    assert parameters(opt) == family_counts["params"]["ESC-FlashBias-R48"]["x2"]
    assert opt["path"].pop("pretrain_network_g") == "experiments/train_ESC_x2_DIV2K/models/net_g_latest.pth"
    assert (opt["network_g"].pop("flashbias_rank"), opt["network_g"].pop("attn_type")) == (48, "FlashBias")
    assert opt["train"]["optim_g"].pop("lr") == 5e-5
    del first["path"]["pretrain_network_g"], first["network_g"]["attn_type"], first["train"]["optim_g"]["lr"]
    assert opt == {**first, "name": "train_ESC_FB_R48_x2_DIV2K"}


@pytest.mark.parametrize(
    ("file", "without", "count", "trained"),
    [
        ("test_ESC_FB_R48_x2", "test_ESC_x2", "ESC-FlashBias-R48", "train_ESC_FB_R48_x2_DIV2K"),
        ("test_ESC_Real_FB_R48_x4", "test_ESC_Real_x4", "ESC-Real-FlashBias-R48", "train_ESC_Real_x4_gan"),
    ],
)
def test_flash_bias_is_tested_as_the_table_is(
    family_counts: dict[str, Any], file: str, without: str, count: str, trained: str
) -> None:
    opt, same, training = load(option_file(file)), load(option_file(without)), load(option_file(trained))
    assert parameters(opt) == family_counts["params"][count][f"x{opt['scale']}"]
    assert opt["path"].pop("pretrain_network_g") == f"experiments/{trained}/models/net_g_latest.pth"
    if training["network_g"] != opt["network_g"]:  # a table is turned into factors
        trained_network = build_checked(training["network_g"], "network_g")
        build_checked(opt["network_g"], "network_g").load_state_dict(trained_network.state_dict(), strict=True)
    assert (opt["network_g"].pop("flashbias_rank"), opt["network_g"].pop("attn_type")) == (48, "FlashBias")
    del same["path"]["pretrain_network_g"], same["network_g"]["attn_type"]
    assert opt == {**same, "name": file}

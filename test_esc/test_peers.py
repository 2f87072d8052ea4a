"""The networks ESC is compared with: where they come from, their published size, and their option files."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOLDEN, OPTIONS, option_file, relative_difference
from torch import nn

import esc_arch
from esc_arch.archs import peers
from esc_arch.checks.options import UNTRAINED, build_checked, check_options
from esc_arch.common.errors import UserError

Options = dict[str, Any]

assert esc_arch.__version__  # BasicSR must be imported after it

# name in the option files: name in official_counts.json, or the published sizes in thousands
VARIANTS: dict[str, Any] = {
    "SwinIR_light": "SwinIR-light",
    "HAT": "HAT",
    "HAT_S": "HAT-S",
    "HiT_SIR": "HiT-SIR",
    "HiT_SNG": "HiT-SNG",
    "HiT_SRF": "HiT-SRF",
    "ELAN_light": "ELAN-light",
    "SRFormer_light": "SRFormer-light",
    "OmniSR": "OmniSR",
    "ATD_light": "ATD-light",
    "RCAN": "RCAN",
    "EDSR": {2: 1370, 3: 1555, 4: 1518},
    "MambaIR_light": "MambaIR-light",
    "MambaIRv2_light": "MambaIRv2-light",
    "ASID_D8": "ASID-D8",
    "CATANet": "CATANet",
    "RDN": "RDN",
    "SPAN": "SPAN-ch48",
    "SAFMN": "SAFMN",
    "SeemoRe_T": "SeemoRe-T",
    "PLKSR_tiny": "PLKSR-tiny",
    "Compact": "SRVGGNetCompact-32",
}
SCALES = (2, 3, 4)
DEPEND_ON_SCALE = {
    "upsample",
    "up",
    "tail",
    "upconv",
    "upconv1",
    "upconv2",
    "upscale",
    "to_img",
    "upsampler",
    "body",
    "feats",
}
SCALE_ARGUMENTS = ("upscale", "up_scale", "scale", "upsampling", "upscaling_factor")
DAT_LIGHT: Options = {
    "type": "DAT",
    "img_size": 64,
    "embed_dim": 60,
    "split_size": [8, 32],
    "depth": [18],
    "num_heads": [6],
    "expansion_factor": 2,
    "resi_connection": "3conv",
    "upsampler": "pixelshuffledirect",
    "upscale": 4,
}
RGT: Options = {
    "type": "RGT",
    "img_size": 64,
    "embed_dim": 180,
    "depth": [6] * 8,
    "num_heads": [6] * 8,
    "mlp_ratio": 2,
    "split_size": [8, 32],
    "upsampler": "pixelshuffle",
    "upscale": 4,
}
PLKSR: Options = {"type": "PLKSR", "dim": 64, "n_blocks": 28, "ccm_type": "DCCM", "upscaling_factor": 4}


@pytest.fixture(autouse=True)
def _registered() -> None:
    peers.register_peers()


def load(stem: str) -> Options:
    import yaml
    from basicsr.utils.options import ordered_yaml

    return yaml.load(option_file(stem).read_text(), Loader=ordered_yaml()[0])


def package_of(name: str) -> str | None:
    return next((peer.package for peer in peers.PEERS if peer.__name__ == name), None)


def require_package(name: str) -> None:
    """Skip where a network comes from an optional package that is missing."""
    package = package_of(name)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def build(network_opt: Options) -> nn.Module:
    """Build as the option files are built."""
    require_package(network_opt["type"])
    return build_checked(network_opt, "network_g")


def model_for(network_opt: Options, scale: int, path: Options | None = None, model_type: str = "ESCModel") -> Any:
    from basicsr.models import build_model

    require_package(network_opt["type"])
    opt = {"model_type": model_type, "num_gpu": 0, "dist": False, "is_train": False, "scale": scale}
    return build_model({**opt, "network_g": network_opt, "path": path or {}})


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


EVERY = pytest.mark.parametrize(("variant", "scale"), [(v, s) for v in VARIANTS for s in SCALES])


@EVERY
@pytest.mark.parametrize("kind", ["train", "test"])
def test_file_differs_from_esc_in_the_network_alone(variant: str, scale: int, kind: str) -> None:
    stem = f"{kind}_{variant}_x{scale}"
    opt, reference = load(stem), load(f"{kind}_ESC_x{scale}")
    assert opt["name"] == stem
    assert [opt["network_g"][name] for name in SCALE_ARGUMENTS if name in opt["network_g"]] == [scale]
    source = f"train_{variant}_x{scale if kind == 'test' else 2}"
    from_scratch = kind == "train" and scale == 2
    assert opt["path"]["pretrain_network_g"] == (
        None if from_scratch else f"experiments/{source}/models/net_g_latest.pth"
    )
    # other networks than ESC do not convert the layers that depend on the scale
    assert opt["path"]["strict_load_g"] is (kind == "test" or scale == 2)
    for either in (opt, reference):
        either["name"] = either["network_g"] = either["path"]["pretrain_network_g"] = None
        either["path"]["strict_load_g"] = None
    opt.pop("find_unused_parameters", None)  # depends on the network
    assert opt == reference


def test_every_file_is_tested_here() -> None:
    stems = {f"{kind}_{variant}_x{scale}" for kind in ("train", "test") for variant in VARIANTS for scale in SCALES}
    assert {file.stem for file in (OPTIONS / "peers").glob("*.yml")} == stems


@pytest.mark.parametrize("variant", VARIANTS)
def test_file_passes_the_check(variant: str, tiny_data: Path) -> None:
    opt = load(f"test_{variant}_x2")
    require_package(opt["network_g"]["type"])
    folders = {"dataroot_gt": str(tiny_data / "val/HR"), "dataroot_lq": str(tiny_data / "val/LR")}
    data = {"name": "tiny", "type": "PairedImageDataset", "io_backend": {"type": "disk"}, "filename_tmpl": "{}x2"}
    data.update(folders, phase="test", scale=2)
    opt.update(num_gpu=0, is_train=False, auto_resume=False, datasets={"test_1": data})
    opt["path"]["pretrain_network_g"] = None
    assert check_options(opt) == [UNTRAINED]


@EVERY
def test_test_file_tests_what_its_training_file_trains(variant: str, scale: int) -> None:
    assert load(f"test_{variant}_x{scale}")["network_g"] == load(f"train_{variant}_x{scale}")["network_g"]


@EVERY
@pytest.mark.parametrize("kind", ["train", "test"])
def test_header(variant: str, scale: int, kind: str) -> None:
    stem = f"{kind}_{variant}_x{scale}"
    header = option_file(stem).read_text().partition("\n\n")[0]
    assert all(line.startswith("# ") for line in header.splitlines())
    assert "A rival of ESC" in header
    assert f"-opt options/peers/{stem}.yml" in header
    package = package_of(load(stem)["network_g"]["type"])
    assert ("# Needs:" in header) == (package is not None)
    assert package is None or f"'.[{peers.EXTRAS[package]}]' (the network comes from the package {package}" in header


@EVERY
def test_published_size(variant: str, scale: int, official_counts: Options) -> None:
    count = parameters(build(load(f"train_{variant}_x{scale}")["network_g"]))
    official = VARIANTS[variant]
    if isinstance(official, dict):
        assert abs(count - 1000 * official[scale]) < 1000
    elif variant == "RCAN":  # the counted code keeps the RGB mean in two fixed 1 x 1 convolutions of 12 parameters
        assert count + 24 == official_counts["params"][official][f"x{scale}"]
    else:
        assert count == official_counts["params"][official][f"x{scale}"]


@pytest.mark.parametrize("scale", SCALES)
def test_published_size_of_hat_l(scale: int, official_counts: Options) -> None:
    hat = load(f"train_HAT_x{scale}")["network_g"]
    network = build({**hat, "depths": [6] * 12, "num_heads": [6] * 12})
    assert parameters(network) == official_counts["params"]["HAT-L"][f"x{scale}"]


@pytest.mark.parametrize(
    ("network_opt", "millions"), [(DAT_LIGHT, 0.573), (RGT, 13.366), (PLKSR, 7.386)], ids=["DAT", "RGT", "PLKSR"]
)
def test_peers_without_option_files(network_opt: Options, millions: float) -> None:
    network = build(network_opt)
    assert round(parameters(network) / 1e6, 3) == millions
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, 18, 21)).shape == (1, 3, 72, 84)


@EVERY
def test_any_size_through_the_model(variant: str, scale: int) -> None:
    model = model_for(load(f"test_{variant}_x{scale}")["network_g"], scale)
    height, width = (17, 19) if variant == "SeemoRe_T" else (15, 13)  # which takes no smaller sides than 16
    model.feed_data({"lq": torch.rand(1, 3, height, width)})
    model.test()
    assert model.output.shape == (1, 3, height * scale, width * scale)
    assert model.output.isfinite().all()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("SwinIR_light", "ATD_light")])
def test_the_model_pads_as_published(variant: str) -> None:
    """All networks but SwinIR pad themselves, and all of these but ATD get the padding of their authors."""
    model = model_for(load(f"test_{variant}_x2")["network_g"], 2)
    model.feed_data({"lq": torch.rand(1, 3, 17, 19)})
    model.test()
    with torch.no_grad():
        expected = model.net_g.eval()(model.lq)
    assert relative_difference(model.output, expected) <= 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_is_trained(variant: str) -> None:
    """Distributed training fails on parameters that get no gradient, unless it is told to look for them."""
    opt = load(f"train_{variant}_x2")
    network = build(opt["network_g"]).train()
    network(torch.rand(1, 3, 32, 32)).square().mean().backward()
    idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert bool(idle) == opt.get("find_unused_parameters", False), idle


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_starts_from_x2(variant: str, tmp_path: Path) -> None:
    """BasicSR's loader takes over all that fits from the x2 network, as `strict_load_g: false` asks."""
    opt = load(f"train_{variant}_x2")["network_g"]
    source = build(opt).state_dict()
    torch.save({"params_ema": source}, tmp_path / "x2.pth")
    for scale in (3, 4):
        options = load(f"train_{variant}_x{scale}")
        path = {**options["path"], "pretrain_network_g": str(tmp_path / "x2.pth")}
        # BasicSR's own model, which leaves the branches that are trained as they are
        loaded = model_for(options["network_g"], scale, path, "SRModel").net_g.state_dict()
        new = {name for name in loaded if name not in source or loaded[name].shape != source[name].shape}
        assert {name.partition(".")[0] for name in new} <= DEPEND_ON_SCALE
        assert len(new) in (0, 2, 4)  # weights and biases
        assert all(torch.equal(loaded[name], source[name]) for name in loaded if name not in new)


def test_hat_computes_the_published_numbers() -> None:
    golden = torch.load(GOLDEN / "hat_x2.pt", weights_only=True)
    network = build({"type": golden["arch"], **golden["kwargs"]}).eval()
    network.load_state_dict(golden["state_dict"], strict=True)
    for case in golden["cases"]:
        with torch.no_grad():
            output = network(case["input"])
        assert relative_difference(output, case["output"]) <= 1e-5, case["note"]


def test_arguments_of_published_files() -> None:
    omni = copy.copy(load("test_OmniSR_x3")["network_g"])
    expected = parameters(build(omni))
    del omni["up_scale"]
    published = {"upsampling": 3, "window_size": 8, "block_script_name": "OSA", "block_class_name": "OSA_Block"}
    assert parameters(build({**omni, **published, "ffn_bias": True})) == expected
    atd = load("test_ATD_light_x3")["network_g"]
    build({**atd, "use_checkpoint": False})
    with pytest.raises(UserError, match="use_checkpoint of ATD must be False"):
        build({**atd, "use_checkpoint": True})


@pytest.mark.parametrize("name", [peer.__name__ for peer in peers.PEERS])
def test_unknown_argument(name: str) -> None:
    right = {"OmniSR": "up_scale", "RDN": "scale", "SeemoRe": "scale"}.get(name, "upscale")
    right = "upscaling_factor" if name in ("PLKSR", "SAFMN") else right
    require_package(name)
    with pytest.raises(UserError, match=f"{name} has no argument '{right}s'; did you mean '{right}'"):
        build({"type": name, f"{right}s": 2})


@pytest.mark.parametrize("name", [peer.__name__ for peer in peers.PEERS])
def test_missing_package_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = package_of(name)
    assert package is not None
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        build_checked({"type": name, "upscale": 2}, "network_g")
    message = str(error.value)
    assert message.startswith(f"network_g: {name} cannot be built: {name} comes from the package {package}, which is")
    assert f"pip install 'esc_arch[{peers.EXTRAS[package]}]'" in message
    assert "\n" not in message


def test_registering_imports_nothing_and_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from basicsr.utils import registry

    fresh = registry.Registry("fresh")
    taken = type("HAT", (nn.Module,), {})
    fresh.register(taken)
    monkeypatch.setattr(registry, "ARCH_REGISTRY", fresh)
    for package in peers.EXTRAS:
        monkeypatch.setitem(sys.modules, package, None)
    for _ in range(2):
        peers.register_peers()
    assert fresh.get("HAT") is taken
    assert set(fresh.keys()) == {peer.__name__ for peer in peers.PEERS}

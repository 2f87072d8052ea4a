"""Exported networks: any batch and size, in every format, and nothing that does not match."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, randomise, relative_difference
from torch import nn
from torch.fx.experimental import _config

from esc_arch.archs import (
    ASID,
    ESC,
    ESCFP,
    ESCLTE,
    CATANet,
    ESCReal,
    ESCRealM,
    HiT_SNG,
    HiT_SRF,
    MambaIR,
    MambaIRv2Light,
)
from esc_arch.common.errors import UserError
from esc_arch.export import FORMATS, export
from esc_arch.export.__main__ import main
from esc_arch.graphs import formats
from esc_arch.graphs.exportable import Exportable
from esc_arch.weights import read_weights, write_weights

DYNAMIC = pytest.mark.skipif(
    not hasattr(_config, "backed_size_oblivious"), reason="this torch cannot export such sizes"
)
SHAPES = [(1, 3, 16, 16), (1, 3, 9, 30), (2, 3, 33, 8), (5, 3, 1, 1), (4, 3, 24, 40)]
NETWORKS: dict[str, nn.Module] = {
    "ESC": ESC(**TINY),
    "ESC with normalisation, x3": ESC(**TINY, use_ln=True, upscaling_factor=3),
    "ESCFP": ESCFP(**TINY),
    "HiT_SRF": HiT_SRF(embed_dim=20, depths=[2], num_heads=[2]),
    "HiT_SNG": HiT_SNG(embed_dim=20, depths=[1], num_heads=[2], base_win_size=[4, 4]),
    "ESCReal": ESCReal(**TINY),
    "ESCReal with DySample": ESCReal(**TINY, use_dysample=True),
    "ESCRealM x2": ESCRealM(**TINY, upsampler="dysample", upscaling_factor=2),
    "ESCRealM x1": ESCRealM(**TINY, upsampler="pixelshuffle", upscaling_factor=1),
    "ESCLTE": ESCLTE(**TINY, hidden_dim=8, hidden_list=[8]),
}
MAMBA = partial(MambaIR, embed_dim=30, depths=[1], d_state=3)
MAMBA2 = partial(MambaIRv2Light, upscale=2, embed_dim=12, depths=[1], d_state=2, num_heads=[2], window_size=8)
QUICK = ["ESC", "ESCFP"]
THOROUGH = [pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name not in QUICK]


def weights_of(network: nn.Module, folder: Path) -> str:
    file = str(folder / "weights.safetensors")
    write_weights(file, randomise(network).state_dict())
    return file


def assert_same(run: formats.Run, network: nn.Module, tolerance: float = 1e-5) -> None:
    smallest = Exportable(network).smallest_side
    for batch, channels, height, width in SHAPES:
        shape = batch, channels, max(height, smallest), max(width, smallest)
        image = torch.rand(shape)
        with torch.no_grad():
            assert relative_difference(run(image), network.eval()(image)) <= tolerance, shape


@pytest.mark.parametrize("name", NETWORKS)
def test_exportable_form_is_the_same_network(name: str) -> None:
    network = randomise(NETWORKS[name])
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    assert_same(Exportable(network), network)
    assert_same(Exportable(network, half=True), network, tolerance=0.05)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert network.state_dict().keys() == before.keys()


@pytest.mark.parametrize(
    ("network", "name"),
    [
        *((network, "torchscript") for network in NETWORKS),
        *(pytest.param(network, "pt2", marks=DYNAMIC) for network in QUICK),
        *(pytest.param(*network.values, "pt2", marks=[DYNAMIC, pytest.mark.slow]) for network in THOROUGH),
    ],
)
def test_formats_of_pytorch(tmp_path: Path, network: str, name: str) -> None:
    file = str(tmp_path / ("a" + FORMATS[name].suffix))
    report = export(weights_of(NETWORKS[network], tmp_path), name, file)
    assert report.difference < 1e-5
    assert_same(FORMATS[name].run(file), NETWORKS[network])
    extra = {formats.METADATA_FILE: ""}
    if name == "torchscript":
        torch.jit.load(file, _extra_files=extra)
    else:
        torch.export.load(file, extra_files=extra)
    metadata = json.loads(extra[formats.METADATA_FILE])
    assert metadata["network"] == type(NETWORKS[network]).__name__
    assert metadata["input_range"] == "[0, 1]"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([Path(file).name, "weights.safetensors"])
    assert str(Path(__file__).parent.parent).encode() not in Path(file).read_bytes()


@DYNAMIC
@pytest.mark.parametrize("network", [*QUICK, *THOROUGH])
def test_onnx(tmp_path: Path, network: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file, net = str(tmp_path / "a.onnx"), NETWORKS[network]
    export(weights_of(net, tmp_path), "onnx", file)
    assert_same(formats.run_onnx(file), net)
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["opset"] == "20"
    assert properties["input_range"] == "[0, 1]"
    assert properties["network"] == type(net).__name__
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == 20
    scale = int(properties["scale"])
    for value, name, sides in (
        (model.graph.input[0], "image", ["batch", 3, "height", "width"]),
        (model.graph.output[0], "enlarged", ["batch", 3, f"{scale}*height", f"{scale}*width"]),
    ):
        assert value.name == name
        assert [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] == sides
    assert str(Path(__file__).parent.parent).encode() not in Path(file).read_bytes()


@pytest.mark.parametrize(
    ("network", "name", "words"),
    [
        (MAMBA, "torchscript", r"MambaIR does not export to \.pt for images of every size \(\w+: .*\); try another"),
        (MAMBA2, "torchscript", r"MambaIRv2Light does not export to \.pt for images of every size \(\w+: .*\); try"),
        pytest.param(ASID, "torchscript", r"ASID does not export to \.pt for images of every", marks=pytest.mark.slow),
        pytest.param(ASID, "pt2", r"ASID does not export to \.pt2 for images of", marks=[DYNAMIC, pytest.mark.slow]),
        pytest.param(CATANet, "torchscript", r"for images .* it gives .* instead of", marks=pytest.mark.slow),
    ],
)
def test_what_holds_for_one_size_only_is_not_written(
    tmp_path: Path, network: Callable[[], nn.Module], name: str, words: str
) -> None:
    """A scan in chunks takes as many steps as the traced image needs; running that at other sizes fails."""
    file = tmp_path / ("a" + FORMATS[name].suffix)
    weights = weights_of(network(), tmp_path)
    with pytest.raises(UserError, match=rf"a\{file.suffix} is not written: {words}") as caught:
        export(weights, name, str(file))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


@DYNAMIC
def test_onnx_in_half_precision(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    file = str(tmp_path / "a.onnx")
    export(weights_of(ESC(**TINY), tmp_path), "onnx", file, half=True, opset=21)
    assert_same(formats.run_onnx(file), randomise(ESC(**TINY)), tolerance=0.05)
    model = onnx.load(file)
    stored = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert onnx.TensorProto.FLOAT16 in stored
    assert onnx.TensorProto.FLOAT not in stored
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == 21


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda image: 1.001 * ESC(**TINY)(image), "differs from the network by"),
        (lambda image: image * float("nan"), "instead of"),
        (lambda image: torch.full((*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3]), torch.nan), "by nan"),
    ],
)
def test_what_does_not_match_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any, message: str
) -> None:
    weights = weights_of(ESC(**TINY), tmp_path)
    monkeypatch.setitem(FORMATS, "torchscript", FORMATS["torchscript"].__class__(
        ".pt", formats.write_torchscript, lambda file: wrong, "SDPA"
    ))  # fmt: skip
    with pytest.raises(UserError, match=f"is not written: .*{message}"):
        export(weights, "torchscript", str(tmp_path / "a.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"esc_arch\[onnx\]"):
        export(weights_of(ESC(**TINY), tmp_path), "onnx", str(tmp_path / "a.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weights = weights_of(ESC(**TINY), tmp_path)
    monkeypatch.chdir(tmp_path)
    main(["--weights", weights, "--format", "torchscript"])
    told = capsys.readouterr().out
    assert told.startswith("Written: weights.pt (")
    assert "Largest difference to the network for images 1x3x8x8, 2x3x13x13" in told
    main(["--weights", weights, "--format", "pth", "--fp16"])
    converted = read_weights("weights.pth")
    assert converted["proj.weight"].dtype == torch.float16
    main(["--weights", "weights.pth", "--format", "safetensors", "-o", "again.safetensors"])
    assert torch.equal(read_weights("again.safetensors")["proj.weight"], converted["proj.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "torchscript", "-o", "{in}/a.onnx"], "must end with .pt"),
        (["--format", "torchscript", "-o", "{in}/there.pt"], "is there already"),
        (["--format", "torchscript", "-o", "{in}/nowhere/a.pt"], "nowhere does not exist"),
        (["--format", "safetensors", "-o", "{in}/weights.safetensors", "--overwrite"], "is there already"),
        (["--format", "torchscript", "-o", "{in}/a.pt", "--weights", "{in}/other.pth"], "none of the ESC family"),
        (["--format", "torchscript", "-o", "{in}/a.pt", "--weights", "nowhere"], "neither a file nor weights"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = weights_of(ESC(**TINY), tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "there.pt").touch()
    with pytest.raises(SystemExit) as caught:
        main(["--weights", weights, *(argument.replace("{in}", str(tmp_path)) for argument in arguments)])
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("Error: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "a.pt").exists()

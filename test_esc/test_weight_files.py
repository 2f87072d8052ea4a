"""Files of weights that are written, in both formats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import TINY, randomise

import esc_arch
from esc_arch.archs import ESC
from esc_arch.common.errors import UserError
from esc_arch.weights import convert, read_weights, write_weights


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return dict(randomise(ESC(**TINY)).state_dict())


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("source", "target"), [("a.pth", "b.safetensors"), ("a.safetensors", "b.pth")])
def test_conversion_in_both_directions(
    tmp_path: Path, weights: dict[str, torch.Tensor], source: str, target: str
) -> None:
    write_weights(str(tmp_path / source), weights)
    convert(str(tmp_path / source), str(tmp_path / target))
    assert equal(read_weights(str(tmp_path / target)), weights)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([source, target])


def test_converted_pth_is_what_basicsr_reads(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    assert esc_arch.__version__
    from basicsr.models import build_model

    write_weights(str(tmp_path / "a.safetensors"), weights)
    convert(str(tmp_path / "a.safetensors"), str(tmp_path / "b.pth"))
    path = {"pretrain_network_g": str(tmp_path / "b.pth"), "param_key_g": "params_ema", "strict_load_g": True}
    opt = {"model_type": "ESCModel", "num_gpu": 0, "dist": False, "is_train": False, "scale": 2, "path": path}
    model = build_model({**opt, "network_g": {"type": "ESC", **TINY}})
    assert equal(dict(model.net_g.state_dict()), weights)


def test_half_precision_conversion(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    source, target = str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")
    write_weights(source, {**weights, "index": torch.arange(3)})
    convert(source, target, half=True)
    converted = read_weights(target)
    assert converted.pop("index").dtype == torch.int64
    assert equal(converted, {name: tensor.half() for name, tensor in weights.items()})


def test_unknown_suffix_and_unwritable_folder(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UserError, match=r"\.pth or \.safetensors"):
        write_weights(str(tmp_path / "a.onnx"), weights)
    for suffix in ("pth", "safetensors"):
        with pytest.raises(UserError, match="cannot be written"):
            write_weights(str(tmp_path / "nowhere" / f"a.{suffix}"), weights)
    assert not list(tmp_path.iterdir())

"""Checkpoints in several files are read by their index, and a part alone is not taken for the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, randomise
from safetensors.torch import save_file

import esc_arch
from esc_arch.common.errors import UserError
from esc_arch.weights import read_weights

Weights = dict[str, torch.Tensor]


@pytest.fixture
def weights() -> Weights:
    return randomise(esc_arch.ESC(**TINY)).state_dict()


def write(folder: Path, weights: Weights, suffix: str = ".safetensors", parts: int = 3) -> Path:
    """Write weights as `save_pretrained` of the Hugging Face libraries does when they are large."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    files: dict[str, str] = {}
    for part in range(parts):
        name = f"{stem}-{part + 1:05}-of-{parts:05}{suffix}"
        held = {key: tensor for number, (key, tensor) in enumerate(weights.items()) if number % parts == part}
        (save_file if suffix == ".safetensors" else torch.save)(held, folder / name)
        files |= dict.fromkeys(held, name)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_the_index_and_its_folder(tmp_path: Path, weights: Weights, suffix: str) -> None:
    index = write(tmp_path, weights, suffix)
    found = read_weights(str(index))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert isinstance(esc_arch.load(index), esc_arch.ESC)
    assert isinstance(esc_arch.load(tmp_path), esc_arch.ESC)


def test_an_index_with_a_long_description(tmp_path: Path, weights: Weights) -> None:
    index = write(tmp_path, weights)
    content = json.loads(index.read_text())
    index.write_text(json.dumps({"metadata": {"about": "x" * 10000}, **content}))
    assert read_weights(str(index)).keys() == weights.keys()


def test_a_part_alone(tmp_path: Path, weights: Weights) -> None:
    index = write(tmp_path, weights)
    with pytest.raises(UserError, match=f"is one part of several; give {index}"):
        esc_arch.load(tmp_path / "model-00002-of-00003.safetensors")


def broken(change: str, folder: Path, index: Path) -> None:
    part = folder / "model-00002-of-00003.safetensors"
    content: Any = json.loads(index.read_text())
    name = next(key for key, file in content["weight_map"].items() if file == part.name)
    if change == "missing":
        part.unlink()
    elif change == "cut":
        part.write_bytes(part.read_bytes()[:-7])
    elif change == "other":
        part.write_bytes((folder / "model-00001-of-00003.safetensors").read_bytes())
    elif change == "itself":
        content["weight_map"][name] = index.name
    elif change == "elsewhere":
        content["weight_map"][name] = "../secret.safetensors"
        save_file({name: torch.zeros(1)}, folder.parent / "secret.safetensors")
    elif change == "number":
        content["weight_map"][name] = 7
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("missing", "names 'model-00002-of-00003.safetensors', which is not there; put it beside"),
        ("cut", "model-00002-of-00003.safetensors is damaged"),
        ("other", "model-00002-of-00003.safetensors lacks .*, which .* says it has"),
        ("itself", "but is an index"),
        ("elsewhere", "names '../secret.safetensors', which is not there"),
        ("number", "names no files"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, weights: Weights, change: str, sentence: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    index = write(folder, weights)
    broken(change, folder, index)
    with pytest.raises(UserError, match=sentence) as caught:
        esc_arch.load(index)
    assert "\n" not in str(caught.value)

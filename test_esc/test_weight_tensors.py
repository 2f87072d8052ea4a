"""Tensors of every kind become plain ones, or are refused for what they are; none takes more memory than its file."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from torch import nn

import esc_arch
from esc_arch.archs import ESC
from esc_arch.common.errors import UserError
from esc_arch.weights import read_weights

Weights = dict[str, torch.Tensor]
NAME = "proj.weight"


@pytest.fixture(scope="module")
def weights() -> Weights:
    return dict(randomise(ESC(**TINY)).state_dict())


def read(tmp_path: Path, content: Any, **options: Any) -> Weights:
    torch.save(content, tmp_path / "w.pth", **options)
    return read_weights(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_every_precision_loads(tmp_path: Path, weights: Weights, dtype: torch.dtype, form: str) -> None:
    from safetensors.torch import save_file

    stored = {name: tensor.to(dtype) for name, tensor in weights.items()}
    file = tmp_path / f"w.{form}"
    save_file(stored, file) if form == "safetensors" else torch.save(stored, file)
    loaded = esc_arch.load(file).state_dict()
    for name, tensor in stored.items():
        assert loaded[name].dtype is torch.float32
        assert torch.equal(loaded[name], tensor.float())


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_weights_too(tmp_path: Path, weights: Weights, dtype: str, order: Any) -> None:
    arrays = {name: np.asarray(tensor.numpy().astype(dtype), order=order) for name, tensor in weights.items()}
    found = read(tmp_path, {"params": arrays})
    for name, array in arrays.items():
        assert np.array_equal(found[name].numpy(), array)
    with pytest.raises(UserError, match=r"has no numbers that can be used in proj\.weight"):
        read(tmp_path, {"params": {**weights, NAME: np.array(["a", None], dtype=object)}})


def test_storage_does_not_matter(tmp_path: Path, weights: Weights) -> None:
    """Parameters, views, transposed, shared and sparse tensors hold the numbers that they hold."""
    whole = torch.cat([tensor.flatten() for tensor in weights.values()])
    views, place = {}, 0
    for name, tensor in weights.items():
        views[name] = whole[place : place + tensor.numel()].view(tensor.shape)
        place += tensor.numel()
    turned = weights[NAME].transpose(0, 3).contiguous().transpose(0, 3)
    last = weights[NAME].to(memory_format=torch.channels_last)
    forms: dict[str, Weights] = {
        "parameters": {name: nn.Parameter(tensor) for name, tensor in weights.items()},
        "views": views,
        "transposed": {**weights, NAME: turned},
        "channels last": {**weights, NAME: last},
        "sparse": {**weights, NAME: weights[NAME].to_sparse()},
        "negated view": {**weights, NAME: torch._neg_view(-weights[NAME])},
    }
    for form, content in forms.items():
        for legacy in (False, True):
            if legacy and form == "negated view":
                continue  # the old format has no word for it
            found = read(tmp_path, content, _use_new_zipfile_serialization=not legacy)
            assert all(torch.equal(found[name], tensor) for name, tensor in weights.items()), form
            assert all(type(tensor) is torch.Tensor and not tensor.requires_grad for tensor in found.values())


def test_tied_weights_are_loaded_twice(tmp_path: Path, weights: Weights) -> None:
    tied = {**weights, "again": weights[NAME]}
    found = read(tmp_path, tied)
    assert torch.equal(found["again"], found[NAME])


def quantised(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.to("meta"), r"holds shapes without numbers \(proj\.weight is on the device meta\)"),
        (lambda t: t.to(torch.complex64), r"has complex numbers in proj\.weight"),
        (lambda t: (100 * t).to(torch.int8), r"is quantised \(proj\.weight is int8\)"),
        (lambda t: t > 0, r"is quantised \(proj\.weight is bool\)"),
        (quantised, "is quantised"),
        (lambda t: torch.where(t == t.max(), torch.nan, t), r"has NaN in proj\.weight: the training .* had failed"),
        (lambda t: torch.where(t == t.max(), torch.inf, t), r"has infinite numbers in proj\.weight"),
        (lambda t: torch.zeros(1).expand(10**6, 10**6), r"proj\.weight claims more numbers than the file holds"),
        (lambda t: torch.sparse_coo_tensor(size=(10**6, 10**6)), r"proj\.weight claims more numbers than the file"),
    ],
)
def test_what_is_no_weight_is_refused_for_what_it_is(
    tmp_path: Path, weights: Weights, change: Any, sentence: str
) -> None:
    with pytest.raises(UserError, match=rf"w\.pth {sentence}|w\.pth is damaged: {sentence}"):
        read(tmp_path, {"params": {**weights, NAME: change(weights[NAME])}})


def test_integers_that_are_no_weights_stay(tmp_path: Path, weights: Weights) -> None:
    index = {"relative_position_index": torch.arange(4), "attn_mask": torch.tensor([0.0, -torch.inf])}
    found = read(tmp_path, {**weights, **index})
    assert torch.equal(found["relative_position_index"], torch.arange(4))
    assert torch.equal(found["attn_mask"], index["attn_mask"])


def rewritten(content: Any, change: Any, **options: Any) -> bytes:
    """Write a checkpoint and change the entries of its archive."""
    stream, out = io.BytesIO(), io.BytesIO()
    torch.save(content, stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(out, "w", **options) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, change(entry.filename, source.read(entry)))
    return out.getvalue()


def test_sizes_are_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"

    def more(name: str, data: bytes) -> bytes:
        assert not name.endswith("data.pkl") or data.count(b"M\xe8\x03") == 2
        return data.replace(b"M\xe8\x03", b"J\x00\xe1\xf5\x05") if name.endswith("data.pkl") else data

    content = {"a": torch.ones(1000)}
    file.write_bytes(rewritten(content, more))
    with pytest.raises(UserError, match="claims more numbers than it holds"):
        read_weights(str(file))
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)
    file.write_bytes(more("data.pkl", stream.getvalue()))
    with pytest.raises(UserError, match="claims more numbers than it holds"):
        read_weights(str(file))
    bomb = rewritten(content, lambda name, data: bytes(2**27) if "data/0" in name else data, compression=8)
    file.write_bytes(bomb)
    with pytest.raises(UserError, match="claims to unpack to more than it can hold"):
        read_weights(str(file))


def test_an_archive_that_was_packed_again_loads(tmp_path: Path, weights: Weights) -> None:
    (tmp_path / "w.pth").write_bytes(rewritten(weights, lambda name, data: data, compression=zipfile.ZIP_DEFLATED))
    found = read_weights(str(tmp_path / "w.pth"))
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_flipped_bit_does_not_become_a_weight(tmp_path: Path, weights: Weights) -> None:
    file = tmp_path / "w.pth"
    torch.save(weights, file)
    whole = file.read_bytes()
    numbers = weights[NAME].numpy().tobytes()
    place = whole.index(numbers) + 1  # a low bit of the first number
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert not torch.equal(torch.load(file, weights_only=True)[NAME], weights[NAME])
    with pytest.raises(UserError, match=r"w\.pth is damaged \(Bad CRC-32 for file .*\); copy or download it again"):
        read_weights(str(file))


def test_archives_without_check_sums_load(tmp_path: Path, weights: Weights) -> None:
    from torch.serialization import get_crc32_options, set_crc32_options

    before = get_crc32_options()
    set_crc32_options(False)
    try:
        found = read(tmp_path, weights)
    finally:
        set_crc32_options(before)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_numbers_of_parts_are_not_believed(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(UserError, match=r"blocks\.999999999\.proj\.bias is one of \d+ tensors"):
        read(tmp_path, {**weights, "blocks.999999999.proj.bias": torch.zeros(1)})

"""What is no checkpoint is named by its first bytes, whatever its suffix, and nothing in it is run."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise

import esc_arch
from esc_arch.archs import ESC
from esc_arch.common.errors import UserError
from esc_arch.weights import read_weights


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return dict(randomise(ESC(**TINY)).state_dict())


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def safetensors(weights: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save(weights)


WRITE: dict[str, Callable[[dict[str, torch.Tensor]], bytes]] = {
    "zip": saved,
    "legacy": lambda weights: saved(weights, _use_new_zipfile_serialization=False),
    "protocol 1": lambda weights: saved(weights, pickle_protocol=1),
    "protocol 4": lambda weights: saved(weights, pickle_protocol=4),
    "legacy, protocol 5": lambda weights: saved(weights, pickle_protocol=5, _use_new_zipfile_serialization=False),
    "safetensors": safetensors,
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt", ""])
@pytest.mark.parametrize("kind", WRITE)
def test_the_suffix_does_not_count(
    tmp_path: Path, weights: dict[str, torch.Tensor], kind: str, suffix: str, recwarn: pytest.WarningsRecorder
) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(WRITE[kind](weights))
    found = read_weights(str(file))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert not recwarn.list


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def in_tar(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def picture(form: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(stream, form)
    return stream.getvalue()


def torchscript() -> bytes:
    stream = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.rand(1, 3, 4, 4)), stream)
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    return stream.getvalue()


GOOD = saved({"params": {"a.weight": torch.zeros(2)}})
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
OTHERS: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "page": (PAGE, "is a web page"),
    "page in small letters behind spaces": (
        b"\xef\xbb\xbf \n <html lang='de'><body>Warnung</body></html>",
        "is a web page",
    ),
    "answer in XML": (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "answer of a server"),
    "answer in JSON": (b'{"message": "Not Found"}', "answer of a server"),
    "JSON whose ninth letter is a brace": (b'{"args":{"lr": 1e-4}}', "text"),
    "index without its parts": (json.dumps({"weight_map": {"a": "1.safetensors"}}).encode(), "names '1.safetensors'"),
    "index of nothing": (json.dumps({"weight_map": {}}).encode(), "index of a checkpoint, but names no files"),
    "index that is cut off": (b'{"weight_map": {"a": "1.safetensors"', "is damaged"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 38\n", "pointer of Git LFS"),
    "annex": (b"/annex/objects/SHA256E-s4096--4d7a.pth\n", "pointer of git-annex"),
    "options": (b"name: train_ESC_x2\nmodel_type: ESCModel\n", "is a text file"),
    "text in other letters": ("Прости, здесь ничего нет. 没有\n".encode() * 200, "is a text file"),
    "empty": (b"", "is empty"),
    "zeros": (bytes(5000), "nothing but zeros"),
    "noise": (np.random.default_rng(0).bytes(5000), "damaged, or of a format that is unknown"),
    "gzip": (gzip.compress(GOOD), "compressed by gzip, not a checkpoint; unpack"),
    "tar": (in_tar(**{"good.pth": GOOD}), "tar archive, not a checkpoint; unpack"),
    "first format": (in_tar(sys_info=b"x", pickle=b"y", tensors=b"", storages=b""), "first format of torch"),
    "zip": (zipped(readme=b"hello"), r"zip archive that holds readme, not a checkpoint"),
    "empty zip": (zipped(), "zip archive with nothing in it"),
    "zipped checkpoint": (zipped(**{"a/ESC.pth": GOOD}), r"holds a/ESC.pth, not a checkpoint; unpack"),
    "npz": (arrays, "archive of NumPy arrays"),
    "npy": (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}", "array of NumPy"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x062.14.0:" + bytes(400), "is an ONNX model"),
    "torchscript": (torchscript, "compiled by TorchScript"),
    "pt2": (zipped(**{"a/archive_format": b"pt2", "a/data.pkl": b""}), "torch.export saved"),
    "png": (lambda: picture("PNG"), r"picture \(PNG\)"),
    "jpeg": (lambda: picture("JPEG"), r"picture \(JPEG\)"),
    "webp": (lambda: picture("WEBP"), r"picture \(WebP\)"),
    "pickle": (pickle.dumps({"params": np.zeros(3)}, protocol=2), "torch.save did not write"),
    "pickle of now": (pickle.dumps({"params": np.zeros(3)}), "torch.save did not write"),
    "registered class": (zipped(**{"a/data.pkl": b"\x80\x02\x82\x01."}), "a protocol that is not read here"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    content, sentence = OTHERS[name]
    file = tmp_path / f"other{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content())
    with pytest.raises(UserError, match=sentence) as caught:
        esc_arch.load(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert "more than tensors" not in str(caught.value)


def test_places_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "net_g_5.pth").write_bytes(GOOD)
    with pytest.raises(UserError, match=r"folder is a folder.*give the path of a file in it \(net_g_5\.pth\)"):
        esc_arch.load(tmp_path / "folder")
    with pytest.raises(UserError, match=r"nowhere\.pth is neither a file nor weights that come with this package"):
        esc_arch.load(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="is an address; download"):
        esc_arch.load("https://example.org/ESC.pth")
    with pytest.raises(UserError, match="does not exist"):
        read_weights(str(tmp_path / "nowhere.pth"))
    with pytest.raises(UserError, match="is a device"):
        read_weights(os.devnull)
    (tmp_path / "dangling.pth").symlink_to(tmp_path / "gone.pth")
    with pytest.raises(UserError, match=r"dangling\.pth does not exist"):
        esc_arch.load(tmp_path / "dangling.pth")


def test_distributed_checkpoints(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    """As FSDP writes them; what the sentence says to do makes a checkpoint that loads."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    folder = tmp_path / "step_100"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process only
        checkpoint.save({"model": weights}, checkpoint_id=str(folder))
    for path in (folder, *folder.glob("*.distcp")):
        with pytest.raises(UserError, match=r"distributed checkpoint of PyTorch, .* dcp_to_torch FOLDER FILE"):
            esc_arch.load(path)
    dcp_to_torch_save(folder, tmp_path / "whole.pth")
    assert read_weights(str(tmp_path / "whole.pth")).keys() == weights.keys()


def test_a_path_below_the_home_folder(
    tmp_path: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pth").write_bytes(saved(weights))
    assert isinstance(esc_arch.load("~/w.pth"), ESC)


class Attack:
    """Pickles as a call of a function that leaves a trace."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


ATTACKS = {
    "os": (os.mkdir, "attacked"),
    "pathlib": (Path.touch, Path("attacked")),
    "eval": (eval, "open('attacked', 'w')"),
    "subprocess": (subprocess.call, ["touch", "attacked"]),
    "numpy": (np.save, "attacked", 0),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_run_by_reading(
    tmp_path: Path,
    weights: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    attack: str,
    legacy: bool,
    protocol: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    call = Attack(*ATTACKS[attack])
    for content in ({"params": call}, {"params": weights, "extra": call}, call):
        Path("a.pth").write_bytes(saved(content, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy))
        loadable = isinstance(content, dict) and content["params"] is weights
        with contextlib.suppress(UserError) if loadable else pytest.raises(UserError):
            assert read_weights("a.pth").keys() == weights.keys()
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_a_whole_module_is_refused_for_what_it_is(tmp_path: Path) -> None:
    for content in (ESC(**TINY), {"epoch": 1, "model": ESC(**TINY)}):
        torch.save(content, tmp_path / "module.pth")
        with pytest.raises(UserError, match=r"holds a whole module of Python \(.*ESC\).*state_dict\(\)"):
            esc_arch.load(tmp_path / "module.pth")

"""Training data: sub-images in LMDB, resumed, verified, never overwritten."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import skimage.data

from esc_arch.common.errors import UserError
from esc_arch.prepare.databases import lmdb_fault
from esc_arch.prepare.images import downscale
from esc_arch.prepare.training import prepare_training

# isort: split
# esc_arch comes first, it mends the import of basicsr
from basicsr.data import build_dataset
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr.utils.matlab_functions import imresize

ROOT = Path(__file__).resolve().parents[1]
SIZE, STEP = 48, 24
SHAPES = {"coffee": (100, 122), "strip": (41, 97), "dot": (53, 48)}  # 96 x 120, 36 x 96, 48 x 48 after cropping
NAMES = {"HR_sub": 1} | {f"LR_bicubic_X{scale}_sub": scale for scale in (2, 3, 4)}
TILES = {"coffee": 12, "strip": 3, "dot": 1}


def _photograph(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.coffee()[60 : 60 + height, 200 : 200 + width, ::-1])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, shape in SHAPES.items():
        cv2.imwrite(str(folder / f"{name}.png"), _photograph(*shape))
    return folder


def _prepare(inputs: Path | list[Path], output: Path, **kwargs: Any) -> None:
    folders = inputs if isinstance(inputs, list) else [inputs]
    prepare_training(folders, output, **{"size": SIZE, "step": STEP, "workers": 2, **kwargs})


def _read(path: Path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return {key.decode(): data for key, data in transaction.cursor()}


def _decode(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_lr_is_cut_from_the_shrunk_whole_image(photographs: Path, tmp_path: Path) -> None:
    _prepare(photographs, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(f"{name}.lmdb" for name in NAMES)
    image = _photograph(*SHAPES["coffee"])[:96, :120]
    for name, factor in NAMES.items():
        whole = image if factor == 1 else (imresize(image / np.float32(255), 1 / factor).clip(0, 1) * 255).round()
        stored = _read(tmp_path / "out" / f"{name}.lmdb")
        assert len(stored) == sum(TILES.values())
        corners = [(top, left) for top in (0, 24, 48) for left in (0, 24, 48, 72)]
        for number, (top, left) in enumerate(corners, start=1):
            box = np.s_[top // factor : (top + 48) // factor, left // factor : (left + 48) // factor]
            assert np.array_equal(_decode(stored[f"coffee_s{number:03d}"]), whole[box])


def test_a_short_side_is_kept_whole(photographs: Path, tmp_path: Path) -> None:
    _prepare(photographs, tmp_path / "out")
    stored = _read(tmp_path / "out" / "HR_sub.lmdb")
    strip = [_decode(stored[f"strip_s{number:03d}"]) for number in (1, 2, 3)]
    assert [tile.shape for tile in strip] == [(36, 48, 3)] * 3
    assert np.array_equal(np.hstack([strip[0], strip[2]]), _photograph(36, 96))
    assert np.array_equal(_decode(stored["dot_s001"]), _photograph(48, 48))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_basicsr_reads_the_pairs(photographs: Path, tmp_path: Path, scale: int) -> None:
    _prepare(photographs, tmp_path / "out")
    folders = [f"{tmp_path}/out/{name}.lmdb" for name in ("HR_sub", f"LR_bicubic_X{scale}_sub")]
    options = {"type": "PairedImageDataset", "name": "test", "phase": "train", "scale": scale, "gt_size": 36}
    options |= {"dataroot_gt": folders[0], "dataroot_lq": folders[1], "io_backend": {"type": "lmdb"}}
    dataset = build_dataset(options | {"use_hflip": False, "use_rot": False})
    assert len(dataset) == sum(TILES.values())
    for item in dataset:
        assert item["gt"].shape == (3, 36, 36)
        shrunk = imresize(item["gt"], 1 / scale)
        inner = np.s_[:, 2:-2, 2:-2]  # the border of a patch is mirrored here, and goes on in the photograph
        assert (shrunk - item["lq"])[inner].abs().max() < 0.02


def test_database_is_what_basicsr_makes_of_the_images(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _prepare(photographs, out, keep_images=True)
    for name in NAMES:
        images = sorted(os.listdir(out / name))
        keys = [image.removesuffix(".png") for image in images]
        make_lmdb_from_imgs(str(out / name), str(tmp_path / f"{name}.lmdb"), images, keys)
        assert _read(tmp_path / f"{name}.lmdb") == _read(out / f"{name}.lmdb")
        meta = [folder / f"{name}.lmdb" / "meta_info.txt" for folder in (tmp_path, out)]
        assert meta[0].read_text() == meta[1].read_text()


def test_names_become_keys_that_basicsr_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("a.b c", "Köln"):
        cv2.imwrite(str(folder / f"{name}.PNG"), _photograph(48, 48))
    _prepare(folder, tmp_path / "out")
    assert set(_read(tmp_path / "out" / "HR_sub.lmdb")) == {"a_b c_s001", "K_u00f6ln_s001"}


def test_goes_on_after_being_killed(tmp_path: Path) -> None:
    folder, out = tmp_path / "photographs", tmp_path / "out"
    folder.mkdir()
    for number in range(20):
        cv2.imwrite(str(folder / f"{number:02d}.png"), _photograph(168 + 12 * (number % 3), 168))
    command = [sys.executable, str(ROOT / "datasets" / "prepare_training.py"), "--input", str(folder)]
    command += ["--output", str(out), "--size", str(SIZE), "--step", str(STEP), "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    marks = out / ".prepare" / "images"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while not (marks.is_dir() and len(list(marks.glob("*.json"))) >= 3) and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=120)  # returns when the worker processes, who hold the pipe too, are gone
    done = [mark.stem for mark in marks.glob("*.json")]
    assert 3 <= len(done) < 20
    tiles = [tile for tile in (out / "HR_sub").glob("*.png") if tile.name[:2] in done]
    before = {tile: tile.stat().st_mtime_ns for tile in tiles}
    assert not list(out.glob("*.lmdb"))
    for place in (out / "HR_sub", marks, marks.parent):  # what a kill in the middle of writing leaves, here for certain
        (place / ".esc-1-abcdef.part").write_bytes(b"half")

    _prepare(folder, out, keep_images=True)
    _prepare(folder, tmp_path / "uninterrupted")
    assert {tile: tile.stat().st_mtime_ns for tile in tiles} == before
    assert not list(out.rglob("*.part"))
    for name in NAMES:
        assert _read(out / f"{name}.lmdb") == _read(tmp_path / "uninterrupted" / f"{name}.lmdb")


def test_goes_on_from_any_remains(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _prepare(photographs, out, keep_images=True)
    expected = {name: _read(out / f"{name}.lmdb") for name in NAMES}
    for name in ("HR_sub", "LR_bicubic_X3_sub", "LR_bicubic_X4_sub"):
        shutil.rmtree(out / f"{name}.lmdb")
    tile = out / "LR_bicubic_X3_sub" / "coffee_s005.png"
    tile.write_bytes(tile.read_bytes()[:-20])
    (out / "LR_bicubic_X4_sub" / "strip_s001.png").unlink()
    (out / "HR_sub" / ".esc-1-abcdef.part").write_bytes(b"half")
    (out / ".prepare" / "images" / "dot.json").write_bytes(b"")
    (out / "HR_sub.partial.lmdb").mkdir()
    (out / "HR_sub.partial.lmdb" / "data.mdb").write_bytes(b"half")
    kept = (out / "LR_bicubic_X2_sub.lmdb" / "data.mdb").stat().st_mtime_ns
    _prepare(photographs, out)
    assert {name: _read(out / f"{name}.lmdb") for name in NAMES} == expected
    assert (out / "LR_bicubic_X2_sub.lmdb" / "data.mdb").stat().st_mtime_ns == kept
    assert sorted(os.listdir(out)) == sorted(f"{name}.lmdb" for name in NAMES)


def test_finished_databases_are_kept_and_others_refused(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    _prepare(photographs, out)
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 4
    assert all("made, verified, 16 images" in line for line in first)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.mdb")}
    _prepare(photographs, out)
    assert capsys.readouterr().out.count("was there already, verified, 16 images") == 4
    cv2.imwrite(str(photographs / "more.png"), _photograph(48, 48))
    with pytest.raises(UserError, match=r"does not belong to these inputs .*more_s001 is missing.*move or delete it"):
        _prepare(photographs, out)
    (photographs / "more.png").unlink()
    with pytest.raises(UserError, match="move or delete it"):
        _prepare(photographs, out, size=72)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.mdb")} == files


def test_folders_of_others_are_left_alone(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "HR_sub").mkdir(parents=True)
    (out / "HR_sub" / "coffee_s001.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"HR_sub exists and was not made by this command"):
        _prepare(photographs, out)
    assert (out / "HR_sub" / "coffee_s001.png").read_bytes() == b"mine"
    shutil.rmtree(out)
    _prepare(photographs, out, keep_images=True)
    for database in out.glob("*.lmdb"):
        shutil.rmtree(database)
    with pytest.raises(UserError, match="preparation with other settings"):
        _prepare(photographs, out, size=72)


def test_changed_photograph_is_cut_again(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _prepare(photographs, out, keep_images=True)
    cv2.imwrite(str(photographs / "dot.png"), 255 - _photograph(48, 48))
    shutil.rmtree(out / "LR_bicubic_X2_sub.lmdb")
    _prepare(photographs, out, keep_images=True)  # this one cuts for X2 only
    for database in out.glob("*.lmdb"):
        shutil.rmtree(database)
    _prepare(photographs, out)
    changed = 255 - _photograph(48, 48)
    assert np.array_equal(_decode(_read(out / "HR_sub.lmdb")["dot_s001"]), changed)
    assert np.array_equal(_decode(_read(out / "LR_bicubic_X2_sub.lmdb")["dot_s001"]), downscale(changed, 2))


def test_damaged_photograph_is_named_and_the_others_are_kept(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, damaged = tmp_path / "out", photographs / "dot.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    arguments = ["--input", str(photographs), "--output", str(out), "--size", "48", "--step", "24", "--workers", "2"]
    main = runpy.run_path(str(ROOT / "datasets" / "prepare_training.py"))["main"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 1
    assert "Error: " + str(damaged) + " cannot be read" in capsys.readouterr().err
    assert not list(out.glob("*.lmdb"))
    tile = out / "HR_sub" / "coffee_s012.png"
    before = tile.stat().st_mtime_ns
    damaged.write_bytes(whole)
    main([*arguments, "--keep-images"])
    assert tile.stat().st_mtime_ns == before
    assert len(_read(out / "HR_sub.lmdb")) == 16


def test_no_scales_make_hr_alone(photographs: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time verifies what is there
        _prepare(photographs, tmp_path / "out", scales=[])
        assert [path.name for path in (tmp_path / "out").glob("*.lmdb")] == ["HR_sub.lmdb"]
    sides = {_decode(data).shape for data in _read(tmp_path / "out/HR_sub.lmdb").values()}
    assert (41, 48, 3) in sides  # nothing is cropped to a multiple


def test_wrong_arguments_are_one_sentence(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    cv2.imwrite(str(other / "coffee.jpg"), _photograph(48, 48))
    with pytest.raises(UserError, match=r"photographs/coffee\.png and .*other/coffee\.jpg would both be stored"):
        _prepare([photographs, other], tmp_path / "out")
    with pytest.raises(UserError, match="--size 50 must be a multiple of 12"):
        _prepare(photographs, tmp_path / "out", size=50)
    with pytest.raises(UserError, match="--step 72 must not exceed --size 48"):
        _prepare(photographs, tmp_path / "out", step=72)
    with pytest.raises(UserError, match="--scales must be whole numbers from 2"):
        _prepare(photographs, tmp_path / "out", scales=[1, 2])
    cv2.imwrite(str(other / "coffee.jpg"), _photograph(7, 48))
    with pytest.raises(UserError, match=r"coffee\.jpg is too small for scale 4"):
        _prepare(other, tmp_path / "out")
    (other / "coffee.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"coffee\.jpg cannot be read"):
        _prepare(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    with pytest.raises(UserError, match="GiB free and about"):
        _prepare(photographs, tmp_path / "out")


def test_fault_of_a_database_is_told(photographs: Path, tmp_path: Path) -> None:
    _prepare(photographs, tmp_path / "out")
    path = tmp_path / "out" / "HR_sub.lmdb"
    stored = _read(path)
    shapes = {key: _decode(data).shape[:2] for key, data in stored.items()}
    assert lmdb_fault(path, shapes) is None
    assert "is 48 x 48 instead of 48 x 60" in str(lmdb_fault(path, shapes | {"dot_s001": (48, 60)}))
    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as transaction:
        transaction.put(b"coffee_s001", stored["strip_s001"])
    assert lmdb_fault(path, shapes) == "the entry coffee_s001 does not decode to an image of its shape"
    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as transaction:
        transaction.delete(b"coffee_s002")
    assert lmdb_fault(path, shapes) == "data.mdb holds 15 entries, meta_info.txt 16"
    (path / "data.mdb").write_bytes(b"nothing")
    assert "data.mdb cannot be read" in str(lmdb_fault(path, shapes))
    (path / "meta_info.txt").unlink()
    assert lmdb_fault(path, shapes) == "it has no readable meta_info.txt"

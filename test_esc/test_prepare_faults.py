"""Images that cannot be used are named, all of them, and the others are made; names of every kind; two runs at once."""

from __future__ import annotations

import errno
import os
import runpy
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.prepare import images
from esc_arch.prepare.alone import working_alone
from esc_arch.prepare.benchmarks import prepare_benchmark
from esc_arch.prepare.images import image_size, read_image
from esc_arch.prepare.parallel import run_parallel
from esc_arch.prepare.training import prepare_training

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["a", "x" * 251, "-o", " b  c ", "d\ne", "f.g.h", "\U0001f426", "ä" * 125, os.fsdecode(b"\xff\xfe")]


def photograph(height: int = 48, width: int = 48, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def save(file: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as stream:
        Image.fromarray(pixels).save(stream, "PNG", **options)
    return file


def bad_folder(folder: Path) -> list[str]:
    """Write two images, and of every fault one; return the names of the latter."""
    whole = save(folder / "good.png", photograph()).read_bytes()
    save(folder / "wide.png", photograph(48, 60))
    save(folder / "tiny.png", photograph(5, 48))
    for name, content in (("cut", whole[: len(whole) // 2]), ("head", whole[:20]), ("none", b""), ("text", b"text")):
        (folder / f"{name}.png").write_bytes(content)
    os.symlink("gone.png", folder / "link.png")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._good.png").write_bytes(b"x")
    return ["cut", "head", "link", "none", "text", "tiny"]


def run(name: str, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    code = 0
    try:
        runpy.run_path(str(ROOT / "datasets" / f"prepare_{name}.py"))["main"]([str(one) for one in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith(("Error", "Note"))]


def test_training_names_all_faults_and_makes_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    faults = bad_folder(folder)
    command = ["--input", folder, "--output", out, "--size", 48, "--step", 24, "--workers", 1]
    code, errors = run("training", capsys, *command)
    assert code == 1
    assert [error.partition(".png")[0] for error in errors] == [f"Error: {folder}/{name}" for name in faults]
    assert sorted(os.listdir(out / "HR_sub")) == ["good_s001.png", "wide_s001.png", "wide_s002.png"]
    for name in faults:
        (folder / f"{name}.png").unlink()
    assert run("training", capsys, *command) == (0, [])
    with lmdb.open(str(out / "HR_sub.lmdb"), readonly=True, lock=False) as env:
        assert env.stat()["entries"] == 3


def test_benchmark_names_all_faults_and_makes_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = bad_folder(tmp_path / "in")
    command = ["--input", tmp_path / "in", "--name", "set", "--output", tmp_path, "--scales", 4, "--workers", 1]
    for _ in range(2):
        code, errors = run("benchmarks", capsys, *command)
        assert code == 1
        assert [error.partition(".png")[0] for error in errors] == [f"Error: {tmp_path}/in/{name}" for name in faults]
        assert sorted(os.listdir(tmp_path / "set/HR")) == ["good.png", "wide.png"]
        assert sorted(os.listdir(tmp_path / "set/LR_bicubic/X4")) == ["goodx4.png", "widex4.png"]


def test_nothing_is_made_where_nothing_is_good(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"in/a\.png "):
        prepare_training([tmp_path / "in"], tmp_path / "out", [2], 48, 24, 1)
    with pytest.raises(UserError, match=r"in/a\.png "):
        prepare_benchmark(tmp_path / "in", "set", tmp_path / "out", [2], 1)
    assert not (tmp_path / "out").exists()


def test_any_name(tmp_path: Path) -> None:
    for name in NAMES:
        save(tmp_path / "in" / f"{name}.png", photograph())
    prepare_training([tmp_path / "in"], tmp_path / "out", [2], 48, 24, 1)
    with lmdb.open(str(tmp_path / "out/HR_sub.lmdb"), readonly=True, lock=False) as env:
        assert env.stat()["entries"] == len(NAMES)
    prepare_benchmark(tmp_path / "in", "set", tmp_path, [2], 1)
    hr, lq = (sorted(os.listdir(tmp_path / "set" / name)) for name in ("HR", "LR_bicubic/X2"))
    assert len(hr) == len(NAMES)
    assert sorted(f"{name[:-4]}x2.png" for name in hr) == lq
    assert {f"{name}.png" for name in NAMES if len(os.fsencode(name)) < 249} < set(hr)


def test_links_are_images_of_their_own(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", photograph())
    os.symlink("a.png", tmp_path / "in/b.png")
    os.link(tmp_path / "in/a.png", tmp_path / "in/c.png")
    prepare_benchmark(tmp_path / "in", "set", tmp_path, [2], 1)
    assert sorted(os.listdir(tmp_path / "set/HR")) == ["a.png", "b.png", "c.png"]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("where", ["before the pixels", "behind the pixels", "nowhere", "in XMP", "in a text"])
def test_size_is_that_of_the_pixels_read(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = save(tmp_path / "a.png", photograph(20, 30))
    data = file.read_bytes()
    turn = chunk(b"eXIf", exif.tobytes()[6:])
    if where == "in XMP":
        turn = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>")
    if where == "in a text":
        turn = chunk(b"tEXt", b"Software\0eXIf")
    at = len(data) - 12 if where == "behind the pixels" else 33
    if where != "nowhere":
        file.write_bytes(data[:at] + turn + data[at:])
    assert image_size(file) == read_image(file).shape[:2]
    if where in ("nowhere", "in a text"):
        monkeypatch.setattr(images, "read_picture", None)  # the header tells all
        assert image_size(file) == (20, 30)


def test_colours_of_print_and_transparency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = photograph(channels=4)
    Image.fromarray(pixels, "CMYK").save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").shape == (48, 48, 3)
    opaque, seen = pixels.copy(), save(tmp_path / "in/seen.png", pixels)
    opaque[..., 3] = 255
    save(tmp_path / "in/opaque.png", opaque)
    assert np.array_equal(read_image(tmp_path / "in/opaque.png"), pixels[..., 2::-1])
    command = ["--input", tmp_path / "in", "--name", "set", "--output", tmp_path, "--scales", 2, "--workers", 1]
    code, notes = run("benchmarks", capsys, *command)
    assert code == 0
    assert notes == [f"Note: {seen} has transparent pixels, whose colours are taken as if they were seen."]
    assert cv2.imread(str(tmp_path / "set/HR/seen.png")).shape == (48, 48, 3)


def test_second_preparation_of_a_place_is_told(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    save(tmp_path / "in/a.png", photograph())
    (tmp_path / "out").mkdir()
    with working_alone(tmp_path / "out"), pytest.raises(UserError, match="being prepared by another run"):
        prepare_training([tmp_path / "in"], tmp_path / "out", [2], 48, 24, 1)
    assert os.listdir(tmp_path / "out") == []
    prepare_training([tmp_path / "in"], tmp_path / "out", [2], 48, 24, 1)


def fill(job: str) -> None:
    from esc_arch.common.whole_files import cannot_write

    raise cannot_write(job, OSError(errno.ENOSPC, "No space left on device"))


def test_full_disk_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^/a/. cannot be written: the disk at / is full \(No space [^\n]*$"):
        run_parallel(fill, [f"/a/{number}" for number in range(4)], workers=2)


@pytest.mark.parametrize("place", ["file", "file/sub"])
def test_places_that_take_nothing(tmp_path: Path, place: str) -> None:
    save(tmp_path / "in/a.png", photograph())
    (tmp_path / "file").touch()
    for prepare in (
        lambda: prepare_training([tmp_path / "in"], tmp_path / place, [2], 48, 24, 1),
        lambda: prepare_benchmark(tmp_path / "in", "set", tmp_path / place, [2], 1),
    ):
        with pytest.raises(UserError, match="cannot be written"):
            prepare()

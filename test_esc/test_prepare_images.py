"""Reading, shrinking and tiling of the dataset preparation."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.prepare.images import (
    downscale,
    image_size,
    is_intact_png,
    is_whole_png,
    list_images,
    read_image,
    tile_positions,
    write_png,
)
from esc_arch.prepare.parallel import run_parallel

UNIT = 12


@given(length=st.integers(1, 200), size=st.integers(1, 60), data=st.data())
def test_tiles_cover_every_pixel_on_whole_units(length: int, size: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, size))
    positions = tile_positions(length * UNIT, size * UNIT, step * UNIT)
    extent = min(size, length) * UNIT
    covered = np.zeros(length * UNIT, bool)
    for position in positions:
        assert position % UNIT == 0
        assert position + extent <= length * UNIT
        covered[position : position + extent] = True
    assert covered.all()
    assert positions == sorted(set(positions))
    assert positions[-1] + extent == length * UNIT
    assert all(after - before == step * UNIT for before, after in itertools.pairwise(positions[:-1]))


def test_tiles_of_known_lengths() -> None:
    assert tile_positions(480, 480, 240) == [0]
    assert tile_positions(400, 480, 240) == [0]
    assert tile_positions(960, 480, 240) == [0, 240, 480]
    assert tile_positions(2040, 480, 240) == [0, 240, 480, 720, 960, 1200, 1440, 1560]


def _cubic_matrix(length: int, scale: int) -> np.ndarray:
    """Keys' cubic (a = -0.5) widened by the scale, borders mirrored, rows summing to one, in double precision."""
    matrix = np.zeros((length // scale, length))
    for row in range(length // scale):
        centre = (row + 0.5) * scale - 0.5
        for column in range(int(centre - 2 * scale) - 1, int(centre + 2 * scale) + 2):
            x = abs(centre - column) / scale
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            weight = near if x <= 1 else far if x <= 2 else 0.0
            mirrored = -column - 1 if column < 0 else 2 * length - 1 - column if column >= length else column
            matrix[row, mirrored] += weight
    return matrix / matrix.sum(1, keepdims=True)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downscale_is_antialiased_bicubic(scale: int) -> None:
    image = np.ascontiguousarray(skimage.data.coffee()[40:112, 200:320])
    rows, columns = _cubic_matrix(72, scale), _cubic_matrix(120, scale)
    reference = np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns).clip(0, 255)
    small = downscale(image, scale)
    assert small.dtype == np.uint8
    assert small.shape == (72 // scale, 120 // scale, 3)
    assert np.abs(small - reference).max() < 0.51  # rounding, and single precision at its ties


def test_downscale_refuses_what_cannot_be_mirrored() -> None:
    with pytest.raises(UserError, match="4 x 12 is too small to be shrunk by 4"):
        downscale(np.zeros((4, 12, 3), np.uint8), 4)


def test_sixteen_bit_grey_alpha_and_palette_become_eight_bit_colour(tmp_path: Path) -> None:
    colour = np.ascontiguousarray(skimage.data.astronaut()[:40, :30, ::-1])  # BGR
    grey = colour[..., 1]
    ramp = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(40, 30)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([colour, grey]))
    cv2.imwrite(str(tmp_path / "colour16.png"), colour.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "ramp16.png"), ramp)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), colour)
    assert np.array_equal(read_image(tmp_path / "colour16.png"), colour)
    assert np.array_equal(read_image(tmp_path / "ramp16.png")[..., 0], np.rint(ramp / 257))
    assert np.array_equal(read_image(tmp_path / "palette.png"), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, extension: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(skimage.data.coffee()[:40, :60]).save(tmp_path / f"turned.{extension}", exif=exif)
    assert image_size(tmp_path / f"turned.{extension}") == (60, 40)
    assert read_image(tmp_path / f"turned.{extension}").shape == (60, 40, 3)


def test_damaged_metadata_are_passed_over_in_silence(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((6, 8, 3), np.uint8))
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0" + bytes(5))  # 255 tags are announced
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert image_size(tmp_path / "a.jpg") == (6, 8)
    assert not told


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_image_is_named(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"cut.{extension}"
    Image.fromarray(skimage.data.coffee()[:100, :100]).save(path)
    assert read_image(path).shape == (100, 100, 3)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"cut\.{extension} cannot be read"):
        read_image(path)


def test_float_image_is_read_where_its_range_is_known(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(tmp_path / "float.tif")
    assert np.unique(read_image(tmp_path / "float.tif")).tolist() == [128]
    Image.fromarray(np.full((20, 20), 300, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif .*: replace or remove it"):
        read_image(tmp_path / "float.tif")


def test_png_is_written_whole_and_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    image = np.ascontiguousarray(skimage.data.coffee()[:48, :36])
    write_png(path, image)
    data = path.read_bytes()
    assert os.listdir(tmp_path) == ["image.png"]
    assert np.array_equal(cv2.imread(str(path)), image)
    assert is_whole_png(path, 48, 36)
    assert not is_whole_png(path, 36, 48)
    assert is_intact_png(data)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    assert not is_intact_png(bytes(flipped))
    for length in (0, 5, 30, len(data) - 1):
        path.write_bytes(data[:length])
        assert not is_whole_png(path, 48, 36)
        assert not is_intact_png(data[:length])


def test_failed_write_leaves_the_file_and_no_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UserError, match="disk full"):
        write_png(path, np.zeros((8, 8, 3), np.uint8))
    assert os.listdir(tmp_path) == ["image.png"]
    assert path.read_bytes() == b"before"


def test_images_are_listed_by_extension(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="absent does not exist"):
        list_images(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no images"):
        list_images(tmp_path)
    for name in ("b.PNG", "a.jpeg", "._a.png", "notes.txt", "c.TIF"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)[0]] == ["a.jpeg", "b.PNG", "c.TIF"]
    assert capsys.readouterr().out == f"{tmp_path}: 2 passed over (1 leftover of a system, 1 .txt)\n"


def test_hidden_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".a.png").touch()
    (tmp_path / ".gone.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"2 passed over \(2 pictures whose names begin with a dot\)"):
        list_images(tmp_path)
    (tmp_path / "b.png").touch()
    assert list_images(tmp_path) == ([tmp_path / "b.png"], {})
    assert capsys.readouterr().out == f"{tmp_path}: 2 passed over (2 pictures whose names begin with a dot)\n"


def _work(job: str) -> None:
    folder, _, name = job.rpartition("/")
    if name.startswith("bad"):
        raise UserError(f"{name} is bad.")
    if name == "full":
        raise OSError(28, "No space left on device")
    if name == "killed":
        os._exit(9)
    (Path(folder) / name).touch()


def test_parallel_run_finishes_the_good_jobs_and_names_the_bad(tmp_path: Path) -> None:
    jobs = [f"{tmp_path}/{name}" for name in ("bad1", "one", "bad2", "two", "bad3", "bad4", "three")]
    with pytest.raises(
        UserError, match="^" + "\nError: ".join(rf"bad{number} is bad\." for number in (1, 2, 3, 4)) + "$"
    ):
        run_parallel(_work, jobs, workers=2)
    assert sorted(os.listdir(tmp_path)) == ["one", "three", "two"]


def test_parallel_run_stops_at_a_full_disk_and_tells_a_killed_worker(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run_parallel(_work, [f"{tmp_path}/full"], workers=1)
    with pytest.raises(UserError, match="worker process was killed"):
        run_parallel(_work, [f"{tmp_path}/killed"], workers=1)
    with pytest.raises(UserError, match="--workers must be at least 1"):
        run_parallel(_work, [], workers=0)


def test_parallel_run_after_threads_have_run(tmp_path: Path) -> None:
    # a copy of a process in which OpenCV has used its threads would wait for them forever
    command = (
        "import cv2, numpy, sys\n"
        "cv2.GaussianBlur(numpy.zeros((2000, 2000, 3), numpy.float32), (31, 31), 5)\n"
        "from esc_arch.prepare.parallel import run_parallel\n"
        "from test_prepare_images import _work\n"
        "run_parallel(_work, [sys.argv[1]], workers=1)\n"
    )
    folder = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", command, f"{tmp_path}/one"], cwd=folder, check=True, timeout=300)
    assert os.listdir(tmp_path) == ["one"]

"""Results in the format, with the quality and the metadata that were asked for, in files and through pipes."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, randomise
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from esc_arch.archs import ESC
from esc_arch.upscale import upscale_image
from esc_arch.upscale.__main__ import main
from esc_arch.weights import write_weights

Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = str(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    write_weights(file, randomise(ESC(**TINY)).state_dict())
    return file


def noise(channels: int = 3) -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (24, 20, channels), np.uint8)


@pytest.mark.parametrize(
    ("kind", "suffix", "stored"),
    [("png", ".png", "PNG"), ("jpg", ".jpg", "JPEG"), ("webp", ".webp", "WEBP"), ("tif", ".tif", "TIFF")],
)
def test_format(folder: Path, weights: str, kind: str, suffix: str, stored: str) -> None:
    Path("in").mkdir()
    for name in ("a.png", "b.jpg", "c.bmp"):
        Image.fromarray(noise()).save(f"in/{name}")
    main(["in", "-o", "out", "--weights", weights, "--format", kind])
    assert sorted(file.name for file in Path("out").iterdir()) == [f"{stem}_x2{suffix}" for stem in "abc"]
    with Image.open(f"out/a_x2{suffix}") as image:
        assert (image.format, image.size) == (stored, (40, 48))


def test_pictures_that_a_format_cannot_hold(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Image.fromarray(noise(4)).save("in/alpha.png")
    Image.fromarray(noise()[..., 0].astype(np.uint16) * 257).save("in/deep.png")
    Image.fromarray(noise()).save("in/plain.png")
    with pytest.raises(SystemExit) as end:
        main(["in", "-o", "out", "--weights", weights, "--format", "jpg"])
    assert end.value.code == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "alpha.png: out/alpha_x2.jpg: a JPEG cannot hold transparency; " in first
    assert "deep.png: out/deep_x2.jpg: a JPEG cannot hold 16 bits per channel; " in second
    assert [file.name for file in Path("out").iterdir()] == ["plain_x2.jpg"]


def test_quality_and_lossless(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noise()).save("a.png")
    Image.fromarray(noise()).save("lossless.webp", lossless=True)
    sizes = []
    for quality in ("5", "50", "100"):
        for name in ("b.jpg", "b.webp"):
            main(["a.png", "-o", name, "--weights", weights, "--quality", quality, "--overwrite"])
            sizes.append(Path(name).stat().st_size)
    assert sizes[0] < sizes[2] < sizes[4]
    assert sizes[1] < sizes[3] < sizes[5]
    main(["a.png", "-o", "c.webp", "--weights", weights, "--lossless"])
    np.testing.assert_array_equal(np.asarray(Image.open("c.webp")), upscale_image(noise(), weights))
    main(["lossless.webp", "-o", "d.webp", "--weights", weights, "--quality", "20"])
    assert Path("d.webp").stat().st_size < Path("c.webp").stat().st_size
    with pytest.raises(SystemExit):
        main(["a.png", "-o", "e.jpg", "--weights", weights, "--lossless"])
    assert "e.jpg: a JPEG is not --lossless; take --format png or webp" in capsys.readouterr().err


def test_metadata(folder: Path, weights: str) -> None:
    texts, exif = PngInfo(), Image.Exif()
    texts.add_text("Prompt", "a secret")
    texts.add(b"gAMA", (45455).to_bytes(4, "big"))
    exif[0x013B] = "somebody"
    Image.fromarray(noise()).save("a.png", pnginfo=texts, exif=exif, dpi=(300, 300))
    for choice in ("keep", "none"):
        main(["a.png", "-o", f"{choice}.png", "--weights", weights, "--metadata", choice])
        with Image.open(f"{choice}.png") as image:
            image.load()
            info = image.info
        assert info["gamma"] == 0.45455
        assert [("Prompt" in info), ("exif" in info), ("dpi" in info)] == [choice == "keep"] * 3


def pipe(weights: str, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "esc_arch.upscale", *arguments, "--weights", weights]
    return subprocess.run(command, input=data, capture_output=True, check=False)


def test_pipes(folder: Path, weights: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(noise()).save(stream, "PNG")
    done = pipe(weights, stream.getvalue(), "-", "--stats")
    assert done.returncode == 0
    found = Image.open(io.BytesIO(done.stdout))
    assert found.format == "PNG"
    np.testing.assert_array_equal(np.asarray(found), upscale_image(noise(), weights))
    line, last = done.stderr.decode().splitlines()
    assert line.startswith("standard input: 20 x 24 to 40 x 48 in ")
    assert last.startswith("1 enlarged; standard output, ")

    broken = pipe(weights, stream.getvalue()[:50], "-", "-o", "-")
    assert (broken.returncode, broken.stdout) == (1, b"")
    assert broken.stderr.startswith(b"Error: standard input cannot be read (")

    Image.fromarray(noise()).save("a.jpg")
    done = pipe(weights, b"", "a.jpg", "-o", "-", "--format", "webp", "--lossless")
    assert Image.open(io.BytesIO(done.stdout)).format == "WEBP"
    assert pipe(weights, b"", "a.jpg", "-o", "-").stdout[:3] == b"\xff\xd8\xff"
    done = pipe(weights, stream.getvalue(), "-", "-o", "b.tif")
    assert (done.returncode, done.stdout[:19]) == (0, b"1 enlarged; b.tif, ")
    assert sorted(file.name for file in Path().iterdir()) == ["a.jpg", "b.tif"]

"""Thousands of damaged pictures: each is a picture or one sentence; no trace, no crash, no memory without bound."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from odd_families import FAMILIES
from odd_pictures import exif_of, saved
from PIL import Image, features

from esc_arch.common.errors import UserError
from esc_arch.pictures.reading import read_picture

LIMIT = 10**6  # pixels
ROOM = 2**30  # bytes that a damaged file of some hundred bytes may take
FEW, MANY = 40, 2000
SIZES = [(16, 16), (24, 24)]
OLDER: dict[str, tuple[str, tuple[str, ...], list[dict[str, Any]]]] = {  # as Pillow calls them, modes, and options
    ".tga": ("TGA", ("L", "LA", "P", "RGB", "RGBA"), [{}, {"compression": "tga_rle"}]),
    ".pcx": ("PCX", ("1", "L", "P", "RGB"), [{}]),
    ".ico": ("ICO", ("RGB", "RGBA"), [{"sizes": SIZES, "bitmap_format": kind} for kind in ("png", "bmp")]),
    ".sgi": ("SGI", ("L", "RGB", "RGBA"), [{}, {"bpc": 2}]),
    ".dds": ("DDS", ("RGBA",), [{}, *({"pixel_format": kind} for kind in ("DXT1", "DXT3", "DXT5", "BC2"))]),
    ".qoi": ("QOI", ("RGB", "RGBA"), [{}]),
    ".xbm": ("XBM", ("1",), [{}]),
}
INSIDE = re.compile(
    r"read \((?:\d*|b?'.*')\)|requires a buffer|index out of range|invalid literal|by this driver|decoder object"
    r"|Generic Error|Error -\d"
)
RNG = np.random.default_rng(0)


def sound_files(suffix: str) -> list[bytes]:
    """Pictures of a format, of every sort that there is, with metadata."""
    image = Image.fromarray(RNG.integers(0, 256, (40, 30, 3), np.uint8))
    options: dict[str, Any] = {"exif": exif_of(6), "xmp": b"<x:xmpmeta/>" * 3, "icc_profile": bytes(200)}
    if suffix == ".jpg":
        first = [saved(image, "JPEG", progressive=progressive, comment=b"said", **options) for progressive in (0, 1)]
        return [*first, saved(image.convert("CMYK"), "JPEG", **options)]
    if suffix == ".webp":
        animation = {"save_all": True, "append_images": [image.rotate(9)]}
        return [saved(image, "WEBP", **options), saved(image, "WEBP", lossless=True), saved(image, "WEBP", **animation)]
    if suffix == ".avif":
        return [saved(image, "AVIF", **options)]
    if suffix in OLDER:
        kind, modes, writings = OLDER[suffix]
        return [saved(image.convert(mode), kind, **options) for mode in modes for options in writings]
    if suffix in (".ras", ".pbm"):
        pixels = np.asarray(image.convert("L")) if suffix == ".pbm" else np.asarray(image)
        packed = [[cv2.IMWRITE_PXM_BINARY, number] for number in (0, 1)] if suffix == ".pbm" else [[]]
        return [bytes(cv2.imencode(suffix, pixels, setting)[1]) for setting in packed]
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
        return [saved(image, "HEIF", quality=quality, exif=exif_of(6).tobytes()) for quality in (50, -1)]
    if suffix == ".jxl":
        pytest.importorskip("pillow_jxl")
        exif = exif_of(6).tobytes()
        return [saved(image.convert(mode), "JXL", lossless=mode != "RGB", exif=exif) for mode in ("L", "RGB", "RGBA")]
    if suffix == ".gif":
        return [saved(image.quantize(9), "GIF", transparency=2, comment=b"said"), saved(image.convert("L"), "GIF")]
    if suffix == ".tif":
        files = [saved(image, "TIFF", compression=name, **options) for name in ("tiff_lzw", "packbits", "jpeg", "zstd")]
        writings: list[tuple[Any, dict[str, Any]]] = [
            (np.asarray(image), {"tile": (16, 16), "compression": "zlib", "predictor": True}),
            (np.full((9, 7), 0.5, "f4"), {"rowsperstrip": 2}),
            (np.asarray(image).transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        ]
        for pixels, more in writings:
            tifffile.imwrite(stream := io.BytesIO(), pixels, metadata=None, **more)
            files.append(stream.getvalue())
        with tifffile.TiffWriter(pages := io.BytesIO()) as tiff:
            for size in (16, 8):
                tiff.write(np.zeros((size, size), np.uint16), subfiletype=int(size == 8))
        return [*files, pages.getvalue()]
    family = {".png": "PNG", ".bmp": "BMP"}.get(suffix)
    odd = [odd for odd in FAMILIES[family or "OpenCV"]() if family or odd.name.endswith(suffix)]
    if suffix == ".jp2":
        odd += [odd for odd in FAMILIES["WebP, JPEG 2000, AVIF, GIF"]() if odd.name.endswith((".jp2", ".j2k"))]
    return [odd.data for odd in odd]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one of the ways that happen: bits turned, cut off, parts lost, doubled, empty, or extreme."""
    content = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if len(content) < 4:
            break
        # the head, which tells what follows, is hit as often as all the rest
        end = len(content) if rng.random() < 0.5 else min(len(content), 120)
        start = int(rng.integers(0, end))
        length = int(rng.integers(1, 24))
        way = rng.integers(0, 7)
        if way == 0:
            content[start] ^= 1 << int(rng.integers(0, 8))
        elif way == 1:
            del content[max(start, 1) :]
        elif way == 2:
            del content[start : start + length]
        elif way == 3:
            content[start:start] = content[start : start + length]
        elif way == 4:
            content[start : start + length] = bytes(len(content[start : start + length]))
        elif way == 5:
            content[start : start + length] = rng.bytes(len(content[start : start + length]))
        else:
            content[start : start + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"][way % 3]
    return bytes(content)


def outcomes(suffix: str, count: int, folder: Path) -> Counter[str]:
    """Read `count` damaged pictures; anything but a picture or a sentence is raised."""
    files, rng, found = sound_files(suffix), np.random.default_rng(1), Counter[str]()
    file = folder / f"damaged{suffix}"
    for index in range(count):
        file.write_bytes(damaged(files[index % len(files)], rng))
        picture, sentence = None, ""
        try:
            picture = read_picture(str(file), LIMIT)
        except UserError as error:
            sentence = str(error)
        if picture is None:
            assert sentence.startswith(str(file))
            assert "\n" not in sentence
            # words about the file, not about a program
            assert not INSIDE.search(sentence), sentence
            found["no room" if "does not fit into memory" in sentence else "told"] += 1
            continue
        height, width, channels = picture.pixels.shape
        assert 0 < height * width <= LIMIT
        assert 1 <= channels <= 4
        assert picture.pixels.dtype in (np.uint8, np.uint16)
        found["picture"] += 1
    return found


SUFFIXES = [".png", ".jpg", ".webp", ".bmp", ".tif", ".gif", ".jp2", ".ppm", ".pgm", ".pbm", ".pam", ".pfm", ".avif"]
SUFFIXES += [*OLDER, ".ras", ".heic", ".jxl"]
if not features.check("avif"):
    SUFFIXES.remove(".avif")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_pictures(suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = outcomes(suffix, FEW, tmp_path)
    assert sum(found.values()) == FEW
    assert found["told"], "nothing was damaged"
    said = capfd.readouterr()
    assert not said.out
    assert "Traceback" not in said.err  # some libraries in C tell things that nobody can silence


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_damaged_pictures_in_little_room(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="there is no limit of memory on this system")
    done = subprocess.run(
        [sys.executable, __file__, suffix, str(tmp_path)], capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert "no room" not in found
    assert found["told"] + found.get("picture", 0) == MANY


def main() -> None:
    """Read many damaged pictures with `ROOM` for all that they take; print what became of them."""
    import resource

    outcomes(sys.argv[1], 5, Path(sys.argv[2]))  # loads all libraries
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    print(json.dumps(outcomes(sys.argv[1], MANY, Path(sys.argv[2]))))


if __name__ == "__main__":
    main()

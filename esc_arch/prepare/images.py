"""Reading, shrinking, tiling and safely writing images: what all dataset preparations share."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from basicsr.utils.matlab_functions import imresize

from esc_arch.common.errors import UserError, printable
from esc_arch.common.whole_files import replacing
from esc_arch.pictures.decoding import open_image
from esc_arch.pictures.finding import HIDDEN, Found, in_words
from esc_arch.pictures.formats import FORMATS, HEAD, sniff
from esc_arch.pictures.metadata import load_exif, orientation_of
from esc_arch.pictures.reading import read_picture

_MOST_PIXELS = 2**31
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"


def list_images(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """List the images directly in a folder, by name; leftovers of systems and hidden files are left out.

    What is passed over is counted on standard output.

    Returns:
        the images, those at fault as well, and why the latter cannot be read (links that lead nowhere, for instance).

    Raises:
        UserError: the folder does not exist or holds no images.
    """
    if not folder.is_dir():
        raise UserError(f"Input folder {printable(str(folder))} does not exist or is not a folder.")
    found = Found()
    found.add_folder(str(folder), below=False)
    faults = {Path(path): problem for path, problem in found.problems.items()}
    every = [*(Path(path) for path, _ in found.pictures), *faults]
    paths = [path for path in every if path == folder or not path.name.startswith(".")]
    if len(paths) < len(every):
        found.passed[HIDDEN] += len(every) - len(paths)
    passed = in_words(found.passed)
    if not paths:
        raise UserError(
            f"Input folder {printable(str(folder))} holds no images ({', '.join(suffix[1:] for suffix in FORMATS)}); "
            "name the folder that holds them directly." + (f" There were {passed}." if passed else "")
        )
    if passed:
        print(f"{printable(str(folder))}: {passed}")
    return sorted(paths), {path: fault for path, fault in faults.items() if path in paths}


def check_names(paths: Sequence[Path], names: Sequence[str]) -> None:
    """Refuse two images that would be stored under one name.

    Raises:
        UserError: naming both.
    """
    owners: dict[str, Path] = {}
    for path, name in zip(paths, names, strict=True):
        if owners.setdefault(name, path) is not path:
            raise UserError(
                f"{printable(str(owners[name]))} and {printable(str(path))} would both be stored as "
                f"{printable(name)}.png: rename or remove one."
            )


def image_size(path: Path) -> tuple[int, int]:
    """Read the height and width of an image as `read_image` will return it, from its header where that tells all.

    Raises:
        UserError: the file is no image that can be read.
    """
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd about metadata
            kind = sniff(stream.read(HEAD))
            stream.seek(0)
            if kind == "PNG":
                size = _png_size(stream)
                if size is not None:
                    return size
            elif kind in ("JPEG", "BMP"):
                with open_image(str(path), stream, kind) as image:
                    width, height = image.size
                    xmp = image.info.get("xmp")
                    turn = orientation_of(load_exif(image.info.get("exif")), xmp if isinstance(xmp, bytes) else b"")
                return (width, height) if turn >= 5 else (height, width)
    except Exception:  # a damaged header may raise anything at all; reading it whole tells why
        return read_image(path).shape[:2]
    return read_image(path).shape[:2]


def _png_size(stream: BinaryIO) -> tuple[int, int] | None:
    """Read the size of a PNG from its header; None where it has chunks that may say that it is to be turned."""
    position = stream.seek(len(_PNG_SIGNATURE))
    size = None
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        begin = stream.read(min(length, len(b"Raw profile type")))
        if name == b"IHDR":
            width, height = struct.unpack(">II", begin[:8])
            size = height, width
        if name == b"eXIf" or begin.startswith((b"XML:com.adobe.xmp", b"XML:com.adobe.xm", b"Raw profile type")):
            return None
        position = stream.seek(position + 12 + length)
    return size


def read_image(path: Path, notes: list[str] | None = None) -> np.ndarray:
    """Read an image as 8 bit colour, by the reader that `upscale` has.

    16 bit samples are scaled to 8 bit and rounded, grey is repeated to three channels, alpha is dropped, a palette is
    looked up, CMYK is converted, and the EXIF orientation is applied.

    Args:
        path: the file.
        notes: gets a sentence where something of the image is lost that can be seen.

    Returns:
        (H, W, 3) uint8, BGR as everywhere in BasicSR.

    Raises:
        UserError: the file is damaged, truncated or of another kind.
    """
    try:
        picture = read_picture(str(path), _MOST_PIXELS)
    except UserError as error:
        reason = printable(str(error).replace(str(path), "").strip().partition("\n")[0]).rstrip(".")
        if not reason.startswith("cannot be read"):
            reason = f"cannot be read ({reason})"
        raise UserError(f"{printable(str(path))} {reason}: replace or remove it.") from error
    pixels = picture.pixels
    colours = 1 if pixels.shape[2] < 3 else 3
    if notes is not None:
        notes += [f"{printable(str(path))}: {printable(note)}" for note in picture.notes]
    if notes is not None and pixels.shape[2] > colours and (pixels[..., -1] < np.iinfo(pixels.dtype).max).any():
        notes.append(f"{printable(str(path))} has transparent pixels, whose colours are taken as if they were seen.")
    image = pixels[..., :colours]
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    return np.ascontiguousarray(np.repeat(image, 3, axis=2) if colours == 1 else image[..., ::-1])


def crop_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
    """Crop (H, W, C) to the largest multiple of `multiple` per side, keeping the upper left corner."""
    height, width = image.shape[:2]
    return image[: height - height % multiple, : width - width % multiple]


def downscale(image: np.ndarray, scale: int) -> np.ndarray:
    """Shrink an image with MATLAB's antialiased bicubic, as all of the field's benchmarks do.

    Args:
        image: (H, W, C) uint8, H and W multiples of `scale`.
        scale: integer factor, at least 2.

    Returns:
        (H / scale, W / scale, C) uint8.

    Raises:
        UserError: a side is shorter than twice the scale, too short to be mirrored at the border.
    """
    if min(image.shape[:2]) < 2 * scale:
        raise UserError(f"An image of {image.shape[0]} x {image.shape[1]} is too small to be shrunk by {scale}.")
    small = imresize(image.astype(np.float32) / 255, 1 / scale)
    return (small.clip(0, 1) * 255).round().astype(np.uint8)


def tile_positions(length: int, size: int, step: int) -> list[int]:
    """Place sub-images along an axis: every `step` pixels, the last one flush with the border.

    Args:
        length: pixels along the axis.
        size: pixels of a sub-image along the axis; an axis that is not longer gets a single sub-image.
        step: pixels from one sub-image to the next.

    Returns:
        the first pixel of every sub-image, ascending.
    """
    last = max(length - size, 0)
    positions = list(range(0, last + 1, step))
    if positions[-1] != last:
        positions.append(last)
    return positions


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a name stands for a whole file."""
    with replacing(path) as stream:
        stream.write(data)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 BGR as PNG, atomically; compression 1 is what BasicSR uses inside LMDB."""
    _, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    write_atomically(path, data.tobytes())


def is_whole_png(path: Path, height: int, width: int) -> bool:
    """Tell by the first and the last chunk, without decoding, whether a PNG of this size is there and complete."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
            file.seek(-len(_PNG_END), os.SEEK_END)
            tail = file.read()
    except OSError:
        return False
    return head[:8] == _PNG_SIGNATURE and head[16:] == struct.pack(">II", width, height) and tail == _PNG_END


def is_intact_png(data: bytes) -> bool:
    """Check the chunks of a PNG by their checksums, much faster than decoding it."""
    view = memoryview(data)
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(view):
        end = position + 8 + int.from_bytes(view[position : position + 4], "big")
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return False
        position = end + 4
    return data[: len(_PNG_SIGNATURE)] == _PNG_SIGNATURE and position == len(data)

"""Reading, shrinking, tiling and safely writing images: what all dataset preparations share."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from basicsr.utils.matlab_functions import imresize
from PIL import Image

from esc_arch.common.errors import UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_EXIF_ORIENTATION = 0x0112
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"


def list_images(folder: Path) -> list[Path]:
    """List the images directly in a folder, sorted by name; hidden files are left out.

    Raises:
        UserError: the folder does not exist or holds no images.
    """
    if not folder.is_dir():
        raise UserError(f"Input folder {folder} does not exist or is not a folder.")
    paths = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")]
    if not paths:
        kinds = ", ".join(extension[1:] for extension in EXTENSIONS)
        raise UserError(f"Input folder {folder} holds no images ({kinds}); name the folder that holds them directly.")
    return sorted(paths)


def image_size(path: Path) -> tuple[int, int]:
    """Read the height and width of an image from its header, as `read_image` will return it.

    Raises:
        UserError: the file is no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # getexif() would decode all of a PNG to look behind the pixels; the size of a TIFF is turned already
            turned = "exif" in image.info and image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
    except Exception as error:  # a damaged header may raise anything at all
        raise _unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def read_image(path: Path) -> np.ndarray:
    """Read an image as 8 bit colour.

    16 bit samples are scaled to 8 bit and rounded, grey is repeated to three channels, alpha is dropped, a palette is
    looked up, and the EXIF orientation is applied.

    Returns:
        (H, W, 3) uint8, BGR as everywhere in BasicSR.

    Raises:
        UserError: the file is damaged, truncated or not of 8 or 16 bit.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as whole:
            whole.load()  # OpenCV may return a truncated image as if it were whole; Pillow raises
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except Exception as error:  # damaged data may raise anything at all
        raise _unreadable(path, error) from error
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} does not hold 8 or 16 bit samples: convert it to PNG or remove it.")
    if image.dtype == np.uint16:
        image = (image.astype(np.uint32) + 128) // 257  # 65535 / 255 = 257
    return image.astype(np.uint8)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return UserError(f"{path} cannot be read as an image ({reason}): replace or remove it.")


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
    """Write a file under a temporary name beside its place and rename it: a name stands for a whole file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed `write_atomically` left in a folder."""
    for partial in folder.glob(".*.part"):
        partial.unlink()


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

"""Whether OpenCV, which training reads with, gives what a picture means."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import HEAD, sniff
from esc_arch.pictures.reading import read_picture_in_memory

Pixels = np.ndarray[Any, np.dtype[Any]]

DOUBTFUL = (b"II", b"MM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"PF", b"Pf", b"#?")  # TIFF, PNM, PFM, HDR
NEAR = 1.5  # mean difference of 255 that rounding and lossy compression may make
MOST_PIXELS = 2**30  # that OpenCV decodes
_ONE_AT_A_TIME = threading.Lock()  # reading changes the filters of warnings, which all threads share


def misread(content: bytes, image: Pixels) -> str | None:
    """Say what is wrong where OpenCV gives other values than a file means.

    It takes signed samples for unsigned ones and fractions for whole numbers, and gets some TIFFs wrong, such as
    turned ones in tiles. An alpha may be left out or laid on black.

    Args:
        content: the file.
        image: (H, W, 3) BGR of 8 bits, as OpenCV decodes it for training.

    Returns:
        words that follow the name of the file, or None where nothing is wrong or the file cannot be judged.
    """
    if not content.startswith(DOUBTFUL):
        return None
    plain = decode_as_stored(content)
    if plain is not None and plain.dtype not in (np.uint8, np.uint16):
        return strange_type(plain)
    meant = as_meant(content)
    if meant is None:
        return None
    colours, alpha = _in_eight_bits(meant)
    read = image[..., ::-1].astype(np.float32)
    if colours.shape[:2] == read.shape[:2] and any(
        np.abs(read - colours * weight).mean() <= NEAR for weight in ((1, alpha) if alpha is not None else (1,))
    ):
        return None
    return "holds other values than OpenCV, which training reads with, makes of it: convert it to PNG"


def as_meant(content: bytes) -> Pixels | None:
    """Read a picture by its own format; None where that is not known, or only with a library that is not there."""
    try:
        return _read(content)
    except UserError:
        return None


def is_whole(content: bytes) -> bool:
    """Tell whether a picture is whole, though training cannot read it."""
    try:
        _read(content)
    except UserError as error:  # with a cause where a decoder failed, without where it is not clear what values mean
        is_damaged = error.__cause__ is not None or "damaged" in str(error)
        return "are not read" in str(error) or (not is_damaged and sniff(content[:HEAD]) is not None)
    return True


def _read(content: bytes) -> Pixels:
    with _ONE_AT_A_TIME:
        return read_picture_in_memory("", content, MOST_PIXELS).pixels


def strange_type(plain: Pixels) -> str:
    """Say that values are of a type that training does not read, to follow the name of the file."""
    sign = " without a sign" if plain.dtype.kind == "i" else ""
    return f"holds values of the type {plain.dtype}, which training does not read: convert it to 8 or 16 bits{sign}"


def decode_as_stored(content: bytes) -> Pixels | None:
    """Decode without a change of type; None where OpenCV cannot."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def bits_used(file: str) -> int | None:
    """Return how many of its 16 bits a picture uses, or None where it has not 16, or is black."""
    with open(file, "rb") as stream:
        plain = decode_as_stored(stream.read())
    return int(plain.max()).bit_length() or None if plain is not None and plain.dtype == np.uint16 else None


def _in_eight_bits(pixels: Pixels) -> tuple[Pixels, Pixels | None]:
    """Return grey or RGB from 0 to 255, and alpha from 0 to 1 if there is one."""
    values = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    has_alpha = pixels.shape[2] in (2, 4)
    return values[..., : pixels.shape[2] - has_alpha] * 255, values[..., -1:] if has_alpha else None

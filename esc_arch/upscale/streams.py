"""Pictures that come from standard input, and go to standard output."""

from __future__ import annotations

import io
import sys

from esc_arch.common.errors import UserError
from esc_arch.pictures.encoding import encode
from esc_arch.pictures.formats import FORMATS, HEAD, INSTEAD, WRITTEN, sniff
from esc_arch.pictures.picture import Picture

STREAM = "-"
INPUT, OUTPUT = "standard input", "standard output"


def read_standard_input() -> bytes:
    """Read all there is.

    Raises:
        UserError: it is a terminal, or cannot be read.
    """
    if sys.stdin.isatty():
        raise UserError("- reads a picture from standard input, which is a terminal; redirect a file into it: < FILE.")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise UserError(f"standard input cannot be read ({error.strerror}).") from error


def check_standard_output() -> None:
    """Raise UserError where standard output is a terminal, which a picture would put out of order."""
    if sys.stdout.isatty():
        raise UserError(
            "- writes a picture to standard output, which is a terminal; redirect it: > FILE, or | COMMAND."
        )


def format_like(head: bytes) -> str:
    """Return the format in which a picture is written that begins so: its own, or PNG."""
    kind = sniff(head[:HEAD])
    return kind if kind in WRITTEN else FORMATS[INSTEAD]


def write_standard_output(picture: Picture, image_format: str, quality: int) -> None:
    """Write a picture, all at once when it is encoded.

    Raises:
        UserError: it cannot be written.
    """
    stream = io.BytesIO()
    try:
        encode(stream, picture, image_format, quality)
        sys.stdout.buffer.write(stream.getbuffer())
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:
        raise UserError(f"{OUTPUT} cannot be written ({getattr(error, 'strerror', None) or error}).") from error

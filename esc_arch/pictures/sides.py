"""How large a picture is, by its header alone."""

from __future__ import annotations

from contextlib import suppress

from esc_arch.pictures.decoding import open_image
from esc_arch.pictures.formats import HEAD, sniff


def stored_sides(file: str) -> tuple[int, int] | None:
    """Return height and width as they are stored, before anything is turned; None where the header does not tell.

    Args:
        file: path of a picture, which may be damaged or none at all.
    """
    with suppress(Exception), open(file, "rb") as stream:  # a damaged file may raise anything at all
        kind = sniff(stream.read(HEAD))
        stream.seek(0)
        if kind:
            with open_image(file, stream, kind) as image:
                return image.height, image.width
    return None

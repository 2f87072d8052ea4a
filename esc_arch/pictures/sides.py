"""How large a picture is, by its header alone."""

from __future__ import annotations

import warnings
from contextlib import suppress

from esc_arch.pictures.decoding import open_image
from esc_arch.pictures.formats import HEAD, NAMELESS, format_of, sniff


def stored_sides(file: str) -> tuple[int, int] | None:
    """Return height and width as they are stored, before anything is turned; None where the header does not tell.

    Args:
        file: path of a picture, which may be damaged or none at all.
    """
    with (
        suppress(Exception),  # a damaged file may raise anything at all
        warnings.catch_warnings(),
        open(file, "rb") as stream,
    ):
        warnings.simplefilter("ignore")  # of what is odd about metadata
        named = format_of(file)
        kind = sniff(stream.read(HEAD)) or (named if named in NAMELESS else None)
        stream.seek(0)
        if kind:
            with open_image(file, stream, kind) as image:
                return image.height, image.width
    return None

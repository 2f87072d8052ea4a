"""Every form of picture that others write comes out as it went in, enlarged by a network that repeats pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_families import FAMILIES
from odd_pictures import Odd, visible
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import result_suffix
from esc_arch.pictures.reading import read_picture
from esc_arch.pictures.writing import check_target, write_picture
from esc_arch.upscale.network import load_enlarger
from esc_arch.upscale.pixels import enlarge_pixels

LIMIT = 10**6


class Nearest(nn.Module):
    """Repeats pixels."""

    upscaling_factor = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


ENLARGER = load_enlarger(Nearest())


def difference(odd: Odd, folder: Path) -> str:
    """Enlarge a picture from file to file; say what is wrong with the result, nothing if all is right."""
    source = folder / f"source{Path(odd.name).suffix}"
    source.write_bytes(odd.data)
    try:
        picture = read_picture(str(source), LIMIT)
        target = str(folder / f"target{result_suffix(source.suffix)}")
        check_target(target, picture, ENLARGER.scale)
        write_picture(target, replace(picture, pixels=enlarge_pixels(picture.pixels, ENLARGER, 64)))
        found = read_picture(target, LIMIT).pixels
    except UserError as error:
        return str(error).replace(str(folder), "")
    repeated = np.kron(found[::2, ::2], np.ones((2, 2, 1), int))
    off = 1 if target.endswith((".jpg", ".avif")) else 0
    if np.abs(repeated - found.astype(int)).max() > 20 * off:
        return "pixels are not repeated"
    small, whole = found[::2, ::2], np.iinfo(found.dtype).max
    if small.shape != odd.seen.shape:
        return f"{small.shape} instead of {odd.seen.shape}"
    step = (0.5 if small.shape[2] in (1, 3) else 1) / whole + 1e-6  # with alpha, two numbers are rounded
    far = np.abs(visible(small / whole) - visible(odd.seen)).max()
    return "" if far <= odd.off + 0.02 * off + step else f"off by {far:.4f}"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_seen_is_seen(family: str, tmp_path: Path) -> None:
    wrong = {odd.name: problem for odd in FAMILIES[family]() if (problem := difference(odd, tmp_path))}
    listed = "\n".join(f"{name}: {problem}" for name, problem in list(wrong.items())[:20])
    assert not wrong, f"{len(wrong)} pictures are wrong:\n{listed}"

"""The pictures that networks are shown: GT, from which LQ is made, or LQ itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from esc_arch.common.errors import UserError, printable

Array = np.ndarray[Any, np.dtype[Any]]
Box = tuple[int, int, int, int]  # left, top, width, height in pixels
OF_SKIMAGE = ("camera", "chelsea", "coffee")  # inside its wheel, none of them seen by the weights of the package
MAX_PIXELS = 100_000_000
_TRANSPARENT = "it has transparent pixels, whose colours are taken as if they were seen"


class Photograph:
    """A picture.

    Args:
        name: what it is called.
        pixels: (H, W, 3), RGB in [0, 1], float32; GT, or LQ where `is_lq`.
        is_lq: it is given to networks as it is.
    """

    def __init__(self, name: str, pixels: Array, is_lq: bool = False) -> None:
        self.name = name
        self.pixels = pixels
        self.is_lq = is_lq
        self._shrunk: dict[int, Array] = {}

    def gt(self, scale: int) -> Array | None:
        """Return GT (S * h, S * w, 3), cut to multiples of the scale S; None where there is none.

        Raises:
            UserError: it is smaller than a pixel of LQ.
        """
        if self.is_lq:
            return None
        height, width = (side // scale * scale for side in self.pixels.shape[:2])
        if min(height, width) < 1:
            raise UserError(f"{self.name} is smaller than {scale} x {scale} pixels; choose a larger picture.")
        return self.pixels[:height, :width]

    def lq(self, scale: int) -> Array:
        """Return LQ (h, w, 3): GT shrunk by MATLAB's bicubic and rounded to 8 bits, as benchmarks are made.

        Raises:
            UserError: GT is too small to be shrunk.
        """
        gt = self.gt(scale)
        if gt is None:
            return self.pixels
        if scale not in self._shrunk:
            from esc_arch.data.bicubic_dataset import shrink  # which imports BasicSR

            height, width = gt.shape[0] // scale, gt.shape[1] // scale
            try:
                self._shrunk[scale] = shrink(gt, height, width, scale).astype(np.float32)
            except RuntimeError as error:  # the border that BasicSR mirrors is wider than the picture
                raise UserError(
                    f"{self.name} has {gt.shape[1]} x {gt.shape[0]} pixels, too few to be shrunk {scale} times; choose "
                    "a larger picture."
                ) from error
        return self._shrunk[scale]


def read_photographs(files: Sequence[str] | None, is_lq: bool = False) -> list[Photograph]:
    """Read pictures, grey ones as RGB and without their alpha; what may be missed about them is told on standard error.

    Args:
        files: pictures, and folders of pictures; None for photographs that come with scikit-image.
        is_lq: they are LQ already.

    Raises:
        UserError: one cannot be read, or there are none.
    """
    if files is None:
        import skimage.data

        return [Photograph(name, _rgb(getattr(skimage.data, name)()), is_lq) for name in OF_SKIMAGE]
    from esc_arch.pictures.encoding import without_opaque_alpha
    from esc_arch.pictures.finding import Found
    from esc_arch.pictures.reading import read_picture

    found = Found()
    for file in files:
        if os.path.isdir(file):
            found.add_folder(file)
        else:
            found.add(file, os.path.basename(file))
    if found.problems:
        raise UserError(next(iter(found.problems.values())))
    if not found.pictures:
        raise UserError(f"--images: no picture is in {', '.join(files)}; name pictures or folders that hold some.")
    names = [os.path.splitext(os.path.basename(file))[0] for file, _ in found.pictures]
    photographs = []
    for name, (file, _) in zip(names, found.pictures, strict=True):
        picture = read_picture(file, MAX_PIXELS)
        transparent = without_opaque_alpha(picture.pixels).shape[2] in (2, 4)
        for note in (*picture.notes, *([_TRANSPARENT] if transparent else [])):
            print(f"Note: {printable(file)}: {printable(note)}", file=sys.stderr)
        photographs.append(Photograph(name if names.count(name) == 1 else file, _rgb(picture.pixels), is_lq))
    return photographs


def _rgb(pixels: Array) -> Array:
    """Turn (H, W) or (H, W, 1 to 4), uint8 or uint16, into (H, W, 3) in [0, 1]."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    colours = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
    return colours.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def central(lq: Array, side: int) -> Array:
    """Cut `side` x `side` pixels, or as many as there are, out of the middle of `lq` (h, w, 3); 0 leaves all."""
    for axis in (0, 1) if side else ():
        first = max(lq.shape[axis] - side, 0) // 2
        lq = np.take(lq, range(first, min(first + side, lq.shape[axis])), axis)
    return lq


def to_tensor(image: Array, device: torch.device | str = "cpu") -> torch.Tensor:
    """Turn (h, w, 3) into (1, 3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))[None].to(device)


def to_array(image: torch.Tensor) -> Array:
    """Turn (1, 3, h, w) into (h, w, 3)."""
    return image[0].detach().cpu().numpy().transpose(1, 2, 0)

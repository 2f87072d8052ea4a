"""Cuts result pictures to squares that one page can hold: the same square of every network, where they differ most."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from esc_arch.compare.pictures import Album, Pixels
from esc_arch.compare.runner import Plan

LARGEST, SMALLEST = 384, 96  # sides of a square
PIXELS = 8_000_000  # of all squares together: at most 32 MB of text, since PNG takes 3 bytes a pixel and base64 a third
LQ, GT = "LQ, pixels repeated", "GT"


@dataclass
class Scene:
    """An image of a data set, and what networks make of it.

    Attributes:
        title: data set, image and scale.
        scale: factor between LQ and results.
        album: where the files are.
        lq: file of the image.
        gt: file of the true one, None where there is none.
        results: networks and their files.
    """

    title: str
    scale: int
    album: Album
    lq: str | None
    gt: str | None
    results: list[tuple[str, str]] = field(default_factory=list)

    @property
    def files(self) -> list[tuple[str, str]]:
        """What pictures of the size of the results are called, and their files."""
        return [*self.results, *([(GT, self.gt)] if self.gt else [])]


def scenes(plan: Plan) -> list[Scene]:
    """Bring together what networks made of the same image, in the order of the networks."""
    found: dict[tuple[Any, ...], Scene] = {}
    for row in plan.rows:
        if not plan.pictures or not row.content or "" in row.problems or not row.is_scored:
            continue
        for name in row.sets:
            if name in row.problems:
                continue
            album = plan.album(row, name)
            for entry in album.entries():
                if "result" not in entry:
                    continue
                lq, gt = entry.get("lq"), entry.get("gt")
                title = f"{name}: {entry['name']}, x{row.scale}"
                scene = found.setdefault((title, lq, gt), Scene(title, row.scale, album, lq, gt))
                scene.results.append((row.title, entry["result"]))
    return list(found.values())


def embedded(found: list[Scene]) -> tuple[list[dict[str, Any]], int]:
    """Cut all scenes, as small as it takes for PIXELS.

    Args:
        found: the scenes; the last ones are left out where there are too many.

    Returns:
        for each scene `title`, `width`, `height` and `choices`, a list of `label`, `src` (a data URI) and `repeated`
        (pixels are to be repeated); and the side of the squares.

    Raises:
        UserError: a picture cannot be read.
    """
    counts = np.cumsum([len(scene.files) + 1 for scene in found])
    found = found[: int(np.searchsorted(counts, PIXELS // SMALLEST**2, side="right"))]
    pictures = int(counts[len(found) - 1]) if found else 1
    side = min(max(math.isqrt(PIXELS // pictures), SMALLEST), LARGEST)
    return [_cut(scene, side) for scene in found], side


def _cut(scene: Scene, side: int) -> dict[str, Any]:
    pictures = [(label, scene.album.pixels(file)) for label, file in scene.files]
    height, width = pictures[0][1].shape[:2]
    pictures = [(label, pixels) for label, pixels in pictures if pixels.shape[:2] == (height, width)]
    side -= side % scene.scale
    top, left = _most_different([pixels for _, pixels in pictures], side, scene.scale)
    choices = [
        {"label": label, "src": _uri(pixels[top : top + side, left : left + side]), "repeated": False}
        for label, pixels in pictures
    ]
    if scene.lq:
        step = scene.scale
        lq = scene.album.pixels(scene.lq)[top // step : (top + side) // step, left // step : (left + side) // step]
        choices.append({"label": LQ, "src": _uri(lq), "repeated": True})
    return {"title": scene.title, "width": min(side, width), "height": min(side, height), "choices": choices}


def _most_different(pictures: list[Pixels], side: int, step: int) -> tuple[int, int]:
    """Return the corner, in whole LQ pixels, of the square in which pictures differ most from each other."""
    import cv2

    height, width = pictures[0].shape[:2]
    total, squares = np.zeros((height, width)), np.zeros((height, width))
    for pixels in pictures:
        grey = (pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)).astype(np.float64)
        total += grey
        squares += grey * grey
    sums = cv2.integral(squares - total * total / len(pictures), sdepth=cv2.CV_64F)
    rows, columns = min(side, height), min(side, width)
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    inside = inside[::step, ::step]
    middle = (inside.shape[0] // 2, inside.shape[1] // 2)
    best = np.unravel_index(inside.argmax(), inside.shape) if inside.max() > 1e-3 else middle
    return int(best[0]) * step, int(best[1]) * step


def _uri(pixels: Pixels) -> str:
    import cv2

    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()

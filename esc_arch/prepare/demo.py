"""Makes a small data set of real photographs without a download, to try training and validation.

The photographs come inside the wheel of scikit-image. No scene is in both training and validation.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import skimage.data
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.prepare.benchmarks import prepare_benchmark
from esc_arch.prepare.training import prepare_training

_SCALES = (2, 3, 4)
_SIZE, _STEP = 240, 120


class Photograph(NamedTuple):
    """A function of `skimage.data`, and what to take from the image it returns.

    Attributes:
        function: name of the function.
        box: top, left, height and width of the part to take; None for all.
        which: index of the image to take, of a function that returns several.
    """

    function: str
    box: tuple[int, int, int, int] | None = None
    which: int | None = None


TRAINING = {
    "astronaut": Photograph("astronaut"),
    "brick": Photograph("brick"),
    "coins": Photograph("coins"),
    "grass": Photograph("grass"),
    "gravel": Photograph("gravel"),
    "hubble": Photograph("hubble_deep_field", box=(0, 0, 480, 480)),
    "ihc": Photograph("immunohistochemistry"),
    "motorcycle_left": Photograph("stereo_motorcycle", which=0),
    "motorcycle_right": Photograph("stereo_motorcycle", which=1),
    "rocket": Photograph("rocket"),
}

VALIDATION = {
    "camera": Photograph("camera", box=(40, 144, 288, 288)),
    "chelsea": Photograph("chelsea", box=(0, 84, 288, 288)),
    "coffee": Photograph("coffee", box=(24, 168, 288, 288)),
}


def prepare_demo(output: Path, workers: int | None = None) -> None:
    """Make OUTPUT/train_HR_sub.lmdb, OUTPUT/train_LR_bicubic_X{2,3,4}_sub.lmdb and OUTPUT/val.

    What is there already is verified and kept. Sub-images are 240 x 240 (fewer pixels per axis where a photograph is
    smaller than that), validation images 288 x 288.

    Args:
        output: folder of the data set, made when missing.
        workers: number of processes; None for one per CPU core.

    Raises:
        UserError: scikit-image lacks a photograph, or `output` holds something else already.
        OSError: writing failed.
    """
    output = Path(output)
    photographs = output / ".photographs"
    if photographs.exists():
        shutil.rmtree(photographs)
    try:
        for part, chosen in (("train", TRAINING), ("val", VALIDATION)):
            (photographs / part).mkdir(parents=True)
            for name, photograph in chosen.items():
                _read(photograph).save(photographs / part / f"{name}.png", compress_level=1)
        prepare_training([photographs / "train"], output, _SCALES, _SIZE, _STEP, workers, prefix="train_")
        prepare_benchmark(photographs / "val", "val", output, _SCALES, workers)
    finally:
        shutil.rmtree(photographs)


def _read(photograph: Photograph) -> Image.Image:
    try:
        pixels = getattr(skimage.data, photograph.function)()
    except Exception as error:  # a file that is missing raises what its downloader raises
        raise UserError(
            f"The installed scikit-image does not hold the photograph skimage.data.{photograph.function} "
            f"({str(error) or type(error).__name__}): reinstall scikit-image from its wheel."
        ) from error
    if photograph.which is not None:
        pixels = pixels[photograph.which]
    image = Image.fromarray(pixels)
    if photograph.box is None:
        return image
    top, left, height, width = photograph.box
    return image.crop((left, top, left + width, top + height))

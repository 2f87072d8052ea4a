"""Prepares validation data: HR images and their LR versions in the folders that the option files name."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esc_arch.common.ending import going_on_when_repeated
from esc_arch.common.errors import UserError, printable
from esc_arch.common.whole_files import sweep, try_folder
from esc_arch.prepare.alone import working_alone
from esc_arch.prepare.images import (
    check_names,
    crop_to_multiple,
    downscale,
    image_size,
    list_images,
    read_image,
    write_png,
)
from esc_arch.prepare.parallel import faults_in_words, run_parallel

_SUFFIXES = (r"_SRF_\d+_HR", r"_HR")
_LONGEST_NAME, _DIGEST = 255, 10  # bytes that file systems take, and those of them that tell long names apart


@dataclass(frozen=True)
class Pair:
    """An input image and the name it gets in the benchmark, without extension."""

    path: Path
    name: str


def prepare_benchmark(
    folder: Path, name: str, output: Path, scales: Sequence[int] = (2, 3, 4), workers: int | None = None
) -> None:
    """Make OUTPUT/NAME/HR/IMAGE.png and OUTPUT/NAME/LR_bicubic/X{scale}/IMAGEx{scale}.png from HR images.

    HR keeps all pixels; LR is made from HR cropped to a multiple of the scale, and BasicSR crops HR to LR x scale when
    it validates. Files that are there already are verified, never overwritten: HR must have the pixels of the input, LR
    the right size.

    Args:
        folder: holds HR images, and only those, directly in it; may be OUTPUT/NAME/HR itself. A `_HR` or `_SRF_2_HR` at
            the end of all names is dropped.
        name: name of the benchmark, such as Set5.
        output: folder of the benchmarks, made when missing.
        scales: LR is made for each of them.
        workers: number of processes; None for one per CPU core.

    Raises:
        UserError: an argument or an input image is at fault, or the benchmark holds something else already.
        OSError: reading or writing failed.
    """
    scales = sorted(set(scales))
    if not scales or scales[0] < 2:
        raise UserError(f"--scales must be whole numbers from 2 on, not {scales}.")
    if Path(name).name != name:
        raise UserError(f"--name {name!r} must be a single folder name, such as Set5.")
    root = Path(output) / name
    pairs, faults = _survey(Path(folder), scales)
    good = [pair for pair in pairs if pair.path not in faults]
    if not good:
        raise faults_in_words(list(faults.values()))
    expected = {root / "HR": {f"{pair.name}.png" for pair in pairs}}
    expected |= {_lq_folder(root, scale): {f"{pair.name}x{scale}.png" for pair in pairs} for scale in scales}
    for place, names in expected.items():
        try_folder(str(place))
        for extra in sorted({path.name for path in place.iterdir() if not path.name.startswith(".")} - names):
            raise UserError(f"{place / extra} does not belong to the images of {folder}: move or delete it.")
    for place in expected:
        sweep(place)
    make = functools.partial(_make, root=root, scales=scales)
    with working_alone(root), going_on_when_repeated():
        run_parallel(make, good, workers, name, list(faults.values()))
    print(f"{root}: verified, {len(pairs)} images, HR and LR x{', x'.join(map(str, scales))}")


def _lq_folder(root: Path, scale: int) -> Path:
    return root / "LR_bicubic" / f"X{scale}"


def _survey(folder: Path, scales: Sequence[int]) -> tuple[list[Pair], dict[Path, str]]:
    """Find the images and their names; and why those at fault cannot be used."""
    largest_scale = scales[-1]
    paths, faults = list_images(folder)
    for path in paths:
        if path.stem.endswith("_LR"):
            raise UserError(f"{path} looks like an LR image by its name: give a folder with HR images only.")
        if path in faults:
            continue
        try:
            if min(image_size(path)) < 2 * largest_scale:
                faults[path] = f"{printable(str(path))} is too small for scale {largest_scale}: remove it."
        except UserError as error:
            faults[path] = str(error)
    names = [path.stem for path in paths]
    for suffix in _SUFFIXES:
        stripped = [re.sub(rf"{suffix}$", "", name) for name in names]
        if all(short and short != name for short, name in zip(stripped, names, strict=True)):
            names = stripped
    room = _LONGEST_NAME - len(f"x{largest_scale}.png")
    names = [_shortened(name, room) for name in names]
    check_names(paths, names)
    return [Pair(path, name) for path, name in zip(paths, names, strict=True)], faults


def _shortened(name: str, room: int) -> str:
    """Cut a name to so many bytes, as a file system counts them, and tell it from others by a digest."""
    if len(os.fsencode(name)) <= room:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGEST]
    while len(os.fsencode(name)) > room - 1 - _DIGEST:
        name = name[:-1]
    return f"{name}_{digest}"


def _make(pair: Pair, root: Path, scales: Sequence[int]) -> list[str]:
    notes: list[str] = []
    image = read_image(pair.path, notes)
    gt = root / "HR" / f"{pair.name}.png"
    if not gt.exists():
        write_png(gt, image)
    if not np.array_equal(read_image(gt), image):
        raise UserError(f"{gt} has other pixels than {pair.path}: move or delete it.")
    for scale in scales:
        lq = _lq_folder(root, scale) / f"{pair.name}x{scale}.png"
        if not lq.exists():
            write_png(lq, downscale(crop_to_multiple(image, scale), scale))
        height, width = read_image(lq).shape[:2]
        if (height, width) != (image.shape[0] // scale, image.shape[1] // scale):
            raise UserError(
                f"{lq} is {height} x {width}, not {image.shape[0]} x {image.shape[1]} / {scale}: move or delete it."
            )
    return notes

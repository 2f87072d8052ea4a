"""Prepares training data: pairs of HR and LR sub-images in LMDB.

HR photographs are cropped to a common multiple of the scales, shrunk as a whole with MATLAB's bicubic, and HR and LR
are cut into the same sub-images, because reading a small sub-image is much faster than reading a whole photograph to
crop a patch from it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esc_arch.common.ending import going_on_when_repeated
from esc_arch.common.errors import UserError, printable
from esc_arch.common.whole_files import sweep, try_folder
from esc_arch.prepare.alone import working_alone
from esc_arch.prepare.databases import Shapes, lmdb_fault, write_lmdb
from esc_arch.prepare.images import (
    crop_to_multiple,
    downscale,
    image_size,
    is_whole_png,
    list_images,
    read_image,
    tile_positions,
    write_atomically,
    write_png,
)
from esc_arch.prepare.parallel import faults_in_words, run_parallel

_GIB = 2**30
_LONGEST_KEY = 200  # characters
_DIGEST = 10  # of them


@dataclass(frozen=True)
class Plan:
    """What is made of every image, and where.

    Attributes:
        output: folder of the dataset.
        scales: LR is made for each of them; none for HR alone.
        size: side of a sub-image in HR pixels, a multiple of all scales.
        step: distance between sub-images in HR pixels, a multiple of all scales.
        prefix: begins the name of every folder and LMDB.
    """

    output: Path
    scales: tuple[int, ...]
    size: int
    step: int
    prefix: str = ""

    def __post_init__(self) -> None:
        if any(scale < 2 for scale in self.scales):
            raise UserError(f"--scales must be whole numbers from 2 on, not {list(self.scales)}.")
        for name, value in (("--size", self.size), ("--step", self.step)):
            if value < 1 or value % self.multiple:
                raise UserError(
                    f"{name} {value} must be a multiple of {self.multiple}, so that sub-images fall on whole LR pixels "
                    f"at the scales {', '.join(map(str, self.scales))}."
                )
        if self.step > self.size:
            raise UserError(f"--step {self.step} must not exceed --size {self.size}: pixels between would be lost.")

    @property
    def multiple(self) -> int:
        """Least common multiple of the scales: HR sides and positions are multiples of it."""
        return math.lcm(*self.scales)

    @property
    def outputs(self) -> dict[str, int]:
        """Name of every folder of sub-images with the factor by which HR was shrunk (1 for HR itself)."""
        lq = {f"{self.prefix}LR_bicubic_X{scale}_sub": scale for scale in self.scales}
        return {f"{self.prefix}HR_sub": 1, **lq}

    @property
    def state(self) -> Path:
        """Folder with the marks of finished images; there while the folders of sub-images belong to a preparation."""
        return self.output / f".{self.prefix}prepare"

    def lmdb(self, name: str) -> Path:
        """Place of the LMDB of one of `outputs`."""
        return self.output / f"{name}.lmdb"


@dataclass(frozen=True)
class Source:
    """An input image: its path, the stem of its keys, and its HR size after cropping to the common multiple."""

    path: Path
    key: str
    height: int
    width: int

    def tiles(self, plan: Plan, factor: int = 1) -> dict[str, tuple[int, int, int, int]]:
        """Place the sub-images: top, left, height, width by key, in pixels of HR / factor."""
        height, width = min(plan.size, self.height), min(plan.size, self.width)
        corners = [
            (top, left)
            for top in tile_positions(self.height, plan.size, plan.step)
            for left in tile_positions(self.width, plan.size, plan.step)
        ]
        return {
            f"{self.key}_s{number:03d}": (top // factor, left // factor, height // factor, width // factor)
            for number, (top, left) in enumerate(corners, start=1)
        }

    def mark(self, outputs: Sequence[str]) -> dict[str, object]:
        """Describe the state of the file, to tell later whether sub-images were cut from the same."""
        stat = self.path.stat()
        return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "outputs": sorted(outputs)}


def prepare_training(
    inputs: Sequence[Path],
    output: Path,
    scales: Sequence[int] = (2, 3, 4),
    size: int = 480,
    step: int = 240,
    workers: int | None = None,
    keep_images: bool = False,
    prefix: str = "",
) -> None:
    """Make HR_sub.lmdb and LR_bicubic_X{scale}_sub.lmdb from folders of HR images.

    May be killed at any moment and started again: finished images and databases are kept. Nothing that was there
    before is overwritten.

    Args:
        inputs: folders with HR images directly in them.
        output: folder of the dataset, made when missing.
        scales: LR is made for each of them; none for HR alone.
        size: side of a sub-image in HR pixels; an image with a shorter side is kept whole along it.
        step: distance between sub-images in HR pixels.
        workers: number of processes; None for one per CPU core.
        keep_images: keep the sub-images as PNG besides the LMDB.
        prefix: begins the name of every folder and LMDB.

    Raises:
        UserError: an argument or an input image is at fault, or `output` holds something else already.
        OSError: reading or writing failed.
    """
    plan = Plan(Path(output), tuple(sorted(set(scales))), size, step, prefix)
    sources, faults = _survey([Path(folder) for folder in inputs], plan)
    if not sources:
        raise faults_in_words(faults)
    shapes = {name: _shapes(sources, plan, factor) for name, factor in plan.outputs.items()}
    pending = [name for name in plan.outputs if not plan.lmdb(name).exists()]
    for name in plan.outputs.keys() - set(pending):
        fault = lmdb_fault(plan.lmdb(name), shapes[name])
        if fault and faults:
            raise faults_in_words(faults)
        if fault:
            raise UserError(
                f"{plan.lmdb(name)} exists and does not belong to these inputs and settings ({fault}): move or delete "
                "it and run again."
            )
    if faults and not pending:
        raise faults_in_words(faults)
    if pending or plan.state.exists():
        try_folder(str(plan.output))
        with working_alone(plan.output), going_on_when_repeated():
            if pending:
                _make(plan, sources, shapes, pending, workers, faults)
            _tidy(plan, keep_images)
    for name in plan.outputs:
        _summarise(plan.lmdb(name), shapes[name], "made" if name in pending else "was there already")


def _make(
    plan: Plan,
    sources: list[Source],
    shapes: dict[str, Shapes],
    pending: list[str],
    workers: int | None,
    faults: list[str],
) -> None:
    """Cut the sub-images, and pack them where all inputs are without fault."""
    _claim(plan)
    _sweep(plan)
    _check_space(sources, plan, pending)
    run_parallel(functools.partial(_cut, plan=plan, outputs=pending), sources, workers, "Sub-images", faults)
    for name in pending:
        write_lmdb(plan.output / name, shapes[name], plan.lmdb(name))


def _survey(folders: list[Path], plan: Plan) -> tuple[list[Source], list[str]]:
    """Find the images that can be used; and why others cannot."""
    owners: dict[str, Path] = {}
    sources: list[Source] = []
    faults: list[str] = []
    for folder in folders:
        paths, problems = list_images(folder)
        faults += problems.values()
        for path in paths:
            key = _key(path.stem)
            if key in owners:
                raise UserError(
                    f"{printable(str(owners[key]))} and {printable(str(path))} would both be stored as {key}: rename "
                    "one of them, or leave it out."
                )
            owners[key] = path
            if path in problems:
                continue
            try:
                height, width = (side - side % plan.multiple for side in image_size(path))
            except UserError as error:
                faults.append(str(error))
                continue
            if min(height, width) < 2 * max(plan.scales, default=1):
                largest = max(plan.scales, default=1)
                faults.append(f"{printable(str(path))} is too small for scale {largest}: remove it.")
            else:
                sources.append(Source(path, key, height, width))
    return sources, faults


def _key(stem: str) -> str:
    """Spell a file name as LMDB key: BasicSR ends a key at the first dot and encodes it as ASCII.

    The key names a file while it is made, with the number of the sub-image behind it, and LMDB takes 511 bytes: a long
    one is cut, and a digest of the name tells it from others.
    """
    key = "".join(
        "_" if char == "." else char if char.isascii() and char.isprintable() else f"_u{ord(char):04x}" for char in stem
    )
    if len(key) <= _LONGEST_KEY:
        return key
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:_DIGEST]
    return f"{key[: _LONGEST_KEY - _DIGEST - 1]}_{digest}"


def _shapes(sources: list[Source], plan: Plan, factor: int) -> Shapes:
    return {key: box[2:] for source in sources for key, box in source.tiles(plan, factor).items()}


def _claim(plan: Plan) -> None:
    """Make the folders, unless they hold the work of somebody else or of other settings."""
    file = plan.state / "settings.json"
    settings = {"scales": list(plan.scales), "size": plan.size, "step": plan.step}
    if file.exists():
        unfinished = json.loads(file.read_text(encoding="utf-8"))
        if unfinished != settings:
            raise UserError(
                f"{plan.output} holds sub-images of a preparation with other settings ({unfinished}): use those, or "
                f"delete {plan.state} and the folders {', '.join(plan.outputs)} there."
            )
    for name in plan.outputs:
        if (plan.output / name).exists() and not file.exists():
            raise UserError(f"{plan.output / name} exists and was not made by this command: move or delete it.")
    (plan.state / "images").mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(settings).encode())
    for name in plan.outputs:
        (plan.output / name).mkdir(exist_ok=True)


def _check_space(sources: list[Source], plan: Plan, pending: list[str]) -> None:
    """Refuse to begin what cannot fit on the disk.

    The estimate takes the bytes per pixel of the inputs, at least 1 since PNG does not reach the rate of a JPEG.
    """
    shrunk = sum(1 / plan.outputs[name] ** 2 for name in pending)
    needed = 0.0
    for source in sources:
        rate = min(max(source.path.stat().st_size / (source.height * source.width), 1), 3)
        copies = 1 if _mark_file(plan, source).exists() else 2  # in the LMDB, and as PNG
        needed += copies * rate * shrunk * sum(h * w for _, _, h, w in source.tiles(plan).values())
    free = shutil.disk_usage(plan.output).free
    if free < 0.7 * needed:
        raise UserError(
            f"{plan.output} has {free / _GIB:.1f} GiB free and about {needed / _GIB:.1f} GiB are needed: make room or "
            "choose another --output."
        )


def _mark_file(plan: Plan, source: Source) -> Path:
    return plan.state / "images" / f"{source.key}.json"


def _cut(source: Source, plan: Plan, outputs: list[str]) -> list[str]:
    notes: list[str] = []
    if _is_done(source, plan, outputs):
        return notes
    mark = source.mark(outputs)
    image = crop_to_multiple(read_image(source.path, notes), plan.multiple)
    if image.shape[:2] != (source.height, source.width):
        raise UserError(f"{source.path} has another size than its header says: convert it to PNG or remove it.")
    for name in outputs:
        factor = plan.outputs[name]
        whole = image if factor == 1 else downscale(image, factor)
        for key, (top, left, height, width) in source.tiles(plan, factor).items():
            write_png(plan.output / name / f"{key}.png", whole[top : top + height, left : left + width])
    write_atomically(_mark_file(plan, source), json.dumps(mark).encode())
    return notes


def _is_done(source: Source, plan: Plan, outputs: list[str]) -> bool:
    try:
        mark = json.loads(_mark_file(plan, source).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = mark == source.mark(mark["outputs"]) and set(outputs) <= set(mark["outputs"])
    return same and all(
        is_whole_png(plan.output / name / f"{key}.png", height, width)
        for name in outputs
        for key, (_, _, height, width) in source.tiles(plan, plan.outputs[name]).items()
    )


def _tidy(plan: Plan, keep_images: bool) -> None:
    for name in plan.outputs:
        if not keep_images and (plan.output / name).exists():
            shutil.rmtree(plan.output / name)
    if not keep_images:
        shutil.rmtree(plan.state)


def _sweep(plan: Plan) -> None:
    for folder in (*(plan.output / name for name in plan.outputs), plan.state, plan.state / "images"):
        sweep(folder)


def _summarise(path: Path, shapes: Shapes, origin: str) -> None:
    sides = [side for shape in shapes.values() for side in shape]
    size = (path / "data.mdb").stat().st_size / _GIB
    print(f"{path}: {origin}, verified, {len(shapes)} images, {size:.3f} GiB, sides {min(sides)} to {max(sides)} px")

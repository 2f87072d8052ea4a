"""Pairs are compared by what they show: their sizes agree too where LQ is turned, or that of another image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from esc_arch.checks import remembered
from esc_arch.checks.data import check_dataset
from esc_arch.checks.likeness import check_likeness, thumbnail
from esc_arch.common.errors import UserError

Options = dict[str, Any]
Pixels = np.ndarray[Any, Any]
SIDE = 48  # of GT


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "cache_folder", lambda: str(tmp_path / "cache"))


def scene(seed: int) -> Pixels:
    """Smooth colours, BGR."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def shrunk(image: Pixels) -> Pixels:
    return cv2.resize(image, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)


def section(root: Path, change: Callable[[Pixels], Pixels] = lambda lq: lq, count: int = 4, **changed: Any) -> Options:
    """A data set of pairs at scale 2, of which the LQ of the first is changed."""
    for index in range(count):
        for folder, image in (("gt", scene(index)), ("lq", shrunk(scene(index)))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = change(image) if folder == "lq" and not index else image
            assert cv2.imwrite(str(root / folder / f"p{index}.png"), image)
    return {
        "name": "pairs", "type": "PairedImageDataset", "phase": "train", "scale": 2, "gt_size": 32,
        "dataroot_gt": str(root / "gt"), "dataroot_lq": str(root / "lq"), "io_backend": {"type": "disk"},
        "use_hflip": True, "use_rot": True, **changed,
    }  # fmt: skip


def degraded(lq: Pixels) -> Pixels:
    """Blur, noise, compression and another exposure."""
    noise = np.random.default_rng(0).normal(0, 25, lq.shape)
    noisy = np.clip(cv2.GaussianBlur(lq, (0, 0), 1.5) * 0.6 + noise, 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)


TURNS: dict[str, Callable[[Pixels], Pixels]] = {
    "mirrored": lambda lq: lq[:, ::-1],
    "upside down": lambda lq: lq[::-1],
    "half a turn": lambda lq: np.rot90(lq, 2),
    "a quarter": lambda lq: np.rot90(lq),
    "transposed": lambda lq: lq.transpose(1, 0, 2),
    "turned, and red for blue": lambda lq: np.rot90(lq)[..., ::-1],
}


@pytest.mark.parametrize("phase", ["train", "val"])
@pytest.mark.parametrize("turn", TURNS)
def test_lq_that_is_turned(tmp_path: Path, turn: str, phase: str) -> None:
    with pytest.raises(UserError, match=r"^x: LQ is turned or mirrored against its GT: \S*lq/p0\.png; make it of GT"):
        check_dataset(section(tmp_path, TURNS[turn], phase=phase), "x")


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("made_of", ["what OpenCV reads", "the file as it lies"])
def test_photographs_that_exif_turns(tmp_path: Path, orientation: int, made_of: str) -> None:
    options = section(tmp_path)
    photograph = Image.fromarray(scene(9)[..., ::-1].copy())
    exif = photograph.getexif()
    exif[0x0112] = orientation
    photograph.save(tmp_path / "gt/photo.jpg", quality=95, exif=exif)
    flag = cv2.IMREAD_COLOR if made_of == "what OpenCV reads" else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    gt = cv2.imread(str(tmp_path / "gt/photo.jpg"), flag)
    assert cv2.imwrite(str(tmp_path / "lq/photo.jpg"), shrunk(gt))
    if made_of == "what OpenCV reads":
        assert check_dataset(options, "x").notes == []
    else:
        with pytest.raises(UserError, match=r"turned or mirrored against its GT: \S*lq/photo\.jpg"):
            check_dataset(options, "x")


def test_red_for_blue(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^x: LQ has red and blue exchanged against its GT: \S*p0\.png; write both"):
        check_dataset(section(tmp_path, lambda lq: lq[..., ::-1]), "x")


def test_lq_of_another_image(tmp_path: Path) -> None:
    options = section(tmp_path)
    first, second = tmp_path / "lq/p1.png", tmp_path / "lq/p2.png"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    words = r"another image: \S*lq/p1\.png shows what \S*gt/p2\.png does and not \S*gt/p1\.png, \S*lq/p2\.png shows"
    with pytest.raises(UserError, match=words):
        check_dataset(options, "x")


@pytest.mark.parametrize("change", [lambda lq: shrunk(scene(99)), lambda lq: 255 - lq])
def test_what_hardly_resembles_gt_is_told(tmp_path: Path, change: Callable[[Pixels], Pixels]) -> None:
    """Without another image that it resembles this may be a degradation of any kind."""
    (note,) = check_dataset(section(tmp_path, change), "x").notes
    assert note == f"x: 1 of 4 LQ hardly resemble GT: {tmp_path}/lq/p0.png; look whether they are pairs."


HARMLESS: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda lq: lq,
    "degraded": degraded,
    "darker": lambda lq: lq // 4,
    "grey": lambda lq: cv2.cvtColor(cv2.cvtColor(lq, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    "every second pixel": lambda lq: scene(0)[::2, ::2],
    "shifted": lambda lq: np.roll(lq, 1, axis=1),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_degradations_need_no_word(tmp_path: Path, kind: str) -> None:
    assert check_dataset(section(tmp_path, HARMLESS[kind]), "x").notes == []


def test_images_that_show_nothing_are_not_judged() -> None:
    flat = np.full((SIDE, SIDE, 3), 100, np.uint8)
    noise = np.random.default_rng(0).integers(99, 102, flat.shape).astype(np.uint8)
    small = scene(1)[:6, :6]
    symmetric = np.concatenate([half := scene(2)[:, : SIDE // 2], half[:, ::-1]], axis=1)
    pairs = [(flat, noise), (scene(0), flat), (scene(0), small), (symmetric, shrunk(symmetric)[:, ::-1])]
    assert check_likeness((("gt", "lq", thumbnail(gt), thumbnail(lq)) for gt, lq in pairs), "x") == []


def test_what_is_remembered_is_compared_again(tmp_path: Path) -> None:
    """The second start decodes nothing, but pairs may be named otherwise."""
    options = section(tmp_path)
    assert check_dataset(options, "x").notes == []
    for name in ("p0.png", "p1.png"):
        (tmp_path / "lq" / name).rename(tmp_path / f"other_{name}")
    (tmp_path / "other_p0.png").rename(tmp_path / "lq/p1.png")
    (tmp_path / "other_p1.png").rename(tmp_path / "lq/p0.png")
    for _ in range(2):
        with pytest.raises(UserError, match="paired with the GT of another image"):
            check_dataset(options, "x")


def test_databases(tmp_path: Path) -> None:
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    options = section(tmp_path, TURNS["half a turn"], io_backend={"type": "lmdb"})
    for folder in ("gt", "lq"):
        names = sorted(file.name for file in (tmp_path / folder).iterdir())
        keys = [name.removesuffix(".png") for name in names]
        make_lmdb_from_imgs(str(tmp_path / folder), str(tmp_path / f"{folder}.lmdb"), names, keys)
        options[f"dataroot_{folder}"] = str(tmp_path / f"{folder}.lmdb")
    with pytest.raises(UserError, match=r"turned or mirrored against its GT: p0 of dataroot_lq; make it"):
        check_dataset(options, "x")


def test_it_can_be_left_out(tmp_path: Path) -> None:
    assert check_dataset(section(tmp_path, TURNS["mirrored"]), "x", decode=False).notes == []


def test_many_that_do_not_resemble_gt_are_told_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data that are so, not all are compared with all others."""
    monkeypatch.setattr("esc_arch.checks.likeness.JUDGED", 3)
    images = [thumbnail(scene(index)) for index in range(20)]
    pairs = [(f"gt{index}", f"lq{index}", image, images[10 + index]) for index, image in enumerate(images[:10])]
    (note,) = check_likeness(pairs, "x")
    assert note == "x: 10 of 10 LQ hardly resemble GT: lq0, lq1, lq2 and 7 more; look whether they are pairs."


def in_other_light(image: Pixels) -> Pixels:
    """Darker from left to right, as all pictures of this data set are."""
    return (shrunk(image) * np.linspace(0, 1, SIDE // 2)[None, :, None]).astype(np.uint8)


def test_data_that_are_far_from_gt_are_not_refused_for_a_chance_likeness() -> None:
    """Among many pictures of other light or place some resemble another, or themselves mirrored."""
    images = [scene(index) for index in range(6)]
    pairs = [
        (f"gt{index}", f"lq{index}", thumbnail(gt), thumbnail(in_other_light(gt))) for index, gt in enumerate(images)
    ]
    by_chance = [("gt6", "lq6", thumbnail(images[0][:, ::-1].copy()), thumbnail(images[0]))]
    with pytest.raises(UserError, match=r"^x: LQ is turned or mirrored against its GT: lq6; make it"):
        check_likeness(by_chance, "x")
    first, *_ = check_likeness([*pairs, *by_chance], "x")
    assert first == "x: LQ is turned or mirrored against its GT, as it seems: lq6; look whether they are pairs."
    good = [(gt, lq, same, same) for gt, lq, same, _ in pairs]
    with pytest.raises(UserError, match=r"turned or mirrored against its GT: lq6; make it"):
        check_likeness([*good, *by_chance], "x")

"""What testing and validation write: every result under a name of its own, and failures in a sentence."""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import train_here

from esc_arch import test as esc_test
from esc_arch.bridge.mends import results
from esc_arch.common.lock import Lock

Options = dict[str, Any]
Run = Callable[[Options], tuple[int, str]]


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Test in this process below an empty folder; returns the exit code and what was printed."""

    def call(opt: Options, *arguments: str) -> tuple[int, str]:
        from basicsr.utils.logger import initialized_logger

        initialized_logger.clear()
        logging.getLogger("basicsr").handlers.clear()
        (folder / "test.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
        monkeypatch.setattr(sys, "argv", ["test", "-opt", "test.yml", *arguments])
        code = 0
        try:
            esc_test.main()
        except SystemExit as end:
            code = int(end.code or 0)
        text = "".join(capfd.readouterr())
        assert "Traceback" not in text
        return code, text

    return call


@pytest.fixture
def pictures(options: Options, tiny_data: Path, folder: Path) -> Options:
    """Options that test on one pair in folders of its own and save the results."""
    for kind, name in (("gt", "HR"), ("lq", "LR")):
        shutil.copytree(tiny_data / "val" / name, folder / "A" / name)
        options["datasets"]["test_1"][f"dataroot_{kind}"] = str(folder / "A" / name)
    options["val"]["save_img"] = True
    return options


def saved(folder: Path, top: str = "results") -> dict[str, bytes]:
    return {str(file.relative_to(folder / top)): file.read_bytes() for file in (folder / top).rglob("*.png")}


def turned(source: Path, target: Path) -> None:
    """Write an image upside down, so that its result is another one."""
    import cv2

    target.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(target), cv2.flip(cv2.imread(str(source)), -1))


def test_images_that_differ_in_their_suffix(run: Run, pictures: Options, folder: Path) -> None:
    for kind, name in (("HR", "p0"), ("LR", "p0x2")):
        turned(folder / f"A/{kind}/{name}.png", folder / f"A/{kind}/{name}.bmp")
    code, text = run(pictures)
    assert code == 0
    found = saved(folder)
    assert set(found) == {f"tiny/visualization/tiny/p0x2{number}_tiny.png" for number in ("", "_2")}
    assert len(set(found.values())) == 2
    assert text.count("Results of images that share their names are numbered: that of") == 1


def test_images_of_one_name_in_several_roots(run: Run, pictures: Options, folder: Path) -> None:
    section = pictures["datasets"]["test_1"]
    for kind, name in (("gt", "HR/p0.png"), ("lq", "LR/p0x2.png")):
        turned(folder / "A" / name, folder / "B" / name)
        root = f"dataroot_{kind}"
        section[root] = [section[root], section[root].replace("/A/", "/B/")]
    assert run(pictures)[0] == 0
    assert len(set(saved(folder).values())) == 2


def test_two_validation_sets_of_the_same_names(tiny_options: Options, tiny_data: Path, folder: Path) -> None:
    """BasicSR names results of a validation by image and iteration alone."""
    for name in ("HR/p0.png", "LR/p0x2.png"):
        turned(tiny_data / "val" / name, folder / "B" / name)
    first = tiny_options["datasets"]["val_1"]
    second = {**first, "name": "other", "dataroot_gt": str(folder / "B/HR"), "dataroot_lq": str(folder / "B/LR")}
    tiny_options["datasets"]["val_2"] = second
    tiny_options["val"]["save_img"] = True
    tiny_options["logger"]["use_tb_logger"] = False
    assert train_here(folder, tiny_options) == 0
    found = saved(folder, "experiments/tiny/visualization")
    assert set(found) == {f"{name}/{name}_{iteration}.png" for name in ("p0x2", "p0x2_2") for iteration in (2, 4)}
    assert len(set(found.values())) == 4


def test_names_of_their_own_are_left_alone(run: Run, pictures: Options, folder: Path) -> None:
    assert "numbered" not in run(pictures)[1]
    assert set(saved(folder)) == {"tiny/visualization/tiny/p0x2_tiny.png"}


@contextmanager
def full(file: str) -> Iterator[Any]:
    """Stand in for `replacing` on a disk that is full."""
    from esc_arch.common.whole_files import cannot_write

    raise cannot_write(file, OSError(errno.ENOSPC, "No space left on device"))
    yield


def test_a_full_disk(run: Run, pictures: Options, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "replacing", full)
    code, text = run(pictures)
    assert code == 1
    last = text.splitlines()[-1]
    assert "p0x2_tiny.png cannot be written: the disk at" in last
    assert "is full (No space left on device)" in last
    assert not saved(folder)


def test_a_full_disk_in_validation(
    tiny_options: Options, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "replacing", full)
    tiny_options["val"]["save_img"] = True
    tiny_options["logger"]["use_tb_logger"] = False
    assert train_here(folder, tiny_options) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert "p0x2_2.png cannot be written: the disk at" in last
    assert "in the validation of iteration 2 of 4; the newest whole checkpoint is" in last


def test_memory_that_does_not_suffice(run: Run, pictures: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    from basicsr.models.sr_model import SRModel

    def no_memory(self: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(SRModel, "test", no_memory)
    code, text = run(pictures)
    assert code == 1
    assert "Error: out of memory in the test on tiny: set tile: {tile_size: 256, tile_pad: 32}" in text


def test_an_image_that_is_damaged(run: Run, pictures: Options, folder: Path) -> None:
    file = folder / "A/LR/p0x2.png"
    file.write_bytes(file.read_bytes()[:200])
    code, text = run(pictures, "--skip_data_check")
    assert code == 1
    assert f"{file} cannot be read (it is no image, or damaged); repair or remove it, and test again." in text


def test_results_of_an_earlier_test_stay_where_a_test_cannot_start(
    run: Run, pictures: Options, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(pictures)[0] == 0
    before = saved(folder)
    from esc_arch.models.esc_model import ESCModel

    def refuse(self: Any, opt: Options) -> None:
        raise TypeError("not this one")

    monkeypatch.setattr(ESCModel, "__init__", refuse)
    code, text = run(pictures)
    assert code == 1
    assert "this run cannot be built (not this one)" in text
    assert saved(folder) == before
    assert [path.name for path in (folder / "results").iterdir()] == ["tiny"]


def test_a_file_in_the_way(run: Run, pictures: Options, folder: Path) -> None:
    (folder / "results").write_text("no folder")
    code, text = run(pictures)
    assert code == 1
    assert f"{folder}/results is in the way: it must be a folder" in text


def test_a_second_test_of_the_name_is_refused(
    run: Run, pictures: Options, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lock, "holder", lambda self: "process 1 on here")
    code, text = run(pictures)
    assert code == 1
    assert "a test of the name tiny runs already (process 1 on here)" in text
    assert not (folder / "results").exists()

"""What a comparison has measured is used again as long as all is as it was: options, checkpoints, and the data too."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import compare, networks, write
from conftest import randomise

from esc_arch.archs import ESCRIB
from esc_arch.compare.record import state_of
from esc_arch.weights.recorded import entry_of, record_of

Options = dict[str, Any]
SCORES = ["--scores-only", "--device", "cpu", "--output", "out", "--pictures", "0"]
RIB = {"dim": 16, "pdim": 4, "n_blocks": 1, "conv_blocks": 1, "num_heads": 2, "rank": 4, "rib_hidden_dim": 8}


@pytest.fixture
def of_rib(options: Options, tiny_data: Path, folder: Path) -> Options:
    """A test of a network whose window no weight tells, on a copy of the data."""
    shutil.copytree(tiny_data / "val", folder / "val")
    network = randomise(ESCRIB(**RIB, window_size=16))
    torch.save({"params": network.state_dict(), **entry_of(record_of(network))}, folder / "w.pth")
    section = {
        **options["datasets"]["test_1"],
        "dataroot_gt": str(folder / "val/HR"),
        "dataroot_lq": str(folder / "val/LR"),
    }
    return {
        **{key: options[key] for key in ("name", "model_type", "scale", "num_gpu", "val")},
        "datasets": {"test_1": section},
        "network_g": {"type": "ESCRIB", **RIB, "window_size": 16},
        "path": {"pretrain_network_g": str(folder / "w.pth")},
    }


def test_changed_data_are_scored_again(of_rib: Options, folder: Path) -> None:
    file = write("a.yml", of_rib)

    def scored() -> tuple[float, int]:
        assert compare(file, *SCORES) == 0
        (values,) = networks()["a"]["quality"].values()
        return values["psnr"], len(Path("out/results.jsonl").read_text().splitlines())

    first, lines = scored()
    assert scored() == (first, lines)
    image = next((folder / "val/HR").iterdir())
    other = folder / "val/HR" / f"q{image.suffix}"
    shutil.copy(image, other)
    lq = next((folder / "val/LR").iterdir())
    shutil.copy(lq, folder / "val/LR" / lq.name.replace("p0", "q"))
    second, more = scored()
    assert more == lines + 1  # the same images twice
    assert second == pytest.approx(first)
    for copied in (other, folder / "val/LR" / lq.name.replace("p0", "q")):
        copied.unlink()
    os.utime(image, ns=(0, 0))
    assert scored() == (pytest.approx(first), lines + 2)


def test_changed_tiles_are_scored_again(of_rib: Options) -> None:
    found = []
    for tile in ({"tile_size": 8, "tile_pad": 0}, {"tile_size": 8, "tile_pad": 4}):
        assert compare(write("a.yml", of_rib, tile=tile), *SCORES) == 0
        found += [values["psnr"] for values in networks()["a"]["quality"].values()]
    assert found[0] != found[1]


def test_other_arguments_than_those_of_the_training_are_noted(of_rib: Options) -> None:
    other = copy.deepcopy(of_rib)
    other["network_g"]["window_size"] = 8
    assert compare(write("a.yml", of_rib), write("b.yml", other), *SCORES) == 0
    assert networks()["a"]["remark"] == ""
    assert networks()["b"]["remark"] == "trained with window_size 16 and not 8"
    assert all(set(values) == {"psnr", "ssim", "images"} for values in networks()["b"]["quality"].values())


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file more": lambda root: (root / "gt/b.png").write_bytes(b"b"),
    "a file less": lambda root: (root / "gt/a.png").unlink(),
    "other content": lambda root: (root / "gt/a.png").write_bytes(b"other"),
    "content of the same length": lambda root: os.utime(root / "gt/a.png", ns=(0, 5)),
    "another name": lambda root: (root / "gt/a.png").rename(root / "gt/c.png"),
    "a list": lambda root: (root / "list.txt").write_text("b.png"),
    "a clip": lambda root: (root / "gt/deep/d.png").write_bytes(b"b"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_files_shows(tmp_path: Path, change: str) -> None:
    (tmp_path / "gt/deep").mkdir(parents=True)
    (tmp_path / "gt/a.png").write_bytes(b"a")
    (tmp_path / "list.txt").write_text("a.png")
    dataset = {"dataroot_gt": [str(tmp_path / "gt")], "meta_info_file": str(tmp_path / "list.txt"), "name": "x"}
    before = state_of(dataset)
    (tmp_path / "gt/lock.mdb").write_bytes(b"1")
    assert state_of(dataset) == before == state_of({**dataset, "name": "y"})
    CHANGES[change](tmp_path)
    assert state_of(dataset) != before

"""One word for the paper's table: which option files it stands for, for which output, and what becomes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import compare, networks
from conftest import OPTIONS

import esc_arch
from esc_arch.checks.network_file import read_network_file, scale_of
from esc_arch.common.errors import UserError
from esc_arch.compare import paper_files
from esc_arch.compare.__main__ import _input_size, _parse
from esc_arch.compare.paper_files import with_paper
from esc_arch.compare.published import NETWORKS, named


def test_all_rows_at_every_scale() -> None:
    files = with_paper([], True)
    table = [network for network in NETWORKS if network.in_table]
    assert len(table) == 14
    expected = [(scale, network.type) for scale in (2, 3, 4) for network in table]
    contents = [(file, read_network_file(file)) for file in files]
    assert [(scale_of(file, content), content["network_g"]["type"]) for file, content in contents] == expected


def test_further_files_come_after_it_and_none_twice() -> None:
    own = str(OPTIONS / "test_ESC_x3.yml")
    files = with_paper(["mine.yml", own], True)
    assert files[-2:] == ["mine.yml", own]
    assert len(files) == 41 + 2
    assert with_paper(["mine.yml"], False) == ["mine.yml"]


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as it runs from a checkout, wherever the tested one is installed."""
    monkeypatch.setattr(esc_arch, "__file__", str(OPTIONS.parent / "esc_arch" / "__init__.py"))


@pytest.mark.usefixtures("checkout")
def test_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert all(os.path.isfile(file) for file in with_paper([], True))
    (tmp_path / "options" / "peers").mkdir(parents=True)
    with pytest.raises(UserError, match=r"--paper: .*peers/test_RCAN_x2\.yml is not there"):
        with_paper([], True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--paper"], "--paper: there is no folder options/ with the option files of esc_arch here; run this in"),
        ([], "there is nothing to compare; name option files, or give --paper"),
    ],
)
def test_without_files(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(esc_arch, "__file__", str(tmp_path / "site-packages" / "esc_arch" / "__init__.py"))
    assert compare(*arguments) == 1
    assert words in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_output_size() -> None:
    def sizes(*arguments: str, device: str) -> list[tuple[int, int]]:
        return [_input_size(_parse([*arguments]), scale, device) for scale in (2, 3, 4)]

    assert sizes("--paper", device="cpu") == [(128, 128), (86, 86), (64, 64)]
    assert sizes("--paper", device="cuda") == sizes("a.yml", device="cpu") == [(360, 640), (240, 427), (180, 320)]
    assert sizes("--paper", "--output-size", "48x24", device="cpu") == [(12, 24), (8, 16), (6, 12)]
    assert sizes("--paper", "--size", "9x8", device="cpu") == [(9, 8)] * 3


@pytest.mark.usefixtures("checkout")
def test_ratios_stand_beside_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With three networks, one of which needs a package that is not there: the others are measured."""
    monkeypatch.chdir(tmp_path)
    Path("without.py").write_text("import sys\nsys.modules['spandrel'] = None\n")
    some = [named(name) for name in ("ATD-light", "ESC-light", "ESC")]
    monkeypatch.setattr(paper_files, "NETWORKS", some)
    monkeypatch.setattr(paper_files, "SCALES", (4,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    few = ["--size", "8x8", "--rounds", "1", "--repeats", "1", "--warmup", "0", "--output", "out"]
    assert compare("--paper", *few, "--import", "without") == 1
    lines: dict[str, Any] = networks()
    assert "ATD comes from the package spandrel" in lines["ATD_light_x4"]["problems"]["parameters"]
    ratios = lines["ESC_light_x4"]["relative_to_esc"]
    assert ratios["paper_latency"] == pytest.approx(13.3 / 21.9)
    latencies = [lines[name]["latency_ms"]["median"] for name in ("ESC_light_x4", "ESC_x4")]
    assert ratios["latency"] == pytest.approx(latencies[0] / latencies[1])
    out = capsys.readouterr().out
    assert "Relative to ESC" in out
    assert "another input (8 x 8 at x4)" in out

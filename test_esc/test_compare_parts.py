"""Parts of the comparison: counting, tables, pictures."""

from __future__ import annotations

import ast
import csv
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from torch import nn

import esc_arch
from esc_arch.archs import ESC, ESCFP
from esc_arch.common import machine
from esc_arch.compare import flops, plot, table
from esc_arch.compare.__main__ import _input_size, _parse
from esc_arch.compare.options import read_rows
from esc_arch.layers.attentive_state_space import AttentiveStateSpace
from esc_arch.layers.ss2d import SS2D

VARIANTS: dict[str, Any] = {
    "ESC": lambda scale: ESC(upscaling_factor=scale),
    "ESC-light": lambda scale: ESC(n_blocks=3, upscaling_factor=scale),
    "ESC-FP": lambda scale: ESCFP(upscaling_factor=scale),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_macs_of_the_published_configurations(variant: str, official_counts: dict[str, Any]) -> None:
    size = official_counts["flops_input_height_width"]["x4"]
    macs = flops.count_macs(VARIANTS[variant](4), *size)
    assert macs == pytest.approx(official_counts["flops"][variant]["x4"], rel=0.01)


class Mixed(nn.Module):
    """Operators that PyTorch's counter leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.GroupNorm(2, 8),
            nn.AvgPool2d(2),
        )
        self.norm = nn.LayerNorm(8)
        self.plain = nn.LayerNorm(8, elementwise_affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(self.norm(self.body(x).permute(0, 2, 3, 1)))


@pytest.mark.parametrize("network", [lambda: ESC(**TINY, use_ln=True, attn_type="Naive"), Mixed], ids=["ESC", "mixed"])
def test_macs_agree_with_fvcore(network: Any) -> None:
    fvcore = pytest.importorskip("fvcore.nn")
    analysis = fvcore.FlopCountAnalysis(network().eval(), torch.rand(1, 3, 32, 40))
    expected = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert flops.count_macs(network(), 32, 40) == pytest.approx(expected, rel=0.002)


def test_macs_of_a_network_that_reads_values() -> None:
    """It cannot run on the meta device; there the CPU's fused attention is counted, too."""

    class Reader(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x * float(x.max())
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert flops.count_macs(Reader(), 16, 8) == 2 * 3 * 16 * 16 * 8


def test_macs_of_scans_by_hand() -> None:
    """Per pixel: the maps of the layers, five for each normalised element, and two for each state of each channel."""
    four = 3 * 10 + 9 * 5 + 4 * 5 * (1 + 2 * 7) + 4 * 1 * 5 + 2 * 4 * 5 * 7 + 5 * 5 + 5 * 3
    assert flops.count_macs(SS2D(3, states=7, expand=5 / 3), 6, 10) == 6 * 10 * four

    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = AttentiveStateSpace(3, 5, states=7, num_tokens=4, rank=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x, torch.ones(2, 7, device=x.device))

    one = 3 * 1 + 1 * 4 + 3 * 5 + 9 * 5 + 5 * (1 + 2 * 7) + 1 * 5 + 2 * 5 * 7 + 5 * 5 + 5 * 3
    prompts = 4 * 2 * 7
    assert flops.count_macs(Attentive(), 6, 10) == 6 * 10 * one + prompts


def test_macs_of_a_scan_where_the_meta_device_does_not_serve() -> None:
    class Reader(SS2D):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * float(x.max()))

    network = Reader(3, states=7, expand=5 / 3)
    with torch.no_grad():
        expected = network(torch.ones(1, 3, 6, 10))
        assert flops.count_macs(network, 6, 10) == flops.count_macs(SS2D(3, states=7, expand=5 / 3), 6, 10)
        assert torch.equal(network(torch.ones(1, 3, 6, 10)), expected), "scans are computed again afterwards"


def test_input_size() -> None:
    assert _input_size(_parse(["a.yml"]), 4) == (180, 320)
    assert _input_size(_parse(["a.yml"]), 3) == (240, 427), "rounded up"
    assert _input_size(_parse(["a.yml", "--output-size", "100x60"]), 2) == (30, 50)
    assert _input_size(_parse(["a.yml", "--size", "30x50"]), 2) == (30, 50)


def test_weights_of_a_training_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("start.pth").touch()
    text = "name: run\nscale: 2\nnetwork_g: {type: ESC}\ntrain: {}\npath: {pretrain_network_g: start.pth}\n"
    Path("train_a.yml").write_text(text)
    row = read_rows(["train_a.yml"], [], None)[0]
    assert row.label == "a"
    assert row.weights is None, "what training starts from is not its result"
    trained = Path("experiments/run/models/net_g_latest.pth")
    trained.parent.mkdir(parents=True)
    trained.touch()
    assert read_rows(["train_a.yml"], [], None)[0].weights == str(trained)
    assert read_rows(["train_a.yml"], ["train_a.yml=other.pth"], None)[0].weights == "other.pth"


def test_sets_are_chosen_by_name(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text(
        "network_g: {type: ESC, upscaling_factor: 2}\n"
        "datasets: {train: {name: T}, val_1: {name: Set5}, val_2: {name: Set14}}\n"
    )
    assert list(read_rows([str(file)], [], None)[0].sets) == ["Set5", "Set14"]
    row = read_rows([str(file)], [], ["Set14", "B100"])[0]
    assert row.sets["Set14"]["phase"] == "val"
    assert "no validation or test set named B100" in row.problems["B100"]


def line(label: str, **more: Any) -> dict[str, Any]:
    """A measured network, as it stands in the JSON file."""
    latency = {"median": 12.5, "q1": 12.0, "q3": 13.25, "rounds": []}
    return {
        "label": label,
        "file": f"{label}.yml",
        "type": "ESC",
        "scale": 2,
        "dtype": "fp32",
        "sets": ["Set5"],
        "quality": {"Set5": {"psnr": 33.6781, "ssim": 0.93041}},
        "problems": {},
        "remark": "",
        "parameters": 946728,
        "macs": 591_983_033_600,
        "latency_ms": latency,
        "memory_mib": 204.6,
        **more,
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    failed = line("b", quality={}, problems={"speed": "out of memory.", "Set5": "x | y."})
    for figure in ("latency_ms", "memory_mib"):
        del failed[figure]
    return {
        "environment": machine.describe("cpu", 2),
        "protocol": {"input": {"x2": [360, 640], "x4": [180, 320]}},
        "conventions": ["MACs: so."],
        "networks": [line("a"), failed],
        "claims": [],
    }


def test_tables(summary: dict[str, Any]) -> None:
    rows = table.markdown(summary).splitlines()
    head = ["network", "scale", "params (K)", "MACs (G)", "latency (ms)", "quartiles", "memory (MiB)"]
    assert rows[0] == "| " + " | ".join([*head, "Set5 PSNR", "SSIM", "note"]) + " |"
    assert rows[2] == "| a | x2 | 946.7 | 591.98 | 12.5 | 12.0 - 13.2 | 205 | 33.678 | 0.9304 |  |"
    note = "speed: out of memory. Set5: x \\| y."
    assert rows[3] == f"| b | x2 | 946.7 | 591.98 | failed | failed | failed | failed | failed | {note} |"
    assert "- MACs: so." in rows
    assert f"torch {torch.__version__}" in rows[-1]

    first, second = csv.DictReader(io.StringIO(table.comma_separated(summary)))
    assert (first["macs"], first["latency_q3_ms"], first["psnr_Set5"]) == ("591983033600", "13.25", "33.6781")
    assert (second["latency_median_ms"], second["psnr_Set5"]) == ("", "")
    assert second["note"] == "speed: out of memory. Set5: x | y."

    lines = table.terminal(summary).splitlines()
    assert len({len(text[: text.index("x2")]) for text in lines[1:3]}) == 1, "columns are aligned"
    assert max(map(len, lines[:3])) < 200


def test_picture_for_every_scale(summary: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    slow = line("c", quality={"Set5": {"psnr": 34.0, "ssim": 0.9}}, memory_mib=None)
    slow["latency_ms"] = {"median": 500.0, "q1": 480.0, "q3": 530.0}
    bicubic = line("bicubic x2", quality={"Set5": {"psnr": 20.0, "ssim": 0.5}})
    del bicubic["latency_ms"]
    summary["networks"] += [slow, bicubic, line("d", scale=4, quality={})]
    assert plot.draw(summary, str(tmp_path)) == [str(tmp_path / "psnr_latency_x2.png")]
    with Image.open(tmp_path / "psnr_latency_x2.png") as picture:
        assert picture.size == (1480, 880)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50
    assert not plot.draw(summary, str(tmp_path), "Urban100"), "no network has this data set"


def test_picture_without_matplotlib(summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match=r"pip install 'esc_arch\[compare\]'"):
        plot.draw(summary, str(tmp_path))


def test_nothing_else_imports_the_comparison() -> None:
    package = Path(esc_arch.__file__).parent
    for file in package.rglob("*.py"):
        if file.parent.name == "compare":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("esc_arch.compare") for name in names), file

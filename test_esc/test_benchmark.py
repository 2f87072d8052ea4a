"""The benchmark runs, checks that all ways agree, and names what it cannot measure."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from esc_arch.benchmark.__main__ import main
from esc_arch.fast import kernels
from esc_arch.fast.speedups import Speedups


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--device", "cpu", "--rounds", "1", "--blocks", "1", *arguments])
    main()


def test_inference_compares_every_switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    call(monkeypatch, "inference", "--sizes", "20x33", "--output", str(report))
    rows = re.findall(r"^\| ([a-z_, ]+) \| \d+ \| [\d.]+ \| (\S+) \|$", report.read_text(), re.MULTILINE)
    names = [name for name, _ in rows]
    assert names[:3] == ["plain", "all", "plain, fused attention"]
    assert names[3:] == [f"all but {field.name}" for field in dataclasses.fields(Speedups)]
    assert all(float(difference) <= 1e-5 for _, difference in rows)
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]


def test_parts_training_and_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(
        monkeypatch, "parts", "training", "memory", "precision",
        *("--sizes", "32x32", "--memory-size", "32x48", "--patch", "8", "--batch", "2"),
    )  # fmt: skip
    out = capsys.readouterr().out
    assert "GFLOP/s" in out
    assert re.search(r"^\| attention \| 1 \|", out, re.MULTILINE)  # once a block, of which there is one here
    assert len(re.findall(r"^\| whole network \| 1 \| [\d.]+ \| [\d.]+ \| \d+% \|$", out, re.MULTILINE)) == 1
    assert "| training step, 2 x 8 x 8 | ms | plain / this |" in out
    assert re.search(r"^\| all \| \d+ \| [\d.]+ \|$", out, re.MULTILINE)
    assert ("| all, bf16 |" in out) == kernels.has_bf16()
    fp32 = re.findall(r"^\| ESC\S* \| (\S+) \| \S+ \| \S+ \|$", out, re.MULTILINE)
    assert len(fp32) == 3
    assert all(float(difference) <= 1e-5 for difference in fp32)


def test_files_are_enlarged_in_three_ways(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "files", "--files", "3x8", "2x16")
    out = capsys.readouterr().out
    assert "| one after the other | overlapped | computing alone | gain |" in out
    assert re.findall(r"^\| (.*?)(?: \| [\d.e+]+){4} \|$", out, re.MULTILINE) == ["3 of 8 x 8", "2 of 16 x 16"]


def test_scan_in_chunks_beside_the_loop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "scan", "--sizes", "7x9", "10x10", "--patch", "6", "--batch", "2")
    rows = re.findall(r"^\| (.*) \| \d+ \| \d+ \| [\d.]+ \| (\S+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert [title for title, _ in rows] == ["7 x 9", "10 x 10", "2 x 6 x 6, with gradients"]
    assert all(float(difference) <= 1e-5 for _, difference in rows)


def test_cost_of_a_pixel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "cost", "--sides", "32", "64", "32")
    out = capsys.readouterr().out
    rows = re.findall(r"^\| (\d+) x \1 \| \d+ \| [\d.]+ \| ([\d.]+) \|$", out, re.MULTILINE)
    assert [side for side, _ in rows] == ["32", "64"]
    assert min(float(ratio) for _, ratio in rows) == 1


def test_runtimes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them compute the same; as it comes, OpenVINO may round."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    call(monkeypatch, "cost", "--sides", "32", "--runtimes", "--sizes", "32x40")
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^\| (.+) \| \d+ \| [\d.]+ \| (\S+) \|$", out.partition("| runtimes,")[2], re.MULTILINE))
    rounded = [name for name in rows if "bf16" in name]
    assert next(iter(rows)) == "this package, fp32"
    assert sum(name.startswith(("onnxruntime", "OpenVINO")) for name in rows) == 3
    assert all(float(rows[name]) <= (0.05 if name in rounded else 1e-4) for name in rows)


def test_runtimes_that_are_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        call(monkeypatch, "cost", "--runtimes")
    assert "pip install 'esc_arch[" in capsys.readouterr().err


def test_prints_what_it_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    call(monkeypatch, "parts", "precision", "--sizes", "16x16", "24x24", "--output", str(report))
    out = capsys.readouterr().out
    assert out == report.read_text()
    assert [size in out for size in ("part, 16 x 16", "part, 24 x 24", "fp32, 16 x 16")] == [True] * 3


@pytest.mark.parametrize(
    ("arguments", "message"), [(["speed"], "speed is nothing to measure"), (["--device", "cuda"], "--device: cuda")]
)
def test_mistakes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, *arguments)
    assert end.value.code == 1
    assert message in capsys.readouterr().err

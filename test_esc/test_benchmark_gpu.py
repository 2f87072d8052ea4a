"""The command for a GPU runs from end to end without one: every case, the claims, the tests, both reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from esc_arch.benchmark import gpu, gpu_cases
from esc_arch.benchmark.__main__ import main
from esc_arch.benchmark.gpu_cases import Case
from esc_arch.common.claims import FAIL, OPEN, PASS

TINY = {"dim": 16, "pdim": 4, "n_blocks": 1, "conv_blocks": 1, "window_size": 16, "num_heads": 1}
TINY_PEER = {"depths": [1], "embed_dim": 16, "num_heads": [2], "mlp_ratio": 2}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Small networks, and one test in the place of all."""
    for name, network in gpu_cases.NETWORKS.items():
        monkeypatch.setitem(gpu_cases.NETWORKS, name, network | (TINY if name.startswith("ESC") else TINY_PEER))
    monkeypatch.setattr(gpu_cases, "SCALES", (2,))
    monkeypatch.setattr(gpu_cases, "DTYPES", ("bf16",))
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # takes longer than all cases, once pytest is loaded
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_one.py").write_text("import pytest\n\n@pytest.mark.gpu\ndef test_one(): pass\n")
    monkeypatch.setattr(gpu, "TESTS", tests)
    return tmp_path / "out" / "report.md"


def call(monkeypatch: pytest.MonkeyPatch, report: Path, *arguments: str) -> None:
    tiny = "--output-size", "48x48", "--patch", "8", "--batch", "1", "--rounds", "1", "--output", str(report)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--gpu", "--device", "cpu", *tiny, *arguments])
    main()


def test_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small: Path) -> None:
    call(monkeypatch, small)
    report = json.loads(small.with_suffix(".json").read_text())
    cases = [case for section in report["sections"] for case in section["cases"]]
    assert {case["network"] for case in cases} == set(gpu_cases.NETWORKS)
    for case in cases:
        if case["mode"] == "CUDA graph":
            assert case["problem"] == "it needs a GPU"
        else:
            assert not case["problem"], case
            assert case["ms"] > 0
    combined = {(case["network"], case["scale"], case["dtype"]) for case in report["sections"][-1]["cases"]}
    assert len(combined) == 5
    tried = {claim["dtype"] for claim in report["claims"] if claim["verdict"] in (PASS, FAIL)}
    assert tried == {"bf16", "fp32"}  # of fp32 there are training steps
    assert {claim["claimed"] for claim in report["claims"]} >= {3.7, 6.2, 16.0, 12.2, 2.0}
    assert report["tests"]["verdict"] == PASS
    markdown = small.read_text()
    assert markdown in capsys.readouterr().out
    assert all(section["title"] in markdown for section in report["sections"])


def test_what_there_is_no_time_for_is_named(monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    setting = gpu.Setting("cpu", (32, 32), 8, 1, 1, minutes=0)
    monkeypatch.setattr(gpu, "_tests", lambda seconds: {"verdict": OPEN, "said": ""})
    report = gpu.measure_all(setting, {})
    assert {case["problem"] for part in report["sections"] for case in part["cases"]} == {"left out: the time was up"}
    assert {claim["verdict"] for claim in report["claims"]} == {OPEN}
    assert "left out" in gpu.markdown(report)


def test_a_case_that_fails_is_a_line_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore about it")

    monkeypatch.setattr(gpu, "runner", out_of_memory)
    found = gpu.measure(Case("ESC", 2, "fp32"), gpu.Setting("cpu", (32, 32), 8, 1, 1, 1))
    assert found == {"ms": None, "mib": None, "problem": "CUDA out of memory."}


@pytest.mark.parametrize(("text", "verdict"), [("assert True", PASS), ("assert False", FAIL), ("pytest.skip()", OPEN)])
def test_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, verdict: str) -> None:
    (tmp_path / "test_one.py").write_text(f"import pytest\n\n@pytest.mark.gpu\ndef test_one(): {text}\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--durations=3 -v")
    monkeypatch.setattr(gpu, "TESTS", tmp_path)
    assert gpu._tests(60)["verdict"] == verdict
    monkeypatch.setattr(gpu, "TESTS", tmp_path / "nowhere")
    assert gpu._tests(60)["verdict"] == OPEN

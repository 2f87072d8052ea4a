"""Rows that onnxruntime and OpenVINO compute: beside PyTorch's, compared with it, and never a crash."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import QUICK, compare, entries, networks, write

from esc_arch.compare.options import Row
from esc_arch.compare.runtimes import fill_zeros, verdict
from esc_arch.graphs import runtimes

Options = dict[str, Any]

STUBBORN = '''
"""A network that cannot be traced: which way it goes depends on the values of the image."""
import torch
from basicsr.utils.registry import ARCH_REGISTRY

class Stubborn(torch.nn.Module):
    def __init__(self, upscaling_factor=2):
        super().__init__()
    def forward(self, x):
        if float(x.sum()) > 1e9:
            return x
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

ARCH_REGISTRY.register(Stubborn)
'''


def test_a_row_for_every_runtime(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnxruntime", "openvino", "onnxscript"):
        pytest.importorskip(package)
    Path("stubborn.py").write_text(STUBBORN)
    cannot = write("cannot.yml", options, network_g={"type": "Stubborn"}, path={}, datasets={})
    # weights of the option file are compared, and what has none is not left at zero
    files = [write("a.yml", options), write("b.yml", options, path={}), cannot]
    asked = ["--runtime", "pytorch", "onnxruntime", "openvino", "--dtype", "fp32", "bf16"]
    assert compare(*files, *asked, *QUICK, "--import", "stubborn") == 1
    rows = networks()
    for name in ("a", "b"):
        there = {line["runtime"] for line in rows.values() if line["label"].startswith(name)}
        assert there == {"pytorch", "onnxruntime", "openvino"}
    speed = [entry["label"] for entry in entries() if entry["task"] == "speed" and "values" in entry]
    fp32 = ["a", "a (onnxruntime)", "a (OpenVINO)", "b", "b (onnxruntime)", "b (OpenVINO)"]
    assert [label for label in speed if label in fp32] == [*fp32, *reversed(fp32)], "they take turns"
    lines = json.loads(Path("out/comparison.json").read_text())
    for line in lines["networks"]:
        runtime, dtype = line["runtime"], line["dtype"]
        if (runtime, dtype) == ("onnxruntime", "bf16"):
            assert line["remark"] == "onnxruntime does not compute in bf16 on a CPU"
            assert "latency_ms" not in line
        elif line["type"] == "Stubborn" and runtime != "pytorch":
            assert line["problems"]["speed"].startswith("Stubborn does not export to ONNX (")
        elif runtime != "pytorch":
            assert not line["problems"]
            assert line["latency_ms"]["median"] > 0
            assert not line["quality"]
            if dtype == "fp32":
                assert line["difference"] < 1e-5
                assert line["remark"].startswith("same output as PyTorch's to ")
    assert any("as it comes, it takes bf16" in sentence for sentence in lines["conventions"])
    assert not Path("out/graphs").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_a_difference_is_told() -> None:
    row = Row("a", "a.yml", dtype="fp32", runtime="openvino")

    def said(*differences: float, computed_in: str = "fp32") -> str:
        return verdict(row, [{"difference": value, "computed_in": computed_in} for value in differences])

    assert said(0.0, 9.9e-5) == "same output as PyTorch's to 9.9e-05 of its range"
    assert said(1.1e-4, 0.0) == "the output differs from PyTorch's by 1.1e-04 of its range, more than 1e-04"
    assert "not of numbers" in said(0.0, math.nan)
    assert said(0.0, computed_in="bf16").startswith("computed in bf16, as the processor has no fp32; same output")


def test_what_starts_at_zero_is_compared_too() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1))
    torch.nn.init.zeros_(network[1].weight)
    first = network[0].weight.clone()
    fill_zeros(network)
    assert network[1].weight.abs().min() > 0
    assert torch.equal(network[0].weight, first)


@pytest.mark.parametrize(("runtime", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_runtime_that_is_missing(
    runtime: str,
    extra: str,
    options: Options,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == runtime else found("json"))
    with pytest.raises(ValueError, match=f"{runtime} is not installed"):
        runtimes.require_runtime(runtime)
    assert compare(write("a.yml", options), "--runtime", "pytorch", runtime, *QUICK) == 1
    told = capsys.readouterr().err
    assert f"--runtime: {runtime} is not installed; run pip install 'esc_arch[{extra}]'" in told
    assert told.count("\n") == 1
    assert not Path("out").exists()


def test_what_runtimes_are_not_for(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("a.yml", options)
    assert compare(file, "--runtime", "openvino", "--scores-only", *QUICK) == 1
    assert "--scores-only leaves timing out" in capsys.readouterr().err

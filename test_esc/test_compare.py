"""The comparison as a whole: processes, rounds, continuing, scores and mistakes."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import QUICK, compare, entries, networks, write
from conftest import TINY

from esc_arch.archs import ESC
from esc_arch.compare import runner

Options = dict[str, Any]


def test_networks_take_turns_and_all_is_written(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write("test_a.yml", options), write("b.yml", options, path={})]
    assert compare(*files, *QUICK, "--threads", "1", "--dtype", "bf16") == 0
    assert [(e["label"].removesuffix(" bf16"), e["round"]) for e in entries() if e["task"] == "speed"] == [
        ("a", 0),
        ("b", 0),
        ("b", 1),
        ("a", 1),
    ]
    a, b = networks()["a"], networks()["b"]
    assert a["parameters"] == sum(p.numel() for p in ESC(**TINY, upscaling_factor=2).parameters())
    assert a["macs"] == b["macs"] > 0
    assert [len(times) for times in a["latency_ms"]["rounds"]] == [2, 2]
    assert a["latency_ms"]["q1"] <= a["latency_ms"]["median"] <= a["latency_ms"]["q3"]
    assert a["input"] == [12, 20]
    assert a["quality"]["tiny"]["images"] == 1
    assert not b["quality"]
    assert "path:pretrain_network_g is empty" in b["remark"]
    written = json.loads(Path("out/comparison.json").read_text())
    assert written["protocol"]["dtypes"] == ["bf16"]
    assert written["environment"]["threads"] == 1
    out = capsys.readouterr().out
    assert re.search(r"^a +x2 +15\.1 ", out, re.M)
    assert "multiply-accumulates" in out
    table = list(csv.DictReader(Path("out/comparison.csv").read_text().splitlines()))
    assert float(table[0]["psnr_tiny"]) == a["quality"]["tiny"]["psnr"]
    assert table[1]["psnr_tiny"] == ""
    assert "| a | x2 |" in Path("out/comparison.md").read_text()


def test_interrupted_comparison_goes_on(options: Options) -> None:
    file = write("a.yml", options)
    assert compare(file, *QUICK) == 0
    results = Path("out/results.jsonl")
    whole = results.read_text()
    assert compare(file, *QUICK) == 0
    assert results.read_text() == whole, "nothing was left to do"

    results.write_text(whole[: -len(whole.splitlines()[-1]) // 2])
    assert compare(file, *QUICK) == 0
    lines = results.read_text().splitlines()
    assert json.loads(lines[-1])["task"] == "tiny", "the entry cut in the middle is measured again"
    assert len(lines) == len(whole.splitlines()) + 1

    def tasks_added(*arguments: str) -> list[str]:
        before = results.read_text().count("\n")
        assert compare(*arguments) == 0
        return [json.loads(line)["task"] for line in results.read_text().splitlines()[before:]]

    assert tasks_added(file, *QUICK, "--rounds", "3") == ["speed"]
    assert tasks_added(file, *QUICK, "--repeats", "3") == ["speed", "speed"]
    write("a.yml", options, network_g={**options["network_g"], "conv_blocks": 1}, path={})
    assert tasks_added(file, *QUICK) == ["parameters", "speed", "macs", "speed"]


def test_interrupt(options: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("a.yml", options)
    with monkeypatch.context() as patch:

        def interrupted(*args: Any) -> list[str]:
            raise KeyboardInterrupt

        patch.setattr(runner, "_run_process", interrupted)
        assert compare(file, *QUICK) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not Path("out/comparison.json").exists()
    assert compare(file, *QUICK, "--sets", "tiny", "Set5") == 1
    assert networks()["a"]["quality"].keys() == {"tiny"}
    assert list(networks()["a"]["problems"]) == ["Set5"]


def test_bicubic_scores_are_those_of_the_definition(options: Options, tiny_data: Path) -> None:
    assert compare(write("a.yml", options), *QUICK, "--rounds", "1", "--bicubic") == 0
    scores = networks()["bicubic x2"]["quality"]["tiny"]
    lq, gt = (_read(tiny_data / "val" / part) for part in ("LR/p0x2.png", "HR/p0.png"))
    enlarged = _enlarge(_enlarge(lq, 0), 1).clip(0, 255).round()
    sr, hr = (_luma(image)[2:-2, 2:-2] for image in (enlarged, gt))
    assert scores["psnr"] == pytest.approx(10 * np.log10(255**2 / ((sr - hr) ** 2).mean()), abs=0.01)
    assert scores["ssim"] == pytest.approx(_ssim(sr, hr), abs=0.0005)
    assert "latency_ms" not in networks()["bicubic x2"]


@pytest.mark.skipif("ESC_ARCH_BENCHMARKS" not in os.environ, reason="ESC_ARCH_BENCHMARKS names no folder with Set5")
@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.678, 0.9304), (3, 30.404, 0.8690), (4, 28.431, 0.8113)])
def test_bicubic_on_set5(scale: int, psnr: float, ssim: float, folder: Path) -> None:
    root = Path(os.environ["ESC_ARCH_BENCHMARKS"]) / "Set5"
    dataset = {
        "name": "Set5",
        "type": "PairedImageDataset",
        "dataroot_gt": str(root / "HR"),
        "dataroot_lq": str(root / "LR_bicubic" / f"X{scale}"),
        "filename_tmpl": f"{{}}x{scale}",
        "io_backend": {"type": "disk"},
    }
    network = {"type": "Bicubic", "upscaling_factor": scale}
    file = write("bicubic.yml", {"scale": scale, "network_g": network, "datasets": {"test": dataset}})
    assert compare(file, *QUICK, "--rounds", "1") == 0
    scores = networks()["bicubic"]["quality"]["Set5"]
    assert scores["psnr"] == pytest.approx(psnr, abs=0.01)
    assert scores["ssim"] == pytest.approx(ssim, abs=0.0005)


def _read(file: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB"), dtype=np.float64)


def _enlarge(image: np.ndarray, axis: int) -> np.ndarray:
    """Double one side by Keys' cubic convolution (a = -1/2) on an image mirrored at its borders."""
    size = image.shape[axis]
    position = (np.arange(2 * size) + 0.5) / 2 - 0.5
    left = np.floor(position).astype(int)
    result = 0.0
    for tap in range(-1, 3):
        index = left + tap
        t = np.abs(position - index)
        weight = np.where(t <= 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
        index = np.where(index < 0, -index - 1, np.where(index >= size, 2 * size - 1 - index, index))
        result = result + np.moveaxis(np.take(image, index, axis), axis, -1) * weight
    return np.moveaxis(result, -1, axis)


def _luma(image: np.ndarray) -> np.ndarray:
    """BT.601 luma of RGB in [0, 255]."""
    return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM with a Gaussian of 11 x 11 and standard deviation 1.5, where it fits (Wang et al., 2004)."""
    profile = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(profile, profile) / profile.sum() ** 2

    def mean(x: np.ndarray) -> np.ndarray:
        return np.einsum("ijkl,kl->ij", np.lib.stride_tricks.sliding_window_view(x, (11, 11)), window)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def test_several_dtypes_in_one_run(options: Options) -> None:
    file = write("a.yml", options)
    assert compare(file, *QUICK, "--rounds", "1", "--dtype", "fp32", "bf16", "--claims") == 0
    lines = json.loads(Path("out/comparison.json").read_text())["networks"]
    assert [line["dtype"] for line in lines] == ["fp32", "bf16"]
    assert all("latency_ms" in line and line["quality"] for line in lines)
    assert lines[0]["quality"] != lines[1]["quality"]
    assert [e["task"] for e in entries()].count("macs") == 1, "the dtype does not change it"
    text = Path("out/comparison.md").read_text()
    assert "### x2, bf16" in text
    assert "| not measured |" in text


SLEEPER = """
import time
import torch
from basicsr.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class Sleeper(torch.nn.Upsample):
    def __init__(self, upscaling_factor):
        super().__init__(scale_factor=upscaling_factor)

    def forward(self, x):
        if not x.is_meta:
            time.sleep(0.5)
        return super().forward(x)
"""


def test_time_of_the_processor(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that only waits, as one does whose processor others have, takes no time of its own."""
    Path("sleeper.py").write_text(SLEEPER)
    file = write("a.yml", options, network_g={"type": "Sleeper", "upscaling_factor": 2}, path={})
    few = ["--rounds", "1", "--repeats", "1", "--threads", "1", "--import", "sleeper"]
    assert compare(file, *QUICK, *few) == 0
    assert networks()["a"]["latency_ms"]["median"] >= 500
    assert compare(file, *QUICK, *few, "--cpu-time") == 0
    assert networks()["a"]["latency_ms"]["median"] < 500
    assert ", 1 thread), as the time for which it had the processor, in rounds" in capsys.readouterr().out


def test_scores_only(options: Options) -> None:
    assert compare(write("a.yml", options), *QUICK, "--scores-only", "--bicubic") == 0
    assert {entry["task"] for entry in entries()} == {"parameters", "tiny"}
    assert networks().keys() == {"bicubic x2", "a"}

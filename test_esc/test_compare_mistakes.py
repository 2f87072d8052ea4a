"""What a comparison cannot measure: one sentence in its row, while the others go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import QUICK, compare, entries, networks, write
from conftest import TINY

from esc_arch.archs import ESC, HiT_SRF
from esc_arch.compare.options import TIMED, read_rows

Options = dict[str, Any]

CRASHES = '''
"""Networks that do not survive, to be imported by the measuring process."""
import os, signal, torch
from basicsr.utils.registry import ARCH_REGISTRY

class Crash(torch.nn.Module):
    def __init__(self, how, upscaling_factor=2):
        super().__init__()
        self.how = how
    def forward(self, x):
        if x.is_meta:
            raise RuntimeError("not on meta")
        if self.how == "exit":
            os._exit(3)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "memory":
            raise MemoryError
        raise RuntimeError("no such size")

ARCH_REGISTRY.register(Crash)
'''


def test_crash_becomes_a_cell(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    Path("crashes.py").write_text(CRASHES)
    endings = {"exit": "exit code 3", "kill": "SIGKILL", "memory": "out of memory", "size": "input of 12 x 20"}
    files = [write(f"{how}.yml", options, network_g={"type": "Crash", "how": how}, path={}) for how in endings]
    assert compare(*files, write("good.yml", options), *QUICK, "--import", "crashes") == 1
    err = capsys.readouterr().err
    for how, words in endings.items():
        line = networks()[how]
        assert words in line["problems"]["speed"]
        assert line["problems"]["speed"] in err
        assert "latency_ms" not in line
        assert line["parameters"] == 0
    assert "latency_ms" in networks()["good"]
    assert networks()["good"]["quality"]["tiny"]["psnr"] > 0
    attempts = [e for e in entries() if e["task"] == "speed" and e["label"] == "kill"]
    assert len(attempts) == 1, "a network that crashed is not tried in further rounds"


@pytest.mark.parametrize("name", TIMED)
def test_sets_cannot_be_named_as_other_figures(name: str, options: Options) -> None:
    """The set would be taken for the figure, and not be scored."""
    dataset = {**next(iter(options["datasets"].values())), "name": name}
    row = read_rows([write("mine.yml", options, datasets={"test_1": dataset})], [], None)[0]
    assert f"{name!r} is what compare calls its own figures" in row.problems[""]


def test_mistakes_stay_in_their_line(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"params": ESC(**TINY, upscaling_factor=4).state_dict()}, "x4.pth")
    torch.save({"params": ESC(**{**TINY, "n_blocks": 2}, upscaling_factor=2).state_dict()}, "other.pth")
    dataset = options["datasets"]["test_1"]
    torch.save({"params": HiT_SRF(depths=[1], num_heads=[1], embed_dim=16).state_dict()}, "hit.pth")
    expected: dict[str, tuple[str, str]] = {}

    def expect(name: str, task: str, words: str, **changes: Any) -> None:
        expected[write(name, options, **changes)] = task, words

    network = options["network_g"]
    expect("scale.yml", "tiny", "x4.pth does not fit ESC x2", path={"pretrain_network_g": "x4.pth"})
    loose = {"pretrain_network_g": "x4.pth", "strict_load_g": False}
    expect("loose.yml", "tiny", "x4.pth does not fit ESC x2", path=loose)
    hit = {"pretrain_network_g": "hit.pth", "strict_load_g": False}
    expect("hit.yml", "tiny", "hit.pth does not fit ESC x2: nothing in it has the name and shape", path=hit)
    expect("other.yml", "tiny", "other.pth does not fit ESC x2", path={"pretrain_network_g": "other.pth"})
    expect("pairs.yml", "tiny", "do not pair at scale 4", scale=4, network_g={**network, "upscaling_factor": 4})
    expect("unknown.yml", "parameters", "'ESCC' is unknown", network_g={"type": "ESCC", "upscaling_factor": 2})
    expect("without.yml", "", "without.yml has no section network_g", network_g=None)
    expect("factor.yml", "speed", "scale is 3, but the network enlarges 12 x 20 to 24 x 40", scale=3, datasets={})
    expect("data.yml", "tiny", "no does not exist", datasets={"test": {**dataset, "dataroot_gt": "no"}})
    expected["missing.yml"] = "", "missing.yml cannot be read"
    good = write("good.yml", options)
    assert compare(*expected, good, *QUICK, "--rounds", "1", "--weights", "pairs.yml=x4.pth") == 1
    err = capsys.readouterr().err
    for file, (task, words) in expected.items():
        line = networks()[file.removesuffix(".yml")]
        assert list(line["problems"]) == [task], line["problems"]
        assert words in line["problems"][task]
        assert line["problems"][task] in err
        assert line["problems"][task].replace("|", "\\|") in Path("out/comparison.md").read_text()
    assert networks()["good"]["problems"] == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.yml", "--device", "cuda"], "PyTorch sees no GPU"),
        (["a.yml", "a.yml"], "a.yml is given twice"),
        (["a.yml", "--cpu-time"], "--cpu-time: it is of one thread of PyTorch on a CPU; add --device cpu --threads 1"),
        (["a.yml", "--cpu-time", "--threads", "1", "--runtime", "onnxruntime"], "--cpu-time: it is of one thread"),
        (["a.yml", "--weights", "b.yml=x.pth"], "--weights: 'b.yml=x.pth'"),
    ],
)
def test_arguments_that_cannot_work(
    arguments: list[str],
    words: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compare(*arguments) == 1
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not os.listdir(folder)


def test_package_that_is_missing(options: Options) -> None:
    Path("without.py").write_text("import sys\nsys.modules['spandrel'] = None\n")
    missing = write("hat.yml", options, network_g={"type": "HAT", "upscale": 2}, path={})
    assert compare(missing, write("good.yml", options), *QUICK, "--rounds", "1", "--import", "without") == 1
    problem = networks()["hat"]["problems"]["parameters"]
    assert "the package spandrel, which is not installed" in problem
    assert "pip install 'esc_arch[peers]'" in problem
    assert "latency_ms" in networks()["good"]

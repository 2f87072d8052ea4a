"""The examples of README and docs run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, randomise
from PIL import Image

from esc_arch.archs import ESC
from esc_arch.weights import write_weights

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)]


def example(word: str) -> str:
    return next(text for text in EXAMPLES if word in text)


def test_upscale_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_weights("ESC_x2_published.pth", randomise(ESC(**TINY)).state_dict())
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save("photo.png")
    names: dict[str, Any] = {}
    exec(example("upscale_image"), names)
    assert names["enlarged"].shape == (18, 24, 3)


def test_weights_in_the_wrapping_of_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example("mine.ckpt"), names)
    loaded = names["network"].state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in names["weights"].items())


def test_conv_attn_in_a_network_of_ones_own() -> None:
    names: dict[str, Any] = {}
    exec(example("new_large_kernel"), names)
    assert names["x"].shape == names["y"].shape == (2, 64, 48, 48)


def test_train_with_ones_own_option_file(tmp_path: Path, tiny_options: dict[str, Any]) -> None:
    (tmp_path / "my_train.py").write_text(example("train_pipeline"))
    (tmp_path / "my_options.yml").write_text(yaml.safe_dump(tiny_options))
    command = [sys.executable, "my_train.py", "-opt", "my_options.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "experiments/tiny/models/net_g_latest.pth").is_file()

"""Helpers of the tests that look into networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import TINY
from PIL import Image

pytest.importorskip("matplotlib")
pytest.importorskip("captum")

from esc_arch.analyze.__main__ import main

Options = dict[str, Any]
TINY_ESC: Options = {"type": "ESC", **TINY, "upscaling_factor": 2}
TINY_SWIN: Options = {
    "type": "SwinIR",
    "upscale": 2,
    "img_size": 16,
    "window_size": 4,
    "depths": [2, 2],
    "embed_dim": 12,
    "num_heads": [2, 2],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
}
TINY_EDSR: Options = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 3, "upscale": 2}


def option_file(name: str, network: Options, scale: int = 2) -> str:
    """Write an option file of an untrained network."""
    Path(f"{name}.yml").write_text(yaml.safe_dump({"name": name, "scale": scale, "network_g": network}))
    return f"{name}.yml"


def picture(name: str, height: int, width: int, seed: int = 0) -> str:
    """Write a picture of squares of 4 x 4 pixels in random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
    Image.fromarray(colours.repeat(4, 0).repeat(4, 1)[:height, :width]).save(name)
    return name


def analyze(*arguments: str) -> int:
    """Run the command and return its exit code."""
    try:
        main([*arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def summary(stem: str) -> Options:
    return json.loads(Path(f"{stem}.json").read_text())


def arrays(stem: str) -> dict[str, np.ndarray]:
    with np.load(f"{stem}.npz") as file:
        return dict(file)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must refuse, in one sentence, before anything is written; return the sentence."""
    before = sorted(Path().rglob("*"))
    code = analyze(*arguments)
    message = capsys.readouterr().err
    assert code != 0
    assert "Traceback" not in message
    assert len(message.strip().splitlines()) == 1 or "usage:" in message, message
    assert sorted(Path().rglob("*")) == before
    return message

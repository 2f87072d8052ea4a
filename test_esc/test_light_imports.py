"""What a command imports: what its job uses, and nothing heavy beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_meta import cases
from torch import nn

from esc_arch.weights.blueprint import blueprint

HEAVY = [
    "torch._dynamo",
    "torch._inductor",
    "sympy",
    "triton",
    "torchvision",
    "basicsr",
    "cv2",
    "scipy",
    "matplotlib",
    "skimage",
    "lmdb",
    "pandas",
    "yaml",
    "onnx",
    "onnxruntime",
    "spandrel",
    "fvcore",
    "tifffile",
    "av",
]


def imported(code: str, *arguments: str) -> set[str]:
    """The heavy ones of the modules that a process imports in addition to those that come with torch."""
    code = f"import sys, torch\nbefore = set(sys.modules)\n{code}\nprint('imported', *set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(HEAVY) & set(done.stdout.splitlines()[-1].split()[1:])


def save(file: Path) -> str:
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file)
    return str(file)


def test_importing_the_package() -> None:
    assert imported("import esc_arch") == set()


def test_enlarging_a_picture(tmp_path: Path) -> None:
    """With weights of the package, which are recognised like any others."""
    code = "from esc_arch.upscale.__main__ import main; main(sys.argv[1:])"
    assert imported(code, save(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")) == set()
    assert (tmp_path / "b.png").is_file()


def test_what_is_needed_is_seen(tmp_path: Path) -> None:
    code = "from esc_arch.upscale.__main__ import main; main(sys.argv[1:])"
    assert imported(code, save(tmp_path / "a.tif"), "-o", str(tmp_path / "b.png")) == {"tifffile"}


@pytest.mark.parametrize(("network", "arguments"), cases())
def test_blueprints_have_the_shapes_of_networks(network: type[nn.Module], arguments: dict[str, Any]) -> None:
    made, built = blueprint(network, arguments), network(**arguments)
    assert {name: tensor.shape for name, tensor in made.state_dict().items()} == {
        name: tensor.shape for name, tensor in built.state_dict().items()
    }
    assert all(tensor.is_meta for tensor in [*made.parameters(), *made.buffers()])


def test_blueprints_take_no_memory() -> None:
    made = blueprint(nn.Linear, {"in_features": 2**40, "out_features": 2**20})
    assert made.get_parameter("weight").shape == torch.Size([2**20, 2**40])


def test_blueprints_of_all_networks() -> None:
    """Without the compiler of torch, which it imports for arithmetic without numbers."""
    code = f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_meta import cases\n"
    code += "from esc_arch.weights.blueprint import blueprint\nfor case in cases(): blueprint(*case.values)"
    assert not imported(code) & {"sympy", "torch._dynamo"}

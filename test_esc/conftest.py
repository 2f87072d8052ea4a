"""Shared helpers of the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

GOLDEN = Path(__file__).parent / "golden"
OPTIONS = Path(__file__).parent.parent / "options"

# A network of every kind, small enough for hundreds of forward passes
TINY: dict[str, Any] = {"dim": 16, "pdim": 4, "n_blocks": 1, "conv_blocks": 2, "window_size": 8, "num_heads": 2}


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all parameters at random, also those that start at zero or one, so that every part shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        spread = 0.5 if "relative_position_bias" in name else 0.15
        parameter.data = spread * torch.randn(parameter.shape, generator=generator)
    return network


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, as a part of the range of `b`."""
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def official_counts() -> dict[str, Any]:
    """Parameters and FLOPs of the published configurations."""
    return json.loads((GOLDEN / "official_counts.json").read_text())

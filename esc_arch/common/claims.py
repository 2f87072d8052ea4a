"""The headlines of the paper, to be tried on other machines.

"Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ICCV 2025), measured there on one
NVIDIA RTX A6000 with an output of 1280 x 720.
"""

from __future__ import annotations

from dataclasses import dataclass

PASS, FAIL, OPEN = "PASS", "FAIL", "not measured"
OUTPUT = 720, 1280  # height, width


@dataclass(frozen=True)
class Claim:
    """A headline of the paper: one network needs several times less of something than another.

    Attributes:
        text: the claim.
        scale: where it is tried.
        better: name of a published network.
        worse: the same, or None for `better` with materialised attention.
        latency: how many times less.
        memory: how many times less.
    """

    text: str
    scale: int
    better: str
    worse: str | None
    latency: float
    memory: float


CLAIMS = (
    Claim("ESC against HiT-SRF at x4", 4, "ESC", "HiT-SRF", 3.7, 6.2),
    # The claim does not name a scale. At x2 the attention maps alone take 3.8 GB, several of which make up 12.2 times
    # the 831 MB of ESC; at x3 and x4 they are too small for that.
    Claim("32 x 32 windows at x2, fused against materialised attention", 2, "ESC", None, 16.0, 12.2),
)


def verdict(claimed: float, measured: float | None) -> str:
    """Tell whether a ratio, rounded as the paper rounds, reaches the one claimed."""
    if measured is None:
        return OPEN
    return PASS if round(measured, 1) >= claimed else FAIL
